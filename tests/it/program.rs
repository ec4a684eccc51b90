//! The program itself, as a person or a pipeline runs it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use pgdrill::report::Report;
use serde_json::Value;

use crate::support::root;

/// One run of the program, with a directory of its own for everything that it writes.
pub(crate) struct Program {
    pub(crate) directory: tempfile::TempDir,
    env: Vec<(String, String)>,
}

impl Program {
    pub(crate) fn new() -> Program {
        Program { directory: tempfile::tempdir().unwrap(), env: Vec::new() }
    }

    #[must_use]
    pub(crate) fn env(mut self, name: &str, value: &str) -> Program {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file into the directory; gives its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgdrill"));
        command.args(args).current_dir(self.directory.path()).stdin(Stdio::null());
        command.env("NO_COLOR", "1").envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        let output = self.command(args).output().unwrap();
        Ran::of(&output)
    }

    /// `pgdrill run` of a scenario text, with the reports in `out`.
    pub(crate) fn drill(&self, scenario: &str, more: &[&str]) -> Ran {
        let file = self.file("scenario.yaml", scenario);
        let out = self.path("out").display().to_string();
        self.run(&[&["run", &file, "--out", &out], more].concat())
    }

    pub(crate) fn report(&self) -> Report {
        let text = std::fs::read_to_string(self.path("out/report.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }
}

#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) exit: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn of(output: &Output) -> Ran {
        Ran {
            exit: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// What was written to standard output, on one line: where it wraps is of no matter.
    pub(crate) fn folded(&self) -> String {
        self.stdout.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    pub(crate) fn expect(self, exit: i32) -> Ran {
        assert_eq!(self.exit, Some(exit), "\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr);
        self
    }
}

/// A file, or a directory with all that is in it, under another name.
pub(crate) fn copied(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    assert!(Command::new("cp").arg("-r").arg(from).arg(to).status().unwrap().success());
}

pub(crate) fn fixture(path: &str) -> PathBuf {
    root().join("fixtures/backups").join(path)
}

/// What the cluster held that the fixtures of this major were dumped from.
pub(crate) fn truth(major: u32) -> Value {
    let text = std::fs::read_to_string(fixture(&format!("pg{major}/truth.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// `rows` checks, as YAML lines for a list in a drill, that hold only if every table has the rows it was dumped with.
pub(crate) fn row_checks(truth: &Value, database: &str, only: impl Fn(&str) -> bool) -> String {
    let tables = truth["databases"][database]["tables"].as_object().unwrap();
    let mut text = String::new();
    for (table, rows) in tables.iter().filter(|(table, _)| only(table)) {
        // As they were counted: a table's own rows, without those of its children.
        let table = Value::String(format!("only {table}"));
        writeln!(text, "      - rows: {{ table: {table}, database: {database}, equals: {rows} }}").unwrap();
    }
    assert!(!text.is_empty(), "there are tables to compare");
    text
}

/// Control groups that bear the name of a drill.
fn groups(directory: &Path, name: &std::ffi::OsStr) -> Vec<PathBuf> {
    let below = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let below = below.filter(|it| it.file_type().is_ok_and(|it| it.is_dir())).map(|it| it.path());
    below.flat_map(|it| if it.file_name() == Some(name) { vec![it] } else { groups(&it, name) }).collect()
}

/// Containers, volumes, processes, control groups and directories of these drills that are still there.
pub(crate) fn leftovers(run: &str, scratches: &[&Path]) -> Vec<String> {
    let mut left = Vec::new();
    for what in ["container", "volume"] {
        let mut docker = Command::new("docker");
        docker.args([what, "ls", "--quiet", "--filter", &format!("label=pgdrill.run={run}")]);
        if what == "container" {
            docker.arg("--all");
        }
        let output = docker.output().unwrap();
        assert!(output.status.success(), "the engine answers: {}", String::from_utf8_lossy(&output.stderr));
        left.extend(String::from_utf8_lossy(&output.stdout).lines().map(|it| format!("{what} {it}")));
    }
    left.extend(scratches.iter().filter(|it| it.exists()).map(|it| format!("directory {}", it.display())));
    for name in scratches.iter().filter_map(|it| it.file_name()) {
        let groups = groups(Path::new("/sys/fs/cgroup"), name);
        left.extend(groups.iter().map(|it| format!("control group {}", it.display())));
    }
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(cmdline) = std::fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        let cmdline = String::from_utf8_lossy(&cmdline).replace('\0', " ");
        if scratches.iter().any(|it| cmdline.contains(&*it.to_string_lossy())) {
            left.push(format!("process {}: {cmdline}", entry.file_name().to_string_lossy()));
        }
    }
    left
}

/// Drills of a table, four at a time: what `wrong` says of each row, all together.
pub(crate) fn four_at_a_time<T: Sync>(rows: &[T], wrong: impl Fn(&T) -> String + Sync) -> String {
    std::thread::scope(|scope| {
        let workers: Vec<_> = rows
            .chunks(rows.len().div_ceil(4))
            .map(|part| scope.spawn(|| part.iter().map(&wrong).collect::<String>()))
            .collect();
        workers.into_iter().map(|it| it.join().unwrap()).collect()
    })
}

/// How a drill differs from what a table says of it; empty where it does not.
pub(crate) fn unlike(name: &str, ran: &Ran, exit: i32, told: &str) -> String {
    let text = ran.folded();
    if ran.exit == Some(exit) && text.contains(told) {
        return String::new();
    }
    format!("{name}: exit {:?}, expected {exit} and “{told}”\n{}\n{}\n", ran.exit, ran.stdout, ran.stderr)
}
