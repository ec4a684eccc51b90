//! What a restored cluster carries beside what checks examine: never a failure, and always to be known.

use crate::evidence::Evidence;
use crate::recipe::Around;

pub(super) fn findings(evidence: &Evidence) -> Vec<String> {
    let around = evidence.done.iter().filter_map(|it| it.output.around.as_ref());
    around.flat_map(words).collect()
}

fn words(around: &Around) -> Vec<String> {
    let mut all = Vec::new();
    for it in &around.prepared {
        all.push(format!(
            "a prepared transaction waits for its end and holds its locks: “{}” of {} in {}, since {}",
            it.gid, it.owner, it.database, it.since
        ));
    }
    for it in &around.closed {
        all.push(if it.half_dropped {
            format!("database {} was being dropped, and is only in the way: it was not examined", it.database)
        } else {
            format!("database {} lets nobody connect: it was not examined", it.database)
        });
    }
    for it in &around.collations {
        let here = it.here.as_ref().map_or_else(|| "no such collation".to_owned(), |it| format!("version {it}"));
        all.push(format!(
            "database {}: texts were ordered by {} of version {}, and this host has {here}: whether its indexes on texts are \
             right cannot be told here; use the operating system of the source, or reindex",
            it.database, it.collation, it.recorded
        ));
    }
    all.extend(around.unknown.iter().map(|it| format!("not known: {it}")));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::CollationSeen;

    #[test]
    fn another_version_of_a_collation_is_told_and_accuses_nobody() {
        let collation = |here: Option<&str>| CollationSeen {
            database: "shop".to_owned(),
            collation: "de_DE.UTF-8".to_owned(),
            recorded: "2.31".to_owned(),
            here: here.map(str::to_owned),
        };
        let around = Around { collations: vec![collation(Some("2.36")), collation(None)], ..Around::default() };
        let all = words(&around);
        assert!(all[0].contains("by de_DE.UTF-8 of version 2.31, and this host has version 2.36:"), "{all:?}");
        assert!(all[1].contains("this host has no such collation:"), "{all:?}");
        assert!(words(&Around::default()).is_empty());
    }
}
