//! What isolation a room has, and what the host did to it: by looking in /proc, not by remembering what was asked for.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::{Inside, LocalRoom, Namespaces};
use crate::evidence::{Guarantee, Held};
use crate::fault::Fault;
use crate::recipe::HostCondition;
use crate::runtime::{cgroup, host, processes};

impl LocalRoom {
    /// # Errors
    /// None today: what cannot be seen is absent.
    #[expect(clippy::unused_async, reason = "both kinds of room share a signature")]
    pub(crate) async fn observe(&self) -> Result<Vec<Guarantee>, Fault> {
        let inside = &*self.inside;
        let server = server(inside);
        Ok(vec![
            network(inside),
            listeners(inside),
            namespace(inside, "own process table", "pid", "pid_for_children"),
            namespace(inside, "own shared memory", "ipc", "ipc"),
            own_root(inside),
            read_only(inside),
            user(server),
            capabilities(server),
            simple("no new privileges", server, "NoNewPrivs", "1"),
            simple("system calls filtered", server, "Seccomp", "2"),
            shared_memory(inside),
        ]
        .into_iter()
        .chain(limits(inside, server))
        .collect())
    }

    #[expect(clippy::unused_async, reason = "both kinds of room share a signature")]
    pub(crate) async fn conditions(&self) -> Vec<HostCondition> {
        let inside = &*self.inside;
        let mut conditions = Vec::new();
        let kills = inside.group.oom_kills().map_or_else(|| host::oom_kills() > inside.oom_kills, |it| it > 0);
        if kills {
            conditions.push(HostCondition::OutOfMemory);
        }
        if host::disk(&inside.root).is_some_and(host::Disk::is_full) {
            conditions.push(HostCondition::DiskFull);
        }
        let dead = |it: Namespaces| !processes::runs(it.init);
        if inside.released.load(Ordering::Acquire) || inside.namespaces.is_some_and(dead) || !inside.root.exists() {
            conditions.push(HostCondition::SandboxDied);
        }
        conditions
    }
}

fn guarantee(name: &str, held: Held, seen: impl Into<String>) -> Guarantee {
    Guarantee { name: name.to_owned(), held, seen: seen.into() }
}

fn network(inside: &Inside) -> Guarantee {
    let name = "no network";
    let Some(Namespaces { anchor, .. }) = inside.namespaces else {
        return guarantee(name, Held::Absent, "the room shares the network of the host");
    };
    let Ok(text) = fs::read_to_string(format!("/proc/{anchor}/net/dev")) else {
        return guarantee(name, Held::Absent, "the interfaces of the room could not be listed");
    };
    let interfaces: Vec<&str> = text.lines().filter_map(|it| it.split_once(':')).map(|(name, _)| name.trim()).collect();
    let held = if interfaces.iter().all(|it| *it == "lo") { Held::Enforced } else { Held::Absent };
    guarantee(name, held, format!("interfaces: {}", interfaces.join(", ")))
}

/// Sockets of the room that wait for TCP connections. Without a network of its own: of its processes.
fn listeners(inside: &Inside) -> Guarantee {
    let name = "no TCP listener";
    let process = inside.namespaces.map_or_else(|| "self".to_owned(), |it| it.anchor.to_string());
    let mut listening = Vec::new();
    for table in ["tcp", "tcp6"] {
        // Without IPv6 in the kernel there is no second table.
        let text = fs::read_to_string(format!("/proc/{process}/net/{table}")).unwrap_or_default();
        listening.extend(text.lines().skip(1).filter_map(parse_listener));
    }
    if inside.namespaces.is_none() {
        let owned = sockets(&inside.root);
        listening.retain(|(_, inode)| owned.contains(inode));
    }
    match listening.as_slice() {
        [] => guarantee(name, Held::Watched, "no socket of the room listens"),
        some => {
            let ports: Vec<String> = some.iter().map(|(port, _)| port.to_string()).collect();
            guarantee(name, Held::Absent, format!("listening on TCP port {}", ports.join(", ")))
        }
    }
}

/// Port and inode of a listening socket, from a line of /proc/net/tcp; see `proc_pid_net(5)`.
fn parse_listener(line: &str) -> Option<(u16, u64)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    // TCP_LISTEN, from the kernel's tcp_states.h.
    (*fields.get(3)? == "0A").then_some(())?;
    let (_, port) = fields.get(1)?.rsplit_once(':')?;
    Some((u16::from_str_radix(port, 16).ok()?, fields.get(9)?.parse().ok()?))
}

fn sockets(root: &Path) -> BTreeSet<u64> {
    let handles = processes::beneath(root).into_iter().filter_map(|pid| fs::read_dir(format!("/proc/{pid}/fd")).ok());
    let links = handles.flatten().flatten().filter_map(|it| fs::read_link(it.path()).ok());
    links.filter_map(|it| it.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()).collect()
}

fn namespace(inside: &Inside, name: &str, own: &str, theirs: &str) -> Guarantee {
    let Some(Namespaces { anchor, .. }) = inside.namespaces else {
        return guarantee(name, Held::Absent, "no namespaces on this machine");
    };
    let link = |process: &str, kind: &str| fs::read_link(format!("/proc/{process}/ns/{kind}")).ok();
    match (link("self", own), link(&anchor.to_string(), theirs)) {
        (Some(ours), Some(room)) if ours != room => {
            guarantee(name, Held::Enforced, format!("{}, ours is {}", room.display(), ours.display()))
        }
        (Some(_), Some(room)) => guarantee(name, Held::Absent, format!("{} is the host's", room.display())),
        (_, None) | (None, _) => guarantee(name, Held::Absent, "the namespace could not be seen"),
    }
}

fn room_mounts(inside: &Inside) -> Option<Vec<processes::Mount>> {
    let anchor = inside.namespaces?.anchor;
    processes::mounts(&PathBuf::from(format!("/proc/{anchor}/mountinfo"))).ok()
}

fn own_root(inside: &Inside) -> Guarantee {
    let name = "host files hidden";
    let Some(mounts) = room_mounts(inside) else {
        return guarantee(name, Held::Absent, "the room sees the files of the host");
    };
    let own = mounts.iter().any(|it| it.point == Path::new("/") && it.filesystem == "tmpfs");
    let shown: BTreeSet<PathBuf> = mounts.iter().map(|it| it.point.components().take(2).collect()).collect();
    let shown: Vec<String> = shown.iter().map(|it| it.display().to_string()).collect();
    let held = if own { Held::Enforced } else { Held::Absent };
    guarantee(name, held, format!("the room has mounts in {}", shown.join(" ")))
}

fn read_only(inside: &Inside) -> Guarantee {
    let name = "writes only in the room";
    let Some(mounts) = room_mounts(inside) else {
        return guarantee(name, Held::Absent, "only file permissions keep the server from writing elsewhere");
    };
    let own = [inside.root.as_path(), Path::new("/proc"), Path::new("/dev/shm")];
    let writable = mounts.iter().filter(|it| it.options.split(',').any(|it| it == "rw"));
    let elsewhere: Vec<String> = writable
        .map(|it| &it.point)
        .filter(|it| !own.contains(&it.as_path()))
        .map(|it| it.display().to_string())
        .collect();
    if !elsewhere.is_empty() {
        return guarantee(name, Held::Absent, format!("also writable: {}", elsewhere.join(" ")));
    }
    let mut seen = format!("{} mounts, all read-only but {} and /dev/shm", mounts.len(), inside.root.display());
    if !inside.lacks.is_empty() {
        seen = format!("{seen}; not granted: {}", inside.lacks.join("; "));
    }
    guarantee(name, Held::Enforced, seen)
}

/// The postmaster's number on the host.
///
/// postmaster.pid holds its number in the room, which the kernel tells beside ours in `NSpid`.
fn server(inside: &Inside) -> Option<u32> {
    let text = fs::read_to_string(inside.root.join("data/postmaster.pid")).ok()?;
    let number = text.lines().next()?.trim().to_owned();
    let data = inside.root.join("data");
    processes::beneath(&data).into_iter().find(|pid| {
        let numbers = processes::status(*pid, "NSpid");
        numbers.is_some_and(|it| it.split_whitespace().last() == Some(number.as_str()))
    })
}

fn user(server: Option<u32>) -> Guarantee {
    let name = "unprivileged user";
    let Some((pid, uids)) = server.and_then(|pid| Some((pid, processes::status(pid, "Uid")?))) else {
        return guarantee(name, Held::Absent, "no server runs");
    };
    let held = if uids.split_whitespace().any(|it| it == "0") { Held::Absent } else { Held::Enforced };
    let uid = uids.split_whitespace().next().unwrap_or_default();
    guarantee(name, held, format!("the server (process {pid}) has uid {uid}"))
}

fn capabilities(server: Option<u32>) -> Guarantee {
    let name = "capabilities dropped";
    let Some(effective) = server.and_then(|pid| processes::status(pid, "CapEff")) else {
        return guarantee(name, Held::Absent, "no server runs");
    };
    let held = if effective.chars().all(|it| it == '0') { Held::Enforced } else { Held::Absent };
    guarantee(name, held, format!("CapEff: {effective}"))
}

/// A line of the server's status that says it all.
fn simple(name: &str, server: Option<u32>, key: &str, holds: &str) -> Guarantee {
    let Some(value) = server.and_then(|pid| processes::status(pid, key)) else {
        return guarantee(name, Held::Absent, "no server runs");
    };
    let held = if value == holds { Held::Enforced } else { Held::Absent };
    guarantee(name, held, format!("{key}: {value}"))
}

/// Of the room's own /dev/shm: the size that its file system has.
fn shared_memory(inside: &Inside) -> Guarantee {
    let name = "shared memory limited";
    let Some(Namespaces { init, .. }) = inside.namespaces else {
        return guarantee(name, Held::Absent, "the room shares /dev/shm with the host");
    };
    let own = room_mounts(inside).is_some_and(|it| it.iter().any(|it| it.point == Path::new("/dev/shm")));
    match host::disk(&PathBuf::from(format!("/proc/{init}/root/dev/shm"))).filter(|_| own) {
        Some(disk) => guarantee(name, Held::Enforced, format!("/dev/shm: {}", host::human(disk.total))),
        None => guarantee(name, Held::Absent, "/dev/shm of the room could not be seen"),
    }
}

/// Of the control groups that the server is in, whoever made them.
fn limits(inside: &Inside, server: Option<u32>) -> [Guarantee; 3] {
    let names = ["memory limited", "processors limited", "processes limited"];
    let Some(server) = server else { return names.map(|name| guarantee(name, Held::Absent, "no server runs")) };
    let seen = cgroup::in_force(Path::new(cgroup::ROOT), &server.to_string());
    let texts = [
        seen.memory_bytes.map(|it| format!("{it} bytes")),
        seen.processors.map(cgroup::processors_text),
        seen.processes.map(|it| format!("{it} processes")),
    ];
    let lacks = inside.group.lacks.join("; ");
    let none = |asked: bool| match () {
        () if !asked => "no limit was asked for".to_owned(),
        () if lacks.is_empty() => format!("no group of process {server} has a limit"),
        () => lacks.clone(),
    };
    let asked = [inside.limits.memory_bytes.is_some(), inside.limits.cpus.is_some(), true];
    let mut rest = names.into_iter().zip(texts).zip(asked);
    names.map(|name| match rest.next() {
        Some(((_, Some(text)), _)) => guarantee(name, Held::Enforced, text),
        Some(((_, None), asked)) => guarantee(name, Held::Absent, none(asked)),
        None => guarantee(name, Held::Absent, none(false)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listening_sockets_are_listeners() {
        let listening =
            "   0: 0100007F:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000   101        0 8745 1";
        let connected =
            "   1: 0100007F:1538 0100007F:A0D2 01 00000000:00000000 00:00000000 00000000   101        0 8746 1";
        assert_eq!(parse_listener(listening), Some((5432, 8745)));
        assert_eq!(parse_listener(connected), None);
        assert_eq!(parse_listener("nonsense"), None);
    }
}
