//! Values as people write them: durations, sizes, phases, SQL names. Errors are `message` or `message\nhelp`.

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::time::Duration;

use jiff::{SignedDuration, Span, SpanRelativeTo};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Visitor};

use super::collect::VALUE;
use super::problem::{listed, nearest};
use crate::phase::Phase;

/// Makes a type that is read from one text by a function, with its JSON Schema.
macro_rules! from_text {
    ($(#[$doc:meta])* $name:ident($inner:ty), $parse:path, $schema:tt) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub(super) struct $name(pub(super) $inner);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                let text = String::deserialize(deserializer)?;
                $parse(&text).map($name).map_err(D::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

from_text!(
    /// A text that says something.
    Text(String), text, { "type": ["string", "number", "boolean"] });
from_text!(
    /// The name of something in PostgreSQL, as it is: a blank is one too.
    Name(String), name, { "type": ["string", "number", "boolean"] });
from_text!(
    /// Longer than nothing.
    Length(Duration), length, { "type": "string", "examples": ["90s", "30m", "1h 30m", "2 days", "PT1H"] });
from_text!(
    /// Bytes.
    Size(u64), size, { "type": ["string", "integer"], "examples": ["512MiB", "2GB", "32g"] });
from_text!(
    /// A number from 1 on.
    Positive(u32), positive, { "type": "integer", "minimum": 1 });
from_text!(
    /// An IANA time zone's name.
    Zone(String), zone, { "type": "string", "examples": ["Europe/Madrid", "UTC"] });
from_text!(
    /// A calendar day.
    Day(jiff::civil::Date), day, { "type": "string", "format": "date" });
from_text!(
    /// `FIRST..LAST`
    Phases(RangeInclusive<Phase>), phases, { "type": "string", "examples": ["provision..ready", "inspect..ready"] });
from_text!(
    /// A regular expression that compiles.
    Pattern(String), pattern, { "type": "string", "format": "regex" });
from_text!(
    /// The name of a table or view whose rows are counted, as SQL writes it; `only` may stand before it.
    TableName(String), table_name, { "type": "string", "examples": ["shop.orders", "shop.\"Order Items\""] });
from_text!(
    /// The name of a table, view or index, as SQL writes it.
    RelationName(String), relation_name, { "type": "string", "examples": ["shop.orders", "shop.\"Order Items\""] });
from_text!(
    /// The name of a schema, as SQL writes it.
    SchemaName(String), schema_name, { "type": "string", "examples": ["shop", "\"Größen\""] });
from_text!(
    /// The name of a column with its table, as SQL writes it.
    ColumnName(String), column_name, { "type": "string", "examples": ["shop.orders.id"] });

fn text(text: &str) -> Result<String, String> {
    name(if text.trim().is_empty() { "" } else { text })
}

fn name(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("an empty text\ngive the key a value, or take it away".to_owned());
    }
    if text.contains('\0') {
        return Err("a text with a NUL character, which PostgreSQL cannot hold".to_owned());
    }
    Ok(text.to_owned())
}

/// A length of time: jiff's friendly format or ISO 8601. Days have 24 hours; there are no months and years.
pub(crate) fn length(text: &str) -> Result<Duration, String> {
    const HELP: &str = "write a number and a unit, like `90s`, `30m`, `1h 30m` or `2 days`";
    let text = text.trim();
    if !text.is_empty() && text.chars().all(|it| it.is_ascii_digit() || it == '.') {
        return Err(format!("the time `{text}` has no unit\n{HELP}"));
    }
    let span: Span = text.parse().map_err(|_| format!("`{text}` is no length of time\n{HELP}"))?;
    let length: SignedDuration = span
        .to_duration(SpanRelativeTo::days_are_24_hours())
        .map_err(|_| format!("`{text}` is no fixed length of time\nmonths and years vary: count in days"))?;
    match Duration::try_from(length) {
        Ok(length) if !length.is_zero() => Ok(length),
        Ok(_) => Err("a time of zero can never be kept\nto have no limit, take the key away".to_owned()),
        Err(_) => Err(format!("the time `{text}` is negative")),
    }
}

/// Bytes, as PostgreSQL and Docker read them: units are powers of 1024.
pub(super) fn size(text: &str) -> Result<u64, String> {
    const HELP: &str = "write a number and a unit, like `512MB` or `32g` (powers of 1024)";
    const LEAST: f64 = 1024.0 * 1024.0;
    let text = text.trim();
    let digits = text.find(|it: char| !it.is_ascii_digit() && it != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| format!("`{text}` is no size\n{HELP}"))?;
    let exponent = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        other => return Err(format!("unknown unit `{other}`\n{HELP}")),
    };
    let bytes = number * 1024f64.powi(exponent);
    if bytes < LEAST {
        return Err(format!("`{text}` is less than 1 MiB: too little for a server\n{HELP}"));
    }
    if bytes > 2f64.powi(60) {
        return Err(format!("`{text}` is more than any machine has"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 2^20 and 2^60")]
    Ok(bytes as u64)
}

fn positive(text: &str) -> Result<u32, String> {
    match text.replace('_', "").parse() {
        Ok(number) if number > 0 => Ok(number),
        Ok(_) | Err(_) => Err(format!("expected a whole number from 1 on, found `{text}`")),
    }
}

fn zone(text: &str) -> Result<String, String> {
    match jiff::tz::TimeZone::get(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!(
            "unknown time zone `{text}`\nwrite the name that the machine which dumps has, like `Europe/Madrid` or `UTC`"
        )),
    }
}

fn day(text: &str) -> Result<jiff::civil::Date, String> {
    let help = "write a day like `2027-01-31`: the last one on which this holds";
    let plain = text.len() == 10;
    text.parse().ok().filter(|_| plain).ok_or_else(|| format!("`{text}` is no date\n{help}"))
}

fn phases(text: &str) -> Result<RangeInclusive<Phase>, String> {
    let Some((first, last)) = text.split_once("..") else {
        return Err(format!("`{text}` is no span of phases\nwrite `FIRST..LAST`, like `provision..ready`"));
    };
    let (first, last) = (phase(first.trim())?, phase(last.trim().trim_start_matches('='))?);
    if first > last {
        return Err(format!("`{first}` comes after `{last}`\nthe span must begin with the earlier phase"));
    }
    if first == Phase::Prepare {
        return Err("a recovery time never covers `prepare`\nlet it begin at `inspect` or later".to_owned());
    }
    if last == Phase::Teardown {
        return Err("a recovery time never covers `teardown`\nlet it end at `ready` or `validate`".to_owned());
    }
    Ok(first..=last)
}

fn phase(name: &str) -> Result<Phase, String> {
    let names = || Phase::ALL.iter().map(|it| it.name());
    Phase::ALL.into_iter().find(|it| it.name() == name).ok_or_else(|| match nearest(name, names()) {
        Some(near) => format!("unknown phase `{name}`\ndid you mean `{near}`?"),
        None => format!("unknown phase `{name}`\nthe phases are {}", listed(names(), "and")),
    })
}

fn pattern(text: &str) -> Result<String, String> {
    match regex::Regex::new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => {
            let why = error.to_string();
            let why = why.lines().last().unwrap_or("").trim_start_matches("error: ").to_owned();
            Err(format!("invalid regular expression: {why}"))
        }
    }
}

fn table_name(text: &str) -> Result<String, String> {
    match split_name(without_only(text))?.len() {
        1 | 2 => Ok(text.trim().to_owned()),
        _ => Err(format!(
            "`{text}` is not a table's name\nwrite `schema.table`; a dot within a name needs double quotes"
        )),
    }
}

/// `only shop.orders` is shop.orders, without the tables that inherit from it.
pub(super) fn without_only(text: &str) -> &str {
    match text.trim().split_at_checked(5) {
        Some((only, table)) if only.eq_ignore_ascii_case("only ") => table.trim_start(),
        Some(_) | None => text.trim(),
    }
}

fn schema_name(text: &str) -> Result<String, String> {
    match split_name(text)?.len() {
        1 => Ok(text.trim().to_owned()),
        _ => Err(format!("`{text}` is not a schema's name\na dot within a name needs double quotes")),
    }
}

fn relation_name(text: &str) -> Result<String, String> {
    if without_only(text) == text.trim() { table_name(text) } else { Err("`only` belongs to `rows`".to_owned()) }
}

fn column_name(text: &str) -> Result<String, String> {
    match split_name(text)?.len() {
        2 | 3 => Ok(text.trim().to_owned()),
        _ => Err(format!("`{text}` is not a column's name\nwrite `schema.table.column`")),
    }
}

/// The parts of a name as SQL writes it: `a."B c"` gives `a` and `B c`. Unquoted parts become lowercase.
pub(super) fn split_name(text: &str) -> Result<Vec<String>, String> {
    const HELP: &str = "a name with capitals, spaces or signs needs double quotes: `shop.\"Order Items\"`";
    let mut parts = Vec::new();
    let mut rest = text.trim();
    loop {
        let part = if let Some(quoted) = rest.strip_prefix('"') {
            let mut name = String::new();
            let mut tail = quoted;
            loop {
                let Some(end) = tail.find('"') else {
                    return Err(format!("the double quote in `{text}` is not closed\n{HELP}"));
                };
                name.push_str(&tail[..end]);
                tail = &tail[end + 1..];
                let Some(more) = tail.strip_prefix('"') else { break };
                name.push('"');
                tail = more;
            }
            rest = tail;
            name
        } else {
            let end = rest.find('.').unwrap_or(rest.len());
            let (name, tail) = rest.split_at(end);
            rest = tail;
            let odd = |it: char| it.is_ascii() && !(it.is_ascii_alphanumeric() || it == '_' || it == '$');
            if name.contains(odd) || name.starts_with(|it: char| it.is_ascii_digit() || it == '$') {
                return Err(format!("`{text}` is not a name as SQL writes it\n{HELP}"));
            }
            name.to_ascii_lowercase()
        };
        if part.is_empty() {
            return Err(format!("`{text}` has an empty part\n{HELP}"));
        }
        parts.push(part);
        match rest.strip_prefix('.') {
            Some(tail) => rest = tail,
            None if rest.is_empty() => return Ok(parts),
            None => return Err(format!("`{text}` is not a name as SQL writes it\n{HELP}")),
        }
    }
}

/// How far a row count may be off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Slack {
    Rows(u64),
    Percent(f64),
}

impl<'de> Deserialize<'de> for Slack {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Slack, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong =
            || D::Error::custom(format!("`{text}` is no tolerance\nwrite a number of rows, or a share like `5%`"));
        match text.trim().strip_suffix('%') {
            None => text.trim().replace('_', "").parse().map(Slack::Rows).map_err(|_| wrong()),
            Some(share) => {
                let share: f64 = share.trim().parse().map_err(|_| wrong())?;
                if (0.0..=100.0).contains(&share) { Ok(Slack::Percent(share)) } else { Err(wrong()) }
            }
        }
    }
}

impl JsonSchema for Slack {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Tolerance".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["integer", "string"], "minimum": 0, "examples": [10, "5%"] })
    }
}

/// A value to compare with, as text; None is SQL's null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Value(pub(super) Option<String>);

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        struct ValueVisitor;
        impl<'de> Visitor<'de> for ValueVisitor {
            type Value = Value;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("one value")
            }

            fn visit_none<E>(self) -> Result<Value, E> {
                Ok(Value(None))
            }

            fn visit_str<E>(self, text: &str) -> Result<Value, E> {
                Ok(Value(Some(text.to_owned())))
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, _: D) -> Result<Value, D::Error> {
                Err(D::Error::custom("expected one value, found keys"))
            }
        }
        deserializer.deserialize_newtype_struct(VALUE, ValueVisitor)
    }
}

impl JsonSchema for Value {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Value".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number", "boolean", "null"] })
    }
}

/// For keys whose null means something: the key was given.
pub(super) fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
