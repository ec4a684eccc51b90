//! What our decoders count in real archives, against what their source counted.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::*;
use crate::fault::Blame;
use crate::format::Compression;
use crate::format::counted::{Counted, RowCount};
use crate::format::data::count_custom;

fn of(major: u32, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/backups/pg{major}")).join(name)
}

fn truth(major: u32) -> serde_json::Value {
    let text = fs::read_to_string(of(major, "truth.json")).unwrap();
    let truth: serde_json::Value = serde_json::from_str(&text).unwrap();
    truth["databases"]["shop"].clone()
}

fn rows(counted: &Counted) -> BTreeMap<String, u64> {
    let mut rows = BTreeMap::new();
    for it in &counted.tables {
        let RowCount::Exactly(count) = it.rows else { panic!("{}: {:?}", it.name, it.rows) };
        *rows.entry(format!("{}.{}", it.schema, it.name)).or_default() += count;
    }
    rows
}

fn scanned(path: &Path) -> Poured {
    let poured =
        scan(path, &Reading::default(), &mut |_| {}).unwrap_or_else(|it| panic!("{}: {}", path.display(), it.line()));
    assert_eq!(poured.damage, None, "{}", path.display());
    poured
}

#[test]
fn every_archive_is_counted_as_its_source_was() {
    let mut seen = 0;
    for major in [13, 15, 17, 18] {
        let truth = truth(major);
        let unquoted = |it: &str| it.replace("\"\"", "\u{0}").replace('"', "").replace('\u{0}', "\"");
        let tables = truth["tables"].as_object().unwrap();
        let all: BTreeMap<String, u64> =
            tables.iter().map(|(name, rows)| (unquoted(name), rows.as_u64().unwrap())).collect();
        let objects = &truth["large_objects"];
        for name in
            ["shop.dump", "shop.tar", "shop.dir", "shop-lz4.dump", "shop-zstd.dump", "shop-piped.dump", "shop.dir-zstd"]
        {
            let path = of(major, name);
            if !path.exists() {
                continue;
            }
            let counted = scanned(&path).counted.unwrap();
            let rows = rows(&counted);
            for (table, expected) in &all {
                // Partitioned tables have no data of their own.
                assert_eq!(rows.get(table).copied().unwrap_or_default(), *expected, "pg{major} {name}: {table}");
            }
            assert_eq!(counted.large_objects.unwrap().count, objects["count"].as_u64().unwrap(), "pg{major} {name}");
            assert_eq!(counted.large_objects.unwrap().bytes, objects["bytes"].as_u64().unwrap(), "pg{major} {name}");
            seen += 1;
        }
    }
    assert!(seen >= 16, "{seen} archives");
}

#[test]
fn streams_are_counted_while_they_pass_also_when_packed_as_a_whole() {
    for (name, compression, counting) in [
        ("shop.dump", Compression::None, Counting::Custom),
        ("shop.tar", Compression::None, Counting::Tar),
        ("shop.tar.gz", Compression::Gzip, Counting::Tar),
        ("shop.tar.zst", Compression::Zstd, Counting::Tar),
    ] {
        let mut passed = 0;
        let mut sink = |bytes: &[u8]| {
            passed += bytes.len();
            ControlFlow::Continue(())
        };
        let poured = pour(&of(17, name), compression, counting, &mut sink, &Reading::default(), &mut |_| {}).unwrap();
        let expected = scanned(&of(17, "shop.dump")).counted.unwrap();
        assert_eq!(rows(&poured.counted.unwrap()), rows(&expected), "{name}");
        assert!(passed > 0);
    }
}

#[test]
fn a_receiver_that_wants_no_more_leaves_nothing_counted() {
    let poured = pour(
        &of(17, "shop.dump"),
        Compression::None,
        Counting::Custom,
        &mut |_| ControlFlow::Break(()),
        &Reading::default(),
        &mut |_| {},
    );
    let poured = poured.unwrap();
    assert!(poured.cut_short && poured.counted.is_none() && poured.damage.is_none());
}

#[test]
fn no_cut_archive_is_taken_for_a_whole_one() {
    let bytes = fs::read(of(17, "shop.dump")).unwrap();
    for end in (0..bytes.len() - 1).step_by(bytes.len() / 150) {
        let fault = count_custom(&bytes[..end]).expect_err("a cut archive");
        assert_eq!(fault.blame, Blame::Backup, "cut at {end}");
    }
}

#[test]
fn a_flipped_byte_in_the_data_is_named_with_its_table_and_place() {
    let bytes = fs::read(of(17, "shop.dump")).unwrap();
    let toc = crate::format::archive::Archive::read(bytes.as_slice()).unwrap().end;
    let toc = usize::try_from(toc).unwrap();
    let (mut noticed, mut tried) = (0, 0);
    for at in (toc..bytes.len()).step_by((bytes.len() - toc) / 100) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        tried += 1;
        if let Err(fault) = count_custom(damaged.as_slice()) {
            noticed += 1;
            assert!(fault.causes[0].contains("at byte "), "{}", fault.line());
        }
    }
    // Behind its checksum zlib's stream has no byte that means nothing.
    assert_eq!(noticed, tried, "of {tried} flips in compressed data");
}
