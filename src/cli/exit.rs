//! What the exit status of pgdrill means. These docs are the manual.

use crate::verdict::Verdict;

/// Exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Every drill passed; or the command did what was asked.
    Passed,
    /// At least one drill failed.
    Failed,
    /// A usage or scenario problem: nothing ran.
    Usage,
    /// No drill failed, and at least one was inconclusive.
    Inconclusive,
    /// Tags or names selected nothing.
    NothingSelected,
    /// A bug in pgdrill.
    Bug,
    /// SIGINT or SIGTERM: evidence was written, sandboxes were released.
    Interrupted { signal: i32 },
    /// `pgdrill shell`: what the program in the sandbox ended with.
    Program { status: u8 },
}

impl Exit {
    pub fn code(self) -> u8 {
        match self {
            Exit::Passed => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Inconclusive => 3,
            Exit::NothingSelected => 4,
            Exit::Bug => 70,
            Exit::Program { status } => status,
            Exit::Interrupted { signal } => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        }
    }
}

impl Exit {
    /// For the last line of a summary.
    pub fn meaning(self) -> &'static str {
        match self {
            Exit::Passed => "every drill passed",
            Exit::Failed => "at least one drill failed",
            Exit::Usage => "a usage or scenario problem: nothing ran",
            Exit::Inconclusive => "no drill failed, at least one was inconclusive",
            Exit::NothingSelected => "nothing was selected",
            Exit::Bug => "a bug in pgdrill",
            Exit::Program { .. } => "the program's own status",
            Exit::Interrupted { .. } => "interrupted: the evidence was written",
        }
    }
}

impl From<Verdict> for Exit {
    fn from(verdict: Verdict) -> Exit {
        match verdict {
            Verdict::Passed => Exit::Passed,
            Verdict::Inconclusive => Exit::Inconclusive,
            Verdict::Failed => Exit::Failed,
        }
    }
}
