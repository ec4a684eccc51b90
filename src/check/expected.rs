//! `expect`: what users would miss first in a restored cluster: databases, roles, memberships, extensions, tablespaces, settings.
//!
//! The catalogues are asked once for each kind, and compared here. A stand-in that the drill made for a role that the backup
//! does not carry bears [`STAND_IN`] as its comment, and never counts as recovered.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Answer, Finding, Judged, Population, Table, answered, unknown};

/// The comment on a role that the drill made up.
pub const STAND_IN: &str = "stand-in made by pgdrill: the backup does not carry this role";
/// Rows of a catalogue; beyond that, what is not seen is unknown.
pub(super) const KEEP_ROWS: usize = 20_000;
/// Of `datconnlimit`: what an interrupted DROP DATABASE leaves behind.
const DROPPED: &str = "-2";

/// One kind of thing that must be there. Names are as in the catalogues, without quotes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Expected {
    Databases(BTreeSet<String>),
    Roles(BTreeSet<String>),
    /// By member: the roles that it is in.
    Memberships(BTreeMap<String, BTreeSet<String>>),
    /// With the version that is needed; None for any.
    Extensions(BTreeMap<String, Option<String>>),
    Tablespaces(BTreeSet<String>),
    Settings(Vec<Setting>),
}

/// A setting of a database, of a role, or of a role in a database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Setting {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    pub name: String,
    pub value: String,
}

impl Expected {
    /// The end of the check's name: `expect: databases`.
    pub const fn noun(&self) -> &'static str {
        match self {
            Expected::Databases(_) => "databases",
            Expected::Roles(_) => "roles",
            Expected::Memberships(_) => "memberships",
            Expected::Extensions(_) => "extensions",
            Expected::Tablespaces(_) => "tablespaces",
            Expected::Settings(_) => "settings",
        }
    }

    fn wanted(&self) -> usize {
        match self {
            Expected::Databases(names) | Expected::Roles(names) | Expected::Tablespaces(names) => names.len(),
            Expected::Memberships(groups) => groups.values().map(BTreeSet::len).sum(),
            Expected::Extensions(names) => names.len(),
            Expected::Settings(settings) => settings.len(),
        }
    }

    pub(super) fn sql_probes(&self, known: &[Answer]) -> Vec<String> {
        if !known.is_empty() {
            return Vec::new();
        }
        let sql = match self {
            Expected::Databases(_) => {
                "select datname, datallowconn::text, datconnlimit::text from pg_catalog.pg_database order by 1"
            }
            Expected::Roles(_) => {
                "select rolname, coalesce(pg_catalog.shobj_description(oid, 'pg_authid'), '') from pg_catalog.pg_roles \
                 order by 1"
            }
            Expected::Memberships(_) => {
                "select m.rolname, g.rolname from pg_catalog.pg_auth_members as a join pg_catalog.pg_roles as m on \
                 m.oid = a.member join pg_catalog.pg_roles as g on g.oid = a.roleid order by 1, 2"
            }
            Expected::Extensions(_) => "select extname, extversion from pg_catalog.pg_extension order by 1",
            Expected::Tablespaces(_) => "select spcname from pg_catalog.pg_tablespace order by 1",
            Expected::Settings(_) => {
                "select coalesce(d.datname::text, ''), coalesce(r.rolname::text, ''), c from \
                 pg_catalog.pg_db_role_setting as s left join pg_catalog.pg_database as d on d.oid = s.setdatabase \
                 left join pg_catalog.pg_roles as r on r.oid = s.setrole cross join lateral unnest(s.setconfig) as c \
                 order by 1, 2, 3"
            }
        };
        vec![sql.to_owned()]
    }

    pub(super) fn judge(&self, answers: &[Answer]) -> Judged {
        let table = match answered(answers.first()) {
            Ok(table) => table,
            Err(judged) => return judged,
        };
        let missing = self.missing(table);
        if !missing.is_empty() && table.total > table.rows.len() as u64 {
            return unknown(format!("there are {} {}, more than can be kept", table.total, self.noun()));
        }
        let population = Population { examined: table.total, of: self.noun().to_owned() };
        let finding = if missing.is_empty() {
            let aside = self.aside(table).map(|it| format!("; {it}")).unwrap_or_default();
            Finding::Held { observed: format!("all {} are there{aside}", self.wanted()) }
        } else {
            let observed = format!("missing: {}", missing.join(", "));
            Finding::Broken { expected: format!("{} {}", self.wanted(), self.noun()), observed }
        };
        Judged { finding, population }
    }

    /// What is not there, by kind and name.
    pub(super) fn objects(&self, answers: &[Answer]) -> Vec<String> {
        answered(answers.first()).map(|it| self.missing(it)).unwrap_or_default()
    }

    fn missing(&self, table: &Table) -> Vec<String> {
        let rows: Vec<[&str; 3]> = table.rows.iter().map(|it| cells(it)).collect();
        let absent = |kind: &str, names: &BTreeSet<String>, counts: &dyn Fn(&[&str; 3]) -> bool| {
            let there: BTreeSet<&str> = rows.iter().filter(|it| counts(it)).map(|it| it[0]).collect();
            names.iter().filter(|it| !there.contains(it.as_str())).map(|it| format!("{kind} {it}")).collect()
        };
        match self {
            Expected::Databases(names) => absent("database", names, &|row| row[2] != DROPPED),
            Expected::Roles(names) => absent("role", names, &|row| row[1] != STAND_IN),
            Expected::Tablespaces(names) => absent("tablespace", names, &|_| true),
            Expected::Memberships(groups) => {
                let pairs = groups.iter().flat_map(|(member, groups)| groups.iter().map(move |it| (member, it)));
                let lacks = |(member, group): &(&String, &String)| {
                    !rows.iter().any(|it| it[0] == member.as_str() && it[1] == group.as_str())
                };
                pairs.filter(lacks).map(|(member, group)| format!("membership {member} in {group}")).collect()
            }
            Expected::Extensions(names) => names.iter().filter_map(|it| extension(&rows, it)).collect(),
            Expected::Settings(settings) => settings.iter().filter_map(|it| setting(&rows, it)).collect(),
        }
    }

    /// What the drill did not look at, of the kind.
    fn aside(&self, table: &Table) -> Option<String> {
        let Expected::Databases(_) = self else { return None };
        let rows = || table.rows.iter().map(|it| cells(it));
        let closed: Vec<&str> = rows().filter(|it| it[1] == "false" && it[0] != "template0").map(|it| it[0]).collect();
        let dropped: Vec<&str> = rows().filter(|it| it[2] == DROPPED).map(|it| it[0]).collect();
        let said = [("not open to connections, so unexamined", closed), ("left by an interrupted DROP", dropped)];
        let said: Vec<String> = said
            .into_iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(why, names)| format!("{why}: {}", names.join(", ")))
            .collect();
        (!said.is_empty()).then(|| said.join("; "))
    }
}

fn cells(row: &[Option<String>]) -> [&str; 3] {
    [0, 1, 2].map(|at| row.get(at).and_then(|it| it.as_deref()).unwrap_or_default())
}

fn extension(rows: &[[&str; 3]], (name, version): (&String, &Option<String>)) -> Option<String> {
    match (rows.iter().find(|it| it[0] == name.as_str()), version) {
        (Some(_), None) => None,
        (Some(row), Some(version)) if row[1] == version.as_str() => None,
        (Some(row), Some(version)) => Some(format!("extension {name} {version} (it is {})", row[1])),
        (None, _) => Some(format!("extension {name}")),
    }
}

fn setting(rows: &[[&str; 3]], wanted: &Setting) -> Option<String> {
    let (database, role) = (wanted.database.as_deref().unwrap_or_default(), wanted.role.as_deref().unwrap_or_default());
    let whose = match (&wanted.database, &wanted.role) {
        (Some(database), Some(role)) => format!("role {role} in database {database}"),
        (Some(database), None) => format!("database {database}"),
        (None, Some(role)) => format!("role {role}"),
        (None, None) => "every role".to_owned(),
    };
    let of_whom = rows.iter().filter(|it| it[0] == database && it[1] == role);
    let there =
        of_whom.filter_map(|it| it[2].split_once('=')).find(|(name, _)| name.eq_ignore_ascii_case(&wanted.name));
    let setting = format!("setting {} of {whose}", wanted.name);
    match there {
        Some((_, value)) if value == wanted.value => None,
        Some((_, value)) => Some(format!("{setting} = {} (it is {value})", wanted.value)),
        None => Some(setting),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[&[&str]]) -> Vec<Answer> {
        let rows: Vec<Vec<Option<String>>> =
            rows.iter().map(|row| row.iter().map(|it| Some((*it).to_owned())).collect()).collect();
        vec![Answer::Rows(Table { columns: Vec::new(), total: rows.len() as u64, rows })]
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|it| (*it).to_owned()).collect()
    }

    #[test]
    fn a_stand_in_for_a_role_never_counts_as_recovered() {
        let answers = rows(&[&["app", STAND_IN], &["owner", "the owner"]]);
        let expected = Expected::Roles(names(&["app", "owner"]));
        assert_eq!(expected.objects(&answers), ["role app"]);
        assert!(matches!(expected.judge(&answers).finding, Finding::Broken { .. }));
    }

    #[test]
    fn a_database_that_an_interrupted_drop_left_is_missing_and_a_closed_one_is_listed_as_unexamined() {
        let answers = rows(&[&["archive", "false", "-1"], &["gone", "true", "-2"], &["shop", "true", "-1"]]);
        assert_eq!(Expected::Databases(names(&["gone", "shop"])).objects(&answers), ["database gone"]);
        let judged = Expected::Databases(names(&["archive", "shop"])).judge(&answers);
        let Finding::Held { observed } = judged.finding else { panic!("{judged:?}") };
        assert!(observed.contains("unexamined: archive") && observed.contains("DROP: gone"), "{observed}");
    }

    #[test]
    fn versions_memberships_and_settings_are_compared_by_value() {
        let extensions = [("citext", Some("1.6")), ("hstore", Some("1.8")), ("pg_trgm", None)];
        let extensions = extensions.map(|(name, version)| (name.to_owned(), version.map(str::to_owned))).into();
        let answers = rows(&[&["citext", "1.6"], &["hstore", "1.7"]]);
        let missing = Expected::Extensions(extensions).objects(&answers);
        assert_eq!(missing, ["extension hstore 1.8 (it is 1.7)", "extension pg_trgm"]);

        let groups = [("app".to_owned(), names(&["readers", "writers"]))].into();
        let missing = Expected::Memberships(groups).objects(&rows(&[&["app", "readers"], &["x", "writers"]]));
        assert_eq!(missing, ["membership app in writers"]);

        let setting = |database: Option<&str>, role: Option<&str>, value: &str| Setting {
            database: database.map(str::to_owned),
            role: role.map(str::to_owned),
            name: "work_mem".to_owned(),
            value: value.to_owned(),
        };
        let wanted = vec![setting(Some("shop"), None, "64MB"), setting(None, Some("app"), "1MB")];
        let missing = Expected::Settings(wanted).objects(&rows(&[&["shop", "", "work_mem=32MB"]]));
        assert_eq!(missing, ["setting work_mem of database shop = 64MB (it is 32MB)", "setting work_mem of role app"]);
    }
}
