//! Files that are encrypted as a whole: which key opens what, and whose fault it is where none does.
//!
//! Keys belong to directories and not to files, so that everything beneath a repository opens alike, whichever action reads it;
//! no question, action or report ever carries a key.

use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};

use super::Reading;
use super::find::{SIDECAR, uuid_of};
use super::tap::file_name;
use crate::fault::{Blame, Fault};
use crate::format::crypt::{DATABASUS_MAGIC, Key, Locked};

/// Other files of a set that are tried with a key that does not open one of them.
const OTHERS: usize = 16;

/// Keys by the directories that they open.
#[derive(Clone, Debug, Default)]
pub struct Vault(Vec<(PathBuf, Result<Key, Fault>)>);

impl Vault {
    /// What lies beneath `root` opens with this key; or why there is none.
    pub fn add(&mut self, root: impl Into<PathBuf>, key: Result<Key, Fault>) {
        self.0.push((root.into(), key));
    }

    /// The key for a file, as it was given. Of several directories above it, the nearest one counts.
    pub(super) fn key(&self, path: &Path) -> Option<&Result<Key, Fault>> {
        let above = self.0.iter().filter(|(root, _)| path.starts_with(root));
        above.max_by_key(|(root, _)| root.components().count()).map(|(_, key)| key)
    }

    pub(super) fn has_key(&self, path: &Path) -> bool {
        self.key(path).is_some()
    }

    /// Whether a file is encrypted as a whole.
    pub(super) fn seals(&self, path: &Path, reading: &Reading) -> bool {
        match self.key(path) {
            Some(Ok(Key::Databasus(_)) | Err(_)) | None => is_databasus(path, reading),
            Some(Ok(Key::Sodium(_) | Key::Pgp(..) | Key::PgBackRest(_))) => !is_plain(path),
        }
    }

    /// The plain bytes of a file, of which `input` reads the stored ones. An error may hold a [`Locked`]: see [`Vault::blame`].
    pub(super) fn plain<'a>(
        &self,
        path: &Path,
        mut input: impl Read + Send + 'a,
        reading: &Reading,
    ) -> io::Result<Box<dyn Read + Send + 'a>> {
        match self.key(path) {
            Some(Ok(key @ (Key::Sodium(_) | Key::Pgp(..)))) if !is_plain(path) => key.open(input, ""),
            Some(Err(fault)) => Err(io::Error::other(Keyless(fault.clone()))),
            Some(Ok(Key::Sodium(_) | Key::Pgp(..) | Key::PgBackRest(_))) => Ok(Box::new(input)),
            key @ (Some(Ok(Key::Databasus(_))) | None) => {
                let mut head = Vec::new();
                (&mut input).take(DATABASUS_MAGIC.len() as u64).read_to_end(&mut head)?;
                let sealed = head == DATABASUS_MAGIC;
                let input = Cursor::new(head).chain(input);
                match key {
                    Some(Ok(key)) if sealed => key.open(input, &backup_id(path, reading)),
                    None if sealed => {
                        let fault = Fault::new(Blame::Scenario, format!("open {}", path.display()))
                            .cause("it is encrypted by Databasus")
                            .hint("name it as `source: { databasus: … }`, with its `secret_key`");
                        Err(io::Error::other(Keyless(fault)))
                    }
                    Some(_) | None => Ok(Box::new(input)),
                }
            }
        }
    }

    /// The fault behind an error of [`Vault::plain`] or of what it gave; None: the key has nothing to do with it.
    pub(super) fn blame(&self, path: &Path, error: &io::Error, reading: &Reading) -> Option<Fault> {
        if let Some(Keyless(fault)) = error.get_ref().and_then(|it| it.downcast_ref()) {
            return Some(fault.clone());
        }
        let open = |blame| Fault::new(blame, format!("decrypt {}", path.display()));
        Some(match Locked::of(error)? {
            Locked::Unsupported(why) => open(Blame::Scenario).cause(why.clone()),
            Locked::Damaged(why) => open(Blame::Backup)
                .cause(why.clone())
                .hint("the file was cut or damaged: compare its size and checksum with those where it was made"),
            Locked::Key => match self.opens_another(path, reading) {
                Some(other) => open(Blame::Backup)
                    .cause(format!("the key opens {other}, and not this file: its beginning is damaged"))
                    .hint("compare the file with the original, or drill another backup of the set"),
                None => open(Blame::Scenario)
                    .cause("the key does not open it, nor any other file beside it")
                    .hint("name the key that was in use when the backup was made"),
            },
        })
    }

    /// The name of a file beside this one that its key opens.
    fn opens_another(&self, path: &Path, reading: &Reading) -> Option<String> {
        let Some(Ok(key)) = self.key(path) else { return None };
        let others = reading.peek(path.parent()?).into_iter().map(|it| it.path).filter(|it| it != path);
        let others: Vec<PathBuf> = others.collect();
        let open = |it: &Path| reading.open(it).and_then(|file| key.open(file, &backup_id(it, reading)));
        let opens = |it: &PathBuf| reading.is_file(it) && self.seals(it, reading) && open(it).is_ok();
        others.iter().take(OTHERS).find(|it| opens(it)).map(|it| file_name(it))
    }
}

/// Why there is no key.
#[derive(Debug)]
struct Keyless(Fault);

impl std::fmt::Display for Keyless {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.line())
    }
}

impl std::error::Error for Keyless {}

/// What tools leave readable beside encrypted files.
fn is_plain(path: &Path) -> bool {
    path.extension().is_some_and(|it| it == "json")
}

/// Whether a file is one that Databasus encrypted, by its first bytes.
pub fn is_databasus(path: &Path, reading: &Reading) -> bool {
    reading.head(path, DATABASUS_MAGIC.len() as u64).is_ok_and(|it| it == DATABASUS_MAGIC)
}

/// The UUID that a file of Databasus is named by, or ends in; by its sidecar, where it has one.
fn backup_id(path: &Path, reading: &Reading) -> String {
    let name = file_name(path);
    let sidecar = reading.text(&path.with_file_name(format!("{name}{SIDECAR}"))).ok();
    let told = sidecar.and_then(|it| serde_json::from_str::<serde_json::Value>(&it).ok()).and_then(|it| {
        let key = it.as_object()?.iter().find(|(key, _)| key.eq_ignore_ascii_case("backupId"))?;
        Some(key.1.as_str()?.to_lowercase())
    });
    told.unwrap_or_else(|| uuid_of(&name).unwrap_or(&name).to_lowercase())
}
