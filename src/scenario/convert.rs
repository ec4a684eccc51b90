//! From what is written to what is meant: valid drills, or the mistakes that only their meaning shows.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::collect::{At, Findings};
use super::problem::{Mistake, Span, line_number, nearest};
use super::units::{Length, Name, Text};
use super::wire::{
    WireBarman, WireDatabasus, WireDefaults, WireDrill, WireFile, WireMachine, WireObjectives, WirePgBackRest,
    WirePgDump, WirePick, WirePostgres, WireReady, WireRestore, WireSecret, WireSource, WireStore, WireTarget,
    WireTargetKeys, WireTrust, WireWaiver, WireWalG,
};
use super::{Drill, Environment, File, Objectives, Postgres, Ready, Rto, Waiver, claims, paths};
use crate::check::{BUILT_IN, Check};
use crate::format::Selection;
use crate::format::machine::{Architecture, Machine};
use crate::phase::Phase;
use crate::source::service::Service;
use crate::source::{
    BaseBackup, BaseTool, Cipher, DumpTool, KeyRef, Location, PgDump, PgDumpall, Pick, Restore, Roles, Secret, Source,
};
use crate::target::{Point, Target, Timeline};

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

/// What all sources say that are a tool's own place.
struct Repository<'a> {
    path: &'a At<Text>,
    pick: Option<&'a At<WirePick>>,
    store: Option<&'a At<WireStore>>,
    made_on: Option<&'a At<WireMachine>>,
    trust: Option<&'a WireTrust>,
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
        let mut wire = wire.value;
        let sweep = self.sweep(&mut wire);
        let listed = wire.copies.as_ref().map(|it| it.span);
        if wire.name.value.0.contains(|it: char| it.is_control()) {
            self.note(Mistake::new(wire.name.span, "a drill's name must be one line of plain text"));
        }
        let scope = self.scope(&wire);
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
        let mut checks = self.checks(wire.checks.map(|it| it.value).unwrap_or_default());
        checks.extend(wire.expect.map(|it| self.expected(it, &checks)).unwrap_or_default());
        let mut target = self.target(wire.target, &wire.source.value);
        if let Some(sweep) = &sweep {
            target = Target { timeline: sweep.timeline, ..Target::default() };
        }
        let objectives =
            wire.objectives.map(|it| self.objectives(it.value, &wire.source.value, listed)).unwrap_or_default();
        checks.extend(objectives.heartbeat.as_ref().map(claims::heartbeat_check));
        let source = self.source(wire.source.value);
        let (copies, chosen) = self.copies(wire.copies, wire.restore_from.as_ref(), &source);
        let drill = Drill {
            tags: strings(wire.tags),
            file: self.file.name.clone(),
            line: Some(line),
            runtime: wire.runtime.or(defaults.runtime).unwrap_or_default(),
            objectives,
            source,
            copies,
            scope,
            target,
            sweep,
            restore,
            postgres: self.postgres(&wire.postgres.unwrap_or_default(), defaults.postgres.as_ref()),
            budgets,
            durability: wire.durability.or(defaults.durability).unwrap_or_default(),
            keep: wire.keep.or(defaults.keep).unwrap_or_default(),
            ready: wire.ready.map(|it| {
                let WireReady { sql, database, role } = it;
                Ready { sql: sql.0, database: database.map(|it| it.0), role: role.map(|it| it.0) }
            }),
            waivers: self.waivers(wire.waivers.unwrap_or_default(), &checks, checks_extent),
            checks,
            name: wire.name.value.0.trim().to_owned(),
        };
        (chosen.map_or_else(|| drill.clone(), |it| drill.from_copy(it)), wire.name.span)
    }

    fn source(&self, wire: WireSource) -> Source {
        match wire {
            WireSource::PgDump(WirePgDump { path, pick, globals, timezone, store, trust }) => Source::PgDump(PgDump {
                location: Location {
                    store: self.store(store.as_ref(), &path, None),
                    path: self.path(&path, true),
                    pick: self.pick(pick.as_ref(), false),
                    timezone: timezone.map(|it| it.0),
                    trusted: trust.is_some(),
                    key: None,
                },
                globals: globals.map(|it| self.path(&it, false)),
                tool: DumpTool::PgDump,
            }),
            WireSource::Databasus(it) if it.is_bundle() => self.bundle(&it),
            WireSource::Databasus(it) => {
                let path = self.path(&it.path, true);
                let secret = it.secret_key.map(|it| self.secret(&it.value));
                Source::PgDump(PgDump {
                    location: Location {
                        store: self.store(it.store.as_ref(), &it.path, None),
                        path,
                        pick: self.pick(it.pick.as_ref(), false),
                        timezone: it.timezone.map(|it| it.0),
                        trusted: it.trust.is_some(),
                        key: secret.map(|key| KeyRef { cipher: Cipher::Databasus, key, passphrase: None }),
                    },
                    globals: it.globals.map(|it| self.path(&it, false)),
                    tool: DumpTool::Databasus,
                })
            }
            WireSource::WalG(it) => {
                let key = self.wal_g_key(&it);
                let place = Repository {
                    path: &it.path,
                    pick: it.pick.as_ref(),
                    store: it.store.as_ref(),
                    made_on: it.made_on.as_ref(),
                    trust: it.trust.as_ref(),
                };
                Source::BaseBackup(self.repository(BaseTool::WalG, "", &place, key))
            }
            WireSource::Pgbackrest(it) => self.pgbackrest(it),
            WireSource::Barman(it) => self.barman(&it, BaseTool::Barman),
            WireSource::BarmanCloud(it) => self.barman(&it, BaseTool::BarmanCloud),
            WireSource::BaseBackup(it) => Source::BaseBackup(BaseBackup {
                verify: false,
                made_on: self.machine(it.made_on.as_ref()),
                partial: self
                    .partial(it.partial.as_ref(), it.wal.is_some().then_some(()).ok_or("without a `wal` archive")),
                tool: BaseTool::PgBasebackup,
                location: Location {
                    store: self.store(it.store.as_ref(), &it.path, it.wal.as_ref()),
                    path: self.path(&it.path, true),
                    pick: self.pick(it.pick.as_ref(), true),
                    timezone: None,
                    trusted: it.trust.is_some(),
                    key: None,
                },
                wal: it.wal.map(|it| self.path(&it, false)),
                databases: Vec::new(),
                tablespaces: it
                    .tablespaces
                    .into_iter()
                    .flatten()
                    .map(|(name, path)| (name, self.path(&path, false)))
                    .collect(),
            }),
            WireSource::PgDumpall(it) => Source::PgDumpall(PgDumpall {
                location: Location {
                    store: self.store(it.store.as_ref(), &it.path, None),
                    path: self.path(&it.path, true),
                    pick: self.pick(it.pick.as_ref(), false),
                    timezone: it.timezone.map(|it| it.0),
                    trusted: it.trust.is_some(),
                    key: None,
                },
            }),
        }
    }

    /// A bundle of Databasus.
    fn bundle(&self, wire: &WireDatabasus) -> Source {
        let wrong = [
            (wire.secret_key.as_ref().map(|it| it.span), "secret_key", "it is not encrypted"),
            (wire.globals.as_ref().map(|it| it.span), "globals", "a physical backup brings its roles"),
        ];
        for (span, key, why) in wrong {
            let Some(span) = span else { continue };
            self.note(Mistake::new(span, format!("`{key}` has no meaning for a bundle: {why}")));
        }
        let text = wire.path.value.0.trim();
        if text.contains(['*', '?']) {
            let mistake = Mistake::new(wire.path.span, "a pattern cannot name a bundle");
            self.note(
                mistake
                    .help("name one tar file; of dumps, name the directory, or a pattern that does not end in `.tar`"),
            );
        }
        let place = Repository {
            path: &wire.path,
            pick: wire.pick.as_ref(),
            store: wire.store.as_ref(),
            made_on: None,
            trust: wire.trust.as_ref(),
        };
        Source::BaseBackup(self.repository(BaseTool::Databasus, "", &place, None))
    }

    /// What a tool keeps, with WAL beside its backups. `of`: its stanza or server.
    fn repository(&self, tool: BaseTool, of: &str, wire: &Repository<'_>, key: Option<KeyRef>) -> BaseBackup {
        let (path, wal) = tool.places(&self.path(wire.path, false), of);
        BaseBackup {
            location: Location {
                store: self.store(wire.store, wire.path, None),
                path,
                pick: self.pick(wire.pick, true),
                timezone: None,
                trusted: wire.trust.is_some(),
                key,
            },
            wal,
            partial: false,
            verify: false,
            made_on: self.machine(wire.made_on),
            tablespaces: BTreeMap::new(),
            databases: Vec::new(),
            tool,
        }
    }

    fn pgbackrest(&self, wire: WirePgBackRest) -> Source {
        let stanza = wire.stanza.value.0.trim();
        if stanza.contains('/') || stanza.starts_with('.') {
            self.note(Mistake::new(wire.stanza.span, format!("`{stanza}` is no name of a stanza")));
        }
        let pass = wire.cipher_pass.as_ref().map(|it| self.secret(&it.value));
        let key = pass.map(|key| KeyRef { cipher: Cipher::PgBackRest, key, passphrase: None });
        let place = Repository {
            path: &wire.path,
            pick: wire.pick.as_ref(),
            store: wire.store.as_ref(),
            made_on: wire.made_on.as_ref(),
            trust: wire.trust.as_ref(),
        };
        let backup = self.repository(BaseTool::PgBackRest, stanza, &place, key);
        let verify = wire.verify.is_some_and(|it| it.value);
        Source::BaseBackup(BaseBackup { databases: names(wire.databases), verify, ..backup })
    }

    fn barman(&self, wire: &WireBarman, tool: BaseTool) -> Source {
        let server = wire.server.value.0.trim();
        if server.contains('/') || server.starts_with('.') {
            self.note(Mistake::new(wire.server.span, format!("`{server}` is no name of a server in Barman")));
        }
        let place = Repository {
            path: &wire.path,
            pick: wire.pick.as_ref(),
            store: wire.store.as_ref(),
            made_on: wire.made_on.as_ref(),
            trust: wire.trust.as_ref(),
        };
        let is_barman = (tool == BaseTool::Barman).then_some(()).ok_or("of barman-cloud, which keeps none");
        let partial = self.partial(wire.partial.as_ref(), is_barman);
        Source::BaseBackup(BaseBackup { partial, ..self.repository(tool, server, &place, None) })
    }

    fn machine(&self, wire: Option<&At<WireMachine>>) -> Machine {
        let Some(At { value: wire, .. }) = wire else { return Machine::default() };
        let architecture = wire.architecture.as_ref().map(|it| {
            let architecture = Architecture::named(&it.value.0);
            if architecture.has_signed_char().is_none() {
                let mistake = Mistake::new(it.span, format!("`{architecture}` is no architecture that pgdrill knows"));
                self.note(mistake.help("say it as `uname -m` does on the machine that was backed up"));
            }
            architecture
        });
        let glibc = wire.glibc.as_ref().map(|it| {
            let version = it.value.0.trim();
            let is_number = |it: &str| !it.is_empty() && it.bytes().all(|it| it.is_ascii_digit());
            if !version.contains('.') || !version.split('.').all(is_number) {
                let mistake = Mistake::new(it.span, format!("`{version}` is no version of the GNU C library"));
                self.note(mistake.help("say it as `ldd --version` does: `glibc: \"2.36\"`"));
            }
            version.to_owned()
        });
        Machine { architecture, glibc }
    }

    /// Whether segments that were not finished are used; or why there are none.
    fn partial(&self, wire: Option<&At<bool>>, or: Result<(), &str>) -> bool {
        let Some(wire) = wire.filter(|it| it.value) else { return false };
        if let Err(why) = or {
            self.note(Mistake::new(wire.span, format!("`partial` has no meaning {why}")));
        }
        true
    }

    pub(super) fn secret(&self, wire: &WireSecret) -> Secret {
        match wire {
            WireSecret::File(path) => Secret::File(paths::resolve(&self.file.directory, path.0.trim())),
            WireSecret::Env(name) => Secret::Env(name.0.trim().to_owned()),
        }
    }

    fn wal_g_key(&self, wire: &WireWalG) -> Option<KeyRef> {
        if let (Some(_), Some(second)) = (&wire.libsodium_key, &wire.pgp_key) {
            let mistake = Mistake::new(second.span, "two keys: a storage is encrypted in one way");
            self.note(mistake.help("give `libsodium_key` or `pgp_key`"));
        }
        if let (Some(passphrase), None) = (&wire.pgp_passphrase, &wire.pgp_key) {
            self.note(Mistake::new(passphrase.span, "`pgp_passphrase` without a `pgp_key` that it opens"));
        }
        let of = |cipher, it: &At<WireSecret>, passphrase: Option<&At<WireSecret>>| KeyRef {
            cipher,
            key: self.secret(&it.value),
            passphrase: passphrase.map(|it| self.secret(&it.value)),
        };
        let pgp = wire.pgp_key.as_ref().map(|it| of(Cipher::OpenPgp, it, wire.pgp_passphrase.as_ref()));
        pgp.or_else(|| wire.libsodium_key.as_ref().map(|it| of(Cipher::Libsodium, it, None)))
    }

    /// Where recovery stops. A dump has no points in time.
    fn target(&self, wire: Option<At<WireTarget>>, source: &WireSource) -> Target {
        let Some(wire) = wire else { return Target::default() };
        if source.is_dump() {
            let mistake = Mistake::new(wire.span, "a dump has one state, and no points in time to recover to");
            self.note(mistake.help("take `target` away, or name a base backup with its WAL archive"));
            return Target::default();
        }
        self.one_target(wire.value, wire.span)
    }

    pub(super) fn one_target(&self, wire: WireTarget, span: Span) -> Target {
        let keys = match wire {
            WireTarget::Word(word) => {
                let point = match word.trim() {
                    "latest" => Point::Latest,
                    "immediate" => Point::Immediate,
                    other => {
                        let mistake = Mistake::new(span, format!("`{other}` is no recovery target"));
                        self.note(
                            mistake.help("write `latest`, `immediate`, or `{ time: \"2026-11-22 10:00:00+00\" }`"),
                        );
                        Point::Latest
                    }
                };
                return Target { point, ..Target::default() };
            }
            WireTarget::Keys(keys) => *keys,
        };
        self.target_of(keys, span)
    }

    fn target_of(&self, keys: WireTargetKeys, span: Span) -> Target {
        let WireTargetKeys { time, lsn, xid, name, immediate, inclusive, timeline } = keys;
        let immediate = immediate.filter(|it| it.value);
        let given = [time.is_some(), lsn.is_some(), xid.is_some(), name.is_some(), immediate.is_some()];
        if given.iter().filter(|it| **it).count() > 1 {
            let mistake = Mistake::new(span, "more than one recovery target");
            self.note(mistake.help("PostgreSQL takes one of `time`, `lsn`, `xid` and `name`"));
        }
        if let Some(inclusive) = &inclusive
            && (name.is_some() || immediate.is_some())
        {
            let mistake = Mistake::new(inclusive.span, "`inclusive` has no meaning for this target");
            self.note(mistake.help("it goes with `time`, `lsn` and `xid`: take it away"));
        }
        let point = time
            .map(|it| self.instant(&it).map_or(Point::Latest, Point::Time))
            .or_else(|| lsn.map(|it| self.lsn(&it)))
            .or_else(|| xid.map(|it| Point::Xid(it.value)))
            .or_else(|| name.map(|it| Point::Name(it.value.0)))
            .or_else(|| immediate.map(|_| Point::Immediate));
        let timeline = timeline.map_or(Timeline::Latest, |it| self.timeline(&it));
        Target { point: point.unwrap_or_default(), inclusive: inclusive.is_none_or(|it| it.value), timeline }
    }

    /// A time without a zone would mean another instant on every machine.
    pub(super) fn instant(&self, it: &At<Text>) -> Option<jiff::Timestamp> {
        let time = parse_instant(it.value.0.trim());
        if time.is_none() {
            let mistake = Mistake::new(it.span, format!("`{}` is no time with its zone", it.value.0.trim()));
            self.note(mistake.help("write it like `2026-11-22 10:00:00+00`"));
        }
        time
    }

    fn lsn(&self, it: &At<Text>) -> Point {
        let text = it.value.0.trim();
        let part = |it: &str| !it.is_empty() && it.len() <= 8 && it.bytes().all(|it| it.is_ascii_hexdigit());
        if !text.split_once('/').is_some_and(|(high, low)| part(high) && part(low)) {
            let mistake = Mistake::new(it.span, format!("`{text}` is no place in the WAL"));
            self.note(mistake.help("write it as PostgreSQL does, like `16/B374D848`"));
        }
        Point::Lsn(text.to_uppercase())
    }

    pub(super) fn timeline(&self, it: &At<Text>) -> Timeline {
        match it.value.0.trim() {
            "latest" => Timeline::Latest,
            "current" => Timeline::Current,
            text => match text.parse::<u32>() {
                Ok(id) if id > 0 => Timeline::Id(id),
                Ok(_) | Err(_) => {
                    let mistake = Mistake::new(it.span, format!("`{text}` is no timeline"));
                    self.note(mistake.help("write `latest`, `current`, or its number"));
                    Timeline::Latest
                }
            },
        }
    }

    /// `targets`: whether the backup has points in time.
    fn pick(&self, wire: Option<&At<WirePick>>, targets: bool) -> Pick {
        match wire.map(|it| &it.value) {
            None | Some(WirePick::Newest) => Pick::Newest,
            Some(WirePick::Oldest) => Pick::Oldest,
            Some(WirePick::BestForTarget) => {
                if let Some(wire) = wire.filter(|_| !targets) {
                    let mistake =
                        Mistake::new(wire.span, "a dump has one state, and no target that another would be better for");
                    self.note(mistake.help("write `newest`, or name base backups with their WAL archive"));
                }
                Pick::BestForTarget
            }
            Some(WirePick::All) => Pick::All,
            Some(WirePick::Random(seed)) => Pick::Random { seed: seed.unwrap_or(self.environment.seed) },
            Some(WirePick::Label(label)) => Pick::Label { label: label.trim().to_owned() },
        }
    }

    /// An absolute path: what is relative begins at the scenario file's directory.
    pub(super) fn path(&self, path: &At<Text>, pattern: bool) -> String {
        let text = path.value.0.trim();
        if let Some((scheme, _)) = text.split_once("://").filter(|it| it.0 != "file" && Service::of(text).is_none()) {
            let message = format!("`{scheme}://` is no store that pgdrill knows");
            self.note(Mistake::new(path.span, message).help("give a path, or a URL with s3://, gs:// or az://"));
        } else if let Some(bucket) = Service::bucket(text)
            && (bucket.is_empty() || paths::is_pattern(bucket))
        {
            let mistake = Mistake::new(path.span, format!("`{text}` does not name a bucket"));
            self.note(mistake.help("write the bucket's name, and a pattern behind it: s3://BUCKET/base/*"));
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
        let is_archive = source.is_dump() && !matches!(source, WireSource::PgDumpall(_));
        let default_jobs = default.and_then(|it| it.jobs.as_ref()).filter(|_| is_archive).map(|it| it.0);
        Restore {
            jobs: wire.jobs.map(|it| it.value.0).or(default_jobs),
            roles: wire.roles.map(|it| it.value),
            allow_errors: wire.allow_errors.into_iter().flatten().map(|it| self.allowance(&it)).collect(),
            select: Selection { schemas: names(wire.schemas), tables: names(wire.tables) },
            no_data: wire.no_data.into_iter().flatten().map(|it| self.table_pattern(&it)).collect(),
            before: wire.before.map(|it| self.path(&it, false)),
            after: wire.after.map(|it| self.path(&it, false)),
            settings,
            database: wire.database.map(|it| it.value.0),
            allow_downgrade: wire.allow_downgrade.is_some_and(|it| it.value),
        }
    }

    /// What cannot go with this kind of source.
    fn restore_fits(&self, wire: &WireRestore, source: &WireSource) {
        match source {
            WireSource::PgDump(WirePgDump { globals, .. }) | WireSource::Databasus(WireDatabasus { globals, .. })
                if source.is_dump() =>
            {
                if let Some(roles) = &wire.roles
                    && roles.value == Roles::Globals
                    && globals.is_none()
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
            WireSource::PgDump(_)
            | WireSource::Databasus(_)
            | WireSource::BaseBackup(_)
            | WireSource::WalG(_)
            | WireSource::Barman(_)
            | WireSource::BarmanCloud(_)
            | WireSource::Pgbackrest(_) => {
                let wrong = [
                    (wire.jobs.as_ref().map(|it| it.span), "jobs"),
                    (wire.schemas.as_ref().map(|it| it.span), "schemas"),
                    (wire.tables.as_ref().map(|it| it.span), "tables"),
                    (wire.roles.as_ref().map(|it| it.span), "roles"),
                    (wire.before.as_ref().map(|it| it.span), "before"),
                    (wire.allow_downgrade.as_ref().map(|it| it.span), "allow_downgrade"),
                ];
                for (span, key) in wrong {
                    let Some(span) = span else { continue };
                    let message = format!("`{key}` has no meaning for a base backup: it is restored whole, as it is");
                    self.note(Mistake::new(span, message));
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

    fn objectives(&self, wire: WireObjectives, source: &WireSource, listed: Option<Span>) -> Objectives {
        let copies = wire.copies.as_ref().and_then(|it| self.copies_objective(it, listed));
        let loss = self.loss(&wire, source);
        let WireObjectives { rto, rto_overhead, rto_span, max_age, .. } = wire;
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
        Objectives { rto, max_age: max_age.map(|Length(it)| it), copies, ..loss }
    }

    fn waivers(&self, wire: Vec<WireWaiver>, checks: &[Check], checks_extent: Span) -> Vec<Waiver> {
        let known = || checks.iter().map(|it| it.name.as_str()).chain(BUILT_IN);
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

/// As PostgreSQL writes it (`2026-11-22 10:00:00+00`) or as RFC 3339 does.
fn parse_instant(text: &str) -> Option<jiff::Timestamp> {
    let forms = ["%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f %#z", "%Y-%m-%d %H:%M%#z", "%Y-%m-%d %H:%M:%S%.f %Q"];
    let short = text.len() > 3 && text[text.len() - 3..].starts_with(['+', '-']);
    let zoned = if short { format!("{text}:00") } else { text.replace(" UTC", "+00:00") };
    let by_form = |form: &&str| jiff::Timestamp::strptime(form, &zoned).ok();
    text.parse().ok().or_else(|| forms.iter().find_map(by_form)).or_else(|| zoned.replacen(' ', "T", 1).parse().ok())
}

fn names(names: Option<At<Vec<Name>>>) -> Vec<String> {
    names.into_iter().flat_map(|it| it.value).map(|it| it.0).collect()
}

pub(super) fn strings(texts: Option<Vec<Text>>) -> Vec<String> {
    texts.into_iter().flatten().map(|it| it.0).collect()
}
