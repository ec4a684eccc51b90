//! The words of physical backups: a search in WAL, and what a restored cluster brings along.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::format::lsn::Lsn;
use crate::target::Target;

/// A part of the WAL in an archive, and what to look for there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WalPart {
    pub archive: String,
    pub segment_bytes: u64,
    /// The timelines that are followed, the oldest first, each with where it is left.
    pub timelines: Vec<(u32, Option<Lsn>)>,
    pub from: Lsn,
    pub until: Until,
    pub target: Target,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    Place(Lsn),
    /// The end of the base backup whose WAL begins here.
    EndOfBackup(Lsn),
    EndOfArchive,
}

/// What came of a search.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Searched {
    /// The first record at which recovery would stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<Found>,
    pub segments: u64,
    /// Why the part was not read to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Found {
    pub at: Lsn,
    #[schemars(with = "Option<String>")]
    pub time: Option<jiff::Timestamp>,
}

/// What a restored cluster carries that matters to whoever takes it into service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Around {
    /// Transactions that were prepared and wait for their end: they hold their locks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prepared: Vec<Prepared>,
    /// Databases that nobody can connect to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub closed: Vec<Closed>,
    /// Databases whose order of texts was made with another version of the collation than this host has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub collations: Vec<CollationSeen>,
    /// Indexes of which this host cannot tell whether they are right.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub indexes: Vec<Doubtful>,
    /// Databases that hold the tables of a coordinator of Citus, with the number of the nodes that hold the rest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub coordinators: Vec<(String, u64)>,
    /// Databases whose indexes nobody could ask for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unexamined: Vec<String>,
    /// What could not be asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
}

impl Around {
    /// Whether one of these indexes may be wrong for no other reason than this host. Where there are none, it is not known which were
    /// used, and any counts. None: of this database nobody could tell.
    pub fn doubts(&self, database: &str, indexes: Option<&[String]>) -> Option<bool> {
        if self.unexamined.iter().any(|it| it == database) {
            return None;
        }
        let used = indexes.filter(|it| !it.is_empty());
        // A plan does not always tell the schema.
        let is = |name: &String, used: &String| {
            name == used || used.strip_prefix("?.").is_some_and(|it| name.ends_with(&format!(".{it}")))
        };
        let of = |it: &&Doubtful| it.database == database;
        Some(
            self.indexes
                .iter()
                .filter(of)
                .any(|it| used.is_none_or(|used| it.names.iter().any(|name| used.iter().any(|used| is(name, used))))),
        )
    }
}

/// Indexes of a database that were made in an order which may not be this host's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Doubtful {
    pub database: String,
    pub because: Doubt,
    /// `schema.name`, the first 10,000.
    pub names: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    /// Texts were ordered by another version of the collation.
    Collation {
        name: String,
        /// None: by a C library that has no versions (musl).
        recorded: Option<String>,
        here: Option<String>,
    },
    /// Trigrams were ordered where C's `char` is of the other kind.
    Signedness,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Prepared {
    pub gid: String,
    pub database: String,
    pub owner: String,
    pub since: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Closed {
    pub database: String,
    /// It was being dropped when the server stopped (`datconnlimit` of -2).
    pub half_dropped: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CollationSeen {
    pub database: String,
    pub collation: String,
    pub recorded: String,
    /// None: this host has no such collation.
    pub here: Option<String>,
}
