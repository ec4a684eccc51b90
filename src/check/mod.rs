//! Validation checks: what to ask the restored server, and what its answers mean.

mod exists;
mod query;
mod rows;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

pub use exists::Exists;
pub use query::{Expect, Query, Scalar};
pub use rows::Rows;

/// One check of a drill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// Unique within the drill, and stable: reports and waivers name it.
    pub name: String,
    pub severity: Severity,
    /// Where to ask. None: the database that the drill restores.
    pub database: Option<String>,
    /// The role to ask as (`SET SESSION AUTHORIZATION`). None: the bootstrap superuser.
    pub role: Option<String>,
    pub timeout: Duration,
    pub kind: Kind,
    /// Line of the check in its scenario file, 1-based.
    pub line: Option<u32>,
}

/// What kind of check: one file per family.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Query(Query),
    Rows(Rows),
    Exists(Exists),
}

/// How much a broken check matters. Declared mildest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// A finding: it does not fail the drill.
    Minor,
    #[default]
    Major,
    Critical,
}

/// One question to the restored server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Probe {
    pub database: String,
    pub role: Option<String>,
    pub sql: String,
    pub timeout: Duration,
    /// Rows beyond this many are not kept, only counted.
    pub keep_rows: usize,
}

/// What the server said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Rows(Table),
    /// The server answered with an error.
    Refused { sqlstate: String, message: String, hint: Option<String> },
    /// There was no answer: time-out, connection lost.
    Silent { because: String },
}

/// Rows as text: NULL is None.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Table {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Option<String>>>,
    /// Rows that the query gave, kept or not.
    pub total: u64,
}

/// What the answers mean.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    Held { observed: String },
    Broken { expected: String, observed: String },
    /// Not asked, or it examined nothing.
    Unknown { because: String },
}

/// What a check looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Population {
    /// Things examined: rows, tables, objects.
    pub examined: u64,
    /// What they are: `rows`, `objects`.
    pub of: String,
}

/// The judgement of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Judged {
    pub finding: Finding,
    pub population: Population,
}

impl Check {
    /// What is still to be asked, given the answers so far; empty when it can be judged.
    pub fn probes(&self, database: &str, known: &[Answer]) -> Vec<Probe> {
        let database = self.database.as_deref().unwrap_or(database);
        let sql = match &self.kind {
            Kind::Query(it) => it.sql_probes(known),
            Kind::Rows(it) => it.sql_probes(known),
            Kind::Exists(it) => it.sql_probes(known),
        };
        let keep_rows = match &self.kind {
            Kind::Query(it) => it.keep_rows(),
            Kind::Rows(_) => 1,
            Kind::Exists(_) => 10_000,
        };
        let probe = |sql| Probe {
            database: database.to_owned(),
            role: self.role.clone(),
            sql,
            timeout: self.timeout,
            keep_rows,
        };
        sql.into_iter().map(probe).collect()
    }

    pub fn judge(&self, answers: &[Answer]) -> Judged {
        match &self.kind {
            Kind::Query(it) => it.judge(answers),
            Kind::Rows(it) => it.judge(answers),
            Kind::Exists(it) => it.judge(answers),
        }
    }
}
