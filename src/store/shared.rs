//! What a store promises besides, where several controllers share it.
//!
//! Each controller **joins** under a number of its own and **beats** while it lives. Of every share that is not closed exactly one
//! controller is the **watcher**: it opens and closes its way in and sees to its deadlines. Any of them may decide about any share,
//! since every save says on what it was decided: where somebody else has saved meanwhile it is refused whole, and decided again.
//!
//! A lease is a watcher whose beats are heard. Who takes a share over from a silent one raises its **fence**: what the former watcher
//! still does as that is refused, however late it wakes up. No lease decides whether a link may be redeemed; the ledger does, in the
//! same save.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::audit::AuditEntry;
use super::{Record, Save, Store, StoreError};
pub use crate::share::ControllerNumber;
use crate::share::{Share, ShareId, Steady, Timestamp};

/// How long a controller may be silent before what it watches is taken over. It beats every second; a pause of a few seconds, as of
/// a machine that swaps, moves nothing.
pub const LEASE: Duration = Duration::from_secs(6);
/// How long a controller goes on sending, to whoever was getting bytes already, while it cannot reach the store: nobody could tell it
/// that a share was closed. As long as a recipient may be silent, and more than the store takes to come back from a restart or to
/// another machine.
pub const MAX_BLIND: Duration = Duration::from_secs(300);
/// How long a controller that is not heard keeps its number: it may have been the store that was away, for however long.
pub const KEPT_NUMBER: Duration = Duration::from_secs(30 * 24 * 3600);
/// The longest name of a controller, in bytes.
pub const MAX_NAME_BYTES: usize = 64;
/// The highest number a controller can have; then they begin anew.
pub const MAX_NUMBER: u16 = 4094;

/// Who joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introduction {
    /// Names its state folder, for good. The folder's lock says that whoever joined from it before has ended.
    pub folder: [u8; 16],
    /// What people call it, at most [`MAX_NAME_BYTES`].
    pub name: String,
}

/// What joining gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joined {
    /// Its number.
    pub number: ControllerNumber,
    /// The number of whoever joined from the same folder before, where that is known: it has ended.
    pub former: Option<ControllerNumber>,
    /// What the steady clock of those who joined stands at; `None` for the first of all.
    pub steady: Option<Steady>,
}

/// A controller, as the others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its number.
    pub number: ControllerNumber,
    /// What people call it.
    pub name: String,
    /// How long ago it was last heard, by the store's clock.
    pub silence: Duration,
}

/// What a beat tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    /// Every controller that was heard within [`KEPT_NUMBER`], whoever asks among them; none that has left.
    pub peers: Vec<Peer>,
    /// The store's wall clock.
    pub wall: Timestamp,
}

/// Who may do what about a share, and how often it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// Grows with every write of the share.
    pub version: u64,
    /// Who watches it, or did last.
    pub watcher: ControllerNumber,
    /// Grows with every change of its watcher.
    pub fence: u64,
}

/// A share as it stands in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The share.
    pub share: Arc<Share>,
    /// Who watches it.
    pub hold: Hold,
}

/// On what a save was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Basis {
    /// The version of the share that was decided on; 0 for one that is made.
    pub version: u64,
    /// The fence under which something was done about it as its watcher; `None` for what anybody may decide.
    pub fence: Option<u64>,
}

/// What a save that was written gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The numbers that the facts got.
    pub numbers: Vec<u64>,
    /// How the share is held now.
    pub hold: Hold,
}

/// How far the news was read: opaque, of one store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cursor(pub String);

/// What others have written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// Where it is read on.
    pub cursor: Cursor,
    /// Whether more was written than is kept as news: then look at all that lives.
    pub is_incomplete: bool,
    /// What changed, each share once.
    pub changed: Vec<Changed>,
}

/// A share that somebody else has written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Which.
    pub share: ShareId,
    /// As it stands now; `None` where it was forgotten.
    pub held: Option<Held>,
    /// The lines of the event log that were written about it, in order, as far as they are still kept.
    pub records: Vec<Record>,
}

/// A store that several controllers share.
pub trait SharedStore: Store {
    /// Joins. Whoever joined from the same folder before is gone from here on.
    fn join(&self, who: Introduction) -> BoxFuture<'_, Result<Joined, StoreError>>;

    /// Says that `me` lives and what its steady clock stands at.
    ///
    /// # Errors
    /// [`StoreError::Overtaken`] where somebody else has joined from its folder: then it must end.
    fn beat(&self, me: ControllerNumber, steady: Steady) -> BoxFuture<'_, Result<Beat, StoreError>>;

    /// Says that `me` ends: what it watches may be taken over at once.
    fn leave(&self, me: ControllerNumber) -> BoxFuture<'_, Result<(), StoreError>>;

    /// As [`Store::save_with_line`], where the share stands as it was decided on; the line is written only where the save is. A share
    /// that is made, opened again or taken back by it is watched by `me` from then on.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where the share was written meanwhile, [`StoreError::Overtaken`] where its fence is another; and as
    /// [`Store::save`]. Nothing is written then.
    fn save_if(
        &self,
        me: ControllerNumber,
        save: Save,
        basis: Basis,
        line: Option<AuditEntry>,
    ) -> BoxFuture<'_, Result<Written, StoreError>>;

    /// Takes over shares that live and whose watcher has left or has not been heard for `patience`: at most `limit`. Returns them as
    /// they are held then.
    fn take_over(&self, me: ControllerNumber, patience: Duration, limit: usize) -> BoxFuture<'_, Result<Vec<Held>, StoreError>>;

    /// Returns one share as it is held, closed or not.
    fn held(&self, id: ShareId) -> BoxFuture<'_, Result<Option<Held>, StoreError>>;

    /// Returns every share that is not closed, oldest first, and from where news of them is read on.
    fn all_held(&self) -> BoxFuture<'_, Result<(Vec<Held>, Cursor), StoreError>>;

    /// Returns what others than `me` have written behind `cursor`, as soon as there is anything, or nothing when `patience` is over.
    fn news(&self, me: ControllerNumber, cursor: Cursor, patience: Duration) -> BoxFuture<'_, Result<News, StoreError>>;

    /// Returns the store as what every store is.
    fn as_store(self: Arc<Self>) -> Arc<dyn Store>;
}
