//! Serves WAL to a server in recovery: what its `restore_command` asks for, fetched ahead and in parallel.
//!
//! The server's room sees a directory and nothing else (see `helper/fetch.rs` for what is asked and answered there). Here
//! absent and failing are told apart, which `PostgreSQL` itself cannot: it takes both for the end of the archive.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::sandbox::Movers;
use crate::fault::{Blame, Fault};
use crate::format::lsn::Segment;
use crate::format::wal_archive::{Named, named};
use crate::store::{self, Stop};

/// Threads that fetch. Decompressing is what takes time, and a server replays with one process.
const FETCHERS: usize = 2;
/// Fetched ahead of what was asked for, at most.
const AHEAD_BYTES: u64 = 128 << 20;
/// How often the directory is looked at.
const PAUSE: Duration = Duration::from_millis(2);

/// What was served so far, and what went wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Served {
    pub(crate) segments: u64,
    pub(crate) bytes: u64,
    /// Names that were asked for and that the archive has not, in order.
    pub(crate) absent: BTreeSet<String>,
    /// The first failure: it stopped the server.
    pub(crate) trouble: Option<Fault>,
}

/// A spool that is being filled. Stops when its movers do.
#[derive(Clone)]
pub(crate) struct Spool {
    shared: Arc<Shared>,
}

struct Shared {
    archive: PathBuf,
    /// `want`, `have`, `absent` and `failed` lie in it.
    directory: PathBuf,
    segment_bytes: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// By name, whatever was asked for or is being fetched ahead.
    known: BTreeMap<String, Progress>,
    queue: Vec<String>,
    /// By the server, whatever came of it.
    asked: BTreeSet<String>,
    served: Served,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Queued,
    /// In `have`, or known to be absent, or failed.
    Answered,
    /// Used and removed again.
    Gone,
}

impl Spool {
    /// Begins to serve an archive. Makes the directories, of which the server's user may write only `want`.
    pub(crate) fn serve(archive: &Path, directory: &Path, segment_bytes: u64, movers: &Movers) -> Result<Spool, Fault> {
        make(directory).map_err(|error| {
            Fault::new(Blame::Host, format!("make the WAL spool {}", directory.display())).cause(error.to_string())
        })?;
        let shared = Arc::new(Shared {
            archive: archive.to_owned(),
            directory: directory.to_owned(),
            segment_bytes,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let listener = Arc::clone(&shared);
        movers.spawn(move |stop| listener.listen(stop));
        for _ in 0..FETCHERS {
            let fetcher = Arc::clone(&shared);
            movers.spawn(move |stop| fetcher.fetch(stop));
        }
        Ok(Spool { shared })
    }

    /// Segments that the server asked for and got, in the order of WAL; of two with one number that of the higher timeline.
    pub(crate) fn used(&self) -> Vec<String> {
        let state = self.shared.lock();
        let mut by_number = BTreeMap::new();
        for name in state.asked.iter().filter(|it| is_segment(it) && !state.served.absent.contains(*it)) {
            // In the order of names: a later timeline comes later.
            by_number.insert(name[8..].to_owned(), name.clone());
        }
        by_number.into_values().collect()
    }

    pub(crate) fn segment_bytes(&self) -> u64 {
        self.shared.segment_bytes
    }

    pub(crate) fn served(&self) -> Served {
        self.shared.lock().served.clone()
    }
}

fn make(directory: &Path) -> std::io::Result<()> {
    for (name, mode) in [("", 0o755), ("want", 0o1777), ("have", 0o755), ("absent", 0o755), ("failed", 0o755)] {
        let path = directory.join(name);
        fs::create_dir_all(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
    }
    Ok(())
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks for questions. Names come from a server that runs restored code: only those of WAL files are answered.
    fn listen(&self, stop: &Stop) {
        let mut open = BTreeSet::new();
        while !stop.is_stopped() {
            let entries = fs::read_dir(self.directory.join("want")).into_iter().flatten().flatten();
            let asked = entries.filter_map(|it| it.file_name().into_string().ok()).filter(|it| is_wal_name(it));
            let asked: BTreeSet<String> = asked.collect();
            for name in asked.difference(&open) {
                self.ask(name);
            }
            open = asked;
            std::thread::sleep(PAUSE);
        }
        self.changed.notify_all();
    }

    fn ask(&self, name: &str) {
        let mut state = self.lock();
        state.asked.insert(name.to_owned());
        match state.known.get(name) {
            Some(Progress::Queued | Progress::Answered) => {}
            Some(Progress::Gone) | None => {
                state.known.insert(name.to_owned(), Progress::Queued);
                // Before what is fetched ahead: somebody waits for this one.
                state.queue.push(name.to_owned());
                self.changed.notify_one();
            }
        }
        if is_segment(name) {
            self.go_ahead(&mut state, name);
            self.forget(&mut state, name);
        }
    }

    fn fetch(&self, stop: &Stop) {
        while let Some(name) = self.next(stop) {
            let answer = store::find_wal(&self.archive, &name);
            let expected = is_segment(&name).then_some(self.segment_bytes);
            let have = self.directory.join("have").join(&name);
            let outcome = answer.and_then(|file| match file {
                Some(file) => store::fetch_wal(&file, &have, expected, stop).map(Some),
                None => Ok(None),
            });
            if stop.is_stopped() {
                return;
            }
            let mut state = self.lock();
            state.known.insert(name.clone(), Progress::Answered);
            match outcome {
                Ok(Some(bytes)) => {
                    state.served.segments += u64::from(is_segment(&name));
                    state.served.bytes += bytes;
                }
                Ok(None) => {
                    state.served.absent.insert(name.clone());
                    drop(fs::write(self.directory.join("absent").join(&name), []));
                }
                Err(fault) => {
                    drop(fs::write(self.directory.join("failed").join(&name), fault.line()));
                    state.served.trouble.get_or_insert(fault);
                }
            }
        }
    }

    /// The next name to fetch; None when it is time to stop.
    fn next(&self, stop: &Stop) -> Option<String> {
        let mut state = self.lock();
        loop {
            if stop.is_stopped() {
                return None;
            }
            if let Some(name) = state.queue.pop() {
                return Some(name);
            }
            let waited = self.changed.wait_timeout(state, Duration::from_millis(100));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn go_ahead(&self, state: &mut State, name: &str) {
        let ahead = usize::try_from(AHEAD_BYTES / self.segment_bytes).unwrap_or(1).clamp(1, 16);
        let mut next = name.to_owned();
        for _ in 0..ahead {
            let Some(segment) = Segment::parse(&next, self.segment_bytes) else { return };
            next = segment.following().name(self.segment_bytes);
            if state.known.contains_key(&next) {
                continue;
            }
            if !matches!(store::find_wal(&self.archive, &next), Ok(Some(_))) {
                return;
            }
            state.known.insert(next.clone(), Progress::Queued);
            state.queue.insert(0, next.clone());
            self.changed.notify_one();
        }
    }

    /// Removes segments before the previous one of the same timeline: they were replayed.
    fn forget(&self, state: &mut State, name: &str) {
        let keep = 2 * self.segment_bytes;
        let Some(at) = place(name, self.segment_bytes) else { return };
        let old = |it: &String| {
            it[..8] == name[..8] && is_segment(it) && place(it, self.segment_bytes).is_some_and(|it| it + keep < at)
        };
        for (name, progress) in &mut state.known {
            if old(name) && *progress == Progress::Answered {
                drop(fs::remove_file(self.directory.join("have").join(name)));
                *progress = Progress::Gone;
            }
        }
    }
}

/// What a server in recovery asks for.
fn is_wal_name(name: &str) -> bool {
    matches!(named(name), Named::Segment(_) | Named::History(_) | Named::Label)
}

fn is_segment(name: &str) -> bool {
    matches!(named(name), Named::Segment(_))
}

/// Where a segment begins, in bytes of WAL.
fn place(name: &str, segment_bytes: u64) -> Option<u64> {
    Segment::parse(name, segment_bytes).map(|it| it.start(segment_bytes).0)
}
