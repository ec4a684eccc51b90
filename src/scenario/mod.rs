//! What a person asked for: valid drills, made from YAML text.
//!
//! Parsing reports every problem at once, each with file, line and column; see [`parse()`]. YAML becomes a tree (`tree`), its
//! `${NAME}`s are filled (`fill`), it is read into types that mirror the file (`wire`, through `collect`, which goes on after
//! a mistake), and those are turned into drills (`convert`, `checks`).

mod checks;
mod claims;
mod collect;
mod convert;
mod copies;
mod csv;
mod fill;
mod init;
mod parse;
mod paths;
mod problem;
mod select;
mod stores;
mod sweep;
#[cfg(test)]
mod tests;
mod tree;
mod units;
mod wire;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check::Check;
use crate::phase::Phase;
use crate::recipe::RuntimeChoice;
use crate::source::{Durability, Restore, Source, StoreRef};
use crate::target::{Sweep, Target};

pub use copies::{BackupCopy, Copies, CopiesObjective, Placement};
pub use init::{Init, USE, init, quote_ident};
pub use parse::{Environment, File, files_named, parse, schema};
pub use paths::suggest_pattern;
pub use problem::{Problem, render};
pub use select::select;
pub(crate) use units::length;

/// One drill: a backup to restore, and what must be true of it. Cannot be invalid once parsed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Drill {
    /// Unique within a run.
    pub name: String,
    pub tags: Vec<String>,
    /// The scenario file as it was named, and the line of the drill in it.
    pub file: String,
    pub line: Option<u32>,
    pub runtime: RuntimeChoice,
    pub source: Source,
    /// The same backup in other places. None: nothing is said of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copies: Option<Copies>,
    /// None: by the kind of backup, and by what is restored of it.
    pub scope: Option<Scope>,
    /// Where recovery is to stop. Dumps have one state, and ignore it.
    #[serde(default)]
    pub target: Target,
    /// Many targets instead, of one replay. None: only `target`, which then is the end of the archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<Sweep>,
    pub restore: Restore,
    pub postgres: Postgres,
    pub objectives: Objectives,
    pub budgets: BTreeMap<Phase, Duration>,
    pub durability: Durability,
    /// Whether the sandbox stays up when the drill is over.
    #[serde(default)]
    pub keep: Keep,
    pub ready: Option<Ready>,
    pub checks: Vec<Check>,
    pub waivers: Vec<Waiver>,
}

/// What the backup claims to bring back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    #[default]
    Database,
    Cluster,
    Objects,
}

/// When a sandbox is left up, isolated as it was, for somebody to look into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    #[default]
    Never,
    /// Unless the drill passed; an interrupted drill keeps nothing.
    OnFailure,
    /// Also when the drill was interrupted.
    Always,
}

/// The server to restore into.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Postgres {
    /// None: the backup's own.
    pub major: Option<u32>,
    /// `{major}` is replaced. None: `postgres:{major}`, or ours where that is absent.
    pub image: Option<String>,
    pub memory_bytes: Option<u64>,
    /// /dev/shm. None: 256 MiB.
    pub shm_bytes: Option<u64>,
    pub cpus: Option<u32>,
}

/// What the drill must show, apart from contents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Objectives {
    pub rto: Option<Rto>,
    /// The most that may be lost, as a time before the incident.
    pub rpo: Option<Duration>,
    /// How far back the gaps between backups count. None: 7 days.
    #[serde(default)]
    pub rpo_window: Option<Duration>,
    /// When the disaster is taken to have happened. None: when the drill starts.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub incident: Option<jiff::Timestamp>,
    /// A table that something writes to at fixed times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<Heartbeat>,
    /// How old the backup may be at the start of the drill.
    pub max_age: Option<Duration>,
    /// In how many places the backup must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copies: Option<CopiesObjective>,
}

/// What shows that a commit is missing: a row that must have been written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Heartbeat {
    pub table: String,
    /// Of a type that can be cast to timestamptz.
    pub column: String,
    /// The longest time between two of them.
    pub every: Duration,
    /// None: the restored database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rto {
    pub limit: Duration,
    /// Detection, decision, cut-over: declared, shown apart, judged with it.
    pub overhead: Duration,
    /// Which phases the clock covers.
    #[schemars(with = "Span")]
    pub span: RangeInclusive<Phase>,
}

/// How serde writes a range of phases.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct Span {
    start: Phase,
    end: Phase,
}

/// When service is back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ready {
    /// Must give a true or non-zero value.
    pub sql: String,
    pub database: Option<String>,
    /// The role to ask as.
    pub role: Option<String>,
}

/// A known defect that is accepted for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Waiver {
    pub check: String,
    pub object: Option<String>,
    pub reason: String,
    /// The last day on which it holds: `YYYY-MM-DD`, in UTC.
    #[schemars(with = "String")]
    pub until: jiff::civil::Date,
}

impl Drill {
    /// Where the backup lies, then where its copies do: each with its WAL archive, and how its store is reached.
    pub fn places(&self) -> impl Iterator<Item = (&str, Option<&str>, Option<&StoreRef>)> {
        let location = self.source.location();
        let copies = self.copies.iter().flat_map(|it| &it.others);
        let copies = copies.map(|it| (it.path.as_str(), it.wal.as_deref(), it.store.as_ref()));
        std::iter::once((location.path.as_str(), self.source.wal(), location.store.as_ref())).chain(copies)
    }

    /// A ceiling for each phase; every phase has one.
    pub fn budget(&self, phase: Phase) -> Duration {
        const HOUR: u64 = 3600;
        let default = match phase {
            Phase::Prepare | Phase::Provision | Phase::Ready | Phase::Teardown => Duration::from_secs(600),
            Phase::Inspect => Duration::from_secs(HOUR),
            Phase::Acquire | Phase::Restore | Phase::Recover | Phase::Validate => Duration::from_secs(12 * HOUR),
        };
        self.budgets.get(&phase).copied().unwrap_or(default)
    }
}
