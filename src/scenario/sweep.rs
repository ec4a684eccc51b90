//! Where a sweep stops: what is written, and what cannot go with it.

use super::collect::At;
use super::convert::Converter;
use super::problem::{Mistake, Span};
use super::wire::{WireDrill, WireTargets, WireTargetsKeys};
use crate::target::{Points, Sweep, Target, Timeline};

/// More stops than these take longer than anybody waits for.
const MOST: u32 = 1000;

impl Converter<'_> {
    /// Takes the targets of a drill, where it has several.
    pub(super) fn sweep(&self, wire: &mut WireDrill) -> Option<Sweep> {
        let targets = wire.targets.take()?;
        let span = targets.span;
        let refuse = |span: Span, message: &str, help: &str| self.note(Mistake::new(span, message).help(help));
        let source = &wire.source.value;
        if source.is_dump() {
            let help = "take `targets` away, or name a base backup with its WAL archive";
            refuse(span, "a dump has one state, and no points in time to recover to", help);
            return None;
        }
        if source.lacks_wal() {
            let help = "name the archive as `wal:` of the source";
            refuse(span, "a base backup alone recovers to its own end only", help);
        }
        if let Some(target) = &wire.target {
            refuse(target.span, "`target` beside `targets`", "take one of them away: a drill has one or the other");
        }
        let objectives = wire.objectives.as_ref().map(|it| &it.value);
        if let Some(rto) = objectives.and_then(|it| it.rto.as_ref()) {
            let help = "take `rto` away, or drill one `target` for it";
            refuse(rto.span, "a sweep proves no recovery time: it stops on the way", help);
        }
        let sweep = match targets.value {
            WireTargets::Keys(keys) => self.chosen(*keys, span)?,
            WireTargets::Each(each) => {
                let each: Vec<(Target, Span)> = each
                    .into_iter()
                    .map(|it| (it.span, it.value))
                    .map(|(span, it)| (self.one_target(it, span), span))
                    .collect();
                let Some(timeline) = each.first().map(|it| it.0.timeline) else {
                    refuse(span, "no targets", "list at least one");
                    return None;
                };
                if let Some((_, span)) = each.iter().find(|it| it.0.timeline != timeline) {
                    refuse(
                        *span,
                        "another timeline than the first target's",
                        "one replay follows one timeline: give all the same",
                    );
                }
                Sweep { points: Points::Each(each.into_iter().map(|it| it.0).collect()), timeline }
            }
        };
        let ends = matches!(sweep.points, Points::Every(_) | Points::Count(_));
        if let Some(heartbeat) = objectives.and_then(|it| it.heartbeat.as_ref()).filter(|_| !ends) {
            let help = "sweep by `every` or `count`, or take `heartbeat` away";
            refuse(
                heartbeat.span,
                "the last of these targets need not be the end of the archive, where heartbeats count",
                help,
            );
        }
        Some(sweep)
    }

    fn chosen(&self, keys: WireTargetsKeys, span: Span) -> Option<Sweep> {
        let WireTargetsKeys { every, count, random, seed, timeline } = keys;
        let given = usize::from(every.is_some()) + usize::from(count.is_some()) + usize::from(random.is_some());
        if given != 1 {
            let what = if given == 0 {
                "neither `every`, `count` nor `random`"
            } else {
                "more than one of `every`, `count` and `random`"
            };
            self.note(Mistake::new(span, what).help("give one, like `targets: { count: 20 }`"));
            return None;
        }
        if let Some(seed) = seed.as_ref().filter(|_| random.is_none()) {
            self.note(Mistake::new(seed.span, "`seed` without `random`").help("take it away"));
        }
        for At { span, value, .. } in [&count, &random].into_iter().flatten() {
            if value.0 > MOST {
                let mistake = Mistake::new(*span, format!("{} targets", value.0));
                self.note(mistake.help(format!("a sweep has at most {MOST}")));
            }
        }
        let seed = seed.map_or(self.environment.seed, |it| it.value);
        let points = every
            .map(|it| Points::Every(it.value.0))
            .or(count.map(|it| Points::Count(it.value.0)))
            .or(random.map(|it| Points::Random { count: it.value.0, seed }))?;
        Some(Sweep { points, timeline: timeline.map_or(Timeline::Latest, |it| self.timeline(&it)) })
    }
}
