//! What is wrong with a scenario file, and where.

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// A mistake in a scenario file. Complete in itself: rendering it needs no file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// As the file was named.
    pub file: String,
    /// 1-based. 0 where the problem is no line's: then there is no snippet.
    pub line: u32,
    /// In characters, 1-based.
    pub column: u32,
    /// In characters, within the line; at least 1.
    pub length: u32,
    /// A lowercase fragment: ``unknown key `timout` ``.
    pub message: String,
    /// A few words for the place itself: ``did you mean `timeout`?``
    pub label: Option<String>,
    /// What to do about it.
    pub help: Option<String>,
    /// The line's text.
    pub text: String,
}

impl Problem {
    /// `FILE:LINE:COLUMN: MESSAGE`, for logs and for sorting by eye.
    pub fn line(&self) -> String {
        format!("{}:{}:{}: {}", self.file, self.line, self.column, self.message)
    }
}

/// The problem with the line that it is about, as rustc shows errors. Ends without a line break.
pub fn render(problem: &Problem, color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let title = Level::ERROR.primary_title(problem.message.as_str());
    let group = if problem.line == 0 {
        Group::with_title(title).element(annotate_snippets::Origin::path(problem.file.as_str()))
    } else {
        let start = byte_of(&problem.text, problem.column.saturating_sub(1));
        let end = byte_of(&problem.text, problem.column.saturating_sub(1).saturating_add(problem.length)).max(start);
        let annotation = AnnotationKind::Primary.span(start..end).label(problem.label.as_deref());
        let snippet = Snippet::source(problem.text.as_str())
            .line_start(problem.line as usize)
            .path(problem.file.as_str())
            .annotation(annotation);
        title.element(snippet)
    };
    let group = match &problem.help {
        Some(help) => group.element(Level::HELP.message(help.as_str())),
        None => group,
    };
    renderer.decor_style(DecorStyle::Ascii).render(&[group])
}

fn byte_of(text: &str, chars: u32) -> usize {
    text.char_indices().nth(chars as usize).map_or(text.len(), |(at, _)| at)
}

/// A range of bytes of a scenario file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
}

/// A problem before it is known which file it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) span: Span,
    pub(super) message: String,
    pub(super) label: Option<String>,
    pub(super) help: Option<String>,
}

impl Mistake {
    pub(super) fn new(span: Span, message: impl Into<String>) -> Mistake {
        Mistake { span, message: message.into(), label: None, help: None }
    }

    pub(super) fn label(mut self, label: impl Into<String>) -> Mistake {
        self.label = Some(label.into());
        self
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Mistake {
        self.help = Some(help.into());
        self
    }

    /// Finds the line; of a span of several lines, only the first is shown.
    pub(super) fn locate(self, file: &str, text: &str) -> Problem {
        let start = floor(text, self.span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let line_text = text[line_start..line_end].trim_end_matches('\r');
        let end = floor(text, self.span.end.max(start)).min(line_start + line_text.len()).max(start);
        let count = |part: &str| u32::try_from(part.chars().count()).unwrap_or(u32::MAX);
        Problem {
            file: file.to_owned(),
            line: line_number(text, start),
            column: count(&text[line_start..start]).saturating_add(1),
            length: count(text[start..end].trim_end()).max(1),
            message: self.message,
            label: self.label,
            help: self.help,
            text: line_text.to_owned(),
        }
    }
}

/// The line of a byte, 1-based.
pub(super) fn line_number(text: &str, at: usize) -> u32 {
    let breaks = text.as_bytes().iter().take(at).filter(|it| **it == b'\n').count();
    u32::try_from(breaks).unwrap_or(u32::MAX).saturating_add(1)
}

pub(super) fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|it| text.is_char_boundary(*it)).unwrap_or(0)
}

/// The candidate nearest to what was written, if it is near enough to be what was meant.
pub(super) fn nearest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = written.to_lowercase().replace('-', "_");
    let near = |it: &&str| strsim::damerau_levenshtein(&written, it) <= (it.chars().count() / 3).clamp(1, 3);
    candidates.into_iter().filter(near).min_by_key(|it| strsim::damerau_levenshtein(&written, it))
}

/// `` `a`, `b` and `c` ``.
pub(super) fn listed<'a>(names: impl IntoIterator<Item = &'a str>, last: &str) -> String {
    let mut names: Vec<String> = names.into_iter().map(|it| format!("`{it}`")).collect();
    match names.pop() {
        None => String::new(),
        Some(only) if names.is_empty() => only,
        Some(end) => format!("{} {last} {end}", names.join(", ")),
    }
}
