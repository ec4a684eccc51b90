//! Whether a tool's repository holds what it should: every backup, not only the one that was restored.

use super::CheckJudged;
use crate::check::{Finding, Judged, Population, REPOSITORY, Severity};
use crate::evidence::Evidence;
use crate::fault::Blame;
use crate::recipe::Verified;

/// The check, and whether what is unknown of it is so because of the machine. None where nobody asked for it, or where the drill ended
/// before.
pub(super) fn judged(evidence: &Evidence) -> Option<(CheckJudged, bool)> {
    let (verified, elapsed) = evidence.done.iter().find_map(|it| Some((it.output.verified.as_ref()?, it.elapsed)))?;
    let Verified { backups, files, bytes, segments, .. } = verified;
    let finding = if verified.wrong_total > 0 {
        let listed: Vec<String> = verified.wrong.iter().map(|it| format!("{}: {}", it.what, it.why)).collect();
        let more = verified.wrong_total - listed.len() as u64;
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        Finding::Broken {
            expected: "every backup and segment as its checksum says".to_owned(),
            observed: format!("{}{more}", listed.join("; ")),
        }
    } else if let Some(trouble) = &verified.trouble {
        Finding::Unknown { because: trouble.line() }
    } else {
        let observed = format!(
            "{backups} backups of {files} files and {segments} segments, {bytes} bytes: each as its checksum says"
        );
        Finding::Held { observed }
    };
    let population = Population { examined: files + segments, of: "files and segments".to_owned() };
    let objects = verified.wrong.iter().map(|it| it.what.clone()).collect();
    let check = CheckJudged::new(REPOSITORY, Severity::Major, Judged { finding, population });
    let host = verified.trouble.as_ref().is_some_and(|it| it.blame == Blame::Host);
    Some((CheckJudged { elapsed, objects, ..check }, host))
}
