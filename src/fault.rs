//! What went wrong, and whose fault it is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A failure, with whose fault it is and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fault {
    pub blame: Blame,
    /// Lowercase fragment that can follow "failed to": `read the dump /b/shop.dump`.
    pub message: String,
    /// What lay beneath, outermost first; the first is what a person should read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// A sentence that the reader can act on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// The backup could not do what it promised: this is what drills exist to find.
    Backup,
    /// The scenario asks for something impossible.
    Scenario,
    /// The machine, the container engine or the network.
    Host,
    /// A bug in pgdrill.
    Harness,
}

impl Blame {
    /// Who should act, as a noun phrase.
    pub const fn owner(self) -> &'static str {
        match self {
            Blame::Backup => "the backup",
            Blame::Scenario => "the scenario",
            Blame::Host => "this host",
            Blame::Harness => "pgdrill itself",
        }
    }
}

impl Fault {
    pub fn new(blame: Blame, message: impl Into<String>) -> Fault {
        Fault { blame, message: message.into(), causes: Vec::new(), hint: None }
    }

    #[must_use]
    pub fn cause(mut self, cause: impl Into<String>) -> Fault {
        self.causes.push(cause.into());
        self
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Fault {
        self.hint = Some(hint.into());
        self
    }

    /// `failed to MESSAGE: CAUSE`, on one line.
    pub fn line(&self) -> String {
        match self.causes.first() {
            Some(cause) => format!("failed to {}: {cause}", self.message),
            None => format!("failed to {}", self.message),
        }
    }
}
