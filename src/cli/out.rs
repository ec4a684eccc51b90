//! The files of a run: the event log as it happens; evidence and reports, rewritten atomically after every drill.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::evidence::{Event, Evidence};
use crate::fault::{Blame, Fault};

/// One line of events.ndjson.
#[derive(Serialize, Deserialize)]
struct Line {
    drill: String,
    event: Event,
}

/// evidence.json: what was seen, without a verdict.
#[derive(Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct Kept {
    pub(crate) schema: u32,
    pub(crate) run: String,
    pub(crate) drills: Vec<Evidence>,
}

/// The directory of a run.
pub(crate) struct RunDirectory {
    pub(crate) path: PathBuf,
    events: Mutex<File>,
}

impl RunDirectory {
    /// Makes the directory, and shows in the first second that it can be written.
    pub(crate) fn create(path: &Path) -> Result<RunDirectory, Fault> {
        let fault = |error: io::Error| {
            Fault::new(Blame::Host, format!("write to the output directory {}", path.display()))
                .cause(error.to_string())
                .hint("Name another directory with --out.")
        };
        std::fs::create_dir_all(path.join("logs")).map_err(fault)?;
        for stale in ["evidence.json", "report.json", "junit.xml"] {
            match std::fs::remove_file(path.join(stale)) {
                Ok(()) => (),
                Err(error) if error.kind() == io::ErrorKind::NotFound => (),
                Err(error) => return Err(fault(error)),
            }
        }
        let events = OpenOptions::new().create(true).write(true).truncate(true).open(path.join("events.ndjson"));
        Ok(RunDirectory { path: path.to_owned(), events: Mutex::new(events.map_err(fault)?) })
    }

    /// Appends an event. A log that cannot be written must not stop the drill: the evidence is kept in memory as well.
    pub(crate) fn record(&self, drill: &str, event: &Event) {
        let line = Line { drill: drill.to_owned(), event: event.clone() };
        let written = serde_json::to_string(&line).map_err(io::Error::other).and_then(|mut text| {
            text.push('\n');
            self.events.lock().unwrap_or_else(PoisonError::into_inner).write_all(text.as_bytes())
        });
        if let Err(error) = written {
            tracing::error!(%error, "cannot append to events.ndjson");
        }
    }

    /// Keeps a server's log; gives its path relative to the directory.
    pub(crate) fn keep_log(&self, drill: &str, log: &str) -> Option<String> {
        let relative = format!("logs/{}.log", file_name(drill));
        match write(&self.path.join(&relative), log.as_bytes()) {
            Ok(()) => Some(relative),
            Err(error) => {
                tracing::error!(%error, "cannot keep the server's log");
                None
            }
        }
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> Result<(), Fault> {
        let path = self.path.join(name);
        write(&path, text.as_bytes())
            .map_err(|error| Fault::new(Blame::Host, format!("write {}", path.display())).cause(error.to_string()))
    }
}

/// A drill's name as a file name: letters, digits, `.`, `_` and `-`.
fn file_name(drill: &str) -> String {
    let safe = |it: char| if it.is_alphanumeric() || matches!(it, '.' | '_' | '-') { it } else { '_' };
    drill.chars().map(safe).collect()
}

/// Writes a file so that a reader sees the old one or the new one, never a part.
///
/// A link is followed, and what is no file (`/dev/stdout`, a pipe) is written to as it is: replacing it would destroy it.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let resolved = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let path = resolved.as_path();
    if path.metadata().is_ok_and(|it| !it.is_file()) {
        return OpenOptions::new().write(true).open(path)?.write_all(bytes);
    }
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".pgdrill-").tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    // A temporary file is private; a report is for others to read, as the umask allows.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(file.path(), mode)?;
    file.persist(path)?;
    Ok(())
}

/// Shows that a report can be written there, before anything runs.
pub(crate) fn check_writable(path: &Path) -> Result<(), Fault> {
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let tried = std::fs::create_dir_all(folder).and_then(|()| tempfile::tempfile_in(folder));
    match tried {
        Ok(_) if !path.is_dir() => Ok(()),
        Ok(_) => Err(Fault::new(Blame::Host, format!("write {}", path.display())).cause("it is a directory")),
        Err(error) => Err(Fault::new(Blame::Host, format!("write {}", path.display())).cause(error.to_string())),
    }
}

/// The evidence of a stored run: from evidence.json, or folded from events.ndjson where that is all there is.
pub(crate) fn read_back(path: &Path) -> Result<(Kept, Vec<u8>), Fault> {
    let file = if path.is_dir() {
        let evidence = path.join("evidence.json");
        if evidence.exists() { evidence } else { path.join("events.ndjson") }
    } else {
        path.to_owned()
    };
    let fault = |cause: String| {
        Fault::new(Blame::Scenario, format!("read the evidence in {}", file.display()))
            .cause(cause)
            .hint("Name the directory of a run, its evidence.json or its events.ndjson.")
    };
    let bytes = std::fs::read(&file).map_err(|error| fault(error.to_string()))?;
    let kept = if file.extension().is_some_and(|it| it == "ndjson") {
        fold(&bytes).map_err(fault)?
    } else {
        serde_json::from_slice(&bytes).map_err(|error| fault(error.to_string()))?
    };
    Ok((kept, bytes))
}

/// A log cut in the middle of its last line still counts up to there.
fn fold(bytes: &[u8]) -> Result<Kept, String> {
    let mut drills: Vec<(String, Evidence)> = Vec::new();
    let lines: Vec<&[u8]> = bytes.split(|it| *it == b'\n').filter(|line| !line.is_empty()).collect();
    for (number, line) in lines.iter().enumerate() {
        let line: Line = match serde_json::from_slice(line) {
            Ok(line) => line,
            Err(_) if number + 1 == lines.len() => break,
            Err(error) => return Err(format!("line {}: {error}", number + 1)),
        };
        if !drills.iter().any(|(name, _)| *name == line.drill) {
            drills.push((line.drill.clone(), Evidence::from_events([])));
        }
        let found = drills.iter_mut().find(|(name, _)| *name == line.drill);
        if let Some((_, evidence)) = found {
            evidence.add(line.event);
        }
    }
    let drills: Vec<Evidence> = drills.into_iter().map(|(_, evidence)| evidence).collect();
    let run = drills.iter().find_map(|it| it.start.as_ref()).map(|it| it.run.clone()).unwrap_or_default();
    Ok(Kept { schema: crate::evidence::SCHEMA, run, drills })
}
