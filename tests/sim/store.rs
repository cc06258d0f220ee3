//! A real store behind the gate: its saves wait there, its reads may be slow or fail.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::{BoxFuture, FutureExt};
use portcullis::share::{FileIdentity, Share, ShareId, Steady, Timestamp};
use portcullis::store::audit::{AuditEntry, AuditLine, AuditVerdict};
use portcullis::store::memory::MemoryStore;
use portcullis::store::sqlite::SqliteStore;
use portcullis::store::{
    ApiToken, ApiTokenId, Day, EventQuery, Forgotten, LogMark, Plan, Record, Save, Session, ShareQuery, Size, Stats, Store, StoreError,
};
use tokio::runtime::Handle;
use tokio::sync::oneshot::channel;

use crate::gate::{Gate, Op};

/// What lies on the simulated disk.
#[derive(Clone)]
pub(crate) struct Disk {
    inner: Arc<dyn Store>,
    /// Whether its calls wait for a thread of the store's own. The paused time must not run on meanwhile, so such calls
    /// are waited for on a blocking thread: while one works the runtime's time stands still.
    is_threaded: bool,
}

impl Disk {
    pub(crate) fn in_memory() -> Self {
        Self { inner: Arc::new(MemoryStore::default()), is_threaded: false }
    }

    pub(crate) fn sqlite(folder: &Path) -> Self {
        Self { inner: Arc::new(SqliteStore::open(folder).expect("SQLite opens what it wrote")), is_threaded: true }
    }

    async fn run<T: Send + 'static>(self, call: impl FnOnce(Arc<dyn Store>) -> BoxFuture<'static, T> + Send + 'static) -> T {
        let call = call(self.inner);
        if !self.is_threaded {
            return call.await;
        }
        let runtime = Handle::current();
        tokio::task::spawn_blocking(move || runtime.block_on(call)).await.expect("a store does not panic")
    }

    /// Writes, now.
    pub(crate) async fn save(&self, save: Save) -> Result<Vec<u64>, StoreError> {
        self.clone().run(|store| async move { store.save(save).await }.boxed()).await
    }

    pub(crate) async fn share(&self, id: ShareId) -> Option<Share> {
        self.clone().run(move |store| async move { store.share(id).await }.boxed()).await.expect("the disk can be read")
    }

    pub(crate) async fn latest_steady(&self) -> Option<Steady> {
        self.clone().run(|store| async move { store.latest_steady().await }.boxed()).await.expect("the disk can be read")
    }

    pub(crate) async fn events(&self, query: EventQuery) -> Vec<Record> {
        self.clone().run(|store| async move { store.events(query).await }.boxed()).await.expect("the disk can be read")
    }
}

/// What the controller holds.
pub(crate) struct SimStore {
    pub(crate) disk: Disk,
    pub(crate) gate: Gate,
    /// Whether reads fail at the moment.
    pub(crate) is_unreadable: Arc<AtomicBool>,
}

macro_rules! reads {
    ($($name:ident($($argument:ident: $kind:ty),*) -> $answer:ty;)*) => {
        $(fn $name(&self $(, $argument: $kind)*) -> BoxFuture<'_, Result<$answer, StoreError>> {
            if self.is_unreadable.load(Ordering::Relaxed) {
                return async { Err(StoreError::Unavailable { source: "the disk cannot be read".into() }) }.boxed();
            }
            self.disk.clone().run(move |store| async move { store.$name($($argument),*).await }.boxed()).boxed()
        })*
    };
}

impl Store for SimStore {
    fn save(&self, save: Save) -> BoxFuture<'_, Result<Vec<u64>, StoreError>> {
        let (answer, answered) = channel();
        async move {
            self.gate.push(Op::Save(save, answer));
            answered.await.unwrap_or_else(|_| Err(StoreError::Unavailable { source: "the disk is gone".into() }))
        }
        .boxed()
    }

    reads! {
        share(id: ShareId) -> Option<Share>;
        living() -> Vec<Share>;
        shares(query: ShareQuery) -> Vec<Share>;
        events(query: EventQuery) -> Vec<Record>;
        latest_seq() -> u64;
        latest_steady() -> Option<Steady>;
        put_session(session: Session) -> ();
        session(digest: [u8; 32], now: Steady) -> Option<Session>;
        end_session(digest: [u8; 32], now: Steady) -> ();
        sessions(now: Steady) -> Vec<Session>;
        put_api_token(token: ApiToken) -> ();
        api_tokens() -> Vec<ApiToken>;
        remove_api_token(id: ApiTokenId) -> Option<ApiToken>;
        api_token_used(id: ApiTokenId, at: Timestamp) -> ();
        append_audit(entry: AuditEntry) -> AuditLine;
        audit_lines(before: Option<u64>, limit: usize) -> Vec<AuditLine>;
        verify_audit() -> AuditVerdict;
        put_plan(plan: Plan, forget_before: Steady) -> Plan;
        plan_is_done(key: String) -> ();
        drop_plan(key: String) -> ();
        stats(from: Day, to: Day) -> Stats;
        forget(before: Timestamp) -> Forgotten;
        try_write() -> ();
        size() -> Size;
        put_digest(identity: FileIdentity, sha256: [u8; 32]) -> ();
        digest(identity: FileIdentity) -> Option<[u8; 32]>;
        put_log_mark(log: String, mark: LogMark) -> ();
        log_mark(log: String) -> Option<LogMark>;
    }
}
