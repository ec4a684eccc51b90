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
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
        // A skippable frame is the same in zstd and lz4: what follows decides. pzstd begins with one.
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, a, b, c, d, ..] => {
            let length = u32::from_le_bytes([*a, *b, *c, *d]);
            let next = usize::try_from(length).ok().and_then(|it| it.checked_add(8)).and_then(|it| head.get(it..));
            match next.map(compression) {
                Some(Compression::Lz4) => Compression::Lz4,
                Some(Compression::None | Compression::Gzip | Compression::Zstd | Compression::Xz) | None => {
                    Compression::Zstd
                }
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
    if let Some((seen, hint)) = SIGNATURES.iter().find(|it| head.starts_with(it.0)).map(|it| (it.1, it.2)) {
        return Err(begins(seen, head).hint(hint));
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
    (b"PK\x03\x04", "a zip archive", "unpack it, and name the dump that was in it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "unpack it, and name the dump that was in it"),
    (b"Rar!", "a RAR archive", "unpack it, and name the dump that was in it"),
    (b"BZh", "bzip2 data", "unpack it first: gzip, zstd, lz4 and xz are read directly, bzip2 is not"),
    (b"\x89LZO", "lzop data", "unpack it first: gzip, zstd, lz4 and xz are read directly, lzop is not"),
    (b"LZIP", "lzip data", "unpack it first: gzip, zstd, lz4 and xz are read directly, lzip is not"),
    (b"\x02\x21\x4c\x18", "lz4's legacy format (`lz4 -l`)", "compress it again with `lz4`, without -l"),
    (b"\x7fELF", "a program", "name the file that pg_dump wrote"),
    (b"age-encryption.org/", "a file encrypted with age", "decrypt it first: drills read no encrypted dumps yet"),
    (b"-----BEGIN AGE", "a file encrypted with age", "decrypt it first: drills read no encrypted dumps yet"),
    (b"-----BEGIN PGP", "a file encrypted with OpenPGP", "decrypt it first: drills read no encrypted dumps yet"),
    (b"\x85\x01", "a file encrypted with OpenPGP", "decrypt it first: drills read no encrypted dumps yet"),
    (b"\x85\x02", "a file encrypted with OpenPGP", "decrypt it first: drills read no encrypted dumps yet"),
    (b"\x8c\x0d", "a file encrypted with gpg", "decrypt it first: drills read no encrypted dumps yet"),
    (b"Salted__", "a file encrypted with openssl", "decrypt it first: drills read no encrypted dumps yet"),
    (
        b"\xff\xfe",
        "UTF-16 text",
        "`pg_dump > FILE` in PowerShell converts to UTF-16 and destroys dumps: write with `pg_dump -f FILE`",
    ),
    (b"version https://git-lfs", "a pointer of Git LFS", "fetch the file itself: git lfs pull"),
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
    if lower.starts_with("-- mysql dump") || lower.starts_with("-- mariadb dump") || lower.starts_with("/*m!") {
        return Err(begins("a dump of MySQL or MariaDB", head).hint("pgdrill restores dumps of PostgreSQL"));
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

/// A fault for contents that are no dump.
pub(crate) fn no_dump(cause: impl Into<String>) -> Fault {
    Fault::new(Blame::Backup, "recognise the backup").cause(cause)
}

fn begins(what: &str, head: &[u8]) -> Fault {
    let line = head.split(|it| *it == b'\n').next().unwrap_or_default();
    let shown: String = line.iter().take(80).flat_map(|it| std::ascii::escape_default(*it)).map(char::from).collect();
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
    fn what_is_no_dump_is_named_and_blamed_on_the_backup() {
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
            assert_eq!(fault.blame, Blame::Backup);
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
