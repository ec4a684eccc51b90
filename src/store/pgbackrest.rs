//! Backups in a repository of pgBackRest, as base backups: what a backup is, and its files wherever they lie.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::vec;

use super::Reading;
use super::base::{control_of, settings};
use super::files::{Entry, FileKind, Input, Part};
use super::find::unlistable;
use super::objects::{again, is_medium};
use super::tap::{file_name, medium};
use crate::fault::{Blame, Fault};
use crate::format::Compression;
use crate::format::base::{self, BaseFacts, BaseLayout, ControlFound, Label, ManifestFound, Tablespace, Told};
use crate::format::crypt::Key;
use crate::format::pg_control;
use crate::format::pgbackrest::{self as format, Decrypt, Listed, Manifest, Sections};

/// The directories of a repository.
pub(super) const BACKUPS: &str = "backup";
const INFO: &str = "backup.info";
const ARCHIVE_INFO: &str = "archive.info";
const MANIFEST: &str = "backup.manifest";

/// A label file has a few lines.
const SMALL: u64 = 64 << 10;

const ROTTEN: &str = "it is not what its own checksum says";
const NAME_THE_PASS: &str = "Name the `cipher_pass` of the repository (repo1-cipher-pass); `pgdrill inspect` takes PGBACKREST_REPO1_CIPHER_PASS.";

/// Whether it is the directory of a backup: `REPOSITORY/backup/STANZA/LABEL`.
pub(super) fn is_backup(path: &Path, reading: &Reading) -> bool {
    let stanza = path.parent();
    let above = stanza.and_then(Path::parent).map(file_name);
    above.as_deref() == Some(BACKUPS) && stanza.is_some_and(|it| reading.is_file(&it.join(INFO)))
}

/// The backups of a stanza. None: it is no stanza's directory.
pub(super) fn backups(stanza: &Path, reading: &Reading) -> Option<Vec<PathBuf>> {
    if !reading.is_file(&stanza.join(INFO)) {
        return None;
    }
    // `latest` is a link to one of them, or a second copy of it where links were followed on the way to a store.
    let is_one = |it: &Entry| it.kind == FileKind::Directory && it.name != "latest";
    let directories = reading.entries(stanza).ok()?.into_iter().filter(is_one);
    Some(directories.map(|it| it.path).filter(|it| reading.is_file(&it.join(MANIFEST))).collect())
}

/// The backups that a stanza lists, by label, whether they are there or not.
pub(super) fn listed(stanza: &Path, reading: &Reading) -> Result<BTreeMap<String, Listed>, Fault> {
    let info = information(stanza, INFO, reading)?;
    let parsed =
        |(label, it): &(String, serde_json::Value)| Some((label.clone(), serde_json::from_value(it.clone()).ok()?));
    Ok(info.get("backup:current").into_iter().flatten().filter_map(parsed).collect())
}

/// The stanzas of a repository.
pub fn stanzas(repository: &Path, reading: &Reading) -> Vec<String> {
    let entries = reading.peek(&repository.join(BACKUPS)).into_iter();
    entries.filter(|it| reading.is_file(&it.path.join(INFO))).map(|it| it.name).collect()
}

/// Whether a stanza of a repository is encrypted.
pub fn is_sealed_stanza(repository: &Path, stanza: &str, reading: &Reading) -> bool {
    sealed(&repository.join(BACKUPS).join(stanza).join(INFO), reading)
}

/// The text of an information file or a manifest, decrypted. Its copy where it is not there or cannot be read.
fn read(path: &Path, pass: Option<&str>, reading: &Reading) -> Result<String, Fault> {
    let text = |path: &Path| -> io::Result<String> {
        let mut text = String::new();
        match pass {
            Some(pass) => Decrypt::new(reading.open(path)?, pass)?.read_to_string(&mut text)?,
            None => reading.open(path)?.read_to_string(&mut text)?,
        };
        if format::is_whole(&text) == Some(false) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, ROTTEN));
        }
        Ok(text)
    };
    let copy = path.with_file_name(format!("{}.copy", file_name(path)));
    text(path).or_else(|error| text(&copy).map_err(|_| error)).map_err(|error| {
        if is_medium(&error) {
            return medium(path, "read", &error);
        }
        let fault = |blame| Fault::new(blame, format!("read {}", path.display()));
        match pass {
            // Whoever has another pass sees nothing that is text.
            _ if error.to_string() == ROTTEN => fault(Blame::Backup).cause(ROTTEN),
            Some(_) => fault(Blame::Scenario).cause(format!("it cannot be decrypted: {error}")).hint(NAME_THE_PASS),
            None if sealed(path, reading) => fault(Blame::Scenario).cause("it is encrypted").hint(NAME_THE_PASS),
            None => fault(Blame::Backup).cause(error.to_string()),
        }
    })
}

fn sealed(path: &Path, reading: &Reading) -> bool {
    reading.head(path, 8).is_ok_and(|it| it == b"Salted__")
}

/// The pass of the repository, if it is encrypted.
fn pass<'a>(reading: &'a Reading, path: &Path) -> Result<Option<&'a str>, Fault> {
    match reading.vault.key(path) {
        Some(Ok(Key::PgBackRest(pass))) => Ok(Some(pass)),
        Some(Err(fault)) => Err(fault.clone()),
        Some(Ok(_)) | None => Ok(None),
    }
}

fn information(stanza: &Path, name: &str, reading: &Reading) -> Result<Sections, Fault> {
    let path = stanza.join(name);
    Ok(format::sections(&read(&path, pass(reading, &path)?, reading)?))
}

/// What a backup is, by the stanza's own list.
pub(super) fn facts(backup: &Path, reading: &Reading) -> Result<BaseFacts, Fault> {
    let stanza = backup.parent().unwrap_or(backup);
    let label = file_name(backup);
    let info = information(stanza, INFO, reading)?;
    let fault = |why: &str| {
        Fault::new(Blame::Backup, format!("read the backup {}", backup.display()))
            .cause(why)
            .hint("run `pgbackrest check` and `pgbackrest info` where it was made")
    };
    let listed = format::get(&info, "backup:current", &label);
    let listed = listed.ok_or_else(|| fault("the stanza's backup.info does not list it: it was never finished"))?;
    let listed: Listed = serde_json::from_value(listed.clone()).map_err(|it| fault(&it.to_string()))?;
    let manifest = manifest(backup, &info, reading)?;
    let files = Backup { stanza: stanza.to_owned(), label, manifest, reading: reading.clone() };
    let of = |key: &str| format::get(&info, "db:history", &listed.db_id.to_string())?.get(key).cloned();
    let version = of("db-version").and_then(|it| it.as_str().map(str::to_owned)).unwrap_or_default();
    let major = crate::format::major_of(&version).ok_or_else(|| fault("it does not say of which major it is"))?;
    let newest = format::get(&info, "db", "db-id").and_then(serde_json::Value::as_u64);
    let newest = newest.and_then(|it| u32::try_from(it).ok()).unwrap_or(listed.db_id);
    let time = |seconds: i64| jiff::Timestamp::from_second(seconds).ok();
    let timeline = listed.backup_archive_start.as_deref().and_then(|it| u32::from_str_radix(it.get(..8)?, 16).ok());
    let began = time(listed.backup_timestamp_start);
    let label = match listed.backup_lsn_start {
        Some(it) => Some(Label::by_catalogue(it, timeline, began)),
        // Before 2.36, its list does not tell.
        None => own_label(&files)?,
    };
    // What of these cannot be read is noticed when it is restored.
    let own = |name: &str| files.small(files.file(&format!("pg_data/{name}"))?).ok();
    let settings = settings(|name| own(name).map(|it| String::from_utf8_lossy(&it).into_owned()));
    let control = own(pg_control::FILE).map_or(ControlFound::NotRead, |it| control_of(&it));
    let manifest = files.manifest;
    let spaces = manifest.tablespaces.iter();
    Ok(BaseFacts {
        layout: BaseLayout::PgBackRest {
            compression: manifest.compression,
            earlier: (listed.db_id != newest).then(|| format!("{version}-{}", listed.db_id)),
            databases: manifest.databases,
        },
        major,
        tablespaces: spaces.map(|(oid, at)| Tablespace { oid: *oid, location: at.clone(), from: None }).collect(),
        bytes: manifest.files.iter().map(|it| it.repo_size).sum(),
        label,
        manifest: ManifestFound::Absent,
        control,
        told: Some(Told {
            system_identifier: of("db-system-id").and_then(|it| it.as_u64()),
            stop: listed.backup_lsn_stop,
            stopped: time(listed.backup_timestamp_stop),
            // With archive-copy it does.
            without_wal: !manifest.files.iter().any(|it| it.name.starts_with("pg_data/pg_wal/") && it.size > 0),
        }),
        settings,
    })
}

/// What PostgreSQL wrote when the backup began.
fn own_label(backup: &Backup) -> Result<Option<Label>, Fault> {
    let Some(file) = backup.file("pg_data/backup_label") else { return Ok(None) };
    let path = backup.path(file);
    let text = backup.small(file).map_err(|error| {
        let damage = || Fault::new(Blame::Backup, format!("read {}", path.display())).cause(error.to_string());
        if is_medium(&error) { medium(&path, "read", &error) } else { damage() }
    })?;
    Ok(base::label(&String::from_utf8_lossy(&text)))
}

fn manifest(backup: &Path, info: &Sections, reading: &Reading) -> Result<Manifest, Fault> {
    let path = backup.join(MANIFEST);
    let text = read(&path, format::text(info, "cipher", "cipher-pass"), reading)?;
    Manifest::parse(&text).map_err(|why| Fault::new(Blame::Backup, format!("read {}", path.display())).cause(why))
}

/// The files of a backup, to be read one after another.
pub(super) struct Backup {
    stanza: PathBuf,
    label: String,
    pub(super) manifest: Manifest,
    reading: Reading,
}

impl Backup {
    pub(super) fn open(backup: &Path, reading: &Reading) -> Result<Backup, Fault> {
        let stanza = backup.parent().unwrap_or(backup).to_owned();
        let info = information(&stanza, INFO, reading)?;
        let mut manifest = manifest(backup, &info, reading)?;
        // As they lie: bundles are read from their start to their end.
        let label = file_name(backup);
        manifest.files.sort_by_cached_key(|it| (it.reference.clone().unwrap_or_default(), it.bundle, it.name.clone()));
        // Nothing starts from a copy without its last file.
        manifest.files.sort_by_key(|it| it.name == "pg_data/global/pg_control");
        Ok(Backup { stanza, label, manifest, reading: reading.clone() })
    }

    /// Where a file is stored, for faults.
    pub(super) fn path(&self, file: &format::File) -> PathBuf {
        self.stanza.join(file.path(&self.label, self.manifest.compression))
    }

    fn file(&self, name: &str) -> Option<&format::File> {
        self.manifest.files.iter().find(|it| it.name == name)
    }

    /// The first [`SMALL`] bytes of a file.
    fn small(&self, file: &format::File) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let stored = self.reading.part(&self.part(&[file]), true)?.take(file.bytes_to_read());
        self.contents(file, stored)?.take(SMALL).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Where files that follow one another lie.
    pub(super) fn part(&self, run: &[&format::File]) -> Part {
        let path = run.first().map(|it| self.path(it)).unwrap_or_default();
        let (start, end) = (run.first().map_or(0, |it| it.start()), run.last().map_or(0, |it| it.end()));
        Part { path, start, bytes: end.saturating_sub(start), size: None }
    }

    /// The plain bytes of a file, by what lies at its place.
    pub(super) fn contents<'a>(
        &'a self,
        file: &'a format::File,
        stored: impl Read + 'a,
    ) -> io::Result<Box<dyn Read + 'a>> {
        match file.blocks {
            Some(blocks) => Ok(Box::new(Blocks::open(self, file, stored, blocks)?)),
            None => self.unpacked(stored, self.manifest.compression),
        }
    }

    fn unpacked<'a>(&self, stored: impl Read + 'a, compression: Compression) -> io::Result<Box<dyn Read + 'a>> {
        format::unpacked(stored, self.manifest.pass.as_deref(), compression)
    }
}

/// A file's own place in a repository, or the end of it.
struct Own {
    /// The number of its backup in the manifest, and of its bundle.
    lies: Option<(usize, u64)>,
    start: u64,
    bytes: Vec<u8>,
}

impl Own {
    fn read(backup: &Backup, file: &format::File, stored: &mut impl Read) -> io::Result<Own> {
        let label = file.reference.as_ref().unwrap_or(&backup.label);
        let reference = backup.manifest.references.iter().position(|it| it == label);
        let lies = reference.map(|it| (it, file.bundle.map_or(0, |it| it.0)));
        let mut bytes = Vec::new();
        stored.read_to_end(&mut bytes)?;
        Ok(Own { lies, start: file.start(), bytes })
    }

    /// The stored bytes of a super block.
    fn holds(&self, placed: &format::Placed) -> Option<&[u8]> {
        let place = |it: u64| usize::try_from(it.checked_sub(self.start)?).ok();
        self.lies.filter(|it| *it == (placed.reference, placed.bundle))?;
        self.bytes.get(place(placed.offset)?..place(placed.end())?)
    }
}

/// Where a super block is: the backup, the bundle and the offset.
type At = (usize, u64, u64);

/// Super blocks that lie behind one another, from where they are read.
type Run = (VecDeque<format::Placed>, io::Result<Input>);

/// Reads a file of which each block lies in the backup that changed it last.
struct Blocks<'a> {
    backup: &'a Backup,
    /// What was read at the file's own place, which ends with the map.
    own: Own,
    /// Bytes of each block but the last.
    size: u64,
    map: vec::IntoIter<format::Placed>,
    /// In the order in which they are needed first.
    runs: Box<dyn Iterator<Item = Run> + 'a>,
    run: Option<Run>,
    /// How many blocks of each super block are still to come.
    left: BTreeMap<At, usize>,
    /// A super block holds several blocks, between which others may lie.
    open: BTreeMap<At, Vec<u8>>,
    block: Cursor<Vec<u8>>,
}

impl<'a> Blocks<'a> {
    fn open(
        backup: &'a Backup,
        file: &'a format::File,
        mut stored: impl Read,
        blocks: format::Blocks,
    ) -> io::Result<Blocks<'a>> {
        let own = Own::read(backup, file, &mut stored)?;
        let Some(at) = usize::try_from(blocks.map).ok().and_then(|it| own.bytes.len().checked_sub(it)) else {
            return Err(garbled("its map is larger than all of it"));
        };
        let map = format::block_map(backup.unpacked(&own.bytes[at..], Compression::None)?, blocks)?;
        let mut left = BTreeMap::new();
        let mut supers = Vec::new();
        for placed in &map {
            let uses: &mut usize = left.entry(placed.at()).or_default();
            if *uses == 0 && own.holds(placed).is_none() {
                supers.push(*placed);
            }
            *uses += 1;
        }
        let Manifest { references, compression, .. } = &backup.manifest;
        let follows = |one: &format::Placed, next: &format::Placed| (one.reference, one.bundle, one.end()) == next.at();
        let mut runs = Vec::new();
        for run in supers.chunk_by(follows) {
            let Some(first) = run.first() else { continue };
            let from =
                references.get(first.reference).ok_or_else(|| garbled("it refers to a backup that is not named"))?;
            let bundle = Some(first.bundle).filter(|it| *it > 0);
            let path = backup.stanza.join(format::stored(from, &file.name, bundle, true, *compression));
            let bytes = run.last().map_or(0, format::Placed::end).saturating_sub(first.offset);
            runs.push((run.iter().copied().collect(), Part { path, start: first.offset, bytes, size: None }));
        }
        Ok(Blocks {
            backup,
            own,
            size: blocks.size,
            map: map.into_iter(),
            runs: Box::new(backup.reading.each(runs)),
            run: None,
            left,
            open: BTreeMap::new(),
            block: Cursor::default(),
        })
    }

    fn load(&mut self, placed: &format::Placed) -> io::Result<Vec<u8>> {
        let (backup, mut contents) = (self.backup, Vec::new());
        if let Some(stored) = self.own.holds(placed) {
            backup.unpacked(stored, backup.manifest.compression)?.read_to_end(&mut contents)?;
            return Ok(contents);
        }
        // All others come in their order.
        if self.run.as_ref().is_none_or(|it| it.0.is_empty()) {
            self.run = self.runs.next();
        }
        let Some((supers, input)) = &mut self.run else { return Ok(Vec::new()) };
        let input = input.as_mut().map_err(|it| again(it))?;
        let bytes = supers.pop_front().map_or(0, |it| it.bytes);
        let mut stored = input.take(bytes);
        backup.unpacked(&mut stored, backup.manifest.compression)?.read_to_end(&mut contents)?;
        io::copy(&mut stored, &mut io::sink())?;
        Ok(contents)
    }

    fn at(&mut self, placed: format::Placed) -> io::Result<Vec<u8>> {
        let key = placed.at();
        if !self.open.contains_key(&key) {
            let contents = self.load(&placed)?;
            self.open.insert(key, contents);
        }
        let contents = self.open.get(&key).map(Vec::as_slice).unwrap_or_default();
        let number = |it: u64| usize::try_from(it).unwrap_or(usize::MAX);
        let from = number(placed.block.saturating_mul(self.size));
        let to = from.saturating_add(number(self.size)).min(contents.len());
        let bytes = contents.get(from..to).filter(|it| !it.is_empty());
        let bytes = bytes.ok_or_else(|| garbled("a block is not where its map says"))?.to_vec();
        if self.map.len() > 0 && bytes.len() as u64 != self.size {
            return Err(garbled("a block before the last is cut"));
        }
        if let Some(left) = self.left.get_mut(&key) {
            *left -= 1;
            if *left == 0 {
                self.open.remove(&key);
            }
        }
        Ok(bytes)
    }
}

fn garbled(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

impl Read for Blocks<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.block.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let Some(placed) = self.map.next() else { return Ok(0) };
            self.block = Cursor::new(self.at(placed)?);
        }
    }
}

/// The pass of WAL beneath this place in an archive. None: it is not encrypted.
pub(super) fn wal_pass(path: &Path, reading: &Reading) -> Result<Option<String>, Fault> {
    let Some(pass) = pass(reading, path)? else { return Ok(None) };
    let directory = path.parent().unwrap_or(path);
    if let Some(known) = reading.hints().passes.get(directory) {
        return Ok(known.clone());
    }
    let found = pass_above(path, pass, reading)?;
    reading.hints().passes.insert(directory.to_owned(), found.clone());
    Ok(found)
}

fn pass_above(path: &Path, pass: &str, reading: &Reading) -> Result<Option<String>, Fault> {
    for above in path.ancestors().skip(1) {
        let info = above.join(ARCHIVE_INFO);
        if reading.has_file(&info).map_err(|it| medium(&info, "look for", &it))? {
            let info = information(above, ARCHIVE_INFO, reading)?;
            return Ok(format::text(&info, "cipher", "cipher-pass").map(str::to_owned));
        }
    }
    Ok(Some(pass.to_owned()))
}

/// `17-1`: the cluster that is the first of its stanza.
pub(super) fn cluster_id(directory: &str) -> Option<u32> {
    directory.rsplit_once('-')?.1.parse().ok()
}

/// The directory of a cluster in the archive of a stanza, `17-1`: the newest, or itself where one is named. None: of no stanza.
pub(super) fn cluster(archive: &Path, reading: &Reading) -> Result<Option<PathBuf>, Fault> {
    if cluster_id(&file_name(archive)).is_some()
        && let Some(info) = archive.parent().map(|it| it.join(ARCHIVE_INFO))
        && reading.has_file(&info).map_err(|it| medium(&info, "look for", &it))?
    {
        return Ok(Some(archive.to_owned()));
    }
    let (stanza, info) = (archive, archive.join(ARCHIVE_INFO));
    if !reading.has_file(&info).map_err(|it| medium(&info, "look for", &it))? {
        return Ok(None);
    }
    let entries = reading.entries(stanza).map_err(|it| unlistable(stanza, &it))?;
    let directories = entries.into_iter().filter(|it| it.kind == FileKind::Directory);
    Ok(directories.filter_map(|it| Some((cluster_id(&it.name)?, it.path))).max().map(|it| it.1))
}
