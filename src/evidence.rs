//! What was seen during one drill. Plain data: no I/O, no judgement.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check::Answer;
use crate::check::promise::Promise;
use crate::fault::Fault;
use crate::phase::Phase;
use crate::plan::Plan;
use crate::recipe::{Learnt, Output, Question, Step, Survey};
use crate::scenario::Drill;
use crate::source::Roles;

/// Bumped when a field changes its meaning or goes away; fields may be added at any time.
pub const SCHEMA: u32 = 1;

/// One thing that happened. The event log on disk has one on each line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    Asked {
        drill: Box<Drill>,
        start: Box<Start>,
    },
    Learnt(Question, Learnt),
    Planned(Box<Plan>),
    Began(Phase),
    Did {
        step: Box<Step>,
        output: Box<Output>,
        elapsed: Duration,
    },
    Observed(Vec<Guarantee>),
    Answered {
        stop: usize,
        check: usize,
        answer: Answer,
        elapsed: Duration,
    },
    /// Of a check that was broken where files were restored: without any index.
    AskedAgain {
        stop: usize,
        check: usize,
        answer: Answer,
        elapsed: Duration,
    },
    /// The indexes that the server uses for such a check, `schema.name`.
    Used {
        stop: usize,
        check: usize,
        indexes: Vec<String>,
    },
    /// What the server said to `ready:`, the last time that it was asked.
    Readied(Answer),
    Ended(PhaseRecord),
    /// The first error in the server's own log, and where the log lies.
    Logged(ServerLog),
    /// Whether the sandbox was left up on purpose.
    Kept(Kept),
    /// What was asked of object stores.
    Fetched(Fetched),
    /// Things that we made and could not remove.
    Left(Vec<String>),
}

/// What became of the wish to leave a sandbox up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// It stands, isolated as it was, and is removed then, UTC.
    Until(#[schemars(with = "String")] jiff::Timestamp),
    /// It was released, as it could not be kept.
    Not { because: Fault },
}

/// What was asked of object stores, by the kinds of requests that they charge for, and what they sent. Repetitions count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fetched {
    pub get: u64,
    pub head: u64,
    pub list: u64,
    /// For credentials.
    pub other: u64,
    /// Of objects, as stored.
    pub bytes: u64,
    /// Requests that failed in a way that may pass, and were made again, as long as there was hope.
    pub failed: u64,
    /// How the last of those failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Fetched {
    pub const fn requests(&self) -> u64 {
        self.get + self.head + self.list + self.other
    }
}

/// When and with what a drill began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Start {
    pub run: String,
    pub drill: String,
    /// Wall clock, UTC: a label. Lengths are measured on the monotonic clock.
    #[schemars(with = "String")]
    pub at: jiff::Timestamp,
    pub pgdrill: String,
    /// How many other drills of the run may have been at work at the same time.
    #[serde(default, skip_serializing_if = "is_alone")]
    pub beside: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_alone(beside: &usize) -> bool {
    *beside == 0
}

/// Everything that was observed during one drill: a fold of its events, so a log that was cut short by SIGKILL still
/// gives the evidence up to there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    pub schema: u32,
    pub start: Option<Start>,
    /// What was asked for, so that evidence can be judged again without the scenario file.
    pub asked: Option<Drill>,
    pub survey: Survey,
    /// None where the survey already showed that no plan can work.
    pub plan: Option<Plan>,
    pub phases: Vec<PhaseRecord>,
    pub done: Vec<Done>,
    pub guarantees: Vec<Guarantee>,
    pub readied: Option<Answer>,
    /// By stop, then by check, then in the order asked.
    pub answers: Vec<Vec<Asked>>,
    pub log: Option<ServerLog>,
    /// None: nobody wished it to be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
    /// None: no object store was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetched: Option<Fetched>,
    pub remnants: Vec<String>,
    /// The phase that was running when the log ended.
    pub unfinished: Option<Phase>,
}

/// A step that was taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Done {
    pub step: Step,
    pub output: Output,
    pub elapsed: Duration,
}

/// The answers that one check got at one stop.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Asked {
    pub answers: Vec<Answer>,
    /// Where it was asked again: what the server said without using an index.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub again: Vec<Answer>,
    /// The indexes, `schema.name`, of which it holds without them. None: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub indexes: Option<Vec<String>>,
    pub elapsed: Duration,
}

/// One promise about isolation, as it was found and not as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Guarantee {
    /// `no network`, `no published port`, `capabilities dropped` …
    pub name: String,
    pub held: Held,
    /// What was seen.
    pub seen: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// The kernel holds it.
    Enforced,
    /// We looked, and would have noticed.
    Watched,
    Absent,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServerLog {
    /// The first line of ERROR, FATAL or PANIC severity that no statement's own record explains.
    pub first_error: Option<String>,
    /// Where the log was kept, relative to the run's directory.
    pub path: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PhaseRecord {
    pub phase: Phase,
    /// From the start of the drill, on the monotonic clock.
    pub began: Duration,
    pub elapsed: Duration,
    pub outcome: PhaseOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PhaseOutcome {
    Completed,
    Failed(Fault),
    TimedOut { budget: Duration, last_seen: String },
    Cancelled { last_seen: String },
}

impl Evidence {
    pub fn from_events(events: impl IntoIterator<Item = Event>) -> Evidence {
        let mut evidence = Evidence { schema: SCHEMA, ..Evidence::default() };
        for event in events {
            evidence.add(event);
        }
        evidence
    }

    fn asked_at(&mut self, stop: usize, check: usize) -> &mut Asked {
        if self.answers.len() <= stop {
            self.answers.resize(stop + 1, Vec::new());
        }
        let stop = &mut self.answers[stop];
        if stop.len() <= check {
            stop.resize(check + 1, Asked::default());
        }
        &mut stop[check]
    }

    /// Whether one of these indexes of a database may be wrong for no other reason than this host; of all, where they are not known.
    /// None: nobody could look.
    pub fn doubts_indexes(&self, database: &str, indexes: Option<&[String]>) -> Option<bool> {
        self.done.iter().find_map(|it| it.output.around.as_ref())?.doubts(database, indexes)
    }

    pub fn add(&mut self, event: Event) {
        match event {
            Event::Asked { drill, start } => {
                self.asked = Some(*drill);
                self.start = Some(*start);
            }
            Event::Learnt(question, learnt) => self.survey.0.push((question, learnt)),
            Event::Planned(plan) => self.plan = Some(*plan),
            Event::Began(phase) => self.unfinished = Some(phase),
            Event::Did { step, output, elapsed } => self.done.push(Done { step: *step, output: *output, elapsed }),
            Event::Observed(guarantees) => self.guarantees = guarantees,
            Event::Readied(answer) => self.readied = Some(answer),
            Event::Answered { stop, check, answer, elapsed } => {
                let asked = self.asked_at(stop, check);
                asked.answers.push(answer);
                asked.elapsed += elapsed;
            }
            Event::AskedAgain { stop, check, answer, elapsed } => {
                let asked = self.asked_at(stop, check);
                asked.again.push(answer);
                asked.elapsed += elapsed;
            }
            Event::Used { stop, check, indexes } => self.asked_at(stop, check).indexes = Some(indexes),
            Event::Ended(record) => {
                self.unfinished = None;
                self.phases.push(record);
            }
            Event::Logged(log) => self.log = Some(log),
            Event::Kept(kept) => self.kept = Some(kept),
            Event::Fetched(fetched) => self.fetched = Some(fetched),
            Event::Left(remnants) => self.remnants = remnants,
        }
    }

    /// What the dump promises, for asking and for judging. None where nothing is known of that.
    pub fn promise(&self) -> Option<Promise<'_>> {
        let (drill, plan) = (self.asked.as_ref()?, self.plan.as_ref()?);
        let facts = self.survey.dump(&plan.backup.file.path)?;
        let promised = facts.contents.promised.as_ref().filter(|_| plan.promise)?;
        let reads = |it: &&Done| it.step.action.reads() == Some(plan.backup.file.path.as_str());
        let errors = self.done.iter().flat_map(|it| &it.output.errors);
        let refusals = errors.map(|it| {
            let parts = [it.entry.as_deref(), it.statement.as_deref(), Some(it.message.as_str())];
            parts.into_iter().flatten().collect::<Vec<_>>().join("\n")
        });
        Some(Promise {
            contents: &facts.contents,
            promised,
            counted: self.done.iter().filter(reads).find_map(|it| it.output.counted.as_ref()),
            is_dump: facts.format.is_archive() || facts.end_marker.is_some(),
            is_text: !facts.format.is_archive(),
            database: &plan.database,
            with_owners: drill.restore.roles != Some(Roles::None),
            from_major: facts.major(),
            refusals: refusals.collect(),
            more_refusals: self.done.iter().any(|it| it.output.errors_total > it.output.errors.len() as u64),
            after: drill.restore.after.is_some(),
        })
    }

    pub fn phase(&self, phase: Phase) -> Option<&PhaseRecord> {
        self.phases.iter().find(|it| it.phase == phase)
    }
}
