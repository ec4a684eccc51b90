//! Looks for what a restored cluster carries and no check examines: prepared transactions, closed databases, other collations.

use std::time::Duration;

use super::sandbox::LiveSandbox;
use crate::check::sql_text::quote_literal;
use crate::check::{Answer, Probe};
use crate::format::machine::{Architecture, Machine};
use crate::recipe::{Around, Closed, CollationSeen, Doubt, Doubtful, Output, Prepared};
use crate::source::base_backup::DATABASE;

/// Of a question to catalogues.
const PATIENCE: Duration = Duration::from_secs(60);
/// Rows of an answer, at most: whoever has more indexes in doubt has heard enough.
const KEPT: usize = 10_000;
/// From this major on databases record the version of their collation.
const RECORDS_COLLATIONS: u32 = 15;
/// From this major on `pg_trgm` goes by what the cluster records of C's `char`, and not by the machine.
const RECORDS_SIGNEDNESS: u32 = 18;

const PREPARED: &str =
    "select gid, database, owner, prepared::text from pg_catalog.pg_prepared_xacts order by prepared, gid limit 100";
const CLOSED: &str = "select datname, (datconnlimit = -2)::text from pg_catalog.pg_database where (not datallowconn or \
                      datconnlimit = -2) and datname <> 'template0' order by 1 limit 100";
const COLLATIONS: &str = "select datname, datcollate, datcollversion, \
                          pg_catalog.pg_database_collation_actual_version(oid) from pg_catalog.pg_database \
                          where datcollversion is not null and datcollversion is distinct from \
                          pg_catalog.pg_database_collation_actual_version(oid) order by 1 limit 100";

const OPEN: &str = "select datname from pg_catalog.pg_database where datallowconn and datconnlimit <> -2 order by 1";
const CITUS: &str = "select count(*) from pg_catalog.pg_class where relname = 'pg_dist_node' and relnamespace = \
                     'pg_catalog'::pg_catalog.regnamespace";
const NODES: &str = "select count(*) from pg_catalog.pg_dist_node where groupid <> 0";
/// Indexes by the collations that ordered them, where those are of another version here. A hash is of no order. The one of the
/// database (100) has its version since 15 in `pg_database`; before, what initdb recorded of the C library's others tells it. A C
/// library without versions (musl) recorded none.
const BY_COLLATION: &str = "\
with other as (
    select oid, collname::text as name, collversion as recorded, pg_catalog.pg_collation_actual_version(oid) as here
      from pg_catalog.pg_collation
     where oid <> 100 and collversion is distinct from pg_catalog.pg_collation_actual_version(oid)
     union all {default}
)
select distinct other.name, other.recorded, other.here, s.nspname || '.' || c.relname
  from pg_catalog.pg_index i
  join pg_catalog.pg_class c on c.oid = i.indexrelid
  join pg_catalog.pg_namespace s on s.oid = c.relnamespace
  join pg_catalog.pg_am a on a.oid = c.relam
 cross join lateral pg_catalog.unnest(i.indcollation::pg_catalog.oid[]) as used (oid)
  join other on other.oid = used.oid
 where a.amname <> 'hash' and s.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
 order by 1, 2, 3, 4";
/// `{glibc}`: what the scenario says of the machine that was backed up, or null. It counts where nothing is recorded, of locales that
/// have versions; C and its like have none anywhere.
const DEFAULT_RECORDED: &str = "\
select 100, name, recorded, here
  from (select datcollate::text as name, here,
               coalesce(datcollversion, case when here is not null then {glibc} end) as recorded
          from pg_catalog.pg_database, lateral pg_catalog.pg_database_collation_actual_version(oid) as here
         where datname = pg_catalog.current_database()) d
 where recorded is distinct from here";
/// The same, where databases record nothing.
const DEFAULT_BY_LIBRARY: &str = "\
select 100, d.datcollate::text, l.recorded, l.here
  from pg_catalog.pg_database d,
       (select coalesce({glibc}, pg_catalog.max(collversion)) as recorded,
               pg_catalog.max(pg_catalog.pg_collation_actual_version(oid)) as here
          from pg_catalog.pg_collation where collprovider = 'c' and oid <> 100) l
 where d.datname = pg_catalog.current_database() and (l.recorded is distinct from l.here or l.recorded is null)
   and d.datcollate !~ '^(C|POSIX)($|\\.)'";
const BY_SIGNEDNESS: &str = "\
select distinct s.nspname || '.' || c.relname
  from pg_catalog.pg_index i
  join pg_catalog.pg_class c on c.oid = i.indexrelid
  join pg_catalog.pg_namespace s on s.oid = c.relnamespace
 cross join lateral pg_catalog.unnest(i.indclass::pg_catalog.oid[]) as used (oid)
  join pg_catalog.pg_opclass o on o.oid = used.oid
 where o.opcname in ('gin_trgm_ops', 'gist_trgm_ops')
 order by 1";

impl LiveSandbox {
    /// What cannot be asked is said, and stops nothing.
    pub(super) async fn look_around(&self, major: u32, made_on: &Machine, left_out: &[String]) -> Output {
        let mut around = Around::default();
        for row in self.catalogue(DATABASE, "prepared transactions", PREPARED, &mut around).await {
            let [gid, database, owner, since] = texts(row);
            around.prepared.push(Prepared { gid, database, owner, since });
        }
        for row in self.catalogue(DATABASE, "closed databases", CLOSED, &mut around).await {
            let [database, half_dropped] = texts(row);
            around.closed.push(Closed { database, half_dropped: half_dropped == "true" });
        }
        if major >= RECORDS_COLLATIONS {
            for row in self.catalogue(DATABASE, "collations", COLLATIONS, &mut around).await {
                let here = row.get(3).cloned().flatten();
                let [database, collation, recorded] = texts(row);
                around.collations.push(CollationSeen { database, collation, recorded, here });
            }
        }
        for row in self.catalogue(DATABASE, "databases", OPEN, &mut around).await {
            let [database] = texts(row);
            if left_out.contains(&database) {
                continue;
            }
            self.look_into(&database, major, made_on, &mut around).await;
        }
        Output { around: Some(around), ..Output::default() }
    }

    async fn look_into(&self, database: &str, major: u32, made_on: &Machine, around: &mut Around) {
        let of = |what: &str| format!("{what} of {database}");
        let glibc = made_on.glibc.as_deref().map_or_else(|| "null".to_owned(), quote_literal);
        let default = if major >= RECORDS_COLLATIONS { DEFAULT_RECORDED } else { DEFAULT_BY_LIBRARY };
        let sql = BY_COLLATION.replace("{default}", default).replace("{glibc}", &glibc);
        let unknown = around.unknown.len();
        let mut by_reason: Vec<Doubtful> = Vec::new();
        for row in self.catalogue(database, &of("indexes on texts"), &sql, around).await {
            let (recorded, here) = (row.get(1).cloned().flatten(), row.get(2).cloned().flatten());
            let [name, _, _, index] = texts(row);
            add(&mut by_reason, database, Doubt::Collation { name, recorded, here }, index);
        }
        // Whoever cannot be asked once is not asked again.
        if around.unknown.len() > unknown {
            around.unexamined.push(database.to_owned());
            return;
        }
        let signed = made_on.architecture.as_ref().and_then(Architecture::has_signed_char);
        if major < RECORDS_SIGNEDNESS && signed.is_some() && signed != Architecture::here().has_signed_char() {
            for row in self.catalogue(database, &of("indexes on trigrams"), BY_SIGNEDNESS, around).await {
                let [index] = texts(row);
                add(&mut by_reason, database, Doubt::Signedness, index);
            }
        }
        around.indexes.append(&mut by_reason);
        let count = |rows: Vec<Vec<Option<String>>>| {
            let [count] = texts(rows.into_iter().next().unwrap_or_default());
            count.parse().unwrap_or(0)
        };
        if count(self.catalogue(database, &of("nodes"), CITUS, around).await) > 0 {
            let nodes = count(self.catalogue(database, &of("nodes"), NODES, around).await);
            if nodes > 0 {
                around.coordinators.push((database.to_owned(), nodes));
            }
        }
    }

    async fn catalogue(&self, database: &str, what: &str, sql: &str, around: &mut Around) -> Vec<Vec<Option<String>>> {
        let probe = Probe {
            database: database.to_owned(),
            role: None,
            // Operators are those of the server, whatever the restored database would have.
            sql: format!("set search_path = pg_catalog; {sql}"),
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

fn add(all: &mut Vec<Doubtful>, database: &str, because: Doubt, index: String) {
    if all.last().is_none_or(|it| it.because != because) {
        all.push(Doubtful { database: database.to_owned(), because, names: Vec::new() });
    }
    if let Some(last) = all.last_mut() {
        last.names.push(index);
    }
}

/// The first columns of a row; null as an empty text.
fn texts<const N: usize>(row: Vec<Option<String>>) -> [String; N] {
    let mut row = row.into_iter();
    std::array::from_fn(|_| row.next().flatten().unwrap_or_default())
}
