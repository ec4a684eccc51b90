//! The data of pg_dump's archives, decoded and counted by ourselves: rows by table, large objects, and what is damaged where.
//!
//! Layouts are those of `pg_backup_custom.c`, `pg_backup_tar.c` and `pg_backup_directory.c`; what an entry's data are follows
//! from its COPY statement: the text of COPY with its end mark, or INSERT statements where there is none. Memory is bounded by
//! a buffer and the decoder's window, whatever the size of a row.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};

use memchr::{memchr_iter, memmem};

use super::archive::{Archive, Data, Entry};
use super::counted::{Counted, RowCount, TableData};
use super::plain::Scanner;
use super::sql::{self, Token};
use super::{Compression, decode};
use crate::fault::{Blame, Fault};

const BUFFER: usize = 64 * 1024;
/// The end mark of COPY: a line of its own, behind the end of another.
const MARK: &[u8] = b"\n\\.\n";

/// Counts the data of one entry of the table of contents. Fed its decoded bytes.
pub struct EntryCounter {
    schema: String,
    name: String,
    bytes: u64,
    rows: Rows,
}

enum Rows {
    Copy(CopyText),
    /// INSERT statements.
    Sql(Box<Scanner>),
}

/// The text that COPY writes: a line a row, then `\.` by itself.
///
/// Lines are not looked at one by one: no value can have a newline, a tab or the end mark in it, since COPY writes each of
/// these with a backslash. So what is counted can be counted in whole chunks, which is several times as fast.
#[derive(Debug)]
struct CopyText {
    rows: u64,
    tabs: u64,
    /// Columns of a row, where the statement lists them.
    columns: Option<u64>,
    /// The last bytes of what came before: the end mark may lie across two chunks, and at the very start.
    tail: [u8; MARK.len() - 1],
    ended: bool,
}

impl CopyText {
    fn new(columns: Option<u64>) -> CopyText {
        CopyText { rows: 0, tabs: 0, columns, tail: [b'\n'; MARK.len() - 1], ended: false }
    }

    fn push(&mut self, text: &[u8]) {
        const TAIL: usize = MARK.len() - 1;
        if self.ended {
            return;
        }
        let head = &text[..text.len().min(TAIL)];
        let seam = [self.tail.as_slice(), head].concat();
        // Where its line begins: behind a newline, which may be the tail's.
        let across = memmem::find(&seam, MARK).map(|at| (at + 1).saturating_sub(TAIL));
        let mark = across.or_else(|| memmem::find(text, MARK).map(|at| at + 1));
        let rows = &text[..mark.unwrap_or(text.len())];
        self.rows += memchr_iter(b'\n', rows).count() as u64;
        self.tabs += memchr_iter(b'\t', rows).count() as u64;
        self.ended = mark.is_some();
        let last = if text.len() < TAIL { seam.as_slice() } else { text };
        self.tail.copy_from_slice(&last[last.len() - TAIL..]);
    }

    fn finish(self) -> Result<RowCount, String> {
        if !self.ended {
            return Err(format!("they end after {} rows, without the end mark of COPY", self.rows));
        }
        match self.columns {
            // A tab within a value is written as \t: so every row has one between two columns, and no other.
            Some(columns) if columns > 0 && self.tabs != self.rows * (columns - 1) => Err(format!(
                "a row among its {} has another number of columns than the {columns} of its COPY",
                self.rows
            )),
            Some(_) | None => Ok(RowCount::Exactly(self.rows)),
        }
    }
}

impl EntryCounter {
    /// For a `TABLE DATA` entry.
    pub fn of(entry: &Entry) -> EntryCounter {
        let (mut schema, mut name) = (entry.namespace.clone().unwrap_or_default(), entry.tag.clone());
        let tokens = sql::tokens(&entry.copy);
        if !matches!(tokens.first(), Some(Token::Word(word)) if word == "copy") {
            return EntryCounter { schema, name, bytes: 0, rows: Rows::Sql(Box::default()) };
        }
        let mut columns = None;
        if let Some((own, table, used)) = sql::relation(&tokens[1..]) {
            // With --load-via-partition-root the data of a partition go through its root, and the statement says so.
            (schema, name) = (own.unwrap_or(schema), table);
            columns = column_count(&tokens[1 + used..]);
        }
        EntryCounter { schema, name, bytes: 0, rows: Rows::Copy(CopyText::new(columns)) }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        match &mut self.rows {
            Rows::Copy(text) => text.push(bytes),
            Rows::Sql(scanner) => scanner.push(bytes),
        }
    }

    /// What the data hold. An error says what is wrong with them, as a clause.
    pub fn finish(self) -> Result<Vec<TableData>, String> {
        let EntryCounter { schema, name, bytes, rows } = self;
        match rows {
            Rows::Copy(text) => Ok(vec![TableData { database: None, schema, name, rows: text.finish()?, bytes }]),
            Rows::Sql(scanner) => {
                let facts = scanner.finish(Compression::None).map_err(|it| it.causes.join(": "))?;
                let mut tables = facts.contents.tables;
                if tables.is_empty() {
                    return Ok(vec![TableData { database: None, schema, name, rows: RowCount::Exactly(0), bytes }]);
                }
                let because = "its statements do not say how many rows they leave (ON CONFLICT, INSERT … SELECT)";
                let unknown = || RowCount::Unknown { because: because.to_owned() };
                let table = tables.swap_remove(0);
                let rows = table.rows.map_or_else(unknown, RowCount::Exactly);
                Ok(vec![TableData { database: None, schema: table.schema, name: table.name, rows, bytes }])
            }
        }
    }
}

/// Of `(a, b) FROM stdin`: 2. With old `WITH OIDS` one more.
fn column_count(tokens: &[Token]) -> Option<u64> {
    let [Token::Mark('('), rest @ ..] = tokens else { return None };
    let end = rest.iter().position(|it| *it == Token::Mark(')'))?;
    let commas = rest[..end].iter().filter(|it| **it == Token::Mark(',')).count() as u64;
    let oids = rest[end..].iter().any(|it| *it == Token::Word("oids".to_owned()));
    (end > 0).then_some(commas + 1 + u64::from(oids))
}

/// Counts what a whole archive in custom format holds, read from its start.
///
/// Reads as far as the last block that its table of contents names; what somebody appended does no harm to a restore.
pub fn count_custom<R: Read>(input: R) -> Result<Counted, Fault> {
    let mut input = Positioned { input: BufReader::with_capacity(BUFFER, input), at: 0 };
    let archive = Archive::read(&mut input)?;
    let mut open: BTreeMap<i32, &Entry> =
        archive.entries.iter().filter(|it| it.data != Data::None).map(|it| (it.dump_id, it)).collect();
    let mut counted = Counted::default();
    while !open.is_empty() {
        let at = input.at;
        let Some((kind, id)) = block(&mut input, &archive).map_err(|it| damage("a data block", at, &it))? else {
            let Some(entry) = open.values().next() else { break };
            return Err(damage(&entry.whose_data(), at, &"the file ends before them"));
        };
        let Some(entry) = open.remove(&id) else {
            return Err(damage("a data block", at, &format!("entry {id} has no data, or has had them")));
        };
        let what = entry.whose_data();
        if (kind == 3) != (entry.desc == "BLOBS") {
            return Err(damage(&what, at, &format!("their block says that it is of kind {kind}")));
        }
        match kind {
            1 => {
                let mut entry_data = EntryCounter::of(entry);
                let read = chunks(&mut input, &archive, &mut |it| entry_data.push(it));
                read.map_err(|it| damage(&what, input.at, &it))?;
                counted.tables.extend(entry_data.finish().map_err(|it| damage(&what, input.at, &it))?);
            }
            3 => large_objects(&mut input, &archive, &mut counted).map_err(|it| damage(&what, input.at, &it))?,
            other => return Err(damage("a data block", at, &format!("{other} is no kind of block"))),
        }
    }
    counted.large_objects.get_or_insert_default();
    Ok(counted)
}

fn large_objects<R: Read>(input: &mut Positioned<R>, archive: &Archive, counted: &mut Counted) -> io::Result<()> {
    let objects = counted.large_objects.get_or_insert_default();
    while wide(input, archive.int_size)? != 0 {
        objects.count += 1;
        chunks(input, archive, &mut |it| objects.bytes += it.len() as u64)?;
    }
    Ok(())
}

/// A fault of the data, with their place in the file as it is once decompressed as a whole.
fn damage(what: &str, at: u64, why: &dyn std::fmt::Display) -> Fault {
    Fault::new(Blame::Backup, format!("read {what}"))
        .cause(format!("at byte {at} of the archive: {why}"))
        .hint("the file is cut or damaged: compare its size and SHA-256 with those on the machine that made it, and look at that job's log")
}

/// Knows how far it has read.
struct Positioned<R> {
    input: BufReader<R>,
    at: u64,
}

impl<R: Read> Read for Positioned<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Kind and entry of the next block; None at the end of the file.
fn block<R: Read>(input: &mut Positioned<R>, archive: &Archive) -> io::Result<Option<(u8, i32)>> {
    let mut kind = [0];
    if input.read(&mut kind)? == 0 {
        return Ok(None);
    }
    let id = wide(input, archive.int_size)?;
    Ok(Some((kind[0], i32::try_from(id).map_err(|_| garbled(&format!("{id} is no entry")))?)))
}

/// A sign byte, then the magnitude, little-endian.
fn wide<R: Read>(input: &mut R, size: u8) -> io::Result<i64> {
    let mut sign = [0];
    let mut bytes = [0; 8];
    input.read_exact(&mut sign)?;
    input.read_exact(&mut bytes[..usize::from(size).min(8)])?;
    let magnitude = i64::from_le_bytes(bytes);
    match (sign[0], magnitude) {
        (0, 0..=0xffff_ffff) => Ok(magnitude),
        (1, 0..=0xffff_ffff) => Ok(-magnitude),
        _ => Err(garbled("an integer out of range")),
    }
}

fn garbled(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// The decoded bytes of one entry: chunks with a length before each, and a length of zero at their end.
fn chunks<R: Read>(input: &mut R, archive: &Archive, sink: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let mut chunks = Chunks { input, int_size: archive.int_size, left: 0, ended: false };
    // Nothing at all is no stream of any compression.
    if chunks.begin()? == 0 {
        return Ok(());
    }
    {
        let mut decoder: Box<dyn Read + '_> = match archive.compression.split(':').next().unwrap_or_default() {
            "gzip" => Box::new(flate2::bufread::ZlibDecoder::new(BufReader::with_capacity(BUFFER, &mut chunks))),
            "zstd" => decode::decoder(Compression::Zstd, &mut chunks)?,
            "lz4" => decode::decoder(Compression::Lz4, &mut chunks)?,
            _ => Box::new(&mut chunks),
        };
        let mut buffer = vec![0; BUFFER];
        loop {
            match decoder.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => sink(&buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
    // A decoder that ended early leaves bytes which are not its own.
    let mut left = 0;
    let mut buffer = [0; 4096];
    while !chunks.ended {
        left += chunks.read(&mut buffer)?;
    }
    if left > 0 { Err(garbled(&format!("{left} bytes follow the compressed data"))) } else { Ok(()) }
}

struct Chunks<'a, R> {
    input: &'a mut R,
    int_size: u8,
    left: u64,
    ended: bool,
}

impl<R: Read> Chunks<'_, R> {
    /// Bytes of the current chunk that are still to come: 0 at the end of the last one.
    fn begin(&mut self) -> io::Result<u64> {
        if self.left == 0 && !self.ended {
            self.left = u64::try_from(wide(self.input, self.int_size)?).map_err(|_| garbled("a negative length"))?;
            self.ended = self.left == 0;
        }
        Ok(self.left)
    }
}

impl<R: Read> Read for Chunks<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.begin()? == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let read = (&mut *self.input).take(self.left).read(buffer)?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file ends within them"));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

/// Counts what a whole archive in tar format holds, read from its start.
pub fn count_tar<R: Read>(input: R) -> Result<Counted, Fault> {
    let mut archive = tar::Archive::new(BufReader::with_capacity(BUFFER, input));
    let bad = |it: &io::Error| damage("the tar archive", 0, it);
    let mut files: BTreeMap<String, Entry> = BTreeMap::new();
    let mut counted = Counted::default();
    let mut told = false;
    for member in archive.entries().map_err(|it| bad(&it))?.raw(true) {
        let mut member = member.map_err(|it| bad(&it))?;
        let (name, at) = (String::from_utf8_lossy(&member.path_bytes()).into_owned(), member.raw_file_position());
        if name == "toc.dat" {
            let toc = Archive::read(&mut member)?;
            files = toc.files().map(|(file, entry)| (file.to_owned(), entry.clone())).collect();
            told = true;
            continue;
        }
        if !told {
            return Err(Fault::new(Blame::Scenario, "count the rows of the tar archive")
                .cause(format!("{name} comes before toc.dat, which pg_dump writes first: somebody packed it again"))
                .hint("unpack it, and name the directory; or drill what pg_dump wrote"));
        }
        let length = member.header().entry_size().map_err(|it| bad(&it))?;
        // Their list comes after them.
        if name.starts_with("blob_") {
            let objects = counted.large_objects.get_or_insert_default();
            objects.count += 1;
            objects.bytes += length;
        }
        let Some(entry) = files.remove(&name) else { continue };
        if entry.desc == "BLOBS" {
            counted.large_objects.get_or_insert_default();
            continue;
        }
        let mut entry_data = EntryCounter::of(&entry);
        let read = io::copy(&mut member, &mut Sink(&mut |it| entry_data.push(it)));
        let what = entry.whose_data();
        let read = read.map_err(|it| damage(&what, at, &it))?;
        if read < length {
            return Err(damage(&what, at, &format!("the file ends after {read} of their {length} bytes")));
        }
        counted.tables.extend(entry_data.finish().map_err(|it| damage(&what, at, &it))?);
    }
    if let Some(entry) = files.values().next() {
        return Err(damage(&entry.whose_data(), 0, &"the archive has no file with them"));
    }
    counted.large_objects.get_or_insert_default();
    Ok(counted)
}

struct Sink<'a>(&'a mut dyn FnMut(&[u8]));

impl io::Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (self.0)(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the files of a directory archive mean, by their names without a compression's ending.
#[derive(Debug, Default)]
pub struct DirectoryFiles {
    entries: BTreeMap<String, Entry>,
}

/// What one file of a directory archive is.
pub enum FileRole {
    /// Data of a table: to be counted.
    Table(Box<EntryCounter>, String),
    LargeObject,
    /// The table of contents, and lists.
    Other,
}

impl DirectoryFiles {
    pub fn of(archive: &Archive) -> DirectoryFiles {
        DirectoryFiles { entries: archive.files().map(|(file, entry)| (file.to_owned(), entry.clone())).collect() }
    }

    pub fn role(&self, file: &str) -> FileRole {
        let stem = [".gz", ".lz4", ".zst"].into_iter().find_map(|it| file.strip_suffix(it)).unwrap_or(file);
        match self.entries.get(stem) {
            Some(entry) if entry.desc != "BLOBS" => {
                FileRole::Table(Box::new(EntryCounter::of(entry)), entry.whose_data())
            }
            None if stem.starts_with("blob_") => FileRole::LargeObject,
            Some(_) | None => FileRole::Other,
        }
    }
}

/// A fault of the data in one file of a directory archive.
pub fn damaged_file(file: &str, whose: &str, why: &dyn std::fmt::Display) -> Fault {
    Fault::new(Blame::Backup, format!("read {whose}"))
        .cause(format!("in the file {file}: {why}"))
        .hint("the file is cut or damaged: compare its size and SHA-256 with those on the machine that made it, and look at that job's log")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tabs_in(text: &[u8]) -> u64 {
        text.split(|it| *it == b'\t').count() as u64 - 1
    }

    /// Line by line, as the format is defined.
    fn by_lines(text: &[u8]) -> (u64, u64, bool) {
        let (mut rows, mut tabs) = (0, 0);
        let Some((whole, rest)) = text.iter().rposition(|it| *it == b'\n').map(|at| text.split_at(at)) else {
            return (0, tabs_in(text), false);
        };
        for line in whole.split(|it| *it == b'\n') {
            if line == b"\\." {
                return (rows, tabs, true);
            }
            rows += 1;
            tabs += tabs_in(line);
        }
        (rows, tabs + tabs_in(rest), false)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// However the bytes come, and wherever the mark lies.
        #[test]
        fn rows_of_copy_are_those_of_its_lines(
            text in proptest::collection::vec(proptest::sample::select(b"\n\\.\tx\n\\.\n".to_vec()), 0..40),
            size in 1..7_usize,
        ) {
            let mut counted = CopyText::new(None);
            for chunk in text.chunks(size) {
                counted.push(chunk);
            }
            prop_assert_eq!((counted.rows, counted.tabs, counted.ended), by_lines(&text));
        }
    }
}
