//! The connections to the file, and the lock that says whose folder it is.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{READ_TIMEOUT, StoreError, refused, schema};

/// How many reads run at once; each may hold a thread and a page of megabytes.
const READERS: usize = 4;
/// How long SQLite waits for a lock that another process holds (a backup, somebody's `sqlite3`).
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the write-ahead log may become, in pages of 4 KiB, before it is written back: that takes three flushes of the disk,
/// for which the next save waits. Making a share writes some 17 pages, so of 250 one waits; the log stays below
/// [`WAL_LIMIT_BYTES`] and so is written over, which takes a disk less than letting it grow.
const WAL_PAGES: u32 = 4000;
/// How much of the write-ahead log stays on disk once it was written back, in bytes.
const WAL_LIMIT_BYTES: u32 = 16 << 20;
/// How many statements a connection keeps prepared: all of ours.
const STATEMENTS: usize = 64;

/// The connections that read.
pub(super) struct Readers {
    idle: Mutex<Vec<Connection>>,
    turns: Arc<Semaphore>,
}

/// A connection in use; it goes back whatever happens.
pub(super) struct Reader {
    connection: Option<Connection>,
    home: Arc<Readers>,
    _turn: OwnedSemaphorePermit,
}

impl Readers {
    /// Opens as many as may read at once.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let idle = (0..READERS).map(|_| open_to_read(path)).collect::<Result<_, _>>()?;
        Ok(Self { idle: Mutex::new(idle), turns: Arc::new(Semaphore::new(READERS)) })
    }

    /// Waits until one is free.
    pub(super) async fn turn(&self) -> Result<OwnedSemaphorePermit, StoreError> {
        let turn = tokio::time::timeout(READ_TIMEOUT, Arc::clone(&self.turns).acquire_owned()).await;
        turn.map_err(StoreError::unavailable)?.map_err(StoreError::unavailable)
    }

    /// Closes those that nobody uses.
    pub(super) fn close(&self) {
        self.idle.lock().expect("nobody panics while holding the list").clear();
    }
}

impl Reader {
    pub(super) fn take(home: &Arc<Readers>, turn: OwnedSemaphorePermit) -> Result<Self, StoreError> {
        let connection = home.idle.lock().expect("nobody panics while holding the list").pop();
        let connection = connection.ok_or_else(|| StoreError::unavailable("no connection is left to read with"))?;
        Ok(Self { connection: Some(connection), home: Arc::clone(home), _turn: turn })
    }

    pub(super) fn connection(&self) -> &Connection {
        self.connection.as_ref().expect("it is given back only when dropped")
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.home.idle.lock().expect("nobody panics while holding the list").extend(self.connection.take());
    }
}

/// Makes a folder for this account only, and what is missing above it, where it is not there yet. What was made has survived the
/// power going: a folder whose own name is lost takes everything in it along, however well that was synced.
pub(super) fn private_folder(folder: &Path) -> std::io::Result<()> {
    let folder = std::path::absolute(folder)?;
    let is_there = |path: &&Path| path.try_exists().is_ok_and(|is_there| is_there);
    let missing: Vec<&Path> = folder.ancestors().take_while(|path| !is_there(path)).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    missing.iter().try_for_each(|made| sync_folder_of(made))
}

/// Waits until a name in its folder has survived the power going, where the file system can say so.
pub(super) fn sync_folder_of(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        Err(error) if matches!(error.kind(), std::io::ErrorKind::InvalidInput | std::io::ErrorKind::Unsupported) => Ok(()),
        // A folder that this account may enter and not list: its owner made it, and synced it.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        other => other,
    }
}

pub(super) fn private_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

pub(super) fn lock(path: &Path) -> Result<File, StoreError> {
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

pub(super) fn open_to_write(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(refused)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(refused)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(refused)?;
    if mode != "wal" {
        return Err(StoreError::Unusable { reason: "the state folder must lie on a local disk (no write-ahead log here)".to_owned() });
    }
    let settings = format!(
        "PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF; PRAGMA temp_store = MEMORY; PRAGMA journal_size_limit = {WAL_LIMIT_BYTES};"
    );
    connection.execute_batch(&settings).map_err(refused)?;
    connection.pragma_update(None, "wal_autocheckpoint", WAL_PAGES).map_err(refused)?;
    schema::prepare(&connection)?;
    Ok(connection)
}

pub(super) fn open_to_read(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(refused)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(refused)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}
