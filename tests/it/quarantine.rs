//! A restored cluster reaches nobody and touches nothing: observed from outside, with listeners that count and directories
//! that must not change. That the traps work is seen while the cluster is alive.

use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::lab::{Source, owned_directory, remove_at_the_end, run};
use crate::program::Program;

/// A cluster that archives, replicates and subscribes, and its backups.
struct Restless {
    _until: std::process::ChildStdin,
    root: PathBuf,
}

static CALLS: AtomicUsize = AtomicUsize::new(0);
static RESTLESS: OnceLock<Restless> = OnceLock::new();

/// Counts every connection to any address of this machine, for as long as the tests run.
fn listen() -> u16 {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for call in listener.incoming() {
            drop(call);
            CALLS.fetch_add(1, Ordering::SeqCst);
        }
    });
    port
}

fn restless() -> &'static Restless {
    RESTLESS.get_or_init(|| {
        let port = listen();
        let root = tempfile::Builder::new().prefix("pgdrill-lab-").tempdir_in("/tmp").unwrap().keep();
        let until = remove_at_the_end(&root);
        for name in ["", "base", "sock", "wal", "touched"] {
            owned_directory(&root.join(name));
        }
        let at = |path: &str| root.join(path).display().to_string();
        run("initdb", &["-D", &at("data"), "-k", "-A", "trust", "-U", "lab_owner", "--wal-segsize=1", "--no-sync"]);
        // Whoever is asked first: this machine's own address, or the one that containers have for it.
        let peer = format!("host=127.0.0.1,172.17.0.1 port={port},{port} connect_timeout=2");
        let conf = root.join("data/postgresql.conf");
        let text = std::fs::read_to_string(&conf).unwrap();
        let settings = format!(
            "listen_addresses = ''\nunix_socket_directories = '{}'\nfsync = off\nwal_level = logical\narchive_mode = on\n\
             archive_command = 'touch {}/archived; cp %p {}/%f'\nwal_retrieve_retry_interval = 200ms\n",
            at("sock"),
            at("touched"),
            at("wal"),
        );
        std::fs::write(&conf, format!("{text}\n{settings}")).unwrap();
        run("pg_ctl", &["-D", &at("data"), "-l", &at("log"), "-w", "start"]);
        let source = Source { socket: at("sock") };
        source.sql("create table t as select generate_series(1, 100) id");
        source.sql(&format!("create subscription s connection '{peer} dbname=x' publication p with (connect = false)"));
        source.sql("alter subscription s enable");
        // What the server has not read, and the backup carries.
        let more = format!(
            "primary_conninfo = '{peer}'\narchive_cleanup_command = 'touch {0}/cleaned'\nrecovery_end_command = 'touch {0}/ended'\n\
             restore_command = 'touch {0}/restored; false'\nshared_preload_libraries = 'pg_cron'\ncron.database_name = 'postgres'\n\
             listen_addresses = '*'\n",
            at("touched"),
        );
        std::fs::write(&conf, format!("{text}\n{settings}{more}")).unwrap();
        let target = at("base/plain");
        run(
            "pg_basebackup",
            &["-h", &source.socket, "-U", "lab_owner", "-D", &target, "--checkpoint=fast", "--no-sync", "-Fp", "-Xs", "-R"],
        );
        let tar = at("base/tar");
        run(
            "pg_basebackup",
            &["-h", &source.socket, "-U", "lab_owner", "-D", &tar, "--checkpoint=fast", "--no-sync", "-Ft", "-Xs", "-z"],
        );
        source.sql("select pg_switch_wal()");
        // The traps work: this cluster, alive, called and touched.
        let patience = Instant::now() + Duration::from_secs(30);
        while CALLS.load(Ordering::SeqCst) == 0 || !root.join("touched/archived").exists() {
            assert!(Instant::now() < patience, "the subscription called, and the archiver touched its file");
            std::thread::sleep(Duration::from_millis(50));
        }
        run("pg_ctl", &["-D", &at("data"), "-m", "fast", "-w", "stop"]);
        std::fs::remove_file(root.join("touched/archived")).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        CALLS.store(0, Ordering::SeqCst);
        Restless { _until: until, root }
    })
}

fn scenario(path: &Path, wal: &Path, runtime: &str, target: &str) -> String {
    format!(
        "version: 1\ndrills:\n  - name: cell\n    runtime: {runtime}\n    source: {{ base_backup: {{ path: {}, wal: {} }} }}\n    {target}\n    checks:\n      \
         - rows: {{ table: t, equals: 100 }}\n      \
         - query: {{ name: there is something to archive, sql: \"select pg_switch_wal() is not null\", expect: true }}\n      \
         - query: {{ name: time goes by, sql: \"select pg_sleep(3) is not null\", expect: true }}\n      \
         - query: {{ name: it subscribes, sql: \"select count(*) from pg_subscription where subenabled\", expect: 1 }}\n",
        path.display(),
        wal.display(),
    )
}

fn nothing_arrives(form: &str, runtime: &str) {
    nothing_arrives_at(form, runtime, "target: latest");
}

fn nothing_arrives_at(form: &str, runtime: &str, target: &str) {
    let restless = restless();
    let program = Program::new();
    let path = restless.root.join("base").join(form);
    program.drill(&scenario(&path, &restless.root.join("wal"), runtime, target), &[]).expect(0);
    let touched: Vec<_> =
        std::fs::read_dir(restless.root.join("touched")).unwrap().map(|it| it.unwrap().path()).collect();
    assert_eq!(touched, Vec::<PathBuf>::new());
    assert_eq!(CALLS.load(Ordering::SeqCst), 0, "nobody called");
}

/// Standing at a stop, too: a standby looks for a primary, and does so for as long as it stands.
#[test]
fn a_standby_of_a_sweep_calls_nobody() {
    nothing_arrives_at("plain", "local", "targets: [ immediate, latest ]");
}

#[test]
fn a_restless_cluster_calls_nobody_on_the_local_runtime() {
    nothing_arrives("plain", "local");
}

#[test]
fn a_restless_cluster_calls_nobody_from_a_container() {
    nothing_arrives("tar", "container");
}

/// A directory outside, with something to lose, and what it looks like.
fn canary(program: &Program) -> (PathBuf, impl Fn() + use<>) {
    let canary = program.path("canary");
    std::fs::create_dir_all(canary.join("PG_15_202209061/5")).unwrap();
    std::fs::write(canary.join("PG_15_202209061/5/16999"), "production").unwrap();
    std::fs::write(canary.join("000000010000000000000001"), "production").unwrap();
    owned_directory(&canary);
    let list = move |canary: &Path| {
        let output =
            std::process::Command::new("find").arg(canary).args(["-printf", "%P %y %s %T@ %m\n"]).output().unwrap();
        let mut lines: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let (before, at) = (list(&canary), canary.clone());
    (canary, move || assert_eq!(list(&at), before, "the directory outside is as it was"))
}

fn copy(program: &Program, form: &str) -> PathBuf {
    let directory = program.path("copy");
    let from = restless().root.join("base").join(form);
    assert!(std::process::Command::new("cp").arg("-a").arg(from).arg(&directory).status().unwrap().success());
    directory
}

#[test]
fn a_link_of_pg_wal_or_of_a_tablespace_that_leads_out_is_not_followed() {
    for runtime in ["local", "container"] {
        let program = Program::new();
        let backup = copy(&program, "plain");
        let (canary, unchanged) = canary(&program);
        std::fs::rename(backup.join("pg_wal"), program.path("wal-of-the-backup")).unwrap();
        symlink(&canary, backup.join("pg_wal")).unwrap();
        let wal = restless().root.join("wal");
        program.drill(&scenario(&backup, &wal, runtime, "target: latest"), &[]).expect(0);
        unchanged();
        symlink(&canary, backup.join("pg_tblspc/16999")).unwrap();
        let ran = program.drill(&scenario(&backup, &wal, runtime, "target: latest"), &[]).expect(3);
        // Lines are folded for people.
        let said = ran.folded();
        assert!(said.contains("such links are not followed"), "{said}");
        unchanged();
    }
}

#[test]
fn an_archive_with_links_and_a_map_that_lead_out_writes_within_the_sandbox_only() {
    for runtime in ["local", "container"] {
        let program = Program::new();
        let backup = copy(&program, "tar");
        let (canary, unchanged) = canary(&program);
        std::fs::remove_file(backup.join("backup_manifest")).unwrap();
        rewritten(&backup, &canary);
        program.drill(&scenario(&backup, &restless().root.join("wal"), runtime, "target: latest"), &[]).expect(0);
        unchanged();
    }
}

/// Puts a tablespace into a backup in tar format, whose map and whose link lead to a directory outside, and a link over a
/// directory of the server's.
fn rewritten(backup: &Path, canary: &Path) {
    use std::io::Read as _;
    let from = std::fs::File::open(backup.join("base.tar.gz")).unwrap();
    let mut members = tar::Archive::new(flate2::read::GzDecoder::new(from));
    let to = std::fs::File::create(backup.join("base.tar")).unwrap();
    let mut builder = tar::Builder::new(to);
    let link = |builder: &mut tar::Builder<std::fs::File>, name: &str| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, name, canary).unwrap();
    };
    let file = |builder: &mut tar::Builder<std::fs::File>, name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        builder.append_data(&mut header, name, bytes).unwrap();
    };
    link(&mut builder, "pg_tblspc/16999");
    link(&mut builder, "pg_stat");
    for member in members.entries().unwrap() {
        let mut member = member.unwrap();
        let (name, mut bytes) = (member.path().unwrap().display().to_string(), Vec::new());
        if !member.header().entry_type().is_file() || name == "tablespace_map" {
            continue;
        }
        member.read_to_end(&mut bytes).unwrap();
        file(&mut builder, &name, &bytes);
    }
    file(&mut builder, "tablespace_map", format!("16999 {}\n", canary.display()).as_bytes());
    builder.finish().unwrap();
    let mut builder = tar::Builder::new(std::fs::File::create(backup.join("16999.tar")).unwrap());
    file(&mut builder, "PG_15_202209061/5/16999", &[0; 8192]);
    builder.finish().unwrap();
    std::fs::remove_file(backup.join("base.tar.gz")).unwrap();
}

#[test]
fn a_member_that_would_lie_outside_is_refused() {
    let program = Program::new();
    let backup = copy(&program, "tar");
    let (_, unchanged) = canary(&program);
    let mut builder = tar::Builder::new(std::fs::File::create(backup.join("16999.tar")).unwrap());
    let mut header = tar::Header::new_ustar();
    header.set_size(4);
    header.set_mode(0o600);
    let name = b"../../canary/000000010000000000000001";
    header.as_mut_bytes()[..name.len()].copy_from_slice(name);
    header.set_cksum();
    builder.append(&header, &b"evil"[..]).unwrap();
    builder.finish().unwrap();
    let ran = program.drill(&scenario(&backup, &restless().root.join("wal"), "local", "target: latest"), &[]).expect(1);
    assert!(ran.stdout.contains("outside of the"), "{}", ran.stdout);
    unchanged();
}

#[test]
fn a_tablespace_map_that_a_server_would_refuse_fails_and_blames_the_backup() {
    let program = Program::new();
    let backup = copy(&program, "plain");
    std::fs::write(backup.join("tablespace_map"), "16999\n").unwrap();
    let ran = program.drill(&scenario(&backup, &restless().root.join("wal"), "local", "target: latest"), &[]).expect(1);
    assert!(ran.stdout.contains("tablespace_map") && ran.stdout.contains("16999"), "{}", ran.stdout);
}
