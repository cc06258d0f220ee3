//! API tokens: credentials for scripts, each with a name, a scope and an end.
//!
//! A token is 256 random bits behind `pct_`. The store keeps its SHA-256, and a presented one is looked up by that: how long
//! the look-up takes says something about the digest alone, which nobody can steer towards a kept one. All of them fit in
//! memory, so a request costs no look into the store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::timeout;
use tracing::debug;

use super::SecretDigest;
use crate::causes::Causes;
use crate::share::{Moment, Steady};
use crate::store::{ApiToken, ApiTokenId, Scope, Store, StoreError};
use crate::token::random;

/// What a token begins with: whoever finds one in a script or a log knows what it is.
const PREFIX: &str = "pct_";
/// The letters of a token.
const LENGTH: usize = PREFIX.len() + 64;
/// How long the table is believed without asking the store; as long as another controller's change takes to be seen.
const BELIEVED_FOR: Duration = Duration::from_secs(30);
/// How often it is noted that a token was used: a script that polls shall not write with each request.
const NOTED_EVERY: Duration = Duration::from_secs(60);
/// How long whoever comes in waits for that at the most; a disk that is well takes milliseconds.
const NOTED_WITHIN: Duration = Duration::from_millis(200);

/// What a new token shall be.
#[derive(Debug, Clone)]
pub(in crate::http) struct NewToken {
    /// Its id, chosen before it is made.
    pub(in crate::http) id: ApiTokenId,
    /// What its owner calls it.
    pub(in crate::http) name: String,
    /// What it may do.
    pub(in crate::http) scope: Scope,
    /// How long it lives; `None`: until it is revoked.
    pub(in crate::http) lifetime: Option<Duration>,
}

/// Knows the tokens.
pub(super) struct Tokens {
    store: Arc<dyn Store>,
    /// Never held while the store is asked: a disk that hangs under one change keeps nobody else waiting.
    known: Arc<Mutex<Known>>,
    /// Held by whoever reads the table, so that a crowd reads it one after the other, and once where that succeeds.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    by_digest: HashMap<[u8; 32], ApiToken>,
    checked: Option<Steady>,
    /// Those that are being removed, and by how many at once: they open nothing, however long the disk takes.
    going: HashMap<ApiTokenId, usize>,
    /// How many changes are done: a table that was read before the last of them never replaces what that left.
    changes: u64,
}

impl Known {
    fn is_fresh(&self, now: Moment) -> bool {
        self.checked.is_some_and(|checked| now.steady.since(checked) < BELIEVED_FOR)
    }

    fn find(&mut self, digest: &[u8; 32], now: Moment) -> Option<&mut ApiToken> {
        let going = &self.going;
        self.by_digest.get_mut(digest).filter(|token| holds(token, now) && !going.contains_key(&token.id))
    }
}

impl Tokens {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, known: Arc::default(), reading: tokio::sync::Mutex::default() }
    }

    /// Returns the token that `secret` is, where it holds, and notes that it was used.
    pub(super) async fn find(&self, secret: &str, now: Moment) -> Result<Option<ApiToken>, StoreError> {
        if secret.len() != LENGTH || !secret.starts_with(PREFIX) {
            return Ok(None);
        }
        let digest = SecretDigest::of(secret).0;
        self.refresh(now).await?;
        let (token, is_due) = {
            let mut known = self.known();
            let Some(token) = known.find(&digest, now) else { return Ok(None) };
            let is_due = token.last_used.is_none_or(|last| now.wall.0.abs_diff(last.0) >= NOTED_EVERY.as_millis() as u64);
            if is_due {
                token.last_used = Some(now.wall);
            }
            (token.clone(), is_due)
        };
        if is_due {
            // It is written all the same where nobody waits for it: whoever comes in while the disk hangs may want to shut something.
            match timeout(NOTED_WITHIN, self.store.api_token_used(token.id.clone(), now.wall)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!(error = %Causes(&error), "That a token was used could not be noted"),
                Err(_) => debug!("That a token was used is noted later"),
            }
        }
        Ok(Some(token))
    }

    /// Returns whether a token holds still.
    pub(super) async fn holds(&self, id: &ApiTokenId, now: Moment) -> Result<bool, StoreError> {
        // Also where the table cannot be read: whoever asks would take that for a yes.
        if self.known().going.contains_key(id) {
            return Ok(false);
        }
        self.refresh(now).await?;
        let known = self.known();
        Ok(known.by_digest.values().any(|token| token.id == *id && holds(token, now) && !known.going.contains_key(id)))
    }

    /// Returns all of them, the newest first.
    pub(super) async fn list(&self) -> Result<Vec<ApiToken>, StoreError> {
        self.store.api_tokens().await
    }

    /// Makes a token. Returns it with its secret, which nobody can tell again.
    pub(super) async fn make(&self, new: NewToken, now: Moment) -> Result<(ApiToken, String), StoreError> {
        let secret = format!("{PREFIX}{}", random::secret());
        let token = ApiToken {
            id: new.id,
            name: new.name,
            scope: new.scope,
            digest: SecretDigest::of(&secret).0,
            created: now.wall,
            expires: new.lifetime.map(|lifetime| now.plus(lifetime)),
            last_used: None,
        };
        self.store.put_api_token(token.clone()).await?;
        let mut known = self.known();
        known.changes += 1;
        known.by_digest.insert(token.digest, token.clone());
        drop(known);
        Ok((token, secret))
    }

    /// Revokes a token; from here on it opens nothing, also while that is not on the disk. Returns it, where there was one.
    pub(super) async fn revoke(&self, id: &ApiTokenId) -> Result<Option<ApiToken>, StoreError> {
        let going = self.hold_shut(id);
        let removed = self.store.remove_api_token(id.clone()).await?;
        self.known().by_digest.retain(|_, token| token.id != *id);
        drop(going);
        Ok(removed)
    }

    /// Lets a token open nothing as long as what is returned lives.
    pub(super) fn hold_shut(&self, id: &ApiTokenId) -> Going {
        *self.known().going.entry(id.clone()).or_insert(0) += 1;
        Going { known: self.known.clone(), id: id.clone() }
    }

    /// Reads the table anew where it is old.
    async fn refresh(&self, now: Moment) -> Result<(), StoreError> {
        if self.known().is_fresh(now) {
            return Ok(());
        }
        let _reading = self.reading.lock().await;
        // A change that is done meanwhile makes what was read worthless; they are rare, and each is done once.
        loop {
            let changes = {
                let known = self.known();
                if known.is_fresh(now) {
                    return Ok(());
                }
                known.changes
            };
            let read = self.store.api_tokens().await?;
            let mut known = self.known();
            if known.changes == changes {
                known.by_digest = read.into_iter().map(|token| (token.digest, token)).collect();
                known.checked = Some(now.steady);
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("nobody panics while holding the tokens")
    }
}

/// Holds a token shut while it is being removed. Where that fails, or nobody waits for it any more, the store says what holds.
pub(in crate::http) struct Going {
    known: Arc<Mutex<Known>>,
    id: ApiTokenId,
}

impl Drop for Going {
    fn drop(&mut self) {
        let mut known = self.known.lock().expect("nobody panics while holding the tokens");
        if let Some(others) = known.going.get_mut(&self.id) {
            *others -= 1;
            if *others == 0 {
                known.going.remove(&self.id);
            }
        }
        known.changes += 1;
        known.checked = None;
    }
}

/// Chooses the id of a token to be made.
pub(in crate::http) fn new_id() -> ApiTokenId {
    ApiTokenId::parse(random::share_id().as_str()).expect("ten letters of base 32 are an id")
}

fn holds(token: &ApiToken, now: Moment) -> bool {
    token.expires.is_none_or(|end| !now.has_reached_either(end))
}

#[cfg(test)]
mod tests;
