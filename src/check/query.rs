//! `query`: any SQL, judged as a scalar, as rows, as empty or as not empty.
//!
//! Values of restored data are production data: of rows that should not be there, three are shown, each value cut.
//! A query that gives no result set at all (DDL, DO, an empty text) examined nothing and is unknown, whatever it expects.

use std::cmp::Ordering;
use std::collections::HashMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::value::{compare, same, truth};
use super::{Answer, Finding, Judged, Population, Table, answered, unknown};

/// Rows shown of those that are too many, and of those that are missing.
const SHOWN_ROWS: usize = 3;
/// Characters shown of one row.
const SHOWN_CHARS: usize = 200;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Query {
    /// One statement, or several: then the last one that gives rows is judged.
    pub sql: String,
    pub expect: Expect,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    /// No rows. The population is the one query: that it found nothing is the result.
    Empty,
    NotEmpty,
    /// Exactly one row with one column.
    Scalar(Scalar),
    /// These rows. Compared as text, NULL as None, `true` and `false` also as PostgreSQL's `t` and `f`. Column names are
    /// not compared. Not ordered: as a multiset.
    Rows {
        rows: Table,
        ordered: bool,
    },
}

/// What a value is held against. A NULL is none of these but [`IsNull`](Scalar::IsNull).
///
/// Where both sides are numbers they are compared as numbers of any length (`1.0` equals `1`); `NaN` equals only itself
/// and has no order. Where both are dates or times in ISO form they are compared as instants, in UTC where no zone is given.
/// Where both are neither, they are compared as text, byte by byte; intervals too. Between a number or a time and
/// something else there is no order, and no comparison holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scalar {
    Equals(String),
    NotEquals(String),
    Less(String),
    AtMost(String),
    Greater(String),
    AtLeast(String),
    /// Both ends belong to it.
    Between(String, String),
    /// A regular expression that must be found in the value.
    Matches(String),
    IsNull,
    NotNull,
}

impl Query {
    pub(super) fn sql_probes(&self, known: &[Answer]) -> Vec<String> {
        if known.is_empty() { vec![self.sql.clone()] } else { Vec::new() }
    }

    /// Rows beyond these are only counted: what is not needed for a judgement stays in the server.
    pub(super) fn keep_rows(&self) -> usize {
        match &self.expect {
            Expect::Empty => SHOWN_ROWS,
            Expect::NotEmpty => 0,
            Expect::Scalar(_) => 1,
            // A few more, so that rows in excess can be shown.
            Expect::Rows { rows, .. } => rows.rows.len() + 100,
        }
    }

    pub(super) fn judge(&self, answers: &[Answer]) -> Judged {
        let table = match answered(answers.last()) {
            Ok(table) => table,
            Err(judged) => return judged,
        };
        if table.columns.is_empty() && table.total == 0 {
            return unknown("the query gave no result set, so nothing was examined");
        }
        let finding = match &self.expect {
            Expect::Empty => judge_empty(table),
            Expect::NotEmpty => judge_not_empty(table),
            Expect::Scalar(scalar) => judge_scalar(scalar, table),
            Expect::Rows { rows, ordered } => judge_rows(rows, *ordered, table),
        };
        let population = match (&finding, table.total) {
            (Finding::Unknown { .. }, _) => Population::default(),
            (Finding::Held { .. } | Finding::Broken { .. }, 0) => Population { examined: 1, of: "queries".to_owned() },
            (Finding::Held { .. } | Finding::Broken { .. }, rows) => {
                Population { examined: rows, of: "rows".to_owned() }
            }
        };
        Judged { finding, population }
    }
}

fn held(observed: impl Into<String>) -> Finding {
    Finding::Held { observed: observed.into() }
}

fn broken(expected: impl Into<String>, observed: impl Into<String>) -> Finding {
    Finding::Broken { expected: expected.into(), observed: observed.into() }
}

fn judge_empty(table: &Table) -> Finding {
    if table.total == 0 {
        return held("no rows");
    }
    broken("no rows", format!("{}: {}", count(table.total), show_rows(&table.rows, table.total)))
}

fn judge_not_empty(table: &Table) -> Finding {
    if table.total > 0 { held(count(table.total)) } else { broken("at least one row", "no rows") }
}

fn judge_scalar(scalar: &Scalar, table: &Table) -> Finding {
    let expected = scalar.expected();
    if table.columns.len() != 1 {
        return broken(expected, format!("{} columns where one is needed", table.columns.len()));
    }
    if table.total > 1 {
        return broken(expected, format!("{} where one is needed", count(table.total)));
    }
    let Some(value) = table.rows.first().and_then(|row| row.first()) else {
        return broken(expected, "no row");
    };
    let observed = show_value(value.as_deref());
    match scalar.holds(value.as_deref()) {
        Ok(true) => held(observed),
        Ok(false) => broken(expected, observed),
        Err(because) => Finding::Unknown { because },
    }
}

impl Scalar {
    /// Err where the expectation itself cannot be read.
    fn holds(&self, value: Option<&str>) -> Result<bool, String> {
        let Some(value) = value else { return Ok(*self == Scalar::IsNull) };
        let ordered = |other: &str| compare(value, other);
        Ok(match self {
            Scalar::Equals(other) => same(value, other),
            Scalar::NotEquals(other) => !same(value, other),
            Scalar::Less(other) => ordered(other).is_some_and(Ordering::is_lt),
            Scalar::AtMost(other) => ordered(other).is_some_and(Ordering::is_le),
            Scalar::Greater(other) => ordered(other).is_some_and(Ordering::is_gt),
            Scalar::AtLeast(other) => ordered(other).is_some_and(Ordering::is_ge),
            Scalar::Between(low, high) => {
                ordered(low).is_some_and(Ordering::is_ge) && ordered(high).is_some_and(Ordering::is_le)
            }
            Scalar::Matches(pattern) => match regex::Regex::new(pattern) {
                Ok(regex) => regex.is_match(value),
                Err(error) => return Err(format!("{pattern} is not a regular expression: {error}")),
            },
            Scalar::IsNull => false,
            Scalar::NotNull => true,
        })
    }

    fn expected(&self) -> String {
        match self {
            Scalar::Equals(other) => other.clone(),
            Scalar::NotEquals(other) => format!("not {other}"),
            Scalar::Less(other) => format!("less than {other}"),
            Scalar::AtMost(other) => format!("at most {other}"),
            Scalar::Greater(other) => format!("more than {other}"),
            Scalar::AtLeast(other) => format!("at least {other}"),
            Scalar::Between(low, high) => format!("between {low} and {high}"),
            Scalar::Matches(pattern) => format!("something that matches {pattern}"),
            Scalar::IsNull => "NULL".to_owned(),
            Scalar::NotNull => "not NULL".to_owned(),
        }
    }
}

type Row = Vec<Option<String>>;

fn judge_rows(wanted: &Table, ordered: bool, table: &Table) -> Finding {
    let expected = count(wanted.rows.len() as u64);
    if let Some(row) = wanted.rows.first()
        && row.len() != table.columns.len()
    {
        let columns = |n: usize| if n == 1 { "1 column".to_owned() } else { format!("{n} columns") };
        return broken(columns(row.len()), columns(table.columns.len()));
    }
    let difference = if ordered { first_difference(wanted, table) } else { multiset_difference(wanted, table) };
    match difference {
        None => held(count(table.total)),
        Some(difference) => broken(expected, format!("{}; {difference}", count(table.total))),
    }
}

fn first_difference(wanted: &Table, table: &Table) -> Option<String> {
    let same_row = |(a, b): (&Row, &Row)| canonical(a) == canonical(b);
    let differs = wanted.rows.iter().zip(&table.rows).position(|pair| !same_row(pair));
    let all_here = table.total == wanted.rows.len() as u64;
    let at = match differs {
        Some(at) => at,
        None if all_here => return None,
        None => wanted.rows.len().min(table.rows.len()),
    };
    let show = |rows: &[Row]| rows.get(at).map_or_else(|| "nothing".to_owned(), show_row);
    Some(format!("row {} should be {} and is {}", at + 1, show(&wanted.rows), show(&table.rows)))
}

fn multiset_difference(wanted: &Table, table: &Table) -> Option<String> {
    let mut open = HashMap::new();
    for row in &wanted.rows {
        *open.entry(canonical(row)).or_default() += 1;
    }
    let unexpected: Vec<Row> = table.rows.iter().filter(|row| !take(&mut open, row)).cloned().collect();
    // What is still open, in the order in which it was written down.
    let missing: Vec<Row> = wanted.rows.iter().filter(|row| take(&mut open, row)).cloned().collect();
    let not_kept = table.total.saturating_sub(table.rows.len() as u64);
    let mut parts = Vec::new();
    // Of an answer that was not kept whole nobody knows what is missing.
    if !missing.is_empty() && not_kept == 0 {
        parts.push(format!("{} missing: {}", missing.len(), show_rows(&missing, missing.len() as u64)));
    }
    let surplus = unexpected.len() as u64 + not_kept;
    if surplus > 0 {
        parts.push(format!("unexpected: {}", show_rows(&unexpected, surplus)));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn take<'a>(open: &mut HashMap<Vec<Option<&'a str>>, usize>, row: &'a Row) -> bool {
    match open.get_mut(&canonical(row)) {
        Some(left) if *left > 0 => {
            *left -= 1;
            true
        }
        Some(_) | None => false,
    }
}

/// A row as it is compared.
fn canonical(row: &Row) -> Vec<Option<&str>> {
    row.iter().map(|value| value.as_deref().map(truth)).collect()
}

fn count(rows: u64) -> String {
    if rows == 1 { "1 row".to_owned() } else { format!("{rows} rows") }
}

fn show_rows(rows: &[Row], total: u64) -> String {
    let shown: Vec<_> = rows.iter().take(SHOWN_ROWS).map(show_row).collect();
    let more = total.saturating_sub(shown.len() as u64);
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{tail}", shown.join(", "))
}

fn show_row(row: &Row) -> String {
    let values: Vec<_> = row.iter().map(|value| show_value(value.as_deref())).collect();
    cut(&format!("({})", values.join(", ")))
}

fn show_value(value: Option<&str>) -> String {
    match value {
        None => "NULL".to_owned(),
        Some("") => "''".to_owned(),
        // Control characters would break lines, terminals and XML.
        Some(value) => cut(value).replace(char::is_control, " "),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(columns: &[&str], rows: &[&[Option<&str>]]) -> Table {
        Table {
            columns: columns.iter().map(ToString::to_string).collect(),
            rows: rows.iter().map(|row| row.iter().map(|it| it.map(str::to_owned)).collect()).collect(),
            total: rows.len() as u64,
        }
    }

    fn judged(expect: Expect, table: Table) -> Judged {
        Query { sql: "select …".to_owned(), expect }.judge(&[Answer::Rows(table)])
    }

    /// `held`, or what was observed, or why it is unknown.
    fn outcome(expect: Expect, table: Table) -> String {
        let judged = judged(expect, table);
        let examined = judged.population.examined;
        match judged.finding {
            Finding::Held { .. } => {
                assert!(examined > 0);
                "held".to_owned()
            }
            Finding::Broken { observed, .. } => observed,
            Finding::Unknown { because } => {
                assert_eq!(examined, 0);
                format!("unknown: {because}")
            }
        }
    }

    fn scalar(scalar: Scalar, value: Option<&str>) -> bool {
        match judged(Expect::Scalar(scalar), table(&["v"], &[&[value]])).finding {
            Finding::Held { .. } => true,
            Finding::Broken { .. } => false,
            Finding::Unknown { because } => panic!("unknown: {because}"),
        }
    }

    #[test]
    fn a_query_is_asked_once_and_keeps_only_what_is_needed() {
        let query = |expect| Query { sql: "select 1".to_owned(), expect };
        assert_eq!(query(Expect::Empty).sql_probes(&[]), ["select 1"]);
        assert!(query(Expect::Empty).sql_probes(&[Answer::Rows(Table::default())]).is_empty());
        let one: &[Option<&str>] = &[None];
        let rows = table(&["a"], &[one; 7]);
        for (expect, keep) in [
            (Expect::Empty, 3),
            (Expect::NotEmpty, 0),
            (Expect::Scalar(Scalar::NotNull), 1),
            (Expect::Rows { rows, ordered: false }, 107),
        ] {
            assert_eq!(query(expect).keep_rows(), keep);
        }
    }

    #[test]
    fn a_scalar_is_held_against_its_expectation() {
        let text = |it: &str| it.to_owned();
        for (expect, value, holds) in [
            (Scalar::Equals(text("1")), "1.00", true),
            (Scalar::Equals(text("true")), "t", true),
            (Scalar::Equals(text("false")), "t", false),
            (Scalar::Equals(text("shop")), "Shop", false),
            (Scalar::Equals(text("")), "", true),
            (Scalar::NotEquals(text("1")), "1.0", false),
            (Scalar::NotEquals(text("1")), "2", true),
            (Scalar::Less(text("10")), "9", true),
            (Scalar::Less(text("10")), "10", false),
            (Scalar::AtMost(text("10")), "10.0", true),
            (Scalar::AtMost(text("10")), "10.01", false),
            (Scalar::Greater(text("9")), "10", true),
            (Scalar::Greater(text("9")), "9", false),
            (Scalar::AtLeast(text("9")), "9", true),
            (Scalar::AtLeast(text("9")), "8.9", false),
            (Scalar::Between(text("1"), text("3")), "3", true),
            (Scalar::Between(text("1"), text("3")), "1", true),
            (Scalar::Between(text("1"), text("3")), "4", false),
            (Scalar::Between(text("1"), text("3")), "0", false),
            (Scalar::Greater(text("2026-11-01")), "2026-11-01 00:00:01+00", true),
            (Scalar::Matches(text("^ord-[0-9]+$")), "ord-17", true),
            (Scalar::Matches(text("^ord-[0-9]+$")), "ord-", false),
            (Scalar::IsNull, "", false),
            (Scalar::NotNull, "", true),
        ] {
            assert_eq!(scalar(expect.clone(), Some(value)), holds, "{expect:?} {value}");
        }
    }

    #[test]
    fn null_is_only_null() {
        for expect in [
            Scalar::Equals(String::new()),
            Scalar::Equals("NULL".to_owned()),
            Scalar::NotEquals("1".to_owned()),
            Scalar::Less("1".to_owned()),
            Scalar::AtLeast("1".to_owned()),
            Scalar::Between("1".to_owned(), "2".to_owned()),
            Scalar::Matches(String::new()),
            Scalar::NotNull,
        ] {
            assert!(!scalar(expect.clone(), None), "{expect:?}");
        }
        assert!(scalar(Scalar::IsNull, None));
    }

    #[test]
    fn what_is_not_one_value_is_broken() {
        let expect = || Expect::Scalar(Scalar::NotNull);
        let one: &[Option<&str>] = &[Some("1")];
        for (table, observed) in [
            (table(&["a"], &[]), "no row"),
            (Table { rows: vec![], total: 2, ..table(&["a"], &[]) }, "2 rows where one is needed"),
            (table(&["a"], &[one, one]), "2 rows where one is needed"),
            (table(&["a", "b"], &[&[None, None]]), "2 columns where one is needed"),
            (table(&[], &[&[]]), "0 columns where one is needed"),
        ] {
            assert_eq!(outcome(expect(), table), observed);
        }
    }

    #[test]
    fn a_statement_without_a_result_examined_nothing() {
        for expect in [
            Expect::Empty,
            Expect::NotEmpty,
            Expect::Scalar(Scalar::IsNull),
            Expect::Rows { rows: Table::default(), ordered: true },
        ] {
            assert!(outcome(expect, Table::default()).starts_with("unknown: the query gave no result set"));
        }
    }

    #[test]
    fn a_bad_pattern_is_the_scenarios_fault() {
        let expect = Expect::Scalar(Scalar::Matches("(".to_owned()));
        assert!(outcome(expect, table(&["a"], &[&[Some("x")]])).starts_with("unknown: ( is not a regular expression"));
    }

    #[test]
    fn emptiness_is_a_result_and_rows_in_excess_are_shown_within_bounds() {
        assert_eq!(outcome(Expect::Empty, table(&["a"], &[])), "held");
        assert_eq!(outcome(Expect::NotEmpty, table(&["a"], &[])), "no rows");
        assert_eq!(outcome(Expect::NotEmpty, table(&["a"], &[&[None]])), "held");
        // `select from t` has rows without columns.
        assert_eq!(outcome(Expect::NotEmpty, table(&[], &[&[]])), "held");
        let long = "x".repeat(5000);
        let mut many = table(&["a", "b"], &[&[Some("1"), None], &[Some(""), Some("a\nb")], &[Some(&long), None]]);
        many.total = 1_000_000;
        let observed = outcome(Expect::Empty, many);
        assert!(observed.starts_with("1000000 rows: (1, NULL), ('', a b), (xxx"), "{observed}");
        assert!(observed.ends_with("… and 999997 more"), "{observed}");
        assert!(observed.chars().count() < 300, "{observed}");
    }

    #[test]
    fn rows_are_compared_in_order_or_as_a_multiset() {
        let (a, b): (&[Option<&str>], &[Option<&str>]) = (&[Some("1"), None], &[Some("2"), Some("t")]);
        let b_in_words: &[Option<&str>] = &[Some("2"), Some("true")];
        let empty_text: &[Option<&str>] = &[Some("1"), Some("")];
        let columns = &["id", "note"];
        for (wanted, seen, in_order, as_multiset) in [
            (&[a, b][..], &[a, b][..], "held", "held"),
            (&[a, b_in_words], &[a, b], "held", "held"),
            (&[a, b], &[b, a], "2 rows; row 1 should be (1, NULL) and is (2, t)", "held"),
            (
                &[a, a],
                &[a, b],
                "2 rows; row 2 should be (1, NULL) and is (2, t)",
                "2 rows; 1 missing: (1, NULL); unexpected: (2, t)",
            ),
            (&[a, b], &[a], "1 row; row 2 should be (2, t) and is nothing", "1 row; 1 missing: (2, t)"),
            (&[a], &[a, a], "2 rows; row 2 should be nothing and is (1, NULL)", "2 rows; unexpected: (1, NULL)"),
            (
                &[a],
                &[empty_text],
                "1 row; row 1 should be (1, NULL) and is (1, '')",
                "1 row; 1 missing: (1, NULL); unexpected: (1, '')",
            ),
            (&[], &[], "held", "held"),
            (&[], &[a], "1 row; row 1 should be nothing and is (1, NULL)", "1 row; unexpected: (1, NULL)"),
        ] {
            let expect = |ordered| Expect::Rows { rows: table(columns, wanted), ordered };
            assert_eq!(outcome(expect(true), table(columns, seen)), in_order);
            assert_eq!(outcome(expect(false), table(columns, seen)), as_multiset);
        }
    }

    #[test]
    fn other_columns_than_expected_are_broken() {
        let expect = Expect::Rows { rows: table(&["a"], &[&[Some("1")]]), ordered: false };
        assert_eq!(outcome(expect, table(&["a", "b"], &[&[Some("1"), None]])), "2 columns");
    }

    #[test]
    fn of_an_answer_that_was_not_kept_whole_nothing_is_called_missing() {
        let wanted = table(&["a"], &[&[Some("1")], &[Some("2")]]);
        let mut seen = table(&["a"], &[&[Some("1")], &[Some("9")]]);
        seen.total = 1000;
        let expect = Expect::Rows { rows: wanted, ordered: false };
        assert_eq!(outcome(expect, seen), "1000 rows; unexpected: (9) and 998 more");
    }
}
