//! A data directory against its manifest, while its files pass: as pg_verifybackup judges, without reading anything twice.
//!
//! What surprises: a manifest that comes last. pg_basebackup puts it beside `base.tar`, where it is known before, but into
//! the archive where that goes to standard output. Then CRC-32C, the default, is made of every file, and files with
//! another algorithm are read again ([`Verifier::finish`]).

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::inspect::Inspector;
use super::manifest::{self, Algorithm, Entry, Manifest, Sum, in_hex};

/// Files that are named in evidence, at most.
const NAMED: usize = 200;

/// What pg_verifybackup passes over: what is not in manifests, and what `-R` writes afterwards.
const IGNORED: [&str; 5] = ["backup_manifest", "pg_wal", "postgresql.auto.conf", "recovery.signal", "standby.signal"];

/// What came of comparing a backup with its manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ManifestSeen {
    /// The backup has none.
    Absent,
    /// It has one that cannot be believed.
    Unreadable {
        why: String,
    },
    Checked(ManifestChecked),
}

/// Files that were compared, and how they differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ManifestChecked {
    /// Of the manifest's format.
    pub version: u32,
    /// Of the cluster, since version 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_identifier: Option<u64>,
    pub algorithms: Vec<Algorithm>,
    /// Files of the manifest that are there, with the size and the checksum that it says.
    pub files: u64,
    /// Of those files.
    pub bytes: u64,
    /// How many of them have no checksum, so that only their size was compared.
    pub without_checksum: u64,
    /// The first of them.
    pub wrong: Vec<WrongFile>,
    pub wrong_total: u64,
}

/// A file that is not as the manifest says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WrongFile {
    pub path: String,
    pub how: Wrong,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Wrong {
    Missing,
    /// In the backup and not in its manifest.
    Extra,
    Size {
        expected: u64,
        found: u64,
    },
    Checksum {
        algorithm: Algorithm,
        expected: String,
        found: String,
    },
}

impl Wrong {
    /// `has 8191 bytes instead of 8192`
    pub fn words(&self) -> String {
        match self {
            Wrong::Missing => "is missing".to_owned(),
            Wrong::Extra => "is not in the manifest".to_owned(),
            Wrong::Size { expected, found } => format!("has {found} bytes instead of {expected}"),
            Wrong::Checksum { algorithm, expected, found } => {
                let short = |it: &str| it.chars().take(16).collect::<String>();
                format!("has the {algorithm} {} instead of {}", short(found), short(expected))
            }
        }
    }
}

/// An [`Inspector`] that compares with a manifest.
pub struct Verifier {
    state: State,
    open: Option<Open>,
    checked: ManifestChecked,
}

enum State {
    /// What has not passed yet.
    Known(BTreeMap<Vec<u8>, Entry>),
    Unreadable(String),
    /// It may still come, among the files.
    Unknown {
        passed: BTreeMap<Vec<u8>, (u64, Vec<u8>)>,
        manifest: Option<Vec<u8>>,
    },
}

struct Open {
    path: Vec<u8>,
    bytes: u64,
    sum: Sum,
    /// The contents, of a manifest among the files.
    text: Option<Vec<u8>>,
}

impl Verifier {
    /// `manifest`: its bytes, where it can be read before anything else. None: it may be among the files, or there is none.
    pub fn new(manifest: Option<&[u8]>) -> Verifier {
        let mut verifier =
            Verifier { state: State::Unreadable(String::new()), open: None, checked: ManifestChecked::default() };
        verifier.state = match manifest {
            Some(text) => verifier.known(text),
            None => State::Unknown { passed: BTreeMap::new(), manifest: None },
        };
        verifier
    }

    fn known(&mut self, text: &[u8]) -> State {
        match Manifest::parse(text) {
            Ok(manifest) => {
                let facts = manifest.facts();
                self.checked.version = facts.version;
                self.checked.system_identifier = facts.system_identifier;
                self.checked.algorithms = facts.algorithms.into_iter().collect();
                State::Known(manifest.files.into_iter().filter(|(path, _)| !is_ignored(path)).collect())
            }
            Err(error) => State::Unreadable(error.to_string()),
        }
    }

    /// What came of it, after the last file. `again` makes the checksum of a file that passed before its algorithm was known.
    pub fn finish<E>(
        mut self,
        mut again: impl FnMut(&Path, Algorithm) -> Result<Vec<u8>, E>,
    ) -> Result<ManifestSeen, E> {
        if let State::Unknown { passed, manifest } = &mut self.state {
            let (passed, Some(text)) = (std::mem::take(passed), manifest.take()) else {
                return Ok(ManifestSeen::Absent);
            };
            self.state = self.known(&text);
            for (path, (bytes, crc)) in passed {
                let algorithm = self.algorithm(&path);
                let sum = match algorithm {
                    None | Some(Algorithm::Crc32c) => crc,
                    Some(algorithm) => again(&path_of(&path), algorithm)?,
                };
                self.compare(&path, bytes, &sum);
            }
        }
        match self.state {
            State::Unreadable(why) => Ok(ManifestSeen::Unreadable { why }),
            State::Unknown { .. } => Ok(ManifestSeen::Absent),
            State::Known(left) => {
                for path in left.into_keys() {
                    self.checked.wrong(&path, Wrong::Missing);
                }
                Ok(ManifestSeen::Checked(self.checked))
            }
        }
    }

    fn algorithm(&self, path: &[u8]) -> Option<Algorithm> {
        match &self.state {
            State::Known(left) => left.get(path)?.checksum.as_ref().map(|(algorithm, _)| *algorithm),
            State::Unreadable(_) => None,
            State::Unknown { .. } => Some(Algorithm::Crc32c),
        }
    }

    fn compare(&mut self, path: &[u8], bytes: u64, sum: &[u8]) {
        let State::Known(left) = &mut self.state else { return };
        let checked = &mut self.checked;
        let Some(entry) = left.remove(path) else {
            return checked.wrong(path, Wrong::Extra);
        };
        if entry.size != bytes {
            return checked.wrong(path, Wrong::Size { expected: entry.size, found: bytes });
        }
        match entry.checksum {
            Some((algorithm, expected)) if expected != sum => {
                checked.wrong(path, Wrong::Checksum { algorithm, expected: in_hex(&expected), found: in_hex(sum) });
                return;
            }
            Some(_) => {}
            None => checked.without_checksum += 1,
        }
        checked.files += 1;
        checked.bytes += bytes;
    }
}

impl ManifestChecked {
    fn wrong(&mut self, path: &[u8], how: Wrong) {
        self.wrong_total += 1;
        if self.wrong.len() < NAMED {
            self.wrong.push(WrongFile { path: String::from_utf8_lossy(path).into_owned(), how });
        }
    }
}

impl Inspector for Verifier {
    fn begin(&mut self, path: &Path) {
        let path = path.as_os_str().as_bytes().to_vec();
        let awaited = matches!(&self.state, State::Unknown { .. }) && path == manifest::FILE.as_bytes();
        let algorithm = self.algorithm(&path);
        self.open = Some(Open { path, bytes: 0, sum: Sum::of(algorithm), text: awaited.then(Vec::new) });
    }

    fn bytes(&mut self, bytes: &[u8]) {
        if let Some(open) = &mut self.open {
            open.bytes += bytes.len() as u64;
            match &mut open.text {
                Some(text) => text.extend_from_slice(bytes),
                None => open.sum.update(bytes),
            }
        }
    }

    /// What has deltas of blocks has no manifest.
    fn block(&mut self, _: u32, _: &[u8]) {}

    fn end(&mut self) {
        let Some(Open { path, bytes, sum, text }) = self.open.take() else { return };
        if let (State::Unknown { manifest, .. }, Some(text)) = (&mut self.state, text) {
            *manifest = Some(text);
            return;
        }
        if is_ignored(&path) {
            return;
        }
        match &mut self.state {
            State::Unknown { passed, .. } => drop(passed.insert(path, (bytes, sum.finish()))),
            State::Known(_) => self.compare(&path, bytes, &sum.finish()),
            State::Unreadable(_) => {}
        }
    }
}

fn is_ignored(path: &[u8]) -> bool {
    IGNORED
        .iter()
        .any(|it| path.strip_prefix(it.as_bytes()).is_some_and(|rest| rest.first().is_none_or(|it| *it == b'/')))
}

fn path_of(path: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(path))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use sha2::Digest as _;

    use super::*;

    const FILES: [(&str, &[u8]); 3] = [("PG_VERSION", b"15\n"), ("base/5/2600", b"page"), ("global/empty", b"")];

    fn manifest(algorithm: Option<Algorithm>) -> Vec<u8> {
        let entry = |(path, bytes): &(&str, &[u8])| {
            let mut sum = Sum::of(algorithm);
            sum.update(bytes);
            let (name, sum) = (algorithm.map_or("NONE", Algorithm::name), in_hex(&sum.finish()));
            let checksum = if algorithm.is_some() { format!(", \"Checksum\": \"{sum}\"") } else { String::new() };
            let size = bytes.len();
            format!("{{ \"Path\": \"{path}\", \"Size\": {size}, \"Checksum-Algorithm\": \"{name}\"{checksum} }}")
        };
        let entries: Vec<String> = FILES.iter().map(entry).collect();
        let body = format!(
            "{{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [\n{}\n],\n\"WAL-Ranges\": [\n],\n",
            entries.join(",\n")
        );
        let sum = in_hex(&sha2::Sha256::digest(body.as_bytes()));
        format!("{body}\"Manifest-Checksum\": \"{sum}\"}}\n").into_bytes()
    }

    fn pass(verifier: &mut Verifier, path: &str, bytes: &[u8]) {
        verifier.begin(Path::new(path));
        let (head, tail) = bytes.split_at(bytes.len() / 2);
        verifier.bytes(head);
        verifier.bytes(tail);
        verifier.end();
    }

    /// Files are read again by looking them up.
    fn finish(verifier: Verifier) -> ManifestSeen {
        let again = |path: &Path, algorithm| {
            let (_, bytes) = FILES.iter().find(|(name, _)| Path::new(name) == path).ok_or(())?;
            let mut sum = Sum::of(Some(algorithm));
            sum.update(bytes);
            Ok::<_, ()>(sum.finish())
        };
        verifier.finish(again).unwrap()
    }

    fn checked(seen: ManifestSeen) -> ManifestChecked {
        match seen {
            ManifestSeen::Checked(checked) => checked,
            other @ (ManifestSeen::Absent | ManifestSeen::Unreadable { .. }) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_whole_backup_is_verified_wherever_its_manifest_comes() {
        let algorithms = [None, Some(Algorithm::Crc32c), Some(Algorithm::Sha256), Some(Algorithm::Sha512)];
        for (algorithm, first) in algorithms.into_iter().flat_map(|it| [(it, true), (it, false)]) {
            let text = manifest(algorithm);
            let mut verifier = Verifier::new(first.then_some(&text));
            for (path, bytes) in FILES {
                pass(&mut verifier, path, bytes);
            }
            pass(&mut verifier, "pg_wal/000000010000000000000001", b"wal");
            pass(&mut verifier, "postgresql.auto.conf", b"# changed by -R");
            pass(&mut verifier, "backup_manifest", &text);
            let checked = checked(finish(verifier));
            assert_eq!((checked.files, checked.bytes, checked.wrong), (3, 7, Vec::new()), "{algorithm:?}, {first}");
            assert_eq!(checked.without_checksum, if algorithm.is_none() { 3 } else { 0 });
        }
    }

    #[test]
    fn each_difference_names_its_file() {
        for algorithm in [Algorithm::Crc32c, Algorithm::Sha224] {
            let mut verifier = Verifier::new(Some(&manifest(Some(algorithm))));
            pass(&mut verifier, "PG_VERSION", b"16\n");
            pass(&mut verifier, "base/5/2600", b"pag");
            pass(&mut verifier, "base/5/9999", b"from elsewhere");
            let checked = checked(finish(verifier));
            let words: Vec<String> = checked.wrong.iter().map(|it| format!("{} {}", it.path, it.how.words())).collect();
            assert!(words[0].starts_with(&format!("PG_VERSION has the {algorithm} ")), "{words:?}");
            let rest = [
                "base/5/2600 has 3 bytes instead of 4",
                "base/5/9999 is not in the manifest",
                "global/empty is missing",
            ];
            assert_eq!(words[1..], rest);
            assert_eq!(checked.wrong_total, 4);
        }
    }

    #[test]
    fn a_manifest_that_cannot_be_believed_or_is_not_there_says_so() {
        let mut cut = manifest(Some(Algorithm::Crc32c));
        cut.truncate(50);
        assert!(matches!(finish(Verifier::new(Some(&cut))), ManifestSeen::Unreadable { why } if why.contains("cut")));
        let mut verifier = Verifier::new(None);
        pass(&mut verifier, "PG_VERSION", b"15\n");
        assert_eq!(finish(verifier), ManifestSeen::Absent);
    }
}
