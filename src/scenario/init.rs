//! A first scenario for a backup that was looked at: complete, commented, and it runs as it is.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::paths;
use crate::format::{DumpFacts, DumpFormat, Table};

/// More tables than these are left for the reader to add.
const MAX_TABLES: usize = 50;
/// Row counts of the biggest tables.
const MAX_COUNTS: usize = 20;

/// What a first scenario is made from.
#[derive(Clone, Copy, Debug)]
pub struct Init<'a> {
    /// The backup, as the scenario is to name it: absolute, or relative to where the scenario will lie.
    pub path: &'a str,
    pub facts: &'a DumpFacts,
    /// Take the newest of these instead: a pattern (see [`super::suggest_pattern`]) and the names that match it now.
    pub pattern: Option<(&'a str, &'a [String])>,
}

/// The text of a scenario for this backup, with what its own table of contents promises as checks.
pub fn init(from: &Init<'_>) -> String {
    let mut out = String::new();
    head(&mut out, from);
    source(&mut out, from);
    out.push_str(OBJECTIVES);
    checks(&mut out, from.facts);
    out.push_str(WAIVERS);
    out
}

const OBJECTIVES: &str = "
    # What the drill must show. The time counts from making the server to its being ready again.
    # objectives:
    #   rto: 30m             # the longest that the recovery may take
    #   rto_overhead: 10m    # part of it that no drill measures: detection, decision, cut-over
    #   max_age: 26h         # how old the backup may be when the drill starts

    # When service counts as being back: this must give a true or non-zero value.
    # ready:
    #   sql: select true

    # The longest that a phase may take before the drill gives up.
    # budgets:
    #   restore: 1h
";

const WAIVERS: &str = "
    # Known defects that are accepted for a while; a check is named as above, or as the report calls it.
    # waivers:
    #   - check: objects exist
    #     reason: ticket 4711
    #     until: 2027-01-31
";

/// What a scenario's first lines say of its use.
pub const USE: &str = "#     pgdrill run THIS-FILE       runs it\n\
                       #     pgdrill plan THIS-FILE      says what it would do\n\
                       #     pgdrill schema              describes every key, for editors\n";

fn head(out: &mut String, from: &Init<'_>) {
    let DumpFacts { format, database, server_version, created, .. } = from.facts;
    let _ = write!(
        out,
        "# A drill for pgdrill: restores this backup into a throwaway PostgreSQL and looks whether all is there.\n#\n\
         {USE}#\n# Made from {}\n#   format {}",
        comment(from.path),
        format.name()
    );
    for (what, value) in [("database", database), ("from PostgreSQL", server_version), ("dumped at", created)] {
        if let Some(value) = value {
            let _ = write!(out, ", {what} {}", comment(value));
        }
    }
    let _ = write!(out, "\nversion: 1\n\ndrills:\n  - name: {}\n", yaml(&name(from)));
}

/// The database's name, or else the file's without its endings.
fn name(from: &Init<'_>) -> String {
    let file = from.path.trim_end_matches('/').rsplit('/').next().unwrap_or("");
    let stem = file.trim_start_matches('.').split('.').next().unwrap_or("");
    let name = from.facts.database.as_deref().unwrap_or(stem);
    let name: String = name.chars().filter(|it| !it.is_control()).collect();
    if name.trim().is_empty() { "backup".to_owned() } else { name.trim().to_owned() }
}

fn source(out: &mut String, from: &Init<'_>) {
    let is_cluster = match from.facts.format {
        DumpFormat::Custom | DumpFormat::Directory | DumpFormat::Tar | DumpFormat::Plain => false,
        DumpFormat::Cluster | DumpFormat::Globals => true,
    };
    let kind = if is_cluster { "pg_dumpall" } else { "pg_dump" };
    let _ = writeln!(out, "    source:\n      {kind}:");
    match from.pattern {
        None => {
            let _ = writeln!(out, "        path: {}", yaml(&paths::literal(from.path)));
        }
        Some((pattern, seen)) => {
            out.push_str("        # The name carries a date, so this is a pattern. It matches now:\n");
            for name in seen.iter().take(10) {
                let _ = writeln!(out, "        #   {}", comment(name));
            }
            if seen.len() > 10 {
                let _ = writeln!(out, "        #   and {} more", seen.len() - 10);
            }
            let _ = writeln!(out, "        path: {}", yaml(pattern));
            out.push_str("        pick: newest           # or oldest, random, all\n");
        }
    }
    out.push_str("        # timezone: Europe/Madrid   # of the machine that dumped: dumps do not record it, and max_age needs it\n");
    if !is_cluster {
        out.push_str(
            "        # globals: globals.sql      # from pg_dumpall -g: the roles, which a dump of one database lacks\n",
        );
    }
}

fn checks(out: &mut String, facts: &DumpFacts) {
    out.push_str("\n    # What must be true of the restored data.\n    checks:\n");
    let before = out.len();
    let mut by_database: BTreeMap<Option<&str>, Vec<&Table>> = BTreeMap::new();
    for table in &facts.contents.tables {
        by_database.entry(table.database.as_deref()).or_default().push(table);
    }
    for extension in &facts.contents.extensions {
        by_database.entry(extension.database.as_deref()).or_default();
    }
    cluster(out, facts);
    if !facts.format.is_archive() || by_database.is_empty() {
        by_database.entry(None).or_default();
    }
    let is_one = by_database.keys().flatten().next().is_none();
    for (database, tables) in &by_database {
        // The schemas of a cluster dump do not say which database they are in.
        let schemas: &[String] = if is_one && database.is_none() { &facts.contents.schemas } else { &[] };
        exists(out, facts, *database, schemas, tables);
    }
    let counted = counts(out, facts);
    if out.len() == before {
        out.push_str("      # The backup names no object, so this only asks whether the server answers.\n");
        out.push_str("      - query: { name: the server answers, sql: select 1, expect: 1 }\n");
    }
    examples(out, facts, counted);
}

/// What a dump of a whole cluster brings: databases and roles.
fn cluster(out: &mut String, facts: &DumpFacts) {
    for database in &facts.contents.databases {
        if matches!(facts.format, DumpFormat::Cluster) {
            let sql = format!("select count(*) from pg_database where datname = {}", quote_literal(database));
            let name = format!("the database {} is there", quote_ident(database));
            let _ = writeln!(
                out,
                "      - query:\n          name: {}\n          sql: {}",
                yaml(&one_line(&name)),
                yaml(&sql)
            );
            out.push_str("          expect: 1\n          database: postgres\n");
        }
    }
    if !facts.contents.roles_made.is_empty() {
        out.push_str("      - exists:\n          name: roles exist\n          database: postgres\n          roles:\n");
        list(out, facts.contents.roles_made.iter().map(|it| yaml(&quote_ident(it))));
    }
}

fn exists(out: &mut String, facts: &DumpFacts, database: Option<&str>, schemas: &[String], tables: &[&Table]) {
    let extensions = facts.contents.extensions.iter().filter(|it| it.database.as_deref() == database);
    let extensions: Vec<String> = extensions.map(|it| yaml(&it.name)).collect();
    if schemas.is_empty() && tables.is_empty() && extensions.is_empty() {
        return;
    }
    out.push_str("      - exists:\n");
    if let Some(database) = database {
        let name = one_line(&format!("objects exist in {}", quote_ident(database)));
        let _ = writeln!(out, "          name: {}\n          database: {}", yaml(&name), yaml(database));
    }
    if !schemas.is_empty() {
        out.push_str("          schemas:\n");
        list(out, schemas.iter().map(|it| yaml(&quote_ident(it))));
    }
    if !tables.is_empty() {
        out.push_str("          tables:\n");
        list(out, tables.iter().take(MAX_TABLES).map(|it| yaml(&sql_name(it))));
        if tables.len() > MAX_TABLES {
            let _ = writeln!(out, "            # and {} more", tables.len() - MAX_TABLES);
        }
    }
    if !extensions.is_empty() {
        out.push_str("          extensions:\n");
        list(out, extensions);
    }
}

/// Row counts that the dump's own text tells. Returns whether there are any.
fn counts(out: &mut String, facts: &DumpFacts) -> bool {
    let mut counted: Vec<(u64, &Table)> = facts.contents.tables.iter().filter_map(|it| Some((it.rows?, it))).collect();
    counted.sort_by(|(left, a), (right, b)| right.cmp(left).then_with(|| a.cmp(b)));
    if counted.is_empty() {
        return false;
    }
    // A dump holds a table's own rows, without those of tables that inherit from it. But with --load-via-partition-root the
    // rows of partitions are written under the root's name: then there is data of more tables than were counted.
    let entries = facts.contents.entries.get("TABLE DATA").copied().unwrap_or(0);
    let only = if entries > counted.len() as u64 { "" } else { "only " };
    out.push_str("      # As many rows as the dump holds.");
    out.push_str(if only.is_empty() { "\n" } else { " `only`: without tables that inherit from it.\n" });
    for (rows, table) in counted.iter().take(MAX_COUNTS) {
        let _ = write!(out, "      - rows: {{ table: {}", yaml(&format!("{only}{}", sql_name(table))));
        if let Some(database) = &table.database {
            let _ = write!(out, ", database: {}", yaml(database));
        }
        let _ = writeln!(out, ", equals: {rows} }}");
    }
    if counted.len() > MAX_COUNTS {
        let _ = writeln!(out, "      # and {} smaller tables more", counted.len() - MAX_COUNTS);
    }
    true
}

fn examples(out: &mut String, facts: &DumpFacts, counted: bool) {
    let table = facts.contents.tables.first().map_or_else(|| "shop.orders".to_owned(), sql_name);
    if !counted {
        let _ = writeln!(out, "      # - rows: {{ table: {}, min: 1 }}", comment(&yaml(&table)));
    }
    let sql = yaml(&format!("select count(*) from {table}"));
    let _ = writeln!(
        out,
        "      # - query:\n      #     name: totals add up\n      #     sql: {}\n      #     expect: {{ \">\": 0 }}\n\
         \x20     #     severity: critical      # critical and major fail the drill, minor is a finding",
        comment(&sql)
    );
}

fn list(out: &mut String, items: impl IntoIterator<Item = String>) {
    for item in items {
        let _ = writeln!(out, "            - {item}");
    }
}

fn sql_name(table: &Table) -> String {
    format!("{}.{}", quote_ident(&table.schema), quote_ident(&table.name))
}

/// An SQL identifier, in double quotes where it needs them.
pub fn quote_ident(name: &str) -> String {
    let plain = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '_';
    let starts_plain = name.starts_with(|it: char| it.is_ascii_lowercase() || it == '_');
    if starts_plain && name.chars().all(plain) && !KEYWORDS.contains(&name) {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn quote_literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if text.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// A YAML scalar that is read back as this text, within a flow map too.
fn yaml(text: &str) -> String {
    let plain = |it: char| it.is_ascii_alphanumeric() || matches!(it, '_' | '/' | '.' | '-');
    let spaced = |it: &str| !it.is_empty() && it.chars().all(plain);
    let starts_plain = text.starts_with(|it: char| it.is_ascii_alphabetic() || matches!(it, '_' | '/'));
    let word = text.to_ascii_lowercase();
    if starts_plain && text.split(' ').all(spaced) && !WORDS.contains(&word.as_str()) {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for it in text.replace("${", "$${").chars() {
        match it {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            it if is_odd(it) => {
                let _ = write!(quoted, "\\U{:08x}", u32::from(it));
            }
            it => quoted.push(it),
        }
    }
    quoted.push('"');
    quoted
}

/// Not shown, or shown in a way that deceives: control characters, breaks, marks of direction.
fn is_odd(it: char) -> bool {
    it.is_control()
        || matches!(it, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
        || matches!(it, '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}')
}

/// A text within a comment: it must not end it.
fn comment(text: &str) -> String {
    text.chars().map(|it| if is_odd(it) { '\u{fffd}' } else { it }).collect()
}

fn one_line(text: &str) -> String {
    text.chars().map(|it| if it.is_control() { it.escape_default().to_string() } else { it.to_string() }).collect()
}

/// What YAML 1.1 or 1.2 takes for something else than a text.
const WORDS: &[&str] = &["null", "true", "false", "yes", "no", "on", "off", "y", "n"];

/// Keywords of PostgreSQL that cannot always stand as a name: all but the unreserved ones of kwlist.h (18).
const KEYWORDS: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "between",
    "bigint",
    "binary",
    "bit",
    "boolean",
    "both",
    "case",
    "cast",
    "char",
    "character",
    "check",
    "coalesce",
    "collate",
    "collation",
    "column",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "dec",
    "decimal",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "exists",
    "extract",
    "false",
    "fetch",
    "float",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "greatest",
    "group",
    "grouping",
    "having",
    "ilike",
    "in",
    "initially",
    "inner",
    "inout",
    "int",
    "integer",
    "intersect",
    "interval",
    "into",
    "is",
    "isnull",
    "join",
    "json",
    "json_array",
    "json_arrayagg",
    "json_exists",
    "json_object",
    "json_objectagg",
    "json_query",
    "json_scalar",
    "json_serialize",
    "json_table",
    "json_value",
    "lateral",
    "leading",
    "least",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "merge_action",
    "national",
    "natural",
    "nchar",
    "none",
    "normalize",
    "not",
    "notnull",
    "null",
    "nullif",
    "numeric",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "out",
    "outer",
    "overlaps",
    "overlay",
    "placing",
    "position",
    "precision",
    "primary",
    "real",
    "references",
    "returning",
    "right",
    "row",
    "select",
    "session_user",
    "setof",
    "similar",
    "smallint",
    "some",
    "substring",
    "symmetric",
    "system_user",
    "table",
    "tablesample",
    "then",
    "time",
    "timestamp",
    "to",
    "trailing",
    "treat",
    "trim",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "values",
    "varchar",
    "variadic",
    "verbose",
    "when",
    "where",
    "window",
    "with",
    "xmlattributes",
    "xmlconcat",
    "xmlelement",
    "xmlexists",
    "xmlforest",
    "xmlnamespaces",
    "xmlparse",
    "xmlpi",
    "xmlroot",
    "xmlserialize",
    "xmltable",
];
