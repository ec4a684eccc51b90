//! The command line.

use std::path::PathBuf;

use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::recipe::RuntimeChoice;
use crate::scenario;
use crate::source::service::without_file_scheme;

const EXIT_STATUS: &str = "\
Exit status:
    0  every drill passed        1  a drill failed: the backup or the objective is bad
    2  a mistake in the command or a scenario, nothing ran
    3  none failed, but for one nobody can tell (see its report)
    4  tags or names selected nothing
   70  a bug in pgdrill        130, 143  interrupted, and cleaned up

Begin with `pgdrill inspect BACKUP`, then `pgdrill run BACKUP`; `pgdrill init BACKUP -o FILE.yaml` writes a scenario.";

/// Proves that PostgreSQL backups can be recovered: restores them into a throwaway server, times them against the RTO,
/// checks their contents, and keeps the evidence.
#[derive(Debug, Parser)]
#[command(name = "pgdrill", version, max_term_width = 100, after_help = EXIT_STATUS)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// When to colour the output.
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub(crate) color: Color,
    /// Log what pgdrill does, to standard error; twice for more.
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Restore, measure and check: scenario files, directories of them, or a backup as it lies there
    Run(Run),
    /// Show what would happen: backup, server, phases, budgets, disk. Creates nothing
    Plan(Plan),
    /// List the drills of scenario files
    List(Chosen),
    /// Find the mistakes in scenario files, without looking at any backup
    Check(Chosen),
    /// Say what a backup is, without restoring it
    Inspect(Inspect),
    /// Write a commented scenario for a backup
    Init(Init),
    /// Judge the stored evidence of a run again, without a server; exits as the run would
    Judge(Stored),
    /// Print the report of a stored run again, as text, JSON or JUnit
    Report(Render),
    /// Say what this machine has of what drills need, and what to do about the rest
    Doctor,
    /// Open psql in a sandbox that was kept (run --keep), isolated as it was; exits as psql does
    Shell(Shell),
    /// Remove what killed drills have left behind; running and kept ones are left alone
    Clean(Clean),
    /// Print a JSON Schema: of scenario files, reports or evidence
    Schema(Schema),
    /// Print the completions of a shell
    Completions(Completions),
    /// Print the manual page; with a directory, write one page for each command there
    Man(Man),
}

/// Where a backup lies: `file://` is a path, too.
fn place() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().map(|it| it.to_str().map(without_file_scheme).map_or(it.clone(), PathBuf::from))
}

#[derive(Debug, Args)]
pub(crate) struct Chosen {
    /// Scenario files (*.yaml), directories of them, or backups: paths, or URLs (s3://, gs://, az://)
    #[arg(required = true, value_name = "PATH", value_parser = place())]
    pub(crate) paths: Vec<PathBuf>,
    /// Only drills with this tag (may be repeated: any of them)
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<String>,
    /// Only drills with this name, or matching this pattern, like 'shop-*' (may be repeated)
    #[arg(long = "drill", value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// A value for `${NAME}` in scenario files; wins over the environment (may be repeated)
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub(crate) set: Vec<String>,
    /// Where to restore, whatever the scenario says
    #[arg(long, value_enum, value_name = "RUNTIME")]
    pub(crate) runtime: Option<Runtime>,
    /// Seed for `pick: random`, to draw the same backup again
    #[arg(long, value_name = "NUMBER")]
    pub(crate) seed: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Plan {
    #[command(flatten)]
    pub(crate) chosen: Chosen,
    /// Print a shell script that does the same by hand, without pgdrill
    #[arg(long)]
    pub(crate) commands: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// Which shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct Man {
    /// A directory that is there
    #[arg(value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) chosen: Chosen,
    /// Directory for events, evidence and reports [default: ./pgdrill-out/RUN-ID]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Write the JUnit report here as well; - is standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
    /// `strict` is valid against the published XSDs, and carries less
    #[arg(long, value_enum, default_value_t = Flavor::Rich, value_name = "FLAVOR")]
    pub(crate) junit_flavor: Flavor,
    /// Write the JSON report here as well; - is standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Drills at once, as far as CPUs, memory and disk suffice; one with an RTO runs alone all the same
    #[arg(long, short, default_value_t = std::num::NonZeroUsize::MIN, value_name = "N")]
    pub(crate) jobs: std::num::NonZeroUsize,
    /// Let drills with an RTO run beside others, too; their reports say so
    #[arg(long)]
    pub(crate) jobs_timed: bool,
    /// Leave sandboxes up for `pgdrill shell`, whatever the scenario says; alone: on-failure
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "on-failure", value_name = "WHEN")]
    pub(crate) keep: Option<Keep>,
    /// How long a kept sandbox stands
    #[arg(long, default_value = "4h", value_parser = crate::scenario::length, value_name = "TIME")]
    pub(crate) keep_for: std::time::Duration,
    /// No progress, only the summary
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Keep {
    /// Also of an interrupted run
    Always,
    /// Unless the drill passed
    OnFailure,
    Never,
}

impl From<Keep> for scenario::Keep {
    fn from(keep: Keep) -> scenario::Keep {
        match keep {
            Keep::Always => scenario::Keep::Always,
            Keep::OnFailure => scenario::Keep::OnFailure,
            Keep::Never => scenario::Keep::Never,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Flavor {
    Rich,
    Strict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Runtime {
    Auto,
    Container,
    Local,
}

impl From<Runtime> for RuntimeChoice {
    fn from(runtime: Runtime) -> RuntimeChoice {
        match runtime {
            Runtime::Auto => RuntimeChoice::Auto,
            Runtime::Container => RuntimeChoice::Container,
            Runtime::Local => RuntimeChoice::Local,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// A backup file or directory, or its URL (s3://, gs://, az://)
    #[arg(value_name = "PATH", value_parser = place())]
    pub(crate) path: PathBuf,
    /// The WAL archive of a base backup: from when to when they recover together
    #[arg(long, value_name = "DIR", value_parser = place())]
    pub(crate) wal: Option<PathBuf>,
    /// As JSON, on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// A backup file or directory, or its URL (s3://, gs://, az://)
    #[arg(value_name = "PATH", value_parser = place())]
    pub(crate) path: PathBuf,
    /// The WAL archive of a base backup
    #[arg(long, value_name = "DIR", value_parser = place())]
    pub(crate) wal: Option<PathBuf>,
    /// Write the scenario here, unless the file is there already [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Stored {
    /// The directory of a run, or its evidence.json or events.ndjson
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Render {
    #[command(flatten)]
    pub(crate) stored: Stored,
    /// What to print on standard output
    #[arg(long, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    pub(crate) format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
    Junit,
    JunitStrict,
}

#[derive(Debug, Args)]
pub(crate) struct Shell {
    /// The run (or the beginning of its id), a kept sandbox's own name, or the directory of the run's reports
    #[arg(value_name = "RUN")]
    pub(crate) run: String,
    /// The drill, where several of the run are kept
    #[arg(long, value_name = "NAME")]
    pub(crate) drill: Option<String>,
    /// Run the program that follows -- instead of psql
    #[arg(long)]
    pub(crate) exec: bool,
    /// For psql: -- -c 'select 1'; with --exec the program and its arguments
    #[arg(last = true, value_name = "ARGUMENT")]
    pub(crate) args: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Clean {
    /// Say which directories would be removed, and remove nothing
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,
    /// Remove the kept sandboxes of this run now: its id or the beginning of it, a kept sandbox's own name, or the directory
    /// of the run's reports
    #[arg(long, value_name = "RUN")]
    pub(crate) run: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Schema {
    /// Which schema
    #[arg(value_enum, default_value_t = Document::Scenario)]
    pub(crate) document: Document,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Document {
    Scenario,
    Report,
    Evidence,
}
