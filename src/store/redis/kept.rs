//! Plans, digests of files, and how far logs were followed.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::cmd;
use serde::{Deserialize, Serialize};

use super::scripts::Script;
use super::{RedisStore, reply};
use crate::share::{FileIdentity, Steady};
use crate::store::{LogMark, MAX_PLANS, Plan, StoreError};

/// A plan, but for its key and whether it is done.
#[derive(Serialize, Deserialize)]
struct Wish {
    wish: String,
    ids: Vec<String>,
    since: Steady,
}

impl RedisStore {
    pub(super) fn put_plan(&self, plan: &Plan, forget_before: Steady) -> BoxFuture<'_, Result<Plan, StoreError>> {
        let Plan { key, wish, ids, is_done, since } = plan.clone();
        let body = serde_json::to_string(&Wish { wish: reply::hex(&wish), ids, since }).expect("a plan has a JSON form");
        let body = format!("{}{body}", u8::from(is_done));
        let [since, oldest] = [since.0, forget_before.0].map(|at| at.to_string().into_bytes());
        let most = MAX_PLANS.to_string().into_bytes();
        let put = self.put(Script::PutPlan, [key.clone().into_bytes(), since, oldest, body.into_bytes(), most]);
        async move {
            let values = put.await?.values;
            values.get(1).and_then(reply::text).and_then(|kept| plan_of(key, kept)).ok_or_else(reply::strange)
        }
        .boxed()
    }

    /// Keeps a value of a kind of which there is a most.
    pub(super) fn keep(&self, what: &str, field: String, value: String, most: usize) -> BoxFuture<'_, Result<(), StoreError>> {
        let args = [what.as_bytes().to_vec(), field.into_bytes(), value.into_bytes(), most.to_string().into_bytes()];
        let put = self.put(Script::PutKept, args);
        async move { put.await.map(drop) }.boxed()
    }

    pub(super) async fn digest_of(&self, identity: FileIdentity) -> Result<Option<[u8; 32]>, StoreError> {
        let (file, state) = of_digest(&identity, &[]);
        let kept = self.ask_one(cmd("HGET").arg(self.keys.of("digests")).arg(file).take()).await?;
        Ok(reply::text(&kept).and_then(|kept| kept.strip_prefix(&state)).and_then(reply::digest))
    }

    pub(super) async fn log_mark_of(&self, log: String) -> Result<Option<LogMark>, StoreError> {
        let kept = self.ask_one(cmd("HGET").arg(self.keys.of(&self.marks)).arg(log).take()).await?;
        let unreadable = |error| StoreError::Unusable { reason: format!("a mark of a log in it cannot be read ({error})") };
        reply::text(&kept).map(|kept| serde_json::from_str(kept).map_err(unreadable)).transpose()
    }
}

/// Reads whether it is done, and what it is.
pub(super) fn plan_of(key: String, kept: &str) -> Option<Plan> {
    let (is_done, body) = kept.split_at_checked(1)?;
    let Wish { wish, ids, since } = serde_json::from_str(body).ok()?;
    Some(Plan { key, wish: reply::digest(&wish)?, ids, is_done: is_done == "1", since })
}

/// Writes down of which file a digest is, and of which state of it, with the digest behind.
pub(super) fn of_digest(identity: &FileIdentity, sha256: &[u8]) -> (String, String) {
    let FileIdentity { device, inode, size_bytes, modified_ns, changed_ns } = identity;
    (format!("{device}:{inode}"), format!("{size_bytes} {modified_ns} {changed_ns} {}", reply::hex(sha256)))
}
