use super::super::testing;
use super::{Ending, Style, terminal};
use crate::report::{KeptReport, Report};
use crate::verdict::Verdict;

const PLAIN: Style = Style { color: false, unicode: true, width: 100 };

fn shown(report: &Report, style: Style) -> String {
    let files = ["pgdrill-out/0193a5e2/report.json".to_owned(), "pgdrill-out/0193a5e2/junit.xml".to_owned()];
    let exit = match report.verdict {
        Verdict::Passed => (0, "every drill passed"),
        Verdict::Inconclusive => (3, "none failed, at least one is inconclusive"),
        Verdict::Failed => (1, "at least one drill failed"),
    };
    terminal(report, &Ending { files: &files, exit: Some(exit) }, style)
}

#[test]
fn summaries_of_every_story() {
    for (name, report) in testing::all() {
        insta::assert_snapshot!(format!("terminal_{name}"), shown(&report, PLAIN));
    }
}

#[test]
fn a_narrow_ascii_terminal_gets_lines_that_fit_and_no_other_characters() {
    let style = Style { color: false, unicode: false, width: 60 };
    for (name, report) in testing::all() {
        let text = shown(&report, style);
        assert!(text.is_ascii(), "{name}: {text}");
        for line in text.lines().filter(|it| it.chars().count() > 60) {
            // Only a word that cannot be broken may stick out.
            let longest = line.split(' ').map(str::len).max().unwrap_or_default();
            assert!(longest > 20, "{name}: {line:?}");
        }
    }
    insta::assert_snapshot!("terminal_narrow", shown(&testing::failed_restore(), style));
}

#[test]
fn a_kept_sandbox_is_said_with_how_to_open_and_how_to_remove_it() {
    let mut report = testing::failed_check();
    let until = "2026-11-23T06:00:00.123Z".parse().unwrap();
    let (open, remove) = ("pgdrill shell pgdrill-1-0".to_owned(), "pgdrill clean --run pgdrill-1-0".to_owned());
    report.drills[0].kept = Some(KeptReport { until, open, remove });
    let text = shown(&report, PLAIN);
    for words in [
        "the sandbox is kept, with restored data in it:",
        "until      2026-11-23T06:00:00Z",
        "open       pgdrill shell pgdrill-1-0",
        "remove     pgdrill clean --run pgdrill-1-0",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn color_changes_nothing_but_the_color() {
    for (name, report) in testing::all() {
        let painted = shown(&report, Style { color: true, ..PLAIN });
        assert!(painted.contains("\u{1b}["), "{name}");
        assert_eq!(crate::report::words::strip_ansi(&painted), shown(&report, PLAIN), "{name}");
    }
}

#[test]
fn nothing_from_a_backup_can_steer_the_terminal() {
    let text = shown(&testing::hostile(), PLAIN);
    let steers = |char: char| (char.is_control() && char != '\n') || ('\u{202a}'..='\u{202e}').contains(&char);
    assert_eq!(text.chars().find(|it| steers(*it)), None);
}

#[test]
fn every_summary_says_what_the_verdict_does_not_cover() {
    for (name, report) in testing::all() {
        let text = shown(&report, PLAIN);
        let words = ["what this verdict does not cover", "nothing is known to have been", "what it leaves out"];
        let said = words.iter().any(|it| text.contains(it));
        assert!(said || report.drills.is_empty(), "{name}: {text}");
    }
}

#[test]
fn a_failure_says_whose_fault_it_is_where_the_log_lies_and_what_to_do() {
    let text = shown(&testing::failed_restore(), PLAIN);
    for part in ["fault: the backup", "server's first error: ERROR:", "server's log: shop-nightly/server.log", "next: "]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_run_of_several_drills_ends_with_those_that_did_not_pass() {
    let stories = [testing::passed(), testing::failed_restore()];
    let mut report = testing::report(Vec::new());
    report.drills = stories.into_iter().flat_map(|it| it.drills).collect();
    report.counts.drills = 2;
    let text = shown(&report, PLAIN);
    let end = text.split("2 drills").last().unwrap();
    assert!(end.contains("FAILED: shop-nightly: restore: 2 errors of the restore"), "{text}");
    assert!(!end.contains("PASSED"), "{text}");
}

#[test]
fn a_run_of_no_drills_is_no_success() {
    let text = shown(&testing::report(Vec::new()), PLAIN);
    assert!(text.starts_with("no drill ran"), "{text}");
}
