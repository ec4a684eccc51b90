//! `pgdrill shell`: into a sandbox that was kept; and which sandboxes are kept at all.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::args::Shell;
use super::world::{Surroundings, surroundings};
use super::{Exit, complain_of, out};
use crate::evidence;
use crate::fault::{Blame, Fault};
use crate::runtime::container::{ContainerDoor, Conversation};
use crate::runtime::keeper::{self, Door, Keeper, Kept};
use crate::runtime::local::LocalDoor;

/// Opens psql, or runs a program, in a kept sandbox. Its exit status is the program's.
pub(crate) async fn shell(asked: &Shell) -> Result<u8, Exit> {
    let surroundings = surroundings()?;
    let usage = |fault: Fault| {
        complain_of(&fault);
        Exit::Usage
    };
    let kept = one(&asked.run, asked.drill.as_deref()).map_err(usage)?.kept;
    let argv = if asked.exec { asked.args.clone() } else { kept.psql(&asked.args) };
    if argv.is_empty() {
        return Err(usage(
            Fault::new(Blame::Scenario, "run a program in the sandbox").hint("Name it: --exec -- PROGRAM …"),
        ));
    }
    let status = match &kept.door {
        Door::Local(door) => Err(in_room(&surroundings, door, &argv)),
        Door::Container(door) => in_container(&surroundings, door, argv).await,
    };
    status.map_err(|fault| {
        complain_of(&fault);
        Exit::Inconclusive
    })
}

/// psql should not try to write a history into the server's directories.
const HISTORY: (&str, &str) = ("PSQL_HISTORY", "/dev/null");

fn terminal() -> String {
    std::env::var("TERM").unwrap_or_else(|_| "dumb".to_owned())
}

/// Becomes the program: whatever a terminal sends is then between it and the program. Returns only if it cannot.
fn in_room(surroundings: &Surroundings, door: &LocalDoor, argv: &[String]) -> Fault {
    let fault = |cause: String| Fault::new(Blame::Host, "enter the sandbox").cause(cause);
    match door.command(&surroundings.exe, argv) {
        Ok(mut command) => fault(command.env("TERM", terminal()).env(HISTORY.0, HISTORY.1).exec().to_string()),
        Err(reason) => fault(reason),
    }
}

async fn in_container(surroundings: &Surroundings, door: &ContainerDoor, argv: Vec<String>) -> Result<u8, Fault> {
    let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let (send, input) = mpsc::channel(16);
    // A thread of its own: it may wait for a key for ever, and must not keep us.
    std::thread::spawn(move || {
        let mut buffer = [0; 8 << 10];
        while let Ok(count @ 1..) = std::io::stdin().lock().read(&mut buffer) {
            if send.blocking_send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    let _raw = if is_terminal { Raw::begin() } else { None };
    let mut output = |is_error: bool, bytes: &[u8]| {
        // A reader that has gone away is no reason to fail.
        let _ = if is_error {
            std::io::stderr().write_all(bytes)
        } else {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(bytes).and_then(|()| stdout.flush())
        };
    };
    let conversation = Conversation { input, sizes: is_terminal.then(sizes), output: &mut output };
    let env = [("TERM".to_owned(), terminal()), (HISTORY.0.to_owned(), HISTORY.1.to_owned())];
    let env = env.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let machine = surroundings.machine();
    let status = machine.container.converse(door, argv, env, conversation).await?;
    Ok(u8::try_from(status).unwrap_or(u8::MAX))
}

/// The terminal's rows and columns, now and whenever they change.
fn sizes() -> mpsc::Receiver<(u16, u16)> {
    let (send, receive) = mpsc::channel(4);
    tokio::spawn(async move {
        let Ok(mut changed) = signal(SignalKind::window_change()) else { return };
        loop {
            if let Some((width, height)) = terminal_size::terminal_size()
                && send.send((height.0, width.0)).await.is_err()
            {
                return;
            }
            changed.recv().await;
        }
    });
    receive
}

/// A terminal that passes on every key, until this is dropped.
struct Raw(Termios);

impl Raw {
    fn begin() -> Option<Raw> {
        let before = tcgetattr(std::io::stdin()).ok()?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(std::io::stdin(), SetArg::TCSANOW, &raw).ok()?;
        Some(Raw(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, &self.0);
    }
}

/// The kept sandboxes that a person means: by a run, by a sandbox's own name, or by the directory of a run's reports.
pub(super) fn meant(text: &str, drill: Option<&str>) -> Result<Vec<Keeper>, Fault> {
    let all = keeper::all();
    let reported = reported_in(text);
    let is_meant = |kept: &Kept| match &reported {
        Some(drills) => drills.contains(&kept.lease.drill),
        None => kept.is_meant_by(text),
    };
    let meant = all.iter().filter(|it| is_meant(&it.kept) && drill.is_none_or(|name| it.kept.name == name));
    let meant: Vec<Keeper> = meant.cloned().collect();
    if !meant.is_empty() {
        return Ok(meant);
    }
    let of = drill.map(|name| format!(" with a drill {name}")).unwrap_or_default();
    let fault = Fault::new(Blame::Scenario, format!("find a kept sandbox of {text}{of}"));
    Err(if all.is_empty() {
        fault
            .cause("this user keeps none on this machine")
            .hint("Run drills with --keep, or with `keep: on_failure` in the scenario.")
    } else {
        fault.cause("none that is kept has this name").hint(format!("These are kept: {}.", listed(&all)))
    })
}

fn one(text: &str, drill: Option<&str>) -> Result<Keeper, Fault> {
    let mut meant = meant(text, drill)?;
    if meant.len() > 1 {
        let fault = Fault::new(Blame::Scenario, format!("choose a kept sandbox of {text}"));
        return Err(fault
            .cause(format!("there are several: {}", listed(&meant)))
            .hint("Name one, or its drill with --drill."));
    }
    meant.pop().ok_or_else(|| Fault::new(Blame::Harness, "find a kept sandbox"))
}

/// `pgdrill-456789ab-0 (drill shop, run 0199…, until …)`
pub(super) fn listed(keepers: &[Keeper]) -> String {
    let word = |it: &Keeper| {
        let Kept { lease, name, until, .. } = &it.kept;
        format!("{} (drill {name}, run {}, until {until:.0})", lease.drill, lease.run)
    };
    keepers.iter().map(word).collect::<Vec<_>>().join("; ")
}

/// The names of the kept sandboxes of a run, if this is where its reports lie.
fn reported_in(path: &str) -> Option<Vec<String>> {
    let path = Path::new(path);
    if !path.exists() {
        return None;
    }
    let (stored, _) = out::read_back(path).ok()?;
    let kept = stored.drills.into_iter().filter(|it| matches!(it.kept, Some(evidence::Kept::Until(_))));
    Some(kept.filter_map(|it| it.start).map(|it| it.drill).collect())
}
