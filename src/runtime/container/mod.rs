//! The container runtime: throwaway containers that run one restored server each.
//!
//! testcontainers builds and starts a container; all that it lacks (exec with back-pressure, events, removal by name) goes
//! through the bollard client that it hands out. What surprises: its handle is forgotten right after the start, on
//! purpose. Its `Drop` blocks the thread, panics outside of a runtime, and knows only what it made itself; here a drill's
//! things are removed by their label, whether or not anybody still holds a handle.

mod credentials;
mod discover;
mod door;
mod engine;
mod image;
mod look;
mod output;
mod probe;
pub(super) mod remote;
pub(super) mod room;
mod sweep;
#[cfg(test)]
mod tests;
mod vigil;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use tokio::sync::{OnceCell, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub(crate) use discover::DockerEnvironment;
pub(crate) use door::{ContainerDoor, Conversation, RUN};
pub(crate) use engine::EngineFacts;
pub(crate) use image::LocalImage;
pub(crate) use room::ContainerRoom;
pub(in crate::runtime) use room::ROOT;
pub(crate) use sweep::{Sweep, Swept};

use super::{Lease, Progress, Watcher, host};
use crate::fault::{Blame, Fault};
use crate::plan::SandboxSpec;
use crate::recipe::{RuntimeKind, ServerFacts};
use engine::Engine;
use image::Found;
use probe::Probed;

/// On everything of a run.
const LABEL_RUN: &str = "pgdrill.run";
/// On everything of a drill.
const LABEL_DRILL: &str = "pgdrill.drill";
/// `server` or `probe`.
const LABEL_ROLE: &str = "pgdrill.role";
/// Seconds after which a lease that was not renewed has lapsed.
const LABEL_PATIENCE: &str = "pgdrill.patience";
/// The drill's scratch directory on the host; the lease is `run/lease` in it.
const LABEL_SCRATCH: &str = "pgdrill.scratch";

#[derive(Clone, Debug)]
pub(crate) struct ContainerSettings {
    /// Facts of images are kept here, by image id. Made when needed.
    pub(crate) cache_dir: PathBuf,
    /// After this time without a renewed lease the guard ends the sandbox.
    pub(crate) patience: Duration,
    pub(crate) docker: DockerEnvironment,
}

/// The container runtime of one process. Cheap to make; connects when first asked.
pub(crate) struct Container {
    settings: ContainerSettings,
    engine: OnceCell<Engine>,
    /// Whether the engine sees our files.
    sight: OnceCell<bool>,
    /// Creations under way or done, by drill: they outlive callers that stopped listening.
    owned: Mutex<HashMap<String, Vec<JoinHandle<()>>>>,
}

/// What a container is for.
#[derive(Clone, Copy)]
enum Role {
    Server,
    Probe,
}

impl Container {
    pub(crate) fn new(settings: ContainerSettings) -> Container {
        Container { settings, engine: OnceCell::new(), sight: OnceCell::new(), owned: Mutex::default() }
    }

    /// Which engine answers. Takes a few seconds at most; a Fault says what was tried. Only success is remembered.
    pub(crate) async fn engine(&self) -> Result<EngineFacts, Fault> {
        Ok(self.connect().await?.facts.clone())
    }

    /// A server of this major version: finds its image (`{major}` is replaced; None: `postgres:{major}`, else
    /// `pgdrill-postgres:{major}`, else `postgres:{major}` is pulled), looks into it once, and remembers what it saw.
    pub(crate) async fn server(
        &self,
        lease: &Lease,
        major: u32,
        image: Option<&str>,
        watch: &Watcher,
    ) -> Result<ServerFacts, Fault> {
        let engine = self.connect().await?;
        let found = image::find(&engine.docker, major, image, watch).await?;
        let cache_dir = &self.settings.cache_dir;
        let probed = if let Some(probed) = image::cached(cache_dir, &found.facts.id) {
            probed
        } else {
            watch(Progress::Said(format!("looking into the image {}", found.facts.reference)));
            let (engine, lease_, facts) = (engine.clone(), lease.clone(), found.facts.clone());
            let patience = self.settings.patience.as_secs();
            let look = async move { image::probe(&engine, &lease_, &facts, patience).await };
            let probed = self.own(lease, look).await?;
            image::keep(cache_dir, &found.facts.id, &probed);
            probed
        };
        let sees = self.sees_our_files(engine, lease, &found.facts.id).await?;
        server_facts(engine, sees, major, image.is_some(), found, &probed)
    }

    /// Makes the sandbox's container, with its guard running and its directories ready.
    pub(crate) async fn create(
        &self,
        lease: &Lease,
        spec: &SandboxSpec,
        watch: &Watcher,
    ) -> Result<ContainerRoom, Fault> {
        let engine = self.connect().await?.clone();
        watch(Progress::Said(format!("starting the container {}", container_name(lease))));
        let (lease_, spec, patience) = (lease.clone(), spec.clone(), self.settings.patience);
        self.own(lease, async move { room::make(engine, &lease_, &spec, patience, |_| ()).await }).await
    }

    /// Waits for creations under way, removes all that carries this drill's label, and returns what would not go.
    /// `hurry` waits less. Without an engine there is nothing to release: nothing can have been made.
    pub(crate) async fn release(&self, lease: &Lease, hurry: bool) -> Vec<String> {
        let Some(engine) = self.engine.get() else { return Vec::new() };
        let limit = Duration::from_secs(if hurry { 10 } else { 60 });
        let deadline = Instant::now() + limit;
        let owned = self.owned.lock().map(|mut it| it.remove(&lease.drill).unwrap_or_default()).unwrap_or_default();
        let mut remnants = Vec::new();
        for mut creation in owned {
            if tokio::time::timeout_at(deadline, &mut creation).await.is_err() {
                creation.abort();
                remnants.push(format!("what the engine was still making for drill {}", lease.drill));
            }
        }
        let label = format!("{LABEL_DRILL}={}", lease.drill);
        let unreachable = |why: &str| {
            format!("whatever has the label {label}: {why}; `pgdrill clean` removes it when the engine is back")
        };
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(2));
        match tokio::time::timeout(left * 2, sweep::purge(&engine.docker, &label, left, |_| true)).await {
            Ok(Ok(swept)) => remnants.extend(swept.remnants),
            Ok(Err(error)) => remnants.push(unreachable(&engine::text(&error))),
            Err(_) => remnants.push(unreachable("the engine did not answer")),
        }
        remnants
    }

    /// Removes what other runs left behind, or what one run made. A Fault where no engine answers: then nothing is known.
    pub(crate) async fn sweep(&self, which: Sweep) -> Result<Swept, Fault> {
        let docker = &self.connect().await?.docker;
        let limit = Duration::from_secs(60);
        let swept = match which {
            Sweep::Run { run, except } => {
                let others = |thing: &sweep::Labelled<'_>| !thing.is_of(&except);
                sweep::purge(docker, &format!("{LABEL_RUN}={run}"), limit, others).await
            }
            Sweep::Lapsed { scratches } => {
                let now = SystemTime::now();
                let lapsed = |thing: &sweep::Labelled<'_>| thing.is_of(&scratches) || thing.has_lapsed(now);
                sweep::purge(docker, LABEL_RUN, limit, lapsed).await
            }
        };
        swept.map_err(|error| engine::fault("remove what earlier drills left behind", &error))
    }

    /// What a sweep of what has lapsed would remove.
    pub(crate) async fn lapsed(&self, scratches: &[PathBuf]) -> Result<Vec<String>, Fault> {
        let (docker, now) = (&self.connect().await?.docker, SystemTime::now());
        let lapsed = |thing: &sweep::Labelled<'_>| thing.is_of(scratches) || thing.has_lapsed(now);
        let found = sweep::find(docker, LABEL_RUN, lapsed).await;
        found.map_err(|error| engine::fault("look for what earlier drills left behind", &error))
    }

    /// Images of this machine that could run a server.
    pub(crate) async fn images(&self) -> Result<Vec<LocalImage>, Fault> {
        image::local(&self.connect().await?.docker, &self.settings.cache_dir).await
    }

    /// Learnt once, by a container that is never started.
    async fn sees_our_files(&self, engine: &Engine, lease: &Lease, image: &str) -> Result<bool, Fault> {
        let look = || {
            let (docker, lease_, image) = (engine.docker.clone(), lease.clone(), image.to_owned());
            let patience = self.settings.patience.as_secs();
            self.own(lease, async move { remote::sees_our_files(&docker, &lease_, &image, patience).await })
        };
        self.sight.get_or_try_init(look).await.copied()
    }

    async fn connect(&self) -> Result<&Engine, Fault> {
        self.engine.get_or_try_init(|| engine::connect(&self.settings.docker)).await
    }

    /// Runs a creation in a task of its own: whoever waits for it may stop waiting, and `release` still knows of it.
    async fn own<T: Send + 'static>(
        &self,
        lease: &Lease,
        creation: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Result<T, Fault> {
        let (tell, told) = oneshot::channel();
        let task = tokio::spawn(async move {
            // Nobody may be listening any more.
            drop(tell.send(creation.await));
        });
        if let Ok(mut owned) = self.owned.lock() {
            owned.entry(lease.drill.clone()).or_default().push(task);
        }
        told.await.unwrap_or_else(|_| Err(Fault::new(Blame::Harness, "make a container: its task ended early")))
    }
}

/// Known before anything exists; release needs no more.
fn container_name(lease: &Lease) -> String {
    // The drill's name begins with `pgdrill-` where pgdrill itself made it.
    if lease.drill.starts_with("pgdrill-") { lease.drill.clone() } else { format!("pgdrill-{}", lease.drill) }
}

fn labels(lease: &Lease, role: Role, patience: u64) -> HashMap<String, String> {
    let role = match role {
        Role::Server => "server",
        Role::Probe => "probe",
    };
    let label = |name: &str, value: String| (name.to_owned(), value);
    HashMap::from([
        label(LABEL_RUN, lease.run.clone()),
        label(LABEL_DRILL, lease.drill.clone()),
        label(LABEL_ROLE, role.to_owned()),
        label(LABEL_PATIENCE, patience.to_string()),
        label(LABEL_SCRATCH, lease.scratch.display().to_string()),
    ])
}

/// Puts together what was learnt of engine and image, or says why this image cannot serve.
fn server_facts(
    engine: &Engine,
    sees: bool,
    major: u32,
    named: bool,
    found: Found,
    probed: &Probed,
) -> Result<ServerFacts, Fault> {
    let reference = &found.facts.reference;
    let blame = if named { Blame::Scenario } else { Blame::Host };
    let fault = |cause: String| Fault::new(blame, format!("use the image {reference}")).cause(cause);
    let hint = "Name an image that has it with `postgres.image`, or set `postgres.major`.";
    let Some(install) = probed.install(major) else {
        let has = if probed.installs.is_empty() { "no PostgreSQL server".to_owned() } else { probed.versions() };
        return Err(fault(format!("it has {has}, and PostgreSQL {major} is needed")).hint(hint));
    };
    let Some(user) = probed.user.clone() else {
        return Err(fault("it has no user but root, and a server must not run as root".to_owned()).hint(hint));
    };
    let own = image::own_architecture();
    // Also of a remote engine that is one itself: pgdrill's own program in the container is of our architecture.
    if found.facts.architecture != own {
        let cause = format!("it is made for {}, and this pgdrill for {own}", found.facts.architecture);
        return Err(
            fault(cause).hint("Pull it for that architecture, and run pgdrill on a machine like the engine's: an emulated one proves no recovery time.")
        );
    }
    let (disk_free, filesystem) = match &engine.facts.root_dir {
        Some(root_dir) => (host::disk(root_dir).map(|it| it.free), filesystem(root_dir)),
        None => (None, None),
    };
    let mut tools: BTreeMap<String, String> = probed.tools.clone();
    tools.insert(engine.facts.name.clone(), engine.facts.version.clone());
    if !sees {
        tools.insert("engine".to_owned(), format!("{} on {}", engine.facts.endpoint, engine.facts.machine));
    }
    tools.extend(engine.facts.parts.iter().cloned());
    Ok(ServerFacts {
        runtime: RuntimeKind::Container,
        major,
        version: install.version.clone(),
        bindir: install.bindir.clone(),
        image: Some(found.facts),
        user,
        extensions: install.extensions.clone(),
        locales: probed.locales.clone(),
        disk_free,
        filesystem,
        streams: !sees,
        tools,
        because: found.because,
        passed_over: Vec::new(),
    })
}

/// `ext4`, `xfs` …: of the mount that the directory lies on (proc(5), mountinfo).
fn filesystem(directory: &Path) -> Option<String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let lies_on = |line: &str| {
        let (mount, kind) = line.split_once(" - ")?;
        let point = mount.split(' ').nth(4)?.to_owned();
        directory.starts_with(&point).then(|| (point.len(), kind.split(' ').next().unwrap_or_default().to_owned()))
    };
    // Of several on the same point the last one is on top.
    let (_, kind) = mounts.lines().filter_map(lies_on).max_by_key(|(length, _)| *length)?;
    Some(kind)
}
