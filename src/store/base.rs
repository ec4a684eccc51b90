//! What a base backup is, learnt without reading its data.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use super::Reading;
use super::barman::{self, Catalogued};
use super::bundle::is_flat;
use super::find::look;
use super::tap::{Failures, Watched, medium, stat};
use super::{pgbackrest, walg};
use crate::fault::{Blame, Fault};
use crate::format::base::{
    BaseFacts, BaseLayout, BaseMember, ControlFound, Label, ManifestFound, MemberKind, Tablespace, label,
    tablespace_map,
};
use crate::format::manifest::{self, Manifest};
use crate::format::pg_control::{self, ControlData};
use crate::format::{Compression, decode, sniff};
use crate::recipe::BaseSeen;

/// Small files of a base backup that are kept in memory.
const SMALL: u64 = 1 << 20;
/// Endings of the archives of a backup in tar format.
const ENDINGS: [&str; 5] = ["", ".gz", ".zst", ".lz4", ".xz"];

/// Reads what a base backup says of itself: of a data directory its small files, of archives their first members.
///
/// `mapped`: where tablespaces' data lie, by location or OID, as the scenario says.
pub fn base_facts(path: &Path, mapped: &BTreeMap<String, String>, reading: &Reading) -> Result<BaseFacts, Fault> {
    reading.sure(path, facts(path, mapped, reading))
}

fn facts(path: &Path, mapped: &BTreeMap<String, String>, reading: &Reading) -> Result<BaseFacts, Fault> {
    let seen = look(path, reading)?;
    if !seen.directory {
        return archives(path, vec![member(path, "", MemberKind::Data, reading)?], reading);
    }
    if pgbackrest::is_backup(path, reading) {
        return pgbackrest::facts(path, reading);
    }
    if walg::is_backup(path) {
        return walg::facts(path, reading);
    }
    if let Some(it) = barman::catalogued(path, reading)? {
        return of_barman(path, &it, mapped, reading);
    }
    if reading.is_file(&path.join("PG_VERSION")) {
        return plain(path, seen.bytes, mapped, reading);
    }
    let members = members(path, reading)?;
    if members.is_empty() {
        return Err(no_base_backup(path));
    }
    archives(path, members, reading)
}

/// A backup of Barman is one of pg_basebackup or of rsync, with its tablespaces beside it.
fn of_barman(
    path: &Path,
    catalogued: &Catalogued,
    mapped: &BTreeMap<String, String>,
    reading: &Reading,
) -> Result<BaseFacts, Fault> {
    let mut spaces = catalogued.tablespaces();
    spaces.extend(mapped.clone());
    let mut facts = if reading.is_file(&path.join("PG_VERSION")) {
        let mut facts = plain(path, look(path, reading)?.bytes, &spaces, reading)?;
        let linked = facts.tablespaces.len();
        catalogued.complete(&mut facts.tablespaces, reading)?;
        for from in facts.tablespaces[linked..].iter().filter_map(|it| it.from.as_deref()) {
            facts.bytes += look(Path::new(from), reading)?.bytes;
        }
        facts
    } else {
        let cloud = catalogued.archives(reading, |path, name, kind| member(path, name, kind, reading))?;
        let members = if cloud.is_empty() { members(path, reading)? } else { cloud };
        if members.is_empty() {
            return Err(no_base_backup(path));
        }
        archives(path, members, reading)?
    };
    facts.label = facts.label.or_else(|| catalogued.label());
    facts.told = Some(catalogued.told());
    Ok(facts)
}

/// The same of several, where one that cannot be read is an answer.
pub fn bases(paths: &[String], mapped: &BTreeMap<String, String>, reading: &Reading) -> Vec<BaseSeen> {
    let seen = |path: &String| {
        let (facts, unreadable) = match base_facts(Path::new(path), mapped, reading) {
            Ok(facts) => (Some(Box::new(facts)), None),
            Err(fault) => (None, Some(fault)),
        };
        BaseSeen { path: path.clone(), facts, unreadable }
    };
    paths.iter().map(seen).collect()
}

fn no_base_backup(path: &Path) -> Fault {
    Fault::new(Blame::Backup, format!("recognise {} as a base backup", path.display()))
        .cause("it has neither PG_VERSION, as a data directory has, nor base.tar, as pg_basebackup -Ft writes")
        .hint("name the directory that pg_basebackup wrote")
}

fn plain(path: &Path, bytes: u64, mapped: &BTreeMap<String, String>, reading: &Reading) -> Result<BaseFacts, Fault> {
    let version = small(&path.join("PG_VERSION"), reading)?;
    let map = match optional(&path.join("tablespace_map"), reading)? {
        Some(text) => tablespace_map(&text).map_err(|it| unmapped(path, it))?,
        None => BTreeMap::new(),
    };
    let label = match optional(&path.join("backup_label"), reading)? {
        Some(text) => Some(label(&text).ok_or_else(|| unlabelled(path))?),
        None => None,
    };
    if label.is_none() {
        alive(path, reading)?;
    }
    let mut tablespaces = Vec::new();
    let links = path.join("pg_tblspc");
    let entries = match reading.entries(&links) {
        // No object store keeps an empty directory, or a link.
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_flat(path) => Vec::new(),
        entries => entries.map_err(|it| medium(&links, "list", &it))?,
    };
    for entry in entries {
        let Ok(oid) = entry.name.parse::<u32>() else { continue };
        tablespaces.push(tablespace(path, &entry.path, oid, &map, mapped)?);
    }
    for (oid, location) in &map {
        if !tablespaces.iter().any(|it| it.oid == *oid) {
            tablespaces.push(unlinked(path, *oid, location, mapped)?);
        }
    }
    tablespaces.sort_by_key(|it| it.oid);
    let mut bytes = bytes;
    for from in tablespaces.iter().filter_map(|it| it.from.as_deref()) {
        bytes += look(Path::new(from), reading)?.bytes;
    }
    Ok(BaseFacts {
        layout: BaseLayout::Plain,
        major: major(path, &version)?,
        tablespaces,
        bytes,
        label,
        manifest: manifest_found(path, reading)?,
        told: None,
        control: control(&path.join(pg_control::FILE), reading)?,
        settings: settings(|name| small(&path.join(name), reading).ok()),
    })
}

/// Refuses what is no backup: a server's own data directory, and above all a replica's, which loses whatever the primary loses.
pub(super) fn alive(path: &Path, reading: &Reading) -> Result<(), Fault> {
    let has = |name: &str| reading.exists(&path.join(name));
    let fault = |cause: &str, hint: &str| {
        Fault::new(Blame::Scenario, format!("use {} as a backup", path.display())).cause(cause).hint(hint)
    };
    if has("standby.signal") || has("recovery.conf") {
        return Err(fault(
            "it is the data directory of a replica: what is deleted on the primary is gone from there within seconds",
            "Name a base backup, and its WAL archive: only these can go back to before a mistake.",
        ));
    }
    if has("postmaster.pid") {
        return Err(fault(
            "a server runs in it, or was killed in it: its files change while they are read",
            "Make a backup of it with pg_basebackup, and name that.",
        ));
    }
    Ok(())
}

/// What the manifest says, if it can be believed. Its files are looked at when they are unpacked.
fn manifest_found(backup: &Path, reading: &Reading) -> Result<ManifestFound, Fault> {
    let Some(text) = manifest_text(backup, reading)? else { return Ok(ManifestFound::Absent) };
    Ok(match Manifest::parse(&text) {
        Ok(manifest) => ManifestFound::Whole(manifest.facts()),
        Err(error) => ManifestFound::Unreadable { why: error.to_string() },
    })
}

/// The manifest in a backup's directory, plain or beside its archives.
pub(super) fn manifest_text(backup: &Path, reading: &Reading) -> Result<Option<Vec<u8>>, Fault> {
    let path = backup.join(manifest::FILE);
    match reading.bytes(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(medium(&path, "read", &error)),
    }
}

fn unmapped(path: &Path, why: String) -> Fault {
    Fault::new(Blame::Backup, format!("read the tablespace_map of {}", path.display()))
        .cause(why)
        .hint("a server would refuse it: make the backup again, or copy the file whole from where it was made")
}

fn unlabelled(path: &Path) -> Fault {
    Fault::new(Blame::Backup, format!("read the backup_label of {}", path.display()))
        .cause("it does not say where the backup's WAL begins")
        .hint("a server would refuse it: make the backup again, or copy the file whole from where it was made")
}

/// Where a tablespace's data are, when that is sure: in the backup, or where the scenario says.
///
/// A link that leads elsewhere may lead to the production server's own tablespace, which is no backup of anything.
fn tablespace(
    backup: &Path,
    link: &Path,
    oid: u32,
    map: &BTreeMap<u32, String>,
    mapped: &BTreeMap<String, String>,
) -> Result<Tablespace, Fault> {
    let target = fs::read_link(link).ok();
    let shown = target.as_ref().map(|it| it.display().to_string()).unwrap_or_default();
    let location = map.get(&oid).cloned().unwrap_or_else(|| shown.clone());
    if let Some(from) = mapped.get(&location).or_else(|| mapped.get(&oid.to_string())) {
        return Ok(Tablespace { oid, location, from: Some(from.clone()) });
    }
    let inside = |it: &Path| {
        let (Ok(root), Ok(to)) = (fs::canonicalize(backup), fs::canonicalize(it)) else { return false };
        to.starts_with(root)
    };
    // An object store has no links: what lies beneath is in the backup.
    if is_flat(link) || inside(link) {
        return Ok(Tablespace { oid, location, from: Some(link.to_string_lossy().into_owned()) });
    }
    Err(Fault::new(Blame::Scenario, format!("find the data of tablespace {oid} of {}", backup.display()))
        .cause(format!("its link leads out of the backup, to {shown}, and such links are not followed"))
        .hint(format!(
            "If that is where this backup's tablespace lies, say so in the source: `tablespaces: {{ {oid}: {shown} }}`."
        )))
}

/// A tablespace of the map to which no link leads: a server would make one, and find nothing there.
fn unlinked(backup: &Path, oid: u32, location: &str, mapped: &BTreeMap<String, String>) -> Result<Tablespace, Fault> {
    let from = mapped.get(location).or_else(|| mapped.get(&oid.to_string())).ok_or_else(|| {
        Fault::new(Blame::Backup, format!("find the data of tablespace {oid} of {}", backup.display()))
            .cause(format!("its tablespace_map names it, at {location}, and there is no pg_tblspc/{oid}"))
            .hint(format!(
                "If its data lie elsewhere, say so in the source: `tablespaces: {{ {oid}: /where/they/lie }}`; else the backup \
                 was copied in part."
            ))
    })?;
    Ok(Tablespace { oid, location: location.to_owned(), from: Some(from.clone()) })
}

fn major(path: &Path, text: &str) -> Result<u32, Fault> {
    crate::format::major_of(text.trim()).ok_or_else(|| {
        Fault::new(Blame::Backup, format!("read PG_VERSION of {}", path.display()))
            .cause(format!("it holds {:?}", text.chars().take(20).collect::<String>()))
    })
}

/// Of the backup's own configuration: what is of use to know. Nothing of it is ever executed or believed.
/// `text`: of a file in the data directory, where there is one that can be read.
pub(super) fn settings(text: impl Fn(&str) -> Option<String>) -> BTreeMap<String, String> {
    let texts = ["postgresql.conf", "postgresql.auto.conf"].into_iter().filter_map(text);
    texts.flat_map(|it| crate::format::base::settings(&it)).collect()
}

fn control(path: &Path, reading: &Reading) -> Result<ControlFound, Fault> {
    match reading.open(path) {
        Ok(file) => {
            let mut bytes = Vec::new();
            file.take(pg_control::USED as u64).read_to_end(&mut bytes).map_err(|it| medium(path, "read", &it))?;
            Ok(control_of(&bytes))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok(ControlFound::Unreadable { why: "it is not there".to_owned() })
        }
        Err(error) => Err(medium(path, "open", &error)),
    }
}

pub(super) fn control_of(bytes: &[u8]) -> ControlFound {
    match ControlData::parse(bytes) {
        Ok(control) => ControlFound::Whole(Box::new(control)),
        Err(why) => ControlFound::Unreadable { why },
    }
}

/// None where there is no such file.
fn optional(path: &Path, reading: &Reading) -> Result<Option<String>, Fault> {
    match reading.stat(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Ok(_) | Err(_) => small(path, reading).map(Some),
    }
}

fn small(path: &Path, reading: &Reading) -> Result<String, Fault> {
    let file = reading.open(path).map_err(|it| medium(path, "open", &it))?;
    let mut bytes = Vec::new();
    file.take(SMALL).read_to_end(&mut bytes).map_err(|it| medium(path, "read", &it))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `base.tar`, `16385.tar`, `pg_wal.tar`, each with or without a compression's ending; the base first.
fn members(path: &Path, reading: &Reading) -> Result<Vec<BaseMember>, Fault> {
    let mut members = Vec::new();
    for entry in reading.entries(path).map_err(|it| medium(path, "list", &it))? {
        let name = entry.name.as_str();
        let stem = ENDINGS.iter().find_map(|it| name.strip_suffix(&format!(".tar{it}")));
        let kind = match stem {
            Some("base") => MemberKind::Data,
            Some("pg_wal") => MemberKind::Wal,
            Some(oid) => match oid.parse() {
                Ok(oid) => MemberKind::Tablespace(oid),
                Err(_) => continue,
            },
            None => continue,
        };
        members.push(member(&entry.path, name, kind, reading)?);
    }
    let order = |it: &BaseMember| match it.kind {
        MemberKind::Data => (0, 0),
        MemberKind::Tablespace(oid) => (1, oid),
        MemberKind::Wal => (2, 0),
    };
    members.sort_by_key(order);
    if !members.is_empty() && !members.iter().any(|it| it.kind == MemberKind::Data) {
        return Err(Fault::new(Blame::Backup, format!("read the base backup {}", path.display()))
            .cause("base.tar is not there")
            .hint("the backup was copied in part: look at the job that stored it"));
    }
    Ok(members)
}

fn member(path: &Path, file: &str, kind: MemberKind, reading: &Reading) -> Result<BaseMember, Fault> {
    let bytes = stat(path, reading)?.bytes;
    let head = reading.head(path, sniff::HEAD as u64).map_err(|it| medium(path, "read", &it))?;
    Ok(BaseMember { file: file.to_owned(), kind, compression: sniff::compression(&head), bytes })
}

/// Small members of an archive.
#[derive(Default)]
struct Seen {
    version: Option<u32>,
    map: BTreeMap<u32, String>,
    label: Option<Label>,
    settings: BTreeMap<String, String>,
    control: ControlFound,
}

impl Seen {
    /// `early`: no more than is needed.
    fn members<'a, R: Read + 'a>(
        &mut self,
        file: &Path,
        entries: tar::Entries<'a, R>,
        early: bool,
        reading: &Reading,
        bad: impl Fn(&io::Error) -> Fault,
    ) -> Result<(), Fault> {
        for entry in entries {
            if reading.is_stopped() {
                break;
            }
            let mut entry = entry.map_err(|it| bad(&it))?;
            let name = entry.path().map_err(|it| bad(&it))?.to_string_lossy().trim_start_matches("./").to_owned();
            let mut bytes = || -> Result<Vec<u8>, Fault> {
                let mut bytes = Vec::new();
                (&mut entry).take(SMALL).read_to_end(&mut bytes).map_err(|it| bad(&it))?;
                Ok(bytes)
            };
            let mut text = || bytes().map(|it| String::from_utf8_lossy(&it).into_owned());
            if name == "tablespace_map" {
                self.map = tablespace_map(&text()?).map_err(|it| unmapped(file, it))?;
            } else if name == "backup_label" {
                self.label = Some(label(&text()?).ok_or_else(|| unlabelled(file))?);
            } else if name == "postgresql.conf" || name == "postgresql.auto.conf" {
                self.settings.extend(crate::format::base::settings(&text()?));
            } else if name == pg_control::FILE {
                self.control = control_of(&bytes()?);
            } else if name == "PG_VERSION" || (self.version.is_none() && name.ends_with("/PG_VERSION")) {
                self.version = Some(major(file, &text()?)?);
            }
            if early && self.version.is_some() {
                break;
            }
        }
        Ok(())
    }
}

/// The first archive's first members: its label and its version come early, whatever follows them.
fn archives(path: &Path, members: Vec<BaseMember>, reading: &Reading) -> Result<BaseFacts, Fault> {
    let base = &members[0];
    let file = if base.file.is_empty() { path.to_owned() } else { path.join(&base.file) };
    let failures = Failures::default();
    let input = Watched::open(&file, reading, &failures)?;
    let bad = |it: &io::Error| {
        let damage = Fault::new(Blame::Backup, format!("read {}", file.display()))
            .cause(it.to_string())
            .hint("the file was cut or damaged: compare its size and checksum with those on the machine that made it");
        failures.beneath(&file, damage)
    };
    let mut seen = Seen::default();
    if base.compression == Compression::None {
        // From header to header: what lies between is not read.
        let mut archive = tar::Archive::new(input);
        seen.members(&file, archive.entries_with_seek().map_err(|it| bad(&it))?, false, reading, bad)?;
    } else {
        let mut archive = tar::Archive::new(decode::decoder(base.compression, input).map_err(|it| bad(&it))?);
        seen.members(&file, archive.entries().map_err(|it| bad(&it))?, true, reading, bad)?;
    }
    let Seen { version, map, label, settings, control } = seen;
    let Some(major) = version else {
        return Err(Fault::new(Blame::Backup, format!("recognise {} as a base backup", file.display()))
            .cause("it is a tar archive without PG_VERSION")
            .hint("name the directory that pg_basebackup -Ft wrote"));
    };
    let has = |oid: u32| members.iter().any(|it| it.kind == MemberKind::Tablespace(oid));
    if let Some((oid, location)) = map.iter().find(|(oid, _)| !has(**oid)) {
        return Err(Fault::new(Blame::Backup, format!("read the base backup {}", path.display()))
            .cause(format!("the archive {oid}.tar, with tablespace {location}, is not there"))
            .hint("the backup was copied in part: look at the job that stored it"));
    }
    let oids = members.iter().filter_map(|it| match it.kind {
        MemberKind::Tablespace(oid) => Some(oid),
        MemberKind::Data | MemberKind::Wal => None,
    });
    let location = |oid: u32| map.get(&oid).cloned().unwrap_or_else(|| "?".to_owned());
    let tablespaces = oids.map(|oid| Tablespace { oid, location: location(oid), from: None }).collect();
    let bytes = members.iter().map(|it| it.bytes).sum();
    let manifest = manifest_found(path, reading)?;
    Ok(BaseFacts {
        layout: BaseLayout::Tar { members },
        major,
        tablespaces,
        bytes,
        label,
        manifest,
        control,
        told: None,
        settings,
    })
}
