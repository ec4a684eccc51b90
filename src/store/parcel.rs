//! Files as one stream, for a place that does not see them; `helper/remote.rs` takes it apart there, and says what its lines mean.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use super::find::look;
use super::pour::{of_directory, plain_files};
use super::tap::{CHUNK, Tap, stat};
use super::{OnBytes, Poured, Reading};
use crate::fault::{Blame, Fault};

/// Chunks on their way: they keep both sides busy, and bound the memory.
const IN_FLIGHT: usize = 16;
const END: &str = "end\n";

/// What comes out of an [`Outbox`].
pub type Parcel = mpsc::Receiver<Vec<u8>>;

/// Where a stream of files goes in. Errors are of the kind `BrokenPipe` where the receiver wants no more, and knows why.
#[derive(Clone, Debug)]
pub struct Outbox {
    send: mpsc::Sender<Vec<u8>>,
    /// Files and directories.
    made: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl Outbox {
    pub fn new() -> (Outbox, Parcel) {
        let (send, receive) = mpsc::channel(IN_FLIGHT);
        (Outbox { send, made: Arc::default() }, receive)
    }

    /// Says that this was all.
    pub fn end(&self) -> io::Result<()> {
        self.say(END, &[])
    }

    pub(super) fn directory(&self, path: &Path) -> io::Result<()> {
        self.say(&format!("dir {}\n", text(path)?), &[])?;
        self.made().insert(path.to_owned());
        Ok(())
    }

    pub(super) fn link(&self, to: &str, path: &Path) -> io::Result<()> {
        self.say(&format!("link {}\n{to}\n", text(path)?), &[])
    }

    /// A new file, of which the bytes follow.
    pub(super) fn file(&self, mode: u32, path: &Path) -> io::Result<()> {
        self.say(&format!("file {mode:o} {}\n", text(path)?), &[])?;
        self.made().insert(path.to_owned());
        Ok(())
    }

    pub(super) fn open(&self, bytes: u64, path: &Path) -> io::Result<()> {
        if !self.has(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.say(&format!("open {bytes} {}\n", text(path)?), &[])
    }

    pub(super) fn bytes(&self, bytes: &[u8]) -> io::Result<()> {
        self.say(&format!("bytes {}\n", bytes.len()), bytes)
    }

    pub(super) fn bytes_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.say(&format!("at {at} {}\n", bytes.len()), bytes)
    }

    pub(super) fn size(&self, bytes: u64) -> io::Result<()> {
        self.say(&format!("size {bytes}\n"), &[])
    }

    pub(super) fn has(&self, path: &Path) -> bool {
        self.made().contains(path)
    }

    fn made(&self) -> std::sync::MutexGuard<'_, BTreeSet<PathBuf>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, line: &str, bytes: &[u8]) -> io::Result<()> {
        let chunk = [line.as_bytes(), bytes].concat();
        self.send.blocking_send(chunk).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

fn text(path: &Path) -> io::Result<&str> {
    let text = path.to_str().filter(|it| !it.contains('\n'));
    text.ok_or_else(|| {
        let name = String::from_utf8_lossy(path.as_os_str().as_bytes()).into_owned();
        let cause = format!("{name:?} cannot be sent: its name has a line feed, or is no UTF-8");
        io::Error::new(io::ErrorKind::InvalidInput, cause)
    })
}

/// Sends what lies at `path` under a `name`, readable for all, and digests it as [`copy`](super::copy) does.
///
/// Fault of the harness: the receiver wanted no more, and knows why.
pub(crate) fn parcel(
    path: &Path,
    name: &str,
    outbox: &Outbox,
    reading: &Reading,
    on_bytes: OnBytes,
) -> Result<Poured, Fault> {
    let seen = stat(path, reading)?;
    let (bytes, sha256) = if seen.is_dir() {
        let files = plain_files(path, reading)?;
        let (mut total, mut digests) = (0, Vec::new());
        for found in &files {
            let name = format!("{name}/{}", found.name);
            let (bytes, sha256) = one(&found.path, &name, outbox, reading, &mut |bytes| on_bytes(total + bytes))?;
            total += bytes;
            digests.push(sha256);
        }
        (total, of_directory(&files, &digests))
    } else {
        one(path, name, outbox, reading, on_bytes)?
    };
    outbox.end().map_err(|it| unsent(path, &it))?;
    Ok(Poured { bytes, sha256, seen: look(path, reading)?, cut_short: false, counted: None, damage: None })
}

/// A text of ours as a whole parcel, for its receiver's user only.
pub(crate) fn parcel_of(name: &str, text: &str) -> Parcel {
    let (send, receive) = mpsc::channel(1);
    let parcel = format!("file 600 {name}\nbytes {}\n{text}{END}", text.len());
    // There is room for one.
    let _ = send.try_send(parcel.into_bytes());
    receive
}

/// The answer to a question for WAL, which whoever asked finds whole or not at all: `kind` is a directory of the spool.
pub(crate) fn answer(kind: &str, name: &str, bytes: u64) -> (String, String) {
    (format!("file 600 ahead/{name}\nbytes {bytes}\n"), format!("move ahead/{name} {kind}/{name}\n"))
}

fn one(path: &Path, name: &str, outbox: &Outbox, reading: &Reading, on_bytes: OnBytes) -> Result<(u64, String), Fault> {
    let unsent = |it: &io::Error| unsent(path, it);
    outbox.file(0o644, Path::new(name)).map_err(|it| unsent(&it))?;
    let mut tap = Tap::open(path, reading, on_bytes)?.digesting();
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = tap.read(&mut buffer).map_err(|it| tap.blame(&it))?;
        if read == 0 {
            return Ok((tap.bytes, tap.sha256()));
        }
        outbox.bytes(&buffer[..read]).map_err(|it| unsent(&it))?;
    }
}

fn unsent(path: &Path, error: &io::Error) -> Fault {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Fault::new(Blame::Harness, "send a backup: the receiver wanted no more");
    }
    Fault::new(Blame::Scenario, format!("send {}", path.display())).cause(error.to_string())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn sent(path: &Path) -> Result<(Vec<u8>, Poured), Fault> {
        let (outbox, mut receive) = Outbox::new();
        let received = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            while let Some(chunk) = receive.blocking_recv() {
                bytes.extend_from_slice(&chunk);
            }
            bytes
        });
        let poured = parcel(path, "backup", &outbox, &Reading::default(), &mut |_| ())?;
        drop(outbox);
        Ok((received.join().unwrap(), poured))
    }

    #[test]
    fn a_parcel_has_the_digest_of_a_copy_and_all_its_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let backup = directory.path().join("shop.dir");
        std::fs::create_dir_all(backup.join("deep")).unwrap();
        std::fs::write(backup.join("toc.dat"), "toc").unwrap();
        std::fs::write(backup.join("deep/1.dat"), "").unwrap();
        let (bytes, poured) = sent(&backup).unwrap();
        let copied =
            super::super::copy(&backup, &directory.path().join("to"), &Reading::default(), &mut |_| ()).unwrap();
        assert_eq!(poured, copied);
        let expected = "file 644 backup/deep/1.dat\nfile 644 backup/toc.dat\nbytes 3\ntocend\n";
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
        let (bytes, poured) = sent(&backup.join("toc.dat")).unwrap();
        assert_eq!((bytes.as_slice(), poured.bytes), (&b"file 644 backup\nbytes 3\ntocend\n"[..], 3));
    }

    #[test]
    fn a_receiver_that_wants_no_more_ends_it() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("f"), "f").unwrap();
        let (outbox, receive) = Outbox::new();
        drop(receive);
        let fault = parcel(&directory.path().join("f"), "f", &outbox, &Reading::default(), &mut |_| ()).unwrap_err();
        assert_eq!(fault.blame, Blame::Harness);
    }

    #[test]
    fn a_name_that_would_be_another_line_is_not_sent() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f\nend");
        std::fs::write(&path, "f").unwrap();
        let (outbox, _receive) = Outbox::new();
        assert!(outbox.file(0o600, Path::new("f\nend")).is_err());
        let fault = parcel(&path, "f\nend", &outbox, &Reading::default(), &mut |_| ()).unwrap_err();
        assert_eq!(fault.blame, Blame::Scenario);
    }
}
