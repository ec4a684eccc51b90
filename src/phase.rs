//! The stages of a drill, and nothing else.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The stages of a drill, in the order in which they happen.
///
/// The order is load-bearing: an RTO span is a range of phases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Check the engine and make scratch space. Never part of an RTO.
    Prepare,
    /// Learn what the backup is and what could run it; then plan. Timed beside the RTO, not in it.
    Inspect,
    /// Make the sandbox that will receive the data, with an empty server where the backup needs one.
    Provision,
    /// Bring the backup's bytes into the sandbox.
    Acquire,
    /// Turn the bytes into a data directory or a loaded database.
    Restore,
    /// Start PostgreSQL on a restored data directory and replay WAL to the target.
    Recover,
    /// Service is back: a transaction id was committed and the scenario's `ready:` query is true.
    Ready,
    /// Ask the checks' questions.
    Validate,
    /// Release everything that the drill created.
    Teardown,
}

impl Phase {
    pub const ALL: [Phase; 9] = [
        Phase::Prepare,
        Phase::Inspect,
        Phase::Provision,
        Phase::Acquire,
        Phase::Restore,
        Phase::Recover,
        Phase::Ready,
        Phase::Validate,
        Phase::Teardown,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Phase::Prepare => "prepare",
            Phase::Inspect => "inspect",
            Phase::Provision => "provision",
            Phase::Acquire => "acquire",
            Phase::Restore => "restore",
            Phase::Recover => "recover",
            Phase::Ready => "ready",
            Phase::Validate => "validate",
            Phase::Teardown => "teardown",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
