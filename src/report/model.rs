//! What a report says: the shape of `report.json`.
//!
//! Lengths of time are seconds with millisecond precision, in fields that end in `_seconds`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check::{Population, Severity};
use crate::evidence::{Fetched, Guarantee};
use crate::fault::Blame;
use crate::format::lsn::Lsn;
use crate::phase::Phase;
use crate::plan::PassedOver;
use crate::recipe::{HostCondition, ImageFacts, RoomUser, RuntimeKind};
use crate::scenario::Scope;
use crate::source::Durability;
use crate::verdict::{Reason, Rpo, Verdict};

/// A run of some drills, judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    pub schema: u32,
    #[serde(flatten)]
    pub run: RunInfo,
    /// The worst of the drills'. A run of no drills proves nothing: inconclusive.
    pub verdict: Verdict,
    pub counts: Counts,
    pub drills: Vec<DrillReport>,
}

/// Which run, by which pgdrill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunInfo {
    pub run: String,
    /// Version of pgdrill.
    pub pgdrill: String,
    /// UTC.
    #[schemars(with = "String")]
    pub started: Timestamp,
}

/// Drills by verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    pub drills: usize,
    pub passed: usize,
    pub inconclusive: usize,
    pub failed: usize,
}

/// What one drill showed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DrillReport {
    pub name: String,
    pub tags: Vec<String>,
    /// The scenario file, and the line of the drill in it.
    pub file: Option<String>,
    pub line: Option<u32>,
    pub verdict: Verdict,
    /// Why it is not better than that, worst first.
    pub reasons: Vec<Reason>,
    /// The record that all of this was made from.
    pub evidence: EvidenceFile,
    /// UTC.
    #[schemars(with = "Option<String>")]
    pub started: Option<Timestamp>,
    /// From the start of the drill to the end of its last phase.
    pub elapsed_seconds: f64,
    pub scope: Option<Scope>,
    pub durability: Option<Durability>,
    /// None where none was found.
    pub backup: Option<BackupReport>,
    /// What was asked for: `pg_dump`, and its path or pattern.
    pub source: Option<String>,
    pub pattern: Option<String>,
    /// Why this backup, where that took more than its age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<String>,
    /// Other backups that match, and why each was passed over.
    pub passed_over: Vec<PassedOver>,
    pub runtime: Option<RuntimeReport>,
    pub host: Option<HostReport>,
    /// In the order in which they began.
    pub phases: Vec<PhaseReport>,
    /// Phases that belong to this drill and did not begin.
    pub not_reached: Vec<Phase>,
    pub rto: Option<RtoReport>,
    pub rpo: Option<RpoReport>,
    /// Where recovery was to stop, and where it did. None for backups that know no targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetReport>,
    /// The targets of a sweep, in the order of the WAL.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stops: Vec<StopReport>,
    pub max_age: Option<MaxAgeReport>,
    pub checks: Vec<CheckReport>,
    pub restore_errors: RestoreErrors,
    pub notes: NotesReport,
    pub guarantees: Vec<Guarantee>,
    pub server_log: LogReport,
    /// What was asked of object stores. None: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetched: Option<Fetched>,
    /// A sandbox that was left up on purpose. None: it was released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<KeptReport>,
    /// What pgdrill made and could not remove.
    pub remnants: Vec<String>,
}

/// A sandbox that stands, isolated as it was, with restored data in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeptReport {
    /// When it is removed, UTC.
    #[schemars(with = "String")]
    pub until: Timestamp,
    /// The command that opens it.
    pub open: String,
    /// The command that removes it now.
    pub remove: String,
}

/// A file of evidence and what identifies it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EvidenceFile {
    /// Relative to the run's directory.
    pub path: String,
    /// SHA-256 of the file's bytes, lowercase hex.
    pub sha256: String,
}

/// Which backup was restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackupReport {
    pub path: String,
    /// As stored; of a directory: of all its files.
    pub bytes: u64,
    /// When the file was last changed, UTC: a label, never a proof of when the dump was made.
    pub modified: Option<String>,
    /// Of the bytes as stored; see the evidence's `output.sha256` for directories. None where they were not all read.
    pub sha256: Option<String>,
    /// `custom`, `directory`, `tar`, `plain` …
    pub format: Option<String>,
    /// Of the whole file (`zstd`), or inside the archive (`gzip 6`).
    pub compression: Option<String>,
    /// The archive's own version: `1.16`.
    pub archive_version: Option<String>,
    /// The server that was dumped.
    pub server_version: Option<String>,
    /// The `pg_dump` that wrote it.
    pub dump_version: Option<String>,
    pub database: Option<String>,
    /// As the dump says it; dumps record no zone.
    pub created: Option<String>,
    /// The zone that the scenario gives for `created`: dumps record none.
    pub timezone: Option<String>,
    pub tables: usize,
    pub extensions: Vec<String>,
}

/// Where the backup was restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuntimeReport {
    /// None where no runtime has what the backup needs.
    pub kind: Option<RuntimeKind>,
    pub version: Option<String>,
    pub image: Option<ImageFacts>,
    pub user: Option<RoomUser>,
    pub filesystem: Option<String>,
    pub because: Option<String>,
    /// What was tried before, and why not; one line each.
    pub passed_over: Vec<String>,
    /// Other programs of use, with their versions.
    pub tools: BTreeMap<String, String>,
}

/// The machine that the times were measured on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostReport {
    pub hostname: String,
    pub os: String,
    pub kernel: String,
    pub architecture: String,
    pub cpus: u32,
    pub memory_bytes: u64,
    pub fsync_micros: Option<u64>,
}

/// One stage of the drill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PhaseReport {
    pub phase: Phase,
    /// From the start of the drill.
    pub began_seconds: f64,
    pub elapsed_seconds: f64,
    pub status: PhaseStatus,
    /// What went wrong, or the last state seen; one line.
    pub said: Option<String>,
    pub blame: Option<Blame>,
    pub causes: Vec<String>,
    pub hint: Option<String>,
    pub steps: Vec<StepReport>,
}

/// How a phase ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PhaseStatus {
    Completed,
    Failed,
    /// Its budget ran out.
    TimedOut,
    Cancelled,
    /// The record ends in the middle of it: pgdrill was killed.
    Unfinished,
}

/// One step of a phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepReport {
    pub what: String,
    pub elapsed_seconds: f64,
    /// Exit status; 128 + n where a signal ended it.
    pub status: i32,
    /// Bytes of the backup that it read.
    pub bytes: Option<u64>,
    pub errors_total: u64,
    /// What the host did meanwhile.
    pub conditions: Vec<HostCondition>,
    /// Standard error, head and tail, of a step that did not exit with 0.
    pub stderr: Option<String>,
}

/// The time to recover, against its objective.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RtoReport {
    pub limit_seconds: f64,
    /// Detection, decision, cut-over: declared, not measured; judged with what was measured.
    pub overhead_seconds: f64,
    /// The clock runs from the start of the first phase to the end of the last.
    pub first: Phase,
    pub last: Phase,
    pub outcome: RtoOutcome,
    pub elapsed_seconds: Option<f64>,
    pub missed_by_seconds: Option<f64>,
    /// For people: `met on this host: 41 s of 30 min (+10 min declared overhead)`.
    pub words: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RtoOutcome {
    Met,
    Missed,
    /// The span never completed.
    NotReached,
    /// Measured without durability: no proof either way.
    NotComparable,
}

/// The data that may have been lost, against its objective.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RpoReport {
    pub limit_seconds: f64,
    /// The most that may have been lost.
    pub max_seconds: Option<f64>,
    /// The least that was lost.
    pub min_seconds: Option<f64>,
    pub outcome: Rpo,
    /// With its numbers.
    pub formula: String,
    /// For people.
    pub words: String,
}

/// How old the backup may be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MaxAgeReport {
    pub limit_seconds: f64,
}

/// One question about the restored data, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CheckReport {
    pub name: String,
    /// Where in a sweep; None where there is one stop only.
    pub stop: Option<usize>,
    pub severity: Severity,
    pub status: CheckStatus,
    /// Where it was asked; None: the restored database.
    pub database: Option<String>,
    pub role: Option<String>,
    /// The first question, as SQL; later ones depend on its answer.
    pub asked: Vec<String>,
    /// Of a broken or waived check.
    pub expected: Option<String>,
    pub observed: Option<String>,
    /// Why it is unknown.
    pub because: Option<String>,
    /// The reason of its waiver.
    pub waived: Option<String>,
    pub population: Population,
    pub elapsed_seconds: f64,
    /// In the scenario file.
    pub line: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    Held,
    Broken,
    /// Not asked, or it examined nothing.
    Unknown,
    /// Broken, and accepted for a while.
    Waived,
    /// It writes, and the server only reads at this stop of a sweep.
    NotApplicable,
}

/// A recovery target, and the proof that recovery stopped there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TargetReport {
    /// `time 2026-11-22 10:00:00+00`, `the end of the archive`
    pub words: String,
    pub outcome: TargetOutcome,
    /// What shows it: the server's own words, and what the WAL itself says.
    pub evidence: Vec<String>,
}

/// One target of a sweep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StopReport {
    /// Counted from 1.
    pub stop: usize,
    /// `time 2026-11-22 10:00:00+00`
    pub words: String,
    /// Its place in the WAL, where the replay was held.
    pub lsn: Lsn,
    /// None: the drill ended before.
    pub outcome: Option<TargetOutcome>,
    pub evidence: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TargetOutcome {
    Reached,
    EndedBefore,
    WentBeyond,
    Unproved,
}

impl TargetOutcome {
    pub const fn words(self) -> &'static str {
        match self {
            TargetOutcome::Reached => "reached",
            TargetOutcome::EndedBefore => "NOT REACHED, recovery ended before it",
            TargetOutcome::WentBeyond => "MISSED, recovery went beyond it",
            TargetOutcome::Unproved => "not proved",
        }
    }
}

/// Errors that the server gave to statements of the restore, and that the restoring program went on after.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RestoreErrors {
    /// All of them; `recorded` is bounded.
    pub total: u64,
    pub recorded: Vec<RestoreError>,
    /// What the scenario allows: SQLSTATEs, or parts of messages. Whether that covers them: see the drill's reasons.
    pub allowed: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RestoreError {
    pub phase: Phase,
    /// The step during which it came.
    pub step: String,
    pub sqlstate: Option<String>,
    pub message: String,
    pub line: Option<u64>,
    pub statement: Option<String>,
    /// Of the archive's table of contents.
    pub entry: Option<String>,
    /// Of a COPY, which row was refused: `row 17 of orders, column price`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<String>,
}

/// Where the drill differs from a full recovery.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NotesReport {
    pub not_checked: Vec<String>,
    pub not_carried: Vec<String>,
    pub stubbed: Vec<String>,
    pub deviations: Vec<String>,
    /// What the judgement found and did not hold against the drill.
    pub findings: Vec<String>,
}

/// What the restored server's own log says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogReport {
    pub first_error: Option<String>,
    /// Relative to the run's directory.
    pub path: Option<String>,
}
