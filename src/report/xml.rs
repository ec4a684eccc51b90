//! What the `JUnit` writer lacks: text that is always legal XML, and the attributes and properties that readers want.

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, Writer};

use super::words::strip_ansi;

/// Text that any XML 1.0 reader takes, in content, in CDATA and in attributes.
///
/// One illegal character makes readers refuse the whole file, and then a build has no failing test.
/// `Char` is production 2 of XML 1.0: `\t \n \r`, and U+0020 up, less surrogates, U+FFFE and U+FFFF.
pub(super) fn xml_clean(text: &str) -> String {
    let legal = |char: char| match char {
        '\t' | '\n' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'.. => char,
        // A lone carriage return is legal, but becomes a line feed or a reference on the way.
        '\r' => '\n',
        _ => '\u{fffd}',
    };
    let text: String = strip_ansi(text).replace("\r\n", "\n").chars().map(legal).collect();
    text.replace("]]>", "]] >")
}

/// What a suite needs beyond what `junit-report` writes.
#[derive(Debug, Default)]
pub(super) struct SuiteExtras {
    pub(super) properties: Vec<(String, String)>,
    /// UTC, without a zone: `2026-11-22T10:00:00`.
    pub(super) timestamp: String,
    /// Seconds of the whole drill: not the sum of its cases, which overlap.
    pub(super) time: f64,
    pub(super) skipped: usize,
    /// One for each case.
    pub(super) lines: Vec<Option<u32>>,
}

/// Attributes of the root, None where the strict schema allows none.
pub(super) type RootExtras = Option<Vec<(&'static str, String)>>;

/// One pass over `junit-report`'s output that adds what it cannot say; see [`SuiteExtras`].
///
/// Indents too: the writer's output is one long line.
pub(super) fn decorate(xml: &str, root: &RootExtras, suites: &[SuiteExtras]) -> Result<String, quick_xml::Error> {
    let mut reader = Reader::from_str(xml);
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    let mut suites = suites.iter();
    let mut lines = [].iter();
    loop {
        match reader.read_event()? {
            Event::Start(start) => match start.name().as_ref() {
                b"testsuites" => writer.write_event(Event::Start(with_root(start, root)))?,
                b"testsuite" => {
                    let Some(suite) = suites.next() else { break };
                    lines = suite.lines.iter();
                    writer.write_event(Event::Start(with_suite(&start, suite)?))?;
                    write_properties(&mut writer, &suite.properties)?;
                }
                b"testcase" => {
                    let line = lines.next().copied().flatten();
                    writer.write_event(Event::Start(with_case(&start, line)?))?;
                }
                _ => writer.write_event(Event::Start(start))?,
            },
            Event::Empty(start) => match start.name().as_ref() {
                b"testsuites" => writer.write_event(Event::Empty(with_root(start, root)))?,
                b"testcase" => {
                    let line = lines.next().copied().flatten();
                    writer.write_event(Event::Empty(with_case(&start, line)?))?;
                }
                _ => writer.write_event(Event::Empty(start))?,
            },
            Event::Eof => break,
            other @ (Event::End(_)
            | Event::Text(_)
            | Event::CData(_)
            | Event::Comment(_)
            | Event::Decl(_)
            | Event::PI(_)
            | Event::DocType(_)
            | Event::GeneralRef(_)) => writer.write_event(other)?,
        }
    }
    let mut xml = String::from_utf8_lossy(&writer.into_inner()).into_owned();
    xml.push('\n');
    Ok(xml)
}

fn with_root<'a>(mut start: BytesStart<'a>, root: &RootExtras) -> BytesStart<'a> {
    for (name, value) in root.iter().flatten() {
        start.push_attribute((*name, value.as_str()));
    }
    start
}

fn with_suite(start: &BytesStart<'_>, suite: &SuiteExtras) -> Result<BytesStart<'static>, quick_xml::Error> {
    let mut made = BytesStart::new("testsuite");
    for attribute in start.attributes() {
        let attribute = attribute?;
        match attribute.key.as_ref() {
            b"time" => made.push_attribute(("time", time(suite.time).as_str())),
            b"timestamp" => made.push_attribute(("timestamp", suite.timestamp.as_str())),
            _ => made.push_attribute(attribute),
        }
    }
    made.push_attribute(("skipped", suite.skipped.to_string().as_str()));
    Ok(made)
}

fn with_case(start: &BytesStart<'_>, line: Option<u32>) -> Result<BytesStart<'static>, quick_xml::Error> {
    let mut made = BytesStart::new("testcase");
    for attribute in start.attributes() {
        let attribute = attribute?;
        if attribute.key.as_ref() == b"time" {
            let seconds = str::from_utf8(&attribute.value).ok().and_then(|it| it.parse().ok()).unwrap_or(0.0);
            made.push_attribute(("time", time(seconds).as_str()));
        } else {
            made.push_attribute(attribute);
        }
    }
    if let Some(line) = line {
        made.push_attribute(("line", line.to_string().as_str()));
    }
    Ok(made)
}

fn write_properties(writer: &mut Writer<Vec<u8>>, properties: &[(String, String)]) -> Result<(), quick_xml::Error> {
    writer.create_element("properties").write_inner_content(|writer| {
        for (name, value) in properties {
            writer
                .create_element("property")
                .with_attributes([("name", name.as_str()), ("value", value.as_str())])
                .write_empty()?;
        }
        Ok(())
    })?;
    Ok(())
}

/// Seconds with three decimals: the strictest reader takes no more.
pub(super) fn time(seconds: f64) -> String {
    format!("{seconds:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_outside_of_xml_is_replaced() {
        let cases = [
            ("plain ünï 🐘", "plain ünï 🐘"),
            ("tab\tline\n", "tab\tline\n"),
            ("dos\r\nmac\r", "dos\nmac\n"),
            ("nul\0bell\u{7}", "nul\u{fffd}bell\u{fffd}"),
            ("\u{fffe}\u{ffff}", "\u{fffd}\u{fffd}"),
            ("\u{1b}[31mred\u{1b}[0m", "red"),
            ("a]]>b]]>", "a]] >b]] >"),
        ];
        for (text, expected) in cases {
            assert_eq!(xml_clean(text), expected, "{text:?}");
        }
    }

    #[test]
    fn times_have_three_decimals() {
        assert_eq!(time(1.0 / 3.0), "0.333");
        assert_eq!(time(0.0), "0.000");
    }
}
