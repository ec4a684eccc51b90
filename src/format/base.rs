//! What a base backup is: of which server, from when on it can be recovered, and where its parts lie.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Compression;

/// A base backup, as the survey saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BaseFacts {
    pub layout: BaseLayout,
    /// Of the server that wrote it: its `PG_VERSION`.
    pub major: u32,
    pub tablespaces: Vec<Tablespace>,
    /// Of all its files, as stored.
    pub bytes: u64,
    /// What the backup's own configuration sets, of the settings that matter for a recovery. Read, never used.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BaseLayout {
    /// A data directory (`pg_basebackup -Fp`).
    Plain,
    /// Archives (`pg_basebackup -Ft`), each perhaps compressed.
    Tar { members: Vec<BaseMember> },
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
const TELLING: [&str; 9] = [
    "archive_mode",
    "archive_command",
    "archive_library",
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

/// `tablespace_map`: where each tablespace lay, by OID. A backslash stands before a line end within a path.
pub fn tablespace_map(text: &str) -> BTreeMap<u32, String> {
    let text = text.replace("\\\n", "\u{0}");
    let line = |line: &str| {
        let (oid, location) = line.split_once(' ')?;
        Some((oid.parse().ok()?, location.replace('\u{0}', "\n").replace("\\\\", "\\")))
    };
    text.lines().filter_map(line).collect()
}
