//! What a release consists of: a binary that needs nothing, and an image for CI.

use std::process::Command;

use crate::program::fixture;
use crate::support::root;

fn run(program: &str, args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(program).args(args).current_dir(root()).env("DOCKER_BUILDKIT", "0").output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code(), text)
}

fn must(program: &str, args: &[&str]) -> String {
    let (status, text) = run(program, args);
    assert_eq!(status, Some(0), "{program} {args:?}: {text}");
    text
}

/// The directory of ci/release; made here, with the profile that links fastest, unless `PGDRILL_DIST` names one.
fn dist() -> String {
    std::env::var("PGDRILL_DIST").unwrap_or_else(|_| {
        must("ci/release", &["--profile", "dev", "--out", "target/dist"]);
        "target/dist".to_owned()
    })
}

/// An image of this test's own, removed with it.
struct Image(String);

impl Drop for Image {
    fn drop(&mut self) {
        drop(run("docker", &["image", "rm", "--force", &self.0]));
    }
}

fn archive() -> String {
    let entries = std::fs::read_dir(root().join(dist())).unwrap().map(|it| it.unwrap().path().display().to_string());
    entries.into_iter().find(|it| it.ends_with(".tar.gz")).expect("ci/release makes an archive")
}

#[test]
#[ignore = "builds a static binary: ci/full"]
fn the_static_binary_needs_nothing_of_the_image_it_runs_in() {
    let context = tempfile::tempdir().unwrap();
    must("tar", &["--strip-components=1", "-C", context.path().to_str().unwrap(), "-xzf", &archive()]);
    std::fs::write(
        context.path().join("Dockerfile"),
        "FROM scratch\nCOPY pgdrill /pgdrill\nENTRYPOINT [\"/pgdrill\"]\n",
    )
    .unwrap();
    let image = Image(format!("pgdrill-scratch-test-{}", std::process::id()));
    must("docker", &["build", "--quiet", "--tag", &image.0, context.path().to_str().unwrap()]);
    let volumes = [
        format!("{}:/backups:ro", fixture("pg15").display()),
        format!("{}:/scenarios:ro", root().join("scenarios").display()),
    ];
    let inside = |args: &[&str]| {
        let fixed = [
            "run",
            "--rm",
            "--network=none",
            "--tmpfs=/tmp",
            "--volume",
            &volumes[0],
            "--volume",
            &volumes[1],
            &image.0,
        ];
        run("docker", &[&fixed[..], args].concat())
    };
    for (args, status, says) in [
        (&["--version"][..], 0, env!("CARGO_PKG_VERSION")),
        (&["check", "/scenarios/quickstart.yaml"], 0, ""),
        (&["inspect", "/backups/shop.dump"], 0, "custom dump of shop"),
        // Without programs and without an engine nothing can be restored, and it says so.
        (&["doctor"], 3, "PostgreSQL programs"),
        (&["run", "/backups/shop.dump", "--out", "/tmp/out"], 3, "container engine"),
    ] {
        let (ended, text) = inside(args);
        assert!(text.contains(says), "{args:?}: {text}");
        assert_eq!(ended, Some(status), "{args:?}: {text}");
    }
}

#[test]
#[ignore = "builds an image: ci/full"]
fn a_drill_runs_in_the_ci_image_as_an_ordinary_user() {
    let _archive = archive();
    let image = Image(format!("pgdrill-ci-test-{}", std::process::id()));
    must("docker", &["build", "--quiet", "--build-arg", "BASE=pgdrill-base:bookworm", "--tag", &image.0, "."]);
    let backups = format!("{}:/backups:ro", fixture("pg15").display());
    let free = [
        "--security-opt=seccomp=unconfined",
        "--security-opt=apparmor=unconfined",
        "--security-opt=systempaths=unconfined",
    ];
    let fixed = ["run", "--rm", "--network=none", "--volume", &backups];
    let drill = [&image.0, "run", "/backups/shop.dump", "--runtime", "local"];
    let (ended, text) = run("docker", &[&fixed[..], &free[..], &drill[..]].concat());
    assert_eq!(ended, Some(0), "{text}");
    // Where namespaces are denied it does not restore in the open: it says what to do.
    let (ended, text) = run("docker", &[&fixed[..], &drill[..]].concat());
    assert_eq!(ended, Some(3), "{text}");
    assert!(text.contains("namespaces"), "{text}");
}
