//! Bytes of backup files: which there are, what they are, and reading them once. Only ever reads.
//!
//! Functions in here block; callers run them on blocking threads, with a [`Reading`].

mod as_of;
mod barman;
mod base;
mod bundle;
mod checked;
mod copies;
mod dump;
mod files;
mod find;
mod ground;
mod header;
mod objects;
mod parcel;
mod pgbackrest;
mod pour;
mod search;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod counting_tests;
mod tap;
mod unpack;
mod vault;
mod verify;
mod versions;
mod wal;
mod walg;
mod way;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::evidence::Fetched;
use crate::fault::Fault;
use crate::format::counted::Counted;
use crate::recipe::FileSeen;

pub use barman::servers as barman_servers;
pub use base::{base_facts, bases};
pub use bundle::is_bundle;
pub use checked::unpack_checked;
pub use copies::compare;
pub use dump::dump_facts;
pub use find::{databasus_files, list, look, read_text};
pub use ground::Ground;
pub use header::headers;
pub use objects::{Access, StoreConfig};
pub use parcel::{Outbox, Parcel};
pub(crate) use parcel::{answer, parcel, parcel_of};
pub use pgbackrest::{is_sealed_stanza, stanzas};
pub use pour::{Counting, copy, pour, scan};
pub use search::search;
pub use unpack::{Destination, Written, unpack};
pub use vault::{Vault, is_databasus};
pub use verify::verify;
pub use wal::{WalFile, WalSpan, fetch_wal, find_wal, read_wal, wal_archive, wal_span};
pub use way::{wal_stops, wal_window};

/// What every reading depends on: whether it is still wanted, which is looked at every 64 KiB; the keys; and the object
/// stores, with what was asked of them.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    stopped: Arc<AtomicBool>,
    vault: Arc<Vault>,
    objects: Arc<objects::Objects>,
    /// None: the end of an archive is its last whole segment.
    unfinished: Option<Arc<Unfinished>>,
}

/// What lies beside an archive, or is not finished, and belongs to it all the same, once that is known.
#[derive(Debug)]
struct Unfinished {
    /// Where unfinished segments are kept as they were when they were found: others go on writing to them.
    directory: PathBuf,
    /// By archive and name.
    known: Mutex<BTreeMap<(PathBuf, String), WalFile>>,
}

impl Reading {
    pub fn with(vault: Arc<Vault>, access: Arc<Access>) -> Reading {
        Reading { vault, objects: Arc::new(objects::Objects::with(access)), ..Reading::default() }
    }

    /// The same with other keys.
    #[must_use]
    pub fn with_keys(&self, vault: Vault) -> Reading {
        Reading { vault: Arc::new(vault), ..self.clone() }
    }

    /// The same, for archives whose last segment may be one that was not finished. `directory`: for copies of these, within one
    /// that is there when they are made.
    #[must_use]
    pub fn with_unfinished(self, directory: PathBuf) -> Reading {
        Reading { unfinished: Some(Arc::new(Unfinished { directory, known: Mutex::default() })), ..self }
    }

    /// What was asked of object stores so far. None: nothing.
    pub fn fetched(&self) -> Option<Fetched> {
        self.objects.fetched()
    }

    /// Told from another thread.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// Called with the bytes read so far, as stored.
pub type OnBytes<'a> = &'a mut (dyn FnMut(u64) + Send);

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
