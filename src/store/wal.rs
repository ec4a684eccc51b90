//! Files of a WAL archive on disk: found by the name that a server asks for, whatever they were compressed with.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::Stop;
use super::tap::{CHUNK, medium};
use crate::fault::{Blame, Fault};
use crate::format::lsn::{Lsn, Segment};
use crate::format::wal::{Reader, Record, SegmentHeader};
use crate::format::wal_archive::{ArchiveSeen, History, Named, SegmentSeen, Stretch, named};
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
        Err(error) => Err(unlistable(archive, &error)),
    }
}

/// Segments whose headers are read, at most: the first, the last, and some between.
const HEADERS: usize = 64;
/// Segments that are asked how large segments are, before the default is assumed.
const TRIES: usize = 8;
const DEFAULT_SEGMENT: u64 = 16 << 20;
/// A history file has a line for each timeline.
const LONGEST_HISTORY: u64 = 1 << 20;

/// What lies in an archive, by its names; histories, and the headers of segments from this place on.
pub fn wal_archive(
    archive: &Path,
    timeline: Option<u32>,
    start: Option<Lsn>,
    stop: &Stop,
) -> Result<ArchiveSeen, Fault> {
    let mut files: BTreeMap<String, (Compression, Option<u64>)> = BTreeMap::new();
    let (mut histories, mut partial) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(archive).map_err(|it| unlistable(archive, &it))? {
        let entry = entry.map_err(|it| unlistable(archive, &it))?;
        let Ok(stored) = entry.file_name().into_string() else { continue };
        let ending = ENDINGS.iter().rfind(|(ending, _)| stored.ends_with(ending)).unwrap_or(&ENDINGS[0]);
        let name = stored.strip_suffix(ending.0).unwrap_or(&stored);
        match named(name) {
            Named::Segment(name) => {
                // Of compressed ones only their contents tell.
                let plain = ending.1 == Compression::None;
                let bytes = if plain { entry.metadata().ok().map(|it| it.len()) } else { None };
                files.insert(name.to_owned(), (ending.1, bytes));
            }
            Named::History(timeline) => histories.push((timeline, entry.path(), ending.1)),
            Named::Partial if partial.len() < HEADERS => partial.push(name.to_owned()),
            Named::Partial | Named::Label | Named::Other => {}
        }
        if stop.is_stopped() {
            return Err(Fault::new(Blame::Host, format!("list {}", archive.display())).cause("the drill was stopped"));
        }
    }
    let file = |name: &str, compression: Compression| {
        let ending = ENDINGS.iter().find(|it| it.1 == compression).map_or("", |it| it.0);
        WalFile { path: archive.join(format!("{name}{ending}")), compression }
    };
    let header = |name: &str, compression| header(&file(name, compression));
    let sizes = files.iter().take(TRIES).filter_map(|(name, it)| header(name, it.0).ok()?.ok());
    let segment_bytes = sizes.map(|it| u64::from(it.segment_bytes)).next().unwrap_or(DEFAULT_SEGMENT);
    let names = files.iter().map(|(name, it)| (name.as_str(), it.1)).collect();
    let mut seen = ArchiveSeen { partial, ..ArchiveSeen::of(segment_bytes, names) };
    for (timeline, path, compression) in histories {
        if let Some(history) = history(&WalFile { path, compression })? {
            seen.histories.insert(timeline, history);
        }
    }
    let needed: Vec<(&String, Segment)> = files
        .keys()
        .filter_map(|name| Some((name, Segment::parse(name, segment_bytes)?)))
        .filter(|(_, it)| timeline.is_none_or(|timeline| it.timeline >= timeline))
        .filter(|(_, it)| start.is_none_or(|start| it.number >= start.0 / segment_bytes))
        .collect();
    let every = needed.len().div_ceil(HEADERS).max(1);
    let last = needed.len().saturating_sub(1);
    for (_, (name, segment)) in needed.iter().enumerate().filter(|(at, _)| at % every == 0 || *at == last) {
        let compression = files.get(*name).map_or(Compression::None, |it| it.0);
        let (system_identifier, wrong) = match header(name, compression)? {
            Ok(header) => (Some(header.system_identifier), misplaced(&header, *segment, segment_bytes)),
            Err(wrong) => (None, Some(wrong)),
        };
        seen.headers.push(SegmentSeen { name: (*name).clone(), system_identifier, wrong });
    }
    Ok(seen)
}

/// Segments at either end of a stretch that are searched for a record with a time.
const SEARCHED: u64 = 4;

/// What a stretch of an archive covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalSpan {
    pub start: Lsn,
    pub end: Lsn,
    /// Of the first and the last of its records that has a time, near its ends.
    pub first: Option<jiff::Timestamp>,
    pub last: Option<jiff::Timestamp>,
}

/// From when to when the records of a stretch are.
pub fn wal_span(archive: &Path, seen: &ArchiveSeen, stretch: &Stretch, stop: &Stop) -> Result<WalSpan, Fault> {
    let bytes = seen.segment_bytes;
    let times = |numbers: &mut dyn Iterator<Item = u64>| -> Result<Option<(i64, i64)>, Fault> {
        for number in numbers.take(usize::try_from(SEARCHED).unwrap_or(1)) {
            let name = seen.name(Segment { timeline: stretch.timeline, number });
            let Some(file) = find_wal(archive, &name)? else { continue };
            let (mut reader, mut found) = (Reader::new(bytes), None::<(i64, i64)>);
            let read = read_wal(&file, stop, &mut |page| {
                let mut on_record = |record: Record| {
                    if let Some(time) = record.what.time() {
                        found = Some(found.map_or((time, time), |it| (it.0.min(time), it.1.max(time))));
                    }
                };
                let broken = reader.page(page, &mut on_record).is_err() || reader.has_ended();
                if broken { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            match read {
                Ok(()) if found.is_some() => return Ok(found),
                Err(fault) if fault.blame != Blame::Backup => return Err(fault),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(None)
    };
    let first = times(&mut (stretch.first..=stretch.last))?.map(|it| it.0);
    let last = times(&mut (stretch.first..=stretch.last).rev())?.map(|it| it.1);
    let instant = |it: Option<i64>| it.and_then(|it| jiff::Timestamp::from_microsecond(it).ok());
    Ok(WalSpan {
        start: Lsn(stretch.first * bytes),
        end: Lsn((stretch.last + 1) * bytes),
        first: instant(first),
        last: instant(last),
    })
}

/// Why a header is not that of the segment whose name the file bears.
fn misplaced(header: &SegmentHeader, segment: Segment, segment_bytes: u64) -> Option<String> {
    if u64::from(header.segment_bytes) != segment_bytes {
        return Some(format!("it says that segments have {} bytes, others say {segment_bytes}", header.segment_bytes));
    }
    if header.start != segment.start(segment_bytes) {
        return Some(format!("its first page is that of {}", header.start));
    }
    // A segment in which a timeline was left begins on the one before.
    (header.timeline > segment.timeline).then(|| format!("its first page is of timeline {}", header.timeline))
}

/// The header of a segment. The inner error: what is wrong with its first page.
fn header(file: &WalFile) -> Result<Result<SegmentHeader, String>, Fault> {
    let mut first = None;
    let read = read_wal(file, &Stop::default(), &mut |page| {
        first = Some(SegmentHeader::parse(page));
        ControlFlow::Break(())
    });
    match read {
        Ok(()) => Ok(first.unwrap_or_else(|| Err("it is empty".to_owned()))),
        // Of bytes that cannot be decompressed: the segment's fault, not the disk's.
        Err(fault) if fault.blame == Blame::Backup => Ok(Err(fault.causes.join(": "))),
        Err(fault) => Err(fault),
    }
}

fn history(file: &WalFile) -> Result<Option<History>, Fault> {
    let path = &file.path;
    let input = File::open(path).map_err(|it| medium(path, "open", &it))?;
    let mut text = String::new();
    let decoder = decode::decoder(file.compression, input).map_err(|it| undecodable(path, &it))?;
    let read = decoder.take(LONGEST_HISTORY).read_to_string(&mut text);
    Ok(read.ok().and_then(|_| History::parse(&text)))
}

fn unlistable(archive: &Path, error: &io::Error) -> Fault {
    Fault::new(Blame::Host, format!("list the WAL archive {}", archive.display()))
        .cause(error.to_string())
        .hint("is its file system mounted, and may the user who runs pgdrill read it?")
}

/// Writes a file of the archive, decompressed, to `to`, which appears when it is whole. Bytes written.
///
/// `expected`: how many bytes it must have. A segment that is cut would end recovery as if the archive ended there.
pub fn fetch_wal(file: &WalFile, to: &Path, expected: Option<u64>, stop: &Stop) -> Result<u64, Fault> {
    let from = &file.path;
    let mut input = Decoded::open(file, stop)?;
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
        let read = input.fill(&mut buffer)?;
        if read == 0 {
            break;
        }
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
    let mut input = Decoded::open(file, stop)?;
    let mut page = [0; wal::PAGE];
    loop {
        match input.fill(&mut page)? {
            0 => return Ok(()),
            wal::PAGE => {}
            _ => {
                let error = io::Error::new(io::ErrorKind::UnexpectedEof, "it ends within a page");
                return Err(undecodable(&file.path, &error));
            }
        }
        if on_page(&page).is_break() {
            return Ok(());
        }
    }
}

/// A file of the archive, decompressed as it is read.
struct Decoded<'a> {
    path: &'a Path,
    decoder: Box<dyn Read>,
    stop: &'a Stop,
}

impl<'a> Decoded<'a> {
    fn open(file: &'a WalFile, stop: &'a Stop) -> Result<Decoded<'a>, Fault> {
        let path = &file.path;
        let input = File::open(path).map_err(|it| medium(path, "open", &it))?;
        let decoder = decode::decoder(file.compression, input).map_err(|it| undecodable(path, &it))?;
        Ok(Decoded { path, decoder, stop })
    }

    /// Bytes read: fewer than asked for only at the end.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, Fault> {
        let path = self.path;
        if self.stop.is_stopped() {
            return Err(Fault::new(Blame::Host, format!("read {}", path.display())).cause("the drill was stopped"));
        }
        let mut filled = 0;
        while filled < buffer.len() {
            match self.decoder.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // What the file system reports has an errno; what a decoder reports of the bytes has none.
                Err(error) if error.raw_os_error().is_some() => return Err(medium(path, "read", &error)),
                Err(error) => return Err(undecodable(path, &error)),
            }
        }
        Ok(filled)
    }
}

fn undecodable(path: &Path, error: &io::Error) -> Fault {
    Fault::new(Blame::Backup, format!("decompress {}", path.display()))
        .cause(error.to_string())
        .hint("the file was cut or damaged: compare it with a copy of the archive")
}
