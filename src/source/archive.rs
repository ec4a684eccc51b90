//! Whether a WAL archive holds what a recovery needs: the first gap is said in the survey, and not after hours of replay.

use super::base_backup::Ingredients;
use crate::fault::{Blame, Fault};
use crate::format::base::{BaseFacts, ManifestFound};
use crate::format::lsn::{Lsn, Segment};
use crate::format::wal::NOT_WAL;
use crate::format::wal_archive::{ArchiveSeen, Chain, Follow, Gap, NoChain, SegmentSeen, chain, missing, way};
use crate::recipe::{Note, NoteKind, WalWay};
use crate::target::{Point, Target, Timeline};

/// Where the backup's WAL begins and, where its manifest or its tool says so, ends.
pub fn needs(facts: &BaseFacts) -> Option<(u32, Lsn, Option<Lsn>)> {
    let label = facts.label.as_ref()?;
    let start: Lsn = label.start.parse().ok()?;
    let stop = match &facts.manifest {
        ManifestFound::Whole(manifest) => manifest.wal.iter().filter_map(|it| it.end.parse::<Lsn>().ok()).max(),
        ManifestFound::Absent | ManifestFound::Unreadable { .. } => facts.told.as_ref().and_then(|it| it.stop),
    };
    Some((label.timeline?, start, stop))
}

/// The chain that recovery follows. None where the backup does not say where its WAL begins.
pub fn chain_of(archive: &ArchiveSeen, facts: &BaseFacts, target: &Target) -> Option<Result<Chain, NoChain>> {
    let (timeline, start, stop) = needs(facts)?;
    let follow = match target.timeline {
        Timeline::Latest => Follow::Latest,
        Timeline::Current => Follow::Only(timeline),
        Timeline::Id(id) => Follow::Only(id),
    };
    Some(chain(archive, timeline, start, stop, follow))
}

/// What a sweep reads of an archive. None where there is no chain to follow, which [`examine`] refuses.
pub fn way_of(path: &str, archive: &ArchiveSeen, facts: &BaseFacts, target: &Target) -> Option<WalWay> {
    let (_, start, stop) = needs(facts)?;
    let found = chain_of(archive, facts, target)?.ok()?;
    let segment_bytes = archive.segment_bytes;
    let stretches = way(archive, &found.timelines, start.0 / segment_bytes);
    Some(WalWay { archive: path.to_owned(), segment_bytes, stretches, start, stop })
}

/// What can be replayed before the archive's first gap, where only reading it tells on which side of that the target lies. None
/// where there is no gap, or the target does not depend on it.
pub fn before_gap(path: &str, archive: &ArchiveSeen, facts: &BaseFacts, target: &Target) -> Option<WalWay> {
    let Point::Time(_) = target.point else { return None };
    let gap = chain_of(archive, facts, target)?.ok()?.gap?;
    let mut way = way_of(path, archive, facts, target)?;
    way.stretches.retain(|it| it.first < gap.missing.number);
    way.stretches.iter_mut().for_each(|it| it.last = it.last.min(gap.missing.number - 1));
    (!way.stretches.is_empty()).then_some(way)
}

/// The target's timeline as a server is to be told, so that it looks for no other one while it waits.
pub fn settled(archive: &ArchiveSeen, facts: &BaseFacts, target: &Target) -> Target {
    let ends = chain_of(archive, facts, target).and_then(Result::ok).and_then(|it| it.timelines.last().copied());
    let timeline = match (ends, needs(facts)) {
        (Some((last, _)), Some((own, ..))) if last == own => Timeline::Current,
        (Some((last, _)), _) => Timeline::Id(last),
        (None, _) => target.timeline,
    };
    Target { timeline, ..target.clone() }
}

/// `000000010000000000000007 to …09, which begin at 0/7000000`
pub fn gap_words(archive: &ArchiveSeen, gap: &Gap) -> String {
    let first = archive.name(gap.missing);
    let start = gap.missing.start(archive.segment_bytes);
    let then = archive.name(gap.then);
    match gap.segments {
        1 => format!("it has no {first} (from {start}), and goes on with {then}"),
        more => format!("it lacks {more} segments from {first} (from {start}) on, and goes on with {then}"),
    }
}

/// Says what cannot work, and what a reader should know of the archive.
pub fn examine(it: &Ingredients<'_>) -> Result<Vec<Note>, Fault> {
    let (Some(path), Some(archive)) = (&it.source.wal, it.archive) else { return Ok(Vec::new()) };
    let mut notes = Vec::new();
    foreign(path, archive, it.facts)?;
    let Some(found) = chain_of(archive, it.facts, it.target) else { return Ok(notes) };
    let found = found.map_err(|it| no_chain(path, &it))?;
    let what = || format!("recover to {} from the archive {path}", it.target.words());
    if let Some(cut) = archive.wrong_size.iter().find(|cut| is_needed(archive, &found, &cut.name)) {
        return Err(Fault::new(Blame::Backup, what())
            .cause(format!("{} has {} bytes, and segments have {}", cut.name, cut.bytes, archive.segment_bytes))
            .hint("it was cut when it was archived: let archive_command write to a temporary name, and rename"));
    }
    if let Some(lost) = own_wal(archive, &found, it.facts) {
        let name = archive.name(lost);
        return Err(Fault::new(Blame::Backup, what())
            .cause(format!("the backup itself needs {name}, which is not in the archive"))
            .hint("without it this backup never becomes consistent: look for it on the primary and in other copies, and make a new one"));
    }
    if let Some(gap) = &found.gap {
        let words = gap_words(archive, gap);
        let begins = gap.missing.start(archive.segment_bytes);
        let behind = match &it.target.point {
            // Of a sweep, what lies before it is reached.
            Point::Latest => it.stops.is_empty(),
            Point::Lsn(lsn) => lsn.parse::<Lsn>().is_ok_and(|it| it >= begins),
            // Recovery ends where it meets the first that ended behind the target.
            Point::Time(time) => {
                let inclusive = it.target.inclusive;
                it.last_before_gap.is_some_and(|last| if inclusive { last <= *time } else { last < *time })
            }
            // Where these lie is known once they are reached.
            Point::Immediate | Point::Xid(_) | Point::Name(_) => false,
        };
        if behind {
            return Err(Fault::new(Blame::Backup, what()).cause(words).hint(format!(
                "nothing behind {begins} can be recovered: look for the segments on the primary and in other copies, and \
                 make a new base backup now"
            )));
        }
        notes.push(Note { kind: NoteKind::NotChecked, text: format!("the WAL archive has a gap: {words}") });
    }
    if let (Point::Lsn(lsn), Ok(wanted)) = (&it.target.point, lsn_of(it.target))
        && found.end <= wanted
    {
        let fault =
            Fault::new(Blame::Scenario, what()).cause(format!("the archive ends at {}, before {lsn}", found.end));
        return Err(match holding(archive, &found, wanted) {
            Some(partial) => fault
                .cause(format!(
                    "it lies in {partial}, a segment that was not finished, and no server asks for such a file"
                ))
                .hint("If a real recovery would use it, renamed, say `partial: true` beside the archive."),
            None => fault.hint("Name an earlier target, or wait until that WAL was archived."),
        });
    }
    for name in &archive.unfinished {
        let text = format!(
            "{name} was not finished, and served as a whole segment: whoever recovers has to rename it, as no server asks for \
             such a file"
        );
        notes.push(Note { kind: NoteKind::Deviation, text });
    }
    if !archive.partial.is_empty() {
        let text = format!(
            "segments that were not finished, which no server asks for: {} (`partial: true` has the last one used)",
            archive.partial.join(", ")
        );
        notes.push(Note { kind: NoteKind::NotChecked, text });
    }
    Ok(notes)
}

/// The unfinished segment in which a place lies, on one of the timelines that are followed.
fn holding<'a>(archive: &'a ArchiveSeen, chain: &Chain, at: Lsn) -> Option<&'a String> {
    archive.partial.iter().find(|name| {
        let segment = Segment::parse(name.trim_end_matches(".partial"), archive.segment_bytes);
        segment.is_some_and(|it| {
            it.number == at.0 / archive.segment_bytes
                && chain.timelines.iter().any(|(timeline, _)| *timeline == it.timeline)
        })
    })
}

fn lsn_of(target: &Target) -> Result<Lsn, ()> {
    match &target.point {
        Point::Lsn(lsn) => lsn.parse().map_err(|_| ()),
        Point::Latest | Point::Immediate | Point::Time(_) | Point::Xid(_) | Point::Name(_) => Err(()),
    }
}

/// The last segment of all may still be on its way into the archive.
fn is_needed(archive: &ArchiveSeen, chain: &Chain, name: &str) -> bool {
    let segment = Segment::parse(name, archive.segment_bytes);
    let last = archive.stretches.iter().map(|it| (it.timeline, it.last)).max();
    segment.is_some_and(|it| {
        chain.first.is_some_and(|first| first.number <= it.number)
            && chain.timelines.iter().any(|(timeline, _)| *timeline == it.timeline)
            && last != Some((it.timeline, it.number))
    })
}

/// The first segment that is lost of those that make a backup consistent which brings none itself.
fn own_wal(archive: &ArchiveSeen, chain: &Chain, facts: &BaseFacts) -> Option<Segment> {
    facts.told.as_ref().filter(|it| it.without_wal)?;
    let (_, start, stop) = needs(facts)?;
    let bytes = archive.segment_bytes;
    let first = start.0 / bytes;
    let behind = stop.map_or(first, |it| it.0.saturating_sub(1) / bytes) + 1;
    // Where nothing lies behind it, it may be on its way: the server will ask for it.
    let lost = missing(archive, &chain.timelines, first..behind)?;
    archive.stretches.iter().any(|it| it.timeline == lost.timeline && it.last > lost.number).then_some(lost)
}

/// What the first of several segments begins with, where not one begins as WAL does, nor with zeros: damage would not be so thorough.
fn unreadable(archive: &ArchiveSeen) -> Option<String> {
    let strange = |it: &SegmentSeen| {
        let wrong = it.wrong.as_deref().filter(|it| it.starts_with(NOT_WAL))?;
        (!wrong.ends_with(" 0000")).then(|| format!("in {}, {wrong}", it.name))
    };
    let all: Option<Vec<String>> = archive.headers.iter().map(strange).collect();
    all.filter(|it| it.len() > 1)?.into_iter().next()
}

/// Segments of another cluster, or under another's name.
fn foreign(path: &str, archive: &ArchiveSeen, facts: &BaseFacts) -> Result<(), Fault> {
    let fault = |cause: String| {
        Fault::new(Blame::Backup, format!("read the WAL archive {path}"))
            .cause(cause)
            .hint("another cluster may archive to the same place, or files were renamed: a recovery would stop there")
    };
    if let Some(first) = unreadable(archive) {
        return Err(Fault::new(Blame::Host, format!("read the WAL archive {path}"))
            .cause(format!("none of its segments can be read: {first}"))
            .hint(
                "They are encrypted, or of a PostgreSQL that this pgdrill does not know: let a copy of the archive be made that is \
                 decrypted, and name that as `wal:`.",
            ));
    }
    let last = archive.headers.last().map(|it| it.name.as_str());
    for header in &archive.headers {
        // The last one may still be written.
        if let Some(wrong) = header.wrong.as_ref().filter(|_| last != Some(header.name.as_str())) {
            return Err(fault(format!("{} is no such segment: {wrong}", header.name)));
        }
    }
    let known = facts.system_identifier();
    let identifiers = archive.headers.iter().filter_map(|it| Some((&it.name, it.system_identifier?)));
    let expected = known.or_else(|| identifiers.clone().next().map(|it| it.1));
    for (name, identifier) in identifiers {
        if let Some(expected) = expected.filter(|it| *it != identifier) {
            let whose = if known.is_some() { "the backup is of" } else { "others are of" };
            return Err(fault(format!("{name} is of the cluster {identifier}, {whose} {expected}")));
        }
    }
    Ok(())
}

pub(super) fn no_chain(path: &str, why: &NoChain) -> Fault {
    let fault = |cause: String, hint: &str| {
        Fault::new(Blame::Scenario, format!("choose a timeline in the archive {path}")).cause(cause).hint(hint)
    };
    match why {
        NoChain::Several(timelines) => {
            let list: Vec<String> = timelines.iter().map(ToString::to_string).collect();
            let cause = format!("the backup has several futures: timelines {}", list.join(" and "));
            fault(
                cause,
                "Say which one is production's: `target: { timeline: … }`; the other is of a drill or a split brain.",
            )
        }
        NoChain::Foreign(id) => {
            let cause = format!("timeline {id} left the backup's timeline before the backup, or never was on it");
            fault(cause, "Name a timeline that descends from the backup's, or an older backup.")
        }
        NoChain::Unknown(id) => {
            let cause = format!("there is no {id:08X}.history, which would say where timeline {id} came from");
            fault(cause, "Copy the history file into the archive, or name another timeline.")
        }
    }
}
