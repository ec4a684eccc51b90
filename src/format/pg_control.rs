//! `global/pg_control`: which cluster a data directory is of, how it was built, and where its recovery begins.
//!
//! Source: `ControlFileData` in pg_control.h of PostgreSQL 13 to 18. What surprises: it is a C structure as the machine keeps it,
//! so what is read here is what 64-bit machines of little-endian order write; and all of these majors keep what matters in
//! one place, up to the end, where 18 put one byte before the checksum.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::lsn::Lsn;
use super::page::PAGE;

/// Within a data directory.
pub const FILE: &str = "global/pg_control";
/// `PG_CONTROL_MAX_SAFE_SIZE`: what is used of the file lies in its first sector.
pub const USED: usize = 512;
/// `RELSEG_SIZE`: blocks in a file of a relation, as every distribution builds it.
pub const SEGMENT_BLOCKS: u32 = 131_072;

/// `pg_control_version`, and where the checksum is that ends the structure.
const VERSIONS: [(u32, usize); 3] = [(1300, 288), (1700, 288), (1800, 292)];
/// `CATALOG_VERSION_NO` of released majors.
const CATALOGS: [(u32, u32); 6] =
    [(202_007_201, 13), (202_107_181, 14), (202_209_061, 15), (202_307_071, 16), (202_406_281, 17), (202_506_291, 18)];

/// Of a pg_control, what a recovery depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ControlData {
    /// Of the cluster: the same in its segments of WAL.
    pub system_identifier: u64,
    pub version: u32,
    pub catalog_version: u32,
    pub state: State,
    pub checkpoint: Lsn,
    /// Where replay from that checkpoint begins.
    pub redo: Lsn,
    pub timeline: u32,
    pub max_connections: u32,
    pub max_worker_processes: u32,
    pub max_wal_senders: u32,
    pub max_prepared_transactions: u32,
    pub max_locks_per_transaction: u32,
    /// Of a page of a relation, in bytes.
    pub block_bytes: u32,
    /// Of a relation, in a file.
    pub segment_blocks: u32,
    /// Of a page of WAL.
    pub wal_block_bytes: u32,
    pub wal_segment_bytes: u32,
    /// 0: the cluster has no page checksums.
    pub checksum_version: u32,
}

/// `DBState`, as `pg_controldata` words it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    StartingUp,
    ShutDown,
    ShutDownInRecovery,
    ShuttingDown,
    InCrashRecovery,
    InArchiveRecovery,
    InProduction,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::StartingUp => "starting up",
            State::ShutDown => "shut down",
            State::ShutDownInRecovery => "shut down in recovery",
            State::ShuttingDown => "shutting down",
            State::InCrashRecovery => "in crash recovery",
            State::InArchiveRecovery => "in archive recovery",
            State::InProduction => "in production",
        })
    }
}

impl ControlData {
    /// An error says what is wrong with the bytes, as a clause.
    pub fn parse(bytes: &[u8]) -> Result<ControlData, String> {
        let short = || format!("it has {} bytes only", bytes.len());
        let word = |at: usize| {
            let part: Option<[u8; 4]> = bytes.get(at..at + 4).and_then(|it| it.try_into().ok());
            part.map(u32::from_le_bytes).ok_or_else(short)
        };
        let long = |at: usize| Ok::<u64, String>(u64::from(word(at)?) | u64::from(word(at + 4)?) << 32);
        let version = word(8)?;
        let Some((_, end)) = VERSIONS.iter().find(|it| it.0 == version) else {
            return Err(if VERSIONS.iter().any(|it| it.0 == version.swap_bytes()) {
                "it was written by a machine of the other byte order".to_owned()
            } else {
                format!("its version {version} is of no PostgreSQL from 13 to 18")
            });
        };
        let stored = word(*end)?;
        let computed = crc32c::crc32c(&bytes[..*end]);
        if stored != computed {
            return Err(format!("its checksum is {stored:08X}, and what it holds has {computed:08X}"));
        }
        // Right before what was built in; elsewhere, and the structure is another machine's.
        if long(208)? != 1_234_567.0_f64.to_bits() {
            return Err("it was written by a machine with other numbers".to_owned());
        }
        Ok(ControlData {
            system_identifier: long(0)?,
            version,
            catalog_version: word(12)?,
            state: state(word(16)?)?,
            checkpoint: Lsn(long(32)?),
            redo: Lsn(long(40)?),
            timeline: word(48)?,
            max_connections: word(180)?,
            max_worker_processes: word(184)?,
            max_wal_senders: word(188)?,
            max_prepared_transactions: word(192)?,
            max_locks_per_transaction: word(196)?,
            block_bytes: word(216)?,
            segment_blocks: word(220)?,
            wal_block_bytes: word(224)?,
            wal_segment_bytes: word(228)?,
            checksum_version: word(252)?,
        })
    }

    /// By its catalogue. None: of a beta, or newer than this.
    pub fn major(&self) -> Option<u32> {
        CATALOGS.iter().find(|it| it.0 == self.catalog_version).map(|it| it.1)
    }

    /// What of the way in which its server was built is not as everybody builds it.
    pub fn unusual(&self) -> Vec<String> {
        let page = u32::try_from(PAGE).unwrap_or(u32::MAX);
        [
            ("blocks", self.block_bytes, page, "bytes"),
            ("pages of WAL", self.wal_block_bytes, page, "bytes"),
            ("files of relations", self.segment_blocks, SEGMENT_BLOCKS, "blocks"),
        ]
        .into_iter()
        .filter(|(_, is, usual, _)| is != usual)
        .map(|(what, is, usual, unit)| format!("its {what} have {is} {unit}, and not {usual}"))
        .collect()
    }
}

fn state(number: u32) -> Result<State, String> {
    Ok(match number {
        0 => State::StartingUp,
        1 => State::ShutDown,
        2 => State::ShutDownInRecovery,
        3 => State::ShuttingDown,
        4 => State::InCrashRecovery,
        5 => State::InArchiveRecovery,
        6 => State::InProduction,
        other => return Err(format!("it has the state {other}, which there is not")),
    })
}

/// A pg_control with a right checksum, for tests: of this version, with these words at their places.
#[cfg(test)]
pub(super) fn made(version: u32, words: &[(usize, u32)]) -> Vec<u8> {
    let mut bytes = vec![0; 8192];
    bytes[8..12].copy_from_slice(&version.to_le_bytes());
    bytes[208..216].copy_from_slice(&1_234_567.0f64.to_le_bytes());
    for (at, word) in words {
        bytes[*at..*at + 4].copy_from_slice(&word.to_le_bytes());
    }
    let end = VERSIONS.iter().find(|it| it.0 == version).map_or(288, |it| it.1);
    let sum = crc32c::crc32c(&bytes[..end]);
    bytes[end..end + 4].copy_from_slice(&sum.to_le_bytes());
    bytes
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Of real clusters, with what their own pg_controldata says of them.
    const REAL: [(u32, &[u8], &str); 5] = [
        (13, include_bytes!("../../fixtures/pg_control/13"), include_str!("../../fixtures/pg_control/13.txt")),
        (15, include_bytes!("../../fixtures/pg_control/15"), include_str!("../../fixtures/pg_control/15.txt")),
        (16, include_bytes!("../../fixtures/pg_control/16"), include_str!("../../fixtures/pg_control/16.txt")),
        (17, include_bytes!("../../fixtures/pg_control/17"), include_str!("../../fixtures/pg_control/17.txt")),
        (18, include_bytes!("../../fixtures/pg_control/18"), include_str!("../../fixtures/pg_control/18.txt")),
    ];

    #[test]
    fn what_is_read_is_what_pg_controldata_prints() {
        for (major, bytes, printed) in REAL {
            let control = ControlData::parse(bytes).unwrap();
            let expected = [
                ("pg_control version number", control.version.to_string()),
                ("Catalog version number", control.catalog_version.to_string()),
                ("Database system identifier", control.system_identifier.to_string()),
                ("Database cluster state", control.state.to_string()),
                ("Latest checkpoint location", control.checkpoint.to_string()),
                ("Latest checkpoint's REDO location", control.redo.to_string()),
                ("Latest checkpoint's TimeLineID", control.timeline.to_string()),
                ("max_connections setting", control.max_connections.to_string()),
                ("max_worker_processes setting", control.max_worker_processes.to_string()),
                ("max_wal_senders setting", control.max_wal_senders.to_string()),
                ("max_prepared_xacts setting", control.max_prepared_transactions.to_string()),
                ("max_locks_per_xact setting", control.max_locks_per_transaction.to_string()),
                ("Database block size", control.block_bytes.to_string()),
                ("Blocks per segment of large relation", control.segment_blocks.to_string()),
                ("WAL block size", control.wal_block_bytes.to_string()),
                ("Bytes per WAL segment", control.wal_segment_bytes.to_string()),
                ("Data page checksum version", control.checksum_version.to_string()),
            ];
            for (label, value) in expected {
                let line = printed.lines().find_map(|it| it.split_once(':').filter(|(name, _)| *name == label));
                assert_eq!(line.map(|it| it.1.trim()), Some(value.as_str()), "{major}: {label}");
            }
            assert_eq!(control.major(), Some(major));
            assert_eq!(control.unusual(), Vec::<String>::new());
            assert_eq!(ControlData::parse(&bytes[..USED]), Ok(control), "no more than {USED} bytes are used");
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_in_it_is_noticed() {
        for (_, bytes, _) in REAL {
            for at in 0..288 {
                let mut flipped = bytes.to_vec();
                flipped[at] ^= 1;
                assert!(ControlData::parse(&flipped).is_err(), "byte {at}");
            }
            assert!(ControlData::parse(&bytes[..200]).is_err());
        }
        assert!(ControlData::parse(&[]).unwrap_err().contains("0 bytes"));
    }

    #[test]
    fn another_byte_order_and_another_build_are_told() {
        let other = made(1300_u32.swap_bytes(), &[]);
        assert_eq!(ControlData::parse(&other).unwrap_err(), "it was written by a machine of the other byte order");
        let built = made(1300, &[(216, 16384), (220, 131_072), (224, 8192)]);
        let unusual = ControlData::parse(&built).unwrap().unusual();
        assert_eq!(unusual, ["its blocks have 16384 bytes, and not 8192"]);
        assert_eq!(ControlData::parse(&built).unwrap().major(), None);
    }
}
