//! Forgets what is older than the operator wants kept.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::share::Timestamp;
use crate::store::{Forgotten, Store, StoreError};

/// How often it is looked for what is too old: what may go a day early or late may go an hour late.
const EVERY: Duration = Duration::from_secs(3600);
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
    /// Forgets at once, every hour, and when the operator wants another time, until `shutdown`.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
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
                tracing::warn!(error = &error as &dyn std::error::Error, "Could not forget what is too old; trying again in an hour");
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
