//! The names of the checks that nobody writes: waivers may name them.

pub const SCOPE_CLUSTER: &str = "scope: cluster";
pub const SCOPE_DATA: &str = "scope: data";
pub const SCOPE_DEFINITIONS: &str = "scope: definitions";
pub const SCOPE_ROW_SECURITY: &str = "scope: row security";
/// The newest row of the scenario's heartbeat table.
pub const HEARTBEAT: &str = "heartbeat";
/// Whether the files of a base backup are those that its manifest names.
pub const BACKUP_MANIFEST: &str = "backup manifest";
/// Whether the pages of a base backup have the checksums that their cluster gave them.
pub const PAGE_CHECKSUMS: &str = "page checksums";

/// Whether the archive that a drill reads is the one that the server fills.
pub const ARCHIVING: &str = "archiving";
/// Whether the copies of the backup are the same as the one that was restored.
pub const COPIES: &str = "copies";
/// Whether there are as many of them as the objective asks for, on as many media and sites.
pub const COPIES_RULE: &str = "copies: rule";

/// Whether everything in a repository is what its checksum says.
pub const REPOSITORY: &str = "repository";

/// All of them.
pub const BUILT_IN: [&str; 19] = [
    REPOSITORY,
    COPIES,
    COPIES_RULE,
    ARCHIVING,
    BACKUP_MANIFEST,
    PAGE_CHECKSUMS,
    SCOPE_CLUSTER,
    SCOPE_DATA,
    SCOPE_DEFINITIONS,
    SCOPE_ROW_SECURITY,
    "promise: objects",
    "promise: state",
    "promise: owners and grants",
    "promise: sequences",
    "promise: large objects",
    "promise: rows",
    "promise: rows not told",
    "promise: not examined",
    "promise: refused objects",
];
