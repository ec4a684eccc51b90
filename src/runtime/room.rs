//! What both kinds of sandbox have in common: a room in which programs run, and its directories.
//!
//! A room has one root directory (the working directory of every program) with `data`, `run` and `spool` beneath it. The
//! host sees `run` and `spool` at the same place in the lease's scratch directory, so everything but running programs is
//! done on the host and is the same for both kinds. Where a container's engine does not see our files, [`Room::away`] has
//! what stands in for them.

use std::collections::BTreeMap;
use std::path::Path;

use tokio::sync::mpsc;

use super::container::ContainerRoom;
use super::container::remote::Helper;
use super::keeper::Door;
use super::local::LocalRoom;
use crate::evidence::Guarantee;
use crate::fault::Fault;
use crate::recipe::{Arg, At, Command, HostCondition, RoomUser};

/// Where programs of a sandbox run.
#[expect(clippy::large_enum_variant, reason = "there is one for each drill")]
pub(crate) enum Room {
    Container(ContainerRoom),
    Local(LocalRoom),
}

/// A program to run in a room.
pub(crate) struct Exec {
    /// Absolute path of the program first.
    pub(crate) argv: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    /// Chunks for its standard input, closed by dropping the sender. None: /dev/null. When the program ends early the
    /// receiver is dropped, which stops the sender.
    pub(crate) stdin: Option<mpsc::Receiver<Vec<u8>>>,
    /// Called with each line of standard error, without its end; invalid UTF-8 is replaced.
    pub(crate) on_stderr: Box<dyn FnMut(&str) + Send>,
}

/// How a program ended.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    /// 128 + n where signal n ended it.
    pub(crate) status: i32,
    /// Head and tail, at most 16 KiB.
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Room {
    /// Runs a program to its end. A Fault means that the room could not run it, not that the program failed.
    pub(crate) async fn exec(&self, exec: Exec) -> Result<Ended, Fault> {
        match self {
            Room::Container(room) => room.exec(exec).await,
            Room::Local(room) => room.exec(exec).await,
        }
    }

    /// The room, where `run` and `spool` do not lie on this machine.
    pub(crate) fn away(&self) -> Option<(&ContainerRoom, &Helper)> {
        match self {
            Room::Container(room) => room.helper().map(|helper| (room, helper)),
            Room::Local(_) => None,
        }
    }

    /// The path of a directory, as programs in the room see it.
    pub(crate) fn path(&self, at: At) -> String {
        match self {
            Room::Container(room) => room.path(at),
            Room::Local(room) => room.path(at),
        }
    }

    /// Who programs run as: files for them must be readable by this user.
    pub(crate) fn user(&self) -> &RoomUser {
        match self {
            Room::Container(room) => room.user(),
            Room::Local(room) => room.user(),
        }
    }

    pub(crate) async fn observe(&self) -> Result<Vec<Guarantee>, Fault> {
        match self {
            Room::Container(room) => room.observe().await,
            Room::Local(room) => room.observe().await,
        }
    }

    /// What the host did to the room so far: died, out of memory, disk full, engine gone.
    pub(crate) async fn conditions(&self) -> Vec<HostCondition> {
        match self {
            Room::Container(room) => room.conditions().await,
            Room::Local(room) => room.conditions().await,
        }
    }

    /// How another process of ours enters it.
    pub(super) fn door(&self) -> Door {
        match self {
            Room::Container(room) => Door::Container(room.door()),
            Room::Local(room) => Door::Local(room.door()),
        }
    }

    /// A path on the file system that the data fill. None: it is not this machine's.
    pub(super) fn disk<'a>(&'a self, scratch: &'a Path) -> Option<&'a Path> {
        match self {
            Room::Container(room) if room.own_data() => Some(scratch),
            Room::Container(room) => room.disk(),
            Room::Local(_) => Some(scratch),
        }
    }

    pub(crate) fn argv(&self, command: &Command) -> Vec<String> {
        let program = format!("{}/{}", self.path(At::Bin), command.program);
        let arg = |arg: &Arg| match arg {
            Arg::Text(text) => text.clone(),
            Arg::Path { at, path } if path.is_empty() => self.path(*at),
            Arg::Path { at, path } => format!("{}/{path}", self.path(*at)),
        };
        std::iter::once(program).chain(command.args.iter().map(arg)).collect()
    }
}
