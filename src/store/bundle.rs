//! Bundles: a tar file that is read as a directory of what is in it, by the name `FILE.tar!`.
//!
//! Databasus gives out a physical backup as one such file: `full`, `incr-1` and so on as pg_basebackup wrote them, the
//! segments in `wal`, and a list of digests. It is not packed itself, so that whatever lies within can be read in place, from
//! a disk or from a store.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::Reading;
use super::files::{Entry, FileKind, Input, Part, Stat, inside, sought};
use super::objects::{Trouble, is_remote};
use super::tap::{hex, medium};
use crate::fault::Fault;
use crate::source::BUNDLE;

/// What `sha256sum` prints of its files.
const SUMS: &str = "MANIFEST.sha256";
/// Such a list of some thousand segments.
const LONGEST_SUMS: u64 = 16 << 20;
/// A tar file ends with two blocks of zeros, and what fills it up.
const END: std::ops::RangeInclusive<u64> = 2 * BLOCK..=1 << 20;
const BLOCK: u64 = 512;

/// Where files lie in a tar file.
#[derive(Debug)]
pub(super) struct Bundle {
    file: PathBuf,
    /// When its members were found.
    stat: Stat,
    members: BTreeMap<PathBuf, Member>,
}

#[derive(Clone, Debug)]
struct Member {
    start: u64,
    bytes: u64,
    modified: i64,
    sha256: Option<String>,
}

/// A path that leads into a bundle: its file, and the place within.
fn place(path: &Path) -> Option<(PathBuf, PathBuf)> {
    let text = path.to_str()?;
    let end = |at: usize| text[at + BUNDLE.len()..].chars().next().is_none_or(|it| it == '/');
    let at = text.match_indices(BUNDLE).map(|it| it.0).find(|it| end(*it))? + BUNDLE.len();
    Some((PathBuf::from(&text[..at - 1]), PathBuf::from(text[at..].trim_matches('/'))))
}

/// Whether a file is a bundle, by its first member.
pub fn is_bundle(path: &Path, reading: &Reading) -> bool {
    if path.extension().is_none_or(|it| it != "tar") || !reading.is_file(path) {
        return false;
    }
    let Ok(file) = reading.open(path) else { return false };
    let mut archive = tar::Archive::new(file);
    let first = archive.entries().ok().and_then(|mut it| it.next()?.ok()?.path().ok().and_then(|it| named(&it)));
    first.is_some_and(|it| it.starts_with("full") || it == Path::new(SUMS))
}

/// Whether directories that hold nothing are not kept there: in an object store, or in a bundle.
pub(super) fn is_flat(path: &Path) -> bool {
    is_remote(path) || place(path).is_some()
}

/// Why a path leads into a bundle that cannot be read.
pub(super) fn readable(path: &Path, reading: &Reading) -> Result<(), Fault> {
    match (reading.within(path), place(path)) {
        (Some(Err(error)), Some((file, _))) => Err(medium(&file, "read", &error)),
        _ => Ok(()),
    }
}

/// None: of a name that leads out, or to nothing.
fn named(name: &Path) -> Option<PathBuf> {
    inside(name).filter(|it| !it.as_os_str().is_empty())
}

fn damaged(cause: impl Into<String>) -> io::Error {
    Trouble::damaged(cause.into()).into_error()
}

impl Bundle {
    /// From header to header: what lies between is not read.
    fn open(file: &Path, reading: &Reading) -> io::Result<Bundle> {
        let mut members = BTreeMap::new();
        let seen = reading.stat(file)?;
        let (bytes, mut end) = (seen.bytes, 0);
        let mut archive = tar::Archive::new(reading.open(file)?);
        let mut last = PathBuf::from("its first member");
        for entry in archive.entries_with_seek()? {
            let entry = entry.map_err(|it| heard(it, &last))?;
            if reading.is_stopped() {
                return Err(io::Error::other("the drill was stopped"));
            }
            let (start, header) = (entry.raw_file_position(), entry.header());
            end = start.saturating_add(entry.size()).next_multiple_of(BLOCK);
            if header.entry_type().is_file()
                && let Some(name) = named(&entry.path()?)
            {
                let modified = header.mtime().ok().and_then(|it| i64::try_from(it).ok()).unwrap_or_default();
                let member = Member { start, bytes: entry.size(), modified, sha256: None };
                if start.saturating_add(member.bytes) > bytes {
                    return Err(damaged(format!("it ends within {}, after {bytes} bytes", name.display())));
                }
                last.clone_from(&name);
                members.insert(name, member);
            }
        }
        let mut input = archive.into_inner();
        // The first block of zeros ends a tar file for its readers, wherever that is.
        let mut rest = Vec::new();
        if END.contains(&bytes.saturating_sub(end)) {
            input.seek(SeekFrom::Start(end))?;
            (&mut input).take(*END.end()).read_to_end(&mut rest)?;
        }
        if (rest.len() as u64) < *END.start() || rest.iter().any(|it| *it != 0) {
            return Err(damaged(format!("it has no end behind {}: it was cut there, or damaged", last.display())));
        }
        let mut bundle = Bundle { file: file.to_owned(), stat: seen, members };
        bundle.sums(input)?;
        Ok(bundle)
    }

    fn sums(&mut self, mut input: Input) -> io::Result<()> {
        let Some(list) = self.members.get(Path::new(SUMS)).filter(|it| it.bytes <= LONGEST_SUMS) else { return Ok(()) };
        let mut text = Vec::new();
        input.seek(SeekFrom::Start(list.start))?;
        input.take(list.bytes).read_to_end(&mut text)?;
        let text = String::from_utf8(text).map_err(|_| damaged(format!("its {SUMS} is no text")))?;
        for line in text.lines() {
            let Some((sum, name)) = line.split_once(char::is_whitespace) else { continue };
            let Some(name) = named(Path::new(name.trim_start_matches([' ', '*']))) else { continue };
            let absent = || damaged(format!("{} is listed in its {SUMS}, and is not there", name.display()));
            self.members.get_mut(&name).ok_or_else(absent)?.sha256 = Some(sum.to_ascii_lowercase());
        }
        Ok(())
    }

    fn is_directory(&self, within: &Path) -> bool {
        let next = self.members.range(within.join("")..).next();
        within.as_os_str().is_empty() || next.is_some_and(|it| it.0.starts_with(within) && it.0 != within)
    }

    fn stat(&self, within: &Path) -> io::Result<Stat> {
        if let Some(member) = self.members.get(within) {
            return Ok(member.stat());
        }
        if self.is_directory(within) { Ok(Stat::DIRECTORY) } else { Err(self.absent(within)) }
    }

    fn absent(&self, within: &Path) -> io::Error {
        let cause = format!("there is no {} in {}", within.display(), self.file.display());
        Trouble::absent(cause).into_error()
    }

    fn input(&self, within: &Path, part: Option<&Part>, reading: &Reading) -> io::Result<Input> {
        let member = self.members.get(within).ok_or_else(|| self.absent(within))?;
        let at = part.map_or(0, |it| it.start);
        let stored = Part {
            path: self.file.clone(),
            start: member.start.saturating_add(at),
            bytes: member.bytes.saturating_sub(at),
            size: Some(self.stat.bytes),
        };
        let file = reading.part(&stored, part.is_some())?;
        if let Input::File(file) = &file
            && Stat::from(file.metadata()?) != self.stat
        {
            return Err(Trouble::changed().into_error());
        }
        let sum = member.sha256.clone().filter(|_| at == 0).map(|it| (Sha256::new(), it));
        Ok(Input::Member(Box::new(MemberInput { file, start: member.start, bytes: member.bytes, at, sum })))
    }

    /// What lies right beneath, or all that does.
    fn entries(&self, directory: &Path, within: &Path, all: bool) -> io::Result<Vec<Entry>> {
        if !self.is_directory(within) {
            return Err(self.absent(within));
        }
        let mut found = BTreeMap::new();
        for (name, member) in self.members.range(within.to_owned()..) {
            let Ok(rest) = name.strip_prefix(within) else { break };
            let first = rest.components().next().map(|it| PathBuf::from(it.as_os_str())).unwrap_or_default();
            if rest.as_os_str().is_empty() {
                continue;
            }
            let (name, stat) = if all || first == rest {
                (rest.to_owned(), member.stat())
            } else {
                let stat = self.stat(&within.join(&first))?;
                (first, stat)
            };
            let path = directory.join(&name);
            found.entry(name).or_insert_with(|| Entry::told(path, stat));
        }
        Ok(found.into_values().collect())
    }
}

/// Of a header that cannot be read.
fn heard(error: io::Error, last: &Path) -> io::Error {
    if super::objects::is_medium(&error) { error } else { damaged(format!("after {}: {error}", last.display())) }
}

impl Member {
    fn stat(&self) -> Stat {
        let Member { start, bytes, modified, .. } = *self;
        Stat { kind: FileKind::File, bytes, modified, identity: start, mode: None }
    }
}

/// A file in a bundle, compared with its digest by whoever reads all of it in its order.
#[derive(Debug)]
pub(crate) struct MemberInput {
    file: Input,
    start: u64,
    bytes: u64,
    at: u64,
    sum: Option<(Sha256, String)>,
}

impl Read for MemberInput {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.bytes.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        let read = self.file.read(&mut buffer[..length])?;
        if read == 0 && length > 0 {
            return Err(Trouble::changed().into_error());
        }
        self.at += read as u64;
        if let Some((sum, _)) = &mut self.sum {
            sum.update(&buffer[..read]);
        }
        if self.at == self.bytes
            && let Some((sum, told)) = self.sum.take()
        {
            let sum = hex(&sum.finalize());
            if sum != told {
                return Err(damaged(format!("its SHA-256 is {sum}, and {SUMS} says {told}")));
            }
        }
        Ok(read)
    }
}

impl Seek for MemberInput {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = sought(to, self.at, self.bytes)?;
        if to != self.at {
            self.sum = None;
            self.file.seek(SeekFrom::Start(self.start.saturating_add(to)))?;
            self.at = to;
        }
        Ok(to)
    }
}

/// A place within a bundle.
pub(super) struct Within {
    bundle: Arc<Bundle>,
    at: PathBuf,
}

impl Within {
    pub(super) fn input(&self, part: Option<&Part>, reading: &Reading) -> io::Result<Input> {
        self.bundle.input(&self.at, part, reading)
    }

    pub(super) fn stat(&self) -> io::Result<Stat> {
        self.bundle.stat(&self.at)
    }

    pub(super) fn entries(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        self.bundle.entries(directory, &self.at, false)
    }

    pub(super) fn all(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        self.bundle.entries(directory, &self.at, true)
    }
}

impl Reading {
    /// None: the path leads into no bundle.
    pub(super) fn within(&self, path: &Path) -> Option<io::Result<Within>> {
        let (file, at) = place(path)?;
        if let Some(bundle) = self.hints().bundles.get(&file) {
            return Some(Ok(Within { bundle: Arc::clone(bundle), at }));
        }
        Some(Bundle::open(&file, self).map(|it| {
            let bundle = Arc::new(it);
            self.hints().bundles.insert(file, Arc::clone(&bundle));
            Within { bundle, at }
        }))
    }
}
