//! A sandbox's container: making it, running programs in it, and looking at what holds it.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use testcontainers::bollard::Docker;
use testcontainers::bollard::container::LogOutput;
use testcontainers::bollard::errors::Error;
use testcontainers::bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use testcontainers::bollard::models::{HostConfig, HostConfigLogConfig, Mount, MountBindOptions, MountType};
use testcontainers::bollard::query_parameters::{InspectContainerOptions, UploadToContainerOptionsBuilder};
use testcontainers::runners::AsyncRunner;
use testcontainers::{CopyTargetOptions, GenericImage, ImageExt};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::super::room::{Ended, Exec};
use super::super::{Lease, host};
use super::door::ContainerDoor;
use super::engine::{self, Engine};
use super::output::{Ends, Lines};
use super::remote::{HELPER, Helper};
use super::vigil::{Seen, Vigil};
use super::{Role, container_name, image, labels, look};
use crate::evidence::Guarantee;
use crate::fault::{Blame, Fault};
use crate::plan::{Limits, SandboxSpec};
use crate::recipe::{At, HostCondition, RoomUser};
use crate::store::Parcel;

/// See `helper/guard.rs`; empty where the target has none.
pub(in crate::runtime) static GUARD: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/guard"));
/// The guard's status when the lease was not renewed.
const LAPSED: i32 = 75;
/// 128 + SIGKILL: how everything in a container ends when it ends, and what a lack of memory leaves of a program.
const KILLED: i32 = 137;

/// A volume of its own, gone with the container; the working directory of every program.
pub(in crate::runtime) const ROOT: &str = "/pgdrill";
/// How much of an output is kept.
const KEPT: usize = 16 * 1024;

/// A running container with a guard in it.
pub(crate) struct ContainerRoom {
    docker: Docker,
    pub(super) name: String,
    bindir: String,
    user: RoomUser,
    limits: Limits,
    inputs: usize,
    own_data: bool,
    patience: Duration,
    /// Where the engine keeps volumes, if that is on this machine.
    volumes: Option<PathBuf>,
    vigil: Vigil,
    /// Where the engine does not see our files: how they get in and out instead.
    helper: Option<Helper>,
    /// Of the lease in the container, there.
    _renewal: Option<AbortOnDropHandle<()>>,
}

/// The last word on how a container is held: tests take a hold away, and must be told of it.
pub(super) type Adjust = fn(&mut HostConfig);

/// Makes the container. When this fails, `release` finds by its label what there is of it.
pub(super) async fn make(
    engine: Engine,
    lease: &Lease,
    spec: &SandboxSpec,
    patience: Duration,
    adjust: Adjust,
) -> Result<ContainerRoom, Fault> {
    let name = container_name(lease);
    let user = room_user(spec);
    let guard = prepare(lease, spec.own_data.then_some(&user)).map_err(|error| {
        let what = format!("prepare the directory {}", lease.scratch.display());
        Fault::new(Blame::Host, what)
            .cause(error.to_string())
            .hint("Is there space left, and may this user write there?")
    })?;
    let labels = labels(lease, Role::Server, patience.as_secs());
    let image = spec.server.image.as_ref().map(|it| it.id.as_str()).unwrap_or_default();
    let mut mounts = mounts(lease, spec, &labels);
    let own = image::own_volumes(&engine.docker, image, &labels).await;
    mounts.extend(own.map_err(|error| engine::fault(format!("look at the image {image}"), &error))?);
    let vigil = Vigil::keep(engine.docker.clone(), name.clone());
    let mut config = host_config(&engine, &spec.limits, mounts);
    adjust(&mut config);
    // The guard is the first process, without an init before it: so nothing in the container can stop or kill it.
    let started = start(request(lease, spec, patience, &guard, labels, config)).await;
    started.map_err(|words| Fault::new(Blame::Host, format!("start the container {name}")).cause(words))?;
    let streams = spec.server.streams;
    let helper = Helper::new(engine.docker.clone(), name.clone(), format!("{}:{}", user.uid, user.gid));
    let room = ContainerRoom {
        docker: engine.docker,
        name,
        bindir: spec.server.bindir.clone(),
        user,
        limits: spec.limits.clone(),
        inputs: spec.inputs.len(),
        own_data: spec.own_data,
        patience,
        volumes: engine.facts.root_dir.filter(|_| !streams),
        vigil,
        // It goes on trying until its directory is there.
        _renewal: streams.then(|| helper.clone().renew(format!("{ROOT}/run/lease"), patience)),
        helper: streams.then_some(helper),
    };
    if streams {
        room.make_directories(&["data/", "run/", "spool/", "tblspc/"]).await?;
    } else if !spec.own_data {
        room.make_directories(&["data/"]).await?;
    }
    Ok(room)
}

/// Makes what the container will mount. The scratch directory itself is closed to others, which `run` and `spool` need not
/// be: the server's user writes in them, and a mount leads around their parent.
///
/// `owner`: the data directory lies on the host as well, and belongs to this user.
fn prepare(lease: &Lease, owner: Option<&RoomUser>) -> std::io::Result<PathBuf> {
    for name in owner.map_or(&[][..], |_| &["data", "tblspc"]) {
        let directory = lease.scratch.join(name);
        std::fs::create_dir_all(&directory)?;
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o700))?;
        if let Some(owner) = owner.filter(|it| it.uid != nix::unistd::geteuid().as_raw()) {
            std::os::unix::fs::chown(&directory, Some(owner.uid), Some(owner.gid))?;
        }
    }
    for name in ["run", "spool"] {
        // Where the engine does not see them, they are not used.
        let directory = lease.scratch.join(name);
        std::fs::create_dir_all(&directory)?;
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o1777))?;
    }
    let guard = lease.scratch.join("guard");
    std::fs::write(&guard, GUARD)?;
    Ok(guard)
}

/// Who programs run as. A data directory that we write as an ordinary user is ours, and a server refuses what is not its
/// own: then it runs as us.
fn room_user(spec: &SandboxSpec) -> RoomUser {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    if spec.own_data && !uid.is_root() {
        return RoomUser { name: spec.server.user.name.clone(), uid: uid.as_raw(), gid: gid.as_raw() };
    }
    spec.server.user.clone()
}

/// Starts a container, or says what the engine said.
async fn start(request: testcontainers::ContainerRequest<GenericImage>) -> Result<(), String> {
    if GUARD.is_empty() {
        return Err("this build of pgdrill has no guard to put into containers".to_owned());
    }
    let container = request.start().await.map_err(|error| error.to_string())?;
    // See the module's documentation: its Drop would do harm, and nothing of it is needed. What leaks is the request.
    std::mem::forget(container);
    Ok(())
}

fn request(
    lease: &Lease,
    spec: &SandboxSpec,
    patience: Duration,
    guard: &Path,
    labels: HashMap<String, String>,
    host_config: HostConfig,
) -> testcontainers::ContainerRequest<GenericImage> {
    // The very image that was looked into, whatever its name means by now: `sha256:` is a name with a tag to testcontainers.
    let id = spec.server.image.as_ref().map(|it| it.id.as_str()).unwrap_or_default();
    let (name, tag) = id.split_once(':').unwrap_or((id, "latest"));
    GenericImage::new(name, tag)
        .with_entrypoint(&format!("{ROOT}/guard"))
        .with_container_name(container_name(lease))
        .with_labels(labels)
        .with_cmd([format!("{ROOT}/run/lease"), patience.as_secs().to_string(), format!("{ROOT}/data")])
        .with_user(format!("{}:{}", room_user(spec).uid, room_user(spec).gid))
        .with_working_dir(ROOT)
        .with_copy_to(CopyTargetOptions::new(format!("{ROOT}/guard")).with_mode(0o755), guard.to_owned())
        .with_host_config_modifier(move |config| {
            let privileged = config.privileged;
            *config = HostConfig { privileged, ..host_config.clone() };
        })
}

fn host_config(engine: &Engine, limits: &Limits, mounts: Vec<Mount>) -> HostConfig {
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let memory = limits.memory_bytes.map(bytes);
    let mut security = vec!["no-new-privileges".to_owned()];
    if engine.facts.selinux {
        // The socket in the mounted directory is ours to use from outside.
        security.push("label=disable".to_owned());
    }
    HostConfig {
        network_mode: Some("none".to_owned()),
        publish_all_ports: Some(false),
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(security),
        pids_limit: Some(if limits.pids == 0 { 4096 } else { i64::from(limits.pids) }),
        memory,
        // The same: no swap, which would hide the lack of memory and spoil the times.
        memory_swap: memory,
        nano_cpus: limits.cpus.map(|cpus| i64::from(cpus) * 1_000_000_000),
        shm_size: Some(if limits.shm_bytes == 0 { 256 << 20 } else { bytes(limits.shm_bytes) }),
        auto_remove: Some(true),
        log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
        mounts: Some(mounts),
        ..HostConfig::default()
    }
}

fn mounts(lease: &Lease, spec: &SandboxSpec, labels: &HashMap<String, String>) -> Vec<Mount> {
    let root = image::volume(ROOT.to_owned(), labels);
    if spec.server.streams {
        return vec![root];
    }
    let bind = |source: String, target: String, read_only| Mount {
        source: Some(source),
        target: Some(target),
        typ: Some(MountType::BIND),
        read_only: Some(read_only),
        bind_options: Some(MountBindOptions::default()),
        ..Mount::default()
    };
    let names: &[&str] = if spec.own_data { &["run", "spool", "data", "tblspc"] } else { &["run", "spool"] };
    let shared =
        names.iter().map(|name| bind(lease.scratch.join(name).display().to_string(), format!("{ROOT}/{name}"), false));
    let inputs =
        spec.inputs.iter().enumerate().map(|(at, input)| bind(input.clone(), format!("{ROOT}/input/{at}"), true));
    std::iter::once(root).chain(shared).chain(inputs).collect()
}

impl ContainerRoom {
    pub(crate) fn path(&self, at: At) -> String {
        match at {
            At::Data => format!("{ROOT}/data"),
            At::Run => format!("{ROOT}/run"),
            At::Spool => format!("{ROOT}/spool"),
            At::Input(number) => format!("{ROOT}/input/{number}"),
            At::Bin => self.bindir.clone(),
        }
    }

    pub(crate) fn user(&self) -> &RoomUser {
        &self.user
    }

    /// Runs a program to its end. Dropping the future does not end the program: removing the container does.
    pub(crate) async fn exec(&self, exec: Exec) -> Result<Ended, Fault> {
        self.exec_keeping(KEPT, exec).await
    }

    /// The helper, where files pass through it.
    pub(crate) fn helper(&self) -> Option<&Helper> {
        self.helper.as_ref()
    }

    /// A regular file in the room: its beginning and its end, within a limit of bytes.
    pub(crate) async fn read(&self, path: String, limit: usize) -> Result<String, Fault> {
        let argv = vec![HELPER.to_owned(), "read".to_owned(), path.clone(), limit.to_string()];
        let exec = Exec { argv, env: BTreeMap::new(), stdin: None, on_stderr: Box::new(|_| {}) };
        // A little more, for the mark between beginning and end.
        let ended = self.exec_keeping(2 * limit, exec).await?;
        if ended.status == 0 {
            return Ok(ended.stdout);
        }
        Err(Fault::new(Blame::Host, format!("read {path} in the container")).cause(ended.stderr.trim()))
    }

    /// Puts what comes as a parcel (`store::Outbox`) into a directory of the room.
    pub(crate) async fn receive(&self, directory: &str, parcel: Parcel) -> Result<(), Fault> {
        let argv = [HELPER, "receive", directory].map(str::to_owned).to_vec();
        let exec = Exec { argv, env: BTreeMap::new(), stdin: Some(parcel), on_stderr: Box::new(|_| {}) };
        let ended = self.exec(exec).await?;
        if ended.status == 0 {
            return Ok(());
        }
        let fault = Fault::new(Blame::Host, "send files into the container").cause(ended.stderr.trim());
        Err(if ended.stderr.contains("No space left") { fault.hint("Make room on the engine's disk.") } else { fault })
    }

    /// Runs the helper: what it prints, up to eight megabytes.
    pub(crate) async fn help<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Result<String, Fault> {
        let argv = std::iter::once(HELPER).chain(words).map(str::to_owned).collect();
        let exec = Exec { argv, env: BTreeMap::new(), stdin: None, on_stderr: Box::new(|_| {}) };
        let ended = self.exec_keeping(8 << 20, exec).await?;
        if ended.status == 0 {
            return Ok(ended.stdout);
        }
        Err(Fault::new(Blame::Host, "run the helper in the container").cause(ended.stderr.trim()))
    }

    async fn exec_keeping(&self, kept: usize, exec: Exec) -> Result<Ended, Fault> {
        let Exec { argv, env, stdin, mut on_stderr } = exec;
        let program = argv.first().and_then(|it| it.rsplit('/').next()).unwrap_or("nothing").to_owned();
        let options = CreateExecOptions {
            cmd: Some(argv),
            env: Some(env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()),
            attach_stdin: Some(stdin.is_some()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            user: Some(format!("{}:{}", self.user.uid, self.user.gid)),
            working_dir: Some(ROOT.to_owned()),
            ..CreateExecOptions::default()
        };
        let id = match self.docker.create_exec(&self.name, options).await {
            Ok(created) => created.id,
            Err(error) => return Err(self.broken(&program, &error).await),
        };
        let start = StartExecOptions { output_capacity: Some(64 * 1024), ..StartExecOptions::default() };
        let (output, input) = match self.docker.start_exec(&id, Some(start)).await {
            Ok(StartExecResults::Attached { output, input }) => (output, input),
            Ok(StartExecResults::Detached) => {
                return Err(Fault::new(Blame::Harness, format!("run {program}: it was detached")));
            }
            Err(error) => return Err(self.broken(&program, &error).await),
        };
        let (stdout, stderr) = match converse(output, input, stdin, kept, &mut *on_stderr).await {
            Ok(outputs) => outputs,
            Err(error) => return Err(self.broken(&program, &error).await),
        };
        let status = match status(&self.docker, &id).await {
            Ok(status) => status,
            Err(error) => return Err(self.broken(&program, &error).await),
        };
        // The program was perhaps only the first casualty of its container, whose own end is news a moment later.
        if status == KILLED && self.vigil.ending(Duration::from_secs(3)).await.ended.is_some() {
            return Err(self.death(&program).await);
        }
        if matches!(status, 126 | 127) && stdout.contains("OCI runtime exec failed") {
            let fault = Fault::new(Blame::Host, format!("run {program} in the container")).cause(stdout.trim());
            return Err(fault.hint(
                "The engine could start no program there: see the container's limits on processes and memory, and the engine's log.",
            ));
        }
        Ok(Ended { status, stdout, stderr })
    }

    /// What the host did to the container so far.
    pub(crate) async fn conditions(&self) -> Vec<HostCondition> {
        let inspected = self.docker.inspect_container(&self.name, None::<InspectContainerOptions>);
        let inspected = tokio::time::timeout(Duration::from_secs(5), inspected).await;
        let seen = self.vigil.seen();
        let mut conditions = Vec::new();
        let mut out_of_memory = seen.out_of_memory;
        match inspected {
            Ok(Ok(container)) => {
                let state = container.state.unwrap_or_default();
                out_of_memory |= state.oom_killed == Some(true);
                if state.running == Some(false) {
                    conditions.push(HostCondition::SandboxDied);
                }
            }
            Ok(Err(error)) if engine::is_absent(&error) => conditions.push(HostCondition::SandboxDied),
            Ok(Err(error)) if engine::status(&error).is_some() => {}
            Ok(Err(_)) | Err(_) => conditions.push(HostCondition::EngineGone),
        }
        if out_of_memory {
            conditions.push(HostCondition::OutOfMemory);
        }
        if self.disk().and_then(host::disk).is_some_and(host::Disk::is_full) {
            conditions.push(HostCondition::DiskFull);
        }
        conditions.sort();
        conditions
    }

    pub(in crate::runtime) fn door(&self) -> ContainerDoor {
        ContainerDoor {
            name: self.name.clone(),
            user: format!("{}:{}", self.user.uid, self.user.gid),
            bindir: self.bindir.clone(),
            streams: self.helper.is_some(),
        }
    }

    /// Whether the data lie in the scratch directory, and not in a volume.
    pub(in crate::runtime) fn own_data(&self) -> bool {
        self.own_data
    }

    /// Where the engine keeps volumes, if that is on this machine.
    pub(in crate::runtime) fn disk(&self) -> Option<&Path> {
        self.volumes.as_deref()
    }

    /// What isolation is in force, by looking from inside and at what the engine says.
    pub(crate) async fn observe(&self) -> Result<Vec<Guarantee>, Fault> {
        let what = || "see how the sandbox is isolated";
        let inspected = self.docker.inspect_container(&self.name, None::<InspectContainerOptions>).await;
        let inspected = inspected.map_err(|error| engine::fault(what(), &error))?;
        let argv = ["/bin/sh", "-c", look::SCRIPT].map(str::to_owned).to_vec();
        let exec = Exec { argv, env: BTreeMap::new(), stdin: None, on_stderr: Box::new(|_| {}) };
        let ended = self.exec(exec).await?;
        if ended.status != 0 {
            return Err(Fault::new(Blame::Host, what()).cause(ended.stderr.trim()));
        }
        Ok(look::guarantees(&ended.stdout, &inspected, &self.limits, self.inputs))
    }

    /// The server's user may not write in a fresh volume, and there is nobody in the room who may let it: the engine does.
    async fn make_directories(&self, paths: &[&str]) -> Result<(), Fault> {
        let what = || "make the data directory in the container";
        let archive = directory_archive(paths, 0o700, &self.user);
        let archive = archive.map_err(|error| Fault::new(Blame::Harness, what()).cause(error.to_string()))?;
        let options = UploadToContainerOptionsBuilder::new().path(ROOT).build();
        let body = testcontainers::bollard::body_full(archive.into());
        match self.docker.upload_to_container(&self.name, Some(options), body).await {
            Ok(()) => Ok(()),
            Err(error) if self.is_running().await => Err(engine::fault(what(), &error)),
            Err(_) => Err(self.death("anything").await),
        }
    }

    /// Why a conversation with the engine broke off: because the container is no more, or because of the engine.
    async fn broken(&self, program: &str, error: &Error) -> Fault {
        if engine::status(error).is_none() && !matches!(error, Error::RequestTimeoutError) {
            // The engine may be gone too, and then nothing will be known of the container.
            let ping = tokio::time::timeout(Duration::from_secs(3), self.docker.ping()).await;
            if !matches!(ping, Ok(Ok(_))) {
                return engine::fault(format!("run {program} in the container: the engine went away"), error);
            }
        }
        if self.is_running().await {
            engine::fault(format!("run {program} in the container"), error)
        } else {
            self.death(program).await
        }
    }

    async fn is_running(&self) -> bool {
        let seen = self.docker.inspect_container(&self.name, None::<InspectContainerOptions>).await;
        seen.is_ok_and(|it| it.state.and_then(|state| state.running) == Some(true))
    }

    /// The container ended while `program` ran in it.
    async fn death(&self, program: &str) -> Fault {
        let seen = self.vigil.ending(Duration::from_secs(2)).await;
        death(&seen, program, self.patience)
    }
}

/// Its status may come a moment after the end of its output; podman says 0 until then.
pub(super) async fn status(docker: &Docker, id: &str) -> Result<i32, Error> {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut pause = Duration::from_millis(2);
    loop {
        let seen = docker.inspect_exec(id).await?;
        if let (Some(false), Some(status)) = (seen.running, seen.exit_code) {
            return Ok(i32::try_from(status).unwrap_or(i32::MAX));
        }
        if Instant::now() > deadline {
            return Err(Error::RequestTimeoutError);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

fn death(seen: &Seen, program: &str, patience: Duration) -> Fault {
    let fault = Fault::new(Blame::Host, format!("run {program}: its container ended"));
    let status = seen.ended.as_ref().and_then(|it| it.status);
    if seen.out_of_memory {
        return fault.cause("the kernel killed it for want of memory").hint(
            "Give the drill more with `postgres.memory`, or ask for less with `restore.jobs` and `restore.settings`.",
        );
    }
    match status {
        Some(LAPSED) => fault
            .cause(format!("its guard ended it: the lease was not renewed for {} s", patience.as_secs()))
            .hint("Something kept pgdrill from running for that long; run the drill again."),
        Some(status) => fault
            .cause(format!("it ended with status {status}"))
            .hint("Somebody or something outside of pgdrill ended it; `journalctl -u docker` may know who."),
        None => fault
            .cause("the engine did not say how it ended")
            .hint("Somebody or something outside of pgdrill removed it; `journalctl -u docker` may know who."),
    }
}

/// Talks with a program until its output ends: feeds it and reads it at the same time, neither faster than it goes.
async fn converse(
    mut output: impl Stream<Item = Result<LogOutput, Error>> + Unpin,
    input: impl AsyncWrite + Unpin,
    stdin: Option<mpsc::Receiver<Vec<u8>>>,
    kept: usize,
    on_stderr: &mut (dyn FnMut(&str) + Send),
) -> Result<(String, String), Error> {
    let (mut stdout, mut stderr, mut lines) = (Ends::new(kept), Ends::new(kept), Lines::default());
    let feeding = feed(stdin, input);
    tokio::pin!(feeding);
    let mut fed = false;
    loop {
        let chunk = tokio::select! {
            () = &mut feeding, if !fed => {
                fed = true;
                continue;
            }
            chunk = output.next() => chunk,
        };
        match chunk {
            Some(Ok(LogOutput::StdErr { message })) => {
                stderr.push(&message);
                lines.push(&message, on_stderr);
            }
            Some(Ok(LogOutput::StdOut { message } | LogOutput::Console { message })) => stdout.push(&message),
            Some(Ok(LogOutput::StdIn { .. })) => {}
            Some(Err(error)) => return Err(error),
            None => break,
        }
    }
    lines.finish(on_stderr);
    Ok((stdout.into_text(), stderr.into_text()))
}

/// Writes all chunks, then says that there are no more. When nobody reads any more it ends, which drops the receiver.
async fn feed(stdin: Option<mpsc::Receiver<Vec<u8>>>, mut input: impl AsyncWrite + Unpin) {
    let Some(mut stdin) = stdin else { return };
    while let Some(chunk) = stdin.recv().await {
        if input.write_all(&chunk).await.is_err() {
            return;
        }
    }
    // The program may have ended before it came to the end of its input: its status tells.
    drop(input.shutdown().await);
}

/// An archive with empty directories in it.
fn directory_archive(paths: &[&str], mode: u32, owner: &RoomUser) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for path in paths {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_path(path)?;
        header.set_mode(mode);
        header.set_uid(u64::from(owner.uid));
        header.set_gid(u64::from(owner.gid));
        header.set_size(0);
        header.set_cksum();
        archive.append(&header, std::io::empty())?;
    }
    archive.into_inner()
}

#[cfg(test)]
mod tests {
    use super::super::vigil::Ending;
    use super::*;

    #[test]
    fn a_containers_death_says_why_and_never_blames_the_backup() {
        let seen =
            |out_of_memory, status: Option<i32>| Seen { out_of_memory, ended: Some(Ending { status }), silent: false };
        let cases = [
            (seen(true, Some(137)), "want of memory"),
            (seen(false, Some(75)), "not renewed for 600 s"),
            (seen(false, Some(137)), "status 137"),
            (seen(false, None), "did not say"),
            (Seen { silent: true, ..Seen::default() }, "did not say"),
        ];
        for (seen, expected) in cases {
            let fault = death(&seen, "pg_restore", Duration::from_secs(600));
            assert_eq!(fault.blame, Blame::Host);
            assert!(fault.line().contains(expected), "{}", fault.line());
            assert!(fault.hint.is_some());
        }
    }
}
