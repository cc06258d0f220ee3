//! Everything of the state folder into a Redis, or back, while no server runs.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use anyhow::Context;
use tokio::sync::watch;

use super::sharing::{folder_id, refuse_risks};
use super::{kept_secret, secrets_of, transfer_secret_of};
use crate::config::{Config, Redis};
use crate::store::migrate::{self, Moved};
use crate::store::redis::RedisStore;
use crate::token::random;

/// The word before a key of transfers that came from a Redis: it is the key itself, and not what the key is made of.
pub(super) const DERIVED: &str = "derived:";

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the state folder into Redis.
    IntoRedis,
    /// From Redis into the state folder.
    OutOfRedis,
}

/// What was moved.
#[derive(Debug)]
pub struct Migrated {
    /// How much.
    pub moved: Moved,
    /// Where the store is now that was in the state folder.
    pub set_aside: Option<PathBuf>,
    /// The file that holds what signs links, where no setting does.
    pub key_file: Option<PathBuf>,
}

/// Moves everything. `told` hears how many rows are on their way, now and then.
///
/// # Errors
/// Whatever keeps it from being moved, as a sentence; all stands where it was then.
pub async fn migrate(config: &Config, direction: Direction, told: watch::Sender<u64>) -> anyhow::Result<Migrated> {
    let redis = config.redis.as_ref().context("REDIS_URL is not set: it names the Redis that is meant")?;
    let root = &config.root;
    let device =
        fs::metadata(root).with_context(|| format!("NAS_MOUNT_PATH: looking at {}, whose files are shared", root.display()))?.dev();
    let dir = &config.state_dir;
    let key_file = Some(dir.join("jwt.key")).filter(|_| config.jwt_secrets.is_empty());
    if let Some(file) = key_file.as_ref().filter(|file| !file.exists()) {
        anyhow::bail!("JWT_SECRET is not set, and there is no {}: without what signs links, none would work any more", file.display());
    }
    let secrets = secrets_of(config)?;
    let id = dir.join("controller.id");
    let folder = match direction {
        Direction::OutOfRedis if !id.exists() => random::bytes(),
        Direction::IntoRedis | Direction::OutOfRedis => folder_id(kept_secret(&id)?.expose(), &id)?,
    };
    let store = open(redis, folder).await?;
    match direction {
        Direction::IntoRedis => {
            let mine = transfer_secret_of(dir)?;
            let ready = async || store.transfer_key(&secrets, mine).await.map(drop);
            let (moved, aside) = migrate::into_redis(dir, &store, device, told, ready).await?;
            Ok(Migrated { moved, set_aside: Some(aside), key_file })
        }
        Direction::OutOfRedis => {
            let key = store.transfer_key(&secrets, random::bytes()).await?;
            // A folder that has it already keeps it as it is.
            let is_here = dir.join("transfer.key").exists() && transfer_secret_of(dir)? == key;
            let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
            let moved = migrate::out_of_redis(&store, dir, device, told, (!is_here).then(|| format!("{DERIVED}{hex}\n"))).await?;
            Ok(Migrated { moved, set_aside: None, key_file: None })
        }
    }
}

async fn open(redis: &Redis, folder: [u8; 16]) -> anyhow::Result<RedisStore> {
    let options = redis.options(folder);
    let store = RedisStore::open_to_move(&options).await.with_context(|| format!("opening the Redis at {} (REDIS_URL)", redis.address))?;
    refuse_risks(&store.look(&options).await.context("asking Redis how it is set (REDIS_URL)")?, redis)?;
    Ok(store)
}
