use super::*;
use crate::format::base::ManifestFound;
use crate::format::manifest::{ManifestFacts, WalRange};
use crate::recipe::Found;

const MIB: u64 = 1 << 20;

/// A base backup whose WAL begins within this segment of a MiB and ends within the next.
fn base(path: &str, segment: u64, started: &str) -> BaseSeen {
    let at = |segment: u64, offset: u64| Lsn(segment * MIB + offset).to_string();
    let wal = vec![WalRange { timeline: 1, start: at(segment, 40), end: at(segment + 1, 80) }];
    let facts = BaseFacts {
        label: Some(Label {
            start: at(segment, 40),
            timeline: Some(1),
            started: Some(started.to_owned()),
            after: None,
        }),
        manifest: ManifestFound::Whole(ManifestFacts { wal, ..ManifestFacts::default() }),
        ..BaseFacts::bare()
    };
    BaseSeen { path: path.to_owned(), facts: Some(Box::new(facts)), unreadable: None }
}

fn bases() -> [BaseSeen; 3] {
    [
        base("/b/monday", 3, "2026-11-23 02:00:00 UTC"),
        base("/b/wednesday", 40, "2026-11-25 02:00:00 UTC"),
        base("/b/tuesday", 20, "2026-11-24 02:00:00 UTC"),
    ]
}

fn archive() -> ArchiveSeen {
    let names: Vec<String> =
        (1..90).map(|number| crate::format::lsn::Segment { timeline: 1, number }.name(MIB)).collect();
    ArchiveSeen::of(MIB, names.iter().map(|it| (it.as_str(), Some(MIB))).collect())
}

fn target(point: Point) -> Target {
    Target { point, ..Target::default() }
}

/// Chooses, with answers of the WAL: the first record of the part at which recovery stops.
fn chosen(point: Point, answer: impl Fn(&WalPart) -> Option<Found>) -> Result<Choice, Fault> {
    let (bases, archive, target) = (bases(), archive(), target(point));
    let mut known = Survey::default();
    loop {
        match choose(&bases.each_ref(), Some(("/w", &archive)), &target, &known)? {
            Next::Chosen(choice) => return Ok(choice),
            Next::Ask(question) => {
                let Question::Search(part) = &*question else { panic!("{question:?}") };
                let searched = Searched { found: answer(part), segments: 1, ended: None };
                assert!(known.answer(&question).is_none(), "asked twice");
                known.0.push((*question, Learnt::Searched(searched)));
            }
        }
    }
}

fn time(text: &str) -> Point {
    Point::Time(text.parse().unwrap())
}

#[test]
fn the_newest_that_ends_before_the_target_is_chosen_and_the_others_are_told() {
    let lsn = |text: &str| Point::Lsn(text.to_owned());
    for (point, expected) in [
        (Point::Latest, "/b/wednesday"),
        (Point::Immediate, "/b/wednesday"),
        (lsn("0/2900050"), "/b/wednesday"),
        // Within the backup of Wednesday it is not consistent yet.
        (lsn("0/290004F"), "/b/tuesday"),
        (lsn("0/1500050"), "/b/tuesday"),
        (lsn("0/1400000"), "/b/monday"),
    ] {
        let choice = chosen(point.clone(), |_| None).unwrap();
        assert_eq!(choice.path, expected, "{point:?}: {choice:?}");
        assert_eq!(choice.passed_over.len(), 2, "{choice:?}");
        assert!(choice.why.contains("it is the newest"), "{choice:?}");
    }
}

#[test]
fn a_time_is_compared_with_when_backups_began_and_what_they_hold() {
    let choice = chosen(time("2026-11-25T09:00:00Z"), |_| None).unwrap();
    assert_eq!(choice.path, "/b/wednesday");
    let choice = chosen(time("2026-11-24T09:00:00Z"), |_| None).unwrap();
    assert_eq!(choice.path, "/b/tuesday");
    assert_eq!(choice.passed_over[0].1, "it began at 2026-11-25 02:00:00.000000+00, after the target");
    // The backup of Wednesday began before it, and a transaction of a second later came before its end.
    let late = |part: &WalPart| {
        let time = Some("2026-11-25T02:00:02Z".parse().unwrap());
        (part.until == Until::Place(Lsn(41 * MIB + 80))).then_some(Found { at: Lsn(40 * MIB + 900), time })
    };
    let choice = chosen(time("2026-11-25T02:00:01Z"), late).unwrap();
    assert_eq!(choice.path, "/b/tuesday");
    assert!(choice.passed_over[0].1.contains("which is too late (0/2800384)"), "{choice:?}");
}

#[test]
fn a_restore_point_is_looked_for_from_the_newest_backup_backwards() {
    let point = Point::Name("mark".to_owned());
    let at = Lsn(30 * MIB);
    let holds = |part: &WalPart| {
        let until = match part.until {
            Until::Place(to) => to,
            Until::EndOfBackup(_) | Until::EndOfArchive => Lsn(u64::MAX),
        };
        (part.from <= at && at < until).then_some(Found { at, time: None })
    };
    let choice = chosen(point.clone(), holds).unwrap();
    assert_eq!(choice.path, "/b/tuesday");
    assert!(choice.why.contains("which is at 0/1E00000"), "{choice:?}");
    let fault = chosen(point, |_| None).unwrap_err();
    assert_eq!(fault.blame, Blame::Scenario);
    assert!(fault.causes.iter().all(|it| !it.is_empty()) && fault.causes.len() == 4, "{fault:?}");
}

#[test]
fn a_target_before_every_backup_is_refused_with_the_earliest_that_can_be_recovered() {
    for point in [time("2026-11-20T00:00:00Z"), Point::Lsn("0/200000".to_owned())] {
        let fault = chosen(point, |_| None).unwrap_err();
        assert_eq!(fault.blame, Blame::Scenario);
        let cause = &fault.causes[0];
        assert!(
            cause.contains("the end of /b/monday: it ends at 0/400050, begun at 2026-11-23 02:00:00 UTC"),
            "{fault:?}"
        );
    }
}

#[test]
fn a_backup_that_cannot_be_read_or_is_of_another_cluster_is_passed_over() {
    let mut bases = bases();
    let unreadable = Fault::new(Blame::Backup, "read it").cause("it is garbled");
    (bases[1].facts, bases[1].unreadable) = (None, Some(unreadable));
    let mut archive = archive();
    archive.headers.push(crate::format::wal_archive::SegmentSeen {
        name: String::new(),
        system_identifier: Some(7),
        wrong: None,
    });
    if let Some(ManifestFound::Whole(it)) = bases[2].facts.as_mut().map(|it| &mut it.manifest) {
        it.system_identifier = Some(8);
    }
    let next = choose(&bases.each_ref(), Some(("/w", &archive)), &Target::default(), &Survey::default()).unwrap();
    let Next::Chosen(choice) = next else { panic!("{next:?}") };
    assert_eq!(choice.path, "/b/monday");
    let whys: Vec<&str> = choice.passed_over.iter().map(|it| it.1.as_str()).collect();
    assert_eq!(whys, ["it is garbled", "it is of the cluster 8, and the archive of 7"]);
}
