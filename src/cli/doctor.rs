//! `pgdrill doctor` and `pgdrill clean`: what this machine has, and what earlier drills have left on it.

use std::path::PathBuf;

use super::args::Clean;
use super::world::{Surroundings, surroundings};
use super::{Exit, Screen, complain, complain_of, shell, tell};
use crate::runtime::container::Sweep;
use crate::runtime::host::{self, Diagnosis, State};
use crate::runtime::keeper::{self, Door, Keeper, Kept};
use crate::runtime::machine::Machine;
use crate::runtime::{Runtime as _, lease};

/// How long processes of a lapsed sandbox may take to die.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

pub(crate) async fn doctor(_: &Screen) -> Exit {
    let surroundings = match surroundings() {
        Ok(surroundings) => surroundings,
        Err(exit) => return exit,
    };
    let machine = surroundings.machine();
    let mut found = engine(&machine).await;
    found.extend(host::doctor(&machine.local, &surroundings.base).await);
    for it in &found {
        let state = match it.state {
            State::Good => "ok",
            State::Poor => "poor",
            State::Missing => "missing",
        };
        tell(&format!("{state:<8} {:<22} {}\n", it.name, it.seen));
        if let Some(advice) = &it.advice {
            tell(&format!("{:<8} {:<22} -> {advice}\n", "", ""));
        }
    }
    let container = found.iter().any(|it| it.name == "container engine" && it.state == State::Good);
    let local = found.iter().any(|it| it.name == "PostgreSQL programs" && it.state != State::Missing);
    match (container, local) {
        (true, _) => tell("\ndrills run in containers\n"),
        (false, true) => tell("\ndrills run with the PostgreSQL programs of this machine\n"),
        (false, false) => {
            tell("\nno drill can run here: install a container engine, or PostgreSQL\n");
            return Exit::Inconclusive;
        }
    }
    Exit::Passed
}

async fn engine(machine: &Machine) -> Vec<Diagnosis> {
    let engine = match machine.container.engine().await {
        Ok(engine) => Diagnosis {
            name: "container engine".to_owned(),
            state: State::Good,
            seen: format!("{} {} at {}, {}", engine.name, engine.version, engine.endpoint, engine.because),
            advice: None,
        },
        Err(fault) => {
            let seen = fault.causes.first().cloned().unwrap_or_else(|| fault.line());
            let advice =
                fault.hint.or_else(|| Some("Start Docker, or drill with this machine's PostgreSQL.".to_owned()));
            return vec![Diagnosis { name: "container engine".to_owned(), state: State::Missing, seen, advice }];
        }
    };
    let images = match machine.container.images().await {
        Ok(images) if images.is_empty() => Diagnosis {
            name: "images".to_owned(),
            state: State::Poor,
            seen: "none with PostgreSQL is here".to_owned(),
            advice: Some(
                "They are pulled when needed; without a registry, build them: fixtures/images/build".to_owned(),
            ),
        },
        Ok(images) => {
            let names: Vec<String> = images.iter().map(|it| it.reference.clone()).collect();
            Diagnosis { name: "images".to_owned(), state: State::Good, seen: names.join(", "), advice: None }
        }
        Err(fault) => {
            Diagnosis { name: "images".to_owned(), state: State::Poor, seen: fault.line(), advice: fault.hint }
        }
    };
    vec![engine, images]
}

/// Removes what has lapsed and nothing else, so that parallel runs are safe. Quiet: a run starts with it.
pub(crate) async fn sweep_lapsed(surroundings: &Surroundings, machine: &Machine) {
    let (_, remnants) = remove(lease::lapsed(&surroundings.base), machine).await;
    for remnant in remnants {
        complain(&format!("left behind by an earlier drill: {remnant}"));
    }
}

/// What was removed, and what would not go. Containers first: what writes into a directory must be gone before it is wiped.
async fn remove(mut scratches: Vec<PathBuf>, machine: &Machine) -> (Vec<String>, Vec<String>) {
    let (mut removed, mut remnants) = (Vec::new(), Vec::new());
    let mut swept_whole = None;
    if let Ok(engine) = machine.container.engine().await {
        match machine.container.sweep(Sweep::Lapsed { scratches: scratches.clone() }).await {
            Ok(swept) => {
                swept_whole = swept.remnants.is_empty().then_some(engine.endpoint);
                removed.extend(swept.removed);
                remnants.extend(swept.remnants);
            }
            Err(fault) => remnants.push(fault.line()),
        }
    }
    scratches.retain(|it| lease::awaited_engine(it).is_none_or(|engine| swept_whole.as_ref() == Some(&engine)));
    let wiping = tokio::task::spawn_blocking(move || {
        let wipe = |scratch: PathBuf| (scratch.display().to_string(), lease::wipe(&scratch, PATIENCE));
        scratches.into_iter().map(wipe).collect::<Vec<_>>()
    });
    for (scratch, left) in wiping.await.unwrap_or_default() {
        if left.is_empty() {
            removed.push(format!("directory {scratch}"));
        }
        remnants.extend(left);
    }
    (removed, remnants)
}

/// Removes kept sandboxes before their time, each by its own keeper, and then whatever that could not remove.
async fn end_kept(run: &str, dry_run: bool, machine: &Machine) -> Exit {
    let keepers = match shell::meant(run, None) {
        Ok(keepers) => keepers,
        Err(fault) => {
            complain_of(&fault);
            return Exit::Usage;
        }
    };
    let mut all = true;
    for keeper in keepers {
        let Kept { lease, name, .. } = &keeper.kept;
        let what = format!("{} (drill {name})", lease.drill);
        if dry_run {
            tell(&format!("would remove {what}\n"));
            continue;
        }
        keeper.end().await;
        if matches!(keeper.kept.door, Door::Container(_))
            && let Err(fault) = machine.container.engine().await
        {
            complain_of(&fault);
            all = false;
        }
        let remnants = machine.release(lease, false).await;
        if remnants.is_empty() {
            tell(&format!("removed {what}\n"));
        }
        for it in &remnants {
            all = false;
            complain(&format!("could not remove {it}"));
        }
    }
    if all { Exit::Passed } else { Exit::Inconclusive }
}

pub(crate) async fn clean(args: &Clean, _: &Screen) -> Exit {
    let surroundings = match surroundings() {
        Ok(surroundings) => surroundings,
        Err(exit) => return exit,
    };
    let machine = surroundings.machine();
    if let Some(run) = &args.run {
        return end_kept(run, args.dry_run, &machine).await;
    }
    if let Err(fault) = machine.container.engine().await {
        let why = fault.causes.first().cloned().unwrap_or_else(|| fault.line());
        complain(&format!("containers and volumes were not looked at, since no engine answers: {why}"));
    }
    let scratches = lease::lapsed(&surroundings.base);
    let (found, remnants) = if args.dry_run {
        let mut found: Vec<String> = scratches.iter().map(|it| format!("directory {}", it.display())).collect();
        found.extend(machine.container.lapsed(&scratches).await.unwrap_or_default());
        (found, Vec::new())
    } else {
        remove(scratches, &machine).await
    };
    let verb = if args.dry_run { "would remove" } else { "removed" };
    for it in &found {
        tell(&format!("{verb} {it}\n"));
    }
    for it in &remnants {
        complain(&format!("could not remove {it}"));
    }
    if found.is_empty() && remnants.is_empty() {
        tell("found nothing that a killed drill has left behind\n");
    }
    for Keeper { kept, .. } in keeper::all() {
        let Kept { lease, name, until, .. } = kept;
        tell(&format!(
            "kept until {until:.0}: {drill} (drill {name}); `pgdrill clean --run {drill}` removes it\n",
            drill = lease.drill
        ));
    }
    if remnants.is_empty() { Exit::Passed } else { Exit::Inconclusive }
}
