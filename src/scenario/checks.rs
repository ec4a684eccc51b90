//! The checks of a drill, from what is written.

use std::collections::BTreeSet;
use std::time::Duration;

use super::collect::At;
use super::convert::{Converter, strings};
use super::csv;
use super::problem::{Mistake, Span, nearest};
use super::units::{Length, Name, Pattern, Slack, Text, Value, without_only};
use super::wire::{WireCheck, WireExists, WireExpect, WireExpectKeys, WireExtension, WireQuery, WireRows};
use crate::check::{Check, Count, Exists, Expect, Kind, Query, Rows, Scalar, Severity, Table, Tolerance};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);

/// A check before it has its name.
struct Unnamed {
    name: Option<At<Text>>,
    /// What it is called without a name of its own.
    default: String,
    check: Check,
}

/// A key of `expect`, and what it says; None where that is wrong, and noted.
type Way = (&'static str, Option<Expect>);

impl Converter<'_> {
    pub(super) fn checks(&self, wire: Vec<At<WireCheck>>) -> Vec<Check> {
        let checks: Vec<Unnamed> = wire.into_iter().filter_map(|it| self.check(it)).collect();
        let mut taken: BTreeSet<String> = BTreeSet::new();
        for name in checks.iter().filter_map(|it| it.name.as_ref()) {
            if name.value.0.contains(|it: char| it.is_control()) {
                self.note(Mistake::new(name.span, "a check's name must be one line of plain text"));
            }
            if !taken.insert(name.value.0.trim().to_owned()) {
                let mistake = Mistake::new(name.span, format!("two checks are named `{}`", name.value.0.trim()));
                self.note(mistake.help("reports and waivers tell checks apart by their names"));
            }
        }
        let named = |it: Unnamed| {
            let name = match it.name {
                Some(name) => name.value.0.trim().to_owned(),
                None => unique(&it.default, &mut taken),
            };
            Check { name, ..it.check }
        };
        checks.into_iter().map(named).collect()
    }

    fn check(&self, wire: At<WireCheck>) -> Option<Unnamed> {
        let line = self.line(wire.span);
        let unnamed = |name, default: String, asked: Asked, kind| {
            let check = Check {
                name: String::new(),
                severity: asked.severity.unwrap_or_default(),
                database: asked.database.map(|it| it.0),
                role: asked.role.map(|it| it.0),
                timeout: asked.timeout.map_or(DEFAULT_TIMEOUT, |it| it.0),
                kind,
                line: Some(line),
            };
            Some(Unnamed { name, default, check })
        };
        match wire.value {
            WireCheck::Rows(it) => {
                let expect = self.count(&it, wire.span, wire.extent)?;
                let WireRows { name, table, filter, database, role, timeout, severity, .. } = it;
                let filter = filter.map(|it| it.0);
                let counted = without_only(&table.0);
                let default = match &filter {
                    Some(filter) => format!("rows in {counted} where {}", short(filter)),
                    None => format!("rows in {counted}"),
                };
                let kind = Kind::Rows(Rows { table: table.0, filter, expect });
                unnamed(name, default, Asked { database, role, timeout, severity }, kind)
            }
            WireCheck::Query(it) => {
                let WireQuery { name, sql, expect, database, role, timeout, severity } = it;
                let expect = self.expect(expect)?;
                let kind = Kind::Query(Query { sql: sql.0, expect });
                unnamed(Some(name), String::new(), Asked { database, role, timeout, severity }, kind)
            }
            WireCheck::Exists(it) => {
                let WireExists { name, database, role, timeout, severity, .. } = it;
                let extensions = it.extensions.into_iter().flatten();
                let exists = Exists {
                    schemas: it.schemas.into_iter().flatten().map(|it| it.0).collect(),
                    tables: it.tables.into_iter().flatten().map(|it| it.0).collect(),
                    columns: it.columns.into_iter().flatten().map(|it| it.0).collect(),
                    indexes: it.indexes.into_iter().flatten().map(|it| it.0).collect(),
                    functions: strings(it.functions),
                    extensions: extensions.map(|WireExtension { name, version }| (name, version)).collect(),
                    roles: strings(it.roles),
                };
                if exists == Exists::default() {
                    if self.findings.has_mistake_in(wire.extent) {
                        return None;
                    }
                    let mistake = Mistake::new(wire.span, "this check names nothing that must exist");
                    self.note(
                        mistake.help(
                            "list `schemas`, `tables`, `columns`, `indexes`, `functions`, `extensions` or `roles`",
                        ),
                    );
                    return None;
                }
                let kind = Kind::Exists(exists);
                unnamed(name, "objects exist".to_owned(), Asked { database, role, timeout, severity }, kind)
            }
        }
    }

    fn count(&self, wire: &WireRows, place: Span, extent: Span) -> Option<Count> {
        let WireRows { min, max, equals, tolerance, .. } = wire;
        if let Some(equals) = equals {
            for (key, other) in [("min", min), ("max", max)] {
                if let Some(other) = other {
                    let mistake = Mistake::new(other.span, format!("`{key}` beside `equals`"));
                    self.note(mistake.help("give either one exact number, or a range"));
                }
            }
            let tolerance = match tolerance.as_ref().map(|it| it.value) {
                None => Tolerance::Rows(0),
                Some(Slack::Rows(rows)) => Tolerance::Rows(rows),
                Some(Slack::Percent(percent)) => Tolerance::Percent(percent),
            };
            return Some(Count::Equals { rows: equals.value, tolerance });
        }
        if let Some(tolerance) = tolerance {
            let mistake = Mistake::new(tolerance.span, "`tolerance` without `equals`");
            self.note(mistake.help("a range has no tolerance: widen `min` or `max` instead"));
        }
        match (min, max) {
            (None, None) if self.findings.has_mistake_in(extent) => return None,
            (None, None) => {
                let mistake = Mistake::new(place, "this check expects nothing: it could not fail");
                self.note(mistake.help("give `min`, `max` or `equals`"));
                return None;
            }
            (Some(min), Some(max)) if min.value > max.value => {
                let message = format!("`min` is {} and `max` only {}", min.value, max.value);
                self.note(Mistake::new(min.span, message).help("no number of rows is both"));
            }
            (Some(min), None) if min.value == 0 => {
                let mistake = Mistake::new(min.span, "at least 0 rows is always true: the check could not fail");
                self.note(mistake.help("give 1 or more; that a table is there at all is for `exists`"));
            }
            (Some(_), _) | (None, Some(_)) => {}
        }
        Some(Count::Range { min: min.as_ref().map(|it| it.value), max: max.as_ref().map(|it| it.value) })
    }

    fn expect(&self, wire: At<WireExpect>) -> Option<Expect> {
        match wire.value {
            WireExpect::Word(Value(None)) => Some(Expect::Scalar(Scalar::IsNull)),
            WireExpect::Word(Value(Some(text))) => match text.as_str() {
                "empty" => Some(Expect::Empty),
                "not empty" => Some(Expect::NotEmpty),
                "null" => Some(Expect::Scalar(Scalar::IsNull)),
                "not null" => Some(Expect::Scalar(Scalar::NotNull)),
                _ => {
                    self.suspicious(&text, wire.span);
                    Some(Expect::Scalar(Scalar::Equals(text)))
                }
            },
            WireExpect::Keys(keys) => self.expect_keys(*keys, wire.span, wire.extent),
        }
    }

    /// A text that is surely meant as a condition, and would be compared as a value.
    fn suspicious(&self, text: &str, place: Span) {
        let help = format!("to compare with this text itself, write `{{equals: \"{text}\"}}`");
        if let Some(operator) = ["<=", ">=", "!=", "<>", "<", ">", "="].iter().find(|it| text.starts_with(**it)) {
            let value = text[operator.len()..].trim();
            let key = match *operator {
                "!=" | "<>" => "not",
                "=" => "equals",
                other => other,
            };
            let key = if key.starts_with(['<', '>']) { format!("\"{key}\"") } else { key.to_owned() };
            let mistake = Mistake::new(place, "a comparison must be written as a key");
            self.note(mistake.label(format!("did you mean `{{{key}: {value}}}`?")).help(help));
            return;
        }
        let words = ["empty", "not empty", "null", "not null"];
        let spaced = text.trim().to_lowercase().replace(['_', '-'], " ");
        let near = words
            .into_iter()
            .find(|it| *it == spaced || it.replace(' ', "") == spaced || *it == spaced.replace("non ", "not "));
        if let Some(near) = near.or_else(|| nearest(&spaced, ["empty", "not empty", "not null"])) {
            let mistake = Mistake::new(place, format!("`{text}` would be compared as a text"));
            self.note(mistake.label(format!("did you mean `{near}`?")).help(help));
        }
    }

    fn expect_keys(&self, keys: WireExpectKeys, place: Span, extent: Span) -> Option<Expect> {
        let mut ways = self.scalars(&keys, place);
        ways.extend(self.tables(keys));
        match (ways.pop(), ways.pop()) {
            (Some((_, expect)), None) => expect,
            (Some((second, _)), Some((first, _))) => {
                let mistake = Mistake::new(place, format!("`{first}` and `{second}` in one expectation"));
                self.note(mistake.help("a check has one expectation: use `between`, or make two checks"));
                None
            }
            (None, _) => {
                if !self.findings.has_mistake_in(extent) {
                    let mistake = Mistake::new(place, "this check expects nothing");
                    self.note(mistake.help("write `expect: empty`, or a value"));
                }
                None
            }
        }
    }

    /// The ways that are given to judge one value, by key; None within for those that are wrong and noted.
    fn scalars(&self, keys: &WireExpectKeys, place: Span) -> Vec<Way> {
        let mut ways: Vec<Way> = Vec::new();
        let mut add = |key, scalar: Option<Scalar>| ways.push((key, scalar.map(Expect::Scalar)));
        if let Some(Value(it)) = &keys.equals {
            add("equals", Some(it.clone().map_or(Scalar::IsNull, Scalar::Equals)));
        }
        if let Some(Value(it)) = &keys.not {
            add("not", Some(it.clone().map_or(Scalar::NotNull, Scalar::NotEquals)));
        }
        let mut compare = |key, value: &Option<Value>, make: fn(String) -> Scalar| {
            let Some(Value(value)) = value else { return };
            if value.is_none() {
                self.note(Mistake::new(place, format!("nothing is `{key}` null: SQL says null to it")));
            }
            add(key, value.clone().map(make));
        };
        compare("<", &keys.less, Scalar::Less);
        compare("<=", &keys.at_most, Scalar::AtMost);
        compare(">", &keys.greater, Scalar::Greater);
        compare(">=", &keys.at_least, Scalar::AtLeast);
        if let Some(it) = &keys.between {
            add("between", self.between(it));
        }
        if let Some(Pattern(it)) = &keys.matches {
            add("matches", Some(Scalar::Matches(it.clone())));
        }
        ways
    }

    /// The ways that are given to compare with rows.
    fn tables(&self, keys: WireExpectKeys) -> Vec<Way> {
        let WireExpectKeys { rows, rows_file, ordered, columns, .. } = keys;
        if let Some(it) = ordered.as_ref().filter(|_| rows.is_none() && rows_file.is_none()) {
            self.note(Mistake::new(it.span, "`ordered` goes with `rows` or `rows_file` only"));
        }
        if let Some(it) = columns.as_ref().filter(|_| rows.is_none()) {
            self.note(Mistake::new(it.span, "`columns` goes with `rows` only").help("a file names its columns itself"));
        }
        let is_ordered = ordered.is_some_and(|it| it.value);
        let mut ways: Vec<Way> = Vec::new();
        ways.extend(rows.map(|it| ("rows", self.rows(it, columns, is_ordered))));
        ways.extend(rows_file.map(|it| ("rows_file", self.rows_file(&it, is_ordered))));
        ways
    }

    fn between(&self, it: &At<Vec<Value>>) -> Option<Scalar> {
        let [Value(Some(low)), Value(Some(high))] = it.value.as_slice() else {
            self.note(Mistake::new(it.span, "`between` needs two values").help("write `between: [1, 10]`"));
            return None;
        };
        if let (Ok(first), Ok(second)) = (low.parse::<f64>(), high.parse::<f64>())
            && first > second
        {
            let mistake = Mistake::new(it.span, format!("nothing lies between {low} and {high}"));
            self.note(mistake.help("the smaller comes first"));
        }
        Some(Scalar::Between(low.clone(), high.clone()))
    }

    fn rows(&self, rows: At<Vec<At<Vec<Value>>>>, columns: Option<At<Vec<Text>>>, ordered: bool) -> Option<Expect> {
        let columns = strings(columns.map(|it| it.value));
        let Some(first) = rows.value.first() else {
            self.note(
                Mistake::new(rows.span, "`rows` lists no row").help("write `expect: empty` if there must be none"),
            );
            return None;
        };
        let width = if columns.is_empty() { first.value.len() } else { columns.len() };
        for row in &rows.value {
            if row.value.len() != width {
                let message = format!("a row of {} where {width} values are expected", row.value.len());
                self.note(Mistake::new(row.span, message));
            }
        }
        let rows: Vec<Vec<Option<String>>> =
            rows.value.into_iter().map(|row| row.value.into_iter().map(|it| it.0).collect()).collect();
        let total = rows.len() as u64;
        Some(Expect::Rows { rows: Table { columns, rows, total }, ordered })
    }

    fn rows_file(&self, name: &At<Text>, ordered: bool) -> Option<Expect> {
        let path = self.path(name, false);
        self.named.borrow_mut().insert(path.clone());
        let table = match self.environment.texts.get(&path) {
            Some(Ok(text)) => csv::table(text),
            Some(Err(why)) => Err(why.clone()),
            None => Err("it was not loaded".to_owned()),
        };
        match table {
            Ok(rows) => Some(Expect::Rows { rows, ordered }),
            Err(why) => {
                let mistake = Mistake::new(name.span, format!("cannot use `{}`: {why}", name.value.0));
                self.note(mistake.help(format!("the file is {path}")));
                None
            }
        }
    }
}

/// What every kind of check says.
struct Asked {
    database: Option<Name>,
    role: Option<Name>,
    timeout: Option<Length>,
    severity: Option<Severity>,
}

fn short(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn unique(name: &str, taken: &mut BTreeSet<String>) -> String {
    let numbered = (2u32..).map(|it| format!("{name} ({it})"));
    let free = std::iter::once(name.to_owned()).chain(numbered).find(|it| !taken.contains(it));
    let free = free.unwrap_or_else(|| name.to_owned());
    taken.insert(free.clone());
    free
}
