//! Where sequences stand, and how many large objects there are.

use super::batches::{Batches, Unit};
use super::{Answer, CATALOGUE_TIMEOUT, Deviation, KEEP_ROWS, Probe, Promise, Seen, cell};
use crate::check::sql_text::quote_ident;
use crate::format::promised::{Kind, Position};

fn batches<'a>(promise: &Promise<'a>) -> Batches<'a> {
    let unit = |it: &'a Position| {
        let (schema, name) = (quote_ident(&it.schema), quote_ident(&it.name));
        let sql = format!("last_value::text, is_called::text from {schema}.{name}");
        Unit { database: it.database.as_deref(), sql, weight: 0 }
    };
    Batches::new(promise.promised.sequences.iter().map(unit).collect())
}

pub(super) fn probes(promise: &Promise<'_>, known: &[Answer]) -> Vec<Probe> {
    batches(promise).probes(promise, known)
}

pub(super) fn judge(promise: &Promise<'_>, answers: &[Answer]) -> Seen {
    let mut seen = Seen::default();
    for (wanted, result) in promise.promised.sequences.iter().zip(batches(promise).results(answers)) {
        let name = format!("sequence {}.{}", wanted.schema, wanted.name);
        match result {
            Ok(row) => {
                seen.examined += 1;
                let (value, called) = (cell(row, 0).unwrap_or("?"), cell(row, 1) == Some("true"));
                if value != wanted.last_value.to_string() || called != wanted.is_called {
                    let words =
                        |value: &str, called| if called { value.to_owned() } else { format!("{value} (not called)") };
                    let (found, dumped) =
                        (words(value, called), words(&wanted.last_value.to_string(), wanted.is_called));
                    let text = format!("{name} stands at {found}, in the dump at {dumped}");
                    seen.deviations.push(Deviation { object: name, name: wanted.name.clone(), text });
                }
            }
            // That a sequence is missing is said once.
            Err(Some(Answer::Refused { sqlstate, .. }))
                if sqlstate == "42P01"
                    && promise.makes(wanted.database.as_deref(), (&wanted.schema, &wanted.name), &[Kind::Sequence]) => {
            }
            Err(answer) => seen.refused(&name, answer),
        }
    }
    seen
}

/// How many there must be, with their bytes where those were counted.
fn promised(promise: &Promise<'_>) -> Option<(u64, Option<u64>)> {
    let counted = promise.counted.and_then(|it| it.large_objects);
    let listed = promise.contents.large_objects.filter(|_| promise.promised.loaded.is_none());
    match (counted, listed) {
        (Some(counted), _) if promise.promised.loaded.is_none() => Some((counted.count, Some(counted.bytes))),
        (_, Some(listed)) => Some((listed, promise.contents.large_object_bytes)),
        (_, None) => None,
    }
    .filter(|it| it.0 > 0)
}

pub(super) fn large_object_probes(promise: &Promise<'_>, known: &[Answer]) -> Vec<Probe> {
    if !known.is_empty() || promised(promise).is_none() {
        return Vec::new();
    }
    let pinned = super::catalog::PINNED;
    let totals = format!(
        "{pinned}select (select count(*) from pg_largeobject_metadata), \
         (select coalesce(sum(length(data)), 0) from pg_largeobject)"
    );
    let owners = format!(
        "{pinned}select pg_get_userbyid(lomowner)::text, count(*) from pg_largeobject_metadata group by lomowner order by 1"
    );
    let databases = promise.databases();
    let probe =
        |sql: &String, database: &&str| promise.probe(Some(database), sql.clone(), CATALOGUE_TIMEOUT, KEEP_ROWS);
    let totals: Vec<Probe> = databases.iter().map(|it| probe(&totals, it)).collect();
    totals.into_iter().chain(databases.iter().map(|it| probe(&owners, it))).collect()
}

pub(super) fn judge_large_objects(promise: &Promise<'_>, answers: &[Answer]) -> Seen {
    let mut seen = Seen::default();
    let Some((count, bytes)) = promised(promise) else { return seen };
    let (totals, owners) = answers.split_at(answers.len() / 2);
    let (mut found, mut found_bytes, mut by_owner) = (0, 0, std::collections::BTreeMap::new());
    for answer in totals {
        match answer {
            Answer::Rows(table) => {
                let number =
                    |at| table.rows.first().and_then(|it| cell(it, at)?.parse::<u64>().ok()).unwrap_or_default();
                found += number(0);
                found_bytes += number(1);
            }
            Answer::Refused { .. } | Answer::Silent { .. } => seen.refused("large objects", Some(answer)),
        }
    }
    for answer in owners {
        if let Answer::Rows(table) = answer {
            for row in &table.rows {
                let number = cell(row, 1).and_then(|it| it.parse::<u64>().ok()).unwrap_or_default();
                *by_owner.entry(cell(row, 0).unwrap_or_default().to_owned()).or_default() += number;
            }
        }
    }
    if totals.is_empty() {
        seen.refused("large objects", None);
    }
    if !seen.unknown.is_empty() || !seen.deviations.is_empty() {
        return seen;
    }
    seen.examined = count;
    let mut differs = |text: String| {
        seen.deviations.push(Deviation { object: "large objects".to_owned(), name: "large object".to_owned(), text });
    };
    if found != count {
        differs(format!("{found} large objects are there, the dump holds {count}"));
    } else if let Some(bytes) = bytes.filter(|it| *it != found_bytes) {
        differs(format!("large objects have {found_bytes} bytes, the dump holds {bytes}"));
    }
    for (owner, number) in promise.promised.large_objects.iter().filter(|it| promise.with_owners && !it.0.is_empty()) {
        let has: u64 = by_owner.get(owner).copied().unwrap_or_default();
        if has < *number && found == count {
            differs(format!("{has} large objects belong to {owner}, in the dump {number}"));
        }
    }
    seen
}
