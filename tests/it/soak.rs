//! SIGKILL at random moments, over and over: whatever it cuts, nothing is left soon after. `ci/soak` runs it.
//!
//! Seeded, so that a bad run can be repeated: `PGDRILL_SEED`. `PGDRILL_SOAK` is how many runs there are.

#![expect(clippy::print_stdout, reason = "the figures are for whoever runs it")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::program::{Program, fixture};
use crate::signals::left_at_last;
use crate::support::root;

/// Runs at the same time, which also must not disturb each other.
const AT_ONCE: usize = 4;
const RUNTIMES: [&str; 2] = ["container", "local"];

/// How one run ended, and what was seen of it afterwards.
struct Killed {
    runtime: &'static str,
    /// The phase that was running; `before` and `after` the drill.
    phase: String,
    clean_after: Duration,
}

/// A drill with some time in each of its longer phases.
fn scenario(runtime: &str) -> String {
    let dump = fixture("pg15/shop.dump").display().to_string();
    format!(
        "version: 1\ndrills:\n  - name: soak\n    runtime: {runtime}\n    source: {{ pg_dump: {{ path: \"{dump}\" }} }}\n    \
         restore: {{ before: pause.sql, jobs: 2 }}\n    postgres: {{ major: 15 }}\n    checks:\n      \
         - query: {{ name: one, sql: \"select pg_sleep(0.5)\", expect: not empty }}\n"
    )
}

/// splitmix64, by Vigna: enough for picking moments, and the same everywhere.
fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|it| it.parse().ok()).unwrap_or(default)
}

#[test]
#[ignore = "minutes: ci/soak"]
fn runs_killed_at_random_moments_leave_nothing() {
    let (runs, seed) = (number("PGDRILL_SOAK", 100), number("PGDRILL_SEED", 4711));
    // How long a drill takes that is let be: moments are drawn from that and a little more.
    let whole = RUNTIMES.map(|runtime| {
        let began = Instant::now();
        let stage = Stage::set(runtime);
        assert!(stage.start().wait().unwrap().success(), "a drill that is let be passes");
        began.elapsed()
    });
    println!("seed {seed}, {runs} runs; undisturbed: container {:.1?}, local {:.1?}", whole[0], whole[1]);
    let mut state = seed;
    let plan: Vec<(usize, Duration)> = (0..runs)
        .map(|run| {
            let which = usize::try_from(run % 2).unwrap();
            let permille = u32::try_from(random(&mut state) % 1050).unwrap();
            (which, whole[which] * permille / 1000)
        })
        .collect();
    let (next, done) = (Mutex::new(plan.into_iter()), Mutex::new(Vec::new()));
    let work = || {
        loop {
            let Some((which, moment)) = next.lock().unwrap().next() else { return };
            let killed = kill_after(RUNTIMES[which], moment);
            done.lock().unwrap().push(killed);
        }
    };
    std::thread::scope(|scope| (0..AT_ONCE).for_each(|_| drop(scope.spawn(work))));
    let done = done.into_inner().unwrap();
    assert_eq!(done.len() as u64, runs, "a thread that found something left has ended early");
    let text = figures(&done, seed);
    println!("{text}");
    std::fs::create_dir_all(root().join("reports/out")).unwrap();
    std::fs::write(root().join("reports/out/soak.md"), text).unwrap();
}

/// One directory for everything of a run: its TMPDIR too, by which all that is left can be told from what is other people's.
struct Stage {
    program: Program,
    base: PathBuf,
    scenario: String,
}

impl Stage {
    fn set(runtime: &str) -> Stage {
        let program = Program::new();
        let base = program.path("t");
        std::fs::create_dir(&base).unwrap();
        // The server's user passes through.
        for path in [program.directory.path(), &base] {
            std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }
        program.file("pause.sql", "select pg_sleep(0.5);\n");
        let scenario = program.file("scenario.yaml", &scenario(runtime));
        Stage { program, base, scenario }
    }

    fn start(&self) -> std::process::Child {
        let out = self.program.path("out").display().to_string();
        let mut command = self.program.command(&["run", &self.scenario, "--out", &out, "--quiet"]);
        command.env("TMPDIR", &self.base).env("PGDRILL_PATIENCE_SECONDS", "20");
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// The last phase that began, or what came instead of one.
    fn phase(&self) -> String {
        let text = std::fs::read_to_string(self.program.path("out/events.ndjson")).unwrap_or_default();
        let mut phase = "before".to_owned();
        for line in text.lines().filter_map(|it| serde_json::from_str::<Value>(it).ok()) {
            let event = &line["event"];
            if let Some(began) = event["began"].as_str() {
                began.clone_into(&mut phase);
            } else if event["ended"]["phase"] == "teardown" {
                "after".clone_into(&mut phase);
            }
        }
        phase
    }

    /// Whatever is still there of the run: of the engine, in the file system, among processes, mounts and sockets.
    fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        let base = self.base.to_str().unwrap();
        for what in ["container", "volume", "network"] {
            let mut docker = Command::new("docker");
            docker.args([
                what,
                "ls",
                "--filter",
                "label=pgdrill.scratch",
                "--format",
                "{{.Label \"pgdrill.scratch\"}}",
            ]);
            if what == "container" {
                docker.arg("--all");
            }
            let output = docker.output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            left.extend(text.lines().filter(|it| it.starts_with(base)).map(|it| format!("{what} of {it}")));
        }
        left.extend(std::fs::read_dir(&self.base).unwrap().map(|it| it.unwrap().path().display().to_string()));
        left.extend(processes_of(&self.base));
        for table in ["/proc/self/mountinfo", "/proc/net/unix"] {
            let text = std::fs::read_to_string(table).unwrap();
            left.extend(text.lines().filter(|it| it.contains(base)).map(|it| format!("{table}: {it}")));
        }
        left
    }
}

/// Those whose environment, arguments or working directory name it: the environment alone tells the reaper.
fn processes_of(base: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let process = entry.path();
        let names_it = |file: &str| {
            let bytes = std::fs::read(process.join(file)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).contains(base.to_str().unwrap())
        };
        let lies_in_it = std::fs::read_link(process.join("cwd")).is_ok_and(|it| it.starts_with(base));
        if names_it("environ") || names_it("cmdline") || lies_in_it {
            let name = std::fs::read_to_string(process.join("comm")).unwrap_or_default();
            found.push(format!("process {} {}", entry.file_name().to_string_lossy(), name.trim()));
        }
    }
    found
}

fn kill_after(runtime: &'static str, moment: Duration) -> Killed {
    let stage = Stage::set(runtime);
    let mut child = stage.start();
    // The moment itself is the point: nothing is waited for.
    std::thread::park_timeout(moment);
    let _ = kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGKILL);
    child.wait().unwrap();
    let (began, phase) = (Instant::now(), stage.phase());
    let left = left_at_last(|| stage.left());
    assert!(left.is_empty(), "left by a {runtime} drill that was killed in {phase}: {left:#?}");
    Killed { runtime, phase, clean_after: began.elapsed() }
}

/// By phase: how many, and how long until nothing was left, by the median and at most.
fn figures(done: &[Killed], seed: u64) -> String {
    let mut groups: BTreeMap<(&str, &str), Vec<Duration>> = BTreeMap::new();
    for killed in done {
        groups.entry((&killed.phase, killed.runtime)).or_default().push(killed.clean_after);
    }
    let mut text = format!("# {} runs killed at random moments, seed {seed}: nothing left\n\n", done.len());
    text += "| killed in | runtime | runs | clean after: median | at most |\n|---|---|---:|---:|---:|\n";
    for ((phase, runtime), mut times) in groups {
        times.sort_unstable();
        let (median, most) = (times[times.len() / 2], times[times.len() - 1]);
        let _ = writeln!(text, "| {phase} | {runtime} | {} | {median:.1?} | {most:.1?} |", times.len());
    }
    let most = done.iter().map(|it| it.clean_after).max().unwrap_or_default();
    text + &format!("\nLongest of all until nothing was left: {most:.1?}\n")
}
