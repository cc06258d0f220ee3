//! The key from which transfers' secrets are derived: one for all who share the store, so that any of them serves any transfer.
//!
//! It is kept wrapped, once for each secret that signs links: whoever reads Redis and knows none of them has no key.

use super::scripts::{Args, Script};
use super::writer::Line;
use super::{RedisStore, reply};
use crate::store::StoreError;
use crate::token::Key;

impl RedisStore {
    /// Returns the key that all who share the store have: `mine` where nobody was here before. It is wrapped for each of `secrets` from here on.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] where none of `secrets` is one of those who were here before.
    pub async fn transfer_key(&self, secrets: &[Key], mine: [u8; 32]) -> Result<[u8; 32], StoreError> {
        let wraps = |key: &[u8; 32]| -> Args {
            let wrap = |secret: &Key| [secret.wrap_id().into_bytes(), reply::hex(&secret.wrap(key)).into_bytes()];
            secrets.iter().flat_map(wrap).collect()
        };
        let kept = self.write(Script::ShareKey, wraps(&mine), Line::Unknown, None).await?.values;
        let wrap_of = |secret: &Key| {
            let found = kept[1..].chunks_exact(2).find(|pair| reply::text(&pair[0]) == Some(&secret.wrap_id()));
            found.and_then(|pair| reply::digest(reply::text(&pair[1])?))
        };
        // To wrap it again is to unwrap it.
        let Some(key) = secrets.iter().find_map(|secret| Some(secret.wrap(&wrap_of(secret)?))) else {
            let reason = "JWT_SECRET here is not that of the controllers that share this Redis; set the same for all".to_owned();
            return Err(StoreError::Unusable { reason });
        };
        if secrets.iter().any(|secret| wrap_of(secret).is_none()) {
            self.write(Script::AddWraps, wraps(&key), Line::Unknown, None).await?;
        }
        Ok(key)
    }
}
