//! `guard spool DIRECTORY`: the place where `guard fetch` asks for WAL, in a container whose engine does not see our files.
//!
//! Says `ready`, then `+NAME` when a question is asked and `-NAME` when whoever asked has gone; answers come as what `guard receive` takes,
//! and are forgotten with their question.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use super::remote::{take_all, told};

const PAUSE: Duration = Duration::from_millis(2);

/// Until standard input ends.
pub fn serve(directory: &Path) -> ExitCode {
    let made =
        ["want", "have", "ahead", "absent", "failed"].iter().try_for_each(|it| fs::create_dir_all(directory.join(it)));
    let served = made.and_then(|()| {
        println!("ready");
        let asked = directory.to_owned();
        // Ended with the process.
        thread::spawn(move || {
            // Whoever asks would wait for ever.
            if let Err(error) = say_questions(&asked) {
                eprintln!("cannot look for questions: {error}");
                std::process::exit(1);
            }
        });
        take_all(directory, &mut io::stdin().lock())
    });
    told("serve WAL", served)
}

fn say_questions(directory: &Path) -> io::Result<()> {
    let mut before = BTreeSet::new();
    loop {
        let entries = fs::read_dir(directory.join("want"))?;
        let asked: BTreeSet<String> = entries.flatten().filter_map(|it| it.file_name().into_string().ok()).collect();
        let mut said = String::new();
        for name in before.difference(&asked) {
            for answers in ["have", "absent", "failed"] {
                drop(fs::remove_file(directory.join(answers).join(name)));
            }
            said += &format!("-{name}\n");
        }
        asked.difference(&before).for_each(|name| said += &format!("+{name}\n"));
        if !said.is_empty() {
            let mut stdout = io::stdout().lock();
            stdout.write_all(said.as_bytes())?;
            stdout.flush()?;
        }
        before = asked;
        thread::sleep(PAUSE);
    }
}
