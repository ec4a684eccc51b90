//! Objects with their states, owners and grants, against the catalogues.

use std::collections::BTreeMap;

use super::catalog::{self, Wanted, WantedGrant};
use super::{Answer, CATALOGUE_TIMEOUT, Deviation, KEEP_ROWS, Probe, Promise, Seen, cell, position};
use crate::format::promised::{Grant, GrantOn, Kind, Object};

/// Objects in one question: some hundreds of kilobytes of text.
const BATCH: usize = 4000;

/// What a grant may be on, where the dump itself makes it.
const RELATIONS: [Kind; 12] = [
    Kind::Table,
    Kind::View,
    Kind::MaterializedView,
    Kind::ForeignTable,
    Kind::Sequence,
    Kind::Function,
    Kind::Type,
    Kind::Domain,
    Kind::Schema,
    Kind::Language,
    Kind::Server,
    Kind::ForeignDataWrapper,
];

/// What is asked for together, in the order of asking.
fn batches<'a>(promise: &Promise<'a>) -> Vec<(Option<&'a str>, Kind, Vec<&'a Object>)> {
    let mut groups: BTreeMap<(Option<&str>, Kind), Vec<&Object>> = BTreeMap::new();
    for object in &promise.promised.objects {
        groups.entry((object.database.as_deref(), object.kind)).or_default().push(object);
    }
    let split = |((database, kind), objects): ((Option<&'a str>, Kind), Vec<&'a Object>)| {
        objects.chunks(BATCH).map(|it| (database, kind, it.to_vec())).collect::<Vec<_>>()
    };
    groups.into_iter().flat_map(split).collect()
}

pub(super) fn probes(promise: &Promise<'_>, known: &[Answer]) -> Vec<Probe> {
    if !known.is_empty() {
        return Vec::new();
    }
    let probe = |(database, kind, objects): &(Option<&str>, Kind, Vec<&Object>)| {
        let wanted: Vec<Wanted<'_>> = objects.iter().enumerate().map(|(i, it)| wanted(promise, i, it)).collect();
        promise.probe(*database, catalog::objects(*kind, &wanted), CATALOGUE_TIMEOUT, KEEP_ROWS)
    };
    batches(promise).iter().map(probe).collect()
}

fn wanted<'a>(promise: &Promise<'_>, i: usize, object: &'a Object) -> Wanted<'a> {
    Wanted {
        i,
        s: &object.schema,
        n: &object.name,
        o: Some(object.of.as_str()).filter(|it| !it.is_empty()),
        w: owner(promise, object),
        t: object.state.as_deref(),
        c: object.comment,
        l: object.label,
    }
}

/// The owner that must be there. What initdb makes has initdb's owner, and dumps of before 15 do not mean to change that.
fn owner<'a>(promise: &Promise<'_>, object: &'a Object) -> Option<&'a str> {
    let old_public =
        object.kind == Kind::Schema && object.name == "public" && promise.from_major.is_none_or(|it| it < 15);
    let by_initdb = old_public || (object.kind == Kind::Language && object.name == "plpgsql");
    // Of an overloaded name it is not known which one is meant.
    let unclear = object.kind == Kind::Operator || (object.kind == Kind::Function && object.of.is_empty());
    object.owner.as_deref().filter(|_| promise.with_owners && !by_initdb && !unclear)
}

fn grant_batches<'a>(promise: &Promise<'a>) -> Vec<(Option<&'a str>, GrantOn, Vec<&'a Grant>)> {
    if !promise.with_owners {
        return Vec::new();
    }
    let mut groups: BTreeMap<(Option<&str>, GrantOn), Vec<&Grant>> = BTreeMap::new();
    for grant in &promise.promised.grants {
        groups.entry((grant.database.as_deref(), grant.on)).or_default().push(grant);
    }
    let split = |((database, on), grants): ((Option<&'a str>, GrantOn), Vec<&'a Grant>)| {
        grants.chunks(BATCH).map(|it| (database, on, it.to_vec())).collect::<Vec<_>>()
    };
    groups.into_iter().flat_map(split).collect()
}

pub(super) fn grant_probes(promise: &Promise<'_>, known: &[Answer]) -> Vec<Probe> {
    if !known.is_empty() {
        return Vec::new();
    }
    let probe = |(database, on, grants): &(Option<&str>, GrantOn, Vec<&Grant>)| {
        let wanted: Vec<WantedGrant<'_>> = grants.iter().enumerate().map(|(i, it)| wanted_grant(i, it)).collect();
        promise.probe(*database, catalog::grants(*on, &wanted), CATALOGUE_TIMEOUT, KEEP_ROWS)
    };
    grant_batches(promise).iter().map(probe).collect()
}

fn wanted_grant(i: usize, grant: &Grant) -> WantedGrant<'_> {
    WantedGrant {
        i,
        s: &grant.schema,
        n: &grant.name,
        o: &grant.of,
        r: &grant.role,
        g: grant.granted.iter().map(String::as_str).collect(),
        p: grant.grantable.iter().map(String::as_str).collect(),
        x: grant.revoked.iter().map(String::as_str).collect(),
    }
}

/// Presence, state, and owners with grants.
pub(super) fn judge(promise: &Promise<'_>, objects: &[Answer], grants: &[Answer]) -> (Seen, Seen, Seen) {
    let (mut present, mut state, mut owners) = (Seen::default(), Seen::default(), Seen::default());
    for (at, (database, kind, wanted)) in batches(promise).iter().enumerate() {
        let Some(Answer::Rows(table)) = objects.get(at) else {
            let place = database.unwrap_or(promise.database);
            present.refused(&format!("the catalogue of {place} ({})", kind.words()), objects.get(at));
            continue;
        };
        present.examined += wanted.len() as u64;
        present.more += table.total - table.rows.len() as u64;
        state.examined += wanted.iter().filter(|it| it.state.is_some()).count() as u64;
        owners.examined += wanted.iter().filter(|it| owner(promise, it).is_some()).count() as u64;
        for row in &table.rows {
            if let Some(object) = position(row, 0).and_then(|it| wanted.get(it)) {
                compare(promise, object, row, [&mut present, &mut state, &mut owners]);
            }
        }
    }
    for (at, (database, on, wanted)) in grant_batches(promise).iter().enumerate() {
        let Some(Answer::Rows(table)) = grants.get(at) else {
            let place = database.unwrap_or(promise.database);
            owners.refused(&format!("the privileges in {place}"), grants.get(at));
            continue;
        };
        owners.examined += wanted.len() as u64;
        owners.more += table.total - table.rows.len() as u64;
        for row in &table.rows {
            if let Some(grant) = position(row, 0).and_then(|it| wanted.get(it)) {
                // That a thing is missing is said once.
                let said = || promise.makes(*database, (&grant.schema, &grant.name), &RELATIONS);
                if cell(row, 1).is_none() && (*on == GrantOn::LargeObject || said()) {
                    owners.examined -= 1;
                    continue;
                }
                owners.deviations.push(grant_deviation(*on, grant, cell(row, 1)));
            }
        }
    }
    if promise.promised.unlisted > 0 {
        present.unknown.push(format!("{} more objects than are kept were not looked for", promise.promised.unlisted));
    }
    (present, state, owners)
}

fn compare(promise: &Promise<'_>, object: &Object, row: &[Option<String>], [present, state, owners]: [&mut Seen; 3]) {
    let words = object.words();
    let of = promise.promised.objects.iter().all(|it| it.database == object.database);
    let place =
        if of { String::new() } else { format!(" in {}", object.database.as_deref().unwrap_or(promise.database)) };
    let deviation =
        |text: String| Deviation { object: words.clone(), name: object.name.clone(), text: format!("{text}{place}") };
    if cell(row, 1) != Some("t") {
        if object.kind == Kind::Tablespace {
            // That the table is missing is said of the table.
            return;
        }
        return present.deviations.push(deviation(format!("missing: {words}")));
    }
    if object.comment && cell(row, 4) != Some("t") {
        present.deviations.push(deviation(format!("missing: comment on {words}")));
    }
    if object.label && cell(row, 5) != Some("t") {
        present.deviations.push(deviation(format!("missing: security label on {words}")));
    }
    if let Some(wanted) = owner(promise, object)
        && let Some(found) = cell(row, 2).filter(|it| *it != wanted)
    {
        owners.deviations.push(deviation(format!("{words} belongs to {found}, in the dump to {wanted}")));
    }
    if let Some(wanted) = object.state.as_deref()
        && let found = cell(row, 3).unwrap_or_default()
        && found != wanted
    {
        let (found, wanted) = (state_words(object.kind, found), state_words(object.kind, wanted));
        state.deviations.push(deviation(format!("{words} is {found}, in the dump {wanted}")));
    }
}

fn state_words(kind: Kind, state: &str) -> String {
    match (kind, state) {
        (Kind::Trigger | Kind::Rule | Kind::EventTrigger, "O") => "enabled".to_owned(),
        (Kind::Trigger | Kind::Rule | Kind::EventTrigger, "D") => "disabled".to_owned(),
        (Kind::Trigger | Kind::Rule | Kind::EventTrigger, "R") => "enabled for replicas".to_owned(),
        (Kind::Trigger | Kind::Rule | Kind::EventTrigger, "A") => "always enabled".to_owned(),
        (Kind::Type, labels) => format!("of {}", labels.replace('\n', ", ")),
        (_, state) => state.to_owned(),
    }
}

fn grant_deviation(on: GrantOn, grant: &Grant, has: Option<&str>) -> Deviation {
    let role = if grant.role.is_empty() { "PUBLIC" } else { &grant.role };
    let object = grant_object(on, grant);
    let text = match has {
        None => format!("{object} is not there, for the privileges of {role}"),
        Some(has) => {
            let set = |it: Vec<String>| if it.is_empty() { "none".to_owned() } else { it.join(", ") };
            let mark = |it: &String| if grant.grantable.contains(it) { format!("{it}*") } else { it.clone() };
            let wanted = set(grant.granted.iter().map(mark).collect());
            let has = if has.is_empty() { "none" } else { has };
            format!("privileges of {role} on {object}: {has}; in the dump: {wanted}")
        }
    };
    Deviation { object, name: grant.name.clone(), text }
}

fn grant_object(on: GrantOn, grant: &Grant) -> String {
    let Grant { schema, name, of, .. } = grant;
    match on {
        GrantOn::Table => format!("table {schema}.{name}"),
        GrantOn::Sequence => format!("sequence {schema}.{name}"),
        GrantOn::Column => format!("column {schema}.{name}.{of}"),
        GrantOn::Schema => format!("schema {name}"),
        GrantOn::Function => format!("function {schema}.{name}{of}"),
        GrantOn::Type => format!("type {schema}.{name}"),
        GrantOn::Language => format!("language {name}"),
        GrantOn::ForeignDataWrapper => format!("foreign-data wrapper {name}"),
        GrantOn::Server => format!("server {name}"),
        GrantOn::LargeObject => format!("large object {name}"),
        GrantOn::Default if schema.is_empty() => format!("future {of} of {name}"),
        GrantOn::Default => format!("future {of} of {name} in {schema}"),
    }
}
