//! Whose fault it is that recovery ended: what a server says last, from its log in the C locale.

use super::Whose;

/// What `PostgreSQL` (xlogrecovery.c, xlog.c, xlogreader.c, timeline.c) says, and what it means for a drill whose WAL comes from
/// an archive that pgdrill itself reads. The first that is found counts.
const SAYINGS: &[(&str, Whose)] = &[
    (
        "recovery ended before configured recovery target was reached",
        Whose::scenario(
            "the archive ends before the target: choose an earlier one, or `latest`; if it should be there, look for the \
             archiver's lag or a wrong `wal:`",
        ),
    ),
    (
        "recovery target timeline",
        Whose::scenario("no history file of that timeline is in the archive: correct `timeline` of the target"),
    ),
    (
        "requested timeline",
        Whose::scenario(
            "the backup is not an ancestor of that timeline: choose another backup, or `timeline: current`",
        ),
    ),
    (
        "requested recovery stop point is before consistent recovery point",
        Whose::scenario("the target lies before the end of this backup: choose an older backup, or a later target"),
    ),
    (
        "the server goes no further than",
        Whose::backup(
            "WAL is missing there or cannot be read: look for it on the primary and in other copies, and make a new base backup",
        ),
    ),
    (
        "takes no connections there yet",
        Whose::scenario("name the targets, and begin with one that lies behind the end of the backup"),
    ),
    ("insufficient parameter settings", Whose::scenario("raise the named parameters under `restore.settings`")),
    ("could not locate required checkpoint record", LACKS_WAL),
    ("could not locate a valid checkpoint record", LACKS_WAL),
    ("could not find redo location", LACKS_WAL),
    ("WAL ends before end of online backup", LACKS_WAL),
    ("WAL ends before consistent recovery point", LACKS_WAL),
    (
        "WAL file is from different database system",
        Whose::backup(
            "the archive holds WAL of another cluster: correct `wal:`, or find out who writes into this archive",
        ),
    ),
    (
        "database files are incompatible with server",
        Whose::host(
            "the backup is of another build of PostgreSQL: use an image with the same block sizes and architecture",
        ),
    ),
    (
        "WAL contains references to invalid pages",
        Whose::backup(
            "the backup lacks pages that its WAL changes: it was not taken between backup start and stop, or was cut",
        ),
    ),
    (
        "not supported by build",
        Whose::host(
            "this PostgreSQL was built without the compression that the WAL uses (wal_compression): use another image",
        ),
    ),
    (
        "resource manager with ID",
        Whose::host(
            "an extension writes WAL of its own kind: use an image that has it, and name it as `shared_preload_libraries` under \
             `restore.settings`",
        ),
    ),
    ("could not map anonymous shared memory", Whose::host("raise `postgres.memory`, or lower shared_buffers")),
    ("could not create locale", Whose::host("the server lacks a locale of the backup: use an image that has it")),
    (
        "database locale is incompatible",
        Whose::host("the server lacks a locale of the backup: use an image that has it"),
    ),
    ("No space left on device", Whose::host("the disk is full: free some space, or point TMPDIR at a larger disk")),
    ("PANIC:", Whose::backup("the server gave up on the backup's data: see its log among the files of the run")),
];

const LACKS_WAL: Whose = Whose::backup(
    "WAL that the backup itself needs is neither in it nor in the archive: a backup made with -X none needs the archive from its \
     start on",
);

/// What the log of a server that ended in recovery means; None where it says nothing of the kind.
pub(super) fn by_log(log: &str) -> Option<Whose> {
    SAYINGS.iter().find(|(saying, _)| log.contains(saying)).map(|(_, whose)| *whose)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Blame;

    #[test]
    fn what_recovery_says_is_somebodys_fault() {
        for (log, blame) in [
            (
                "FATAL:  could not restore image at 0/1699ED8 compressed with lz4 not supported by build, block 0",
                Blame::Host,
            ),
            ("FATAL:  resource manager with ID 129 not registered", Blame::Host),
            ("FATAL:  could not locate required checkpoint record", Blame::Backup),
            ("FATAL:  recovery ended before configured recovery target was reached", Blame::Scenario),
            ("PANIC:  WAL contains references to invalid pages", Blame::Backup),
        ] {
            assert_eq!(by_log(log).map(|it| it.blame), Some(blame), "{log}");
        }
        assert!(by_log("LOG:  redo done at 0/4000100").is_none());
    }
}
