//! The store over real backups, and over what real backups become on their way.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::*;
use crate::fault::{Blame, Fault};
use crate::format::{Compression, DumpFacts, DumpFormat, Selection};

const MAJORS: [u32; 4] = [13, 15, 17, 18];

fn backups() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/backups")
}

fn of(major: u32, name: &str) -> PathBuf {
    backups().join(format!("pg{major}")).join(name)
}

fn facts_of(path: &Path) -> Result<DumpFacts, Fault> {
    selected(path, &Selection::default())
}

fn selected(path: &Path, selection: &Selection) -> Result<DumpFacts, Fault> {
    dump_facts(path, selection, &Reading::default(), &mut |_| {})
}

fn truth(major: u32) -> serde_json::Value {
    serde_json::from_str(&fs::read_to_string(of(major, "truth.json")).unwrap()).unwrap()
}

/// Rows of the tables of a database, by `schema.table` without quotes, as the source counted them.
fn true_rows(major: u32, database: &str) -> BTreeMap<String, u64> {
    let truth = truth(major);
    let tables = truth["databases"][database]["tables"].as_object().unwrap();
    let unquoted = |it: &str| it.replace("\"\"", "\u{0}").replace('"', "").replace('\u{0}', "\"");
    tables.iter().map(|(name, rows)| (unquoted(name), rows.as_u64().unwrap())).collect()
}

fn counted(facts: &DumpFacts, database: Option<&str>) -> BTreeMap<String, u64> {
    let tables = facts.contents.tables.iter().filter(|it| it.database.as_deref() == database);
    tables.filter_map(|it| Some((format!("{}.{}", it.schema, it.name), it.rows?))).collect()
}

fn strings(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

#[test]
fn every_layout_of_one_database_tells_the_same() {
    for major in MAJORS {
        let text = facts_of(&of(major, "shop.sql")).unwrap();
        let cases = [
            ("shop.dump", DumpFormat::Custom),
            ("shop.dir", DumpFormat::Directory),
            ("shop.tar", DumpFormat::Tar),
            ("shop.sql", DumpFormat::Plain),
            ("shop-create.sql", DumpFormat::Plain),
        ];
        for (name, format) in cases {
            let facts = facts_of(&of(major, name)).unwrap_or_else(|it| panic!("pg{major} {name}: {}", it.line()));
            let context = format!("pg{major} {name}");
            assert_eq!(facts.format, format, "{context}");
            assert_eq!(facts.major(), Some(major), "{context}");
            assert_eq!(facts.contents.encoding.as_deref(), Some("UTF8"), "{context}");
            let names = |facts: &DumpFacts| -> BTreeSet<_> {
                facts.contents.tables.iter().map(|it| (it.schema.clone(), it.name.clone(), it.data)).collect()
            };
            assert_eq!(names(&facts), names(&text), "{context}");
            let extensions: BTreeSet<_> = facts.contents.extensions.iter().map(|it| it.name.clone()).collect();
            assert_eq!(extensions, strings(&["btree_gist", "citext", "hstore", "pg_trgm", "uuid-ossp"]), "{context}");
            assert_eq!(facts.contents.large_objects, Some(3), "{context}");
            for role in ["shop_owner", "shop_app", "shop_readonly", "ReportReader", "müller", "auditor"] {
                assert!(facts.contents.roles.contains(role), "{context}: {role} of {:?}", facts.contents.roles);
            }
            let odd: Vec<_> =
                facts.contents.roles.iter().filter(|it| !truth(major)["roles"][it.as_str()].is_object()).collect();
            assert_eq!(odd, Vec::<&String>::new(), "{context}");
            for (kind, count) in &text.contents.entries {
                // pg_restore -l counts more: what a dump without -C or a tar of text does not print.
                if facts.format.is_archive() {
                    assert!(facts.contents.entries.get(kind) >= Some(count), "{context}: {kind}");
                }
            }
        }
    }
}

#[test]
fn tables_without_data_are_those_that_have_none() {
    for major in MAJORS {
        for name in ["shop.dump", "shop.sql"] {
            let facts = facts_of(&of(major, name)).unwrap();
            let without: Vec<_> = facts.contents.tables.iter().filter(|it| !it.data).collect();
            assert!(without.is_empty(), "pg{major} {name}: {without:?}");
        }
    }
}

#[test]
fn rows_of_plain_dumps_are_those_of_the_source() {
    for major in MAJORS {
        let expect = true_rows(major, "shop");
        for name in ["shop.sql", "shop-create.sql"] {
            assert_eq!(counted(&facts_of(&of(major, name)).unwrap(), None), expect, "pg{major} {name}");
        }
        // pg_dump --inserts -n '"Größen"'
        let part = expect.into_iter().filter(|(name, _)| name.starts_with("Größen.")).collect::<BTreeMap<_, _>>();
        assert_eq!(part.len(), 2);
        assert_eq!(counted(&facts_of(&of(major, "shop-inserts.sql")).unwrap(), None), part, "pg{major}");
        let cluster = facts_of(&of(major, "cluster.sql")).unwrap();
        assert_eq!(cluster.format, DumpFormat::Cluster);
        assert_eq!(cluster.end_marker, Some(true));
        for database in ["shop", "warehouse"] {
            assert_eq!(counted(&cluster, Some(database)), true_rows(major, database), "pg{major} {database}");
        }
    }
}

#[test]
fn clusters_and_globals_say_what_they_make() {
    let made = strings(&["ReportReader", "auditor", "müller", "postgres", "shop_app", "shop_owner", "shop_readonly"]);
    for major in MAJORS {
        let cluster = facts_of(&of(major, "cluster.sql")).unwrap();
        assert_eq!(cluster.contents.databases, ["shop", "warehouse"], "pg{major}");
        assert_eq!(cluster.contents.roles_made, made, "pg{major}");
        let globals = facts_of(&of(major, "globals.sql")).unwrap();
        assert_eq!((globals.format, globals.end_marker), (DumpFormat::Globals, Some(true)), "pg{major}");
        assert_eq!(globals.contents.roles_made, made, "pg{major}");
        assert!(globals.contents.tables.is_empty());
        let packed = facts_of(&of(major, "cluster.sql.gz")).unwrap();
        assert_eq!((packed.format, packed.wrapped), (DumpFormat::Cluster, Compression::Gzip));
        assert_eq!(packed.contents.tables, cluster.contents.tables);
    }
}

#[test]
fn packed_files_tell_what_they_hold() {
    let text = facts_of(&of(17, "shop.sql")).unwrap();
    for (name, wrapped) in [
        ("shop.sql.gz", Compression::Gzip),
        ("shop.sql.zst", Compression::Zstd),
        ("shop.sql.lz4", Compression::Lz4),
        ("shop.sql.xz", Compression::Xz),
    ] {
        let facts = facts_of(&of(17, name)).unwrap();
        assert_eq!(DumpFacts { wrapped, ..text.clone() }.contents.tables, facts.contents.tables, "{name}");
        assert_eq!((facts.wrapped, facts.end_marker), (wrapped, Some(true)), "{name}");
    }
    let tar = facts_of(&of(17, "shop.tar")).unwrap();
    for (name, wrapped) in [("shop.tar.gz", Compression::Gzip), ("shop.tar.zst", Compression::Zstd)] {
        let facts = facts_of(&of(17, name)).unwrap();
        assert_eq!((facts.format, facts.wrapped), (DumpFormat::Tar, wrapped), "{name}");
        assert_eq!(facts.contents.tables, tar.contents.tables, "{name}");
    }
}

#[test]
fn archives_say_how_they_were_made() {
    for (major, minor) in [(13, 14), (15, 14), (17, 16), (18, 16)] {
        let facts = facts_of(&of(major, "shop.dump")).unwrap();
        assert_eq!(facts.archive_version.map(|it| it.minor), Some(minor));
        assert_eq!(facts.database.as_deref(), Some("shop"));
        assert_eq!(facts.contents.database_owner.as_deref(), Some("shop_owner"));
        assert!(facts.contents.create_database.unwrap().starts_with("CREATE DATABASE shop WITH TEMPLATE"));
        assert!(facts.created.unwrap().starts_with("20"));
        assert!(facts.dump_version.unwrap().starts_with(&major.to_string()));
    }
    for (name, expect) in [("shop-lz4.dump", "lz4"), ("shop-zstd.dump", "zstd"), ("shop.dump", "gzip")] {
        assert_eq!(facts_of(&of(17, name)).unwrap().archive_compression.as_deref(), Some(expect));
    }
    for name in ["shop-piped.dump", "shop-redirected.dump", "shop.dir-zstd"] {
        facts_of(&of(17, name)).unwrap();
    }
}

#[test]
fn damaged_backups_are_refused_by_name() {
    let cases = [
        ("cut.dump", Blame::Backup, "before the end of"),
        ("cut-toc.dump", Blame::Backup, "in entry "),
        ("cut.sql", Blame::Backup, "within the data of table shop.reading"),
        ("cut-between-rows.sql", Blame::Backup, "within the data of table shop.reading"),
        ("cut.sql.gz", Blame::Backup, "compressed data are cut or damaged"),
        ("empty.dump", Blame::Backup, "it is empty"),
        ("html.dump", Blame::Backup, "a web page"),
        ("missing-file.dir", Blame::Backup, "with the data of table"),
        ("newer.dump", Blame::Host, "1.99"),
        ("pgdump-error.sql", Blame::Backup, "error message"),
    ];
    for (name, blame, expect) in cases {
        let fault = facts_of(&backups().join("damaged").join(name)).unwrap_err();
        assert_eq!(fault.blame, blame, "{name}: {fault:?}");
        assert!(fault.causes[0].contains(expect), "{name}: {:?}", fault.causes);
        assert!(fault.message.contains(name), "{name}: {}", fault.message);
        assert!(fault.hint.is_some(), "{name}");
    }
    // A flipped bit in data is for the restore to find.
    facts_of(&backups().join("damaged/flipped.dump")).unwrap();
}

#[test]
fn an_archive_cut_anywhere_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    for (name, step) in [("shop.dump", 997), ("shop-piped.dump", 4999), ("shop-zstd.dump", 4999)] {
        let whole = fs::read(of(17, name)).unwrap();
        let path = scratch.path().join(name);
        for end in (0..whole.len()).step_by(step).chain([whole.len() - 1]) {
            fs::write(&path, &whole[..end]).unwrap();
            let fault = facts_of(&path).expect_err(&format!("{name} cut at {end} of {}", whole.len()));
            assert_eq!(fault.blame, Blame::Backup);
        }
        // Something that was appended does no harm to a restore.
        if name == "shop.dump" {
            fs::write(&path, [&whole[..], b"\n"].concat()).unwrap();
            facts_of(&path).unwrap();
        }
    }
}

#[test]
fn a_tar_without_a_member_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let whole = fs::read(of(17, "shop.tar")).unwrap();
    let path = scratch.path().join("cut.tar");
    // restore.sql, the last member, is for people; pg_restore does not read it.
    let needed = whole.windows(11).rposition(|it| it == b"restore.sql").unwrap();
    for end in (600..needed - 2048).step_by(9001) {
        fs::write(&path, &whole[..end]).unwrap();
        assert_eq!(facts_of(&path).expect_err(&format!("cut at {end}")).blame, Blame::Backup);
    }
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(3);
    builder.append_data(&mut header, "PG_VERSION", &b"17\n"[..]).unwrap();
    fs::write(&path, builder.into_inner().unwrap()).unwrap();
    assert!(facts_of(&path).unwrap_err().hint.unwrap().contains("base backup"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn flipped_bytes_of_archives_never_panic(
        name in prop_oneof![Just("shop.dump"), Just("shop.tar"), Just("shop-zstd.dump"), Just("shop.tar.zst")],
        flips in proptest::collection::vec((0usize..80_000, any::<u8>()), 1..6),
    ) {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("flipped");
        let mut bytes = fs::read(of(17, name)).unwrap();
        for (at, value) in flips {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        fs::write(&path, &bytes).unwrap();
        let _ = facts_of(&path);
        let _ = selected(&path, &Selection { schemas: vec!["shop".into()], tables: Vec::new() });
    }
}

#[test]
fn a_selection_is_told_in_dump_ids_and_an_unknown_name_is_explained() {
    for major in MAJORS {
        let all = facts_of(&of(major, "shop.dump")).unwrap();
        let some = Selection { schemas: Vec::new(), tables: vec!["shop.customer".into()] };
        let ids = selected(&of(major, "shop.dump"), &some).unwrap().contents.selected.unwrap();
        let count: u64 = all.contents.entries.values().sum();
        assert!(ids.len() > 20 && (ids.len() as u64) < count / 2, "pg{major}: {} of {count}", ids.len());
    }
    let count = |schemas: &[&str], tables: &[&str]| {
        let own = |it: &[&str]| it.iter().map(ToString::to_string).collect();
        let selection = Selection { schemas: own(schemas), tables: own(tables) };
        selected(&of(15, "shop.dump"), &selection).unwrap().contents.selected.unwrap().len()
    };
    assert_eq!(count(&[], &["MixedCase.a.b"]), count(&[], &["\"MixedCase\".\"a.b\""]));
    assert!(count(&[], &["shop.event_2026_click"]) < count(&[], &["shop.event_2026"]));
    assert!(count(&[], &["shop.event_2026"]) < count(&[], &["shop.event"]));
    for (wrong, near) in [("shop.custmer", "shop.customer"), ("Maße_", "Maße")] {
        let selection = Selection { schemas: Vec::new(), tables: vec![wrong.into()] };
        let fault = selected(&of(15, "shop.dump"), &selection).unwrap_err();
        assert_eq!(fault.blame, Blame::Scenario);
        assert!(fault.hint.clone().unwrap().contains(near), "{fault:?}");
    }
    let selection = Selection { schemas: vec!["shop".into()], tables: Vec::new() };
    assert_eq!(selected(&of(15, "shop.sql"), &selection).unwrap_err().blame, Blame::Scenario);
}

#[test]
fn pouring_gives_decoded_bytes_and_the_digest_of_the_stored_ones() {
    let expect = fs::read(of(17, "shop.sql")).unwrap();
    for (name, compression) in [
        ("shop.sql", Compression::None),
        ("shop.sql.gz", Compression::Gzip),
        ("shop.sql.zst", Compression::Zstd),
        ("shop.sql.lz4", Compression::Lz4),
        ("shop.sql.xz", Compression::Xz),
    ] {
        let path = of(17, name);
        let stored = fs::read(&path).unwrap();
        let (mut got, mut last) = (Vec::new(), 0);
        let mut sink = |chunk: &[u8]| {
            assert!(chunk.len() <= 64 * 1024);
            got.extend_from_slice(chunk);
            ControlFlow::Continue(())
        };
        let poured =
            pour(&path, compression, Counting::Nothing, &mut sink, &Reading::default(), &mut |bytes| last = bytes)
                .unwrap();
        assert!(got == expect, "{name}");
        assert_eq!(poured.sha256, tap::hex(&Sha256::digest(&stored)), "{name}");
        assert_eq!((poured.bytes, last, poured.cut_short), (stored.len() as u64, stored.len() as u64, false));
        assert_eq!(poured.seen, look(&path, &Reading::default()).unwrap());
    }
}

#[test]
fn a_receiver_may_want_no_more_and_a_caller_may_stop() {
    let path = of(17, "shop.sql");
    let poured = pour(
        &path,
        Compression::None,
        Counting::Nothing,
        &mut |_| ControlFlow::Break(()),
        &Reading::default(),
        &mut |_| {},
    )
    .unwrap();
    assert!(poured.cut_short && poured.bytes <= 64 * 1024);
    let stop = Reading::default();
    stop.stop();
    let fault = scan(&path, &stop, &mut |_| {}).unwrap_err();
    assert_eq!((fault.blame, fault.causes[0].as_str()), (Blame::Host, "it was told to stop"));
    assert_eq!(scan(&of(17, "shop.dir"), &stop, &mut |_| {}).unwrap_err().causes[0], "it was told to stop");
    assert_eq!(dump_facts(&path, &Selection::default(), &stop, &mut |_| {}).unwrap_err().blame, Blame::Host);
}

#[test]
fn cut_packed_files_are_blamed_on_the_backup() {
    let path = backups().join("damaged/cut.sql.gz");
    let fault = pour(
        &path,
        Compression::Gzip,
        Counting::Nothing,
        &mut |_| ControlFlow::Continue(()),
        &Reading::default(),
        &mut |_| {},
    )
    .unwrap_err();
    assert_eq!(fault.blame, Blame::Backup);
}

#[test]
fn scanning_and_copying_a_directory_give_the_digest_of_its_sums() {
    let path = of(17, "shop.dir");
    let mut lines = String::new();
    for found in find::files(&path, &Reading::default()).unwrap() {
        lines += &[tap::hex(&Sha256::digest(fs::read(&found.path).unwrap())).as_str(), &found.name].join("  ");
        lines.push('\n');
    }
    let expect = tap::hex(&Sha256::digest(&lines));
    let mut last = 0;
    let scanned = scan(&path, &Reading::default(), &mut |bytes| last = bytes).unwrap();
    assert_eq!((&scanned.sha256, scanned.bytes, last), (&expect, scanned.seen.bytes, scanned.seen.bytes));
    let scratch = tempfile::tempdir().unwrap();
    let to = scratch.path().join("copy");
    let copied = copy(&path, &to, &Reading::default(), &mut |_| {}).unwrap();
    assert_eq!((&copied.sha256, copied.bytes), (&expect, scanned.bytes));
    assert_eq!(scan(&to, &Reading::default(), &mut |_| {}).unwrap().sha256, expect);
    assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(fs::metadata(to.join("toc.dat")).unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(
        copy(&path.join("toc.dat"), &to.join("toc.dat"), &Reading::default(), &mut |_| {}).unwrap_err().blame,
        Blame::Host
    );
    symlink("/etc/hostname", to.join("link")).unwrap();
    for fault in [
        scan(&to, &Reading::default(), &mut |_| {}).unwrap_err(),
        copy(&to, &scratch.path().join("again"), &Reading::default(), &mut |_| {}).unwrap_err(),
    ] {
        assert_eq!(fault.blame, Blame::Scenario);
        assert!(fault.causes[0].contains("link in it is a symbolic link"), "{fault:?}");
    }
}

#[test]
fn patterns_match_files_and_dump_directories() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path();
    for file in
        ["a-1.dump", "a-2.dump", "a-3.dump.tmp", ".a-4.dump", "b.sql", "deep/er/a-5.dump", "plain/x", "d.dir/toc.dat"]
    {
        fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
        fs::write(root.join(file), "x").unwrap();
    }
    symlink("a-2.dump", root.join("a-latest.dump")).unwrap();
    let found = |pattern: &str| -> Vec<String> {
        let found = list(&format!("{}/{pattern}", root.display()), &Reading::default()).unwrap();
        found.iter().map(|it| it.path[root.to_str().unwrap().len() + 1..].to_owned()).collect()
    };
    assert_eq!(found("a-*.dump"), ["a-1.dump", "a-2.dump", "a-latest.dump"]);
    assert_eq!(found("**/a-*.dump"), ["a-1.dump", "a-2.dump", "a-latest.dump", "deep/er/a-5.dump"]);
    assert_eq!(found("*/*/a-?.dump"), ["deep/er/a-5.dump"]);
    assert_eq!(found("*.tmp"), ["a-3.dump.tmp"]);
    assert_eq!(found(".a-*"), [".a-4.dump"]);
    assert_eq!(found("*"), ["a-1.dump", "a-2.dump", "a-latest.dump", "b.sql", "d.dir"]);
    assert_eq!(found("{b,c}.sql"), ["b.sql"]);
    assert_eq!(found("d.dir"), ["d.dir"]);
    assert_eq!(found("plain"), ["plain"]);
    assert_eq!(found("none-*"), Vec::<String>::new());
    assert_eq!(found("none.dump"), Vec::<String>::new());
}

#[test]
fn a_directory_that_is_not_there_is_the_hosts_fault() {
    let scratch = tempfile::tempdir().unwrap();
    for name in ["nowhere/x.dump", "nowhere/*.dump"] {
        let fault = list(&format!("{}/{name}", scratch.path().display()), &Reading::default()).unwrap_err();
        assert_eq!(fault.blame, Blame::Host);
        assert!(fault.causes[0].ends_with(&format!("only {} is there", scratch.path().display())), "{fault:?}");
    }
    assert_eq!(
        list(&format!("{}/[", scratch.path().display()), &Reading::default()).unwrap_err().blame,
        Blame::Scenario
    );
    assert_eq!(look(&scratch.path().join("x.dump"), &Reading::default()).unwrap_err().blame, Blame::Backup);
    assert_eq!(look(&scratch.path().join("no/x.dump"), &Reading::default()).unwrap_err().blame, Blame::Host);
    assert_eq!(facts_of(scratch.path()).unwrap_err().blame, Blame::Backup);
}

#[test]
fn who_may_read_a_file_depends_on_the_directories_above() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("x");
    fs::write(&file, "x").unwrap();
    let seen = |directory: u32, mode: u32| {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(directory)).unwrap();
        (
            look(&file, &Reading::default()).unwrap().world_readable,
            look(scratch.path(), &Reading::default()).unwrap().world_readable,
        )
    };
    assert_eq!(seen(0o755, 0o644), (true, true));
    assert_eq!(seen(0o755, 0o600), (false, false));
    assert_eq!(seen(0o700, 0o644), (false, false));
}

#[test]
fn texts_are_read_whole_or_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("x.sql");
    fs::write(&path, "SELECT 'é';").unwrap();
    assert_eq!(read_text(&path, &Reading::default()).unwrap(), "SELECT 'é';");
    fs::write(&path, [0xff, 0xfe]).unwrap();
    assert_eq!(read_text(&path, &Reading::default()).unwrap_err().blame, Blame::Scenario);
    assert_eq!(read_text(&scratch.path().join("none.sql"), &Reading::default()).unwrap_err().blame, Blame::Scenario);
    assert_eq!(read_text(scratch.path(), &Reading::default()).unwrap_err().blame, Blame::Scenario);
    fs::File::create(&path).unwrap().set_len((16 << 20) + 1).unwrap();
    assert!(read_text(&path, &Reading::default()).unwrap_err().causes[0].contains("16 MiB"));
}

/// pg_receivewal goes on while a drill runs: the segment grows, is finished and gets its name.
#[test]
fn an_unfinished_segment_is_used_as_it_was_when_it_was_found() {
    let directory = tempfile::tempdir().unwrap();
    let (archive, kept) = (directory.path().join("wal"), directory.path().join("kept"));
    std::fs::create_dir(&archive).unwrap();
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/backups/base/wal");
    let segment =
        |name: &str| zstd::decode_all(std::fs::File::open(packed.join(format!("{name}.zst"))).unwrap()).unwrap();
    let names = ["00000001000000000000000D", "00000001000000000000000E", "00000001000000000000000F"];
    std::fs::write(archive.join(names[0]), segment(names[0])).unwrap();
    let partial = archive.join(format!("{}.partial", names[1]));
    std::fs::write(&partial, &segment(names[1])[..300_000]).unwrap();
    let reading = Reading::default().with_unfinished(kept.clone());
    let seen = wal_archive(&archive, None, None, &reading).unwrap();
    assert_eq!((seen.unfinished, seen.partial.len(), seen.segments), (vec![format!("{}.partial", names[1])], 0, 2));
    std::fs::remove_file(&partial).unwrap();
    std::fs::write(archive.join(names[1]), segment(names[1])).unwrap();
    let file = find_wal(&archive, names[1], &reading).unwrap().unwrap();
    let to = directory.path().join("fetched");
    assert_eq!(fetch_wal(&file, &to, Some(1 << 20), &reading).unwrap(), 1 << 20);
    let fetched = std::fs::read(&to).unwrap();
    assert_eq!(fetched[..300_000], segment(names[1])[..300_000]);
    assert!(fetched[300_000..].iter().all(|it| *it == 0));
    // Behind a gap, and on a timeline that was left, it is no end.
    let other = archive.join(format!("{}.partial", names[2]));
    std::fs::rename(archive.join(names[1]), &other).unwrap();
    let gap = wal_archive(&archive, None, None, &Reading::default().with_unfinished(kept.clone())).unwrap();
    assert_eq!((gap.unfinished.len(), gap.partial), (0, vec![format!("{}.partial", names[2])]));
    std::fs::rename(&other, &partial).unwrap();
    std::fs::write(archive.join(names[1].replacen('1', "2", 1)), segment(names[1])).unwrap();
    let left = wal_archive(&archive, None, None, &Reading::default().with_unfinished(kept)).unwrap();
    assert_eq!((left.unfinished.len(), left.partial.len()), (0, 1));
}
