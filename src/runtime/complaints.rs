//! What psql and `pg_restore` complain about, line by line, as errors of statements. Pure.
//!
//! Details and contexts quote rows of the backup, and so do the values of an INSERT: none of them is kept. Messages are,
//! though a few of the server's own quote one value (`invalid input syntax for type integer: "x"`).
//!
//! Programs run with `LC_MESSAGES=C`, psql with `VERBOSITY=verbose`. `pg_restore` tells the entry of an error only with
//! `--verbose`, and its SQLSTATE never: that is in the server's log, see [`join_sqlstates`].

use std::collections::{HashMap, VecDeque};

use crate::blame::{own_error, script_line, server_error};
use crate::recipe::StatementError;

const KEPT_ERRORS: usize = 1000;
const KEPT_FATAL: usize = 20;
const STATEMENT_CHARS: usize = 500;
const MESSAGE_CHARS: usize = 2000;

/// A reader of standard error, fed line by line.
pub(crate) struct Complaints {
    program: Program,
    errors: Vec<StatementError>,
    total: u64,
    fatal: Vec<String>,
    /// The entry of the table of contents that `pg_restore` spoke of last.
    entry: Option<String>,
    within: Within,
}

#[derive(Clone, Copy)]
enum Program {
    Psql,
    PgRestore,
}

/// What a line without the program's name continues.
#[derive(Clone, Copy)]
enum Within {
    Message,
    Statement,
    /// Details, contexts, and everything that is not an error.
    Aside,
}

impl Complaints {
    pub(crate) fn psql() -> Complaints {
        Complaints::new(Program::Psql)
    }

    pub(crate) fn pg_restore() -> Complaints {
        Complaints::new(Program::PgRestore)
    }

    fn new(program: Program) -> Complaints {
        let (errors, fatal) = (Vec::new(), Vec::new());
        Complaints { program, errors, total: 0, fatal, entry: None, within: Within::Aside }
    }

    /// Takes one line, without its end.
    pub(crate) fn line(&mut self, line: &str) {
        if let Some(text) = own_error(line) {
            self.within = Within::Aside;
            if self.fatal.len() < KEPT_FATAL {
                self.fatal.push(cut(text, MESSAGE_CHARS));
            }
            return;
        }
        match self.program {
            Program::Psql => match script_line(line) {
                Some((number, text)) => self.psql_line(number, text),
                None => self.continues(line),
            },
            Program::PgRestore => match line.strip_prefix("pg_restore: ") {
                Some(text) => self.pg_restore_line(text),
                None => self.continues(line),
            },
        }
    }

    /// The errors (the first 1000), how many there were, and what the program said of itself before it gave up.
    pub(crate) fn finish(mut self) -> (Vec<StatementError>, u64, Vec<String>) {
        for error in &mut self.errors {
            error.message = cut(error.message.trim_end(), MESSAGE_CHARS);
            let statement = error.statement.take().map(|it| without_data(it.trim()));
            error.statement = statement.filter(|it| is_statement(it));
        }
        (self.errors, self.total, self.fatal)
    }

    fn psql_line(&mut self, number: u64, text: &str) {
        self.within = Within::Aside;
        // With ECHO=errors, after the error that it belongs to.
        if let Some(statement) = text.strip_prefix("STATEMENT:  ") {
            let kept = self.total <= KEPT_ERRORS as u64;
            if let Some(error) = self.errors.last_mut().filter(|it| kept && it.statement.is_none()) {
                error.statement = Some(statement.to_owned());
                self.within = Within::Statement;
            }
            return;
        }
        let (sqlstate, message) = match text.strip_prefix("error: ") {
            Some(message) => (None, message),
            None => match ["ERROR:  ", "FATAL:  ", "PANIC:  "].iter().find_map(|it| text.strip_prefix(it)) {
                Some(words) => split_sqlstate(words),
                None => return,
            },
        };
        self.error(StatementError { line: Some(number), ..error(sqlstate, message) });
    }

    fn pg_restore_line(&mut self, text: &str) {
        self.within = Within::Aside;
        if let Some(entry) = text.strip_prefix("from TOC entry ") {
            // `ID; CATALOGUE-OID OID DESCRIPTION NAME OWNER`
            let described = entry.split_once("; ").and_then(|(_, rest)| rest.splitn(3, ' ').nth(2));
            self.entry = described.map(|it| cut(it, STATEMENT_CHARS));
        } else if let Some(message) = text.strip_prefix("error: ").and_then(server_error) {
            let entry = self.entry.clone();
            self.error(StatementError { entry, ..error(None, message) });
        }
    }

    fn error(&mut self, error: StatementError) {
        self.total += 1;
        if self.errors.len() < KEPT_ERRORS {
            self.errors.push(error);
            self.within = Within::Message;
        }
    }

    fn continues(&mut self, line: &str) {
        // A label of the server ends a message, but nothing in a statement does.
        let labelled = !matches!(self.within, Within::Statement) && is_label(line);
        if labelled {
            self.within = Within::Aside;
        }
        let Some(error) = self.errors.last_mut() else { return };
        if let Some(row) = line.strip_prefix("CONTEXT:  COPY ").and_then(copy_row)
            && error.row.is_none()
            && self.total <= KEPT_ERRORS as u64
        {
            error.row = Some(row);
        }
        let command = line.strip_prefix("Command was: ").filter(|_| error.statement.is_none());
        if let (Program::PgRestore, Some(statement), true) = (self.program, command, self.total <= KEPT_ERRORS as u64) {
            error.statement = Some(statement.to_owned());
            self.within = Within::Statement;
            return;
        }
        match self.within {
            Within::Message => append(&mut error.message, line),
            Within::Statement => append(error.statement.get_or_insert_default(), line),
            Within::Aside => {}
        }
    }
}

/// `row 17 of orders, column price`, of `orders, line 17, column price: "…"`: the value is data, and stays out.
fn copy_row(context: &str) -> Option<String> {
    let (table, rest) = context.split_once(", line ")?;
    let digits = rest.find(|it: char| !it.is_ascii_digit()).unwrap_or(rest.len());
    let (number, rest) = rest.split_at(digits);
    let column = rest.strip_prefix(", column ").map(|it| it.split(": ").next().unwrap_or(it));
    let column = column.map(|it| format!(", column {it}")).unwrap_or_default();
    (!number.is_empty()).then(|| cut(&format!("row {number} of {table}{column}"), STATEMENT_CHARS))
}

/// `DETAIL:  …`, `TABLE NAME:  …`, `LINE 3: …`
fn is_label(line: &str) -> bool {
    let Some((label, _)) = line.split_once(": ") else { return false };
    let labels =
        ["DETAIL", "HINT", "CONTEXT", "QUERY", "LOCATION", "STATEMENT", "SCHEMA NAME", "TABLE NAME", "COLUMN NAME"];
    labels.contains(&label)
        || matches!(label, "DATATYPE NAME" | "CONSTRAINT NAME")
        || label.strip_prefix("LINE ").is_some_and(|it| it.bytes().all(|it| it.is_ascii_digit()))
}

fn append(text: &mut String, line: &str) {
    // Cut once more, to the character, when all lines are there.
    if text.len() < 4 * MESSAGE_CHARS {
        text.push('\n');
        text.push_str(line);
    }
}

fn error(sqlstate: Option<&str>, message: &str) -> StatementError {
    let sqlstate = sqlstate.map(str::to_owned);
    StatementError { sqlstate, message: message.to_owned(), line: None, statement: None, entry: None, row: None }
}

/// `42P01: relation …` of psql's verbose form.
fn split_sqlstate(words: &str) -> (Option<&str>, &str) {
    match words.split_once(": ") {
        Some((code, message)) if is_sqlstate(code) => (Some(code), message),
        Some(_) | None => (None, words),
    }
}

fn is_sqlstate(code: &str) -> bool {
    code.len() == 5 && code.bytes().all(|it| it.is_ascii_digit() || it.is_ascii_uppercase())
}

/// After a COPY that failed psql takes its rows for statements: those are data.
fn is_statement(text: &str) -> bool {
    const VERBS: [&str; 20] = [
        "ALTER", "ANALYZE", "BEGIN", "COMMENT", "COMMIT", "COPY", "CREATE", "DO", "DROP", "GRANT", "IMPORT", "INSERT",
        "LOCK", "REFRESH", "REVOKE", "SECURITY", "SELECT", "SET", "TRUNCATE", "UPDATE",
    ];
    let verb = text.split(|it: char| !it.is_ascii_alphabetic()).next().unwrap_or_default();
    VERBS.iter().any(|it| it.eq_ignore_ascii_case(verb))
}

/// A statement without the values that it carries: those of INSERT, and the arguments of the functions that restore
/// statistics and large objects.
fn without_data(statement: &str) -> String {
    let bare = without_comments(statement);
    let starts = |word: &str| bare.get(..word.len()).is_some_and(|it| it.eq_ignore_ascii_case(word));
    // Options of these hold passwords.
    let upper = bare.get(..40.min(bare.len())).unwrap_or_default().to_uppercase();
    let secret = ["USER MAPPING", " SERVER ", "SUBSCRIPTION", " ROLE ", " USER "].iter().any(|it| upper.contains(it));
    let end = if secret && (starts("CREATE ") || starts("ALTER ")) {
        bare.find('\'')
    } else if starts("INSERT ") {
        bare.find("VALUES").map(|it| it + "VALUES".len())
    } else if starts("UPDATE ") {
        bare.to_uppercase().find(" SET ").map(|it| it + " SET".len())
    } else if starts("SELECT ") {
        bare.find('(')
    } else {
        None
    };
    match end {
        Some(end) => cut(&format!("{} …", &bare[..end]), STATEMENT_CHARS),
        None => cut(bare, STATEMENT_CHARS),
    }
}

/// Without the comments that stand above it.
fn without_comments(statement: &str) -> &str {
    let mut rest = statement.trim_start();
    loop {
        let end = match rest {
            _ if rest.starts_with("--") => rest.find('\n'),
            _ if rest.starts_with("/*") => rest.find("*/").map(|it| it + 2),
            _ => return rest,
        };
        rest = end.map_or("", |it| rest[it..].trim_start());
    }
}

pub(crate) fn cut(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A line of the server's log, written with `log_line_prefix = '%m [%p] %e %q%a@%d '` and terse verbosity.
struct Logged<'a> {
    sqlstate: &'a str,
    /// `APPLICATION@DATABASE`; empty for processes without a session.
    session: &'a str,
    severity: &'a str,
    message: &'a str,
}

impl Logged<'_> {
    /// None for continuations, and for everything milder than an error.
    fn error(line: &str) -> Option<Logged<'_>> {
        if !line.starts_with(|it: char| it.is_ascii_digit()) {
            return None;
        }
        let (_, rest) = line.split_once("] ")?;
        let (sqlstate, rest) = rest.split_once(' ').filter(|(it, _)| is_sqlstate(it))?;
        // The first severity of all: a message may quote another.
        let severities =
            ["ERROR", "FATAL", "PANIC", "LOG", "WARNING", "NOTICE", "STATEMENT", "DETAIL", "HINT", "CONTEXT"];
        let at = |severity: &&'static str| Some((rest.find(&format!("{severity}:  "))?, *severity));
        let (at, severity) = severities.iter().filter_map(at).min()?;
        let message = &rest[at + severity.len() + 3..];
        let is_error = matches!(severity, "ERROR" | "FATAL" | "PANIC");
        is_error.then_some(Logged { sqlstate, session: rest[..at].trim_end(), severity, message })
    }
}

/// Gives errors without an SQLSTATE that of the same message in the server's log, by this application, in order.
pub(crate) fn join_sqlstates(errors: &mut [StatementError], server_log: &str, application: &str) {
    let mut logged: HashMap<&str, VecDeque<&str>> = HashMap::new();
    let ours = |it: &Logged| it.session.strip_prefix(application).is_some_and(|rest| rest.starts_with('@'));
    for line in server_log.lines().filter_map(Logged::error).filter(ours) {
        logged.entry(line.message).or_default().push_back(line.sqlstate);
    }
    for error in errors.iter_mut().filter(|it| it.sqlstate.is_none()) {
        let first_line = error.message.lines().next().unwrap_or_default();
        error.sqlstate = logged.get_mut(first_line).and_then(VecDeque::pop_front).map(str::to_owned);
    }
}

/// The first error, fatal error or panic in the server's log: `ERROR: … (SQLSTATE 42P01, shop@pgdrill)`.
///
/// Clients that were told to wait while the server starts are none.
pub(crate) fn first_error(server_log: &str) -> Option<String> {
    let logged = server_log.lines().filter_map(Logged::error).find(|it| it.sqlstate != "57P03")?;
    let Logged { sqlstate, session, severity, message } = logged;
    let session = if session.is_empty() { String::new() } else { format!(", {session}") };
    Some(format!("{severity}: {} (SQLSTATE {sqlstate}{session})", cut(message, MESSAGE_CHARS)))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::blame::{blame, blame_error};
    use crate::fault::Blame;
    use crate::phase::Phase;
    use crate::recipe::{Action, Command, Output, Place, Step, Tolerance};

    const MAJORS: [u32; 4] = [13, 15, 17, 18];

    /// What a real program said, see fixtures/answers/record.
    struct Recorded {
        program: &'static str,
        status: i32,
        stderr: String,
        log: String,
    }

    fn recorded(program: &'static str, major: u32, case: &str) -> Recorded {
        let path = format!("{}/fixtures/answers/{program}-{major}/{case}.txt", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let text = String::from_utf8_lossy(&text).into_owned();
        let (head, log) = text.split_once("--- server log\n").unwrap();
        let (head, stderr) = head.split_once("--- stderr\n").unwrap();
        let status = head.lines().find_map(|it| it.strip_prefix("# status ")).unwrap().parse().unwrap();
        Recorded { program, status, stderr: stderr.to_owned(), log: log.to_owned() }
    }

    impl Recorded {
        fn complaints(&self) -> (Vec<StatementError>, u64, Vec<String>) {
            let mut complaints = if self.program == "psql" { Complaints::psql() } else { Complaints::pg_restore() };
            self.stderr.lines().for_each(|it| complaints.line(it));
            let (mut errors, total, fatal) = complaints.finish();
            join_sqlstates(&mut errors, &self.log, self.program);
            (errors, total, fatal)
        }

        fn blamed(&self, tolerance: Tolerance) -> Option<Blame> {
            let action = Action::Run(Command::new(self.program));
            let what = "restore".to_owned();
            let step = Step { phase: Phase::Restore, place: Place::Server, what, action, tolerance };
            let (errors, errors_total, _) = self.complaints();
            let (status, stderr) = (self.status, self.stderr.clone());
            blame(&step, &Output { status, stderr, errors, errors_total, ..Output::default() }).map(|it| it.blame)
        }
    }

    fn codes(errors: &[StatementError]) -> Vec<&str> {
        errors.iter().map(|it| it.sqlstate.as_deref().unwrap_or("?")).collect()
    }

    #[test]
    fn a_clean_restore_complains_of_nothing() {
        for major in MAJORS {
            for program in ["psql", "pg_restore"] {
                let clean = recorded(program, major, "clean");
                assert_eq!(clean.complaints(), (vec![], 0, vec![]), "{program} {major}");
                assert_eq!(clean.blamed(Tolerance::Strict), None);
            }
        }
    }

    #[test]
    fn every_error_of_pg_restore_has_its_sqlstate_and_statement() {
        for major in MAJORS {
            for case in ["again", "again-verbose", "again-jobs", "again-verbose-jobs"] {
                let recorded = recorded("pg_restore", major, case);
                let (errors, total, fatal) = recorded.complaints();
                assert_eq!((total, fatal), (errors.len() as u64, vec![]), "{major} {case}");
                assert!(!codes(&errors).contains(&"?"), "{major} {case}: {errors:#?}");
                let first = &errors[0];
                assert_eq!(first.message, "schema \"app\" already exists");
                assert_eq!(first.statement.as_deref(), Some("CREATE SCHEMA app;"));
                let copies = errors.iter().filter(|it| codes(&[(*it).clone()]) == ["23505"]).count();
                assert_eq!(copies, 2, "{major} {case}");
                assert_eq!(recorded.blamed(Tolerance::RecordsErrors), None);
                assert_eq!(recorded.blamed(Tolerance::Strict), Some(Blame::Backup));
            }
        }
    }

    #[test]
    fn verbose_pg_restore_names_the_entry() {
        for major in MAJORS {
            let (errors, ..) = recorded("pg_restore", major, "again-verbose").complaints();
            let entries: Vec<_> = errors.iter().map(|it| it.entry.as_deref().unwrap_or("?")).collect();
            assert_eq!(entries[0], "SCHEMA app shop_owner", "{major}");
            assert!(entries.contains(&"TABLE DATA lines postgres"), "{major}: {entries:?}");
            assert!(!entries.contains(&"?"), "{major}: {entries:?}");
        }
    }

    #[test]
    fn statements_of_many_lines_are_whole() {
        let (errors, ..) = recorded("pg_restore", 17, "again").complaints();
        let table = errors.iter().find(|it| it.message.contains("Größen")).unwrap();
        let statement = table.statement.as_deref().unwrap();
        assert!(statement.starts_with("CREATE TABLE app.\"Größen\" (\n") && statement.ends_with(");"), "{statement}");
    }

    #[test]
    fn every_error_of_psql_has_its_sqlstate_and_line() {
        for major in MAJORS {
            let recorded = recorded("psql", major, "again");
            let (errors, total, fatal) = recorded.complaints();
            assert_eq!((total, fatal), (errors.len() as u64, vec![]));
            let first = codes(&errors);
            assert_eq!(first[..7], ["42P06", "42723", "42P07", "42P07", "42P07", "23505", "23505"], "{major}");
            assert!(errors.iter().all(|it| it.line.is_some()) && errors.windows(2).all(|it| it[0].line <= it[1].line));
            assert_eq!(recorded.blamed(Tolerance::RecordsErrors), None);
        }
    }

    #[test]
    fn rows_of_the_backup_are_not_kept() {
        for major in MAJORS {
            for (program, case) in [
                ("pg_restore", "again"),
                ("pg_restore", "terminated"),
                ("psql", "again"),
                ("psql", "trigger"),
                ("psql", "cut"),
            ] {
                let (errors, _, fatal) = recorded(program, major, case).complaints();
                let all = format!("{errors:?} {fatal:?}");
                for data in ["Key (id)", "order 1", "secret", "23\\torder"] {
                    assert!(!all.contains(data), "{program} {major} {case}: {all}");
                }
            }
        }
        assert_eq!(without_data("INSERT INTO t (a) VALUES (1, 'secret');"), "INSERT INTO t (a) VALUES …");
        assert_eq!(
            without_data("-- x\n\nSELECT * FROM pg_restore_attribute_stats('s');"),
            "SELECT * FROM pg_restore_attribute_stats …"
        );
    }

    #[test]
    fn messages_of_two_lines_are_one_message() {
        for major in MAJORS {
            for (program, case) in [("pg_restore", "trigger"), ("pg_restore", "trigger-verbose"), ("psql", "trigger")] {
                let (errors, total, _) = recorded(program, major, case).complaints();
                assert_eq!((total, codes(&errors)), (1, vec!["P4711"]), "{program} {major} {case}");
                assert_eq!(errors[0].message, "this table is closed\nsince yesterday");
            }
        }
    }

    #[test]
    fn psqls_own_words_are_told_from_the_servers() {
        for major in MAJORS {
            let (errors, _, fatal) = recorded("psql", major, "own-words").complaints();
            assert_eq!((errors[0].message.as_str(), errors[0].line), ("invalid command \\nonsense", Some(4)));
            assert_eq!((errors.len(), fatal.len()), (1, 0), "{major}: {errors:?}");
            let (errors, _, fatal) = recorded("psql", major, "stopped").complaints();
            assert!(errors.is_empty() && !fatal.is_empty(), "{major}: {errors:?} {fatal:?}");
            let (errors, _, fatal) = recorded("psql", major, "terminated").complaints();
            assert_eq!((codes(&errors), fatal.is_empty()), (vec!["57P01"], false), "{major}");
        }
    }

    #[test]
    fn blame_follows_from_what_real_programs_say() {
        use Blame::{Backup, Harness, Host, Scenario};
        let pg_restore = [
            ("again-exit-on-error", Backup),
            ("cut-half", Backup),
            ("cut-tail", Backup),
            ("cut-toc", Backup),
            ("cut-header", Backup),
            ("cut-stdin", Backup),
            ("cut-stdin-toc", Backup),
            ("empty", Backup),
            ("flipped", Backup),
            ("flipped-verbose", Backup),
            ("flipped-jobs", Backup),
            ("not-an-archive", Backup),
            ("text", Backup),
            ("no-file", Backup),
            ("no-toc", Backup),
            ("missing-data-file", Backup),
            ("newer", Host),
            ("no-server", Host),
            ("terminated", Host),
            ("missing-extension-stop", Host),
            ("missing-library", Host),
            ("bad-option", Harness),
        ];
        let psql = [
            ("again-stop", Backup),
            ("cut", Backup),
            ("trigger", Backup),
            ("no-server", Host),
            ("timeout", Host),
            ("stopped", Host),
            ("terminated", Host),
            ("locale", Host),
            ("missing-extension", Host),
            ("missing-role-stop", Scenario),
        ];
        for major in MAJORS {
            for (case, expected) in pg_restore {
                let blamed = recorded("pg_restore", major, case).blamed(Tolerance::RecordsErrors);
                let stops = !matches!(case, "again-exit-on-error" | "missing-extension-stop" | "missing-library");
                assert_eq!(blamed, stops.then_some(expected), "pg_restore {major} {case}");
                assert_eq!(
                    recorded("pg_restore", major, case).blamed(Tolerance::Strict),
                    Some(expected),
                    "{major} {case}"
                );
            }
            for (case, expected) in psql {
                assert_eq!(
                    recorded("psql", major, case).blamed(Tolerance::Strict),
                    Some(expected),
                    "psql {major} {case}"
                );
            }
        }
    }

    #[test]
    fn missing_roles_and_extensions_are_blamed_one_by_one() {
        for major in MAJORS {
            for (program, case) in
                [("pg_restore", "missing-role"), ("pg_restore", "missing-role-verbose"), ("psql", "missing-role")]
            {
                let (errors, ..) = recorded(program, major, case).complaints();
                assert!(errors.len() >= 3, "{program} {major}");
                assert!(
                    errors.iter().all(|it| blame_error(it).blame == Blame::Scenario),
                    "{program} {major}: {errors:?}"
                );
            }
            let (errors, ..) = recorded("pg_restore", major, "missing-extension").complaints();
            assert_eq!(blame_error(&errors[0]).blame, Blame::Host, "{major}: {errors:?}");
        }
    }

    #[test]
    fn errors_beyond_a_thousand_are_only_counted() {
        let mut complaints = Complaints::pg_restore();
        for n in 0..1500 {
            complaints.line(&format!("pg_restore: error: could not execute query: ERROR:  number {n}"));
            complaints.line("Command was: DROP TABLE t;");
        }
        let (errors, total, _) = complaints.finish();
        assert_eq!((errors.len(), total), (1000, 1500));
        assert_eq!(errors[999].statement.as_deref(), Some("DROP TABLE t;"));
    }

    #[test]
    fn sqlstates_are_joined_in_order_and_by_application() {
        let log = "2026-11-23 14:00:00.000 UTC [1] 00000 LOG:  starting\n\
                   2026-11-23 14:00:00.001 UTC [9] 22012 pgdrill@shop ERROR:  same\n\
                   2026-11-23 14:00:00.002 UTC [9] 23505 pg_restore@shop ERROR:  same\n\
                   2026-11-23 14:00:00.002 UTC [9] 23505 pg_restore@shop DETAIL:  ERROR:  same\n\
                   2026-11-23 14:00:00.003 UTC [9] 23514 pg_restore@shop ERROR:  same\n\
                   \tERROR:  same\n";
        let mut errors =
            vec![error(None, "same"), error(None, "other"), error(None, "same\nand more"), error(None, "same")];
        join_sqlstates(&mut errors, log, "pg_restore");
        assert_eq!(codes(&errors), ["23505", "?", "23514", "?"]);
        assert_eq!(first_error(log).as_deref(), Some("ERROR: same (SQLSTATE 22012, pgdrill@shop)"));
    }

    #[test]
    fn the_first_error_of_a_log_needs_no_session() {
        for (log, expected) in [
            ("", None),
            ("2026-11-23 14:00:00.000 UTC [1] 00000 LOG:  ERROR:  quoted\n", None),
            ("2026-11-23 14:00:00.000 UTC [7] 57P03 x@y FATAL:  the database system is starting up\n", None),
            ("2026-11-23 14:00:00.000 UTC [1] 53100 PANIC:  disk\n", Some("PANIC: disk (SQLSTATE 53100)")),
            ("2026-11-23 14:00:00.000 UTC [1] ", None),
            ("garbage ] é", None),
        ] {
            assert_eq!(first_error(log).as_deref(), expected);
        }
    }

    #[test]
    fn no_line_can_hurt() {
        let nasty = [
            "",
            "pg_restore: ",
            "pg_restore: error: ",
            "psql:",
            "psql:x:1:",
            "psql::: ERROR:  é",
            "Command was: ",
            "LINE : é",
            "pg_restore: from TOC entry 1; 2",
            "pg_restore: error: COPY failed for table \"\": ERROR:  ",
        ];
        for mut complaints in [Complaints::psql(), Complaints::pg_restore()] {
            nasty.iter().chain(&nasty).for_each(|it| complaints.line(it));
            complaints.finish();
        }
    }
}
