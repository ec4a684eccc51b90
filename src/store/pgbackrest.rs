//! Backups in a repository of pgBackRest, as base backups: what a backup is, and its files wherever they lie.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::Reading;
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
pub(super) fn is_backup(path: &Path) -> bool {
    let stanza = path.parent();
    let above = stanza.and_then(Path::parent).map(file_name);
    above.as_deref() == Some(BACKUPS) && stanza.is_some_and(|it| it.join(INFO).is_file())
}

/// The backups of a stanza. None: it is no stanza's directory.
pub(super) fn backups(stanza: &Path) -> Option<Vec<PathBuf>> {
    if !stanza.join(INFO).is_file() {
        return None;
    }
    let entries = fs::read_dir(stanza).ok()?.flatten().map(|it| it.path());
    // `latest` is a link to one of them.
    let is_one = |it: &PathBuf| it.join(MANIFEST).is_file() && !it.is_symlink();
    let mut found: Vec<PathBuf> = entries.filter(is_one).collect();
    found.sort();
    Some(found)
}

/// The stanzas of a repository.
pub fn stanzas(repository: &Path) -> Vec<String> {
    let entries = fs::read_dir(repository.join(BACKUPS)).into_iter().flatten().flatten().map(|it| it.path());
    let mut names: Vec<String> = entries.filter(|it| it.join(INFO).is_file()).map(|it| file_name(&it)).collect();
    names.sort();
    names
}

/// The text of an information file or a manifest, decrypted. Its copy where it is not there or cannot be read.
fn read(path: &Path, pass: Option<&str>) -> Result<String, Fault> {
    let text = |path: &Path| -> io::Result<String> {
        let mut text = String::new();
        match pass {
            Some(pass) => Decrypt::new(File::open(path)?, pass)?.read_to_string(&mut text)?,
            None => File::open(path)?.read_to_string(&mut text)?,
        };
        Ok(text)
    };
    let copy = path.with_file_name(format!("{}.copy", file_name(path)));
    text(path).or_else(|error| text(&copy).map_err(|_| error)).map_err(|error| {
        if error.raw_os_error().is_some() {
            return medium(path, "read", &error);
        }
        let fault = |blame| Fault::new(blame, format!("read {}", path.display()));
        match pass {
            Some(_) => fault(Blame::Scenario)
                .cause(format!("it cannot be decrypted: {error}"))
                .hint("Name the `cipher_pass` of the repository (repo1-cipher-pass)."),
            None if sealed(path) => fault(Blame::Scenario)
                .cause("it is encrypted")
                .hint("Name the `cipher_pass` of the repository (repo1-cipher-pass)."),
            None => fault(Blame::Backup).cause(error.to_string()),
        }
    })
}

fn sealed(path: &Path) -> bool {
    let mut head = Vec::new();
    File::open(path).and_then(|it| it.take(8).read_to_end(&mut head)).is_ok() && head == b"Salted__"
}

/// The pass of the repository, if it is encrypted.
fn pass<'a>(reading: &'a Reading, path: &Path) -> Result<Option<&'a str>, Fault> {
    match reading.vault.key_of(path) {
        Some(Ok(Key::PgBackRest(pass))) => Ok(Some(pass)),
        Some(Err(fault)) => Err(fault.clone()),
        Some(Ok(_)) | None => Ok(None),
    }
}

fn information(stanza: &Path, name: &str, reading: &Reading) -> Result<Sections, Fault> {
    let path = stanza.join(name);
    Ok(format::sections(&read(&path, pass(reading, &path)?)?))
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
    let manifest = manifest(backup, &info)?;
    let of = |key: &str| format::get(&info, "db:history", &listed.db_id.to_string())?.get(key).cloned();
    let version = of("db-version").and_then(|it| it.as_str().map(str::to_owned)).unwrap_or_default();
    let major = crate::format::major_of(&version).ok_or_else(|| fault("it does not say of which major it is"))?;
    let time = |seconds: i64| jiff::Timestamp::from_second(seconds).ok();
    let timeline = listed.backup_archive_start.as_deref().and_then(|it| u32::from_str_radix(it.get(..8)?, 16).ok());
    let started = time(listed.backup_timestamp_start).map(|it| it.strftime("%Y-%m-%d %H:%M:%S UTC").to_string());
    let spaces = manifest.tablespaces.iter();
    Ok(BaseFacts {
        layout: BaseLayout::PgBackRest { compression: manifest.compression },
        major,
        tablespaces: spaces.map(|(oid, at)| Tablespace { oid: *oid, location: at.clone(), from: None }).collect(),
        bytes: manifest.files.iter().map(|it| it.repo_size).sum(),
        label: listed.backup_lsn_start.map(|it| Label { start: it.to_string(), timeline, started, after: None }),
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

fn manifest(backup: &Path, info: &Sections) -> Result<Manifest, Fault> {
    let path = backup.join(MANIFEST);
    let text = read(&path, format::text(info, "cipher", "cipher-pass"))?;
    Manifest::parse(&text).map_err(|why| Fault::new(Blame::Backup, format!("read {}", path.display())).cause(why))
}

/// The files of a backup, to be read one after another.
pub(super) struct Backup {
    stanza: PathBuf,
    label: String,
    pub(super) manifest: Manifest,
}

impl Backup {
    pub(super) fn open(backup: &Path, reading: &Reading) -> Result<Backup, Fault> {
        let stanza = backup.parent().unwrap_or(backup).to_owned();
        let info = information(&stanza, INFO, reading)?;
        let mut manifest = manifest(backup, &info)?;
        // As they lie: bundles are read from their start to their end.
        let label = file_name(backup);
        manifest.files.sort_by_cached_key(|it| (it.reference.clone().unwrap_or_default(), it.bundle, it.name.clone()));
        // Nothing starts from a copy without its last file.
        manifest.files.sort_by_key(|it| it.name == "pg_data/global/pg_control");
        Ok(Backup { stanza, label, manifest })
    }

    /// Where a file is stored, for faults.
    pub(super) fn path(&self, file: &format::File) -> PathBuf {
        self.stanza.join(file.path(&self.label, self.manifest.compression))
    }

    /// The plain bytes of a file that is stored whole.
    pub(super) fn whole(&self, file: &format::File) -> io::Result<Box<dyn Read>> {
        let mut input = File::open(self.path(file))?;
        if let Some((_, at)) = file.bundle {
            input.seek(SeekFrom::Start(at))?;
        }
        format::unpacked(input.take(file.repo_size), self.manifest.pass.as_deref(), self.manifest.compression)
    }

    /// A file of blocks, block by block: its offset, and its bytes.
    pub(super) fn blocks(
        &self,
        file: &format::File,
        blocks: format::Blocks,
        each: &mut dyn FnMut(u64, Vec<u8>) -> io::Result<()>,
    ) -> io::Result<()> {
        let pass = self.manifest.pass.as_deref();
        let mut input = File::open(self.path(file))?;
        let end = file.bundle.map_or(0, |it| it.1) + file.repo_size;
        input.seek(SeekFrom::Start(end.saturating_sub(blocks.map)))?;
        let map = format::unpacked(input.take(blocks.map), pass, Compression::None)?;
        let map = format::block_map(map, blocks)?;
        // Super blocks hold several blocks, which need not follow each other.
        let mut open: BTreeMap<(usize, u64, u64), Vec<u8>> = BTreeMap::new();
        for (at, placed) in map.iter().enumerate() {
            let key = (placed.reference, placed.bundle, placed.offset);
            if !open.contains_key(&key) {
                let garbled = || io::Error::new(io::ErrorKind::InvalidData, "it refers to a backup that is not named");
                let backup = self.manifest.references.get(placed.reference).ok_or_else(garbled)?;
                let bundle = Some(placed.bundle).filter(|it| *it > 0);
                let stored = format::stored(backup, &file.name, bundle, true, self.manifest.compression);
                let mut input = File::open(self.stanza.join(stored))?;
                input.seek(SeekFrom::Start(placed.offset))?;
                let input = input.take(placed.bytes);
                // Behind what has passed, nothing of it is needed again: a file is read in its order.
                if open.len() > 8 {
                    open.pop_first();
                }
                open.insert(key, format::super_block(input, pass, self.manifest.compression)?);
            }
            let contents = open.get(&key).map(Vec::as_slice).unwrap_or_default();
            let from = usize::try_from(placed.block * blocks.size).unwrap_or(usize::MAX);
            let to = from.saturating_add(usize::try_from(blocks.size).unwrap_or(usize::MAX)).min(contents.len());
            let bytes = contents.get(from..to).filter(|it| !it.is_empty());
            let bytes =
                bytes.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a block is not where its map says"))?;
            each(at as u64 * blocks.size, bytes.to_vec())?;
        }
        Ok(())
    }
}

/// The pass of WAL beneath this place in an archive. None: it is not encrypted.
pub(super) fn wal_pass(path: &Path, reading: &Reading) -> Result<Option<String>, Fault> {
    let Some(pass) = pass(reading, path)? else { return Ok(None) };
    let stanza = path.ancestors().find(|it| it.join(ARCHIVE_INFO).is_file());
    let Some(stanza) = stanza else { return Ok(Some(pass.to_owned())) };
    let info = information(stanza, ARCHIVE_INFO, reading)?;
    Ok(format::text(&info, "cipher", "cipher-pass").map(str::to_owned))
}

/// The newest cluster's directory in the archive of a stanza: `17-1`.
pub(super) fn newest_cluster(stanza: &Path) -> Option<PathBuf> {
    if !stanza.join(ARCHIVE_INFO).is_file() {
        return None;
    }
    let entries = fs::read_dir(stanza).ok()?.flatten();
    let id = |name: &str| name.rsplit_once('-')?.1.parse::<u32>().ok();
    let named = entries.filter_map(|it| Some((id(it.file_name().to_str()?)?, it.path())));
    named.filter(|it| it.1.is_dir()).max().map(|it| it.1)
}
