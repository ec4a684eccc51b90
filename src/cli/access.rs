//! How object stores are reached: from what scenarios say, and from where the services' own tools look.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::keys::{self, secret};
use crate::fault::{Blame, Fault};
use crate::scenario::Drill;
use crate::source::service::Service;
use crate::source::{Source, StoreRef};
use crate::store::{Access, Reading, StoreConfig};

/// For commands that read without a scenario.
pub(crate) fn reading() -> Reading {
    Reading::with(Arc::default(), Arc::new(general()))
}

/// What a drill reads with. `scratch`: its own directory.
pub(crate) fn reading_of(drill: &Drill, scratch: &Path) -> Reading {
    let reading = Reading::with(keys::vault(drill), of(drill));
    match &drill.source {
        Source::BaseBackup(it) if it.partial => reading.with_unfinished(scratch.join("unfinished")),
        Source::BaseBackup(_) | Source::PgDump(_) | Source::PgDumpall(_) => reading,
    }
}

/// For a drill, and no other: two may mean different stores by one URL. What cannot be had is its fault when it needs it.
pub(crate) fn of(drill: &Drill) -> Arc<Access> {
    let mut access = general();
    // Of places with one root, the last counts: the backup's own.
    for (path, wal, store) in drill.places().skip(1).chain(drill.places().take(1)) {
        let Some(store) = store else { continue };
        for url in [Some(path), wal].into_iter().flatten() {
            if let (Some(service), Some(root)) = (Service::of(url), Service::root(url)) {
                access.add(root, config(service, store));
            }
        }
    }
    Arc::new(access)
}

fn config(service: Service, store: &StoreRef) -> Result<StoreConfig, Fault> {
    let mut options = BTreeMap::new();
    let plain =
        store.endpoint.iter().map(|it| ("endpoint", it)).chain(store.settings.iter().map(|it| (it.0.as_str(), it.1)));
    for (word, value) in plain {
        options.extend(service.option(word).map(|it| (it.to_owned(), value.clone())));
    }
    for (word, reference) in &store.secrets {
        let value = secret(reference)?.trim_end_matches(['\r', '\n']).to_owned();
        options.extend(service.option(word).map(|it| (it.to_owned(), value)));
    }
    let authorities = store.ca.iter().map(|it| certificates(it)).collect::<Result<_, _>>()?;
    Ok(StoreConfig { options, authorities, as_of: store.as_of })
}

fn certificates(path: &str) -> Result<Vec<u8>, Fault> {
    std::fs::read(path).map_err(|error| {
        Fault::new(Blame::Scenario, format!("read the certificates in {path}"))
            .cause(error.to_string())
            .hint("Correct `ca` in the scenario, or the variable AWS_CA_BUNDLE.")
    })
}

/// What the environment says, and the files that it points to.
fn general() -> Access {
    let variables: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(_, value)| !value.is_empty())
        .collect();
    let mut config = StoreConfig::default();
    // Without a scenario there is nobody to tell: a request will fail, and say of which certificate.
    config.authorities.extend(variables.get("AWS_CA_BUNDLE").and_then(|it| certificates(it).ok()));
    if !variables.contains_key("AWS_ACCESS_KEY_ID") {
        config.options.extend(profile(&variables));
    }
    if let Some(host) = variables.get("STORAGE_EMULATOR_HOST") {
        let url = if host.contains("://") { host.clone() } else { format!("http://{host}") };
        config.options.insert("google_base_url".to_owned(), url);
    }
    Access::new(variables, config)
}

/// The credentials and the region of a profile in the files of AWS' tools.
fn profile(variables: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let name = variables.get("AWS_PROFILE").map_or("default", String::as_str);
    let home = variables.get("HOME").map(PathBuf::from).unwrap_or_default();
    let file = |variable: &str, usual: &str| variables.get(variable).map_or_else(|| home.join(usual), PathBuf::from);
    let credentials = file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials");
    let general = file("AWS_CONFIG_FILE", ".aws/config");
    let section = |file: &Path, name: &str| -> Vec<(String, String)> {
        let Ok(ini) = ini::Ini::load_from_file(file) else { return Vec::new() };
        ini.section(Some(name))
            .into_iter()
            .flat_map(|it| it.iter())
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .collect()
    };
    let in_general = if name == "default" { name.to_owned() } else { format!("profile {name}") };
    let told = section(&general, &in_general).into_iter().chain(section(&credentials, name));
    let kept = ["aws_access_key_id", "aws_secret_access_key", "aws_session_token", "region", "endpoint_url"];
    let named = |(key, value): (String, String)| {
        let known = kept.contains(&key.as_str());
        known.then(|| (if key.starts_with("aws_") { key } else { format!("aws_{key}") }, value))
    };
    told.filter_map(named).collect()
}
