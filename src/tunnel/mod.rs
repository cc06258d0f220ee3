//! The public way in to one share.
//!
//! A [`Tunnel`] opens and closes it. What it opens leads to our recipient listener, which answers for a share only while
//! its door in [`Doors`] is open: so a closed share gives nothing, even where a tunnel still stands around it.
//!
//! * `direct.rs`: no tunnel, the recipient listener is public by itself: the embedded default.
//! * `tailscale/`: by a Tailscale node and its Funnel.
//! * `canary.rs`, `probe/`: whether a share is reached from outside, asked from there.
//! * `fake.rs`: one that fails, hangs and gets lost on command, for tests. `contract.rs`: the promises.

pub mod canary;
pub mod direct;
pub mod probe;
pub mod tailscale;
#[cfg(test)]
pub(crate) mod contract;
#[cfg(test)]
pub(crate) mod fake;

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, RwLock};

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::share::ShareId;

/// Where the outside finds a share: an absolute URL without a slash at its end, below which `/{share}/…` lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl(String);

impl PublicUrl {
    /// Takes a base; slashes at its end are dropped.
    pub fn new(base: &str) -> Self {
        Self(base.trim_end_matches('/').to_owned())
    }

    /// Returns the URL of `path`, which begins with a slash.
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Says why a way in could not be opened or closed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TunnelError {
    /// The same call may succeed later.
    #[error("{0}")]
    Unavailable(String),
    /// It never will, unless the owner changes something; the text says what.
    #[error("{0}")]
    NotPossible(String),
}

impl TunnelError {
    /// Returns the same, as one that may succeed later where `is_retryable`.
    pub(crate) fn retryable_if(self, is_retryable: bool) -> Self {
        let (Self::Unavailable(why) | Self::NotPossible(why)) = self;
        if is_retryable { Self::Unavailable(why) } else { Self::NotPossible(why) }
    }

    /// Returns whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// One way to let the outside in to a share.
///
/// Every call may be made twice, and may be cut off by a timeout and made again.
pub trait Tunnel: Send + Sync + 'static {
    /// Returns the backend's name, as `direct`.
    fn backend(&self) -> &'static str;

    /// Returns where the outside finds `share`, as far as it is known. It stays while the way in stands, and over restarts; where it
    /// changes all the same, as with a node that gets another name, the way in counts as lost and is opened anew.
    fn public_url(&self, share: ShareId) -> PublicUrl;

    /// Returns what the links of most shares begin with, as far as it is known: for who starts the program.
    fn address(&self) -> PublicUrl;

    /// Returns whether [`Tunnel::open`] asks nobody and never fails: it answers at once. A share's way in is then saved as open
    /// together with the share, and opened right behind that.
    fn opens_at_once(&self) -> bool {
        false
    }

    /// Opens the way in to `share`. It is open when this answers.
    ///
    /// # Errors
    /// [`TunnelError`]; nothing is open then, or [`Tunnel::close`] closes it.
    fn open(&self, share: ShareId) -> BoxFuture<'_, Result<(), TunnelError>>;

    /// Closes the way in to `share`. Nothing of it can be reached when this answers; closing what is closed is fine.
    ///
    /// # Errors
    /// [`TunnelError`]; it may still be open then.
    fn close(&self, share: ShareId) -> BoxFuture<'_, Result<(), TunnelError>>;

    /// Returns which shares' ways in stand open, of those that are ours, and which somebody else took away.
    ///
    /// # Errors
    /// [`TunnelError`] where that cannot be known at the moment.
    fn list(&self) -> BoxFuture<'_, Result<Standing, TunnelError>>;

    /// Returns what keeps it from opening anything at the moment, as a sentence with what to do; `None` where nothing is known to.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// Returns what changes whenever a list may say something else than before without a call of ours, and when an open that failed
    /// may succeed now. Where nothing of the kind happens nobody holds the other end.
    fn changes(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
}

/// Which ways in stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Of these shares.
    pub open: HashSet<ShareId>,
    /// Of these they did, until somebody else took them away: the operator of the machine wants them shut.
    pub removed: HashSet<ShareId>,
}

impl Standing {
    /// Returns that these are open and nobody has taken any away.
    pub fn open(open: HashSet<ShareId>) -> Self {
        Self { open, removed: HashSet::new() }
    }
}

/// The shares that the recipient side answers for. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Doors(Arc<RwLock<HashSet<ShareId>>>);

impl Doors {
    /// Returns whether a share's door is open.
    pub fn is_open(&self, share: ShareId) -> bool {
        self.0.read().expect("nobody panics while holding the doors").contains(&share)
    }

    /// Opens a door.
    pub fn open(&self, share: ShareId) {
        self.0.write().expect("nobody panics while holding the doors").insert(share);
    }

    /// Shuts a door.
    pub fn shut(&self, share: ShareId) {
        self.0.write().expect("nobody panics while holding the doors").remove(&share);
    }

    /// Returns every open door.
    pub fn all_open(&self) -> HashSet<ShareId> {
        self.0.read().expect("nobody panics while holding the doors").clone()
    }
}
