//! `Idempotency-Key`: a request that is sent again because its first answer was lost does nothing twice, not even where
//! the program was killed in between.
//!
//! What a request makes gets its ids first. They are kept under the key in the store (a plan), then the work is done with
//! these ids, then the plan is marked as done. Whoever sends the same again finds the plan: where it is done, they get what
//! was made; where it is not, the work is done again with the same ids, and what it made before is found by them.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use sha2::{Digest, Sha256};
use tokio_util::task::TaskTracker;
use tracing::{Instrument, warn};

use crate::causes::Causes;
use crate::http::problem::Problem;
use crate::share::{Moment, Steady};
use crate::store::{Plan, Store};

/// The longest key; a UUID has 36 letters.
const MAX_KEY_BYTES: usize = 255;
/// How long a key is remembered; whoever retries does it within minutes, a nightly script within a day.
const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 3600);
/// How many keys are looked after at once before those that nobody uses are swept out of the table.
const SWEEP_AT: usize = 256;

/// Remembers what was made under which key.
pub(super) struct Once {
    store: Arc<dyn Store>,
    /// Whoever holds a key's lock is the one who works under it.
    running: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
    tasks: TaskTracker,
}

/// What is to be done, and what is known of it.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    /// The ids of what is made.
    pub(super) ids: Vec<String>,
    /// Whether somebody began with it before: it may have been done, in part or whole.
    pub(super) is_repeat: bool,
    /// Whether all of it was done.
    pub(super) is_done: bool,
}

/// What a request asks for, in one number.
pub(in crate::http) fn wish(parts: &[&[u8]]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

impl Once {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, running: Mutex::default(), tasks: TaskTracker::new() }
    }

    /// Runs `work` with `ids`, or with those that an earlier request with the same key chose. It runs to its end even where
    /// the one who asked hangs up: what they ask next finds what was made.
    ///
    /// # Errors
    /// What `work` says; `idempotency_key_reused` where the key came with another wish; `store_unavailable`.
    pub(super) async fn run<T, W, F>(
        &self,
        headers: &HeaderMap,
        wish: [u8; 32],
        ids: Vec<String>,
        now: Moment,
        work: W,
    ) -> Result<T, Problem>
    where
        T: Send + 'static,
        W: FnOnce(Attempt) -> F + Send + 'static,
        F: Future<Output = Result<T, Problem>> + Send + 'static,
    {
        let Some(key) = headers.get("idempotency-key") else {
            return self.to_its_end(work(Attempt { ids, is_repeat: false, is_done: false })).await;
        };
        let key = key.to_str().ok().filter(|key| !key.is_empty() && key.len() <= MAX_KEY_BYTES).ok_or_else(|| {
            Problem::unprocessable("bad_idempotency_key", "The Idempotency-Key must have 1 to 255 visible ASCII characters.")
        })?;
        let plan = Plan { key: key.to_owned(), wish, ids, is_done: false, since: now.steady };
        let (lock, store) = (self.lock_of(key), self.store.clone());
        self.to_its_end(async move {
            let _alone = lock.lock().await;
            carry_out(&*store, plan, work).await
        })
        .await
    }

    /// Runs `work` to its end, also where the one who asked hangs up.
    pub(super) async fn to_its_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Problem>> + Send + 'static,
    ) -> Result<T, Problem> {
        self.tasks.spawn(work.in_current_span()).await.unwrap_or_else(|_| {
            Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "Something went wrong inside Portcullis."))
        })
    }

    fn lock_of(&self, key: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut running = self.running.lock().expect("nobody panics while holding the table of keys");
        if let Some(lock) = running.get(key).and_then(Weak::upgrade) {
            return lock;
        }
        // Each request that waits holds its lock, so the table is as long as the requests that run, and this many more.
        if running.len() >= SWEEP_AT {
            running.retain(|_, lock| lock.strong_count() > 0);
        }
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        running.insert(key.to_owned(), Arc::downgrade(&lock));
        lock
    }
}

async fn carry_out<T, W, F>(store: &dyn Store, plan: Plan, work: W) -> Result<T, Problem>
where
    W: FnOnce(Attempt) -> F,
    F: Future<Output = Result<T, Problem>>,
{
    let (key, wish, ours) = (plan.key.clone(), plan.wish, plan.ids.clone());
    let forget_before = Steady(plan.since.0.saturating_sub(REMEMBERED_FOR.as_millis() as i64));
    let kept = store.put_plan(plan, forget_before).await?;
    if kept.wish != wish {
        let detail = "This Idempotency-Key was used for another request; take a new one.";
        return Err(Problem::unprocessable("idempotency_key_reused", detail));
    }
    let (is_repeat, is_done) = (kept.ids != ours, kept.is_done);
    let outcome = work(Attempt { ids: kept.ids, is_repeat, is_done }).await;
    let noted = match &outcome {
        _ if is_done => Ok(()),
        Ok(_) => store.plan_is_done(key).await,
        // It may have been done all the same, or be done in a moment: the next attempt finds out by the ids.
        Err(problem) if is_doubtful(problem) => Ok(()),
        Err(_) => store.drop_plan(key).await,
    };
    if let Err(error) = noted {
        warn!(error = %Causes(&error), "What came of a request with an Idempotency-Key could not be noted; sent again, it is looked up");
    }
    outcome
}

fn is_doubtful(problem: &Problem) -> bool {
    matches!(problem.code(), "store_unavailable" | "busy" | "internal_error")
}
