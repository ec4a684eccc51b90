//! What WAL-G writes beside the parts of a backup: its sentinel, and which of its files each part changes.
//!
//! Layouts are those of WAL-G's `backup_sentinel_dto.go`, `backup_file_description.go` and `pagefile.go`. The sentinel comes last,
//! so that a backup without one is none.

use std::collections::HashMap;
use std::io::{self, Read};

use serde::Deserialize;

use super::Compression;
use super::lsn::Lsn;

/// The directories of a storage.
pub const BACKUPS: &str = "basebackups_005";
pub const WAL: &str = "wal_005";
/// Of a backup: its parts.
pub const PARTS: &str = "tar_partitions";
pub const FILES: &str = "files_metadata.json";
/// Behind the backup's name, beside its directory.
pub const SENTINEL: &str = "_backup_stop_sentinel.json";
/// The parts that must come last: the label, and then `pg_control`, without which no server starts.
const LAST: [&str; 2] = ["backup_label.tar", "pg_control.tar"];
/// `wi1` and a `U`: the first bytes of an increment of a file.
const INCREMENT: [u8; 4] = *b"wi1\x55";

/// What is used of a sentinel, whichever version wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Sentinel {
    #[serde(rename = "LSN")]
    pub lsn: u64,
    #[serde(rename = "FinishLSN")]
    pub finish_lsn: Option<u64>,
    /// `170011`
    pub pg_version: u32,
    pub system_identifier: Option<u64>,
    pub start_time: Option<jiff::Timestamp>,
    pub finish_time: Option<jiff::Timestamp>,
    #[serde(rename = "DeltaLSN", alias = "DeltaFromLSN")]
    pub delta_lsn: Option<u64>,
    pub delta_from: Option<String>,
    #[serde(default)]
    pub spec: Option<serde_json::Map<String, serde_json::Value>>,
    #[serde(default)]
    pub files_metadata_disabled: bool,
}

impl Sentinel {
    pub fn parse(text: &str) -> Result<Sentinel, String> {
        serde_json::from_str(text).map_err(|it| it.to_string())
    }

    pub fn start(&self) -> Lsn {
        Lsn(self.lsn)
    }

    pub fn major(&self) -> u32 {
        // Before 10, the second number was part of the major.
        self.pg_version / 10_000
    }

    /// OID and location of each tablespace.
    pub fn tablespaces(&self) -> Vec<(u32, String)> {
        let of = |(oid, told): (&String, &serde_json::Value)| {
            Some((oid.parse().ok()?, told.get("loc")?.as_str()?.to_owned()))
        };
        self.spec.iter().flatten().filter_map(of).collect()
    }
}

/// The timeline in a backup's name: `base_000000010000000000000003_D_…`
pub fn timeline(name: &str) -> Option<u32> {
    u32::from_str_radix(name.strip_prefix("base_")?.get(..8)?, 16).ok()
}

/// What a delta says of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct FileNote {
    /// It holds only the blocks that changed.
    pub is_incremented: bool,
    /// It did not change at all.
    pub is_skipped: bool,
}

/// The files of a backup, by their paths within the data directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files(pub HashMap<String, FileNote>);

impl Files {
    pub fn read(input: impl Read) -> Result<Files, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Wire {
            #[serde(default)]
            files: HashMap<String, FileNote>,
        }
        let wire: Wire = serde_json::from_reader(io::BufReader::new(input)).map_err(|it| it.to_string())?;
        Ok(Files(wire.files.into_iter().map(|(path, note)| (path.trim_start_matches('/').to_owned(), note)).collect()))
    }

    /// Those that the backup beneath must bring, all or in part.
    pub fn needed_beneath(&self, of: impl Fn(&str) -> bool) -> Vec<String> {
        let is_needed = |(path, note): &(&String, &FileNote)| of(path) && (note.is_incremented || note.is_skipped);
        self.0.iter().filter(is_needed).map(|it| it.0.clone()).collect()
    }
}

/// The compression of a part, by its name. None: it is no part, or one that cannot be read (lzo).
pub fn part(name: &str) -> Option<Compression> {
    let (_, ending) = name.split_once(".tar")?;
    Some(match ending {
        "" => Compression::None,
        ".lz4" => Compression::Lz4,
        ".zst" => Compression::Zstd,
        ".lzma" => Compression::Lzma,
        ".br" => Compression::Brotli,
        ".gz" => Compression::Gzip,
        _ => return None,
    })
}

/// Whether the first bytes of a part can be those of its compression. Not everything shows it.
pub fn begins_as(compression: Compression, head: &[u8]) -> bool {
    let magic: &[u8] = match compression {
        Compression::Lz4 => &[0x04, 0x22, 0x4d, 0x18],
        Compression::Zstd => &[0x28, 0xb5, 0x2f, 0xfd],
        Compression::Gzip => &[0x1f, 0x8b],
        // Its properties, which nobody changes, and half of the dictionary's size.
        Compression::Lzma => &[0x5d, 0, 0],
        Compression::None | Compression::Brotli | Compression::Xz | Compression::Bzip2 | Compression::Snappy => &[],
    };
    head.starts_with(magic)
}

/// Whether a part speaks of its own backup alone: of a chain, only that of the last one counts.
pub fn is_of_one_layer(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or(file);
    LAST.iter().any(|it| name.starts_with(it))
}

/// Parts in the order in which they must be unpacked.
pub fn order(name: &str) -> (usize, &str) {
    (LAST.iter().position(|it| name.starts_with(it)).map_or(0, |it| it + 1), name)
}

/// The head of an increment: how long the file is now, and which of its blocks follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Increment {
    pub bytes: u64,
    pub blocks: Vec<u32>,
}

impl Increment {
    pub fn read(mut input: impl Read) -> io::Result<Increment> {
        let garbled = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
        let mut head = [0; 16];
        input.read_exact(&mut head)?;
        if head[..4] != INCREMENT {
            return Err(garbled("it is said to be an increment of a file, and does not begin as one"));
        }
        let bytes = u64::from_le_bytes(head[4..12].try_into().map_err(|_| garbled("no length"))?);
        let count = u32::from_le_bytes(head[12..].try_into().map_err(|_| garbled("no count"))?);
        // A file of a relation has at most so many blocks.
        if count > 131_072 {
            return Err(garbled("an increment of more blocks than a file has"));
        }
        let mut blocks = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let mut block = [0; 4];
            input.read_exact(&mut block)?;
            blocks.push(u32::from_le_bytes(block));
        }
        Ok(Increment { bytes, blocks })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_sentinel_of_each_kind_is_read() {
        let delta = r#"{"LSN":83886120,"DeltaLSN":50331688,"DeltaFrom":"base_000000010000000000000003","DeltaFullName":
            "base_000000010000000000000003","DeltaCount":1,"PgVersion":170011,"FinishLSN":83886368,"SystemIdentifier":7711050738747617301,
            "Spec":{"16413":{"loc":"/tmp/ts1","link":"pg_tblspc/16413"},"base_prefix":"/d","tablespaces":["16413"]},
            "Version":2,"StartTime":"2026-11-22T17:35:09.912334Z"}"#;
        let delta = Sentinel::parse(delta).unwrap();
        assert_eq!((delta.start().to_string(), delta.major()), ("0/5000028".to_owned(), 17));
        assert_eq!(delta.tablespaces(), [(16413, "/tmp/ts1".to_owned())]);
        assert_eq!(delta.delta_from.as_deref(), Some("base_000000010000000000000003"));
        let old = r#"{"LSN":50331688,"PgVersion":90624,"DeltaFromLSN":3,"DeltaFrom":"base_x","Spec":null}"#;
        let old = Sentinel::parse(old).unwrap();
        assert_eq!((old.delta_lsn, old.tablespaces()), (Some(3), Vec::new()));
    }

    #[test]
    fn parts_come_in_an_order_that_leaves_no_half_cluster() {
        let mut names = ["pg_control.tar.br", "part_002.tar.br", "backup_label.tar.br", "part_001.tar.br"];
        names.sort_by_key(|it| order(it));
        assert_eq!(names, ["part_001.tar.br", "part_002.tar.br", "backup_label.tar.br", "pg_control.tar.br"]);
        assert_eq!(part("part_001.tar.lzo"), None);
        assert_eq!(part("part_001.tar"), Some(Compression::None));
        assert_eq!(timeline("base_0000000A0000000000000005_D_000000010000000000000003"), Some(10));
    }

    #[test]
    fn what_a_delta_leaves_out_must_lie_beneath() {
        let text = r#"{"Files":{"/base/5/1":{"IsIncremented":true},"/base/5/2":{"IsSkipped":true},"/base/5/3":{},"backup_label":{}}}"#;
        let files = Files::read(text.as_bytes()).unwrap();
        let mut needed = files.needed_beneath(|_| true);
        needed.sort();
        assert_eq!(needed, ["base/5/1", "base/5/2"]);
    }

    #[test]
    fn an_increment_that_is_none_is_refused() {
        let head = [&b"wi1\x55"[..], &16384_u64.to_le_bytes(), &1_u32.to_le_bytes(), &1_u32.to_le_bytes()].concat();
        assert_eq!(Increment::read(&*head).unwrap(), Increment { bytes: 16384, blocks: vec![1] });
        assert!(Increment::read(&head[..15]).is_err());
        assert!(Increment::read(&[0; 40][..]).is_err());
    }
}
