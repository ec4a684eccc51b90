//! What this machine is, and what stands in the way of drills on it.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::statvfs::statvfs;

use super::local::Local;
use super::{cgroup, lease, processes};
use crate::plan::Limits;
use crate::recipe::HostFacts;

/// Writes that the fsync figure is the median of.
const FSYNC_TRIES: usize = 5;
/// Above this a commit waits visibly, and the restore of a real cluster with it.
const FSYNC_SLOW_MICROS: u64 = 20_000;
const DISK_POOR_BYTES: u64 = 10 << 30;
/// A disk is full when less than this share of it is free, within these bounds: on a large disk a hundredth would do for
/// many a cluster, and a WAL segment has to fit in any.
const DISK_SHARE: u64 = 100;
const DISK_LEAST_BYTES: u64 = 16 << 20;
const DISK_MOST_BYTES: u64 = 256 << 20;
const SHM_POOR_BYTES: u64 = 256 << 20;
const MEMORY_POOR_BYTES: u64 = 2 << 30;

/// What was measured on. Blocks for the five writes.
pub(crate) fn host_facts(base: &Path) -> HostFacts {
    let hostname = nix::unistd::gethostname().map(|it| it.to_string_lossy().into_owned());
    HostFacts {
        hostname: hostname.unwrap_or_default(),
        os: os_name(&fs::read_to_string("/etc/os-release").unwrap_or_default()),
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        architecture: std::env::consts::ARCH.to_owned(),
        cpus: cpus(),
        memory_bytes: memory_bytes(&fs::read_to_string("/proc/meminfo").unwrap_or_default()),
        fsync_micros: fsync_micros(base),
    }
}

/// CPUs, and the memory that may still be used without swapping, within the limits of this process's control group.
pub(crate) fn spare() -> (u32, u64) {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = meminfo.lines().find_map(|it| it.strip_prefix("MemAvailable:")).unwrap_or_default();
    let available = line.trim().trim_end_matches(" kB").parse().map_or(0, |kib: u64| kib * 1024);
    (cpus(), own_limits().memory_bytes.map_or(available, |it| it.min(available)))
}

/// Of this process's control group and those above it.
fn own_limits() -> cgroup::InForce {
    cgroup::in_force(Path::new(cgroup::ROOT), "self")
}

fn os_name(release: &str) -> String {
    let name = release.lines().find_map(|it| it.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| std::env::consts::OS.to_owned(), |it| it.trim_matches('"').to_owned())
}

/// Those that this process may use, which a container's quota can make fewer than the machine's.
fn cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |it| u32::try_from(it.get()).unwrap_or(u32::MAX))
}

fn memory_bytes(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|it| it.strip_prefix("MemTotal:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().map_or(0, |kib: u64| kib * 1024)
}

/// Median of a few 8 KiB write + fsync: a page and its flush, as a commit does it. None where nothing can be written.
pub(crate) fn fsync_micros(base: &Path) -> Option<u64> {
    let mut file: File = tempfile::tempfile_in(base).ok()?;
    let mut times: Vec<u64> = Vec::new();
    for _ in 0..FSYNC_TRIES {
        let began = Instant::now();
        file.write_all(&[0x5a; 8 << 10]).ok()?;
        file.sync_all().ok()?;
        times.push(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    times.sort_unstable();
    times.get(FSYNC_TRIES / 2).copied()
}

/// Bytes of a file system.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Disk {
    /// That an ordinary user may still fill.
    pub(crate) free: u64,
    pub(crate) total: u64,
}

pub(crate) fn disk(path: &Path) -> Option<Disk> {
    let seen = statvfs(path).ok()?;
    let unit = seen.fragment_size();
    // A file system that does not say how large it is.
    (seen.blocks() > 0).then_some(())?;
    Some(Disk { free: seen.blocks_available() * unit, total: seen.blocks() * unit })
}

impl Disk {
    /// Whether so little is left that a server cannot go on, or others of the machine soon could not.
    pub(crate) fn is_full(self) -> bool {
        self.free < (self.total / DISK_SHARE).clamp(DISK_LEAST_BYTES, DISK_MOST_BYTES)
    }
}

/// One row of `pgdrill doctor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Diagnosis {
    pub(crate) name: String,
    pub(crate) state: State,
    pub(crate) seen: String,
    /// What to do about it.
    pub(crate) advice: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    Good,
    /// Drills work, but slower, or with less proof.
    Poor,
    Missing,
}

impl Diagnosis {
    fn good(name: &str, seen: impl Into<String>) -> Diagnosis {
        Diagnosis { name: name.to_owned(), state: State::Good, seen: seen.into(), advice: None }
    }

    fn bad(name: &str, state: State, seen: impl Into<String>, advice: impl Into<String>) -> Diagnosis {
        Diagnosis { name: name.to_owned(), state, seen: seen.into(), advice: Some(advice.into()) }
    }
}

/// What the local runtime and the disk are good for. `base`: where scratch directories are made.
pub(crate) async fn doctor(local: &Local, base: &Path) -> Vec<Diagnosis> {
    // Tried in a directory with a mark, so that what a kill in mid-try leaves is found and removed.
    let tried = lease::new(base, &uuid::Uuid::now_v7().to_string(), 0);
    let tried = tried.and_then(|it| lease::make(&it, lease::PATIENCE).map(|()| it.scratch));
    let place = tried.as_deref().unwrap_or(base);
    let mut rows = vec![programs(local), namespaces(local, place).await, control_groups(place)];
    if let Ok(scratch) = tried {
        drop(lease::wipe(&scratch, Duration::from_secs(5)));
    }
    rows.extend([scratch_disk(base), file_system(base), fsync(base), shared_memory()]);
    rows.extend([memory(), processors()]);
    rows
}

fn programs(local: &Local) -> Diagnosis {
    let name = "PostgreSQL programs";
    let majors = local.majors();
    if majors.is_empty() {
        let advice = "Install a server package (postgresql on Debian), or name its directory in PGDRILL_BINDIR. \
                      Not needed where a container engine answers.";
        return Diagnosis::bad(name, State::Missing, "none found", advice);
    }
    let found: Vec<String> = majors.values().map(|it| format!("{} in {}", it.version, it.bindir.display())).collect();
    Diagnosis::good(name, found.join(", "))
}

async fn namespaces(local: &Local, base: &Path) -> Diagnosis {
    let name = "namespaces";
    match local.isolation(base).await {
        Ok(lacks) if lacks.is_empty() => Diagnosis::good(name, "network, processes, files and user of its own"),
        Ok(lacks) => {
            let advice = "Local rooms work without these; the report states what was not enforced.";
            Diagnosis::bad(name, State::Poor, format!("not granted: {}", lacks.join("; ")), advice)
        }
        Err(fault) => Diagnosis::bad(name, State::Missing, fault.line(), fault.hint.unwrap_or_default()),
    }
}

fn control_groups(scratch: &Path) -> Diagnosis {
    let name = "control groups";
    let limits = Limits { memory_bytes: None, cpus: Some(1), shm_bytes: 0, pids: 0 };
    let group = cgroup::Group::make(Path::new(cgroup::ROOT), scratch, &limits);
    let left = cgroup::remove(&group.directories, Duration::from_secs(1));
    let lacks = [group.lacks, left].concat();
    if lacks.is_empty() {
        return Diagnosis::good(name, "memory, processes and processors of local rooms can be limited");
    }
    let advice = "Local rooms work without these; the report states what was not limited. Root may make them, and so may a \
                  user whom systemd gave a group (systemd-run --user --scope -p Delegate=yes pgdrill …).";
    Diagnosis::bad(name, State::Poor, lacks.join("; "), advice)
}

fn scratch_disk(base: &Path) -> Diagnosis {
    let (name, path) = ("scratch disk", base.display());
    match disk(base) {
        None => Diagnosis::bad(
            name,
            State::Missing,
            format!("{path} cannot be seen"),
            "Set TMPDIR to a directory that exists.",
        ),
        Some(Disk { free, .. }) if free < DISK_POOR_BYTES => {
            let advice = "Set TMPDIR to a disk with room for the restored cluster and its WAL.";
            Diagnosis::bad(name, State::Poor, format!("{} free in {path}", human(free)), advice)
        }
        Some(Disk { free, .. }) => Diagnosis::good(name, format!("{} free in {path}", human(free))),
    }
}

fn file_system(base: &Path) -> Diagnosis {
    let name = "scratch file system";
    match processes::filesystem(base).as_deref() {
        Some(kind @ ("tmpfs" | "ramfs")) => {
            let advice = "Set TMPDIR to a disk like production's: times on a memory file system prove no RTO.";
            Diagnosis::bad(name, State::Poor, kind, advice)
        }
        Some(kind @ ("nfs" | "nfs4" | "cifs" | "9p" | "fuse" | "virtiofs")) => {
            let advice = "Set TMPDIR to a local disk: times on a shared file system are those of the network.";
            Diagnosis::bad(name, State::Poor, kind, advice)
        }
        Some(kind) => Diagnosis::good(name, kind),
        None => Diagnosis::bad(name, State::Poor, "unknown", "See that /proc/self/mountinfo can be read."),
    }
}

fn fsync(base: &Path) -> Diagnosis {
    let name = "fsync latency";
    match fsync_micros(base) {
        None => {
            let advice = format!("See that {} can be written, or set TMPDIR.", base.display());
            Diagnosis::bad(name, State::Missing, "nothing could be written", advice)
        }
        Some(micros) if micros > FSYNC_SLOW_MICROS => {
            let advice = "Use a faster disk for TMPDIR; restores that wait for every flush are slower than production.";
            Diagnosis::bad(name, State::Poor, millis(micros), advice)
        }
        Some(micros) => Diagnosis::good(name, millis(micros)),
    }
}

fn millis(micros: u64) -> String {
    format!("{}.{} ms for 8 KiB", micros / 1000, micros % 1000 / 100)
}

fn shared_memory() -> Diagnosis {
    let name = "/dev/shm";
    match disk(Path::new("/dev/shm")) {
        None => Diagnosis::bad(name, State::Poor, "absent", "Mount a tmpfs at /dev/shm: parallel queries need it."),
        Some(Disk { total, .. }) if total < SHM_POOR_BYTES => {
            let advice = "Give the container that pgdrill runs in more (docker run --shm-size 1g).";
            Diagnosis::bad(name, State::Poor, human(total), advice)
        }
        Some(Disk { total, .. }) => Diagnosis::good(name, human(total)),
    }
}

fn memory() -> Diagnosis {
    let name = "memory";
    let machine = memory_bytes(&fs::read_to_string("/proc/meminfo").unwrap_or_default());
    let limit = own_limits().memory_bytes.filter(|it| *it < machine);
    let seen = match limit {
        Some(limit) => format!("{} (control group) of {}", human(limit), human(machine)),
        None => format!("{}, no limit by a control group", human(machine)),
    };
    if limit.unwrap_or(machine) < MEMORY_POOR_BYTES {
        return Diagnosis::bad(
            name,
            State::Poor,
            seen,
            "Give pgdrill 2 GiB or more, or restores may be killed for memory.",
        );
    }
    Diagnosis::good(name, seen)
}

/// How many processes of our control group were killed for memory so far, by its own limit or the machine's.
///
/// /proc/vmstat counts the kills of the whole machine, other people's containers among them: only for want of better.
pub(crate) fn oom_kills() -> u64 {
    let machine = || {
        let text = fs::read_to_string("/proc/vmstat").ok()?;
        text.lines().find_map(|it| it.strip_prefix("oom_kill ")?.trim().parse().ok())
    };
    cgroup::own_oom_kills().or_else(machine).unwrap_or(0)
}

fn processors() -> Diagnosis {
    let name = "processors";
    let cpus = cpus();
    if cpus < 2 {
        return Diagnosis::bad(
            name,
            State::Poor,
            cpus.to_string(),
            "Give pgdrill two or more: restores run in parallel.",
        );
    }
    Diagnosis::good(name, cpus.to_string())
}

/// `1.5 GiB`; whole numbers below a mebibyte.
pub(super) fn human(bytes: u64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let unit = units.into_iter().find(|(_, size)| bytes >= *size);
    unit.map_or_else(
        || format!("{bytes} B"),
        |(name, size)| format!("{}.{} {name}", bytes / size, bytes % size * 10 / size),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_described() {
        let facts = host_facts(&std::env::temp_dir());
        assert!(!facts.kernel.is_empty() && !facts.os.is_empty() && !facts.hostname.is_empty(), "{facts:?}");
        assert!(facts.cpus >= 1 && facts.memory_bytes > 1 << 20 && facts.fsync_micros.is_some(), "{facts:?}");
    }

    #[test]
    fn a_machine_that_says_little_is_still_described() {
        assert_eq!(
            os_name("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"),
            "Debian GNU/Linux 12 (bookworm)"
        );
        assert_eq!(os_name(""), std::env::consts::OS);
        assert_eq!(memory_bytes("MemTotal:       24684092 kB\nMemFree: 1 kB\n"), 24_684_092 * 1024);
        assert_eq!(memory_bytes("MemTotal: lots\n"), 0);
        assert_eq!(fsync_micros(Path::new("/nowhere")), None);
    }

    #[test]
    fn a_memory_file_system_is_no_place_for_times() {
        assert_eq!(file_system(Path::new("/proc")).state, State::Good);
        if processes::filesystem(Path::new("/dev/shm")).as_deref() == Some("tmpfs") {
            assert_eq!(file_system(Path::new("/dev/shm")).state, State::Poor);
        }
        assert_eq!(scratch_disk(Path::new("/nowhere")).state, State::Missing);
    }

    #[test]
    fn a_disk_is_full_before_nothing_is_left() {
        let cases = [
            (15 << 20, 100 << 20, true),
            (17 << 20, 100 << 20, false),
            (255 << 20, 2 << 40, true),
            (1 << 30, 2 << 40, false),
            (99 << 20, 10 << 30, true),
        ];
        for (free, total, expected) in cases {
            assert_eq!(Disk { free, total }.is_full(), expected, "{free} of {total}");
        }
    }

    #[test]
    fn sizes_are_read_by_people() {
        let cases = [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (256 << 20, "256.0 MiB"), (3 << 29, "1.5 GiB")];
        for (bytes, text) in cases {
            assert_eq!(human(bytes), text);
        }
    }
}
