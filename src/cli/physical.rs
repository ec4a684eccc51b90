//! `pgdrill inspect` and `init` of what is no dump: base backups and WAL archives.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::evidence::Evidence;
use crate::fault::Fault;
use crate::format::archiving::{Feeds, archiving};
use crate::format::base::{BaseFacts, BaseLayout, ControlFound, ManifestFound, MemberKind};
use crate::format::lsn::{Lsn, Segment};
use crate::format::wal_archive::{ArchiveSeen, Follow, Stretch, chain};
use crate::plan::Plan;
use crate::recipe::FileSeen;
use crate::report::words;
use crate::scenario::{Drill, USE};
use crate::source::{Source, archive};
use crate::store::{self, Reading, WalSpan};
use crate::target::Point;

/// Stretches whose records are looked at for their times.
const DATED: usize = 50;

/// What is no dump.
pub(crate) enum Physical {
    Base(FileSeen, Box<BaseFacts>),
    Archive(String, Box<ArchiveSeen>),
}

/// By the names of its files; None: a dump, or nothing that is known.
pub(crate) fn recognise(path: &Path, reading: &Reading) -> Result<Option<Physical>, Fault> {
    let name = path.file_name().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default();
    let is_tar = name == "base.tar" || name.starts_with("base.tar.");
    let holds = |wanted: &dyn Fn(&str) -> bool| reading.peek(path).iter().any(|it| wanted(&it.name));
    let is_base = reading.is_dir(path)
        && (reading.is_file(&path.join("PG_VERSION")) || holds(&|it| it == "base.tar" || it.starts_with("base.tar.")));
    if is_base || is_tar {
        let facts = store::base_facts(path, &std::collections::BTreeMap::new(), reading)?;
        return Ok(Some(Physical::Base(store::look(path, reading)?, Box::new(facts))));
    }
    let is_segment = |name: &str| name.len() >= 24 && Segment::parse(&name[..24], 1 << 20).is_some();
    if reading.is_dir(path) && holds(&is_segment) {
        let seen = store::wal_archive(path, None, None, reading)?;
        return Ok(Some(Physical::Archive(path.display().to_string(), Box::new(seen))));
    }
    Ok(None)
}

/// A WAL archive, and from when to when the records of its stretches are.
pub(crate) struct Archive {
    path: String,
    seen: ArchiveSeen,
    spans: Vec<(Stretch, WalSpan)>,
}

impl Archive {
    pub(crate) fn of(path: &str, reading: &Reading) -> Result<Archive, Fault> {
        Archive::seen(path, store::wal_archive(Path::new(path), None, None, reading)?, reading)
    }

    fn seen(path: &str, seen: ArchiveSeen, reading: &Reading) -> Result<Archive, Fault> {
        let mut spans = Vec::new();
        for stretch in seen.stretches.iter().take(DATED) {
            spans.push((stretch.clone(), store::wal_span(Path::new(path), &seen, stretch, reading)?));
        }
        Ok(Archive { path: path.to_owned(), seen, spans })
    }

    pub(crate) fn json(&self) -> Value {
        json!({ "path": self.path, "archive": self.seen, "wal": self.dated() })
    }

    fn dated(&self) -> Vec<Value> {
        let one = |(stretch, span): &(Stretch, WalSpan)| {
            json!({
                "timeline": stretch.timeline, "from": span.start, "to": span.end, "first_record": span.first,
                "last_record": span.last,
            })
        };
        self.spans.iter().map(one).collect()
    }

    pub(crate) fn show(&self, page: &mut Page) {
        of_archive(page, &self.path, &self.seen, &self.spans);
    }

    /// From when to when it recovers, together with a backup.
    pub(crate) fn recoverable(&self, facts: &BaseFacts, page: &mut Page) {
        recoverable(page, facts, &self.seen, &self.spans);
    }
}

/// What it is, and from when to when it can recover. `wal`: the archive of a base backup.
pub(crate) fn inspected(
    physical: &Physical,
    wal: Option<&Path>,
    json: bool,
    reading: &Reading,
) -> Result<String, Fault> {
    let archive = match (physical, wal) {
        (Physical::Archive(path, seen), _) => Some(Archive::seen(path, (**seen).clone(), reading)?),
        (Physical::Base(..), Some(wal)) => Some(Archive::of(&wal.display().to_string(), reading)?),
        (Physical::Base(..), None) => None,
    };
    if json {
        let spans = archive.as_ref().map(Archive::dated).unwrap_or_default();
        let value = match physical {
            Physical::Base(file, facts) => {
                json!({ "file": file, "base": facts, "archive": archive.map(|it| it.seen), "wal": spans })
            }
            Physical::Archive(path, seen) => json!({ "path": path, "archive": seen, "wal": spans }),
        };
        return Ok(format!("{value:#}\n"));
    }
    let mut page = Page::default();
    if let Physical::Base(file, facts) = physical {
        base(&mut page, file, facts);
    }
    if let Some(archive) = &archive {
        archive.show(&mut page);
        if let Physical::Base(_, facts) = physical {
            archive.recoverable(facts, &mut page);
        }
    }
    Ok(page.text())
}

/// Names, and what is said of them.
#[derive(Default)]
pub(crate) struct Page(String);

impl Page {
    pub(crate) fn line(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            let _ = writeln!(self.0, "{name:<12} {value}");
        }
    }

    pub(crate) fn text(self) -> String {
        self.0
    }
}

fn base(page: &mut Page, file: &FileSeen, facts: &BaseFacts) {
    page.line("backup", &format!("{} ({})", file.path, words::bytes(file.bytes)));
    let layout = match &facts.layout {
        BaseLayout::Plain => "plain: a data directory".to_owned(),
        BaseLayout::PgBackRest { compression, .. } => format!("in a repository of pgBackRest ({})", compression.name()),
        BaseLayout::WalG { members } => {
            format!("in a storage of WAL-G ({})", members.first().map_or("none", |it| it.compression.name()))
        }
        BaseLayout::Tar { members } => {
            let data = members.iter().find(|it| it.kind == MemberKind::Data);
            format!("tar ({})", data.map_or("none", |it| it.compression.name()))
        }
    };
    let after = facts.label.as_ref().and_then(|it| it.after.as_ref());
    let kind = if after.is_some() { "incremental backup" } else { "base backup" };
    page.line("is a", &format!("{kind} of PostgreSQL {}, {layout}", facts.major));
    match &facts.label {
        Some(label) => {
            let timeline = label.timeline.map(|it| format!(" on timeline {it}")).unwrap_or_default();
            let started = label.started.as_deref().map(|it| format!("{it}; ")).unwrap_or_default();
            page.line("began", &format!("{started}needs WAL from {}{timeline}", label.start));
        }
        None => page.line(
            "WARNING",
            "there is no backup_label: a copy of a stopped server, or a copy that was made without pg_backup_start",
        ),
    }
    if let Some(after) = after {
        page.line("builds upon", &format!("the backup that began at {} on timeline {}", after.start, after.timeline));
    }
    match &facts.manifest {
        ManifestFound::Absent => page.line("manifest", "none: what is missing from the backup cannot be told from it"),
        ManifestFound::Unreadable { why } => page.line("WARNING", &format!("the manifest cannot be believed: {why}")),
        ManifestFound::Whole(manifest) => {
            let end = archive::needs(facts).and_then(|it| it.2).map(|it| format!("; ends at {it}")).unwrap_or_default();
            let of = manifest.system_identifier.map(|it| format!("; of the cluster {it}")).unwrap_or_default();
            page.line("manifest", &format!("{} files, {}{end}{of}", manifest.files, words::bytes(manifest.bytes)));
        }
    }
    match &facts.control {
        ControlFound::NotRead => {}
        ControlFound::Unreadable { why } => page.line("WARNING", &format!("pg_control cannot be believed: {why}")),
        ControlFound::Whole(control) => {
            let checksums = if control.checksum_version > 0 { "with page checksums" } else { "without page checksums" };
            let of = format!("the cluster {}, {checksums}; it was {}", control.system_identifier, control.state);
            page.line("pg_control", &of);
            control.unusual().iter().for_each(|it| page.line("WARNING", it));
        }
    }
    for it in &facts.tablespaces {
        page.line("tablespace", &format!("{} at {}", it.oid, it.location));
    }
    if let Some(told) = archiving(&facts.settings) {
        page.line("archives to", &told.feeds.words());
        for flaw in told.flaws {
            page.line("WARNING", flaw.words());
        }
    }
    for name in ["archive_mode", "archive_command", "archive_library", "restore_command"] {
        if let Some(value) = facts.settings.get(name).filter(|it| !it.is_empty()) {
            page.line("configured", &format!("{name} = {value}"));
        }
    }
}

fn of_archive(page: &mut Page, path: &str, seen: &ArchiveSeen, spans: &[(Stretch, WalSpan)]) {
    page.line("archive", path);
    let of = seen.headers.iter().find_map(|it| it.system_identifier);
    let of = of.map(|it| format!(", of the cluster {it}")).unwrap_or_default();
    page.line("holds", &format!("{} segments of {}{of}", seen.segments, words::bytes(seen.segment_bytes)));
    let mut before: Option<&Stretch> = None;
    for (stretch, span) in spans {
        if let Some(before) = before.filter(|it| it.timeline == stretch.timeline) {
            let missing = Segment { timeline: stretch.timeline, number: before.last + 1 };
            let count = stretch.first - before.last - 1;
            let words = words::count(usize::try_from(count).unwrap_or(usize::MAX), "segment");
            page.line(
                "GAP",
                &format!(
                    "{words} from {} on: {} to {}",
                    seen.name(missing),
                    missing.start(seen.segment_bytes),
                    span.start
                ),
            );
        }
        let dated = match (span.first, span.last) {
            (Some(first), Some(last)) => format!(", records of {first:.0} to {last:.0}"),
            _ => ", without a dated record at its ends".to_owned(),
        };
        page.line(&format!("timeline {}", stretch.timeline), &format!("{} to {}{dated}", span.start, span.end));
        before = Some(stretch);
    }
    if seen.stretches.len() > spans.len() {
        page.line("", &format!("and {} more stretches", seen.stretches.len() - spans.len()));
    }
    for (timeline, history) in &seen.histories {
        let from: Vec<String> = history.ancestors.iter().map(|(id, left)| format!("{id} at {left}")).collect();
        page.line("history", &format!("timeline {timeline} left {}", from.join(", ")));
    }
    for cut in &seen.wrong_size {
        page.line("WARNING", &format!("{} has {} bytes: cut, or still being written", cut.name, cut.bytes));
    }
    for header in seen.headers.iter().filter(|it| it.wrong.is_some()) {
        page.line("WARNING", &format!("{}: {}", header.name, header.wrong.as_deref().unwrap_or_default()));
    }
    if !seen.partial.is_empty() {
        page.line("partial", &format!("{}: no server asks for these", seen.partial.join(", ")));
    }
}

/// From when to when the backup and the archive recover together.
fn recoverable(page: &mut Page, facts: &BaseFacts, seen: &ArchiveSeen, spans: &[(Stretch, WalSpan)]) {
    let Some((timeline, start, stop)) = archive::needs(facts) else { return };
    let Ok(found) = chain(seen, timeline, start, stop, Follow::Latest) else {
        let several = "the backup has several futures in this archive: a drill has to name a timeline";
        return page.line("WARNING", several);
    };
    let until = |end: Lsn| {
        let dated = spans.iter().filter(|(_, it)| it.end <= end).filter_map(|(_, it)| it.last).max();
        dated.map(|it| format!(", {it:.0}")).unwrap_or_default()
    };
    let from = stop.unwrap_or(start);
    page.line("recoverable", &format!("from {from} to {}{}", found.end, until(found.end)));
    if let Some(gap) = &found.gap {
        page.line("GAP", &archive::gap_words(seen, gap));
    }
}

/// Which WAL a drill will replay, and how far it could go: for the plan.
pub(crate) fn way(drill: &Drill, evidence: &Evidence, plan: &Plan) -> Vec<String> {
    let survey = &evidence.survey;
    let (Source::BaseBackup(source), Some(facts)) = (&drill.source, survey.base(&plan.backup.file.path)) else {
        return Vec::new();
    };
    let source = source.of(facts);
    let Some(seen) = source.wal.as_ref().and_then(|it| survey.archive(it)) else { return Vec::new() };
    let (Some((timeline, start, stop)), Some(Ok(found))) =
        (archive::needs(facts), archive::chain_of(seen, facts, &drill.target))
    else {
        return Vec::new();
    };
    let bytes = seen.segment_bytes;
    let holding = |at: Lsn, timeline: u32| seen.name(Segment { timeline, number: at.0 / bytes });
    let amount = |to: Lsn| words::bytes(to.0.saturating_sub(start.0));
    let on = |at: Lsn| found.timelines.iter().find(|it| it.1.is_none_or(|left| at < left)).map_or(timeline, |it| it.0);
    let up_to = |at: Lsn| format!("{} to {at}, in {}", amount(at), holding(at, on(at)));
    let mut lines = vec![format!(
        "recovers from {} on, to {}; replays from {start}, in {}",
        stop.unwrap_or(start),
        found.end,
        holding(start, timeline)
    )];
    lines.push(match &drill.target.point {
        Point::Latest => format!("{} to the end of the archive", amount(found.end)),
        Point::Immediate => format!("{} to the end of the backup", amount(stop.unwrap_or(start))),
        Point::Lsn(text) => match text.parse::<Lsn>() {
            Ok(lsn) => up_to(lsn),
            Err(_) => return lines,
        },
        // Where it lies is known where it was searched for, to choose the backup.
        Point::Xid(_) | Point::Name(_) if survey.place().is_some_and(|it| it >= start) => {
            up_to(survey.place().unwrap_or(start))
        }
        Point::Time(_) | Point::Xid(_) | Point::Name(_) => {
            format!("at most {}, to the end of the archive", amount(found.end))
        }
    });
    lines
}

/// What a scenario may say as its target.
pub(crate) const TARGETS: &str = "# latest | immediate | { time: \"2026-11-22 10:00:00+00\" } | { lsn: 16/B374D848 } | { xid: 4711 } | \
                                  { name: a restore point }\n";

/// As YAML.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A first scenario for a base backup.
pub(crate) fn scenario(path: &str, facts: &BaseFacts, wal: Option<&str>) -> String {
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or("base-backup");
    let (path, name) = (quoted(path), quoted(name));
    let wal_line = wal.map_or_else(
        || match archiving(&facts.settings).map(|it| it.feeds) {
            // Where it lies from here, only a person knows.
            Some(Feeds::Files(at)) => format!("        # wal: {}    # where the server archives to\n", quoted(&at)),
            Some(Feeds::Nothing) | None => {
                "        # wal: /path/of/the/archive    # to recover further than the backup's own end\n".to_owned()
            }
            Some(feeds) => format!("        # the server archives to {}\n", feeds.words()),
        },
        |it| format!("        wal: {}\n", quoted(it)),
    );
    let target = if wal.is_some() { "latest" } else { "immediate" };
    let mut spaces = String::new();
    for it in facts.tablespaces.iter().filter(|_| facts.layout == BaseLayout::Plain) {
        let _ = writeln!(spaces, "        # tablespaces: {{ {}: /where/its/data/lie }}", it.oid);
    }
    format!(
        "# A drill for pgdrill: restores this base backup of PostgreSQL {major} into a throwaway server, recovers it to a target,\n\
         # and looks whether all is there.\n#\n\
         {USE}version: 1\n\ndrills:\n  - name: {name}\n    source:\n      base_backup:\n        path: {path}\n{wal_line}{spaces}\n    \
         {TARGETS}    target: {target}\n\n    # objectives:\n    #   rto: 30m             # the longest that the recovery may take\n    \
         #   rpo: 5m              # the most that may be lost; needs `wal`\n\n    checks:\n      \
         - query: {{ name: the server answers, sql: select 1, expect: 1 }}\n      \
         # - rows: {{ table: orders, database: shop, min: 1000 }}\n",
        major = facts.major,
    )
}
