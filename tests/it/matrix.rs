//! The whole matrix: every backup among the fixtures, into every server that can be asked to take it. `ci/full` runs it.
//!
//! Not a list but a product, so that a new fixture joins by lying there. A cell that fails does not end the others: the
//! table is what this test is for.

#![expect(clippy::print_stdout, reason = "the table is for whoever runs it")]

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::Instant;

use crate::cells::{ALL, Cell, restores};
use crate::program::fixture;
use crate::support::root;

const MAJORS: [u32; 4] = [13, 15, 17, 18];
/// The major of this machine's distribution: Debian 12.
const LOCAL: u32 = 15;
const SLICES: usize = 7;
/// Cells at the same time: most of a small drill is waiting for the engine and for programs to start.
const AT_ONCE: usize = 2;

const NOT_RUN: [(&str, &str); 5] = [
    ("container × a major lower than the dump's", "an older major cannot be promised to take a newer dump"),
    ("local × dumps of 17 and 18", "the same: the programs of this machine's distribution are those of 15"),
    ("local × 13, 17, 18", "this machine's distribution has the programs of one major"),
    ("globals.sql by itself", "there is no database in it: each runs beside its shop.dump instead"),
    ("damaged/", "these must not restore: tests/it/judging.rs and the tests of src/format have them"),
];

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    /// Below fixtures/backups.
    file: String,
    globals: bool,
    from: u32,
    into: u32,
    runtime: &'static str,
}

/// What came of a cell.
struct Outcome {
    entry: Entry,
    /// Of the span that an RTO is measured over; else why there is none.
    seconds: Result<f64, String>,
}

#[test]
#[ignore = "the whole matrix: ci/full"]
fn whole_matrix() {
    let began = Instant::now();
    let slice = std::env::var("PGDRILL_SLICE").ok().filter(|it| !it.is_empty());
    let slice = slice.map(|it| it.parse::<usize>().ok().filter(|it| *it < SLICES).expect("PGDRILL_SLICE is 0 to 6"));
    let chosen = entries().into_iter().enumerate().filter(|(at, _)| slice.is_none_or(|slice| at % SLICES == slice));
    let outcomes = run_all(chosen.map(|(_, entry)| entry).collect());
    let table = table(&outcomes);
    let took = began.elapsed().as_secs();
    let title = slice.map_or("The whole matrix".to_owned(), |it| format!("Slice {it} of the matrix"));
    let text = format!("# {title}: {} cells in {took} s\n\n{table}", outcomes.len());
    println!("{text}");
    let directory = root().join("reports/out");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("matrix.md"), &text).unwrap();
    for Outcome { entry, seconds } in &outcomes {
        if let Err(reason) = seconds {
            println!("== {entry:?}\n{reason}\n");
        }
    }
    let failed = outcomes.iter().filter(|it| it.seconds.is_err()).count();
    assert_eq!(failed, 0, "of {} cells this many did not restore; they are printed above", outcomes.len());
}

/// Every cell that can be run, in an order that spreads fixtures and targets over the slices.
fn entries() -> Vec<Entry> {
    let mut entries = Vec::new();
    for from in MAJORS {
        let directory = fixture(&format!("pg{from}"));
        let names = std::fs::read_dir(&directory).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|it| it != "truth.json").collect();
        names.sort();
        for name in names {
            let globals = name == "globals.sql";
            let file = format!("pg{from}/{}", if globals { "shop.dump" } else { &name });
            let entry = |into, runtime| Entry { file: file.clone(), globals, from, into, runtime };
            entries.extend(MAJORS.into_iter().filter(|into| *into >= from).map(|into| entry(into, "container")));
            entries.extend((LOCAL >= from).then(|| entry(LOCAL, "local")));
        }
    }
    entries
}

fn run_all(entries: Vec<Entry>) -> Vec<Outcome> {
    let order = entries.clone();
    let (waiting, done) = (Mutex::new(VecDeque::from(entries)), Mutex::new(Vec::new()));
    let work = || {
        // Not `while let`: its guard would be held while the cell runs.
        loop {
            let Some(entry) = waiting.lock().unwrap().pop_front() else { return };
            let seconds = catch_unwind(AssertUnwindSafe(|| run(&entry)));
            let seconds = seconds.map_err(|panic| {
                let text = panic.downcast_ref::<String>().cloned();
                text.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_owned())).unwrap_or_default()
            });
            let said = seconds.as_ref().map_or("not passed".to_owned(), |it| format!("{it:.2} s"));
            let mut done = done.lock().unwrap();
            println!(
                "{:>3} of {}: {} into {} {}: {said}",
                done.len() + 1,
                order.len(),
                entry.file,
                entry.runtime,
                entry.into
            );
            done.push(Outcome { entry, seconds });
        }
    };
    std::thread::scope(|scope| (0..AT_ONCE).for_each(|_| drop(scope.spawn(work))));
    let mut done = done.into_inner().unwrap();
    done.sort_by_key(|it| order.iter().position(|entry| *entry == it.entry));
    done
}

fn run(entry: &Entry) -> f64 {
    let globals = format!("globals: FIXTURES/pg{}/globals.sql", entry.from);
    let drill = restores(&Cell {
        name: "matrix",
        file: &entry.file,
        from: entry.from,
        into: entry.into,
        runtime: entry.runtime,
        source: if entry.globals { &globals } else { "" },
        restore: "",
        // Of one schema, unlike the others.
        tables: if entry.file.contains("inserts") { "\"Größen\"." } else { ALL },
    });
    drill.rto.and_then(|it| it.elapsed_seconds).expect("a drill that passed has a recovery time")
}

/// Fixtures down, targets across.
fn table(outcomes: &[Outcome]) -> String {
    let columns: Vec<(&str, u32)> = MAJORS.iter().map(|it| ("container", *it)).chain([("local", LOCAL)]).collect();
    let mut text = String::from(
        "Seconds from the start of provision to the end of ready; each cell passed unless it says so.\n\n| backup |",
    );
    for (runtime, into) in &columns {
        let _ = write!(text, " {runtime} {into} |");
    }
    let _ = writeln!(text, "\n|---|{}", "---:|".repeat(columns.len()));
    let mut rows: Vec<(&str, bool)> = outcomes.iter().map(|it| (it.entry.file.as_str(), it.entry.globals)).collect();
    rows.dedup();
    for (file, globals) in rows {
        let _ = write!(text, "| {file}{} |", if globals { " + globals.sql" } else { "" });
        for (runtime, into) in &columns {
            let here = |it: &&Outcome| (&*it.entry.file, it.entry.globals) == (file, globals);
            let cell = outcomes.iter().filter(here).find(|it| (it.entry.runtime, it.entry.into) == (*runtime, *into));
            let cell = cell.map_or(String::new(), |it| match &it.seconds {
                Ok(seconds) => format!("{seconds:.2}"),
                Err(_) => "**not passed**".to_owned(),
            });
            let _ = write!(text, " {cell} |");
        }
        text.push('\n');
    }
    text += "\n| not run | because |\n|---|---|\n";
    for (what, why) in NOT_RUN {
        let _ = writeln!(text, "| {what} | {why} |");
    }
    text
}
