//! `pgdrill inspect` and `init` of what backup tools keep: which backups there are, and from when to when they recover.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::physical::{TARGETS, quoted};
use crate::fault::Fault;
use crate::format::walg;
use crate::recipe::{BaseSeen, FileSeen};
use crate::report::words;
use crate::scenario::USE;
use crate::source::{BaseTool, backup_name};
use crate::store::{self, Reading};

/// What a tool keeps.
pub(crate) enum Repository {
    /// Its backups, the oldest first.
    WalG {
        path: String,
        backups: Vec<BaseSeen>,
    },
    /// The backups of Barman, barman-cloud or pgBackRest, by the servers or stanzas that they are of.
    Grouped {
        path: String,
        tool: BaseTool,
        groups: Vec<(String, Vec<BaseSeen>)>,
    },
    Databasus {
        path: String,
        files: Vec<FileSeen>,
        sealed: bool,
    },
}

/// By the names within; None: it is no such thing.
pub(crate) fn recognise(path: &Path, reading: &Reading) -> Result<Option<Repository>, Fault> {
    let shown = path.display().to_string();
    if reading.is_dir(&path.join(walg::BACKUPS)) {
        let mut backups = backups(path, reading)?;
        backups.sort_by_key(|it| it.facts.as_ref().and_then(|it| it.label.as_ref()?.started.clone()));
        return Ok(Some(Repository::WalG { path: shown, backups }));
    }
    let stanzas = store::stanzas(path, reading);
    if !stanzas.is_empty() {
        let groups = grouped(&path.join("backup"), stanzas, reading)?;
        return Ok(Some(Repository::Grouped { path: shown, tool: BaseTool::PgBackRest, groups }));
    }
    if let Some(found) = barman(path, reading)? {
        return Ok(Some(found));
    }
    let sealed = |it: &str| store::is_databasus(Path::new(it), reading);
    if reading.is_dir(path) && !reading.exists(&path.join("toc.dat")) {
        let files = store::databasus_files(path, reading).unwrap_or_default();
        let files = files.iter().map(|it| store::look(it, reading)).collect::<Result<Vec<_>, _>>()?;
        let any = files.iter().any(|it| sealed(&it.path));
        return Ok((!files.is_empty()).then_some(Repository::Databasus { path: shown, files, sealed: any }));
    }
    if sealed(&shown) {
        return Ok(Some(Repository::Databasus { files: vec![store::look(path, reading)?], path: shown, sealed: true }));
    }
    Ok(None)
}

/// Those in a directory of a tool.
fn backups(directory: &Path, reading: &Reading) -> Result<Vec<BaseSeen>, Fault> {
    let listed = store::list(&directory.display().to_string(), reading)?;
    let paths: Vec<String> = listed.into_iter().map(|it| it.path).collect();
    Ok(store::bases(&paths, &BTreeMap::new(), reading))
}

fn grouped(directory: &Path, names: Vec<String>, reading: &Reading) -> Result<Vec<(String, Vec<BaseSeen>)>, Fault> {
    names.into_iter().map(|name| backups(&directory.join(&name), reading).map(|it| (name, it))).collect()
}

fn barman(path: &Path, reading: &Reading) -> Result<Option<Repository>, Fault> {
    let names = store::barman_servers(path, reading);
    let (home, names) = match (path.parent(), path.file_name()) {
        (Some(home), Some(name)) if names.is_empty() => {
            let own = name.to_string_lossy().into_owned();
            (home, store::barman_servers(home, reading).into_iter().filter(|it| *it == own).collect())
        }
        _ => (path, names),
    };
    let groups = grouped(home, names, reading)?;
    let of_cloud = groups.iter().flat_map(|it| &it.1).any(|it| !it.path.ends_with("/data"));
    let tool = if of_cloud { BaseTool::BarmanCloud } else { BaseTool::Barman };
    let path = home.display().to_string();
    Ok((!groups.is_empty()).then_some(Repository::Grouped { path, tool, groups }))
}

/// What a tool calls the place, and what backups there are of.
fn terms(tool: BaseTool) -> (&'static str, &'static str) {
    match tool {
        BaseTool::Barman => ("home of Barman", "server"),
        BaseTool::BarmanCloud => ("place of barman-cloud", "server"),
        BaseTool::PgBackRest => ("repository of pgBackRest", "stanza"),
        // These know no groups.
        BaseTool::PgBasebackup | BaseTool::WalG => ("directory of base backups", "cluster"),
    }
}

impl Repository {
    pub(crate) fn json(&self) -> String {
        let value = match self {
            Repository::WalG { path, backups } => {
                serde_json::json!({ "tool": BaseTool::WalG.kind(), "path": path, "backups": backups })
            }
            Repository::Grouped { path, tool, groups } => {
                let groups: BTreeMap<&String, &Vec<BaseSeen>> = groups.iter().map(|it| (&it.0, &it.1)).collect();
                let group = format!("{}s", terms(*tool).1);
                serde_json::json!({ "tool": tool.kind(), "path": path, group: groups })
            }
            Repository::Databasus { path, files, sealed } => {
                serde_json::json!({ "tool": "databasus", "path": path, "files": files, "encrypted": sealed })
            }
        };
        format!("{value:#}\n")
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(text, "{name:<12} {value}");
        };
        match self {
            Repository::WalG { path, backups } => {
                line("storage", path);
                line("is a", &format!("storage of WAL-G, {}", words::count(backups.len(), "backup")));
                for it in backups {
                    line("backup", &of_backup(it));
                }
            }
            Repository::Grouped { path, tool, groups } => {
                let (what, group) = terms(*tool);
                line("repository", path);
                line("is a", &format!("{what}, {}", words::count(groups.len(), group)));
                for (name, backups) in groups {
                    line(group, &format!("{name}, {}", words::count(backups.len(), "backup")));
                    for it in backups {
                        line("backup", &of_backup(it));
                    }
                }
            }
            Repository::Databasus { path, files, sealed } => {
                let how = if *sealed { "encrypted dumps" } else { "dumps" };
                line("backups", path);
                line("are", &format!("{how} by Databasus, {}", words::count(files.len(), "file")));
                for file in files {
                    let name = file.path.rsplit('/').next().unwrap_or_default();
                    line("file", &format!("{name} ({})", words::bytes(file.bytes)));
                }
            }
        }
        text
    }

    /// A first scenario. `path`: as it was asked for, absolute.
    pub(crate) fn scenario(&self, path: &str) -> String {
        let source = match self {
            Repository::WalG { .. } => format!(
                "wal_g:\n        path: {}\n        # pick: {{ label: NAME }}        # default: newest\n        \
                 # libsodium_key: {{ env: WALG_LIBSODIUM_KEY }}\n        # pgp_key: {{ file: pgp.asc }}\n",
                quoted(path)
            ),
            Repository::Grouped { tool, groups, .. } => {
                let (kind, (_, group)) = (tool.kind(), terms(*tool));
                let (first, others) = groups.split_first().map_or(("", &[][..]), |it| (it.0.0.as_str(), it.1));
                // Of one server, its home is what a scenario names.
                let own = path.strip_suffix(first).filter(|_| others.is_empty() && *tool != BaseTool::PgBackRest);
                let path = quoted(own.map_or(path, |it| it.trim_end_matches('/')));
                let others: Vec<&str> = others.iter().map(|it| it.0.as_str()).collect();
                let others = if others.is_empty() { String::new() } else { format!("    # or {}", others.join(", ")) };
                let mut text = format!(
                    "{kind}:\n        path: {path}\n        {group}: {first}{others}\n        \
                     # pick: {{ label: LABEL }}     # default: newest\n"
                );
                if *tool == BaseTool::PgBackRest {
                    text += "        # cipher_pass: { env: PGBACKREST_REPO1_CIPHER_PASS }\n";
                }
                text
            }
            Repository::Databasus { sealed, .. } => {
                let key = if *sealed { "secret_key" } else { "# secret_key" };
                let line = format!("        {key}: {{ file: secret.key }}    # or {{ env: NAME }}\n");
                format!("databasus:\n        path: {}\n{line}", quoted(path))
            }
        };
        let target = match self {
            Repository::WalG { .. } | Repository::Grouped { .. } => format!("    {TARGETS}    target: latest\n\n"),
            Repository::Databasus { .. } => String::new(),
        };
        format!(
            "# A drill for pgdrill: restores the newest backup into a throwaway server, and looks whether all is there.\n#\n\
             {USE}version: 1\n\ndrills:\n  - name: newest-backup\n    source:\n      {source}\n{target}    # objectives:\n    \
             #   rto: 30m             # the longest that the recovery may take\n\n    checks:\n      \
             - query: {{ name: the server answers, sql: select 1, expect: 1 }}\n"
        )
    }
}

/// `base_…, 2026-11-22 17:35:08 UTC, PostgreSQL 17, from 0/3000028 (2.8 MB)`
fn of_backup(backup: &BaseSeen) -> String {
    let name = backup_name(&backup.path);
    let Some(facts) = &backup.facts else {
        let why = backup.unreadable.as_ref().map(Fault::line).unwrap_or_default();
        return format!("{name}: {why}");
    };
    let label = facts.label.as_ref();
    let started = label.and_then(|it| it.started.clone()).unwrap_or_default();
    let from = label.map(|it| format!(", needs WAL from {}", it.start)).unwrap_or_default();
    let after = label.and_then(|it| it.after.as_ref()).map(|it| format!(", builds upon the one from {}", it.start));
    format!(
        "{name}, {started}, PostgreSQL {}{from}{} ({})",
        facts.major,
        after.unwrap_or_default(),
        words::bytes(facts.bytes)
    )
}
