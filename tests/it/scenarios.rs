//! The scenarios that users copy: each is checked, planned and run as it lies there, and together they show every key.

use std::collections::BTreeSet;
use std::path::PathBuf;

use pgdrill::verdict::Verdict;
use serde_json::Value;

use crate::program::Program;
use crate::stores;
use crate::support::root;

/// One test for each, so that a failure names its file. [`every_file_is_run`] fails when one is missing here.
const RUN: &[&str] = &[
    "barman.yaml",
    "barman_cloud.yaml",
    "base_backup.yaml",
    "copies.yaml",
    "databasus.yaml",
    "disaster-deleted-rows.yaml",
    "disaster-found-late.yaml",
    "disaster-host-lost.yaml",
    "disaster-one-table.yaml",
    "disaster-site-lost.yaml",
    "newer-major.yaml",
    "object_store.yaml",
    "pg_dump.yaml",
    "pg_dumpall.yaml",
    "pgbackrest.yaml",
    "quickstart.yaml",
    "scope.yaml",
    "sweep.yaml",
    "wal_g.yaml",
];

#[test]
fn base_backup() {
    passes("base_backup.yaml");
}

#[test]
fn barman() {
    passes("barman.yaml");
}

#[test]
fn barman_cloud() {
    passes("barman_cloud.yaml");
}

#[test]
fn pgbackrest() {
    passes("pgbackrest.yaml");
}

#[test]
fn databasus() {
    passes("databasus.yaml");
}

#[test]
fn wal_g() {
    passes("wal_g.yaml");
}

/// Three stores, each with an authority of its own.
#[test]
fn object_store() {
    let [s3, google, azure] = [stores::s3(), stores::google(), stores::azure()];
    let authorities = [s3, google, azure].map(|it| std::fs::read_to_string(it.path("ca.pem")).unwrap());
    let program = Program::new();
    let ca = program.file("authorities.pem", &authorities.concat());
    let program = program.env("CA", &ca).env("BUCKET", "fixtures").env("AZURE_ACCOUNT_KEY", stores::AZURE_KEY);
    let program = program.env("S3_ACCESS_KEY", stores::KEY).env("S3_SECRET_KEY", stores::SECRET);
    let program = program.env("S3_ENDPOINT", &s3.endpoint()).env("GCS_ENDPOINT", &google.endpoint());
    passes_with("object_store.yaml", &program.env("AZURE_ENDPOINT", &azure.endpoint()));
}

#[test]
fn copies() {
    passes("copies.yaml");
}

#[test]
fn deleted_rows() {
    passes("disaster-deleted-rows.yaml");
}

#[test]
fn found_late() {
    passes("disaster-found-late.yaml");
}

#[test]
fn host_lost() {
    passes("disaster-host-lost.yaml");
}

#[test]
fn one_table() {
    passes("disaster-one-table.yaml");
}

#[test]
fn site_lost() {
    passes("disaster-site-lost.yaml");
}

#[test]
fn newer_major() {
    passes("newer-major.yaml");
}

#[test]
fn pg_dump() {
    passes("pg_dump.yaml");
}

#[test]
fn pg_dumpall() {
    passes("pg_dumpall.yaml");
}

#[test]
fn quickstart() {
    passes("quickstart.yaml");
}

#[test]
fn scope() {
    passes("scope.yaml");
}

#[test]
fn sweep() {
    passes("sweep.yaml");
}

#[test]
fn every_file_is_run() {
    let names: Vec<String> = files().iter().map(|it| it.file_name().unwrap().to_string_lossy().into_owned()).collect();
    assert_eq!(names, RUN, "a test for each");
}

/// A misspelt key is refused by `check`; a new one that no scenario shows is refused by this.
#[test]
fn every_key_of_the_format_is_shown() {
    let schema: Value = serde_json::from_str(&Program::new().run(&["schema", "scenario"]).expect(0).stdout).unwrap();
    let (mut shown, mut commented) = (BTreeSet::new(), BTreeSet::new());
    for path in files() {
        let text = std::fs::read_to_string(&path).unwrap();
        commented.extend(text.lines().filter_map(commented_key).map(str::to_owned));
        let file: Value = serde_saphyr::from_str(&text).unwrap();
        show(&schema, "Scenario", &schema, &file, &mut shown);
    }
    let hidden = |it: &(String, String)| !shown.contains(it) && !commented.contains(&it.1);
    let hidden: Vec<(String, String)> = keys(&schema).into_iter().filter(hidden).collect();
    assert_eq!(hidden, [], "keys that no file of scenarios/ shows, as (definition, key)");
    assert!(shown.contains(&("Expect".to_owned(), ">=".to_owned())), "the walk reaches the innermost keys: {shown:?}");
}

fn files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join("scenarios")).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|it| it.unwrap().path()).filter(|it| it.is_file()).collect();
    files.sort();
    files
}

fn passes(name: &str) {
    passes_with(name, &Program::new());
}

fn passes_with(name: &str, program: &Program) {
    let path = root().join("scenarios").join(name).display().to_string();
    program.run(&["check", &path]).expect(0);
    let listed = program.run(&["list", &path]).expect(0).stdout.lines().count();
    let planned = program.run(&["plan", &path]).expect(0).stdout;
    assert!(!planned.contains("cannot run"), "{planned}");
    let out = program.path("out").display().to_string();
    let ran = program.run(&["run", &path, "--out", &out]).expect(0);
    let drills = program.report().drills;
    assert_eq!(drills.len(), listed, "{}", ran.stdout);
    for drill in drills {
        assert_eq!(drill.verdict, Verdict::Passed, "{}: {}", drill.name, ran.stdout);
        assert!(!drill.checks.is_empty(), "{} shows what checks are", drill.name);
    }
}

/// `max_age` of `  # max_age: 26h   # why`.
fn commented_key(line: &str) -> Option<&str> {
    let (key, _) = line.trim_start().strip_prefix("# ")?.split_once(": ")?;
    key.chars().all(|it| it.is_ascii_lowercase() || it == '_').then_some(key)
}

/// Every key that a definition of the schema has, with the definition's name.
fn keys(schema: &Value) -> BTreeSet<(String, String)> {
    let definitions = schema["$defs"].as_object().unwrap().iter().map(|(name, it)| (name.as_str(), it));
    let mut keys = BTreeSet::new();
    for (name, definition) in definitions.chain([("Scenario", schema)]) {
        let mut open = vec![definition];
        while let Some(it) = open.pop() {
            let properties = it["properties"].as_object().into_iter().flatten();
            keys.extend(properties.map(|(key, _)| (name.to_owned(), key.clone())));
            open.extend(alternatives(it));
        }
    }
    keys
}

fn alternatives(schema: &Value) -> impl Iterator<Item = &Value> {
    ["oneOf", "anyOf", "allOf"].into_iter().flat_map(|it| schema[it].as_array().into_iter().flatten())
}

/// Notes the keys of `value`, by the definition that it is an instance of.
fn show(schema: &Value, definition: &str, part: &Value, value: &Value, shown: &mut BTreeSet<(String, String)>) {
    if let Some(name) = part["$ref"].as_str().and_then(|it| it.strip_prefix("#/$defs/")) {
        show(schema, name, &schema["$defs"][name], value, shown);
    }
    for it in alternatives(part) {
        show(schema, definition, it, value, shown);
    }
    for item in value.as_array().into_iter().flatten() {
        show(schema, definition, &part["items"], item, shown);
    }
    for (key, value) in value.as_object().into_iter().flatten() {
        let inner = &part["properties"][key];
        if !inner.is_null() {
            shown.insert((definition.to_owned(), key.clone()));
            show(schema, definition, inner, value, shown);
        }
    }
}
