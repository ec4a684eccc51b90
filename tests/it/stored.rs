//! Evidence that earlier versions have stored is judged again, and gives the reports that are committed as samples.

use crate::program::Program;
use crate::support::root;

/// Of a passing drill, one with a damaged dump, one with broken and waived checks and a missed RTO, and one whose image
/// could not be had. One file for each schema version of the evidence.
#[test]
fn stored_evidence_gives_the_same_reports_for_ever() {
    let program = Program::new();
    let evidence = root().join("fixtures/evidence/1.json").display().to_string();
    for (format, name) in
        [("text", "summary.txt"), ("json", "report.json"), ("junit", "junit.xml"), ("junit-strict", "junit-strict.xml")]
    {
        let rendered = program.run(&["report", &evidence, "--format", format]).expect(0).stdout;
        let path = root().join("reports/samples").join(name);
        if std::env::var_os("PGDRILL_BLESS").is_some() {
            std::fs::write(&path, &rendered).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap();
        assert_eq!(rendered, committed, "{}: run this test with PGDRILL_BLESS=1", path.display());
    }
    assert!(program.run(&["judge", &evidence]).expect(1).stdout.contains("2 failed, 1 inconclusive, 1 passed"));
}
