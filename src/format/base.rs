//! What a base backup is: of which server, from when on it can be recovered, and where its parts lie.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Compression;
use super::lsn::Lsn;
use super::manifest::ManifestFacts;
use super::pg_control::ControlData;

/// A base backup, as the survey saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BaseFacts {
    pub layout: BaseLayout,
    /// Of the server that wrote it: its `PG_VERSION`.
    pub major: u32,
    pub tablespaces: Vec<Tablespace>,
    /// Of all its files, as stored.
    pub bytes: u64,
    /// None: it has no backup_label, as a copy of a stopped server or a snapshot has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Label>,
    #[serde(default)]
    pub manifest: ManifestFound,
    #[serde(default)]
    pub control: ControlFound,
    /// What the catalogue of the tool that made it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<Told>,
    /// What the backup's own configuration sets, of the settings that matter for a recovery. Read, never used.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

/// What a tool's catalogue says of a backup, beyond what the backup itself says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Told {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_identifier: Option<u64>,
    /// Where the WAL ends that makes it consistent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Lsn>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub stopped: Option<jiff::Timestamp>,
    /// It brings no WAL of its own: what makes it consistent lies in the archive, or nowhere.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_wal: bool,
}

impl BaseFacts {
    /// The archives that it consists of; none of a data directory.
    pub fn members(&self) -> &[BaseMember] {
        match &self.layout {
            BaseLayout::Plain | BaseLayout::PgBackRest { .. } => &[],
            BaseLayout::Tar { members } | BaseLayout::WalG { members } => members,
        }
    }
}

/// Whether a manifest lies beside or in the backup, as far as can be told without reading the backup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ManifestFound {
    /// None; at the end of an archive there may yet be one.
    #[default]
    Absent,
    Unreadable {
        why: String,
    },
    Whole(ManifestFacts),
}

/// The backup's `pg_control`, as far as it could be read without reading the backup: of a compressed archive it is the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ControlFound {
    #[default]
    NotRead,
    Unreadable {
        why: String,
    },
    Whole(Box<ControlData>),
}

#[cfg(test)]
impl BaseFacts {
    /// Of a plain backup of 17 that says nothing: tests add what they are about.
    pub(crate) fn bare() -> BaseFacts {
        BaseFacts {
            layout: BaseLayout::Plain,
            major: 17,
            tablespaces: Vec::new(),
            bytes: 1,
            label: None,
            manifest: ManifestFound::Absent,
            control: ControlFound::NotRead,
            told: None,
            settings: BTreeMap::new(),
        }
    }
}

impl BaseFacts {
    /// Of a cluster that its stanza had before the present one: where the WAL of that one lies, in the stanza's archive.
    pub fn earlier_cluster(&self) -> Option<&str> {
        match &self.layout {
            BaseLayout::PgBackRest { earlier, .. } => earlier.as_deref(),
            BaseLayout::Plain | BaseLayout::Tar { .. } | BaseLayout::WalG { .. } => None,
        }
    }

    pub fn control(&self) -> Option<&ControlData> {
        match &self.control {
            ControlFound::Whole(control) => Some(control),
            ControlFound::NotRead | ControlFound::Unreadable { .. } => None,
        }
    }

    /// Of the cluster that was backed up: manifests carry it since PostgreSQL 17, catalogues of tools and pg_control always do.
    pub fn system_identifier(&self) -> Option<u64> {
        let by_manifest = match &self.manifest {
            ManifestFound::Whole(manifest) => manifest.system_identifier,
            ManifestFound::Absent | ManifestFound::Unreadable { .. } => None,
        };
        let by_tool = || self.told.as_ref()?.system_identifier;
        by_manifest.or_else(|| Some(self.control()?.system_identifier)).or_else(by_tool)
    }
}

/// What `backup_label` says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Label {
    /// Where the WAL begins that the backup needs: `0/D000D8`.
    pub start: String,
    /// None before PostgreSQL 11.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<u32>,
    /// As the server wrote it, in its own zone: `2026-11-27 02:46:50 UTC`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// Of an incremental backup: where the one before it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<After>,
}

impl Label {
    /// What it would say by a tool's catalogue, where reading it would mean to read the backup.
    pub(crate) fn by_catalogue(start: Lsn, timeline: Option<u32>, began: Option<jiff::Timestamp>) -> Label {
        let started = began.map(|it| it.strftime("%Y-%m-%d %H:%M:%S UTC").to_string());
        Label { start: start.to_string(), timeline, started, after: None }
    }

    /// None where the server wrote it in another zone than UTC: an abbreviation names no zone for certain.
    pub fn began(&self) -> Option<jiff::Timestamp> {
        let started = self.started.as_deref()?;
        let civil = started.strip_suffix(" UTC").or_else(|| started.strip_suffix(" GMT"))?;
        format!("{}Z", civil.replacen(' ', "T", 1)).parse().ok()
    }
}

/// The backup that an incremental one was made after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct After {
    /// Its `START WAL LOCATION`.
    pub start: String,
    pub timeline: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BaseLayout {
    /// A data directory (`pg_basebackup -Fp`).
    Plain,
    /// Archives (`pg_basebackup -Ft`), each perhaps compressed.
    Tar { members: Vec<BaseMember> },
    /// A backup in a storage of WAL-G, whole or only what changed since the one beneath it.
    WalG { members: Vec<BaseMember> },
    /// A backup in a repository of pgBackRest, whose manifest says where its files lie.
    PgBackRest {
        compression: Compression,
        /// Of a cluster that the stanza had before its present one: the directory of its WAL, `15-1`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        earlier: Option<String>,
        /// OIDs by their names.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        databases: BTreeMap<String, u32>,
    },
}

/// One archive of a backup in tar format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BaseMember {
    /// Name within the backup's directory. Empty where the backup is this one file.
    pub file: String,
    pub kind: MemberKind,
    pub compression: Compression,
    /// As stored.
    pub bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MemberKind {
    /// `base.tar`
    Data,
    /// `pg_wal.tar`
    Wal,
    /// `16385.tar`
    Tablespace(u32),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tablespace {
    pub oid: u32,
    /// Where it lay on the server that was backed up. Never used as a path.
    pub location: String,
    /// Where its data lie in a plain backup. None: not found, or in a tar file of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// Settings that say something about backups and recovery; the rest of a configuration is left unread.
const TELLING: [&str; 10] = [
    "archive_mode",
    "archive_command",
    "archive_library",
    "basic_archive.archive_directory",
    "restore_command",
    "shared_preload_libraries",
    "primary_conninfo",
    "wal_level",
    "data_checksums",
    "lc_messages",
];

/// What the text of a `postgresql.conf` sets, of those that say something about backups and recovery. Passwords in `primary_conninfo` are not kept.
pub fn settings(text: &str) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    for line in text.lines() {
        let line = line.trim();
        let Some((name, value)) = line.split_once(|it: char| it == '=' || it.is_whitespace()) else { continue };
        let name = name.trim().to_ascii_lowercase();
        if line.starts_with('#') || !TELLING.contains(&name.as_str()) {
            continue;
        }
        let value = unquoted(value.trim_start_matches(|it: char| it == '=' || it.is_whitespace()));
        let value = if name == "primary_conninfo" { "(set)".to_owned() } else { value };
        settings.insert(name, value);
    }
    settings
}

/// `'it''s' # comment` → `it's`, as guc-file.l reads it.
fn unquoted(text: &str) -> String {
    let Some(rest) = text.strip_prefix('\'') else {
        return text.split('#').next().unwrap_or_default().trim().to_owned();
    };
    let mut value = String::new();
    let mut rest = rest.chars().peekable();
    while let Some(next) = rest.next() {
        match next {
            '\'' if rest.peek() == Some(&'\'') => value.extend(rest.next()),
            '\'' => break,
            '\\' => value.extend(rest.next()),
            other => value.push(other),
        }
    }
    value
}

/// `backup_label` (`build_backup_content` in xlogbackup.c). None where it lacks what recovery needs of it.
pub fn label(text: &str) -> Option<Label> {
    let value = |name: &str| text.lines().find_map(|it| it.strip_prefix(name)?.strip_prefix(": ")).map(str::trim);
    let start = value("START WAL LOCATION")?.split(' ').next()?;
    start.parse::<Lsn>().ok()?;
    let after = value("INCREMENTAL FROM LSN").zip(value("INCREMENTAL FROM TLI"));
    let after =
        after.map(|(start, timeline)| Some(After { start: start.to_owned(), timeline: timeline.parse().ok()? }));
    Some(Label {
        start: start.to_owned(),
        timeline: value("START TIMELINE").and_then(|it| it.parse().ok()),
        started: value("START TIME").map(str::to_owned),
        after: match after {
            Some(after) => Some(after?),
            None => None,
        },
    })
}

/// `tablespace_map`: where each tablespace lay, by OID. A backslash takes the meaning from the character after it, a line's end
/// among them (`read_tablespace_map` in xlogrecovery.c). An error names the line that a server would refuse.
pub fn tablespace_map(text: &str) -> Result<BTreeMap<u32, String>, String> {
    let mut map = BTreeMap::new();
    let mut line = String::new();
    let mut escaped = false;
    for next in text.chars() {
        match next {
            '\n' | '\r' if !escaped && line.is_empty() => {}
            '\n' | '\r' if !escaped => {
                let (oid, location) =
                    tablespace(&line).ok_or_else(|| format!("its line {line:?} is no OID and path"))?;
                if map.insert(oid, location).is_some() {
                    return Err(format!("tablespace {oid} is in it twice"));
                }
                line.clear();
            }
            '\\' if !escaped => escaped = true,
            other => {
                escaped = false;
                line.push(other);
            }
        }
    }
    if line.is_empty() && !escaped { Ok(map) } else { Err(format!("its last line {line:?} has no end")) }
}

fn tablespace(line: &str) -> Option<(u32, String)> {
    let (oid, location) = line.split_once(' ')?;
    let digits = !oid.is_empty() && oid.bytes().all(|it| it.is_ascii_digit());
    (digits && !location.is_empty()).then_some(())?;
    Some((oid.parse().ok()?, location.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_read_with_what_it_is_based_on() {
        let text = "START WAL LOCATION: 0/4000028 (file 000000010000000000000004)\nCHECKPOINT LOCATION: 0/4000080\n\
                    BACKUP METHOD: streamed\nBACKUP FROM: primary\nSTART TIME: 2026-11-27 02:46:50 UTC\n\
                    LABEL: pg_basebackup base backup\nSTART TIMELINE: 1\n";
        let full = Label {
            start: "0/4000028".to_owned(),
            timeline: Some(1),
            started: Some("2026-11-27 02:46:50 UTC".to_owned()),
            after: None,
        };
        assert_eq!(label(text), Some(full.clone()));
        let after = After { start: "0/2000028".to_owned(), timeline: 1 };
        let more = format!("{text}INCREMENTAL FROM LSN: 0/2000028\nINCREMENTAL FROM TLI: 1\n");
        assert_eq!(label(&more), Some(Label { after: Some(after), ..full }));
        for cut in ["", "START WAL LOCATION: x", "INCREMENTAL FROM LSN: 0/2000028\n"] {
            assert_eq!(label(cut), None, "{cut}");
        }
    }

    #[test]
    fn a_tablespace_map_is_read_as_a_server_reads_it() {
        let map = |text: &str| tablespace_map(text);
        let of = |oid: u32, path: &str| Ok([(oid, path.to_owned())].into());
        assert_eq!(map(""), Ok(BTreeMap::new()));
        assert_eq!(map("16385 /srv/ts\n"), of(16385, "/srv/ts"));
        assert_eq!(map("16385 /srv/with space\r\n"), of(16385, "/srv/with space"));
        assert_eq!(map("16385 /srv/a\\\nb\\\\c\n"), of(16385, "/srv/a\nb\\c"));
        for bad in [
            "16385 /srv/ts",
            "16385\n",
            "x /srv/ts\n",
            "+1 /srv\n",
            "16385 \n",
            "1 /a\n1 /b\n",
            "1 /a\\",
            "99999999999 /a\n",
        ] {
            assert!(map(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn settings_that_tell_are_kept_without_passwords() {
        let text = "archive_command = 'cp ''%p'' /a' # why\nport = 5432\nprimary_conninfo = 'password=x'\n#wal_level=minimal\n";
        let kept = settings(text);
        assert_eq!(kept.get("archive_command").map(String::as_str), Some("cp '%p' /a"));
        assert_eq!(kept.get("primary_conninfo").map(String::as_str), Some("(set)"));
        assert_eq!(kept.len(), 2);
    }
}
