//! One backup in several places: compared byte for byte, counted by the rule, and restored from the one that is asked for.

use std::path::{Path, PathBuf};

use pgdrill::fault::Blame;
use pgdrill::verdict::Verdict;

use crate::program::{Program, copied, fixture};
use crate::stores::{program, s3};

/// Places for copies of a fixture.
struct Places(tempfile::TempDir);

impl Places {
    fn new() -> Places {
        Places(tempfile::tempdir().unwrap())
    }

    fn put(&self, from: &str, place: &str) -> PathBuf {
        let to = self.0.path().join(place);
        copied(&fixture(from), &to);
        to
    }

    fn path(&self, place: &str) -> String {
        self.0.path().join(place).display().to_string()
    }
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

fn scenario(source: &str, more: &str) -> String {
    format!(
        "version: 1\ndefaults: {{ postgres: {{ image: \"pgdrill-postgres:{{major}}\" }} }}\ndrills:\n  - name: kept\n    \
         source: {{ {source} }}\n{more}    checks:\n      - query: {{ name: it answers, sql: select 1, expect: 1 }}\n"
    )
}

fn text_of(program: &Program, text: &str, exit: i32) -> String {
    program.drill(text, &[]).expect(exit).folded()
}

#[test]
fn copies_that_are_the_same_are_proved_and_meet_the_rule() {
    let (places, store) = (Places::new(), s3());
    places.put("pg17/shop.dump", "nas/shop.dump");
    let copies = format!(
        "    copies:\n      - {{ media: disk, site: madrid }}\n      - {{ path: {}, media: disk, site: madrid, name: nas }}\n      \
         - {{ path: \"{}\", store: {}, media: object storage, site: frankfurt }}\n    objectives: {{ copies: 3-2-1 }}\n",
        places.path("nas/*.dump"),
        store.url("pg17/shop*.dump"),
        store.access()
    );
    let source = format!("pg_dump: {{ path: {} }}", fixture("pg17/shop.dump").display());
    let program = program();
    let ran = program.drill(&scenario(&source, &copies), &["--json", "-"]).expect(0);
    let drill = &program.report().drills[0];
    let told = serde_json::to_string(&drill.checks).unwrap();
    assert!(told.contains("the same in madrid (disk) and in nas (disk, madrid), frankfurt (object storage)"), "{told}");
    assert!(told.contains("4-2-1 (copies with production, media, off-site)"), "{told}");
    assert!(drill.fetched.is_some(), "{}", ran.stdout);
    // One medium less, and the rule is broken although each copy is the same.
    let text = text_of(&program, &scenario(&source, &copies.replace("object storage", "disk")), 1);
    assert!(
        text.contains("copies: rule: expected 3-2-1 (copies with production, media, off-site), found 4-1-1"),
        "{text}"
    );
    assert_eq!(program.report().drills[0].reasons[0].blame, Some(Blame::Backup));
}

#[test]
fn a_copy_that_is_lost_damaged_or_another_backup_fails_the_drill() {
    let places = Places::new();
    flip(&places.put("pg17/shop.dump", "flipped/shop.dump"));
    places.put("pg17/shop-lz4.dump", "lost/shop-lz4.dump");
    places.put("pg15/shop.dump", "other/shop.dump");
    std::fs::create_dir(places.path("empty")).unwrap();
    let source = format!("pg_dump: {{ path: {} }}", fixture("pg17/shop.dump").display());
    for (place, told) in [
        (
            "flipped/*.dump",
            "is the same backup, of 2026-11-23 14:28:45, and was changed or damaged: the file has other contents",
        ),
        ("lost/*.dump", "another backup lies there, and not this one"),
        ("other/*.dump", "is another backup, of "),
        ("empty/*.dump", "no backup lies there"),
    ] {
        let program = Program::new();
        let copies = format!("    copies: [{{ path: \"{}\", name: offsite }}]\n", places.path(place));
        let text = text_of(&program, &scenario(&source, &copies), 1);
        assert!(text.contains(told), "{place}: {text}");
        let reason = &program.report().drills[0].reasons[0];
        assert_eq!(reason.blame, Some(Blame::Backup), "{place}");
        // Known, and accepted for a while.
        let waived = format!(
            "{copies}    waivers: [{{ check: copies, object: offsite, reason: \"ticket 4711\", until: 2999-01-01 }}]\n"
        );
        text_of(&program, &scenario(&source, &waived), 0);
    }
}

#[test]
fn a_place_that_cannot_be_looked_at_accuses_nobody() {
    let places = Places::new();
    let source = format!("pg_dump: {{ path: {} }}", fixture("pg17/shop.dump").display());
    let free = crate::engines::free_port();
    let replica = places.put("pg17/shop.dir", "replica");
    for name in ["PG_VERSION", "standby.signal"] {
        std::fs::write(replica.join(name), "17\n").unwrap();
    }
    for (copy, blame, told) in [
        (format!("path: \"s3://b/*.dump\", store: {{ endpoint: \"http://127.0.0.1:{free}\" }}"), "host", "refused"),
        (format!("path: \"{}\"", places.path("not/mounted/*.dump")), "host", "only"),
        (format!("path: \"{}\"", places.path("replica")), "", "the data directory of a replica"),
    ] {
        let program = program().env("AWS_ACCESS_KEY_ID", "a").env("AWS_SECRET_ACCESS_KEY", "b");
        let copies = format!("    copies: [{{ {copy}, name: offsite }}]\n");
        let text = text_of(&program, &scenario(&source, &copies), 3);
        assert!(text.contains(told), "{copy}: {text}");
        let reason = &program.report().drills[0].reasons[0];
        assert_eq!(reason.blame, (blame == "host").then_some(Blame::Host), "{copy}: {reason:?}");
    }
}

/// Two stores may have a bucket of one name.
#[test]
fn the_same_url_in_two_stores_means_two_places() {
    let (store, free) = (s3(), crate::engines::free_port());
    let url = store.url("pg17/shop.dump");
    let elsewhere = format!(
        "{{ endpoint: \"http://127.0.0.1:{free}\", access_key: {{ env: STORE_KEY }}, secret_key: {{ env: STORE_SECRET }} }}"
    );
    let source = format!("pg_dump: {{ path: \"{url}\", store: {} }}", store.access());
    let copies = format!("    copies: [{{ path: \"{url}\", store: {elsewhere}, name: offsite }}]\n");
    let program = program();
    let text = text_of(&program, &scenario(&source, &copies), 3);
    assert!(text.contains("offsite: ") && text.contains("refused"), "{text}");
    let checks = serde_json::to_string(&program.report().drills[0].checks).unwrap();
    assert!(!checks.contains("the same in"), "{checks}");
    // And in two drills of a run, each is asked as it is named.
    let other = scenario(&source.replace(&store.access(), &elsewhere), "").replace("name: kept", "name: other");
    let both = format!("{}{}", scenario(&source, ""), other.split_once("drills:\n").unwrap().1);
    program.drill(&both, &[]).expect(3);
    let verdicts: Vec<Verdict> = program.report().drills.iter().map(|it| it.verdict).collect();
    assert_eq!(verdicts, [Verdict::Passed, Verdict::Inconclusive]);
    // What is no other place is no copy.
    let text = program.drill(&scenario(&source, &copies.replace(&elsewhere, &store.access())), &[]).expect(2).stderr;
    assert!(text.contains("the same place as another copy"), "{text}");
}

#[test]
fn a_drill_restores_from_the_copy_that_is_asked_for_or_from_each() {
    let (places, store) = (Places::new(), s3());
    places.put("base", "nas");
    let source = format!(
        "base_backup: {{ path: {}, wal: {} }}",
        fixture("base/2026-*").display(),
        fixture("base/wal").display()
    );
    let copies = format!(
        "    target: {{ name: before the mistake }}\n    copies:\n      - {{ path: {}, wal: {}, name: nas }}\n      \
         - {{ path: \"{}\", wal: \"{}\", store: {}, name: offsite }}\n",
        places.path("nas/2026-*"),
        places.path("nas/wal"),
        store.url("base/2026-*"),
        store.url("base/wal"),
        store.access()
    );
    let program = program();
    let from = |name: &str| scenario(&source, &format!("{copies}    restore_from: {name}\n"));
    program.drill(&from("offsite"), &[]).expect(0);
    let drill = &program.report().drills[0];
    assert!(drill.backup.as_ref().unwrap().path.starts_with("s3://"), "{:?}", drill.backup);
    let told = serde_json::to_string(&drill.checks).unwrap();
    assert!(told.contains("the same in offsite and in nas, original"), "{told}");

    program.drill(&from("each"), &[]).expect(0);
    let report = program.report();
    let names: Vec<&str> = report.drills.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["kept (from original)", "kept (from nas)", "kept (from offsite)"]);
    assert!(report.drills.iter().all(|it| it.verdict == Verdict::Passed));

    // Another name is a mistake in the scenario.
    let text = program.drill(&from("tape"), &[]).expect(2).stderr;
    assert!(text.contains("there are nas, offsite, original, each"), "{text}");

    // The newest WAL may still be on its way to another place; what the backup itself needs may not, and nothing in between.
    let wal = |name: &str| Path::new(&places.path("nas/wal")).join(format!("{name}.zst"));
    std::fs::remove_file(wal("00000001000000000000000F")).unwrap();
    program.drill(&from("original"), &[]).expect(0);
    let told = serde_json::to_string(&program.report().drills[0].checks).unwrap();
    assert!(told.contains("the WAL of nas goes to 0/F00000, 1 segment behind"), "{told}");
    assert!(told.contains("the WAL of offsite goes to 0/1000000, as the original's does"), "{told}");
    std::fs::rename(wal("00000001000000000000000D"), wal("kept")).unwrap();
    let text = text_of(&program, &from("original"), 1);
    assert!(text.contains("00000001000000000000000D is not in its WAL"), "{text}");
    std::fs::copy(wal("00000001000000000000000E"), wal("00000001000000000000000D")).unwrap();
    let text = text_of(&program, &from("original"), 1);
    assert!(text.contains("00000001000000000000000D in its WAL has other contents"), "{text}");
    std::fs::rename(wal("kept"), wal("00000001000000000000000D")).unwrap();

    // Damage in what a copy alone has is noticed, wherever the drill restores from.
    flip(&Path::new(&places.path("nas")).join("2026-11-27/base.tar.zst"));
    let text = text_of(&program, &from("offsite"), 1);
    assert!(text.contains("nas: ") && text.contains("base.tar.zst has other contents"), "{text}");
}

#[test]
fn copies_of_tools_repositories_are_compared_with_what_a_backup_builds_upon() {
    let places = Places::new();
    let walg = places.put("walg/zstd/store", "walg");
    let pgbackrest = places.put("pgbackrest/repository", "pgbackrest");
    let barman = places.put("barman_cloud", "barman");
    let secret = format!("cipher_pass: {{ file: {} }}", fixture("pgbackrest/pass").display());
    let first = |directory: PathBuf, ending: &str| -> PathBuf {
        let mut found: Vec<PathBuf> =
            walk(&directory).into_iter().filter(|it| it.ends_with(ending)).map(PathBuf::from).collect();
        found.sort();
        found.remove(0)
    };
    for (source, place, damaged) in [
        (
            format!("wal_g: {{ path: {} }}", fixture("walg/zstd/store").display()),
            "walg",
            // Of the full backup, beneath two deltas.
            walg.join("basebackups_005/base_000000010000000000000003_backup_stop_sentinel.json"),
        ),
        (
            format!("pgbackrest: {{ path: {}, stanza: shop, {secret} }}", fixture("pgbackrest/repository").display()),
            "pgbackrest",
            first(pgbackrest.join("backup/shop"), ".manifest"),
        ),
        (
            format!("barman_cloud: {{ path: {}, server: shop }}", fixture("barman_cloud").display()),
            "barman",
            first(barman.join("shop/base"), "data.tar.gz"),
        ),
    ] {
        let program = Program::new();
        let text = scenario(&source, &format!("    copies: [{{ path: {}, name: offsite }}]\n", places.path(place)));
        let ran = program.drill(&text, &[]).expect(0);
        let told = serde_json::to_string(&program.report().drills[0].checks).unwrap();
        assert!(told.contains("the same in original and in offsite"), "{told} {}", ran.stdout);
        flip(&damaged);
        let text = text_of(&program, &text, 1);
        assert!(text.contains("offsite: ") && text.contains("other contents"), "{}: {text}", damaged.display());
    }
}

fn walk(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap().map(|it| it.unwrap().path());
    entries.flat_map(|it| if it.is_dir() { walk(&it) } else { vec![it.display().to_string()] }).collect()
}
