//! Files of a WAL archive on disk: found by the name that a server asks for, whatever they were compressed with.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::Stop;
use super::tap::{CHUNK, medium};
use crate::fault::{Blame, Fault};
use crate::format::{Compression, decode, wal};

/// What archiving commands append to names, by the programs that people pipe through.
const ENDINGS: [(&str, Compression); 6] = [
    ("", Compression::None),
    (".gz", Compression::Gzip),
    (".zst", Compression::Zstd),
    (".lz4", Compression::Lz4),
    (".xz", Compression::Xz),
    (".bz2", Compression::Bzip2),
];

/// A file of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalFile {
    pub path: PathBuf,
    pub compression: Compression,
}

/// The file for this name. `Ok(None)`: the archive is there, can be read, and has none.
///
/// What PostgreSQL cannot tell apart is told apart here: an archive that cannot be asked is a fault of the host.
pub fn find_wal(archive: &Path, name: &str) -> Result<Option<WalFile>, Fault> {
    for (ending, compression) in ENDINGS {
        let path = archive.join(format!("{name}{ending}"));
        match fs::metadata(&path) {
            Ok(seen) if seen.is_file() => return Ok(Some(WalFile { path, compression })),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(medium(&path, "look for", &error)),
        }
    }
    // Absent from an archive that is there: an unmounted one is not empty.
    match fs::read_dir(archive) {
        Ok(_) => Ok(None),
        Err(error) => Err(Fault::new(Blame::Host, format!("list the WAL archive {}", archive.display()))
            .cause(error.to_string())
            .hint("is its file system mounted, and may the user who runs pgdrill read it?")),
    }
}

/// Writes a file of the archive, decompressed, to `to`, which appears when it is whole. Bytes written.
///
/// `expected`: how many bytes it must have. A segment that is cut would end recovery as if the archive ended there.
pub fn fetch_wal(file: &WalFile, to: &Path, expected: Option<u64>, stop: &Stop) -> Result<u64, Fault> {
    let from = &file.path;
    let input = File::open(from).map_err(|it| medium(from, "open", &it))?;
    let mut input = decode::decoder(file.compression, input).map_err(|it| undecodable(from, &it))?;
    let partial = to.with_extension("part");
    let full = |error: &io::Error| {
        Fault::new(Blame::Host, format!("write {}", partial.display()))
            .cause(error.to_string())
            .hint("free some space, or point TMPDIR at a larger disk")
    };
    let mut output = File::create(&partial).map_err(|it| full(&it))?;
    let mut buffer = vec![0; CHUNK];
    let mut bytes = 0;
    loop {
        if stop.is_stopped() {
            return Err(Fault::new(Blame::Host, format!("read {}", from.display())).cause("the drill was stopped"));
        }
        let read = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // What the file system reports has an errno; what a decoder reports of the bytes has none.
            Err(error) if error.raw_os_error().is_some() => return Err(medium(from, "read", &error)),
            Err(error) => return Err(undecodable(from, &error)),
        };
        output.write_all(&buffer[..read]).map_err(|it| full(&it))?;
        bytes += read as u64;
    }
    if let Some(expected) = expected.filter(|it| *it != bytes) {
        return Err(Fault::new(Blame::Backup, format!("read the WAL segment {}", from.display()))
            .cause(format!("it has {bytes} bytes, and a segment of this cluster has {expected}"))
            .hint("it was cut when it was archived, or is still being written: archive into a temporary name and rename it"));
    }
    drop(output);
    fs::rename(&partial, to).map_err(|it| full(&it))?;
    Ok(bytes)
}

/// Gives the pages of a segment, decompressed, until it ends or they are not wanted any more.
pub fn read_wal(
    file: &WalFile,
    stop: &Stop,
    on_page: &mut dyn FnMut(&[u8; wal::PAGE]) -> ControlFlow<()>,
) -> Result<(), Fault> {
    let from = &file.path;
    let input = File::open(from).map_err(|it| medium(from, "open", &it))?;
    let mut input = decode::decoder(file.compression, input).map_err(|it| undecodable(from, &it))?;
    let mut page = [0; wal::PAGE];
    loop {
        if stop.is_stopped() {
            return Err(Fault::new(Blame::Host, format!("read {}", from.display())).cause("the drill was stopped"));
        }
        let mut filled = 0;
        while filled < page.len() {
            match input.read(&mut page[filled..]) {
                Ok(0) if filled == 0 => return Ok(()),
                Ok(0) => {
                    let error = io::Error::new(io::ErrorKind::UnexpectedEof, "it ends within a page");
                    return Err(undecodable(from, &error));
                }
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error().is_some() => return Err(medium(from, "read", &error)),
                Err(error) => return Err(undecodable(from, &error)),
            }
        }
        if on_page(&page).is_break() {
            return Ok(());
        }
    }
}

fn undecodable(path: &Path, error: &io::Error) -> Fault {
    Fault::new(Blame::Backup, format!("decompress {}", path.display()))
        .cause(error.to_string())
        .hint("the file was cut or damaged: compare it with a copy of the archive")
}
