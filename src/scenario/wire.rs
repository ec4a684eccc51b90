//! The scenario file as it is written: one type for each map, its keys documented for people and for the JSON Schema.
//!
//! These types only say what may stand where. What it means, and what cannot go together, is in `convert`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize as DeriveDeserialize;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::collect::{At, LISTED, Unsupported, VALUE};
use super::units::{
    ColumnName, Day, Length, Name, Pattern, Phases, Positive, RelationName, SchemaName, Size, Slack, TableName, Text,
    Value, Zone, given,
};
use super::{Keep, Scope};
use crate::check::Severity;
use crate::recipe::RuntimeChoice;
use crate::source::{Durability, Roles};

/// What the format has and this version does not do.
pub(super) const UNSUPPORTED: Unsupported = &[("Source", "pgbackrest", "not supported by this version")];

/// A file of drills for pgdrill: which backups to restore into a throwaway PostgreSQL, and what must be true of them.
#[derive(Debug, DeriveDeserialize, JsonSchema)]
#[serde(rename = "Scenario", deny_unknown_fields)]
pub(super) struct WireFile {
    /// Version of this format: 1.
    #[schemars(range(min = 1, max = 1))]
    pub(super) version: At<u32>,
    /// What holds for every drill of this file that does not say otherwise.
    pub(super) defaults: Option<WireDefaults>,
    /// The drills.
    #[schemars(length(min = 1))]
    pub(super) drills: At<Vec<At<WireDrill>>>,
}

/// What holds for every drill of the file that does not say otherwise.
#[derive(Debug, Default, DeriveDeserialize, JsonSchema)]
#[serde(rename = "Defaults", deny_unknown_fields)]
pub(super) struct WireDefaults {
    /// Where to restore: `auto` takes a container where an engine answers, else the programs on this machine.
    pub(super) runtime: Option<RuntimeChoice>,
    /// The server to restore into.
    pub(super) postgres: Option<WirePostgres>,
    /// The longest that each phase may take.
    pub(super) budgets: Option<WireBudgets>,
    /// `representative`: durable as in production. `fast`: without fsync, and no proof of a recovery time.
    pub(super) durability: Option<Durability>,
    /// Whether the sandbox stays up when a drill is over: `never` (default), `on_failure` or `always`.
    pub(super) keep: Option<Keep>,
    /// How to restore.
    pub(super) restore: Option<WireDefaultRestore>,
}

/// How to restore, for every drill.
#[derive(Debug, Default, DeriveDeserialize, JsonSchema)]
#[serde(rename = "DefaultRestore", deny_unknown_fields)]
pub(super) struct WireDefaultRestore {
    /// Parallel jobs of pg_restore, for pg_dump sources.
    pub(super) jobs: Option<Positive>,
    /// Server settings during the restore; a drill's own are added to them.
    pub(super) settings: Option<BTreeMap<String, At<Text>>>,
}

/// A backup to restore, and what must be true of it.
#[derive(Debug, DeriveDeserialize, JsonSchema)]
#[serde(rename = "Drill", deny_unknown_fields)]
pub(super) struct WireDrill {
    /// Unique within a run: reports and JUnit name it.
    pub(super) name: At<Text>,
    /// Words by which drills are selected: `--tag quarterly`.
    pub(super) tags: Option<Vec<Text>>,
    /// Where the backup comes from.
    pub(super) source: At<WireSource>,
    /// The same backup in other places: each is read and compared with the one that is restored, byte for byte. An entry
    /// without a `path` says where the source itself is kept.
    pub(super) copies: Option<At<Vec<At<WireCopy>>>>,
    /// From which of `copies` to restore, by its name; or from `each`, in a drill of its own. Default: from `source`.
    pub(super) restore_from: Option<At<Text>>,
    /// What the backup claims to bring back: `database` (default for pg_dump), `cluster` (default for pg_dumpall and base
    /// backups) or `objects` (dumps by `-n` or `-t`, and restores of a part).
    pub(super) scope: Option<At<Scope>>,
    /// What users would miss first: asserted on the restored server.
    pub(super) expect: Option<At<WireExpected>>,
    /// Where recovery is to stop: `latest` (default), `immediate`, or one of `time`, `lsn`, `xid`, `name`.
    pub(super) target: Option<At<WireTarget>>,
    /// Many targets instead of one, which a single restore and a single replay walk through, with the checks asked at each:
    /// `{every: 15m}`, `{count: 20}`, `{random: 20, seed: 7}`, or a list of targets. For base backups with a WAL archive.
    pub(super) targets: Option<At<WireTargets>>,
    /// Where to restore: `auto` takes a container where an engine answers, else the programs on this machine.
    pub(super) runtime: Option<RuntimeChoice>,
    /// How to restore, as in the runbook of a real recovery.
    pub(super) restore: Option<WireRestore>,
    /// The server to restore into.
    pub(super) postgres: Option<WirePostgres>,
    /// What the drill must show, apart from contents.
    pub(super) objectives: Option<At<WireObjectives>>,
    /// The longest that each phase may take.
    pub(super) budgets: Option<WireBudgets>,
    /// `representative` (default): durable as in production. `fast`: without fsync, and no proof of a recovery time.
    pub(super) durability: Option<Durability>,
    /// Whether the sandbox stays up when the drill is over, isolated as it was, for `pgdrill shell`: `never` (default),
    /// `on_failure` (unless it passed) or `always`. Restored data are production data.
    pub(super) keep: Option<Keep>,
    /// When service counts as being back.
    pub(super) ready: Option<WireReady>,
    /// What to ask the restored server. Each is one of `rows`, `query` and `exists`.
    pub(super) checks: Option<At<Vec<At<WireCheck>>>>,
    /// Known defects that are accepted for a while.
    pub(super) waivers: Option<Vec<WireWaiver>>,
}

/// Where a backup comes from: one key.
#[derive(Debug, DeriveDeserialize, JsonSchema)]
#[serde(rename = "Source", rename_all = "snake_case")]
pub(super) enum WireSource {
    /// A dump of one database, in any of pg_dump's formats, whole files also compressed (.gz, .zst, .lz4, .xz, .bz2).
    PgDump(WirePgDump),
    /// A dump of a whole cluster by pg_dumpall.
    PgDumpall(WirePgDumpall),
    /// A physical backup by pg_basebackup, in plain or tar format, with or without a WAL archive.
    BaseBackup(WireBaseBackup),
    /// A storage of WAL-G: full backups and deltas, and its WAL.
    WalG(WireWalG),
    /// A stanza in a repository of pgBackRest: its backups, and its WAL.
    Pgbackrest(WirePgBackRest),
    /// A server's backups by Barman, and its WAL.
    Barman(WireBarman),
    /// A server's backups by barman-cloud-backup, and its WAL.
    BarmanCloud(WireBarman),
    /// Backups by Databasus: dumps of one database, as a rule encrypted; or the bundle of a physical backup, with its WAL.
    Databasus(WireDatabasus),
}

impl WireSource {
    /// A dump has one state; all else is physical: a whole cluster, and WAL to recover it to a point in time.
    pub(super) fn is_dump(&self) -> bool {
        match self {
            WireSource::PgDump(_) | WireSource::PgDumpall(_) => true,
            WireSource::Databasus(it) => !it.is_bundle(),
            WireSource::BaseBackup(_)
            | WireSource::WalG(_)
            | WireSource::Pgbackrest(_)
            | WireSource::Barman(_)
            | WireSource::BarmanCloud(_) => false,
        }
    }

    /// A physical backup that recovers to its own end only. Tools keep WAL beside their backups.
    pub(super) fn lacks_wal(&self) -> bool {
        matches!(self, WireSource::BaseBackup(it) if it.wal.is_none())
    }
}

#[derive(Debug, DeriveDeserialize, JsonSchema)]
#[serde(rename = "WalG", deny_unknown_fields)]
pub(super) struct WireWalG {
    /// The directory that holds `basebackups_005` and `wal_005`: WAL-G's own prefix. Relative to this file.
    pub(super) path: At<Text>,
    /// Which backup: `newest` (default), `oldest`, `best_for_target`, `random`, `{random: SEED}`, `{label: NAME}` or `all`.
    pub(super) pick: Option<At<WirePick>>,
    /// What `WALG_LIBSODIUM_KEY` was when the backups were made, where they are encrypted with libsodium.
    pub(super) libsodium_key: Option<At<WireSecret>>,
    /// The armored secret key, where they are encrypted with OpenPGP.
    pub(super) pgp_key: Option<At<WireSecret>>,
    /// Its passphrase, where it has one.
    pub(super) pgp_passphrase: Option<At<WireSecret>>,
    /// The machine that was backed up, where that matters: its architecture, its C library.
    pub(super) made_on: Option<At<WireMachine>>,
    /// How the object store is reached, where the path is a URL: `s3://`, `gs://` or `az://`.
    pub(super) store: Option<At<WireStore>>,
    /// `backup`: it may be restored where the kernel offers no isolation.
    pub(super) trust: Option<WireTrust>,
}

#[derive(Debug, DeriveDeserialize, JsonSchema)]
#[serde(rename = "PgBackRest", deny_unknown_fields)]
pub(super) struct WirePgBackRest {
    /// The repository (`repo1-path`): it holds `backup` and `archive`. Relative to this file.
    pub(super) path: At<Text>,
    /// The stanza's name.
    pub(super) stanza: At<Text>,
    /// Which backup: `newest` (default), `oldest`, `best_for_target`, `random`, `{random: SEED}`, `{label: LABEL}` or `all`.
    pub(super) pick: Option<At<WirePick>>,
    /// Only these databases, besides PostgreSQL's own, as `--db-include` does: of all others, files are made that hold nothing.
    pub(super) databases: Option<At<Vec<Name>>>,
    /// `true`: every backup and every segment of the stanza is read and compared with its checksum, after the restore.
    pub(super) verify: Option<At<bool>>,
    /// `repo1-cipher-pass`, where the repository is encrypted.
    pub(super) cipher_pass: Option<At<WireSecret>>,
    /// The machine that was backed up, where that matters: its architecture, its C library.
    pub(super) made_on: Option<At<WireMachine>>,
    /// How the object store is reached, where the path is a URL: `s3://`, `gs://` or `az://`.
    pub(super) store: Option<At<WireStore>>,
    /// `backup`: it may be restored where the kernel offers no isolation.
    pub(super) trust: Option<WireTrust>,
}

#[derive(Debug, DeriveDeserialize, JsonSchema)]
#[serde(rename = "Barman", deny_unknown_fields)]
pub(super) struct WireBarman {
    /// Barman's home, or the place that barman-cloud-backup writes to: it holds a directory for each server. Relative to this
    /// file.
    pub(super) path: At<Text>,
    /// The server's name.
    pub(super) server: At<Text>,
    /// `true`: the segment that Barman was receiving is used, as by `barman get-wal --partial`.
    pub(super) partial: Option<At<bool>>,
    /// Which backup: `newest` (default), `oldest`, `best_for_target`, `random`, `{random: SEED}`, `{label: ID}` or `all`.
    pub(super) pick: Option<At<WirePick>>,
    /// The machine that was backed up, where that matters: its architecture, its C library.
    pub(super) made_on: Option<At<WireMachine>>,
    /// How the object store is reached, where the path is a URL: `s3://`, `gs://` or `az://`.
    pub(super) store: Option<At<WireStore>>,
    /// `backup`: it may be restored where the kernel offers no isolation.
    pub(super) trust: Option<WireTrust>,
}

#[derive(Debug, DeriveDeserialize, JsonSchema)]
#[serde(rename = "Databasus", deny_unknown_fields)]
pub(super) struct WireDatabasus {
    /// The directory of its dumps, one of them, or a pattern; or the bundle of a physical backup, whose name ends in `.tar`.
    /// Relative to this file.
    pub(super) path: At<Text>,
    /// Which of the files that match: `newest` (default), `oldest`, `random`, `{random: SEED}`, `{label: NAME}` or `all`. In a
    /// bundle also `best_for_target`; there, labels are `full`, `incr-1` and so on.
    pub(super) pick: Option<At<WirePick>>,
    /// Databasus' `secret.key`, where the backups are encrypted.
    pub(super) secret_key: Option<At<WireSecret>>,
    /// What `pg_dumpall -g` wrote for the same cluster: its roles.
    pub(super) globals: Option<At<Text>>,
    /// Time zone of the machine that dumped: dumps do not record it.
    pub(super) timezone: Option<Zone>,
    /// How the object store is reached, where the path is a URL: `s3://`, `gs://` or `az://`.
    pub(super) store: Option<At<WireStore>>,
    /// `backup`: it may be restored where the kernel offers no isolation.
    pub(super) trust: Option<WireTrust>,
}

impl WireDatabasus {
    pub(super) fn is_bundle(&self) -> bool {
        Path::new(self.path.value.0.trim()).extension().is_some_and(|it| it == "tar")
    }
}

/// A place that holds the same backup.
#[derive(Debug, DeriveDeserialize, JsonSchema)]
#[serde(rename = "Copy", deny_unknown_fields)]
pub(super) struct WireCopy {
    /// Where it lies, as `path` of the source says it: the one with the same name is compared. Relative to this file.
    pub(super) path: Option<At<Text>>,
    /// Its WAL archive, for a `base_backup`: where a drill that restores from here takes WAL from.
    pub(super) wal: Option<At<Text>>,
    /// What reports call it. Default: its site, else its path.
    pub(super) name: Option<At<Text>>,
    /// What it is kept on: `disk`, `tape`, `object storage`.
    pub(super) media: Option<At<Text>>,
    /// Where that stands.
    pub(super) site: Option<At<Text>>,
    /// How its object store is reached, where the path is a URL.
    pub(super) store: Option<At<WireStore>>,
}

/// How an object store is reached, and as whom. What is not said here comes from the environment, as the service's own tools
/// read it (`AWS_…`, `GOOGLE_…`, `AZURE_…`), or from the platform.
#[derive(Debug, Default, DeriveDeserialize, JsonSchema)]
#[serde(rename = "Store", deny_unknown_fields)]
pub(super) struct WireStore {
    /// Where it is, if not at its provider's: `https://minio.example:9000`.
    pub(super) endpoint: Option<At<Text>>,
    /// S3: the region.
    pub(super) region: Option<At<Text>>,
    /// Certificates of authorities to believe besides the system's, as PEM. Relative to this file.
    pub(super) ca: Option<At<Text>>,
    /// S3, Google: read what lies there as it was at this moment (`2026-11-20 10:00:00+00`), although it was overwritten or deleted
    /// since. The bucket has to keep versions.
    pub(super) as_of: Option<At<Text>>,
    /// S3: the bucket is part of the host's name.
    pub(super) virtual_hosted: Option<At<bool>>,
    /// Without credentials: what lies there is public.
    pub(super) anonymous: Option<At<bool>>,
    /// S3: the access key's id.
    pub(super) access_key: Option<At<WireSecret>>,
    /// S3: the secret of that key.
    pub(super) secret_key: Option<At<WireSecret>>,
    /// S3: of temporary credentials.
    pub(super) session_token: Option<At<WireSecret>>,
    /// Azure: the storage account.
    pub(super) account: Option<At<Text>>,
    /// Azure: the account's key.
    pub(super) account_key: Option<At<WireSecret>>,
    /// Azure: a shared access signature.
    pub(super) sas_token: Option<At<WireSecret>>,
    /// Google: the JSON file of a service account, or a variable that holds its text.
    pub(super) service_account: Option<At<WireSecret>>,
    /// Google, Azure: a bearer token.
    pub(super) token: Option<At<WireSecret>>,
}

/// The machine that a physical backup was made on. Its files are read by another one here, and mean the same where both are alike.
#[derive(Debug, DeriveDeserialize, JsonSchema)]
#[serde(rename = "Machine", deny_unknown_fields)]
pub(super) struct WireMachine {
    /// As `uname -m` says it: `x86_64`, `aarch64`, `ppc64le` …; Debian's `amd64` and `arm64` are understood, too.
    pub(super) architecture: Option<At<Text>>,
    /// The version of its GNU C library, which ordered its texts: the last word of `ldd --version`'s first line, `2.36`.
    pub(super) glibc: Option<At<Text>>,
}

/// A secret, by the place where it lies: `{ file: PATH }`, relative to this file, or `{ env: NAME }`.
#[derive(Debug, DeriveDeserialize, JsonSchema)]
#[serde(rename = "Secret", rename_all = "snake_case")]
pub(super) enum WireSecret {
    /// A file that holds the secret and nothing else.
    File(Text),
    /// An environment variable of pgdrill's.
    Env(Text),
}

#[derive(Debug, DeriveDeserialize, JsonSchema)]
#[serde(rename = "PgDump", deny_unknown_fields)]
pub(super) struct WirePgDump {
    /// The file or directory, or a pattern with `*`, `?`, `[…]`, `{…}` or `**`. Relative to this file.
    pub(super) path: At<Text>,
    /// Which of the files that match: `newest` (default), `oldest`, `random`, `{random: SEED}` or `all`.
    pub(super) pick: Option<At<WirePick>>,
    /// What `pg_dumpall -g` wrote for the same cluster: its roles.
    pub(super) globals: Option<At<Text>>,
    /// Time zone of the machine that dumped: dumps do not record it.
    pub(super) timezone: Option<Zone>,
    /// How the object store is reached, where the path is a URL: `s3://`, `gs://` or `az://`.
    pub(super) store: Option<At<WireStore>>,
    /// `backup`: it may be restored where the kernel offers no isolation.
    pub(super) trust: Option<WireTrust>,
}

#[derive(Debug, DeriveDeserialize, JsonSchema)]
#[serde(rename = "PgDumpall", deny_unknown_fields)]
pub(super) struct WirePgDumpall {
    /// The file, or a pattern with `*`, `?`, `[…]`, `{…}` or `**`. Relative to this file.
    pub(super) path: At<Text>,
    /// Which of the files that match: `newest` (default), `oldest`, `random`, `{random: SEED}` or `all`.
    pub(super) pick: Option<At<WirePick>>,
    /// Time zone of the machine that dumped: dumps do not record it.
    pub(super) timezone: Option<Zone>,
    /// How the object store is reached, where the path is a URL: `s3://`, `gs://` or `az://`.
    pub(super) store: Option<At<WireStore>>,
    /// `backup`: it may be restored where the kernel offers no isolation.
    pub(super) trust: Option<WireTrust>,
}

#[derive(Debug, DeriveDeserialize, JsonSchema)]
#[serde(rename = "BaseBackup", deny_unknown_fields)]
pub(super) struct WireBaseBackup {
    /// The directory that pg_basebackup wrote (or a base.tar), or a pattern. Relative to this file.
    pub(super) path: At<Text>,
    /// Which of the backups that match: `newest` (default), `oldest`, `best_for_target` (the newest that ends before the
    /// target), `random`, `{random: SEED}` or `all`.
    pub(super) pick: Option<At<WirePick>>,
    /// Directory of the WAL archive. Without it, recovery ends where the backup ends.
    pub(super) wal: Option<At<Text>>,
    /// `true`: the last segment of the archive is used although it was not finished (`….partial`, as pg_receivewal writes it).
    pub(super) partial: Option<At<bool>>,
    /// Where tablespaces' data lie, by their OID or location, for a plain backup whose links lead out of it.
    pub(super) tablespaces: Option<BTreeMap<String, At<Text>>>,
    /// The machine that was backed up, where that matters: its architecture, its C library.
    pub(super) made_on: Option<At<WireMachine>>,
    /// How the object store is reached, where the path is a URL: `s3://`, `gs://` or `az://`.
    pub(super) store: Option<At<WireStore>>,
    /// `backup`: it may be restored where the kernel offers no isolation.
    pub(super) trust: Option<WireTrust>,
}

#[derive(Debug, DeriveDeserialize)]
#[serde(rename = "Pick", rename_all = "snake_case")]
pub(super) enum WirePick {
    Newest,
    Oldest,
    BestForTarget,
    All,
    /// Without a seed the run's own is used, and recorded.
    Random(Option<u64>),
    /// The one of this name, as its tool lists it.
    Label(String),
}

impl JsonSchema for WirePick {
    fn schema_name() -> Cow<'static, str> {
        "Pick".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Which of the files that match a pattern.",
            "oneOf": [
                { "enum": ["newest", "oldest", "best_for_target", "random", "all"] },
                {
                    "type": "object",
                    "properties": { "random": { "description": "The seed.", "type": "integer", "minimum": 0 } },
                    "required": ["random"],
                    "additionalProperties": false,
                },
                {
                    "type": "object",
                    "properties": { "label": { "description": "The backup's name.", "type": "string" } },
                    "required": ["label"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}

#[derive(Debug, DeriveDeserialize, JsonSchema)]
#[serde(rename = "Trust", rename_all = "snake_case")]
pub(super) enum WireTrust {
    /// The scenario vouches for the backup.
    Backup,
}

/// How to restore, as in the runbook of a real recovery.
#[derive(Debug, Default, DeriveDeserialize, JsonSchema)]
#[serde(rename = "Restore", deny_unknown_fields)]
pub(super) struct WireRestore {
    /// Parallel jobs of pg_restore (custom and directory formats).
    pub(super) jobs: Option<At<Positive>>,
    /// `globals`: load the globals file. `stubs`: make roles that are missing. `none`: restore without owners and grants.
    pub(super) roles: Option<At<Roles>>,
    /// Errors that do not fail the drill: a SQLSTATE, or a part of the message.
    pub(super) allow_errors: Option<Vec<At<Text>>>,
    /// Restore only these schemas of an archive.
    pub(super) schemas: Option<At<Vec<Name>>>,
    /// Restore only these tables of an archive.
    pub(super) tables: Option<At<Vec<Name>>>,
    /// A file of SQL to run before the restore. Relative to this file.
    pub(super) before: Option<At<Text>>,
    /// A file of SQL to run after the restore. Relative to this file.
    pub(super) after: Option<At<Text>>,
    /// Server settings, as in the runbook: `maintenance_work_mem: 2GB`.
    pub(super) settings: Option<BTreeMap<String, At<Text>>>,
    /// Tables whose rows are left out on purpose (`--exclude-table-data`): patterns for `schema.table`, like `audit.*`.
    pub(super) no_data: Option<Vec<At<Text>>>,
    /// Name of the database to restore into. Default: the dump's own.
    pub(super) database: Option<At<Name>>,
    /// Restore into a server of a lower major than the dump's (`postgres: { major: … }`), and list what is lost by that.
    pub(super) allow_downgrade: Option<At<bool>>,
}

/// The server to restore into.
#[derive(Debug, Default, DeriveDeserialize, JsonSchema)]
#[serde(rename = "Postgres", deny_unknown_fields)]
pub(super) struct WirePostgres {
    /// Major version. Default: the backup's own.
    pub(super) major: Option<At<u32>>,
    /// Container image; `{major}` is replaced. Default: `postgres:{major}`.
    pub(super) image: Option<At<Text>>,
    /// Size of /dev/shm. Default: 256 MiB.
    pub(super) shm_size: Option<Size>,
    /// The most memory that the server may use.
    pub(super) memory: Option<Size>,
    /// The most processors that the server may use.
    pub(super) cpus: Option<Positive>,
}

/// What the drill must show, apart from contents.
#[derive(Debug, Default, DeriveDeserialize, JsonSchema)]
#[serde(rename = "Objectives", deny_unknown_fields)]
pub(super) struct WireObjectives {
    /// Recovery time objective: the longest that a recovery may take.
    pub(super) rto: Option<At<Length>>,
    /// What a real outage adds and a drill cannot measure: detection, decision, cut-over. Judged with the measured time.
    pub(super) rto_overhead: Option<At<Length>>,
    /// The phases that count. Default: `provision..ready`; may begin at `inspect`.
    pub(super) rto_span: Option<At<Phases>>,
    /// Recovery point objective: the most that may be lost, as a time before the incident. Judged on the worst case: the age of
    /// the newest backup, and the longest gap between two in `rpo_window`.
    pub(super) rpo: Option<At<Length>>,
    /// How far back from the incident the gaps between backups count. Default: 7 days.
    pub(super) rpo_window: Option<At<Length>>,
    /// When the disaster is taken to have happened, with its zone. Default: when the drill starts.
    pub(super) incident: Option<At<Text>>,
    /// A table that something writes to at fixed times: a beat that is missing is a commit that was lost. For WAL archives.
    pub(super) heartbeat: Option<At<WireHeartbeat>>,
    /// How old the backup may be when the drill starts.
    pub(super) max_age: Option<Length>,
    /// In how many places the backup must be: `3-2-1` asks for three copies, production included, on two media, one of them
    /// off-site. Only copies that are proved to be the same count.
    pub(super) copies: Option<At<Text>>,
}

/// What shows that a commit is missing.
#[derive(Debug, DeriveDeserialize, JsonSchema)]
#[serde(rename = "Heartbeat", deny_unknown_fields)]
pub(super) struct WireHeartbeat {
    /// As it is written in SQL: `ops.heartbeat`.
    pub(super) table: Text,
    /// Its timestamp.
    pub(super) column: Name,
    /// The longest time between two beats.
    pub(super) every: Length,
    /// Default: the restored database.
    pub(super) database: Option<Name>,
}

/// The longest that each phase may take; when it runs out, the drill ends with what was seen last.
#[derive(Debug, Default, DeriveDeserialize, JsonSchema)]
#[serde(rename = "Budgets", deny_unknown_fields)]
pub(super) struct WireBudgets {
    /// Check the engine and make scratch space.
    pub(super) prepare: Option<Length>,
    /// Look at the backup and plan.
    pub(super) inspect: Option<Length>,
    /// Make the sandbox and its server.
    pub(super) provision: Option<Length>,
    /// Bring the backup's bytes in.
    pub(super) acquire: Option<Length>,
    /// Load them.
    pub(super) restore: Option<Length>,
    /// Start PostgreSQL on a restored data directory. With `targets`, the checks at all stops but the last belong to it.
    pub(super) recover: Option<Length>,
    /// Until service is back.
    pub(super) ready: Option<Length>,
    /// All checks together.
    pub(super) validate: Option<Length>,
    /// Remove what the drill made.
    pub(super) teardown: Option<Length>,
}

/// When service counts as being back.
#[derive(Debug, DeriveDeserialize, JsonSchema)]
#[serde(rename = "Ready", deny_unknown_fields)]
pub(super) struct WireReady {
    /// Must give a true or non-zero value.
    pub(super) sql: Text,
    /// Where to ask. Default: the restored database.
    pub(super) database: Option<Name>,
    /// The role to ask as. Default: the superuser.
    #[serde(rename = "as")]
    pub(super) role: Option<Name>,
}

/// What users would miss first in a restored cluster. Names are as in the catalogues, without quotes.
#[derive(Debug, Default, DeriveDeserialize, JsonSchema)]
#[serde(rename = "Expected", deny_unknown_fields)]
pub(super) struct WireExpected {
    /// Databases that must be there, and open to connections or not.
    pub(super) databases: Option<Vec<Name>>,
    /// Roles that the backup itself must bring: stand-ins that a drill makes do not count.
    pub(super) roles: Option<Vec<Name>>,
    /// By role: the roles that it must be a member of.
    pub(super) memberships: Option<BTreeMap<String, Vec<Name>>>,
    /// In the restored database, with the version that is needed; `*` for any.
    pub(super) extensions: Option<BTreeMap<String, Text>>,
    /// Tablespaces that must be there.
    pub(super) tablespaces: Option<Vec<Name>>,
    /// By database: settings of `ALTER DATABASE … SET`.
    pub(super) database_settings: Option<BTreeMap<String, BTreeMap<String, Text>>>,
    /// By role: settings of `ALTER ROLE … SET`.
    pub(super) role_settings: Option<BTreeMap<String, BTreeMap<String, Text>>>,
}

/// A known defect that is accepted for a while.
#[derive(Debug, DeriveDeserialize, JsonSchema)]
#[serde(rename = "Waiver", deny_unknown_fields)]
pub(super) struct WireWaiver {
    /// Name of the check that it is about: one of this drill, or one that every drill has (`scope: data`, `promise: rows`).
    pub(super) check: At<Text>,
    /// The one object that is known to be broken, as reports name it: `shop.order_lines`. The check still fails for others.
    pub(super) object: Option<Text>,
    /// Why it is accepted, for the auditor: a ticket.
    pub(super) reason: Text,
    /// The last day on which it holds, in UTC.
    pub(super) until: Day,
}

/// One question to the restored server, and the answer that it must give.
#[derive(Debug, DeriveDeserialize, JsonSchema)]
#[serde(rename = "Check", rename_all = "snake_case")]
pub(super) enum WireCheck {
    /// Counts the rows of a table.
    Rows(WireRows),
    /// Any SQL.
    Query(WireQuery),
    /// Objects that must be there.
    Exists(WireExists),
}

#[derive(Debug, DeriveDeserialize, JsonSchema)]
#[serde(rename = "Rows", deny_unknown_fields)]
pub(super) struct WireRows {
    /// Unique within the drill. Default: from the table.
    pub(super) name: Option<At<Text>>,
    /// `schema.table`, quoted as SQL wants it. `only schema.table` leaves out tables that inherit from it.
    pub(super) table: TableName,
    /// Count only rows for which this SQL condition is true.
    #[serde(rename = "where")]
    pub(super) filter: Option<Text>,
    /// At least so many.
    pub(super) min: Option<At<u64>>,
    /// At most so many.
    pub(super) max: Option<At<u64>>,
    /// Exactly so many, give or take the tolerance.
    pub(super) equals: Option<At<u64>>,
    /// With `equals`: how far it may be off, as a number of rows or as a share.
    pub(super) tolerance: Option<At<Slack>>,
    /// Where to ask. Default: the restored database.
    pub(super) database: Option<Name>,
    /// The role to ask as. Default: the superuser.
    #[serde(rename = "as")]
    pub(super) role: Option<Name>,
    /// How long the answer may take. Default: 5 minutes.
    pub(super) timeout: Option<Length>,
    /// `critical` and `major` (default) fail the drill; `minor` is a finding.
    pub(super) severity: Option<Severity>,
}

#[derive(Debug, DeriveDeserialize, JsonSchema)]
#[serde(rename = "Query", deny_unknown_fields)]
pub(super) struct WireQuery {
    /// Unique within the drill.
    pub(super) name: At<Text>,
    /// One statement that gives rows.
    pub(super) sql: Text,
    /// What it must give.
    pub(super) expect: At<WireExpect>,
    /// Where to ask. Default: the restored database.
    pub(super) database: Option<Name>,
    /// The role to ask as. Default: the superuser.
    #[serde(rename = "as")]
    pub(super) role: Option<Name>,
    /// How long the answer may take. Default: 5 minutes.
    pub(super) timeout: Option<Length>,
    /// `critical` and `major` (default) fail the drill; `minor` is a finding.
    pub(super) severity: Option<Severity>,
}

#[derive(Debug, DeriveDeserialize, JsonSchema)]
#[serde(rename = "Exists", deny_unknown_fields)]
pub(super) struct WireExists {
    /// Unique within the drill. Default: `objects exist`.
    pub(super) name: Option<At<Text>>,
    /// Schemas, quoted as SQL wants it.
    pub(super) schemas: Option<Vec<SchemaName>>,
    /// Tables, views, materialized views: `schema.table`, quoted as SQL wants it.
    pub(super) tables: Option<Vec<RelationName>>,
    /// `schema.table.column`, quoted as SQL wants it.
    pub(super) columns: Option<Vec<ColumnName>>,
    /// `schema.index`, quoted as SQL wants it.
    pub(super) indexes: Option<Vec<RelationName>>,
    /// `schema.function(integer, text)`, or without its arguments.
    pub(super) functions: Option<Vec<Text>>,
    /// Extensions: a name, or `{name: version}`.
    pub(super) extensions: Option<Vec<WireExtension>>,
    /// Roles, quoted as SQL wants it.
    pub(super) roles: Option<Vec<Text>>,
    /// Where to ask. Default: the restored database.
    pub(super) database: Option<Name>,
    /// The role to ask as. Default: the superuser.
    #[serde(rename = "as")]
    pub(super) role: Option<Name>,
    /// How long the answer may take. Default: 5 minutes.
    pub(super) timeout: Option<Length>,
    /// `critical` and `major` (default) fail the drill; `minor` is a finding.
    pub(super) severity: Option<Severity>,
}

/// A name, or one key with a version.
#[derive(Debug)]
pub(super) struct WireExtension {
    pub(super) name: String,
    pub(super) version: Option<String>,
}

impl<'de> Deserialize<'de> for WireExtension {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<WireExtension, D::Error> {
        struct ExtensionVisitor;
        impl<'de> Visitor<'de> for ExtensionVisitor {
            type Value = WireExtension;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an extension's name, or `{name: version}`")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<WireExtension, E> {
                if name.trim().is_empty() {
                    return Err(E::custom("an empty name"));
                }
                Ok(WireExtension { name: name.to_owned(), version: None })
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, keys: D) -> Result<WireExtension, D::Error> {
                keys.deserialize_map(self)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<WireExtension, A::Error> {
                let wrong = || A::Error::custom("expected an extension's name, or `{name: version}`");
                let (name, version) = entries.next_entry::<String, Text>()?.ok_or_else(wrong)?;
                match entries.next_key::<IgnoredAny>()? {
                    None => Ok(WireExtension { name, version: Some(version.0) }),
                    Some(_) => Err(wrong()),
                }
            }
        }
        deserializer.deserialize_newtype_struct(VALUE, ExtensionVisitor)
    }
}

impl JsonSchema for WireExtension {
    fn schema_name() -> Cow<'static, str> {
        "Extension".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "An extension's name, or `{name: version}`.",
            "oneOf": [
                { "type": "string" },
                {
                    "type": "object",
                    "additionalProperties": { "type": ["string", "number"] },
                    "minProperties": 1,
                    "maxProperties": 1,
                },
            ],
        })
    }
}

/// Where recovery is to stop.
#[derive(Debug)]
pub(super) enum WireTarget {
    /// `latest` or `immediate`
    Word(String),
    Keys(Box<WireTargetKeys>),
}

/// Where recovery is to stop: one of `time`, `lsn`, `xid` and `name`.
#[derive(Debug, Default, DeriveDeserialize, JsonSchema)]
#[serde(rename = "Target", deny_unknown_fields, default)]
pub(super) struct WireTargetKeys {
    /// A time with its zone: `2026-11-22 10:00:00+00`.
    pub(super) time: Option<At<Text>>,
    /// A place in the WAL: `16/B374D848`.
    pub(super) lsn: Option<At<Text>>,
    /// A transaction id.
    pub(super) xid: Option<At<u64>>,
    /// A restore point, made by `pg_create_restore_point`.
    pub(super) name: Option<At<Text>>,
    /// `true` for `{immediate: true, timeline: …}`: as soon as the backup is consistent.
    pub(super) immediate: Option<At<bool>>,
    /// Whether what happens exactly at the point is recovered. Default: true.
    pub(super) inclusive: Option<At<bool>>,
    /// `latest` (default), `current` (the backup's own), or a number.
    pub(super) timeline: Option<At<Text>>,
}

/// Where a sweep stops.
#[derive(Debug)]
pub(super) enum WireTargets {
    Keys(Box<WireTargetsKeys>),
    Each(Vec<At<WireTarget>>),
}

/// Where a sweep stops: one of `every`, `count` and `random`.
#[derive(Debug, Default, DeriveDeserialize, JsonSchema)]
#[serde(rename = "Targets", deny_unknown_fields, default)]
pub(super) struct WireTargetsKeys {
    /// The time from one to the next, by the clock in UTC: `15m` stops at 10:00, 10:15 …; and at both ends.
    pub(super) every: Option<At<Length>>,
    /// So many, as far apart in time, from the end of the backup to the end of the archive.
    pub(super) count: Option<At<Positive>>,
    /// So many, at instants that are drawn.
    pub(super) random: Option<At<Positive>>,
    /// With `random`: the same seed draws the same part of the time. Default: the run's own, which is recorded.
    pub(super) seed: Option<At<u64>>,
    /// `latest` (default), `current` (the backup's own), or a number.
    pub(super) timeline: Option<At<Text>>,
}

impl<'de> Deserialize<'de> for WireTargets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<WireTargets, D::Error> {
        struct TargetsVisitor;
        impl<'de> Visitor<'de> for TargetsVisitor {
            type Value = WireTargets;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`every`, `count`, `random` or a list of targets")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<WireTargets, A::Error> {
                let mut each = Vec::new();
                while let Some(target) = list.next_element()? {
                    each.push(target);
                }
                Ok(WireTargets::Each(each))
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, keys: D) -> Result<WireTargets, D::Error> {
                WireTargetsKeys::deserialize(keys).map(|it| WireTargets::Keys(Box::new(it)))
            }
        }
        deserializer.deserialize_newtype_struct(LISTED, TargetsVisitor)
    }
}

impl JsonSchema for WireTargets {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "TargetsAny".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let keys = generator.subschema_for::<WireTargetsKeys>();
        let each = generator.subschema_for::<WireTarget>();
        json_schema!({ "anyOf": [keys, { "type": "array", "minItems": 1, "items": each }] })
    }
}

impl<'de> Deserialize<'de> for WireTarget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<WireTarget, D::Error> {
        struct TargetVisitor;
        impl<'de> Visitor<'de> for TargetVisitor {
            type Value = WireTarget;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`latest`, `immediate`, or one of `time`, `lsn`, `xid` and `name`")
            }

            fn visit_str<E>(self, text: &str) -> Result<WireTarget, E> {
                Ok(WireTarget::Word(text.to_owned()))
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, keys: D) -> Result<WireTarget, D::Error> {
                WireTargetKeys::deserialize(keys).map(|it| WireTarget::Keys(Box::new(it)))
            }
        }
        deserializer.deserialize_newtype_struct(VALUE, TargetVisitor)
    }
}

impl JsonSchema for WireTarget {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "TargetAny".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let keys = generator.subschema_for::<WireTargetKeys>();
        json_schema!({ "anyOf": [{ "enum": ["latest", "immediate"] }, keys] })
    }
}

/// What a query must give.
#[derive(Debug)]
pub(super) enum WireExpect {
    /// `empty`, `not empty`, `null`, `not null`, or a value.
    Word(Value),
    Keys(Box<WireExpectKeys>),
}

/// What a query must give, in one of these ways.
#[derive(Debug, Default, DeriveDeserialize, JsonSchema)]
#[serde(rename = "Expect", deny_unknown_fields, default)]
pub(super) struct WireExpectKeys {
    /// This value, and no other.
    #[serde(deserialize_with = "given")]
    pub(super) equals: Option<Value>,
    /// Any value but this.
    #[serde(deserialize_with = "given")]
    pub(super) not: Option<Value>,
    /// Less than this.
    #[serde(rename = "<", deserialize_with = "given")]
    pub(super) less: Option<Value>,
    /// At most this.
    #[serde(rename = "<=", deserialize_with = "given")]
    pub(super) at_most: Option<Value>,
    /// More than this.
    #[serde(rename = ">", deserialize_with = "given")]
    pub(super) greater: Option<Value>,
    /// At least this.
    #[serde(rename = ">=", deserialize_with = "given")]
    pub(super) at_least: Option<Value>,
    /// From the first to the second, both included.
    #[schemars(length(min = 2, max = 2))]
    pub(super) between: Option<At<Vec<Value>>>,
    /// A regular expression that must be found in the value.
    pub(super) matches: Option<Pattern>,
    /// These rows, each a list of values.
    pub(super) rows: Option<At<Vec<At<Vec<Value>>>>>,
    /// These rows, from a CSV file with a header. An empty field without quotes is null. Relative to this file.
    pub(super) rows_file: Option<At<Text>>,
    /// With `rows` or `rows_file`: whether their order matters. Default: false.
    pub(super) ordered: Option<At<bool>>,
    /// With `rows`: names of the columns, for readers. Each row must have as many values; the names are not compared.
    pub(super) columns: Option<At<Vec<Text>>>,
}

impl<'de> Deserialize<'de> for WireExpect {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<WireExpect, D::Error> {
        struct ExpectVisitor;
        impl<'de> Visitor<'de> for ExpectVisitor {
            type Value = WireExpect;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("what the query must give")
            }

            fn visit_none<E>(self) -> Result<WireExpect, E> {
                Ok(WireExpect::Word(Value(None)))
            }

            fn visit_str<E>(self, text: &str) -> Result<WireExpect, E> {
                Ok(WireExpect::Word(Value(Some(text.to_owned()))))
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, keys: D) -> Result<WireExpect, D::Error> {
                WireExpectKeys::deserialize(keys).map(|it| WireExpect::Keys(Box::new(it)))
            }
        }
        deserializer.deserialize_newtype_struct(VALUE, ExpectVisitor)
    }
}

impl JsonSchema for WireExpect {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ExpectAny".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let keys = generator.subschema_for::<WireExpectKeys>();
        json_schema!({
            "anyOf": [
                { "enum": ["empty", "not empty", "not null", null] },
                { "description": "Exactly this value.", "type": ["string", "number", "boolean"] },
                keys,
            ],
        })
    }
}
