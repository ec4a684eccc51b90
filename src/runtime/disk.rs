//! Stops a drill before it fills a file system: the backup's growth is bounded by nothing else, and others live there too.
//!
//! Watched and not enforced, because neither a directory nor a volume can be given a size without rights that few have.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::host::{self, human};
use crate::evidence::{Guarantee, Held};
use crate::fault::{Blame, Fault};

/// Between two looks: what a fast disk takes in that time is less than what is kept free on it.
const PAUSE: Duration = Duration::from_millis(100);

/// A file system that was found full: as words.
type Full = Option<String>;

#[derive(Debug)]
pub(super) struct DiskWatch {
    /// A path on the file system of the data, if that is this machine's.
    data: Option<PathBuf>,
    seen: watch::Receiver<Full>,
    task: AbortOnDropHandle<()>,
}

impl DiskWatch {
    /// `scratch`: what the log and fetched WAL fill.
    pub(super) fn keep(data: Option<&Path>, scratch: &Path) -> DiskWatch {
        let places: Arc<[PathBuf]> = data.into_iter().chain([scratch]).map(Path::to_owned).collect();
        let (tell, seen) = watch::channel(None);
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            let mut full = None;
            while full.is_none() {
                tokio::time::sleep(PAUSE).await;
                let places = Arc::clone(&places);
                // A network file system may not answer.
                let looking = tokio::task::spawn_blocking(move || places.iter().find_map(|it| look(it)));
                full = looking.await.ok().flatten();
            }
            tell.send_replace(full);
            // The words stay to be had.
            tell.closed().await;
        }));
        DiskWatch { data: data.map(Path::to_owned), seen, task }
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
        let found = self.data.as_ref().and_then(|it| Some((it.display(), host::disk(it)?)));
        let (held, seen) = match found {
            None => (Held::Absent, "the disk of the data cannot be seen from here".to_owned()),
            Some(_) if self.task.is_finished() => (Held::Absent, "nobody looks at the disk any more".to_owned()),
            Some((place, disk)) => (Held::Watched, format!("{} free at {place}", human(disk.free))),
        };
        Guarantee { name: "disk limited".to_owned(), held, seen }
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
        let watch = DiskWatch::keep(Some(directory.path()), directory.path());
        assert_eq!(watch.guarantee().held, Held::Watched, "{:?}", watch.guarantee());
        watch.task.abort();
        while !watch.task.is_finished() {
            tokio::task::yield_now().await;
        }
        assert_eq!(watch.guarantee().held, Held::Absent);
        let elsewhere = DiskWatch::keep(None, directory.path());
        assert_eq!(elsewhere.guarantee().held, Held::Absent, "an engine elsewhere");
    }

    #[tokio::test]
    async fn what_is_full_stops_the_work_and_stays_known() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let small = Small::mount();
        let watch = DiskWatch::keep(None, small.0.path());
        let fault = watch.stop("load the dump").await;
        assert!(fault.causes[0].starts_with("the disk is full: of 1.0 MiB at /"), "{fault:?}");
        assert_eq!(fault.blame, Blame::Host);
        assert!(watch.was_full());
        assert!(host::disk(Path::new("/proc")).is_none(), "one without a size is not full");
    }

    /// A file system of one mebibyte, which is less than is to be kept free on any.
    struct Small(tempfile::TempDir);

    impl Small {
        fn mount() -> Small {
            let directory = tempfile::tempdir().unwrap();
            let tmpfs = Some("tmpfs");
            nix::mount::mount(tmpfs, directory.path(), tmpfs, nix::mount::MsFlags::empty(), Some("size=1m")).unwrap();
            Small(directory)
        }
    }

    impl Drop for Small {
        fn drop(&mut self) {
            let _ = nix::mount::umount(self.0.path());
        }
    }
}
