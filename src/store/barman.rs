//! Backups in a directory of Barman or barman-cloud, as base backups: plain trees, and archives as pg_basebackup writes them.
//!
//! The directory of a backup that this crate speaks of is where its data are: `base/ID/data` of Barman, `base/ID` of
//! barman-cloud.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Reading;
use super::files::FileKind;
use super::tap::{file_name, medium};
use crate::fault::{Blame, Fault};
use crate::format::barman::Info;
use crate::format::base::{BaseMember, Label, MemberKind, Tablespace, Told};

/// What a tool's catalogue adds to a backup.
pub(super) struct Catalogued {
    pub(super) info: Info,
    /// The directory that holds the tablespaces' own.
    pub(super) directory: PathBuf,
}

/// Where the `backup.info` of a backup lies: beside its data, or since 3.13 in `meta`.
fn info_of(backup: &Path, reading: &Reading) -> Option<PathBuf> {
    let server = backup.parent()?.parent()?;
    let beside = backup.join("backup.info");
    let apart = server.join("meta").join(format!("{}-backup.info", file_name(backup)));
    [beside, apart].into_iter().find(|it| reading.is_file(it))
}

/// The directories of a server's backups, usable or not. None: it is no server's directory.
pub(super) fn backups(server: &Path, reading: &Reading) -> Option<Vec<PathBuf>> {
    let entries = reading.entries(&server.join("base")).ok()?;
    let mut found = Vec::new();
    let mut any = reading.is_dir(&server.join("wals"));
    for backup in entries.into_iter().filter(|it| it.kind == FileKind::Directory).map(|it| it.path) {
        if info_of(&backup, reading).is_none() {
            continue;
        }
        any = true;
        let data = backup.join("data");
        found.push(if reading.is_dir(&data) { data } else { backup });
    }
    found.sort();
    any.then_some(found)
}

/// The names of the servers in a home of Barman, or in a place of barman-cloud. Empty: it is neither.
pub fn servers(home: &Path, reading: &Reading) -> Vec<String> {
    let entries = reading.peek(home).into_iter();
    entries.filter(|it| backups(&it.path, reading).is_some()).map(|it| it.name).collect()
}

/// None: the directory is not one of these tools' backups.
pub(super) fn catalogued(path: &Path, reading: &Reading) -> Result<Option<Catalogued>, Fault> {
    let directory = if file_name(path) == "data" { path.parent().unwrap_or(path) } else { path };
    let is_one = directory.parent().is_some_and(|it| file_name(it) == "base");
    let Some(info) = info_of(directory, reading).filter(|_| is_one) else { return Ok(None) };
    let text = reading.text(&info).map_err(|it| medium(&info, "read", &it))?;
    let info = Info::parse(&text);
    if !info.is_usable() {
        let error = info.error.as_ref().map(|it| format!(": {it}")).unwrap_or_default();
        return Err(Fault::new(Blame::Backup, format!("use the backup {}", directory.display()))
            .cause(format!("Barman calls it {}{error}", info.status))
            .hint("look at Barman's log, and drill a backup that `barman list-backup` calls DONE"));
    }
    if let Some(how) = &info.encryption {
        return Err(Fault::new(Blame::Scenario, format!("read the backup {}", directory.display()))
            .cause(format!("it is encrypted ({how}), which is not supported here"))
            .hint("let Barman decrypt a copy, and drill that as a base backup"));
    }
    Ok(Some(Catalogued { info, directory: directory.to_owned() }))
}

impl Catalogued {
    pub(super) fn told(&self) -> Told {
        let Info { system_identifier, end, end_time, .. } = self.info;
        Told { system_identifier, stop: end, stopped: end_time, without_wal: true }
    }

    /// What its label would say, where that cannot be read without reading the backup.
    pub(super) fn label(&self) -> Option<Label> {
        Some(Label::by_catalogue(self.info.begin?, self.info.timeline, self.info.begin_time))
    }

    /// Where the tablespaces' data lie, by OID.
    pub(super) fn tablespaces(&self) -> BTreeMap<String, String> {
        self.info.tablespaces.iter().map(|(oid, _)| (oid.to_string(), self.tablespace(*oid))).collect()
    }

    fn tablespace(&self, oid: u32) -> String {
        self.directory.join(oid.to_string()).to_string_lossy().into_owned()
    }

    /// Tablespaces of a plain tree. A backup by rsync has no links to them: a server would start without, and lack their rows.
    pub(super) fn complete(&self, found: &mut Vec<Tablespace>, reading: &Reading) -> Result<(), Fault> {
        for (oid, location) in &self.info.tablespaces {
            let (oid, location, from) = (*oid, location.clone(), self.tablespace(*oid));
            let linked = found.iter_mut().find(|it| it.oid == oid);
            if let Some(it) = linked.filter(|it| it.from.as_ref() != Some(&from)) {
                it.location = location;
                continue;
            }
            if !reading.is_dir(Path::new(&from)) {
                return Err(Fault::new(Blame::Backup, format!("read the backup {}", self.directory.display()))
                    .cause(format!("the data of tablespace {oid} ({location}) are not in it: there is no {from}"))
                    .hint("the backup was copied in part: look at the job that stored it"));
            }
            if let Some(it) = found.iter_mut().find(|it| it.oid == oid) {
                it.location = location;
            } else {
                found.push(Tablespace { oid, location, from: Some(from) });
            }
        }
        Ok(())
    }

    /// The archives of barman-cloud: `data.tar.gz`, `data_0001.tar.gz`, `16385.tar.gz`. Empty where there are none.
    pub(super) fn archives(
        &self,
        reading: &Reading,
        member: impl Fn(&Path, &str, MemberKind) -> Result<BaseMember, Fault>,
    ) -> Result<Vec<BaseMember>, Fault> {
        let mut members = Vec::new();
        for entry in reading.entries(&self.directory).map_err(|it| medium(&self.directory, "list", &it))? {
            let name = entry.name;
            let Some((stem, _)) = name.split_once(".tar") else { continue };
            let stem = stem.split_once('_').map_or(stem, |it| it.0);
            let kind = match (stem, stem.parse()) {
                ("data", _) => MemberKind::Data,
                (_, Ok(oid)) => MemberKind::Tablespace(oid),
                (_, Err(_)) => continue,
            };
            members.push(member(&self.directory.join(&name), &name, kind)?);
        }
        // The first one is that of the data, as its version comes early in it.
        members.sort_by_key(|it| (it.kind != MemberKind::Data, it.file.clone()));
        Ok(members)
    }
}
