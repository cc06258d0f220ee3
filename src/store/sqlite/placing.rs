//! Puts a store and its keys that were restored into their places, all of them or none.
//!
//! They wait in a folder of their own inside the state folder. The rename that gives that folder the name [`DECIDED`] is the
//! decision: before it nothing of what was there is touched, and behind it everything is moved by steps of which each can be done
//! twice. Where that is cut short, the next start (or restore) goes on with it before it looks at anything.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::FILE_NAME;
use super::backup::{BackupError, at, exists};
use super::connections::sync_folder_of;

/// The name of the folder in which everything is made ready.
pub(super) const COMING: &str = "portcullis.restoring";
/// The name of the folder from which everything is to be moved to its place.
pub(super) const DECIDED: &str = "portcullis.restored";
/// How many files that were replaced are kept under one name; whoever restores so often removes some.
const MAX_ASIDE: u32 = 1000;

/// What was put into its place.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Placed {
    /// How many keys.
    pub(super) keys: u64,
    /// Where the keys are now that were replaced by others.
    pub(super) kept_keys: Vec<PathBuf>,
    /// Where the store that was there is now.
    pub(super) replaced: Option<PathBuf>,
}

/// Moves what was decided on into its place, if there is anything. Whoever calls holds the lock of the folder. Blocks.
pub(super) fn place(folder: &Path) -> Result<Placed, BackupError> {
    // What an attempt that was cut short made ready, and was never decided on, is of no use; where it cannot go it does no harm.
    let _ = fs::remove_dir_all(folder.join(COMING));
    let decided = folder.join(DECIDED);
    if !exists(&decided)? {
        return Ok(Placed::default());
    }
    let mut placed = Placed::default();
    for name in keys_in(&decided)? {
        let (coming, place) = (decided.join(&name), folder.join(&name));
        placed.kept_keys.extend(set_key_aside(&place, &coming)?);
        fs::rename(&coming, &place).map_err(at(&place))?;
        placed.keys += 1;
    }
    let (coming, place) = (decided.join(FILE_NAME), folder.join(FILE_NAME));
    if exists(&coming)? {
        placed.replaced = set_store_aside(folder)?;
        fs::rename(&coming, &place).map_err(at(&place))?;
    }
    // Only when all names have survived the power going, the one that remembers them may go.
    sync(&place)?;
    fs::remove_dir(&decided).map_err(at(&decided))?;
    sync(&decided)?;
    Ok(placed)
}

fn keys_in(decided: &Path) -> Result<Vec<PathBuf>, BackupError> {
    let entries = fs::read_dir(decided).map_err(at(decided))?;
    let mut names = entries.map(|entry| Ok(PathBuf::from(entry?.file_name()))).collect::<io::Result<Vec<_>>>().map_err(at(decided))?;
    names.retain(|name| name != Path::new(FILE_NAME));
    names.sort();
    Ok(names)
}

/// Gives a key that is there and differs from the one that comes another name, under which it stays. Returns that name.
fn set_key_aside(place: &Path, coming: &Path) -> Result<Option<PathBuf>, BackupError> {
    if !exists(place)? || fs::read(place).map_err(at(place))? == fs::read(coming).map_err(at(coming))? {
        return Ok(None);
    }
    let aside = second_name(place)?;
    // Its name must be safe before the other key takes the first one.
    sync(&aside)?;
    Ok(Some(aside))
}

/// Gives the store that is there a second name, under which it stays when another takes its place. Returns that name.
fn set_store_aside(folder: &Path) -> Result<Option<PathBuf>, BackupError> {
    let place = folder.join(FILE_NAME);
    if !exists(&place)? {
        return remove_side_files(&place).map(|()| None);
    }
    let (aside, is_there) = free_name(&place)?;
    if !is_there {
        // Written back into the database its log is gone; a store that cannot be written back keeps it under the second name.
        let _ = write_back(&place);
        let (log, log_aside) = (side(&place, "-wal"), side(&aside, "-wal"));
        // One that belongs to no store is of no use.
        remove_if_there(&log_aside)?;
        if exists(&log)? {
            link_or_copy(&log, &log_aside)?;
            sync(&log_aside)?;
        }
        // Behind its log: where the database has its second name nothing of it is missing, and whoever goes on leaves both alone.
        link_or_copy(&place, &aside)?;
    }
    sync(&aside)?;
    remove_side_files(&place)?;
    Ok(Some(aside))
}

/// Removes what belongs to the store that was there, so that it never gets into the other.
pub(super) fn remove_side_files(place: &Path) -> Result<(), BackupError> {
    remove_if_there(&side(place, "-wal"))?;
    remove_if_there(&side(place, "-shm"))?;
    remove_if_there(&side(place, "-journal"))?;
    sync(place)
}

fn side(path: &Path, end: &str) -> PathBuf {
    path.with_file_name(format!("{}{end}", path.file_name().unwrap_or_default().to_string_lossy()))
}

fn remove_if_there(path: &Path) -> Result<(), BackupError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path)(error)),
        _ => Ok(()),
    }
}

/// Gives a file a second name. Where an attempt that was cut short gave it one, that is the one.
fn second_name(place: &Path) -> Result<PathBuf, BackupError> {
    let (name, is_there) = free_name(place)?;
    if !is_there {
        link_or_copy(place, &name)?;
    }
    Ok(name)
}

/// Returns the name under which a file is to stay, and whether it has it already.
fn free_name(place: &Path) -> Result<(PathBuf, bool), BackupError> {
    let mut last = place.to_owned();
    for n in 1..=MAX_ASIDE {
        last = side(place, &format!(".before-restore-{n}"));
        if !exists(&last)? {
            return Ok((last, false));
        }
        if is_same_file(place, &last).map_err(at(&last))? {
            return Ok((last, true));
        }
    }
    Err(BackupError::Exists { path: last })
}

fn is_same_file(one: &Path, other: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let (one, other) = (fs::symlink_metadata(one)?, fs::symlink_metadata(other)?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

fn link_or_copy(from: &Path, to: &Path) -> Result<(), BackupError> {
    if fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    // A file system without second names.
    let copied = fs::copy(from, to).and_then(|_| File::open(to)?.sync_all());
    copied.map_err(|error| {
        // Half a copy is not what was there.
        let _ = fs::remove_file(to);
        at(to)(error)
    })
}

fn write_back(place: &Path) -> rusqlite::Result<()> {
    let file = Connection::open_with_flags(place, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    file.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

/// Waits until a name in its folder has survived the power going.
fn sync(path: &Path) -> Result<(), BackupError> {
    sync_folder_of(path).map_err(at(path))
}
