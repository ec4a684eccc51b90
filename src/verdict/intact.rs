//! Whether a base backup is as it was written: its files by its manifest, its pages by their checksums.

use std::collections::BTreeMap;
use std::time::Duration;

use super::CheckJudged;
use crate::check::{BACKUP_MANIFEST, Finding, Judged, PAGE_CHECKSUMS, Population, Severity};
use crate::evidence::Evidence;
use crate::format::base::BaseLayout;
use crate::format::page::PAGE;
use crate::format::pages::{Now, PagesChecked, Suspect};
use crate::format::verify::{ManifestChecked, ManifestSeen};
use crate::recipe::{Action, Unpacked};

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
    // WAL-G and pgBackRest list the files of each backup themselves, and unpacking compares them.
    let listed = |action: &Action| {
        matches!(action, Action::Unpack { facts, .. }
            if matches!(facts.layout, BaseLayout::WalG { .. } | BaseLayout::PgBackRest { .. }))
    };
    let by_tool = evidence.done.iter().any(|it| listed(&it.step.action));
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
            Some(ManifestSeen::Absent) if by_tool => {}
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
    CheckJudged { elapsed, objects, ..CheckJudged::new(name, Severity::Critical, judged) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::base::BaseFacts;
    use crate::format::pages::{Again, Damage};
    use crate::format::verify::{Wrong, WrongFile};
    use crate::phase::Phase;
    use crate::recipe::{Action, Output, Place, Step, Tolerance};

    fn done(action: Action, output: Output) -> crate::evidence::Done {
        let what = "unpack the base backup".to_owned();
        let step = Step { phase: Phase::Restore, place: Place::Server, what, action, tolerance: Tolerance::Strict };
        crate::evidence::Done { step, output, elapsed: Duration::from_secs(1) }
    }

    fn suspect(block: u32, perhaps_torn: bool) -> Suspect {
        Suspect {
            file: "base/5/16384".to_owned(),
            block,
            how: Damage::Checksum { stored: 0x1a2b, computed: 7 },
            perhaps_torn,
        }
    }

    fn pages(suspects: &[Suspect]) -> PagesChecked {
        let suspects_total = suspects.len() as u64;
        PagesChecked { enabled: Some(true), verified: 40, new: 2, suspects: suspects.to_vec(), suspects_total }
    }

    fn evidence(manifest: ManifestSeen, pages: PagesChecked, again: &[(u32, Now)]) -> Evidence {
        let facts = Box::new(BaseFacts::bare());
        let unpack =
            Action::Unpack { from: "/b/full".to_owned(), facts, part: None, beneath: Vec::new(), hollow: Vec::new() };
        let unpacked = Unpacked { files: 1, bytes: 1, manifest: Some(manifest), pages: Some(pages) };
        let again =
            again.iter().map(|(block, now)| Again { file: "base/5/16384".to_owned(), block: *block, now: now.clone() });
        let done = vec![
            done(unpack, Output { unpacked: Some(unpacked), ..Output::default() }),
            done(Action::LookAgain, Output { again: again.collect(), ..Output::default() }),
        ];
        Evidence { done, ..Evidence::default() }
    }

    fn found(evidence: &Evidence) -> (String, Vec<String>) {
        let intact = judged(evidence);
        let check = intact.checks.iter().find(|it| it.name == PAGE_CHECKSUMS).map(|it| match &it.judged.finding {
            Finding::Held { observed } => format!("held: {observed}"),
            Finding::Broken { observed, .. } => format!("broken: {observed}"),
            Finding::Unknown { because } => format!("unknown: {because}"),
        });
        (check.unwrap_or_default(), intact.findings)
    }

    fn wrong() -> Now {
        Now::Wrong(Damage::Checksum { stored: 0x1a2b, computed: 7 })
    }

    #[test]
    fn pages_are_judged_by_what_they_are_after_replay() {
        let both = [suspect(1, true), suspect(2, false)];
        for (again, expected) in [
            (
                vec![(1, Now::Mended), (2, Now::Mended)],
                "held: 40 pages have the checksum that they were written with, and 2 pages",
            ),
            (vec![(1, wrong()), (2, Now::Mended)], "broken: base/5/16384, block 1: the page has the checksum 1a2b"),
            (
                vec![(1, Now::Mended)],
                "broken: base/5/16384, block 2: the page has the checksum 1a2b, and its contents have 0007",
            ),
        ] {
            let (said, _) = found(&evidence(ManifestSeen::Absent, pages(&both), &again));
            assert!(said.starts_with(expected), "{said}");
        }
    }

    #[test]
    fn a_page_that_may_be_torn_is_unknown_where_nothing_was_replayed() {
        let (said, _) = found(&evidence(ManifestSeen::Absent, pages(&[suspect(1, true)]), &[]));
        assert!(said.starts_with("unknown: 1 pages could not be judged; base/5/16384, block 1"), "{said}");
    }

    #[test]
    fn more_wrong_pages_than_are_remembered_never_pass() {
        let many = PagesChecked { suspects_total: 5000, ..pages(&[suspect(1, false)]) };
        let (said, _) = found(&evidence(ManifestSeen::Absent, many.clone(), &[(1, Now::Mended)]));
        assert!(said.starts_with("unknown: 5000 pages look wrong"), "{said}");
        let (said, _) = found(&evidence(ManifestSeen::Absent, many, &[(1, wrong())]));
        assert!(said.ends_with("and 4999 more"), "{said}");
    }

    #[test]
    fn what_cannot_be_looked_at_is_a_finding_and_no_check() {
        let off = PagesChecked { enabled: Some(false), ..PagesChecked::default() };
        let intact = judged(&evidence(ManifestSeen::Absent, off, &[]));
        assert!(intact.checks.is_empty());
        assert!(intact.findings[0].contains("has no manifest") && intact.findings[1].contains("has no page checksums"));
        assert!(judged(&Evidence::default()).findings.is_empty());
    }

    #[test]
    fn files_that_differ_from_the_manifest_are_listed_as_objects_for_waivers() {
        let wrong = vec![WrongFile { path: "base/5/1".to_owned(), how: Wrong::Missing }];
        let checked = ManifestChecked { files: 9, wrong, wrong_total: 1, ..ManifestChecked::default() };
        let intact = judged(&evidence(ManifestSeen::Checked(checked), pages(&[]), &[]));
        let manifest = &intact.checks[0];
        assert_eq!(manifest.objects, ["file base/5/1"]);
        assert!(
            matches!(&manifest.judged.finding, Finding::Broken { observed, .. } if observed == "base/5/1 is missing")
        );
    }
}
