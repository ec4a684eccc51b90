//! What a backup claims to bring back and what it holds; how much would be lost; what waivers cover. On the facts of real
//! dumps, with a scripted server.

use std::path::Path;
use std::time::Duration;

use pgdrill::check::{Answer, Expected, Finding, Kind, STAND_IN, Severity, Table};
use pgdrill::fault::{Blame, Fault};
use pgdrill::format::{DumpFacts, Selection};
use pgdrill::recipe::FileSeen;
use pgdrill::runtime::fake::Fake;
use pgdrill::scenario::{Drill, Scope, Waiver};
use pgdrill::source::{PgDumpall, Source};
use pgdrill::store::{Reading, dump_facts};
use pgdrill::verdict::{About, CheckJudged, Rpo, Verdict};
use tokio_util::sync::CancellationToken;

use crate::support::{Ran, drill, fake, file, root, rows_check, run_on};

/// What a committed dump says of itself. What it promises of its objects is judged elsewhere, on real servers.
fn facts_of(name: &str) -> DumpFacts {
    let path = root().join("fixtures/backups/scope").join(name);
    let mut facts = dump_facts(Path::new(&path), &Selection::default(), &Reading::default(), &mut |_| ()).unwrap();
    facts.contents.promised = None;
    facts
}

async fn run_dump(name: &str, drill: &Drill) -> Ran {
    let mut fake = fake();
    fake.dump = Ok(facts_of(name));
    run_on(&fake, drill, &CancellationToken::new()).await
}

fn scoped(scope: Scope) -> Drill {
    Drill { scope: Some(scope), ..drill() }
}

fn check<'a>(ran: &'a Ran, name: &str) -> Option<&'a CheckJudged> {
    ran.judgement.checks.iter().flatten().find(|it| it.name == name)
}

fn objects(ran: &Ran, name: &str) -> Vec<String> {
    check(ran, name).unwrap_or_else(|| panic!("no {name}: {:?}", ran.judgement)).objects.clone()
}

fn is_about(ran: &Ran, name: &str) -> bool {
    ran.judgement.reasons.iter().any(|it| it.about == About::Check(name.to_owned()))
}

#[tokio::test(start_paused = true)]
async fn a_whole_dump_of_one_database_passes_as_a_database() {
    for name in ["whole.dump", "whole.sql", "created.sql"] {
        let ran = run_dump(name, &drill()).await;
        assert_eq!(ran.judgement.verdict, Verdict::Passed, "{name}: {:?}", ran.judgement.reasons);
        let Some(data) = check(&ran, "scope: data") else { panic!("{name}: {:?}", ran.judgement.checks) };
        assert!(matches!(data.judged.finding, Finding::Held { .. }), "{name}: an empty table has its rows");
    }
}

#[tokio::test(start_paused = true)]
async fn rows_that_were_left_out_fail_a_database_unless_the_scenario_declares_them() {
    for name in ["without-audit.dump", "without-audit.sql"] {
        for (patterns, verdict) in [
            (vec![], Verdict::Failed),
            (vec!["audit.*"], Verdict::Passed),
            (vec!["entry"], Verdict::Passed),
            (vec!["shop.*"], Verdict::Failed),
        ] {
            let mut drill = drill();
            drill.restore.no_data = patterns.iter().map(|it| (*it).to_owned()).collect();
            let ran = run_dump(name, &drill).await;
            assert_eq!(ran.judgement.verdict, verdict, "{name}, {patterns:?}: {:?}", ran.judgement.reasons);
            if verdict == Verdict::Failed {
                assert_eq!(objects(&ran, "scope: data"), ["table audit.entry"], "{name}, {patterns:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_declared_omission_that_is_none_is_a_finding() {
    let mut drill = drill();
    drill.restore.no_data = vec!["audit.*".to_owned()];
    let ran = run_dump("whole.dump", &drill).await;
    assert_eq!(ran.judgement.verdict, Verdict::Passed);
    assert!(ran.judgement.findings.iter().any(|it| it.contains("no_data: audit.*")), "{:?}", ran.judgement.findings);
}

#[tokio::test(start_paused = true)]
async fn a_schema_only_dump_and_a_data_only_dump_are_no_database() {
    let ran = run_dump("schema-only.dump", &drill()).await;
    assert_eq!(ran.judgement.verdict, Verdict::Failed);
    assert!(ran.judgement.reasons[0].text.contains("schema-only"), "{:?}", ran.judgement.reasons);

    let ran = run_dump("data-only.dump", &drill()).await;
    assert!(is_about(&ran, "scope: definitions"), "{:?}", ran.judgement.reasons);
    let mut with_schema = drill();
    with_schema.restore.before = Some("/b/schema.sql".to_owned());
    let ran = run_dump("data-only.dump", &with_schema).await;
    assert!(!is_about(&ran, "scope: definitions"), "{:?}", ran.judgement.reasons);
}

#[tokio::test(start_paused = true)]
async fn objects_claim_nothing_that_they_do_not_hold() {
    for name in ["schema-only.dump", "without-audit.sql", "row-security.sql", "no-owners.sql"] {
        let ran = run_dump(name, &scoped(Scope::Objects)).await;
        assert_eq!(ran.judgement.verdict, Verdict::Passed, "{name}: {:?}", ran.judgement.reasons);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dump_of_one_table_is_taken_for_objects() {
    let ran = run_dump("one-table.dump", &drill_without_scope()).await;
    assert_eq!(ran.judgement.verdict, Verdict::Passed, "{:?}", ran.judgement.reasons);
    assert!(check(&ran, "scope: data").is_none());
    let ran = run_dump("whole.dump", &drill_without_scope()).await;
    assert!(check(&ran, "scope: data").is_some(), "a whole dump is a database");
}

fn drill_without_scope() -> Drill {
    Drill { scope: None, ..drill() }
}

#[tokio::test(start_paused = true)]
async fn a_text_filtered_by_row_security_fails_and_an_archive_with_policies_is_a_finding() {
    let ran = run_dump("row-security.sql", &drill()).await;
    assert_eq!(ran.judgement.verdict, Verdict::Failed);
    assert!(is_about(&ran, "scope: row security"), "{:?}", ran.judgement.reasons);

    let ran = run_dump("row-security.dump", &drill()).await;
    assert_eq!(ran.judgement.verdict, Verdict::Passed, "{:?}", ran.judgement.reasons);
    assert!(
        ran.judgement.findings.iter().any(|it| it.contains("--enable-row-security")),
        "{:?}",
        ran.judgement.findings
    );
}

#[tokio::test(start_paused = true)]
async fn a_dump_without_owners_is_a_finding_for_a_database_and_a_failure_for_a_cluster() {
    let ran = run_dump("no-owners.sql", &drill()).await;
    assert_eq!(ran.judgement.verdict, Verdict::Passed, "{:?}", ran.judgement.reasons);
    let findings = ran.judgement.findings.join("\n");
    assert!(findings.contains("made with -O") && findings.contains("made with -x"), "{findings}");
    assert!(findings.contains("without -C"), "{findings}");

    let ran = run_dump("no-owners.sql", &scoped(Scope::Cluster)).await;
    let missing = objects(&ran, "scope: cluster").join("\n");
    assert!(missing.contains("made with -O") && missing.contains("without -C"), "{missing}");
}

#[tokio::test(start_paused = true)]
async fn a_dump_without_globals_is_no_cluster_and_stand_ins_do_not_mend_that() {
    let ran = run_dump("whole.dump", &scoped(Scope::Cluster)).await;
    assert_eq!(ran.judgement.verdict, Verdict::Failed);
    let missing = objects(&ran, "scope: cluster");
    assert!(missing[0].starts_with("globals"), "{missing:?}");
    assert!(missing.contains(&"role shop_owner".to_owned()), "{missing:?}");
    assert!(ran.evidence.plan.unwrap().notes.iter().any(|it| it.text.contains("shop_owner")), "they were made up");
}

/// A pg_dumpall, for which these databases are expected.
fn cluster_drill(databases: &[&str]) -> Drill {
    let location = drill().source.location().clone();
    let mut drill = Drill { source: Source::PgDumpall(PgDumpall { location }), scope: None, ..drill() };
    let names = databases.iter().map(|it| (*it).to_owned()).collect();
    let expected = Kind::Expected(Expected::Databases(names));
    drill.checks = vec![rows_check("orders", Severity::Major)];
    if !databases.is_empty() {
        let check = rows_check("expect: databases", Severity::Critical);
        drill.checks.push(pgdrill::check::Check { kind: expected, ..check });
    }
    drill
}

fn databases(names: &[&str]) -> Answer {
    let row = |name: &&str| {
        ["true", "-1"].iter().fold(vec![Some((*name).to_owned())], |mut row, it| {
            row.push(Some((*it).to_owned()));
            row
        })
    };
    let rows: Vec<Vec<Option<String>>> = names.iter().map(row).collect();
    Answer::Rows(Table { columns: Vec::new(), total: rows.len() as u64, rows })
}

async fn run_cluster(drill: &Drill) -> Ran {
    let mut fake = fake();
    fake.dump = Ok(facts_of("cluster.sql"));
    fake.answers.insert("pg_catalog.pg_database".to_owned(), databases(&["postgres", "shop"]));
    run_on(&fake, drill, &CancellationToken::new()).await
}

#[tokio::test(start_paused = true)]
async fn pg_dumpall_leaves_out_closed_databases_in_silence_and_a_cluster_that_expects_one_fails() {
    let ran = run_cluster(&cluster_drill(&["shop"])).await;
    assert_eq!(ran.judgement.verdict, Verdict::Passed, "{:?}", ran.judgement.reasons);

    let ran = run_cluster(&cluster_drill(&["shop", "closed"])).await;
    assert_eq!(ran.judgement.verdict, Verdict::Failed);
    assert_eq!(objects(&ran, "scope: cluster"), ["database closed"], "by the dump");
    assert_eq!(objects(&ran, "expect: databases"), ["database closed"], "and by the server");

    let ran = run_cluster(&cluster_drill(&[])).await;
    assert_eq!(ran.judgement.verdict, Verdict::Passed, "{:?}", ran.judgement.reasons);
    assert!(ran.judgement.findings.iter().any(|it| it.contains("expect:")), "{:?}", ran.judgement.findings);
}

#[tokio::test(start_paused = true)]
async fn an_expected_role_that_only_a_stand_in_fills_is_missing() {
    let mut drill = drill();
    let kind = Kind::Expected(Expected::Roles(["shop_app".to_owned()].into()));
    drill.checks.push(pgdrill::check::Check { kind, ..rows_check("expect: roles", Severity::Critical) });
    for (comment, verdict) in [(STAND_IN, Verdict::Failed), ("", Verdict::Passed)] {
        let mut fake = fake();
        let rows = vec![vec![Some("shop_app".to_owned()), Some(comment.to_owned())]];
        fake.answers.insert("pg_roles".to_owned(), Answer::Rows(Table { columns: Vec::new(), rows, total: 1 }));
        let ran = run_on(&fake, &drill, &CancellationToken::new()).await;
        assert_eq!(ran.judgement.verdict, verdict, "{comment}: {:?}", ran.judgement.reasons);
    }
}

fn waiver(check: &str, object: Option<&str>, until: &str) -> Waiver {
    let object = object.map(str::to_owned);
    Waiver { check: check.to_owned(), object, reason: "ticket 4711".to_owned(), until: until.parse().unwrap() }
}

#[tokio::test(start_paused = true)]
async fn a_waiver_covers_the_objects_that_it_names_and_no_others() {
    for (waivers, verdict) in [
        (vec![waiver("scope: data", Some("audit.entry"), "2026-12-31")], Verdict::Passed),
        (vec![waiver("scope: data", Some("table audit.entry"), "2026-12-31")], Verdict::Passed),
        (vec![waiver("scope: data", None, "2026-12-31")], Verdict::Passed),
        (vec![waiver("scope: data", Some("entry"), "2026-12-31")], Verdict::Failed),
        (vec![waiver("scope: data", Some("shop.orders"), "2026-12-31")], Verdict::Failed),
        (vec![waiver("scope: data", Some("audit.entry"), "2026-11-21")], Verdict::Failed),
    ] {
        let ran = run_dump("without-audit.dump", &Drill { waivers: waivers.clone(), ..drill() }).await;
        assert_eq!(ran.judgement.verdict, verdict, "{waivers:?}: {:?}", ran.judgement.reasons);
        let said = ran.judgement.findings.join("\n");
        let expired = waivers[0].until < "2026-11-22".parse().unwrap();
        assert_eq!(said.contains("ended on 2026-11-21"), expired, "{said}");
        assert_eq!(said.contains("closes no period"), verdict == Verdict::Passed, "a critical check: {said}");
    }
}

#[tokio::test(start_paused = true)]
async fn several_waivers_cover_several_objects_together() {
    let one = waiver("scope: data", Some("shop.orders"), "2026-12-31");
    let ran = run_dump("schema-only.dump", &Drill { waivers: vec![one.clone()], ..drill() }).await;
    assert_eq!(ran.judgement.verdict, Verdict::Failed, "the others are not waived");
    let objects = objects(&ran, "scope: data");
    assert!(objects.len() > 2, "{objects:?}");
    let all = objects.iter().map(|it| waiver("scope: data", Some(it), "2026-12-31")).collect();
    let ran = run_dump("schema-only.dump", &Drill { waivers: all, ..drill() }).await;
    assert_eq!(ran.judgement.verdict, Verdict::Passed, "{:?}", ran.judgement.reasons);
}

/// Dumps made at these times; the incident is 2026-11-22 12:00 UTC, the start of the drill.
fn dumps(times: &[&str]) -> Fake {
    let mut fake = fake();
    fake.files.clear();
    for time in times {
        let path = format!("/b/shop-{}.dump", time.replace([' ', ':'], "-"));
        fake.files.push(FileSeen { path: path.clone(), ..file() });
        fake.created.insert(path, Some((*time).to_owned()));
    }
    let newest = times.iter().max().map(|it| (*it).to_owned());
    if let Ok(facts) = &mut fake.dump {
        facts.created = newest;
    }
    fake
}

async fn rpo(fake: &Fake, hours: u64, zone: Option<&str>) -> Ran {
    let mut drill = drill();
    drill.objectives.rpo = Some(Duration::from_secs(hours * 3600));
    drill.source.location_mut().timezone = zone.map(str::to_owned);
    run_on(fake, &drill, &CancellationToken::new()).await
}

const DAILY: [&str; 4] = ["2026-11-19 03:00:00", "2026-11-20 03:00:00", "2026-11-21 03:00:00", "2026-11-22 03:00:00"];

fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours * 3600)
}

#[tokio::test(start_paused = true)]
async fn daily_dumps_meet_a_day_and_miss_half_a_day_and_the_formula_has_the_numbers() {
    let ran = rpo(&dumps(&DAILY), 24, Some("UTC")).await;
    assert_eq!(ran.judgement.verdict, Verdict::Passed, "{:?}", ran.judgement.reasons);
    let judged = ran.judgement.rpo.unwrap();
    assert_eq!((judged.outcome, judged.min, judged.max), (Rpo::Met, Some(hours(24)), Some(hours(24))));
    for part in ["2026-11-22T12:00:00Z", "9h", "24h", "shop-2026-11-22-03-00-00.dump"] {
        assert!(judged.formula.contains(part), "{part}: {}", judged.formula);
    }
    let ran = rpo(&dumps(&DAILY), 12, Some("UTC")).await;
    assert_eq!(ran.judgement.verdict, Verdict::Failed);
    assert_eq!(
        ran.judgement.rpo.unwrap().outcome,
        Rpo::Missed,
        "the worst case is a day, though the last dump is young"
    );
}

#[tokio::test(start_paused = true)]
async fn a_night_without_a_dump_is_a_gap_within_the_window_only() {
    let missed = [
        "2026-11-17 03:00:00",
        "2026-11-19 03:00:00",
        "2026-11-20 03:00:00",
        "2026-11-21 03:00:00",
        "2026-11-22 03:00:00",
    ];
    let fake = dumps(&missed);
    let ran = rpo(&fake, 24, Some("UTC")).await;
    assert_eq!(ran.judgement.rpo.unwrap().outcome, Rpo::Missed);
    let mut drill = drill();
    drill.objectives.rpo = Some(hours(24));
    drill.objectives.rpo_window = Some(hours(48));
    drill.source.location_mut().timezone = Some("UTC".to_owned());
    let ran = run_on(&fake, &drill, &CancellationToken::new()).await;
    assert_eq!(ran.judgement.rpo.unwrap().outcome, Rpo::Met, "retention thins what is older");
}

#[tokio::test(start_paused = true)]
async fn dates_without_a_zone_prove_neither_where_their_readings_differ() {
    // 12:00 UTC less 03:00 in any zone: from nothing to 23 hours.
    let ran = rpo(&dumps(&DAILY), 24, None).await;
    let judged = ran.judgement.rpo.unwrap();
    assert_eq!((judged.outcome, judged.min, judged.max), (Rpo::Unknown, Some(hours(23)), Some(hours(25))));
    assert_eq!(ran.judgement.verdict, Verdict::Inconclusive);
    assert!(ran.judgement.reasons[0].hint.as_ref().unwrap().contains("timezone"));
    assert_eq!(rpo(&dumps(&DAILY), 25, None).await.judgement.rpo.unwrap().outcome, Rpo::Met);
    assert_eq!(rpo(&dumps(&DAILY), 22, None).await.judgement.rpo.unwrap().outcome, Rpo::Missed);
}

#[tokio::test(start_paused = true)]
async fn one_dump_shows_no_interval_and_a_dump_without_a_date_is_dated_by_nothing() {
    let ran = rpo(&dumps(&["2026-11-22 03:00:00"]), 24, Some("UTC")).await;
    assert_eq!(ran.judgement.rpo.unwrap().outcome, Rpo::Unknown);
    let ran = rpo(&dumps(&["2026-11-20 03:00:00"]), 24, Some("UTC")).await;
    assert_eq!(ran.judgement.rpo.unwrap().outcome, Rpo::Missed, "it is too old whatever came before it");

    let mut fake = dumps(&DAILY);
    fake.created.values_mut().for_each(|it| *it = None);
    if let Ok(facts) = &mut fake.dump {
        facts.created = None;
    }
    let ran = rpo(&fake, 24, Some("UTC")).await;
    let judged = ran.judgement.rpo.unwrap();
    assert_eq!((judged.outcome, judged.min, judged.max), (Rpo::Unknown, None, None));
}

#[tokio::test(start_paused = true)]
async fn an_undated_dump_may_lie_in_the_gap_so_nothing_is_missed_for_certain() {
    let mut fake = dumps(&["2026-11-17 03:00:00", "2026-11-19 03:00:00", "2026-11-22 03:00:00"]);
    let path = "/b/shop-2026-11-19-03-00-00.dump".to_owned();
    fake.created.insert(path, None);
    let ran = rpo(&fake, 24, Some("UTC")).await;
    assert_eq!(ran.judgement.rpo.unwrap().outcome, Rpo::Unknown);
}

#[tokio::test(start_paused = true)]
async fn a_declared_incident_counts_only_the_dumps_before_it() {
    let mut drill = drill();
    drill.objectives.rpo = Some(hours(24));
    drill.objectives.incident = Some("2026-11-21T02:00:00Z".parse().unwrap());
    drill.source.location_mut().timezone = Some("UTC".to_owned());
    let ran = run_on(&dumps(&DAILY), &drill, &CancellationToken::new()).await;
    let judged = ran.judgement.rpo.unwrap();
    assert_eq!((judged.outcome, judged.max), (Rpo::Met, Some(hours(24))), "{}", judged.formula);
    assert!(judged.formula.contains("= 23h"), "{}", judged.formula);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_header_is_no_usable_dump() {
    let mut fake = dumps(&DAILY);
    fake.unreadable.insert(
        "/b/shop-2026-11-21-03-00-00.dump".to_owned(),
        Fault::new(Blame::Backup, "read the dump").cause("it is cut"),
    );
    let ran = rpo(&fake, 24, Some("UTC")).await;
    let judged = ran.judgement.rpo.unwrap();
    assert_eq!((judged.outcome, judged.min), (Rpo::Missed, Some(hours(48))), "{}", judged.formula);
}

#[test]
fn headers_of_real_dumps_give_their_dates_without_their_data() {
    let path = |name: &str| root().join("fixtures/backups").join(name).display().to_string();
    let dated = ["scope/whole.dump", "pg17/shop.dir", "pg17/shop.tar.gz", "pg15/shop.tar"];
    let undated = ["scope/whole.sql", "pg17/shop.sql.zst"];
    let paths: Vec<String> = dated.iter().chain(&undated).map(|it| path(it)).collect();
    let seen = pgdrill::store::headers(&paths, &Reading::default());
    for (at, seen) in seen.iter().enumerate() {
        assert_eq!(seen.unreadable, None, "{}", seen.path);
        assert_eq!(seen.created.is_some(), at < dated.len(), "{}", seen.path);
    }
    let html = pgdrill::store::headers(&[path("found/html.dump")], &Reading::default());
    assert_eq!(html[0].unreadable.as_ref().map(|it| it.blame), Some(Blame::Backup));
}
