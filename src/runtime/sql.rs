//! SQL on the restored server, over its unix socket, here or through a relay: questions of checks, and statements of ours.
//!
//! Every question has a connection of its own, so that none sees another's settings. Restored catalogues carry settings of
//! databases and roles (a `statement_timeout`, libraries to preload): they are overridden when the connection is made, and
//! once more by SET.

use std::future::poll_fn;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_postgres::{CancelToken, Client, Config, NoTls, SimpleQueryMessage, SimpleQueryRow};
use tokio_util::task::AbortOnDropHandle;

use super::complaints::cut;
use super::container::remote::{Helper, Wire};
use crate::check::sql_text::quote_ident;
use crate::check::{Answer, Probe, Table};
use crate::fault::{Blame, Fault};
use crate::recipe::StatementError;

/// Bytes kept of one value.
const VALUE_BYTES: usize = 64 * 1024;
/// Longest wait for a lock: prepared transactions of the backup may hold some for ever.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// Databases and roles may want their statements logged, and the log is kept: statements hold data.
const QUIET: &str = "-c log_statement=none -c log_min_duration_statement=-1 -c log_min_duration_sample=-1 \
                     -c log_transaction_sample_rate=0 -c log_min_error_statement=panic";
/// How much longer than the server's own limit we wait for its answer.
const GRACE: Duration = Duration::from_secs(5);
const STATEMENT_CHARS: usize = 500;

/// A server that answers on a socket.
#[derive(Clone, Debug)]
pub(crate) struct Sql {
    pub(crate) socket: Socket,
    /// The bootstrap superuser.
    pub(crate) superuser: String,
}

/// Where the server listens.
#[derive(Clone, Debug)]
pub(crate) enum Socket {
    /// `…/.s.PGSQL.5432` on this machine.
    Here(PathBuf),
    /// A path in a container, and who connects to it there.
    Away(Helper, String),
}

/// A connection, which ends when this is dropped.
struct Session {
    client: Client,
    /// Neither the database nor the client converts anything: values may be any bytes.
    sql_ascii: bool,
    _io: AbortOnDropHandle<()>,
}

enum ConnectError {
    Socket(std::io::Error),
    Server(tokio_postgres::Error),
}

impl Sql {
    /// Asks one question. Never fails: an error, a time-out and a lost connection are answers.
    pub(crate) async fn ask(&self, probe: &Probe) -> Answer {
        let mut cancel = None;
        let asked = timeout(probe.timeout.saturating_add(GRACE), self.ask_without_limit(probe, &mut cancel)).await;
        let Ok(answer) = asked else {
            if let Some(cancel) = cancel {
                self.cancel(cancel).await;
            }
            return Answer::Silent { because: format!("there was no answer within {:?}", probe.timeout) };
        };
        answer
    }

    async fn ask_without_limit(&self, probe: &Probe, cancel: &mut Option<CancelToken>) -> Answer {
        let session = match self.connect(&probe.database, probe.timeout, LOCK_TIMEOUT).await {
            Ok(session) => session,
            Err(ConnectError::Socket(error)) => {
                return silent(&format!("connect to {}", self.socket), &error);
            }
            // That a database is absent is an answer. Anything else tells of the server.
            Err(ConnectError::Server(error)) => match error.as_db_error() {
                Some(it) if it.code().code() == "3D000" => return refused(&error),
                Some(it) => {
                    // A missing locale, say: its hint tells what would do.
                    let hint = it.hint().map(|it| format!(" ({it})")).unwrap_or_default();
                    let because = format!("connect: {}: {}{hint}", it.code().code(), it.message());
                    return Answer::Silent { because };
                }
                None => return silent("connect", &error),
            },
        };
        *cancel = Some(session.client.cancel_token());
        let mut settings =
            pinned(probe.timeout, LOCK_TIMEOUT).map(|(name, value)| format!("set {name} = '{value}';")).concat();
        if session.sql_ascii {
            settings.push_str("set client_encoding = 'SQL_ASCII';");
        }
        if let Some(role) = &probe.role {
            settings.push_str("set session authorization ");
            settings.push_str(&quote_ident(role));
        }
        if let Err(error) = session.client.batch_execute(&settings).await {
            return refused(&error);
        }
        match session.query(&probe.sql, probe.keep_rows).await {
            Ok(answer) => answer,
            Err(error) => refused(&error),
        }
    }

    /// Executes statements one by one, each in a transaction of its own, and goes on after errors. An error when
    /// connecting, such as an absent database, is recorded like one, without a statement.
    ///
    /// There is no limit on time in here: the phase has one. Fault: the server cannot be reached any more.
    pub(crate) async fn execute(&self, database: &str, statements: &[String]) -> Result<Vec<StatementError>, Fault> {
        let lost = |cause: String| {
            Fault::new(Blame::Host, format!("reach the server of the sandbox for the database {database}"))
                .cause(cause)
                .hint("see the server's log for why it ended")
        };
        let session = match self.connect(database, Duration::ZERO, Duration::ZERO).await {
            Ok(session) => session,
            Err(ConnectError::Socket(error)) => return Err(lost(error.to_string())),
            Err(ConnectError::Server(error)) => {
                return statement_error(&error, None).map(|it| vec![it]).ok_or_else(|| lost(chain(&error)));
            }
        };
        // Settings of the restored database that would make it read-only are for its users.
        let ours = "set default_transaction_read_only = off; set statement_timeout = 0; set lock_timeout = 0";
        if let Err(error) = session.client.batch_execute(ours).await {
            return Err(lost(chain(&error)));
        }
        let mut errors = Vec::new();
        for statement in statements {
            let Err(error) = session.client.batch_execute(statement).await else { continue };
            match statement_error(&error, Some(statement)) {
                Some(error) => errors.push(error),
                None => return Err(lost(chain(&error))),
            }
        }
        Ok(errors)
    }

    /// Connects to the socket itself, and to nothing that stands in its place.
    ///
    /// The directory belongs to a server that runs restored code. A link there could lead out of the room, to another
    /// server of this machine, which would then answer the checks.
    async fn dial(&self) -> std::io::Result<Box<dyn Wire>> {
        let socket = match &self.socket {
            Socket::Here(socket) => socket,
            // In there is nothing that a link could lead out to.
            Socket::Away(helper, socket) => return helper.dial(socket).await,
        };
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let (Some(run), Some(name)) = (socket.parent(), socket.file_name()) else {
            return Err(std::io::ErrorKind::InvalidInput.into());
        };
        let run = nix::fcntl::open(run, flags | OFlag::O_DIRECTORY, Mode::empty())?;
        let socket = std::fs::File::from(nix::fcntl::openat(&run, name, flags, Mode::empty())?);
        if !socket.metadata()?.file_type().is_socket() {
            return Err(std::io::Error::other("what lies there is no socket"));
        }
        Ok(Box::new(UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd())).await?))
    }

    /// Zero means no limit, as it does to the server.
    async fn connect(&self, database: &str, statement: Duration, lock: Duration) -> Result<Session, ConnectError> {
        let stream = self.dial().await.map_err(ConnectError::Socket)?;
        let option = |(name, value): (&str, String)| format!("-c {name}={}", value.replace(' ', "\\ "));
        let options = pinned(statement, lock).map(option).join(" ");
        let mut config = Config::new();
        // Libraries that the restored catalogues want in every session may not be here; without them it opens.
        config
            .user(&self.superuser)
            .dbname(database)
            .application_name("pgdrill")
            .options(format!("{options} {QUIET} -c session_preload_libraries= -c local_preload_libraries="));
        let (client, mut connection) = config.connect_raw(stream, NoTls).await.map_err(ConnectError::Server)?;
        let sql_ascii = connection.parameter("server_encoding") == Some("SQL_ASCII");
        // Driven by hand, since the library would write every notice to the log: they may quote data.
        let io = tokio::spawn(async move {
            while let Some(Ok(_)) = poll_fn(|context| connection.poll_message(context)).await {}
        });
        Ok(Session { client, sql_ascii, _io: AbortOnDropHandle::new(io) })
    }

    /// Dropping a connection does not stop what it asked for.
    async fn cancel(&self, token: CancelToken) {
        let cancelled = timeout(GRACE, async {
            let stream = self.dial().await.ok()?;
            token.cancel_query_raw(stream, NoTls).await.ok()
        });
        if !matches!(cancelled.await, Ok(Some(()))) {
            tracing::debug!("a query that took too long could not be cancelled");
        }
    }
}

impl std::fmt::Display for Socket {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Socket::Here(path) => path.display().fmt(formatter),
            Socket::Away(_, path) => write!(formatter, "{path} in the container"),
        }
    }
}

/// What makes texts of values the same everywhere, and bounds a question. Names and values need no quotes.
fn pinned(statement: Duration, lock: Duration) -> [(&'static str, String); 8] {
    [
        ("timezone", "UTC".to_owned()),
        ("datestyle", "ISO, YMD".to_owned()),
        ("intervalstyle", "postgres".to_owned()),
        ("bytea_output", "hex".to_owned()),
        ("extra_float_digits", "1".to_owned()),
        ("client_min_messages", "error".to_owned()),
        ("statement_timeout", millis(statement)),
        ("lock_timeout", millis(lock)),
    ]
}

/// At least one, since zero would turn a limit off, but for zero itself.
fn millis(limit: Duration) -> String {
    let most = i32::MAX.unsigned_abs().into();
    let least = u128::from(!limit.is_zero());
    limit.as_millis().clamp(least, most).to_string()
}

impl Session {
    /// Runs a text, keeps the first rows of its last result set, and counts the rest.
    async fn query(&self, sql: &str, keep_rows: usize) -> Result<Answer, tokio_postgres::Error> {
        let mut messages = pin!(self.client.simple_query_raw(sql).await?);
        let mut table = Table::default();
        let mut unreadable = None;
        while let Some(message) = messages.next().await {
            match message? {
                SimpleQueryMessage::RowDescription(columns) => {
                    let columns = columns.iter().map(|it| it.name().to_owned()).collect();
                    table = Table { columns, ..Table::default() };
                    unreadable = None;
                }
                SimpleQueryMessage::Row(row) => {
                    table.total += 1;
                    if table.rows.len() < keep_rows && unreadable.is_none() {
                        match values(&row) {
                            Ok(values) => table.rows.push(values),
                            Err(column) => unreadable = Some(column),
                        }
                    }
                }
                SimpleQueryMessage::CommandComplete(_) => {}
                _ => tracing::debug!("the server sent a message that this version does not know"),
            }
        }
        Ok(match unreadable {
            Some(column) => Answer::Silent {
                because: format!(
                    "the value of {column} is no UTF-8, and the database (SQL_ASCII) does not say what it is"
                ),
            },
            None => Answer::Rows(table),
        })
    }
}

/// The values of a row, or the name of the column that is not UTF-8.
fn values(row: &SimpleQueryRow) -> Result<Vec<Option<String>>, String> {
    let value = |at: usize| match row.try_get(at) {
        Ok(value) => Ok(value.map(cut_value)),
        Err(_) => Err(row.columns().get(at).map_or_else(|| format!("column {at}"), |it| it.name().to_owned())),
    };
    (0..row.len()).map(value).collect()
}

/// A longer value gets a mark that tells it from its beginning.
fn cut_value(value: &str) -> String {
    if value.len() <= VALUE_BYTES {
        return value.to_owned();
    }
    let end = (0..=VALUE_BYTES).rev().find(|it| value.is_char_boundary(*it)).unwrap_or(0);
    format!("{}… ({} bytes)", &value[..end], value.len())
}

fn refused(error: &tokio_postgres::Error) -> Answer {
    match error.as_db_error() {
        // The detail may quote rows.
        Some(it) => Answer::Refused {
            sqlstate: it.code().code().to_owned(),
            message: it.message().to_owned(),
            hint: it.hint().map(str::to_owned),
        },
        None => silent("ask", error),
    }
}

fn silent(what: &str, error: &dyn std::error::Error) -> Answer {
    Answer::Silent { because: format!("{what}: {}", chain(error)) }
}

/// An error with all that lies beneath it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// None where the server did not answer, or said that it is going away.
fn statement_error(error: &tokio_postgres::Error, statement: Option<&str>) -> Option<StatementError> {
    let error = error.as_db_error()?;
    let sqlstate = error.code().code().to_owned();
    if matches!(sqlstate.as_str(), "57P01" | "57P02" | "57P03") {
        return None;
    }
    let statement = statement.map(|it| cut(it, STATEMENT_CHARS));
    Some(StatementError {
        sqlstate: Some(sqlstate),
        message: error.message().to_owned(),
        line: None,
        statement,
        entry: None,
        row: None,
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
