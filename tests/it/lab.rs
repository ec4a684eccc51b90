//! A real cluster with a WAL archive, its base backups in several forms, and marks with what was true at each.
//!
//! Made once for all tests of a run, with the PostgreSQL programs of this machine.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;

use crate::program::fixture;
use crate::signals::wait_for;

/// What was made.
pub(crate) struct Lab {
    _until: ChildStdin,
    pub(crate) root: PathBuf,
    /// A time after the first 20 100 rows were there and before anything was deleted.
    pub(crate) time: String,
    /// The same moment in WAL.
    pub(crate) lsn: String,
    /// The transaction that deleted 20 000 rows.
    pub(crate) deletion: String,
}

/// Rows of `t` at the marks: when the base backups were made, at `time`, after the deletion, at the end.
pub(crate) const ROWS: [u32; 4] = [20_000, 20_100, 100, 102];

impl Lab {
    pub(crate) fn path(&self, path: &str) -> String {
        self.root.join(path).display().to_string()
    }
}

static LAB: OnceLock<Lab> = OnceLock::new();

/// The lab of this run.
pub(crate) fn lab() -> &'static Lab {
    LAB.get_or_init(make)
}

/// Statics are not dropped, and tests are killed: a process that waits for the end of this one removes the lab.
pub(crate) fn remove_at_the_end(root: &Path) -> ChildStdin {
    let mut command = Command::new("sh");
    // A server that still runs there is gone at once, and waited for: it would write into what is being removed.
    let script = r#"cat; if read -r pid < "$0/data/postmaster.pid"; then kill -QUIT "$pid"
        while kill -0 "$pid"; do sleep 0.05; done; fi 2>/dev/null; rm -rf -- "$0""#;
    command.args(["-c", script]).arg(root).stdin(Stdio::piped()).stdout(Stdio::null());
    // Not by the terminal's ^C, which would end it before the tests.
    command.process_group(0).spawn().unwrap().stdin.take().unwrap()
}

/// A packed fixture, `TOOL/FILE.tar.zst`, unpacked with the modes that it has.
pub(crate) fn unpacked(packed: &str) -> tempfile::TempDir {
    let tool = packed.split('/').next().unwrap();
    let directory = tempfile::Builder::new().prefix(&format!("pgdrill-lab-{tool}-")).tempdir_in("/tmp").unwrap();
    let packed = std::fs::File::open(fixture(packed)).unwrap();
    let mut archive = tar::Archive::new(zstd::Decoder::new(packed).unwrap());
    archive.set_preserve_permissions(true);
    archive.unpack(directory.path()).unwrap();
    directory
}

/// Such a fixture for all tests of a run, which leave it as it is.
pub(crate) struct Unpacked {
    _until: ChildStdin,
    pub(crate) root: PathBuf,
}

impl Unpacked {
    pub(crate) fn of(packed: &str) -> Unpacked {
        let root = unpacked(packed).keep();
        Unpacked { _until: remove_at_the_end(&root), root }
    }
}

fn bindir() -> PathBuf {
    let found = std::fs::read_dir("/usr/lib/postgresql").unwrap().map(|it| it.unwrap().path().join("bin"));
    found.filter(|it| it.join("initdb").exists()).max().expect("PostgreSQL's programs are installed")
}

/// Servers do not run as root: everything of the lab is done as this user.
fn command(program: &Path) -> Command {
    if nix::unistd::geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
        return command;
    }
    Command::new(program)
}

pub(crate) fn run(program: &str, args: &[&str]) -> String {
    let mut command = command(&bindir().join(program));
    let output = command.args(args).env("LC_ALL", "C.UTF-8").current_dir("/").output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A server of a test's own, which ends with the tests.
pub(crate) struct Server {
    root: PathBuf,
    _until: ChildStdin,
}

impl Server {
    pub(crate) fn start(name: &str) -> Server {
        Server::start_with(name, &[])
    }

    /// `more`: for initdb.
    pub(crate) fn start_with(name: &str, more: &[&str]) -> Server {
        let root = tempfile::Builder::new().prefix(&format!("pgdrill-lab-{name}-")).tempdir_in("/tmp").unwrap().keep();
        let server = Server { _until: remove_at_the_end(&root), root };
        owned_directory(&server.root);
        let at = |path: &str| server.root.join(path).display().to_string();
        let fixed = ["-D", &at("data"), "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync"];
        run("initdb", &[&fixed, more].concat());
        let settings =
            format!("-c listen_addresses= -c unix_socket_directories={} -c fsync=off", server.root.display());
        run("pg_ctl", &["-D", &at("data"), "-l", &at("log"), "-w", "-o", &settings, "start"]);
        server
    }

    /// For settings that only a start takes up.
    pub(crate) fn restart(&self) {
        let at = |path: &str| self.root.join(path).display().to_string();
        // With a log of its own: the server would keep the pipes of this test open.
        run("pg_ctl", &["-D", &at("data"), "-l", &at("log"), "-m", "fast", "-w", "restart"]);
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.root
    }

    /// Runs a client program.
    pub(crate) fn run(&self, program: &str, args: &[&str]) -> String {
        let socket = self.root.display().to_string();
        run(program, &[&["-h", &socket, "-U", "postgres"], args].concat())
    }

    /// Starts a client program that goes on until it is stopped.
    pub(crate) fn spawn(&self, program: &str, args: &[&str]) -> std::process::Child {
        let mut command = command(&bindir().join(program));
        command.arg("-h").arg(&self.root).args(["-U", "postgres"]).args(args).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// As a machine that goes.
    pub(crate) fn lose(&self) {
        run("pg_ctl", &["-D", &self.root.join("data").display().to_string(), "-m", "immediate", "-w", "stop"]);
    }

    pub(crate) fn sql(&self, sql: &str) -> String {
        self.script("postgres", sql)
    }

    pub(crate) fn script(&self, database: &str, sql: &str) -> String {
        self.run("psql", &["-XqAt", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", sql])
    }
}

/// Makes a directory in which the servers of a lab may write.
pub(crate) fn owned_directory(path: &Path) {
    std::fs::create_dir_all(path).unwrap();
    if nix::unistd::geteuid().is_root() {
        let postgres = nix::unistd::User::from_name("postgres").unwrap().unwrap();
        std::os::unix::fs::chown(path, Some(postgres.uid.as_raw()), Some(postgres.gid.as_raw())).unwrap();
    }
}

/// A server of ours that is being backed up.
pub(crate) struct Source {
    pub(crate) socket: String,
}

impl Source {
    pub(crate) fn sql(&self, sql: &str) -> String {
        run(
            "psql",
            &["-XqAt", "-v", "ON_ERROR_STOP=1", "-h", &self.socket, "-d", "postgres", "-U", "lab_owner", "-c", sql],
        )
    }
}

fn make() -> Lab {
    let directory = tempfile::Builder::new().prefix("pgdrill-lab-").tempdir_in("/tmp").unwrap();
    let root = directory.keep();
    let until = remove_at_the_end(&root);
    for name in ["", "wal", "base", "sock", "ts"] {
        owned_directory(&root.join(name));
    }
    let at = |path: &str| root.join(path).display().to_string();
    // A bootstrap superuser that is not called postgres, as some installations have.
    run("initdb", &["-D", &at("data"), "-k", "-A", "trust", "-U", "lab_owner", "--wal-segsize=1", "--no-sync"]);
    // What production has and a throwaway server must not be stopped by, nor act upon.
    let settings = format!(
        "listen_addresses = ''\nunix_socket_directories = '{}'\narchive_mode = on\narchive_command = 'cp %p {}/%f'\n\
         max_connections = 123\nmax_prepared_transactions = 4\nshared_preload_libraries = 'auto_explain'\nssl = off\nfsync = off\n",
        at("sock"),
        at("wal"),
    );
    let conf = root.join("data/postgresql.conf");
    let text = std::fs::read_to_string(&conf).unwrap();
    std::fs::write(&conf, format!("{text}\n{settings}")).unwrap();
    run("pg_ctl", &["-D", &at("data"), "-l", &at("log"), "-w", "start"]);
    let source = Source { socket: at("sock") };
    let lab = fill(&source, &root);
    run("pg_ctl", &["-D", &at("data"), "-m", "fast", "-w", "stop"]);
    let [time, lsn, deletion] = lab;
    Lab { _until: until, root, time, lsn, deletion }
}

/// Marks, and the base backups between them.
fn fill(source: &Source, root: &Path) -> [String; 3] {
    let at = |path: &str| root.join(path).display().to_string();
    source.sql(&format!("create tablespace ts location '{}'", at("ts")));
    source.sql("create table t(id int primary key, v text)");
    source.sql("create table u(id int) tablespace ts");
    source.sql("create table beat(at timestamptz)");
    // What a restored cluster brings along: a transaction that nobody ended, and a database that was half dropped.
    source.sql("begin; create table unfinished(); prepare transaction 'unfinished'");
    source.sql("create database half");
    // And one of another operating system, whose locale this one has not.
    source.sql("create database abroad");
    source.sql(
        "update pg_database set datcollate = 'xx_XX.UTF-8', datctype = 'xx_XX.UTF-8', datcollversion = '2.1' \
         where datname = 'abroad'",
    );
    source.sql("update pg_database set datconnlimit = -2 where datname = 'half'");
    source.sql("insert into t select g, repeat('x', 50) from generate_series(1, 20000) g");
    source.sql("insert into u select generate_series(1, 1000)");
    source.sql("alter system set synchronous_standby_names = 'nobody'");
    let backup = |name: &str, args: &[&str]| {
        let target = at(&format!("base/{name}"));
        let fixed = ["-h", &source.socket, "-U", "lab_owner", "-D", &target, "--checkpoint=fast", "--no-sync"];
        run("pg_basebackup", &[&fixed[..], args].concat());
    };
    let map = format!("{}={}", at("ts"), at("base/plain-ts"));
    backup("plain", &["-Fp", "-Xs", "-P", "-R", "-T", &map]);
    backup("tar", &["-Ft", "-Xs", "-z"]);
    backup("tar-no-wal", &["-Ft", "-Xn"]);
    backup("tar-zstd", &["-Ft", "-Xf", "--compress=server-zstd"]);
    backup("tar-lz4", &["-Ft", "-Xs", "--compress=client-lz4", "--no-manifest"]);
    source.sql("insert into t select g, 'after' from generate_series(20001, 20100) g");
    source.sql("select pg_create_restore_point('before the deletion')");
    let lsn = source.sql("select pg_current_wal_lsn()");
    let time = source.sql("select clock_timestamp()");
    let deletion = source.sql("delete from t where id <= 20000; select txid_current()");
    source.sql("select pg_switch_wal()");
    source.sql(
        "insert into t values (100001, 'late'); insert into t values (100002, 'last'); insert into beat select now()",
    );
    source.sql("select pg_switch_wal()");
    // Behind every mark: the best for none of them.
    backup("later", &["-Ft", "-Xn"]);
    archived(source, root);
    [time, lsn, deletion]
}

/// Waits until the last segment that was switched from lies in the archive.
fn archived(source: &Source, root: &Path) {
    let last = source.sql("select pg_walfile_name(pg_switch_wal())");
    wait_for("the last segment to be archived", || {
        let there = root.join("wal").join(&last).exists();
        (there || source.sql("select last_archived_wal from pg_stat_archiver") >= last).then_some(())
    });
}
