//! Whether a base backup is as it was written: its files by its manifest, its pages by their checksums.

use std::collections::BTreeMap;
use std::time::Duration;

use super::CheckJudged;
use crate::check::{BACKUP_MANIFEST, Finding, Judged, PAGE_CHECKSUMS, Population, Severity};
use crate::evidence::Evidence;
use crate::format::page::PAGE;
use crate::format::pages::{Now, PagesChecked, Suspect};
use crate::format::verify::{ManifestChecked, ManifestSeen};
use crate::recipe::Unpacked;

/// Names that a text lists, at most.
const SHOWN: usize = 5;

/// Checks that only the backup's own bytes can break.
pub(super) const NAMES: [&str; 2] = [BACKUP_MANIFEST, PAGE_CHECKSUMS];

/// What follows for the verdict.
#[derive(Debug, Default)]
pub(super) struct Intact {
    pub(super) checks: Vec<CheckJudged>,
    pub(super) findings: Vec<String>,
}

/// Nothing where no base backup was unpacked.
pub(super) fn judged(evidence: &Evidence) -> Intact {
    let mut intact = Intact::default();
    let unpacked: Vec<(&str, &Unpacked, Duration)> = evidence
        .done
        .iter()
        .filter_map(|it| Some((it.step.action.reads().unwrap_or_default(), it.output.unpacked.as_ref()?, it.elapsed)))
        .collect();
    // Of a chain, each part is named; of one backup, that would say nothing.
    let several = unpacked.len() > 1;
    let mut manifests = Vec::new();
    for (path, unpacked, elapsed) in &unpacked {
        let of = if several { format!(" of {path}") } else { String::new() };
        match &unpacked.manifest {
            None => {}
            Some(ManifestSeen::Absent) => intact.findings.push(format!(
                "the backup{of} has no manifest: whether all of its files are there, as they were written, was not looked at"
            )),
            Some(ManifestSeen::Unreadable { why }) => manifests.push((of, Err(why.as_str()), *elapsed)),
            Some(ManifestSeen::Checked(checked)) => manifests.push((of, Ok(checked), *elapsed)),
        }
    }
    intact.checks.extend(manifest(&manifests));
    let pages: Vec<&PagesChecked> = unpacked.iter().filter_map(|(_, it, _)| it.pages.as_ref()).collect();
    page_checksums(evidence, &pages, &mut intact);
    intact
}

type Manifested<'a> = (String, Result<&'a ManifestChecked, &'a str>, Duration);

fn manifest(manifests: &[Manifested<'_>]) -> Option<CheckJudged> {
    if manifests.is_empty() {
        return None;
    }
    let (mut objects, mut words, mut total) = (Vec::new(), Vec::new(), 0);
    let (mut files, mut bytes, mut sizes_only) = (0, 0, 0);
    let mut algorithms = Vec::new();
    let mut elapsed = Duration::ZERO;
    for (of, checked, took) in manifests {
        elapsed += *took;
        match checked {
            Err(why) => {
                total += 1;
                objects.push(format!("manifest{of}"));
                words.push(format!("the manifest{of} cannot be believed: {why}"));
            }
            Ok(checked) => {
                total += checked.wrong_total;
                objects.extend(checked.wrong.iter().map(|it| format!("file {}", it.path)));
                words.extend(checked.wrong.iter().map(|it| format!("{}{of} {}", it.path, it.how.words())));
                (files, bytes) = (files + checked.files, bytes + checked.bytes);
                sizes_only += checked.without_checksum;
                algorithms.extend(checked.algorithms.iter().map(|it| it.name()));
            }
        }
    }
    algorithms.sort_unstable();
    algorithms.dedup();
    let finding = if total == 0 {
        let by = match (sizes_only, algorithms.as_slice()) {
            (_, []) => "by their sizes alone: the manifest has no checksums".to_owned(),
            (0, some) => format!("by size and {}", some.join(", ")),
            (sizes, some) => format!("by size and {}, {sizes} of them by size alone", some.join(", ")),
        };
        Finding::Held { observed: format!("{files} files with {bytes} bytes are as the manifest says, {by}") }
    } else {
        Finding::Broken {
            expected: "every file of the manifest, as it was written, and no other".to_owned(),
            observed: listed(&words, total),
        }
    };
    let population = Population { examined: files + total, of: "files".to_owned() };
    Some(check(BACKUP_MANIFEST, finding, population, objects, elapsed))
}

fn page_checksums(evidence: &Evidence, pages: &[&PagesChecked], intact: &mut Intact) {
    let Some(last) = pages.last() else { return };
    match last.enabled {
        Some(true) => {}
        Some(false) => {
            let text = "the cluster has no page checksums: a disk that returned other bytes than were written would not be noticed \
                        (`pg_checksums --enable`, or `initdb --data-checksums`)";
            return intact.findings.push(text.to_owned());
        }
        None => {
            let text =
                "whether the cluster has page checksums is not known: the backup has no global/pg_control to read";
            return intact.findings.push(text.to_owned());
        }
    }
    let (verified, new) = pages.iter().fold((0, 0), |(verified, new), it| (verified + it.verified, new + it.new));
    // Of several parts of a chain, a page may look wrong in more than one.
    let suspects: BTreeMap<(&str, u32), &Suspect> =
        pages.iter().flat_map(|it| &it.suspects).map(|it| ((it.file.as_str(), it.block), it)).collect();
    let total: u64 = pages.iter().map(|it| it.suspects_total).sum();
    let listed_all = total == pages.iter().map(|it| it.suspects.len() as u64).sum::<u64>();
    let again: BTreeMap<(&str, u32), &Now> = evidence
        .done
        .iter()
        .flat_map(|it| &it.output.again)
        .map(|it| ((it.file.as_str(), it.block), &it.now))
        .collect();
    let (mut wrong, mut unknown, mut mended) = (Vec::new(), Vec::new(), 0u64);
    for (place, suspect) in &suspects {
        let page = format!("{}, block {}", suspect.file, suspect.block);
        match again.get(place) {
            Some(Now::Mended) => mended += 1,
            Some(Now::Wrong(how)) => wrong.push((page, format!("{} after replay, too", how.words()))),
            Some(Now::Unknown { because }) if suspect.perhaps_torn => unknown.push(format!("{page}: {because}")),
            // The drill ended before anybody could look again.
            None if suspect.perhaps_torn => {
                unknown.push(format!("{page}: it may have been copied while it was written, and nothing was replayed"));
            }
            Some(Now::Unknown { .. }) | None => wrong.push((page, suspect.how.words())),
        }
    }
    if mended > 0 {
        intact.findings.push(format!(
            "{mended} pages looked wrong in the backup and are right after replay: they were copied while they were written, or the WAL \
             hides damage"
        ));
    }
    let population = Population { examined: verified + new + total, of: "pages".to_owned() };
    let objects = wrong.iter().map(|(page, _)| format!("page {page}")).collect();
    let finding = if !wrong.is_empty() {
        let words: Vec<String> = wrong.iter().map(|(page, how)| format!("{page}: the page {how}")).collect();
        let count = words.len() as u64;
        let more = if listed_all { 0 } else { total.saturating_sub(suspects.len() as u64) };
        Finding::Broken {
            expected: format!("every page of {PAGE} bytes with the checksum that it was written with"),
            observed: listed(&words, count + more),
        }
    } else if !listed_all {
        Finding::Unknown { because: format!("{total} pages look wrong, more than were looked at again") }
    } else if let Some(first) = unknown.first() {
        Finding::Unknown { because: format!("{} pages could not be judged; {first}", unknown.len()) }
    } else {
        let deferred = match mended {
            0 => String::new(),
            1 => ", and 1 page that was judged after replay".to_owned(),
            some => format!(", and {some} pages that were judged after replay"),
        };
        Finding::Held { observed: format!("{verified} pages have the checksum that they were written with{deferred}") }
    };
    intact.checks.push(check(PAGE_CHECKSUMS, finding, population, objects, Duration::ZERO));
}

fn listed(words: &[String], total: u64) -> String {
    let shown = words.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("; ");
    match total.saturating_sub(words.len().min(SHOWN) as u64) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}

fn check(name: &str, finding: Finding, population: Population, objects: Vec<String>, elapsed: Duration) -> CheckJudged {
    let judged = Judged { finding, population };
    CheckJudged { name: name.to_owned(), severity: Severity::Critical, judged, elapsed, waived: None, objects }
}
