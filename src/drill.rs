//! Runs a drill and returns evidence.
//!
//! Nothing in here returns an error to the caller: a drill that goes wrong has done its job, and what went wrong belongs
//! in the evidence. `Tape::phase` has the only clock and the only cancellation point.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::blame::{blame, blame_error, changed};
use crate::check::promise::Group;
use crate::check::{Answer, Check, Finding, Probe};
use crate::evidence::{Event, Evidence, Kept, PhaseOutcome, PhaseRecord, ServerLog, Start};
use crate::fault::{Blame, Fault};
use crate::phase::Phase;
use crate::plan::{Plan, plan, questions};
use crate::recipe::{Action, HostCondition, Question, StatementError, Step};
use crate::runtime::complaints::first_error;
use crate::runtime::{Keep, Lease, Progress, Runtime, Sandbox, Watcher};
use crate::scenario::Drill;
use crate::verdict::{Verdict, is_ready, judge};

/// How long a single question of ours about readiness may take.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause between two questions about readiness: the resolution of a recovery time that waits for `ready:`.
const READY_PAUSE: Duration = Duration::from_millis(100);
/// Questions at a time about what a dump promises: counting is the server's work, and waits for disks.
const CONNECTIONS: usize = 4;

/// What a drill needs from outside.
pub struct World<'a> {
    pub lease: Lease,
    pub runtime: &'a dyn Runtime,
    pub cancel: CancellationToken,
    /// Set when graceful stops are to be skipped.
    pub hurry: Arc<AtomicBool>,
    /// Called with every event as it happens.
    pub record: &'a (dyn Fn(&Event) + Sync),
    pub watch: Watcher,
    /// How long a sandbox that is left up stands.
    pub keep_for: Duration,
    /// Keeps the server's log before the sandbox goes; gives the path for the report.
    pub keep_log: &'a (dyn Fn(&str) -> Option<String> + Sync),
}

/// Runs one drill to its end, whatever that end is.
///
/// Infallible by design: a failure is what a drill is for, so it is recorded, not returned. Cancelling stops the work but
/// never the release of what the work created.
pub async fn run(drill: &Drill, start: Start, world: &World<'_>) -> Evidence {
    let mut tape = Tape::start(drill, start, world);
    let mut sandbox = None;
    let _: Result<(), Halt> = work(&mut tape, &mut sandbox).await;
    if let Some(sandbox) = &sandbox {
        keep_log(&mut tape, sandbox.as_ref()).await;
    }
    // Reached however the work ended, and it needs no handle: only the name.
    let keep = if sandbox.is_some() { wish(&tape) } else { None };
    let _: Result<(), Halt> = teardown(&mut tape, keep).await;
    drop(sandbox);
    tape.evidence
}

/// The drill itself, as a runbook: top to bottom, a paragraph a phase.
async fn work(tape: &mut Tape<'_>, made: &mut Option<Box<dyn Sandbox>>) -> Result<(), Halt> {
    let (runtime, lease) = (tape.world.runtime, tape.world.lease.clone());
    tape.phase(Phase::Prepare, async |_| runtime.prepare(&lease).await).await?;

    let plan = tape
        .phase(Phase::Inspect, async |tape| {
            // What the times are measured on: nothing is decided by it, so a plan alone does not ask.
            ask_once(tape, Question::Host).await?;
            survey(tape).await
        })
        .await?;

    tape.phase(Phase::Provision, async |tape| {
        let watch = tape.watcher();
        let sandbox = made.insert(runtime.create(&lease, &plan.sandbox, &watch).await?);
        follow(sandbox.as_ref(), &plan, Phase::Provision, tape).await
    })
    .await?;
    let Some(sandbox) = made.as_deref() else {
        return Err(Halt);
    };

    for phase in [Phase::Acquire, Phase::Restore, Phase::Recover] {
        if plan.recipe.steps.iter().any(|step| step.phase == phase) {
            tape.phase(phase, async |tape| follow(sandbox, &plan, phase, tape).await).await?;
        }
    }

    tape.phase(Phase::Ready, async |tape| {
        follow(sandbox, &plan, Phase::Ready, tape).await?;
        until_ready(sandbox, &plan, tape).await
    })
    .await?;

    tape.phase(Phase::Validate, async |tape| {
        let guarantees = sandbox.observe().await?;
        tape.record(Event::Observed(guarantees));
        validate(sandbox, &plan, plan.stops.len().saturating_sub(1), tape).await;
        // What the bytes hold may only be known once they are read again; what that finds keeps nobody from looking.
        let read = follow(sandbox, &plan, Phase::Validate, tape).await;
        keep_promise(sandbox, &plan, tape).await;
        read
    })
    .await
}

/// Makes the plan without following it: what `pgdrill plan` shows.
pub async fn survey_only(drill: &Drill, start: Start, world: &World<'_>) -> Evidence {
    let mut tape = Tape::start(drill, start, world);
    let _: Result<Plan, Halt> = tape.phase(Phase::Inspect, survey).await;
    let _: Result<(), Halt> = teardown(&mut tape, None).await;
    tape.evidence
}

/// Asks until there is nothing more to ask, then decides.
async fn survey(tape: &mut Tape<'_>) -> Result<Plan, Fault> {
    loop {
        let questions = questions(tape.drill, &tape.evidence.survey);
        if questions.is_empty() {
            let plan = plan(tape.drill, &tape.evidence.survey)?;
            tape.record(Event::Planned(Box::new(plan.clone())));
            return Ok(plan);
        }
        for question in questions {
            ask_once(tape, question).await?;
        }
    }
}

async fn ask_once(tape: &mut Tape<'_>, question: Question) -> Result<(), Fault> {
    let (world, watch) = (tape.world, tape.watcher());
    let learnt = match world.runtime.learn(&world.lease, &question, &watch).await {
        Ok(learnt) => learnt,
        Err(fault) => {
            let path = match &question {
                Question::Dump { path, .. } | Question::Base { path, .. } => Some(path.as_str()),
                Question::List { .. }
                | Question::Bases { .. }
                | Question::Archive { .. }
                | Question::Window(_)
                | Question::Stops { .. }
                | Question::Search(_)
                | Question::Headers { .. }
                | Question::Text { .. }
                | Question::Server { .. }
                | Question::Host => None,
            };
            return Err(unless_changed(fault, path, tape).await);
        }
    };
    tape.record(Event::Learnt(question, learnt));
    Ok(())
}

/// A backup that changes while it is read looks damaged: then the change is the fault, and the complaint its consequence.
async fn unless_changed(fault: Fault, path: Option<&str>, tape: &Tape<'_>) -> Fault {
    match path {
        Some(path) if fault.blame == Blame::Backup && has_changed(path, tape).await => changed(fault),
        Some(_) | None => fault,
    }
}

/// Whether a file or directory of the survey looks different by now, or cannot be seen any more.
async fn has_changed(path: &str, tape: &Tape<'_>) -> bool {
    let Some(before) = tape.evidence.survey.seen(path) else { return false };
    let now = tape.world.runtime.look(&tape.world.lease, path).await;
    now.as_ref().ok() != Some(before)
}

async fn follow(sandbox: &dyn Sandbox, plan: &Plan, phase: Phase, tape: &mut Tape<'_>) -> Result<(), Fault> {
    for step in plan.recipe.steps.iter().filter(|step| step.phase == phase) {
        tape.say(&step.what);
        let began = Instant::now();
        let watch = tape.watcher();
        let path = read_by(step, plan);
        let mut output = match sandbox.perform(step, &watch).await {
            Ok(output) => output,
            Err(fault) => return Err(unless_changed(fault, Some(path), tape).await),
        };
        // `blame` knows which errors a step of this tolerance may go on after.
        let mut stopped = blame(step, &output);
        let accused = stopped.as_ref().is_some_and(|it| it.blame == Blame::Backup);
        let another =
            output.seen.as_ref().is_some_and(|it| tape.evidence.survey.seen(&it.path).is_some_and(|was| was != it));
        if another || (accused && has_changed(path, tape).await) {
            output.conditions.push(HostCondition::InputChanged);
            stopped = blame(step, &output);
        }
        let (did, output) = (Box::new(step.clone()), Box::new(output));
        tape.record(Event::Did { step: did, output, elapsed: began.elapsed() });
        if let Some(fault) = stopped {
            return Err(fault);
        }
        if let Action::Walk { stop, .. } = &step.action
            && stop + 1 < plan.stops.len()
        {
            validate(sandbox, plan, *stop, tape).await;
        }
    }
    Ok(())
}

/// The file or directory that a step reads: its own, else the backup, which may be mounted.
fn read_by<'a>(step: &'a Step, plan: &'a Plan) -> &'a str {
    match &step.action {
        Action::Stream { from, .. }
        | Action::Scan { from }
        | Action::Copy { from, .. }
        | Action::Unpack { from, .. } => from,
        Action::Run(_)
        | Action::Write { .. }
        | Action::Arm { .. }
        | Action::ServeWal { .. }
        | Action::Walk { .. }
        | Action::Recover { .. }
        | Action::Promote
        | Action::LookAgain
        | Action::LookAround { .. }
        | Action::Compare { .. }
        | Action::Verify { .. }
        | Action::ReadWal { .. }
        | Action::Sql { .. } => &plan.backup.file.path,
    }
}

/// Service is back when a transaction id was committed and the scenario's own query is true.
async fn until_ready(sandbox: &dyn Sandbox, plan: &Plan, tape: &mut Tape<'_>) -> Result<(), Fault> {
    tape.say("commit a transaction id");
    let committed = sandbox.ask(&committing(plan)).await;
    tape.record(Event::Readied(committed.clone()));
    if !matches!(committed, Answer::Rows(_)) {
        let blame = whose(&committed).unwrap_or(Blame::Backup);
        return Err(Fault::new(blame, "commit a transaction on the restored server").cause(words(&committed)));
    }
    let Some(ready) = &tape.drill.ready else {
        return Ok(());
    };
    let probe = Probe {
        database: ready.database.clone().unwrap_or_else(|| plan.database.clone()),
        role: ready.role.clone(),
        sql: ready.sql.clone(),
        timeout: READY_TIMEOUT,
        keep_rows: 1,
    };
    loop {
        let answer = sandbox.ask(&probe).await;
        tape.say(&format!("`ready:` is not true yet: {}", words(&answer)));
        if is_ready(&answer) {
            tape.record(Event::Readied(answer));
            return Ok(());
        }
        if let Answer::Refused { .. } = &answer {
            tape.record(Event::Readied(answer.clone()));
            let hint = "Correct `ready:` in the scenario, or find out why the backup lacks what it asks for.";
            let blame = whose(&answer).unwrap_or(Blame::Backup);
            return Err(Fault::new(blame, "ask `ready:`").cause(words(&answer)).hint(hint));
        }
        sleep(READY_PAUSE).await;
    }
}

/// Whose fault it is that there is no answer; None where only the restored data explain it.
fn whose(answer: &Answer) -> Option<Blame> {
    match answer {
        Answer::Rows(_) => None,
        Answer::Silent { .. } => Some(Blame::Host),
        Answer::Refused { sqlstate, message, .. } => {
            // What is not there may have been lost; other errors of this class are in the question itself.
            let lost = matches!(sqlstate.as_str(), "42P01" | "42703" | "42883" | "42704" | "42501");
            if sqlstate.starts_with("42") && !lost {
                return Some(Blame::Scenario);
            }
            let error = StatementError {
                sqlstate: Some(sqlstate.clone()),
                message: message.clone(),
                line: None,
                statement: None,
                entry: None,
                row: None,
            };
            Some(blame_error(&error).blame)
        }
    }
}

fn committing(plan: &Plan) -> Probe {
    // Not a table: restored triggers on DDL would fire.
    let function = if plan.server.major >= 13 { "pg_current_xact_id()" } else { "txid_current()" };
    Probe {
        database: plan.database.clone(),
        role: None,
        sql: format!("select {function}::text"),
        timeout: READY_TIMEOUT,
        keep_rows: 1,
    }
}

fn words(answer: &Answer) -> String {
    match answer {
        Answer::Rows(table) => {
            let value = table.rows.first().and_then(|row| row.first());
            value.map_or("no row".to_owned(), |it| it.clone().unwrap_or_else(|| "null".to_owned()))
        }
        Answer::Refused { sqlstate, message, .. } => format!("{sqlstate}: {message}"),
        Answer::Silent { because } => because.clone(),
    }
}

/// Every check is asked at every stop, even after one is refused. One that is broken is asked again without indexes, where files were
/// restored: those may be damaged, or wrong for no other reason than this host, where the rows are right.
async fn validate(sandbox: &dyn Sandbox, plan: &Plan, stop: usize, tape: &mut Tape<'_>) {
    for (index, check) in tape.drill.checks.iter().enumerate() {
        tape.say(&format!("check “{}”", check.name));
        let record = |answer, elapsed| Event::Answered { stop, check: index, answer, elapsed };
        let answers = examine(sandbox, plan, check, (tape, &record), |it| it).await;
        let is_broken = matches!(check.judge(&answers).finding, Finding::Broken { .. });
        if is_broken && plan.restores_files() {
            tape.say(&format!("check “{}”, without indexes", check.name));
            let record = |answer, elapsed| Event::AskedAgain { stop, check: index, answer, elapsed };
            let again = examine(sandbox, plan, check, (tape, &record), Probe::without_indexes).await;
            if let Some(indexes) = indexes_used(sandbox, plan, check, &again).await {
                tape.record(Event::Used { stop, check: index, indexes });
            }
        }
    }
}

/// Of a check that holds without indexes: those with which it did not.
async fn indexes_used(sandbox: &dyn Sandbox, plan: &Plan, check: &Check, again: &[Answer]) -> Option<Vec<String>> {
    if !matches!(check.judge(again).finding, Finding::Held { .. }) {
        return None;
    }
    let probe = check.probes(&plan.database, &[]).into_iter().next()?;
    sandbox.ask(&probe.explained()).await.indexes()
}

/// All that a check asks. `way`: how each question is put.
async fn examine(
    sandbox: &dyn Sandbox,
    plan: &Plan,
    check: &Check,
    (tape, record): (&mut Tape<'_>, &dyn Fn(Answer, Duration) -> Event),
    way: fn(Probe) -> Probe,
) -> Vec<Answer> {
    let mut known = Vec::new();
    loop {
        let probes = check.probes(&plan.database, &known);
        if probes.is_empty() {
            return known;
        }
        for probe in probes {
            let began = Instant::now();
            let answer = sandbox.ask(&way(probe)).await;
            known.push(answer.clone());
            tape.record(record(answer, began.elapsed()));
        }
    }
}

/// Asks what the dump promises. Its answers stand after those of the scenario's checks, a place for each group.
async fn keep_promise(sandbox: &dyn Sandbox, plan: &Plan, tape: &mut Tape<'_>) {
    let first = tape.drill.checks.len();
    for stop in 0..plan.stops.len() {
        for group in Group::ALL {
            let mut known = Vec::new();
            loop {
                let Some(promise) = tape.evidence.promise() else { return };
                let probes = promise.probes(group, &known);
                if probes.is_empty() {
                    break;
                }
                tape.say(&format!("look for what the dump promises ({group:?})"));
                let ask = async |probe: Probe| {
                    let began = Instant::now();
                    (sandbox.ask(&probe).await, began.elapsed())
                };
                let mut asked = stream::iter(probes).map(ask).buffered(CONNECTIONS);
                let mut answers = Vec::new();
                while let Some(answer) = asked.next().await {
                    answers.push(answer);
                }
                drop(asked);
                for (answer, elapsed) in answers {
                    known.push(answer.clone());
                    tape.record(Event::Answered { stop, check: first + group as usize, answer, elapsed });
                }
            }
        }
    }
}

/// Bounded by itself: it runs between the phases, when the sandbox may be in any state.
async fn keep_log(tape: &mut Tape<'_>, sandbox: &dyn Sandbox) {
    const PATIENCE: Duration = Duration::from_secs(10);
    if let Ok(log) = timeout(PATIENCE, sandbox.server_log()).await
        && !log.is_empty()
    {
        let path = (tape.world.keep_log)(&log);
        tape.record(Event::Logged(ServerLog { first_error: first_error(&log), path }));
    }
}

/// Whether the sandbox is to be left up, by what the scenario says and by what came of the drill.
fn wish(tape: &Tape<'_>) -> Option<Keep> {
    let wished = match tape.drill.keep {
        crate::scenario::Keep::Never => false,
        crate::scenario::Keep::OnFailure => !tape.world.cancel.is_cancelled() && !has_passed(&tape.evidence),
        crate::scenario::Keep::Always => true,
    };
    let database = &tape.evidence.plan.as_ref()?.database;
    let (name, length) = (tape.drill.name.clone(), tape.world.keep_for);
    wished.then(|| Keep { name, database: database.clone(), length })
}

/// As if it were over: what is still to come cannot make it better.
fn has_passed(evidence: &Evidence) -> bool {
    let mut over = evidence.clone();
    let (began, elapsed) = (Duration::ZERO, Duration::ZERO);
    over.add(Event::Ended(PhaseRecord { phase: Phase::Teardown, began, elapsed, outcome: PhaseOutcome::Completed }));
    judge(&over).verdict == Verdict::Passed
}

/// Releases the sandbox, unless it is kept.
async fn teardown(tape: &mut Tape<'_>, keep: Option<Keep>) -> Result<(), Halt> {
    let (runtime, lease) = (tape.world.runtime, tape.world.lease.clone());
    let hurry = tape.world.hurry.load(Ordering::Relaxed);
    let ended = tape.phase(Phase::Teardown, async |tape| {
        if let Some(fetched) = runtime.fetched(&lease) {
            tape.record(Event::Fetched(fetched));
        }
        if let Some(keep) = keep {
            let kept = match runtime.keep(&lease, &keep).await {
                Ok(until) => Kept::Until(until),
                Err(because) => Kept::Not { because },
            };
            let stands = matches!(kept, Kept::Until(_));
            tape.record(Event::Kept(kept));
            if stands {
                return Ok(());
            }
        }
        let remnants = runtime.release(&lease, hurry).await;
        if !remnants.is_empty() {
            tape.record(Event::Left(remnants));
        }
        Ok(())
    });
    let ended = ended.await;
    if ended.is_err() {
        let lease = &tape.world.lease;
        let (container, scratch) =
            (format!("what has the label pgdrill.drill={}", lease.drill), lease.scratch.display());
        tape.record(Event::Left(vec![container, format!("directory {scratch}")]));
    }
    ended
}

/// The drill stopped early; the tape already says why.
#[derive(Debug)]
struct Halt;

/// The log of a drill. The only place that reads a clock or notices a cancellation.
struct Tape<'a> {
    drill: &'a Drill,
    world: &'a World<'a>,
    start: Instant,
    evidence: Evidence,
    last_seen: Arc<Mutex<String>>,
}

impl<'a> Tape<'a> {
    fn start(drill: &'a Drill, start: Start, world: &'a World<'a>) -> Tape<'a> {
        let evidence = Evidence::from_events([]);
        let mut tape = Tape { drill, world, start: Instant::now(), evidence, last_seen: Arc::default() };
        tape.record(Event::Asked { drill: Box::new(drill.clone()), start: Box::new(start) });
        tape
    }

    fn record(&mut self, event: Event) {
        (self.world.record)(&event);
        self.evidence.add(event);
    }

    fn say(&self, state: &str) {
        self.watcher()(Progress::Said(state.to_owned()));
    }

    /// Passes progress on, and keeps the last state for the message of a time-out.
    fn watcher(&self) -> Watcher {
        let (last_seen, watch) = (Arc::clone(&self.last_seen), Arc::clone(&self.world.watch));
        Arc::new(move |progress| {
            let seen = match &progress {
                Progress::Said(state) => state.clone(),
                Progress::Bytes { what, done, total } => match total {
                    Some(total) => format!("{what}: {done} of {total} bytes"),
                    None => format!("{what}: {done} bytes"),
                },
            };
            *last_seen.lock().unwrap_or_else(PoisonError::into_inner) = seen;
            watch(progress);
        })
    }

    fn last_seen(&self) -> String {
        self.last_seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Times `work`, bounds it, and records how it ended.
    async fn phase<T>(
        &mut self,
        phase: Phase,
        work: impl AsyncFnOnce(&mut Self) -> Result<T, Fault>,
    ) -> Result<T, Halt> {
        let budget = self.drill.budget(phase);
        let cancel = self.world.cancel.clone();
        let began = Instant::now();
        self.record(Event::Began(phase));
        let ended = bounded(phase, budget, &cancel, work(self)).await;
        let (outcome, result) = match ended {
            Ok(value) => (PhaseOutcome::Completed, Ok(value)),
            Err(Stopped::Fault(fault)) => (PhaseOutcome::Failed(fault), Err(Halt)),
            Err(Stopped::Budget) => (PhaseOutcome::TimedOut { budget, last_seen: self.last_seen() }, Err(Halt)),
            Err(Stopped::Cancelled) => (PhaseOutcome::Cancelled { last_seen: self.last_seen() }, Err(Halt)),
        };
        let elapsed = began.elapsed();
        self.record(Event::Ended(PhaseRecord { phase, began: began - self.start, elapsed, outcome }));
        result
    }
}

enum Stopped {
    Fault(Fault),
    Budget,
    Cancelled,
}

/// Teardown alone cannot be cancelled: it is what cancelling leads to.
async fn bounded<T>(
    phase: Phase,
    budget: Duration,
    cancel: &CancellationToken,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Stopped> {
    tokio::select! {
        biased;
        () = cancel.cancelled(), if phase != Phase::Teardown => Err(Stopped::Cancelled),
        ended = timeout(budget, work) => match ended {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(fault)) => Err(Stopped::Fault(fault)),
            Err(_) => Err(Stopped::Budget),
        },
    }
}
