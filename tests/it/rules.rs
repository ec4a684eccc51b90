//! The table of rules and their tests names tests that are there.

use std::path::Path;

use crate::support::root;

#[test]
fn every_rule_names_tests_that_are_there() {
    let mut sources = String::new();
    for folder in ["src", "tests"] {
        read(&root().join(folder), &mut sources);
    }
    let table = std::fs::read_to_string(root().join("tests/RULES.md")).unwrap();
    let rows = table.lines().filter(|it| it.starts_with("| ") && !it.starts_with("| rule "));
    let mut named = 0;
    for row in rows {
        let tests = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let tests: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "a rule without a test: {row}");
        for test in tests {
            let name = test.rsplit("::").next().unwrap();
            // Tests of the environment's faults are made by a macro.
            let there = sources.contains(&format!("fn {name}(")) || sources.contains(&format!("{name}:"));
            assert!(there, "{test} is named by a rule, and is not there");
            named += 1;
        }
    }
    assert!(named > 50, "{named} tests are named");
}

fn read(folder: &Path, sources: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(&path, sources);
        } else if path.extension().is_some_and(|it| it == "rs") {
            sources.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}
