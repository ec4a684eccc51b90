//! What /proc tells about processes and mounts.
//!
//! A process belongs to a scratch directory if its working directory lies in it: every program of a room starts there, a
//! postmaster and its children stay in `data`, and no process can be made to forget it, unlike its environment, which
//! PostgreSQL overwrites with its title.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process as `/proc/PID/stat` shows it; see `proc_pid_stat(5)`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// One letter: `Z` for a zombie.
    pub(crate) state: char,
    session: i32,
    terminal: i32,
    /// Clock ticks since boot. With the number it names one process for ever.
    pub(crate) started: u64,
}

pub(crate) fn look(pid: u32) -> Option<Seen> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(text: &str) -> Option<Seen> {
    // The second field is the program's name in brackets, and a name may hold brackets and blanks.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    Some(Seen {
        state: fields.first()?.chars().next()?,
        session: fields.get(3)?.parse().ok()?,
        terminal: fields.get(4)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
    })
}

/// Whether a process still runs. One that is ending has given up its memory, and its command line with it, well before it
/// is gone: the first process of a room waits there for the end of all others.
pub(crate) fn runs(pid: u32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|it| !it.is_empty())
}

/// Living processes of `directory`. One that hangs on a terminal of another session is a person who looks at what we left.
pub(crate) fn beneath(directory: &Path) -> Vec<u32> {
    let own = look(std::process::id());
    pids()
        .filter(|pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|it| it.starts_with(directory)))
        .filter(|pid| {
            let ours = |it: &Seen| it.terminal == 0 || own.as_ref().is_some_and(|own| own.session == it.session);
            look(*pid).is_some_and(|it| it.state != 'Z' && ours(&it))
        })
        .filter(|pid| *pid != std::process::id() && is_of_a_room(*pid))
        .collect()
}

/// A person's shell may stand in the directory too: what a room runs is in a process namespace of its own, is pgdrill, or,
/// where there are no namespaces, is one of PostgreSQL's programs.
fn is_of_a_room(pid: u32) -> bool {
    const PROGRAMS: [&str; 8] = ["postgres", "initdb", "pg_ctl", "pg_restore", "psql", "pgdrill", "sh", "sleep"];
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let elsewhere = namespace("self").zip(namespace(&pid.to_string())).is_some_and(|(own, its)| own != its);
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let ancestor = ancestors().contains(&pid);
    elsewhere || (!ancestor && PROGRAMS.contains(&name.trim()))
}

/// Our parent, its parent, and so on.
fn ancestors() -> Vec<u32> {
    let parent = |pid: u32| status(pid, "PPid")?.parse().ok().filter(|it| *it > 0);
    std::iter::successors(parent(std::process::id()), |pid| parent(*pid)).collect()
}

/// Kills the processes of `directory` until there are none, for at most `patience`. Returns those that stay.
pub(crate) fn kill_beneath(directory: &Path, patience: Duration) -> Vec<u32> {
    let began = Instant::now();
    loop {
        let left = beneath(directory);
        if left.is_empty() || began.elapsed() > patience {
            return left;
        }
        for pid in &left {
            signal(*pid, Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Best effort: a process that is gone is what was wanted.
pub(crate) fn signal(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid)
        && pid > 1
    {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

pub(crate) fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|it| it.file_name().to_str()?.parse().ok())
}

/// The value of `key:` in /proc/PID/status.
pub(crate) fn status(pid: u32, key: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|it| it.strip_prefix(key)?.strip_prefix(':')).map(|it| it.trim().to_owned())
}

/// A line of mountinfo; see `proc_pid_mountinfo(5)`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) point: PathBuf,
    /// `rw,nosuid,relatime`
    pub(crate) options: String,
    /// `ext4`, `tmpfs` …
    pub(crate) filesystem: String,
}

pub(crate) fn mounts(mountinfo: &Path) -> io::Result<Vec<Mount>> {
    Ok(fs::read_to_string(mountinfo)?.lines().filter_map(parse_mount).collect())
}

fn parse_mount(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut fields = left.split(' ').skip(4);
    Some(Mount {
        point: unescape(fields.next()?),
        options: fields.next()?.to_owned(),
        filesystem: right.split(' ').next()?.to_owned(),
    })
}

/// Blanks and backslashes are written as three octal digits.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let octal = (*first == b'\\').then(|| after.get(..3)).flatten();
        let value = octal.and_then(|it| u8::from_str_radix(std::str::from_utf8(it).ok()?, 8).ok());
        bytes.push(value.unwrap_or(*first));
        rest = if value.is_some() { &after[3..] } else { after };
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

/// The kind of file system that `path` lies on.
pub(crate) fn filesystem(path: &Path) -> Option<String> {
    let path = fs::canonicalize(path).ok()?;
    let mounts = mounts(Path::new("/proc/self/mountinfo")).ok()?;
    // The last of equals: a later mount covers an earlier one.
    let covering = mounts.into_iter().filter(|it| path.starts_with(&it.point));
    covering.max_by_key(|it| it.point.components().count()).map(|it| it.filesystem)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_brackets_does_not_shift_the_fields() {
        let text = "42 (a) b (c) S 1 42 7 34816 42 4194560 1 0 0 0 1 1 0 0 20 0 1 0 98765 1 1 1";
        let seen = parse_stat(text).unwrap();
        assert_eq!(seen, Seen { state: 'S', session: 7, terminal: 34816, started: 98765 });
        assert_eq!(parse_stat("42 (cut"), None);
        assert_eq!(parse_stat("42 (cut) S 1"), None);
    }

    #[test]
    fn mount_points_with_blanks_are_read() {
        let line = r"36 35 98:0 /m /mnt\040two\134x rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        let mount = parse_mount(line).unwrap();
        assert_eq!(mount.point, Path::new(r"/mnt two\x"));
        assert_eq!((mount.options.as_str(), mount.filesystem.as_str()), ("rw,noatime", "ext3"));
        assert_eq!(parse_mount("nonsense"), None);
    }

    #[test]
    fn a_process_is_found_by_its_working_directory_and_killed() {
        let directory = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("sleep").arg("600").current_dir(directory.path()).spawn().unwrap();
        assert_eq!(beneath(directory.path()), [child.id()]);
        let reaper = std::thread::spawn(move || child.wait());
        assert_eq!(kill_beneath(directory.path(), Duration::from_secs(10)), [0; 0]);
        assert!(!reaper.join().unwrap().unwrap().success());
    }

    #[test]
    fn a_process_has_one_start_time_and_a_file_system() {
        let own = look(std::process::id()).unwrap();
        // Whether its main thread works or waits may change between two looks.
        assert_eq!(look(std::process::id()).map(|it| it.started), Some(own.started));
        assert_eq!(look(u32::MAX), None);
        assert!(runs(std::process::id()) && !runs(u32::MAX));
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        while runs(ended.id()) {
            std::thread::yield_now();
        }
        ended.wait().unwrap();
        assert_eq!(filesystem(Path::new("/proc/self")).as_deref(), Some("proc"));
    }
}
