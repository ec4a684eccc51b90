//! Backups that nobody here made: each file of `fixtures/backups/found`, what a drill must make of it, and whose fault that is.

use std::collections::BTreeSet;

use crate::program::{Program, fixture, four_at_a_time, unlike};

/// A file, the exit status, and what a person must be told.
const FOUND: &[(&str, i32, &str)] = &[
    // Dumps of old majors.
    ("archive-1.10.dump", 0, ""),
    ("archive-1.11.dump", 0, ""),
    ("pg_dump-8.3.sql", 0, "version drift: 1 statement failed without a loss: plpgsql is there from the start"),
    ("pg_dump-7.1.sql", 0, "roles that the dump needs and does not carry: manager"),
    ("pg_dump-7.3-reltriggers.sql", 0, "triggers are not counted in pg_class"),
    ("pg_dump-7.4-as-owners.sql", 0, "everybody may make things in the schema public"),
    ("pg_dump-8.0-lancompiler.sql", 0, "plpgsql is there from the start"),
    ("pg_dump-8.4-backslashes.sql", 0, "3 rows as dumped"),
    ("pg_dump-8.4-postgis-1.5.sql", 3, "could not access file \"$libdir/postgis-1.5\""),
    ("pg_dump-9.2-edited.sql", 0, "2 rows as dumped"),
    (
        "pg_dump-9.4-with-oids.sql",
        3,
        "the dump uses tables with hidden OIDs, which PostgreSQL 12 and newer do not have",
    ),
    ("pg_dump-9.6-abstime.sql", 3, "the dump uses the type abstime, which PostgreSQL 12 and newer do not have"),
    ("pg_dump-15-security-labels.sql", 3, "security label provider \"anon\" is not loaded"),
    ("pg_dump-15-tablespaces.sql", 0, "tablespaces that the dump needs and does not carry: fast, slow"),
    ("pg_dumpall-managed.sql", 0, "takes the rights of a superuser from postgres"),
    // Scripts kept by hand.
    ("hand.sql", 0, ""),
    ("hand-crlf.sql", 0, ""),
    ("hand-owner.sql", 0, "roles that the dump needs and does not carry: reader, web"),
    ("hand-bom.sql", 0, "4 rows as dumped"),
    ("hand.sql.bz2", 0, "plain (bzip2)"),
    ("hand-connect-semicolon.sql", 0, "2 rows as dumped"),
    ("hand-create-user.sql", 0, "2 rows as dumped"),
    ("hand-csv.sql", 0, "rows not told (minor)"),
    ("hand-drop-first.sql", 0, "2 rows as dumped"),
    ("hand-northwind.sql", 0, "2 rows as dumped"),
    ("hand-open-end.sql", 0, "1 row as dumped"),
    ("hand-rollback.sql", 1, "duplicate key value violates unique constraint"),
    ("hand-transaction.sql", 0, "rows not told (minor)"),
    ("hand-variables.sql", 0, ""),
    ("connect-missing.sql", 0, ""),
    ("connect-server.sql", 3, "it is a script that needs more than itself: \\connect shop app db.example.com 5432"),
    ("createdb-locale.sql", 3, "a database of the dump has the locale xx_XX.UTF-8, which is not there"),
    ("createdb-not-connected.sql", 0, "does not connect to it"),
    ("createdb.sql", 0, "English_United States.1252"),
    ("drop-db.sql", 0, ""),
    ("include.sql", 3, "it is a script that needs more than itself: \\i schema.sql"),
    ("copyfile.sql", 3, "it is a script that needs more than itself: COPY x FROM '/usr/share/data/x.csv'"),
    ("copyprogram.sql", 3, "COPY t FROM PROGRAM 'curl"),
    ("packed-directory.tar.gz", 3, "somebody packed a directory dump"),
    ("packed-text.tar.gz", 3, "somebody packed a dump"),
    ("psqlcopy.sql", 3, "it is a script that needs more than itself: \\copy x from 'x.csv' csv"),
    // Damaged ones.
    ("archive-as-utf8.dump", 1, "it is garbled in entry 1 of 282 of its table of contents"),
    ("archive-crlf.dump", 1, "it is garbled within its header"),
    ("comments.sql", 1, "it holds no statement, only comments"),
    ("cutcopy.sql", 1, "it ends on line 5, within the data of table public.x, which begin on line 2"),
    ("dup.sql", 1, "duplicate key value violates unique constraint \"x_pkey\""),
    ("error-mid.sql", 1, "relation \"y\" does not exist"),
    ("latin-undeclared.sql", 1, "invalid byte sequence for encoding \"UTF8\": 0xfc"),
    ("noise.sql", 1, "the error message of a program"),
    ("utf16.sql", 1, "UTF-16 text"),
    // No dumps of PostgreSQL.
    ("csv.sql", 1, "text that is not SQL"),
    ("empty.sql", 1, "it is empty"),
    ("gpgascii.asc", 3, "a file encrypted with OpenPGP"),
    ("html.dump", 1, "a web page (HTML)"),
    ("json.dump", 1, "JSON"),
    ("lfs.dump", 1, "a pointer of Git LFS"),
    ("mssql.sql", 1, "a dump of SQL Server"),
    ("mssql-ssms.sql", 1, "a dump of SQL Server"),
    ("mysql-no-header.sql", 1, "a dump of MySQL or MariaDB"),
    ("phpmyadmin.sql", 1, "a dump of MySQL or MariaDB"),
    ("parquet.dump", 1, "a Parquet file"),
    ("zeros.dump", 1, "binary data"),
    ("mysql.sql", 1, "a dump of MySQL or MariaDB"),
    ("oracle.sql", 1, "type \"number\" does not exist"),
    ("sqlite.sql", 1, "a dump of SQLite"),
    ("z.zip", 3, "a zip archive"),
];

#[test]
fn every_backup_that_was_found_gets_its_verdict() {
    let wrong = four_at_a_time(FOUND, wrong);
    assert!(wrong.is_empty(), "{wrong}");
}

/// What a drill made of it, if that is not what the table says.
fn wrong((name, exit, told): &(&str, i32, &str)) -> String {
    let kind = if name.starts_with("pg_dumpall") { "pg_dumpall" } else { "pg_dump" };
    let scenario = format!(
        "version: 1\ndrills:\n  - name: found\n    runtime: local\n    source: {{ {kind}: {{ path: \"{}\" }} }}\n    \
         checks:\n      - query: {{ name: it answers, sql: select 1, expect: 1 }}\n",
        fixture(&format!("found/{name}")).display(),
    );
    unlike(name, &Program::new().drill(&scenario, &[]), *exit, told)
}

#[test]
fn every_file_that_was_found_is_in_the_table() {
    let entries = std::fs::read_dir(fixture("found")).unwrap();
    let there: BTreeSet<String> = entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    let told: BTreeSet<String> =
        FOUND.iter().map(|(name, ..)| (*name).to_owned()).chain(["README.md".to_owned()]).collect();
    assert_eq!(there, told);
}
