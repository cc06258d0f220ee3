//! What a service manager (systemd) is told, where one started us: that we listen, how we stand, that we live.
//!
//! The watchdog is fed only while the deciding task answers: a process whose threads turn and that decides nothing is
//! worse than one that is started anew.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::controller::Handle;
use crate::share::State;

/// How often the status line is made at most; it is sent when it changed.
const STATUS_EVERY: Duration = Duration::from_secs(2);

/// Tells the service manager until `shutdown`, that included. Without one it waits.
pub(super) async fn run(controller: Handle, shutdown: CancellationToken) {
    let watchdog = sd_notify::watchdog_enabled();
    let mut status = status_of(&controller);
    tell(vec![NotifyState::Ready, NotifyState::Status(&status)]).await;
    // The manager wants to hear from us twice within its patience.
    let beat = watchdog.map(|patience| patience / 2);
    let mut ticks = tokio::time::interval(beat.map_or(STATUS_EVERY, |beat| beat.min(STATUS_EVERY)).max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut fed: Option<Instant> = None;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            _ = ticks.tick() => {}
        }
        let line = status_of(&controller);
        if line != status {
            tell(vec![NotifyState::Status(&line)]).await;
            status = line;
        }
        if let Some(beat) = beat
            // A tick that comes a little early must not leave a whole one out.
            && fed.is_none_or(|fed| fed.elapsed() + beat / 4 >= beat)
        {
            if controller.answers_within(beat).await {
                fed = Some(Instant::now());
                tell(vec![NotifyState::Watchdog]).await;
            } else {
                tracing::error!("The deciding task does not answer; the service manager is not told that we live");
            }
        }
    }
    tell(vec![NotifyState::Stopping, NotifyState::Status("closing every door")]).await;
}

/// Tells that the settings are being read anew; [`reloaded`] must follow.
pub(super) async fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(vec![NotifyState::Reloading, now]).await,
        Err(error) => tracing::debug!(%error, "The time since boot is not known"),
    }
}

/// Tells that the settings were read.
pub(super) async fn reloaded() {
    tell(vec![NotifyState::Ready]).await;
}

async fn tell(states: Vec<NotifyState<'_>>) {
    let text: String = states.iter().map(|state| format!("{state}\n")).collect();
    // A manager that does not read would hold the thread.
    let sent = tokio::task::spawn_blocking(move || sd_notify::notify(&[NotifyState::Custom(text.trim_end())])).await;
    if let Ok(Err(error)) = sent {
        tracing::debug!(%error, "The service manager could not be told");
    }
}

fn status_of(controller: &Handle) -> String {
    status(&controller.living().iter().map(|view| view.state).collect::<Vec<_>>())
}

fn status(states: &[State]) -> String {
    let open = states.iter().filter(|state| matches!(state, State::Offered | State::Transferring | State::Waiting | State::Delivered));
    let running = states.iter().filter(|state| **state == State::Transferring).count();
    let open = open.count();
    format!("{open} {} open, {running} running", if open == 1 { "share" } else { "shares" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_counts_what_is_open_and_what_runs() {
        assert_eq!(status(&[]), "0 shares open, 0 running");
        assert_eq!(status(&[State::Scheduled, State::Transferring, State::Closing]), "1 share open, 1 running");
        assert_eq!(status(&[State::Offered, State::Waiting, State::Delivered]), "3 shares open, 0 running");
    }
}
