//! pg_dump and pg_dumpall: from a file to a loaded database.
//!
//! The surprising part is what a dump does not bring along: roles always, the database's own definition for plain text.
//! What is made up for that is said in the plan's notes.

use std::collections::{BTreeMap, BTreeSet};

use super::drift;
use super::server::{self, PSQL_DATABASE, SUPERUSER};
use super::service::Service;
use super::{Durability, PgDump, Restore, Roles, Source};
use crate::check::STAND_IN;
use crate::check::sql_text::quote_ident;
use crate::fault::{Blame, Fault};
use crate::format::promised;
use crate::format::{ArchiveVersion, Compression, Contents, DumpFacts, DumpFormat};
use crate::phase::Phase;
use crate::recipe::{
    Action, Arg, At, Command, FileSeen, Note, NoteKind, Place, Recipe, RuntimeKind, ServerFacts, StatementError, Step,
    Tolerance,
};

/// Who loads what takes the rights of a superuser from `postgres`.
const LOADER: &str = "pgdrill_loader";

/// The list for `pg_restore --use-list`, in the run directory.
const LIST_FILE: &str = "toc.list";

/// Everything that a recipe is made from.
#[derive(Clone, Copy, Debug)]
pub struct Ingredients<'a> {
    pub source: &'a Source,
    pub restore: &'a Restore,
    pub durability: Durability,
    pub file: &'a FileSeen,
    pub facts: &'a DumpFacts,
    pub globals: Option<&'a DumpFacts>,
    pub server: &'a ServerFacts,
}

/// A recipe, and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    pub recipe: Recipe,
    /// The restored database: where checks ask unless they say otherwise.
    pub database: String,
    /// Host paths to mount, by `At::Input`.
    pub inputs: Vec<String>,
    pub notes: Vec<Note>,
}

/// The major version that this backup calls for, and why it is not lower.
///
/// A pg_dump newer than its server writes archives that only its own pg_restore, or a newer one, reads.
pub fn wanted_major(facts: &DumpFacts) -> Option<u32> {
    let own = facts.major().map(|major| if major < 10 { 10 } else { major });
    // Text made by a newer pg_dump sets parameters that older servers do not know.
    let text = facts.dump_version.as_deref().filter(|_| !facts.format.is_archive()).and_then(crate::format::major_of);
    let reader = facts.archive_version.map(oldest_reader).or(text);
    match (own, reader) {
        (Some(own), Some(reader)) => Some(own.max(reader)),
        (own, reader) => own.or(reader),
    }
}

/// The oldest major whose pg_restore reads an archive of this version (`K_VERS_*` in pg_backup_archiver.h).
fn oldest_reader(version: ArchiveVersion) -> u32 {
    match (version.major, version.minor) {
        (..=0, _) | (1, ..=13) => 10,
        (1, 14) => 12,
        (1, 15) => 16,
        (1, 16) => 17,
        _ => u32::MAX,
    }
}

/// Says what cannot work, before anything is made.
pub fn refuse(it: &Ingredients<'_>) -> Result<(), Fault> {
    refuse_kind(it)?;
    refuse_end(it)?;
    if let Some(version) = it.facts.archive_version {
        refuse_version(it, version)?;
    }
    refuse_downgrade(it)?;
    refuse_options(it)?;
    refuse_includes(it)?;
    refuse_extensions(it)?;
    refuse_locale(it)?;
    refuse_restrict(it)?;
    refuse_tablespaces(it)?;
    refuse_disk(it)
}

fn refuse_kind(it: &Ingredients<'_>) -> Result<(), Fault> {
    let path = &it.file.path;
    let fault = |message: String| Fault::new(Blame::Scenario, message);
    match (it.source, it.facts.format) {
        (Source::PgDump(_), DumpFormat::Cluster) => Err(fault(format!("restore {path} as a pg_dump"))
            .cause("it is a dump of a whole cluster by pg_dumpall")
            .hint("Use `source: { pg_dumpall: { path: … } }`.")),
        (Source::PgDumpall(_), format) if format.is_archive() => Err(fault(format!("restore {path} as a pg_dumpall"))
            .cause(format!("it is an archive of pg_dump in {} format", format.name()))
            .hint("Use `source: { pg_dump: { path: … } }`.")),
        (Source::PgDumpall(_), DumpFormat::Plain) if it.facts.server_version.is_some() => {
            Err(fault(format!("restore {path} as a pg_dumpall"))
                .cause("it is a plain dump of one database by pg_dump")
                .hint("Use `source: { pg_dump: { path: … } }`."))
        }
        (_, DumpFormat::Globals) => Err(Fault::new(Blame::Backup, format!("restore {path}"))
            .cause("it holds only roles and tablespaces (pg_dumpall --globals-only): there is no database in it")
            .hint("Name a dump of the database as `path`, and this file as `globals`.")),
        (_, DumpFormat::Custom | DumpFormat::Directory | DumpFormat::Tar | DumpFormat::Plain | DumpFormat::Cluster) => {
            Ok(())
        }
    }
}

fn refuse_end(it: &Ingredients<'_>) -> Result<(), Fault> {
    if it.facts.end_marker != Some(false) {
        return Ok(());
    }
    Err(Fault::new(Blame::Backup, format!("read {} to its end", it.file.path))
        .cause("pg_dump's header is there, but the end marker that it writes last is not: the dump was cut short")
        .hint("Look at the disk space and the exit status of the job that made it, and make a new dump."))
}

fn refuse_version(it: &Ingredients<'_>, version: ArchiveVersion) -> Result<(), Fault> {
    let needed = oldest_reader(version);
    if needed <= it.server.major {
        return Ok(());
    }
    let shown = format!("{}.{}", version.major, version.minor);
    let fault = if needed == u32::MAX {
        Fault::new(Blame::Host, format!("read the archive {}", it.file.path))
            .cause(format!("its format version {shown} is newer than any that this pgdrill knows"))
            .hint("Check that the file is what pg_dump wrote; if it is, use a newer pgdrill.")
    } else {
        Fault::new(Blame::Scenario, format!("read the archive {} with PostgreSQL {}", it.file.path, it.server.major))
            .cause(format!("its format version {shown} needs the pg_restore of PostgreSQL {needed} or newer"))
            .hint(format!("Leave `postgres.major` out, or set it to {needed} or higher."))
    };
    Err(fault)
}

/// What newer majors have, older ones refuse: part of the dump would be lost, on a server that nobody would restore it to.
fn refuse_downgrade(it: &Ingredients<'_>) -> Result<(), Fault> {
    let (Some(from), to) = (it.facts.major(), it.server.major) else { return Ok(()) };
    if from <= to || it.restore.allow_downgrade {
        return Ok(());
    }
    Err(Fault::new(Blame::Scenario, format!("restore {} into PostgreSQL {to}", it.file.path))
        .cause(format!("it is a dump of PostgreSQL {from}: what {to} does not know would be lost"))
        .hint(
            "Leave `postgres.major` out; or set `restore.allow_downgrade: true`, and read what is lost in the report.",
        ))
}

fn refuse_options(it: &Ingredients<'_>) -> Result<(), Fault> {
    let format = it.facts.format;
    let fault = |message: &str| Fault::new(Blame::Scenario, message);
    if it.restore.jobs.is_some_and(|jobs| jobs > 1) {
        if format == DumpFormat::Tar {
            return Err(fault("restore a tar archive with parallel jobs")
                .cause("pg_restore cannot read the tar format in parallel")
                .hint("Leave out `restore.jobs`, or dump in directory or custom format."));
        }
        if !format.is_archive() {
            return Err(fault("restore plain SQL with parallel jobs")
                .cause("psql runs one statement after the other")
                .hint("Leave out `restore.jobs`, or dump in directory or custom format."));
        }
        if it.facts.wrapped != Compression::None {
            return Err(fault("restore a compressed archive file with parallel jobs")
                .cause("parallel jobs need to seek in the archive")
                .hint("Leave out `restore.jobs`, or let pg_dump compress (-Z) instead of compressing its output."));
        }
    }
    let own = it.facts.contents.databases.first();
    if it.restore.database.is_some() && makes_databases(it) && it.restore.database.as_ref() != own {
        return Err(fault("restore into a database of another name")
            .cause("this dump creates its database itself (pg_dump --create)")
            .hint("Leave out `restore.database`, or dump without --create."));
    }
    if !it.restore.select.is_everything() && !format.is_archive() {
        return Err(fault("restore a part of a plain dump")
            .cause("only archives (custom, directory, tar) have a table of contents to select from")
            .hint("Leave out `restore.schemas` and `restore.tables`, or dump with -Fc or -Fd."));
    }
    Ok(())
}

/// What a drill streams is one file; what it would read or connect to besides is not seen in the sandbox.
fn refuse_includes(it: &Ingredients<'_>) -> Result<(), Fault> {
    let Some(first) = it.facts.contents.includes.first() else { return Ok(()) };
    let more = it.facts.contents.includes.len() - 1;
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    Err(Fault::new(Blame::Scenario, format!("restore {}", it.file.path))
        .cause(format!("it is a script that needs more than itself: {first}{more}"))
        .hint("A drill restores one file: put the parts together, or dump the database with pg_dump."))
}

fn refuse_extensions(it: &Ingredients<'_>) -> Result<(), Fault> {
    let missing: BTreeSet<&str> = it
        .facts
        .contents
        .extensions
        .iter()
        .map(|it| it.name.as_str())
        .filter(|name| !it.server.extensions.contains_key(*name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let missing: Vec<&str> = missing.into_iter().collect();
    Err(Fault::new(Blame::Host, format!("find every extension of the dump in {}", server_name(it.server)))
        .cause(format!("it lacks {}", missing.join(", ")))
        .hint("Name an image that has them as `postgres.image`, or install their packages for this major."))
}

fn refuse_locale(it: &Ingredients<'_>) -> Result<(), Fault> {
    let contents = &it.facts.contents;
    // Restored under another name, the database still has the dump's locale.
    let lacks = |wanted: &String| !server::has_locale(it.server, wanted) && !drift::is_windows_locale(wanted);
    let archived = contents.create_database.as_deref().map(server::locales_of).unwrap_or_default();
    let missing = archived.into_iter().chain(contents.locales.values().cloned()).find(lacks);
    let Some(missing) = missing else {
        return Ok(());
    };
    Err(Fault::new(Blame::Host, format!("create the database in {}", server_name(it.server)))
        .cause(format!("a database of the dump has the locale {missing}, which is not there"))
        .hint(format!(
            "Add it (`localedef -i … -f UTF-8 {missing}` or the package locales-all), or name an image that has it."
        )))
}

/// psql learnt `\restrict` in the minor releases of August 2025.
fn refuse_restrict(it: &Ingredients<'_>) -> Result<(), Fault> {
    let since = match it.server.major {
        ..=12 => u32::MAX,
        13 => 22,
        14 => 19,
        15 => 14,
        16 => 10,
        17 => 6,
        18.. => 0,
    };
    if !it.facts.restrict || minor(it.server) >= since {
        return Ok(());
    }
    Err(Fault::new(Blame::Host, format!("read {} with psql {}", it.file.path, it.server.version))
        .cause("the dump opens with \\restrict, which psql understands only since the minor releases of August 2025")
        .hint("Use an image with a current minor release."))
}

/// Tablespaces within the data directory came with the minor releases of August 2022.
fn refuse_tablespaces(it: &Ingredients<'_>) -> Result<(), Fault> {
    let since = match it.server.major {
        ..=12 => u32::MAX,
        13 => 8,
        14 => 5,
        15.. => 0,
    };
    if tablespaces(it).is_empty() || minor(it.server) >= since {
        return Ok(());
    }
    let server = &it.server.version;
    Err(Fault::new(Blame::Host, format!("make the dump's tablespaces in PostgreSQL {server}"))
        .cause("it cannot keep tablespaces within the data directory, and drills use no places outside")
        .hint("Use an image with a current minor release."))
}

fn minor(server: &ServerFacts) -> u32 {
    server.version.split_once('.').and_then(|(_, rest)| crate::format::major_of(rest)).unwrap_or(0)
}

fn refuse_disk(it: &Ingredients<'_>) -> Result<(), Fault> {
    /// An empty cluster and its first WAL segments.
    const CLUSTER: u64 = 100 << 20;
    let needed = CLUSTER + it.facts.contents.data_bytes;
    let Some(free) = it.server.disk_free else {
        return Ok(());
    };
    if needed <= free {
        return Ok(());
    }
    Err(Fault::new(Blame::Host, "find disk space for the restore")
        .cause(format!("at least {} are needed, {} are free", mebibytes(needed), mebibytes(free)))
        .hint("Free some space, or point TMPDIR (local) or the engine's data directory at a larger disk."))
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

pub fn server_name(server: &ServerFacts) -> String {
    match (&server.image, server.runtime) {
        (Some(image), _) => format!("the image {}", image.reference),
        (None, RuntimeKind::Local) => format!("this machine's PostgreSQL {}", server.major),
        (None, RuntimeKind::Container | RuntimeKind::Fake) => format!("PostgreSQL {}", server.major),
    }
}

/// The steps that turn this dump into a loaded database on a running server.
pub fn recipe(it: &Ingredients<'_>) -> Result<Made, Fault> {
    refuse(it)?;
    let mut making =
        Making { it, steps: server::empty_cluster(it), inputs: Vec::new(), scans: Vec::new(), notes: Vec::new() };
    making.tablespaces();
    making.roles();
    let database = making.database();
    // A dump that makes its databases itself has not made them yet.
    let first = if makes_databases(it) { PSQL_DATABASE } else { &database };
    making.script("run the scenario's `restore.before`", it.restore.before.as_deref(), first);
    match it.facts.format {
        DumpFormat::Custom | DumpFormat::Directory | DumpFormat::Tar => making.archive(&database),
        DumpFormat::Plain | DumpFormat::Cluster | DumpFormat::Globals => making.text(&database),
    }
    making.tablespace_owners();
    making.script("run the scenario's `restore.after`", it.restore.after.as_deref(), &database);
    making.properties(&database);
    making.analyze(&database);
    making.digest();
    making.not_carried();
    Ok(Made { recipe: Recipe { steps: making.steps }, database, inputs: making.inputs, notes: making.notes })
}

struct Making<'a> {
    it: &'a Ingredients<'a>,
    steps: Vec<Step>,
    inputs: Vec<String>,
    scans: Vec<String>,
    notes: Vec<Note>,
}

impl Making<'_> {
    fn step(&mut self, phase: Phase, what: &str, tolerance: Tolerance, action: Action) {
        self.steps.push(Step { phase, place: Place::Server, what: what.to_owned(), action, tolerance });
    }

    fn note(&mut self, kind: NoteKind, text: impl Into<String>) {
        self.notes.push(Note { kind, text: text.into() });
    }

    /// Tablespaces are made within the data directory, before a text asks for them where they were in production: those
    /// places are not here, or, worse, are.
    fn tablespaces(&mut self) {
        let spaces = tablespaces(self.it);
        if spaces.is_empty() {
            return;
        }
        let mut statements = vec!["set allow_in_place_tablespaces = on".to_owned()];
        for name in &spaces {
            let name = quote_ident(name);
            statements.push(format!("create tablespace {name} location ''"));
        }
        if self.it.facts.contents.drops {
            statements.extend(spaces.iter().map(|it| keeper(it, true)));
        }
        let action = Action::Sql { database: PSQL_DATABASE.to_owned(), statements };
        self.step(Phase::Restore, "make the tablespaces within the sandbox", Tolerance::Strict, action);
        let made = made_tablespaces(self.it);
        let (ours, theirs): (Vec<&str>, Vec<&str>) =
            spaces.iter().map(String::as_str).partition(|it| !made.contains(it));
        if !theirs.is_empty() {
            let text = format!("tablespaces lie within the data directory of the sandbox: {}", theirs.join(", "));
            self.note(NoteKind::Deviation, text);
        }
        if !ours.is_empty() {
            let text = format!("tablespaces that the dump needs and does not carry: {}", ours.join(", "));
            self.note(NoteKind::Stubbed, text);
        }
    }

    /// What CREATE TABLESPACE would have done, had it not found them.
    fn tablespace_owners(&mut self) {
        let it = self.it;
        let owners: BTreeMap<&String, &String> = all_contents(it).flat_map(|it| &it.tablespace_owners).collect();
        let to = |(space, owner): (&&String, &&String)| {
            format!("alter tablespace {} owner to {}", quote_ident(space), quote_ident(owner))
        };
        let mut statements: Vec<String> = owners.iter().filter(|it| **it.1 != SUPERUSER).map(to).collect();
        if it.facts.contents.drops {
            statements.extend(tablespaces(it).iter().map(|it| keeper(it, false)));
        }
        if !statements.is_empty() && roles_mode(it) != Roles::None {
            let action = Action::Sql { database: PSQL_DATABASE.to_owned(), statements };
            self.step(Phase::Restore, "give the tablespaces to their owners", Tolerance::RecordsErrors, action);
        }
    }

    /// Gives the bootstrap superuser the name that it has in the dump: since PostgreSQL 16, `GRANTED BY` works for no other.
    fn bootstrap(&mut self, contents: &Contents) {
        let Some(name) = bootstrap_name(contents).filter(|_| self.it.server.major >= 16) else { return };
        let sql = |statements: Vec<String>| Action::Sql { database: PSQL_DATABASE.to_owned(), statements };
        let what = "give the first superuser its name in the dump";
        let loader = format!("create role {LOADER} superuser login");
        self.step(Phase::Restore, what, Tolerance::Strict, sql(vec![loader]));
        // No session can rename its own role; and what follows still connects as postgres.
        let rename = format!("alter role {SUPERUSER} rename to {}", quote_ident(name));
        let again = format!("create role {SUPERUSER} superuser createrole createdb replication bypassrls login");
        let psql = client(PSQL_DATABASE, LOADER).args([format!("--command={rename}"), format!("--command={again}")]);
        self.step(Phase::Restore, what, Tolerance::Strict, Action::Run(psql));
        let mut statements = vec![format!("drop role {LOADER}")];
        if !contents.roles_made.contains(SUPERUSER) {
            statements.push(format!("comment on role {SUPERUSER} is '{STAND_IN}'"));
            let text = "roles that the dump does not make, and this server needs: postgres (SUPERUSER)";
            self.note(NoteKind::Stubbed, text);
        }
        self.step(Phase::Restore, what, Tolerance::Strict, sql(statements));
    }

    /// Another superuser, for a text that takes the rights of `postgres` away in its midst.
    fn loader(&mut self, contents: &Contents) -> &'static str {
        if !contents.demotes {
            return SUPERUSER;
        }
        let statements = vec![format!("create role {LOADER} superuser login")];
        let action = Action::Sql { database: PSQL_DATABASE.to_owned(), statements };
        self.step(Phase::Restore, "make a superuser to load it", Tolerance::Strict, action);
        LOADER
    }

    /// Gives `postgres` its rights back.
    fn promote(&mut self, contents: &Contents) {
        if !contents.demotes {
            return;
        }
        let rights = format!("alter role {SUPERUSER} superuser createrole createdb replication bypassrls login");
        let psql = client(PSQL_DATABASE, LOADER).arg(format!("--command={rights}"));
        self.step(Phase::Restore, "give postgres its rights back", Tolerance::Strict, Action::Run(psql));
        // What the text made and gave to nobody is its loader's.
        let databases = contents.databases.iter().map(String::as_str).filter(|it| *it != "template0");
        for database in databases.filter(|it| *it != PSQL_DATABASE).chain([PSQL_DATABASE]) {
            let mut statements = vec![format!("reassign owned by {LOADER} to {SUPERUSER}")];
            if database == PSQL_DATABASE {
                statements.push(format!("drop role {LOADER}"));
            }
            let action = Action::Sql { database: database.to_owned(), statements };
            self.step(Phase::Restore, "remove the superuser that loaded it", Tolerance::RecordsErrors, action);
        }
        let text = "the dump takes the rights of a superuser from postgres: this server needs them, and gave them back";
        self.note(NoteKind::Deviation, text);
    }

    /// Globals first, then stubs for what is still missing.
    fn roles(&mut self) {
        let (it, mode) = (self.it, roles_mode(self.it));
        if mode == Roles::None {
            self.note(NoteKind::Deviation, "restored without owners and grants, as `roles: none` asks");
            return;
        }
        if let (Roles::Globals, Some(path)) = (mode, globals_path(it.source)) {
            let through = it.globals.map_or(Compression::None, |it| it.wrapped);
            let none = Contents::default();
            let globals = it.globals.map_or(&none, |it| &it.contents);
            self.bootstrap(globals);
            let into = psql(PSQL_DATABASE, false, self.loader(globals));
            let into = naming_bootstrap(into, globals);
            let from = path.to_owned();
            let action = Action::Stream { from, through, into };
            self.step(Phase::Restore, "load the globals", Tolerance::RecordsErrors, action);
            self.promote(globals);
        }
        let stubs = stubs(it);
        if stubs.is_empty() {
            return;
        }
        let logins = &it.facts.contents.connects_as;
        let stand_in = |role: &String| {
            // Who wrote such a script could make things in `public` as anybody, and languages as a superuser.
            let rights = if logins.contains(role) { "login superuser" } else { "nologin" };
            let role = quote_ident(role);
            [format!("create role {role} {rights}"), format!("comment on role {role} is '{STAND_IN}'")]
        };
        let statements = stubs.iter().flat_map(stand_in).collect();
        let action = Action::Sql { database: PSQL_DATABASE.to_owned(), statements };
        self.step(Phase::Restore, "create stubs for the dump's roles", Tolerance::Strict, action);
        let listed = stubs.into_iter().collect::<Vec<_>>().join(", ");
        let rights = if logins.is_empty() { "NOLOGIN" } else { "NOLOGIN; SUPERUSER where the script connects as them" };
        self.note(NoteKind::Stubbed, format!("roles that the dump needs and does not carry: {listed} ({rights})"));
    }

    /// Creates the database, unless the dump does; its name either way.
    fn database(&mut self) -> String {
        let (it, contents) = (self.it, &self.it.facts.contents);
        if it.facts.format == DumpFormat::Cluster {
            let special = |name: &&String| server::TEMPLATES.contains(&name.as_str()) || *name == PSQL_DATABASE;
            let first = contents.databases.iter().find(|name| !special(name));
            return first.cloned().unwrap_or_else(|| PSQL_DATABASE.to_owned());
        }
        self.stand_ins();
        if let [made, ..] = contents.databases.as_slice()
            && it.facts.format == DumpFormat::Plain
        {
            if contents.connects.is_empty() {
                let text = format!(
                    "the script makes the database {made}, and does not connect to it: what it makes lies in {PSQL_DATABASE}"
                );
                self.note(NoteKind::Deviation, text);
                return PSQL_DATABASE.to_owned();
            }
            return made.clone();
        }
        let own = it.facts.database.as_deref().or_else(|| only_connection(it));
        let name = it.restore.database.as_deref().or(own).unwrap_or("drill").to_owned();
        let windows = contents.create_database.as_deref().map(server::locales_of).unwrap_or_default();
        let windows = windows.into_iter().find(|it| drift::is_windows_locale(it));
        if let Some(windows) = &windows {
            self.note(
                NoteKind::Deviation,
                format!("the database's locale {windows} is one of Windows: another was used"),
            );
        }
        // Providers of locales came with 15; a lower major has the C library's only.
        let is_lowered = self.it.server.major < 15
            && contents.create_database.as_ref().is_some_and(|it| it.contains(" LOCALE_PROVIDER = "));
        let statement = match contents.create_database.as_ref().filter(|_| windows.is_none()) {
            Some(statement) if is_lowered => {
                let of_dump = server::locales_of(statement).into_iter().next();
                let locale = of_dump.unwrap_or_else(|| server::default_locale(it.server, contents.encoding.as_deref()));
                let encoding = contents.encoding.as_deref().unwrap_or("UTF8");
                self.note(NoteKind::Deviation, format!("the database was made with the C library's locale {locale}"));
                server::create_database(&name, encoding, &locale)
            }
            Some(statement) if own == Some(name.as_str()) => statement.clone(),
            Some(statement) => server::renamed(statement, &name),
            None => {
                let locale = server::default_locale(it.server, contents.encoding.as_deref());
                let encoding =
                    contents.encoding.as_deref().filter(|it| server::is_server_encoding(it)).unwrap_or("UTF8");
                let text =
                    format!("the dump does not say its database's locale: restored with {encoding} and {locale}");
                self.note(NoteKind::Deviation, text);
                server::create_database(&name, encoding, &locale)
            }
        };
        // template1 and postgres are there already, as they would be in a new cluster.
        if !server::TEMPLATES.contains(&name.as_str()) && name != PSQL_DATABASE {
            let mut statements = vec![statement];
            let owner = contents.database_owner.as_ref().filter(|_| roles_mode(it) != Roles::None);
            if let Some(owner) = owner {
                let (database, owner) = (quote_ident(&name), quote_ident(owner));
                statements.push(format!("alter database {database} owner to {owner}"));
            }
            let action = Action::Sql { database: PSQL_DATABASE.to_owned(), statements };
            self.step(Phase::Restore, "create the database", Tolerance::Strict, action);
        } else {
            let text =
                format!("the database {name} is there from the start: its encoding and locale are this server's own");
            self.note(NoteKind::Deviation, text);
        }
        self.old_public(&name);
        name
    }

    /// Up to 14, everybody could make things in the schema `public`: so dumps do not grant it.
    fn old_public(&mut self, database: &str) {
        let (it, from) = (self.it, self.it.facts.major());
        let old = from.is_none_or(|it| it < 15) && it.server.major >= 15;
        if !old || !it.facts.contents.as_owners || makes_databases(it) {
            return;
        }
        let statements = vec!["grant create on schema public to public".to_owned()];
        let action = Action::Sql { database: database.to_owned(), statements };
        self.step(Phase::Restore, "let owners make things in public", Tolerance::Strict, action);
        let text = "everybody may make things in the schema public, as before PostgreSQL 15: the dump makes them as their owners";
        self.note(NoteKind::Deviation, text);
    }

    /// Databases that a text needs and cannot make here: those that it only connects to, and those with a locale of Windows.
    fn stand_ins(&mut self) {
        let it = self.it;
        let contents = &it.facts.contents;
        if it.facts.format != DumpFormat::Plain {
            return;
        }
        let locale = server::default_locale(it.server, None);
        let there = |name: &str| name == PSQL_DATABASE || server::TEMPLATES.contains(&name);
        let mut needed = BTreeSet::new();
        let own = only_connection(it);
        let others = contents.connects.iter().filter(|it| !contents.databases.contains(it) && !there(it));
        for name in others.filter(|it| own != Some(it)) {
            self.note(
                NoteKind::Stubbed,
                format!("the database {name}, which the script connects to and does not make"),
            );
            needed.insert(name);
        }
        for (name, windows) in contents.locales.iter().filter(|(_, it)| drift::is_windows_locale(it)) {
            let text = format!("the locale {windows} of database {name} is one of Windows: {locale} was used");
            self.note(NoteKind::Deviation, text);
            needed.insert(name);
        }
        let own = |name: &String| contents.locales.get(name).cloned().unwrap_or_else(|| locale.clone());
        let encoding = contents.encoding.as_deref().filter(|it| server::is_server_encoding(it)).unwrap_or("UTF8");
        let copies = contents.wrong_templates.iter().filter(|it| !needed.contains(it));
        let copies: Vec<String> = copies.map(|it| server::create_database(it, encoding, &own(it))).collect();
        if needed.is_empty() && copies.is_empty() {
            return;
        }
        let plain = needed.into_iter().map(|it| server::create_database(it, "UTF8", &locale));
        let statements = plain.chain(copies).collect();
        let action = Action::Sql { database: PSQL_DATABASE.to_owned(), statements };
        self.step(Phase::Restore, "create databases that the script cannot", Tolerance::Strict, action);
    }

    fn archive(&mut self, database: &str) {
        let it = self.it;
        let jobs = it.restore.jobs.unwrap_or(1);
        let format = match it.facts.format {
            DumpFormat::Directory => "d",
            DumpFormat::Tar => "t",
            DumpFormat::Custom | DumpFormat::Plain | DumpFormat::Cluster | DumpFormat::Globals => "c",
        };
        let mut into = Command::new("pg_restore")
            .args([format!("--format={format}"), format!("--dbname={}", server::conninfo(database))])
            .arg("--host")
            .arg(Arg::path(At::Run, ""))
            .args([format!("--username={SUPERUSER}"), "--no-password".to_owned(), "--verbose".to_owned()]);
        into.env = server::client_env();
        if roles_mode(it) == Roles::None {
            into = into.args(["--no-owner", "--no-privileges"]);
        }
        if let Some(selected) = &it.facts.contents.selected {
            let mut text = selected.iter().map(|id| format!("{id};")).collect::<Vec<_>>().join("\n");
            text.push('\n');
            let action = Action::Write { at: At::Run, path: LIST_FILE.to_owned(), text };
            self.step(Phase::Restore, "write the list of what to restore", Tolerance::Strict, action);
            into = into.arg("--use-list").arg(Arg::path(At::Run, LIST_FILE));
            let chosen =
                [it.restore.select.schemas.as_slice(), it.restore.select.tables.as_slice()].concat().join(", ");
            self.note(
                NoteKind::NotChecked,
                format!("only a part of the dump was restored: {chosen}, and what it needs"),
            );
        }
        let seeks = jobs > 1 || it.facts.format == DumpFormat::Directory;
        let action = if seeks {
            let backup = self.seekable();
            Action::Run(into.arg(format!("--jobs={jobs}")).arg(backup))
        } else {
            // pg_restore reads no further than the last thing that was selected: the rest was not counted.
            if it.facts.contents.selected.is_some() {
                self.scans.push(it.file.path.clone());
            }
            Action::Stream { from: it.file.path.clone(), through: it.facts.wrapped, into }
        };
        self.step(Phase::Restore, "restore the archive", Tolerance::RecordsErrors, action);
    }

    /// The backup as a path in the room: mounted where any user may read it, else copied.
    fn seekable(&mut self) -> Arg {
        let file = &self.it.file;
        // What it holds is counted once the clock has stopped.
        self.scans.push(file.path.clone());
        let sealed = self.it.facts.sealed;
        if file.world_readable && !self.it.server.streams && !sealed {
            self.inputs.push(file.path.clone());
            return Arg::path(At::Input(self.inputs.len() - 1), "");
        }
        let name = "backup".to_owned();
        let action = Action::Copy { from: file.path.clone(), name: name.clone() };
        self.step(Phase::Acquire, "copy the backup into the sandbox", Tolerance::Strict, action);
        let why = if sealed {
            "the backup was decrypted into the sandbox first: parallel jobs have to seek in it"
        } else if Service::of(&file.path).is_some() {
            "the backup was fetched into the sandbox first: parallel jobs have to seek in it"
        } else if self.it.server.streams {
            "the backup was copied first: the container engine does not see the files of this machine"
        } else {
            "the backup was copied first: the server's user may not read it where it lies"
        };
        self.note(NoteKind::Deviation, why);
        Arg::path(At::Spool, &name)
    }

    fn text(&mut self, database: &str) {
        let it = self.it;
        // A dump that makes its databases itself is run from a database that is always there.
        let first = if makes_databases(it) { PSQL_DATABASE } else { database };
        self.bootstrap(&it.facts.contents);
        let into = psql(first, stops_on_error(it), self.loader(&it.facts.contents));
        let into = naming_bootstrap(into, &it.facts.contents);
        let action = Action::Stream { from: it.file.path.clone(), through: it.facts.wrapped, into };
        let what = if it.facts.format == DumpFormat::Cluster { "restore the cluster dump" } else { "restore the dump" };
        let tolerance = if stops_on_error(it) { Tolerance::Strict } else { Tolerance::RecordsErrors };
        self.step(Phase::Restore, what, tolerance, action);
        self.promote(&it.facts.contents);
    }

    /// Set last: `default_transaction_read_only` among them would stop the restore.
    fn properties(&mut self, database: &str) {
        let it = self.it;
        let Some(properties) = &it.facts.contents.database_properties else {
            return;
        };
        if it.facts.database.as_deref() != Some(database) {
            let text = "the database's own settings were left out: it was restored under another name";
            return self.note(NoteKind::Deviation, text);
        }
        let action = Action::Sql { database: PSQL_DATABASE.to_owned(), statements: vec![properties.clone()] };
        self.step(Phase::Restore, "set the database's properties", Tolerance::RecordsErrors, action);
    }

    fn script(&mut self, what: &str, path: Option<&str>, database: &str) {
        if let Some(path) = path {
            let from = path.to_owned();
            let action = Action::Stream { from, through: Compression::None, into: psql(database, true, SUPERUSER) };
            self.step(Phase::Restore, what, Tolerance::Scenario, action);
        }
    }

    /// A loaded database without statistics is not back in service: its plans would be guesses.
    fn analyze(&mut self, database: &str) {
        let databases = match self.it.facts.format {
            DumpFormat::Cluster => self.it.facts.contents.databases.clone(),
            DumpFormat::Custom | DumpFormat::Directory | DumpFormat::Tar | DumpFormat::Plain | DumpFormat::Globals => {
                vec![database.to_owned()]
            }
        };
        for database in databases.into_iter().filter(|name| name != "template0") {
            let statements = vec!["analyze".to_owned()];
            let action = Action::Sql { database, statements };
            self.step(Phase::Ready, "analyze the restored database", Tolerance::RecordsErrors, action);
        }
    }

    /// Bytes that did not pass through us are digested, and the files of a directory decoded, once the clock has stopped.
    fn digest(&mut self) {
        for path in std::mem::take(&mut self.scans) {
            let action = Action::Scan { from: path };
            self.step(Phase::Validate, "digest the backup", Tolerance::Strict, action);
        }
    }

    fn not_carried(&mut self) {
        let it = self.it;
        if it.facts.format == DumpFormat::Cluster {
            return;
        }
        let globals = it.globals.is_some();
        let what = if globals { "other databases of the cluster" } else { "roles, tablespaces and other databases" };
        self.note(NoteKind::NotCarried, format!("{what}: a dump of one database does not hold them"));
        let major = it.facts.major();
        if major.is_some_and(|major| major != it.server.major) {
            let (from, to) = (it.facts.server_version.as_deref().unwrap_or("?"), &it.server.version);
            let text = format!("dumped from PostgreSQL {from}, restored into PostgreSQL {to}");
            self.note(NoteKind::Deviation, text);
        }
        if it.facts.contents.row_security_on {
            let text = "rows hidden by row security from the user who dumped (SET row_security = on)";
            self.note(NoteKind::NotCarried, text);
        }
    }
}

fn globals_path(source: &Source) -> Option<&str> {
    match source {
        Source::PgDump(PgDump { globals, .. }) => globals.as_deref(),
        Source::PgDumpall(_) | Source::BaseBackup(_) => None,
    }
}

fn roles_mode(it: &Ingredients<'_>) -> Roles {
    let default = if globals_path(it.source).is_some() { Roles::Globals } else { Roles::Stubs };
    it.restore.roles.unwrap_or(default)
}

/// What the dump holds, then what its globals hold.
fn all_contents<'a>(it: &Ingredients<'a>) -> impl Iterator<Item = &'a Contents> {
    [Some(&it.facts.contents), it.globals.map(|it| &it.contents)].into_iter().flatten()
}

/// Tablespaces that the dump or its globals make or need.
fn tablespaces(it: &Ingredients<'_>) -> BTreeSet<String> {
    all_contents(it).flat_map(|it| it.tablespaces.iter().chain(&it.tablespaces_made)).cloned().collect()
}

fn made_tablespaces<'a>(it: &Ingredients<'a>) -> BTreeSet<&'a str> {
    all_contents(it).flat_map(|it| &it.tablespaces_made).map(String::as_str).collect()
}

/// A table that keeps `pg_dumpall --clean` from dropping a tablespace, which it could not make again.
fn keeper(tablespace: &str, make: bool) -> String {
    let table = quote_ident(&format!("pgdrill keeps {tablespace}"));
    if make {
        format!("create table public.{table} () tablespace {}", quote_ident(tablespace))
    } else {
        format!("drop table public.{table}")
    }
}

/// Roles that the dump refers to and nobody makes.
fn stubs(it: &Ingredients<'_>) -> BTreeSet<String> {
    let mut needed = it.facts.contents.roles.clone();
    needed.extend(it.facts.contents.database_owner.clone());
    let made = it.globals.filter(|_| roles_mode(it) == Roles::Globals).map(|it| &it.contents.roles_made);
    needed.retain(|role| {
        let by_dump = it.facts.contents.roles_made.contains(role);
        let by_globals = made.is_some_and(|made| made.contains(role));
        role != SUPERUSER && !role.starts_with("pg_") && !by_dump && !by_globals
    });
    needed
}

/// Plain dumps stop at their first error, as a careful person would run them, unless errors are allowed by name or must be
/// expected: then psql goes on, and every error is judged.
fn stops_on_error(it: &Ingredients<'_>) -> bool {
    // What other majors say differently (see `drift`) is no reason to stop: nor is what only nobody knows to be the same.
    let drifts = it.facts.major() != Some(it.server.major) || !it.facts.contents.locales.is_empty();
    // With --clean, the first statements drop what is not there: in a new database each of them is an error.
    let clean = it.facts.contents.drops && it.facts.server_version.is_some();
    // `pg_dump -n public` makes the schema that every database has.
    let promised = it.facts.contents.promised.as_ref();
    let makes_public =
        promised.is_some_and(|it| it.objects.iter().any(|it| it.kind == promised::Kind::Schema && it.name == "public"));
    let expects = clean || drifts || makes_public || !it.facts.contents.wrong_templates.is_empty();
    it.facts.format != DumpFormat::Cluster && it.restore.allow_errors.is_empty() && !expects
}

/// Whether the text itself says CREATE DATABASE and \connect. Archives are restored without.
fn makes_databases(it: &Ingredients<'_>) -> bool {
    let text = !it.facts.format.is_archive();
    text && (!it.facts.contents.databases.is_empty() || it.facts.format == DumpFormat::Cluster)
}

/// The one database that a text connects to and does not make: what it restores goes there.
fn only_connection<'a>(it: &Ingredients<'a>) -> Option<&'a str> {
    let contents = &it.facts.contents;
    let mut names = contents.connects.iter();
    let (only, none) = (names.next()?, names.next());
    let its_own = it.facts.format == DumpFormat::Plain && contents.databases.is_empty() && none.is_none();
    (its_own && it.restore.database.is_none()).then_some(only.as_str())
}

/// psql that runs what it is given on its standard input.
fn psql(database: &str, stop_on_error: bool, role: &str) -> Command {
    client(database, role).arg("--file=-").arg(format!("--set=ON_ERROR_STOP={}", u8::from(stop_on_error)))
}

/// The bootstrap superuser of the cluster that was dumped, where it is known to have another name than ours.
fn bootstrap_name(contents: &Contents) -> Option<&str> {
    contents.grantor.as_deref().filter(|it| *it != SUPERUSER && contents.roles_made.contains(*it))
}

/// A variable that the text does not know, by which its errors are judged.
const BOOTSTRAP: &str = "--set=pgdrill_bootstrap=";

fn naming_bootstrap(psql: Command, contents: &Contents) -> Command {
    psql.args(bootstrap_name(contents).map(|it| format!("{BOOTSTRAP}{it}")))
}

fn client(database: &str, role: &str) -> Command {
    let mut psql = Command::new("psql")
        .args(["--no-psqlrc", "--quiet", "--no-password", "--output=/dev/null"])
        .args(["--set=ECHO=errors", "--set=VERBOSITY=verbose"])
        .args([format!("--dbname={}", server::conninfo(database)), format!("--username={role}")])
        .arg("--host")
        .arg(Arg::path(At::Run, ""));
    psql.env = server::client_env();
    psql
}

/// Errors that every restore of this kind gives, and that mean nothing.
pub fn is_expected_error(step: &Step, error: &StatementError) -> bool {
    let psql = match &step.action {
        Action::Stream { into, .. } => Some(into).filter(|it| it.program == "psql"),
        Action::Run(_)
        | Action::Scan { .. }
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
        | Action::ReadWal { .. } => None,
    };
    if drift::explains(error).is_some() {
        return true;
    }
    let Some(psql) = psql else { return false };
    let named = psql.args.iter().find_map(|it| if let Arg::Text(it) = it { it.strip_prefix(BOOTSTRAP) } else { None });
    let statement = error.statement.as_deref().unwrap_or_default().to_lowercase();
    let statement = statement.trim_end_matches(';');
    let special = |prefix: &str| {
        let name = statement.strip_prefix(prefix).map(|it| it.strip_prefix("if exists ").unwrap_or(it));
        let name = name.and_then(|it| it.split_whitespace().next());
        name.is_some_and(|it| it == SUPERUSER || server::TEMPLATES.contains(&it))
    };
    match error.sqlstate.as_deref().unwrap_or_default() {
        // We made it, elsewhere, and hold on to it.
        "42710" if statement.starts_with("create tablespace ") => error.message.starts_with("tablespace \""),
        "55000" if statement.starts_with("drop tablespace ") => true,
        // pg_dumpall creates the bootstrap superuser, which initdb has made already.
        "42710" => {
            let made = |it: &str| error.message == format!("role \"{it}\" already exists");
            made(SUPERUSER) || named.is_some_and(made)
        }
        // postgres stays a superuser where it is the one that the cluster began with (16 and newer).
        "0A000" | "42501" | "22023" if statement.starts_with(&format!("alter role {SUPERUSER} ")) => true,
        // What --clean drops is not there yet: nothing is lost by that.
        "42P01" | "42704" | "3D000" | "42883" | "3F000" | "42703" => {
            let unlinks = statement.starts_with("select pg_catalog.lo_unlink");
            unlinks
                || statement.starts_with("drop ")
                || (statement.starts_with("alter ") && statement.contains(" drop "))
        }
        // Nor can --clean drop, and make again, what initdb has made and we are connected to.
        "55006" => special("drop role ") || special("drop database "),
        // We made it already, from a template that can be copied with another encoding or locale.
        "22023" if statement.starts_with("create database ") => error.message.contains(" of the template database"),
        // Or we made it, with a locale that is here.
        "42P04" => {
            let other = statement.contains("lc_c") || statement.contains("encoding") || statement.contains("locale");
            special("create database ") || other
        }
        _ => false,
    }
}
