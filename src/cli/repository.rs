//! `pgdrill inspect` and `init` of what backup tools keep: which backups there are, and from when to when they recover.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::keys::{self, PGBACKREST_PASS};
use super::physical::{Archive, Page, TARGETS, quoted};
use crate::fault::{Blame, Fault};
use crate::format::walg;
use crate::recipe::{BaseSeen, FileSeen};
use crate::report::words;
use crate::scenario::USE;
use crate::source::{BaseTool, archive, backup_name};
use crate::store::{self, Reading};

/// What a tool keeps.
pub(crate) enum Repository {
    /// Of a tool that keeps WAL beside its backups.
    Physical {
        path: String,
        tool: BaseTool,
        groups: Vec<Group>,
        sealed: bool,
    },
    Databasus {
        path: String,
        files: Vec<FileSeen>,
        sealed: bool,
    },
}

/// One cluster's backups, and its WAL.
pub(crate) struct Group {
    /// Its server or stanza. None: the place knows only one cluster.
    name: Option<String>,
    backups: Vec<BaseSeen>,
    archive: String,
    wal: Result<Archive, Fault>,
}

/// By the names within; None: it is no such thing.
pub(crate) fn recognise(path: &Path, reading: &Reading) -> Result<Option<Repository>, Fault> {
    let shown = path.display().to_string();
    let stanzas = store::stanzas(path, reading);
    let sealed = stanzas.first().is_some_and(|it| store::is_sealed_stanza(path, it, reading));
    let reading = &keys::from_environment(path, sealed, reading);
    let physical = |path: &Path, tool: BaseTool, names: Vec<Option<String>>| {
        let shown = path.display().to_string();
        let groups =
            names.into_iter().map(|it| group(tool, &shown, it, reading)).collect::<Result<Vec<Group>, Fault>>()?;
        // Backups of barman-cloud have no directory of their own within.
        let is_of_cloud = |it: &BaseSeen| tool == BaseTool::Barman && !it.path.ends_with("/data");
        let cloud = groups.iter().flat_map(|it| &it.backups).any(is_of_cloud);
        let tool = if cloud { BaseTool::BarmanCloud } else { tool };
        Ok((!groups.is_empty()).then_some(Repository::Physical { path: shown, tool, groups, sealed }))
    };
    if reading.is_dir(&path.join(walg::BACKUPS)) {
        return physical(path, BaseTool::WalG, vec![None]);
    }
    if !stanzas.is_empty() {
        return physical(path, BaseTool::PgBackRest, stanzas.into_iter().map(Some).collect());
    }
    let (home, servers) = servers(path, reading);
    if !servers.is_empty() {
        return physical(home, BaseTool::Barman, servers.into_iter().map(Some).collect());
    }
    if store::is_bundle(path, reading) {
        return physical(path, BaseTool::Databasus, vec![None]);
    }
    let is_sealed = |it: &str| store::is_databasus(Path::new(it), reading);
    if reading.is_dir(path) && !reading.exists(&path.join("toc.dat")) {
        let files = store::databasus_files(path, reading).unwrap_or_default();
        let files = files.iter().map(|it| store::look(it, reading)).collect::<Result<Vec<_>, _>>()?;
        let any = files.iter().any(|it| is_sealed(&it.path));
        return Ok((!files.is_empty()).then_some(Repository::Databasus { path: shown, files, sealed: any }));
    }
    if is_sealed(&shown) {
        return Ok(Some(Repository::Databasus { files: vec![store::look(path, reading)?], path: shown, sealed: true }));
    }
    Ok(None)
}

/// Its backups, the oldest first, and what its WAL covers.
fn group(tool: BaseTool, root: &str, name: Option<String>, reading: &Reading) -> Result<Group, Fault> {
    let (place, archive) = tool.places(root, name.as_deref().unwrap_or_default());
    let listed = store::list(&place, reading)?;
    let paths: Vec<String> = listed.into_iter().map(|it| it.path).collect();
    let mut backups = store::bases(&paths, &BTreeMap::new(), reading);
    backups.sort_by_key(|it| it.facts.as_deref().and_then(archive::needs).map(|it| it.1));
    let archive = archive.unwrap_or_default();
    // Without the key, nothing true could be said of the WAL either.
    let locked = backups.iter().find_map(|it| it.unreadable.clone()).filter(|it| it.blame == Blame::Scenario);
    let wal = locked.map_or_else(|| Archive::of(&archive, reading), Err);
    Ok(Group { name, backups, archive, wal })
}

/// The servers of Barman, and its home, where the path may be one of theirs.
fn servers<'a>(path: &'a Path, reading: &Reading) -> (&'a Path, Vec<String>) {
    let names = store::barman_servers(path, reading);
    match (path.parent(), path.file_name()) {
        (Some(home), Some(name)) if names.is_empty() => {
            let own = name.to_string_lossy().into_owned();
            (home, store::barman_servers(home, reading).into_iter().filter(|it| *it == own).collect())
        }
        _ => (path, names),
    }
}

/// What a tool calls the place, and what backups there are of.
fn terms(tool: BaseTool) -> (&'static str, &'static str) {
    match tool {
        BaseTool::WalG => ("storage of WAL-G", "cluster"),
        BaseTool::Barman => ("home of Barman", "server"),
        BaseTool::BarmanCloud => ("place of barman-cloud", "server"),
        BaseTool::PgBackRest => ("repository of pgBackRest", "stanza"),
        BaseTool::Databasus => ("bundle of Databasus: a physical backup", "cluster"),
        BaseTool::PgBasebackup => ("directory of base backups", "cluster"),
    }
}

impl Repository {
    pub(crate) fn json(&self) -> String {
        let value = match self {
            Repository::Physical { path, tool, groups, .. } => {
                let wal = |it: &Group| match &it.wal {
                    Ok(found) => found.json(),
                    Err(fault) => serde_json::json!({ "unreadable": fault }),
                };
                let mut value = serde_json::json!({ "tool": tool.kind(), "path": path });
                for it in groups {
                    let archive = wal(it);
                    if let Some(name) = &it.name {
                        value[format!("{}s", terms(*tool).1)][name] = serde_json::json!(it.backups);
                        value["archives"][name] = archive;
                    } else {
                        value["backups"] = serde_json::json!(it.backups);
                        value["archive"] = archive;
                    }
                }
                value
            }
            Repository::Databasus { path, files, sealed } => {
                serde_json::json!({ "tool": "databasus", "path": path, "files": files, "encrypted": sealed })
            }
        };
        format!("{value:#}\n")
    }

    pub(crate) fn text(&self) -> String {
        let mut page = Page::default();
        match self {
            Repository::Physical { path, tool, groups, .. } => {
                let (what, noun) = terms(*tool);
                let several = groups.iter().any(|it| it.name.is_some());
                let (count, noun) = if several {
                    (groups.len(), noun)
                } else {
                    (groups.iter().map(|it| it.backups.len()).sum(), "backup")
                };
                page.line("repository", path);
                page.line("is a", &format!("{what}, {}", words::count(count, noun)));
                for it in groups {
                    it.show(noun, &mut page);
                }
            }
            Repository::Databasus { path, files, sealed } => {
                let how = if *sealed { "encrypted dumps" } else { "dumps" };
                page.line("backups", path);
                page.line("are", &format!("{how} by Databasus, {}", words::count(files.len(), "file")));
                for file in files {
                    let name = file.path.rsplit('/').next().unwrap_or_default();
                    page.line("file", &format!("{name} ({})", words::bytes(file.bytes)));
                }
            }
        }
        page.text()
    }

    /// A first scenario. `path`: as it was asked for, absolute.
    pub(crate) fn scenario(&self, path: &str) -> String {
        let source = match self {
            Repository::Physical { tool: tool @ (BaseTool::WalG | BaseTool::Databasus), .. } => {
                let mut text = format!(
                    "{}:\n        path: {}\n        # pick: {{ label: NAME }}        # default: newest\n",
                    tool.kind(),
                    quoted(path)
                );
                if *tool == BaseTool::WalG {
                    text +=
                        "        # libsodium_key: { env: WALG_LIBSODIUM_KEY }\n        # pgp_key: { file: pgp.asc }\n";
                }
                text
            }
            Repository::Physical { tool, groups, sealed, .. } => {
                let (kind, (_, group)) = (tool.kind(), terms(*tool));
                let mut names = groups.iter().filter_map(|it| it.name.as_deref());
                let first = names.next().unwrap_or_default();
                let others: Vec<&str> = names.collect();
                // Of one server, its home is what a scenario names.
                let own = path.strip_suffix(first).filter(|_| others.is_empty() && *tool != BaseTool::PgBackRest);
                let path = quoted(own.map_or(path, |it| it.trim_end_matches('/')));
                let others = if others.is_empty() { String::new() } else { format!("    # or {}", others.join(", ")) };
                let mut text = format!(
                    "{kind}:\n        path: {path}\n        {group}: {first}{others}\n        \
                     # pick: {{ label: LABEL }}     # default: newest\n"
                );
                if *tool == BaseTool::PgBackRest {
                    let key = if *sealed { "cipher_pass" } else { "# cipher_pass" };
                    let _ = writeln!(text, "        {key}: {{ env: {PGBACKREST_PASS} }}");
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
            Repository::Physical { .. } => format!("    {TARGETS}    target: latest\n\n"),
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

impl Group {
    fn show(&self, noun: &str, page: &mut Page) {
        if let Some(name) = &self.name {
            page.line(noun, &format!("{name}, {}", words::count(self.backups.len(), "backup")));
        }
        for it in &self.backups {
            page.line("backup", &of_backup(it));
        }
        match &self.wal {
            Ok(found) => {
                found.show(page);
                // The oldest backup goes back the furthest.
                let facts = self.backups.iter().filter_map(|it| it.facts.as_deref());
                if let Some(first) = facts.into_iter().find(|it| it.earlier_cluster().is_none()) {
                    found.recoverable(first, page);
                }
            }
            Err(fault) => {
                page.line("WARNING", &format!("its WAL, {}, cannot be read: {}", self.archive, fault.line()));
                fault.hint.iter().for_each(|it| page.line("hint", it));
            }
        }
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
    let earlier = facts.earlier_cluster().map(|it| format!(", of the earlier cluster {it}"));
    format!(
        "{name}, {started}, PostgreSQL {}{from}{}{} ({})",
        facts.major,
        after.unwrap_or_default(),
        earlier.unwrap_or_default(),
        words::bytes(facts.bytes)
    )
}
