//! Keys of encrypted backups, from where a scenario says that they lie.

use std::path::Path;
use std::sync::Arc;

use crate::fault::{Blame, Fault};
use crate::format::crypt::Key;
use crate::format::walg;
use crate::scenario::Drill;
use crate::source::{Cipher, KeyRef, Secret, root};
use crate::store::{Reading, Vault};

/// Where pgBackRest itself takes the pass of a repository from.
pub(crate) const PGBACKREST_PASS: &str = "PGBACKREST_REPO1_CIPHER_PASS";

/// What opens the backups of a drill, in whichever place. A key that cannot be had is its fault when it needs it.
pub(crate) fn vault(drill: &Drill) -> Arc<Vault> {
    let mut vault = Vault::default();
    let location = drill.source.location();
    let copies = drill.copies.iter().flat_map(|it| &it.others).map(|it| it.path.as_str());
    for path in copies.chain([location.path.as_str()]) {
        if let Some(reference) = &location.key {
            // The archive lies beside the backups, and opens with the same.
            let root = root(path);
            let root = match reference.cipher {
                Cipher::PgBackRest => root.rsplit_once("/backup/").map_or(root, |it| it.0),
                Cipher::Databasus | Cipher::Libsodium | Cipher::OpenPgp => root,
            };
            vault.add(root, key(reference));
        }
    }
    Arc::new(vault)
}

/// For a place that no scenario speaks of: the keys that the tools themselves take from the environment. `sealed`: it is a
/// repository of pgBackRest that is encrypted.
pub(crate) fn from_environment(path: &Path, sealed: bool, reading: &Reading) -> Reading {
    let mut vault = Vault::default();
    let mut add = |beneath: &[&str], cipher: Cipher, variable: &str| {
        if std::env::var_os(variable).is_some_and(|it| !it.is_empty()) {
            let reference = KeyRef { cipher, key: Secret::Env(variable.to_owned()), passphrase: None };
            for it in beneath {
                vault.add(path.join(it), key(&reference));
            }
        }
    };
    if sealed {
        add(&["backup", "archive"], Cipher::PgBackRest, PGBACKREST_PASS);
    }
    add(&[walg::BACKUPS, walg::WAL], Cipher::Libsodium, "WALG_LIBSODIUM_KEY");
    add(&[walg::BACKUPS, walg::WAL], Cipher::OpenPgp, "WALG_PGP_KEY");
    reading.with_keys(vault)
}

fn key(reference: &KeyRef) -> Result<Key, Fault> {
    let text = secret(&reference.key)?;
    let passphrase = reference.passphrase.as_ref().map(secret).transpose()?;
    let key = match reference.cipher {
        // Whatever is in the file belongs to the secret, but for the newline that an editor adds.
        Cipher::Databasus => Ok(Key::Databasus(text.trim_end_matches(['\r', '\n']).into())),
        Cipher::PgBackRest => Ok(Key::PgBackRest(text.trim_end_matches(['\r', '\n']).into())),
        Cipher::Libsodium => Key::sodium(&text),
        Cipher::OpenPgp => Key::pgp(&text, passphrase.as_deref().map(|it| it.trim_end_matches(['\r', '\n']))),
    };
    key.map_err(|why| Fault::new(Blame::Scenario, format!("use the key {}", words(&reference.key))).cause(why))
}

fn words(secret: &Secret) -> String {
    match secret {
        Secret::File(path) => format!("in {path}"),
        Secret::Env(name) => format!("in the variable {name}"),
    }
}

pub(super) fn secret(secret: &Secret) -> Result<String, Fault> {
    let read = match secret {
        Secret::File(path) => std::fs::read_to_string(path).map_err(|it| it.to_string()),
        Secret::Env(name) => std::env::var(name).map_err(|it| it.to_string()),
    };
    read.and_then(|it| if it.trim().is_empty() { Err("it is empty".to_owned()) } else { Ok(it) }).map_err(|why| {
        Fault::new(Blame::Scenario, format!("read the key {}", words(secret)))
            .cause(why)
            .hint("Say where it is: `{ file: PATH }`, relative to the scenario, or `{ env: NAME }`.")
    })
}
