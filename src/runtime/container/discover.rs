//! Which container engine is meant: by the variables that people set, by Docker's contexts, by the sockets of this machine.
//!
//! The first that applies of: `DOCKER_HOST`; `DOCKER_CONTEXT`; `CONTAINER_HOST` (Podman's own); the context that Docker's
//! `config.json` calls current; the first of the usual sockets that accepts a connection. What follows a setting that is
//! there is not looked at, whether it works or not: a drill on another engine than the one that was named proves nothing
//! about it. testcontainers reads only the variables, so whatever else decided is put into them by starting pgdrill
//! again: see [`Address::variables`].

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::fault::{Blame, Fault};

const DEFAULT: &str = "unix:///var/run/docker.sock";
/// A client's certificate, its key, and who signed the engine's, as Docker names them.
const TLS_FILES: [&str; 3] = ["ca.pem", "cert.pem", "key.pem"];

/// What tells which engine is meant, as it was when pgdrill started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DockerEnvironment {
    /// `DOCKER_HOST`
    pub(crate) host: Option<String>,
    /// `DOCKER_TLS_VERIFY`; any text means yes, as it does to Docker.
    pub(crate) tls_verify: Option<String>,
    /// `DOCKER_CERT_PATH`
    pub(crate) cert_path: Option<PathBuf>,
    /// `DOCKER_CONTEXT`
    pub(crate) context: Option<String>,
    /// `CONTAINER_HOST`
    pub(crate) container_host: Option<String>,
    /// `DOCKER_CONFIG`, else `~/.docker`.
    pub(crate) config_dir: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`
    pub(crate) runtime_dir: Option<PathBuf>,
    /// Why these variables are as they are, where pgdrill has set them itself.
    pub(crate) because: Option<String>,
}

/// Where an engine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// `unix://…` or `tcp://…`
    pub(crate) host: String,
    /// The directory of [`TLS_FILES`], where the connection is encrypted.
    pub(crate) tls: Option<PathBuf>,
    /// Why this one, as words that follow a comma.
    pub(crate) because: String,
}

impl Address {
    /// The variables that mean this engine to every client of Docker; None: to be removed.
    pub(crate) fn variables(&self) -> [(&'static str, Option<OsString>); 4] {
        [
            ("DOCKER_HOST", Some(self.host.clone().into())),
            ("DOCKER_TLS_VERIFY", self.tls.as_ref().map(|_| "1".into())),
            ("DOCKER_CERT_PATH", self.tls.clone().map(PathBuf::into_os_string)),
            ("DOCKER_CONTEXT", None),
        ]
    }
}

impl DockerEnvironment {
    /// The engine that is meant. Fault: a setting with which none can be reached.
    pub(crate) fn find(&self) -> Result<Address, Fault> {
        if let Some(host) = &self.host {
            let because = self.because.clone().unwrap_or_else(|| "as DOCKER_HOST says".to_owned());
            return self.named("DOCKER_HOST", host, because);
        }
        if let Some(context) = &self.context {
            return self.context(context, &format!("as DOCKER_CONTEXT={context} says"));
        }
        if let Some(host) = &self.container_host {
            return self.named("CONTAINER_HOST", host, "as CONTAINER_HOST says".to_owned());
        }
        if let Some(context) = self.current_context()? {
            return self.context(&context, &format!("the current context of docker, {context}"));
        }
        Ok(self.socket())
    }

    /// Whether clients find this engine by the variables as they are.
    pub(crate) fn means(&self, address: &Address) -> bool {
        let host = self.host.as_deref().unwrap_or(DEFAULT);
        let verify = self.tls_verify.as_deref();
        host == address.host
            && match &address.tls {
                Some(tls) => verify == Some("1") && self.cert_path.as_ref() == Some(tls),
                None => verify != Some("1"),
            }
    }

    fn named(&self, variable: &str, host: &str, because: String) -> Result<Address, Fault> {
        reachable(&format!("{variable}={host}"), host)?;
        let encrypted = self.tls_verify.is_some() && is_network(host);
        let tls = match (&self.cert_path, &self.config_dir) {
            _ if !encrypted => None,
            (Some(directory), _) | (None, Some(directory)) => Some(certificates(host, directory)?),
            (None, None) => {
                return Err(unreachable(host)
                    .cause("DOCKER_TLS_VERIFY is set and DOCKER_CERT_PATH is not")
                    .hint("Set DOCKER_CERT_PATH to the directory of ca.pem, cert.pem and key.pem."));
            }
        };
        Ok(Address { host: host.to_owned(), tls, because })
    }

    /// What Docker's `config.json` calls current. Without one there is no context.
    fn current_context(&self) -> Result<Option<String>, Fault> {
        #[derive(Deserialize)]
        struct Config {
            #[serde(rename = "currentContext")]
            current_context: Option<String>,
        }
        let Some(path) = self.config_dir.as_ref().map(|it| it.join("config.json")) else { return Ok(None) };
        let Ok(text) = std::fs::read(&path) else { return Ok(None) };
        let config: Config = serde_json::from_slice(&text).map_err(|error| {
            Fault::new(Blame::Host, format!("read {}", path.display())).cause(error.to_string()).hint(
                "Mend the file, or set DOCKER_HOST: the file says which context is current, and where passwords are kept.",
            )
        })?;
        Ok(config.current_context.filter(|it| !it.is_empty() && it != "default"))
    }

    /// Layout: `contexts/meta/<sha256 of the name>/meta.json` and `contexts/tls/<same>/docker/`; see cli/context/store of
    /// docker/cli.
    fn context(&self, name: &str, because: &str) -> Result<Address, Fault> {
        if name == "default" {
            return Ok(self.socket());
        }
        let fault = |cause: String| {
            Fault::new(Blame::Host, format!("follow the docker context {name}"))
                .cause(cause)
                .hint("`docker context ls` shows those that there are; DOCKER_HOST chooses an engine without them.")
        };
        let Some(contexts) = self.config_dir.as_ref().map(|it| it.join("contexts")) else {
            return Err(fault("neither HOME nor DOCKER_CONFIG says where contexts are kept".to_owned()));
        };
        let id = context_id(name);
        let path = contexts.join("meta").join(&id).join("meta.json");
        let text = std::fs::read(&path).map_err(|error| fault(format!("{}: {error}", path.display())))?;
        let meta: Meta =
            serde_json::from_slice(&text).map_err(|error| fault(format!("{}: {error}", path.display())))?;
        let Some(Endpoint { host: Some(host), skip_tls_verify }) = meta.endpoints.docker else {
            return Err(fault("it names no address of an engine".to_owned()));
        };
        reachable(&format!("the address of context {name}, {host},"), &host)?;
        if skip_tls_verify {
            return Err(fault("it says not to verify the engine's certificate, which pgdrill always does".to_owned()));
        }
        let directory = contexts.join("tls").join(&id).join("docker");
        let tls = if directory.is_dir() && is_network(&host) { Some(certificates(&host, &directory)?) } else { None };
        Ok(Address { host, tls, because: because.to_owned() })
    }

    /// The first of the usual sockets that accepts a connection, else the first of all.
    fn socket(&self) -> Address {
        let below = |base: &Option<PathBuf>, path: &str| base.as_ref().map(|it| it.join(path));
        let candidates = [
            Some(PathBuf::from("/var/run/docker.sock")),
            below(&self.runtime_dir, "docker.sock"),
            below(&self.config_dir, "run/docker.sock"),
            below(&self.config_dir, "desktop/docker.sock"),
            below(&self.runtime_dir, "podman/podman.sock"),
            Some(PathBuf::from("/run/podman/podman.sock")),
        ];
        first_answering(candidates.into_iter().flatten())
    }
}

#[derive(Deserialize)]
struct Meta {
    #[serde(rename = "Endpoints")]
    endpoints: Endpoints,
}

#[derive(Deserialize)]
struct Endpoints {
    docker: Option<Endpoint>,
}

#[derive(Deserialize)]
struct Endpoint {
    #[serde(rename = "Host")]
    host: Option<String>,
    #[serde(rename = "SkipTLSVerify", default)]
    skip_tls_verify: bool,
}

fn first_answering(candidates: impl Iterator<Item = PathBuf>) -> Address {
    let mut passed_over = Vec::new();
    for path in candidates {
        match UnixStream::connect(&path) {
            Ok(_) => {
                let because = if passed_over.is_empty() {
                    "the usual socket".to_owned()
                } else {
                    format!("the first usual socket that answers; {}", passed_over.join("; "))
                };
                return Address { host: format!("unix://{}", path.display()), tls: None, because };
            }
            Err(error) => passed_over.push(format!("{}: {error}", path.display())),
        }
    }
    Address {
        host: DEFAULT.to_owned(),
        tls: None,
        because: format!("and none of the usual sockets answers: {}", passed_over.join("; ")),
    }
}

/// How docker/cli names a context's directories.
fn context_id(name: &str) -> String {
    Sha256::digest(name.as_bytes()).iter().fold(String::new(), |mut id, it| {
        let _ = write!(id, "{it:02x}");
        id
    })
}

fn is_network(host: &str) -> bool {
    ["tcp://", "http://", "https://"].iter().any(|it| host.starts_with(it))
}

/// Refuses what is no address that pgdrill can reach. `said`: the setting, as it is to be quoted.
fn reachable(said: &str, host: &str) -> Result<(), Fault> {
    if host.starts_with("unix:///") || is_network(host) {
        return Ok(());
    }
    Err(unreachable(host).cause(format!("{said} is not an address that can be reached from here")).hint(
        "Use unix:// with the path of a socket, or tcp://. A socket behind ssh can be had here: \
         `ssh -nNT -L /tmp/engine.sock:/var/run/docker.sock USER@HOST`, then DOCKER_HOST=unix:///tmp/engine.sock.",
    ))
}

/// The directory, if all that it takes is there.
fn certificates(host: &str, directory: &Path) -> Result<PathBuf, Fault> {
    match TLS_FILES.iter().map(|it| directory.join(it)).find_map(|it| Some((std::fs::File::open(&it).err()?, it))) {
        None => Ok(directory.to_owned()),
        Some((error, missing)) => Err(unreachable(host).cause(format!("{}: {error}", missing.display())).hint(
            "TLS takes ca.pem, cert.pem and key.pem in DOCKER_CERT_PATH, or in the context (`docker context create`).",
        )),
    }
}

pub(super) fn unreachable(endpoint: &str) -> Fault {
    Fault::new(Blame::Host, format!("reach a container engine at {endpoint}"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn host(host: &str) -> DockerEnvironment {
        DockerEnvironment { host: Some(host.to_owned()), ..DockerEnvironment::default() }
    }

    /// A configuration directory with a context, and whether it has TLS material.
    fn configured(current: &str, host: &str, tls: bool) -> (tempfile::TempDir, DockerEnvironment) {
        let directory = tempfile::tempdir().unwrap();
        let id = context_id("far");
        let meta = directory.path().join("contexts/meta").join(&id);
        std::fs::create_dir_all(&meta).unwrap();
        let text = format!(r#"{{"Name":"far","Metadata":{{}},"Endpoints":{{"docker":{{"Host":"{host}"}}}}}}"#);
        std::fs::write(meta.join("meta.json"), text).unwrap();
        std::fs::write(directory.path().join("config.json"), format!(r#"{{"auths":{{}}{current}}}"#)).unwrap();
        if tls {
            let tls = directory.path().join("contexts/tls").join(&id).join("docker");
            std::fs::create_dir_all(&tls).unwrap();
            for name in TLS_FILES {
                std::fs::write(tls.join(name), "").unwrap();
            }
        }
        let config_dir = Some(directory.path().to_owned());
        (directory, DockerEnvironment { config_dir, ..DockerEnvironment::default() })
    }

    #[test]
    fn settings_that_cannot_work_are_refused_with_what_to_change() {
        let secure = |cert_path: Option<&str>| DockerEnvironment {
            tls_verify: Some("1".to_owned()),
            cert_path: cert_path.map(PathBuf::from),
            ..host("tcp://engine:2376")
        };
        let cases = [
            (secure(None), "DOCKER_CERT_PATH is not"),
            (secure(Some("/no/such/directory")), "/no/such/directory/ca.pem"),
            (host("ssh://me@engine"), "DOCKER_HOST=ssh://me@engine is not an address"),
            (host("/var/run/docker.sock"), "=/var/run/docker.sock is not an address"),
            (DockerEnvironment { context: Some("far".to_owned()), ..DockerEnvironment::default() }, "neither HOME"),
        ];
        for (environment, expected) in cases {
            let fault = environment.find().unwrap_err();
            assert!(fault.line().contains(expected), "{}", fault.line());
            assert!(fault.hint.is_some() && fault.blame == Blame::Host, "{environment:?}");
        }
        for fine in ["unix:///run/podman/podman.sock", "tcp://engine:2375"] {
            assert_eq!(host(fine).find().unwrap().host, fine);
        }
    }

    #[test]
    fn a_named_engine_comes_before_a_context_and_a_context_before_sockets() {
        let (_directory, configured) = configured(r#","currentContext":"far""#, "tcp://far:2376", true);
        let found = |environment: &DockerEnvironment| environment.find().map(|it| (it.host, it.tls.is_some())).unwrap();
        assert_eq!(found(&configured), ("tcp://far:2376".to_owned(), true));
        let podman = DockerEnvironment { container_host: Some("unix:///podman".to_owned()), ..configured.clone() };
        assert_eq!(found(&podman), ("unix:///podman".to_owned(), false));
        let context = DockerEnvironment { context: Some("far".to_owned()), ..podman.clone() };
        assert_eq!(found(&context), ("tcp://far:2376".to_owned(), true));
        let named = DockerEnvironment { host: Some("unix:///named".to_owned()), ..context.clone() };
        assert_eq!(found(&named), ("unix:///named".to_owned(), false));
        let absent = DockerEnvironment { context: Some("near".to_owned()), ..configured };
        let fault = absent.find().unwrap_err();
        assert!(fault.line().contains("follow the docker context near"), "{}", fault.line());
    }

    #[test]
    fn a_context_without_certificates_is_followed_in_the_clear_and_one_by_ssh_is_refused() {
        let (_directory, clear) = configured(r#","currentContext":"far""#, "tcp://far:2375", false);
        assert_eq!(clear.find().unwrap().tls, None);
        let (_directory, ssh) = configured(r#","currentContext":"far""#, "ssh://me@far", false);
        assert!(ssh.find().unwrap_err().hint.unwrap().contains("ssh -nNT -L"));
        let (_directory, none) = configured("", "tcp://far:2375", false);
        assert!(none.find().unwrap().host.starts_with("unix://"));
    }

    #[test]
    fn variables_are_set_only_where_they_would_change_anything() {
        let address = |host: &str, tls: Option<&str>| Address {
            host: host.to_owned(),
            tls: tls.map(PathBuf::from),
            because: String::new(),
        };
        assert!(DockerEnvironment::default().means(&address(DEFAULT, None)));
        assert!(!DockerEnvironment::default().means(&address("unix:///run/podman/podman.sock", None)));
        let cert_path = Some(PathBuf::from("/c"));
        let secure = |word: &str| DockerEnvironment {
            tls_verify: Some(word.to_owned()),
            cert_path: cert_path.clone(),
            ..host("tcp://far:2376")
        };
        assert!(secure("1").means(&address("tcp://far:2376", Some("/c"))));
        assert!(!secure("yes").means(&address("tcp://far:2376", Some("/c"))), "testcontainers knows only 1");
    }

    #[test]
    fn sockets_that_do_not_answer_are_passed_over_and_named() {
        let directory = tempfile::tempdir().unwrap();
        let (dead, live) = (directory.path().join("dead.sock"), directory.path().join("live.sock"));
        drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
        let _listener = std::os::unix::net::UnixListener::bind(&live).unwrap();
        let found = first_answering([dead.clone(), live.clone()].into_iter());
        assert_eq!(found.host, format!("unix://{}", live.display()));
        assert!(found.because.contains(&dead.display().to_string()), "{}", found.because);
        assert!(first_answering([dead].into_iter()).because.contains("none of the usual sockets"));
    }
}
