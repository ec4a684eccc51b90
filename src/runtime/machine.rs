//! This machine: its files, its container engine and its own PostgreSQL programs, as one runtime.
//!
//! Which of the two kinds of sandbox a drill gets is decided while learning which server could run the backup; from then
//! on the plan says it, and everything else follows the plan.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;

use super::container::Container;
use super::disk::DiskWatch;
use super::host::host_facts;
use super::keeper::{self, Door, Kept};
use super::lease::{self, Renewal};
use super::local::Local;
use super::room::Room;
use super::sandbox::{LiveSandbox, Movers};
use super::{Keep, Lease, Progress, Runtime, Sandbox, Watcher};
use crate::evidence::Fetched;
use crate::fault::{Blame, Fault};
use crate::plan::SandboxSpec;
use crate::recipe::{FileSeen, Learnt, Question, RuntimeChoice, RuntimeKind, ServerFacts};
use crate::source::server::SUPERUSER;
use crate::store::{self, Reading};

/// Both kinds of sandbox behind one interface.
pub(crate) struct Machine {
    pub(crate) container: Container,
    pub(crate) local: Local,
    /// How long a sandbox outlives a lease that nobody renews.
    pub(crate) patience: std::time::Duration,
    active: Mutex<HashMap<String, Active>>,
}

/// What goes on for one lease, besides its sandbox.
#[derive(Default)]
struct Active {
    movers: Movers,
    renewal: Option<Renewal>,
    /// Once there is a room.
    way_in: Option<WayIn>,
}

/// What another process must know to enter a room, and to keep it.
struct WayIn {
    door: Door,
    /// As whom its server knows us, by then.
    superuser: Arc<Mutex<String>>,
    disk: Option<PathBuf>,
}

impl Machine {
    pub(crate) fn new(container: Container, local: Local, patience: std::time::Duration) -> Machine {
        Machine { container, local, patience, active: Mutex::default() }
    }

    /// What a drill reads with. Before anything is learnt for it.
    pub(crate) fn equip(&self, lease: &Lease, reading: Reading) {
        let movers = Movers::with(reading);
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        active.insert(lease.drill.clone(), Active { movers, ..Active::default() });
    }

    fn movers(&self, lease: &Lease) -> Movers {
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        active.entry(lease.drill.clone()).or_default().movers.clone()
    }

    /// The server for a backup, by the runtime's choice: a container first, unless the scenario says otherwise.
    async fn server(
        &self,
        lease: &Lease,
        choice: RuntimeChoice,
        (major, image, trusted): (u32, Option<&str>, bool),
        watch: &Watcher,
    ) -> Result<ServerFacts, Vec<Fault>> {
        let mut refused = Vec::new();
        if matches!(choice, RuntimeChoice::Auto | RuntimeChoice::Container) {
            match self.container.server(lease, major, image, watch).await {
                Ok(server) => return Ok(server),
                Err(fault) => refused.push(fault),
            }
        }
        if matches!(choice, RuntimeChoice::Auto | RuntimeChoice::Local) {
            match self.local.server(lease, major, trusted).await {
                Ok(server) => return Ok(ServerFacts { passed_over: refused, ..server }),
                Err(fault) => refused.push(fault),
            }
        }
        Err(refused)
    }
}

#[async_trait]
impl Runtime for Machine {
    async fn prepare(&self, lease: &Lease) -> Result<(), Fault> {
        lease::make(lease, self.patience)?;
        let movers = self.movers(lease);
        let renewal = Renewal::start(lease)
            .map_err(|error| Fault::new(Blame::Host, "renew the lease on the sandbox").cause(error.to_string()))?;
        let active = Active { movers, renewal: Some(renewal), way_in: None };
        self.active.lock().unwrap_or_else(PoisonError::into_inner).insert(lease.drill.clone(), active);
        Ok(())
    }

    async fn learn(&self, lease: &Lease, question: &Question, watch: &Watcher) -> Result<Learnt, Fault> {
        let movers = self.movers(lease);
        match question.clone() {
            Question::List { pattern } => movers.run(move |it| store::list(&pattern, it)).await.map(Learnt::Files),
            Question::Dump { path, select } => {
                let watch = watch.clone();
                let reading = move |stop: &store::Reading| {
                    let (what, total) =
                        (format!("read {path}"), store::look(Path::new(&path), stop).ok().map(|it| it.bytes));
                    let mut told = 0;
                    let mut tell = |done: u64| {
                        if done >= told + (1 << 20) {
                            told = done;
                            watch(Progress::Bytes { what: what.clone(), done, total });
                        }
                    };
                    store::dump_facts(Path::new(&path), &select, stop, &mut tell)
                };
                movers.run(reading).await.map(|facts| Learnt::Dump(Box::new(facts)))
            }
            Question::Base { path, tablespaces } => {
                let reading = move |stop: &store::Reading| store::base_facts(Path::new(&path), &tablespaces, stop);
                movers.run(reading).await.map(|facts| Learnt::Base(Box::new(facts)))
            }
            Question::Archive { path, timeline, start } => {
                let reading = move |stop: &store::Reading| store::wal_archive(Path::new(&path), timeline, start, stop);
                movers.run(reading).await.map(Box::new).map(Learnt::Archive)
            }
            Question::Window(way) => movers.run(move |stop| store::wal_window(&way, stop)).await.map(Learnt::Window),
            Question::Stops { way, consistent, targets } => {
                let watch = watch.clone();
                let reading = move |stop: &store::Reading| {
                    let mut said =
                        |name: &str| watch(Progress::Said(format!("look for the targets in the WAL: {name}")));
                    store::wal_stops(&way, consistent, &targets, stop, &mut said)
                };
                movers.run(reading).await.map(Box::new).map(Learnt::Stops)
            }
            Question::Search(part) => movers.run(move |stop| store::search(&part, stop)).await.map(Learnt::Searched),
            Question::Bases { paths, tablespaces } => {
                let reading = move |stop: &store::Reading| Ok(store::bases(&paths, &tablespaces, stop));
                movers.run(reading).await.map(Learnt::Bases)
            }
            Question::Headers { paths } => {
                movers.run(move |stop| Ok(store::headers(&paths, stop))).await.map(Learnt::Headers)
            }
            Question::Text { path } => {
                movers.run(move |it| store::read_text(Path::new(&path), it)).await.map(Learnt::Text)
            }
            Question::Server { runtime, major, image, trusted } => {
                // A plan alone has no scratch directory yet. What is tried is tried in one with a mark, so that what a kill
                // in mid-try leaves is found; the release at the end of every survey removes it.
                if !lease.scratch.exists() {
                    lease::make(lease, self.patience)?;
                }
                let found = self.server(lease, runtime, (major, image.as_deref(), trusted), watch).await;
                Ok(match found {
                    Ok(server) => Learnt::Server(Box::new(server)),
                    Err(reasons) => Learnt::NoServer { reasons },
                })
            }
            Question::Host => {
                let base = lease.scratch.parent().unwrap_or(&lease.scratch).to_owned();
                movers.run(move |_| Ok(host_facts(&base))).await.map(Learnt::Host)
            }
        }
    }

    async fn look(&self, lease: &Lease, path: &str) -> Result<FileSeen, Fault> {
        let path = path.to_owned();
        self.movers(lease).run(move |it| store::look(Path::new(&path), it)).await
    }

    async fn create(&self, lease: &Lease, spec: &SandboxSpec, watch: &Watcher) -> Result<Box<dyn Sandbox>, Fault> {
        let room = match spec.server.runtime {
            RuntimeKind::Container => Room::Container(self.container.create(lease, spec, watch).await?),
            RuntimeKind::Local => Room::Local(self.local.create(lease, spec).await?),
            RuntimeKind::Fake => return Err(Fault::new(Blame::Harness, "make a scripted sandbox on a real machine")),
        };
        let superuser = Arc::new(Mutex::new(SUPERUSER.to_owned()));
        if let Some(active) = self.active.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&lease.drill) {
            let disk = room.disk(&lease.scratch).map(Path::to_owned);
            active.way_in = Some(WayIn { door: room.door(), superuser: Arc::clone(&superuser), disk });
        }
        Ok(Box::new(LiveSandbox {
            disk: DiskWatch::keep(room.disk(&lease.scratch), &lease.scratch),
            room,
            scratch: lease.scratch.clone(),
            movers: self.movers(lease),
            spool: Mutex::default(),
            bridge: Mutex::default(),
            replayed: Mutex::default(),
            suspects: Mutex::default(),
            superuser,
        }))
    }

    async fn keep(&self, lease: &Lease, keep: &Keep) -> Result<Timestamp, Fault> {
        let fault = |cause: &str| Fault::new(Blame::Harness, "keep the sandbox").cause(cause);
        let (movers, renewal, way_in) = {
            let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
            let active = active.get_mut(&lease.drill).ok_or_else(|| fault("there is none"))?;
            (active.movers.clone(), active.renewal.take(), active.way_in.take())
        };
        let WayIn { door, superuser, disk } = way_in.ok_or_else(|| fault("it was never made"))?;
        movers.join().await;
        let until = Timestamp::now().checked_add(keep.length).map_err(|_| fault("it would be kept for ever"))?;
        let kept = Kept {
            lease: lease.clone(),
            name: keep.name.clone(),
            until,
            length_seconds: keep.length.as_secs(),
            patience_seconds: self.patience.as_secs(),
            database: keep.database.clone(),
            superuser: superuser.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            door,
            disk,
        };
        // One holds the lease at a time.
        drop(renewal);
        let pipe = self.local.let_go(lease).await;
        keeper::start(self.local.exe(), &kept, pipe).await?;
        self.active.lock().unwrap_or_else(PoisonError::into_inner).remove(&lease.drill);
        Ok(until)
    }

    fn fetched(&self, lease: &Lease) -> Option<Fetched> {
        let active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        active.get(&lease.drill)?.movers.stop.fetched()
    }

    async fn release(&self, lease: &Lease, hurry: bool) -> Vec<String> {
        let active = self.active.lock().unwrap_or_else(PoisonError::into_inner).remove(&lease.drill);
        let (movers, renewal) = active.map_or((None, None), |it| (Some(it.movers), it.renewal));
        if let Some(movers) = &movers {
            movers.stop.stop();
        }
        // The container first: what writes into the scratch directory must be gone before that is wiped.
        let mut remnants = self.container.release(lease, hurry).await;
        if let Some(movers) = movers {
            movers.join().await;
        }
        let stayed = !remnants.is_empty();
        remnants.extend(self.local.release(lease, hurry).await);
        drop(renewal);
        if stayed
            && let Ok(engine) = self.container.engine().await
            && let Err(fault) = lease::remember(lease, self.patience, engine.endpoint)
        {
            remnants.push(fault.line());
        }
        remnants
    }
}
