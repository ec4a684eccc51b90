//! Reads the WAL of a recovery out of an archive, as a server would: segment after segment, on the timeline that it takes.
//!
//! What is missing or cannot be read does not end the reading: where targets lie behind it is known all the same.

use std::ops::ControlFlow;
use std::path::Path;

use jiff::Timestamp;

use super::Reading;
use super::wal::{find_wal, read_wal};
use crate::fault::{Blame, Fault};
use crate::format::lsn::{Lsn, Segment};
use crate::format::wal::{OnRecord, Reader, What};
use crate::recipe::{StopsSeen, WalWay, WalWindow};
use crate::source::sweep::Locator;
use crate::target::Target;

/// Segments at the end of the WAL in which a transaction is looked for.
const TAIL: usize = 256;

/// From when to when it can recover.
pub fn wal_window(way: &WalWay, reading: &Reading) -> Result<WalWindow, Fault> {
    let (mut consistent, mut first) = (None, None::<Timestamp>);
    let mut passage = Passage::new(way);
    let mut known = false;
    for segment in way.segments() {
        let read = passage.segment(segment, reading, &mut |at, end, what| {
            if at < way.start || known {
                return;
            }
            let backup_ends = matches!(&what, Some(What::BackupEnd { start }) if *start == way.start);
            if consistent.is_none() && (backup_ends || way.stop.is_some_and(|it| at >= it)) {
                consistent = if backup_ends { Some(end) } else { way.stop };
                known = first.is_some();
            }
            if let Some(time) = what.as_ref().and_then(ended).filter(|_| !known) {
                first = first.max(Some(time));
                known = consistent.is_some();
            }
        });
        read?;
        if known {
            break;
        }
    }
    let mut last = None;
    for segment in way.segments().rev().take(TAIL) {
        let mut passage = Passage::new(way);
        passage.segment(segment, reading, &mut |at, _, what| {
            last = last.max(what.as_ref().and_then(ended).filter(|_| at >= way.start));
        })?;
        if last.is_some() {
            break;
        }
    }
    Ok(WalWindow { consistent, first, last: last.or(first) })
}

/// Where targets lie. `said`: the names of the segments, as they are read.
pub fn wal_stops(
    way: &WalWay,
    consistent: Lsn,
    targets: &[Target],
    reading: &Reading,
    said: &mut dyn FnMut(&str),
) -> Result<StopsSeen, Fault> {
    let mut locator = Locator::new(way, consistent, targets);
    let mut passage = Passage::new(way);
    let (mut first, mut last) = (None, None);
    for segment in way.segments() {
        let name = way.name(segment);
        said(&name);
        if passage.is_broken_before(segment) {
            locator.behind_a_break();
        }
        passage.segment(segment, reading, &mut |at, end, what| locator.record(at, end, what.as_ref()))?;
        first.get_or_insert_with(|| name.clone());
        last = Some(name);
    }
    let (records, broken) = (passage.records(), passage.broken);
    Ok(StopsSeen { segments: first.zip(last), records, broken, ..locator.finish() })
}

/// When a transaction ended.
fn ended(what: &What) -> Option<Timestamp> {
    match what {
        What::Commit { time, .. } | What::Abort { time, .. } => Timestamp::from_microsecond(*time).ok(),
        What::RestorePoint { .. } | What::Checkpoint { .. } | What::BackupEnd { .. } | What::EndOfRecovery { .. } => {
            None
        }
    }
}

/// What is read across segments, and begun anew behind what is missing.
struct Passage<'a> {
    way: &'a WalWay,
    reader: Reader,
    /// The number of the segment that follows.
    next: Option<u64>,
    /// Of readers before this one.
    records: u64,
    /// Why the last segment was not read to its end: nothing is wrong if it was the last of all.
    ended: Option<String>,
    broken: Option<String>,
}

impl Passage<'_> {
    fn new(way: &WalWay) -> Passage<'_> {
        let reader = Reader::new(way.segment_bytes);
        Passage { way, reader, next: None, records: 0, ended: None, broken: None }
    }

    fn records(&self) -> u64 {
        self.records + self.reader.records()
    }

    /// Whether a server could not go on to this segment.
    fn is_broken_before(&self, segment: Segment) -> bool {
        self.next.is_some_and(|it| it != segment.number) || self.ended.is_some()
    }

    fn segment(&mut self, segment: Segment, reading: &Reading, on_record: OnRecord<'_>) -> Result<(), Fault> {
        let name = self.way.name(segment);
        let broken = self.is_broken_before(segment);
        if let Some(ended) = self.ended.take() {
            self.broken.get_or_insert(ended);
        }
        if broken {
            self.records += self.reader.records();
            self.reader = Reader::new(self.way.segment_bytes);
        }
        self.next = Some(segment.number + 1);
        let Some(file) = find_wal(Path::new(&self.way.archive), &name, reading)? else {
            self.ended = Some(format!("{name} is not in the archive any more"));
            return Ok(());
        };
        let mut trouble = None;
        let reader = &mut self.reader;
        let read = read_wal(&file, reading, &mut |page| {
            if let Err(stopped) = reader.every(page, on_record) {
                trouble = Some(format!("{name}, at {}: {}", stopped.at, stopped.because));
            }
            if trouble.is_some() || reader.has_ended() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        match read {
            Err(fault) if fault.blame != Blame::Backup => return Err(fault),
            Err(fault) => trouble = trouble.or(Some(fault.line())),
            Ok(()) => {}
        }
        if trouble.is_none() && self.reader.has_ended() {
            let end = self.reader.end().unwrap_or_default();
            trouble = Some(format!("{name}: its records end at {end}"));
        }
        self.ended = trouble;
        Ok(())
    }
}
