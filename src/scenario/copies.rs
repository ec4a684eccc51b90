//! Where a backup is kept more than once: what is written of its copies, and which of them is restored.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Drill;
use super::collect::At;
use super::convert::Converter;
use super::problem::{Mistake, Span};
use super::units::Text;
use super::wire::WireCopy;
use crate::source::service::Service;
use crate::source::{BaseTool, Source, StoreRef};

/// What the source itself is called where nobody gives it a name.
const ORIGINAL: &str = "original";

/// One backup, kept in several places.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Copies {
    /// Of the one that is restored.
    pub own: Placement,
    pub others: Vec<BackupCopy>,
    /// A drill from each of them. Taken apart before a drill runs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub each: bool,
}

/// Where a copy is kept, in the words of its keeper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Placement {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
}

/// A place that is said to hold the same backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackupCopy {
    pub placement: Placement,
    /// An absolute path, a pattern, or a URL, like that of the source.
    pub path: String,
    /// Its WAL archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wal: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreRef>,
}

/// How many copies there are to be, production included; on how many media; at how many sites besides one: `3-2-1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CopiesObjective {
    pub copies: u32,
    pub media: u32,
    pub off_site: u32,
}

impl Drill {
    /// The same drill from the copy with this number, with the original among the copies.
    #[must_use]
    pub fn from_copy(&self, number: usize) -> Drill {
        let mut drill = self.clone();
        let Some(copies) = &mut drill.copies else { return drill };
        let Some(copy) = copies.others.get_mut(number) else { return drill };
        std::mem::swap(&mut copies.own, &mut copy.placement);
        let location = drill.source.location_mut();
        std::mem::swap(&mut location.path, &mut copy.path);
        std::mem::swap(&mut location.store, &mut copy.store);
        if let Source::BaseBackup(it) = &mut drill.source {
            std::mem::swap(&mut it.wal, &mut copy.wal);
        }
        drill
    }

    /// A drill from each copy, where that is asked for; else the drill itself.
    pub fn from_each(self) -> Vec<Drill> {
        let Some(Copies { each: true, others, .. }) = &self.copies else { return vec![self] };
        let one = |number: Option<usize>| {
            let mut drill = number.map_or_else(|| self.clone(), |it| self.from_copy(it));
            if let Some(copies) = &mut drill.copies {
                copies.each = false;
                drill.name = format!("{} (from {})", self.name, copies.own.name);
            }
            drill
        };
        std::iter::once(one(None)).chain((0..others.len()).map(|it| one(Some(it)))).collect()
    }
}

impl Converter<'_> {
    /// The number: from which of them to restore.
    pub(super) fn copies(
        &self,
        listed: Option<At<Vec<At<WireCopy>>>>,
        restore_from: Option<&At<Text>>,
        source: &Source,
    ) -> (Option<Copies>, Option<usize>) {
        let Some(listed) = listed else {
            if let Some(from) = restore_from {
                let mistake = Mistake::new(from.span, "`restore_from` without `copies` to choose from");
                self.note(mistake.help("list them as `copies:`, or take it away"));
            }
            return (None, None);
        };
        let named = |it: &WireCopy| it.name.as_ref().or(it.site.as_ref()).map(|it| it.value.0.trim().to_owned());
        let placement = |it: &WireCopy, name: String| Placement {
            name,
            media: it.media.as_ref().map(|it| it.value.0.trim().to_owned()),
            site: it.site.as_ref().map(|it| it.value.0.trim().to_owned()),
        };
        let (mut own, mut others) = (None, Vec::new());
        let mut taken = BTreeSet::new();
        for copy in listed.value {
            let (span, copy) = (copy.span, copy.value);
            let name = match &copy.path {
                Some(path) => named(&copy).unwrap_or_else(|| path.value.0.trim().to_owned()),
                None => named(&copy).unwrap_or_else(|| ORIGINAL.to_owned()),
            };
            if !taken.insert(name.clone()) {
                let mistake = Mistake::new(span, format!("two copies are called `{name}`"));
                self.note(mistake.help("give each a `name`: by default it is that of its site"));
            }
            match &copy.path {
                Some(path) => {
                    let mut copy = self.copy(&copy, path, placement(&copy, name), source);
                    self.told_apart(&mut copy, source, &others, span);
                    others.push(copy);
                }
                None if own.is_none() => own = Some(placement(&copy, name)),
                None => {
                    let mistake =
                        Mistake::new(span, "two entries without a `path`: such a one means the source itself");
                    self.note(mistake.help("give the other one its `path`"));
                }
            }
        }
        if others.is_empty() {
            let mistake = Mistake::new(listed.span, "no copy besides the source itself");
            self.note(mistake.help("name where another copy lies: `{ path: s3://BUCKET/…, media: …, site: … }`"));
        }
        if let Source::BaseBackup(it) = source
            && !it.tablespaces.is_empty()
        {
            let mistake =
                Mistake::new(listed.span, "`copies` beside `tablespaces`: what lies elsewhere cannot be compared");
            self.note(
                mistake.help("drill a backup in tar format, which has its tablespaces in it, or each copy on its own"),
            );
        }
        let own = own.unwrap_or_else(|| Placement { name: ORIGINAL.to_owned(), media: None, site: None });
        let chosen = restore_from.and_then(|it| self.chosen_copy(it, &own, &others));
        let each = restore_from.is_some_and(|it| it.value.0.trim() == "each");
        (Some(Copies { own, others, each }), chosen)
    }

    fn copy(&self, wire: &WireCopy, path: &At<Text>, placement: Placement, source: &Source) -> BackupCopy {
        let tool = match source {
            Source::BaseBackup(it) => Some(it.tool),
            Source::PgDump(_) | Source::PgDumpall(_) => None,
        };
        if let Some(wal) = wire.wal.as_ref().filter(|_| tool != Some(BaseTool::PgBasebackup)) {
            let mistake = Mistake::new(wal.span, "`wal` has no meaning here");
            self.note(mistake.help("tools keep WAL beside their backups, and dumps have none: take it away"));
        }
        let root = self.path(path, matches!(tool, None | Some(BaseTool::PgBasebackup)));
        let store = self.store(wire.store.as_ref(), path, wire.wal.as_ref());
        // As the source's own places are found, with its stanza or server.
        let (path, wal) = match tool {
            None | Some(BaseTool::PgBasebackup) => (root, wire.wal.as_ref().map(|it| self.path(it, false))),
            Some(tool) => tool.places(&root, source.location().path.rsplit('/').next().unwrap_or_default()),
        };
        BackupCopy { placement, path, wal, store }
    }

    /// Tells a copy from another place in a bucket of the same name that is reached in another way; a place that is none of its
    /// own is no copy.
    fn told_apart(&self, copy: &mut BackupCopy, source: &Source, others: &[BackupCopy], span: Span) {
        let location = source.location();
        let places = others.iter().map(|it| (it.path.as_str(), it.wal.as_deref(), &it.store));
        let places: Vec<_> = places.chain([(location.path.as_str(), source.wal(), &location.store)]).collect();
        if places.iter().any(|(path, _, store)| *path == copy.path && **store == copy.store) {
            self.note(
                Mistake::new(span, "the same place as another copy, or as the source").help("name where the copy lies"),
            );
        }
        let roots = |path: &str, wal: Option<&str>| -> BTreeSet<String> {
            [Some(path), wal].into_iter().flatten().filter_map(Service::root).map(str::to_owned).collect()
        };
        let own = roots(&copy.path, copy.wal.as_deref());
        if places.iter().any(|(path, wal, store)| **store != copy.store && !own.is_disjoint(&roots(path, *wal))) {
            copy.path = Service::named(&copy.path, &copy.placement.name);
            copy.wal = copy.wal.as_ref().map(|it| Service::named(it, &copy.placement.name));
        }
    }

    fn chosen_copy(&self, from: &At<Text>, own: &Placement, others: &[BackupCopy]) -> Option<usize> {
        let name = from.value.0.trim();
        if name == "each" || name == own.name {
            return None;
        }
        let found = others.iter().position(|it| it.placement.name == name);
        if found.is_none() {
            let names = others.iter().map(|it| it.placement.name.as_str()).chain([own.name.as_str(), "each"]);
            let names = names.collect::<Vec<_>>().join(", ");
            self.note(
                Mistake::new(from.span, format!("no copy is called `{name}`")).help(format!("there are {names}")),
            );
        }
        found
    }

    /// `3-2-1`
    pub(super) fn copies_objective(&self, text: &At<Text>, listed: Option<Span>) -> Option<CopiesObjective> {
        let written = text.value.0.trim();
        let numbers: Vec<Option<u32>> = written.split('-').map(|it| it.trim().parse().ok()).collect();
        let [Some(copies), Some(media), Some(off_site)] = numbers[..] else {
            let mistake = Mistake::new(text.span, format!("`{written}` is no rule for copies"));
            self.note(mistake.help("write it like `3-2-1`: copies with production, media, copies off-site"));
            return None;
        };
        if listed.is_none() {
            let mistake = Mistake::new(text.span, "an objective for `copies`, and the drill lists none");
            self.note(mistake.help("list where the others lie, as `copies:` of the drill"));
        }
        Some(CopiesObjective { copies, media, off_site })
    }
}
