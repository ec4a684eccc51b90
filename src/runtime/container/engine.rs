//! The container engine: how it is found, what it is, and what its errors mean.

use std::path::{Path, PathBuf};
use std::time::Duration;

use testcontainers::bollard::models::SystemInfo;
use testcontainers::bollard::{Docker, errors::Error};
use testcontainers::core::client::docker_client_instance;

use super::discover::{Address, DockerEnvironment, unreachable};
use crate::fault::{Blame, Fault};

/// An engine that does not answer within this time is as good as none.
const PATIENCE: Duration = Duration::from_secs(5);

/// What answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EngineFacts {
    /// `docker` or `podman`.
    pub(crate) name: String,
    /// `20.10.24+dfsg1`
    pub(crate) version: String,
    /// Where it was found: `unix:///var/run/docker.sock`.
    pub(crate) endpoint: String,
    /// Why this engine, as words that follow a comma.
    pub(crate) because: String,
    /// What it says of the machine that it runs on: `web1, Debian GNU/Linux 12 (bookworm), x86_64, 2 CPUs, 23 GiB`.
    pub(crate) machine: String,
    /// Where the engine keeps volumes, if that is on this machine.
    pub(crate) root_dir: Option<PathBuf>,
    /// Whether mounted files need to be freed from SELinux labels.
    pub(crate) selinux: bool,
    /// Other notable versions, by name: `runc`, `containerd`.
    pub(crate) parts: Vec<(String, String)>,
}

/// A connection, and what is at its end.
#[derive(Clone)]
pub(super) struct Engine {
    pub(super) docker: Docker,
    pub(super) facts: EngineFacts,
}

/// Connects and asks who is there. A Fault says what was tried.
pub(super) async fn connect(environment: &DockerEnvironment) -> Result<Engine, Fault> {
    let Address { host: endpoint, because, .. } = environment.find()?;
    let fault = |cause: String| {
        let hint = if cause.contains("HTTPS server") {
            "The engine wants TLS: set DOCKER_TLS_VERIFY=1, and DOCKER_CERT_PATH to the directory of ca.pem, cert.pem and key.pem."
        } else {
            "Start Docker (`systemctl start docker`), or point DOCKER_HOST at the socket of an engine that this user may use; \
             `runtime: local` needs none."
        };
        unreachable(&endpoint).cause(cause).cause(format!("it was chosen so: {because}")).hint(hint)
    };
    // In a task, because a setting that testcontainers does not expect makes it panic.
    let client = tokio::spawn(docker_client_instance()).await;
    let client = client.map_err(|_| fault("the client refused its settings".to_owned()))?;
    let docker = client.map_err(|error| fault(error.to_string()))?;
    let answers = tokio::time::timeout(PATIENCE, async { tokio::try_join!(docker.info(), docker.version()) }).await;
    let answers = answers.map_err(|_| fault(format!("no answer within {} s", PATIENCE.as_secs())))?;
    let (info, version) = answers.map_err(|error| fault(text(&error)))?;

    let machine = machine(&info);
    let components = version.components.unwrap_or_default();
    let podman = components.iter().any(|it| it.name.contains("Podman"));
    let present = |text: Option<String>| text.filter(|it| !it.is_empty());
    let parts = [("runc", info.runc_commit), ("containerd", info.containerd_commit)];
    let facts = EngineFacts {
        machine,
        because,
        name: if podman { "podman" } else { "docker" }.to_owned(),
        version: present(info.server_version).unwrap_or_else(|| "of an unknown version".to_owned()),
        root_dir: info.docker_root_dir.map(PathBuf::from).filter(|it| is_here(&endpoint, it)),
        selinux: info.security_options.unwrap_or_default().iter().any(|it| it.contains("name=selinux")),
        parts: parts.into_iter().filter_map(|(name, commit)| Some((name.to_owned(), present(commit?.id)?))).collect(),
        endpoint,
    };
    Ok(Engine { docker, facts })
}

/// An engine behind a network address may have a directory of the same name: its disk is not ours.
fn is_here(endpoint: &str, root_dir: &Path) -> bool {
    endpoint.starts_with("unix://") && root_dir.is_dir()
}

fn machine(info: &SystemInfo) -> String {
    let words = [&info.name, &info.operating_system, &info.architecture].into_iter().filter_map(Clone::clone);
    let cpus = info.ncpu.map(|it| format!("{it} CPUs"));
    let memory = info.mem_total.map(|it| format!("{} GiB", it >> 30));
    words.chain(cpus).chain(memory).collect::<Vec<_>>().join(", ")
}

/// What the engine said, without the client's wrapping.
pub(super) fn text(error: &Error) -> String {
    if let Error::DockerResponseServerError { message, .. } = error {
        return message.clone();
    }
    // The outermost text is often only "client error (Connect)".
    let mut words = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(beneath) = source {
        let more = beneath.to_string();
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        source = beneath.source();
    }
    words
}

pub(super) fn status(error: &Error) -> Option<u16> {
    if let Error::DockerResponseServerError { status_code, .. } = error { Some(*status_code) } else { None }
}

/// Whether the thing that was asked about is not there.
pub(super) fn is_absent(error: &Error) -> bool {
    status(error) == Some(404)
}

/// A fault of the engine while doing `what`.
pub(super) fn fault(what: impl Into<String>, error: &Error) -> Fault {
    let fault = Fault::new(Blame::Host, what).cause(text(error));
    match status(error) {
        Some(_) => fault,
        None => fault.hint("Is the container engine still running? `docker info` shows it."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_engines_disk_is_not_taken_for_ours() {
        assert!(is_here("unix:///var/run/docker.sock", Path::new("/")));
        assert!(!is_here("tcp://engine:2375", Path::new("/")));
        assert!(!is_here("unix:///var/run/docker.sock", Path::new("/no/such/directory")));
    }
}
