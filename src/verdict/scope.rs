//! What a backup claims to bring back, against what its bytes say that it holds. A dump is not a cluster.

use std::collections::BTreeSet;

use globset::{Glob, GlobMatcher};

use super::CheckJudged;
use crate::check::{
    Expected, Finding, Judged, Kind, Population, SCOPE_CLUSTER, SCOPE_DATA, SCOPE_DEFINITIONS, SCOPE_ROW_SECURITY,
    Severity,
};
use crate::evidence::Evidence;
use crate::format::{DumpFacts, DumpFormat, Table};
use crate::scenario::{Drill, Scope};
use crate::source::{Roles, Source};

/// What follows from the scope.
#[derive(Debug, Default)]
pub(super) struct Scoped {
    pub(super) checks: Vec<CheckJudged>,
    pub(super) findings: Vec<String>,
}

/// What the backup claims: as the scenario says, else by its kind and by what was restored of it.
///
/// A dump by `-t` makes no schema for its tables; one by `-n` cannot be told from a whole one.
pub fn claimed(drill: &Drill, facts: Option<&DumpFacts>) -> Scope {
    if let Some(scope) = drill.scope {
        return scope;
    }
    match &drill.source {
        Source::BaseBackup(it) if !it.databases.is_empty() => Scope::Objects,
        Source::PgDumpall(_) | Source::BaseBackup(_) => Scope::Cluster,
        Source::PgDump(_) if !drill.restore.select.is_everything() => Scope::Objects,
        Source::PgDump(_) if facts.is_some_and(is_of_tables) => Scope::Objects,
        Source::PgDump(_) => Scope::Database,
    }
}

fn is_of_tables(facts: &DumpFacts) -> bool {
    let has = |kind: &str| count(facts, kind) > 0;
    let elsewhere = facts.contents.tables.iter().any(|it| it.schema != "public");
    is_dump(facts) && has("TABLE") && elsewhere && !has("SCHEMA") && !has("EXTENSION")
}

/// Written by pg_dump or pg_dumpall: a script that is kept by hand promises nothing.
fn is_dump(facts: &DumpFacts) -> bool {
    facts.format.is_archive() || facts.end_marker.is_some()
}

fn count(facts: &DumpFacts, kind: &str) -> u64 {
    facts.contents.entries.get(kind).copied().unwrap_or(0)
}

/// Whether a pattern of `no_data` means this table: `schema.table`, `database.schema.table` or `table` in any schema.
fn declares(pattern: &GlobMatcher, table: &Table) -> bool {
    let name = name(table);
    let database = table.database.as_ref().is_some_and(|it| pattern.is_match(format!("{it}.{name}")));
    database || pattern.is_match(&name) || pattern.is_match(&table.name)
}

fn name(table: &Table) -> String {
    format!("{}.{}", table.schema, table.name)
}

/// Nothing where no backup was chosen and read.
pub(super) fn judged(evidence: &Evidence, drill: &Drill) -> Scoped {
    let mut scoped = Scoped::default();
    let Some(plan) = &evidence.plan else { return scoped };
    let Some(facts) = evidence.survey.dump(&plan.backup.file.path) else { return scoped };
    let globals = match &drill.source {
        Source::PgDump(it) if drill.restore.roles != Some(Roles::None) => {
            it.globals.as_deref().and_then(|path| evidence.survey.dump(path))
        }
        Source::PgDump(_) | Source::PgDumpall(_) | Source::BaseBackup(_) => None,
    };
    let scope = claimed(drill, Some(facts));
    let look = Look { drill, facts, globals, database: &plan.database };
    match scope {
        Scope::Objects => return scoped,
        Scope::Cluster => scoped.checks.push(look.cluster()),
        Scope::Database => scoped.findings.extend(look.not_carried()),
    }
    if scope == Scope::Cluster && look.expected_databases().is_none() {
        let text = "the scenario does not say which databases the cluster has (`expect: { databases: … }`): pg_dumpall \
                    leaves out those that are closed to connections, and says nothing";
        scoped.findings.push(text.to_owned());
    }
    if is_dump(facts) {
        scoped.checks.extend(look.definitions());
        scoped.checks.extend(look.data());
        scoped.findings.extend(look.idle_patterns());
        scoped.checks.extend(look.row_security());
        scoped.findings.extend(look.perhaps_hidden());
        scoped.findings.extend(look.no_grants());
    }
    scoped
}

struct Look<'a> {
    drill: &'a Drill,
    facts: &'a DumpFacts,
    globals: Option<&'a DumpFacts>,
    /// That was restored.
    database: &'a str,
}

impl Look<'_> {
    fn patterns(&self) -> Vec<(&str, GlobMatcher)> {
        let patterns = self.drill.restore.no_data.iter();
        patterns.filter_map(|it| Some((it.as_str(), Glob::new(it).ok()?.compile_matcher()))).collect()
    }

    fn omitted(&self) -> Vec<&Table> {
        self.facts.contents.tables.iter().filter(|it| !it.data).collect()
    }

    /// Tables whose rows were left out, and nobody said so.
    fn data(&self) -> Option<CheckJudged> {
        let tables = &self.facts.contents.tables;
        if tables.is_empty() {
            return None;
        }
        let (omitted, patterns) = (self.omitted(), self.patterns());
        let declared = |it: &&&Table| patterns.iter().any(|(_, pattern)| declares(pattern, it));
        let undeclared: Vec<&&Table> = omitted.iter().filter(|it| !declared(it)).collect();
        let examined = Population { examined: tables.len() as u64, of: "tables".to_owned() };
        if undeclared.is_empty() {
            let but = if omitted.is_empty() { String::new() } else { format!(", but {} declared ones", omitted.len()) };
            return Some(held(
                SCOPE_DATA,
                format!("by its table of contents, the dump has the rows of all {} tables{but}", tables.len()),
                examined,
            ));
        }
        let objects: Vec<String> = undeclared.iter().map(|it| format!("table {}", name(it))).collect();
        let observed = if count(self.facts, "TABLE DATA") == 0 {
            format!("a schema-only dump: the rows of all tables were left out, {} of them", undeclared.len())
        } else {
            format!("left out without a `no_data` that says so: {}", listed(&objects))
        };
        let expected = "the rows of every table that `restore.no_data` does not name".to_owned();
        Some(broken(SCOPE_DATA, expected, observed, objects, examined))
    }

    /// A pattern that names nothing guards nothing.
    fn idle_patterns(&self) -> Vec<String> {
        let omitted = self.omitted();
        let idle = |(_, pattern): &(&str, GlobMatcher)| !omitted.iter().any(|it| declares(pattern, it));
        let text =
            |(pattern, _): (&str, GlobMatcher)| format!("`no_data: {pattern}` means no table whose rows were left out");
        self.patterns().into_iter().filter(idle).map(text).collect()
    }

    /// A data-only dump needs somebody who makes its tables.
    fn definitions(&self) -> Option<CheckJudged> {
        let has = |kind: &str| count(self.facts, kind) > 0;
        let data_only = has("TABLE DATA") && !has("TABLE") && !has("EXTENSION") && !has("SCHEMA");
        if !data_only || self.drill.restore.before.is_some() {
            return None;
        }
        let expected = "the definitions of the tables, from the dump or from `restore.before`".to_owned();
        let tables = Population { examined: count(self.facts, "TABLE DATA"), of: "tables".to_owned() };
        Some(broken(SCOPE_DEFINITIONS, expected, "a data-only dump".to_owned(), Vec::new(), tables))
    }

    /// A dump with `--enable-row-security` holds what its user could see. Where no table has it, nothing was hidden.
    fn row_security(&self) -> Option<CheckJudged> {
        let filtered = count(self.facts, "ROW SECURITY") > 0 || count(self.facts, "TABLE") == 0;
        if !self.facts.contents.row_security_on || !filtered {
            return None;
        }
        let expected = "every row, whoever may see it".to_owned();
        let observed = "the dump was made with row security on: it holds the rows that its user could see".to_owned();
        let policies = Population { examined: count(self.facts, "ROW SECURITY"), of: "tables".to_owned() };
        Some(broken(SCOPE_ROW_SECURITY, expected, observed, Vec::new(), policies))
    }

    /// Archives do not say whether row security was on. Without `--enable-row-security` pg_dump stops rather than leave out rows.
    fn perhaps_hidden(&self) -> Option<String> {
        let policies = count(self.facts, "ROW SECURITY");
        let whose = if policies == 1 { "1 table has".to_owned() } else { format!("{policies} tables have") };
        let text = format!(
            "{whose} row security, and the archive does not say whether it was on while dumping: a dump \
             with `--enable-row-security` holds only what its user could see"
        );
        (self.facts.format.is_archive() && policies > 0).then_some(text)
    }

    /// With `-x`, or because there were none: the dump does not say which.
    fn no_grants(&self) -> Option<String> {
        let none = count(self.facts, "ACL") == 0 && count(self.facts, "DEFAULT ACL") == 0;
        let tables = !self.facts.contents.tables.is_empty() && self.facts.format != DumpFormat::Cluster;
        let text =
            "grants are not carried: the dump holds none, because it was made with -x or because there were none";
        (none && tables).then(|| text.to_owned())
    }

    /// What a recovery of this one database would lack, whoever dumped it.
    fn not_carried(&self) -> Vec<String> {
        self.lost_with_the_dump().into_iter().map(|it| format!("{it} are not carried")).collect()
    }

    fn lost_with_the_dump(&self) -> Vec<&'static str> {
        let facts = self.facts;
        let mut lost = Vec::new();
        if facts.contents.owners_left_out {
            lost.push("owners (the dump was made with -O)");
        }
        let created = facts.format != DumpFormat::Plain || !facts.contents.databases.is_empty();
        if is_dump(facts) && !created {
            lost.push("the database's own properties (a plain dump without -C)");
        }
        lost
    }

    fn expected_databases(&self) -> Option<&BTreeSet<String>> {
        self.drill.checks.iter().find_map(|it| match &it.kind {
            Kind::Expected(Expected::Databases(names)) => Some(names),
            Kind::Expected(_) | Kind::Query(_) | Kind::Rows(_) | Kind::Exists(_) => None,
        })
    }

    /// All that the scenario, the globals or the dump refer to must be in the backup: what the drill made up does not count.
    fn cluster(&self) -> CheckJudged {
        let (contents, globals) = (&self.facts.contents, self.globals.map(|it| &it.contents));
        let of_both = |of: fn(&crate::format::Contents) -> &BTreeSet<String>| -> BTreeSet<&String> {
            of(contents).iter().chain(globals.into_iter().flat_map(of)).collect()
        };
        let mut missing = Vec::new();
        if self.facts.format != DumpFormat::Cluster && self.globals.is_none() {
            missing.push("globals (what `pg_dumpall -g` writes: roles, memberships, tablespaces)".to_owned());
        }
        let mut databases: BTreeSet<&str> = contents.databases.iter().map(String::as_str).collect();
        // initdb makes these in every cluster.
        databases.extend(["postgres", "template0", "template1", self.database]);
        let expected = self.expected_databases().into_iter().flatten().filter(|it| !databases.contains(it.as_str()));
        missing.extend(expected.map(|it| format!("database {it}")));
        let (roles, made) = (of_both(|it| &it.roles), of_both(|it| &it.roles_made));
        missing.extend(roles.difference(&made).map(|it| format!("role {it}")));
        let (spaces, made) = (of_both(|it| &it.tablespaces), of_both(|it| &it.tablespaces_made));
        missing.extend(spaces.difference(&made).map(|it| format!("tablespace {it}")));
        missing.extend(self.lost_with_the_dump().into_iter().map(str::to_owned));
        let parts = databases.len() + roles.len() + spaces.len();
        let examined = Population { examined: parts as u64, of: "databases, roles and tablespaces".to_owned() };
        if missing.is_empty() {
            return held(SCOPE_CLUSTER, "what the backup refers to is in it".to_owned(), examined);
        }
        let observed = format!("the backup lacks {}", listed(&missing));
        let expected = "all that the scenario, the globals and the dump refer to".to_owned();
        broken(SCOPE_CLUSTER, expected, observed, missing, examined)
    }
}

fn listed(objects: &[String]) -> String {
    const SHOWN: usize = 20;
    let more = objects.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    objects.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ") + &more
}

fn held(name: &str, observed: String, population: Population) -> CheckJudged {
    check(name, Finding::Held { observed }, Vec::new(), population)
}

fn broken(name: &str, expected: String, observed: String, objects: Vec<String>, of: Population) -> CheckJudged {
    check(name, Finding::Broken { expected, observed }, objects, of)
}

fn check(name: &str, finding: Finding, objects: Vec<String>, population: Population) -> CheckJudged {
    CheckJudged { objects, ..CheckJudged::new(name, Severity::Critical, Judged { finding, population }) }
}
