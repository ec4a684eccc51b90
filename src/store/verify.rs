//! A whole repository of pgBackRest: every file of every backup, and every segment, as their checksums say.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};
use std::path::Path;

use sha1::{Digest, Sha1};

use super::files::{FileKind, Input};
use super::objects::is_medium;
use super::pgbackrest::{Backup, cluster_id, listed};
use super::tap::{CHUNK, hex, medium};
use super::wal::{segments, verify_wal};
use super::{OnBytes, Reading};
use crate::fault::{Blame, Fault};
use crate::format::pgbackrest::File;
use crate::recipe::{Verified, WrongStored};

/// Of what is wrong, as much is listed.
const LISTED: usize = 100;

/// `stanza`: its directory of backups. What is wrong with the repository is an answer; what keeps us from reading it, a fault.
pub fn verify(stanza: &Path, archive: Option<&Path>, reading: &Reading, on_bytes: OnBytes) -> Result<Verified, Fault> {
    let mut verifier = Verifier { seen: Verified::default(), reading, on_bytes };
    let found = verifier.all(stanza, archive);
    let mut seen = verifier.seen;
    match found {
        // Nobody waits for an answer.
        Err(fault) if reading.is_stopped() => return Err(fault),
        Err(fault) => seen.trouble = Some(fault),
        Ok(()) => {}
    }
    Ok(seen)
}

struct Verifier<'a> {
    seen: Verified,
    reading: &'a Reading,
    on_bytes: OnBytes<'a>,
}

impl Verifier<'_> {
    fn all(&mut self, stanza: &Path, archive: Option<&Path>) -> Result<(), Fault> {
        let listed = listed(stanza, self.reading)?;
        let labels: BTreeSet<String> = listed.keys().cloned().collect();
        for label in &labels {
            let before = (self.seen.wrong.len(), self.seen.wrong_total);
            self.backup(stanza, label, &labels)?;
            // What expired meanwhile is not accused.
            if self.seen.wrong_total > before.1 && !self::listed(stanza, self.reading)?.contains_key(label) {
                self.seen.wrong.truncate(before.0);
                self.seen.wrong_total = before.1;
            }
        }
        let Some(archive) = archive else { return Ok(()) };
        // Clusters that followed on one another in a stanza have segments of the same names.
        let mut names = BTreeMap::new();
        for cluster in self.reading.entries(archive).map_err(|it| medium(archive, "list", &it))? {
            if let Some(id) = cluster_id(&cluster.name).filter(|_| cluster.kind == FileKind::Directory) {
                self.archive(&cluster.path, names.entry(id).or_default())?;
            }
        }
        for (label, it) in &listed {
            let archived = names.get(&it.db_id);
            let ends = [&it.backup_archive_start, &it.backup_archive_stop].into_iter().flatten();
            for lost in ends.filter(|it| !archived.is_some_and(|all| all.contains(*it))).collect::<BTreeSet<_>>() {
                self.wrong(label, format!("it needs {lost}, which is not in the archive"));
            }
        }
        Ok(())
    }

    /// A fault of the backup is an answer, and so is a file that does not open with the pass that opened the list.
    fn note<T>(&mut self, what: &str, outcome: Result<T, Fault>) -> Result<Option<T>, Fault> {
        match outcome {
            Err(fault) if matches!(fault.blame, Blame::Backup | Blame::Scenario) => {
                let why = if fault.causes.is_empty() { fault.message.clone() } else { fault.causes.join(": ") };
                self.wrong(what, why);
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    fn wrong(&mut self, what: &str, why: String) {
        self.seen.wrong_total += 1;
        if self.seen.wrong.len() < LISTED {
            self.seen.wrong.push(WrongStored { what: what.to_owned(), why });
        }
    }

    fn passed(&mut self, bytes: u64) {
        self.seen.bytes += bytes;
        (self.on_bytes)(self.seen.bytes);
    }

    fn backup(&mut self, stanza: &Path, label: &str, labels: &BTreeSet<String>) -> Result<(), Fault> {
        let path = stanza.join(label);
        if matches!(self.reading.stat(&path), Err(error) if error.kind() == io::ErrorKind::NotFound) {
            self.wrong(label, "it is listed, and not there".to_owned());
            return Ok(());
        }
        let opened = Backup::open(&path, self.reading);
        let Some(backup) = self.note(label, opened)? else { return Ok(()) };
        self.seen.backups += 1;
        let files = &backup.manifest.files;
        let references: BTreeSet<&String> = files.iter().filter_map(|it| it.reference.as_ref()).collect();
        for lost in references.into_iter().filter(|it| !labels.contains(*it)) {
            self.wrong(label, format!("it builds upon {lost}, which is not there"));
        }
        // The others are read where they lie.
        let own: Vec<&File> = files.iter().filter(|it| it.size > 0 && it.reference.is_none()).collect();
        let runs = own.chunk_by(|one, next| one.is_followed_by(next));
        for (run, input) in self.reading.each(runs.map(|it| (it, backup.part(it)))) {
            match input {
                Ok(mut input) => self.run(&backup, label, run, &mut input)?,
                Err(error) => {
                    let Some(first) = run.first() else { continue };
                    let what = format!("{label}: {}", first.name);
                    if error.kind() == io::ErrorKind::NotFound {
                        self.wrong(&what, "it is not there".to_owned());
                    } else {
                        self.note::<()>(&what, Err(medium(&backup.path(first), "open", &error)))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Files that follow one another.
    fn run(&mut self, backup: &Backup, label: &str, run: &[&File], input: &mut Input) -> Result<(), Fault> {
        for file in run {
            let mut stored = input.take(file.bytes_to_read());
            let sum = self.sum(backup, file, &mut stored);
            // What a decoder left, so that the next one begins where its file does.
            let rest = io::copy(&mut stored, &mut io::sink());
            let sum = sum.and_then(|sum| rest.map(|_| sum));
            let bad = |cause: String| Fault::new(Blame::Backup, "read a file").cause(cause);
            let outcome = match sum {
                _ if self.reading.is_stopped() => {
                    Err(Fault::new(Blame::Host, "verify the repository").cause("the drill was stopped"))
                }
                Ok(sum) if file.checksum.as_ref().is_some_and(|it| *it != sum) => {
                    Err(bad(format!("it has the SHA-1 {sum}, and not that of the manifest")))
                }
                Ok(_) => Ok(()),
                Err(error) if is_medium(&error) => Err(medium(&backup.path(file), "read", &error)),
                Err(error) => Err(bad(error.to_string())),
            };
            self.note(&format!("{label}: {}", file.name), outcome)?;
            self.seen.files += 1;
            self.passed(file.repo_size);
        }
        Ok(())
    }

    /// Until the end, or until nobody wants it any more.
    fn sum(&self, backup: &Backup, file: &File, stored: impl io::Read) -> io::Result<String> {
        let mut contents = backup.contents(file, stored)?;
        let (mut sum, mut buffer) = (Sha1::new(), vec![0; CHUNK]);
        loop {
            match contents.read(&mut buffer) {
                Ok(read) if read > 0 && !self.reading.is_stopped() => sum.update(&buffer[..read]),
                Ok(_) => return Ok(hex(&sum.finalize())),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn archive(&mut self, cluster: &Path, names: &mut BTreeSet<String>) -> Result<(), Fault> {
        for (name, file) in segments(cluster, self.reading)? {
            let verified = verify_wal(&file, self.reading);
            // Expired meanwhile.
            if verified.is_err() && !self.reading.is_file(&file.path) {
                continue;
            }
            if let Some(bytes) = self.note(&name, verified)? {
                self.passed(bytes);
            }
            self.seen.segments += 1;
            if !names.insert(name.clone()) {
                self.wrong(&name, "it is there twice, with different contents".to_owned());
            }
        }
        Ok(())
    }
}
