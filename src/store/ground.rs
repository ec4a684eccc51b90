//! Where a data directory is made: on this machine, or by `helper/remote.rs` in a container that sees none of our files.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, chown, fchown, symlink};
use std::path::Path;

use super::parcel::Outbox;

/// Whose files they are to be, or the way to them.
#[derive(Clone, Debug)]
pub enum Ground {
    /// Here, for this user and group. None: for us.
    Here { owner: Option<(u32, u32)> },
    /// There, for whoever takes the parcel; paths are those within its directory.
    Away(Outbox),
}

/// A file that is being written.
pub(super) enum Opened<'a> {
    Here(File),
    Away(&'a Outbox),
}

impl Ground {
    /// Makes a directory for its owner alone, where there is none yet. Those above it are there.
    pub(super) fn directory(&self, path: &Path) -> io::Result<()> {
        let owner = match self {
            Ground::Here { owner } => owner,
            Ground::Away(outbox) => return outbox.directory(path),
        };
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            other => other?,
        }
        fs::set_permissions(path, Permissions::from_mode(0o700))?;
        owner.map_or(Ok(()), |(uid, gid)| chown(path, Some(uid), Some(gid)))
    }

    /// Makes the directories above `path`.
    pub(super) fn parents(&self, path: &Path) -> io::Result<()> {
        let Some(parent) = path.parent() else { return Ok(()) };
        // A parcel's receiver makes them itself.
        if matches!(self, Ground::Away(_)) || parent.is_dir() {
            return Ok(());
        }
        self.parents(parent)?;
        self.directory(parent)
    }

    pub(super) fn link(&self, to: &str, path: &Path) -> io::Result<()> {
        match self {
            Ground::Here { .. } => symlink(to, path),
            Ground::Away(outbox) => outbox.link(to, path),
        }
    }

    /// A new file, for its owner alone.
    pub(super) fn create(&self, path: &Path) -> io::Result<Opened<'_>> {
        let owner = match self {
            Ground::Here { owner } => owner,
            Ground::Away(outbox) => return outbox.file(0o600, path).map(|()| Opened::Away(outbox)),
        };
        let file = File::create_new(path)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        owner.map_or(Ok(()), |(uid, gid)| fchown(&file, Some(uid), Some(gid)))?;
        Ok(Opened::Here(file))
    }

    /// A file that was created before, with another length.
    pub(super) fn open(&self, path: &Path, bytes: u64) -> io::Result<Opened<'_>> {
        match self {
            Ground::Here { .. } => {
                let file = File::options().write(true).open(path)?;
                file.set_len(bytes)?;
                Ok(Opened::Here(file))
            }
            Ground::Away(outbox) => outbox.open(bytes, path).map(|()| Opened::Away(outbox)),
        }
    }

    pub(super) fn has(&self, path: &Path) -> bool {
        match self {
            Ground::Here { .. } => path.exists(),
            Ground::Away(outbox) => outbox.has(path),
        }
    }
}

impl Opened<'_> {
    /// Behind what was written before.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Opened::Here(file) => io::Write::write_all(file, bytes),
            Opened::Away(outbox) => outbox.bytes(bytes),
        }
    }

    pub(super) fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        match self {
            Opened::Here(file) => file.write_all_at(bytes, at),
            Opened::Away(outbox) => outbox.bytes_at(bytes, at),
        }
    }

    pub(super) fn set_len(&self, bytes: u64) -> io::Result<()> {
        match self {
            Opened::Here(file) => file.set_len(bytes),
            Opened::Away(outbox) => outbox.size(bytes),
        }
    }
}
