//! Removes containers and volumes by their labels, until none is left or the time is up.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use testcontainers::bollard::Docker;
use testcontainers::bollard::errors::Error;
use testcontainers::bollard::models::ContainerSummaryStateEnum;
use testcontainers::bollard::query_parameters::{
    ListContainersOptionsBuilder, ListVolumesOptionsBuilder, RemoveContainerOptionsBuilder, RemoveVolumeOptionsBuilder,
};
use tokio::time::Instant;

use super::super::untrusted::open_regular;
use super::image::by_label;
use super::{LABEL_PATIENCE, LABEL_SCRATCH};

/// What to remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sweep {
    /// Everything of one run, but for what belongs to drills with these scratch directories.
    Run { run: String, except: Vec<PathBuf> },
    /// Everything whose pgdrill is gone: for longer than its patience, or certainly, as that of these scratch
    /// directories. Parallel runs are safe.
    Lapsed { scratches: Vec<PathBuf> },
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    /// `container pgdrill-…`, `volume …`
    pub(crate) removed: Vec<String>,
    /// What would not go, each with the command that removes it.
    pub(crate) remnants: Vec<String>,
}

/// A container or a volume of ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Thing {
    kind: Kind,
    name: String,
    /// Seconds since 1970.
    created: i64,
    /// A process runs in it; of a volume: in its container.
    running: bool,
    scratch: Option<String>,
    patience: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Container,
    Volume,
}

impl Thing {
    fn new(kind: Kind, name: String, created: i64, running: bool, labels: &HashMap<String, String>) -> Thing {
        let scratch = labels.get(LABEL_SCRATCH).cloned();
        let patience = labels.get(LABEL_PATIENCE).and_then(|it| it.parse().ok());
        Thing { kind, name, created, running, scratch, patience }
    }

    fn describe(&self) -> String {
        match self.kind {
            Kind::Container => format!("container {}", self.name),
            Kind::Volume => format!("volume {}", self.name),
        }
    }

    fn remnant(&self) -> String {
        match self.kind {
            Kind::Container => format!("container {name} (`docker rm -fv {name}` removes it)", name = self.name),
            Kind::Volume => format!("volume {name} (`docker volume rm {name}` removes it)", name = self.name),
        }
    }

    async fn remove(&self, docker: &Docker) {
        let done = match self.kind {
            Kind::Container => {
                let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
                docker.remove_container(&self.name, Some(options)).await
            }
            Kind::Volume => {
                let options = RemoveVolumeOptionsBuilder::new().force(true).build();
                docker.remove_volume(&self.name, Some(options)).await
            }
        };
        // Gone already, being removed by the engine, or still in use by a container that goes first: the list tells.
        if let Err(error) = done {
            tracing::debug!(thing = self.describe(), %error, "not removed at this attempt");
        }
    }
}

/// What carries `label` and is `wanted`, by name. Removes nothing.
pub(super) async fn find(
    docker: &Docker,
    label: &str,
    wanted: impl Fn(&Labelled<'_>) -> bool,
) -> Result<Vec<String>, Error> {
    let things = list(docker, label).await?;
    Ok(things.iter().filter(|it| wanted(&Labelled(it))).map(Thing::describe).collect())
}

/// Removes all that carries `label` and is `wanted`, again and again until the list is empty or the time is up.
pub(super) async fn purge(
    docker: &Docker,
    label: &str,
    limit: Duration,
    wanted: impl Fn(&Labelled<'_>) -> bool,
) -> Result<Swept, Error> {
    let deadline = Instant::now() + limit;
    let mut known = BTreeSet::new();
    loop {
        let mut things = list(docker, label).await?;
        things.retain(|it| wanted(&Labelled(it)));
        known.extend(things.iter().map(Thing::describe));
        if things.is_empty() || Instant::now() >= deadline {
            let left: BTreeSet<String> = things.iter().map(Thing::describe).collect();
            let removed = known.difference(&left).cloned().collect();
            return Ok(Swept { removed, remnants: things.iter().map(Thing::remnant).collect() });
        }
        let removing = join_all(things.iter().map(|it| it.remove(docker)));
        // A removal that hangs is left to the engine; the list shows what came of it.
        drop(tokio::time::timeout_at(deadline, removing).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn list(docker: &Docker, label: &str) -> Result<Vec<Thing>, Error> {
    let filters = by_label(label);
    let containers =
        docker.list_containers(Some(ListContainersOptionsBuilder::new().all(true).filters(&filters).build()));
    let volumes = docker.list_volumes(Some(ListVolumesOptionsBuilder::new().filters(&filters).build()));
    let (containers, volumes) = tokio::try_join!(containers, volumes)?;
    let containers: Vec<Thing> = containers
        .into_iter()
        .map(|it| {
            let name = it.names.unwrap_or_default().into_iter().next().map(|it| it.trim_start_matches('/').to_owned());
            let running = matches!(
                it.state,
                Some(
                    ContainerSummaryStateEnum::RUNNING
                        | ContainerSummaryStateEnum::PAUSED
                        | ContainerSummaryStateEnum::RESTARTING
                )
            );
            let name = name.or(it.id).unwrap_or_default();
            Thing::new(Kind::Container, name, it.created.unwrap_or_default(), running, &it.labels.unwrap_or_default())
        })
        .collect();
    // A volume is as alive as its container.
    let alive: BTreeSet<String> =
        containers.iter().filter(|it| it.running).filter_map(|it| it.scratch.clone()).collect();
    let volumes = volumes.volumes.unwrap_or_default().into_iter().map(|it| {
        let created = if let Some(at) = it.created_at { at.unix_timestamp() } else { 0 };
        let running = it.labels.get(LABEL_SCRATCH).is_some_and(|scratch| alive.contains(scratch));
        Thing::new(Kind::Volume, it.name, created, running, &it.labels)
    });
    Ok(containers.into_iter().chain(volumes).collect())
}

/// A thing that the engine listed, to be judged.
pub(super) struct Labelled<'a>(&'a Thing);

impl Labelled<'_> {
    /// Whether it belongs to a drill with one of these scratch directories.
    pub(super) fn is_of(&self, scratches: &[PathBuf]) -> bool {
        self.0.scratch.as_deref().is_some_and(|scratch| scratches.iter().any(|it| it == Path::new(scratch)))
    }

    /// Whether its pgdrill is gone.
    ///
    /// Where its lease can be seen from here, the lease decides: nobody holds a lock on it and it is older than its
    /// patience. Where it cannot (another machine's or another container's pgdrill on the same engine), a running
    /// container is left to the guard inside it, and anything else goes when it is older than its patience.
    pub(super) fn has_lapsed(&self, now: SystemTime) -> bool {
        let Some(patience) = self.0.patience.map(Duration::from_secs) else { return false };
        match self.0.scratch.as_deref().and_then(|scratch| lease_age(Path::new(scratch), now)) {
            Some(age) => age > patience,
            None => !self.0.running && older(self.0.created, patience, now),
        }
    }
}

/// How long a lease was not renewed; zero while somebody holds a lock on it. None if it cannot be seen.
fn lease_age(scratch: &Path, now: SystemTime) -> Option<Duration> {
    let lease = open_regular(&scratch.join("run/lease")).ok()?;
    if let Err(std::fs::TryLockError::WouldBlock) = lease.try_lock_shared() {
        return Some(Duration::ZERO);
    }
    let renewed = lease.metadata().ok()?.modified().ok()?;
    Some(now.duration_since(renewed).unwrap_or_default())
}

fn older(created: i64, patience: Duration, now: SystemTime) -> bool {
    let created = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(created).unwrap_or_default());
    now.duration_since(created).unwrap_or_default() > patience
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_lapsed_is_swept() {
        let now = SystemTime::now();
        let seconds = i64::try_from(now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()).unwrap();
        let scratch = tempfile::tempdir().unwrap();
        std::fs::create_dir(scratch.path().join("run")).unwrap();
        let lease = std::fs::File::create(scratch.path().join("run/lease")).unwrap();
        let here = Some(scratch.path().to_str().unwrap().to_owned());
        let thing = |scratch: &Option<String>, running, age: i64, patience| Thing {
            kind: Kind::Container,
            name: "pgdrill-x".to_owned(),
            created: seconds - age,
            running,
            scratch: scratch.clone(),
            patience,
        };
        let lapsed = |thing: Thing, later: u64| Labelled(&thing).has_lapsed(now + Duration::from_secs(later));

        assert!(!lapsed(thing(&here, true, 9000, Some(600)), 0), "renewed just now");
        assert!(lapsed(thing(&here, true, 0, Some(600)), 700), "not renewed for 700 s");
        lease.lock().unwrap();
        assert!(!lapsed(thing(&here, true, 9000, Some(600)), 700), "its pgdrill was frozen, and lives");
        lease.unlock().unwrap();

        let elsewhere = Some("/no/such/scratch".to_owned());
        assert!(!lapsed(thing(&elsewhere, true, 9000, Some(600)), 0), "its guard runs");
        assert!(lapsed(thing(&elsewhere, false, 9000, Some(600)), 0), "its guard does not run");
        assert!(!lapsed(thing(&elsewhere, false, 30, Some(600)), 0), "about to start");
        assert!(!lapsed(thing(&None, false, 9000, None), 0), "not labelled by this version");
    }
}
