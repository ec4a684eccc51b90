//! How much a disaster would have lost of a cluster that archives its WAL.
//!
//! Everything up to the last record of the archive comes back. So the loss is at most the time from that record to the incident;
//! that it is any at all needs evidence of a later commit: a heartbeat that must have beaten since.

use std::time::Duration;

use jiff::Timestamp;

use super::rpo::between;
use super::{About, Reason, Rpo, RpoJudged, Verdict, words};
use crate::check::{Answer, HEARTBEAT};
use crate::evidence::{Evidence, PhaseOutcome};
use crate::fault::Blame;
use crate::phase::Phase;
use crate::scenario::{Drill, Heartbeat};

const IDLE_HINT: &str = "On an idle cluster an old last commit is no loss, but nothing shows that: name a table that something \
    writes to at fixed times as `objectives.heartbeat`, or set archive_timeout.";

/// None where there is no objective, or nobody read the WAL.
pub(super) fn judge(evidence: &Evidence, drill: &Drill) -> Option<(RpoJudged, Option<Reason>)> {
    let limit = drill.objectives.rpo?;
    let incident = drill.objectives.incident.unwrap_or(evidence.start.as_ref()?.at);
    let read = evidence.done.iter().find_map(|it| it.output.wal.as_ref()).map(|it| it.latest);
    // Of a sweep, the survey has read all of it; what it did not get through is not recovered.
    let swept = evidence.phase(Phase::Recover).is_some_and(|it| it.outcome == PhaseOutcome::Completed);
    let latest = read.or_else(|| evidence.survey.stops().map(|it| it.latest.filter(|_| swept)))?;
    let beat = drill.objectives.heartbeat.as_ref().map(|it| (it, last_beat(evidence, drill)));
    Some(weigh(limit, incident, latest, beat))
}

/// The newest heartbeat in the restored database.
fn last_beat(evidence: &Evidence, drill: &Drill) -> Option<Timestamp> {
    let check = drill.checks.iter().position(|it| it.name == HEARTBEAT)?;
    let last_stop = evidence.plan.as_ref()?.stops.len().checked_sub(1)?;
    let Some(Answer::Rows(table)) = evidence.answers.get(last_stop)?.get(check)?.answers.last() else { return None };
    table.rows.first()?.first()?.as_deref()?.parse().ok()
}

fn weigh(
    limit: Duration,
    incident: Timestamp,
    recovered: Option<Timestamp>,
    beat: Option<(&Heartbeat, Option<Timestamp>)>,
) -> (RpoJudged, Option<Reason>) {
    // A heartbeat that is there was committed before it could be read: it proves as much as a record.
    let beaten = beat.and_then(|it| it.1).filter(|it| *it <= incident);
    let proved = recovered.filter(|it| *it <= incident).into_iter().chain(beaten).max();
    let max = proved.map(|it| between(it, incident));
    // The first one that is missing was committed when it was due.
    let due = beat.and_then(|(every, at)| Some((at? + every.every, every.every)));
    let min = due.map_or(Duration::ZERO, |(due, _)| between(due, incident));
    let newest = proved.map_or_else(|| "nothing dated".to_owned(), |it| it.to_string());
    let length = max.map(|it| format!(" = {}", words(it))).unwrap_or_default();
    let least = match (beat, due) {
        (None, _) => "; min = 0: nothing shows a later commit".to_owned(),
        (Some(_), None) => "; min = 0: the restored database has no heartbeat".to_owned(),
        (Some(_), Some((due, every))) => {
            format!("; min = incident − the heartbeat that was due (every {}) at {due} = {}", words(every), words(min))
        }
    };
    let proof = "the latest instant that the recovered WAL proves";
    let formula = format!("max = incident − {proof} = {incident} − {newest}{length}{least}");
    let outcome = match max {
        Some(max) if max <= limit => Rpo::Met,
        _ if min > limit => Rpo::Missed,
        Some(_) | None => Rpo::Unknown,
    };
    let reason =
        |verdict, text: String| Reason { causes: vec![formula.clone()], ..Reason::new(verdict, About::Rpo, text) };
    let reason = match outcome {
        Rpo::Met => None,
        Rpo::Missed => {
            let text = format!("missed: at least {} would be lost, {} are allowed", words(min), words(limit));
            Some(reason(Verdict::Failed, text))
        }
        Rpo::Unknown => {
            let text = format!("whether at most {} would be lost cannot be told", words(limit));
            Some(reason(Verdict::Inconclusive, text).blamed(Blame::Scenario).hinted(IDLE_HINT))
        }
    };
    (RpoJudged { limit, max, min: Some(min), outcome, formula }, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(time: &str) -> Timestamp {
        format!("2026-11-22T{time}Z").parse().expect("a time")
    }

    fn beat() -> Heartbeat {
        Heartbeat {
            table: "ops.beat".to_owned(),
            column: "at".to_owned(),
            every: Duration::from_secs(60),
            database: None,
        }
    }

    #[test]
    fn a_recent_record_meets_the_objective() {
        let (judged, reason) = weigh(HOUR, at("10:00:00"), Some(at("09:30:00")), None);
        assert_eq!((judged.outcome, judged.max, reason), (Rpo::Met, Some(HOUR / 2), None));
    }

    #[test]
    fn an_old_last_commit_alone_is_no_loss() {
        let (judged, reason) = weigh(HOUR, at("10:00:00"), Some(at("05:00:00")), None);
        assert_eq!((judged.outcome, judged.min), (Rpo::Unknown, Some(Duration::ZERO)));
        assert!(reason.is_some_and(|it| it.verdict == Verdict::Inconclusive));
    }

    #[test]
    fn a_heartbeat_that_was_due_and_is_not_there_is_one() {
        let heartbeat = beat();
        let (judged, reason) =
            weigh(HOUR, at("10:00:00"), Some(at("05:00:00")), Some((&heartbeat, Some(at("04:59:30")))));
        assert_eq!(judged.outcome, Rpo::Missed);
        assert!(judged.min.is_some_and(|it| it > 4 * HOUR), "{judged:?}");
        assert!(reason.is_some_and(|it| it.verdict == Verdict::Failed));
        // It still beat when the incident came: what was due then is not lost yet.
        let (judged, _) = weigh(HOUR, at("10:00:00"), Some(at("09:59:00")), Some((&heartbeat, Some(at("09:59:30")))));
        assert_eq!((judged.outcome, judged.min, judged.max), (Rpo::Met, Some(Duration::ZERO), Some(HOUR / 120)));
    }

    #[test]
    fn what_comes_after_the_incident_proves_nothing() {
        let (judged, _) = weigh(HOUR, at("10:00:00"), Some(at("11:00:00")), None);
        assert_eq!((judged.outcome, judged.max), (Rpo::Unknown, None));
    }
}
