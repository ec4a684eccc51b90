//! Images that are pulled: from Debian's docker-registry on loopback, which asks for a password.

use std::process::{Child, Command, Stdio};

use crate::program::{Program, fixture};
use crate::signals::wait_for;

/// `drill` for the user `ci`, as `htpasswd -B` writes it.
const PASSWORDS: &str = "ci:$2y$05$abcdefghijklmnopqrstuu64hS0tMSUOBk6N1ja..hWuWarrWDnNO\n";

struct Registry {
    directory: tempfile::TempDir,
    daemon: Child,
    port: u16,
}

impl Registry {
    fn start() -> Registry {
        let directory = tempfile::Builder::new().prefix("pgdrill-registry-").tempdir_in("/tmp").unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        std::fs::write(at("passwords"), PASSWORDS).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "version: 0.1\nlog: {{ accesslog: {{ disabled: true }}, level: error }}\n\
             storage: {{ filesystem: {{ rootdirectory: {} }} }}\nhttp: {{ addr: \"127.0.0.1:{port}\" }}\n\
             auth: {{ htpasswd: {{ realm: tests, path: {} }} }}\n",
            at("images"),
            at("passwords"),
        );
        std::fs::write(at("config.yml"), config).unwrap();
        let mut daemon = Command::new("docker-registry");
        daemon.args(["serve", &at("config.yml")]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let daemon = daemon.spawn().expect("docker-registry is installed: ci/setup");
        wait_for("the registry", || std::net::TcpStream::connect(("127.0.0.1", port)).ok().map(drop));
        Registry { directory, daemon, port }
    }

    fn image(&self) -> String {
        format!("127.0.0.1:{}/databases/postgres:15", self.port)
    }

    /// A directory of Docker's own, in which somebody has logged in.
    fn credentials(&self) -> String {
        self.directory.path().join("docker").display().to_string()
    }

    /// As a person would do it, with Docker's own client.
    fn push(&self) {
        let docker = |args: &[&str]| {
            let output = Command::new("docker").args(args).env("DOCKER_CONFIG", self.credentials()).output().unwrap();
            assert!(output.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        docker(&["login", "--username", "ci", "--password", "drill", &format!("127.0.0.1:{}", self.port)]);
        docker(&["tag", "pgdrill-postgres:15", &self.image()]);
        docker(&["push", "--quiet", &self.image()]);
        docker(&["image", "rm", &self.image()]);
    }

    fn is_here(&self) -> bool {
        let output = Command::new("docker").args(["image", "ls", "--quiet", &self.image()]).output().unwrap();
        !output.stdout.is_empty()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(Command::new("docker").args(["image", "rm", "--force", &self.image()]).output());
        drop(self.daemon.kill());
        drop(self.daemon.wait());
    }
}

#[test]
fn an_image_is_pulled_from_a_registry_that_asks_for_a_password() {
    let registry = Registry::start();
    registry.push();
    assert!(!registry.is_here(), "the image has to be pulled");
    let scenario = format!(
        "version: 1\ndrills:\n  - name: pulled\n    runtime: container\n    source: {{ pg_dump: {{ path: \"{}\" }} }}\n    \
         postgres: {{ image: \"{}\" }}\n    checks:\n      - query: {{ name: it answers, sql: select 1, expect: 1 }}\n",
        fixture("pg15/shop.dump").display(),
        registry.image(),
    );
    // Without the password: nobody can tell what the backup is worth.
    let stranger = Program::new().env("DOCKER_CONFIG", "/nonexistent");
    let ran = stranger.drill(&scenario, &[]).expect(3);
    let text = ran.folded();
    assert!(text.contains(&format!("pull the image {}", registry.image())), "{text}");
    assert!(text.contains("no basic auth credentials"), "{text}");
    assert!(text.contains("fault: this host"), "{text}");

    let program = Program::new().env("DOCKER_CONFIG", &registry.credentials());
    program.drill(&scenario, &[]).expect(0);
    assert!(registry.is_here());
    for kept in ["out/evidence.json", "out/events.ndjson", "out/report.json"] {
        let kept = std::fs::read_to_string(program.path(kept)).unwrap();
        assert!(!kept.contains("Y2k6ZHJpbGw"), "no credentials in what is kept");
    }
    let kept = std::fs::read_to_string(program.path("out/evidence.json")).unwrap();
    assert!(kept.contains("which was pulled"), "the evidence says where the image came from");
}
