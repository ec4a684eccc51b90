//! Against the real PostgreSQL of this machine, in a temporary directory.

mod promise;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

use super::*;
use crate::check::{Check, Count, Exists, Finding, Kind, Rows, Severity};

/// A server that stops when dropped.
struct Server {
    directory: tempfile::TempDir,
    bindir: PathBuf,
}

impl Server {
    fn start() -> Server {
        let versions = std::fs::read_dir("/usr/lib/postgresql").unwrap();
        let bindir = versions.map(|it| it.unwrap().path().join("bin")).find(|it| it.join("initdb").exists()).unwrap();
        let directory = tempfile::Builder::new().prefix("pgdrill-sql-").tempdir_in("/tmp").unwrap();
        let server = Server { directory, bindir };
        if nix::unistd::geteuid().is_root() {
            run(Command::new("chown").arg("postgres:").arg(server.path()));
        }
        let data = server.path().join("data");
        run(server
            .program("initdb")
            .args(["-U", "boss", "-A", "trust", "-E", "UTF8", "--locale=C", "-N", "-D"])
            .arg(&data));
        let directory = server.path().display();
        let options = format!(
            "-c listen_addresses= -c fsync=off -c unix_socket_directories={directory} -c max_prepared_transactions=2"
        );
        run(server
            .program("pg_ctl")
            .args(["-w", "-s", "-o", &options, "-l"])
            .arg(server.path().join("log"))
            .arg("-D")
            .arg(&data)
            .arg("start"));
        server
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A server refuses to run as root.
    fn program(&self, name: &str) -> Command {
        if !nix::unistd::geteuid().is_root() {
            return Command::new(self.bindir.join(name));
        }
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(self.bindir.join(name));
        command
    }

    fn stop(&self) -> Output {
        self.program("pg_ctl")
            .args(["-s", "-m", "immediate", "-D"])
            .arg(self.path().join("data"))
            .arg("stop")
            .output()
            .unwrap()
    }

    fn sql(&self) -> Sql {
        Sql { socket: Socket::Here(self.path().join(".s.PGSQL.5432")), superuser: "boss".to_owned() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(command: &mut Command) {
    let output = command.current_dir("/").output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn probe(sql: &str) -> Probe {
    let (database, sql) = ("postgres".to_owned(), sql.to_owned());
    Probe { database, role: None, sql, timeout: Duration::from_secs(20), keep_rows: 10 }
}

fn rows(answer: Answer) -> Table {
    match answer {
        Answer::Rows(table) => table,
        other @ (Answer::Refused { .. } | Answer::Silent { .. }) => panic!("{other:?}"),
    }
}

/// The values of the first row.
async fn first(sql: &Sql, probe: Probe) -> Vec<Option<String>> {
    rows(sql.ask(&probe).await).rows.swap_remove(0)
}

fn sqlstate(answer: &Answer) -> &str {
    match answer {
        Answer::Refused { sqlstate, .. } => sqlstate,
        other @ (Answer::Rows(_) | Answer::Silent { .. }) => panic!("{other:?}"),
    }
}

async fn execute(sql: &Sql, database: &str, statements: &[&str]) -> Vec<StatementError> {
    sql.execute(database, &statements.iter().map(ToString::to_string).collect::<Vec<_>>()).await.unwrap()
}

// One server for all, since starting one takes a second.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_server_is_asked_and_told() {
    let server = Server::start();
    let sql = server.sql();
    statements_are_executed_one_by_one(&sql).await;
    values_are_the_same_text_everywhere(&sql).await;
    only_what_is_needed_is_kept(&sql).await;
    errors_are_answers(&sql).await;
    roles_are_asked_as(&sql).await;
    catalogue_settings_do_not_win(&sql).await;
    questions_end_in_time(&sql).await;
    bytes_without_an_encoding_do_not_hurt(&sql).await;
    checks_find_what_is_there(&sql).await;
    a_server_that_goes_away_is_noticed(&server, &sql).await;
}

async fn statements_are_executed_one_by_one(sql: &Sql) {
    let errors = execute(
        sql,
        "postgres",
        &[
            "create database shop",
            "create role app",
            "nonsense",
            "select 1/0",
            "create table t (a int primary key)",
            "insert into t select generate_series(1, 1000)",
        ],
    )
    .await;
    let seen: Vec<_> =
        errors.iter().map(|it| (it.sqlstate.as_deref().unwrap(), it.statement.as_deref().unwrap())).collect();
    assert_eq!(seen, [("42601", "nonsense"), ("22012", "select 1/0")]);
    assert_eq!(first(sql, probe("select count(*) from t")).await, [Some("1000".to_owned())]);
    let absent = execute(sql, "absent", &["select 1"]).await;
    assert_eq!((absent[0].sqlstate.as_deref(), absent.len()), (Some("3D000"), 1));
    execute(sql, "postgres", &["alter database shop set default_transaction_read_only = on"]).await;
    assert_eq!(execute(sql, "shop", &["create table written ()"]).await, []);
}

async fn values_are_the_same_text_everywhere(sql: &Sql) {
    execute(
        sql,
        "postgres",
        &["alter role boss set timezone = 'Asia/Tokyo'", "alter database postgres set datestyle = 'German'"],
    )
    .await;
    let values = first(
        sql,
        probe(r"select timestamptz '2026-11-22 10:00:00+00', interval '1 day 2 hours', '\xff'::bytea, 0.1::float8, null, '', true, 'é'"),
    )
    .await;
    let expected = [
        Some("2026-11-22 10:00:00+00"),
        Some("1 day 02:00:00"),
        Some("\\xff"),
        Some("0.1"),
        None,
        Some(""),
        Some("t"),
        Some("é"),
    ];
    assert_eq!(values.iter().map(Option::as_deref).collect::<Vec<_>>(), expected);
}

async fn only_what_is_needed_is_kept(sql: &Sql) {
    let table = rows(sql.ask(&probe("select a as n, 'x' from t order by a")).await);
    assert_eq!((table.columns, table.rows.len(), table.total), (vec!["n".to_owned(), "?column?".to_owned()], 10, 1000));
    let last = rows(
        sql.ask(&probe("select 1, 2; set work_mem = '1MB'; select 3 as three; do 'begin raise notice $$x$$; end'"))
            .await,
    );
    assert_eq!((last.columns, last.total), (vec!["three".to_owned()], 1));
    assert_eq!(rows(sql.ask(&probe("do 'begin end'")).await), Table::default());
    assert_eq!(rows(sql.ask(&probe("")).await), Table::default());
    let long = first(sql, probe("select repeat('é', 100000)")).await.swap_remove(0).unwrap();
    assert!(long.len() < VALUE_BYTES + 30 && long.ends_with("é… (200000 bytes)"), "{}", long.len());
}

async fn errors_are_answers(sql: &Sql) {
    for (text, code) in [
        ("select * from absent", "42P01"),
        ("select", ""),
        ("selec", "42601"),
        ("select 1/(a-500) from t order by a", "22012"),
        ("select absent(1)", "42883"),
    ] {
        match sql.ask(&probe(text)).await {
            Answer::Rows(_) => assert_eq!(code, ""),
            answer @ (Answer::Refused { .. } | Answer::Silent { .. }) => assert_eq!(sqlstate(&answer), code, "{text}"),
        }
    }
    let hint = sql.ask(&probe("select lenght('a')")).await;
    assert!(matches!(hint, Answer::Refused { hint: Some(_), .. }), "{hint:?}");
    let absent = Probe { database: "absent".to_owned(), ..probe("select 1") };
    assert_eq!(sqlstate(&sql.ask(&absent).await), "3D000");
    for text in ["copy t to stdout", "select 'a\0b'"] {
        assert!(matches!(sql.ask(&probe(text)).await, Answer::Silent { .. }), "{text}");
    }
}

async fn roles_are_asked_as(sql: &Sql) {
    let role = |role: &str, text| Probe { role: Some(role.to_owned()), ..probe(text) };
    assert_eq!(
        first(sql, role("app", "select current_user, session_user")).await,
        [Some("app".to_owned()), Some("app".to_owned())]
    );
    assert_eq!(sqlstate(&sql.ask(&role("app", "select * from t")).await), "42501");
    assert_eq!(sqlstate(&sql.ask(&role("nobody\"; drop table t; --", "select 1")).await), "22023");
}

async fn catalogue_settings_do_not_win(sql: &Sql) {
    execute(
        sql,
        "postgres",
        &[
            "alter role boss set statement_timeout = 1",
            "alter role boss set session_preload_libraries = 'not_here'",
            "alter role boss in database shop set statement_timeout = 1",
        ],
    )
    .await;
    for database in ["postgres", "shop"] {
        let probe = Probe {
            database: database.to_owned(),
            ..probe("select pg_sleep(0.05), current_setting('statement_timeout')")
        };
        assert_eq!(first(sql, probe).await[1].as_deref(), Some("20s"));
    }
}

async fn questions_end_in_time(sql: &Sql) {
    let short = |text| Probe { timeout: Duration::from_millis(200), ..probe(text) };
    assert_eq!(sqlstate(&sql.ask(&short("select pg_sleep(60)")).await), "57014");
    let zero = Probe { timeout: Duration::ZERO, ..probe("select pg_sleep(60)") };
    let began = Instant::now();
    // A limit of zero is no licence: the outer one holds, and the query is cancelled.
    let answer = sql.ask(&zero).await;
    assert!(began.elapsed() < Duration::from_secs(20), "{answer:?}");
    let stubborn = sql.ask(&short("set statement_timeout = 0; select 'stubborn', pg_sleep(60)")).await;
    assert!(matches!(&stubborn, Answer::Silent { because } if because.contains("200ms")), "{stubborn:?}");
    let running = "select count(*) from pg_stat_activity where state = 'active' and query like '%pg_sl%(60)%' and pid <> pg_backend_pid()";
    for _ in 0..50 {
        if first(sql, probe(running)).await == [Some("0".to_owned())] {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the query was not cancelled");
}

async fn bytes_without_an_encoding_do_not_hurt(sql: &Sql) {
    execute(sql, "postgres", &["create database bytes encoding 'SQL_ASCII' template template0"]).await;
    execute(
        sql,
        "bytes",
        &["create table t (v text)", "insert into t values ('ascii'), (convert_from('\\xff', 'SQL_ASCII'))"],
    )
    .await;
    let ask = |text| Probe { database: "bytes".to_owned(), ..probe(text) };
    let answer = sql.ask(&ask("select v from t")).await;
    assert!(matches!(&answer, Answer::Silent { because } if because.contains("v is no UTF-8")), "{answer:?}");
    assert_eq!(rows(sql.ask(&Probe { keep_rows: 1, ..ask("select v from t") }).await).total, 2);
    assert_eq!(first(sql, ask("select 'é'")).await, [Some("é".to_owned())]);
}

async fn checks_find_what_is_there(sql: &Sql) {
    let setup = [
        "create schema shop",
        "create table shop.\"Order Lines\" (id int primary key, \"Wert\" text, gone int) ",
        "alter table shop.\"Order Lines\" drop column gone",
        "create view shop.v as select 1",
        "create sequence shop.s",
        "create table shop.parts (a int) partition by range (a)",
        "create index parts_a on only shop.parts (a)",
        "create table shop.part partition of shop.parts for values from (1) to (2)",
        "create index broken on shop.parts (a)",
        "update pg_index set indisvalid = false where indexrelid = 'shop.broken'::regclass",
        "create function shop.f(a int, b text[]) returns int language sql as 'select 1'",
        "create role \"app-user\"",
    ];
    assert_eq!(execute(sql, "postgres", &setup).await, []);
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut exists = Exists {
        schemas: names(&["shop", "Public"]),
        tables: names(&["shop.\"Order Lines\"", "shop.v", "shop.parts", "T"]),
        columns: names(&["shop.\"Order Lines\".\"Wert\"", "t.a"]),
        indexes: names(&["shop.\"Order Lines_pkey\"", "t_pkey"]),
        functions: names(&["shop.f", "shop.f(integer, text[])", "lower(text)", "now"]),
        extensions: BTreeMap::from([("plpgsql".to_owned(), Some("1.0".to_owned()))]),
        roles: names(&["boss", "app-user", "app"]),
    };
    let held = Finding::Held { observed: "18 objects".to_owned() };
    assert_eq!(asked(sql, Kind::Exists(exists.clone())).await, held);
    exists.tables.extend(names(&["shop.s", "shop.absent", "\"T\""]));
    exists.columns.extend(names(&["shop.\"Order Lines\".gone", "t.ctid"]));
    exists.indexes.extend(names(&["shop.broken", "t"]));
    exists.functions.extend(names(&["shop.f(integer)", "shop.f(nosuchtype)", "nosuch.f"]));
    exists.extensions = BTreeMap::from([("plpgsql".to_owned(), Some("9".to_owned())), ("postgis".to_owned(), None)]);
    let Finding::Broken { observed, .. } = asked(sql, Kind::Exists(exists)).await else { panic!("not broken") };
    let expected = "missing: tables shop.s (it is a sequence), shop.absent, \"T\"; columns shop.\"Order Lines\".gone, t.ctid; \
                    indexes shop.broken (invalid), t (it is not an index); functions nosuch.f, shop.f(integer), shop.f(nosuchtype)";
    assert!(observed.starts_with(expected), "{observed}");
    assert!(observed.ends_with("; extensions plpgsql 9 (it is 1.0), postgis"), "{observed}");
    let count = Rows {
        table: "t".to_owned(),
        filter: Some("a > 10 -- most".to_owned()),
        expect: Count::Range { min: Some(990), max: Some(990) },
    };
    assert_eq!(asked(sql, Kind::Rows(count)).await, Finding::Held { observed: "990 rows".to_owned() });
}

async fn asked(sql: &Sql, kind: Kind) -> Finding {
    let timeout = Duration::from_secs(20);
    let (name, severity) = ("check".to_owned(), Severity::Major);
    let check = Check { name, severity, database: None, role: None, timeout, kind, line: None };
    let mut answers = Vec::new();
    for probe in check.probes("postgres", &[]) {
        answers.push(sql.ask(&probe).await);
    }
    assert!(check.probes("postgres", &answers).is_empty());
    check.judge(&answers).finding
}

async fn a_server_that_goes_away_is_noticed(server: &Server, sql: &Sql) {
    let (sleeper, sleeping) = (sql.clone(), probe("select pg_sleep(60)"));
    let asking = tokio::spawn(async move { sleeper.ask(&sleeping).await });
    while first(sql, probe("select count(*) from pg_stat_activity where query = 'select pg_sleep(60)'")).await
        != [Some("1".to_owned())]
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(server.stop().status.success());
    match asking.await.unwrap() {
        Answer::Silent { .. } => {}
        answer @ (Answer::Rows(_) | Answer::Refused { .. }) => {
            assert!(sqlstate(&answer).starts_with("57P"), "{answer:?}");
        }
    }
    assert!(matches!(sql.ask(&probe("select 1")).await, Answer::Silent { .. }));
    let fault = sql.execute("postgres", &["select 1".to_owned()]).await.unwrap_err();
    assert_eq!(fault.blame, Blame::Host);
}
