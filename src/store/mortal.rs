//! A store that dies, fails and hangs on command.

use std::sync::Mutex;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, ready};
use tokio::time::sleep;

use super::audit::{AuditEntry, AuditLine, AuditVerdict};
use super::memory::MemoryStore;
use super::{
    ApiToken, ApiTokenId, Day, EventQuery, Forgotten, LogMark, Plan, Record, Save, Session, ShareQuery, Size, Stats, Store, StoreError,
};
use crate::share::{FileIdentity, Share, ShareId, Steady, Timestamp};

/// A store that dies after so many saves and can be revived: what was saved before is there. Or its disk hangs for a while.
pub(crate) struct Mortal {
    pub(crate) inner: MemoryStore,
    left: Mutex<usize>,
    pub(crate) hangs: tokio::sync::watch::Sender<bool>,
    /// Whether saves fail after a while.
    pub(crate) fails_late: tokio::sync::watch::Sender<bool>,
}

impl Default for Mortal {
    fn default() -> Self {
        Self {
            inner: MemoryStore::default(),
            left: Mutex::new(usize::MAX),
            hangs: tokio::sync::watch::Sender::new(false),
            fails_late: tokio::sync::watch::Sender::new(false),
        }
    }
}

impl Mortal {
    /// Works when the disk does not hang any more.
    fn when_well<'a, T: Send + 'a>(&self, work: impl FnOnce() -> BoxFuture<'a, T> + Send + 'a) -> BoxFuture<'a, T> {
        let mut hangs = self.hangs.subscribe();
        async move {
            let _ = hangs.wait_for(|hangs| !hangs).await;
            work().await
        }
        .boxed()
    }

    pub(crate) fn die_after(&self, saves: usize) {
        *self.left.lock().unwrap() = saves;
    }

    pub(crate) fn revive(&self) {
        self.die_after(usize::MAX);
    }
}

impl Store for Mortal {
    fn save(&self, save: Save) -> BoxFuture<'_, Result<Vec<u64>, StoreError>> {
        if *self.fails_late.borrow() {
            return async {
                sleep(Duration::from_secs(3)).await;
                Err(StoreError::Unavailable { source: "the disk gave up".into() })
            }
            .boxed();
        }
        let mut left = self.left.lock().unwrap();
        if *left == 0 {
            return ready(Err(StoreError::Unavailable { source: "the disk is full".into() })).boxed();
        }
        if *left != usize::MAX {
            *left -= 1;
        }
        let saved = self.inner.save(save);
        self.when_well(|| saved)
    }

    fn share(&self, id: ShareId) -> BoxFuture<'_, Result<Option<Share>, StoreError>> {
        self.inner.share(id)
    }

    fn living(&self) -> BoxFuture<'_, Result<Vec<Share>, StoreError>> {
        self.inner.living()
    }

    fn shares(&self, query: ShareQuery) -> BoxFuture<'_, Result<Vec<Share>, StoreError>> {
        self.inner.shares(query)
    }

    fn events(&self, query: EventQuery) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        self.inner.events(query)
    }

    fn latest_seq(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.inner.latest_seq()
    }

    fn latest_steady(&self) -> BoxFuture<'_, Result<Option<Steady>, StoreError>> {
        self.inner.latest_steady()
    }

    fn put_session(&self, session: Session) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner.put_session(session)
    }

    fn session(&self, digest: [u8; 32], now: Steady) -> BoxFuture<'_, Result<Option<Session>, StoreError>> {
        self.inner.session(digest, now)
    }

    fn end_session(&self, digest: [u8; 32], now: Steady) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner.end_session(digest, now)
    }

    fn sessions(&self, now: Steady) -> BoxFuture<'_, Result<Vec<Session>, StoreError>> {
        self.inner.sessions(now)
    }

    fn put_api_token(&self, token: ApiToken) -> BoxFuture<'_, Result<(), StoreError>> {
        self.when_well(|| self.inner.put_api_token(token))
    }

    fn api_tokens(&self) -> BoxFuture<'_, Result<Vec<ApiToken>, StoreError>> {
        self.inner.api_tokens()
    }

    fn remove_api_token(&self, id: ApiTokenId) -> BoxFuture<'_, Result<Option<ApiToken>, StoreError>> {
        self.when_well(|| self.inner.remove_api_token(id))
    }

    fn api_token_used(&self, id: ApiTokenId, at: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner.api_token_used(id, at)
    }

    fn append_audit(&self, entry: AuditEntry) -> BoxFuture<'_, Result<AuditLine, StoreError>> {
        self.inner.append_audit(entry)
    }

    fn audit_lines(&self, before: Option<u64>, limit: usize) -> BoxFuture<'_, Result<Vec<AuditLine>, StoreError>> {
        self.inner.audit_lines(before, limit)
    }

    fn verify_audit(&self) -> BoxFuture<'_, Result<AuditVerdict, StoreError>> {
        self.inner.verify_audit()
    }

    fn put_plan(&self, plan: Plan, forget_before: Steady) -> BoxFuture<'_, Result<Plan, StoreError>> {
        self.inner.put_plan(plan, forget_before)
    }

    fn plan_is_done(&self, key: String) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner.plan_is_done(key)
    }

    fn drop_plan(&self, key: String) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner.drop_plan(key)
    }

    fn stats(&self, from: Day, to: Day) -> BoxFuture<'_, Result<Stats, StoreError>> {
        self.inner.stats(from, to)
    }

    fn forget(&self, before: Timestamp) -> BoxFuture<'_, Result<Forgotten, StoreError>> {
        self.inner.forget(before)
    }

    fn try_write(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner.try_write()
    }

    fn size(&self) -> BoxFuture<'_, Result<Size, StoreError>> {
        self.inner.size()
    }

    fn put_digest(&self, identity: FileIdentity, sha256: [u8; 32]) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner.put_digest(identity, sha256)
    }

    fn digest(&self, identity: FileIdentity) -> BoxFuture<'_, Result<Option<[u8; 32]>, StoreError>> {
        self.inner.digest(identity)
    }

    fn put_log_mark(&self, log: String, mark: LogMark) -> BoxFuture<'_, Result<(), StoreError>> {
        self.when_well(|| self.inner.put_log_mark(log, mark))
    }

    fn log_mark(&self, log: String) -> BoxFuture<'_, Result<Option<LogMark>, StoreError>> {
        self.inner.log_mark(log)
    }
}
