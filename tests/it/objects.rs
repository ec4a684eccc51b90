//! Backups in object stores: every kind of source from every kind of store, and what a store can do to a drill.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pgdrill::fault::Blame;
use pgdrill::verdict::Verdict;

use crate::lab::lab;
use crate::program::{Program, copied, fixture};
use crate::stores::{KEY, SECRET, Store, azure, google, program, s3};

/// A drill with one check.
fn drill(source: &str, more: &str, check: &str) -> String {
    format!(
        "  - name: stored {}\n    source: {{ {source} }}\n{more}    checks:\n      - {check}\n",
        source.split(':').next().unwrap()
    )
}

pub(crate) fn scenario(drills: &[String]) -> String {
    format!(
        "version: 1\ndefaults: {{ postgres: {{ image: \"pgdrill-postgres:{{major}}\" }} }}\ndrills:\n{}",
        drills.concat()
    )
}

/// What each store holds, with what it is known to contain.
pub(crate) fn drills_of(store: &Store) -> Vec<String> {
    let access = store.access();
    let at = |path: &str| format!("path: \"{}\", store: {access}", store.url(path));
    let dump = "rows: { table: shop.customer, equals: 120 }";
    let named = |name: &str, drill: String| drill.replacen("stored", name, 1);
    let orders = |rows: u32| format!("rows: {{ table: orders, database: shop, equals: {rows} }}");
    vec![
        named("custom", drill(&format!("pg_dump: {{ {} }}", at("pg17/shop*.dump")), "", dump)),
        named(
            "directory",
            drill(&format!("pg_dump: {{ {} }}", at("pg17/shop.dir")), "    restore: { jobs: 2 }\n", dump),
        ),
        named("text", drill(&format!("pg_dump: {{ {} }}", at("pg17/shop.sql.gz")), "", dump)),
        named(
            "tar",
            drill(
                &format!("base_backup: {{ {}, wal: \"{}\" }}", at("base/2026-*"), store.url("base/wal")),
                "    target: { name: before the mistake }\n",
                &orders(600),
            ),
        ),
        named(
            "wal_g",
            drill(
                &format!("wal_g: {{ {} }}", at("walg/zstd/store")),
                "    target: { name: rp1 }\n",
                "query: { name: before the drop, sql: \"select count(*) from pgbench_history\", database: shop, expect: 2387 }",
            ),
        ),
        named(
            "barman_cloud",
            drill(
                &format!("barman_cloud: {{ {}, server: shop }}", at("barman_cloud")),
                "    target: { lsn: 0/E09FA0 }\n",
                &orders(600),
            ),
        ),
    ]
}

fn every_source(store: &Store, more: Vec<String>) {
    let program = program();
    let drills = [drills_of(store), more].concat();
    let count = drills.len();
    let ran = program.drill(&scenario(&drills), &[]).expect(0);
    let report = program.report();
    assert_eq!(report.drills.len(), count);
    for drill in &report.drills {
        let fetched = drill.fetched.as_ref().unwrap_or_else(|| panic!("{}: what was fetched is told", drill.name));
        let backup = drill.backup.as_ref().unwrap();
        assert!(backup.path.starts_with(store.url("").trim_end_matches('/')), "{}", backup.path);
        assert!(fetched.get > 0 && fetched.bytes >= backup.bytes, "{}: {fetched:?}, {}", drill.name, backup.bytes);
    }
    assert!(ran.folded().contains("store "), "{}", ran.stdout);
    holds_no_secret(&program);
}

fn holds_no_secret(program: &Program) {
    for entry in std::fs::read_dir(program.path("out")).unwrap().flatten().filter(|it| it.path().is_file()) {
        let text = std::fs::read_to_string(entry.path()).unwrap();
        for secret in [KEY, SECRET, "Eby8vdM02xNOcqFl"] {
            assert!(!text.contains(secret), "{} holds {secret}", entry.path().display());
        }
    }
}

#[test]
fn every_source_is_restored_from_s3() {
    let store = s3();
    let at = |path: &str| format!("path: \"{}\", store: {}", store.url(path), store.access());
    let key = |name: &str| fixture(name).display().to_string();
    let sealed = drill(
        &format!(
            "pgbackrest: {{ {}, stanza: shop, cipher_pass: {{ file: {} }} }}",
            at("pgbackrest/repository"),
            key("pgbackrest/pass")
        ),
        "    target: { name: rp1 }\n",
        "rows: { table: orders, database: shop, equals: 600 }",
    );
    let databasus = drill(
        &format!(
            "databasus: {{ {}, secret_key: {{ file: {} }} }}",
            at("databasus/sidecar-encrypted"),
            key("databasus/secret.key")
        ),
        "",
        "rows: { table: orders, equals: 60000 }",
    );
    let pgp = drill(
        &format!("wal_g: {{ {}, pgp_key: {{ file: {} }} }}", at("walg/lzma-pgp/store"), key("walg/lzma-pgp/pgp.asc")),
        "    target: { lsn: 0/801FA98 }\n",
        "query: { name: before the drop, sql: \"select count(*) from pgbench_history\", database: shop, expect: 2437 }",
    );
    every_source(store, vec![sealed, databasus, pgp]);
}

#[test]
fn every_source_is_restored_from_google_cloud_storage() {
    every_source(google(), Vec::new());
}

#[test]
fn every_source_is_restored_from_azure() {
    every_source(azure(), Vec::new());
}

#[test]
fn a_sweep_walks_through_wal_in_a_store() {
    let store = s3();
    let source = format!(
        "base_backup: {{ path: \"{}\", wal: \"{}\", store: {} }}",
        store.url("base/2026-11-27"),
        store.url("base/wal"),
        store.access()
    );
    let more = "    targets: { count: 3 }\n";
    let text = scenario(&[drill(&source, more, "rows: { table: orders, database: shop, min: 1 }")]);
    let program = program();
    program.drill(&text, &[]).expect(0);
    assert_eq!(program.report().drills[0].stops.len(), 3);
}

/// No object store keeps an empty directory: a server would not start without them.
#[test]
fn a_plain_base_backup_starts_although_its_empty_directories_were_lost() {
    let store = s3();
    let (backup, from) = (store.bucket("plain").join("backup"), fixture("base/2026-11-27"));
    std::fs::create_dir(&backup).unwrap();
    for (packed, to) in [("base.tar.zst", backup.clone()), ("pg_wal.tar", backup.join("pg_wal"))] {
        let status = std::process::Command::new("tar").arg("-xf").arg(from.join(packed)).arg("-C").arg(to).status();
        assert!(status.unwrap().success());
    }
    std::fs::copy(from.join("backup_manifest"), backup.join("backup_manifest")).unwrap();
    let status = std::process::Command::new("find").arg(&backup).args(["-type", "d", "-empty", "-delete"]).status();
    assert!(status.unwrap().success());
    assert!(!backup.join("pg_notify").exists());
    let source = format!(
        "base_backup: {{ path: \"s3://plain/backup\", wal: \"{}\", store: {} }}",
        store.url("base/wal"),
        store.access()
    );
    let more = "    target: { name: before the mistake }\n";
    let check = "rows: { table: orders, database: shop, equals: 600 }";
    let program = program();
    let ran = program.drill(&scenario(&[drill(&source, more, check)]), &[]).expect(0);
    assert!(ran.folded().contains("keeps no empty directories"), "{}", ran.stdout);
    // The archive that the server fills is another one than the drill reads, or the same.
    std::fs::remove_file(backup.join("backup_manifest")).unwrap();
    let configured = std::fs::read_to_string(backup.join("postgresql.auto.conf")).unwrap();
    for (url, exit) in [(store.url("other/wal"), 1), (store.url("base/wal"), 0)] {
        let command = format!("archive_mode = on\narchive_command = 'aws s3 cp %p {url}/%f'\n");
        std::fs::write(backup.join("postgresql.auto.conf"), format!("{configured}{command}")).unwrap();
        let ran = program.drill(&scenario(&[drill(&source, more, check)]), &[]).expect(exit);
        let told = ran
            .folded()
            .contains("check archiving: expected the archive that the server fills: s3://fixtures/other/wal");
        assert_eq!(told, exit == 1, "{}", ran.stdout);
    }
    // A map that names a tablespace to which no link leads: its data are not in the backup.
    std::fs::write(backup.join("tablespace_map"), "16385 /srv/space\n").unwrap();
    let ran = program.drill(&scenario(&[drill(&source, more, check)]), &[]).expect(1);
    assert!(ran.folded().contains("there is no pg_tblspc/16385"), "{}", ran.stdout);
}

/// Where links were followed when a backup was copied, as every upload does, a tablespace lies within.
#[test]
fn a_plain_base_backup_with_its_tablespace_within_is_restored_from_a_disk_and_a_store() {
    let store = s3();
    let backup = store.bucket("spaces").join("backup");
    let copied = std::process::Command::new("cp").arg("-rL").arg(lab().path("base/plain")).arg(&backup).status();
    assert!(copied.unwrap().success());
    assert!(std::fs::read_dir(backup.join("pg_tblspc")).unwrap().flatten().any(|it| it.path().is_dir()));
    let check = "query: { name: it answers, sql: select 1, expect: 1 }";
    for (path, access) in [
        (backup.display().to_string(), String::new()),
        ("s3://spaces/backup".to_owned(), format!(", store: {}", store.access())),
    ] {
        let program = program();
        let source = format!("base_backup: {{ path: \"{path}\"{access} }}");
        let more = "    target: immediate\n    runtime: local\n";
        let ran = program.drill(&scenario(&[drill(&source, more, check)]), &[]);
        assert_eq!(ran.exit, Some(0), "{path}: {}\n{}", ran.stdout, ran.stderr);
        // Every file of the manifest, those of the tablespace among them.
        assert!(ran.folded().contains("backup manifest"), "{}", ran.stdout);
    }
}

/// What a store does, and what a person would say of that.
#[test]
fn a_store_that_gives_nothing_accuses_no_backup() {
    let store = s3();
    let good = store.access();
    let free = crate::engines::free_port();
    let expired = Liar::start(|_| Some(("400 Bad Request", EXPIRED.to_owned())));
    let plain = |port: u16| {
        format!(
            "{{ endpoint: \"http://127.0.0.1:{port}\", access_key: {{ env: STORE_KEY }}, secret_key: {{ env: STORE_SECRET }} }}"
        )
    };
    let dump = store.url("pg17/shop.dump");
    let cases = [
        // Whose fault, and what is said of it.
        (dump.clone(), good.replace("STORE_SECRET", "STORE_KEY"), Blame::Host, "SignatureDoesNotMatch"),
        (dump.clone(), good.replace("STORE_SECRET", "NO_SUCH_VARIABLE"), Blame::Scenario, "NO_SUCH_VARIABLE"),
        (dump.clone(), good.replace("ca.pem", "cert.pem"), Blame::Host, "UnknownIssuer"),
        (dump.clone(), good.replace("ca.pem", "none.pem"), Blame::Scenario, "none.pem"),
        (dump.clone(), plain(free), Blame::Host, "refused"),
        (dump.clone(), plain(expired.port), Blame::Host, "ExpiredToken"),
        ("s3://no-such-bucket/shop.dump".to_owned(), good.clone(), Blame::Host, "NoSuchBucket"),
        ("s3://no-such-bucket/*.dump".to_owned(), good.clone(), Blame::Host, "NoSuchBucket"),
        // The bucket is there and can be read: so what is not in it is lost.
        (store.url("pg17/none.dump"), good.clone(), Blame::Backup, "none.dump"),
        (store.url("pg17/none-*.dump"), good, Blame::Backup, "none-*.dump"),
    ];
    let source = |(path, access, ..): &(String, String, Blame, &str)| {
        format!("pg_dump: {{ path: \"{path}\", store: {access} }}")
    };
    // Each in a run of its own: access belongs to a URL, and a run would take the first for all.
    let judged: Vec<String> = cases
        .iter()
        .map(|case| {
            let program = program();
            let text = scenario(&[drill(&source(case), "", "query: { name: it answers, sql: select 1, expect: 1 }")]);
            program.drill(&text, &[]);
            let report = program.report();
            let reason = &report.drills[0].reasons[0];
            let told = serde_json::to_string(&report.drills[0]).unwrap();
            let verdict = if case.2 == Blame::Backup { Verdict::Failed } else { Verdict::Inconclusive };
            let right = report.verdict == verdict && reason.blame == Some(case.2) && told.contains(case.3);
            holds_no_secret(&program);
            if right { String::new() } else { format!("{case:?}:\n  {:?} {reason:?}\n", report.verdict) }
        })
        .collect();
    assert_eq!(judged.concat(), "");
}

/// Of Azurite's well-known account: read and list; to the end of 2019, and for longer than this test will live.
pub(crate) const SAS_OF_2019: &str = "sv=2019-12-12&ss=b&srt=sco&sp=rl&se=2020-01-01T00%3A00%3A00Z&sig=eBrLhJ0k4NiSA%2BnWPLnAhFgZCUje0CpgD16T25qow%2FU%3D";
const SAS_OF_2099: &str =
    "sv=2019-12-12&ss=b&srt=sco&sp=rl&se=2099-01-01T00%3A00%3A00Z&sig=7Rw2roonwPIqsjG7r6moymYMTkdTaqWfwL7AbpSMvgk%3D";

/// Google's answer to a token that is too old; the server of the other tests takes any.
const GOOGLE_EXPIRED: &str = "{\"error\":{\"code\":401,\"message\":\"Invalid Credentials\",\"errors\":[{\"message\":\"Invalid Credentials\",\
                              \"domain\":\"global\",\"reason\":\"authError\",\"locationType\":\"header\",\"location\":\"Authorization\"}]}}";

#[test]
fn access_to_azure_and_google_that_has_expired_accuses_no_backup() {
    let azure = azure();
    let signed = format!(
        "{{ endpoint: \"{}\", ca: {}, account: devstoreaccount1, sas_token: {{ env: SAS }} }}",
        azure.endpoint(),
        azure.path("ca.pem")
    );
    let expired = Liar::start(|_| Some(("401 Unauthorized", GOOGLE_EXPIRED.to_owned())));
    let token = format!("{{ endpoint: \"http://127.0.0.1:{}\", token: {{ env: SAS }} }}", expired.port);
    for (path, access, secret, told) in [
        ("az://fixtures/pg17/shop.dump", &signed, SAS_OF_2019, "AuthorizationFailure"),
        ("az://fixtures/pg17/*.dump", &signed, SAS_OF_2019, "AuthorizationFailure"),
        ("gs://fixtures/pg17/shop.dump", &token, "ya29.old", "401 Unauthorized: Invalid Credentials\""),
        ("gs://fixtures/pg17/*.dump", &token, "ya29.old", "401 Unauthorized: Invalid Credentials\""),
        ("az://fixtures/pg17/shop.dump", &signed, SAS_OF_2099, ""),
    ] {
        let program = Program::new().env("SAS", secret);
        let text = scenario(&[drill(
            &format!("pg_dump: {{ path: \"{path}\", store: {access} }}"),
            "",
            "rows: { table: shop.customer, equals: 120 }",
        )]);
        let ran = program.drill(&text, &[]);
        if told.is_empty() {
            ran.expect(0);
            continue;
        }
        ran.expect(3);
        let drill = program.report().drills.remove(0);
        assert_eq!(drill.reasons[0].blame, Some(Blame::Host), "{path}: {:?}", drill.reasons);
        let all = serde_json::to_string(&drill).unwrap();
        assert!(all.contains(told), "{path}: {:?}", drill.reasons);
        assert!(drill.reasons[0].hint.as_ref().is_some_and(|it| it.contains("credentials")), "{:?}", drill.reasons);
        assert!(!all.contains(secret.split_once("sig=").map_or(secret, |it| it.1)), "{path}");
    }
}

const EXPIRED: &str =
    "<?xml version=\"1.0\"?><Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>";

#[test]
fn what_is_lost_or_cut_in_a_store_is_the_backups_fault() {
    let store = s3();
    let bucket = store.bucket("damaged");
    let copy = |from: &str, to: &str| copied(&fixture(from), &bucket.join(to));
    let cut = |path: &Path| {
        let length = std::fs::metadata(path).unwrap().len();
        std::fs::File::options().write(true).open(path).unwrap().set_len(length * 2 / 3).unwrap();
    };
    copy("pg17/shop.dump", "cut.dump");
    cut(&bucket.join("cut.dump"));
    copy("base", "gap");
    std::fs::remove_file(bucket.join("gap/wal/00000001000000000000000E.zst")).unwrap();
    copy("base", "cut");
    cut(&bucket.join("cut/2026-11-27/base.tar.zst"));
    copy("walg/zstd/store", "walg");
    std::fs::remove_file(bucket.join("walg/wal_005/000000010000000000000007.zst")).unwrap();
    let access = store.access();
    let check = "query: { name: it answers, sql: select 1, expect: 1 }";
    for (source, told) in [
        ("pg_dump: { path: \"s3://damaged/cut.dump\"", "cut.dump"),
        ("base_backup: { path: \"s3://damaged/gap/2026-*\", wal: \"s3://damaged/gap/wal\"", "00000001000000000000000E"),
        ("base_backup: { path: \"s3://damaged/cut/2026-*\", wal: \"s3://damaged/cut/wal\"", "base.tar.zst"),
        ("wal_g: { path: \"s3://damaged/walg\"", "000000010000000000000007"),
    ] {
        let program = program();
        let ran =
            program.drill(&scenario(&[drill(&format!("{source}, store: {access} }}"), "", check)]), &[]).expect(1);
        let report = program.report();
        assert_eq!(report.drills[0].reasons[0].blame, Some(Blame::Backup), "{source}");
        assert!(ran.folded().contains(told), "{source}: {}", ran.stdout);
    }
}

/// A store that is busy for a moment is asked again, and the report says so.
#[test]
fn requests_that_fail_are_repeated_and_counted() {
    let upstream = Plain::start();
    let port = upstream.port;
    let asked = Arc::new(AtomicUsize::new(0));
    let busy = Arc::clone(&asked);
    let front = Liar::between(port, move |_| {
        let every_fifth = busy.fetch_add(1, Ordering::Relaxed) % 5 == 3;
        every_fifth.then(|| ("503 Slow Down", "<Error><Code>SlowDown</Code></Error>".to_owned()))
    });
    let source = format!(
        "pg_dump: {{ path: \"s3://fixtures/pg17/shop.dump\", store: {{ endpoint: \"http://127.0.0.1:{}\", \
         access_key: {{ env: STORE_KEY }}, secret_key: {{ env: STORE_SECRET }} }} }}",
        front.port
    );
    let program = program();
    let text = scenario(&[drill(&source, "", "rows: { table: shop.customer, equals: 120 }")]);
    let ran = program.drill(&text, &[]).expect(0);
    let fetched = program.report().drills[0].fetched.clone().unwrap();
    assert!(fetched.failed > 0, "{fetched:?}");
    assert!(ran.folded().contains("failed and could be repeated: the store answers 503"), "{}", ran.stdout);
}

#[test]
fn what_lies_in_a_store_is_recognised_and_its_scenario_runs() {
    let store = s3();
    let program = program()
        .env("AWS_ENDPOINT_URL", &store.endpoint())
        .env("AWS_CA_BUNDLE", &store.path("ca.pem"))
        .env("AWS_ACCESS_KEY_ID", KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET);
    for (path, told) in [
        ("pg17/shop.dump", "custom dump of shop, from PostgreSQL 17"),
        ("pg17/shop.dir", "directory dump of shop"),
        ("base/2026-11-27", "base backup of PostgreSQL 15, tar (zstd)"),
        ("base/wal", "3 segments"),
        ("walg/zstd/store", "storage of WAL-G"),
        ("barman_cloud", "barman-cloud"),
        ("databasus/sidecar-encrypted", "encrypted dumps"),
    ] {
        let ran = program.run(&["inspect", &store.url(path)]).expect(0);
        assert!(ran.folded().contains(told), "{path}: {}", ran.stdout);
    }
    for path in ["pg17/shop.dump", "walg/zstd/store", "barman_cloud"] {
        let text = program.run(&["init", &store.url(path)]).expect(0).stdout;
        assert!(text.contains(&store.url(path)), "{text}");
        program.drill(&text, &[]).expect(0);
    }
    // Or at once.
    program.run(&["run", &store.url("pg17/shop.dump"), "--out", &program.path("out").display().to_string()]).expect(0);
}

/// The same store without TLS, for those who listen in between.
struct Plain {
    _until: [std::process::ChildStdin; 2],
    port: u16,
}

impl Plain {
    fn start() -> Plain {
        let port = crate::engines::free_port();
        let log = tempfile::Builder::new().prefix("pgdrill-lab-store-").tempdir_in("/tmp").unwrap();
        std::os::unix::fs::symlink(fixture(""), log.path().join("fixtures")).unwrap();
        let (program, args) = crate::stores::rclone(&log.path().display().to_string(), port, &[]);
        let until = crate::stores::until_the_end(&program, &args, log.path());
        crate::signals::wait_for("the store", || TcpStream::connect(("127.0.0.1", port)).ok().map(drop));
        Plain { _until: [until, crate::lab::remove_at_the_end(&log.keep())], port }
    }
}

type Answer = Box<dyn Fn(&str) -> Option<(&'static str, String)> + Send + Sync>;

/// Answers requests itself, or passes them on.
pub(crate) struct Liar {
    pub(crate) port: u16,
}

impl Liar {
    pub(crate) fn start(answer: impl Fn(&str) -> Option<(&'static str, String)> + Send + Sync + 'static) -> Liar {
        Liar::between(0, answer)
    }

    fn between(upstream: u16, answer: impl Fn(&str) -> Option<(&'static str, String)> + Send + Sync + 'static) -> Liar {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer: Arc<Answer> = Arc::new(Box::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answer = Arc::clone(&answer);
                std::thread::spawn(move || drop(one(stream, upstream, &answer)));
            }
        });
        Liar { port }
    }
}

/// One request of a connection, which ends with it.
fn one(mut stream: TcpStream, upstream: u16, answer: &Answer) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    if let Some((status, body)) = answer(&head) {
        let body = if head.starts_with("HEAD") { String::new() } else { body };
        let length = body.len();
        return write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    }
    let mut above = TcpStream::connect(("127.0.0.1", upstream))?;
    above.write_all(head.replacen("\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1).as_bytes())?;
    std::io::copy(&mut above, &mut stream).map(drop)
}
