//! Reading one file, once: everything that passes is counted and digested, and the reader can be stopped.

use std::fmt::Write as _;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::files::{Input, Stat};
use super::objects::{self, Trouble};
use super::{OnBytes, Reading};
use crate::fault::{Blame, Fault};

pub(super) const CHUNK: usize = 64 * 1024;

/// A file that is read from its start to its end.
pub(super) struct Tap<'a> {
    file: Input,
    path: &'a Path,
    pub(super) bytes: u64,
    digest: Option<Sha256>,
    reading: &'a Reading,
    on_bytes: OnBytes<'a>,
    /// The medium failed: whatever a decoder then says about the contents is not the backup's fault.
    failed: Option<io::Error>,
    stopped: bool,
}

impl<'a> Tap<'a> {
    pub(super) fn open(path: &'a Path, reading: &'a Reading, on_bytes: OnBytes<'a>) -> Result<Tap<'a>, Fault> {
        Tap::over(reading.open(path), path, reading, on_bytes)
    }

    /// Of what was opened already.
    pub(super) fn over(
        file: io::Result<Input>,
        path: &'a Path,
        reading: &'a Reading,
        on_bytes: OnBytes<'a>,
    ) -> Result<Tap<'a>, Fault> {
        let file = file.map_err(|it| medium(path, "open", &it))?;
        Ok(Tap { file, path, bytes: 0, digest: None, reading, on_bytes, failed: None, stopped: false })
    }

    pub(super) fn digesting(mut self) -> Tap<'a> {
        self.digest = Some(Sha256::new());
        self
    }

    /// Reads what a decoder left, so that the digest is of all bytes.
    pub(super) fn drain(&mut self) -> Result<(), Fault> {
        let mut buffer = vec![0; CHUNK];
        loop {
            match self.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) => return Err(self.blame(&error)),
            }
        }
    }

    /// The plain bytes of what is left, where the file is encrypted as a whole.
    pub(super) fn plain(&mut self) -> io::Result<Box<dyn Read + Send + '_>> {
        let (reading, path) = (self.reading, self.path);
        reading.vault.plain(path, self, reading)
    }

    /// The fault that lies beneath an error of a reader that reads through this.
    pub(super) fn blame(&self, error: &io::Error) -> Fault {
        let sealed = || self.reading.vault.blame(self.path, error, self.reading);
        self.trouble().or_else(sealed).unwrap_or_else(|| {
            Fault::new(Blame::Backup, format!("read {}", self.path.display()))
                .cause(format!("its compressed data are cut or damaged, after {} bytes: {error}", self.bytes))
                .hint("compare the file with the original: its size first, then its checksum")
        })
    }

    /// A fault of ours or of the medium, if there was one.
    pub(super) fn trouble(&self) -> Option<Fault> {
        if self.stopped {
            return Some(Fault::new(Blame::Host, format!("read {}", self.path.display())).cause("it was told to stop"));
        }
        self.failed.as_ref().map(|it| medium(self.path, "read", it))
    }

    /// Lowercase hex of what was read so far.
    pub(super) fn sha256(&mut self) -> String {
        hex(&self.digest.take().unwrap_or_default().finalize())
    }
}

impl Read for Tap<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.reading.is_stopped() {
            self.stopped = true;
            return Err(io::Error::other("stopped"));
        }
        let room = buffer.len().min(CHUNK);
        let read = loop {
            match self.file.read(&mut buffer[..room]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.failed = Some(objects::again(&error));
                    return Err(error);
                }
                Ok(read) => break read,
            }
        };
        if let Some(digest) = &mut self.digest {
            digest.update(&buffer[..read]);
        }
        self.bytes += read as u64;
        (self.on_bytes)(self.bytes);
        Ok(read)
    }
}

/// How reading failed, for those who only hear what a decoder makes of that.
#[derive(Clone, Default)]
pub(super) struct Failures(Arc<Mutex<Option<io::Error>>>);

impl Failures {
    /// Where the medium failed, that is the fault, whatever was said of the contents.
    pub(super) fn beneath(&self, path: &Path, fault: Fault) -> Fault {
        let failed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failed.as_ref().map_or(fault, |it| medium(path, "read", it))
    }
}

/// A file whose readers' readers see nothing of how it fails.
pub(super) struct Watched {
    input: Input,
    failures: Failures,
}

impl Watched {
    pub(super) fn open(path: &Path, reading: &Reading, failures: &Failures) -> Result<Watched, Fault> {
        let input = reading.open(path).map_err(|it| medium(path, "open", &it))?;
        Ok(Watched { input, failures: failures.clone() })
    }

    fn heard<T>(&self, outcome: io::Result<T>) -> io::Result<T> {
        outcome.inspect_err(|error| {
            if objects::is_medium(error) && error.kind() != io::ErrorKind::Interrupted {
                let mut failed = self.failures.0.lock().unwrap_or_else(PoisonError::into_inner);
                failed.get_or_insert_with(|| objects::again(error));
            }
        })
    }
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer);
        self.heard(read)
    }
}

impl Seek for Watched {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = self.input.seek(to);
        self.heard(at)
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, it| {
        let _ = write!(text, "{it:02x}");
        text
    })
}

/// The fault for an error of the file system or of an object store.
///
/// A file that is not there is the backup's fault only if the directory that should hold it can be looked into: an
/// empty mount point or a missing permission says nothing about a backup.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "an open set: the kinds of I/O errors grow with the standard library"
)]
pub(super) fn medium(path: &Path, doing: &str, error: &io::Error) -> Fault {
    if let Some(trouble) = Trouble::of(error) {
        return trouble.fault(path, doing);
    }
    let fault = |blame, cause: String| Fault::new(blame, format!("{doing} {}", path.display())).cause(cause);
    let parent = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match error.kind() {
        io::ErrorKind::NotFound if std::fs::read_dir(parent).is_ok() => {
            fault(Blame::Backup, format!("there is no {} in {}", file_name(path), parent.display()))
                .hint("look whether the backup job still writes there, and whether retention removed the file")
        }
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => fault(Blame::Host, missing(path)).hint(
            "is a file system not mounted? A relative path in a scenario counts from the scenario file's directory",
        ),
        io::ErrorKind::PermissionDenied => fault(Blame::Host, error.to_string())
            .hint("let the user who runs pgdrill read the file and pass through the directories above it"),
        _ => fault(Blame::Host, error.to_string())
            .hint("look into the kernel's log (dmesg) for errors of the disk or of the mount"),
    }
}

pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// How much of a path is there.
pub(super) fn missing(path: &Path) -> String {
    let there = path.ancestors().skip(1).find(|it| it.exists());
    match there {
        Some(there) if !there.as_os_str().is_empty() => {
            format!("of {}, only {} is there", path.display(), there.display())
        }
        Some(_) | None => format!("nothing of {} is there", path.display()),
    }
}

pub(super) fn stat(path: &Path, reading: &Reading) -> Result<Stat, Fault> {
    reading.stat(path).map_err(|it| medium(path, "look at", &it))
}
