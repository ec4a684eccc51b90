//! The runtime without an engine: PostgreSQL's programs of this machine, in rooms made of namespaces.
//!
//! How a room is made and entered is in [`room_init`]; here is who makes it, what it can run, and how it goes away.

mod exec;
mod observe;
mod programs;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, DirBuilder, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::User;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::OnceCell;

pub(crate) use self::exec::LocalDoor;
pub(crate) use self::programs::LocalPrograms;
use super::cgroup::{self, Group};
use super::room_init::{self, Readable, RoomSpec, Said};
use super::{Lease, host, lease, processes};
use crate::fault::{Blame, Fault};
use crate::plan::{Limits, SandboxSpec};
use crate::recipe::{At, RoomUser, ServerFacts};

/// How long the kernel may take to end what runs in a room.
const KILL_PATIENCE: Duration = Duration::from_secs(20);
/// How long a room may take to be made: a few milliseconds on an idle machine.
const MAKE_PATIENCE: Duration = Duration::from_secs(30);
const SHM_DEFAULT: u64 = 256 << 20;

/// Values that come from the environment.
#[derive(Clone, Debug)]
pub(crate) struct LocalSettings {
    /// Directories to look for PostgreSQL's programs in, before the usual places: of `PGDRILL_BINDIR`, then of `PATH`.
    pub(crate) bindirs: Vec<PathBuf>,
    /// This program, to be started again.
    pub(crate) exe: PathBuf,
    /// Where control groups are mounted.
    pub(crate) cgroups: PathBuf,
}

#[derive(Debug)]
pub(crate) struct Local {
    settings: LocalSettings,
    majors: OnceLock<BTreeMap<u32, LocalPrograms>>,
    /// What a room here would lack, or why there can be none.
    isolation: OnceCell<Result<Vec<String>, Fault>>,
    /// By drill. Locked while a room is being made, so that release waits for it.
    slots: Mutex<HashMap<String, Slot>>,
    /// Drills whose backup is trusted enough to be restored without namespaces.
    trusted: Mutex<HashSet<String>>,
}

type Slot = Arc<tokio::sync::Mutex<Option<Held>>>;

/// A room that is there. Dropping it ends the room too, without waiting.
#[derive(Debug)]
struct Held {
    inside: Arc<Inside>,
    /// The `__room` process; its standard input is what keeps the room alive. None: no namespaces.
    keeper: Option<Child>,
}

/// What is known about a room.
#[derive(Debug)]
pub(super) struct Inside {
    exe: PathBuf,
    root: PathBuf,
    bindir: PathBuf,
    inputs: Vec<PathBuf>,
    user: RoomUser,
    /// Locale for messages and for programs that do not say.
    locale: String,
    namespaces: Option<Namespaces>,
    /// What this kernel did not grant.
    lacks: Vec<String>,
    /// What limits the room, and what was to limit it.
    group: Group,
    limits: Limits,
    /// Out-of-memory kills when the room was made.
    oom_kills: u64,
    released: AtomicBool,
}

#[derive(Clone, Copy, Debug)]
struct Namespaces {
    /// The `__room` process, which holds all of them.
    anchor: u32,
    /// Process 1 of the room, by its number on the host.
    init: u32,
    user: bool,
}

/// A room of the local runtime.
#[derive(Clone, Debug)]
pub(crate) struct LocalRoom {
    inside: Arc<Inside>,
}

impl Local {
    pub(crate) fn new(settings: LocalSettings) -> Local {
        Local {
            settings,
            majors: OnceLock::new(),
            isolation: OnceCell::new(),
            slots: Mutex::default(),
            trusted: Mutex::default(),
        }
    }

    /// The PostgreSQL installations of this machine, the first found of each major. Blocks the first time, some 20 ms.
    pub(crate) fn majors(&self) -> BTreeMap<u32, LocalPrograms> {
        self.majors.get_or_init(|| programs::find(&self.settings.bindirs)).clone()
    }

    /// What a room here would lack, or why none can be made. Tried once, in a directory of its own beneath this one.
    pub(crate) async fn isolation(&self, base: &Path) -> Result<Vec<String>, Fault> {
        self.isolation.get_or_init(|| probe(&self.settings.exe, base)).await.clone()
    }

    /// The server of this major that could run a drill. Without namespaces only a `trusted` backup gets one.
    pub(crate) async fn server(&self, lease: &Lease, major: u32, trusted: bool) -> Result<ServerFacts, Fault> {
        let base = lease.scratch.parent().unwrap_or(Path::new("/"));
        // In the drill's own directory: what a kill in mid-try leaves is then found and removed.
        let isolation = self.isolation(&lease.scratch).await;
        match &isolation {
            Err(fault) if !trusted => return Err(fault.clone()),
            Err(_) => {
                self.trusted.lock().unwrap_or_else(PoisonError::into_inner).insert(lease.drill.clone());
            }
            Ok(_) => {}
        }
        let majors = self.majors();
        let Some(programs) = majors.get(&major) else { return Err(absent(major, &majors)) };
        let user = server_user()?;
        let (programs, base) = (programs.clone(), base.to_owned());
        let mut facts =
            tokio::task::spawn_blocking(move || programs::facts(&programs, major, &base, user)).await.map_err(
                |error| Fault::new(Blame::Harness, "look at the programs of PostgreSQL").cause(error.to_string()),
            )?;
        if let Err(fault) = isolation {
            facts.passed_over.push(fault);
        }
        Ok(facts)
    }

    /// Makes the room of `spec` in the lease's scratch directory, which must be there.
    pub(crate) async fn create(&self, lease: &Lease, spec: &SandboxSpec) -> Result<LocalRoom, Fault> {
        let isolation = self.isolation(&lease.scratch).await;
        let trusted = self.trusted.lock().unwrap_or_else(PoisonError::into_inner).contains(&lease.drill);
        if let Err(fault) = &isolation
            && !trusted
        {
            return Err(fault.clone());
        }
        let mut slot = self.slot(lease).lock_owned().await;
        let (settings, scratch, spec) = (self.settings.clone(), lease.scratch.clone(), spec.clone());
        let isolated = isolation.is_ok();
        // A task of our own: a caller that stops listening leaves a room that release knows.
        let making = tokio::spawn(async move {
            let held = make(settings, scratch, &spec, isolated).await?;
            let room = LocalRoom { inside: Arc::clone(&held.inside) };
            *slot = Some(held);
            Ok(room)
        });
        making.await.map_err(|error| Fault::new(Blame::Harness, "make a room").cause(error.to_string()))?
    }

    /// Ends the room and removes the scratch directory. Returns what would not go. `hurry` changes nothing here: what
    /// runs in a room is killed in any case, since its data goes too.
    pub(crate) async fn release(&self, lease: &Lease, _hurry: bool) -> Vec<String> {
        let slot = self.slot(lease);
        let mut remnants = Vec::new();
        let mut groups = Vec::new();
        if let Some(held) = slot.lock().await.take() {
            groups.clone_from(&held.inside.group.directories);
            remnants.extend(held.end().await);
        }
        let scratch = lease.scratch.clone();
        // The groups once more by what is known here: the directory that names them may be gone.
        let wipe = move || [lease::wipe(&scratch, KILL_PATIENCE), cgroup::remove(&groups, KILL_PATIENCE)].concat();
        match tokio::task::spawn_blocking(wipe).await {
            Ok(left) => remnants.extend(left),
            Err(error) => remnants.push(format!("directory {}: {error}", lease.scratch.display())),
        }
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).remove(&lease.drill);
        remnants
    }

    /// Gives up the room without ending it, and with it the pipe that it lives by: whoever holds that, holds the room.
    pub(super) async fn let_go(&self, lease: &Lease) -> Option<OwnedFd> {
        let mut held = self.slot(lease).lock().await.take()?;
        let mut keeper = held.keeper.take()?;
        let pipe = keeper.stdin.take().and_then(|it| it.into_owned_fd().ok());
        // Its end would kill the room.
        std::mem::forget(keeper);
        pipe
    }

    pub(super) fn exe(&self) -> &Path {
        &self.settings.exe
    }

    fn slot(&self, lease: &Lease) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(lease.drill.clone()).or_default())
    }
}

impl LocalRoom {
    pub(crate) fn path(&self, at: At) -> String {
        let Inside { root, bindir, inputs, .. } = &*self.inside;
        let path = match at {
            At::Data => root.join("data"),
            At::Run => root.join("run"),
            At::Spool => root.join("spool"),
            At::Bin => bindir.clone(),
            // One past the end is a bug of the plan; a path that does not exist says so where it is used.
            At::Input(number) => inputs.get(number).cloned().unwrap_or_else(|| root.join(format!("no-input-{number}"))),
        };
        path.to_string_lossy().into_owned()
    }

    pub(crate) fn user(&self) -> &RoomUser {
        &self.inside.user
    }

    pub(super) fn door(&self) -> LocalDoor {
        self.inside.door()
    }
}

impl Held {
    async fn end(mut self) -> Option<String> {
        self.inside.released.store(true, Ordering::Release);
        let mut keeper = self.keeper.take()?;
        // The end of its input is enough; the signal is for a process 1 that cannot read it.
        drop(keeper.stdin.take());
        if let (Some(namespaces), Ok(None)) = (self.inside.namespaces, keeper.try_wait()) {
            processes::signal(namespaces.init, Signal::SIGKILL);
        }
        // Process 1 is reaped, and so the keeper ends, only when the kernel has ended everything else in the room.
        let ended = tokio::time::timeout(KILL_PATIENCE, keeper.wait()).await;
        let pid = self.inside.namespaces.map_or(0, |it| it.init);
        ended.is_err().then(|| format!("process {pid}: the room's first process did not die in {KILL_PATIENCE:?}"))
    }
}

async fn make(settings: LocalSettings, scratch: PathBuf, spec: &SandboxSpec, isolated: bool) -> Result<Held, Fault> {
    let LocalSettings { exe, cgroups, .. } = settings;
    let user = spec.server.user.clone();
    let (directories, owner, limits) = (scratch.clone(), user.clone(), spec.limits.clone());
    let making = tokio::task::spawn_blocking(move || {
        make_directories(&directories, &owner).map(|()| Group::make(&cgroups, &directories, &limits))
    });
    let group = making
        .await
        .map_err(|error| Fault::new(Blame::Harness, "make the directories of a room").cause(error.to_string()))??;
    let inputs: Vec<PathBuf> = spec.inputs.iter().map(PathBuf::from).collect();
    let locale = ["C.utf8", "C.UTF-8"].into_iter().find(|it| spec.server.locales.iter().any(|have| have == it));
    let mut inside = Inside {
        exe,
        root: scratch,
        bindir: PathBuf::from(&spec.server.bindir),
        inputs,
        user,
        locale: locale.unwrap_or("C").to_owned(),
        namespaces: None,
        lacks: Vec::new(),
        group,
        limits: spec.limits.clone(),
        oom_kills: host::oom_kills(),
        released: AtomicBool::new(false),
    };
    if !isolated {
        reachable(&inside.root, &inside.user)?;
        return Ok(Held { inside: Arc::new(inside), keeper: None });
    }
    let mut readable = programs::prefixes(&inside.bindir);
    readable.extend(inside.inputs.iter().cloned());
    let room = RoomSpec {
        root: inside.root.clone(),
        readable: resolve(readable)?,
        user: inside.user.clone(),
        shm_bytes: if spec.limits.shm_bytes == 0 { SHM_DEFAULT } else { spec.limits.shm_bytes },
        user_namespace: !nix::unistd::geteuid().is_root(),
        groups: inside.group.directories.clone(),
    };
    let (keeper, init, lacks) = start(&inside.exe, &room).await?;
    inside.namespaces = keeper.id().map(|anchor| Namespaces { anchor, init, user: room.user_namespace });
    inside.lacks = lacks;
    Ok(Held { inside: Arc::new(inside), keeper: Some(keeper) })
}

/// Starts the `__room` process and waits until programs can be run. Its number, and what the room lacks.
async fn start(exe: &Path, room: &RoomSpec) -> Result<(Child, u32, Vec<String>), Fault> {
    let fault = |cause: String| no_room(&cause);
    let spec = serde_json::to_string(room).map_err(|error| fault(error.to_string()))?;
    let mut keeper = Command::new(exe)
        .arg(room_init::ROOM)
        .arg(spec)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| fault(format!("start {}: {error}", exe.display())))?;
    let Some(stdout) = keeper.stdout.take() else { return Err(fault("it has no output".to_owned())) };
    let mut lines = BufReader::new(stdout).lines();
    let listen = async {
        let mut init = 0;
        while let Some(line) = lines.next_line().await.map_err(|error| error.to_string())? {
            match serde_json::from_str(&line).map_err(|error| format!("{error} in {line:?}"))? {
                Said::Init(pid) => init = pid,
                Said::Ready { lacks } if init != 0 => return Ok((init, lacks)),
                // Process 1 may speak before the process that started it.
                Said::Ready { lacks } => match lines.next_line().await.map_err(|error| error.to_string())? {
                    Some(line) => match serde_json::from_str(&line) {
                        Ok(Said::Init(pid)) => return Ok((pid, lacks)),
                        Ok(Said::Ready { .. } | Said::Failed(_)) | Err(_) => break,
                    },
                    None => break,
                },
                Said::Failed(reason) => return Err(reason),
            }
        }
        Err("its first process ended at once".to_owned())
    };
    match tokio::time::timeout(MAKE_PATIENCE, listen).await {
        Ok(Ok((init, lacks))) => Ok((keeper, init, lacks)),
        Ok(Err(reason)) => Err(fault(reason)),
        Err(_) => Err(fault(format!("it was not ready after {MAKE_PATIENCE:?}"))),
    }
}

/// Makes a room and lets it go at once: its standard input is at its end from the start.
async fn probe(exe: &Path, base: &Path) -> Result<Vec<String>, Fault> {
    let tried = async {
        // Not named like a scratch directory, and empty: there is nothing in it to clean up.
        let root = tempfile::Builder::new().prefix(".pgdrill-try-").tempdir_in(base)?;
        let tried = RoomSpec {
            root: fs::canonicalize(root.path())?,
            readable: Vec::new(),
            user: own_user(),
            shm_bytes: 1 << 20,
            user_namespace: !nix::unistd::geteuid().is_root(),
            groups: Vec::new(),
        };
        let spec = serde_json::to_string(&tried)?;
        let mut command = Command::new(exe);
        command
            .arg(room_init::ROOM)
            .arg(spec)
            .env_clear()
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        tokio::time::timeout(MAKE_PATIENCE, command.output()).await.map_err(std::io::Error::from)?
    };
    match tried.await {
        Ok(output) => room_init::heard(&output.stdout[..]).map_err(|reason| no_room(&reason)),
        Err(error) => Err(no_room(&error.to_string())),
    }
}

/// Switches that forbid namespaces, and the value with which they do.
const SWITCHES: [(&str, &str); 3] = [
    ("kernel/unprivileged_userns_clone", "0"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1"),
    ("user/max_user_namespaces", "0"),
];

fn no_room(reason: &str) -> Fault {
    let off = SWITCHES.into_iter().filter_map(|(name, forbids)| {
        let value = fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?;
        (value.trim() == forbids).then(|| format!("{}={forbids}", name.replace('/', ".")))
    });
    let off: Vec<String> = off.collect();
    let first = if off.is_empty() {
        "Run pgdrill where namespaces are allowed (a container needs them granted from outside)".to_owned()
    } else {
        format!("Change sysctl {} (it forbids namespaces)", off.join(" and "))
    };
    let hint = format!(
        "{first}, or start a container engine, or, if nothing in the backup can harm this machine, \
                        say `trust: backup` in the scenario."
    );
    Fault::new(Blame::Host, "isolate a restored server on this machine").cause(reason.to_owned()).hint(hint)
}

fn absent(major: u32, majors: &BTreeMap<u32, LocalPrograms>) -> Fault {
    let have: Vec<String> = majors.iter().map(|(major, it)| format!("{major} in {}", it.bindir.display())).collect();
    let cause = match have.as_slice() {
        [] => "there is no PostgreSQL on this machine".to_owned(),
        have => format!("this machine has {}", have.join(", ")),
    };
    Fault::new(Blame::Host, format!("find the programs of PostgreSQL {major}")).cause(cause).hint(format!(
        "Install the server package (postgresql-{major} on Debian, postgresql{major}-server from PGDG), or name the \
         directory of its programs in PGDRILL_BINDIR, or start a container engine."
    ))
}

/// Who the server runs as: us, or, as PostgreSQL refuses root, `postgres` or `nobody`.
pub(super) fn server_user() -> Result<RoomUser, Fault> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(own_user());
    }
    let found = ["postgres", "nobody"].into_iter().find_map(|it| User::from_name(it).ok().flatten());
    let found = found.filter(|it| !it.uid.is_root());
    found.map(|it| RoomUser { name: it.name, uid: it.uid.as_raw(), gid: it.gid.as_raw() }).ok_or_else(|| {
        Fault::new(Blame::Host, "find an unprivileged user to run the server as")
            .cause("there is neither a user `postgres` nor `nobody`")
            .hint("Add a user named postgres, or start pgdrill as an ordinary user.")
    })
}

fn own_user() -> RoomUser {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let name = User::from_uid(uid).ok().flatten().map_or_else(|| format!("uid{uid}"), |it| it.name);
    RoomUser { name, uid: uid.as_raw(), gid: gid.as_raw() }
}

fn make_directories(scratch: &Path, user: &RoomUser) -> Result<(), Fault> {
    let foreign = nix::unistd::geteuid().as_raw() != user.uid;
    let made = || -> std::io::Result<()> {
        for name in ["data", "run", "spool", "tblspc"] {
            let directory = scratch.join(name);
            DirBuilder::new().mode(0o700).recursive(true).create(&directory)?;
            if foreign {
                std::os::unix::fs::chown(&directory, Some(user.uid), Some(user.gid))?;
            }
        }
        // The server's only way to WAL: see helper/fetch.rs.
        let guard = scratch.join("guard");
        fs::write(&guard, super::container::room::GUARD)?;
        fs::set_permissions(&guard, Permissions::from_mode(0o755))?;
        // The server's user passes through, and sees no more.
        fs::set_permissions(scratch, Permissions::from_mode(if foreign { 0o711 } else { 0o700 }))
    };
    made().map_err(|error| {
        Fault::new(Blame::Host, format!("make the directories of a room in {}", scratch.display()))
            .cause(error.to_string())
            .hint("See that the disk has space and free inodes.")
    })
}

/// Without namespaces the server's user must be able to walk to its directory on the host.
fn reachable(root: &Path, user: &RoomUser) -> Result<(), Fault> {
    for directory in root.ancestors() {
        let Ok(seen) = fs::metadata(directory) else { continue };
        let mode = seen.mode();
        let may = if seen.uid() == user.uid {
            mode & 0o100
        } else if seen.gid() == user.gid {
            mode & 0o010
        } else {
            mode & 0o001
        };
        if may == 0 {
            let directory = directory.display();
            return Err(Fault::new(Blame::Host, format!("let the user {} reach {}", user.name, root.display()))
                .cause(format!("{directory} does not let that user pass"))
                .hint(format!(
                    "Set TMPDIR to a directory that everybody may pass, such as /tmp, or chmod o+x {directory}."
                )));
        }
    }
    Ok(())
}

/// Absolute paths with what they point to, parents before what lies in them.
fn resolve(paths: Vec<PathBuf>) -> Result<Vec<Readable>, Fault> {
    let mut resolved = Vec::new();
    for path in paths {
        let found = std::path::absolute(&path).and_then(|target| Ok((fs::canonicalize(&path)?, target)));
        let (source, target) = found.map_err(|error| {
            Fault::new(Blame::Host, format!("show {} to the sandbox", path.display())).cause(error.to_string())
        })?;
        resolved.push(Readable { source, target });
    }
    resolved.sort_by_key(|it| it.target.components().count());
    Ok(resolved)
}
