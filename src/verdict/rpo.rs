//! How much a disaster would have lost, by the dates that the dumps themselves record.
//!
//! A dump restores to the instant at which it began. What is lost is the worse of two: what was written since the newest dump
//! before the incident, and what the longest gap between two consecutive dumps of the recent past would have cost. A zone-less
//! date has readings 26 hours apart; a gap between two of one machine only shifts by summer time.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;

use super::{About, Reason, Rpo, RpoJudged, Verdict, instants, words};
use crate::evidence::Evidence;
use crate::fault::Blame;
use crate::recipe::HeaderSeen;
use crate::scenario::Drill;
use crate::source::Source;

/// Of `objectives.rpo_window`.
const WINDOW: Duration = Duration::from_secs(7 * 24 * 3600);
/// By how much two civil times of one zone may be further apart, or nearer, than they read.
const SUMMER_TIME: Duration = Duration::from_secs(3600);
const ZONE_HINT: &str = "Dumps record no time zone: set `timezone` on the source.";
const DATE_HINT: &str =
    "Only archives, and plain dumps made with --verbose, record when they were made: dump in an archive format.";

/// A dump whose date is known.
struct Dated<'a> {
    path: &'a str,
    civil: DateTime,
    earliest: Timestamp,
    latest: Timestamp,
    modified: Option<Timestamp>,
}

/// Two consecutive dumps.
struct Gap<'a> {
    from: &'a Dated<'a>,
    to: &'a Dated<'a>,
    length: Duration,
}

/// The loss and, unless the objective is met, the reason. None where there is no objective, or no backup to judge by.
pub(super) fn judge(evidence: &Evidence, drill: &Drill) -> Option<(RpoJudged, Option<Reason>)> {
    let limit = drill.objectives.rpo?;
    let start = evidence.start.as_ref()?;
    let incident = drill.objectives.incident.unwrap_or(start.at);
    let plan = evidence.plan.as_ref()?;
    if matches!(drill.source, Source::BaseBackup(_)) {
        return super::rpo_wal::judge(evidence, drill);
    }
    let zone = drill.source.location().timezone.as_deref();
    let own = evidence.survey.dump(&plan.backup.file.path)?;
    let headers = evidence.survey.headers();
    let is_ours = |it: &&HeaderSeen| it.database.is_none() || own.database.is_none() || it.database == own.database;
    let ours: Vec<&HeaderSeen> = headers.iter().filter(is_ours).collect();
    let files = evidence.survey.files(&drill.source.location().path).unwrap_or_default();
    let modified = |path: &str| {
        let file = files.iter().find(|it| it.path == path)?;
        Timestamp::from_second(file.modified).ok()
    };
    let mut dated: Vec<Dated<'_>> = ours.iter().filter_map(|it| date(it, zone, &modified)).collect();
    dated.retain(|it| it.earliest <= incident);
    dated.sort_by_key(|it| it.civil);
    let unusable = |it: &HeaderSeen| it.unreadable.as_ref().is_some_and(|it| it.blame == Blame::Backup);
    let undated = ours.iter().filter(|it| it.created.is_none() && !unusable(it)).count() + files.len() - headers.len();
    let window = drill.objectives.rpo_window.unwrap_or(WINDOW);
    Some(weigh(&Known { limit, incident, window, dated: &dated, undated, zoned: zone.is_some() }))
}

fn date<'a>(
    seen: &'a HeaderSeen,
    zone: Option<&str>,
    modified: &dyn Fn(&str) -> Option<Timestamp>,
) -> Option<Dated<'a>> {
    let created = seen.created.as_deref()?;
    let civil = created.replace(' ', "T").parse().ok()?;
    let (earliest, latest) = instants(created, zone)?;
    Some(Dated { path: &seen.path, civil, earliest, latest, modified: modified(&seen.path) })
}

struct Known<'a> {
    limit: Duration,
    incident: Timestamp,
    window: Duration,
    /// Before the incident, oldest first.
    dated: &'a [Dated<'a>],
    /// Backups that may lie between these: then a gap may be shorter than it looks.
    undated: usize,
    zoned: bool,
}

fn weigh(known: &Known<'_>) -> (RpoJudged, Option<Reason>) {
    let Some(newest) = known.dated.last() else {
        let formula = "max = incident − newest dump, and no dump says that it was made before the incident".to_owned();
        return unknown(known, (None, None), formula, DATE_HINT);
    };
    let since = |instant: Timestamp| between(instant, known.incident);
    let (age_max, age_min) = (since(newest.earliest), since(newest.latest));
    let gap = worst_gap(known);
    let slack = if known.zoned { Duration::ZERO } else { SUMMER_TIME };
    let lag = if known.zoned { lag(known) } else { Duration::ZERO };
    let max = gap.as_ref().map(|it| age_max.max(it.length + slack + lag));
    let least = gap.as_ref().map_or(Duration::ZERO, |it| it.length.saturating_sub(slack));
    let min = (known.undated == 0).then(|| age_min.max(least));
    let formula = formula(known, newest, gap.as_ref(), slack, lag);
    let (outcome, hint) = match (max, min) {
        (Some(max), _) if max <= known.limit => (Rpo::Met, ""),
        (_, Some(min)) if min > known.limit => (Rpo::Missed, ""),
        (None, _) => (
            Rpo::Unknown,
            "One dump shows no interval: name a pattern that also matches the dumps before it, so that the gap between them \
             is seen.",
        ),
        _ if known.undated > 0 => (Rpo::Unknown, DATE_HINT),
        _ => (Rpo::Unknown, ZONE_HINT),
    };
    if outcome == Rpo::Unknown {
        return unknown(known, (max, min), formula, hint);
    }
    let judged = RpoJudged { limit: known.limit, max, min, outcome, formula };
    let reason = (outcome == Rpo::Missed).then(|| {
        let lost = words(min.unwrap_or_default());
        let text = format!("missed: at least {lost} would be lost, {} are allowed", words(known.limit));
        Reason { causes: vec![judged.formula.clone()], ..Reason::new(Verdict::Failed, About::Rpo, text) }
    });
    (judged, reason)
}

fn unknown(
    known: &Known<'_>,
    (max, min): (Option<Duration>, Option<Duration>),
    formula: String,
    hint: &str,
) -> (RpoJudged, Option<Reason>) {
    let text = format!("whether at most {} would be lost cannot be told", words(known.limit));
    let reason = Reason::new(Verdict::Inconclusive, About::Rpo, text).blamed(Blame::Scenario).hinted(hint);
    let reason = Reason { causes: vec![formula.clone()], ..reason };
    (RpoJudged { limit: known.limit, max, min, outcome: Rpo::Unknown, formula }, Some(reason))
}

/// Between consecutive dumps, the later of which lies in the window.
fn worst_gap<'a>(known: &Known<'a>) -> Option<Gap<'a>> {
    let pairs = known.dated.windows(2).filter(|it| between(it[1].latest, known.incident) <= known.window);
    let gaps = pairs.map(|it| {
        let civil = Duration::try_from(it[1].civil.duration_since(it[0].civil)).unwrap_or_default();
        let length = if known.zoned { between(it[0].earliest, it[1].earliest) } else { civil };
        Gap { from: &it[0], to: &it[1], length }
    });
    gaps.max_by_key(|it| it.length)
}

/// How old a dump was when it could be restored: by its file's time, which can make the loss larger, never smaller. A file that
/// was written long after its dump began is a copy, and tells nothing.
fn lag(known: &Known<'_>) -> Duration {
    let lags = known.dated.windows(2).filter_map(|it| {
        let lag = between(it[0].earliest, it[0].modified?);
        (lag < between(it[0].earliest, it[1].earliest)).then_some(lag)
    });
    lags.max().unwrap_or_default()
}

pub(super) fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

fn formula(known: &Known<'_>, newest: &Dated<'_>, gap: Option<&Gap<'_>>, slack: Duration, lag: Duration) -> String {
    let file = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    let age = if known.zoned {
        format!("{} − {} = {}", known.incident, newest.earliest, words(between(newest.earliest, known.incident)))
    } else {
        format!(
            "{} − {} (no zone: {} to {} ago)",
            known.incident,
            newest.civil,
            words(between(newest.latest, known.incident)),
            words(between(newest.earliest, known.incident))
        )
    };
    let age = format!("incident − newest dump ({}) = {age}", file(newest.path));
    let Some(gap) = gap else {
        return format!("loss = the greater of: {age}; worst gap in the last {}: no two dumps", words(known.window));
    };
    let mut worst = format!(
        "worst gap in the last {} = {} → {} = {}",
        words(known.window),
        file(gap.from.path),
        file(gap.to.path),
        words(gap.length)
    );
    if slack > Duration::ZERO {
        worst.push_str(" ± 1h of summer time");
    }
    if lag > Duration::ZERO {
        worst = format!("{worst} + {} until a dump was complete", words(lag));
    }
    let undated = if known.undated > 0 { format!("; {} dumps have no date", known.undated) } else { String::new() };
    format!("loss = the greater of: {age}; {worst}{undated}")
}
