//! Whether a backup is kept as it is said to be: the same in every place, and in as many places as the objective asks for.

use std::collections::BTreeSet;

use super::CheckJudged;
use crate::check::{COPIES, COPIES_RULE, Finding, Judged, Population, Severity};
use crate::evidence::Evidence;
use crate::fault::{Blame, Fault};
use crate::recipe::{Compared, CopiedWal, CopySeen};
use crate::scenario::{Copies, CopiesObjective, Drill, Placement};

/// Checks that only the keeping of the backup can break.
pub(super) const NAMES: [&str; 2] = [COPIES, COPIES_RULE];

/// The checks, and whether what is unknown of each is so because of the machine. None where no copy was named, or where the drill
/// ended before they were compared.
pub(super) fn judged(evidence: &Evidence, drill: &Drill) -> Vec<(CheckJudged, bool)> {
    let compared = evidence.done.iter().find_map(|it| Some((it.output.compared.as_ref()?, it.elapsed)));
    let (Some(copies), Some((compared, elapsed))) = (&drill.copies, compared) else { return Vec::new() };
    let mut checks = vec![same(copies, compared)];
    checks.extend(drill.objectives.copies.map(|it| rule(it, copies, compared)));
    let host = compared.copies.iter().filter_map(|it| it.trouble.as_ref()).any(|it| it.blame == Blame::Host);
    checks.into_iter().map(|it| (CheckJudged { elapsed, ..it }, host)).collect()
}

fn is_same(it: &CopySeen) -> bool {
    it.trouble.is_none() && it.differs_total == 0
}

/// Nobody could look.
fn is_unknown(it: &CopySeen) -> bool {
    it.trouble.as_ref().is_some_and(|it| it.blame != Blame::Backup)
}

fn same(copies: &Copies, compared: &Compared) -> CheckJudged {
    let placed = |seen: &CopySeen| {
        let placement = copies.others.iter().map(|it| &it.placement).find(|it| it.name == seen.name);
        placement.map_or_else(|| seen.name.clone(), words)
    };
    let broken: Vec<&CopySeen> = compared.copies.iter().filter(|it| !is_same(it) && !is_unknown(it)).collect();
    let unknown = compared.copies.iter().find(|it| is_unknown(it));
    let finding = if !broken.is_empty() {
        let told = broken.iter().map(|it| format!("{}: {}", placed(it), wrong(it))).collect::<Vec<_>>().join("; ");
        Finding::Broken { expected: "the same backup, byte for byte, in every place".to_owned(), observed: told }
    } else if let Some(unknown) = unknown {
        let why = unknown.trouble.as_ref().map(Fault::line).unwrap_or_default();
        Finding::Unknown { because: format!("{}: {why}", placed(unknown)) }
    } else {
        let others = compared.copies.iter().map(placed).collect::<Vec<_>>().join(", ");
        let own = words(&copies.own);
        let wal = compared.copies.iter().filter_map(|it| Some((placed(it), it.wal.as_ref()?)));
        let wal = wal.map(|(place, it)| format!("; {}", wal_words(&place, it))).collect::<Vec<_>>().concat();
        let files = if compared.files == 1 { "file".to_owned() } else { format!("{} files", compared.files) };
        let observed = format!("{files} with {} bytes: the same in {own} and in {others}{wal}", compared.bytes);
        Finding::Held { observed }
    };
    let population = Population { examined: compared.copies.len() as u64, of: "copies".to_owned() };
    let objects = broken.iter().map(|it| it.name.clone()).collect();
    CheckJudged { objects, ..CheckJudged::new(COPIES, Severity::Critical, Judged { finding, population }) }
}

/// `offsite (object storage, frankfurt)`
fn words(placement: &Placement) -> String {
    let site = placement.site.as_ref().filter(|it| **it != placement.name);
    let kept: Vec<&str> = placement.media.iter().chain(site).map(String::as_str).collect();
    if kept.is_empty() { placement.name.clone() } else { format!("{} ({})", placement.name, kept.join(", ")) }
}

fn wal_words(place: &str, wal: &CopiedWal) -> String {
    let behind = match wal.behind {
        0 => "as the original's does".to_owned(),
        1 => "1 segment behind".to_owned(),
        more => format!("{more} segments behind"),
    };
    format!("the WAL of {place} goes to {}, {behind}", wal.until)
}

fn wrong(copy: &CopySeen) -> String {
    if let Some(trouble) = &copy.trouble {
        return trouble.line();
    }
    let path = copy.path.as_deref().unwrap_or_default();
    let more = copy.differs_total - copy.differs.len() as u64;
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    let which = match &copy.identities {
        Some((original, copy)) if original != copy => {
            format!("{path} is another backup, {}, and the one that was restored is {}", copy.0, original.0)
        }
        Some((_, copy)) => format!("{path} is the same backup, {}, and was changed or damaged", copy.0),
        None => format!("{path} differs"),
    };
    format!("{which}: {}{more}", copy.differs.join(", "))
}

/// Only what was proved to be the same counts; production is a copy, and at one of the sites.
fn rule(objective: CopiesObjective, copies: &Copies, compared: &Compared) -> CheckJudged {
    let seen = |name: &str| compared.copies.iter().find(|it| it.name == name);
    let count = |counts: &dyn Fn(&CopySeen) -> bool| {
        let others = copies.others.iter().map(|it| &it.placement).filter(|it| seen(&it.name).is_some_and(counts));
        let kept: Vec<&Placement> = [&copies.own].into_iter().chain(others).collect();
        let media: BTreeSet<&str> = kept.iter().filter_map(|it| it.media.as_deref()).collect();
        let sites: BTreeSet<&str> = kept.iter().filter_map(|it| it.site.as_deref()).collect();
        let number = |it: usize| u32::try_from(it).unwrap_or(u32::MAX);
        CopiesObjective {
            copies: number(kept.len()) + 1,
            media: number(media.len()),
            off_site: number(sites.len().saturating_sub(1)),
        }
    };
    let meets = |it: CopiesObjective| {
        it.copies >= objective.copies && it.media >= objective.media && it.off_site >= objective.off_site
    };
    let shown = |it: CopiesObjective| {
        format!("{}-{}-{} (copies with production, media, off-site)", it.copies, it.media, it.off_site)
    };
    let proved = count(&is_same);
    let possible = count(&|it| is_same(it) || is_unknown(it));
    let finding = if meets(proved) {
        Finding::Held { observed: shown(proved) }
    } else if meets(possible) {
        Finding::Unknown { because: format!("only {} was proved, as not every copy could be looked at", shown(proved)) }
    } else {
        Finding::Broken { expected: shown(objective), observed: shown(possible) }
    };
    let population = Population { examined: u64::from(possible.copies), of: "copies".to_owned() };
    CheckJudged::new(COPIES_RULE, Severity::Critical, Judged { finding, population })
}
