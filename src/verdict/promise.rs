//! The checks that nobody wrote: whether the dump kept its promise.

use std::time::Duration;

use super::CheckJudged;
use crate::check::promise::{Aspect, Group};
use crate::check::{Answer, Finding, Judged, Population, Severity};
use crate::evidence::Evidence;

/// Empty where the plan does not look for what the dump promises.
pub(super) fn judged(evidence: &Evidence, stop: usize) -> Vec<CheckJudged> {
    let Some(promise) = evidence.promise() else { return Vec::new() };
    let first = evidence.asked.as_ref().map_or(0, |it| it.checks.len());
    let asked = |group: Group| evidence.answers.get(stop)?.get(first + group as usize);
    let answers: Vec<&[Answer]> =
        Group::ALL.into_iter().map(|it| asked(it).map_or(&[][..], |it| it.answers.as_slice())).collect();
    if answers.iter().all(|it| it.is_empty()) && !promise.probes(Group::Objects, &[]).is_empty() {
        let finding = Finding::Unknown { because: "the drill ended before it was asked".to_owned() };
        let judged = Judged { finding, population: Population::default() };
        return vec![CheckJudged::new("promise: objects", Severity::Major, judged)];
    }
    let lowers = evidence.asked.as_ref().is_some_and(|it| super::lowers(evidence, it));
    let with_time = |it: Aspect| CheckJudged {
        elapsed: asked(it.group).map_or(Duration::ZERO, |it| it.elapsed),
        objects: it.objects,
        ..CheckJudged::new(it.name, if lowers { Severity::Minor } else { it.severity }, it.judged)
    };
    promise.judge(&answers).into_iter().map(with_time).collect()
}
