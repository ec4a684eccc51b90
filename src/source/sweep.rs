//! The targets of a sweep, and where they lie in the WAL.
//!
//! What surprises: a time is not looked for among the times of commits, which need not rise. As on a server, it lies before the
//! first transaction that is too late for it, so that the latest one so far decides.

use std::collections::VecDeque;

use jiff::Timestamp;

use crate::fault::{Blame, Fault};
use crate::format::lsn::Lsn;
use crate::format::wal::{What, end_before};
use crate::recipe::{Note, NoteKind, Stop, StopPlace, StopsSeen, Transaction, WalWay, WalWindow};
use crate::target::{Point, Points, Sweep, Target};

/// More stops than these take longer than anybody waits for.
const MOST: usize = 1000;

/// The targets of a sweep through this window, in the order of time where they are instants.
pub fn targets(sweep: &Sweep, window: &WalWindow) -> Result<Vec<Target>, Fault> {
    let target = |point| Target { point, inclusive: true, timeline: sweep.timeline };
    if let Points::Each(targets) = &sweep.points {
        return Ok(targets.clone());
    }
    let (Some(first), Some(last)) = (window.first, window.last) else {
        return Err(Fault::new(Blame::Scenario, "choose targets between the backup and the end of the archive")
            .cause("no transaction has ended in that WAL, so it has no times")
            .hint("name the targets, or drill `target: latest`"));
    };
    let (first, last) = (first.as_microsecond(), last.as_microsecond().max(first.as_microsecond()));
    let time = |micros: i64| Timestamp::from_microsecond(micros).ok().filter(|_| micros < last).map(Point::Time);
    let instant = |micros: i64| target(time(micros).unwrap_or(Point::Latest));
    let ends = |between: Vec<i64>| {
        let between = between.into_iter().map(instant);
        [target(Point::Immediate)].into_iter().chain(between).chain([target(Point::Latest)]).collect::<Vec<_>>()
    };
    Ok(match &sweep.points {
        Points::Each(targets) => targets.clone(),
        Points::Count(0 | 1) => vec![target(Point::Latest)],
        Points::Count(count) => {
            let gaps = i64::from(*count) - 1;
            ends((1..gaps).map(|it| first + scaled(last - first, it, gaps)).collect())
        }
        Points::Every(length) => {
            let step = i64::try_from(length.as_micros()).unwrap_or(i64::MAX).max(1);
            let begin = first.checked_add(step - 1).unwrap_or(i64::MAX) / step;
            let stops = (last / step).saturating_sub(begin);
            if usize::try_from(stops).is_ok_and(|it| it > MOST) {
                return Err(Fault::new(Blame::Scenario, format!("stop every {length:?} of the WAL"))
                    .cause(format!("these are {stops} stops, and {MOST} are possible"))
                    .hint("take a longer `every`, or `count`"));
            }
            ends((begin..=last / step).map(|it| it.saturating_mul(step)).filter(|it| *it < last).collect())
        }
        Points::Random { count, seed } => {
            let mut state = *seed;
            let mut drawn: Vec<i64> = (0..*count).map(|_| first + below(&mut state, last - first)).collect();
            drawn.sort_unstable();
            drawn.into_iter().map(instant).collect()
        }
    })
}

/// The stops of a sweep, in the order of the WAL; or which target cannot be one.
pub fn stops(
    way: &WalWay,
    window: &WalWindow,
    targets: Vec<Target>,
    seen: Option<&StopsSeen>,
) -> Result<Vec<Stop>, Fault> {
    let (Some(consistent), Some(seen)) = (window.consistent, seen) else {
        return Err(Fault::new(Blame::Backup, "find the end of the backup in the WAL archive")
            .cause(format!(
                "{} does not hold the WAL in which the backup ended, and no manifest says where that is",
                way.archive
            ))
            .hint("a sweep begins there: look for that WAL, or drill `target: latest`"));
    };
    if missing_before(way, consistent) {
        return Err(Fault::new(Blame::Backup, "sweep from the end of the backup on")
            .cause(format!("{} lacks WAL before {consistent}, where the backup ends", way.archive))
            .hint("a sweep takes its WAL from the archive alone: look for the segments, or drill `target: latest`"));
    }
    let mut stops = Vec::new();
    for (target, found) in targets.into_iter().zip(&seen.found) {
        let what = || Fault::new(Blame::Scenario, format!("find {} in the WAL", target.words()));
        let Some(place) = found else {
            return Err(what()
                .cause(format!("the archive, which ends at {}, holds nothing behind it, or no such record", seen.end))
                .hint("name an earlier target, or wait until that WAL was archived"));
        };
        if place.at < consistent {
            return Err(what()
                .cause(format!("it lies at {}, and this backup ends at {consistent}", place.at))
                .hint("name a later target, or an older backup"));
        }
        stops.push(Stop { target, place: place.clone() });
    }
    stops.sort_by_key(|it| it.place.at);
    Ok(stops)
}

/// Whether a server would have to do without WAL before the backup is consistent.
fn missing_before(way: &WalWay, consistent: Lsn) -> bool {
    let needed = way.start.0 / way.segment_bytes..=consistent.0.saturating_sub(1) / way.segment_bytes;
    let has = |number: u64| way.stretches.iter().any(|it| (it.first..=it.last).contains(&number));
    !needed.into_iter().all(has)
}

/// What a reader should know of a sweep.
pub fn notes(seen: &StopsSeen, stops: usize) -> Vec<Note> {
    let mut notes = Vec::new();
    let mut note = |text: String| notes.push(Note { kind: NoteKind::NotChecked, text });
    if stops > 1 {
        note(
            "all stops but the last are standbys that only read: a check that writes is asked at the last one alone"
                .to_owned(),
        );
    }
    if let Some(broken) = &seen.broken {
        note(format!("the WAL cannot be read everywhere: {broken}"));
    }
    notes
}

/// `length * part / whole`, without an overflow.
fn scaled(length: i64, part: i64, whole: i64) -> i64 {
    i64::try_from(i128::from(length) * i128::from(part) / i128::from(whole.max(1))).unwrap_or(length)
}

/// The next number of a sequence that a seed gives (SplitMix64), from 0 to this one: written out, since the same seed must give
/// the same stops in every version.
fn below(state: &mut u64, length: i64) -> i64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut drawn = *state;
    drawn = (drawn ^ (drawn >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    drawn = (drawn ^ (drawn >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    drawn ^= drawn >> 31;
    let length = u128::from(length.unsigned_abs());
    i64::try_from((u128::from(drawn) * length) >> 64).unwrap_or_default()
}

/// Finds targets among the records of WAL, which it takes in their order. Keeps nothing but the targets.
#[derive(Debug)]
pub struct Locator<'a> {
    way: &'a WalWay,
    targets: &'a [Target],
    consistent: Lsn,
    /// Of those that are not found yet: by time, by position.
    times: VecDeque<(Timestamp, bool, usize)>,
    places: Vec<(Lsn, bool, usize)>,
    immediate: Vec<usize>,
    named: Vec<usize>,
    /// Found, without what comes behind.
    open: Vec<usize>,
    /// No server gets to what comes now.
    broken: bool,
    last: Option<Transaction>,
    seen: StopsSeen,
}

impl<'a> Locator<'a> {
    pub fn new(way: &'a WalWay, consistent: Lsn, targets: &'a [Target]) -> Locator<'a> {
        let (mut times, mut places, mut immediate, mut named) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (at, target) in targets.iter().enumerate() {
            match &target.point {
                Point::Time(time) => times.push((*time, target.inclusive, at)),
                Point::Lsn(lsn) => places.extend(lsn.parse().ok().map(|it| (it, target.inclusive, at))),
                Point::Immediate => immediate.push(at),
                Point::Xid(_) | Point::Name(_) => named.push(at),
                Point::Latest => {}
            }
        }
        // At one instant, the exclusive one comes first.
        times.sort_unstable();
        let seen = StopsSeen { found: vec![None; targets.len()], ..StopsSeen::default() };
        Locator {
            way,
            targets,
            consistent,
            times: times.into(),
            places,
            immediate,
            named,
            open: Vec::new(),
            broken: false,
            last: None,
            seen,
        }
    }

    /// Takes the next record. What lies before the start of the backup's replay is not replayed, and not looked at.
    pub fn record(&mut self, at: Lsn, end: Lsn, what: Option<&What>) {
        if at < self.way.start {
            return;
        }
        let instant = what.and_then(What::time).and_then(|it| Timestamp::from_microsecond(it).ok());
        if !self.broken {
            self.seen.latest = self.seen.latest.max(instant);
        }
        self.before(at, end, what.and_then(transaction).zip(instant));
        if let Some((transaction, time)) = what.and_then(transaction).zip(instant) {
            let (xid, committed) = transaction;
            self.seen.commits += u64::from(committed);
            let ended = Transaction { xid, at, end, time, committed };
            for target in self.open.drain(..) {
                if let Some(found) = &mut self.seen.found[target] {
                    found.next = Some(ended.clone());
                }
            }
            self.last = Some(ended);
        }
        self.after(at, end, what);
        self.seen.end = end;
    }

    /// What comes now lies behind WAL that is missing or cannot be read: targets are found in it, and nothing is recovered.
    pub fn behind_a_break(&mut self) {
        self.broken = true;
    }

    /// Targets that lie before this record.
    fn before(&mut self, at: Lsn, end: Lsn, transaction: Option<((u32, bool), Timestamp)>) {
        let place = end_before(at, self.way.segment_bytes);
        if end > self.consistent {
            for target in std::mem::take(&mut self.immediate) {
                self.found(target, self.consistent);
            }
        }
        if let Some(((xid, _), time)) = transaction {
            let late = |wanted: Timestamp, inclusive: bool| time > wanted || (!inclusive && time == wanted);
            while let Some((_, _, target)) = self.times.front().copied().filter(|it| late(it.0, it.1)) {
                self.times.pop_front();
                self.found(target, place);
            }
            self.named_by(|it| !it.inclusive && it.point.is_transaction(xid), place);
        }
        self.placed(at, false, place);
    }

    /// Targets that this record is the last of.
    fn after(&mut self, at: Lsn, end: Lsn, what: Option<&What>) {
        self.placed(at, true, end);
        match what {
            Some(What::RestorePoint { name, .. }) => self.named_by(|it| it.point == Point::Name(name.clone()), end),
            Some(What::Commit { xid, .. } | What::Abort { xid, .. }) => {
                self.named_by(|it| it.inclusive && it.point.is_transaction(*xid), end);
            }
            Some(What::Checkpoint { .. } | What::BackupEnd { .. } | What::EndOfRecovery { .. }) | None => {}
        }
    }

    /// Targets in the WAL that the record at this place has reached.
    fn placed(&mut self, at: Lsn, inclusive: bool, place: Lsn) {
        let (these, others): (Vec<_>, _) = self.places.iter().partition(|it| it.1 == inclusive && at >= it.0);
        self.places = others;
        for (_, _, target) in these {
            self.found(target, place);
        }
    }

    fn named_by(&mut self, is: impl Fn(&Target) -> bool, place: Lsn) {
        let (these, others) = self.named.iter().partition::<Vec<usize>, _>(|it| is(&self.targets[**it]));
        self.named = others;
        for target in these {
            self.found(target, place);
        }
    }

    fn found(&mut self, target: usize, at: Lsn) {
        self.seen.found[target] = Some(StopPlace { at, last: self.last.clone(), next: None });
        self.open.push(target);
    }

    /// There are no more records.
    pub fn finish(mut self) -> StopsSeen {
        let latest = self.targets.iter().enumerate().filter(|(_, it)| it.point == Point::Latest).map(|(at, _)| at);
        let immediate = std::mem::take(&mut self.immediate);
        let end = self.seen.end;
        for target in latest.collect::<Vec<_>>() {
            self.found(target, end);
        }
        if end == self.consistent {
            for target in immediate {
                self.found(target, end);
            }
        }
        self.seen
    }
}

fn transaction(what: &What) -> Option<(u32, bool)> {
    match what {
        What::Commit { xid, .. } => Some((*xid, true)),
        What::Abort { xid, .. } => Some((*xid, false)),
        What::RestorePoint { .. } | What::Checkpoint { .. } | What::BackupEnd { .. } | What::EndOfRecovery { .. } => {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::target::Timeline;

    fn at(time: &str) -> Timestamp {
        format!("2026-11-22T{time}Z").parse().expect("a time")
    }

    fn window() -> WalWindow {
        WalWindow { consistent: Some(Lsn(0x100)), first: Some(at("10:07:00")), last: Some(at("11:07:00")) }
    }

    fn words(points: Points) -> Vec<String> {
        let sweep = Sweep { points, timeline: Timeline::Latest };
        let targets = targets(&sweep, &window()).expect("targets");
        let word = |it: &Target| match &it.point {
            Point::Time(time) => time.strftime("%H:%M:%S").to_string(),
            Point::Immediate => "first".to_owned(),
            Point::Latest => "last".to_owned(),
            Point::Lsn(_) | Point::Xid(_) | Point::Name(_) => panic!("{it:?}"),
        };
        targets.iter().map(word).collect()
    }

    #[test]
    fn stops_are_spread_over_the_window_and_hold_its_ends() {
        assert_eq!(words(Points::Count(5)), ["first", "10:22:00", "10:37:00", "10:52:00", "last"]);
        assert_eq!(words(Points::Count(2)), ["first", "last"]);
        assert_eq!(words(Points::Count(1)), ["last"]);
    }

    #[test]
    fn stops_by_the_clock_are_where_anybody_would_look_for_them() {
        let quarter = Duration::from_secs(900);
        assert_eq!(words(Points::Every(quarter)), ["first", "10:15:00", "10:30:00", "10:45:00", "11:00:00", "last"]);
        assert_eq!(words(Points::Every(Duration::from_secs(86400))), ["first", "last"]);
        let sweep = Sweep { points: Points::Every(Duration::from_millis(1)), timeline: Timeline::Latest };
        assert_eq!(targets(&sweep, &window()).expect_err("too many").blame, Blame::Scenario);
    }

    /// In every version: a seed in a report must give the stops that it gave.
    #[test]
    fn a_seed_draws_the_same_stops_for_ever() {
        let drawn = words(Points::Random { count: 4, seed: 7 });
        assert_eq!(drawn, words(Points::Random { count: 4, seed: 7 }));
        assert_eq!(drawn, ["10:08:00", "10:30:23", "10:41:58", "11:01:02"]);
        assert_ne!(drawn, words(Points::Random { count: 4, seed: 8 }));
    }

    const BYTES: u64 = 1 << 20;

    fn way() -> WalWay {
        WalWay {
            archive: "/wal".to_owned(),
            segment_bytes: BYTES,
            stretches: Vec::new(),
            start: Lsn(BYTES + 40),
            stop: None,
        }
    }

    fn commit(xid: u32, time: &str) -> What {
        What::Commit { xid, time: at(time).as_microsecond() }
    }

    fn target(point: Point, inclusive: bool) -> Target {
        Target { point, inclusive, timeline: Timeline::Latest }
    }

    /// Places of these targets in WAL of five records, of 0x40 bytes each.
    fn places(targets: &[Target]) -> Vec<Option<u64>> {
        let way = way();
        let mut locator = Locator::new(&way, Lsn(BYTES + 40 + 0x40), targets);
        let records = [
            None,
            Some(commit(1, "10:00:00")),
            // Clocks and commits need not agree.
            Some(commit(2, "10:00:05")),
            Some(commit(3, "10:00:04")),
            Some(What::RestorePoint { name: "here".to_owned(), time: at("10:00:06").as_microsecond() }),
        ];
        for (index, what) in (0..).zip(&records) {
            let begin = Lsn(BYTES + 40 + index * 0x40);
            locator.record(begin, Lsn(begin.0 + 0x40), what.as_ref());
        }
        locator.finish().found.iter().map(|it| it.as_ref().map(|it| (it.at.0 - BYTES - 40) / 0x40)).collect()
    }

    #[test]
    fn a_time_lies_before_the_first_transaction_that_is_too_late_for_it() {
        let time = |it: &str, inclusive| target(Point::Time(at(it)), inclusive);
        let targets = [
            time("09:59:59", true),
            time("10:00:00", true),
            time("10:00:00", false),
            time("10:00:04", true),
            time("10:00:05", false),
            time("10:00:05", true),
        ];
        assert_eq!(places(&targets), [Some(1), Some(2), Some(1), Some(2), Some(2), None]);
    }

    #[test]
    fn the_other_targets_lie_where_a_server_would_stop() {
        let lsn = |record: u64, inclusive| target(Point::Lsn(Lsn(BYTES + 40 + record * 0x40).to_string()), inclusive);
        let targets = [
            target(Point::Immediate, true),
            target(Point::Xid(2), true),
            target(Point::Xid((1 << 32) + 2), false),
            target(Point::Name("here".to_owned()), true),
            lsn(2, true),
            lsn(2, false),
            target(Point::Latest, true),
            target(Point::Xid(9), true),
        ];
        let expected = [Some(1), Some(3), Some(2), Some(5), Some(3), Some(2), Some(5), None];
        assert_eq!(places(&targets), expected);
    }

    #[test]
    fn a_record_at_the_top_of_a_page_comes_behind_one_that_ended_on_the_page_before() {
        for (begin, expected) in [(BYTES + 40, BYTES), (BYTES + 8192 + 24, BYTES + 8192), (BYTES + 64, BYTES + 64)] {
            assert_eq!(end_before(Lsn(begin), BYTES), Lsn(expected));
        }
    }
}
