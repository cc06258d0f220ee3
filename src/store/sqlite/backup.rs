//! A backup: one file that holds everything, made beside a running server, and put back where nobody runs.
//!
//! What comes back is the past, and a link that was spent since must not come back with it. So every share that lived in
//! the backup is closed by the core's own rules and every link is dead **before** the file gets its name in the folder.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, params};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::connections::{open_to_read, sync_folder_of};
use super::placing::DECIDED;
use super::{FILE_NAME, StoreError, latest_seq, refused, schema};

/// The most files that are kept beside the database in a backup, and the most bytes of each: keys and tokens.
pub(super) const MAX_FILES: usize = 16;
pub(super) const MAX_FILE_BYTES: usize = 64 * 1024;

/// For how long nobody has written to a file that a backup which was killed left: one that runs writes all the time, also
/// where its process cannot be seen from here, as in another container.
const LEFT_FOR: Duration = Duration::from_secs(600);
/// What stands between the name of a backup and the numbers of the process that makes it and of its try, until it is whole.
const PARTIAL: &str = ".partial-";
/// How many tries there are to find a free name: processes in other containers have the same numbers, above all the first.
const MAX_TRIES: u32 = 16;
/// The highest number of a process (`PID_MAX_LIMIT` of the kernel).
const MAX_PROCESS: u32 = 4_194_304;
/// What a database begins with, once anything was written.
const DATABASE: &[u8] = b"SQLite format 3\0";

/// What a backup holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupSummary {
    /// How large it is.
    pub bytes: u64,
    /// Up to which line of the event log it goes.
    pub latest_seq: u64,
    /// How many shares, closed ones among them.
    pub shares: u64,
    /// How many small files besides the database.
    pub files: usize,
}

/// Says why a backup could not be made or put back. Nothing was changed then, but for [`BackupError::Decided`].
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is a file of that name, and nothing is written over.
    #[error("{path} exists already; choose another name, or move it away")]
    Exists {
        /// Which.
        path: PathBuf,
    },
    /// There is nothing to back up.
    #[error("there is no store in {folder}")]
    NoStore {
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// The folder has a store, and nobody said that it may be replaced.
    #[error("there is a store in {folder} already; --replace puts the backup in its place and keeps it under another name")]
    Occupied {
        /// Where.
        folder: PathBuf,
    },
    /// A server uses the folder.
    #[error("a server is running with {folder}; stop it first")]
    Running {
        /// Which folder.
        folder: PathBuf,
    },
    /// The file is no backup, damaged, or of a later version.
    #[error("{path} cannot be used as a backup: {reason}")]
    Unfit {
        /// Which file.
        path: PathBuf,
        /// Why, as a sentence for the owner.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("{path} could not be read or written")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A backup was decided on, and could not be put into its place.
    #[error("the backup could not be put into its place; the next start, or restore, goes on with it")]
    Decided {
        /// Why.
        #[source]
        source: Box<BackupError>,
    },
    /// A backup was decided on, and is not in its place yet.
    #[error("a restore into {folder} was cut short; start the server once, which completes it")]
    Unfinished {
        /// Where.
        folder: PathBuf,
    },
    /// The store could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Writes everything of the store in `folder` to the file `to`, with some small files by name. Blocks. A server may run
/// meanwhile: what the backup holds is the state of one instant.
///
/// The file is for this account only. It appears under its name when it is whole and on disk, and never replaces another.
///
/// # Errors
/// One of [`BackupError`]; no file is left then.
pub fn backup(folder: &Path, to: &Path, extra: &[(&str, Vec<u8>)]) -> Result<BackupSummary, BackupError> {
    if exists(&folder.join(DECIDED))? {
        return Err(BackupError::Unfinished { folder: folder.to_owned() });
    }
    let source = folder.join(FILE_NAME);
    if !exists(&source)? {
        return Err(BackupError::NoStore { folder: folder.to_owned() });
    }
    if exists(to)? {
        return Err(BackupError::Exists { path: to.to_owned() });
    }
    check_files(to, extra.iter().map(|(name, bytes)| (*name, bytes.len())))?;
    let source = open_to_read(&source)?;
    schema::version_of(&source)?;
    let partial = Partial::beside(to)?;
    let into = ToSqlOutput::Borrowed(ValueRef::Text(partial.0.as_os_str().as_bytes()));
    // Beside leaving out what was forgotten, this reads one snapshot, for which a writer never waits.
    source.execute("VACUUM INTO ?1", [into]).map_err(refused)?;
    let summary = finish(&partial.0, extra).map_err(refused)?;
    let file = File::open(&partial.0).map_err(at(&partial.0))?;
    file.sync_all().map_err(at(&partial.0))?;
    let bytes = file.metadata().map_err(at(&partial.0))?.len();
    partial.name(to)?;
    Ok(BackupSummary { bytes, ..summary })
}

/// Adds the small files to a copy of the database.
fn finish(copy: &Path, extra: &[(&str, Vec<u8>)]) -> rusqlite::Result<BackupSummary> {
    let mut copy = Connection::open_with_flags(copy, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    // No other file beside it, neither now nor when it is read.
    copy.query_row("PRAGMA journal_mode = MEMORY", [], |_| Ok(()))?;
    let step = copy.transaction()?;
    step.execute_batch("CREATE TABLE kept_file (name TEXT PRIMARY KEY NOT NULL, bytes BLOB NOT NULL) STRICT, WITHOUT ROWID")?;
    for (name, bytes) in extra {
        step.execute("INSERT INTO kept_file (name, bytes) VALUES (?1, ?2)", params![name, bytes])?;
    }
    let shares: i64 = step.query_row("SELECT count(*) FROM share", [], |row| row.get(0))?;
    let latest_seq = latest_seq(&step)?;
    step.commit()?;
    Ok(BackupSummary { bytes: 0, latest_seq, shares: shares.cast_unsigned(), files: extra.len() })
}

/// Says why some files cannot be kept in a backup, or come out of one.
pub(super) fn check_files<'a>(backup: &Path, files: impl Iterator<Item = (&'a str, usize)>) -> Result<(), BackupError> {
    let unfit = |reason: String| Err(BackupError::Unfit { path: backup.to_owned(), reason });
    for (number, (name, bytes)) in files.enumerate() {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.bytes().all(is_plain) {
            return unfit(format!("it would keep a file of the name {name:?}"));
        }
        if bytes > MAX_FILE_BYTES || number >= MAX_FILES {
            return unfit(format!("it would keep more than {MAX_FILES} files of {MAX_FILE_BYTES} bytes"));
        }
    }
    Ok(())
}

/// A file that is not whole yet; unless it gets its name it is gone again.
struct Partial(PathBuf);

impl Partial {
    fn beside(to: &Path) -> Result<Self, BackupError> {
        let (path, file) = Self::create(to)?;
        // By the clock of the file system, which may be another machine's.
        if let Ok(now) = file.metadata().and_then(|meta| meta.modified()) {
            remove_left_beside(to, now);
        }
        Ok(Self(path))
    }

    fn create(to: &Path) -> Result<(PathBuf, File), BackupError> {
        let mut taken = None;
        for number in 0..MAX_TRIES {
            let mut name = to.as_os_str().to_owned();
            name.push(format!("{PARTIAL}{}-{number}", std::process::id()));
            let path = PathBuf::from(name);
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => return Ok((path, file)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => taken = Some(at(&path)(error)),
                Err(error) => return Err(at(&path)(error)),
            }
        }
        Err(taken.expect("it was tried"))
    }

    fn name(self, to: &Path) -> Result<(), BackupError> {
        match renameat_with(CWD, &self.0, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST) => return Err(BackupError::Exists { path: to.to_owned() }),
            // File systems that know no such rename (some that lie on other machines): it was looked for a moment ago.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => {
                std::fs::rename(&self.0, to).map_err(at(to))?;
            }
            Err(error) => return Err(BackupError::Io { path: to.to_owned(), source: error.into() }),
        }
        sync_folder_of(to).map_err(at(to))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // It has its name, or is of no use.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Removes what earlier attempts at this backup left that were killed. What cannot be removed does no harm.
fn remove_left_beside(to: &Path, now: SystemTime) {
    let (Some(folder), Some(name)) = (to.parent(), to.file_name()) else { return };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let begin = [name.as_bytes(), PARTIAL.as_bytes()].concat();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let process = entry.file_name().as_bytes().strip_prefix(&begin[..]).and_then(process_of);
        if process.is_some_and(|process| is_left(process, &entry.path(), now)) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Reads `PROCESS-TRY` as it is written here; whatever is spelled otherwise is somebody's own.
fn process_of(numbers: &[u8]) -> Option<u32> {
    let (process, number) = std::str::from_utf8(numbers).ok()?.split_once('-')?;
    let (process, number) = (process.parse::<u32>().ok()?, number.parse::<u32>().ok()?);
    let is_ours = (1..=MAX_PROCESS).contains(&process) && number < MAX_TRIES && format!("{process}-{number}").as_bytes() == numbers;
    is_ours.then_some(process)
}

/// Returns whether nobody goes on with what a process began.
fn is_left(process: u32, path: &Path, now: SystemTime) -> bool {
    let Ok(meta) = std::fs::symlink_metadata(path) else { return false };
    let is_quiet = meta.modified().ok().and_then(|at| now.duration_since(at).ok()).is_some_and(|silence| silence >= LEFT_FOR);
    // Who had our own number is gone, or is in another container and would have written.
    let is_gone = process == std::process::id() || !is_alive(process);
    meta.is_file() && is_quiet && is_gone && is_a_database(path).unwrap_or(false)
}

/// Returns whether a file is empty, as every backup begins, or a database.
fn is_a_database(path: &Path) -> io::Result<bool> {
    let mut begin = Vec::new();
    let file = File::open(path)?;
    file.take(DATABASE.len() as u64).read_to_end(&mut begin)?;
    Ok(begin.is_empty() || begin == DATABASE)
}

fn is_alive(process: u32) -> bool {
    let Some(process) = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw) else { return false };
    // Whose we may not ask about, is there.
    rustix::process::test_kill_process(process) != Err(rustix::io::Errno::SRCH)
}

pub(super) fn exists(path: &Path) -> Result<bool, BackupError> {
    path.try_exists().map_err(at(path))
}

pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn what_a_backup_that_was_killed_left_goes_with_the_next_one_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (to, state) = (folder.path().join("saved"), folder.path().join("state"));
        drop(crate::store::sqlite::SqliteStore::open(&state).unwrap());
        let mut lives = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        let mut died = Command::new("true").spawn().unwrap();
        died.wait().unwrap();
        let (live, gone) = (lives.id(), died.id());
        let put_with = |name: &str, bytes: &[u8], ago: Duration| {
            std::fs::write(folder.path().join(name), bytes).unwrap();
            let file = File::options().write(true).open(folder.path().join(name)).unwrap();
            let now = file.metadata().unwrap().modified().unwrap();
            file.set_modified(now - ago).unwrap();
        };
        let put = |name: &str, ago| put_with(name, DATABASE, ago);
        let long_ago = LEFT_FOR * 2;
        // In a container every backup's process may have the same number.
        let left =
            [format!("saved.partial-{gone}-0"), format!("saved.partial-{gone}-3"), format!("saved.partial-{}-0", std::process::id())];
        left.iter().for_each(|name| put(name, long_ago));
        put_with(&format!("saved.partial-{gone}-1"), b"", long_ago);
        // Whoever runs, and what somebody calls a file of their own.
        let mut kept = vec![format!("saved.partial-{live}-0"), format!("other.partial-{gone}-0"), format!("saved.partial-{gone}-99")];
        let own = ["", "x", "20251121", "0-0", "4000000000-0", "+1-0", "01-0"].map(|end| format!("saved.partial-{end}"));
        kept.extend(own);
        kept.iter().for_each(|name| put(name, long_ago));
        kept.push(format!("saved.partial-{gone}-2"));
        put_with(&kept[kept.len() - 1], b"my own notes", long_ago);
        backup(&state, &to, &[]).unwrap();
        assert!(left.iter().all(|name| !folder.path().join(name).exists()), "{left:?}");
        assert!(!folder.path().join(format!("saved.partial-{gone}-1")).exists());
        assert!(kept.iter().all(|name| folder.path().join(name).exists()), "{kept:?}");
        // One that is written to, by whomever.
        let young = format!("saved.partial-{gone}-0");
        put(&young, Duration::ZERO);
        std::fs::remove_file(&to).unwrap();
        backup(&state, &to, &[]).unwrap();
        assert!(folder.path().join(young).exists());
        lives.kill().unwrap();
        lives.wait().unwrap();
    }
}
