//! Forgets what is older than the operator wants kept.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::causes::Causes;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::share::Timestamp;
use crate::store::{Forgotten, Store, StoreError};

/// How often it is looked for what is too old: what may go a day early or late may go an hour late.
const EVERY: Duration = Duration::from_secs(3600);
/// How long it waits at the start: a machine that was switched on may have the time of any year until the network tells it,
/// and what is forgotten does not come back.
const SETTLING: Duration = Duration::from_secs(15 * 60);
/// How long others have the store for themselves between two bounded calls.
const PAUSE: Duration = Duration::from_millis(200);

/// What it works with.
pub(super) struct Retention {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Metrics,
    /// How long everything is kept; `None`: for ever.
    pub(super) kept_for: watch::Receiver<Option<Duration>>,
}

impl Retention {
    /// Forgets a while after the start, every hour, and when the operator wants another time, until `shutdown`.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(SETTLING) => {}
        }
        loop {
            let kept_for = *self.kept_for.borrow_and_update();
            let round = async {
                if let Some(kept_for) = kept_for {
                    self.forget(kept_for).await;
                }
                tokio::select! {
                    () = tokio::time::sleep(EVERY) => {}
                    Ok(()) = self.kept_for.changed() => {}
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = round => {}
            }
        }
    }

    async fn forget(&self, kept_for: Duration) {
        let now = self.clock.now();
        // A wall clock that was set ahead must cost nobody their history: the steady one did not move.
        let now = now.wall.0.min(now.steady.0);
        let before = Timestamp(now.saturating_sub(i64::try_from(kept_for.as_millis()).unwrap_or(i64::MAX)));
        match self.all_before(before).await {
            Ok(Forgotten { events: 0, shares: 0, audit_lines: 0, .. }) => {}
            Ok(Forgotten { events, shares, audit_lines, .. }) => {
                let days = kept_for.as_secs() / (24 * 3600);
                tracing::info!(events, shares, audit_lines, "Forgot what is older than {days} days (RETENTION_DAYS)");
            }
            Err(error) => {
                tracing::warn!(error = %Causes(&error), "Could not forget what is too old; trying again in an hour");
            }
        }
    }

    async fn all_before(&self, before: Timestamp) -> Result<Forgotten, StoreError> {
        let mut all = Forgotten::default();
        loop {
            let step = self.store.forget(before).await?;
            self.metrics.forgotten(step.events, step.shares, step.audit_lines);
            all.events += step.events;
            all.shares += step.shares;
            all.audit_lines += step.audit_lines;
            if !step.is_more {
                return Ok(all);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::FakeClock;
    use crate::metrics::{Exposition, Snapshot};
    use crate::share::{Moment, Steady};
    use crate::store::audit::AuditEntry;
    use crate::store::memory::MemoryStore;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    struct Scene {
        store: Arc<MemoryStore>,
        clock: Arc<FakeClock>,
        metrics: Metrics,
        kept_for: watch::Sender<Option<Duration>>,
        stop: CancellationToken,
        task: tokio::task::JoinHandle<()>,
    }

    impl Scene {
        /// A store with a line of the first day, looked at a hundred days later.
        async fn new(kept_for: Option<Duration>) -> Self {
            let store = Arc::new(MemoryStore::default());
            let text = || "x".to_owned();
            let entry = AuditEntry { at: Timestamp(0), who: text(), from: text(), action: text(), target: text(), detail: text() };
            store.append_audit(entry).await.unwrap();
            let clock = Arc::new(FakeClock::at(Moment { steady: Steady(0), wall: Timestamp(0) }));
            clock.advance(100 * DAY);
            let (kept_for, receiver) = watch::channel(kept_for);
            let (metrics, stop) = (Metrics::new("1.2.3", Timestamp(0)), CancellationToken::new());
            let retention = Retention { store: store.clone(), clock: clock.clone(), metrics: metrics.clone(), kept_for: receiver };
            let task = tokio_util::task::TaskTracker::new().spawn(retention.run(stop.clone()));
            Self { store, clock, metrics, kept_for, stop, task }
        }

        /// Lets everything happen that is due, and says whether the line is still there.
        async fn has_line(&self) -> bool {
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.store.audit_lines(None, 10).await.unwrap().iter().any(|line| line.seq == 1)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_too_old_goes_soon_after_the_start_and_is_counted() {
        let scene = Scene::new(Some(99 * DAY)).await;
        tokio::time::sleep(SETTLING).await;
        assert!(!scene.has_line().await);
        let numbers = scene.metrics.write_down(&Snapshot::default(), Exposition::Text);
        assert!(numbers.contains("portcullis_store_forgotten_total{kind=\"audit_lines\"} 1\n"), "{numbers}");
        scene.stop.cancel();
        scene.task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_grows_too_old_goes_within_an_hour() {
        let scene = Scene::new(Some(101 * DAY)).await;
        assert!(scene.has_line().await);
        scene.clock.advance(2 * DAY);
        assert!(scene.has_line().await);
        tokio::time::sleep(EVERY).await;
        assert!(!scene.has_line().await);
    }

    #[tokio::test(start_paused = true)]
    async fn for_ever_is_for_ever_until_the_operator_says_otherwise() {
        let scene = Scene::new(None).await;
        tokio::time::sleep(3 * EVERY).await;
        assert!(scene.has_line().await);
        scene.kept_for.send_replace(Some(DAY));
        assert!(!scene.has_line().await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_that_wakes_up_in_the_wrong_year_forgets_nothing_before_it_knows_better() {
        let scene = Scene::new(Some(101 * DAY)).await;
        let right = scene.clock.now().wall;
        // Both clocks start where the machine believes to be.
        scene.clock.advance(3650 * DAY);
        assert!(scene.has_line().await);
        scene.clock.jump_wall_to(right);
        tokio::time::sleep(2 * EVERY).await;
        assert!(scene.has_line().await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wall_clock_that_was_set_ahead_costs_nobody_their_history() {
        let scene = Scene::new(Some(101 * DAY)).await;
        scene.clock.jump_wall_to(Timestamp(i64::MAX));
        tokio::time::sleep(2 * EVERY).await;
        assert!(scene.has_line().await);
    }
}
