//! Judges evidence against objectives and checks. Pure, total, and re-runnable on stored evidence.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check::{Judged, Severity};
use crate::evidence::Evidence;
use crate::fault::Blame;
use crate::phase::Phase;

/// Declared mildest first: `max` is the merge, and exit codes, colours and JUnit follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Passed,
    /// We could not tell. Never a pass.
    Inconclusive,
    /// The backup or the objective is bad: that is what drills exist to find.
    Failed,
}

/// The verdict of one drill, with everything that it rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Judgement {
    pub verdict: Verdict,
    /// Why it is not better than this, worst first; empty only when it passed.
    pub reasons: Vec<Reason>,
    /// None where the scenario sets no RTO.
    pub rto: Option<RtoJudged>,
    /// None where the scenario sets no RPO.
    pub rpo: Option<RpoJudged>,
    /// By stop, then by check in the scenario's order.
    pub checks: Vec<Vec<CheckJudged>>,
    /// What does not change the verdict and should be known: minor checks, waived ones.
    pub findings: Vec<String>,
}

/// One thing that keeps a drill from passing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reason {
    pub verdict: Verdict,
    pub about: About,
    /// Who can change it. None where it is an objective's or a check's own judgement.
    pub blame: Option<Blame>,
    /// One line.
    pub text: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// What a reason is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum About {
    Phase(Phase),
    Rto,
    Rpo,
    MaxAge,
    /// By name.
    Check(String),
    Drill,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RtoJudged {
    pub limit: Duration,
    pub overhead: Duration,
    pub first: Phase,
    pub last: Phase,
    pub outcome: Rto,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rto {
    /// `elapsed` is measured; the declared overhead is not in it, but is judged with it.
    Met { elapsed: Duration },
    Missed { elapsed: Duration, by: Duration },
    /// The span never completed, so there is no time to compare.
    NotReached,
    /// Measured with `durability: fast`: no proof either way.
    NotComparable { elapsed: Duration },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RpoJudged {
    pub limit: Duration,
    /// The most that may have been lost. None: unknown.
    pub max: Option<Duration>,
    /// The least that was lost.
    pub min: Option<Duration>,
    pub outcome: Rpo,
    /// The formula with its numbers.
    pub formula: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rpo {
    Met,
    Missed,
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckJudged {
    pub name: String,
    pub severity: Severity,
    pub judged: Judged,
    pub elapsed: Duration,
    /// The reason of the waiver that covers it, if it is broken and waived.
    pub waived: Option<String>,
}
