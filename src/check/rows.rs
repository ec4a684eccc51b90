//! `rows`: an exact row count. Never an estimate from the statistics.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Answer, Finding, Judged, Population, answered, unknown};

/// Rows are counted by the server, with `select count(*)`; of a partitioned table, in all of its partitions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rows {
    /// In SQL syntax: `shop.orders`, `shop."Order Lines"`.
    pub table: String,
    /// A condition in SQL: what follows WHERE.
    pub filter: Option<String>,
    pub expect: Count,
}

/// How many rows there should be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Count {
    /// Both ends belong to it. Without either, nothing is expected and the check is unknown.
    Range {
        min: Option<u64>,
        max: Option<u64>,
    },
    Equals {
        rows: u64,
        tolerance: Tolerance,
    },
}

/// How far a count may lie from what was expected, in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tolerance {
    Rows(u64),
    /// Of the expected count.
    Percent(f64),
}

impl Rows {
    pub(super) fn sql_probes(&self, known: &[Answer]) -> Vec<String> {
        if !known.is_empty() {
            return Vec::new();
        }
        let table = &self.table;
        // The line breaks keep a trailing comment in the filter from swallowing the parenthesis.
        let filter = self.filter.as_deref().map(|it| format!(" where (\n{it}\n)")).unwrap_or_default();
        vec![format!("select count(*) from {table}{filter}")]
    }

    pub(super) fn judge(&self, answers: &[Answer]) -> Judged {
        let table = match answered(answers.last()) {
            Ok(table) => table,
            Err(judged) => return judged,
        };
        let counted = table.rows.first().and_then(|row| row.first()).and_then(|it| it.as_deref()?.parse::<u64>().ok());
        let Some(counted) = counted else {
            return unknown("the server gave no count");
        };
        let Some((expected, holds)) = self.expect.compare(counted) else {
            return unknown("neither a minimum nor a maximum is expected");
        };
        let observed = rows_in_words(counted);
        let finding = if holds { Finding::Held { observed } } else { Finding::Broken { expected, observed } };
        // Of an empty table, it is the table that was examined: an expected zero is a result.
        let population = match counted {
            0 => Population { examined: 1, of: "tables".to_owned() },
            _ => Population { examined: counted, of: "rows".to_owned() },
        };
        Judged { finding, population }
    }
}

impl Count {
    /// What is expected, in words, and whether a count is that; None where nothing is expected.
    fn compare(&self, counted: u64) -> Option<(String, bool)> {
        match self {
            Count::Range { min: None, max: None } => None,
            Count::Range { min: Some(min), max: None } => {
                Some((format!("at least {}", rows_in_words(*min)), counted >= *min))
            }
            Count::Range { min: None, max: Some(max) } => {
                Some((format!("at most {}", rows_in_words(*max)), counted <= *max))
            }
            Count::Range { min: Some(min), max: Some(max) } => {
                Some((format!("{min} to {}", rows_in_words(*max)), (*min..=*max).contains(&counted)))
            }
            Count::Equals { rows, tolerance } => {
                let (words, holds) = tolerance.compare(*rows, counted.abs_diff(*rows));
                Some((format!("{}{words}", rows_in_words(*rows)), holds))
            }
        }
    }
}

impl Tolerance {
    fn compare(self, expected: u64, distance: u64) -> (String, bool) {
        match self {
            Tolerance::Rows(0) => (String::new(), distance == 0),
            Tolerance::Rows(most) => (format!(" ± {most}"), distance <= most),
            Tolerance::Percent(percent) => {
                #[expect(clippy::cast_precision_loss, reason = "beyond 2^53 rows, a row more or less is no per cent")]
                let holds = distance as f64 <= expected as f64 * percent / 100.0;
                (format!(" ± {percent} %"), distance == 0 || holds)
            }
        }
    }
}

fn rows_in_words(count: u64) -> String {
    if count == 1 { "1 row".to_owned() } else { format!("{count} rows") }
}

#[cfg(test)]
mod tests {
    use super::super::Table;
    use super::*;

    fn rows(expect: Count) -> Rows {
        Rows { table: "shop.orders".to_owned(), filter: None, expect }
    }

    fn counted(count: &str) -> [Answer; 1] {
        let rows = vec![vec![Some(count.to_owned())]];
        [Answer::Rows(Table { columns: vec!["count".to_owned()], rows, total: 1 })]
    }

    #[test]
    fn counts_are_exact_and_filtered() {
        let mut rows = rows(Count::Range { min: Some(1), max: None });
        assert_eq!(rows.sql_probes(&[]), ["select count(*) from shop.orders"]);
        rows.filter = Some("paid -- by card".to_owned());
        assert_eq!(rows.sql_probes(&[]), ["select count(*) from shop.orders where (\npaid -- by card\n)"]);
        assert!(rows.sql_probes(&counted("1")).is_empty());
    }

    #[test]
    fn a_count_is_held_against_its_range_or_number() {
        let range = |min, max| Count::Range { min, max };
        let about = |rows, tolerance| Count::Equals { rows, tolerance };
        for (expect, count, holds) in [
            (range(Some(10), None), "10", true),
            (range(Some(10), None), "9", false),
            (range(None, Some(10)), "10", true),
            (range(None, Some(10)), "11", false),
            (range(Some(5), Some(10)), "5", true),
            (range(Some(5), Some(10)), "4", false),
            (range(Some(5), Some(10)), "11", false),
            (range(None, Some(0)), "0", true),
            (about(100, Tolerance::Rows(0)), "100", true),
            (about(100, Tolerance::Rows(0)), "101", false),
            (about(100, Tolerance::Rows(2)), "98", true),
            (about(100, Tolerance::Rows(2)), "103", false),
            (about(1000, Tolerance::Percent(0.5)), "995", true),
            (about(1000, Tolerance::Percent(0.5)), "1006", false),
            (about(0, Tolerance::Percent(50.0)), "1", false),
            (about(7, Tolerance::Percent(f64::NAN)), "7", true),
            (about(7, Tolerance::Percent(f64::NAN)), "8", false),
            (about(u64::MAX, Tolerance::Rows(0)), "18446744073709551615", true),
        ] {
            let judged = rows(expect.clone()).judge(&counted(count));
            assert_eq!(matches!(judged.finding, Finding::Held { .. }), holds, "{expect:?} {count}");
            assert_eq!(matches!(judged.finding, Finding::Broken { .. }), !holds, "{expect:?} {count}");
            assert!(judged.population.examined > 0);
        }
    }

    #[test]
    fn a_broken_count_says_what_was_expected() {
        let judged = rows(Count::Equals { rows: 100, tolerance: Tolerance::Percent(1.5) }).judge(&counted("1"));
        let (expected, observed) = ("100 rows ± 1.5 %".to_owned(), "1 row".to_owned());
        assert_eq!(judged.finding, Finding::Broken { expected, observed });
        assert_eq!(judged.population, Population { examined: 1, of: "rows".to_owned() });
    }

    #[test]
    fn what_was_not_counted_is_unknown() {
        let silent = Answer::Silent { because: "time-out".to_owned() };
        for (expect, answers) in [
            (Count::Range { min: None, max: None }, counted("1").to_vec()),
            (Count::Range { min: Some(1), max: None }, vec![]),
            (Count::Range { min: Some(1), max: None }, vec![silent]),
            (Count::Range { min: Some(1), max: None }, vec![Answer::Rows(Table::default())]),
            (Count::Range { min: Some(1), max: None }, counted("many").to_vec()),
        ] {
            let judged = rows(expect).judge(&answers);
            assert!(matches!(judged.finding, Finding::Unknown { .. }), "{judged:?}");
            assert_eq!(judged.population.examined, 0);
        }
    }

    #[test]
    fn an_absent_table_is_broken() {
        let message = "relation \"shop.orders\" does not exist".to_owned();
        let refused = Answer::Refused { sqlstate: "42P01".to_owned(), message, hint: None };
        let judged = rows(Count::Range { min: Some(1), max: None }).judge(&[refused]);
        assert!(matches!(judged.finding, Finding::Broken { .. }), "{judged:?}");
    }
}
