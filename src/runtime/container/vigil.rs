//! Watches one container by the engine's events, because a container that is removed as it ends can be asked no more.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt;
use testcontainers::bollard::Docker;
use testcontainers::bollard::models::EventMessage;
use testcontainers::bollard::query_parameters::EventsOptionsBuilder;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// What the engine said of a container so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// The kernel killed one of its processes for want of memory.
    pub(super) out_of_memory: bool,
    pub(super) ended: Option<Ending>,
    /// The engine stopped talking.
    pub(super) silent: bool,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    /// Status of its first process; 128 + n after signal n.
    pub(super) status: Option<i32>,
}

pub(super) struct Vigil {
    seen: watch::Receiver<Seen>,
    task: AbortHandle,
}

impl Vigil {
    /// Watches the container of this name. It need not exist yet: what happens before the engine listens is repeated.
    pub(super) fn keep(docker: Docker, name: String) -> Vigil {
        let (tell, seen) = watch::channel(Seen::default());
        let task = tokio::spawn(follow(docker, name, tell)).abort_handle();
        Vigil { seen, task }
    }

    pub(super) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// How the container ended; waits a little for the news.
    pub(super) async fn ending(&self, patience: Duration) -> Seen {
        let mut seen = self.seen.clone();
        let news = tokio::time::timeout(patience, seen.wait_for(|it| it.ended.is_some() || it.silent));
        // Without news what is known so far has to do.
        drop(news.await);
        self.seen()
    }
}

impl Drop for Vigil {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(docker: Docker, name: String, tell: watch::Sender<Seen>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    // A minute for an engine whose clock is not ours. The name is unique, so nothing else can be meant.
    let since = now.saturating_sub(60).to_string();
    let filters = HashMap::from([("type", vec!["container"]), ("container", vec![name.as_str()])]);
    let mut events = Box::pin(docker.events(Some(EventsOptionsBuilder::new().since(&since).filters(&filters).build())));
    while let Some(Ok(event)) = events.next().await {
        tell.send_modify(|seen| note(seen, &name, &event));
        if tell.borrow().ended.is_some() {
            return;
        }
    }
    tell.send_modify(|seen| seen.silent = true);
}

fn note(seen: &mut Seen, name: &str, event: &EventMessage) {
    let attributes = event.actor.as_ref().and_then(|it| it.attributes.as_ref());
    let attribute = |key: &str| attributes.and_then(|it| it.get(key)).map(String::as_str);
    // The engine's filter also takes beginnings of names.
    if attribute("name") != Some(name) {
        return;
    }
    match event.action.as_deref() {
        Some("oom") => seen.out_of_memory = true,
        // podman says `died`.
        Some("die" | "died") => {
            let status = attribute("exitCode").or(attribute("containerExitCode")).and_then(|it| it.parse().ok());
            seen.ended = Some(Ending { status });
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use testcontainers::bollard::models::EventActor;

    use super::*;

    #[test]
    fn only_this_containers_events_are_noted() {
        let event = |action: &str, name: &str| EventMessage {
            action: Some(action.to_owned()),
            actor: Some(EventActor {
                id: None,
                attributes: Some(HashMap::from([
                    ("name".to_owned(), name.to_owned()),
                    ("exitCode".to_owned(), "137".to_owned()),
                ])),
            }),
            ..EventMessage::default()
        };
        let mut seen = Seen::default();
        note(&mut seen, "pgdrill-a", &event("die", "pgdrill-a-probe"));
        note(&mut seen, "pgdrill-a", &event("start", "pgdrill-a"));
        note(&mut seen, "pgdrill-a", &EventMessage::default());
        assert_eq!(seen, Seen::default());
        note(&mut seen, "pgdrill-a", &event("oom", "pgdrill-a"));
        assert!(seen.out_of_memory && seen.ended.is_none());
        note(&mut seen, "pgdrill-a", &event("die", "pgdrill-a"));
        assert_eq!(seen.ended, Some(Ending { status: Some(137) }));
    }
}
