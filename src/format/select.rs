//! Which entries of an archive a selective restore needs.
//!
//! `pg_restore`'s own `-n` and `-t` take tables without what they depend on and without what hangs on them, so their
//! restores rarely succeed. This takes the entries that belong to what was named, and all that those depend on.

use std::collections::BTreeMap;

use super::Selection;
use super::archive::{Archive, Entry, by_id};
use super::sql;
use crate::fault::{Blame, Fault};

/// Dump ids in the order of the archive: one line `ID;` each makes a list file for `pg_restore -L`.
///
/// A name that matches nothing is a fault of the scenario, with the names that are near.
pub fn select(archive: &Archive, selection: &Selection) -> Result<Vec<i32>, Fault> {
    let mut picker = Picker::new(&archive.entries);
    for schema in &selection.schemas {
        picker.schema(schema)?;
    }
    for table in &selection.tables {
        picker.table(table)?;
    }
    picker.close();
    let taken = picker.taken.iter().zip(&archive.entries);
    Ok(taken.filter(|(taken, _)| **taken != Taken::No).map(|(_, entry)| entry.dump_id).collect())
}

/// How much of an entry is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Taken {
    No,
    /// Something depends on it: it is defined, but its data and what hangs on it stay away.
    Defined,
    Whole,
}

struct Picker<'a> {
    entries: &'a [Entry],
    by_id: BTreeMap<i32, usize>,
    /// By schema and name: `SEQUENCE OWNED BY` tells its table only in its text.
    tables: BTreeMap<(&'a str, &'a str), usize>,
    schemas: BTreeMap<&'a str, usize>,
    taken: Vec<Taken>,
}

/// What can be named as a table, as with `pg_restore -t`.
const RELATIONS: [&str; 5] = ["TABLE", "FOREIGN TABLE", "VIEW", "MATERIALIZED VIEW", "SEQUENCE"];

/// Kinds that are part of what they depend on.
const PARTS: [&str; 18] = [
    "TABLE DATA",
    "MATERIALIZED VIEW DATA",
    "SEQUENCE SET",
    "SEQUENCE OWNED BY",
    "DEFAULT",
    "CONSTRAINT",
    "CHECK CONSTRAINT",
    "INDEX",
    "INDEX ATTACH",
    "TRIGGER",
    "RULE",
    "POLICY",
    "ROW SECURITY",
    "STATISTICS",
    "STATISTICS DATA",
    "COMMENT",
    "ACL",
    "SECURITY LABEL",
];

/// Parts that even a thing that is only defined keeps.
const MARKS: [&str; 3] = ["COMMENT", "ACL", "SECURITY LABEL"];

/// What a restore never takes because of a selection: it acts on the database, or on other servers.
const NEVER: [&str; 8] = [
    "DATABASE",
    "DATABASE PROPERTIES",
    "PUBLICATION",
    "PUBLICATION TABLE",
    "PUBLICATION TABLES IN SCHEMA",
    "SUBSCRIPTION",
    "SUBSCRIPTION TABLE",
    "EVENT TRIGGER",
];

impl<'a> Picker<'a> {
    fn new(entries: &'a [Entry]) -> Picker<'a> {
        let mut picker = Picker {
            entries,
            by_id: by_id(entries),
            tables: BTreeMap::new(),
            schemas: BTreeMap::new(),
            taken: vec![Taken::No; entries.len()],
        };
        for (at, entry) in entries.iter().enumerate() {
            match entry.desc.as_str() {
                "SCHEMA" => drop(picker.schemas.insert(&entry.tag, at)),
                kind if RELATIONS.contains(&kind) => {
                    picker.tables.insert((entry.namespace.as_deref().unwrap_or_default(), &entry.tag), at);
                }
                "ENCODING" | "STDSTRINGS" | "SEARCHPATH" => picker.taken[at] = Taken::Whole,
                _ => {}
            }
        }
        picker
    }

    fn schema(&mut self, schema: &str) -> Result<(), Fault> {
        let mut found = false;
        for (at, entry) in self.entries.iter().enumerate() {
            let inside = entry.namespace.as_deref() == Some(schema) || (entry.desc == "SCHEMA" && entry.tag == schema);
            if inside {
                found = true;
                if entry.desc != "FK CONSTRAINT" && !is_never(entry) {
                    self.taken[at] = Taken::Whole;
                }
            }
        }
        if found {
            return Ok(());
        }
        let names = self.entries.iter().filter_map(|it| it.namespace.clone());
        Err(unknown("schema", schema, names.chain(self.schemas.keys().map(ToString::to_string))))
    }

    fn table(&mut self, table: &str) -> Result<(), Fault> {
        let wanted = unquoted(table);
        let matching =
            self.tables.iter().filter(|((schema, name), _)| *name == wanted || is_pair(&wanted, schema, name));
        let found: Vec<usize> = matching.map(|(_, at)| *at).collect();
        if found.is_empty() {
            let names = self.tables.keys().map(|(schema, name)| format!("{schema}.{name}"));
            let bare = self.tables.keys().map(|(_, name)| (*name).to_owned()).filter(|_| !wanted.contains('.'));
            return Err(unknown("table", table, names.chain(bare)));
        }
        for at in found {
            self.taken[at] = Taken::Whole;
        }
        Ok(())
    }

    /// Adds what belongs to what was taken and what it depends on, until nothing is missing.
    fn close(&mut self) {
        loop {
            let before = self.taken.clone();
            for at in 0..self.entries.len() {
                let wanted = self.wanted(at);
                self.taken[at] = self.taken[at].max(wanted);
                if self.taken[at] != Taken::No {
                    self.take_needs(at);
                }
            }
            if self.taken == before {
                break;
            }
        }
        // Only now is it known which ends are in. A key between tables of which one is only defined would fail.
        for (at, entry) in self.entries.iter().enumerate() {
            let both = || entry.dependencies.iter().all(|it| self.state(*it).is_none_or(|it| it == Taken::Whole));
            if entry.desc == "FK CONSTRAINT" && both() && !entry.dependencies.is_empty() {
                self.taken[at] = Taken::Whole;
            }
        }
        let keys: Vec<i32> = self.taken_ids("FK CONSTRAINT");
        for (at, entry) in self.entries.iter().enumerate() {
            let on_key = entry.dependencies.iter().any(|it| keys.contains(it));
            if on_key && MARKS.contains(&entry.desc.as_str()) {
                self.taken[at] = Taken::Whole;
            }
        }
    }

    fn taken_ids(&self, desc: &str) -> Vec<i32> {
        let taken = self.entries.iter().zip(&self.taken);
        taken.filter(|(it, taken)| it.desc == desc && **taken != Taken::No).map(|(it, _)| it.dump_id).collect()
    }

    fn state(&self, id: i32) -> Option<Taken> {
        Some(self.taken[*self.by_id.get(&id)?])
    }

    /// Whether an entry is a part of what is taken.
    fn wanted(&self, at: usize) -> Taken {
        let entry = &self.entries[at];
        let parents =
            || entry.dependencies.iter().filter_map(|it| Some((self.state(*it)?, &self.entries[*self.by_id.get(it)?])));
        match entry.desc.as_str() {
            // A partition comes with its parent; the parent comes with a partition as any dependency does.
            "TABLE" => match self.attached_to(entry) {
                Some(Taken::Whole) => Taken::Whole,
                Some(Taken::No | Taken::Defined) | None => Taken::No,
            },
            "TABLE ATTACH" | "INDEX ATTACH" => {
                let all = parents().all(|(state, _)| state != Taken::No) && !entry.dependencies.is_empty();
                if all { Taken::Whole } else { Taken::No }
            }
            "SEQUENCE OWNED BY" => {
                let sequence = parents().any(|(state, _)| state != Taken::No);
                let table = self.owning_table(entry).map_or(Taken::No, |it| self.taken[it]);
                if sequence && table != Taken::No { Taken::Whole } else { Taken::No }
            }
            "SEQUENCE" => match self.owner_of_sequence(entry) {
                Some(Taken::Whole) => Taken::Whole,
                Some(Taken::No | Taken::Defined) | None => Taken::No,
            },
            kind if PARTS.contains(&kind) => {
                let marks = MARKS.contains(&kind);
                // A comment on a column needs its table, and nothing else that it may depend on.
                let own = |(state, parent): (Taken, &Entry)| match state {
                    Taken::Whole => !is_bystander(kind, parent),
                    Taken::Defined => marks,
                    Taken::No => false,
                };
                if parents().any(own) { Taken::Whole } else { Taken::No }
            }
            _ => Taken::No,
        }
    }

    /// How much is taken of the parent that a table is attached to.
    fn attached_to(&self, table: &Entry) -> Option<Taken> {
        let own = |it: &&Entry| {
            let name = it.tag == table.tag && it.namespace == table.namespace;
            name && it.desc == "TABLE ATTACH" && it.dependencies.contains(&table.dump_id)
        };
        let attach = self.entries.iter().find(own)?;
        attach.dependencies.iter().filter(|it| **it != table.dump_id).filter_map(|it| self.state(*it)).max()
    }

    /// How much is taken of the table that a sequence belongs to, as a serial or an identity.
    fn owner_of_sequence(&self, sequence: &Entry) -> Option<Taken> {
        if sequence.definition.contains(" AS IDENTITY ") {
            return sequence.dependencies.iter().filter_map(|it| self.state(*it)).max();
        }
        let owned = self.entries.iter().filter(|it| it.desc == "SEQUENCE OWNED BY");
        let mut owned = owned.filter(|it| it.dependencies.contains(&sequence.dump_id));
        let table = owned.find_map(|it| self.owning_table(it))?;
        Some(self.taken[table])
    }

    /// The table in `ALTER SEQUENCE … OWNED BY schema.table.column`.
    fn owning_table(&self, entry: &Entry) -> Option<usize> {
        let tokens = sql::tokens(&entry.definition);
        let by =
            tokens.windows(2).position(|it| it == [sql::Token::Word("owned".into()), sql::Token::Word("by".into())])?;
        let (parts, _) = sql::name(&tokens[by + 2..])?;
        match parts.as_slice() {
            [.., schema, table, _column] => self.tables.get(&(schema.as_str(), table.as_str())).copied(),
            _ => None,
        }
    }

    /// Takes what an entry cannot be restored without.
    fn take_needs(&mut self, at: usize) {
        let entry = &self.entries[at];
        for id in &entry.dependencies {
            let Some(&needed) = self.by_id.get(id) else { continue };
            let other = &self.entries[needed];
            // Data are taken with their table or not at all; an ACL of a column follows the ACL of its table.
            let data = matches!(other.desc.as_str(), "TABLE DATA" | "MATERIALIZED VIEW DATA" | "BLOBS");
            if !is_never(other) && !data {
                // A view shows what its tables hold: without their rows it would be there and say nothing.
                let shown = self.taken[at] == Taken::Whole && entry.desc.ends_with("VIEW") && is_relation(other);
                let wanted = if shown { Taken::Whole } else { Taken::Defined };
                self.taken[needed] = self.taken[needed].max(wanted);
            }
        }
        if needs_operators(entry) {
            for (at, _) in self.entries.iter().enumerate().filter(|(_, it)| it.desc == "EXTENSION") {
                self.taken[at] = self.taken[at].max(Taken::Defined);
            }
        }
        let schema = entry.namespace.as_deref().and_then(|it| self.schemas.get(it));
        if let Some(&schema) = schema {
            self.taken[schema] = self.taken[schema].max(Taken::Defined);
        }
    }
}

/// Whether a part that depends on this does not belong to it: a trigger is part of its table, not of its function.
fn is_bystander(kind: &str, parent: &Entry) -> bool {
    let mark = MARKS.contains(&kind);
    let relation = is_relation(parent);
    let index = matches!(parent.desc.as_str(), "CONSTRAINT" | "INDEX" | "STATISTICS");
    let of_index = index && matches!(kind, "STATISTICS DATA" | "INDEX ATTACH");
    !(mark || relation || of_index)
}

fn is_relation(entry: &Entry) -> bool {
    RELATIONS.contains(&entry.desc.as_str())
}

/// Whether a constraint uses operators of which `pg_dump` records no dependency: those of `btree_gist`, for example.
fn needs_operators(entry: &Entry) -> bool {
    let uses = |it: &str| entry.definition.contains(it);
    entry.desc == "CONSTRAINT" && (uses(" EXCLUDE USING ") || uses(" WITHOUT OVERLAPS"))
}

fn is_never(entry: &Entry) -> bool {
    NEVER.contains(&entry.desc.as_str())
}

fn is_pair(wanted: &str, schema: &str, name: &str) -> bool {
    wanted.strip_prefix(schema).and_then(|it| it.strip_prefix('.')) == Some(name)
}

/// People copy names from SQL: `shop."order"` means `shop.order`.
fn unquoted(name: &str) -> String {
    if !name.contains('"') {
        return name.to_owned();
    }
    match sql::name(&sql::tokens(name)) {
        Some((parts, _)) => parts.join("."),
        None => name.to_owned(),
    }
}

fn unknown(what: &str, wanted: &str, names: impl Iterator<Item = String>) -> Fault {
    let fault = Fault::new(Blame::Scenario, format!("select the {what} {wanted} from the dump"))
        .cause(format!("the dump holds no {what} of that name"));
    let mut near: Vec<(f64, String)> = names
        .map(|it| (strsim::jaro_winkler(&it.to_lowercase(), &wanted.to_lowercase()), it))
        .filter(|it| it.0 > 0.8)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    near.dedup_by(|a, b| a.1 == b.1);
    let near: Vec<String> = near.into_iter().take(3).map(|it| it.1).collect();
    match near.as_slice() {
        [] => fault.hint(
            "`pgdrill inspect` lists what the dump holds; names are matched with their case, as in the catalogue",
        ),
        near => fault.hint(format!("did you mean {}?", near.join(" or "))),
    }
}
