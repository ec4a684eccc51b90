//! Real rooms, with the PostgreSQL of this machine. A harness cannot be re-executed, so the built program makes the rooms:
//! `cargo test` builds it, `cargo test --lib` alone takes the last one.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use super::*;
use crate::evidence::{Guarantee, Held as How};
use crate::plan::Limits;
use crate::recipe::HostCondition;
use crate::runtime::reaper::Reaper;
use crate::runtime::room::{Ended, Exec};

/// A process of these tests that holds a room until it is killed finds here where to make it.
const HOLD: &str = "PGDRILL_TEST_HOLD";

fn built() -> PathBuf {
    let harness = std::env::current_exe().unwrap();
    let exe = harness.parent().unwrap().parent().unwrap().join("pgdrill");
    assert!(exe.is_file(), "build the program first: cargo build");
    exe
}

fn settings(cgroups: &str) -> LocalSettings {
    LocalSettings { bindirs: Vec::new(), exe: built(), cgroups: cgroups.into() }
}

struct Bench {
    local: Local,
    base: tempfile::TempDir,
    lease: Lease,
}

impl Bench {
    fn new() -> Bench {
        let base = tempfile::Builder::new().prefix("t-").tempdir().unwrap();
        fs::set_permissions(base.path(), Permissions::from_mode(0o755)).unwrap();
        let lease = lease::new(base.path(), &uuid::Uuid::now_v7().to_string(), 1).unwrap();
        lease::make(&lease, lease::PATIENCE).unwrap();
        Bench { local: Local::new(settings(cgroup::ROOT)), base, lease }
    }

    /// As on a machine whose kernel forbids namespaces.
    fn bare() -> Bench {
        let bench = Bench::new();
        bench.local.isolation.set(Err(no_room("unshare: Operation not permitted"))).unwrap();
        bench
    }

    async fn spec(&self, inputs: &[&Path]) -> SandboxSpec {
        let major = *self.local.majors().keys().next_back().expect("a PostgreSQL server is installed");
        let server = self.local.server(&self.lease, major, true).await.unwrap();
        let inputs = inputs.iter().map(|it| it.to_str().unwrap().to_owned()).collect();
        SandboxSpec { server, inputs, limits: Limits::default(), own_data: false }
    }

    async fn room(&self, inputs: &[&Path]) -> LocalRoom {
        self.local.create(&self.lease, &self.spec(inputs).await).await.unwrap()
    }

    async fn release(&self) {
        let scratch = &self.lease.scratch;
        assert_eq!(self.local.release(&self.lease, false).await, [""; 0]);
        assert!(!scratch.exists() && processes::beneath(scratch).is_empty());
        assert_eq!(self.local.release(&self.lease, true).await, [""; 0], "a second release has nothing to do");
        let left: Vec<_> = fs::read_dir(self.base.path()).unwrap().map(|it| it.unwrap().path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

fn exec(argv: &[&str]) -> Exec {
    let argv = argv.iter().map(|it| (*it).to_owned()).collect();
    Exec { argv, env: BTreeMap::new(), stdin: None, on_stderr: Box::new(|_| {}) }
}

async fn sh(room: &LocalRoom, script: &str) -> Ended {
    room.exec(exec(&["/bin/sh", "-c", script])).await.unwrap()
}

/// initdb and pg_ctl, as a recipe does it.
async fn start_server(room: &LocalRoom) {
    let [bin, data, run] = [At::Bin, At::Data, At::Run].map(|it| room.path(it));
    let initdb = format!("{bin}/initdb");
    let ended = room.exec(exec(&[&initdb, "-D", &data, "-U", "postgres", "-A", "trust", "-N"])).await.unwrap();
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    let options = format!("-c listen_addresses='' -c unix_socket_directories={run}");
    let (pg_ctl, log) = (format!("{bin}/pg_ctl"), format!("{run}/server.log"));
    let start = exec(&[&pg_ctl, "-D", &data, "-o", &options, "-l", &log, "-w", "start"]);
    let ended = room.exec(start).await.unwrap();
    let log = fs::read_to_string(log).unwrap_or_default();
    assert_eq!(ended.status, 0, "{}{}{log}", ended.stderr, ended.stdout);
}

/// The first column of the answer, over the socket, from outside of the room.
async fn ask(room: &LocalRoom, sql: &str) -> String {
    let mut config = tokio_postgres::Config::new();
    config.host_path(room.path(At::Run)).user("postgres").dbname("postgres");
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let messages = client.simple_query(sql).await.unwrap();
    let row = messages.iter().find_map(|it| {
        let tokio_postgres::SimpleQueryMessage::Row(row) = it else { return None };
        row.get(0).map(str::to_owned)
    });
    row.unwrap()
}

fn held(guarantees: &[Guarantee], name: &str) -> How {
    guarantees.iter().find(|it| it.name == name).unwrap_or_else(|| panic!("{name}: {guarantees:?}")).held
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_lives_in_a_room_without_a_network_and_leaves_nothing() {
    let bench = Bench::new();
    let room = bench.room(&[]).await;
    start_server(&room).await;
    assert_eq!(ask(&room, "create table t as select 42 as n; select n from t").await, "42");
    // Programs of the server, as a restored function could start them.
    let hosts = "create temp table seen (line text); copy seen from program 'hostname; id -u'; select string_agg(line, ' ') from seen";
    assert_eq!(ask(&room, hosts).await, format!("pgdrill {}", room.user().uid));

    let seen = room.observe().await.unwrap();
    for name in [
        "no network",
        "own process table",
        "own shared memory",
        "host files hidden",
        "writes only in the room",
        "unprivileged user",
        "capabilities dropped",
        "no new privileges",
        "shared memory limited",
    ] {
        assert_eq!(held(&seen, name), How::Enforced, "{name}: {seen:#?}");
    }
    assert_eq!(held(&seen, "no TCP listener"), How::Watched, "{seen:#?}");
    assert_eq!(room.inside.lacks, [""; 0]);
    assert_eq!(room.conditions().await, []);
    bench.release().await;
    assert_eq!(room.conditions().await, [HostCondition::SandboxDied]);
    assert!(room.exec(exec(&["/bin/true"])).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_listens_is_noticed() {
    let bench = Bench::new();
    let room = bench.room(&[]).await;
    let [bin, data, run] = [At::Bin, At::Data, At::Run].map(|it| room.path(it));
    let script = format!(
        "{bin}/initdb -D {data} -A trust -N && \
         {bin}/pg_ctl -D {data} -l {run}/log -w -o '-c listen_addresses=127.0.0.1 -c port=54321 -k {run}' start"
    );
    let ended = sh(&room, &script).await;
    assert_eq!(ended.status, 0, "{ended:?}");
    let seen = room.observe().await.unwrap();
    assert_eq!(held(&seen, "no TCP listener"), How::Absent, "{seen:#?}");
    assert!(seen.iter().any(|it| it.seen.contains("54321")), "{seen:#?}");
    bench.release().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_shows_the_programs_its_inputs_and_nothing_else() {
    let bench = Bench::new();
    let host = tempfile::tempdir().unwrap();
    let (input, secret) = (host.path().join("b/shop.dump"), host.path().join("secret"));
    fs::create_dir(host.path().join("b")).unwrap();
    fs::write(&input, "dump").unwrap();
    fs::write(&secret, "secret").unwrap();
    let room = bench.room(&[&input]).await;
    let path = room.path(At::Input(0));
    let scratch = bench.lease.scratch.display();
    let refused = [
        format!("cat {}", secret.display()),
        format!("echo x > {path}"),
        "echo x > /usr/x".to_owned(),
        "echo x > /x".to_owned(),
        "mkdir /tmp/x".to_owned(),
        "cat /etc/shadow".to_owned(),
        "ls -d /home/* /root/* /run/* /var/* /srv/* /mnt/*".to_owned(),
        format!("echo x > {scratch}/x"),
        format!("kill -0 {}", std::process::id()),
    ];
    let before = room.conditions().await;
    for script in &refused {
        // The room's root directory is its owner's, who is the server's user where that is us.
        if script.ends_with(&format!("{scratch}/x")) && own_user().uid == room.user().uid {
            continue;
        }
        let ended = sh(&room, script).await;
        assert_ne!(ended.status, 0, "{script}: {ended:?}");
    }
    // Whether it may or not, the room's first process does not hear it.
    sh(&room, "kill -9 1").await;
    assert_eq!(room.conditions().await, before);
    assert_eq!(sh(&room, &format!("cat {path}")).await.stdout, "dump");
    let ended = sh(&room, &format!("pwd; echo $HOME; touch {scratch}/run/x {scratch}/data/x {scratch}/spool/x /dev/shm/x; ls /proc | grep -c '^[0-9]'")).await;
    let mut lines = ended.stdout.lines();
    assert_eq!((lines.next(), lines.next()), (Some(&*scratch.to_string()), Some(&*scratch.to_string())), "{ended:?}");
    assert!(lines.next().unwrap().parse::<u32>().unwrap() < 8, "{ended:?}");
    bench.release().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_end_as_they_end() {
    let bench = Bench::new();
    let room = bench.room(&[]).await;
    for (script, status) in [("exit 0", 0), ("exit 7", 7), ("exit 125", 125), ("kill -9 $$", 137), ("kill -15 $$", 143)]
    {
        assert_eq!(sh(&room, script).await.status, status, "{script}");
    }
    let (sender, receiver) = mpsc::channel(1);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hear = Arc::clone(&heard);
    let mut count = exec(&["/bin/sh", "-c", "wc -c; echo one >&2; echo two >&2; echo $WORD >&2"]);
    count.stdin = Some(receiver);
    count.env = BTreeMap::from([("WORD".to_owned(), "three".to_owned())]);
    count.on_stderr = Box::new(move |line| hear.lock().unwrap().push(line.to_owned()));
    let send = async move {
        for _ in 0..50 {
            sender.send(vec![b'x'; 100_000]).await.unwrap();
        }
    };
    let (ended, ()) = tokio::join!(room.exec(count), send);
    assert_eq!(ended.unwrap().stdout.trim(), "5000000");
    assert_eq!(*heard.lock().unwrap(), ["one", "two", "three"]);

    let absent = room.exec(exec(&["/no/such/program"])).await.unwrap_err();
    assert_eq!((absent.blame, absent.message.as_str()), (Blame::Host, "run /no/such/program"));
    assert!(absent.causes[0].contains("No such file"), "{absent:?}");
    bench.release().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_ends_early_stops_its_sender() {
    let bench = Bench::new();
    let room = bench.room(&[]).await;
    let (sender, receiver) = mpsc::channel(1);
    let mut early = exec(&["/usr/bin/head", "-c", "1"]);
    early.stdin = Some(receiver);
    let send = async move { while sender.send(vec![b'x'; 1 << 20]).await.is_ok() {} };
    let (ended, ()) = tokio::join!(room.exec(early), send);
    assert_eq!(ended.unwrap().stdout, "x");
    // A sender that says nothing more, and never closes, does not hold up the end.
    let (_silent, receiver) = mpsc::channel(1);
    let mut quick = exec(&["/bin/true"]);
    quick.stdin = Some(receiver);
    assert_eq!(room.exec(quick).await.unwrap().status, 0);
    bench.release().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_a_program_kills_it_with_its_children() {
    for bench in [Bench::new(), Bench::bare()] {
        let room = bench.room(&[]).await;
        let running = room.exec(exec(&["/bin/sh", "-c", "sleep 600 & sleep 600"]));
        assert!(tokio::time::timeout(Duration::from_secs(1), running).await.is_err());
        wait_for(|| programs(&bench.lease.scratch, "sleep").is_empty()).await;
        bench.release().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn release_works_whenever_it_comes() {
    let never = Bench::new();
    never.release().await;

    for patience in [0, 1, 3, 6, 12, 25] {
        let bench = Bench::new();
        let spec = bench.spec(&[]).await;
        let creating = bench.local.create(&bench.lease, &spec);
        let _ = tokio::time::timeout(Duration::from_millis(patience), creating).await;
        bench.release().await;
    }
    let unmade = Bench::new();
    let lease = lease::new(unmade.base.path(), "0", 7).unwrap();
    assert_eq!(unmade.local.release(&lease, false).await, [""; 0]);
    unmade.release().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_died_is_told() {
    let bench = Bench::new();
    let room = bench.room(&[]).await;
    start_server(&room).await;
    processes::signal(room.inside.namespaces.unwrap().init, Signal::SIGKILL);
    wait_for(|| programs(&bench.lease.scratch, "postgres").is_empty()).await;
    assert_eq!(room.conditions().await, [HostCondition::SandboxDied]);
    let fault = room.exec(exec(&["/bin/true"])).await.unwrap_err();
    assert_eq!(fault.blame, Blame::Host);
    bench.release().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_namespaces_only_a_trusted_backup_gets_a_server() {
    let bench = Bench::bare();
    let major = *bench.local.majors().keys().next_back().unwrap();
    let refused = bench.local.server(&bench.lease, major, false).await.unwrap_err();
    assert_eq!(refused.blame, Blame::Host);
    assert!(refused.hint.unwrap().contains("trust: backup"));
    let trusted = bench.spec(&[]).await;
    let other = lease::new(bench.base.path(), "0", 2).unwrap();
    assert!(bench.local.create(&other, &trusted).await.is_err(), "trust is given to one drill");

    let room = bench.local.create(&bench.lease, &trusted).await.unwrap();
    start_server(&room).await;
    assert_eq!(ask(&room, "select 42").await, "42");
    let seen = room.observe().await.unwrap();
    assert_eq!(held(&seen, "no network"), How::Absent);
    assert_eq!(held(&seen, "no TCP listener"), How::Watched);
    assert_eq!(held(&seen, "unprivileged user"), How::Enforced, "{seen:#?}");
    bench.release().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_are_described() {
    let bench = Bench::new();
    let SandboxSpec { server, .. } = bench.spec(&[]).await;
    assert!(server.version.starts_with(&server.major.to_string()), "{server:?}");
    assert!(server.extensions["plpgsql"].contains(&"1.0".to_owned()), "{:?}", server.extensions);
    assert!(server.locales.iter().any(|it| it == "C") && server.disk_free.unwrap() > 0 && server.filesystem.is_some());
    assert!(server.user.uid != 0 && server.passed_over.is_empty());
    let absent = bench.local.server(&bench.lease, 9999, false).await.unwrap_err();
    assert_eq!(absent.blame, Blame::Host);
    assert!(absent.hint.unwrap().contains("PGDRILL_BINDIR"));
    bench.release().await;
}

/// Whether this user may make control groups here.
fn may_limit() -> bool {
    nix::unistd::geteuid().is_root()
}

fn limited() -> Limits {
    Limits { memory_bytes: Some(1 << 30), cpus: Some(1), shm_bytes: 64 << 20, pids: 200 }
}

const LIMITS: [&str; 3] = ["memory limited", "processors limited", "processes limited"];

#[tokio::test(flavor = "multi_thread")]
async fn a_room_is_limited_by_control_groups_and_without_them_that_is_seen() {
    for (bench, bare) in [(Bench::new(), false), (Bench::bare(), true)] {
        let spec = SandboxSpec { limits: limited(), ..bench.spec(&[]).await };
        let room = bench.local.create(&bench.lease, &spec).await.unwrap();
        assert!(room.observe().await.unwrap().iter().any(|it| it.name == LIMITS[0] && it.held == How::Absent));
        start_server(&room).await;
        let seen = room.observe().await.unwrap();
        for name in LIMITS {
            let expected = if may_limit() { How::Enforced } else { How::Absent };
            assert_eq!(held(&seen, name), expected, "bare: {bare}, {name}: {seen:#?}");
        }
        assert_eq!(held(&seen, "shared memory limited"), if bare { How::Absent } else { How::Enforced });
        if may_limit() {
            let texts: Vec<&str> =
                seen.iter().filter(|it| LIMITS.contains(&it.name.as_str())).map(|it| it.seen.as_str()).collect();
            assert_eq!(texts, ["1073741824 bytes", "1.0 processors", "200 processes"]);
        }
        let groups = room.inside.group.directories.clone();
        assert_eq!(groups.len(), if may_limit() { 3 } else { 0 }, "{:?}", room.inside.group);
        bench.release().await;
        assert!(groups.iter().all(|it| !it.exists()));
    }
    let mut without = Bench::new();
    without.local = Local::new(settings("/nowhere"));
    let spec = SandboxSpec { limits: limited(), ..without.spec(&[]).await };
    let room = without.local.create(&without.lease, &spec).await.unwrap();
    start_server(&room).await;
    let seen = room.observe().await.unwrap();
    for name in LIMITS {
        let one = seen.iter().find(|it| it.name == name).unwrap();
        assert_eq!(one.held, How::Absent, "{one:?}");
        assert!(one.seen.contains("no control group is mounted at /nowhere"), "{one:?}");
    }
    without.release().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_needs_too_many_processes_or_too_much_memory_is_stopped_and_nobody_else_is() {
    if !may_limit() {
        return;
    }
    let bench = Bench::new();
    let limits = Limits { memory_bytes: Some(64 << 20), pids: 20, ..limited() };
    let spec = SandboxSpec { limits, ..bench.spec(&[]).await };
    let room = bench.local.create(&bench.lease, &spec).await.unwrap();
    let many = sh(&room, "i=0; while [ $i -lt 40 ]; do sleep 1 & i=$((i+1)); done; wait").await;
    assert!(many.stderr.contains("fork"), "{many:?}");
    assert_eq!(room.conditions().await, []);
    let much = sh(&room, "head -c 400000000 /dev/zero | tail -c 300000000 | wc -c").await;
    assert!(room.conditions().await.contains(&HostCondition::OutOfMemory), "{much:?}");
    bench.release().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_hold_of_a_room_that_is_taken_away_is_seen_to_be_absent() {
    let namespaces =
        ["no network", "own process table", "own shared memory", "host files hidden", "writes only in the room"];
    let bare = Bench::bare();
    let room = bare.room(&[]).await;
    start_server(&room).await;
    let seen = room.observe().await.unwrap();
    for name in namespaces {
        assert_eq!(held(&seen, name), How::Absent, "{name}: {seen:#?}");
    }
    bare.release().await;
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    // Something that may do everything stands where the server should be.
    let loose = Bench::bare();
    let room = loose.room(&[]).await;
    let data = loose.lease.scratch.join("data");
    let mut server = std::process::Command::new("sleep").arg("600").current_dir(&data).spawn().unwrap();
    fs::write(data.join("postmaster.pid"), format!("{}\n", server.id())).unwrap();
    let seen = room.observe().await.unwrap();
    for name in ["unprivileged user", "capabilities dropped", "no new privileges", "system calls filtered"] {
        assert_eq!(held(&seen, name), How::Absent, "{name}: {seen:#?}");
        assert!(!seen.iter().any(|it| it.name == name && it.seen == "no server runs"), "{name}: {seen:#?}");
    }
    server.kill().unwrap();
    server.wait().unwrap();
    loose.release().await;
    // A place to write that the room was not given.
    let open = Bench::new();
    let room = open.room(&[]).await;
    let init = room.inside.namespaces.unwrap().init.to_string();
    let mount = ["-t", &init, "-m", "--", "mount", "-t", "tmpfs", "loose", "/usr/share"];
    assert!(std::process::Command::new("nsenter").args(mount).status().unwrap().success());
    let seen = room.observe().await.unwrap();
    assert_eq!(held(&seen, "writes only in the room"), How::Absent, "{seen:#?}");
    open.release().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_left_the_directory_of_its_room_dies_with_its_control_group() {
    if !may_limit() {
        return;
    }
    let bench = Bench::bare();
    let room = bench.room(&[]).await;
    sh(&room, "cd / && exec setsid sleep 987 >/dev/null 2>&1 &").await;
    let alive = || {
        let sleeping = |pid: &u32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|it| it == b"sleep\x00987\x00");
        processes::pids().filter(sleeping).count()
    };
    wait_for(|| alive() == 1).await;
    bench.release().await;
    wait_for(|| alive() == 0).await;
}

/// Not a test: what the next ones kill.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "holds a room until it is killed"]
async fn hold() {
    let Ok(kind) = std::env::var(HOLD) else { return };
    let bench = if kind == "bare" { Bench::bare() } else { Bench::new() };
    let _reaper = (kind != "rooms").then(|| {
        let reaper = Reaper::start(&built(), &bench.lease.run).unwrap();
        reaper.watch(&bench.lease.scratch);
        reaper
    });
    let room = bench.room(&[]).await;
    start_server(&room).await;
    let _running = tokio::join!(room.exec(exec(&["/bin/sleep", "600"])), async {
        wait_for(|| !programs(&bench.lease.scratch, "sleep").is_empty()).await;
        let mut stderr = std::io::stderr();
        writeln!(stderr, "holding {}", bench.lease.scratch.display()).unwrap();
    });
}

/// Kills a process that holds a room. What it left: the scratch directory.
fn kill_holder(kind: &str) -> PathBuf {
    let mut holder = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "runtime::local::tests::hold"])
        .env(HOLD, kind)
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(holder.stderr.take().unwrap()).lines().map_while(Result::ok);
    let scratch = lines.find_map(|it| it.strip_prefix("holding ").map(PathBuf::from)).expect("a room is held");
    assert!(!programs(&scratch, "postgres").is_empty() && !programs(&scratch, "sleep").is_empty());
    holder.kill().unwrap();
    holder.wait().unwrap();
    scratch
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_die_with_a_killed_pgdrill_and_their_directory_has_lapsed() {
    let scratch = kill_holder("rooms");
    wait_for(|| processes::beneath(&scratch).is_empty()).await;
    let base = scratch.parent().unwrap();
    assert_eq!(lease::lapsed(base), [scratch.as_path()]);
    assert_eq!(lease::wipe(&scratch, KILL_PATIENCE), [""; 0]);
    fs::remove_dir(base).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reaper_leaves_nothing_of_a_killed_pgdrill() {
    for kind in ["reaped", "bare"] {
        let scratch = kill_holder(kind);
        wait_for(|| !scratch.exists() && processes::beneath(&scratch).is_empty()).await;
        fs::remove_dir(scratch.parent().unwrap()).unwrap();
    }
}

#[test]
fn the_reaper_touches_nothing_after_a_clean_end() {
    let base = tempfile::tempdir().unwrap();
    let lease = lease::new(base.path(), "0", 1).unwrap();
    lease::make(&lease, lease::PATIENCE).unwrap();
    let reaper = Reaper::start(&built(), "run-0").unwrap();
    reaper.watch(&lease.scratch);
    reaper.finish();
    assert!(lease.scratch.is_dir());
    let crashed = Reaper::start(&built(), "run-0").unwrap();
    crashed.watch(&lease.scratch);
    drop(crashed);
    let began = Instant::now();
    while lease.scratch.exists() {
        assert!(began.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The same rooms by a user without rights, where this one has them.
#[test]
fn an_ordinary_user_gets_the_same_rooms() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), Permissions::from_mode(0o755)).unwrap();
    let base = home.path().join("t");
    fs::create_dir(&base).unwrap();
    let nobody = User::from_name("nobody").unwrap().unwrap();
    let (uid, gid) = (nobody.uid.as_raw(), nobody.gid.as_raw());
    std::os::unix::fs::chown(&base, Some(uid), Some(gid)).unwrap();
    // Both may lie in a home that others cannot enter.
    fs::create_dir_all(home.path().join("deps")).unwrap();
    fs::copy(built(), home.path().join("pgdrill")).unwrap();
    let harness = home.path().join("deps/harness");
    fs::copy(std::env::current_exe().unwrap(), &harness).unwrap();
    let output = std::process::Command::new(harness)
        .args(["runtime::local::", "--skip", "an_ordinary_user"])
        .env("TMPDIR", &base)
        .current_dir("/")
        .uid(uid)
        .gid(gid)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("a_server_lives_in_a_room"), "{said}");
    let left: Vec<_> = fs::read_dir(&base).unwrap().map(|it| it.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

fn programs(scratch: &Path, name: &str) -> Vec<u32> {
    let named = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|it| it.trim() == name);
    processes::beneath(scratch).into_iter().filter(named).collect()
}

async fn wait_for(done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(30), "it did not come to pass");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
