use super::*;
use crate::check::Table;
use crate::format::counted::{LargeObjectData, RowCount, TableData};
use crate::format::promised::Object;
use crate::format::{Compression, plain::Scanner};

fn contents(sql: &str) -> Contents {
    let mut scanner = Scanner::default();
    scanner.push(sql.as_bytes());
    scanner.finish(Compression::None).expect("whole").contents
}

fn promise(contents: &Contents) -> Promise<'_> {
    Promise {
        contents,
        promised: contents.promised.as_ref().expect("always"),
        counted: None,
        is_dump: false,
        is_text: true,
        database: "shop",
        with_owners: true,
        from_major: Some(15),
        refusals: Vec::new(),
        more_refusals: false,
        after: false,
    }
}

fn table(rows: &[&[&str]]) -> Answer {
    let value = |it: &&str| (*it != "NULL").then(|| (*it).to_owned());
    let rows: Vec<Vec<Option<String>>> = rows.iter().map(|row| row.iter().map(value).collect()).collect();
    Answer::Rows(Table { columns: Vec::new(), total: rows.len() as u64, rows })
}

/// Asks everything of a script: the answer to the first question that holds a part of SQL, else no rows.
fn asked(promise: &Promise<'_>, script: &[(&str, Answer)]) -> Vec<(&'static str, Finding)> {
    let mut answers = Vec::new();
    for group in Group::ALL {
        let mut known = Vec::new();
        loop {
            let probes = promise.probes(group, &known);
            if probes.is_empty() {
                break;
            }
            for probe in probes {
                let scripted = script.iter().find(|it| probe.sql.contains(it.0)).map(|it| it.1.clone());
                known.push(scripted.unwrap_or_else(|| table(&[])));
            }
        }
        answers.push(known);
    }
    let answers: Vec<&[Answer]> = answers.iter().map(Vec::as_slice).collect();
    promise.judge(&answers).into_iter().map(|it| (it.name, it.judged.finding)).collect()
}

const TWO: &str =
    "CREATE TABLE s.a (); CREATE TABLE s.b (); COPY s.a FROM stdin;\n\n\n\\.\nCOPY s.b FROM stdin;\n\n\\.\n";
const TWO_ARE_THERE: (&str, &[&[&str]]) =
    ("relispartition", &[&["0", "r", "false", "NULL", "NULL"], &["1", "r", "false", "NULL", "NULL"]]);

fn held(observed: &str) -> Finding {
    Finding::Held { observed: observed.to_owned() }
}

#[test]
fn rows_are_compared_with_what_the_dump_holds() {
    let contents = contents(TWO);
    let there = (TWO_ARE_THERE.0, table(TWO_ARE_THERE.1));
    let found = asked(&promise(&contents), &[there.clone(), ("count(*)", table(&[&["0", "2"], &["1", "1"]]))]);
    let expected =
        [("promise: objects", held("2 objects as dumped")), ("promise: state", held("2 declared states as dumped"))];
    assert_eq!(found, [&expected[..], &[("promise: rows", held("3 rows as dumped"))]].concat());
    let found = asked(&promise(&contents), &[there, ("count(*)", table(&[&["0", "1"], &["1", "1"]]))]);
    let observed = "s.a has 1 row, the dump holds 2".to_owned();
    assert_eq!(found[2].1, Finding::Broken { expected: "1 row as dumped".to_owned(), observed });
}

#[test]
fn a_table_that_cannot_be_read_is_named_and_the_others_are_still_counted() {
    let contents = contents(TWO);
    let damaged = Answer::Refused { sqlstate: "XX001".to_owned(), message: "invalid page".to_owned(), hint: None };
    let script = [
        (TWO_ARE_THERE.0, table(TWO_ARE_THERE.1)),
        (" union all ", damaged.clone()),
        ("only \"s\".\"a\"", damaged),
        ("only \"s\".\"b\"", table(&[&["1", "1"]])),
    ];
    let found = asked(&promise(&contents), &script);
    let Finding::Broken { observed, .. } = &found[2].1 else { panic!("{found:?}") };
    assert_eq!(observed, "table s.a cannot be read: error XX001: invalid page");
}

#[test]
fn a_server_that_gives_no_answer_breaks_nothing() {
    let contents = contents(TWO);
    let silent = Answer::Silent { because: "there was no answer within 2 h".to_owned() };
    let found = asked(&promise(&contents), &[(TWO_ARE_THERE.0, table(TWO_ARE_THERE.1)), ("count(*)", silent.clone())]);
    assert!(matches!(&found[2].1, Finding::Unknown { because } if because.contains("no answer")), "{found:?}");
    let found = asked(&promise(&contents), &[("relkind in ('r', 'p')", silent)]);
    assert!(matches!(&found[0], ("promise: objects", Finding::Unknown { .. })), "{found:?}");
}

#[test]
fn what_an_error_of_the_restore_explains_is_left_to_that_error() {
    let contents = contents("CREATE TABLE s.a (); CREATE TABLE s.ab ();");
    let mut promise = promise(&contents);
    let gone =
        [("relkind in ('r', 'p')", table(&[&["0", "f", "NULL", "NULL", "f"], &["1", "f", "NULL", "NULL", "f"]]))];
    promise.refusals.push("CREATE TABLE s.a ()\ntype \"x\" does not exist".to_owned());
    let found = asked(&promise, &gone);
    assert!(matches!(&found[0].1, Finding::Broken { observed, .. } if observed == "missing: table s.ab"), "{found:?}");
    assert!(matches!(found.last(), Some(("promise: refused objects", Finding::Broken { .. }))), "{found:?}");
    promise.more_refusals = true;
    assert!(matches!(&asked(&promise, &gone)[0].1, Finding::Unknown { .. }));
}

#[test]
fn rows_that_go_through_a_partition_root_are_compared_at_the_root() {
    let sql = "CREATE TABLE s.r () PARTITION BY LIST (x); CREATE TABLE s.p PARTITION OF s.r DEFAULT;\n\
         COPY s.p FROM stdin;\n1\n\\.\nCOPY s.r FROM stdin;\n1\n1\n\\.\n";
    let contents = contents(sql);
    let script = [
        ("relispartition", table(&[&["0", "r", "false", "s", "r"], &["1", "p", "false", "NULL", "NULL"]])),
        ("count(*)::text from \"s\".\"r\"", table(&[&["0", "3"]])),
    ];
    let found = asked(&promise(&contents), &script);
    assert_eq!(found.last(), Some(&("promise: rows", held("3 rows as dumped"))));
}

#[test]
fn an_extensions_own_rows_may_be_more_and_rows_without_their_table_cannot_be_told() {
    let contents = contents("COPY public.spatial_ref_sys FROM stdin;\n1\n\\.\n");
    let member = |it: &str| ("relispartition", table(&[&["0", "r", it, "NULL", "NULL"]]));
    let found = asked(&promise(&contents), &[member("true"), ("count(*)", table(&[&["0", "8500"]]))]);
    assert_eq!(found, [("promise: rows", held("1 row as dumped"))]);
    let dump = Promise { is_dump: true, ..promise(&contents) };
    let found = asked(&dump, &[member("false"), ("count(*)", table(&[&["0", "1"]]))]);
    assert!(
        matches!(&found[..], [("promise: rows", Finding::Unknown { because })] if because.contains("and not the table"))
    );
}

#[test]
fn uncounted_tables_are_a_finding_beside_counted_ones_and_unknown_alone() {
    let both = contents(&format!("{TWO}INSERT INTO s.b VALUES (1) ON CONFLICT DO NOTHING;"));
    let there = (TWO_ARE_THERE.0, table(TWO_ARE_THERE.1));
    let found = asked(&promise(&both), &[there, ("count(*)", table(&[&["0", "2"]]))]);
    assert_eq!(found[2], ("promise: rows", held("2 rows as dumped")));
    assert!(matches!(&found[3], ("promise: rows not told", Finding::Unknown { because }) if because.contains("s.b")));
    let alone = contents("CREATE TABLE s.b (); INSERT INTO s.b VALUES (1) ON CONFLICT DO NOTHING;");
    let there = [("relispartition", table(&[&["0", "r", "false", "NULL", "NULL"]]))];
    let dump = Promise { is_dump: true, ..promise(&alone) };
    let found = asked(&dump, &there);
    assert!(matches!(found.last(), Some(("promise: rows", Finding::Unknown { .. }))), "{found:?}");
    // A script kept by hand may fill its tables as it likes.
    let found = asked(&promise(&alone), &there);
    assert!(matches!(found.last(), Some(("promise: rows not told", Finding::Unknown { .. }))), "{found:?}");
}

#[test]
fn a_script_of_the_scenario_may_have_changed_rows_but_not_lost_tables() {
    let contents = contents(TWO);
    let promise = Promise { after: true, ..promise(&contents) };
    let script = [
        (TWO_ARE_THERE.0, table(TWO_ARE_THERE.1)),
        ("count(*)", table(&[&["0", "1"], &["1", "1"]])),
        ("relkind in ('r', 'p')", table(&[&["1", "f", "NULL", "NULL", "f"]])),
    ];
    let found = asked(&promise, &script);
    assert!(matches!(&found[0].1, Finding::Broken { .. }), "{found:?}");
    assert!(matches!(&found[2].1, Finding::Unknown { because } if because.contains("s.a has 1 row")), "{found:?}");
}

#[test]
fn a_dump_of_nothing_keeps_its_promise_and_a_script_of_nothing_has_none() {
    let contents = contents("SET x = 1;");
    let dump = Promise { is_dump: true, ..promise(&contents) };
    assert_eq!(asked(&dump, &[]), [("promise: objects", held("the dump holds nothing, and nothing is missing"))]);
    assert_eq!(asked(&promise(&contents), &[]), []);
}

#[test]
fn large_objects_are_compared_by_count_bytes_and_owner() {
    let sql = "-- Name: 1; Type: BLOB; Schema: -; Owner: r\nSELECT pg_catalog.lo_create('1');";
    let contents = contents(sql);
    let counted = Counted { tables: Vec::new(), large_objects: Some(LargeObjectData { count: 1, bytes: 7 }) };
    let promise = Promise { counted: Some(&counted), ..promise(&contents) };
    for (totals, owner, expect) in [
        (["1", "7"], "r", None),
        (["0", "0"], "r", Some("0 large objects are there, the dump holds 1")),
        (["1", "6"], "r", Some("large objects have 6 bytes, the dump holds 7")),
        (["1", "7"], "x", Some("0 large objects belong to r, in the dump 1")),
    ] {
        let found = asked(&promise, &[("sum(length(data))", table(&[&totals])), ("lomowner", table(&[&[owner, "1"]]))]);
        let observed = match &found[0].1 {
            Finding::Broken { observed, .. } => Some(observed.as_str()),
            Finding::Held { .. } | Finding::Unknown { .. } => None,
        };
        assert_eq!((found[0].0, observed), ("promise: large objects", expect));
    }
}

#[test]
fn a_hundred_thousand_objects_are_few_questions() {
    let mut contents = Contents::default();
    let object = |number: usize| Object {
        kind: [Kind::Table, Kind::Index][number % 2],
        database: None,
        schema: "shop".to_owned(),
        name: format!("a_name_of_usual_length_{number}"),
        of: String::new(),
        owner: Some("shop_owner".to_owned()),
        state: None,
        comment: false,
        label: false,
    };
    let promised = Promised { objects: (0..100_000).map(object).collect(), ..Promised::default() };
    let counted = Counted {
        tables: (0..100_000)
            .step_by(2)
            .map(|it| TableData {
                database: None,
                schema: "shop".to_owned(),
                name: format!("a_name_of_usual_length_{it}"),
                rows: RowCount::Exactly(1),
                bytes: 10,
            })
            .collect(),
        large_objects: None,
    };
    contents.promised = Some(promised);
    let promise = Promise { counted: Some(&counted), ..promise(&contents) };
    assert_eq!(promise.probes(Group::Objects, &[]).len(), 26);
    let described = promise.probes(Group::Rows, &[]);
    assert_eq!(described.len(), 13);
    let all =
        |at: usize| (0..BATCH_OF_ROWS.min(50_000 - at * BATCH_OF_ROWS)).map(|it| it.to_string()).collect::<Vec<_>>();
    let answer = |at: usize| {
        let rows =
            all(at).into_iter().map(|it| [it.as_str(), "r", "false"].map(|it| Some(it.to_owned())).to_vec()).collect();
        Answer::Rows(Table { columns: Vec::new(), rows, total: 0 })
    };
    let known: Vec<Answer> = (0..13).map(answer).collect();
    assert_eq!(promise.probes(Group::Rows, &known).len(), 250);
    let size = serde_json::to_string(&promise.promised).expect("serialises").len();
    assert!(size < 16 << 20, "{size} bytes");
}

const BATCH_OF_ROWS: usize = 4000;

#[test]
fn entries_that_are_not_understood_are_a_finding_and_never_held() {
    let contents = contents(
        "-- Name: x; Type: PROPERTY GRAPH; Schema: s; Owner: r\nCREATE PROPERTY GRAPH s.x VERTEX TABLES (s.t);\n",
    );
    let found = asked(&promise(&contents), &[]);
    let [("promise: not examined", Finding::Unknown { because })] = &found[..] else { panic!("{found:?}") };
    assert!(because.ends_with("1 PROPERTY GRAPH"), "{because}");
}

#[test]
fn names_are_found_only_as_a_whole() {
    assert!(mentions("CREATE TABLE s.a ()", "a") && mentions("\"a\"", "a"));
    assert!(!mentions("CREATE TABLE s.ab ()", "a") && !mentions("a_b", "b"));
}
