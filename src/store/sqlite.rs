//! The embedded store: one SQLite file in the state folder.
//!
//! One thread writes (`writer.rs`), a few read-only connections read. In WAL mode neither waits for the other, and with
//! `synchronous=FULL` an answered write has survived the power going.
//!
//! * `schema.rs`, `backfill.rs`: the tables, and how an older file gets them.
//! * `writer.rs`: saves, the ledger, the event log. `queries.rs`: pages of shares and events.
//! * `access.rs`, `audit.rs`, `log_marks.rs`, `plans.rs`, `stats.rs`, `retention.rs`: one topic each, what is written and what is asked.
//! * `backup.rs`, `restore.rs`, `placing.rs`: the whole of it as one file, and back. `migrate.rs`: the whole of it for another store, and back. `look.rs`: whether a start would work.

mod access;
mod audit;
mod backfill;
mod backup;
mod connections;
mod log_marks;
mod look;
mod migrate;
mod placing;
mod plans;
mod queries;
mod restore;
mod retention;
mod schema;
mod stats;
mod writer;

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};
use tokio::sync::{Semaphore, mpsc, oneshot};

pub use self::backup::{BackupError, BackupSummary, backup};
use self::connections::{Reader, Readers, lock, open_to_read, open_to_write, private_file, private_folder};
pub use self::look::{Look, look_at};
pub(super) use self::migrate::{Filling, Leaving};
use self::queries::{page_of_events, page_of_shares, shares_by};
pub use self::restore::{Restored, restore};
use self::writer::{Job, Undone};
use super::audit::{AuditEntry, AuditLine, AuditVerdict};
use super::{
    ApiToken, ApiTokenId, Day, EventQuery, Forgotten, LogMark, Plan, Record, Save, Session, ShareQuery, Size, Stats, Store, StoreError,
};
use crate::share::{FileIdentity, Share, ShareId, Steady, Timestamp};

/// The database's name in the state folder.
const FILE_NAME: &str = "portcullis.db";
/// The name of the file whose lock says that a process uses the folder.
const LOCK_NAME: &str = "portcullis.lock";
/// The files that a store is made of and leaves in its folder.
pub const FILES: [&str; 2] = [FILE_NAME, LOCK_NAME];
/// How many writes may wait for the disk. Past it the callers wait, and with them whoever asked them.
const QUEUE: usize = 1024;
/// How long a read may wait for its turn, and then again for its answer, before a page says that it cannot be had.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Every share that is not closed, oldest first.
const LIVING: &str = "SELECT body FROM share WHERE closed = 0 ORDER BY created_ms, id";
/// What an owner whose store is damaged can do.
const ADVICE: &str = "; put a backup in its place, or move it away";

/// Keeps everything in one SQLite file. Dropping it writes what was sent and waits for that.
pub struct SqliteStore {
    jobs: Option<mpsc::Sender<Box<dyn Job>>>,
    writer: Option<JoinHandle<()>>,
    readers: Arc<Readers>,
    path: PathBuf,
    /// Whoever walks a whole log, which takes seconds, waits here for the one who does so already.
    walk: Semaphore,
    /// Held as long as the store lives: two controllers on one folder would fight over its shares.
    _lock: File,
}

/// Holds a state folder for one process, as an open store does; for who keeps its state elsewhere.
#[derive(Debug)]
pub struct FolderLock(#[expect(dead_code, reason = "it is held")] File);

impl FolderLock {
    /// Takes the folder, or makes it, for this account only. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] where another process has it; [`StoreError::Unavailable`] where it cannot be made or written.
    pub fn take(folder: &Path) -> Result<Self, StoreError> {
        private_folder(folder).map_err(StoreError::unavailable)?;
        lock(&folder.join(LOCK_NAME)).map(Self)
    }

    /// Returns whether a store lies in the folder.
    pub fn has_store(folder: &Path) -> bool {
        folder.join(FILE_NAME).exists()
    }
}

impl SqliteStore {
    /// Opens the store in `folder`, or makes it there. Blocks; for the start of the program.
    ///
    /// The files are for this account only. So is the folder if it is made here; one that exists keeps its mode, since
    /// others may use it.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] where the file is damaged, another program's, of a later version or in use by another
    /// process; [`StoreError::Unavailable`] where it cannot be opened or written.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        private_folder(folder).map_err(StoreError::unavailable)?;
        let lock = lock(&folder.join(LOCK_NAME))?;
        // A restore that was cut short is completed before anything is looked at.
        placing::place(folder).map_err(StoreError::unavailable)?;
        let path = folder.join(FILE_NAME);
        // SQLite gives its side files (-wal, -shm) the mode of the database.
        let file = private_file(&path).map_err(StoreError::unavailable)?;
        file.set_permissions(Permissions::from_mode(0o600)).map_err(StoreError::unavailable)?;
        let writing = open_to_write(&path)?;
        let readers = Arc::new(Readers::open(&path)?);
        let (jobs, queue) = mpsc::channel(QUEUE);
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer::run(writing, queue))
            .map_err(StoreError::unavailable)?;
        Ok(Self { jobs: Some(jobs), writer: Some(writer), readers, path, walk: Semaphore::new(1), _lock: lock })
    }

    /// Queues a write at once, so that writes happen in the order of the calls; only where the queue is full the order is
    /// that in which the futures are first polled. What was queued is written even if nobody waits for the answer.
    fn write<T: Send + 'static>(
        &self,
        write: impl FnOnce(&Connection) -> Result<T, Undone> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        let jobs = self.jobs.as_ref().expect("the queue lives as long as the store");
        let (answer, waiting) = oneshot::channel();
        let queued = jobs.try_send(writer::job(write, answer));
        async move {
            match queued {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(job)) => jobs.send(job).await.map_err(|_| writer_is_gone())?,
                Err(mpsc::error::TrySendError::Closed(_)) => return Err(writer_is_gone()),
            }
            waiting.await.map_err(|_| writer_is_gone())?
        }
        .boxed()
    }

    fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        async move {
            let reader = Reader::take(&self.readers, self.readers.turn().await?)?;
            let interrupt = reader.connection().get_interrupt_handle();
            let answer = tokio::task::spawn_blocking(move || read(reader.connection()));
            match tokio::time::timeout(READ_TIMEOUT, answer).await {
                Ok(answer) => answer.map_err(StoreError::unavailable)?,
                Err(late) => {
                    interrupt.interrupt();
                    Err(StoreError::unavailable(late))
                }
            }
        }
        .boxed()
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        // The last connection to close writes the log back into the database, and only the writer can.
        self.readers.close();
        self.jobs = None;
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has said so already.
            let _ = writer.join();
        }
    }
}

fn writer_is_gone() -> StoreError {
    StoreError::unavailable("the thread that writes has ended")
}

/// Says what an error of SQLite means to the caller.
fn refused(error: impl Into<Arc<rusqlite::Error>>) -> StoreError {
    let error = error.into();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            StoreError::Unusable { reason: format!("its file is damaged or is no database ({error}){ADVICE}") }
        }
        _ => StoreError::unavailable(error),
    }
}

/// Returns the number of the newest line, also where it was forgotten.
fn latest_seq(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'event'), 0)";
    Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0))?.cast_unsigned())
}

/// Returns how much is kept. Nothing is counted line by line: a log of a million lines answers as fast as a short one.
fn size(connection: &Connection, path: &Path) -> Result<Size, StoreError> {
    let number = |sql: &str| -> Result<u64, StoreError> {
        let mut statement = connection.prepare_cached(sql).map_err(refused)?;
        Ok(statement.query_row([], |row| row.get::<_, i64>(0)).map_err(refused)?.cast_unsigned())
    };
    let kept = |name: &str| number(&format!("SELECT coalesce((SELECT value FROM meta WHERE name = '{name}'), 0)"));
    let log = path.with_file_name(format!("{FILE_NAME}-wal"));
    let bytes = [path, &log].iter().filter_map(|path| std::fs::metadata(path).ok()).map(|file| file.len()).sum();
    let events = latest_seq(connection).map_err(refused)?.saturating_sub(kept("forgotten_events")?);
    Ok(Size { bytes, events, shares: kept("shares")? })
}

/// Looks through the whole chain of the audit log in `folder`, beside a server that may be running. Blocks.
///
/// # Errors
/// [`StoreError::Unusable`] where there is no store of this version or the file is damaged; [`StoreError::Unavailable`]
/// where it cannot be read.
pub fn verify_audit_of(folder: &Path) -> Result<AuditVerdict, StoreError> {
    if folder.join(placing::DECIDED).try_exists().map_err(StoreError::unavailable)? {
        return Err(StoreError::Unusable { reason: "a restore was cut short; start the server once, which completes it".to_owned() });
    }
    let path = folder.join(FILE_NAME);
    if !path.try_exists().map_err(StoreError::unavailable)? {
        return Err(StoreError::Unusable { reason: "there is none in this folder".to_owned() });
    }
    let connection = open_to_read(&path)?;
    schema::expect_current(&connection)?;
    audit::verify(&connection)
}

impl Store for SqliteStore {
    fn save(&self, save: Save) -> BoxFuture<'_, Result<Vec<u64>, StoreError>> {
        self.write(move |connection| writer::save(connection, &save))
    }

    fn share(&self, id: ShareId) -> BoxFuture<'_, Result<Option<Share>, StoreError>> {
        self.read(move |connection| {
            let found = shares_by(connection, "SELECT body FROM share WHERE id = ?", vec![Value::from(id.to_string())])?;
            Ok(found.into_iter().next())
        })
    }

    fn living(&self) -> BoxFuture<'_, Result<Vec<Share>, StoreError>> {
        self.read(|connection| shares_by(connection, LIVING, Vec::new()))
    }

    fn shares(&self, query: ShareQuery) -> BoxFuture<'_, Result<Vec<Share>, StoreError>> {
        self.read(move |connection| page_of_shares(connection, &query))
    }

    fn events(&self, query: EventQuery) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        self.read(move |connection| page_of_events(connection, &query))
    }

    fn latest_seq(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.read(|connection| latest_seq(connection).map_err(refused))
    }

    fn latest_steady(&self) -> BoxFuture<'_, Result<Option<Steady>, StoreError>> {
        self.read(|connection| {
            let sql = "SELECT value FROM meta WHERE name = 'latest_steady'";
            connection.query_row(sql, [], |row| row.get(0).map(Steady)).optional().map_err(refused)
        })
    }

    fn put_session(&self, session: Session) -> BoxFuture<'_, Result<(), StoreError>> {
        self.write(move |connection| access::put_session(connection, &session))
    }

    fn session(&self, digest: [u8; 32], now: Steady) -> BoxFuture<'_, Result<Option<Session>, StoreError>> {
        self.read(move |connection| access::session(connection, digest, now))
    }

    fn end_session(&self, digest: [u8; 32], now: Steady) -> BoxFuture<'_, Result<(), StoreError>> {
        self.write(move |connection| access::end_session(connection, digest, now))
    }

    fn sessions(&self, now: Steady) -> BoxFuture<'_, Result<Vec<Session>, StoreError>> {
        self.read(move |connection| access::sessions(connection, now))
    }

    fn put_api_token(&self, token: ApiToken) -> BoxFuture<'_, Result<(), StoreError>> {
        self.write(move |connection| access::put_api_token(connection, &token))
    }

    fn api_tokens(&self) -> BoxFuture<'_, Result<Vec<ApiToken>, StoreError>> {
        self.read(access::api_tokens)
    }

    fn remove_api_token(&self, id: ApiTokenId) -> BoxFuture<'_, Result<Option<ApiToken>, StoreError>> {
        self.write(move |connection| access::remove_api_token(connection, &id))
    }

    fn api_token_used(&self, id: ApiTokenId, at: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        self.write(move |connection| access::api_token_used(connection, &id, at))
    }

    fn append_audit(&self, entry: AuditEntry) -> BoxFuture<'_, Result<AuditLine, StoreError>> {
        self.write(move |connection| audit::append(connection, entry))
    }

    fn save_with_line(&self, save: Save, line: AuditEntry) -> BoxFuture<'_, Result<Vec<u64>, StoreError>> {
        self.write(move |connection| {
            audit::append(connection, line)?;
            writer::save(connection, &save)
        })
    }

    fn audit_lines(&self, before: Option<u64>, limit: usize) -> BoxFuture<'_, Result<Vec<AuditLine>, StoreError>> {
        self.read(move |connection| audit::page(connection, before, limit))
    }

    fn verify_audit(&self) -> BoxFuture<'_, Result<AuditVerdict, StoreError>> {
        async move {
            // On a connection of its own: the others stay free for those who wait for a page.
            let _turn = self.walk.acquire().await.map_err(StoreError::unavailable)?;
            let path = self.path.clone();
            let walk = tokio::task::spawn_blocking(move || audit::verify(&open_to_read(&path)?));
            walk.await.map_err(StoreError::unavailable)?
        }
        .boxed()
    }

    fn put_plan(&self, plan: Plan, forget_before: Steady) -> BoxFuture<'_, Result<Plan, StoreError>> {
        self.write(move |connection| plans::put(connection, plan, forget_before))
    }

    fn plan_is_done(&self, key: String) -> BoxFuture<'_, Result<(), StoreError>> {
        self.write(move |connection| plans::is_done(connection, &key))
    }

    fn drop_plan(&self, key: String) -> BoxFuture<'_, Result<(), StoreError>> {
        self.write(move |connection| plans::drop_undone(connection, &key))
    }

    fn stats(&self, from: Day, to: Day) -> BoxFuture<'_, Result<Stats, StoreError>> {
        self.read(move |connection| stats::stats(connection, from, to))
    }

    fn forget(&self, before: Timestamp) -> BoxFuture<'_, Result<Forgotten, StoreError>> {
        self.write(move |connection| retention::forget(connection, before))
    }

    fn try_write(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.write(|connection| Ok(writer::try_write(connection)?))
    }

    fn size(&self) -> BoxFuture<'_, Result<Size, StoreError>> {
        let path = self.path.clone();
        self.read(move |connection| size(connection, &path))
    }

    fn put_digest(&self, identity: FileIdentity, sha256: [u8; 32]) -> BoxFuture<'_, Result<(), StoreError>> {
        self.write(move |connection| Ok(writer::put_digest(connection, &identity, &sha256)?))
    }

    fn digest(&self, identity: FileIdentity) -> BoxFuture<'_, Result<Option<[u8; 32]>, StoreError>> {
        self.read(move |connection| {
            let sql = "SELECT sha256 FROM digest
                       WHERE device = ?1 AND inode = ?2 AND size_bytes = ?3 AND modified_ns = ?4 AND changed_ns = ?5";
            let [device, inode, size_bytes] = [identity.device, identity.inode, identity.size_bytes].map(u64::cast_signed);
            let values = params![device, inode, size_bytes, identity.modified_ns, identity.changed_ns];
            connection.query_row(sql, values, |row| row.get(0)).optional().map_err(refused)
        })
    }

    fn put_log_mark(&self, log: String, mark: LogMark) -> BoxFuture<'_, Result<(), StoreError>> {
        self.write(move |connection| log_marks::put(connection, &log, &mark))
    }

    fn log_mark(&self, log: String) -> BoxFuture<'_, Result<Option<LogMark>, StoreError>> {
        self.read(move |connection| log_marks::of(connection, &log))
    }
}

#[cfg(test)]
mod tests;
