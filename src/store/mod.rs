//! Shares and events that outlive the process.
//!
//! One call changes anything about a share: [`Store::save`]. It writes the share as it stands, appends what happened to
//! the event log and keeps the ledger of links, all in one transaction that is on disk before it answers. The ledger is
//! what makes a link single-use: a save whose facts redeem a link is a compare-and-set on its row, keyed by `jti`, and is
//! refused whole when no use is left, whatever the caller believed.
//!
//! * `memory.rs`: for tests. `sqlite.rs`: the embedded default. `contract.rs`: the promises, run on every backend.

pub mod memory;
pub mod sqlite;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::share::{Fact, FileIdentity, Moment, Share, ShareId, Steady, Timestamp};

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

/// One line of the event log. Lines are numbered from 1 without reuse, and are never changed or removed.
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

/// Which lines of the event log are wanted, in order of their numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventQuery {
    /// Only those behind this number.
    pub after: u64,
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
    /// Only those made before this one was (of two made in the same millisecond, the smaller id counts as earlier):
    /// the last one of the page before.
    pub before: Option<ShareId>,
    /// At most so many: 1 to [`MAX_PAGE`]; more is cut to it.
    pub limit: usize,
}

/// The most that one page holds: a page stays under a few megabytes.
pub const MAX_PAGE: usize = 1000;

/// The most sessions that are kept; past it those that end first are forgotten. An owner has a handful of browsers, and
/// whoever can sign in cannot grow the store without end.
pub const MAX_SESSIONS: usize = 1000;

/// The most file digests that are kept; past it the ones that were kept first are forgotten, and computed again when they
/// are wanted. Each costs about a hundred bytes.
pub const MAX_DIGESTS: usize = 1_000_000;

/// A signed-in browser. Only the digest of its cookie is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// SHA-256 of the cookie's value.
    pub digest: [u8; 32],
    /// When it ends, by the steady clock.
    pub expires: Steady,
}

/// Says why the store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No use of this link is left. Nothing was saved.
    #[error("this link has no use left")]
    Spent,
    /// The store cannot write or read at the moment; the same call may succeed later. Nothing was saved.
    #[error("the store is not available")]
    Unavailable {
        /// What the backend says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store was written by a later version, or is damaged.
    #[error("the store cannot be used: {reason}")]
    Unusable {
        /// Why, as a sentence for the owner.
        reason: String,
    },
}

impl StoreError {
    fn unavailable(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable { source: source.into() }
    }
}

/// Keeps shares, the event log, the ledger of links, sessions and file digests.
///
/// Every `Ok` of a call that writes means that it is on disk. Calls may run at once from many tasks; saves of one share
/// take effect in the order in which they were called.
pub trait Store: Send + Sync + 'static {
    /// Writes a share with what happened to it, atomically, and keeps the ledger of links by its facts:
    /// `Created` and `Reopened` enter `share.link` with `policy.max_downloads` uses; each `Redeemed` takes a use if one is
    /// left and the link lives; each `Ended { given_back: true, .. }` returns one (never above the maximum);
    /// `Closing` kills the link. Returns the numbers that the facts got.
    ///
    /// # Errors
    /// [`StoreError::Spent`] where a use is wanted and none is left; nothing is written then. Nor is anything where a share
    /// is created, or a link entered, that exists already: that is [`StoreError::Unavailable`].
    fn save(&self, save: Save) -> BoxFuture<'_, Result<Vec<u64>, StoreError>>;

    /// Returns one share, closed or not.
    fn share(&self, id: ShareId) -> BoxFuture<'_, Result<Option<Share>, StoreError>>;

    /// Returns every share that is not closed, oldest first: what a restart takes up again.
    fn living(&self) -> BoxFuture<'_, Result<Vec<Share>, StoreError>>;

    /// Returns a page of shares, newest made first.
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

    /// Keeps the SHA-256 of a file's state, in place of one of an earlier state. At most [`MAX_DIGESTS`] are kept.
    fn put_digest(&self, identity: FileIdentity, sha256: [u8; 32]) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Returns the SHA-256 of a file's state, where it is known.
    fn digest(&self, identity: FileIdentity) -> BoxFuture<'_, Result<Option<[u8; 32]>, StoreError>>;
}

/// Returns the type that a fact has in the event log, as `share.closed`.
pub fn kind_of(fact: &Fact) -> String {
    let json = serde_json::to_value(fact).expect("a fact has a JSON form");
    json["type"].as_str().expect("a fact carries its type").to_owned()
}

fn page_limit(wanted: usize) -> usize {
    wanted.clamp(1, MAX_PAGE)
}

#[cfg(test)]
mod contract;
