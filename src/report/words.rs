//! Lengths of time, sizes and clean text, as people read them.

use std::time::Duration;

use jiff::Timestamp;

use crate::evidence::Fetched;

/// `12 ms`, `1.4 s`, `41 s`, `2 min 05 s`, `1 h 02 min`, `3 d 04 h`. Cut, not rounded: a time just under a limit must
/// not read as the limit.
pub fn duration(length: Duration) -> String {
    let seconds = length.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0 if length.is_zero() => "0 s".to_owned(),
        0 if length.subsec_millis() < 100 => format!("{} ms", length.subsec_millis()),
        0..10 if length.subsec_nanos() > 0 => format!("{seconds}.{} s", length.subsec_millis() / 100),
        0..60 => format!("{seconds} s"),
        60..3600 if seconds.is_multiple_of(60) => format!("{minutes} min"),
        60..3600 => format!("{minutes} min {:02} s", seconds % 60),
        3600..172_800 if minutes.is_multiple_of(60) => format!("{hours} h"),
        3600..172_800 => format!("{hours} h {:02} min", minutes % 60),
        _ if hours.is_multiple_of(24) => format!("{days} d"),
        _ => format!("{days} d {:02} h", hours % 24),
    }
}

/// `1.1 MB in 36 requests (11 GET, 25 HEAD); 2 failed and were repeated: the store answers 503`
pub fn fetched(it: &Fetched) -> String {
    let kinds = [(it.get, "GET"), (it.head, "HEAD"), (it.list, "list"), (it.other, "for credentials")];
    let kinds: Vec<String> =
        kinds.iter().filter(|it| it.0 > 0).map(|(count, kind)| format!("{count} {kind}")).collect();
    let failed = it.reason.as_ref().map(|why| format!("; {} failed and could be repeated: {why}", it.failed));
    let requests = count(usize::try_from(it.requests()).unwrap_or(usize::MAX), "request");
    format!("{} in {requests} ({}){}", bytes(it.bytes), kinds.join(", "), failed.unwrap_or_default())
}

/// `812 B`, `2.1 MB`, `41 GB`: powers of ten.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut tenths = u128::from(count) / 100;
    let mut unit = 0;
    while tenths >= 10_000 {
        tenths /= 1000;
        unit += 1;
    }
    match tenths {
        0..100 => format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit]),
        _ => format!("{} {}", tenths / 10, UNITS[unit]),
    }
}

/// `1 check`, `2 checks`.
pub fn count(number: usize, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

/// Seconds with millisecond precision, as the JSON report has them.
pub fn seconds(length: Duration) -> f64 {
    let millis = u64::try_from((length.as_micros() + 500) / 1000).unwrap_or(u64::MAX);
    Duration::from_millis(millis).as_secs_f64()
}

/// Back from a report's seconds; nonsense (negative, not a number) is zero.
pub fn from_seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// Seconds since 1970 as an instant, where there is such an instant.
pub fn instant(seconds: i64) -> Option<Timestamp> {
    Timestamp::from_second(seconds).ok()
}

/// Without terminal control sequences (ECMA-48: `ESC [ … final`, `ESC ] … BEL`).
pub fn strip_ansi(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(char) = rest.next() {
        if char != '\u{1b}' {
            kept.push(char);
            continue;
        }
        match rest.peek() {
            Some('[') => {
                rest.next();
                while rest.next_if(|it| ('\u{20}'..'\u{40}').contains(it)).is_some() {}
                rest.next_if(|it| ('\u{40}'..='\u{7e}').contains(it));
            }
            Some(']') => {
                rest.next();
                while rest.next_if(|it| *it != '\u{7}' && *it != '\u{1b}').is_some() {}
                rest.next_if_eq(&'\u{7}');
            }
            // `ESC \` ends an operating system command; other two-character sequences go as well.
            Some('\\') => drop(rest.next()),
            Some(_) | None => kept.push('\u{fffd}'),
        }
    }
    kept
}

/// On one line, each run of white space one space.
pub fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// On one line, and with nothing in it that could steer a terminal or make a line read as another: names and messages
/// come from backups, servers and file systems.
pub fn harmless(text: &str) -> String {
    let clean = |char: char| match char {
        // Marks that reorder text (Unicode's bidirectional embeddings, overrides and isolates).
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '?',
        _ if char.is_control() => '?',
        _ => char,
    };
    one_line(&strip_ansi(text)).chars().map(clean).collect()
}

/// The head and the tail of a long text, at most `limit` bytes in all, with a word on what is left out between them.
pub fn head_and_tail(text: &str, limit: usize) -> String {
    const ROOM: usize = 64;
    if text.len() <= limit {
        return text.to_owned();
    }
    let half = limit.saturating_sub(ROOM) / 2;
    let boundary = |it: &usize| text.is_char_boundary(*it);
    let head = &text[..(0..=half).rev().find(boundary).unwrap_or(0)];
    let tail = &text[(text.len() - half..=text.len()).find(boundary).unwrap_or(text.len())..];
    let left_out = text.len() - head.len() - tail.len();
    format!("{head}\n[… {left_out} bytes left out …]\n{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_read_as_people_say_them() {
        let cases = [
            (0, "0 s"),
            (12, "12 ms"),
            (450, "0.4 s"),
            (1_449, "1.4 s"),
            (5_000, "5 s"),
            (41_200, "41 s"),
            (59_999, "59 s"),
            (60_000, "1 min"),
            (125_000, "2 min 05 s"),
            (1_799_999, "29 min 59 s"),
            (1_800_000, "30 min"),
            (3_600_000, "1 h"),
            (3_720_000, "1 h 02 min"),
            (86_400_000, "24 h"),
            (273_600_000, "3 d 04 h"),
            (259_200_000, "3 d"),
        ];
        for (millis, expected) in cases {
            assert_eq!(duration(Duration::from_millis(millis)), expected, "{millis} ms");
        }
    }

    #[test]
    fn sizes_read_as_people_say_them() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (2_149_000, "2.1 MB"),
            (41_000_000_000, "41 GB"),
            (999_999, "999 kB"),
            (1_000_000, "1.0 MB"),
            (u64::MAX, "18 EB"),
        ];
        for (count, expected) in cases {
            assert_eq!(bytes(count), expected, "{count}");
        }
    }

    #[test]
    fn seconds_keep_milliseconds_and_nonsense_is_zero() {
        assert!((seconds(Duration::from_micros(1_234_567)) - 1.235).abs() < 1e-9);
        for nonsense in [f64::NAN, -1.0, f64::INFINITY] {
            assert_eq!(from_seconds(nonsense), Duration::ZERO);
        }
    }

    #[test]
    fn terminal_sequences_are_removed_and_what_is_left_of_them_is_harmless() {
        let cases = [
            ("plain", "plain"),
            ("\u{1b}[1;31mred\u{1b}[0m", "red"),
            ("\u{1b}]0;title\u{7}text", "text"),
            ("\u{1b}]0;title\u{1b}\\text", "text"),
            ("cut\u{1b}[", "cut"),
            ("cut\u{1b}", "cut\u{fffd}"),
        ];
        for (text, expected) in cases {
            assert_eq!(strip_ansi(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_long_text_keeps_its_head_and_its_tail_within_the_limit() {
        let long = format!("head{}tail", "ü".repeat(1000));
        for limit in [0, 1, 64, 65, 200, 999] {
            let cut = head_and_tail(&long, limit);
            assert!(cut.len() <= limit.max(96), "{limit}: {}", cut.len());
        }
        let cut = head_and_tail(&long, 300);
        assert!(cut.starts_with("head") && cut.ends_with("tail"), "{cut}");
    }
}
