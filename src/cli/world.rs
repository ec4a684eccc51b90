//! This machine, as the environment describes it: read once, into values.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::{Exit, complain_of};
use crate::fault::{Blame, Fault};
use crate::runtime::container::{Container, ContainerSettings, DockerEnvironment, Sweep};
use crate::runtime::keeper::{self, Kept};
use crate::runtime::local::{Local, LocalSettings};
use crate::runtime::machine::Machine;
use crate::runtime::{self, Afterlife, cgroup, lease};

/// Everything that the environment says.
pub(crate) struct Surroundings {
    pub(crate) base: PathBuf,
    pub(crate) exe: PathBuf,
    pub(crate) patience: Duration,
    cache_dir: PathBuf,
    bindirs: Vec<PathBuf>,
    docker: DockerEnvironment,
}

impl Surroundings {
    pub(crate) fn read() -> Result<Surroundings, Fault> {
        let path = |name: &str| std::env::var_os(name).filter(|it| !it.is_empty()).map(PathBuf::from);
        let exe = std::env::current_exe()
            .map_err(|error| Fault::new(Blame::Host, "find pgdrill's own program").cause(error.to_string()))?;
        let cache = path("PGDRILL_CACHE_DIR")
            .or_else(|| path("XDG_CACHE_HOME").map(|it| it.join("pgdrill")))
            .or_else(|| path("HOME").map(|it| it.join(".cache/pgdrill")));
        let wanted = path("TMPDIR");
        let base = lease::default_base(wanted.as_deref());
        if let Some(wanted) = wanted.filter(|it| *it != base) {
            tracing::warn!("TMPDIR={} is no short absolute path: drills use {}", wanted.display(), base.display());
        }
        let bindirs = ["PGDRILL_BINDIR", "PATH"].into_iter().filter_map(std::env::var_os);
        let bindirs = bindirs.flat_map(|it| std::env::split_paths(&it).collect::<Vec<_>>());
        let text = |name: &str| std::env::var(name).ok().filter(|it| !it.is_empty());
        // Only tests shorten it: a frozen machine must not look like a dead one.
        let patience = text("PGDRILL_PATIENCE_SECONDS")
            .and_then(|it| it.parse().ok())
            .map_or(lease::PATIENCE, Duration::from_secs);
        Ok(Surroundings {
            cache_dir: cache.unwrap_or_else(|| base.join(format!(".pgdrill-cache-{}", nix::unistd::geteuid()))),
            base,
            exe,
            patience,
            bindirs: bindirs.filter(|it| it.is_absolute()).collect(),
            docker: docker_environment(),
        })
    }

    pub(crate) fn machine(&self) -> Machine {
        let (cache_dir, patience, docker) = (self.cache_dir.clone(), self.patience, self.docker.clone());
        let container = Container::new(ContainerSettings { cache_dir, patience, docker });
        let local = Local::new(LocalSettings {
            bindirs: self.bindirs.clone(),
            exe: self.exe.clone(),
            cgroups: cgroup::ROOT.into(),
        });
        Machine::new(container, local, self.patience)
    }
}

/// Why the variables of Docker are as they are, where pgdrill has set them itself.
const BECAUSE: &str = "PGDRILL_ENGINE_BECAUSE";

fn docker_environment() -> DockerEnvironment {
    let path = |name: &str| std::env::var_os(name).filter(|it| !it.is_empty()).map(PathBuf::from);
    let text = |name: &str| std::env::var(name).ok().filter(|it| !it.is_empty());
    DockerEnvironment {
        host: text("DOCKER_HOST"),
        tls_verify: text("DOCKER_TLS_VERIFY"),
        cert_path: path("DOCKER_CERT_PATH"),
        context: text("DOCKER_CONTEXT"),
        container_host: text("CONTAINER_HOST"),
        config_dir: path("DOCKER_CONFIG").or_else(|| path("HOME").map(|it| it.join(".docker"))),
        runtime_dir: path("XDG_RUNTIME_DIR"),
        because: text(BECAUSE),
    }
}

/// What this process is, if it was started by pgdrill itself and not by a person. Must come before any thread.
pub fn reexecuted(args: &[OsString]) -> Option<ExitCode> {
    let code = runtime::reexecuted(args, &Afterlife { sweep: &sweep_run, keep: &keep });
    if code.is_none() {
        enter_engine(args);
    }
    code
}

/// Starts pgdrill again with the variables that mean the engine which a context or a socket stands for: the client library
/// reads those and nothing else, and setting them in a living process is unsafe code. Returns where there is no need, and
/// where it cannot be done: then whoever asks for the engine learns why.
fn enter_engine(args: &[OsString]) {
    let environment = docker_environment();
    let Ok(address) = environment.find() else { return };
    let (Ok(exe), Some((name, rest))) = (std::env::current_exe(), args.split_first()) else { return };
    if environment.because.is_some() || environment.means(&address) {
        return;
    }
    let mut again = std::process::Command::new(exe);
    again.arg0(name).args(rest).env(BECAUSE, &address.because);
    for (variable, value) in address.variables() {
        match value {
            Some(value) => again.env(variable, value),
            None => again.env_remove(variable),
        };
    }
    let error = again.exec();
    tracing::warn!(%error, "pgdrill could not be started again for the engine");
}

/// A keeper's life. It inherits the variables that mean the engine from the pgdrill that started it.
fn keep(kept: &Kept) -> ExitCode {
    let (Ok(surroundings), Ok(runtime)) =
        (Surroundings::read(), tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build())
    else {
        return ExitCode::FAILURE;
    };
    let machine = surroundings.machine();
    if runtime.block_on(keeper::keep(&machine, kept)) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The reaper's work on the engine: everything of one run goes, but for what is kept. False: something may be left.
fn sweep_run(run: &str, kept: &[PathBuf]) -> bool {
    let (Ok(surroundings), Ok(runtime)) =
        (Surroundings::read(), tokio::runtime::Builder::new_current_thread().enable_all().build())
    else {
        return false;
    };
    let machine = surroundings.machine();
    // Nobody reads what a reaper says; `pgdrill clean` finds what it could not remove.
    let swept = runtime.block_on(machine.container.sweep(Sweep::Run { run: run.to_owned(), except: kept.to_vec() }));
    swept.is_ok_and(|it| it.remnants.is_empty())
}

/// The surroundings, or the exit status after having said what is wrong.
pub(crate) fn surroundings() -> Result<Surroundings, Exit> {
    Surroundings::read().map_err(|fault| {
        complain_of(&fault);
        Exit::Bug
    })
}
