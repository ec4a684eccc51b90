//! Labs of every major, made in containers of its image: base backups in every form that the major knows.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// What was made; see make.sh.
pub(crate) struct Major {
    _until: ChildStdin,
    pub(crate) root: PathBuf,
    pub(crate) time: String,
    pub(crate) lsn: String,
    pub(crate) deletion: String,
}

impl Major {
    pub(crate) fn path(&self, path: &str) -> String {
        self.root.join(path).display().to_string()
    }
}

static MADE: OnceLock<Mutex<BTreeMap<u32, Arc<OnceLock<Major>>>>> = OnceLock::new();

/// The lab of this major. It is made once, by whoever needs it first, and goes with this process.
pub(crate) fn major(major: u32) -> Arc<OnceLock<Major>> {
    let made = MADE.get_or_init(Mutex::default);
    let lab = Arc::clone(made.lock().unwrap_or_else(PoisonError::into_inner).entry(major).or_default());
    lab.get_or_init(|| make(major));
    lab
}

fn make(major: u32) -> Major {
    let (root, until) = by_script(major, include_str!("majors/make.sh"));
    let mark = |name: &str| std::fs::read_to_string(root.join(name)).unwrap().trim().to_owned();
    let (time, lsn, deletion) = (mark("mark.time"), mark("mark.lsn"), mark("mark.xid"));
    Major { _until: until, root, time, lsn, deletion }
}

/// What a script makes in a container of this major, in which the directory is /lab; it goes with what is returned beside it.
pub(crate) fn by_script(major: u32, script: &str) -> (PathBuf, ChildStdin) {
    let directory = tempfile::Builder::new().prefix("pgdrill-lab-").tempdir_in("/tmp").unwrap();
    let root = directory.keep();
    let image = format!("pgdrill-postgres:{major}");
    let until = remove_at_the_end(&root, &image);
    // Whoever runs this, the server's user of the image writes there.
    std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o777)).unwrap();
    if nix::unistd::geteuid().is_root() {
        chown(&root, Some(999), Some(999)).unwrap();
    }
    std::fs::write(root.join("make.sh"), script).unwrap();
    let mut docker = Command::new("docker");
    docker.args(["run", "--rm", "--network=none", "--user=999:999", "--entrypoint=/bin/bash", "--volume"]);
    docker.arg(format!("{}:/lab", root.display())).args([&image, "/lab/make.sh"]);
    let output = docker.output().unwrap();
    assert!(output.status.success(), "{image}: {}", String::from_utf8_lossy(&output.stderr));
    (root, until)
}

/// As in `lab`; what the container's user made, only its root may remove for everybody.
fn remove_at_the_end(root: &std::path::Path, image: &str) -> ChildStdin {
    let mut command = Command::new("sh");
    let script = r#"cat; rm -rf -- "$0" || docker run --rm --network=none --user=0:0 --entrypoint=/bin/rm -v "$0:/lab" "$1" -rf /lab/wal /lab/base /lab/ts; rm -rf -- "$0""#;
    command.args(["-c", script]).arg(root).arg(image).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.process_group(0).spawn().unwrap().stdin.take().unwrap()
}
