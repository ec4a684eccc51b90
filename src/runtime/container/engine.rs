//! The container engine: how it is found, what it is, and what its errors mean.

use std::path::{Path, PathBuf};
use std::time::Duration;

use testcontainers::bollard::{Docker, errors::Error};
use testcontainers::core::client::docker_client_instance;

use crate::fault::{Blame, Fault};

/// An engine that does not answer within this time is as good as none.
const PATIENCE: Duration = Duration::from_secs(5);

/// The variables by which people choose an engine, as they were when pgdrill started. testcontainers reads them by itself:
/// they are here to refuse what it would panic at, and to say what was tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DockerEnvironment {
    /// `DOCKER_HOST`
    pub(crate) host: Option<String>,
    /// `DOCKER_TLS_VERIFY` is `1`.
    pub(crate) tls_verify: bool,
    /// `DOCKER_CERT_PATH`
    pub(crate) cert_path: Option<PathBuf>,
    /// `DOCKER_CONTEXT`: not followed.
    pub(crate) context: Option<String>,
}

/// What answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EngineFacts {
    /// `docker` or `podman`.
    pub(crate) name: String,
    /// `20.10.24+dfsg1`
    pub(crate) version: String,
    /// Where it was found: `unix:///var/run/docker.sock`.
    pub(crate) endpoint: String,
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

impl DockerEnvironment {
    fn endpoint(&self) -> String {
        self.host.clone().unwrap_or_else(|| "unix:///var/run/docker.sock".to_owned())
    }

    /// A setting with which no engine can be reached.
    fn problem(&self) -> Option<Fault> {
        let fault = |cause: String| Some(unreachable_engine(&self.endpoint()).cause(cause));
        if self.tls_verify && self.cert_path.is_none() {
            let hint =
                "Set DOCKER_CERT_PATH to the directory of ca.pem, cert.pem and key.pem, or unset DOCKER_TLS_VERIFY.";
            return fault("DOCKER_TLS_VERIFY is set and DOCKER_CERT_PATH is not".to_owned()).map(|it| it.hint(hint));
        }
        let scheme = self.host.as_deref().and_then(|host| host.split_once("://")).map(|(scheme, _)| scheme);
        if let (Some(host), Some("ssh" | "fd") | None) = (&self.host, scheme) {
            let hint = "Use unix:// with the path of a socket; a remote engine's socket can be had by `ssh -L`.";
            return fault(format!("DOCKER_HOST={host} is not an address that can be reached from here"))
                .map(|it| it.hint(hint));
        }
        None
    }
}

/// Connects and asks who is there. A Fault says what was tried.
pub(super) async fn connect(environment: &DockerEnvironment) -> Result<Engine, Fault> {
    if let Some(problem) = environment.problem() {
        return Err(problem);
    }
    let endpoint = environment.endpoint();
    let fault = |cause: String| {
        let mut fault = unreachable_engine(&endpoint).cause(cause);
        if let Some(context) = &environment.context {
            fault = fault.cause(format!("DOCKER_CONTEXT={context} is not followed: only DOCKER_HOST is"));
        }
        fault.hint(
            "Start Docker (`systemctl start docker`), or point DOCKER_HOST at the socket of an engine that this user may use; \
             `runtime: local` needs none.",
        )
    };
    // In a task, because a setting that testcontainers does not expect makes it panic.
    let client = tokio::spawn(docker_client_instance()).await;
    let client = client.map_err(|_| fault("the client refused its settings".to_owned()))?;
    let docker = client.map_err(|error| fault(error.to_string()))?;
    let answers = tokio::time::timeout(PATIENCE, async { tokio::try_join!(docker.info(), docker.version()) }).await;
    let answers = answers.map_err(|_| fault(format!("no answer within {} s", PATIENCE.as_secs())))?;
    let (info, version) = answers.map_err(|error| fault(text(&error)))?;

    let components = version.components.unwrap_or_default();
    let podman = components.iter().any(|it| it.name.contains("Podman"));
    let present = |text: Option<String>| text.filter(|it| !it.is_empty());
    let parts = [("runc", info.runc_commit), ("containerd", info.containerd_commit)];
    let facts = EngineFacts {
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

fn unreachable_engine(endpoint: &str) -> Fault {
    Fault::new(Blame::Host, format!("reach a container engine at {endpoint}"))
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
    fn settings_that_cannot_work_are_refused_with_what_to_change() {
        let environment = |host: Option<&str>, tls_verify, cert_path: Option<&str>| DockerEnvironment {
            host: host.map(str::to_owned),
            tls_verify,
            cert_path: cert_path.map(PathBuf::from),
            context: None,
        };
        let cases = [
            (environment(None, false, None), None),
            (environment(Some("unix:///run/podman/podman.sock"), false, None), None),
            (environment(Some("tcp://engine:2376"), true, Some("/certs")), None),
            (environment(Some("tcp://engine:2376"), true, None), Some("DOCKER_CERT_PATH is not")),
            (environment(Some("ssh://me@engine"), false, None), Some("ssh://me@engine is not an address")),
            (environment(Some("/var/run/docker.sock"), false, None), Some("=/var/run/docker.sock is not an address")),
        ];
        for (environment, expected) in cases {
            let problem = environment.problem();
            match expected {
                None => assert_eq!(problem, None, "{environment:?}"),
                Some(expected) => {
                    let problem = problem.expect("a problem");
                    assert!(problem.line().contains(expected), "{}", problem.line());
                    assert!(problem.hint.is_some(), "{environment:?}");
                }
            }
        }
    }

    #[test]
    fn a_remote_engines_disk_is_not_taken_for_ours() {
        assert!(is_here("unix:///var/run/docker.sock", Path::new("/")));
        assert!(!is_here("tcp://engine:2375", Path::new("/")));
        assert!(!is_here("unix:///var/run/docker.sock", Path::new("/no/such/directory")));
    }
}
