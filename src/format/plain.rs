//! SQL text that psql would run: what it holds, learnt in one pass.
//!
//! This follows psql's own rules for where a statement, a string or a block of COPY data ends (src/bin/psql/psqlscan.l),
//! so that text within data is never taken for a statement. Memory is bounded: of a statement only the head is kept, of
//! data nothing.

use std::collections::{BTreeSet, HashMap};

use memchr::{memchr, memchr_iter, memchr2};

use super::promised::{self, Place};
use super::sql::{self, Said, Token};
use super::{Compression, Contents, DumpFacts, DumpFormat, Extension, Table};
use crate::fault::{Blame, Fault};

/// What is kept of a statement.
const HEAD: usize = 64 * 1024;
/// What is kept of a comment or of a command of psql.
const LINE: usize = 4096;
/// What is kept of a string within a statement.
const STRING: usize = 512;

/// Reads SQL text that is pushed into it in pieces of any size.
pub struct Scanner {
    state: State,
    /// The statement so far, without comments.
    head: Vec<u8>,
    /// Bytes of the current string that are in `head`.
    string: usize,
    /// Bytes of the last string, all of them.
    string_bytes: u64,
    /// The comment, command or tag so far.
    line: Vec<u8>,
    depth: u32,
    /// The last two bytes of code, and the last that was no white space.
    last: [u8; 2],
    significant: u8,
    insert: Insert,
    newlines: u64,
    bytes: u64,
    /// Line on which the current string, comment or block of data began.
    began: u64,
    facts: Facts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Code,
    /// After one `-` or `/`.
    Dash,
    Slash,
    Comment,
    Block {
        depth: u32,
        last: u8,
    },
    String {
        escapes: bool,
    },
    /// After a backslash in a string.
    Escaped,
    /// After a quote in a string: it ends, unless another quote follows.
    StringEnd {
        escapes: bool,
    },
    Name,
    /// After a `$`, while it may become `$tag$`.
    Tag,
    /// In a dollar-quoted string, with so many bytes of its end mark seen.
    Dollar {
        matched: usize,
    },
    /// In a command of psql: to the end of the line.
    Command,
    /// After a COPY statement: its data begin on the next line.
    CopyHead,
    /// In data. `mark`: so many bytes of the end mark seen, from the line's start; None within a line.
    Copy {
        mark: Option<u8>,
    },
}

/// How far an INSERT statement has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Insert {
    NotYet,
    No,
    /// Before VALUES.
    Head,
    Rows {
        table: usize,
        rows: u64,
    },
    /// After its rows: ON CONFLICT, RETURNING.
    Tail {
        table: usize,
        rows: u64,
    },
}

/// What was learnt so far.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each was seen in the text or was not")]
struct Facts {
    contents: Contents,
    promises: promised::Reader,
    tables: HashMap<(Option<String>, String, String), usize>,
    /// Tables whose rows cannot be counted.
    uncounted: BTreeSet<usize>,
    schemas: BTreeSet<String>,
    connected: Option<String>,
    connections: BTreeSet<String>,
    search_path: Option<String>,
    /// `default_tablespace`
    tablespace: Option<String>,
    escapes: bool,
    copy: Option<usize>,
    rows: u64,
    /// The head of the last INSERT, up to its VALUES, and its table.
    last_insert: Option<(Vec<u8>, usize)>,
    headers: u64,
    ends: u64,
    /// Other than INSERT.
    statements: u64,
    /// Written by a pg_dump of before 8.0, which wrote no end marker.
    ancient: bool,
    cluster: bool,
    cluster_end: bool,
    server_version: Option<String>,
    dump_version: Option<String>,
    created: Option<String>,
    restrict: bool,
    large_objects: u64,
    large_object_bytes: u64,
}

impl Default for Scanner {
    fn default() -> Scanner {
        Scanner {
            state: State::Code,
            head: Vec::new(),
            string: 0,
            string_bytes: 0,
            line: Vec::new(),
            depth: 0,
            last: [0; 2],
            significant: 0,
            insert: Insert::NotYet,
            newlines: 0,
            bytes: 0,
            began: 1,
            facts: Facts::default(),
        }
    }
}

impl Scanner {
    pub fn push(&mut self, mut text: &[u8]) {
        if self.bytes == 0 {
            text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        }
        self.bytes += text.len() as u64;
        while !text.is_empty() {
            let used = self.step(text);
            self.newlines += memchr_iter(b'\n', &text[..used]).count() as u64;
            text = &text[used..];
        }
    }

    /// What the whole text told. A text that ends within data or a string was cut.
    pub fn finish(mut self, wrapped: Compression) -> Result<DumpFacts, Fault> {
        match self.state {
            State::Comment => self.comment(),
            State::Command => self.command(),
            State::Copy { mark: Some(2 | 3) } => self.end_copy(),
            State::Copy { .. }
            | State::CopyHead
            | State::Code
            | State::Dash
            | State::Slash
            | State::Block { .. }
            | State::String { .. }
            | State::Escaped
            | State::StringEnd { .. }
            | State::Name
            | State::Tag
            | State::Dollar { .. } => {}
        }
        if let Some(fault) = self.open_end() {
            return Err(fault);
        }
        self.end_statement();
        Ok(self.facts.finish(wrapped, self.bytes))
    }

    /// Whether nothing but comments was read so far: no backup that anybody meant to make.
    pub fn says_nothing(&self) -> bool {
        let (facts, contents) = (&self.facts, &self.facts.contents);
        let nothing = contents.tables.is_empty() && contents.includes.is_empty() && self.head.is_empty();
        facts.statements == 0 && nothing && facts.headers == 0 && !facts.cluster
    }

    /// When the dump began, as far as the text was read.
    pub fn created(&self) -> Option<String> {
        self.facts.created.clone()
    }

    /// A fault for whatever is still open: also what to say when reading stopped in the midst of the text.
    pub fn open_end(&self) -> Option<Fault> {
        let line = self.newlines + 1;
        let began = self.began;
        let cause = match self.state {
            State::CopyHead | State::Copy { .. } => {
                format!("it ends on line {line}, within the data of {}, which begin on line {began}", self.place()?)
            }
            State::String { .. } | State::Escaped | State::Name | State::Dollar { .. } => {
                format!("it ends on line {line}, within a quoted text that begins on line {began}")
            }
            State::Block { .. } => format!("it ends on line {line}, within a comment that begins on line {began}"),
            State::Code
            | State::Dash
            | State::Slash
            | State::Comment
            | State::StringEnd { .. }
            | State::Tag
            | State::Command => {
                return None;
            }
        };
        Some(Fault::new(Blame::Backup, "read the text of the dump").cause(cause).hint(
            "the file was cut: compare its size with that of the original, and look whether a disk or a quota was full",
        ))
    }

    /// Where reading has come: for faults of the decoder. `line 17, within the data of table a.b`
    pub fn position(&self) -> String {
        let line = self.newlines + 1;
        match self.place() {
            Some(place) => format!("line {line}, within the data of {place}"),
            None => format!("line {line}"),
        }
    }

    fn place(&self) -> Option<String> {
        let table = &self.facts.contents.tables[self.facts.copy?];
        Some(format!("table {}.{}", table.schema, table.name))
    }

    /// Takes at least one byte, or changes the state.
    fn step(&mut self, text: &[u8]) -> usize {
        match self.state {
            State::Code => self.code(text),
            State::Dash | State::Slash => self.after_dash(text),
            State::Comment | State::Command => self.skip_line(text),
            State::Block { depth, last } => self.block(text, depth, last),
            State::String { escapes } => self.in_string(text, escapes),
            State::Escaped => {
                self.string_bytes += 1;
                self.keep_string(&text[..1]);
                self.state = State::String { escapes: true };
                1
            }
            State::StringEnd { escapes } if text[0] == b'\'' => {
                self.keep_string(b"''");
                self.state = State::String { escapes };
                1
            }
            State::StringEnd { .. } => {
                self.keep(b"'");
                self.state = State::Code;
                0
            }
            State::Name => self.in_name(text),
            State::Tag => self.tag(text),
            State::Dollar { matched } => self.dollar(text, matched),
            State::CopyHead => {
                let end = memchr(b'\n', text);
                if end.is_some() {
                    self.state = State::Copy { mark: Some(0) };
                }
                end.map_or(text.len(), |it| it + 1)
            }
            State::Copy { mark: Some(mark) } => self.copy_mark(text, mark),
            State::Copy { mark: None } => self.copy_data(text),
        }
    }

    fn code(&mut self, text: &[u8]) -> usize {
        let plain = text.iter().position(|it| SPECIAL[usize::from(*it)]).unwrap_or(text.len());
        if plain > 0 {
            self.plain_code(&text[..plain]);
            return plain;
        }
        match text[0] {
            b'\'' => {
                let [before, last] = self.last;
                let escapes = (matches!(last, b'e' | b'E') && !is_word(before)) || self.facts.escapes;
                self.open(State::String { escapes });
                (self.string, self.string_bytes) = (0, 0);
                self.keep(if escapes && !matches!(last, b'e' | b'E') { b"E'" } else { b"'" });
            }
            b'"' => {
                self.open(State::Name);
                self.keep(b"\"");
            }
            b'$' if !is_word(self.last[1]) => {
                self.line.clear();
                self.open(State::Tag);
            }
            b'-' => self.state = State::Dash,
            b'/' => self.state = State::Slash,
            b'\\' => {
                self.line.clear();
                self.state = State::Command;
            }
            b'(' => {
                if self.depth == 0 {
                    self.insert_row();
                }
                self.plain_code(b"(");
                self.depth += 1;
            }
            b')' => {
                self.depth = self.depth.saturating_sub(1);
                self.plain_code(b")");
            }
            b';' if self.depth == 0 && !self.in_atomic_body() => self.end_statement(),
            other => self.plain_code(&[other]),
        }
        1
    }

    fn open(&mut self, state: State) {
        self.began = self.newlines + 1;
        self.state = state;
    }

    fn plain_code(&mut self, text: &[u8]) {
        if let Some(it) = text.iter().rfind(|it| !it.is_ascii_whitespace()) {
            self.significant = *it;
        }
        self.last = match text {
            [.., before, last] => [*before, *last],
            [last] => [self.last[1], *last],
            [] => self.last,
        };
        if self.head.is_empty() {
            self.keep(text.trim_ascii_start());
        } else {
            self.keep(text);
        }
    }

    /// Keeps a part of the statement, if there is room. Of an INSERT's rows nothing is kept.
    fn keep(&mut self, text: &[u8]) {
        if matches!(self.insert, Insert::Rows { .. }) && self.depth > 0 {
            return;
        }
        let room = HEAD - self.head.len();
        self.head.extend_from_slice(&text[..text.len().min(room)]);
    }

    fn keep_string(&mut self, text: &[u8]) {
        if self.string + text.len() <= STRING {
            self.string += text.len();
            self.keep(text);
        } else if self.string < STRING && text.len() > 2 {
            let room = STRING - self.string;
            self.string = STRING;
            self.keep(&text[..room]);
        }
    }

    fn after_dash(&mut self, text: &[u8]) -> usize {
        match (self.state, text[0]) {
            (State::Dash, b'-') => {
                self.line.clear();
                self.state = State::Comment;
                1
            }
            (State::Slash, b'*') => {
                self.open(State::Block { depth: 1, last: 0 });
                1
            }
            (state, _) => {
                self.state = State::Code;
                self.plain_code(if state == State::Dash { b"-" } else { b"/" });
                0
            }
        }
    }

    fn skip_line(&mut self, text: &[u8]) -> usize {
        let end = memchr(b'\n', text);
        let part = &text[..end.unwrap_or(text.len())];
        let room = LINE - self.line.len();
        self.line.extend_from_slice(&part[..part.len().min(room)]);
        if end.is_some() {
            if self.state == State::Comment {
                self.comment();
            } else {
                self.command();
            }
            if self.state != State::Code {
                return part.len();
            }
        }
        part.len()
    }

    fn block(&mut self, text: &[u8], depth: u32, last: u8) -> usize {
        let (depth, last) = match (last, text[0]) {
            (b'*', b'/') if depth == 1 => {
                self.state = State::Code;
                self.last = [0; 2];
                return 1;
            }
            (b'*', b'/') => (depth - 1, 0),
            (b'/', b'*') => (depth + 1, 0),
            (_, mark @ (b'*' | b'/')) => (depth, mark),
            _ => {
                let next = memchr2(b'*', b'/', text).unwrap_or(text.len());
                self.state = State::Block { depth, last: 0 };
                return next;
            }
        };
        self.state = State::Block { depth, last };
        1
    }

    fn in_string(&mut self, text: &[u8], escapes: bool) -> usize {
        let end = if escapes { memchr2(b'\'', b'\\', text) } else { memchr(b'\'', text) };
        let end = end.unwrap_or(text.len());
        if end > 0 {
            self.string_bytes += end as u64;
            self.keep_string(&text[..end]);
            return end;
        }
        self.state = if text[0] == b'\\' { State::Escaped } else { State::StringEnd { escapes } };
        if text[0] != b'\\' {
            self.last = [0, b'\''];
            self.significant = b'\'';
        }
        1
    }

    fn in_name(&mut self, text: &[u8]) -> usize {
        let end = memchr(b'"', text);
        let used = end.map_or(text.len(), |it| it + 1);
        self.keep(&text[..used]);
        if end.is_some() {
            self.last = [0, b'"'];
            self.significant = b'"';
            self.state = State::Code;
        }
        used
    }

    fn tag(&mut self, text: &[u8]) -> usize {
        let first = self.line.is_empty();
        match text[0] {
            b'$' => {
                self.line.insert(0, b'$');
                self.line.push(b'$');
                self.state = State::Dollar { matched: 0 };
                self.plain_code(b"''");
                1
            }
            other if is_word(other) && !(first && other.is_ascii_digit()) && self.line.len() < 64 => {
                self.line.push(other);
                1
            }
            _ => {
                let tag = std::mem::take(&mut self.line);
                self.plain_code(b"$");
                self.plain_code(&tag);
                self.state = State::Code;
                0
            }
        }
    }

    /// The end mark has `$` only at its ends, so a mismatch can begin a new match only with a `$`.
    fn dollar(&mut self, text: &[u8], matched: usize) -> usize {
        if matched == 0 {
            let found = memchr(b'$', text);
            if found.is_some() {
                self.state = State::Dollar { matched: 1 };
            }
            return found.map_or(text.len(), |it| it + 1);
        }
        let matched = match text[0] {
            it if it == self.line[matched] => matched + 1,
            b'$' => 1,
            _ => 0,
        };
        self.state = if matched == self.line.len() { State::Code } else { State::Dollar { matched } };
        1
    }

    fn copy_mark(&mut self, text: &[u8], mark: u8) -> usize {
        match (mark, text[0]) {
            (0, b'\\') | (1, b'.') | (2, b'\r') => {
                self.state = State::Copy { mark: Some(mark + 1) };
                1
            }
            (2 | 3, b'\n') => {
                self.end_copy();
                1
            }
            _ => {
                self.state = State::Copy { mark: None };
                0
            }
        }
    }

    fn copy_data(&mut self, text: &[u8]) -> usize {
        for end in memchr_iter(b'\n', text) {
            self.facts.rows += 1;
            // Only a line that begins with a backslash can be the end mark.
            if text.get(end + 1).is_none_or(|it| *it == b'\\') {
                self.state = State::Copy { mark: Some(0) };
                return end + 1;
            }
        }
        text.len()
    }

    fn end_copy(&mut self) {
        self.facts.end_copy();
        self.state = State::Code;
        self.last = [0; 2];
    }

    /// Counts a row of an INSERT at each parenthesis that opens outside of others.
    fn insert_row(&mut self) {
        if self.insert == Insert::NotYet {
            let insert = self.head.get(..6).is_some_and(|it| it.eq_ignore_ascii_case(b"insert"));
            self.insert = if insert { Insert::Head } else { Insert::No };
        }
        match &mut self.insert {
            Insert::Head => {
                let head = self.head.trim_ascii_end();
                if head.len() > 6 && head[head.len() - 6..].eq_ignore_ascii_case(b"values") {
                    let table = self.facts.insert_table(head);
                    self.insert = table.map_or(Insert::No, |table| Insert::Rows { table, rows: 1 });
                }
            }
            Insert::Rows { rows, .. } if self.significant == b',' => *rows += 1,
            Insert::Rows { table, rows } => self.insert = Insert::Tail { table: *table, rows: *rows },
            Insert::NotYet | Insert::No | Insert::Tail { .. } => {}
        }
    }

    /// Whether the statement so far is a function's `BEGIN ATOMIC` that has not come to its END: semicolons in it end
    /// no statement.
    fn in_atomic_body(&self) -> bool {
        if !self.head.get(..6).is_some_and(|it| it.eq_ignore_ascii_case(b"create")) || self.head.len() == HEAD {
            return false;
        }
        let tokens = sql::tokens(&String::from_utf8_lossy(&self.head));
        let word = |it: &Token, word: &str| *it == Token::Word(word.to_owned());
        let kind = tokens.get(if tokens.get(1).is_some_and(|it| word(it, "or")) { 3 } else { 1 });
        if !kind.is_some_and(|it| word(it, "function") || word(it, "procedure")) {
            return false;
        }
        let mut depth = 0_u32;
        for token in &tokens {
            if word(token, "begin") || (depth > 0 && word(token, "case")) {
                depth += 1;
            } else if word(token, "end") {
                depth = depth.saturating_sub(1);
            }
        }
        depth > 0
    }

    fn end_statement(&mut self) {
        let head = std::mem::take(&mut self.head);
        let insert = std::mem::replace(&mut self.insert, Insert::NotYet);
        self.depth = 0;
        self.last = [0; 2];
        match insert {
            Insert::Rows { table, rows } | Insert::Tail { table, rows } => {
                self.facts.inserted(table, rows, &head);
            }
            Insert::NotYet | Insert::No | Insert::Head if !head.is_empty() => {
                let tokens = sql::tokens(&String::from_utf8_lossy(&head));
                if sql::writes_large_object(&tokens) {
                    // `\x`, then two digits for each byte.
                    self.facts.large_object_bytes += self.string_bytes.saturating_sub(2) / 2;
                }
                if self.facts.statement(&tokens) {
                    self.open(State::CopyHead);
                }
            }
            Insert::NotYet | Insert::No | Insert::Head => {}
        }
        // The next statement reuses the allocation.
        self.head = head;
        self.head.clear();
    }

    fn comment(&mut self) {
        self.state = State::Code;
        self.last = [0; 2];
        if self.head.is_empty() {
            let line = String::from_utf8_lossy(&self.line);
            self.facts.comment(line.trim());
        }
    }

    fn command(&mut self) {
        self.state = State::Code;
        self.last = [0; 2];
        let line = String::from_utf8_lossy(&self.line).into_owned();
        let (command, rest) = line.trim().split_once(char::is_whitespace).unwrap_or((line.trim(), ""));
        match command {
            "connect" | "c" => self.facts.connect(rest.trim()),
            "restrict" => self.facts.restrict = true,
            "i" | "ir" | "include" | "include_relative" | "copy" => self.facts.include(&line),
            "g" | "gx" | "gset" | "gexec" | "gdesc" | "crosstabview" | "watch" => self.end_statement(),
            "r" | "reset" => self.head.clear(),
            _ => {}
        }
    }
}

fn is_word(it: u8) -> bool {
    it.is_ascii_alphanumeric() || it == b'_' || it == b'$' || !it.is_ascii()
}

/// Bytes of code that mean something to the scanner.
const SPECIAL: [bool; 256] = {
    let mut table = [false; 256];
    let bytes = b"'\"$-/\\();";
    let mut at = 0;
    while at < bytes.len() {
        table[bytes[at] as usize] = true;
        at += 1;
    }
    table
};

impl Facts {
    /// True where the statement is a COPY whose data follow.
    fn statement(&mut self, tokens: &[Token]) -> bool {
        self.statements += 1;
        let Some(Token::Word(first)) = tokens.first() else { return false };
        match first.as_str() {
            "copy" => return self.copy(&tokens[1..]),
            "insert" => self.other_insert(tokens),
            "drop" => self.contents.drops = true,
            "alter" => self.contents.drops |= tokens.iter().any(|it| *it == Token::Word("drop".to_owned())),
            _ => {}
        }
        self.contents.locales.extend(sql::database_locale(tokens));
        self.contents.wrong_templates.extend(sql::wrong_template(tokens));
        for said in sql::said(tokens) {
            self.said(said);
        }
        let schema = self.search_path.as_deref().unwrap_or("public");
        let tablespace = self.tablespace.as_deref().unwrap_or_default();
        self.promises.statement(tokens, Place { database: self.connected.as_deref(), schema, tablespace });
        false
    }

    fn said(&mut self, said: Said) {
        let contents = &mut self.contents;
        match said {
            Said::Role(name) => drop(contents.roles.insert(name)),
            Said::RoleMade(name) => drop(contents.roles_made.insert(name)),
            Said::Tablespace(name) => drop(contents.tablespaces.insert(name)),
            Said::TablespaceMade { name, owner } => {
                contents.tablespace_owners.extend(owner.map(|it| (name.clone(), it)));
                contents.tablespaces_made.insert(name);
            }
            Said::Schema(name) => drop(self.schemas.insert(name)),
            Said::Extension(name) => contents.extensions.push(Extension { name, database: self.connected.clone() }),
            Said::Database(name) => contents.databases.push(name),
            Said::NoSuperuser(name) => contents.demotes |= name == "postgres",
            Said::Grantor(name) => drop(contents.grantor.get_or_insert(name)),
            Said::SessionRole => contents.as_owners = true,
            Said::LargeObject => self.large_objects += 1,
            Said::Table { schema, name, partitioned } => {
                let table = self.table(schema, name);
                self.contents.tables[table].data |= partitioned;
            }
            Said::Setting { name, value } => match name.as_str() {
                "client_encoding" => contents.encoding = Some(value),
                "row_security" => contents.row_security_on |= value == "on",
                "default_tablespace" => self.tablespace = Some(value),
                "standard_conforming_strings" => self.escapes = value == "off",
                "search_path" => {
                    self.search_path = Some(value).filter(|it| !matches!(it.as_str(), "" | "$user" | "pg_catalog"));
                }
                _ => {}
            },
        }
    }

    /// A command that reads another file; `\copy … from stdin` reads this one, and `\copy … to` writes.
    fn include(&mut self, line: &str) {
        const KEPT: usize = 20;
        let lower = line.to_lowercase();
        let copies = lower.trim_start().starts_with("copy");
        let reads = !copies || (lower.contains(" from ") && !lower.contains("stdin"));
        if reads && self.contents.includes.len() < KEPT {
            self.contents.includes.push(format!("\\{}", line.trim()));
        }
    }

    /// The place of a table, which is made if it is new.
    fn table(&mut self, schema: Option<String>, name: String) -> usize {
        let schema = schema.or_else(|| self.search_path.clone()).unwrap_or_else(|| "public".to_owned());
        let tables = &mut self.contents.tables;
        let key = (self.connected.clone(), schema, name);
        *self.tables.entry(key).or_insert_with_key(|(database, schema, name)| {
            tables.push(Table {
                database: database.clone(),
                schema: schema.clone(),
                name: name.clone(),
                data: false,
                rows: None,
            });
            tables.len() - 1
        })
    }

    /// `COPY name (columns) FROM stdin …`
    fn copy(&mut self, tokens: &[Token]) -> bool {
        let Some((schema, name, used)) = sql::relation(tokens) else { return false };
        let word = |it: &Token, word: &str| *it == Token::Word(word.to_owned());
        let rest = &tokens[used..];
        let file = |it: &[Token]| (word(&it[0], "from") || word(&it[0], "program")) && matches!(&it[1], Token::Text(_));
        if let Some([from, Token::Text(file)]) = rest.windows(2).find(|it| file(it)) {
            let program = if word(from, "program") { "PROGRAM " } else { "" };
            self.contents.includes.push(format!("COPY {name} FROM {program}'{file}'"));
            self.contents.includes.truncate(20);
        }
        let Some(from) = rest.windows(2).position(|it| word(&it[0], "from") && word(&it[1], "stdin")) else {
            return false;
        };
        let table = self.table(schema, name);
        self.contents.tables[table].data = true;
        // Lines of CSV are not rows.
        if rest[from..].iter().any(|it| word(it, "csv")) {
            self.uncounted.insert(table);
        }
        self.copy = Some(table);
        self.rows = 0;
        true
    }

    fn end_copy(&mut self) {
        if let Some(table) = self.copy.take() {
            self.add_rows(table, self.rows);
        }
    }

    fn add_rows(&mut self, table: usize, rows: u64) {
        let table = &mut self.contents.tables[table];
        table.data = true;
        table.rows = Some(table.rows.unwrap_or(0) + rows);
    }

    /// The table of `INSERT INTO name … VALUES`.
    fn insert_table(&mut self, head: &[u8]) -> Option<usize> {
        if let Some((last, table)) = &self.last_insert
            && last == head
        {
            return Some(*table);
        }
        let tokens = sql::tokens(&String::from_utf8_lossy(head));
        let (schema, name, _) = sql::relation(tokens.get(2..)?)?;
        let table = self.table(schema, name);
        self.last_insert = Some((head.to_vec(), table));
        Some(table)
    }

    fn inserted(&mut self, table: usize, rows: u64, head: &[u8]) {
        self.add_rows(table, rows);
        // Rows that conflict are left out: how many, only the server knows.
        let tail = &head[head.len().saturating_sub(400)..];
        if tail.windows(12).any(|it| it.eq_ignore_ascii_case(b" on conflict")) {
            self.uncounted.insert(table);
        }
    }

    /// An INSERT without rows in parentheses after VALUES.
    fn other_insert(&mut self, tokens: &[Token]) {
        let Some((schema, name, _)) = tokens.get(2..).and_then(sql::relation) else { return };
        let table = self.table(schema, name);
        let word = |it: &Token, word: &str| *it == Token::Word(word.to_owned());
        if tokens.windows(2).any(|it| word(&it[0], "default") && word(&it[1], "values")) {
            self.add_rows(table, 1);
        } else {
            self.uncounted.insert(table);
            self.contents.tables[table].data = true;
        }
    }

    /// What `pg_dump` and `pg_dumpall` write in comments (_printTocEntry and `RestoreArchive` in `pg_backup_archiver.c`).
    fn comment(&mut self, line: &str) {
        match line {
            "PostgreSQL database dump" => self.headers += 1,
            "PostgreSQL database dump complete" => self.ends += 1,
            "PostgreSQL database cluster dump" => self.cluster = true,
            "PostgreSQL database cluster dump complete" => self.cluster_end = true,
            _ => self.comment_line(line),
        }
    }

    fn comment_line(&mut self, line: &str) {
        let keep = |to: &mut Option<String>, text: &str| {
            if to.is_none() {
                *to = Some(text.trim().to_owned());
            }
        };
        self.ancient |= is_ancient(line);
        if let Some(version) = line.strip_prefix("Dumped from database version ") {
            keep(&mut self.server_version, version);
        } else if let Some(version) = line.strip_prefix("Dumped by pg_dump version ") {
            keep(&mut self.dump_version, version);
        } else if let Some(date) = line.strip_prefix("Started on ").and_then(date) {
            keep(&mut self.created, date);
        } else if let Some((name, rest)) = entry(line, &["Name: ", "Data for Name: ", "Statistics for Name: "]) {
            let (kind, rest) = rest.split_once("; Schema: ").unwrap_or((rest, ""));
            *self.contents.entries.entry(kind.to_owned()).or_default() += 1;
            let owner = rest.split_once("; Owner: ").map_or("", |it| it.1);
            // The line was trimmed: an empty tablespace leaves no blank behind its colon.
            let owner = owner.split_once("; Tablespace:").map_or(owner, |it| it.0).to_owned();
            let has_one = matches!(kind, "TABLE" | "VIEW" | "SEQUENCE" | "FUNCTION" | "SCHEMA");
            self.contents.owners_left_out |= has_one && owner == "-";
            self.promises.heading(promised::Heading { desc: kind.to_owned(), tag: name.to_owned(), owner });
            // With --load-via-partition-root the data of a partition are copied into the root.
            if kind == "TABLE DATA"
                && let Some((schema, _)) = rest.split_once("; Owner: ")
            {
                let table = self.table(Some(schema.to_owned()), name.to_owned());
                self.contents.tables[table].data = true;
            }
        }
    }

    /// `\connect name`, `\connect "name"`, `\connect name user host`, `\connect -reuse-previous=on "dbname='name'"`
    fn connect(&mut self, rest: &str) {
        // psql drops semicolons at the end of an argument of this command.
        let rest = rest.trim_end_matches(|it: char| it == ';' || it.is_whitespace());
        let tokens: Vec<&str> = rest.split_whitespace().collect();
        if let [_, role, others @ ..] = tokens.as_slice()
            && (!rest.starts_with('-') || rest.starts_with("- "))
        {
            let role = role.trim_matches('"');
            if role != "-" && sql::is_own_role(role) {
                self.contents.as_owners = true;
                self.contents.connects_as.insert(role.to_owned());
                self.contents.roles.insert(role.to_owned());
            }
            if others.first().is_some_and(|it| !matches!(*it, "-" | "localhost" | "127.0.0.1")) {
                self.contents.includes.push(format!("\\connect {rest}"));
                self.contents.includes.truncate(20);
            }
        }
        let rest = match rest.strip_prefix("-reuse-previous=") {
            Some(rest) => rest.split_once(char::is_whitespace).map_or("", |it| it.1).trim(),
            None => rest,
        };
        let argument = match sql::tokens(rest).first() {
            Some(Token::Name(name) | Token::Text(name)) => name.clone(),
            _ => rest.split_whitespace().next().unwrap_or_default().to_owned(),
        };
        let name = match argument.strip_prefix("dbname=") {
            Some(quoted) if quoted.starts_with('\'') => match sql::tokens(&format!("E{quoted}")).into_iter().next() {
                Some(Token::Text(name)) => name,
                _ => return,
            },
            Some(name) => name.to_owned(),
            None => argument,
        };
        if !matches!(name.as_str(), "" | "-") {
            self.connections.insert(name.clone());
            self.connected = Some(name);
        }
        (self.search_path, self.tablespace) = (None, None);
    }

    fn finish(mut self, wrapped: Compression, bytes: u64) -> DumpFacts {
        let format = match (self.cluster, self.headers > 0 || !self.contents.databases.is_empty()) {
            (true, false) if self.contents.tables.is_empty() => DumpFormat::Globals,
            (true, _) => DumpFormat::Cluster,
            (false, _) => DumpFormat::Plain,
        };
        let end_marker = match format {
            DumpFormat::Cluster | DumpFormat::Globals => {
                (!self.ancient).then_some(self.cluster_end && self.ends >= self.headers)
            }
            DumpFormat::Plain | DumpFormat::Custom | DumpFormat::Directory | DumpFormat::Tar => {
                (self.headers > 0 && !self.ancient).then_some(self.ends >= self.headers)
            }
        };
        for table in &self.uncounted {
            self.contents.tables[*table].rows = None;
        }
        let several = format == DumpFormat::Cluster || self.connections.len() > 1;
        let mut contents = self.contents;
        let mut promised = self.promises.finish();
        if !several {
            promised.objects.iter_mut().for_each(|it| it.database = None);
            promised.grants.iter_mut().for_each(|it| it.database = None);
            promised.sequences.iter_mut().for_each(|it| it.database = None);
            contents.tables.iter_mut().for_each(|it| it.database = None);
            contents.extensions.iter_mut().for_each(|it| it.database = None);
        }
        self.schemas.extend(contents.tables.iter().map(|it| it.schema.clone()));
        contents.schemas = self.schemas.into_iter().collect();
        contents.large_objects = (self.headers > 0).then_some(self.large_objects);
        contents.large_object_bytes = (self.headers > 0).then_some(self.large_object_bytes);
        contents.data_bytes = bytes;
        contents.connects = self.connections;
        contents.promised = Some(promised);
        DumpFacts {
            format,
            wrapped,
            sealed: false,
            archive_version: None,
            archive_compression: None,
            created: self.created,
            database: Some(&contents.databases)
                .filter(|it| it.len() == 1 && !several)
                .and_then(|it| it.first().cloned()),
            server_version: self.server_version,
            dump_version: self.dump_version,
            restrict: self.restrict,
            end_marker,
            contents,
        }
    }
}

/// `NAME; Type: KIND; …`, after one of the prefixes. A name may hold anything, so it is told from the end.
fn entry<'a>(line: &'a str, prefixes: &[&str]) -> Option<(&'a str, &'a str)> {
    let rest = prefixes.iter().find_map(|it| line.strip_prefix(it))?;
    let at = rest.rfind("; Type: ")?;
    Some((&rest[..at], &rest[at + 8..]))
}

/// `TOC entry 5 (OID 17144)`, `Data for TOC entry 2 (OID 19393)`, `TOC Entry ID 2 (OID 14988)`: since 8.0, the class goes before
/// the OID.
fn is_ancient(line: &str) -> bool {
    let number = ["TOC entry ", "Data for TOC entry ", "TOC Entry ID "].iter().find_map(|it| line.strip_prefix(it));
    let rest = number.map(|it| it.trim_start_matches(|it: char| it.is_ascii_digit()));
    rest.is_some_and(|it| it.starts_with(" (OID "))
}

/// `YYYY-MM-DD HH:MM:SS`, without the zone's abbreviation that may follow.
fn date(text: &str) -> Option<&str> {
    let shape = b"0000-00-00 00:00:00";
    let date = text.get(..shape.len())?;
    let fits = |(it, shape): (u8, &u8)| if *shape == b'0' { it.is_ascii_digit() } else { it == *shape };
    date.bytes().zip(shape).all(fits).then_some(date)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn facts(sql: &str) -> DumpFacts {
        read(sql.as_bytes(), usize::MAX).unwrap()
    }

    fn read(sql: &[u8], piece: usize) -> Result<DumpFacts, Fault> {
        let mut scanner = Scanner::default();
        sql.chunks(piece.min(sql.len().max(1))).for_each(|it| scanner.push(it));
        scanner.finish(Compression::None)
    }

    fn rows(facts: &DumpFacts) -> BTreeMap<String, Option<u64>> {
        let tables = facts.contents.tables.iter();
        tables.map(|it| (format!("{}.{}", it.schema, it.name), it.rows)).collect()
    }

    #[test]
    fn rows_are_counted_however_they_are_written() {
        let cases: &[(&str, Option<u64>)] = &[
            ("COPY a.t (x) FROM stdin;\n1\n2\n\\N\n\\.\n", Some(3)),
            ("COPY a.t (x) FROM stdin;\r\n1\r\n2\r\n\\.\r\n", Some(2)),
            ("COPY a.t FROM stdin;\n\\.\n", Some(0)),
            ("COPY a.t FROM stdin;\n\n\n\\.", Some(2)),
            ("COPY a.t FROM stdin;\n\\\\.\n\\.x\n \\.\n\\.\n", Some(3)),
            ("COPY a.t FROM stdin WITH (FORMAT csv);\n\"1\n2\"\n\\.\n", None),
            ("COPY a.t TO stdout;\n", None),
            ("INSERT INTO a.t VALUES (1, 'a;(b'), ((2), ')');", Some(2)),
            (
                "INSERT INTO a.t (\"VALUES\", y) VALUES\n\t(1, f(2)),\n\t(3, NULL);\ninsert into a.t values (1);",
                Some(3),
            ),
            ("INSERT INTO a.t VALUES (1);\nINSERT INTO a.t VALUES (2);\n", Some(2)),
            ("INSERT INTO a.t OVERRIDING SYSTEM VALUE VALUES (1);", Some(1)),
            ("INSERT INTO a.t DEFAULT VALUES;", Some(1)),
            ("INSERT INTO a.t VALUES (E'it\\'s; (x)'), ('two''s');", Some(2)),
            ("INSERT INTO a.t VALUES (1) ON CONFLICT (x) DO NOTHING;", None),
            ("INSERT INTO a.t SELECT * FROM b;", None),
            ("CREATE FUNCTION f() RETURNS void AS $$INSERT INTO a.t VALUES (1);$$;CREATE TABLE a.t ();", None),
            (
                "CREATE FUNCTION f() RETURNS void BEGIN ATOMIC INSERT INTO a.t VALUES (1); SELECT CASE 1 WHEN 1 THEN 2 END; END;CREATE TABLE a.t ();",
                None,
            ),
            ("CREATE RULE r AS ON INSERT TO x DO (INSERT INTO a.t VALUES (1); SELECT 1); CREATE TABLE a.t ();", None),
            (
                "/* /* ; */ INSERT INTO a.t VALUES (9); */ -- ' ;\nCREATE TABLE a.t (); INSERT INTO /* x */ a.t VALUES (1);",
                Some(1),
            ),
            ("SET standard_conforming_strings = off; INSERT INTO a.t VALUES ('\\'), (1;');", Some(1)),
        ];
        for (sql, expect) in cases {
            for piece in [usize::MAX, 1, 3, 7] {
                let facts = read(sql.as_bytes(), piece).unwrap_or_else(|it| panic!("{sql}: {it:?}"));
                let found = rows(&facts);
                assert_eq!(found.get("a.t").copied().flatten(), *expect, "{sql} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn what_data_and_strings_say_is_no_statement() {
        let sql = "--\n-- PostgreSQL database dump\n--\n\
             COMMENT ON SCHEMA a IS 'x\n-- PostgreSQL database dump complete\nCREATE ROLE evil;';\n\
             COPY a.t (x) FROM stdin;\nCREATE ROLE evil;\n-- PostgreSQL database dump complete\n\\\\connect evil\n\\.\n\
             SELECT $a$ $b$ CREATE ROLE evil; $a$, \"CREATE ROLE evil;\" FROM x$1$;CREATE ROLE good;";
        for piece in [usize::MAX, 1, 5] {
            let facts = read(sql.as_bytes(), piece).unwrap();
            assert_eq!(facts.end_marker, Some(false));
            assert_eq!(rows(&facts), BTreeMap::from([("a.t".to_owned(), Some(3))]));
            assert_eq!(facts.contents.roles_made, BTreeSet::from(["good".to_owned()]));
        }
    }

    #[test]
    fn a_text_that_ends_too_early_names_table_and_line() {
        let cases: &[(&str, &str)] = &[
            (
                "SET a = 1;\nCOPY a.t (x) FROM stdin;\n1\n2\n3",
                "line 5, within the data of table a.t, which begin on line 2",
            ),
            ("COPY \"A b\".t FROM stdin;", "line 1, within the data of table A b.t"),
            ("COPY a.t FROM stdin;\n1\n\\", "within the data of table a.t"),
            ("INSERT INTO a.t VALUES (1,\n'two", "line 2, within a quoted text that begins on line 2"),
            ("SELECT 1;\n/* once", "within a comment that begins on line 2"),
            ("SELECT $x$ a $y$", "within a quoted text that begins on line 1"),
        ];
        for (sql, expect) in cases {
            let fault = read(sql.as_bytes(), 4).unwrap_err();
            assert_eq!(fault.blame, Blame::Backup);
            assert!(fault.causes[0].contains(expect), "{:?} lacks {expect:?}", fault.causes);
        }
    }

    #[test]
    fn connections_tell_tables_of_several_databases_apart() {
        let sql = "--\n-- PostgreSQL database cluster dump\n--\nCREATE ROLE r;\nCREATE DATABASE \"my db\" TABLESPACE = fast;\n\
             \\connect -reuse-previous=on \"dbname='my db'\"\nCREATE TABLE t ();\nCOPY t FROM stdin;\n1\n\\.\n\
             \\connect \"a\"\"b\"\nCREATE TABLE s.t ();\n\\connect plain\nCREATE EXTENSION hstore;\n\
             --\n-- PostgreSQL database cluster dump complete\n--\n";
        let facts = facts(sql);
        assert_eq!((facts.format, facts.end_marker), (DumpFormat::Cluster, Some(true)));
        let tables: Vec<_> =
            facts.contents.tables.iter().map(|it| (it.database.as_deref(), it.schema.as_str(), it.rows)).collect();
        assert_eq!(tables, [(Some("my db"), "public", Some(1)), (Some("a\"b"), "s", None)]);
        assert_eq!(facts.contents.extensions[0].database.as_deref(), Some("plain"));
        assert_eq!(facts.contents.databases, ["my db"]);
        assert_eq!(facts.contents.tablespaces, BTreeSet::from(["fast".to_owned()]));
    }

    #[test]
    fn a_hand_kept_script_has_no_end_marker_to_ask_for() {
        let facts = facts("CREATE SCHEMA s;\nCREATE TABLE s.t (x integer)\n");
        assert_eq!((facts.format, facts.end_marker), (DumpFormat::Plain, None));
        assert_eq!(rows(&facts), BTreeMap::from([("s.t".to_owned(), None)]));
    }

    #[test]
    fn row_security_and_restrict_are_noticed() {
        let facts =
            facts("\\restrict abc\nSET row_security = on;\nSET client_encoding = 'LATIN1';\n\\unrestrict abc\n");
        assert!(facts.restrict && facts.contents.row_security_on);
        assert_eq!(facts.contents.encoding.as_deref(), Some("LATIN1"));
    }

    #[test]
    fn memory_stays_small_however_long_a_line_is() {
        let mut scanner = Scanner::default();
        scanner.push(b"INSERT INTO a.t VALUES ('");
        let long = vec![b'x'; 1 << 20];
        (0..64).for_each(|_| scanner.push(&long));
        scanner.push(b"', 2), (3, '");
        (0..64).for_each(|_| scanner.push(&long));
        scanner.push(b"');\n-- ");
        (0..8).for_each(|_| scanner.push(&long));
        assert!(scanner.head.capacity() + scanner.line.capacity() < 4 * HEAD);
        scanner.push(b"\n;");
        assert_eq!(scanner.finish(Compression::None).unwrap().contents.tables[0].rows, Some(2));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn arbitrary_bytes_never_panic_and_pieces_do_not_matter(
            text in proptest::collection::vec(prop_oneof![
                Just(b"COPY a.t FROM stdin;\n".to_vec()), Just(b"\\.\n".to_vec()), Just(b"'".to_vec()), Just(b"$x$".to_vec()),
                Just(b"INSERT INTO a VALUES (".to_vec()), Just(b"(".to_vec()), Just(b");".to_vec()), Just(b"/*".to_vec()),
                Just(b"*/".to_vec()), Just(b"--".to_vec()), Just(b"\n".to_vec()), Just(b"\\connect x\n".to_vec()),
                Just(b"\"".to_vec()), Just(b"E'\\".to_vec()), Just(b"CREATE FUNCTION f BEGIN ATOMIC;".to_vec()),
                proptest::collection::vec(any::<u8>(), 0..12),
            ], 0..40),
            piece in 1usize..9,
        ) {
            let text = text.concat();
            prop_assert_eq!(read(&text, piece), read(&text, usize::MAX));
        }
    }
}
