//! What a service manager (systemd) is told, where one started us: that we listen, how we stand, that we live.
//!
//! The watchdog is fed only while the deciding task answers: a process whose threads turn and that decides nothing is
//! worse than one that is started anew.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::causes::Causes;
use crate::controller::Handle;
use crate::share::State;

/// How often the status line is made at most; it is sent when it changed.
const STATUS_EVERY: Duration = Duration::from_secs(2);

/// Tells the service manager until `shutdown`, that included. Without one it waits.
pub(super) async fn run(controller: Handle, shutdown: CancellationToken) {
    tell_until(controller, shutdown, sd_notify::watchdog_enabled(), tell).await;
}

/// Tells by `tell`; `patience` is how long the manager waits for a sign of life.
async fn tell_until(controller: Handle, shutdown: CancellationToken, patience: Option<Duration>, tell: impl AsyncFn(Vec<NotifyState<'_>>)) {
    let mut status = status_of(&controller);
    tell(vec![NotifyState::Ready, NotifyState::Status(&status)]).await;
    // The manager wants to hear from us twice within its patience.
    let beat = patience.map(|patience| patience / 2);
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
        Err(error) => tracing::debug!(error = %Causes(&error), "The time since boot is not known"),
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
        tracing::debug!(error = %Causes(&error), "The service manager could not be told");
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
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::Poll;

    use tokio::sync::mpsc;
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::app::StoreDigests;
    use crate::catalog::{Catalog, CatalogOptions, Digests};
    use crate::clock::FakeClock;
    use crate::controller::{Controller, Parts};
    use crate::delivery::Passes;
    use crate::metrics::Metrics;
    use crate::share::{Limits, Moment, Steady, Timestamp};
    use crate::store::memory::MemoryStore;
    use crate::token::{Key, Keys, random};
    use crate::tunnel::fake::Fake;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Returns what the service manager is told of a controller whose task does not go on while the flag is set.
    async fn told(hangs: Arc<AtomicBool>) -> mpsc::UnboundedReceiver<String> {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Arc::new(Catalog::new(folder.path(), CatalogOptions::default()).unwrap());
        let (reports, inbox) = mpsc::channel(1);
        let store = Arc::new(MemoryStore::default());
        let parts = Parts {
            store: store.clone(),
            sharing: None,
            digests: Arc::new(Digests::new(catalog.clone(), Arc::new(StoreDigests(store)))),
            catalog,
            tunnel: Arc::new(Fake::default()),
            clock: Arc::new(FakeClock::at(Moment { steady: Steady(0), wall: Timestamp(0) })),
            keys: Keys::new(vec![Key::new(&random::secret()).unwrap()], random::bytes()),
            passes: Passes::default(),
            metrics: Metrics::new("1.2.3", Timestamp(0)),
            limits: Limits { max_tunnel: PATIENCE, stall_timeout: PATIENCE, grace_period: PATIENCE },
            drain: Duration::ZERO,
        };
        let (controller, handle) = Controller::load(parts, inbox).await.unwrap();
        let shutdown = CancellationToken::new();
        let mut task = Box::pin(controller.run(shutdown.clone()));
        let tasks = TaskTracker::new();
        tasks.spawn(std::future::poll_fn(move |context| {
            let _kept = (&reports, &folder);
            if hangs.load(Ordering::SeqCst) { Poll::Pending } else { task.as_mut().poll(context).map(drop) }
        }));
        let (sender, receiver) = mpsc::unbounded_channel();
        let tell = async move |states: Vec<NotifyState<'_>>| {
            for state in states {
                let _ = sender.send(state.to_string());
            }
        };
        tasks.spawn(tell_until(handle, shutdown, Some(PATIENCE), tell));
        receiver
    }

    fn signs_of_life(told: &mut mpsc::UnboundedReceiver<String>) -> usize {
        std::iter::from_fn(|| told.try_recv().ok()).filter(|line| line == "WATCHDOG=1").count()
    }

    #[tokio::test(start_paused = true)]
    async fn no_sign_of_life_is_given_while_the_deciding_task_hangs() {
        let hangs = Arc::new(AtomicBool::new(false));
        let mut told = told(hangs.clone()).await;
        tokio::time::sleep(PATIENCE * 4).await;
        let before = signs_of_life(&mut told);
        assert!((7..=10).contains(&before), "{before} in four times the manager's patience");
        hangs.store(true, Ordering::SeqCst);
        tokio::time::sleep(PATIENCE * 4).await;
        assert_eq!(signs_of_life(&mut told), 0);
    }

    #[test]
    fn the_status_counts_what_is_open_and_what_runs() {
        assert_eq!(status(&[]), "0 shares open, 0 running");
        assert_eq!(status(&[State::Scheduled, State::Transferring, State::Closing]), "1 share open, 1 running");
        assert_eq!(status(&[State::Offered, State::Waiting, State::Delivered]), "3 shares open, 0 running");
    }
}
