//! A base backup becomes a data directory: read once, decompressed and checked on the way, never changed.
//!
//! What surprises: nothing that the backup says about places is believed. Members with absolute paths or `..` are refused,
//! no link of the backup is made, and tablespaces go where the sandbox has room for them, whatever their map says; a
//! restore on a database host must not be able to write into production.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use sha1::{Digest, Sha1};

use super::bundle::is_flat;
use super::files::{FileKind, Input, Part, inside};
use super::ground::{Ground, Opened};
use super::objects::is_medium;
use super::pgbackrest::Backup;
use super::tap::{Failures, Watched, hex, medium};
use super::walg::{self, Layer};
use super::{OnBytes, Reading};
use crate::fault::{Blame, Fault};
use crate::format::base::{BaseFacts, BaseLayout, BaseMember, MemberKind};
use crate::format::decode;
use crate::format::inspect::Inspector;
use crate::format::page::PAGE;
use crate::format::pgbackrest::File;
use crate::format::walg as walg_format;

/// What a file is cut into on its way from the reader to the writer.
const CHUNK: usize = 256 << 10;
/// Chunks on the way: they bound the memory.
const IN_FLIGHT: usize = 16;
/// What PostgreSQL itself calls the directory of tablespace links.
const TABLESPACES: &str = "pg_tblspc";

/// Directories that initdb makes and that may be empty: an object store keeps none that is.
const STANDARD: [&str; 17] = [
    "pg_commit_ts",
    "pg_dynshmem",
    "pg_logical",
    "pg_logical/mappings",
    "pg_logical/snapshots",
    "pg_multixact/members",
    "pg_multixact/offsets",
    "pg_notify",
    "pg_replslot",
    "pg_serial",
    "pg_snapshots",
    "pg_stat",
    "pg_stat_tmp",
    "pg_subtrans",
    TABLESPACES,
    "pg_twophase",
    "pg_wal/archive_status",
];

/// Where a data directory is made.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The data directory: empty, or made.
    pub data: PathBuf,
    /// Directory beside it that gets one directory for each tablespace. None: they lie within the data, without links.
    pub tablespaces: Option<PathBuf>,
    /// Where both are.
    pub ground: Ground,
    /// Databases, by OID, whose files get their size and no contents.
    pub hollow: Vec<u32>,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    pub files: u64,
    pub bytes: u64,
    /// Read from the backup, as stored.
    pub stored: u64,
}

/// Writes the data directory. Reading and decompressing is one thread, writing another, and each inspector one more; what
/// they work on is shared, and bounded.
///
/// `beneath`: the backups that a delta of WAL-G builds upon, the full one first.
pub fn unpack(
    (backup, facts): (&Path, &BaseFacts),
    beneath: &[(&Path, &BaseFacts)],
    to: &Destination,
    inspectors: Vec<&mut dyn Inspector>,
    reading: &Reading,
    on_bytes: OnBytes,
) -> Result<Written, Fault> {
    let made = to.ground.parents(&to.data).and_then(|()| to.ground.directory(&to.data));
    made.map_err(|it| unwritable(&to.data, &it))?;
    let links = make_tablespaces(facts, to)?;
    let layers = match &facts.layout {
        BaseLayout::Plain | BaseLayout::Tar { .. } | BaseLayout::PgBackRest { .. } => Vec::new(),
        BaseLayout::WalG { .. } => walg::layers(&[beneath, &[(backup, facts)]].concat(), reading)?,
    };
    let lost = || Fault::new(Blame::Harness, "write the data directory: a thread is gone");
    std::thread::scope(|scope| {
        let (send, receive) = sync_channel(IN_FLIGHT);
        let mut receivers = vec![send];
        let writer = scope.spawn({
            let links = &links;
            move || Writer { to, links, written: Written::default() }.run(&receive)
        });
        let mut inspections = Vec::new();
        for inspector in inspectors {
            let (send, receive) = sync_channel(IN_FLIGHT);
            receivers.push(send);
            inspections.push(scope.spawn(move || inspect(inspector, &receive)));
        }
        let mut reader = Reader { receivers, reading, on_bytes, stored: 0 };
        let read = match &facts.layout {
            BaseLayout::Plain => reader.tree(backup, facts),
            BaseLayout::Tar { members } => members.iter().try_for_each(|it| reader.member(backup, it, None)),
            BaseLayout::PgBackRest { .. } => reader.repository(backup, &to.hollow),
            BaseLayout::WalG { .. } => layers.iter().try_for_each(|it| reader.layer(it)),
        };
        let stored = reader.stored;
        drop(reader);
        let wrote = writer.join().unwrap_or_else(|_| Err(lost()));
        let inspected = inspections.into_iter().all(|it| it.join().is_ok());
        // A writer that gave up is why the reader found nobody to read for.
        let mut written = match (wrote, read) {
            (Err(fault), _) | (Ok(_), Err(Ended::Fault(fault))) => return Err(fault),
            (Ok(_), Err(Ended::Unheard)) => return Err(lost()),
            (Ok(written), Ok(())) => written,
        };
        if !inspected {
            return Err(lost());
        }
        written.stored = stored;
        layers.last().map_or(Ok(()), |it| complete(it, &links, to))?;
        Ok(written)
    })
}

/// Whether every file of the backup came, from whichever layer.
fn complete(layer: &Layer<'_>, links: &[u32], to: &Destination) -> Result<(), Fault> {
    let lacks = |path: &&String| !to.ground.has(&place(Path::new(path), links, to));
    let Some(lost) = layer.files.iter().flat_map(|it| it.0.keys()).find(lacks) else { return Ok(()) };
    Err(Fault::new(Blame::Backup, format!("unpack {}", layer.backup.display()))
        .cause(format!("{lost} is listed in its {}, and in none of its parts", walg_format::FILES))
        .hint("a part is lost: compare the files in the storage with those that `wal-g backup-list --detail` knows"))
}

/// `pg_tblspc/OID/…` lies beside the data directory: the link is there for the server, not for us.
fn place(at: &Path, links: &[u32], to: &Destination) -> PathBuf {
    let mut parts = at.components();
    if let Some(beside) = &to.tablespaces
        && parts.next().is_some_and(|it| it.as_os_str() == TABLESPACES)
        && let Some(oid) = parts.next()
        && links.iter().any(|it| it.to_string().as_str() == oid.as_os_str())
    {
        return beside.join(oid).join(parts.as_path());
    }
    to.data.join(at)
}

fn inspect(inspector: &mut dyn Inspector, receive: &Receiver<Message>) {
    while let Ok(message) = receive.recv() {
        match message {
            Message::Directory(_) | Message::Hollow(_) => {}
            Message::File(at) | Message::Patch(at, _) => inspector.begin(&at),
            Message::Bytes(bytes) => inspector.bytes(&bytes),
            Message::Block(number, bytes) => inspector.block(number, &bytes),
            Message::End => inspector.end(),
        }
    }
}

/// Real directories beside the data, and links to them that hold wherever both lie together.
fn make_tablespaces(facts: &BaseFacts, to: &Destination) -> Result<Vec<u32>, Fault> {
    let made = || -> io::Result<()> {
        let links = to.data.join(TABLESPACES);
        if !facts.tablespaces.is_empty() {
            to.ground.directory(&links)?;
        }
        for tablespace in &facts.tablespaces {
            let oid = tablespace.oid.to_string();
            let Some(beside) = &to.tablespaces else {
                to.ground.directory(&links.join(&oid))?;
                continue;
            };
            to.ground.directory(&beside.join(&oid))?;
            to.ground.link(&format!("../../{}/{oid}", name_of(beside)), &links.join(&oid))?;
        }
        Ok(())
    };
    made().map_err(|it| unwritable(to.tablespaces.as_deref().unwrap_or(&to.data), &it))?;
    Ok(facts.tablespaces.iter().map(|it| it.oid).collect())
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A file of the backup that lies beside what was unpacked.
pub(super) fn put(name: &str, bytes: &[u8], to: &Destination) -> Result<(), Fault> {
    let path = to.data.join(name);
    to.ground.create(&path).and_then(|mut it| it.write(bytes)).map_err(|it| unwritable(&path, &it))
}

fn unwritable(path: &Path, error: &io::Error) -> Fault {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Fault::new(Blame::Harness, "send the data directory: the receiver wanted no more");
    }
    if error.kind() == io::ErrorKind::InvalidInput {
        return Fault::new(Blame::Scenario, format!("send {}", path.display())).cause(error.to_string());
    }
    Fault::new(Blame::Host, format!("write {}", path.display()))
        .cause(error.to_string())
        .hint("free some space, or point TMPDIR at a larger disk")
}

#[derive(Clone)]
enum Message {
    Directory(Arc<Path>),
    File(Arc<Path>),
    Bytes(Arc<Vec<u8>>),
    /// A file that is there already, and its new length: blocks of it follow.
    Patch(Arc<Path>, u64),
    Block(u32, Arc<Vec<u8>>),
    /// The length of a file that holds nothing.
    Hollow(u64),
    End,
}

enum Ended {
    Fault(Fault),
    /// The writer has gone, and says why.
    Unheard,
}

impl From<Fault> for Ended {
    fn from(fault: Fault) -> Ended {
        Ended::Fault(fault)
    }
}

struct Reader<'a> {
    receivers: Vec<SyncSender<Message>>,
    reading: &'a Reading,
    on_bytes: OnBytes<'a>,
    stored: u64,
}

impl Reader<'_> {
    fn say(&self, message: &Message) -> Result<(), Ended> {
        self.receivers.iter().try_for_each(|it| it.send(message.clone())).map_err(|_| Ended::Unheard)
    }

    /// Passes one file on, to its end. Bytes passed.
    ///
    /// `size`: how large it will be, as its directory says. Most files are small, and a chunk need not be larger.
    fn contents(&mut self, mut input: impl Read, size: u64, bad: impl Fn(&io::Error) -> Fault) -> Result<u64, Ended> {
        let mut passed = 0;
        loop {
            if self.reading.is_stopped() {
                return Err(Fault::new(Blame::Host, "read the base backup").cause("the drill was stopped").into());
            }
            // One byte more shows the end.
            let left = usize::try_from(size.saturating_sub(passed)).unwrap_or(CHUNK).saturating_add(1);
            let length = left.min(CHUNK);
            let mut chunk = vec![0; length];
            let mut filled = 0;
            while filled < length {
                match input.read(&mut chunk[filled..]) {
                    Ok(0) => break,
                    Ok(read) => filled += read,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(bad(&error).into()),
                }
            }
            chunk.truncate(filled);
            passed += filled as u64;
            if filled == 0 {
                self.say(&Message::End)?;
                return Ok(passed);
            }
            let last = filled < length;
            self.say(&Message::Bytes(Arc::new(chunk)))?;
            if last {
                self.say(&Message::End)?;
                return Ok(passed);
            }
        }
    }

    fn tree(&mut self, backup: &Path, facts: &BaseFacts) -> Result<(), Ended> {
        self.directory(backup, Path::new(""), facts)?;
        for tablespace in &facts.tablespaces {
            let Some(from) = &tablespace.from else {
                let cause =
                    format!("the data of tablespace {} ({}) are not in it", tablespace.oid, tablespace.location);
                return Err(Fault::new(Blame::Backup, "read the base backup").cause(cause).into());
            };
            let at = Path::new(TABLESPACES).join(tablespace.oid.to_string());
            self.directory(Path::new(from), &at, facts)?;
        }
        if is_flat(backup) {
            STANDARD.iter().try_for_each(|it| self.say(&Message::Directory(Path::new(it).into())))?;
        }
        Ok(())
    }

    /// The same of a store or a bundle, which know no directories; a store is asked for many files at once.
    fn objects(&mut self, from: &Path, at: &Path, facts: &BaseFacts) -> Result<(), Ended> {
        let all = self.reading.all_beneath(from).map_err(|it| medium(from, "list", &it))?.unwrap_or_default();
        let mut files = Vec::new();
        for entry in &all {
            let path = &entry.path;
            let stat = entry.stat().map_err(|it| medium(path, "look at", &it))?;
            let place = at.join(path.strip_prefix(from).unwrap_or(path));
            // What some tools write for a directory that is empty.
            let marks = stat.bytes == 0 && STANDARD.iter().any(|it| place == Path::new(it));
            // Read where its data lie, which may be here.
            let mut between = place.ancestors().take_while(|it| *it != at);
            if !marks && !between.any(|it| is_tablespace(it, facts)) {
                files.push(((place, path, stat.bytes), Part::whole(path, stat)));
            }
        }
        let reading = self.reading;
        for ((at, path, bytes), file) in reading.each(files) {
            self.file(path, &at, bytes, file)?;
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, at: &Path, bytes: u64, file: io::Result<Input>) -> Result<(), Ended> {
        let file = file.map_err(|it| medium(path, "open", &it))?;
        self.say(&Message::File(at.into()))?;
        self.stored += self.contents(file, bytes, |it| medium(path, "read", it))?;
        (self.on_bytes)(self.stored);
        Ok(())
    }

    fn directory(&mut self, from: &Path, at: &Path, facts: &BaseFacts) -> Result<(), Ended> {
        if is_flat(from) {
            return self.objects(from, at, facts);
        }
        for entry in self.reading.entries(from).map_err(|it| medium(from, "list", &it))? {
            let path = &entry.path;
            let at = at.join(path.file_name().unwrap_or_default());
            match entry.kind {
                FileKind::Link => self.link(path, &at, facts)?,
                // Read where its data lie, which may be here.
                FileKind::Directory if is_tablespace(&at, facts) => {}
                FileKind::Directory => {
                    self.say(&Message::Directory(Arc::from(&*at)))?;
                    self.directory(path, &at, facts)?;
                }
                FileKind::File => {
                    let bytes = entry.stat().map_err(|it| medium(path, "look at", &it))?.bytes;
                    self.file(path, &at, bytes, self.reading.open(path))?;
                }
                FileKind::Other => {}
            }
        }
        Ok(())
    }

    /// Links are read in the survey, if at all; here only those of `pg_wal` and of tablespaces may stand.
    fn link(&mut self, path: &Path, at: &Path, facts: &BaseFacts) -> Result<(), Ended> {
        if is_tablespace(at, facts) {
            return Ok(());
        }
        if at == Path::new("pg_wal") {
            // WAL that lies elsewhere is not part of this backup: the archive has it, or nobody.
            return self.say(&Message::Directory(at.into()));
        }
        Err(Fault::new(Blame::Backup, format!("read the base backup: {} is a symbolic link", path.display()))
            .cause("it leads out of the backup, and is not followed")
            .hint("make the backup with pg_basebackup, or replace the link by what it leads to")
            .into())
    }

    /// Every file that the manifest names, compared with its SHA-1.
    fn repository(&mut self, backup: &Path, hollow: &[u32]) -> Result<(), Ended> {
        let backup = Backup::open(backup, self.reading)?;
        for directory in &backup.manifest.directories {
            let at = directory.strip_prefix("pg_data/").unwrap_or(directory);
            if !matches!(at, "pg_data" | "pg_tblspc") {
                self.say(&Message::Directory(member_place(Path::new(at), Path::new(directory))?.into()))?;
            }
        }
        // Of an empty file nothing is stored, and of a hollow one nothing is wanted.
        let is_stored = |it: &&File| it.size > 0 && !it.is_of(hollow);
        let (stored, others): (Vec<&File>, Vec<&File>) = backup.manifest.files.iter().partition(is_stored);
        for file in others {
            self.say(&Message::File(member_place(Path::new(file.place()), &backup.path(file))?.into()))?;
            self.say(&Message::Hollow(file.size))?;
            self.say(&Message::End)?;
        }
        let runs = stored.chunk_by(|one, next| one.is_followed_by(next));
        let reading = self.reading;
        for (run, input) in reading.each(runs.map(|it| (it, backup.part(it)))) {
            let path = run.first().map(|it| backup.path(it)).unwrap_or_default();
            let mut input = input.map_err(|it| unreadable(&path, "open", &it))?;
            for file in run {
                self.packed(&backup, file, &path, &mut input)?;
            }
        }
        Ok(())
    }

    fn packed(&mut self, backup: &Backup, file: &File, path: &Path, input: &mut Input) -> Result<(), Ended> {
        let bad = |it: &io::Error| {
            let damage = || cut(path, format!("within {}: {it}", file.name));
            if is_medium(it) || it.kind() == io::ErrorKind::NotFound { unreadable(path, "read", it) } else { damage() }
        };
        self.say(&Message::File(member_place(Path::new(file.place()), path)?.into()))?;
        let mut sum = Sha1::new();
        let mut stored = input.take(file.bytes_to_read());
        let contents = backup.contents(file, &mut stored).map_err(|it| bad(&it))?;
        self.contents(Summed { input: contents, sum: &mut sum }, file.size, bad)?;
        // What a decoder left, so that the next one begins where its file does.
        io::copy(&mut stored, &mut io::sink()).map_err(|it| bad(&it))?;
        let sum = hex(&sum.finalize());
        if file.checksum.as_ref().is_some_and(|it| *it != sum) {
            return Err(cut(path, format!("{} has the SHA-1 {sum}, and not that of the manifest", file.name)).into());
        }
        self.stored += file.repo_size;
        (self.on_bytes)(self.stored);
        Ok(())
    }

    fn layer(&mut self, layer: &Layer<'_>) -> Result<(), Ended> {
        let last = layer.wanted.is_none();
        // What the layers above bring themselves, they bring whole.
        let needed = |it: &&BaseMember| last || !walg_format::is_of_one_layer(&it.file);
        let mut members = layer.facts.members().iter().filter(needed);
        members.try_for_each(|it| self.member(layer.backup, it, Some(layer)))
    }

    /// Blocks of a file that an older layer brought.
    fn increment(&mut self, mut entry: impl Read, at: &Path, bad: impl Fn(&io::Error) -> Fault) -> Result<(), Ended> {
        let increment = walg_format::Increment::read(&mut entry).map_err(|it| bad(&it))?;
        self.say(&Message::Patch(at.into(), increment.bytes))?;
        for number in increment.blocks {
            if self.reading.is_stopped() {
                return Err(Fault::new(Blame::Host, "read the base backup").cause("the drill was stopped").into());
            }
            let mut block = vec![0; PAGE];
            entry.read_exact(&mut block).map_err(|it| bad(&it))?;
            self.say(&Message::Block(number, Arc::new(block)))?;
        }
        self.say(&Message::End)
    }

    /// `layer`: of a storage of WAL-G, which writes every name with a slash before it.
    fn member(&mut self, backup: &Path, member: &BaseMember, layer: Option<&Layer<'_>>) -> Result<(), Ended> {
        let path = if member.file.is_empty() { backup.to_owned() } else { backup.join(&member.file) };
        let (reading, failures) = (self.reading, Failures::default());
        let file = Watched::open(&path, reading, &failures)?;
        let read = Arc::new(AtomicU64::new(0));
        let before = self.stored;
        let bad = |it: &io::Error| {
            let damage = || cut(&path, it.to_string());
            failures.beneath(&path, reading.vault.blame(&path, it, reading).unwrap_or_else(damage))
        };
        let passed = Passed { input: file, read: Arc::clone(&read) };
        let plain = reading.vault.plain(&path, passed, reading).map_err(|it| bad(&it))?;
        let decoder = decode::decoder(member.compression, plain).map_err(|it| bad(&it))?;
        let mut archive = tar::Archive::new(Tail { input: decoder, zeros: 0 });
        let mut last = String::from("its first member");
        for entry in archive.entries().map_err(|it| bad(&it))? {
            let entry = entry.map_err(|it| bad(&it).cause(format!("after {last}")))?;
            let name = entry.path().map_err(|it| bad(&it))?.into_owned();
            let named = layer.and_then(|_| name.strip_prefix("/").ok()).unwrap_or(&name);
            let at = member.kind.place(&member_place(named, &path)?);
            last = name.display().to_string();
            let kind = entry.header().entry_type();
            let key = at.to_string_lossy();
            if layer.and_then(|it| it.wanted.as_ref()).is_some_and(|it| !kind.is_dir() && !it.contains(&*key)) {
                continue;
            }
            let note = layer.and_then(|it| it.files.as_ref()?.0.get(&*key).copied()).unwrap_or_default();
            if kind.is_dir() {
                self.say(&Message::Directory(at.into()))?;
            } else if kind.is_file() && note.is_incremented {
                self.increment(entry, &at, |it| bad(it).cause(format!("within {last}")))?;
            } else if kind.is_file() {
                let bytes = entry.header().size().map_err(|it| bad(&it))?;
                self.say(&Message::File(at.into()))?;
                let passed = self.contents(entry, bytes, |it| bad(it).cause(format!("within {last}")))?;
                if passed != bytes {
                    let cause = format!("it ends within {last}, after {passed} of {bytes} bytes");
                    return Err(cut(&path, cause).into());
                }
                self.stored = before + read.load(Ordering::Relaxed);
                (self.on_bytes)(self.stored);
            }
            // Links are made anew, by what the sandbox has room for; anything else has no place in a data directory.
        }
        // The reader of tar takes an end between two members for the end: an archive has two blocks of zeros there.
        let mut rest = archive.into_inner();
        io::copy(&mut rest, &mut io::sink()).map_err(|it| bad(&it))?;
        self.stored = before + read.load(Ordering::Relaxed);
        (self.on_bytes)(self.stored);
        if rest.zeros < END_BYTES {
            return Err(cut(&path, format!("it ends after {last}, without the mark of an archive's end")).into());
        }
        Ok(())
    }
}

/// Whether it is the place of a tablespace, as a link or as it is.
fn is_tablespace(at: &Path, facts: &BaseFacts) -> bool {
    facts.tablespaces.iter().any(|it| at == Path::new(TABLESPACES).join(it.oid.to_string()))
}

/// Digests what passes.
struct Summed<'a, R> {
    input: R,
    sum: &'a mut Sha1,
}

impl<R: Read> Read for Summed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.sum.update(&buffer[..read]);
        Ok(read)
    }
}

/// Two blocks of zeros.
const END_BYTES: u64 = 1024;

/// Counts what is read, as stored.
struct Passed<R> {
    input: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Passed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Counts the zeros at the end of what was read so far.
struct Tail<R> {
    input: R,
    zeros: u64,
}

impl<R: Read> Read for Tail<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        match buffer[..read].iter().rposition(|it| *it != 0) {
            Some(last) => self.zeros = (read - 1 - last) as u64,
            None => self.zeros += read as u64,
        }
        Ok(read)
    }
}

/// A member's path, if it stays within the directory that it is unpacked into.
fn member_place(name: &Path, archive: &Path) -> Result<PathBuf, Fault> {
    inside(name).ok_or_else(|| {
        Fault::new(Blame::Backup, format!("unpack {}", archive.display()))
            .cause(format!("its member {} would lie outside of the data directory", name.display()))
            .hint("no backup tool writes such a name: find out who made this archive")
    })
}

/// A file of a repository whose list was read: it is there, so what it lacks was removed.
fn unreadable(path: &Path, what: &str, error: &io::Error) -> Fault {
    if error.kind() != io::ErrorKind::NotFound {
        return medium(path, what, error);
    }
    Fault::new(Blame::Backup, format!("{what} {}", path.display()))
        .cause("it is not there, or something that it builds upon is not")
        .hint("a backup that this one needs was removed: restore an earlier full backup, and make a new one now")
}

fn cut(path: &Path, cause: String) -> Fault {
    Fault::new(Blame::Backup, format!("unpack {}", path.display()))
        .cause(cause)
        .hint("the file was cut or damaged: compare its size and checksum with those on the machine that made it")
}

/// Of a file that none of the layers beneath has brought.
fn unpatchable(path: &Path, error: &io::Error) -> Fault {
    if error.kind() == io::ErrorKind::NotFound {
        return Fault::new(Blame::Backup, format!("apply what changed in {}", path.display()))
            .cause("no backup beneath has the file")
            .hint("the chain of deltas is broken: make a full backup, and find out which one was removed or replaced");
    }
    unwritable(path, error)
}

struct Writer<'a> {
    to: &'a Destination,
    links: &'a [u32],
    written: Written,
}

impl Writer<'_> {
    fn run(mut self, receive: &Receiver<Message>) -> Result<Written, Fault> {
        let ground = &self.to.ground;
        let mut open: Option<(Opened<'_>, PathBuf)> = None;
        while let Ok(message) = receive.recv() {
            match message {
                Message::Directory(at) => {
                    let path = self.path(&at);
                    let made = ground.parents(&path).and_then(|()| ground.directory(&path));
                    made.map_err(|it| unwritable(&path, &it))?;
                }
                Message::File(at) => {
                    let path = self.path(&at);
                    let file = ground.parents(&path).and_then(|()| ground.create(&path));
                    open = Some((file.map_err(|it| unwritable(&path, &it))?, path));
                }
                Message::Bytes(bytes) => {
                    if let Some((file, path)) = &mut open {
                        file.write(&bytes).map_err(|it| unwritable(path, &it))?;
                        self.written.bytes += bytes.len() as u64;
                    }
                }
                Message::Patch(at, bytes) => {
                    let path = self.path(&at);
                    let file = ground.open(&path, bytes).map_err(|it| unpatchable(&path, &it))?;
                    open = Some((file, path));
                }
                Message::Block(number, bytes) => {
                    if let Some((file, path)) = &mut open {
                        let at = u64::from(number) * PAGE as u64;
                        file.write_at(&bytes, at).map_err(|it| unwritable(path, &it))?;
                        self.written.bytes += bytes.len() as u64;
                    }
                }
                Message::Hollow(bytes) => {
                    if let Some((file, path)) = &mut open {
                        file.set_len(bytes).map_err(|it| unwritable(path, &it))?;
                    }
                }
                Message::End => {
                    self.written.files += 1;
                    open = None;
                }
            }
        }
        Ok(self.written)
    }

    fn path(&self, at: &Path) -> PathBuf {
        place(at, self.links, self.to)
    }
}

impl MemberKind {
    /// Where what a tar file holds belongs in the data directory.
    fn place(self, path: &Path) -> PathBuf {
        match self {
            MemberKind::Data => path.to_owned(),
            MemberKind::Wal => Path::new("pg_wal").join(path),
            MemberKind::Tablespace(oid) => Path::new(TABLESPACES).join(oid.to_string()).join(path),
        }
    }
}
