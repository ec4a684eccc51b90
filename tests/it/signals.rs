//! SIGINT, SIGTERM and SIGKILL in every phase leave nothing: no container, no volume, no process, no file.
//!
//! Each test waits for the phase's own event in the log of the run, never for a time.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgdrill::evidence::PhaseOutcome;
use pgdrill::phase::Phase;
use serde_json::Value;

use crate::program::{Program, Ran, fixture, leftovers};

/// Longer than anything here takes, even on a busy machine.
const DEADLINE: Duration = Duration::from_secs(120);

/// A drill in which restore, ready and validate would take minutes.
fn endless(runtime: &str, endless: Phase) -> String {
    let sleep = "select pg_sleep(600)";
    let before = if endless == Phase::Restore { "before: sleep.sql, " } else { "" };
    let ready = if endless == Phase::Ready { sleep } else { "select true" };
    let check = if endless == Phase::Validate { sleep } else { "select 1" };
    format!(
        "version: 1\ndrills:\n  - name: endless\n    runtime: {runtime}\n    source: {{ pg_dump: {{ path: shop.dump }} }}\n    \
         restore: {{ {before}jobs: 2 }}\n    ready: {{ sql: {ready:?} }}\n    checks:\n      \
         - query: {{ name: one, sql: {check:?}, expect: not empty, timeout: 20m }}\n"
    )
}

/// Polls for a condition: the only way to see what another process does.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(began.elapsed() < DEADLINE, "waited for {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// What is left once nothing more goes: empty where all went in time.
pub(crate) fn left_at_last(mut look: impl FnMut() -> Vec<String>) -> Vec<String> {
    let began = Instant::now();
    loop {
        let left = look();
        if left.is_empty() || began.elapsed() >= DEADLINE {
            return left;
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

pub(crate) struct Running {
    pub(crate) program: Program,
    pub(crate) child: Child,
}

impl Running {
    fn start(runtime: &str, phase: Phase) -> Running {
        Running::start_in(Program::new(), runtime, phase)
    }

    pub(crate) fn start_with(runtime: &str, phase: Phase, more: &[&str]) -> Running {
        Running::start_all(Program::new(), runtime, phase, more)
    }

    pub(crate) fn start_in(program: Program, runtime: &str, phase: Phase) -> Running {
        Running::start_all(program, runtime, phase, &[])
    }

    fn start_all(program: Program, runtime: &str, phase: Phase, extra: &[&str]) -> Running {
        program.file("sleep.sql", "select pg_sleep(600);\n");
        let dump = program.path("shop.dump");
        std::fs::copy(fixture("pg15/shop.dump"), &dump).unwrap();
        // One that only we may read is copied into the sandbox: that is what `acquire` is for.
        let mode = if phase == Phase::Acquire { 0o600 } else { 0o644 };
        std::fs::set_permissions(&dump, std::fs::Permissions::from_mode(mode)).unwrap();
        let scenario = program.file("scenario.yaml", &endless(runtime, phase));
        let out = program.path("out").display().to_string();
        let mut command = program.command(&[&["run", &scenario, "--out", &out], extra].concat());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Running { program, child }
    }

    fn events(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.program.path("out/events.ndjson")).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .map(|line: Value| line["event"].clone())
            .collect()
    }

    pub(crate) fn until(&self, phase: Phase) {
        let began = serde_json::json!({ "began": phase });
        wait_for(phase.name(), || self.events().contains(&began).then_some(()));
    }

    pub(crate) fn names(&self) -> (String, std::path::PathBuf) {
        let events = self.events();
        let start = &events[0]["asked"]["start"];
        let text = |key: &str| start[key].as_str().unwrap().to_owned();
        let base = std::env::var_os("TMPDIR").map_or_else(|| "/tmp".into(), std::path::PathBuf::from);
        (text("run"), base.join(text("drill")))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }
}

fn interrupted(runtime: &str, phase: Phase, signal: Signal) {
    let running = Running::start(runtime, phase);
    running.until(phase);
    running.signal(signal);
    let (run, scratch) = running.names();
    let Running { program, child } = running;
    let ran = Ran::of(&child.wait_with_output().unwrap()).expect(128 + signal as i32);
    let evidence: Value =
        serde_json::from_str(&std::fs::read_to_string(program.path("out/evidence.json")).unwrap()).unwrap();
    let phases = evidence["drills"][0]["phases"].as_array().unwrap();
    assert_eq!(phases.last().unwrap()["phase"], "teardown", "{}", ran.stderr);
    assert_eq!(evidence["drills"][0]["remnants"], serde_json::json!([]));
    let cancelled = phases.iter().find_map(|it| {
        let outcome: PhaseOutcome = serde_json::from_value(it["outcome"].clone()).unwrap();
        matches!(outcome, PhaseOutcome::Cancelled { .. }).then(|| it["phase"].clone())
    });
    // Short phases may be over when the signal arrives: then a later one is cut.
    if matches!(phase, Phase::Restore | Phase::Ready | Phase::Validate) {
        assert_eq!(cancelled, Some(serde_json::json!(phase)));
    }
    assert!(program.path("out/junit.xml").exists() && program.path("out/report.json").exists());
    assert_eq!(leftovers(&run, &[&scratch]), [""; 0]);
}

fn killed(runtime: &str, phase: Phase) {
    let mut running = Running::start(runtime, phase);
    running.until(phase);
    running.signal(Signal::SIGKILL);
    running.child.wait().unwrap();
    let (run, scratch) = running.names();
    wait_for("the reaper", || leftovers(&run, &[&scratch]).is_empty().then_some(()));
    // What is on disk still is evidence, and its verdict is never a pass.
    let out = running.program.path("out").join("events.ndjson");
    let judged = running.program.run(&["judge", out.to_str().unwrap()]);
    assert_eq!(judged.exit, Some(3), "{}", judged.stdout);
}

macro_rules! signals {
    ($($name:ident: $runtime:literal $phase:ident $signal:ident;)*) => {
        $(#[test] fn $name() { interrupted($runtime, Phase::$phase, Signal::$signal); })*
    };
}

signals! {
    sigint_in_prepare: "local" Prepare SIGINT;
    sigterm_in_inspect: "local" Inspect SIGTERM;
    sigint_in_provision: "local" Provision SIGINT;
    sigint_in_acquire: "local" Acquire SIGINT;
    sigterm_in_restore: "local" Restore SIGTERM;
    sigint_in_ready: "local" Ready SIGINT;
    sigterm_in_validate: "local" Validate SIGTERM;
    sigint_in_teardown: "local" Teardown SIGINT;
    sigint_in_provision_of_a_container: "container" Provision SIGINT;
    sigterm_in_restore_of_a_container: "container" Restore SIGTERM;
    sigint_in_validate_of_a_container: "container" Validate SIGINT;
}

macro_rules! kills {
    ($($name:ident: $runtime:literal $phase:ident;)*) => {
        $(#[test] fn $name() { killed($runtime, Phase::$phase); })*
    };
}

kills! {
    sigkill_in_prepare: "local" Prepare;
    sigkill_in_inspect: "local" Inspect;
    sigkill_in_provision: "local" Provision;
    sigkill_in_acquire: "local" Acquire;
    sigkill_in_restore: "local" Restore;
    sigkill_in_ready: "local" Ready;
    sigkill_in_validate: "local" Validate;
    sigkill_in_teardown: "local" Teardown;
    sigkill_in_provision_of_a_container: "container" Provision;
    sigkill_in_restore_of_a_container: "container" Restore;
    sigkill_in_validate_of_a_container: "container" Validate;
}

#[test]
fn a_second_signal_hurries_and_still_leaves_nothing() {
    let running = Running::start("container", Phase::Restore);
    running.until(Phase::Restore);
    running.signal(Signal::SIGINT);
    running.until(Phase::Teardown);
    running.signal(Signal::SIGINT);
    let (run, scratch) = running.names();
    let Running { program: _program, child } = running;
    Ran::of(&child.wait_with_output().unwrap()).expect(130);
    assert_eq!(leftovers(&run, &[&scratch]), [""; 0]);
}

/// What a look at the machine tries out is found and removed by whoever comes next.
#[test]
fn a_plan_and_a_doctor_that_are_killed_in_mid_try_leave_nothing_for_good() {
    let scenario =
        "version: 1\ndrills:\n  - name: plan\n    runtime: local\n    source: { pg_dump: { path: shop.dump } }\n";
    for args in [&["plan", "scenario.yaml"][..], &["doctor"]] {
        let base = tempfile::Builder::new().prefix("t-").tempdir().unwrap();
        let program = Program::new().env("TMPDIR", &base.path().display().to_string());
        std::fs::copy(fixture("pg15/shop.dump"), program.path("shop.dump")).unwrap();
        program.file("scenario.yaml", scenario);
        let mut child = program.command(args).stdout(Stdio::null()).spawn().unwrap();
        let entries = || std::fs::read_dir(base.path()).unwrap().map(|it| it.unwrap().path()).collect::<Vec<_>>();
        wait_for("something to be tried", || entries().iter().any(|it| it.join("pgdrill.json").exists()).then_some(()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(entries().len(), 1, "{args:?}");
        program.run(&["clean"]).expect(0);
        assert_eq!(entries(), [""; 0].map(std::path::PathBuf::from), "{args:?}");
    }
}

#[test]
fn parallel_runs_do_not_clean_each_other_away() {
    let running = Running::start("local", Phase::Validate);
    running.until(Phase::Validate);
    let (run, scratch) = running.names();
    let other = Program::new();
    other.run(&["clean"]).expect(0);
    assert!(scratch.exists() && !leftovers(&run, &[&scratch]).is_empty(), "what is in use stays");
    running.signal(Signal::SIGTERM);
    let Running { program: _program, child } = running;
    Ran::of(&child.wait_with_output().unwrap()).expect(143);
}
