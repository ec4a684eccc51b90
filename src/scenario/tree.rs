//! YAML text as a tree in which every node knows its place.
//!
//! serde-saphyr stops at its first error, so types are not checked while it reads: it makes this tree, and `collect`
//! checks the tree and finds every problem. Spans are of the definition: an alias points to its anchor.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Error, Location, NonFiniteFloatPolicy, Spanned};

use super::problem::{Mistake, Span};

/// Nodes of a file: anchors let a small file hold very many.
const MAX_NODES: usize = 20_000;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    /// Unique in the tree: an alias and its anchor differ.
    pub(super) id: usize,
    pub(super) span: Span,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Null,
    Bool(bool),
    /// As written: `1_000`, `0x1F`, `1e3`.
    Number(String),
    Text {
        text: String,
        /// One `${NAME}` was the whole value: it may be a number, though within `{…}` it had to stand in quotes.
        filled: bool,
    },
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Key {
    pub(super) text: String,
    pub(super) span: Span,
}

impl Node {
    /// What to point at: a map or list has no text of its own, so the key before it, or its first key, stands for it.
    pub(super) fn blame(&self, key: Option<Span>) -> Span {
        match &self.kind {
            Kind::Map(entries) => key.or_else(|| Some(entries.first()?.0.span)).unwrap_or(self.span),
            Kind::List(_) | Kind::Null => key.unwrap_or(self.span),
            Kind::Bool(_) | Kind::Number(_) | Kind::Text { .. } => self.span,
        }
    }

    /// Where the last of what lies within it ends.
    pub(super) fn end(&self) -> usize {
        let within = match &self.kind {
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text { .. } => None,
            Kind::List(items) => items.iter().map(Node::end).max(),
            Kind::Map(entries) => entries.iter().map(|(key, value)| key.span.end.max(value.end())).max(),
        };
        within.unwrap_or(0).max(self.span.end)
    }

    /// As a noun with its article: `a list`.
    pub(super) fn noun(&self) -> String {
        match &self.kind {
            Kind::Null => "nothing".to_owned(),
            Kind::Bool(it) => format!("`{it}`"),
            Kind::Number(text) => format!("the number `{text}`"),
            Kind::Text { text, .. } if text.chars().count() <= 40 && !text.contains('\n') => {
                format!("the text `{text}`")
            }
            Kind::Text { .. } => "a text".to_owned(),
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) => "keys".to_owned(),
        }
    }
}

/// Reads one document. Duplicate keys are kept, for `collect` to report.
pub(super) fn read(text: &str) -> Result<Node, Mistake> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_nodes: MAX_NODES, max_events: MAX_NODES * 2, max_depth: 64 },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        strict_booleans: true,
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options) {
        Ok(raw) => Ok(number(raw, text, &mut 0)),
        Err(error) => Err(syntax(&error, text)),
    }
}

fn number(raw: Spanned<Raw>, text: &str, next: &mut usize) -> Node {
    *next += 1;
    let id = *next;
    let span = span_of(&raw.defined);
    let kind = match raw.value {
        Raw::Null => Kind::Null,
        Raw::Bool(it) => Kind::Bool(it),
        Raw::Number(value) => {
            let written = text.get(span.start..span.end).map(str::trim).filter(|it| !it.is_empty());
            Kind::Number(written.map_or(value, str::to_owned))
        }
        Raw::Text(text) => Kind::Text { text, filled: false },
        Raw::List(items) => Kind::List(items.into_iter().map(|it| number(it, text, next)).collect()),
        Raw::Map(entries) => {
            let entry = |(key, value): (Spanned<String>, Spanned<Raw>)| {
                let span = span_of(&key.defined);
                (Key { text: key.value, span }, number(value, text, next))
            };
            Kind::Map(entries.into_iter().map(entry).collect())
        }
    };
    Node { id, span, kind }
}

fn span_of(location: &Location) -> Span {
    let offset = |it: Option<u64>| it.and_then(|it| usize::try_from(it).ok()).unwrap_or(0);
    let span = location.span();
    let start = offset(span.byte_offset());
    Span { start, end: start + offset(span.byte_len()) }
}

fn syntax(error: &Error, text: &str) -> Mistake {
    let mut error = error.without_snippet();
    while let Error::AliasError { error: within, .. } = error {
        error = within;
    }
    let location = error.location();
    let start = location.map_or(0, |it| byte_at(text, it.line(), it.column()));
    let length = text[start..].chars().next().map_or(0, char::len_utf8);
    let span = Span { start, end: start + length };
    #[expect(clippy::wildcard_enum_match_arm, reason = "another crate's errors: the rest speak for themselves")]
    match error {
        Error::MultipleDocuments { .. } => Mistake::new(span, "more than one document in the file")
            .help("take the `---` away, and list all drills under one `drills:`"),
        Error::Budget { .. } | Error::AliasReplayLimitExceeded { .. } | Error::AliasExpansionLimitExceeded { .. } => {
            Mistake::new(span, format!("too much in one file: more than {MAX_NODES} values, or nested too deeply"))
                .help("aliases count as often as they are used")
        }
        Error::UnknownAnchor { .. } => {
            Mistake::new(span, "this alias (`*name`) refers to no anchor (`&name`) before it")
                .help("a value that starts with `*` needs quotes")
        }
        Error::NullIntoString { .. } | Error::Unexpected { .. } => Mistake::new(span, "a key must be a text"),
        other => {
            let whole = other.to_string();
            let message = whole.split(" at line ").next().unwrap_or(&whole);
            let message = message.replace(['`', '\''], "");
            let mistake = Mistake::new(span, format!("not valid YAML: {message}"));
            let before = &text[..span.start];
            if before.ends_with("${") || before.ends_with('$') && text[span.start..].starts_with('{') {
                return mistake.help("within `{…}` and `[…]`, a `${NAME}` needs quotes: \"${NAME}\"");
            }
            mistake
        }
    }
}

fn byte_at(text: &str, line: u64, column: u64) -> usize {
    let back = |it: u64| usize::try_from(it.saturating_sub(1)).unwrap_or(usize::MAX);
    let mut start = 0;
    for piece in text.split_inclusive('\n').take(back(line)) {
        start += piece.len();
    }
    let rest = text[start..].lines().next().unwrap_or("");
    start + rest.char_indices().nth(back(column)).map_or(rest.len(), |(at, _)| at)
}

#[derive(Debug)]
enum Raw {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Number(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Number(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Raw, E> {
        Ok(Raw::Number(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Raw, E> {
        Ok(Raw::Number(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Number(value.to_string()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key()? {
            map.push((key, entries.next_value()?));
        }
        Ok(Raw::Map(map))
    }
}
