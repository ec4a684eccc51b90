//! Looks through a part of the WAL in an archive for the record at which a recovery would stop.

use std::ops::ControlFlow;
use std::path::Path;

use super::Reading;
use super::wal::{WalFile, find_wal, read_wal};
use crate::fault::{Blame, Fault};
use crate::format::lsn::{Lsn, Segment};
use crate::format::wal::{Reader, Record, What};
use crate::recipe::{Found, Searched, Until, WalPart};

/// Up to the first record of that kind. WAL that is missing or damaged ends the search, and is no fault here: whether it
/// matters is for others to say.
pub fn search(part: &WalPart, reading: &Reading) -> Result<Searched, Fault> {
    let bytes = part.segment_bytes;
    let (mut reader, mut seen) = (Reader::new(bytes), Searched::default());
    for number in part.from.0 / bytes.. {
        let begins = Lsn(number * bytes);
        if matches!(part.until, Until::Place(to) if to <= begins) {
            break;
        }
        let Some(file) = there(part, number, reading)? else {
            // An archive may begin with the backup.
            let skip = match part.until {
                Until::Place(to) | Until::EndOfBackup(to) => seen.segments == 0 && begins.0 + bytes <= to.0,
                Until::EndOfArchive => false,
            };
            if skip {
                continue;
            }
            seen.ended = Some(format!("the archive has no segment that begins at {begins}"));
            break;
        };
        let (mut over, mut trouble) = (false, None);
        let read = read_wal(&file, reading, &mut |page| {
            let mut on_record = |record: Record| over = over || look(part, &record, &mut seen.found);
            if let Err(stopped) = reader.page(page, &mut on_record) {
                trouble = Some(format!("{}, at {}: {}", file.path.display(), stopped.at, stopped.because));
            }
            if over || trouble.is_some() || reader.has_ended() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        match read {
            Err(fault) if fault.blame == Blame::Backup => trouble = Some(fault.line()),
            Err(fault) => return Err(fault),
            Ok(()) => seen.segments += 1,
        }
        if over {
            break;
        }
        if trouble.is_some() || reader.has_ended() {
            seen.ended = trouble.or_else(|| Some(format!("WAL ends at {}", reader.end().unwrap_or(begins))));
            break;
        }
    }
    Ok(seen)
}

/// Whether the search is over with this record.
fn look(part: &WalPart, record: &Record, found: &mut Option<Found>) -> bool {
    let is_end = match part.until {
        Until::Place(to) => record.at >= to,
        Until::EndOfBackup(start) => record.what == What::BackupEnd { start },
        Until::EndOfArchive => false,
    };
    let is_found = !is_end && record.at >= part.from && part.target.stops_at(&record.what);
    if is_found {
        let time = record.what.time().and_then(|it| jiff::Timestamp::from_microsecond(it).ok());
        *found = Some(Found { at: record.at, time });
    }
    is_end || is_found
}

/// The file that a server would read for this number: that of the newest timeline that has begun by then.
fn there(part: &WalPart, number: u64, reading: &Reading) -> Result<Option<WalFile>, Fault> {
    let mut begins = 0;
    let mut names = Vec::new();
    for (timeline, left) in &part.timelines {
        let left = left.map(|it| it.0 / part.segment_bytes);
        if begins <= number && left.is_none_or(|left| number <= left) {
            names.push(Segment { timeline: *timeline, number }.name(part.segment_bytes));
        }
        begins = left.unwrap_or(u64::MAX);
    }
    for name in names.iter().rev() {
        if let Some(file) = find_wal(Path::new(&part.archive), name, reading)? {
            return Ok(Some(file));
        }
    }
    Ok(None)
}
