//! The summary that a tired person reads at the end of a run.
//!
//! Worst things first within a drill: the verdict, why, whose fault it is and what to do next; then the times, the
//! checks, and always what the verdict does not cover.

use super::junit::{error_line, severity};
use super::model::{
    BackupReport, CheckReport, CheckStatus, DrillReport, PhaseReport, PhaseStatus, Report, RtoOutcome, RtoReport,
    RuntimeReport, StopReport, TargetOutcome,
};
use super::words::{bytes, count, duration, from_seconds, harmless};
use crate::evidence::Held;
use crate::phase::Phase;
use crate::recipe::RuntimeKind;
use crate::verdict::{About, Reason, Rpo, Verdict};

/// How the names of the checks begin that nobody wrote.
const PROMISE: &str = "promise: ";
/// Checks that held are named up to this many.
const HELD_NAMED: usize = 4;
/// Statement errors, remnants and the like are listed up to this many.
const LISTED: usize = 5;
/// Columns of the bar of a phase, at most, and of what stands around it.
const BAR: u8 = 24;
const REST_OF_PHASE_LINE: usize = 50;
const NARROWEST: usize = 40;

/// What the terminal can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    pub color: bool,
    /// Whether characters beyond ASCII arrive; texts of others then have `?` in their place.
    pub unicode: bool,
    /// Columns.
    pub width: usize,
}

/// What stands below the drills.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ending<'a> {
    /// Where the reports lie.
    pub files: &'a [String],
    /// The exit code and what it means: `at least one drill failed`.
    pub exit: Option<(u8, &'a str)>,
}

/// The whole summary, with a line feed at its end.
pub fn terminal(report: &Report, ending: &Ending<'_>, style: Style) -> String {
    let mut page = Page { style, text: String::new() };
    for drill in &report.drills {
        drill_summary(&mut page, drill);
        page.blank();
    }
    totals(&mut page, report, ending);
    page.text
}

fn drill_summary(page: &mut Page, drill: &DrillReport) {
    headline(page, drill);
    reasons(page, drill);
    server_log(page, drill);
    times(page, drill);
    checks(page, drill);
    promise(page, drill);
    not_covered(page, drill);
    if let Some(kept) = &drill.kept {
        page.blank();
        page.heading("the sandbox is kept, with restored data in it");
        page.field("until", &format!("{:.0}", kept.until));
        page.field("open", &kept.open);
        page.field("remove", &kept.remove);
    }
    if !drill.remnants.is_empty() {
        page.blank();
        page.heading("left behind (try `pgdrill clean`)");
        page.list(&drill.remnants, LISTED);
    }
}

fn headline(page: &mut Page, drill: &DrillReport) {
    let took = duration(from_seconds(drill.elapsed_seconds));
    let (word, color) = verdict(drill.verdict);
    let word = page.paint(color, word);
    let name = page.clean(&drill.name);
    page.raw(&format!("{word}  {name}  ({took})"));
    match &drill.backup {
        Some(backup) => page.field("backup", &backup_line(backup)),
        None => {
            if let Some(pattern) = &drill.pattern {
                page.field("backup", &format!("none was found at {pattern}"));
            }
        }
    }
    drill.chosen.iter().for_each(|it| page.field("chosen", it));
    if let Some(runtime) = &drill.runtime {
        page.field("server", &server_line(runtime));
    }
}

fn backup_line(backup: &BackupReport) -> String {
    let mut parts = vec![backup.path.clone(), bytes(backup.bytes)];
    parts.extend(match (&backup.format, &backup.compression) {
        (Some(format), Some(compression)) if compression != "none" => Some(format!("{format} ({compression})")),
        (Some(format), _) => Some(format.clone()),
        (None, _) => None,
    });
    parts.extend(backup.database.as_ref().map(|it| format!("database {it}")));
    let zone = backup.timezone.as_deref().unwrap_or("zone not recorded");
    parts.extend(backup.created.as_ref().map(|it| format!("dumped {it} ({zone})")));
    parts.extend(backup.server_version.as_ref().map(|it| format!("from PostgreSQL {}", short_version(it))));
    parts.join(", ")
}

fn server_line(runtime: &RuntimeReport) -> String {
    let Some(version) = &runtime.version else {
        return format!("none could be had: {}", runtime.passed_over.join("; "));
    };
    let place = match (runtime.kind, &runtime.image) {
        (_, Some(image)) => format!("in a container of {}", image.reference),
        (Some(RuntimeKind::Container), None) => "in a container".to_owned(),
        (Some(RuntimeKind::Local), None) => "by the programs on this machine".to_owned(),
        (Some(RuntimeKind::Fake) | None, None) => "by a script, not a real server".to_owned(),
    };
    format!("PostgreSQL {}, {place}", short_version(version))
}

/// `17.11` of `17.11 (Debian 17.11-1)`.
fn short_version(version: &str) -> &str {
    version.split_whitespace().next().unwrap_or(version)
}

fn reasons(page: &mut Page, drill: &DrillReport) {
    let (by_check, others): (Vec<_>, Vec<_>) = drill.reasons.iter().partition(|it| is_told_by_check(it, drill));
    if !by_check.is_empty() {
        page.blank();
    }
    // The rest of what there is to say of a check stands with the checks.
    for reason in by_check.iter().take(LISTED) {
        let (_, color) = verdict(reason.verdict);
        page.block("  ", color, &about(&reason.about), &reason.text);
    }
    if by_check.len() > LISTED {
        page.raw(&format!("  and {} more: see below", count(by_check.len() - LISTED, "check")));
    }
    for reason in others {
        page.blank();
        let (_, color) = verdict(reason.verdict);
        page.block("  ", color, &about(&reason.about), &reason.text);
        if let Some(blame) = reason.blame {
            page.block("    ", Color::Dim, "fault", blame.owner());
        }
        for cause in reason.causes.iter().filter(|it| !reason.text.contains(it.as_str())) {
            page.block("    ", Color::Dim, "because", cause);
        }
        if matches!(reason.about, About::Phase(_)) {
            statement_errors(page, drill, reason);
        }
        if let Some(hint) = &reason.hint {
            page.block("    ", Color::Bold, "next", hint);
        }
    }
}

fn is_told_by_check(reason: &Reason, drill: &DrillReport) -> bool {
    match &reason.about {
        About::Check(name) => drill.checks.iter().any(|it| it.name == *name && it.status != CheckStatus::Held),
        About::Phase(_) | About::Rto | About::Rpo | About::MaxAge | About::Drill => false,
    }
}

fn about(about: &About) -> String {
    match about {
        About::Phase(phase) => phase.name().to_owned(),
        About::Rto => "RTO".to_owned(),
        About::Rpo => "RPO".to_owned(),
        About::MaxAge => "max_age".to_owned(),
        About::Check(name) => format!("check {name}"),
        About::Drill => "drill".to_owned(),
    }
}

fn statement_errors(page: &mut Page, drill: &DrillReport, reason: &Reason) {
    let errors = drill.restore_errors.recorded.iter().filter(|it| About::Phase(it.phase) == reason.about);
    let lines: Vec<String> = errors.map(error_line).collect();
    for line in lines.iter().take(LISTED) {
        page.block("    ", Color::Dim, "error", line);
    }
    if lines.len() > LISTED {
        page.block("    ", Color::Dim, "error", &format!("… and {} more: see the evidence", lines.len() - LISTED));
    }
}

fn server_log(page: &mut Page, drill: &DrillReport) {
    if drill.verdict == Verdict::Passed {
        return;
    }
    let log = &drill.server_log;
    if log.first_error.is_some() || log.path.is_some() {
        page.blank();
    }
    if let Some(error) = &log.first_error {
        page.block("  ", Color::Bold, "server's first error", error);
    }
    if let Some(path) = &log.path {
        page.block("  ", Color::Dim, "server's log", path);
    }
}

fn times(page: &mut Page, drill: &DrillReport) {
    if drill.phases.is_empty() {
        return;
    }
    page.blank();
    let longest = drill.phases.iter().map(|it| it.elapsed_seconds).fold(0.0, f64::max);
    for phase in &drill.phases {
        phase_line(page, phase, drill.rto.as_ref(), longest);
    }
    if !drill.not_reached.is_empty() {
        let names: Vec<&str> = drill.not_reached.iter().map(|it| it.name()).collect();
        page.block("  ", Color::Yellow, "not reached", &names.join(", "));
    }
    if let Some(fetched) = &drill.fetched {
        page.blank();
        page.field("store", &super::words::fetched(fetched));
    }
    page.blank();
    match &drill.rto {
        None => page.field("RTO", "no objective set"),
        Some(rto) => {
            let color = match rto.outcome {
                RtoOutcome::Met => Color::Green,
                RtoOutcome::Missed => Color::Red,
                RtoOutcome::NotReached | RtoOutcome::NotComparable => Color::Yellow,
            };
            page.painted_field("RTO", color, &format!("{}{}", rto.words, share(rto)));
        }
    }
    if let Some(rpo) = &drill.rpo {
        let color = match rpo.outcome {
            Rpo::Met => Color::Green,
            Rpo::Missed => Color::Red,
            Rpo::Unknown => Color::Yellow,
        };
        page.painted_field("RPO", color, &rpo.words);
        page.field("", &rpo.formula);
    } else {
        page.field("RPO", "no objective set");
    }
    if let Some(target) = &drill.target {
        let color = match target.outcome {
            TargetOutcome::Reached => Color::Green,
            TargetOutcome::WentBeyond => Color::Red,
            TargetOutcome::EndedBefore | TargetOutcome::Unproved => Color::Yellow,
        };
        page.painted_field("target", color, &format!("{}: {}", target.outcome.words(), target.words));
        for line in &target.evidence {
            page.field("", line);
        }
    }
    stops(page, drill);
}

/// The targets of a sweep, a line for each; evidence of those that were not reached.
fn stops(page: &mut Page, drill: &DrillReport) {
    if drill.stops.is_empty() {
        return;
    }
    let reached = |it: &&StopReport| it.outcome == Some(TargetOutcome::Reached);
    let count = drill.stops.iter().filter(reached).count();
    let color = if count == drill.stops.len() { Color::Green } else { Color::Red };
    page.painted_field("targets", color, &format!("{count} of {} reached, by one replay", drill.stops.len()));
    for stop in &drill.stops {
        let outcome = stop.outcome.map_or("not reached", TargetOutcome::words);
        page.field("", &format!("{}. {outcome}: {}, {}", stop.stop, stop.words, stop.lsn));
        for line in stop.evidence.iter().filter(|_| !reached(&stop)) {
            page.field("", &format!("   {line}"));
        }
    }
}

/// `; # is what counted`: which phases, where there is room to say it.
fn share(rto: &RtoReport) -> String {
    match rto.outcome {
        RtoOutcome::Met | RtoOutcome::Missed | RtoOutcome::NotComparable => {
            format!("; counted from {} to {}", rto.first, rto.last)
        }
        RtoOutcome::NotReached => String::new(),
    }
}

/// Columns for the time of a phase: `2 min 05 s`.
const TIME_COLUMNS: usize = 11;

fn phase_line(page: &mut Page, phase: &PhaseReport, rto: Option<&RtoReport>, longest: f64) {
    let took = duration(from_seconds(phase.elapsed_seconds));
    let counted = rto.is_some_and(|it| (it.first..=it.last).contains(&phase.phase));
    let bar = page.bar(phase.elapsed_seconds, longest, counted);
    let (word, color) = match phase.status {
        PhaseStatus::Completed => ("", Color::None),
        PhaseStatus::Failed => ("failed", Color::Red),
        PhaseStatus::TimedOut => ("ran out of time", Color::Red),
        PhaseStatus::Cancelled => ("cancelled", Color::Yellow),
        PhaseStatus::Unfinished => ("did not finish", Color::Yellow),
    };
    let read: u64 = phase.steps.iter().filter_map(|it| it.bytes).sum();
    let read = match (read, phase.phase) {
        (0, _) | (_, Phase::Prepare | Phase::Provision | Phase::Validate | Phase::Teardown) => String::new(),
        (read, _) => format!("{} read", bytes(read)),
    };
    let word = page.paint(color, word);
    let end: Vec<&str> = [word.as_str(), read.as_str()].into_iter().filter(|it| !it.is_empty()).collect();
    let line = format!("  {:<10}{took:>TIME_COLUMNS$}  {bar}  {}", phase.phase.name(), end.join(" "));
    page.raw(line.trim_end());
}

fn checks(page: &mut Page, drill: &DrillReport) {
    page.blank();
    if drill.checks.is_empty() {
        page.painted_field("checks", Color::Yellow, "none were asked for: the restored data was not looked at");
        return;
    }
    let with = |status| drill.checks.iter().filter(move |it| it.status == status);
    let mut words = Vec::new();
    let written = with(CheckStatus::Held).filter(|it| !it.name.starts_with(PROMISE));
    let held: Vec<&str> = written.map(|it| it.name.as_str()).collect();
    for (status, word) in [
        (CheckStatus::Broken, "broken"),
        (CheckStatus::Unknown, "unknown"),
        (CheckStatus::Waived, "waived"),
        (CheckStatus::NotApplicable, "not applicable"),
        (CheckStatus::Held, "held"),
    ] {
        let number = if status == CheckStatus::Held { held.len() } else { with(status).count() };
        if number > 0 {
            words.push(format!("{number} {word}"));
        }
    }
    let at_a_stop =
        |it: &CheckReport| matches!(it.status, CheckStatus::Held | CheckStatus::Broken | CheckStatus::Waived);
    let reached = drill.phases.iter().any(|it| it.phase == Phase::Validate)
        || (!drill.stops.is_empty() && drill.checks.iter().any(at_a_stop));
    if !reached {
        let because = drill.checks.iter().find_map(|it| it.because.as_deref()).unwrap_or("validation did not begin");
        page.painted_field("checks", Color::Yellow, &format!("{} not asked: {because}", drill.checks.len()));
        return;
    }
    let mut line = words.join(", ");
    if !held.is_empty() {
        let more = held.len().saturating_sub(HELD_NAMED);
        let named = held.iter().take(HELD_NAMED).copied().collect::<Vec<_>>().join(", ");
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        line = format!("{line} ({named}{more})");
    }
    let line = if line.is_empty() { "none but what the dump itself promises" } else { &line };
    page.field("checks", line);
    let blocks = [(CheckStatus::Broken, "BROKEN", Color::Red), (CheckStatus::Unknown, "UNKNOWN", Color::Yellow)];
    for (status, word, color) in blocks {
        let mut more: Vec<(&str, usize)> = Vec::new();
        for check in with(status) {
            if let Some((_, times)) = more.iter_mut().find(|it| it.0 == check.name) {
                *times += 1;
            } else {
                more.push((&check.name, 0));
                check_block(page, check, drill, word, color);
            }
        }
        for (name, times) in more.into_iter().filter(|it| it.1 > 0) {
            page.block("    ", color, word, &format!("{name}, at {} more", count(times, "stop")));
        }
    }
}

/// What the dump itself says it holds, as far as it is there: a line for all of it.
fn promise(page: &mut Page, drill: &DrillReport) {
    let held = drill.checks.iter().filter(|it| it.name.starts_with(PROMISE) && it.status == CheckStatus::Held);
    let seen: Vec<&str> = held.filter_map(|it| it.observed.as_deref()?.strip_suffix(" as dumped")).collect();
    if !seen.is_empty() {
        page.field("promise", &format!("{} as dumped", seen.join(", ")));
    }
}

fn check_block(page: &mut Page, check: &CheckReport, drill: &DrillReport, word: &str, color: Color) {
    let at = match (&drill.file, check.line) {
        (Some(file), Some(line)) => format!(", {file}:{line}"),
        (Some(_) | None, _) => String::new(),
    };
    let stop = check.stop.map(|it| format!(", stop {it}")).unwrap_or_default();
    page.block("    ", color, word, &format!("{} ({}{stop}{at})", check.name, severity(check.severity)));
    for (label, value) in [("expected", &check.expected), ("observed", &check.observed), ("because", &check.because)] {
        if let Some(value) = value {
            page.block("      ", Color::Dim, label, value);
        }
    }
    let about = About::Check(check.name.clone());
    if let Some(hint) = drill.reasons.iter().filter(|it| it.about == about).find_map(|it| it.hint.as_ref()) {
        page.block("      ", Color::Bold, "next", hint);
    }
}

/// Always there: a verdict without its limits is read as more than it is.
fn not_covered(page: &mut Page, drill: &DrillReport) {
    page.blank();
    let waived = drill.checks.iter().filter(|it| it.status == CheckStatus::Waived);
    let waived: Vec<String> =
        waived.map(|it| format!("{}: {}", it.name, it.waived.as_deref().unwrap_or_default())).collect();
    let errors = match drill.restore_errors.total {
        0 => Vec::new(),
        total if drill.verdict == Verdict::Passed => {
            vec![format!("{} during the restore", count(usize::try_from(total).unwrap_or(usize::MAX), "error"))]
        }
        _ => Vec::new(),
    };
    let notes = &drill.notes;
    let absent = drill.guarantees.iter().filter(|it| it.held == Held::Absent);
    let absent: Vec<String> = absent.map(|it| format!("{} ({})", it.name, it.seen)).collect();
    let groups: [(&str, &[String]); 8] = [
        ("not checked", &notes.not_checked),
        ("not carried", &notes.not_carried),
        ("made up", &notes.stubbed),
        ("deviation", &notes.deviations),
        ("waived", &waived),
        ("allowed", &errors),
        ("finding", &notes.findings),
        ("isolation not in force", &absent),
    ];
    if groups.iter().all(|(_, it)| it.is_empty()) {
        // A drill that ended before its plan was made knows nothing of its limits.
        let planned = drill.phases.iter().any(|it| (Phase::Provision..Phase::Teardown).contains(&it.phase));
        let text = if planned {
            "nothing is known to have been left out"
        } else {
            "the drill ended before it could tell what it leaves out"
        };
        page.field("limits", text);
        return;
    }
    page.heading("what this verdict does not cover");
    for (label, texts) in groups {
        for text in texts {
            page.block("    ", Color::Yellow, label, text);
        }
    }
}

fn totals(page: &mut Page, report: &Report, ending: &Ending<'_>) {
    let counts = report.counts;
    let mut words = Vec::new();
    for (number, of) in [
        (counts.failed, Verdict::Failed),
        (counts.inconclusive, Verdict::Inconclusive),
        (counts.passed, Verdict::Passed),
    ] {
        if number > 0 {
            let (word, color) = verdict(of);
            words.push(page.paint(color, &format!("{number} {}", word.to_lowercase())));
        }
    }
    let line = match counts.drills {
        0 => page.paint(Color::Yellow, "no drill ran: that proves nothing"),
        drills => format!("{}: {}", count(drills, "drill"), words.join(", ")),
    };
    page.raw(&line);
    // The drills above may have scrolled away.
    if counts.drills > 1 {
        for drill in report.drills.iter().filter(|it| it.verdict != Verdict::Passed) {
            let (word, color) = verdict(drill.verdict);
            let why =
                drill.reasons.first().map(|it| format!(": {}: {}", about(&it.about), it.text)).unwrap_or_default();
            page.block("  ", color, word, &format!("{}{why}", drill.name));
        }
    }
    for (index, file) in ending.files.iter().enumerate() {
        page.field(if index == 0 { "reports" } else { "" }, file);
    }
    if let Some((code, meaning)) = ending.exit {
        page.field("exit code", &format!("{code}: {meaning}"));
    }
}

const fn verdict(verdict: Verdict) -> (&'static str, Color) {
    match verdict {
        Verdict::Passed => ("PASSED", Color::Green),
        Verdict::Inconclusive => ("INCONCLUSIVE", Color::Yellow),
        Verdict::Failed => ("FAILED", Color::Red),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Color {
    None,
    Green,
    Yellow,
    Red,
    Bold,
    Dim,
}

/// Lines as they are laid out.
struct Page {
    style: Style,
    text: String,
}

/// Columns of the label of a field.
const LABEL: usize = 11;

impl Page {
    fn raw(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// An empty line, never two.
    fn blank(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with("\n\n") {
            self.text.push('\n');
        }
    }

    fn heading(&mut self, text: &str) {
        let text = format!("  {text}:");
        self.raw(&text);
    }

    /// `  label      text`, wrapped under itself.
    fn field(&mut self, label: &str, text: &str) {
        self.painted_field(label, Color::None, text);
    }

    fn painted_field(&mut self, label: &str, color: Color, text: &str) {
        let label = self.clean(label);
        let lead = format!("  {label:<LABEL$}");
        self.wrapped(&lead, Color::None, &" ".repeat(lead.chars().count()), color, text);
    }

    /// `indent label: text`, wrapped two columns deeper.
    fn block(&mut self, indent: &str, color: Color, label: &str, text: &str) {
        let label = self.clean(label);
        self.wrapped(&format!("{indent}{label}: "), color, &format!("{indent}  "), Color::None, text);
    }

    fn list(&mut self, texts: &[String], limit: usize) {
        for text in texts.iter().take(limit) {
            self.wrapped("    ", Color::None, "      ", Color::None, text);
        }
        if texts.len() > limit {
            self.raw(&format!("    and {} more", texts.len() - limit));
        }
    }

    /// `lead` and `text`, broken between words at the width; a word that is too long stays whole, so that paths can be
    /// copied.
    fn wrapped(&mut self, lead: &str, lead_color: Color, indent: &str, color: Color, text: &str) {
        let width = self.style.width.max(NARROWEST);
        let text = self.clean(text);
        let mut line = String::new();
        let mut column = lead.chars().count();
        let mut first = true;
        for word in text.split(' ') {
            let length = word.chars().count();
            if !line.is_empty() && column + 1 + length > width {
                self.finish_line(lead, lead_color, indent, color, &line, first);
                first = false;
                line.clear();
                column = indent.chars().count();
            }
            if !line.is_empty() {
                line.push(' ');
                column += 1;
            }
            line.push_str(word);
            column += length;
        }
        self.finish_line(lead, lead_color, indent, color, &line, first);
    }

    fn finish_line(&mut self, lead: &str, lead_color: Color, indent: &str, color: Color, line: &str, first: bool) {
        let start = if first { self.paint(lead_color, lead) } else { indent.to_owned() };
        let line = self.paint(color, line);
        self.raw(format!("{start}{line}").trim_end());
    }

    fn paint(&self, color: Color, text: &str) -> String {
        let code = match color {
            Color::None => return text.to_owned(),
            Color::Green => "1;32",
            Color::Yellow => "1;33",
            Color::Red => "1;31",
            Color::Bold => "1",
            Color::Dim => "2",
        };
        if !self.style.color || text.is_empty() {
            return text.to_owned();
        }
        // The indentation stays outside, or underlining terminals draw it.
        let body = text.trim_start();
        format!("{}\u{1b}[{code}m{body}\u{1b}[0m", &text[..text.len() - body.len()])
    }

    /// Harmless, and only what the terminal can show.
    fn clean(&self, text: &str) -> String {
        let text = harmless(text);
        if self.style.unicode {
            return text;
        }
        let ascii = |char: char| match char {
            '…' => "...".to_owned(),
            _ if char.is_ascii() => char.to_string(),
            _ => "?".to_owned(),
        };
        text.chars().map(ascii).collect()
    }

    /// A share of the longest phase; solid where the RTO counts it.
    fn bar(&self, seconds: f64, longest: f64, counted: bool) -> String {
        let full = match (self.style.unicode, counted) {
            (true, true) => '█',
            (true, false) => '░',
            (false, true) => '#',
            (false, false) => '-',
        };
        let share = if longest > 0.0 { seconds / longest } else { 0.0 };
        let room = u8::try_from(self.style.width.saturating_sub(REST_OF_PHASE_LINE)).unwrap_or(u8::MAX).min(BAR);
        let length = (1..=room).filter(|it| share * f64::from(room) + 0.5 >= f64::from(*it)).count();
        format!("{}{}", full.to_string().repeat(length), " ".repeat(usize::from(room) - length))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
#[path = "terminal_tests.rs"]
mod tests;
