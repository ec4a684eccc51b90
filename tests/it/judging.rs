//! From a scripted runtime to a verdict: the runbook, the clock, blame, cancellation. No engine, no waiting: time is paused.

use std::time::Duration;

use pgdrill::check::{Answer, Severity, Table};
use pgdrill::evidence::{Event, Evidence, PhaseOutcome, PhaseRecord};
use pgdrill::fault::{Blame, Fault};
use pgdrill::format::DumpFormat;
use pgdrill::phase::Phase;
use pgdrill::recipe::{FileSeen, HostCondition, Output, Recovered, StatementError, Transaction, WalSeen};
use pgdrill::scenario::{Ready, Waiver};
use pgdrill::source::{Durability, Pick};
use pgdrill::target::{Point, Target};
use pgdrill::verdict::{self, About, Rto, Verdict};
use tokio_util::sync::CancellationToken;

use crate::support::{Ran, drill, facts, fake, file, rows_check, run_on, start};

fn outcome_of(ran: &Ran, phase: Phase) -> &PhaseOutcome {
    &ran.evidence.phase(phase).unwrap().outcome
}

#[tokio::test(start_paused = true)]
async fn a_good_backup_passes_and_the_clock_is_exact() {
    let fake = fake();
    let ran = run_on(&fake, &drill(), &CancellationToken::new()).await;
    assert_eq!(ran.judgement.verdict, Verdict::Passed, "{:?}", ran.judgement.reasons);
    // One second to create, ten for each of the steps in the span.
    let steps = ran.evidence.done.iter().filter(|it| it.step.phase <= Phase::Ready).count() as u64;
    let elapsed = Duration::from_secs(1 + 10 * steps);
    assert_eq!(ran.judgement.rto.unwrap().outcome, Rto::Met { elapsed });
    assert!(fake.engine().is_empty());
    assert_eq!(ran.evidence.phases.last().unwrap().phase, Phase::Teardown);
}

#[tokio::test(start_paused = true)]
async fn phases_come_in_their_order_and_steps_in_theirs() {
    let fake = fake();
    let ran = run_on(&fake, &drill(), &CancellationToken::new()).await;
    let phases: Vec<Phase> = ran.evidence.phases.iter().map(|it| it.phase).collect();
    assert!(phases.is_sorted(), "{phases:?}");
    let calls = fake.calls();
    let calls: Vec<&str> = calls.iter().map(String::as_str).collect();
    assert_eq!(
        calls,
        [
            "prepare",
            "list",
            "dump /b/shop.dump",
            "server 15",
            "create",
            "make an empty cluster",
            "write the server's configuration",
            "write the server's configuration",
            "write the server's configuration",
            "start the server",
            "create the database",
            "restore the archive",
            "analyze the restored database",
            "ask select pg_current_xact_id()::text",
            "ask select count(*) from shop.orders",
            "release",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_restore_misses_the_rto_and_is_still_validated() {
    let mut fake = fake();
    fake.step_takes = Duration::from_secs(100);
    let ran = run_on(&fake, &drill(), &CancellationToken::new()).await;
    assert_eq!(ran.judgement.verdict, Verdict::Failed);
    assert!(matches!(ran.judgement.rto.unwrap().outcome, Rto::Missed { .. }));
    assert_eq!(ran.evidence.answers[0][0].answers.len(), 1, "validated all the same");
}

#[tokio::test(start_paused = true)]
async fn declared_overhead_counts_against_the_rto() {
    let mut drill = drill();
    let rto = drill.objectives.rto.as_mut().unwrap();
    rto.overhead = Duration::from_secs(590);
    let ran = run_on(&fake(), &drill, &CancellationToken::new()).await;
    assert!(matches!(ran.judgement.rto.unwrap().outcome, Rto::Missed { .. }), "the span took more than ten seconds");
}

#[tokio::test(start_paused = true)]
async fn a_time_without_fsync_proves_no_rto() {
    let drill = pgdrill::scenario::Drill { durability: Durability::Fast, ..drill() };
    let ran = run_on(&fake(), &drill, &CancellationToken::new()).await;
    assert_eq!(ran.judgement.verdict, Verdict::Inconclusive);
    assert!(matches!(ran.judgement.rto.unwrap().outcome, Rto::NotComparable { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_bad_backup_fails_before_anything_is_created() {
    let mut fake = fake();
    fake.dump = Err(Fault::new(Blame::Backup, "recognise /b/shop.dump").cause("it begins with <html"));
    let ran = run_on(&fake, &drill(), &CancellationToken::new()).await;
    assert_eq!(ran.judgement.verdict, Verdict::Failed);
    assert!(!fake.calls().contains(&"create".to_owned()));
    assert_eq!(ran.evidence.plan, None);
    assert_eq!(ran.judgement.reasons[0].blame, Some(Blame::Backup));
}

#[tokio::test(start_paused = true)]
async fn no_matching_file_fails_and_blames_the_backup() {
    let mut fake = fake();
    fake.files.clear();
    let ran = run_on(&fake, &drill(), &CancellationToken::new()).await;
    assert_eq!(ran.judgement.verdict, Verdict::Failed);
    assert_eq!(ran.judgement.reasons[0].blame, Some(Blame::Backup));
}

#[tokio::test(start_paused = true)]
async fn a_host_that_cannot_make_a_sandbox_is_inconclusive_and_leaves_nothing() {
    let mut fake = fake();
    fake.create_fails = Some(Blame::Host);
    let ran = run_on(&fake, &drill(), &CancellationToken::new()).await;
    assert_eq!(ran.judgement.verdict, Verdict::Inconclusive);
    assert!(fake.engine().is_empty(), "a half-made sandbox is still released");
}

#[tokio::test(start_paused = true)]
async fn a_restore_that_refuses_the_bytes_fails_and_a_full_disk_does_not() {
    for (conditions, verdict, blame) in [
        (vec![], Verdict::Failed, Blame::Backup),
        (vec![HostCondition::DiskFull], Verdict::Inconclusive, Blame::Host),
        (vec![HostCondition::OutOfMemory], Verdict::Inconclusive, Blame::Host),
    ] {
        let mut fake = fake();
        let stderr = "pg_restore: error: could not read from input file: end of file".to_owned();
        let output = Output { status: 1, stderr, conditions: conditions.clone(), ..Output::default() };
        fake.outputs.insert("restore the archive".to_owned(), output);
        let ran = run_on(&fake, &drill(), &CancellationToken::new()).await;
        assert_eq!(ran.judgement.verdict, verdict, "{conditions:?}: {:?}", ran.judgement.reasons);
        assert_eq!(ran.judgement.reasons[0].blame, Some(blame), "{conditions:?}");
        assert_eq!(fake.calls().last().unwrap(), "release");
    }
}

fn ignored_error() -> Output {
    let error = StatementError {
        sqlstate: Some("42704".to_owned()),
        message: "type \"citext\" does not exist".to_owned(),
        line: None,
        statement: Some("CREATE TABLE …".to_owned()),
        entry: Some("TABLE people owner".to_owned()),
        row: None,
    };
    let stderr = "pg_restore: warning: errors ignored on restore: 1".to_owned();
    Output { status: 1, stderr, errors: vec![error], errors_total: 1, ..Output::default() }
}

#[tokio::test(start_paused = true)]
async fn ignored_errors_fail_the_drill_unless_they_are_allowed_by_name() {
    for (allowed, verdict) in [
        (vec![], Verdict::Failed),
        (vec!["42704".to_owned()], Verdict::Passed),
        (vec!["type \"citext\"".to_owned()], Verdict::Passed),
        (vec!["42P01".to_owned()], Verdict::Failed),
    ] {
        let mut fake = fake();
        fake.outputs.insert("restore the archive".to_owned(), ignored_error());
        let mut drill = drill();
        drill.restore.allow_errors.clone_from(&allowed);
        let ran = run_on(&fake, &drill, &CancellationToken::new()).await;
        assert_eq!(ran.judgement.verdict, verdict, "{allowed:?}: {:?}", ran.judgement.reasons);
        assert_eq!(ran.evidence.answers[0].len(), 1, "the rest is looked at all the same");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hung_restore_is_stopped_by_its_budget_and_says_what_it_was_doing() {
    let mut fake = fake();
    fake.step_takes = Duration::from_secs(99_999);
    let mut drill = drill();
    drill.budgets = [(Phase::Provision, Duration::from_secs(30))].into();
    let ran = run_on(&fake, &drill, &CancellationToken::new()).await;
    let PhaseOutcome::TimedOut { budget, last_seen } = outcome_of(&ran, Phase::Provision) else {
        panic!("{:?}", outcome_of(&ran, Phase::Provision));
    };
    assert_eq!((*budget, last_seen.as_str()), (Duration::from_secs(30), "make an empty cluster is under way"));
    assert_eq!(ran.judgement.verdict, Verdict::Inconclusive, "the RTO was not exceeded yet");
    assert!(fake.engine().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_ends_after_the_rto_fails() {
    let mut fake = fake();
    fake.step_takes = Duration::from_secs(99_999);
    let mut drill = drill();
    drill.budgets = [(Phase::Provision, Duration::from_secs(601))].into();
    let ran = run_on(&fake, &drill, &CancellationToken::new()).await;
    assert_eq!(ran.judgement.verdict, Verdict::Failed);
}

#[tokio::test(start_paused = true)]
async fn cancelling_in_any_phase_releases_and_is_inconclusive() {
    // Half a second into: create, a step of each phase.
    for after in [500, 5_000, 15_000, 55_000, 65_000, 75_000] {
        let (fake, cancel) = (fake(), CancellationToken::new());
        let drill = drill();
        let (ran, ()) = tokio::join!(run_on(&fake, &drill, &cancel), async {
            tokio::time::sleep(Duration::from_millis(after)).await;
            cancel.cancel();
        });
        assert_eq!(ran.judgement.verdict, Verdict::Inconclusive, "after {after} ms");
        let cancelled = ran.evidence.phases.iter().rev().nth(1).unwrap();
        assert!(matches!(cancelled.outcome, PhaseOutcome::Cancelled { .. }), "after {after} ms: {cancelled:?}");
        assert!(fake.engine().is_empty(), "after {after} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn cancelling_during_create_leaks_nothing_even_when_the_engine_finishes_late() {
    let mut fake = fake();
    fake.create_takes = Duration::from_secs(30);
    let cancel = CancellationToken::new();
    let drill = drill();
    let (ran, ()) = tokio::join!(run_on(&fake, &drill, &cancel), async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        cancel.cancel();
    });
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(fake.engine().is_empty(), "{:?}", ran.evidence);
}

#[tokio::test(start_paused = true)]
async fn severities_decide_what_a_broken_check_means() {
    let broken = || {
        let rows = vec![vec![Some("0".to_owned())]];
        Answer::Rows(Table { columns: vec!["count".to_owned()], rows, total: 1 })
    };
    for (severity, verdict) in
        [(Severity::Critical, Verdict::Failed), (Severity::Major, Verdict::Failed), (Severity::Minor, Verdict::Passed)]
    {
        let mut fake = fake();
        fake.answers.insert("count(*)".to_owned(), broken());
        let drill = pgdrill::scenario::Drill { checks: vec![rows_check("orders", severity)], ..drill() };
        let ran = run_on(&fake, &drill, &CancellationToken::new()).await;
        assert_eq!(ran.judgement.verdict, verdict, "{severity:?}: {:?}", ran.judgement.reasons);
        assert_eq!(ran.judgement.findings.len(), usize::from(severity == Severity::Minor));
    }
}

#[tokio::test(start_paused = true)]
async fn a_check_that_got_no_answer_is_inconclusive() {
    let mut fake = fake();
    fake.answers.insert("count(*)".to_owned(), Answer::Silent { because: "the connection was lost".to_owned() });
    let ran = run_on(&fake, &drill(), &CancellationToken::new()).await;
    assert_eq!(ran.judgement.verdict, Verdict::Inconclusive);
}

#[tokio::test(start_paused = true)]
async fn a_drill_without_checks_proves_nothing() {
    let drill = pgdrill::scenario::Drill { checks: Vec::new(), ..drill() };
    let ran = run_on(&fake(), &drill, &CancellationToken::new()).await;
    assert_eq!(ran.judgement.verdict, Verdict::Inconclusive);
    assert_eq!(ran.judgement.reasons[0].about, About::Drill);
}

#[tokio::test(start_paused = true)]
async fn a_waiver_holds_until_its_day_and_no_longer() {
    for (until, verdict) in [("2026-11-22", Verdict::Passed), ("2026-11-21", Verdict::Failed)] {
        let mut fake = fake();
        let rows = vec![vec![Some("0".to_owned())]];
        let none = Answer::Rows(Table { columns: vec!["count".to_owned()], rows, total: 1 });
        fake.answers.insert("count(*)".to_owned(), none);
        let waiver = Waiver {
            check: "orders".to_owned(),
            object: None,
            reason: "ticket 4711".to_owned(),
            until: until.parse().unwrap(),
        };
        let drill = pgdrill::scenario::Drill { waivers: vec![waiver], ..drill() };
        let ran = run_on(&fake, &drill, &CancellationToken::new()).await;
        assert_eq!(ran.judgement.verdict, verdict, "until {until}");
    }
}

#[tokio::test(start_paused = true)]
async fn readiness_waits_until_the_query_is_true_and_fails_when_the_server_refuses_it() {
    let ready = Ready { sql: "select is_open from shop".to_owned(), database: None, role: None };
    let drill = pgdrill::scenario::Drill {
        ready: Some(ready),
        budgets: [(Phase::Ready, Duration::from_secs(60))].into(),
        ..drill()
    };
    let answer = |text: &str| {
        let rows = vec![vec![Some(text.to_owned())]];
        Answer::Rows(Table { columns: vec!["is_open".to_owned()], rows, total: 1 })
    };
    let refused = Answer::Refused { sqlstate: "42P01".to_owned(), message: "no such relation".to_owned(), hint: None };
    for (answer, verdict) in
        [(answer("t"), Verdict::Passed), (answer("f"), Verdict::Inconclusive), (refused, Verdict::Failed)]
    {
        let mut fake = fake();
        fake.answers.insert("is_open".to_owned(), answer.clone());
        let ran = run_on(&fake, &drill, &CancellationToken::new()).await;
        assert_eq!(ran.judgement.verdict, verdict, "{answer:?}: {:?}", ran.judgement.reasons);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dump_of_a_major_that_is_not_there_goes_to_the_next_higher_and_says_so() {
    let mut fake = fake();
    fake.majors = vec![13, 17, 18];
    let ran = run_on(&fake, &drill(), &CancellationToken::new()).await;
    let plan = ran.evidence.plan.unwrap();
    assert_eq!(plan.server.major, 17);
    assert!(plan.notes.iter().any(|it| it.text.contains("dumped from PostgreSQL 15.18")), "{:?}", plan.notes);
}

#[tokio::test(start_paused = true)]
async fn a_dump_newer_than_every_server_is_inconclusive() {
    let mut fake = fake();
    fake.majors = vec![13];
    let ran = run_on(&fake, &drill(), &CancellationToken::new()).await;
    assert_eq!(ran.judgement.verdict, Verdict::Inconclusive);
    assert_eq!(ran.judgement.reasons[0].blame, Some(Blame::Host));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_work_is_said_before_anything_is_created() {
    type Breaking = fn(&mut pgdrill::runtime::fake::Fake, &mut pgdrill::scenario::Drill);
    let cases: [(&str, Breaking, Blame); 6] = [
        (
            "an extension that the image lacks",
            |fake, _| {
                let mut dump = facts();
                dump.contents.extensions =
                    vec![pgdrill::format::Extension { name: "postgis".to_owned(), database: None }];
                fake.dump = Ok(dump);
            },
            Blame::Host,
        ),
        (
            "a newer archive than pg_restore reads",
            |fake, drill| {
                let mut dump = facts();
                dump.archive_version.as_mut().unwrap().minor = 16;
                fake.dump = Ok(dump);
                drill.postgres.major = Some(15);
            },
            Blame::Scenario,
        ),
        (
            "tar with jobs",
            |fake, drill| {
                fake.dump = Ok(pgdrill::format::DumpFacts { format: DumpFormat::Tar, ..facts() });
                drill.restore.jobs = Some(4);
            },
            Blame::Scenario,
        ),
        (
            "a dump without its end",
            |fake, _| {
                fake.dump = Ok(pgdrill::format::DumpFacts {
                    format: DumpFormat::Plain,
                    archive_version: None,
                    end_marker: Some(false),
                    ..facts()
                });
            },
            Blame::Backup,
        ),
        (
            "a disk that is too small",
            |fake, _| {
                let mut dump = facts();
                dump.contents.data_bytes = 1 << 50;
                fake.dump = Ok(dump);
            },
            Blame::Host,
        ),
        (
            "a locale that the image lacks",
            |fake, _| {
                let mut dump = facts();
                dump.contents.create_database = Some("CREATE DATABASE shop WITH LOCALE = 'tr_TR.UTF-8';".to_owned());
                fake.dump = Ok(dump);
            },
            Blame::Host,
        ),
    ];
    for (what, break_it, blame) in cases {
        let (mut fake, mut drill) = (fake(), drill());
        break_it(&mut fake, &mut drill);
        let ran = run_on(&fake, &drill, &CancellationToken::new()).await;
        assert!(!fake.calls().contains(&"create".to_owned()), "{what}");
        assert_eq!(ran.judgement.reasons[0].blame, Some(blame), "{what}: {:?}", ran.judgement.reasons);
        assert!(ran.judgement.reasons[0].hint.is_some(), "{what} has a hint");
    }
}

#[tokio::test(start_paused = true)]
async fn roles_that_the_dump_does_not_carry_become_stubs_and_the_plan_says_so() {
    let mut fake = fake();
    let mut dump = facts();
    dump.contents.roles = ["shop_owner", "postgres", "pg_monitor"].map(str::to_owned).into();
    fake.dump = Ok(dump);
    let ran = run_on(&fake, &drill(), &CancellationToken::new()).await;
    assert!(fake.calls().contains(&"create stubs for the dump's roles".to_owned()));
    let notes = ran.evidence.plan.unwrap().notes;
    let stubbed = notes.iter().find(|it| it.kind == pgdrill::plan::NoteKind::Stubbed).unwrap();
    assert!(stubbed.text.contains("shop_owner") && !stubbed.text.contains("pg_monitor"), "{stubbed:?}");
}

#[tokio::test(start_paused = true)]
async fn the_newest_by_the_date_in_its_name_is_picked_and_the_rest_is_reported() {
    let seen = |path: &str, modified| pgdrill::recipe::FileSeen { path: path.to_owned(), modified, ..file() };
    let mut fake = fake();
    // The copy of the oldest was made last: its modification time must not count.
    fake.files = vec![
        seen("/b/shop-2026-11-20.dump", 900),
        seen("/b/shop-2026-11-22.dump", 100),
        seen("/b/shop-2026-11-21.dump", 500),
    ];
    for (pick, expected) in [(Pick::Newest, "/b/shop-2026-11-22.dump"), (Pick::Oldest, "/b/shop-2026-11-20.dump")] {
        let mut drill = drill();
        drill.source.location_mut().pick = pick;
        let ran = run_on(&fake, &drill, &CancellationToken::new()).await;
        let backup = ran.evidence.plan.unwrap().backup;
        assert_eq!(backup.file.path, expected);
        assert_eq!(backup.passed_over.len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn age_is_judged_by_the_dumps_own_date_and_its_zone() {
    // The dump says 2026-11-22 03:00:00; the drill starts at 12:00 UTC.
    for (max_age, zone, verdict) in [
        (Duration::from_secs(26 * 3600), None, Verdict::Passed),
        (Duration::from_secs(10 * 3600), None, Verdict::Inconclusive),
        (Duration::from_secs(10 * 3600), Some("UTC"), Verdict::Passed),
        (Duration::from_secs(8 * 3600), Some("UTC"), Verdict::Failed),
    ] {
        let mut drill = drill();
        drill.objectives.max_age = Some(max_age);
        drill.source.location_mut().timezone = zone.map(str::to_owned);
        let ran = run_on(&fake(), &drill, &CancellationToken::new()).await;
        assert_eq!(ran.judgement.verdict, verdict, "{max_age:?} {zone:?}: {:?}", ran.judgement.reasons);
    }
}

#[tokio::test(start_paused = true)]
async fn a_backup_that_changes_while_it_is_read_is_inconclusive() {
    let mut fake = fake();
    let changed = pgdrill::recipe::FileSeen { bytes: 1_000_001, ..file() };
    let output = Output { seen: Some(changed), ..Output::default() };
    fake.outputs.insert("restore the archive".to_owned(), output);
    let ran = run_on(&fake, &drill(), &CancellationToken::new()).await;
    assert_eq!(ran.judgement.verdict, Verdict::Inconclusive, "{:?}", ran.judgement.reasons);
}

#[tokio::test(start_paused = true)]
async fn no_part_of_a_log_passes_but_the_whole() {
    let ran = run_on(&fake(), &drill(), &CancellationToken::new()).await;
    assert_eq!(ran.judgement.verdict, Verdict::Passed);
    for end in 0..ran.log.len() {
        let part = ran.log[..end].iter().map(|line| serde_json::from_str(line).unwrap());
        let judgement = verdict::judge(&Evidence::from_events(part));
        assert_ne!(judgement.verdict, Verdict::Passed, "cut before {}", ran.log[end]);
    }
}

#[tokio::test(start_paused = true)]
async fn errors_beyond_those_that_are_kept_are_not_allowed_by_those_that_are() {
    let mut fake = fake();
    fake.outputs.insert("restore the archive".to_owned(), Output { errors_total: 2, ..ignored_error() });
    let mut drill = drill();
    drill.restore.allow_errors = vec!["42704".to_owned()];
    let ran = run_on(&fake, &drill, &CancellationToken::new()).await;
    assert_eq!(ran.judgement.verdict, Verdict::Inconclusive, "{:?}", ran.judgement.reasons);
}

#[tokio::test(start_paused = true)]
async fn a_span_that_ends_with_a_phase_that_a_dump_skips_is_measured_to_the_one_before() {
    let mut drill = drill();
    drill.objectives.rto.as_mut().unwrap().span = Phase::Provision..=Phase::Recover;
    let ran = run_on(&fake(), &drill, &CancellationToken::new()).await;
    assert!(matches!(ran.judgement.rto.unwrap().outcome, Rto::Met { .. }));
}

#[test]
fn a_run_of_no_drills_is_not_a_pass() {
    assert_eq!(verdict::overall([]), Verdict::Inconclusive);
    assert_eq!(verdict::overall([Verdict::Passed, Verdict::Inconclusive]), Verdict::Inconclusive);
    assert_eq!(verdict::overall([Verdict::Inconclusive, Verdict::Failed]), Verdict::Failed);
}

#[test]
fn a_log_cut_short_is_inconclusive_and_says_where_it_ended() {
    let asked = Event::Asked { drill: Box::new(drill()), start: Box::new(start()) };
    let evidence = Evidence::from_events([asked, Event::Began(Phase::Restore)]);
    let judgement = verdict::judge(&evidence);
    assert_eq!(judgement.verdict, Verdict::Inconclusive);
    assert!(judgement.reasons.iter().any(|it| it.text.contains("restore never ended")), "{:?}", judgement.reasons);
}

/// What `pg_restore` says of a file that ends too early.
fn cut() -> Output {
    let stderr = "pg_restore: error: could not read from input file: end of file".to_owned();
    Output { status: 1, stderr, ..Output::default() }
}

#[tokio::test(start_paused = true)]
async fn a_backup_that_was_cut_meanwhile_is_not_blamed_and_one_that_was_cut_before_is() {
    let mut fake = fake();
    fake.outputs.insert("restore the archive".to_owned(), cut());
    let before = run_on(&fake, &drill(), &CancellationToken::new()).await;
    assert_eq!(before.judgement.verdict, Verdict::Failed);
    fake.looks_later = Some(FileSeen { bytes: 10, ..file() });
    let meanwhile = run_on(&fake, &drill(), &CancellationToken::new()).await;
    assert_eq!(meanwhile.judgement.verdict, Verdict::Inconclusive, "{:?}", meanwhile.judgement.reasons);
    let reason = &meanwhile.judgement.reasons[0];
    assert_eq!((reason.blame, reason.causes[0].as_str()), (Some(Blame::Host), "the backup changed while it was read"));
}

#[tokio::test(start_paused = true)]
async fn a_survey_of_a_file_that_is_still_being_written_accuses_nobody() {
    let mut fake = fake();
    fake.dump = Err(Fault::new(Blame::Backup, "read /b/shop.dump").cause("its table of contents is cut"));
    let before = run_on(&fake, &drill(), &CancellationToken::new()).await;
    assert_eq!(before.judgement.verdict, Verdict::Failed);
    fake.looks_later = Some(FileSeen { bytes: 2_000_000, ..file() });
    let meanwhile = run_on(&fake, &drill(), &CancellationToken::new()).await;
    assert_eq!(meanwhile.judgement.verdict, Verdict::Inconclusive);
    let reason = &meanwhile.judgement.reasons[0];
    assert_eq!(reason.causes[1], "failed to read /b/shop.dump: its table of contents is cut");
}

#[tokio::test(start_paused = true)]
async fn checks_of_a_backup_that_was_replaced_meanwhile_prove_nothing() {
    let mut fake = fake();
    let nothing = Table { columns: vec!["count".to_owned()], rows: vec![vec![Some("0".to_owned())]], total: 1 };
    fake.answers.insert("shop.orders".to_owned(), Answer::Rows(nothing));
    let mut drill = drill();
    drill.restore.jobs = Some(2);
    let fake_alone = run_on(&fake, &drill, &CancellationToken::new()).await;
    assert_eq!(fake_alone.judgement.verdict, Verdict::Failed, "{:?}", fake_alone.judgement.reasons);
    let seen = Some(FileSeen { inode: 8, ..file() });
    fake.outputs.insert("digest the backup".to_owned(), Output { seen, ..Output::default() });
    let replaced = run_on(&fake, &drill, &CancellationToken::new()).await;
    let verdicts: Vec<_> = replaced.judgement.reasons.iter().map(|it| (it.verdict, it.blame)).collect();
    assert!(verdicts.iter().all(|it| *it == (Verdict::Inconclusive, Some(Blame::Host))), "{verdicts:?}");
}

/// A drill that passed, as if it had been one to this time, with what the server says it did and what the WAL says.
async fn recovered(outcome: PhaseOutcome, in_time: bool) -> verdict::Judgement {
    let mut evidence = run_on(&fake(), &drill(), &CancellationToken::new()).await.evidence;
    let transaction = |xid: u32, second: &str| Transaction {
        xid,
        at: pgdrill::format::lsn::Lsn(u64::from(xid) << 8),
        end: pgdrill::format::lsn::Lsn((u64::from(xid) << 8) + 40),
        time: format!("2026-11-22T10:00:{second}Z").parse().unwrap(),
        committed: true,
    };
    let next = transaction(8, if in_time { "04" } else { "06" });
    let wal = WalSeen {
        segments: Some(("000000010000000000000001".to_owned(), "000000010000000000000001".to_owned())),
        last: Some(transaction(7, "03")),
        late: (!in_time).then(|| next.clone()),
        next: Some(next),
        ..WalSeen::default()
    };
    let stopped = Recovered {
        paused: true,
        replayed: Some("0/728".to_owned()),
        last_commit: Some("2026-11-22 10:00:03+00".to_owned()),
        log: vec!["recovery stopping before commit of transaction 8, time 2026-11-22 10:00:06+00".to_owned()],
        ..Recovered::default()
    };
    let point = Point::Time("2026-11-22T10:00:05Z".parse().unwrap());
    evidence.asked.as_mut().unwrap().target = Target { point, ..Target::default() };
    let output = &mut evidence.done[0].output;
    (output.recovered, output.wal) = (Some(stopped), Some(wal));
    let began = Duration::ZERO;
    evidence.phases.push(PhaseRecord { phase: Phase::Recover, began, elapsed: began, outcome });
    verdict::judge(&evidence)
}

#[tokio::test(start_paused = true)]
async fn a_recovery_that_the_wal_says_ended_before_its_target_is_no_pass() {
    let reached = recovered(PhaseOutcome::Completed, false).await;
    assert_eq!(reached.verdict, Verdict::Passed, "{:?}", reached.reasons);
    let before = recovered(PhaseOutcome::Completed, true).await;
    assert_eq!(before.verdict, Verdict::Inconclusive, "{:?}", before.target);
    let reason = &before.reasons[0];
    assert_eq!((&reason.about, reason.blame), (&About::Phase(Phase::Recover), Some(Blame::Harness)));
    assert!(reason.text.starts_with("recovery ended before time 2026-11-22 10:00:05"), "{}", reason.text);
    assert!(reason.causes.iter().any(|it| it.contains("it stopped before transaction 8")), "{:?}", reason.causes);
    // A phase that failed has said why itself.
    let failed = recovered(PhaseOutcome::Failed(Fault::new(Blame::Backup, "recover")), true).await;
    assert!(failed.reasons.iter().all(|it| it.blame != Some(Blame::Harness)), "{:?}", failed.reasons);
}
