//! The records of write-ahead log, as far as a drill must understand them: commits, restore points, checkpoints.
//!
//! Layouts are those of access/xlog_internal.h, xlogrecord.h and xact.h, of PostgreSQL 13 to 18. Fed with pages in their order,
//! a [`Reader`] checks every header, checksum and back link itself, so that what it says does not rest on any server's word.

use super::lsn::Lsn;

/// `BLCKSZ` of WAL; other builds are refused.
pub const PAGE: usize = 8192;
/// `SizeOfXLogShortPHD`, `SizeOfXLogLongPHD`, `SizeOfXLogRecord`
const SHORT: usize = 24;
const LONG: usize = 40;
const RECORD: usize = 24;
/// `XLP_FIRST_IS_CONTRECORD`, `XLP_LONG_HEADER`, `XLP_FIRST_IS_OVERWRITE_CONTRECORD`
const CONTINUES: u16 = 1;
const IS_LONG: u16 = 2;
const OVERWRITES: u16 = 8;
/// No record is longer: `XLogRecordMaxSize`, and a little more for 13 to 15.
const LONGEST: u32 = 1 << 30;
/// Of a record, what is kept to be understood: a commit with half a million subtransactions.
const KEPT: usize = 2 << 20;
/// From 1970 to 2000, in microseconds.
const EPOCH: i64 = 946_684_800_000_000;

const RM_XLOG: u8 = 0;
const RM_XACT: u8 = 1;

/// How it is told that a page begins as none of WAL does; its number follows.
pub const NOT_WAL: &str = "a page has the magic number";

/// The major that writes pages with this magic number (`XLOG_PAGE_MAGIC`).
pub fn major_of(magic: u16) -> Option<u32> {
    Some(match magic {
        0xD106 => 13,
        0xD10D => 14,
        0xD110 => 15,
        0xD113 => 16,
        0xD116 => 17,
        0xD118 => 18,
        _ => return None,
    })
}

/// What the first page of a segment says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    pub major: u32,
    pub timeline: u32,
    pub start: Lsn,
    pub system_identifier: u64,
    pub segment_bytes: u32,
}

impl SegmentHeader {
    /// From the first 40 bytes of a segment, or more. Err: what is wrong with them, in words.
    pub fn parse(bytes: &[u8]) -> Result<SegmentHeader, String> {
        let page = Page::parse(bytes)?;
        if page.info & IS_LONG == 0 || bytes.len() < LONG {
            return Err("it does not begin with the header of a segment".to_owned());
        }
        let (segment_bytes, block) = (u32_at(bytes, 32), u32_at(bytes, 36));
        if block as usize != PAGE {
            return Err(format!("its pages have {block} bytes, and only {PAGE} are understood"));
        }
        if !segment_bytes.is_power_of_two() || !((1 << 20)..=(1 << 30)).contains(&segment_bytes) {
            return Err(format!("it says that segments have {segment_bytes} bytes, which no cluster has"));
        }
        let system_identifier = u64_at(bytes, 24);
        Ok(SegmentHeader {
            major: page.major,
            timeline: page.timeline,
            start: page.at,
            system_identifier,
            segment_bytes,
        })
    }
}

struct Page {
    major: u32,
    info: u16,
    timeline: u32,
    at: Lsn,
    /// Bytes of a record that began on an earlier page.
    remaining: u32,
}

impl Page {
    fn parse(bytes: &[u8]) -> Result<Page, String> {
        if bytes.len() < SHORT {
            return Err("it ends within the header of a page".to_owned());
        }
        let magic = u16_at(bytes, 0);
        let major = major_of(magic).ok_or_else(|| format!("{NOT_WAL} {magic:04X}"))?;
        Ok(Page {
            major,
            info: u16_at(bytes, 2),
            timeline: u32_at(bytes, 4),
            at: Lsn(u64_at(bytes, 8)),
            remaining: u32_at(bytes, 16),
        })
    }
}

/// A record that means something to a drill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it begins.
    pub at: Lsn,
    /// Where the next one may begin: what `pg_waldump` and the server's messages call the end.
    pub end: Lsn,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Microseconds since 1970, UTC.
    Commit {
        xid: u32,
        time: i64,
    },
    Abort {
        xid: u32,
        time: i64,
    },
    RestorePoint {
        name: String,
        time: i64,
    },
    /// Online or at a shutdown. `redo`: where replay from it begins.
    Checkpoint {
        redo: Lsn,
        timeline: u32,
        time: i64,
        shutdown: bool,
    },
    /// The end of a base backup that began at `start`.
    BackupEnd {
        start: Lsn,
    },
    /// A new timeline begins.
    EndOfRecovery {
        timeline: u32,
        previous: u32,
        time: i64,
    },
}

impl What {
    /// Microseconds since 1970, where the record has a time.
    pub fn time(&self) -> Option<i64> {
        match self {
            What::Commit { time, .. }
            | What::Abort { time, .. }
            | What::RestorePoint { time, .. }
            | What::Checkpoint { time, .. }
            | What::EndOfRecovery { time, .. } => Some(*time),
            What::BackupEnd { .. } => None,
        }
    }
}

/// Called with where a record begins, where it ends, and what it means.
pub type OnRecord<'a> = &'a mut dyn FnMut(Lsn, Lsn, Option<What>);

/// Where the record before the one at this place ended: the same place, unless it is the first of its page, since no record
/// ends within the header of a page.
pub fn end_before(at: Lsn, segment_bytes: u64) -> Lsn {
    let header = if at.0 % segment_bytes < PAGE as u64 { LONG } else { SHORT };
    if at.0 % PAGE as u64 == header as u64 { Lsn(at.0 - header as u64) } else { at }
}

/// Reads records out of pages.
#[derive(Debug)]
pub struct Reader {
    segment_bytes: u64,
    /// The page that must come next.
    next_page: Option<Lsn>,
    state: State,
    /// Where the last whole record began: each names the one before.
    previous: Option<Lsn>,
    /// The end of the last whole record.
    end: Option<Lsn>,
    records: u64,
    major: u32,
}

#[derive(Debug)]
enum State {
    /// Looking for the first record: a page may begin within one that began before.
    Lost,
    /// A record may begin here.
    Between,
    Within(Partial),
    /// After a switch: nothing but zeros to the end of the segment.
    Switched,
    Ended,
}

#[derive(Debug)]
struct Partial {
    at: Lsn,
    head: [u8; RECORD],
    /// Bytes of the head that are there.
    headed: usize,
    total: u32,
    seen: u32,
    crc: u32,
    kept: Vec<u8>,
}

/// Why reading stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// The record, or the page, that is not what it should be.
    pub at: Lsn,
    pub because: String,
}

impl Reader {
    pub fn new(segment_bytes: u64) -> Reader {
        Reader { segment_bytes, next_page: None, state: State::Lost, previous: None, end: None, records: 0, major: 0 }
    }

    /// Where the last whole record ended.
    pub fn end(&self) -> Option<Lsn> {
        self.end
    }

    /// Whole records so far.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Whether what comes next cannot be WAL any more: the end of all that was written.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Takes the next page, and gives the records that mean something. See [`Reader::every`].
    pub fn page(&mut self, bytes: &[u8; PAGE], on_record: &mut dyn FnMut(Record)) -> Result<(), Stopped> {
        self.every(bytes, &mut |at, end, what| {
            if let Some(what) = what {
                on_record(Record { at, end, what });
            }
        })
    }

    /// Takes the next page, and gives every record that ends in it: where it begins and ends, and what it means. Err: it is not the next one, or garbled. The end of WAL is no error: see [`Reader::has_ended`].
    pub fn every(&mut self, bytes: &[u8; PAGE], on_record: OnRecord<'_>) -> Result<(), Stopped> {
        if let State::Ended = self.state {
            return Ok(());
        }
        let expected = self.next_page;
        let stopped = |at: Option<Lsn>, because: String| Stopped { at: at.unwrap_or_default(), because };
        if bytes.iter().all(|it| *it == 0) {
            match self.state {
                State::Switched => {}
                // Space that was not written yet.
                State::Lost | State::Between | State::Within(_) | State::Ended => self.state = State::Ended,
            }
            self.next_page = expected.map(|it| Lsn(it.0 + PAGE as u64));
            if let (State::Switched, Some(next)) = (&self.state, self.next_page)
                && next.0 % self.segment_bytes == 0
            {
                self.state = State::Between;
            }
            return Ok(());
        }
        let page = Page::parse(bytes).map_err(|because| stopped(expected, because))?;
        if let Some(expected) = expected.filter(|it| *it != page.at) {
            // What a segment held before it was used again: WAL ends before it.
            if matches!(self.state, State::Between | State::Within(_)) && page.at < expected {
                self.state = State::Ended;
                return Ok(());
            }
            return Err(stopped(Some(expected), format!("its page says that it is {}", page.at)));
        }
        self.major = page.major;
        self.next_page = Some(Lsn(page.at.0 + PAGE as u64));
        let mut offset = if page.info & IS_LONG == 0 { SHORT } else { LONG };
        if page.info & OVERWRITES != 0 {
            // The record that began before was never finished, and is skipped (XLOG_OVERWRITE_CONTRECORD).
            self.state = State::Between;
            self.previous = None;
        } else if page.info & CONTINUES != 0 {
            match &self.state {
                State::Lost => {
                    let rest = page.remaining as usize;
                    if offset + rest >= PAGE {
                        return Ok(());
                    }
                    offset += aligned(rest);
                }
                State::Within(partial) => {
                    let left = if partial.headed < RECORD { None } else { Some(partial.total - partial.seen) };
                    if left.is_some_and(|it| it != page.remaining) {
                        self.state = State::Ended;
                        return Ok(());
                    }
                }
                State::Between | State::Switched | State::Ended => {
                    return Err(stopped(
                        Some(page.at),
                        "its first bytes continue a record that is not there".to_owned(),
                    ));
                }
            }
        } else if let State::Within(_) = self.state {
            // A crash cut the record short, and what was written after it begins anew.
            self.state = State::Between;
            self.previous = None;
        }
        if matches!(self.state, State::Lost | State::Switched) {
            self.state = State::Between;
        }
        self.records_of(page.at, bytes, offset, on_record)
    }

    fn records_of(
        &mut self,
        page: Lsn,
        bytes: &[u8; PAGE],
        mut offset: usize,
        on_record: OnRecord<'_>,
    ) -> Result<(), Stopped> {
        while offset < PAGE {
            match &mut self.state {
                State::Between => {
                    let at = Lsn(page.0 + offset as u64);
                    if PAGE - offset < 4 {
                        break;
                    }
                    if u32_at(bytes, offset) == 0 {
                        self.state = State::Ended;
                        return Ok(());
                    }
                    self.state = State::Within(Partial {
                        at,
                        head: [0; RECORD],
                        headed: 0,
                        total: 0,
                        seen: 0,
                        crc: 0,
                        kept: Vec::new(),
                    });
                }
                State::Within(partial) => {
                    let (used, whole) = match partial.take(&bytes[offset..]) {
                        Ok(it) => it,
                        // What lies behind the end of WAL is what was there before: no record, and no damage.
                        Err(because) => return self.broken(because),
                    };
                    offset += used;
                    if !whole {
                        break;
                    }
                    let end = Lsn(page.0 + aligned(offset) as u64);
                    offset = aligned(offset);
                    if let Err(because) = self.finish(end, on_record) {
                        return self.broken(because);
                    }
                    if matches!(self.state, State::Switched) {
                        break;
                    }
                }
                State::Lost | State::Switched | State::Ended => break,
            }
        }
        if let (State::Switched, Some(next)) = (&self.state, self.next_page)
            && next.0 % self.segment_bytes == 0
        {
            self.state = State::Between;
        }
        Ok(())
    }

    /// A record that is none: where the first one is sought that is damage, else it is the end, which may be damage too, and
    /// only what comes after it can tell.
    fn broken(&mut self, because: String) -> Result<(), Stopped> {
        let at = if let State::Within(partial) = &self.state { partial.at } else { self.end.unwrap_or_default() };
        self.state = State::Ended;
        if because.is_empty() { Ok(()) } else { Err(Stopped { at, because }) }
    }

    fn finish(&mut self, end: Lsn, on_record: OnRecord<'_>) -> Result<(), String> {
        let State::Within(partial) = std::mem::replace(&mut self.state, State::Between) else { return Ok(()) };
        let previous = Lsn(u64_at(&partial.head, 8));
        if let Some(expected) = self.previous.filter(|it| *it != previous) {
            let because = format!("the record names {previous} as the one before it, which is {expected}");
            self.state = State::Within(partial);
            return Err(because);
        }
        let crc = crc32c::crc32c_append(partial.crc, &partial.head[..20]);
        if crc != u32_at(&partial.head, 20) {
            self.state = State::Within(partial);
            return Err("the record's checksum is not that of its bytes".to_owned());
        }
        self.previous = Some(partial.at);
        self.records += 1;
        let (info, manager) = (partial.head[16], partial.head[17]);
        let is_switch = manager == RM_XLOG && info & 0xF0 == 0x40;
        // The server's own end of a switch is that of its segment.
        let end = if is_switch {
            Lsn(partial.at.0 / self.segment_bytes * self.segment_bytes + self.segment_bytes)
        } else {
            end
        };
        self.end = Some(end);
        if is_switch {
            self.state = State::Switched;
        }
        on_record(partial.at, end, partial.what(self.major));
        Ok(())
    }
}

impl Partial {
    /// Takes what belongs to the record; how many bytes, and whether it is whole.
    fn take(&mut self, bytes: &[u8]) -> Result<(usize, bool), String> {
        let mut used = 0;
        if self.headed < RECORD {
            used = (RECORD - self.headed).min(bytes.len());
            self.head[self.headed..self.headed + used].copy_from_slice(&bytes[..used]);
            self.headed += used;
            self.seen += u32::try_from(used).unwrap_or_default();
            if self.headed >= 4 {
                self.total = u32_at(&self.head, 0);
                // The end of WAL: an empty error says so.
                if self.total < u32::try_from(RECORD).unwrap_or_default() || self.total > LONGEST {
                    return Err(String::new());
                }
            }
            if self.headed < RECORD {
                return Ok((used, false));
            }
        }
        let wanted = (self.total - self.seen) as usize;
        let rest = &bytes[used..];
        let part = &rest[..wanted.min(rest.len())];
        self.crc = crc32c::crc32c_append(self.crc, part);
        if matches!(self.head[17], RM_XLOG | RM_XACT) && self.kept.len() < KEPT {
            let room = KEPT - self.kept.len();
            self.kept.extend_from_slice(&part[..part.len().min(room)]);
        }
        self.seen += u32::try_from(part.len()).unwrap_or_default();
        Ok((used + part.len(), self.seen == self.total))
    }

    /// The record's own data, behind the headers of blocks.
    fn main_data(&self) -> Option<&[u8]> {
        let bytes = &self.kept;
        let mut at = 0;
        loop {
            match *bytes.get(at)? {
                255 => {
                    let length = usize::from(*bytes.get(at + 1)?);
                    return bytes.get(bytes.len().checked_sub(length)?..);
                }
                254 => {
                    let length = u32_of(bytes, at + 1)? as usize;
                    return bytes.get((self.total as usize - RECORD).checked_sub(length)?..);
                }
                253 => at += 3,
                252 => at += 5,
                // Of a block, which commits and restore points have none of.
                _ => return None,
            }
        }
    }

    fn what(&self, major: u32) -> Option<What> {
        let (info, manager, xid) = (self.head[16], self.head[17], u32_at(&self.head, 4));
        let data = self.main_data();
        match (manager, info & 0xF0, info & 0x70) {
            (RM_XACT, _, 0x00) => Some(What::Commit { xid, time: time_at(data?, 0)? }),
            (RM_XACT, _, 0x20) => Some(What::Abort { xid, time: time_at(data?, 0)? }),
            (RM_XACT, _, 0x30) => {
                Some(What::Commit { xid: two_phase(data?, info, major, true)?, time: time_at(data?, 0)? })
            }
            (RM_XACT, _, 0x40) => {
                Some(What::Abort { xid: two_phase(data?, info, major, false)?, time: time_at(data?, 0)? })
            }
            (RM_XLOG, 0x70, _) => {
                let data = data?;
                let name = data.get(8..72)?;
                let name = &name[..name.iter().position(|it| *it == 0).unwrap_or(name.len())];
                Some(What::RestorePoint { name: String::from_utf8_lossy(name).into_owned(), time: time_at(data, 0)? })
            }
            (RM_XLOG, 0x00 | 0x10, _) => {
                let data = data?;
                let redo = Lsn(u64_of(data, 0)?);
                let timeline = u32_of(data, 8)?;
                let time = checkpoint_time(data)?;
                Some(What::Checkpoint { redo, timeline, time, shutdown: info & 0xF0 == 0 })
            }
            (RM_XLOG, 0x50, _) => Some(What::BackupEnd { start: Lsn(u64_of(data?, 0)?) }),
            (RM_XLOG, 0x90, _) => {
                let data = data?;
                let (timeline, previous) = (u32_of(data, 8)?, u32_of(data, 12)?);
                Some(What::EndOfRecovery { timeline, previous, time: time_at(data, 0)? })
            }
            _ => None,
        }
    }
}

/// `XACT_XINFO_HAS_*`
const DATABASE: u32 = 1;
const SUBTRANSACTIONS: u32 = 1 << 1;
const RELATIONS: u32 = 1 << 2;
const INVALIDATIONS: u32 = 1 << 3;
const TWO_PHASE: u32 = 1 << 4;
const DROPPED_STATISTICS: u32 = 1 << 8;

/// The transaction that a COMMIT PREPARED or ROLLBACK PREPARED ends: its own record has no xid.
fn two_phase(data: &[u8], info: u8, major: u32, commits: bool) -> Option<u32> {
    if info & 0x80 == 0 {
        return None;
    }
    let flags = u32_of(data, 8)?;
    let mut at = 12;
    if flags & DATABASE != 0 {
        at += 8;
    }
    let statistic = if major >= 18 { 16 } else { 12 };
    let lists = [
        (SUBTRANSACTIONS, 4, true),
        (RELATIONS, 12, true),
        (DROPPED_STATISTICS, statistic, true),
        (INVALIDATIONS, 16, commits),
    ];
    for (flag, size, there) in lists {
        if there && flags & flag != 0 {
            let count = u32_of(data, at)? as usize;
            at = at.checked_add(4)?.checked_add(count.checked_mul(size)?)?;
        }
    }
    (flags & TWO_PHASE != 0).then(|| u32_of(data, at)).flatten()
}

/// `CheckPoint.time`, in seconds, behind redo, two timelines, `fullPageWrites` (and, from 17 on, `wal_level` in what was padding),
/// the next xid, OID, multixact and its offset, and the oldest xid and multixact with their databases.
fn checkpoint_time(data: &[u8]) -> Option<i64> {
    const PLACE: usize = 24 + 8 + 4 * 7 + 4;
    i64::try_from(u64_of(data, PLACE)?).ok()?.checked_mul(1_000_000)
}

fn time_at(data: &[u8], at: usize) -> Option<i64> {
    i64::from_le_bytes(data.get(at..at + 8)?.try_into().ok()?).checked_add(EPOCH)
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(8)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32_of(bytes, at).unwrap_or_default()
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64_of(bytes, at).unwrap_or_default()
}

fn u32_of(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_of(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;

    const MAJORS: [u32; 5] = [13, 15, 16, 17, 18];

    /// The WAL of fixtures/wal, its segments in their order.
    fn segments(major: u32) -> Vec<Vec<u8>> {
        let folder = format!("{}/fixtures/wal/{major}", env!("CARGO_MANIFEST_DIR"));
        let entries = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
        let mut paths: Vec<_> = entries.filter(|it| it.extension().is_some_and(|it| it == "zst")).collect();
        paths.sort();
        paths.into_iter().map(|it| zstd::decode_all(std::fs::File::open(it).unwrap()).unwrap()).collect()
    }

    fn read(bytes: &[u8], segment_bytes: u64) -> (Vec<Record>, Reader, Result<(), Stopped>) {
        let (mut records, mut reader) = (Vec::new(), Reader::new(segment_bytes));
        for page in bytes.chunks_exact(PAGE) {
            let read = reader.page(page.try_into().unwrap(), &mut |it| records.push(it));
            if read.is_err() {
                return (records, reader, read);
            }
        }
        (records, reader, Ok(()))
    }

    fn time(micros: i64) -> String {
        let time = jiff::Timestamp::from_microsecond(micros).unwrap();
        jiff::fmt::strtime::format("%Y-%m-%d %H:%M:%S.%6f", &time.to_zoned(jiff::tz::TimeZone::UTC)).unwrap()
    }

    #[test]
    fn records_are_those_that_pg_waldump_of_each_major_sees() {
        for major in MAJORS {
            let segments = segments(major);
            let header = SegmentHeader::parse(&segments[0]).unwrap();
            assert_eq!((header.major, header.timeline, header.segment_bytes), (major, 1, 1 << 20));
            let (records, reader, read) = read(&segments.concat(), 1 << 20);
            assert_eq!(read, Ok(()), "{major}");
            assert!(reader.has_ended(), "{major}: the server was stopped within the last segment");
            let mut seen = String::new();
            for Record { at, what, .. } in &records {
                let _ = match what {
                    What::Commit { xid, time: when } => writeln!(seen, "{at} commit {xid} {}", time(*when)),
                    What::Abort { xid, time: when } => writeln!(seen, "{at} abort {xid} {}", time(*when)),
                    What::RestorePoint { name, .. } => writeln!(seen, "{at} restore point {name}"),
                    What::Checkpoint { redo, .. } => writeln!(seen, "{at} checkpoint {redo}"),
                    What::BackupEnd { .. } | What::EndOfRecovery { .. } => Ok(()),
                };
            }
            let folder = format!("{}/fixtures/wal/{major}", env!("CARGO_MANIFEST_DIR"));
            assert_eq!(seen, std::fs::read_to_string(format!("{folder}/waldump.txt")).unwrap(), "{major}");
        }
    }

    #[test]
    fn reading_may_begin_at_any_segment() {
        for major in MAJORS {
            let segments = segments(major);
            let (all, ..) = read(&segments.concat(), 1 << 20);
            let (later, _, result) = read(&segments[1..].concat(), 1 << 20);
            assert_eq!(result, Ok(()));
            assert_eq!(all[all.len() - later.len()..], later, "{major}");
            assert!(!later.is_empty());
        }
    }

    #[test]
    fn a_segment_that_is_missing_is_noticed() {
        let segments = segments(17);
        let gap = [segments[0].as_slice(), &segments[2]].concat();
        let (_, _, result) = read(&gap, 1 << 20);
        assert!(result.unwrap_err().because.contains("its page says that it is 0/800000"));
    }

    proptest! {
        /// Whatever a disk does to WAL: no panic, no endless loop, and no record that was not written.
        #[test]
        fn a_flipped_byte_adds_no_record(major in proptest::sample::select(&MAJORS), place in 0..(1_usize << 20), bit in 0..8_u8) {
            let mut bytes = segments(major).swap_remove(1);
            let (whole, ..) = read(&bytes, 1 << 20);
            bytes[place] ^= 1 << bit;
            let (found, ..) = read(&bytes, 1 << 20);
            for record in &found {
                prop_assert!(whole.contains(record), "{record:?}");
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), PAGE * 2)) {
            let _ = SegmentHeader::parse(&bytes);
            drop(read(&bytes, 1 << 20));
        }
    }
}
