//! One backup in several places: whether what lies there is the same, byte for byte.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::base::alive;
use super::files::{FileKind, Part};
use super::find::{files, is_dump_directory, list};
use super::header::headers;
use super::tap::{Tap, hex, stat};
use super::wal::{find_wal, read_wal, wal_archive};
use super::{OnBytes, Reading, base_facts, pgbackrest, walg};
use crate::fault::{Blame, Fault};
use crate::format::lsn::{Lsn, Segment};
use crate::recipe::{Compared, CopiedWal, CopyPlace, CopySeen, FileSeen, Identity, WalWay};
use crate::source::{backup_directory, backup_name};

/// Files that a text names.
const SHOWN: usize = 5;

/// Compares what a backup consists of with what each of other places holds under the same names. What is wrong with a copy is
/// an answer; what is wrong with the original is a fault. `wal`: what it recovers with.
pub fn compare(
    parts: &[String],
    places: &[CopyPlace],
    wal: Option<&WalWay>,
    reading: &Reading,
    on_bytes: OnBytes,
) -> Result<Compared, Fault> {
    let mut read = 0;
    let mut whole = Vec::new();
    for part in parts {
        whole.extend(with_references(part, reading)?);
    }
    let mut original = Vec::new();
    for part in &whole {
        original.push((part.as_str(), digests(Path::new(part), reading, &mut read, on_bytes)?));
    }
    let wal = wal.filter(|_| places.iter().any(|it| it.wal.is_some()));
    let wal = wal.map(|it| OwnWal::read(it, reading)).transpose()?;
    let mut copies = Vec::new();
    for place in places {
        let seen = copy(&original, place, wal.as_ref(), reading, &mut read, on_bytes);
        if reading.is_stopped() {
            return Err(Fault::new(Blame::Host, "compare the copies").cause("the drill was stopped"));
        }
        copies.push(seen.unwrap_or_else(|fault| CopySeen {
            name: place.name.clone(),
            trouble: Some(fault),
            ..CopySeen::default()
        }));
    }
    let files = original.iter().map(|it| it.1.len() as u64).sum();
    Ok(Compared { files, bytes: original.iter().flat_map(|it| it.1.values()).map(|it| it.1).sum(), copies })
}

fn copy(
    original: &[(&str, Digests)],
    place: &CopyPlace,
    wal: Option<&OwnWal<'_>>,
    reading: &Reading,
    read: &mut u64,
    on_bytes: OnBytes,
) -> Result<CopySeen, Fault> {
    let mut seen = CopySeen { name: place.name.clone(), ..CopySeen::default() };
    let listed = list(&place.path, reading)?;
    for (part, wanted) in original {
        let path = find(part, place, &listed, reading)?;
        seen.path.get_or_insert_with(|| path.clone());
        let at = Path::new(&path);
        if reading.is_file(&at.join("PG_VERSION")) && !reading.is_file(&at.join("backup_label")) {
            // A server's own files are no copy of anything.
            alive(at, reading)?;
        }
        let found = digests(Path::new(&path), reading, read, on_bytes)?;
        let differs = differences(wanted, &found);
        if !differs.is_empty() && seen.differs_total == 0 {
            seen.identities = identity(part, reading).zip(identity(&path, reading));
        }
        seen.add(differs);
    }
    if let (Some(own), Some(archive)) = (wal, &place.wal) {
        seen.wal = own.compare(Path::new(archive), &mut seen, reading)?;
    }
    Ok(seen)
}

impl CopySeen {
    fn add(&mut self, differs: Vec<String>) {
        self.differs_total += differs.len() as u64;
        self.differs.extend(differs.into_iter().take(SHOWN.saturating_sub(self.differs.len())));
    }
}

/// The original's WAL.
struct OwnWal<'a> {
    way: &'a WalWay,
    /// Of the segments that the backup itself needs, as far as the archive has them: digests, by their names.
    needed: BTreeMap<String, String>,
}

impl OwnWal<'_> {
    fn read<'a>(way: &'a WalWay, reading: &Reading) -> Result<OwnWal<'a>, Fault> {
        let last = way.stop.unwrap_or(way.start).0 / way.segment_bytes;
        let names = way.segments().take_while(|it| it.number <= last).map(|it| way.name(it));
        let one = |name: String| digest(Path::new(&way.archive), &name, reading).map(|it| (name, it));
        Ok(OwnWal { way, needed: names.map(one).collect::<Result<_, _>>()? })
    }

    /// Whether a copy has the WAL that the backup itself needs, and how far that behind it goes: the newest may still be on its way
    /// to another site, but between two that are there none may be missing.
    fn compare(&self, archive: &Path, seen: &mut CopySeen, reading: &Reading) -> Result<Option<CopiedWal>, Fault> {
        let way = self.way;
        let theirs = wal_archive(archive, None, Some(way.start), reading)?;
        let has = |it: Segment| {
            let mut same = theirs.stretches.iter().filter(|stretch| stretch.timeline == it.timeline);
            same.any(|stretch| (stretch.first..=stretch.last).contains(&it.number))
        };
        let absent = |name: &String| format!("{name} is not in its WAL");
        let (mut differs, mut lacking, mut until) = (Vec::new(), Vec::new(), None);
        for segment in way.segments() {
            let name = way.name(segment);
            if !has(segment) {
                lacking.push(name);
                continue;
            }
            // What lies before one that is there did not just come late.
            differs.extend(lacking.drain(..).map(|it| absent(&it)));
            if differs.is_empty() {
                until = Some(Lsn((segment.number + 1).saturating_mul(way.segment_bytes)));
            }
            if let Some(own) = self.needed.get(&name)
                && *own != digest(archive, &name, reading)?
            {
                differs.push(format!("{name} in its WAL has other contents"));
            }
        }
        let (lost, late): (Vec<&String>, Vec<&String>) = lacking.iter().partition(|it| self.needed.contains_key(*it));
        differs.extend(lost.into_iter().map(absent));
        seen.add(differs);
        Ok(until.map(|until| CopiedWal { until, behind: late.len() as u64 }))
    }
}

/// Of the plain bytes: two archives may be compressed in two ways.
fn digest(archive: &Path, name: &str, reading: &Reading) -> Result<String, Fault> {
    let mut sum = Sha256::new();
    let file = find_wal(archive, name, reading)?;
    let file = file.ok_or_else(|| {
        Fault::new(Blame::Host, format!("read {name} of {}", archive.display())).cause("it is not there any more")
    })?;
    read_wal(&file, reading, &mut |page| {
        sum.update(page);
        ControlFlow::Continue(())
    })?;
    Ok(hex(&sum.finalize()))
}

/// What lies in that place under the name that a backup has.
fn find(part: &str, place: &CopyPlace, listed: &[FileSeen], reading: &Reading) -> Result<String, Fault> {
    let name = backup_name(part);
    let same = listed.iter().find(|it| backup_name(&it.path) == name);
    // Whoever names one file means it, whatever it is called.
    let only = listed.first().filter(|it| listed.len() == 1 && it.path == place.path);
    if let Some(found) = same.or(only) {
        return Ok(backup_directory(&found.path).to_owned());
    }
    // What a backup builds upon lies beside it.
    let beside = listed.iter().filter_map(|it| Path::new(backup_directory(&it.path)).parent()).map(|it| it.join(name));
    if let Some(found) = beside.into_iter().find(|it| reading.exists(it)) {
        return Ok(found.to_string_lossy().into_owned());
    }
    let cause = match listed.len() {
        0 => "no backup lies there".to_owned(),
        1 => "another backup lies there, and not this one".to_owned(),
        several => format!("{several} other backups lie there, and not this one"),
    };
    Err(Fault::new(Blame::Backup, format!("find {name} in {}", place.path))
        .cause(cause)
        .hint("look at the job that copies backups there, and whether its retention is shorter"))
}

/// A backup with those that its own files refer to.
fn with_references(part: &str, reading: &Reading) -> Result<Vec<String>, Fault> {
    let path = Path::new(part);
    if !pgbackrest::is_backup(path, reading) {
        return Ok(vec![backup_directory(part).to_owned()]);
    }
    let stanza = path.parent().unwrap_or(path);
    let labels = pgbackrest::Backup::open(path, reading)?.manifest.references;
    let mut all: Vec<String> = labels.iter().map(|it| stanza.join(it).to_string_lossy().into_owned()).collect();
    if !all.iter().any(|it| it == part) {
        all.push(part.to_owned());
    }
    Ok(all)
}

/// Digest and size of each file, by its name within. Of one file, by no name.
type Digests = BTreeMap<String, (String, u64)>;

fn digests(path: &Path, reading: &Reading, read: &mut u64, on_bytes: OnBytes) -> Result<Digests, Fault> {
    let seen = stat(path, reading)?;
    let mut files = if seen.is_dir() {
        // A link leads to what is no part of the backup, or is compared where it lies.
        let all = files(path, reading)?.into_iter().filter(|it| it.stat.kind == FileKind::File);
        all.map(|it| (it.name, Part::whole(&it.path, it.stat))).collect()
    } else {
        vec![(String::new(), Part::whole(path, seen))]
    };
    // WAL-G's last word on a backup lies beside its directory.
    if walg::is_backup(path) {
        let sentinel = walg::sentinel_of(path);
        files.push(("the sentinel".to_owned(), Part::whole(&sentinel, stat(&sentinel, reading)?)));
    }
    let mut all = Digests::new();
    for ((name, path), file) in reading.each(files.into_iter().map(|(name, it)| ((name, it.path.clone()), it))) {
        let before = *read;
        let mut tell = |bytes| on_bytes(before + bytes);
        let mut tap = Tap::over(file, &path, reading, &mut tell)?.digesting();
        tap.drain()?;
        *read = before + tap.bytes;
        all.insert(name, (tap.sha256(), tap.bytes));
    }
    Ok(all)
}

fn differences(wanted: &Digests, found: &Digests) -> Vec<String> {
    let named = |name: &str| if name.is_empty() { "the file".to_owned() } else { name.to_owned() };
    let lacking = wanted.iter().filter_map(|(name, (sum, bytes))| match found.get(name) {
        None => Some(format!("{} is not there", named(name))),
        Some((_, other)) if other != bytes => Some(format!("{} has {other} bytes and not {bytes}", named(name))),
        Some((other, _)) if other != sum => Some(format!("{} has other contents", named(name))),
        Some(_) => None,
    });
    let more = found.keys().filter(|it| !wanted.contains_key(*it)).map(|it| format!("{it} is there as well"));
    lacking.chain(more).collect()
}

/// Which backup it is, by its own word, as far as that can be read.
fn identity(path: &str, reading: &Reading) -> Option<Identity> {
    let at = Path::new(path);
    let data = at.join("data");
    let at = if reading.is_dir(&data) { data } else { at.to_owned() };
    let is_base = reading.is_dir(&at) && !is_dump_directory(&at, reading);
    if is_base {
        let facts = base_facts(&at, &BTreeMap::new(), reading).ok()?;
        return facts.label.map(|it| Identity(format!("of the WAL from {} on", it.start)));
    }
    let header = headers(&[path.to_owned()], reading).pop()?;
    header.created.map(|it| Identity(format!("of {it}")))
}
