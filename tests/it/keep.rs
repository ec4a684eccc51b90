//! Sandboxes that are left up: entered, lapsed, removed, and never forgotten.

use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgdrill::check::{Answer, Table};
use pgdrill::evidence::Kept;
use pgdrill::fault::Blame;
use pgdrill::phase::Phase;
use pgdrill::runtime::fake::Fake;
use pgdrill::scenario::{Drill, Keep};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::program::{Program, fixture, leftovers};
use crate::signals::{Running, wait_for};
use crate::support;

const RUNTIMES: [&str; 2] = ["container", "local"];

/// A drill that fails, for a dump that nobody may be kept from restoring.
fn failing(runtime: &str, keep: &str) -> String {
    format!(
        "version: 1\ndrills:\n  - name: shop kept\n    runtime: {runtime}\n    {keep}\n    source: {{ pg_dump: {{ path: {} }} }}\n    \
         checks:\n      - rows: {{ table: shop.customer, equals: 7 }}\n",
        fixture("pg15/shop.dump").display()
    )
}

/// The run and the scratch directory of the only drill.
fn names(program: &Program) -> (String, PathBuf) {
    let text = std::fs::read_to_string(program.path("out/evidence.json")).unwrap();
    let kept: Value = serde_json::from_str(&text).unwrap();
    let start = &kept["drills"][0]["start"];
    let base = std::env::var_os("TMPDIR").map_or_else(|| "/tmp".into(), PathBuf::from);
    (start["run"].as_str().unwrap().to_owned(), base.join(start["drill"].as_str().unwrap()))
}

/// The keepers of a sandbox, by their command line.
fn keepers(scratch: &Path) -> Vec<i32> {
    let name = scratch.file_name().unwrap().to_string_lossy().into_owned();
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|it| it.file_name().to_str()?.parse::<i32>().ok());
    let is_keeper = |pid: &i32| {
        let text = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        text.contains("\0__keeper\0") && text.contains(&name)
    };
    pids.filter(is_keeper).collect()
}

fn gone(run: &str, scratch: &Path) {
    wait_for("nothing to be left", || leftovers(run, &[scratch]).is_empty().then_some(()));
    assert!(keepers(scratch).is_empty());
}

#[test]
fn a_failed_drill_is_kept_entered_and_removed() {
    for runtime in RUNTIMES {
        let program = Program::new();
        let ran = program.drill(&failing(runtime, ""), &["--keep", "--keep-for", "10m"]).expect(1);
        let (run, scratch) = names(&program);
        let name = scratch.file_name().unwrap().to_string_lossy().into_owned();
        let drill = &program.report().drills[0];
        let kept = drill.kept.clone().unwrap();
        assert!(drill.remnants.is_empty(), "{runtime}: what is kept is no remnant");
        for words in
            [format!("pgdrill shell {name}"), format!("pgdrill clean --run {name}"), format!("{:.0}", kept.until)]
        {
            assert!(ran.stdout.contains(&words), "{runtime}: {words}: {}", ran.stdout);
        }
        // A run, and a clean, leave it alone.
        let cleaned = program.run(&["clean"]).expect(0).stdout;
        assert!(cleaned.contains(&format!("pgdrill clean --run {name}")), "{cleaned}");
        let out = program.path("out").display().to_string();
        let sql = ["--", "-Atc", "select count(*) from shop.customer"];
        for who in [&run[..], &run[..20], &name, &out] {
            let answer = program.run(&[&["shell", who], &sql[..]].concat()).expect(0);
            assert_eq!(answer.stdout.trim(), "120", "{runtime}: {who}: {answer:?}");
        }
        let mistake = program.run(&["shell", &name, "--drill", "shop kept", "--", "-Atc", "select 1 from nothing"]);
        assert!(mistake.exit == Some(1) && mistake.stderr.contains("\"nothing\" does not exist"), "{mistake:?}");
        // It is as isolated as it was.
        let script = "cat /proc/net/dev | grep -c : ; id -u; exit 9";
        let inside = program.run(&["shell", &run, "--exec", "--", "/bin/sh", "-c", script]).expect(9);
        let lines: Vec<&str> = inside.stdout.lines().collect();
        assert!(lines[0] == "1" && lines[1] != "0", "{runtime}: {inside:?}");

        let wrong = program.run(&["shell", "no-such-run"]).expect(2);
        assert!(wrong.stderr.contains(&name) && wrong.stderr.contains("shop kept"), "{}", wrong.stderr);
        let wrong = program.run(&["clean", "--run", &run, "--dry-run"]).expect(0);
        assert!(wrong.stdout.contains("would remove") && !keepers(&scratch).is_empty());
        let removed = program.run(&["clean", "--run", &run]).expect(0);
        assert!(removed.stdout.contains(&name), "{}", removed.stdout);
        assert_eq!(leftovers(&run, &[&scratch]), [""; 0], "{runtime}");
        assert!(keepers(&scratch).is_empty());
        program.run(&["shell", &run]).expect(2);
    }
}

#[test]
fn what_is_kept_goes_when_its_time_is_over() {
    for runtime in RUNTIMES {
        let program = Program::new();
        program.drill(&failing(runtime, "keep: on_failure"), &["--keep-for", "3s"]).expect(1);
        let (run, scratch) = names(&program);
        gone(&run, &scratch);
    }
}

#[test]
fn a_keeper_that_is_killed_takes_its_sandbox_with_it() {
    for runtime in RUNTIMES {
        // The guard's patience; a lease is renewed every ten seconds.
        let program = Program::new().env("PGDRILL_PATIENCE_SECONDS", "25");
        program.drill(&failing(runtime, "keep: always"), &[]).expect(1);
        let (run, scratch) = names(&program);
        let keeper = keepers(&scratch);
        assert_eq!(keeper.len(), 1, "{runtime}");
        kill(Pid::from_raw(keeper[0]), Signal::SIGKILL).unwrap();
        wait_for("the sandbox to end", || {
            program.run(&["clean"]).expect(0);
            leftovers(&run, &[&scratch]).is_empty().then_some(())
        });
    }
}

#[test]
fn a_drill_that_passes_is_kept_only_if_it_is_always_to_be() {
    let passing = |keep: &str| failing("local", keep).replace("equals: 7", "equals: 120");
    let program = Program::new();
    program.drill(&passing("keep: on_failure"), &[]).expect(0);
    let (run, scratch) = names(&program);
    assert_eq!(leftovers(&run, &[&scratch]), [""; 0]);
    program.drill(&passing("keep: always"), &[]).expect(0);
    let (run, scratch) = names(&program);
    assert_eq!(keepers(&scratch).len(), 1);
    program.run(&["clean", "--run", &run]).expect(0);
    gone(&run, &scratch);
    program.drill(&failing("local", "keep: always"), &["--keep=never"]).expect(1);
    let (run, scratch) = names(&program);
    assert_eq!(leftovers(&run, &[&scratch]), [""; 0]);
}

#[test]
fn an_interrupted_drill_is_kept_only_if_it_is_always_to_be() {
    for (keep, stands) in [("on-failure", false), ("always", true)] {
        let running = Running::start_with("local", Phase::Validate, &[&format!("--keep={keep}")]);
        running.until(Phase::Validate);
        running.signal(Signal::SIGINT);
        let (run, scratch) = running.names();
        let Running { program, mut child } = running;
        assert_eq!(child.wait().unwrap().code(), Some(130));
        assert_eq!(keepers(&scratch).len(), usize::from(stands), "{keep}");
        if stands {
            program.run(&["clean", "--run", &run]).expect(0);
        }
        gone(&run, &scratch);
    }
}

#[test]
fn of_several_that_are_kept_one_is_named_and_all_are_removed() {
    let program = Program::new();
    let one = failing("local", "");
    let second = one.split_once("drills:\n").unwrap().1.replace("shop kept", "another");
    program.drill(&format!("{one}{second}"), &["--keep"]).expect(1);
    let (run, _) = names(&program);
    let which = program.run(&["shell", &run, "--", "-c", "select 1"]).expect(2);
    assert!(which.stderr.contains("drill another") && which.stderr.contains("--drill"), "{}", which.stderr);
    let sql = ["--drill", "another", "--", "-Atc", "select 41 + 1"];
    assert_eq!(program.run(&[&["shell", &run], &sql[..]].concat()).expect(0).stdout.trim(), "42");
    let removed = program.run(&["clean", "--run", &run]).expect(0).stdout;
    assert_eq!(removed.lines().filter(|it| it.starts_with("removed ")).count(), 2, "{removed}");
    assert_eq!(leftovers(&run, &[]), [""; 0]);
}

#[test]
fn what_an_earlier_drill_left_up_survives_the_death_of_its_run() {
    let program = Program::new();
    let first = failing("container", "keep: on_failure");
    let second = first.split_once("drills:\n").unwrap().1.replace("shop kept", "endless");
    let second = second.replace("checks:", "ready: { sql: \"select pg_sleep(600)\" }\n    checks:");
    let scenario = program.file("scenario.yaml", &format!("{first}{second}"));
    let out = program.path("out").display().to_string();
    let child = program.command(&["run", &scenario, "--quiet", "--out", &out]).spawn().unwrap();
    let mut running = Running { program, child };
    let events = running.program.path("out/events.ndjson");
    wait_for("the second drill", || {
        let text = std::fs::read_to_string(&events).unwrap_or_default();
        let is_there = |line: &&str| line.contains("\"endless\"") && line.contains("{\"began\":\"ready\"}");
        text.lines().find(is_there).is_some().then_some(())
    });
    running.signal(Signal::SIGKILL);
    running.child.wait().unwrap();
    let (run, kept) = running.names();
    let other = kept.with_file_name(kept.file_name().unwrap().to_string_lossy().replace("-0", "-1"));
    wait_for("the reaper", || (!other.exists() && leftovers(&run, &[&other]).len() == 3).then_some(()));
    let sql = ["--", "-Atc", "select count(*) from shop.customer"];
    assert_eq!(running.program.run(&[&["shell", &run], &sql[..]].concat()).expect(0).stdout.trim(), "120");
    running.program.run(&["clean", "--run", &run]).expect(0);
    gone(&run, &kept);
}

/// What a drill does on the scripted runtime: whether it asks to keep, and whether it releases.
async fn ends(keep: Keep, change: impl FnOnce(&mut Fake)) -> (Vec<String>, Option<Kept>) {
    let mut fake = support::fake();
    change(&mut fake);
    let ran = support::run_on(&fake, &Drill { keep, ..support::drill() }, &CancellationToken::new()).await;
    let ends = fake.calls().into_iter().filter(|it| it.starts_with("keep") || it == "release").collect();
    (ends, ran.evidence.kept)
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_is_released_unless_it_is_to_be_kept_and_can_be() {
    let fails = |fake: &mut Fake| {
        fake.answers.insert(
            "shop.orders".to_owned(),
            Answer::Rows(Table { columns: vec![], rows: vec![vec![Some("0".to_owned())]], total: 1 }),
        );
    };
    let kept = vec!["keep shop for 3600 s".to_owned()];
    let released = vec!["release".to_owned()];
    assert_eq!(ends(Keep::Never, fails).await, (released.clone(), None));
    assert_eq!(ends(Keep::OnFailure, |_| ()).await, (released.clone(), None), "it passed");
    let (calls, evidence) = ends(Keep::OnFailure, fails).await;
    assert!(calls == kept && matches!(evidence, Some(Kept::Until(_))), "{calls:?}");
    assert_eq!(ends(Keep::Always, |_| ()).await.0, kept);
    let cannot = |fake: &mut Fake| fake.keep_fails = Some(Blame::Host);
    let (calls, evidence) = ends(Keep::Always, cannot).await;
    assert_eq!(calls, [kept, released.clone()].concat());
    assert!(matches!(evidence, Some(Kept::Not { .. })));
    let unmade = |fake: &mut Fake| fake.create_fails = Some(Blame::Host);
    assert_eq!(ends(Keep::Always, unmade).await, (released, None), "there is nothing to keep");
}
