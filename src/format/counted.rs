//! What a dump's data bytes hold, as counted by ourselves while they pass or in a reading of their own.
//!
//! Never from a second restore, and never from the restored side: it is what the restored side is compared with.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the data of one dump hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counted {
    /// By table, in the order in which their data begin.
    pub tables: Vec<TableData>,
    /// None where the reading did not reach them, or could not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub large_objects: Option<LargeObjectData>,
}

/// The data that a dump holds for one table. Names are as in the catalogue, without quotes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TableData {
    /// The database that it belongs to, where the dump holds several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    pub schema: String,
    pub name: String,
    pub rows: RowCount,
    /// Of its data, decompressed.
    pub bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RowCount {
    Exactly(u64),
    /// Why the bytes alone do not tell: `INSERT … SELECT`, `ON CONFLICT DO NOTHING`, data that were not read.
    Unknown {
        because: String,
    },
}

/// The large objects whose data a dump holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LargeObjectData {
    pub count: u64,
    /// Of all of them, decompressed.
    pub bytes: u64,
}
