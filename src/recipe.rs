//! The words between those who decide and those who act: what to learn, what to do, what came of it.

mod physical;
mod stops;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::format::base::BaseFacts;
use crate::format::counted::Counted;
use crate::format::lsn::Lsn;
use crate::format::machine::Machine;
use crate::format::pages::{Again, PagesChecked};
use crate::format::verify::ManifestSeen;
use crate::format::wal_archive::ArchiveSeen;
use crate::format::{Compression, DumpFacts, Selection};
use crate::phase::Phase;
use crate::target::Target;
pub use physical::{Around, Closed, CollationSeen, Doubt, Doubtful, Found, Prepared, Searched, Until, WalPart};
pub use stops::{Stop, StopPlace, StopsSeen, WalWay, WalWindow};

/// Something to learn before a plan can be made. Asking creates nothing that will receive data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// Which files match a pattern (or are a path).
    List { pattern: String },
    /// What a logical backup is and holds. Reads the header and the table of contents of an archive, and all of a text.
    Dump {
        path: String,
        #[serde(default, skip_serializing_if = "Selection::is_everything")]
        select: Selection,
    },
    /// When these dumps were made, by their own headers: to know how far apart they are. Reads no data.
    Headers { paths: Vec<String> },
    /// What a base backup is: its kind, major, tablespaces, and from when on it can be recovered.
    Base { path: String, tablespaces: BTreeMap<String, String> },
    /// What each of several base backups is: which is the newest, and which builds upon which.
    Bases { paths: Vec<String>, tablespaces: BTreeMap<String, String> },
    /// What lies in a WAL archive; headers of those segments that a recovery from this place needs.
    Archive { path: String, timeline: Option<u32>, start: Option<Lsn> },
    /// From when to when the WAL of a recovery reaches. Reads its two ends.
    Window(WalWay),
    /// Where these targets lie in it. Reads all of it, once.
    Stops { way: WalWay, consistent: Lsn, targets: Vec<Target> },
    /// Where in this part of an archive's WAL a recovery would stop.
    Search(WalPart),
    /// The text of a small file that the scenario names (SQL to run, a table to compare with).
    Text { path: String },
    /// A server of this major version that could run the backup.
    Server { runtime: RuntimeChoice, major: u32, image: Option<String>, trusted: bool },
    /// What this machine is: it is what an RTO was measured on.
    Host,
}

/// An answer, already decoded by `format`: typed, small, fit to be kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Learnt {
    Files(Vec<FileSeen>),
    Dump(Box<DumpFacts>),
    Base(Box<BaseFacts>),
    Bases(Vec<BaseSeen>),
    Archive(Box<ArchiveSeen>),
    Searched(Searched),
    Headers(Vec<HeaderSeen>),
    Window(WalWindow),
    Stops(Box<StopsSeen>),
    Text(String),
    Server(Box<ServerFacts>),
    /// No runtime here has that major; each reason says which was tried and why not.
    NoServer {
        reasons: Vec<Fault>,
    },
    Host(HostFacts),
}

/// A backup file or directory as it was seen: what identifies it without reading it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileSeen {
    pub path: String,
    pub directory: bool,
    /// Of a directory: of all files in it.
    pub bytes: u64,
    /// Seconds since 1970. Of a directory: of its newest file. A label for people: never a proof of when a dump was made.
    pub modified: i64,
    /// Changes when a file is replaced.
    pub inode: u64,
    /// Whether any user of the machine may read it (of a directory: everything in it).
    pub world_readable: bool,
}

/// What the header of a dump says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeaderSeen {
    pub path: String,
    /// See [`DumpFacts::created`]. None where the dump does not say.
    pub created: Option<String>,
    /// The database that was dumped, where the header says so.
    pub database: Option<String>,
    /// Why it could not be read: such a dump is no backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<Fault>,
}

/// What a base backup is, or why that cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BaseSeen {
    pub path: String,
    pub facts: Option<Box<BaseFacts>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<Fault>,
}

/// Which runtime the scenario asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RuntimeChoice {
    /// A container where an engine answers and the image can be had, else the programs found on the machine.
    #[default]
    Auto,
    Container,
    Local,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RuntimeKind {
    Container,
    Local,
    /// Scripted answers, for tests.
    Fake,
}

/// A PostgreSQL that could run the backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServerFacts {
    pub runtime: RuntimeKind,
    pub major: u32,
    /// `17.11 (Debian 17.11-1)`, as `postgres --version` says.
    pub version: String,
    /// Directory of the programs, in the room.
    pub bindir: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageFacts>,
    /// The unprivileged user that the server runs as.
    pub user: RoomUser,
    /// Extensions that can be created, with their versions.
    pub extensions: BTreeMap<String, Vec<String>>,
    /// As `locale -a` lists them.
    pub locales: Vec<String>,
    /// Free bytes where the data will lie. None where the engine does not tell.
    pub disk_free: Option<u64>,
    /// Where the data will lie: `ext4`, `overlayfs`, `tmpfs` …
    pub filesystem: Option<String>,
    /// The engine does not see our files: bytes go in and out as streams, and times include the way there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub streams: bool,
    /// Other programs of use: `docker 20.10.24`, `runc` …, by name.
    pub tools: BTreeMap<String, String>,
    /// Why this one, as a sentence for people.
    pub because: String,
    /// What was tried before, and why not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passed_over: Vec<Fault>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImageFacts {
    /// As asked for: `postgres:17`.
    pub reference: String,
    /// `sha256:…` of the image's configuration: always there.
    pub id: String,
    /// `repository@sha256:…`; empty for images that were built or loaded.
    pub repo_digests: Vec<String>,
    pub architecture: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RoomUser {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
}

/// The machine on which the times were measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HostFacts {
    pub hostname: String,
    pub os: String,
    pub kernel: String,
    pub architecture: String,
    pub cpus: u32,
    pub memory_bytes: u64,
    /// Median of a few 8 KiB write + fsync, in the scratch directory.
    pub fsync_micros: Option<u64>,
}

/// What has been learnt so far, in the order in which it was asked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Survey(pub Vec<(Question, Learnt)>);

impl Survey {
    pub fn answer(&self, question: &Question) -> Option<&Learnt> {
        let (_, learnt) = self.0.iter().find(|(asked, _)| asked == question)?;
        Some(learnt)
    }

    /// The questions among `asked` that have no answer yet.
    pub fn unanswered(&self, asked: impl IntoIterator<Item = Question>) -> Vec<Question> {
        asked.into_iter().filter(|it| self.answer(it).is_none()).collect()
    }

    pub fn files(&self, pattern: &str) -> Option<&[FileSeen]> {
        let Learnt::Files(files) = self.answer(&Question::List { pattern: pattern.to_owned() })? else { return None };
        Some(files)
    }

    /// What this very file or directory looked like, whichever pattern it was found by.
    pub fn seen(&self, path: &str) -> Option<&FileSeen> {
        self.0.iter().find_map(|(_, learnt)| {
            let Learnt::Files(files) = learnt else { return None };
            files.iter().find(|it| it.path == path)
        })
    }

    pub fn dump(&self, path: &str) -> Option<&DumpFacts> {
        self.0.iter().find_map(|(question, learnt)| match (question, learnt) {
            (Question::Dump { path: asked, .. }, Learnt::Dump(facts)) if asked == path => Some(&**facts),
            _ => None,
        })
    }

    /// Of the dumps that match the source's pattern.
    pub fn headers(&self) -> &[HeaderSeen] {
        let found = self.0.iter().find_map(|(_, learnt)| {
            let Learnt::Headers(headers) = learnt else { return None };
            Some(headers.as_slice())
        });
        found.unwrap_or_default()
    }

    pub fn base(&self, path: &str) -> Option<&BaseFacts> {
        let alone = self.0.iter().find_map(|(question, learnt)| match (question, learnt) {
            (Question::Base { path: asked, .. }, Learnt::Base(facts)) if asked == path => Some(&**facts),
            _ => None,
        });
        alone.or_else(|| self.bases().find(|it| it.path == path)?.facts.as_deref())
    }

    /// The WAL archive at this path: as it was looked at last, for the backup that was chosen.
    pub fn archive(&self, path: &str) -> Option<&ArchiveSeen> {
        self.0.iter().rev().find_map(|(question, learnt)| match (question, learnt) {
            (Question::Archive { path: asked, .. }, Learnt::Archive(seen)) if asked == path => Some(&**seen),
            _ => None,
        })
    }

    /// Where the target was found in the WAL, where it was searched for.
    pub fn place(&self) -> Option<Lsn> {
        self.0.iter().rev().find_map(|(_, learnt)| {
            let Learnt::Searched(searched) = learnt else { return None };
            Some(searched.found.as_ref()?.at)
        })
    }

    /// Base backups that were looked at beside each other.
    pub fn bases(&self) -> impl Iterator<Item = &BaseSeen> {
        self.0.iter().flat_map(|(_, learnt)| {
            let Learnt::Bases(bases) = learnt else { return &[][..] };
            bases.as_slice()
        })
    }

    /// From when to when this WAL reaches.
    pub fn window(&self, way: &WalWay) -> Option<&WalWindow> {
        self.0.iter().find_map(|(question, learnt)| match (question, learnt) {
            (Question::Window(asked), Learnt::Window(seen)) if asked == way => Some(seen),
            _ => None,
        })
    }

    /// Where the targets of a sweep lie.
    pub fn stops(&self) -> Option<&StopsSeen> {
        self.0.iter().find_map(|(question, learnt)| match (question, learnt) {
            (Question::Stops { .. }, Learnt::Stops(seen)) => Some(&**seen),
            _ => None,
        })
    }

    pub fn text(&self, path: &str) -> Option<&str> {
        let Learnt::Text(text) = self.answer(&Question::Text { path: path.to_owned() })? else { return None };
        Some(text)
    }
}

/// The two rooms of a sandbox: they share the data directory and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Holds credentials, reaches the repository, runs no server.
    Fetcher,
    /// Runs the restored server; never has a network, never sees a credential.
    Server,
}

/// A directory of the room. Each runtime has its own path for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum At {
    /// The data directory.
    Data,
    /// The server's socket, its log and small files of ours; the host sees it too.
    Run,
    /// Copies of backup bytes, where they could not be mounted.
    Spool,
    /// The n-th input of the sandbox, as it lies on the host, read-only.
    Input(usize),
    /// The programs of PostgreSQL.
    Bin,
}

/// One argument of a command.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Arg {
    Text(String),
    /// `path` within a directory of the room; empty for the directory itself.
    Path {
        at: At,
        path: String,
    },
}

impl From<&str> for Arg {
    fn from(text: &str) -> Arg {
        Arg::Text(text.to_owned())
    }
}

impl From<String> for Arg {
    fn from(text: String) -> Arg {
        Arg::Text(text)
    }
}

impl Arg {
    pub fn path(at: At, path: &str) -> Arg {
        Arg::Path { at, path: path.to_owned() }
    }
}

/// A program of PostgreSQL to run in a room.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Command {
    /// Name of a program in the server's bindir: `initdb`, `pg_ctl`, `pg_restore`, `psql`.
    pub program: String,
    pub args: Vec<Arg>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

impl Command {
    pub fn new(program: &str) -> Command {
        Command { program: program.to_owned(), ..Command::default() }
    }

    #[must_use]
    pub fn arg(mut self, arg: impl Into<Arg>) -> Command {
        self.args.push(arg.into());
        self
    }

    #[must_use]
    pub fn args<A: Into<Arg>>(mut self, args: impl IntoIterator<Item = A>) -> Command {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }
}

/// Something that a reader of the report must know: where the drill differs from a full recovery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Note {
    pub kind: NoteKind,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NoteKind {
    /// A choice that differs from the backup's own: another major, another locale.
    Deviation,
    /// What the backup does not carry.
    NotCarried,
    /// What was made up so that the rest could be restored.
    Stubbed,
    /// What the drill did not look at.
    NotChecked,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Recipe {
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    pub phase: Phase,
    pub place: Place,
    /// Why, for people: `restore the archive`. Follows "failed to".
    pub what: String,
    pub action: Action,
    /// What this step's failure or its ignored errors mean.
    pub tolerance: Tolerance,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Runs a program with an empty standard input.
    Run(Command),
    /// The bytes of a host file, through a decoder, to a program's standard input. Digested while they pass.
    Stream { from: String, through: Compression, into: Command },
    /// The same reading without a receiver: for what pgdrill digests or counts itself.
    Scan { from: String },
    /// Copies a host file or directory into the sandbox's spool, under `name`. Digested while the bytes pass.
    Copy { from: String, name: String },
    /// Writes a small file of ours, mode 0600, owned by the server's user.
    Write { at: At, path: String, text: String },
    /// Turns a base backup into the room's data directory, checked on the way. `part`: into a directory of the spool instead,
    /// under this number, for pg_combinebackup.
    Unpack {
        from: String,
        facts: Box<BaseFacts>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        part: Option<usize>,
        /// What a delta of WAL-G builds upon, the full backup first.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        beneath: Vec<Layer>,
        /// Databases, by OID, whose files get their size and no contents.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        hollow: Vec<u32>,
    },
    /// Makes a restored data directory safe to start: sets aside what the backup says of its own server, and writes this
    /// configuration, with what `pg_control` insists on. `recover`: replay WAL (`recovery.signal`).
    /// `standby`: and wait for more at its end (`standby.signal`).
    Arm {
        configuration: String,
        recover: bool,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        standby: bool,
    },
    /// Begins to serve WAL from this archive to the room's spool, until the sandbox is released. `until`: none from there on,
    /// before a [`Action::Walk`] asks for it.
    ServeWal {
        from: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Lsn>,
    },
    /// Lets a standby replay up to this place, the stop with this number of a sweep, and waits until it stands there.
    Walk { stop: usize, to: Lsn },
    /// Waits until recovery stopped at its target, or ended, and records where.
    Recover { target: Target },
    /// Ends recovery: from here on the server writes.
    Promote,
    /// Looks again at pages that looked wrong before replay.
    LookAgain,
    /// Looks for what a restored cluster carries and no check examines. `major`: of the server. `left_out`: databases of which nothing
    /// was restored.
    LookAround {
        major: u32,
        #[serde(default)]
        made_on: Machine,
        #[serde(default)]
        left_out: Vec<String>,
    },
    /// Reads the WAL that the server replayed out of the archive, and says what it holds around the place where replay stopped.
    /// `whole`: and on to the archive's end.
    ReadWal { from: String, target: Target, whole: bool },
    /// Compares what a backup consists of with other places that are said to hold the same, byte for byte; and what is needed of
    /// its WAL with theirs.
    Compare { parts: Vec<String>, copies: Vec<CopyPlace>, wal: Option<WalWay> },
    /// Reads every backup and every segment of a repository of pgBackRest, and compares each with the checksum that is kept of it.
    Verify { stanza: String, archive: Option<String> },
    /// Statements over a connection of the bootstrap superuser, one by one, each in a transaction of its own.
    Sql { database: String, statements: Vec<String> },
}

impl Action {
    /// The host file or directory whose bytes it reads itself.
    pub fn reads(&self) -> Option<&str> {
        match self {
            Action::Stream { from, .. }
            | Action::Scan { from }
            | Action::Copy { from, .. }
            | Action::Unpack { from, .. } => Some(from),
            Action::Run(_)
            | Action::Write { .. }
            | Action::Sql { .. }
            | Action::Arm { .. }
            | Action::ServeWal { .. }
            | Action::Walk { .. }
            | Action::Recover { .. }
            | Action::Promote
            | Action::LookAgain
            | Action::LookAround { .. }
            | Action::Compare { .. }
            | Action::Verify { .. }
            | Action::ReadWal { .. } => None,
        }
    }
}

/// A place that is said to hold a backup, too: a path, a pattern or a URL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CopyPlace {
    pub name: String,
    pub path: String,
    /// Its WAL archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wal: Option<String>,
}

/// What came of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Compared {
    /// Of the original.
    pub files: u64,
    pub bytes: u64,
    pub copies: Vec<CopySeen>,
}

/// What lies in one of the places.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CopySeen {
    pub name: String,
    /// Where it was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The first few files that differ, with how; and how many do. None: it is the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differs: Vec<String>,
    #[serde(default)]
    pub differs_total: u64,
    /// Of its WAL, where it has an archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wal: Option<CopiedWal>,
    /// What the original and the copy say of themselves, where they differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identities: Option<(Identity, Identity)>,
    /// Why nothing can be said of it; blamed on the backup where it is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Fault>,
}

/// How far the WAL beside a copy goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CopiedWal {
    /// Where what it holds without a gap ends.
    pub until: Lsn,
    /// Segments that the original has behind that.
    pub behind: u64,
}

/// Which backup it is, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Identity(pub String);

/// A backup that another one builds upon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Layer {
    pub from: String,
    pub facts: Box<BaseFacts>,
}

/// Which step failures stop the drill. What they mean is judged later, from the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tolerance {
    /// Anything but success stops the drill: blamed by `verdict::blame`-like rules on (step, output).
    Strict,
    /// The same, and what fails is SQL that the scenario brings.
    Scenario,
    /// The program goes on after errors of statements and reports them; they are recorded, and judged against the allowances.
    RecordsErrors,
}

/// What came of a step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// Exit status; 128 + n where a signal ended it. 0 for actions without a program.
    pub status: i32,
    /// Bounded head and tail (16 KiB); the whole goes to the run's logs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stderr: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stdout: String,
    /// Errors of statements, in the order in which they came; bounded to 1000, `errors_total` counts them all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<StatementError>,
    #[serde(default)]
    pub errors_total: u64,
    /// Bytes read from the backup, as stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// SHA-256 of the backup as stored, lowercase hex. Of a directory: of the `sha256  name` lines of its files, sorted by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// What the input looked like when the step ended: differs from the survey if it changed meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<FileSeen>,
    /// What our own decoder found wrong with the bytes that passed, whatever became of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<Fault>,
    /// What the data that passed hold, where the action's decoder counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted: Option<Counted>,
    /// What was unpacked and checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unpacked: Option<Unpacked>,
    /// Where recovery stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovered: Option<Recovered>,
    /// What the WAL that was replayed says itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wal: Option<WalSeen>,
    /// Pages that looked wrong before replay, as they are now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub again: Vec<Again>,
    /// Whether copies of the backup are the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared: Option<Compared>,
    /// What became of reading the whole repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verified>,
    /// What the restored cluster carries beside what checks examine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub around: Option<Around>,
    /// What the host did meanwhile that decides the blame.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<HostCondition>,
}

/// A whole repository, as far as checksums are kept of what it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verified {
    pub backups: u64,
    /// Of all backups, each where it lies.
    pub files: u64,
    /// Of files and segments, as stored.
    pub bytes: u64,
    pub segments: u64,
    /// The first of what is not as it should be.
    pub wrong: Vec<WrongStored>,
    pub wrong_total: u64,
    /// Why not everything was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Fault>,
}

/// Something in a repository that is not what its checksum says, or not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WrongStored {
    /// A backup's label, with a file of it; or a segment.
    pub what: String,
    pub why: String,
}

/// What the WAL itself says of a recovery, read independently of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WalSeen {
    /// Segments that were read, the first and the last; None where there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segments: Option<(String, String)>,
    pub records: u64,
    /// Transactions that committed up to where replay stopped.
    pub commits: u64,
    /// The last commit or abort up to where replay stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Transaction>,
    /// The first one behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Transaction>,
    /// Of a target in time: the first one that is too late for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late: Option<Transaction>,
    /// Of a target that names a transaction or a restore point: where its record begins and ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<(Lsn, Lsn)>,
    /// The latest instant that any of its records proves: everything that was committed until then is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub latest: Option<jiff::Timestamp>,
    /// Why reading ended before it saw what lies behind the stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
}

/// A transaction's end, as its record in WAL says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Transaction {
    pub xid: u32,
    pub at: Lsn,
    pub end: Lsn,
    #[schemars(with = "String")]
    pub time: jiff::Timestamp,
    /// False: it was rolled back.
    pub committed: bool,
}

/// What came of unpacking a base backup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Unpacked {
    pub files: u64,
    /// Of the files, as written.
    pub bytes: u64,
    /// None in evidence of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<ManifestSeen>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pages: Option<PagesChecked>,
}

/// Where recovery stopped, as the server itself tells: its log, its SQL and the WAL that it was given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Recovered {
    /// It waits at its target, read-only. False: there was no target, or recovery ended before it.
    pub paused: bool,
    /// `pg_last_wal_replay_lsn()`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replayed: Option<String>,
    /// `pg_last_xact_replay_timestamp()`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_commit: Option<String>,
    /// Lines of the server's log that speak of recovery, without their prefix.
    pub log: Vec<String>,
    /// Served by the spool.
    pub segments: u64,
    /// Names that the archive was asked for and has not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<String>,
}

/// An error that the server gave to a statement of a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatementError {
    /// Five characters; None where the program hid it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sqlstate: Option<String>,
    pub message: String,
    /// Line of the SQL text (psql); None for archives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The statement, cut to 500 characters; never data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<String>,
    /// The entry of the table of contents: `TABLE DATA orders shop_owner`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// Of a COPY, which row the server refused: `row 17 of orders, column price`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<String>,
}

/// Something the host did that must never be blamed on a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HostCondition {
    OutOfMemory,
    DiskFull,
    SandboxDied,
    EngineGone,
    InputChanged,
}

impl std::fmt::Display for StatementError {
    /// `42704 at line 12: role "x" does not exist (ALTER TABLE …)`, on one line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(sqlstate) = &self.sqlstate {
            write!(f, "{sqlstate} ")?;
        }
        if let Some(line) = self.line {
            write!(f, "at line {line}: ")?;
        }
        f.write_str(&self.message)?;
        if let Some(row) = &self.row {
            write!(f, ", {row}")?;
        }
        if let Some(place) = self.entry.as_ref().or(self.statement.as_ref()) {
            write!(f, " ({})", place.lines().next().unwrap_or_default())?;
        }
        Ok(())
    }
}
