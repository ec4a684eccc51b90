//! What each command says and exits with, on real files.

use crate::program::{Program, fixture};

fn shop() -> String {
    fixture("pg15/shop.dump").display().to_string()
}

const GOOD: &str = "version: 1\ndrills:\n  - name: shop\n    tags: [quarterly]\n    runtime: local\n    source: { pg_dump: { path: \"DUMP\" } }\n    \
                    checks:\n      - query: { name: orders, sql: \"select count(*) from shop.customer\", expect: { \">\": 0 } }\n";

fn good() -> String {
    GOOD.replace("DUMP", &shop())
}

#[test]
fn a_backup_without_a_scenario_is_recognised_restored_and_checked() {
    let program = Program::new();
    let out = program.path("out").display().to_string();
    let ran = program.run(&["run", &shop(), "--out", &out, "--runtime", "local"]).expect(0);
    assert!(ran.stdout.contains("PASSED"), "{}", ran.stdout);
    let report = program.report();
    assert!(!report.drills[0].checks.is_empty());
}

#[test]
fn init_writes_a_scenario_that_runs_and_never_overwrites() {
    let program = Program::new();
    let scenario = program.path("shop.yaml").display().to_string();
    program.run(&["init", &shop(), "-o", &scenario]).expect(0);
    program.run(&["check", &scenario]).expect(0);
    let again = program.run(&["init", &shop(), "-o", &scenario]).expect(2);
    assert!(again.stderr.contains("never overwritten"), "{}", again.stderr);
    let out = program.path("out").display().to_string();
    program.run(&["run", &scenario, "--out", &out, "--runtime", "local"]).expect(0);
}

#[test]
fn reports_go_to_standard_output_alone_when_asked_for() {
    let program = Program::new();
    let ran = program.drill(&good(), &["--json", "-"]).expect(0);
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["verdict"], "passed");
    let ran = program.drill(&good(), &["--junit", "-"]).expect(0);
    assert!(ran.stdout.starts_with("<?xml"), "{}", ran.stdout);
}

#[test]
fn strict_junit_of_a_real_run_is_valid_for_jenkins() {
    let program = Program::new();
    let junit = program.path("strict.xml").display().to_string();
    program.drill(&good(), &["--junit", &junit, "--junit-flavor", "strict"]).expect(0);
    let schema = crate::support::root().join("target/xsd/junit-10.xsd");
    assert!(schema.exists(), "ci/setup fetches {}", schema.display());
    let output = std::process::Command::new("xmllint").arg("--noout").arg("--schema").arg(&schema).arg(&junit).output();
    let output = output.expect("xmllint is installed (libxml2-utils)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn tags_that_select_nothing_exit_4() {
    let program = Program::new();
    let ran = program.drill(&good(), &["--tag", "yearly"]).expect(4);
    assert!(ran.stderr.contains("nothing was selected"), "{}", ran.stderr);
}

#[test]
fn a_mistake_in_a_scenario_exits_2_and_shows_the_place() {
    let program = Program::new();
    let ran = program.drill(&good().replace("expect:", "expcet:"), &[]).expect(2);
    assert!(ran.stderr.contains("scenario.yaml:8:") && ran.stderr.contains("did you mean `expect`?"), "{}", ran.stderr);
    assert!(!program.path("out").exists(), "nothing was made");
}

#[test]
fn list_and_check_and_plan_read_without_restoring() {
    let program = Program::new();
    let file = program.file("scenario.yaml", &good());
    let list = program.run(&["list", &file]).expect(0);
    assert!(list.stdout.contains("shop") && list.stdout.contains("[quarterly]"), "{}", list.stdout);
    program.run(&["check", &file]).expect(0);
    let plan = program.run(&["plan", &file]).expect(0);
    for expected in ["backup", "PostgreSQL 15", "budget", "restore the archive (pg_restore)"] {
        assert!(plan.stdout.contains(expected), "{expected}: {}", plan.stdout);
    }
}

#[test]
fn inspect_says_what_a_backup_is_as_text_and_json() {
    let program = Program::new();
    let text = program.run(&["inspect", &shop()]).expect(0);
    for expected in ["custom dump", "shop", "PostgreSQL 15", "pg_trgm", "müller"] {
        assert!(text.stdout.contains(expected), "{expected}: {}", text.stdout);
    }
    let json = program.run(&["inspect", "--json", &shop()]).expect(0);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["dump"]["format"], "custom");
}

#[test]
fn damaged_backups_are_told_apart_before_anything_is_made() {
    let program = Program::new();
    for (name, words) in [
        ("empty.dump", "empty"),
        ("html.dump", "HTML"),
        ("cut-toc.dump", "table of contents"),
        ("missing-file.dir", "shop.reading"),
        ("cut.dump", "ends"),
        ("cut.sql.gz", "cut"),
        ("newer.dump", "1.99"),
    ] {
        let path = fixture("damaged").join(name).display().to_string();
        let scenario = good().replace(&shop(), &path);
        let file = program.file("scenario.yaml", &scenario);
        let plan = program.run(&["plan", &file]);
        // An archive version that nobody knows may be fine: with a newer pgdrill.
        let exit = if name == "newer.dump" { 3 } else { 1 };
        assert_eq!(plan.exit, Some(exit), "{name}: {} {}", plan.stdout, plan.stderr);
        assert!(plan.stdout.contains(words), "{name}: {}", plan.stdout);
    }
}

#[test]
fn damage_that_only_a_restore_finds_fails_and_blames_the_backup() {
    for name in ["flipped.dump", "cut-between-rows.sql", "cut.sql"] {
        let program = Program::new();
        let path = fixture("damaged").join(name).display().to_string();
        let scenario = good().replace(&shop(), &path).replace("runtime: local", "runtime: container");
        program.drill(&scenario, &[]).expect(1);
        let report = program.report();
        assert_eq!(report.drills[0].reasons[0].blame, Some(pgdrill::fault::Blame::Backup), "{name}");
    }
}

#[test]
fn judge_and_report_need_no_server() {
    let program = Program::new();
    program.drill(&good(), &[]).expect(0);
    let out = program.path("out").display().to_string();
    let before = std::fs::read_to_string(program.path("out/report.json")).unwrap();
    assert!(program.run(&["judge", &out]).expect(0).stdout.contains("PASSED"));
    let after = program.run(&["report", &out, "--format", "json"]).expect(0).stdout;
    let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(parse(&before)["drills"], parse(&after)["drills"], "the same evidence gives the same report");
    assert!(program.run(&["report", &out, "--format", "junit"]).expect(0).stdout.contains("<testsuites"));
    let events = program.path("out/events.ndjson").display().to_string();
    assert!(program.run(&["judge", &events]).expect(0).stdout.contains("PASSED"), "the log alone is enough");
}

#[test]
fn secrets_of_the_environment_reach_no_file_of_a_run() {
    let program = Program::new().env("PGPASSWORD", "hunter2-canary").env("DB_TOKEN", "hunter2-canary");
    let ran = program.drill(&good(), &["--verbose", "--verbose"]).expect(0);
    assert!(!ran.stderr.contains("hunter2-canary") && !ran.stdout.contains("hunter2-canary"));
    let mut folders = vec![program.path("out")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = std::fs::read(&path).unwrap();
                assert!(!String::from_utf8_lossy(&bytes).contains("hunter2-canary"), "{}", path.display());
            }
        }
    }
}

#[test]
fn the_backup_is_only_read() {
    let program = Program::new();
    let copy = program.path("shop.dump");
    std::fs::copy(shop(), &copy).unwrap();
    let look = || {
        let seen = std::fs::metadata(&copy).unwrap();
        (seen.modified().unwrap(), seen.len(), std::fs::read(&copy).unwrap())
    };
    let before = look();
    program.drill(&good().replace(&shop(), copy.to_str().unwrap()), &[]).expect(0);
    assert_eq!(before, look());
}

#[test]
fn pick_all_drills_every_match() {
    let program = Program::new();
    for day in ["2026-11-20", "2026-11-21"] {
        std::fs::copy(shop(), program.path(&format!("shop-{day}.dump"))).unwrap();
    }
    let scenario = good().replace(&format!("path: \"{}\"", shop()), "path: \"shop-*.dump\", pick: all");
    program.drill(&scenario, &[]).expect(0);
    let names: Vec<String> = program.report().drills.into_iter().map(|it| it.name).collect();
    assert_eq!(names, ["shop (shop-2026-11-20.dump)", "shop (shop-2026-11-21.dump)"]);
}

#[test]
fn every_schema_is_printed_and_as_committed() {
    let program = Program::new();
    for (name, args) in [("scenario", "scenario"), ("report", "report"), ("evidence", "evidence")] {
        let printed = program.run(&["schema", args]).expect(0).stdout;
        let path = crate::support::root().join(format!("reports/schema/{name}.schema.json"));
        if std::env::var_os("PGDRILL_BLESS").is_some() {
            std::fs::write(&path, &printed).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap();
        assert_eq!(printed, committed, "{}: run this test with PGDRILL_BLESS=1", path.display());
    }
}

#[test]
fn doctor_says_what_is_here() {
    let ran = Program::new().run(&["doctor"]).expect(0);
    for expected in ["container engine", "PostgreSQL programs", "namespaces", "fsync"] {
        assert!(ran.stdout.contains(expected), "{expected}: {}", ran.stdout);
    }
}

#[test]
fn an_output_that_cannot_be_written_is_said_before_anything_runs() {
    let program = Program::new();
    let blocked = program.file("blocked", "a file, not a directory");
    let file = program.file("scenario.yaml", &good());
    for args in [["--out", blocked.as_str()], ["--junit", &format!("{blocked}/junit.xml")]] {
        let ran = program.run(&[&["run", &file], args.as_slice()].concat()).expect(2);
        assert!(ran.stderr.contains("failed to write"), "{}", ran.stderr);
    }
}

#[test]
fn a_report_that_goes_to_a_device_does_not_replace_it() {
    let program = Program::new();
    let link = program.path("link.xml");
    let target = program.file("target.xml", "old");
    std::os::unix::fs::symlink(&target, &link).unwrap();
    program.drill(&good(), &["--junit", link.to_str().unwrap(), "--json", "/dev/null"]).expect(0);
    assert!(link.is_symlink() && std::fs::read_to_string(&target).unwrap().starts_with("<?xml"));
    assert!(!std::path::Path::new("/dev/null").is_file());
}

/// A full disk: the evidence cannot be kept, and what an earlier drill left there must not speak for this one.
#[test]
fn evidence_that_cannot_be_kept_never_passes() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let program = Program::new();
    let out = program.path("out");
    std::fs::create_dir(&out).unwrap();
    let options = Some("size=28k");
    nix::mount::mount(Some("tmpfs"), &out, Some("tmpfs"), nix::mount::MsFlags::empty(), options).unwrap();
    let ran = program.drill(&good(), &[]);
    nix::mount::umount2(&out, nix::mount::MntFlags::MNT_DETACH).unwrap();
    let ran = ran.expect(3);
    assert!(ran.stderr.contains("failed to write"), "{}", ran.stderr);
}

/// What psql does not read, it does not miss; and the mode that pg_dump gives a directory must not hide what is cut in it.
#[test]
fn a_restore_that_leaves_something_out_in_silence_fails() {
    use std::os::unix::fs::PermissionsExt as _;
    let program = Program::new();
    let scenario = "version: 1\ndrills:\n  - name: quiet\n    runtime: container\n    source: { pg_dump: { path: \"PATH\" } }\n    \
                    postgres: { major: 18 }\n    checks:\n      - query: { name: there, sql: select 1, expect: 1 }\n";
    program.file("quit.sql", "create table a (x int);\n\\q\ncreate table b (x int);\n");
    let ran = program.drill(&scenario.replace("PATH", "quit.sql"), &[]).expect(1);
    assert!(ran.stdout.contains("before the end of the text"), "{}", ran.stdout);

    let whole = fixture("pg18/shop.dir");
    let cut = program.path("cut.dir");
    std::fs::create_dir(&cut).unwrap();
    for entry in std::fs::read_dir(&whole).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let packed = path.extension().is_some_and(|it| it == "gz");
        let length = if packed && bytes.len() > 1000 { bytes.len() - 200 } else { bytes.len() };
        std::fs::write(cut.join(path.file_name().unwrap()), &bytes[..length]).unwrap();
    }
    for mode in [0o755, 0o700] {
        std::fs::set_permissions(&cut, std::fs::Permissions::from_mode(mode)).unwrap();
        let ran = program.drill(&scenario.replace("PATH", "cut.dir"), &[]).expect(1);
        assert!(ran.stdout.contains("fault: the backup"), "{mode:o}: {}", ran.stdout);
    }
}

#[test]
fn what_the_scenario_itself_gets_wrong_is_not_blamed_on_the_backup() {
    let program = Program::new();
    program.file("typo.sql", "selct 1;\n");
    for (before, after) in [
        ("    checks:", "    restore: { after: typo.sql }\n    checks:"),
        ("    checks:", "    ready: { sql: selct 1 }\n    checks:"),
    ] {
        program.drill(&good().replace(before, after), &[]).expect(3);
        assert_eq!(program.report().drills[0].reasons[0].blame, Some(pgdrill::fault::Blame::Scenario), "{after}");
    }
}

/// Statements that a restore ignored stand in every report: without the passwords in them.
#[test]
fn passwords_in_statements_of_a_dump_reach_no_report() {
    let program = Program::new();
    program.file(
        "mapping.sql",
        "create extension postgres_fdw;\ncreate server far foreign data wrapper postgres_fdw;\n\
         create user mapping for nobody_here server far options (user 'u', password 'hunter2-canary');\n",
    );
    let scenario = good()
        .replace(&shop(), "mapping.sql")
        .replace("    checks:", "    restore: { roles: none, allow_errors: [nobody_here] }\n    checks:");
    let _ = program.drill(&scenario, &[]);
    for name in ["evidence.json", "report.json", "junit.xml", "events.ndjson"] {
        let text = std::fs::read_to_string(program.path("out").join(name)).unwrap();
        assert!(!text.contains("hunter2-canary"), "{name}");
    }
}

/// `pg_dump --clean` drops first what a new database has not: no error of that kind says anything about the backup.
#[test]
fn a_dump_that_cleans_first_is_no_bad_dump() {
    let program = Program::new();
    let text = "--\n-- PostgreSQL database dump\n--\n\n-- Dumped from database version 15.18\n-- Dumped by pg_dump version 15.18\n\n\
                SET statement_timeout = 0;\nALTER TABLE ONLY public.a DROP CONSTRAINT a_pkey;\nDROP TABLE public.a;\n\
                CREATE TABLE public.a (x integer NOT NULL);\nCOPY public.a (x) FROM stdin;\n1\n2\n\\.\n\
                MISSING\n--\n-- PostgreSQL database dump complete\n--\n\n";
    let scenario = good().replace(&shop(), "clean.sql").replace("shop.customer", "public.a");
    program.file("clean.sql", &text.replace("MISSING", ""));
    program.drill(&scenario, &[]).expect(0);
    program.file(
        "clean.sql",
        &text.replace("MISSING", "ALTER TABLE ONLY public.b ADD CONSTRAINT b_pkey PRIMARY KEY (x);"),
    );
    program.drill(&scenario, &[]).expect(1);
    let report = std::fs::read_to_string(program.path("out/report.json")).unwrap();
    assert!(report.contains("ADD CONSTRAINT b_pkey"), "the statement stands in the report");
}

/// The printed script, run by a person who has only PostgreSQL's programs.
#[test]
fn the_commands_of_a_plan_bring_the_data_back_without_pgdrill() {
    for (kind, file) in [("pg_dump", "pg15/shop.dump"), ("pg_dumpall", "pg15/cluster.sql.gz")] {
        let program = Program::new();
        let scenario = format!(
            "version: 1\ndrills:\n  - name: by hand\n    runtime: local\n    source: {{ {kind}: {{ path: \"{}\" }} }}\n",
            fixture(file).display()
        );
        let scenario = program.file("drill.yaml", &scenario);
        let script = program.file("by-hand.sh", &program.run(&["plan", "--commands", &scenario]).expect(0).stdout);
        // Short, for the socket's sake, and open to the server's user.
        let work = tempfile::Builder::new().prefix("by-hand-").tempdir_in("/tmp").unwrap();
        std::fs::set_permissions(work.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let output = std::process::Command::new("sh").arg(&script).env("WORK", work.path()).output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        let count = std::process::Command::new("/usr/lib/postgresql/15/bin/psql")
            .args(["-XAtq", "-U", "postgres", "-d", "shop", "-c", "select count(*) from shop.customer", "-h"])
            .arg(work.path().join("run"))
            .output()
            .unwrap();
        let removal = told.lines().find_map(|it| it.strip_prefix("Remove it with: ")).unwrap_or("true").to_owned();
        let removed = std::process::Command::new("sh").args(["-c", &removal]).output().unwrap();
        assert!(output.status.success(), "{file}: {told}");
        assert_eq!(String::from_utf8_lossy(&count.stdout).trim(), "120", "{file}: {told}");
        assert!(removed.status.success(), "{removal}: {}", String::from_utf8_lossy(&removed.stderr));
        assert!(!work.path().exists(), "what the script says removes it");
    }
}

#[test]
fn a_packager_gets_completions_and_manual_pages() {
    let program = Program::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(program.run(&["completions", shell]).expect(0).stdout.contains("pgdrill"), "{shell}");
    }
    let page = program.run(&["man"]).expect(0).stdout;
    assert!(page.contains(".TH pgdrill") && page.contains("Exit status"), "{page}");
    let directory = program.path("man");
    std::fs::create_dir(&directory).unwrap();
    program.run(&["man", directory.to_str().unwrap()]).expect(0);
    assert!(directory.join("pgdrill-run.1").exists());
}
