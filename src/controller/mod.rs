//! The one task that decides.
//!
//! Every other part of the program holds a [`Handle`]. What changes a share goes through the task behind it, one share at
//! a time: decide, save, then act. What only looks reads the live views, or the store.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;

use crate::catalog::CatalogError;
use crate::share::{CatalogPath, PolicyError, PolicyRequest, Refused, Share, ShareId, State, TransferId};
use crate::store::StoreError;

/// What an owner wants shared.
#[derive(Debug, Clone)]
pub struct NewShare {
    /// Which file.
    pub path: CatalogPath,
    /// By which rules.
    pub policy: PolicyRequest,
    /// A note for the owner's own eyes, at most [`MAX_NOTE_BYTES`].
    pub note: Option<String>,
}

/// The longest note, in bytes.
pub const MAX_NOTE_BYTES: usize = 2000;

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
    /// Until when (a wall-clock time) the present state lasts if nothing happens, where that can be said.
    pub until: Option<crate::share::Timestamp>,
}

/// Something about a share changed.
#[derive(Debug, Clone)]
pub struct Change {
    /// The share as it stands.
    pub view: Arc<View>,
    /// The newest line that this wrote into the event log; `None` where only progress was made.
    pub seq: Option<u64>,
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
    /// The share does not allow it as it stands.
    #[error(transparent)]
    Refused(#[from] Refused),
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

/// Speaks to the controller. Cheap to clone.
#[derive(Clone)]
pub struct Handle {}

impl Handle {
    /// Makes a share. Answers when its way in is open, or after a short wait with the state `opening`.
    ///
    /// # Errors
    /// [`ControllerError`]; nothing is made then.
    pub async fn create(&self, new: NewShare) -> Result<Arc<View>, ControllerError> {
        let _ = new;
        unimplemented!()
    }

    /// Closes a share. Doing it twice is fine.
    ///
    /// # Errors
    /// [`ControllerError`] where there is no such share or the store is not available.
    pub async fn revoke(&self, id: ShareId) -> Result<Arc<View>, ControllerError> {
        let _ = id;
        unimplemented!()
    }

    /// Stops one transfer. Doing it twice is fine.
    ///
    /// # Errors
    /// As [`Handle::revoke`].
    pub async fn stop_transfer(&self, id: ShareId, transfer: TransferId) -> Result<Arc<View>, ControllerError> {
        let _ = (id, transfer);
        unimplemented!()
    }

    /// Lets a share's link live for so long from now.
    ///
    /// # Errors
    /// [`ControllerError`]; nothing is changed then.
    pub async fn extend(&self, id: ShareId, expires_in: Duration) -> Result<Arc<View>, ControllerError> {
        let _ = (id, expires_in);
        unimplemented!()
    }

    /// Offers a closed share once more, with a new link.
    ///
    /// # Errors
    /// [`ControllerError`]; nothing is changed then.
    pub async fn reopen(&self, id: ShareId) -> Result<Arc<View>, ControllerError> {
        let _ = id;
        unimplemented!()
    }

    /// Returns one share, closed or not.
    ///
    /// # Errors
    /// [`StoreError`] where it is not among the living and the store cannot be read.
    pub async fn show(&self, id: ShareId) -> Result<Option<Arc<View>>, StoreError> {
        let _ = id;
        unimplemented!()
    }

    /// Returns every share that is not closed, newest first.
    pub fn living(&self) -> Vec<Arc<View>> {
        unimplemented!()
    }

    /// Returns a page of closed shares, newest made first.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read.
    pub async fn history(&self, before: Option<ShareId>, limit: usize) -> Result<Vec<Arc<View>>, StoreError> {
        let _ = (before, limit);
        unimplemented!()
    }

    /// Tells of every change from here on; progress at most twice a second per share. A reader that falls behind loses
    /// the oldest and is told so.
    pub fn watch(&self) -> broadcast::Receiver<Change> {
        unimplemented!()
    }
}
