//! Puts `${NAME}` into texts: from `--set`, then from the environment.
//!
//! Only `${` means anything: a lone `$`, `$1` and `$$` stay as they are, since SQL uses them. `$${NAME}` gives `${NAME}`.

use super::Environment;
use super::problem::{Mistake, Span};
use super::tree::{Kind, Node};

/// Fills every value of the tree; `source` is the file's text. Returns the nodes that could not be filled.
pub(super) fn fill(
    node: &mut Node,
    source: &str,
    environment: &Environment,
    mistakes: &mut Vec<Mistake>,
) -> Vec<usize> {
    let mut broken = Vec::new();
    let mut walk: Vec<&mut Node> = vec![node];
    while let Some(node) = walk.pop() {
        match &mut node.kind {
            Kind::Null | Kind::Bool(_) | Kind::Number(_) => {}
            Kind::List(items) => walk.extend(items),
            Kind::Map(entries) => walk.extend(entries.iter_mut().map(|(_, value)| value)),
            Kind::Text { text, filled } => {
                if !text.contains("${") {
                    continue;
                }
                match substitute(text, environment) {
                    Ok(new) => {
                        *filled = text.starts_with("${") && text.find('}') == Some(text.len() - 1);
                        *text = new;
                    }
                    Err(failures) => {
                        broken.push(node.id);
                        mistakes.extend(failures.into_iter().map(|it| it.locate(node.span, source)));
                    }
                }
            }
        }
    }
    broken
}

struct Failure {
    /// `${NAME`, to be found in the source.
    start: String,
    message: String,
    help: String,
}

impl Failure {
    /// Points at the variable itself, where the source shows it.
    fn locate(self, whole: Span, source: &str) -> Mistake {
        let within = source.get(whole.start..whole.end).unwrap_or("");
        let span = within.find(&self.start).map_or(whole, |at| {
            let end = within[at..].find('}').map_or(self.start.len(), |end| end + 1);
            Span { start: whole.start + at, end: whole.start + at + end }
        });
        Mistake::new(span, self.message).help(self.help)
    }
}

fn substitute(text: &str, environment: &Environment) -> Result<String, Vec<Failure>> {
    let mut filled = String::with_capacity(text.len());
    let mut failures = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            filled.push_str(&rest[..at - 1]);
            filled.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        filled.push_str(&rest[..at]);
        let inside = &rest[at + 2..];
        let Some(end) = inside.find('}') else {
            failures.push(Failure {
                start: "${".to_owned(),
                message: "`${` without a closing `}`".to_owned(),
                help: "write `$${` for these two characters themselves".to_owned(),
            });
            break;
        };
        match value(&inside[..end], environment) {
            Ok(value) => filled.push_str(value),
            Err(failure) => failures.push(failure),
        }
        rest = &inside[end + 1..];
    }
    filled.push_str(rest);
    if failures.is_empty() { Ok(filled) } else { Err(failures) }
}

fn value<'a>(inside: &'a str, environment: &'a Environment) -> Result<&'a str, Failure> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let fail = |message: String, help: String| Err(Failure { start: format!("${{{name}"), message, help });
    let plain = |it: char| it.is_ascii_alphanumeric() || it == '_';
    if name.is_empty() || name.starts_with(|it: char| it.is_ascii_digit()) || !name.chars().all(plain) {
        let help = "write `${NAME}` or `${NAME:-default}`; `$${` gives these two characters themselves".to_owned();
        return fail(format!("`{name}` is no name of a variable"), help);
    }
    let upper = name.to_ascii_uppercase();
    if ["PASSWORD", "SECRET", "TOKEN", "KEY"].iter().any(|it| upper.contains(it)) {
        let message = format!("`{name}` looks like a secret, and secrets are never put in by `${{…}}`");
        let help = "what a scenario says ends up in reports; give the variable another name if it holds no secret";
        return fail(message, help.to_owned());
    }
    match environment.set.get(name).or_else(|| environment.vars.get(name)).map(String::as_str) {
        Some("") | None if default.is_some() => Ok(default.unwrap_or("")),
        Some(value) => Ok(value),
        None => {
            let message = format!("the variable `{name}` is not set");
            fail(
                message,
                format!("set it in the environment, with `--set {name}=…`, or give a default: `${{{name}:-…}}`"),
            )
        }
    }
}
