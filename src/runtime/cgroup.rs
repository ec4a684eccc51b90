//! Control groups: the limits of a local room, and those that any process really has. Both versions; see cgroups(7).
//!
//! Groups are made beneath pgdrill's own, so that a room never gets more than pgdrill itself has, and bear the drill's
//! name. Where they may lie is written into the scratch directory before they are made: whoever wipes that removes them.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::processes;
use super::untrusted::open_regular;
use crate::plan::Limits;

/// Where the kernel's groups are mounted, everywhere since systemd.
pub(crate) const ROOT: &str = "/sys/fs/cgroup";
/// Processes of a room whose plan does not say: a server with its connections and parallel workers is far below.
const PROCESSES: u32 = 1024;
/// Microseconds of the period that a share of processors is measured in: the kernel's own default.
const PERIOD: u64 = 100_000;
/// Version 1 says "no limit" by a number that no machine has.
const NO_LIMIT: u64 = 1 << 60;
/// In the scratch directory: one path on each line.
const RECORD: &str = "groups";

/// The groups of a room: one directory of version 2, or one of each controller of version 1.
#[derive(Clone, Debug, Default)]
pub(crate) struct Group {
    /// A process joins by writing its number into `cgroup.procs` in each.
    pub(crate) directories: Vec<PathBuf>,
    /// Why there is no more of it.
    pub(crate) lacks: Vec<String>,
}

/// Controllers that share their groups, and where such groups may be made, the nearest to our own first.
struct Hierarchy {
    controllers: Vec<&'static str>,
    parents: Vec<PathBuf>,
}

impl Group {
    /// Makes the groups of the drill whose scratch directory this is. `root`: [`ROOT`].
    ///
    /// A group for memory is made without a limit, too: it counts what the kernel killed in the room, and nothing else.
    pub(crate) fn make(root: &Path, scratch: &Path, limits: &Limits) -> Group {
        let mut group = Group::default();
        let Some(name) = scratch.file_name() else { return group };
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mut wanted = vec!["memory", "pids"];
        wanted.extend(limits.cpus.map(|_| "cpu"));
        let hierarchies = hierarchies(root, &own, &wanted);
        if hierarchies.is_empty() {
            group.lacks.push(format!("no control group is mounted at {}", root.display()));
        }
        let places = hierarchies.iter().flat_map(|it| it.parents.iter().map(|parent| parent.join(name)));
        let record = places.map(|it| it.display().to_string()).collect::<Vec<_>>().join("\n");
        if let Err(error) = fs::write(scratch.join(RECORD), record) {
            group.lacks.push(format!("where control groups lie could not be written down: {error}"));
            return group;
        }
        for it in hierarchies {
            let made = it.make(Path::new(name)).and_then(|made| {
                group.directories.push(made.clone());
                it.controllers.iter().try_for_each(|controller| limit(&made, controller, limits))
            });
            if let Err(reason) = made {
                group.lacks.push(reason);
            }
        }
        group
    }

    /// Processes in it that the kernel killed for want of memory. None where that is not counted.
    pub(crate) fn oom_kills(&self) -> Option<u64> {
        self.directories.iter().find_map(|it| oom_kills(it))
    }
}

impl Hierarchy {
    fn make(&self, name: &Path) -> Result<PathBuf, String> {
        let controllers = self.controllers.join(", ");
        let mut reason = format!("no control group for {controllers}");
        for parent in &self.parents {
            match self.make_in(parent, name) {
                Ok(made) => return Ok(made),
                Err(error) => reason = format!("no control group for {controllers} in {}: {error}", parent.display()),
            }
        }
        Err(reason)
    }

    fn make_in(&self, parent: &Path, name: &Path) -> io::Result<PathBuf> {
        // Of version 2 only: a group has those controllers that the one above it passes on.
        let passed_on = parent.join("cgroup.subtree_control");
        if passed_on.exists() {
            for controller in &self.controllers {
                let has =
                    || fs::read_to_string(&passed_on).is_ok_and(|it| it.split_whitespace().any(|it| it == *controller));
                if !has() {
                    fs::write(&passed_on, format!("+{controller}"))?;
                }
            }
        }
        let group = parent.join(name);
        fs::create_dir(&group)?;
        Ok(group)
    }
}

/// Version 1 has a hierarchy for each controller, version 2 one for all.
fn hierarchies(root: &Path, own: &str, controllers: &[&'static str]) -> Vec<Hierarchy> {
    let mut hierarchies: Vec<Hierarchy> = Vec::new();
    for controller in controllers {
        let parents = groups(root, own, controller);
        match hierarchies.iter_mut().find(|it| it.parents == parents) {
            _ if parents.is_empty() => {}
            Some(same) => same.controllers.push(controller),
            None => hierarchies.push(Hierarchy { controllers: vec![controller], parents }),
        }
    }
    hierarchies
}

/// The group of a process for a controller, and those above it. `of`: its /proc/PID/cgroup.
fn groups(root: &Path, of: &str, controller: &str) -> Vec<PathBuf> {
    let path_of = |wanted: &dyn Fn(&str) -> bool| {
        let fields = of.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
        fields.filter(|(controllers, _)| wanted(controllers)).map(|(_, path)| path.trim_start_matches('/')).next()
    };
    let listed = |it: &str| it.split([',', ' ', '\n']).any(|it| it == controller);
    let has = || fs::read_to_string(root.join("cgroup.controllers")).is_ok_and(|it| listed(&it));
    let (mount, path) = match path_of(&listed) {
        Some(path) => (root.join(controller), path),
        None => match path_of(&str::is_empty).filter(|_| has()) {
            Some(path) => (root.to_owned(), path),
            None => return Vec::new(),
        },
    };
    // In a container the path may be the host's, of which only the root is there.
    Path::new(path)
        .ancestors()
        .map(|it| if it.as_os_str().is_empty() { mount.clone() } else { mount.join(it) })
        .filter(|it| it.is_dir())
        .collect()
}

fn limit(group: &Path, controller: &str, limits: &Limits) -> Result<(), String> {
    let set = |file: &str, value: String| {
        let path = group.join(file);
        fs::write(&path, value).map_err(|error| format!("{} could not be set: {error}", path.display()))
    };
    let version_2 = group.join("cgroup.controllers").exists();
    match controller {
        "memory" => {
            let Some(bytes) = limits.memory_bytes.map(|it| it.to_string()) else { return Ok(()) };
            // Without swap, which would hide the lack of memory and spoil the times. Not every kernel counts it.
            if version_2 {
                drop(set("memory.swap.max", "0".to_owned()));
                return set("memory.max", bytes);
            }
            let limited = set("memory.limit_in_bytes", bytes.clone());
            drop(set("memory.memsw.limit_in_bytes", bytes));
            limited
        }
        "pids" => set("pids.max", if limits.pids == 0 { PROCESSES } else { limits.pids }.to_string()),
        _ => {
            let Some(quota) = limits.cpus.map(|it| u64::from(it) * PERIOD) else { return Ok(()) };
            if version_2 {
                return set("cpu.max", format!("{quota} {PERIOD}"));
            }
            set("cpu.cfs_period_us", PERIOD.to_string())?;
            set("cpu.cfs_quota_us", quota.to_string())
        }
    }
}

/// Puts this process, and what it starts from now on, into a group.
pub(crate) fn join(directory: &Path) -> io::Result<()> {
    fs::write(directory.join("cgroup.procs"), "0")
}

/// The limits that hold for a process: of its groups and all above them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct InForce {
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) processes: Option<u64>,
    /// Thousandths of a processor.
    pub(crate) processors: Option<u64>,
}

/// `process`: a number, or `self`.
pub(crate) fn in_force(root: &Path, process: &str) -> InForce {
    let of = fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap_or_default();
    let least = |controller: &str, read: &dyn Fn(&Path) -> Option<u64>| {
        groups(root, &of, controller).iter().filter_map(|it| read(it)).min()
    };
    InForce {
        memory_bytes: least("memory", &|it| {
            number(&it.join("memory.max")).or(number(&it.join("memory.limit_in_bytes")))
        }),
        processes: least("pids", &|it| number(&it.join("pids.max"))),
        processors: least("cpu", &processors),
    }
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok().filter(|it| *it < NO_LIMIT)
}

fn processors(group: &Path) -> Option<u64> {
    if let Ok(text) = fs::read_to_string(group.join("cpu.max")) {
        return share(&text);
    }
    let [quota, period] = ["cpu.cfs_quota_us", "cpu.cfs_period_us"].map(|it| fs::read_to_string(group.join(it)).ok());
    share(&format!("{} {}", quota?.trim(), period?.trim()))
}

/// Thousandths of a processor, from a quota and its period; `max` or -1 is no limit.
pub(crate) fn share(text: &str) -> Option<u64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period) = (quota.parse::<u64>().ok()?, period.parse::<u64>().ok()?);
    quota.checked_mul(1000)?.checked_div(period)
}

/// `1.5 processors`
pub(crate) fn processors_text(thousandths: u64) -> String {
    format!("{}.{} processors", thousandths / 1000, thousandths % 1000 / 100)
}

/// How many processes of our own group were killed for memory so far, by its own limit or the machine's.
pub(crate) fn own_oom_kills() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    groups(Path::new(ROOT), &own, "memory").iter().find_map(|it| oom_kills(it))
}

fn oom_kills(group: &Path) -> Option<u64> {
    let text = fs::read_to_string(group.join("memory.events"));
    let text = text.or_else(|_| fs::read_to_string(group.join("memory.oom_control"))).ok()?;
    text.lines().find_map(|it| it.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// Where the groups of a drill may lie, as its scratch directory says. What could not be ours is left out: in that
/// directory restored code may have written.
pub(crate) fn recorded(scratch: &Path) -> Vec<PathBuf> {
    let mut text = String::new();
    let read = open_regular(&scratch.join(RECORD)).and_then(|it| it.take(64 << 10).read_to_string(&mut text));
    let is_ours = |it: &PathBuf| {
        let plain = it.components().all(|it| matches!(it, Component::RootDir | Component::Normal(_)));
        plain && it.starts_with(ROOT) && it.file_name().is_some() && it.file_name() == scratch.file_name()
    };
    if read.is_ok() { text.lines().map(PathBuf::from).filter(is_ours).collect() } else { Vec::new() }
}

/// Kills what runs in groups and removes them. Returns what would not go. Blocks.
pub(crate) fn remove(directories: &[PathBuf], patience: Duration) -> Vec<String> {
    let began = Instant::now();
    let mut remnants = Vec::new();
    for group in directories {
        loop {
            let members = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            for pid in members.lines().filter_map(|it| it.parse().ok()).filter(|it| *it != std::process::id()) {
                processes::signal(pid, Signal::SIGKILL);
            }
            match fs::remove_dir(group) {
                Ok(()) => break,
                // Also where the file system of groups is read-only and there never was one.
                Err(_) if !group.exists() => break,
                Err(error) if began.elapsed() > patience => {
                    let group = group.display();
                    remnants.push(format!("control group {group}: {error}; remove it with rmdir {group}"));
                    break;
                }
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }
    remnants
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// A tree as the kernel shows it.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn groups_of_both_versions_are_found_and_those_above_them() {
        let first = tree(&[("memory/docker/x/memory.limit_in_bytes", "1"), ("pids/pids.max", "max")]);
        let of = "9:name=systemd:/\n8:pids:/elsewhere\n4:cpu,memory:/docker/x\n0::/\n";
        let found = |root: &Path, controller| {
            let it = groups(root, of, controller);
            it.iter().map(|it| it.strip_prefix(root).unwrap().display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(found(first.path(), "memory"), ["memory/docker/x", "memory/docker", "memory"]);
        assert_eq!(found(first.path(), "pids"), ["pids"], "its path is another namespace's");
        assert_eq!(found(first.path(), "io"), [""; 0]);
        let second = tree(&[("cgroup.controllers", "cpu memory pids\n"), ("a/b/memory.max", "max")]);
        let found: Vec<PathBuf> = groups(second.path(), "0::/a/b\n", "memory");
        assert_eq!(found.len(), 3);
        assert_eq!(hierarchies(second.path(), "0::/a/b\n", &["memory", "pids", "cpu"]).len(), 1);
        assert_eq!(hierarchies(first.path(), of, &["memory", "pids"]).len(), 2);
        assert!(groups(second.path(), "nonsense", "memory").is_empty());
    }

    #[test]
    fn a_limit_is_set_in_the_words_of_its_version() {
        let limits = Limits { memory_bytes: Some(1 << 30), cpus: Some(2), shm_bytes: 0, pids: 0 };
        let second = tree(&[("cgroup.controllers", "cpu memory pids\n")]);
        for controller in ["memory", "pids", "cpu"] {
            limit(second.path(), controller, &limits).unwrap();
        }
        let read = |name: &str| fs::read_to_string(second.path().join(name)).unwrap();
        assert_eq!((read("memory.max"), read("memory.swap.max")), ("1073741824".to_owned(), "0".to_owned()));
        assert_eq!((read("pids.max"), read("cpu.max")), ("1024".to_owned(), "200000 100000".to_owned()));
        assert_eq!(processors(second.path()), Some(2000));
        let first = tree(&[("x", "")]);
        limit(first.path(), "cpu", &limits).unwrap();
        assert_eq!(processors(first.path()), Some(2000));
    }

    #[test]
    fn no_limit_is_told_from_a_limit() {
        for (text, expected) in
            [("max 100000", None), ("-1 100000", None), ("150000 100000", Some(1500)), ("1 0", None), ("", None)]
        {
            assert_eq!(share(text), expected, "{text:?}");
        }
        let root = tree(&[("memory/memory.limit_in_bytes", "9223372036854771712\n"), ("pids/pids.max", "max\n")]);
        assert_eq!(in_force(root.path(), "self").memory_bytes, None);
        assert_eq!(in_force(Path::new("/nowhere"), "self"), InForce::default());
    }

    #[test]
    fn only_groups_with_the_drills_name_are_taken_for_its_own() {
        let base = tempfile::tempdir().unwrap();
        let scratch = base.path().join("pgdrill-1-0");
        fs::create_dir(&scratch).unwrap();
        assert!(recorded(&scratch).is_empty());
        let text = "/sys/fs/cgroup/pids/pgdrill-1-0\n/sys/fs/cgroup/system.slice\n/etc/pgdrill-1-0\n\
                    /sys/fs/cgroup/../../etc/pgdrill-1-0\n";
        fs::write(scratch.join(RECORD), text).unwrap();
        assert_eq!(recorded(&scratch), [Path::new("/sys/fs/cgroup/pids/pgdrill-1-0")]);
        assert_eq!(remove(&[base.path().join("never-made")], Duration::ZERO), [""; 0]);
    }
}
