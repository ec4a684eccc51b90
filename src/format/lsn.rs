//! Positions in the write-ahead log, and the names of the files that hold them.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A byte's position in the WAL of a cluster (`pg_lsn`), written `16/B374D848`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// Why a text is no position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAnLsn(String);

impl fmt::Display for NotAnLsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no position in WAL, which is written like 16/B374D848", self.0)
    }
}

impl FromStr for Lsn {
    type Err = NotAnLsn;

    fn from_str(text: &str) -> Result<Lsn, NotAnLsn> {
        let half = |it: &str| {
            let digits = (1..=8).contains(&it.len()) && it.bytes().all(|it| it.is_ascii_hexdigit());
            digits.then(|| u64::from_str_radix(it, 16).ok()).flatten()
        };
        let halves = text.split_once('/').and_then(|(high, low)| Some((half(high)?, half(low)?)));
        halves.map(|(high, low)| Lsn(high << 32 | low)).ok_or_else(|| NotAnLsn(text.to_owned()))
    }
}

impl TryFrom<String> for Lsn {
    type Error = NotAnLsn;

    fn try_from(text: String) -> Result<Lsn, NotAnLsn> {
        text.parse()
    }
}

impl From<Lsn> for String {
    fn from(lsn: Lsn) -> String {
        lsn.to_string()
    }
}

/// One file of WAL: a timeline, and the number of the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Segment {
    pub timeline: u32,
    /// Counted from the start of WAL, in segments.
    pub number: u64,
}

impl Segment {
    /// From a name of 24 hexadecimal digits.
    pub fn parse(name: &str, bytes: u64) -> Option<Segment> {
        if name.len() != 24 || !name.bytes().all(|it| matches!(it, b'0'..=b'9' | b'A'..=b'F')) {
            return None;
        }
        let part = |from: usize| u32::from_str_radix(&name[from..from + 8], 16).ok();
        let (timeline, log, segment) = (part(0)?, part(8)?, part(16)?);
        let per_log = (1 << 32) / bytes;
        (timeline > 0 && u64::from(segment) < per_log)
            .then(|| Segment { timeline, number: u64::from(log) * per_log + u64::from(segment) })
    }

    pub fn name(self, bytes: u64) -> String {
        let per_log = (1 << 32) / bytes;
        format!("{:08X}{:08X}{:08X}", self.timeline, self.number / per_log, self.number % per_log)
    }

    /// The next one on the same timeline.
    #[must_use]
    pub fn following(self) -> Segment {
        Segment { number: self.number + 1, ..self }
    }

    pub fn start(self, bytes: u64) -> Lsn {
        Lsn(self.number * bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_written_as_the_server_writes_them() {
        for text in ["0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF", "0/1000028"] {
            assert_eq!(text.parse::<Lsn>().map(|it| it.to_string()).as_deref(), Ok(text));
        }
        for text in ["", "/", "1", "1/", "G/1", "1/123456789", "-1/0", "0x1/0"] {
            assert!(text.parse::<Lsn>().is_err(), "{text}");
        }
    }

    #[test]
    fn names_of_segments_follow_their_size() {
        const MIB: u64 = 1 << 20;
        for (name, bytes, start) in [
            ("000000010000000000000001", 16 * MIB, "0/1000000"),
            ("0000000100000001000000FF", 16 * MIB, "1/FF000000"),
            ("000000020000000A00000FFF", MIB, "A/FFF00000"),
            ("0000000A0000000300000003", 1024 * MIB, "3/C0000000"),
        ] {
            let segment = Segment::parse(name, bytes).expect(name);
            assert_eq!(segment.start(bytes).to_string(), start);
            assert_eq!(segment.name(bytes), name);
            assert_eq!(segment.following().start(bytes), Lsn(segment.start(bytes).0 + bytes));
        }
        for (name, bytes) in [("000000010000000000000100", 16 * MIB), ("00000001000000000000001", MIB), ("", MIB)] {
            assert_eq!(Segment::parse(name, bytes), None, "{name}");
        }
        assert_eq!(Segment::parse("000000000000000000000001", MIB), None, "there is no timeline 0");
        assert_eq!(Segment::parse("00000001000000000000000a", MIB), None, "names are in capitals");
    }
}
