//! From what is written to what is meant: valid drills, or the mistakes that only their meaning shows.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::collect::{At, Findings};
use super::problem::{Mistake, Span, line_number, nearest};
use super::units::{Length, Name, Text};
use super::wire::{
    WireDefaults, WireDrill, WireFile, WireObjectives, WirePgDump, WirePick, WirePostgres, WireReady, WireRestore,
    WireSource, WireWaiver,
};
use super::{Drill, Environment, File, Objectives, Postgres, Ready, Rto, Scope, Waiver, paths};
use crate::check::Check;
use crate::format::Selection;
use crate::phase::Phase;
use crate::source::{Location, PgDump, PgDumpall, Pick, Restore, Roles, Source};

/// Settings that the sandbox decides itself, and why.
const OURS: &[(&str, &str)] = &[
    ("fsync", "`durability` decides it"),
    ("full_page_writes", "`durability` decides it"),
    ("synchronous_commit", "`durability` decides it"),
    ("listen_addresses", "a restored server has no network"),
    ("port", "a restored server has no network"),
    ("unix_socket_directories", "the sandbox decides it"),
    ("unix_socket_permissions", "the sandbox decides it"),
    ("data_directory", "the sandbox decides it"),
    ("config_file", "the sandbox decides it"),
    ("hba_file", "the sandbox decides it"),
    ("ident_file", "the sandbox decides it"),
    ("external_pid_file", "the sandbox decides it"),
    ("archive_mode", "a restored server must not write to the archive"),
    ("archive_command", "a restored server must not write to the archive"),
    ("archive_library", "a restored server must not write to the archive"),
    ("archive_cleanup_command", "a restored server must not run foreign commands"),
    ("recovery_end_command", "a restored server must not run foreign commands"),
    ("restore_command", "a restored server must not run foreign commands"),
    ("primary_conninfo", "a restored server must not reach production"),
];

/// Makes the drills of one file.
pub(super) struct Converter<'a> {
    pub(super) file: &'a File,
    pub(super) text: &'a str,
    pub(super) environment: &'a Environment,
    pub(super) findings: &'a Findings,
    /// Files that the scenario wants compared.
    pub(super) named: &'a RefCell<BTreeSet<String>>,
}

impl Converter<'_> {
    /// The drills, each with the place of its name.
    pub(super) fn file(&self, wire: WireFile) -> Vec<(Drill, Span)> {
        let WireFile { version, defaults, drills } = wire;
        if version.value != 1 {
            let message = format!("this is version {} of the format, and this pgdrill reads version 1", version.value);
            self.note(Mistake::new(version.span, message).help("use a newer pgdrill, or write `version: 1`"));
        }
        if drills.value.is_empty() && !self.findings.has_mistake_in(drills.extent) {
            self.note(Mistake::new(drills.span, "no drills").help("list at least one below `drills:`"));
        }
        let defaults = defaults.unwrap_or_default();
        drills.value.into_iter().map(|it| self.drill(it, &defaults)).collect()
    }

    pub(super) fn note(&self, mistake: Mistake) {
        self.findings.note(mistake);
    }

    pub(super) fn line(&self, span: Span) -> u32 {
        line_number(self.text, span.start)
    }

    fn drill(&self, wire: At<WireDrill>, defaults: &WireDefaults) -> (Drill, Span) {
        let line = self.line(wire.span);
        let wire = wire.value;
        if wire.name.value.0.contains(|it: char| it.is_control()) {
            self.note(Mistake::new(wire.name.span, "a drill's name must be one line of plain text"));
        }
        self.scope(wire.scope.as_ref(), &wire.source.value);
        let restore = self.restore(wire.restore.unwrap_or_default(), defaults, &wire.source.value);
        let mut budgets = BTreeMap::new();
        for source in [defaults.budgets.as_ref(), wire.budgets.as_ref()].into_iter().flatten() {
            let phases = [
                (Phase::Prepare, &source.prepare),
                (Phase::Inspect, &source.inspect),
                (Phase::Provision, &source.provision),
                (Phase::Acquire, &source.acquire),
                (Phase::Restore, &source.restore),
                (Phase::Recover, &source.recover),
                (Phase::Ready, &source.ready),
                (Phase::Validate, &source.validate),
                (Phase::Teardown, &source.teardown),
            ];
            budgets.extend(phases.into_iter().filter_map(|(phase, it)| Some((phase, it.as_ref()?.0))));
        }
        let checks_extent = wire.checks.as_ref().map(|it| it.extent).unwrap_or_default();
        let checks = self.checks(wire.checks.map(|it| it.value).unwrap_or_default());
        let drill = Drill {
            tags: strings(wire.tags),
            file: self.file.name.clone(),
            line: Some(line),
            runtime: wire.runtime.or(defaults.runtime).unwrap_or_default(),
            source: self.source(wire.source.value),
            scope: Scope::Database,
            restore,
            postgres: self.postgres(&wire.postgres.unwrap_or_default(), defaults.postgres.as_ref()),
            objectives: wire.objectives.map(|it| self.objectives(it.value)).unwrap_or_default(),
            budgets,
            durability: wire.durability.or(defaults.durability).unwrap_or_default(),
            ready: wire.ready.map(|it| {
                let WireReady { sql, database, role } = it;
                Ready { sql: sql.0, database: database.map(|it| it.0), role: role.map(|it| it.0) }
            }),
            waivers: self.waivers(wire.waivers.unwrap_or_default(), &checks, checks_extent),
            checks,
            name: wire.name.value.0.trim().to_owned(),
        };
        (drill, wire.name.span)
    }

    fn scope(&self, scope: Option<&At<Scope>>, source: &WireSource) {
        let Some(scope) = scope else { return };
        let message = match (scope.value, source) {
            (Scope::Database, WireSource::PgDump(_)) => return,
            (Scope::Database, WireSource::PgDumpall(_)) => "a pg_dumpall brings back more than a `database`",
            (Scope::Cluster, _) => "the scope `cluster` is not judged by this version",
            (Scope::Objects, _) => "the scope `objects` is not judged by this version",
        };
        self.note(Mistake::new(scope.span, message).help("take the key away, and say with checks what must be there"));
    }

    fn source(&self, wire: WireSource) -> Source {
        match wire {
            WireSource::PgDump(WirePgDump { path, pick, globals, timezone, trust }) => Source::PgDump(PgDump {
                location: Location {
                    path: self.path(&path, true),
                    pick: self.pick(pick.as_ref()),
                    timezone: timezone.map(|it| it.0),
                    trusted: trust.is_some(),
                },
                globals: globals.map(|it| self.path(&it, false)),
            }),
            WireSource::PgDumpall(it) => Source::PgDumpall(PgDumpall {
                location: Location {
                    path: self.path(&it.path, true),
                    pick: self.pick(it.pick.as_ref()),
                    timezone: it.timezone.map(|it| it.0),
                    trusted: it.trust.is_some(),
                },
            }),
        }
    }

    fn pick(&self, wire: Option<&WirePick>) -> Pick {
        match wire {
            None | Some(WirePick::Newest) => Pick::Newest,
            Some(WirePick::Oldest) => Pick::Oldest,
            Some(WirePick::All) => Pick::All,
            Some(WirePick::Random(seed)) => Pick::Random { seed: seed.unwrap_or(self.environment.seed) },
        }
    }

    /// An absolute path: what is relative begins at the scenario file's directory.
    pub(super) fn path(&self, path: &At<Text>, pattern: bool) -> String {
        let text = path.value.0.trim();
        if text.contains("://") {
            let message = format!("`{text}` is not a file: other stores are not supported by this version");
            self.note(Mistake::new(path.span, message).help("give a path on this machine"));
        } else if text.starts_with('~') {
            let mistake = Mistake::new(path.span, "`~` is not expanded in a scenario file");
            self.note(mistake.help(format!("write `${{HOME}}{}`", text.trim_start_matches('~'))));
        } else if pattern && let Err(error) = globset::Glob::new(text) {
            self.note(Mistake::new(path.span, format!("not a valid pattern: {}", error.kind())));
        }
        paths::resolve(&self.file.directory, text)
    }

    fn restore(&self, wire: WireRestore, defaults: &WireDefaults, source: &WireSource) -> Restore {
        let default = defaults.restore.as_ref();
        self.restore_fits(&wire, source);
        let mut settings = BTreeMap::new();
        let written = [default.and_then(|it| it.settings.as_ref()), wire.settings.as_ref()];
        for (name, value) in written.into_iter().flatten().flatten() {
            self.setting(name, value);
            settings.insert(name.to_ascii_lowercase(), value.value.0.trim().to_owned());
        }
        let is_archive = matches!(source, WireSource::PgDump(_));
        let default_jobs = default.and_then(|it| it.jobs.as_ref()).filter(|_| is_archive).map(|it| it.0);
        Restore {
            jobs: wire.jobs.map(|it| it.value.0).or(default_jobs),
            roles: wire.roles.map(|it| it.value),
            allow_errors: wire.allow_errors.into_iter().flatten().map(|it| self.allowance(&it)).collect(),
            select: Selection { schemas: names(wire.schemas), tables: names(wire.tables) },
            before: wire.before.map(|it| self.path(&it, false)),
            after: wire.after.map(|it| self.path(&it, false)),
            settings,
            database: wire.database.map(|it| it.value.0),
        }
    }

    /// What cannot go with this kind of source.
    fn restore_fits(&self, wire: &WireRestore, source: &WireSource) {
        match source {
            WireSource::PgDump(it) => {
                if let Some(roles) = &wire.roles
                    && roles.value == Roles::Globals
                    && it.globals.is_none()
                {
                    let mistake = Mistake::new(roles.span, "`roles: globals`, and the source names no `globals` file");
                    self.note(mistake.help("name what `pg_dumpall -g` wrote as `globals:` of the source"));
                }
            }
            WireSource::PgDumpall(_) => {
                let wrong = [
                    (wire.jobs.as_ref().map(|it| it.span), "jobs", "its text is restored by one psql"),
                    (wire.schemas.as_ref().map(|it| it.span), "schemas", "its text cannot be restored in part"),
                    (wire.tables.as_ref().map(|it| it.span), "tables", "its text cannot be restored in part"),
                    (wire.database.as_ref().map(|it| it.span), "database", "it brings its databases with their names"),
                ];
                for (span, key, why) in wrong {
                    let Some(span) = span else { continue };
                    self.note(Mistake::new(span, format!("`{key}` has no meaning for a pg_dumpall: {why}")));
                }
                if let Some(roles) = wire.roles.as_ref().filter(|it| it.value == Roles::Globals) {
                    let mistake = Mistake::new(roles.span, "`roles: globals` has no meaning for a pg_dumpall");
                    self.note(mistake.help("it carries its roles itself: take the key away"));
                }
            }
        }
    }

    fn setting(&self, name: &str, value: &At<Text>) {
        let lower = name.to_ascii_lowercase();
        if let Some((_, why)) = OURS.iter().find(|(it, _)| *it == lower) {
            self.note(Mistake::new(value.span, format!("the setting `{name}` cannot be given: {why}")));
        }
        let plain = |it: char| it.is_ascii_alphanumeric() || it == '_' || it == '.';
        if name.is_empty() || !name.chars().all(plain) {
            self.note(Mistake::new(value.span, format!("`{name}` is no name of a server setting")));
        }
        if value.value.0.contains(|it: char| it.is_control()) {
            self.note(Mistake::new(value.span, format!("the value of `{name}` must be one line of plain text")));
        }
    }

    fn allowance(&self, it: &At<Text>) -> String {
        let text = it.value.0.trim().to_owned();
        if text.chars().count() < 5 {
            let message = format!("`{text}` would allow nearly every error");
            self.note(
                Mistake::new(it.span, message).help("give a SQLSTATE, like `42501`, or a longer part of the message"),
            );
        }
        text
    }

    fn postgres(&self, wire: &WirePostgres, defaults: Option<&WirePostgres>) -> Postgres {
        let given = [Some(wire), defaults];
        let layers = || given.iter().copied().flatten();
        let major = layers().find_map(|it| it.major.as_ref());
        if let Some(major) = major
            && !(9..=99).contains(&major.value)
        {
            let mistake = Mistake::new(major.span, format!("there is no PostgreSQL {}", major.value));
            self.note(mistake.help("give the major version alone, like `17`"));
        }
        let image = layers().find_map(|it| it.image.as_ref());
        if let Some(image) = image {
            let rest = image.value.0.replace("{major}", "");
            if rest.contains(['{', '}']) || rest.contains(char::is_whitespace) {
                let mistake = Mistake::new(image.span, format!("`{}` is no name of an image", image.value.0));
                self.note(mistake.help("only `{major}` is replaced, as in `postgres:{major}`"));
            }
        }
        Postgres {
            major: major.map(|it| it.value),
            image: image.map(|it| it.value.0.clone()),
            memory_bytes: layers().find_map(|it| it.memory.as_ref()).map(|it| it.0),
            shm_bytes: layers().find_map(|it| it.shm_size.as_ref()).map(|it| it.0),
            cpus: layers().find_map(|it| it.cpus.as_ref()).map(|it| it.0),
        }
    }

    fn objectives(&self, wire: WireObjectives) -> Objectives {
        let WireObjectives { rto, rto_overhead, rto_span, max_age } = wire;
        if rto.is_none() {
            let alone = [
                (rto_overhead.as_ref().map(|it| it.span), "rto_overhead"),
                (rto_span.as_ref().map(|it| it.span), "rto_span"),
            ];
            for (span, key) in alone.into_iter().filter_map(|(span, key)| Some((span?, key))) {
                self.note(
                    Mistake::new(span, format!("`{key}` without an `rto` to judge"))
                        .help("give `rto`, or take it away"),
                );
            }
        }
        if let (Some(rto), Some(overhead)) = (&rto, &rto_overhead)
            && overhead.value.0 >= rto.value.0
        {
            let mistake = Mistake::new(overhead.span, "the declared overhead leaves no time for the recovery");
            self.note(mistake.help("`rto_overhead` is part of `rto`: it must be shorter"));
        }
        let overhead = rto_overhead.map(|it| it.value.0).unwrap_or_default();
        let span = rto_span.map_or(Phase::Provision..=Phase::Ready, |it| it.value.0);
        let rto = rto.map(|it| Rto { limit: it.value.0, overhead, span });
        Objectives { rto, rpo: None, max_age: max_age.map(|Length(it)| it) }
    }

    fn waivers(&self, wire: Vec<WireWaiver>, checks: &[Check], checks_extent: Span) -> Vec<Waiver> {
        let known = || checks.iter().map(|it| it.name.as_str());
        let mut waivers = Vec::new();
        for waiver in wire {
            let name = waiver.check.value.0.trim().to_owned();
            if !known().any(|it| it == name) {
                // A check that could not be read is not there to be named: its own mistake is enough.
                if !self.findings.has_mistake_in(checks_extent) {
                    let mistake = Mistake::new(waiver.check.span, format!("this drill has no check `{name}`"));
                    self.note(match nearest(&name, known()) {
                        Some(near) => mistake.label(format!("did you mean `{near}`?")),
                        None => mistake.help("a waiver names the check as it is named, or as reports call it"),
                    });
                }
                continue;
            }
            waivers.push(Waiver {
                check: name,
                object: waiver.object.map(|it| it.0),
                reason: waiver.reason.0,
                until: waiver.until.0,
            });
        }
        waivers
    }
}

fn names(names: Option<At<Vec<Name>>>) -> Vec<String> {
    names.into_iter().flat_map(|it| it.value).map(|it| it.0).collect()
}

pub(super) fn strings(texts: Option<Vec<Text>>) -> Vec<String> {
    texts.into_iter().flatten().map(|it| it.0).collect()
}
