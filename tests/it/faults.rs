//! What the machine does to a drill while it runs: each fault leaves the drill inconclusive, says what happened, blames this
//! host, and leaves nothing behind. Never a failed backup, never a pass.
//!
//! A matrix as data: a row is a fault, a runtime and a moment, with what the report must say of it. The drill stands still
//! at a gate, a statement that waits for a file, so that a fault comes at its moment whatever the machine's speed.

#![expect(clippy::print_stdout, reason = "the table is for whoever runs it")]

mod acts;

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use pgdrill::fault::Blame;
use pgdrill::report::Report;
use pgdrill::verdict::Verdict;

use self::acts::Scene;
use crate::program::{Ran, leftovers};
use crate::signals::left_at_last;
use crate::support::root;

/// What is done to the drill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    /// Nothing from outside: the drill itself asks too much of the machine.
    Nothing,
    TruncateBackup,
    ReplaceBackup,
    RemoveBackup,
    /// Takes one data file out of a directory dump.
    RemovePart,
    /// Takes the file system away that the backup lies on.
    UnmountStore,
    RemoveScratch,
    KillContainer,
    PauseContainer,
    LimitPids,
    KillProgram(&'static str),
    FreezeProgram(&'static str),
    KillEngine,
}

/// When it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// Before pgdrill starts.
    Start,
    /// After the survey, before a byte is restored.
    BeforeRestore,
    /// The first part of a plain dump is restored, the rest still on its way.
    MidRestore,
    /// While a check is asked.
    Validate,
}

/// What is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dump {
    Custom,
    CustomInParallel,
    DirectoryInParallel,
    Plain,
    /// Plain, and grows to some hundred megabytes in the server.
    PlainThatGrows,
    /// Plain, and needs more memory than it is given.
    PlainThatSwells,
}

/// Where the drill runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ground {
    Ordinary,
    /// As a user who may not read the backup.
    Stranger,
    /// Where the backup was, there is not even a directory.
    StalePath,
    /// Scratch directories lie on a file system of 160 MiB.
    SmallDisk,
    /// Reports go to a file system of a few KiB.
    SmallOutput,
    /// An engine of its own, which may be killed.
    OwnEngine,
    /// The same, on a file system of 700 MiB.
    OwnSmallEngine,
}

struct Row {
    name: &'static str,
    ground: Ground,
    dump: Dump,
    runtime: &'static str,
    moment: Moment,
    act: Act,
    /// What the report says, in the reason that it blames the host in: one of these, with `|` between them.
    says: &'static str,
}

macro_rules! rows {
    ($($(#[$slow:meta])* $name:ident: $ground:ident $dump:ident $runtime:ident, $moment:ident $act:expr => $says:literal;)*) => {
        const ROWS: &[Row] = &[$(Row {
            name: stringify!($name), ground: Ground::$ground, dump: Dump::$dump, runtime: stringify!($runtime),
            moment: Moment::$moment, act: $act, says: $says,
        }),*];
        $(#[test] $(#[$slow])* fn $name() { suffer(stringify!($name)); })*
    };
}

use Act::{
    FreezeProgram, KillContainer, KillEngine, KillProgram, LimitPids, Nothing, PauseContainer, RemoveBackup,
    RemovePart, RemoveScratch, ReplaceBackup, TruncateBackup, UnmountStore,
};

rows! {
    a_backup_that_is_truncated_while_it_streams: Ordinary Plain local, MidRestore TruncateBackup => "changed while it was read";
    a_backup_that_is_renamed_over_while_it_streams: Ordinary Plain local, MidRestore ReplaceBackup => "changed while it was read";
    a_backup_that_disappears_while_it_streams: Ordinary Plain local, MidRestore RemoveBackup => "changed while it was read";
    an_archive_that_is_truncated_after_the_survey: Ordinary Custom local, BeforeRestore TruncateBackup => "changed while it was read";
    an_archive_that_is_truncated_where_a_container_mounts_it: Ordinary CustomInParallel container, BeforeRestore TruncateBackup => "changed while it was read";
    an_archive_that_is_renamed_over_where_it_is_mounted: Ordinary CustomInParallel local, BeforeRestore ReplaceBackup => "changed while it was read";
    a_directory_dump_that_loses_a_file: Ordinary DirectoryInParallel local, BeforeRestore RemovePart => "changed while it was read";
    a_directory_dump_that_loses_a_file_where_a_container_mounts_it: Ordinary DirectoryInParallel container, BeforeRestore RemovePart => "changed while it was read";
    a_store_that_is_unmounted_after_the_survey: Ordinary Custom local, BeforeRestore UnmountStore => "changed while it was read";
    a_store_that_is_not_mounted_at_all: StalePath Custom local, Start Nothing => "is a file system not mounted?";
    a_backup_that_this_user_may_not_read: Stranger Custom local, Start Nothing => "Permission denied";
    #[ignore = "the server looks once a minute whether its directory is there: ci/full"]
    a_scratch_directory_that_vanishes_in_mid_restore: Ordinary Plain local, MidRestore RemoveScratch => "the sandbox died";
    a_restoring_program_that_is_killed: Ordinary Plain local, MidRestore KillProgram("psql") => "something killed the program";
    a_server_that_is_killed_in_mid_restore: Ordinary Plain local, MidRestore KillProgram("postgres") => "connection";
    a_server_that_is_killed_while_a_check_asks: Ordinary Custom local, Validate KillProgram("postgres") => "connection closed";
    a_container_that_is_killed_in_mid_restore: Ordinary Plain container, MidRestore KillContainer => "its container ended";
    a_container_that_is_killed_while_a_check_asks: Ordinary Custom container, Validate KillContainer => "connection closed";
    a_container_that_is_frozen: Ordinary Plain container, MidRestore PauseContainer => "still running after its budget";
    a_restoring_program_that_is_frozen: Ordinary Plain local, MidRestore FreezeProgram("psql") => "still running after its budget";
    #[ignore = "waits for a budget: ci/full"]
    a_server_that_is_frozen: Ordinary Plain local, MidRestore FreezeProgram("postgres") => "still running after its budget";
    a_container_without_a_process_to_spare: Ordinary Custom container, BeforeRestore LimitPids => "temporarily unavailable|OCI runtime exec failed|OS thread";
    a_scratch_disk_that_fills_up: SmallDisk PlainThatGrows local, MidRestore Nothing => "the disk is full";
    an_output_disk_that_fills_up: SmallOutput Custom local, Start Nothing => "";
    #[ignore = "the kernel's count of its kills is read by every local drill: ci/full"]
    a_container_that_runs_out_of_memory: Ordinary PlainThatSwells container, MidRestore Nothing => "want of memory";
    #[ignore = "an engine of its own: ci/full"]
    an_engine_that_is_killed_in_mid_restore: OwnEngine Plain container, MidRestore KillEngine => "engine";
    #[ignore = "an engine of its own: ci/full"]
    an_engine_that_is_killed_while_a_check_asks: OwnEngine Custom container, Validate KillEngine => "could not remove what the drill made";
    #[ignore = "an engine of its own: ci/full"]
    an_engine_whose_disk_fills_up: OwnSmallEngine PlainThatGrows container, MidRestore Nothing => "the disk is full";
}

/// What a row came to, for the table.
struct Suffered {
    exit: Option<i32>,
    said: String,
    seconds: u64,
}

fn suffer(name: &str) {
    let row = ROWS.iter().find(|it| it.name == name).unwrap();
    if acts::is_possible(row.ground, row.act) {
        println!("{}", run(row).said);
    } else {
        println!("not run: {name} needs root");
    }
}

fn run(row: &Row) -> Suffered {
    let began = Instant::now();
    let mut scene = Scene::set(row);
    let child = scene.start();
    if row.act != Act::Nothing {
        scene.reach(row.moment);
    }
    scene.act(row.act);
    scene.open_the_gate(row.act);
    let ran = Ran::of(&child.wait_with_output().unwrap());
    let ran = ran.expect(3);
    scene.mend(row.act);
    let said = if row.ground == Ground::SmallOutput { full_output(&ran) } else { blamed(row, &scene.report(), &ran) };
    if let Some((run, scratch)) = scene.names() {
        let left = left_at_last(|| scene.left(&run, &scratch, leftovers));
        assert!(left.is_empty(), "left: {left:#?}");
    }
    Suffered { exit: ran.exit, said, seconds: began.elapsed().as_secs() }
}

/// The reason that the row is about; whatever else is said blames the host as well.
fn blamed(row: &Row, report: &Report, ran: &Ran) -> String {
    let drill = &report.drills[0];
    assert_eq!(drill.verdict, Verdict::Inconclusive, "{}", ran.stdout);
    let text = |it: &pgdrill::verdict::Reason| {
        let hint = it.hint.clone().unwrap_or_default();
        format!("{}: {} ({hint})", it.text, it.causes.join(": "))
    };
    for reason in &drill.reasons {
        assert!(matches!(reason.blame, Some(Blame::Host) | None), "{}: {:?}", text(reason), reason.blame);
    }
    let host = drill.reasons.iter().filter(|it| it.blame == Some(Blame::Host));
    let said = host.map(text).find(|it| row.says.split('|').any(|says| it.contains(says)));
    said.unwrap_or_else(|| panic!("nothing says “{}”:\n{}\n{}", row.says, ran.stdout, ran.stderr))
}

/// A run whose reports cannot be written says so where it can.
fn full_output(ran: &Ran) -> String {
    let line = ran.stderr.lines().find(|it| it.contains("No space left on device"));
    line.unwrap_or_else(|| panic!("{}", ran.stderr)).to_owned()
}

#[test]
#[ignore = "all rows once more, for the table: ci/full"]
fn environment_fault_table() {
    let mut text = String::from(
        "# Faults of the environment\n\n| fault | runtime | moment | exit | what the report says | s |\n|---|---|---|---:|---|---:|\n",
    );
    let mut bad = Vec::new();
    for row in ROWS.iter().filter(|it| acts::is_possible(it.ground, it.act)) {
        let name = row.name.replace('_', " ");
        let place = format!("| {name} | {} | {:?} |", row.runtime, row.moment);
        let line = if let Ok(Suffered { exit, said, seconds }) = catch_unwind(AssertUnwindSafe(|| run(row))) {
            format!("{place} {} | {} | {seconds} |", exit.unwrap_or(-1), said.replace(['\n', '|'], " "))
        } else {
            bad.push(row.name);
            format!("{place} | **not as expected** | |")
        };
        println!("{line}");
        let _ = writeln!(text, "{line}");
    }
    std::fs::create_dir_all(root().join("reports/out")).unwrap();
    std::fs::write(root().join("reports/out/faults.md"), &text).unwrap();
    println!("\n{text}");
    assert_eq!(bad, [""; 0]);
}
