//! Judges evidence against objectives and checks. Pure, total, and re-runnable on stored evidence.

mod around;
mod archiving;
mod copies;
mod intact;
mod repository;
mod rpo;
mod rpo_wal;
pub mod scope;
pub mod stops;
pub mod target;

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::blame::{Whose, blame_error, is_missing_library, is_stray_command};
use crate::check::{Answer, Check, Finding, Judged, Population, REPOSITORY, Severity};
use crate::evidence::{Asked, Evidence, PhaseOutcome, PhaseRecord};
use crate::fault::{Blame, Fault};
use crate::phase::Phase;
use crate::recipe::{Learnt, StatementError, Step};
use crate::scenario::{self, Drill};
use crate::source::{Durability, Source, archive, base_backup, drift, dump};
pub use stops::StopJudged;
pub use target::Reach;

mod promise;

/// Whether only the backup, and how it is kept, can break this check.
fn is_of_the_backup(check: &str) -> bool {
    intact::NAMES.contains(&check) || copies::NAMES.contains(&check) || check == REPOSITORY
}

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
    /// Whether recovery stopped at its target. None for backups that have no points in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Reach>,
    /// The stops of a sweep, and whether each was reached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stops: Vec<StopJudged>,
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
    /// Of a sweep, the stop that it is about, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<usize>,
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
    Met {
        elapsed: Duration,
    },
    Missed {
        elapsed: Duration,
        by: Duration,
    },
    /// The span never completed, so there is no time to compare.
    NotReached,
    /// Measured with `durability: fast`: no proof either way.
    NotComparable {
        elapsed: Duration,
    },
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
    /// It writes, and was asked of a server that only reads, at a stop of a sweep: it says nothing there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// What is broken of several, by kind and name: `index shop.orders_idx`. Empty where the check is about one thing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<String>,
}

impl CheckJudged {
    /// Of one thing, without a time of its own.
    fn new(name: &str, severity: Severity, judged: Judged) -> CheckJudged {
        CheckJudged {
            name: name.to_owned(),
            severity,
            judged,
            elapsed: Duration::ZERO,
            waived: None,
            read_only: false,
            objects: Vec::new(),
        }
    }
}

/// Everything that judging needs is in the evidence, so that it can be done again years later.
pub fn judge(evidence: &Evidence) -> Judgement {
    let Some(drill) = &evidence.asked else {
        let reason = Reason::new(Verdict::Inconclusive, About::Drill, "the log of the drill is empty");
        return Judgement {
            verdict: Verdict::Inconclusive,
            reasons: vec![reason],
            rto: None,
            rpo: None,
            target: None,
            stops: Vec::new(),
            checks: Vec::new(),
            findings: Vec::new(),
        };
    };
    let mut judging = Judging { evidence, drill, reasons: Vec::new(), findings: Vec::new() };
    judging.phases();
    judging.statement_errors();
    judging.max_age();
    let stops = judging.stops();
    let target = if stops.is_empty() { judging.target() } else { None };
    let rto = judging.rto();
    let rpo = judging.rpo();
    let mut checks = judging.checks();
    judging.scope(&mut checks);
    judging.waivers(&checks);
    judging.changed_input();
    judging.findings.extend(around::findings(evidence));
    judging.remnants();
    let Judging { mut reasons, findings, .. } = judging;
    reasons.sort_by_key(|it| std::cmp::Reverse(it.verdict));
    let verdict = overall(reasons.iter().map(|it| it.verdict).chain([Verdict::Passed]));
    Judgement { verdict, reasons, rto, rpo, target, stops, checks, findings }
}

/// The verdict of a whole run. A run of no drills proves nothing.
pub fn overall(verdicts: impl IntoIterator<Item = Verdict>) -> Verdict {
    verdicts.into_iter().max().unwrap_or(Verdict::Inconclusive)
}

/// Whether the scenario allows this error of a restore, by SQLSTATE or by a part of its message, or every restore of the
/// kind gives it.
pub fn is_allowed(drill: &Drill, step: &Step, error: &StatementError) -> bool {
    let sqlstate = error.sqlstate.as_deref();
    let by_name = |allowed: &String| sqlstate == Some(allowed) || error.message.contains(allowed.as_str());
    drill.restore.allow_errors.iter().any(by_name) || dump::is_expected_error(step, error)
}

/// What to do about errors that only the backup explains.
const ALLOW_HINT: &str =
    "Mend what made the dump so; or, if the error is known and harmless, allow it by name in `restore.allow_errors`.";

impl Reason {
    fn new(verdict: Verdict, about: About, text: impl Into<String>) -> Reason {
        Reason { verdict, about, stop: None, blame: None, text: text.into(), causes: Vec::new(), hint: None }
    }

    fn blamed(mut self, blame: Blame) -> Reason {
        self.blame = Some(blame);
        self
    }

    fn hinted(mut self, hint: impl Into<String>) -> Reason {
        self.hint = Some(hint.into());
        self
    }

    fn verdict_of(blame: Blame) -> Verdict {
        match blame {
            Blame::Backup => Verdict::Failed,
            Blame::Scenario | Blame::Host | Blame::Harness => Verdict::Inconclusive,
        }
    }

    fn from_fault(phase: Phase, fault: &Fault) -> Reason {
        Reason {
            verdict: Reason::verdict_of(fault.blame),
            about: About::Phase(phase),
            stop: None,
            blame: Some(fault.blame),
            text: format!("failed to {}", fault.message),
            causes: fault.causes.clone(),
            hint: fault.hint.clone(),
        }
    }
}

/// From which major to which a dump was moved.
#[derive(Clone, Copy)]
struct Majors {
    from: Option<u32>,
    to: u32,
}

impl Majors {
    fn of(evidence: &Evidence) -> Option<Majors> {
        let plan = evidence.plan.as_ref()?;
        let facts = evidence.survey.dump(&plan.backup.file.path)?;
        Some(Majors { from: facts.major(), to: plan.server.major })
    }
}

/// Whether the dump was moved to a lower major, as the scenario allows: what is lost by that is listed, and fails nothing.
fn lowers(evidence: &Evidence, drill: &Drill) -> bool {
    let lower = |it: Majors| it.from.is_some_and(|from| from > it.to);
    drill.restore.allow_downgrade && Majors::of(evidence).is_some_and(lower)
}

/// Whether an error only says that something is not there which another statement should have made, or is a row of a
/// COPY that failed, which psql took for a statement.
fn is_consequence(error: &StatementError) -> bool {
    let sqlstate = error.sqlstate.as_deref().unwrap_or_default();
    sqlstate.starts_with("42") || sqlstate == "3F000" || is_stray_command(&error.message)
}

/// What a move to a lower major loses.
#[derive(Default)]
struct Losses {
    listed: Vec<String>,
    total: u64,
}

impl Losses {
    const LISTED: usize = 20;

    fn add(&mut self, error: &StatementError) {
        self.total += 1;
        // Without a statement it is a row of a COPY that failed, which psql took for one.
        let Some(what) = error.entry.as_deref().or(error.statement.as_deref()) else { return };
        if self.listed.len() < Losses::LISTED {
            let what: String = what.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(80).collect();
            self.listed.push(format!("{what} ({})", error.message.lines().next().unwrap_or_default()));
        }
    }

    fn words(&self, to: u32) -> String {
        let more = self.total - self.listed.len() as u64;
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        format!("lost by the move to PostgreSQL {to}: {}{more}", self.listed.join("; "))
    }
}

struct Judging<'a> {
    evidence: &'a Evidence,
    drill: &'a Drill,
    reasons: Vec<Reason>,
    findings: Vec<String>,
}

impl Judging<'_> {
    fn phases(&mut self) {
        let evidence = self.evidence;
        for record in &evidence.phases {
            self.reasons.extend(self.phase(record));
        }
        // A log can end between two phases, too: a pass needs every phase that proves something.
        let needed = [Phase::Inspect, Phase::Provision, Phase::Ready, Phase::Validate, Phase::Teardown];
        let stopped = evidence.phases.iter().any(|it| it.outcome != PhaseOutcome::Completed);
        let missing = needed.into_iter().find(|phase| evidence.phase(*phase).is_none());
        if let Some(phase) = missing.filter(|_| !stopped && evidence.unfinished.is_none()) {
            let text = format!("the log of the drill ends before {phase}: pgdrill was killed, or is still running");
            self.reasons.push(Reason::new(Verdict::Inconclusive, About::Drill, text).blamed(Blame::Host));
        }
        if let Some(phase) = evidence.unfinished {
            let text = format!("{phase} never ended: pgdrill was killed, or is still running");
            self.reasons.push(Reason::new(Verdict::Inconclusive, About::Phase(phase), text).blamed(Blame::Host));
        }
    }

    fn phase(&self, record: &PhaseRecord) -> Option<Reason> {
        let phase = record.phase;
        let about = About::Phase(phase);
        match &record.outcome {
            PhaseOutcome::Completed => None,
            PhaseOutcome::Failed(fault) => Some(Reason::from_fault(phase, fault)),
            // A budget is our own patience: running out of it proves nothing, unless the RTO ran out too.
            PhaseOutcome::TimedOut { budget, last_seen } => {
                let verdict = if self.is_past_rto(record) { Verdict::Failed } else { Verdict::Inconclusive };
                let text = format!("{phase} was still running after its budget of {budget:?}");
                let hint = format!("See what held it up, or give it more time: `budgets: {{ {phase}: … }}`.");
                let reason = Reason::new(verdict, about, text).hinted(hint);
                let blame = (verdict == Verdict::Inconclusive).then_some(Blame::Host);
                Some(Reason { blame, causes: vec![last_seen.clone()], ..reason })
            }
            PhaseOutcome::Cancelled { last_seen } => {
                let reason = Reason::new(Verdict::Inconclusive, about, format!("{phase} was interrupted"));
                Some(Reason { causes: vec![last_seen.clone()], ..reason })
            }
        }
    }

    fn is_past_rto(&self, record: &PhaseRecord) -> bool {
        let Some(rto) = &self.drill.objectives.rto else {
            return false;
        };
        let begin = self.evidence.phases.iter().find(|it| rto.span.contains(&it.phase));
        let begin = begin.map_or(record.began, |it| it.began);
        let spent = (record.began + record.elapsed).saturating_sub(begin) + rto.overhead;
        rto.span.contains(&record.phase) && spent > rto.limit
    }

    /// Errors that pg_restore or psql went on after.
    fn statement_errors(&mut self) {
        let (mut refused, mut unlisted) = (Vec::new(), 0);
        let mut drifted: BTreeMap<&str, u64> = BTreeMap::new();
        let majors = Majors::of(self.evidence);
        let mut losses = Losses::default();
        for done in &self.evidence.done {
            for error in &done.output.errors {
                let allowed = is_allowed(self.drill, &done.step, error);
                // What the lower major does not know, and all that follows from it.
                let lost = || blame_error(error).blame == Blame::Backup || is_stray_command(&error.message);
                if !allowed && lowers(self.evidence, self.drill) && lost() {
                    losses.add(error);
                } else if !allowed {
                    refused.push((done.step.phase, error));
                } else if let Some(because) = drift::explains(error) {
                    *drifted.entry(because).or_default() += 1;
                }
            }
            unlisted += done.output.errors_total.saturating_sub(done.output.errors.len() as u64);
        }
        for (because, count) in drifted {
            let what = if count == 1 { "1 statement".to_owned() } else { format!("{count} statements") };
            self.findings.push(format!("version drift: {what} failed without a loss: {because}"));
        }
        if let (Some(majors), true) = (majors, losses.total > 0) {
            // What psql takes for statements after a COPY that failed is too much to list.
            losses.total += std::mem::take(&mut unlisted);
            self.findings.push(losses.words(majors.to));
        }
        let Some((phase, _)) = refused.first() else {
            if unlisted > 0 {
                let text = format!(
                    "{unlisted} more errors of the restore than are kept: nobody knows whether they are allowed"
                );
                let reason = Reason::new(Verdict::Inconclusive, About::Drill, text).blamed(Blame::Scenario);
                self.reasons.push(reason.hinted("Mend the cause of the errors that `restore.allow_errors` allows."));
            }
            return;
        };
        // A phase that stopped at its error has said so already.
        let stopped = self.evidence.phase(*phase).is_some_and(|it| it.outcome != PhaseOutcome::Completed);
        if stopped {
            return;
        }
        let removed = |majors: Majors| refused.iter().find_map(|(_, it)| drift::removed(it, majors.from, majors.to));
        // What failed brings more errors with it: what it would have made is not there.
        let first = |error: &StatementError| majors.and_then(|it| drift::removed(error, it.from, it.to)).is_some();
        let explained = refused.iter().all(|(_, it)| is_consequence(it) || first(it) || is_missing_library(it));
        if let Some((what, since)) = majors.and_then(removed).filter(|_| explained) {
            let text = format!("the dump uses {what}, which PostgreSQL {since} and newer do not have");
            let hint = format!(
                "Drill it with the programs of an older PostgreSQL: `postgres: {{ image: … }}`, of {} or older.",
                since - 1
            );
            let mut reason =
                Reason::new(Verdict::Inconclusive, About::Phase(*phase), text).blamed(Blame::Host).hinted(hint);
            reason.causes = refused.iter().take(5).map(|(_, error)| error.to_string()).collect();
            return self.reasons.push(reason);
        }
        // The backup is to blame only for what nothing else explains; one such error is enough.
        let library = refused.iter().find(|(_, error)| is_missing_library(error)).filter(|_| explained);
        let whose = match library {
            Some((_, error)) => Some(blame_error(error)),
            None => refused.iter().map(|(_, error)| blame_error(error)).min_by_key(|it| it.blame),
        };
        let whose = whose.unwrap_or(Whose { blame: Blame::Backup, hint: None });
        let verdict = Reason::verdict_of(whose.blame);
        let total = refused.len() as u64 + unlisted;
        let ignored = if total == 1 { "1 error was".to_owned() } else { format!("{total} errors were") };
        let mut reason = Reason::new(verdict, About::Phase(*phase), format!("{ignored} ignored by the restore"))
            .blamed(whose.blame)
            .hinted(whose.hint.unwrap_or(ALLOW_HINT));
        reason.causes = refused.iter().take(5).map(|(_, error)| error.to_string()).collect();
        self.reasons.push(reason);
    }

    /// A backup that changes while it is read proves nothing about either state.
    fn changed_input(&mut self) {
        let Some(plan) = &self.evidence.plan else {
            return;
        };
        let file = &plan.backup.file;
        let seen = self.evidence.done.iter().filter_map(|it| it.output.seen.as_ref());
        if seen.into_iter().any(|it| it.path == file.path && it != file) {
            // Whatever else was found may be true of the one, of the other, or of neither.
            for reason in self.reasons.iter_mut().filter(|it| it.verdict == Verdict::Failed) {
                reason.verdict = Verdict::Inconclusive;
                reason.blame = Some(Blame::Host);
            }
            let text = format!("{} changed while the drill was reading it", file.path);
            let reason = Reason::new(Verdict::Inconclusive, About::Drill, text).blamed(Blame::Host);
            self.reasons
                .push(reason.hinted("Drill a backup whose job has ended, or let the job rename it into place."));
        }
    }

    fn max_age(&mut self) {
        let (Some(limit), Some(start), Some(plan)) =
            (self.drill.objectives.max_age, &self.evidence.start, &self.evidence.plan)
        else {
            return;
        };
        let facts = self.evidence.survey.dump(&plan.backup.file.path);
        let created = facts.and_then(|it| it.created.as_deref());
        let zone = self.drill.source.location().timezone.as_deref();
        let Some((earliest, latest)) = created.and_then(|it| instants(it, zone)) else {
            let text = "the dump does not say when it was made, so its age is unknown";
            let reason = Reason::new(Verdict::Inconclusive, About::MaxAge, text).blamed(Blame::Scenario);
            let hint = "Leave out `max_age`, or dump in an archive format, which carries the date.";
            return self.reasons.push(reason.hinted(hint));
        };
        let age = |instant: jiff::Timestamp| Duration::try_from(start.at.duration_since(instant)).unwrap_or_default();
        if earliest > start.at {
            let text = format!("the backup says that it was made in the future: {}", created.unwrap_or_default());
            let reason = Reason::new(Verdict::Inconclusive, About::MaxAge, text).blamed(Blame::Host);
            return self.reasons.push(reason.hinted("Look at the clocks of both machines, and at `timezone`."));
        }
        let (oldest, youngest) = (age(earliest), age(latest));
        if oldest <= limit {
            return;
        }
        let shown = created.unwrap_or_default();
        let (verdict, blame, text, hint) = if youngest > limit {
            let text = format!("the backup of {shown} is older than {}", words(limit));
            (Verdict::Failed, Blame::Backup, text, "Look at the job that should have made a newer one.")
        } else {
            let text = format!("the backup of {shown} may or may not be older than {}", words(limit));
            (Verdict::Inconclusive, Blame::Scenario, text, "Dumps carry no time zone: set `timezone` on the source.")
        };
        self.reasons.push(Reason::new(verdict, About::MaxAge, text).blamed(blame).hinted(hint));
    }

    /// A drill to a target passes only if recovery stopped there.
    fn target(&mut self) -> Option<Reach> {
        let target = &self.drill.target;
        // That there was more WAL behind a gap, the server cannot know.
        if self.ended_early()
            && let Some(gap) = self.gap()
        {
            let text = format!("recovery ended before {}, at a gap in the WAL archive", target.words());
            let reason = Reason::new(Verdict::Failed, About::Phase(Phase::Recover), text).blamed(Blame::Backup);
            self.reasons.push(Reason { causes: vec![gap], ..reason });
        }
        let recovered = self.evidence.done.iter().find_map(|it| it.output.recovered.as_ref())?;
        let wal = self.evidence.done.iter().find_map(|it| it.output.wal.as_ref());
        let reach = target::reached(target, recovered, wal);
        let (verdict, blame, text, causes) = match &reach {
            Reach::Reached { .. } => return Some(reach),
            // Where the server says so itself the phase failed, which tells whose fault that is. Here only the WAL says so.
            Reach::EndedBefore { evidence } => {
                let text = format!("recovery ended before {}, whatever the server says", target.words());
                (Verdict::Inconclusive, Blame::Harness, text, evidence.clone())
            }
            Reach::WentBeyond { evidence } => {
                (Verdict::Failed, Blame::Harness, format!("recovery went beyond {}", target.words()), evidence.clone())
            }
            Reach::Unproved { because } => {
                let text = format!("nothing proves that recovery stopped at {}", target.words());
                (Verdict::Inconclusive, Blame::Harness, text, vec![because.clone()])
            }
        };
        let recovering = self.evidence.phase(Phase::Recover);
        if recovering.is_some_and(|it| it.outcome == PhaseOutcome::Completed) {
            let reason = Reason::new(verdict, About::Phase(Phase::Recover), text).blamed(blame);
            self.reasons.push(Reason { causes, ..reason });
        }
        Some(reach)
    }

    /// A sweep passes only if the server stood at each of its stops. Behind one that it did not reach it has no others.
    fn stops(&mut self) -> Vec<StopJudged> {
        let stops = stops::judged(self.evidence);
        let recovering = self.evidence.phase(Phase::Recover).map(|it| &it.outcome);
        let failed = matches!(recovering, Some(PhaseOutcome::Failed(_)));
        for (at, judged) in stops.iter().enumerate() {
            let Some(reach) = &judged.reach else { continue };
            let words = format!("{}, {}", base_backup::stop_name(at, stops.len()), judged.stop.target.words());
            let (verdict, blame, text, mut causes) = match reach {
                Reach::Reached { .. } => continue,
                Reach::EndedBefore { evidence } => {
                    let text = format!("recovery ended before {words}");
                    // Where the server could go on, it stands at another place than the WAL that was read says.
                    let blame = if failed { Blame::Backup } else { Blame::Harness };
                    (Verdict::Failed, blame, text, evidence.clone())
                }
                Reach::WentBeyond { evidence } => {
                    (Verdict::Failed, Blame::Harness, format!("recovery went beyond {words}"), evidence.clone())
                }
                Reach::Unproved { because } => {
                    let text = format!("nothing proves that recovery stopped at {words}");
                    (Verdict::Inconclusive, Blame::Harness, text, vec![because.clone()])
                }
            };
            match self.gap().filter(|_| blame == Blame::Backup) {
                Some(gap) => causes.push(format!("the WAL archive has a gap: {gap}")),
                // The phase says what went wrong, and whose fault that is.
                None if failed => continue,
                None => {}
            }
            let reason = Reason::new(verdict, About::Phase(Phase::Recover), text).blamed(blame);
            self.reasons.push(Reason { causes, stop: Some(at + 1), ..reason });
        }
        stops
    }

    fn ended_early(&self) -> bool {
        let outcome = self.evidence.phase(Phase::Recover).map(|it| &it.outcome);
        let Some(PhaseOutcome::Failed(fault)) = outcome else { return false };
        fault.causes.iter().any(|it| it.contains("recovery ended before"))
    }

    /// What is missing in the WAL archive, with more behind it.
    fn gap(&self) -> Option<String> {
        let Source::BaseBackup(source) = &self.drill.source else { return None };
        let facts = self.evidence.survey.base(&self.evidence.plan.as_ref()?.backup.file.path)?;
        let archive = self.evidence.survey.archive(source.of(facts).wal.as_ref()?)?;
        let chain = archive::chain_of(archive, facts, &self.drill.target)?.ok()?;
        chain.gap.map(|gap| archive::gap_words(archive, &gap))
    }

    fn rto(&mut self) -> Option<RtoJudged> {
        let rto = self.drill.objectives.rto.as_ref()?;
        let outcome = match (measured(rto, &self.evidence.phases), self.comparable()) {
            (None, _) => Rto::NotReached,
            (Some(elapsed), Err(_)) => Rto::NotComparable { elapsed },
            (Some(elapsed), Ok(())) => match (elapsed + rto.overhead).checked_sub(rto.limit) {
                None | Some(Duration::ZERO) => Rto::Met { elapsed },
                Some(by) => Rto::Missed { elapsed, by },
            },
        };
        let (verdict, text) = match outcome {
            Rto::Met { .. } => (Verdict::Passed, String::new()),
            Rto::Missed { by, .. } => {
                (Verdict::Failed, format!("missed by {}: {} were allowed", words(by), words(rto.limit)))
            }
            Rto::NotReached => {
                (Verdict::Inconclusive, format!("{} was never reached, so there is no recovery time", rto.span.end()))
            }
            Rto::NotComparable { .. } => {
                (Verdict::Inconclusive, self.comparable().err().unwrap_or_default().to_owned())
            }
        };
        if verdict != Verdict::Passed {
            self.reasons.push(Reason::new(verdict, About::Rto, text));
        }
        let beside = self.evidence.start.as_ref().map_or(0, |it| it.beside);
        if beside > 0 {
            let others = if beside == 1 { "another drill".to_owned() } else { format!("up to {beside} other drills") };
            self.findings.push(format!("the recovery was timed beside {others}: alone it may be shorter"));
        }
        let (first, last) = (*rto.span.start(), *rto.span.end());
        Some(RtoJudged { limit: rto.limit, overhead: rto.overhead, first, last, outcome })
    }

    /// Whether a time that was measured here can be compared with an RTO at all.
    fn comparable(&self) -> Result<(), &'static str> {
        let server = self.evidence.plan.as_ref().map(|it| &it.server);
        match self.drill.durability {
            Durability::Fast => Err("measured with `durability: fast`: a time without fsync proves no RTO"),
            Durability::Representative if server.is_some_and(|it| it.filesystem.as_deref() == Some("tmpfs")) => {
                Err("measured on a tmpfs: a time without a disk proves no RTO (set TMPDIR to a directory on a disk)")
            }
            Durability::Representative => Ok(()),
        }
    }

    fn checks(&mut self) -> Vec<Vec<CheckJudged>> {
        let evidence = self.evidence;
        let stops = evidence.plan.as_ref().map_or(0, |it| it.stops.len());
        let judged: Vec<Vec<CheckJudged>> = (0..stops).map(|stop| self.checks_at(stop)).collect();
        let looked = |it: &CheckJudged| !matches!(it.judged.finding, Finding::Unknown { .. });
        let examined = judged.iter().flatten().any(|it| looked(it) || it.judged.population.examined > 0);
        let validated = evidence.phase(Phase::Validate).is_some_and(|it| it.outcome == PhaseOutcome::Completed);
        // Where the host kept every check from its answer, that is the reason, and no lack of checks.
        let answers = || evidence.answers.iter().flatten();
        let prevented = answers().count() > 0 && answers().all(by_the_host);
        if validated && !examined && !prevented {
            let text = "no check examined anything: a restore without a look at its contents proves little";
            let reason = Reason::new(Verdict::Inconclusive, About::Drill, text).blamed(Blame::Scenario);
            self.reasons.push(reason.hinted("Add `checks:`; `pgdrill init PATH` proposes some for this backup."));
        }
        judged
    }

    fn checks_at(&mut self, stop: usize) -> Vec<CheckJudged> {
        let drill = self.drill;
        let today = self.today();
        let asked = self.evidence.answers.get(stop);
        let validating = self.evidence.phase(Phase::Validate).is_some();
        let database = self.evidence.plan.as_ref().map_or("", |it| it.database.as_str());
        let mut all = Vec::new();
        for (index, check) in drill.checks.iter().enumerate() {
            let asked = asked.and_then(|it| it.get(index));
            let judged = match asked {
                Some(asked) if !asked.answers.is_empty() => check.judge(&asked.answers),
                Some(_) | None => {
                    let finding = Finding::Unknown { because: "the drill ended before it was asked".to_owned() };
                    Judged { finding, population: Population::default() }
                }
            };
            let without = asked.and_then(|asked| {
                let doubted = self.evidence.doubts_indexes(check.database(database), asked.indexes.as_deref());
                without_indexes(check, asked, &judged, doubted)
            });
            let by_order = matches!(&without, Some(Judged { finding: Finding::Unknown { .. }, .. }));
            let judged = without.unwrap_or(judged);
            let applies = !self.is_standby(stop) || !asked.is_some_and(|it| needs_writing(&it.answers));
            let judged = if applies { judged } else { not_at_a_standby() };
            let elapsed = asked.map_or(Duration::ZERO, |it| it.elapsed);
            let (name, severity) = (check.name.clone(), check.severity);
            let objects = asked.map(|it| check.objects(&it.answers)).unwrap_or_default();
            let mut weighed =
                CheckJudged { name, severity, judged, elapsed, waived: None, read_only: !applies, objects };
            weighed.waived = waived(drill, &weighed, today);
            // Where the drill ended before, that is the reason, and not each check that was not asked.
            if applies && (validating || asked.is_some()) {
                self.weigh(&weighed, stop, by_order || asked.is_some_and(by_the_host));
            }
            all.push(weighed);
        }
        let prevented = asked.is_some_and(|it| it.iter().skip(drill.checks.len()).any(by_the_host));
        for mut promise in promise::judged(self.evidence, stop) {
            promise.waived = waived(drill, &promise, today);
            if validating {
                self.weigh(&promise, stop, prevented);
            }
            all.push(promise);
        }
        all
    }

    /// `by_the_host`: what is unknown is so because of the machine.
    fn weigh(&mut self, check: &CheckJudged, stop: usize, by_the_host: bool) {
        let sweep = self.evidence.plan.as_ref().map_or(0, |it| it.sweep.len());
        let stop = (sweep > 0 && self.is_asked(check)).then_some(stop);
        let at = stop.map(|it| format!("at {}: ", base_backup::stop_name(it, sweep))).unwrap_or_default();
        let (verdict, text) = match &check.judged.finding {
            Finding::Held { .. } => return,
            Finding::Broken { expected, observed } => {
                (Verdict::Failed, format!("{at}expected {expected}, found {observed}"))
            }
            Finding::Unknown { because } => (Verdict::Inconclusive, format!("{at}{because}")),
        };
        // Waived ones stand in `checks`, with the waiver's reason.
        if check.waived.is_some() {
            return;
        }
        match check.severity {
            Severity::Minor => self.findings.push(format!("check “{}”: {text}", check.name)),
            Severity::Major | Severity::Critical => {
                let reason = Reason::new(verdict, About::Check(check.name.clone()), text);
                let blame = match verdict {
                    Verdict::Inconclusive if by_the_host => Some(Blame::Host),
                    Verdict::Failed if is_of_the_backup(&check.name) => Some(Blame::Backup),
                    Verdict::Passed | Verdict::Inconclusive | Verdict::Failed => None,
                };
                self.reasons.push(Reason { blame, stop: stop.map(|it| it + 1), ..reason });
            }
        }
    }

    /// Whether it is one of the scenario's checks, which are asked at every stop.
    fn is_asked(&self, check: &CheckJudged) -> bool {
        self.drill.checks.iter().any(|it| it.name == check.name)
    }

    /// Whether the server at this stop of a sweep only reads.
    fn is_standby(&self, stop: usize) -> bool {
        self.evidence.plan.as_ref().is_some_and(|it| stop + 1 < it.sweep.len())
    }

    /// What the backup claims to bring back, and holds or not; and whether its bytes are as they were written.
    fn scope(&mut self, checks: &mut Vec<Vec<CheckJudged>>) {
        let today = self.today();
        let scope::Scoped { checks: judged, findings } = scope::judged(self.evidence, self.drill);
        let intact = intact::judged(self.evidence);
        let archived = archiving::judged(self.evidence, self.drill);
        for (check, by_the_host) in copies::judged(self.evidence, self.drill) {
            self.built_in(check, by_the_host, today, checks);
        }
        if let Some((check, by_the_host)) = repository::judged(self.evidence) {
            self.built_in(check, by_the_host, today, checks);
        }
        self.findings.extend(findings.into_iter().chain(intact.findings).chain(archived.findings));
        for check in judged.into_iter().chain(intact.checks).chain(archived.check) {
            self.built_in(check, false, today, checks);
        }
    }

    /// A check that nobody wrote. The backup is one, whatever the stops.
    fn built_in(
        &mut self,
        mut check: CheckJudged,
        by_the_host: bool,
        today: Option<jiff::civil::Date>,
        checks: &mut Vec<Vec<CheckJudged>>,
    ) {
        check.waived = waived(self.drill, &check, today);
        self.weigh(&check, 0, by_the_host);
        match checks.first_mut() {
            Some(first) => first.push(check),
            None => checks.push(vec![check]),
        }
    }

    fn rpo(&mut self) -> Option<RpoJudged> {
        let (judged, reason) = rpo::judge(self.evidence, self.drill)?;
        self.reasons.extend(reason);
        Some(judged)
    }

    fn today(&self) -> Option<jiff::civil::Date> {
        self.evidence.start.as_ref().map(|it| it.at.to_zoned(jiff::tz::TimeZone::UTC).date())
    }

    /// What an auditor must know of waivers: those that ended, and those that keep a period open.
    fn waivers(&mut self, checks: &[Vec<CheckJudged>]) {
        let today = self.today();
        for check in checks.iter().flatten() {
            if check.waived.is_some() && check.severity == Severity::Critical {
                let text = format!("check “{}” is critical and waived: this drill closes no period", check.name);
                self.findings.push(text);
            }
            let broken = matches!(check.judged.finding, Finding::Broken { .. }) && check.waived.is_none();
            let ended = |it: &&scenario::Waiver| it.check == check.name && today.is_some_and(|day| day > it.until);
            for waiver in self.drill.waivers.iter().filter(ended).filter(|_| broken) {
                let text = format!("the waiver of “{}” ended on {}: {}", check.name, waiver.until, waiver.reason);
                self.findings.push(text);
            }
        }
    }

    fn remnants(&mut self) {
        if self.evidence.remnants.is_empty() {
            return;
        }
        let mut reason =
            Reason::new(Verdict::Inconclusive, About::Phase(Phase::Teardown), "could not remove what the drill made");
        reason.causes.clone_from(&self.evidence.remnants);
        self.reasons.push(reason.blamed(Blame::Host).hinted("Run `pgdrill clean`."));
    }
}

/// The reasons of the waivers that cover all that is broken of a check.
fn waived(drill: &Drill, check: &CheckJudged, today: Option<jiff::civil::Date>) -> Option<String> {
    let Finding::Broken { observed, .. } = &check.judged.finding else { return None };
    let holds = |it: &&scenario::Waiver| it.check == check.name && today.is_some_and(|day| day <= it.until);
    let waivers: Vec<&scenario::Waiver> = drill.waivers.iter().filter(holds).collect();
    let covering: Vec<&scenario::Waiver> = if check.objects.is_empty() {
        waivers.into_iter().filter(|it| covers(it, observed)).take(1).collect()
    } else {
        let named = |object: &String| waivers.iter().copied().find(|it| names(it, object));
        check.objects.iter().map(named).collect::<Option<_>>()?
    };
    let mut reasons: Vec<String> = covering.iter().map(|it| format!("{} (until {})", it.reason, it.until)).collect();
    reasons.dedup();
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

/// Whether a waiver means this object: `table shop.order items`, by its name alone or with its kind, with quotes or without.
fn names(waiver: &scenario::Waiver, object: &str) -> bool {
    let Some(named) = &waiver.object else { return true };
    let (named, object) = (named.replace('"', ""), object.replace('"', ""));
    object == named || object.split_once(' ').is_some_and(|(_, name)| name == named)
}

/// Whether the machine kept a check from its answer: the server was gone, or it ran out of something.
fn by_the_host(asked: &Asked) -> bool {
    asked.answers.iter().any(|it| match it {
        Answer::Silent { .. } => true,
        Answer::Refused { sqlstate, .. } => {
            // A statement that took too long was perhaps only a long one.
            let class = sqlstate.get(..2).unwrap_or_default();
            matches!(class, "08" | "53" | "57" | "58") && sqlstate != "57014"
        }
        Answer::Rows(_) => false,
    })
}

/// Whether a server refused to answer because it is in recovery: `PreventCommandDuringRecovery` in PostgreSQL's utility.c, and
/// what unlogged tables and serializable transactions are told.
fn needs_writing(answers: &[Answer]) -> bool {
    answers.iter().any(|it| match it {
        Answer::Refused { sqlstate, message, .. } => match sqlstate.as_str() {
            "25006" => true,
            "0A000" | "55000" => message.contains("recovery") || message.contains("hot standby"),
            _ => false,
        },
        Answer::Rows(_) | Answer::Silent { .. } => false,
    })
}

/// Of a check that is broken where an index was used, and holds where none was: it is the index that is damaged. `doubted`: or it is
/// right, and this host alone takes it to be in another order; None: nobody could look whether that may be.
fn without_indexes(check: &Check, asked: &Asked, judged: &Judged, doubted: Option<bool>) -> Option<Judged> {
    let Finding::Broken { expected, observed } = &judged.finding else { return None };
    let unknown = |because: String| Finding::Unknown { because: format!("expected {expected}, found {because}") };
    let Judged { finding: again, population } = check.judge(&asked.again);
    let finding = match (again, doubted) {
        (Finding::Held { observed: without }, Some(false)) => Finding::Broken {
            expected: expected.clone(),
            observed: format!("{observed} by an index, and {without} without: an index is damaged"),
        },
        (Finding::Held { observed: without }, Some(true) | None) => unknown(format!(
            "{observed} by an index, and {without} without: the rows are right, and this host may take the index to be in another \
             order; set `postgres.image` to one that orders texts as the backup's own machine does"
        )),
        // It writes: so it is not asked twice.
        (Finding::Unknown { .. }, Some(true)) if !needs_writing(&asked.again) => unknown(format!(
            "{observed} by an index that this host may take to be in another order, and got no answer without it"
        )),
        (Finding::Broken { .. } | Finding::Unknown { .. }, _) => return None,
    };
    Some(Judged { finding, population })
}

/// Of a check that [`needs_writing`].
fn not_at_a_standby() -> Judged {
    let because = "it writes, and the server only reads at this stop: it is asked at the last one".to_owned();
    Judged { finding: Finding::Unknown { because }, population: Population::default() }
}

/// A waiver that names an object covers a check that lists what is missing only if nothing else is missing.
fn covers(waiver: &scenario::Waiver, observed: &str) -> bool {
    let Some(object) = &waiver.object else { return true };
    match observed.strip_prefix("missing: ") {
        Some(missing) => missing.split_once(' ').is_some_and(|(_, name)| name == object),
        None => true,
    }
}

/// From the start of the span's first phase to the end of its last, gaps included; None unless it ended.
///
/// A sum of phase times would hide the pauses between them, and those are part of an outage.
fn measured(rto: &scenario::Rto, phases: &[PhaseRecord]) -> Option<Duration> {
    let begin = phases.iter().find(|it| rto.span.contains(&it.phase))?;
    // Not every backup goes through every phase: a dump has nothing to recover. Then the one before it ends the span.
    let gone_beyond = phases.iter().any(|it| it.phase > *rto.span.end() && it.phase < Phase::Teardown);
    let end = phases.iter().rfind(|it| rto.span.contains(&it.phase))?;
    if end.outcome != PhaseOutcome::Completed || (end.phase != *rto.span.end() && !gone_beyond) {
        return None;
    }
    Some((end.began + end.elapsed).saturating_sub(begin.began))
}

/// The earliest and the latest instant that a zone-less date can mean: one with a zone, 26 hours apart without.
fn instants(created: &str, zone: Option<&str>) -> Option<(jiff::Timestamp, jiff::Timestamp)> {
    let civil: jiff::civil::DateTime = created.replace(' ', "T").parse().ok()?;
    if let Some(zone) = zone {
        let instant = civil.in_tz(zone).ok()?.timestamp();
        return Some((instant, instant));
    }
    let at = |hours: i8| civil.to_zoned(jiff::tz::Offset::constant(hours).to_time_zone()).ok().map(|it| it.timestamp());
    Some((at(14)?, at(-12)?))
}

/// `1h 30m`, `6.9s`: as one would write it in a scenario, without a precision that means nothing.
fn words(duration: Duration) -> String {
    let unit = if duration < Duration::from_secs(60) { 100 } else { 1000 };
    let millis = duration.as_millis().next_multiple_of(unit);
    let rounded = jiff::SignedDuration::from_millis(i64::try_from(millis).unwrap_or(i64::MAX));
    if duration < Duration::from_secs(60) { format!("{:.1}s", rounded.as_secs_f64()) } else { format!("{rounded:#}") }
}

/// The machine that the drill ran on, for reports.
pub fn host(evidence: &Evidence) -> Option<&crate::recipe::HostFacts> {
    evidence.survey.0.iter().find_map(|(_, learnt)| match learnt {
        Learnt::Host(host) => Some(host),
        Learnt::Files(_)
        | Learnt::Dump(_)
        | Learnt::Base(_)
        | Learnt::Bases(_)
        | Learnt::Archive(_)
        | Learnt::Window(_)
        | Learnt::Stops(_)
        | Learnt::Searched(_)
        | Learnt::Headers(_)
        | Learnt::Text(_)
        | Learnt::Server(_)
        | Learnt::NoServer { .. } => None,
    })
}

/// Whether `ready:` was answered with a true or non-zero value.
pub fn is_ready(answer: &Answer) -> bool {
    match answer {
        Answer::Rows(table) => {
            let value = table.rows.first().and_then(|row| row.first()).cloned().flatten();
            value.is_some_and(|it| !matches!(it.as_str(), "" | "f" | "false") && it.parse() != Ok(0.0_f64))
        }
        Answer::Refused { .. } | Answer::Silent { .. } => false,
    }
}
