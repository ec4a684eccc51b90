//! `exists`: schemas, relations, columns, indexes, functions, extensions and roles that must be there.
//!
//! The catalogues are asked, never the objects: no right on an object is needed to see that it exists. Works on
//! PostgreSQL 9.6 and later. Names are in SQL syntax (`shop.orders`, `shop."Order Lines"`), and are found by the search
//! path where no schema is given.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sql_text::{quote_ident, quote_literal, split_ident, split_ident_prefix};
use super::{Answer, Finding, Judged, Population, answered, unknown};

/// Objects asked for in one probe.
const PROBE_OBJECTS: usize = 500;
pub(super) const KEEP_ROWS: usize = PROBE_OBJECTS;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Exists {
    pub schemas: Vec<String>,
    /// Any relation with rows: tables, partitioned and foreign ones, views, materialized views.
    pub tables: Vec<String>,
    /// `schema.table.column`, or `table.column`.
    pub columns: Vec<String>,
    /// An index that is not valid is not there.
    pub indexes: Vec<String>,
    /// `schema.function(type, …)`, or without arguments for any function, procedure or aggregate of that name.
    pub functions: Vec<String>,
    /// By name, as it is (`uuid-ossp`), with the version that is needed, or None for any.
    pub extensions: BTreeMap<String, Option<String>>,
    /// A name in SQL syntax; what is none (`app-user`) is taken as it is.
    pub roles: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ObjectKind {
    Schema,
    Table,
    Column,
    Index,
    Function,
    Extension,
    Role,
}

impl ObjectKind {
    const ALL: [ObjectKind; 7] = [
        ObjectKind::Schema,
        ObjectKind::Table,
        ObjectKind::Column,
        ObjectKind::Index,
        ObjectKind::Function,
        ObjectKind::Extension,
        ObjectKind::Role,
    ];

    const fn noun(self, many: bool) -> &'static str {
        match (self, many) {
            (ObjectKind::Schema, false) => "schema",
            (ObjectKind::Schema, true) => "schemas",
            (ObjectKind::Table, false) => "table",
            (ObjectKind::Table, true) => "tables",
            (ObjectKind::Column, false) => "column",
            (ObjectKind::Column, true) => "columns",
            (ObjectKind::Index, false) => "index",
            (ObjectKind::Index, true) => "indexes",
            (ObjectKind::Function, false) => "function",
            (ObjectKind::Function, true) => "functions",
            (ObjectKind::Extension, false) => "extension",
            (ObjectKind::Extension, true) => "extensions",
            (ObjectKind::Role, false) => "role",
            (ObjectKind::Role, true) => "roles",
        }
    }
}

/// One object to look for.
struct Object<'a> {
    kind: ObjectKind,
    name: &'a str,
    /// Of an extension.
    version: Option<&'a str>,
    /// A scalar subquery that gives [`PRESENT`], NULL where it is absent, or what is wrong with it.
    state: String,
}

const PRESENT: &str = "present";

/// A probe of many objects, or of the one function whose argument types only the server can read.
enum Ask<'a> {
    Many(Vec<Object<'a>>),
    Function { name: &'a str, sql: String },
}

/// A name that nothing could have.
struct NotAName<'a>(ObjectKind, &'a str);

impl fmt::Display for NotAName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NotAName(kind, name) = self;
        let example = match kind {
            ObjectKind::Column => "shop.\"Order Lines\".id",
            ObjectKind::Function => "shop.total(integer)",
            ObjectKind::Schema | ObjectKind::Table | ObjectKind::Index | ObjectKind::Extension | ObjectKind::Role => {
                "shop.\"Order Lines\""
            }
        };
        write!(f, "{name} is not the name of a {} in SQL syntax, such as {example}", kind.noun(false))
    }
}

impl Exists {
    pub(super) fn sql_probes(&self, known: &[Answer]) -> Vec<String> {
        // What cannot be asked is said by `judge`.
        let asks = self.asks().unwrap_or_default();
        asks.iter().skip(known.len()).map(Ask::sql).collect()
    }

    pub(super) fn judge(&self, answers: &[Answer]) -> Judged {
        let asks = match self.asks() {
            Ok(asks) if asks.is_empty() => return unknown("no object is listed, so nothing was examined"),
            Ok(asks) => asks,
            Err(not_a_name) => return unknown(not_a_name.to_string()),
        };
        let mut absent: BTreeMap<ObjectKind, Vec<String>> = BTreeMap::new();
        let mut examined = 0;
        for (at, ask) in asks.iter().enumerate() {
            match ask.absent(answers.get(at)) {
                Ok(found) => found.into_iter().for_each(|(kind, what)| absent.entry(kind).or_default().push(what)),
                Err(judged) => return judged,
            }
            examined += ask.objects();
        }
        let population = Population { examined, of: "objects".to_owned() };
        let all = if examined == 1 { "1 object".to_owned() } else { format!("{examined} objects") };
        if absent.is_empty() {
            return Judged { finding: Finding::Held { observed: all }, population };
        }
        let list =
            |(kind, names): (&ObjectKind, &Vec<String>)| format!("{} {}", kind.noun(names.len() > 1), names.join(", "));
        let observed = format!("missing: {}", absent.iter().map(list).collect::<Vec<_>>().join("; "));
        Judged { finding: Finding::Broken { expected: all, observed }, population }
    }

    fn asks(&self) -> Result<Vec<Ask<'_>>, NotAName<'_>> {
        let mut objects = Vec::new();
        let mut functions = Vec::new();
        for kind in ObjectKind::ALL {
            match kind {
                ObjectKind::Schema => objects.extend(self.schemas.iter().map(|name| schema(name))),
                ObjectKind::Table => push(&mut objects, &self.tables, table)?,
                ObjectKind::Column => push(&mut objects, &self.columns, column)?,
                ObjectKind::Index => push(&mut objects, &self.indexes, index)?,
                ObjectKind::Function => {
                    for name in &self.functions {
                        match function(name).ok_or(NotAName(kind, name))? {
                            Function::AnyArguments(object) => objects.push(object),
                            Function::Exact(ask) => functions.push(ask),
                        }
                    }
                }
                ObjectKind::Extension => objects.extend(self.extensions.iter().map(extension)),
                ObjectKind::Role => objects.extend(self.roles.iter().map(|name| role(name))),
            }
        }
        let mut asks = Vec::new();
        while !objects.is_empty() {
            let rest = objects.split_off(objects.len().min(PROBE_OBJECTS));
            asks.push(Ask::Many(std::mem::replace(&mut objects, rest)));
        }
        asks.extend(functions);
        Ok(asks)
    }
}

impl Ask<'_> {
    fn objects(&self) -> u64 {
        match self {
            Ask::Many(objects) => objects.len() as u64,
            Ask::Function { .. } => 1,
        }
    }

    fn sql(&self) -> String {
        match self {
            Ask::Many(objects) => {
                let row = |(at, object): (usize, &Object)| format!("  ({at}, ({})::text)", object.state);
                let rows: Vec<_> = objects.iter().enumerate().map(row).collect();
                format!(
                    "select item, state from (values\n{}\n) as objects (item, state) order by item",
                    rows.join(",\n")
                )
            }
            Ask::Function { sql, .. } => sql.clone(),
        }
    }

    /// The objects that are missing, each with what is wrong about it.
    fn absent(&self, answer: Option<&Answer>) -> Result<Vec<(ObjectKind, String)>, Judged> {
        match self {
            Ask::Many(objects) => {
                let table = answered(answer)?;
                if table.rows.len() != objects.len() {
                    return Err(unknown(format!("{} answers for {} objects", table.rows.len(), objects.len())));
                }
                let states = table.rows.iter().map(|row| row.get(1).and_then(Option::as_deref));
                let absent = |(object, state): (&Object, _)| Some((object.kind, object.wrong(state)?));
                Ok(objects.iter().zip(states).filter_map(absent).collect())
            }
            Ask::Function { name, .. } => {
                let absent = |why: &str| Ok(vec![(ObjectKind::Function, format!("{name}{why}"))]);
                // Before 16, a type or schema that does not exist is an error and not a NULL.
                if let Some(Answer::Refused { sqlstate, message, .. }) = answer
                    && matches!(sqlstate.as_str(), "42704" | "3F000")
                {
                    return absent(&format!(" ({message})"));
                }
                match answered(answer)?.rows.first().and_then(|row| row.first()) {
                    Some(Some(_)) => Ok(Vec::new()),
                    Some(None) => absent(""),
                    None => Err(unknown(format!("no answer for the function {name}"))),
                }
            }
        }
    }
}

impl Object<'_> {
    /// How to name this object among those that are missing; None where it is as it should be.
    fn wrong(&self, state: Option<&str>) -> Option<String> {
        let name = self.name;
        match (state, self.version) {
            (None, None) => Some(name.to_owned()),
            (None, Some(version)) => Some(format!("{name} {version}")),
            (Some(found), Some(version)) => (found != version).then(|| format!("{name} {version} (it is {found})")),
            (Some(PRESENT), None) => None,
            (Some(what), None) => Some(format!("{name} ({what})")),
        }
    }
}

/// Adds an object for each name.
fn push<'a>(
    objects: &mut Vec<Object<'a>>,
    names: &'a [String],
    make: fn(&'a str) -> Result<Object<'a>, NotAName<'a>>,
) -> Result<(), NotAName<'a>> {
    for name in names {
        objects.push(make(name)?);
    }
    Ok(())
}

fn object(kind: ObjectKind, name: &str, state: String) -> Object<'_> {
    Object { kind, name, version: None, state }
}

fn schema(name: &str) -> Object<'_> {
    let found = format!("nspname = {}", name_literal(&single(name)));
    object(ObjectKind::Schema, name, format!("select '{PRESENT}' from pg_catalog.pg_namespace where {found}"))
}

fn role(name: &str) -> Object<'_> {
    let found = format!("rolname = {}", name_literal(&single(name)));
    object(ObjectKind::Role, name, format!("select '{PRESENT}' from pg_catalog.pg_roles where {found}"))
}

fn extension<'a>((name, version): (&'a String, &'a Option<String>)) -> Object<'a> {
    let bare = name.strip_prefix('"').and_then(|it| it.strip_suffix('"')).unwrap_or(name);
    let shown = if version.is_some() { "extversion".to_owned() } else { format!("'{PRESENT}'") };
    let found = format!("extname = {}", name_literal(bare));
    let state = format!("select {shown} from pg_catalog.pg_extension where {found}");
    Object { version: version.as_deref(), ..object(ObjectKind::Extension, name, state) }
}

fn table(name: &str) -> Result<Object<'_>, NotAName<'_>> {
    let parts = split_ident(name).filter(|it| it.len() <= 2).ok_or(NotAName(ObjectKind::Table, name))?;
    let state = format!(
        "select case when c.relkind in ('r','p','v','m','f') then '{PRESENT}' \
         else case c.relkind when 'S' then 'it is a sequence' when 'c' then 'it is a type' else 'it is an index' end end \
         from {}",
        relation(&parts)
    );
    Ok(object(ObjectKind::Table, name, state))
}

fn column(name: &str) -> Result<Object<'_>, NotAName<'_>> {
    let not_a_name = NotAName(ObjectKind::Column, name);
    let Some(mut parts) = split_ident(name).filter(|it| (2..=3).contains(&it.len())) else { return Err(not_a_name) };
    let Some(column) = parts.pop() else { return Err(not_a_name) };
    let state = format!(
        "select '{PRESENT}' from {} and exists (select 1 from pg_catalog.pg_attribute a where a.attrelid = c.oid \
         and a.attnum > 0 and not a.attisdropped and a.attname = {})",
        relation(&parts),
        name_literal(&column)
    );
    Ok(object(ObjectKind::Column, name, state))
}

fn index(name: &str) -> Result<Object<'_>, NotAName<'_>> {
    let parts = split_ident(name).filter(|it| it.len() <= 2).ok_or(NotAName(ObjectKind::Index, name))?;
    let state = format!(
        "select case when c.relkind not in ('i','I') then 'it is not an index' \
         when (select i.indisvalid from pg_catalog.pg_index i where i.indexrelid = c.oid) then '{PRESENT}' \
         else 'invalid' end from {}",
        relation(&parts)
    );
    Ok(object(ObjectKind::Index, name, state))
}

enum Function<'a> {
    AnyArguments(Object<'a>),
    Exact(Ask<'a>),
}

fn function(name: &str) -> Option<Function<'_>> {
    let (parts, rest) = split_ident_prefix(name).filter(|(parts, _)| parts.len() <= 2)?;
    if rest.is_empty() {
        let state = format!(
            "select '{PRESENT}' from pg_catalog.pg_proc p where {} limit 1",
            named(&parts, "p.proname", "p.pronamespace", "pg_catalog.pg_function_is_visible(p.oid)")
        );
        return Some(Function::AnyArguments(object(ObjectKind::Function, name, state)));
    }
    let arguments = rest.strip_prefix('(').and_then(|it| it.trim_end().strip_suffix(')'))?;
    let quoted: Vec<_> = parts.iter().map(|it| quote_ident(it)).collect();
    let signature = quote_literal(&format!("{}({arguments})", quoted.join(".")));
    let sql = format!("select pg_catalog.to_regprocedure({signature})::text");
    Some(Function::Exact(Ask::Function { name, sql }))
}

/// `pg_class c where …`: the one relation of that name.
fn relation(parts: &[String]) -> String {
    let found = named(parts, "c.relname", "c.relnamespace", "pg_catalog.pg_table_is_visible(c.oid)");
    format!("pg_catalog.pg_class c where {found}")
}

/// A condition: of that name, in the schema given or else visible.
fn named(parts: &[String], name: &str, namespace: &str, visible: &str) -> String {
    match parts {
        [schema, object] => format!(
            "{name} = {} and {namespace} = (select oid from pg_catalog.pg_namespace where nspname = {})",
            name_literal(object),
            name_literal(schema)
        ),
        _ => format!("{name} = {} and {visible}", name_literal(&parts.concat())),
    }
}

/// A literal of the type of catalogue names: cut to 63 bytes by the server, as all names are.
fn name_literal(name: &str) -> String {
    format!("{}::name", quote_literal(name))
}

/// The name of something that lies in no schema: what is not in SQL syntax is taken as it is.
fn single(name: &str) -> String {
    match split_ident(name).as_deref() {
        Some([part]) => part.clone(),
        Some(_) | None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Table;
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    fn some_of_each() -> Exists {
        Exists {
            schemas: names(&["shop"]),
            tables: names(&["shop.orders", "shop.\"Order Lines\""]),
            columns: names(&["shop.orders.id"]),
            indexes: names(&["orders_pkey"]),
            functions: names(&["shop.total", "shop.total(integer, text)"]),
            extensions: BTreeMap::from([
                ("postgis".to_owned(), Some("3.5.2".to_owned())),
                ("uuid-ossp".to_owned(), None),
            ]),
            roles: names(&["Reader", "app-user"]),
        }
    }

    fn states(states: &[Option<&str>]) -> Answer {
        let row = |(at, state): (usize, Option<&str>)| vec![Some(at.to_string()), state.map(str::to_owned)];
        Answer::Rows(Table {
            columns: names(&["item", "state"]),
            rows: states.iter().copied().enumerate().map(row).collect(),
            total: states.len() as u64,
        })
    }

    fn regprocedure(found: Option<&str>) -> Answer {
        let rows = vec![vec![found.map(str::to_owned)]];
        Answer::Rows(Table { columns: names(&["to_regprocedure"]), rows, total: 1 })
    }

    const ALL_THERE: [Option<&str>; 10] = [
        Some("present"),
        Some("present"),
        Some("present"),
        Some("present"),
        Some("present"),
        Some("present"),
        Some("3.5.2"),
        Some("present"),
        Some("present"),
        Some("present"),
    ];

    #[test]
    fn everything_is_asked_in_one_probe_but_signatures() {
        let exists = some_of_each();
        let probes = exists.sql_probes(&[]);
        assert_eq!(probes.len(), 2, "{probes:?}");
        for part in [
            "nspname = 'shop'::name",
            "c.relname = 'Order Lines'::name",
            "a.attname = 'id'::name",
            "pg_table_is_visible",
            "extname = 'uuid-ossp'::name",
            "rolname = 'reader'::name",
            "rolname = 'app-user'::name",
        ] {
            assert!(probes[0].contains(part), "{part} in {}", probes[0]);
        }
        assert_eq!(probes[1], r#"select pg_catalog.to_regprocedure('"shop"."total"(integer, text)')::text"#);
        assert_eq!(exists.sql_probes(&[states(&ALL_THERE)]), probes[1..]);
        assert!(exists.sql_probes(&[states(&ALL_THERE), regprocedure(None)]).is_empty());
    }

    #[test]
    fn names_cannot_break_out_of_their_literals() {
        let exists = Exists {
            tables: names(&[r#""a'; drop table t; --""#]),
            roles: names(&["x' or 'a' = 'a"]),
            ..Exists::default()
        };
        let probe = exists.sql_probes(&[]).concat();
        assert!(
            probe.contains("'a''; drop table t; --'::name") && probe.contains("'x'' or ''a'' = ''a'::name"),
            "{probe}"
        );
    }

    #[test]
    fn all_that_is_there_holds() {
        let judged = some_of_each().judge(&[states(&ALL_THERE), regprocedure(Some("shop.total(integer,text)"))]);
        assert_eq!(judged.finding, Finding::Held { observed: "11 objects".to_owned() });
        assert_eq!(judged.population, Population { examined: 11, of: "objects".to_owned() });
    }

    #[test]
    fn what_is_missing_is_listed_by_kind() {
        let mut seen = ALL_THERE;
        (seen[1], seen[2], seen[4], seen[6], seen[9]) =
            (None, Some("it is a sequence"), Some("invalid"), Some("3.4.0"), None);
        let judged = some_of_each().judge(&[states(&seen), regprocedure(None)]);
        let observed = "missing: tables shop.orders, shop.\"Order Lines\" (it is a sequence); index orders_pkey (invalid); \
                        function shop.total(integer, text); extension postgis 3.5.2 (it is 3.4.0); role app-user";
        let expected = "11 objects".to_owned();
        assert_eq!(judged.finding, Finding::Broken { expected, observed: observed.to_owned() });
    }

    #[test]
    fn a_signature_with_an_unknown_type_is_a_missing_function() {
        let exists = Exists { functions: names(&["f(nosuch)"]), ..Exists::default() };
        let refused = |sqlstate: &str| {
            let message = "type \"nosuch\" does not exist".to_owned();
            exists.judge(&[Answer::Refused { sqlstate: sqlstate.to_owned(), message, hint: None }]).finding
        };
        let observed = "missing: function f(nosuch) (type \"nosuch\" does not exist)".to_owned();
        assert_eq!(refused("42704"), Finding::Broken { expected: "1 object".to_owned(), observed });
        assert!(matches!(refused("42601"), Finding::Unknown { .. }));
    }

    #[test]
    fn what_cannot_be_asked_or_was_not_answered_is_unknown() {
        let tables = |list: &[&str]| Exists { tables: names(list), ..Exists::default() };
        for (exists, answers) in [
            (Exists::default(), vec![]),
            (tables(&["my-table"]), vec![states(&[Some("present")])]),
            (tables(&["a.b.c"]), vec![states(&[Some("present")])]),
            (Exists { columns: names(&["id"]), ..Exists::default() }, vec![states(&[Some("present")])]),
            (Exists { functions: names(&["f(int"]), ..Exists::default() }, vec![states(&[Some("present")])]),
            (tables(&["a"]), vec![]),
            (tables(&["a"]), vec![Answer::Silent { because: "connection lost".to_owned() }]),
            (tables(&["a", "b"]), vec![states(&[Some("present")])]),
        ] {
            let judged = exists.judge(&answers);
            assert!(matches!(judged.finding, Finding::Unknown { .. }), "{judged:?}");
            assert_eq!(judged.population.examined, 0);
        }
        assert!(tables(&["my-table"]).sql_probes(&[]).is_empty());
    }

    #[test]
    fn long_lists_are_asked_in_parts() {
        let exists = Exists { roles: (0..1201).map(|it| format!("r{it}")).collect(), ..Exists::default() };
        assert_eq!(exists.sql_probes(&[]).len(), 3);
        let part = |n: usize| states(&vec![Some("present"); n]);
        let judged = exists.judge(&[part(500), part(500), part(201)]);
        assert_eq!(judged.population.examined, 1201);
    }
}
