//! A sandbox over a room: what the actions of a recipe mean, the same for both kinds of room.

use std::io::{Read, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::bridge::Bridge;
use super::complaints::{Complaints, join_sqlstates};
use super::container::ContainerRoom;
use super::disk::DiskWatch;
use super::room::{Ended, Exec, Room};
use super::spool::Spool;
use super::sql::{Socket, Sql};
use super::untrusted::open_regular;
use super::{Progress, Sandbox, Watcher};
use crate::check::{Answer, Probe};
use crate::evidence::Guarantee;
use crate::fault::{Blame, Fault};
use crate::format::Compression;
use crate::format::lsn::Lsn;
use crate::format::pages::Suspect;
use crate::recipe::{Action, At, Command, HostCondition, Output, Step};
use crate::source::server::LOG_FILE;
use crate::store::{self, Counting, Outbox, Poured, Reading};

/// What the program says that starts others in a container, and is written in Go, where no thread is left for it.
const NO_THREAD: &str = "runtime: failed to create new OS thread";
/// The server's socket, in the run directory.
const SOCKET: &str = ".s.PGSQL.5432";
/// Of the server's log, what is looked at.
const LOG_BYTES: usize = 1 << 19;

/// How long a thread that was told to stop may take to notice.
const JOIN_PATIENCE: Duration = Duration::from_secs(10);

/// What psql is told to say when it has read everything.
const END_OF_INPUT: &str = "pgdrill-end-of-input";

/// Threads that move bytes, so that release can stop and join them before it wipes.
#[derive(Clone, Default)]
pub(crate) struct Movers {
    pub(crate) stop: Reading,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Movers {
    pub(crate) fn with(stop: Reading) -> Movers {
        Movers { stop, threads: Arc::default() }
    }

    /// Runs `work` on a blocking thread that release knows of.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Reading) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let (tell, told) = tokio::sync::oneshot::channel();
        let stop = self.stop.clone();
        let thread = tokio::task::spawn_blocking(move || {
            // Nobody listens any more when the drill was cancelled.
            let _ = tell.send(work(&stop));
        });
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        told.await.unwrap_or_else(|_| Err(Fault::new(Blame::Harness, "move bytes: the thread is gone")))
    }

    /// Runs `work` in the background until it ends or is told to stop.
    pub(crate) fn spawn(&self, work: impl FnOnce(&Reading) + Send + 'static) {
        let stop = self.stop.clone();
        let thread = tokio::task::spawn_blocking(move || work(&stop));
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
    }

    pub(crate) async fn join(&self) {
        self.stop.stop();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A read that hangs in the kernel (a network file system) cannot be stopped, and must not keep the rest.
            let _ = tokio::time::timeout(JOIN_PATIENCE, thread).await;
        }
    }
}

/// A sandbox whose rooms are real.
pub(crate) struct LiveSandbox {
    pub(crate) room: Room,
    /// The lease's scratch directory.
    pub(crate) scratch: PathBuf,
    pub(crate) movers: Movers,
    /// Of the file systems that the room fills.
    pub(super) disk: DiskWatch,
    /// Once WAL is served.
    pub(crate) spool: Mutex<Option<Spool>>,
    /// Takes WAL to a room that does not see the spool.
    pub(crate) bridge: Mutex<Option<Bridge>>,
    /// Where replay stopped, once it did; None at the end of WAL.
    pub(crate) replayed: Mutex<Option<Lsn>>,
    /// Pages of a base backup that looked wrong while it was unpacked.
    pub(crate) suspects: Mutex<Vec<Suspect>>,
    /// The bootstrap superuser, where a restored cluster brings its own.
    pub(crate) superuser: Arc<Mutex<String>>,
}

/// The lines of an output of which the middle may be left out, without those that were cut by that.
fn whole_lines(text: &str) -> impl Iterator<Item = &str> {
    let lines: Vec<&str> = text.lines().collect();
    let gap = lines.iter().position(|it| it.starts_with('[') && it.ends_with(" bytes left out]"));
    let cut = move |at: usize| gap.is_some_and(|gap| at + 1 >= gap && at <= gap + 1);
    lines.into_iter().enumerate().filter(move |(at, _)| !cut(*at)).map(|(_, line)| line)
}

#[async_trait]
impl Sandbox for LiveSandbox {
    async fn perform(&self, step: &Step, watch: &Watcher) -> Result<Output, Fault> {
        // What goes on in the room is ended by release, which follows.
        tokio::select! {
            done = self.act(step, watch) => done,
            full = self.disk.stop(&step.what) => Err(full),
        }
    }

    async fn ask(&self, probe: &Probe) -> Answer {
        let sql = self.sql();
        tokio::select! {
            answer = sql.ask(probe) => answer,
            full = self.disk.stop("ask") => Answer::Silent { because: full.causes.join(": ") },
        }
    }

    async fn observe(&self) -> Result<Vec<Guarantee>, Fault> {
        let mut guarantees = self.room.observe().await?;
        guarantees.push(self.disk.guarantee());
        Ok(guarantees)
    }

    async fn server_log(&self) -> String {
        if self.room.away().is_some() {
            return self.read_in_room().await.unwrap_or_default();
        }
        let path = self.scratch.join("run").join(LOG_FILE);
        match tokio::task::spawn_blocking(move || read_regular(&path)).await {
            Ok(Ok(bytes)) => head_and_tail(&bytes),
            // As an ordinary user: the log belongs to the container's user.
            Ok(Err(_)) | Err(_) => self.read_in_room().await.unwrap_or_default(),
        }
    }
}

impl LiveSandbox {
    async fn act(&self, step: &Step, watch: &Watcher) -> Result<Output, Fault> {
        let mut output = match &step.action {
            Action::Run(command) => self.run_program(command, watch).await?,
            Action::Stream { from, through, into } => self.stream(&step.what, from, *through, into, watch).await?,
            Action::Scan { from } => {
                let (from, mut progress) = (from.clone(), progress(&step.what, from, watch, &self.movers.stop));
                let read = self.movers.run(move |stop| store::scan(Path::new(&from), stop, &mut progress)).await?;
                poured(read)
            }
            Action::Copy { from, name } => {
                let (from, mut progress) = (from.clone(), progress(&step.what, from, watch, &self.movers.stop));
                if let Some((room, _)) = self.room.away() {
                    return self.send(room, from, name.clone(), progress).await.map(poured);
                }
                let to = self.scratch.join("spool").join(name);
                let read = self.movers.run(move |stop| store::copy(Path::new(&from), &to, stop, &mut progress)).await?;
                poured(read)
            }
            Action::Write { at, path, text } => {
                self.put(*at, path, text).await?;
                Output::default()
            }
            Action::Unpack { from, facts, part, beneath, hollow } => {
                self.unpack(&step.what, (from, facts, *part), (beneath, hollow), watch).await?
            }
            Action::Arm { configuration, recover, standby } => self.arm(configuration, (*recover, *standby)).await?,
            Action::ServeWal { from, until } => self.serve_wal(from, *until).await?,
            Action::Walk { to, .. } => self.walk(*to, &step.what, watch).await?,
            Action::Recover { target } => self.recover(target, watch).await?,
            Action::Promote => self.promote().await?,
            Action::LookAgain => self.look_again().await?,
            Action::LookAround { major, made_on, left_out } => self.look_around(*major, made_on, left_out).await,
            Action::ReadWal { from, target, whole } => self.read_wal(&step.what, from, target, *whole, watch).await?,
            Action::Compare { parts, copies, wal } => {
                let (parts, copies, wal) = (parts.clone(), copies.clone(), wal.clone());
                let mut progress = poured_progress(&step.what, None, watch);
                let compared =
                    self.movers.run(move |it| store::compare(&parts, &copies, wal.as_ref(), it, &mut progress)).await?;
                Output { compared: Some(compared), ..Output::default() }
            }
            Action::Verify { stanza, archive } => {
                let (stanza, archive) = (PathBuf::from(stanza), archive.as_ref().map(PathBuf::from));
                let mut progress = poured_progress(&step.what, None, watch);
                let verified =
                    self.movers.run(move |it| store::verify(&stanza, archive.as_deref(), it, &mut progress)).await?;
                Output { verified: Some(verified), ..Output::default() }
            }
            Action::Sql { database, statements } => {
                let errors = self.sql().execute(database, statements).await?;
                let errors_total = errors.len() as u64;
                Output { status: i32::from(errors_total > 0), errors, errors_total, ..Output::default() }
            }
        };
        if output.status != 0 || !output.errors.is_empty() {
            output.conditions = self.room.conditions().await;
            if self.disk.was_full() && !output.conditions.contains(&HostCondition::DiskFull) {
                output.conditions.push(HostCondition::DiskFull);
            }
        }
        Ok(output)
    }

    /// Of a server that the spool stopped, the spool's own words: the server only knows that a command failed.
    async fn run_program(&self, command: &Command, watch: &Watcher) -> Result<Output, Fault> {
        let output = tokio::select! {
            output = self.run(command, None, watch) => output?,
            stderr = self.starved() => Output { status: 1, stderr, ..Output::default() },
            // Where nobody there can be told, the server waits for ever.
            fault = self.cut_off() => return Err(fault),
        };
        match self.spool_trouble().filter(|_| output.status != 0) {
            Some(fault) => Err(fault),
            None => Ok(output),
        }
    }

    pub(super) async fn question(&self, probe: &Probe) -> Answer {
        self.sql().ask(probe).await
    }

    pub(super) async fn server_log_text(&self) -> String {
        self.server_log().await
    }

    pub(super) fn sql(&self) -> Sql {
        Sql {
            socket: match self.room.away() {
                Some((room, helper)) => Socket::Away(helper.clone(), format!("{}/{SOCKET}", room.path(At::Run))),
                None => Socket::Here(self.scratch.join("run").join(SOCKET)),
            },
            superuser: self.superuser.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    async fn run(
        &self,
        command: &Command,
        stdin: Option<mpsc::Receiver<Vec<u8>>>,
        watch: &Watcher,
    ) -> Result<Output, Fault> {
        let complaints = Arc::new(Mutex::new(match command.program.as_str() {
            "psql" => Complaints::psql(),
            _ => Complaints::pg_restore(),
        }));
        let (listener, watch) = (Arc::clone(&complaints), Arc::clone(watch));
        let on_stderr = Box::new(move |line: &str| {
            // With --verbose, pg_restore says what it is at: that is what a time-out should report.
            if let Some(state) = line.strip_prefix("pg_restore: ").filter(|it| it.starts_with("processing data")) {
                watch(Progress::Said(state.to_owned()));
            }
            listener.lock().unwrap_or_else(PoisonError::into_inner).line(line);
        });
        let exec = Exec { argv: self.room.argv(command), env: command.env.clone(), stdin, on_stderr };
        let Ended { status, stderr, stdout } = self.room.exec(exec).await?;
        let mut output = Output { status, stderr, stdout, ..Output::default() };
        if !matches!(command.program.as_str(), "psql" | "pg_restore") {
            if command.program == "pg_ctl" && output.status != 0 {
                // pg_ctl only says that it could not: the server's own words are in its log.
                output.stderr = format!("{}\n{}", refusals(&self.server_log().await), output.stderr);
            }
            return Ok(output);
        }
        let complaints = std::mem::replace(
            &mut *complaints.lock().unwrap_or_else(PoisonError::into_inner),
            Complaints::pg_restore(),
        );
        let (errors, total, _) = complaints.finish();
        if let Some(line) = output.stderr.lines().find(|it| it.starts_with(NO_THREAD)) {
            return Err(Fault::new(Blame::Host, format!("run {}", command.program)).cause(line.trim()).hint(
                "no process could be started there: see the limits on processes of the container and of the machine",
            ));
        }
        // What follows a complaint quotes data and statements, which may hold passwords: the parsed errors have what is needed.
        let own = format!("{}:", command.program);
        let is_own = |line: &&str| line.starts_with(&own) && !line.contains(": STATEMENT:  ");
        output.stderr = whole_lines(&output.stderr).filter(is_own).collect::<Vec<_>>().join("\n");
        (output.errors, output.errors_total) = (errors, total);
        if !output.errors.is_empty() && command.program == "pg_restore" {
            join_sqlstates(&mut output.errors, &self.server_log().await, "pg_restore");
        }
        Ok(output)
    }

    async fn stream(
        &self,
        what: &str,
        from: &str,
        through: Compression,
        into: &Command,
        watch: &Watcher,
    ) -> Result<Output, Fault> {
        // Chunks of 64 KiB: a few in flight keep both sides busy, and bound the memory.
        let (send, receive) = mpsc::channel::<Vec<u8>>(16);
        let (path, mut progress) = (from.to_owned(), progress(what, from, watch, &self.movers.stop));
        let is_text = into.program == "psql";
        let counting = counting(into);
        let pouring = self.movers.run(move |stop| {
            let mut sink = |chunk: &[u8]| match send.blocking_send(chunk.to_vec()) {
                Ok(()) => std::ops::ControlFlow::Continue(()),
                Err(_) => std::ops::ControlFlow::Break(()),
            };
            let poured = store::pour(Path::new(&path), through, counting, &mut sink, stop, &mut progress)?;
            if is_text {
                let _ = send.blocking_send(format!("\n\\echo {END_OF_INPUT}\n").into_bytes());
            }
            Ok(poured)
        });
        // Bytes that cannot be read end the step at once: the program only sees its input end, and pg_restore has been
        // seen to wait for ever for the rest of a tar archive.
        let (read, mut output) = tokio::try_join!(pouring, self.run(into, Some(receive), watch))?;
        if is_text && output.status == 0 && !output.stdout.contains(END_OF_INPUT) {
            return Err(Fault::new(Blame::Backup, what)
                .cause("psql stopped before the end of the text, and said nothing: a \\q in it, or a quote or COPY that never ends")
                .hint("Look at the end of the file, and for psql's own commands in it."));
        }
        if read.cut_short {
            output.seen = Some(read.seen);
            return Ok(output);
        }
        let read = poured(read);
        (output.bytes, output.sha256, output.seen) = (read.bytes, read.sha256, read.seen);
        (output.counted, output.damage) = (read.counted, read.damage);
        Ok(output)
    }

    /// Sends a file or a directory into the spool of a room that does not see it.
    async fn send(
        &self,
        room: &ContainerRoom,
        from: String,
        name: String,
        mut progress: impl FnMut(u64) + Send + 'static,
    ) -> Result<Poured, Fault> {
        let (outbox, receive) = Outbox::new();
        let packing = self.movers.run(move |stop| store::parcel(Path::new(&from), &name, &outbox, stop, &mut progress));
        sent(packing, room.receive(&room.path(At::Spool), receive)).await
    }

    /// A file of ours in the room.
    pub(super) async fn put(&self, at: At, path: &str, text: &str) -> Result<(), Fault> {
        match self.room.away() {
            Some((room, _)) => room.receive(&room.path(at), store::parcel_of(path, text)).await,
            None => self.write(at, path, text),
        }
    }

    fn write(&self, at: At, path: &str, text: &str) -> Result<(), Fault> {
        let directory = match at {
            At::Run => self.scratch.join("run"),
            At::Spool => self.scratch.join("spool"),
            At::Data | At::Input(_) | At::Bin => {
                return Err(Fault::new(Blame::Harness, format!("write {path} into {at:?}")));
            }
        };
        let path = directory.join(path);
        write_for(&path, text, self.room.user().uid, self.room.user().gid)
            .map_err(|error| Fault::new(Blame::Host, format!("write {}", path.display())).cause(error.to_string()))
    }

    async fn read_in_room(&self) -> Result<String, Fault> {
        let path = format!("{}/{LOG_FILE}", self.room.path(At::Run));
        if let Room::Container(room) = &self.room {
            return room.read(path, LOG_BYTES).await;
        }
        let argv = vec!["/bin/cat".to_owned(), path];
        let exec = Exec { argv, env: [].into(), stdin: None, on_stderr: Box::new(|_| ()) };
        Ok(self.room.exec(exec).await?.stdout)
    }
}

/// Waits for both ends of a parcel. The receiver's words come first: that it wanted no more is all that the sender knows.
pub(super) async fn sent<T>(
    sending: impl Future<Output = Result<T, Fault>>,
    receiving: impl Future<Output = Result<(), Fault>>,
) -> Result<T, Fault> {
    match tokio::join!(sending, receiving) {
        (Err(fault), _) if fault.blame != Blame::Harness => Err(fault),
        (_, Err(fault)) | (Err(fault), Ok(())) => Err(fault),
        (Ok(sent), Ok(())) => Ok(sent),
    }
}

/// Readable by the room's user and nobody else, where we may give files away; else by the mode alone, within a directory
/// that is ours.
///
/// The directory belongs to a server that runs restored code: what it may have put at this path is refused, not followed.
fn write_for(path: &Path, text: &str, uid: u32, gid: u32) -> std::io::Result<()> {
    let mut file = std::fs::File::create_new(path)?;
    file.write_all(text.as_bytes())?;
    let given = std::os::unix::fs::fchown(&file, Some(uid), Some(gid)).is_ok();
    let mode = if given { 0o600 } else { 0o644 };
    file.set_permissions(std::fs::Permissions::from_mode(mode))
}

/// At most the limit of what is looked at, twice: neither a link nor a pipe that the server put there is opened.
fn read_regular(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = open_regular(path)?;
    let length = file.metadata()?.len();
    let mut head = Vec::new();
    (&mut file).take(LOG_BYTES as u64).read_to_end(&mut head)?;
    if length > LOG_BYTES as u64 {
        file.seek(std::io::SeekFrom::Start(length - LOG_BYTES as u64))?;
        file.take(LOG_BYTES as u64).read_to_end(&mut head)?;
    }
    Ok(head)
}

/// Why a server did not start, from its log: what it said of its configuration, and its last words with their severity.
pub(super) fn refusals(log: &str) -> String {
    let words = |line: &str| {
        let severe = ["FATAL:  ", "PANIC:  "].iter().find_map(|it| line.find(it));
        let of_settings =
            || line.contains("parameter \"").then(|| line.split_once("  ").map_or(0, |(head, _)| head.len()));
        severe.or_else(of_settings).map(|at| line[at..].trim().to_owned())
    };
    log.lines().filter_map(words).take(4).collect::<Vec<_>>().join("; ")
}

/// What to count in what is streamed into this program.
fn counting(into: &Command) -> Counting {
    let says = |text: &str| into.args.iter().any(|it| matches!(it, crate::recipe::Arg::Text(it) if it == text));
    match () {
        () if into.program != "pg_restore" => Counting::Nothing,
        () if says("--format=c") => Counting::Custom,
        () if says("--format=t") => Counting::Tar,
        () => Counting::Nothing,
    }
}

fn poured(read: Poured) -> Output {
    let Poured { bytes, sha256, seen, counted, damage, cut_short: _ } = read;
    Output { bytes: Some(bytes), sha256: Some(sha256), seen: Some(seen), counted, damage, ..Output::default() }
}

/// Reports bytes as they pass, each mebibyte.
fn progress(what: &str, from: &str, watch: &Watcher, reading: &Reading) -> impl FnMut(u64) + Send + use<> {
    let total = store::look(Path::new(from), reading).ok().map(|seen| seen.bytes);
    poured_progress(what, total, watch)
}

pub(super) fn poured_progress(what: &str, total: Option<u64>, watch: &Watcher) -> impl FnMut(u64) + Send + use<> {
    let (what, watch) = (what.to_owned(), Arc::clone(watch));
    let mut told = 0;
    move |done| {
        if done >= told + (1 << 20) || Some(done) == total {
            told = done;
            watch(Progress::Bytes { what: what.clone(), done, total });
        }
    }
}

fn head_and_tail(bytes: &[u8]) -> String {
    if bytes.len() <= LOG_BYTES {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let half = LOG_BYTES / 2;
    let (head, tail) = (&bytes[..half], &bytes[bytes.len() - half..]);
    format!("{}\n…\n{}", String::from_utf8_lossy(head), String::from_utf8_lossy(tail))
}
