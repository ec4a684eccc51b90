//! Names and values as SQL writes them.

/// A string literal for any value, whatever `standard_conforming_strings` says.
pub fn quote_literal(value: &str) -> String {
    let doubled = value.replace('\'', "''");
    if doubled.contains('\\') { format!("E'{}'", doubled.replace('\\', "\\\\")) } else { format!("'{doubled}'") }
}

/// An identifier that stands for exactly this name: always in quotes, so no list of keywords is needed.
pub fn quote_ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The parts of a qualified name in SQL syntax, as the catalogue spells them: `shop."Größe"` is `shop` and `Größe`,
/// `Shop.Orders` is `shop` and `orders`. None where it is not a name.
///
/// Folds ASCII letters only, as PostgreSQL does in UTF-8 databases. Like `parse_ident`, blanks around the dots are allowed.
pub fn split_ident(text: &str) -> Option<Vec<String>> {
    let (parts, rest) = split_ident_prefix(text)?;
    rest.is_empty().then_some(parts)
}

/// The qualified name at the start of a text, and what follows it: the `(…)` of a function.
pub(crate) fn split_ident_prefix(text: &str) -> Option<(Vec<String>, &str)> {
    let mut parts = Vec::new();
    let mut rest = text.trim_start();
    loop {
        let (part, after) = if rest.starts_with('"') { quoted_part(rest)? } else { plain_part(rest)? };
        parts.push(part);
        rest = after.trim_start();
        match rest.strip_prefix('.') {
            Some(next) => rest = next.trim_start(),
            None => return Some((parts, rest)),
        }
    }
}

fn quoted_part(text: &str) -> Option<(String, &str)> {
    let mut part = String::new();
    let mut rest = text.strip_prefix('"')?;
    loop {
        let (before, after) = rest.split_once('"')?;
        part.push_str(before);
        match after.strip_prefix('"') {
            Some(next) => {
                part.push('"');
                rest = next;
            }
            None if part.is_empty() => return None,
            None => return Some((part, after)),
        }
    }
}

fn plain_part(text: &str) -> Option<(String, &str)> {
    let starts = |it: char| it.is_ascii_alphabetic() || it == '_' || !it.is_ascii();
    let goes_on = |it: char| starts(it) || it.is_ascii_digit() || it == '$';
    if !text.starts_with(|it: char| starts(it) && !it.is_whitespace()) {
        return None;
    }
    let end = text.find(|it: char| !goes_on(it) || it.is_whitespace()).unwrap_or(text.len());
    let (part, rest) = text.split_at(end);
    Some((part.to_ascii_lowercase(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_survive_quotes_and_backslashes() {
        for (value, literal) in [
            ("", "''"),
            ("shop", "'shop'"),
            ("o'clock", "'o''clock'"),
            (r"a\b", r"E'a\\b'"),
            (r"\'; drop", r"E'\\''; drop'"),
        ] {
            assert_eq!(quote_literal(value), literal);
        }
    }

    #[test]
    fn identifiers_double_their_quotes() {
        assert_eq!(quote_ident(r#"My "Table""#), r#""My ""Table""""#);
    }

    #[test]
    fn names_are_split_as_the_server_splits_them() {
        let some = |parts: &[&str]| Some(parts.iter().map(ToString::to_string).collect::<Vec<_>>());
        for (text, parts) in [
            ("orders", some(&["orders"])),
            ("Shop.Orders", some(&["shop", "orders"])),
            (r#"shop."Orders""#, some(&["shop", "Orders"])),
            (r#""a.b"."c""d""#, some(&["a.b", "c\"d"])),
            ("größe.ÄB$1", some(&["größe", "Äb$1"])),
            (" a . b ", some(&["a", "b"])),
            ("_x9.y", some(&["_x9", "y"])),
            ("", None),
            ("a.", None),
            (".a", None),
            ("a b", None),
            ("my-table", None),
            ("1a", None),
            ("a;drop", None),
            (r#""open"#, None),
            (r#""""#, None),
            ("a\u{a0}b", None),
        ] {
            assert_eq!(split_ident(text), parts, "{text}");
        }
    }

    #[test]
    fn what_follows_a_name_is_left() {
        let (parts, rest) = split_ident_prefix("shop.total(int, text)").expect("it starts with a name");
        assert_eq!((parts.len(), rest), (2, "(int, text)"));
    }
}
