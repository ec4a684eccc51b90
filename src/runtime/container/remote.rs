//! A container whose engine does not see our files: everything passes through programs that the engine runs in it.
//!
//! Whether an engine sees them is found out, not guessed from its address: one behind a local socket may run in a virtual
//! machine or a container of its own, and one behind a network address may be this very machine. The programs are
//! pgdrill's own helper (`helper/remote.rs`), which is the container's first process as well.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use testcontainers::bollard::Docker;
use testcontainers::bollard::container::LogOutput;
use testcontainers::bollard::errors::Error;
use testcontainers::bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use testcontainers::bollard::models::{ContainerCreateBody, HostConfig, Mount, MountType};
use testcontainers::bollard::query_parameters::{CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::StreamReader;
use tokio_util::task::AbortOnDropHandle;

use super::super::Lease;
use super::engine;
use super::{Role, image, labels};
use crate::fault::{Blame, Fault};

/// The helper, in the container.
pub(super) const HELPER: &str = "/pgdrill/guard";

/// Whether a file that we have made just now is there for the engine, too.
///
/// By a container that mounts it and is never started: an engine refuses to make one when what it is to mount is not there.
/// The file's directory has a random name, so that no other one can be meant.
pub(super) async fn sees_our_files(docker: &Docker, lease: &Lease, image: &str, patience: u64) -> Result<bool, Fault> {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let name = format!("pgdrill-{}-look-{}", lease.drill, NUMBER.fetch_add(1, Ordering::Relaxed));
    let marker = lease.scratch.join("marker");
    let what = || "see whether the container engine sees the files of this machine";
    std::fs::write(&marker, &lease.drill).map_err(|error| Fault::new(Blame::Host, what()).cause(error.to_string()))?;
    let marker = marker.display().to_string();
    let outcome = mount(docker, &name, lease, image, &marker, patience).await;
    let remove = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    // What stays is found by its label and removed with the lease.
    drop(docker.remove_container(&name, Some(remove)).await);
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if is_about(&error, &marker) => Ok(false),
        Err(error) => Err(engine::fault(what(), &error)),
    }
}

/// `invalid mount config for type "bind": bind source path does not exist: PATH`, `statfs PATH: no such file or directory`.
fn is_about(error: &Error, path: &str) -> bool {
    engine::status(error).is_some() && engine::text(error).contains(path)
}

async fn mount(
    docker: &Docker,
    name: &str,
    lease: &Lease,
    image: &str,
    marker: &str,
    patience: u64,
) -> Result<(), Error> {
    let labels = labels(lease, Role::Probe, patience);
    let mut mounts = image::own_volumes(docker, image, &labels).await?;
    mounts.push(Mount {
        source: Some(marker.to_owned()),
        target: Some("/marker".to_owned()),
        typ: Some(MountType::BIND),
        read_only: Some(true),
        ..Mount::default()
    });
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        entrypoint: Some(vec!["/bin/true".to_owned()]),
        cmd: Some(Vec::new()),
        labels: Some(labels),
        host_config: Some(HostConfig {
            network_mode: Some("none".to_owned()),
            mounts: Some(mounts),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    docker.create_container(Some(CreateContainerOptionsBuilder::new().name(name).build()), body).await.map(drop)
}

/// Both directions of a conversation.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Runs the helper in a container.
#[derive(Clone)]
pub(crate) struct Helper {
    docker: Docker,
    container: String,
    /// `999:999`
    user: String,
}

impl std::fmt::Debug for Helper {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Helper({})", self.container)
    }
}

impl Helper {
    pub(super) fn new(docker: Docker, container: String, user: String) -> Helper {
        Helper { docker, container, user }
    }

    /// Connects to a socket in the container.
    pub(crate) async fn dial(&self, socket: &str) -> io::Result<Box<dyn Wire>> {
        self.converse(&["relay", socket]).await
    }

    /// Runs the helper, and is its standard input and output.
    pub(crate) async fn converse(&self, args: &[&str]) -> io::Result<Box<dyn Wire>> {
        let options = self.options(args, true);
        let id = self.docker.create_exec(&self.container, options).await.map_err(io::Error::other)?.id;
        let start = StartExecOptions { output_capacity: Some(64 * 1024), ..StartExecOptions::default() };
        match self.docker.start_exec(&id, Some(start)).await.map_err(io::Error::other)? {
            StartExecResults::Attached { output, input } => Ok(wire(output, input)),
            StartExecResults::Detached => Err(io::Error::other("the helper was detached")),
        }
    }

    /// Renews the lease in the container until the handle is dropped, often enough for a guard with this patience.
    pub(super) fn renew(self, lease: String, patience: Duration) -> AbortOnDropHandle<()> {
        let pause = (patience / 4).clamp(Duration::from_millis(500), Duration::from_secs(10));
        AbortOnDropHandle::new(tokio::spawn(async move {
            let mut ticks = tokio::time::interval(pause);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            for counter in 1_u64.. {
                ticks.tick().await;
                // A limit, because a connection that is gone without a word would keep every later renewal waiting.
                let counter = counter.to_string();
                let args = ["renew", lease.as_str(), counter.as_str()];
                let renewed = tokio::time::timeout(pause * 2, self.detached(&args)).await;
                if !matches!(renewed, Ok(Ok(()))) {
                    tracing::debug!(container = self.container, "the lease could not be renewed");
                }
            }
        }))
    }

    async fn detached(&self, args: &[&str]) -> Result<(), Error> {
        let id = self.docker.create_exec(&self.container, self.options(args, false)).await?.id;
        let start = StartExecOptions { detach: true, ..StartExecOptions::default() };
        self.docker.start_exec(&id, Some(start)).await.map(drop)
    }

    fn options(&self, args: &[&str], attached: bool) -> CreateExecOptions<String> {
        let cmd = std::iter::once(HELPER).chain(args.iter().copied()).map(str::to_owned).collect();
        CreateExecOptions {
            cmd: Some(cmd),
            attach_stdin: Some(attached),
            attach_stdout: Some(attached),
            attach_stderr: Some(attached),
            user: Some(self.user.clone()),
            ..CreateExecOptions::default()
        }
    }
}

/// What the helper says on standard error, such as that nobody listens, ends the conversation with these words.
fn wire(
    output: impl futures_util::Stream<Item = Result<LogOutput, Error>> + Send + 'static,
    input: Pin<Box<dyn AsyncWrite + Send>>,
) -> Box<dyn Wire> {
    let bytes = output.map(|chunk| match chunk.map_err(io::Error::other)? {
        LogOutput::StdOut { message } | LogOutput::Console { message } => Ok(message),
        LogOutput::StdErr { message } => Err(io::Error::other(String::from_utf8_lossy(&message).trim().to_owned())),
        LogOutput::StdIn { .. } => Ok(Vec::new().into()),
    });
    // Nothing in between may be empty: to a reader that would be the end.
    let bytes = bytes.try_filter(|it| std::future::ready(!it.is_empty()));
    Box::new(tokio::io::join(StreamReader::new(Box::pin(bytes)), input))
}
