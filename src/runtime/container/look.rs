//! What isolates a sandbox, read from what its own kernel view and the engine say.

use std::collections::BTreeMap;
use std::path::Path;

use testcontainers::bollard::models::ContainerInspectResponse;

use crate::evidence::{Guarantee, Held};
use crate::plan::Limits;
use crate::runtime::cgroup;

/// Run in the container, as the server's user. Both versions of control groups; what is absent is left out. The status is
/// the restored server's own, where it runs: of a program beside it more could be true.
pub(super) const SCRIPT: &str = r#"
section() { echo "@@ $1"; }
server=self; { read -r number </pgdrill/data/postmaster.pid && [ -r "/proc/$number/status" ] && server=$number; } 2>/dev/null
section status; cat "/proc/$server/status"
section net; cat /proc/net/dev
section mounts; while read -r line; do case "$line" in *" /pgdrill/input/"*) echo "$line";; esac; done </proc/self/mountinfo
section memory; cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null
section shm; while read -r line; do case "$line" in *" /dev/shm "*) echo "$line";; esac; done </proc/self/mountinfo
section ipc; readlink /proc/self/ns/ipc
section cpu; { cat /sys/fs/cgroup/cpu.max || echo "$(cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us) $(cat /sys/fs/cgroup/cpu/cpu.cfs_period_us)"; } 2>/dev/null
section pids; cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null
section first; tr '\000' ' ' </proc/1/cmdline; echo
exit 0
"#;

/// Version 1 of control groups says "no limit" by a number that no machine has.
const NO_LIMIT: u64 = 1 << 60;

/// One guarantee for each promise, whether it holds or not.
pub(super) fn guarantees(
    looked: &str,
    inspected: &ContainerInspectResponse,
    limits: &Limits,
    inputs: usize,
) -> Vec<Guarantee> {
    let sections = sections(looked);
    let section = |name: &str| sections.get(name).map_or(&[][..], Vec::as_slice);
    let status = |key: &str| {
        let value = section("status").iter().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        value.map(|it| it.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    vec![
        network(section("net"), inspected),
        ports(inspected),
        capabilities(status("CapEff").as_deref(), status("CapBnd").as_deref()),
        simple(
            "no new privileges",
            status("NoNewPrivs").is_some_and(|it| it == "1"),
            "NoNewPrivs",
            status("NoNewPrivs"),
        ),
        user(status("Uid")),
        read_only(section("mounts"), inputs),
        limit("memory limited", section("memory"), limits.memory_bytes, "bytes"),
        processors(section("cpu"), limits),
        limit("processes limited", section("pids"), Some(u64::from(limits.pids)), "processes"),
        shared_memory(section("shm"), section("ipc").first().copied()),
        system_calls(status("Seccomp").as_deref()),
        guard(section("first")),
    ]
}

fn sections(looked: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut sections: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut current = "";
    for line in looked.lines() {
        match line.strip_prefix("@@ ") {
            Some(name) => current = name,
            None => sections.entry(current).or_default().push(line),
        }
    }
    sections
}

fn guarantee(name: &str, held: Held, seen: impl Into<String>) -> Guarantee {
    Guarantee { name: name.to_owned(), held, seen: seen.into() }
}

/// Held by the kernel, or not.
fn enforced(name: &str, holds: bool, seen: impl Into<String>) -> Guarantee {
    guarantee(name, if holds { Held::Enforced } else { Held::Absent }, seen)
}

fn simple(name: &str, holds: bool, key: &str, value: Option<String>) -> Guarantee {
    let value = value.unwrap_or_else(|| "not to be seen".to_owned());
    enforced(name, holds, format!("{key}: {value}"))
}

fn network(net: &[&str], inspected: &ContainerInspectResponse) -> Guarantee {
    let interfaces: Vec<&str> =
        net.iter().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim()).collect();
    let mode = inspected.host_config.as_ref().and_then(|it| it.network_mode.as_deref()).unwrap_or("unknown");
    let seen = format!("interfaces {}; network mode {mode}", interfaces.join(", "));
    enforced("no network", interfaces == ["lo"] && mode == "none", seen)
}

fn ports(inspected: &ContainerInspectResponse) -> Guarantee {
    let ports = inspected.network_settings.as_ref().and_then(|it| it.ports.as_ref());
    let is_published = |bindings: &Option<Vec<_>>| bindings.as_ref().is_some_and(|it| !it.is_empty());
    let published: Vec<&str> =
        ports.into_iter().flatten().filter(|(_, bound)| is_published(bound)).map(|(port, _)| port.as_str()).collect();
    let seen = if published.is_empty() { "none".to_owned() } else { published.join(", ") };
    enforced("no published port", published.is_empty(), seen)
}

fn capabilities(effective: Option<&str>, bounding: Option<&str>) -> Guarantee {
    let is_none = |set: Option<&str>| set.is_some_and(|it| !it.is_empty() && it.chars().all(|c| c == '0'));
    let seen =
        format!("CapEff: {}, CapBnd: {}", effective.unwrap_or("not to be seen"), bounding.unwrap_or("not to be seen"));
    enforced("capabilities dropped", is_none(effective) && is_none(bounding), seen)
}

fn user(uid: Option<String>) -> Guarantee {
    // Real, effective, saved and file system's.
    let uids = uid.clone().unwrap_or_default();
    let holds = !uids.is_empty() && uids.split(' ').all(|it| it != "0");
    simple("unprivileged user", holds, "Uid", uid)
}

/// A file system mounted beneath a backup's directory comes along, and must be read-only as well.
fn read_only(mounts: &[&str], inputs: usize) -> Guarantee {
    let name = "backup read-only";
    if inputs == 0 {
        return guarantee(name, Held::Enforced, "no backup is mounted");
    }
    let writable: Vec<&str> = mounts
        .iter()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .filter(|fields| !fields.get(5).is_some_and(|options| options.split(',').any(|it| it == "ro")))
        .filter_map(|fields| fields.get(4).copied())
        .collect();
    if !writable.is_empty() {
        return guarantee(name, Held::Absent, format!("writable: {}", writable.join(", ")));
    }
    enforced(name, mounts.len() >= inputs, format!("{} mounts, all ro", mounts.len()))
}

fn limit(name: &str, seen: &[&str], asked: Option<u64>, unit: &str) -> Guarantee {
    let value = seen.first().copied().unwrap_or("not to be seen");
    match value.parse::<u64>() {
        Ok(number) if number < NO_LIMIT => enforced(name, true, format!("{number} {unit}")),
        Ok(_) | Err(_) if asked.is_none() => guarantee(name, Held::Absent, "no limit was asked for"),
        Ok(_) | Err(_) => guarantee(name, Held::Absent, value),
    }
}

fn processors(seen: &[&str], limits: &Limits) -> Guarantee {
    let name = "processors limited";
    match seen.first().and_then(|it| cgroup::share(it)) {
        Some(share) => enforced(name, true, cgroup::processors_text(share)),
        None if limits.cpus.is_none() => guarantee(name, Held::Absent, "no limit was asked for"),
        None => guarantee(name, Held::Absent, seen.first().copied().unwrap_or("not to be seen")),
    }
}

/// By the size that the file system itself shows; of two on the same place the last is on top. An engine that shares its
/// kernel with us could also give the container the host's: then the namespace of shared memory is ours.
fn shared_memory(mounts: &[&str], namespace: Option<&str>) -> Guarantee {
    let name = "shared memory limited";
    if namespace.is_some()
        && namespace == std::fs::read_link("/proc/self/ns/ipc").ok().as_deref().and_then(Path::to_str)
    {
        return guarantee(name, Held::Absent, "/dev/shm is shared with the host");
    }
    let options = mounts.last().and_then(|line| line.rsplit(' ').next()).unwrap_or_default();
    let size = options.split(',').find_map(|it| it.strip_prefix("size="));
    enforced(name, size.is_some(), format!("/dev/shm: {}", size.unwrap_or("of no size of its own")))
}

/// `SECCOMP_MODE_FILTER` of the kernel's seccomp.h.
fn system_calls(mode: Option<&str>) -> Guarantee {
    simple("system calls filtered", mode == Some("2"), "Seccomp", mode.map(str::to_owned))
}

/// Nothing but the guard's own patience holds this: were it killed, the container would end.
fn guard(first: &[&str]) -> Guarantee {
    let first = first.first().copied().unwrap_or_default().trim();
    let held = if first.contains("/pgdrill/guard") { Held::Watched } else { Held::Absent };
    guarantee("wiped when pgdrill is gone", held, format!("first process: {first}"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use testcontainers::bollard::models::{HostConfig, NetworkSettings, PortBinding};

    use super::*;

    const TIGHT: &str = "@@ status\nName:\tcat\nUid:\t999\t999\t999\t999\nCapEff:\t0000000000000000\n\
        CapBnd:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n@@ net\nInter-|   Receive  |  Transmit\n face |bytes\n    lo:  0 0\n\
        @@ mounts\n612 600 254:0 /b/shop.dump /pgdrill/input/0 ro,relatime - ext4 /dev/vda rw\n\
        @@ memory\n1073741824\n@@ shm\n85 80 0:45 / /dev/shm rw,nosuid - tmpfs shm rw,size=262144k\n\
        @@ cpu\n200000 100000\n@@ pids\n512\n@@ first\n/sbin/docker-init -- /pgdrill/guard /pgdrill/run/lease 600 \n";

    fn inspected(mode: &str, port: Option<&str>) -> ContainerInspectResponse {
        let binding = PortBinding { host_ip: Some("0.0.0.0".to_owned()), host_port: Some("5432".to_owned()) };
        let ports = port.map(|port| HashMap::from([(port.to_owned(), Some(vec![binding]))]));
        ContainerInspectResponse {
            host_config: Some(HostConfig { network_mode: Some(mode.to_owned()), ..HostConfig::default() }),
            network_settings: Some(NetworkSettings { ports, ..NetworkSettings::default() }),
            ..ContainerInspectResponse::default()
        }
    }

    fn limits() -> Limits {
        Limits { memory_bytes: Some(1 << 30), cpus: Some(2), pids: 512, ..Limits::default() }
    }

    fn absent(looked: &str, inspected: &ContainerInspectResponse) -> Vec<String> {
        let all = guarantees(looked, inspected, &limits(), 1);
        all.into_iter().filter(|it| it.held == Held::Absent).map(|it| it.name).collect()
    }

    #[test]
    fn a_tight_sandbox_keeps_every_promise() {
        assert_eq!(absent(TIGHT, &inspected("none", None)), [""; 0]);
    }

    #[test]
    fn every_hole_is_seen() {
        let cases = [
            ("    lo:  0 0", "    lo: 0 0\n  eth0: 0 0", "no network"),
            ("CapEff:\t0000000000000000", "CapEff:\t0000000000000400", "capabilities dropped"),
            ("CapBnd:\t0000000000000000", "CapBnd:\t00000000a80425fb", "capabilities dropped"),
            ("NoNewPrivs:\t1", "NoNewPrivs:\t0", "no new privileges"),
            ("Uid:\t999\t999", "Uid:\t999\t0", "unprivileged user"),
            ("ro,relatime", "rw,relatime", "backup read-only"),
            ("/pgdrill/input/0 ro", "/elsewhere rw", "backup read-only"),
            ("1073741824", "max", "memory limited"),
            ("1073741824", "9223372036854771712", "memory limited"),
            ("512", "max", "processes limited"),
            ("200000 100000", "max 100000", "processors limited"),
            ("200000 100000", "-1 100000", "processors limited"),
            (",size=262144k", "", "shared memory limited"),
            ("Seccomp:\t2", "Seccomp:\t0", "system calls filtered"),
            ("/pgdrill/guard", "/bin/sleep", "wiped when pgdrill is gone"),
        ];
        for (from, to, expected) in cases {
            let looked = TIGHT.replacen(from, to, 1);
            assert_ne!(looked, TIGHT, "{from}");
            assert_eq!(absent(&looked, &inspected("none", None)), [expected], "{from} → {to}");
        }
        assert_eq!(absent(TIGHT, &inspected("bridge", None)), ["no network"]);
        assert_eq!(absent(TIGHT, &inspected("none", Some("5432/tcp"))), ["no published port"]);
    }

    #[test]
    fn a_writable_file_system_beneath_the_backup_is_seen() {
        let beneath =
            "ro,relatime - ext4 /dev/vda rw\n613 612 0:40 / /pgdrill/input/0/wal rw,relatime - nfs4 nas:/wal rw";
        let looked = TIGHT.replacen("ro,relatime - ext4 /dev/vda rw", beneath, 1);
        assert_eq!(absent(&looked, &inspected("none", None)), ["backup read-only"]);
    }

    #[test]
    fn what_could_not_be_seen_is_no_promise_kept() {
        let all = guarantees("", &ContainerInspectResponse::default(), &limits(), 1);
        let held: Vec<&str> = all.iter().filter(|it| it.held != Held::Absent).map(|it| it.name.as_str()).collect();
        assert_eq!(held, ["no published port"]);
    }
}
