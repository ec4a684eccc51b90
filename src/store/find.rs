//! Which files there are.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};

use super::bundle::is_flat;
use super::files::{Entry, FileKind, Stat};
use super::objects::Trouble;
use super::tap::{file_name, medium, missing, stat};
use super::{Reading, barman, bundle, pgbackrest, walg};
use crate::fault::{Blame, Fault};
use crate::recipe::FileSeen;
use crate::source::service::Service;

const TEXT_LIMIT: u64 = 16 << 20;

/// Endings of files that are still being written.
const UNFINISHED: [&str; 6] = [".tmp", ".part", ".partial", ".temp", ".crdownload", ".swp"];

/// Files that match a path or a pattern (`*`, `?`, `[…]`, `{…}`, `**`), sorted by path.
///
/// Of directories only those that are backups match a pattern; a path may name any, and one that holds several base backups
/// stands for those. Hidden and unfinished files match only a
/// pattern that spells their mark out. Nothing found in a directory that can be read is an empty list; a directory that
/// is not there or cannot be read is a fault of the host.
pub fn list(pattern: &str, reading: &Reading) -> Result<Vec<FileSeen>, Fault> {
    reading.sure(Path::new(pattern), matching(pattern, reading))
}

fn matching(pattern: &str, reading: &Reading) -> Result<Vec<FileSeen>, Fault> {
    let path = Path::new(pattern);
    let is_there = || if is_flat(path) { reading.exists(path) } else { path.symlink_metadata().is_ok() };
    if !is_pattern(pattern) || is_there() {
        return exact(path, reading);
    }
    let glob = |it: &str| GlobBuilder::new(it).literal_separator(true).build().map(|it| it.compile_matcher());
    let matcher = glob(pattern).map_err(|it| {
        Fault::new(Blame::Scenario, format!("understand the pattern {pattern}"))
            .cause(it.kind().to_string())
            .hint("in patterns, * ? [ ] { } have a meaning: put a \\ before one that is part of a name")
    })?;
    let base = fixed_part(pattern);
    let mut walk = Walk {
        matcher,
        depth: if pattern.contains("**") { usize::MAX } else { path.components().count() },
        hidden: path
            .components()
            .skip(base.components().count())
            .any(|it| it.as_os_str().as_encoded_bytes().starts_with(b".")),
        unfinished: UNFINISHED.iter().any(|it| pattern.ends_with(it)),
        found: Vec::new(),
        reading,
    };
    walk.directory(&base, true)?;
    let would = |it: &Path| !walk.passes(&file_name(it)) && it.ancestors().any(|it| walk.matcher.is_match(it));
    if walk.found.is_empty()
        && let Some(fault) = reading.doubt(&base, &would)
    {
        return Err(fault);
    }
    walk.found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(walk.found)
}

fn exact(path: &Path, reading: &Reading) -> Result<Vec<FileSeen>, Fault> {
    bundle::readable(path, reading)?;
    // A tool's repository may hold none, and is no backup itself.
    let kept = repository(path, reading).or_else(|| Some(base_backups(path, reading)).filter(|it| !it.is_empty()));
    if let Some(files) = kept.or_else(|| databasus_files(path, reading)) {
        if files.is_empty()
            && let Some(fault) = reading.doubt(path, &|_| true)
        {
            return Err(fault);
        }
        return files.iter().map(|it| look(it, reading)).collect();
    }
    if !reading.exists(path) {
        misnamed(path, reading)?;
    }
    match look(path, reading) {
        Ok(seen) => Ok(vec![seen]),
        // The directory was there and readable.
        Err(fault) if fault.blame == Blame::Backup => Ok(Vec::new()),
        Err(fault) => Err(fault),
    }
}

/// A stanza or a server that is not there, in a place that has others.
fn misnamed(path: &Path, reading: &Reading) -> Result<(), Fault> {
    let (Some(parent), name) = (path.parent(), file_name(path)) else { return Ok(()) };
    let fault = |cause: String, key: &str| {
        let fault = Fault::new(Blame::Scenario, format!("find {}", path.display())).cause(cause);
        Err(fault.hint(format!("correct `{key}` in the scenario")))
    };
    let repository = parent.parent().filter(|_| file_name(parent) == pgbackrest::BACKUPS);
    let stanzas = repository.map(|it| pgbackrest::stanzas(it, reading)).unwrap_or_default();
    if !stanzas.is_empty() {
        return fault(format!("the repository has no stanza {name}: it has {}", stanzas.join(", ")), "stanza");
    }
    let servers = barman::servers(parent, reading);
    if !servers.is_empty() {
        return fault(format!("Barman has no server {name} there: it has {}", servers.join(", ")), "server");
    }
    Ok(())
}

fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

/// The directories before the first component that is a pattern.
fn fixed_part(pattern: &str) -> PathBuf {
    if Service::of(pattern).is_some() {
        let at = pattern.find(['*', '?', '[', '{']).unwrap_or(pattern.len());
        return PathBuf::from(pattern[..at].rsplit_once('/').map_or(pattern, |it| it.0));
    }
    let fixed = Path::new(pattern).components().take_while(|it| match it {
        Component::Normal(part) => !is_pattern(&part.to_string_lossy()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => true,
    });
    let base: PathBuf = fixed.collect();
    if base.as_os_str().is_empty() { PathBuf::from(".") } else { base }
}

struct Walk<'a> {
    matcher: GlobMatcher,
    /// Components of the longest path that can match.
    depth: usize,
    hidden: bool,
    unfinished: bool,
    found: Vec<FileSeen>,
    reading: &'a Reading,
}

impl Walk<'_> {
    fn directory(&mut self, directory: &Path, base: bool) -> Result<(), Fault> {
        let entries = match self.reading.entries(directory) {
            Ok(entries) => entries,
            // What vanished while we looked is no match.
            Err(error) if !base && error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(unlistable(directory, &error)),
        };
        for entry in entries {
            self.entry(&entry)?;
        }
        Ok(())
    }

    /// Over what is no backup by its name.
    fn passes(&self, name: &str) -> bool {
        let unfinished = UNFINISHED.iter().any(|it| name.ends_with(it));
        let sidecar = name.strip_suffix(SIDECAR).is_some_and(|it| uuid_of(it).is_some());
        (name.starts_with('.') && !self.hidden) || (unfinished && !self.unfinished) || sidecar
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), Fault> {
        let Entry { path, name, kind, .. } = entry;
        if self.passes(name) {
            return Ok(());
        }
        // `./x` from a relative base matches `x`.
        let matches = self.matcher.is_match(path.strip_prefix(".").unwrap_or(path));
        // Follows a link to a file, as people name their newest dump; of directories, only real ones are walked.
        let followed =
            if *kind == FileKind::Link { self.reading.stat(path).ok().map(|it| it.kind) } else { Some(*kind) };
        let is_backup = || followed == Some(FileKind::Directory) && layout(&self.reading.peek(path)).is_some();
        if matches && (followed == Some(FileKind::File) || is_backup()) {
            match look(path, self.reading) {
                Ok(seen) => self.found.push(seen),
                // It vanished while we looked.
                Err(fault) if fault.blame == Blame::Backup => {}
                Err(fault) => return Err(fault),
            }
            return Ok(());
        }
        if *kind == FileKind::Directory && path.components().count() < self.depth {
            return self.directory(path, false);
        }
        Ok(())
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "an open set: the kinds of I/O errors grow with the standard library"
)]
pub(super) fn unlistable(directory: &Path, error: &io::Error) -> Fault {
    if let Some(trouble) = Trouble::of(error) {
        return trouble.fault(directory, "list");
    }
    let fault = Fault::new(Blame::Host, format!("list {}", directory.display()));
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => fault.cause(missing(directory)).hint(
            "is a file system not mounted? A relative path in a scenario counts from the scenario file's directory",
        ),
        io::ErrorKind::PermissionDenied => {
            fault.cause(error.to_string()).hint("let the user who runs pgdrill read this directory")
        }
        _ => fault.cause(error.to_string()),
    }
}

/// Names of the table of contents in a directory dump, packed by hand or not.
pub(super) fn toc_of(directory: &Path, reading: &Reading) -> Option<PathBuf> {
    let named = crate::format::archive::SUFFIXES.iter().map(|it| directory.join(format!("toc.dat{it}")));
    named.into_iter().find(|it| reading.is_file(it))
}

/// The backups of a stanza, a storage or a server of a backup tool. None: it is none of these.
fn repository(path: &Path, reading: &Reading) -> Option<Vec<PathBuf>> {
    let walg = || walg::backups(path, reading);
    pgbackrest::backups(path, reading).or_else(walg).or_else(|| barman::backups(path, reading))
}

/// The base backups of a directory that holds several: full ones and incremental ones, as pg_basebackup wrote them.
fn base_backups(path: &Path, reading: &Reading) -> Vec<PathBuf> {
    let entries = reading.peek(path);
    if layout(&entries).is_some() {
        return Vec::new();
    }
    let directories = entries.into_iter().filter(|it| it.kind == FileKind::Directory).map(|it| it.path);
    directories.filter(|it| layout(&reading.peek(it)) == Some(Layout::Base)).collect()
}

/// What Databasus writes beside a backup.
pub(super) const SIDECAR: &str = ".metadata";

/// The files of a directory of Databasus' backups, each named by a UUID or with one at its end. None where there are none.
pub fn databasus_files(path: &Path, reading: &Reading) -> Option<Vec<PathBuf>> {
    let named = reading.peek(path).into_iter().filter(|it| uuid_of(&it.name).is_some()).map(|it| it.path);
    let found: Vec<PathBuf> = named.filter(|it| reading.is_file(it)).collect();
    (!found.is_empty()).then_some(found)
}

/// The UUID that a name is or ends in.
pub(super) fn uuid_of(name: &str) -> Option<&str> {
    let uuid = name.get(name.len().checked_sub(36)?..)?;
    let dash = |at: usize| matches!(at, 8 | 13 | 18 | 23);
    let fits = |(at, it): (usize, u8)| if dash(at) { it == b'-' } else { it.is_ascii_hexdigit() };
    uuid.bytes().enumerate().all(fits).then_some(uuid)
}

/// What a directory that is one backup was made by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// pg_dump.
    Dump,
    /// pg_basebackup, in either format.
    Base,
    /// The same, or a part of one: directories of databases have a PG_VERSION, too.
    Data,
}

/// By the names in it. None: it is no backup.
fn layout(entries: &[Entry]) -> Option<Layout> {
    let has = |name: &str| entries.iter().any(|it| it.name == name && it.kind != FileKind::Directory);
    let any = |stem: &str, endings: &[&str]| endings.iter().any(|it| has(&format!("{stem}{it}")));
    let global = || entries.iter().any(|it| it.name == "global" && it.kind == FileKind::Directory);
    if any("toc.dat", &crate::format::archive::SUFFIXES) {
        Some(Layout::Dump)
    } else if has("PG_VERSION") {
        Some(if global() { Layout::Base } else { Layout::Data })
    } else {
        any("base.tar", &["", ".gz", ".zst", ".lz4", ".xz"]).then_some(Layout::Base)
    }
}

pub(super) fn is_dump_directory(path: &Path, reading: &Reading) -> bool {
    toc_of(path, reading).is_some()
}

/// What identifies a file or directory, without reading it.
pub fn look(path: &Path, reading: &Reading) -> Result<FileSeen, Fault> {
    let stat = stat(path, reading)?;
    let mut seen = FileSeen {
        path: path.to_string_lossy().into_owned(),
        directory: stat.is_dir(),
        bytes: stat.bytes,
        modified: stat.modified,
        inode: stat.identity,
        world_readable: open_to_all(stat) && reachable(path),
    };
    if stat.is_dir() {
        seen.bytes = 0;
        for file in files(path, reading)? {
            let stat = file.stat;
            seen.bytes += if stat.is_file() { stat.bytes } else { 0 };
            seen.modified = seen.modified.max(stat.modified);
            seen.world_readable &= open_to_all(stat);
        }
    }
    Ok(seen)
}

/// Objects are open to nobody: other programs have no credentials.
fn open_to_all(stat: Stat) -> bool {
    let needed = if stat.is_dir() { 0o005 } else { 0o004 };
    stat.mode.is_some_and(|it| stat.kind == FileKind::Link || it & needed == needed)
}

/// Whether anybody may pass through the directories above.
fn reachable(path: &Path) -> bool {
    let Ok(path) = fs::canonicalize(path) else { return false };
    path.ancestors().skip(1).all(|it| fs::metadata(it).is_ok_and(|it| it.mode() & 0o001 != 0))
}

/// Something in a directory, as it is itself: links are not followed.
pub(super) struct Found {
    /// From the directory on.
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) stat: Stat,
}

/// Everything below a directory, sorted by name.
pub(super) fn files(directory: &Path, reading: &Reading) -> Result<Vec<Found>, Fault> {
    let mut found = Vec::new();
    let of = |entry: Entry, stat: Stat| {
        let name = entry.path.strip_prefix(directory).unwrap_or(&entry.path).to_string_lossy().into_owned();
        Found { name, path: entry.path, stat }
    };
    let all = reading.all_beneath(directory).map_err(|it| unlistable(directory, &it))?;
    let mut open = if all.is_some() { Vec::new() } else { vec![directory.to_owned()] };
    for entry in all.into_iter().flatten() {
        let stat = entry.stat().map_err(|it| medium(&entry.path, "look at", &it))?;
        found.push(of(entry, stat));
    }
    while let Some(next) = open.pop() {
        for entry in reading.entries(&next).map_err(|it| unlistable(&next, &it))? {
            let stat = match entry.stat() {
                Ok(stat) => stat,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(medium(&entry.path, "look at", &error)),
            };
            if stat.is_dir() {
                open.push(entry.path.clone());
            }
            found.push(of(entry, stat));
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// The text of a small file that a scenario names.
pub fn read_text(path: &Path, reading: &Reading) -> Result<String, Fault> {
    let scenario = |fault: Fault| match fault.blame {
        // It is no backup that is missing.
        Blame::Backup => {
            Fault { blame: Blame::Scenario, hint: Some("correct the path in the scenario".to_owned()), ..fault }
        }
        Blame::Scenario | Blame::Host | Blame::Harness => fault,
    };
    let no_text = |cause: String| Fault::new(Blame::Scenario, format!("read {}", path.display())).cause(cause);
    if stat(path, reading).map_err(scenario)?.is_dir() {
        return Err(no_text(format!("{} is a directory", file_name(path))).hint("name a text file"));
    }
    let file = reading.open(path).map_err(|it| scenario(medium(path, "open", &it)))?;
    let mut bytes = Vec::new();
    file.take(TEXT_LIMIT + 1).read_to_end(&mut bytes).map_err(|it| medium(path, "read", &it))?;
    if bytes.len() as u64 > TEXT_LIMIT {
        return Err(
            no_text("it is larger than 16 MiB".to_owned()).hint("such files are kept in memory: make it smaller")
        );
    }
    String::from_utf8(bytes)
        .map_err(|it| no_text(format!("it is no UTF-8: {}", it.utf8_error())).hint("save it as UTF-8"))
}
