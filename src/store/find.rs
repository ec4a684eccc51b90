//! Which files there are.

use std::fs::{self, DirEntry, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};

use super::tap::{file_name, medium, metadata, missing};
use super::{barman, pgbackrest, walg};
use crate::fault::{Blame, Fault};
use crate::recipe::FileSeen;

const TEXT_LIMIT: u64 = 16 << 20;

/// Endings of files that are still being written.
const UNFINISHED: [&str; 6] = [".tmp", ".part", ".partial", ".temp", ".crdownload", ".swp"];

/// Files that match a path or a pattern (`*`, `?`, `[…]`, `{…}`, `**`), sorted by path.
///
/// Of directories only those that are backups match a pattern; a path may name any, and one that holds several base backups
/// stands for those. Hidden and unfinished files match only a
/// pattern that spells their mark out. Nothing found in a directory that can be read is an empty list; a directory that
/// is not there or cannot be read is a fault of the host.
pub fn list(pattern: &str) -> Result<Vec<FileSeen>, Fault> {
    let path = Path::new(pattern);
    if !is_pattern(pattern) || path.symlink_metadata().is_ok() {
        return exact(path);
    }
    let glob = |it: &str| GlobBuilder::new(it).literal_separator(true).build().map(|it| it.compile_matcher());
    let matcher = glob(pattern).map_err(|it| {
        Fault::new(Blame::Scenario, format!("understand the pattern {pattern}"))
            .cause(it.kind().to_string())
            .hint("in patterns, * ? [ ] { } have a meaning: put a \\ before one that is part of a name")
    })?;
    let base = fixed_part(path);
    let mut walk = Walk {
        matcher,
        depth: if pattern.contains("**") { usize::MAX } else { path.components().count() },
        hidden: path
            .components()
            .skip(base.components().count())
            .any(|it| it.as_os_str().as_encoded_bytes().starts_with(b".")),
        unfinished: UNFINISHED.iter().any(|it| pattern.ends_with(it)),
        found: Vec::new(),
    };
    walk.directory(&base, true)?;
    walk.found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(walk.found)
}

fn exact(path: &Path) -> Result<Vec<FileSeen>, Fault> {
    // A tool's repository may hold none, and is no backup itself.
    let kept = repository(path).or_else(|| Some(base_backups(path)).filter(|it| !it.is_empty()));
    if let Some(files) = kept.or_else(|| databasus_files(path)) {
        return files.iter().map(|it| look(it)).collect();
    }
    if !path.exists() {
        misnamed(path)?;
    }
    match look(path) {
        Ok(seen) => Ok(vec![seen]),
        // The directory was there and readable.
        Err(fault) if fault.blame == Blame::Backup => Ok(Vec::new()),
        Err(fault) => Err(fault),
    }
}

/// A stanza or a server that is not there, in a place that has others.
fn misnamed(path: &Path) -> Result<(), Fault> {
    let (Some(parent), name) = (path.parent(), file_name(path)) else { return Ok(()) };
    let fault = |cause: String, key: &str| {
        let fault = Fault::new(Blame::Scenario, format!("find {}", path.display())).cause(cause);
        Err(fault.hint(format!("correct `{key}` in the scenario")))
    };
    let repository = parent.parent().filter(|_| file_name(parent) == pgbackrest::BACKUPS);
    let stanzas = repository.map(pgbackrest::stanzas).unwrap_or_default();
    if !stanzas.is_empty() {
        return fault(format!("the repository has no stanza {name}: it has {}", stanzas.join(", ")), "stanza");
    }
    let servers = barman::servers(parent);
    if !servers.is_empty() {
        return fault(format!("Barman has no server {name} there: it has {}", servers.join(", ")), "server");
    }
    Ok(())
}

fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

/// The directories before the first component that is a pattern.
fn fixed_part(path: &Path) -> PathBuf {
    let fixed = path.components().take_while(|it| match it {
        Component::Normal(part) => !is_pattern(&part.to_string_lossy()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => true,
    });
    let base: PathBuf = fixed.collect();
    if base.as_os_str().is_empty() { PathBuf::from(".") } else { base }
}

struct Walk {
    matcher: GlobMatcher,
    /// Components of the longest path that can match.
    depth: usize,
    hidden: bool,
    unfinished: bool,
    found: Vec<FileSeen>,
}

impl Walk {
    fn directory(&mut self, directory: &Path, base: bool) -> Result<(), Fault> {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            // What vanished while we looked is no match.
            Err(error) if !base && error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(unlistable(directory, &error)),
        };
        for entry in entries {
            self.entry(&entry.map_err(|it| unlistable(directory, &it))?)?;
        }
        Ok(())
    }

    fn entry(&mut self, entry: &DirEntry) -> Result<(), Fault> {
        let name = entry.file_name().to_string_lossy().into_owned();
        let unfinished = UNFINISHED.iter().any(|it| name.ends_with(it));
        let sidecar = name.strip_suffix(SIDECAR).is_some_and(|it| uuid_of(it).is_some());
        if (name.starts_with('.') && !self.hidden) || (unfinished && !self.unfinished) || sidecar {
            return Ok(());
        }
        let path = entry.path();
        // `./x` from a relative base matches `x`.
        let matches = self.matcher.is_match(path.strip_prefix(".").unwrap_or(&path));
        // Follows a link to a file, as people name their newest dump; of directories, only real ones are walked.
        let Ok(metadata) = fs::metadata(&path) else { return Ok(()) };
        if metadata.is_file() && matches || metadata.is_dir() && matches && is_backup_directory(&path) {
            match look(&path) {
                Ok(seen) => self.found.push(seen),
                // It vanished while we looked.
                Err(fault) if fault.blame == Blame::Backup => {}
                Err(fault) => return Err(fault),
            }
            return Ok(());
        }
        let walk = metadata.is_dir() && !entry.file_type().is_ok_and(|it| it.is_symlink());
        if walk && path.components().count() < self.depth {
            return self.directory(&path, false);
        }
        Ok(())
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "an open set: the kinds of I/O errors grow with the standard library"
)]
fn unlistable(directory: &Path, error: &io::Error) -> Fault {
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
pub(super) fn toc_of(directory: &Path) -> Option<PathBuf> {
    crate::format::archive::SUFFIXES.iter().map(|it| directory.join(format!("toc.dat{it}"))).find(|it| it.is_file())
}

/// The backups of a stanza, a storage or a server of a backup tool. None: it is none of these.
fn repository(path: &Path) -> Option<Vec<PathBuf>> {
    pgbackrest::backups(path).or_else(|| walg::backups(path)).or_else(|| barman::backups(path))
}

/// The base backups of a directory that holds several: full ones and incremental ones, as pg_basebackup wrote them.
fn base_backups(path: &Path) -> Vec<PathBuf> {
    if is_backup_directory(path) {
        return Vec::new();
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let is_base = |it: &PathBuf| !is_dump_directory(it) && is_backup_directory(it) && !it.is_symlink();
    // Directories of databases have a PG_VERSION, too.
    let whole = |it: &PathBuf| !it.join("PG_VERSION").exists() || it.join("global").is_dir();
    let mut found: Vec<PathBuf> = entries.map(|it| it.path()).filter(is_base).filter(whole).collect();
    found.sort();
    found
}

/// What Databasus writes beside a backup.
pub(super) const SIDECAR: &str = ".metadata";

/// The files of a directory of Databasus' backups, each named by a UUID or with one at its end. None where there are none.
pub fn databasus_files(path: &Path) -> Option<Vec<PathBuf>> {
    let entries = fs::read_dir(path).ok()?.flatten();
    let is_backup = |it: &PathBuf| uuid_of(&file_name(it)).is_some() && it.is_file();
    let mut found: Vec<PathBuf> = entries.map(|it| it.path()).filter(is_backup).collect();
    found.sort();
    (!found.is_empty()).then_some(found)
}

/// The UUID that a name is or ends in.
pub(super) fn uuid_of(name: &str) -> Option<&str> {
    let uuid = name.get(name.len().checked_sub(36)?..)?;
    let dash = |at: usize| matches!(at, 8 | 13 | 18 | 23);
    let fits = |(at, it): (usize, u8)| if dash(at) { it == b'-' } else { it.is_ascii_hexdigit() };
    uuid.bytes().enumerate().all(fits).then_some(uuid)
}

/// A directory that is one backup: of pg_dump, or of pg_basebackup in either format.
fn is_backup_directory(path: &Path) -> bool {
    let base = |ending: &&str| path.join(format!("base.tar{ending}")).is_file();
    let tar = ["", ".gz", ".zst", ".lz4", ".xz"];
    is_dump_directory(path) || path.join("PG_VERSION").is_file() || tar.iter().any(base)
}

pub(super) fn is_dump_directory(path: &Path) -> bool {
    toc_of(path).is_some()
}

/// What identifies a file or directory, without reading it.
pub fn look(path: &Path) -> Result<FileSeen, Fault> {
    let metadata = metadata(path)?;
    let mut seen = FileSeen {
        path: path.to_string_lossy().into_owned(),
        directory: metadata.is_dir(),
        bytes: metadata.len(),
        modified: metadata.mtime(),
        inode: metadata.ino(),
        world_readable: open_to_all(&metadata) && reachable(path),
    };
    if metadata.is_dir() {
        seen.bytes = 0;
        for file in files(path)? {
            let metadata = file.metadata;
            seen.bytes += if metadata.is_file() { metadata.len() } else { 0 };
            seen.modified = seen.modified.max(metadata.mtime());
            seen.world_readable &= open_to_all(&metadata);
        }
    }
    Ok(seen)
}

fn open_to_all(metadata: &Metadata) -> bool {
    let needed = if metadata.is_dir() { 0o005 } else { 0o004 };
    metadata.is_symlink() || metadata.mode() & needed == needed
}

/// Whether anybody may pass through the directories above.
fn reachable(path: &Path) -> bool {
    let Ok(path) = fs::canonicalize(path) else { return false };
    path.ancestors().skip(1).all(|it| fs::metadata(it).is_ok_and(|it| it.mode() & 0o001 != 0))
}

/// Something in a directory, with its own metadata: links are not followed.
pub(super) struct Found {
    /// From the directory on.
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) metadata: Metadata,
}

/// Everything below a directory, sorted by name.
pub(super) fn files(directory: &Path) -> Result<Vec<Found>, Fault> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).map_err(|it| unlistable(&next, &it))? {
            let path = entry.map_err(|it| unlistable(&next, &it))?.path();
            let metadata = match fs::symlink_metadata(&path) {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(medium(&path, "look at", &error)),
            };
            if metadata.is_dir() {
                open.push(path.clone());
            }
            let name = path.strip_prefix(directory).unwrap_or(&path).to_string_lossy().into_owned();
            found.push(Found { name, path, metadata });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// The text of a small file that a scenario names.
pub fn read_text(path: &Path) -> Result<String, Fault> {
    let scenario = |fault: Fault| match fault.blame {
        // It is no backup that is missing.
        Blame::Backup => {
            Fault { blame: Blame::Scenario, hint: Some("correct the path in the scenario".to_owned()), ..fault }
        }
        Blame::Scenario | Blame::Host | Blame::Harness => fault,
    };
    let no_text = |cause: String| Fault::new(Blame::Scenario, format!("read {}", path.display())).cause(cause);
    if metadata(path).map_err(scenario)?.is_dir() {
        return Err(no_text(format!("{} is a directory", file_name(path))).hint("name a text file"));
    }
    let file = fs::File::open(path).map_err(|it| scenario(medium(path, "open", &it)))?;
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
