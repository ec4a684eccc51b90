//! What several test modules need.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pgdrill::check::{Check, Kind, Rows, Severity};
use pgdrill::drill::{self, World};
use pgdrill::evidence::{Event, Evidence, Start};
use pgdrill::format::{ArchiveVersion, Compression, Contents, DumpFacts, DumpFormat};
use pgdrill::phase::Phase;
use pgdrill::recipe::{FileSeen, RuntimeChoice};
use pgdrill::runtime::Lease;
use pgdrill::runtime::fake::Fake;
use pgdrill::scenario::{Drill, Keep, Objectives, Postgres, Rto, Scope};
use pgdrill::source::{DumpTool, Durability, Location, PgDump, Pick, Restore, Source};
use pgdrill::target::Target;
use pgdrill::verdict::{self, Judgement};
use tokio_util::sync::CancellationToken;

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A custom archive of PostgreSQL 15, with one table and nothing unusual.
pub(crate) fn facts() -> DumpFacts {
    DumpFacts {
        format: DumpFormat::Custom,
        wrapped: Compression::None,
        sealed: false,
        archive_version: Some(ArchiveVersion { major: 1, minor: 14, revision: 0 }),
        archive_compression: Some("gzip".to_owned()),
        created: Some("2026-11-22 03:00:00".to_owned()),
        database: Some("shop".to_owned()),
        server_version: Some("15.18".to_owned()),
        dump_version: Some("15.18".to_owned()),
        restrict: false,
        end_marker: None,
        contents: Contents {
            create_database: Some(
                "CREATE DATABASE shop WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE = 'C.UTF-8';".to_owned(),
            ),
            encoding: Some("UTF8".to_owned()),
            ..Contents::default()
        },
    }
}

pub(crate) fn file() -> FileSeen {
    FileSeen {
        path: "/b/shop.dump".to_owned(),
        directory: false,
        bytes: 1_000_000,
        modified: 1_763_780_400,
        inode: 7,
        world_readable: true,
    }
}

pub(crate) fn fake() -> Fake {
    Fake::new(file(), facts())
}

pub(crate) fn rows_check(name: &str, severity: Severity) -> Check {
    Check {
        name: name.to_owned(),
        severity,
        database: None,
        role: None,
        timeout: Duration::from_secs(60),
        kind: Kind::Rows(Rows {
            table: "shop.orders".to_owned(),
            filter: None,
            expect: pgdrill::check::Count::Range { min: Some(1), max: None },
        }),
        line: None,
    }
}

/// A drill of `/b/shop.dump` with one check and an RTO of ten minutes.
pub(crate) fn drill() -> Drill {
    let location = Location {
        path: "/b/shop.dump".to_owned(),
        pick: Pick::Newest,
        timezone: None,
        trusted: false,
        store: None,
        key: None,
    };
    Drill {
        name: "shop".to_owned(),
        tags: Vec::new(),
        file: "shop.yaml".to_owned(),
        line: Some(1),
        runtime: RuntimeChoice::Auto,
        copies: None,
        source: Source::PgDump(PgDump { location, globals: None, tool: DumpTool::PgDump }),
        scope: Some(Scope::Database),
        target: Target::default(),
        sweep: None,
        restore: Restore::default(),
        postgres: Postgres::default(),
        objectives: Objectives {
            rto: Some(Rto {
                limit: Duration::from_secs(600),
                overhead: Duration::ZERO,
                span: Phase::Provision..=Phase::Ready,
            }),
            rpo: None,
            heartbeat: None,
            rpo_window: None,
            incident: None,
            copies: None,
            max_age: None,
        },
        budgets: [(Phase::Restore, Duration::from_secs(1200))].into(),
        durability: Durability::Representative,
        keep: Keep::Never,
        ready: None,
        checks: vec![rows_check("orders", Severity::Major)],
        waivers: Vec::new(),
    }
}

/// The drill that everything is done to.
pub(crate) struct Ran {
    /// Lines of the event log.
    pub(crate) log: Vec<String>,
    pub(crate) evidence: Evidence,
    pub(crate) judgement: Judgement,
}

pub(crate) fn start() -> Start {
    Start {
        run: "r1".to_owned(),
        drill: "r1-0".to_owned(),
        at: "2026-11-22T12:00:00Z".parse().unwrap(),
        pgdrill: "0.1.0".to_owned(),
        beside: 0,
    }
}

/// Runs on a scripted runtime, and holds on the way that the log alone gives the evidence.
pub(crate) async fn run_on(fake: &Fake, drill: &Drill, cancel: &CancellationToken) -> Ran {
    let log = Mutex::new(Vec::new());
    let world = World {
        lease: Lease { run: "r1".to_owned(), drill: "r1-0".to_owned(), scratch: "/nowhere".into() },
        runtime: fake,
        cancel: cancel.clone(),
        hurry: Arc::new(AtomicBool::new(false)),
        record: &|event: &Event| log.lock().unwrap().push(serde_json::to_string(event).unwrap()),
        watch: Arc::new(|_| ()),
        keep_log: &|_| None,
        keep_for: Duration::from_secs(3600),
    };
    let evidence = drill::run(drill, start(), &world).await;
    let lines = log.into_inner().unwrap();
    let read_back = Evidence::from_events(lines.iter().map(|line| serde_json::from_str(line).unwrap()));
    assert_eq!(read_back, evidence, "the log alone gives the evidence");
    let text = serde_json::to_string(&evidence).unwrap();
    let stored: Evidence = serde_json::from_str(&text).unwrap();
    assert_eq!(stored, evidence, "evidence survives its own serialised form");
    let judgement = verdict::judge(&stored);
    Ran { log: lines, evidence, judgement }
}
