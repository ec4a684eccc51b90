//! Paths and patterns as text: nothing here looks at a file system.

use crate::source::service::{Service, without_file_scheme};

/// The absolute path of `path` as seen from `directory`; a URL of an object store as it is. `.` and `..` are resolved by name, without following links.
///
/// Signs of `directory` that a pattern would give a meaning are made literal, if `path` is a pattern.
pub(super) fn resolve(directory: &str, path: &str) -> String {
    let path = without_file_scheme(path);
    if Service::of(path).is_some() {
        return path.trim_end_matches('/').to_owned();
    }
    let joined = if path.starts_with('/') {
        path.to_owned()
    } else if is_pattern(path) {
        format!("{}/{path}", literal(directory))
    } else {
        format!("{directory}/{path}")
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

pub(super) fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '[', '{'])
}

/// The pattern that matches only this path.
pub(super) fn literal(path: &str) -> String {
    path.chars().fold(String::with_capacity(path.len()), |mut pattern, it| {
        if matches!(it, '*' | '?' | '[' | '{' | '}' | '\\') {
            pattern.extend(['[', it, ']']);
        } else {
            pattern.push(it);
        }
        pattern
    })
}

/// A pattern for the siblings of a backup whose name carries a date or a number of a time: `shop-2026-11-22.dump` gives
/// `shop-*.dump`. None where the name carries none.
pub fn suggest_pattern(path: &str) -> Option<String> {
    let (directory, name) = match path.trim_end_matches('/').rsplit_once('/') {
        Some((directory, name)) => (Some(directory), name),
        None => (None, path),
    };
    let (start, end) = dated(name)?;
    let name = format!("{}*{}", literal(&name[..start]), literal(&name[end..]));
    // A star alone would take every file of the directory.
    if name.trim_matches('*').is_empty() {
        return None;
    }
    Some(match directory {
        Some(directory) => format!("{}/{name}", literal(directory)),
        None => name,
    })
}

/// The bytes of a name that tell a time: from the first digit to the last of a run of digits and separators which holds
/// a year and at least a month and a day, or ten digits of a Unix time.
fn dated(name: &str) -> Option<(usize, usize)> {
    let bytes = name.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if !bytes[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let mut end = at;
        let mut last = at;
        while end < bytes.len() {
            match bytes[end] {
                b'0'..=b'9' => last = end + 1,
                b'-' | b'_' | b':' | b'.' | b'T' | b'Z' | b't' | b'z' | b'+' => {}
                _ => break,
            }
            end += 1;
        }
        // A zone's Z belongs to the time.
        if matches!(bytes.get(last), Some(b'Z' | b'z')) {
            last += 1;
        }
        let digits: String = name[at..last].chars().filter(char::is_ascii_digit).collect();
        if is_time(&digits) {
            return Some((at, last));
        }
        // The version in `pg15-2026-11-22` is no time, and what follows it may be one.
        at += bytes[at..].iter().take_while(|it| it.is_ascii_digit()).count();
    }
    None
}

fn is_time(digits: &str) -> bool {
    let number = |range: std::ops::Range<usize>| digits.get(range).and_then(|it| it.parse::<u32>().ok());
    let day = |year, month, day| {
        matches!(number(year), Some(1990..=2199))
            && matches!(number(month), Some(1..=12))
            && matches!(number(day), Some(1..=31))
    };
    let epoch = digits.len() == 10 && digits.starts_with('1');
    epoch || day(0..4, 4..6, 6..8) || (digits.len() == 8 && day(4..8, 2..4, 0..2))
}
