//! What holds for the backups of every tool: a sweep, the local runtime, and every store there is.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use pgdrill::fault::Blame;
use serde_json::Value;

use crate::lab::unpacked;
use crate::program::{Program, copied, fixture, four_at_a_time};
use crate::stores::{self, Store};

/// A backup by a tool, with what it is known to hold.
struct Kept {
    what: &'static str,
    /// The fixture that is packed, or lies there as it is; and where it lies beneath a root.
    fixture: &'static str,
    /// With `ROOT` for the place, and `STORE` for how it is reached.
    source: &'static str,
    /// With the rows of `orders`, but for WAL-G's: those of `pgbench_history`.
    targets: &'static [(&'static str, u64)],
}

const ORDERS: &[(&str, u64)] =
    &[("latest", 100), ("{ name: rp1 }", 600), ("{ lsn: LSN }", 600), ("{ time: \"TIME\" }", 600)];

const KEPT: &[Kept] = &[
    Kept {
        what: "pgBackRest 2.33, gz",
        fixture: "pgbackrest/pg13",
        source: "pgbackrest: { path: \"ROOT/plain\", stanza: shop STORE }",
        targets: ORDERS,
    },
    Kept {
        what: "pgBackRest 2.45, zst, aes, bundles",
        fixture: "pgbackrest/pg15",
        source: "pgbackrest: { path: \"ROOT/sealed\", stanza: shop, cipher_pass: { file: PASS } STORE }",
        targets: ORDERS,
    },
    Kept {
        what: "pgBackRest 2.55, zst, aes, block incremental",
        fixture: "pgbackrest",
        source: "pgbackrest: { path: \"ROOT/repository\", stanza: shop, cipher_pass: { file: PASS } STORE }",
        targets: ORDERS,
    },
    Kept {
        what: "pgBackRest 2.60, zst, aes, block incremental",
        fixture: "pgbackrest/pg18",
        source: "pgbackrest: { path: \"ROOT/sealed\", stanza: shop, cipher_pass: { file: PASS } STORE }",
        targets: ORDERS,
    },
    Kept {
        what: "Barman 2.12, postgres",
        fixture: "barman/pg13",
        source: "barman: { path: \"ROOT/home\", server: main STORE }",
        targets: ORDERS,
    },
    Kept {
        what: "Barman 3.4, rsync",
        fixture: "barman/pg15",
        source: "barman: { path: \"ROOT/home\", server: rs STORE }",
        targets: ORDERS,
    },
    Kept {
        what: "Barman 3.13, incremental",
        fixture: "barman/pg17",
        source: "barman: { path: \"ROOT/home\", server: main STORE }",
        targets: ORDERS,
    },
    Kept {
        what: "Barman 3.20, incremental",
        fixture: "barman/pg18",
        source: "barman: { path: \"ROOT/home\", server: main STORE }",
        targets: ORDERS,
    },
    Kept {
        what: "barman-cloud 3.13, gzip",
        fixture: "barman_cloud",
        source: "barman_cloud: { path: \"ROOT\", server: shop STORE }",
        targets: ORDERS,
    },
    Kept {
        what: "WAL-G 3.0.7, zstd, deltas",
        fixture: "walg/zstd",
        source: "wal_g: { path: \"ROOT/store\" STORE }",
        targets: &[("{ name: rp1 }", 2387), ("{ lsn: LSN }", 2387), ("{ time: \"TIME\" }", 2387)],
    },
    Kept {
        what: "WAL-G 3.0.7, lzma, OpenPGP, deltas",
        fixture: "walg/lzma-pgp",
        source: "wal_g: { path: \"ROOT/store\", pgp_key: { file: PGP } STORE }",
        targets: &[("{ name: rp1 }", 2437), ("{ lsn: LSN }", 2437), ("{ time: \"TIME\" }", 2437)],
    },
    Kept {
        what: "pg_basebackup, tar, zstd",
        fixture: "base",
        source: "base_backup: { path: \"ROOT/2026-*\", wal: \"ROOT/wal\" STORE }",
        targets: &[("latest", 51), ("{ name: before the mistake }", 600), ("{ lsn: 0/E04988 }", 600)],
    },
];

/// What the tool's own `truth.json` knows of the moment.
fn at(directory: &Path, target: &str) -> String {
    let text = std::fs::read_to_string(directory.join("truth.json")).unwrap_or_else(|_| "{}".to_owned());
    let truth: Value = serde_json::from_str(&text).unwrap();
    let told = |keys: [&str; 2]| keys.iter().find_map(|it| truth[it].as_str()).unwrap_or_default().to_owned();
    let lsn = told(["lsn", "lsn_of_rp1"]);
    target.replace("LSN", &lsn).replace("TIME", &told(["time", "time_between_rp1_and_the_drop"]))
}

impl Kept {
    /// All of it, in a directory.
    fn put(&self, to: &Path) {
        let from = fixture(self.fixture);
        std::fs::create_dir_all(to).unwrap();
        let packed = (!from.is_dir()).then(|| unpacked(&format!("{}.tar.zst", self.fixture)));
        let from = packed.as_ref().map_or(from.as_path(), |it| it.path()).join(".");
        copied(&from, to);
    }

    fn scenario(&self, root: &str, store: &str, target: &str, rows: u64, more: &str) -> String {
        let key = |name: &str| fixture(name).display().to_string();
        let source = self.source.replace("ROOT", root).replace("PASS", &key("pgbackrest/pass"));
        let source =
            source.replace("PGP", &key("walg/lzma-pgp/pgp.asc")).replace("SECRET", &key("databasus/secret.key"));
        let source =
            source.replace("STORE", &if store.is_empty() { String::new() } else { format!(", store: {store}") });
        let table = if self.fixture.starts_with("walg") { "pgbench_history" } else { "orders" };
        let check =
            format!("query: {{ name: rows, sql: \"select count(*) from {table}\", database: shop, expect: {rows} }}");
        format!(
            "version: 1\ndefaults: {{ postgres: {{ image: \"pgdrill-postgres:{{major}}\" }} }}\ndrills:\n  - name: kept\n    \
             source: {{ {source} }}\n    {target}\n{more}    checks:\n      - {check}\n"
        )
    }
}

/// A backup of this tool, to a restore point, by a program that knows its engine.
pub(crate) fn passes_by(program: &Program, what: &str) {
    let kept = of(what);
    let scratch = tempfile::tempdir().unwrap();
    kept.put(scratch.path());
    let (target, rows) = kept.targets.iter().find(|it| it.0.contains("rp1")).copied().unwrap();
    let target = format!("target: {}", at(scratch.path(), target));
    let text = kept.scenario(&scratch.path().display().to_string(), "", &target, rows, "    runtime: container\n");
    program.drill(&text, &[]).expect(0);
}

fn of(what: &str) -> &'static Kept {
    KEPT.iter().find(|it| it.what.starts_with(what)).unwrap()
}

#[test]
fn a_sweep_walks_through_the_wal_of_every_tool() {
    let scratch = tempfile::tempdir().unwrap();
    for what in ["pgBackRest 2.55", "Barman 3.4", "barman-cloud", "WAL-G 3.0.7, zstd"] {
        let kept = of(what);
        let root = scratch.path().join(kept.fixture);
        kept.put(&root);
        let target = "targets: { count: 4 }";
        let text = kept.scenario(&root.display().to_string(), "", target, 0, "");
        // At the end of the archive WAL-G's table is dropped: what holds at every stop is asked.
        let text = text
            .replace("select count(*) from pgbench_history", "select 0")
            .replace("select count(*) from orders", "select 0");
        let program = Program::new();
        let ran = program.drill(&text, &[]);
        assert_eq!(ran.exit, Some(0), "{what}: {}\n{}", ran.stdout, ran.stderr);
        assert_eq!(program.report().drills[0].stops.len(), 4, "{what}");
    }
}

/// This machine has PostgreSQL 15.
#[test]
fn backups_of_tools_are_restored_without_a_container() {
    let scratch = tempfile::tempdir().unwrap();
    for what in ["pgBackRest 2.45", "Barman 3.4", "pg_basebackup"] {
        let kept = of(what);
        let root = scratch.path().join(kept.fixture);
        kept.put(&root);
        let (target, rows) = kept.targets[1];
        let target = format!("target: {}", at(&root, target));
        let text = kept.scenario(&root.display().to_string(), "", &target, rows, "    runtime: local\n");
        let program = Program::new();
        let ran = program.drill(&text, &[]);
        assert_eq!(ran.exit, Some(0), "{what}: {}\n{}", ran.stdout, ran.stderr);
        assert!(ran.folded().contains("on this machine"), "{}", ran.stdout);
    }
}

/// What can be wrong with a repository, or with the way to it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wrong {
    Key,
    LostSegment,
    CutFile,
    Unreachable,
    Expired,
}

impl Wrong {
    const ALL: [Wrong; 5] = [Wrong::Key, Wrong::LostSegment, Wrong::CutFile, Wrong::Unreachable, Wrong::Expired];

    /// As a person would judge it.
    fn blame(self) -> Blame {
        match self {
            Wrong::Key => Blame::Scenario,
            Wrong::LostSegment | Wrong::CutFile => Blame::Backup,
            Wrong::Unreachable | Wrong::Expired => Blame::Host,
        }
    }
}

const DATABASUS: Kept = Kept {
    what: "Databasus 3.7, AES-256-GCM",
    fixture: "databasus",
    source: "databasus: { path: \"ROOT/v3.7-encrypted\", secret_key: { file: SECRET } STORE }",
    targets: &[("", 60000)],
};

/// All files beneath a directory, by their paths.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    stores::each_file(directory, "", &mut |path, _| all.push(path.to_owned()));
    // Not links of a data directory, which lead to where it was.
    all.retain(|it| it.symlink_metadata().unwrap().is_file());
    all.sort();
    all
}

fn is_segment(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_str().unwrap();
    let digits = name.bytes().take_while(u8::is_ascii_hexdigit).count();
    digits == 24 && !name.contains(".backup") && !name.contains("backup.")
}

/// Tool × what is wrong, with verdict and blame; what is said is printed as a table.
#[test]
#[expect(clippy::print_stdout, reason = "the table is for the person who runs it")]
fn what_is_wrong_with_a_repository_of_any_tool_is_blamed_on_who_can_mend_it() {
    let whats = ["pgBackRest 2.45", "Barman 3.4", "barman-cloud", "WAL-G 3.0.7, lzma", "WAL-G 3.0.7, zstd", "pg_base"];
    let kept: Vec<&Kept> = whats.iter().map(|it| of(it)).chain([&DATABASUS]).collect();
    let cells: Vec<(&Kept, Wrong)> = kept.iter().flat_map(|it| Wrong::ALL.map(|wrong| (*it, wrong))).collect();
    let azure = stores::azure();
    let free = crate::engines::free_port();
    let applies = |(kept, wrong): &(&Kept, Wrong)| match wrong {
        Wrong::Key => ["PASS", "PGP", "SECRET"].iter().any(|it| kept.source.contains(it)),
        Wrong::LostSegment => kept.fixture != "databasus",
        Wrong::CutFile | Wrong::Unreachable | Wrong::Expired => true,
    };
    let cells: Vec<_> = cells.into_iter().filter(applies).collect();
    let wrong = four_at_a_time(&cells, |(kept, wrong)| {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("root");
        kept.put(&root);
        let within = kept.source.split_once("ROOT").unwrap().1.split('"').next().unwrap().trim_start_matches('/');
        let own = root.join(within.trim_end_matches("2026-*"));
        let target = kept.targets.iter().find(|it| it.0.contains("rp1")).unwrap_or(&kept.targets[0]);
        let (mut place, mut access) = (root.display().to_string(), String::new());
        let mut named = String::new();
        match wrong {
            Wrong::Key => {}
            Wrong::LostSegment => {
                let segments: Vec<PathBuf> = files(&own).into_iter().filter(|it| is_segment(it)).collect();
                let lost = &segments[segments.len() - 2];
                lost.file_name().unwrap().to_str().unwrap()[..24].clone_into(&mut named);
                std::fs::remove_file(lost).unwrap();
            }
            Wrong::CutFile => {
                let largest = files(&own).into_iter().filter(|it| !is_segment(it));
                let largest = largest.max_by_key(|it| it.metadata().unwrap().len()).unwrap();
                let length = largest.metadata().unwrap().len();
                std::fs::File::options().write(true).open(&largest).unwrap().set_len(length * 2 / 3 + 1).unwrap();
            }
            Wrong::Unreachable => {
                place = format!("s3://fixtures/{}", kept.fixture);
                access = format!(
                    "{{ endpoint: \"http://127.0.0.1:{free}\", access_key: {{ env: STORE_KEY }}, secret_key: {{ env: STORE_SECRET }} }}"
                );
            }
            Wrong::Expired => {
                place = azure.url(kept.fixture);
                access = format!(
                    "{{ endpoint: \"{}\", ca: {}, account: devstoreaccount1, sas_token: {{ env: SAS }} }}",
                    azure.endpoint(),
                    azure.path("ca.pem")
                );
            }
        }
        let at = at(&root, target.0);
        // Behind the segment that is lost.
        let at = if *wrong == Wrong::LostSegment { "latest".to_owned() } else { at };
        let at = if at.is_empty() { String::new() } else { format!("target: {at}") };
        let mut text = kept.scenario(&place, &access, &at, target.1, "");
        if *wrong == Wrong::Key {
            let other = scratch.path().join("other");
            std::fs::write(&other, "bm90IHRoZSBrZXkgb2YgdGhpcyByZXBvc2l0b3J5ISE=").unwrap();
            for key in ["pgbackrest/pass", "walg/lzma-pgp/pgp.asc", "databasus/secret.key"] {
                text = text.replace(&fixture(key).display().to_string(), &other.display().to_string());
            }
        }
        let program = stores::program().env("SAS", crate::objects::SAS_OF_2019);
        let ran = program.drill(&text, &[]);
        let exit = if wrong.blame() == Blame::Backup { 1 } else { 3 };
        if ran.exit != Some(exit) {
            return format!("{}, {wrong:?}: exit {:?}\n{}\n{}\n", kept.what, ran.exit, ran.stdout, ran.stderr);
        }
        let drill = program.report().drills.remove(0);
        let reason = &drill.reasons[0];
        let said = format!("{}: {}", reason.text, reason.causes.join(": "));
        println!("| {} | {wrong:?} | {:?} | {:?} | {said} |", kept.what, drill.verdict, reason.blame);
        let is_right = reason.blame == Some(wrong.blame()) && said.contains(&named);
        if is_right { String::new() } else { format!("{}, {wrong:?}: {reason:?}\n", kept.what) }
    });
    assert_eq!(wrong, "");
}

/// Tool × version × store × target, as a table with the seconds of each drill. `TOOL=Barman`: only the rows of that.
#[test]
#[ignore = "minutes: ci/full"]
#[expect(clippy::print_stdout, reason = "the table is for the person who runs it")]
fn whole_tool_matrix() {
    let scratch = tempfile::Builder::new().prefix("pgdrill-lab-tools-").tempdir_in("/tmp").unwrap();
    let whole = scratch.path().join("fixtures");
    for kept in KEPT {
        kept.put(&whole.join(kept.fixture));
    }
    let load = |to: &Path| copied(&whole, to);
    let s3 = stores::s3();
    load(&s3.bucket("whole"));
    let (google, azure) = (stores::google_with(&load), stores::azure_with(&load));
    let url = |store: &Store, kept: &Kept| store.url(kept.fixture);
    let mut wrong = String::new();
    println!("| tool | store | latest | name | LSN | time | (WAL-G: name, LSN, time)");
    let only = std::env::var("TOOL").unwrap_or_default();
    for kept in KEPT.iter().filter(|it| it.what.contains(&only)) {
        let local = whole.join(kept.fixture);
        let places = [
            ("disk", local.display().to_string(), String::new()),
            ("s3", format!("s3://whole/fixtures/{}", kept.fixture), s3.access()),
            ("gs", url(&google, kept), google.access()),
            ("az", url(&azure, kept), azure.access()),
        ];
        for (place, root, access) in places {
            let mut cells = Vec::new();
            for (target, rows) in kept.targets {
                let at = at(&local, target);
                let text = kept.scenario(&root, &access, &format!("target: {at}"), *rows, "");
                let program = stores::program();
                let began = Instant::now();
                let ran = program.drill(&text, &[]);
                let cell = format!("{:.1}", began.elapsed().as_secs_f64());
                if ran.exit != Some(0) {
                    let _ = writeln!(wrong, "{} from {place} to {at}: {}\n{}", kept.what, ran.stdout, ran.stderr);
                }
                cells.push(if ran.exit == Some(0) { cell } else { "FAILED".to_owned() });
            }
            println!("| {} | {place} | {} |", kept.what, cells.join(" | "));
        }
    }
    assert_eq!(wrong, "");
}
