use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use quick_xml::Reader;
use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};

use super::super::testing;
use super::{Flavor, Pending, crashed, junit};
use crate::report::Report;
use crate::verdict::Verdict;

/// A file as a reader of `JUnit` sees it.
#[derive(Debug, Default)]
struct Read {
    root: Attributes,
    suites: Vec<Attributes>,
    cases: Vec<ReadCase>,
    deepest: usize,
}

#[derive(Clone, Debug, Default)]
struct Attributes(Vec<(String, String)>);

#[derive(Debug, Default)]
struct ReadCase {
    attributes: Attributes,
    suite: usize,
    /// `failure`, `error`, `skipped`, its attributes and its text.
    result: Option<(String, Attributes, String)>,
    out: String,
}

impl Attributes {
    fn of(start: &BytesStart<'_>) -> Attributes {
        let of = |it: quick_xml::events::attributes::Attribute<'_>| {
            let value = it.normalized_value(XmlVersion::Implicit1_0).unwrap().into_owned();
            (String::from_utf8(it.key.as_ref().to_vec()).unwrap(), value)
        };
        Attributes(start.attributes().map(|it| of(it.unwrap())).collect())
    }

    fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(it, _)| it == name).map_or("", |(_, value)| value)
    }

    fn number(&self, name: &str) -> usize {
        self.get(name).parse().unwrap_or_else(|_| panic!("{name} in {self:?}"))
    }
}

fn read(xml: &str) -> Read {
    let mut reader = Reader::from_str(xml);
    let mut read = Read::default();
    let mut open: Vec<String> = Vec::new();
    loop {
        match reader.read_event().unwrap() {
            Event::Start(start) => {
                read.element(&start, &open);
                open.push(String::from_utf8(start.name().as_ref().to_vec()).unwrap());
                read.deepest = read.deepest.max(open.iter().filter(|it| it.starts_with("testsuite")).count());
            }
            Event::Empty(start) => read.element(&start, &open),
            Event::End(_) => drop(open.pop()),
            Event::CData(text) => read.text(&text.decode().unwrap(), &open),
            Event::Text(text) => read.text(&text.decode().unwrap(), &open),
            Event::Eof => break,
            Event::Decl(_) => {}
            other @ (Event::Comment(_) | Event::PI(_) | Event::DocType(_) | Event::GeneralRef(_)) => {
                panic!("nothing of this kind is written: {other:?}")
            }
        }
    }
    assert!(open.is_empty(), "{open:?}");
    read
}

impl Read {
    fn element(&mut self, start: &BytesStart<'_>, open: &[String]) {
        let attributes = Attributes::of(start);
        match start.name().as_ref() {
            b"testsuites" => self.root = attributes,
            b"testsuite" => self.suites.push(attributes),
            b"testcase" => {
                self.cases.push(ReadCase { attributes, suite: self.suites.len() - 1, ..ReadCase::default() });
            }
            name @ (b"failure" | b"error" | b"skipped") => {
                assert_eq!(open.last().unwrap(), "testcase");
                let case = self.cases.last_mut().unwrap();
                assert!(case.result.is_none(), "two results: {case:?}");
                case.result = Some((String::from_utf8(name.to_vec()).unwrap(), attributes, String::new()));
            }
            _ => {}
        }
    }

    fn text(&mut self, text: &str, open: &[String]) {
        let Some(case) = self.cases.last_mut() else { return };
        match (open.last().map(String::as_str), &mut case.result) {
            (Some("system-out"), _) if open.contains(&"testcase".to_owned()) => case.out.push_str(text),
            (Some("failure" | "error" | "skipped"), Some((_, _, body))) => body.push_str(text),
            _ => {}
        }
    }

    fn with(&self, result: &str, suite: Option<usize>) -> usize {
        let is = |it: &&ReadCase| it.result.as_ref().is_some_and(|(it, _, _)| it == result);
        self.cases.iter().filter(is).filter(|it| suite.is_none_or(|suite| it.suite == suite)).count()
    }

    fn case(&self, name: &str) -> &ReadCase {
        let named = |it: &&ReadCase| it.attributes.get("name") == name;
        self.cases.iter().find(named).unwrap_or_else(|| panic!("no case {name}: {self:#?}"))
    }

    /// `failure`, `error`, `skipped` or `passed`.
    fn result(&self, name: &str) -> &str {
        self.case(name).result.as_ref().map_or("passed", |(it, _, _)| it)
    }
}

fn every() -> Vec<(&'static str, Report)> {
    let mut every = testing::all();
    every.push(("hostile", testing::hostile()));
    let mut several = testing::report(Vec::new());
    several.drills = testing::all().into_iter().flat_map(|(_, it)| it.drills).collect();
    for (index, drill) in several.drills.iter_mut().enumerate() {
        drill.name = format!("drill-{index}");
    }
    every.push(("several", several));
    every
}

#[test]
fn files_of_every_story() {
    for (name, report) in testing::all() {
        insta::assert_snapshot!(format!("junit_{name}"), junit(&report, Flavor::Rich));
    }
    insta::assert_snapshot!("junit_strict_failed_check", junit(&testing::failed_check(), Flavor::Strict));
}

#[test]
fn counts_agree_with_the_elements_and_names_never_repeat() {
    for (name, report) in every() {
        for flavor in [Flavor::Rich, Flavor::Strict] {
            let read = read(&junit(&report, flavor));
            assert_eq!(read.suites.len(), report.drills.len(), "{name}");
            assert!(read.deepest <= 2, "{name}: {}", read.deepest);
            for (index, suite) in read.suites.iter().enumerate() {
                let cases = read.cases.iter().filter(|it| it.suite == index).count();
                assert_eq!(suite.number("tests"), cases, "{name}");
                for (attribute, result) in [("failures", "failure"), ("errors", "error"), ("skipped", "skipped")] {
                    assert_eq!(suite.number(attribute), read.with(result, Some(index)), "{name}: {attribute}");
                }
                assert_eq!(suite.get("id"), index.to_string());
            }
            if flavor == Flavor::Rich {
                assert_eq!(read.root.number("tests"), read.cases.len(), "{name}");
                for (attribute, result) in [("failures", "failure"), ("errors", "error"), ("skipped", "skipped")] {
                    assert_eq!(read.root.number(attribute), read.with(result, None), "{name}: {attribute}");
                }
            }
            let key = |it: &ReadCase| (it.attributes.get("classname").to_owned(), it.attributes.get("name").to_owned());
            let names: BTreeSet<_> = read.cases.iter().map(key).collect();
            assert_eq!(names.len(), read.cases.len(), "{name}");
        }
    }
}

/// An exit code of 1 with a file that is all green, or the other way round, would be two verdicts.
#[test]
fn the_file_says_the_verdict_of_each_drill() {
    for (name, report) in every() {
        let read = read(&junit(&report, Flavor::Rich));
        for (index, drill) in report.drills.iter().enumerate() {
            let (failures, errors) = (read.with("failure", Some(index)), read.with("error", Some(index)));
            let said = match (failures, errors) {
                (0, 0) => Verdict::Passed,
                (0, _) => Verdict::Inconclusive,
                _ => Verdict::Failed,
            };
            assert_eq!(said, drill.verdict, "{name}: {}", drill.name);
        }
    }
}

#[test]
fn a_verdict_without_a_reason_still_shows() {
    for verdict in [Verdict::Inconclusive, Verdict::Failed] {
        let mut story = testing::shop_nightly();
        story.judgement.verdict = verdict;
        let read = read(&junit(&testing::report(vec![story]), Flavor::Rich));
        let expected = if verdict == Verdict::Failed { "failure" } else { "error" };
        assert_eq!(read.result("verdict"), expected);
    }
}

#[test]
fn every_time_has_three_decimals_and_every_timestamp_has_no_zone() {
    for (name, report) in every() {
        let read = read(&junit(&report, Flavor::Rich));
        let times = read.suites.iter().chain(read.cases.iter().map(|it| &it.attributes)).map(|it| it.get("time"));
        for time in times {
            let (_, decimals) = time.split_once('.').unwrap_or_else(|| panic!("{name}: {time:?}"));
            assert_eq!(decimals.len(), 3, "{name}: {time:?}");
        }
        for suite in &read.suites {
            let stamp = suite.get("timestamp");
            assert!(stamp.parse::<jiff::civil::DateTime>().is_ok() && stamp.len() == 19, "{name}: {stamp:?}");
        }
    }
}

#[test]
fn results_tell_failed_from_inconclusive_from_not_reached() {
    let cases: [(Report, &[(&str, &str)]); 5] = [
        (testing::passed(), &[("restore", "passed"), ("rto", "passed"), ("rpo", "skipped"), ("max_age", "passed")]),
        (
            testing::failed_check(),
            &[
                ("no orphaned lines", "failure"),
                ("payments add up", "error"),
                ("few stale carts", "passed"),
                ("every customer has a name", "skipped"),
                ("rows in shop.orders", "passed"),
            ],
        ),
        (testing::failed_restore(), &[("restore", "passed"), ("restore errors", "failure")]),
        (
            testing::inconclusive_host(),
            &[("inspect", "error"), ("restore", "skipped"), ("rto", "skipped"), ("no orphaned lines", "skipped")],
        ),
        (testing::cancelled(), &[("restore", "error"), ("ready", "skipped"), ("drill", "error"), ("rto", "skipped")]),
    ];
    for (report, expected) in cases {
        let read = read(&junit(&report, Flavor::Rich));
        for (name, result) in expected {
            assert_eq!(read.result(name), *result, "{name}: {:#?}", read.case(name));
        }
    }
}

#[test]
fn the_reason_stands_in_the_message_and_heads_the_text_with_blame_and_hint() {
    let read = read(&junit(&testing::failed_restore(), Flavor::Rich));
    let (_, attributes, text) = read.case("restore errors").result.as_ref().unwrap();
    assert!(attributes.get("message").starts_with("2 errors of the restore are not allowed"), "{attributes:?}");
    assert!(text.starts_with(attributes.get("message")), "{text}");
    for part in ["fault: the backup", "because: 22021", "next: restore this dump by hand"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_minor_broken_check_passes_and_says_so_in_its_output() {
    let read = read(&junit(&testing::failed_check(), Flavor::Rich));
    assert!(read.case("few stale carts").out.contains("BROKEN, and minor"));
}

#[test]
fn each_case_names_its_scenario_file_and_checks_their_own_line() {
    let read = read(&junit(&testing::passed(), Flavor::Rich));
    assert!(read.cases.iter().all(|it| it.attributes.get("file") == "scenarios/shop.yaml"));
    assert_eq!(read.case("payments add up").attributes.get("line"), "25");
    assert_eq!(read.case("restore").attributes.get("line"), "4");
}

#[test]
fn hostile_text_is_bounded_and_legal() {
    let xml = junit(&testing::hostile(), Flavor::Rich);
    let legal = |it: char| matches!(it, '\n' | '\t' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    assert_eq!(xml.chars().find(|it| !legal(*it)), None);
    assert!(xml.contains('🐘'));
    assert!(xml.len() < 2_000_000, "{}", xml.len());
    for case in read(&xml).cases {
        assert!(case.out.len() <= super::OUTPUT_LIMIT, "{}", case.out.len());
        assert!(case.attributes.get("name").len() < 1100);
    }
}

#[test]
fn names_are_the_same_whatever_a_drill_measured() {
    let names = |report: &Report| -> BTreeSet<String> {
        let name = |it: &ReadCase| format!("{} {}", it.attributes.get("classname"), it.attributes.get("name"));
        read(&junit(report, Flavor::Rich)).cases.iter().map(name).collect()
    };
    assert_eq!(names(&testing::passed()), names(&testing::rto_missed()));
    assert_eq!(names(&testing::passed()), names(&testing::failed_check()));
}

#[test]
fn a_run_that_dies_leaves_an_error_for_each_drill_that_did_not_finish() {
    let pending = [Pending { name: "shop-pitr".to_owned(), file: "scenarios/shop.yaml".to_owned(), line: Some(50) }];
    for flavor in [Flavor::Rich, Flavor::Strict] {
        let xml = crashed(&testing::passed(), &pending, flavor);
        let read = read(&xml);
        assert_eq!(read.suites.len(), 2);
        assert_eq!(read.with("error", Some(0)), 0);
        assert_eq!(read.with("error", Some(1)), 1);
        assert_eq!(read.suites[1].get("name"), "shop-pitr");
    }
    insta::assert_snapshot!("junit_crashed", crashed(&testing::report(Vec::new()), &pending, Flavor::Rich));
}

/// Windy Road's `JUnit.xsd`, as `junit-report` keeps it for its own tests, read where cargo keeps that crate.
#[test]
fn the_strict_flavor_is_valid_by_windy_roads_schema() {
    let directory = tempfile::tempdir().unwrap();
    let schema = windy_road(directory.path());
    for (name, report) in every() {
        validate(&schema, &junit(&report, Flavor::Strict), name);
    }
    let pending = [Pending { name: "shop".to_owned(), file: "shop.yaml".to_owned(), line: None }];
    validate(&schema, &crashed(&testing::passed(), &pending, Flavor::Strict), "crashed");
}

/// The validation above can fail: the rich flavour says more than the schema allows.
#[test]
fn the_rich_flavor_is_not_valid_by_windy_roads_schema() {
    let directory = tempfile::tempdir().unwrap();
    assert!(xmllint(&windy_road(directory.path()), &junit(&testing::passed(), Flavor::Rich)).is_err());
}

/// The crate's copy is older than `skipped`, which the schema has had since as an element and a count.
fn windy_road(directory: &Path) -> PathBuf {
    let old = crate_directory("junit-report").join("tests/JUnit-alternative.xsd");
    let old = std::fs::read_to_string(old).unwrap();
    let choice = "<xs:choice minOccurs=\"0\">";
    let time = "<xs:attribute name=\"time\" type=\"xs:decimal\" use=\"required\">";
    assert_eq!(old.matches(choice).count(), 1);
    let new = old.replace(choice, &format!("{choice}<xs:element name=\"skipped\"/>"));
    let of_suite = new.rfind(time).unwrap();
    let new = format!("{}<xs:attribute name=\"skipped\" type=\"xs:int\"/>{}", &new[..of_suite], &new[of_suite..]);
    let path = directory.join("JUnit.xsd");
    std::fs::write(&path, new).unwrap();
    path
}

/// What `junit-10.xsd` of Jenkins' xunit plug-in allows: the attributes of each element.
#[test]
fn the_strict_flavor_has_no_attribute_that_jenkins_schema_lacks() {
    let allowed = |element: &[u8]| -> &[&str] {
        match element {
            b"testsuites" => &["name", "time", "tests", "failures", "errors"],
            b"testsuite" => &[
                "name",
                "tests",
                "failures",
                "errors",
                "group",
                "time",
                "skipped",
                "timestamp",
                "hostname",
                "id",
                "package",
                "file",
                "log",
                "url",
            ],
            b"testcase" => &["name", "time", "classname", "group"],
            b"failure" | b"error" | b"skipped" => &["type", "message"],
            b"property" => &["name", "value"],
            _ => &[],
        }
    };
    for (name, report) in every() {
        let xml = junit(&report, Flavor::Strict);
        let mut reader = Reader::from_str(&xml);
        loop {
            match reader.read_event().unwrap() {
                Event::Start(start) | Event::Empty(start) => {
                    for (attribute, _) in Attributes::of(&start).0 {
                        let element = start.name();
                        assert!(allowed(element.as_ref()).contains(&attribute.as_str()), "{name}: {attribute}");
                    }
                }
                Event::Eof => break,
                Event::End(_)
                | Event::Text(_)
                | Event::CData(_)
                | Event::Comment(_)
                | Event::Decl(_)
                | Event::PI(_)
                | Event::DocType(_)
                | Event::GeneralRef(_) => {}
            }
        }
    }
}

/// Where cargo keeps the source of a dependency.
fn crate_directory(name: &str) -> PathBuf {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--offline"])
        // Crates of other platforms were never fetched.
        .args(["--filter-platform", &format!("{}-unknown-linux-gnu", std::env::consts::ARCH), "--manifest-path"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let package = metadata["packages"].as_array().unwrap().iter().find(|it| it["name"] == name).unwrap();
    Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap().to_owned()
}

fn validate(schema: &Path, xml: &str, name: &str) {
    if let Err(error) = xmllint(schema, xml) {
        panic!("{name} is not valid by {}: {error}", schema.display());
    }
}

fn xmllint(schema: &Path, xml: &str) -> Result<(), String> {
    let mut child = Command::new("xmllint")
        .args(["--noout", "--huge", "--schema"])
        .arg(schema)
        .arg("-")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("xmllint is needed: apt-get install libxml2-utils");
    // On a thread of its own: xmllint may write much before it has read all.
    let mut stdin = child.stdin.take().unwrap();
    let xml = xml.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(xml.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join().unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}
