//! A serde deserializer over the tree that finds every mistake, not only the first.
//!
//! serde's derived code gives up at its first error. So what failed is noted, left out of the tree, and the whole is tried
//! again until it succeeds or the root itself fails. What was left out is not called missing.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::value::{StrDeserializer, U64Deserializer};
use serde::de::{
    self, Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer,
    MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::problem::{Mistake, Span, listed, nearest};
use super::tree::{Key, Kind, Node};

/// More mistakes than anybody reads: each costs a pass over the tree.
const MAX_MISTAKES: usize = 100;

/// The name that makes `At` ask for its place.
pub(super) const AT: &str = "$at";
/// The name that makes a newtype see a scalar as a text, a null as none, and keys as a newtype.
pub(super) const VALUE: &str = "$value";

/// The name that makes a newtype see a list as a list, and keys as a newtype.
pub(super) const LISTED: &str = "$listed";

/// Keys that the format has and this version does not do: (type, key, why not).
pub(super) type Unsupported = &'static [(&'static str, &'static str, &'static str)];

/// What was found in one file.
pub(super) struct Findings {
    pub(super) mistakes: RefCell<Vec<Mistake>>,
    /// Secrets that stand in the file itself: no message shows them.
    pub(super) secrets: RefCell<Vec<Span>>,
    /// Nodes that are left out.
    broken: RefCell<BTreeSet<usize>>,
    unsupported: Unsupported,
}

impl Findings {
    pub(super) fn new(unsupported: Unsupported) -> Findings {
        Findings { mistakes: RefCell::default(), secrets: RefCell::default(), broken: RefCell::default(), unsupported }
    }

    /// Leaves out nodes whose mistakes have been noted.
    pub(super) fn leave_out(&self, broken: Vec<usize>) {
        self.broken.borrow_mut().extend(broken);
    }

    /// The value of the tree, without what failed; None where the root failed.
    pub(super) fn collect<T: DeserializeOwned>(&self, root: &Node) -> Option<T> {
        loop {
            let stop = match T::deserialize(Reader { node: root, key: None, findings: self }) {
                Ok(value) => return Some(value),
                Err(stop) => stop.at(root, None),
            };
            if let Some(mistake) = stop.mistake {
                self.note(mistake);
            }
            let fresh = self.broken.borrow_mut().insert(stop.node.unwrap_or(root.id));
            if stop.node == Some(root.id) || !fresh {
                return None;
            }
            if self.mistakes.borrow().len() >= MAX_MISTAKES {
                self.note(Mistake::new(Span::default(), "too many mistakes to show them all").help("mend these first"));
                return None;
            }
        }
    }

    /// Notes a mistake once, however often the tree is read.
    pub(super) fn note(&self, mistake: Mistake) {
        let mut mistakes = self.mistakes.borrow_mut();
        if !mistakes.contains(&mistake) {
            mistakes.push(mistake);
        }
    }

    /// Whether something within was found wrong: then what seems to be absent may only have been left out.
    pub(super) fn has_mistake_in(&self, extent: Span) -> bool {
        self.mistakes.borrow().iter().any(|it| extent.start <= it.span.start && it.span.end <= extent.end)
    }

    fn is_broken(&self, node: &Node) -> bool {
        self.broken.borrow().contains(&node.id)
    }

    fn why_not(&self, of: &str, key: &str) -> Option<&'static str> {
        self.unsupported.iter().find(|(it, name, _)| *it == of && *name == key).map(|(_, _, why)| *why)
    }
}

/// Why a value could not be read, and which node is to be left out.
#[derive(Debug)]
pub(super) struct Stop {
    node: Option<usize>,
    /// None: it has been noted already.
    mistake: Option<Mistake>,
    missing: Option<&'static str>,
}

impl Stop {
    fn new(mistake: Mistake) -> Stop {
        Stop { node: None, mistake: Some(mistake), missing: None }
    }

    fn noted() -> Stop {
        Stop { node: None, mistake: None, missing: None }
    }

    /// Gives the error its place, unless it has one.
    fn at(mut self, node: &Node, key: Option<Span>) -> Stop {
        if self.node.is_none() {
            self.node = Some(node.id);
            if let Some(mistake) = &mut self.mistake
                && mistake.span == Span::default()
            {
                mistake.span = node.blame(key);
            }
        }
        self
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.mistake.as_ref().map_or("already reported", |it| it.message.as_str()))
    }
}

impl std::error::Error for Stop {}

impl de::Error for Stop {
    /// A second line is help.
    fn custom<T: fmt::Display>(text: T) -> Stop {
        let text = text.to_string();
        let mistake = match text.split_once('\n') {
            Some((message, help)) => Mistake::new(Span::default(), message).help(help),
            None => Mistake::new(Span::default(), text),
        };
        Stop::new(mistake)
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn de::Expected) -> Stop {
        Stop::custom(format_args!("expected {expected}, found {unexpected}"))
    }

    fn missing_field(field: &'static str) -> Stop {
        let mistake = Mistake::new(Span::default(), format!("missing key `{field}`"));
        let mistake = if field == "version" { mistake.help("begin the file with `version: 1`") } else { mistake };
        Stop { node: None, mistake: Some(mistake), missing: Some(field) }
    }
}

/// A node being read, with the key before it.
#[derive(Clone, Copy)]
struct Reader<'a> {
    node: &'a Node,
    key: Option<Span>,
    findings: &'a Findings,
}

impl<'a> Reader<'a> {
    fn stop(self, mistake: Mistake) -> Stop {
        Stop::new(mistake).at(self.node, self.key)
    }

    fn expected(self, what: &str) -> Stop {
        let place = self.node.blame(self.key);
        let mistake = match &self.node.kind {
            Kind::Null => Mistake::new(place, format!("expected {what}, found nothing"))
                .help("give the key a value, or take it away"),
            Kind::Text { text, filled: false } if what.contains("number") && text.parse::<f64>().is_ok() => {
                Mistake::new(place, format!("expected {what}, found {}", self.node.noun())).help("take the quotes away")
            }
            Kind::Bool(_) | Kind::Number(_) | Kind::Text { .. } | Kind::List(_) | Kind::Map(_) => {
                Mistake::new(place, format!("expected {what}, found {}", self.node.noun()))
            }
        };
        self.stop(mistake)
    }

    /// A scalar as it was written.
    fn text(self) -> Option<String> {
        match &self.node.kind {
            Kind::Bool(it) => Some(it.to_string()),
            // `10_000` is YAML's way to write a number, and not SQL's.
            Kind::Number(text) => Some(text.replace('_', "")),
            Kind::Text { text, .. } => Some(text.clone()),
            Kind::Null | Kind::List(_) | Kind::Map(_) => None,
        }
    }

    fn integer(self) -> Result<u64, Stop> {
        let text = match &self.node.kind {
            Kind::Number(text) | Kind::Text { text, filled: true } => text.replace('_', ""),
            Kind::Null | Kind::Bool(_) | Kind::Text { .. } | Kind::List(_) | Kind::Map(_) => String::new(),
        };
        text.parse().map_err(|_| self.expected("a whole number"))
    }

    /// The entries that can be read: the rest is noted. `fields`: the keys that exist, where they are known.
    fn entries(self, of: &str, fields: Option<&'static [&'static str]>) -> Result<Vec<&'a (Key, Node)>, Stop> {
        let Kind::Map(entries) = &self.node.kind else { return Err(self.expected("keys")) };
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        let mut good = Vec::new();
        for entry in entries {
            let (key, value) = entry;
            if let Some(fields) = fields
                && !fields.contains(&key.text.as_str())
            {
                self.findings.note(self.unknown_key(of, key, fields));
            } else if !seen.insert(&key.text) {
                self.findings.note(Mistake::new(key.span, format!("the key `{}` is given twice", key.text)));
            } else if !self.findings.is_broken(value) {
                good.push(entry);
            }
        }
        Ok(good)
    }

    fn unknown_key(self, of: &str, key: &Key, fields: &[&str]) -> Mistake {
        if let Some(why) = self.findings.why_not(of, &key.text) {
            return Mistake::new(key.span, format!("`{}` is {why}", key.text))
                .help("take it away: nothing is ignored silently");
        }
        let mistake = Mistake::new(key.span, format!("unknown key `{}`", key.text));
        match nearest(&key.text, fields.iter().copied()) {
            Some(near) => mistake.label(format!("did you mean `{near}`?")),
            None => mistake.help(format!("possible here: {}", listed(fields.iter().copied(), "and"))),
        }
    }

    /// Whether a key is there, be it readable or not.
    fn was_given(self, name: &str) -> bool {
        match &self.node.kind {
            Kind::Map(entries) => entries.iter().any(|(key, _)| key.text == name),
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text { .. } | Kind::List(_) => false,
        }
    }
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Stop;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        let result = match &self.node.kind {
            Kind::Null => visitor.visit_unit(),
            Kind::Bool(it) => visitor.visit_bool(*it),
            Kind::Number(text) => match text.replace('_', "").parse::<u64>() {
                Ok(number) => visitor.visit_u64(number),
                Err(_) => visitor.visit_str(text),
            },
            Kind::Text { text, .. } => visitor.visit_str(text),
            Kind::List(_) => return self.deserialize_seq(visitor),
            Kind::Map(_) => return self.deserialize_map(visitor),
        };
        result.map_err(|stop: Stop| stop.at(self.node, self.key))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        match &self.node.kind {
            Kind::Bool(it) => visitor.visit_bool(*it),
            Kind::Text { text, filled: true } if text == "true" || text == "false" => {
                visitor.visit_bool(text == "true")
            }
            Kind::Null | Kind::Number(_) | Kind::Text { .. } | Kind::List(_) | Kind::Map(_) => {
                Err(self.expected("`true` or `false`"))
            }
        }
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_u64(self.integer()?).map_err(|stop: Stop| stop.at(self.node, self.key))
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        match u32::try_from(self.integer()?) {
            Ok(number) => visitor.visit_u32(number),
            Err(_) => Err(self.expected("a smaller number")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        let text = self.text().ok_or_else(|| self.expected("a text"))?;
        visitor.visit_str(&text).map_err(|stop: Stop| stop.at(self.node, self.key))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Stop> {
        if name == LISTED {
            return match &self.node.kind {
                Kind::List(_) => self.deserialize_seq(visitor),
                Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text { .. } | Kind::Map(_) => {
                    visitor.visit_newtype_struct(self)
                }
            };
        }
        if name != VALUE {
            return visitor.visit_newtype_struct(self);
        }
        let result = match &self.node.kind {
            Kind::Null => visitor.visit_none(),
            Kind::Bool(_) | Kind::Number(_) | Kind::Text { .. } => visitor.visit_str(&self.text().unwrap_or_default()),
            Kind::Map(_) => visitor.visit_newtype_struct(self),
            Kind::List(_) => return Err(self.expected("one value")),
        };
        result.map_err(|stop: Stop| stop.at(self.node, self.key))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        let Kind::List(items) = &self.node.kind else { return Err(self.expected("a list")) };
        let items: Vec<&Node> = items.iter().filter(|it| !self.findings.is_broken(it)).collect();
        visitor.visit_seq(Items { items: items.into_iter(), findings: self.findings })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        let entries = self.entries("", None)?;
        visitor.visit_map(Entries { rest: entries.into_iter(), value: None, findings: self.findings })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        if name == AT {
            return visitor.visit_seq(Placed { reader: self, step: 0 });
        }
        let entries = self.entries(name, Some(fields))?;
        let access = Entries { rest: entries.into_iter(), value: None, findings: self.findings };
        visitor.visit_map(access).map_err(|stop: Stop| match stop.missing {
            Some(field) if stop.node.is_none() && self.was_given(field) => Stop::noted().at(self.node, self.key),
            Some(_) | None => stop.at(self.node, self.key),
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        let choice = Choice::of(self, name, variants)?;
        visitor.visit_enum(choice).map_err(|stop: Stop| stop.at(self.node, self.key))
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct identifier
        ignored_any
    }
}

struct Items<'a, I> {
    items: I,
    findings: &'a Findings,
}

impl<'a, 'de, I: Iterator<Item = &'a Node>> SeqAccess<'de> for Items<'a, I> {
    type Error = Stop;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Stop> {
        let Some(node) = self.items.next() else { return Ok(None) };
        let reader = Reader { node, key: None, findings: self.findings };
        seed.deserialize(reader).map(Some).map_err(|stop| stop.at(node, None))
    }
}

struct Entries<'a, I> {
    rest: I,
    value: Option<(Span, &'a Node)>,
    findings: &'a Findings,
}

impl<'a, 'de, I: Iterator<Item = &'a (Key, Node)>> MapAccess<'de> for Entries<'a, I> {
    type Error = Stop;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Stop> {
        let Some((key, value)) = self.rest.next() else { return Ok(None) };
        self.value = Some((key.span, value));
        let reader: StrDeserializer<'_, Stop> = key.text.as_str().into_deserializer();
        seed.deserialize(reader).map(Some).map_err(|stop| stop.at(value, Some(key.span)))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Stop> {
        let Some((key, node)) = self.value.take() else { return Err(Stop::custom("a value before its key")) };
        let reader = Reader { node, key: Some(key), findings: self.findings };
        seed.deserialize(reader).map_err(|stop| stop.at(node, Some(key)))
    }
}

/// What `At` reads: first byte, end, end of the whole, value.
struct Placed<'a> {
    reader: Reader<'a>,
    step: u8,
}

impl<'de> SeqAccess<'de> for Placed<'_> {
    type Error = Stop;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Stop> {
        let span = self.reader.node.blame(self.reader.key);
        let place = |at: usize| -> U64Deserializer<Stop> { (at as u64).into_deserializer() };
        self.step += 1;
        match self.step {
            1 => seed.deserialize(place(span.start)).map(Some),
            2 => seed.deserialize(place(span.end)).map(Some),
            3 => seed.deserialize(place(self.reader.node.end())).map(Some),
            4 => seed.deserialize(self.reader).map(Some),
            _ => Ok(None),
        }
    }
}

/// `wire::WireSecret`.
const SECRET: &str = "Secret";

/// Whether it says where a secret lies, and is none itself.
fn is_reference(node: &Node, variants: &[&str]) -> bool {
    match &node.kind {
        Kind::Map(entries) => entries.iter().all(|(key, _)| variants.contains(&key.text.as_str())),
        Kind::Null => true,
        Kind::Text { .. } | Kind::Number(_) | Kind::Bool(_) | Kind::List(_) => false,
    }
}

/// One variant of an enum: a word alone, or the one key of a map.
struct Choice<'a> {
    reader: Reader<'a>,
    name: &'a str,
    value: Option<Reader<'a>>,
}

impl<'a> Choice<'a> {
    fn of(reader: Reader<'a>, of: &str, variants: &[&str]) -> Result<Choice<'a>, Stop> {
        let Reader { node, findings, .. } = reader;
        if of == SECRET && !is_reference(node, variants) {
            findings.secrets.borrow_mut().push(node.span);
            return Err(reader.stop(
                Mistake::new(node.span, "a secret in the scenario itself")
                    .help("say where it lies, `{ file: PATH }` or `{ env: NAME }`, and take this one out of use: it may have been read"),
            ));
        }
        let noun = if of == "RuntimeChoice" { "runtime".to_owned() } else { of.to_lowercase() };
        let (name, span, value) = match &node.kind {
            Kind::Text { text, .. } => (text, node.span, None),
            Kind::Map(entries) => match entries.as_slice() {
                [(key, value)] => (&key.text, key.span, Some(Reader { node: value, key: Some(key.span), findings })),
                [(first, _), (second, _), ..] => {
                    let message = format!("one key expected here, found `{}` and `{}`", first.text, second.text);
                    let help = format!("keys that belong to `{}` must be indented further than it", first.text);
                    return Err(reader.stop(Mistake::new(second.span, message).help(help)));
                }
                [] => return Err(reader.expected(&listed(variants.iter().copied(), "or"))),
            },
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::List(_) => {
                return Err(reader.expected(&listed(variants.iter().copied(), "or")));
            }
        };
        if !variants.contains(&name.as_str()) {
            let mistake = if let Some(why) = findings.why_not(of, name) {
                Mistake::new(span, format!("the {noun} `{name}` is {why}"))
                    .help(format!("this version knows {}", listed(variants.iter().copied(), "and")))
            } else {
                let mistake = Mistake::new(span, format!("unknown {noun} `{name}`"))
                    .help(format!("it can be {}", listed(variants.iter().copied(), "or")));
                match nearest(name, variants.iter().copied()) {
                    Some(near) => mistake.label(format!("did you mean `{near}`?")),
                    None => mistake,
                }
            };
            return Err(reader.stop(mistake));
        }
        match value {
            Some(value) if findings.is_broken(value.node) => Err(Stop::noted().at(node, reader.key)),
            Some(_) | None => Ok(Choice { reader, name, value }),
        }
    }
}

impl<'a, 'de> EnumAccess<'de> for Choice<'a> {
    type Error = Stop;
    type Variant = Choice<'a>;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Choice<'a>), Stop> {
        let name: StrDeserializer<'_, Stop> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Choice<'_> {
    type Error = Stop;

    fn unit_variant(self) -> Result<(), Stop> {
        match self.value {
            None => Ok(()),
            Some(value) => {
                let message = format!("`{}` stands alone: it takes no value", self.name);
                Err(self.reader.stop(Mistake::new(value.node.blame(value.key), message)))
            }
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Stop> {
        match self.value {
            Some(value) => seed.deserialize(value).map_err(|stop| stop.at(value.node, value.key)),
            None => seed.deserialize(Absent { name: self.name }),
        }
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Stop> {
        Err(self.reader.expected("a value"))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, Stop> {
        Err(self.reader.expected("keys"))
    }
}

/// The value of a variant that is a word alone.
struct Absent<'a> {
    name: &'a str,
}

impl<'de> Deserializer<'de> for Absent<'_> {
    type Error = Stop;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
        let name = self.name;
        Err(Stop::custom(format_args!("`{name}` needs keys of its own\nwrite `{name}:` and indent its keys below it")))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_none()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// A value and its place, for what can only be found wrong later.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    /// What to point at.
    pub(super) span: Span,
    /// To the end of all that lies within it.
    pub(super) extent: Span,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<At<T>, D::Error> {
        struct AtVisitor<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for AtVisitor<T> {
            type Value = At<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value with its place")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<At<T>, A::Error> {
                let none = || A::Error::custom("a value without its place");
                let mut place = || parts.next_element::<usize>()?.ok_or_else(none);
                let (start, end, last) = (place()?, place()?, place()?);
                let value = parts.next_element::<T>()?.ok_or_else(none)?;
                Ok(At { value, span: Span { start, end }, extent: Span { start, end: last } })
            }
        }
        deserializer.deserialize_struct(AT, &[], AtVisitor(std::marker::PhantomData))
    }
}

impl<T: schemars::JsonSchema> schemars::JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> std::borrow::Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        T::json_schema(generator)
    }
}
