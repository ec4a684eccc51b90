//! The matrix: dumps by the real programs of PostgreSQL 13, 15, 17 and 18, restored into real servers, with contents
//! compared with what the source held. A literal list: each cell is a test, and [`every_pair_is_covered`] fails when one goes.

use std::collections::BTreeSet;

use pgdrill::format::major_of;
use pgdrill::recipe::RuntimeKind;
use pgdrill::report::DrillReport;
use pgdrill::verdict::Verdict;

use crate::program::{Program, fixture, row_checks, truth};

/// What is restored, and how.
#[derive(Clone, Copy)]
pub(crate) struct Cell<'a> {
    pub(crate) name: &'a str,
    /// Below fixtures/backups.
    pub(crate) file: &'a str,
    pub(crate) from: u32,
    pub(crate) into: u32,
    pub(crate) runtime: &'a str,
    /// More keys of the drill's source.
    pub(crate) source: &'a str,
    /// `restore:`
    pub(crate) restore: &'a str,
    /// Which tables are expected: all those whose name starts so.
    pub(crate) tables: &'a str,
}

pub(crate) const ALL: &str = "";

macro_rules! cells {
    ($($name:ident: $file:literal, $from:literal => $into:literal $runtime:ident, $source:literal, $restore:literal, $tables:expr;)*) => {
        const CELLS: &[Cell<'static>] = &[$(Cell {
            name: stringify!($name), file: $file, from: $from, into: $into, runtime: stringify!($runtime),
            source: $source, restore: $restore, tables: $tables,
        }),*];
        $(#[test] fn $name() { drop(restores(CELLS.iter().find(|it| it.name == stringify!($name)).unwrap())); })*
    };
}

cells! {
    // Every format on the local runtime, which has one major.
    custom_15_local: "pg15/shop.dump", 15 => 15 local, "", "", ALL;
    directory_15_local_parallel: "pg15/shop.dir", 15 => 15 local, "", "jobs: 2", ALL;
    tar_15_local: "pg15/shop.tar", 15 => 15 local, "", "", ALL;
    plain_15_local: "pg15/shop.sql", 15 => 15 local, "", "", ALL;
    plain_gz_15_local: "pg15/shop.sql.gz", 15 => 15 local, "", "", ALL;
    cluster_15_local: "pg15/cluster.sql", 15 => 15 local, "", "", ALL;
    globals_15_local: "pg15/shop.dump", 15 => 15 local, "globals: FIXTURES/pg15/globals.sql", "jobs: 2", ALL;
    older_into_newer_local: "pg13/shop.dump", 13 => 15 local, "", "", ALL;
    // Every format on containers, each major several times.
    custom_13: "pg13/shop.dump", 13 => 13 container, "", "", ALL;
    custom_15_parallel: "pg15/shop.dump", 15 => 15 container, "", "jobs: 3", ALL;
    custom_17: "pg17/shop.dump", 17 => 17 container, "", "", ALL;
    custom_lz4_17: "pg17/shop-lz4.dump", 17 => 17 container, "", "", ALL;
    custom_zstd_18: "pg18/shop-zstd.dump", 18 => 18 container, "", "jobs: 2", ALL;
    custom_redirected_17: "pg17/shop-redirected.dump", 17 => 18 container, "", "", ALL;
    directory_13: "pg13/shop.dir", 13 => 13 container, "", "", ALL;
    directory_zstd_17: "pg17/shop.dir-zstd", 17 => 17 container, "", "jobs: 2", ALL;
    directory_18_parallel: "pg18/shop.dir", 18 => 18 container, "", "jobs: 4", ALL;
    tar_13_into_18: "pg13/shop.tar", 13 => 18 container, "", "", ALL;
    tar_gz_17: "pg17/shop.tar.gz", 17 => 17 container, "", "", ALL;
    tar_zst_17: "pg17/shop.tar.zst", 17 => 18 container, "", "", ALL;
    plain_13: "pg13/shop.sql", 13 => 13 container, "", "", ALL;
    plain_create_18: "pg18/shop-create.sql", 18 => 18 container, "", "", ALL;
    plain_zst_17: "pg17/shop.sql.zst", 17 => 17 container, "", "", ALL;
    plain_lz4_17: "pg17/shop.sql.lz4", 17 => 17 container, "", "", ALL;
    plain_xz_17: "pg17/shop.sql.xz", 17 => 17 container, "", "", ALL;
    plain_inserts_18: "pg18/shop-inserts.sql", 18 => 18 container, "", "", "\"Größen\".";
    cluster_13_into_17: "pg13/cluster.sql", 13 => 17 container, "", "", ALL;
    cluster_gz_17: "pg17/cluster.sql.gz", 17 => 17 container, "", "", ALL;
    cluster_18: "pg18/cluster.sql", 18 => 18 container, "", "", ALL;
    globals_18: "pg18/shop.dump", 18 => 18 container, "globals: FIXTURES/pg18/globals.sql", "", ALL;
    one_schema_17: "pg17/shop.dir", 17 => 17 container, "", "schemas: [audit]", "audit.";
    one_table_15: "pg15/shop.dump", 15 => 15 container, "", "tables: [shop.customer]", "shop.customer";
}

/// Runs the cell's drill; its report, when it passed with the rows that the source had.
pub(crate) fn restores(cell: &Cell<'_>) -> DrillReport {
    let program = Program::new();
    let truth = truth(cell.from);
    let fixtures = fixture("");
    let kind = if cell.file.contains("cluster") { "pg_dumpall" } else { "pg_dump" };
    let exact = cell.restore.contains("tables:");
    let checks =
        row_checks(&truth, "shop", |table| if exact { table == cell.tables } else { table.starts_with(cell.tables) });
    let source = cell.source.replace("FIXTURES", fixtures.to_str().unwrap().trim_end_matches('/'));
    let source = joined(&[&format!("path: \"{}\"", fixture(cell.file).display()), &source]);
    // A plain dump does not say what its database was called.
    let restore = joined(&[cell.restore, if kind == "pg_dump" { "database: shop" } else { "" }]);
    let scenario = format!(
        "version: 1\ndrills:\n  - name: cell\n    runtime: {}\n    source: {{ {kind}: {{ {source} }} }}\n    \
         restore: {{ {restore} }}\n    postgres: {{ major: {} }}\n    objectives: {{ rto: 1h }}\n    checks:\n{checks}",
        cell.runtime, cell.into,
    );
    let ran = program.drill(&scenario, &[]).expect(0);
    let drill = program.report().drills.remove(0);
    assert_eq!(drill.verdict, Verdict::Passed);
    assert!(drill.checks.len() >= checks.lines().count(), "{}", ran.stdout);
    let runtime = drill.runtime.as_ref().unwrap();
    let expected = if cell.runtime == "local" { RuntimeKind::Local } else { RuntimeKind::Container };
    assert_eq!((runtime.kind, runtime.version.as_deref().and_then(major_of)), (Some(expected), Some(cell.into)));
    assert_eq!(drill.backup.as_ref().unwrap().sha256.as_ref().map(String::len), Some(64), "the backup was digested");
    drill
}

/// Keys of a mapping in YAML's flow style.
fn joined(keys: &[&str]) -> String {
    keys.iter().filter(|it| !it.is_empty()).copied().collect::<Vec<_>>().join(", ")
}

/// Pairs that a release must have seen: each format family with each runtime, each major with each runtime, each format family
/// with an old and a new major.
#[test]
fn every_pair_is_covered() {
    let family = |cell: &Cell<'_>| {
        let name = cell.file.rsplit('/').next().unwrap();
        match name {
            _ if name.starts_with("cluster") => "cluster",
            _ if name.contains(".dir") => "directory",
            _ if name.contains(".tar") => "tar",
            _ if name.contains(".sql") => "plain",
            _ => "custom",
        }
    };
    let by_runtime: BTreeSet<_> = CELLS.iter().map(|it| (family(it), it.runtime)).collect();
    let by_target: BTreeSet<_> = CELLS.iter().map(|it| (it.into, it.runtime)).collect();
    let by_origin: BTreeSet<_> = CELLS.iter().map(|it| (family(it), it.from >= 17)).collect();
    for format in ["custom", "directory", "tar", "plain", "cluster"] {
        for runtime in ["container", "local"] {
            assert!(by_runtime.contains(&(format, runtime)), "{format} × {runtime}");
        }
        for new in [false, true] {
            assert!(by_origin.contains(&(format, new)), "{format} of {}", if new { "17 or 18" } else { "13 or 15" });
        }
    }
    for required in [(13, "container"), (15, "container"), (17, "container"), (18, "container"), (15, "local")] {
        assert!(by_target.contains(&required), "{required:?}");
    }
    for ending in [".gz", ".zst", ".lz4", ".xz"] {
        assert!(CELLS.iter().any(|it| it.file.contains(".sql") && it.file.ends_with(ending)), "plain {ending}");
    }
    assert!(CELLS.len() >= 25, "{} cells", CELLS.len());
    // Not run here: local × 13, 17, 18, as a distribution has the programs of one major. ci/full prints each such cell.
}
