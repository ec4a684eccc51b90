//! Dumps that are restored elsewhere than where they come from: into lower majors, into tablespaces that are not here, by
//! a cluster whose superuser was none.

use crate::program::{Program, fixture};

/// A drill of a fixture in a container of this major, with more keys of the drill.
fn scenario(kind: &str, path: &str, major: u32, more: &str) -> String {
    format!(
        "version: 1\ndrills:\n  - name: moved\n    runtime: container\n    source: {{ {kind}: {{ path: \"{}\" }} }}\n    \
         postgres: {{ major: {major}, image: \"pgdrill-postgres:{{major}}\" }}\n{more}    checks:\n      \
         - query: {{ name: it answers, sql: select 1, expect: 1 }}\n",
        fixture(path).display(),
    )
}

#[test]
fn a_lower_major_is_refused_before_anything_is_made() {
    for path in ["pg15/shop.dump", "pg15/shop.sql", "pg15/shop.dir"] {
        let ran = Program::new().drill(&scenario("pg_dump", path, 13, ""), &[]).expect(3);
        let text = ran.folded();
        assert!(text.contains("it is a dump of PostgreSQL 15: what 13 does not know would be lost"), "{text}");
        assert!(text.contains("`restore.allow_downgrade: true`"), "{text}");
        assert!(text.contains("not reached: provision"), "{text}");
    }
}

#[test]
fn what_a_lower_major_loses_is_listed_where_that_is_allowed() {
    let more = "    restore: { allow_downgrade: true }\n";
    for path in ["pg15/shop.dump", "pg15/shop.sql"] {
        let program = Program::new();
        let ran = program.drill(&scenario("pg_dump", path, 13, more), &[]).expect(0);
        let text = ran.folded();
        for lost in ["lost by the move to PostgreSQL 13:", "price_band", "multirange_type_name", "datemultirange"] {
            assert!(text.contains(lost), "{lost}: {text}");
        }
        // What the lower major does know is there, and is examined as ever.
        assert!(text.contains("BROKEN: promise: refused objects (minor)"), "{text}");
    }
}

#[test]
fn an_archive_that_the_lower_pg_restore_cannot_read_is_refused_all_the_same() {
    let more = "    restore: { allow_downgrade: true }\n";
    let ran = Program::new().drill(&scenario("pg_dump", "pg17/shop.dump", 15, more), &[]).expect(3);
    let text = ran.folded();
    assert!(text.contains("its format version 1.16 needs the pg_restore of PostgreSQL 17 or newer"), "{text}");
}

/// Every major keeps them within the data directory, and objects are asserted to lie where the dump says.
#[test]
fn tablespaces_lie_within_the_sandbox_and_are_used() {
    for major in [15, 17, 18] {
        let ran =
            Program::new().drill(&scenario("pg_dump", "found/pg_dump-15-tablespaces.sql", major, ""), &[]).expect(0);
        let text = ran.folded();
        assert!(text.contains("tablespaces that the dump needs and does not carry: fast, slow"), "{text}");
        let checks = "    expect: { databases: [shop, postgres], tablespaces: [fast] }\n    scope: cluster\n";
        let path = "found/pg_dumpall-managed.sql";
        let ran = Program::new().drill(&scenario("pg_dumpall", path, major, checks), &[]).expect(0);
        let text = ran.folded();
        assert!(text.contains("tablespaces lie within the data directory of the sandbox: fast"), "{text}");
    }
}

/// The owner, the options and the database that lies there are those of the dump.
#[test]
fn a_tablespace_has_the_owner_and_the_options_of_the_dump() {
    let path = "found/pg_dumpall-managed.sql";
    let checks = "    expect: { databases: [shop, postgres] }\n";
    let text = scenario("pg_dumpall", path, 17, checks);
    let sql = "select pg_get_userbyid(spcowner) || ' ' || spcoptions::text from pg_tablespace where spcname = 'fast'";
    let more = format!(
        "      - query: {{ name: the tablespace is as dumped, sql: \"{sql}\", expect: \"app {{random_page_cost=1.1}}\" }}\n      \
         - query: {{ name: the database lies there, sql: \"select spcname from pg_tablespace t join pg_database d on \
         d.dattablespace = t.oid where datname = 'shop'\", expect: fast }}\n      \
         - query: {{ name: nothing is left of who loaded it, sql: \"select count(*) from pg_roles where rolname = \
         'pgdrill_loader'\", expect: 0 }}\n"
    );
    Program::new().drill(&format!("{text}{more}"), &[]).expect(0);
}

/// What a database of this major holds, dumped by its own programs in every format.
const MAKE: &str = r#"
initdb -D /tmp/data -A trust -U postgres -E UTF8 --locale=C --no-sync >/dev/null
pg_ctl -D /tmp/data -w -o "-c listen_addresses= -c unix_socket_directories=/tmp -c fsync=off" -l /tmp/log start >/dev/null
export PGHOST=/tmp PGUSER=postgres
createdb shop
psql -qX -v ON_ERROR_STOP=1 shop <<'SQL'
create role app;
create role clerk;
grant app to clerk with admin option, inherit false, set true;
create schema s authorization app;
create type s.state as enum ('new', 'done');
create table s.item (id int generated always as identity primary key, state s.state, price numeric(10, 2), j jsonb);
insert into s.item (state, price, j) select 'new', g / 3.0, jsonb_build_object('n', g) from generate_series(1, 300) g;
create table s.part (k int, v text) partition by range (k);
create table s.part_1 partition of s.part for values from (0) to (50);
create table s.part_2 partition of s.part default;
insert into s.part select g, repeat('v', g) from generate_series(1, 100) g;
create view s.dear as select * from s.item where price > 50;
create index item_price on s.item (price) where state = 'new';
alter table s.item owner to app;
select lo_from_bytea(1001, '\x00ff');
SQL
pg_dump -Fc -f /out/shop.dump shop
pg_dump -Ft -f /out/shop.tar shop
pg_dump -Fd -j2 -f /out/shop.dir shop
pg_dump -Fp -f /out/shop.sql shop
pg_dumpall -f /out/cluster.sql
chmod -R a+rX /out/*
"#;

/// What a script leaves in `/out` of a throwaway container.
fn made_in(image: &str, script: &str) -> tempfile::TempDir {
    let out = tempfile::tempdir().unwrap();
    let all = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(out.path(), all).unwrap();
    let mut docker = std::process::Command::new("docker");
    docker.args(["run", "--rm", "--network=none", "--user=postgres", "--entrypoint=sh", "--volume"]);
    docker.arg(format!("{}:/out", out.path().display())).args([image, "-ec", script]);
    let made = docker.output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    out
}

/// No suite of Debian has 16: an embedded distribution carries its programs.
#[test]
fn sixteen_restores_into_itself_and_into_newer_majors() {
    let out = made_in("pgdrill-postgres:16", MAKE);
    for (major, file, kind) in [
        (16, "shop.dump", "pg_dump"),
        (16, "shop.dir", "pg_dump"),
        (16, "shop.sql", "pg_dump"),
        (16, "shop.tar", "pg_dump"),
        (16, "cluster.sql", "pg_dumpall"),
        (17, "shop.dump", "pg_dump"),
        (17, "cluster.sql", "pg_dumpall"),
        (18, "shop.sql", "pg_dump"),
        (18, "shop.dir", "pg_dump"),
    ] {
        let path = out.path().join(file).display().to_string();
        let text = scenario(kind, "", major, "").replace(&fixture("").display().to_string(), &path);
        let ran = Program::new().drill(&text, &[]).expect(0);
        let text = ran.folded();
        assert!(text.contains("400 rows as dumped"), "{major} {file}: {text}");
        assert!(text.contains(&format!("PostgreSQL {major}.")), "{major} {file}: {text}");
    }
}

const MAKE_BOSS: &str = r#"
initdb -D /tmp/data -A trust -U boss -E UTF8 --locale=C --no-sync >/dev/null
pg_ctl -D /tmp/data -w -o "-c listen_addresses= -c unix_socket_directories=/tmp -c fsync=off" -l /tmp/log start >/dev/null
export PGHOST=/tmp PGUSER=boss
createdb shop
psql -qX -v ON_ERROR_STOP=1 shop <<'SQL'
create role readers;
create role alice;
create role bob;
grant readers to alice with admin option;
set session authorization alice;
grant readers to bob;
reset session authorization;
create table public.orders (id int primary key);
insert into public.orders select generate_series(1, 300);
alter table public.orders owner to alice;
SQL
pg_dumpall -f /out/cluster.sql
pg_dumpall -g -f /out/globals.sql
pg_dump -Fc -f /out/shop.dump shop
chmod -R a+rX /out/*
"#;

/// As every container with `POSTGRES_USER` makes it. Memberships name who granted them, which since 16 must be who may.
#[test]
fn a_bootstrap_superuser_of_another_name_is_the_one_that_granted() {
    let out = made_in("pgdrill-postgres:17", MAKE_BOSS);
    let file = |name: &str| out.path().join(name).display().to_string();
    let asked = "      - query: { name: who is in readers, sql: \"select string_agg(member::regrole || ' by ' || \
         grantor::regrole, ', ' order by member::regrole::text) from pg_auth_members where roleid = 'readers'::regrole\", expect: \
         'alice by boss, bob by alice' }\n      \
         - query: { name: who began, sql: \"select rolname from pg_authid where oid = 10\", expect: boss }\n";
    for (kind, source, major) in [
        ("pg_dumpall", format!("path: {}", file("cluster.sql")), 17),
        ("pg_dump", format!("path: {}, globals: {}", file("shop.dump"), file("globals.sql")), 18),
    ] {
        let text = format!(
            "version: 1\ndrills:\n  - name: boss\n    source: {{ {kind}: {{ {source} }} }}\n    scope: cluster\n    \
             expect: {{ databases: [shop], roles: [boss, alice, bob, readers] }}\n    \
             postgres: {{ major: {major}, image: \"pgdrill-postgres:{{major}}\" }}\n    checks:\n{asked}"
        );
        let ran = Program::new().drill(&text, &[]).expect(0);
        assert!(ran.folded().contains("300 rows as dumped"), "{}", ran.stdout);
        // What the drill needs itself is not taken for something that came back.
        let stood_in = text.replace("roles: [boss,", "roles: [postgres, boss,");
        let ran = Program::new().drill(&stood_in, &[]).expect(1);
        assert!(ran.folded().contains("postgres"), "{}", ran.stdout);
    }
}

const MAKE_POSTGIS: &str = r#"
initdb -D /tmp/data -A trust -U postgres -E UTF8 --locale=C --no-sync >/dev/null
pg_ctl -D /tmp/data -w -o "-c listen_addresses= -c unix_socket_directories=/tmp -c fsync=off" -l /tmp/log start >/dev/null
export PGHOST=/tmp PGUSER=postgres
createdb places
psql -qX -v ON_ERROR_STOP=1 places <<'SQL'
create extension postgis;
create extension postgis_topology;
create extension postgis_tiger_geocoder cascade;
create table public.place (id int primary key, at geometry(Point, 4326), around geography);
insert into public.place
  select g, st_setsrid(st_point(g, g / 2.0), 4326), st_buffer(st_point(g, g / 2.0)::geography, 10)
  from generate_series(1, 50) g;
create index place_at on public.place using gist (at);
insert into public.spatial_ref_sys (srid, auth_name, auth_srid, srtext, proj4text)
  values (990001, 'ours', 1, 'LOCAL_CS["ours"]', '+proj=longlat');
select topology.createtopology('town', 4326);
SQL
pg_dump -Fc -f /out/places.dump places
pg_dump -Fp -f /out/places.sql places
chmod -R a+rX /out/*
"#;

/// PostGIS brings rows of its own, and takes more from the dump: nothing of that is a difference.
#[test]
fn a_postgis_database_comes_back_where_the_server_has_it() {
    let out = made_in("pgdrill-postgis:15", MAKE_POSTGIS);
    for file in ["places.dump", "places.sql"] {
        let path = out.path().join(file).display().to_string();
        let text = scenario("pg_dump", "", 15, "").replace(&fixture("").display().to_string(), &path);
        let with = text.replace("pgdrill-postgres:", "pgdrill-postgis:");
        let more = "      - query: { name: places are where they were, sql: \"select count(*) from place where \
             st_x(at) = id\", expect: 50 }\n";
        let ran = Program::new().drill(&format!("{with}{more}"), &[]).expect(0);
        assert!(ran.folded().contains("rows as dumped"), "{}", ran.stdout);
        let ran = Program::new().drill(&text, &[]).expect(3);
        let told = ran.folded();
        assert!(told.contains("it lacks") && told.contains("postgis"), "{told}");
    }
}
