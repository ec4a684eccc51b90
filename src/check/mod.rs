//! Validation checks: what to ask the restored server, and what its answers mean.

mod built_in;
mod exists;
mod expected;
pub mod promise;
mod query;
mod rows;
pub mod sql_text;
mod value;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

pub use built_in::HEARTBEAT;
pub use built_in::{
    ARCHIVING, BACKUP_MANIFEST, BUILT_IN, COPIES, COPIES_RULE, PAGE_CHECKSUMS, REPOSITORY, SCOPE_CLUSTER, SCOPE_DATA,
    SCOPE_DEFINITIONS, SCOPE_ROW_SECURITY,
};
pub use exists::Exists;
pub use expected::{Expected, STAND_IN, Setting};
pub use query::{Expect, Query, Scalar};
pub use rows::{Count, Rows, Tolerance};

/// One check of a drill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// Unique within the drill, and stable: reports and waivers name it.
    pub name: String,
    pub severity: Severity,
    /// Where to ask. None: the database that the drill restores.
    pub database: Option<String>,
    /// The role to ask as (`SET SESSION AUTHORIZATION`). None: the bootstrap superuser.
    pub role: Option<String>,
    pub timeout: Duration,
    pub kind: Kind,
    /// Line of the check in its scenario file, 1-based.
    pub line: Option<u32>,
}

/// What kind of check: one file per family.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Query(Query),
    Rows(Rows),
    Exists(Exists),
    /// What `expect:` names.
    Expected(Expected),
}

/// How much a broken check matters. Declared mildest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// A finding: it does not fail the drill.
    Minor,
    #[default]
    Major,
    Critical,
}

/// One question to the restored server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Probe {
    pub database: String,
    pub role: Option<String>,
    pub sql: String,
    pub timeout: Duration,
    /// Rows beyond this many are not kept, only counted.
    pub keep_rows: usize,
}

impl Probe {
    /// The same question, to be answered from the tables alone; nothing is written for it.
    #[must_use]
    pub fn without_indexes(self) -> Probe {
        let way = "set transaction_read_only = on; set enable_seqscan = on; set enable_indexscan = off; \
                   set enable_indexonlyscan = off; set enable_bitmapscan = off; set enable_partition_pruning = off; ";
        Probe { sql: format!("{way}{}", self.sql), ..self }
    }

    /// How the server goes about the question, as JSON.
    #[must_use]
    pub fn explained(self) -> Probe {
        Probe { sql: format!("explain (verbose, format json) {}", self.sql), keep_rows: 1, ..self }
    }
}

/// What the server said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Rows(Table),
    /// The server answered with an error.
    Refused {
        sqlstate: String,
        message: String,
        hint: Option<String>,
    },
    /// There was no answer: time-out, connection lost.
    Silent {
        because: String,
    },
}

impl Answer {
    /// The indexes, `schema.name`, in the plan that [`Probe::explained`] asked for. None: there is no plan.
    pub fn indexes(&self) -> Option<Vec<String>> {
        fn within(node: &serde_json::Value, found: &mut Vec<String>) {
            match node {
                serde_json::Value::Object(fields) => {
                    let text = |name: &str| fields.get(name).and_then(|it| it.as_str());
                    if let Some(index) = text("Index Name") {
                        // Of a bitmap, the schema is told above it.
                        found.push(format!("{}.{index}", text("Schema").unwrap_or("?")));
                    }
                    fields.values().for_each(|it| within(it, found));
                }
                serde_json::Value::Array(all) => all.iter().for_each(|it| within(it, found)),
                serde_json::Value::Null
                | serde_json::Value::Bool(_)
                | serde_json::Value::Number(_)
                | serde_json::Value::String(_) => {}
            }
        }
        let Answer::Rows(table) = self else { return None };
        let plan = serde_json::from_str(table.rows.first()?.first()?.as_deref()?).ok()?;
        let mut found = Vec::new();
        within(&plan, &mut found);
        Some(found)
    }
}

/// Rows as text: NULL is None.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Table {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Option<String>>>,
    /// Rows that the query gave, kept or not.
    pub total: u64,
}

/// What the answers mean.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    Held {
        observed: String,
    },
    Broken {
        expected: String,
        observed: String,
    },
    /// Not asked, or it examined nothing.
    Unknown {
        because: String,
    },
}

/// What a check looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Population {
    /// Things examined: rows, tables, objects.
    pub examined: u64,
    /// What they are: `rows`, `objects`.
    pub of: String,
}

/// The judgement of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Judged {
    pub finding: Finding,
    pub population: Population,
}

impl Check {
    /// What is still to be asked, given the answers so far; empty when it can be judged.
    pub fn probes(&self, database: &str, known: &[Answer]) -> Vec<Probe> {
        let database = self.database(database);
        let sql = match &self.kind {
            Kind::Query(it) => it.sql_probes(known),
            Kind::Rows(it) => it.sql_probes(known),
            Kind::Exists(it) => it.sql_probes(known),
            Kind::Expected(it) => it.sql_probes(known),
        };
        let keep_rows = match &self.kind {
            Kind::Query(it) => it.keep_rows(),
            Kind::Rows(_) => 1,
            Kind::Exists(_) => exists::KEEP_ROWS,
            Kind::Expected(_) => expected::KEEP_ROWS,
        };
        let probe = |sql| Probe {
            database: database.to_owned(),
            role: self.role.clone(),
            sql,
            timeout: self.timeout,
            keep_rows,
        };
        sql.into_iter().map(probe).collect()
    }

    /// The database that it is asked in, where the drill's own is `database`.
    pub fn database<'a>(&'a self, database: &'a str) -> &'a str {
        self.database.as_deref().unwrap_or(database)
    }

    pub fn judge(&self, answers: &[Answer]) -> Judged {
        match &self.kind {
            Kind::Query(it) => it.judge(answers),
            Kind::Rows(it) => it.judge(answers),
            Kind::Exists(it) => it.judge(answers),
            Kind::Expected(it) => it.judge(answers),
        }
    }

    /// What is broken of several things, by kind and name; empty where the check is about one thing.
    pub fn objects(&self, answers: &[Answer]) -> Vec<String> {
        match &self.kind {
            Kind::Expected(it) => it.objects(answers),
            Kind::Query(_) | Kind::Rows(_) | Kind::Exists(_) => Vec::new(),
        }
    }
}

/// The rows of an answer, or what it means that there are none.
fn answered(answer: Option<&Answer>) -> Result<&Table, Judged> {
    match answer {
        Some(Answer::Rows(table)) => Ok(table),
        Some(Answer::Refused { sqlstate, message, hint }) => Err(refused(sqlstate, message, hint.as_deref())),
        Some(Answer::Silent { because }) => Err(unknown(because.clone())),
        None => Err(unknown("it was not asked")),
    }
}

fn unknown(because: impl Into<String>) -> Judged {
    Judged { finding: Finding::Unknown { because: because.into() }, population: Population::default() }
}

/// An error is an answer: what a check names is absent, not allowed or damaged, and the check is broken, unless the error
/// tells of the scenario or of this host.
fn refused(sqlstate: &str, message: &str, hint: Option<&str>) -> Judged {
    let hint = hint.map(|it| format!(" ({it})")).unwrap_or_default();
    let observed = format!("error {sqlstate}: {message}{hint}");
    let needs_library = sqlstate == "55000" && message.contains("shared_preload_libraries");
    if let Some(why) = needs_library.then_some("this server does not preload a library").or(not_the_data(sqlstate)) {
        return unknown(format!("{why}: {observed}"));
    }
    let finding = Finding::Broken { expected: "an answer".to_owned(), observed };
    Judged { finding, population: Population::default() }
}

/// Why an error says nothing about what was restored; None where it does.
///
/// See PostgreSQL's manual, Appendix A. Class 42 is both: an undefined object is the data's, bad grammar the scenario's.
fn not_the_data(sqlstate: &str) -> Option<&'static str> {
    let why = match sqlstate {
        "57014" => "it took too long",
        "55P03" => "a lock could not be had",
        "25006" => "it writes, and the server only reads",
        // Syntax, grouping, windowing, ambiguous names, types that do not fit: no data could mend these.
        "42601" | "42602" | "42622" | "42611" | "42702" | "42712" | "42725" | "42803" | "42P08" | "42P09" | "42P10"
        | "42P18" | "42P19" | "42P20" | "42P21" | "42P22" | "42804" | "42846" => "the query is not right",
        _ => match sqlstate.get(..2)? {
            "08" => "the connection failed",
            "0A" => "this server cannot do that",
            "40" => "it collided with another transaction",
            "53" => "this host ran out of something",
            "54" => "it went over a limit of this server",
            "57" => "the server was interrupted",
            "58" => "this host failed the server",
            _ => return None,
        },
    };
    Some(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(sqlstate: &str) -> Finding {
        refused(sqlstate, "the message", Some("the hint")).finding
    }

    #[test]
    fn indexes_are_read_from_a_plan() {
        let plan = r#"[{"Plan": {"Node Type": "Append", "Plans": [
            {"Node Type": "Index Only Scan", "Schema": "public", "Index Name": "by_name"},
            {"Node Type": "Bitmap Heap Scan", "Schema": "shop", "Plans": [{"Node Type": "Bitmap Index Scan", "Index Name": "by_day"}]}
        ]}}]"#;
        let answer = |text: &str| Answer::Rows(Table { rows: vec![vec![Some(text.to_owned())]], ..Table::default() });
        assert_eq!(answer(plan).indexes(), Some(vec!["public.by_name".to_owned(), "?.by_day".to_owned()]));
        assert_eq!(answer("[{\"Plan\": {\"Node Type\": \"Seq Scan\"}}]").indexes(), Some(Vec::new()));
        assert_eq!(answer("no plan").indexes(), None);
        assert_eq!(Answer::Silent { because: String::new() }.indexes(), None);
    }

    #[test]
    fn errors_about_restored_data_break_a_check() {
        for sqlstate in [
            "42P01", "3F000", "42703", "42883", "42704", "42501", "3D000", "22023", "22P02", "23505", "P0001", "P0004",
            "55000", "XX000", "XX001", "XX002", "?",
        ] {
            let observed = format!("error {sqlstate}: the message (the hint)");
            assert_eq!(refusal(sqlstate), Finding::Broken { expected: "an answer".to_owned(), observed });
        }
    }

    #[test]
    fn errors_about_the_scenario_or_the_host_leave_a_check_unknown() {
        for sqlstate in [
            "42601", "42803", "42702", "53100", "53200", "57014", "57P01", "58030", "58P01", "08006", "0A000", "54001",
            "55P03", "40P01", "25006",
        ] {
            let finding = refusal(sqlstate);
            assert!(matches!(&finding, Finding::Unknown { because } if because.contains(sqlstate)), "{finding:?}");
        }
    }

    #[test]
    fn probes_carry_the_checks_own_database_role_and_limit() {
        let mut check = Check {
            name: "orders".to_owned(),
            severity: Severity::Major,
            database: None,
            role: Some("app".to_owned()),
            timeout: Duration::from_secs(7),
            kind: Kind::Rows(Rows {
                table: "orders".to_owned(),
                filter: None,
                expect: Count::Range { min: Some(1), max: None },
            }),
            line: None,
        };
        let sql = "select count(*) from orders".to_owned();
        let role = Some("app".to_owned());
        let timeout = Duration::from_secs(7);
        let probe = Probe { database: "shop".to_owned(), role, sql, timeout, keep_rows: 1 };
        assert_eq!(check.probes("shop", &[]), std::slice::from_ref(&probe));
        check.database = Some("other".to_owned());
        assert_eq!(check.probes("shop", &[]), [Probe { database: "other".to_owned(), ..probe }]);
        assert!(check.probes("shop", &[Answer::Silent { because: String::new() }]).is_empty());
    }
}
