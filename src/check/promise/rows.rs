//! Rows: what the dump's bytes hold, against what the server counts.

use std::collections::{BTreeMap, BTreeSet};

use super::batches::{Batches, Unit};
use super::catalog::{self, Wanted};
use super::{
    Answer, CATALOGUE_TIMEOUT, Deviation, Finding, Judged, Probe, Promise, Seen, cell, counted, population, position,
};
use crate::check::sql_text::quote_ident;
use crate::format::counted::RowCount;
use crate::format::promised::Kind;

const BATCH: usize = 4000;
/// What a row weighs where its bytes were not counted.
const ROW_BYTES: u64 = 100;

/// One table with what the dump holds for it.
struct Held<'a> {
    database: Option<&'a str>,
    schema: &'a str,
    name: &'a str,
    /// None, with a reason, where the bytes do not tell.
    rows: Result<u64, String>,
    bytes: u64,
}

/// What the server says that a table is.
struct Found<'a> {
    /// As in `pg_class.relkind`.
    kind: &'a str,
    /// Whether an extension brings it, and rows of its own.
    is_member: bool,
    /// Of a partition: where a load through the root would have gone.
    root: Option<(&'a str, &'a str)>,
}

pub(super) struct Judgement {
    pub(super) compared: Seen,
    pub(super) of: &'static str,
    /// What nobody can tell, apart from what was compared.
    pub(super) untold: Option<Judged>,
}

impl Held<'_> {
    fn words(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

/// By database, schema and name, each table once.
fn held<'a>(promise: &Promise<'a>) -> Vec<Held<'a>> {
    let mut tables: BTreeMap<(Option<&str>, &str, &str), Held<'_>> = BTreeMap::new();
    let mut add = |it: Held<'a>| {
        let loaded = promise.promised.loaded.as_ref();
        if loaded.is_some_and(|all| !all.contains(&(it.schema.to_owned(), it.name.to_owned()))) {
            return;
        }
        match tables.get_mut(&(it.database, it.schema, it.name)) {
            Some(known) => {
                known.bytes += it.bytes;
                known.rows = match (std::mem::replace(&mut known.rows, Ok(0)), it.rows) {
                    (Ok(a), Ok(b)) => Ok(a + b),
                    (Err(because), _) | (_, Err(because)) => Err(because),
                };
            }
            None => drop(tables.insert((it.database, it.schema, it.name), it)),
        }
    };
    if let Some(counted) = promise.counted {
        for it in &counted.tables {
            let rows = match &it.rows {
                RowCount::Exactly(rows) => Ok(*rows),
                RowCount::Unknown { because } => Err(because.clone()),
            };
            let (database, schema, name) = (it.database.as_deref(), it.schema.as_str(), it.name.as_str());
            add(Held { database, schema, name, rows, bytes: it.bytes });
        }
    } else {
        let partitioned: BTreeSet<&str> = partitioned(promise);
        for it in promise.contents.tables.iter().filter(|it| it.rows.is_some() || it.data) {
            if it.rows.is_none() && partitioned.contains(format!("{}.{}", it.schema, it.name).as_str()) {
                continue;
            }
            let why = "its statements do not say how many rows they leave (ON CONFLICT, INSERT … SELECT, CSV)";
            let rows = it.rows.ok_or_else(|| why.to_owned());
            let bytes = it.rows.unwrap_or_default() * ROW_BYTES;
            add(Held { database: it.database.as_deref(), schema: &it.schema, name: &it.name, rows, bytes });
        }
    }
    tables.into_values().collect()
}

/// Tables that something inherits from, as `schema.name`: of a partitioned one there need be no data.
fn partitioned<'a>(promise: &Promise<'a>) -> BTreeSet<&'a str> {
    let objects = promise.promised.objects.iter().filter(|it| it.kind == Kind::Inheritance);
    objects.map(|it| it.of.as_str()).collect()
}

/// Whether the bytes of the dump were counted at all.
fn is_told(promise: &Promise<'_>) -> bool {
    promise.counted.is_some() || promise.is_text
}

pub(super) fn probes(promise: &Promise<'_>, known: &[Answer]) -> Vec<Probe> {
    if !is_told(promise) {
        return Vec::new();
    }
    let held = held(promise);
    let questions = questions(&held);
    if known.is_empty() {
        return questions.iter().map(|it| describe(promise, it)).collect();
    }
    let Some((described, counted)) = known.split_at_checked(questions.len()) else { return Vec::new() };
    let found = found(&questions, described);
    plan(promise, &held, &found).batches(&held).probes(promise, counted)
}

/// Tables of one database, in batches, each with its position among all.
fn questions<'a, 'b>(held: &'b [Held<'a>]) -> Vec<Vec<(usize, &'b Held<'a>)>> {
    let mut by_database: BTreeMap<Option<&str>, Vec<(usize, &Held<'a>)>> = BTreeMap::new();
    for (at, it) in held.iter().enumerate() {
        by_database.entry(it.database).or_default().push((at, it));
    }
    by_database.into_values().flat_map(|all| all.chunks(BATCH).map(<[_]>::to_vec).collect::<Vec<_>>()).collect()
}

fn describe(promise: &Promise<'_>, tables: &[(usize, &Held<'_>)]) -> Probe {
    let wanted = |(i, it): (usize, &(usize, &Held<'_>))| (i, it.1.schema.to_owned(), it.1.name.to_owned());
    let wanted: Vec<(usize, String, String)> = tables.iter().enumerate().map(wanted).collect();
    let wanted: Vec<Wanted<'_>> =
        wanted.iter().map(|(i, s, n)| Wanted { i: *i, s, n, o: None, w: None, t: None, c: false, l: false }).collect();
    let sql = format!(
        "{}select w.i, c.relkind::text, \
         exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')::text, \
         rn.nspname::text, r.relname::text \
         from json_to_recordset({}) as w(i int, s text, n text) \
         join pg_namespace n on n.nspname = w.s join pg_class c on c.relnamespace = n.oid and c.relname = w.n \
         left join pg_class r on c.relispartition and r.oid = pg_partition_root(c.oid) \
         left join pg_namespace rn on rn.oid = r.relnamespace order by w.i",
        catalog::PINNED,
        catalog::literal(&wanted)
    );
    promise.probe(tables.first().and_then(|it| it.1.database), sql, CATALOGUE_TIMEOUT, BATCH)
}

/// By table: what it is; None where it is not there or was not asked for.
fn found<'a>(questions: &[Vec<(usize, &Held<'_>)>], answers: &'a [Answer]) -> Vec<Option<Found<'a>>> {
    let mut found: Vec<Option<Found<'a>>> = Vec::new();
    found.resize_with(questions.iter().map(Vec::len).sum(), || None);
    for (tables, answer) in questions.iter().zip(answers) {
        let Answer::Rows(table) = answer else { continue };
        for row in &table.rows {
            let Some((at, _)) = position(row, 0).and_then(|it| tables.get(it)) else { continue };
            let root = cell(row, 3).zip(cell(row, 4));
            let kind = cell(row, 1).unwrap_or_default();
            found[*at] = Some(Found { kind, is_member: cell(row, 2) == Some("true"), root });
        }
    }
    found
}

/// What is counted, and what each count must be.
struct Plan {
    /// Position of the table, how many rows it must have, and whether more are as good.
    counts: Vec<(usize, u64, bool)>,
    /// Whether the table's partitions are counted with it, by position.
    whole: BTreeSet<usize>,
    untold: Vec<(usize, String)>,
}

fn plan(promise: &Promise<'_>, held: &[Held<'_>], found: &[Option<Found<'_>>]) -> Plan {
    let made: BTreeSet<(Option<&str>, &str, &str)> = promise
        .promised
        .objects
        .iter()
        .filter(|it| matches!(it.kind, Kind::Table | Kind::ForeignTable))
        .map(|it| (it.database.as_deref(), it.schema.as_str(), it.name.as_str()))
        .collect();
    let place: BTreeMap<(Option<&str>, &str, &str), usize> =
        held.iter().enumerate().map(|(at, it)| ((it.database, it.schema, it.name), at)).collect();
    let is_root = |at: usize| found[at].as_ref().is_some_and(|it| it.kind == "p");
    let mut plan = Plan { counts: Vec::new(), whole: BTreeSet::new(), untold: Vec::new() };
    let mut through_root: BTreeMap<usize, Result<u64, String>> = BTreeMap::new();
    for (at, it) in held.iter().enumerate().filter(|(at, it)| is_root(*at) && it.rows != Ok(0)) {
        through_root.insert(at, it.rows.clone());
    }
    for (at, it) in held.iter().enumerate() {
        let Some(known) = &found[at] else { continue };
        let root = known.root.and_then(|(schema, name)| place.get(&(it.database, schema, name)));
        if let Some(total) = root.and_then(|root| through_root.get_mut(root)) {
            // Rows that go through the root, and those of its partitions, can only be counted together.
            *total = match (std::mem::replace(total, Ok(0)), it.rows.clone()) {
                (Ok(a), Ok(b)) if !is_root(at) => Ok(a + b),
                (total, _) => total,
            };
        } else if !is_root(at) {
            let own = made.contains(&(it.database, it.schema, it.name));
            match (&it.rows, known.kind) {
                (Err(because), _) => plan.untold.push((at, because.clone())),
                (Ok(_), "v" | "f") => plan.untold.push((at, "it is a view or a foreign table".to_owned())),
                (Ok(_), _) if !own && !known.is_member => {
                    plan.untold.push((at, "the dump holds its rows, and not the table".to_owned()));
                }
                (Ok(rows), _) => plan.counts.push((at, *rows, known.is_member)),
            }
        }
    }
    for (at, rows) in through_root {
        match rows {
            Ok(rows) => {
                plan.whole.insert(at);
                plan.counts.push((at, rows, false));
            }
            Err(because) => plan.untold.push((at, because)),
        }
    }
    plan
}

impl Plan {
    fn batches<'a>(&self, held: &[Held<'a>]) -> Batches<'a> {
        let unit = |(at, _, _): &(usize, u64, bool)| {
            let it = &held[*at];
            let only = if self.whole.contains(at) { "" } else { "only " };
            let (schema, name) = (quote_ident(it.schema), quote_ident(it.name));
            Unit { database: it.database, sql: format!("count(*)::text from {only}{schema}.{name}"), weight: it.bytes }
        };
        Batches::new(self.counts.iter().map(unit).collect())
    }
}

pub(super) fn judge(promise: &Promise<'_>, answers: &[Answer]) -> Judgement {
    let mut seen = Seen::default();
    if !is_told(promise) {
        let tables = promise.contents.tables.iter().filter(|it| it.data).count() as u64;
        let because = "the rows in the dump's bytes were not counted".to_owned();
        let untold =
            (tables > 0).then(|| Judged { finding: Finding::Unknown { because }, population: population(0, "tables") });
        return Judgement { compared: seen, of: "rows", untold };
    }
    let held = held(promise);
    let questions = questions(&held);
    let (described, counts) = answers.split_at(questions.len().min(answers.len()));
    for at in 0..questions.len() {
        match described.get(at) {
            Some(Answer::Rows(_)) => {}
            answer => seen.refused("the tables' catalogue", answer),
        }
    }
    let found = found(&questions, described);
    let asked = described.len() == questions.len();
    for (it, found) in held.iter().zip(&found) {
        let said = || promise.makes(it.database, (it.schema, it.name), &[Kind::Table]);
        if found.is_none() && asked && seen.unknown.is_empty() && !said() {
            let text = format!("{} is not there, the dump holds {} for it", it.words(), dumped(it));
            seen.deviations.push(Deviation { object: format!("table {}", it.words()), name: it.name.to_owned(), text });
        }
    }
    let mut plan = plan(promise, &held, &found);
    let (mut rows, mut tables) = (0, 0);
    for ((at, expected, more), result) in
        std::mem::take(&mut plan.counts).iter().zip(results(promise, &held, &found, counts))
    {
        let it = &held[*at];
        let object = format!("table {}", it.words());
        match result {
            Ok(number) if number == *expected || (*more && number > *expected) => {
                rows += expected;
                tables += 1;
            }
            Ok(_) if promise.promised.other_writes => {
                plan.untold.push((*at, "the script changes rows by other statements, too".to_owned()));
            }
            Ok(number) => {
                tables += 1;
                let text = format!("{} has {}, the dump holds {expected}", it.words(), counted(number, "rows"));
                seen.deviations.push(Deviation { object, name: it.name.to_owned(), text });
            }
            Err(answer) => seen.refused(&object, answer),
        }
    }
    // An expected zero is a result, too.
    let of = if rows == 0 { "tables" } else { "rows" };
    seen.examined = if rows == 0 { tables } else { rows };
    let untold = untold(&held, &plan);
    // Scripts kept by hand fill tables as they like: that their rows cannot be counted proves nothing against them.
    if tables == 0 && promise.is_dump && seen.deviations.is_empty() && seen.unknown.is_empty() {
        seen.unknown.extend(untold);
        return Judgement { compared: seen, of, untold: None };
    }
    let untold =
        untold.map(|because| Judged { finding: Finding::Unknown { because }, population: population(0, "tables") });
    Judgement { compared: seen, of, untold }
}

fn dumped(it: &Held<'_>) -> String {
    it.rows.as_ref().map_or_else(|_| "rows".to_owned(), |rows| counted(*rows, "rows"))
}

fn results<'b>(
    promise: &Promise<'_>,
    held: &[Held<'_>],
    found: &[Option<Found<'_>>],
    answers: &'b [Answer],
) -> Vec<Result<u64, Option<&'b Answer>>> {
    let results = plan(promise, held, found).batches(held).results(answers);
    let number = |row: &[Option<String>]| cell(row, 0).and_then(|it| it.parse().ok());
    results.into_iter().map(|it| it.and_then(|row| number(row).ok_or(None))).collect()
}

/// `3 tables, such as shop.x: because`
fn untold(held: &[Held<'_>], plan: &Plan) -> Option<String> {
    let (at, because) = plan.untold.first()?;
    let names: Vec<String> = plan.untold.iter().take(super::NAMED).map(|(at, _)| held[*at].words()).collect();
    let more = plan.untold.len().saturating_sub(super::NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some(format!("the rows of {}{more} cannot be compared: of {}, {because}", names.join(", "), held[*at].words()))
}
