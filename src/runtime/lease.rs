//! The name of what a drill makes, its mark on disk, and the proof that its owner still lives.
//!
//! The proof is a file that is rewritten every ten seconds. Only what carries our mark is ever touched by others, and a
//! live owner on this machine is believed even when its lease looks old: a virtual machine that was frozen wakes up with
//! every lease lapsed and every owner well.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};

use super::untrusted::open_regular;
use super::{Lease, cgroup, processes};
use crate::fault::{Blame, Fault};

/// How long a lease is good for after its last renewal, where the owner cannot be looked at.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);
const RENEWAL: Duration = Duration::from_secs(10);

/// What the names of all our scratch directories begin with. Nothing else is ever removed.
const PREFIX: &str = "pgdrill-";
const MARK: &str = "pgdrill.json";
/// Longest path of a unix socket that Linux takes; see unix(7).
const SOCKET_PATH_MAX: usize = 107;
const SOCKET: &str = "run/.s.PGSQL.5432";

/// Where scratch directories lie: TMPDIR, or /tmp where that is too long for a socket.
pub(crate) fn default_base(tmpdir: Option<&Path>) -> PathBuf {
    let longest = Path::new("pgdrill-00000000-0000").join(SOCKET).as_os_str().len() + 1;
    let fits = |it: &&Path| it.is_absolute() && it.as_os_str().len() + longest <= SOCKET_PATH_MAX;
    tmpdir.filter(fits).unwrap_or(Path::new("/tmp")).to_owned()
}

/// Names the `number`-th drill of `run`. Makes nothing.
pub(crate) fn new(base: &Path, run: &str, number: usize) -> Result<Lease, Fault> {
    // Without links, because that is how /proc shows where a process is, and how a room sees its directory.
    let base = &fs::canonicalize(base).unwrap_or_else(|_| base.to_owned());
    let hex: Vec<char> = run.chars().filter(char::is_ascii_hexdigit).collect();
    // The last ones: the first eight of a version 7 UUID are a clock that moves once in a minute.
    let tail: String = hex[hex.len().saturating_sub(8)..].iter().collect();
    let drill = format!("{PREFIX}{tail}-{number}");
    let scratch = base.join(&drill);
    let socket = scratch.join(SOCKET);
    let fault = |cause: String| {
        let message = format!("name a scratch directory under {}", base.display());
        let hint = "Set TMPDIR to a short absolute path, such as /tmp, on a disk with room for the restored data.";
        Err(Fault::new(Blame::Host, message).cause(cause).hint(hint))
    };
    if socket.as_os_str().len() > SOCKET_PATH_MAX {
        return fault(format!("the server's socket would be at {}, over {SOCKET_PATH_MAX} bytes", socket.display()));
    }
    // One path a line goes to the reaper, and paths go into JSON.
    match base.to_str() {
        Some(text) if base.is_absolute() && !text.contains(char::is_control) => {}
        Some(_) | None => return fault("it is not an absolute path of plain text".to_owned()),
    }
    Ok(Lease { run: run.to_owned(), drill, scratch })
}

/// What lies in the scratch directory, for whoever finds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Mark {
    run: String,
    drill: String,
    owner: Owner,
    patience_seconds: u64,
    created: jiff::Timestamp,
    /// The address of an engine that may still have something of it.
    #[serde(default)]
    awaits_engine: Option<String>,
}

/// A process, named so that no other can be taken for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Owner {
    pid: u32,
    started: u64,
    boot: String,
    /// A number means something only in its process namespace: /tmp may be shared with a container.
    namespace: String,
}

impl Owner {
    fn here() -> Owner {
        let pid = std::process::id();
        let (boot, namespace) = place();
        Owner { pid, started: processes::look(pid).map_or(0, |it| it.started), boot, namespace }
    }

    /// None where that cannot be told from here.
    fn lives(&self) -> Option<bool> {
        let (boot, namespace) = place();
        if boot.is_empty() || self.boot != boot || self.namespace != namespace {
            return None;
        }
        Some(processes::look(self.pid).is_some_and(|it| it.started == self.started && it.state != 'Z'))
    }
}

fn place() -> (String, String) {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    (boot.trim().to_owned(), namespace.to_string_lossy().into_owned())
}

/// Makes the scratch directory with its mark and the first lease. Fails if it is there: names are never shared.
pub(crate) fn make(lease: &Lease, patience: Duration) -> Result<(), Fault> {
    make_with(lease, patience, None)
}

/// Makes one that holds nothing: a mark by which `pgdrill clean` knows, once an engine answers again, that what it still has of the
/// drill is nobody's.
pub(crate) fn remember(lease: &Lease, patience: Duration, engine: String) -> Result<(), Fault> {
    // It could not be removed, and has its mark.
    if let Some(mark) = mark_in(&lease.scratch) {
        let written = write_mark(lease, &Mark { awaits_engine: Some(engine), ..mark });
        return written
            .map_err(|it| Fault::new(Blame::Host, format!("mark {}", lease.scratch.display())).cause(it.to_string()));
    }
    make_with(lease, patience, Some(engine))
}

/// The engine that a scratch directory waits for. Another one knows nothing of it.
pub(crate) fn awaited_engine(scratch: &Path) -> Option<String> {
    mark_in(scratch)?.awaits_engine
}

fn mark_in(directory: &Path) -> Option<Mark> {
    let file = open_regular(&directory.join(MARK)).ok()?;
    serde_json::from_reader(io::Read::take(file, 64 << 10)).ok()
}

fn make_with(lease: &Lease, patience: Duration, awaits_engine: Option<String>) -> Result<(), Fault> {
    let mark = Mark {
        run: lease.run.clone(),
        drill: lease.drill.clone(),
        owner: Owner::here(),
        patience_seconds: patience.as_secs(),
        created: jiff::Timestamp::now(),
        awaits_engine,
    };
    make_marked(lease, &mark).map_err(|error| {
        let base = lease.scratch.parent().unwrap_or(Path::new("/")).display();
        Fault::new(Blame::Host, format!("make the scratch directory {}", lease.scratch.display()))
            .cause(error.to_string())
            .hint(format!("See that {base} can be written and has space left, or set TMPDIR to a directory that does."))
    })
}

/// Makes this process the owner of a scratch directory that another one has made, and leaves to it.
pub(crate) fn adopt(lease: &Lease) -> io::Result<()> {
    let file = open_regular(&lease.scratch.join(MARK))?;
    let mark: Mark = serde_json::from_reader(io::Read::take(file, 64 << 10))?;
    write_mark(lease, &Mark { owner: Owner::here(), ..mark })
}

/// Under a name of its own first: whoever finds a mark finds a whole one.
fn write_mark(lease: &Lease, mark: &Mark) -> io::Result<()> {
    let partial = lease.scratch.join("pgdrill.json.new");
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
    file.write_all(&serde_json::to_vec(mark)?)?;
    fs::rename(partial, lease.scratch.join(MARK))
}

fn make_marked(lease: &Lease, mark: &Mark) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(&lease.scratch)?;
    write_mark(lease, mark)?;
    DirBuilder::new().mode(0o700).create(lease.scratch.join("run"))?;
    let file = LeaseFile::open(lease)?;
    fs::set_permissions(LeaseFile::path(lease), Permissions::from_mode(0o644))?;
    file.renew(0)
}

/// `<scratch>/run/lease`, which the sandbox sees too.
///
/// Opened once and written through that handle: the directory belongs to a server that runs restored code, which could
/// put a symbolic link in its place and have us, perhaps root, overwrite what it points to.
#[derive(Debug)]
pub(crate) struct LeaseFile(File);

impl LeaseFile {
    pub(crate) fn path(lease: &Lease) -> PathBuf {
        lease.scratch.join("run/lease")
    }

    pub(crate) fn open(lease: &Lease) -> io::Result<LeaseFile> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o644).custom_flags(OFlag::O_NOFOLLOW.bits());
        Ok(LeaseFile(options.open(LeaseFile::path(lease))?))
    }

    /// Ten digits and a newline, so that a shorter number never leaves the end of a longer one.
    pub(crate) fn renew(&self, counter: u64) -> io::Result<()> {
        self.0.write_all_at(format!("{counter:010}\n").as_bytes(), 0)
    }
}

/// Renews a lease until it is dropped.
#[derive(Debug)]
pub(crate) struct Renewal(tokio::task::JoinHandle<()>);

impl Renewal {
    /// After [`make`], before anything runs in the sandbox. Needs a tokio runtime with time.
    pub(crate) fn start(lease: &Lease) -> io::Result<Renewal> {
        let file = LeaseFile::open(lease)?;
        // Held for as long as we live: a machine that was frozen for a while has an old lease and a living owner.
        file.0.try_lock().map_err(io::Error::from)?;
        Ok(Renewal(tokio::spawn(async move {
            let mut ticks = tokio::time::interval(RENEWAL);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            for counter in 1.. {
                ticks.tick().await;
                // Twenty bytes; and a disk that is full lets a file be overwritten.
                if let Err(error) = file.renew(counter) {
                    tracing::warn!(%error, "the lease could not be renewed");
                }
            }
        })))
    }
}

impl Drop for Renewal {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Scratch directories of ours under `base` whose owner is gone, or, where that cannot be told, whose lease is older than
/// its patience.
pub(crate) fn lapsed(base: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(base).into_iter().flatten().flatten().map(|it| it.path());
    entries.filter(|it| has_lapsed(it).unwrap_or(false)).collect()
}

/// None: not ours to judge.
fn has_lapsed(directory: &Path) -> Option<bool> {
    is_ours(directory).then_some(())?;
    let mark = mark_in(directory)?;
    (directory.file_name()? == mark.drill.as_str()).then_some(())?;
    if let Some(lives) = mark.owner.lives() {
        return Some(!lives);
    }
    let seen = fs::symlink_metadata(directory.join("run/lease")).or_else(|_| fs::symlink_metadata(directory)).ok()?;
    // A time in the future is a clock that was set back: not lapsed.
    let age = SystemTime::now().duration_since(seen.modified().ok()?).unwrap_or_default();
    Some(age > Duration::from_secs(mark.patience_seconds))
}

/// By its name, and by its user: in /tmp anybody can make a directory that looks like ours.
fn is_ours(directory: &Path) -> bool {
    let named = directory.file_name().and_then(|it| it.to_str()).is_some_and(|it| it.starts_with(PREFIX));
    let seen = fs::symlink_metadata(directory);
    named && seen.is_ok_and(|it| it.is_dir() && it.uid() == nix::unistd::geteuid().as_raw())
}

/// Kills what runs in a scratch directory and removes it. Returns what would not go. Blocks.
pub(crate) fn wipe(scratch: &Path, patience: Duration) -> Vec<String> {
    if fs::symlink_metadata(scratch).is_err_and(|it| it.kind() == io::ErrorKind::NotFound) {
        return Vec::new();
    }
    let path = scratch.display();
    if !is_ours(scratch) {
        return vec![format!("{path}: left alone, since it is no directory of ours")];
    }
    let left = processes::kill_beneath(scratch, patience);
    let mut remnants: Vec<String> =
        left.iter().map(|pid| format!("process {pid} in {path}: end it with kill -9 {pid}")).collect();
    // What ran in the room and left its directory dies with its control group.
    remnants.extend(cgroup::remove(&cgroup::recorded(scratch), patience));
    if let Err(error) = remove(scratch) {
        remnants.push(format!("directory {path}: {error}; remove it with rm -rf {path}"));
    }
    remnants
}

/// `remove_dir_all` does not follow links, also not those that are put there while it works.
fn remove(directory: &Path) -> io::Result<()> {
    // The mark last: what cannot be removed now must still be found by `pgdrill clean`.
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_name() == MARK {
            continue;
        }
        if entry.file_type().is_ok_and(|it| it.is_dir()) {
            remove_whole(&entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    remove_whole(directory)
}

fn remove_whole(directory: &Path) -> io::Result<()> {
    let removed = fs::remove_dir_all(directory);
    match removed {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(directory);
            fs::remove_dir_all(directory)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(()) | Err(_) => removed,
    }
}

/// An ordinary user cannot empty a directory without write permission, although it is theirs.
fn open_up(directory: &Path) {
    let _ = fs::set_permissions(directory, Permissions::from_mode(0o700));
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries.filter(|it| it.file_type().is_ok_and(|it| it.is_dir())) {
        open_up(&entry.path());
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const RUN: &str = "0199f3a0-aaaa-7bbb-8ccc-0123456789ab";

    fn made(base: &Path, number: usize) -> Lease {
        let lease = new(base, RUN, number).unwrap();
        make(&lease, PATIENCE).unwrap();
        lease
    }

    fn change(lease: &Lease, change: impl FnOnce(&mut Mark)) {
        let path = lease.scratch.join(MARK);
        let mut mark: Mark = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut mark);
        fs::write(path, serde_json::to_vec(&mark).unwrap()).unwrap();
    }

    fn age(lease: &Lease, seconds: u64) {
        let file = File::options().write(true).open(LeaseFile::path(lease)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
    }

    #[test]
    fn names_come_from_the_random_end_of_the_run() {
        let lease = new(Path::new("/tmp"), RUN, 3).unwrap();
        assert_eq!(lease.drill, "pgdrill-456789ab-3");
        assert_eq!(lease.scratch, Path::new("/tmp/pgdrill-456789ab-3"));
    }

    #[test]
    fn a_base_behind_a_link_is_named_as_it_is() {
        let real = tempfile::tempdir().unwrap();
        let link = real.path().join("link");
        std::os::unix::fs::symlink(real.path(), &link).unwrap();
        let lease = new(&link, RUN, 1).unwrap();
        assert_eq!(lease.scratch.parent(), Some(fs::canonicalize(real.path()).unwrap().as_path()));
    }

    #[test]
    fn a_base_that_is_too_long_for_a_socket_is_refused_with_a_hint() {
        let cases = [("a".repeat(69), true), ("a".repeat(70), false), ("x\ny".to_owned(), false)];
        for (name, fits) in cases {
            let base = Path::new("/").join(name);
            let named = new(&base, RUN, 1);
            assert_eq!(named.is_ok(), fits, "{}", base.display());
            if let Err(fault) = named {
                assert_eq!(fault.blame, Blame::Host);
                assert!(fault.hint.unwrap().contains("TMPDIR"));
            }
        }
        assert!(new(Path::new("relative"), RUN, 1).is_err());
        assert_eq!(default_base(Some(Path::new("/var/tmp"))), Path::new("/var/tmp"));
        assert_eq!(default_base(Some(Path::new(&format!("/{}", "d".repeat(80))))), Path::new("/tmp"));
        assert_eq!(default_base(None), Path::new("/tmp"));
    }

    #[test]
    fn a_scratch_directory_lapses_with_its_owner_and_never_before() {
        let base = tempfile::tempdir().unwrap();
        let live = made(base.path(), 1);
        age(&live, 9999);
        let dead = made(base.path(), 2);
        change(&dead, |it| it.owner.started += 1);
        let far_and_fresh = made(base.path(), 3);
        change(&far_and_fresh, |it| it.owner.boot = "another".to_owned());
        let far_and_old = made(base.path(), 4);
        change(&far_and_old, |it| it.owner.namespace = "pid:[1]".to_owned());
        age(&far_and_old, 601);
        let misnamed = made(base.path(), 5);
        change(&misnamed, |it| (it.owner.started, it.drill) = (0, "pgdrill-other".to_owned()));
        fs::create_dir(base.path().join("pgdrill-unmarked")).unwrap();
        let mut lapsed = lapsed(base.path());
        lapsed.sort();
        assert_eq!(lapsed, [dead.scratch, far_and_old.scratch]);
    }

    #[test]
    fn a_directory_that_was_adopted_lives_with_its_new_owner() {
        let base = tempfile::tempdir().unwrap();
        let lease = made(base.path(), 1);
        change(&lease, |it| it.owner.started += 1);
        assert_eq!(lapsed(base.path()), [lease.scratch.as_path()]);
        adopt(&lease).unwrap();
        assert!(lapsed(base.path()).is_empty());
    }

    #[test]
    fn a_name_is_made_once() {
        let base = tempfile::tempdir().unwrap();
        let lease = made(base.path(), 1);
        let again = make(&lease, PATIENCE).unwrap_err();
        assert!(again.hint.unwrap().contains("TMPDIR"), "{:?}", again.causes);
    }

    #[test]
    fn only_directories_of_ours_are_wiped() {
        let base = tempfile::tempdir().unwrap();
        let other = base.path().join("precious");
        fs::create_dir(&other).unwrap();
        assert_eq!(wipe(&other, Duration::ZERO).len(), 1);
        std::os::unix::fs::symlink(&other, base.path().join("pgdrill-link")).unwrap();
        assert_eq!(wipe(&base.path().join("pgdrill-link"), Duration::ZERO).len(), 1);
        assert!(other.is_dir());
        let lease = made(base.path(), 1);
        fs::set_permissions(lease.scratch.join("run"), Permissions::from_mode(0o500)).unwrap();
        assert_eq!(wipe(&lease.scratch, Duration::ZERO), [""; 0]);
        assert!(!lease.scratch.exists());
        assert_eq!(wipe(&lease.scratch, Duration::ZERO), [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_renewed_until_it_is_dropped() {
        let base = tempfile::tempdir().unwrap();
        let lease = made(base.path(), 1);
        let read = || fs::read_to_string(LeaseFile::path(&lease)).unwrap();
        let renewal = Renewal::start(&lease).unwrap();
        tokio::time::sleep(Duration::from_secs(25)).await;
        assert_eq!(read(), "0000000003\n");
        drop(renewal);
        tokio::time::sleep(Duration::from_secs(25)).await;
        assert_eq!(read(), "0000000003\n");
    }

    #[tokio::test(start_paused = true)]
    async fn a_link_put_in_the_place_of_the_lease_is_not_followed() {
        let base = tempfile::tempdir().unwrap();
        let lease = made(base.path(), 1);
        let renewal = Renewal::start(&lease).unwrap();
        let victim = base.path().join("victim");
        fs::write(&victim, "whole").unwrap();
        fs::remove_file(LeaseFile::path(&lease)).unwrap();
        std::os::unix::fs::symlink(&victim, LeaseFile::path(&lease)).unwrap();
        tokio::time::sleep(Duration::from_secs(25)).await;
        drop(renewal);
        assert_eq!(fs::read_to_string(&victim).unwrap(), "whole");
        assert!(LeaseFile::open(&lease).is_err());
    }
}
