//! Where recovery is to stop, in PostgreSQL's own words.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::format::wal::What;

/// A recovery target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Target {
    pub point: Point,
    /// Whether what happens exactly at the point is recovered (`recovery_target_inclusive`). For times, LSNs and
    /// transactions only.
    pub inclusive: bool,
    pub timeline: Timeline,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Point {
    /// The end of the archive.
    #[default]
    Latest,
    /// As soon as the backup is consistent.
    Immediate,
    Time(#[schemars(with = "String")] jiff::Timestamp),
    /// `16/B374D848`
    Lsn(String),
    /// A transaction id.
    Xid(u64),
    /// A restore point, made by `pg_create_restore_point`.
    Name(String),
}

/// Many points of one recovery, which one replay walks through in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sweep {
    pub points: Points,
    pub timeline: Timeline,
}

/// Which points, of all from the end of the backup to the end of the archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Points {
    /// The end of the backup, then every full multiple of this time, then the end of the archive.
    Every(Duration),
    /// So many, as far apart in time: the first is the end of the backup, the last the end of the archive.
    Count(u32),
    /// Instants that this seed draws.
    Random { count: u32, seed: u64 },
    /// These.
    Each(Vec<Target>),
}

impl Point {
    /// Whether it is this transaction, as records name it: ids of targets may carry an epoch, those of records do not.
    pub fn is_transaction(&self, xid: u32) -> bool {
        matches!(self, Point::Xid(wanted) if wanted & 0xFFFF_FFFF == u64::from(xid))
    }
}

/// `recovery_target_timeline`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Timeline {
    /// The newest that the archive has.
    #[default]
    Latest,
    /// The one that the backup was made on.
    Current,
    Id(u32),
}

impl Default for Target {
    fn default() -> Target {
        Target { point: Point::Latest, inclusive: true, timeline: Timeline::Latest }
    }
}

impl Target {
    /// The lines of a server's configuration that say it.
    ///
    /// Always `pause`: what was reached is looked at before anything is written.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let mut settings = match &self.point {
            Point::Latest => Vec::new(),
            Point::Immediate => vec![("recovery_target", "immediate".to_owned())],
            Point::Time(time) => vec![("recovery_target_time", postgres_time(*time))],
            Point::Lsn(lsn) => vec![("recovery_target_lsn", lsn.clone())],
            Point::Xid(xid) => vec![("recovery_target_xid", xid.to_string())],
            Point::Name(name) => vec![("recovery_target_name", name.clone())],
        };
        if !settings.is_empty() {
            settings.push(("recovery_target_action", "pause".to_owned()));
            settings.push(("recovery_target_inclusive", if self.inclusive { "on" } else { "off" }.to_owned()));
        }
        let timeline = match self.timeline {
            Timeline::Latest => "latest".to_owned(),
            Timeline::Current => "current".to_owned(),
            Timeline::Id(id) => id.to_string(),
        };
        settings.push(("recovery_target_timeline", timeline));
        settings
    }

    /// Whether recovery stops at this record of the WAL.
    pub fn stops_at(&self, what: &What) -> bool {
        match (&self.point, what) {
            (Point::Time(time), What::Commit { time: at, .. } | What::Abort { time: at, .. }) => {
                jiff::Timestamp::from_microsecond(*at)
                    .is_ok_and(|at| if self.inclusive { at > *time } else { at >= *time })
            }
            // Transaction ids of targets may carry an epoch, those of records do not.
            (Point::Xid(wanted), What::Commit { xid, .. } | What::Abort { xid, .. }) => {
                *wanted & 0xFFFF_FFFF == u64::from(*xid)
            }
            (Point::Name(wanted), What::RestorePoint { name, .. }) => wanted == name,
            (Point::Latest | Point::Immediate | Point::Time(_) | Point::Lsn(_) | Point::Xid(_) | Point::Name(_), _) => {
                false
            }
        }
    }

    /// `time 2026-11-22 10:00:00+00`, `the end of the archive`: for people.
    pub fn words(&self) -> String {
        let point = match &self.point {
            Point::Latest => "the end of the archive".to_owned(),
            Point::Immediate => "the end of the backup (immediate)".to_owned(),
            Point::Time(time) => format!("time {}", postgres_time(*time)),
            Point::Lsn(lsn) => format!("LSN {lsn}"),
            Point::Xid(xid) => format!("transaction {xid}"),
            Point::Name(name) => format!("restore point “{name}”"),
        };
        let exclusive = if self.inclusive { "" } else { ", exclusive" };
        let timeline = match self.timeline {
            Timeline::Latest => String::new(),
            Timeline::Current => ", on the backup's timeline".to_owned(),
            Timeline::Id(id) => format!(", on timeline {id}"),
        };
        format!("{point}{exclusive}{timeline}")
    }
}

/// As the server reads and writes it: `2026-11-22 10:00:00.000001+00`, to the microsecond that it can tell.
pub fn postgres_time(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S%.6f+00").to_string()
}
