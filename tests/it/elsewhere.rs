//! Backups of machines that are not like this one: other collations, other architectures, other libraries, more connections, and
//! WAL that nobody here can read.

use std::path::{Path, PathBuf};

use pgdrill::fault::Blame;
use pgdrill::report::DrillReport;
use pgdrill::verdict::Verdict;

use crate::lab::{Server, owned_directory};
use crate::majors::by_script;
use crate::program::Program;

/// Of a server of a test's own: a plain base backup, beside it.
fn backup(server: &Server) -> PathBuf {
    let path = server.directory().join("base");
    server.run("pg_basebackup", &["-D", &path.display().to_string(), "--checkpoint=fast", "--no-sync", "-Xs"]);
    path
}

fn scenario(path: &Path, more: &str, checks: &str) -> String {
    let path = path.display();
    format!(
        "version: 1\ndrills:\n  - name: elsewhere\n    source: {{ base_backup: {{ path: {path}{more} }} }}\n    target: immediate\n    checks:\n{checks}"
    )
}

fn query(name: &str, sql: &str, expect: &str) -> String {
    format!("      - query: {{ name: {name}, sql: \"{sql}\", expect: {expect} }}\n")
}

fn drilled(text: &str, args: &[&str], exit: i32) -> DrillReport {
    let program = Program::new();
    program.drill(text, args).expect(exit);
    program.report().drills.remove(0)
}

fn said(drill: &DrillReport) -> (String, Option<Blame>) {
    let [reason] = drill.reasons.as_slice() else { panic!("{:?}", drill.reasons) };
    (format!("{}: {}", reason.text, reason.causes.join(": ")), reason.blame)
}

fn tells(drill: &DrillReport, what: &str) {
    assert!(drill.notes.findings.iter().any(|it| it.contains(what)), "{what}: {:?}", drill.notes.findings);
}

/// A row that its index does not find, as where texts are ordered otherwise than when it was made.
const LOSES: &str = "update pg_index set indisready = false where indexrelid = 'by_name'::regclass;\
                     insert into people values ('lost');\
                     update pg_index set indisready = true where indexrelid = 'by_name'::regclass";

#[test]
fn what_only_an_index_of_another_collation_denies_is_unknown_and_the_hosts() {
    let server = Server::start("collated");
    server.sql("create table people(name text collate \"de-x-icu\", other text collate \"de-x-icu\")");
    server.sql("insert into people select 'name ' || n from generate_series(1, 3000) n");
    server.sql("create index by_name on people (name)");
    server.sql("create index \"by Hash\" on people using hash (other)");
    server.sql("create table numbers as select generate_series(1, 3000) n");
    server.sql("create index by_number on numbers (n)");
    server.sql("vacuum analyze people");
    server.sql("vacuum analyze numbers");
    for statement in LOSES.split(';') {
        server.sql(statement);
        server.sql(
            &statement.replace("by_name", "by_number").replace("people values ('lost')", "numbers values (1000000)"),
        );
    }
    let finds = query("the lost one", "select count(*) from people where name = 'lost'", "1")
        + &query("all by their order", "select count(*) from people where name between 'name 1' and 'name 2'", "1112");
    let loses =
        query("more than there are", "select count(*) from people where name between 'name 1' and 'name 2'", "2000");

    // A right collation excuses nothing.
    let drill = drilled(&scenario(&backup(&server), "", &finds), &[], 1);
    assert_eq!(drill.verdict, Verdict::Failed);
    assert!(said(&drill).0.contains("found 0 by an index, and 1 without: an index is damaged"), "{:?}", drill.reasons);

    server.sql("update pg_collation set collversion = '1.1' where collname = 'de-x-icu'");
    std::fs::remove_dir_all(server.directory().join("base")).unwrap();
    let path = backup(&server);
    let drill = drilled(&scenario(&path, "", &finds), &[], 3);
    tells(&drill, "database postgres: texts were ordered by de-x-icu of version 1.1, and this host has version");
    tells(&drill, "whether these indexes are right cannot be told here: public.by_name");
    assert!(!drill.notes.findings.iter().any(|it| it.contains("Hash")), "{:?}", drill.notes.findings);
    let (reason, blame) = said(&drill);
    assert_eq!(blame, Some(Blame::Host), "{reason}");
    assert!(reason.contains("found 0 by an index, and 1 without"), "{reason}");

    // Numbers have one order everywhere: their index is damaged, whatever else is in doubt.
    let number = query("a number", "select count(*) from numbers where n = 1000000", "1");
    let drill = drilled(&scenario(&path, "", &number), &[], 1);
    assert!(said(&drill).0.contains("found 0 by an index, and 1 without: an index is damaged"), "{:?}", drill.reasons);

    // What the rows themselves deny is the backup's.
    let drill = drilled(&scenario(&path, "", &loses), &[], 1);
    assert_eq!(drill.verdict, Verdict::Failed);
}

/// A cluster whose texts are ordered as in English: as it is, with older versions of its collations, and with none.
const LOCALE: &str = "set -euo pipefail; cd /lab; PATH=$(ls -d /usr/lib/postgresql/*/bin):$PATH; export PGHOST=/tmp PGUSER=postgres\n\
                  initdb -D data -A trust -U postgres --locale=en_US.utf8 --no-sync > init.log\n\
                  pg_ctl -D data -l log -w -o '-c listen_addresses= -c unix_socket_directories=/tmp' start > /dev/null\n\
                  psql -Xq -c 'create table people(name text, c text collate \"C\", n int)'\n\
                  psql -Xq -c 'create index by_name on people (name)' -c 'create index second on people (c)' -c 'create index third on people (n)'\n\
                  pg_basebackup -D base --checkpoint=fast --no-sync -Xs\n\
                  psql -Xq -c \"update pg_collation set collversion = '2.1' where collprovider = 'c' and collversion is not null\"\n\
                  pg_basebackup -D older --checkpoint=fast --no-sync -Xs\n\
                  psql -Xq -c \"update pg_collation set collversion = null where collprovider = 'c'\"\n\
                  [ -z \"$(psql -XqAt -c \"select 1 from pg_attribute where attname = 'datcollversion'\")\" ] || \
                    psql -Xq -c 'update pg_database set datcollversion = null'\n\
                  pg_basebackup -D musl --checkpoint=fast --no-sync -Xs\n\
                  pg_ctl -D data -m fast -w stop > /dev/null\n";

/// Alpine's images: its C library orders texts by their bytes, and has no versions.
#[test]
fn indexes_of_a_machine_whose_library_records_no_version_are_doubted() {
    for major in [13, 17] {
        let (root, _until) = by_script(major, LOCALE);
        let drill =
            drilled(&scenario(&root.join("musl"), "", &query("people", "select count(*) from people", "0")), &[], 0);
        tells(&drill, "texts were ordered by en_US.utf8 of a C library that has no versions (musl), and this host has");
        tells(&drill, "cannot be told here: public.by_name");
    }
}

#[test]
fn the_collation_of_a_database_before_15_is_told_by_the_library_of_its_machine() {
    let (root, _until) = by_script(13, LOCALE);
    let people = query("people", "select count(*) from people", "0");
    let alike = drilled(&scenario(&root.join("base"), "", &people), &[], 0);
    assert!(!alike.notes.findings.iter().any(|it| it.contains("ordered by")), "{:?}", alike.notes.findings);
    let recorded = drilled(&scenario(&root.join("older"), "", &people), &[], 0);
    tells(&recorded, "texts were ordered by en_US.utf8 of version 2.1, and this host has version 2.");
    tells(&recorded, "cannot be told here: public.by_name");
    assert!(!recorded.notes.findings.iter().any(|it| it.contains("second") || it.contains("third")), "{recorded:?}");
    // And by what the scenario says, which counts before it.
    let said = drilled(&scenario(&root.join("base"), ", made_on: { glibc: \"2.17\" }", &people), &[], 0);
    tells(&said, "texts were ordered by en_US.utf8 of version 2.17, and this host has version 2.");
}

#[test]
fn indexes_on_trigrams_of_an_architecture_with_another_char_are_named_before_18() {
    let server = Server::start("trigrams");
    server.sql("create extension pg_trgm");
    server.sql("create table people(name text)");
    server.sql("create index by_name on people (name)");
    server.sql("create index by_trigram on people using gin (name gin_trgm_ops)");
    let path = backup(&server);
    let one = query("one", "select 1", "1");
    let drill = drilled(&scenario(&path, ", made_on: { architecture: arm64, glibc: \"2.17\" }", &one), &[], 0);
    // By bytes, whatever the library.
    assert!(!drill.notes.findings.iter().any(|it| it.contains("ordered by")), "{:?}", drill.notes.findings);
    tells(&drill, "cannot be told here: public.by_trigram");
    assert!(
        drill.notes.deviations.iter().any(|it| it.starts_with("made on aarch64, and read on ")),
        "{:?}",
        drill.notes.deviations
    );
    let drill = drilled(&scenario(&path, ", made_on: { architecture: amd64 }", &one), &[], 0);
    assert!(!drill.notes.findings.iter().any(|it| it.contains("trigram")), "{:?}", drill.notes.findings);
}

#[test]
fn libraries_that_are_harmless_and_needed_are_preloaded_and_others_are_not() {
    let server = Server::start("preloads");
    server.sql("alter system set shared_preload_libraries = 'pg_stat_statements', 'auto_explain', 'pg_prewarm'");
    server.restart();
    server.sql("create extension pg_stat_statements");
    let path = backup(&server);
    let seen = query("statements", "select count(*) >= 0 from pg_stat_statements", "true");
    let drill = drilled(&scenario(&path, "", &seen), &[], 0);
    let deviations = &drill.notes.deviations;
    assert!(deviations.iter().any(|it| it == "not preloaded here: auto_explain, pg_prewarm"), "{deviations:?}");
}

#[test]
fn a_server_that_needs_more_memory_than_it_may_use_is_refused_before_it_is_made() {
    let server = Server::start("connections");
    server.sql("alter system set max_connections = 2000");
    server.restart();
    let path = backup(&server);
    let one = query("one", "select 1", "1");
    let limited = |memory: &str| {
        scenario(&path, "", &one).replace("    target:", &format!("    postgres: {{ memory: {memory} }}\n    target:"))
    };
    let drill = drilled(&limited("64MiB"), &[], 3);
    let (reason, blame) = said(&drill);
    assert_eq!(blame, Some(Blame::Host));
    assert!(reason.contains("max_connections = 2000") && reason.contains("may use 64 MiB"), "{reason}");
    assert!(drill.phases.iter().all(|it| it.phase != pgdrill::phase::Phase::Provision), "{:?}", drill.phases);
    drilled(&limited("1GiB"), &[], 0);
}

#[test]
fn a_coordinator_of_citus_alone_is_no_cluster() {
    let server = Server::start("coordinator");
    let more = "set allow_system_table_mods = on; create table pg_catalog.pg_dist_node(groupid int); \
                insert into pg_catalog.pg_dist_node values (0), (1), (2)";
    server.sql(more);
    let drill = drilled(&scenario(&backup(&server), "", &query("one", "select 1", "1")), &[], 0);
    tells(&drill, "database postgres coordinates 2 other servers (Citus)");
}

/// Encrypted, say: nothing in it begins as WAL does.
#[test]
fn an_archive_in_which_nothing_can_be_read_accuses_nobody() {
    let server = Server::start_with("sealed", &["--wal-segsize=1"]);
    let wal = server.directory().join("wal");
    owned_directory(&wal);
    server.sql("alter system set archive_mode = on");
    server.sql(&format!("alter system set archive_command = 'cp %p {}/%f'", wal.display()));
    server.restart();
    let path = backup(&server);
    for _ in 0..3 {
        server.sql("select pg_switch_wal() from txid_current()");
    }
    server.lose();
    for entry in std::fs::read_dir(&wal).unwrap().flatten() {
        let mut bytes = std::fs::read(entry.path()).unwrap();
        // As a key stream would.
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte ^= u8::try_from(at * 31 % 251).unwrap() | 1;
        }
        std::fs::write(entry.path(), bytes).unwrap();
    }
    let text = scenario(&path, &format!(", wal: {}", wal.display()), &query("one", "select 1", "1"));
    let drill = drilled(&text.replace("target: immediate", "target: latest"), &[], 3);
    let (reason, blame) = said(&drill);
    assert_eq!(blame, Some(Blame::Host), "{reason}");
    assert!(reason.contains("none of its segments can be read"), "{reason}");
}
