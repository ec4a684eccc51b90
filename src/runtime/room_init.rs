//! What pgdrill does when it is started again by itself: the rooms of the local runtime, entered one process at a time.
//!
//! Namespaces are changed for a whole process, between fork and exec. That would take `pre_exec`, which is unsafe code;
//! so the program re-executes itself with a hidden first argument, while it still has one thread:
//!
//! ```text
//! pgdrill ── __room (unshares, then waits) ── __init (process 1 of the room: builds its file system, then reads stdin)
//!        └── __enter (joins the room's namespaces, becomes the server's user) ── initdb, pg_ctl, psql …
//! ```
//!
//! Process 1 reads from a pipe that pgdrill holds. However pgdrill ends, the pipe closes, process 1 goes, and the kernel
//! kills whatever is left in the room.
//!
//! The room sees a root directory of its own: the system's programs and libraries read-only, the room's directory
//! writable at its usual path, and nothing else. A list of what is hidden would not do: the network namespace does not
//! cover unix sockets in the file system, so a restored `dblink` could reach the production server in /run/postgresql.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use nix::fcntl::{OFlag, openat};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Gid, Pid, Uid, chdir, getppid, pivot_root, setgid, setgroups, sethostname, setuid};
use serde::{Deserialize, Serialize};

use super::cgroup;
use super::keeper::{self, KEEPER, Kept};
use super::processes::{Mount, mounts};
use super::reaper::{self, REAPER, Sweep};
use crate::recipe::RoomUser;

pub(crate) const ROOM: &str = "__room";
pub(crate) const INIT: &str = "__init";
pub(crate) const ENTER: &str = "__enter";

/// Status of `__enter` when it could not run the program; the reason is its last line on standard error.
pub(crate) const CANNOT: u8 = 125;
/// How that line begins, so that a program's own status 125 is not taken for ours.
pub(crate) const CANNOT_PREFIX: &str = "pgdrill room: ";

/// The room to make.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RoomSpec {
    /// The only directory that programs can write; seen in the room at the same path.
    pub(crate) root: PathBuf,
    /// Seen read-only.
    pub(crate) readable: Vec<Readable>,
    pub(crate) user: RoomUser,
    /// Size of /dev/shm.
    pub(crate) shm_bytes: u64,
    /// Make a user namespace: how an ordinary user gets the right to make the others.
    pub(crate) user_namespace: bool,
    /// Control groups to be in.
    pub(crate) groups: Vec<PathBuf>,
}

/// A file or directory that the room sees read-only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Readable {
    /// On the host, without symbolic links: they would be followed in the wrong root.
    pub(crate) source: PathBuf,
    pub(crate) target: PathBuf,
}

/// How to run a program in a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EnterSpec {
    /// Process whose namespaces to join: the `__room` process. None: a room without namespaces.
    pub(crate) anchor: Option<u32>,
    pub(crate) user_namespace: bool,
    pub(crate) user: RoomUser,
    /// Working directory.
    pub(crate) directory: PathBuf,
    /// Control groups to be in.
    pub(crate) groups: Vec<PathBuf>,
}

/// A line on the standard output of `__room`.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Said {
    /// Process 1 of the room has this number on the host.
    Init(u32),
    /// Programs can be run. What this kernel did not grant, and can be done without.
    Ready { lacks: Vec<String> },
    /// There will be no room.
    Failed(String),
}

/// What processes of ours do when the pgdrill that they belong to is gone, and that takes more than one thread.
pub(crate) struct Afterlife<'a> {
    /// Removes the containers and volumes of a run whose pgdrill was killed; see reaper.rs.
    pub(crate) sweep: Sweep<'a>,
    /// Keeps a sandbox; see keeper.rs.
    pub(crate) keep: &'a dyn Fn(&Kept) -> ExitCode,
}

/// Does what a re-executed pgdrill was started for, where `args` (with the program's name first) say so. `main` must call
/// it before anything else: here there must be one thread, and no runtime.
///
pub(crate) fn reexecuted(args: &[OsString], afterlife: &Afterlife<'_>) -> Option<ExitCode> {
    let (_, rest) = args.split_first()?;
    let (word, rest) = rest.split_first()?;
    match (word.to_str()?, rest) {
        (ROOM, [spec]) => Some(room(spec)),
        (INIT, [spec]) => Some(init(spec)),
        (ENTER, [spec, program @ ..]) => Some(enter(spec, program)),
        (REAPER, []) => Some(reaper::reap(afterlife.sweep)),
        (KEEPER, [kept]) => Some(keeper::asked(kept).map_or(ExitCode::FAILURE, |it| (afterlife.keep)(&it))),
        _ => None,
    }
}

fn room(spec: &OsString) -> ExitCode {
    let said = match start_room(spec) {
        Ok(mut init) => {
            say(&Said::Init(init.id()));
            let _ = init.wait();
            return ExitCode::SUCCESS;
        }
        Err(reason) => Said::Failed(reason),
    };
    say(&said);
    ExitCode::FAILURE
}

fn start_room(spec: &OsString) -> Result<std::process::Child, String> {
    let text = spec.to_str().ok_or("the room's description is not UTF-8")?;
    let parsed: RoomSpec = serde_json::from_str(text).map_err(|it| it.to_string())?;
    join_groups(&parsed.groups);
    let mut namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    if parsed.user_namespace {
        namespaces |= CloneFlags::CLONE_NEWUSER;
    }
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    unshare(namespaces).map_err(|it| format!("unshare: {}", it.desc()))?;
    if parsed.user_namespace {
        // Root within, so that process 1 keeps its rights over the room through exec. Programs are mapped back by `enter`.
        let own = File::open("/proc/self").map_err(|it| format!("open /proc/self: {it}"))?;
        map_ids(&own, &format!("0 {uid} 1"), &format!("0 {gid} 1"))?;
    }
    Command::new("/proc/self/exe")
        .arg(INIT)
        .arg(spec)
        .env_clear()
        .spawn()
        .map_err(|it| format!("start the first process of the room: {it}"))
}

/// Process 1 of the room: makes its file system, waits for the end of its standard input, and is the room's life.
fn init(spec: &OsString) -> ExitCode {
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    // Before the thread starts, so that both have it.
    let blocked = children.thread_block();
    let made = spec
        .to_str()
        .ok_or_else(|| "the room's description is not UTF-8".to_owned())
        .and_then(|text| serde_json::from_str::<RoomSpec>(text).map_err(|it| it.to_string()))
        .and_then(|spec| furnish(&spec));
    match made {
        Ok(lacks) => say(&Said::Ready { lacks }),
        Err(reason) => {
            say(&Said::Failed(reason));
            return ExitCode::FAILURE;
        }
    }
    if blocked.is_ok() {
        std::thread::spawn(move || reap(&children));
    }
    // Nothing is ever sent: only the end counts.
    let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
    ExitCode::SUCCESS
}

/// Orphans of the room become ours: a postmaster that `pg_ctl` left would stay a zombie.
fn reap(children: &SigSet) {
    while children.wait().is_ok() {
        while let Ok(status) = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            if status == WaitStatus::StillAlive {
                break;
            }
        }
    }
}

/// The system's directories that programs and libraries come from.
const SYSTEM: [&str; 9] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "nix", "gnu"];
/// What the dynamic linker, the locales and the time zones need of /etc. Everything else there is somebody's secret.
const ETC: [&str; 8] = [
    "alternatives",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "timezone",
    "locale.alias",
    "locale.conf",
];
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];

/// Builds the room's file system under /new, with the host's at /old, and moves into it. Returns what could not be had.
fn furnish(spec: &RoomSpec) -> Result<Vec<String>, String> {
    let mut lacks = Vec::new();
    let failed = |what: &str| {
        let what = what.to_owned();
        move |it: nix::errno::Errno| format!("{what}: {}", it.desc())
    };
    attach(None, Path::new("/"), None, MsFlags::MS_REC | MsFlags::MS_PRIVATE, "")?;
    if let Err(reason) = raise_loopback() {
        lacks.push(format!("loopback interface: {reason}"));
    }
    // The stage is mounted over the room's directory because that one is known to exist; the pivot uncovers it again.
    let tmpfs = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    attach(Some("tmpfs"), &spec.root, Some("tmpfs"), tmpfs, "mode=0755,size=1m")?;
    make_directories(&spec.root.join("old"))?;
    pivot_root(&spec.root, &spec.root.join("old")).map_err(failed("pivot_root"))?;
    chdir("/").map_err(failed("chdir /"))?;
    make_directories(Path::new("/new"))?;
    attach(Some("tmpfs"), Path::new("/new"), Some("tmpfs"), tmpfs, "mode=0755,size=4m")?;
    furnish_system(spec)?;
    furnish_devices(spec)?;
    make_directories(Path::new("/new/proc"))?;
    let proc = tmpfs | MsFlags::MS_NOEXEC;
    if let Err(reason) = attach(Some("proc"), Path::new("/new/proc"), Some("proc"), proc, "") {
        lacks.push(format!("process table of its own: {reason}"));
    }
    for it in &spec.readable {
        bind(&within("/old", &it.source), &within("/new", &it.target))?;
    }
    seal(&mut lacks)?;
    make_directories(&within("/new", &spec.root))?;
    let root = within("/new", &spec.root);
    bind_over(&within("/old", &spec.root), &root)?;
    chdir("/new").map_err(failed("chdir /new"))?;
    // The second half of the idiom in pivot_root(2): the old root ends up over the new one, and is taken off.
    pivot_root(".", ".").map_err(failed("pivot_root to the new root"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(failed("unmount the host's files"))?;
    chdir("/").map_err(failed("chdir /"))?;
    let sealed = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | tmpfs;
    attach(None, Path::new("/"), None, sealed, "")?;
    if let Err(error) = sethostname("pgdrill") {
        lacks.push(format!("host name of its own: {}", error.desc()));
    }
    Ok(lacks)
}

fn furnish_system(spec: &RoomSpec) -> Result<(), String> {
    for name in SYSTEM {
        let (source, target) = (Path::new("/old").join(name), Path::new("/new").join(name));
        link_or_bind(&source, &target)?;
    }
    make_directories(Path::new("/new/etc"))?;
    for name in ETC {
        link_or_bind(&Path::new("/old/etc").join(name), &Path::new("/new/etc").join(name))?;
    }
    // Names may come from LDAP on the host, which the room cannot ask; initdb insists on a name for its user.
    let RoomUser { name, uid, gid } = &spec.user;
    let home = spec.root.display();
    let passwd = format!("root:x:0:0:root:/:/bin/false\n{name}:x:{uid}:{gid}:pgdrill:{home}:/bin/false\n");
    write(Path::new("/new/etc/passwd"), &passwd)?;
    write(Path::new("/new/etc/group"), &format!("root:x:0:\n{name}:x:{gid}:\n"))?;
    write(Path::new("/new/etc/hosts"), "127.0.0.1 localhost\n::1 localhost\n")?;
    write(Path::new("/new/etc/nsswitch.conf"), "passwd: files\ngroup: files\nhosts: files\n")
}

fn furnish_devices(spec: &RoomSpec) -> Result<(), String> {
    make_directories(Path::new("/new/dev"))?;
    for name in DEVICES {
        bind(&Path::new("/old/dev").join(name), &Path::new("/new/dev").join(name))?;
    }
    for (name, target) in [("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")] {
        let link = Path::new("/new/dev").join(name);
        symlink(Path::new("/proc/self").join(target), &link).map_err(|it| format!("link {}: {it}", link.display()))?;
    }
    let shm = Path::new("/new/dev/shm");
    make_directories(shm)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    attach(Some("tmpfs"), shm, Some("tmpfs"), flags, &format!("mode=1777,size={}", spec.shm_bytes))
}

/// PostgreSQL up to 14 counts its statistics through a socket on the loopback interface, which starts down.
///
/// By sysfs where it lets us (root), since the usual ioctl is unsafe code; else by the host's `ip`, where that is there.
fn raise_loopback() -> Result<(), String> {
    let sys = Path::new("/sys");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    if attach(Some("sysfs"), sys, Some("sysfs"), flags, "").is_ok() {
        // IFF_UP | IFF_LOOPBACK, from linux/if.h.
        let raised = fs::write(sys.join("class/net/lo/flags"), "0x9");
        umount2(sys, MntFlags::MNT_DETACH).map_err(|it| format!("unmount sysfs: {}", it.desc()))?;
        if raised.is_ok() {
            return Ok(());
        }
    }
    let mut ip = Command::new("ip");
    ip.args(["link", "set", "lo", "up"]).env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin");
    let status = ip.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("ip link set lo up: {status}")),
        Err(error) => Err(format!("run ip: {error}")),
    }
}

/// Makes every mount under /new read-only, but for /proc and /dev/shm.
///
/// A recursive bind mount takes the host's flags for what is mounted below it, so each has to be visited.
fn seal(lacks: &mut Vec<String>) -> Result<(), String> {
    let seen = mounts(Path::new("/old/proc/self/mountinfo")).map_err(|it| format!("read the list of mounts: {it}"))?;
    for Mount { point, options, .. } in seen {
        let ours = ["/new", "/new/proc", "/new/dev/shm"].iter().any(|it| point == Path::new(it));
        if ours || !point.starts_with("/new") {
            continue;
        }
        let mut flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID;
        for option in options.split(',') {
            // In a user namespace the host's flags are locked: a remount must repeat them.
            flags |= match option {
                "nodev" => MsFlags::MS_NODEV,
                "noexec" => MsFlags::MS_NOEXEC,
                "noatime" => MsFlags::MS_NOATIME,
                "nodiratime" => MsFlags::MS_NODIRATIME,
                "relatime" => MsFlags::MS_RELATIME,
                _ => MsFlags::empty(),
            };
        }
        if let Err(reason) = attach(None, &point, None, flags, "") {
            lacks.push(format!("read-only {}: {reason}", point.display()));
        }
    }
    Ok(())
}

fn attach(
    source: Option<&str>,
    target: &Path,
    kind: Option<&str>,
    flags: MsFlags,
    options: &str,
) -> Result<(), String> {
    mount(source, target, kind, flags, Some(options))
        .map_err(|it| format!("mount {} at {}: {}", kind.unwrap_or("flags"), target.display(), it.desc()))
}

/// A symbolic link stays one (`/bin` → `usr/bin`); a file or directory is bound; what is absent is left out.
fn link_or_bind(source: &Path, target: &Path) -> Result<(), String> {
    let Ok(seen) = fs::symlink_metadata(source) else { return Ok(()) };
    if seen.file_type().is_symlink() {
        let to = fs::read_link(source).map_err(|it| format!("read the link {}: {it}", source.display()))?;
        return symlink(to, target).map_err(|it| format!("link {}: {it}", target.display()));
    }
    bind(source, target)
}

/// Binds `source` at `target`, unless something that was bound before shows it there already.
fn bind(source: &Path, target: &Path) -> Result<(), String> {
    if fs::symlink_metadata(target).is_ok() {
        return Ok(());
    }
    let seen = fs::metadata(source).map_err(|it| format!("look at {}: {it}", source.display()))?;
    if seen.is_dir() {
        make_directories(target)?;
    } else {
        if let Some(parent) = target.parent() {
            make_directories(parent)?;
        }
        write(target, "")?;
    }
    bind_over(source, target)
}

fn bind_over(source: &Path, target: &Path) -> Result<(), String> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .map_err(|it| format!("bind {}: {}", source.display(), it.desc()))
}

/// Mode 0755 whatever the umask: the server's user must be able to pass.
fn make_directories(path: &Path) -> Result<(), String> {
    let before = umask(Mode::from_bits_truncate(0o022));
    let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
    umask(before);
    made.map_err(|it| format!("make the directory {}: {it}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o644)))
        .map_err(|it| format!("write {}: {it}", path.display()))
}

fn within(root: &str, path: &Path) -> PathBuf {
    Path::new(root).join(path.strip_prefix("/").unwrap_or(path))
}

fn enter(spec: &OsString, argv: &[OsString]) -> ExitCode {
    match run(spec, argv) {
        Ok(status) => ExitCode::from(status),
        Err(reason) => {
            let _ = writeln!(io::stderr(), "{CANNOT_PREFIX}{reason}");
            ExitCode::from(CANNOT)
        }
    }
}

fn run(spec: &OsString, argv: &[OsString]) -> Result<u8, String> {
    let text = spec.to_str().ok_or("the description is not UTF-8")?;
    let spec: EnterSpec = serde_json::from_str(text).map_err(|it| it.to_string())?;
    let (program, rest) = argv.split_first().ok_or("no program is named")?;
    join_groups(&spec.groups);
    // Asked before joining: within the room's process table our parent has no number.
    let parent = getppid();
    if let Some(anchor) = spec.anchor {
        join(anchor, &spec)?;
    } else {
        become_user(&spec.user)?;
    }
    umask(Mode::from_bits_truncate(0o077));
    prctl::set_no_new_privs().map_err(|it| format!("give up new privileges: {}", it.desc()))?;
    let failed = |it: io::Error| format!("run {}: {it}", Path::new(program).display());
    let child = Command::new(program).args(rest).current_dir(&spec.directory).stdin(Stdio::inherit()).spawn();
    // From here on a terminal's Ctrl-C means the program, which ends or does not: it is waited for in any case.
    let _ = [Signal::SIGINT, Signal::SIGQUIT].into_iter().collect::<SigSet>().thread_block();
    if spec.anchor.is_none() {
        // Nothing else kills the program of a room without namespaces when pgdrill is killed. A thread could not be
        // started after joining a process namespace; there, process 1 sees to it.
        std::thread::spawn(move || follow(parent));
    }
    let status = child.and_then(|mut it| it.wait()).map_err(failed)?;
    let code = status.code().or_else(|| status.signal().map(|it| 128 + it)).unwrap_or(1);
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}

/// Best effort: what holds is looked at in the server, not remembered from here.
fn join_groups(groups: &[PathBuf]) {
    for group in groups {
        let _ = cgroup::join(group);
    }
}

/// Joins the namespaces of the room, ending as its user without any right over it.
fn join(anchor: u32, spec: &EnterSpec) -> Result<(), String> {
    let open = |name: &str| {
        let path = format!("/proc/{anchor}/ns/{name}");
        File::open(&path).map_err(|it| format!("open {path}: {it}"))
    };
    // Held from here: in the room, /proc shows the room's processes, and we are not among them.
    let own = File::open("/proc/self").map_err(|it| format!("open /proc/self: {it}"))?;
    let mut joins = Vec::new();
    if spec.user_namespace {
        joins.push((open("user")?, CloneFlags::CLONE_NEWUSER));
    }
    joins.push((open("mnt")?, CloneFlags::CLONE_NEWNS));
    joins.push((open("net")?, CloneFlags::CLONE_NEWNET));
    joins.push((open("ipc")?, CloneFlags::CLONE_NEWIPC));
    joins.push((open("uts")?, CloneFlags::CLONE_NEWUTS));
    joins.push((open("pid_for_children")?, CloneFlags::CLONE_NEWPID));
    for (namespace, kind) in joins {
        setns(namespace, kind).map_err(|it| format!("join the room: {}", it.desc()))?;
    }
    if !spec.user_namespace {
        return become_user(&spec.user);
    }
    // We are root of the room now, and PostgreSQL refuses to be run by root: one more namespace maps us back.
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|it| format!("unshare the user: {}", it.desc()))?;
    let RoomUser { uid, gid, .. } = spec.user;
    map_ids(&own, &format!("{uid} 0 1"), &format!("{gid} 0 1"))
}

fn become_user(user: &RoomUser) -> Result<(), String> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let failed = |it: nix::errno::Errno| format!("become {}: {}", user.name, it.desc());
    setgroups(&[]).map_err(failed)?;
    setgid(Gid::from_raw(user.gid)).map_err(failed)?;
    setuid(Uid::from_raw(user.uid)).map_err(failed)
}

/// Writes the identity maps of a user namespace that this process has just made. Format: user_namespaces(7).
fn map_ids(own: &File, uids: &str, gids: &str) -> Result<(), String> {
    // An ordinary user may map a group only after giving up setgroups.
    for (name, text) in [("setgroups", "deny"), ("uid_map", uids), ("gid_map", gids)] {
        let file = openat(own, name, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|it| format!("open /proc/self/{name}: {}", it.desc()))?;
        File::from(file).write_all(text.as_bytes()).map_err(|it| format!("write /proc/self/{name}: {it}"))?;
    }
    Ok(())
}

/// Ends our process group once `parent` is gone.
fn follow(parent: Pid) {
    while getppid() == parent {
        std::thread::sleep(Duration::from_millis(250));
    }
    let _ = killpg(Pid::from_raw(0), Signal::SIGKILL);
}

fn say(said: &Said) {
    let Ok(text) = serde_json::to_string(said) else { return };
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
}

/// Everything that `__room` said, for callers that only want to know whether rooms can be made.
pub(crate) fn heard(mut from: impl io::Read) -> Result<Vec<String>, String> {
    let mut text = String::new();
    from.by_ref().take(64 << 10).read_to_string(&mut text).map_err(|it| it.to_string())?;
    for line in text.as_bytes().lines().map_while(Result::ok) {
        match serde_json::from_str(&line) {
            Ok(Said::Init(_)) => {}
            Ok(Said::Ready { lacks }) => return Ok(lacks),
            Ok(Said::Failed(reason)) => return Err(reason),
            Err(error) => return Err(format!("{error} in {line:?}")),
        }
    }
    Err("it ended without a word".to_owned())
}
