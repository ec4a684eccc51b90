//! Whether the archive that a drill reads is the one that the server fills, by the configuration that the backup itself holds.
//!
//! Paths are not compared: what is `/srv/wal` on the server is another place here. URLs are, as they mean the same everywhere;
//! and else what archives at all.

use super::CheckJudged;
use crate::check::{ARCHIVING, Finding, Judged, Population, Severity};
use crate::evidence::Evidence;
use crate::format::archiving::{Feeds, archiving};
use crate::scenario::Drill;
use crate::source::service::Service;
use crate::source::{BaseTool, Source};

/// What follows for the verdict.
#[derive(Debug, Default)]
pub(super) struct Archived {
    pub(super) check: Option<CheckJudged>,
    pub(super) findings: Vec<String>,
}

/// Nothing where no archive is read, or where the configuration lies outside of the backup.
pub(super) fn judged(evidence: &Evidence, drill: &Drill) -> Archived {
    let mut archived = Archived::default();
    let Source::BaseBackup(source) = &drill.source else { return archived };
    let facts = evidence.plan.as_ref().and_then(|it| evidence.survey.base(&it.backup.file.path));
    let told = facts.and_then(|it| archiving(&it.settings));
    let (Some(wal), Some(told)) = (&source.wal, told) else { return archived };
    // Databasus takes WAL by streaming, and cares for no archive_command.
    if source.tool == BaseTool::Databasus {
        return archived;
    }
    archived.findings.extend(told.flaws.iter().map(|it| it.words().to_owned()));
    if let Some(fed) = told.feeds.url() {
        let copies = drill.copies.iter().flat_map(|it| &it.others).filter_map(|it| it.wal.as_ref());
        let declared: Vec<&str> = [wal].into_iter().chain(copies).map(|it| it.trim_end_matches('/')).collect();
        if declared.contains(&fed.as_str()) {
            return archived;
        }
        // Another bucket may be a replica of this one.
        if declared.iter().all(|it| Service::root(it) == Service::root(&fed)) {
            let expected = format!("the archive that the server fills: {fed}");
            archived.check = Some(check(Finding::Broken { expected, observed: wal.clone() }));
            return archived;
        }
        archived.findings.push(format!("the server archives to {fed}: what fills {wal} is not its archive_command"));
    }
    let finding = match (source.tool, &told.feeds) {
        (_, Feeds::Nothing) => {
            archived.findings.push(
                "archiving is off in the backup's own configuration: what fills the archive is not archive_command"
                    .to_owned(),
            );
            return archived;
        }
        (BaseTool::PgBasebackup, Feeds::WalG(_) | Feeds::PgBackRest(_) | Feeds::Barman(_) | Feeds::BarmanCloud(..)) => {
            Finding::Broken {
                expected: format!("the archive that the server fills: {}", told.feeds.words()),
                observed: format!("a directory of segments, {wal}"),
            }
        }
        (BaseTool::PgBackRest, Feeds::PgBackRest(Some(stanza))) if !wal.ends_with(&format!("/{stanza}")) => {
            Finding::Broken { expected: format!("the archive of the stanza {stanza}"), observed: wal.clone() }
        }
        (BaseTool::Barman, Feeds::Barman(Some(server))) if !wal.ends_with(&format!("/{server}/wals")) => {
            Finding::Broken { expected: format!("the archive of the server {server}"), observed: wal.clone() }
        }
        // What cannot be told apart from here accuses nobody.
        (
            BaseTool::PgBasebackup
            | BaseTool::WalG
            | BaseTool::Barman
            | BaseTool::BarmanCloud
            | BaseTool::PgBackRest
            | BaseTool::Databasus,
            Feeds::Files(_)
            | Feeds::WalG(_)
            | Feeds::PgBackRest(_)
            | Feeds::Barman(_)
            | Feeds::BarmanCloud(..)
            | Feeds::Library(_)
            | Feeds::Other(_),
        ) => return archived,
    };
    archived.check = Some(check(finding));
    archived
}

fn check(finding: Finding) -> CheckJudged {
    let judged = Judged { finding, population: Population { examined: 1, of: "archive".to_owned() } };
    CheckJudged::new(ARCHIVING, Severity::Major, judged)
}
