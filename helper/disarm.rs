//! What is done to a restored data directory before a server starts on it: here, or by the helper where it lies in a container
//! whose engine does not see our files. Only the standard library: it is part of both programs.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;

/// Beside the data directory, for the tablespaces.
pub(crate) const TABLESPACES: &str = "tblspc";

/// Files of a data directory that speak of the server that it came from, and would be believed.
///
/// `postgresql.auto.conf` is read after our configuration; `standby.signal` keeps a server from ever being promoted;
/// `tablespace_map` would have links made to where tablespaces lay in production.
const SET_ASIDE: [&str; 7] = [
    "postgresql.auto.conf",
    "standby.signal",
    "recovery.signal",
    "recovery.conf",
    "tablespace_map",
    "postmaster.pid",
    "postmaster.opts",
];

/// pg_basebackup leaves these out or empty, and a server demands them.
const DEMANDED: [&str; 16] = [
    "pg_wal",
    "pg_wal/archive_status",
    "pg_replslot",
    "pg_tblspc",
    "pg_notify",
    "pg_serial",
    "pg_snapshots",
    "pg_stat",
    "pg_stat_tmp",
    "pg_subtrans",
    "pg_twophase",
    "pg_dynshmem",
    "pg_commit_ts",
    "pg_logical",
    "pg_logical/snapshots",
    "pg_logical/mappings",
];

/// Moves aside what would be believed, and asks for recovery. `signal`: the file that asks for it. `owner`: user and group
/// that what is made is to belong to; None: us.
pub(crate) fn disarm(data: &Path, aside: &Path, signal: Option<&str>, owner: Option<(u32, u32)>) -> io::Result<()> {
    fs::create_dir_all(aside)?;
    for name in SET_ASIDE {
        match fs::rename(data.join(name), aside.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    // pg_combinebackup leaves tablespaces within the data, where a server refuses them.
    for entry in fs::read_dir(data.join("pg_tblspc")).into_iter().flatten().flatten() {
        if entry.file_type()?.is_dir() {
            let beside = data.with_file_name(TABLESPACES).join(entry.file_name());
            fs::rename(entry.path(), beside)?;
            symlink(Path::new("../..").join(TABLESPACES).join(entry.file_name()), entry.path())?;
        }
    }
    // Slots would keep WAL for subscribers that are not here.
    for entry in fs::read_dir(data.join("pg_replslot")).into_iter().flatten().flatten() {
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        }
    }
    for name in DEMANDED {
        make(&data.join(name), owner)?;
    }
    if let Some(signal) = signal {
        let signal = data.join(signal);
        fs::OpenOptions::new().write(true).create_new(true).open(&signal)?;
        give(&signal, owner)?;
    }
    Ok(())
}

/// A directory for its owner alone, where there is none yet.
fn make(path: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        other => other?,
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    give(path, owner)
}

fn give(path: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    owner.map_or(Ok(()), |(uid, gid)| chown(path, Some(uid), Some(gid)))
}
