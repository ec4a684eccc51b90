//! Container engines other than this machine's own: one behind TLS that does not see our files, and where images come from.
//!
//! The engine is a second dockerd on loopback, with certificates and storage of its own. It runs in a mount namespace in
//! which an empty file system hides the directory that drills work in: so no mount of ours can mean anything to it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Weak};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgdrill::evidence::{Evidence, Held};
use pgdrill::phase::Phase;
use pgdrill::verdict::Verdict;
use serde_json::Value;

use crate::base_matrix::{self, To};
use crate::conformance::essence;
use crate::program::{Program, Ran, copied, fixture, row_checks, truth};
use crate::signals::{Running, wait_for};
use crate::{chains, sweep, tools};

/// An engine on loopback, ended when this is dropped.
struct Engine {
    directory: tempfile::TempDir,
    daemon: Child,
    port: u16,
}

/// Shared by the tests that run at the same time.
fn engine() -> Arc<Engine> {
    static SHARED: Mutex<Weak<Engine>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let engine = Arc::new(Engine::start());
        engine.load("pgdrill-postgres:15");
        *shared = Arc::downgrade(&engine);
        engine
    })
}

fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

pub(crate) fn sh(directory: &Path, script: &str) -> String {
    run(Command::new("sh").args(["-ec", script]).current_dir(directory))
}

/// A port of loopback that nobody had a moment ago.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// An authority, and certificates by it for an engine and a client.
pub(crate) const CERTIFICATES: &str = r#"
ec="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
openssl req -x509 $ec -keyout ca-key.pem -out ca.pem -days 2 -subj "/CN=pgdrill test authority" 2>&1
sign() {
    openssl req $ec -keyout $2 -out $1.csr -subj "/CN=$1" 2>&1
    printf 'subjectAltName=IP:127.0.0.1\nextendedKeyUsage=%s\n' $3 >$1.ext
    openssl x509 -req -in $1.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 2 -out $1.pem -extfile $1.ext 2>&1
}
sign server server-key.pem serverAuth
sign cert key.pem clientAuth
"#;

impl Engine {
    fn start() -> Engine {
        let directory = tempfile::Builder::new().prefix("pgdrill-engine-").tempdir_in("/tmp").unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        for name in ["tls", "here"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        sh(&directory.path().join("tls"), CERTIFICATES);
        let port = free_port();
        let script = format!(
            "mount -t tmpfs tmpfs {here} && LISTEN_FDS=1 LISTEN_PID=$$ exec dockerd --data-root {data} --exec-root {exec} \
             --pidfile {pid} -H unix://{socket} -H fd:// --tlsverify --tlscacert {tls}/ca.pem --tlscert {tls}/server.pem \
             --tlskey {tls}/server-key.pem --bridge=none --iptables=false >{log} 2>&1",
            here = at("here"),
            data = at("data"),
            exec = at("exec"),
            pid = at("pid"),
            socket = at("docker.sock"),
            tls = at("tls"),
            log = at("log"),
        );
        // In a network of its own, with a socket that was opened in ours: an engine without a bridge removes that of another.
        let listen = format!(
            "import os, socket, sys\nlistener = socket.create_server(('127.0.0.1', {port}))\n\
             os.dup2(listener.fileno(), 3)\nos.set_inheritable(3, True)\nos.execvp('unshare', ['unshare'] + sys.argv[1:])",
        );
        let mut unshare = Command::new("python3");
        unshare.args(["-c", &listen, "--net", "--mount", "--propagation", "private", "sh", "-c", &script]);
        let daemon = unshare.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut engine = Engine { directory, daemon, port };
        wait_for("the second dockerd", || {
            let ended = engine.daemon.try_wait().unwrap();
            assert_eq!(ended, None, "{}", std::fs::read_to_string(engine.at("log")).unwrap_or_default());
            engine.docker(&["version"]).stdin(Stdio::null()).output().unwrap().status.success().then_some(())
        });
        engine
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn address(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
    }

    /// Docker's own client, through the engine's socket.
    fn docker(&self, args: &[&str]) -> Command {
        let mut docker = Command::new("docker");
        docker.arg("-H").arg(format!("unix://{}", self.at("docker.sock").display())).args(args);
        docker.env_remove("DOCKER_TLS_VERIFY").env_remove("DOCKER_CONTEXT");
        docker
    }

    fn load(&self, image: &str) {
        let socket = self.at("docker.sock").display().to_string();
        sh(Path::new("/"), &format!("docker save {image} | docker -H unix://{socket} load"));
    }

    /// pgdrill, told of this engine by the variables.
    fn program(&self) -> Program {
        self.hidden(Program::new())
            .env("DOCKER_HOST", &self.address())
            .env("DOCKER_TLS_VERIFY", "1")
            .env("DOCKER_CERT_PATH", &self.at("tls").display().to_string())
    }

    /// Works where the engine sees something else.
    fn hidden(&self, program: Program) -> Program {
        program.env("TMPDIR", &self.at("here").display().to_string())
    }

    /// What is left of a drill: other tests' drills may be there at the same time.
    fn left(&self, drill: &str) -> String {
        let mut left = String::new();
        for list in [&["ps", "--all"][..], &["volume", "ls"]] {
            let filter = format!("label=pgdrill.drill={drill}");
            left += &run(&mut self.docker(&[list, &["--quiet", "--filter", &filter]].concat()));
        }
        let scratch = self.at("here").join(drill);
        if scratch.exists() { left + &scratch.display().to_string() } else { left }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.daemon.id()).unwrap_or_default());
        let _ = kill(pid, Signal::SIGTERM);
        let _ = self.daemon.wait();
    }
}

fn evidence(program: &Program) -> Evidence {
    let text = std::fs::read_to_string(program.path("out/evidence.json")).unwrap();
    let kept: Value = serde_json::from_str(&text).unwrap();
    serde_json::from_value(kept["drills"][0].clone()).unwrap()
}

fn name(running: &Running) -> String {
    let (_, scratch) = running.names();
    scratch.file_name().unwrap().to_str().unwrap().to_owned()
}

/// A scenario in containers of major 15, with a check of every table.
fn scenario(file: &str, restore: &str, image: &str) -> String {
    let checks = row_checks(&truth(15), "shop", |_| true);
    format!(
        "version: 1\ndrills:\n  - name: same\n    runtime: container\n    source: {{ pg_dump: {{ path: \"{}\" }} }}\n    \
         restore: {{ database: shop, {restore} }}\n    postgres: {{ image: \"{image}\" }}\n    checks:\n{checks}",
        fixture(file).display(),
    )
}

#[test]
fn an_engine_that_does_not_see_our_files_gives_the_evidence_of_one_that_does() {
    let engine = engine();
    for (file, restore, same_steps) in
        [("pg15/shop.dump", "", true), ("pg15/shop.sql.gz", "", true), ("pg15/shop.dir", "jobs: 2", false)]
    {
        let text = scenario(file, restore, "pgdrill-postgres:15");
        let (home, away) = (Program::new(), engine.program());
        home.drill(&text, &[]).expect(0);
        away.drill(&text, &[]).expect(0);
        let (seen, expected) = (evidence(&away), evidence(&home));
        let (essences, report) = ([essence(&seen), essence(&expected)], away.report());
        // What needs to seek is mounted at home, and sent in a step of its own to where nothing can be mounted.
        if same_steps {
            assert_eq!(essences[0], essences[1], "{file}");
        }
        for part in ["answers", "remnants"] {
            assert_eq!(essences[0][part], essences[1][part], "{file}: {part}");
        }
        assert_eq!(report.verdict, Verdict::Passed);
        let digest = |program: &Program| program.report().drills[0].backup.as_ref().unwrap().sha256.clone().unwrap();
        assert_eq!(digest(&away), digest(&home), "{file}");
        for promise in ["no published port", "no network"] {
            let held = seen.guarantees.iter().find(|it| it.name == promise).map(|it| it.held);
            assert_eq!(held, Some(Held::Enforced), "{promise}: {:?}", seen.guarantees);
        }
        let disk = seen.guarantees.iter().find(|it| it.name == "disk limited").map(|it| it.held);
        assert_eq!(disk, Some(Held::Absent), "its disk is not ours to look at: {:?}", seen.guarantees);
        assert_eq!(engine.left(&seen.start.unwrap().drill), "");
    }
}

#[test]
fn a_sandbox_is_kept_and_entered_wherever_the_engine_is() {
    let engine = engine();
    // The guard there has this patience: what answers after it has been renewed by the keeper.
    let program = engine.program().env("PGDRILL_PATIENCE_SECONDS", "4");
    let text = scenario("pg15/shop.dump", "", "pgdrill-postgres:15").replace("equals: 120", "equals: 7");
    program.drill(&text, &["--keep", "--keep-for", "10m"]).expect(1);
    let drill = evidence(&program).start.unwrap().drill;
    let begun = std::time::Instant::now();
    wait_for("more than the guard's patience", || (begun.elapsed().as_secs() > 8).then_some(()));
    let answer = program.run(&["shell", &drill, "--", "-Atc", "select count(*) from shop.customer"]).expect(0);
    assert_eq!(answer.stdout.trim(), "120", "{answer:?}");
    program.run(&["clean", "--run", &drill]).expect(0);
    assert_eq!(engine.left(&drill), "");
}

#[test]
fn a_damaged_dump_is_blamed_on_the_backup_wherever_the_engine_is() {
    let engine = engine();
    let program = engine.program();
    let whole = std::fs::read(fixture("pg15/shop.dump")).unwrap();
    let cut = program.path("cut.dump");
    std::fs::write(&cut, &whole[..whole.len() * 9 / 10]).unwrap();
    let text = scenario("pg15/shop.dump", "", "pgdrill-postgres:15")
        .replace(&fixture("pg15/shop.dump").display().to_string(), &cut.display().to_string());
    program.drill(&text, &[]).expect(1);
    assert_eq!(engine.left(&evidence(&program).start.unwrap().drill), "");
}

/// They are unpacked over there, their WAL goes there, and what is said of them is what is said at home.
#[test]
fn base_backups_are_restored_where_the_engine_does_not_see_them() {
    let engine = engine();
    engine.load("pgdrill-postgres:17");
    for (form, to) in [("client-zstd", To::Time), ("plain", To::Name), ("tar-none", To::Latest)] {
        let (home, away) = (Program::new(), engine.program());
        let reports = [&away, &home].map(|it| base_matrix::passes_by(it, 17, form, "container", to));
        let steps = reports.each_ref().map(|it| it.phases.iter().map(|it| it.steps.len()).collect::<Vec<_>>());
        assert_eq!(steps[0], steps[1], "{form}");
        let essences = [&away, &home].map(|it| essence(&evidence(it)));
        assert_eq!(essences[0], essences[1], "{form}");
        assert_eq!(engine.left(&evidence(&away).start.unwrap().drill), "");
    }
    let (drill, _) = chains::run_by(&engine.program(), 17, "chain-plain", "immediate", [1200, 200], 0);
    assert_eq!(drill.verdict, Verdict::Passed);
    // Deltas that are applied to files over there, and a repository of which every file is compared.
    for tool in ["WAL-G 3.0.7, zstd", "pgBackRest 2.55"] {
        tools::passes_by(&engine.program(), tool);
    }
}

#[test]
fn a_damaged_base_backup_is_blamed_on_the_backup_wherever_the_engine_is() {
    let engine = engine();
    let program = engine.program();
    let (cut, lost) = (program.path("cut"), program.path("lost"));
    copied(&fixture("base/2026-11-27"), &cut);
    copied(&fixture("base/wal"), &lost);
    let archive = std::fs::read(cut.join("base.tar.zst")).unwrap();
    std::fs::write(cut.join("base.tar.zst"), &archive[..archive.len() / 2]).unwrap();
    // Known when the server asks for it.
    let segment = lost.join("00000001000000000000000E.zst");
    let bytes = std::fs::read(&segment).unwrap();
    std::fs::write(&segment, &bytes[..bytes.len() / 2]).unwrap();
    let (whole, wal) = (fixture("base/2026-11-27"), fixture("base/wal"));
    for (path, wal, because) in [(&cut, &wal, "base.tar.zst"), (&whole, &lost, "00000001000000000000000E")] {
        let text = format!(
            "version: 1\ndrills:\n  - name: cell\n    runtime: container\n    source: {{ base_backup: {{ path: {}, wal: {} }} }}\n    \
             target: {{ name: before the mistake }}\n",
            path.display(),
            wal.display()
        );
        let ran = program.drill(&text, &[]).expect(1);
        assert!(ran.folded().contains(because) && ran.folded().contains("fault: the backup"), "{}", ran.stdout);
        assert_eq!(engine.left(&evidence(&program).start.unwrap().drill), "");
    }
}

#[test]
fn a_standby_walks_where_the_engine_does_not_see_its_wal() {
    let engine = engine();
    engine.load("pgdrill-postgres:17");
    sweep::in_a_container(&engine.program(), 17);
}

#[test]
fn a_context_of_docker_leads_to_its_engine() {
    let engine = engine();
    let program = engine.hidden(Program::new());
    let config = program.path("config");
    std::fs::create_dir(&config).unwrap();
    let tls = engine.at("tls").display().to_string();
    let endpoint = format!("host={},ca={tls}/ca.pem,cert={tls}/cert.pem,key={tls}/key.pem", engine.address());
    for args in [&["context", "create", "away", "--docker", &endpoint][..], &["context", "use", "away"]] {
        run(Command::new("docker").args(args).env("DOCKER_CONFIG", &config).env_remove("DOCKER_HOST"));
    }
    let program = program.env("DOCKER_CONFIG", config.to_str().unwrap());
    let doctor = program.run(&["doctor"]);
    let expected = format!("at {}, the current context of docker, away", engine.address());
    assert!(doctor.stdout.contains(&expected), "{}", doctor.stdout);
    assert!(doctor.stdout.contains("pgdrill-postgres:15"), "{}", doctor.stdout);
    program.drill(&scenario("pg15/shop.dump", "", "pgdrill-postgres:15"), &[]).expect(0);
    let absent = Program::new().env("DOCKER_CONFIG", config.to_str().unwrap()).env("DOCKER_CONTEXT", "elsewhere");
    let doctor = absent.run(&["doctor"]);
    assert!(doctor.stdout.contains("docker context ls"), "{}", doctor.stdout);
}

#[test]
fn an_engine_without_its_certificates_is_unreachable_and_says_what_to_set() {
    let engine = engine();
    let clear = Program::new().env("DOCKER_HOST", &engine.address());
    let doctor = clear.run(&["doctor"]);
    assert!(doctor.stdout.contains("DOCKER_TLS_VERIFY=1"), "{}", doctor.stdout);
    let ran = clear.drill(&scenario("pg15/shop.dump", "", "pgdrill-postgres:15"), &[]).expect(3);
    assert!(ran.stdout.contains("DOCKER_TLS_VERIFY=1"), "{}", ran.stdout);
}

#[test]
fn a_drill_that_is_interrupted_leaves_nothing_on_the_other_engine() {
    let engine = engine();
    let running = Running::start_in(engine.program(), "container", Phase::Restore);
    running.until(Phase::Restore);
    running.signal(Signal::SIGINT);
    let drill = name(&running);
    Ran::of(&running.child.wait_with_output().unwrap()).expect(130);
    assert_eq!(engine.left(&drill), "");
}

#[test]
fn a_drill_that_is_killed_leaves_nothing_on_the_other_engine() {
    let engine = engine();
    let mut running = Running::start_in(engine.program(), "container", Phase::Restore);
    running.until(Phase::Restore);
    running.signal(Signal::SIGKILL);
    running.child.wait().unwrap();
    let drill = name(&running);
    wait_for("the reaper", || engine.left(&drill).is_empty().then_some(()));
}

#[test]
fn a_host_that_dies_leaves_nothing_on_the_other_engine() {
    let engine = engine();
    let program = engine.program().env("PGDRILL_PATIENCE_SECONDS", "4");
    let mut running = Running::start_in(program, "container", Phase::Validate);
    // Long after the patience, were the lease not renewed: a whole restore was in between.
    running.until(Phase::Validate);
    let drill = name(&running);
    // Nobody is left to clean up but the guard in the container.
    let threads = std::fs::read_dir(format!("/proc/{}/task", running.child.id())).unwrap();
    let children = threads.map(|it| std::fs::read_to_string(it.unwrap().path().join("children")).unwrap_or_default());
    let children: Vec<i32> =
        children.flat_map(|it| it.split_whitespace().map(|it| it.parse().unwrap()).collect::<Vec<_>>()).collect();
    assert!(!children.is_empty(), "the reaper runs");
    for child in children {
        kill(Pid::from_raw(child), Signal::SIGKILL).unwrap();
    }
    running.signal(Signal::SIGKILL);
    running.child.wait().unwrap();
    // Without its lease, a sweep by another drill must leave the container to the guard.
    let _ = std::fs::remove_dir_all(engine.at("here").join(&drill));
    wait_for("the guard", || engine.left(&drill).is_empty().then_some(()));
}
