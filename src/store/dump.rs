//! What a logical backup is and holds.

use std::io::{self, BufReader, Cursor, Read};
use std::path::Path;

use super::files::FileKind;
use super::find::{Found, files, toc_of};
use super::tap::{CHUNK, Failures, Tap, Watched, medium, stat};
use super::{OnBytes, Reading};
use crate::fault::{Blame, Fault};
use crate::format::archive::{self, Archive, SUFFIXES};
use crate::format::plain::Scanner;
use crate::format::sniff::{self, Kind};
use crate::format::{Compression, DumpFacts, DumpFormat, Selection, decode, select};

/// Reads the header and the table of contents of an archive, or all of a text.
///
/// Contents that are cut, garbled or no dump are faults of the backup; what the file system refuses is one of the host.
/// That every data file is there and ends where it should is checked as far as that needs no reading of data.
pub fn dump_facts(
    path: &Path,
    selection: &Selection,
    reading: &Reading,
    on_bytes: OnBytes,
) -> Result<DumpFacts, Fault> {
    let stat = stat(path, reading)?;
    let facts = if stat.is_dir() {
        directory(path, selection, reading, on_bytes)
    } else if stat.is_file() {
        file(path, stat.bytes, selection, reading, on_bytes)
    } else {
        Err(Fault::new(Blame::Scenario, "read the backup")
            .cause("it is neither a file nor a directory")
            .hint("name a dump"))
    };
    reading.sure(path, facts.map_err(|it| at(path, it)))
}

/// Faults of contents do not know where those are.
fn at(path: &Path, mut fault: Fault) -> Fault {
    let path = path.display().to_string();
    if !fault.message.contains(&path) {
        fault.message = format!("{} {path}", fault.message);
    }
    fault
}

fn file(
    path: &Path,
    length: u64,
    selection: &Selection,
    reading: &Reading,
    on_bytes: OnBytes,
) -> Result<DumpFacts, Fault> {
    let sealed = reading.vault.seals(path, reading);
    let failures = Failures::default();
    let mut tap = Tap::open(path, reading, on_bytes)?;
    let outcome = tap.plain().map_err(Seen::Undecodable).and_then(|mut plain| {
        let start = head(&mut plain).map_err(Seen::Undecodable)?;
        let wrapped = sniff::compression(&start);
        let raw = Cursor::new(start).chain(plain);
        let mut decoder = decode::decoder(wrapped, raw).map_err(Seen::Undecodable)?;
        let head = head(&mut decoder).map_err(Seen::Undecodable)?;
        // Nobody can seek in what is compressed or encrypted.
        let within = (wrapped == Compression::None && !sealed).then_some((path, reading, &failures));
        contents(within, wrapped, length, head, &mut decoder, selection)
    });
    let facts = outcome.map_err(|it| match it {
        Seen::Undecodable(error) => tap.blame(&error),
        Seen::Fault(fault) => tap.trouble().unwrap_or_else(|| failures.beneath(path, fault)),
    })?;
    Ok(DumpFacts { sealed, ..facts })
}

/// Why contents could not be read.
enum Seen {
    Undecodable(io::Error),
    Fault(Fault),
}

impl From<Fault> for Seen {
    fn from(fault: Fault) -> Seen {
        Seen::Fault(fault)
    }
}

/// A file in which somebody seeks, and how that failed.
type Within<'a> = (&'a Path, &'a Reading, &'a Failures);

/// `within`: the file, where its parts can be looked at on their own.
fn contents(
    within: Option<Within<'_>>,
    wrapped: Compression,
    length: u64,
    head: Vec<u8>,
    rest: &mut dyn Read,
    selection: &Selection,
) -> Result<DumpFacts, Seen> {
    let kind = sniff::kind(&head)?;
    let mut input = BufReader::with_capacity(CHUNK, Cursor::new(head).chain(rest));
    match kind {
        Kind::Text => text(input, wrapped, selection),
        Kind::Custom => {
            let archive = Archive::read(&mut input)?;
            if let Some((path, reading, failures)) = within {
                archive.check_custom(&mut Watched::open(path, reading, failures)?)?;
            }
            Ok(with_selection(&archive, DumpFormat::Custom, wrapped, length, selection)?)
        }
        Kind::Tar => {
            let archive = match within {
                Some(within) => whole_tar(within, length)?,
                None => archive::read_tar(input)?,
            };
            Ok(with_selection(&archive, DumpFormat::Tar, wrapped, length, selection)?)
        }
    }
}

/// The first bytes of a reader, at most [`sniff::HEAD`].
pub(super) fn head(input: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(sniff::HEAD);
    input.take(sniff::HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}

fn text(mut input: impl Read, wrapped: Compression, selection: &Selection) -> Result<DumpFacts, Seen> {
    if !selection.is_everything() {
        return Err(Seen::Fault(
            Fault::new(Blame::Scenario, "restore a part of")
                .cause("it is SQL text, of which psql runs all or nothing")
                .hint("remove the selection of schemas and tables, or make the dump with `pg_dump -Fc`"),
        ));
    }
    let mut scanner = Scanner::default();
    let mut buffer = vec![0; CHUNK];
    loop {
        match input.read(&mut buffer) {
            Ok(0) if scanner.says_nothing() => {
                let fault = sniff::no_dump("it holds no statement, only comments");
                return Err(fault.hint("look at the job that wrote it, and name the file that pg_dump wrote").into());
            }
            Ok(0) => return Ok(scanner.finish(wrapped)?),
            Ok(read) => scanner.push(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                let cause = format!("its compressed data are cut or damaged after {}: {error}", scanner.position());
                return Err(Seen::Fault(
                    Fault::new(Blame::Backup, "read the text of the dump")
                        .cause(cause)
                        .hint("compare the file with the original: its size first, then its checksum"),
                ));
            }
        }
    }
}

fn with_selection(
    archive: &Archive,
    format: DumpFormat,
    wrapped: Compression,
    bytes: u64,
    selection: &Selection,
) -> Result<DumpFacts, Fault> {
    let mut facts = archive.facts(format, wrapped);
    facts.contents.data_bytes = bytes;
    if !selection.is_everything() {
        let selected = select::select(archive, selection)?;
        facts.contents.promised = Some(archive.promised(Some(&selected)));
        facts.contents.selected = Some(selected);
    }
    Ok(facts)
}

/// A tar with every file that its table of contents names, each within the archive's length.
fn whole_tar(within: Within<'_>, length: u64) -> Result<Archive, Fault> {
    let mut file = Watched::open(within.0, within.1, within.2)?;
    let members = archive::tar_members(&mut file)?;
    let find = |name: &str| members.iter().find(|it| it.name == name);
    let whole = |member: &archive::Member| member.at.checked_add(member.bytes).is_some_and(|end| end <= length);
    let Some(toc) = find("toc.dat") else {
        return Err(archive::foreign_tar(members.iter().map(|it| it.name.as_str())));
    };
    let part = |member: &archive::Member| section(within, member.at, member.bytes);
    let archive = Archive::read(BufReader::new(part(toc)?))?;
    for (name, entry) in archive.files() {
        let what = entry.whose_data();
        let member = find(name).ok_or_else(|| absent(name, &what, "tar archive"))?;
        if !whole(member) {
            return Err(cut(name, &what));
        }
        if entry.desc != "BLOBS" {
            continue;
        }
        for (oid, name) in large_objects(part(member)?)? {
            let what = format!("large object {oid}");
            let member = find(&name).ok_or_else(|| absent(&name, &what, "tar archive"))?;
            if !whole(member) {
                return Err(cut(&name, &what));
            }
        }
    }
    Ok(archive)
}

fn section((path, reading, failures): Within<'_>, at: u64, bytes: u64) -> Result<io::Take<Watched>, Fault> {
    let mut file = Watched::open(path, reading, failures)?;
    io::Seek::seek(&mut file, io::SeekFrom::Start(at)).map_err(|it| medium(path, "read", &it))?;
    Ok(file.take(bytes))
}

fn absent(name: &str, what: &str, container: &str) -> Fault {
    Fault::new(Blame::Backup, "read the dump")
        .cause(format!("the file {name}, with {what}, is not in the {container}"))
        .hint("the backup was copied or uploaded in part, or cut: look at the log of the job that stored it")
}

fn cut(name: &str, what: &str) -> Fault {
    Fault::new(Blame::Backup, "read the dump").cause(format!("it ends within the file {name}, with {what}")).hint(
        "the file was cut: compare its size with that of the original, and look whether a disk or a quota was full",
    )
}

/// What a list of large objects names; 64 MiB of it hold some two million.
fn large_objects(list: impl Read) -> Result<Vec<(u32, String)>, Fault> {
    let mut text = String::new();
    let read = list.take(64 << 20).read_to_string(&mut text);
    read.map_err(|it| Fault::new(Blame::Backup, "read the list of large objects").cause(it.to_string()))?;
    archive::large_object_files(&text)
}

fn directory(path: &Path, selection: &Selection, reading: &Reading, on_bytes: OnBytes) -> Result<DumpFacts, Fault> {
    let Some(toc) = toc_of(path, reading) else { return Err(no_dump_directory(path, reading)) };
    let archive = {
        let mut tap = Tap::open(&toc, reading, on_bytes)?;
        let read = unwrapped(&mut tap).map(BufReader::new).map(Archive::read);
        match read {
            Ok(Ok(archive)) => archive,
            Ok(Err(fault)) => return Err(tap.trouble().unwrap_or(at(&toc, fault))),
            Err(error) => return Err(tap.blame(&error)),
        }
    };
    let mut bytes = 0;
    let is_file = |it: &Found| it.stat.is_file() || it.stat.kind == FileKind::Link && reading.is_file(&it.path);
    let there: std::collections::BTreeMap<String, u64> =
        files(path, reading)?.into_iter().filter(|it| is_file(it)).map(|it| (it.name, it.stat.bytes)).collect();
    let find = |name: &str| SUFFIXES.iter().map(|it| format!("{name}{it}")).find(|it| there.contains_key(it));
    for (name, entry) in archive.files() {
        let what = entry.whose_data();
        let found = find(name).ok_or_else(|| absent(name, &what, "directory"))?;
        check_size(&found, there[&found], &what)?;
        bytes += there[&found];
        if entry.desc != "BLOBS" {
            continue;
        }
        let list = path.join(&found);
        let failures = Failures::default();
        let mut file = Watched::open(&list, reading, &failures)?;
        let lines = unwrapped(&mut file).map_err(|it| medium(&list, "read", &it))?;
        for (oid, name) in large_objects(lines).map_err(|it| failures.beneath(&list, it))? {
            let what = format!("large object {oid}");
            let found = find(&name).ok_or_else(|| absent(&name, &what, "directory"))?;
            bytes += there[&found];
        }
    }
    with_selection(&archive, DumpFormat::Directory, Compression::None, bytes, selection)
}

/// A packed file is never empty, whatever it holds.
fn check_size(name: &str, bytes: u64, what: &str) -> Result<(), Fault> {
    let packed = SUFFIXES.iter().any(|it| !it.is_empty() && name.ends_with(it));
    if packed && bytes == 0 { Err(cut(name, what)) } else { Ok(()) }
}

pub(super) fn unwrapped<'a>(input: &'a mut (dyn Read + 'a)) -> io::Result<Box<dyn Read + 'a>> {
    let start = head(input)?;
    let wrapped = sniff::compression(&start);
    decode::decoder(wrapped, Cursor::new(start).chain(input))
}

fn no_dump_directory(path: &Path, reading: &Reading) -> Fault {
    let has = |name: &str| reading.exists(&path.join(name));
    let looks = if has("base.tar") || has("base.tar.gz") || has("base.tar.zst") || has("base.tar.lz4") {
        "it looks like a base backup in tar format (pg_basebackup -Ft), which is no dump"
    } else if has("PG_VERSION") || has("backup_label") || has("global/pg_control") {
        "it looks like a data directory or a base backup, which is no dump"
    } else if has("backup.info") || has("archive.info") {
        "it looks like a repository of another backup tool"
    } else {
        "name a dump, or a pattern that matches dumps, such as DIR/*.dump"
    };
    sniff::no_dump("it is a directory without toc.dat").hint(looks)
}
