//! Bytes of backup files: which there are, what they are, and reading them once. Only ever reads.
//!
//! Functions in here block; callers run them on blocking threads and stop them by a [`Stop`].

mod base;
mod checked;
mod dump;
mod find;
mod header;
mod parcel;
mod pour;
mod search;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod counting_tests;
mod tap;
mod unpack;
mod wal;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::fault::Fault;
use crate::format::counted::Counted;
use crate::recipe::FileSeen;

pub use base::{base_facts, bases};
pub use checked::unpack_checked;
pub use dump::dump_facts;
pub use find::{list, look, read_text};
pub use header::headers;
pub(crate) use parcel::{parcel, parcel_of};
pub use pour::{Counting, copy, pour, scan};
pub use search::search;
pub use unpack::{Destination, Written, unpack};
pub use wal::{WalFile, WalSpan, fetch_wal, find_wal, read_wal, wal_archive, wal_span};

/// Told to stop from another thread; looked at every 64 KiB.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Called with the bytes read so far, as stored.
pub type OnBytes<'a> = &'a mut dyn FnMut(u64);

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poured {
    /// As stored.
    pub bytes: u64,
    /// See `recipe::Output::sha256`.
    pub sha256: String,
    /// The file after it was read.
    pub seen: FileSeen,
    /// The receiver wanted no more: `bytes` and `sha256` are of a part only.
    pub cut_short: bool,
    /// What the data of an archive hold, where this reading counted them.
    pub counted: Option<Counted>,
    /// What is wrong with the archive's data, as our own decoder sees it.
    pub damage: Option<Fault>,
}
