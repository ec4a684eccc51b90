//! `pgdrill run`: drills, one after the other or several at once, and reports that are rewritten after each.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use sha2::{Digest, Sha256};

use super::args::{Flavor, Run};
use super::load::{self, Loaded};
use super::out::{self, Kept, RunDirectory};
use super::pool::{self, Load, Share};
use super::progress::ProgressView;
use super::signals::Signals;
use super::world::{Surroundings, surroundings};
use super::{Exit, Screen, access, complain, complain_of, tell};
use crate::drill::{self, World};
use crate::evidence::{self, Event, Evidence, PhaseOutcome, SCHEMA, Start};
use crate::fault::{Blame, Fault};
use crate::phase::Phase;
use crate::report::junit::{self, Pending};
use crate::report::terminal::{self, Ending, Style};
use crate::report::{Drilled, EvidenceFile, Report, RunInfo};
use crate::runtime::machine::Machine;
use crate::runtime::reaper::Reaper;
use crate::runtime::{Progress, host, lease};
use crate::scenario::Drill;
use crate::source::service::Service;
use crate::store::{self, Reading};
use crate::verdict;

pub(crate) async fn run(args: &Run, screen: &Screen) -> Exit {
    let mut drills = match load::drills(&args.chosen, screen) {
        Ok(Loaded { drills, .. }) => drills,
        Err(exit) => return exit,
    };
    if let Some(keep) = args.keep {
        for drill in &mut drills {
            drill.keep = keep.into();
        }
    }
    let surroundings = match surroundings() {
        Ok(surroundings) => surroundings,
        Err(exit) => return exit,
    };
    let run = uuid::Uuid::now_v7().simple().to_string();
    let path = args.out.clone().unwrap_or_else(|| Path::new("pgdrill-out").join(&run));
    let writable = [&args.junit, &args.json].into_iter().flatten().filter(|it| it.as_os_str() != "-");
    let directory = writable.map(|it| out::check_writable(it)).collect::<Result<Vec<()>, Fault>>();
    let directory = match directory.and_then(|_| RunDirectory::create(&path)) {
        Ok(directory) => directory,
        Err(fault) => {
            complain_of(&fault);
            return Exit::Usage;
        }
    };
    let info = RunInfo { run, pgdrill: env!("CARGO_PKG_VERSION").to_owned(), started: jiff::Timestamp::now() };
    let running = Running { args, screen, surroundings: &surroundings, info, drills, directory };
    running.to_the_end().await
}

struct Running<'a> {
    args: &'a Run,
    screen: &'a Screen,
    surroundings: &'a Surroundings,
    info: RunInfo,
    drills: Vec<Drill>,
    directory: RunDirectory,
}

impl Running<'_> {
    async fn to_the_end(&self) -> Exit {
        let view = if self.args.quiet { ProgressView::silent() } else { ProgressView::new(self.screen.err_is_tty) };
        let view = Arc::new(view);
        let machine = self.surroundings.machine();
        let watcher = Arc::clone(&view);
        let last_words = format!(
            "left as it is: containers and volumes with the label pgdrill.run={}, directories {}/pgdrill-*; \
             they are removed in a moment, or by `pgdrill clean`",
            self.info.run,
            self.surroundings.base.display()
        );
        let started = Signals::watch(move |text| watcher.say(text), last_words)
            .and_then(|signals| Ok((signals, Reaper::start(&self.surroundings.exe, &self.info.run)?)));
        let (signals, reaper) = match started {
            Ok(started) => started,
            Err(error) => {
                complain_of(&Fault::new(Blame::Host, "start the process that cleans up").cause(error.to_string()));
                return Exit::Bug;
            }
        };
        tokio::select! {
            () = super::doctor::sweep_lapsed(self.surroundings, &machine) => (),
            () = signals.cancel.cancelled() => (),
        }
        let evidence = match self.drills((&machine, &view, &signals, &reaper)).await {
            Ok(evidence) => evidence,
            Err(fault) => {
                complain_of(&fault);
                return Exit::Bug;
            }
        };
        let written = self.report(&evidence, true);
        view.finish();
        // What is still there is the reaper's: it acts when we are gone without a word.
        if evidence.iter().flatten().all(is_released) {
            reaper.finish();
        }
        self.conclude(&evidence, &signals, written)
    }

    /// Runs the drills, as many at once as was asked and the machine bears. None: not started, since the run was interrupted.
    /// By their number, whichever ends first.
    async fn drills(
        &self,
        world: (&Machine, &Arc<ProgressView>, &Signals, &Reaper),
    ) -> Result<Vec<Option<Evidence>>, Fault> {
        let (.., signals, _) = world;
        let (machine, loads) = self.loads().await;
        let mut evidence = vec![None; self.drills.len()];
        let mut waiting: Vec<(usize, Load)> = loads.iter().copied().enumerate().collect();
        let (mut running, mut under_way) = (Vec::new(), FuturesUnordered::new());
        let mut trouble = None;
        self.report(&evidence, false);
        loop {
            // A run that was interrupted starts no more drills, and reports those it did not start.
            while !signals.cancel.is_cancelled() {
                let at_work: Vec<Load> = running.iter().map(|number: &usize| loads[*number]).collect();
                let Some(number) = pool::next(&waiting, &at_work, machine, self.args.jobs.get()) else { break };
                waiting.retain(|(it, _)| *it != number);
                running.push(number);
                under_way.push(async move { (number, self.drill(number, &self.drills[number], world).await) });
            }
            let Some((number, ended)) = under_way.next().await else { break };
            running.retain(|it| *it != number);
            match ended {
                Ok(seen) => evidence[number] = Some(seen),
                // The others still have to release what they made.
                Err(fault) => {
                    signals.cancel.cancel();
                    trouble = Some(fault);
                }
            }
            self.report(&evidence, false);
        }
        trouble.map_or(Ok(evidence), Err)
    }

    /// What there is of this machine, and what each drill asks of it.
    async fn loads(&self) -> (Share, Vec<Load>) {
        let (cpus, memory_bytes) = host::spare();
        let disk_bytes = host::disk(&self.surroundings.base).map_or(u64::MAX, |it| it.free);
        // One at a time needs no estimate. A store that cannot be listed is the drill's to report.
        let beside = if self.args.jobs.get() == 1 { &[] } else { self.drills.as_slice() };
        let of = |it: &Drill| (it.source.location().path.clone(), Reading::with(Arc::default(), access::of(it)));
        let paths: Vec<(String, Reading)> = beside.iter().map(of).collect();
        let sizes = tokio::task::spawn_blocking(move || {
            let size =
                |(path, reading): &(String, Reading)| store::list(path, reading).ok()?.iter().map(|it| it.bytes).max();
            paths.iter().map(|it| size(it).unwrap_or(0)).collect::<Vec<u64>>()
        });
        let mut sizes = sizes.await.unwrap_or_default();
        sizes.resize(self.drills.len(), 0);
        let load = |(drill, bytes): (&Drill, u64)| Load::of(drill, bytes, self.args.jobs_timed);
        (Share { cpus, memory_bytes, disk_bytes }, self.drills.iter().zip(sizes).map(load).collect())
    }

    /// How many others may be at work while this drill is.
    fn beside(&self, drill: &Drill) -> usize {
        if drill.objectives.rto.is_some() && !self.args.jobs_timed {
            return 0;
        }
        self.args.jobs.get().min(self.drills.len()) - 1
    }

    async fn drill(
        &self,
        number: usize,
        drill: &Drill,
        (machine, view, signals, reaper): (&Machine, &Arc<ProgressView>, &Signals, &Reaper),
    ) -> Result<Evidence, Fault> {
        let lease = lease::new(&self.surroundings.base, &self.info.run, number)?;
        machine.equip(&lease, access::reading_of(drill, &lease.scratch));
        reaper.watch(&lease.scratch);
        let start = Start {
            run: self.info.run.clone(),
            drill: lease.drill.clone(),
            at: jiff::Timestamp::now(),
            pgdrill: self.info.pgdrill.clone(),
            beside: self.beside(drill),
        };
        let (name, watching) = (drill.name.clone(), Arc::clone(view));
        let world = World {
            lease: lease.clone(),
            runtime: machine,
            cancel: signals.cancel.clone(),
            hurry: Arc::clone(&signals.hurry),
            record: &|event: &Event| {
                self.directory.record(&drill.name, event);
                view.event(&drill.name, event);
            },
            watch: Arc::new(move |progress: Progress| watching.progress(&name, progress)),
            keep_log: &|log: &str| self.directory.keep_log(&drill.name, log),
            keep_for: self.args.keep_for,
        };
        let evidence = drill::run(drill, start, &world).await;
        if is_kept(&evidence) {
            reaper.kept(&lease.scratch);
        } else if is_released(&evidence) {
            reaper.done(&lease.scratch);
        }
        Ok(evidence)
    }

    /// Rewrites evidence and reports. What was judged is what was kept: the report is made from the bytes on disk.
    /// False where they could not be written.
    fn report(&self, evidence: &[Option<Evidence>], last: bool) -> bool {
        let written = self.try_report(evidence, last);
        if let Err(fault) = &written {
            complain_of(fault);
        }
        written.is_ok()
    }

    fn try_report(&self, evidence: &[Option<Evidence>], last: bool) -> Result<(), Fault> {
        let text = serde_json::to_string_pretty(&self.kept(evidence))
            .map_err(|error| Fault::new(Blame::Harness, "write the evidence").cause(error.to_string()))?;
        self.directory.write("evidence.json", &text)?;
        let report = self.read_back()?;
        let json = report.to_json();
        let junit = |flavor| junit::crashed(&report, &self.pending(evidence), flavor);
        self.directory.write("report.json", &json)?;
        self.directory.write("junit.xml", &junit(junit::Flavor::from(self.args.junit_flavor)))?;
        for (path, text) in [(&self.args.json, json), (&self.args.junit, junit(self.args.junit_flavor.into()))] {
            match path {
                Some(path) if path.as_os_str() == "-" && !last => (),
                Some(path) if path.as_os_str() == "-" => tell(&text),
                Some(path) => out::write(path, text.as_bytes()).map_err(|error| {
                    Fault::new(Blame::Host, format!("write {}", path.display())).cause(error.to_string())
                })?,
                None => (),
            }
        }
        Ok(())
    }

    fn read_back(&self) -> Result<Report, Fault> {
        let (kept, bytes) = out::read_back(&self.directory.path)?;
        Ok(judged(self.info.clone(), kept, &bytes))
    }

    fn remembered(&self, evidence: &[Option<Evidence>]) -> Result<Report, Fault> {
        let bug =
            |error: serde_json::Error| Fault::new(Blame::Harness, "read back the evidence").cause(error.to_string());
        let bytes = serde_json::to_vec(&self.kept(evidence)).map_err(bug)?;
        Ok(judged(self.info.clone(), serde_json::from_slice(&bytes).map_err(bug)?, &bytes))
    }

    fn kept(&self, evidence: &[Option<Evidence>]) -> Kept {
        Kept { schema: SCHEMA, run: self.info.run.clone(), drills: evidence.iter().flatten().cloned().collect() }
    }

    fn pending(&self, evidence: &[Option<Evidence>]) -> Vec<Pending> {
        let pending = |it: &Drill| Pending { name: it.name.clone(), file: it.file.clone(), line: it.line };
        let open = self.drills.iter().zip(evidence).filter(|(_, seen)| seen.is_none());
        open.map(|(drill, _)| pending(drill)).collect()
    }

    fn conclude(&self, evidence: &[Option<Evidence>], signals: &Signals, written: bool) -> Exit {
        // Where nothing could be written, what is in memory is judged: what lies on the disk may be of an earlier drill.
        let report = if written { self.read_back() } else { self.remembered(evidence) };
        let report = match report {
            Ok(report) => report,
            Err(fault) => {
                complain_of(&fault);
                return Exit::Bug;
            }
        };
        let exit = match (signals.received(), Exit::from(report.verdict)) {
            (Some(signal), _) => Exit::Interrupted { signal },
            // A pass without its evidence is not what was asked for.
            (None, Exit::Passed) if !written => Exit::Inconclusive,
            (None, exit) => exit,
        };
        let ran = evidence.iter().flatten().count();
        if ran < self.drills.len() {
            complain(&format!("interrupted: {ran} of {} drills were run", self.drills.len()));
        }
        let files = ["junit.xml", "report.json", "evidence.json"];
        let files: Vec<String> = files.map(|it| self.directory.path.join(it).display().to_string()).into();
        let text = summary(&report, &files, exit, self.screen);
        let stdout_taken = [&self.args.json, &self.args.junit].into_iter().flatten().any(|it| it.as_os_str() == "-");
        if stdout_taken {
            complain(text.trim_end());
        } else {
            tell(&text);
        }
        exit
    }
}

/// Whether the sandbox is in the care of a process of its own.
fn is_kept(evidence: &Evidence) -> bool {
    matches!(evidence.kept, Some(evidence::Kept::Until(_)))
}

/// Whether nothing of the drill is left to be removed by this run.
fn is_released(evidence: &Evidence) -> bool {
    let ended = evidence.phase(Phase::Teardown).is_some_and(|it| it.outcome == PhaseOutcome::Completed);
    ended && evidence.remnants.is_empty()
}

/// The report of stored evidence.
pub(crate) fn judged(info: RunInfo, kept: Kept, bytes: &[u8]) -> Report {
    let sha256 = Sha256::digest(bytes).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let file = EvidenceFile { path: "evidence.json".to_owned(), sha256 };
    let drilled = |evidence: Evidence| {
        let judgement = verdict::judge(&evidence);
        Drilled { evidence, judgement, file: file.clone() }
    };
    Report::new(info, kept.drills.into_iter().map(drilled).collect())
}

pub(crate) fn summary(report: &Report, files: &[String], exit: Exit, screen: &Screen) -> String {
    let style = Style { color: screen.color_out, unicode: screen.unicode, width: screen.width };
    terminal::terminal(report, &Ending { files, exit: Some((exit.code(), exit.meaning())) }, style)
}

impl From<Flavor> for junit::Flavor {
    fn from(flavor: Flavor) -> junit::Flavor {
        match flavor {
            Flavor::Rich => junit::Flavor::Rich,
            Flavor::Strict => junit::Flavor::Strict,
        }
    }
}

/// For `pick: all`, and for scenarios that a path stands for.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    if path.to_str().is_some_and(|it| Service::of(it).is_some()) {
        return path.to_owned();
    }
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
