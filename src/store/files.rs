//! Files by path and objects by URL, read alike.
//!
//! What surprises: an object store has no directories. A prefix that something lies beneath is taken for one.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};

use super::Reading;
use super::bundle::MemberInput;
use super::objects::{self, Hints, Object};
use crate::fault::Fault;

/// What something is. Links are told from what they lead to only where that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    File,
    Directory,
    Link,
    Other,
}

impl From<fs::FileType> for FileKind {
    fn from(it: fs::FileType) -> FileKind {
        match (it.is_file(), it.is_dir(), it.is_symlink()) {
            (true, ..) => FileKind::File,
            (_, true, _) => FileKind::Directory,
            (.., true) => FileKind::Link,
            _ => FileKind::Other,
        }
    }
}

/// What is known of a file without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) kind: FileKind,
    pub(crate) bytes: u64,
    /// Seconds since 1970.
    pub(crate) modified: i64,
    /// Another one after it was replaced: an inode, or what an ETag comes to.
    pub(crate) identity: u64,
    /// Unix permissions. None: no file of this machine.
    pub(crate) mode: Option<u32>,
}

impl From<fs::Metadata> for Stat {
    fn from(it: fs::Metadata) -> Stat {
        Stat {
            kind: it.file_type().into(),
            bytes: it.len(),
            modified: it.mtime(),
            identity: it.ino(),
            mode: Some(it.mode()),
        }
    }
}

impl Stat {
    /// What is known of one where nothing but files is kept.
    pub(super) const DIRECTORY: Stat =
        Stat { kind: FileKind::Directory, bytes: 0, modified: 0, identity: 0, mode: None };

    pub(crate) fn is_dir(self) -> bool {
        self.kind == FileKind::Directory
    }

    pub(crate) fn is_file(self) -> bool {
        self.kind == FileKind::File
    }
}

/// Something in a directory.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) path: PathBuf,
    pub(crate) name: String,
    pub(crate) kind: FileKind,
    /// Where the listing tells it.
    stat: Option<Stat>,
}

impl Entry {
    /// Without following a link.
    pub(crate) fn stat(&self) -> io::Result<Stat> {
        self.stat.map_or_else(|| fs::symlink_metadata(&self.path).map(Stat::from), Ok)
    }

    pub(super) fn told(path: PathBuf, stat: Stat) -> Entry {
        Entry { name: super::tap::file_name(&path), path, kind: stat.kind, stat: Some(stat) }
    }
}

/// A file, an object or a file in a bundle that is open.
#[derive(Debug)]
pub(crate) enum Input {
    File(File),
    Object(Box<Object>),
    Member(Box<MemberInput>),
}

/// A file, or some of it, whose size is known before it is opened.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) path: PathBuf,
    pub(super) start: u64,
    /// Of a file of this machine, more may follow.
    pub(super) bytes: u64,
    /// Of the whole object, where that is known: one of another size is another one.
    pub(super) size: Option<u64>,
}

impl Part {
    pub(super) fn whole(path: &Path, stat: Stat) -> Part {
        Part { path: path.to_owned(), start: 0, bytes: stat.bytes, size: Some(stat.bytes) }
    }
}

/// Where a reader goes, that is at one place of so many bytes.
pub(super) fn sought(to: SeekFrom, at: u64, bytes: u64) -> io::Result<u64> {
    let to = match to {
        SeekFrom::Start(to) => Some(to),
        SeekFrom::End(by) => bytes.checked_add_signed(by),
        SeekFrom::Current(by) => at.checked_add_signed(by),
    };
    to.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a place before the beginning"))
}

/// A name in an archive, as a place beneath a directory. None: it leads out.
pub(super) fn inside(name: &Path) -> Option<PathBuf> {
    let parts = name.components().filter(|it| *it != Component::CurDir);
    parts.map(|it| if let Component::Normal(it) = it { Some(it) } else { None }).collect()
}

/// Files that are open before it is their turn.
const OPEN_AHEAD: usize = 16;

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Input::File(file) => file.read(buffer),
            Input::Object(object) => object.read(buffer),
            Input::Member(member) => member.read(buffer),
        }
    }
}

impl Seek for Input {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Input::File(file) => file.seek(to),
            Input::Object(object) => object.seek(to),
            Input::Member(member) => member.seek(to),
        }
    }
}

impl Reading {
    pub(super) fn hints(&self) -> MutexGuard<'_, Hints> {
        self.objects.hints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn open(&self, path: &Path) -> io::Result<Input> {
        if let Some(within) = self.within(path) {
            return within?.input(None, self);
        }
        match objects::address(path) {
            Some(address) => Ok(Input::Object(Box::new(self.objects.open(&address?, self)?))),
            None => File::open(path).map(Input::File),
        }
    }

    /// Opens one after another. Of objects, several are asked for before it is their turn, so that a store answers for many
    /// small ones at once.
    pub(super) fn each<'a, T: 'a>(
        &'a self,
        parts: impl IntoIterator<Item = (T, Part), IntoIter: 'a>,
    ) -> impl Iterator<Item = (T, io::Result<Input>)> + 'a {
        let mut parts = parts.into_iter();
        let mut ahead = VecDeque::new();
        std::iter::from_fn(move || {
            while ahead.len() < OPEN_AHEAD
                && let Some((what, part)) = parts.next()
            {
                ahead.push_back((what, self.part(&part, true)));
            }
            ahead.pop_front()
        })
    }

    /// `whole`: all of it will be read.
    pub(super) fn part(&self, part: &Part, whole: bool) -> io::Result<Input> {
        if let Some(within) = self.within(&part.path) {
            return within?.input(Some(part), self);
        }
        if let Some(address) = objects::address(&part.path) {
            return Ok(Input::Object(Box::new(self.objects.open_part(&address?, part, whole, self)?)));
        }
        let mut file = File::open(&part.path)?;
        if part.start > 0 {
            file.seek(SeekFrom::Start(part.start))?;
        }
        Ok(Input::File(file))
    }

    /// Of what a link leads to.
    pub(crate) fn stat(&self, path: &Path) -> io::Result<Stat> {
        if let Some(within) = self.within(path) {
            return within?.stat();
        }
        match objects::address(path) {
            Some(address) => self.objects.stat(&address?, self),
            None => fs::metadata(path).map(Stat::from),
        }
    }

    /// What lies in a directory, sorted by name.
    pub(crate) fn entries(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        if let Some(within) = self.within(directory) {
            return within?.entries(directory);
        }
        if let Some(address) = objects::address(directory) {
            return self.objects.entries(directory, &address?, self);
        }
        let entry = |it: io::Result<fs::DirEntry>| -> io::Result<Entry> {
            let it = it?;
            let name = it.file_name().to_string_lossy().into_owned();
            Ok(Entry { path: it.path(), name, kind: it.file_type()?.into(), stat: None })
        };
        let mut found: Vec<Entry> = fs::read_dir(directory)?.map(entry).collect::<io::Result<_>>()?;
        // Paths would be taken apart for each comparison, of perhaps 100 000 segments.
        found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// Everything beneath a directory of an object store, in as few requests as there are thousands of objects, or of a
    /// bundle. None: a directory of this machine.
    pub(super) fn all_beneath(&self, directory: &Path) -> io::Result<Option<Vec<Entry>>> {
        if let Some(within) = self.within(directory) {
            return within?.all(directory).map(Some);
        }
        objects::address(directory).map(|it| self.objects.beneath(directory, &it?, self)).transpose()
    }

    /// The same where something that cannot be listed is empty, as for recognising what it is.
    pub(crate) fn peek(&self, directory: &Path) -> Vec<Entry> {
        self.noting(self.entries(directory)).unwrap_or_default()
    }

    /// Whether it is there, and a file. Cheaper than to ask what it is.
    pub(crate) fn has_file(&self, path: &Path) -> io::Result<bool> {
        let stat = match (self.within(path), objects::address(path)) {
            (Some(within), _) => within?.stat(),
            (None, Some(address)) => return self.objects.has(&address?, self),
            (None, None) => fs::metadata(path).map(Stat::from),
        };
        match stat {
            Ok(it) => Ok(it.is_file()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn is_file(&self, path: &Path) -> bool {
        self.noting(self.has_file(path)).unwrap_or(false)
    }

    pub(crate) fn is_dir(&self, path: &Path) -> bool {
        self.noting(self.stat(path)).is_some_and(Stat::is_dir)
    }

    pub(crate) fn exists(&self, path: &Path) -> bool {
        self.noting(self.stat(path)).is_some()
    }

    /// Where an error counts as that nothing is there: but for a store that cannot show what it held, see [`Reading::sure`].
    fn noting<T>(&self, outcome: io::Result<T>) -> Option<T> {
        outcome.inspect_err(|it| self.objects.note(it)).ok()
    }

    /// What was found out without asking why something is not there, unless a store could not show whether it was.
    pub(super) fn sure<T>(&self, path: &Path, found: Result<T, Fault>) -> Result<T, Fault> {
        self.objects.noted().map_or(found, |it| Err(it.fault(path, "look at")))
    }

    /// Why it cannot be said that nothing was there, at a path or beneath it, of what matches; by what was listed before.
    pub(super) fn doubt(&self, path: &Path, matches: &dyn Fn(&Path) -> bool) -> Option<Fault> {
        let doubt = self.objects.doubt(&objects::address(path)?.ok()?, matches).ok()??;
        Some(doubt.fault(path, "find a backup at"))
    }

    pub(crate) fn bytes(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(path)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The first bytes.
    pub(crate) fn head(&self, path: &Path, most: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(path)?.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    pub(crate) fn text(&self, path: &Path) -> io::Result<String> {
        String::from_utf8(self.bytes(path)?).map_err(|it| io::Error::new(io::ErrorKind::InvalidData, it))
    }
}
