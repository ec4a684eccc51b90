//! One [`Report`] of a run, and its renderings: JSON (the report itself), `JUnit`, and the terminal.
//!
//! A report is made only from evidence that was read back from its serialised form, so what was judged is what was kept.
//! The renderings are functions from a report to text: they read no files, know no clock and judge nothing.

mod build;
pub mod commands;
pub mod junit;
mod model;
pub mod terminal;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod testing;
pub mod words;
mod xml;

use schemars::JsonSchema;
use serde::Serialize;

use crate::evidence::Evidence;

pub use model::{
    BackupReport, CheckReport, CheckStatus, Counts, DrillReport, EvidenceFile, HostReport, KeptReport, LogReport,
    MaxAgeReport, NotesReport, PhaseReport, PhaseStatus, Report, RestoreError, RestoreErrors, RpoReport, RtoOutcome,
    RtoReport, RunInfo, RuntimeReport, StepReport, StopReport, TargetOutcome,
};

/// Bumped when a field of the report changes its meaning or goes away; fields may be added at any time.
pub const SCHEMA: u32 = 1;

/// One judged drill, as [`Report::new`] takes it.
#[derive(Clone, Debug)]
pub struct Drilled {
    pub evidence: Evidence,
    pub judgement: crate::verdict::Judgement,
    /// The file that the evidence was read back from.
    pub file: EvidenceFile,
}

/// JSON Schema (2020-12) of `report.json`, indented, with a line feed at its end.
pub fn report_schema() -> String {
    schema::<Report>()
}

/// JSON Schema (2020-12) of `evidence.json`, indented, with a line feed at its end.
pub fn evidence_schema() -> String {
    schema::<Evidence>()
}

fn schema<T: JsonSchema>() -> String {
    pretty(&schemars::schema_for!(T))
}

impl Report {
    /// The report as `report.json` has it: indented, with a line feed at its end.
    pub fn to_json(&self) -> String {
        pretty(self)
    }
}

fn pretty(value: &impl Serialize) -> String {
    // Only maps with keys that are not text, and writers that fail, can make this fail: the report has neither.
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::testing;
    use super::{Report, evidence_schema, report_schema};

    #[test]
    fn a_report_survives_being_written_and_read_back() {
        for (name, report) in testing::all() {
            let read: Report = serde_json::from_str(&report.to_json()).unwrap();
            assert_eq!(read, report, "{name}");
        }
    }

    #[test]
    fn the_report_of_a_failed_restore_as_json() {
        insta::assert_snapshot!(testing::failed_restore().to_json());
    }

    #[test]
    fn every_length_of_time_in_the_schema_of_reports_says_that_it_is_seconds() {
        let schema: serde_json::Value = serde_json::from_str(&report_schema()).unwrap();
        let mut numbers = Vec::new();
        for definition in schema["$defs"].as_object().unwrap().values().chain([&schema]) {
            for (name, field) in definition["properties"].as_object().into_iter().flatten() {
                let kinds = field["type"].to_string();
                if kinds.contains("number") {
                    numbers.push(name.clone());
                }
            }
        }
        assert!(numbers.len() > 5, "{numbers:?}");
        assert!(numbers.iter().all(|it| it.ends_with("_seconds")), "{numbers:?}");
    }

    #[test]
    fn both_schemas_are_json_and_name_what_they_describe() {
        for (schema, title) in [(report_schema(), "Report"), (evidence_schema(), "Evidence")] {
            let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
            assert_eq!(schema["title"], title);
        }
    }

    /// Passwords come into rooms as files and environment; neither may come out in a report.
    #[test]
    fn no_environment_of_a_command_reaches_a_report() {
        for (name, report) in testing::all() {
            let text = report.to_json();
            assert!(!text.contains(testing::SECRET), "{name}");
            assert!(!text.contains("PGPASSWORD"), "{name}");
        }
    }
}
