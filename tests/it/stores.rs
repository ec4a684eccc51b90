//! Object stores on loopback, with TLS: S3 by rclone, Google Cloud Storage by fake-gcs-server, Azure by Azurite.
//!
//! Each is started once for all tests of a run, and ends with them. The bucket `fixtures` of each holds the same backups.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;

use crate::engines::{CERTIFICATES, free_port, sh};
use crate::lab::remove_at_the_end;
use crate::program::{Program, copied, fixture};
use crate::signals::wait_for;
use crate::support::root;

pub(crate) const KEY: &str = "AKIDEXAMPLE12345";
pub(crate) const SECRET: &str = "a-secret-that-stands-nowhere";
/// Azurite's own, which its manual prints.
pub(crate) const AZURE_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
/// What the buckets of Google and Azure hold. That of S3 has every fixture.
const LOADED: [&str; 6] = ["pg17/shop.dump", "pg17/shop.dir", "pg17/shop.sql.gz", "base", "walg/zstd", "barman_cloud"];

/// A server that is told where its certificate and its data lie.
pub(crate) struct Store {
    _until: [ChildStdin; 2],
    scheme: &'static str,
    pub(crate) port: u16,
    directory: PathBuf,
    /// Of a scenario, but for its endpoint and authority.
    access: &'static str,
}

impl Store {
    fn start(
        scheme: &'static str,
        access: &'static str,
        serve: impl FnOnce(&dyn Fn(&str) -> String, u16) -> (PathBuf, Vec<String>),
    ) -> Store {
        let directory = tempfile::Builder::new().prefix("pgdrill-lab-store-").tempdir_in("/tmp").unwrap().keep();
        let removed = remove_at_the_end(&directory);
        sh(&directory, CERTIFICATES);
        let at = |name: &str| directory.join(name).display().to_string();
        let port = free_port();
        let (program, args) = serve(&at, port);
        let until = until_the_end(&program, &args, &directory);
        wait_for("the store", || std::net::TcpStream::connect(("127.0.0.1", port)).ok().map(drop));
        Store { _until: [until, removed], scheme, port, directory, access }
    }

    pub(crate) fn endpoint(&self) -> String {
        let account = if self.scheme == "az" { "/devstoreaccount1" } else { "" };
        format!("https://127.0.0.1:{}{account}", self.port)
    }

    /// The value of `store:` in a scenario.
    pub(crate) fn access(&self) -> String {
        format!("{{ endpoint: \"{}\", ca: {}, {} }}", self.endpoint(), self.path("ca.pem"), self.access)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}://fixtures/{path}", self.scheme)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// A bucket of S3 for one test: a directory that is filled like any other.
    pub(crate) fn bucket(&self, name: &str) -> PathBuf {
        let bucket = self.directory.join("buckets").join(name);
        std::fs::create_dir(&bucket).unwrap();
        bucket
    }
}

/// With the secrets that the scenarios refer to.
pub(crate) fn program() -> Program {
    Program::new().env("STORE_KEY", KEY).env("STORE_SECRET", SECRET).env("STORE_ACCOUNT_KEY", AZURE_KEY)
}

pub(crate) fn s3() -> &'static Store {
    static STORE: OnceLock<Store> = OnceLock::new();
    STORE.get_or_init(|| {
        Store::start("s3", "access_key: { env: STORE_KEY }, secret_key: { env: STORE_SECRET }", |at, port| {
            std::fs::create_dir(at("buckets")).unwrap();
            std::os::unix::fs::symlink(root().join("fixtures/backups"), at("buckets/fixtures")).unwrap();
            rclone(&at("buckets"), port, &["--cert", &at("server.pem"), "--key", &at("server-key.pem")])
        })
    })
}

/// The directories in `buckets`, as those of S3.
pub(crate) fn rclone(buckets: &str, port: u16, tls: &[&str]) -> (PathBuf, Vec<String>) {
    let (keys, address) = (format!("{KEY},{SECRET}"), format!("127.0.0.1:{port}"));
    let fixed = ["serve", "s3", "--copy-links", "--read-only", "--dir-cache-time", "0s", "--config", ""];
    let told = ["--auth-key", &keys, "--addr", &address, buckets];
    let args = [&fixed[..], tls, &told].concat().into_iter().map(str::to_owned).collect();
    (root().join("target/stores/rclone"), args)
}

pub(crate) fn google() -> &'static Store {
    static STORE: OnceLock<Store> = OnceLock::new();
    STORE.get_or_init(|| google_with(&load))
}

/// `load`: fills the directory that stands for its bucket.
pub(crate) fn google_with(load: &dyn Fn(&Path)) -> Store {
    Store::start("gs", "anonymous: true", |at, port| {
        load(Path::new(&at("data/fixtures")));
        let port = port.to_string();
        let pairs = [
            ("scheme", "https"),
            ("host", "127.0.0.1"),
            ("port", &port),
            ("cert-location", &at("server.pem")),
            ("private-key-location", &at("server-key.pem")),
            ("data", &at("data")),
            ("backend", "memory"),
            ("log-level", "error"),
            ("public-host", &format!("127.0.0.1:{port}")),
        ];
        let args = pairs.iter().map(|(name, value)| format!("-{name}={value}")).collect();
        (root().join("target/stores/fake-gcs-server"), args)
    })
}

pub(crate) fn azure() -> &'static Store {
    static STORE: OnceLock<Store> = OnceLock::new();
    STORE.get_or_init(|| azure_with(&load))
}

pub(crate) fn azure_with(load: &dyn Fn(&Path)) -> Store {
    let store = Store::start("az", "account: devstoreaccount1, account_key: { env: STORE_ACCOUNT_KEY }", |at, port| {
        let port = port.to_string();
        let args = [
            &root().join("target/stores/azurite/node_modules/azurite/dist/src/blob/main.js").display().to_string(),
            "--blobHost",
            "127.0.0.1",
            "--blobPort",
            &port,
            "--cert",
            &at("server.pem"),
            "--key",
            &at("server-key.pem"),
            "--skipApiVersionCheck",
            "--inMemoryPersistence",
            "--disableTelemetry",
            "--silent",
        ];
        ("node".into(), args.map(str::to_owned).to_vec())
    });
    load(&store.directory.join("data"));
    let mut copy = Command::new(root().join("target/stores/rclone"));
    copy.args(["copy", "--config", "", "--ca-cert", &store.path("ca.pem"), &store.path("data"), ":azureblob:fixtures"]);
    copy.args(["--azureblob-account", "devstoreaccount1", "--azureblob-endpoint", &store.endpoint()]);
    let output = copy.env("RCLONE_AZUREBLOB_KEY", AZURE_KEY).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    store
}

fn load(to: &Path) {
    for path in LOADED {
        copied(&fixture(path), &to.join(path));
    }
}

/// Statics are not dropped, and tests are killed: a shell that waits for the end of this process ends the program.
pub(crate) fn until_the_end(program: &Path, args: &[String], log: &Path) -> ChildStdin {
    let mut command = Command::new("sh");
    let script = r#"log=$1; shift; "$@" >"$log/log" 2>&1 </dev/null & cat; kill -KILL $!"#;
    command.args(["-c", script, "sh"]).arg(log).arg(program).args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    command.spawn().unwrap().stdin.take().unwrap()
}
