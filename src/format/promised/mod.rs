//! What a dump says that it will bring back: its objects and the state that it declares for them.
//!
//! Read from the statements themselves, the same for archives and for text, whoever wrote it; `pg_dump`'s headings (the
//! table of contents) add what statements hide: owners, and the argument types of functions. Only what was understood is
//! promised. What was not is counted by its kind, so that nobody takes it for examined.

mod reader;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) use reader::{Heading, Place, Reader};

/// More objects than these are counted, and not listed.
const LIMIT: usize = 250_000;

/// All that one dump promises, apart from rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Promised {
    pub objects: Vec<Object>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<Grant>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sequences: Vec<Position>,
    /// Of a selection: the tables whose rows it takes, by schema and name. None: those of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loaded: Option<BTreeSet<(String, String)>>,
    /// Large objects by owner, where the dump says it. No name: owners are not carried.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub large_objects: BTreeMap<String, u64>,
    /// By the kind in the table of contents: entries that were not understood, and are not looked for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unexamined: BTreeMap<String, u64>,
    /// Objects and grants that are not listed, because there are too many.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unlisted: u64,
    /// Statements that may change rows in ways that no counting of COPY and INSERT tells: only scripts kept by hand have
    /// such.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub other_writes: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde asks for")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// One object. Names are as in the catalogue, without quotes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Object {
    pub kind: Kind,
    /// The database that it belongs to, where the dump holds several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Empty for what lies in no schema.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub schema: String,
    pub name: String,
    /// Of a part of a table: that table, in the same schema. Of a function: its argument types in parentheses, or empty where
    /// they are not known. Of an inheritance: the parent, as `schema.name`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub of: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// What the dump declares of it, in the words of its kind (see `check::promise::catalog`); None: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Whether it has a comment.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub comment: bool,
    /// Whether it has a security label.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub label: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Schema,
    Extension,
    Language,
    AccessMethod,
    Type,
    Domain,
    Function,
    Cast,
    Transform,
    Operator,
    OperatorClass,
    OperatorFamily,
    Collation,
    Conversion,
    TextSearchConfiguration,
    TextSearchDictionary,
    TextSearchParser,
    TextSearchTemplate,
    ForeignDataWrapper,
    Server,
    UserMapping,
    Table,
    ForeignTable,
    View,
    MaterializedView,
    Sequence,
    /// A partition of a table or index, or a table that inherits.
    Inheritance,
    Column,
    Default,
    Identity,
    Constraint,
    Index,
    Statistics,
    Trigger,
    Rule,
    Policy,
    /// Of a table: `enabled` or `forced`.
    RowSecurity,
    EventTrigger,
    Publication,
    PublicationTable,
    PublicationSchema,
    Subscription,
    /// Where a table, index or materialized view lies, when that is not the database's own tablespace: its state.
    Tablespace,
}

impl Kind {
    /// As a person would name it.
    pub const fn words(self) -> &'static str {
        match self {
            Kind::Schema => "schema",
            Kind::Extension => "extension",
            Kind::Language => "language",
            Kind::AccessMethod => "access method",
            Kind::Type => "type",
            Kind::Domain => "domain",
            Kind::Function => "function",
            Kind::Cast => "cast",
            Kind::Transform => "transform",
            Kind::Operator => "operator",
            Kind::OperatorClass => "operator class",
            Kind::OperatorFamily => "operator family",
            Kind::Collation => "collation",
            Kind::Conversion => "conversion",
            Kind::TextSearchConfiguration => "text search configuration",
            Kind::TextSearchDictionary => "text search dictionary",
            Kind::TextSearchParser => "text search parser",
            Kind::TextSearchTemplate => "text search template",
            Kind::ForeignDataWrapper => "foreign-data wrapper",
            Kind::Server => "server",
            Kind::UserMapping => "user mapping",
            Kind::Table => "table",
            Kind::ForeignTable => "foreign table",
            Kind::View => "view",
            Kind::MaterializedView => "materialized view",
            Kind::Sequence => "sequence",
            Kind::Inheritance => "parent of",
            Kind::Column => "column",
            Kind::Default => "default of column",
            Kind::Identity => "identity of column",
            Kind::Constraint => "constraint",
            Kind::Index => "index",
            Kind::Statistics => "statistics object",
            Kind::Trigger => "trigger",
            Kind::Rule => "rule",
            Kind::Policy => "policy",
            Kind::RowSecurity => "row security of",
            Kind::EventTrigger => "event trigger",
            Kind::Publication => "publication",
            Kind::PublicationTable => "table of publication",
            Kind::PublicationSchema => "schema of publication",
            Kind::Subscription => "subscription",
            Kind::Tablespace => "tablespace of",
        }
    }
}

impl Object {
    /// `index shop.orders_idx`, `trigger shop.orders.touch`, `function shop.total(integer)`: kind, a blank and the name.
    pub fn words(&self) -> String {
        format!("{} {}", self.kind.words(), self.identity())
    }

    /// Without its kind.
    pub fn identity(&self) -> String {
        let Object { schema, name, of, .. } = self;
        let dot = if schema.is_empty() { "" } else { "." };
        match self.kind {
            Kind::Function => format!("{schema}{dot}{name}{of}"),
            Kind::Column
            | Kind::Default
            | Kind::Identity
            | Kind::Constraint
            | Kind::Trigger
            | Kind::Rule
            | Kind::Policy => format!("{schema}{dot}{of}.{name}"),
            Kind::PublicationTable => format!("{name}: {schema}{dot}{of}"),
            Kind::Inheritance => format!("{schema}{dot}{name}: {of}"),
            Kind::PublicationSchema | Kind::UserMapping => format!("{name}: {of}"),
            Kind::Schema
            | Kind::Extension
            | Kind::Language
            | Kind::AccessMethod
            | Kind::Type
            | Kind::Domain
            | Kind::Cast
            | Kind::Transform
            | Kind::Operator
            | Kind::OperatorClass
            | Kind::OperatorFamily
            | Kind::Collation
            | Kind::Conversion
            | Kind::TextSearchConfiguration
            | Kind::TextSearchDictionary
            | Kind::TextSearchParser
            | Kind::TextSearchTemplate
            | Kind::ForeignDataWrapper
            | Kind::Server
            | Kind::Table
            | Kind::ForeignTable
            | Kind::View
            | Kind::MaterializedView
            | Kind::Sequence
            | Kind::Index
            | Kind::Statistics
            | Kind::RowSecurity
            | Kind::EventTrigger
            | Kind::Publication
            | Kind::Subscription
            | Kind::Tablespace => format!("{schema}{dot}{name}"),
        }
    }
}

/// What the dump's GRANT and REVOKE statements leave one role with on one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Grant {
    pub on: GrantOn,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Of default privileges: the schema that they are limited to, if any.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub schema: String,
    /// Of default privileges: the role whose objects they are for.
    pub name: String,
    /// Of a column: its name; of a function: its arguments, in SQL syntax; of default privileges: the kind of object.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub of: String,
    /// Empty: PUBLIC.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub role: String,
    /// In capitals; `ALL` is every privilege that the server knows for such an object.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub granted: BTreeSet<String>,
    /// Those among them that may be passed on.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub grantable: BTreeSet<String>,
    /// Those that were taken away. `ALL`: whatever is not granted.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub revoked: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GrantOn {
    Table,
    Sequence,
    Column,
    Schema,
    Function,
    Type,
    Language,
    ForeignDataWrapper,
    Server,
    LargeObject,
    /// ALTER DEFAULT PRIVILEGES
    Default,
}

/// Where a sequence stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Position {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    pub schema: String,
    pub name: String,
    pub last_value: i64,
    pub is_called: bool,
}
