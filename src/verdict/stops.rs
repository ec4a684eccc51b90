//! Whether each stop of a sweep was where it was to be.
//!
//! Two readers must agree: the survey, which found the target's place in the WAL, and the server, which stands there.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::target::{Reach, instant, words};
use crate::evidence::Evidence;
use crate::format::lsn::Lsn;
use crate::recipe::{Action, Recovered, Stop};
use crate::target::{Point, postgres_time};

/// A stop of a sweep, judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StopJudged {
    pub stop: Stop,
    /// None: the drill ended before.
    pub reach: Option<Reach>,
}

pub(super) fn judged(evidence: &Evidence) -> Vec<StopJudged> {
    let stops = evidence.plan.as_ref().map_or(&[][..], |it| &it.sweep);
    let walked = |stop: usize| {
        let mut outputs = evidence.done.iter().filter_map(move |it| {
            let Action::Walk { stop: at, .. } = it.step.action else { return None };
            it.output.recovered.as_ref().filter(|_| at == stop)
        });
        outputs.next()
    };
    // Promoting must not replay more.
    let promoted = evidence.done.iter().find(|it| it.step.action == Action::Promote);
    let promoted = promoted.and_then(|it| it.output.recovered.as_ref());
    let judged = |(at, stop): (usize, &Stop)| {
        let then = promoted.filter(|_| at + 1 == stops.len());
        StopJudged { stop: stop.clone(), reach: walked(at).map(|it| reached(stop, it, then)) }
    };
    stops.iter().enumerate().map(judged).collect()
}

fn reached(stop: &Stop, recovered: &Recovered, promoted: Option<&Recovered>) -> Reach {
    let place = |it: &Recovered| it.replayed.as_ref().and_then(|it| it.parse::<Lsn>().ok());
    let Some(replayed) = place(recovered) else {
        return Reach::Unproved { because: "the server did not say how far it had replayed".to_owned() };
    };
    let at = stop.place.at;
    let mut evidence = vec![format!("replayed up to {replayed}")];
    if replayed < at {
        evidence.push(format!("the target lies at {at}"));
        return Reach::EndedBefore { evidence };
    }
    if replayed > at {
        evidence.push(format!("the target lies at {at}"));
        return Reach::WentBeyond { evidence };
    }
    if !recovered.paused {
        return Reach::Unproved { because: "the server had left recovery when it was asked where it stood".to_owned() };
    }
    evidence[0].push_str(", where the WAL was cut");
    if let Some(after) = promoted.and_then(place).filter(|it| *it != at) {
        evidence.push(format!("when it was promoted, it went on to {after}"));
        return Reach::WentBeyond { evidence };
    }
    // What the server calls its last transaction must be the one that the WAL has there.
    let said = recovered.last_commit.as_deref().and_then(instant);
    match (said, &stop.place.last) {
        (Some(said), Some(last)) if said != last.time => {
            evidence.push(format!("the last transaction that it replayed ended at {}", postgres_time(said)));
            evidence.push(format!("the last in the WAL up to there: {}", words(last)));
            return if said > last.time { Reach::WentBeyond { evidence } } else { Reach::EndedBefore { evidence } };
        }
        (None, Some(last)) => {
            return Reach::Unproved {
                because: format!(
                    "the server did not say which transaction it replayed last; in the WAL it is {}",
                    words(last)
                ),
            };
        }
        (_, Some(last)) => {
            evidence.push(format!("the last in the WAL up to there, and on the server: {}", words(last)));
        }
        (_, None) => {}
    }
    if let Some(next) = &stop.place.next {
        evidence.push(format!("the first in the WAL behind it: {}", words(next)));
        if let Point::Time(time) = stop.target.point
            && (next.time < time || (stop.target.inclusive && next.time == time))
        {
            return Reach::EndedBefore { evidence };
        }
    }
    Reach::Reached { evidence }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{StopPlace, Transaction};
    use crate::target::Target;

    fn transaction(end: u64, time: &str) -> Transaction {
        let time = format!("2026-11-22T{time}Z").parse().expect("a time");
        Transaction { xid: 7, at: Lsn(end - 40), end: Lsn(end), time, committed: true }
    }

    fn stop() -> Stop {
        let time = "2026-11-22T10:00:00Z".parse().expect("a time");
        let (last, next) = (transaction(0x100, "09:59:59.5"), transaction(0x180, "10:00:01"));
        Stop {
            target: Target { point: Point::Time(time), ..Target::default() },
            place: StopPlace { at: Lsn(0x120), last: Some(last), next: Some(next) },
        }
    }

    fn standing(replayed: &str, last: Option<&str>) -> Recovered {
        Recovered {
            paused: true,
            replayed: Some(replayed.to_owned()),
            last_commit: last.map(|it| format!("2026-11-22 {it}+00")),
            ..Recovered::default()
        }
    }

    #[test]
    fn a_server_that_stands_at_the_cut_with_the_transaction_of_the_wal_is_there() {
        let reach = reached(&stop(), &standing("0/120", Some("09:59:59.5")), Some(&standing("0/120", None)));
        assert!(matches!(reach, Reach::Reached { .. }), "{reach:?}");
    }

    #[test]
    fn what_server_and_wal_do_not_agree_on_is_not_reached() {
        let is = |reach: Reach| match reach {
            Reach::Reached { .. } => "reached",
            Reach::EndedBefore { .. } => "before",
            Reach::WentBeyond { .. } => "beyond",
            Reach::Unproved { .. } => "unproved",
        };
        let last = Some("09:59:59.5");
        for (recovered, expected) in [
            (standing("0/100", last), "before"),
            (standing("0/180", last), "beyond"),
            (standing("0/120", Some("09:00:00")), "before"),
            (standing("0/120", Some("10:00:01")), "beyond"),
            (standing("0/120", None), "unproved"),
            (Recovered::default(), "unproved"),
            (Recovered { paused: false, ..standing("0/120", last) }, "unproved"),
        ] {
            assert_eq!(is(reached(&stop(), &recovered, None)), expected, "{recovered:?}");
        }
        let promoted = standing("0/180", None);
        assert_eq!(is(reached(&stop(), &standing("0/120", last), Some(&promoted))), "beyond");
    }
}
