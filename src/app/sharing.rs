//! State that several controllers share: opens it, joins, and gets the key that all of them have.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use crate::causes::Causes;
use crate::config::Redis;
use crate::controller::Sharing;
use crate::store::StoreError;
use crate::store::redis::{RedisLook, RedisOptions, RedisStore};
use crate::store::shared::{Introduction, SharedStore};
use crate::token::Key;

/// How often the start tries to reach Redis, and how long it waits between: both may have been started at the same time.
const TRIES: usize = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// What a controller has that shares its state.
pub(super) struct Shared {
    pub(super) sharing: Sharing,
    /// What secrets of transfers are derived from.
    pub(super) transfer_secret: [u8; 32],
}

/// Opens the Redis, unless it could forget what it acknowledged, and joins those who share it. `folder` names the state folder;
/// `transfer_secret` becomes that of all where this controller is the first.
pub(super) async fn open(redis: &Redis, folder: [u8; 16], secrets: &[Key], transfer_secret: [u8; 32]) -> anyhow::Result<Shared> {
    let options = redis.options(folder);
    let store = reach(&options).await.with_context(|| format!("opening the Redis at {} (REDIS_URL)", redis.address))?;
    let look = store.look(&options).await.context("asking Redis how it is set (REDIS_URL)")?;
    refuse_risks(&look, redis)?;
    let transfer_secret = store.transfer_key(secrets, transfer_secret).await.context("sharing the key of transfers (JWT_SECRET)")?;
    let store: Arc<dyn SharedStore> = Arc::new(store);
    let joined = store.join(Introduction { folder, name: redis.name.clone() }).await.context("joining those who share the Redis")?;
    tracing::info!(controller = joined.number.0, "State is shared through the Redis at {}; here it is {}", redis.address, redis.name);
    Ok(Shared { sharing: Sharing { store, joined }, transfer_secret })
}

/// Refuses a Redis that could forget what it acknowledged, unless that is accepted.
pub(super) fn refuse_risks(look: &RedisLook, redis: &Redis) -> anyhow::Result<()> {
    let risks: Vec<String> = look.risks.iter().map(ToString::to_string).collect();
    if !risks.is_empty() {
        let risks = risks.join(", and ");
        anyhow::ensure!(
            redis.accepts_loss,
            "REDIS_URL: this Redis could forget what it has acknowledged, and a used link could work again: {risks}; or accept that with \
             REDIS_ACCEPT_LOSS=yes"
        );
        tracing::warn!(
            "REDIS_ACCEPT_LOSS is set: this Redis could forget what it has acknowledged, and a used link could work again: {risks}"
        );
    }
    Ok(())
}

async fn reach(options: &RedisOptions) -> Result<RedisStore, StoreError> {
    let mut tries = 1;
    loop {
        match RedisStore::open(options).await {
            Err(error @ StoreError::Unavailable { .. }) if tries < TRIES => {
                tracing::warn!(error = %Causes(&error), "Redis cannot be reached; trying again");
                tries += 1;
                tokio::time::sleep(PAUSE).await;
            }
            opened => return opened,
        }
    }
}

/// Reads the first half of 64 hexadecimal digits: what names a state folder.
pub(super) fn folder_id(text: &str, path: &Path) -> anyhow::Result<[u8; 16]> {
    bytes_of(text).with_context(|| format!("{} is damaged: delete it, and this counts as another controller", path.display()))
}

/// Reads as many bytes as are wanted, from the first hexadecimal digits of a text; `None` where there are not so many.
pub(super) fn bytes_of<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}
