//! Backup formats and tools: what to learn, and the recipe that restores it. One file each.

pub mod archive;
pub mod base_backup;
pub mod best;
pub mod chain;
pub mod drift;
pub mod dump;
pub mod server;
pub mod service;
pub mod sweep;
pub mod witness;

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::format::base::BaseFacts;
use crate::format::machine::Machine;
use crate::format::{Selection, walg};

/// Where a backup comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A dump of one database, in any of pg_dump's formats.
    PgDump(PgDump),
    /// A dump of a whole cluster.
    PgDumpall(PgDumpall),
    /// A physical backup by pg_basebackup, with or without a WAL archive.
    BaseBackup(BaseBackup),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PgDump {
    pub location: Location,
    /// `pg_dumpall -g` of the same cluster. Absolute path.
    pub globals: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub tool: DumpTool,
}

/// Who stored a dump of one database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DumpTool {
    #[default]
    PgDump,
    Databasus,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PgDumpall {
    pub location: Location,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BaseBackup {
    pub location: Location,
    /// Directory of the WAL archive. Absolute path. None: the WAL that the backup itself holds.
    pub wal: Option<String>,
    /// Whether the end of the archive may be a segment that was not finished (`.partial`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub partial: bool,
    /// Of pgBackRest: every backup and segment of the stanza is read, too.
    #[serde(default, skip_serializing_if = "is_default")]
    pub verify: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub made_on: Machine,
    /// Where tablespaces' data lie, in a plain backup whose links lead out of it: by location, or by OID.
    pub tablespaces: BTreeMap<String, String>,
    /// Of pgBackRest: the databases to restore, besides PostgreSQL's own; of the others, files are made and nothing is read.
    /// Empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub databases: Vec<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub tool: BaseTool,
}

impl BaseBackup {
    /// As it is for this backup: its WAL may lie apart from that of the others.
    pub fn of<'a>(&'a self, facts: &BaseFacts) -> Cow<'a, BaseBackup> {
        match (&self.wal, facts.earlier_cluster()) {
            (Some(wal), Some(cluster)) => {
                Cow::Owned(BaseBackup { wal: Some(format!("{wal}/{cluster}")), ..self.clone() })
            }
            _ => Cow::Borrowed(self),
        }
    }
}

/// Who made a physical backup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BaseTool {
    #[default]
    PgBasebackup,
    WalG,
    Barman,
    BarmanCloud,
    PgBackRest,
    /// A bundle.
    Databasus,
}

/// How a tar file's name ends that is read as a directory.
pub(crate) const BUNDLE: &str = ".tar!";

impl BaseTool {
    /// Where the backups lie in a tool's place, and their WAL. `of`: a stanza or a server.
    pub fn places(self, root: &str, of: &str) -> (String, Option<String>) {
        let root = root.trim_end_matches('/');
        match self {
            BaseTool::PgBasebackup => (root.to_owned(), None),
            BaseTool::WalG => (root.to_owned(), Some(format!("{root}/{}", walg::WAL))),
            BaseTool::Barman | BaseTool::BarmanCloud => (format!("{root}/{of}"), Some(format!("{root}/{of}/wals"))),
            BaseTool::PgBackRest => (format!("{root}/backup/{of}"), Some(format!("{root}/archive/{of}"))),
            BaseTool::Databasus => (format!("{root}!"), Some(format!("{root}!/wal"))),
        }
    }

    /// The key in a scenario file.
    pub const fn kind(self) -> &'static str {
        match self {
            BaseTool::PgBasebackup => "base_backup",
            BaseTool::WalG => "wal_g",
            BaseTool::Barman => "barman",
            BaseTool::BarmanCloud => "barman_cloud",
            BaseTool::PgBackRest => "pgbackrest",
            BaseTool::Databasus => "databasus",
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Which file or directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Location {
    /// An absolute path, or a pattern with `*`, `?`, `[…]`, `{…}` or `**`.
    pub path: String,
    pub pick: Pick,
    /// Zone of the machine that dumped, an IANA name: dumps carry none.
    pub timezone: Option<String>,
    /// The scenario vouches for the backup: it may be restored without a kernel's isolation.
    pub trusted: bool,
    /// How the object store is reached, where the path is a URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreRef>,
    /// What decrypts it. The key itself is never kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyRef>,
}

impl Location {
    /// What its tool calls a backup. Barman keeps the data one level deeper than its name.
    pub fn backup_name(path: &str) -> &str {
        let path = path.trim_end_matches('/');
        let path = path.strip_suffix("/data").unwrap_or(path);
        path.rsplit('/').next().unwrap_or_default()
    }

    /// The directory above everything that can match, or the path itself where it is none.
    pub fn root(&self) -> &str {
        root(&self.path)
    }
}

/// What its tool calls a backup.
pub fn backup_name(path: &str) -> &str {
    backup_directory(path).rsplit('/').next().unwrap_or_default()
}

/// All that its tool keeps of a backup: Barman keeps the data one level deeper.
pub fn backup_directory(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    path.strip_suffix("/data").unwrap_or(path)
}

/// The directory above everything that can match a pattern, or the path itself where it is none.
pub fn root(path: &str) -> &str {
    let pattern = path.find(['*', '?', '[', '{']);
    pattern.map_or(path, |at| path[..at].rsplit_once('/').map_or("/", |it| it.0))
}

/// How an object store is reached, besides what the environment says. Secrets by the places where they lie.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoreRef {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Absolute path of certificates, as PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Whatever else there is to say, in the words of the scenario: `region`, `account`, `anonymous`, `virtual_hosted`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// `access_key`, `secret_key`, `session_token`, `account_key`, `sas_token`, `service_account`, `token`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, Secret>,
    /// It is read as it was then: of each object, the newest version that was made by that moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub as_of: Option<jiff::Timestamp>,
}

/// Where a key is to be found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyRef {
    pub cipher: Cipher,
    pub key: Secret,
    /// Of an OpenPGP key that has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase: Option<Secret>,
}

/// How a tool encrypts its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cipher {
    /// AES-256-GCM, with a key made from Databasus' `secret.key`.
    Databasus,
    /// libsodium's secretstream.
    Libsodium,
    OpenPgp,
    /// AES-256-CBC, as pgBackRest uses it.
    PgBackRest,
}

/// A secret by the place where it lies: what is written down is never the secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Secret {
    /// Absolute path.
    File(String),
    /// Name of an environment variable.
    Env(String),
}

/// Which of the files that match a pattern.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pick {
    #[default]
    Newest,
    Oldest,
    /// Of base backups: the newest that ends before the target.
    BestForTarget,
    /// By this seed, which is recorded.
    Random {
        seed: u64,
    },
    /// The one of this name, as its tool lists it.
    Label {
        label: String,
    },
    /// Every one, each in a drill of its own. Taken apart before a drill runs.
    All,
}

/// How to restore, as in the runbook of a real recovery.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Restore {
    /// Parallel jobs of pg_restore. None: 1.
    pub jobs: Option<u32>,
    pub roles: Option<Roles>,
    /// Errors that are allowed, by SQLSTATE or by a part of their message.
    pub allow_errors: Vec<String>,
    pub select: Selection,
    /// SQL files to run in the restored database, before and after. Absolute paths.
    pub before: Option<String>,
    pub after: Option<String>,
    /// Server settings: `maintenance_work_mem: 2GB`.
    pub settings: BTreeMap<String, String>,
    /// Tables whose rows the dump leaves out on purpose: patterns for `schema.table`.
    #[serde(default)]
    pub no_data: Vec<String>,
    /// Name of the database to restore into. None: the dump's own.
    pub database: Option<String>,
    /// Whether the server may be of a lower major than the dump. What is lost by that is listed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_downgrade: bool,
}

/// What to do about roles that the dump refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Roles {
    /// Load the globals file; what it lacks becomes a stub. The default where a globals file is named.
    Globals,
    /// Roles that the dump needs and does not carry become NOLOGIN stubs. The default elsewhere.
    Stubs,
    /// Make none, and restore without owners and grants (`--no-owner --no-privileges`).
    None,
}

/// Whether the restore keeps what makes it durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// fsync and full_page_writes as in production: its time can be compared with an RTO.
    #[default]
    Representative,
    /// Without them: 2 × faster, and no proof of an RTO.
    Fast,
}

impl Source {
    pub fn location(&self) -> &Location {
        match self {
            Source::PgDump(it) => &it.location,
            Source::PgDumpall(it) => &it.location,
            Source::BaseBackup(it) => &it.location,
        }
    }

    /// Of a physical backup: its archive, where it has one.
    pub fn wal(&self) -> Option<&str> {
        match self {
            Source::BaseBackup(it) => it.wal.as_deref(),
            Source::PgDump(_) | Source::PgDumpall(_) => None,
        }
    }

    pub fn location_mut(&mut self) -> &mut Location {
        match self {
            Source::PgDump(it) => &mut it.location,
            Source::PgDumpall(it) => &mut it.location,
            Source::BaseBackup(it) => &mut it.location,
        }
    }

    /// The key in a scenario file.
    pub const fn kind(&self) -> &'static str {
        match self {
            Source::PgDump(PgDump { tool: DumpTool::PgDump, .. }) => "pg_dump",
            Source::PgDump(PgDump { tool: DumpTool::Databasus, .. }) => "databasus",
            Source::PgDumpall(_) => "pg_dumpall",
            Source::BaseBackup(it) => it.tool.kind(),
        }
    }
}
