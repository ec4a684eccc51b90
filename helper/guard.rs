//! Ends a sandbox whose drill is no longer there: `guard LEASE PATIENCE DIRECTORY`.
//!
//! It is the entry point of every sandbox container, where nothing else waits for a dead host. The lease is a file that
//! pgdrill rewrites every few seconds. When its content has not changed for PATIENCE seconds, the processes of the sandbox
//! are killed, DIRECTORY is emptied, and the guard exits with status 75, which ends the container.
//!
//! The guard counts its own ticks and never reads a clock: a machine that was frozen for a night has not lost its
//! patience when it wakes up, so a drill survives that. A missing lease counts as one that does not change.
//!
//! Only the standard library, compiled by the build script and embedded in pgdrill.

mod disarm;
mod fetch;
mod remote;
mod spool;

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;
use std::{env, fs, thread};

/// `EX_TEMPFAIL` of sysexits.h; pgdrill knows it by this number.
const LAPSED: u8 = 75;
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["fetch", spool, name, destination] => return fetch::fetch(Path::new(spool), name, Path::new(destination)),
        ["relay", socket] => return remote::relay(Path::new(socket)),
        ["receive", directory] => return remote::receive(Path::new(directory)),
        ["spool", directory] => return spool::serve(Path::new(directory)),
        ["disarm", data, aside] => return remote::disarm(Path::new(data), Path::new(aside), None),
        ["disarm", data, aside, signal] => return remote::disarm(Path::new(data), Path::new(aside), Some(signal)),
        ["hex", file] => return remote::hex(Path::new(file)),
        ["read", file, bytes] => return remote::read(Path::new(file), bytes),
        ["renew", lease, counter] => return remote::renew(Path::new(lease), counter),
        _ => {}
    }
    let [lease, patience, directory] = args.as_slice() else { return ExitCode::from(USAGE) };
    let Ok(patience) = patience.parse::<u64>() else { return ExitCode::from(USAGE) };
    wait(Path::new(lease), patience);
    kill_the_others();
    empty(Path::new(directory));
    ExitCode::from(LAPSED)
}

/// Returns when the lease has not changed for `patience` ticks of a second.
fn wait(lease: &Path, patience: u64) {
    let mut seen = None;
    let mut idle = 0;
    while idle < patience {
        thread::sleep(Duration::from_secs(1));
        let now = fs::read(lease).ok();
        if now.is_some() && now != seen {
            seen = now;
            idle = 0;
        } else {
            idle += 1;
        }
    }
}

/// A server that still runs would write again what is being deleted. `kill` is built into every shell. In a container
/// /proc shows the sandbox's processes and nothing else; outside of one (where tests run it) the guard must not do this.
fn kill_the_others() {
    if !in_a_sandbox() {
        return;
    }
    let own = std::process::id();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|it| it.file_name().to_str()?.parse::<u32>().ok());
    let others = pids.filter(|pid| *pid != own && *pid != 1).map(|pid| pid.to_string());
    let mut kill = Command::new("/bin/sh");
    kill.args(["-c", r#"kill -9 "$@""#, "kill"]).args(others);
    kill.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // Without a shell the end of the container kills them, a moment later.
    drop(kill.status());
}

/// Whether the guard is the first process of its namespace, or the child of the engine's own first process.
fn in_a_sandbox() -> bool {
    let own = env::current_exe().ok();
    let first = fs::read("/proc/1/cmdline").unwrap_or_default();
    own.is_some_and(|own| {
        let own = own.to_string_lossy().into_owned();
        own == "/pgdrill/guard" && first.split(|it| *it == 0).any(|word| word == own.as_bytes())
    })
}

/// Deletes all that lies in a directory and goes on after errors: the more is gone, the better.
fn empty(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let is_directory = entry.file_type().is_ok_and(|it| it.is_dir());
        if is_directory {
            empty(&path);
            drop(fs::remove_dir(&path));
        } else {
            drop(fs::remove_file(&path));
        }
    }
}
