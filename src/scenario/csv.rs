//! A table to compare with, from CSV (RFC 4180): a header, then rows. An empty field without quotes is null.

use crate::check::Table;

pub(super) fn table(text: &str) -> Result<Table, String> {
    let mut records = records(text.trim_start_matches('\u{feff}'))?.into_iter();
    let (_, header) = records.next().ok_or("it is empty: the first line must name the columns")?;
    let columns: Vec<String> = header.into_iter().map(Option::unwrap_or_default).collect();
    let mut rows = Vec::new();
    for (line, record) in records {
        if record.len() != columns.len() {
            return Err(format!("line {line} has {} fields, and the header {}", record.len(), columns.len()));
        }
        rows.push(record);
    }
    let total = rows.len() as u64;
    Ok(Table { columns, rows, total })
}

type Record = (usize, Vec<Option<String>>);

/// The records, each with the line on which it starts. Lines without a character are passed over.
fn records(text: &str) -> Result<Vec<Record>, String> {
    let mut records = Vec::new();
    let mut rest = text;
    let mut line = 1;
    while !rest.is_empty() {
        if let Some(tail) = rest.strip_prefix("\r\n").or_else(|| rest.strip_prefix('\n')) {
            rest = tail;
            line += 1;
            continue;
        }
        let start = line;
        let mut fields = Vec::new();
        loop {
            let (field, tail) = field(rest).map_err(|why| format!("line {line}: {why}"))?;
            line += rest[..rest.len() - tail.len()].matches('\n').count();
            fields.push(field);
            if let Some(tail) = tail.strip_prefix(',') {
                rest = tail;
                continue;
            }
            rest = tail.strip_prefix("\r\n").or_else(|| tail.strip_prefix('\n')).unwrap_or(tail);
            line += usize::from(rest.len() < tail.len());
            break;
        }
        records.push((start, fields));
    }
    Ok(records)
}

fn field(text: &str) -> Result<(Option<String>, &str), String> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', '\n']).unwrap_or(text.len());
        let (field, tail) = text.split_at(end);
        let (field, tail) = match field.strip_suffix('\r') {
            Some(field) if !tail.starts_with(',') => (field, &text[field.len()..]),
            Some(_) | None => (field, tail),
        };
        let tail = tail.strip_prefix('\r').unwrap_or(tail);
        return Ok(((!field.is_empty()).then(|| field.to_owned()), tail));
    };
    let mut value = String::new();
    let mut rest = quoted;
    loop {
        let end = rest.find('"').ok_or("a quote that is not closed")?;
        value.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(tail) => {
                value.push('"');
                rest = tail;
            }
            None if rest.is_empty() || rest.starts_with([',', '\n', '\r']) => {
                return Ok((Some(value), rest.strip_prefix('\r').unwrap_or(rest)));
            }
            None => return Err("text after a closing quote".to_owned()),
        }
    }
}
