//! Podman's engine, as its own service offers it on a socket.

use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgdrill::phase::Phase;

use crate::program::{Program, Ran, fixture, row_checks, truth};
use crate::signals::{Running, wait_for};

/// What the packages' defaults ask for is more than a container that holds this test may give.
const CONFIGURATION: &str = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=4096:4096\"]\n\
    [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nruntime = \"runc\"\n";

/// A service with storage of its own, ended when this is dropped.
struct Podman {
    directory: tempfile::TempDir,
    service: Child,
}

impl Podman {
    fn start() -> Podman {
        let directory = tempfile::Builder::new().prefix("pgdrill-podman-").tempdir_in("/tmp").unwrap();
        std::fs::write(directory.path().join("containers.conf"), CONFIGURATION).unwrap();
        let mut podman = Podman { service: Command::new("true").spawn().unwrap(), directory };
        podman.service.wait().unwrap();
        let mut service = podman.command(&["system", "service", "--time=0", &podman.address()]);
        service.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        podman.service = service.spawn().expect("podman is installed: ci/setup");
        let socket = podman.directory.path().join("podman.sock");
        wait_for("Podman's service", || std::os::unix::net::UnixStream::connect(&socket).ok().map(drop));
        let load = "docker save pgdrill-postgres:15 | \"$@\" load --quiet";
        let mut shell = Command::new("sh");
        shell.args(["-ec", load, "sh"]).args(podman.argv(&[])).env("CONTAINERS_CONF", podman.configuration());
        let output = shell.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        podman
    }

    fn address(&self) -> String {
        format!("unix://{}/podman.sock", self.directory.path().display())
    }

    fn configuration(&self) -> String {
        self.directory.path().join("containers.conf").display().to_string()
    }

    fn argv(&self, args: &[&str]) -> Vec<String> {
        let at = |name: &str| self.directory.path().join(name).display().to_string();
        let fixed = ["podman", "--storage-driver", "overlay"].map(str::to_owned);
        let places = [("--root", at("root")), ("--runroot", at("run")), ("--tmpdir", at("tmp"))];
        let places = places.into_iter().flat_map(|(flag, path)| [flag.to_owned(), path]);
        fixed.into_iter().chain(places).chain(args.iter().map(|it| (*it).to_owned())).collect()
    }

    fn command(&self, args: &[&str]) -> Command {
        let whole = self.argv(args);
        let mut command = Command::new(&whole[0]);
        command.args(&whole[1..]).env("CONTAINERS_CONF", self.configuration());
        command
    }

    fn program(&self) -> Program {
        Program::new().env("CONTAINER_HOST", &self.address())
    }

    /// Containers and volumes that are there.
    fn left(&self) -> String {
        let list = |args: &[&str]| String::from_utf8(self.command(args).output().unwrap().stdout).unwrap();
        list(&["ps", "--all", "--quiet"]) + &list(&["volume", "ls", "--quiet"])
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.service.id()).unwrap_or_default());
        let _ = kill(pid, Signal::SIGTERM);
        drop(self.service.wait());
        // Its storage is mounted on itself.
        let mounted = ["root/overlay", "root"].map(|it| self.directory.path().join(it));
        drop(Command::new("umount").args(mounted).output());
    }
}

#[test]
fn podman_runs_drills_as_docker_does_and_nothing_is_left() {
    let podman = Podman::start();
    let program = podman.program();
    let doctor = program.run(&["doctor"]).stdout;
    assert!(doctor.contains(&podman.address()), "{doctor}");
    let checks = row_checks(&truth(15), "shop", |_| true);
    for (file, restore) in [("pg15/shop.dump", ""), ("pg15/shop.dir", ", jobs: 2"), ("pg15/shop.sql.gz", "")] {
        let scenario = format!(
            "version: 1\ndrills:\n  - name: podman\n    runtime: container\n    source: {{ pg_dump: {{ path: \"{}\" }} }}\n    \
             restore: {{ database: shop{restore} }}\n    postgres: {{ image: \"pgdrill-postgres:15\" }}\n    checks:\n{checks}",
            fixture(file).display(),
        );
        podman.program().drill(&scenario, &[]).expect(0);
        assert_eq!(podman.left(), "", "{file}");
    }
    // An interrupt and a kill in mid-restore: by ourselves, and by the reaper.
    for (signal, exit) in [(Signal::SIGINT, Some(130)), (Signal::SIGKILL, None)] {
        let running = Running::start_in(podman.program(), "container", Phase::Restore);
        running.until(Phase::Restore);
        running.signal(signal);
        let ran = Ran::of(&running.child.wait_with_output().unwrap());
        assert_eq!(ran.exit, exit, "{}", ran.stderr);
        wait_for("Podman to be clean", || podman.left().is_empty().then_some(()));
    }
}
