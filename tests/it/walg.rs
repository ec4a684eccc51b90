//! Storages of WAL-G, written by its v3.0.7: a full backup and two deltas of PostgreSQL 17, with their WAL.

use std::path::{Path, PathBuf};

use crypto_secretstream::{PushStream, Tag};
use pgdrill::verdict::Verdict;

use crate::program::{Program, Ran, copied, fixture};

const KEY: &str = "a key of libsodium, as a raw text";
const LABELS: &str = "select string_agg(label, ' ' order by at) from marks";

fn store(name: &str) -> String {
    fixture(&format!("walg/{name}/store")).display().to_string()
}

/// A drill of PostgreSQL 17, which only a container has here.
fn drill(source: &str, more: &str) -> Ran {
    let text = format!(
        "version: 1\ndrills:\n  - name: walg\n    source: {{ wal_g: {{ {source} }} }}\n    \
         postgres: {{ image: \"pgdrill-postgres:{{major}}\" }}\n{more}"
    );
    Program::new().env("WALG_KEY", KEY).drill(&text, &[])
}

fn asks(sql: &str, expect: &str) -> String {
    format!("    checks:\n      - query: {{ name: asked, sql: \"{sql}\", database: shop, expect: \"{expect}\" }}\n")
}

/// Each storage's own `truth.json` has the figures.
#[test]
fn deltas_are_restored_with_what_they_build_upon_to_every_kind_of_target() {
    let zstd = format!("path: {}", store("zstd"));
    let pgp =
        format!("path: {}, pgp_key: {{ file: {} }}", store("lzma-pgp"), fixture("walg/lzma-pgp/pgp.asc").display());
    let history = "select count(*) from pgbench_history";
    for (source, target, sql, expect) in [
        (&zstd, "latest", LABELS, "after-full after-delta-1 before-rp1 after-rp1"),
        (&zstd, "{ name: rp1 }", history, "2387"),
        (&zstd, "{ time: \"2026-11-22 17:35:12.909932+00\" }", history, "2387"),
        (&zstd, "{ lsn: 0/80203A8 }", "select sum(bbalance) from pgbench_branches", "-4153"),
        (&zstd, "immediate", "select count(*) from in_ts1", "20000"),
        (&pgp, "{ name: rp1 }", history, "2437"),
        (&pgp, "latest", LABELS, "after-full after-delta-1 before-rp1 after-rp1"),
    ] {
        let ran = drill(source, &format!("    target: {target}\n{}", asks(sql, expect))).expect(0);
        let text = ran.folded();
        assert!(text.contains("page checksums"), "{target}: {text}");
    }
}

#[test]
fn a_backup_is_chosen_by_its_name_and_an_older_one_needs_more_wal() {
    let source = format!("path: {}, pick: {{ label: base_000000010000000000000003 }}", store("zstd"));
    let more = asks(LABELS, "after-full after-delta-1 before-rp1 after-rp1");
    drill(&source, &more).expect(0);
    let unknown = source.replace("0003 }", "0004 }");
    let ran = drill(&unknown, &more).expect(3);
    assert!(ran.folded().contains("there are 3 others"), "{}", ran.stdout);
}

/// A storage of its own, changed by `change`.
fn copy(name: &str, change: impl Fn(&Path)) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let to = directory.path().join("store");
    copied(Path::new(&store(name)), &to);
    change(&to);
    (directory, to.display().to_string())
}

type Change = Box<dyn Fn(&Path)>;

#[test]
fn what_is_missing_or_damaged_is_named_and_the_backups_fault() {
    let delta = "basebackups_005/base_000000010000000000000007_D_000000010000000000000005";
    let first = "basebackups_005/base_000000010000000000000003";
    let cut = |file: String| -> Change {
        Box::new(move |store| {
            let path = store.join(&file);
            let length = std::fs::metadata(&path).unwrap().len();
            std::fs::File::options().write(true).open(&path).unwrap().set_len(length * 2 / 3).unwrap();
        })
    };
    let remove =
        |file: &'static str| -> Change { Box::new(move |store| std::fs::remove_file(store.join(file)).unwrap()) };
    for (change, exit, told) in [
        (remove("wal_005/000000010000000000000007.zst"), 1, "000000010000000000000007"),
        // Nothing behind it shows that there was more.
        (remove("wal_005/000000010000000000000008.zst"), 3, "recovery ended before"),
        (cut(format!("{delta}/tar_partitions/part_001.tar.zst")), 1, "part_001.tar.zst"),
        (cut(format!("{first}/tar_partitions/part_001.tar.zst")), 1, "part_001.tar.zst"),
        (
            remove("basebackups_005/base_000000010000000000000003_backup_stop_sentinel.json"),
            1,
            "find what the incremental backup",
        ),
        (
            Box::new(move |store: &Path| {
                std::fs::remove_file(store.join(format!("{first}/tar_partitions/part_001.tar.zst"))).unwrap();
            }) as Change,
            1,
            "no backup beneath has the file",
        ),
    ] {
        let (_directory, path) = copy("zstd", change);
        let ran = drill(&format!("path: {path}"), &format!("    target: {{ name: rp1 }}\n{}", asks("select 1", "1")));
        assert_eq!(ran.exit, Some(exit), "{told}: {}", ran.stdout);
        assert!(ran.folded().contains(told), "{told}: {}", ran.stdout);
    }
}

#[test]
fn a_wrong_or_missing_key_is_the_scenarios_fault() {
    let pgp = store("lzma-pgp");
    for (key, told) in [
        (String::new(), "it is encrypted"),
        (", libsodium_key: { env: WALG_KEY }".to_owned(), "the key does not open it, nor any other file beside it"),
        (", pgp_key: { env: WALG_NO_SUCH_KEY }".to_owned(), "read the key in the variable WALG_NO_SUCH_KEY"),
        (format!(", pgp_key: {{ file: {pgp}/../truth.json }}"), "it is no OpenPGP secret key"),
    ] {
        let ran = drill(&format!("path: {pgp}{key}"), &asks("select 1", "1"));
        assert!(ran.folded().contains(told), "{told}: {}", ran.stdout);
        assert_eq!(ran.exit, Some(3), "{key}: {}", ran.stdout);
    }
}

fn sealed(plain: &[u8]) -> Vec<u8> {
    let mut key = [0; 32];
    let raw = KEY.as_bytes();
    let length = raw.len().min(32);
    key[..length].copy_from_slice(&raw[..length]);
    let (header, mut stream) = PushStream::init(rand_core::OsRng, &key.into());
    let mut out = header.as_ref().to_vec();
    let mut chunks = plain.chunks(8192).peekable();
    while let Some(chunk) = chunks.next() {
        let mut chunk = chunk.to_vec();
        stream.push(&mut chunk, b"", if chunks.peek().is_none() { Tag::Final } else { Tag::Message }).unwrap();
        out.extend(chunk);
    }
    out
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// The same parts as WAL-G wrote them, packed with its other compressions, and encrypted as its libsodium does.
#[test]
fn a_storage_in_other_compressions_and_encrypted_with_libsodium_is_the_same() {
    let (_directory, path) = copy("zstd", |store| {
        for (at, path) in files(store).into_iter().filter(|it| it.extension().is_some_and(|it| it == "zst")).enumerate()
        {
            let plain = zstd::decode_all(std::fs::File::open(&path).unwrap()).unwrap();
            let (ending, packed) = match at % 3 {
                0 => {
                    let mut packed = Vec::new();
                    let parameters = brotli::enc::BrotliEncoderParams { quality: 1, ..Default::default() };
                    brotli::BrotliCompress(&mut &*plain, &mut packed, &parameters).unwrap();
                    (".br", packed)
                }
                1 => {
                    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                    std::io::Write::write_all(&mut encoder, &plain).unwrap();
                    (".gz", encoder.finish().unwrap())
                }
                _ => ("", plain),
            };
            let to = PathBuf::from(format!("{}{ending}", path.display().to_string().trim_end_matches(".zst")));
            std::fs::remove_file(&path).unwrap();
            std::fs::write(to, sealed(&packed)).unwrap();
        }
    });
    let source = format!("path: {path}, libsodium_key: {{ env: WALG_KEY }}");
    let ran = drill(&source, &asks(LABELS, "after-full after-delta-1 before-rp1 after-rp1")).expect(0);
    assert!(!ran.stdout.contains(KEY));
    // One segment that the key does not open, among others that it does.
    let segment = format!("{path}/wal_005");
    let broken = files(Path::new(&segment))
        .into_iter()
        .find(|it| {
            it.display().to_string().contains("0000000000000007.") && !it.display().to_string().contains("backup")
        })
        .or_else(|| {
            files(Path::new(&segment))
                .into_iter()
                .find(|it| it.display().to_string().ends_with("000000010000000000000007"))
        });
    std::fs::write(broken.unwrap(), vec![7; 100_000]).unwrap();
    let ran = drill(&source, &asks("select 1", "1")).expect(1);
    assert!(ran.folded().contains("its beginning is damaged"), "{}", ran.stdout);
}

#[test]
fn a_storage_is_recognised_and_a_scenario_for_it_runs() {
    let program = Program::new();
    let path = store("zstd");
    let inspected = program.run(&["inspect", &path]).expect(0);
    assert!(inspected.stdout.contains("WAL-G"), "{}", inspected.stdout);
    let written = program.run(&["init", &path]).expect(0);
    assert!(written.stdout.contains("wal_g:"), "{}", written.stdout);
    let scenario =
        written.stdout.replace("drills:", "defaults: { postgres: { image: \"pgdrill-postgres:{major}\" } }\ndrills:");
    program.drill(&scenario, &[]).expect(0);
    assert_eq!(program.report().verdict, Verdict::Passed);
}
