//! Made-up evidence and judgements, to look at what reports make of them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Drilled, EvidenceFile, Report, RunInfo};
use crate::check::{Check, Expect, Finding, Judged, Kind, Population, Query, Severity};
use crate::evidence::{Done, Evidence, Guarantee, Held, PhaseOutcome, PhaseRecord, SCHEMA, ServerLog, Start};
use crate::fault::{Blame, Fault};
use crate::format::{ArchiveVersion, Compression, Contents, DumpFacts, DumpFormat, Selection};
use crate::phase::Phase;
use crate::plan::{Backup, Limits, Note, NoteKind, PassedOver, Plan, SandboxSpec};
use crate::recipe::{
    Action, Command, FileSeen, HostFacts, ImageFacts, Learnt, Output, Place, Question, Recipe, RoomUser, RuntimeChoice,
    RuntimeKind, ServerFacts, StatementError, Step, Survey, Tolerance,
};
use crate::scenario::{Drill, Keep, Objectives, Postgres, Rto as RtoAsked, Scope};
use crate::source::{Durability, Location, PgDump, Pick, Restore, Source};
use crate::target::Target;
use crate::verdict::{About, CheckJudged, Judgement, Reason, Rto, RtoJudged, Verdict};

/// Stands in the environment of a command of the evidence; must be in no report.
pub(super) const SECRET: &str = "hunter2";

const PATH: &str = "/backups/shop-2026-11-22.dump";

/// A drill to be changed by each story, and then judged as the story says.
pub(super) struct Story {
    pub(super) evidence: Evidence,
    pub(super) judgement: Judgement,
}

pub(super) fn run() -> RunInfo {
    RunInfo {
        run: "0193a5e2-7c00-7000-8000-000000000001".to_owned(),
        pgdrill: "0.1.0".to_owned(),
        started: "2026-11-23T02:00:00Z".parse().unwrap(),
    }
}

pub(super) fn report(stories: Vec<Story>) -> Report {
    let drilled = |story: Story| {
        // As in a real run: what is reported was written and read back.
        let text = serde_json::to_string(&story.evidence).unwrap();
        let evidence = serde_json::from_str(&text).unwrap();
        let name = story.evidence.asked.as_ref().map_or("unknown", |it| it.name.as_str());
        let file = EvidenceFile { path: format!("{name}/evidence.json"), sha256: "e5".repeat(32) };
        Drilled { evidence, judgement: story.judgement, file }
    };
    Report::new(run(), stories.into_iter().map(drilled).collect())
}

/// Every made-up report, with its name.
pub(super) fn all() -> Vec<(&'static str, Report)> {
    vec![
        ("passed", passed()),
        ("failed_check", failed_check()),
        ("failed_restore", failed_restore()),
        ("inconclusive_host", inconclusive_host()),
        ("rto_missed", rto_missed()),
        ("cancelled", cancelled()),
        ("killed", killed()),
        ("nothing_known", nothing_known()),
        ("no_drills", report(Vec::new())),
    ]
}

pub(super) fn passed() -> Report {
    report(vec![shop_nightly()])
}

/// One critical check broken, one unknown, one minor broken, one waived.
pub(super) fn failed_check() -> Report {
    let mut story = shop_nightly();
    let checks = &mut story.judgement.checks[0];
    checks[0].judged.finding =
        Finding::Broken { expected: "no rows".to_owned(), observed: "3 rows, the first: (1041, NULL)".to_owned() };
    checks[1].judged =
        Judged { finding: Finding::Unknown { because: "shop.payments has no rows".to_owned() }, population: rows(0) };
    checks[2].judged.finding = Finding::Broken { expected: "at most 3".to_owned(), observed: "5".to_owned() };
    checks[3].judged.finding = Finding::Broken { expected: "true".to_owned(), observed: "false".to_owned() };
    checks[3].waived = Some("ticket 4711, until 2027-01-31".to_owned());
    story.judgement.verdict = Verdict::Failed;
    story.judgement.findings.push("minor check broken: few stale carts".to_owned());
    story.judgement.reasons = vec![
        reason(
            Verdict::Failed,
            About::Check("no orphaned lines".to_owned()),
            None,
            "expected no rows, observed 3 rows",
        ),
        reason(
            Verdict::Inconclusive,
            About::Check("payments add up".to_owned()),
            None,
            "examined nothing: shop.payments has no rows",
        ),
    ];
    report(vec![story])
}

/// The restore went on after two errors, of which one is a lost table.
pub(super) fn failed_restore() -> Report {
    let mut story = shop_nightly();
    let restore = story.evidence.done.iter_mut().find(|it| it.step.phase == Phase::Restore).unwrap();
    restore.output.status = 1;
    restore.output.stderr =
        "pg_restore: error: could not execute query: ERROR:  invalid byte sequence for encoding \"UTF8\": 0x00\n\
         pg_restore: warning: errors ignored on restore: 2\n"
            .to_owned();
    restore.output.errors = vec![
        StatementError {
            sqlstate: Some("22021".to_owned()),
            message: "invalid byte sequence for encoding \"UTF8\": 0x00".to_owned(),
            line: None,
            statement: Some("COPY shop.orders (id, customer, placed) FROM stdin".to_owned()),
            entry: Some("TABLE DATA orders shop_owner".to_owned()),
            row: None,
        },
        StatementError {
            sqlstate: Some("23503".to_owned()),
            message: "insert or update on table \"lines\" violates foreign key constraint \"lines_order_fkey\""
                .to_owned(),
            line: None,
            statement: None,
            entry: Some("FK CONSTRAINT lines lines_order_fkey shop_owner".to_owned()),
            row: None,
        },
    ];
    restore.output.errors_total = 2;
    story.evidence.log = Some(ServerLog {
        first_error: Some("ERROR:  invalid byte sequence for encoding \"UTF8\": 0x00".to_owned()),
        path: Some("shop-nightly/server.log".to_owned()),
    });
    story.judgement.verdict = Verdict::Failed;
    story.judgement.reasons = vec![Reason {
        stop: None,
        verdict: Verdict::Failed,
        about: About::Phase(Phase::Restore),
        blame: Some(Blame::Backup),
        text: "2 errors of the restore are not allowed: not all of the backup came back".to_owned(),
        causes: vec!["22021: invalid byte sequence for encoding \"UTF8\": 0x00".to_owned()],
        hint: Some(
            "restore this dump by hand to see the errors again; if they are known and harmless, name them under \
             restore.allow_errors"
                .to_owned(),
        ),
    }];
    report(vec![story])
}

/// The image could not be had: nothing was made.
pub(super) fn inconclusive_host() -> Report {
    let mut story = shop_nightly();
    story.evidence.plan = None;
    let fault = Fault::new(Blame::Host, "find a PostgreSQL 17 to restore into")
        .cause("no container engine answers at /var/run/docker.sock: connection refused")
        .cause("no PostgreSQL 17 under /usr/lib/postgresql")
        .hint("start Docker or Podman, or install postgresql-17; `pgdrill doctor` shows what was found");
    story.evidence.survey.0.retain(|(_, learnt)| !matches!(learnt, Learnt::Server(_)));
    let server = Question::Server { runtime: RuntimeChoice::Auto, major: 17, image: None, trusted: false };
    story.evidence.survey.0.push((server, Learnt::NoServer { reasons: vec![fault.clone()] }));
    story.evidence.done.clear();
    story.evidence.guarantees.clear();
    story.evidence.phases.truncate(2);
    story.evidence.phases[1].outcome = PhaseOutcome::Failed(fault.clone());
    story.evidence.phases.push(record(Phase::Teardown, 520, 8));
    story.evidence.log = None;
    not_asked(&mut story, "no server was made");
    story.judgement.rto.as_mut().unwrap().outcome = Rto::NotReached;
    story.judgement.verdict = Verdict::Inconclusive;
    story.judgement.reasons = vec![Reason {
        stop: None,
        verdict: Verdict::Inconclusive,
        about: About::Phase(Phase::Inspect),
        blame: Some(Blame::Host),
        text: fault.line(),
        causes: fault.causes.clone(),
        hint: fault.hint.clone(),
    }];
    report(vec![story])
}

pub(super) fn rto_missed() -> Report {
    let mut story = shop_nightly();
    for record in &mut story.evidence.phases {
        if record.phase == Phase::Restore {
            record.elapsed = Duration::from_secs(2_105);
        } else if record.phase > Phase::Restore {
            record.began += Duration::from_secs(2_064);
        }
    }
    let (elapsed, by) = (Duration::from_secs(2_107), Duration::from_secs(907));
    story.judgement.rto.as_mut().unwrap().outcome = Rto::Missed { elapsed, by };
    story.judgement.verdict = Verdict::Failed;
    story.judgement.reasons = vec![Reason {
        stop: None,
        hint: Some("raise restore.jobs, give the server more maintenance_work_mem, or change the objective".to_owned()),
        ..reason(Verdict::Failed, About::Rto, None, "the RTO of 30 min was missed by 15 min 07 s")
    }];
    report(vec![story])
}

/// A signal came while the restore was running.
pub(super) fn cancelled() -> Report {
    let mut story = shop_nightly();
    story.evidence.phases.truncate(5);
    let restore = story.evidence.phases.last_mut().unwrap();
    restore.phase = Phase::Restore;
    restore.outcome = PhaseOutcome::Cancelled { last_seen: "restore the archive: 12 MB of 48 MB".to_owned() };
    story.evidence.phases.push(record(Phase::Teardown, 44_000, 1_200));
    story.evidence.done.truncate(1);
    story.evidence.remnants = vec!["container pgdrill-0193a5e2-shop-nightly".to_owned()];
    not_asked(&mut story, "the drill was cancelled before");
    story.judgement.rto.as_mut().unwrap().outcome = Rto::NotReached;
    story.judgement.verdict = Verdict::Inconclusive;
    story.judgement.reasons = vec![
        reason(Verdict::Inconclusive, About::Phase(Phase::Restore), None, "cancelled by a signal"),
        reason(Verdict::Inconclusive, About::Drill, Some(Blame::Host), "1 thing that was made could not be removed"),
    ];
    report(vec![story])
}

/// The log ends in the middle of a restore.
pub(super) fn killed() -> Report {
    let mut story = shop_nightly();
    story.evidence.phases.truncate(3);
    story.evidence.unfinished = Some(Phase::Restore);
    story.evidence.done.clear();
    story.evidence.log = None;
    not_asked(&mut story, "the record ends before");
    story.judgement.rto.as_mut().unwrap().outcome = Rto::NotReached;
    story.judgement.verdict = Verdict::Inconclusive;
    story.judgement.reasons =
        vec![reason(Verdict::Inconclusive, About::Phase(Phase::Restore), None, "the record ends in the middle of it")];
    report(vec![story])
}

/// An empty event log.
pub(super) fn nothing_known() -> Report {
    let judgement = Judgement {
        verdict: Verdict::Inconclusive,
        reasons: vec![reason(Verdict::Inconclusive, About::Drill, None, "the evidence is empty")],
        rto: None,
        rpo: None,
        target: None,
        stops: Vec::new(),
        checks: Vec::new(),
        findings: Vec::new(),
    };
    report(vec![Story { evidence: Evidence::default(), judgement }])
}

/// Names and messages with everything in them that breaks files and terminals.
pub(super) fn hostile() -> Report {
    const NASTY: &str = "a\0b\u{1b}[31mred\u{1b}[0m ]]> <&\"'> \u{fffe}\u{ffff} 🐘 \u{202e}evil\r\nnext\u{7}";
    let mut story = shop_nightly();
    let drill = story.evidence.asked.as_mut().unwrap();
    drill.name = NASTY.to_owned();
    drill.file = NASTY.to_owned();
    // Differ only in what cleaning takes away.
    for (index, name) in [NASTY.to_owned(), format!("{NASTY}\u{1b}[0m"), "x".repeat(300_000)].into_iter().enumerate() {
        drill.checks[index].name.clone_from(&name);
        story.judgement.checks[0][index].name = name;
    }
    story.judgement.checks[0][0].judged.finding =
        Finding::Broken { expected: NASTY.to_owned(), observed: NASTY.repeat(20_000) };
    story.evidence.done[1].output =
        Output { status: 3, stderr: NASTY.repeat(20_000), ..story.evidence.done[1].output.clone() };
    story.judgement.verdict = Verdict::Failed;
    story.judgement.reasons = vec![Reason {
        stop: None,
        causes: vec![NASTY.to_owned()],
        hint: Some(NASTY.to_owned()),
        ..reason(Verdict::Failed, About::Check(NASTY.to_owned()), Some(Blame::Backup), &NASTY.repeat(20_000))
    }];
    report(vec![story])
}

fn not_asked(story: &mut Story, because: &str) {
    for check in &mut story.judgement.checks[0] {
        check.judged =
            Judged { finding: Finding::Unknown { because: because.to_owned() }, population: Population::default() };
        check.elapsed = Duration::ZERO;
    }
}

pub(super) fn reason(verdict: Verdict, about: About, blame: Option<Blame>, text: &str) -> Reason {
    Reason { verdict, about, stop: None, blame, text: text.to_owned(), causes: Vec::new(), hint: None }
}

/// A drill that passed: a custom dump into a container.
pub(super) fn shop_nightly() -> Story {
    let drill = drill();
    let checks = drill.checks.iter().map(|it| CheckJudged {
        name: it.name.clone(),
        severity: it.severity,
        judged: Judged { finding: Finding::Held { observed: "as expected".to_owned() }, population: rows(1200) },
        elapsed: Duration::from_millis(34),
        waived: None,
        read_only: false,
        objects: Vec::new(),
    });
    let judgement = Judgement {
        verdict: Verdict::Passed,
        reasons: Vec::new(),
        rto: Some(RtoJudged {
            limit: Duration::from_secs(1800),
            overhead: Duration::from_secs(600),
            first: Phase::Provision,
            last: Phase::Ready,
            outcome: Rto::Met { elapsed: Duration::from_millis(43_400) },
        }),
        rpo: None,
        target: None,
        stops: Vec::new(),
        checks: vec![checks.collect()],
        findings: Vec::new(),
    };
    Story { evidence: evidence(drill), judgement }
}

fn rows(examined: u64) -> Population {
    Population { examined, of: "rows".to_owned() }
}

fn drill() -> Drill {
    Drill {
        name: "shop-nightly".to_owned(),
        tags: vec!["quarterly".to_owned()],
        file: "scenarios/shop.yaml".to_owned(),
        line: Some(4),
        runtime: RuntimeChoice::Auto,
        copies: None,
        source: Source::PgDump(PgDump {
            tool: crate::source::DumpTool::PgDump,
            location: Location {
                path: "/backups/shop-*.dump".to_owned(),
                pick: Pick::Newest,
                timezone: None,
                trusted: false,
                key: None,
                store: None,
            },
            globals: None,
        }),
        scope: Some(Scope::Database),
        target: Target::default(),
        sweep: None,
        restore: Restore { allow_errors: vec!["42710".to_owned()], ..Restore::default() },
        postgres: Postgres::default(),
        objectives: Objectives {
            rto: Some(RtoAsked {
                limit: Duration::from_secs(1800),
                overhead: Duration::from_secs(600),
                span: Phase::Provision..=Phase::Ready,
            }),
            rpo: None,
            heartbeat: None,
            rpo_window: None,
            incident: None,
            copies: None,
            max_age: Some(Duration::from_secs(26 * 3600)),
        },
        budgets: BTreeMap::new(),
        durability: Durability::Representative,
        keep: Keep::Never,
        ready: None,
        checks: vec![
            check(
                "no orphaned lines",
                Severity::Critical,
                20,
                "select line, orders from shop.lines where orders is null",
            ),
            check("payments add up", Severity::Major, 25, "select sum(amount) = 0 from shop.payments"),
            check("few stale carts", Severity::Minor, 30, "select count(*) from shop.carts where age > 90"),
            check("every customer has a name", Severity::Major, 34, "select bool_and(name <> '') from shop.customers"),
            check("rows in shop.orders", Severity::Major, 38, "select count(*) from shop.orders"),
        ],
        waivers: Vec::new(),
    }
}

fn check(name: &str, severity: Severity, line: u32, sql: &str) -> Check {
    Check {
        name: name.to_owned(),
        severity,
        database: None,
        role: None,
        timeout: Duration::from_secs(60),
        kind: Kind::Query(Query { sql: sql.to_owned(), expect: Expect::Empty }),
        line: Some(line),
    }
}

fn record(phase: Phase, began: u64, elapsed: u64) -> PhaseRecord {
    PhaseRecord {
        phase,
        began: Duration::from_millis(began),
        elapsed: Duration::from_millis(elapsed),
        outcome: PhaseOutcome::Completed,
    }
}

fn evidence(drill: Drill) -> Evidence {
    Evidence {
        schema: SCHEMA,
        start: Some(Start {
            run: "0193a5e2-7c00-7000-8000-000000000001".to_owned(),
            drill: "pgdrill-0193a5e2-shop-nightly".to_owned(),
            at: "2026-11-23T02:00:01Z".parse().unwrap(),
            pgdrill: "0.1.0".to_owned(),
            beside: 0,
        }),
        asked: Some(drill),
        survey: survey(),
        plan: Some(plan()),
        phases: vec![
            record(Phase::Prepare, 0, 12),
            record(Phase::Inspect, 12, 440),
            record(Phase::Provision, 452, 2_149),
            record(Phase::Acquire, 2_601, 95),
            record(Phase::Restore, 2_696, 41_056),
            record(Phase::Ready, 43_752, 100),
            record(Phase::Validate, 43_852, 910),
            record(Phase::Teardown, 44_762, 320),
        ],
        done: vec![
            done(Phase::Acquire, "digest the dump", Action::Scan { from: PATH.to_owned() }, Some(48_211_968)),
            done(Phase::Restore, "restore the archive", Action::Run(pg_restore()), None),
        ],
        guarantees: vec![
            Guarantee { name: "no network".to_owned(), held: Held::Enforced, seen: "only the interface lo".to_owned() },
            Guarantee { name: "memory limit".to_owned(), held: Held::Absent, seen: "memory.max is max".to_owned() },
        ],
        log: Some(ServerLog { first_error: None, path: Some("shop-nightly/server.log".to_owned()) }),
        ..Evidence::default()
    }
}

fn pg_restore() -> Command {
    let mut command = Command::new("pg_restore").arg("--dbname=shop");
    command.env.insert("PGPASSWORD".to_owned(), SECRET.to_owned());
    command
}

fn done(phase: Phase, what: &str, action: Action, bytes: Option<u64>) -> Done {
    let step = Step { phase, place: Place::Server, what: what.to_owned(), action, tolerance: Tolerance::RecordsErrors };
    let output = Output { bytes, sha256: bytes.map(|_| "ab".repeat(32)), ..Output::default() };
    Done { step, output, elapsed: Duration::from_millis(if bytes.is_some() { 95 } else { 41_056 }) }
}

fn file() -> FileSeen {
    FileSeen {
        path: PATH.to_owned(),
        directory: false,
        bytes: 48_211_968,
        modified: 1_795_309_263,
        inode: 42,
        world_readable: true,
    }
}

fn survey() -> Survey {
    let host = HostFacts {
        hostname: "ci-7".to_owned(),
        os: "Debian GNU/Linux 12".to_owned(),
        kernel: "6.1.0-32-amd64".to_owned(),
        architecture: "x86_64".to_owned(),
        cpus: 4,
        memory_bytes: 16_000_000_000,
        fsync_micros: Some(310),
    };
    let dump = Question::Dump { path: PATH.to_owned(), select: Selection::default() };
    Survey(vec![
        (Question::List { pattern: "/backups/shop-*.dump".to_owned() }, Learnt::Files(vec![file()])),
        (dump, Learnt::Dump(Box::new(facts()))),
        (Question::Host, Learnt::Host(host)),
    ])
}

fn facts() -> DumpFacts {
    DumpFacts {
        format: DumpFormat::Custom,
        wrapped: Compression::None,
        sealed: false,
        archive_version: Some(ArchiveVersion { major: 1, minor: 16, revision: 0 }),
        archive_compression: Some("gzip".to_owned()),
        created: Some("2026-11-22 01:00:03".to_owned()),
        database: Some("shop".to_owned()),
        server_version: Some("17.11 (Debian 17.11-1)".to_owned()),
        dump_version: Some("17.11 (Debian 17.11-1)".to_owned()),
        restrict: false,
        end_marker: None,
        contents: Contents::default(),
    }
}

fn plan() -> Plan {
    let server = ServerFacts {
        runtime: RuntimeKind::Container,
        major: 17,
        version: "17.11 (Debian 17.11-1)".to_owned(),
        bindir: "/usr/lib/postgresql/17/bin".to_owned(),
        image: Some(ImageFacts {
            reference: "postgres:17".to_owned(),
            id: format!("sha256:{}", "cd".repeat(32)),
            repo_digests: vec![format!("postgres@sha256:{}", "ef".repeat(32))],
            architecture: "amd64".to_owned(),
        }),
        user: RoomUser { name: "postgres".to_owned(), uid: 999, gid: 999 },
        extensions: BTreeMap::new(),
        locales: vec!["C".to_owned()],
        disk_free: Some(77_000_000_000),
        filesystem: Some("overlayfs".to_owned()),
        streams: false,
        tools: BTreeMap::from([("docker".to_owned(), "20.10.24".to_owned())]),
        because: "a container engine answers, and the image is here".to_owned(),
        passed_over: Vec::new(),
    };
    let sandbox = SandboxSpec {
        server: server.clone(),
        inputs: vec![PATH.to_owned()],
        limits: Limits::default(),
        own_data: false,
    };
    let step = |phase, what: &str| done(phase, what, Action::Run(pg_restore()), None).step;
    let note = |kind, text: &str| Note { kind, text: text.to_owned() };
    Plan {
        backup: Backup {
            why: None,
            file: file(),
            passed_over: vec![PassedOver {
                path: "/backups/shop-2026-11-21.dump".to_owned(),
                why: "older than the newest".to_owned(),
            }],
        },
        server,
        sandbox,
        recipe: Recipe {
            steps: vec![step(Phase::Acquire, "digest the dump"), step(Phase::Restore, "restore the archive")],
        },
        stops: vec!["end".to_owned()],
        sweep: Vec::new(),
        database: "shop".to_owned(),
        promise: false,
        notes: vec![
            note(NoteKind::Stubbed, "the roles shop_owner and shop_app, without passwords and memberships"),
            note(NoteKind::NotCarried, "roles, passwords and tablespaces: a pg_dump of one database has none"),
            note(NoteKind::NotChecked, "rows of the 14 tables that no check names"),
        ],
    }
}
