//! Flags, environment, signals, files, exit codes, and the wording that a person sees.

mod access;
mod args;
mod doctor;
mod exit;
mod keys;
mod load;
mod look;
mod manual;
mod out;
mod physical;
mod pool;
mod progress;
mod repository;
mod run;
mod shell;
mod signals;
mod world;

use std::ffi::OsString;
use std::io::{IsTerminal, Write};

use clap::Parser;

use crate::fault::Fault;
use args::{Cli, Color, Command, Document};

pub use exit::Exit;
pub use world::reexecuted;

/// Runs the program: parses the arguments, does what they say, and gives the exit status.
pub fn main(args: impl IntoIterator<Item = OsString>) -> Exit {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Passed };
            // Nothing can be done about a terminal that is gone.
            let _ = error.print();
            return exit;
        }
    };
    log_to_stderr(cli.verbose);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("error: cannot start: {error}"));
            return Exit::Bug;
        }
    };
    let exit = runtime.block_on(dispatch(cli));
    // Threads that still wait for a file system that hangs must not keep us.
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    exit
}

async fn dispatch(cli: Cli) -> Exit {
    let screen = Screen::of(cli.color);
    match cli.command {
        Command::Run(run) => run::run(&run, &screen).await,
        Command::Plan(plan) => look::plan(&plan, &screen).await,
        Command::List(chosen) => look::list(&chosen, &screen),
        Command::Check(chosen) => look::check(&chosen, &screen),
        Command::Inspect(inspect) => look::inspect(&inspect, &screen),
        Command::Init(init) => look::init(&init, &screen),
        Command::Judge(stored) => look::judge(&stored, &screen),
        Command::Report(render) => look::report(&render, &screen),
        Command::Doctor => doctor::doctor(&screen).await,
        Command::Shell(it) => match shell::shell(&it).await {
            Ok(status) => Exit::Program { status },
            Err(exit) => exit,
        },
        Command::Clean(clean) => doctor::clean(&clean, &screen).await,
        Command::Completions(it) => manual::completions(it.shell),
        Command::Man(man) => manual::man(man.directory.as_deref()),
        Command::Schema(schema) => {
            tell(&match schema.document {
                Document::Scenario => load::schema(),
                Document::Report => crate::report::report_schema(),
                Document::Evidence => evidence_schema(),
            });
            Exit::Passed
        }
    }
}

/// JSON Schema of evidence.json, indented.
pub fn evidence_schema() -> String {
    let mut text = serde_json::to_string_pretty(&schemars::schema_for!(out::Kept)).unwrap_or_default();
    text.push('\n');
    text
}

/// JSON Schema of scenario files, indented.
pub fn scenario_schema() -> String {
    load::schema()
}

fn log_to_stderr(verbose: u8) {
    use tracing_subscriber::EnvFilter;
    let level = match verbose {
        0 => "pgdrill=warn",
        1 => "pgdrill=info",
        _ => "pgdrill=debug,testcontainers=info",
    };
    let filter = EnvFilter::try_from_env("PGDRILL_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let logging = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time();
    // Tests call main more than once in a process: the first one wins.
    let _ = logging.try_init();
}

/// What the terminals can show.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Screen {
    pub(crate) color_out: bool,
    pub(crate) color_err: bool,
    pub(crate) err_is_tty: bool,
    pub(crate) unicode: bool,
    pub(crate) width: usize,
}

impl Screen {
    fn of(color: Color) -> Screen {
        let allowed = std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|it| it == "dumb");
        let colored = |tty: bool| match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => tty && allowed && !dumb,
        };
        let (out, err) = (std::io::stdout().is_terminal(), std::io::stderr().is_terminal());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .into_iter()
            .find_map(|it| std::env::var(it).ok().filter(|it| !it.is_empty()));
        // Without a locale at all (most CI) readers take UTF-8 all the same.
        let unicode = locale.is_none_or(|it| it.to_lowercase().replace('-', "").contains("utf8"));
        let width = if out { console_width() } else { 100 };
        Screen { color_out: colored(out), color_err: colored(err), err_is_tty: err && !dumb, unicode, width }
    }
}

/// Columns of the terminal on standard output, as the kernel has them; 100 where it does not say.
fn console_width() -> usize {
    terminal_size::terminal_size().map_or(100, |(width, _)| usize::from(width.0)).clamp(40, 160)
}

/// To standard output. A reader that has gone away is no reason to fail.
pub(crate) fn tell(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// To standard error, with a line feed.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A fault that ended a command: what failed, why, and what to do.
pub(crate) fn complain_of(fault: &Fault) {
    complain(&format!("error: failed to {}", fault.message));
    for cause in &fault.causes {
        complain(&format!("  because {cause}"));
    }
    if let Some(hint) = &fault.hint {
        complain(&format!("  hint: {hint}"));
    }
}

/// Ends the process at once: the third signal has come.
#[expect(clippy::exit, reason = "the user insists; what is left was named, and the reaper knows of it")]
pub(crate) fn leave(exit: Exit) -> ! {
    std::process::exit(i32::from(exit.code()))
}
