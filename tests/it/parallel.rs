//! Drills at once: within one run by `--jobs`, and in runs that know nothing of each other.

use std::fmt::Write as _;
use std::process::Stdio;

use pgdrill::verdict::Verdict;
use serde_json::Value;

use crate::program::{Program, Ran, fixture, leftovers};

/// Three drills, the first of which takes the longest.
fn scenario(rto: &str) -> String {
    let mut text = "version: 1\ndrills:\n".to_owned();
    for (name, runtime, pause) in
        [("slow", "local", "2"), ("in-a-container", "container", "0.1"), ("quick", "local", "0.1")]
    {
        let dump = fixture("pg15/shop.dump").display().to_string();
        let _ = write!(
            text,
            "  - name: {name}\n    runtime: {runtime}\n    source: {{ pg_dump: {{ path: \"{dump}\" }} }}\n    \
             restore: {{ jobs: 1 }}\n    postgres: {{ major: 15, cpus: 1, memory: 256m }}\n{rto}    checks:\n      \
             - query: {{ name: one, sql: \"select pg_sleep({pause})\", expect: not empty }}\n"
        );
    }
    text
}

fn events(program: &Program) -> Vec<(String, Value)> {
    let text = std::fs::read_to_string(program.path("out/events.ndjson")).unwrap();
    let line = |it: &str| serde_json::from_str::<Value>(it).unwrap();
    text.lines().map(line).map(|it| (it["drill"].as_str().unwrap().to_owned(), it["event"].clone())).collect()
}

/// The most drills that were between their first and their last event at the same time.
fn at_once(program: &Program) -> usize {
    let (mut now, mut most) = (0_usize, 0);
    for (_, event) in events(program) {
        if event.get("asked").is_some() {
            now += 1;
            most = most.max(now);
        } else if event["ended"]["phase"] == "teardown" {
            now -= 1;
        }
    }
    most
}

#[test]
fn drills_at_once_are_reported_in_the_scenarios_order() {
    let program = Program::new();
    let ran = program.drill(&scenario(""), &["--jobs", "3", "--junit", "-"]).expect(0);
    assert!(at_once(&program) > 1, "{}", ran.stderr);
    let report = program.report();
    let names: Vec<&str> = report.drills.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["slow", "in-a-container", "quick"]);
    let suite = |at: usize, name: &str| ran.stdout.contains(&format!("<testsuite id=\"{at}\" name=\"{name}\""));
    assert!(names.iter().enumerate().all(|(at, name)| suite(at, name)), "{}", ran.stdout);
}

#[test]
fn drills_with_an_rto_are_timed_alone_unless_asked_otherwise_and_then_the_report_says_so() {
    let rto = "    objectives: { rto: 1h }\n";
    let alone = Program::new();
    alone.drill(&scenario(rto), &["--jobs", "3"]).expect(0);
    assert_eq!(at_once(&alone), 1);
    let notes = |program: &Program| program.report().drills[0].notes.findings.join("; ");
    assert!(!notes(&alone).contains("timed beside"), "{}", notes(&alone));
    let together = Program::new();
    together.drill(&scenario(rto), &["--jobs", "3", "--jobs-timed"]).expect(0);
    assert!(at_once(&together) > 1);
    assert!(notes(&together).contains("timed beside up to 2 other drills"), "{}", notes(&together));
}

#[test]
fn a_signal_cancels_all_drills_that_run_at_once() {
    let program = Program::new();
    let text = scenario("").replace("pg_sleep(", "pg_sleep(600 + ");
    let file = program.file("scenario.yaml", &text);
    let out = program.path("out").display().to_string();
    let mut command = program.command(&["run", &file, "--out", &out, "--jobs", "3"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let observed = |program: &Program| {
        let text = std::fs::read_to_string(program.path("out/events.ndjson")).unwrap_or_default();
        text.lines().filter(|it| it.contains("\"observed\"")).count()
    };
    crate::signals::wait_for("two drills in their checks", || (observed(&program) >= 2).then_some(()));
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    Ran::of(&child.wait_with_output().unwrap()).expect(130);
    let starts: Vec<Value> =
        events(&program).into_iter().filter_map(|(_, it)| it.get("asked").map(|it| it["start"].clone())).collect();
    let base = std::env::temp_dir();
    let scratches: Vec<_> = starts.iter().map(|it| base.join(it["drill"].as_str().unwrap())).collect();
    let scratches: Vec<_> = scratches.iter().map(std::path::PathBuf::as_path).collect();
    assert_eq!(leftovers(starts[0]["run"].as_str().unwrap(), &scratches), [""; 0]);
}

#[test]
fn runs_at_the_same_time_do_not_disturb_each_other() {
    let programs = [Program::new(), Program::new()];
    let children = programs.each_ref().map(|program| {
        let file = program.file("scenario.yaml", &scenario(""));
        let out = program.path("out").display().to_string();
        program.command(&["run", &file, "--out", &out]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    });
    // What has lapsed is cleaned away meanwhile, and nothing else.
    Program::new().run(&["clean"]).expect(0);
    for (program, child) in programs.iter().zip(children) {
        Ran::of(&child.wait_with_output().unwrap()).expect(0);
        assert!(program.report().drills.iter().all(|it| it.verdict == Verdict::Passed));
    }
}
