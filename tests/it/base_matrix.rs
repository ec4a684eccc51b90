//! Base backups of PostgreSQL 13, 15, 17 and 18, in every form that each major writes, to every kind of target. The cluster's
//! own configuration would stop any other server: see majors/make.sh.

use std::fmt::Write as _;

use pgdrill::check::BACKUP_MANIFEST;
use pgdrill::report::{CheckStatus, DrillReport};
use pgdrill::verdict::Verdict;

use crate::lab::ROWS;
use crate::majors::{Major, major};
use crate::program::Program;

/// Where recovery stops, with the rows that are there then.
#[derive(Clone, Copy, Debug)]
pub(crate) enum To {
    Immediate,
    Time,
    Name,
    Lsn,
    BeforeXid,
    Latest,
}

impl To {
    const ALL: [To; 6] = [To::Immediate, To::Time, To::Name, To::Lsn, To::BeforeXid, To::Latest];

    fn target(self, lab: &Major) -> (String, u32) {
        match self {
            To::Immediate => ("immediate".to_owned(), ROWS[0]),
            To::Time => (format!("{{ time: \"{}\" }}", lab.time), ROWS[1]),
            To::Name => ("{ name: before the deletion }".to_owned(), ROWS[1]),
            To::Lsn => (format!("{{ lsn: {} }}", lab.lsn), ROWS[1]),
            To::BeforeXid => (format!("{{ xid: {}, inclusive: false }}", lab.deletion), ROWS[1]),
            To::Latest => ("latest".to_owned(), ROWS[3]),
        }
    }
}

/// Forms of every major, and those that came with compression on either side.
const FORMS: [&str; 8] = ["plain", "plain-none", "tar", "tar-gz", "tar-fetch", "tar-none", "tar-sizes", "debian"];
const SINCE_15: [&str; 6] = ["client-gzip", "client-lz4", "client-zstd", "server-gzip", "server-lz4", "server-zstd"];

fn drill(lab: &Major, name: &str, form: &str, runtime: &str, to: To) -> String {
    let (target, rows) = to.target(lab);
    let mut text = format!(
        "  - name: {name}\n    runtime: {runtime}\n    source:\n      base_backup:\n        path: {}\n        wal: {}\n        \
         tablespaces: {{ {} }}\n    target: {target}\n    objectives: {{ rto: 1h }}\n    checks:\n",
        lab.path(&format!("base/{form}")),
        lab.path("wal"),
        ["plain", "plain-none"].map(|it| format!("/lab/{it}-ts: {}", lab.path(&format!("{it}-ts")))).join(", "),
    );
    for (table, rows) in [("t", rows), ("u", 1000)] {
        writeln!(text, "      - rows: {{ table: {table}, equals: {rows} }}").unwrap();
    }
    text
}

fn passes(number: u32, form: &str, runtime: &str, to: To) -> DrillReport {
    passes_by(&Program::new(), number, form, runtime, to)
}

pub(crate) fn passes_by(program: &Program, number: u32, form: &str, runtime: &str, to: To) -> DrillReport {
    let made = major(number);
    let lab = made.get().unwrap();
    program.drill(&format!("version: 1\ndrills:\n{}", drill(lab, "cell", form, runtime, to)), &[]).expect(0);
    let report = program.report().drills.remove(0);
    judged_as_it_should(&report, form);
    report
}

/// What there is to verify was verified.
fn judged_as_it_should(report: &DrillReport, form: &str) {
    assert_eq!(report.verdict, Verdict::Passed, "{}: {:?}", report.name, report.reasons);
    let status = |name: &str| report.checks.iter().find(|it| it.name == name).map(|it| it.status);
    let manifest = (!form.ends_with("-none")).then_some(CheckStatus::Held);
    assert_eq!(status(BACKUP_MANIFEST), manifest, "{}", report.name);
    assert_eq!(status("page checksums"), Some(CheckStatus::Held), "{}", report.name);
    let missing = report.notes.findings.iter().any(|it| it.contains("has no manifest"));
    assert_eq!(missing, manifest.is_none(), "{}: {:?}", report.name, report.notes.findings);
}

macro_rules! cells {
    ($($name:ident: $major:literal $form:literal $runtime:ident $to:ident;)*) => {
        $(#[test] fn $name() { drop(passes($major, $form, stringify!($runtime), To::$to)); })*
    };
}

cells! {
    plain_13_immediate: 13 "plain" container Immediate;
    gzip_13_time: 13 "tar-gz" container Time;
    without_wal_13_latest: 13 "tar-none" container Latest;
    debian_13_name: 13 "debian" container Name;
    client_lz4_15_name: 15 "client-lz4" container Name;
    server_zstd_15_latest: 15 "server-zstd" container Latest;
    debian_15_local_time: 15 "debian" local Time;
    client_zstd_15_local_immediate: 15 "client-zstd" local Immediate;
    plain_without_wal_17_time: 17 "plain-none" container Time;
    server_gzip_17_immediate: 17 "server-gzip" container Immediate;
    fetched_wal_17_latest: 17 "tar-fetch" container Latest;
    client_zstd_17_name: 17 "client-zstd" container Name;
    plain_18_latest: 18 "plain" container Latest;
    sizes_only_18_name: 18 "tar-sizes" container Name;
    server_lz4_18_time: 18 "server-lz4" container Time;
    debian_18_immediate: 18 "debian" container Immediate;
}

/// Everything in a container, and 15 on the local runtime as well.
#[test]
#[ignore = "minutes: ci/full"]
#[expect(clippy::print_stdout, reason = "the table is for the person who runs it")]
fn whole_base_matrix() {
    let mut drilled = 0;
    for (number, runtime) in [(13, "container"), (15, "container"), (17, "container"), (18, "container"), (15, "local")]
    {
        let made = major(number);
        let lab = made.get().unwrap();
        let forms = FORMS.iter().chain(SINCE_15.iter().filter(|_| number >= 15));
        let cells: Vec<(&str, To)> = forms.flat_map(|form| To::ALL.map(|to| (*form, to))).collect();
        let name = |form: &str, to: To| format!("{form}-{to:?}").to_lowercase();
        let drills = cells.iter().map(|(form, to)| drill(lab, &name(form, *to), form, runtime, *to));
        let text = format!("version: 1\ndrills:\n{}", drills.collect::<String>());
        let program = Program::new();
        let ran = program.drill(&text, &["--jobs", "2", "--jobs-timed", "--quiet"]);
        let reports = program.report().drills;
        assert_eq!(reports.len(), cells.len(), "{}", ran.stderr);
        for (report, (form, _)) in reports.iter().zip(&cells) {
            judged_as_it_should(report, form);
        }
        drilled += cells.len();
        println!("{number} {runtime}: {} drills passed", cells.len());
    }
    println!("{drilled} drills of base backups passed");
}
