//! Which base backups an incremental one builds upon.
//!
//! What surprises: no backup names another. An incremental backup only says where in the WAL the one before it began, so that
//! is what they are found by; and a stranger that began at the same place is told by its system identifier.

use crate::fault::{Blame, Fault};
use crate::format::base::{After, BaseFacts};
use crate::format::lsn::Lsn;
use crate::recipe::BaseSeen;

/// A base backup of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link<'a> {
    pub path: &'a str,
    pub facts: &'a BaseFacts,
}

/// The backups that `last` builds upon, the full one first. Empty where it is a full one itself.
pub fn before<'a>(last: Link<'a>, known: &[&'a BaseSeen]) -> Result<Vec<Link<'a>>, Fault> {
    let mut links: Vec<Link<'_>> = Vec::new();
    let mut at = last;
    while let Some(after) = at.facts.label.as_ref().and_then(|it| it.after.as_ref()) {
        let before = predecessor(at, after, known)?;
        // Each begins before the next, so that this ends.
        if start(before.facts) >= start(at.facts) {
            return Err(missing(at, after, "what is there instead begins after it"));
        }
        links.insert(0, before);
        at = before;
    }
    Ok(links)
}

fn start(facts: &BaseFacts) -> Option<Lsn> {
    facts.label.as_ref()?.start.parse().ok()
}

fn predecessor<'a>(of: Link<'_>, after: &After, known: &[&'a BaseSeen]) -> Result<Link<'a>, Fault> {
    let link = |it: &&'a BaseSeen| Some(Link { path: it.path.as_str(), facts: it.facts.as_deref()? });
    let fits = |it: &Link<'_>| {
        let label = it.facts.label.as_ref();
        start(it.facts) == after.start.parse().ok()
            && label.and_then(|it| it.timeline).is_none_or(|it| it == after.timeline)
            && it.path != of.path
    };
    let fitting: Vec<Link<'a>> = known.iter().filter_map(link).filter(fits).collect();
    if let Some(found) = fitting.iter().find(|it| is_of_one_cluster(it.facts, of.facts)) {
        return Ok(*found);
    }
    if let Some(foreign) = fitting.first() {
        let of_cluster = |it: &BaseFacts| {
            it.system_identifier().map_or_else(|| "another major".to_owned(), |it| format!("cluster {it}"))
        };
        let why = format!(
            "{} begins there, but is of {}, and this one is of {}",
            foreign.path,
            of_cluster(foreign.facts),
            of_cluster(of.facts)
        );
        return Err(missing(of, after, &why));
    }
    let complaint = known.iter().filter_map(|it| it.unreadable.as_ref()).map(Fault::line).next();
    let looked = format!("{} base backups were looked at, and none begins there", known.len());
    let fault = missing(of, after, &looked);
    Err(match complaint {
        Some(complaint) => fault.cause(format!("one of them cannot be read: {complaint}")),
        None => fault,
    })
}

fn is_of_one_cluster(one: &BaseFacts, other: &BaseFacts) -> bool {
    let same = one.system_identifier().zip(other.system_identifier()).is_none_or(|(one, other)| one == other);
    same && one.major == other.major
}

fn missing(of: Link<'_>, after: &After, why: &str) -> Fault {
    Fault::new(Blame::Backup, format!("find what the incremental backup {} builds upon", of.path))
        .cause(format!("it needs the backup that begins at {} on timeline {}: {why}", after.start, after.timeline))
        .hint(
            "look whether retention removed it; and let `path:` be the directory that holds the full backup and all incremental \
             ones, or a pattern that matches them",
        )
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::format::base::{Label, ManifestFound};
    use crate::format::manifest::ManifestFacts;

    fn seen(path: &str, start: &str, after: Option<&str>, identifier: Option<u64>) -> BaseSeen {
        let manifest = ManifestFacts { version: 2, system_identifier: identifier, ..ManifestFacts::default() };
        let facts = BaseFacts {
            label: Some(Label {
                start: start.to_owned(),
                timeline: Some(1),
                started: None,
                after: after.map(|start| After { start: start.to_owned(), timeline: 1 }),
            }),
            manifest: ManifestFound::Whole(manifest),
            ..BaseFacts::bare()
        };
        BaseSeen { path: path.to_owned(), facts: Some(Box::new(facts)), unreadable: None }
    }

    fn chain(last: &BaseSeen, known: &[&BaseSeen]) -> Result<Vec<String>, Fault> {
        let facts = last.facts.as_deref().unwrap();
        before(Link { path: &last.path, facts }, known).map(|it| it.iter().map(|it| it.path.to_owned()).collect())
    }

    #[test]
    fn a_chain_is_found_in_whatever_order_it_lies() {
        let full = seen("/b/z-full", "0/2000028", None, Some(7));
        let stranger = seen("/b/a-stranger", "0/2000028", None, Some(8));
        let first = seen("/b/m", "0/4000028", Some("0/2000028"), Some(7));
        let other = seen("/b/n", "0/5000028", Some("0/2000028"), Some(7));
        let last = seen("/b/c", "0/6000028", Some("0/4000028"), Some(7));
        let all = [&last, &stranger, &first, &other, &full];
        assert_eq!(chain(&last, &all).unwrap(), ["/b/z-full", "/b/m"]);
        assert_eq!(chain(&other, &all).unwrap(), ["/b/z-full"]);
        assert_eq!(chain(&full, &all).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn what_is_missing_or_foreign_is_named_and_the_backups_fault() {
        let first = seen("/b/first", "0/4000028", Some("0/2000028"), Some(7));
        let last = seen("/b/last", "0/6000028", Some("0/4000028"), Some(7));
        let stranger = seen("/b/stranger", "0/2000028", None, Some(8));
        let fault = chain(&last, &[&first, &last]).unwrap_err();
        assert_eq!(fault.blame, Blame::Backup);
        assert!(
            fault.line().contains("/b/first") && fault.line().contains("0/2000028 on timeline 1"),
            "{}",
            fault.line()
        );
        let fault = chain(&last, &[&first, &last, &stranger]).unwrap_err();
        assert!(fault.line().contains("/b/stranger begins there, but is of cluster 8, and this one is of cluster 7"));
    }

    #[test]
    fn backups_that_claim_to_build_upon_each_other_end() {
        let one = seen("/b/one", "0/4000028", Some("0/6000028"), Some(7));
        let two = seen("/b/two", "0/6000028", Some("0/4000028"), Some(7));
        assert!(chain(&one, &[&one, &two]).is_err());
    }
}
