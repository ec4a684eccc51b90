//! Unpacking a base backup and checking it, in one pass.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::base::manifest_text;
use super::ground::Ground;
use super::tap::{CHUNK, medium};
use super::unpack::{Destination, Written, put, unpack};
use super::{OnBytes, Reading};
use crate::fault::{Blame, Fault};
use crate::format::base::{BaseFacts, BaseLayout};
use crate::format::inspect::Inspector;
use crate::format::lsn::Lsn;
use crate::format::manifest::{self, Algorithm, Sum};
use crate::format::pages::{Pages, PagesChecked};
use crate::format::verify::{ManifestSeen, Verifier};

/// Writes the data directory, and compares it with its manifest and its pages with their checksums on the way.
///
/// What is wrong with the contents is no fault: the drill goes on and shows what comes of it.
pub fn unpack_checked(
    (backup, facts): (&Path, &BaseFacts),
    beneath: &[(&Path, &BaseFacts)],
    to: &Destination,
    reading: &Reading,
    on_bytes: OnBytes,
) -> Result<(Written, ManifestSeen, PagesChecked), Fault> {
    let manifest = manifest_text(backup, reading)?;
    let mut verifier = Verifier::new(manifest.as_deref());
    let mut pages = Pages::new(facts.label.as_ref().and_then(|it| it.start.parse::<Lsn>().ok()).map(|it| it.0));
    let inspectors: Vec<&mut dyn Inspector> = vec![&mut verifier, &mut pages];
    let written = unpack((backup, facts), beneath, to, inspectors, reading, on_bytes)?;
    // Archives have it beside them; pg_combinebackup wants it inside.
    if let Some(text) = manifest.filter(|_| facts.layout != BaseLayout::Plain) {
        put(manifest::FILE, &text, to)?;
    }
    let manifest = verifier.finish(|path, algorithm| match to.ground {
        Ground::Here { .. } => digest(&to.data.join(path), algorithm, reading),
        Ground::Away(_) => Err(Fault::new(Blame::Host, "compare the backup with its manifest")
            .cause(format!(
                "it comes after the files, has {algorithm} sums, and the files are where only the engine sees them"
            ))
            .hint("Run pgdrill on the engine's machine, or put the manifest beside the backup.")),
    })?;
    Ok((written, manifest, pages.finish()))
}

/// Of a file that was just written.
fn digest(path: &Path, algorithm: Algorithm, reading: &Reading) -> Result<Vec<u8>, Fault> {
    let mut file = File::open(path).map_err(|it| medium(path, "open", &it))?;
    let mut sum = Sum::of(Some(algorithm));
    let mut buffer = vec![0; CHUNK];
    loop {
        if reading.is_stopped() {
            return Err(Fault::new(Blame::Host, format!("read {}", path.display())).cause("the drill was stopped"));
        }
        match file.read(&mut buffer).map_err(|it| medium(path, "read", &it))? {
            0 => return Ok(sum.finish()),
            read => sum.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
#[path = "checked_tests.rs"]
mod tests;
