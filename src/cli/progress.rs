//! What a person sees while drills run, on standard error.
//!
//! On a terminal one live line for each drill; elsewhere plain lines, few enough for the log of a CI job. Both are made
//! from the same state by the same words, so they cannot disagree.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::evidence::{Event, Kept, PhaseOutcome, PhaseRecord};
use crate::phase::Phase;
use crate::recipe::RuntimeKind;
use crate::report::words::{bytes, duration, harmless};
use crate::runtime::Progress;

/// Between two lines about the same phase, where there is no terminal.
const QUIET: Duration = Duration::from_secs(10);
/// Between two redraws of a terminal.
const TICK: Duration = Duration::from_millis(200);
/// Columns of the bar of bytes.
const BAR: u8 = 12;

/// Shows what drills do; to be shared by all drills of a run.
pub(super) struct ProgressView {
    out: Out,
    drills: Mutex<BTreeMap<String, Shown>>,
}

enum Out {
    Bars(MultiProgress),
    Lines(Mutex<Box<dyn Write + Send>>),
}

/// One drill. The bar's own thread reads the state, so no call to the bar may be made with the state locked.
struct Shown {
    state: Arc<Mutex<State>>,
    bar: Option<ProgressBar>,
}

/// What is known of a running drill.
#[derive(Default)]
struct State {
    phase: Option<(Phase, Instant)>,
    rto: Option<RtoClock>,
    transfer: Option<Transfer>,
    said: Option<String>,
    /// When a line about it was last printed.
    printed: Option<Instant>,
}

struct RtoClock {
    limit: Duration,
    overhead: Duration,
    span: RangeInclusive<Phase>,
    began: Option<Instant>,
    took: Option<Duration>,
}

struct Transfer {
    what: String,
    began: Instant,
    done: u64,
    total: Option<u64>,
}

impl ProgressView {
    /// `tty`: whether standard error is a terminal that may be redrawn.
    pub(super) fn new(tty: bool) -> ProgressView {
        if tty {
            let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(5));
            ProgressView { out: Out::Bars(bars), drills: Mutex::default() }
        } else {
            ProgressView::lines(Box::new(std::io::stderr()))
        }
    }

    /// Says nothing: for `--quiet`.
    pub(super) fn silent() -> ProgressView {
        ProgressView::lines(Box::new(std::io::sink()))
    }

    /// Plain lines, to anywhere.
    fn lines(sink: Box<dyn Write + Send>) -> ProgressView {
        ProgressView { out: Out::Lines(Mutex::new(sink)), drills: Mutex::default() }
    }

    /// To be told of everything that happens in a drill, as it happens.
    pub(super) fn event(&self, drill: &str, event: &Event) {
        self.event_at(drill, event, Instant::now());
    }

    /// To be told how far the running step has come. Cheap: may be called for every block of bytes.
    pub(super) fn progress(&self, drill: &str, progress: Progress) {
        self.progress_at(drill, progress, Instant::now());
    }

    /// Prints a line without tearing the live ones.
    pub(super) fn say(&self, line: &str) {
        match &self.out {
            Out::Bars(bars) => bars.suspend(|| print(&mut std::io::stderr(), line)),
            Out::Lines(sink) => print(&mut **lock(sink), line),
        }
    }

    /// Takes the live lines away. What is said after this is printed all the same.
    pub(super) fn finish(&self) {
        let drills = std::mem::take(&mut *lock(&self.drills));
        for bar in drills.into_values().filter_map(|it| it.bar) {
            bar.finish_and_clear();
        }
    }

    fn event_at(&self, drill: &str, event: &Event, now: Instant) {
        // What comes after the last phase (a log, remnants) must not bring the live line back.
        let begins = matches!(event, Event::Asked { .. } | Event::Began(_));
        let line = {
            let state = if begins { self.state(drill) } else { self.known(drill).unwrap_or_default() };
            let mut state = lock(&state);
            let line = state.event(event, now, matches!(self.out, Out::Bars(_)));
            if line.is_some() {
                state.printed = Some(now);
            }
            line
        };
        if let Some(line) = line {
            self.say(&format!("{}: {}", harmless(drill), harmless(&line)));
        }
        if let Event::Ended(PhaseRecord { phase: Phase::Teardown, .. }) = event {
            let shown = lock(&self.drills).remove(drill);
            if let Some(bar) = shown.and_then(|it| it.bar) {
                bar.finish_and_clear();
            }
        }
    }

    fn progress_at(&self, drill: &str, progress: Progress, now: Instant) {
        let Some(state) = self.known(drill) else { return };
        let line = {
            let mut state = lock(&state);
            state.progress(progress, now);
            match self.out {
                Out::Bars(_) => None,
                Out::Lines(_) => state.due(now),
            }
        };
        if let Some(line) = line {
            self.say(&format!("{}: {line}", harmless(drill)));
        }
    }

    fn known(&self, drill: &str) -> Option<Arc<Mutex<State>>> {
        lock(&self.drills).get(drill).map(|it| Arc::clone(&it.state))
    }

    /// Made where it is not known yet, with its live line.
    fn state(&self, drill: &str) -> Arc<Mutex<State>> {
        let mut drills = lock(&self.drills);
        if let Some(shown) = drills.get(drill) {
            return Arc::clone(&shown.state);
        }
        let state = Arc::new(Mutex::new(State::default()));
        let bar = match &self.out {
            Out::Bars(bars) => Some(live_line(bars, drill, &state)),
            Out::Lines(_) => None,
        };
        drills.insert(drill.to_owned(), Shown { state: Arc::clone(&state), bar });
        state
    }
}

fn live_line(bars: &MultiProgress, drill: &str, state: &Arc<Mutex<State>>) -> ProgressBar {
    let bar = bars.add(ProgressBar::new_spinner());
    let state = Arc::clone(state);
    let status = move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
        let _ = out.write_str(&lock(&state).status(Instant::now(), true));
    };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix:.bold}  {status}") {
        bar.set_style(style.with_key("status", status));
    }
    bar.set_prefix(harmless(drill));
    bar.enable_steady_tick(TICK);
    bar
}

/// A closed standard error is no reason to stop a drill.
fn print(sink: &mut dyn Write, line: &str) {
    let _ = writeln!(sink, "{line}");
    let _ = sink.flush();
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// Takes note of an event, and returns what is to be printed about it. `live`: a live line says the rest.
    fn event(&mut self, event: &Event, now: Instant, live: bool) -> Option<String> {
        match event {
            Event::Asked { drill, .. } => {
                self.rto = drill.objectives.rto.as_ref().map(|it| RtoClock {
                    limit: it.limit,
                    overhead: it.overhead,
                    span: it.span.clone(),
                    began: None,
                    took: None,
                });
                None
            }
            Event::Planned(plan) => {
                let place = match plan.server.runtime {
                    RuntimeKind::Container => "in a container",
                    RuntimeKind::Local => "on this machine",
                    RuntimeKind::Fake => "by a script",
                };
                let file = &plan.backup.file;
                let version = plan.server.version.split(' ').next().unwrap_or_default();
                Some(format!("restoring {} ({}) with PostgreSQL {version} {place}", file.path, bytes(file.bytes)))
            }
            Event::Began(phase) => {
                self.began(*phase, now);
                (!live).then(|| format!("{phase} began"))
            }
            Event::Ended(record) => self.ended(record, now, live),
            Event::Kept(Kept::Not { because }) => Some(format!("the sandbox could not be kept: {}", because.line())),
            Event::Left(left) if !left.is_empty() => Some(format!("could not remove: {}", left.join(", "))),
            Event::Learnt(..)
            | Event::Did { .. }
            | Event::Observed(_)
            | Event::Answered { .. }
            | Event::AskedAgain { .. }
            | Event::Used { .. }
            | Event::Readied(_)
            | Event::Logged(_)
            | Event::Fetched(_)
            | Event::Kept(Kept::Until(_))
            | Event::Left(_) => None,
        }
    }

    fn began(&mut self, phase: Phase, now: Instant) {
        self.phase = Some((phase, now));
        self.transfer = None;
        self.said = None;
        if let Some(rto) = self.rto.as_mut().filter(|it| it.span.contains(&phase)) {
            rto.began.get_or_insert(now);
        }
    }

    fn ended(&mut self, record: &PhaseRecord, now: Instant, live: bool) -> Option<String> {
        self.phase = None;
        self.transfer = None;
        self.said = None;
        if let Some(rto) = self.rto.as_mut().filter(|it| *it.span.end() == record.phase) {
            rto.took = rto.began.map(|it| now.saturating_duration_since(it));
        }
        let (phase, took) = (record.phase, duration(record.elapsed));
        match &record.outcome {
            PhaseOutcome::Completed => (!live).then(|| format!("{phase} took {took}")),
            PhaseOutcome::Failed(fault) => Some(format!("{phase} failed after {took}: {}", fault.line())),
            PhaseOutcome::TimedOut { budget, last_seen } => {
                Some(format!("{phase} ran out of its budget of {}; last seen: {last_seen}", duration(*budget)))
            }
            PhaseOutcome::Cancelled { last_seen } => {
                Some(format!("{phase} cancelled after {took}; last seen: {last_seen}"))
            }
        }
    }

    fn progress(&mut self, progress: Progress, now: Instant) {
        match progress {
            Progress::Said(text) => self.said = Some(text),
            Progress::Bytes { what, done, total } => match &mut self.transfer {
                Some(transfer) if transfer.what == what => {
                    transfer.done = done;
                    transfer.total = total;
                }
                Some(_) | None => {
                    self.said = None;
                    self.transfer = Some(Transfer { what, began: now, done, total });
                }
            },
        }
    }

    /// The line that is due where there are no live ones: none until a phase has been silent for a while.
    fn due(&mut self, now: Instant) -> Option<String> {
        let last = *self.printed.get_or_insert(now);
        if now.saturating_duration_since(last) < QUIET {
            return None;
        }
        self.printed = Some(now);
        Some(self.status(now, false))
    }

    /// `restore, 41 s (RTO 43 s + 10 min of 30 min): load the dump: 12 MB of 48 MB (25 %), about 2 min 03 s left`.
    fn status(&self, now: Instant, bar: bool) -> String {
        let mut text = match self.phase {
            Some((phase, began)) => {
                format!("{phase}, {}", duration(whole_seconds(now.saturating_duration_since(began))))
            }
            None => "between phases".to_owned(),
        };
        if let Some(rto) = self.rto.as_ref().and_then(|it| it.words(now)) {
            let _ = write!(text, " ({rto})");
        }
        if let Some(transfer) = &self.transfer {
            let _ = write!(text, ": {}", transfer.words(now, bar));
        } else if let Some(said) = &self.said {
            let _ = write!(text, ": {}", harmless(said));
        }
        text
    }
}

impl RtoClock {
    /// `RTO 43 s + 10 min of 30 min`: measured, declared, allowed. None until its span began.
    fn words(&self, now: Instant) -> Option<String> {
        let began = self.began?;
        let spent = self.took.unwrap_or_else(|| now.saturating_duration_since(began));
        let mut text = format!("RTO {}", duration(whole_seconds(spent)));
        if !self.overhead.is_zero() {
            let _ = write!(text, " + {}", duration(self.overhead));
        }
        let _ = write!(text, " of {}", duration(self.limit));
        if spent.saturating_add(self.overhead) > self.limit {
            text.push_str(", MISSED");
        }
        Some(text)
    }
}

impl Transfer {
    fn words(&self, now: Instant, bar: bool) -> String {
        let what = harmless(&self.what);
        let Some(total) = self.total.filter(|it| *it > 0) else {
            return format!("{what}: {}", bytes(self.done));
        };
        // Compressed files can grow while they are read.
        let done = self.done.min(total);
        let percent = u8::try_from(u128::from(done) * 100 / u128::from(total)).unwrap_or(100);
        // A live line is short of room, and its phase says enough.
        let lead = if bar { drawn(percent) } else { format!("{what}:") };
        let left = match self.left(now, done, total) {
            Some(left) => format!(", about {} left", duration(whole_seconds(left))),
            None => String::new(),
        };
        format!("{lead} {} of {} ({percent} %){left}", bytes(done), bytes(total))
    }

    /// At the mean speed so far; none before that means anything.
    fn left(&self, now: Instant, done: u64, total: u64) -> Option<Duration> {
        let spent = now.saturating_duration_since(self.began);
        if done == 0 || done >= total || spent < Duration::from_secs(2) {
            return None;
        }
        let nanos = spent.as_nanos().checked_mul(u128::from(total - done))? / u128::from(done);
        Some(Duration::from_nanos(u64::try_from(nanos).ok()?))
    }
}

fn drawn(percent: u8) -> String {
    let full = usize::from(percent.min(100)) * usize::from(BAR) / 100;
    format!("[{}{}]", "#".repeat(full), " ".repeat(usize::from(BAR) - full))
}

/// Tenths that change with every redraw are unrest.
fn whole_seconds(length: Duration) -> Duration {
    Duration::from_secs(length.as_secs())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::fault::{Blame, Fault};

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            lock(&self.0).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Sink {
        fn lines(&self) -> Vec<String> {
            String::from_utf8(lock(&self.0).clone()).unwrap().lines().map(str::to_owned).collect()
        }
    }

    fn view() -> (ProgressView, Sink) {
        let sink = Sink::default();
        (ProgressView::lines(Box::new(sink.clone())), sink)
    }

    fn ended(phase: Phase, seconds: u64, outcome: PhaseOutcome) -> Event {
        Event::Ended(PhaseRecord { phase, began: Duration::ZERO, elapsed: Duration::from_secs(seconds), outcome })
    }

    fn read(done: u64) -> Progress {
        Progress::Bytes { what: "load the dump".to_owned(), done, total: Some(48_000_000) }
    }

    #[test]
    fn without_a_terminal_each_phase_is_two_lines() {
        let (view, sink) = view();
        view.event("shop", &Event::Began(Phase::Restore));
        view.event("shop", &ended(Phase::Restore, 41, PhaseOutcome::Completed));
        assert_eq!(sink.lines(), ["shop: restore began", "shop: restore took 41 s"]);
    }

    #[test]
    fn a_phase_that_goes_wrong_says_so_at_once() {
        let fault = Fault::new(Blame::Backup, "restore the archive").cause("pg_restore exited with 1");
        let cases = [
            (PhaseOutcome::Failed(fault), "restore failed after 5 s: failed to restore the archive: pg_restore exited"),
            (
                PhaseOutcome::TimedOut { budget: Duration::from_secs(60), last_seen: "12 MB".to_owned() },
                "restore ran out of its budget of 1 min; last seen: 12 MB",
            ),
            (
                PhaseOutcome::Cancelled { last_seen: "12 MB".to_owned() },
                "restore cancelled after 5 s; last seen: 12 MB",
            ),
        ];
        for (outcome, expected) in cases {
            let (view, sink) = view();
            view.event("shop", &ended(Phase::Restore, 5, outcome));
            assert!(sink.lines()[0].starts_with(&format!("shop: {expected}")), "{:?}", sink.lines());
        }
    }

    #[test]
    fn bytes_are_told_every_ten_seconds_and_not_more_often() {
        let (view, sink) = view();
        let start = Instant::now();
        view.event_at("shop", &Event::Began(Phase::Restore), start);
        for second in 0..=31 {
            let now = start + Duration::from_secs(second);
            view.progress_at("shop", read(second * 1_000_000), now);
            view.progress_at("shop", read(second * 1_000_000), now);
        }
        let lines = sink.lines();
        assert_eq!(lines.len(), 4, "{lines:#?}");
        assert_eq!(lines[1], "shop: restore, 10 s: load the dump: 10 MB of 48 MB (20 %), about 38 s left");
    }

    #[test]
    fn drills_that_run_at_once_keep_their_own_lines() {
        let (view, sink) = view();
        let start = Instant::now();
        view.event_at("one", &Event::Began(Phase::Restore), start);
        view.event_at("two", &Event::Began(Phase::Inspect), start);
        let later = start + Duration::from_secs(11);
        view.progress_at("one", read(1_000_000), later);
        view.progress_at("two", Progress::Said("pulling postgres:17".to_owned()), later);
        let lines = sink.lines();
        assert!(lines[2].starts_with("one: restore, 11 s: load the dump: "), "{lines:#?}");
        assert_eq!(lines[3], "two: inspect, 11 s: pulling postgres:17");
    }

    #[test]
    fn the_clock_of_the_rto_starts_with_its_span_and_stops_with_it() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let rto = RtoClock {
            limit: Duration::from_secs(60),
            overhead: Duration::from_secs(10),
            span: Phase::Provision..=Phase::Ready,
            began: None,
            took: None,
        };
        let mut state = State { rto: Some(rto), ..State::default() };
        state.event(&Event::Began(Phase::Inspect), at(0), true);
        assert_eq!(state.status(at(5), true), "inspect, 5 s");
        state.event(&Event::Began(Phase::Provision), at(10), true);
        state.event(&Event::Began(Phase::Restore), at(12), true);
        assert_eq!(state.status(at(20), true), "restore, 8 s (RTO 10 s + 10 s of 1 min)");
        assert_eq!(state.status(at(61), true), "restore, 49 s (RTO 51 s + 10 s of 1 min, MISSED)");
        state.event(&Event::Began(Phase::Ready), at(21), true);
        state.event(&ended(Phase::Ready, 1, PhaseOutcome::Completed), at(22), true);
        state.event(&Event::Began(Phase::Validate), at(22), true);
        assert_eq!(state.status(at(100), true), "validate, 1 min 18 s (RTO 12 s + 10 s of 1 min)");
    }

    #[test]
    fn estimates_wait_for_facts_and_sizes_that_lie_do_no_harm() {
        let began = Instant::now();
        let cases = [
            (0, Some(100), 10, "x: 0 B of 100 B (0 %)"),
            (50, Some(100), 1, "x: 50 B of 100 B (50 %)"),
            (50, Some(100), 10, "x: 50 B of 100 B (50 %), about 10 s left"),
            (150, Some(100), 10, "x: 100 B of 100 B (100 %)"),
            (50, None, 10, "x: 50 B"),
            (50, Some(0), 10, "x: 50 B"),
            (u64::MAX, Some(u64::MAX), 10, "x: 18 EB of 18 EB (100 %)"),
        ];
        for (done, total, seconds, expected) in cases {
            let transfer = Transfer { what: "x".to_owned(), began, done, total };
            assert_eq!(transfer.words(began + Duration::from_secs(seconds), false), expected);
        }
        assert_eq!(drawn(50), "[######      ]");
        assert_eq!(drawn(100).len(), drawn(0).len());
    }

    #[test]
    fn what_a_server_says_cannot_steer_the_terminal() {
        let (view, sink) = view();
        view.event("shop\u{1b}[2J", &Event::Left(vec!["a\u{1b}[1A\nb".to_owned()]));
        assert_eq!(sink.lines(), ["shop: could not remove: a b"]);
    }

    /// A terminal that keeps what is drawn.
    #[derive(Clone, Debug, Default)]
    struct Drawn(Arc<Mutex<String>>);

    impl indicatif::TermLike for Drawn {
        fn width(&self) -> u16 {
            200
        }
        fn move_cursor_up(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> std::io::Result<()> {
            self.write_str(&format!("{text}\n"))
        }
        fn write_str(&self, text: &str) -> std::io::Result<()> {
            lock(&self.0).push_str(text);
            Ok(())
        }
        fn clear_line(&self) -> std::io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// The live line's own thread reads what events write: neither may wait for the other.
    #[test]
    fn live_lines_are_drawn_while_threads_report() {
        let drawn = Drawn::default();
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::term_like(Box::new(drawn.clone())));
        let view = Arc::new(ProgressView { out: Out::Bars(bars), drills: Mutex::default() });
        let threads = ["one", "two", "three"].map(|drill| {
            let view = Arc::clone(&view);
            std::thread::spawn(move || {
                view.event(drill, &Event::Began(Phase::Restore));
                let tick = || lock(&view.drills).get(drill).unwrap().bar.clone().unwrap();
                for done in 0..2_000 {
                    view.progress(drill, read(done * 1_000));
                    tick().tick();
                }
                view.event(drill, &ended(Phase::Restore, 1, PhaseOutcome::Completed));
                view.event(drill, &ended(Phase::Teardown, 1, PhaseOutcome::Completed));
                view.event(drill, &Event::Left(Vec::new()));
            })
        });
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(lock(&view.drills).is_empty());
        view.finish();
        // Which states get drawn is up to indicatif's own limits: that something was is all that can be asked for.
        let drawn = crate::report::words::strip_ansi(&lock(&drawn.0));
        assert!(["one", "two", "three"].iter().any(|it| drawn.contains(it)), "{drawn}");
    }
}
