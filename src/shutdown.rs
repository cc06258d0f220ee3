//! What signals do: the first to end asks, the second leaves; a hangup has the settings read anew.

use std::io::{self, IsTerminal};

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

/// SIGHUP, which says two things: a service manager's "read your settings", and a terminal's "I am gone".
#[derive(Debug)]
pub struct Hangups {
    signal: Signal,
    had_terminal: bool,
}

/// What a hangup meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hangup {
    /// Read the settings anew.
    Reload,
    /// The terminal that the program was started in was closed: nobody can press Ctrl-C there any more.
    TerminalGone,
}

impl Hangups {
    /// Takes the signal over from here on.
    ///
    /// # Errors
    /// What the system says.
    pub fn take() -> io::Result<Self> {
        Ok(Self { signal: signal(SignalKind::hangup())?, had_terminal: io::stdin().is_terminal() })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> Hangup {
        if self.signal.recv().await.is_none() {
            // The runtime is going down.
            std::future::pending::<()>().await;
        }
        // A terminal that hung up is none any more: every call on it fails.
        if self.had_terminal && !io::stdin().is_terminal() { Hangup::TerminalGone } else { Hangup::Reload }
    }
}
