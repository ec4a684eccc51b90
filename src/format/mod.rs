//! What the bytes of backups say: decoders and readers without I/O of their own.
//!
//! Everything in here is fed bytes (or a `std::io::Read`) by `store` and gives bytes or facts. Nothing is guessed by
//! trying a program on a file: the format is read from the bytes.

pub mod archive;
pub mod archiving;
pub mod authid;
pub mod barman;
pub mod base;
pub mod counted;
pub mod crypt;
pub mod data;
pub mod decode;
pub mod inspect;
pub mod lsn;
pub mod machine;
pub mod manifest;
pub mod page;
pub mod pages;
pub mod pg_control;
pub mod pgbackrest;
pub mod plain;
pub mod promised;
pub mod select;
pub mod sniff;
mod sql;
pub mod verify;
pub mod wal;
pub mod wal_archive;
pub mod walg;

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use promised::Promised;

/// The layout of a logical backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DumpFormat {
    /// `pg_dump -Fc`
    Custom,
    /// `pg_dump -Fd`
    Directory,
    /// `pg_dump -Ft`
    Tar,
    /// `pg_dump`, `pg_dump -Fp`, or SQL kept by hand
    Plain,
    /// `pg_dumpall`
    Cluster,
    /// `pg_dumpall -g` (or `-r`, `-t`): roles and tablespaces without a database
    Globals,
}

impl DumpFormat {
    /// As `PostgreSQL`'s documentation calls it.
    pub const fn name(self) -> &'static str {
        match self {
            DumpFormat::Custom => "custom",
            DumpFormat::Directory => "directory",
            DumpFormat::Tar => "tar",
            DumpFormat::Plain => "plain",
            DumpFormat::Cluster => "pg_dumpall",
            DumpFormat::Globals => "pg_dumpall globals",
        }
    }

    /// Archives are read by `pg_restore`; everything else is SQL for psql.
    pub const fn is_archive(self) -> bool {
        match self {
            DumpFormat::Custom | DumpFormat::Directory | DumpFormat::Tar => true,
            DumpFormat::Plain | DumpFormat::Cluster | DumpFormat::Globals => false,
        }
    }
}

/// A compression of the whole file, outside of what `pg_dump` itself compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    #[default]
    None,
    Gzip,
    Zstd,
    Lz4,
    Xz,
    Bzip2,
    /// `xz --format=lzma`: it has no magic, so only a file's name tells.
    Lzma,
    /// No magic either.
    Brotli,
    /// Its framing format. It has no end: what was cut between two chunks is whole for it.
    Snappy,
}

impl Compression {
    /// As its program is called.
    pub const fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
            Compression::Lz4 => "lz4",
            Compression::Xz => "xz",
            Compression::Bzip2 => "bzip2",
            Compression::Lzma => "lzma",
            Compression::Brotli => "brotli",
            Compression::Snappy => "snappy",
        }
    }
}

/// What a dump says of itself, before anything is restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DumpFacts {
    pub format: DumpFormat,
    /// How the whole file is compressed.
    pub wrapped: Compression,
    /// The file is encrypted as a whole: no other program can read it where it lies.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sealed: bool,
    /// The archive's own format version (1.14 …), for `custom`, `directory` and `tar`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive_version: Option<ArchiveVersion>,
    /// The compression that `pg_dump` used inside the archive: `none`, `gzip`, `lz4`, `zstd`, with its level if recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive_compression: Option<String>,
    /// When the dump began, as recorded: `YYYY-MM-DD HH:MM:SS`, in the zone of the machine that dumped, which no dump records.
    /// For plain dumps made with `-v` the recorded zone abbreviation is dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The database that was dumped, where the dump says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// `17.11 (Debian 17.11-1)`: the server that was dumped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_version: Option<String>,
    /// The `pg_dump` that wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dump_version: Option<String>,
    /// A plain dump starts with `\restrict`: psql older than August 2025 cannot read it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restrict: bool,
    /// A plain dump that has `pg_dump`'s header must end with its end marker. None where there is no header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_marker: Option<bool>,
    pub contents: Contents,
}

/// `K_VERS_MAJOR.K_VERS_MINOR` of `pg_backup_archiver.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct ArchiveVersion {
    pub major: u8,
    pub minor: u8,
    pub revision: u8,
}

/// What a dump holds, from its table of contents or from its text.
#[expect(clippy::struct_excessive_bools, reason = "each was seen in the dump or was not")]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Contents {
    /// Number of entries by kind, as `pg_restore` -l names them (`TABLE`, `TABLE DATA`, `INDEX` …). For plain text, by the
    /// kind in `pg_dump`'s own comments, where it wrote them.
    pub entries: BTreeMap<String, u64>,
    /// Databases that the dump itself creates (`pg_dumpall`, `pg_dump -C`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub databases: Vec<String>,
    /// Databases that a text connects to.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub connects: BTreeSet<String>,
    /// Roles that a text connects as (`\\connect - role`), as scripts of before 7.3 did to set owners.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub connects_as: BTreeSet<String>,
    /// The locale that a text's `CREATE DATABASE` names, by database.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub locales: BTreeMap<String, String>,
    /// Databases that a text makes with an encoding or a locale, and not from `template0`: that works only where the cluster has
    /// the same.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub wrong_templates: BTreeSet<String>,
    /// Commands by which a text reads other files, runs programs or turns to other servers: `\\i schema.sql`, as they are
    /// written. At most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub includes: Vec<String>,
    pub schemas: Vec<String>,
    pub tables: Vec<Table>,
    pub extensions: Vec<Extension>,
    /// Every role that the dump refers to: owners, grantees, grantors, policies' roles, `SET SESSION AUTHORIZATION`.
    pub roles: BTreeSet<String>,
    /// Roles that the dump itself creates (`pg_dumpall`, globals).
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub roles_made: BTreeSet<String>,
    /// Tablespaces that the dump refers to, other than `pg_default` and `pg_global`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tablespaces: BTreeSet<String>,
    /// Tablespaces that the dump itself creates (`pg_dumpall`, globals).
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tablespaces_made: BTreeSet<String>,
    /// Their owners, by tablespace, where the dump says them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tablespace_owners: BTreeMap<String, String>,
    /// The archive's own `CREATE DATABASE` statement, from its DATABASE entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create_database: Option<String>,
    /// The owner in the archive's DATABASE entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_owner: Option<String>,
    /// The archive's DATABASE PROPERTIES statements (`ALTER DATABASE … SET`, connection limit).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_properties: Option<String>,
    /// `UTF8` …: the archive's ENCODING entry or the text's `SET client_encoding`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<String>,
    /// Number of large objects, where the dump says it without reading data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub large_objects: Option<u64>,
    /// Bytes of all large objects, where their data were read (plain text).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub large_object_bytes: Option<u64>,
    /// `SET row_security = on`: only the rows that the dumping user could see are in it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub row_security_on: bool,
    /// A text by `pg_dump --no-owner`: it says of its objects that they have no owner.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub owners_left_out: bool,
    /// A text that drops what it is about to make (`pg_dump --clean`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drops: bool,
    /// It makes things as their owners (`SET SESSION AUTHORIZATION`, `\\connect - role`), and not for them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub as_owners: bool,
    /// It takes the rights of a superuser from the role `postgres`, as dumps of managed services do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub demotes: bool,
    /// Who granted the first membership of roles. Since PostgreSQL 16 that is the cluster's bootstrap superuser: others must have
    /// been granted the right to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grantor: Option<String>,
    /// Bytes of all data files (directory), or of the archive or text: a lower bound for the disk that is needed.
    pub data_bytes: u64,
    /// The objects that it promises. None in evidence of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promised: Option<Promised>,
    /// What a selective restore would take: dump ids in the archive's order. None where nothing was selected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selected: Option<Vec<i32>>,
}

/// One table of a dump. Names are as in the catalogue, without quotes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Table {
    /// The database that it belongs to, where the dump holds several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    pub schema: String,
    pub name: String,
    /// Whether the dump has a data entry for it (an empty table has one; one left out by `--exclude-table-data` has not).
    /// True for partitioned tables, which hold no rows of their own and therefore have no data entry.
    pub data: bool,
    /// Rows in the dump, where they were counted (plain text).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
}

/// An extension that a dump creates.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Extension {
    pub name: String,
    /// Only a cluster dump has several databases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
}

/// What to take from an archive, when not everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Selection {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schemas: Vec<String>,
    /// `schema.table`, or `table` in any schema.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<String>,
}

impl Selection {
    pub fn is_everything(&self) -> bool {
        self.schemas.is_empty() && self.tables.is_empty()
    }
}

impl DumpFacts {
    /// Major version of the server that was dumped: 17 for `17.11`, 9 for `9.6.24`.
    pub fn major(&self) -> Option<u32> {
        major_of(self.server_version.as_deref()?)
    }
}

/// Major version in a version text: 17 for `17.11 (Debian …)`, 18 for `18beta1`, 9 for `9.6.24`.
pub fn major_of(version: &str) -> Option<u32> {
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}
