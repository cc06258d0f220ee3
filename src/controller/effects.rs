//! Opening and closing ways in: each with a timeout, each done again until it is done.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::delivery::{Pass, Passes};
use crate::metrics::Metrics;
use crate::share::ShareId;
use crate::tunnel::{Tunnel, TunnelError};

/// How long a backend may take to open or close a way in.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The first and the longest pause before something is tried again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// How long an answer is waited for that is not wanted any more: a way in that opens behind our back would have to be found.
const GIVING_UP: Duration = Duration::from_secs(2);
/// How long requests that were cut may take to tell how far they got, before the way in is shut all the same.
const LAST_WORDS: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Returns how long to wait before the next try, after `failures` of them.
pub(super) fn pause(failures: u32) -> Duration {
    if failures == 0 { Duration::ZERO } else { PAUSES.0.saturating_mul(1 << (failures - 1).min(16)).min(PAUSES.1) }
}

/// What came of opening a way in.
pub(super) enum Opening {
    Answered(Result<(), TunnelError>),
    /// It was given up. A backend that was asked and has not answered yet may open it still; then this waits for that.
    GivenUp(Option<BoxFuture<'static, ()>>),
}

/// Opens a way in, unless `given_up` comes first. A backend that was asked already is not left in the middle: a request
/// that is dropped may be carried out all the same, behind the close that follows.
///
/// `seen` is how many changes of the backend's there had been when it last failed; how many there were by this try comes back.
pub(super) async fn open(
    tunnel: Arc<dyn Tunnel>,
    metrics: Metrics,
    share: ShareId,
    (failures, seen): (u32, u64),
    given_up: CancellationToken,
) -> (Opening, u64) {
    tokio::select! {
        biased;
        () = given_up.cancelled() => return (Opening::GivenUp(None), seen),
        () = rest(pause(failures), tunnel.changes(), seen) => {}
    }
    let seen = *tunnel.changes().borrow();
    let began = Instant::now();
    let mut opening = async move { within(tunnel.open(share)).await }.boxed();
    let opened = tokio::select! {
        biased;
        opened = &mut opening => opened,
        () = given_up.cancelled() => match timeout(GIVING_UP, &mut opening).await {
            Ok(opened) => opened,
            Err(_) => return (Opening::GivenUp(Some(opening.map(drop).boxed())), seen),
        },
    };
    metrics.tunnel_opened(began.elapsed(), opened.is_ok());
    (Opening::Answered(opened), seen)
}

/// Waits so long, or until the backend says that it may succeed now; not at all where it said so since it was last asked.
async fn rest(pause: Duration, mut changes: watch::Receiver<u64>, seen: u64) {
    if *changes.borrow_and_update() != seen {
        return;
    }
    tokio::select! {
        () = sleep(pause) => {}
        Ok(()) = changes.changed() => {}
    }
}

/// Closes a way in, once what was cut has told how far it got. Where a share is to be closed with it, that takes that nobody sends bytes of it any
/// more, by `passes`.
pub(super) async fn close(
    tunnel: Arc<dyn Tunnel>,
    metrics: Metrics,
    share: ShareId,
    failures: u32,
    (passes, cut): (Option<Passes>, Vec<Arc<Pass>>),
) -> Result<(), TunnelError> {
    let told = async {
        while cut.iter().any(|pass| pass.requests() > 0) {
            sleep(LOOK_EVERY).await;
        }
    };
    if timeout(LAST_WORDS, told).await.is_err() {
        tracing::warn!(share.id = %share, "A request of share {share} did not end when it was cut; shutting the way in all the same");
    }
    sleep(pause(failures)).await;
    let began = Instant::now();
    let closed = within(tunnel.close(share)).await;
    metrics.tunnel_closed(began.elapsed(), closed.is_ok());
    closed?;
    // Whose connection leads to us by no way in but our own port is not ended by shutting that.
    if passes.is_some_and(|passes| passes.are_sent_elsewhere(share)) {
        return Err(TunnelError::Unavailable("nginx still sends a download of it, which could not be ended".to_owned()));
    }
    Ok(())
}

async fn within(work: impl Future<Output = Result<(), TunnelError>>) -> Result<(), TunnelError> {
    let seconds = TIMEOUT.as_secs();
    timeout(TIMEOUT, work).await.unwrap_or_else(|_| Err(TunnelError::Unavailable(format!("no answer within {seconds} seconds"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_have_a_longest() {
        assert_eq!(pause(0), Duration::ZERO);
        let pauses: Vec<u128> = (1..9).map(|n| pause(n).as_millis()).collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
        assert_eq!(pause(u32::MAX), PAUSES.1);
    }
}
