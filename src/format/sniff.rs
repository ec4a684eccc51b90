//! What a file is, by its first bytes.
//!
//! A backup that is not one (an error message that was redirected into a file, a dump of another database system, a
//! web page) is named as what it looks like: that sentence is usually all that its owner needs.

use super::Compression;
use crate::fault::{Blame, Fault};

/// Bytes that [`kind`] wants to see: shorter only when the file is shorter.
pub const HEAD: usize = 4096;

/// How the contents of a logical backup are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `PGDMP`
    Custom,
    /// A tar archive; whether it is `pg_dump`'s own is known once `toc.dat` was found in it.
    Tar,
    /// SQL for psql.
    Text,
}

/// The compression of a whole file, from its first bytes; [`HEAD`] of them are plenty.
pub fn compression(head: &[u8]) -> Compression {
    match head {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        [0x04, 0x22, 0x4d, 0x18, ..] => Compression::Lz4,
        [0xff, 6, 0, 0, b's', b'N', b'a', b'P', b'p', b'Y', ..] => Compression::Snappy,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
        // A level, then π or its root: a text may begin with BZh.
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..]
        | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, 0x38, 0x50, 0x90, ..] => Compression::Bzip2,
        // A skippable frame is the same in zstd and lz4: what follows decides. pzstd begins with one.
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, a, b, c, d, ..] => {
            let length = u32::from_le_bytes([*a, *b, *c, *d]);
            let next = usize::try_from(length).ok().and_then(|it| it.checked_add(8)).and_then(|it| head.get(it..));
            match next.map(compression) {
                Some(Compression::Lz4) => Compression::Lz4,
                Some(
                    Compression::None
                    | Compression::Gzip
                    | Compression::Zstd
                    | Compression::Xz
                    | Compression::Bzip2
                    | Compression::Lzma
                    | Compression::Snappy
                    | Compression::Brotli,
                )
                | None => Compression::Zstd,
            }
        }
        _ => Compression::None,
    }
}

/// What the decoded contents are, from their first [`HEAD`] bytes. A fault says what they look like instead.
pub fn kind(head: &[u8]) -> Result<Kind, Fault> {
    if head.is_empty() {
        return Err(no_dump("it is empty").hint(
            "an empty file is what `pg_dump … > FILE` leaves behind when pg_dump could not connect: read the log of the backup job",
        ));
    }
    if head.starts_with(b"PGDMP") {
        return Ok(Kind::Custom);
    }
    if head.get(257..262) == Some(b"ustar") {
        return Ok(Kind::Tar);
    }
    let one_of = |list: &'static [(&[u8], &str, &str)]| list.iter().find(|it| head.starts_with(it.0));
    if let Some((_, seen, hint)) = one_of(SIGNATURES) {
        return Err(begins(seen, head).hint(*hint));
    }
    if let Some((_, seen, hint)) = one_of(CLOSED) {
        return Err(Fault { blame: Blame::Scenario, ..begins(seen, head).hint(*hint) });
    }
    if head.contains(&0) {
        return Err(begins("binary data that no dump of PostgreSQL begins with", head)
            .hint("it may be encrypted, compressed by a program that is not known here, or another file"));
    }
    text(head)
}

/// Bytes at the start, what they mean, and what to do about it.
const SIGNATURES: &[(&[u8], &str, &str)] = &[
    (b"SQLite format 3\0", "an SQLite database", "name the file that pg_dump wrote"),
    (b"BZh", "bzip2 data that are garbled", "it was damaged where it begins: compare it with the original"),
    (b"PAR1", "a Parquet file", "name the file that pg_dump wrote"),
    (b"\x7fELF", "a program", "name the file that pg_dump wrote"),
    (
        b"\xff\xfe",
        "UTF-16 text",
        "`pg_dump > FILE` in PowerShell converts to UTF-16 and destroys dumps: write with `pg_dump -f FILE`",
    ),
    (b"version https://git-lfs", "a pointer of Git LFS", "fetch the file itself: git lfs pull"),
];

const UNPACK: &str = "unpack it, and name the dump that is in it (gzip, zstd, lz4, xz and bzip2 are read directly)";
const DECRYPT: &str = "decrypt it first: drills read no encrypted dumps yet";

/// The same of what may well hold a dump, but is not read here: nobody can tell what it is worth.
const CLOSED: &[(&[u8], &str, &str)] = &[
    (b"PK\x03\x04", "a zip archive", UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", UNPACK),
    (b"Rar!", "a RAR archive", UNPACK),
    (b"\x89LZO", "lzop data", UNPACK),
    (b"LZIP", "lzip data", UNPACK),
    (b"\x02\x21\x4c\x18", "lz4's legacy format (`lz4 -l`)", "compress it again with `lz4`, without -l"),
    (b"age-encryption.org/", "a file encrypted with age", DECRYPT),
    (b"-----BEGIN AGE", "a file encrypted with age", DECRYPT),
    (b"-----BEGIN PGP", "a file encrypted with OpenPGP", DECRYPT),
    (b"\x85\x01", "a file encrypted with OpenPGP", DECRYPT),
    (b"\x85\x02", "a file encrypted with OpenPGP", DECRYPT),
    (b"\x8c\x0d", "a file encrypted with gpg", DECRYPT),
    (b"Salted__", "a file encrypted with openssl", DECRYPT),
];

/// How lines begin that a program wrote instead of a dump.
const ERRORS: &[&str] = &[
    "pg_dump:",
    "pg_dumpall:",
    "pg_restore:",
    "psql:",
    "pg_basebackup:",
    "Error:",
    "error:",
    "ERROR:",
    "FATAL:",
    "bash:",
    "sh:",
    "/bin/sh:",
    "docker:",
    "kubectl:",
    "sudo:",
    "ssh:",
    "permission denied",
    "Permission denied",
    "Usage:",
    "connection to server",
    "Error response from daemon",
    "command terminated",
];

fn text(head: &[u8]) -> Result<Kind, Fault> {
    let text = String::from_utf8_lossy(head);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let lower = text.get(..64).unwrap_or(text).to_ascii_lowercase();
    if text.is_empty() {
        return Err(no_dump("it holds nothing but white space").hint("read the log of the backup job"));
    }
    if ERRORS.iter().any(|it| text.starts_with(it)) {
        return Err(begins("the error message of a program", head)
            .hint("the backup job wrote its errors where the dump should be: that message says what went wrong"));
    }
    if let Some(system) = other_system(text) {
        return Err(begins(&format!("a dump of {system}"), head).hint("pgdrill restores dumps of PostgreSQL"));
    }
    if lower.starts_with("<!doctype html") || lower.starts_with("<html") {
        return Err(begins("a web page (HTML)", head)
            .hint("a download answered with a page, often for logging in, and it was saved as the backup"));
    }
    if lower.starts_with('<') {
        return Err(begins("XML", head).hint("object stores answer errors in XML: read it, it says what went wrong"));
    }
    if lower.starts_with('{') || lower.starts_with('[') {
        return Err(
            begins("JSON", head).hint("if it is an error of an API, it says what went wrong; else name the dump")
        );
    }
    match first_word(text) {
        None => Ok(Kind::Text),
        Some(word) if WORDS.contains(&word.as_str()) => Ok(Kind::Text),
        Some(_) => Err(begins("text that is not SQL", head).hint("name the file that pg_dump or pg_dumpall wrote")),
    }
}

/// Words that statements of `PostgreSQL` begin with, and that hand-kept scripts begin with.
const WORDS: &[&str] = &[
    "abort",
    "alter",
    "analyze",
    "begin",
    "call",
    "checkpoint",
    "close",
    "cluster",
    "comment",
    "commit",
    "copy",
    "create",
    "deallocate",
    "declare",
    "delete",
    "discard",
    "do",
    "drop",
    "end",
    "execute",
    "explain",
    "fetch",
    "grant",
    "import",
    "insert",
    "listen",
    "load",
    "lock",
    "merge",
    "move",
    "notify",
    "prepare",
    "reassign",
    "refresh",
    "reindex",
    "release",
    "reset",
    "revoke",
    "rollback",
    "savepoint",
    "security",
    "select",
    "set",
    "show",
    "start",
    "table",
    "truncate",
    "update",
    "vacuum",
    "values",
    "with",
];

/// The first word outside of comments, lowercase; empty for another character. None where there are only comments, or
/// a command of psql.
fn first_word(mut text: &str) -> Option<String> {
    loop {
        text = text.trim_start_matches(|it: char| it.is_whitespace() || it == ';' || it == '(');
        if text.is_empty() || text.starts_with('\\') {
            return None;
        }
        if text.starts_with("--") {
            text = text.split_once('\n')?.1;
        } else if text.starts_with("/*") {
            text = text.split_once("*/")?.1;
        } else {
            return Some(text.chars().take_while(char::is_ascii_alphabetic).collect::<String>().to_ascii_lowercase());
        }
    }
}

/// The database system that writes text like this, if it is another one.
fn other_system(text: &str) -> Option<&'static str> {
    let lower = text.to_lowercase();
    let begins = |marks: &[&str]| marks.iter().any(|it| lower.starts_with(it));
    // Of statements, not of data or comments.
    let says = |marks: &[&str]| lower.lines().any(|line| marks.iter().any(|it| line.trim_start().starts_with(it)));
    let quotes = ["create table `", "drop table if exists `", "insert into `", "create table if not exists `"];
    if begins(&["-- mysql dump", "-- mariadb dump", "/*m!", "-- phpmyadmin"]) || says(&quotes) || says(&[") engine="]) {
        return Some("MySQL or MariaDB");
    }
    if says(&["create table [", "insert [", "insert into [", "set ansi_nulls ", "use ["]) {
        return Some("SQL Server");
    }
    says(&["pragma foreign_keys"]).then_some("SQLite")
}

/// A fault for contents that are no dump.
pub(crate) fn no_dump(cause: impl Into<String>) -> Fault {
    Fault::new(Blame::Backup, "recognise the backup").cause(cause)
}

fn begins(what: &str, head: &[u8]) -> Fault {
    let line = head.split(|it| *it == b'\n').next().unwrap_or_default();
    let is_text = line.iter().all(|it| !it.is_ascii_control() || it.is_ascii_whitespace());
    let shown: String = line
        .iter()
        .take(if is_text { 80 } else { 16 })
        .flat_map(|it| std::ascii::escape_default(*it))
        .map(char::from)
        .collect();
    no_dump(format!("it looks like {what}: it begins with \"{}\"", shown.replace("\\\"", "\"").replace("\\'", "'")))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn compression_is_told_by_the_magic_number() {
        let skippable = |next: &[u8]| [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 9, 9, 9, 9][..], next].concat();
        let cases: &[(Vec<u8>, Compression)] = &[
            (vec![0x1f, 0x8b, 8], Compression::Gzip),
            (vec![0x28, 0xb5, 0x2f, 0xfd], Compression::Zstd),
            (vec![0x04, 0x22, 0x4d, 0x18], Compression::Lz4),
            (b"\xfd7zXZ\0\0".to_vec(), Compression::Xz),
            (b"BZh91AY&SY".to_vec(), Compression::Bzip2),
            (b"\xff\x06\0\0sNaPpY\x01".to_vec(), Compression::Snappy),
            (b"BZhello".to_vec(), Compression::None),
            (b"PGDMP".to_vec(), Compression::None),
            (skippable(&[0x28, 0xb5, 0x2f, 0xfd]), Compression::Zstd),
            (skippable(&[0x04, 0x22, 0x4d, 0x18]), Compression::Lz4),
            (skippable(&[]), Compression::Zstd),
            (vec![0x50, 0x2a, 0x4d, 0x18, 0xff, 0xff, 0xff, 0xff], Compression::Zstd),
            (vec![], Compression::None),
        ];
        for (head, expect) in cases {
            assert_eq!(compression(head), *expect, "{head:?}");
        }
    }

    #[test]
    fn a_dump_is_recognised() {
        let mut tar = vec![0; 512];
        tar[257..263].copy_from_slice(b"ustar\0");
        let cases: &[(&[u8], Kind)] = &[
            (b"PGDMP\x01\x0e", Kind::Custom),
            (&tar, Kind::Tar),
            (b"--\n-- PostgreSQL database dump\n--\n\nSET x = 1;", Kind::Text),
            (b"\xef\xbb\xbfcreate table x ();", Kind::Text),
            (b"/* by hand */ BEGIN;", Kind::Text),
            (b"\\set ON_ERROR_STOP on\n", Kind::Text),
            (b"-- nothing but a comment", Kind::Text),
        ];
        for (head, expect) in cases {
            assert_eq!(kind(head).as_ref(), Ok(expect), "{:?}", String::from_utf8_lossy(head));
        }
    }

    #[test]
    fn what_is_no_dump_is_named_and_blamed() {
        let cases: &[(&[u8], &str)] = &[
            (b"", "it is empty"),
            (b" \n\n ", "nothing but white space"),
            (b"<!DOCTYPE html><html>", "a web page"),
            (b"<?xml version='1.0'?><Error>", "XML"),
            (b"{\"message\": \"no\"}", "JSON"),
            (b"pg_dump: error: connection to server failed", "error message of a program"),
            (b"SQLite format 3\0\x10", "an SQLite database"),
            (b"-- MySQL dump 10.13  Distrib", "a dump of MySQL"),
            (b"PK\x03\x04\x14", "a zip archive"),
            (b"\x7fELF\x02", "a program"),
            (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
            (b"-----BEGIN PGP MESSAGE-----", "OpenPGP"),
            (b"age-encryption.org/v1\n", "age"),
            (b"\xff\xfe-\0-\0", "UTF-16"),
            (b"\x01\x02\0\x03", "binary data"),
            (b"Dear colleague, the backup is elsewhere", "text that is not SQL"),
        ];
        for (head, expect) in cases {
            let fault = kind(head).unwrap_err();
            let closed = ["zip", "7-Zip", "OpenPGP", "age"].contains(expect) || expect.ends_with("zip archive");
            assert_eq!(fault.blame, if closed { Blame::Scenario } else { Blame::Backup }, "{expect}");
            assert!(fault.causes[0].contains(expect), "{:?} is not {expect:?}", fault.causes);
            assert!(fault.hint.is_some(), "{fault:?}");
        }
    }

    #[test]
    fn the_first_bytes_are_shown() {
        let fault = kind(b"pg_dump: error: no route\nmore").unwrap_err();
        assert!(fault.line().ends_with("it begins with \"pg_dump: error: no route\""), "{}", fault.line());
    }
}
