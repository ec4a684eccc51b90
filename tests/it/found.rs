//! Backups that nobody here made: each file of `fixtures/backups/found`, what a drill must make of it, and whose fault that is.

use std::collections::BTreeSet;

use crate::program::{Program, fixture};

/// A file, the exit status, and what a person must be told.
const FOUND: &[(&str, i32, &str)] = &[
    // Dumps of old majors.
    ("archive-1.10.dump", 0, ""),
    ("archive-1.11.dump", 0, ""),
    ("pg_dump-8.3.sql", 0, "version drift: 1 statement failed without a loss: plpgsql is there from the start"),
    ("pg_dump-9.4-with-oids.sql", 1, "syntax error at or near \"OIDS\""),
    ("pg_dump-9.6-abstime.sql", 1, "type \"abstime\" does not exist"),
    // Scripts kept by hand.
    ("hand.sql", 0, ""),
    ("hand-crlf.sql", 0, ""),
    ("hand-owner.sql", 0, "roles that the dump needs and does not carry: reader, web"),
    ("connect-missing.sql", 0, ""),
    ("createdb.sql", 0, "English_United States.1252"),
    ("drop-db.sql", 0, ""),
    ("include.sql", 3, "it is a script that reads other files: \\i schema.sql"),
    ("copyfile.sql", 3, "it is a script that reads other files: COPY x FROM '/usr/share/data/x.csv'"),
    ("psqlcopy.sql", 3, "it is a script that reads other files: \\copy x from 'x.csv' csv"),
    // Damaged ones.
    ("cutcopy.sql", 1, "it ends on line 5, within the data of table public.x, which begin on line 2"),
    ("dup.sql", 1, "duplicate key value violates unique constraint \"x_pkey\""),
    ("error-mid.sql", 1, "relation \"y\" does not exist"),
    ("latin-undeclared.sql", 1, "invalid byte sequence for encoding \"UTF8\": 0xfc"),
    ("noise.sql", 1, "the error message of a program"),
    ("utf16.sql", 1, "UTF-16 text"),
    // No dumps of PostgreSQL.
    ("csv.sql", 1, "text that is not SQL"),
    ("empty.sql", 1, "it is empty"),
    ("gpgascii.asc", 1, "a file encrypted with OpenPGP"),
    ("html.dump", 1, "a web page (HTML)"),
    ("json.dump", 1, "JSON"),
    ("lfs.dump", 1, "a pointer of Git LFS"),
    ("mssql.sql", 1, "text that is not SQL"),
    ("mysql.sql", 1, "a dump of MySQL or MariaDB"),
    ("oracle.sql", 1, "type \"number\" does not exist"),
    ("sqlite.sql", 1, "text that is not SQL"),
    ("z.zip", 1, "a zip archive"),
];

#[test]
fn every_backup_that_was_found_gets_its_verdict() {
    let quarter = FOUND.len().div_ceil(4);
    let wrong: String = std::thread::scope(|scope| {
        let workers: Vec<_> =
            FOUND.chunks(quarter).map(|part| scope.spawn(|| part.iter().map(wrong).collect::<String>())).collect();
        workers.into_iter().map(|it| it.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{wrong}");
}

/// What a drill made of it, if that is not what the table says.
fn wrong((name, exit, told): &(&str, i32, &str)) -> String {
    let scenario = format!(
        "version: 1\ndrills:\n  - name: found\n    runtime: local\n    source: {{ pg_dump: {{ path: \"{}\" }} }}\n    \
         checks:\n      - query: {{ name: it answers, sql: select 1, expect: 1 }}\n",
        fixture(&format!("found/{name}")).display(),
    );
    let ran = Program::new().drill(&scenario, &[]);
    let text = ran.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    if ran.exit == Some(*exit) && text.contains(told) {
        return String::new();
    }
    format!("{name}: exit {:?}, expected {exit} and “{told}”\n{}\n{}\n", ran.exit, ran.stdout, ran.stderr)
}

#[test]
fn every_file_that_was_found_is_in_the_table() {
    let entries = std::fs::read_dir(fixture("found")).unwrap();
    let there: BTreeSet<String> = entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    let told: BTreeSet<String> =
        FOUND.iter().map(|(name, ..)| (*name).to_owned()).chain(["README.md".to_owned()]).collect();
    assert_eq!(there, told);
}
