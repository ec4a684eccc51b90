//! A drill and a survey, with every remaining choice made. Pure: the same two give the same plan.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::fault::{Blame, Fault};
use crate::format::base::BaseFacts;
use crate::format::lsn::Lsn;
use crate::format::{DumpFacts, Selection};
use crate::phase::Phase;
use crate::recipe::{
    Action, BaseSeen, CopyPlace, FileSeen, Learnt, Place, Question, Recipe, ServerFacts, Step, Stop, Survey, Tolerance,
    WalWay,
};
pub use crate::recipe::{Note, NoteKind};
use crate::scenario::{BackupCopy, Drill};
use crate::source::archive;
use crate::source::base_backup;
use crate::source::best;
use crate::source::chain::{self, Link};
use crate::source::dump::{self, Ingredients, Made};
use crate::source::service::Service;
use crate::source::sweep;
use crate::source::{BaseBackup, BaseTool, Pick, Roles, Source, backup_name};
use crate::target::{Target, postgres_time};

/// The newest major that is looked for when the backup's own is not to be had.
const NEWEST_MAJOR: u32 = 18;
/// Docker's 64 MB make parallel queries fail for want of shared memory.
const SHM_BYTES: u64 = 256 << 20;
const PIDS: u32 = 512;
/// Dumps whose headers are read to know how far apart they are: the newest.
const HEADERS: usize = 400;
/// Names that an error lists.
const LISTED: usize = 5;
/// Base backups that are looked at together.
const BASES: usize = 100;

/// What will be done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    pub backup: Backup,
    pub server: ServerFacts,
    pub sandbox: SandboxSpec,
    pub recipe: Recipe,
    /// Where validation happens: a sweep has many stops, everything else has one.
    pub stops: Vec<String>,
    /// What is known of the stops of a sweep; empty for a drill to one target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sweep: Vec<Stop>,
    /// The restored database: where checks ask unless they say otherwise.
    pub database: String,
    /// Whether what the dump promises is looked for. False in plans of older versions.
    #[serde(default)]
    pub promise: bool,
    pub notes: Vec<Note>,
}

impl Plan {
    /// Whether it restores the files of a cluster, indexes among them; a dump makes new ones.
    pub fn restores_files(&self) -> bool {
        self.recipe.steps.iter().any(|it| matches!(it.action, Action::LookAround { .. }))
    }
}

/// The chosen backup.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Backup {
    pub file: FileSeen,
    /// Why this one, where that took more than its age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Other matches, and why each was passed over.
    pub passed_over: Vec<PassedOver>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PassedOver {
    pub path: String,
    pub why: String,
}

/// The sandbox to make.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SandboxSpec {
    pub server: ServerFacts,
    /// Host files and directories to be seen in the room, read-only, in the order of `At::Input`.
    pub inputs: Vec<String>,
    pub limits: Limits,
    /// The data directory is written by pgdrill itself, and so lies where pgdrill can write.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own_data: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limits {
    pub memory_bytes: Option<u64>,
    pub cpus: Option<u32>,
    pub shm_bytes: u64,
    pub pids: u32,
}

/// What is still to be learnt: what the source asks first, then the server that its answers call for.
///
/// Empty when a plan can be made, or when it is clear that none can.
pub fn questions(drill: &Drill, known: &Survey) -> Vec<Question> {
    let pattern = drill.source.location().path.clone();
    let mut first = vec![Question::List { pattern }];
    let scripts = [&drill.restore.before, &drill.restore.after];
    first.extend(scripts.into_iter().flatten().map(|path| Question::List { pattern: path.clone() }));
    if let Some(path) = globals(drill) {
        first.push(Question::Dump { path: path.to_owned(), select: Selection::default() });
    }
    let first = known.unanswered(first);
    if !first.is_empty() {
        return first;
    }
    if let Source::BaseBackup(source) = &drill.source {
        let files = known.files(&drill.source.location().path).unwrap_or_default();
        // Which is the newest, each says itself, where its name does not.
        let undated = (2..=BASES).contains(&files.len()) && files.iter().any(|it| name_date(&it.path).is_none());
        let best = source.location.pick == Pick::BestForTarget;
        if let Some(question) = bases_question(source, files, known).filter(|_| undated || best) {
            return vec![question];
        }
        if best && let Some(question) = best_question(source, &drill.target, known) {
            return vec![question];
        }
    }
    let Ok((backup, _)) = pick(drill, known) else {
        return Vec::new();
    };
    if let Source::BaseBackup(source) = &drill.source {
        return base_questions(drill, source, &backup.file.path, known);
    }
    let dump = dump_question(drill, &backup.file.path);
    if known.answer(&dump).is_none() {
        return vec![dump];
    }
    let Some(facts) = known.dump(&backup.file.path) else {
        return Vec::new();
    };
    let headers = header_question(drill, &backup);
    let headers = known.unanswered(headers);
    if !headers.is_empty() {
        return headers;
    }
    known.unanswered(next_server(drill, facts, known))
}

/// What the gaps between dumps are judged by, where a loss is judged at all.
fn header_question(drill: &Drill, backup: &Backup) -> Option<Question> {
    drill.objectives.rpo?;
    let others = backup.passed_over.iter().map(|it| it.path.clone());
    let mut paths: Vec<String> = others.chain([backup.file.path.clone()]).collect();
    // By the dates in their names, where they have such; a listing is in the order of names.
    paths.sort_by_cached_key(|it| (name_date(it), it.clone()));
    let paths = paths.split_off(paths.len().saturating_sub(HEADERS));
    Some(Question::Headers { paths })
}

/// The server to ask for next: the wanted major, then each higher one until there is one.
fn next_server(drill: &Drill, facts: &DumpFacts, known: &Survey) -> Option<Question> {
    for major in majors(drill, facts) {
        let question = server_question(drill, major);
        match known.answer(&question) {
            Some(Learnt::NoServer { .. }) => (),
            Some(_) | None => return Some(question),
        }
    }
    None
}

/// The majors that may run this dump, in the order of preference.
fn majors(drill: &Drill, facts: &DumpFacts) -> Vec<u32> {
    match (drill.postgres.major, dump::wanted_major(facts)) {
        (Some(pinned), _) => vec![pinned],
        // An archive of the future is refused with the newest server in hand.
        (None, Some(wanted)) => (wanted.min(NEWEST_MAJOR)..=NEWEST_MAJOR).collect(),
        // SQL kept by hand does not say where it came from.
        (None, None) => (13..=NEWEST_MAJOR).rev().collect(),
    }
}

fn server_question(drill: &Drill, major: u32) -> Question {
    Question::Server {
        runtime: drill.runtime,
        major,
        image: drill.postgres.image.clone(),
        trusted: drill.source.location().trusted,
    }
}

fn dump_question(drill: &Drill, path: &str) -> Question {
    Question::Dump { path: path.to_owned(), select: drill.restore.select.clone() }
}

fn globals(drill: &Drill) -> Option<&str> {
    match &drill.source {
        Source::PgDump(it) if drill.restore.roles != Some(Roles::None) => it.globals.as_deref(),
        Source::PgDump(_) | Source::PgDumpall(_) | Source::BaseBackup(_) => None,
    }
}

/// Decides everything, or says what cannot work and who can change that.
pub fn plan(drill: &Drill, survey: &Survey) -> Result<Plan, Fault> {
    for path in [&drill.restore.before, &drill.restore.after].into_iter().flatten() {
        if survey.files(path).is_none_or(<[FileSeen]>::is_empty) {
            return Err(Fault::new(Blame::Scenario, format!("find the SQL file {path}"))
                .hint("Paths in a scenario are relative to the scenario's file."));
        }
    }
    let (backup, picked) = pick(drill, survey)?;
    let missing = || Fault::new(Blame::Harness, "plan before the survey is complete");
    if let Source::BaseBackup(source) = &drill.source {
        let facts = survey.base(&backup.file.path).ok_or_else(missing)?;
        present(source, facts)?;
        let source = &*source.of(facts);
        let last = Link { path: &backup.file.path, facts };
        let before = chain::before(last, &survey.bases().collect::<Vec<_>>())?;
        let server = server(drill, &[drill.postgres.major.unwrap_or(facts.major)], survey)?;
        let archive = source.wal.as_ref().and_then(|it| survey.archive(it));
        let stops = stops(drill, source, facts, survey)?;
        let wal = source.wal.as_ref().zip(archive);
        let way = wal.and_then(|(path, archive)| archive::way_of(path, archive, facts, &drill.target));
        let target = match archive.filter(|_| drill.sweep.is_some()) {
            Some(archive) => archive::settled(archive, facts, &drill.target),
            None => drill.target.clone(),
        };
        let made = base_backup::recipe(&base_backup::Ingredients {
            source,
            restore: &drill.restore,
            durability: drill.durability,
            target: &target,
            stops: &stops,
            file: &backup.file,
            facts,
            before: &before,
            last_before_gap: gap_way(drill, source, facts, survey).and_then(|it| survey.window(&it)?.last),
            whole: drill.objectives.rpo.is_some(),
            archive,
            memory: drill.postgres.memory_bytes,
            server,
        })?;
        let mut plan = assemble(drill, backup, picked, server, made, way);
        if !stops.is_empty() {
            plan.stops = (0..stops.len()).map(|it| base_backup::stop_name(it, stops.len())).collect();
            plan.notes.extend(survey.stops().map(|it| sweep::notes(it, stops.len())).into_iter().flatten());
            plan.notes.sort_by_key(|note| note.kind);
            plan.sweep = stops;
        }
        return Ok(plan);
    }
    let facts = survey.dump(&backup.file.path).ok_or_else(missing)?;
    let server = server(drill, &majors(drill, facts), survey)?;
    let globals = match globals(drill) {
        Some(path) => Some(survey.dump(path).ok_or_else(missing)?),
        None => None,
    };
    let made = dump::recipe(&Ingredients {
        source: &drill.source,
        restore: &drill.restore,
        durability: drill.durability,
        file: &backup.file,
        facts,
        globals,
        server,
    })?;
    let promise = facts.contents.promised.is_some();
    Ok(Plan { promise, ..assemble(drill, backup, picked, server, made, None) })
}

/// The newest backup is one of the present cluster, or that one has none.
fn present(source: &BaseBackup, facts: &BaseFacts) -> Result<(), Fault> {
    match (&source.location.pick, facts.earlier_cluster()) {
        (Pick::Newest, Some(earlier)) => Err(no_present(source, earlier)),
        _ => Ok(()),
    }
}

fn no_present(source: &BaseBackup, earlier: &str) -> Fault {
    Fault::new(Blame::Backup, format!("find a backup of the present cluster at {}", source.location.path))
        .cause(format!("the stanza was upgraded since, and its newest backup is of the cluster before, {earlier}"))
        .hint("make a full backup now; to drill one of an earlier cluster, pick it by its label: `pick: { label: … }`")
}

/// The plan around a recipe. `way`: the WAL that a physical backup recovers with.
fn assemble(
    drill: &Drill,
    backup: Backup,
    picked: Vec<Note>,
    server: &ServerFacts,
    made: Made,
    way: Option<WalWay>,
) -> Plan {
    let limits = Limits {
        memory_bytes: drill.postgres.memory_bytes,
        cpus: drill.postgres.cpus,
        shm_bytes: drill.postgres.shm_bytes.unwrap_or(SHM_BYTES),
        pids: PIDS,
    };
    let sandbox = SandboxSpec {
        server: server.clone(),
        inputs: made.inputs,
        limits,
        own_data: matches!(drill.source, Source::BaseBackup(_)) && !server.streams,
    };
    let mut notes = made.notes;
    let mut recipe = made.recipe;
    let comparison = comparison(drill, &backup, &recipe, way);
    recipe.steps.extend(comparison.into_iter().chain(verification(drill)));
    notes.extend(picked);
    notes.extend(past(drill));
    notes.sort_by_key(|note| note.kind);
    Plan {
        backup,
        server: server.clone(),
        sandbox,
        recipe,
        stops: vec!["restored".to_owned()],
        sweep: Vec::new(),
        database: made.database,
        promise: false,
        notes,
    }
}

/// That stores are read as they were at a moment: what has happened to them since is no part of the drill.
pub fn past(drill: &Drill) -> Vec<Note> {
    let mut told = BTreeSet::new();
    let mut notes = Vec::new();
    for (path, wal, store) in drill.places() {
        let Some(moment) = store.and_then(|it| it.as_of) else { continue };
        for root in [Some(path), wal].into_iter().flatten().filter_map(Service::root) {
            if !told.insert(root) {
                continue;
            }
            let moment = postgres_time(moment);
            let text = format!(
                "{root} was read as it was at {moment}: what was written or deleted there since does not count"
            );
            notes.push(Note { kind: NoteKind::Deviation, text });
        }
    }
    notes
}

/// Compares the backup with its copies, once the clock has stopped.
fn comparison(drill: &Drill, backup: &Backup, recipe: &Recipe, wal: Option<WalWay>) -> Option<Step> {
    let copies = drill.copies.as_ref()?;
    let mut parts = vec![backup.file.path.clone()];
    for step in &recipe.steps {
        // What it builds upon.
        if let Action::Unpack { from, beneath, .. } = &step.action {
            let all = beneath.iter().map(|it| &it.from).chain([from]);
            parts.extend(all.filter(|it| **it != backup.file.path).cloned());
        }
    }
    // Of an earlier cluster of a stanza: there, too.
    let within = wal.as_ref().zip(drill.source.wal()).and_then(|(way, root)| way.archive.strip_prefix(root));
    let place = |it: &BackupCopy| CopyPlace {
        name: it.placement.name.clone(),
        path: it.path.clone(),
        wal: it.wal.as_ref().map(|it| format!("{it}{}", within.unwrap_or_default())),
    };
    let copies = copies.others.iter().map(place).collect();
    Some(Step {
        phase: Phase::Validate,
        place: Place::Fetcher,
        what: "compare the copies of the backup".to_owned(),
        action: Action::Compare { parts, copies, wal },
        tolerance: Tolerance::Strict,
    })
}

/// Reads the whole repository, once the clock has stopped.
fn verification(drill: &Drill) -> Option<Step> {
    let Source::BaseBackup(source) = &drill.source else { return None };
    source.verify.then(|| Step {
        phase: Phase::Validate,
        place: Place::Fetcher,
        what: "verify the repository".to_owned(),
        action: Action::Verify { stanza: source.location.path.clone(), archive: source.wal.clone() },
        tolerance: Tolerance::Strict,
    })
}

/// What a base backup is and builds upon, then a server of its own major: no other can read it.
fn base_questions(drill: &Drill, source: &BaseBackup, path: &str, known: &Survey) -> Vec<Question> {
    let Some(facts) = known.base(path) else {
        return vec![Question::Base { path: path.to_owned(), tablespaces: source.tablespaces.clone() }];
    };
    let source = &*source.of(facts);
    let bases: Vec<&BaseSeen> = known.bases().collect();
    if chain::before(Link { path, facts }, &bases).is_err() {
        let matches = known.files(&drill.source.location().path).unwrap_or_default();
        if let Some(question) = bases_question(source, matches, known) {
            return vec![question];
        }
        // What it builds upon may lie beside it, whatever the scenario's pattern matches.
        if let Some((directory, _)) = path.trim_end_matches('/').rsplit_once('/') {
            let list = Question::List { pattern: directory.to_owned() };
            let Some(Learnt::Files(beside)) = known.answer(&list) else { return vec![list] };
            let beside: Vec<FileSeen> = beside.iter().filter(|it| it.path != directory).cloned().collect();
            if let Some(question) = bases_question(source, &beside, known) {
                return vec![question];
            }
        }
    }
    if let Some(question) = archive_question(source, facts)
        && known.answer(&question).is_none()
    {
        return vec![question];
    }
    if let Some(way) = gap_way(drill, source, facts, known)
        && known.window(&way).is_none()
    {
        return vec![Question::Window(way)];
    }
    let server = known.unanswered([server_question(drill, drill.postgres.major.unwrap_or(facts.major))]);
    if !server.is_empty() {
        return server;
    }
    known.unanswered(sweep_question(drill, source, facts, known))
}

fn gap_way(drill: &Drill, source: &BaseBackup, facts: &BaseFacts, known: &Survey) -> Option<WalWay> {
    let path = source.wal.as_ref().filter(|_| drill.sweep.is_none())?;
    archive::before_gap(path, known.archive(path)?, facts, &drill.target)
}

/// From when to when, then where.
fn sweep_question(drill: &Drill, source: &BaseBackup, facts: &BaseFacts, known: &Survey) -> Option<Question> {
    let sweep = drill.sweep.as_ref()?;
    let path = source.wal.as_ref()?;
    let way = archive::way_of(path, known.archive(path)?, facts, &drill.target)?;
    let Some(window) = known.window(&way) else { return Some(Question::Window(way)) };
    let targets = sweep::targets(sweep, window).ok()?;
    Some(Question::Stops { way, consistent: window.consistent?, targets })
}

/// Where the stops of a sweep lie, in the order of the WAL. Empty for a drill to one target.
fn stops(drill: &Drill, source: &BaseBackup, facts: &BaseFacts, survey: &Survey) -> Result<Vec<Stop>, Fault> {
    let Some(sweep) = &drill.sweep else { return Ok(Vec::new()) };
    let missing = || Fault::new(Blame::Harness, "plan a sweep before the survey is complete");
    let path = source.wal.as_ref().ok_or_else(missing)?;
    let archive = survey.archive(path).ok_or_else(missing)?;
    // Where there is none, the recipe says why.
    let Some(way) = archive::way_of(path, archive, facts, &drill.target) else { return Ok(Vec::new()) };
    let window = survey.window(&way).ok_or_else(missing)?;
    let targets = sweep::targets(sweep, window)?;
    sweep::stops(&way, window, targets, survey.stops())
}

fn archive_question(source: &BaseBackup, facts: &BaseFacts) -> Option<Question> {
    let (timeline, start) = archive::needs(facts).map(|it| (it.0, it.1)).unzip();
    Some(Question::Archive { path: source.wal.clone()?, timeline, start })
}

/// What must be known to choose the best one for the target, beside what the backups are.
fn best_question(source: &BaseBackup, target: &Target, known: &Survey) -> Option<Question> {
    let bases = matching(source, known);
    let start = best::earliest(&bases)?;
    if let Some(path) = &source.wal {
        let question = Question::Archive { path: path.clone(), timeline: None, start: Some(start) };
        if known.answer(&question).is_none() {
            return Some(question);
        }
    }
    match best_of(source, target, known) {
        Ok(best::Next::Ask(question)) => Some(*question),
        Ok(best::Next::Chosen(_)) | Err(_) => None,
    }
}

fn best_of(source: &BaseBackup, target: &Target, known: &Survey) -> Result<best::Next, Fault> {
    let archive = source.wal.as_ref().and_then(|path| Some((path.as_str(), known.archive(path)?)));
    let matching = matching(source, known);
    let earlier = known.bases().filter_map(|it| it.facts.as_deref()?.earlier_cluster()).max();
    if let Some(earlier) = earlier.filter(|_| matching.is_empty()) {
        return Err(no_present(source, earlier));
    }
    best::choose(&matching, archive, target, known)
}

/// Those that the source's pattern matches, of the present cluster: the WAL of an earlier one reaches no target of today.
fn matching<'a>(source: &BaseBackup, known: &'a Survey) -> Vec<&'a BaseSeen> {
    let files = known.files(&source.location.path).unwrap_or_default();
    let is_present = |it: &BaseSeen| it.facts.as_ref().is_none_or(|it| it.earlier_cluster().is_none());
    known.bases().filter(|base| is_present(base) && files.iter().any(|it| it.path == base.path)).collect()
}

/// What those of these are that nobody asked about yet: the newest first, [`BASES`] at a time.
fn bases_question(source: &BaseBackup, files: &[FileSeen], known: &Survey) -> Option<Question> {
    let asked = |path: &str| known.base(path).is_some() || known.bases().any(|it| it.path == path);
    let mut files: Vec<&FileSeen> = files.iter().filter(|it| !asked(&it.path)).collect();
    files.sort_by_cached_key(|it| (name_date(&it.path), it.modified, it.path.clone()));
    let paths: Vec<String> =
        files.split_off(files.len().saturating_sub(BASES)).into_iter().map(|it| it.path.clone()).collect();
    (!paths.is_empty()).then(|| Question::Bases { paths, tablespaces: source.tablespaces.clone() })
}

fn server<'a>(drill: &Drill, majors: &[u32], survey: &'a Survey) -> Result<&'a ServerFacts, Fault> {
    let mut reasons = Vec::new();
    for major in majors {
        match survey.answer(&server_question(drill, *major)) {
            Some(Learnt::Server(server)) => return Ok(server),
            Some(Learnt::NoServer { reasons: why }) => reasons.extend(why.clone()),
            Some(_) | None => (),
        }
    }
    let wanted = majors.first().map_or_else(|| "any major".to_owned(), ToString::to_string);
    let mut fault = Fault::new(Blame::Host, format!("find a PostgreSQL {wanted} or newer to restore into"));
    if majors.len() == 1 {
        fault.message = format!("find a PostgreSQL {wanted} to restore into");
    }
    fault.hint = reasons.iter().find_map(|it| it.hint.clone());
    fault.causes = reasons.iter().map(Fault::line).collect();
    fault.causes.dedup();
    Err(fault)
}

/// Chooses among the files that match, and says how.
fn pick(drill: &Drill, survey: &Survey) -> Result<(Backup, Vec<Note>), Fault> {
    let location = drill.source.location();
    let files = survey.files(&location.path).unwrap_or_default();
    let mut files = files.to_vec();
    // By the date in the name where every name has one: a copy changes the modification time, not the name.
    let dated: Option<Vec<String>> = files.iter().map(|it| name_date(&it.path)).collect();
    let labelled: Option<Vec<(jiff::Timestamp, Lsn)>> = files.iter().map(|it| label_date(survey, &it.path)).collect();
    let labelled = labelled.filter(|it| !it.is_empty());
    match (&dated, &labelled) {
        (Some(_), None) => files.sort_by_cached_key(|it| (name_date(&it.path), it.path.clone())),
        (Some(_), Some(_)) => files.sort_by_cached_key(|it| (name_date(&it.path), label_date(survey, &it.path))),
        (None, Some(_)) => files.sort_by_cached_key(|it| label_date(survey, &it.path)),
        (None, None) => files.sort_by_key(|it| (it.modified, it.path.clone())),
    }
    let unusable = unusable(drill, survey, &mut files)?;
    let count = files.len();
    if let (Source::BaseBackup(source), Pick::BestForTarget) = (&drill.source, &location.pick)
        && count > 0
    {
        return best_backup(drill, source, files, survey);
    }
    let index = match &location.pick {
        // Of dumps there is none that is better for a target.
        Pick::Newest | Pick::All | Pick::BestForTarget => count.checked_sub(1),
        Pick::Oldest => (count > 0).then_some(0),
        Pick::Random { seed } => usize::try_from(*seed).unwrap_or(usize::MAX).checked_rem(count),
        Pick::Label { label } => files.iter().position(|it| backup_name(&it.path) == label),
    };
    let Some(index) = index else {
        if let Pick::Label { label } = &location.pick
            && count > 0
        {
            let last: Vec<&str> = files.iter().rev().take(LISTED).map(|it| backup_name(&it.path)).collect();
            return Err(Fault::new(Blame::Scenario, format!("find the backup {label} at {}", location.path))
                .cause(format!("there are {count} others, the newest of them {}", last.join(", ")))
                .hint("Look whether retention removed it, and name one that is there."));
        }
        return Err(Fault::new(Blame::Backup, format!("find a backup at {}", location.path))
            .cause(match location.store.as_ref().and_then(|it| it.as_of) {
                Some(moment) => format!("nothing in it matched at {}", postgres_time(moment)),
                None => "the directory is there, and nothing in it matches".to_owned(),
            })
            .hint("Look at the job that should have written it, or at the pattern in the scenario."));
    };
    let file = files.remove(index);
    let by = match (&dated, &labelled) {
        (Some(_), _) => "the date in its name",
        (None, Some(_)) => "the time in its backup_label",
        (None, None) => "its modification time",
    };
    let why = match &location.pick {
        Pick::Newest | Pick::All | Pick::BestForTarget => format!("older, by {by}"),
        Pick::Oldest => format!("newer, by {by}"),
        Pick::Random { seed } => format!("not drawn (seed {seed})"),
        Pick::Label { label } => format!("not {label}"),
    };
    let others = files.into_iter().map(|it| PassedOver { path: it.path, why: why.clone() });
    let passed_over = unusable.into_iter().chain(others).collect();
    let mut notes = Vec::new();
    if count > 1
        && dated.is_none()
        && labelled.is_none()
        && matches!(location.pick, Pick::Newest | Pick::Oldest | Pick::All)
    {
        let text = "the backup was chosen by modification time: the names carry no dates";
        notes.push(Note { kind: NoteKind::Deviation, text: text.to_owned() });
    }
    Ok((Backup { file, why: None, passed_over }, notes))
}

fn best_backup(
    drill: &Drill,
    source: &BaseBackup,
    files: Vec<FileSeen>,
    survey: &Survey,
) -> Result<(Backup, Vec<Note>), Fault> {
    let missing = || Fault::new(Blame::Harness, "choose a base backup before the survey is complete");
    let best::Next::Chosen(chosen) = best_of(source, &drill.target, survey)? else { return Err(missing()) };
    let file = files.into_iter().find(|it| it.path == chosen.path).ok_or_else(missing)?;
    let passed_over = chosen.passed_over.into_iter().map(|(path, why)| PassedOver { path, why }).collect();
    Ok((Backup { file, why: Some(chosen.why), passed_over }, Vec::new()))
}

/// Takes those away that their tool itself calls unusable, each with the reason. A drill that has none left, or names one of them,
/// fails with it.
fn unusable(drill: &Drill, survey: &Survey, files: &mut Vec<FileSeen>) -> Result<Vec<PassedOver>, Fault> {
    let Source::BaseBackup(BaseBackup { tool: BaseTool::Barman | BaseTool::BarmanCloud, .. }) = &drill.source else {
        return Ok(Vec::new());
    };
    let why = |path: &str| survey.bases().find(|it| it.path == path)?.unreadable.clone();
    let named = |it: &FileSeen| match &drill.source.location().pick {
        Pick::Label { label } => backup_name(&it.path) == label,
        Pick::Newest | Pick::Oldest | Pick::BestForTarget | Pick::Random { .. } | Pick::All => false,
    };
    let mut passed_over = Vec::new();
    for file in files.iter() {
        let Some(fault) = why(&file.path) else { continue };
        if named(file) || files.iter().all(|it| why(&it.path).is_some()) {
            return Err(fault);
        }
        passed_over.push(PassedOver { path: file.path.clone(), why: fault.line() });
    }
    files.retain(|it| !passed_over.iter().any(|over| over.path == it.path));
    Ok(passed_over)
}

/// When a base backup began, by its own label, and where in the WAL. None where it does not say.
fn label_date(survey: &Survey, path: &str) -> Option<(jiff::Timestamp, Lsn)> {
    let label = survey.base(path)?.label.as_ref()?;
    Some((label.began()?, label.start.parse().ok()?))
}

/// The date and time that a file's name carries, as digits that sort. None where there is none, or one that can be read in
/// two ways.
fn name_date(path: &str) -> Option<String> {
    static DATE: LazyLock<Regex> = LazyLock::new(|| {
        let pattern = r"((?:19|20)\d\d)[-_.]?([01]\d)[-_.]?([0-3]\d)(?:[-_.T ]?([0-2]\d)[-_.:h]?([0-5]\d)(?:[-_.:m]?([0-5]\d))?)?";
        Regex::new(pattern).expect("a valid pattern")
    });
    let name = path.rsplit('/').find(|part| !part.is_empty())?;
    let found = DATE.captures(name)?;
    let whole = found.get(0)?;
    // Part of a longer number, or the year of a date that begins with the day.
    let (before, after) = (&name[..whole.start()], &name[whole.end()..]);
    let day_first =
        before.len() >= 3 && before.ends_with(['-', '_', '.']) && before.as_bytes()[before.len() - 2].is_ascii_digit();
    if before.ends_with(|it: char| it.is_ascii_digit())
        || after.starts_with(|it: char| it.is_ascii_digit())
        || day_first
    {
        return None;
    }
    let number = |index: usize| found.get(index).and_then(|it| it.as_str().parse().ok());
    jiff::civil::Date::new(number(1)?, i8::try_from(number(2)?).ok()?, i8::try_from(number(3)?).ok()?).ok()?;
    let part = |index: usize| found.get(index).map_or("00", |it| it.as_str());
    Some((1..=6).map(part).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_in_names_sort_whatever_their_form() {
        for (name, expected) in [
            ("/b/shop-2026-11-22.dump", Some("20261122000000")),
            ("/b/shop_20261122_031500.sql.gz", Some("20261122031500")),
            ("/b/20261122T0315.tar", Some("20261122031500")),
            ("/b/shop.dump", None),
            ("/b/shop-22-11-2026-0315.dump", None),
            ("/b/shop-1720011512.dump", None),
            ("/b/shop-2026-13-41.dump", None),
            ("/2026-11-22/shop.dump", None),
        ] {
            assert_eq!(name_date(name).as_deref(), expected, "{name}");
        }
    }
}
