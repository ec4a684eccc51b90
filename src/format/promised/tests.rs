use super::*;
use crate::format::Compression;
use crate::format::plain::Scanner;

fn promised(sql: &str) -> Promised {
    let mut scanner = Scanner::default();
    scanner.push(sql.as_bytes());
    scanner.finish(Compression::None).expect("whole").contents.promised.expect("always")
}

/// `kind name [state] [owner] [comment] [label]` of each object.
fn words(sql: &str) -> Vec<String> {
    let promised = promised(sql);
    let words = promised.objects.iter().map(|it| {
        let state = it.state.as_ref().map(|it| format!(" [{}]", it.replace('\n', ","))).unwrap_or_default();
        let owner = it.owner.as_ref().map(|it| format!(" of {it}")).unwrap_or_default();
        let marks = [(it.comment, " commented"), (it.label, " labelled")];
        let marks: String = marks.iter().filter(|it| it.0).map(|it| it.1).collect();
        format!("{}{state}{owner}{marks}", it.words())
    });
    words.collect()
}

#[test]
fn statements_promise_what_they_make() {
    let cases: &[(&str, &[&str])] = &[
        ("CREATE SCHEMA s; CREATE SCHEMA AUTHORIZATION r;", &["schema s", "schema r"]),
        (
            "CREATE TABLE s.\"T 1\" (a int CONSTRAINT pos CHECK (a > 0) NOT NULL, b text CONSTRAINT nn NOT NULL, \
             CONSTRAINT u UNIQUE (a, b)) INHERITS (s.p, q);",
            &[
                "table s.T 1 [permanent]",
                "constraint s.T 1.pos [valid]",
                "constraint s.T 1.u [valid]",
                "parent of s.T 1: s.p",
                "parent of s.T 1: public.q",
            ],
        ),
        ("CREATE TEMP TABLE t (); CREATE TEMPORARY VIEW v AS SELECT 1;", &[]),
        ("CREATE UNLOGGED TABLE s.t ();", &["table s.t [unlogged]"]),
        (
            "CREATE TABLE s.c PARTITION OF s.p FOR VALUES IN (1); ALTER TABLE ONLY s.p ATTACH PARTITION s.d DEFAULT;",
            &["table s.c [permanent]", "parent of s.c: s.p", "parent of s.d: s.p"],
        ),
        (
            "CREATE UNIQUE INDEX i ON s.t USING btree (a); CREATE INDEX j ON ONLY s.p (a); ALTER INDEX s.j ATTACH PARTITION s.i;",
            &["index s.i [valid]", "index s.j", "parent of s.i: s.j"],
        ),
        (
            "ALTER TABLE ONLY s.t ADD CONSTRAINT pk PRIMARY KEY (a); ALTER TABLE s.t ADD CONSTRAINT c CHECK (a > 0) NOT VALID;",
            &["constraint s.t.pk [valid]", "constraint s.t.c"],
        ),
        (
            "CREATE TRIGGER g BEFORE UPDATE OF a ON s.t FOR EACH ROW EXECUTE FUNCTION f(); ALTER TABLE s.t DISABLE TRIGGER g; \
             ALTER TABLE s.t DISABLE TRIGGER ALL;",
            &["trigger s.t.g [D]"],
        ),
        ("CREATE RULE r AS ON INSERT TO s.v DO INSTEAD NOTHING;", &["rule s.v.r [O]"]),
        ("CREATE TABLE s.v (a int); CREATE RULE \"_RETURN\" AS ON SELECT TO s.v DO INSTEAD SELECT 1;", &["view s.v"]),
        (
            "CREATE MATERIALIZED VIEW s.m AS SELECT 1 WITH NO DATA; CREATE MATERIALIZED VIEW s.n AS SELECT 1 WITH NO DATA; \
             REFRESH MATERIALIZED VIEW s.m;",
            &["materialized view s.m [populated]", "materialized view s.n"],
        ),
        ("CREATE TYPE s.e AS ENUM ('a', 'b''c');", &["type s.e [a,b'c]"]),
        ("CREATE DOMAIN s.d AS int CONSTRAINT c CHECK (VALUE > 0);", &["domain s.d", "constraint s.d.c [valid]"]),
        (
            "ALTER TABLE s.t ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (SEQUENCE NAME s.q START WITH 1); \
             ALTER TABLE ONLY s.t ALTER COLUMN b SET DEFAULT 1; ALTER TABLE ONLY s.t ALTER COLUMN c SET DEFAULT NULL;",
            &["identity of column s.t.id", "sequence s.q", "default of column s.t.b"],
        ),
        (
            "ALTER TABLE s.t ENABLE ROW LEVEL SECURITY; ALTER TABLE ONLY s.t FORCE ROW LEVEL SECURITY; CREATE POLICY p ON s.t USING (true);",
            &["row security of s.t", "row security of s.t", "policy s.t.p"],
        ),
        (
            "CREATE PUBLICATION p WITH (publish = 'insert'); ALTER PUBLICATION p ADD TABLE ONLY s.t; \
             ALTER PUBLICATION p ADD TABLES IN SCHEMA s;",
            &["publication p", "table of publication p: s.t", "schema of publication p: s"],
        ),
        (
            "CREATE TABLE s.t (a int); COMMENT ON TABLE s.t IS 'x'; COMMENT ON COLUMN s.t.a IS 'y'; COMMENT ON SCHEMA s IS NULL;",
            &["table s.t [permanent] commented", "column s.t.a commented"],
        ),
        ("CREATE TABLE t (a int); DROP TABLE t; CREATE VIEW v AS SELECT 1; DROP VIEW IF EXISTS v CASCADE;", &[]),
        ("DROP TABLE IF EXISTS t; CREATE TABLE t (a int);", &["table public.t [permanent]"]),
        (
            "SET search_path = s, pg_catalog; CREATE TABLE t (); ALTER TABLE t OWNER TO \"R\";",
            &["table s.t [permanent] of R"],
        ),
        (
            "-- Name: f(integer); Type: FUNCTION; Schema: s; Owner: r\nCREATE FUNCTION s.f(a integer DEFAULT 1) RETURNS int AS $$;$$;\n\
             -- Name: FUNCTION f(a integer); Type: COMMENT; Schema: s; Owner: r\nCOMMENT ON FUNCTION s.f(a integer) IS 'x';\n",
            &["function s.f(integer) of r commented"],
        ),
        ("-- Name: t; Type: TABLE; Schema: s; Owner: -\nCREATE TABLE s.t ();", &["table s.t [permanent]"]),
        (
            "CREATE TABLE s.t (a int); SECURITY LABEL FOR anon ON COLUMN s.t.a IS 'MASKED'; SECURITY LABEL ON TABLE s.t IS 'x';",
            &["table s.t [permanent] labelled", "column s.t.a labelled"],
        ),
        (
            "-- Name: TRANSFORM FOR integer LANGUAGE sql; Type: TRANSFORM; Schema: -; Owner: -\n\
             CREATE TRANSFORM FOR integer LANGUAGE sql (FROM SQL WITH FUNCTION pg_catalog.prsd_lextype(internal));",
            &["transform FOR integer LANGUAGE sql"],
        ),
    ];
    for (sql, expect) in cases {
        assert_eq!(words(sql), *expect, "{sql}");
    }
}

#[test]
fn grants_are_followed_to_what_they_leave() {
    let cases: &[(&str, &str)] = &[
        ("GRANT SELECT, INSERT ON TABLE s.t TO a;", "s.t: a +INSERT+SELECT"),
        ("GRANT ALL ON s.t TO PUBLIC WITH GRANT OPTION;", "s.t:  +ALL*"),
        ("REVOKE ALL ON TABLE s.t FROM a; GRANT SELECT ON TABLE s.t TO a;", "s.t: a +SELECT-ALL"),
        ("GRANT SELECT ON TABLE s.t TO a; REVOKE SELECT ON TABLE s.t FROM a;", "s.t: a -SELECT"),
        ("GRANT SELECT(c), UPDATE(c) ON TABLE s.t TO a;", "s.t.c: a +SELECT+UPDATE"),
        ("GRANT ALL ON FUNCTION s.f(x integer, y \"S\".\"T\") TO a;", "s.f.(x integer,y \"S\".\"T\"): a +ALL"),
        ("GRANT USAGE ON SCHEMA public TO a, b;", ".public: a +USAGE; .public: b +USAGE"),
        ("ALTER DEFAULT PRIVILEGES FOR ROLE o IN SCHEMA s GRANT SELECT ON TABLES TO a;", "s.o.tables: a +SELECT"),
        ("GRANT a TO b; GRANT CONNECT ON DATABASE d TO a;", ""),
    ];
    for (sql, expect) in cases {
        let words = promised(sql).grants.into_iter().map(|it| {
            let of = if it.of.is_empty() { String::new() } else { format!(".{}", it.of) };
            let star = |privilege: &String| if it.grantable.contains(privilege) { "*" } else { "" };
            let granted = it
                .granted
                .iter()
                .map(|privilege| format!("+{privilege}{}", star(privilege)))
                .collect::<Vec<_>>()
                .concat();
            let revoked = it.revoked.iter().map(|privilege| format!("-{privilege}")).collect::<Vec<_>>().concat();
            format!("{}.{}{of}: {} {granted}{revoked}", it.schema, it.name, it.role)
        });
        assert_eq!(words.collect::<Vec<_>>().join("; "), *expect, "{sql}");
    }
}

#[test]
fn sequences_stand_where_they_are_set_and_scripts_that_write_otherwise_are_noticed() {
    let sql = "SELECT pg_catalog.setval('s.\"Q\"', 10, true); SELECT setval('q', -3, false); SELECT pg_catalog.setval('s.\"Q\"', 11);";
    let found = promised(sql);
    let words: Vec<_> =
        found.sequences.iter().map(|it| (&*it.schema, &*it.name, it.last_value, it.is_called)).collect();
    assert_eq!(words, [("s", "Q", 11, true), ("public", "q", -3, false)]);
    assert!(!found.other_writes);
    for (sql, expect) in [
        ("DELETE FROM t;", true),
        ("SELECT shop.purge();", true),
        ("DO $$ BEGIN END $$;", true),
        ("SELECT pg_catalog.set_config('search_path', '', false);", false),
        ("SELECT pg_catalog.lo_create('1');", false),
        (
            "-- Name: x; Type: TRIGGER; Schema: s; Owner: r\nCREATE TRIGGER g AFTER INSERT ON t EXECUTE FUNCTION f();",
            false,
        ),
        ("CREATE TRIGGER g AFTER INSERT ON t EXECUTE FUNCTION f();", true),
    ] {
        assert_eq!(promised(sql).other_writes, expect, "{sql}");
    }
}

#[test]
fn what_is_not_understood_is_counted_and_not_promised() {
    let sql = "-- Name: g; Type: PROPERTY GRAPH; Schema: s; Owner: r\nCREATE PROPERTY GRAPH s.g VERTEX TABLES (s.t);\n\
         -- Data for Name: t; Type: TABLE DATA; Schema: s; Owner: r\nCOPY s.t FROM stdin;\n\\.\n";
    let promised = promised(sql);
    assert_eq!((promised.objects.len(), promised.unexamined), (0, BTreeMap::from([("PROPERTY GRAPH".to_owned(), 1)])));
}
