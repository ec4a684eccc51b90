//! What a backup claims to bring back, and how much may be lost: what cannot go together, and the checks that follow.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Scope;
use super::collect::At;
use super::convert::Converter;
use super::problem::Mistake;
use super::units::{Name, Text};
use super::wire::{WireDrill, WireExpected, WireObjectives, WireSource};
use super::{Heartbeat, Objectives};
use crate::check::sql_text::quote_ident;
use crate::check::{Check, Expect, Expected, HEARTBEAT, Kind, Query, Scalar, Setting, Severity};
use crate::source::Roles;

/// An RPO up to this needs WAL or incrementals: nobody dumps as often.
const NEEDS_WAL: Duration = Duration::from_secs(3600);
const TIMEOUT: Duration = Duration::from_secs(60);

impl Converter<'_> {
    /// What is said of the scope, where it can be meant.
    pub(super) fn scope(&self, wire: &WireDrill) -> Option<Scope> {
        let scope = wire.scope.as_ref()?;
        let (source, restore) = (&wire.source.value, wire.restore.as_ref());
        let whole = scope.value != Scope::Objects;
        let part = restore.is_some_and(|it| it.schemas.is_some() || it.tables.is_some());
        let no_roles = restore.and_then(|it| it.roles.as_ref()).is_some_and(|it| it.value == Roles::None);
        let databases = wire.expect.as_ref().is_some_and(|it| it.value.databases.is_some());
        let wrong = match (scope.value, source) {
            (Scope::Database | Scope::Objects, it) if !it.is_dump() => {
                ("a base backup always brings back the whole cluster", "take the key away, or write `cluster`")
            }
            (Scope::Database, WireSource::PgDumpall(_)) => (
                "a pg_dumpall brings back more than a `database`",
                "take the key away, or write `cluster` or `objects`",
            ),
            (Scope::Cluster, it) if it.is_dump() && !databases => (
                "nothing says which databases the cluster has",
                "list them as `expect: { databases: […] }`: a dump that lacks one cannot say so",
            ),
            (Scope::Cluster, _) if no_roles => {
                ("a cluster is not brought back with `roles: none`", "take `roles` away, or claim less")
            }
            _ if whole && part => (
                "a restore of some schemas or tables cannot show that the whole comes back",
                "write `objects`, or take `schemas` and `tables` away",
            ),
            (Scope::Database | Scope::Cluster | Scope::Objects, _) => return Some(scope.value),
        };
        self.note(Mistake::new(scope.span, wrong.0).help(wrong.1));
        Some(scope.value)
    }

    /// A pattern for `schema.table`.
    pub(super) fn table_pattern(&self, it: &At<Text>) -> String {
        let text = it.value.0.trim().to_owned();
        if let Err(error) = globset::Glob::new(&text) {
            let mistake = Mistake::new(it.span, format!("`{text}` is no pattern: {}", error.kind()));
            self.note(mistake.help("write `schema.table`, with `*`, `?`, `[…]` or `{…}`, like `audit.*`"));
        }
        text
    }

    /// The checks that `expect:` stands for.
    pub(super) fn expected(&self, wire: At<WireExpected>, others: &[Check]) -> Vec<Check> {
        let line = self.line(wire.span);
        let set = |it: Vec<Name>| it.into_iter().map(|it| it.0).collect::<BTreeSet<String>>();
        let version = |text: Text| Some(text.0.trim().to_owned()).filter(|it| it != "*");
        let it = wire.value;
        let by_database = it.database_settings.map(|it| settings(it, true));
        let by_role = it.role_settings.map(|it| settings(it, false));
        let given = by_database.is_some() || by_role.is_some();
        let all: Vec<Setting> = by_database.into_iter().chain(by_role).flatten().collect();
        let kinds = [
            it.databases.map(|it| Expected::Databases(set(it))),
            it.roles.map(|it| Expected::Roles(set(it))),
            it.memberships
                .map(|it| Expected::Memberships(it.into_iter().map(|(name, groups)| (name, set(groups))).collect())),
            it.extensions
                .map(|it| Expected::Extensions(it.into_iter().map(|(name, text)| (name, version(text))).collect())),
            it.tablespaces.map(|it| Expected::Tablespaces(set(it))),
            given.then_some(Expected::Settings(all)),
        ];
        let kinds: Vec<Expected> = kinds.into_iter().flatten().collect();
        if kinds.is_empty() {
            self.note(Mistake::new(wire.span, "`expect` of nothing").help("name databases, roles or extensions"));
        }
        let check = |kind: Expected| Check {
            name: format!("expect: {}", kind.noun()),
            severity: Severity::Critical,
            database: None,
            role: None,
            timeout: TIMEOUT,
            kind: Kind::Expected(kind),
            line: Some(line),
        };
        let checks: Vec<Check> = kinds.into_iter().map(check).collect();
        for taken in checks.iter().filter(|it| others.iter().any(|other| other.name == it.name)) {
            let mistake = Mistake::new(wire.span, format!("a check of this drill is named `{}`, too", taken.name));
            self.note(mistake.help("give that check another name"));
        }
        checks
    }

    /// The objectives about loss. A method that cannot meet its objective is refused before anything runs.
    pub(super) fn loss(&self, wire: &WireObjectives, source: &WireSource) -> Objectives {
        if let Some(rpo) = &wire.rpo {
            if source.is_dump() && rpo.value.0 <= NEEDS_WAL {
                let message = "dumps cannot meet this: a loss of at most an hour needs WAL or incremental backups, and one \
                               of seconds needs continuous WAL";
                self.note(Mistake::new(rpo.span, message).help("a daily dump serves an `rpo` of a day or more"));
            }
            if source.lacks_wal() {
                let message = "`rpo` of a base backup needs its WAL archive: the backup alone is as old as it is";
                self.note(Mistake::new(rpo.span, message).help("name the archive as `wal:` of the source"));
            }
        }
        let alone = [
            (wire.rpo_window.as_ref().map(|it| it.span), "rpo_window"),
            (wire.incident.as_ref().map(|it| it.span), "incident"),
            (wire.heartbeat.as_ref().map(|it| it.span), "heartbeat"),
        ];
        for (span, key) in alone.into_iter().filter(|_| wire.rpo.is_none()) {
            let Some(span) = span else { continue };
            let mistake = Mistake::new(span, format!("`{key}` without an `rpo` to judge"));
            self.note(mistake.help("give `rpo`, or take it away"));
        }
        let incident = wire.incident.as_ref().and_then(|it| self.instant(it));
        if let Some(heartbeat) = wire.heartbeat.as_ref().filter(|_| source.is_dump()) {
            let mistake = Mistake::new(heartbeat.span, "`heartbeat` has no meaning for a dump: it ends when it began");
            self.note(mistake.help("take it away"));
        }
        if let Some(window) = wire.rpo_window.as_ref().filter(|_| !source.is_dump()) {
            let message = "`rpo_window` has no meaning with a WAL archive: it has no gaps between backups";
            self.note(Mistake::new(window.span, message).help("take it away"));
        }
        let heartbeat = wire.heartbeat.as_ref().map(|it| Heartbeat {
            table: it.value.table.0.clone(),
            column: it.value.column.0.clone(),
            every: it.value.every.0,
            database: it.value.database.as_ref().map(|it| it.0.clone()),
        });
        let rpo = wire.rpo.as_ref().map(|it| it.value.0);
        Objectives {
            heartbeat,
            rpo,
            rpo_window: wire.rpo_window.as_ref().map(|it| it.value.0),
            incident,
            ..Objectives::default()
        }
    }
}

/// Asks for the newest heartbeat: that there is one is the check, what it says is judged with the objective.
pub(super) fn heartbeat_check(heartbeat: &Heartbeat) -> Check {
    let column = quote_ident(&heartbeat.column);
    let sql = format!(
        "select to_char(max({column})::timestamptz at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') from {}",
        heartbeat.table
    );
    Check {
        name: HEARTBEAT.to_owned(),
        severity: Severity::Minor,
        database: heartbeat.database.clone(),
        role: None,
        timeout: HEARTBEAT_TIMEOUT,
        kind: Kind::Query(Query { sql, expect: Expect::Scalar(Scalar::NotNull) }),
        line: None,
    }
}

/// Without an index, all rows are read.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(300);

fn settings(by: BTreeMap<String, BTreeMap<String, Text>>, of_database: bool) -> Vec<Setting> {
    let of = |(whose, settings): (String, BTreeMap<String, Text>)| {
        let (database, role) = if of_database { (Some(whose), None) } else { (None, Some(whose)) };
        let setting = move |(name, value): (String, Text)| Setting {
            database: database.clone(),
            role: role.clone(),
            name,
            value: value.0,
        };
        settings.into_iter().map(setting).collect::<Vec<_>>()
    };
    by.into_iter().flat_map(of).collect()
}
