//! A file or a directory as one stream, for a place that does not see it; `helper/remote.rs` takes it apart there.

use std::io::Read;
use std::ops::ControlFlow;
use std::path::Path;

use tokio::sync::mpsc;

use super::find::look;
use super::pour::{of_directory, plain_files};
use super::tap::{CHUNK, Tap, stat};
use super::{OnBytes, Poured, Reading};
use crate::fault::{Blame, Fault};

const END: &[u8] = b"end\n";

/// Where the stream goes. It may want no more.
type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> ControlFlow<()>;

/// Sends what lies at `path` under a `name`, readable for all, and digests it as [`copy`](super::copy) does.
///
/// Fault of the harness: the receiver wanted no more, and knows why.
pub(crate) fn parcel(
    path: &Path,
    name: &str,
    sink: Sink<'_>,
    reading: &Reading,
    on_bytes: OnBytes,
) -> Result<Poured, Fault> {
    let seen = stat(path, reading)?;
    let (bytes, sha256) = if seen.is_dir() {
        let files = plain_files(path, reading)?;
        let (mut total, mut digests) = (0, Vec::new());
        for found in &files {
            let name = format!("{name}/{}", found.name);
            let (bytes, sha256) = one(&found.path, &name, sink, reading, &mut |bytes| on_bytes(total + bytes))?;
            total += bytes;
            digests.push(sha256);
        }
        (total, of_directory(&files, &digests))
    } else {
        one(path, name, sink, reading, on_bytes)?
    };
    pass(sink, END)?;
    Ok(Poured { bytes, sha256, seen: look(path, reading)?, cut_short: false, counted: None, damage: None })
}

/// A text of ours as a whole parcel, for its receiver's user only.
pub(crate) fn parcel_of(name: &str, text: &str) -> mpsc::Receiver<Vec<u8>> {
    let (send, receive) = mpsc::channel(1);
    let parcel = [header(text.len() as u64, 0o600, name).as_bytes(), text.as_bytes(), END].concat();
    // There is room for one.
    let _ = send.try_send(parcel);
    receive
}

fn header(bytes: u64, mode: u32, name: &str) -> String {
    format!("{bytes} {mode:o} {name}\n")
}

fn one(path: &Path, name: &str, sink: Sink<'_>, reading: &Reading, on_bytes: OnBytes) -> Result<(u64, String), Fault> {
    let size = stat(path, reading)?.bytes;
    if name.contains('\n') {
        return Err(Fault::new(Blame::Scenario, format!("send {}", path.display())).cause("its name has a line feed"));
    }
    pass(sink, header(size, 0o644, name).as_bytes())?;
    let mut tap = Tap::open(path, reading, on_bytes)?.digesting();
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = tap.read(&mut buffer).map_err(|it| tap.blame(&it))?;
        // The receiver counts on the size that was announced.
        if tap.bytes > size || (read == 0 && tap.bytes < size) {
            return Err(Fault::new(Blame::Host, format!("send {}", path.display()))
                .cause(format!("it had {size} bytes and now has another size"))
                .hint("Something writes to the backup meanwhile: drill it when it is complete."));
        }
        if read == 0 {
            return Ok((tap.bytes, tap.sha256()));
        }
        pass(sink, &buffer[..read])?;
    }
}

fn pass(sink: Sink<'_>, bytes: &[u8]) -> Result<(), Fault> {
    match sink(bytes) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Fault::new(Blame::Harness, "send a backup: the receiver wanted no more")),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn sent(path: &Path) -> Result<(Vec<u8>, Poured), Fault> {
        let mut bytes = Vec::new();
        let mut sink = |chunk: &[u8]| {
            bytes.extend_from_slice(chunk);
            ControlFlow::Continue(())
        };
        let poured = parcel(path, "backup", &mut sink, &Reading::default(), &mut |_| ())?;
        Ok((bytes, poured))
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
        assert_eq!(String::from_utf8(bytes).unwrap(), "0 644 backup/deep/1.dat\n3 644 backup/toc.dat\ntocend\n");
        let (bytes, poured) = sent(&backup.join("toc.dat")).unwrap();
        assert_eq!((bytes.as_slice(), poured.bytes), (&b"3 644 backup\ntocend\n"[..], 3));
    }

    #[test]
    fn a_receiver_that_wants_no_more_ends_it() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("f"), "f").unwrap();
        let mut sink = |_: &[u8]| ControlFlow::Break(());
        let fault = parcel(&directory.path().join("f"), "f", &mut sink, &Reading::default(), &mut |_| ()).unwrap_err();
        assert_eq!(fault.blame, Blame::Harness);
    }
}
