//! What the WAL itself says of a recovery: which commit is the last one that may be visible, which the first that may not.
//!
//! Read by ourselves from the archive, and so independent of the server, whose word it is compared with.

use std::ops::ControlFlow;

use crate::format::lsn::Lsn;
use crate::format::wal::{Record, What};
use crate::recipe::{Transaction, WalSeen};
use crate::target::{Point, Target};

/// Takes records in their order.
#[derive(Debug)]
pub struct Witness<'a> {
    target: &'a Target,
    /// Where replay stopped. None: at the end of the WAL that there is.
    replayed: Option<Lsn>,
    /// Whether the rest of the archive matters, too.
    whole: bool,
    seen: WalSeen,
}

impl<'a> Witness<'a> {
    pub fn new(target: &'a Target, replayed: Option<Lsn>, whole: bool) -> Witness<'a> {
        Witness { target, replayed, whole, seen: WalSeen::default() }
    }

    /// `Break`: everything is known that can be.
    pub fn record(&mut self, record: &Record) -> ControlFlow<()> {
        let time = record.what.time().and_then(|it| jiff::Timestamp::from_microsecond(it).ok());
        self.seen.latest = self.seen.latest.max(time);
        let (xid, time, committed) = match &record.what {
            What::Commit { xid, time } => (*xid, *time, true),
            What::Abort { xid, time } => (*xid, *time, false),
            What::RestorePoint { .. } => {
                // The first of a name is where recovery stops.
                if self.target.stops_at(&record.what) && self.seen.target.is_none() {
                    self.seen.target = Some((record.at, record.end));
                }
                return ControlFlow::Continue(());
            }
            What::Checkpoint { .. } | What::BackupEnd { .. } | What::EndOfRecovery { .. } => {
                return ControlFlow::Continue(());
            }
        };
        let Ok(time) = jiff::Timestamp::from_microsecond(time) else { return ControlFlow::Continue(()) };
        let transaction = Transaction { xid, at: record.at, end: record.end, time, committed };
        match &self.target.point {
            Point::Xid(_) if self.target.stops_at(&record.what) && self.seen.target.is_none() => {
                self.seen.target = Some((record.at, record.end));
            }
            Point::Time(_) if self.seen.late.is_none() => {
                self.seen.late = self.target.stops_at(&record.what).then(|| transaction.clone());
            }
            Point::Latest | Point::Immediate | Point::Time(_) | Point::Lsn(_) | Point::Xid(_) | Point::Name(_) => {}
        }
        if self.replayed.is_none_or(|it| record.end <= it) {
            self.seen.commits += u64::from(committed);
            self.seen.last = Some(transaction);
            return ControlFlow::Continue(());
        }
        self.seen.next.get_or_insert(transaction);
        if self.whole { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    pub fn finish(self) -> WalSeen {
        self.seen
    }
}
