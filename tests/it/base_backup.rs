//! Base backups and points in time, on real servers: what was true at each mark must be true after recovery to it.

use std::fmt::Write as _;

use pgdrill::report::DrillReport;
use pgdrill::verdict::Verdict;

use crate::lab::{ROWS, lab};
use crate::program::{Program, Ran};

/// One drill of the lab's backup `form`.
fn scenario(form: &str, runtime: &str, more: &str, checks: &[(&str, u32)]) -> String {
    let lab = lab();
    let mut text = format!(
        "version: 1\ndrills:\n  - name: cell\n    runtime: {runtime}\n    source:\n      base_backup:\n        path: {}\n        \
         wal: {}\n        tablespaces: {{ {}: {} }}\n    objectives: {{ rto: 1h }}\n{more}    checks:\n",
        lab.path(&format!("base/{form}")),
        lab.path("wal"),
        lab.path("base/plain-ts"),
        lab.path("base/plain-ts"),
    );
    for (table, rows) in checks {
        writeln!(text, "      - rows: {{ table: {table}, equals: {rows} }}").unwrap();
    }
    text
}

fn passes(form: &str, runtime: &str, target: &str, rows: u32) -> DrillReport {
    let program = Program::new();
    let more = if target.is_empty() { String::new() } else { format!("    target: {target}\n") };
    program.drill(&scenario(form, runtime, &more, &[("t", rows), ("u", 1000)]), &[]).expect(0);
    let drill = program.report().drills.remove(0);
    assert_eq!(drill.verdict, Verdict::Passed);
    drill
}

/// The exit status, and what a person reads.
fn ends(scenario: &str, exit: i32) -> Ran {
    let ran = Program::new().drill(scenario, &[]).expect(exit);
    // Lines are folded for people.
    Ran { stdout: ran.folded(), ..ran }
}

#[test]
fn a_plain_backup_with_leftovers_of_a_standby_recovers_to_the_end_of_the_archive() {
    passes("plain", "local", "", ROWS[3]);
}

#[test]
fn a_compressed_tar_backup_recovers_to_a_time() {
    passes("tar", "local", &format!("{{ time: \"{}\" }}", lab().time), ROWS[1]);
}

#[test]
fn a_backup_recovers_to_its_own_end() {
    let drill = passes("tar-zstd", "local", "immediate", ROWS[0]);
    // What it brings along is told, and neither ended nor removed.
    for told in [
        "“unfinished” of lab_owner in postgres, since",
        "database half was being dropped",
        "database abroad: texts were ordered by xx_XX.UTF-8 of version 2.1, and this host has version",
    ] {
        assert!(drill.notes.findings.iter().any(|it| it.contains(told)), "{told}: {:?}", drill.notes.findings);
    }
}

#[test]
fn a_database_whose_locale_this_host_lacks_is_the_hosts_fault() {
    let text = scenario("tar", "local", "    target: immediate\n", &[("t", ROWS[0])]);
    let abroad = "      - query: { name: abroad, database: abroad, sql: select 1, expect: 1 }\n";
    let program = Program::new();
    program.drill(&format!("{text}{abroad}"), &[]).expect(3);
    let drill = program.report().drills.remove(0);
    let reason = &drill.reasons[0];
    assert_eq!((drill.reasons.len(), reason.blame), (1, Some(pgdrill::fault::Blame::Host)), "{reason:?}");
    assert!(reason.text.contains("database locale is incompatible with operating system"), "{reason:?}");
    assert!(reason.text.contains("install the missing locale"), "{reason:?}");
}

#[test]
fn a_backup_without_its_own_wal_recovers_to_a_restore_point_in_a_container() {
    passes("tar-no-wal", "container", "{ name: before the deletion }", ROWS[1]);
}

#[test]
fn a_backup_recovers_to_a_transaction_and_just_before_it() {
    let xid = &lab().deletion;
    passes("tar-lz4", "local", &format!("{{ xid: {xid} }}"), ROWS[2]);
    passes("plain", "container", &format!("{{ xid: {xid}, inclusive: false }}"), ROWS[1]);
}

#[test]
fn a_backup_recovers_to_a_place_in_the_wal() {
    passes("plain", "local", &format!("{{ lsn: {} }}", lab().lsn), ROWS[1]);
}

#[test]
fn a_target_after_the_end_of_the_archive_is_inconclusive_and_says_so() {
    let ran = ends(&scenario("tar", "local", "    target: { time: \"2100-01-01 00:00:00+00\" }\n", &[("t", 1)]), 3);
    assert!(ran.stdout.contains("recovery ended before configured recovery target was reached"), "{}", ran.stdout);
    let ran = ends(&scenario("tar", "local", "    target: { name: never made }\n", &[("t", 1)]), 3);
    assert!(ran.stdout.contains("choose an earlier one"), "{}", ran.stdout);
}

#[test]
fn another_major_is_refused_before_anything_is_made() {
    let ran = ends(&scenario("tar", "local", "    postgres: { major: 17 }\n", &[("t", 1)]), 3);
    assert!(ran.stdout.contains("17"), "{}", ran.stdout);
}

#[test]
fn a_tablespace_link_that_leads_out_of_the_backup_is_not_followed() {
    let text = scenario("plain", "local", "", &[("t", 1)]);
    let text = text.lines().filter(|it| !it.contains("tablespaces:")).collect::<Vec<_>>().join("\n");
    let ran = ends(&text, 3);
    assert!(ran.stdout.contains("such links are not followed"), "{}", ran.stdout);
}

#[test]
fn a_cut_archive_of_the_backup_fails_and_blames_the_backup() {
    let program = Program::new();
    let directory = program.path("cut");
    std::fs::create_dir(&directory).unwrap();
    for entry in std::fs::read_dir(lab().path("base/tar")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), directory.join(entry.file_name())).unwrap();
    }
    let base = directory.join("base.tar.gz");
    let bytes = std::fs::read(&base).unwrap();
    std::fs::write(&base, &bytes[..bytes.len() / 2]).unwrap();
    let text =
        scenario("tar", "local", "", &[("t", 1)]).replace(&lab().path("base/tar"), &directory.display().to_string());
    let ran = program.drill(&text, &[]).expect(1);
    assert!(ran.stdout.contains("base.tar.gz"), "{}", ran.stdout);
}

#[test]
fn a_tablespace_archive_that_is_cut_between_two_files_fails_and_blames_the_backup() {
    let program = Program::new();
    let directory = program.path("cut");
    std::fs::create_dir(&directory).unwrap();
    for entry in std::fs::read_dir(lab().path("base/tar-no-wal")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), directory.join(entry.file_name())).unwrap();
    }
    let archive = std::fs::read_dir(&directory)
        .unwrap()
        .map(|it| it.unwrap().path())
        .find(|it| it.file_stem().is_some_and(|it| it.to_string_lossy().parse::<u32>().is_ok()));
    let archive = archive.expect("the archive of the tablespace");
    // Exactly its first members: the headers say how long each is.
    let bytes = std::fs::read(&archive).unwrap();
    let size = |at: usize| {
        let field = String::from_utf8_lossy(&bytes[at + 124..at + 135]).trim().to_owned();
        usize::from_str_radix(&field, 8).unwrap().div_ceil(512) * 512
    };
    let mut end = 0;
    while bytes[end] != 0 && size(end) == 0 {
        end += 512;
    }
    std::fs::write(&archive, &bytes[..end]).unwrap();
    let text = scenario("tar-no-wal", "local", "", &[("t", 1)])
        .replace(&lab().path("base/tar-no-wal"), &directory.display().to_string());
    let ran = program.drill(&text, &[]).expect(1);
    assert!(ran.stdout.contains("without the mark of an archive's end"), "{}", ran.stdout);
}

/// A copy of the lab's plain backup, whose largest table has a damaged page.
fn damaged(program: &Program, manifest: bool) -> String {
    let directory = program.path("damaged").display().to_string();
    let copied = std::process::Command::new("cp").args(["-a", &lab().path("base/plain"), &directory]).status().unwrap();
    assert!(copied.success());
    if !manifest {
        std::fs::remove_file(format!("{directory}/backup_manifest")).unwrap();
    }
    let files = std::fs::read_dir(format!("{directory}/base/5")).unwrap().map(|it| it.unwrap());
    let largest = files.max_by_key(|it| it.metadata().unwrap().len()).unwrap().path();
    let mut bytes = std::fs::read(&largest).unwrap();
    bytes[8192 + 5000] ^= 1;
    std::fs::write(&largest, bytes).unwrap();
    largest.strip_prefix(&directory).unwrap().display().to_string()
}

fn of_damaged(program: &Program, more: &str) -> String {
    let text = scenario("plain", "local", more, &[("u", 1000)]);
    text.replace(
        &format!("path: {}", lab().path("base/plain")),
        &format!("path: {}", program.path("damaged").display()),
    )
}

#[test]
fn a_flipped_byte_fails_the_manifest_and_the_page_and_blames_the_backup() {
    let program = Program::new();
    let file = damaged(&program, true);
    program.drill(&of_damaged(&program, "    target: immediate\n"), &[]).expect(1);
    let drill = program.report().drills.remove(0);
    for check in ["backup manifest", "page checksums"] {
        let about = pgdrill::verdict::About::Check(check.to_owned());
        let reason = drill.reasons.iter().find(|it| it.about == about).unwrap_or_else(|| panic!("{:?}", drill.reasons));
        assert_eq!(reason.blame, Some(pgdrill::fault::Blame::Backup));
        assert!(reason.text.contains(&file), "{}", reason.text);
    }
}

#[test]
fn a_flipped_byte_is_noticed_without_a_manifest() {
    let program = Program::new();
    let file = damaged(&program, false);
    program.drill(&of_damaged(&program, "    target: immediate\n"), &[]).expect(1);
    let drill = program.report().drills.remove(0);
    let [reason] = drill.reasons.as_slice() else { panic!("{:?}", drill.reasons) };
    assert!(reason.text.contains(&format!("{file}, block 1: the page has the checksum")), "{}", reason.text);
    assert!(reason.text.contains("after replay, too"), "{}", reason.text);
}

/// Every row of the table was deleted after the backup: replay writes the page anew.
#[test]
fn a_page_that_replay_writes_anew_is_a_finding() {
    let program = Program::new();
    damaged(&program, false);
    program.drill(&of_damaged(&program, ""), &[]).expect(0);
    let findings = program.report().drills.remove(0).notes.findings;
    assert!(findings.iter().any(|it| it.contains("right after replay")), "{findings:?}");
}

#[test]
fn a_manifest_that_was_changed_fails_and_blames_the_backup() {
    let program = Program::new();
    let directory = program.path("changed");
    std::fs::create_dir(&directory).unwrap();
    for entry in std::fs::read_dir(lab().path("base/tar")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), directory.join(entry.file_name())).unwrap();
    }
    let manifest = directory.join("backup_manifest");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replacen("\"Size\": 8192", "\"Size\": 8193", 1)).unwrap();
    let text =
        scenario("tar", "local", "", &[("u", 1000)]).replace(&lab().path("base/tar"), &directory.display().to_string());
    program.drill(&text, &[]).expect(1);
    let drill = program.report().drills.remove(0);
    assert!(drill.reasons[0].text.contains("it was changed after it was written"), "{:?}", drill.reasons);
}
