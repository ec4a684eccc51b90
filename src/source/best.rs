//! Which of several base backups a recovery to a target begins with, and why.
//!
//! What surprises: there is nothing to weigh. The newest backup that ends before the target is always the best one: it replays
//! least, and a gap in the archive that is in its way is in the way of every older one, too.

use super::archive::{chain_of, needs, no_chain};
use crate::fault::{Blame, Fault};
use crate::format::base::{BaseFacts, Label};
use crate::format::lsn::Lsn;
use crate::format::wal_archive::ArchiveSeen;
use crate::recipe::{BaseSeen, Learnt, Question, Searched, Survey, Until, WalPart};
use crate::target::{Point, Target, postgres_time};

/// WAL that is searched for a transaction or a restore point, at most.
const SEARCHED_BYTES: u64 = 16 << 30;
/// WAL before a backup's end in which a transaction that is too late is looked for, at most.
const BEFORE_ITS_END: u64 = 64 << 20;

/// What comes of choosing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// This must be known first.
    Ask(Box<Question>),
    Chosen(Choice),
}

/// A base backup, and why it and none of the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    pub path: String,
    pub why: String,
    pub passed_over: Vec<(String, String)>,
}

struct Candidate<'a> {
    path: &'a str,
    facts: &'a BaseFacts,
    timelines: Vec<(u32, Option<Lsn>)>,
    start: Lsn,
    /// Where it is consistent. None: no manifest says so.
    stop: Option<Lsn>,
}

impl Candidate<'_> {
    fn end(&self) -> Lsn {
        self.stop.unwrap_or(self.start)
    }

    fn words(&self) -> String {
        match self.stop {
            Some(stop) => format!("it ends at {stop}"),
            None => format!("it begins at {}", self.start),
        }
    }
}

/// Where the WAL begins that the oldest of these needs.
pub fn earliest(bases: &[&BaseSeen]) -> Option<Lsn> {
    bases.iter().filter_map(|it| Some(needs(it.facts.as_deref()?)?.1)).min()
}

/// `known`: for what was searched already.
pub fn choose(
    bases: &[&BaseSeen],
    archive: Option<(&str, &ArchiveSeen)>,
    target: &Target,
    known: &Survey,
) -> Result<Next, Fault> {
    let (mut candidates, mut passed_over) = (Vec::new(), Vec::new());
    let mut why_none = None;
    for base in bases {
        match candidate(base, archive, target) {
            Ok(candidate) => candidates.push(candidate),
            Err(fault) => {
                passed_over.push((base.path.clone(), fault.causes.first().unwrap_or(&fault.message).clone()));
                why_none = Some(fault);
            }
        }
    }
    candidates.sort_by_key(|it| (it.end(), it.start));
    let mut behind: Option<Lsn> = None;
    let mut searched = 0;
    while let Some(candidate) = candidates.pop() {
        let fits = match archive {
            // The backup alone recovers to its own end only.
            None => Fits::Yes("it is the newest".to_owned()),
            Some(archive) => fits(&candidate, archive, target, behind, known),
        };
        behind = Some(candidate.end());
        match fits {
            Fits::Ask(part) => {
                searched += candidate_bytes(&part, archive);
                if searched > SEARCHED_BYTES {
                    return Err(too_dear(target, searched));
                }
                return Ok(Next::Ask(Box::new(Question::Search(*part))));
            }
            Fits::Yes(why) => {
                let older = candidates
                    .into_iter()
                    .map(|it| (it.path.to_owned(), "older, and so further from the target".to_owned()));
                let passed_over = passed_over.into_iter().chain(older).collect();
                return Ok(Next::Chosen(Choice { path: candidate.path.to_owned(), why, passed_over }));
            }
            Fits::No(why, bytes) => {
                searched += bytes;
                passed_over.push((candidate.path.to_owned(), why));
                if candidates.is_empty() {
                    return Err(too_early(target, &candidate, &passed_over));
                }
            }
        }
    }
    Err(why_none.unwrap_or_else(|| Fault::new(Blame::Harness, "choose among no base backups")))
}

fn candidate<'a>(
    base: &'a BaseSeen,
    archive: Option<(&str, &ArchiveSeen)>,
    target: &Target,
) -> Result<Candidate<'a>, Fault> {
    let unreadable = || Fault::new(Blame::Backup, format!("read {}", base.path)).cause("it could not be read");
    let Some(facts) = base.facts.as_deref() else { return Err(base.unreadable.clone().unwrap_or_else(unreadable)) };
    let Some((timeline, start, stop)) = needs(facts) else {
        return Err(Fault::new(Blame::Backup, format!("place {} in the WAL", base.path))
            .cause("it does not say where its WAL begins")
            .hint("Name it by `path:`, or let `pick:` be `newest`."));
    };
    let mut timelines = vec![(timeline, None)];
    if let Some((path, archive)) = archive {
        let of = archive.headers.iter().find_map(|it| it.system_identifier);
        if let Some((own, of)) = facts.system_identifier().zip(of).filter(|(own, of)| own != of) {
            return Err(Fault::new(Blame::Backup, format!("recover {} with the archive {path}", base.path))
                .cause(format!("it is of the cluster {own}, and the archive of {of}")));
        }
        let chain = chain_of(archive, facts, target).transpose().map_err(|it| no_chain(path, &it))?;
        timelines = chain.map_or(timelines, |it| it.timelines);
    }
    Ok(Candidate { path: &base.path, facts, timelines, start, stop })
}

enum Fits {
    Yes(String),
    /// Why not, and how much WAL was searched for that.
    No(String, u64),
    Ask(Box<WalPart>),
}

/// Whether the target lies behind a backup. `behind`: the end of the next newer one, behind which it was looked for already.
fn fits(
    it: &Candidate<'_>,
    (path, archive): (&str, &ArchiveSeen),
    target: &Target,
    behind: Option<Lsn>,
    known: &Survey,
) -> Fits {
    let part = |from: Lsn, until: Until| WalPart {
        archive: path.to_owned(),
        segment_bytes: archive.segment_bytes,
        timelines: it.timelines.clone(),
        from,
        until,
        target: target.clone(),
    };
    let search = |part: WalPart| match known.answer(&Question::Search(part.clone())) {
        Some(Learnt::Searched(searched)) => Ok(searched.clone()),
        Some(_) | None => Err(Fits::Ask(Box::new(part))),
    };
    match &target.point {
        Point::Latest | Point::Immediate => Fits::Yes(format!("it is the newest: {}", it.words())),
        Point::Lsn(lsn) => match lsn.parse::<Lsn>() {
            Ok(wanted) if it.end() > wanted => Fits::No(format!("{}, behind the target", it.words()), 0),
            Ok(_) | Err(_) => Fits::Yes(format!("it is the newest before the target: {}", it.words())),
        },
        Point::Time(time) => {
            let began = it.facts.label.as_ref().and_then(Label::began);
            if let Some(began) = began.filter(|it| it > time) {
                return Fits::No(format!("it began at {}, after the target", postgres_time(began)), 0);
            }
            let until = it.stop.map_or(Until::EndOfBackup(it.start), Until::Place);
            // From before it began: the label has whole seconds, and an idle cluster may have nothing within the backup.
            let near = Lsn(it.end().0.saturating_sub(BEFORE_ITS_END));
            match search(part(near, until)) {
                Err(ask) => ask,
                Ok(searched) => by_time(it, &searched),
            }
        }
        Point::Xid(_) | Point::Name(_) => {
            let until = behind.map_or(Until::EndOfArchive, Until::Place);
            if until == Until::Place(it.end()) {
                return Fits::No("it ends where another does".to_owned(), 0);
            }
            match search(part(it.end(), until)) {
                Err(ask) => ask,
                Ok(Searched { found: Some(found), .. }) => {
                    Fits::Yes(format!("it is the newest before the target, which is at {}: {}", found.at, it.words()))
                }
                Ok(searched) => {
                    let bytes = searched.segments * archive.segment_bytes;
                    Fits::No(format!("{}, and the target is not in the WAL behind it", it.words()), bytes)
                }
            }
        }
    }
}

fn by_time(it: &Candidate<'_>, searched: &Searched) -> Fits {
    if let Some(found) = &searched.found {
        let time = found.time.map(postgres_time).unwrap_or_default();
        return Fits::No(format!("it holds a transaction of {time}, which is too late ({})", found.at), 0);
    }
    let words = it.words();
    Fits::Yes(match &searched.ended {
        None => format!("it is the newest that holds nothing behind the target: {words}"),
        Some(_) => format!("it is the newest that began before the target: {words}, in WAL that is not in the archive"),
    })
}

/// How much a search may read.
fn candidate_bytes(part: &WalPart, archive: Option<(&str, &ArchiveSeen)>) -> u64 {
    let ends = archive.and_then(|(_, it)| it.stretches.iter().map(|it| (it.last + 1) * part.segment_bytes).max());
    let to = match part.until {
        Until::Place(to) => to.0,
        // Near its beginning, whatever comes behind it.
        Until::EndOfBackup(start) => start.0,
        Until::EndOfArchive => ends.unwrap_or_default(),
    };
    to.saturating_sub(part.from.0)
}

fn too_dear(target: &Target, bytes: u64) -> Fault {
    Fault::new(Blame::Scenario, format!("choose the base backup for {}", target.words()))
        .cause(format!("where it lies, only the WAL tells, and {} GiB of it would have to be read", bytes >> 30))
        .hint("Name the base backup by `path:`, or the target by its time or LSN.")
}

/// `oldest`: the last one that was tried.
fn too_early(target: &Target, oldest: &Candidate<'_>, passed_over: &[(String, String)]) -> Fault {
    let began = oldest.facts.label.as_ref().and_then(|it| it.started.as_ref());
    let began = began.map(|it| format!(", begun at {it}")).unwrap_or_default();
    let fault = Fault::new(Blame::Scenario, format!("find a base backup from which to recover to {}", target.words()))
        .cause(format!("the earliest that can be recovered is the end of {}: {}{began}", oldest.path, oldest.words()));
    let why = passed_over.iter().map(|(path, why)| format!("{path}: {why}"));
    why.fold(fault, Fault::cause)
        .hint("Name a later target; if an older backup should have been kept, look at what retention removed.")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
#[path = "best_tests.rs"]
mod tests;
