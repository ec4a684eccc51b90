//! The PostgreSQL installations of this machine, and what each can do.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::super::{host, processes};
use crate::recipe::{RoomUser, RuntimeKind, ServerFacts};

/// An installation that can run a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LocalPrograms {
    pub(crate) bindir: PathBuf,
    /// `15.18 (Debian 15.18-0+deb12u1)`
    pub(crate) version: String,
}

/// Without these there is no server; the embedded distributions on npm have no more.
const REQUIRED: [&str; 3] = ["postgres", "initdb", "pg_ctl"];
/// What a restore may ask for besides.
const WANTED: [&str; 8] = [
    "psql",
    "pg_restore",
    "pg_dump",
    "pg_amcheck",
    "pg_checksums",
    "pg_verifybackup",
    "pg_combinebackup",
    "pg_waldump",
];

/// The first installation of each major: of `bindirs` in their order, then of the usual places.
pub(super) fn find(bindirs: &[PathBuf]) -> BTreeMap<u32, LocalPrograms> {
    let mut seen = BTreeSet::new();
    // A directory of links, such as /usr/local/bin, may have some of the programs: all of them lie where the links lead.
    let homes = bindirs
        .iter()
        .cloned()
        .chain(usual_places())
        .filter_map(|directory| fs::canonicalize(directory.join("postgres")).ok()?.parent().map(Path::to_path_buf));
    let candidates = homes
        .filter(|directory| REQUIRED.iter().all(|it| directory.join(it).is_file()) && seen.insert(directory.clone()));
    let candidates: Vec<PathBuf> = candidates.collect();
    let versions: Vec<Option<String>> = std::thread::scope(|scope| {
        let asked: Vec<_> = candidates.iter().map(|it| scope.spawn(|| version(it))).collect();
        asked.into_iter().map(|it| it.join().ok().flatten()).collect()
    });
    let mut found = BTreeMap::new();
    for (bindir, version) in candidates.into_iter().zip(versions) {
        if let Some(version) = version
            && let Some(major) = major(&version)
        {
            found.entry(major).or_insert(LocalPrograms { bindir, version });
        }
    }
    found
}

/// Where packages put the programs of each major: Debian, PGDG's RPMs, Homebrew, Postgres.app.
fn usual_places() -> Vec<PathBuf> {
    let mut places = Vec::new();
    let roots = [
        ("/usr/lib/postgresql", "", "bin"),
        ("/usr", "pgsql-", "bin"),
        ("/opt/homebrew/opt", "postgresql@", "bin"),
        ("/usr/local/opt", "postgresql@", "bin"),
        ("/home/linuxbrew/.linuxbrew/opt", "postgresql@", "bin"),
        ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
    ];
    for (root, prefix, bin) in roots {
        let entries = fs::read_dir(root).into_iter().flatten().flatten();
        let numbered =
            |name: &str| name.strip_prefix(prefix).is_some_and(|it| it.starts_with(|it: char| it.is_ascii_digit()));
        let named = entries.filter(|it| it.file_name().to_str().is_some_and(numbered));
        places.extend(named.map(|it| it.path().join(bin)));
    }
    places.push(PathBuf::from("/usr/local/pgsql/bin"));
    // The order of a directory is no order: two runs must choose the same.
    places.sort();
    places
}

fn version(bindir: &Path) -> Option<String> {
    let text = output(Command::new(bindir.join("postgres")).arg("--version"))?;
    Some(text.trim().strip_prefix("postgres (PostgreSQL) ")?.to_owned())
}

/// `15.18 (Debian …)`, `19devel` and `18beta1` have one; 9.6 is older than what we restore.
fn major(version: &str) -> Option<u32> {
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok().filter(|it| *it >= 10)
}

pub(super) fn facts(programs: &LocalPrograms, major: u32, base: &Path, user: RoomUser) -> ServerFacts {
    let LocalPrograms { bindir, version } = programs;
    let tools = WANTED.into_iter().filter(|it| bindir.join(it).is_file()).map(|it| (it.to_owned(), version.clone()));
    ServerFacts {
        runtime: RuntimeKind::Local,
        major,
        version: version.clone(),
        bindir: bindir.to_string_lossy().into_owned(),
        image: None,
        user,
        extensions: share(bindir, major).map(|it| extensions(&it.join("extension"))).unwrap_or_default(),
        locales: locales(),
        disk_free: host::disk(base).map(|it| it.free),
        filesystem: processes::filesystem(base),
        streams: false,
        tools: tools.collect(),
        because: format!("PostgreSQL {version} is installed in {}", bindir.display()),
        passed_over: Vec::new(),
    }
}

/// The directory of shared files: as `pg_config` says, else where packages put it beside the programs.
fn share(bindir: &Path, major: u32) -> Option<PathBuf> {
    let said = output(Command::new(bindir.join("pg_config")).arg("--sharedir")).map(|it| PathBuf::from(it.trim()));
    let prefix = fs::canonicalize(bindir).ok()?.parent()?.to_owned();
    let guesses = [
        prefix.join("share/postgresql"),
        prefix.join("share"),
        PathBuf::from(format!("/usr/share/postgresql/{major}")),
        PathBuf::from(format!("/usr/pgsql-{major}/share")),
    ];
    said.into_iter().chain(guesses).find(|it| it.join("extension").is_dir())
}

/// The extensions of a directory with the versions that can be installed or updated to, oldest text first.
///
/// Files are named `NAME.control`, `NAME--VERSION.sql` and `NAME--FROM--TO.sql`; see PostgreSQL's documentation, "Packaging
/// Related Objects into an Extension".
fn extensions(directory: &Path) -> BTreeMap<String, Vec<String>> {
    let names: Vec<String> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|it| it.file_name().into_string().ok())
        .collect();
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for name in names.iter().filter_map(|it| it.strip_suffix(".control")).filter(|it| !it.contains("--")) {
        let control = fs::read_to_string(directory.join(format!("{name}.control"))).unwrap_or_default();
        found.insert(name.to_owned(), default_version(&control).into_iter().collect());
    }
    for script in names.iter().filter_map(|it| it.strip_suffix(".sql")) {
        let mut parts = script.split("--");
        if let (Some(name), Some(version)) = (parts.next(), parts.last())
            && let Some(versions) = found.get_mut(name)
        {
            versions.insert(version.to_owned());
        }
    }
    found.into_iter().map(|(name, versions)| (name, versions.into_iter().collect())).collect()
}

fn default_version(control: &str) -> Option<String> {
    let line = control.lines().find_map(|it| it.trim_start().strip_prefix("default_version"))?;
    let value = line.trim_start().strip_prefix('=')?.trim().strip_prefix('\'')?;
    Some(value.split('\'').next()?.to_owned())
}

fn locales() -> Vec<String> {
    let text = output(Command::new("locale").arg("-a").env("LC_ALL", "C")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What a room must show of an installation that does not lie among the system's directories: all of its prefix, under
/// the name that was given and under its real one.
pub(super) fn prefixes(bindir: &Path) -> Vec<PathBuf> {
    let real = fs::canonicalize(bindir).ok();
    let mut prefixes = Vec::new();
    for directory in std::iter::once(bindir.to_owned()).chain(real) {
        let brew = directory.ancestors().find(|it| it.ends_with(".linuxbrew"));
        let installed =
            directory.ends_with("bin").then(|| directory.parent()).flatten().filter(|it| it.parent().is_some());
        prefixes.push(brew.or(installed).unwrap_or(&directory).to_owned());
    }
    prefixes.dedup();
    prefixes
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn majors_are_read_from_what_postgres_says() {
        let cases = [
            ("15.18 (Debian 15.18-0+deb12u1)", Some(15)),
            ("19devel", Some(19)),
            ("18beta1", Some(18)),
            ("9.6.24", None),
            ("", None),
        ];
        for (version, expected) in cases {
            assert_eq!(major(version), expected, "{version}");
        }
    }

    #[test]
    fn every_script_of_an_extension_is_a_version() {
        let directory = tempfile::tempdir().unwrap();
        let files = [
            ("postgis.control", "comment = 'x'\ndefault_version = '3.5.2'\ndirectory = 'contrib/postgis'\n"),
            ("hstore.control", "# hstore\ndefault_version='1.8' # newest\n"),
            ("hstore--1.4.sql", ""),
            ("hstore--1.4--1.5.sql", ""),
            ("hstore--1.8.control", ""),
            ("orphan--1.0.sql", ""),
        ];
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        let expected = [("hstore", vec!["1.4", "1.5", "1.8"]), ("postgis", vec!["3.5.2"])];
        let expected = expected.map(|(name, versions)| {
            (name.to_owned(), versions.into_iter().map(str::to_owned).collect::<Vec<String>>())
        });
        assert_eq!(extensions(directory.path()), BTreeMap::from(expected));
    }

    #[test]
    fn the_first_installation_of_a_major_wins_and_incomplete_ones_are_passed_over() {
        let base = tempfile::tempdir().unwrap();
        let install = |name: &str, says: &str, programs: &[&str]| {
            let bindir = base.path().join(name).join("bin");
            fs::create_dir_all(&bindir).unwrap();
            for program in programs {
                let script = format!("#!/bin/sh\necho 'postgres (PostgreSQL) {says}'\n");
                fs::write(bindir.join(program), script).unwrap();
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
                fs::set_permissions(bindir.join(program), mode).unwrap();
            }
            bindir
        };
        let first = install("a", "77.1", &REQUIRED);
        let second = install("b", "77.2 (mine)", &REQUIRED);
        let clients = install("c", "78.1", &["postgres", "psql"]);
        let found = find(&[clients, first.clone(), second]);
        assert_eq!(found.get(&77), Some(&LocalPrograms { bindir: first, version: "77.1".to_owned() }));
        assert_eq!(found.get(&78), None);
    }

    #[test]
    fn an_installation_is_shown_whole_but_never_the_root() {
        assert_eq!(prefixes(Path::new("/no/where/pg17/bin")), [Path::new("/no/where/pg17")]);
        assert_eq!(prefixes(Path::new("/bin-of-mine")), [Path::new("/bin-of-mine")]);
        let brew = Path::new("/home/linuxbrew/.linuxbrew/opt/postgresql@17/bin");
        assert_eq!(prefixes(brew), [Path::new("/home/linuxbrew/.linuxbrew")]);
    }
}
