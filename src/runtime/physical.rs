//! What the actions of a physical restore mean: unpacking, arming, serving WAL, recovering, promoting.
//!
//! Until the server starts, everything in the room's data directory was written by us. From then on it is not trusted.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::bridge::Bridge;
use super::container::{ContainerRoom, ROOT};
use super::disarm::{TABLESPACES, disarm};
use super::room::Exec;
use super::sandbox::{LiveSandbox, poured_progress, sent};
use super::spool::Spool;
use super::{Progress, Watcher, witness};
use crate::check::{Answer, Probe, Table};
use crate::fault::{Blame, Fault};
use crate::format::authid;
use crate::format::base::BaseFacts;
use crate::format::lsn::Lsn;
use crate::format::page::PAGE;
use crate::format::pages::{Again, Now, Suspect};
use crate::recipe::{At, Command, Layer, Output, Recovered, Unpacked};
use crate::source::base_backup::{part_directory, required_settings, segment_bytes};
use crate::store::{self, Destination, Ground, Outbox, Parcel};
use crate::target::{Point, Target};

/// What is set aside of the restored data.
const ASIDE: &str = "aside";
const DISARM: &str = "set aside what the backup says of its own server";
/// In the spool directory.
const WAL_SPOOL: &str = "wal";
/// How often a server in recovery is asked how far it is.
const PAUSE: Duration = Duration::from_millis(50);
/// The same, on the way from one stop to the next.
const STRIDE: Duration = Duration::from_millis(10);
/// Of a question about recovery.
const PATIENCE: Duration = Duration::from_secs(60);
const DEFAULT_SEGMENT: u64 = 16 << 20;
/// How long a way to a server may be broken.
const SILENCE: Duration = Duration::from_secs(10);
/// At a page that looks wrong.
const LOOKS: usize = 3;
/// Pages that are asked for in one question.
const AT_ONCE: usize = 50;

impl LiveSandbox {
    pub(super) async fn unpack(
        &self,
        what: &str,
        (from, facts, part): (&str, &BaseFacts, Option<usize>),
        (beneath, hollow): (&[Layer], &[u32]),
        watch: &Watcher,
    ) -> Result<Output, Fault> {
        let (from, facts, beneath) = (PathBuf::from(from), facts.clone(), beneath.to_vec());
        let total = facts.bytes + beneath.iter().map(|it| it.facts.bytes).sum::<u64>();
        let mut progress = poured_progress(what, Some(total), watch);
        let (to, received) = self.destination(part, hollow);
        let unpacking = self.movers.run(move |stop| {
            let beneath: Vec<(&Path, &BaseFacts)> =
                beneath.iter().map(|it| (Path::new(&it.from), &*it.facts)).collect();
            let checked = store::unpack_checked((&from, &facts), &beneath, &to, stop, &mut progress)?;
            if let Ground::Away(outbox) = &to.ground {
                outbox
                    .end()
                    .map_err(|it| Fault::new(Blame::Harness, "send the data directory").cause(it.to_string()))?;
            }
            // A backup that is not what it was when it was surveyed proves nothing.
            Ok((checked, store::look(&from, stop)?))
        });
        let unpacked = match received.zip(self.room.away()) {
            Some((parcel, (room, _))) => sent(unpacking, room.receive(ROOT, parcel)).await,
            None => unpacking.await,
        };
        let ((written, manifest, pages), seen) = unpacked?;
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner).extend(pages.suspects.iter().cloned());
        let (manifest, pages) = (Some(manifest), Some(pages));
        let unpacked = Unpacked { files: written.files, bytes: written.bytes, manifest, pages };
        Ok(Output { bytes: Some(written.stored), unpacked: Some(unpacked), seen: Some(seen), ..Output::default() })
    }

    /// Where a backup is unpacked, or a part of a chain; and what comes of it as a parcel, where that is elsewhere.
    fn destination(&self, part: Option<usize>, hollow: &[u32]) -> (Destination, Option<Parcel>) {
        let (ground, received, root) = if self.room.away().is_some() {
            let (outbox, received) = Outbox::new();
            (Ground::Away(outbox), Some(received), Path::new(""))
        } else {
            (Ground::Here { owner: self.owner() }, None, &*self.scratch)
        };
        let (data, tablespaces, hollow) = match part {
            None => (root.join("data"), Some(root.join(TABLESPACES)), hollow.to_vec()),
            Some(part) => (root.join("spool").join(part_directory(part)), None, Vec::new()),
        };
        (Destination { data, tablespaces, ground, hollow }, received)
    }

    /// Who files that we make are to be given to: user and group. None: nobody but us.
    fn owner(&self) -> Option<(u32, u32)> {
        let user = self.room.user();
        let foreign = nix::unistd::geteuid().as_raw() != user.uid;
        foreign.then_some((user.uid, user.gid))
    }

    /// Pages that looked wrong before replay, as they lie on the disk now: the server itself reads them, since what lies in
    /// its directory by now is its own doing.
    pub(super) async fn look_again(&self) -> Result<Output, Fault> {
        let mut open = self.suspects.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if open.is_empty() {
            return Ok(Output::default());
        }
        let mut again = Vec::new();
        let database = crate::source::base_backup::DATABASE;
        if let Some(error) = self.sql().execute(database, &["checkpoint".to_owned()]).await?.first() {
            let now = Now::Unknown { because: error.to_string() };
            again = open.into_iter().map(|it| Again { file: it.file, block: it.block, now: now.clone() }).collect();
            return Ok(Output { again, ..Output::default() });
        }
        // The server may be writing a page just now: what looks wrong is looked at more than once.
        for look in 1..=LOOKS {
            let mut wrong = Vec::new();
            for suspects in open.chunks(AT_ONCE) {
                for (suspect, now) in suspects.iter().zip(self.pages_now(suspects).await) {
                    if look < LOOKS && matches!(now, Now::Wrong(_)) {
                        wrong.push(suspect.clone());
                    } else {
                        again.push(Again { file: suspect.file.clone(), block: suspect.block, now });
                    }
                }
            }
            if wrong.is_empty() {
                break;
            }
            open = wrong;
            tokio::time::sleep(PAUSE).await;
        }
        Ok(Output { again, ..Output::default() })
    }

    /// In the order of the suspects.
    async fn pages_now(&self, suspects: &[Suspect]) -> Vec<Now> {
        let place = |(at, it): (usize, &Suspect)| format!("({at}, '{}', {})", it.file.replace('\'', "''"), it.offset());
        let places: Vec<String> = suspects.iter().enumerate().map(place).collect();
        // Null where there is no such file.
        let sql = format!(
            "select encode(pg_read_binary_file(file, \"offset\", {PAGE}, true), 'hex') \
             from (values {}) suspect (at, file, \"offset\") order by at",
            places.join(", ")
        );
        let database = crate::source::base_backup::DATABASE.to_owned();
        let because = match self
            .question(&Probe { database, role: None, sql, timeout: PATIENCE, keep_rows: AT_ONCE })
            .await
        {
            Answer::Rows(Table { rows, .. }) if rows.len() == suspects.len() => {
                let digits = rows.into_iter().map(|it| it.into_iter().next().flatten());
                let bytes = digits.map(|it| it.as_deref().and_then(from_hex));
                return suspects.iter().zip(bytes).map(|(suspect, bytes)| suspect.again(bytes.as_deref())).collect();
            }
            Answer::Rows(_) => "the server gave fewer pages than it was asked for".to_owned(),
            Answer::Refused { sqlstate, message, .. } => format!("{sqlstate}: {message}"),
            Answer::Silent { because } => because,
        };
        vec![Now::Unknown { because }; suspects.len()]
    }

    /// See [`disarm`]; then our configuration, with what the backup's `pg_control` demands.
    ///
    /// `standby`: and wait for more WAL at the end of what there is.
    pub(super) async fn arm(&self, configuration: &str, (recover, standby): (bool, bool)) -> Result<Output, Fault> {
        let signal = recover.then_some(if standby { "standby.signal" } else { "recovery.signal" });
        let superuser = if let Some((room, _)) = self.room.away() {
            let (data, aside) = (room.path(At::Data), format!("{}/{ASIDE}", room.path(At::Spool)));
            let words = ["disarm", &data, &aside].into_iter().chain(signal);
            room.help(words).await.map_err(|it| Fault::new(Blame::Host, DISARM).cause(it.line()))?;
            superuser_away(room, &data).await
        } else {
            let (data, aside, owner) = (self.scratch.join("data"), self.scratch.join(ASIDE), self.owner());
            let done =
                tokio::task::spawn_blocking(move || disarm(&data, &aside, signal, owner).map(|()| superuser(&data)));
            let done = done.await.map_err(|error| Fault::new(Blame::Harness, DISARM).cause(error.to_string()))?;
            done.map_err(|error| Fault::new(Blame::Host, DISARM).cause(error.to_string()))?
        };
        if let Some(superuser) = superuser {
            *self.superuser.lock().unwrap_or_else(PoisonError::into_inner) = superuser;
        }
        let printed = self.control_data().await?;
        let text = format!("{configuration}{}", required_settings(&printed));
        self.put(At::Run, "postgresql.conf", &text).await?;
        self.put(At::Run, "pg_hba.conf", "local all all trust\n").await?;
        self.put(At::Run, "pg_ident.conf", "").await?;
        Ok(Output::default())
    }

    async fn control_data(&self) -> Result<String, Fault> {
        let command = Command::new("pg_controldata").arg("--pgdata").arg(crate::recipe::Arg::path(At::Data, ""));
        let env = crate::source::server::client_env();
        let exec = Exec { argv: self.room.argv(&command), env, stdin: None, on_stderr: Box::new(|_| ()) };
        let ended = self.room.exec(exec).await?;
        if ended.status != 0 || ended.stdout.contains("WARNING: Calculated CRC checksum does not match") {
            let why = ended.stderr.lines().chain(ended.stdout.lines()).next().unwrap_or_default().to_owned();
            return Err(Fault::new(Blame::Backup, "read the backup's pg_control").cause(why).hint(
                "the backup was cut or damaged: compare it with its manifest, where it has one (pg_verifybackup)",
            ));
        }
        Ok(ended.stdout)
    }

    pub(super) async fn serve_wal(&self, from: &str, until: Option<Lsn>) -> Result<Output, Fault> {
        let segment = segment_bytes(&self.control_data().await?).unwrap_or(DEFAULT_SEGMENT);
        let directory = self.scratch.join("spool").join(WAL_SPOOL);
        let spool = Spool::serve(Path::new(from), &directory, segment, until, &self.movers)?;
        if let Some((room, helper)) = self.room.away() {
            let there = format!("{}/{WAL_SPOOL}", room.path(At::Spool));
            let bridge = Bridge::start(helper, &there, directory, spool.clone()).await?;
            *self.bridge.lock().unwrap_or_else(PoisonError::into_inner) = Some(bridge);
        }
        *self.spool.lock().unwrap_or_else(PoisonError::into_inner) = Some(spool);
        Ok(Output::default())
    }

    fn spool(&self) -> Option<Spool> {
        self.spool.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why the spool stopped the server, if it did: better known here than from the server's log.
    pub(super) fn spool_trouble(&self) -> Option<Fault> {
        self.spool()?.served().trouble
    }

    /// Waits until the server waits at its target, or has ended recovery, or is no more.
    pub(super) async fn recover(&self, target: &Target, watch: &Watcher) -> Result<Output, Fault> {
        loop {
            let mut recovered = match self.heard().await? {
                Ok(state) => state,
                Err(stderr) => {
                    let recovered = self.proof(Recovered::default(), &self.server_log_text().await);
                    return Ok(Output { status: 1, stderr, recovered: Some(recovered), ..Output::default() });
                }
            };
            let replayed = recovered.1.replayed.clone().unwrap_or_default();
            watch(Progress::Said(format!("recovering to {}: replayed up to {replayed}", target.words())));
            if recovered.1.paused || !recovered.0 {
                let log = self.server_log_text().await;
                if !recovered.0 && target.point == Point::Latest {
                    recovered.1.replayed = None;
                }
                let recovered = self.proof(recovered.1, &log);
                let replayed = recovered.replayed.as_ref().and_then(|it| it.parse().ok());
                *self.replayed.lock().unwrap_or_else(PoisonError::into_inner) = replayed;
                return Ok(Output { recovered: Some(recovered), ..Output::default() });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Lets a standby have WAL up to this place, and waits until it stands there, or goes no further.
    pub(super) async fn walk(&self, to: Lsn, what: &str, watch: &Watcher) -> Result<Output, Fault> {
        let Some(spool) = self.spool() else { return Err(Fault::new(Blame::Harness, "walk without a spool")) };
        spool.advance(to);
        let (mut before, mut served_again) = (None, false);
        loop {
            let (stderr, recovered) = match self.heard().await? {
                Err(stderr) => (stderr, Recovered::default()),
                Ok((in_recovery, recovered)) => {
                    let replayed = recovered.replayed.as_ref().and_then(|it| it.parse::<Lsn>().ok());
                    let place = recovered.replayed.clone().unwrap_or_default();
                    watch(Progress::Said(format!("{what}: replayed up to {place} of {to}")));
                    let is_there = !in_recovery || replayed.is_some_and(|it| it >= to);
                    // Twice: what it was at when it asked last may be replayed by now.
                    let all = || spool.holds().then(|| "it has used all WAL before the stop".to_owned());
                    let why = spool.in_vain().or_else(all).filter(|_| before == Some(replayed));
                    before = Some(replayed);
                    // What it used may have been cut at the stop before: the question and the edge passed each other.
                    if why.is_some() && !is_there && !served_again {
                        (served_again, before) = (true, None);
                        spool.serve_again();
                        tokio::time::sleep(STRIDE).await;
                        continue;
                    }
                    match (is_there, recovered.paused, why) {
                        (true, ..) => (String::new(), Recovered { paused: in_recovery, ..recovered }),
                        (false, true, _) => {
                            let log = self.server_log_text().await;
                            let paused = log.lines().rev().find(|it| it.contains("insufficient parameter settings"));
                            let why = paused.and_then(|it| it.split_once("  ")).map_or("it paused", |it| it.1);
                            (format!("the server goes no further than {place}: {why}"), recovered)
                        }
                        (false, false, Some(why)) => {
                            (format!("the server goes no further than {place}: {why}"), recovered)
                        }
                        (false, false, None) => {
                            tokio::time::sleep(STRIDE).await;
                            continue;
                        }
                    }
                }
            };
            let recovered = self.proof(recovered, &self.server_log_text().await);
            let status = i32::from(!stderr.is_empty());
            return Ok(Output { status, stderr, recovered: Some(recovered), ..Output::default() });
        }
    }

    /// Waits until a server that is being started has nothing to go on with. For ever, where its WAL has no edge.
    pub(super) async fn starved(&self) -> String {
        let mut held = Duration::ZERO;
        loop {
            if let Some(why) = self.spool().and_then(|it| it.in_vain()) {
                return format!("the server goes no further than the backup's own WAL: {why}");
            }
            // A standby that knows too little of what ran when the backup was made (PROCARRAY snapshots with too many
            // subtransactions) takes no connections until it has replayed more.
            let holds = self.spool().is_some_and(|it| it.holds());
            held = if holds { held + PAUSE } else { Duration::ZERO };
            if held > PATIENCE {
                return "the server stands at the first stop, and takes no connections there yet: begin the sweep later".to_owned();
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Until WAL cannot be taken to the room any more.
    pub(super) async fn cut_off(&self) -> Fault {
        loop {
            let bridge = self.bridge.lock().unwrap_or_else(PoisonError::into_inner).is_some();
            if let Some(fault) = self.spool_trouble().filter(|_| bridge) {
                return fault;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// As [`Self::recovery`], however often the way to an engine elsewhere breaks meanwhile, for a time. The inner error: what the
    /// server says in its log, and why it gives no answer. A fault: what stopped it, or the way to it.
    async fn heard(&self) -> Result<Result<(bool, Recovered), String>, Fault> {
        let began = tokio::time::Instant::now();
        loop {
            if let Some(fault) = self.spool_trouble() {
                return Err(fault);
            }
            let because = match self.recovery().await {
                Ok(state) => return Ok(Ok(state)),
                Err(because) => because,
            };
            // It ends because of the trouble: between the question and the answer there may have been one.
            if let Some(fault) = self.spool_trouble() {
                return Err(fault);
            }
            let said = super::sandbox::refusals(&self.server_log_text().await);
            if self.room.away().is_none() || !said.is_empty() {
                return Ok(Err(format!("{said}\n{because}")));
            }
            if began.elapsed() > SILENCE {
                return Err(Fault::new(Blame::Host, "ask the server how far it is")
                    .cause(because)
                    .hint("The way to the container engine is broken, or the engine is busy: see its log."));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Whether it is in recovery, and how far. An error: what the server said, or that it said nothing.
    async fn recovery(&self) -> Result<(bool, Recovered), String> {
        let sql = "select pg_is_in_recovery(), pg_is_in_recovery() and pg_is_wal_replay_paused(), \
                   pg_last_wal_replay_lsn(), pg_last_xact_replay_timestamp()";
        // pg_is_wal_replay_paused() is an error once recovery has ended: ask for it only inside.
        let sql = sql.replace(
            "pg_is_in_recovery() and pg_is_wal_replay_paused()",
            "case when pg_is_in_recovery() then pg_is_wal_replay_paused() else false end",
        );
        let probe = Probe {
            database: crate::source::base_backup::DATABASE.to_owned(),
            role: None,
            sql,
            timeout: PATIENCE,
            keep_rows: 1,
        };
        match self.question(&probe).await {
            Answer::Rows(Table { rows, .. }) => {
                let row = rows.into_iter().next().unwrap_or_default();
                let value = |at: usize| row.get(at).cloned().flatten();
                let is = |at: usize| value(at).as_deref() == Some("t");
                let recovered =
                    Recovered { paused: is(1), replayed: value(2), last_commit: value(3), ..Recovered::default() };
                Ok((is(0), recovered))
            }
            Answer::Refused { sqlstate, message, .. } => Err(format!("{sqlstate}: {message}")),
            Answer::Silent { because } => Err(because),
        }
    }

    fn proof(&self, recovered: Recovered, log: &str) -> Recovered {
        let served = self.spool().map(|it| it.served()).unwrap_or_default();
        Recovered {
            log: recovery_lines(log),
            segments: served.segments,
            absent: served.absent.into_iter().collect(),
            ..recovered
        }
    }

    /// Reads what the spool gave to the server, and on until a transaction that was not replayed.
    pub(super) async fn read_wal(
        &self,
        what: &str,
        from: &str,
        target: &Target,
        whole: bool,
        watch: &Watcher,
    ) -> Result<Output, Fault> {
        let Some(spool) = self.spool() else { return Ok(Output::default()) };
        let replayed = *self.replayed.lock().unwrap_or_else(PoisonError::into_inner);
        let (archive, target, segments) = (PathBuf::from(from), target.clone(), spool.used());
        let segment_bytes = spool.segment_bytes();
        let (what, watch) = (what.to_owned(), Arc::clone(watch));
        let seen = self.movers.run(move |stop| {
            let mut said = |name: &str| watch(Progress::Said(format!("{what}: {name}")));
            witness::read(&archive, &segments, segment_bytes, &target, (replayed, whole), stop, &mut said)
        });
        Ok(Output { wal: Some(seen.await?), ..Output::default() })
    }

    pub(super) async fn promote(&self) -> Result<Output, Fault> {
        let database = crate::source::base_backup::DATABASE.to_owned();
        let probe = |sql: &str| Probe {
            database: database.clone(),
            role: None,
            sql: sql.to_owned(),
            timeout: Duration::from_secs(86400),
            keep_rows: 1,
        };
        // What a standby has by now is all that it gets.
        let walked = self.spool().is_some_and(|it| it.end_here());
        let sql = "select case when pg_is_in_recovery() then pg_promote(true, 86400) else true end";
        let promote = probe(sql);
        let answer = tokio::select! {
            answer = self.question(&promote) => answer,
            fault = self.cut_off() => return Err(fault),
        };
        match answer {
            Answer::Rows(Table { rows, .. })
                if rows.first().and_then(|it| it.first()).cloned().flatten().as_deref() == Some("t") =>
            {
                // Whether it replayed more, when it was promoted.
                let recovered = if walked { self.recovery().await.ok() } else { None };
                Ok(Output { recovered: recovered.map(|it| it.1), ..Output::default() })
            }
            Answer::Rows(_) => {
                Ok(Output { status: 1, stderr: "the server was not promoted".to_owned(), ..Output::default() })
            }
            Answer::Refused { sqlstate, message, .. } => {
                Ok(Output { status: 1, stderr: format!("{sqlstate}: {message}"), ..Output::default() })
            }
            Answer::Silent { because } => {
                if let Some(fault) = self.spool_trouble() {
                    return Err(fault);
                }
                let said = super::sandbox::refusals(&self.server_log_text().await);
                if said.is_empty() && self.room.away().is_some() {
                    return Err(Fault::new(Blame::Host, "promote the server").cause(because));
                }
                Ok(Output { status: 1, stderr: format!("{said}\n{because}"), ..Output::default() })
            }
        }
    }
}

fn from_hex(digits: &str) -> Option<Vec<u8>> {
    digits.as_bytes().chunks(2).map(|it| u8::from_str_radix(std::str::from_utf8(it).ok()?, 16).ok()).collect()
}

/// What the server's log says of recovery, without its prefix: never statements, which could be data.
fn recovery_lines(log: &str) -> Vec<String> {
    const TELLING: [&str; 16] = [
        "starting point-in-time recovery",
        "starting archive recovery",
        "starting backup recovery",
        "redo starts at",
        "redo done at",
        "redo in progress",
        "completed backup recovery",
        "consistent recovery state reached",
        "consistent state reached",
        "recovery stopping",
        "pausing at the end of recovery",
        "recovery has paused",
        "last completed transaction was at log time",
        "selected new timeline ID",
        "archive recovery complete",
        "recovery ended before",
    ];
    let text = |line: &str| {
        let (_, text) = line.split_once("LOG:  ").or_else(|| line.split_once("FATAL:  "))?;
        TELLING.iter().any(|it| text.starts_with(it)).then(|| text.to_owned())
    };
    log.lines().filter_map(text).take(100).collect()
}

/// As [`superuser`], of data that lie where only the engine sees them.
async fn superuser_away(room: &ContainerRoom, data: &str) -> Option<String> {
    let read = async |file: String| from_hex(&room.help(["hex", &format!("{data}/global/{file}")]).await.ok()?);
    let file = authid::authid_file(&read("pg_filenode.map".to_owned()).await?)?;
    authid::bootstrap_superuser(&read(file.to_string()).await?)
}

/// See [`authid`].
fn superuser(data: &Path) -> Option<String> {
    let global = data.join("global");
    let file = authid::authid_file(&fs::read(global.join("pg_filenode.map")).ok()?)?;
    authid::bootstrap_superuser(&fs::read(global.join(file.to_string())).ok()?)
}
