//! What signals mean: the first cancels, the second skips graceful stops, the third says what is left and goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Watches SIGINT and SIGTERM for the length of a run.
#[derive(Clone)]
pub(crate) struct Signals {
    pub(crate) cancel: CancellationToken,
    pub(crate) hurry: Arc<AtomicBool>,
    first: Arc<AtomicI32>,
}

impl Signals {
    /// `last_words` is printed before the process ends at the third signal.
    pub(crate) fn watch(say: impl Fn(&str) + Send + 'static, last_words: String) -> std::io::Result<Signals> {
        let signals =
            Signals { cancel: CancellationToken::new(), hurry: Arc::default(), first: Arc::new(AtomicI32::new(0)) };
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let watched = signals.clone();
        tokio::spawn(async move {
            for count in 1.. {
                let number = tokio::select! {
                    Some(()) = interrupt.recv() => SignalKind::interrupt().as_raw_value(),
                    Some(()) = terminate.recv() => SignalKind::terminate().as_raw_value(),
                    else => return,
                };
                match count {
                    1 => {
                        watched.first.store(number, Ordering::Relaxed);
                        watched.cancel.cancel();
                        say("stopping: the sandbox is being released (again: without graceful stops)");
                    }
                    2 => {
                        watched.hurry.store(true, Ordering::Relaxed);
                        say("releasing without graceful stops (again: leave everything as it is)");
                    }
                    _ => {
                        say(&last_words);
                        super::leave(super::Exit::Interrupted { signal: number });
                    }
                }
            }
        });
        Ok(signals)
    }

    /// The signal that cancelled the run, if one did.
    pub(crate) fn received(&self) -> Option<i32> {
        Some(self.first.load(Ordering::Relaxed)).filter(|it| *it != 0)
    }
}
