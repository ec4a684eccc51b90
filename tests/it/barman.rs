//! Repositories of Barman 2.12, 3.4, 3.13 and 3.20 (PostgreSQL 13, 15, 17, 18), and one of barman-cloud, as these tools wrote them.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;

use crate::lab::{Unpacked, unpacked};
use crate::program::{Program, Ran, fixture};

/// A home of Barman, unpacked once for all tests.
fn home(major: u32) -> &'static Path {
    static HOMES: [OnceLock<Unpacked>; 4] = [const { OnceLock::new() }; 4];
    let at = [13, 15, 17, 18].iter().position(|it| *it == major).unwrap();
    &HOMES[at].get_or_init(|| Unpacked::of(&packed(major))).root
}

fn packed(major: u32) -> String {
    format!("barman/pg{major}.tar.zst")
}

fn truth(directory: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(directory.join("truth.json")).unwrap()).unwrap()
}

fn drill(home: &Path, server: &str, more: &str, target: &str, rows: u64) -> Ran {
    drill_by(&Program::new(), home, server, more, target, rows)
}

fn drill_by(program: &Program, home: &Path, server: &str, more: &str, target: &str, rows: u64) -> Ran {
    let text = format!(
        "version: 1\ndrills:\n  - name: barman\n    \
         source: {{ barman: {{ path: {}, server: {server}{more} }} }}\n    \
         postgres: {{ image: \"pgdrill-postgres:{{major}}\" }}\n    target: {target}\n    checks:\n      \
         - rows: {{ table: orders, database: shop, equals: {rows} }}\n",
        home.join("home").display()
    );
    program.drill(&text, &[])
}

/// What Barman was receiving lies beside its archive, under the name of the segment that it is of.
#[test]
fn the_segment_that_barman_was_receiving_is_the_end_where_the_scenario_says_so() {
    let program = Program::new();
    let directory = unpacked(&packed(15));
    let main = directory.path().join("home/main");
    let segments = |directory: &Path| {
        let names = std::fs::read_dir(directory).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|it| it.len() == 24).collect();
        names.sort();
        names
    };
    let wals = main.join("wals/0000000100000000");
    let streaming = main.join("streaming");
    std::fs::create_dir_all(&streaming).unwrap();
    let truth = truth(directory.path());
    let lsn = u64::from_str_radix(truth["lsn"].as_str().unwrap().split_once('/').unwrap().1, 16).unwrap();
    let of_the_mark = format!("0000000100000000{:08X}", lsn >> 20);
    let before = format!("0000000100000000{:08X}", (lsn >> 20) - 1);
    for name in segments(&wals).iter().filter(|it| **it >= before) {
        let bytes = std::fs::read(wals.join(name)).unwrap();
        std::fs::remove_file(wals.join(name)).unwrap();
        if *name == before {
            // Received, and not yet archived by Barman's next run.
            std::fs::write(streaming.join(name), bytes).unwrap();
        } else if *name == of_the_mark {
            std::fs::write(streaming.join(format!("{name}.partial")), bytes).unwrap();
        }
    }
    drill_by(&program, directory.path(), "main", "", "{ name: rp1 }", 600).expect(3);
    let ran = drill_by(&program, directory.path(), "main", ", partial: true", "{ name: rp1 }", 600).expect(0);
    assert!(ran.folded().contains(&format!("{of_the_mark}.partial was not finished")), "{}", ran.stdout);
}

#[test]
fn every_version_and_method_recovers_to_every_kind_of_target() {
    for (major, server, target, rows) in [
        (13, "main", "latest".to_owned(), 100),
        (13, "rs", "{ name: rp1 }".to_owned(), 600),
        (15, "main", "{ lsn: LSN }".to_owned(), 600),
        (15, "rs", "{ time: \"TIME\" }".to_owned(), 600),
        (15, "rs", "immediate".to_owned(), 500),
        (17, "main", "{ name: rp1 }".to_owned(), 600),
        (17, "rs", "latest".to_owned(), 100),
        (18, "main", "latest".to_owned(), 100),
        (18, "rs", "{ time: \"TIME\" }".to_owned(), 600),
    ] {
        let home = home(major);
        let truth = truth(home);
        let told = |key: &str| truth[key].as_str().unwrap().to_owned();
        let target = target.replace("LSN", &told("lsn")).replace("TIME", &told("time"));
        let ran = drill(home, server, "", &target, rows);
        assert_eq!(ran.exit, Some(0), "{major} {server} {target}: {}\n{}", ran.stdout, ran.stderr);
        // Since 17 the newest one of this server is incremental.
        let incremental = major >= 17 && server == "main";
        assert_eq!(ran.stdout.contains("incremental"), incremental, "{major} {server}: {}", ran.stdout);
    }
}

#[test]
fn a_backup_is_chosen_by_its_id_and_failed_ones_are_passed_over() {
    let directory = unpacked(&packed(15));
    let base = directory.path().join("home/rs/base");
    let good = std::fs::read_dir(&base).unwrap().next().unwrap().unwrap().path();
    let failed = base.join("20991231T235959");
    std::fs::create_dir_all(failed.join("data")).unwrap();
    std::fs::write(failed.join("backup.info"), "status=FAILED\nerror=failure copying files\n").unwrap();
    let program = Program::new();
    let ran = drill_by(&program, directory.path(), "rs", "", "latest", 100).expect(0);
    assert!(ran.folded().contains("base backup"), "{}", ran.stdout);
    let passed_over = program.report().drills.remove(0).passed_over;
    assert!(passed_over.iter().any(|it| it.why.contains("FAILED: failure copying files")), "{passed_over:?}");
    let ran = drill(directory.path(), "rs", ", pick: { label: 20991231T235959 }", "latest", 100).expect(1);
    assert!(ran.folded().contains("FAILED: failure copying files"), "{}", ran.stdout);
    let id = good.file_name().unwrap().to_str().unwrap().to_owned();
    drill(directory.path(), "rs", &format!(", pick: {{ label: {id} }}"), "latest", 100).expect(0);
    let ran = drill(directory.path(), "rs", ", pick: { label: 20200101T000000 }", "latest", 100).expect(3);
    assert!(ran.folded().contains(&format!("others, the newest of them {id}")), "{}", ran.stdout);
}

#[test]
fn what_is_missing_or_damaged_is_named_and_blamed_as_a_person_would() {
    let directory = unpacked(&packed(15));
    let ran = drill(directory.path(), "mian", "", "latest", 100).expect(3);
    assert!(ran.folded().contains("Barman has no server mian there: it has main, rs"), "{}", ran.stdout);

    let wals = directory.path().join("home/rs/wals/0000000100000000");
    let mut segments: Vec<PathBuf> = std::fs::read_dir(&wals).unwrap().map(|it| it.unwrap().path()).collect();
    segments.retain(|it| it.file_name().unwrap().len() == 24);
    segments.sort();
    let gap = &segments[segments.len() - 2];
    let name = gap.file_name().unwrap().to_str().unwrap().to_owned();
    let bytes = std::fs::read(gap).unwrap();
    std::fs::remove_file(gap).unwrap();
    let ran = drill(directory.path(), "rs", "", "latest", 100).expect(1);
    assert!(ran.folded().contains(&name), "{name}: {}", ran.stdout);
    std::fs::write(gap, &bytes[..bytes.len() / 2]).unwrap();
    let ran = drill(directory.path(), "rs", "", "latest", 100).expect(1);
    assert!(ran.folded().contains(&name), "{name}: {}", ran.stdout);
    std::fs::write(gap, &bytes).unwrap();

    let base = std::fs::read_dir(directory.path().join("home/rs/base")).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_file(base.join("data/global/pg_control")).unwrap();
    drill(directory.path(), "rs", "", "latest", 100).expect(1);

    let away = directory.path().join("elsewhere");
    let ran = drill(&away, "rs", "", "latest", 100).expect(3);
    assert!(ran.folded().contains("is a file system not mounted?"), "{}", ran.stdout);
}

#[test]
fn a_home_and_a_server_are_recognised() {
    let program = Program::new();
    let home = home(17).join("home");
    let ran = program.run(&["inspect", &home.display().to_string()]).expect(0);
    assert!(ran.stdout.contains("Barman") && ran.stdout.contains("main"), "{}", ran.stdout);
    let server = home.join("rs").display().to_string();
    let ran = program.run(&["init", &server]).expect(0);
    assert!(ran.stdout.contains("barman:") && ran.stdout.contains("server: rs"), "{}", ran.stdout);
    let scenario =
        ran.stdout.replace("drills:", "defaults: { postgres: { image: \"pgdrill-postgres:{major}\" } }\ndrills:");
    program.drill(&scenario, &[]).expect(0);
}

/// barman-cloud-backup --snappy and barman-cloud-wal-archive --snappy, packed anew.
#[test]
fn what_barman_cloud_compressed_with_snappy_recovers() {
    let scratch = tempfile::tempdir().unwrap();
    crate::program::copied(&fixture("barman_cloud").join("."), scratch.path());
    let mut packed = 0;
    crate::stores::each_file(scratch.path(), "", &mut |path, name| {
        let Some(plain) = name.strip_suffix(".gz") else { return };
        let mut bytes = Vec::new();
        let stored = std::fs::read(path).unwrap();
        std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(&stored[..]), &mut bytes).unwrap();
        let mut encoder = snap::write::FrameEncoder::new(Vec::new());
        std::io::Write::write_all(&mut encoder, &bytes).unwrap();
        std::fs::remove_file(path).unwrap();
        std::fs::write(
            scratch.path().join(format!("{}.snappy", plain.trim_start_matches('/'))),
            encoder.into_inner().unwrap(),
        )
        .unwrap();
        packed += 1;
    });
    assert!(packed > 2, "{packed}");
    let text = format!(
        "version: 1\ndrills:\n  - name: snappy\n    source: {{ barman_cloud: {{ path: {}, server: shop }} }}\n    target: {{ name: rp1 }}\n    checks:\n      \
         - rows: {{ table: orders, database: shop, equals: 600 }}\n",
        scratch.path().display()
    );
    Program::new().drill(&text, &[]).expect(0);
}
