//! `pg_dump`'s archives: their header and table of contents, as in a custom file or in the `toc.dat` of a directory or tar.
//!
//! The layout is that of `ReadHead`, `ReadToc`, `ReadInt`, `ReadStr` and `ReadOffset` in `PostgreSQL`'s
//! `src/bin/pg_dump/pg_backup_archiver.c`; format versions 1.10 (`PostgreSQL` 8.0) to 1.16 (17 and 18) are read. Nothing is
//! allocated on the word of a length field: buffers grow with the bytes that really come.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Seek, SeekFrom};

use super::promised::{self, Promised};
use super::sql::{self, Said};
use super::{ArchiveVersion, Compression, Contents, DumpFacts, DumpFormat, Extension, Table};
use crate::fault::{Blame, Fault};

/// An archive's header and table of contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    pub version: ArchiveVersion,
    /// Bytes of an integer, without its sign byte.
    pub int_size: u8,
    pub offset_size: u8,
    pub layout: Layout,
    /// As `DumpFacts::archive_compression`.
    pub compression: String,
    /// As `DumpFacts::created`.
    pub created: Option<String>,
    pub database: Option<String>,
    pub server_version: Option<String>,
    pub dump_version: Option<String>,
    pub entries: Vec<Entry>,
    /// Bytes of header and table of contents.
    pub end: u64,
}

/// The format byte. `toc.dat` of a directory says tar, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    Custom,
    Tar,
}

/// One entry of the table of contents. Names are as in the catalogue, without quotes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    pub dump_id: i32,
    pub had_dumper: bool,
    /// OIDs of the catalogue and of the object in it; 0 where there is none.
    pub catalog: u32,
    pub oid: u32,
    pub tag: String,
    /// The kind: `TABLE`, `TABLE DATA` …
    pub desc: String,
    /// 1 none, 2 pre-data, 3 data, 4 post-data.
    pub section: i32,
    pub definition: String,
    pub drop: String,
    pub copy: String,
    pub namespace: Option<String>,
    pub tablespace: Option<String>,
    pub access_method: Option<String>,
    /// From 1.16 on, for tables: `r`, `p` …
    pub relkind: Option<char>,
    pub owner: String,
    pub dependencies: Vec<i32>,
    pub data: Data,
}

/// Where an entry's data are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Data {
    #[default]
    None,
    /// In this custom file, at a place that its writer could not note because it wrote into a pipe.
    Somewhere,
    /// At this offset of the custom file.
    At(u64),
    /// In this file of the directory or tar, which in a directory may carry `.gz`, `.lz4` or `.zst` in addition.
    File(String),
}

/// Suffixes that `pg_restore` tries for files of a directory.
pub const SUFFIXES: [&str; 4] = ["", ".gz", ".lz4", ".zst"];

const STRING_LIMIT: usize = 256 << 20;
const TOC_LIMIT: u64 = 2 << 30;
/// Data that are walked through to see whether they are whole: a fraction of a second.
const WALK_LIMIT: u64 = 256 << 20;

impl Archive {
    /// Reads header and table of contents, and not a byte more.
    pub fn read<R: Read>(input: R) -> Result<Archive, Fault> {
        Reader { input: input.take(TOC_LIMIT), int_size: 4, offset_size: 8 }.archive()
    }

    /// The files of a directory or tar that the table of contents names, each with the entry that needs it.
    pub fn files(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().filter_map(|entry| match &entry.data {
            Data::File(file) => Some((file.as_str(), entry)),
            Data::None | Data::Somewhere | Data::At(_) => None,
        })
    }

    /// What the table of contents tells. Sizes of files are for the caller to add.
    pub fn facts(&self, format: DumpFormat, wrapped: Compression) -> DumpFacts {
        DumpFacts {
            format,
            wrapped,
            sealed: false,
            archive_version: Some(self.version),
            archive_compression: Some(self.compression.clone()),
            created: self.created.clone(),
            database: self.database.clone(),
            server_version: self.server_version.clone(),
            dump_version: self.dump_version.clone(),
            restrict: false,
            end_marker: None,
            contents: self.contents(),
        }
    }

    fn contents(&self) -> Contents {
        let mut contents = Contents { tables: self.tables(), ..Contents::default() };
        let mut schemas = BTreeSet::new();
        let mut large_objects = 0;
        for entry in &self.entries {
            *contents.entries.entry(entry.desc.clone()).or_default() += 1;
            contents.roles.extend(Some(entry.owner.clone()).filter(|it| sql::is_own_role(it)));
            contents.tablespaces.extend(entry.tablespace.clone().filter(|it| sql::is_own_tablespace(it)));
            match entry.desc.as_str() {
                "SCHEMA" => drop(schemas.insert(entry.tag.clone())),
                "EXTENSION" => contents.extensions.push(Extension { name: entry.tag.clone(), database: None }),
                "ENCODING" => contents.encoding = sql::setting(&entry.definition, "client_encoding"),
                "DATABASE" => {
                    contents.create_database = Some(entry.definition.clone()).filter(|it| !it.is_empty());
                    contents.database_owner = Some(entry.owner.clone()).filter(|it| !it.is_empty());
                }
                "DATABASE PROPERTIES" => contents.database_properties = Some(entry.definition.clone()),
                "BLOB" => large_objects += 1,
                "BLOB METADATA" => large_objects += entry.definition.lines().filter(|it| !it.is_empty()).count() as u64,
                _ => {}
            }
            if matches!(
                entry.desc.as_str(),
                "ACL" | "DEFAULT ACL" | "POLICY" | "USER MAPPING" | "DATABASE" | "DATABASE PROPERTIES" | "SCHEMA"
            ) {
                for said in sql::statements(&entry.definition).iter().flat_map(|it| sql::said(it)) {
                    match said {
                        Said::Role(role) => drop(contents.roles.insert(role)),
                        Said::Tablespace(name) => drop(contents.tablespaces.insert(name)),
                        Said::RoleMade(_)
                        | Said::TablespaceMade { .. }
                        | Said::Schema(_)
                        | Said::Extension(_)
                        | Said::Database(_)
                        | Said::Table { .. }
                        | Said::Setting { .. }
                        | Said::NoSuperuser(_)
                        | Said::Grantor(_)
                        | Said::SessionRole
                        | Said::LargeObject => {}
                    }
                }
            }
        }
        schemas.extend(contents.tables.iter().map(|it| it.schema.clone()));
        contents.schemas = schemas.into_iter().collect();
        contents.large_objects = Some(large_objects);
        contents.promised = Some(self.promised(None));
        contents
    }

    /// What the entries promise, or those of them that a selection takes.
    pub fn promised(&self, selected: Option<&[i32]>) -> Promised {
        let selected: Option<BTreeSet<i32>> = selected.map(|it| it.iter().copied().collect());
        let mut reader = promised::Reader::default();
        for entry in &self.entries {
            if selected.as_ref().is_some_and(|it| !it.contains(&entry.dump_id)) {
                continue;
            }
            let (desc, tag, owner) = (entry.desc.clone(), entry.tag.clone(), entry.owner.clone());
            if desc == "BLOB METADATA" {
                let count = entry.definition.lines().filter(|it| !it.is_empty()).count();
                reader.large_objects(&owner, count as u64);
            }
            reader.heading(promised::Heading { desc, tag, owner });
            // Old archives name things without their schema.
            let schema = entry.namespace.as_deref().filter(|it| !it.is_empty()).unwrap_or("public");
            let place =
                promised::Place { database: None, schema, tablespace: entry.tablespace.as_deref().unwrap_or_default() };
            for statement in sql::statements(&entry.definition) {
                reader.statement(&statement, place);
            }
        }
        let loaded = selected.map(|selected| {
            let data = self.entries.iter().filter(|it| it.desc == "TABLE DATA" && selected.contains(&it.dump_id));
            data.map(|it| (it.namespace.clone().unwrap_or_default(), it.tag.clone())).collect()
        });
        // What may look like other writes are parts of functions' bodies.
        Promised { other_writes: false, loaded, ..reader.finish() }
    }

    /// Tables in the order of the archive.
    fn tables(&self) -> Vec<Table> {
        let with_data: BTreeSet<_> =
            self.entries.iter().filter(|it| it.desc == "TABLE DATA").map(|it| (&it.namespace, &it.tag)).collect();
        let mut seen = BTreeSet::new();
        let mut tables = Vec::new();
        for entry in &self.entries {
            if !matches!(entry.desc.as_str(), "TABLE" | "TABLE DATA") || !seen.insert((&entry.namespace, &entry.tag)) {
                continue;
            }
            tables.push(Table {
                database: None,
                schema: entry.namespace.clone().unwrap_or_default(),
                name: entry.tag.clone(),
                data: entry.is_partitioned() || with_data.contains(&(&entry.namespace, &entry.tag)),
                rows: None,
            });
        }
        tables
    }

    /// Whether the custom file is as long as its table of contents needs it to be. `input` is the whole file.
    ///
    /// Every data block ends with a zero integer. The last block is walked to that mark (all blocks, where their places
    /// are not known); of a larger one only the end of the file is looked at.
    pub fn check_custom<R: Read + Seek>(&self, input: &mut R) -> Result<(), Fault> {
        let length = input.seek(SeekFrom::End(0)).map_err(|it| unreadable(&it))?;
        let place = |it: &Entry| if let Data::At(at) = it.data { Some(at) } else { None };
        if let Some(entry) = self.entries.iter().find(|it| place(it).is_some_and(|at| at >= length)) {
            return Err(cut_data(entry, length));
        }
        let mut open: BTreeSet<i32> =
            self.entries.iter().filter(|it| it.data == Data::Somewhere).map(|it| it.dump_id).collect();
        let mut from = self.end;
        if open.is_empty() {
            let Some(last) = self.entries.iter().max_by_key(|it| place(it)).filter(|it| place(it).is_some()) else {
                return Ok(());
            };
            open.insert(last.dump_id);
            from = place(last).unwrap_or_default();
        }
        if length.saturating_sub(from) <= WALK_LIMIT || !self.ends_in_mark(input, length, &open)? {
            self.walk(input, from, &mut open)?;
            if let Some(entry) = self.entries.iter().find(|it| open.contains(&it.dump_id)) {
                return Err(cut_data(entry, length));
            }
        }
        Ok(())
    }

    /// Whether the file ends with the mark of a data block's end; large objects have one more of their own.
    fn ends_in_mark<R: Read + Seek>(&self, input: &mut R, length: u64, open: &BTreeSet<i32>) -> Result<bool, Fault> {
        let last = self.entries.iter().rfind(|it| open.contains(&it.dump_id));
        let marks = if last.is_some_and(|it| it.desc == "BLOBS") { 2 } else { 1 };
        let mut end = Vec::new();
        input
            .seek(SeekFrom::Start(length.saturating_sub(marks * (1 + u64::from(self.int_size)))))
            .and_then(|_| input.read_to_end(&mut end))
            .map_err(|it| unreadable(&it))?;
        Ok(end.iter().all(|it| *it == 0))
    }

    /// Removes from `open` the entries whose data blocks, from this place on, are whole. What follows them, if somebody
    /// appended something, does no harm to a restore.
    fn walk<R: Read + Seek>(&self, input: &mut R, from: u64, open: &mut BTreeSet<i32>) -> Result<(), Fault> {
        input.seek(SeekFrom::Start(from)).map_err(|it| unreadable(&it))?;
        let input = io::BufReader::with_capacity(64 * 1024, input).take(u64::MAX);
        let mut reader = Reader { input, int_size: self.int_size, offset_size: self.offset_size };
        while !open.is_empty() {
            match reader.walk_block() {
                Ok(id) => drop(open.remove(&id)),
                Err(Trouble::Cut | Trouble::Garbled(_) | Trouble::Unknown(_)) => break,
                Err(Trouble::Io(error)) => return Err(unreadable(&error)),
            }
        }
        Ok(())
    }
}

impl Entry {
    /// `TABLE DATA shop.orders`: as a person would name it.
    pub fn name(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{} {namespace}.{}", self.desc, self.tag),
            None => format!("{} {}", self.desc, self.tag),
        }
    }

    /// A partitioned table holds no rows of its own.
    pub fn is_partitioned(&self) -> bool {
        match self.relkind {
            Some(kind) => kind == 'p',
            None => self.desc == "TABLE" && self.definition.contains("\nPARTITION BY "),
        }
    }

    /// `the data of table shop.orders`
    pub fn whose_data(&self) -> String {
        match (self.desc.as_str(), &self.namespace) {
            ("BLOBS", _) => "the large objects".to_owned(),
            (_, Some(namespace)) => format!("the data of table {namespace}.{}", self.tag),
            (_, None) => format!("the data of {}", self.tag),
        }
    }
}

/// Before 1.11 an entry did not say its section; as `ReadToc` derives it.
fn section_of(desc: &str) -> i32 {
    match desc {
        "COMMENT" | "ACL" | "ACL LANGUAGE" => 1,
        "TABLE DATA" | "BLOBS" | "BLOB COMMENTS" => 3,
        "CONSTRAINT" | "CHECK CONSTRAINT" | "FK CONSTRAINT" | "INDEX" | "RULE" | "TRIGGER" => 4,
        _ => 2,
    }
}

fn cut_data(entry: &Entry, length: u64) -> Fault {
    Fault::new(Blame::Backup, "read the archive")
        .cause(format!("it ends, after {length} bytes, before the end of {}", entry.whose_data()))
        .hint(
            "the file was cut: compare its size with that of the original, and look whether a disk or a quota was full",
        )
}

/// What the large objects' own table of contents (`blobs.toc`, `blobs_NNN.toc`) names: file names, by OID.
pub fn large_object_files(text: &str) -> Result<Vec<(u32, String)>, Fault> {
    let line = |line: &str| {
        let (oid, file) = line.split_once(' ')?;
        let plain = !file.is_empty() && !file.contains(['/', '\\']) && file != "..";
        Some((oid.parse().ok()?, file.to_owned())).filter(|_| plain)
    };
    let bad = |bad: &str| {
        Fault::new(Blame::Backup, "read the list of large objects")
            .cause(format!("\"{}\" is no line of it", bad.chars().take(80).collect::<String>().escape_default()))
    };
    text.lines().map(|it| line(it).ok_or_else(|| bad(it))).collect()
}

/// A member of a tar archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub name: String,
    pub bytes: u64,
    /// Where its contents begin.
    pub at: u64,
}

/// The members of an uncompressed tar archive, seeking from one to the next. Ends at the first header that is none.
pub fn tar_members<R: Read + Seek>(input: &mut R) -> Result<Vec<Member>, Fault> {
    let mut archive = tar::Archive::new(input);
    let entries = archive.entries_with_seek().map_err(|it| bad_tar(&it))?;
    let mut members = Vec::new();
    // Raw: GNU's long names would be read into memory at whatever length a header claims, and pg_dump writes none.
    for entry in entries.raw(true) {
        let entry = entry.map_err(|it| bad_tar(&it))?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let bytes = entry.header().entry_size().map_err(|it| bad_tar(&it))?;
        members.push(Member { name, bytes, at: entry.raw_file_position() });
    }
    Ok(members)
}

/// The table of contents of a tar archive that can only be read forward.
pub fn read_tar<R: Read>(input: R) -> Result<Archive, Fault> {
    let mut archive = tar::Archive::new(input);
    let mut names = Vec::new();
    for entry in archive.entries().map_err(|it| bad_tar(&it))?.raw(true) {
        let entry = entry.map_err(|it| bad_tar(&it))?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if name == "toc.dat" {
            return Archive::read(entry);
        }
        if names.len() < 1000 {
            names.push(name);
        }
    }
    Err(foreign_tar(names.iter().map(String::as_str)))
}

/// A fault for a tar archive that holds no `toc.dat`, by the names of its members.
pub fn foreign_tar<'a>(names: impl IntoIterator<Item = &'a str>) -> Fault {
    let names: Vec<&str> = names.into_iter().collect();
    let shown = &names[..names.len().min(3)];
    let fault = super::sniff::no_dump(format!("it is a tar archive without toc.dat, of {}", shown.join(", ")));
    let base = ["backup_label", "PG_VERSION", "tablespace_map", "global/pg_control", "base/", "pg_wal/"];
    if names.iter().any(|it| base.contains(&it.trim_start_matches("./"))) {
        return fault.hint("it looks like a base backup (pg_basebackup -Ft), which is no dump");
    }
    // What may be whole, and is only packed.
    let packed = |hint: &str| Fault { blame: Blame::Scenario, ..fault.clone() }.hint(hint);
    if names.iter().any(|it| it.ends_with("/toc.dat")) {
        return packed("somebody packed a directory dump: unpack it, and name the directory that holds toc.dat");
    }
    let dumps = [".sql", ".dump", ".pgdump", ".backup", ".dmp"];
    if names.iter().any(|it| dumps.iter().any(|end| it.ends_with(end) && *it != "restore.sql")) {
        return packed("somebody packed a dump: unpack it, and name the file that pg_dump wrote");
    }
    fault.hint("pg_dump -Ft writes toc.dat first: name the file that it wrote")
}

fn bad_tar(error: &io::Error) -> Fault {
    Fault::new(Blame::Backup, "read the tar archive")
        .cause(error.to_string())
        .hint("the file was cut, or damaged on its way")
}

fn unreadable(error: &io::Error) -> Fault {
    Fault::new(Blame::Backup, "read the archive").cause(error.to_string())
}

/// Why a field could not be read.
enum Trouble {
    Cut,
    Garbled(String),
    /// A minor version of the format that this reader does not know.
    Unknown(u8),
    Io(io::Error),
}

struct Reader<R> {
    input: io::Take<R>,
    int_size: u8,
    offset_size: u8,
}

type Field<T> = Result<T, Trouble>;

impl<R: Read> Reader<R> {
    fn archive(mut self) -> Result<Archive, Fault> {
        let mut archive = self.header().map_err(|it| it.fault("within its header"))?;
        let count = self.int().map_err(|it| it.fault("before its table of contents"))?;
        if count < 0 {
            return Err(Trouble::Garbled(format!("{count} entries")).fault("in its table of contents"));
        }
        let mut before = String::from("at the first one");
        let mut ids = BTreeSet::new();
        for number in 1..=count {
            let place = |before: &str| format!("in entry {number} of {count} of its table of contents, {before}");
            let entry = self.entry(&archive).map_err(|it| it.fault(&place(&before)))?;
            if !ids.insert(entry.dump_id) {
                return Err(Trouble::Garbled(format!("id {} twice", entry.dump_id)).fault(&place(&before)));
            }
            before = format!("after {}", entry.name());
            archive.entries.push(entry);
        }
        archive.end = TOC_LIMIT - self.input.limit();
        Ok(archive)
    }

    fn header(&mut self) -> Field<Archive> {
        let mut magic = [0; 5];
        self.fill(&mut magic)?;
        if &magic != b"PGDMP" {
            return Err(Trouble::Garbled("no PGDMP at its start".to_owned()));
        }
        let version = ArchiveVersion { major: self.byte()?, minor: self.byte()?, revision: self.byte()? };
        match version.minor {
            _ if version.major != 1 => return Err(Trouble::Garbled(format!("format version {}", version.major))),
            10..=16 => {}
            other => return Err(Trouble::Unknown(other)),
        }
        self.int_size = self.size("an integer")?;
        self.offset_size = self.size("an offset")?;
        let layout = match self.byte()? {
            1 => Layout::Custom,
            3 => Layout::Tar,
            other => return Err(Trouble::Garbled(format!("format {other}"))),
        };
        let compression = if version.minor >= 15 {
            match self.byte()? {
                0 => "none".to_owned(),
                1 => "gzip".to_owned(),
                2 => "lz4".to_owned(),
                3 => "zstd".to_owned(),
                other => return Err(Trouble::Garbled(format!("compression {other}"))),
            }
        } else {
            match self.int()? {
                0 => "none".to_owned(),
                -1 => "gzip".to_owned(),
                level @ 1..=9 => format!("gzip:{level}"),
                other => return Err(Trouble::Garbled(format!("compression level {other}"))),
            }
        };
        let created = self.date()?;
        Ok(Archive {
            version,
            int_size: self.int_size,
            offset_size: self.offset_size,
            layout,
            compression,
            created,
            database: self.string()?,
            server_version: self.string()?,
            dump_version: self.string()?,
            entries: Vec::new(),
            end: 0,
        })
    }

    fn size(&mut self, of: &str) -> Field<u8> {
        match self.byte()? {
            size @ (4 | 8) => Ok(size),
            other => Err(Trouble::Garbled(format!("{other} bytes for {of}"))),
        }
    }

    /// `struct tm`: seconds first, months from 0, years from 1900.
    fn date(&mut self) -> Field<Option<String>> {
        let mut field = [0; 7];
        for it in &mut field {
            *it = self.int()?;
        }
        let [second, minute, hour, day, month, year, _dst] = field;
        let valid = (0..=60).contains(&second)
            && (0..60).contains(&minute)
            && (0..24).contains(&hour)
            && (1..=31).contains(&day)
            && (0..12).contains(&month)
            && (70..8000).contains(&year);
        let (month, year) = (month.wrapping_add(1), year.wrapping_add(1900));
        Ok(valid.then(|| format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")))
    }

    fn entry(&mut self, archive: &Archive) -> Field<Entry> {
        let mut entry = Entry { dump_id: self.int()?, ..Entry::default() };
        if entry.dump_id <= 0 {
            return Err(Trouble::Garbled(format!("id {}", entry.dump_id)));
        }
        entry.had_dumper = self.int()? != 0;
        entry.catalog = self.number()?;
        entry.oid = self.number()?;
        entry.tag = self.string()?.unwrap_or_default();
        entry.desc = self.string()?.unwrap_or_default();
        entry.section = if archive.version.minor >= 11 { self.int()? } else { section_of(&entry.desc) };
        entry.definition = self.string()?.unwrap_or_default();
        entry.drop = self.string()?.unwrap_or_default();
        entry.copy = self.string()?.unwrap_or_default();
        entry.namespace = self.string()?.filter(|it| !it.is_empty());
        entry.tablespace = self.string()?.filter(|it| !it.is_empty());
        if archive.version.minor >= 14 {
            entry.access_method = self.string()?.filter(|it| !it.is_empty());
        }
        if archive.version.minor >= 16 {
            let kind = u32::try_from(self.int()?).ok().and_then(char::from_u32);
            entry.relkind = kind.filter(|it| *it != '\0');
        }
        entry.owner = self.string()?.unwrap_or_default();
        self.string()?; // WITH OIDS
        while let Some(id) = self.string()? {
            entry
                .dependencies
                .push(id.parse().map_err(|_| Trouble::Garbled(format!("a dependency on {}", short(&id))))?);
        }
        entry.data = self.data(archive, entry.dump_id, &entry.desc)?;
        Ok(entry)
    }

    fn data(&mut self, archive: &Archive, dump_id: i32, desc: &str) -> Field<Data> {
        match archive.layout {
            Layout::Custom => {
                let state = self.byte()?;
                let mut offset = [0; 8];
                let size = usize::from(self.offset_size).min(8);
                self.fill(&mut offset[..size])?;
                match state {
                    1 => Ok(Data::Somewhere),
                    2 => Ok(Data::At(u64::from_le_bytes(offset))),
                    3 => Ok(Data::None),
                    other => Err(Trouble::Garbled(format!("state {other} of the data's position"))),
                }
            }
            Layout::Tar => match self.string()?.filter(|it| !it.is_empty()) {
                None => Ok(Data::None),
                // The name in the entry is not that of the file, in tars and before 1.16; pg_restore makes it up, too.
                Some(_) if desc == "BLOBS" && archive.version.minor < 16 => Ok(Data::File("blobs.toc".to_owned())),
                Some(_) if desc == "BLOBS" => Ok(Data::File(format!("blobs_{dump_id}.toc"))),
                Some(file) if file.contains(['/', '\\', '\0']) || file == ".." => {
                    Err(Trouble::Garbled(format!("a data file named {}", short(&file))))
                }
                Some(file) => Ok(Data::File(file)),
            },
        }
    }

    /// One data block of a custom file, to its closing mark: the id of its entry.
    fn walk_block(&mut self) -> Field<i32> {
        let kind = self.byte()?;
        let id = self.int()?;
        match kind {
            1 => self.walk_chunks()?,
            3 => {
                while self.wide()? != 0 {
                    self.walk_chunks()?;
                }
            }
            other => return Err(Trouble::Garbled(format!("a data block of kind {other}"))),
        }
        Ok(id)
    }

    fn walk_chunks(&mut self) -> Field<()> {
        loop {
            let length = u64::try_from(self.int()?).map_err(|_| Trouble::Garbled("a negative length".to_owned()))?;
            if length == 0 {
                return Ok(());
            }
            if io::copy(&mut (&mut self.input).take(length), &mut io::sink()).map_err(Trouble::from)? < length {
                return Err(Trouble::Cut);
            }
        }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Field<()> {
        Ok(self.input.read_exact(buffer)?)
    }

    fn byte(&mut self) -> Field<u8> {
        let mut byte = [0];
        self.fill(&mut byte)?;
        Ok(byte[0])
    }

    fn int(&mut self) -> Field<i32> {
        i32::try_from(self.wide()?).map_err(|_| Trouble::Garbled("an integer out of range".to_owned()))
    }

    /// A sign byte, then the magnitude, little-endian. OIDs are written as integers, and may exceed them.
    fn wide(&mut self) -> Field<i64> {
        let negative = match self.byte()? {
            0 => false,
            1 => true,
            other => return Err(Trouble::Garbled(format!("sign {other}"))),
        };
        let mut bytes = [0; 8];
        let size = usize::from(self.int_size).min(8);
        self.fill(&mut bytes[..size])?;
        match i64::from_le_bytes(bytes) {
            magnitude @ 0..=0xffff_ffff => Ok(if negative { -magnitude } else { magnitude }),
            _ => Err(Trouble::Garbled("an integer out of range".to_owned())),
        }
    }

    fn string(&mut self) -> Field<Option<String>> {
        let Ok(length) = usize::try_from(self.int()?) else { return Ok(None) };
        if length > STRING_LIMIT {
            return Err(Trouble::Garbled(format!("a text of {length} bytes")));
        }
        let mut bytes = Vec::new();
        (&mut self.input).take(length as u64).read_to_end(&mut bytes)?;
        if bytes.len() < length {
            return Err(Trouble::Cut);
        }
        Ok(Some(String::from_utf8(bytes).unwrap_or_else(|it| String::from_utf8_lossy(it.as_bytes()).into_owned())))
    }

    /// OIDs are written as text.
    fn number(&mut self) -> Field<u32> {
        let text = self.string()?.unwrap_or_default();
        text.parse().map_err(|_| Trouble::Garbled(format!("an OID of {}", short(&text))))
    }
}

fn short(text: &str) -> String {
    format!("\"{}\"", text.chars().take(40).collect::<String>().escape_debug())
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        if error.kind() == io::ErrorKind::UnexpectedEof { Trouble::Cut } else { Trouble::Io(error) }
    }
}

impl Trouble {
    fn fault(self, place: &str) -> Fault {
        let fault = Fault::new(Blame::Backup, "read the archive");
        match self {
            Trouble::Cut => fault
                .cause(format!("it ends {place}"))
                .hint("the file was cut: compare its size with that of the original, and look whether a disk was full"),
            Trouble::Garbled(what) => fault.cause(format!("it is garbled {place}: it has {what}")).hint(
                "the file was damaged on its way (a transfer in text mode, a terminal that changed line ends), or a newer pg_dump wrote it",
            ),
            Trouble::Unknown(minor) => Fault::new(Blame::Host, "read the archive")
                .cause(format!("its format version is 1.{minor}, and this pgdrill reads 1.12 to 1.16 (PostgreSQL 9.0 to 18)"))
                .hint("a newer pgdrill may read it"),
            Trouble::Io(error) => fault.cause(format!("reading stopped {place}: {error}")),
        }
    }
}

/// Entries by dump id.
pub(crate) fn by_id(entries: &[Entry]) -> BTreeMap<i32, usize> {
    entries.iter().enumerate().map(|(at, it)| (it.dump_id, at)).collect()
}
