#![expect(clippy::unwrap_used, reason = "tests")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::check::{Count, Expect, Kind, Scalar, Severity, Tolerance};
use crate::format::{Compression, Contents, DumpFacts, DumpFormat, Extension, Table};
use crate::source::{Pick, Roles};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn file(text: &str) -> File {
    File { name: "drills/orders.yaml".to_owned(), text: text.to_owned(), directory: "/srv/drills".to_owned() }
}

/// One drill with this in it, at its own indentation of four.
fn drill_with(rest: &str) -> String {
    format!("version: 1\ndrills:\n  - name: d\n    source: {{ pg_dump: {{ path: a.dump }} }}\n{rest}\n")
}

fn parsed(text: &str, environment: &Environment) -> Vec<Drill> {
    parse(&[file(text)], environment).unwrap_or_else(|problems| panic!("{}\n{text}", rendered(&problems)))
}

fn one(rest: &str) -> Drill {
    parsed(&drill_with(rest), &Environment::default()).remove(0)
}

fn problems(text: &str) -> Vec<Problem> {
    parse(&[file(text)], &Environment::default()).unwrap_err()
}

fn rendered(problems: &[Problem]) -> String {
    problems.iter().map(|it| render(it, false)).collect::<Vec<_>>().join("\n\n")
}

fn environment(vars: &[(&str, &str)], set: &[(&str, &str)]) -> Environment {
    let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Environment { vars: map(vars), set: map(set), seed: 99, ..Environment::default() }
}

#[test]
fn every_bad_file_gives_its_message() {
    let directory = Path::new(ROOT).join("fixtures/scenarios/bad");
    let mut files: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|it| it.unwrap().path()).collect();
    files.retain(|it| it.extension().is_some_and(|it| it == "yaml"));
    files.sort();
    assert!(files.len() >= 30, "only {} files", files.len());
    let update = option_env!("PGDRILL_UPDATE").is_some();
    let mut wrong = String::new();
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let file = File { name, text, directory: "/srv/drills".to_owned() };
        let found = parse(std::slice::from_ref(&file), &environment(&[("HOME", "/root"), ("PGPASSWORD", "hush")], &[]));
        let found = found.map_or_else(|it| rendered(&it), |_| "no problem at all".to_owned()) + "\n";
        let expected = path.with_extension("txt");
        if update {
            fs::write(&expected, &found).unwrap();
        }
        if fs::read_to_string(&expected).unwrap_or_default() != found {
            wrong.extend([&file.name, ":\n", &found, "\n"]);
        }
    }
    assert!(wrong.is_empty(), "not as expected (PGDRILL_UPDATE=1 writes it anew):\n{wrong}");
}

#[test]
fn the_examples_are_valid() {
    let directory = Path::new(ROOT).join("scenarios");
    let mut seen = 0;
    for entry in fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|it| it != "yaml") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let file = File { name: path.display().to_string(), text, directory: directory.display().to_string() };
        let mut environment = environment(&[], &[]);
        for name in files_named(std::slice::from_ref(&file), &environment) {
            environment.texts.insert(name, Ok("code,name\nES,España\nXX,\n".to_owned()));
        }
        let drills = parse(&[file], &environment).unwrap_or_else(|it| panic!("{}", rendered(&it)));
        assert!(drills.iter().all(|it| !it.checks.is_empty()));
        seen += 1;
    }
    assert!(seen >= 3);
}

#[test]
fn a_problem_is_rendered_like_the_compilers() {
    let found = problems("version: 1\ndrills:\n  - name: d\n    timout: 30s\n    source: { pg_dump: { path: a } }\n");
    assert_eq!(
        rendered(&found),
        "error: unknown key `timout`\n --> drills/orders.yaml:4:5\n  |\n4 |     timout: 30s\n  |     ^^^^^^\n  |\n  \
         = help: possible here: `name`, `tags`, `source`, `copies`, `restore_from`, `scope`, `expect`, `target`, `targets`, `runtime`, `restore`, `postgres`, `objectives`, \
         `budgets`, `durability`, `keep`, `ready`, `checks` and `waivers`"
    );
    let found = problems(&drill_with("    objektives: { rto: 1h }"));
    assert_eq!(found[0].label.as_deref(), Some("did you mean `objectives`?"));
    assert!(render(&found[0], true).contains("\u{1b}["));
}

#[test]
fn all_files_are_read_and_names_are_unique_over_them() {
    let good = drill_with("");
    let (mut first, mut second) = (file(&good), file(&good));
    first.name = "a.yaml".to_owned();
    second.name = "b.yaml".to_owned();
    let mut third = file("version: 2\ndrills: 5\n");
    third.name = "c.yaml".to_owned();
    let found = parse(&[first, second, third], &Environment::default()).unwrap_err();
    let lines: Vec<String> = found.iter().map(Problem::line).collect();
    assert_eq!(lines[0], "b.yaml:3:11: two drills are named `d`");
    assert!(found[0].help.as_deref().unwrap().contains("a.yaml:3"));
    assert!(lines[1].starts_with("c.yaml:2:9: expected a list"), "{lines:?}");
}

#[test]
fn a_drill_gets_what_it_says_and_else_the_defaults() {
    let text = "version: 1
defaults:
  runtime: local
  durability: fast
  budgets: { restore: 2h, ready: 1m }
  postgres: { image: 'x:{major}', memory: 2GB }
  restore: { jobs: 8, settings: { max_wal_size: 1GB, work_mem: 4MB } }
drills:
  - name: one
    source: { pg_dump: { path: a.dump } }
  - name: two
    runtime: container
    durability: representative
    source: { pg_dump: { path: a.dump, globals: ../g.sql } }
    budgets: { restore: PT1H }
    postgres: { major: 17, memory: 512MiB }
    restore: { jobs: 2, roles: globals, settings: { Work_Mem: 8MB }, schemas: [shop] }
    objectives: { rto: 1h 30m, rto_overhead: 10m, rto_span: inspect..ready, max_age: 2 days }
  - name: three
    source: { pg_dumpall: { path: /b/all.sql } }
";
    let drills = parsed(text, &Environment::default());
    let [one, two, three] = &drills[..] else { panic!() };
    assert_eq!((one.runtime, two.runtime), (RuntimeChoice::Local, RuntimeChoice::Container));
    assert_eq!((one.durability, two.durability), (Durability::Fast, Durability::Representative));
    assert_eq!((one.restore.jobs, two.restore.jobs, three.restore.jobs), (Some(8), Some(2), None));
    assert_eq!(one.budget(Phase::Restore).as_secs(), 7200);
    assert_eq!((two.budget(Phase::Restore).as_secs(), two.budget(Phase::Ready).as_secs()), (3600, 60));
    assert_eq!((one.postgres.memory_bytes, two.postgres.memory_bytes), (Some(2 << 30), Some(512 << 20)));
    assert_eq!((two.postgres.major, two.postgres.image.as_deref()), (Some(17), Some("x:{major}")));
    assert_eq!(one.restore.settings["work_mem"], "4MB");
    assert_eq!((&*two.restore.settings["work_mem"], &*two.restore.settings["max_wal_size"]), ("8MB", "1GB"));
    assert_eq!(two.restore.roles, Some(Roles::Globals));
    assert_eq!(two.restore.select.schemas, ["shop"]);
    let rto = two.objectives.rto.as_ref().unwrap();
    assert_eq!((rto.limit.as_secs(), rto.overhead.as_secs()), (5400, 600));
    assert_eq!(rto.span, Phase::Inspect..=Phase::Ready);
    assert_eq!(two.objectives.max_age.unwrap().as_secs(), 2 * 86400);
    let Source::PgDump(dump) = &two.source else { panic!() };
    assert_eq!((&*dump.location.path, dump.globals.as_deref()), ("/srv/drills/a.dump", Some("/srv/g.sql")));
    assert_eq!(three.source.location().path, "/b/all.sql");
    assert_eq!((one.line, three.line), (Some(9), Some(19)));
}

#[test]
fn a_backup_is_picked_as_it_is_said() {
    for (pick, expected) in [
        ("", Pick::Newest),
        (", pick: newest", Pick::Newest),
        (", pick: oldest", Pick::Oldest),
        (", pick: all", Pick::All),
        (", pick: random", Pick::Random { seed: 99 }),
        (", pick: { random: 7 }", Pick::Random { seed: 7 }),
    ] {
        let text = format!("version: 1\ndrills: [{{ name: d, source: {{ pg_dump: {{ path: 'a*'{pick} }} }} }}]");
        let drill = parsed(&text, &environment(&[], &[])).remove(0);
        assert_eq!(drill.source.location().pick, expected, "{pick}");
    }
}

#[test]
fn expectations_are_read_as_they_are_meant() {
    let equals = |text: &str| Expect::Scalar(Scalar::Equals(text.to_owned()));
    let scalar = Expect::Scalar;
    for (written, expected) in [
        ("empty", Expect::Empty),
        ("not empty", Expect::NotEmpty),
        ("null", scalar(Scalar::IsNull)),
        ("~", scalar(Scalar::IsNull)),
        ("not null", scalar(Scalar::NotNull)),
        ("5", equals("5")),
        ("1.50", equals("1.50")),
        ("0x1F", equals("0x1F")),
        ("true", equals("true")),
        ("2026-11-22", equals("2026-11-22")),
        ("{ equals: empty }", equals("empty")),
        ("{ equals: null }", scalar(Scalar::IsNull)),
        ("{ not: null }", scalar(Scalar::NotNull)),
        ("{ not: 3 }", scalar(Scalar::NotEquals("3".into()))),
        ("{ '<': 3 }", scalar(Scalar::Less("3".into()))),
        ("{ <=: 3 }", scalar(Scalar::AtMost("3".into()))),
        ("{ '>': 3 }", scalar(Scalar::Greater("3".into()))),
        ("{ '>=': 3 }", scalar(Scalar::AtLeast("3".into()))),
        ("{ between: [1, 10] }", scalar(Scalar::Between("1".into(), "10".into()))),
        ("{ matches: '^R-\\d+$' }", scalar(Scalar::Matches("^R-\\d+$".into()))),
    ] {
        let drill = one(&format!("    checks:\n      - query: {{ name: q, sql: select 1, expect: {written} }}"));
        let Kind::Query(query) = &drill.checks[0].kind else { panic!() };
        assert_eq!(query.expect, expected, "{written}");
    }
}

#[test]
fn tables_to_compare_with_come_from_the_file_or_from_beside_it() {
    let text = drill_with(
        "    checks:\n      - query: { name: a, sql: select 1, expect: { rows: [[1, null], [x, 'null']], ordered: true } }\n      \
         - query: { name: b, sql: select 1, expect: { rows_file: t.csv } }",
    );
    assert_eq!(files_named(&[file(&text)], &Environment::default()), ["/srv/drills/t.csv"]);
    let csv = "\u{feff}id,\"a \"\"name\"\"\"\r\n1,\r\n2,\"\"\r\n\r\n3,\"x,\ny\"";
    let mut environment = Environment::default();
    environment.texts.insert("/srv/drills/t.csv".to_owned(), Ok(csv.to_owned()));
    let drill = parsed(&text, &environment).remove(0);
    let table = |at: usize| {
        let Kind::Query(query) = &drill.checks[at].kind else { panic!() };
        let Expect::Rows { rows, ordered } = &query.expect else { panic!() };
        (rows.clone(), *ordered)
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(table(0).0.rows, [[some("1"), None], [some("x"), some("null")]]);
    assert!(table(0).1);
    let (table, ordered) = table(1);
    assert_eq!(table.columns, ["id", "a \"name\""]);
    assert_eq!(table.rows, [[some("1"), None], [some("2"), some("")], [some("3"), some("x,\ny")]]);
    assert_eq!((table.total, ordered), (3, false));

    for (csv, why) in [
        (Err("no such file".to_owned()), "no such file"),
        (Ok(String::new()), "it is empty"),
        (Ok("a,b\n1\n".to_owned()), "line 2 has 1 fields"),
        (Ok("a\n\"x\n".to_owned()), "line 2: a quote that is not closed"),
    ] {
        environment.texts.insert("/srv/drills/t.csv".to_owned(), csv);
        let found = parse(&[file(&text)], &environment).unwrap_err();
        assert!(found.len() == 1 && found[0].message.contains(why), "{found:?}");
    }
}

#[test]
fn checks_have_stable_names_of_their_own() {
    let drill = one("    checks:
      - rows: { table: shop.orders, min: 1 }
      - rows: { table: only shop.orders, equals: 1_000, tolerance: 5%, severity: critical, timeout: 1h }
      - rows: { table: shop.orders, equals: 7, tolerance: 2, name: rows in shop.orders (2) }
      - rows: { table: shop.orders, max: 3, where: \"state =\\n 'open'\", as: me, database: db }
      - exists: { schemas: [shop], extensions: [uuid-ossp, { postgis: 3.5 }] }");
    let names: Vec<&str> = drill.checks.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "rows in shop.orders",
            "rows in shop.orders (3)",
            "rows in shop.orders (2)",
            "rows in shop.orders where state = 'open'",
            "objects exist"
        ]
    );
    let counts: Vec<&Count> = drill
        .checks
        .iter()
        .filter_map(|it| if let Kind::Rows(rows) = &it.kind { Some(&rows.expect) } else { None })
        .collect();
    assert_eq!(*counts[0], Count::Range { min: Some(1), max: None });
    assert_eq!(*counts[1], Count::Equals { rows: 1000, tolerance: Tolerance::Percent(5.0) });
    assert_eq!(*counts[2], Count::Equals { rows: 7, tolerance: Tolerance::Rows(2) });
    let check = &drill.checks[1];
    assert_eq!((check.severity, check.timeout.as_secs(), check.line), (Severity::Critical, 3600, Some(7)));
    let check = &drill.checks[3];
    assert_eq!(
        (check.role.as_deref(), check.database.as_deref(), check.severity),
        (Some("me"), Some("db"), Severity::Major)
    );
    let Kind::Exists(exists) = &drill.checks[4].kind else { panic!() };
    assert_eq!(exists.extensions["uuid-ossp"], None);
    assert_eq!(exists.extensions["postgis"].as_deref(), Some("3.5"));
}

#[test]
fn variables_are_filled_from_set_then_from_the_environment() {
    let text = drill_with(
        "    tags: ['${A}', \"x${B}y\", '${C:-c}', '${EMPTY:-e}', '$${A}', '$1 $$ $', '${A}${B}']\n    \
         restore: { jobs: '${N}' }\n    postgres:\n      major: ${N}",
    );
    let environment = environment(&[("A", "env"), ("B", "b\"\n: ["), ("EMPTY", ""), ("N", "14")], &[("A", "set")]);
    let drill = parsed(&text, &environment).remove(0);
    assert_eq!(drill.tags, ["set", "xb\"\n: [y", "c", "e", "${A}", "$1 $$ $", "setb\"\n: ["]);
    assert_eq!(drill.restore.jobs, Some(14));
    assert_eq!(drill.postgres.major, Some(14));
    let found = problems(&drill_with("    restore: { jobs: ${N} }"));
    assert!(found[0].help.as_deref().unwrap().contains("needs quotes"), "{found:?}");
}

#[test]
fn a_value_put_in_is_not_filled_again_and_is_never_yaml() {
    let environment = environment(&[("A", "${B}"), ("B", "no")], &[]);
    assert_eq!(parsed(&drill_with("    tags: ['${A}']"), &environment)[0].tags, ["${B}"]);
}

#[test]
fn sizes_and_lengths_are_read_as_people_write_them() {
    for (text, bytes) in [
        ("2GB", 2u64 << 30),
        ("2g", 2 << 30),
        ("512MiB", 512 << 20),
        ("1.5 GB", 3 << 29),
        ("1048576", 1 << 20),
        ("2048 kB", 2 << 20),
        ("1T", 1 << 40),
    ] {
        assert_eq!(units::size(text), Ok(bytes), "{text}");
    }
    for text in ["", "GB", "2 apples", "1", "-1GB", "1e400", "2 000 MB", "9999999999TB", "1.2.3GB"] {
        assert!(units::size(text).is_err(), "{text}");
    }
    for (text, seconds) in [
        ("30m", 1800),
        ("1h 30m", 5400),
        ("90s", 90),
        ("26h", 93600),
        ("2 days", 172_800),
        ("PT1H", 3600),
        ("1 week", 604_800),
    ] {
        assert_eq!(units::length(text).map(|it| it.as_secs()), Ok(seconds), "{text}");
    }
    for text in ["", "30", "0s", "-5m", "1 month", "soon", "P1Y", "1h ago"] {
        assert!(units::length(text).is_err(), "{text}");
    }
}

#[test]
fn drills_are_selected_by_tag_and_by_name() {
    let text = "version: 1
drills:
  - { name: shop-a, tags: [x, y], source: { pg_dump: { path: a } } }
  - { name: shop-b, tags: [y], source: { pg_dump: { path: a } } }
  - { name: 'c[1]', source: { pg_dump: { path: a } } }
";
    let drills = parsed(text, &Environment::default());
    let names = |tags: &[&str], names: &[&str]| -> Vec<String> {
        let owned = |it: &[&str]| it.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        select(drills.clone(), &owned(tags), &owned(names)).unwrap().into_iter().map(|it| it.name).collect()
    };
    assert_eq!(names(&[], &[]).len(), 3);
    assert_eq!(names(&["y"], &[]), ["shop-a", "shop-b"]);
    assert_eq!(names(&["x", "z"], &[]), ["shop-a"]);
    assert_eq!(names(&["y"], &["*-b"]), ["shop-b"]);
    assert_eq!(names(&[], &["c[1]"]), ["c[1]"]);
    assert!(names(&[], &["nobody"]).is_empty());
    assert!(select(drills.clone(), &[], &["[".to_owned()]).is_err());
}

#[test]
fn nothing_that_can_be_written_makes_parsing_panic() {
    let good = fs::read_to_string(Path::new(ROOT).join("scenarios/pg_dump.yaml")).unwrap();
    for end in (0..good.len()).step_by(41).filter(|it| good.is_char_boundary(*it)) {
        let _ = parse(&[file(&good[..end])], &Environment::default()).map_err(|it| rendered(&it));
    }
    for text in [
        "",
        "\u{feff}",
        "~",
        "[]",
        "{}",
        "5",
        "a: b: c",
        "drills: [[]]",
        "version: {}\ndrills: [{}, ~, 5, [x]]",
        "? {a: b}\n: c",
        "drills:\n  - checks: [rows, {}, {rows: ~}, {rows: {}, query: {}}, [], 7]\n    name: [a]\n    source: {}\n",
        "&a [*a]",
        "a: *b",
        "\t",
        "é: 'ü\n",
        "drills: &x [*x]",
        "version: 99999999999999999999\ndrills: []",
        "%YAML 9.9\n---\na: 1",
        "\0",
        "a: \"\\0\"",
    ] {
        let found = parse(&[file(text)], &Environment::default()).unwrap_err();
        assert!(!found.is_empty() && !rendered(&found).is_empty(), "{text}");
    }
}

#[test]
fn aliases_cannot_blow_up() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for depth in 1..9 {
        let before = depth - 1;
        writeln!(text, "a{depth}: &a{depth} [{}]", vec![format!("*a{before}"); 10].join(", ")).unwrap();
    }
    let found = problems(&text);
    assert!(found.len() == 1 && found[0].message.contains("too much in one file"), "{found:?}");
}

#[test]
fn the_schema_is_of_the_2020_draft_and_describes_every_key() {
    let schema = schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let definitions = schema["$defs"].as_object().unwrap();
    for (name, definition) in definitions.iter().map(|(name, it)| (name.as_str(), it)).chain([("root", &schema)]) {
        let Some(properties) = definition["properties"].as_object() else { continue };
        assert_eq!(definition["additionalProperties"], false, "{name}");
        for (key, property) in properties {
            assert!(property["description"].is_string(), "{name}.{key}");
        }
    }
    for name in ["Drill", "PgDump", "Rows", "Query", "Exists", "Expect", "Objectives"] {
        assert!(definitions.contains_key(name), "{name}: {:?}", definitions.keys());
    }
    assert_eq!(definitions["Restore"]["properties"]["jobs"]["type"], "integer");
}

fn facts(format: DumpFormat, tables: Vec<Table>) -> DumpFacts {
    DumpFacts {
        format,
        wrapped: Compression::None,
        sealed: false,
        archive_version: None,
        archive_compression: None,
        created: Some("2026-11-22 03:00:00".to_owned()),
        database: None,
        server_version: Some("17.11 (Debian 17.11-1)".to_owned()),
        dump_version: None,
        restrict: false,
        end_marker: None,
        contents: Contents { tables, ..Contents::default() },
    }
}

fn table(schema: &str, name: &str, rows: Option<u64>) -> Table {
    Table { database: None, schema: schema.to_owned(), name: name.to_owned(), data: true, rows }
}

const NASTY: &[&str] = &[
    "orders",
    "order",
    "Order Items",
    "a.b",
    "say \"hi\"; --",
    "it's",
    "Größen",
    "{x}",
    "[1]",
    "#no comment",
    "- dash",
    "a: b",
    "null",
    "true",
    "yes",
    "123",
    "1e3",
    "",
    " ",
    "tab\there",
    "line\nbreak",
    "back\\slash",
    "${HOME}",
    "$${X}",
    "🐘",
    "\u{feff}bom",
    "\u{2028}",
    "\u{202e}rtl",
    "bell\u{7}",
    "only x",
    "*",
    "&a",
    "!t",
    "%d",
    "@at",
    "`tick`",
    "trailing:",
    "-",
    "?",
    "~",
];

#[test]
fn what_init_writes_is_valid_for_any_names() {
    for format in [DumpFormat::Custom, DumpFormat::Plain, DumpFormat::Cluster, DumpFormat::Globals, DumpFormat::Tar] {
        let names = NASTY.iter().filter(|it| !it.is_empty());
        let mut tables: Vec<Table> = names.clone().map(|it| table(it, it, Some(5))).collect();
        let mut facts = facts(format, Vec::new());
        if format == DumpFormat::Cluster {
            for (table, database) in tables.iter_mut().zip(names.clone().cycle()) {
                table.database = Some((*database).to_owned());
            }
            facts.contents.databases = names.clone().map(|it| (*it).to_owned()).collect();
        }
        facts.contents.tables = tables;
        facts.contents.schemas = names.clone().map(|it| (*it).to_owned()).collect();
        facts.contents.roles_made = names.clone().map(|it| (*it).to_owned()).collect();
        facts.contents.extensions = names
            .clone()
            .filter(|it| !it.trim().is_empty())
            .map(|it| Extension { name: (*it).to_owned(), database: None })
            .collect();
        // Every name in every place once; elsewhere a few, for the time it takes.
        for name in NASTY.iter().step_by(if format == DumpFormat::Custom { 1 } else { 9 }) {
            facts.database = Some((*name).to_owned());
            facts.created = Some((*name).to_owned());
            let path = format!("/b/{name}.dump");
            let seen = [(*name).to_owned()];
            let pattern = suggest_pattern(&format!("{path}-2026-11-22"));
            for pattern in [None, pattern.as_deref()] {
                let text = init(&Init { path: &path, facts: &facts, pattern: pattern.map(|it| (it, &seen[..])) });
                let drill = parsed(&text, &Environment::default()).remove(0);
                assert!(!drill.checks.is_empty());
                if pattern.is_none() {
                    let glob = globset::Glob::new(&drill.source.location().path).unwrap().compile_matcher();
                    assert!(glob.is_match(path.trim_end()), "{path:?} {}", drill.source.location().path);
                }
            }
        }
    }
}

#[test]
fn init_asks_for_what_the_dump_names() {
    let mut facts = facts(
        DumpFormat::Plain,
        vec![table("shop", "note", Some(7)), table("Shop", "order items", Some(400)), table("shop", "view", None)],
    );
    facts.database = Some("shop".to_owned());
    facts.contents.schemas = vec!["Shop".to_owned(), "shop".to_owned()];
    facts.contents.extensions = vec![Extension { name: "uuid-ossp".to_owned(), database: None }];
    facts.contents.entries.insert("TABLE DATA".to_owned(), 2);
    let seen = ["shop-2026-11-22.sql".to_owned(), "shop-2026-11-21.sql".to_owned()];
    let text = init(&Init { path: "shop-2026-11-22.sql", facts: &facts, pattern: Some(("shop-*.sql", &seen)) });
    let drill = parsed(&text, &Environment::default()).remove(0);
    assert_eq!(drill.name, "shop");
    assert_eq!(drill.source.location().path, "/srv/drills/shop-*.sql");
    assert!(text.contains("#   shop-2026-11-21.sql"));
    let Kind::Exists(exists) = &drill.checks[0].kind else { panic!() };
    assert_eq!(exists.schemas, ["\"Shop\"", "shop"]);
    assert_eq!(exists.tables, ["shop.note", "\"Shop\".\"order items\"", "shop.view"]);
    assert!(exists.extensions.contains_key("uuid-ossp"));
    let names: Vec<&str> = drill.checks.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["objects exist", "rows in \"Shop\".\"order items\"", "rows in shop.note"]);
    let Kind::Rows(rows) = &drill.checks[2].kind else { panic!() };
    assert_eq!(
        (&*rows.table, &rows.expect),
        ("only shop.note", &Count::Equals { rows: 7, tolerance: Tolerance::Rows(0) })
    );

    // The rows of partitions lie under the root: `only` would find none there.
    facts.contents.entries.insert("TABLE DATA".to_owned(), 5);
    let text = init(&Init { path: "x.sql", facts: &facts, pattern: None });
    let drill = parsed(&text, &Environment::default()).remove(0);
    let Kind::Rows(rows) = &drill.checks[2].kind else { panic!() };
    assert_eq!(rows.table, "shop.note");
}

#[test]
fn a_dated_name_suggests_a_pattern() {
    for (path, pattern) in [
        ("shop-2026-11-22.dump", Some("shop-*.dump")),
        ("/b/shop_20261122T030000Z.sql.gz", Some("/b/shop_*.sql.gz")),
        ("b/22-11-2026-shop.dump", Some("b/*-shop.dump")),
        ("pg15-2026-11-22_03:00.tar", Some("pg15-*.tar")),
        ("db-1763780400.dump", Some("db-*.dump")),
        ("[x]/a[1]-2026-11-22.dump/", Some("[[]x]/a[[]1]-*.dump")),
        ("shop.dump", None),
        ("shop-v2.dump", None),
        ("2026-11-22", None),
        ("shop-2026-13-22.dump", None),
        ("shop15.4.dump", None),
    ] {
        assert_eq!(suggest_pattern(path).as_deref(), pattern, "{path}");
    }
}

#[test]
fn identifiers_are_quoted_where_they_need_it() {
    for (name, quoted) in [
        ("orders", "orders"),
        ("order", "\"order\""),
        ("Order", "\"Order\""),
        ("a\"b", "\"a\"\"b\""),
        ("1a", "\"1a\""),
        ("größe", "\"größe\""),
        ("_x1", "_x1"),
        ("", "\"\""),
    ] {
        assert_eq!(quote_ident(name), quoted);
        if !name.is_empty() {
            assert_eq!(units::split_name(quoted), Ok(vec![name.to_owned()]));
        }
    }
    assert_eq!(units::split_name("Shop.\"a.b\".C"), Ok(vec!["shop".into(), "a.b".into(), "c".into()]));
    for name in ["", ".", "a.", "\"a", "a b", "a-b", "1a", "\"a\"b", "\"\"", "a;b"] {
        assert!(units::split_name(name).is_err(), "{name}");
    }
}

#[test]
fn copies_in_one_bucket_that_is_reached_differently_are_told_apart_by_their_wal_as_well() {
    let copies = |source: &str, copy: &str| {
        let text = format!(
            "version: 1\ndrills:\n  - name: d\n    source: {{ base_backup: {{ {source} }} }}\n    copies: [{{ name: then, {copy} }}]\n"
        );
        let drill = parsed(&text, &Environment::default()).remove(0);
        let copy = drill.copies.unwrap().others.remove(0);
        (copy.path, copy.wal.unwrap_or_default())
    };
    let then = "store: { as_of: 2026-11-20 10:00:00+00 }";
    let owned = |path: &str, wal: &str| (path.to_owned(), wal.to_owned());
    let told =
        copies("path: /b/base, wal: \"s3://w/wal\", store: { region: r }", &format!("path: \"s3://w/base\", {then}"));
    assert_eq!(told, owned("s3://then@w/base", ""));
    let told =
        copies("path: \"s3://b/base\", wal: \"s3://w/wal\"", &format!("path: /c/base, wal: \"s3://w/wal\", {then}"));
    assert_eq!(told, owned("/c/base", "s3://then@w/wal"));
    let told = copies("path: \"s3://b/base\"", &format!("path: \"s3://c/base\", wal: \"s3://b/wal\", {then}"));
    assert_eq!(told, owned("s3://then@c/base", "s3://then@b/wal"));
    let told = copies("path: \"s3://b/base\"", &format!("path: \"s3://c/base\", wal: \"s3://d/wal\", {then}"));
    assert_eq!(told, owned("s3://c/base", "s3://d/wal"));
}
