//! The machine that a cluster was made on: what of it is in the files, and is read otherwise elsewhere.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The machine that was backed up, as far as the scenario tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Machine {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<Architecture>,
    /// The version of its GNU C library: `2.36`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub glibc: Option<String>,
}

/// What `uname -m` says: `x86_64`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Architecture(String);

impl Architecture {
    /// Debian's names are understood, too.
    pub fn named(name: &str) -> Architecture {
        let name = name.trim().to_ascii_lowercase();
        let usual = match name.as_str() {
            "amd64" | "x86-64" => "x86_64",
            "arm64" => "aarch64",
            "ppc64el" => "ppc64le",
            other => other,
        };
        Architecture(usual.to_owned())
    }

    /// Of the machine that this was built for, which is the one that it runs on.
    pub fn here() -> Architecture {
        let names = [
            (cfg!(target_arch = "x86_64"), "x86_64"),
            (cfg!(target_arch = "aarch64"), "aarch64"),
            (cfg!(target_arch = "powerpc64"), "ppc64le"),
            (cfg!(target_arch = "riscv64"), "riscv64"),
        ];
        Architecture(names.iter().find(|it| it.0).map_or("unknown", |it| it.1).to_owned())
    }

    /// Whether C's `char` has a sign there, on Linux. None: no 64-bit architecture of little-endian order that is known.
    pub fn has_signed_char(&self) -> Option<bool> {
        match self.0.as_str() {
            "x86_64" | "loongarch64" | "mips64el" => Some(true),
            "aarch64" | "ppc64le" | "riscv64" => Some(false),
            _ => None,
        }
    }
}

impl std::fmt::Display for Architecture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_known_by_their_usual_names() {
        for (name, usual, signed) in [
            ("amd64", "x86_64", Some(true)),
            (" ARM64", "aarch64", Some(false)),
            ("ppc64el", "ppc64le", Some(false)),
            ("s390x", "s390x", None),
        ] {
            let architecture = Architecture::named(name);
            assert_eq!((architecture.to_string().as_str(), architecture.has_signed_char()), (usual, signed));
        }
        assert!(Architecture::here().has_signed_char().is_some());
    }
}
