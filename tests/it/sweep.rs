//! Sweeps of a real cluster: what is there at each stop is what a drill to the same target finds, and what the cluster itself
//! says of the time of each commit.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::OnceLock;

use pgdrill::check::Answer;
use pgdrill::evidence::Evidence;
use pgdrill::format::lsn::Lsn;
use pgdrill::format::wal::{PAGE, Reader};
use pgdrill::recipe::Stop;
use pgdrill::report::{CheckStatus, DrillReport, TargetOutcome};
use pgdrill::target::{Point, Target, postgres_time};

use crate::archive::changed;
use crate::lab::{ROWS, Server, owned_directory, run};
use crate::majors::major;
use crate::program::{Program, Ran};
use crate::signals::wait_for;

/// A cluster that is still there to be asked, its backup, and its archive.
struct Swept {
    server: Server,
}

impl Swept {
    fn path(&self, name: &str) -> String {
        self.server.directory().join(name).display().to_string()
    }

    /// Rows that were committed by then, as the cluster itself recorded.
    fn committed_by(&self, time: &str) -> String {
        self.server.sql(&format!("select count(*) from marks where pg_xact_commit_timestamp(xmin) <= '{time}'"))
    }
}

/// Everything that the tests compare: rows of both tables, and their contents.
const CONTENTS: &str = "select concat_ws('/', (select count(*) from marks), (select md5(string_agg(m::text, '' order by id)) from marks m), \
                        (select count(*) from noise), (select md5(string_agg(n::text, '' order by id)) from noise n))";
/// Bytes of a segment.
const SEGMENT: u64 = 1 << 20;
/// Commits between the backup and the end of the archive, of marks.
const MARKS: u32 = 120;

fn swept() -> &'static Swept {
    static SWEPT: OnceLock<Swept> = OnceLock::new();
    SWEPT.get_or_init(|| {
        // Small segments: stops lie in many, and at their very ends.
        let server = Server::start_with("sweep", &["--wal-segsize=1", "-k"]);
        let wal = server.directory().join("wal");
        owned_directory(&wal);
        server.sql(&format!("alter system set archive_command = 'cp %p {}/%f'", wal.display()));
        server.sql("alter system set archive_mode = on");
        server.sql("alter system set track_commit_timestamp = on");
        server.restart();
        server.sql("create table marks(id int primary key, filler text)");
        server.sql("create table noise(id int primary key, filler text)");
        let backup = server.directory().join("backup").display().to_string();
        server.run("pg_basebackup", &["-D", &backup, "-Ft", "-Xs", "--checkpoint=fast", "--no-sync"]);
        server.sql("create table backed_up as select pg_current_wal_lsn() redo");
        // A commit for each row, some of them rolled back, and records that cross pages and segments.
        server.sql(&format!(
            "do $$ begin for i in 1..{MARKS} loop
                insert into marks values (i, repeat('m', 10 * i)); commit;
                insert into noise select 1000 * i + g, repeat('n', 100 + i) from generate_series(1, 100) g; commit;
                delete from noise where id % 3 = i % 3 and id < 1000 * i; commit;
                insert into noise values (-i, repeat('r', 3000)); rollback;
            end loop; end $$"
        ));
        server.sql("select pg_create_restore_point('the end')");
        let last = server.sql("select pg_walfile_name(pg_switch_wal())");
        wait_for("the last segment to be archived", || wal.join(&last).exists().then_some(()));
        Swept { server }
    })
}

fn scenario(wal: &str, drills: &[(&str, &str)], checks: &str) -> String {
    scenario_of((&swept().path("backup"), wal), drills, checks)
}

fn scenario_of((path, wal): (&str, &str), drills: &[(&str, &str)], checks: &str) -> String {
    let mut text = "version: 1\ndefaults: { runtime: local }\ndrills:\n".to_owned();
    for (name, target) in drills {
        write!(
            text,
            "  - name: {name}\n    source: {{ base_backup: {{ path: {path}, wal: {wal} }} }}\n    {target}\n    checks:\n{checks}"
        )
        .unwrap();
    }
    text
}

fn contents() -> String {
    format!("      - query: {{ name: contents, sql: \"{CONTENTS}\", expect: not null }}\n")
}

fn evidence(program: &Program, drill: usize) -> Evidence {
    let text = std::fs::read_to_string(program.path("out/evidence.json")).unwrap();
    let mut file: serde_json::Value = serde_json::from_str(&text).unwrap();
    let drills = if file.is_array() { &mut file } else { &mut file["drills"] };
    serde_json::from_value(drills[drill].take()).unwrap()
}

/// What the first check was answered at each stop.
fn answers(evidence: &Evidence) -> Vec<String> {
    let row = |answer: &Answer| match answer {
        Answer::Rows(table) => table.rows[0][0].clone().unwrap(),
        Answer::Refused { .. } | Answer::Silent { .. } => panic!("{answer:?}"),
    };
    evidence.answers.iter().map(|it| row(&it[0].answers[0])).collect()
}

fn stops(evidence: &Evidence) -> Vec<Stop> {
    evidence.plan.as_ref().unwrap().sweep.clone()
}

/// As it is written in a scenario.
fn written(target: &Target) -> String {
    match &target.point {
        Point::Latest => "target: latest".to_owned(),
        Point::Immediate => "target: immediate".to_owned(),
        Point::Time(time) => {
            format!("target: {{ time: \"{}\", inclusive: {} }}", postgres_time(*time), target.inclusive)
        }
        Point::Lsn(lsn) => format!("target: {{ lsn: {lsn}, inclusive: {} }}", target.inclusive),
        Point::Xid(xid) => format!("target: {{ xid: {xid}, inclusive: {} }}", target.inclusive),
        Point::Name(name) => format!("target: {{ name: {name} }}"),
    }
}

fn all_reached(report: &DrillReport) {
    assert!(!report.stops.is_empty());
    for stop in &report.stops {
        assert_eq!(stop.outcome, Some(TargetOutcome::Reached), "{stop:?}");
    }
}

/// Sweeps by these targets, then drills to each of them alone, and compares what was there.
fn equals_single_drills(targets: &str) -> Vec<String> {
    equals_single_drills_of((&swept().path("backup"), &swept().path("wal")), targets)
}

/// Gives what was found at each stop.
fn equals_single_drills_of(backup: (&str, &str), targets: &str) -> Vec<String> {
    let program = Program::new();
    program.drill(&scenario_of(backup, &[("sweep", targets)], &contents()), &[]).expect(0);
    all_reached(&program.report().drills[0]);
    let swept = evidence(&program, 0);
    let (stops, found) = (stops(&swept), answers(&swept));
    assert_eq!(stops.len(), found.len());
    let named: Vec<(String, String)> =
        stops.iter().enumerate().map(|(at, it)| (format!("single-{at}"), written(&it.target))).collect();
    let named: Vec<(&str, &str)> = named.iter().map(|it| (it.0.as_str(), it.1.as_str())).collect();
    let alone = Program::new();
    alone.drill(&scenario_of(backup, &named, &contents()), &["--jobs", "2"]).expect(0);
    for (at, stop) in stops.iter().enumerate() {
        assert_eq!([found[at].clone()].as_slice(), answers(&evidence(&alone, at)), "{}", stop.target.words());
    }
    found
}

#[test]
fn stops_by_count_hold_what_drills_to_the_same_targets_hold() {
    let found = equals_single_drills("targets: { count: 7 }");
    let distinct: std::collections::BTreeSet<_> = found.iter().collect();
    assert!(distinct.len() > 5, "the stops differ: {found:?}");
}

#[test]
fn listed_targets_hold_what_drills_to_the_same_targets_hold() {
    let sql = |sql: &str| swept().server.sql(sql);
    let xid = sql("select xmin from marks where id = 40");
    let time = sql("select pg_xact_commit_timestamp(xmin) from marks where id = 80");
    // In the order of the WAL, whatever the order in the list.
    let list = format!(
        "targets: [ {{ time: \"{time}\" }}, {{ xid: {xid} }}, {{ time: \"{time}\", inclusive: false }}, \
         {{ xid: {xid}, inclusive: false }}, {{ name: the end }} ]"
    );
    assert_eq!(equals_single_drills(&list).len(), 5);
}

/// Records at the very beginning of a page or a segment: the one before them ended on another.
#[test]
fn cuts_at_the_ends_of_pages_and_segments_hold() {
    let start: u64 =
        u64::from_str_radix(&swept().server.sql("select redo from backed_up").replace('/', ""), 16).unwrap();
    let mut names: Vec<_> = std::fs::read_dir(swept().path("wal")).unwrap().map(|it| it.unwrap().path()).collect();
    names.retain(|it| it.file_name().is_some_and(|it| it.len() == 24));
    names.sort();
    let (mut reader, mut of_page, mut of_segment) = (Reader::new(SEGMENT), Vec::new(), Vec::new());
    for page in names
        .iter()
        .flat_map(|it| std::fs::read(it).unwrap().chunks_exact(PAGE).map(<[u8]>::to_vec).collect::<Vec<_>>())
    {
        let read = reader.every(page.as_slice().try_into().unwrap(), &mut |at, _, _| match at.0 {
            it if it <= start => {}
            it if it % SEGMENT == 40 => of_segment.push(at),
            it if it % PAGE as u64 == 24 => of_page.push(at),
            _ => {}
        });
        read.unwrap();
    }
    let (middle, last) = (of_page[of_page.len() / 2], of_segment.last().expect("the last segment was switched to"));
    let lsn = |at: Lsn, inclusive: bool| format!("{{ lsn: {at}, inclusive: {inclusive} }}");
    let targets = [lsn(middle, false), lsn(*last, false), lsn(middle, true), lsn(*last, true)].join(", ");
    assert_eq!(equals_single_drills(&format!("targets: [ {targets} ]")).len(), 4);
}

/// The segment in which a timeline was left is there twice, with the same beginning and different ends.
#[test]
fn a_sweep_follows_the_archive_into_a_new_timeline() {
    let first = Server::start_with("fork", &["--wal-segsize=1"]);
    let at = |path: &str| first.directory().join(path).display().to_string();
    owned_directory(&first.directory().join("wal"));
    first.sql(&format!("alter system set archive_command = 'cp %p {}/%f'", at("wal")));
    first.sql("alter system set archive_mode = on");
    first.restart();
    first.sql("create table marks(id int primary key, filler text)");
    first.sql("create table noise(id int primary key, filler text)");
    first.run("pg_basebackup", &["-D", &at("backup"), "-Ft", "-Xs", "--checkpoint=fast", "--no-sync"]);
    first.run("pg_basebackup", &["-D", &at("second"), "-Fp", "-Xs", "--checkpoint=fast", "--no-sync"]);
    let rows = |from: u32, to: u32| {
        format!(
            "do $$ begin for i in {from}..{to} loop insert into marks values (i, repeat('m', 2000)); commit; end loop; end $$"
        )
    };
    first.sql(&rows(1, 900));
    first.sql("select pg_create_restore_point('fork')");
    // What is lost by the fork, and archived all the same.
    first.sql(&rows(5000, 5400));
    let last = first.sql("select pg_walfile_name(pg_switch_wal())");
    wait_for("the last segment to be archived", || first.directory().join("wal").join(&last).exists().then_some(()));
    let settings = format!(
        "restore_command = 'cp {}/%f %p'\nrecovery_target_name = 'fork'\nrecovery_target_action = promote\n\
         unix_socket_directories = '{}'\nlisten_addresses = ''\n",
        at("wal"),
        at("second"),
    );
    let conf = first.directory().join("second/postgresql.auto.conf");
    std::fs::write(&conf, std::fs::read_to_string(&conf).unwrap() + &settings).unwrap();
    std::fs::write(first.directory().join("second/recovery.signal"), "").unwrap();
    run("pg_ctl", &["-D", &at("second"), "-l", &at("second.log"), "-w", "start"]);
    let second =
        |sql: &str| run("psql", &["-XqAt", "-h", &at("second"), "-U", "postgres", "-d", "postgres", "-c", sql]);
    wait_for("the second server to be promoted", || (second("select pg_is_in_recovery()") == "f").then_some(()));
    second(&rows(901, 1800));
    let last = second("select pg_walfile_name(pg_switch_wal())");
    wait_for("the last segment to be archived", || first.directory().join("wal").join(&last).exists().then_some(()));
    // The rows that were lost had some of these ids, too.
    let xid = |id: u32| second(&format!("select xmin from marks where id = {id}"));
    let targets = format!(
        "targets: [ immediate, {{ xid: {} }}, {{ xid: {} }}, {{ xid: {} }}, latest ]",
        xid(300),
        xid(901),
        xid(1200)
    );
    run("pg_ctl", &["-D", &at("second"), "-m", "fast", "-w", "stop"]);
    let found = equals_single_drills_of((&at("backup"), &at("wal")), &targets);
    let rows: Vec<&str> = found.iter().filter_map(|it| it.split('/').next()).collect();
    assert_eq!(rows, ["0", "300", "901", "1200", "1800"]);
}

/// The clock and random instants, against what the cluster itself says of each commit.
#[test]
fn stops_at_instants_hold_what_was_committed_by_then() {
    let lab = swept();
    let length = lab.server.sql(
        "select greatest(1, (extract(epoch from max(t) - min(t)) * 1000 / 8)::int) \
         from (select pg_xact_commit_timestamp(xmin) t from marks) it",
    );
    let program = Program::new();
    let drills = [
        ("every", format!("targets: {{ every: {length}ms }}")),
        ("random", "targets: { random: 10, seed: 7 }".to_owned()),
        ("again", "targets: { random: 10, seed: 7, timeline: current }".to_owned()),
    ];
    let drills: Vec<(&str, &str)> = drills.iter().map(|it| (it.0, it.1.as_str())).collect();
    program.drill(&scenario(&lab.path("wal"), &drills, &contents()), &[]).expect(0);
    let mut instants = 0;
    for (at, report) in program.report().drills.iter().enumerate() {
        all_reached(report);
        let evidence = evidence(&program, at);
        for (stop, found) in stops(&evidence).iter().zip(answers(&evidence)) {
            if let Point::Time(time) = stop.target.point {
                instants += 1;
                let rows = found.split('/').next().unwrap();
                assert_eq!(rows, lab.committed_by(&postgres_time(time)), "{time}");
            }
        }
    }
    assert!(instants > 24, "{instants}");
    let places = |drill| stops(&evidence(&program, drill)).iter().map(|it| it.place.at).collect::<Vec<_>>();
    assert_eq!(places(1), places(2), "the same seed, the same stops");
}

fn archive(program: &Program, change: impl FnOnce(&Path, &[String])) -> String {
    changed(&swept().path("wal"), program, change)
}

/// Outcomes of the stops, and of the check at each.
fn outcomes(report: &DrillReport) -> (Vec<Option<TargetOutcome>>, Vec<CheckStatus>) {
    let checks = report.checks.iter().filter(|it| it.name == "contents").map(|it| it.status);
    (report.stops.iter().map(|it| it.outcome).collect(), checks.collect())
}

/// What lies before it was reached and examined, what lies behind it was not, and the archive is to blame.
fn ends_in_the_middle(ran: &Ran, program: &Program) {
    let report = &program.report().drills[0];
    let (stops, checks) = outcomes(report);
    let reached = stops.iter().take_while(|it| **it == Some(TargetOutcome::Reached)).count();
    assert!(reached >= 2, "{stops:?}");
    assert_eq!(stops[reached], Some(TargetOutcome::EndedBefore), "{stops:?}");
    assert!(stops[reached + 1..].iter().all(Option::is_none), "{stops:?}");
    assert!(checks[..reached].iter().all(|it| *it == CheckStatus::Held), "{checks:?}");
    assert!(checks[reached..].iter().all(|it| *it == CheckStatus::Unknown), "{checks:?}");
    assert!(ran.folded().contains("fault: the backup"), "{}", ran.stdout);
}

#[test]
fn a_gap_ends_a_sweep_there_and_what_was_reached_before_is_reported() {
    let program = Program::new();
    let mut missing = String::new();
    let wal = archive(&program, |directory, names| {
        missing.clone_from(&names[names.len() * 2 / 3]);
        std::fs::remove_file(directory.join(&missing)).unwrap();
    });
    let ran = program.drill(&scenario(&wal, &[("gap", "targets: { count: 9 }")], &contents()), &[]).expect(1);
    ends_in_the_middle(&ran, &program);
    let text = ran.folded();
    assert!(text.contains(&format!("the WAL archive has a gap: it has no {missing}")), "{text}");
    assert!(text.contains("the server goes no further than"), "{text}");
}

#[test]
fn a_damaged_record_ends_a_sweep_there_and_is_named() {
    let program = Program::new();
    let mut damaged = String::new();
    let wal = archive(&program, |directory, names| {
        damaged.clone_from(&names[names.len() * 2 / 3]);
        let path = directory.join(&damaged);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[500_000] ^= 0x55;
        std::fs::write(path, bytes).unwrap();
    });
    let ran = program.drill(&scenario(&wal, &[("damaged", "targets: { count: 9 }")], &contents()), &[]).expect(1);
    ends_in_the_middle(&ran, &program);
    let text = ran.folded();
    assert!(text.contains(&format!("the WAL cannot be read everywhere: {damaged}, at ")), "{text}");
}

/// Each stop has its own verdict, and its own case in JUnit, whose names say nothing of times.
#[test]
fn a_check_is_judged_at_each_stop_and_one_that_writes_at_the_last_alone() {
    let program = Program::new();
    let checks = format!(
        "      - query: {{ name: few, sql: select count(*) from marks, expect: {{ \"<\": {} }} }}\n      \
         - query: {{ name: writes, sql: \"select nextval('s')\", expect: 1 }}\n      \
         - query: {{ name: an id, sql: \"select pg_current_xact_id()::text\", expect: not null }}\n",
        MARKS / 2
    );
    let text = scenario(&swept().path("wal"), &[("some", "targets: { count: 5 }")], &checks);
    let ran = program.drill(&text, &[]).expect(1);
    let report = &program.report().drills[0];
    all_reached(report);
    let of = |name: &str| report.checks.iter().filter(|it| it.name == name).map(|it| it.status).collect::<Vec<_>>();
    let few = of("few");
    assert_eq!((few[0], few[4]), (CheckStatus::Held, CheckStatus::Broken), "{few:?}");
    // The sequence is not there: a check that could be answered would be broken everywhere.
    assert_eq!(of("writes"), [CheckStatus::Broken; 5]);
    let mut an_id = [CheckStatus::NotApplicable; 5];
    an_id[4] = CheckStatus::Held;
    assert_eq!(of("an id"), an_id);
    assert!(ran.folded().contains("a check that writes is asked at the last one alone"), "{}", ran.stdout);
    let told_why = |stop: usize| {
        report.reasons.iter().any(|it| it.stop == Some(stop) && it.text.contains("expected less than 60, found"))
    };
    assert!(told_why(5) && !told_why(1), "{:?}", report.reasons);
    let junit = std::fs::read_to_string(program.path("out/junit.xml")).unwrap();
    for name in ["few (stop 5)", "an id (stop 1)", "target (stop 3)"] {
        assert!(junit.contains(&format!("name=\"{name}\"")), "{name}: {junit}");
    }
    let case = junit.split("<testcase").find(|it| it.contains("name=\"few (stop 5)\"")).unwrap();
    assert!(
        case.contains("at stop 5 of 5") && !case.contains("at stop 4 of 5"),
        "each case has its own reason: {case}"
    );
}

#[test]
fn the_loss_is_judged_at_the_end_of_the_archive_and_targets_outside_are_refused() {
    let wal = swept().path("wal");
    let program = Program::new();
    let more = "targets: { random: 2 }\n    objectives: { rpo: 10d }";
    let ran = program.drill(&scenario(&wal, &[("loss", more)], &contents()), &["--seed", "5"]).expect(0);
    assert!(ran.folded().contains("RPO met"), "{}", ran.stdout);
    for (target, because) in [
        ("{ time: \"2100-01-01 00:00:00+00\" }", "holds nothing behind it, or no such record"),
        ("{ lsn: 0/100028 }", "and this backup ends at"),
        ("{ name: nowhere }", "holds nothing behind it, or no such record"),
    ] {
        let program = Program::new();
        let targets = format!("targets: [ latest, {target} ]");
        let ran = program.drill(&scenario(&wal, &[("outside", &targets)], &contents()), &[]).expect(3);
        let text = ran.folded();
        assert!(text.contains(because) && text.contains("fault: the scenario"), "{text}");
        assert!(text.contains("not reached: provision"), "{text}");
    }
}

/// A lab of another major, in a container.
pub(crate) fn in_a_container(program: &Program, number: u32) {
    let made = major(number);
    let lab = made.get().unwrap();
    let targets = format!(
        "[ {{ name: before the deletion }}, {{ xid: {} }}, {{ time: \"{}\" }}, immediate, latest ]",
        lab.deletion, lab.time
    );
    let text = format!(
        "version: 1\ndrills:\n  - name: sweep\n    runtime: container\n    source: {{ base_backup: {{ path: {}, wal: {} }} }}\n    \
         targets: {targets}\n    checks:\n      - query: {{ name: rows, sql: select count(*) from t, expect: not null }}\n",
        lab.path("base/tar"),
        lab.path("wal"),
    );
    program.drill(&text, &[]).expect(0);
    all_reached(&program.report().drills[0]);
    let expected = [ROWS[0], ROWS[1], ROWS[1], ROWS[2], ROWS[3]];
    assert_eq!(answers(&evidence(program, 0)), expected.map(|it| it.to_string()), "{number}");
}

#[test]
fn a_standby_of_seventeen_walks_in_a_container() {
    in_a_container(&Program::new(), 17);
}

#[test]
#[ignore = "minutes: ci/full"]
fn a_standby_of_every_major_walks_in_a_container() {
    for number in [13, 15, 17, 18] {
        in_a_container(&Program::new(), number);
    }
}

#[test]
#[ignore = "minutes: ci/full"]
fn twenty_stops_by_count_and_at_random_hold_what_twenty_drills_hold() {
    equals_single_drills("targets: { count: 20 }");
    equals_single_drills("targets: { random: 20, seed: 11 }");
}
