//! Programs in a container that another pgdrill has made and left up: for a person at a terminal, or for a script.

use std::time::Duration;

use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use testcontainers::bollard::container::LogOutput;
use testcontainers::bollard::exec::{CreateExecOptions, ResizeExecOptions, StartExecOptions, StartExecResults};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::remote::Helper;
use super::room::{ROOT, status};
use super::{Container, engine};
use crate::fault::Fault;

/// All that it takes to run programs in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ContainerDoor {
    pub(crate) name: String,
    /// `999:999`
    pub(crate) user: String,
    pub(crate) bindir: String,
    /// Its engine does not see our files.
    pub(crate) streams: bool,
}

/// Of every container: the directory of the server's socket and of the lease.
pub(crate) const RUN: &str = "/pgdrill/run";

/// What goes in and comes out while a program runs.
pub(crate) struct Conversation<'a> {
    /// Ends with its sender.
    pub(crate) input: mpsc::Receiver<Vec<u8>>,
    /// Rows and columns of a terminal, first as it is and then as it changes. None: there is no terminal.
    pub(crate) sizes: Option<mpsc::Receiver<(u16, u16)>>,
    /// Called with what the program writes; `true`: to standard error.
    pub(crate) output: &'a mut (dyn FnMut(bool, &[u8]) + Send),
}

impl Container {
    /// Renews the lease in a container that does not see ours, until the handle is dropped.
    pub(crate) async fn hold(
        &self,
        door: &ContainerDoor,
        patience: Duration,
    ) -> Result<Option<AbortOnDropHandle<()>>, Fault> {
        let docker = self.connect().await?.docker.clone();
        let helper = Helper::new(docker, door.name.clone(), door.user.clone());
        Ok(door.streams.then(|| helper.renew(format!("{RUN}/lease"), patience)))
    }

    /// Runs a program in a container to its end: its status.
    pub(crate) async fn converse(
        &self,
        door: &ContainerDoor,
        argv: Vec<String>,
        env: Vec<String>,
        conversation: Conversation<'_>,
    ) -> Result<i32, Fault> {
        let Conversation { mut input, sizes, output: tell } = conversation;
        let docker = &self.connect().await?.docker;
        let fault = |error| engine::fault(format!("run a program in the container {}", door.name), &error);
        let options = CreateExecOptions {
            cmd: Some(argv),
            env: Some(env),
            tty: Some(sizes.is_some()),
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            user: Some(door.user.clone()),
            working_dir: Some(ROOT.to_owned()),
            ..CreateExecOptions::default()
        };
        let id = docker.create_exec(&door.name, options).await.map_err(fault)?.id;
        let start =
            StartExecOptions { tty: sizes.is_some(), output_capacity: Some(64 * 1024), ..StartExecOptions::default() };
        let StartExecResults::Attached { mut output, input: mut stdin } =
            docker.start_exec(&id, Some(start)).await.map_err(fault)?
        else {
            return Ok(0);
        };
        let feeding = AbortOnDropHandle::new(tokio::spawn(async move {
            while let Some(chunk) = input.recv().await {
                if stdin.write_all(&chunk).await.is_err() || stdin.flush().await.is_err() {
                    return;
                }
            }
            drop(stdin.shutdown().await);
        }));
        let (resized, exec) = (docker.clone(), id.clone());
        let sizing = AbortOnDropHandle::new(tokio::spawn(async move {
            let Some(mut sizes) = sizes else { return };
            while let Some((height, width)) = sizes.recv().await {
                // A size that is not taken spoils no more than the looks.
                drop(resized.resize_exec(&exec, ResizeExecOptions { height, width }).await);
            }
        }));
        while let Some(chunk) = output.next().await {
            match chunk.map_err(fault)? {
                LogOutput::StdErr { message } => tell(true, &message),
                LogOutput::StdOut { message } | LogOutput::Console { message } => tell(false, &message),
                LogOutput::StdIn { .. } => {}
            }
        }
        drop((feeding, sizing));
        status(docker, &id).await.map_err(fault)
    }
}
