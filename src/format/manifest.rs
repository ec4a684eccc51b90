//! `backup_manifest`: which files pg_basebackup says that a backup has, how large, and with which checksums.
//!
//! Source: "Backup Manifest Format" in PostgreSQL's documentation, and parse_manifest.c. What surprises: a CRC-32C is printed
//! byte by byte as the machine keeps it, so its hexadecimal digits are in the opposite order of the number's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha224, Sha256, Sha384, Sha512};

/// Its name within a backup.
pub const FILE: &str = "backup_manifest";

/// The whole of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// 1 (up to PostgreSQL 16) or 2.
    pub version: u32,
    /// Since version 2.
    pub system_identifier: Option<u64>,
    /// By path within the data directory, as bytes: names need not be UTF-8. Tablespaces as `pg_tblspc/OID/…`.
    pub files: BTreeMap<Vec<u8>, Entry>,
    pub wal: Vec<WalRange>,
    /// Its own SHA-256, which its last line holds: it stands for all that the manifest stands for.
    pub sha256: String,
}

/// What the manifest says of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub size: u64,
    /// None: made with `--manifest-checksums=NONE`.
    pub checksum: Option<(Algorithm, Vec<u8>)>,
}

/// WAL that the backup needs to become consistent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WalRange {
    pub timeline: u32,
    /// `0/D000D8`
    pub start: String,
    pub end: String,
}

/// What is kept of a manifest in the survey.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ManifestFacts {
    pub version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_identifier: Option<u64>,
    pub files: u64,
    /// Of those files, as they are in the data directory.
    pub bytes: u64,
    /// One, in practice; none where the manifest has sizes only.
    pub algorithms: BTreeSet<Algorithm>,
    pub wal: Vec<WalRange>,
    /// `Manifest-Checksum`, in lowercase hexadecimal digits: it identifies the backup's contents.
    pub sha256: String,
}

/// How the checksums of a manifest are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Algorithm {
    #[serde(rename = "CRC32C")]
    Crc32c,
    #[serde(rename = "SHA224")]
    Sha224,
    #[serde(rename = "SHA256")]
    Sha256,
    #[serde(rename = "SHA384")]
    Sha384,
    #[serde(rename = "SHA512")]
    Sha512,
}

/// Why a manifest cannot be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    #[error("it is cut: its last line does not hold its own checksum")]
    Cut,
    #[error("its contents have the checksum {computed}, and it says {said}: it was changed after it was written")]
    Changed { said: String, computed: String },
    #[error("it cannot be understood: {0}")]
    Syntax(String),
    #[error("it is of version {0}, and only 1 and 2 are known")]
    Version(u32),
    #[error("what it says of {path} cannot be understood: {what}")]
    Entry { path: String, what: &'static str },
}

impl Algorithm {
    /// As a manifest and `--manifest-checksums` have it.
    pub const fn name(self) -> &'static str {
        match self {
            Algorithm::Crc32c => "CRC32C",
            Algorithm::Sha224 => "SHA224",
            Algorithm::Sha256 => "SHA256",
            Algorithm::Sha384 => "SHA384",
            Algorithm::Sha512 => "SHA512",
        }
    }

    const fn bytes(self) -> usize {
        match self {
            Algorithm::Crc32c => 4,
            Algorithm::Sha224 => 28,
            Algorithm::Sha256 => 32,
            Algorithm::Sha384 => 48,
            Algorithm::Sha512 => 64,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Manifest {
    /// Reads a manifest. Its own checksum comes first: what does not have it is not looked into.
    pub fn parse(text: &[u8]) -> Result<Manifest, ManifestError> {
        let sha256 = verify_itself(text)?;
        let wire: Wire = serde_json::from_slice(text).map_err(|it| ManifestError::Syntax(it.to_string()))?;
        if !(1..=2).contains(&wire.version) {
            return Err(ManifestError::Version(wire.version));
        }
        let mut files = BTreeMap::new();
        for file in wire.files {
            let (path, entry) = file.read()?;
            let shown = String::from_utf8_lossy(&path).into_owned();
            if files.insert(path, entry).is_some() {
                return Err(ManifestError::Entry { path: shown, what: "it is named twice" });
            }
        }
        let wal = wire.wal.into_iter().map(|it| WalRange { timeline: it.timeline, start: it.start, end: it.end });
        let (version, system_identifier, wal) = (wire.version, wire.system_identifier, wal.collect());
        Ok(Manifest { version, system_identifier, files, wal, sha256 })
    }

    pub fn facts(&self) -> ManifestFacts {
        let algorithm = |it: &Entry| it.checksum.as_ref().map(|(algorithm, _)| *algorithm);
        ManifestFacts {
            version: self.version,
            system_identifier: self.system_identifier,
            files: self.files.len() as u64,
            bytes: self.files.values().map(|it| it.size).sum(),
            algorithms: self.files.values().filter_map(algorithm).collect(),
            wal: self.wal.clone(),
            sha256: self.sha256.clone(),
        }
    }
}

/// The last line holds the SHA-256 of all lines before it.
fn verify_itself(text: &[u8]) -> Result<String, ManifestError> {
    let body = text.strip_suffix(b"\n").ok_or(ManifestError::Cut)?;
    let start = body.iter().rposition(|it| *it == b'\n').ok_or(ManifestError::Cut)? + 1;
    let last = std::str::from_utf8(&body[start..]).map_err(|_| ManifestError::Cut)?;
    let said = last
        .strip_prefix("\"Manifest-Checksum\": \"")
        .and_then(|it| it.strip_suffix("\"}"))
        .filter(|it| hex(it).is_some())
        .ok_or(ManifestError::Cut)?;
    let computed = in_hex(&Sha256::digest(&text[..start]));
    if said.eq_ignore_ascii_case(&computed) {
        return Ok(computed);
    }
    Err(ManifestError::Changed { said: said.to_owned(), computed })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    #[serde(rename = "PostgreSQL-Backup-Manifest-Version")]
    version: u32,
    #[serde(rename = "System-Identifier")]
    system_identifier: Option<u64>,
    #[serde(rename = "Files")]
    files: Vec<WireFile>,
    #[serde(rename = "WAL-Ranges")]
    wal: Vec<WireRange>,
    /// Looked at before.
    #[serde(rename = "Manifest-Checksum")]
    _checksum: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct WireFile {
    path: Option<String>,
    #[serde(rename = "Encoded-Path")]
    encoded_path: Option<String>,
    size: u64,
    #[serde(rename = "Last-Modified")]
    _last_modified: Option<String>,
    #[serde(rename = "Checksum-Algorithm")]
    checksum_algorithm: Option<String>,
    checksum: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireRange {
    #[serde(rename = "Timeline")]
    timeline: u32,
    #[serde(rename = "Start-LSN")]
    start: String,
    #[serde(rename = "End-LSN")]
    end: String,
}

impl WireFile {
    fn read(self) -> Result<(Vec<u8>, Entry), ManifestError> {
        let shown = self.path.as_ref().or(self.encoded_path.as_ref()).cloned().unwrap_or_default();
        let bad = |what| ManifestError::Entry { path: shown.clone(), what };
        let path = match (self.path, self.encoded_path) {
            (Some(path), None) => path.into_bytes(),
            (None, Some(path)) => hex(&path).ok_or_else(|| bad("its encoded path is not hexadecimal"))?,
            (Some(_), Some(_)) | (None, None) => return Err(bad("it needs a path, plain or encoded")),
        };
        let algorithm = match self.checksum_algorithm.as_deref() {
            None | Some("NONE") => None,
            Some("CRC32C") => Some(Algorithm::Crc32c),
            Some("SHA224") => Some(Algorithm::Sha224),
            Some("SHA256") => Some(Algorithm::Sha256),
            Some("SHA384") => Some(Algorithm::Sha384),
            Some("SHA512") => Some(Algorithm::Sha512),
            Some(_) => return Err(bad("its checksum algorithm is unknown")),
        };
        let checksum = match (algorithm, self.checksum) {
            (None, _) => None,
            (Some(algorithm), Some(text)) => {
                let sum = hex(&text).filter(|it| it.len() == algorithm.bytes());
                Some((algorithm, sum.ok_or_else(|| bad("its checksum is not as long as its algorithm's"))?))
            }
            (Some(_), None) => return Err(bad("it has an algorithm and no checksum")),
        };
        Ok((path, Entry { size: self.size, checksum }))
    }
}

/// A checksum while it is being made.
pub enum Sum {
    /// Of nothing: only the size counts.
    Nothing,
    Crc32c(u32),
    Sha224(Sha224),
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

impl Sum {
    pub fn of(algorithm: Option<Algorithm>) -> Sum {
        match algorithm {
            None => Sum::Nothing,
            Some(Algorithm::Crc32c) => Sum::Crc32c(0),
            Some(Algorithm::Sha224) => Sum::Sha224(Sha224::new()),
            Some(Algorithm::Sha256) => Sum::Sha256(Sha256::new()),
            Some(Algorithm::Sha384) => Sum::Sha384(Sha384::new()),
            Some(Algorithm::Sha512) => Sum::Sha512(Sha512::new()),
        }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Sum::Nothing => {}
            Sum::Crc32c(sum) => *sum = crc32c::crc32c_append(*sum, bytes),
            Sum::Sha224(sum) => sum.update(bytes),
            Sum::Sha256(sum) => sum.update(bytes),
            Sum::Sha384(sum) => sum.update(bytes),
            Sum::Sha512(sum) => sum.update(bytes),
        }
    }

    /// As a manifest has it; empty for [`Sum::Nothing`].
    pub fn finish(self) -> Vec<u8> {
        match self {
            Sum::Nothing => Vec::new(),
            // Of the machines that PostgreSQL and pgdrill run on, none is big-endian any more.
            Sum::Crc32c(sum) => sum.to_le_bytes().to_vec(),
            Sum::Sha224(sum) => sum.finalize().to_vec(),
            Sum::Sha256(sum) => sum.finalize().to_vec(),
            Sum::Sha384(sum) => sum.finalize().to_vec(),
            Sum::Sha512(sum) => sum.finalize().to_vec(),
        }
    }
}

/// Lowercase hexadecimal digits.
pub(super) fn in_hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, it| {
        let _ = write!(text, "{it:02x}");
        text
    })
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    digits.chunks(2).map(|it| u8::from_str_radix(std::str::from_utf8(it).ok()?, 16).ok()).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sealed(body: &str) -> Vec<u8> {
        let sum = in_hex(&Sha256::digest(body.as_bytes()));
        format!("{body}\"Manifest-Checksum\": \"{sum}\"}}\n").into_bytes()
    }

    fn manifest(version: u32, files: &str) -> Vec<u8> {
        let identifier = if version == 2 { "\"System-Identifier\": 7577007700770077007,\n" } else { "" };
        sealed(&format!(
            "{{ \"PostgreSQL-Backup-Manifest-Version\": {version},\n{identifier}\"Files\": [\n{files}\n],\n\"WAL-Ranges\": [\n\
             {{ \"Timeline\": 1, \"Start-LSN\": \"0/D000D8\", \"End-LSN\": \"0/D001B0\" }}\n],\n"
        ))
    }

    const ENTRY: &str = r#"{ "Path": "PG_VERSION", "Size": 3, "Last-Modified": "2026-11-27 02:46:47 GMT", "Checksum-Algorithm": "CRC32C", "Checksum": "8a744722" }"#;

    #[test]
    fn a_manifest_of_either_version_is_read() {
        let first = Manifest::parse(&manifest(1, ENTRY)).unwrap();
        assert_eq!((first.version, first.system_identifier), (1, None));
        assert_eq!(first.wal, [WalRange { timeline: 1, start: "0/D000D8".to_owned(), end: "0/D001B0".to_owned() }]);
        let entry = &first.files[&b"PG_VERSION"[..]];
        assert_eq!((entry.size, &entry.checksum), (3, &Some((Algorithm::Crc32c, vec![0x8a, 0x74, 0x47, 0x22]))));
        let second = Manifest::parse(&manifest(2, ENTRY)).unwrap();
        assert_eq!(second.system_identifier, Some(7_577_007_700_770_077_007));
        assert_eq!(second.facts().algorithms, [Algorithm::Crc32c].into());
    }

    #[test]
    fn the_checksums_are_those_of_a_server() {
        // From a real manifest: PG_VERSION of 15 and an empty file.
        for (bytes, sum) in [(&b"15\n"[..], "8a744722"), (b"", "00000000")] {
            let mut made = Sum::of(Some(Algorithm::Crc32c));
            made.update(bytes);
            assert_eq!(in_hex(&made.finish()), sum);
        }
        for algorithm in [Algorithm::Sha224, Algorithm::Sha256, Algorithm::Sha384, Algorithm::Sha512] {
            assert_eq!(Sum::of(Some(algorithm)).finish().len(), algorithm.bytes(), "{algorithm}");
        }
    }

    #[test]
    fn names_that_are_not_utf8_and_files_without_a_checksum_are_read() {
        let files = r#"{ "Encoded-Path": "626173652fff", "Size": 7, "Last-Modified": "x" }"#;
        let manifest = Manifest::parse(&manifest(2, files)).unwrap();
        assert_eq!(manifest.files[&b"base/\xff"[..]], Entry { size: 7, checksum: None });
        assert!(manifest.facts().algorithms.is_empty());
    }

    #[test]
    fn what_cannot_be_believed_says_why() {
        let text = |files: &str| Manifest::parse(&manifest(1, files)).unwrap_err().to_string();
        assert!(text(&format!("{ENTRY},\n{ENTRY}")).contains("PG_VERSION cannot be understood: it is named twice"));
        assert!(text(&ENTRY.replace("CRC32C", "MD5")).contains("its checksum algorithm is unknown"));
        assert!(text(&ENTRY.replace("8a744722", "8a7447")).contains("not as long"));
        assert!(text(&ENTRY.replace("\"Size\": 3", "\"Size\": -3")).contains("it cannot be understood"));
        assert_eq!(Manifest::parse(&manifest(3, ENTRY)), Err(ManifestError::Version(3)));
        let mut changed = manifest(1, ENTRY);
        changed[90] ^= 1;
        assert!(matches!(Manifest::parse(&changed), Err(ManifestError::Changed { .. })));
    }

    #[test]
    fn a_cut_manifest_is_never_believed() {
        let whole = manifest(2, ENTRY);
        for end in 0..whole.len() {
            assert!(Manifest::parse(&whole[..end]).is_err(), "cut at {end} of {}", whole.len());
        }
    }

    proptest! {
        #[test]
        fn one_changed_byte_is_always_noticed(at in 0usize..400, bit in 0u8..8) {
            let mut text = manifest(2, ENTRY);
            let at = at % text.len();
            text[at] ^= 1 << bit;
            // But for the case of the digits of its own checksum.
            let same = text.eq_ignore_ascii_case(&manifest(2, ENTRY));
            prop_assert!(Manifest::parse(&text).is_err() || same);
        }

        #[test]
        fn no_bytes_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Manifest::parse(&bytes);
            let mut body = bytes;
            body.push(b'\n');
            let sum = in_hex(&Sha256::digest(&body));
            body.extend(format!("\"Manifest-Checksum\": \"{sum}\"}}\n").bytes());
            let _ = Manifest::parse(&body);
        }
    }
}
