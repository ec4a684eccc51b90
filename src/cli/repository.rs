//! `pgdrill inspect` and `init` of what backup tools keep: which backups there are, and from when to when they recover.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use crate::fault::Fault;
use crate::format::walg;
use crate::recipe::{BaseSeen, FileSeen};
use crate::report::words;
use crate::source::BaseTool;
use crate::store::{self, Reading};

/// What a tool keeps.
pub(crate) enum Repository {
    /// Its backups, the oldest first.
    WalG {
        path: String,
        backups: Vec<BaseSeen>,
    },
    /// A server of Barman or barman-cloud, or all that lie there, with their backups.
    Barman {
        path: String,
        tool: BaseTool,
        servers: Vec<(String, Vec<BaseSeen>)>,
    },
    Databasus {
        path: String,
        files: Vec<FileSeen>,
        sealed: bool,
    },
}

/// By the names within; None: it is no such thing.
pub(crate) fn recognise(path: &Path) -> Result<Option<Repository>, Fault> {
    let shown = path.display().to_string();
    if path.join(walg::BACKUPS).is_dir() {
        let paths: Vec<String> = store::list(&shown)?.into_iter().map(|it| it.path).collect();
        let mut backups = store::bases(&paths, &BTreeMap::new(), &Reading::default());
        backups.sort_by_key(|it| it.facts.as_ref().and_then(|it| it.label.as_ref()?.started.clone()));
        return Ok(Some(Repository::WalG { path: shown, backups }));
    }
    if let Some(found) = barman(path)? {
        return Ok(Some(found));
    }
    let sealed = |it: &str| store::is_databasus(Path::new(it));
    if path.is_dir() && !path.join("toc.dat").exists() {
        let files = store::databasus_files(path).unwrap_or_default();
        let files = files.iter().map(|it| store::look(it)).collect::<Result<Vec<_>, _>>()?;
        let any = files.iter().any(|it| sealed(&it.path));
        return Ok((!files.is_empty()).then_some(Repository::Databasus { path: shown, files, sealed: any }));
    }
    if sealed(&shown) {
        return Ok(Some(Repository::Databasus { files: vec![store::look(path)?], path: shown, sealed: true }));
    }
    Ok(None)
}

fn barman(path: &Path) -> Result<Option<Repository>, Fault> {
    let names = store::barman_servers(path);
    let (home, names) = match (path.parent(), path.file_name()) {
        (Some(home), Some(name)) if names.is_empty() => {
            let own = name.to_string_lossy().into_owned();
            (home, store::barman_servers(home).into_iter().filter(|it| *it == own).collect())
        }
        _ => (path, names),
    };
    let mut servers = Vec::new();
    let mut tool = BaseTool::Barman;
    for name in names {
        let paths: Vec<String> =
            store::list(&home.join(&name).display().to_string())?.into_iter().map(|it| it.path).collect();
        if paths.iter().any(|it| !it.ends_with("/data")) {
            tool = BaseTool::BarmanCloud;
        }
        servers.push((name, store::bases(&paths, &BTreeMap::new(), &Reading::default())));
    }
    let path = home.display().to_string();
    Ok((!servers.is_empty()).then_some(Repository::Barman { path, tool, servers }))
}

impl Repository {
    pub(crate) fn json(&self) -> String {
        let value = match self {
            Repository::WalG { path, backups } => {
                serde_json::json!({ "tool": "wal_g", "path": path, "backups": backups })
            }
            Repository::Barman { path, tool, servers } => {
                let servers: BTreeMap<&String, &Vec<BaseSeen>> = servers.iter().map(|it| (&it.0, &it.1)).collect();
                serde_json::json!({ "tool": tool, "path": path, "servers": servers })
            }
            Repository::Databasus { path, files, sealed } => {
                serde_json::json!({ "tool": "databasus", "path": path, "files": files, "encrypted": sealed })
            }
        };
        format!("{value:#}\n")
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        match self {
            Repository::WalG { path, backups } => {
                let _ = writeln!(
                    text,
                    "storage      {path}\nis a         storage of WAL-G, {}",
                    words::count(backups.len(), "backup")
                );
                for backup in backups {
                    let _ = writeln!(text, "backup       {}", of_backup(backup));
                }
            }
            Repository::Barman { path, tool, servers } => {
                let what = if *tool == BaseTool::Barman { "home of Barman" } else { "place of barman-cloud" };
                let _ = writeln!(
                    text,
                    "repository   {path}\nis a         {what}, {}",
                    words::count(servers.len(), "server")
                );
                for (server, backups) in servers {
                    let _ = writeln!(text, "server       {server}, {}", words::count(backups.len(), "usable backup"));
                    for backup in backups {
                        let _ = writeln!(text, "backup       {}", of_backup(backup));
                    }
                }
            }
            Repository::Databasus { path, files, sealed } => {
                let how = if *sealed { "encrypted dumps" } else { "dumps" };
                let _ = writeln!(
                    text,
                    "backups      {path}\nare          {how} by Databasus, {}",
                    words::count(files.len(), "file")
                );
                for file in files {
                    let name = file.path.rsplit('/').next().unwrap_or_default();
                    let _ = writeln!(text, "file         {name} ({})", words::bytes(file.bytes));
                }
            }
        }
        text
    }

    /// A first scenario.
    pub(crate) fn scenario(&self, path: &str) -> String {
        let quoted = |it: &str| format!("\"{}\"", it.replace('\\', "\\\\").replace('"', "\\\""));
        let targets = "    # latest | immediate | { time: \"2026-11-22 10:00:00+00\" } | { lsn: 16/B374D848 } | { xid: 4711 } | \
                       { name: a restore point }\n    target: latest\n\n";
        let path = match self {
            // Of one server, its home is what a scenario names.
            Repository::Barman { servers, .. } if servers.len() == 1 && path.ends_with(&servers[0].0) => {
                quoted(path.trim_end_matches(&servers[0].0).trim_end_matches('/'))
            }
            Repository::Barman { .. } | Repository::WalG { .. } | Repository::Databasus { .. } => quoted(path),
        };
        let (source, target) = match self {
            Repository::WalG { .. } => (
                format!(
                    "wal_g:\n        path: {path}\n        # pick: {{ label: NAME }}        # default: newest\n        \
                     # libsodium_key: {{ env: WALG_LIBSODIUM_KEY }}\n        # pgp_key: {{ file: pgp.asc }}\n"
                ),
                targets,
            ),
            Repository::Barman { tool, servers, .. } => {
                let others: Vec<&str> = servers.iter().skip(1).map(|it| it.0.as_str()).collect();
                let others = if others.is_empty() { String::new() } else { format!("    # or {}", others.join(", ")) };
                (
                    format!(
                        "{}:\n        path: {path}\n        server: {}{others}\n        # pick: {{ label: ID }}        \
                         # default: newest\n",
                        tool.kind(),
                        servers[0].0
                    ),
                    targets,
                )
            }
            Repository::Databasus { sealed, .. } => {
                let key = if *sealed { "secret_key" } else { "# secret_key" };
                let line = format!("        {key}: {{ file: secret.key }}    # or {{ env: NAME }}\n");
                (format!("databasus:\n        path: {path}\n{line}"), "")
            }
        };
        format!(
            "# A drill for pgdrill: restores the newest backup into a throwaway server, and looks whether all is there.\n#\n\
             #     pgdrill run THIS-FILE       runs it\n\
             #     pgdrill plan THIS-FILE      says what it would do\n\
             #     pgdrill schema              describes every key, for editors\n\
             version: 1\n\ndrills:\n  - name: newest-backup\n    source:\n      {source}\n{target}    # objectives:\n    \
             #   rto: 30m             # the longest that the recovery may take\n\n    checks:\n      \
             - query: {{ name: the server answers, sql: select 1, expect: 1 }}\n"
        )
    }
}

/// `base_…, 2026-11-22 17:35:08 UTC, PostgreSQL 17, from 0/3000028 (2.8 MB)`
fn of_backup(backup: &BaseSeen) -> String {
    let path = backup.path.strip_suffix("/data").unwrap_or(&backup.path);
    let name = path.rsplit('/').next().unwrap_or_default();
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
