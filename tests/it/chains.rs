//! Incremental base backups of PostgreSQL 17 and 18: found, put in order and restored with what they build upon.

use pgdrill::check::BACKUP_MANIFEST;
use pgdrill::report::{CheckStatus, DrillReport};
use pgdrill::verdict::Verdict;

use crate::majors::{Major, major};
use crate::program::{Program, Ran};

/// `checks`: how many rows the tables have whose rows grow from backup to backup.
fn scenario(lab: &Major, path: &str, target: &str, rows: [u32; 2]) -> String {
    let spaces =
        ["full", "incr1", "incr2"].map(|it| format!("/lab/chain-ts/{it}: {}", lab.path(&format!("chain-ts/{it}"))));
    format!(
        "version: 1\ndrills:\n  - name: cell\n    runtime: container\n    source:\n      base_backup:\n        path: \"{path}\"\n        \
         wal: {}\n        tablespaces: {{ {} }}\n    target: {target}\n    objectives: {{ rto: 1h }}\n    checks:\n      \
         - rows: {{ table: c, equals: {} }}\n      - rows: {{ table: d, equals: {} }}\n      - rows: {{ table: u, equals: 1000 }}\n",
        lab.path("wal"),
        spaces.join(", "),
        rows[0],
        rows[1],
    )
}

fn run(number: u32, path: &str, target: &str, rows: [u32; 2], exit: i32) -> (DrillReport, Ran) {
    run_by(&Program::new(), number, path, target, rows, exit)
}

pub(crate) fn run_by(
    program: &Program,
    number: u32,
    path: &str,
    target: &str,
    rows: [u32; 2],
    exit: i32,
) -> (DrillReport, Ran) {
    let made = major(number);
    let lab = made.get().unwrap();
    let path = if path.starts_with('/') { path.to_owned() } else { lab.path(path) };
    let ran = program.drill(&scenario(lab, &path, target, rows), &[]).expect(exit);
    (program.report().drills.remove(0), ran)
}

fn passes(number: u32, path: &str, target: &str, rows: [u32; 2], parts: usize) -> DrillReport {
    let (drill, ran) = run(number, path, target, rows, 0);
    assert_eq!(drill.verdict, Verdict::Passed);
    let steps: Vec<&str> = drill.phases.iter().flat_map(|it| &it.steps).map(|it| it.what.as_str()).collect();
    assert!(steps.contains(&format!("combine {parts} backups").as_str()), "{steps:?}");
    let manifest = drill.checks.iter().find(|it| it.name == BACKUP_MANIFEST).map(|it| it.status);
    assert_eq!(manifest, Some(CheckStatus::Held), "{}", ran.stdout);
    drill
}

#[test]
fn a_directory_of_plain_backups_of_17_recovers_the_newest() {
    let drill = passes(17, "chain-plain", "immediate", [1200, 200], 3);
    assert!(drill.backup.unwrap().path.ends_with("/incr2"));
    assert!(
        drill.passed_over.iter().all(|it| it.why == "older, by the time in its backup_label"),
        "{:?}",
        drill.passed_over
    );
}

#[test]
fn a_pattern_of_compressed_archives_of_18_recovers_to_the_end_of_the_archive() {
    passes(18, "chain-tar/*", "latest", [1300, 300], 2);
}

#[test]
fn plain_backups_of_18_recover_to_a_restore_point() {
    passes(18, "chain-plain/*", "{ name: before the deletion }", [1300, 300], 3);
}

#[test]
fn what_an_incremental_backup_builds_upon_is_found_beside_it() {
    passes(17, "chain-plain/incr1", "immediate", [1100, 100], 2);
    passes(17, "chain-tar/incr1", "immediate", [1100, 100], 2);
}

/// A copy of the chain, for damage.
fn copy(program: &Program) -> String {
    let made = major(17);
    let directory = program.path("chain").display().to_string();
    let from = made.get().unwrap().path("chain-plain");
    assert!(std::process::Command::new("cp").args(["-a", &from, &directory]).status().unwrap().success());
    directory
}

#[test]
fn a_missing_link_fails_and_names_it() {
    let program = Program::new();
    let directory = copy(&program);
    std::fs::remove_dir_all(format!("{directory}/incr1")).unwrap();
    let (drill, _) = run(17, &directory, "immediate", [1200, 200], 1);
    let reason = &drill.reasons[0];
    assert_eq!(reason.blame, Some(pgdrill::fault::Blame::Backup));
    assert!(reason.text.contains("chain/incr2 builds upon"), "{}", reason.text);
    assert!(reason.causes[0].contains("it needs the backup that begins at 0/"), "{:?}", reason.causes);
}

#[test]
fn damage_in_an_early_link_is_named() {
    let program = Program::new();
    let directory = copy(&program);
    let file = format!("{directory}/full/global/1262");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[5000] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let (drill, _) = run(17, &directory, "immediate", [1200, 200], 1);
    let about = pgdrill::verdict::About::Check(BACKUP_MANIFEST.to_owned());
    let reason = drill.reasons.iter().find(|it| it.about == about).unwrap_or_else(|| panic!("{:?}", drill.reasons));
    assert!(reason.text.contains("global/1262 of ") && reason.text.contains("chain/full"), "{}", reason.text);
}
