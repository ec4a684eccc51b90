//! The stops of a sweep: where in the WAL a server is to stand, and what the WAL says of that place.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Transaction;
use crate::format::lsn::{Lsn, Segment};
use crate::format::wal_archive::Stretch;
use crate::target::Target;

/// The WAL of a recovery, as a server finds it in an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WalWay {
    pub archive: String,
    pub segment_bytes: u64,
    /// In the order in which a server reads them. Between two that do not follow on each other, WAL is missing.
    pub stretches: Vec<Stretch>,
    /// Where replay of the backup begins.
    pub start: Lsn,
    /// Where the backup ends, where its manifest says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Lsn>,
}

impl WalWay {
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = Segment> {
        let numbers = |it: &Stretch| {
            (it.first..=it.last).map({
                let timeline = it.timeline;
                move |number| Segment { timeline, number }
            })
        };
        self.stretches.iter().flat_map(numbers)
    }

    pub fn name(&self, segment: Segment) -> String {
        segment.name(self.segment_bytes)
    }
}

/// From when to when a backup and its archive can recover.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WalWindow {
    /// Where the backup is consistent. None: nothing says where.
    pub consistent: Option<Lsn>,
    /// The latest end of a transaction up to there; without any, of the first one behind it.
    #[schemars(with = "Option<String>")]
    pub first: Option<jiff::Timestamp>,
    /// The latest end of a transaction near the end of the archive.
    #[schemars(with = "Option<String>")]
    pub last: Option<jiff::Timestamp>,
}

/// Where targets lie in the WAL, read from one end to the other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StopsSeen {
    /// By target. None: the WAL does not reach it, or has no such record.
    pub found: Vec<Option<StopPlace>>,
    /// The end of the last whole record.
    pub end: Lsn,
    pub records: u64,
    pub commits: u64,
    /// The first and the last segment that were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segments: Option<(String, String)>,
    /// The latest instant that any record proves to which nothing is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub latest: Option<jiff::Timestamp>,
    /// Where it cannot be read although there is more behind it, and why: the first such place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
}

/// A target's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StopPlace {
    /// Where the last record ends that belongs before it: the place at which the WAL is cut.
    pub at: Lsn,
    /// The last transaction that ended up to there, and the first one behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Transaction>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Transaction>,
}

/// One stop of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stop {
    pub target: Target,
    #[serde(flatten)]
    pub place: StopPlace,
}
