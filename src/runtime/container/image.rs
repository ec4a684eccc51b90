//! Images: which one serves a major version, getting it, and what it has.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::StreamExt;
use testcontainers::bollard::Docker;
use testcontainers::bollard::container::LogOutput;
use testcontainers::bollard::errors::Error;
use testcontainers::bollard::models::{
    ContainerCreateBody, CreateImageInfo, HostConfig, ImageInspect, Mount, MountType, MountVolumeOptions,
};
use testcontainers::bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, CreateImageOptionsBuilder, ListImagesOptionsBuilder,
    RemoveContainerOptionsBuilder, StartContainerOptions,
};

use super::super::{Lease, Progress, Watcher};
use super::credentials;
use super::engine::{self, Engine};
use super::probe::{self, Probed};
use super::{Role, labels};
use crate::fault::{Blame, Fault};
use crate::format::major_of;
use crate::recipe::ImageFacts;

/// What an image's output while it is probed may come to.
const PROBE_LIMIT: usize = 4 << 20;

/// An image on this machine that could run a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LocalImage {
    pub(crate) reference: String,
    pub(crate) id: String,
    pub(crate) bytes: u64,
    /// Of its PostgreSQL, where it was probed before or says so itself.
    pub(crate) major: Option<u32>,
}

/// An image that is here.
pub(super) struct Found {
    pub(super) facts: ImageFacts,
    /// A sentence for people.
    pub(super) because: String,
}

/// The image for a major version, pulled if it must be. `{major}` is replaced in a `template`.
pub(super) async fn find(docker: &Docker, major: u32, template: Option<&str>, watch: &Watcher) -> Result<Found, Fault> {
    if let Some(template) = template {
        let reference = with_tag(&template.replace("{major}", &major.to_string()));
        if let Some(facts) = inspect(docker, &reference).await? {
            return Ok(Found { because: format!("the scenario asks for the image {reference}, which is here"), facts });
        }
        let facts = pull(docker, &reference, watch).await?;
        return Ok(Found { because: format!("the scenario asks for the image {reference}, which was pulled"), facts });
    }
    let (official, ours) = (format!("postgres:{major}"), format!("pgdrill-postgres:{major}"));
    if let Some(facts) = inspect(docker, &official).await? {
        return Ok(Found { because: format!("the image {official} is here"), facts });
    }
    if let Some(facts) = inspect(docker, &ours).await? {
        return Ok(Found { because: format!("the image {ours} is here, and {official} is not"), facts });
    }
    let facts = pull(docker, &official, watch).await?;
    Ok(Found { because: format!("the image {official} was pulled"), facts })
}

/// None where the engine has no such image.
async fn inspect(docker: &Docker, reference: &str) -> Result<Option<ImageFacts>, Fault> {
    match docker.inspect_image(reference).await {
        Ok(seen) => Ok(Some(facts(reference, seen))),
        Err(error) if engine::is_absent(&error) => Ok(None),
        Err(error) => Err(engine::fault(format!("look at the image {reference}"), &error)),
    }
}

fn facts(reference: &str, seen: ImageInspect) -> ImageFacts {
    ImageFacts {
        reference: reference.to_owned(),
        id: seen.id.unwrap_or_default(),
        repo_digests: seen.repo_digests.unwrap_or_default(),
        architecture: seen.architecture.unwrap_or_default(),
    }
}

/// A reference without a tag means all tags to the engine, and `latest` to people.
fn with_tag(reference: &str) -> String {
    let last = reference.rsplit('/').next().unwrap_or_default();
    let is_id = reference.starts_with("sha256:");
    if is_id || last.contains(':') || last.contains('@') { reference.to_owned() } else { format!("{reference}:latest") }
}

async fn pull(docker: &Docker, reference: &str, watch: &Watcher) -> Result<ImageFacts, Fault> {
    let what = || format!("pull the image {reference}");
    watch(Progress::Said(format!("pulling {reference}")));
    let credentials = credentials::of(reference).await.map_err(|words| unpulled(what(), words))?;
    let known = credentials.is_some();
    let options = CreateImageOptionsBuilder::new().from_image(reference).build();
    let mut layers = Layers::default();
    let mut progress = Box::pin(docker.create_image(Some(options), None, credentials));
    while let Some(news) = progress.next().await {
        let news = news.map_err(|error| refused(what(), engine::text(&error), known))?;
        layers.note(&news);
        watch(Progress::Said(layers.say(reference)));
    }
    match inspect(docker, reference).await? {
        Some(facts) => Ok(facts),
        None => Err(unpulled(what(), "the engine pulled it and does not have it".to_owned())),
    }
}

fn unpulled(what: String, words: String) -> Fault {
    Fault::new(Blame::Host, what).cause(words).hint(
        "Load the image into the engine (`docker pull`, `docker load`), build one with fixtures/images/build, or name another \
         one with `postgres.image`; `pgdrill doctor` lists those that are here.",
    )
}

/// Registries say "denied" also of what they have not: then both have to be thought of.
fn refused(what: String, words: String, known: bool) -> Fault {
    let told = words.to_lowercase();
    if !["unauthorized", "denied", "authentication", "no basic auth"].iter().any(|it| told.contains(it)) {
        return unpulled(what, words);
    }
    Fault::new(Blame::Host, what).cause(words).hint(if known {
        "The registry refused the credentials that docker keeps for it: `docker login` renews them. Or the image is not there."
    } else {
        "docker keeps no credentials for this registry: `docker login` adds them. Or the image is not there."
    })
}

/// How far the layers of a pull have come.
#[derive(Default)]
struct Layers(BTreeMap<String, (i64, i64)>);

impl Layers {
    fn note(&mut self, news: &CreateImageInfo) {
        let (Some(id), Some("Downloading"), Some(detail)) = (&news.id, news.status.as_deref(), &news.progress_detail)
        else {
            return self.complete(news);
        };
        if let (Some(current), Some(total)) = (detail.current, detail.total) {
            self.0.insert(id.clone(), (current, total));
        }
    }

    fn complete(&mut self, news: &CreateImageInfo) {
        let done = news.status.as_deref() == Some("Download complete");
        if let Some((current, total)) = news.id.as_ref().filter(|_| done).and_then(|id| self.0.get_mut(id)) {
            *current = *total;
        }
    }

    fn say(&self, reference: &str) -> String {
        let sum = |of: fn(&(i64, i64)) -> i64| self.0.values().map(of).sum::<i64>() / 1_000_000;
        let (done, total) = (sum(|it| it.0), sum(|it| it.1));
        if total == 0 {
            return format!("pulling {reference}");
        }
        format!("pulling {reference}: {done} MB of {total} MB")
    }
}

/// What an image has, if it was looked into before.
pub(super) fn cached(cache_dir: &Path, id: &str) -> Option<Probed> {
    let text = std::fs::read(cache_file(cache_dir, id)).ok()?;
    let probed: Probed = serde_json::from_slice(&text).ok()?;
    (probed.schema == probe::SCHEMA).then_some(probed)
}

/// A cache that cannot be written costs a second each time and is no reason to fail.
pub(super) fn keep(cache_dir: &Path, id: &str, probed: &Probed) {
    let written = std::fs::create_dir_all(cache_dir).and_then(|()| {
        let mut file = tempfile::NamedTempFile::new_in(cache_dir)?;
        file.write_all(&serde_json::to_vec_pretty(probed)?)?;
        file.persist(cache_file(cache_dir, id)).map_err(|error| error.error)
    });
    if let Err(error) = written {
        tracing::warn!(directory = %cache_dir.display(), %error, "could not keep what the image has");
    }
}

fn cache_file(cache_dir: &Path, id: &str) -> PathBuf {
    let name: String = id.chars().map(|it| if it.is_ascii_alphanumeric() { it } else { '-' }).collect();
    cache_dir.join(format!("image-{name}.json"))
}

/// Looks into an image with a container of its own, which never sees any data. Removed before this returns.
pub(super) async fn probe(engine: &Engine, lease: &Lease, image: &ImageFacts, patience: u64) -> Result<Probed, Fault> {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let name = format!("pgdrill-{}-probe-{}", lease.drill, NUMBER.fetch_add(1, Ordering::Relaxed));
    let output = look(&engine.docker, &name, lease, image, patience).await;
    let remove = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    // What stays is found by its label and removed with the lease.
    drop(engine.docker.remove_container(&name, Some(remove)).await);
    let what = || format!("look into the image {}", image.reference);
    let output = output.map_err(|error| engine::fault(what(), &error))?;
    probe::parse(&output).ok_or_else(|| {
        let last = output.lines().last().unwrap_or("it said nothing").to_owned();
        let hint =
            "An image for drills needs PostgreSQL's programs and /bin/sh; name another one with `postgres.image`.";
        Fault::new(Blame::Host, what()).cause(last).hint(hint)
    })
}

async fn look(docker: &Docker, name: &str, lease: &Lease, image: &ImageFacts, patience: u64) -> Result<String, Error> {
    let labels = labels(lease, Role::Probe, patience);
    let mounts = own_volumes(docker, &image.id, &labels).await?;
    let body = ContainerCreateBody {
        image: Some(image.id.clone()),
        entrypoint: Some(["/bin/sh", "-c", probe::SCRIPT].map(str::to_owned).to_vec()),
        cmd: Some(Vec::new()),
        labels: Some(labels),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        host_config: Some(HostConfig {
            network_mode: Some("none".to_owned()),
            cap_drop: Some(vec!["ALL".to_owned()]),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            pids_limit: Some(256),
            mounts: Some(mounts),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    docker.create_container(Some(CreateContainerOptionsBuilder::new().name(name).build()), body).await?;
    // Attached before it starts, so that no line is missed and none need be stored.
    let options = AttachContainerOptionsBuilder::new().stdout(true).stderr(true).stream(true).build();
    let mut attached = docker.attach_container(name, Some(options)).await?;
    docker.start_container(name, None::<StartContainerOptions>).await?;
    let mut output = Vec::new();
    while let Some(chunk) = attached.output.next().await {
        match chunk? {
            LogOutput::StdOut { message } | LogOutput::StdErr { message } if output.len() < PROBE_LIMIT => {
                output.extend_from_slice(&message);
            }
            // Beyond the limit.
            LogOutput::StdOut { .. }
            | LogOutput::StdErr { .. }
            | LogOutput::StdIn { .. }
            | LogOutput::Console { .. } => {}
        }
    }
    Ok(String::from_utf8_lossy(&output).into_owned())
}

/// The volumes that an image declares for itself. Drills leave them unused, but the engine makes them, and without these
/// mounts they would carry no label: nothing of ours must exist that a sweep cannot find.
pub(super) async fn own_volumes(
    docker: &Docker,
    id: &str,
    labels: &HashMap<String, String>,
) -> Result<Vec<Mount>, Error> {
    let config = docker.inspect_image(id).await?.config.unwrap_or_default();
    Ok(config.volumes.unwrap_or_default().into_iter().map(|target| volume(target, labels)).collect())
}

/// A volume without a name: the engine removes it with the container.
pub(super) fn volume(target: String, labels: &HashMap<String, String>) -> Mount {
    Mount {
        target: Some(target),
        typ: Some(MountType::VOLUME),
        volume_options: Some(MountVolumeOptions { labels: Some(labels.clone()), ..MountVolumeOptions::default() }),
        ..Mount::default()
    }
}

/// Images that could serve, by their names or because they did before.
pub(super) async fn local(docker: &Docker, cache_dir: &Path) -> Result<Vec<LocalImage>, Fault> {
    let listed = docker.list_images(Some(ListImagesOptionsBuilder::new().build())).await;
    let listed = listed.map_err(|error| engine::fault("list the engine's images", &error))?;
    let mut images = Vec::new();
    for image in listed {
        let known = cached(cache_dir, &image.id).and_then(|it| it.installs.iter().find_map(probe::Install::major));
        for reference in image.repo_tags.iter().filter(|it| *it != "<none>:<none>") {
            if known.is_some() || is_postgres(reference) {
                let bytes = u64::try_from(image.size).unwrap_or_default();
                let major = known.or_else(|| major_in_tag(reference));
                images.push(LocalImage { reference: reference.clone(), id: image.id.clone(), bytes, major });
            }
        }
    }
    images.sort_by(|a, b| (a.major, &a.reference).cmp(&(b.major, &b.reference)));
    Ok(images)
}

/// By the last part of the repository's name.
fn is_postgres(reference: &str) -> bool {
    let last = reference.rsplit('/').next().unwrap_or_default();
    let name = last.split(':').next().unwrap_or_default();
    ["postgres", "postgis", "timescale", "pgvector", "citus", "spilo"].iter().any(|it| name.contains(it))
}

fn major_in_tag(reference: &str) -> Option<u32> {
    let (_, tag) = reference.rsplit_once(':')?;
    major_of(tag.strip_prefix("pg").unwrap_or(tag)).filter(|major| (9..100).contains(major))
}

/// As images name the architecture that this program was built for.
pub(super) fn own_architecture() -> &'static str {
    if cfg!(target_arch = "x86_64") {
        "amd64"
    } else if cfg!(target_arch = "aarch64") {
        "arm64"
    } else if cfg!(target_arch = "powerpc64") {
        "ppc64le"
    } else if cfg!(target_arch = "s390x") {
        "s390x"
    } else {
        "another one"
    }
}

/// Filters for the engine's lists.
pub(super) fn by_label(label: &str) -> HashMap<&'static str, Vec<String>> {
    HashMap::from([("label", vec![label.to_owned()])])
}

#[cfg(test)]
mod tests {
    use testcontainers::bollard::models::ProgressDetail;

    use super::*;

    #[test]
    fn a_reference_always_has_a_tag_or_a_digest() {
        let cases = [
            ("postgres", "postgres:latest"),
            ("postgres:17", "postgres:17"),
            ("registry.example:5000/db/postgres", "registry.example:5000/db/postgres:latest"),
            ("registry.example:5000/db/postgres:17-bookworm", "registry.example:5000/db/postgres:17-bookworm"),
            ("postgres@sha256:0123", "postgres@sha256:0123"),
            ("sha256:0123", "sha256:0123"),
        ];
        for (reference, expected) in cases {
            assert_eq!(with_tag(reference), expected);
        }
    }

    #[test]
    fn images_are_known_by_their_names() {
        let cases = [
            ("postgres:17.2-bookworm", true, Some(17)),
            ("registry.example:5000/team/postgis:16-3.4", true, Some(16)),
            ("timescale/timescaledb:latest-pg17", true, None),
            ("pgvector/pgvector:pg18", true, Some(18)),
            ("postgres:latest", true, None),
            ("postgres/redis:7", false, None),
        ];
        for (reference, serves, major) in cases {
            assert_eq!(is_postgres(reference), serves, "{reference}");
            assert_eq!(major_in_tag(reference), major, "{reference}");
        }
    }

    #[test]
    fn a_pull_says_how_far_all_its_layers_are() {
        let news = |id: &str, status: &str, current, total| CreateImageInfo {
            id: Some(id.to_owned()),
            status: Some(status.to_owned()),
            progress_detail: Some(ProgressDetail { current, total }),
            ..CreateImageInfo::default()
        };
        let mut layers = Layers::default();
        assert_eq!(layers.say("postgres:17"), "pulling postgres:17");
        layers.note(&news("a", "Pulling fs layer", None, None));
        layers.note(&news("a", "Downloading", Some(10_000_000), Some(40_000_000)));
        layers.note(&news("b", "Downloading", Some(30_000_000), Some(110_000_000)));
        assert_eq!(layers.say("postgres:17"), "pulling postgres:17: 40 MB of 150 MB");
        layers.note(&news("a", "Download complete", None, None));
        layers.note(&news("a", "Extracting", Some(1), Some(40_000_000)));
        assert_eq!(layers.say("postgres:17"), "pulling postgres:17: 70 MB of 150 MB");
    }

    #[test]
    fn what_an_image_has_is_kept_by_its_id_and_damage_is_no_error() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let probed = probe::parse("user\tpostgres\t999\t999\nend\n").expect("whole output");
        keep(&directory.path().join("new"), "sha256:ab/c", &probed);
        let directory = directory.path().join("new");
        assert_eq!(cached(&directory, "sha256:ab/c"), Some(probed.clone()));
        assert_eq!(cached(&directory, "sha256:abd"), None);
        keep(&directory, "sha256:old", &Probed { schema: 0, ..probed });
        assert_eq!(cached(&directory, "sha256:old"), None);
        std::fs::write(cache_file(&directory, "sha256:cut"), "{\"schema\":").expect("written");
        assert_eq!(cached(&directory, "sha256:cut"), None);
    }
}
