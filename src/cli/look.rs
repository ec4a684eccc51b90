//! Commands that restore nothing: plan, list, check, inspect, init, judge, report.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::args::{self, Chosen, Format, Init, Inspect, Render, Stored};
use super::load::{self, Loaded};
use super::out;
use super::physical::{self, Physical};
use super::run::{absolute, judged, summary};
use super::world::surroundings;
use super::{Exit, Screen, access, complain, complain_of, repository, tell};
use crate::drill::{self, World};
use crate::evidence::{Evidence, PhaseOutcome, Start};
use crate::fault::{Blame, Fault};
use crate::format::{Compression, DumpFacts, DumpFormat};
use crate::phase::Phase;
use crate::plan::Plan;
use crate::recipe::{Action, FileSeen, NoteKind, Step};
use crate::report::commands::commands;
use crate::report::words;
use crate::report::{Report, RunInfo, junit};
use crate::runtime::lease;
use crate::scenario::{self, Drill, quote_ident};
use crate::source::BUNDLE;
use crate::source::server::SUPERUSER;
use crate::source::service::Service;
use crate::store;

/// What would happen. Creates nothing that receives data.
pub(crate) async fn plan(asked: &args::Plan, screen: &Screen) -> Exit {
    let drills = match load::drills(&asked.chosen, screen) {
        Ok(Loaded { drills, .. }) => drills,
        Err(exit) => return exit,
    };
    let surroundings = match surroundings() {
        Ok(surroundings) => surroundings,
        Err(exit) => return exit,
    };
    let machine = surroundings.machine();
    let mut worst = Exit::Passed;
    for (number, drill) in drills.iter().enumerate() {
        let run = uuid::Uuid::now_v7().simple().to_string();
        let lease = match lease::new(&surroundings.base, &run, number) {
            Ok(lease) => lease,
            Err(fault) => {
                complain_of(&fault);
                return Exit::Usage;
            }
        };
        machine.equip(&lease, access::reading_of(drill, &lease.scratch));
        let start = Start {
            run,
            drill: lease.drill.clone(),
            at: jiff::Timestamp::now(),
            pgdrill: env!("CARGO_PKG_VERSION").to_owned(),
            beside: 0,
        };
        let world = World {
            lease,
            runtime: &machine,
            cancel: CancellationToken::new(),
            hurry: Arc::new(AtomicBool::new(false)),
            record: &|_| (),
            watch: Arc::new(|_| ()),
            keep_log: &|_| None,
            keep_for: std::time::Duration::ZERO,
        };
        let evidence = drill::survey_only(drill, start, &world).await;
        let sealed = |path: &str| evidence.survey.dump(path).is_some_and(|it| it.sealed);
        let by_hand = |plan: &Plan| {
            if Service::of(&plan.backup.file.path).is_some() {
                let why = "the backup lies in an object store: fetch it with the store's own client, and ask for the commands for \
                           that file";
                return Err(why.to_owned());
            }
            if plan.backup.file.path.contains(BUNDLE) {
                let why =
                    "the backup lies in a bundle: unpack it with tar, and ask for the commands for what was in it";
                return Err(why.to_owned());
            }
            if sealed(&plan.backup.file.path) {
                return Err("the backup is encrypted, and no program that would be at hand decrypts it".to_owned());
            }
            commands(&drill.name, plan)
        };
        match evidence.plan.as_ref().filter(|_| asked.commands).map(by_hand) {
            Some(Ok(script)) => tell(&script),
            Some(Err(because)) => {
                complain(&format!("error: {}: {because}", drill.name));
                worst = Exit::Usage;
            }
            None => tell(&planned(drill, &evidence)),
        }
        if evidence.plan.is_none() {
            worst = worst_of(worst, &evidence);
        }
    }
    worst
}

/// A plan that cannot be made has the exit status that the drill would have.
fn worst_of(so_far: Exit, evidence: &Evidence) -> Exit {
    let exit = Exit::from(crate::verdict::judge(evidence).verdict);
    if so_far == Exit::Failed { so_far } else { exit }
}

fn planned(drill: &Drill, evidence: &Evidence) -> String {
    let mut text = format!("{}\n", drill.name);
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "  {name:<10} {value}");
    };
    let Some(plan) = &evidence.plan else {
        for record in &evidence.phases {
            if let PhaseOutcome::Failed(fault) = &record.outcome {
                line("cannot run", &format!("failed to {} ({} is at fault)", fault.message, fault.blame.owner()));
                fault.causes.iter().for_each(|it| line("because", it));
                fault.hint.iter().for_each(|it| line("hint", it));
            }
        }
        return text + "\n";
    };
    let file = &plan.backup.file;
    line("backup", &format!("{} ({})", file.path, words::bytes(file.bytes)));
    if let Some(facts) = evidence.survey.dump(&file.path) {
        line("", &described(facts));
    }
    plan.backup.why.iter().for_each(|it| line("chosen", it));
    plan.backup.passed_over.iter().for_each(|it| line("passed over", &format!("{}: {}", it.path, it.why)));
    for it in physical::way(drill, evidence, plan) {
        line("wal", &it);
    }
    line("server", &format!("PostgreSQL {} ({})", short(&plan.server.version), plan.server.because));
    plan.server.passed_over.iter().for_each(|it| line("not used", &it.line()));
    let free = plan.server.disk_free.map_or("unknown".to_owned(), words::bytes);
    line(
        "disk",
        &format!("{free} free{}", plan.server.filesystem.as_ref().map_or(String::new(), |it| format!(" on {it}"))),
    );
    if let Some(rto) = &drill.objectives.rto {
        let overhead = match rto.overhead {
            Duration::ZERO => String::new(),
            overhead => format!(", {} of it declared overhead", words::duration(overhead)),
        };
        let span = format!("from {} to {}", rto.span.start(), rto.span.end());
        line("rto", &format!("{} {span}{overhead}", words::duration(rto.limit)));
    }
    for phase in Phase::ALL {
        let mut steps: Vec<String> = plan.recipe.steps.iter().filter(|it| it.phase == phase).map(step_words).collect();
        // Several files of one configuration, several databases of one cluster.
        steps.dedup();
        let always = matches!(phase, Phase::Provision | Phase::Ready | Phase::Validate | Phase::Teardown);
        if !steps.is_empty() || always {
            line(phase.name(), &format!("budget {}", words::duration(drill.budget(phase))));
            for step in &steps {
                line("", step);
            }
        }
    }
    match drill.checks.as_slice() {
        [] => line("checks", "none: the restored data would not be looked at, and the drill could not pass"),
        checks => line("checks", &checks.iter().map(|it| it.name.as_str()).collect::<Vec<_>>().join(", ")),
    }
    plan.notes.iter().for_each(|it| line("note", &format!("{}: {}", note_kind(it.kind), it.text)));
    text + "\n"
}

/// As the report of the drill heads it.
fn note_kind(kind: NoteKind) -> &'static str {
    match kind {
        NoteKind::Deviation => "deviation",
        NoteKind::NotCarried => "not carried",
        NoteKind::Stubbed => "made up",
        NoteKind::NotChecked => "not checked",
    }
}

fn step_words(step: &Step) -> String {
    let with = match &step.action {
        Action::Run(command) | Action::Stream { into: command, .. } => format!(" ({})", command.program),
        Action::Scan { .. }
        | Action::Copy { .. }
        | Action::Write { .. }
        | Action::Sql { .. }
        | Action::Unpack { .. }
        | Action::Arm { .. }
        | Action::ServeWal { .. }
        | Action::Walk { .. }
        | Action::Recover { .. }
        | Action::Promote
        | Action::LookAgain
        | Action::LookAround { .. }
        | Action::Compare { .. }
        | Action::Verify { .. }
        | Action::ReadWal { .. } => String::new(),
    };
    format!("{}{with}", step.what)
}

pub(crate) fn list(chosen: &Chosen, screen: &Screen) -> Exit {
    let drills = match load::drills(chosen, screen) {
        Ok(Loaded { drills, .. }) => drills,
        Err(exit) => return exit,
    };
    let widest = drills.iter().map(|it| it.name.chars().count()).max().unwrap_or(0);
    for drill in &drills {
        let place = drill.line.map_or(drill.file.clone(), |line| format!("{}:{line}", drill.file));
        let tags = if drill.tags.is_empty() { String::new() } else { format!("  [{}]", drill.tags.join(", ")) };
        let source = format!("{} {}", drill.source.kind(), drill.source.location().path);
        tell(&format!("{:widest$}  {place}  {source}{tags}\n", drill.name));
    }
    Exit::Passed
}

pub(crate) fn check(chosen: &Chosen, screen: &Screen) -> Exit {
    match load::drills(chosen, screen) {
        Ok(Loaded { drills, files }) => {
            let (drills, files) = (words::count(drills.len(), "drill"), words::count(files, "file"));
            tell(&format!("{drills} in {files}: no problem found\n"));
            Exit::Passed
        }
        Err(exit) => exit,
    }
}

pub(crate) fn inspect(args: &Inspect, _: &Screen) -> Exit {
    let reading = access::reading();
    match repository::recognise(&args.path, &reading) {
        Ok(Some(found)) => {
            tell(&if args.json { found.json() } else { found.text() });
            return Exit::Passed;
        }
        Ok(None) => {}
        Err(fault) => return refused(&fault),
    }
    match physical::recognise(&args.path, &reading) {
        Ok(Some(found)) => {
            return match physical::inspected(&found, args.wal.as_deref(), args.json, &reading) {
                Ok(text) => {
                    tell(&text);
                    Exit::Passed
                }
                Err(fault) => refused(&fault),
            };
        }
        Ok(None) => {}
        Err(fault) => return refused(&fault),
    }
    match load::look_at(&args.path, &reading) {
        Ok((seen, facts)) if args.json => {
            let value = serde_json::json!({ "file": seen, "dump": facts });
            tell(&format!("{value:#}\n"));
            Exit::Passed
        }
        Ok((seen, facts)) => {
            tell(&inspected(&seen, &facts));
            Exit::Passed
        }
        Err(fault) => refused(&fault),
    }
}

fn refused(fault: &Fault) -> Exit {
    complain_of(fault);
    match fault.blame {
        Blame::Backup => Exit::Failed,
        Blame::Scenario => Exit::Usage,
        // The backup may be good: nobody can tell here.
        Blame::Host => Exit::Inconclusive,
        Blame::Harness => Exit::Bug,
    }
}

/// `custom dump of shop, from PostgreSQL 15.18 by pg_dump 17.2, 2026-11-22 03:00:00, archive version 1.14`
fn described(facts: &DumpFacts) -> String {
    let mut text = match facts.format {
        DumpFormat::Cluster => "cluster dump of pg_dumpall".to_owned(),
        DumpFormat::Globals => "globals of pg_dumpall: roles and tablespaces, and no database".to_owned(),
        DumpFormat::Custom | DumpFormat::Directory | DumpFormat::Tar | DumpFormat::Plain => {
            format!("{} dump", facts.format.name())
        }
    };
    let (server, program) = (facts.server_version.as_deref().map(short), facts.dump_version.as_deref().map(short));
    let archive = facts.archive_version.map(|it| format!("{}.{}", it.major, it.minor));
    for (before, value) in [
        (" of ", facts.database.as_deref()),
        (", from PostgreSQL ", server),
        (" by pg_dump ", program.filter(|_| program != server)),
        (", ", facts.created.as_deref()),
        (", archive version ", archive.as_deref()),
    ] {
        if let Some(value) = value {
            let _ = write!(text, "{before}{value}");
        }
    }
    text
}

/// `17.12` of `17.12 (Debian 17.12-0+deb13u1)`.
fn short(version: &str) -> &str {
    version.split_once(" (").map_or(version, |(number, _)| number)
}

fn inspected(seen: &FileSeen, facts: &DumpFacts) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "{name:<12} {value}");
        }
    };
    let contents = &facts.contents;
    line("file", &format!("{} ({})", seen.path, words::bytes(seen.bytes)));
    line("is a", &described(facts));
    if facts.created.is_some() {
        line("", "the date carries no time zone: set `timezone` in a scenario to make it exact");
    }
    let is_wrapped = facts.wrapped != Compression::None;
    let wrapped = if is_wrapped { format!("{} around the whole file", facts.wrapped.name()) } else { String::new() };
    let inner = facts.archive_compression.as_deref().map_or(String::new(), |it| format!("{it} within the archive"));
    line("compression", &[wrapped, inner].into_iter().filter(|it| !it.is_empty()).collect::<Vec<_>>().join(", "));
    line("encoding", contents.encoding.as_deref().unwrap_or_default());
    // Names are written so that they can be copied into a scenario.
    line("databases", &listed(&quoted(&contents.databases)));
    line("schemas", &listed(&quoted(&contents.schemas)));
    let rows = |it: &crate::format::Table| {
        let rows = it.rows.map_or(String::new(), |rows| {
            format!(" ({})", words::count(usize::try_from(rows).unwrap_or(usize::MAX), "row"))
        });
        let data = if it.data || it.rows.is_some() { "" } else { " (no data)" };
        format!("{}.{}{rows}{data}", quote_ident(&it.schema), quote_ident(&it.name))
    };
    let tables: Vec<String> = contents.tables.iter().map(rows).collect();
    if !tables.is_empty() {
        line("tables", &format!("{}: {}", tables.len(), listed(&tables)));
    }
    line("extensions", &listed(&contents.extensions.iter().map(|it| it.name.clone()).collect::<Vec<_>>()));
    line("refers to", &listed(&quoted(&contents.roles)));
    line("makes roles", &listed(&quoted(&contents.roles_made)));
    // Every cluster has the bootstrap superuser and the roles of PostgreSQL itself.
    let brought = |it: &&String| *it != SUPERUSER && !it.starts_with("pg_");
    let missing = contents.roles.difference(&contents.roles_made).filter(brought).count();
    if missing > 0 && facts.format != DumpFormat::Globals {
        let are = if missing == 1 { "is" } else { "are" };
        line("", &format!("{missing} of these {are} not in the dump: give `globals:` (pg_dumpall -g), or get stubs"));
    }
    let entries: Vec<String> = contents.entries.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    line("entries", &entries.join(", "));
    if facts.format.is_archive() {
        line(
            "not checked",
            "the data were not decompressed: whether they are sound, only a restore tells (pgdrill run)",
        );
    }
    if facts.end_marker == Some(false) {
        line("WARNING", "pg_dump's end marker is missing: the dump was cut short");
    }
    text
}

fn quoted<'a>(names: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    names.into_iter().map(|it| quote_ident(it)).collect()
}

/// The first of many, and how many more.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 20;
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}

pub(crate) fn init(args: &Init, _: &Screen) -> Exit {
    let reading = access::reading();
    match repository::recognise(&args.path, &reading) {
        Ok(Some(found)) => return write_or_tell(args, &found.scenario(&absolute(&args.path).display().to_string())),
        Ok(None) => {}
        Err(fault) => return refused(&fault),
    }
    match physical::recognise(&args.path, &reading) {
        Ok(Some(Physical::Base(_, facts))) => {
            let whole = |it: &Path| absolute(it).display().to_string();
            let wal = args.wal.as_deref().map(whole);
            let text = physical::scenario(&whole(&args.path), &facts, wal.as_deref());
            return write_or_tell(args, &text);
        }
        Ok(Some(Physical::Archive(path, _))) => {
            let fault = Fault::new(Blame::Scenario, format!("make a drill of {path}"))
                .cause("it is a WAL archive, and nothing can be restored from one alone");
            return refused(
                &fault.hint("Name a base backup, and this as its archive: `pgdrill init BACKUP --wal ARCHIVE`."),
            );
        }
        Ok(None) => {}
        Err(fault) => return refused(&fault),
    }
    let (seen, facts) = match load::look_at(&args.path, &reading) {
        Ok(found) => found,
        Err(fault) => return refused(&fault),
    };
    if facts.format == DumpFormat::Globals {
        let fault = Fault::new(Blame::Scenario, format!("make a drill of {}", seen.path))
            .cause("it holds only roles and tablespaces (pg_dumpall --globals-only): there is no database in it");
        return refused(&fault.hint("Name a dump of a database, and write this file below its path, as `globals:`."));
    }
    let pattern = scenario::suggest_pattern(&seen.path);
    let matching =
        pattern.as_deref().map(|it| store::list(it, &reading)).transpose().unwrap_or_default().unwrap_or_default();
    let matching: Vec<String> = matching.into_iter().map(|it| it.path).collect();
    let pattern = pattern.as_deref().map(|pattern| (pattern, matching.as_slice()));
    let text = scenario::init(&scenario::Init { path: &seen.path, pattern, facts: &facts });
    write_or_tell(args, &text)
}

fn write_or_tell(args: &Init, text: &str) -> Exit {
    let Some(output) = &args.output else {
        tell(text);
        return Exit::Passed;
    };
    let written = std::fs::File::create_new(output).and_then(|mut file| file.write_all(text.as_bytes()));
    match written {
        Ok(()) => {
            complain(&format!("wrote {0}: run it with `pgdrill run {0}`", output.display()));
            Exit::Passed
        }
        Err(error) => {
            let fault = Fault::new(Blame::Scenario, format!("write {}", output.display())).cause(error.to_string());
            complain_of(&fault.hint("A file that is there is never overwritten: name another one."));
            Exit::Usage
        }
    }
}

fn stored(path: &Path) -> Result<Report, Exit> {
    let (kept, bytes) = out::read_back(path).map_err(|fault| {
        complain_of(&fault);
        Exit::Usage
    })?;
    let first = kept.drills.iter().find_map(|it| it.start.as_ref());
    let info = RunInfo {
        run: kept.run.clone(),
        pgdrill: first.map_or_else(String::new, |it| it.pgdrill.clone()),
        started: first.map_or(jiff::Timestamp::UNIX_EPOCH, |it| it.at),
    };
    Ok(judged(info, kept, &bytes))
}

pub(crate) fn judge(args: &Stored, screen: &Screen) -> Exit {
    match stored(&args.path) {
        Ok(report) => {
            let exit = Exit::from(report.verdict);
            tell(&summary(&report, &[], exit, screen));
            exit
        }
        Err(exit) => exit,
    }
}

pub(crate) fn report(args: &Render, screen: &Screen) -> Exit {
    let report = match stored(&args.stored.path) {
        Ok(report) => report,
        Err(exit) => return exit,
    };
    tell(&match args.format {
        Format::Text => summary(&report, &[], Exit::from(report.verdict), screen),
        Format::Json => report.to_json(),
        Format::Junit => junit::junit(&report, junit::Flavor::Rich),
        Format::JunitStrict => junit::junit(&report, junit::Flavor::Strict),
    });
    Exit::Passed
}
