//! Object stores on loopback, with TLS: S3 by rclone, and by moto where versions are to be kept; Google Cloud Storage by
//! fake-gcs-server, Azure by Azurite.
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
pub(crate) const LOADED: [&str; 6] =
    ["pg17/shop.dump", "pg17/shop.dir", "pg17/shop.sql.gz", "base", "walg/zstd", "barman_cloud"];

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

    /// The same, as the store was at a moment.
    pub(crate) fn access_as_of(&self, moment: &str) -> String {
        format!("{{ as_of: \"{moment}\",{}", self.access().trim_start_matches('{'))
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

/// S3 whose buckets may keep versions. Whoever signs anything at all may do everything.
pub(crate) fn versioned_s3() -> &'static Store {
    static STORE: OnceLock<Store> = OnceLock::new();
    STORE.get_or_init(|| {
        Store::start("s3", "access_key: { env: STORE_KEY }, secret_key: { env: STORE_SECRET }", |at, port| {
            let packages = root().join("target/stores/moto");
            let (path, port) = (format!("PYTHONPATH={}", packages.display()), port.to_string());
            let args =
                [&path, "PYTHONDONTWRITEBYTECODE=1", "python3", "-m", "moto.server", "-H", "127.0.0.1", "-p", &port];
            let tls = ["-c", &at("server.pem"), "-k", &at("server-key.pem")];
            ("env".into(), args.into_iter().chain(tls).map(str::to_owned).collect())
        })
    })
}

/// A bucket that tests write to. Each has its own.
pub(crate) struct Bucket {
    store: &'static Store,
    name: &'static str,
}

impl Bucket {
    pub(crate) fn new(store: &'static Store, name: &'static str, keeps_versions: bool) -> Bucket {
        let bucket = Bucket { store, name };
        if store.scheme == "gs" {
            let body = format!("{{\"name\":\"{name}\",\"versioning\":{{\"enabled\":{keeps_versions}}}}}");
            bucket.ask("POST", "/storage/v1/b", body.into());
        } else {
            bucket.ask("PUT", &format!("/{name}"), Vec::new());
            if keeps_versions {
                bucket.keep_versions();
            }
        }
        bucket
    }

    /// From now on.
    pub(crate) fn keep_versions(&self) {
        let body = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
        self.ask("PUT", &format!("/{}?versioning", self.name), body.into());
    }

    pub(crate) fn url(&self, key: &str) -> String {
        format!("{}://{}/{key}", self.store.scheme, self.name)
    }

    pub(crate) fn put(&self, key: &str, bytes: &[u8]) {
        let (name, bytes) = (self.name, bytes.to_vec());
        if self.store.scheme == "gs" {
            self.ask("POST", &format!("/upload/storage/v1/b/{name}/o?uploadType=media&name={key}"), bytes);
        } else {
            self.ask("PUT", &format!("/{name}/{key}"), bytes);
        }
    }

    /// A file, or all files of a directory.
    pub(crate) fn put_all(&self, from: &Path, key: &str) {
        each_file(from, key, &mut |path, key| self.put(key, &std::fs::read(path).unwrap()));
    }

    pub(crate) fn delete(&self, key: &str) {
        let path = match self.store.scheme {
            "gs" => format!("/storage/v1/b/{}/o/{}", self.name, key.replace('/', "%2F")),
            _ => format!("/{}/{key}", self.name),
        };
        self.ask("DELETE", &path, Vec::new());
    }

    fn ask(&self, method: &str, path: &str, body: Vec<u8>) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let url = format!("https://127.0.0.1:{}{path}", self.store.port);
        let authority = std::fs::read(self.store.path("ca.pem")).unwrap();
        let asked = async {
            let authority = reqwest::Certificate::from_pem(&authority).unwrap();
            let client = reqwest::Client::builder().tls_certs_only([authority]).build().unwrap();
            let request = client.request(method.parse().unwrap(), &url).body(body);
            let signed =
                "AWS4-HMAC-SHA256 Credential=A/20261128/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
            let answer = request.header("authorization", signed).send().await.unwrap();
            let status = answer.status();
            assert!(status.is_success(), "{method} {url}: {status} {}", answer.text().await.unwrap());
        };
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(asked);
    }
}

/// With the key that each has in a bucket.
pub(crate) fn each_file(from: &Path, key: &str, what: &mut dyn FnMut(&Path, &str)) {
    if !from.is_dir() {
        return what(from, key);
    }
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        each_file(&entry.path(), &format!("{key}/{}", entry.file_name().to_str().unwrap()), what);
    }
}

/// A moment between what was written before and what will be: stores tell times in whole seconds.
pub(crate) fn moment() -> String {
    let now = jiff::Timestamp::now();
    let rest = 1050 - u64::from(now.subsec_millisecond().unsigned_abs());
    std::thread::sleep(std::time::Duration::from_millis(rest));
    now.strftime("%Y-%m-%d %H:%M:%S.999+00").to_string()
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
