//! The process that cleans up after a pgdrill that was killed.
//!
//! It reads from a pipe that pgdrill holds. The pipe closes however pgdrill ends, also by SIGKILL, and only a clean end
//! says so first. It is in a process group of its own and blocks the signals of terminals, which mean pgdrill, not it.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};

use super::lease;

pub(crate) const REAPER: &str = "__reaper";

/// How long processes that were told to die may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Removes the containers and volumes that are labelled with this run, but for those of these scratch directories. False: something
/// may be left.
pub(crate) type Sweep<'a> = &'a dyn Fn(&str, &[PathBuf]) -> bool;

/// pgdrill's end of the pipe. Dropping it without [`finish`](Reaper::finish) is taken for a crash.
#[derive(Debug)]
pub(crate) struct Reaper {
    child: Child,
    pipe: Mutex<Option<ChildStdin>>,
}

impl Reaper {
    /// `exe`: this program.
    pub(crate) fn start(exe: &Path, run: &str) -> io::Result<Reaper> {
        // No output: whoever waits for the end of ours would wait for the reaper's too.
        let mut child = Command::new(exe)
            .arg(REAPER)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let pipe = Mutex::new(child.stdin.take());
        let reaper = Reaper { child, pipe };
        reaper.tell(&format!("run {run}"));
        Ok(reaper)
    }

    /// Before the directory is made.
    pub(crate) fn watch(&self, scratch: &Path) {
        self.tell(&format!("scratch {}", scratch.display()));
    }

    /// After it was wiped.
    pub(crate) fn done(&self, scratch: &Path) {
        self.tell(&format!("done {}", scratch.display()));
    }

    /// After it was given to a keeper: neither it nor its container is the reaper's any more.
    pub(crate) fn kept(&self, scratch: &Path) {
        self.tell(&format!("kept {}", scratch.display()));
    }

    /// Everything was released: the reaper may go without doing anything.
    pub(crate) fn finish(mut self) {
        self.tell("q");
        drop(self.pipe.lock().unwrap_or_else(PoisonError::into_inner).take());
        let _ = self.child.wait();
    }

    /// A reaper that is gone cannot be helped: the next run cleans up after us.
    fn tell(&self, line: &str) {
        if let Some(pipe) = self.pipe.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            let _ = writeln!(pipe, "{line}");
        }
    }
}

/// What pgdrill had told when the pipe closed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Heard {
    run: Option<String>,
    scratches: BTreeSet<PathBuf>,
    kept: Vec<PathBuf>,
    clean: bool,
}

impl Heard {
    fn from(lines: impl BufRead) -> Heard {
        let mut heard = Heard::default();
        for line in lines.lines().map_while(Result::ok) {
            match line.split_once(' ') {
                Some(("run", run)) => heard.run = Some(run.to_owned()),
                Some(("scratch", path)) => {
                    heard.scratches.insert(PathBuf::from(path));
                }
                Some(("done", path)) => {
                    heard.scratches.remove(Path::new(path));
                }
                Some(("kept", path)) => {
                    heard.scratches.remove(Path::new(path));
                    heard.kept.push(PathBuf::from(path));
                }
                None if line == "q" => heard.clean = true,
                // Half a line, from a death in mid-write.
                Some(_) | None => {}
            }
        }
        heard
    }
}

pub(super) fn reap(sweep: Sweep<'_>) -> ExitCode {
    let terminal = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGTSTP];
    // Blocked rather than ignored, because setting a disposition is unsafe code. Threads of `sweep` inherit it.
    let _ = terminal.into_iter().collect::<SigSet>().thread_block();
    let heard = Heard::from(BufReader::new(io::stdin().lock()));
    if heard.clean {
        return ExitCode::SUCCESS;
    }
    // Containers first: they write into the directories.
    let swept = heard.run.as_ref().is_none_or(|run| sweep(run, &heard.kept));
    let for_us = heard.scratches.iter().filter(|it| swept || lease::awaited_engine(it).is_none());
    let left: usize = for_us.map(|it| lease::wipe(it, PATIENCE).len()).sum();
    if left == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_said_to_be_done_is_left_to_do() {
        let kept = Heard { kept: vec!["/tmp/a".into()], ..heard("R", &[], false) };
        let cases: [(&str, Heard); 5] = [
            ("run R\nscratch /tmp/a\nkept /tmp/a\n", kept),
            ("", Heard::default()),
            ("run R\nscratch /tmp/a b\nq\n", heard("R", &["/tmp/a b"], true)),
            ("run R\nscratch /tmp/a\nscratch /tmp/b\ndone /tmp/a\n", heard("R", &["/tmp/b"], false)),
            ("run R\nscratch /tmp/a\ndone", heard("R", &["/tmp/a"], false)),
        ];
        for (text, expected) in cases {
            assert_eq!(Heard::from(text.as_bytes()), expected, "{text:?}");
        }
    }

    fn heard(run: &str, scratches: &[&str], clean: bool) -> Heard {
        Heard {
            run: Some(run.to_owned()),
            scratches: scratches.iter().map(PathBuf::from).collect(),
            kept: Vec::new(),
            clean,
        }
    }
}
