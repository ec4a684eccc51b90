//! What a restored cluster carries beside what checks examine: never a failure, and always to be known.

use crate::evidence::Evidence;
use crate::recipe::{Around, Doubt, Doubtful};

/// Indexes that a finding names.
const NAMED: usize = 20;

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
        let here = version(it.here.as_ref());
        all.push(format!(
            "database {}: texts were ordered by {} of version {}, and this host has {here}: whether its indexes on texts are \
             right cannot be told here; use the operating system of the source, or reindex",
            it.database, it.collation, it.recorded
        ));
    }
    all.extend(around.indexes.iter().map(doubtful));
    for (database, nodes) in &around.coordinators {
        let them = if *nodes == 1 { "another server".to_owned() } else { format!("{nodes} other servers") };
        all.push(format!(
            "database {database} coordinates {them} (Citus), which hold the rows of its distributed tables: this backup alone \
             recovers none of them"
        ));
    }
    all.extend(around.unknown.iter().map(|it| format!("not known: {it}")));
    all
}

fn doubtful(it: &Doubtful) -> String {
    let some = it.names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    let names = match it.names.len().saturating_sub(NAMED) {
        0 => some,
        more => format!("{some} and {more} more"),
    };
    let why = because(&it.because);
    format!("database {}: {why}: whether these indexes are right cannot be told here: {names}", it.database)
}

/// What a host has of a collation.
fn version(here: Option<&String>) -> String {
    here.map_or_else(|| "no such collation".to_owned(), |it| format!("version {it}"))
}

/// As a clause.
fn because(doubt: &Doubt) -> String {
    match doubt {
        Doubt::Collation { name, recorded, here } => {
            let here = version(here.as_ref());
            let recorded = recorded.as_ref().map_or_else(
                || "of a C library that has no versions (musl)".to_owned(),
                |it| format!("of version {it}"),
            );
            format!("texts were ordered by {name} {recorded}, and this host has {here}")
        }
        Doubt::Signedness => {
            "trigrams were ordered on an architecture whose C `char` has a sign where this one's has none, or the reverse".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::CollationSeen;

    #[test]
    fn indexes_that_this_host_may_read_wrongly_are_named_with_the_reason() {
        let (name, recorded, here) = ("de_DE.UTF-8".to_owned(), Some("2.28".to_owned()), Some("2.36".to_owned()));
        let collation = Doubt::Collation { name, recorded, here };
        let names = |count| (0..count).map(|it| format!("public.i{it}")).collect();
        let of = |because, count| Doubtful { database: "shop".to_owned(), because, names: names(count) };
        let around = Around {
            indexes: vec![of(collation, 2), of(Doubt::Signedness, 48)],
            coordinators: vec![("shop".to_owned(), 1), ("events".to_owned(), 4)],
            ..Around::default()
        };
        let all = words(&around);
        assert!(all[0].starts_with(
            "database shop: texts were ordered by de_DE.UTF-8 of version 2.28, and this host has version 2.36:"
        ));
        assert!(all[0].ends_with("cannot be told here: public.i0, public.i1"), "{all:?}");
        assert!(all[1].contains("`char`") && all[1].ends_with("public.i18, public.i19 and 28 more"), "{all:?}");
        assert!(all[2].contains("coordinates another server (Citus)") && all[3].contains("4 other servers"), "{all:?}");
    }

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
