//! Backups in a repository of pgBackRest, as base backups: what a backup is, and its files wherever they lie.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::Reading;
use super::files::{Entry, FileKind};
use super::objects::is_medium;
use super::tap::{file_name, medium};
use crate::fault::{Blame, Fault};
use crate::format::Compression;
use crate::format::base::{BaseFacts, BaseLayout, ControlFound, Label, ManifestFound, Tablespace, Told};
use crate::format::crypt::Key;
use crate::format::pgbackrest::{self as format, Decrypt, Listed, Manifest, Sections};

/// The directories of a repository.
pub(super) const BACKUPS: &str = "backup";
const INFO: &str = "backup.info";
const ARCHIVE_INFO: &str = "archive.info";
const MANIFEST: &str = "backup.manifest";

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

/// The stanzas of a repository.
pub fn stanzas(repository: &Path, reading: &Reading) -> Vec<String> {
    let entries = reading.peek(&repository.join(BACKUPS)).into_iter();
    entries.filter(|it| reading.is_file(&it.path.join(INFO))).map(|it| it.name).collect()
}

/// The text of an information file or a manifest, decrypted. Its copy where it is not there or cannot be read.
fn read(path: &Path, pass: Option<&str>, reading: &Reading) -> Result<String, Fault> {
    let text = |path: &Path| -> io::Result<String> {
        let mut text = String::new();
        match pass {
            Some(pass) => Decrypt::new(reading.open(path)?, pass)?.read_to_string(&mut text)?,
            None => reading.open(path)?.read_to_string(&mut text)?,
        };
        Ok(text)
    };
    let copy = path.with_file_name(format!("{}.copy", file_name(path)));
    text(path).or_else(|error| text(&copy).map_err(|_| error)).map_err(|error| {
        if is_medium(&error) {
            return medium(path, "read", &error);
        }
        let fault = |blame| Fault::new(blame, format!("read {}", path.display()));
        match pass {
            Some(_) => fault(Blame::Scenario)
                .cause(format!("it cannot be decrypted: {error}"))
                .hint("Name the `cipher_pass` of the repository (repo1-cipher-pass)."),
            None if sealed(path, reading) => fault(Blame::Scenario)
                .cause("it is encrypted")
                .hint("Name the `cipher_pass` of the repository (repo1-cipher-pass)."),
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
    let of = |key: &str| format::get(&info, "db:history", &listed.db_id.to_string())?.get(key).cloned();
    let version = of("db-version").and_then(|it| it.as_str().map(str::to_owned)).unwrap_or_default();
    let major = crate::format::major_of(&version).ok_or_else(|| fault("it does not say of which major it is"))?;
    let time = |seconds: i64| jiff::Timestamp::from_second(seconds).ok();
    let timeline = listed.backup_archive_start.as_deref().and_then(|it| u32::from_str_radix(it.get(..8)?, 16).ok());
    let began = time(listed.backup_timestamp_start);
    let spaces = manifest.tablespaces.iter();
    Ok(BaseFacts {
        layout: BaseLayout::PgBackRest { compression: manifest.compression, databases: manifest.databases },
        major,
        tablespaces: spaces.map(|(oid, at)| Tablespace { oid: *oid, location: at.clone(), from: None }).collect(),
        bytes: manifest.files.iter().map(|it| it.repo_size).sum(),
        label: listed.backup_lsn_start.map(|it| Label::by_catalogue(it, timeline, began)),
        manifest: ManifestFound::Absent,
        control: ControlFound::NotRead,
        told: Some(Told {
            system_identifier: of("db-system-id").and_then(|it| it.as_u64()),
            stop: listed.backup_lsn_stop,
            stopped: time(listed.backup_timestamp_stop),
        }),
        settings: BTreeMap::new(),
    })
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

    /// The plain bytes of a file, wherever they lie.
    pub(super) fn read<'a>(&'a self, file: &'a format::File) -> io::Result<Box<dyn Read + 'a>> {
        if let Some(blocks) = file.blocks {
            return Ok(Box::new(Blocks::open(self, file, blocks)?));
        }
        let start = file.bundle.map_or(0, |it| it.1);
        self.part(&self.path(file), start, file.repo_size, self.manifest.compression)
    }

    fn part(
        &self,
        path: &Path,
        start: u64,
        bytes: u64,
        compression: Compression,
    ) -> io::Result<Box<dyn Read + 'static>> {
        let mut input = self.reading.open(path)?;
        input.seek(SeekFrom::Start(start))?;
        format::unpacked(input.take(bytes), self.manifest.pass.as_deref(), compression)
    }
}

/// Reads a file of which each block lies in the backup that changed it last.
struct Blocks<'a> {
    backup: &'a Backup,
    name: &'a str,
    /// Bytes of each block but the last.
    size: u64,
    map: std::vec::IntoIter<format::Placed>,
    /// Super blocks hold several blocks, which need not follow each other.
    open: BTreeMap<(usize, u64, u64), Vec<u8>>,
    block: Cursor<Vec<u8>>,
}

impl<'a> Blocks<'a> {
    /// Super blocks that are kept: behind what has passed, nothing of them is needed again, as a file is read in its order.
    const OPEN: usize = 8;

    fn open(backup: &'a Backup, file: &'a format::File, blocks: format::Blocks) -> io::Result<Blocks<'a>> {
        let end = file.bundle.map_or(0, |it| it.1) + file.repo_size;
        let map = backup.part(&backup.path(file), end.saturating_sub(blocks.map), blocks.map, Compression::None)?;
        let map = format::block_map(map, blocks)?.into_iter();
        let (open, block) = (BTreeMap::new(), Cursor::default());
        Ok(Blocks { backup, name: &file.name, size: blocks.size, map, open, block })
    }

    fn at(&mut self, placed: format::Placed) -> io::Result<Vec<u8>> {
        let garbled = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
        let key = (placed.reference, placed.bundle, placed.offset);
        if !self.open.contains_key(&key) {
            let Manifest { references, compression, .. } = &self.backup.manifest;
            let unnamed = || garbled("it refers to a backup that is not named");
            let backup = references.get(placed.reference).ok_or_else(unnamed)?;
            let bundle = Some(placed.bundle).filter(|it| *it > 0);
            let stored = self.backup.stanza.join(format::stored(backup, self.name, bundle, true, *compression));
            let mut contents = Vec::new();
            self.backup.part(&stored, placed.offset, placed.bytes, *compression)?.read_to_end(&mut contents)?;
            if self.open.len() > Self::OPEN {
                self.open.pop_first();
            }
            self.open.insert(key, contents);
        }
        let contents = self.open.get(&key).map(Vec::as_slice).unwrap_or_default();
        let number = |it: u64| usize::try_from(it).unwrap_or(usize::MAX);
        let from = number(placed.block.saturating_mul(self.size));
        let to = from.saturating_add(number(self.size)).min(contents.len());
        let bytes = contents.get(from..to).filter(|it| !it.is_empty());
        let bytes = bytes.ok_or_else(|| garbled("a block is not where its map says"))?;
        if self.map.len() > 0 && bytes.len() as u64 != self.size {
            return Err(garbled("a block before the last is cut"));
        }
        Ok(bytes.to_vec())
    }
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
    let stanza = path.ancestors().find(|it| reading.is_file(&it.join(ARCHIVE_INFO)));
    let Some(stanza) = stanza else { return Ok(Some(pass.to_owned())) };
    let info = information(stanza, ARCHIVE_INFO, reading)?;
    Ok(format::text(&info, "cipher", "cipher-pass").map(str::to_owned))
}

/// The newest cluster's directory in the archive of a stanza: `17-1`.
pub(super) fn newest_cluster(stanza: &Path, reading: &Reading) -> Option<PathBuf> {
    if !reading.is_file(&stanza.join(ARCHIVE_INFO)) {
        return None;
    }
    let directories = reading.entries(stanza).ok()?.into_iter().filter(|it| it.kind == FileKind::Directory);
    let id = |name: &str| name.rsplit_once('-')?.1.parse::<u32>().ok();
    directories.filter_map(|it| Some((id(&it.name)?, it.path))).max().map(|it| it.1)
}
