//! Backups of Databasus, written by the encryption of its v3.7.0 around a dump of PostgreSQL 17.

use std::path::{Path, PathBuf};

use crate::majors::major;
use crate::program::{Program, Ran, fixture};
use crate::stores;

const ID: &str = "7b1f4d0e-3c52-4a69-9a8e-0d2f6f1f5c11";
/// Header, then one chunk with its length and its tag.
const FIRST_CHUNK: usize = 64 + 4 + (1 << 20) + 16;

fn drill(path: &Path, key: &str, more: &str) -> Ran {
    let text = format!(
        "version: 1\ndrills:\n  - name: databasus\n    source: {{ databasus: {{ path: \"{}\"{key} }} }}\n    \
         postgres: {{ image: \"pgdrill-postgres:{{major}}\" }}\n{more}    checks:\n      - rows: {{ table: orders, equals: 60000 }}\n      \
         - query: {{ name: sum, sql: \"select sum(total) from orders\", expect: 42623638.72 }}\n",
        path.display()
    );
    Program::new().drill(&text, &[])
}

fn key() -> String {
    format!(", secret_key: {{ file: {} }}", fixture("databasus/secret.key").display())
}

fn encrypted() -> Vec<u8> {
    std::fs::read(fixture("databasus/v3.7-encrypted").join(ID)).unwrap()
}

/// A file of this name and these bytes in a directory of its own.
fn one(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (directory, path)
}

#[test]
fn encrypted_dumps_of_both_layouts_keep_their_promise() {
    for (path, more) in [
        ("databasus/v3.7-encrypted", ""),
        ("databasus/sidecar-encrypted", "    restore: { jobs: 2 }\n"),
        ("databasus/sidecar-encrypted/shop-*", ""),
    ] {
        let ran = drill(&fixture(path), &key(), more).expect(0);
        assert!(ran.folded().contains("80000 rows as dumped"), "{path}: {}", ran.stdout);
    }
}

#[test]
fn a_dump_that_was_cut_between_two_chunks_fails_although_it_decrypts() {
    let (_directory, path) = one(ID, &encrypted()[..FIRST_CHUNK]);
    let ran = drill(&path, &key(), "").expect(1);
    assert!(ran.folded().contains("the file ends"), "{}", ran.stdout);
}

#[test]
fn damage_is_the_backups_fault_and_a_wrong_key_the_scenarios() {
    let mut changed = encrypted();
    changed[FIRST_CHUNK + 5000] ^= 1;
    let (_directory, path) = one(ID, &changed);
    let ran = drill(&path, &key(), "").expect(1);
    assert!(ran.folded().contains("chunk 1 is not as it was written"), "{}", ran.stdout);

    let (_other, wrong) = one("wrong.key", b"11111111-2222-3333-4444-555555555555");
    let wrong = format!(", secret_key: {{ file: {} }}", wrong.display());
    let ran = drill(&fixture("databasus/v3.7-encrypted"), &wrong, "").expect(3);
    assert!(ran.folded().contains("the key does not open it, nor any other file"), "{}", ran.stdout);

    let ran = drill(&fixture("databasus/v3.7-encrypted"), "", "").expect(3);
    assert!(ran.folded().contains("it is encrypted by Databasus"), "{}", ran.stdout);
}

/// The same key opens the file beside it: so it is the file that is wrong.
#[test]
fn a_file_that_does_not_open_beside_one_that_does_is_damaged() {
    let mut changed = encrypted();
    changed[1000] ^= 1;
    let (directory, path) = one(ID, &changed);
    let other = "shop-20261122-173900-0e9d8c7b-6a5f-4e3d-8c2b-1a0f9e8d7c6b";
    for name in [other.to_owned(), format!("{other}.metadata")] {
        std::fs::copy(fixture("databasus/sidecar-encrypted").join(&name), directory.path().join(&name)).unwrap();
    }
    let ran = drill(&path, &key(), "").expect(1);
    assert!(ran.folded().contains("and not this file: its beginning is damaged"), "{}", ran.stdout);
}

#[test]
fn a_directory_of_backups_is_recognised() {
    let ran = Program::new().run(&["inspect", &fixture("databasus/v3.7-encrypted").display().to_string()]).expect(0);
    assert!(ran.stdout.contains("Databasus"), "{}", ran.stdout);
    let ran = Program::new().run(&["init", &fixture("databasus/v3.7-encrypted").display().to_string()]).expect(0);
    assert!(ran.stdout.contains("databasus:") && ran.stdout.contains("secret_key"), "{}", ran.stdout);
}

/// A physical backup as Databasus gives it out: a tar file with what pg_basebackup 18 wrote, and the segments.
fn bundle(to: &Path, without: &str) {
    let made = major(18);
    let lab = made.get().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let at = scratch.path().display();
    let script = format!(
        "set -e; cd {at}; cp -a {chain}/full full; cp -a {chain}/incr1 incr-1; cp -a {wal} wal; chmod -R u+rwX .; \
         find full incr-1 wal -type f -exec sha256sum {{}} + > MANIFEST.sha256; rm -f wal/{without}; \
         tar -cf {to} full incr-1 wal MANIFEST.sha256",
        chain = lab.path("chain-tar"),
        wal = lab.path("wal"),
        to = to.display(),
    );
    assert!(std::process::Command::new("bash").args(["-c", &script]).status().unwrap().success());
}

fn of_bundle(path: &str, store: &str, target: &str, rows: [u32; 2]) -> String {
    format!(
        "version: 1\ndrills:\n  - name: bundle\n    source: {{ databasus: {{ path: \"{path}\"{store} }} }}\n    \
         postgres: {{ image: \"pgdrill-postgres:{{major}}\" }}\n    target: {target}\n    objectives: {{ rto: 1h }}\n    checks:\n      \
         - rows: {{ table: c, equals: {} }}\n      - rows: {{ table: d, equals: {} }}\n",
        rows[0], rows[1]
    )
}

#[test]
fn a_bundle_recovers_its_increments_and_its_wal_from_a_disk_and_a_store() {
    let s3 = stores::s3();
    let kept = s3.bucket("bundles").join("shop.tar");
    bundle(&kept, "none");
    let path = kept.display().to_string();
    for (path, access) in [(path.as_str(), ""), ("s3://bundles/shop.tar", format!(", store: {}", s3.access()).as_str())]
    {
        for (target, rows) in
            [("latest", [1300, 300]), ("{ name: before the deletion }", [1300, 300]), ("immediate", [1100, 100])]
        {
            let program = stores::program();
            let ran = program.drill(&of_bundle(path, access, target, rows), &[]).expect(0);
            let drill = program.report().drills.remove(0);
            let within = format!("{path}!/incr-1");
            assert_eq!(drill.backup.map(|it| it.path), Some(within), "{target}: {}", ran.stdout);
        }
    }
    let program = Program::new();
    let ran = program.run(&["inspect", &path]).expect(0);
    for told in ["bundle of Databasus", "2 backups", "builds upon", "recoverable"] {
        assert!(ran.stdout.contains(told), "{told}: {}", ran.stdout);
    }
    let text = program.run(&["init", &path]).expect(0).stdout;
    let text = text.replace("drills:", "defaults: { postgres: { image: \"pgdrill-postgres:{major}\" } }\ndrills:");
    program.drill(&text, &[]).expect(0);
}

#[test]
fn what_is_wrong_with_a_bundle_is_the_backups_fault() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shop.tar");
    bundle(&path, "none");
    let whole = std::fs::read(&path).unwrap();
    let drill = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let path = path.display().to_string();
        Program::new().drill(&of_bundle(&path, "", "latest", [1300, 300]), &[]).expect(1)
    };
    let ran = drill(&whole[..whole.len() / 2]);
    assert!(ran.folded().contains("it ends within"), "{}", ran.stdout);
    let end = whole.iter().rposition(|it| *it != 0).unwrap().next_multiple_of(512);
    let ran = drill(&whole[..end]);
    assert!(ran.folded().contains("it has no end"), "{}", ran.stdout);
    // A lost block, where the header of a segment was: readers of tar take it for the end.
    let mut holed = whole.clone();
    let header = (0..whole.len()).step_by(512).rev().find(|at| whole[*at..].starts_with(b"wal/0000")).unwrap();
    holed[header..header + 512].fill(0);
    let ran = drill(&holed);
    assert!(ran.folded().contains("it has no end behind"), "{}", ran.stdout);
    let mut changed = whole.clone();
    changed[100_000] ^= 1;
    let ran = drill(&changed);
    assert!(ran.folded().contains("MANIFEST.sha256 says") || ran.folded().contains("cut or damaged"), "{}", ran.stdout);

    bundle(&path, "*2");
    let ran = drill(&std::fs::read(&path).unwrap());
    assert!(ran.folded().contains("is listed in its MANIFEST.sha256, and is not there"), "{}", ran.stdout);
}
