//! What people give to pg_dump: every option that changes what a dump looks like, on one real database with all that is
//! awkward in dumps, and what a drill of it must say.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::lab::{Server, owned_directory};
use crate::program::{Program, Ran, four_at_a_time, unlike};

/// Names, values and rows that a reader of dumps can stumble over.
const AWKWARD: &str = r#"
create schema "we ird";
create type public.mood as enum ('sad', 'it''s ok', 'ha;ppy');
create table public.plain (id int generated always as identity primary key, t text, b bytea, a text[], j jsonb);
insert into public.plain (t, b, a, j)
  select case g % 7 when 0 then null when 1 then '\.' when 2 then E'tab\there\nand a line' when 3 then '\N'
    when 4 then E'back\\slash''quote' when 5 then '' else '-- no comment; /* nor this */' end,
    decode(md5(g::text), 'hex'), array[g::text, null, '{x,"y"}'], jsonb_build_object('k', g, 'q', '"')
  from generate_series(1, 500) g;
create table "we ird"."T able" ("co l" int, "select" text default $$a ';' in a default$$);
insert into "we ird"."T able" select g, repeat(E'\\', g) from generate_series(1, 40) g;
create table public.empty (id int);
create table public.no_columns ();
insert into public.no_columns select from generate_series(1, 5);
create table public.parted (m public.mood, v int) partition by hash (m);
create table public.parted_0 partition of public.parted for values with (modulus 2, remainder 0);
create table public.parted_1 partition of public.parted for values with (modulus 2, remainder 1);
insert into public.parted select (enum_range(null::public.mood))[1 + g % 3], g from generate_series(1, 90) g;
create table public.parent (id int, kind text);
create table public.child (extra int) inherits (public.parent);
insert into public.parent values (1, 'p');
insert into public.child values (2, 'c', 3), (4, 'd', 5);
create table public.derived (w int, h int, area int generated always as (w * h) stored);
insert into public.derived (w, h) select g, 2 from generate_series(1, 12) g;
create table public.guarded (owner text, v int);
insert into public.guarded select case when g % 2 = 0 then 'reader' else 'other' end, g from generate_series(1, 10) g;
create view public.seen as select id, t from public.plain where t is not null;
create materialized view public.kept as select count(*) n from public.plain;
create materialized view public.unfilled as select 1 as one with no data;
create function public.body() returns text language plpgsql as $fn$ begin return 'a; b $$ c'; end $fn$;
create sequence public.counter start 100 increment 5;
select nextval('public.counter'), nextval('public.counter');
create transform for int language sql (from sql with function prsd_lextype(internal), to sql with function int4recv(internal));
create role reader;
alter table public.guarded owner to reader;
grant select on public.plain to reader;
comment on table public.plain is 'it''s; commented -- "so"';
select lo_from_bytea(4711, decode(repeat('00ff41', 7000), 'hex')), lo_from_bytea(4712, '');
"#;

struct Source {
    server: Server,
    directory: PathBuf,
}

fn source() -> &'static Source {
    static SOURCE: OnceLock<Source> = OnceLock::new();
    SOURCE.get_or_init(|| {
        let server = Server::start("options");
        server.sql("create database awkward");
        server.script("awkward", AWKWARD);
        let directory = server.directory().join("dumps");
        owned_directory(&directory);
        Source { server, directory }
    })
}

/// Dumps with these options into a file of this name; gives its path.
fn dump(name: &str, options: &str) -> String {
    let source = source();
    let path = source.directory.join(name).display().to_string();
    let options: Vec<&str> = options.split_whitespace().collect();
    source.server.run("pg_dump", &[&["-d", "awkward", "-f", &path], &options[..]].concat());
    path
}

fn drill(path: &str, more: &str) -> Ran {
    let scenario = format!(
        "version: 1\ndrills:\n  - name: options\n    runtime: local\n    source: {{ pg_dump: {{ path: {path:?} }} }}\n{more}    \
         checks:\n      - query: {{ name: it answers, sql: select 1, expect: 1 }}\n",
    );
    Program::new().drill(&scenario, &[])
}

/// What is kept of the rows: 500 + 40 + 0 + 5 + 90 + 1 + 2 + 12 + 10.
const ALL: &str = "660 rows";

/// Options, more keys of the drill, the exit status, and what a person must be told.
const OPTIONS: &[(&str, &str, i32, &str)] = &[
    ("-Fp", "", 0, ALL),
    ("-Fc", "", 0, ALL),
    ("-Fd", "", 0, ALL),
    ("-Ft", "", 0, ALL),
    ("-Fc -Z0", "", 0, ALL),
    ("-Fc -Z9", "", 0, ALL),
    ("-Fd -Z0", "", 0, ALL),
    ("-Fd -j2", "    restore: { jobs: 2 }\n", 0, ALL),
    ("-Fc -Z1", "    restore: { jobs: 2 }\n", 0, ALL),
    ("-Fp --inserts", "", 0, ALL),
    ("-Fp --column-inserts", "", 0, ALL),
    ("-Fp --rows-per-insert=7", "", 0, ALL),
    ("-Fc --inserts", "", 0, ALL),
    ("-Fc --rows-per-insert=7", "", 0, ALL),
    ("-Ft --column-inserts", "", 0, ALL),
    ("-Fd --inserts", "", 0, ALL),
    ("-Fp --load-via-partition-root", "", 0, ALL),
    ("-Fc --load-via-partition-root", "", 0, ALL),
    ("-Fd --load-via-partition-root --inserts", "", 0, ALL),
    ("-Fp --inserts --on-conflict-do-nothing", "", 0, "cannot be compared"),
    ("-Fc --inserts --on-conflict-do-nothing", "", 0, "cannot be compared"),
    ("-Fp --quote-all-identifiers", "", 0, ALL),
    ("-Fc --quote-all-identifiers", "", 0, ALL),
    ("-Fp --disable-dollar-quoting", "", 0, ALL),
    // Owners may not make things in public, since 15: a real recovery from this dump stops there.
    ("-Fp --use-set-session-authorization", "", 3, "permission denied for schema public"),
    ("-Fp --clean", "", 0, ALL),
    ("-Fp --clean --if-exists", "", 0, ALL),
    ("-Fp --create", "", 0, ALL),
    ("-Fp --create --clean", "", 0, ALL),
    ("-Fc --create --clean", "", 0, ALL),
    ("-Fp --no-owner", "", 0, "owners (the dump was made with -O) are not carried"),
    ("-Fp --no-owner --no-privileges", "", 0, ALL),
    ("-Fc --no-owner", "", 0, ALL),
    ("-Fp --no-comments", "", 0, ALL),
    ("-Fp -E LATIN1", "", 0, ALL),
    ("-Fc -E LATIN1", "", 0, ALL),
    ("-Fp --no-blobs", "", 0, ALL),
    ("-Fp --schema-only", "", 1, "a schema-only dump"),
    ("-Fc --schema-only", "", 1, "a schema-only dump"),
    ("-Fp --exclude-table-data=public.plain", "", 1, "public.plain"),
    ("-Fc --exclude-table-data=public.plain", "", 1, "public.plain"),
    ("-Fd --exclude-table-data=public.plain", "    restore: { no_data: [public.plain] }\n", 0, "160 rows"),
    ("-Fp --exclude-table-data=public.*", "    restore: { no_data: [\"public.*\"] }\n", 0, "40 rows"),
    ("-Fp -n public", "", 0, "620 rows"),
    ("-Fc -t public.plain", "    scope: objects\n", 0, "500 rows"),
    ("-Fp -t public.plain -t public.child", "    scope: objects\n", 1, "relation \"public.parent\" does not exist"),
    ("-Fp --verbose", "", 0, "(zone not recorded)"),
    ("-Fp --serializable-deferrable", "", 0, ALL),
    ("-Fp --data-only", "    scope: objects\n", 1, "does not exist"),
];

#[test]
fn every_option_of_pg_dump_gets_its_verdict() {
    let dumps: Vec<String> =
        OPTIONS.iter().enumerate().map(|(at, (options, ..))| dump(&format!("{at}.dump"), options)).collect();
    let rows: Vec<_> = OPTIONS.iter().zip(&dumps).collect();
    let wrong = four_at_a_time(&rows, wrong);
    assert!(wrong.is_empty(), "{wrong}");
}

/// What a drill made of it, if that is not what the table says.
fn wrong(((options, more, exit, told), path): &(&(&str, &str, i32, &str), &String)) -> String {
    unlike(options, &drill(path, more), *exit, told)
}

/// Rows of 100 MB pass through without being held whole, and are counted as what they are.
#[test]
fn rows_of_a_hundred_megabytes_are_rows() {
    let server = &source().server;
    server.sql("create database huge");
    server.script(
        "huge",
        "create table t (id int, v text); \
         insert into t select g, repeat(chr(96 + g), 100000000) from generate_series(1, 3) g; insert into t values (4, '')",
    );
    for (name, options) in [("huge.sql", "-Fp"), ("huge.dump", "-Fc -Z1")] {
        let path = source().directory.join(name).display().to_string();
        let options: Vec<&str> = options.split_whitespace().collect();
        server.run("pg_dump", &[&["-d", "huge", "-f", &path], &options[..]].concat());
        let text = drill(&path, "").expect(0).stdout;
        assert!(text.contains("4 rows as dumped"), "{text}");
        std::fs::remove_file(Path::new(&path)).unwrap();
    }
    server.sql("drop database huge");
}

/// The server says which row it refused, and so do we: never what is in it.
#[test]
fn a_row_that_the_server_refuses_is_named_by_its_number() {
    for (name, options) in [("bad-row.sql", "-Fp"), ("bad-row.dump", "-Fc -Z0")] {
        let path = dump(name, &format!("{options} -t public.derived"));
        let bytes = std::fs::read(&path).unwrap();
        // The seventh row: a letter in a number.
        let at = bytes.windows(4).position(|it| it == b"7\t2\n").unwrap();
        let mut bad = bytes;
        bad[at] = b'Z';
        std::fs::write(&path, bad).unwrap();
        let ran = drill(&path, "    scope: objects\n").expect(1);
        let text = ran.folded();
        assert!(text.contains("row 7 of derived, column w"), "{text}");
        assert!(text.contains("fault: the backup"), "{text}");
    }
}
