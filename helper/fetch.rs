//! `guard fetch SPOOL NAME DESTINATION`: the restored server's whole `restore_command`.
//!
//! It only asks a directory: `SPOOL/want/NAME` is the question, and pgdrill, which alone reads the archive, answers with
//! one of `SPOOL/have/NAME` (the file), `SPOOL/absent/NAME` or `SPOOL/failed/NAME` (the reason). PostgreSQL takes every
//! status below 126 for the end of the archive, so only what is absent may end so: what failed must stop the server.

use std::fs;
use std::path::{Component, Path};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

/// PostgreSQL goes on with what it has.
const ABSENT: u8 = 1;
/// PostgreSQL stops: see `RestoreArchivedFile` in its `xlogarchive.c`.
const FAILED: u8 = 200;

pub fn fetch(spool: &Path, name: &str, destination: &Path) -> ExitCode {
    if Path::new(name).components().any(|it| !matches!(it, Component::Normal(_))) || name.contains('/') {
        return fail(&format!("\"{name}\" is no name of a WAL file"));
    }
    let question = spool.join("want").join(name);
    if let Err(error) = fs::write(&question, []) {
        return fail(&format!("cannot ask for {name}: {error}"));
    }
    let mut pause = Duration::from_micros(500);
    loop {
        if let Some(status) = answer(spool, name, destination) {
            drop(fs::remove_file(&question));
            return status;
        }
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

fn answer(spool: &Path, name: &str, destination: &Path) -> Option<ExitCode> {
    let have = spool.join("have").join(name);
    if have.exists() {
        return Some(match fs::copy(&have, destination) {
            Ok(_) => ExitCode::SUCCESS,
            // Taken back just now: there will be another answer.
            Err(_) if !have.exists() => return None,
            Err(error) => fail(&format!("cannot copy {name}: {error}")),
        });
    }
    if spool.join("absent").join(name).exists() {
        return Some(ExitCode::from(ABSENT));
    }
    let reason = fs::read_to_string(spool.join("failed").join(name)).ok()?;
    Some(fail(&reason))
}

fn fail(reason: &str) -> ExitCode {
    eprintln!("pgdrill: {reason}");
    ExitCode::from(FAILED)
}
