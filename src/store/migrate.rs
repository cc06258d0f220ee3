//! Everything of one store into another, row by row: from the state folder into a Redis, or back.
//!
//! All of it or nothing: what is filled counts only once it is whole, and what it was read from is set aside before that, so that no two
//! stores ever serve the same links. Cut short at any instant, one of both is whole, and says what to do.

use std::path::Path;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinError;

use super::audit::{AuditLine, AuditMark};
use super::redis::RedisStore;
use super::sqlite::{self, BackupError};
use super::stats::{Count, Day, Series};
use super::{ApiToken, LogMark, Plan, Record, Session, StoreError};
use crate::share::{FileIdentity, Share, ShareId, Steady, Timestamp, TokenId};

/// How many rows are on their way: a few megabytes, so that neither side waits for the other.
const QUEUE: usize = 1024;
/// After how many rows is told how far it is.
const TELL_EVERY: u64 = 100_000;

/// A link, as the ledger has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) jti: TokenId,
    pub(super) uses_max: u64,
    pub(super) uses_spent: u64,
    pub(super) is_dead: bool,
}

/// What is moved. Rows of a kind come in their order.
#[derive(Debug)]
pub(super) enum Row {
    Share(Box<Share>, Vec<Link>),
    /// The share whose lines are being forgotten; it is gone itself.
    Forgetting(ShareId),
    Event(Record),
    /// From which line on the wall clock stood at a time.
    Time(Timestamp, u64),
    Audit(AuditLine),
    Session(Session),
    ApiToken(ApiToken),
    Plan(Plan),
    Digest(FileIdentity, [u8; 32]),
    Tally(Series, Day, String, Count),
    LogMark(String, LogMark),
    /// What is kept once.
    Ends(Ends),
}

/// Where the logs begin and end.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ends {
    /// The number of the newest line of the event log, also where it was forgotten.
    pub(super) latest_seq: u64,
    pub(super) latest_steady: Option<Steady>,
    pub(super) latest_wall: Option<Timestamp>,
    /// The newest line of the audit log, and the last that was forgotten.
    pub(super) head: Option<AuditMark>,
    pub(super) anchor: Option<AuditMark>,
}

/// How much was moved, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// Shares, closed ones among them.
    pub shares: u64,
    /// Their links, spent and dead ones among them.
    pub links: u64,
    /// Lines of the event log.
    pub events: u64,
    /// Lines of the audit log.
    pub audit_lines: u64,
    /// Signed-in browsers.
    pub sessions: u64,
    /// API tokens.
    pub api_tokens: u64,
    /// Plans of requests with an `Idempotency-Key`.
    pub plans: u64,
    /// Digests of files.
    pub digests: u64,
    /// Numbers of the statistics.
    pub tallies: u64,
    /// Marks of how far logs were followed.
    pub log_marks: u64,
}

impl Moved {
    pub(super) fn count(&mut self, row: &Row) {
        match row {
            Row::Share(_, links) => {
                self.shares += 1;
                self.links += links.len() as u64;
            }
            Row::Event(_) => self.events += 1,
            Row::Audit(_) => self.audit_lines += 1,
            Row::Session(_) => self.sessions += 1,
            Row::ApiToken(_) => self.api_tokens += 1,
            Row::Plan(_) => self.plans += 1,
            Row::Digest(..) => self.digests += 1,
            Row::Tally(..) => self.tallies += 1,
            Row::LogMark(..) => self.log_marks += 1,
            Row::Forgetting(_) | Row::Time(..) | Row::Ends(_) => {}
        }
    }
}

/// Says why nothing was moved.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// One of both stores cannot, or may not, be used so.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The state folder cannot be used so.
    #[error(transparent)]
    Folder(#[from] BackupError),
}

impl From<JoinError> for MoveError {
    fn from(error: JoinError) -> Self {
        Self::Store(StoreError::unavailable(error))
    }
}

/// How the same file is named on either side: machines that share a Redis leave out the device of the NAS, each numbers it otherwise.
#[derive(Debug, Clone, Copy)]
struct Devices {
    from: u64,
    to: u64,
}

/// Where rows go on their way.
pub(super) struct Feed {
    rows: mpsc::Sender<Row>,
    devices: Devices,
    sent: u64,
    told: watch::Sender<u64>,
}

impl Feed {
    fn translated(&mut self, mut row: Row) -> Row {
        let identity = match &mut row {
            Row::Share(share, _) => Some(&mut share.file.identity),
            Row::Digest(identity, _) => Some(identity),
            _ => None,
        };
        if let Some(identity) = identity.filter(|identity| identity.device == self.devices.from) {
            identity.device = self.devices.to;
        }
        self.sent += 1;
        if self.sent.is_multiple_of(TELL_EVERY) {
            self.told.send_replace(self.sent);
        }
        row
    }

    /// Sends a row; the error says only that nobody takes it, which whoever was to take it explains.
    pub(super) async fn send(&mut self, row: Row) -> Result<(), StoreError> {
        let row = self.translated(row);
        self.rows.send(row).await.map_err(StoreError::unavailable)
    }

    /// As [`Feed::send`]. Blocks.
    pub(super) fn send_blocking(&mut self, row: Row) -> Result<(), StoreError> {
        let row = self.translated(row);
        self.rows.blocking_send(row).map_err(StoreError::unavailable)
    }
}

/// Moves the store of a state folder into a Redis in which nothing of ours is. `device` is what the catalog's files lie on here. The
/// store that was there is kept under another name: returns that, with what was moved. `ready` is done in the Redis before it counts.
///
/// # Errors
/// One of [`MoveError`]: then the folder is as it was, and the Redis counts for nothing.
pub async fn into_redis(
    folder: &Path,
    redis: &RedisStore,
    device: u64,
    told: watch::Sender<u64>,
    ready: impl AsyncFnOnce() -> Result<(), StoreError>,
) -> Result<(Moved, std::path::PathBuf), MoveError> {
    let folder = folder.to_owned();
    let source = tokio::task::spawn_blocking(move || sqlite::Leaving::open(&folder)).await??;
    redis.begin_filling().await?;
    let (rows, mut waiting) = mpsc::channel(QUEUE);
    let mut feed = Feed { rows, devices: Devices { from: device, to: 0 }, sent: 0, told };
    let reading = tokio::task::spawn_blocking(move || {
        let read = source.read(&mut feed);
        (source, read)
    });
    let filled = redis.fill(&mut waiting).await;
    drop(waiting);
    let (source, read) = reading.await?;
    // Where nobody took the rows any more, whoever was to take them knows why.
    let moved = filled?;
    read?;
    ready().await?;
    // Neither counts for a moment: better than both.
    let aside = tokio::task::spawn_blocking(move || source.set_aside()).await??;
    match redis.end_filling().await {
        Ok(()) => Ok((moved, aside.keep())),
        Err(error) => {
            tokio::task::spawn_blocking(move || aside.take_back()).await??;
            Err(error.into())
        }
    }
}

/// Moves everything of a Redis into a state folder that has no store. `device` is what the catalog's files lie on here, `key_file` what
/// the folder's `transfer.key` is to hold, where it is to be another. The Redis counts for nothing from then on.
///
/// # Errors
/// One of [`MoveError`]: then the Redis is as it was, and the folder has no store, unless it is [`BackupError::Decided`].
pub async fn out_of_redis(
    redis: &RedisStore,
    folder: &Path,
    device: u64,
    told: watch::Sender<u64>,
    key_file: Option<String>,
) -> Result<Moved, MoveError> {
    let folder = folder.to_owned();
    let target = tokio::task::spawn_blocking(move || sqlite::Filling::begin(&folder)).await??;
    redis.begin_leaving().await?;
    let done = async {
        let (rows, waiting) = mpsc::channel(QUEUE);
        let mut feed = Feed { rows, devices: Devices { from: 0, to: device }, sent: 0, told };
        let writing = tokio::task::spawn_blocking(move || target.fill(waiting));
        let read = redis.read_all(&mut feed).await;
        if let Err(error) = read {
            // It ends with less than all, and must not count: it waits for the last row, which does not come.
            drop(feed);
            let filled = writing.await?;
            return Err(filled.err().unwrap_or(error.into()));
        }
        drop(feed);
        let (target, moved) = writing.await??;
        tokio::task::spawn_blocking(move || target.decide(key_file)).await??;
        Ok(moved)
    };
    match done.await {
        Ok(moved) => {
            redis.end_leaving(true).await?;
            Ok(moved)
        }
        Err(error) => {
            if !matches!(error, MoveError::Folder(BackupError::Decided { .. })) {
                redis.end_leaving(false).await?;
            }
            Err(error)
        }
    }
}
