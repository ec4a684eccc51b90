//! How the faults are made: the stage, the gate, and what is done while the drill stands at it.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgdrill::phase::Phase;
use pgdrill::report::Report;
use serde_json::Value;

use super::{Act, Dump, Ground, Moment, Row};
use crate::program::{Program, Ran, fixture};
use crate::signals::wait_for;

/// Waits until the host says go; the server's working directory is its data directory, and `run` lies beside it.
const GATE: &str = "copy (select 1) to program 'cat > ../run/gate';
do $$ begin
  for i in 1..4000 loop
    exit when (pg_stat_file('../run/go', true)).size is not null;
    perform pg_sleep(0.05);
  end loop;
end $$;
";
/// More than all buffers between pgdrill and psql hold.
const PADDING_LINES: usize = 40_000;

/// Mounts, engines and permissions are root's.
pub(super) fn is_possible(ground: Ground, act: Act) -> bool {
    let needs_root = act == Act::UnmountStore
        || match ground {
            Ground::Ordinary | Ground::StalePath => false,
            Ground::Stranger | Ground::SmallDisk | Ground::SmallOutput | Ground::OwnEngine | Ground::OwnSmallEngine => {
                true
            }
        };
    !needs_root || nix::unistd::geteuid().is_root()
}

/// One drill with everything that it needs.
pub(super) struct Scene {
    program: Program,
    mounts: Vec<PathBuf>,
    engine: Option<Engine>,
    backup: PathBuf,
    scenario: String,
    stranger: bool,
    base: PathBuf,
    out: PathBuf,
}

impl Scene {
    pub(super) fn set(row: &Row) -> Scene {
        let program = Program::new();
        // The server's user must be able to walk to what is mounted, and a stranger to the backup's directory.
        std::fs::set_permissions(program.directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let out = program.path("out");
        let mut scene = Scene {
            backup: program.path("store/shop"),
            base: std::env::temp_dir(),
            scenario: String::new(),
            stranger: row.ground == Ground::Stranger,
            mounts: Vec::new(),
            engine: None,
            program,
            out,
        };
        scene.lay_the_ground(row);
        scene.lay_the_backup(row);
        let gate = scene.program.file("gate.sql", GATE);
        scene.scenario = scene.program.file("scenario.yaml", &scenario(row, &scene.backup, &gate));
        scene
    }

    fn lay_the_ground(&mut self, row: &Row) {
        std::fs::create_dir(self.program.path("store")).unwrap();
        if row.act == Act::UnmountStore {
            self.mount_tmpfs("store", "16m");
        }
        match row.ground {
            Ground::Ordinary | Ground::Stranger | Ground::StalePath => {}
            Ground::SmallDisk => self.base = self.mount_disk("tmp", 160),
            Ground::SmallOutput => {
                std::fs::create_dir(&self.out).unwrap();
                self.mount_tmpfs("out", "20k");
            }
            Ground::OwnEngine => {
                let root = self.program.path("engine");
                std::fs::create_dir(&root).unwrap();
                self.engine = Some(Engine::start(&root));
            }
            Ground::OwnSmallEngine => {
                let root = self.mount_disk("engine", 700);
                self.engine = Some(Engine::start(&root));
            }
        }
    }

    fn lay_the_backup(&mut self, row: &Row) {
        match row.dump {
            Dump::Custom | Dump::CustomInParallel => copy(&fixture("pg15/shop.dump"), &self.backup),
            Dump::DirectoryInParallel => copy(&fixture("pg15/shop.dir"), &self.backup),
            Dump::Plain => std::fs::write(&self.backup, plain(GATE)).unwrap(),
            Dump::PlainThatGrows => {
                let grow =
                    "create table public.large as select g, repeat('x', 900) from generate_series(1, 900000) g;\n";
                std::fs::write(&self.backup, plain(grow)).unwrap();
            }
            Dump::PlainThatSwells => {
                let swell = "select length(string_agg(repeat('x', 1000000), '')) from generate_series(1, 900);\n";
                std::fs::write(&self.backup, plain(swell)).unwrap();
            }
        }
        match row.ground {
            Ground::Stranger => std::fs::set_permissions(&self.backup, std::fs::Permissions::from_mode(0o600)).unwrap(),
            Ground::StalePath => std::fs::remove_dir_all(self.program.path("store")).unwrap(),
            Ground::Ordinary | Ground::SmallDisk | Ground::SmallOutput | Ground::OwnEngine | Ground::OwnSmallEngine => {
            }
        }
    }

    fn mount_tmpfs(&mut self, name: &str, size: &str) {
        let point = self.program.path(name);
        sh("mount", &["-t", "tmpfs", "-o", &format!("size={size},mode=755"), "tmpfs", &point.display().to_string()]);
        self.mounts.push(point);
    }

    /// A real file system in a file, of this many MiB.
    fn mount_disk(&mut self, name: &str, mebibytes: u64) -> PathBuf {
        let (image, point) = (self.program.path(&format!("{name}.ext4")), self.program.path(name));
        std::fs::File::create(&image).unwrap().set_len(mebibytes << 20).unwrap();
        sh("mkfs.ext4", &["-q", "-m", "0", &image.display().to_string()]);
        std::fs::create_dir(&point).unwrap();
        sh("mount", &["-o", "loop", &image.display().to_string(), &point.display().to_string()]);
        std::fs::set_permissions(&point, std::fs::Permissions::from_mode(0o1777)).unwrap();
        self.mounts.push(point.clone());
        point
    }

    pub(super) fn start(&self) -> Child {
        let out = self.out.display().to_string();
        let args = ["run", &self.scenario, "--out", &out];
        let mut command = self.program.command(&args);
        if self.stranger {
            let us = command.get_program().to_owned();
            command = Command::new("setpriv");
            command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]).arg(us).args(args);
            command.current_dir("/").stdin(Stdio::null());
            std::fs::create_dir(&self.out).unwrap();
            std::fs::set_permissions(&self.out, std::fs::Permissions::from_mode(0o777)).unwrap();
        }
        command.env("TMPDIR", &self.base).env("PGDRILL_PATIENCE_SECONDS", "20");
        if let Some(engine) = &self.engine {
            command.env("DOCKER_HOST", engine.host()).env("PGDRILL_CACHE_DIR", self.program.path("cache"));
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn events(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.out.join("events.ndjson")).unwrap_or_default();
        text.lines().filter_map(|it| serde_json::from_str(it).ok()).map(|it: Value| it["event"].clone()).collect()
    }

    /// The run, and the drill's scratch directory. None before the drill has begun.
    pub(super) fn names(&self) -> Option<(String, PathBuf)> {
        let events = self.events();
        let start = &events.first()?["asked"]["start"];
        let text = |key: &str| start[key].as_str().map(str::to_owned);
        Some((text("run")?, self.base.join(text("drill")?)))
    }

    fn scratch(&self) -> PathBuf {
        self.names().expect("the drill has begun").1
    }

    fn container(&self) -> String {
        self.scratch().file_name().unwrap().to_string_lossy().into_owned()
    }

    pub(super) fn reach(&self, moment: Moment) {
        let began = |phase: Phase| self.events().contains(&serde_json::json!({ "began": phase }));
        match moment {
            Moment::Start => {}
            Moment::BeforeRestore | Moment::MidRestore if self.has_gate() => {
                wait_for("the gate", || self.names().filter(|(_, scratch)| scratch.join("run/gate").exists()));
            }
            Moment::BeforeRestore | Moment::MidRestore => wait_for("restore", || began(Phase::Restore).then_some(())),
            // Past the look at the isolation.
            Moment::Validate => {
                let asks = || self.events().iter().any(|it| it.get("observed").is_some());
                wait_for("the check", || asks().then_some(()));
            }
        }
    }

    fn has_gate(&self) -> bool {
        let text = std::fs::read(&self.backup).unwrap_or_default();
        let holds = |text: &str| text.contains("run/gate");
        holds(&String::from_utf8_lossy(&text))
            || holds(&std::fs::read_to_string(&self.scenario).unwrap().replace("gate.sql", "run/gate"))
    }

    pub(super) fn open_the_gate(&self, act: Act) {
        // What is frozen or gone is not to go on.
        if matches!(act, Act::RemoveScratch | Act::FreezeProgram(_) | Act::PauseContainer) {
            return;
        }
        if let Some((_, scratch)) = self.names() {
            let _ = std::fs::write(scratch.join("run/go"), "go");
        }
    }

    pub(super) fn act(&mut self, act: Act) {
        match act {
            Act::Nothing => {}
            Act::TruncateBackup => {
                let file = std::fs::File::options().write(true).open(&self.backup).unwrap();
                file.set_len(file.metadata().unwrap().len() / 2).unwrap();
            }
            Act::ReplaceBackup => {
                let new = self.backup.with_extension("new");
                let text = std::fs::read(&self.backup).unwrap();
                std::fs::write(&new, text).unwrap();
                std::fs::rename(new, &self.backup).unwrap();
            }
            Act::RemoveBackup => std::fs::remove_file(&self.backup).unwrap(),
            Act::RemovePart => {
                let parts = std::fs::read_dir(&self.backup).unwrap().map(|it| it.unwrap().path());
                let part = parts.filter(|it| it.to_string_lossy().ends_with(".dat.gz")).max().unwrap();
                std::fs::remove_file(part).unwrap();
            }
            Act::UnmountStore => sh("umount", &["-l", &self.program.path("store").display().to_string()]),
            Act::RemoveScratch => std::fs::remove_dir_all(self.scratch()).unwrap(),
            Act::KillContainer => self.docker(&["kill", &self.container()]),
            Act::PauseContainer => self.docker(&["pause", &self.container()]),
            Act::LimitPids => self.docker(&["update", "--pids-limit", "1", &self.container()]),
            Act::KillProgram(name) => self.signal(name, Signal::SIGKILL),
            Act::FreezeProgram(name) => self.signal(name, Signal::SIGSTOP),
            Act::KillEngine => self.engine.as_mut().unwrap().kill(),
        }
    }

    fn docker(&self, args: &[&str]) {
        let mut command = Command::new("docker");
        if let Some(engine) = &self.engine {
            command.env("DOCKER_HOST", engine.host());
        }
        let output = command.args(args).output().unwrap();
        assert!(output.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// To every process of this name that works beneath the scratch directory of a local drill.
    fn signal(&self, name: &str, signal: Signal) {
        let scratch = self.scratch();
        let mut told = 0;
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let process = entry.path();
            let is_named = std::fs::read_to_string(process.join("comm")).is_ok_and(|it| it.trim() == name);
            let is_here = std::fs::read_link(process.join("cwd")).is_ok_and(|it| it.starts_with(&scratch));
            if let (true, true, Ok(pid)) = (is_named, is_here, entry.file_name().to_string_lossy().parse()) {
                kill(Pid::from_raw(pid), signal).unwrap();
                told += 1;
            }
        }
        assert!(told > 0, "a process {name} beneath {}", scratch.display());
    }

    /// What only the fault itself keeps from being clean.
    pub(super) fn mend(&mut self, act: Act) {
        if act == Act::KillEngine {
            // The containers of an engine that was killed go when it is back, and `clean` is what a person is told to run.
            self.engine.as_mut().unwrap().launch();
            let mut clean = self.program.command(&["clean"]);
            clean.env("TMPDIR", &self.base).env("DOCKER_HOST", self.engine.as_ref().unwrap().host());
            let _ = Ran::of(&clean.output().unwrap()).expect(0);
        }
    }

    /// What of the drill is still there.
    pub(super) fn left(&self, run: &str, scratch: &Path, find: impl Fn(&str, &[&Path]) -> Vec<String>) -> Vec<String> {
        let mut left = find(run, &[scratch]);
        if let Some(engine) = &self.engine {
            left.extend(engine.labelled(run));
        }
        left
    }

    pub(super) fn report(&self) -> Report {
        let text = std::fs::read_to_string(self.out.join("report.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        drop(self.engine.take());
        for point in self.mounts.drain(..).rev() {
            // One of them may be gone already: that was the fault.
            let _ = Command::new("umount").arg("-l").arg(&point).stderr(Stdio::null()).status();
        }
    }
}

/// A Docker engine of the test's own, with the image of PostgreSQL 15 in it.
struct Engine {
    root: PathBuf,
    daemon: Child,
}

impl Engine {
    fn start(root: &Path) -> Engine {
        let engine = Engine { root: root.to_owned(), daemon: Engine::spawn(root) };
        engine.wait();
        let load = format!("docker save pgdrill-postgres:15 | DOCKER_HOST={} docker load", engine.host());
        sh("sh", &["-c", &load]);
        engine
    }

    fn spawn(root: &Path) -> Child {
        let at = |name: &str| root.join(name).display().to_string();
        let log = std::fs::File::create(root.join("log")).unwrap();
        let mut daemon = Command::new("dockerd");
        daemon.args(["--data-root", &at("data"), "--exec-root", &at("exec"), "--pidfile", &at("pid")]);
        daemon.args(["--host", &format!("unix://{}", at("sock")), "--bridge=none", "--iptables=false"]);
        daemon.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    fn host(&self) -> String {
        format!("unix://{}", self.root.join("sock").display())
    }

    fn docker(&self, args: &[&str]) -> std::process::Output {
        Command::new("docker").args(args).env("DOCKER_HOST", self.host()).output().unwrap()
    }

    fn wait(&self) {
        wait_for("the engine", || self.docker(&["version"]).status.success().then_some(()));
    }

    fn kill(&mut self) {
        // Its containerd as well: a machine's engine is both.
        let containerd = std::fs::read_to_string(self.root.join("exec/containerd/containerd.pid")).unwrap();
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
        kill(Pid::from_raw(containerd.trim().parse().unwrap()), Signal::SIGKILL).unwrap();
    }

    fn launch(&mut self) {
        // What a machine's start would clear away: numbers of processes that are no more.
        for stale in ["pid", "exec/containerd/containerd.pid"] {
            let _ = std::fs::remove_file(self.root.join(stale));
        }
        self.daemon = Engine::spawn(&self.root);
        self.wait();
    }

    fn labelled(&self, run: &str) -> Vec<String> {
        let label = format!("label=pgdrill.run={run}");
        let mut left = String::new();
        for args in [
            &["container", "ls", "--all", "--quiet", "--filter", &label][..],
            &["volume", "ls", "--quiet", "--filter", &label],
        ] {
            let _ = write!(left, "{}", String::from_utf8_lossy(&self.docker(args).stdout));
        }
        left.lines().map(str::to_owned).collect()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let pid = i32::try_from(self.daemon.id()).unwrap();
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let _ = self.daemon.wait();
        // A daemon that was killed leaves its own mounts, which would keep the directory.
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let points = mounts.lines().filter_map(|it| it.split(' ').nth(1));
        for point in points.filter(|it| Path::new(it).starts_with(&self.root) && Path::new(it) != self.root) {
            let _ = Command::new("umount").arg("-l").arg(point).status();
        }
    }
}

fn scenario(row: &Row, backup: &Path, gate: &str) -> String {
    let jobs = if matches!(row.dump, Dump::CustomInParallel | Dump::DirectoryInParallel) { 2 } else { 1 };
    let before = if row.moment == Moment::BeforeRestore { format!("before: {gate:?}, ") } else { String::new() };
    let memory = if row.dump == Dump::PlainThatSwells { ", memory: 256m" } else { "" };
    // A server outlives its engine, and answers: only what comes after needs the engine.
    let check = match (row.moment, row.act) {
        (Moment::Validate, Act::KillEngine) => "select pg_sleep(3)",
        (Moment::Validate, _) => "select pg_sleep(600)",
        (Moment::Start | Moment::BeforeRestore | Moment::MidRestore, _) => "select 1",
    };
    let frozen = matches!(row.act, Act::PauseContainer | Act::FreezeProgram(_));
    let budgets = if frozen { "    budgets: { restore: 12s }\n" } else { "" };
    format!(
        "version: 1\ndrills:\n  - name: faulty\n    runtime: {}\n    source: {{ pg_dump: {{ path: {:?} }} }}\n    \
         restore: {{ {before}jobs: {jobs}, database: shop }}\n    postgres: {{ major: 15{memory} }}\n{budgets}    checks:\n      \
         - query: {{ name: one, sql: {check:?}, expect: not empty, timeout: 20m }}\n",
        row.runtime,
        backup.to_string_lossy()
    )
}

/// The fixture's plain dump with something in its midst and a long way to go after it.
fn plain(within: &str) -> String {
    let text = std::fs::read_to_string(fixture("pg15/shop.sql")).unwrap();
    let end = text.find("--\n-- PostgreSQL database dump complete").unwrap();
    let padding = "-- the rest is still on its way, and will be for a while: this line is only here to be long\n";
    format!("{}{within}{}{}", &text[..end], padding.repeat(PADDING_LINES), &text[end..])
}

fn copy(from: &Path, to: &Path) {
    if !from.is_dir() {
        std::fs::copy(from, to).unwrap();
        return;
    }
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn sh(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}
