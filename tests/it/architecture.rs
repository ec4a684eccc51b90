//! The invariants of ARCHITECTURE.md, read off the source.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Every module, in the order of reading: each uses only those above it.
const ORDER: [&str; 17] = [
    "phase", "fault", "format", "target", "recipe", "blame", "check", "source", "scenario", "plan", "evidence",
    "verdict", "report", "store", "runtime", "drill", "cli",
];
/// Modules that may wait, read files and know the time.
const WITH_EFFECTS: [&str; 4] = ["store", "runtime", "drill", "cli"];

/// `(module, path, text without tests)` of every source file.
fn sources() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let relative = path.strip_prefix(&root).unwrap();
            let module = relative.components().next().unwrap().as_os_str().to_str().unwrap();
            let module = module.trim_end_matches(".rs").to_owned();
            let name = relative.to_string_lossy().into_owned();
            if matches!(module.as_str(), "lib" | "main") || name.ends_with("testing.rs") || name.ends_with("tests.rs") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            // By convention the unit tests are the last item of a file.
            let code = text.split("#[cfg(test)]").next().unwrap().to_owned();
            all.push((module, relative.to_owned(), code));
        }
    }
    assert!(all.len() > 20, "the walk found the sources");
    all
}

fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim_start().starts_with("//"))
}

#[test]
fn every_module_is_in_the_order_and_listed_in_it() {
    let found: BTreeSet<String> = sources().into_iter().map(|(module, ..)| module).collect();
    let listed: BTreeSet<String> = ORDER.map(str::to_owned).into();
    assert_eq!(found, listed);
    let lib = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let declared: Vec<&str> =
        lib.lines().filter_map(|line| line.strip_prefix("pub mod ")).map(|it| it.trim_end_matches(';')).collect();
    assert_eq!(declared, ORDER, "lib.rs lists the modules in the order of reading");
}

#[test]
fn imports_go_up_only() {
    for (module, path, text) in sources() {
        let rank = ORDER.iter().position(|it| *it == module).unwrap();
        for line in code_lines(&text) {
            for (at, _) in line.match_indices("crate::") {
                let used =
                    line[at + "crate::".len()..].split(|it: char| !it.is_alphanumeric() && it != '_').next().unwrap();
                let Some(other) = ORDER.iter().position(|it| *it == used) else {
                    continue;
                };
                assert!(other <= rank, "{} uses {used}, which is not above it: {line}", path.display());
            }
        }
    }
}

#[test]
fn pure_modules_name_no_effect() {
    let effects = [
        "tokio",
        "std::fs",
        "std::process",
        "std::env",
        "std::net",
        "Instant",
        "SystemTime",
        "Timestamp::now",
        "fastrand",
        "async ",
    ];
    for (module, path, text) in sources() {
        if WITH_EFFECTS.contains(&module.as_str()) {
            continue;
        }
        for line in code_lines(&text) {
            for effect in effects {
                assert!(!line.contains(effect), "{} names {effect}: {line}", path.display());
            }
        }
    }
}

#[test]
fn only_the_cli_prints_reads_the_environment_or_ends_the_process() {
    let effects = [
        "println!",
        "print!(",
        "eprint",
        "std::env::var",
        "env::vars",
        "process::exit",
        "std::io::stdout",
        "std::io::stderr",
    ];
    for (module, path, text) in sources() {
        // Re-executed entry points are processes of their own: they answer their parent on standard output.
        if module == "cli" || path.ends_with("room_init.rs") || path.ends_with("reaper.rs") {
            continue;
        }
        for line in code_lines(&text) {
            for effect in effects {
                assert!(!line.contains(effect), "{} has {effect}: {line}", path.display());
            }
        }
    }
}

#[test]
fn a_drill_is_infallible() {
    let (.., text) = sources().into_iter().find(|(module, ..)| module == "drill").unwrap();
    let signature = text.split("pub async fn run(").nth(1).unwrap().split('{').next().unwrap();
    assert!(signature.ends_with("-> Evidence "), "{signature}");
}

#[test]
fn every_crate_that_users_named_is_really_used() {
    let code: String = sources().into_iter().map(|(.., text)| text).collect();
    for used in [
        "testcontainers::",
        "tokio::",
        "tokio_postgres::",
        "serde_json::",
        "tempfile::",
        "junit_report::",
        "clap::",
        "tracing::",
    ] {
        let lines = code_lines(&code).filter(|line| line.contains(used)).count();
        assert!(lines > 0, "{used} is used nowhere in src");
    }
}

#[test]
fn no_arm_of_a_closed_set_is_a_wildcard() {
    // Clippy holds this too (`wildcard_enum_match_arm`); a lint that is switched off in a file would go unnoticed.
    for (_, path, text) in sources() {
        for line in code_lines(&text) {
            assert!(!line.contains("allow(clippy::wildcard"), "{}: {line}", path.display());
            assert!(!line.contains("#[allow("), "{} allows a lint instead of expecting it: {line}", path.display());
        }
    }
}
