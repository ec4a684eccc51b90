//! The process that keeps a sandbox up when its pgdrill is gone: `pgdrill __keeper KEPT`.
//!
//! It holds what pgdrill held, the lease and the pipe that a local room lives by, until its time is over; then it releases
//! the sandbox as pgdrill would have. If it is killed, the layers below do that: the room ends with the pipe, the guard in a
//! container with the lease, and the next run wipes the rest.
//!
//! What it keeps stands in its command line and nowhere else: there whoever looks for kept sandboxes finds those that
//! really stand, and restored code, which could write a file in the scratch directory, cannot lead anybody elsewhere.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{SignalKind, signal};

use super::container::{self, ContainerDoor};
use super::lease::{self, Renewal};
use super::local::LocalDoor;
use super::machine::Machine;
use super::{Lease, Runtime as _, host, processes};
use crate::fault::{Blame, Fault};

pub(crate) const KEEPER: &str = "__keeper";
/// What the keeper says, on standard error and only once, when it holds everything.
const READY: &str = "ready\n";
/// How long it may take to say so.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take to release a sandbox that is to go.
const RELEASE_PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks at the time and at the sandbox.
const PAUSE: Duration = Duration::from_millis(500);

/// A sandbox that is kept, and how to enter it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) lease: Lease,
    /// The drill's name in its scenario.
    pub(crate) name: String,
    /// When it goes: a label. What counts is the length, on the monotonic clock.
    pub(crate) until: Timestamp,
    pub(crate) length_seconds: u64,
    pub(crate) patience_seconds: u64,
    pub(crate) database: String,
    pub(crate) superuser: String,
    pub(crate) door: Door,
    /// A path on the file system of the data, if that is this machine's: a kept sandbox goes before it fills that.
    pub(crate) disk: Option<PathBuf>,
}

/// How programs are run in a kept room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Door {
    Container(ContainerDoor),
    Local(LocalDoor),
}

impl Kept {
    /// psql on the restored database, with more arguments, which win.
    pub(crate) fn psql(&self, more: &[String]) -> Vec<String> {
        let (bindir, run) = match &self.door {
            Door::Container(door) => (door.bindir.clone(), container::RUN.to_owned()),
            Door::Local(door) => {
                (door.bindir.display().to_string(), self.lease.scratch.join("run").display().to_string())
            }
        };
        let own = [&format!("{bindir}/psql"), "-h", &run, "-U", &self.superuser, "-d", &self.database];
        own.into_iter().map(str::to_owned).chain(more.iter().cloned()).collect()
    }

    /// Whether somebody who writes this means it: the run or the beginning of its name, or the sandbox's own name.
    pub(crate) fn is_meant_by(&self, text: &str) -> bool {
        !text.is_empty() && (self.lease.run.starts_with(text) || self.lease.drill == text)
    }
}

/// Starts a keeper, and returns when it holds the sandbox. `exe`: this program. `pipe`: what a local room lives by.
pub(super) async fn start(exe: &Path, kept: &Kept, pipe: Option<OwnedFd>) -> Result<(), Fault> {
    let fault = |cause: String| Fault::new(Blame::Host, "start the process that keeps the sandbox").cause(cause);
    let text = serde_json::to_string(kept).map_err(|error| fault(error.to_string()))?;
    let mut command = tokio::process::Command::new(exe);
    command.arg(KEEPER).arg(text).current_dir("/").stdin(Stdio::null()).stderr(Stdio::piped());
    // Its output is the pipe: nothing is ever written to it, and it is open for as long as the keeper lives.
    command.stdout(pipe.map_or_else(Stdio::null, Stdio::from));
    let mut child = command.spawn().map_err(|error| fault(error.to_string()))?;
    // With the command goes our own end of the pipe.
    drop(command);
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        let mut buffer = [0; 512];
        let listening = async {
            while !said.ends_with('\n') {
                match stderr.read(&mut buffer).await {
                    Ok(0) | Err(_) => break,
                    Ok(count) => said.push_str(&String::from_utf8_lossy(&buffer[..count])),
                }
            }
        };
        drop(tokio::time::timeout(START_PATIENCE, listening).await);
    }
    if said == READY {
        return Ok(());
    }
    drop(child.kill().await);
    Err(fault(if said.is_empty() { "it did not say that it is ready".to_owned() } else { said.trim().to_owned() }))
}

/// What a re-executed pgdrill is to keep, where it was started for that.
pub(super) fn asked(spec: &OsString) -> Option<Kept> {
    serde_json::from_str(spec.to_str()?).ok()
}

/// The keeper's whole life. Whether nothing is left at its end.
pub(crate) async fn keep(machine: &Machine, kept: &Kept) -> bool {
    let began = Instant::now();
    // A terminal that is closed, and its Ctrl-C, do not mean the keeper.
    let _ = nix::unistd::setsid();
    // Once heard they no longer end a process, whether or not somebody goes on listening.
    let heeded = [SignalKind::interrupt(), SignalKind::hangup(), SignalKind::terminate()].map(signal);
    let [Ok(_), Ok(_), Ok(mut told)] = heeded else {
        say("signals cannot be heard\n");
        return false;
    };
    let held = match hold(machine, kept).await {
        Ok(held) => held,
        Err(fault) => {
            say(&format!("{}\n", fault.line()));
            return false;
        }
    };
    say(READY);
    let length = Duration::from_secs(kept.length_seconds);
    loop {
        tokio::select! {
            _ = told.recv() => break,
            () = tokio::time::sleep(PAUSE) => {}
        }
        // The wall clock as well: a suspended machine's other clock stands still.
        let over = began.elapsed() >= length || Timestamp::now() >= kept.until;
        let full = kept.disk.as_deref().and_then(host::disk).is_some_and(host::Disk::is_full);
        if over || full || !kept.lease.scratch.exists() || kept.door.is_closed() {
            break;
        }
    }
    if let Door::Local(door) = &kept.door {
        door.end();
    }
    let remnants = machine.release(&kept.lease, false).await;
    drop(held);
    remnants.is_empty()
}

/// The lease, in the name of this process.
struct Held {
    _renewal: Renewal,
    /// Of the lease in a container whose engine does not see our files.
    _away: Option<tokio_util::task::AbortOnDropHandle<()>>,
}

async fn hold(machine: &Machine, kept: &Kept) -> Result<Held, Fault> {
    let fault = |error: io::Error| Fault::new(Blame::Host, "take over the lease").cause(error.to_string());
    let patience = Duration::from_secs(kept.patience_seconds);
    let away = match &kept.door {
        Door::Container(door) => machine.container.hold(door, patience).await?,
        Door::Local(_) => None,
    };
    lease::adopt(&kept.lease).map_err(fault)?;
    let deadline = Instant::now() + START_PATIENCE / 2;
    loop {
        match Renewal::start(&kept.lease) {
            Ok(renewal) => return Ok(Held { _renewal: renewal, _away: away }),
            // Our pgdrill gives it up at this very moment.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => return Err(fault(error)),
        }
    }
}

impl Door {
    /// Whether there is nothing left to be entered.
    fn is_closed(&self) -> bool {
        match self {
            // Its end is the engine's to know, and its guard's to bring about.
            Door::Container(_) => false,
            Door::Local(door) => door.is_closed(),
        }
    }
}

fn say(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// A keeper that runs.
#[derive(Clone, Debug)]
pub(crate) struct Keeper {
    pid: u32,
    started: u64,
    pub(crate) kept: Kept,
}

/// The sandboxes that this user keeps on this machine.
pub(crate) fn all() -> Vec<Keeper> {
    let mut found: Vec<Keeper> = processes::pids().filter_map(look).collect();
    found.sort_by(|a, b| a.kept.lease.drill.cmp(&b.kept.lease.drill));
    found
}

/// A process of this user, and of no room: there restored code could call itself what it likes.
fn look(pid: u32) -> Option<Keeper> {
    let process = Path::new("/proc").join(pid.to_string());
    let text = fs::read(process.join("cmdline")).ok()?;
    let mut words = text.split(|it| *it == 0).map(|it| String::from_utf8_lossy(it).into_owned());
    let (word, spec) = (words.nth(1)?, words.next()?);
    let namespace = |process: &Path| fs::read_link(process.join("ns/pid")).ok();
    let ours = fs::metadata(&process).ok()?.uid() == nix::unistd::geteuid().as_raw()
        && namespace(&process)? == namespace(Path::new("/proc/self"))?;
    let kept = (word == KEEPER && ours).then(|| asked(&spec.into()))??;
    Some(Keeper { pid, started: processes::look(pid)?.started, kept })
}

impl Keeper {
    /// Has it release its sandbox, and returns when it is gone. What is left then is for the caller to find.
    pub(crate) async fn end(&self) {
        let lives = || processes::look(self.pid).is_some_and(|it| it.started == self.started && it.state != 'Z');
        let began = Instant::now();
        if lives() {
            processes::signal(self.pid, Signal::SIGTERM);
        }
        while lives() {
            if began.elapsed() > RELEASE_PATIENCE {
                processes::signal(self.pid, Signal::SIGKILL);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn kept() -> Kept {
        Kept {
            lease: Lease {
                run: "0199f3a0aaaa".to_owned(),
                drill: "pgdrill-456789ab-0".to_owned(),
                scratch: "/tmp/pgdrill-456789ab-0".into(),
            },
            name: "shop".to_owned(),
            until: Timestamp::UNIX_EPOCH,
            length_seconds: 1,
            patience_seconds: 600,
            database: "shop".to_owned(),
            superuser: "postgres".to_owned(),
            door: Door::Container(ContainerDoor {
                name: "pgdrill-456789ab-0".to_owned(),
                user: "999:999".to_owned(),
                bindir: "/usr/lib/postgresql/17/bin".to_owned(),
                streams: false,
            }),
            disk: None,
        }
    }

    #[test]
    fn a_kept_sandbox_is_meant_by_its_run_or_by_its_own_name() {
        let cases =
            [("0199f3a0aaaa", true), ("0199", true), ("pgdrill-456789ab-0", true), ("pgdrill-", false), ("", false)];
        for (text, expected) in cases {
            assert_eq!(kept().is_meant_by(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_kept_survives_a_command_line_and_opens_the_restored_database() {
        let text = serde_json::to_string(&kept()).unwrap();
        assert_eq!(asked(&text.into()), Some(kept()));
        assert_eq!(asked(&"nonsense".into()), None);
        let argv = kept().psql(&["-c".to_owned(), "select 1".to_owned()]).join(" ");
        assert_eq!(argv, "/usr/lib/postgresql/17/bin/psql -h /pgdrill/run -U postgres -d shop -c select 1");
    }

    #[test]
    fn only_a_process_that_says_so_is_a_keeper() {
        assert!(look(std::process::id()).is_none() && look(u32::MAX).is_none());
    }
}
