//! From paths on the command line to drills: scenario files, directories of them, or backups as they lie there.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::args::Chosen;
use super::physical::{self, Physical};
use super::run::absolute;
use super::{Exit, Screen, access, complain, complain_of, repository};
use crate::fault::{Blame, Fault};
use crate::format::{DumpFacts, Selection};
use crate::recipe::FileSeen;
use crate::scenario::{self, Drill, Environment, File, Init};
use crate::source::Pick;
use crate::store::{self, Reading};

/// What a command works on.
pub(crate) struct Loaded {
    pub(crate) drills: Vec<Drill>,
    pub(crate) files: usize,
}

/// The chosen drills, or the exit status after having said what is wrong.
pub(crate) fn drills(chosen: &Chosen, screen: &Screen) -> Result<Loaded, Exit> {
    let fail = |fault: Fault| {
        complain_of(&fault);
        match fault.blame {
            // A backup that was named on the command line is judged, not refused as a mistake.
            Blame::Backup => Exit::Failed,
            Blame::Scenario | Blame::Host => Exit::Usage,
            Blame::Harness => Exit::Bug,
        }
    };
    let reading = access::reading();
    let files = files(&chosen.paths, &reading).map_err(fail)?;
    let environment = environment(chosen, &files, &reading).map_err(fail)?;
    let drills = scenario::parse(&files, &environment).map_err(|problems| {
        for problem in &problems {
            complain(&scenario::render(problem, screen.color_err));
            complain("");
        }
        let (count, s) = (problems.len(), if problems.len() == 1 { "" } else { "s" });
        complain(&format!("{count} problem{s}: nothing was run"));
        Exit::Usage
    })?;
    let total = drills.len();
    let mut drills = scenario::select(drills, &chosen.tags, &chosen.names).map_err(|text| {
        complain(&format!("error: {text}"));
        Exit::Usage
    })?;
    if drills.is_empty() {
        complain(&format!("nothing was selected: none of {total} drills has such a tag or name (see `pgdrill list`)"));
        return Err(Exit::NothingSelected);
    }
    if let Some(runtime) = chosen.runtime {
        for drill in &mut drills {
            drill.runtime = runtime.into();
        }
    }
    Ok(Loaded {
        drills: drills
            .into_iter()
            .flat_map(Drill::from_each)
            .map(each)
            .collect::<Result<Vec<_>, Fault>>()
            .map_err(fail)?
            .concat(),
        files: files.len(),
    })
}

/// A drill of every match, for `pick: all`. A pattern that matches nothing stays one drill, which then fails.
fn each(drill: Drill) -> Result<Vec<Drill>, Fault> {
    if drill.source.location().pick != Pick::All {
        return Ok(vec![drill]);
    }
    let reading = Reading::with(Arc::default(), access::of(&drill));
    let seen = store::list(&drill.source.location().path, &reading)?;
    if seen.is_empty() {
        return Ok(vec![drill]);
    }
    let of = |seen: FileSeen| {
        let mut one = drill.clone();
        let name =
            Path::new(&seen.path).file_name().map_or_else(|| seen.path.clone(), |it| it.to_string_lossy().into_owned());
        one.name = format!("{} ({name})", drill.name);
        let location = one.source.location_mut();
        (location.path, location.pick) = (seen.path, Pick::Newest);
        one
    };
    Ok(seen.into_iter().map(of).collect())
}

pub(crate) fn schema() -> String {
    let mut text = serde_json::to_string_pretty(&scenario::schema()).unwrap_or_default();
    text.push('\n');
    text
}

/// The texts of scenario files; for a backup, the text of the scenario that `pgdrill init` would write.
fn files(paths: &[PathBuf], reading: &Reading) -> Result<Vec<File>, Fault> {
    let mut files = Vec::new();
    for path in paths {
        if is_scenario(path) {
            files.push(read(path)?);
        } else if let Some(found) = repository::recognise(path, reading)? {
            let text = found.scenario(&absolute(path).display().to_string());
            files.push(File { name: path.display().to_string(), text, directory: "/".to_owned() });
        } else if let Some(Physical::Base(_, facts)) = physical::recognise(path, reading)? {
            let text = physical::scenario(&absolute(path).display().to_string(), &facts, None);
            files.push(File { name: path.display().to_string(), text, directory: "/".to_owned() });
        } else if path.is_dir() && !path.join("toc.dat").exists() {
            let found = scenarios_in(path)?;
            for path in found {
                files.push(read(&path)?);
            }
        } else {
            files.push(scenario_for(path, reading)?);
        }
    }
    Ok(files)
}

fn is_scenario(path: &Path) -> bool {
    path.extension().is_some_and(|it| it == "yaml" || it == "yml") && !path.is_dir()
}

/// By name, and not in directories below: `fixtures/` beside scenarios is none.
fn scenarios_in(directory: &Path) -> Result<Vec<PathBuf>, Fault> {
    let fault = |cause: String| {
        Fault::new(Blame::Scenario, format!("find scenarios in {}", directory.display()))
            .cause(cause)
            .hint("Name scenario files (*.yaml), a directory of them, or a backup.")
    };
    let entries = std::fs::read_dir(directory).map_err(|error| fault(error.to_string()))?;
    let mut found: Vec<PathBuf> =
        entries.filter_map(Result::ok).map(|it| it.path()).filter(|it| is_scenario(it)).collect();
    found.sort();
    if found.is_empty() {
        return Err(fault("there is no *.yaml in it, and it is not a directory of pg_dump (no toc.dat)".to_owned()));
    }
    Ok(found)
}

fn read(path: &Path) -> Result<File, Fault> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Fault::new(Blame::Scenario, format!("read the scenario {}", path.display())).cause(error.to_string())
    })?;
    let absolute = absolute(path);
    let directory = absolute.parent().unwrap_or(Path::new("/")).display().to_string();
    Ok(File { name: path.display().to_string(), text, directory })
}

/// What a backup is, from its bytes.
pub(crate) fn look_at(path: &Path, reading: &Reading) -> Result<(FileSeen, DumpFacts), Fault> {
    let path = absolute(path).display().to_string();
    let there = reading.stat(Path::new(&path));
    if there.is_err_and(|it| it.kind() == ErrorKind::NotFound) {
        return Err(Fault::new(Blame::Scenario, format!("find {path}"))
            .hint("Name a backup file, a directory of pg_dump, a scenario file, or a directory of scenarios."));
    }
    let seen = store::look(Path::new(&path), reading)?;
    let facts = store::dump_facts(Path::new(&path), &Selection::default(), reading, &mut |_| ())?;
    Ok((seen, facts))
}

fn scenario_for(path: &Path, reading: &Reading) -> Result<File, Fault> {
    let (seen, facts) = look_at(path, reading)?;
    let text = scenario::init(&Init { path: &seen.path, pattern: None, facts: &facts });
    Ok(File { name: path.display().to_string(), text, directory: "/".to_owned() })
}

fn environment(chosen: &Chosen, files: &[File], reading: &Reading) -> Result<Environment, Fault> {
    let mut set = BTreeMap::new();
    for pair in &chosen.set {
        let Some((name, value)) = pair.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return Err(Fault::new(Blame::Scenario, format!("understand --set {pair}")).hint("Write --set NAME=VALUE."));
        };
        set.insert(name.to_owned(), value.to_owned());
    }
    let seed = chosen.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let vars =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let mut environment =
        Environment { vars: vars.collect(), set, seed, now: Some(jiff::Timestamp::now()), texts: BTreeMap::new() };
    for path in scenario::files_named(files, &environment) {
        let text = store::read_text(Path::new(&path), reading).map_err(|fault| fault.line());
        environment.texts.insert(path, text);
    }
    Ok(environment)
}
