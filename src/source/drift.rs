//! What changed between PostgreSQL's versions, so that statements of an old dump fail in a new server without any loss.
//!
//! Such an error is reported as a deviation and not as damage. Only what loses nothing stands here: a table that a newer
//! major cannot have (`COPY … WITH OIDS`, a column of type `abstime`) is lost by moving to it, and fails a drill.

use crate::recipe::StatementError;

/// One thing that changed.
struct Change {
    sqlstate: &'static str,
    /// How the statement begins, lowercase, white space folded. Any of them.
    statements: &'static [&'static str],
    /// A part of the message.
    message: &'static str,
    /// For the report.
    because: &'static str,
}

const CHANGES: &[Change] = &[
    Change {
        sqlstate: "42710",
        statements: &["create language", "create procedural language", "create trusted", "create or replace"],
        message: "plpgsql\" already exists",
        because: "plpgsql is there from the start since PostgreSQL 9.0",
    },
    Change {
        sqlstate: "42601",
        statements: &["create trusted procedural language 'plpgsql'", "create procedural language 'plpgsql'"],
        message: "'plpgsql'",
        because: "plpgsql is there from the start since PostgreSQL 9.0",
    },
    // How dumps of before 8.1 kept triggers from firing while rows came in: they come before the triggers here.
    Change {
        sqlstate: "42703",
        statements: &["update pg_class ", "update \"pg_class\" ", "update pg_catalog.pg_class "],
        message: "reltriggers",
        because: "triggers are not counted in pg_class since PostgreSQL 8.4",
    },
    Change {
        sqlstate: "2BP01",
        statements: &["drop language", "drop procedural language", "drop extension"],
        message: "plpgsql",
        because: "plpgsql is there from the start since PostgreSQL 9.0",
    },
    Change {
        sqlstate: "42P06",
        statements: &["create schema public", "create schema \"public\""],
        message: "schema \"public\" already exists",
        because: "every database has the schema public from the start",
    },
    Change {
        sqlstate: "0A000",
        statements: &["set default_with_oids"],
        message: "tables declared WITH OIDS are not supported",
        because: "tables have no hidden OIDs since PostgreSQL 12",
    },
    Change {
        sqlstate: "42704",
        statements: &["set ", "select pg_catalog.set_config("],
        message: "unrecognized configuration parameter",
        because: "this server does not have that setting",
    },
    // Settings that are there and no longer take the value: `SET escape_string_warning`, `SET xmloption` … never hold data.
    Change {
        sqlstate: "22023",
        statements: &["set "],
        message: "invalid value for parameter",
        because: "this server's setting takes other values",
    },
    Change {
        sqlstate: "55P02",
        statements: &["set "],
        message: "cannot be changed",
        because: "this server's setting is fixed",
    },
    Change {
        sqlstate: "42704",
        statements: &["alter schema public owner to", "alter schema \"public\" owner to", "grant ", "revoke "],
        message: "role \"pg_",
        because: "this major has no such predefined role",
    },
];

/// Why this error loses nothing; None where it may.
pub fn explains(error: &StatementError) -> Option<&'static str> {
    let statement = folded(error);
    let sqlstate = error.sqlstate.as_deref()?;
    let named = error.message.split('"').nth(1).unwrap_or_default();
    if statement.starts_with("create database ") && error.message.contains("locale") && is_windows_locale(named) {
        return Some("locales of Windows are not to be had here: the database was made with another");
    }
    let handler = ["plpgsql_call_handler", "plpgsql_validator"].iter().any(|it| statement.contains(it));
    if handler && ["create function ", "create or replace function "].iter().any(|it| statement.starts_with(it)) {
        return Some("plpgsql is there from the start since PostgreSQL 9.0");
    }
    let change = CHANGES.iter().find(|it| {
        it.sqlstate == sqlstate
            && error.message.contains(it.message)
            && it.statements.iter().any(|start| statement.starts_with(start))
    });
    change.map(|it| it.because)
}

/// Something that an old major had and newer ones have not: what uses it is whole, and cannot be restored into these.
struct Removal {
    sqlstate: &'static str,
    statements: &'static [&'static str],
    message: &'static str,
    /// The first major without it.
    since: u32,
    what: &'static str,
}

const REMOVALS: &[Removal] = &[
    Removal {
        sqlstate: "42601",
        statements: &["copy ", "create table ", "create temp"],
        message: "at or near \"oids\"",
        since: 12,
        what: "tables with hidden OIDs",
    },
    Removal {
        sqlstate: "42704",
        statements: &[""],
        message: "type \"abstime\" does not exist",
        since: 12,
        what: "the type abstime",
    },
    Removal {
        sqlstate: "42704",
        statements: &[""],
        message: "type \"reltime\" does not exist",
        since: 12,
        what: "the type reltime",
    },
    Removal {
        sqlstate: "42704",
        statements: &[""],
        message: "type \"tinterval\" does not exist",
        since: 12,
        what: "the type tinterval",
    },
    Removal {
        sqlstate: "42704",
        statements: &["create function ", "create or replace function "],
        message: "type \"opaque\" does not exist",
        since: 13,
        what: "the type opaque",
    },
    // Since 14 these take anycompatiblearray.
    Removal {
        sqlstate: "42883",
        statements: &["create aggregate "],
        message: "function array_",
        since: 14,
        what: "functions of arrays with their old types",
    },
    Removal {
        sqlstate: "42883",
        statements: &["create operator "],
        message: "function array_",
        since: 14,
        what: "functions of arrays with their old types",
    },
    Removal {
        sqlstate: "42P13",
        statements: &["create operator "],
        message: "right argument type must be specified",
        since: 14,
        what: "postfix operators",
    },
];

/// What the dump's major had and the server's has not, if that is why the statement failed. `from`: the dump's major, if it
/// is known; `to`: the server's.
pub fn removed(error: &StatementError, from: Option<u32>, to: u32) -> Option<(&'static str, u32)> {
    let statement = folded(error);
    let (sqlstate, message) = (error.sqlstate.as_deref()?, error.message.to_lowercase());
    let removal = REMOVALS.iter().find(|it| {
        it.sqlstate == sqlstate
            && from.is_none_or(|from| from < it.since)
            && it.since <= to
            && message.contains(it.message)
            && it.statements.iter().any(|start| statement.starts_with(start))
    })?;
    Some((removal.what, removal.since))
}

/// The statement on one line, in lower case.
fn folded(error: &StatementError) -> String {
    let statement = error.statement.as_deref().unwrap_or_default();
    statement.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

/// A locale's name as Windows writes it: `English_United States.1252`. No Linux has one.
pub fn is_windows_locale(name: &str) -> bool {
    let Some((language, page)) = name.rsplit_once('.') else { return false };
    language.contains('_') && (3..=5).contains(&page.len()) && page.bytes().all(|it| it.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(sqlstate: &str, message: &str, statement: &str) -> StatementError {
        StatementError {
            sqlstate: Some(sqlstate.to_owned()),
            message: message.to_owned(),
            line: None,
            statement: Some(statement.to_owned()),
            entry: None,
            row: None,
        }
    }

    #[test]
    fn what_old_dumps_say_to_new_servers_is_drift() {
        for (sqlstate, message, statement) in [
            ("42710", "language \"plpgsql\" already exists", "CREATE PROCEDURAL LANGUAGE plpgsql;"),
            ("42710", "extension \"plpgsql\" already exists", "CREATE PROCEDURAL LANGUAGE plpgsql;"),
            ("42710", "language \"plpgsql\" already exists", "CREATE OR REPLACE PROCEDURAL LANGUAGE plpgsql;"),
            ("42P06", "schema \"public\" already exists", "CREATE SCHEMA public;"),
            (
                "42704",
                "language \"C\" does not exist",
                "CREATE FUNCTION \"plpgsql_call_handler\" () RETURNS opaque AS '/usr/lib/plpgsql.so' LANGUAGE 'C';",
            ),
            (
                "42601",
                "syntax error at or near \"'plpgsql'\"",
                "CREATE TRUSTED PROCEDURAL LANGUAGE 'plpgsql' HANDLER \"plpgsql_call_handler\" LANCOMPILER 'PL/pgSQL';",
            ),
            ("42703", "column \"reltriggers\" does not exist", "UPDATE \"pg_class\" SET …"),
            ("0A000", "tables declared WITH OIDS are not supported", "SET default_with_oids = true;"),
            ("42704", "unrecognized configuration parameter \"transaction_timeout\"", "SET transaction_timeout = 0;"),
            ("42704", "role \"pg_database_owner\" does not exist", "ALTER SCHEMA public OWNER TO pg_database_owner;"),
        ] {
            assert!(explains(&error(sqlstate, message, statement)).is_some(), "{statement}");
        }
    }

    #[test]
    fn what_loses_something_is_no_drift() {
        for (sqlstate, message, statement) in [
            ("42601", "syntax error at or near \"OIDS\"", "COPY film (id) WITH OIDS FROM stdin;"),
            ("42704", "type \"abstime\" does not exist", "CREATE TABLE film (t abstime);"),
            ("42710", "language \"plperl\" already exists", "CREATE PROCEDURAL LANGUAGE plperl;"),
            ("42P06", "schema \"shop\" already exists", "CREATE SCHEMA shop;"),
            ("0A000", "tables declared WITH OIDS are not supported", "CREATE TABLE film (id int) WITH (oids = true);"),
            ("42P07", "relation \"film\" already exists", "CREATE TABLE film (id int);"),
        ] {
            assert_eq!(explains(&error(sqlstate, message, statement)), None, "{statement}");
        }
    }

    #[test]
    fn locales_of_windows_are_known_by_their_form() {
        for (name, windows) in [
            ("English_United States.1252", true),
            ("French_France.1252", true),
            ("Chinese (Simplified)_People's Republic of China.936", true),
            ("en_US.UTF-8", false),
            ("en_US.utf8", false),
            ("de_DE.iso88591", false),
            ("C", false),
        ] {
            assert_eq!(is_windows_locale(name), windows, "{name}");
        }
    }
}
