//! Whether recovery stopped at its target, and not before or beyond.
//!
//! The server's own word is not enough, and neither is that it answers: what it logged when it stopped, where it waits and
//! what it replayed must agree with each other and with what was asked for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::format::lsn::Lsn;
use crate::recipe::{Recovered, Transaction, WalSeen};
use crate::target::{Point, Target, postgres_time};

/// Where recovery stopped, with the evidence for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    Reached {
        evidence: Vec<String>,
    },
    EndedBefore {
        evidence: Vec<String>,
    },
    WentBeyond {
        evidence: Vec<String>,
    },
    /// What was seen does not tell.
    Unproved {
        because: String,
    },
}

/// Compares what recovery did with what it was to do, and both with what the WAL says itself, where it was read.
pub fn reached(target: &Target, recovered: &Recovered, wal: Option<&WalSeen>) -> Reach {
    let reach = by_server(target, recovered);
    let Some(wal) = wal.filter(|it| it.segments.is_some()) else { return reach };
    match reach {
        Reach::Reached { evidence } => by_wal(target, recovered, wal, evidence),
        Reach::EndedBefore { mut evidence } => {
            evidence.extend(wal.last.as_ref().map(|it| format!("the last in the WAL: {}", words(it))));
            Reach::EndedBefore { evidence }
        }
        Reach::WentBeyond { .. } | Reach::Unproved { .. } => reach,
    }
}

/// `transaction 750 committed at 2026-11-22 10:00:00.5+00, 0/C3A9B8`
pub(super) fn words(it: &Transaction) -> String {
    let did = if it.committed { "committed" } else { "rolled back" };
    format!("transaction {} {did} at {}, {}", it.xid, postgres_time(it.time), it.at)
}

/// What the server says it did, against the WAL.
fn by_wal(target: &Target, recovered: &Recovered, wal: &WalSeen, mut evidence: Vec<String>) -> Reach {
    let last = wal.last.as_ref().map(|it| format!("the last in the WAL up to there: {}", words(it)));
    let next = wal.next.as_ref().map(|it| format!("the first in the WAL behind it: {}", words(it)));
    let whole: Vec<String> = last.into_iter().chain(next).collect();
    let contradicts = |mut evidence: Vec<String>, why: String, beyond: bool| {
        evidence.push(why);
        evidence.extend(whole.clone());
        if beyond { Reach::WentBeyond { evidence } } else { Reach::EndedBefore { evidence } }
    };
    // What the server calls the last one that it replayed must be the last one of the WAL.
    if let (Some(said), Some(last)) = (recovered.last_commit.as_deref().and_then(instant), &wal.last)
        && said != last.time
    {
        let why = format!("the server replayed a last transaction of {}, the WAL's is another", postgres_time(said));
        return contradicts(evidence, why, said > last.time);
    }
    let replayed = recovered.replayed.as_ref().and_then(|it| it.parse::<Lsn>().ok());
    match (&target.point, replayed) {
        (Point::Time(_), _) => {
            // Replay ends before the first that is too late, and not before any other.
            let early = wal.next.as_ref().filter(|it| wal.late.as_ref() != Some(it));
            if let Some(early) = early {
                let why = format!("it stopped before {}, which is in time", words(early));
                return contradicts(evidence, why, wal.late.is_some());
            }
            if wal.late.is_none() && wal.ended.is_some() {
                evidence.push("the WAL holds no transaction that is too late for the target".to_owned());
            }
        }
        (Point::Xid(_) | Point::Name(_), Some(replayed)) => match wal.target {
            Some((at, end)) => {
                let is_beyond = wal.last.as_ref().is_some_and(|it| it.end > end);
                if is_beyond {
                    return contradicts(evidence, format!("the target's record ends at {end}"), true);
                }
                let after = target.inclusive || matches!(target.point, Point::Name(_));
                if after && replayed < end {
                    return contradicts(evidence, format!("the target's record ends at {end}"), false);
                }
                if !after && replayed > at {
                    return contradicts(evidence, format!("the target's record begins at {at}"), true);
                }
                evidence.push(format!("the target's record in the WAL: {at} to {end}"));
            }
            None => return unproved("the WAL that was read holds no record of the target"),
        },
        (Point::Lsn(lsn), Some(_)) => {
            if let (Ok(wanted), Some(last)) = (lsn.parse::<Lsn>(), &wal.last)
                && if target.inclusive { last.at > wanted } else { last.at >= wanted }
            {
                return contradicts(evidence, format!("it was to stop at {wanted}"), true);
            }
        }
        (Point::Latest | Point::Immediate | Point::Xid(_) | Point::Name(_) | Point::Lsn(_), _) => {}
    }
    evidence.extend(whole);
    Reach::Reached { evidence }
}

/// What the server did, by its own words.
fn by_server(target: &Target, recovered: &Recovered) -> Reach {
    let said = |start: &str| recovered.log.iter().find(|it| it.starts_with(start)).cloned();
    if let Some(line) = said("recovery ended before") {
        let last = said("last completed transaction was");
        return Reach::EndedBefore { evidence: [Some(line), last].into_iter().flatten().collect() };
    }
    if target.point == Point::Latest {
        return match said("archive recovery complete") {
            Some(line) => {
                let more = [said("redo done at"), said("last completed transaction was")];
                Reach::Reached { evidence: more.into_iter().flatten().chain([line]).collect() }
            }
            None => unproved("the server's log does not say that archive recovery was completed"),
        };
    }
    let Some(stop) = said("recovery stopping") else {
        return unproved("the server's log does not say where recovery stopped");
    };
    if !recovered.paused {
        return unproved("recovery did not wait at its target, so nobody saw the server there");
    }
    match beyond(target, recovered, &stop) {
        Ok(()) => {
            let place = recovered.replayed.as_ref().map(|it| format!("replayed up to {it}"));
            let commit = recovered.last_commit.as_ref().map(|it| format!("last commit replayed at {it}"));
            Reach::Reached { evidence: [Some(stop), place, commit].into_iter().flatten().collect() }
        }
        Err(Wrong::Beyond(why)) => Reach::WentBeyond { evidence: vec![stop, why] },
        Err(Wrong::Elsewhere) => {
            unproved(format!("recovery was to stop at {}, and the server's log says: {stop}", target.words()))
        }
    }
}

fn unproved(because: impl Into<String>) -> Reach {
    Reach::Unproved { because: because.into() }
}

enum Wrong {
    Beyond(String),
    Elsewhere,
}

/// Compares the line that the server logged (`recoveryStopsBefore`, `recoveryStopsAfter` in xlogrecovery.c) with the target.
fn beyond(target: &Target, recovered: &Recovered, stop: &str) -> Result<(), Wrong> {
    let holds = |held: bool| if held { Ok(()) } else { Err(Wrong::Elsewhere) };
    match &target.point {
        Point::Latest => Ok(()),
        Point::Immediate => holds(stop == "recovery stopping after reaching consistency"),
        Point::Name(name) => holds(
            stop.strip_prefix("recovery stopping at restore point \"")
                .is_some_and(|it| it.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('"'))),
        ),
        Point::Xid(xid) => {
            let side = if target.inclusive { "after" } else { "before" };
            let named = |what: &str| {
                let line = format!("recovery stopping {side} {what} of transaction {xid}");
                stop.strip_prefix(&line).is_some_and(|rest| rest.is_empty() || rest.starts_with(','))
            };
            holds(named("commit") || named("abort"))
        }
        Point::Lsn(lsn) => {
            let side = if target.inclusive { "after" } else { "before" };
            let prefix = format!("recovery stopping {side} WAL location (LSN) \"");
            let at =
                stop.strip_prefix(&prefix).and_then(|it| it.split('"').next()).and_then(|it| it.parse::<Lsn>().ok());
            let (Some(at), Some(wanted)) = (at, lsn.parse::<Lsn>().ok()) else { return Err(Wrong::Elsewhere) };
            holds(at >= wanted)
        }
        Point::Time(time) => {
            // Before the first commit that is too late: the last one that was replayed is in time.
            if !["recovery stopping before commit", "recovery stopping before abort"]
                .iter()
                .any(|it| stop.starts_with(it))
            {
                return Err(Wrong::Elsewhere);
            }
            let Some(last) = recovered.last_commit.as_deref().and_then(instant) else { return Ok(()) };
            let late = if target.inclusive { last > *time } else { last >= *time };
            if late {
                return Err(Wrong::Beyond(format!("a commit of {} was replayed", postgres_time(last))));
            }
            Ok(())
        }
    }
}

/// As the server prints times in UTC: `2026-11-22 10:00:00.123456+00`.
pub(super) fn instant(text: &str) -> Option<jiff::Timestamp> {
    text.strip_suffix("+00").map(|it| format!("{}Z", it.replacen(' ', "T", 1)))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Timeline;

    fn target(point: Point) -> Target {
        Target { point, inclusive: true, timeline: Timeline::Latest }
    }

    fn paused(log: &[&str], last_commit: &str) -> Recovered {
        Recovered {
            paused: true,
            replayed: Some("0/6006000".to_owned()),
            last_commit: Some(last_commit.to_owned()),
            log: log.iter().map(|it| (*it).to_owned()).collect(),
            ..Recovered::default()
        }
    }

    const TIME: &str = "2026-11-22T10:00:00Z";
    const EARLIER: &str = "2026-11-22 09:59:59.5+00";

    #[test]
    fn a_stop_before_the_first_late_commit_is_at_the_time() {
        let stop = "recovery stopping before commit of transaction 731, time 2026-11-22 10:00:03.1+00";
        let reach = by_server(&target(Point::Time(TIME.parse().expect("a time"))), &paused(&[stop], EARLIER));
        assert!(matches!(reach, Reach::Reached { .. }), "{reach:?}");
    }

    #[test]
    fn a_late_commit_that_was_replayed_is_beyond_whatever_the_server_says() {
        let stop = "recovery stopping before commit of transaction 731, time 2026-11-22 10:00:03.1+00";
        let reach =
            by_server(&target(Point::Time(TIME.parse().expect("a time"))), &paused(&[stop], "2026-11-22 10:00:01+00"));
        assert!(matches!(reach, Reach::WentBeyond { .. }), "{reach:?}");
    }

    #[test]
    fn another_restore_point_or_transaction_proves_nothing() {
        let name = "recovery stopping at restore point \"mark10\", time 2026-11-22 10:00:03.1+00";
        let xid = "recovery stopping after commit of transaction 7310, time 2026-11-22 10:00:03.1+00";
        for (point, line, proved) in [
            (Point::Name("mark10".to_owned()), name, true),
            (Point::Name("mark1".to_owned()), name, false),
            (Point::Xid(7310), xid, true),
            (Point::Xid(731), xid, false),
            (Point::Immediate, xid, false),
            (Point::Immediate, "recovery stopping after reaching consistency", true),
            (Point::Lsn("0/6000".to_owned()), "recovery stopping after WAL location (LSN) \"0/6000\"", true),
            (Point::Lsn("0/6001".to_owned()), "recovery stopping after WAL location (LSN) \"0/6000\"", false),
        ] {
            let reach = by_server(&target(point), &paused(&[line], EARLIER));
            assert_eq!(matches!(reach, Reach::Reached { .. }), proved, "{line}: {reach:?}");
        }
    }

    #[test]
    fn a_server_that_did_not_wait_or_ended_early_is_not_at_its_target() {
        let stop = "recovery stopping at restore point \"a\", time 2026-11-22 10:00:03.1+00";
        let running = Recovered { paused: false, ..paused(&[stop], EARLIER) };
        assert!(matches!(by_server(&target(Point::Name("a".to_owned())), &running), Reach::Unproved { .. }));
        let ended = paused(&["recovery ended before configured recovery target was reached"], EARLIER);
        assert!(matches!(by_server(&target(Point::Name("a".to_owned())), &ended), Reach::EndedBefore { .. }));
        assert!(matches!(by_server(&Target::default(), &Recovered::default()), Reach::Unproved { .. }));
    }

    fn transaction(xid: u32, at: u64, time: &str) -> Transaction {
        let time = format!("{}Z", time.trim_end_matches("+00").replacen(' ', "T", 1)).parse().expect("a time");
        Transaction { xid, at: Lsn(at), end: Lsn(at + 40), time, committed: true }
    }

    const LATER: &str = "2026-11-22 10:00:01+00";

    fn seen() -> WalSeen {
        WalSeen {
            segments: Some(("000000010000000000000001".to_owned(), "000000010000000000000002".to_owned())),
            last: Some(transaction(7, 100, EARLIER)),
            next: Some(transaction(8, 300, LATER)),
            late: Some(transaction(8, 300, LATER)),
            ..WalSeen::default()
        }
    }

    const STOP: &str = "recovery stopping before commit of transaction 8, time 2026-11-22 10:00:01+00";

    #[test]
    fn the_wal_confirms_a_time_and_names_the_transactions_around_it() {
        let time = target(Point::Time(TIME.parse().expect("a time")));
        let Reach::Reached { evidence } = reached(&time, &paused(&[STOP], EARLIER), Some(&seen())) else {
            panic!("it was reached")
        };
        let all = evidence.join("\n");
        assert!(all.contains("the last in the WAL up to there: transaction 7 committed at"), "{all}");
        assert!(all.contains("the first in the WAL behind it: transaction 8 committed at"), "{all}");
    }

    #[test]
    fn what_the_wal_contradicts_is_not_reached_whatever_the_server_says() {
        let time = target(Point::Time(TIME.parse().expect("a time")));
        let server = paused(&[STOP], EARLIER);
        // It stopped before a transaction that is in time.
        let early = WalSeen { next: Some(transaction(6, 200, EARLIER)), late: None, ..seen() };
        assert!(matches!(reached(&time, &server, Some(&early)), Reach::EndedBefore { .. }));
        // It says that its last transaction was another than the WAL's.
        let other = WalSeen { last: Some(transaction(5, 90, "2026-11-22 09:00:00+00")), ..seen() };
        assert!(matches!(reached(&time, &server, Some(&other)), Reach::WentBeyond { .. }));
        // The WAL has no such restore point.
        let name = target(Point::Name("a".to_owned()));
        let line = "recovery stopping at restore point \"a\", time 2026-11-22 10:00:00+00";
        let stopped = Recovered { replayed: Some("0/C8".to_owned()), ..paused(&[line], EARLIER) };
        assert!(matches!(reached(&name, &stopped, Some(&seen())), Reach::Unproved { .. }));
        let there = WalSeen { target: Some((Lsn(160), Lsn(200))), ..seen() };
        assert!(matches!(reached(&name, &stopped, Some(&there)), Reach::Reached { .. }));
        // A transaction behind its record was replayed.
        let behind = WalSeen { target: Some((Lsn(20), Lsn(60))), ..seen() };
        assert!(matches!(reached(&name, &stopped, Some(&behind)), Reach::WentBeyond { .. }));
        // Nobody read the WAL: the server's own evidence stands.
        assert!(matches!(reached(&name, &stopped, None), Reach::Reached { .. }));
    }
}
