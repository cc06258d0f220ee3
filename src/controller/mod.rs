//! The one task that decides.
//!
//! Every other part of the program holds a [`Handle`]. What changes a share goes through the task behind it, one share at
//! a time: decide, save, then act. What only looks reads the live views, or the store.
//!
//! * `handle.rs`: what the others may ask. `event_loop.rs`: the task: inputs in, one at a time.
//! * `slot.rs`: one living share, with what is known of it besides what is saved. `speed.rs`: how fast it goes.
//! * `intents.rs`: what was asked for and would open a door, so that a close takes it back.
//! * `together.rs`: what it does besides where several controllers share a store.
//! * `prober.rs`: has ways in looked at from outside. `effects.rs`: opening and closing ways in. `reconcile.rs`: what the store says against what is really open (pure).

mod effects;
mod event_loop;
mod handle;
mod intents;
mod prober;
mod reconcile;
mod slot;
mod speed;
mod together;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

pub use event_loop::Controller;
pub use handle::{Handle, name_in_link};
pub use intents::Intent;
pub use prober::Prober;

use crate::catalog::{Catalog, CatalogError, Digests};
use crate::clock::Clock;
use crate::delivery::Passes;
use crate::metrics::Metrics;
use crate::share::{CatalogPath, ControllerNumber, Limits, PolicyError, PolicyRequest, Refused, Share, ShareId, State};
use crate::store::shared::{Joined, Peer, SharedStore};
use crate::store::{Record, Store, StoreError};
use crate::token::Keys;
use crate::tunnel::Tunnel;

/// What the controller works with.
pub struct Parts {
    /// What outlives the process.
    pub store: Arc<dyn Store>,
    /// The same store as one that other controllers share, where they do.
    pub sharing: Option<Sharing>,
    /// The files.
    pub catalog: Arc<Catalog>,
    /// Their digests.
    pub digests: Arc<Digests>,
    /// The way in.
    pub tunnel: Arc<dyn Tunnel>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What signs links.
    pub keys: Keys,
    /// What may be fetched.
    pub passes: Passes,
    /// Where is counted what happens.
    pub metrics: Metrics,
    /// The operator's bounds.
    pub limits: Limits,
    /// How long transfers may go on once the program stops.
    pub drain: Duration,
}

/// How a controller shares its store with others.
#[derive(Clone)]
pub struct Sharing {
    /// The store.
    pub store: Arc<dyn SharedStore>,
    /// What it was given when it joined.
    pub joined: Joined,
}

/// Who shares the store, as this controller last heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sharers {
    /// This controller.
    pub me: ControllerNumber,
    /// Every one that was heard lately, this one among them.
    pub peers: Vec<Peer>,
    /// How far this machine's wall clock is ahead of the store's, in milliseconds; behind it where it is negative.
    pub ahead_ms: i64,
}

/// What an owner wants shared.
#[derive(Debug, Clone)]
pub struct NewShare {
    /// Which file.
    pub path: CatalogPath,
    /// By which rules.
    pub policy: PolicyRequest,
    /// A note for the owner's own eyes, at most [`MAX_NOTE_BYTES`].
    pub note: Option<String>,
    /// What the recipient is told, as plain text, at most [`MAX_MESSAGE_BYTES`].
    pub message: Option<String>,
}

/// The longest note, in bytes.
pub const MAX_NOTE_BYTES: usize = 2000;

/// The longest message to a recipient, in bytes: with it the link's page still shows at once on a bad connection.
pub const MAX_MESSAGE_BYTES: usize = 1000;

/// A share as it stands, with what only the controller knows.
#[derive(Debug, Clone)]
pub struct View {
    /// The share.
    pub share: Arc<Share>,
    /// Its state at the instant of the view.
    pub state: State,
    /// The link, while the share is not closed.
    pub url: Option<String>,
    /// Which backend opens its way in, as `direct`.
    pub tunnel: &'static str,
    /// How fast bytes arrive at the moment, over all its transfers.
    pub bytes_per_second: u64,
    /// How long the furthest transfer still takes at that speed.
    pub eta: Option<Duration>,
    /// The SHA-256 of the file, where it is known.
    pub sha256: Option<[u8; 32]>,
    /// Why its way in is not open, where it should be.
    pub tunnel_problem: Option<String>,
    /// Until when (a wall-clock time) the present state lasts if nothing happens, where that can be said.
    pub until: Option<crate::share::Timestamp>,
    /// Whether this controller watches it, and no other that shares the store.
    pub is_watched_here: bool,
    /// How fast each of its transfers goes, in bytes per second.
    pub speeds: std::collections::HashMap<crate::share::TransferId, u64>,
}

/// Something about a share changed.
#[derive(Debug, Clone)]
pub struct Change {
    /// The share as it stands.
    pub view: Arc<View>,
    /// The lines that this wrote into the event log, in order; none where only progress was made. They are on disk, and so
    /// is every line of a smaller number; but changes of several shares may be told in another order than that of their lines.
    pub records: Arc<[Record]>,
}

/// Says why the controller did not do it.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// There is no such share.
    #[error("there is no share {0}")]
    UnknownShare(ShareId),
    /// The file cannot be shared.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The rules make no sense.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The note is too long.
    #[error("the note is too long: at most {MAX_NOTE_BYTES} bytes")]
    NoteTooLong,
    /// The message is too long.
    #[error("the message is too long: at most {MAX_MESSAGE_BYTES} bytes")]
    MessageTooLong,
    /// The share does not allow it as it stands.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A close came behind it, or somebody else opened the share again first; nothing was opened.
    #[error("while this waited, it was closed or somebody else opened it again, so nothing was opened; ask again if you still want it")]
    Overtaken,
    /// The way in could not be opened; nothing was made.
    #[error("the way in could not be opened: {0}")]
    TunnelUnavailable(String),
    /// The store is not available; nothing was changed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Too many shares live already.
    #[error("there are too many live shares: at most {MAX_LIVING}")]
    TooMany,
    /// The program is stopping, or too much waits to be decided.
    #[error("portcullis is too busy or is stopping; try again in a moment")]
    Busy,
}

/// How many shares may live at once; each costs a few kilobytes and a row that is read at every start.
pub const MAX_LIVING: usize = 20_000;
