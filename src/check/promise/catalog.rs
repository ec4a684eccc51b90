//! What to ask the catalogues. Each question carries a batch of what is promised, and is answered with what deviates.
//!
//! So the server resolves names and types, and an answer is small however much was promised. Nothing in a question runs
//! restored code: every name is that of `pg_catalog`.

use serde::Serialize;

use crate::check::sql_text::quote_literal;
use crate::format::promised::{GrantOn, Kind};

/// Goes before each question. Restored settings of databases and roles must not change what is seen.
pub(super) const PINNED: &str = "set search_path = pg_catalog; set row_security = off; set enable_indexscan = off; \
     set enable_indexonlyscan = off; set enable_bitmapscan = off; ";

/// A list of arguments in a form that two lists can be compared in: old dumps leave out the schemas of their search path,
/// those of before 14 the IN of procedures.
fn comparable(arguments: &str) -> String {
    let qualifier = r#"'("([^"]|"")*"|[[:alnum:]_$]+)[.]'"#;
    format!(
        "lower(replace(regexp_replace(regexp_replace({arguments}, {qualifier}, '', 'g'), '([(,] ?)IN ', E'\\\\1', 'gi'), ' ', ''))"
    )
}

/// One thing to look for, as it goes into a question.
#[derive(Serialize)]
pub(super) struct Wanted<'a> {
    /// Position within the batch.
    pub(super) i: usize,
    pub(super) s: &'a str,
    pub(super) n: &'a str,
    /// What it is part of; null where that is not known.
    pub(super) o: Option<&'a str>,
    pub(super) w: Option<&'a str>,
    pub(super) t: Option<&'a str>,
    pub(super) c: bool,
    pub(super) l: bool,
}

/// One grant to look for.
#[derive(Serialize)]
pub(super) struct WantedGrant<'a> {
    pub(super) i: usize,
    pub(super) s: &'a str,
    pub(super) n: &'a str,
    pub(super) o: &'a str,
    /// Empty for PUBLIC.
    pub(super) r: &'a str,
    pub(super) g: Vec<&'a str>,
    pub(super) p: Vec<&'a str>,
    pub(super) x: Vec<&'a str>,
}

/// JSON as an SQL literal.
pub(super) fn literal(wanted: &impl Serialize) -> String {
    quote_literal(&serde_json::to_string(wanted).unwrap_or_default())
}

/// Rows: position, whether it is there (`t`/`f`), its owner, its state, whether it has a comment, and a security label.
pub(super) fn objects(kind: Kind, wanted: &[Wanted<'_>]) -> String {
    let have = have(kind);
    let column = if kind == Kind::Function { comparable("w.o") } else { "w.o".to_owned() };
    let mut name = if matches!(kind, Kind::Cast | Kind::Transform) { comparable("w.n") } else { "w.n".to_owned() };
    if kind == Kind::Transform {
        name = unquoted(&name);
    }
    // Functions are named by their types alone, or with the names of their arguments.
    let other = if kind == Kind::Function { " or h.named = w.o" } else { "" };
    format!(
        "{PINNED}with w as materialized (select w.i, w.s, {name} as n, {column} as o, w.w, w.t, w.c, w.l \
         from json_to_recordset({}) as w(i int, s text, n text, o text, w text, t text, c bool, l bool)), \
         h as materialized ({have}), \
         found as (select w.i, h.n is not null as there, h.owner::text as owner, h.state, w.w as want_owner, w.t as want_state, \
         w.c as want_comment, w.l as want_label, \
         exists (select from pg_description d where d.objoid = h.oid and d.classoid = h.cid and d.objsubid = h.sub) as commented, \
         exists (select from pg_seclabel d where d.objoid = h.oid and d.classoid = h.cid and d.objsubid = h.sub) as labelled \
         from w left join h on h.s = w.s and h.n = w.n and (w.o is null or h.o = w.o{other})), \
         judged as (select *, not there or (want_owner <> owner) is true or (want_state <> state) is true \
         or (want_comment and not commented) or (want_label and not labelled) as deviates from found) \
         select distinct on (i) i, there, owner, state, commented, labelled from judged j where deviates \
         and not exists (select from judged k where k.i = j.i and not k.deviates) order by i",
        literal(&wanted)
    )
}

/// The objects of a kind: schema, name, what it is part of, owner, state, and where its comment is.
fn have(kind: Kind) -> String {
    let named = |catalog: &str, prefix: &str, owner: &str, state: &str| {
        format!(
            "select ''::text as s, {prefix}name::text as n, ''::text as o, {owner} as owner, {state}::text as state, \
             '{catalog}'::regclass::oid as cid, oid, 0 as sub from {catalog}"
        )
    };
    let in_schema = |catalog: &str, prefix: &str, owner: &str| {
        format!(
            "select n.nspname::text as s, c.{prefix}name::text as n, ''::text as o, {owner} as owner, ''::text as state, \
             '{catalog}'::regclass::oid as cid, c.oid, 0 as sub from {catalog} c join pg_namespace n on n.oid = c.{prefix}namespace"
        )
    };
    let owner = |column: &str| format!("pg_get_userbyid({column})");
    let none = "null::text";
    match kind {
        Kind::Schema => named("pg_namespace", "nsp", &owner("nspowner"), "''"),
        Kind::Extension => named("pg_extension", "ext", none, "''"),
        Kind::Language => named("pg_language", "lan", &owner("lanowner"), "''"),
        Kind::AccessMethod => named("pg_am", "am", none, "''"),
        Kind::ForeignDataWrapper => named("pg_foreign_data_wrapper", "fdw", &owner("fdwowner"), "''"),
        Kind::Server => named("pg_foreign_server", "srv", &owner("srvowner"), "''"),
        Kind::EventTrigger => named("pg_event_trigger", "evt", &owner("evtowner"), "evtenabled"),
        Kind::Publication => named("pg_publication", "pub", &owner("pubowner"), "''"),
        Kind::Subscription => named("pg_subscription", "sub", &owner("subowner"), "''"),
        Kind::Tablespace => relations(
            "c.relkind in ('r', 'p', 'm', 'i', 'I')",
            "(select t.spcname from pg_tablespace t where t.oid = case c.reltablespace when 0 then \
             (select d.dattablespace from pg_database d where d.datname = current_database()) else c.reltablespace end)",
        ),
        Kind::Type => types("t.typtype <> 'd' and (t.typrelid = 0 or r.relkind = 'c')"),
        Kind::Domain => types("t.typtype = 'd'"),
        Kind::Function => functions(),
        Kind::Cast => casts(),
        Kind::Transform => transforms(),
        Kind::Operator => in_schema("pg_operator", "opr", &owner("oprowner")),
        Kind::OperatorClass => in_schema("pg_opclass", "opc", &owner("opcowner")),
        Kind::OperatorFamily => in_schema("pg_opfamily", "opf", &owner("opfowner")),
        Kind::Collation => in_schema("pg_collation", "coll", &owner("collowner")),
        Kind::Conversion => in_schema("pg_conversion", "con", &owner("conowner")),
        Kind::TextSearchConfiguration => in_schema("pg_ts_config", "cfg", &owner("cfgowner")),
        Kind::TextSearchDictionary => in_schema("pg_ts_dict", "dict", &owner("dictowner")),
        Kind::TextSearchParser => in_schema("pg_ts_parser", "prs", none),
        Kind::TextSearchTemplate => in_schema("pg_ts_template", "tmpl", none),
        Kind::Statistics => in_schema("pg_statistic_ext", "stx", &owner("stxowner")),
        Kind::Table => relations("c.relkind in ('r', 'p')", "case c.relpersistence when 'u' then 'unlogged' else 'permanent' end"),
        Kind::ForeignTable => relations("c.relkind = 'f'", "''"),
        Kind::View => relations("c.relkind = 'v'", "''"),
        Kind::MaterializedView => {
            relations("c.relkind = 'm'", "case when c.relispopulated then 'populated' else 'not populated' end")
        }
        Kind::Sequence => relations("c.relkind = 'S'", "''"),
        Kind::Index => indexes(),
        Kind::UserMapping => "select ''::text as s, case m.umuser when 0 then 'public' else pg_get_userbyid(m.umuser)::text end as n, \
             f.srvname::text as o, null::text as owner, ''::text as state, 0::oid as cid, m.oid, 0 as sub \
             from pg_user_mapping m join pg_foreign_server f on f.oid = m.umserver"
            .to_owned(),
        Kind::Inheritance => "select n.nspname::text as s, c.relname::text as n, pn.nspname || '.' || p.relname as o, \
             null::text as owner, ''::text as state, 0::oid as cid, c.oid, 0 as sub from pg_inherits i \
             join pg_class c on c.oid = i.inhrelid join pg_namespace n on n.oid = c.relnamespace \
             join pg_class p on p.oid = i.inhparent join pg_namespace pn on pn.oid = p.relnamespace"
            .to_owned(),
        Kind::Column => columns("true"),
        Kind::Default => columns("a.atthasdef"),
        Kind::Identity => columns("a.attidentity <> ''"),
        Kind::Constraint => constraints(),
        Kind::Trigger => parts("pg_trigger", "tg", "p.tgrelid", "p.tgenabled"),
        Kind::Rule => parts("pg_rewrite", "rule", "p.ev_class", "p.ev_enabled"),
        Kind::Policy => parts("pg_policy", "pol", "p.polrelid", "''"),
        Kind::RowSecurity => format!(
            "{} union all {}",
            flagged("c.relrowsecurity", "enabled"),
            flagged("c.relforcerowsecurity", "forced")
        ),
        Kind::PublicationTable => "select n.nspname::text as s, p.pubname::text as n, c.relname::text as o, null::text as owner, \
             ''::text as state, 0::oid as cid, c.oid, 0 as sub from pg_publication_rel r join pg_publication p on p.oid = r.prpubid \
             join pg_class c on c.oid = r.prrelid join pg_namespace n on n.oid = c.relnamespace"
            .to_owned(),
        Kind::PublicationSchema => "select ''::text as s, p.pubname::text as n, n.nspname::text as o, null::text as owner, \
             ''::text as state, 0::oid as cid, n.oid, 0 as sub from pg_publication_namespace r \
             join pg_publication p on p.oid = r.pnpubid join pg_namespace n on n.oid = r.pnnspid"
            .to_owned(),
    }
}

fn relations(which: &str, state: &str) -> String {
    format!(
        "select n.nspname::text as s, c.relname::text as n, ''::text as o, pg_get_userbyid(c.relowner) as owner, \
         {state}::text as state, 'pg_class'::regclass::oid as cid, c.oid, 0 as sub \
         from pg_class c join pg_namespace n on n.oid = c.relnamespace where {which}"
    )
}

fn flagged(which: &str, of: &str) -> String {
    format!(
        "select n.nspname::text as s, c.relname::text as n, '{of}'::text as o, null::text as owner, ''::text as state, \
         0::oid as cid, c.oid, 0 as sub from pg_class c join pg_namespace n on n.oid = c.relnamespace where {which}"
    )
}

fn indexes() -> String {
    "select n.nspname::text as s, c.relname::text as n, t.relname::text as o, null::text as owner, \
     case when x.indisvalid and x.indisready then 'valid' else 'not valid' end as state, 'pg_class'::regclass::oid as cid, c.oid, \
     0 as sub from pg_index x join pg_class c on c.oid = x.indexrelid join pg_namespace n on n.oid = c.relnamespace \
     join pg_class t on t.oid = x.indrelid"
        .to_owned()
}

fn types(which: &str) -> String {
    format!(
        "select n.nspname::text as s, t.typname::text as n, ''::text as o, pg_get_userbyid(t.typowner) as owner, \
         case t.typtype when 'e' then (select string_agg(e.enumlabel, E'\\n' order by e.enumsortorder) from pg_enum e \
         where e.enumtypid = t.oid) end as state, \
         'pg_type'::regclass::oid as cid, t.oid, 0 as sub from pg_type t join pg_namespace n on n.oid = t.typnamespace \
         left join pg_class r on r.oid = t.typrelid where {which}"
    )
}

fn functions() -> String {
    let (types, named) = (
        comparable("'(' || oidvectortypes(p.proargtypes) || ')'"),
        comparable("'(' || pg_get_function_identity_arguments(p.oid) || ')'"),
    );
    format!(
        "select n.nspname::text as s, p.proname::text as n, {types} as o, {named} as named, \
         pg_get_userbyid(p.proowner) as owner, ''::text as state, 'pg_proc'::regclass::oid as cid, p.oid, 0 as sub \
         from pg_proc p join pg_namespace n on n.oid = p.pronamespace \
         where exists (select from w where w.s = n.nspname and w.n = p.proname)"
    )
}

fn casts() -> String {
    let name = comparable("'(' || format_type(castsource, null) || ' AS ' || format_type(casttarget, null) || ')'");
    format!(
        "select ''::text as s, {name} as n, ''::text as o, null::text as owner, ''::text as state, \
         'pg_cast'::regclass::oid as cid, oid, 0 as sub from pg_cast"
    )
}

/// Without the quotes that only some dumps have: `--quote-all-identifiers`.
fn unquoted(name: &str) -> String {
    format!("replace({name}, '\"', '')")
}

fn transforms() -> String {
    let name = unquoted(&comparable("'FOR ' || format_type(t.trftype, null) || ' LANGUAGE ' || l.lanname"));
    format!(
        "select ''::text as s, {name} as n, ''::text as o, null::text as owner, ''::text as state, \
         'pg_transform'::regclass::oid as cid, t.oid, 0 as sub from pg_transform t join pg_language l on l.oid = t.trflang"
    )
}

fn columns(which: &str) -> String {
    format!(
        "select n.nspname::text as s, a.attname::text as n, c.relname::text as o, null::text as owner, ''::text as state, \
         'pg_class'::regclass::oid as cid, c.oid, a.attnum::int as sub from pg_attribute a join pg_class c on c.oid = a.attrelid \
         join pg_namespace n on n.oid = c.relnamespace where a.attnum > 0 and not a.attisdropped and {which}"
    )
}

fn constraints() -> String {
    let from = |of: &str, join: &str| {
        format!(
            "select n.nspname::text as s, p.conname::text as n, {of}::text as o, null::text as owner, \
             case when p.convalidated then 'valid' else 'not valid' end as state, 'pg_constraint'::regclass::oid as cid, p.oid, \
             0 as sub from pg_constraint p {join}"
        )
    };
    format!(
        "{} union all {}",
        from("c.relname", "join pg_class c on c.oid = p.conrelid join pg_namespace n on n.oid = c.relnamespace"),
        from("t.typname", "join pg_type t on t.oid = p.contypid join pg_namespace n on n.oid = t.typnamespace")
    )
}

fn parts(catalog: &str, prefix: &str, relation: &str, state: &str) -> String {
    format!(
        "select n.nspname::text as s, p.{prefix}name::text as n, c.relname::text as o, null::text as owner, {state}::text as state, \
         '{catalog}'::regclass::oid as cid, p.oid, 0 as sub from {catalog} p join pg_class c on c.oid = {relation} \
         join pg_namespace n on n.oid = c.relnamespace"
    )
}

/// Rows: position, and what the role really has, with `*` where it may pass it on; null where the object is not there.
pub(super) fn grants(on: GrantOn, wanted: &[WantedGrant<'_>]) -> String {
    let have = acls(on);
    format!(
        "{PINNED}with w as materialized (select * from json_to_recordset({}) \
         as w(i int, s text, n text, o text, r text, g text[], p text[], x text[])), \
         h as ({have}), \
         f as materialized (select *, case when cardinality(acls) > 0 then acls end as acl from (select w.*, h.oid is not null as there, h.letter, coalesce(h.acl, case when h.letter is null then '{{}}' else acldefault(h.letter, h.owner) end) as acls \
         from w left join h on h.i = w.i) as joined), \
         a as (select f.i, f.there, f.g, f.p, f.x, \
         array(select e.privilege_type from aclexplode(f.acl) e where e.grantee = m.id) as has, \
         array(select e.privilege_type from aclexplode(f.acl) e where e.grantee = m.id and e.is_grantable) as passes, \
         case when f.letter is null then '{{}}'::text[] when f.letter = 'c' then '{{INSERT,REFERENCES,SELECT,UPDATE}}' else array(select e.privilege_type from aclexplode(acldefault(f.letter, 10)) e where e.grantee = 10) end as every \
         from f cross join lateral (select case f.r when '' then 0::oid else coalesce((select oid from pg_roles where rolname = f.r), 1::oid) end as id) m), \
         e as (select i, there, has, passes, x, \
         case when 'ALL' = any (g) then every else g end as g, case when 'ALL' = any (p) then every else p end as p from a) \
         select i, case when there then array_to_string(array(select t || case when t = any (passes) then '*' else '' end from unnest(has) t \
         order by 1), ', ') end as has from e \
         where not there or not has @> g or not passes @> p or ('ALL' = any (x) and not g @> has) \
         or exists (select from unnest(x) t where t = any (has) and not t = any (g)) order by i",
        literal(&wanted)
    )
}

/// By the position of what is wanted: the object's privileges, the letter for `acldefault`, its owner.
fn acls(on: GrantOn) -> String {
    let named = |catalog: &str, prefix: &str, letter: char| {
        format!(
            "select w.i, c.oid, c.{prefix}acl as acl, '{letter}'::\"char\" as letter, c.{prefix}owner as owner \
             from w join {catalog} c on c.{prefix}name = w.n"
        )
    };
    match on {
        GrantOn::Table | GrantOn::Sequence => "select w.i, c.oid, c.relacl as acl, \
             (case c.relkind when 'S' then 's' else 'r' end)::\"char\" as letter, c.relowner as owner \
             from w join pg_namespace n on n.nspname = w.s join pg_class c on c.relnamespace = n.oid and c.relname = w.n"
            .to_owned(),
        GrantOn::Column => "select w.i, c.oid, coalesce(a.attacl, '{}') as acl, 'c'::\"char\" as letter, c.relowner as owner \
             from w join pg_namespace n on n.nspname = w.s join pg_class c on c.relnamespace = n.oid and c.relname = w.n \
             join pg_attribute a on a.attrelid = c.oid and a.attname = w.o and not a.attisdropped"
            .to_owned(),
        GrantOn::Schema => named("pg_namespace", "nsp", 'n'),
        GrantOn::Language => named("pg_language", "lan", 'l'),
        GrantOn::ForeignDataWrapper => named("pg_foreign_data_wrapper", "fdw", 'F'),
        GrantOn::Server => named("pg_foreign_server", "srv", 'S'),
        GrantOn::Type => "select w.i, c.oid, c.typacl as acl, 'T'::\"char\" as letter, c.typowner as owner \
             from w join pg_namespace n on n.nspname = w.s join pg_type c on c.typnamespace = n.oid and c.typname = w.n"
            .to_owned(),
        GrantOn::Function => {
            let wanted = comparable("w.o");
            let types = comparable("'(' || oidvectortypes(c.proargtypes) || ')'");
            let named = comparable("'(' || pg_get_function_identity_arguments(c.oid) || ')'");
            format!(
                "select w.i, c.oid, c.proacl as acl, 'f'::\"char\" as letter, c.proowner as owner \
                 from w join pg_namespace n on n.nspname = w.s \
                 join pg_proc c on c.pronamespace = n.oid and c.proname = w.n and {wanted} in ({types}, {named})"
            )
        }
        GrantOn::LargeObject => "select w.i, c.oid, c.lomacl as acl, 'L'::\"char\" as letter, c.lomowner as owner \
             from w join pg_largeobject_metadata c on c.oid::text = w.n"
            .to_owned(),
        // Where no entry is left, what is built in holds: for a schema that is nothing.
        GrantOn::Default => "select w.i, r.oid, coalesce(c.defaclacl, case w.s when '' then acldefault(k.letter, r.oid) else '{}' end) as acl, \
             k.letter, r.oid as owner from w join pg_roles r on r.rolname = w.n \
             join (values ('tables', 'r'::\"char\", 'r'::\"char\"), ('sequences', 'S', 's'), ('functions', 'f', 'f'), ('routines', 'f', 'f'), \
             ('types', 'T', 'T'), ('schemas', 'n', 'n')) as k(word, kind, letter) on k.word = w.o \
             left join pg_namespace n on n.nspname = w.s \
             left join pg_default_acl c on c.defaclrole = r.oid and c.defaclobjtype = k.kind and c.defaclnamespace = coalesce(n.oid, 0)"
            .to_owned(),
    }
}
