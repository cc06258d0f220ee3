//! How the program ends: the first signal asks, the second leaves.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What a shell reports of a program that ended by Ctrl-C: 128 and the signal's number.
const EXIT_BY_SIGNAL: i32 = 130;

/// SIGINT and SIGTERM.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Takes the signals over from here on.
    ///
    /// # Errors
    /// What the system says.
    pub fn take() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Cancels `stop` at the first signal and ends the process at the second, whatever still runs.
    pub async fn watch(mut self, stop: CancellationToken) {
        self.next().await;
        tracing::info!("Stopping: closing every door. Once more to leave at once");
        stop.cancel();
        self.next().await;
        tracing::warn!("Left at once; the next start takes up what was running");
        std::process::exit(EXIT_BY_SIGNAL);
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
