//! A tunnel that fails, hangs and gets lost on command.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Doors, PublicUrl, Standing, Tunnel, TunnelError};
use crate::share::ShareId;

/// How long a slow one thinks: longer than from one tick of the controller to the next.
const THINKS: Duration = Duration::from_millis(300);

/// What the next calls of `open` or `close` do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Mood {
    #[default]
    Works,
    FailsForNow,
    FailsForGood,
    Hangs,
    /// So much later, whether anybody waits for it or not: what a program outside does that was asked once.
    ActsLate(Duration),
}

/// The fake.
#[derive(Debug, Default)]
pub(crate) struct Fake {
    pub(crate) doors: Doors,
    pub(crate) opening: Mutex<Mood>,
    pub(crate) closing: Mutex<Mood>,
    pub(crate) calls: AtomicUsize,
    /// What somebody else has taken away, and how it tells that something has changed.
    pub(crate) removed: Mutex<HashSet<ShareId>>,
    pub(crate) changes: watch::Sender<u64>,
    /// What its links begin with, where it is not the one of all fakes.
    pub(crate) name: OnceLock<String>,
    /// Whether it says that it opens at once; its mood must let it.
    pub(crate) opens_at_once: AtomicBool,
    /// Whether it thinks for long about what it is called, as on a machine that has no time, and from when until when it did.
    pub(crate) is_slow: AtomicBool,
    pub(crate) thought: Mutex<Vec<(Instant, Instant)>>,
}

impl Fake {
    pub(crate) fn with(doors: Doors) -> Self {
        Self { doors, ..Self::default() }
    }

    async fn act(&self, mood: &Mutex<Mood>) -> Result<(), TunnelError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let mood = *mood.lock().unwrap();
        match mood {
            Mood::Works => Ok(()),
            Mood::FailsForNow => Err(TunnelError::Unavailable("the tunnel is away".to_owned())),
            Mood::FailsForGood => Err(TunnelError::NotPossible("this node may not open tunnels".to_owned())),
            Mood::Hangs => std::future::pending().await,
            Mood::ActsLate(_) => unreachable!("it does not only answer"),
        }
    }
}

impl Tunnel for Fake {
    fn backend(&self) -> &'static str {
        if self.is_slow.load(Ordering::Relaxed) {
            let begun = Instant::now();
            std::thread::sleep(THINKS);
            self.thought.lock().unwrap().push((begun, Instant::now()));
        }
        "fake"
    }

    fn public_url(&self, _: ShareId) -> PublicUrl {
        self.address()
    }

    fn address(&self) -> PublicUrl {
        PublicUrl::new(self.name.get().map_or("https://fake.example", String::as_str))
    }

    fn opens_at_once(&self) -> bool {
        self.opens_at_once.load(Ordering::Relaxed)
    }

    #[expect(clippy::disallowed_methods, reason = "what is outside does not end with whoever asked")]
    fn open(&self, share: ShareId) -> BoxFuture<'_, Result<(), TunnelError>> {
        let mood = *self.opening.lock().unwrap();
        if let Mood::ActsLate(by) = mood {
            let doors = self.doors.clone();
            let acts = tokio::spawn(async move {
                tokio::time::sleep(by).await;
                doors.open(share);
            });
            return async move { acts.await.map_err(|error| TunnelError::Unavailable(error.to_string())) }.boxed();
        }
        async move {
            self.act(&self.opening).await?;
            self.doors.open(share);
            Ok(())
        }
        .boxed()
    }

    fn close(&self, share: ShareId) -> BoxFuture<'_, Result<(), TunnelError>> {
        async move {
            self.act(&self.closing).await?;
            self.doors.shut(share);
            Ok(())
        }
        .boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<Standing, TunnelError>> {
        async move { Ok(Standing { open: self.doors.all_open(), removed: self.removed.lock().unwrap().clone() }) }.boxed()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn the_fake_keeps_the_contract_too() {
        let doors = Doors::default();
        crate::tunnel::contract::holds(Arc::new(Fake::with(doors.clone())), |share| doors.is_open(share)).await;
    }
}
