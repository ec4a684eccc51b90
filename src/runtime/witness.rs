//! Reads WAL out of an archive for [`Witness`].

use std::ops::ControlFlow;
use std::path::Path;

use crate::fault::Fault;
use crate::format::lsn::{Lsn, Segment};
use crate::format::wal::Reader;
use crate::recipe::WalSeen;
use crate::source::witness::Witness;
use crate::store::{self, Reading};
use crate::target::Target;

/// Segments to look into behind the stop for a transaction that was not replayed.
const BEHIND: u32 = 64;

/// `segments`: those that were replayed, in their order. What comes behind them is read on, as far as the archive has it.
pub(super) fn read(
    archive: &Path,
    segments: &[String],
    segment_bytes: u64,
    target: &Target,
    (replayed, whole): (Option<Lsn>, bool),
    stop: &Reading,
    said: &mut dyn FnMut(&str),
) -> Result<WalSeen, Fault> {
    let (mut witness, mut reader) = (Witness::new(target, replayed, whole), Reader::new(segment_bytes));
    let (mut first, mut last): (Option<String>, Option<String>) = (None, None);
    let mut ended = None;
    let (mut next, mut behind) = (segments.first().cloned(), 0);
    while let Some(name) = next.take() {
        let Some(file) = store::find_wal(archive, &name, stop)? else {
            ended = Some(format!("the archive has no {name}"));
            break;
        };
        said(&name);
        let mut enough = false;
        let mut trouble = None;
        store::read_wal(&file, stop, &mut |page| {
            let mut on_record = |record| enough |= !enough && witness.record(&record).is_break();
            if let Err(stopped) = reader.page(page, &mut on_record) {
                trouble = Some(format!("{name}, at {}: {}", stopped.at, stopped.because));
            }
            if enough || trouble.is_some() || reader.has_ended() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        first.get_or_insert_with(|| name.clone());
        // What was fetched ahead need not have been asked for. Of a later timeline the server asks.
        next = Segment::parse(&name, segment_bytes).map(|it| {
            let next = it.following().name(segment_bytes);
            let asked = segments.iter().find(|it| it[8..] == next[8..]);
            behind += u32::from(asked.is_none());
            asked.cloned().unwrap_or(next)
        });
        last = Some(name);
        if behind > BEHIND && !whole {
            break;
        }
        if enough {
            break;
        }
        if trouble.is_some() || reader.has_ended() {
            ended = trouble.or_else(|| Some(format!("WAL ends at {}", reader.end().unwrap_or_default())));
            break;
        }
    }
    Ok(WalSeen { segments: first.zip(last), records: reader.records(), ended, ..witness.finish() })
}
