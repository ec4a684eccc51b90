//! Reading all bytes of a backup once, with their digest.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use sha2::{Digest, Sha256};

use super::files::{FileKind, Input, Part};
use super::find::{Found, files, look, toc_of};
use super::tap::{CHUNK, Tap, hex, stat};
use super::{OnBytes, Poured, Reading};
use crate::fault::{Blame, Fault};
use crate::format::archive::Archive;
use crate::format::counted::{Counted, LargeObjectData};
use crate::format::data::{self, DirectoryFiles, FileRole};
use crate::format::{Compression, decode, sniff};

/// What to count in the bytes that pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counting {
    Nothing,
    /// An archive in custom format.
    Custom,
    /// One in tar format.
    Tar,
}

/// Streams the decoded bytes of a file to `sink`, in chunks of at most 64 KiB, digests the stored ones, and counts what the
/// decoded ones hold on a thread of its own.
pub fn pour(
    path: &Path,
    compression: Compression,
    counting: Counting,
    sink: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    reading: &Reading,
    on_bytes: OnBytes,
) -> Result<Poured, Fault> {
    let count: fn(Fed) -> Result<Counted, Fault> = match counting {
        Counting::Nothing => return pass(path, compression, sink, reading, on_bytes),
        Counting::Custom => |input| data::count_custom(input),
        Counting::Tar => |input| data::count_tar(input),
    };
    std::thread::scope(|scope| {
        let (send, receive) = mpsc::sync_channel::<Vec<u8>>(CHUNKS_AHEAD);
        let counting = scope.spawn(move || {
            yield_to_others();
            count(Fed { chunks: receive, chunk: Vec::new(), used: 0 })
        });
        let mut tee = |bytes: &[u8]| {
            // A counter that has ended has seen enough, or has found damage: the restore goes on all the same.
            let _ = send.send(bytes.to_vec());
            sink(bytes)
        };
        let poured = pass(path, compression, &mut tee, reading, on_bytes);
        drop(send);
        let counted = counting.join();
        let mut poured = poured?;
        match counted {
            _ if poured.cut_short => {}
            Ok(Ok(counted)) => poured.counted = Some(counted),
            Ok(Err(fault)) => poured.damage = Some(fault),
            Err(_) => return Err(Fault::new(Blame::Harness, format!("count the rows in {}", path.display()))),
        }
        Ok(poured)
    })
}

/// Chunks on their way to the counter: they bound the memory.
const CHUNKS_AHEAD: usize = 64;

/// Lets the restore have the processors first: its time is measured, and a server that loads data leaves enough idle.
fn yield_to_others() {
    const NICEST: i32 = 19;
    // Of this thread alone. Where it is refused, the count takes its share as any thread does.
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICEST);
}

/// What another thread sends, as something to read.
struct Fed {
    chunks: mpsc::Receiver<Vec<u8>>,
    chunk: Vec<u8>,
    used: usize,
}

impl Read for Fed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.used == self.chunk.len() {
            let Ok(chunk) = self.chunks.recv() else { return Ok(0) };
            (self.chunk, self.used) = (chunk, 0);
        }
        let length = buffer.len().min(self.chunk.len() - self.used);
        buffer[..length].copy_from_slice(&self.chunk[self.used..self.used + length]);
        self.used += length;
        Ok(length)
    }
}

fn pass(
    path: &Path,
    compression: Compression,
    sink: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    reading: &Reading,
    on_bytes: OnBytes,
) -> Result<Poured, Fault> {
    let mut tap = Tap::open(path, reading, on_bytes)?.digesting();
    let mut cut_short = false;
    let outcome = (|| {
        let mut decoder = decode::decoder(compression, tap.plain()?)?;
        let mut buffer = vec![0; CHUNK];
        loop {
            let read = decoder.read(&mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            if sink(&buffer[..read]).is_break() {
                cut_short = true;
                return Ok(());
            }
        }
    })();
    outcome.map_err(|it| tap.blame(&it))?;
    if !cut_short {
        tap.drain()?;
    }
    Ok(Poured {
        bytes: tap.bytes,
        sha256: tap.sha256(),
        seen: look(path, reading)?,
        cut_short,
        counted: None,
        damage: None,
    })
}

/// Digests a file, or all files of a directory, without a receiver, and counts what an archive holds. Compressed files of a
/// directory are decoded, so a cut one is a Fault.
pub fn scan(path: &Path, reading: &Reading, on_bytes: OnBytes) -> Result<Poured, Fault> {
    if !stat(path, reading)?.is_dir() {
        let (compression, counting) = countable(path, reading);
        return pour(path, compression, counting, &mut |_| ControlFlow::Continue(()), reading, on_bytes);
    }
    let files = plain_files(path, reading)?;
    let roles = directory_files(path, reading);
    let next = AtomicUsize::new(0);
    let (tell, told) = mpsc::channel::<Result<u64, Fault>>();
    let mut digests = vec![String::new(); files.len()];
    let mut counted = Counted::default();
    let outcome = std::thread::scope(|scope| {
        let work = |tell: mpsc::Sender<Result<u64, Fault>>| {
            let mut digests = Vec::new();
            while let Some(found) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                match digest(found, roles.as_ref(), reading, &tell) {
                    Ok((sha256, holds)) => digests.push((found, sha256, holds)),
                    Err(fault) => {
                        // The other thread ends, too: there is no file left for it.
                        next.store(files.len(), Ordering::Relaxed);
                        let _ = tell.send(Err(fault));
                        break;
                    }
                }
            }
            digests
        };
        let workers = [tell.clone(), tell].map(|it| scope.spawn(move || work(it)));
        let mut bytes = 0;
        let mut outcome = Ok(());
        for it in told {
            match it {
                Ok(more) => {
                    bytes += more;
                    on_bytes(bytes);
                }
                Err(fault) => outcome = Err(fault),
            }
        }
        for worker in workers {
            match worker.join() {
                Ok(done) => {
                    for (found, sha256, holds) in done {
                        counted.tables.extend(holds.tables);
                        if let Some(objects) = holds.large_objects {
                            let all = counted.large_objects.get_or_insert_default();
                            all.count += objects.count;
                            all.bytes += objects.bytes;
                        }

                        if let Some(at) = files.iter().position(|it| std::ptr::eq(it, found)) {
                            digests[at] = sha256;
                        }
                    }
                }
                Err(_) => {
                    outcome =
                        Err(Fault::new(Blame::Harness, format!("read {}", path.display())).cause("a thread panicked"));
                }
            }
        }
        outcome.map(|()| bytes)
    });
    let bytes = outcome?;
    counted.large_objects.get_or_insert_default();
    let counted = roles.map(|_| counted);
    let sha256 = of_directory(&files, &digests);
    Ok(Poured { bytes, sha256, seen: look(path, reading)?, cut_short: false, counted, damage: None })
}

/// What can be counted in a file, and how it is packed as a whole, by its first bytes.
fn countable(path: &Path, reading: &Reading) -> (Compression, Counting) {
    let nothing = (Compression::None, Counting::Nothing);
    let head = |input: &mut dyn Read| {
        let mut head = Vec::new();
        input.take(sniff::HEAD as u64).read_to_end(&mut head).map(|_| head)
    };
    let open = || reading.vault.plain(path, reading.open(path)?, reading);
    let Ok(Ok(start)) = open().map(|mut it| head(&mut it)) else { return nothing };
    let compression = sniff::compression(&start);
    let unpacked = open().and_then(|it| head(&mut decode::decoder(compression, it)?));
    match unpacked.map(|it| sniff::kind(&it)) {
        Ok(Ok(sniff::Kind::Custom)) => (compression, Counting::Custom),
        Ok(Ok(sniff::Kind::Tar)) => (compression, Counting::Tar),
        Ok(Ok(sniff::Kind::Text) | Err(_)) | Err(_) => nothing,
    }
}

/// What the files of a directory dump are. None where its table of contents cannot be read, which has been said before.
fn directory_files(path: &Path, reading: &Reading) -> Option<DirectoryFiles> {
    let toc = reading.open(&toc_of(path, reading)?).ok()?;
    let mut head = Vec::new();
    let mut toc = io::BufReader::new(toc);
    (&mut toc).take(sniff::HEAD as u64).read_to_end(&mut head).ok()?;
    let compression = sniff::compression(&head);
    let input = decode::decoder(compression, io::Cursor::new(head).chain(toc)).ok()?;
    Some(DirectoryFiles::of(&Archive::read(input).ok()?))
}

/// A file's digest, and what it holds.
fn digest(
    found: &Found,
    roles: Option<&DirectoryFiles>,
    reading: &Reading,
    tell: &mpsc::Sender<Result<u64, Fault>>,
) -> Result<(String, Counted), Fault> {
    let mut before = 0;
    let mut on_bytes = |bytes| {
        let _ = tell.send(Ok(bytes - before));
        before = bytes;
    };
    // pg_restore 18 takes a data file that was cut for a short one, and says nothing: so each is decoded to its end.
    // With zstd, pg_dump writes an empty large object as an empty file, without a frame.
    let empty_object = found.stat.bytes == 0 && found.name.starts_with("blob_");
    let compression = match found.path.extension().and_then(|it| it.to_str()) {
        _ if empty_object => Compression::None,
        Some("gz") => Compression::Gzip,
        Some("lz4") => Compression::Lz4,
        Some("zst") => Compression::Zstd,
        Some(_) | None => Compression::None,
    };
    let mut role = roles.map_or(FileRole::Other, |it| it.role(&found.name));
    let mut decoded = 0;
    let mut sink = |bytes: &[u8]| {
        decoded += bytes.len() as u64;
        if let FileRole::Table(counter, _) = &mut role {
            counter.push(bytes);
        }
        ControlFlow::Continue(())
    };
    let poured = pass(&found.path, compression, &mut sink, reading, &mut on_bytes);
    let mut holds = Counted::default();
    match role {
        FileRole::Table(counter, whose) => {
            let damaged = |why: &dyn std::fmt::Display| data::damaged_file(&found.name, &whose, why);
            let poured = poured.map_err(|it| match it.blame {
                Blame::Backup => damaged(&it.causes.join(": ")),
                Blame::Scenario | Blame::Host | Blame::Harness => it,
            })?;
            holds.tables = counter.finish().map_err(|it| damaged(&it))?;
            Ok((poured.sha256, holds))
        }
        FileRole::LargeObject => {
            holds.large_objects = Some(LargeObjectData { count: 1, bytes: decoded });
            Ok((poured?.sha256, holds))
        }
        FileRole::Other => Ok((poured?.sha256, holds)),
    }
}

/// See `recipe::Output::sha256`: what `sha256sum` prints for the files, digested.
pub(super) fn of_directory(files: &[Found], digests: &[String]) -> String {
    let mut whole = Sha256::new();
    for (found, sha256) in files.iter().zip(digests) {
        whole.update(format!("{sha256}  {}\n", found.name));
    }
    hex(&whole.finalize())
}

/// The files of a directory. Links could lead out of the backup, so they are refused; so is what is no file.
pub(super) fn plain_files(directory: &Path, reading: &Reading) -> Result<Vec<Found>, Fault> {
    let mut found = files(directory, reading)?;
    found.retain(|it| !it.stat.is_dir());
    match found.iter().find(|it| !it.stat.is_file()) {
        None => Ok(found),
        Some(odd) => Err(Fault::new(Blame::Scenario, format!("read {}", directory.display()))
            .cause(format!(
                "{} in it is {}",
                odd.name,
                if odd.stat.kind == FileKind::Link { "a symbolic link" } else { "no file" }
            ))
            .hint(
                "put a copy of the file in the link's place: links could lead out of the backup and are not followed",
            )),
    }
}

/// Copies a file or a directory to a place where nothing is yet, readable for all.
pub fn copy(path: &Path, to: &Path, reading: &Reading, on_bytes: OnBytes) -> Result<Poured, Fault> {
    if !stat(path, reading)?.is_dir() {
        let (bytes, sha256) = copy_file(reading.open(path), path, to, reading, on_bytes)?;
        return Ok(Poured { bytes, sha256, seen: look(path, reading)?, cut_short: false, counted: None, damage: None });
    }
    let files = plain_files(path, reading)?;
    make_directory(to)?;
    let mut total = 0;
    let mut digests = Vec::new();
    for (found, file) in reading.each(files.iter().map(|it| (it, Part::whole(&it.path, it.stat)))) {
        let target = to.join(&found.name);
        if let Some(parent) = target.parent().filter(|it| !it.is_dir()) {
            make_directory(parent)?;
        }
        let (bytes, sha256) = copy_file(file, &found.path, &target, reading, &mut |bytes| on_bytes(total + bytes))?;
        total += bytes;
        digests.push(sha256);
    }
    Ok(Poured {
        bytes: total,
        sha256: of_directory(&files, &digests),
        seen: look(path, reading)?,
        cut_short: false,
        counted: None,
        damage: None,
    })
}

fn make_directory(path: &Path) -> Result<(), Fault> {
    // A mode in `create` is subject to the umask; the server's user must get in whatever that is.
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .and_then(|()| fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)))
        .map_err(|it| unwritable(path, &it))
}

fn copy_file(
    file: io::Result<Input>,
    path: &Path,
    to: &Path,
    reading: &Reading,
    on_bytes: OnBytes,
) -> Result<(u64, String), Fault> {
    let mut tap = Tap::over(file, path, reading, on_bytes)?.digesting();
    let mut target: File =
        OpenOptions::new().write(true).create_new(true).mode(0o644).open(to).map_err(|it| unwritable(to, &it))?;
    target.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644)).map_err(|it| unwritable(to, &it))?;
    let copied = tap.plain().map_or_else(|it| Ok(Err(it)), |mut plain| pump(&mut *plain, &mut target, to));
    copied?.map_err(|it| tap.blame(&it))?;
    tap.drain()?;
    Ok((tap.bytes, tap.sha256()))
}

/// Copies to the end. The inner error is the reader's.
fn pump(input: &mut dyn Read, output: &mut File, to: &Path) -> Result<io::Result<()>, Fault> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return Ok(Ok(())),
            Ok(read) => output.write_all(&buffer[..read]).map_err(|it| unwritable(to, &it))?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Ok(Err(error)),
        }
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "an open set: the kinds of I/O errors grow with the standard library"
)]
fn unwritable(path: &Path, error: &io::Error) -> Fault {
    let fault = Fault::new(Blame::Host, format!("write {}", path.display())).cause(error.to_string());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => fault.hint("make room on that disk"),
        _ => fault,
    }
}
