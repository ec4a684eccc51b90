//! Base backups: from files to a server that stopped at its target.
//!
//! What surprises: the backup's own configuration is only data. Its `postgresql.auto.conf` would be read after ours, its
//! `standby.signal` would never let it be promoted, and its settings speak of a machine that is not this one.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;

use super::archive;
use super::chain::Link;
use super::dump::Made;
use super::server::{LOG_FILE, client_env};
use super::service::Service;
use super::{BaseBackup, Durability, Restore};
use crate::fault::{Blame, Fault};
use crate::format::base::{BaseFacts, BaseLayout};
use crate::format::machine::Architecture;
use crate::format::pg_control::ControlData;
use crate::format::wal_archive::ArchiveSeen;
use crate::phase::Phase;
use crate::recipe::{
    Action, Arg, At, Command, FileSeen, Layer, Note, NoteKind, Place, Recipe, ServerFacts, Step, Stop, Tolerance,
};
use crate::target::{Point, Target};

/// Everything that a recipe is made from.
#[derive(Clone, Copy, Debug)]
pub struct Ingredients<'a> {
    pub source: &'a BaseBackup,
    pub restore: &'a Restore,
    pub durability: Durability,
    pub target: &'a Target,
    pub file: &'a FileSeen,
    pub facts: &'a BaseFacts,
    /// What it builds upon, the full backup first; empty unless it is incremental.
    pub before: &'a [Link<'a>],
    /// Where the source names one.
    pub archive: Option<&'a ArchiveSeen>,
    /// When the last transaction ended that lies before a gap in the archive, where that decides.
    pub last_before_gap: Option<Timestamp>,
    /// Where a sweep stops, in the order of the WAL; empty for a drill to one target.
    pub stops: &'a [Stop],
    /// Whether the WAL behind the target matters: a loss is judged at the archive's end.
    pub whole: bool,
    /// What the server may use of the machine's memory, in bytes. None: all of it.
    pub memory: Option<u64>,
    pub server: &'a ServerFacts,
}

/// Where to ask before anybody said which database matters.
pub const DATABASE: &str = "postgres";

/// The steps from an empty sandbox to a promoted server.
pub fn recipe(it: &Ingredients<'_>) -> Result<Made, Fault> {
    refuse(it)?;
    let of_archive = archive::examine(it)?;
    let step = |phase, what: &str, action, tolerance| Step {
        phase,
        place: Place::Server,
        what: what.to_owned(),
        action,
        tolerance,
    };
    let mut steps: Vec<Step> =
        data(it).into_iter().map(|(what, action)| step(Phase::Restore, &what, action, Tolerance::Strict)).collect();
    steps.push(step(
        Phase::Restore,
        "write the server's configuration",
        Action::Arm { configuration: configuration(it), recover: true, standby: !it.stops.is_empty() },
        Tolerance::Strict,
    ));
    if let Some(archive) = &it.source.wal {
        let action = Action::ServeWal { from: archive.clone(), until: it.stops.first().map(|it| it.place.at) };
        steps.push(step(Phase::Recover, "serve WAL from the archive", action, Tolerance::Strict));
    }
    steps.push(step(Phase::Recover, "start the server", Action::Run(start()), Tolerance::Strict));
    for (stop, to) in it.stops.iter().enumerate() {
        let what = format!("replay to {}: {}", stop_name(stop, it.stops.len()), to.target.words());
        steps.push(step(Phase::Recover, &what, Action::Walk { stop, to: to.place.at }, Tolerance::Strict));
    }
    if it.stops.is_empty() {
        let action = Action::Recover { target: it.target.clone() };
        steps.push(step(Phase::Recover, "recover to the target", action, Tolerance::Strict));
    }
    let action = Action::Promote;
    steps.push(step(Phase::Ready, "promote the server", action, Tolerance::Strict));
    // Not in the time to recover: a real recovery would not wait for these.
    // Of a sweep, the survey has read it.
    if let Some(archive) = it.source.wal.as_ref().filter(|_| it.stops.is_empty()) {
        let action = Action::ReadWal { from: archive.clone(), target: it.target.clone(), whole: it.whole };
        steps.push(step(Phase::Validate, "read the replayed WAL independently", action, Tolerance::Strict));
    }
    let action = Action::LookAround {
        major: it.server.major,
        made_on: it.source.made_on.clone(),
        left_out: left_out(it).map(|it| it.0.clone()).collect(),
    };
    steps.push(step(Phase::Validate, "look for what no check examines", action, Tolerance::Strict));
    let action = Action::LookAgain;
    steps.push(step(Phase::Validate, "look again at pages that looked wrong before replay", action, Tolerance::Strict));
    let database = it.restore.database.clone().unwrap_or_else(|| DATABASE.to_owned());
    Ok(Made {
        recipe: Recipe { steps },
        database,
        inputs: Vec::new(),
        notes: notes(it).into_iter().chain(of_archive).collect(),
    })
}

/// `stop 3 of 20`
pub fn stop_name(stop: usize, of: usize) -> String {
    format!("stop {} of {of}", stop + 1)
}

/// What fills the data directory: the backup itself, or what it and those before it make together.
fn data(it: &Ingredients<'_>) -> Vec<(String, Action)> {
    let unpack = |path: &str, facts: &BaseFacts, part| Action::Unpack {
        from: path.to_owned(),
        facts: Box::new(facts.clone()),
        part,
        beneath: Vec::new(),
        hollow: left_out(it).map(|it| it.1).collect(),
    };
    if matches!(it.facts.layout, BaseLayout::WalG { .. }) {
        let layer = |it: &Link<'_>| Layer { from: it.path.to_owned(), facts: Box::new(it.facts.clone()) };
        let what = match it.before.len() {
            0 => "unpack the backup".to_owned(),
            more => format!("unpack the delta and the {more} backups beneath it"),
        };
        let action = Action::Unpack {
            from: it.file.path.clone(),
            facts: Box::new(it.facts.clone()),
            part: None,
            beneath: it.before.iter().map(layer).collect(),
            hollow: Vec::new(),
        };
        return vec![(what, action)];
    }
    if it.before.is_empty() {
        return vec![("unpack the base backup".to_owned(), unpack(&it.file.path, it.facts, None))];
    }
    let parts = it.before.iter().map(|it| (it.path, it.facts)).chain([(it.file.path.as_str(), it.facts)]);
    let mut steps = Vec::new();
    let mut combine = Command::new("pg_combinebackup");
    for (part, (path, facts)) in parts.enumerate() {
        let kind = if part == 0 { "full" } else { "incremental" };
        let name = path.rsplit('/').find(|it| !it.is_empty()).unwrap_or(path);
        steps.push((format!("unpack the {kind} backup {name}"), unpack(path, facts, Some(part))));
        combine = combine.arg(Arg::path(At::Spool, &part_directory(part)));
    }
    combine = combine.arg("--output").arg(Arg::path(At::Data, ""));
    if it.durability == Durability::Fast {
        combine = combine.arg("--no-sync");
    }
    combine.env = client_env();
    steps.push((format!("combine {} backups", steps.len()), Action::Run(combine)));
    steps
}

/// Databases of which nothing is restored, as the scenario asks.
fn left_out<'a>(it: &Ingredients<'a>) -> impl Iterator<Item = (&'a String, u32)> {
    let BaseLayout::PgBackRest { databases, .. } = &it.facts.layout else { return None.into_iter().flatten() };
    let wanted = &it.source.databases;
    let own = |name: &str| matches!(name, "postgres" | "template0" | "template1");
    let left = move |(name, _): &(&String, &u32)| !wanted.is_empty() && !wanted.contains(name) && !own(name);
    Some(databases.iter().filter(left).map(|(name, oid)| (name, *oid))).into_iter().flatten()
}

/// Where a part of a chain is unpacked, in the spool.
pub fn part_directory(part: usize) -> String {
    format!("parts/{part}")
}

/// Says what cannot work, before anything is made.
fn refuse(it: &Ingredients<'_>) -> Result<(), Fault> {
    if it.server.major != it.facts.major {
        return Err(Fault::new(
            Blame::Scenario,
            format!("restore {} into PostgreSQL {}", it.file.path, it.server.major),
        )
        .cause(format!("it is a physical backup of PostgreSQL {}, and only that major can read it", it.facts.major))
        .hint(
            "Leave `postgres.major` out; to move to another major, restore here, then dump and load, or pg_upgrade.",
        ));
    }
    built(it)?;
    fits(it)?;
    if it.source.wal.is_none() && !matches!(it.target.point, Point::Latest | Point::Immediate) {
        return Err(Fault::new(Blame::Scenario, format!("recover to {}", it.target.words()))
            .cause("the source names no WAL archive, and a base backup alone recovers to its own end only")
            .hint("Name the archive as `wal:` of the source, or set `target: immediate`."));
    }
    if let BaseLayout::PgBackRest { databases, .. } = &it.facts.layout
        && let Some(unknown) = it.source.databases.iter().find(|it| !databases.contains_key(*it))
    {
        let there = databases.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        return Err(Fault::new(Blame::Scenario, format!("restore the database {unknown} alone"))
            .cause(format!("{} has {there}", it.file.path))
            .hint("Correct `databases` of the source."));
    }
    if !it.restore.select.is_everything() {
        return Err(Fault::new(Blame::Scenario, "restore a part of a base backup")
            .cause("a physical backup is restored whole or not at all")
            .hint("Restore it whole, and dump the table from there; or drill a pg_dump."));
    }
    // Parts lie beside what they make together, which is about as large.
    let parts: u64 = it.before.iter().map(|it| it.facts.bytes).sum();
    let needed = it.facts.bytes + 2 * parts + (256 << 20);
    if let Some(free) = it.server.disk_free.filter(|free| needed > *free) {
        return Err(Fault::new(Blame::Host, "find disk space for the restore")
            .cause(format!("at least {} MiB are needed, {} MiB are free", needed >> 20, free >> 20))
            .hint("Free some space, or point TMPDIR at a larger disk."));
    }
    Ok(())
}

/// Whether the servers that there are can read files that were made like this.
fn built(it: &Ingredients<'_>) -> Result<(), Fault> {
    for facts in it.before.iter().map(|it| it.facts).chain([it.facts]) {
        let Some(control) = facts.control() else { continue };
        if let Some(major) = control.major().filter(|major| *major != facts.major) {
            return Err(Fault::new(Blame::Backup, format!("tell which PostgreSQL {} is of", it.file.path))
                .cause(format!(
                    "PG_VERSION says {}, and pg_control has the catalogue of {major} ({})",
                    facts.major, control.catalog_version
                ))
                .hint("files of two clusters were put together, or pg_upgrade was stopped: make the backup again"));
        }
        let unusual = control.unusual();
        if !unusual.is_empty() {
            let fault =
                Fault::new(Blame::Host, format!("find a PostgreSQL that was built as the server of {}", it.file.path));
            return Err(unusual.into_iter().fold(fault, Fault::cause).hint(
                "The server was built with other sizes (--with-blocksize, --with-segsize), and only one built alike can read \
                 its files, which pgdrill cannot drill yet.",
            ));
        }
    }
    Ok(())
}

/// Whether the memory is there that the server takes when it starts: recovery insists on as many connections, locks and so on as
/// there were on the server that was backed up.
fn fits(it: &Ingredients<'_>) -> Result<(), Fault> {
    let (Some(control), Some(memory)) = (it.facts.control(), it.memory) else { return Ok(()) };
    let needed = taken_at_start(control);
    if needed <= memory {
        return Ok(());
    }
    Err(Fault::new(Blame::Host, format!("start a server for {}", it.file.path))
        .cause(format!(
            "with max_connections = {}, max_prepared_transactions = {} and max_locks_per_transaction = {}, which recovery insists \
             on, it takes about {} MiB of shared memory, and it may use {} MiB",
            control.max_connections,
            control.max_prepared_transactions,
            control.max_locks_per_transaction,
            needed >> 20,
            memory >> 20
        ))
        .hint("Raise `memory` under `postgres`."))
}

/// About what a server uses of its shared memory as soon as it starts, in bytes: all but the buffers. As the differences say that
/// `postgres -C shared_memory_size` of PostgreSQL 15 shows with 100 to 20000 connections and 64 to 1024 locks for each, within a tenth.
fn taken_at_start(control: &ControlData) -> u64 {
    const BASE: u64 = 8 << 20;
    const OF_A_BACKEND: u64 = 23_000;
    const OF_A_LOCK: u64 = 390;
    let backends = u64::from(control.max_connections)
        + u64::from(control.max_worker_processes)
        + u64::from(control.max_wal_senders)
        + u64::from(control.max_prepared_transactions);
    let of_one = OF_A_BACKEND + OF_A_LOCK * u64::from(control.max_locks_per_transaction);
    BASE.saturating_add(backends.saturating_mul(of_one))
}

/// Libraries of the cluster's that are preloaded here, too: without them what they are for gives errors, and they start nothing that
/// reaches out. Each with what keeps it quiet. Whatever else was preloaded may do anything: schedulers, replication.
const PRELOADED: [(&str, &str); 2] = [
    ("pg_stat_statements", "pg_stat_statements.save = off\n"),
    // Its functions load it, and it wants to be loaded at the start. Its jobs delete data.
    ("timescaledb", "timescaledb.max_background_workers = 0\n"),
];

/// What the cluster preloaded, by what of it is preloaded here and what is not.
fn preloaded(it: &Ingredients<'_>) -> (Vec<&'static (&'static str, &'static str)>, Vec<String>) {
    let (mut here, mut not) = (Vec::new(), Vec::new());
    let libraries = it.facts.settings.get("shared_preload_libraries").map_or("", String::as_str);
    for library in libraries.split(',').map(|it| it.trim().trim_matches('"')).filter(|it| !it.is_empty()) {
        let name = library.trim_start_matches("$libdir/").trim_end_matches(".so");
        match PRELOADED.iter().find(|known| known.0 == name && it.server.extensions.contains_key(name)) {
            Some(known) if !here.contains(&known) => here.push(known),
            Some(_) => {}
            None => not.push(library.to_owned()),
        }
    }
    (here, not)
}

fn notes(it: &Ingredients<'_>) -> Vec<Note> {
    let mut notes = Vec::new();
    let mut note = |kind, text: String| notes.push(Note { kind, text });
    if let Some(said) = it.source.made_on.architecture.as_ref().filter(|it| **it != Architecture::here()) {
        note(NoteKind::Deviation, format!("made on {said}, and read on {}", Architecture::here()));
    }
    for tablespace in &it.facts.tablespaces {
        let text = format!("tablespace {} ({}) lies within the sandbox", tablespace.oid, tablespace.location);
        note(NoteKind::Deviation, text);
    }
    for (name, _) in left_out(it) {
        note(
            NoteKind::NotCarried,
            format!("the database {name}: only {} was to be restored", it.source.databases.join(", ")),
        );
    }
    if let Some(cluster) = it.facts.earlier_cluster() {
        note(
            NoteKind::Deviation,
            format!("of an earlier cluster of its stanza, {cluster}: recovered with that one's WAL"),
        );
    }
    let (_, not) = preloaded(it);
    if !not.is_empty() && !it.restore.settings.contains_key("shared_preload_libraries") {
        note(NoteKind::Deviation, format!("not preloaded here: {}", not.join(", ")));
    }
    if it.facts.layout == BaseLayout::Plain && Service::of(&it.file.path).is_some() {
        let text = "an object store keeps no empty directories: those of a data directory were made again";
        note(NoteKind::Deviation, text.to_owned());
    }
    if it.source.wal.is_none() {
        note(NoteKind::NotChecked, "no WAL archive: recovered with the WAL that the backup itself holds".to_owned());
    }
    notes
}

fn start() -> Command {
    let mut start = Command::new("pg_ctl")
        .args(["start", "--silent", "--wait", "--timeout=86400", "--pgdata"])
        .arg(Arg::path(At::Data, ""))
        .arg("--log")
        .arg(Arg::path(At::Run, LOG_FILE))
        .args(["--options", "-c config_file=run/postgresql.conf"]);
    start.env = client_env();
    start
}

/// The configuration of the throwaway server, but for what only `pg_control` tells (see [`required_settings`]).
///
/// Everything that reaches out is off, whatever the backup's own configuration says: this is the quarantine.
fn configuration(it: &Ingredients<'_>) -> String {
    let durable = match it.durability {
        Durability::Representative => "fsync = on\nfull_page_writes = on\n",
        Durability::Fast => "fsync = off\nfull_page_writes = off\nsynchronous_commit = off\n",
    };
    let triggers = if it.server.major >= 17 { "event_triggers = off\n" } else { "" };
    let (libraries, _) = preloaded(it);
    let mut text = format!(
        "{durable}{triggers}\
         listen_addresses = ''\n\
         unix_socket_directories = '../run'\n\
         hba_file = 'run/pg_hba.conf'\n\
         ident_file = 'run/pg_ident.conf'\n\
         hot_standby = on\n\
         archive_mode = off\n\
         archive_command = ''\n\
         archive_cleanup_command = ''\n\
         recovery_end_command = ''\n\
         primary_conninfo = ''\n\
         primary_slot_name = ''\n\
         synchronous_standby_names = ''\n\
         max_logical_replication_workers = 0\n\
         shared_preload_libraries = '{}'\n\
         session_preload_libraries = ''\n\
         local_preload_libraries = ''\n\
         huge_pages = off\n\
         ssl = off\n\
         logging_collector = off\n\
         log_destination = 'stderr'\n\
         log_line_prefix = '%m [%p] %e %q%a@%d '\n\
         log_error_verbosity = terse\n\
         log_min_error_statement = panic\n\
         log_min_messages = warning\n\
         log_startup_progress_interval = 0\n\
         log_timezone = 'UTC'\n\
         lc_messages = 'C'\n",
        libraries.iter().map(|it| it.0).collect::<Vec<_>>().join(", "),
    );
    text.extend(libraries.iter().map(|it| it.1));
    if it.server.major < 15 {
        text = text.replace("log_startup_progress_interval = 0\n", "");
    }
    // What its log says of recovery is part of the proof.
    text = text.replace("log_min_messages = warning\n", "");
    let restore = if it.source.wal.is_some() { "../guard fetch ../spool/wal \"%f\" \"%p\"" } else { "false" };
    let _ = writeln!(text, "restore_command = '{restore}'");
    for (name, value) in it.target.settings() {
        let _ = writeln!(text, "{name} = '{}'", value.replace('\'', "''"));
    }
    for (name, value) in &it.restore.settings {
        let _ = writeln!(text, "{name} = '{}'", value.replace('\'', "''"));
    }
    if !it.stops.is_empty() {
        // How long a standby waits before it asks again.
        text.push_str("wal_retrieve_retry_interval = '20ms'\n");
        if it.server.major >= 15 {
            // A server that reads ahead would wait for WAL behind a stop with records before it that it has not replayed.
            text.push_str("recovery_prefetch = off\n");
        }
    }
    text
}

/// What `pg_controldata` prints (in the C locale), by its own labels.
pub fn control_data(printed: &str) -> BTreeMap<&str, &str> {
    printed.lines().filter_map(|line| line.split_once(':')).map(|(label, value)| (label.trim(), value.trim())).collect()
}

/// Settings that recovery insists on: not lower than on the server that was backed up (`CheckRequiredParameterValues`
/// in PostgreSQL's xlogrecovery.c), from what `pg_controldata` printed.
pub fn required_settings(printed: &str) -> String {
    let control = control_data(printed);
    let needed = [
        ("max_connections setting", "max_connections"),
        ("max_worker_processes setting", "max_worker_processes"),
        ("max_wal_senders setting", "max_wal_senders"),
        ("max_prepared_xacts setting", "max_prepared_transactions"),
        ("max_locks_per_xact setting", "max_locks_per_transaction"),
    ];
    let mut text = String::new();
    for (label, name) in needed {
        if let Some(value) = control.get(label).filter(|it| it.bytes().all(|it| it.is_ascii_digit())) {
            let _ = writeln!(text, "{name} = {value}");
        }
    }
    text
}

/// `Bytes per WAL segment`, from what `pg_controldata` printed.
pub fn segment_bytes(printed: &str) -> Option<u64> {
    control_data(printed).get("Bytes per WAL segment")?.parse().ok()
}
