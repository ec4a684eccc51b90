//! The limits of a scenario, as they are found in force on a real drill of each kind.

use pgdrill::evidence::{Evidence, Guarantee, Held};
use serde_json::Value;

use crate::program::{Program, fixture};

const RUNTIMES: [&str; 2] = ["container", "local"];

fn guarantees(runtime: &str, postgres: &str) -> Vec<Guarantee> {
    let program = Program::new();
    let scenario = format!(
        "version: 1\ndrills:\n  - name: limits\n    runtime: {runtime}\n    source: {{ pg_dump: {{ path: {:?} }} }}\n    \
         postgres: {{ {postgres} }}\n    checks:\n      - rows: {{ table: shop.customer, min: 1 }}\n",
        fixture("pg15/shop.dump").display().to_string()
    );
    program.drill(&scenario, &[]).expect(0);
    let text = std::fs::read_to_string(program.path("out/evidence.json")).unwrap();
    let kept: Value = serde_json::from_str(&text).unwrap();
    let evidence: Evidence = serde_json::from_value(kept["drills"][0].clone()).unwrap();
    evidence.guarantees
}

fn found<'a>(all: &'a [Guarantee], name: &str) -> &'a Guarantee {
    all.iter().find(|it| it.name == name).unwrap_or_else(|| panic!("{name}: {all:#?}"))
}

#[test]
fn the_limits_of_a_scenario_are_in_force_everywhere() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    for runtime in RUNTIMES {
        let all = guarantees(runtime, "memory: 1GiB, cpus: 1, shm_size: 128MiB");
        let expected = [
            ("memory limited", "1073741824 bytes"),
            ("processors limited", "1.0 processors"),
            ("processes limited", "512 processes"),
            ("shared memory limited", if runtime == "local" { "/dev/shm: 128.0 MiB" } else { "/dev/shm: 131072k" }),
        ];
        for (name, seen) in expected {
            let it = found(&all, name);
            assert_eq!((it.held, it.seen.as_str()), (Held::Enforced, seen), "{runtime}: {name}");
        }
        let disk = found(&all, "disk limited");
        assert!(disk.held == Held::Watched && disk.seen.contains(" free at /"), "{runtime}: {disk:?}");
    }
}

#[test]
fn what_nobody_limits_is_absent_and_says_so() {
    for runtime in RUNTIMES {
        let all = guarantees(runtime, "major: 15");
        for name in ["memory limited", "processors limited"] {
            let it = found(&all, name);
            assert_eq!((it.held, it.seen.as_str()), (Held::Absent, "no limit was asked for"), "{runtime}: {name}");
        }
    }
}
