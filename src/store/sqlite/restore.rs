//! Puts a backup back.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags};

use super::backup::{BackupError, MAX_FILES, at, check_files, exists, sync_folder_of};
use super::connections::{lock, private_file};
use super::queries::shares_by;
use super::writer::{self, Undone};
use super::{ADVICE, FILE_NAME, LIVING, LOCK_NAME, StoreError, audit, latest_seq, refused, schema};
use crate::share::{Event, Moment, Steady};
use crate::store::Save;
use crate::store::audit::{AuditEntry, OURSELVES};

/// What a backup is called in the folder until it may have the store's name.
const COMING_NAME: &str = "portcullis.db.restoring";
/// How many stores that were replaced are kept in one folder; whoever restores so often removes some.
const MAX_REPLACED: u32 = 1000;

/// What was put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The small files of the backup, by name; they are not written by this.
    pub files: Vec<(String, Vec<u8>)>,
    /// How many shares lived when the backup was made, and are closed now.
    pub closed_shares: u64,
    /// How many API tokens work again that may have been removed since.
    pub api_tokens: u64,
    /// The number of the newest line of the event log.
    pub latest_seq: u64,
    /// Where the store that was there is now.
    pub replaced: Option<PathBuf>,
}

/// Puts the backup `from` into `folder`, where no server may run. Blocks. What lived in it is closed at `now`, every link is
/// dead and every browser signed out before it takes the store's place; up to that moment a crash leaves what was there.
/// A store that is there is replaced only if `replace` says so, and is kept under another name.
///
/// # Errors
/// One of [`BackupError`]; the folder is as it was then.
pub fn restore(from: &Path, folder: &Path, replace: bool, now: Moment) -> Result<Restored, BackupError> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(at(folder))?;
    let _lock = match lock(&folder.join(LOCK_NAME)) {
        Err(StoreError::Unusable { .. }) => return Err(BackupError::Running { folder: folder.to_owned() }),
        other => other?,
    };
    if exists(&folder.join(FILE_NAME))? && !replace {
        return Err(BackupError::Occupied { folder: folder.to_owned() });
    }
    let coming = Coming::copy(from, folder)?;
    let restored = coming.prepare(from, now)?;
    let replaced = set_aside(folder)?;
    coming.take_place(folder)?;
    Ok(Restored { replaced, ..restored })
}

/// A copy of a backup in the folder, not in its place yet; unless it gets there it is gone again.
struct Coming(PathBuf);

impl Coming {
    fn copy(from: &Path, folder: &Path) -> Result<Self, BackupError> {
        let coming = Self(folder.join(COMING_NAME));
        let mut source = File::open(from).map_err(at(from))?;
        if !source.metadata().map_err(at(from))?.is_file() {
            return Err(unfit(from, "it is no file"));
        }
        // What an attempt that was cut off left behind is of no use.
        match std::fs::remove_file(&coming.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&coming.0)(error)),
            _ => {}
        }
        let mut copy = private_file(&coming.0).map_err(at(&coming.0))?;
        io::copy(&mut source, &mut copy).map_err(at(&coming.0))?;
        Ok(coming)
    }

    /// Makes the past of it: this version's tables, nothing that lives, no link that works.
    fn prepare(&self, from: &Path, now: Moment) -> Result<Restored, BackupError> {
        let named = |error| match error {
            StoreError::Unusable { reason } => unfit(from, reason.trim_end_matches(ADVICE)),
            other => BackupError::Store(other),
        };
        let mut file = open_whole(&self.0).map_err(named)?;
        let files = take_files(&file, from)?;
        schema::prepare(&file).and_then(|()| schema::expect_ours(&file)).map_err(named)?;
        let step = file.transaction().map_err(refused)?;
        let closed_shares = make_past(&step, now).map_err(|undone| match undone {
            Undone::Refused(error) => named(error),
            Undone::Sqlite(error) => named(refused(error)),
        })?;
        let api_tokens: i64 = step.query_row("SELECT count(*) FROM api_token", [], |row| row.get(0)).map_err(refused)?;
        let latest_seq = latest_seq(&step).map_err(refused)?;
        step.commit().map_err(refused)?;
        drop(file);
        File::open(&self.0).and_then(|file| file.sync_all()).map_err(at(&self.0))?;
        Ok(Restored { files, closed_shares, api_tokens: api_tokens.cast_unsigned(), latest_seq, replaced: None })
    }

    fn take_place(self, folder: &Path) -> Result<(), BackupError> {
        let place = folder.join(FILE_NAME);
        std::fs::rename(&self.0, &place).map_err(at(&place))?;
        sync_folder_of(&place)
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        // It is in its place, or is of no use.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Opens a database of which every page is there, and ours.
fn open_whole(path: &Path) -> Result<Connection, StoreError> {
    let file = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(refused)?;
    // The file is a copy: what is cut off is copied again, and needs no journal.
    file.execute_batch("PRAGMA trusted_schema = OFF; PRAGMA temp_store = MEMORY").map_err(refused)?;
    file.query_row("PRAGMA journal_mode = MEMORY", [], |_| Ok(())).map_err(refused)?;
    schema::version_of(&file)?;
    let number = |pragma: &str| file.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0)).map_err(refused);
    let expected = number("page_count")?.saturating_mul(number("page_size")?);
    let bytes = std::fs::metadata(path).map_err(StoreError::unavailable)?.len();
    if u64::try_from(expected).ok() != Some(bytes) {
        return Err(StoreError::Unusable { reason: format!("it has {bytes} bytes and should have {expected}") });
    }
    let verdict: String = file.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(refused)?;
    if verdict != "ok" {
        return Err(StoreError::Unusable { reason: format!("it is damaged ({verdict})") });
    }
    Ok(file)
}

/// Takes the small files out.
fn take_files(file: &Connection, from: &Path) -> Result<Vec<(String, Vec<u8>)>, BackupError> {
    let is_backup = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'kept_file'";
    if file.query_row(is_backup, [], |row| row.get::<_, i64>(0)).map_err(refused)? == 0 {
        return Err(unfit(from, "it was not made by `portcullis backup`"));
    }
    let sizes = format!("SELECT name, length(bytes) FROM kept_file LIMIT {}", MAX_FILES + 1);
    let mut sizes = file.prepare(&sizes).map_err(refused)?;
    let sizes = sizes.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).map_err(refused)?;
    let sizes: Vec<(String, i64)> = sizes.collect::<Result<_, _>>().map_err(refused)?;
    check_files(from, sizes.iter().map(|(name, bytes)| (name.as_str(), usize::try_from(*bytes).unwrap_or(usize::MAX))))?;
    let mut files = file.prepare("SELECT name, bytes FROM kept_file ORDER BY name").map_err(refused)?;
    let files = files.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).map_err(refused)?.collect::<Result<_, _>>().map_err(refused)?;
    file.execute_batch("DROP TABLE kept_file").map_err(refused)?;
    Ok(files)
}

/// Closes what lived, kills every link and signs everybody out. Returns how many shares were closed.
fn make_past(file: &Connection, now: Moment) -> Result<u64, Undone> {
    let last: Option<i64> = file.query_row("SELECT max(value) FROM meta WHERE name = 'latest_steady'", [], |row| row.get(0))?;
    // The steady clock never goes back, whatever the clock of this machine says.
    let now = Moment { steady: now.steady.max(Steady(last.unwrap_or(i64::MIN))), ..now };
    let living = shares_by(file, LIVING, Vec::new()).map_err(Undone::Refused)?;
    let closed = living.len() as u64;
    for mut share in living {
        for event in [Event::Revoked, Event::TunnelClosed] {
            let facts = share.on(event, now).facts;
            writer::save(file, &Save { share: Arc::new(share.clone()), facts, at: now })?;
        }
    }
    file.execute_batch("UPDATE link SET dead = 1 WHERE dead = 0; DELETE FROM session;")?;
    let entry = AuditEntry {
        at: now.wall,
        who: OURSELVES.to_owned(),
        from: "command line".to_owned(),
        action: "store.restored".to_owned(),
        target: String::new(),
        detail: format!("shares closed: {closed}"),
    };
    audit::append(file, entry)?;
    Ok(closed)
}

/// Gives the store that is there a second name, under which it stays when another takes its place. Returns that name.
fn set_aside(folder: &Path) -> Result<Option<PathBuf>, BackupError> {
    let place = folder.join(FILE_NAME);
    let aside = free_name(folder)?;
    let side = |path: &Path, end: &str| path.with_file_name(format!("{}{end}", path.file_name().unwrap_or_default().to_string_lossy()));
    let is_there = exists(&place)?;
    // Written back into the database its log is gone; a store that is too damaged for that keeps it under the second name.
    if is_there {
        let _ = write_back(&place);
    }
    if exists(&side(&place, "-wal"))? {
        std::fs::rename(side(&place, "-wal"), side(&aside, "-wal")).map_err(at(&place))?;
    }
    match std::fs::remove_file(side(&place, "-shm")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&place)(error)),
        _ => {}
    }
    if !is_there {
        return Ok(None);
    }
    if std::fs::hard_link(&place, &aside).is_err() {
        // A file system without second names.
        std::fs::copy(&place, &aside).map_err(at(&aside))?;
        File::open(&aside).and_then(|file| file.sync_all()).map_err(at(&aside))?;
    }
    sync_folder_of(&aside)?;
    Ok(Some(aside))
}

fn write_back(place: &Path) -> rusqlite::Result<()> {
    let file = Connection::open_with_flags(place, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    file.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

fn free_name(folder: &Path) -> Result<PathBuf, BackupError> {
    for n in 1..=MAX_REPLACED {
        let name = folder.join(format!("{FILE_NAME}.before-restore-{n}"));
        if !exists(&name)? {
            return Ok(name);
        }
    }
    Err(BackupError::Exists { path: folder.join(format!("{FILE_NAME}.before-restore-{MAX_REPLACED}")) })
}

fn unfit(path: &Path, reason: &str) -> BackupError {
    BackupError::Unfit { path: path.to_owned(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests;
