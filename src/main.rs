//! The program: everything is in the library, so that tests can reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    // Before anything else, while there is one thread: namespaces are entered by starting ourselves again.
    if let Some(code) = pgdrill::cli::reexecuted(&args) {
        return code;
    }
    ExitCode::from(pgdrill::cli::main(args).code())
}
