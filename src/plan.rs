//! A drill and a survey, with every remaining choice made. Pure: the same two give the same plan.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::recipe::{FileSeen, Recipe, ServerFacts};

/// What will be done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    pub backup: Backup,
    pub server: ServerFacts,
    pub sandbox: SandboxSpec,
    pub recipe: Recipe,
    /// Where validation happens: a sweep has many stops, everything else has one.
    pub stops: Vec<String>,
    /// The restored database: where checks ask unless they say otherwise.
    pub database: String,
    /// How the server is asked whether service is back.
    pub notes: Vec<Note>,
}

/// The chosen backup.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Backup {
    pub file: FileSeen,
    /// Other matches, and why each was passed over.
    pub passed_over: Vec<PassedOver>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PassedOver {
    pub path: String,
    pub why: String,
}

/// Something that a reader of the report must know: where the drill differs from a full recovery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Note {
    pub kind: NoteKind,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NoteKind {
    /// A choice that differs from the backup's own: another major, another locale.
    Deviation,
    /// What the backup does not carry.
    NotCarried,
    /// What was made up so that the rest could be restored.
    Stubbed,
    /// What the drill did not look at.
    NotChecked,
}

/// The sandbox to make.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SandboxSpec {
    pub server: ServerFacts,
    /// Host files and directories to be seen in the room, read-only, in the order of `At::Input`.
    pub inputs: Vec<String>,
    pub limits: Limits,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limits {
    pub memory_bytes: Option<u64>,
    pub cpus: Option<u32>,
    pub shm_bytes: u64,
    pub pids: u32,
}

/// How long a plan thinks the phases may take, for people.
pub type Budget = Duration;
