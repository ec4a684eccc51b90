//! An empty server for logical restores: its configuration, its start, and the SQL around a database.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Durability;
use super::dump::Ingredients;
use crate::check::sql_text::{quote_ident, quote_literal};
use crate::phase::Phase;
use crate::recipe::{Action, Arg, At, Command, Place, ServerFacts, Step, Tolerance};

/// The bootstrap superuser of sandboxes.
pub const SUPERUSER: &str = "postgres";
/// Where to connect before there is anything else.
pub const PSQL_DATABASE: &str = "postgres";
pub const TEMPLATES: [&str; 2] = ["template0", "template1"];
/// The server's log, in the run directory.
pub const LOG_FILE: &str = "server.log";

/// Steps of `provision`: initdb, our own configuration, start.
pub fn empty_cluster(it: &Ingredients<'_>) -> Vec<Step> {
    let step = |what: &str, action| Step {
        phase: Phase::Provision,
        place: Place::Server,
        what: what.to_owned(),
        action,
        tolerance: Tolerance::Strict,
    };
    let locale = default_locale(it.server, None);
    let mut initdb = Command::new("initdb")
        .args([format!("--username={SUPERUSER}"), format!("--locale={locale}")])
        .args(["--encoding=UTF8", "--auth=trust", "--no-sync", "--pgdata"])
        .arg(Arg::path(At::Data, ""));
    initdb.env = client_env();
    let write = |path: &str, text: String| Action::Write { at: At::Run, path: path.to_owned(), text };
    let mut start = Command::new("pg_ctl")
        .args(["start", "--silent", "--wait", "--timeout=86400", "--pgdata"])
        .arg(Arg::path(At::Data, ""))
        .arg("--log")
        .arg(Arg::path(At::Run, LOG_FILE))
        // Relative to the room's root, where every program starts.
        .args(["--options", "-c config_file=run/postgresql.conf"]);
    start.env = client_env();
    vec![
        step("make an empty cluster", Action::Run(initdb)),
        step("write the server's configuration", write("postgresql.conf", configuration(it))),
        step("write the server's configuration", write("pg_hba.conf", "local all all trust\n".to_owned())),
        step("write the server's configuration", write("pg_ident.conf", String::new())),
        step("start the server", Action::Run(start)),
    ]
}

fn configuration(it: &Ingredients<'_>) -> String {
    let durable = match it.durability {
        Durability::Representative => "fsync = on\nfull_page_writes = on\n",
        Durability::Fast => {
            "fsync = off\nfull_page_writes = off\nsynchronous_commit = off\nwal_level = minimal\nmax_wal_senders = 0\n"
        }
    };
    // A restored login trigger must not act (17 and newer can have one).
    let triggers = if it.server.major >= 17 { "event_triggers = off\n" } else { "" };
    let mut text = format!(
        "{durable}{triggers}\
         listen_addresses = ''\n\
         unix_socket_directories = '../run'\n\
         hba_file = 'run/pg_hba.conf'\n\
         ident_file = 'run/pg_ident.conf'\n\
         archive_mode = off\n\
         max_logical_replication_workers = 0\n\
         shared_preload_libraries = ''\n\
         huge_pages = off\n\
         logging_collector = off\n\
         log_destination = 'stderr'\n\
         log_line_prefix = '%m [%p] %e %q%a@%d '\n\
         log_error_verbosity = terse\n\
         log_min_error_statement = panic\n\
         log_timezone = 'UTC'\n\
         lc_messages = 'C'\n"
    );
    for (name, value) in &it.restore.settings {
        let _ = writeln!(text, "{name} = '{}'", value.replace('\'', "''"));
    }
    text
}

/// For programs that connect: messages in English, and nothing of the caller's environment.
pub fn client_env() -> BTreeMap<String, String> {
    [("LC_ALL", "C.UTF-8"), ("TZ", "UTC")].map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// `C.UTF-8` where there is one, else `C`.
pub fn default_locale(server: &ServerFacts, encoding: Option<&str>) -> String {
    let unicode = encoding.is_none_or(|it| it.eq_ignore_ascii_case("UTF8"));
    if unicode && has_locale(server, "C.UTF-8") { "C.UTF-8" } else { "C" }.to_owned()
}

/// Some encodings exist for clients only: a dump made with `-E SJIS` is in one, and its database never was.
pub fn is_server_encoding(name: &str) -> bool {
    let client = ["SJIS", "BIG5", "GBK", "UHC", "GB18030", "JOHAB", "SHIFT_JIS_2004", "SHIFT_JIS"];
    !client.iter().any(|it| it.eq_ignore_ascii_case(name))
}

pub fn has_locale(server: &ServerFacts, wanted: &str) -> bool {
    let same = |name: &str| name.to_lowercase().replace('-', "");
    matches!(wanted, "C" | "POSIX" | "") || server.locales.iter().any(|it| same(it) == same(wanted))
}

/// The locales of the C library that a `CREATE DATABASE` statement of pg_dump names.
pub fn locales_of(statement: &str) -> Vec<String> {
    // ICU and builtin locales stand in the same key, with another provider beside it.
    let other = ["icu", "'icu'", "builtin", "'builtin'"];
    let provided = other.iter().any(|it| statement.contains(&format!("LOCALE_PROVIDER = {it}")));
    let keys: &[&str] = if provided { &["LC_COLLATE", "LC_CTYPE"] } else { &["LOCALE", "LC_COLLATE", "LC_CTYPE"] };
    let value = |key: &&str| {
        let (_, rest) = statement.split_once(&format!(" {key} = '"))?;
        Some(rest.split_once('\'')?.0.to_owned())
    };
    keys.iter().filter_map(value).collect()
}

pub fn create_database(name: &str, encoding: &str, locale: &str) -> String {
    let (name, encoding, locale) = (quote_ident(name), quote_literal(encoding), quote_literal(locale));
    format!(
        "create database {name} with template = template0 encoding = {encoding} lc_collate = {locale} lc_ctype = {locale}"
    )
}

/// The archive's own `CREATE DATABASE` statement, for another name.
pub fn renamed(statement: &str, name: &str) -> String {
    match statement.find(" WITH ") {
        Some(at) => format!("CREATE DATABASE {}{}", quote_ident(name), &statement[at..]),
        None => format!("CREATE DATABASE {}", quote_ident(name)),
    }
}

/// A database's name as a connection string: libpq takes a name with `=` in it, or one like a URI, for one.
pub fn conninfo(database: &str) -> String {
    format!("dbname='{}'", database.replace('\\', "\\\\").replace('\'', "\\'"))
}
