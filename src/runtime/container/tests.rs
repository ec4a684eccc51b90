//! Against the engine of this machine, with the images `pgdrill-postgres:NN` of fixtures/images. Without them these fail.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tempfile::TempDir;
use testcontainers::bollard::query_parameters::{InspectContainerOptions, KillContainerOptionsBuilder};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::super::room::{Ended, Exec};
use super::*;
use crate::evidence::Held;
use crate::plan::Limits;
use crate::recipe::{At, HostCondition};

/// Connections belong to the runtime that made them, and testcontainers shares one client between all who ask.
static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| tokio::runtime::Runtime::new().unwrap());

/// Held by tests with a lease that lapses: a sweep would take another one's.
static LAPSING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A drill's worth of things.
struct Bench {
    container: Container,
    lease: Lease,
    _directory: TempDir,
}

impl Bench {
    fn new(patience: u64) -> Bench {
        let directory = tempfile::Builder::new().prefix("pgdrill-test-").tempdir().unwrap();
        let settings = ContainerSettings {
            cache_dir: directory.path().join("cache"),
            patience: Duration::from_secs(patience),
            docker: DockerEnvironment::default(),
        };
        let id = uuid::Uuid::now_v7().simple().to_string();
        let scratch = directory.path().join("s");
        std::fs::create_dir_all(scratch.join("run")).unwrap();
        std::fs::write(scratch.join("run/lease"), "0").unwrap();
        let lease = Lease { run: format!("test-{id}"), drill: format!("test-{id}-1"), scratch };
        Bench { container: Container::new(settings), lease, _directory: directory }
    }

    async fn spec(&self, major: u32) -> SandboxSpec {
        let image = Some("pgdrill-postgres:{major}");
        let server = self.container.server(&self.lease, major, image, &quiet()).await.unwrap();
        let limits = Limits { memory_bytes: Some(512 << 20), cpus: Some(1), shm_bytes: 64 << 20, pids: 256 };
        SandboxSpec { server, inputs: Vec::new(), limits, own_data: false }
    }

    async fn room(&self, major: u32) -> ContainerRoom {
        self.container.create(&self.lease, &self.spec(major).await, &quiet()).await.unwrap()
    }

    /// What the engine has with this drill's label, asked without our own code.
    fn left(&self) -> String {
        let label = format!("label={LABEL_DRILL}={}", self.lease.drill);
        let list = |args: &[&str]| {
            let done = Command::new("docker").args(args).args(["-q", "--filter", &label]).output().unwrap();
            assert!(done.status.success(), "docker {args:?}");
            String::from_utf8(done.stdout).unwrap()
        };
        list(&["ps", "-a"]) + &list(&["volume", "ls"])
    }

    async fn release(&self) {
        assert_eq!(self.container.release(&self.lease, false).await, [""; 0]);
        assert_eq!(self.left(), "");
    }
}

fn quiet() -> Watcher {
    Arc::new(|_| {})
}

fn exec(argv: &[&str]) -> Exec {
    let argv = argv.iter().map(|it| (*it).to_owned()).collect();
    Exec { argv, env: BTreeMap::new(), stdin: None, on_stderr: Box::new(|_| {}) }
}

fn sh(script: &str) -> Exec {
    exec(&["/bin/sh", "-c", script])
}

impl ContainerRoom {
    async fn run(&self, program: &str, args: &[&str]) -> Ended {
        let program = format!("{}/{program}", self.path(At::Bin));
        let ended = self.exec(exec(&[&[program.as_str()], args].concat())).await.unwrap();
        assert_eq!(ended.status, 0, "{program}: {}{}", ended.stdout, ended.stderr);
        ended
    }
}

/// Gives a file to a program's standard input, as a restore does.
fn stream(path: &Path) -> mpsc::Receiver<Vec<u8>> {
    let bytes = std::fs::read(path).unwrap();
    let (send, receive) = mpsc::channel(2);
    tokio::spawn(async move {
        for chunk in bytes.chunks(1000) {
            if send.send(chunk.to_vec()).await.is_err() {
                return;
            }
        }
    });
    receive
}

async fn select(bench: &Bench, database: &str, sql: &str) -> String {
    let host = bench.lease.scratch.join("run");
    let mut config = tokio_postgres::Config::new();
    config.host_path(&host).user("postgres").dbname(database);
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    let driving = tokio::spawn(connection);
    let value: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
    driving.abort();
    value.to_string()
}

async fn a_whole_drill(major: u32) {
    let bench = Bench::new(600);
    let mut spec = bench.spec(major).await;
    let backup = bench.lease.scratch.join("backup.sql");
    std::fs::write(&backup, "select 1;").unwrap();
    spec.inputs = vec![backup.to_str().unwrap().to_owned()];
    assert_eq!(crate::format::major_of(&spec.server.version), Some(major));
    assert_eq!(spec.server.user.name, "postgres");
    assert!(spec.server.extensions["plpgsql"].contains(&"1.0".to_owned()), "{:?}", spec.server.extensions);
    assert!(spec.server.locales.iter().any(|it| it.starts_with("en_US")), "{:?}", spec.server.locales);
    assert!(spec.server.disk_free.is_some() && spec.server.filesystem.is_some());

    let room = bench.container.create(&bench.lease, &spec, &quiet()).await.unwrap();
    let (data, run, spool) = (room.path(At::Data), room.path(At::Run), room.path(At::Spool));
    room.run("initdb", &["-D", &data, "-U", "postgres", "-A", "trust", "--locale=C.UTF-8", "-N"]).await;
    let options = format!("-c listen_addresses= -c unix_socket_directories={run} -c fsync=off");
    let log = format!("{run}/log");
    room.run("pg_ctl", &["start", "-w", "-D", &data, "-l", &log, "-o", &options]).await;
    assert_eq!(select(&bench, "postgres", "select 1::bigint").await, "1");

    let psql = ["-h", run.as_str(), "-U", "postgres", "-v", "ON_ERROR_STOP=1"];
    let make = "create table t as select i, md5(i::text) from generate_series(1, 50000) i";
    room.run("psql", &[&psql[..], &["-c", make]].concat()).await;
    let dump = format!("{spool}/t.dump");
    room.run("pg_dump", &["-h", &run, "-U", "postgres", "-Fc", "-f", &dump]).await;
    room.run("createdb", &["-h", &run, "-U", "postgres", "restored"]).await;
    let program = format!("{}/pg_restore", room.path(At::Bin));
    let mut restore = exec(&[&program, "-v", "-h", &run, "-U", "postgres", "-d", "restored"]);
    restore.stdin = Some(stream(&bench.lease.scratch.join("spool/t.dump")));
    let (tell, mut told) = mpsc::unbounded_channel();
    restore.on_stderr = Box::new(move |line| drop(tell.send(line.to_owned())));
    let ended = room.exec(restore).await.unwrap();
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    let mut lines = Vec::new();
    while let Ok(line) = told.try_recv() {
        lines.push(line);
    }
    assert!(lines.iter().any(|it| it.contains("processing data for table")), "{lines:?}");
    assert_eq!(lines.join("\n"), ended.stderr.trim_end());
    assert_eq!(select(&bench, "restored", "select count(*) from t").await, "50000");

    let format = "{{range .Mounts}}{{if eq .Type \"volume\"}}{{println .Name}}{{end}}{{end}}";
    let mounted = Command::new("docker").args(["inspect", "-f", format, &room.name]).output().unwrap();
    let mounted = String::from_utf8(mounted.stdout).unwrap();
    let unlabelled: Vec<&str> = mounted.split_whitespace().filter(|it| !bench.left().contains(it)).collect();
    assert!(!mounted.trim().is_empty() && unlabelled.is_empty(), "a sweep would not find {unlabelled:?} of {mounted}");

    let guarantees = room.observe().await.unwrap();
    let absent: Vec<_> = guarantees.iter().filter(|it| it.held == Held::Absent).collect();
    assert!(absent.is_empty() && guarantees.len() == 12, "{guarantees:?}");
    let input = room.path(At::Input(0));
    assert_eq!(room.exec(exec(&["/bin/cat", &input])).await.unwrap().stdout, "select 1;");
    assert_ne!(room.exec(sh(&format!("echo x >>{input}"))).await.unwrap().status, 0);
    assert_eq!(room.conditions().await, []);
    bench.release().await;
    assert_eq!(room.conditions().await, [HostCondition::SandboxDied]);
}

#[test]
fn engine_a_whole_drill_on_13_leaves_nothing() {
    RUNTIME.block_on(a_whole_drill(13));
}

#[test]
fn engine_a_whole_drill_on_15_leaves_nothing() {
    RUNTIME.block_on(a_whole_drill(15));
}

#[test]
fn engine_a_whole_drill_on_17_leaves_nothing() {
    RUNTIME.block_on(a_whole_drill(17));
}

#[test]
fn engine_a_whole_drill_on_18_leaves_nothing() {
    RUNTIME.block_on(a_whole_drill(18));
}

/// A hold that is taken away from a real container, and the one promise that then must be seen broken.
#[test]
fn engine_a_hold_that_is_taken_away_is_seen_to_be_absent() {
    let cases: [(room::Adjust, &[&str]); 10] = [
        (|_| (), &[]),
        (|it| it.network_mode = Some("host".to_owned()), &["no network"]),
        (|it| it.cap_drop = None, &["capabilities dropped"]),
        (|it| it.security_opt = None, &["no new privileges"]),
        (
            |it| it.security_opt.get_or_insert_default().push("seccomp=unconfined".to_owned()),
            &["system calls filtered"],
        ),
        (|it| (it.memory, it.memory_swap) = (None, None), &["memory limited"]),
        (|it| it.nano_cpus = None, &["processors limited"]),
        (|it| it.pids_limit = Some(-1), &["processes limited"]),
        (|it| it.ipc_mode = Some("host".to_owned()), &["shared memory limited"]),
        (
            |it| {
                let inputs = it.mounts.iter_mut().flatten().filter(|it| it.read_only == Some(true));
                inputs.for_each(|it| it.read_only = Some(false));
            },
            &["backup read-only"],
        ),
    ];
    RUNTIME.block_on(async {
        for (number, (adjust, expected)) in cases.into_iter().enumerate() {
            let bench = Bench::new(600);
            let mut spec = bench.spec(17).await;
            let backup = bench.lease.scratch.join("backup.sql");
            std::fs::write(&backup, "select 1;").unwrap();
            spec.inputs = vec![backup.to_str().unwrap().to_owned()];
            assert_eq!(absent(&bench, &spec, adjust).await, expected, "case {number}");
            bench.release().await;
        }
        let bench = Bench::new(600);
        let mut spec = bench.spec(17).await;
        spec.server.user = crate::recipe::RoomUser { name: "root".to_owned(), uid: 0, gid: 0 };
        assert_eq!(absent(&bench, &spec, |_| ()).await, ["unprivileged user"]);
        bench.release().await;
    });
}

/// A network of a test's own, removed with it: the engine's default one may have lost its bridge to another engine.
struct Network(String);

impl Drop for Network {
    fn drop(&mut self) {
        drop(Command::new("docker").args(["network", "rm", &self.0]).output());
    }
}

#[test]
fn engine_a_published_port_is_seen_to_be_published() {
    let docker = |args: &[&str]| {
        let done = Command::new("docker").args(args).output().unwrap();
        assert!(done.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    };
    RUNTIME.block_on(async {
        let bench = Bench::new(600);
        let label = format!("{LABEL_DRILL}={}", bench.lease.drill);
        let network = Network(docker(&["network", "create", &format!("pgdrill-{}", bench.lease.drill)]));
        let run = ["run", "--detach", "--network", &network.0, "--publish", "127.0.0.1::5432", "--label", &label];
        let id = docker(&[&run[..], &["pgdrill-postgres:17", "sleep", "60"]].concat());
        let client = bench.container.connect().await.unwrap().docker.clone();
        let inspected = client.inspect_container(&id, None::<InspectContainerOptions>).await.unwrap();
        let seen = look::guarantees("", &inspected, &Limits::default(), 0);
        let ports = seen.iter().find(|it| it.name == "no published port").unwrap();
        assert_eq!((ports.held, ports.seen.as_str()), (Held::Absent, "5432/tcp"));
        bench.release().await;
    });
}

/// The promises that do not hold in a container that is made so, by its whole way from engine to guarantee.
async fn absent(bench: &Bench, spec: &SandboxSpec, adjust: room::Adjust) -> Vec<String> {
    let engine = bench.container.connect().await.unwrap().clone();
    let (lease, spec_) = (bench.lease.clone(), spec.clone());
    let making = async move { room::make(engine, &lease, &spec_, Duration::from_secs(600), adjust).await };
    let room = bench.container.own(&bench.lease, making).await.unwrap();
    let seen = room.observe().await.unwrap();
    seen.into_iter().filter(|it| it.held == Held::Absent).map(|it| it.name).collect()
}

#[test]
fn engine_a_creation_dropped_at_any_moment_leaves_nothing() {
    RUNTIME.block_on(async {
        for millis in [0, 5, 20, 60, 120, 200, 300, 450] {
            let bench = Bench::new(600);
            let spec = bench.spec(17).await;
            let watch = quiet();
            let creation = bench.container.create(&bench.lease, &spec, &watch);
            drop(tokio::time::timeout(Duration::from_millis(millis), creation).await);
            bench.release().await;
            bench.release().await;
        }
    });
}

#[test]
fn engine_a_look_into_an_image_dropped_half_way_leaves_nothing() {
    RUNTIME.block_on(async {
        for millis in [10, 60, 150, 300] {
            let bench = Bench::new(600);
            drop(tokio::time::timeout(Duration::from_millis(millis), bench.spec(15)).await);
            bench.release().await;
        }
    });
}

#[test]
fn engine_a_container_killed_in_mid_exec_is_the_hosts_fault() {
    RUNTIME.block_on(async {
        let bench = Bench::new(600);
        let room = bench.room(17).await;
        let docker = bench.container.connect().await.unwrap().docker.clone();
        let kill = async {
            // The program says that it runs before it is shot.
            while !bench.lease.scratch.join("run/started").exists() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let options = KillContainerOptionsBuilder::new().signal("KILL").build();
            docker.kill_container(&container_name(&bench.lease), Some(options)).await.unwrap();
        };
        let (ended, ()) = tokio::join!(room.exec(sh("touch /pgdrill/run/started; exec sleep 60")), kill);
        let fault = ended.unwrap_err();
        assert_eq!(fault.blame, Blame::Host);
        assert_eq!(fault.causes, ["it ended with status 137"], "{fault:?}");
        let again = room.exec(sh("true")).await.unwrap_err();
        assert_eq!((again.blame, again.causes), (Blame::Host, fault.causes));
        assert_eq!(room.conditions().await, [HostCondition::SandboxDied]);
        bench.release().await;
    });
}

#[test]
fn engine_want_of_memory_is_noticed() {
    RUNTIME.block_on(async {
        let bench = Bench::new(600);
        let mut spec = bench.spec(17).await;
        spec.limits.memory_bytes = Some(48 << 20);
        let room = bench.container.create(&bench.lease, &spec, &quiet()).await.unwrap();
        let ended = room.exec(sh("head -c 400000000 /dev/zero | tail -c 300000000 | wc -c")).await;
        let deadline = Instant::now() + Duration::from_secs(5);
        while !room.conditions().await.contains(&HostCondition::OutOfMemory) {
            assert!(Instant::now() < deadline, "{ended:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bench.release().await;
    });
}

#[test]
fn engine_programs_are_fed_and_heard_and_their_end_is_known() {
    RUNTIME.block_on(async {
        let bench = Bench::new(600);
        let room = bench.room(17).await;
        let status = |ended: Result<Ended, Fault>| ended.unwrap().status;
        assert_eq!(status(room.exec(sh("exit 3")).await), 3);
        assert_eq!(status(room.exec(sh("kill -TERM $$")).await), 143);
        assert_eq!(status(room.exec(sh("kill -KILL $$")).await), 137);
        assert_eq!(room.exec(sh("id -u; pwd; cat")).await.unwrap().stdout, "999\n/pgdrill\n");

        let mut with_env = sh("echo $GREETING");
        with_env.env.insert("GREETING".to_owned(), "hola ñ".to_owned());
        assert_eq!(room.exec(with_env).await.unwrap().stdout, "hola ñ\n");

        let much = room.exec(sh("seq 1 100000; seq 1 100000 >&2")).await.unwrap();
        for output in [much.stdout, much.stderr] {
            assert!(output.len() < 17 * 1024, "{}", output.len());
            assert!(output.starts_with("1\n2\n") && output.ends_with("99999\n100000\n"));
        }

        let missing = room.exec(exec(&["/no/such/program"])).await.unwrap_err();
        assert_eq!(missing.blame, Blame::Host);
        assert!(missing.line().contains("/no/such/program"), "{}", missing.line());
        bench.release().await;
    });
}

#[test]
fn engine_standard_input_is_not_faster_than_its_reader_and_ends_with_it() {
    const CHUNK: usize = 64 * 1024;
    RUNTIME.block_on(async {
        let bench = Bench::new(600);
        let room = bench.room(17).await;
        let feed = |total: usize| {
            let (send, receive) = mpsc::channel(2);
            let sending = tokio::spawn(async move {
                for number in 0..total {
                    if send.send(vec![b'x'; CHUNK]).await.is_err() {
                        return number;
                    }
                }
                total
            });
            (receive, sending)
        };
        let mut count = sh("wc -c");
        let (receive, _) = feed(1000);
        count.stdin = Some(receive);
        assert_eq!(room.exec(count).await.unwrap().stdout.trim(), (1000 * CHUNK).to_string());

        let mut little = sh("head -c 10 >/dev/null; exit 5");
        let (receive, sending) = feed(100_000);
        little.stdin = Some(receive);
        assert_eq!(room.exec(little).await.unwrap().status, 5);
        let sent = tokio::time::timeout(Duration::from_secs(5), sending).await.unwrap().unwrap();
        assert!(sent < 1000, "{sent} chunks were sent to a program that read 10 bytes");
        bench.release().await;
    });
}

#[test]
fn engine_the_guard_ends_a_sandbox_whose_lease_is_not_renewed() {
    RUNTIME.block_on(async {
        let _alone = LAPSING.lock().await;
        let bench = Bench::new(3);
        let lease = bench.lease.scratch.join("run/lease");
        let renewing = tokio::spawn(async move {
            for renewal in 0.. {
                std::fs::write(&lease, renewal.to_string()).unwrap();
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        });
        let room = bench.room(17).await;
        room.run("initdb", &["-D", &room.path(At::Data), "-N"]).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(
            room.exec(sh("true")).await.unwrap().status,
            0,
            "the lease was renewed for longer than the patience"
        );
        renewing.abort();
        let fault = room.exec(sh("sleep 60")).await.unwrap_err();
        assert!(fault.line().contains("the lease was not renewed for 3 s"), "{}", fault.line());
        let deadline = Instant::now() + Duration::from_secs(10);
        while !bench.left().is_empty() {
            assert!(Instant::now() < deadline, "left: {}", bench.left());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bench.release().await;
    });
}

#[test]
fn engine_sweeping_takes_a_run_or_what_lapsed_and_nothing_else() {
    RUNTIME.block_on(async {
        let _alone = LAPSING.lock().await;
        let (alive, dead) = (Bench::new(600), Bench::new(600));
        let (room, _other) = (alive.room(15).await, dead.room(15).await);
        let old = std::time::SystemTime::now() - Duration::from_secs(700);
        std::fs::File::options()
            .write(true)
            .open(dead.lease.scratch.join("run/lease"))
            .unwrap()
            .set_modified(old)
            .unwrap();
        // Another process does this: it knows of neither.
        let sweeper = Bench::new(600).container;
        let swept = sweeper.sweep(Sweep::Lapsed { scratches: Vec::new() }).await.unwrap();
        assert_eq!(swept.remnants, [""; 0]);
        assert!(swept.removed.contains(&format!("container {}", container_name(&dead.lease))), "{swept:?}");
        assert_eq!(dead.left(), "");
        assert_eq!(room.exec(sh("true")).await.unwrap().status, 0);
        let swept = sweeper.sweep(Sweep::Run { run: alive.lease.run.clone(), except: Vec::new() }).await.unwrap();
        assert_eq!(swept.removed.len(), 3, "a container, its volume and its image's: {swept:?}");
        assert_eq!(alive.left(), "");
    });
}

#[test]
fn engine_an_image_that_cannot_serve_is_refused_with_its_reason() {
    RUNTIME.block_on(async {
        let bench = Bench::new(600);
        let server = async |major, image| bench.container.server(&bench.lease, major, Some(image), &quiet()).await;
        let other = server(17, "pgdrill-postgres:15").await.unwrap_err();
        assert_eq!(other.blame, Blame::Scenario);
        assert!(other.line().contains("it has 15.") && other.line().contains("17 is needed"), "{}", other.line());
        let absent = server(17, "localhost:1/no-such-image:{major}").await.unwrap_err();
        assert_eq!(absent.blame, Blame::Host);
        assert!(absent.message.contains("pull the image localhost:1/no-such-image:17"), "{absent:?}");
        assert!(absent.hint.is_some());
        bench.release().await;
    });
}

#[test]
fn engine_facts_are_quick_the_second_time() {
    RUNTIME.block_on(async {
        let bench = Bench::new(600);
        let first = bench.spec(17).await.server;
        let again = Container::new(bench.container.settings.clone());
        let began = Instant::now();
        let server = again.server(&bench.lease, 17, Some("pgdrill-postgres:{major}"), &quiet()).await.unwrap();
        let warm = began.elapsed();
        let began = Instant::now();
        let room = bench.container.create(&bench.lease, &bench.spec(17).await, &quiet()).await.unwrap();
        let create = began.elapsed();
        assert_eq!((server.version, server.extensions), (first.version, first.extensions));
        // On a quiet machine 30 ms and 700 ms; the limits are for a busy one.
        assert!(warm < Duration::from_millis(500) && create < Duration::from_secs(10), "{warm:?} {create:?}");
        let images = again.images().await.unwrap();
        assert!(images.iter().any(|it| it.reference == "pgdrill-postgres:17" && it.major == Some(17)), "{images:?}");
        drop(room);
        bench.release().await;
    });
}

#[test]
fn engine_something_of_ours_that_nobody_made_here_is_released_by_name_alone() {
    RUNTIME.block_on(async {
        let bench = Bench::new(600);
        drop(bench.room(17).await);
        let other = Container::new(bench.container.settings.clone());
        other.engine().await.unwrap();
        assert_eq!(other.release(&bench.lease, true).await, [""; 0]);
        assert_eq!(bench.left(), "");
    });
}

#[test]
fn a_runtime_that_never_connected_has_nothing_to_release() {
    RUNTIME.block_on(async {
        let bench = Bench::new(600);
        let began = Instant::now();
        assert_eq!(bench.container.release(&bench.lease, false).await, [""; 0]);
        assert!(began.elapsed() < Duration::from_millis(100));
    });
}

mod guard {
    use super::*;

    /// The guard as a program of this machine, watching a directory of its own.
    struct Watched {
        directory: TempDir,
        child: std::process::Child,
    }

    impl Watched {
        fn start(patience: &str) -> Watched {
            let directory = tempfile::tempdir().unwrap();
            let program = directory.path().join("guard");
            // Closed before it is run: a program open for writing cannot be.
            std::fs::write(&program, room::GUARD).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(&program, mode).unwrap();
            std::fs::create_dir_all(directory.path().join("data/base/1")).unwrap();
            std::fs::write(directory.path().join("data/base/1/1259"), "rows").unwrap();
            std::os::unix::fs::symlink("/etc", directory.path().join("data/link")).unwrap();
            let args = [directory.path().join("lease"), patience.into(), directory.path().join("data")];
            let mut spawned = Command::new(&program).args(&args).spawn();
            // Another test's fork may hold the file open for a moment.
            while matches!(&spawned, Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy) {
                spawned = Command::new(&program).args(&args).spawn();
            }
            let child = spawned.unwrap();
            Watched { directory, child }
        }

        fn data(&self) -> Vec<std::path::PathBuf> {
            let entries = std::fs::read_dir(self.directory.path().join("data")).unwrap();
            entries.map(|it| it.unwrap().path()).collect()
        }
    }

    #[test]
    fn guard_wipes_when_the_lease_stops_changing_and_not_before() {
        let mut watched = Watched::start("2");
        for renewal in 0..8 {
            std::fs::write(watched.directory.path().join("lease"), renewal.to_string()).unwrap();
            std::thread::sleep(Duration::from_millis(500));
            assert_eq!(watched.child.try_wait().unwrap(), None, "after renewal {renewal}");
        }
        assert_eq!(watched.data().len(), 2);
        assert_eq!(watched.child.wait().unwrap().code(), Some(75));
        assert_eq!(watched.data(), [""; 0].map(std::path::PathBuf::from));
        assert!(Path::new("/etc/passwd").exists(), "a link is removed, not what it leads to");
    }

    #[test]
    fn guard_takes_a_missing_lease_for_one_that_does_not_change() {
        let mut watched = Watched::start("1");
        assert_eq!(watched.child.wait().unwrap().code(), Some(75));
        assert!(watched.data().is_empty());
    }

    #[test]
    fn guard_that_is_called_wrongly_touches_nothing() {
        let mut watched = Watched::start("soon");
        assert_eq!(watched.child.wait().unwrap().code(), Some(64));
        assert_eq!(watched.data().len(), 2);
    }
}
