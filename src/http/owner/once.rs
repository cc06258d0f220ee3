//! `Idempotency-Key`: a request that is sent twice because its first answer was lost makes one share.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;
use tokio_util::task::TaskTracker;

use crate::controller::ControllerError;
use crate::http::problem::Problem;
use crate::share::{ShareId, Steady};

/// The longest key; a UUID has 36 letters.
const MAX_KEY_BYTES: usize = 255;
/// How many keys are remembered; about 400 kB. A script that makes more shares than this within a day loses the oldest.
const MAX_KEYS: usize = 1024;
/// How long a key is remembered; whoever retries does it within minutes.
const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 3600);

/// Remembers what was made under which key.
#[derive(Default)]
pub(super) struct Once {
    entries: Mutex<VecDeque<Arc<Entry>>>,
    tasks: TaskTracker,
}

struct Entry {
    key: String,
    /// SHA-256 of what was asked for.
    wish: [u8; 32],
    since: Steady,
    made: OnceCell<ShareId>,
}

/// What a request asks for, in one number.
pub(super) fn wish(parts: &[&[u8]]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

impl Once {
    /// Runs `work` unless a request with the same key did, or is doing it. It runs to its end even where the one who asked
    /// hangs up: what they ask next finds what was made.
    pub(super) async fn run<F>(&self, headers: &HeaderMap, wish: [u8; 32], now: Steady, work: F) -> Result<ShareId, Problem>
    where
        F: Future<Output = Result<ShareId, ControllerError>> + Send + 'static,
    {
        let Some(key) = headers.get("idempotency-key") else { return Ok(work.await?) };
        let key = key.to_str().ok().filter(|key| !key.is_empty() && key.len() <= MAX_KEY_BYTES).ok_or_else(|| {
            Problem::unprocessable("bad_idempotency_key", "The Idempotency-Key must have 1 to 255 visible ASCII characters.")
        })?;
        let entry = self.claim(key, wish, now)?;
        let task = self.tasks.spawn(async move { entry.made.get_or_try_init(|| work).await.copied() });
        match task.await {
            Ok(made) => Ok(made?),
            Err(_) => Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "Something went wrong inside Portcullis.")),
        }
    }

    fn claim(&self, key: &str, wish: [u8; 32], now: Steady) -> Result<Arc<Entry>, Problem> {
        let mut entries = self.entries.lock().expect("nobody panics while holding the table of keys");
        while entries.front().is_some_and(|oldest| now.since(oldest.since) > REMEMBERED_FOR) {
            entries.pop_front();
        }
        // A key under which nothing was made and nothing runs is free again.
        entries.retain(|entry| entry.key != key || entry.made.initialized() || Arc::strong_count(entry) > 1);
        if let Some(entry) = entries.iter().find(|entry| entry.key == key) {
            return if entry.wish == wish {
                Ok(entry.clone())
            } else {
                let detail = "This Idempotency-Key was used for another request; take a new one.";
                Err(Problem::unprocessable("idempotency_key_reused", detail))
            };
        }
        if entries.len() >= MAX_KEYS {
            entries.pop_front();
        }
        let entry = Arc::new(Entry { key: key.to_owned(), wish, since: now, made: OnceCell::new() });
        entries.push_back(entry.clone());
        Ok(entry)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn headers(key: &str) -> HeaderMap {
        HeaderMap::from_iter([("idempotency-key".parse().unwrap(), key.parse().unwrap())])
    }

    #[tokio::test]
    async fn the_same_key_makes_one_share_and_another_wish_is_refused() {
        let once = Arc::new(Once::default());
        let made = Arc::new(AtomicU64::new(0));
        let work = || {
            let made = made.clone();
            async move {
                tokio::task::yield_now().await;
                Ok(ShareId::from_random(made.fetch_add(1, Ordering::SeqCst)))
            }
        };
        let (a, b) = (headers("k"), headers("k"));
        let (first, second) = tokio::join!(once.run(&a, [1; 32], Steady(0), work()), once.run(&b, [1; 32], Steady(0), work()));
        assert_eq!(first.unwrap(), second.unwrap());
        assert_eq!(made.load(Ordering::SeqCst), 1);
        assert_eq!(once.run(&a, [2; 32], Steady(0), work()).await.unwrap_err().status(), StatusCode::UNPROCESSABLE_ENTITY);
        once.run(&headers("other"), [2; 32], Steady(0), work()).await.unwrap();
        assert_eq!(made.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_key_whose_work_failed_may_be_used_again() {
        let once = Once::default();
        let failed = once.run(&headers("k"), [1; 32], Steady(0), async { Err(ControllerError::Busy) }).await;
        assert_eq!(failed.unwrap_err().status(), StatusCode::SERVICE_UNAVAILABLE);
        let id = ShareId::from_random(7);
        assert_eq!(once.run(&headers("k"), [2; 32], Steady(0), async move { Ok(id) }).await.unwrap(), id);
    }

    #[test]
    fn the_table_is_bounded() {
        let once = Once::default();
        for n in 0..2 * MAX_KEYS {
            once.claim(&n.to_string(), [0; 32], Steady(0)).unwrap();
        }
        assert_eq!(once.entries.lock().unwrap().len(), MAX_KEYS);
    }
}
