//! Looks for what a restored cluster carries and no check examines: prepared transactions, closed databases, other collations.

use std::time::Duration;

use super::sandbox::LiveSandbox;
use crate::check::{Answer, Probe};
use crate::recipe::{Around, Closed, CollationSeen, Output, Prepared};
use crate::source::base_backup::DATABASE;

/// Of a question to catalogues.
const PATIENCE: Duration = Duration::from_secs(60);
/// Of each kind; who has more has heard enough.
const KEPT: usize = 100;
/// From this major on databases record the version of their collation.
const RECORDS_COLLATIONS: u32 = 15;

const PREPARED: &str =
    "select gid, database, owner, prepared::text from pg_catalog.pg_prepared_xacts order by prepared, gid";
const CLOSED: &str = "select datname, (datconnlimit = -2)::text from pg_catalog.pg_database where (not datallowconn or \
                      datconnlimit = -2) and datname <> 'template0' order by 1";
const COLLATIONS: &str = "select datname, datcollate, datcollversion, \
                          pg_catalog.pg_database_collation_actual_version(oid) from pg_catalog.pg_database \
                          where datcollversion is not null and datcollversion is distinct from \
                          pg_catalog.pg_database_collation_actual_version(oid) order by 1";

impl LiveSandbox {
    /// What cannot be asked is said, and stops nothing.
    pub(super) async fn look_around(&self, major: u32) -> Output {
        let mut around = Around::default();
        for row in self.catalogue("prepared transactions", PREPARED, &mut around).await {
            let [gid, database, owner, since] = texts(row);
            around.prepared.push(Prepared { gid, database, owner, since });
        }
        for row in self.catalogue("closed databases", CLOSED, &mut around).await {
            let [database, half_dropped] = texts(row);
            around.closed.push(Closed { database, half_dropped: half_dropped == "true" });
        }
        if major >= RECORDS_COLLATIONS {
            for row in self.catalogue("collations", COLLATIONS, &mut around).await {
                let here = row.get(3).cloned().flatten();
                let [database, collation, recorded] = texts(row);
                around.collations.push(CollationSeen { database, collation, recorded, here });
            }
        }
        Output { around: Some(around), ..Output::default() }
    }

    async fn catalogue(&self, what: &str, sql: &str, around: &mut Around) -> Vec<Vec<Option<String>>> {
        let probe = Probe {
            database: DATABASE.to_owned(),
            role: None,
            sql: sql.to_owned(),
            timeout: PATIENCE,
            keep_rows: KEPT,
        };
        match self.question(&probe).await {
            Answer::Rows(table) => return table.rows,
            Answer::Refused { sqlstate, message, .. } => around.unknown.push(format!("{what}: {sqlstate}: {message}")),
            Answer::Silent { because } => around.unknown.push(format!("{what}: {because}")),
        }
        Vec::new()
    }
}

/// The first columns of a row; null as an empty text.
fn texts<const N: usize>(row: Vec<Option<String>>) -> [String; N] {
    let mut row = row.into_iter();
    std::array::from_fn(|_| row.next().flatten().unwrap_or_default())
}
