//! Whose fault a failed step is: one pure function over the step and its output.
//!
//! Facts come before texts: what the host did, then SQLSTATEs, then what the program said of itself. A backup is blamed
//! only when nothing else explains the failure, and never for errors of classes 53, 57 and 58.

mod recovery;

use crate::fault::{Blame, Fault};
use crate::phase::Phase;
use crate::recipe::{Action, Command, HostCondition, Output, StatementError, Step, Tolerance};

/// None when the step succeeded, or went on after errors of statements as it was told to: those are in
/// [`Output::errors`], and [`blame_error`] says whose each is.
///
/// A step whose input changed meanwhile is a fault even when it succeeded: what was restored is not what was surveyed.
pub fn blame(step: &Step, output: &Output) -> Option<Fault> {
    if output.conditions.contains(&HostCondition::InputChanged) {
        return Some(host_fault(step, HostCondition::InputChanged));
    }
    if let Some(damage) = output.damage.as_ref().filter(|_| output.conditions.is_empty()) {
        return Some(damage.clone());
    }
    if succeeded(step, output) {
        return None;
    }
    if step.tolerance == Tolerance::Scenario {
        let fault = blame(&Step { tolerance: Tolerance::Strict, ..step.clone() }, output)?;
        let blame = if fault.blame == Blame::Backup { Blame::Scenario } else { fault.blame };
        return Some(Fault { blame, ..fault });
    }
    if let Some(condition) = output.conditions.iter().min() {
        return Some(host_fault(step, *condition));
    }
    let fault = |whose: Whose, cause: String| {
        let fault = Fault::new(whose.blame, step.what.clone()).cause(cause);
        whose.hint.map_or(fault.clone(), |hint| fault.hint(hint))
    };
    let program = program(&step.action).map_or("", |it| it.program.as_str());
    if let Some(whose) = by_signal(output.status) {
        return Some(fault(whose, format!("{program} ended with status {}", output.status)));
    }
    if let Some(whose) = recovery::by_log(&output.stderr).filter(|_| recovers(step)) {
        return Some(fault(whose, first_complaint(&output.stderr)));
    }
    if program == "pg_combinebackup" {
        let hint =
            "the parts of the backup do not belong together, or one is damaged: see the findings on their manifests";
        let whose = by_server_text(&output.stderr).unwrap_or(Whose::backup(hint));
        return Some(fault(whose, first_complaint(&output.stderr)));
    }
    if matches!(program, "initdb" | "pg_ctl" | "postgres") {
        let setting =
            ["unrecognized configuration parameter", "invalid value for parameter", "outside the valid range"];
        if setting.iter().any(|it| output.stderr.contains(it)) {
            let hint = "correct `restore.settings` in the scenario";
            return Some(fault(Whose::scenario(hint), first_complaint(&output.stderr)));
        }
        let hint = "the server could not be set up here: see the server's log, and `pgdrill doctor`";
        return Some(fault(Whose::host(hint), first_complaint(&output.stderr)));
    }
    let worker_died = |it: &&str| it.contains("worker process died");
    let fatal: Vec<&str> = output.stderr.lines().filter_map(own_error).collect();
    let first_fatal = fatal.iter().find(|it| !worker_died(it)).or(fatal.first());
    // What the host did to a statement also explains what the program says after it.
    let errors = || output.errors.iter().map(|it| (it, blame_error(it)));
    let hosts = errors().find(|(_, whose)| whose.blame == Blame::Host);
    if let Some((error, whose)) = hosts.filter(|_| first_fatal.is_none_or(|it| lost_the_server(it))) {
        return Some(fault(whose, error_in_words(error)));
    }
    if let Some(text) = first_fatal {
        return Some(fault(by_own_words(text), (*text).to_owned()));
    }
    let Some((error, whose)) = errors().next() else {
        let hint = "the program's whole output lies among the logs of the run";
        return Some(fault(Whose { blame: Blame::Backup, hint: Some(hint) }, first_complaint(&output.stderr)));
    };
    // Statements of `Sql` steps are our own.
    let ours = program.is_empty() && error.sqlstate.as_deref() == Some("42601");
    let whose = if ours { Whose { blame: Blame::Harness, hint: None } } else { whose };
    Some(fault(whose, error_in_words(error)))
}

/// Whose fault something is, and what the reader can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whose {
    pub blame: Blame,
    pub hint: Option<&'static str>,
}

impl Whose {
    const fn host(hint: &'static str) -> Whose {
        Whose { blame: Blame::Host, hint: Some(hint) }
    }

    const fn backup(hint: &'static str) -> Whose {
        Whose { blame: Blame::Backup, hint: Some(hint) }
    }

    const fn scenario(hint: &'static str) -> Whose {
        Whose { blame: Blame::Scenario, hint: Some(hint) }
    }

    const fn harness() -> Whose {
        Whose {
            blame: Blame::Harness,
            hint: Some("this is a bug in pgdrill: please report it with the run's directory"),
        }
    }
}

/// Whose fault the error of one statement is: the backup's, unless its SQLSTATE or its text says otherwise.
pub fn blame_error(error: &StatementError) -> Whose {
    let message = error.message.as_str();
    let names = |what: &str| message.starts_with(&format!("{what} \"")) && message.ends_with("\" does not exist");
    if names("role") {
        return Whose::scenario(
            "roles are not in a dump: name the file of `pg_dumpall -g` as `globals:`, or set `roles: stubs`",
        );
    }
    if names("tablespace") {
        return Whose::scenario("tablespaces are not in a dump: name the file of `pg_dumpall -g` as `globals:`");
    }
    if is_missing_extension(message) {
        return Whose::host(
            "the server lacks an extension: set `postgres.image` to an image that has it, or install it here",
        );
    }
    if is_missing_library(error) {
        return Whose::host(
            "the server lacks a library: use an image or packages with the same extensions as in production",
        );
    }
    if message.starts_with("security label provider \"") || message.starts_with("no security label providers") {
        return Whose::host(
            "the server does not load the library that gives security labels: use an image that has it, and name it as \
             `shared_preload_libraries` under `restore.settings`",
        );
    }
    let lacks_compression = message.starts_with("compression method ") && message.ends_with(" not supported");
    if lacks_compression || message.contains("not supported by this build") || message.contains("was not built with") {
        return Whose::host("this PostgreSQL was built without something that the backup needs: use another image");
    }
    if message.contains("locale name")
        || message.contains("could not create locale")
        || message.contains("locale is incompatible with operating system")
        || names_a_missing_collation(message)
    {
        return Whose::host("the server lacks a locale: use an image that has it, or generate it with localedef");
    }
    if is_stray_command(message) {
        return Whose::host("this psql does not know a command of the dump: use a newer minor version of PostgreSQL");
    }
    match error.sqlstate.as_deref() {
        Some("42501") => Whose::scenario(
            "a right or a membership is missing: dumps carry no memberships; name the file of `pg_dumpall -g` as `globals:`",
        ),
        Some(sqlstate) => by_class(sqlstate).unwrap_or(DAMAGED),
        None => by_server_text(message).unwrap_or(DAMAGED),
    }
}

/// What psql says of a backslash that it takes for a command and does not know: most often a row of a COPY that failed.
pub(crate) fn is_stray_command(message: &str) -> bool {
    message.starts_with("invalid command \\") || message.starts_with("backslash commands are restricted")
}

fn is_missing_extension(message: &str) -> bool {
    let missing = message.starts_with("extension \"") && message.ends_with("\" is not available");
    missing || message.starts_with("could not open extension control file")
}

/// Whether the server lacks a library, or an extension, that the backup needs.
pub fn is_missing_library(error: &StatementError) -> bool {
    let message = error.message.as_str();
    let library = ["could not access file \"", "could not load library \""].iter().any(|it| message.starts_with(it));
    library || is_missing_extension(message)
}

const DAMAGED: Whose = Whose {
    blame: Blame::Backup,
    hint: Some("the server refused a statement of the backup: it would refuse it in a real recovery as well"),
};
const DISK: Whose = Whose::host("the disk is full: free some space, or put the scratch directory on a larger disk");
const MEMORY: Whose = Whose::host(
    "memory, shared memory or locks ran out: raise `postgres.memory` or `postgres.shm_size`, or max_locks_per_transaction \
     under `restore.settings`",
);
const PROCESSES: Whose = Whose::host(
    "no process could be started: see the limits on processes (cgroup, ulimit -u) of the machine and its load",
);
const INTERRUPTED: Whose =
    Whose::host("the server was stopped or a statement cancelled: see the server's log for who did it, then run again");
const FAILED_BELOW: Whose =
    Whose::host("the system below the server failed: see the kernel's log and the disk's health");
const CUT: Whose = Whose::backup(
    "the file is cut or damaged: compare its size and SHA-256 with those on the machine that made it, and look at that job's log",
);

/// Classes of SQLSTATE that never are a backup's fault.
fn by_class(sqlstate: &str) -> Option<Whose> {
    match (sqlstate.get(..2)?, sqlstate) {
        (_, "53100") => Some(DISK),
        (_, "53300") => Some(Whose::host("connections ran out: raise max_connections under `restore.settings`")),
        ("53", _) => Some(MEMORY),
        ("08" | "57", _) => Some(INTERRUPTED),
        ("58", _) => Some(FAILED_BELOW),
        _ => None,
    }
}

/// The same from texts, for errors whose SQLSTATE the program hid.
fn by_server_text(message: &str) -> Option<Whose> {
    let whose = [
        ("No space left on device", DISK),
        ("out of memory", MEMORY),
        ("out of shared memory", MEMORY),
        ("could not resize shared memory segment", MEMORY),
        ("could not fork", PROCESSES),
        ("Resource temporarily unavailable", PROCESSES),
        ("canceling statement due to", INTERRUPTED),
        ("terminating connection", INTERRUPTED),
        ("the database system is", INTERRUPTED),
        ("Input/output error", FAILED_BELOW),
    ];
    whose.iter().find(|(part, _)| message.contains(part)).map(|(_, whose)| *whose)
}

fn names_a_missing_collation(message: &str) -> bool {
    message.starts_with("collation \"") && message.contains("\" for encoding \"") && message.ends_with("does not exist")
}

/// The text of a line in which psql or `pg_restore` speaks of itself, and not of an error that a statement got.
///
/// `pg_restore: error: could not read from input file: end of file`, `psql:<stdin>:3: error: connection to server was lost`
pub(crate) fn own_error(line: &str) -> Option<&str> {
    if let Some(text) = line.strip_prefix("pg_restore: ") {
        let Some(text) = text.strip_prefix("error: ") else {
            let usage = ["unrecognized option", "invalid option", "option requires", "option '", "terminated by user"];
            return usage.iter().any(|it| text.starts_with(it)).then_some(text);
        };
        return server_error(text).is_none().then_some(text);
    }
    if let Some(text) = line.strip_prefix("psql: ") {
        let text = text.strip_prefix("error: ").unwrap_or(text);
        let aside = ["warning: ", "hint: ", "detail: "];
        return (!aside.iter().any(|it| text.starts_with(it))).then_some(text);
    }
    let (_, text) = script_line(line)?;
    match text.strip_prefix("error: ") {
        Some(text) => (!is_stray_command(text)).then_some(text),
        None => lost_the_server(text).then_some(text),
    }
}

/// `psql:FILE:LINE: TEXT`
pub(crate) fn script_line(line: &str) -> Option<(u64, &str)> {
    let (place, text) = line.strip_prefix("psql:")?.split_once(": ")?;
    let (_, number) = place.rsplit_once(':')?;
    Some((number.parse().ok()?, text))
}

/// The server's words in a text of `pg_restore`: `could not execute query: ERROR:  …`, `COPY failed for table "t": ERROR:  …`.
pub(crate) fn server_error(text: &str) -> Option<&str> {
    let words = text.strip_prefix("could not execute query: ").or_else(|| {
        let (table, words) = text.strip_prefix("COPY failed for table \"")?.split_once("\": ")?;
        (!table.is_empty()).then_some(words)
    })?;
    ["ERROR:  ", "FATAL:  ", "PANIC:  "].iter().find_map(|severity| words.strip_prefix(severity))
}

fn lost_the_server(text: &str) -> bool {
    let text = text.strip_prefix("\\connect: ").unwrap_or(text);
    ["server closed the connection", "no connection to the server", "connection to server was lost"]
        .iter()
        .any(|it| text.contains(it))
        || text.starts_with("connection to server ")
        || text.starts_with("connection to database ")
        || text.starts_with("could not connect to server")
}

/// Whose fault it is when psql or `pg_restore` itself gives up.
fn by_own_words(text: &str) -> Whose {
    let says = |parts: &[&str]| parts.iter().any(|it| text.contains(it));
    if says(&["in file header"]) && says(&["unsupported version"]) {
        return Whose::host(
            "the archive needs a newer pg_restore: set `postgres.major` to the version of the pg_dump that wrote it",
        );
    }
    if says(&["not supported by this build", "does not support compression", "compression is not supported"]) {
        return Whose::host(
            "this pg_restore was built without the archive's compression: use another image or packages",
        );
    }
    if says(&["unrecognized option", "invalid option", "option requires", "option '", "cannot be used together"])
        || says(&["parallel restore from", "parallel restore is not supported"])
    {
        return Whose::harness();
    }
    if says(&["Permission denied"]) {
        return Whose::host("the user that runs the server may not read the file: see its mode and owner");
    }
    if let Some(whose) = by_server_text(text) {
        return whose;
    }
    if lost_the_server(text) {
        return INTERRUPTED;
    }
    if says(&["No such file or directory", "could not find block ID", "could not find header for file"]) {
        return Whose::backup(
            "a part of the backup is not there: look for it where the backup was made, and copy it whole",
        );
    }
    if says(&["worker process died", "terminated by user"]) {
        return INTERRUPTED;
    }
    CUT
}

fn succeeded(step: &Step, output: &Output) -> bool {
    let no_errors = output.errors_total == 0 && output.errors.is_empty();
    match step.tolerance {
        Tolerance::Strict | Tolerance::Scenario => output.status == 0 && no_errors,
        Tolerance::RecordsErrors => {
            let restores = program(&step.action).is_some_and(|it| it.program == "pg_restore");
            let only_ignored = restores && output.status == 1 && !no_errors;
            (output.status == 0 || only_ignored) && !output.stderr.lines().any(|it| own_error(it).is_some())
        }
    }
}

fn program(action: &Action) -> Option<&Command> {
    match action {
        Action::Run(command) | Action::Stream { into: command, .. } => Some(command),
        Action::Scan { .. }
        | Action::Copy { .. }
        | Action::Write { .. }
        | Action::Sql { .. }
        | Action::Unpack { .. }
        | Action::Arm { .. }
        | Action::ServeWal { .. }
        | Action::Walk { .. }
        | Action::Recover { .. }
        | Action::Promote
        | Action::LookAgain
        | Action::LookAround { .. }
        | Action::Compare { .. }
        | Action::Verify { .. }
        | Action::ReadWal { .. } => None,
    }
}

/// 128 + n where a signal ended the program; 126 and 127 where it could not be run.
fn by_signal(status: i32) -> Option<Whose> {
    let whose = match status {
        126 | 127 => Whose::host("the program is not there or cannot be run: see `pgdrill doctor`"),
        137 => Whose::host("something killed the program, most often for want of memory: see the kernel's log"),
        129..=160 => {
            Whose::host("a signal ended the program; if it crashed, another minor version may read the backup")
        }
        _ => return None,
    };
    Some(whose)
}

fn host_fault(step: &Step, condition: HostCondition) -> Fault {
    let (cause, hint) = condition_words(condition);
    Fault::new(Blame::Host, step.what.clone()).cause(cause).hint(hint)
}

/// What happened, and what to do about it.
fn condition_words(condition: HostCondition) -> (&'static str, &'static str) {
    match condition {
        HostCondition::OutOfMemory => {
            ("the kernel killed a process for want of memory", "raise `postgres.memory`, or use a larger machine")
        }
        HostCondition::DiskFull => {
            ("the disk is full", "free some space, or put the scratch directory on a larger disk")
        }
        HostCondition::SandboxDied => {
            ("the sandbox died", "see the container engine's log for what ended it, then run again")
        }
        HostCondition::EngineGone => {
            ("the container engine no longer answers", "start it again, then `pgdrill clean`, then run again")
        }
        HostCondition::InputChanged => {
            ("the backup changed while it was read", "run again when no backup job writes to that place")
        }
    }
}

/// The same fault, of a backup that is no longer what was surveyed: nobody can tell what the file was worth.
pub fn changed(fault: Fault) -> Fault {
    let complaint = fault.line();
    let (cause, hint) = condition_words(HostCondition::InputChanged);
    Fault { blame: Blame::Host, causes: vec![cause.to_owned(), complaint], hint: Some(hint.to_owned()), ..fault }
}

fn recovers(step: &Step) -> bool {
    matches!(step.phase, Phase::Recover | Phase::Ready)
}

fn error_in_words(error: &StatementError) -> String {
    let sqlstate = error.sqlstate.as_deref().map(|it| format!(" (SQLSTATE {it})")).unwrap_or_default();
    let line = error.line.map(|it| format!("line {it}: ")).unwrap_or_default();
    let row = error.row.as_ref().map(|it| format!(", {it}")).unwrap_or_default();
    format!("{line}{}{row}{sqlstate}", error.message)
}

/// The line that a person should read first.
fn first_complaint(stderr: &str) -> String {
    let complains = |it: &&str| ["FATAL:  ", "PANIC:  ", "error: "].iter().any(|part| it.contains(part));
    let line = stderr.lines().find(complains).or_else(|| stderr.lines().rfind(|it| !it.trim().is_empty()));
    line.unwrap_or("it said nothing").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::Phase;
    use crate::recipe::Place;

    fn step(program: &str, tolerance: Tolerance) -> Step {
        let action = match program {
            "sql" => Action::Sql { database: "shop".to_owned(), statements: vec![] },
            program => Action::Run(Command::new(program)),
        };
        Step { phase: Phase::Restore, place: Place::Server, what: "restore the archive".to_owned(), action, tolerance }
    }

    fn error(sqlstate: &str, message: &str) -> StatementError {
        let sqlstate = Some(sqlstate.to_owned()).filter(|it| !it.is_empty());
        StatementError { sqlstate, message: message.to_owned(), line: None, statement: None, entry: None, row: None }
    }

    fn said(status: i32, stderr: &str) -> Output {
        Output { status, stderr: stderr.to_owned(), ..Output::default() }
    }

    fn refused(status: i32, errors: Vec<StatementError>) -> Output {
        Output { status, errors_total: errors.len() as u64, errors, ..Output::default() }
    }

    fn whose(program: &str, output: &Output) -> Option<Blame> {
        blame(&step(program, Tolerance::Strict), output).map(|it| it.blame)
    }

    #[test]
    fn a_step_that_succeeded_is_nobodys_fault() {
        let ignored = refused(1, vec![error("42704", "role \"a\" does not exist")]);
        let records = |program| step(program, Tolerance::RecordsErrors);
        assert_eq!(whose("psql", &Output::default()), None);
        assert_eq!(blame(&records("pg_restore"), &ignored), None);
        assert_eq!(blame(&records("psql"), &Output { status: 0, ..ignored.clone() }), None);
        assert_eq!(blame(&records("sql"), &Output { status: 0, ..ignored.clone() }), None);
        // Nothing else is excused by it.
        assert!(blame(&records("pg_restore"), &said(1, "")).is_some());
        assert!(blame(&records("psql"), &Output { status: 1, ..ignored.clone() }).is_some());
        assert!(blame(&step("pg_restore", Tolerance::Strict), &ignored).is_some());
        assert!(blame(&step("sql", Tolerance::Strict), &Output { status: 0, ..ignored }).is_some());
    }

    #[test]
    fn a_fatal_error_stops_even_where_errors_are_recorded() {
        let mut output = refused(1, vec![error("42704", "role \"a\" does not exist")]);
        output.stderr = "pg_restore: error: could not read from input file: end of file\n".to_owned();
        let fault = blame(&step("pg_restore", Tolerance::RecordsErrors), &output).expect("a fault");
        assert_eq!(
            (fault.blame, fault.causes[0].as_str()),
            (Blame::Backup, "could not read from input file: end of file")
        );
        assert_eq!(fault.message, "restore the archive");
    }

    #[test]
    fn what_the_host_did_comes_first() {
        for condition in [
            HostCondition::OutOfMemory,
            HostCondition::DiskFull,
            HostCondition::SandboxDied,
            HostCondition::EngineGone,
            HostCondition::InputChanged,
        ] {
            let output = said(1, "pg_restore: error: could not read from input file: end of file");
            let output = Output { conditions: vec![condition], ..output };
            assert_eq!(whose("pg_restore", &output), Some(Blame::Host), "{condition:?}");
            let fine = Output { conditions: vec![condition], ..Output::default() };
            assert_eq!(whose("pg_restore", &fine).is_some(), condition == HostCondition::InputChanged, "{condition:?}");
        }
    }

    #[test]
    fn what_a_program_says_of_itself_is_somebodys_fault() {
        for (program, line, expected) in [
            ("pg_restore", "pg_restore: error: could not read from input file: end of file", Blame::Backup),
            ("pg_restore", "pg_restore: error: unexpected end of file", Blame::Backup),
            ("pg_restore", "pg_restore: error: could not uncompress data: incorrect data check", Blame::Backup),
            ("pg_restore", "pg_restore: error: could not close data file \"d/1.dat\": Success", Blame::Backup),
            ("pg_restore", "pg_restore: error: input file is too short (read 0, expected 5)", Blame::Backup),
            ("pg_restore", "pg_restore: error: input file does not appear to be a valid archive", Blame::Backup),
            (
                "pg_restore",
                "pg_restore: error: could not open input file \"d/1.dat\": No such file or directory",
                Blame::Backup,
            ),
            ("pg_restore", "pg_restore: error: could not open input file \"d\": Permission denied", Blame::Host),
            ("pg_restore", "pg_restore: error: unsupported version (1.16) in file header", Blame::Host),
            ("pg_restore", "pg_restore: error: could not execute query: no connection to the server", Blame::Host),
            (
                "pg_restore",
                "pg_restore: error: connection to server on socket \"s\" failed: No such file or directory",
                Blame::Host,
            ),
            ("pg_restore", "pg_restore: error: a worker process died unexpectedly", Blame::Host),
            ("pg_restore", "pg_restore: terminated by user", Blame::Host),
            ("pg_restore", "pg_restore: error: out of memory", Blame::Host),
            ("pg_restore", "pg_restore: unrecognized option '--nonsense'", Blame::Harness),
            ("pg_restore", "pg_restore: error: parallel restore from standard input is not supported", Blame::Harness),
            ("psql", "psql: error: connection to server on socket \"s\" failed: Connection refused", Blame::Host),
            ("psql", "psql:<stdin>:3: server closed the connection unexpectedly", Blame::Host),
            ("psql", "psql:<stdin>:3: error: connection to server was lost", Blame::Host),
            ("psql", "psql: error: /in/0: No such file or directory", Blame::Backup),
            ("initdb", "initdb: error: invalid locale name \"xx\"", Blame::Host),
            ("pg_ctl", "pg_ctl: could not start server", Blame::Host),
            ("pg_restore", "", Blame::Backup),
        ] {
            assert_eq!(whose(program, &said(1, line)), Some(expected), "{line}");
        }
    }

    #[test]
    fn the_worker_that_died_is_not_the_cause() {
        let stderr =
            "pg_restore: error: a worker process died unexpectedly\npg_restore: error: could not uncompress data: x\n";
        assert_eq!(whose("pg_restore", &said(1, stderr)), Some(Blame::Backup));
    }

    #[test]
    fn the_error_of_a_statement_is_somebodys_fault() {
        for (sqlstate, message, expected) in [
            ("23505", "duplicate key value violates unique constraint \"t_pkey\"", Blame::Backup),
            ("22P04", "missing data for column \"attrs\"", Blame::Backup),
            ("XX001", "invalid page in block 0", Blame::Backup),
            ("42P01", "relation \"t\" does not exist", Blame::Backup),
            ("0A000", "cannot do this or that", Blame::Backup),
            ("53100", "could not extend file \"base/1/2\": No space left on device", Blame::Host),
            ("53200", "out of shared memory", Blame::Host),
            ("53300", "sorry, too many clients already", Blame::Host),
            ("53400", "configuration limit exceeded", Blame::Host),
            ("57014", "canceling statement due to statement timeout", Blame::Host),
            ("57P01", "terminating connection due to administrator command", Blame::Host),
            ("57P03", "the database system is starting up", Blame::Host),
            ("58030", "could not read block 1: Input/output error", Blame::Host),
            ("58P01", "could not access file \"$libdir/hstore\": No such file or directory", Blame::Host),
            ("58P01", "could not open extension control file \"x.control\": No such file or directory", Blame::Host),
            ("0A000", "extension \"hstore\" is not available", Blame::Host),
            ("0A000", "ICU is not supported by this build", Blame::Host),
            ("0A000", "compression method lz4 not supported", Blame::Host),
            ("22023", "invalid locale name: \"xx_XX\"", Blame::Host),
            ("42809", "invalid LC_COLLATE locale name: \"xx_XX.UTF-8\"", Blame::Host),
            ("42704", "collation \"de-x-icu\" for encoding \"UTF8\" does not exist", Blame::Host),
            ("42704", "role \"shop_owner\" does not exist", Blame::Scenario),
            ("22023", "role \"shop_owner\" does not exist", Blame::Scenario),
            ("42704", "tablespace \"fast\" does not exist", Blame::Scenario),
            ("42501", "permission denied for table t", Blame::Scenario),
            ("", "role \"shop_owner\" does not exist", Blame::Scenario),
            ("", "extension \"hstore\" is not available", Blame::Host),
            ("22023", "security label provider \"anon\" is not loaded", Blame::Host),
            ("22023", "no security label providers have been loaded", Blame::Host),
            ("", "could not write to file \"base/pgsql_tmp\": No space left on device", Blame::Host),
            ("", "invalid command \\restrict", Blame::Host),
            ("", "duplicate key value", Blame::Backup),
        ] {
            let error = error(sqlstate, message);
            assert_eq!(blame_error(&error).blame, expected, "{sqlstate} {message}");
            assert_eq!(whose("psql", &refused(3, vec![error])), Some(expected), "{sqlstate} {message}");
        }
    }

    #[test]
    fn an_error_by_the_host_explains_those_around_it() {
        let errors = vec![error("23505", "duplicate key"), error("53100", "No space left on device")];
        assert_eq!(whose("psql", &refused(3, errors)), Some(Blame::Host));
    }

    #[test]
    fn a_wrong_statement_of_our_own_is_a_bug_of_ours() {
        let syntax = || vec![error("42601", "syntax error at or near \"nalyze\"")];
        assert_eq!(whose("sql", &refused(0, syntax())), Some(Blame::Harness));
        assert_eq!(whose("psql", &refused(3, syntax())), Some(Blame::Backup));
    }

    #[test]
    fn signals_and_programs_that_cannot_run_are_the_hosts() {
        for status in [126, 127, 129, 134, 137, 139, 143] {
            assert_eq!(whose("pg_restore", &said(status, "")), Some(Blame::Host), "{status}");
        }
    }

    #[test]
    fn every_fault_has_a_cause_and_most_have_a_hint() {
        let fault = blame(&step("initdb", Tolerance::Strict), &said(1, "note\ninitdb: error: no\n")).expect("a fault");
        assert_eq!(fault.causes, ["initdb: error: no"]);
        assert!(fault.hint.is_some());
        let silent = blame(&step("psql", Tolerance::Strict), &said(1, "")).expect("a fault");
        assert_eq!(silent.causes, ["it said nothing"]);
    }
}
