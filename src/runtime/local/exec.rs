//! Running a program in a room.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{ChildStdin, Command};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Inside, KILL_PATIENCE, LocalRoom};
use crate::fault::{Blame, Fault};
use crate::runtime::processes;
use crate::runtime::room::{Ended, Exec};
use crate::runtime::room_init::{self, CANNOT, CANNOT_PREFIX, EnterSpec};

/// Kept of each output: the first and the last half.
const KEPT: usize = 16 << 10;
/// A line longer than this is given in pieces.
const LINE_MAX: usize = 64 << 10;
/// How long output may go on after the program's end. A daemon that it left may hold the pipe for ever.
const GRACE: Duration = Duration::from_secs(2);

impl LocalRoom {
    /// Runs a program to its end. Dropping the future kills the program and what it started in its process group.
    pub(crate) async fn exec(&self, exec: Exec) -> Result<Ended, Fault> {
        let Exec { argv, env, stdin, mut on_stderr } = exec;
        let program = argv.first().cloned().unwrap_or_default();
        let fault = |cause: String| Fault::new(Blame::Host, format!("run {program}")).cause(cause);
        if self.inside.released.load(Ordering::Acquire) {
            return Err(fault("the sandbox was released".to_owned()));
        }
        let mut command = self.inside.command(&argv).map_err(fault)?;
        command.envs(env).stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut child = command.spawn().map_err(|error| fault(error.to_string()))?;
        let group = Group(child.id());
        let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());

        let ended = CancellationToken::new();
        let (mut stdout, mut stderr, mut lines) = (Kept::default(), Kept::default(), Lines::default());
        let wait = async {
            let status = child.wait().await;
            ended.cancel();
            status
        };
        let feed = async {
            if let (Some(pipe), Some(chunks)) = (input, stdin) {
                // Whichever ends first: dropping the receiver is what stops the sender.
                tokio::select! {
                    () = feed(pipe, chunks) => {}
                    () = ended.cancelled() => {}
                }
            }
        };
        let keep = drain(output, &ended, |bytes| stdout.add(bytes));
        let hear = drain(errors, &ended, |bytes| {
            stderr.add(bytes);
            lines.add(bytes, &mut on_stderr);
        });
        let (status, (), (), ()) = tokio::join!(wait, feed, keep, hear);
        lines.end(&mut on_stderr);
        group.disarm();
        let status = code(status.map_err(|error| fault(error.to_string()))?);
        let (stdout, stderr) = (stdout.text(), stderr.text());
        if status == i32::from(CANNOT)
            && let Some(reason) = stderr.lines().last().and_then(|it| it.strip_prefix(CANNOT_PREFIX))
        {
            let hint = "If the program is there, see whether the machine was short of memory or processes.";
            return Err(fault(reason.to_owned()).hint(hint));
        }
        Ok(Ended { status, stdout, stderr })
    }
}

/// All that it takes to run programs in a room, for another process of ours as well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LocalDoor {
    enter: EnterSpec,
    pub(crate) bindir: PathBuf,
    locale: String,
    /// Process 1 of the room, by its number on the host, and when it started. None: no namespaces.
    init: Option<(u32, u64)>,
}

impl LocalDoor {
    /// `__enter` with a clean environment. `exe`: this program.
    pub(crate) fn command(&self, exe: &Path, argv: &[String]) -> Result<std::process::Command, String> {
        let spec = serde_json::to_string(&self.enter).map_err(|error| error.to_string())?;
        let root = &self.enter.directory;
        let mut command = std::process::Command::new(exe);
        command
            .arg(room_init::ENTER)
            .arg(spec)
            .args(argv)
            .env_clear()
            .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", self.bindir.display()))
            .env("HOME", root)
            .env("TMPDIR", root)
            .env("USER", &self.enter.user.name)
            .env("LC_ALL", &self.locale)
            .env("LANG", &self.locale)
            .current_dir("/");
        Ok(command)
    }

    /// Whether the room is gone, with all that ran in it.
    pub(in crate::runtime) fn is_closed(&self) -> bool {
        let is_it = |(pid, started): (u32, u64)| {
            processes::look(pid).is_some_and(|it| it.started == started && it.state != 'Z')
        };
        self.init.is_some_and(|it| !is_it(it))
    }

    /// Ends the room. Blocks until the kernel has ended all that ran in it, or for as long as that may take.
    pub(in crate::runtime) fn end(&self) {
        let Some((init, _)) = self.init else { return };
        let began = Instant::now();
        while !self.is_closed() && began.elapsed() < KILL_PATIENCE {
            processes::signal(init, Signal::SIGKILL);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Inside {
    pub(super) fn door(&self) -> LocalDoor {
        let enter = EnterSpec {
            anchor: self.namespaces.map(|it| it.anchor),
            user_namespace: self.namespaces.is_some_and(|it| it.user),
            user: self.user.clone(),
            directory: self.root.clone(),
            groups: self.group.directories.clone(),
        };
        let started = |pid: u32| processes::look(pid).map_or(0, |it| it.started);
        let init = self.namespaces.map(|it| (it.init, started(it.init)));
        LocalDoor { enter, bindir: self.bindir.clone(), locale: self.locale.clone(), init }
    }

    /// The caller adds standard input.
    fn command(&self, argv: &[String]) -> Result<Command, String> {
        let mut command = Command::from(self.door().command(&self.exe, argv)?);
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // The terminal's Ctrl-C is for pgdrill, which decides what to end.
            .process_group(0)
            .kill_on_drop(true);
        Ok(command)
    }
}

/// Kills a process group when dropped: `kill_on_drop` reaches only the process that we started, not the program.
struct Group(Option<u32>);

impl Group {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0.and_then(|it| i32::try_from(it).ok()) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

async fn feed(mut pipe: ChildStdin, mut chunks: mpsc::Receiver<Vec<u8>>) {
    while let Some(chunk) = chunks.recv().await {
        // A closed pipe is the program's choice; its status and words say why.
        if pipe.write_all(&chunk).await.is_err() {
            return;
        }
    }
    let _ = pipe.shutdown().await;
}

async fn drain(from: Option<impl AsyncRead + Unpin>, ended: &CancellationToken, mut each: impl FnMut(&[u8])) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; 16 << 10];
    let late = async {
        ended.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::pin!(late);
    loop {
        tokio::select! {
            biased;
            read = from.read(&mut buffer) => match read {
                Ok(0) | Err(_) => return,
                Ok(count) => each(&buffer[..count]),
            },
            () = &mut late => return,
        }
    }
}

fn code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|it| 128 + it)).unwrap_or(1)
}

/// The head and the tail of a text.
#[derive(Debug, Default)]
struct Kept {
    head: Vec<u8>,
    tail: Vec<u8>,
    left_out: usize,
}

impl Kept {
    fn add(&mut self, bytes: &[u8]) {
        let room = (KEPT / 2).saturating_sub(self.head.len()).min(bytes.len());
        let (head, rest) = bytes.split_at(room);
        self.head.extend_from_slice(head);
        self.tail.extend_from_slice(rest);
        // Cut now and then, not for each chunk.
        if self.tail.len() > KEPT {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let excess = self.tail.len().saturating_sub(KEPT / 2);
        self.tail.drain(..excess);
        self.left_out += excess;
    }

    fn text(mut self) -> String {
        self.cut();
        if self.left_out == 0 {
            self.head.append(&mut self.tail);
            return String::from_utf8_lossy(&self.head).into_owned();
        }
        let (head, tail) = (String::from_utf8_lossy(&self.head), String::from_utf8_lossy(&self.tail));
        format!("{head}\n[… {} bytes left out …]\n{tail}", self.left_out)
    }
}

/// Cuts a stream into lines.
#[derive(Debug, Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn add(&mut self, bytes: &[u8], each: &mut (dyn FnMut(&str) + Send)) {
        for piece in bytes.split_inclusive(|it| *it == b'\n') {
            let (text, whole) = piece.strip_suffix(b"\n").map_or((piece, false), |it| (it, true));
            self.0.extend_from_slice(text);
            if whole || self.0.len() >= LINE_MAX {
                self.give(each);
            }
        }
    }

    fn end(&mut self, each: &mut (dyn FnMut(&str) + Send)) {
        if !self.0.is_empty() {
            self.give(each);
        }
    }

    fn give(&mut self, each: &mut (dyn FnMut(&str) + Send)) {
        each(String::from_utf8_lossy(&self.0).trim_end_matches('\r'));
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_outputs_keep_their_head_and_tail() {
        let mut kept = Kept::default();
        kept.add(b"first");
        assert_eq!(kept.text(), "first");
        let mut kept = Kept::default();
        for number in 0..100_000 {
            kept.add(format!("{number}\n").as_bytes());
        }
        let text = kept.text();
        assert!(text.starts_with("0\n1\n2\n") && text.ends_with("99998\n99999\n"));
        assert!(text.contains("bytes left out") && text.len() < KEPT + 64, "{}", text.len());
    }

    #[test]
    fn lines_are_whole_whatever_the_chunks() {
        let mut heard = Vec::new();
        let mut lines = Lines::default();
        let mut each = |line: &str| heard.push(line.to_owned());
        for chunk in ["a", "b\nc\r\n", "\n", "caf\u{e9}"] {
            lines.add(chunk.as_bytes(), &mut each);
        }
        lines.add(&[0xff], &mut each);
        lines.end(&mut each);
        lines.end(&mut each);
        assert_eq!(heard, ["ab", "c", "", "caf\u{e9}\u{fffd}"]);
    }
}
