//! From texts to drills, or to every problem in them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::collect::Findings;
use super::convert::Converter;
use super::problem::{self, Mistake, Problem, Span};
use super::tree::{Kind, Node};
use super::wire::{UNSUPPORTED, WireFile};
use super::{Drill, fill, tree};

/// A scenario file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct File {
    /// As it was named: problems and reports say it.
    pub name: String,
    pub text: String,
    /// Where it lies, as an absolute path: its relative paths begin here.
    pub directory: String,
}

/// What parsing may know of the world.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// Environment variables.
    pub vars: BTreeMap<String, String>,
    /// `--set NAME=VALUE`: these win.
    pub set: BTreeMap<String, String>,
    /// For `pick: random` without a seed of its own.
    pub seed: u64,
    /// The time, where what lies in the future is to be refused.
    pub now: Option<jiff::Timestamp>,
    /// The texts of the files that [`files_named`] gave, by absolute path, or why they could not be read.
    pub texts: BTreeMap<String, Result<String, String>>,
}

/// Reads all files. Drills come in the order of the files; their names are unique over all of them.
///
/// # Errors
///
/// Every problem of every file, in the order of files and lines.
pub fn parse(files: &[File], environment: &Environment) -> Result<Vec<Drill>, Vec<Problem>> {
    let Loaded { drills, problems, .. } = load(files, environment);
    if problems.is_empty() { Ok(drills) } else { Err(problems) }
}

/// Absolute paths of the files that must be read before [`parse`] can compare with them (`rows_file`).
pub fn files_named(files: &[File], environment: &Environment) -> Vec<String> {
    load(files, environment).named.into_iter().collect()
}

/// The JSON Schema of a scenario file (draft 2020-12).
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(WireFile).to_value();
    without_null(&mut schema);
    schema
}

/// An optional key may be left out, but a key without a value is refused: schemars says null for both.
fn without_null(schema: &mut serde_json::Value) {
    use serde_json::Value;
    let is_null = |it: &Value| it == "null" || it.get("type").is_some_and(|it| it == "null");
    match schema {
        Value::Array(items) => items.iter_mut().for_each(without_null),
        Value::Object(map) => {
            if let Some(Value::Array(types)) = map.get_mut("type")
                && types.len() == 2
                && types.iter().any(is_null)
            {
                types.retain(|it| !is_null(it));
                let only = types.pop();
                map.extend(only.map(|it| ("type".to_owned(), it)));
            }
            if let Some(Value::Array(choices)) = map.get_mut("anyOf")
                && choices.len() == 2
                && choices.iter().any(is_null)
            {
                choices.retain(|it| !is_null(it));
                if let Some(Value::Object(only)) = choices.pop() {
                    map.remove("anyOf");
                    map.extend(only);
                }
            }
            map.values_mut().for_each(without_null);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[derive(Default)]
struct Loaded {
    drills: Vec<Drill>,
    problems: Vec<Problem>,
    named: BTreeSet<String>,
}

fn load(files: &[File], environment: &Environment) -> Loaded {
    let mut loaded = Loaded::default();
    for file in files {
        let text = file.text.trim_start_matches('\u{feff}');
        let findings = Findings::new(UNSUPPORTED);
        let named = RefCell::new(BTreeSet::new());
        let drills = match tree::read(text) {
            Err(mistake) => {
                findings.note(mistake);
                Vec::new()
            }
            Ok(root) => {
                let converter = Converter { file, text, environment, findings: &findings, named: &named };
                drills_of(root, &converter)
            }
        };
        for (drill, span) in drills {
            if let Some(first) = loaded.drills.iter().find(|it| it.name == drill.name) {
                let place = format!("{}:{}", first.file, first.line.unwrap_or_default());
                findings.note(
                    Mistake::new(span, format!("two drills are named `{}`", drill.name))
                        .help(format!("the other is in {place}; reports tell drills apart by their names")),
                );
            }
            loaded.drills.push(drill);
        }
        loaded.named.append(&mut named.into_inner());
        let mut mistakes = findings.mistakes.into_inner();
        mistakes.sort_by_key(|it| it.span);
        let shown = masked(text, &findings.secrets.into_inner());
        loaded.problems.extend(mistakes.into_iter().map(|it| it.locate(&file.name, &shown)));
    }
    loaded
}

/// With asterisks for secrets, as many as they have bytes.
fn masked(text: &str, secrets: &[Span]) -> String {
    let mut shown = text.to_owned();
    for Span { start, end } in secrets {
        let (start, end) = (problem::floor(text, *start), problem::floor(text, *end));
        // Lines stay where they are.
        let mask: String = shown[start..end].bytes().map(|it| if it == b'\n' { '\n' } else { '*' }).collect();
        shown.replace_range(start..end, &mask);
    }
    shown
}

fn drills_of(mut root: Node, converter: &Converter<'_>) -> Vec<(Drill, Span)> {
    let findings = converter.findings;
    if root.kind == Kind::Null {
        findings.note(Mistake::new(Span::default(), "an empty file").help("begin with `version: 1` and `drills:`"));
        return Vec::new();
    }
    let mut mistakes = Vec::new();
    let broken = fill::fill(&mut root, converter.text, converter.environment, &mut mistakes);
    for mistake in mistakes {
        findings.note(mistake);
    }
    findings.leave_out(broken);
    match findings.collect::<WireFile>(&root) {
        Some(wire) => converter.file(wire),
        None => Vec::new(),
    }
}
