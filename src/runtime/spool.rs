//! Serves WAL to a server in recovery: what its `restore_command` asks for, fetched ahead and in parallel.
//!
//! The server's room sees a directory and nothing else (see `helper/fetch.rs` for what is asked and answered there). Here
//! absent and failing are told apart, which `PostgreSQL` itself cannot: it takes both for the end of the archive.
//!
//! A spool may have an edge, behind which there is no WAL yet: the segment that the edge lies in is served once, with zeros
//! from there on, and whoever asks again waits until the edge is moved. A standby stands exactly there meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::sandbox::Movers;
use crate::fault::{Blame, Fault};
use crate::format::lsn::{Lsn, Segment};
use crate::format::wal_archive::{Named, named};
use crate::store::{self, Reading};

/// Threads that fetch. Decompressing is what takes time, and a server replays with one process.
const FETCHERS: usize = 2;
/// Fetched ahead of what was asked for, at most.
const AHEAD_BYTES: u64 = 128 << 20;
/// Questions for one segment, in a row, from a server that makes nothing of what it gets: it asks at each of its retries.
const IN_VAIN: u32 = 20;
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
    reading: Reading,
    /// `want`, `have`, `absent` and `failed` lie in it.
    directory: PathBuf,
    segment_bytes: u64,
    state: Mutex<State>,
    changed: Condvar,
}

/// Where WAL ends for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Edge {
    at: u64,
    /// It will not be moved any more, and nobody is to wait for that.
    is_last: bool,
}

#[derive(Default)]
struct State {
    edge: Option<Edge>,
    /// Questions that are open now.
    open: BTreeSet<String>,
    /// Those that wait for the edge to be moved.
    waiting: BTreeSet<String>,
    /// Served up to the edge, and used.
    cut: BTreeSet<String>,
    /// Questions since the edge was moved, by name.
    repeated: BTreeMap<String, u32>,
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
    /// In `ahead`, before anybody asked for it.
    Ahead,
    /// In `have`, or known to be absent, or failed.
    Answered,
    /// Used and removed again.
    Gone,
}

impl Spool {
    /// Begins to serve an archive. Makes the directories, of which the server's user may write only `want`.
    pub(crate) fn serve(
        archive: &Path,
        directory: &Path,
        segment_bytes: u64,
        edge: Option<Lsn>,
        movers: &Movers,
    ) -> Result<Spool, Fault> {
        make(directory).map_err(|error| {
            Fault::new(Blame::Host, format!("make the WAL spool {}", directory.display())).cause(error.to_string())
        })?;
        let shared = Arc::new(Shared {
            archive: archive.to_owned(),
            reading: movers.stop.clone(),
            directory: directory.to_owned(),
            segment_bytes,
            state: Mutex::new(State { edge: edge.map(|it| Edge { at: it.0, is_last: false }), ..State::default() }),
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

    /// Moves the edge to this place: who waits there is served on.
    pub(crate) fn advance(&self, to: Lsn) {
        let edge = Edge { at: to.0, is_last: false };
        if self.shared.lock().edge != Some(edge) {
            self.shared.move_edge(edge);
        }
    }

    /// Serves what waits for the edge once more.
    pub(crate) fn serve_again(&self) {
        let edge = self.shared.lock().edge;
        if let Some(edge) = edge {
            self.shared.move_edge(edge);
        }
    }

    /// The edge stays where it is, for good: whoever asks for more is told that there is none. False: there is no edge.
    pub(crate) fn end_here(&self) -> bool {
        let edge = self.shared.lock().edge;
        if let Some(edge) = edge {
            self.shared.move_edge(Edge { is_last: true, ..edge });
        }
        edge.is_some()
    }

    /// What the server asks for again and again, although it got all that there is of it: it makes nothing of it.
    pub(crate) fn in_vain(&self) -> Option<String> {
        let state = self.shared.lock();
        let name = state.repeated.iter().find(|(_, times)| **times >= IN_VAIN)?.0.clone();
        let absent = state.served.absent.contains(&name);
        Some(if absent { format!("the archive has no {name}") } else { format!("it makes no use of {name}") })
    }

    /// Whether the server has used all WAL before the edge, and waits for more.
    pub(crate) fn holds(&self) -> bool {
        !self.shared.lock().waiting.is_empty()
    }

    pub(crate) fn segment_bytes(&self) -> u64 {
        self.shared.segment_bytes
    }

    /// Nothing can be served any more.
    pub(super) fn fail(&self, trouble: Fault) {
        self.shared.lock().served.trouble.get_or_insert(trouble);
    }

    pub(crate) fn served(&self) -> Served {
        self.shared.lock().served.clone()
    }
}

fn make(directory: &Path) -> std::io::Result<()> {
    for (name, mode) in
        [("", 0o755), ("want", 0o1777), ("have", 0o755), ("ahead", 0o755), ("absent", 0o755), ("failed", 0o755)]
    {
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
    fn listen(&self, stop: &Reading) {
        while !stop.is_stopped() {
            let entries = fs::read_dir(self.directory.join("want")).into_iter().flatten().flatten();
            let asked = entries.filter_map(|it| it.file_name().into_string().ok()).filter(|it| is_wal_name(it));
            let asked: BTreeSet<String> = asked.collect();
            let before = std::mem::replace(&mut self.lock().open, asked.clone());
            for name in before.difference(&asked) {
                self.used_up(name);
            }
            for name in asked.difference(&before) {
                self.ask(name);
            }
            std::thread::sleep(PAUSE);
        }
        self.changed.notify_all();
    }

    fn ask(&self, name: &str) {
        let mut state = self.lock();
        state.asked.insert(name.to_owned());
        if state.edge.is_some() && is_segment(name) {
            *state.repeated.entry(name.to_owned()).or_default() += 1;
        }
        self.answer(&mut state, name);
        if is_segment(name) {
            self.go_ahead(&mut state, name);
            self.forget(&mut state, name);
        }
    }

    /// Sees to it that an open question is answered, now or once the edge has been moved.
    fn answer(&self, state: &mut State, name: &str) {
        match state.known.get(name) {
            Some(Progress::Queued | Progress::Answered) => return,
            Some(Progress::Ahead) => {
                let at = |directory: &str| self.directory.join(directory).join(name);
                if fs::rename(at("ahead"), at("have")).is_ok() {
                    state.known.insert(name.to_owned(), Progress::Answered);
                    return;
                }
            }
            Some(Progress::Gone) | None => {}
        }
        if let Some((edge, begin)) = state.edge.zip(place(name, self.segment_bytes).filter(|_| is_segment(name))) {
            let behind = begin >= edge.at;
            // What the archive has not, it has not behind the edge either.
            let is_there = !behind || !matches!(store::find_wal(&self.archive, name, &self.reading), Ok(None));
            if !edge.is_last && is_there && (behind || state.cut.contains(name)) {
                state.waiting.insert(name.to_owned());
                return;
            }
            if edge.is_last && behind {
                drop(fs::write(self.directory.join("absent").join(name), []));
                state.known.insert(name.to_owned(), Progress::Answered);
                return;
            }
        }
        state.known.insert(name.to_owned(), Progress::Queued);
        // Before what is fetched ahead: somebody waits for this one.
        state.queue.push(name.to_owned());
        self.changed.notify_one();
    }

    /// With an edge, every question for a segment comes here, however often: answers do not stay.
    fn used_up(&self, name: &str) {
        let mut state = self.lock();
        state.waiting.remove(name);
        let Some(edge) = state.edge else { return };
        if is_segment(name) && state.known.get(name) == Some(&Progress::Answered) {
            if place(name, self.segment_bytes).is_some_and(|it| it < edge.at && edge.at < it + self.segment_bytes) {
                state.cut.insert(name.to_owned());
            }
            self.take_back(&mut state, name);
        }
    }

    fn take_back(&self, state: &mut State, name: &str) {
        for directory in ["have", "ahead", "absent"] {
            drop(fs::remove_file(self.directory.join(directory).join(name)));
        }
        state.known.insert(name.to_owned(), Progress::Gone);
    }

    fn move_edge(&self, edge: Edge) {
        let mut state = self.lock();
        let before = state.edge.map(|it| it.at);
        state.edge = Some(edge);
        state.repeated.clear();
        state.cut.clear();
        // What was answered up to the old edge, and was not used yet, would be too little.
        let reaches = |name: &str| {
            let end = place(name, self.segment_bytes).map(|it| it + self.segment_bytes);
            is_segment(name) && before.zip(end).is_some_and(|(before, end)| before < end)
        };
        let answered = |(name, progress): (&String, &Progress)| {
            (reaches(name) && matches!(progress, Progress::Answered | Progress::Ahead)).then(|| name.clone())
        };
        for name in state.known.iter().filter_map(answered).collect::<Vec<_>>() {
            self.take_back(&mut state, &name);
        }
        state.waiting.clear();
        for name in state.open.clone() {
            self.answer(&mut state, &name);
        }
    }

    /// How much of a segment is served now. None: all of it.
    fn served_bytes(&self, edge: Option<Edge>, name: &str) -> Option<u64> {
        let begin = place(name, self.segment_bytes).filter(|_| is_segment(name))?;
        Some(edge?.at.saturating_sub(begin)).filter(|it| *it < self.segment_bytes)
    }

    fn fetch(&self, stop: &Reading) {
        while let Some(name) = self.next(stop) {
            let answer = store::find_wal(&self.archive, &name, stop);
            let expected = is_segment(&name).then_some(self.segment_bytes);
            let edge = self.lock().edge;
            let served = self.served_bytes(edge, &name);
            // With an edge nothing is in `have` that nobody asked for: the question would not be seen.
            let fetched = self.directory.join(if edge.is_some() { "ahead" } else { "have" }).join(&name);
            let outcome = answer.and_then(|file| match file {
                Some(file) => {
                    let bytes = store::fetch_wal(&file, &fetched, expected, stop)?;
                    served.map_or(Ok(()), |it| cut(&fetched, it, self.segment_bytes)).map(|()| Some(bytes))
                }
                None => Ok(None),
            });
            if stop.is_stopped() {
                return;
            }
            let mut state = self.lock();
            if self.served_bytes(state.edge, &name) != served {
                // The edge was moved meanwhile.
                state.queue.push(name);
                continue;
            }
            // What nobody has asked for yet may lie behind the target: it is tried again if somebody does.
            if outcome.is_err() && !state.asked.contains(&name) {
                state.known.insert(name, Progress::Gone);
                continue;
            }
            state.known.insert(name.clone(), Progress::Answered);
            match outcome {
                Ok(Some(bytes)) => {
                    if edge.is_some() {
                        state.known.insert(name.clone(), Progress::Ahead);
                        if state.open.contains(&name) {
                            self.answer(&mut state, &name);
                        }
                    }
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
    fn next(&self, stop: &Reading) -> Option<String> {
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
            // Only what will be served whole.
            if state
                .edge
                .is_some_and(|it| place(&next, self.segment_bytes).is_none_or(|at| at + self.segment_bytes > it.at))
            {
                return;
            }
            if !matches!(store::find_wal(&self.archive, &next, &self.reading), Ok(Some(_))) {
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

/// Leaves so much of a segment, and zeros behind it, as a server does that has not written more.
fn cut(segment: &Path, served: u64, segment_bytes: u64) -> Result<(), Fault> {
    let cut = || {
        let file = fs::OpenOptions::new().write(true).open(segment)?;
        file.set_len(served)?;
        file.set_len(segment_bytes)
    };
    cut().map_err(|error: std::io::Error| {
        Fault::new(Blame::Host, format!("cut {}", segment.display())).cause(error.to_string())
    })
}

/// What a server in recovery asks for.
pub(super) fn is_wal_name(name: &str) -> bool {
    matches!(named(name), Named::Segment(_) | Named::History(_) | Named::Label)
}

fn is_segment(name: &str) -> bool {
    matches!(named(name), Named::Segment(_))
}

/// Where a segment begins, in bytes of WAL.
fn place(name: &str, segment_bytes: u64) -> Option<u64> {
    Segment::parse(name, segment_bytes).map(|it| it.start(segment_bytes).0)
}
