//! The embedded store: one SQLite file in the state folder.
//!
//! One thread writes (`writer.rs`), a few read-only connections read. In WAL mode neither waits for the other, and with
//! `synchronous=FULL` an answered write has survived the power going.

mod queries;
mod schema;
mod writer;

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use self::queries::{page_of_events, page_of_shares, shares_by};
use self::writer::{Answer, Job, Write};
use super::{EventQuery, Record, Save, Session, ShareQuery, Store, StoreError};
use crate::share::{FileIdentity, Share, ShareId, Steady, Timestamp};

/// The database's name in the state folder.
const FILE_NAME: &str = "portcullis.db";
/// The name of the file whose lock says that a process uses the folder.
const LOCK_NAME: &str = "portcullis.lock";
/// How many writes may wait for the disk. Past it the callers wait, and with them whoever asked them.
const QUEUE: usize = 1024;
/// How many reads run at once; each may hold a thread and a page of megabytes.
const READERS: usize = 4;
/// How long a read may wait for its turn, and then again for its answer, before a page says that it cannot be had.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// How long SQLite waits for a lock that another process holds (a backup, somebody's `sqlite3`).
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How much of the write-ahead log stays on disk once it was written back, in bytes.
const WAL_LIMIT_BYTES: u32 = 16 << 20;

/// Keeps everything in one SQLite file. Dropping it writes what was sent and waits for that.
pub struct SqliteStore {
    jobs: Option<mpsc::Sender<Job>>,
    writer: Option<JoinHandle<()>>,
    readers: Arc<Readers>,
    /// Held as long as the store lives: two controllers on one folder would fight over its shares.
    _lock: File,
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
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(StoreError::unavailable)?;
        let lock = lock(&folder.join(LOCK_NAME))?;
        let path = folder.join(FILE_NAME);
        // SQLite gives its side files (-wal, -shm) the mode of the database.
        let file = private_file(&path).map_err(StoreError::unavailable)?;
        file.set_permissions(Permissions::from_mode(0o600)).map_err(StoreError::unavailable)?;
        let writing = open_to_write(&path)?;
        let idle = (0..READERS).map(|_| open_to_read(&path)).collect::<Result<_, _>>()?;
        let readers = Arc::new(Readers { idle: Mutex::new(idle), turns: Arc::new(Semaphore::new(READERS)) });
        let (jobs, queue) = mpsc::channel(QUEUE);
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer::run(writing, queue))
            .map_err(StoreError::unavailable)?;
        Ok(Self { jobs: Some(jobs), writer: Some(writer), readers, _lock: lock })
    }

    /// Queues a write at once, so that writes happen in the order of the calls; only where the queue is full the order is
    /// that in which the futures are first polled. What was queued is written even if nobody waits for the answer.
    fn write(&self, write: Write) -> BoxFuture<'_, Answer> {
        let jobs = self.jobs.as_ref().expect("the queue lives as long as the store");
        let (answer, waiting) = oneshot::channel();
        let queued = jobs.try_send(Job { write, answer });
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
            let turn = Arc::clone(&self.readers.turns).acquire_owned();
            let turn = tokio::time::timeout(READ_TIMEOUT, turn).await.map_err(StoreError::unavailable)?;
            let reader = Reader::take(&self.readers, turn.map_err(StoreError::unavailable)?)?;
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
        self.jobs = None;
        // The last connection to close writes the log back into the database, and only the writer can.
        self.readers.idle.lock().expect("nobody panics while holding the list").clear();
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has said so already.
            let _ = writer.join();
        }
    }
}

fn writer_is_gone() -> StoreError {
    StoreError::unavailable("the thread that writes has ended")
}

/// The connections that read.
struct Readers {
    idle: Mutex<Vec<Connection>>,
    turns: Arc<Semaphore>,
}

/// A connection in use; it goes back whatever happens.
struct Reader {
    connection: Option<Connection>,
    home: Arc<Readers>,
    _turn: OwnedSemaphorePermit,
}

impl Reader {
    fn take(home: &Arc<Readers>, turn: OwnedSemaphorePermit) -> Result<Self, StoreError> {
        let connection = home.idle.lock().expect("nobody panics while holding the list").pop();
        let connection = connection.ok_or_else(|| StoreError::unavailable("no connection is left to read with"))?;
        Ok(Self { connection: Some(connection), home: Arc::clone(home), _turn: turn })
    }

    fn connection(&self) -> &Connection {
        self.connection.as_ref().expect("it is given back only when dropped")
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.home.idle.lock().expect("nobody panics while holding the list").extend(self.connection.take());
    }
}

fn private_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let file = private_file(path).map_err(StoreError::unavailable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(StoreError::Unusable { reason: "another portcullis is running with the same state folder".to_owned() })
        }
        // A file system without locks; SQLite's own still keep the file whole.
        Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => Ok(file),
        Err(TryLockError::Error(error)) => Err(StoreError::unavailable(error)),
    }
}

fn open_to_write(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(refused)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(refused)?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(refused)?;
    if mode != "wal" {
        return Err(StoreError::Unusable { reason: "the state folder must lie on a local disk (no write-ahead log here)".to_owned() });
    }
    let settings = format!(
        "PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF; PRAGMA temp_store = MEMORY; PRAGMA journal_size_limit = {WAL_LIMIT_BYTES};"
    );
    connection.execute_batch(&settings).map_err(refused)?;
    schema::prepare(&connection)?;
    Ok(connection)
}

fn open_to_read(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(refused)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(refused)?;
    Ok(connection)
}

/// Says what an error of SQLite means to the caller.
fn refused(error: impl Into<Arc<rusqlite::Error>>) -> StoreError {
    let error = error.into();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Unusable {
            reason: format!("its file is damaged or is no database ({error}); put a backup in its place, or move it away"),
        },
        _ => StoreError::unavailable(error),
    }
}

impl Store for SqliteStore {
    fn save(&self, save: Save) -> BoxFuture<'_, Result<Vec<u64>, StoreError>> {
        self.write(Write::Save(save))
    }

    fn share(&self, id: ShareId) -> BoxFuture<'_, Result<Option<Share>, StoreError>> {
        self.read(move |connection| {
            let found = shares_by(connection, "SELECT body FROM share WHERE id = ?", vec![Value::from(id.to_string())])?;
            Ok(found.into_iter().next())
        })
    }

    fn living(&self) -> BoxFuture<'_, Result<Vec<Share>, StoreError>> {
        self.read(|connection| shares_by(connection, "SELECT body FROM share WHERE closed = 0 ORDER BY created_ms, id", Vec::new()))
    }

    fn shares(&self, query: ShareQuery) -> BoxFuture<'_, Result<Vec<Share>, StoreError>> {
        self.read(move |connection| page_of_shares(connection, &query))
    }

    fn events(&self, query: EventQuery) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        self.read(move |connection| page_of_events(connection, &query))
    }

    fn latest_seq(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.read(|connection| {
            let latest: i64 = connection.query_row("SELECT coalesce(max(seq), 0) FROM event", [], |row| row.get(0)).map_err(refused)?;
            Ok(latest.cast_unsigned())
        })
    }

    fn latest_steady(&self) -> BoxFuture<'_, Result<Option<Steady>, StoreError>> {
        self.read(|connection| {
            let sql = "SELECT value FROM meta WHERE name = 'latest_steady'";
            connection.query_row(sql, [], |row| row.get(0).map(Steady)).optional().map_err(refused)
        })
    }

    fn put_session(&self, session: Session) -> BoxFuture<'_, Result<(), StoreError>> {
        self.write(Write::PutSession(session)).map(|answer| answer.map(drop)).boxed()
    }

    fn session(&self, digest: [u8; 32], now: Steady) -> BoxFuture<'_, Result<Option<Session>, StoreError>> {
        self.read(move |connection| {
            let sql = "SELECT expires_ms FROM session WHERE digest = ?1 AND expires_ms > ?2";
            let expires = connection.query_row(sql, params![digest, now.0], |row| row.get(0).map(Steady)).optional();
            Ok(expires.map_err(refused)?.map(|expires| Session {
                digest,
                expires,
                created: Timestamp(0),
                seen: Timestamp(0),
                address: None,
                agent: String::new(),
            }))
        })
    }

    fn end_session(&self, digest: [u8; 32], now: Steady) -> BoxFuture<'_, Result<(), StoreError>> {
        self.write(Write::EndSession { digest, now }).map(|answer| answer.map(drop)).boxed()
    }

    fn put_digest(&self, identity: FileIdentity, sha256: [u8; 32]) -> BoxFuture<'_, Result<(), StoreError>> {
        self.write(Write::PutDigest { identity, sha256 }).map(|answer| answer.map(drop)).boxed()
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
}

#[cfg(test)]
mod tests;
