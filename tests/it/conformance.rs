//! One suite over every runtime: the same scenario gives the same evidence, apart from what names the runtime itself.

use std::collections::BTreeMap;

use pgdrill::evidence::{Event, Evidence, Held, PhaseOutcome};
use pgdrill::phase::Phase;
use pgdrill::verdict::Verdict;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::program::{Program, fixture, leftovers, row_checks, truth};
use crate::support;

const RUNTIMES: [&str; 2] = ["container", "local"];

fn drilled(runtime: &str, body: &str) -> (Program, Evidence, Verdict) {
    let program = Program::new();
    let dump = fixture("pg15/shop.dump").display().to_string();
    let body = body.replace("DUMP", &dump).replace("FIXTURES", fixture("pg15").to_str().unwrap());
    let ran = program.drill(&format!("version: 1\ndrills:\n  - name: same\n    runtime: {runtime}\n{body}"), &[]);
    assert!(matches!(ran.exit, Some(0 | 1 | 3)), "{runtime}: {}", ran.stderr);
    let text = std::fs::read_to_string(program.path("out/evidence.json")).unwrap();
    let kept: Value = serde_json::from_str(&text).unwrap();
    let evidence: Evidence = serde_json::from_value(kept["drills"][0].clone()).unwrap();
    let verdict = program.report().verdict;
    (program, evidence, verdict)
}

/// What must not depend on the runtime: phases and how they ended, steps with what came of them, answers.
pub(crate) fn essence(evidence: &Evidence) -> Value {
    let phases: Vec<Value> =
        evidence.phases.iter().map(|it| serde_json::json!([it.phase, kind(&it.outcome)])).collect();
    let done: Vec<Value> = evidence
        .done
        .iter()
        .map(|it| {
            let output = &it.output;
            let errors: Vec<_> =
                output.errors.iter().map(|it| (&it.sqlstate, &it.message, &it.entry, it.line)).collect();
            serde_json::json!([it.step, output.status, output.bytes, output.sha256, errors, output.errors_total])
        })
        .collect();
    let answers: Vec<Vec<_>> =
        evidence.answers.iter().map(|stop| stop.iter().map(|asked| &asked.answers).collect()).collect();
    serde_json::json!({ "phases": phases, "done": done, "answers": answers, "remnants": evidence.remnants })
}

fn kind(outcome: &PhaseOutcome) -> String {
    match outcome {
        PhaseOutcome::Completed => "completed".to_owned(),
        PhaseOutcome::Failed(fault) => format!("failed: {:?}", fault.blame),
        PhaseOutcome::TimedOut { .. } => "timed out".to_owned(),
        PhaseOutcome::Cancelled { .. } => "cancelled".to_owned(),
    }
}

fn same_everywhere(body: &str, expected: Verdict) {
    let mut seen = BTreeMap::new();
    for runtime in RUNTIMES {
        let (_program, evidence, verdict) = drilled(runtime, body);
        assert_eq!(verdict, expected, "{runtime}: {:?}", evidence.phases);
        let start = evidence.start.clone().unwrap();
        let scratch = std::env::temp_dir().join(&start.drill);
        assert_eq!(leftovers(&start.run, &[&scratch]), [""; 0], "{runtime}");
        seen.insert(runtime, essence(&evidence));
    }
    assert_eq!(seen["container"], seen["local"]);
}

#[test]
fn a_good_dump_passes_with_the_same_evidence() {
    let checks = row_checks(&truth(15), "shop", |_| true);
    let body = format!("    source: {{ pg_dump: {{ path: \"DUMP\" }} }}\n    checks:\n{checks}");
    same_everywhere(&body, Verdict::Passed);
}

#[test]
fn ignored_errors_fail_with_the_same_evidence() {
    // Without roles the owners, grants and policies of the fixture cannot be restored.
    let body = "    source: { pg_dump: { path: \"FIXTURES/shop.sql\" } }\n    \
                restore: { roles: none, allow_errors: [\"XX999\"] }\n    checks:\n      - rows: { table: shop.customer, min: 1 }\n";
    let mut seen = Vec::new();
    for runtime in RUNTIMES {
        let (_program, evidence, verdict) = drilled(runtime, body);
        assert_ne!(verdict, Verdict::Passed, "{runtime}");
        let restore = evidence.done.iter().find(|it| it.step.phase == Phase::Restore && it.output.errors_total > 0);
        let output = &restore.unwrap().output;
        assert!(output.errors.iter().all(|it| it.sqlstate.is_some() && it.line.is_some()), "{runtime}: {output:?}");
        let of_roles = output.errors.iter().filter(|it| it.sqlstate.as_deref() == Some("42704")).count();
        assert!(of_roles > 100, "{runtime}: {of_roles} of {}", output.errors_total);
        seen.push(essence(&evidence));
    }
    assert_eq!(seen[0], seen[1]);
}

#[test]
fn errors_of_pg_restore_carry_their_sqlstate_and_entry() {
    let body = "    source: { pg_dump: { path: \"DUMP\" } }\n    restore: { after: after.sql }\n    checks:\n      \
                - rows: { table: shop.customer, min: 1 }\n";
    for runtime in RUNTIMES {
        let program = Program::new();
        // The extension's types are in the way: pg_restore goes on, and says so.
        program.file("before.sql", "create schema shop; create table shop.customer (id int);\n");
        let body = body
            .replace("after: after.sql", "before: before.sql")
            .replace("DUMP", fixture("pg15/shop.dump").to_str().unwrap());
        program.drill(&format!("version: 1\ndrills:\n  - name: same\n    runtime: {runtime}\n{body}"), &[]).expect(1);
        let kept: Value =
            serde_json::from_str(&std::fs::read_to_string(program.path("out/evidence.json")).unwrap()).unwrap();
        let evidence: Evidence = serde_json::from_value(kept["drills"][0].clone()).unwrap();
        let errors: Vec<_> = evidence.done.iter().flat_map(|it| &it.output.errors).collect();
        let schema = errors.iter().find(|it| it.message == "schema \"shop\" already exists").unwrap();
        assert_eq!(schema.sqlstate.as_deref(), Some("42P06"), "{runtime}: {schema:?}");
        assert!(schema.entry.as_ref().is_some_and(|it| it.contains("SCHEMA shop")), "{runtime}: {schema:?}");
    }
}

#[test]
fn a_server_that_cannot_start_is_the_hosts_fault_everywhere() {
    let body = "    source: { pg_dump: { path: \"DUMP\" } }\n    restore: { settings: { shared_buffers: 900TB } }\n    checks:\n      \
                - rows: { table: shop.customer, min: 1 }\n";
    same_everywhere(body, Verdict::Inconclusive);
}

#[test]
fn a_phase_that_outlives_its_budget_is_stopped_everywhere() {
    let body = "    source: { pg_dump: { path: \"DUMP\" } }\n    ready: { sql: \"select pg_sleep(600)\" }\n    \
                budgets: { ready: 3s }\n    checks:\n      - rows: { table: shop.customer, min: 1 }\n";
    for runtime in RUNTIMES {
        let (_program, evidence, verdict) = drilled(runtime, body);
        assert_eq!(verdict, Verdict::Inconclusive, "{runtime}");
        let ready = evidence.phase(Phase::Ready).unwrap();
        assert!(
            matches!(&ready.outcome, PhaseOutcome::TimedOut { last_seen, .. } if !last_seen.is_empty()),
            "{ready:?}"
        );
    }
}

#[test]
fn isolation_is_in_force_everywhere() {
    let body =
        "    source: { pg_dump: { path: \"DUMP\" } }\n    checks:\n      - rows: { table: shop.customer, min: 1 }\n";
    for runtime in RUNTIMES {
        let (_program, evidence, _) = drilled(runtime, body);
        let absent: Vec<_> = evidence.guarantees.iter().filter(|it| it.held == Held::Absent).collect();
        // Nobody asked for a limit of memory or processors, and only engines filter system calls.
        let expected = ["memory limited", "processors limited", "system calls filtered"];
        let expected = if runtime == "local" { &expected[..] } else { &expected[..2] };
        let mut names: Vec<&str> = absent.iter().map(|it| it.name.as_str()).collect();
        names.sort_unstable();
        // An ordinary user gets control groups only where they were delegated.
        names.retain(|it| *it != "processes limited" || nix::unistd::geteuid().is_root());
        assert_eq!(names, expected, "{runtime}: {absent:?}");
        assert!(
            evidence.guarantees.iter().any(|it| it.name.contains("network") && it.held != Held::Absent),
            "{runtime}"
        );
        assert!(evidence.guarantees.len() >= 5, "{runtime}: {:?}", evidence.guarantees);
    }
}

/// A dump in mode 0600 is no bad backup: it is streamed, or copied where jobs need to seek in it.
#[test]
fn a_dump_that_only_we_may_read_is_restored_everywhere() {
    use std::os::unix::fs::PermissionsExt;
    for runtime in RUNTIMES {
        for restore in ["", "jobs: 2"] {
            let program = Program::new();
            let dump = program.path("private.dump");
            std::fs::copy(fixture("pg15/shop.dump"), &dump).unwrap();
            std::fs::set_permissions(&dump, std::fs::Permissions::from_mode(0o600)).unwrap();
            let scenario = format!(
                "version: 1\ndrills:\n  - name: private\n    runtime: {runtime}\n    source: {{ pg_dump: {{ path: private.dump }} }}\n    \
                 restore: {{ {restore} }}\n    checks:\n      - rows: {{ table: shop.customer, min: 1 }}\n"
            );
            program.drill(&scenario, &[]).expect(0);
        }
    }
}

/// The scripted runtime takes the same way: phases and steps of a real drill come in the order that it records.
#[tokio::test(start_paused = true)]
async fn the_scripted_runtime_takes_the_same_steps() {
    let body =
        "    source: { pg_dump: { path: \"DUMP\" } }\n    checks:\n      - rows: { table: shop.customer, min: 1 }\n";
    let (_program, real, _) = drilled("local", body);
    let path = fixture("pg15/shop.dump").display().to_string();
    let file = pgdrill::recipe::FileSeen { path: path.clone(), ..support::file() };
    let fake = pgdrill::runtime::fake::Fake::new(file, real.survey.dump(&path).unwrap().clone());
    let ran = support::run_on(&fake, real.asked.as_ref().unwrap(), &CancellationToken::new()).await;
    let steps = |evidence: &Evidence| evidence.done.iter().map(|it| it.step.clone()).collect::<Vec<_>>();
    assert_eq!(steps(&ran.evidence), steps(&real));
    let phases = |evidence: &Evidence| evidence.phases.iter().map(|it| it.phase).collect::<Vec<_>>();
    assert_eq!(phases(&ran.evidence), phases(&real));
    let folded = Evidence::from_events([Event::Began(Phase::Restore)]);
    assert_eq!(folded.unfinished, Some(Phase::Restore));
}

/// What restored code may do with the directory that it shares with us: it must not lead our questions to another server.
#[test]
fn a_hostile_dump_cannot_lead_our_questions_out_of_the_room() {
    for runtime in RUNTIMES {
        let program = Program::new();
        // A socket that answers nobody: it stands for another server of the machine.
        let decoy = program.path("decoy");
        let listener = std::os::unix::net::UnixListener::bind(&decoy).unwrap();
        listener.set_nonblocking(true).unwrap();
        let sql = format!(
            "create table t (x int);\ncopy t from program 'rm -f ../run/.s.PGSQL.5432 && ln -s {} ../run/.s.PGSQL.5432';\n",
            decoy.display()
        );
        program.file("hostile.sql", &sql);
        let scenario = format!(
            "version: 1\ndrills:\n  - name: hostile\n    runtime: {runtime}\n    source: {{ pg_dump: {{ path: hostile.sql }} }}\n    \
             postgres: {{ major: 15 }}\n    checks:\n      - query: {{ name: where, sql: select 1, expect: 1 }}\n"
        );
        let ran = program.drill(&scenario, &[]);
        assert_ne!(ran.exit, Some(0), "{runtime}: {}", ran.stdout);
        assert!(listener.accept().is_err(), "{runtime}: nobody called the other server");
    }
}
