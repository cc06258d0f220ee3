//! Puts a backup back.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags};
use rustix::fs::{Mode, OFlags};

use super::backup::{BackupError, MAX_FILES, at, check_files, exists};
use super::connections::{lock, private_file, private_folder, sync_folder_of};
use super::placing::{COMING, DECIDED, Placed, place};
use super::queries::shares_by;
use super::writer::{self, Undone};
use super::{ADVICE, FILE_NAME, LIVING, LOCK_NAME, StoreError, audit, latest_seq, refused, schema};
use crate::share::{Event, Moment, Steady};
use crate::store::Save;
use crate::store::audit::{AuditEntry, OURSELVES};

/// What was put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// How many keys came with the store.
    pub keys: u64,
    /// Where the keys are now that were replaced by others.
    pub kept_keys: Vec<PathBuf>,
    /// How many shares lived when the backup was made, and are closed now.
    pub closed_shares: u64,
    /// How many API tokens work again that may have been removed since.
    pub api_tokens: u64,
    /// The number of the newest line of the event log.
    pub latest_seq: u64,
    /// Where the store that was there is now.
    pub replaced: Option<PathBuf>,
}

/// Puts the backup `from` into `folder`, where no server may run, with those of its small files that are named in `keys`.
/// Blocks. What lived in it is closed at `now`, every link is dead and every browser signed out before it takes the store's place.
/// A store that is there is replaced only if `replace` says so, and is kept under another name, and so are keys that differ.
///
/// Whenever it is cut short, the folder holds all of what was there or all of the backup, never some of both: see `placing.rs`.
///
/// # Errors
/// One of [`BackupError`]; the folder is as it was then, unless it is [`BackupError::Decided`].
pub fn restore(from: &Path, folder: &Path, replace: bool, keys: &[&str], now: Moment) -> Result<Restored, BackupError> {
    private_folder(folder).map_err(at(folder))?;
    let _lock = match lock(&folder.join(LOCK_NAME)) {
        Err(StoreError::Unusable { .. }) => return Err(BackupError::Running { folder: folder.to_owned() }),
        other => other?,
    };
    place(folder)?;
    if exists(&folder.join(FILE_NAME))? && !replace {
        return Err(BackupError::Occupied { folder: folder.to_owned() });
    }
    let coming = Coming::copy(from, folder)?;
    let past = coming.prepare(from, now)?;
    coming.add_keys(past.files.iter().filter(|(name, _)| keys.contains(&name.as_str())))?;
    coming.decide(folder)?;
    let Placed { keys, kept_keys, replaced } = place(folder).map_err(|error| BackupError::Decided { source: Box::new(error) })?;
    let aside: Vec<&Path> = kept_keys.iter().chain(&replaced).map(PathBuf::as_path).collect();
    give_to_owner_of(folder, &aside).map_err(at(folder))?;
    let Past { closed_shares, api_tokens, latest_seq, .. } = past;
    Ok(Restored { keys, kept_keys, closed_shares, api_tokens, latest_seq, replaced })
}

/// What a backup holds once it is the past.
struct Past {
    files: Vec<(String, Vec<u8>)>,
    closed_shares: u64,
    api_tokens: u64,
    latest_seq: u64,
}

/// A folder with a copy of a backup, not decided on yet; unless it is it is gone again.
pub(super) struct Coming(PathBuf);

impl Coming {
    /// Makes one with nothing in it.
    pub(super) fn empty(folder: &Path) -> Result<Self, BackupError> {
        let coming = Self(folder.join(COMING));
        DirBuilder::new().mode(0o700).create(&coming.0).map_err(at(&coming.0))?;
        Ok(coming)
    }

    fn copy(from: &Path, folder: &Path) -> Result<Self, BackupError> {
        let mut source = File::open(from).map_err(at(from))?;
        if !source.metadata().map_err(at(from))?.is_file() {
            return Err(unfit(from, "it is no file"));
        }
        let coming = Self::empty(folder)?;
        let database = coming.database();
        let mut copy = private_file(&database).map_err(at(&database))?;
        io::copy(&mut source, &mut copy).map_err(at(&database))?;
        Ok(coming)
    }

    /// Returns where its store is.
    pub(super) fn database(&self) -> PathBuf {
        self.0.join(FILE_NAME)
    }

    /// Makes the past of it: this version's tables, nothing that lives, no link that works.
    fn prepare(&self, from: &Path, now: Moment) -> Result<Past, BackupError> {
        let named = |error| match error {
            StoreError::Unusable { reason } => unfit(from, reason.trim_end_matches(ADVICE)),
            other => BackupError::Store(other),
        };
        let mut file = open_whole(&self.database()).map_err(named)?;
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
        let database = self.database();
        File::open(&database).and_then(|file| file.sync_all()).map_err(at(&database))?;
        Ok(Past { files, closed_shares, api_tokens: api_tokens.cast_unsigned(), latest_seq })
    }

    pub(super) fn add_keys<'a>(&self, keys: impl Iterator<Item = &'a (String, Vec<u8>)>) -> Result<(), BackupError> {
        for (name, bytes) in keys {
            let path = self.0.join(name);
            let written = private_file(&path).and_then(|mut file| {
                file.write_all(bytes)?;
                file.sync_all()
            });
            written.map_err(at(&path))?;
        }
        Ok(())
    }

    /// Decides that this is what the folder is to hold: the one step behind which there is no way back.
    pub(super) fn decide(self, folder: &Path) -> Result<(), BackupError> {
        let decided = folder.join(DECIDED);
        let names = fs::read_dir(&self.0).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>());
        let names = names.map_err(at(&self.0))?;
        let lock = folder.join(LOCK_NAME);
        let all: Vec<&Path> = [self.0.as_path(), &lock].into_iter().chain(names.iter().map(PathBuf::as_path)).collect();
        give_to_owner_of(folder, &all).map_err(at(&self.0))?;
        sync_folder_of(&self.database()).map_err(at(&self.0))?;
        fs::rename(&self.0, &decided).map_err(at(&decided))?;
        sync_folder_of(&decided).map_err(|error| BackupError::Decided { source: Box::new(at(&decided)(error)) })
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        // It has another name, or is of no use.
        let _ = fs::remove_dir_all(&self.0);
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
    let bytes = fs::metadata(path).map_err(StoreError::unavailable)?.len();
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
            share.never_undo();
            writer::save(file, &Save { share: Arc::new(share.clone()), facts, at: now })?;
        }
    }
    // Spent as well, so that nobody takes back a close that the backup holds: the link may have been used since.
    file.execute_batch("UPDATE link SET dead = 1, uses_spent = uses_max WHERE dead = 0 OR uses_spent < uses_max; DELETE FROM session;")?;
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

/// Lets the account that the folder belongs to use what was written, where root wrote it: the service runs as another, and would
/// not start.
pub(super) fn give_to_owner_of(folder: &Path, written: &[&Path]) -> io::Result<()> {
    let owner = fs::metadata(folder)?;
    if !rustix::process::geteuid().is_root() || owner.uid() == 0 {
        return Ok(());
    }
    for path in written {
        // That account may put anything under these names: no link to a file of somebody else is followed.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::open(*path, flags, Mode::empty()) {
            Err(rustix::io::Errno::NOENT) => continue,
            other => File::from(other?),
        };
        let now = file.metadata()?;
        if now.uid() == 0 && (now.is_dir() || now.is_file() && now.nlink() == 1) {
            std::os::unix::fs::fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
        }
    }
    Ok(())
}

fn unfit(path: &Path, reason: &str) -> BackupError {
    BackupError::Unfit { path: path.to_owned(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests;
