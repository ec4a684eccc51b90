//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::recipe::RuntimeChoice;

/// Proves that PostgreSQL backups can be recovered: restores them into a throwaway server, times them against the RTO,
/// checks their contents, and keeps the evidence.
///
/// Exit status: 0 every drill passed; 1 one failed; 2 usage or scenario problem, nothing ran; 3 none failed, one was
/// inconclusive; 4 nothing was selected; 70 a bug in pgdrill; 130 and 143 interrupted.
#[derive(Debug, Parser)]
#[command(name = "pgdrill", version, max_term_width = 100)]
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
    /// Run drills: scenario files, directories of them, or a backup as it lies there
    Run(Run),
    /// Show what would happen: backup, server, phases, budgets, disk. Creates nothing
    Plan(Chosen),
    /// List the drills of scenario files
    List(Chosen),
    /// Check scenario files, and nothing else
    Check(Chosen),
    /// Say what a backup is, without restoring it
    Inspect(Inspect),
    /// Write a commented scenario for a backup
    Init(Init),
    /// Judge stored evidence again
    Judge(Stored),
    /// Render the report of a stored run again
    Report(Render),
    /// Look at what drills need on this machine: engine, images, PostgreSQL, disk
    Doctor,
    /// Remove what drills that were killed have left behind
    Clean(Clean),
    /// Print a JSON Schema: of scenario files, reports or evidence
    Schema(Schema),
}

#[derive(Debug, Args)]
pub(crate) struct Chosen {
    /// Scenario files, directories of them, or one backup
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Only drills with this tag (may be repeated: any of them)
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<String>,
    /// Only drills with this name, or matching this pattern
    #[arg(long = "drill", value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// A value for `${NAME}` in scenario files; wins over the environment
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub(crate) set: Vec<String>,
    /// Where to restore, whatever the scenario says
    #[arg(long, value_enum, value_name = "RUNTIME")]
    pub(crate) runtime: Option<Runtime>,
    /// Seed for `pick: random`, to repeat a drill
    #[arg(long, value_name = "NUMBER")]
    pub(crate) seed: Option<u64>,
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
    /// No progress, only the summary
    #[arg(long, short)]
    pub(crate) quiet: bool,
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
    /// A backup file or directory
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
    /// As JSON, on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// A backup file or directory
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
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
pub(crate) struct Clean {
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
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
