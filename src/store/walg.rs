//! Backups in a storage of WAL-G, as base backups: what a backup is, and the layers that a delta is made of.

use std::collections::{BTreeMap, HashSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::Reading;
use super::tap::{Failures, Watched, file_name, medium};
use crate::fault::{Blame, Fault};
use crate::format::base::{
    After, BaseFacts, BaseLayout, BaseMember, ControlFound, Label, ManifestFound, MemberKind, Tablespace, Told,
};
use crate::format::lsn::Lsn;
use crate::format::walg::{self, BACKUPS, Files, PARTS, SENTINEL, Sentinel};

/// Whether it is a backup's directory, finished or not.
pub(super) fn is_backup(path: &Path) -> bool {
    path.parent().is_some_and(|it| file_name(it) == BACKUPS) && file_name(path).starts_with("base_")
}

/// The backups of a storage, or of its directory of backups, that were finished. None: it is no such directory.
pub(super) fn backups(path: &Path, reading: &Reading) -> Option<Vec<PathBuf>> {
    let directory = if file_name(path) == BACKUPS { path.to_owned() } else { path.join(BACKUPS) };
    let entries = reading.entries(&directory).ok()?;
    let finished = entries.iter().filter_map(|it| Some(directory.join(it.name.strip_suffix(SENTINEL)?)));
    Some(finished.filter(|it| reading.is_dir(it)).collect())
}

/// What WAL-G writes last, beside the backup.
pub(super) fn sentinel_of(backup: &Path) -> PathBuf {
    backup.with_file_name(format!("{}{SENTINEL}", file_name(backup)))
}

fn sentinel(backup: &Path, reading: &Reading) -> Result<Sentinel, Fault> {
    let path = sentinel_of(backup);
    let text = reading.text(&path).map_err(|it| {
        if it.kind() != ErrorKind::NotFound {
            return medium(&path, "read", &it);
        }
        Fault::new(Blame::Backup, format!("read the backup {}", backup.display()))
            .cause("it has no sentinel, which WAL-G writes last: it was never finished")
            .hint("look at the log of `wal-g backup-push`, and drill a backup that `wal-g backup-list` shows")
    })?;
    Sentinel::parse(&text).map_err(|why| Fault::new(Blame::Backup, format!("read {}", path.display())).cause(why))
}

/// What a backup is, without reading its parts.
pub(super) fn facts(backup: &Path, reading: &Reading) -> Result<BaseFacts, Fault> {
    let sentinel = sentinel(backup, reading)?;
    let parts = backup.join(PARTS);
    let mut members = Vec::new();
    for entry in reading.entries(&parts).map_err(|it| medium(&parts, "list", &it))? {
        let Some(compression) = walg::part(&entry.name) else {
            return Err(Fault::new(Blame::Scenario, format!("read {}", entry.path.display()))
                .cause("it is compressed in a way that is not supported here, or no part of a backup")
                .hint("let WAL-G restore it, or write backups with lz4, zstd, lzma, brotli or gzip"));
        };
        let bytes = entry.stat().map_err(|it| medium(&entry.path, "look at", &it))?.bytes;
        members.push(BaseMember {
            file: format!("{PARTS}/{}", entry.name),
            kind: MemberKind::Data,
            compression,
            bytes,
        });
    }
    members.sort_by(|a, b| {
        walg::order(file_name(Path::new(&a.file)).as_str()).cmp(&walg::order(file_name(Path::new(&b.file)).as_str()))
    });
    if let Some(first) = members.first() {
        let path = backup.join(&first.file);
        if !reading.vault.has_key(&path) && !walg::begins_as(first.compression, &head(&path, reading)?) {
            return Err(Fault::new(Blame::Scenario, format!("read {}", path.display()))
                .cause("it does not begin as its name says: it is encrypted")
                .hint("Name the key in the source: `libsodium_key`, or `pgp_key`."));
        }
    }
    let timeline = walg::timeline(&file_name(backup));
    let after = sentinel.delta_lsn.zip(sentinel.delta_from.as_deref()).map(|(lsn, from)| After {
        start: Lsn(lsn).to_string(),
        timeline: walg::timeline(from).or(timeline).unwrap_or(1),
    });
    let tablespaces = sentinel.tablespaces().into_iter();
    Ok(BaseFacts {
        major: sentinel.major(),
        tablespaces: tablespaces.map(|(oid, location)| Tablespace { oid, location, from: None }).collect(),
        bytes: members.iter().map(|it| it.bytes).sum(),
        layout: BaseLayout::WalG { members },
        label: Some(Label { after, ..Label::by_catalogue(sentinel.start(), timeline, sentinel.start_time) }),
        manifest: ManifestFound::Absent,
        control: ControlFound::NotRead,
        told: Some(Told {
            system_identifier: sentinel.system_identifier,
            stop: sentinel.finish_lsn.map(Lsn),
            stopped: sentinel.finish_time,
            without_wal: true,
        }),
        settings: BTreeMap::new(),
    })
}

fn head(path: &Path, reading: &Reading) -> Result<Vec<u8>, Fault> {
    reading.head(path, 16).map_err(|it| medium(path, "read", &it))
}

/// One backup of those that a delta is made of.
pub(super) struct Layer<'a> {
    pub(super) backup: &'a Path,
    pub(super) facts: &'a BaseFacts,
    /// None where the backup does not say: a full one, of which everything counts.
    pub(super) files: Option<Files>,
    /// Paths that count of it. None: all.
    pub(super) wanted: Option<HashSet<String>>,
}

/// The layers, the full backup first, each with what the ones above leave to it.
pub(super) fn layers<'a>(backups: &[(&'a Path, &'a BaseFacts)], reading: &Reading) -> Result<Vec<Layer<'a>>, Fault> {
    let mut layers: Vec<Layer<'_>> = Vec::new();
    let mut wanted: Option<HashSet<String>> = None;
    for (backup, facts) in backups.iter().rev() {
        let path = backup.join(walg::FILES);
        let there = reading.has_file(&path).map_err(|it| medium(&path, "look for", &it))?;
        let files = if !there && backups.len() == 1 {
            None
        } else {
            let failures = Failures::default();
            let files = Files::read(Watched::open(&path, reading, &failures)?);
            let fault = |why| Fault::new(Blame::Backup, format!("read {}", path.display())).cause(why);
            Some(files.map_err(|why: String| failures.beneath(&path, fault(why)))?)
        };
        let beneath = files.as_ref().map(|it| {
            let of = |path: &str| wanted.as_ref().is_none_or(|it| it.contains(path));
            it.needed_beneath(of).into_iter().collect()
        });
        layers.insert(0, Layer { backup, facts, files, wanted: std::mem::replace(&mut wanted, beneath) });
    }
    Ok(layers)
}
