//! Follows a log file that others write, rename, truncate and delete, so that each line is read once.
//!
//! A file is known by its device and inode, whatever its name. One that was renamed is read on, since whoever writes it has it
//! open until they are told of the rename, and behind that it may still get lines; so several are followed at once. Where each was read to,
//! behind its last whole line, is the [`Checkpoint`]: whoever counts saves it together with the counts, and after a restart nothing is
//! counted twice and nothing is left out.
//!
//! No crate does this: `linemux` 0.3 was measured to lose lines at a rotation, to tear lines that are written while they are read, and
//! to forget where it was when it is restarted.
//!
//! * `file.rs`: one file. `follow.rs`: the thread that is woken when one was written.

mod file;
mod follow;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::file::MAX_LINE_BYTES;
use self::file::{FileId, Followed, Position, modified_ns};
pub use self::follow::{Batch, follow};
use crate::share::Steady;

/// How many files are followed at once: the one of that name, and those that had it before. They cost a descriptor each; whoever
/// rotates more often than that while somebody still writes the oldest loses what is written there.
const MAX_FILES: usize = 16;
/// How many of those that were let go of are remembered, so that none is taken for one that was never read.
const MAX_LET_GO: usize = 64;
/// How long a file without a name is kept when nothing is written to it: it holds its space on the disk as long.
const MAX_DELETED: Duration = Duration::from_secs(10 * 60);
/// How many files of the folder are looked at for those that had the name before.
const MAX_SIBLINGS: usize = 10_000;
/// How much is read at a time.
const READ_BYTES: usize = 256 * 1024;
/// What files end in that were rotated and packed: nothing can be read of them, and nothing is written to them.
const PACKED: [&str; 5] = [".gz", ".xz", ".zst", ".bz2", ".lz4"];

/// How far a log was read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Checkpoint {
    /// In each file that is followed; in the one of that name last.
    files: Vec<Position>,
    /// When any of them was written last, as far as was seen: what was written later and is none of them has not been read.
    modified_ns: i64,
    /// How far those were read that were truncated last: a copy that was made before has been read as far.
    truncated: Vec<Position>,
}

/// What went wrong with a log. Only ever grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Mishaps {
    /// How many lines were longer than [`MAX_LINE_BYTES`]; they were dropped.
    pub oversized_lines: u64,
    /// How often a file was truncated, or another stood in its place; what had not been read of it is lost.
    pub truncations: u64,
    /// How often a file was gone that had not been read to its end, as far as is known.
    pub lost_files: u64,
}

impl Mishaps {
    /// Adds what went wrong another time.
    pub fn plus(self, other: Self) -> Self {
        Self {
            oversized_lines: self.oversized_lines + other.oversized_lines,
            truncations: self.truncations + other.truncations,
            lost_files: self.lost_files + other.lost_files,
        }
    }
}

/// What a look at a log gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// How many bytes were read.
    pub bytes: u64,
    /// How many are still to be read.
    pub left: u64,
}

/// A log that is followed.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    /// Where to begin, until the folder was looked at.
    from: Option<Option<Checkpoint>>,
    files: Vec<Entry>,
    /// Those that were followed last before them.
    let_go: Vec<FileId>,
    modified_ns: i64,
    truncated: Vec<Position>,
    mishaps: Mishaps,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Entry {
    followed: Followed,
    /// Since when nothing has come.
    quiet_since: Option<Steady>,
    /// Whether nothing more is awaited.
    is_over: bool,
    /// When it was written last, as far as was seen.
    modified_ns: i64,
}

impl Entry {
    fn new(followed: Followed, modified_ns: i64) -> Self {
        Self { followed, quiet_since: None, is_over: false, modified_ns }
    }
}

impl Tail {
    /// Follows the log at `path` from a checkpoint on; where there is none, from its beginning, and no log that was rotated before.
    /// Its first checkpoint is to be saved before anything that is read: what is rotated later is found by it.
    pub fn new(path: PathBuf, from: Option<Checkpoint>) -> Self {
        let Checkpoint { modified_ns, truncated, .. } = from.clone().unwrap_or_default();
        Self {
            path,
            from: Some(from),
            files: Vec::new(),
            let_go: Vec::new(),
            modified_ns,
            truncated,
            mishaps: Mishaps::default(),
            buffer: vec![0; READ_BYTES],
        }
    }

    /// Returns how far it was read: all lines before that were handed on, and none behind it. `None` while there is no folder.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        let files = || self.files.iter().map(|entry| entry.followed.position()).collect();
        let here = || Checkpoint { files: files(), modified_ns: self.modified_ns, truncated: self.truncated.clone() };
        self.from.clone().unwrap_or_else(|| Some(here()))
    }

    /// Returns what went wrong so far.
    pub fn mishaps(&self) -> Mishaps {
        self.mishaps
    }

    /// Reads what has come, about `most` bytes of it, and hands on each whole line. A log that is not there yet has nothing.
    ///
    /// # Errors
    /// What the system says where the folder or a file cannot be read. What was handed on until then is in the checkpoint.
    pub fn read(&mut self, now: Steady, most: u64, each: &mut dyn FnMut(&[u8])) -> io::Result<Progress> {
        if let Some(from) = self.from.clone() {
            if !self.begin(from.as_ref())? {
                return Ok(Progress::default());
            }
            self.from = None;
        }
        self.look_for_another()?;
        let (mut progress, mut failed) = (Progress::default(), None);
        for entry in &mut self.files {
            let look = match entry.followed.read(&mut self.buffer, most.saturating_sub(progress.bytes), each) {
                Ok(look) => look,
                // One that cannot be read keeps no other from being read.
                Err(error) => {
                    failed.get_or_insert(error);
                    continue;
                }
            };
            progress.bytes += look.bytes;
            progress.left += look.left;
            self.mishaps.oversized_lines += look.oversized;
            self.mishaps.truncations += u64::from(look.truncated_at.is_some());
            self.truncated.extend(look.truncated_at);
            entry.modified_ns = look.modified_ns;
            self.modified_ns = self.modified_ns.max(look.modified_ns);
            let is_quiet = look.bytes == 0 && look.left == 0;
            entry.quiet_since = is_quiet.then(|| entry.quiet_since.unwrap_or(now));
            entry.is_over = look.is_deleted && entry.quiet_since.is_some_and(|since| now.since(since) >= MAX_DELETED);
        }
        // While there is none behind it, it may be written however long nothing was.
        if let Some(last) = self.files.last_mut() {
            last.is_over = false;
        }
        self.files.retain(|entry| !entry.is_over);
        let excess = self.truncated.len().saturating_sub(MAX_FILES);
        self.truncated.drain(..excess);
        failed.map_or(Ok(progress), Err)
    }

    /// Follows the file that has the name now, if that is another one, and those that had it meanwhile.
    fn look_for_another(&mut self) -> io::Result<()> {
        match fs::metadata(&self.path) {
            Ok(metadata) => {
                if let Some(at) = self.files.iter().position(|entry| entry.followed.id == FileId::of(&metadata)) {
                    // It may have been renamed back.
                    self.files[at..].rotate_left(1);
                    return Ok(());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
        let Some(file) = open(&self.path)? else { return Ok(()) };
        let followed = Followed::begin(file)?;
        let missed = self.siblings(&[])?.unwrap_or_default();
        self.files.extend(missed.into_iter().map(|(_, entry)| entry));
        self.files.retain(|entry| entry.followed.id != followed.id);
        self.files.push(Entry::new(followed, 0));
        let excess = self.files.len().saturating_sub(MAX_FILES);
        self.let_go.extend(self.files.drain(..excess).map(|entry| entry.followed.id));
        let excess = self.let_go.len().saturating_sub(MAX_LET_GO);
        self.let_go.drain(..excess);
        Ok(())
    }

    /// Finds the files of a checkpoint, and those that had the name since. Returns whether the folder is there.
    fn begin(&mut self, from: Option<&Checkpoint>) -> io::Result<bool> {
        let positions = from.map_or(&[][..], |from| &from.files);
        let Some(found) = self.siblings(positions)? else { return Ok(false) };
        if from.is_none() {
            // What was rotated before is nothing of ours.
            let newest = found.iter().filter(|(path, _)| *path != self.path).map(|(_, entry)| entry.modified_ns).max();
            self.modified_ns = newest.map_or(0, |newest| newest + 1);
            return Ok(true);
        }
        // What was rotated before the last had been read long ago; of the last nobody knows.
        let is_found = |last: &Position| found.iter().any(|(_, entry)| entry.followed.id == last.file);
        self.mishaps.lost_files += u64::from(!positions.last().is_none_or(is_found));
        self.files = found.into_iter().map(|(_, entry)| entry).collect();
        Ok(true)
    }

    /// Finds files of the folder that are not followed: those with a position, and those that had the name and were written since
    /// the log was looked at. `None` where the folder is not there.
    fn siblings(&mut self, positions: &[Position]) -> io::Result<Option<Vec<(PathBuf, Entry)>>> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let here: Vec<Position> = self.files.iter().map(|entry| entry.followed.position()).collect();
        let mut found: Vec<(PathBuf, Entry)> = Vec::new();
        let paths: Vec<PathBuf> = entries.take(MAX_SIBLINGS).filter_map(|entry| Some(entry.ok()?.path())).collect();
        // The name may be a link to somewhere else.
        for path in paths.into_iter().chain([self.path.clone()]) {
            let Ok(metadata) = fs::metadata(&path) else { continue };
            let (id, modified_ns) = (FileId::of(&metadata), modified_ns(&metadata));
            let is_known = self.files.iter().chain(found.iter().map(|(_, entry)| entry)).any(|entry| entry.followed.id == id);
            let position = positions.iter().find(|position| position.file == id);
            let is_missed = || modified_ns >= self.modified_ns && self.had_the_name(&path) && !self.let_go.contains(&id);
            if !metadata.is_file() || is_known || (position.is_none() && !is_missed()) {
                continue;
            }
            let Some(file) = open(&path)? else { continue };
            let copied = || positions.iter().chain(&self.truncated).chain(&here);
            let resumed = position.map(|position| Followed::resume(file.try_clone()?, position)).transpose()?;
            let followed = match resumed {
                Some((followed, true)) if position.is_some_and(Position::tells_files_apart) => followed,
                // The inode may have been given to a copy.
                Some((_, is_there)) => {
                    self.mishaps.truncations += u64::from(!is_there);
                    Followed::begin_or_resume(file, copied())?
                }
                None => Followed::begin_or_resume(file, copied())?,
            };
            found.push((path, Entry::new(followed, modified_ns)));
        }
        found.sort_by_key(|(_, entry)| entry.modified_ns);
        Ok(Some(found))
    }

    /// Returns whether a file has a name that one is given which had ours: as `access.log.1`, `access.log-20260101` and
    /// `access-20260101.log`.
    fn had_the_name(&self, path: &Path) -> bool {
        let [Some(ours), Some(other)] = [self.path.file_name(), path.file_name()].map(|name| name.and_then(|name| name.to_str())) else {
            return false;
        };
        let (stem, end) = ours.rsplit_once('.').unwrap_or((ours, ""));
        let is_dated = other.strip_prefix(stem).is_some_and(|rest| rest.starts_with('-')) && other.ends_with(end);
        (other.starts_with(ours) || is_dated) && !PACKED.iter().any(|end| other.ends_with(end))
    }
}

/// Opens a file; `None` where there is none. What is no file (a FIFO would wait for a writer) is an error.
fn open(path: &Path) -> io::Result<Option<File>> {
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => {
            return Err(io::Error::other(format!("{} is no file", path.display())));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
