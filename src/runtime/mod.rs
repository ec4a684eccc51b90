//! The only effects on servers: learning, and making, driving and releasing a throwaway PostgreSQL.

pub(crate) mod cgroup;
pub(crate) mod complaints;
pub(crate) mod container;
pub mod fake;
pub(crate) mod host;
pub(crate) mod keeper;
pub(crate) mod lease;
pub(crate) mod local;
pub(crate) mod machine;
pub(crate) mod processes;
pub(crate) mod reaper;
mod around;
mod bridge;
#[path = "../../helper/disarm.rs"]
mod disarm;
mod disk;
mod physical;
mod room;
mod room_init;
mod sandbox;
mod spool;
mod sql;
mod untrusted;
mod witness;

pub(crate) use room_init::{Afterlife, reexecuted};

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::check::{Answer, Probe};
use crate::evidence::{Fetched, Guarantee};
use crate::fault::Fault;
use crate::plan::SandboxSpec;
use crate::recipe::{FileSeen, Learnt, Output, Question, Step};

/// A name for everything that one drill will make, decided before any of it exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Shared by all drills of a run: the value of the label `pgdrill.run`.
    pub run: String,
    /// Unique: the container's name, and the label `pgdrill.drill`.
    pub drill: String,
    /// Directory of the drill on the host, private to us; made by `prepare`, removed by `release`. Short: a socket's path
    /// within it must stay under 107 bytes.
    pub scratch: PathBuf,
}

/// How far a step has come, for people who wait. Called from the thread that moves the bytes; must be cheap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// `done` of `total` bytes of the backup as stored.
    Bytes { what: String, done: u64, total: Option<u64> },
    /// A state in words: `pulling postgres:17: 40 MB of 150 MB`, `waiting for the server to accept connections`.
    Said(String),
}

/// Where progress goes. The last state said is what a time-out reports.
pub type Watcher = Arc<dyn Fn(Progress) + Send + Sync>;

/// A wish to leave a sandbox up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep {
    /// The drill's name in its scenario.
    pub name: String,
    /// Where whoever opens it begins.
    pub database: String,
    pub length: Duration,
}

#[async_trait]
pub trait Runtime: Send + Sync {
    /// Makes the scratch directory and the lease's mark in it. Touches no engine.
    async fn prepare(&self, lease: &Lease) -> Result<(), Fault>;

    async fn learn(&self, lease: &Lease, question: &Question, watch: &Watcher) -> Result<Learnt, Fault>;

    /// What a file or directory of the survey looks like by now.
    async fn look(&self, lease: &Lease, path: &str) -> Result<FileSeen, Fault>;

    /// Creation runs in a task that the runtime owns: a caller that stops listening leaks nothing, because `release`
    /// waits for it.
    async fn create(&self, lease: &Lease, spec: &SandboxSpec, watch: &Watcher) -> Result<Box<dyn Sandbox>, Fault>;

    /// Leaves the sandbox up, isolated as it is, in the care of a process that outlives this one. Returns when it goes. After
    /// a Fault it is to be released as ever.
    async fn keep(&self, lease: &Lease, keep: &Keep) -> Result<Timestamp, Fault>;

    /// What was asked of object stores for this lease so far. None: nothing.
    fn fetched(&self, _lease: &Lease) -> Option<Fetched> {
        None
    }

    /// Waits for creations and byte-moving threads under way, removes whatever carries this lease's name, and returns what
    /// would not go. Idempotent. Must work if `create` never ran, half ran, or was dropped in mid-await.
    /// `hurry`: skip graceful stops.
    async fn release(&self, lease: &Lease, hurry: bool) -> Vec<String>;
}

#[async_trait]
pub trait Sandbox: Send + Sync {
    /// A status other than zero is an output, not a fault: what it means is judged, not guessed here.
    async fn perform(&self, step: &Step, watch: &Watcher) -> Result<Output, Fault>;

    /// Never fails: a question without an answer is an answer too.
    async fn ask(&self, probe: &Probe) -> Answer;

    /// What isolation is in force, by looking.
    async fn observe(&self) -> Result<Vec<Guarantee>, Fault>;

    /// The server's log so far, head and tail within 1 MiB; empty where there is none yet.
    async fn server_log(&self) -> String;
}
