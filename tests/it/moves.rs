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

fn folded(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_lower_major_is_refused_before_anything_is_made() {
    for path in ["pg15/shop.dump", "pg15/shop.sql", "pg15/shop.dir"] {
        let ran = Program::new().drill(&scenario("pg_dump", path, 13, ""), &[]).expect(3);
        let text = folded(&ran.stdout);
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
        let text = folded(&ran.stdout);
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
    let text = folded(&ran.stdout);
    assert!(text.contains("its format version 1.16 needs the pg_restore of PostgreSQL 17 or newer"), "{text}");
}

/// Every major keeps them within the data directory, and objects are asserted to lie where the dump says.
#[test]
fn tablespaces_lie_within_the_sandbox_and_are_used() {
    for major in [15, 17, 18] {
        let ran =
            Program::new().drill(&scenario("pg_dump", "found/pg_dump-15-tablespaces.sql", major, ""), &[]).expect(0);
        let text = folded(&ran.stdout);
        assert!(text.contains("tablespaces that the dump needs and does not carry: fast, slow"), "{text}");
        let checks = "    expect: { databases: [shop, postgres], tablespaces: [fast] }\n    scope: cluster\n";
        let path = "found/pg_dumpall-managed.sql";
        let ran = Program::new().drill(&scenario("pg_dumpall", path, major, checks), &[]).expect(0);
        let text = folded(&ran.stdout);
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
