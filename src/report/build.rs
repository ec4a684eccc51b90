//! From evidence and judgements to a report: selects and arranges, judges nothing.

use std::time::Duration;

use super::model::{
    BackupReport, CheckReport, CheckStatus, Counts, DrillReport, HostReport, KeptReport, LogReport, MaxAgeReport,
    NotesReport, PhaseReport, PhaseStatus, Report, RestoreError, RestoreErrors, RpoReport, RtoOutcome, RtoReport,
    RunInfo, RuntimeReport, StepReport, StopReport, TargetOutcome, TargetReport,
};
use super::words::{duration, instant, one_line, seconds};
use super::{Drilled, SCHEMA};
use crate::check::{Check, Finding};
use crate::evidence::{Done, Evidence, Kept, PhaseOutcome, PhaseRecord};
use crate::fault::Fault;
use crate::format::base::{BaseFacts, BaseLayout};
use crate::format::{Compression, DumpFacts};
use crate::phase::Phase;
use crate::plan::{NoteKind, past};
use crate::recipe::{FileSeen, HostFacts, Learnt, Question, ServerFacts};
use crate::target::Target;
use crate::verdict::scope::claimed;
use crate::verdict::{CheckJudged, Judgement, Reach, Rpo, RpoJudged, Rto, RtoJudged, StopJudged, Verdict};

/// Standard error of a failed step is kept in the report up to this many bytes; the evidence has more.
const STDERR_LIMIT: usize = 4096;

impl Report {
    /// `drills` in the order in which they were asked for; their evidence as read back from its file.
    pub fn new(run: RunInfo, drills: Vec<Drilled>) -> Report {
        let drills: Vec<DrillReport> = drills.into_iter().map(DrillReport::new).collect();
        let with = |verdict| drills.iter().filter(|it| it.verdict == verdict).count();
        let counts = Counts {
            drills: drills.len(),
            passed: with(Verdict::Passed),
            inconclusive: with(Verdict::Inconclusive),
            failed: with(Verdict::Failed),
        };
        let verdict = drills.iter().map(|it| it.verdict).max().unwrap_or(Verdict::Inconclusive);
        Report { schema: SCHEMA, run, verdict, counts, drills }
    }
}

impl DrillReport {
    fn new(drilled: Drilled) -> DrillReport {
        let Drilled { evidence, judgement, file } = drilled;
        let asked = evidence.asked.as_ref();
        let server_log =
            evidence.log.as_ref().map(|it| LogReport { first_error: it.first_error.clone(), path: it.path.clone() });
        DrillReport {
            name: asked.map_or_else(|| "(unknown drill)".to_owned(), |it| it.name.clone()),
            tags: asked.map(|it| it.tags.clone()).unwrap_or_default(),
            file: asked.map(|it| it.file.clone()),
            line: asked.and_then(|it| it.line),
            verdict: judgement.verdict,
            evidence: file,
            started: evidence.start.as_ref().map(|it| it.at),
            elapsed_seconds: seconds(evidence.phases.iter().map(|it| it.began + it.elapsed).max().unwrap_or_default()),
            scope: asked.map(|it| {
                claimed(it, evidence.plan.as_ref().and_then(|it| evidence.survey.dump(&it.backup.file.path)))
            }),
            durability: asked.map(|it| it.durability),
            backup: backup(&evidence),
            source: asked.map(|it| it.source.kind().to_owned()),
            pattern: asked.map(|it| it.source.location().path.clone()),
            chosen: evidence.plan.as_ref().and_then(|it| it.backup.why.clone()),
            passed_over: evidence.plan.as_ref().map(|it| it.backup.passed_over.clone()).unwrap_or_default(),
            runtime: runtime(&evidence),
            host: host(&evidence),
            phases: phases(&evidence),
            not_reached: not_reached(&evidence),
            rto: judgement.rto.as_ref().map(rto),
            rpo: judgement.rpo.as_ref().map(rpo),
            target: asked.zip(judgement.target.as_ref()).map(|(drill, reach)| target(&drill.target, reach)),
            stops: judgement.stops.iter().enumerate().map(stop).collect(),
            max_age: asked
                .and_then(|it| it.objectives.max_age)
                .map(|limit| MaxAgeReport { limit_seconds: seconds(limit) }),
            checks: checks(&evidence, &judgement),
            restore_errors: restore_errors(&evidence),
            notes: notes(&evidence, judgement.findings),
            reasons: judgement.reasons,
            kept: kept(&evidence),
            fetched: evidence.fetched,
            guarantees: evidence.guarantees,
            server_log: server_log.unwrap_or_default(),
            remnants: evidence.remnants,
        }
    }
}

fn kept(evidence: &Evidence) -> Option<KeptReport> {
    let (Kept::Until(until), start) = (evidence.kept.as_ref()?, evidence.start.as_ref()?) else { return None };
    // The sandbox's own name: two drills of a run, or of two runs, never share it.
    let name = &start.drill;
    Some(KeptReport {
        until: *until,
        open: format!("pgdrill shell {name}"),
        remove: format!("pgdrill clean --run {name}"),
    })
}

/// The planned backup; without a plan, the file that the survey read, or the only one that it saw.
fn backup(evidence: &Evidence) -> Option<BackupReport> {
    let file = match &evidence.plan {
        Some(plan) => &plan.backup.file,
        None => surveyed_file(evidence)?,
    };
    let sha256 = evidence.done.iter().filter(|it| reads(it, &file.path)).find_map(|it| it.output.sha256.clone());
    let (facts, base) = (evidence.survey.dump(&file.path), evidence.survey.base(&file.path));
    Some(BackupReport {
        path: file.path.clone(),
        bytes: file.bytes,
        modified: instant(file.modified).map(|it| it.to_string()),
        sha256,
        format: facts.map(|it| it.format.name().to_owned()).or(base.map(base_format)),
        compression: facts.and_then(compression).or(base.and_then(base_compression)),
        archive_version: facts.and_then(|it| it.archive_version).map(|it| format!("{}.{}", it.major, it.minor)),
        server_version: facts.and_then(|it| it.server_version.clone()).or(base.map(|it| it.major.to_string())),
        dump_version: facts.and_then(|it| it.dump_version.clone()),
        database: facts.and_then(|it| it.database.clone()),
        created: facts.and_then(|it| it.created.clone()),
        timezone: evidence.asked.as_ref().and_then(|it| it.source.location().timezone.clone()),
        tables: facts.map_or(0, |it| it.contents.tables.len()),
        extensions: facts
            .map(|it| it.contents.extensions.iter().map(|it| it.name.clone()).collect())
            .unwrap_or_default(),
    })
}

/// `base backup in tar format, incremental`
fn base_format(facts: &BaseFacts) -> String {
    let layout = match facts.layout {
        BaseLayout::Plain => "base backup, a data directory",
        BaseLayout::Tar { .. } => "base backup in tar format",
        BaseLayout::WalG { .. } => "backup of WAL-G",
        BaseLayout::PgBackRest { .. } => "backup of pgBackRest",
    };
    let incremental = facts.label.as_ref().is_some_and(|it| it.after.is_some());
    if incremental { format!("{layout}, incremental") } else { layout.to_owned() }
}

fn base_compression(facts: &BaseFacts) -> Option<String> {
    if let BaseLayout::PgBackRest { compression, .. } = &facts.layout {
        return Some(compression.name().to_owned());
    }
    facts.members().first().map(|it| it.compression.name().to_owned())
}

fn surveyed_file(evidence: &Evidence) -> Option<&FileSeen> {
    let files = evidence.survey.files(&evidence.asked.as_ref()?.source.location().path)?;
    match files {
        [only] => Some(only),
        _ => files.iter().find(|it| evidence.survey.dump(&it.path).is_some()),
    }
}

fn reads(done: &Done, path: &str) -> bool {
    done.step.action.reads() == Some(path)
}

fn compression(facts: &DumpFacts) -> Option<String> {
    if facts.wrapped == Compression::None {
        return facts.archive_compression.clone();
    }
    Some(facts.wrapped.name().to_owned())
}

fn runtime(evidence: &Evidence) -> Option<RuntimeReport> {
    if let Some(plan) = &evidence.plan {
        return Some(runtime_of(&plan.server));
    }
    evidence.survey.0.iter().rev().find_map(|(_, learnt)| match learnt {
        Learnt::Server(server) => Some(runtime_of(server)),
        Learnt::NoServer { reasons } => Some(RuntimeReport {
            kind: None,
            version: None,
            image: None,
            user: None,
            filesystem: None,
            because: None,
            passed_over: reasons.iter().map(Fault::line).collect(),
            tools: std::collections::BTreeMap::new(),
        }),
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
        | Learnt::Host(_) => None,
    })
}

fn runtime_of(server: &ServerFacts) -> RuntimeReport {
    RuntimeReport {
        kind: Some(server.runtime),
        version: Some(server.version.clone()),
        image: server.image.clone(),
        user: Some(server.user.clone()),
        filesystem: server.filesystem.clone(),
        because: Some(server.because.clone()),
        passed_over: server.passed_over.iter().map(Fault::line).collect(),
        tools: server.tools.clone(),
    }
}

fn host(evidence: &Evidence) -> Option<HostReport> {
    let Learnt::Host(host) = evidence.survey.answer(&Question::Host)? else { return None };
    let HostFacts { hostname, os, kernel, architecture, cpus, memory_bytes, fsync_micros } = host.clone();
    Some(HostReport { hostname, os, kernel, architecture, cpus, memory_bytes, fsync_micros })
}

fn phases(evidence: &Evidence) -> Vec<PhaseReport> {
    let mut phases: Vec<PhaseReport> = evidence.phases.iter().map(|it| phase(it, &evidence.done)).collect();
    if let Some(unfinished) = evidence.unfinished {
        let began = evidence.phases.iter().map(|it| it.began + it.elapsed).max().unwrap_or_default();
        phases.push(PhaseReport {
            phase: unfinished,
            began_seconds: seconds(began),
            elapsed_seconds: seconds(elapsed_of_steps(unfinished, &evidence.done)),
            status: PhaseStatus::Unfinished,
            said: Some("the record ends here: pgdrill was killed, or the machine went down".to_owned()),
            blame: None,
            causes: Vec::new(),
            hint: None,
            steps: steps(unfinished, &evidence.done),
        });
    }
    phases
}

fn phase(record: &PhaseRecord, done: &[Done]) -> PhaseReport {
    let (status, said, fault) = match &record.outcome {
        PhaseOutcome::Completed => (PhaseStatus::Completed, None, None),
        PhaseOutcome::Failed(fault) => (PhaseStatus::Failed, Some(fault.line()), Some(fault)),
        PhaseOutcome::TimedOut { budget, last_seen } => {
            let said = format!("its budget of {} ran out; last seen: {last_seen}", duration(*budget));
            (PhaseStatus::TimedOut, Some(said), None)
        }
        PhaseOutcome::Cancelled { last_seen } => {
            (PhaseStatus::Cancelled, Some(format!("cancelled; last seen: {last_seen}")), None)
        }
    };
    PhaseReport {
        phase: record.phase,
        began_seconds: seconds(record.began),
        elapsed_seconds: seconds(record.elapsed),
        status,
        said: said.map(|it| one_line(&it)),
        blame: fault.map(|it| it.blame),
        causes: fault.map(|it| it.causes.clone()).unwrap_or_default(),
        hint: fault.and_then(|it| it.hint.clone()),
        steps: steps(record.phase, done),
    }
}

fn elapsed_of_steps(phase: Phase, done: &[Done]) -> Duration {
    done.iter().filter(|it| it.step.phase == phase).map(|it| it.elapsed).sum()
}

fn steps(phase: Phase, done: &[Done]) -> Vec<StepReport> {
    let report = |done: &Done| StepReport {
        what: done.step.what.clone(),
        elapsed_seconds: seconds(done.elapsed),
        status: done.output.status,
        bytes: done.output.bytes,
        errors_total: done.output.errors_total,
        conditions: done.output.conditions.clone(),
        stderr: (done.output.status != 0 && !done.output.stderr.is_empty())
            .then(|| super::words::head_and_tail(&done.output.stderr, STDERR_LIMIT)),
    };
    done.iter().filter(|it| it.step.phase == phase).map(report).collect()
}

/// Phases that this drill has, by its plan, and that did not begin. Without a plan: those that every restore has.
fn not_reached(evidence: &Evidence) -> Vec<Phase> {
    let planned = |phase| match phase {
        Phase::Prepare | Phase::Inspect | Phase::Provision | Phase::Ready | Phase::Validate | Phase::Teardown => true,
        Phase::Acquire | Phase::Restore | Phase::Recover => match &evidence.plan {
            Some(plan) => plan.recipe.steps.iter().any(|it| it.phase == phase),
            None => phase == Phase::Restore,
        },
    };
    let has_begun = |phase| evidence.phase(phase).is_some() || evidence.unfinished == Some(phase);
    let seen = evidence.phases.iter().map(|it| it.phase).chain(evidence.unfinished);
    let furthest = seen.filter(|it| *it != Phase::Teardown).max();
    let passed_by = |phase| furthest.is_some_and(|it| it > phase);
    Phase::ALL.into_iter().filter(|it| planned(*it) && !has_begun(*it) && !passed_by(*it)).collect()
}

fn rto(judged: &RtoJudged) -> RtoReport {
    let (outcome, elapsed, missed_by) = match judged.outcome {
        Rto::Met { elapsed } => (RtoOutcome::Met, Some(elapsed), None),
        Rto::Missed { elapsed, by } => (RtoOutcome::Missed, Some(elapsed), Some(by)),
        Rto::NotReached => (RtoOutcome::NotReached, None, None),
        Rto::NotComparable { elapsed } => (RtoOutcome::NotComparable, Some(elapsed), None),
    };
    RtoReport {
        limit_seconds: seconds(judged.limit),
        overhead_seconds: seconds(judged.overhead),
        first: judged.first,
        last: judged.last,
        outcome,
        elapsed_seconds: elapsed.map(seconds),
        missed_by_seconds: missed_by.map(seconds),
        words: rto_words(judged),
    }
}

fn rto_words(judged: &RtoJudged) -> String {
    let limit = duration(judged.limit);
    let overhead = match judged.overhead {
        Duration::ZERO => String::new(),
        overhead => format!(" (+{} declared overhead)", duration(overhead)),
    };
    match judged.outcome {
        Rto::Met { elapsed } => format!("met on this host: {} of {limit}{overhead}", duration(elapsed)),
        Rto::Missed { elapsed, by } => {
            format!("MISSED by {} on this host: {} of {limit}{overhead}", duration(by), duration(elapsed))
        }
        Rto::NotReached => {
            format!("not reached: {limit} allowed, but the span {}..{} never completed", judged.first, judged.last)
        }
        Rto::NotComparable { elapsed } => format!(
            "not comparable: {} of {limit}{overhead}, but measured with durability: fast, which proves no RTO",
            duration(elapsed)
        ),
    }
}

fn target(target: &Target, reach: &Reach) -> TargetReport {
    let (outcome, evidence) = reached(reach);
    TargetReport { words: target.words(), outcome, evidence }
}

fn stop((at, judged): (usize, &StopJudged)) -> StopReport {
    let (outcome, evidence) = judged.reach.as_ref().map(reached).unzip();
    let StopJudged { stop, .. } = judged;
    let evidence = evidence.unwrap_or_default();
    StopReport { stop: at + 1, words: stop.target.words(), lsn: stop.place.at, outcome, evidence }
}

fn reached(reach: &Reach) -> (TargetOutcome, Vec<String>) {
    match reach {
        Reach::Reached { evidence } => (TargetOutcome::Reached, evidence.clone()),
        Reach::EndedBefore { evidence } => (TargetOutcome::EndedBefore, evidence.clone()),
        Reach::WentBeyond { evidence } => (TargetOutcome::WentBeyond, evidence.clone()),
        Reach::Unproved { because } => (TargetOutcome::Unproved, vec![because.clone()]),
    }
}

fn rpo(judged: &RpoJudged) -> RpoReport {
    let limit = duration(judged.limit);
    let lost = match (judged.min, judged.max) {
        (Some(min), Some(max)) if min == max => format!("{} lost", duration(max)),
        (Some(min), Some(max)) => format!("between {} and {} lost", duration(min), duration(max)),
        (None, Some(max)) => format!("at most {} lost", duration(max)),
        (Some(min), None) => format!("at least {} lost, how much is unknown", duration(min)),
        (None, None) => "how much was lost is unknown".to_owned(),
    };
    let words = match judged.outcome {
        Rpo::Met => format!("met: {lost}, {limit} allowed"),
        Rpo::Missed => format!("MISSED: {lost}, {limit} allowed"),
        Rpo::Unknown => format!("cannot be told: {lost}, {limit} allowed"),
    };
    RpoReport {
        limit_seconds: seconds(judged.limit),
        max_seconds: judged.max.map(seconds),
        min_seconds: judged.min.map(seconds),
        outcome: judged.outcome,
        formula: judged.formula.clone(),
        words,
    }
}

fn checks(evidence: &Evidence, judgement: &Judgement) -> Vec<CheckReport> {
    let asked = evidence.asked.as_ref().map(|it| it.checks.as_slice()).unwrap_or_default();
    let database = evidence.plan.as_ref().map_or("", |it| it.database.as_str());
    let sweep = judgement.checks.len() > 1;
    let mut reports = Vec::new();
    for (stop, judged) in judgement.checks.iter().enumerate() {
        for judged in judged {
            let check = asked.iter().find(|it| it.name == judged.name);
            reports.push(check_report(judged, check, database, sweep.then_some(stop + 1)));
        }
    }
    // A check that the judgement does not mention must not vanish from the report.
    let mentioned = |check: &&Check| reports.iter().any(|it| it.name == check.name);
    let missing: Vec<CheckReport> =
        asked.iter().filter(|it| !mentioned(it)).map(|it| unmentioned(it, database)).collect();
    reports.extend(missing);
    reports
}

fn check_report(judged: &CheckJudged, check: Option<&Check>, database: &str, stop: Option<usize>) -> CheckReport {
    let (status, expected, observed, because) = match &judged.judged.finding {
        Finding::Held { observed } => (CheckStatus::Held, None, Some(observed.clone()), None),
        Finding::Broken { expected, observed } => {
            let status = if judged.waived.is_some() { CheckStatus::Waived } else { CheckStatus::Broken };
            (status, Some(expected.clone()), Some(observed.clone()), None)
        }
        Finding::Unknown { because } => {
            let status = if judged.read_only { CheckStatus::NotApplicable } else { CheckStatus::Unknown };
            (status, None, None, Some(because.clone()))
        }
    };
    CheckReport {
        name: judged.name.clone(),
        stop,
        severity: judged.severity,
        status,
        database: check.and_then(|it| it.database.clone()),
        role: check.and_then(|it| it.role.clone()),
        asked: check.map(|it| questions(it, database)).unwrap_or_default(),
        expected,
        observed,
        because,
        waived: judged.waived.clone(),
        population: judged.judged.population.clone(),
        elapsed_seconds: seconds(judged.elapsed),
        line: check.and_then(|it| it.line),
    }
}

fn unmentioned(check: &Check, database: &str) -> CheckReport {
    CheckReport {
        name: check.name.clone(),
        stop: None,
        severity: check.severity,
        status: CheckStatus::Unknown,
        database: check.database.clone(),
        role: check.role.clone(),
        asked: questions(check, database),
        expected: None,
        observed: None,
        because: Some("it was not asked: the drill ended before".to_owned()),
        waived: None,
        population: crate::check::Population::default(),
        elapsed_seconds: 0.0,
        line: check.line,
    }
}

fn questions(check: &Check, database: &str) -> Vec<String> {
    check.probes(database, &[]).into_iter().map(|it| it.sql).collect()
}

fn restore_errors(evidence: &Evidence) -> RestoreErrors {
    let recorded = evidence.done.iter().flat_map(|done| {
        done.output.errors.iter().map(|it| RestoreError {
            phase: done.step.phase,
            step: done.step.what.clone(),
            sqlstate: it.sqlstate.clone(),
            message: it.message.clone(),
            line: it.line,
            statement: it.statement.clone(),
            entry: it.entry.clone(),
            row: it.row.clone(),
        })
    });
    RestoreErrors {
        total: evidence.done.iter().map(|it| it.output.errors_total).sum(),
        recorded: recorded.collect(),
        allowed: evidence.asked.as_ref().map(|it| it.restore.allow_errors.clone()).unwrap_or_default(),
    }
}

/// The wish for a sandbox that stays, where it did not come true.
fn not_kept(evidence: &Evidence) -> Option<String> {
    let Kept::Not { because } = evidence.kept.as_ref()? else { return None };
    Some(format!("the sandbox was to be kept, and was released: {}", because.line()))
}

fn notes(evidence: &Evidence, findings: Vec<String>) -> NotesReport {
    // Where there is no plan, because of what was read, it counts all the more.
    let past = || evidence.asked.as_ref().map(past).unwrap_or_default();
    let notes = evidence.plan.as_ref().map_or_else(past, |it| it.notes.clone());
    let of = |kind: NoteKind| -> Vec<String> {
        notes.iter().filter(|it| it.kind == kind).map(|it| it.text.clone()).collect()
    };
    NotesReport {
        not_checked: of(NoteKind::NotChecked),
        not_carried: of(NoteKind::NotCarried),
        stubbed: of(NoteKind::Stubbed),
        deviations: of(NoteKind::Deviation).into_iter().chain(not_kept(evidence)).collect(),
        findings,
    }
}
