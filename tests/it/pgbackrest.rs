//! Repositories of pgBackRest 2.33, 2.45, 2.55 and 2.60 (PostgreSQL 13, 15, 17, 18), as it wrote them: plain with gzip, and encrypted
//! with bundles and, from 2.55 on, block incremental. Each has a full, a differential and an incremental backup.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;

use crate::lab::{Unpacked, unpacked};
use crate::program::{Program, Ran, copied, fixture};

fn packed(major: u32) -> String {
    format!("pgbackrest/pg{major}.tar.zst")
}

/// Unpacked once for all tests; 17 lies there as it is.
fn repository(major: u32, kind: &str) -> (PathBuf, Value) {
    static UNPACKED: [OnceLock<Unpacked>; 3] = [const { OnceLock::new() }; 3];
    let (directory, name) = match [13, 15, 18].iter().position(|it| *it == major) {
        Some(at) => (UNPACKED[at].get_or_init(|| Unpacked::of(&packed(major))).root.clone(), kind),
        None => (fixture("pgbackrest"), "repository"),
    };
    let truth = std::fs::read_to_string(directory.join("truth.json")).unwrap();
    (directory.join(name), serde_json::from_str(&truth).unwrap())
}

fn drill(repository: &Path, more: &str, target: &str, checks: &str) -> Ran {
    drill_by(&Program::new(), repository, more, target, checks)
}

fn drill_by(program: &Program, repository: &Path, more: &str, target: &str, checks: &str) -> Ran {
    let pass = fixture("pgbackrest/pass").display().to_string();
    let text = format!(
        "version: 1\ndrills:\n  - name: pgbackrest\n    \
         source: {{ pgbackrest: {{ path: {}, stanza: shop{} }} }}\n    \
         postgres: {{ image: \"pgdrill-postgres:{{major}}\" }}\n    target: {target}\n    checks:\n{checks}",
        repository.display(),
        more.replace("PASS", &format!("cipher_pass: {{ file: {pass} }}"))
    );
    program.drill(&text, &[])
}

fn rows(rows: u64) -> String {
    format!("      - rows: {{ table: orders, database: shop, equals: {rows} }}\n")
}

#[test]
fn every_version_and_form_recovers_to_every_kind_of_target() {
    for (major, kind, more, target, orders) in [
        (13, "plain", "", "latest", 100),
        (13, "plain", "", "{ name: rp1 }", 600),
        (13, "plain", ", pick: oldest", "immediate", 500),
        (15, "sealed", ", PASS", "{ time: \"TIME\" }", 600),
        (15, "sealed", ", PASS, pick: oldest", "latest", 100),
        (17, "sealed", ", PASS", "{ lsn: LSN }", 600),
        (17, "sealed", ", PASS, pick: best_for_target", "{ time: \"TIME\" }", 600),
        (18, "sealed", ", PASS", "latest", 100),
        (18, "sealed", ", PASS", "{ name: rp1 }", 600),
    ] {
        let (path, truth) = repository(major, kind);
        let told = |key: &str| truth[key].as_str().unwrap().to_owned();
        let at = target.replace("LSN", &told("lsn")).replace("TIME", &told("time"));
        let mut checks = rows(orders);
        // Blocks that changed from backup to backup: the contents are what they were.
        if !target.contains("immediate") {
            let asked = "      - query: { name: contents, sql: \"select md5(string_agg(note, ',' order by id)) from big\", database: \
                         shop, expect: SUM }\n";
            checks += &asked.replace("SUM", &told("big"));
        }
        let ran = drill(&path, more, &at, &checks);
        assert_eq!(ran.exit, Some(0), "{major} {kind} {at}: {}\n{}", ran.stdout, ran.stderr);
    }
}

/// As `--db-include` restores: the files of other databases are there, and hold nothing.
#[test]
fn a_database_alone_is_restored_without_reading_the_others() {
    let read = |databases: &str| {
        let program = Program::new();
        let text = format!(
            "version: 1\ndefaults: {{ postgres: {{ image: \"pgdrill-postgres:{{major}}\" }} }}\ndrills:\n  - name: one\n    \
             source: {{ pgbackrest: {{ path: {}, stanza: shop, cipher_pass: {{ file: {} }}{databases} }} }}\n    checks:\n      \
             - query: {{ name: it answers, sql: select 1, expect: 1 }}\n",
            fixture("pgbackrest/repository").display(),
            fixture("pgbackrest/pass").display(),
        );
        let ran = program.drill(&text, &[]);
        (ran, program)
    };
    let (whole, program) = read("");
    assert_eq!(whole.exit, Some(0), "{}", whole.stdout);
    let bytes = |program: &Program| {
        let report = program.report();
        let phases = &report.drills[0].phases;
        phases.iter().flat_map(|it| &it.steps).filter_map(|it| it.bytes).sum::<u64>()
    };
    let all = bytes(&program);
    let (alone, program) = read(", databases: [postgres]");
    let text = alone.expect(0).folded();
    assert!(text.contains("the database shop: only postgres was to be restored"), "{text}");
    assert!(bytes(&program) < all, "{} of {all}", bytes(&program));
    let (unknown, _) = read(", databases: [shpo]");
    let text = unknown.expect(3).folded();
    assert!(text.contains("has postgres, shop, template0, template1"), "{text}");
}

#[test]
fn a_pass_that_is_wrong_or_missing_and_a_stanza_that_is_not_there_are_the_scenarios_fault() {
    let (sealed, _) = repository(18, "sealed");
    let wrong = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(wrong.path(), "another pass").unwrap();
    for (more, told) in [
        (String::new(), "it is encrypted"),
        (format!(", cipher_pass: {{ file: {} }}", wrong.path().display()), "it cannot be decrypted"),
        (", PASS, pick: { label: 20200101-000000F }".to_owned(), "there are 3 others"),
    ] {
        let ran = drill(&sealed, &more, "latest", &rows(100)).expect(3);
        assert!(ran.folded().contains(told), "{told}: {}", ran.stdout);
    }
    let text = format!(
        "version: 1\ndrills:\n  - name: stanza\n    source: {{ pgbackrest: {{ path: {}, stanza: shpo }} }}\n    checks:\n{}",
        sealed.display(),
        rows(1)
    );
    let ran = Program::new().drill(&text, &[]).expect(3);
    assert!(ran.folded().contains("the repository has no stanza shpo: it has shop"), "{}", ran.stdout);
}

#[test]
fn what_is_missing_or_damaged_is_named_and_the_backups_fault() {
    let directory = unpacked(&packed(18));
    let path = directory.path().join("sealed");
    let backups = path.join("backup/shop");
    let full = std::fs::read_dir(&backups).unwrap().map(|it| it.unwrap().path()).find(|it| {
        let name = it.file_name().unwrap().to_str().unwrap();
        name.ends_with('F') && !name.contains('_')
    });
    let bundle = full.unwrap().join("bundle/1");
    let bytes = std::fs::read(&bundle).unwrap();
    // The incremental backup refers to it.
    std::fs::write(&bundle, &bytes[..bytes.len() / 2]).unwrap();
    let ran = drill(&path, ", PASS", "latest", &rows(100)).expect(1);
    assert!(ran.folded().contains("bundle/1"), "{}", ran.stdout);
    let mut changed = bytes.clone();
    changed[bytes.len() / 2] ^= 1;
    std::fs::write(&bundle, changed).unwrap();
    let ran = drill(&path, ", PASS", "latest", &rows(100)).expect(1);
    assert!(ran.folded().contains("bundle/1"), "{}", ran.stdout);
    std::fs::write(&bundle, &bytes).unwrap();

    let wal = path.join("archive/shop/18-1/0000000100000000");
    let mut segments: Vec<PathBuf> = std::fs::read_dir(&wal).unwrap().map(|it| it.unwrap().path()).collect();
    segments.retain(|it| it.file_name().unwrap().to_str().unwrap().contains('-'));
    segments.sort();
    let gap = &segments[segments.len() - 2];
    let name = gap.file_name().unwrap().to_str().unwrap()[..24].to_owned();
    let kept = std::fs::read(gap).unwrap();
    std::fs::remove_file(gap).unwrap();
    let ran = drill(&path, ", PASS", "latest", &rows(100)).expect(1);
    assert!(ran.folded().contains(&name), "{name}: {}", ran.stdout);
    std::fs::write(gap, &kept[..kept.len() / 32 * 16]).unwrap();
    let ran = drill(&path, ", PASS", "latest", &rows(100)).expect(1);
    assert!(ran.folded().contains(&name), "{name}: {}", ran.stdout);
}

/// After an initdb in the same place: segments of both clusters have the same names.
#[test]
fn a_backup_of_an_earlier_cluster_of_its_stanza_recovers_with_the_wal_of_that_cluster() {
    let directory = unpacked("pgbackrest/upgraded.tar.zst");
    let repository = directory.path().join("upgraded");
    let rows = |rows: u32| format!("      - rows: {{ table: orders, equals: {rows} }}\n");
    for verify in ["", ", verify: true"] {
        drill(&repository, &format!(", pick: newest{verify}"), "latest", &rows(210)).expect(0);
        drill(&repository, &format!(", pick: oldest{verify}"), "latest", &rows(110)).expect(0);
    }
    let shown = Program::new().run(&["inspect", repository.to_str().unwrap()]).expect(0);
    assert_eq!(shown.stdout.matches("of the earlier cluster 15-1").count(), 1, "{}", shown.stdout);
    // The present cluster without a backup of its own is no cluster that could be recovered.
    let lists = ["backup.info", "backup.info.copy"].map(|it| repository.join("backup/shop").join(it));
    let texts = lists.each_ref().map(|it| std::fs::read_to_string(it).unwrap());
    for (list, text) in lists.iter().zip(&texts) {
        let newest = text.lines().filter(|it| it.starts_with("2026")).max().unwrap();
        let kept = |it: &&str| *it != newest && !it.starts_with("backrest-checksum");
        std::fs::write(list, text.lines().filter(kept).collect::<Vec<_>>().join("\n")).unwrap();
    }
    let (present, aside) = (repository.join("backup/shop/20261128-094511F"), directory.path().join("aside"));
    std::fs::rename(&present, &aside).unwrap();
    for pick in ["newest", "best_for_target"] {
        let ran = drill(&repository, &format!(", pick: {pick}"), "latest", &rows(110)).expect(1);
        assert!(ran.folded().contains("its newest backup is of the cluster before, 15-1"), "{pick}: {}", ran.stdout);
    }
    std::fs::rename(&aside, &present).unwrap();
    for (list, text) in lists.iter().zip(&texts) {
        std::fs::write(list, text).unwrap();
    }
    // What was deleted of one is not taken from the other.
    let segments = repository.join("archive/shop/15-1/0000000100000000");
    let last = std::fs::read_dir(&segments).unwrap().map(|it| it.unwrap().path());
    let last = last.filter(|it| it.extension().is_some_and(|it| it == "zst")).max().unwrap();
    std::fs::remove_file(&last).unwrap();
    drill(&repository, ", pick: oldest", "latest", &rows(100)).expect(0);
    std::fs::remove_dir_all(&segments).unwrap();
    drill(&repository, ", pick: oldest", "latest", &rows(100)).expect(1);
}

/// Whole for gzip, and a page that a server may not even look at: the name has the SHA-1 of what was archived.
#[test]
fn a_segment_whose_contents_are_not_those_of_its_name_is_the_backups_fault() {
    let directory = unpacked(&packed(13));
    let path = directory.path().join("plain");
    let wal = path.join("archive/shop/13-1/0000000100000000");
    let mut segments: Vec<PathBuf> = std::fs::read_dir(&wal).unwrap().map(|it| it.unwrap().path()).collect();
    segments.retain(|it| it.extension().is_some_and(|it| it == "gz") && it.display().to_string().contains('-'));
    segments.sort();
    let changed = &segments[segments.len() - 2];
    let mut plain = Vec::new();
    let packed = std::fs::read(changed).unwrap();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&packed[..]), &mut plain).unwrap();
    // Behind the last record, where pages are empty.
    *plain.last_mut().unwrap() ^= 1;
    let mut again = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut again, &plain).unwrap();
    std::fs::write(changed, again.finish().unwrap()).unwrap();
    let ran = drill(&path, "", "latest", &rows(100)).expect(1);
    assert!(ran.folded().contains("and its name says"), "{}", ran.stdout);
}

#[test]
fn everything_in_a_repository_is_verified_where_the_scenario_asks_for_it() {
    for (major, kind, more) in
        [(13, "plain", ""), (15, "sealed", ", PASS"), (17, "sealed", ", PASS"), (18, "sealed", ", PASS")]
    {
        let (path, _) = repository(major, kind);
        let program = Program::new();
        drill_by(&program, &path, &format!("{more}, verify: true"), "latest", &rows(100)).expect(0);
        let checks = program.report().drills.remove(0).checks;
        let observed = checks.iter().find(|it| it.name == "repository").and_then(|it| it.observed.clone()).unwrap();
        assert!(observed.starts_with("3 backups of ") && !observed.contains(" 0 segments"), "{major}: {observed}");
    }
}

/// A copy of the repository of 13, for damage, and the directory of its stanza's backups.
fn copy(program: &Program) -> (PathBuf, PathBuf) {
    let path = program.path("repository");
    copied(&repository(13, "plain").0, &path);
    let stanza = path.join("backup/shop");
    (path, stanza)
}

fn last_segment(repository: &Path) -> PathBuf {
    let entries = |it: &Path| std::fs::read_dir(it).unwrap().map(|it| it.unwrap().path());
    let directory = entries(&repository.join("archive/shop/13-1")).find(|it| it.is_dir()).unwrap();
    entries(&directory).filter(|it| it.extension().is_some_and(|it| it == "gz")).max().unwrap()
}

/// What is rotten is not needed for the backup that is restored.
#[test]
fn what_is_rotten_elsewhere_in_a_repository_fails_a_drill_that_verifies_it() {
    let program = Program::new();
    let (path, stanza) = copy(&program);
    let newest = std::fs::read_dir(&stanza).unwrap().map(|it| it.unwrap().path());
    let newest = newest.filter(|it| it.is_dir() && it.to_str().unwrap().ends_with('I')).max().unwrap();
    let flip = |path: &Path| {
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        std::fs::write(path, bytes).unwrap();
    };
    flip(&newest.join("pg_data/global/pg_control.gz"));
    let last = last_segment(&path);
    flip(&last);
    let whole = drill(&path, ", pick: oldest", "immediate", &rows(500)).expect(0);
    assert!(!whole.folded().contains("repository:"), "{}", whole.stdout);
    let text = drill(&path, ", pick: oldest, verify: true", "immediate", &rows(500)).expect(1).folded();
    let label = newest.file_name().unwrap().to_str().unwrap();
    let segment = &last.file_name().unwrap().to_str().unwrap()[..24];
    for named in [format!("{label}: pg_data/global/pg_control: "), format!("{segment}: ")] {
        assert!(text.contains(&named), "{named}: {text}");
    }
}

#[test]
fn what_is_missing_from_a_repository_or_no_text_of_its_own_fails_a_drill_that_verifies_it() {
    let program = Program::new();
    let (path, stanza) = copy(&program);
    let mut labels: Vec<_> = std::fs::read_dir(&stanza).unwrap().map(|it| it.unwrap()).collect();
    labels.retain(|it| it.file_type().unwrap().is_dir() && it.path().join("backup.manifest").exists());
    labels.sort_by_key(std::fs::DirEntry::file_name);
    let names: Vec<String> = labels.iter().map(|it| it.file_name().into_string().unwrap()).collect();
    let [full, differential, incremental] = names.as_slice() else { panic!("{names:?}") };
    std::fs::remove_dir_all(stanza.join(differential)).unwrap();
    // What builds upon it cannot be restored, and the repository is there: nobody's disk is to blame.
    let text = drill(&path, "", "latest", &rows(100)).expect(1).folded();
    assert!(text.contains("it is not there, or something that it builds upon is not"), "{text}");
    assert!(text.contains("fault: the backup"), "{text}");
    for name in ["backup.manifest", "backup.manifest.copy"] {
        let manifest = stanza.join(incremental).join(name);
        let text = std::fs::read_to_string(&manifest).unwrap();
        // As a flipped bit: the line is none any more, and nothing else shows that.
        std::fs::write(&manifest, text.replacen("\"checksum\":", "\"checksum\";", 1)).unwrap();
    }
    let segment = last_segment(&path);
    // As pgBackRest writes, and as it leaves when it is killed.
    std::fs::write(format!("{}.pgbackrest.tmp", segment.display()), "half").unwrap();
    let more = format!(", verify: true, pick: {{ label: {full} }}");
    let text = drill(&path, &more, "immediate", &rows(500)).expect(1).folded();
    assert!(text.contains(&format!("{differential}: it is listed, and not there")), "{text}");
    assert!(text.contains(&format!("{incremental}: it is not what its own checksum says")), "{text}");
    assert!(!text.contains("there twice") && !text.contains("pgbackrest.tmp"), "{text}");
}

#[test]
fn an_encrypted_repository_is_inspected_with_the_variable_of_pgbackrest() {
    let (sealed, _) = repository(15, "sealed");
    let path = sealed.display().to_string();
    let ran = Program::new().run(&["inspect", &path]).expect(0);
    assert!(ran.stdout.contains("it is encrypted") && !ran.stdout.contains("\nholds"), "{}", ran.stdout);
    let pass = std::fs::read_to_string(fixture("pgbackrest/pass")).unwrap();
    let program = Program::new().env("PGBACKREST_REPO1_CIPHER_PASS", pass.trim_end());
    let ran = program.run(&["inspect", &path]).expect(0);
    assert!(ran.stdout.contains("\nrecoverable  from 0/"), "{}", ran.stdout);
    let json = program.run(&["inspect", "--json", &path]).expect(0).stdout;
    // Of each backup, wherever its files lie: what a server would need, and what fills the archive.
    for told in ["\"max_connections\": 100", "\"archive_command\": \"/tmp/pgbackrest-push %p\""] {
        assert_eq!(json.matches(told).count(), 3, "{told}: {json}");
    }
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["stanzas"]["shop"].as_array().map(Vec::len), Some(3), "{json}");
    assert!(json["archives"]["shop"]["wal"][0]["last_record"].is_string(), "{json}");
    assert!(
        program
            .run(&["init", &path])
            .expect(0)
            .stdout
            .contains("\n        cipher_pass: { env: PGBACKREST_REPO1_CIPHER_PASS }")
    );
}

#[test]
fn a_repository_is_recognised_and_a_scenario_for_it_runs() {
    let (plain, _) = repository(13, "plain");
    let program = Program::new();
    let path = plain.display().to_string();
    let ran = program.run(&["inspect", &path]).expect(0);
    assert!(ran.stdout.contains("pgBackRest") && ran.stdout.contains("shop, 3 backups"), "{}", ran.stdout);
    assert!(ran.stdout.contains("\nrecoverable  from 0/"), "{}", ran.stdout);
    let ran = program.run(&["init", &path]).expect(0);
    let scenario =
        ran.stdout.replace("drills:", "defaults: { postgres: { image: \"pgdrill-postgres:{major}\" } }\ndrills:");
    program.drill(&scenario, &[]).expect(0);
}
