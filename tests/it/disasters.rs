//! Disasters on a real cluster: a table that was dropped and rows that were deleted are there just before, and gone just after,
//! wherever a backup is good for it, and nowhere else.

use crate::lab::{Server, lab};
use crate::program::{Program, Ran};
use crate::signals::wait_for;

fn drill(path: &str, wal: &str, target: &str, checks: &str) -> Ran {
    let scenario = format!(
        "version: 1\ndrills:\n  - name: disaster\n    runtime: local\n    source:\n      base_backup: {{ path: {path}, wal: {wal} }}\n    \
         target: {target}\n    checks:\n{checks}",
    );
    Program::new().drill(&scenario, &[])
}

/// A table that was dropped: by the restore point before it and by the transaction that dropped it, on either side.
#[test]
fn a_dropped_table_is_there_just_before_and_gone_just_after() {
    let server = Server::start("dropped");
    let wal = server.directory().join("wal");
    crate::lab::owned_directory(&wal);
    server.sql(&format!("alter system set archive_command = 'cp %p {}/%f'", wal.display()));
    server.sql("alter system set archive_mode = on");
    server.restart();
    server.sql("create table precious as select generate_series(1, 1000) id");
    let backup = server.directory().join("backup").display().to_string();
    server.run("pg_basebackup", &["-D", &backup, "-Ft", "-Xs", "--checkpoint=fast", "--no-sync"]);
    server.sql("insert into precious select generate_series(1001, 1100)");
    server.sql("select pg_create_restore_point('before the drop')");
    let dropped = server.script("postgres", "begin; drop table precious; select txid_current(); commit");
    server.sql("create table later as select 1 as one");
    let last = server.sql("select pg_walfile_name(pg_switch_wal())");
    wait_for("the last segment to be archived", || wal.join(&last).exists().then_some(()));
    let wal = wal.display().to_string();
    let there = "      - rows: { table: precious, equals: 1100 }\n";
    let gone = "      - query: { name: it is gone, sql: \"select to_regclass('precious')\", expect: null }\n";
    for (target, checks) in [
        ("{ name: before the drop }".to_owned(), there),
        (format!("{{ xid: {dropped}, inclusive: false }}"), there),
        (format!("{{ xid: {dropped} }}"), gone),
        ("latest".to_owned(), gone),
    ] {
        drill(&backup, &wal, &target, checks).expect(0);
    }
}

/// What pg_receivewal had written when the host was lost is in a segment that it did not finish.
#[test]
fn a_lost_host_whose_wal_was_streamed_loses_only_what_was_not_received() {
    for (name, options, ending) in [("plain", &[][..], ".partial"), ("gzip", &["--compress=5"], ".gz.partial")] {
        let server = Server::start(&format!("received-{name}"));
        let wal = server.directory().join("wal");
        crate::lab::owned_directory(&wal);
        let wal = wal.display().to_string();
        let receive = [&["-D", &wal, "--synchronous", "--no-loop"], options].concat();
        server.sql("select pg_create_physical_replication_slot('received', true)");
        let mut receiver = server.spawn("pg_receivewal", &[&receive[..], &["--slot=received"]].concat());
        let has_come = |lsn: &str| {
            wait_for("WAL to be received", || {
                let sql = format!("select count(*) from pg_stat_replication where flush_lsn >= '{lsn}'");
                (server.sql(&sql) == "1").then_some(())
            });
        };
        server.sql("create table precious as select generate_series(1, 1000) id");
        let backup = server.directory().join("backup").display().to_string();
        server.run("pg_basebackup", &["-D", &backup, "-Ft", "-Xs", "--checkpoint=fast", "--no-sync"]);
        server.sql("select pg_switch_wal()");
        server.sql("insert into precious select generate_series(1001, 1100)");
        has_come(&server.sql("select pg_current_wal_flush_lsn()"));
        server.lose();
        receiver.wait().unwrap();
        let names: Vec<String> =
            std::fs::read_dir(&wal).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        assert!(names.iter().any(|it| it.ends_with(ending)), "{names:?}");
        let rows = |rows: u32| format!("      - rows: {{ table: precious, equals: {rows} }}\n");
        let without = drill(&backup, &wal, "latest", &rows(1000)).expect(0).folded();
        assert!(without.contains("`partial: true` has the last one used"), "{without}");
        drill(&backup, &format!("{wal}, partial: true"), "latest", &rows(1100)).expect(0);
    }
}

/// What a replica would have brought back: nothing. So it is refused, as any server's own data directory is.
#[test]
fn a_replica_is_refused_as_a_backup() {
    let program = Program::new();
    let replica = program.path("replica");
    std::fs::create_dir_all(replica.join("pg_tblspc")).unwrap();
    std::fs::write(replica.join("PG_VERSION"), "15\n").unwrap();
    std::fs::write(replica.join("standby.signal"), "").unwrap();
    let path = replica.display().to_string();
    let checks = "      - query: { name: it answers, sql: select 1, expect: 1 }\n";
    let ran = drill(&path, &lab().path("wal"), "latest", checks).expect(3);
    let text = ran.folded();
    assert!(text.contains("it is the data directory of a replica: what is deleted on the primary is gone"), "{text}");
    assert!(text.contains("fault: the scenario"), "{text}");
    std::fs::rename(replica.join("standby.signal"), replica.join("postmaster.pid")).unwrap();
    let ran = drill(&path, &lab().path("wal"), "latest", checks).expect(3);
    assert!(ran.stdout.contains("a server runs in it"), "{}", ran.stdout);
}

#[test]
fn one_table_of_a_base_backup_is_refused_with_what_would_do_instead() {
    let text = format!(
        "version: 1\ndrills:\n  - name: one\n    source: {{ base_backup: {{ path: {} }} }}\n    restore: {{ tables: [t] }}\n    \
         checks:\n      - query: {{ name: it answers, sql: select 1, expect: 1 }}\n",
        lab().path("base/tar"),
    );
    let ran = Program::new().drill(&text, &[]).expect(2);
    assert!(ran.stderr.contains("it is restored whole"), "{}", ran.stderr);
}
