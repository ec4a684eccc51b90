//! `query`: any SQL, judged as a scalar, as rows, as empty or as not empty.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Answer, Judged, Table};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Query {
    pub sql: String,
    pub expect: Expect,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    Empty,
    NotEmpty,
    /// Exactly one row with one column.
    Scalar(Scalar),
    /// These rows. Compared as text, NULL as None.
    Rows { rows: Table, ordered: bool },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scalar {
    Equals(String),
    NotEquals(String),
    Less(String),
    AtMost(String),
    Greater(String),
    AtLeast(String),
    Between(String, String),
    /// A regular expression that must be found in the value.
    Matches(String),
    IsNull,
    NotNull,
}
