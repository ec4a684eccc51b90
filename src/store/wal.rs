//! Files of a WAL archive on disk: found by the name that a server asks for, whatever they were compressed with.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use sha1::{Digest, Sha1};

use super::Reading;
use super::files::FileKind;
use super::objects::{Trouble, is_medium, is_remote};
use super::pgbackrest;
use super::tap::{CHUNK, file_name, hex, medium};
use crate::fault::{Blame, Fault};
use crate::format::lsn::{Lsn, Segment};
use crate::format::wal::{Reader, Record, SegmentHeader};
use crate::format::wal_archive::{ArchiveSeen, History, Named, SegmentSeen, Stretch, named};
use crate::format::{Compression, decode, pgbackrest as format, sniff, wal};

/// What archiving commands append to names, by the programs that people pipe through.
const ENDINGS: [(&str, Compression); 9] = [
    ("", Compression::None),
    (".gz", Compression::Gzip),
    (".zst", Compression::Zstd),
    (".lz4", Compression::Lz4),
    (".xz", Compression::Xz),
    (".bz2", Compression::Bzip2),
    (".lzma", Compression::Lzma),
    (".br", Compression::Brotli),
    (".snappy", Compression::Snappy),
];

/// What a name ends with, and what it was compressed with.
fn ending_of(name: &str) -> &'static (&'static str, Compression) {
    ENDINGS.iter().rfind(|(ending, _)| name.ends_with(ending)).unwrap_or(&ENDINGS[0])
}

/// A file of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalFile {
    pub path: PathBuf,
    pub compression: Compression,
    /// It was not finished: what is missing at its end reads as zeros.
    pub partial: bool,
}

/// Barman keeps the segments of each 4 GiB in a directory of their own, named by the first 16 digits.
fn hashed(archive: &Path, name: &str) -> Option<PathBuf> {
    Some(archive.join(name.get(..16).filter(|_| name.len() >= 24)?))
}

/// pgBackRest writes a segment's SHA-1 into its name: `000000010000000000000001-6b7a….zst`. Two of one segment are no answer.
fn summed(directory: &Path, name: &str, reading: &Reading) -> Result<Option<WalFile>, Fault> {
    let entries = match reading.entries(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unlistable(directory, &error)),
    };
    let found: Vec<String> = entries.into_iter().map(|it| it.name).filter(|it| unsummed(it) == Some(name)).collect();
    if let [one, another, ..] = found.as_slice() {
        return Err(Fault::new(Blame::Backup, format!("choose a segment in {}", directory.display()))
            .cause(format!("{one} and {another} are two of one segment, with different contents"))
            .hint("two clusters archive to one stanza: find out which one is production's"));
    }
    let Some(stored) = found.first() else { return Ok(None) };
    Ok(Some(WalFile::stored(directory.join(stored), stored)))
}

/// The segment in such a name.
fn unsummed(stored: &str) -> Option<&str> {
    name_and_sum(stored).map(|it| it.0)
}

/// None of a file that is still being written: `….pgbackrest.tmp`.
fn name_and_sum(stored: &str) -> Option<(&str, &str)> {
    let (name, rest) = stored.split_once('-')?;
    let (sum, ending) = rest.split_at_checked(40)?;
    let known = ENDINGS.iter().any(|it| it.0 == ending);
    (name.len() == 24 && sum.bytes().all(|it| it.is_ascii_hexdigit()) && known).then_some((name, sum))
}

impl WalFile {
    /// By its name alone, which says what it was compressed with.
    fn stored(path: PathBuf, name: &str) -> WalFile {
        WalFile { path, compression: ending_of(name).1, partial: false }
    }

    /// A name without an ending says nothing: Barman compresses without one.
    fn of(path: PathBuf, compression: Compression, reading: &Reading) -> Result<WalFile, Fault> {
        if compression != Compression::None {
            return Ok(WalFile { path, compression, partial: false });
        }
        let head = reading.head(&path, sniff::HEAD as u64).map_err(|it| medium(&path, "read", &it))?;
        Ok(WalFile { path, compression: sniff::compression(&head), partial: false })
    }
}

/// The file for this name. `Ok(None)`: the archive is there, can be read, and has none.
///
/// What PostgreSQL cannot tell apart is told apart here: an archive that cannot be asked is a fault of the host.
pub fn find_wal(archive: &Path, name: &str, reading: &Reading) -> Result<Option<WalFile>, Fault> {
    let unfinished = reading.unfinished(archive, name);
    if unfinished.as_ref().is_some_and(|it| it.partial) {
        return Ok(unfinished);
    }
    let cluster = reading.cluster(archive)?;
    let archive = cluster.as_deref().unwrap_or(archive);
    let mut names = Vec::new();
    for directory in [Some(archive.to_owned()), hashed(archive, name)].into_iter().flatten() {
        if cluster.is_some() && name.len() == 24 {
            if let Some(file) = summed(&directory, name, reading)? {
                return Ok(Some(file));
            }
            continue;
        }
        names.extend(ENDINGS.map(|(ending, compression)| (directory.join(format!("{name}{ending}")), compression)));
    }
    // In an object store, the one that was right before comes first.
    let likely = reading.hinted(archive).filter(|it| *it < names.len());
    for at in likely.into_iter().chain((0..names.len()).filter(|it| Some(*it) != likely)) {
        let (path, compression) = &names[at];
        if reading.has_file(path).map_err(|it| medium(path, "look for", &it))? {
            reading.hint(at);
            return WalFile::of(path.clone(), *compression, reading).map(Some);
        }
    }
    if unfinished.is_some() {
        return Ok(unfinished);
    }
    // Absent from an archive that is there: an unmounted one is not empty.
    match reading.stat(archive) {
        Ok(_) => Ok(None),
        Err(error) => Err(unlistable(archive, &error)),
    }
}

impl Reading {
    fn cluster(&self, archive: &Path) -> Result<Option<PathBuf>, Fault> {
        if !is_remote(archive) {
            return pgbackrest::cluster(archive, self);
        }
        if let Some(known) = self.hints().clusters.get(archive) {
            return Ok(known.clone());
        }
        let found = pgbackrest::cluster(archive, self)?;
        self.hints().clusters.insert(archive.to_owned(), found.clone());
        Ok(found)
    }

    fn unfinished(&self, archive: &Path, name: &str) -> Option<WalFile> {
        let known = self.unfinished.as_ref()?.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&(archive.to_owned(), name.to_owned())).cloned()
    }

    fn hinted(&self, archive: &Path) -> Option<usize> {
        is_remote(archive).then(|| self.hints().ending)
    }

    fn hint(&self, ending: usize) {
        self.hints().ending = ending;
    }
}

/// Segments whose headers are read, at most: the first, the last, and some between.
const HEADERS: usize = 64;
/// Segments that are asked how large segments are, before the default is assumed.
const TRIES: usize = 8;
const DEFAULT_SEGMENT: u64 = 16 << 20;
/// A history file has a line for each timeline.
const LONGEST_HISTORY: usize = 1 << 20;

/// What lies in an archive, by its names; histories, and the headers of segments from this place on.
pub fn wal_archive(
    archive: &Path,
    timeline: Option<u32>,
    start: Option<Lsn>,
    reading: &Reading,
) -> Result<ArchiveSeen, Fault> {
    let mut listing = Listing::default();
    let cluster = pgbackrest::cluster(archive, reading)?;
    listing.directory(cluster.as_deref().unwrap_or(archive), true, reading)?;
    let header_of = |it: &Listed| header(&it.file(reading)?, reading);
    let sizes = listing.files.values().chain(listing.partial.values()).take(TRIES);
    let sizes = sizes.filter_map(|it| header_of(it).ok()?.ok());
    let segment_bytes = sizes.map(|it| u64::from(it.segment_bytes)).next().unwrap_or(DEFAULT_SEGMENT);
    let (unfinished, partial) = add_unfinished(archive, &mut listing, segment_bytes, reading)?;
    let Listing { mut files, histories, .. } = listing;
    unsize(&mut files, segment_bytes, reading);
    let names = files.iter().map(|(name, it)| (name.as_str(), it.bytes)).collect();
    let mut seen = ArchiveSeen { unfinished, partial, ..ArchiveSeen::of(segment_bytes, names) };
    for (timeline, it) in histories {
        if let Some(history) = history(&it.file(reading)?, reading)? {
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
        let Some(listed) = files.get(*name) else { continue };
        let (system_identifier, wrong) = match header_of(listed)? {
            Ok(header) => (Some(header.system_identifier), misplaced(&header, *segment, segment_bytes)),
            Err(wrong) => (None, Some(wrong)),
        };
        seen.headers.push(SegmentSeen { name: (*name).clone(), system_identifier, wrong });
    }
    Ok(seen)
}

/// A file of an archive, by its name alone.
struct Listed {
    path: PathBuf,
    compression: Compression,
    /// None of a compressed one: only its contents tell.
    bytes: Option<u64>,
    partial: bool,
}

impl Listed {
    fn file(&self, reading: &Reading) -> Result<WalFile, Fault> {
        let file = WalFile::of(self.path.clone(), self.compression, reading)?;
        Ok(WalFile { partial: self.partial, ..file })
    }
}

/// Where Barman receives WAL, beside what is archived.
const STREAMING: &str = "streaming";
/// What pg_receivewal appends to the name of the segment that it writes, and a promoted server to the last of its old timeline.
const PARTIAL: &str = ".partial";

/// Adds to a listing what belongs to the archive where the drill says so: whole segments that Barman has received and not
/// archived, and the last segment, where it follows on the others and was not finished. The names of such files, and of the
/// others that were not finished.
fn add_unfinished(
    archive: &Path,
    listing: &mut Listing,
    segment_bytes: u64,
    reading: &Reading,
) -> Result<(Vec<String>, Vec<String>), Fault> {
    let name_of = |name: &String| format!("{name}{PARTIAL}");
    let Some(unfinished) = &reading.unfinished else {
        return Ok((Vec::new(), listing.partial.keys().map(name_of).collect()));
    };
    let add = |name: &str, file: WalFile| {
        let mut known = unfinished.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert((archive.to_owned(), name.to_owned()), file);
    };
    let streaming = archive.with_file_name(STREAMING);
    if archive.file_name().is_some_and(|it| it == "wals") && !is_remote(archive) && streaming.is_dir() {
        let mut beside = Listing::default();
        beside.directory(&streaming, false, reading)?;
        listing.partial.append(&mut beside.partial);
        for (name, listed) in
            beside.files.into_iter().filter(|it| !listing.files.contains_key(&it.0)).collect::<Vec<_>>()
        {
            add(&name, listed.file(reading)?);
            listing.files.insert(name, listed);
        }
    }
    let (mut used, mut others) = (Vec::new(), Vec::new());
    for (name, listed) in std::mem::take(&mut listing.partial) {
        let is_end = Segment::parse(&name, segment_bytes).is_some_and(|it| is_next(it, &listing.files, segment_bytes));
        let frozen = if is_end { freeze(&name, &listed, &unfinished.directory, reading)? } else { None };
        let Some(file) = frozen else {
            others.push(name_of(&name));
            continue;
        };
        used.push(file_name(&listed.path));
        let frozen = Listed { path: file.path.clone(), ..listed };
        add(&name, file);
        listing.files.insert(name, frozen);
    }
    Ok((used, others))
}

/// Whether it follows on the last whole segment of its timeline, which nobody has left.
fn is_next(segment: Segment, files: &BTreeMap<String, Listed>, segment_bytes: u64) -> bool {
    let parsed = || files.keys().filter_map(|it| Segment::parse(it, segment_bytes));
    let last = parsed().filter(|it| it.timeline == segment.timeline).map(|it| it.number).max();
    let left = parsed().any(|it| it.timeline > segment.timeline && it.number >= segment.number);
    !left && last.is_none_or(|it| it + 1 == segment.number)
}

/// A copy: whoever writes to it goes on, and will give it its name. None: it has that by now.
fn freeze(name: &str, listed: &Listed, directory: &Path, reading: &Reading) -> Result<Option<WalFile>, Fault> {
    let mut from = match reading.open(&listed.path) {
        Ok(from) => from,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(medium(&listed.path, "open", &error)),
    };
    let path = directory.join(name);
    let fault =
        |it: io::Error| Fault::new(Blame::Host, format!("copy {}", listed.path.display())).cause(it.to_string());
    fs::create_dir_all(directory).map_err(fault)?;
    let mut to = File::create(&path).map_err(fault)?;
    io::copy(&mut from, &mut to).map_err(fault)?;
    let file = WalFile::of(path, listed.compression, reading)?;
    Ok(Some(WalFile { partial: true, ..file }))
}

#[derive(Default)]
struct Listing {
    /// Segments, by their names without an ending.
    files: BTreeMap<String, Listed>,
    histories: Vec<(u32, Listed)>,
    /// By the segments that they are of.
    partial: BTreeMap<String, Listed>,
}

impl Listing {
    /// `nested`: and those beneath it that Barman makes.
    fn directory(&mut self, directory: &Path, nested: bool, reading: &Reading) -> Result<(), Fault> {
        for entry in reading.entries(directory).map_err(|it| unlistable(directory, &it))? {
            let stored = entry.name.as_str();
            let is_hash = stored.len() == 16 && stored.bytes().all(|it| it.is_ascii_hexdigit());
            if nested && is_hash && entry.kind == FileKind::Directory {
                self.directory(&entry.path, false, reading)?;
                continue;
            }
            // pg_receivewal: `….gz.partial`; who compresses an archive: `….partial.gz`.
            let whole = stored.strip_suffix(PARTIAL).unwrap_or(stored);
            let ending = ending_of(whole);
            let name = whole.strip_suffix(ending.0).unwrap_or(whole);
            let sum = unsummed(stored);
            let name = sum.unwrap_or(name);
            let is_partial = whole != stored || name.ends_with(PARTIAL);
            let name = name.strip_suffix(PARTIAL).unwrap_or(name);
            let listed = |bytes| Listed { path: entry.path.clone(), compression: ending.1, bytes, partial: is_partial };
            match named(name) {
                Named::Segment(name) if is_partial => {
                    self.partial.insert(name.to_owned(), listed(None));
                    // Only the last ones can be an end.
                    if self.partial.len() > HEADERS {
                        self.partial.pop_first();
                    }
                }
                Named::Segment(name) => {
                    // An encrypted one is larger.
                    let plain = ending.1 == Compression::None && sum.is_none();
                    let bytes = if plain { entry.stat().ok().map(|it| it.bytes) } else { None };
                    self.files.insert(name.to_owned(), listed(bytes));
                }
                Named::History(timeline) => self.histories.push((timeline, listed(None))),
                Named::Partial | Named::Label | Named::Other => {}
            }
            if reading.is_stopped() {
                let fault = Fault::new(Blame::Host, format!("list {}", directory.display()));
                return Err(fault.cause("the drill was stopped"));
            }
        }
        Ok(())
    }
}

/// Segments of another size may be compressed without an ending. Where some of those are, none is accused of its size.
fn unsize(files: &mut BTreeMap<String, Listed>, segment_bytes: u64, reading: &Reading) {
    let other = |it: &&mut Listed| it.bytes.is_some_and(|it| it != segment_bytes);
    let packed = |it: &mut Listed| {
        WalFile::of(it.path.clone(), it.compression, reading).is_ok_and(|it| it.compression != Compression::None)
    };
    if files.values_mut().filter(other).take(HEADERS).any(packed) {
        files.values_mut().filter(other).for_each(|it| it.bytes = None);
    }
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
pub fn wal_span(archive: &Path, seen: &ArchiveSeen, stretch: &Stretch, reading: &Reading) -> Result<WalSpan, Fault> {
    let bytes = seen.segment_bytes;
    let times = |numbers: &mut dyn Iterator<Item = u64>| -> Result<Option<(i64, i64)>, Fault> {
        for number in numbers.take(usize::try_from(SEARCHED).unwrap_or(1)) {
            let name = seen.name(Segment { timeline: stretch.timeline, number });
            let Some(file) = find_wal(archive, &name, reading)? else { continue };
            let (mut reader, mut found) = (Reader::new(bytes), None::<(i64, i64)>);
            let read = read_wal(&file, reading, &mut |page| {
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
fn header(file: &WalFile, reading: &Reading) -> Result<Result<SegmentHeader, String>, Fault> {
    let mut first = None;
    let read = read_wal(file, reading, &mut |page| {
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

fn history(file: &WalFile, reading: &Reading) -> Result<Option<History>, Fault> {
    let mut text = vec![0; LONGEST_HISTORY];
    let read = match Decoded::open(file, reading).and_then(|mut it| it.fill(&mut text)) {
        Ok(read) => read,
        Err(fault) if fault.blame == Blame::Backup => return Ok(None),
        Err(fault) => return Err(fault),
    };
    Ok(std::str::from_utf8(&text[..read]).ok().and_then(History::parse))
}

fn unlistable(archive: &Path, error: &io::Error) -> Fault {
    if let Some(trouble) = Trouble::of(error) {
        return trouble.fault(archive, "list the WAL archive");
    }
    Fault::new(Blame::Host, format!("list the WAL archive {}", archive.display()))
        .cause(error.to_string())
        .hint("is its file system mounted, and may the user who runs pgdrill read it?")
}

/// Writes a file of the archive, decompressed, to `to`, which appears when it is whole. Bytes written.
///
/// `expected`: how many bytes it must have. A segment that is cut would end recovery as if the archive ended there.
pub fn fetch_wal(file: &WalFile, to: &Path, expected: Option<u64>, reading: &Reading) -> Result<u64, Fault> {
    let from = &file.path;
    let partial = to.with_extension("part");
    let full = |error: &io::Error| {
        Fault::new(Blame::Host, format!("write {}", partial.display()))
            .cause(error.to_string())
            .hint("free some space, or point TMPDIR at a larger disk")
    };
    let mut output = File::create(&partial).map_err(|it| full(&it))?;
    let mut bytes = unpack_wal(file, reading, &mut |it| output.write_all(it).map_err(|it| full(&it)))?;
    if let Some(expected) = expected.filter(|it| file.partial && *it > bytes) {
        output.set_len(expected).map_err(|it| full(&it))?;
        bytes = expected;
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

/// Gives a file of the archive, decompressed, and compares it with the SHA-1 in its name, where that has one. Its bytes.
fn unpack_wal(
    file: &WalFile,
    reading: &Reading,
    on_bytes: &mut dyn FnMut(&[u8]) -> Result<(), Fault>,
) -> Result<u64, Fault> {
    let stored = file_name(&file.path);
    let mut input = Decoded::open(file, reading)?;
    let mut sum = name_and_sum(&stored).map(|it| (it.1, Sha1::new()));
    let (mut buffer, mut bytes) = (vec![0; CHUNK], 0);
    loop {
        let read = input.fill(&mut buffer)?;
        if let Some((_, sum)) = &mut sum {
            sum.update(&buffer[..read]);
        }
        on_bytes(&buffer[..read])?;
        bytes += read as u64;
        if read < buffer.len() {
            break;
        }
    }
    if let Some((told, sum)) = sum.map(|(told, sum)| (told, hex(&sum.finalize()))).filter(|(told, sum)| told != sum) {
        return Err(Fault::new(Blame::Backup, format!("read the WAL segment {}", file.path.display()))
            .cause(format!("its SHA-1 is {sum}, and its name says {told}"))
            .hint("it was changed after it was archived: `verify: true` of the source says what else was"));
    }
    Ok(bytes)
}

/// Reads a segment to its end. Its bytes, decompressed.
pub(super) fn verify_wal(file: &WalFile, reading: &Reading) -> Result<u64, Fault> {
    unpack_wal(file, reading, &mut |_| Ok(()))
}

/// The segments of one cluster in an archive of pgBackRest, by name; of a name that is there twice, both.
pub(super) fn segments(cluster: &Path, reading: &Reading) -> Result<Vec<(String, WalFile)>, Fault> {
    let mut found = Vec::new();
    for hash in reading.entries(cluster).map_err(|it| unlistable(cluster, &it))? {
        if hash.kind != FileKind::Directory {
            continue;
        }
        for entry in reading.entries(&hash.path).map_err(|it| unlistable(&hash.path, &it))? {
            let Some(name) = unsummed(&entry.name) else { continue };
            found.push((name.to_owned(), WalFile::stored(entry.path.clone(), &entry.name)));
        }
    }
    Ok(found)
}

/// Gives the pages of a segment, decompressed, until it ends or they are not wanted any more.
pub fn read_wal(
    file: &WalFile,
    reading: &Reading,
    on_page: &mut dyn FnMut(&[u8; wal::PAGE]) -> ControlFlow<()>,
) -> Result<(), Fault> {
    let mut input = Decoded::open(file, reading)?;
    let mut page = [0; wal::PAGE];
    loop {
        match input.fill(&mut page)? {
            0 => return Ok(()),
            wal::PAGE if on_page(&page).is_continue() => {}
            wal::PAGE => return Ok(()),
            _ if file.partial => return Ok(()),
            _ => {
                let error = io::Error::new(io::ErrorKind::UnexpectedEof, "it ends within a page");
                return Err(undecodable(&file.path, &error));
            }
        }
    }
}

/// A file of the archive, decrypted and decompressed.
struct Decoded<'a> {
    path: &'a Path,
    /// What cannot be decompressed is its end.
    partial: bool,
    reading: &'a Reading,
    input: Box<dyn Read + 'a>,
}

impl<'a> Decoded<'a> {
    fn open(file: &'a WalFile, reading: &'a Reading) -> Result<Decoded<'a>, Fault> {
        let path = &file.path;
        let input = reading.open(path).map_err(|it| medium(path, "open", &it))?;
        let input: io::Result<Box<dyn Read>> = match pgbackrest::wal_pass(path, reading)? {
            Some(pass) => format::unpacked(input, Some(&pass), file.compression),
            None => reading.vault.plain(path, input, reading).and_then(|it| decode::decoder(file.compression, it)),
        };
        Ok(Decoded {
            path,
            partial: file.partial,
            reading,
            input: input.map_err(|it| Decoded::fault(path, reading, &it))?,
        })
    }

    /// Fills the buffer, unless the file ends before.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, Fault> {
        if self.reading.is_stopped() {
            return Err(Fault::new(Blame::Host, format!("read {}", self.path.display())).cause("the drill was stopped"));
        }
        let mut filled = 0;
        while filled < buffer.len() {
            match self.input.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if self.partial && !is_medium(&error) => break,
                Err(error) => return Err(Decoded::fault(self.path, self.reading, &error)),
            }
        }
        Ok(filled)
    }

    /// What the file system reports has an errno; what a decoder reports of the bytes has none.
    fn fault(path: &Path, reading: &Reading, error: &io::Error) -> Fault {
        if is_medium(error) {
            return medium(path, "read", error);
        }
        reading.vault.blame(path, error, reading).unwrap_or_else(|| undecodable(path, error))
    }
}

fn undecodable(path: &Path, error: &io::Error) -> Fault {
    Fault::new(Blame::Backup, format!("decompress {}", path.display()))
        .cause(error.to_string())
        .hint("the file was cut or damaged: compare it with a copy of the archive")
}
