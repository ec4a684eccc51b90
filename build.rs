//! Compiles `helper/guard.rs` into a static program that runs in any Linux image; the crate embeds it.
//!
//! An empty file is embedded where it cannot be had (a target other than Linux): the container runtime then says so.

use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

const SOURCE: &str = "helper/guard.rs";

fn main() {
    println!("cargo:rerun-if-changed=helper");
    println!("cargo:rerun-if-changed=build.rs");
    let guard = PathBuf::from(variable("OUT_DIR")).join("guard");
    if variable("CARGO_CFG_TARGET_OS") != "linux" {
        fs::write(&guard, []).expect("OUT_DIR can be written");
        return;
    }
    // A dynamic program made here would not start in images with an older C library, or with another one; it still is
    // better than none on machines without the static C library.
    if compile(&guard, true) {
        return;
    }
    println!("cargo:warning=no static C library here: sandbox images need a C library as new as this machine's");
    assert!(compile(&guard, false), "{SOURCE} does not compile; the compiler's words are above");
}

fn compile(guard: &PathBuf, fixed: bool) -> bool {
    let mut rustc = Command::new(variable("RUSTC"));
    rustc.args(["--edition", "2021", "--crate-name", "guard", "--target", &variable("TARGET")]);
    rustc.args(["-C", "opt-level=z", "-C", "panic=abort", "-C", "strip=symbols"]);
    if fixed {
        rustc.args(["-C", "target-feature=+crt-static"]);
    }
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        rustc.arg("-C").arg(format!("linker={linker}"));
    }
    let done = rustc.arg("-o").arg(guard).arg(SOURCE).status();
    done.expect("cargo names a compiler that runs").success()
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}
