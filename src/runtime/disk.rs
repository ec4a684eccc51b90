//! Stops a drill before it fills a file system: the backup's growth is bounded by nothing else, and others live there too.
//!
//! Watched and not enforced, because neither a directory nor a volume can be given a size without rights that few have.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::host::{self, Disk, human};
use crate::evidence::{Guarantee, Held};
use crate::fault::{Blame, Fault};

/// Between two looks: what a fast disk takes in that time is less than what is kept free on it.
const PAUSE: Duration = Duration::from_millis(100);

/// A file system that was found full: as words.
type Full = Option<String>;

#[derive(Debug)]
pub(super) struct DiskWatch {
    /// File systems by a path on them, as far as this machine has them.
    places: Arc<[PathBuf]>,
    seen: watch::Receiver<Full>,
    task: AbortOnDropHandle<()>,
}

impl DiskWatch {
    pub(super) fn keep(places: Vec<PathBuf>) -> DiskWatch {
        let places: Arc<[PathBuf]> = places.into();
        let (tell, seen) = watch::channel(None);
        let watched = Arc::clone(&places);
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            let mut full = None;
            while full.is_none() {
                tokio::time::sleep(PAUSE).await;
                full = watched.iter().find_map(|it| look(it));
            }
            tell.send_replace(full);
            // The words stay to be had.
            tell.closed().await;
        }));
        DiskWatch { places, seen, task }
    }

    /// Whether a file system was full at any time, be it for a moment: what fails for it gives its space back.
    pub(super) fn was_full(&self) -> bool {
        self.seen.borrow().is_some()
    }

    /// Returns when a file system is full. `what`: as a fault says it.
    pub(super) async fn stop(&self, what: &str) -> Fault {
        let mut seen = self.seen.clone();
        let full = seen.wait_for(Option::is_some).await.ok().and_then(|it| it.clone());
        let full = match full {
            Some(full) => full,
            None => std::future::pending().await,
        };
        Fault::new(Blame::Host, what)
            .cause(full)
            .hint("Free some space, or put the scratch directory (TMPDIR) or the engine's volumes on a larger disk.")
    }

    pub(super) fn guarantee(&self) -> Guarantee {
        let found: Vec<(&PathBuf, Disk)> = self.places.iter().filter_map(|it| Some((it, host::disk(it)?))).collect();
        let (held, seen) = if found.is_empty() {
            (Held::Absent, "the disk of the data cannot be seen from here".to_owned())
        } else if self.task.is_finished() {
            (Held::Absent, "nobody looks at the disk any more".to_owned())
        } else {
            let each = found.iter().map(|(it, disk)| format!("{} free at {}", human(disk.free), it.display()));
            (Held::Watched, each.collect::<Vec<_>>().join(", "))
        };
        Guarantee { name: "disk limited".to_owned(), held, seen }
    }

    #[cfg(test)]
    pub(super) fn abandon(&self) {
        self.task.abort();
    }
}

fn look(place: &Path) -> Full {
    let disk = host::disk(place).filter(|it| it.is_full())?;
    let (free, total, place) = (human(disk.free), human(disk.total), place.display());
    Some(format!("the disk is full: of {total} at {place} only {free} are free"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_disk_that_nobody_looks_at_is_not_limited() {
        let directory = tempfile::tempdir().unwrap();
        let watch = DiskWatch::keep(vec![directory.path().to_owned()]);
        assert_eq!(watch.guarantee().held, Held::Watched, "{:?}", watch.guarantee());
        watch.abandon();
        while !watch.task.is_finished() {
            tokio::task::yield_now().await;
        }
        assert_eq!(watch.guarantee().held, Held::Absent);
        assert_eq!(DiskWatch::keep(Vec::new()).guarantee().held, Held::Absent, "an engine elsewhere");
    }

    #[tokio::test]
    async fn what_is_full_stops_the_work_and_stays_known() {
        // A file system without a free byte.
        let watch = DiskWatch::keep(vec!["/proc".into()]);
        let fault = watch.stop("load the dump").await;
        assert!(fault.causes[0].starts_with("the disk is full: of 0 B at /proc"), "{fault:?}");
        assert_eq!(fault.blame, Blame::Host);
        assert!(watch.was_full());
    }
}
