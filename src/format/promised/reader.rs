//! From statements to promises.
//!
//! Not a parser of SQL: it takes what it knows from the start of a statement and from a few clauses, and leaves the rest. A
//! statement that it does not know promises nothing.

use std::collections::HashMap;

use super::super::sql::{self, Token, find, words};
use super::{Kind, LIMIT, Object, Position, Promised};

mod grants;

/// Where a statement is run.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Place<'a> {
    /// None where the dump has one database.
    pub(in super::super) database: Option<&'a str>,
    /// What a name without a schema means.
    pub(in super::super) schema: &'a str,
    /// What it makes lies there; empty: in the database's own.
    pub(in super::super) tablespace: &'a str,
}

/// What the table of contents, or `pg_dump`'s comment in a text, says of the statements that follow.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Heading {
    /// `TABLE`, `FUNCTION` …
    pub(in super::super) desc: String,
    /// `orders`, `total(integer)`, `orders orders_pkey` …
    pub(in super::super) tag: String,
    /// Empty, or `-`, where owners are not carried.
    pub(in super::super) owner: String,
}

/// Kinds of entries that promise nothing that is looked for here: settings, data, and the database itself.
const SILENT: [&str; 13] = [
    "ENCODING",
    "STDSTRINGS",
    "SEARCHPATH",
    "DATABASE",
    "DATABASE PROPERTIES",
    "TABLE DATA",
    "MATERIALIZED VIEW DATA",
    "SEQUENCE SET",
    "BLOBS",
    "BLOB",
    "BLOB METADATA",
    "STATISTICS DATA",
    "SHELL TYPE",
];

/// Kinds that have an owner.
const OWNED: [Kind; 22] = [
    Kind::Schema,
    Kind::Language,
    Kind::Type,
    Kind::Domain,
    Kind::Function,
    Kind::Operator,
    Kind::OperatorClass,
    Kind::OperatorFamily,
    Kind::Collation,
    Kind::Conversion,
    Kind::TextSearchConfiguration,
    Kind::TextSearchDictionary,
    Kind::ForeignDataWrapper,
    Kind::Server,
    Kind::Table,
    Kind::ForeignTable,
    Kind::View,
    Kind::MaterializedView,
    Kind::Sequence,
    Kind::Statistics,
    Kind::EventTrigger,
    Kind::Publication,
];

const RELATIONS: [Kind; 5] = [Kind::Table, Kind::View, Kind::MaterializedView, Kind::Sequence, Kind::ForeignTable];

type Key = (Kind, Option<String>, String, String, String);

/// Takes statements in their order.
#[derive(Default)]
pub(in super::super) struct Reader {
    promised: Promised,
    /// Where an object stands in `promised.objects`.
    index: HashMap<Key, usize>,
    gone: Vec<usize>,
    grants: HashMap<grants::Key, usize>,
    positions: HashMap<(Option<String>, String, String), usize>,
    /// Argument lists of functions, by name.
    functions: HashMap<(Option<String>, String, String), Vec<String>>,
    heading: Option<Heading>,
    understood: bool,
}

impl Reader {
    /// Begins a new entry.
    pub(in super::super) fn heading(&mut self, heading: Heading) {
        self.end_heading();
        if matches!(heading.desc.as_str(), "BLOB") {
            self.large_objects(&heading.owner, 1);
        }
        self.heading = Some(heading);
        self.understood = false;
    }

    /// Large objects whose owner an entry names.
    pub(in super::super) fn large_objects(&mut self, owner: &str, count: u64) {
        *self.promised.large_objects.entry(named(owner).unwrap_or_default()).or_default() += count;
    }

    pub(in super::super) fn finish(mut self) -> Promised {
        self.end_heading();
        let mut promised = self.promised;
        self.gone.sort_unstable();
        let mut at = 0;
        promised.objects.retain(|_| {
            at += 1;
            self.gone.binary_search(&(at - 1)).is_err()
        });
        promised
    }

    fn end_heading(&mut self) {
        let Some(heading) = self.heading.take() else { return };
        if !self.understood && !SILENT.contains(&heading.desc.as_str()) {
            *self.promised.unexamined.entry(heading.desc).or_default() += 1;
        }
    }

    pub(in super::super) fn statement(&mut self, tokens: &[Token], place: Place<'_>) {
        let Some(Token::Word(first)) = tokens.first() else { return };
        let rest = &tokens[1..];
        match first.as_str() {
            "create" => self.create(rest, place),
            "alter" => self.alter(rest, place),
            "comment" if words(rest, &["on"]) => self.marked(&rest[1..], place, Mark::Comment),
            "security" if words(rest, &["label"]) => {
                if let Some(on) = find(rest, &["on"]) {
                    self.marked(&rest[on + 1..], place, Mark::Label);
                }
            }
            "grant" | "revoke" => self.grant(tokens, place, None),
            "select" => self.select(rest, place),
            "refresh" if words(rest, &["materialized", "view"]) => self.refresh(&rest[2..], place),
            "drop" => self.dropped(rest, place),
            "delete" | "truncate" | "merge" | "do" | "call" | "execute" | "rollback" => {
                self.promised.other_writes = true;
            }
            "update" if !words(rest, &["pg_catalog"]) => self.promised.other_writes = true,
            _ => {}
        }
    }

    /// An object, which is promised from now on. None where there are too many.
    fn promise(&mut self, place: Place<'_>, kind: Kind, (schema, name, of): (&str, &str, &str)) -> Option<&mut Object> {
        self.understood = true;
        let key = key(place, kind, schema, name, of);
        let at = match self.index.get(&key) {
            Some(at) => *at,
            None if self.promised.objects.len() >= LIMIT => {
                self.promised.unlisted += 1;
                return None;
            }
            None => {
                self.promised.objects.push(Object {
                    kind,
                    database: place.database.map(str::to_owned),
                    schema: schema.to_owned(),
                    name: name.to_owned(),
                    of: of.to_owned(),
                    owner: None,
                    state: None,
                    comment: false,
                    label: false,
                });
                self.index.insert(key, self.promised.objects.len() - 1);
                self.promised.objects.len() - 1
            }
        };
        self.promised.objects.get_mut(at)
    }

    fn promised(
        &mut self,
        place: Place<'_>,
        kind: Kind,
        (schema, name, of): (&str, &str, &str),
    ) -> Option<&mut Object> {
        let at = self.index.get(&key(place, kind, schema, name, of))?;
        self.promised.objects.get_mut(*at)
    }

    /// An object that a CREATE statement makes: the heading's owner is its owner.
    fn made(&mut self, place: Place<'_>, kind: Kind, names: (&str, &str, &str), state: Option<&str>) {
        let stored = matches!(kind, Kind::Table | Kind::MaterializedView | Kind::Index);
        if stored
            && sql::is_own_tablespace(place.tablespace)
            && let Some(object) = self.promise(place, Kind::Tablespace, (names.0, names.1, ""))
        {
            object.state = Some(place.tablespace.to_owned());
        }
        let owner = self.heading.as_ref().and_then(|it| named(&it.owner)).filter(|_| OWNED.contains(&kind));
        if let Some(object) = self.promise(place, kind, names) {
            object.owner = owner.or(object.owner.take());
            object.state = state.map(str::to_owned);
        }
    }

    fn create(&mut self, tokens: &[Token], place: Place<'_>) {
        let tokens = after(tokens, &["or", "replace"]);
        let Some((kind, rest)) = kind_of(tokens) else { return };
        let rest = after(rest, &["if", "not", "exists"]);
        match kind {
            Word::Simple(kind) => self.create_named(kind, rest, place),
            Word::Table => {
                let state = if is_unlogged(tokens) { "unlogged" } else { "permanent" };
                self.create_table(rest, place, Kind::Table, state);
            }
            Word::ForeignTable => self.create_table(rest, place, Kind::ForeignTable, ""),
            Word::Index => self.create_index(rest, place),
            Word::Function => self.create_function(rest, place),
            Word::Part(kind) => self.create_part(kind, rest, place),
            Word::Cast => self.create_by_tag(("CAST", Kind::Cast), rest, place),
            Word::Transform => self.create_by_tag(("TRANSFORM", Kind::Transform), rest, place),
            Word::Operator => {
                let name = self.heading.as_ref().filter(|it| it.desc == "OPERATOR").map(|it| it.tag.clone());
                let schema = if rest.get(1).is_some_and(|it| it.is_mark('.')) { rest[0].text() } else { None };
                if let Some(name) = name {
                    let schema = schema.unwrap_or(place.schema).to_owned();
                    self.made(place, Kind::Operator, (&schema, &name, ""), None);
                }
            }
            Word::UserMapping => {
                let server = find(rest, &["server"]).and_then(|at| rest.get(at + 1)).and_then(Token::text);
                let role = rest.get(usize::from(words(rest, &["for"]))).and_then(Token::text);
                if let (Some(role), Some(server)) = (role, server) {
                    self.made(place, Kind::UserMapping, ("", role, server), None);
                }
            }
            Word::Schema => {
                let name = if words(rest, &["authorization"]) { rest.get(1) } else { rest.first() };
                if let Some(name) = name.and_then(Token::text) {
                    self.made(place, Kind::Schema, ("", name, ""), None);
                }
            }
        }
    }

    /// Objects that need no more than their name.
    fn create_named(&mut self, kind: Kind, rest: &[Token], place: Place<'_>) {
        let Some((schema, name, used)) = sql::relation(rest) else { return };
        let schema =
            if lies_in_schema(kind) { schema.unwrap_or_else(|| place.schema.to_owned()) } else { String::new() };
        let state = if kind == Kind::EventTrigger { Some("O".to_owned()) } else { None };
        let state = if kind == Kind::Type { enum_labels(&rest[used..]) } else { state };
        self.made(place, kind, (&schema, &name, ""), state.as_deref());
        if kind == Kind::Domain {
            for (name, not_valid) in constraints(&rest[used..], true) {
                self.made(place, Kind::Constraint, (&schema, &name, &name_of(rest)), valid(not_valid));
            }
        }
        if kind == Kind::Publication {
            self.publish(&name, &rest[used..], place);
        }
    }

    fn create_table(&mut self, rest: &[Token], place: Place<'_>, kind: Kind, state: &str) {
        let Some((schema, name, used)) = sql::relation(rest) else { return };
        let schema = schema.unwrap_or_else(|| place.schema.to_owned());
        self.made(place, kind, (&schema, &name, ""), Some(state).filter(|it| !it.is_empty()));
        let rest = &rest[used..];
        for (constraint, not_valid) in constraints(rest, false) {
            self.made(place, Kind::Constraint, (&schema, &constraint, &name), valid(not_valid));
        }
        if let Some(parent) = words(rest, &["partition", "of"]).then(|| sql::relation(&rest[2..])).flatten() {
            self.inherit(place, (&schema, &name), &parent);
        }
        if let Some(at) = find(rest, &["inherits"]) {
            for parent in list(inside(&rest[at + 1..])) {
                if let Some(parent) = sql::relation(parent) {
                    self.inherit(place, (&schema, &name), &parent);
                }
            }
        }
    }

    fn inherit(&mut self, place: Place<'_>, (schema, name): (&str, &str), parent: &(Option<String>, String, usize)) {
        let parent = format!("{}.{}", parent.0.as_deref().unwrap_or(place.schema), parent.1);
        self.made(place, Kind::Inheritance, (schema, name, &parent), None);
    }

    fn create_index(&mut self, rest: &[Token], place: Place<'_>) {
        let rest = after(rest, &["concurrently"]);
        let rest = after(rest, &["if", "not", "exists"]);
        let Some(Token::Word(name) | Token::Name(name)) = rest.first() else { return };
        if !rest.get(1).is_some_and(|it| it.is("on")) {
            return;
        }
        let only = rest.get(2).is_some_and(|it| it.is("only"));
        let Some((schema, table, _)) = sql::relation(&rest[2 + usize::from(only)..]) else { return };
        let schema = schema.unwrap_or_else(|| place.schema.to_owned());
        // With ONLY it becomes valid when the indexes of all partitions are attached.
        self.made(place, Kind::Index, (&schema, name, &table), (!only).then_some("valid"));
    }

    /// Argument types stand in the heading: in the statement they are mixed with names, modes and defaults.
    fn create_function(&mut self, rest: &[Token], place: Place<'_>) {
        let Some((schema, name, _)) = sql::relation(rest) else { return };
        let schema = schema.unwrap_or_else(|| place.schema.to_owned());
        let arguments = self.heading.as_ref().and_then(|it| arguments(&it.tag, &name)).unwrap_or_default();
        let known =
            self.functions.entry((place.database.map(str::to_owned), schema.clone(), name.clone())).or_default();
        if !known.contains(&arguments) {
            known.push(arguments.clone());
        }
        self.made(place, Kind::Function, (&schema, &name, &arguments), None);
    }

    fn create_part(&mut self, kind: Kind, rest: &[Token], place: Place<'_>) {
        let Some(name) = rest.first().and_then(Token::text).map(str::to_owned) else { return };
        let word = if kind == Kind::Rule { "to" } else { "on" };
        let from = if kind == Kind::Rule { find(rest, &["as", "on"]).map_or(1, |at| at + 2) } else { 1 };
        let Some(at) = find(rest.get(from..).unwrap_or_default(), &[word]).map(|at| at + from) else { return };
        let table = &rest[at + 1..];
        let table = after(table, &["only"]);
        let Some((schema, table, _)) = sql::relation(table) else { return };
        let schema = schema.unwrap_or_else(|| place.schema.to_owned());
        if kind == Kind::Rule && name == "_RETURN" {
            // How old dumps make a view that something else needs first.
            let owner = self.promised(place, Kind::Table, (&schema, &table, "")).and_then(|it| it.owner.take());
            self.remove(place, Kind::Table, (&schema, &table, ""));
            if let Some(view) = self.promise(place, Kind::View, (&schema, &table, "")) {
                view.owner = owner;
            }
            return;
        }
        let state = matches!(kind, Kind::Trigger | Kind::Rule).then_some("O");
        self.made(place, kind, (&schema, &name, &table), state);
        if self.heading.is_none() && matches!(kind, Kind::Trigger | Kind::Rule) {
            self.promised.other_writes = true;
        }
    }

    /// What has no name: the heading has its types as the server writes them.
    fn create_by_tag(&mut self, (desc, kind): (&str, Kind), rest: &[Token], place: Place<'_>) {
        let tag = self.heading.as_ref().filter(|it| it.desc == desc).map(|it| it.tag.clone());
        if let Some(tag) = tag.filter(|_| !rest.is_empty()) {
            let name = tag.strip_prefix(desc).map_or(tag.as_str(), str::trim_start);
            self.made(place, kind, ("", name, ""), None);
        }
    }

    fn publish(&mut self, publication: &str, rest: &[Token], place: Place<'_>) {
        if let Some(at) = find(rest, &["tables", "in", "schema"]) {
            for schema in list(&rest[at + 3..]) {
                if let Some(schema) = schema.first().and_then(Token::text) {
                    self.made(place, Kind::PublicationSchema, ("", publication, schema), None);
                }
            }
        } else if let Some(at) = find(rest, &["table"]) {
            for table in list(&rest[at + 1..]) {
                if let Some((schema, table, _)) = sql::relation(after(table, &["only"])) {
                    let schema = schema.unwrap_or_else(|| place.schema.to_owned());
                    self.made(place, Kind::PublicationTable, (&schema, publication, &table), None);
                }
            }
        }
    }

    fn alter(&mut self, tokens: &[Token], place: Place<'_>) {
        if words(tokens, &["default", "privileges"]) {
            return self.default_privileges(&tokens[2..], place);
        }
        let Some((kind, rest)) = kind_of(tokens) else { return };
        let rest = after(after(rest, &["if", "exists"]), &["only"]);
        let Some((schema, name, used)) = sql::relation(rest) else { return };
        let schema = schema.unwrap_or_else(|| place.schema.to_owned());
        let actions = rest.get(used..).unwrap_or_default();
        // A table of old dumps may be a view or a sequence.
        match kind {
            Word::Table | Word::ForeignTable => self.alter_table(actions, place, (&schema, &name)),
            Word::Simple(Kind::View | Kind::MaterializedView | Kind::Sequence) => {
                self.alter_table(actions, place, (&schema, &name));
            }
            Word::Index if words(actions, &["attach", "partition"]) => {
                self.attach(&actions[2..], place, (&schema, &name));
            }
            Word::Index => self.understood = true,
            Word::Simple(Kind::EventTrigger) => {
                let state = enabled(actions);
                if let (Some(state), Some(object)) = (state, self.promised(place, Kind::EventTrigger, ("", &name, "")))
                {
                    object.state = Some(state.to_owned());
                }
            }
            Word::Simple(Kind::Publication) if words(actions, &["add"]) => self.publish(&name, &actions[1..], place),
            Word::Simple(Kind::Type) if words(actions, &["add", "value"]) => {
                if let Some(object) = self.promised(place, Kind::Type, (&schema, &name, "")) {
                    object.state = None;
                }
            }
            Word::Simple(kind @ (Kind::Type | Kind::Domain)) => {
                self.owner(actions, place, &[kind], (&schema, &name));
                for (constraint, not_valid) in constraints(actions, true) {
                    self.made(place, Kind::Constraint, (&schema, &constraint, &name), valid(not_valid));
                }
            }
            Word::Schema => self.owner(actions, place, &[Kind::Schema], ("", &name)),
            Word::Simple(_)
            | Word::Function
            | Word::Part(_)
            | Word::Cast
            | Word::Transform
            | Word::Operator
            | Word::UserMapping => {}
        }
    }

    fn owner(&mut self, actions: &[Token], place: Place<'_>, kinds: &[Kind], (schema, name): (&str, &str)) {
        let Some(owner) = words(actions, &["owner", "to"]).then(|| actions.get(2)).flatten().and_then(role_name) else {
            return;
        };
        self.understood = true;
        for kind in kinds {
            if let Some(object) = self.promised(place, *kind, (schema, name, "")) {
                object.owner = Some(owner);
                return;
            }
        }
    }

    fn attach(&mut self, child: &[Token], place: Place<'_>, (schema, name): (&str, &str)) {
        if let Some((own, child, _)) = sql::relation(child) {
            let own = own.unwrap_or_else(|| place.schema.to_owned());
            self.inherit(place, (&own, &child), &(Some(schema.to_owned()), name.to_owned(), 0));
        }
    }

    fn alter_table(&mut self, actions: &[Token], place: Place<'_>, (schema, table): (&str, &str)) {
        self.owner(actions, place, &RELATIONS, (schema, table));
        for action in list(actions) {
            self.table_action(action, place, (schema, table));
        }
    }

    fn table_action(&mut self, action: &[Token], place: Place<'_>, (schema, table): (&str, &str)) {
        let Some(Token::Word(first)) = action.first() else { return };
        let rest = &action[1..];
        match first.as_str() {
            "add" => {
                for (name, not_valid) in constraints(action, true) {
                    self.made(place, Kind::Constraint, (schema, &name, table), valid(not_valid));
                }
            }
            "alter" => self.alter_column(after(rest, &["column"]), place, (schema, table)),
            "attach" if words(rest, &["partition"]) => self.attach(&rest[1..], place, (schema, table)),
            "inherit" => {
                if let Some(parent) = sql::relation(rest) {
                    self.inherit(place, (schema, table), &parent);
                }
            }
            "enable" | "disable" => self.switch(action, place, (schema, table)),
            "force" if words(rest, &["row"]) => {
                self.made(place, Kind::RowSecurity, (schema, table, "forced"), None);
            }
            "drop" if words(rest, &["constraint"]) => {
                let name = after(&rest[1..], &["if", "exists"]).first().and_then(Token::text);
                if let Some(name) = name {
                    self.remove(place, Kind::Constraint, (schema, name, table));
                }
            }
            // Of a script kept by hand: what hung on the column or the name, nobody knows.
            "drop" | "rename" | "set" if first != "set" || words(rest, &["schema"]) => {
                self.remove_where(|it| {
                    it.schema == schema && (it.of == table || (first != "drop" && it.name == table))
                });
            }
            // Settings, clustering, replica identity: not looked for, and no objects.
            _ => self.understood = true,
        }
    }

    fn alter_column(&mut self, rest: &[Token], place: Place<'_>, (schema, table): (&str, &str)) {
        self.understood = true;
        let Some(column) = rest.first().and_then(Token::text) else { return };
        let action = &rest[1..];
        // A default of NULL is none.
        if words(action, &["set", "default"]) && !action.get(2).is_some_and(|it| it.is("null")) {
            self.made(place, Kind::Default, (schema, column, table), None);
        } else if words(action, &["drop", "default"]) {
            self.remove(place, Kind::Default, (schema, column, table));
        } else if words(action, &["add", "generated"]) {
            self.made(place, Kind::Identity, (schema, column, table), None);
            let options = inside(find(action, &["identity"]).map_or(&[], |at| &action[at + 1..]));
            let named = find(options, &["sequence", "name"]).and_then(|at| sql::relation(&options[at + 2..]));
            if let Some((own, name, _)) = named {
                self.made(place, Kind::Sequence, (&own.unwrap_or_else(|| schema.to_owned()), &name, ""), None);
            }
        }
    }

    /// `ENABLE [REPLICA | ALWAYS] TRIGGER name`, the same for rules; `ENABLE ROW LEVEL SECURITY`.
    fn switch(&mut self, action: &[Token], place: Place<'_>, (schema, table): (&str, &str)) {
        if words(&action[1..], &["row", "level", "security"]) {
            if action[0].is("enable") {
                self.made(place, Kind::RowSecurity, (schema, table, "enabled"), None);
            }
            return;
        }
        let Some(at) = action.iter().position(|it| it.is("trigger") || it.is("rule")) else { return };
        let (Some(name), Some(state)) = (action.get(at + 1), enabled(action)) else { return };
        // For the time of loading data: all are as they were afterwards.
        if name.is("all") || name.is("user") {
            return;
        }
        let kind = if action[at].is("rule") { Kind::Rule } else { Kind::Trigger };
        if let Some(name) = name.text() {
            self.made(place, kind, (schema, name, table), Some(state));
        }
    }

    fn refresh(&mut self, rest: &[Token], place: Place<'_>) {
        let Some((schema, name, _)) = sql::relation(after(rest, &["concurrently"])) else { return };
        let schema = schema.unwrap_or_else(|| place.schema.to_owned());
        let state = if find(rest, &["no", "data"]).is_some() { None } else { Some("populated".to_owned()) };
        if let Some(view) = self.promise(place, Kind::MaterializedView, (&schema, &name, "")) {
            view.state = state;
        }
    }

    /// `setval('name', 5, true)`. Anything else that a script selects from functions may write.
    fn select(&mut self, tokens: &[Token], place: Place<'_>) {
        let own = words(tokens, &["pg_catalog"]);
        let call = if own { tokens.get(2..).unwrap_or_default() } else { tokens };
        match call {
            [setval, open, Token::Text(name), comma, rest @ ..]
                if setval.is("setval") && open.is_mark('(') && comma.is_mark(',') =>
            {
                self.position(name, rest, place);
            }
            [Token::Word(name), open, ..] if open.is_mark('(') => {
                let harmless = own || name == "set_config" || name == "setval" || name.starts_with("lo_");
                self.promised.other_writes |= !harmless;
            }
            _ => self.promised.other_writes |= tokens.iter().any(|it| it.is_mark('(')) && !own,
        }
    }

    fn position(&mut self, name: &str, rest: &[Token], place: Place<'_>) {
        let (negative, rest) = match rest {
            [minus, rest @ ..] if minus.is_mark('-') => (true, rest),
            rest => (false, rest),
        };
        let Some(Token::Word(number)) = rest.first() else { return };
        let number = if negative { format!("-{number}") } else { number.clone() };
        let is_called = match &rest[1..] {
            [close, ..] if close.is_mark(')') => true,
            [comma, called, close, ..] if comma.is_mark(',') && close.is_mark(')') => called.is("true"),
            _ => return,
        };
        let (Ok(last_value), Some((schema, name, _))) = (number.parse(), sql::relation(&sql::tokens(name))) else {
            return;
        };
        let schema = schema.unwrap_or_else(|| place.schema.to_owned());
        let position = Position { database: place.database.map(str::to_owned), schema, name, last_value, is_called };
        let key = (position.database.clone(), position.schema.clone(), position.name.clone());
        match self.positions.get(&key) {
            Some(at) => self.promised.sequences[*at] = position,
            None if self.promised.sequences.len() >= LIMIT => self.promised.unlisted += 1,
            None => {
                self.positions.insert(key, self.promised.sequences.len());
                self.promised.sequences.push(position);
            }
        }
    }

    /// `COMMENT ON …` and `SECURITY LABEL … ON …`, from there on.
    fn marked(&mut self, tokens: &[Token], place: Place<'_>, mark: Mark) {
        let Some(is) = find(tokens, &["is"]) else { return };
        let how = (mark, tokens.get(is + 1).is_some_and(|it| it.is("null")));
        let tokens = &tokens[..is];
        if words(tokens, &["column"]) {
            let Some((mut parts, _)) = sql::name(&tokens[1..]) else { return };
            let (Some(column), Some(table)) = (parts.pop(), parts.pop()) else { return };
            let schema = parts.pop().unwrap_or_else(|| place.schema.to_owned());
            return self.mark(place, Kind::Column, (&schema, &column, &table), how);
        }
        let Some((kind, rest)) = kind_of(tokens).or_else(|| constraint(tokens)) else { return };
        match kind {
            Word::Part(kind) => {
                let name = rest.first().and_then(Token::text);
                let table = find(rest, &["on"]).map(|at| after(&rest[at + 1..], &["domain"])).and_then(sql::relation);
                let (Some(name), Some((schema, table, _))) = (name, table) else { return };
                let schema = schema.unwrap_or_else(|| place.schema.to_owned());
                self.mark(place, kind, (&schema, name, &table), how);
            }
            Word::Function => {
                let Some((schema, name, _)) = sql::relation(rest) else { return };
                let schema = schema.unwrap_or_else(|| place.schema.to_owned());
                let tag = self.heading.as_ref().map(|it| it.tag.clone()).unwrap_or_default();
                let tag = tag.split_once(' ').map_or("", |it| it.1);
                let Some(mut arguments) = arguments(tag, &name) else { return };
                // Here arguments have names. Of an overloaded function they are looked for as they are.
                let known = (place.database.map(str::to_owned), schema.clone(), name.clone());
                if let Some([only]) = self.functions.get(&known).map(Vec::as_slice) {
                    arguments.clone_from(only);
                }
                self.mark(place, Kind::Function, (&schema, &name, &arguments), how);
            }
            Word::Table => self.mark_on(place, &[Kind::Table, Kind::View], rest, how),
            Word::ForeignTable => self.mark_on(place, &[Kind::ForeignTable], rest, how),
            Word::Index => self.mark_on(place, &[Kind::Index], rest, how),
            Word::Simple(Kind::Type) => self.mark_on(place, &[Kind::Type, Kind::Domain], rest, how),
            Word::Simple(kind) => self.mark_on(place, &[kind], rest, how),
            Word::Schema => self.mark_on(place, &[Kind::Schema], rest, how),
            Word::Cast | Word::Transform | Word::Operator | Word::UserMapping => {}
        }
    }

    /// The first of these kinds that is promised has it.
    fn mark_on(&mut self, place: Place<'_>, kinds: &[Kind], rest: &[Token], how: (Mark, bool)) {
        let Some((schema, name, _)) = sql::relation(rest) else { return };
        let schema = schema.unwrap_or_else(|| place.schema.to_owned());
        let schema = |kind| if lies_in_schema(kind) { schema.clone() } else { String::new() };
        let known = kinds.iter().find(|it| self.promised(place, **it, (&schema(**it), &name, "")).is_some());
        if let Some(kind) = known.or(kinds.first()) {
            self.mark(place, *kind, (&schema(*kind), &name, ""), how);
        }
    }

    fn mark(&mut self, place: Place<'_>, kind: Kind, names: (&str, &str, &str), how: (Mark, bool)) {
        let (mark, removes) = how;
        if removes {
            self.understood = true;
        } else if let Some(object) = self.promise(place, kind, names) {
            match mark {
                Mark::Comment => object.comment = true,
                Mark::Label => object.label = true,
            }
        }
    }

    /// Of scripts kept by hand, and of what `--clean` drops before it makes it.
    fn dropped(&mut self, tokens: &[Token], place: Place<'_>) {
        if self.promised.objects.is_empty() {
            return;
        }
        let Some((kind, rest)) = kind_of(tokens).or_else(|| constraint(tokens)) else { return };
        let rest = after(after(rest, &["concurrently"]), &["if", "exists"]);
        for names in list(rest) {
            let Some((schema, name, _)) = sql::relation(names) else { continue };
            let schema = schema.unwrap_or_else(|| place.schema.to_owned());
            let database = place.database;
            let here = |it: &Object| it.database.as_deref() == database;
            match kind {
                Word::Schema => self.remove_where(|it| here(it) && (it.schema == name || it.name == name)),
                Word::Part(kind) => {
                    let table = find(names, &["on"]).and_then(|at| sql::relation(&names[at + 1..]));
                    if let Some((_, table, _)) = table {
                        self.remove_where(|it| here(it) && it.kind == kind && it.name == name && it.of == table);
                    }
                }
                Word::Table | Word::ForeignTable | Word::Index | Word::Function | Word::Simple(_) => {
                    self.remove_where(|it| here(it) && it.schema == schema && (it.name == name || it.of == name));
                }
                Word::Cast | Word::Transform | Word::Operator | Word::UserMapping => {}
            }
        }
    }

    fn remove(&mut self, place: Place<'_>, kind: Kind, (schema, name, of): (&str, &str, &str)) {
        self.understood = true;
        self.gone.extend(self.index.remove(&key(place, kind, schema, name, of)));
    }

    fn remove_where(&mut self, is_gone: impl Fn(&Object) -> bool) {
        self.understood = true;
        let objects = &self.promised.objects;
        self.gone.extend(self.index.extract_if(|_, at| is_gone(&objects[*at])).map(|(_, at)| at));
    }
}

fn key(place: Place<'_>, kind: Kind, schema: &str, name: &str, of: &str) -> Key {
    // An index has its name to itself.
    let of = if kind == Kind::Index { "" } else { of };
    (kind, place.database.map(str::to_owned), schema.to_owned(), name.to_owned(), of.to_owned())
}

/// What statements beside an object say of it.
#[derive(Clone, Copy)]
enum Mark {
    Comment,
    Label,
}

/// What a statement is about.
#[derive(Clone, Copy)]
enum Word {
    Simple(Kind),
    Schema,
    Table,
    ForeignTable,
    Index,
    Function,
    /// Of a table: `name ON table`.
    Part(Kind),
    Cast,
    Transform,
    Operator,
    UserMapping,
}

/// The kind that a statement names after its verb, and what follows it. None for temporary things, and what is not known.
fn kind_of(tokens: &[Token]) -> Option<(Word, &[Token])> {
    const WORDS: [(&[&str], Word); 42] = [
        (&["schema"], Word::Schema),
        (&["table"], Word::Table),
        (&["unlogged", "table"], Word::Table),
        (&["foreign", "table"], Word::ForeignTable),
        (&["index"], Word::Index),
        (&["unique", "index"], Word::Index),
        (&["view"], Word::Simple(Kind::View)),
        (&["recursive", "view"], Word::Simple(Kind::View)),
        (&["materialized", "view"], Word::Simple(Kind::MaterializedView)),
        (&["sequence"], Word::Simple(Kind::Sequence)),
        (&["unlogged", "sequence"], Word::Simple(Kind::Sequence)),
        (&["function"], Word::Function),
        (&["procedure"], Word::Function),
        (&["aggregate"], Word::Function),
        (&["extension"], Word::Simple(Kind::Extension)),
        (&["type"], Word::Simple(Kind::Type)),
        (&["domain"], Word::Simple(Kind::Domain)),
        (&["cast"], Word::Cast),
        (&["transform"], Word::Transform),
        (&["operator", "class"], Word::Simple(Kind::OperatorClass)),
        (&["operator", "family"], Word::Simple(Kind::OperatorFamily)),
        (&["operator"], Word::Operator),
        (&["collation"], Word::Simple(Kind::Collation)),
        (&["conversion"], Word::Simple(Kind::Conversion)),
        (&["default", "conversion"], Word::Simple(Kind::Conversion)),
        (&["text", "search", "configuration"], Word::Simple(Kind::TextSearchConfiguration)),
        (&["text", "search", "dictionary"], Word::Simple(Kind::TextSearchDictionary)),
        (&["text", "search", "parser"], Word::Simple(Kind::TextSearchParser)),
        (&["text", "search", "template"], Word::Simple(Kind::TextSearchTemplate)),
        (&["foreign", "data", "wrapper"], Word::Simple(Kind::ForeignDataWrapper)),
        (&["server"], Word::Simple(Kind::Server)),
        (&["user", "mapping"], Word::UserMapping),
        (&["access", "method"], Word::Simple(Kind::AccessMethod)),
        (&["statistics"], Word::Simple(Kind::Statistics)),
        (&["trigger"], Word::Part(Kind::Trigger)),
        (&["constraint", "trigger"], Word::Part(Kind::Trigger)),
        (&["rule"], Word::Part(Kind::Rule)),
        (&["policy"], Word::Part(Kind::Policy)),
        (&["event", "trigger"], Word::Simple(Kind::EventTrigger)),
        (&["publication"], Word::Simple(Kind::Publication)),
        (&["subscription"], Word::Simple(Kind::Subscription)),
        (&["language"], Word::Simple(Kind::Language)),
    ];
    let tokens = after(after(tokens, &["trusted"]), &["procedural"]);
    WORDS.into_iter().find(|(it, _)| words(tokens, it)).map(|(it, word)| (word, &tokens[it.len()..]))
}

fn constraint(tokens: &[Token]) -> Option<(Word, &[Token])> {
    words(tokens, &["constraint"]).then(|| (Word::Part(Kind::Constraint), &tokens[1..]))
}

fn lies_in_schema(kind: Kind) -> bool {
    !matches!(
        kind,
        Kind::Schema
            | Kind::Extension
            | Kind::Language
            | Kind::AccessMethod
            | Kind::Cast
            | Kind::Transform
            | Kind::ForeignDataWrapper
            | Kind::Server
            | Kind::UserMapping
            | Kind::EventTrigger
            | Kind::Publication
            | Kind::Subscription
            | Kind::PublicationSchema
    )
}

fn after<'a>(tokens: &'a [Token], skip: &[&str]) -> &'a [Token] {
    if words(tokens, skip) { &tokens[skip.len()..] } else { tokens }
}

fn is_unlogged(tokens: &[Token]) -> bool {
    words(tokens, &["unlogged"])
}

fn name_of(rest: &[Token]) -> String {
    sql::relation(rest).map(|it| it.1).unwrap_or_default()
}

/// What is in the parentheses that open here.
fn inside(tokens: &[Token]) -> &[Token] {
    if !tokens.first().is_some_and(|it| it.is_mark('(')) {
        return &[];
    }
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Mark('(') => depth += 1,
            Token::Mark(')') if depth == 1 => return &tokens[1..at],
            Token::Mark(')') => depth -= 1,
            Token::Word(_) | Token::Name(_) | Token::Text(_) | Token::Mark(_) => {}
        }
    }
    &tokens[1..]
}

/// The parts between commas that stand outside of parentheses.
fn list(tokens: &[Token]) -> impl Iterator<Item = &[Token]> {
    let mut depth = 0_usize;
    tokens.split(move |it| {
        match it {
            Token::Mark('(' | '[') => depth += 1,
            Token::Mark(')' | ']') => depth = depth.saturating_sub(1),
            Token::Word(_) | Token::Name(_) | Token::Text(_) | Token::Mark(_) => {}
        }
        depth == 0 && it.is_mark(',')
    })
}

/// Named constraints, and whether each is NOT VALID: `bare`, of a domain or ALTER statement; else of a list of columns.
fn constraints(tokens: &[Token], bare: bool) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    let parts: Vec<&[Token]> = if bare {
        list(tokens).collect()
    } else {
        let open = tokens.iter().position(|it| it.is_mark('('));
        open.map(|at| list(inside(&tokens[at..])).collect()).unwrap_or_default()
    };
    for part in parts {
        let mut from = 0;
        while let Some(at) = find(&part[from..], &["constraint"]) {
            let at = from + at;
            // NOT NULL and DEFAULT make no object of it, or only in servers from 18 on.
            let kind = part.get(at + 2).and_then(Token::text);
            let makes = matches!(kind, Some("check" | "unique" | "primary" | "foreign" | "exclude" | "references"));
            if let Some(name) = part.get(at + 1).and_then(Token::text).filter(|_| makes) {
                let says = |words: &[&str]| find(&part[at..], words).is_some();
                found.push((name.to_owned(), says(&["not", "valid"]) || says(&["not", "enforced"])));
            }
            from = at + 1;
        }
    }
    found
}

fn valid(not_valid: bool) -> Option<&'static str> {
    (!not_valid).then_some("valid")
}

/// The state letter of `pg_trigger.tgenabled`.
fn enabled(action: &[Token]) -> Option<&'static str> {
    match (action.first()?, action.get(1)) {
        (first, _) if first.is("disable") => Some("D"),
        (first, Some(second)) if first.is("enable") && second.is("replica") => Some("R"),
        (first, Some(second)) if first.is("enable") && second.is("always") => Some("A"),
        (first, _) if first.is("enable") => Some("O"),
        _ => None,
    }
}

/// The labels of `AS ENUM (…)`, each on a line; None where it is none, or long.
fn enum_labels(rest: &[Token]) -> Option<String> {
    if !words(rest, &["as", "enum"]) {
        return None;
    }
    let labels: Vec<&str> = inside(&rest[2..]).iter().filter(|it| !it.is_mark(',')).filter_map(Token::text).collect();
    let text = labels.join("\n");
    (text.len() < 2000).then_some(text)
}

/// `(integer, text)` of a tag `name(integer, text)`; an aggregate's `(*)` is `()`.
fn arguments(tag: &str, name: &str) -> Option<String> {
    let rest =
        tag.strip_prefix(name).filter(|it| it.starts_with('(')).or_else(|| tag.rfind('(').map(|at| &tag[at..]))?;
    let rest = if rest == "(*)" { "()" } else { rest };
    rest.ends_with(')').then(|| rest.to_owned())
}

/// A role that a token names, unless it is a word for one.
fn role_name(token: &Token) -> Option<String> {
    match token {
        Token::Word(name) if matches!(name.as_str(), "current_user" | "session_user" | "current_role") => None,
        Token::Word(name) | Token::Name(name) => Some(name.clone()),
        Token::Text(_) | Token::Mark(_) => None,
    }
}

/// An owner in a heading; `-` where `pg_dump -O` left it out.
fn named(owner: &str) -> Option<String> {
    Some(owner.to_owned()).filter(|it| !matches!(it.as_str(), "" | "-"))
}
