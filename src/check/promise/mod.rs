//! `promise`: what the dump itself says it holds is there afterwards. Nobody has to write it.
//!
//! The dump's objects, with the state, owners and grants that it declares, are looked for in the catalogues; its rows,
//! counted from its bytes, are counted again by the server; sequences and large objects likewise. What a dump does not hold
//! is not asked. What restoring refused with an error is the error's matter, and judged there.

mod batches;
mod catalog;
mod objects;
mod positions;
mod rows;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Answer, Finding, Judged, Population, Probe, Severity, not_the_data};
use crate::format::Contents;
use crate::format::counted::Counted;
use crate::format::promised::{Kind, Object, Promised};

/// A catalogue answers in moments, or something is wrong.
const CATALOGUE_TIMEOUT: Duration = Duration::from_secs(300);
/// Of one batch of tables, or of one large table.
const COUNT_TIMEOUT: Duration = Duration::from_secs(2 * 3600);
/// Deviations that one answer keeps; all are counted.
const KEEP_ROWS: usize = 300;
/// Deviations that are named in a finding.
const NAMED: usize = 10;

/// What there is to know for asking and judging.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of the drill by itself")]
pub struct Promise<'a> {
    pub contents: &'a Contents,
    pub promised: &'a Promised,
    /// What the data bytes hold, where they were counted.
    pub counted: Option<&'a Counted>,
    /// Whether `pg_dump` made it: then a dump of an empty database promises nothing, and keeps it.
    pub is_dump: bool,
    /// Text says itself how many rows it holds; the bytes of an archive must be counted.
    pub is_text: bool,
    /// Where to look for what names no database.
    pub database: &'a str,
    /// False where the scenario restores without owners and grants.
    pub with_owners: bool,
    /// Of the server that was dumped.
    pub from_major: Option<u32>,
    /// The errors of the restore, in words: what they name was refused, and is judged with them.
    pub refusals: Vec<String>,
    /// There were more errors than are kept.
    pub more_refusals: bool,
    /// SQL of the scenario ran after the restore and may have changed rows.
    pub after: bool,
}

/// Groups of questions, in the order in which they are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    Objects,
    Grants,
    Positions,
    LargeObjects,
    Rows,
}

impl Group {
    pub const ALL: [Group; 5] = [Group::Objects, Group::Grants, Group::Positions, Group::LargeObjects, Group::Rows];
}

/// The judgement of one aspect of the promise: a check that nobody wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aspect {
    /// `promise: rows`
    pub name: &'static str,
    pub severity: Severity,
    pub judged: Judged,
    /// What deviates, by kind and name: `index shop.orders_idx`.
    pub objects: Vec<String>,
    /// Whose time this took.
    pub group: Group,
}

/// Something that is not as promised.
#[derive(Clone, Debug)]
struct Deviation {
    /// `index shop.orders_idx`
    object: String,
    /// What refusals may name it by.
    name: String,
    /// How it differs, as a whole clause that names it: `index shop.orders_idx`, `shop.orders has 90, the dump holds 100`.
    text: String,
}

/// What was seen of one aspect.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// Things that were looked at.
    examined: u64,
    deviations: Vec<Deviation>,
    /// Deviations that the answers only count.
    more: u64,
    /// Why some could not be looked at.
    unknown: Vec<String>,
}

impl Promise<'_> {
    /// What is still to be asked of a group, given its answers so far; empty when there is no more.
    pub fn probes(&self, group: Group, known: &[Answer]) -> Vec<Probe> {
        match group {
            Group::Objects => objects::probes(self, known),
            Group::Grants => objects::grant_probes(self, known),
            Group::Positions => positions::probes(self, known),
            Group::LargeObjects => positions::large_object_probes(self, known),
            Group::Rows => rows::probes(self, known),
        }
    }

    /// `answers`: by group. An aspect of which the dump holds nothing is left out.
    pub fn judge(&self, answers: &[&[Answer]]) -> Vec<Aspect> {
        let of = |group: Group| answers.get(group as usize).copied().unwrap_or_default();
        let (present, state, owners) = objects::judge(self, of(Group::Objects), of(Group::Grants));
        let rows = rows::judge(self, of(Group::Rows));
        let mut aspects = Vec::new();
        let nothing = self.promised.objects.is_empty() && self.contents.tables.is_empty();
        let empty = self.is_dump && nothing && rows.compared.examined == 0;
        if empty {
            let finding = Finding::Held { observed: "the dump holds nothing, and nothing is missing".to_owned() };
            let judged = Judged { finding, population: Population { examined: 0, of: "objects".to_owned() } };
            aspects.push(aspect("promise: objects", Severity::Major, judged, Group::Objects));
        }
        let all = [
            ("promise: objects", "objects", present, Group::Objects),
            ("promise: state", "declared states", state, Group::Objects),
            ("promise: owners and grants", "owners and grants", owners, Group::Grants),
            ("promise: sequences", "sequences", positions::judge(self, of(Group::Positions)), Group::Positions),
            (
                "promise: large objects",
                "large objects",
                positions::judge_large_objects(self, of(Group::LargeObjects)),
                Group::LargeObjects,
            ),
            ("promise: rows", rows.of, rows.compared, Group::Rows),
        ];
        let mut refused = Seen::default();
        for (name, of, mut seen, group) in all {
            self.set_aside(&mut seen, &mut refused);
            // A script of the scenario changes rows as it likes: what it did is not the dump's.
            let is_data = matches!(group, Group::Rows | Group::Positions | Group::LargeObjects);
            let because =
                (is_data && self.after).then_some("`restore.after` ran before this was asked, and may have changed it");
            aspects.extend(seen.weigh(name, of, because, group));
        }
        // An archive's rows are counted by ourselves: that they were not is a doubt, and no trait of the dump.
        let severity = if self.counted.is_none() && !self.is_text { Severity::Major } else { Severity::Minor };
        aspects.extend(rows.untold.map(|judged| aspect("promise: rows not told", severity, judged, Group::Rows)));
        aspects.extend(self.not_examined());
        if !refused.deviations.is_empty() {
            let finding = Finding::Broken {
                expected: "everything as dumped".to_owned(),
                observed: format!("not restored because of errors that are judged apart: {}", refused.named()),
            };
            let judged = Judged { finding, population: population(refused.deviations.len() as u64, "objects") };
            let objects = refused.deviations.into_iter().map(|it| it.object).collect();
            let refused = aspect("promise: refused objects", Severity::Minor, judged, Group::Objects);
            aspects.push(Aspect { objects, ..refused });
        }
        aspects
    }

    /// Entries that were not understood: a finding, so that nobody takes them for examined.
    fn not_examined(&self) -> Option<Aspect> {
        let kinds: Vec<String> =
            self.promised.unexamined.iter().map(|(kind, number)| format!("{number} {kind}")).collect();
        let because = format!("entries of these kinds are not looked for: {}", kinds.join(", "));
        let judged = Judged { finding: Finding::Unknown { because }, population: population(0, "entries") };
        (!kinds.is_empty()).then(|| aspect("promise: not examined", Severity::Minor, judged, Group::Objects))
    }

    /// Takes out what an error of the restore explains.
    fn set_aside(&self, seen: &mut Seen, refused: &mut Seen) {
        let explained = |it: &Deviation| self.refusals.iter().any(|refusal| mentions(refusal, &it.name));
        let (explained, open): (Vec<_>, Vec<_>) = std::mem::take(&mut seen.deviations).into_iter().partition(explained);
        seen.deviations = open;
        refused.deviations.extend(explained);
        if self.more_refusals && (!seen.deviations.is_empty() || seen.more > 0) {
            let named = seen.named();
            seen.unknown.push(format!("there were more errors of the restore than are kept; not as dumped: {named}"));
            seen.deviations.clear();
            seen.more = 0;
        }
    }

    /// Whether the dump promises an object of this name and of one of these kinds.
    fn makes(&self, database: Option<&str>, (schema, name): (&str, &str), kinds: &[Kind]) -> bool {
        let is = |it: &Object| it.name == name && it.schema == schema && it.database.as_deref() == database;
        self.promised.objects.iter().any(|it| is(it) && kinds.contains(&it.kind))
    }

    /// The databases that the dump fills.
    fn databases(&self) -> BTreeSet<&str> {
        let objects = self.promised.objects.iter().map(|it| it.database.as_deref());
        let tables = self.contents.tables.iter().map(|it| it.database.as_deref());
        objects.chain(tables).chain([None]).map(|it| it.unwrap_or(self.database)).collect()
    }

    fn probe(&self, database: Option<&str>, sql: String, timeout: Duration, keep_rows: usize) -> Probe {
        let database = database.unwrap_or(self.database).to_owned();
        Probe { database, role: None, sql, timeout, keep_rows }
    }
}

impl Seen {
    /// None where there was nothing to look at.
    fn weigh(self, name: &'static str, of: &str, excuse: Option<&str>, group: Group) -> Option<Aspect> {
        let total = self.deviations.len() as u64 + self.more;
        if self.examined == 0 && total == 0 && self.unknown.is_empty() {
            return None;
        }
        let finding = match (total, self.unknown.first(), excuse) {
            (1.., _, Some(because)) => {
                Finding::Unknown { because: format!("{because}; not as dumped: {}", self.named()) }
            }
            (1.., _, None) => {
                let expected = format!("{} as dumped", counted(self.examined.max(total), of));
                Finding::Broken { expected, observed: self.named() }
            }
            (0, Some(because), _) => Finding::Unknown { because: because.clone() },
            (0, None, _) => Finding::Held { observed: format!("{} as dumped", counted(self.examined, of)) },
        };
        let judged = Judged { finding, population: population(self.examined, of) };
        let objects = self.deviations.into_iter().map(|it| it.object).collect();
        Some(Aspect { objects, ..aspect(name, Severity::Major, judged, group) })
    }

    /// The first deviations, and how many more there are.
    fn named(&self) -> String {
        let mut named: Vec<&str> = self.deviations.iter().take(NAMED).map(|it| it.text.as_str()).collect();
        let more = self.deviations.len().saturating_sub(NAMED) as u64 + self.more;
        let more = format!("and {more} more");
        if !more.starts_with("and 0 ") {
            named.push(&more);
        }
        named.join("; ")
    }

    /// An answer that is no table: an error may be damage, or say nothing about the data.
    fn refused(&mut self, what: &str, answer: Option<&Answer>) {
        match answer {
            Some(Answer::Refused { sqlstate, message, .. }) => {
                let observed = format!("error {sqlstate}: {message}");
                match not_the_data(sqlstate) {
                    Some(why) => self.unknown.push(format!("{what}: {why}: {observed}")),
                    None => self.deviations.push(Deviation {
                        object: what.to_owned(),
                        name: what.to_owned(),
                        text: format!("{what} cannot be read: {observed}"),
                    }),
                }
            }
            Some(Answer::Silent { because }) => self.unknown.push(format!("{what}: {because}")),
            Some(Answer::Rows(_)) => self.unknown.push(format!("{what}: the server's answer makes no sense")),
            None => self.unknown.push(format!("{what}: the drill ended before it was asked")),
        }
    }
}

fn aspect(name: &'static str, severity: Severity, judged: Judged, group: Group) -> Aspect {
    Aspect { name, severity, judged, objects: Vec::new(), group }
}

fn population(examined: u64, of: &str) -> Population {
    Population { examined, of: of.to_owned() }
}

/// `1 row`, `3 rows`
fn counted(number: u64, of: &str) -> String {
    let one = of.strip_suffix('s').filter(|_| number == 1 && !of.contains(" and "));
    format!("{number} {}", one.unwrap_or(of))
}

/// Whether a name stands in a text as a whole.
fn mentions(text: &str, name: &str) -> bool {
    let part = |it: Option<char>| it.is_some_and(|it| it.is_alphanumeric() || it == '_');
    text.match_indices(name)
        .any(|(at, _)| !part(text[..at].chars().next_back()) && !part(text[at + name.len()..].chars().next()))
}

/// The text of a column of a row.
fn cell(row: &[Option<String>], at: usize) -> Option<&str> {
    row.get(at)?.as_deref()
}

/// A column as a position within a list.
fn position(row: &[Option<String>], at: usize) -> Option<usize> {
    cell(row, at)?.parse().ok()
}
