//! Values as text, compared as what they are: numbers, times, truth values, or else text.

use std::cmp::Ordering;

/// Whether two values are the same. See [`super::Scalar`] for the rules.
pub(super) fn same(a: &str, b: &str) -> bool {
    if truth(a) == truth(b) {
        return true;
    }
    match (Value::of(a), Value::of(b)) {
        (Value::Number(a), Value::Number(b)) => a.compare(&b) == Some(Ordering::Equal),
        (Value::Moment(a), Value::Moment(b)) => a == b,
        (Value::Number(_) | Value::Moment(_) | Value::Text(_), _) => false,
    }
}

/// The order of two values; None where there is none.
pub(super) fn compare(a: &str, b: &str) -> Option<Ordering> {
    match (Value::of(a), Value::of(b)) {
        (Value::Number(a), Value::Number(b)) => a.compare(&b),
        (Value::Moment(a), Value::Moment(b)) => Some(a.cmp(&b)),
        (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
        (Value::Number(_) | Value::Moment(_) | Value::Text(_), _) => None,
    }
}

/// `t` and `f` for the words that YAML has for PostgreSQL's; anything else as it is.
pub(super) fn truth(value: &str) -> &str {
    match value {
        "true" => "t",
        "false" => "f",
        other => other,
    }
}

enum Value<'a> {
    Number(Number),
    Moment(jiff::Timestamp),
    Text(&'a str),
}

impl Value<'_> {
    fn of(text: &str) -> Value<'_> {
        match Number::parse(text) {
            Some(number) => Value::Number(number),
            None => moment(text).map_or(Value::Text(text), Value::Moment),
        }
    }
}

/// A number of any length, as PostgreSQL writes numeric, integer and floating-point types.
enum Number {
    Nan,
    Infinite { negative: bool },
    Finite(Decimal),
}

/// 0.DIGITS × 10^exponent, without zeros at either end: equal numbers are equal values. Zero has no digits.
#[derive(PartialEq, Eq)]
struct Decimal {
    negative: bool,
    exponent: i64,
    digits: String,
}

impl Number {
    fn parse(text: &str) -> Option<Number> {
        let (negative, magnitude) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        match magnitude {
            "NaN" if !negative => return Some(Number::Nan),
            "Infinity" => return Some(Number::Infinite { negative }),
            _ => {}
        }
        let (mantissa, exponent) = match magnitude.split_once(['e', 'E']) {
            // A longer exponent than any type has is text.
            Some((mantissa, exponent)) if exponent.len() <= 9 => (mantissa, exponent.parse::<i64>().ok()?),
            Some(_) => return None,
            None => (magnitude, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all_digits = |it: &str| it.bytes().all(|it| it.is_ascii_digit());
        if !all_digits(whole) || !all_digits(fraction) || whole.len() + fraction.len() == 0 {
            return None;
        }
        let digits = format!("{whole}{fraction}");
        let leading = digits.bytes().take_while(|it| *it == b'0').count();
        let significant = digits[leading..].trim_end_matches('0').to_owned();
        if significant.is_empty() {
            return Some(Number::Finite(Decimal { negative: false, exponent: 0, digits: significant }));
        }
        let point = i64::try_from(whole.len()).ok()? - i64::try_from(leading).ok()?;
        Some(Number::Finite(Decimal { negative, exponent: exponent + point, digits: significant }))
    }

    /// NaN equals NaN. PostgreSQL also sorts it above everything; here it has no order, since "at least 5" is not meant to
    /// hold for it.
    fn compare(&self, other: &Number) -> Option<Ordering> {
        match (self, other) {
            (Number::Nan, Number::Nan) => Some(Ordering::Equal),
            (Number::Nan, _) | (_, Number::Nan) => None,
            (Number::Infinite { negative: a }, Number::Infinite { negative: b }) => Some(b.cmp(a)),
            (Number::Infinite { negative }, Number::Finite(_)) => Some(far(*negative)),
            (Number::Finite(_), Number::Infinite { negative }) => Some(far(*negative).reverse()),
            (Number::Finite(a), Number::Finite(b)) => Some(a.cmp(b)),
        }
    }
}

fn far(negative: bool) -> Ordering {
    if negative { Ordering::Less } else { Ordering::Greater }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Decimal) -> Ordering {
        match (self.negative, other.negative) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, false) => self.compare_magnitude(other),
            (true, true) => other.compare_magnitude(self),
        }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Decimal) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Decimal {
    fn compare_magnitude(&self, other: &Decimal) -> Ordering {
        match (self.digits.is_empty(), other.digits.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            // Digits after the point compare like text: the shorter one is padded by zeros that change nothing.
            (false, false) => self.exponent.cmp(&other.exponent).then_with(|| self.digits.cmp(&other.digits)),
        }
    }
}

/// An instant from PostgreSQL's ISO output or RFC 3339; UTC where no zone is given, as in our sessions.
fn moment(text: &str) -> Option<jiff::Timestamp> {
    // The date first, in full: jiff also reads forms that nobody would take for a time.
    let date = text.as_bytes().get(..10)?;
    let shape =
        date.iter().enumerate().all(|(at, it)| if at == 4 || at == 7 { *it == b'-' } else { it.is_ascii_digit() });
    if !shape {
        return None;
    }
    if let Ok(timestamp) = text.parse::<jiff::Timestamp>() {
        return Some(timestamp);
    }
    let civil = text.parse::<jiff::civil::DateTime>().ok()?;
    civil.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|it| it.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LESS: Option<Ordering> = Some(Ordering::Less);
    const EQUAL: Option<Ordering> = Some(Ordering::Equal);

    #[test]
    fn numbers_are_compared_exactly() {
        for (a, b, order) in [
            ("1", "1.000", EQUAL),
            ("007", "7", EQUAL),
            ("-0", "0.0", EQUAL),
            ("1e3", "1000", EQUAL),
            ("1.5e+300", "15e299", EQUAL),
            (".5", "0.50", EQUAL),
            ("5.", "5", EQUAL),
            ("9", "10", LESS),
            ("-10", "-9", LESS),
            ("-1", "0", LESS),
            ("0", "0.0001", LESS),
            ("0.09", "0.1", LESS),
            ("1.19", "1.2", LESS),
            ("9007199254740992", "9007199254740993", LESS),
            ("123456789012345678901234567890.1", "123456789012345678901234567890.2", LESS),
            ("1e-400", "1e-399", LESS),
            ("99", "1e9999999999", None),
            ("1e99999999", "Infinity", LESS),
            ("-Infinity", "-1e300", LESS),
            ("-Infinity", "Infinity", LESS),
            ("Infinity", "Infinity", EQUAL),
            ("NaN", "NaN", EQUAL),
            ("NaN", "5", None),
            ("Infinity", "NaN", None),
        ] {
            assert_eq!(compare(a, b), order, "{a} {b}");
            assert_eq!(compare(b, a), order.map(Ordering::reverse), "{b} {a}");
            assert_eq!(same(a, b), order == EQUAL, "{a} {b}");
        }
    }

    #[test]
    fn times_are_compared_as_instants_in_utc() {
        for (a, b, order) in [
            ("2026-11-22 10:00:00+00", "2026-11-22T10:00:00Z", EQUAL),
            ("2026-11-22 10:00:00+00", "2026-11-22T12:00:00+02:00", EQUAL),
            ("2026-11-22", "2026-11-22 00:00:00", EQUAL),
            ("2026-11-22 10:00:00", "2026-11-22 10:00:00.000001+00", LESS),
            ("2026-11-22", "2026-11-23", LESS),
            ("2026-11-22", "20261123", None),
            ("2026-11-22", "tomorrow", None),
        ] {
            assert_eq!(compare(a, b), order, "{a} {b}");
            assert_eq!(same(a, b), order == EQUAL, "{a} {b}");
        }
    }

    #[test]
    fn everything_else_is_text() {
        for (a, b, order) in [
            ("abc", "abd", LESS),
            ("", "a", LESS),
            ("1 day", "2 days", LESS),
            ("1.2.3", "1.2.4", LESS),
            ("-", "+", Some(Ordering::Greater)),
            ("e5", "e5", EQUAL),
            ("12abc", "12", None),
            ("5", "five", None),
            ("", "0", None),
        ] {
            assert_eq!(compare(a, b), order, "{a} {b}");
        }
        assert!(same("t", "true") && same("false", "f") && !same("t", "f") && !same("t", "1"));
    }
}
