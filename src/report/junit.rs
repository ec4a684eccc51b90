//! `JUnit` XML: one suite for each drill, and in it a case for each phase, objective and check.
//!
//! `JUnit` has no standard; what its readers really take was read from their sources. From that: `(classname, name)` never
//! repeats and never carries a time, an LSN or a label, or readers lose the history of a case; the reason stands in the
//! `message` and at the head of the text, since some readers show only one of them; suites do not nest; and a file that
//! is absent or broken reads as "no tests, all well", so [`crashed`] is written before there is anything to report.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::model::{
    CheckReport, CheckStatus, DrillReport, PhaseReport, PhaseStatus, Report, RestoreError, RtoOutcome, TargetOutcome,
};
use super::words::{bytes, duration, from_seconds, head_and_tail, one_line};
use super::xml::{RootExtras, SuiteExtras, decorate, time, xml_clean};
use crate::check::Severity;
use crate::verdict::{About, Reason, Rpo, Verdict};

/// Output of one case is kept up to this many bytes, head and tail: some readers refuse large files whole.
const OUTPUT_LIMIT: usize = 64 * 1024;
/// Attributes are shown on one line.
const MESSAGE_LIMIT: usize = 1000;
/// Statement errors that one case lists.
const ERRORS_LISTED: usize = 100;

/// Which readers the file is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flavor {
    /// Everything that readers make use of: files and lines, output by case, totals at the root.
    #[default]
    Rich,
    /// Only what Jenkins' `junit-10.xsd` and Windy Road's `JUnit.xsd` both allow.
    Strict,
}

/// A drill that has no report yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    pub name: String,
    /// The scenario file, and the line of the drill in it.
    pub file: String,
    pub line: Option<u32>,
}

/// The whole run.
pub fn junit(report: &Report, flavor: Flavor) -> String {
    crashed(report, &[], flavor)
}

/// A run that has not finished: each pending drill is an `<error>`. To be written at the start of a run and after every
/// drill, so that a run that dies leaves a file that says so.
pub fn crashed(report: &Report, pending: &[Pending], flavor: Flavor) -> String {
    let mut suites: Vec<Suite> = report.drills.iter().map(|it| Suite::of(report, it)).collect();
    suites.extend(pending.iter().map(|it| Suite::pending(report, it)));
    write(suites, flavor)
}

/// One drill, before it is XML.
struct Suite {
    name: String,
    hostname: String,
    timestamp: String,
    seconds: f64,
    properties: Vec<(String, String)>,
    cases: Vec<Case>,
}

struct Case {
    class: String,
    name: String,
    seconds: f64,
    file: Option<String>,
    line: Option<u32>,
    outcome: Outcome,
    /// What was done and seen; empty for nothing.
    out: String,
}

enum Outcome {
    Passed,
    Skipped(String),
    /// Not [`Verdict::Passed`]: then it would be no problem.
    Problem {
        verdict: Verdict,
        kind: &'static str,
        message: String,
        text: String,
    },
}

impl Suite {
    fn of(report: &Report, drill: &DrillReport) -> Suite {
        let mut cases = Cases { drill, cases: Vec::new() };
        cases.phases();
        cases.restore_errors();
        cases.objectives();
        cases.checks();
        cases.whole_drill();
        Suite {
            name: drill.name.clone(),
            hostname: drill.host.as_ref().map_or_else(|| "localhost".to_owned(), |it| it.hostname.clone()),
            timestamp: timestamp(drill.started.unwrap_or(report.run.started)),
            seconds: drill.elapsed_seconds,
            properties: properties(report, drill),
            cases: cases.cases,
        }
    }

    fn pending(report: &Report, pending: &Pending) -> Suite {
        let message = "did not finish: pgdrill ended before this drill did".to_owned();
        let text = format!(
            "{message}\nfault: not known\nnext: look at the end of the run's events.ndjson and of the job's own log, then \
             run the drill again\n"
        );
        Suite {
            name: pending.name.clone(),
            hostname: "localhost".to_owned(),
            timestamp: timestamp(report.run.started),
            seconds: 0.0,
            properties: run_properties(report),
            cases: vec![Case {
                class: format!("pgdrill.{}", pending.name),
                name: "drill".to_owned(),
                seconds: 0.0,
                file: Some(pending.file.clone()),
                line: pending.line,
                outcome: Outcome::Problem { verdict: Verdict::Inconclusive, kind: "unfinished", message, text },
                out: String::new(),
            }],
        }
    }
}

/// Collects the cases of one drill.
struct Cases<'a> {
    drill: &'a DrillReport,
    cases: Vec<Case>,
}

impl Cases<'_> {
    /// `group`: `phase`, `objective`, `check`; empty for the drill itself.
    fn add(&mut self, group: &str, name: &str, seconds: f64, outcome: Outcome, out: String) -> &mut Case {
        let class = match group {
            "" => format!("pgdrill.{}", self.drill.name),
            _ => format!("pgdrill.{}.{group}", self.drill.name),
        };
        let (file, line) = (self.drill.file.clone(), self.drill.line);
        let index = self.cases.len();
        self.cases.push(Case { class, name: name.to_owned(), seconds, file, line, outcome, out });
        &mut self.cases[index]
    }

    fn reasons(&self, about: &About) -> Vec<&Reason> {
        self.drill.reasons.iter().filter(|it| it.about == *about).collect()
    }

    fn phases(&mut self) {
        let drill = self.drill;
        for phase in &drill.phases {
            let reasons = self.reasons(&About::Phase(phase.phase));
            let outcome = if reasons.is_empty() || is_about_errors(phase) {
                phase_outcome(phase, drill.verdict)
            } else {
                problem(&reasons, "phase")
            };
            self.add("phase", phase.phase.name(), phase.elapsed_seconds, outcome, phase_output(phase));
        }
        let stopped = drill.phases.iter().find(|it| it.status != PhaseStatus::Completed);
        for phase in &drill.not_reached {
            let reasons = self.reasons(&About::Phase(*phase));
            let outcome = match stopped {
                _ if !reasons.is_empty() => problem(&reasons, "phase"),
                Some(stopped) => Outcome::Skipped(format!("not reached: the drill ended in {}", stopped.phase)),
                None => Outcome::Skipped("not reached".to_owned()),
            };
            self.add("phase", phase.name(), 0.0, outcome, String::new());
        }
    }

    fn restore_errors(&mut self) {
        let drill = self.drill;
        if drill.restore_errors.total == 0 {
            return;
        }
        let with_errors = drill.phases.iter().filter(|it| it.steps.iter().any(|it| it.errors_total > 0));
        let (completed, ended): (Vec<_>, Vec<_>) = with_errors.partition(|it| is_about_errors(it));
        let reasons: Vec<&Reason> = completed.iter().flat_map(|it| self.reasons(&About::Phase(it.phase))).collect();
        let outcome = match (reasons.is_empty(), ended.first()) {
            (false, _) => problem(&reasons, "restore_errors"),
            (true, Some(phase)) => Outcome::Skipped(format!("judged with the phase {}", phase.phase)),
            (true, None) => Outcome::Passed,
        };
        self.add("phase", "restore errors", 0.0, outcome, errors_output(drill));
    }

    fn objectives(&mut self) {
        let drill = self.drill;
        let unset = || Outcome::Skipped("no objective set".to_owned());

        let reasons = self.reasons(&About::Rto);
        let (outcome, seconds) = match &drill.rto {
            _ if !reasons.is_empty() => {
                (problem(&reasons, "rto"), drill.rto.as_ref().and_then(|it| it.elapsed_seconds))
            }
            None => (unset(), None),
            Some(rto) => {
                let outcome = match rto.outcome {
                    RtoOutcome::Met => Outcome::Passed,
                    RtoOutcome::Missed => plain_problem(Verdict::Failed, "rto", &rto.words),
                    RtoOutcome::NotReached => Outcome::Skipped(rto.words.clone()),
                    RtoOutcome::NotComparable => plain_problem(Verdict::Inconclusive, "rto", &rto.words),
                };
                (outcome, rto.elapsed_seconds)
            }
        };
        let out = drill.rto.as_ref().map(|it| format!("{}\n", it.words)).unwrap_or_default();
        self.add("objective", "rto", seconds.unwrap_or_default(), outcome, out);

        let reasons = self.reasons(&About::Rpo);
        let outcome = match &drill.rpo {
            _ if !reasons.is_empty() => problem(&reasons, "rpo"),
            None => unset(),
            Some(rpo) => match rpo.outcome {
                Rpo::Met => Outcome::Passed,
                Rpo::Missed => plain_problem(Verdict::Failed, "rpo", &rpo.words),
                Rpo::Unknown => plain_problem(Verdict::Inconclusive, "rpo", &rpo.words),
            },
        };
        let out = drill.rpo.as_ref().map(|it| format!("{}\n{}\n", it.words, it.formula)).unwrap_or_default();
        self.add("objective", "rpo", 0.0, outcome, out);

        if let Some(target) = &drill.target {
            let words = format!("{}: {}", target.outcome.words(), target.words);
            let outcome = match target.outcome {
                TargetOutcome::Reached => Outcome::Passed,
                TargetOutcome::WentBeyond => plain_problem(Verdict::Failed, "target", &words),
                TargetOutcome::Unproved => plain_problem(Verdict::Inconclusive, "target", &words),
                // The phase says why, and whose fault it is.
                TargetOutcome::EndedBefore => Outcome::Skipped(words.clone()),
            };
            let out = target.evidence.iter().fold(format!("{words}\n"), |out, it| out + it + "\n");
            self.add("objective", "target", 0.0, outcome, out);
        }

        for stop in &drill.stops {
            let words = stop.outcome.map_or("not reached: the drill ended before", TargetOutcome::words);
            let words = format!("{words}: {}", stop.words);
            let outcome = match stop.outcome {
                Some(TargetOutcome::Reached) => Outcome::Passed,
                Some(TargetOutcome::WentBeyond) => plain_problem(Verdict::Failed, "target", &words),
                Some(TargetOutcome::Unproved) => plain_problem(Verdict::Inconclusive, "target", &words),
                // The phase says why, and whose fault it is.
                Some(TargetOutcome::EndedBefore) | None => Outcome::Skipped(words.clone()),
            };
            let out = stop.evidence.iter().fold(format!("{words}\n"), |out, it| out + it + "\n");
            self.add("objective", &format!("target (stop {})", stop.stop), 0.0, outcome, out);
        }

        let reasons = self.reasons(&About::MaxAge);
        let outcome = match (&drill.max_age, &drill.backup) {
            _ if !reasons.is_empty() => problem(&reasons, "max_age"),
            (None, _) => return,
            (Some(_), Some(_)) => Outcome::Passed,
            (Some(_), None) => Outcome::Skipped("not reached: no backup was found".to_owned()),
        };
        self.add("objective", "max_age", 0.0, outcome, String::new());
    }

    fn checks(&mut self) {
        let drill = self.drill;
        let validated = drill.phases.iter().any(|it| it.phase == crate::phase::Phase::Validate);
        for check in &drill.checks {
            let mut reasons = self.reasons(&About::Check(check.name.clone()));
            reasons.retain(|it| it.stop.is_none() || it.stop == check.stop);
            let name = match check.stop {
                None => check.name.clone(),
                Some(stop) => format!("{} (stop {stop})", check.name),
            };
            let outcome = check_outcome(check, &reasons, validated);
            let case = self.add("check", &name, check.elapsed_seconds, outcome, check_output(check));
            case.line = check.line.or(case.line);
        }
    }

    /// What belongs to no case yet; and a case that says the verdict where the others say something milder.
    fn whole_drill(&mut self) {
        let drill = self.drill;
        let has_check = |name: &String| drill.checks.iter().any(|it| it.name == *name);
        let has_phase = |phase| drill.phases.iter().any(|it| it.phase == phase) || drill.not_reached.contains(&phase);
        let homeless = |reason: &&Reason| match &reason.about {
            About::Drill => true,
            About::Check(name) => !has_check(name),
            About::Phase(phase) => !has_phase(*phase),
            About::Rto | About::Rpo | About::MaxAge => false,
        };
        let reasons: Vec<&Reason> = drill.reasons.iter().filter(homeless).collect();
        if !reasons.is_empty() {
            let outcome = problem(&reasons, "drill");
            self.add("", "drill", 0.0, outcome, String::new());
        }
        let shown = self.cases.iter().map(|it| it.outcome.verdict()).max().unwrap_or(Verdict::Passed);
        if shown < drill.verdict {
            let every: Vec<&Reason> = drill.reasons.iter().collect();
            let outcome = match problem(&every, "drill") {
                Outcome::Problem { verdict, kind, message, text } if verdict == drill.verdict => {
                    Outcome::Problem { verdict, kind, message, text }
                }
                Outcome::Passed | Outcome::Skipped(_) | Outcome::Problem { .. } => {
                    plain_problem(drill.verdict, "drill", "the drill did not pass, and no reason was recorded")
                }
            };
            self.add("", "verdict", 0.0, outcome, String::new());
        }
    }
}

/// Reasons about a phase that itself completed, in which errors were recorded, are about those errors.
fn is_about_errors(phase: &PhaseReport) -> bool {
    phase.status == PhaseStatus::Completed && phase.steps.iter().any(|it| it.errors_total > 0)
}

impl Outcome {
    fn verdict(&self) -> Verdict {
        match self {
            Outcome::Passed | Outcome::Skipped(_) => Verdict::Passed,
            Outcome::Problem { verdict, .. } => *verdict,
        }
    }
}

/// The worst of some reasons as the message, and all of them as the text.
fn problem(reasons: &[&Reason], kind: &'static str) -> Outcome {
    let Some(worst) = reasons.iter().rev().max_by_key(|it| it.verdict) else {
        return Outcome::Passed;
    };
    let rest = reasons.iter().filter(|it| !std::ptr::eq(**it, *worst));
    let mut text = reason_text(worst);
    for reason in rest {
        text.push('\n');
        text.push_str(&reason_text(reason));
    }
    Outcome::Problem { verdict: worst.verdict, kind, message: worst.text.clone(), text }
}

fn plain_problem(verdict: Verdict, kind: &'static str, message: &str) -> Outcome {
    Outcome::Problem { verdict, kind, message: message.to_owned(), text: format!("{message}\n") }
}

fn reason_text(reason: &Reason) -> String {
    let mut text = format!("{}\n", reason.text);
    if let Some(blame) = reason.blame {
        let _ = writeln!(text, "fault: {}", blame.owner());
    }
    for cause in reason.causes.iter().filter(|it| !reason.text.contains(it.as_str())) {
        let _ = writeln!(text, "because: {cause}");
    }
    if let Some(hint) = &reason.hint {
        let _ = writeln!(text, "next: {hint}");
    }
    text
}

/// Of a phase that no reason is about.
fn phase_outcome(phase: &PhaseReport, verdict: Verdict) -> Outcome {
    let said = || phase.said.clone().unwrap_or_else(|| "did not complete".to_owned());
    match phase.status {
        PhaseStatus::Completed => Outcome::Passed,
        // The judge saw it and let it pass; the file must say no worse than the verdict.
        PhaseStatus::Failed | PhaseStatus::TimedOut | PhaseStatus::Cancelled | PhaseStatus::Unfinished
            if verdict == Verdict::Passed =>
        {
            Outcome::Skipped(said())
        }
        // Judged without a reason: never a pass, and what it means is in another case.
        PhaseStatus::Failed | PhaseStatus::TimedOut | PhaseStatus::Cancelled => {
            plain_problem(Verdict::Inconclusive, "phase", &said())
        }
        PhaseStatus::Unfinished => plain_problem(Verdict::Inconclusive, "unfinished", &said()),
    }
}

fn phase_output(phase: &PhaseReport) -> String {
    let mut out = String::new();
    for step in &phase.steps {
        let _ = write!(out, "{}: {}", step.what, duration(from_seconds(step.elapsed_seconds)));
        if let Some(read) = step.bytes {
            let _ = write!(out, ", {} read", bytes(read));
        }
        if step.status != 0 {
            let _ = write!(out, ", exit status {}", step.status);
        }
        if step.errors_total > 0 {
            let _ = write!(out, ", errors of statements: {}", step.errors_total);
        }
        for condition in &step.conditions {
            let _ = write!(out, ", host: {condition:?}");
        }
        out.push('\n');
        if let Some(stderr) = &step.stderr {
            out.push_str(stderr.trim_end());
            out.push('\n');
        }
    }
    out
}

fn errors_output(drill: &DrillReport) -> String {
    let errors = &drill.restore_errors;
    let mut out = format!("errors that the restore went on after: {}\n", errors.total);
    if !errors.allowed.is_empty() {
        let _ = writeln!(out, "allowed by the scenario: {}", errors.allowed.join(", "));
    }
    for error in errors.recorded.iter().take(ERRORS_LISTED) {
        let _ = writeln!(out, "{}", error_line(error));
    }
    let listed = errors.recorded.len().min(ERRORS_LISTED) as u64;
    if errors.total > listed {
        let _ = writeln!(out, "… and {} more: see the evidence", errors.total - listed);
    }
    out
}

/// `42P01: relation … does not exist (line 12; TABLE DATA orders) in: ALTER TABLE …`
pub(super) fn error_line(error: &RestoreError) -> String {
    let mut line = format!("{}: {}", error.sqlstate.as_deref().unwrap_or("ERROR"), one_line(&error.message));
    let at: Vec<String> = [error.line.map(|it| format!("line {it}")), error.row.clone(), error.entry.clone()]
        .into_iter()
        .flatten()
        .collect();
    if !at.is_empty() {
        let _ = write!(line, " ({})", at.join("; "));
    }
    if let Some(statement) = &error.statement {
        let _ = write!(line, " in: {}", one_line(statement));
    }
    line
}

fn check_outcome(check: &CheckReport, reasons: &[&Reason], validated: bool) -> Outcome {
    let seen = || {
        let of = |it: &Option<String>| it.clone().unwrap_or_else(|| "nothing".to_owned());
        format!("expected {}, observed {}", of(&check.expected), of(&check.observed))
    };
    let because = || check.because.clone().unwrap_or_else(|| "not asked".to_owned());
    match check.status {
        CheckStatus::Held => Outcome::Passed,
        CheckStatus::Waived => {
            Outcome::Skipped(format!("waived: {}; {}", check.waived.as_deref().unwrap_or("no reason"), seen()))
        }
        CheckStatus::NotApplicable => Outcome::Skipped(because()),
        CheckStatus::Unknown if !validated => Outcome::Skipped(because()),
        CheckStatus::Broken | CheckStatus::Unknown if !reasons.is_empty() => check_problem(check, reasons),
        CheckStatus::Broken => match check.severity {
            Severity::Minor => Outcome::Passed,
            Severity::Major | Severity::Critical => plain_problem(Verdict::Failed, "check", &seen()),
        },
        CheckStatus::Unknown => match check.severity {
            Severity::Minor => Outcome::Skipped(because()),
            Severity::Major | Severity::Critical => plain_problem(Verdict::Inconclusive, "check", &because()),
        },
    }
}

fn check_problem(check: &CheckReport, reasons: &[&Reason]) -> Outcome {
    let mut outcome = problem(reasons, "check");
    if let Outcome::Problem { text, .. } = &mut outcome {
        for (label, value) in [("expected", &check.expected), ("observed", &check.observed)] {
            if let Some(value) = value {
                let _ = writeln!(text, "{label}: {value}");
            }
        }
        for sql in &check.asked {
            let _ = writeln!(text, "asked: {sql}");
        }
    }
    outcome
}

fn check_output(check: &CheckReport) -> String {
    let mut out = format!("severity: {}\n", severity(check.severity));
    if check.status == CheckStatus::Broken && check.severity == Severity::Minor {
        out.push_str("BROKEN, and minor: it does not fail the drill\n");
    }
    for (label, value) in [("expected", &check.expected), ("observed", &check.observed)] {
        if let Some(value) = value {
            let _ = writeln!(out, "{label}: {value}");
        }
    }
    if !check.population.of.is_empty() {
        let _ = writeln!(out, "examined: {} {}", check.population.examined, check.population.of);
    }
    for sql in &check.asked {
        let _ = writeln!(out, "asked: {sql}");
    }
    out
}

pub(super) const fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Minor => "minor",
        Severity::Major => "major",
        Severity::Critical => "critical",
    }
}

fn run_properties(report: &Report) -> Vec<(String, String)> {
    vec![("pgdrill.version".to_owned(), report.run.pgdrill.clone()), ("pgdrill.run".to_owned(), report.run.run.clone())]
}

fn properties(report: &Report, drill: &DrillReport) -> Vec<(String, String)> {
    let mut properties = run_properties(report);
    let mut add = |name: &str, value: Option<String>| {
        properties.extend(value.filter(|it| !it.is_empty()).map(|it| (format!("pgdrill.{name}"), it)));
    };
    add("verdict", Some(verdict(drill.verdict).to_owned()));
    add("tags", Some(drill.tags.join(", ")));
    add("evidence", Some(drill.evidence.path.clone()));
    add("evidence.sha256", Some(drill.evidence.sha256.clone()));
    if let Some(backup) = &drill.backup {
        add("backup", Some(backup.path.clone()));
        add("backup.bytes", Some(backup.bytes.to_string()));
        add("backup.sha256", backup.sha256.clone());
        add("backup.format", backup.format.clone());
        add("backup.created", backup.created.clone());
        add("backup.server_version", backup.server_version.clone());
    }
    if let Some(runtime) = &drill.runtime {
        add("server.version", runtime.version.clone());
        add("server.image", runtime.image.as_ref().map(|it| it.reference.clone()));
        add("server.image.id", runtime.image.as_ref().map(|it| it.id.clone()));
        add("server.because", runtime.because.clone());
    }
    if let Some(fetched) = &drill.fetched {
        add("store.requests", Some(fetched.requests().to_string()));
        add("store.bytes", Some(fetched.bytes.to_string()));
        add("store.requests_failed", Some(fetched.failed.to_string()));
    }
    if let Some(rto) = &drill.rto {
        add("rto.limit_seconds", Some(time(rto.limit_seconds)));
        add("rto.elapsed_seconds", rto.elapsed_seconds.map(time));
    }
    properties
}

pub(super) const fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "passed",
        Verdict::Inconclusive => "inconclusive",
        Verdict::Failed => "failed",
    }
}

/// UTC without a zone, as the schemas demand and Azure assumes.
fn timestamp(instant: jiff::Timestamp) -> String {
    instant.strftime("%Y-%m-%dT%H:%M:%S").to_string()
}

/// On one line, clean, bounded: names and messages are attributes.
fn attribute(text: &str) -> String {
    head_and_tail(&one_line(&xml_clean(text)), MESSAGE_LIMIT).replace('\n', " ")
}

/// `(classname, name)` of the cases so far.
type Names = BTreeSet<(String, String)>;

fn write(suites: Vec<Suite>, flavor: Flavor) -> String {
    let mut made = junit_report::Report::new();
    let mut names = Names::new();
    let mut extras = Vec::new();
    let mut totals = Totals::default();
    for suite in suites {
        let (suite, extra) = suite.make(&mut names, flavor);
        totals.add(&suite, &extra);
        made.add_testsuite(suite);
        extras.push(extra);
    }
    let root = match flavor {
        Flavor::Rich => Some(totals.attributes()),
        Flavor::Strict => None,
    };
    finish(&made, &root, &extras)
}

fn finish(made: &junit_report::Report, root: &RootExtras, extras: &[SuiteExtras]) -> String {
    let mut plain = Vec::new();
    // Writing to memory does not fail; if it did, what was written so far would still be the best there is.
    let _ = made.write_xml(&mut plain);
    let plain = String::from_utf8_lossy(&plain).into_owned();
    decorate(&plain, root, extras).unwrap_or(plain)
}

#[derive(Default)]
struct Totals {
    tests: usize,
    failures: usize,
    errors: usize,
    skipped: usize,
    seconds: f64,
}

impl Totals {
    fn add(&mut self, suite: &junit_report::TestSuite, extra: &SuiteExtras) {
        self.tests += suite.tests();
        self.failures += suite.failures();
        self.errors += suite.errors();
        self.skipped += suite.skipped();
        self.seconds += extra.time;
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        vec![
            ("name", "pgdrill".to_owned()),
            ("tests", self.tests.to_string()),
            ("failures", self.failures.to_string()),
            ("errors", self.errors.to_string()),
            ("skipped", self.skipped.to_string()),
            ("time", time(self.seconds)),
        ]
    }
}

impl Suite {
    fn make(self, names: &mut Names, flavor: Flavor) -> (junit_report::TestSuite, SuiteExtras) {
        let mut testcases = Vec::new();
        let mut lines = Vec::new();
        let mut outs = String::new();
        for case in self.cases {
            let out = head_and_tail(&xml_clean(&case.out), OUTPUT_LIMIT);
            if flavor == Flavor::Strict && !out.is_empty() {
                let _ = writeln!(outs, "{} {}\n{out}", attribute(&case.class), attribute(&case.name));
            }
            lines.push(case.line.filter(|_| flavor == Flavor::Rich));
            testcases.push(case.make(names, out, flavor));
        }
        let system = |text: String| (flavor == Flavor::Strict).then(|| head_and_tail(&text, OUTPUT_LIMIT));
        let suite = junit_report::TestSuite {
            name: attribute(&self.name),
            package: "pgdrill".to_owned(),
            // Replaced by `decorate`, which writes it without a zone.
            timestamp: junit_report::OffsetDateTime::UNIX_EPOCH,
            hostname: attribute(&self.hostname),
            testcases,
            system_out: system(outs),
            system_err: system(String::new()),
        };
        let properties = self.properties.iter().map(|(name, value)| (name.clone(), attribute(value))).collect();
        let skipped = suite.skipped();
        (suite, SuiteExtras { properties, timestamp: self.timestamp, time: self.seconds, skipped, lines })
    }
}

impl Case {
    fn make(self, names: &mut Names, out: String, flavor: Flavor) -> junit_report::TestCase {
        let class = attribute(&self.class);
        let name = unique(names, &class, attribute(&self.name));
        let result = match self.outcome {
            Outcome::Passed => junit_report::TestResult::Success,
            Outcome::Skipped(reason) => junit_report::TestResult::SkippedWithCause {
                type_: "skipped".to_owned(),
                message: attribute(&reason),
                cause: Some(xml_clean(&reason)),
            },
            Outcome::Problem { verdict, kind, message, text } => {
                let (type_, message) = (format!("pgdrill.{kind}"), attribute(&message));
                let cause = Some(head_and_tail(&xml_clean(&text), OUTPUT_LIMIT));
                match verdict {
                    Verdict::Failed => junit_report::TestResult::Failure { type_, message, cause },
                    Verdict::Passed | Verdict::Inconclusive => {
                        junit_report::TestResult::Error { type_, message, cause }
                    }
                }
            }
        };
        junit_report::TestCase {
            name,
            time: junit_report::Duration::try_from(from_seconds(self.seconds)).unwrap_or_default(),
            result,
            classname: Some(class),
            filepath: self.file.filter(|_| flavor == Flavor::Rich).map(|it| attribute(&it)),
            system_out: Some(out).filter(|it| flavor == Flavor::Rich && !it.is_empty()),
            system_err: None,
        }
    }
}

/// Readers drop the second of two cases with one name, so it gets a number; cleaning and cutting can make names equal.
fn unique(names: &mut Names, class: &str, name: String) -> String {
    let name = if name.is_empty() { "(no name)".to_owned() } else { name };
    let mut candidate = name.clone();
    let mut number = 2;
    while !names.insert((class.to_owned(), candidate.clone())) {
        candidate = format!("{name} ({number})");
        number += 1;
    }
    candidate
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
#[path = "junit_tests.rs"]
mod tests;
