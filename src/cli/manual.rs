//! What a packager installs beside the program: completions and manual pages, both made from the command line's own words.

use std::path::Path;

use clap::CommandFactory;

use super::args::Cli;
use super::{Exit, complain, tell};

pub(crate) fn completions(shell: clap_complete::Shell) -> Exit {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "pgdrill", &mut text);
    tell(&String::from_utf8_lossy(&text));
    Exit::Passed
}

/// One page, or a page for each command as clap_mangen names them (`pgdrill-run.1`).
pub(crate) fn man(directory: Option<&Path>) -> Exit {
    let done = if let Some(directory) = directory {
        clap_mangen::generate_to(Cli::command(), directory)
    } else {
        let mut text = Vec::new();
        let rendered = clap_mangen::Man::new(Cli::command()).render(&mut text);
        tell(&String::from_utf8_lossy(&text));
        rendered
    };
    match done {
        Ok(()) => Exit::Passed,
        Err(error) => {
            let place = directory.map(|it| format!(" to {}", it.display())).unwrap_or_default();
            complain(&format!(
                "error: failed to write the manual{place}\n  because {error}\n  hint: name a directory that is there"
            ));
            Exit::Usage
        }
    }
}
