//! What lies in a WAL archive, by the names of its files and the headers of some: which stretches of WAL, on which timelines.
//!
//! Nothing here reads a file: the names are given, and what the headers say. A hundred thousand segments are a few stretches.

use std::collections::BTreeMap;
use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::lsn::{Lsn, Segment};

/// Names of one kind that are kept; the rest is counted.
const NAMED: usize = 20;
/// More stretches than these are no archive.
const STRETCHES: usize = 10_000;

/// An archive, as the survey saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ArchiveSeen {
    /// Of a segment, decompressed; as their own headers say.
    pub segment_bytes: u64,
    pub segments: u64,
    /// In the order of timelines and positions.
    pub stretches: Vec<Stretch>,
    /// What `.history` files say, by timeline.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub histories: BTreeMap<u32, History>,
    /// Segments that were not compressed and are not as large as a segment: cut, or still being written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wrong_size: Vec<WrongSize>,
    /// Files of the last segments of timelines that were not finished, and stand for whole ones: pg_receivewal writes to them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unfinished: Vec<String>,
    /// Other `.partial` files, such as the end of a timeline that a promoted server left. No server asks for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partial: Vec<String>,
    /// Headers that were read, of the segments that a recovery needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<SegmentSeen>,
}

/// Segments without a gap between them, on one timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stretch {
    pub timeline: u32,
    /// Numbers of the first and the last segment, counted from the start of WAL.
    pub first: u64,
    pub last: u64,
}

/// A timeline's ancestors, the oldest first, each with the position at which it was left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct History {
    pub ancestors: Vec<(u32, Lsn)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WrongSize {
    pub name: String,
    pub bytes: u64,
}

/// What the first page of a segment says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SegmentSeen {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_identifier: Option<u64>,
    /// Why it cannot be this segment: another's header, or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrong: Option<String>,
}

/// What a file of an archive is, by its name, with its compression's ending taken off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named<'a> {
    /// 24 digits.
    Segment(&'a str),
    History(u32),
    /// Of a backup (`.backup`), which a recovery does not need.
    Label,
    Partial,
    Other,
}

/// `000000010000000000000001`, `00000002.history`, `….00000028.backup`, `….partial`
pub fn named(name: &str) -> Named<'_> {
    let hex =
        |it: &str, length: usize| it.len() == length && it.bytes().all(|it| matches!(it, b'0'..=b'9' | b'A'..=b'F'));
    let mut parts = name.split('.');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(segment), None, ..) if hex(segment, 24) => Named::Segment(segment),
        (Some(timeline), Some("history"), None, _) if hex(timeline, 8) => {
            u32::from_str_radix(timeline, 16).map_or(Named::Other, Named::History)
        }
        (Some(segment), Some("partial"), None, _) if hex(segment, 24) => Named::Partial,
        (Some(segment), Some(offset), Some("backup"), None) if hex(segment, 24) && hex(offset, 8) => Named::Label,
        _ => Named::Other,
    }
}

impl ArchiveSeen {
    /// From the names of segments, and how large those are that are not compressed.
    pub fn of(segment_bytes: u64, mut names: Vec<(&str, Option<u64>)>) -> ArchiveSeen {
        names.sort_unstable();
        names.dedup_by(|a, b| a.0 == b.0);
        let mut archive = ArchiveSeen { segment_bytes, ..ArchiveSeen::default() };
        for (name, bytes) in names {
            let Some(Segment { timeline, number }) = Segment::parse(name, segment_bytes) else { continue };
            archive.segments += 1;
            if let Some(bytes) = bytes.filter(|it| *it != segment_bytes)
                && archive.wrong_size.len() < NAMED
            {
                archive.wrong_size.push(WrongSize { name: name.to_owned(), bytes });
            }
            let room = archive.stretches.len() < STRETCHES;
            match archive.stretches.last_mut() {
                Some(it) if it.timeline == timeline && it.last + 1 == number => it.last = number,
                Some(_) | None if room => archive.stretches.push(Stretch { timeline, first: number, last: number }),
                Some(_) | None => {}
            }
        }
        archive
    }

    pub fn name(&self, segment: Segment) -> String {
        segment.name(self.segment_bytes)
    }
}

impl History {
    /// `1<TAB>0/3000000<TAB>reason`, a line for each ancestor; blank lines and comments between them.
    pub fn parse(text: &str) -> Option<History> {
        let mut ancestors: Vec<(u32, Lsn)> = Vec::new();
        for line in text.lines().map(str::trim).filter(|it| !it.is_empty() && !it.starts_with('#')) {
            let mut fields = line.split_whitespace();
            let (timeline, left) = (fields.next()?.parse::<u32>().ok()?, fields.next()?.parse::<Lsn>().ok()?);
            if ancestors.last().is_some_and(|it| it.0 >= timeline) {
                return None;
            }
            ancestors.push((timeline, left));
        }
        Some(History { ancestors })
    }
}

/// The WAL that a recovery finds, from where a backup begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// The timelines that it follows, the oldest first, each with where it is left.
    pub timelines: Vec<(u32, Option<Lsn>)>,
    /// The first segment that the archive has of it; before it, the backup must bring WAL itself.
    pub first: Option<Segment>,
    /// Where what is there without a gap ends.
    pub end: Lsn,
    pub gap: Option<Gap>,
}

/// WAL that is missing, with more behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    pub missing: Segment,
    pub segments: u64,
    /// The first that is there again.
    pub then: Segment,
}

/// Which timeline a recovery is to follow to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// The newest that descends from the backup's.
    Latest,
    Only(u32),
}

/// Why no chain can be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoChain {
    /// These end timelines that all descend from the backup's, and none from another of them.
    Several(Vec<u32>),
    /// The timeline that was asked for does not descend from the backup's, or left it before the backup.
    Foreign(u32),
    /// No history file says where it came from.
    Unknown(u32),
}

/// The chain from a backup's start. `stop`: where the backup's own WAL ends, which it may bring itself.
pub fn chain(
    archive: &ArchiveSeen,
    timeline: u32,
    start: Lsn,
    stop: Option<Lsn>,
    follow: Follow,
) -> Result<Chain, NoChain> {
    let bytes = archive.segment_bytes;
    let timelines = path(archive, timeline, start, follow)?;
    let mut chain = Chain { timelines, end: stop.unwrap_or(start), ..Chain::default() };
    let mut number = start.0 / bytes;
    // What the backup brings itself need not be in the archive.
    let needed = stop.map_or(number, |it| it.0.saturating_sub(1) / bytes + 1);
    while let Some(next) = next_there(archive, &chain.timelines, number) {
        let missing = number.max(needed);
        let may_be_missing = next.number <= missing || (chain.first.is_none() && stop.is_none());
        if next.number > number && !may_be_missing {
            let missing = Segment { timeline: on(&chain.timelines, missing, bytes), number: missing };
            chain.gap = Some(Gap { missing, segments: next.number - missing.number, then: next });
            break;
        }
        chain.first.get_or_insert(next);
        number = jump(archive, next, &chain.timelines);
        chain.end = Lsn(number * bytes).max(chain.end);
    }
    Ok(chain)
}

/// The segments that a server reads from this number on, in the order in which it does. Between two stretches that do not
/// follow on each other, WAL is missing.
pub fn way(archive: &ArchiveSeen, timelines: &[(u32, Option<Lsn>)], mut number: u64) -> Vec<Stretch> {
    let mut way = Vec::new();
    while let Some(Segment { timeline, number: first }) = next_there(archive, timelines, number) {
        let holds = |it: &&Stretch| it.timeline == timeline && (it.first..=it.last).contains(&first);
        let last = archive.stretches.iter().find(holds).map_or(first, |it| it.last);
        // The segment in which the timeline is left is looked for on the next one first.
        let left =
            timelines.iter().find(|it| it.0 == timeline).and_then(|it| it.1).map(|it| it.0 / archive.segment_bytes);
        let last = match left {
            Some(left) if first < left => last.min(left - 1),
            Some(_) => first,
            None => last,
        };
        way.push(Stretch { timeline, first, last });
        number = last + 1;
    }
    // What is still on its way into the archive cannot be served.
    if let Some(last) = way.last_mut() {
        let name = archive.name(Segment { timeline: last.timeline, number: last.last });
        if archive.wrong_size.iter().any(|it| it.name == name) {
            if last.first < last.last {
                last.last -= 1;
            } else {
                way.pop();
            }
        }
    }
    way
}

/// The first of these segments, by number, that is not there.
pub fn missing(archive: &ArchiveSeen, timelines: &[(u32, Option<Lsn>)], mut numbers: Range<u64>) -> Option<Segment> {
    let lost = numbers.find(|it| next_there(archive, timelines, *it).is_none_or(|next| next.number > *it))?;
    Some(Segment { timeline: on(timelines, lost, archive.segment_bytes), number: lost })
}

/// The first segment from this number on that is there, on the timeline on which a server looks for it.
fn next_there(archive: &ArchiveSeen, timelines: &[(u32, Option<Lsn>)], number: u64) -> Option<Segment> {
    let bytes = archive.segment_bytes;
    let mut begins = 0;
    let mut found: Option<Segment> = None;
    for (timeline, left) in timelines {
        let ends = left.map_or(u64::MAX, |it| it.0.saturating_sub(1) / bytes);
        for stretch in archive.stretches.iter().filter(|it| it.timeline == *timeline) {
            let at = number.max(stretch.first).max(begins);
            // Of two with one number, a server takes that of the newer timeline.
            if at <= stretch.last.min(ends) && found.is_none_or(|it| at <= it.number) {
                found = Some(Segment { timeline: *timeline, number: at });
            }
        }
        begins = left.map_or(u64::MAX, |it| it.0 / bytes);
    }
    found
}

/// The timeline that a segment is missing of.
fn on(timelines: &[(u32, Option<Lsn>)], number: u64, bytes: u64) -> u32 {
    let holds = |it: &&(u32, Option<Lsn>)| it.1.is_none_or(|left| number <= left.0.saturating_sub(1) / bytes);
    timelines.iter().find(holds).or(timelines.last()).map_or(1, |it| it.0)
}

/// The number behind the stretch that this segment lies in, or behind its timeline: the ones between are there.
fn jump(archive: &ArchiveSeen, segment: Segment, timelines: &[(u32, Option<Lsn>)]) -> u64 {
    let holds = |it: &&Stretch| it.timeline == segment.timeline && (it.first..=it.last).contains(&segment.number);
    let end = archive.stretches.iter().find(holds).map_or(segment.number, |it| it.last);
    let left = timelines.iter().find(|it| it.0 == segment.timeline).and_then(|it| it.1);
    let end = left.map_or(end, |it| end.min(it.0.saturating_sub(1) / archive.segment_bytes));
    end.max(segment.number) + 1
}

fn path(archive: &ArchiveSeen, timeline: u32, start: Lsn, follow: Follow) -> Result<Vec<(u32, Option<Lsn>)>, NoChain> {
    let descends = |history: &History| history.ancestors.iter().any(|(id, left)| *id == timeline && *left >= start);
    let to = match follow {
        Follow::Only(id) => id,
        Follow::Latest => {
            let children: Vec<u32> = archive.histories.iter().filter(|it| descends(it.1)).map(|it| *it.0).collect();
            let parents: Vec<u32> =
                archive.histories.values().flat_map(|it| it.ancestors.iter().map(|(id, _)| *id)).collect();
            let leaves: Vec<u32> = children.into_iter().filter(|it| !parents.contains(it)).collect();
            match leaves.as_slice() {
                [] => timeline,
                [only] => *only,
                _ => return Err(NoChain::Several(leaves)),
            }
        }
    };
    if to == timeline {
        return Ok(vec![(timeline, None)]);
    }
    let history = archive.histories.get(&to).ok_or(NoChain::Unknown(to))?;
    if !descends(history) {
        return Err(NoChain::Foreign(to));
    }
    let ancestors = history.ancestors.iter().skip_while(|(id, _)| *id != timeline);
    Ok(ancestors.map(|(id, left)| (*id, Some(*left))).chain([(to, None)]).collect())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn archive(names: &[&str]) -> ArchiveSeen {
        ArchiveSeen::of(16 * MIB, names.iter().map(|it| (*it, Some(16 * MIB))).collect())
    }

    fn segment(timeline: u32, number: u64) -> String {
        Segment { timeline, number }.name(16 * MIB)
    }

    fn segments(timeline: u32, numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
        numbers.into_iter().map(|it| segment(timeline, it)).collect()
    }

    fn of(names: &[String]) -> ArchiveSeen {
        archive(&names.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn at(number: u64, offset: u64) -> Lsn {
        Lsn(number * 16 * MIB + offset)
    }

    #[test]
    fn the_first_that_is_missing_of_a_range_is_named_on_its_timeline() {
        let archive = of(&[segments(1, 3..6), segments(2, 6..9)].concat());
        let timelines = [(1, Some(at(6, 0))), (2, None)];
        assert_eq!(missing(&archive, &timelines, 3..9), None);
        assert_eq!(missing(&archive, &timelines, 2..5), Some(Segment { timeline: 1, number: 2 }));
        assert_eq!(missing(&archive, &timelines, 7..12), Some(Segment { timeline: 2, number: 9 }));
        assert_eq!(missing(&archive, &timelines, 5..5), None);
    }

    #[test]
    fn names_say_what_a_file_is() {
        assert_eq!(named("000000010000000000000001"), Named::Segment("000000010000000000000001"));
        assert_eq!(named("0000000A.history"), Named::History(10));
        assert_eq!(named("000000010000000000000001.00000028.backup"), Named::Label);
        assert_eq!(named("000000010000000000000001.partial"), Named::Partial);
        for other in ["", "backup_manifest", "00000001000000000000000g", "000000010000000000000001.tmp", "x.history"] {
            assert_eq!(named(other), Named::Other, "{other}");
        }
    }

    #[test]
    fn a_hundred_thousand_segments_are_a_few_stretches() {
        let names = segments(1, (1..50_000).chain(50_001..100_001));
        let archive = of(&names);
        assert_eq!((archive.segments, archive.stretches.len()), (99_999, 2));
        let chain = chain(&archive, 1, at(7, 40), Some(at(7, 300)), Follow::Latest).unwrap();
        assert_eq!(chain.end, at(50_000, 0));
        let gap = chain.gap.unwrap();
        assert_eq!((gap.missing.number, gap.segments, gap.then.number), (50_000, 1, 50_001));
    }

    #[test]
    fn a_whole_chain_has_no_gap_and_ends_with_its_last_segment() {
        let chain = chain(&of(&segments(1, 3..9)), 1, at(3, 40), Some(at(4, 0)), Follow::Latest).unwrap();
        assert_eq!((chain.end, chain.gap), (at(9, 0), None));
    }

    #[test]
    fn what_the_backup_brings_itself_may_be_missing_and_what_comes_then_may_not() {
        let archive = of(&segments(1, 6..9));
        // The backup's own WAL lies in 4 and 5.
        let whole = chain(&archive, 1, at(4, 40), Some(at(5, 100)), Follow::Latest).unwrap();
        assert_eq!((whole.end, whole.gap), (at(9, 0), None));
        let gap = chain(&archive, 1, at(3, 40), Some(at(4, 100)), Follow::Latest).unwrap().gap.unwrap();
        assert_eq!((gap.missing.number, gap.then.number), (5, 6));
        // An archive that ends before the backup began has nothing for it.
        let before = chain(&archive, 1, at(20, 40), Some(at(20, 100)), Follow::Latest).unwrap();
        assert_eq!((before.first, before.end, before.gap), (None, at(20, 100), None));
    }

    #[test]
    fn a_timeline_is_followed_to_where_it_was_left() {
        let mut names = segments(1, 1..6);
        names.extend(segments(2, 5..8));
        let mut archive = of(&names);
        archive.histories.insert(2, History::parse("1\t0/5800000\tno recovery target specified\n").unwrap());
        let left: Lsn = "0/5800000".parse().unwrap();
        let found = chain(&archive, 1, at(2, 40), Some(at(2, 90)), Follow::Latest).unwrap();
        assert_eq!(found.timelines, [(1, Some(left)), (2, None)]);
        assert_eq!((found.end, found.gap), (at(8, 0), None));
        let own = chain(&archive, 1, at(2, 40), Some(at(2, 90)), Follow::Only(1)).unwrap();
        assert_eq!(own.end, at(6, 0));
        // The backup was made after timeline 1 was left: 2 is not its future.
        assert_eq!(chain(&archive, 1, at(5, 12 * MIB), None, Follow::Only(2)), Err(NoChain::Foreign(2)));
        assert_eq!(chain(&archive, 1, at(2, 40), None, Follow::Only(3)), Err(NoChain::Unknown(3)));
    }

    #[test]
    fn two_futures_are_named_and_none_is_chosen() {
        let mut archive = of(&segments(1, 1..9));
        archive.histories.insert(2, History::parse("1\t0/5800000\tx").unwrap());
        archive.histories.insert(3, History::parse("1\t0/6800000\ty").unwrap());
        let found = chain(&archive, 1, at(2, 40), None, Follow::Latest);
        assert_eq!(found, Err(NoChain::Several(vec![2, 3])));
        // One that the other came from is no choice.
        archive.histories.insert(3, History::parse("1\t0/5800000\tx\n2\t0/6800000\ty").unwrap());
        let found = chain(&archive, 1, at(2, 40), None, Follow::Latest).unwrap();
        assert_eq!(found.timelines.iter().map(|it| it.0).collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn a_segment_that_is_not_as_large_as_the_others_is_named() {
        let short = segment(1, 4);
        let names = [(segment(1, 3), Some(16 * MIB)), (short.clone(), Some(1000)), (segment(1, 5), None)];
        let archive = ArchiveSeen::of(16 * MIB, names.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect());
        assert_eq!(archive.wrong_size, [WrongSize { name: short, bytes: 1000 }]);
    }

    #[test]
    fn a_history_that_is_none_is_refused() {
        for text in ["x\t0/1", "2\t0/1\n1\t0/2", "1\tnowhere"] {
            assert_eq!(History::parse(text), None, "{text}");
        }
        assert_eq!(History::parse("# a comment\n\n").unwrap(), History::default());
    }
}
