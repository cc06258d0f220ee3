//! Shares and events that outlive the process.
//!
//! One call changes anything about a share: [`Store::save`]. It writes the share as it stands, appends what happened to
//! the event log and keeps the ledger of links, all in one transaction that is on disk before it answers. The ledger is
//! what makes a link single-use: a save whose facts redeem a link is a compare-and-set on its row, keyed by `jti`, and is
//! refused whole when no use is left, whatever the caller believed.
//!
//! * `memory.rs`: for tests. `sqlite.rs`: the embedded default. `redis.rs`: what several controllers share. `contract.rs`: the promises, run on every backend.
//! * `shared.rs`: what a store promises besides, where several controllers share it.
//! * `migrate.rs`: everything of one store into another.
//! * `access.rs`, `audit.rs`, `log_mark.rs`, `stats.rs`: what is kept besides shares, as values, and the rules of a chain and of a fold,
//!   so that every backend keeps them alike.

mod access;
pub mod audit;
mod log_mark;
pub mod memory;
pub mod migrate;
pub mod redis;
pub mod shared;
pub mod sqlite;
mod stats;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

pub use self::access::{ApiToken, ApiTokenId, MAX_API_TOKENS, MAX_SESSIONS, Scope, Session};
use self::audit::{AuditEntry, AuditLine, AuditVerdict};
pub use self::log_mark::{LogCounts, LogMark, MAX_LOGS};
pub use self::stats::{Day, DayStats, MAX_STATS_DAYS, Stats, TOP, Tally};
use crate::share::{Fact, FileIdentity, Moment, Outcome, Share, ShareId, Steady, Timestamp};

/// What one decision writes.
#[derive(Debug, Clone)]
pub struct Save {
    /// The share as it stands after the decision.
    pub share: Arc<Share>,
    /// What happened, oldest first; may be empty where only progress is saved.
    pub facts: Vec<Fact>,
    /// When.
    pub at: Moment,
}

/// One line of the event log. Lines are numbered from 1 without gaps and without reuse, and are never changed. They go only
/// with their whole share, when its time is over ([`Store::forget`]); a gap says that lines were forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its number.
    pub seq: u64,
    /// When it happened, by the wall clock.
    pub at: Timestamp,
    /// Which share it is about.
    pub share: ShareId,
    /// What happened.
    #[serde(flatten)]
    pub fact: Fact,
}

/// Which lines of the event log are wanted, in order of their numbers, or the other way round.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventQuery {
    /// Only those behind this number.
    pub after: u64,
    /// Only those before this number.
    pub before: Option<u64>,
    /// Whether the last stand first.
    pub newest_first: bool,
    /// Only those of this share.
    pub share: Option<ShareId>,
    /// Only those of this type, as `share.closed`; `share.` (ending in a dot) takes all that begin so.
    pub kind: Option<String>,
    /// Only those that happened at this time or later.
    pub since: Option<Timestamp>,
    /// At most so many: 1 to [`MAX_PAGE`]; more is cut to it.
    pub limit: usize,
}

/// Which shares are wanted, newest made first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShareQuery {
    /// Only closed ones, or only those that are not.
    pub closed: Option<bool>,
    /// Only those that closed so.
    pub outcome: Option<Outcome>,
    /// Only those whose path holds this text, in capitals or not.
    pub path_contains: Option<String>,
    /// Only those made at this wall-clock time or later.
    pub since: Option<Timestamp>,
    /// Only those made before this wall-clock time.
    pub until: Option<Timestamp>,
    /// Only those made before this one was (of two made in the same millisecond, the smaller id counts as earlier):
    /// the last one of the page before.
    pub before: Option<ShareId>,
    /// At most so many: 1 to [`MAX_PAGE`]; more is cut to it.
    pub limit: usize,
}

/// The most that one page holds: a page stays under a few megabytes.
pub const MAX_PAGE: usize = 1000;

/// The most file digests that are kept; past it the ones that were kept first are forgotten, and computed again when they
/// are wanted. Each costs about a hundred bytes.
pub const MAX_DIGESTS: usize = 1_000_000;

/// What a request with an `Idempotency-Key` set out to do, so that sent again it does the same and not more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The key that the request came with, at most 255 bytes.
    pub key: String,
    /// SHA-256 of what it asks for.
    pub wish: [u8; 32],
    /// The ids that what it makes has; chosen before it is made.
    pub ids: Vec<String>,
    /// Whether all of it was done.
    pub is_done: bool,
    /// When it came, by the steady clock.
    pub since: Steady,
}

/// The most plans that are kept; past it the oldest are forgotten. About 300 bytes each.
pub const MAX_PLANS: usize = 10_000;

/// What was forgotten because its time was over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// How many lines of the event log.
    pub events: u64,
    /// How many closed shares, with their links.
    pub shares: u64,
    /// How many lines of the audit log.
    pub audit_lines: u64,
    /// Whether more is left to forget: the call stopped at its bound.
    pub is_more: bool,
}

/// How much the store holds.
///
/// A file on a disk does not shrink when something is forgotten: what that leaves free is filled again. So it stays as large
/// as what was ever kept at once, and a backup holds no more than what there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// On disk; 0 where it is not on a disk.
    pub bytes: u64,
    /// Lines of the event log.
    pub events: u64,
    /// Shares, closed ones among them.
    pub shares: u64,
}

/// Says why the store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No use of this link is left. Nothing was saved.
    #[error("this link has no use left")]
    Spent,
    /// The store cannot write or read at the moment; the same call may succeed later. Nothing was saved in a store of this machine; behind
    /// a network a write may have been done of which the answer was lost: then it comes as news ([`shared::SharedStore::news`]).
    #[error("the store is not available")]
    Unavailable {
        /// What the backend says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another controller has saved the share since it was read. Nothing was saved; look at it again and decide again.
    #[error("another controller has changed this share at the same moment")]
    Conflict,
    /// Another controller watches the share now, or has taken this one's place. Nothing was saved.
    #[error("another controller has taken this over")]
    Overtaken,
    /// There are as many as may be. Nothing was saved.
    #[error("there are too many {what}: at most {most}")]
    Full {
        /// Of what, in the plural.
        what: &'static str,
        /// How many there may be.
        most: usize,
    },
    /// The store was written by a later version, or is damaged.
    #[error("the store cannot be used: {reason}")]
    Unusable {
        /// Why, as a sentence for the owner.
        reason: String,
    },
}

impl StoreError {
    pub(crate) fn unavailable(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable { source: source.into() }
    }
}

/// Keeps shares, the event log, the ledger of links, and what an owner's side needs besides: who may come in, the audit
/// log, plans, statistics, file digests and how far logs were followed.
///
/// Every `Ok` of a call that writes means that it is on disk. Calls may run at once from many tasks; saves of one share
/// take effect in the order in which they were called.
pub trait Store: Send + Sync + 'static {
    /// Writes a share with what happened to it, atomically, and keeps the ledger of links by its facts:
    /// `Created` and `Reopened` enter `share.link` with `policy.uses_max()` uses; each `Redeemed` takes a use if one is
    /// left and the link lives; each `Ended { given_back: true, .. }` returns one (never above the maximum);
    /// `Closing` kills the link, and `Undone` revives the one of `share.link` if a use of it is left. Returns the numbers that the
    /// facts got.
    ///
    /// # Errors
    /// [`StoreError::Spent`] where a use is wanted, or a link is to be revived, and none is left; nothing is written then. Nor is anything where a share
    /// is created, or a link entered, that exists already: that is [`StoreError::Unavailable`].
    fn save(&self, save: Save) -> BoxFuture<'_, Result<Vec<u64>, StoreError>>;

    /// Returns one share, closed or not.
    fn share(&self, id: ShareId) -> BoxFuture<'_, Result<Option<Share>, StoreError>>;

    /// Returns every share that is not closed, oldest first: what a restart takes up again.
    fn living(&self) -> BoxFuture<'_, Result<Vec<Share>, StoreError>>;

    /// Returns a page of owners' shares, newest made first: self-tests are not among them.
    fn shares(&self, query: ShareQuery) -> BoxFuture<'_, Result<Vec<Share>, StoreError>>;

    /// Returns a page of the event log, in order.
    fn events(&self, query: EventQuery) -> BoxFuture<'_, Result<Vec<Record>, StoreError>>;

    /// Returns the number of the newest line of the event log, 0 where it is empty.
    fn latest_seq(&self) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Returns the latest steady instant that any save carried.
    fn latest_steady(&self) -> BoxFuture<'_, Result<Option<Steady>, StoreError>>;

    /// Keeps a session. One that is kept already is prolonged, never shortened. At most [`MAX_SESSIONS`] are kept.
    fn put_session(&self, session: Session) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Returns a session that has not ended at `now`.
    fn session(&self, digest: [u8; 32], now: Steady) -> BoxFuture<'_, Result<Option<Session>, StoreError>>;

    /// Forgets a session, and every one that has ended at `now`.
    fn end_session(&self, digest: [u8; 32], now: Steady) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Returns the sessions that have not ended at `now`, the one that was seen last first.
    fn sessions(&self, now: Steady) -> BoxFuture<'_, Result<Vec<Session>, StoreError>>;

    /// Keeps a new API token.
    ///
    /// # Errors
    /// [`StoreError::Full`] where there are [`MAX_API_TOKENS`].
    fn put_api_token(&self, token: ApiToken) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Returns the API tokens, the newest first, those that have ended among them.
    fn api_tokens(&self) -> BoxFuture<'_, Result<Vec<ApiToken>, StoreError>>;

    /// Removes an API token. Returns it, where there was one.
    fn remove_api_token(&self, id: ApiTokenId) -> BoxFuture<'_, Result<Option<ApiToken>, StoreError>>;

    /// Notes that an API token was used. One that is gone stays gone.
    fn api_token_used(&self, id: ApiTokenId, at: Timestamp) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Appends a line to the audit log, chained to the one before it. Returns it.
    fn append_audit(&self, entry: AuditEntry) -> BoxFuture<'_, Result<AuditLine, StoreError>>;

    /// Saves a share that is made, with the audit line of who makes it. In a store that can, both are on disk after one write
    /// or neither is; in any other the line is there first.
    fn save_with_line(&self, save: Save, line: AuditEntry) -> BoxFuture<'_, Result<Vec<u64>, StoreError>> {
        Box::pin(async move {
            self.append_audit(line).await?;
            self.save(save).await
        })
    }

    /// Returns a page of the audit log, newest first: at most `limit` (1 to [`MAX_PAGE`]) lines before line `before`.
    fn audit_lines(&self, before: Option<u64>, limit: usize) -> BoxFuture<'_, Result<Vec<AuditLine>, StoreError>>;

    /// Looks through the whole chain of the audit log.
    fn verify_audit(&self) -> BoxFuture<'_, Result<AuditVerdict, StoreError>>;

    /// Keeps a plan under its key unless there is one; returns the one that is there. At most [`MAX_PLANS`] are kept, and
    /// none that came before `forget_before`.
    fn put_plan(&self, plan: Plan, forget_before: Steady) -> BoxFuture<'_, Result<Plan, StoreError>>;

    /// Notes that all of a plan was done.
    fn plan_is_done(&self, key: String) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Forgets a plan of which nothing was done: its key is free again.
    fn drop_plan(&self, key: String) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Returns what happened from one day to another, both included: at most [`MAX_STATS_DAYS`].
    fn stats(&self, from: Day, to: Day) -> BoxFuture<'_, Result<Stats, StoreError>>;

    /// Forgets what was over before `before`: the shares that closed before it, each with its links (a link that is
    /// forgotten is no link) and with all of its lines of the event log; the statistics of the days before it; and the
    /// lines of the audit log before it, of which a line tells that they were forgotten. What is not closed is kept whole,
    /// however old. Bounded in one call, so that writes of others are not kept waiting: `is_more` says that it wants to be
    /// called again.
    fn forget(&self, before: Timestamp) -> BoxFuture<'_, Result<Forgotten, StoreError>>;

    /// Writes and forgets something: whether it can.
    fn try_write(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Returns how much it holds.
    fn size(&self) -> BoxFuture<'_, Result<Size, StoreError>>;

    /// Keeps the SHA-256 of a file's state, in place of one of an earlier state. At most [`MAX_DIGESTS`] are kept.
    fn put_digest(&self, identity: FileIdentity, sha256: [u8; 32]) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Returns the SHA-256 of a file's state, where it is known.
    fn digest(&self, identity: FileIdentity) -> BoxFuture<'_, Result<Option<[u8; 32]>, StoreError>>;

    /// Keeps how far the log at this path was followed and what was counted up to there, in place of what was kept of it: all of the
    /// one or all of the other is there, whatever happens meanwhile. At most [`MAX_LOGS`] are kept.
    ///
    /// A backup holds the marks of its instant, and one that is put back is the past with them: what was written behind a mark is read,
    /// and counted, again. So whoever acts on a line does so idempotently.
    fn put_log_mark(&self, log: String, mark: LogMark) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Returns how far the log at this path was followed, where it was.
    fn log_mark(&self, log: String) -> BoxFuture<'_, Result<Option<LogMark>, StoreError>>;
}

/// Returns the type that a fact has in the event log, as `share.closed`.
pub fn kind_of(fact: &Fact) -> String {
    kind_in(&serde_json::to_string(fact).expect("a fact has a JSON form")).to_owned()
}

/// Returns the type of the fact whose JSON form this is.
fn kind_in(body: &str) -> &str {
    #[derive(Deserialize)]
    struct Typed<'b> {
        r#type: &'b str,
    }
    serde_json::from_str::<Typed<'_>>(body).expect("a fact carries its type, of plain letters").r#type
}

/// Returns the form of a path that searches compare: no capitals.
fn folded(path: &str) -> String {
    path.to_lowercase()
}

fn page_limit(wanted: usize) -> usize {
    wanted.clamp(1, MAX_PAGE)
}

#[cfg(test)]
mod contract;
#[cfg(test)]
pub(crate) mod mortal;
