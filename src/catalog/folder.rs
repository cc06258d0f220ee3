//! Reads one folder: what is in it that may be shown, in natural order, folders first.

use std::ffi::CStr;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Dir, FileType, Stat, statat};
use rustix::io::Errno;

use super::below_root::Root;
use super::{CatalogError, EntryKind, natural};
use crate::share::{CatalogPath, Timestamp};

/// The longest path that `CatalogPath` takes, in bytes. What lies deeper cannot be named, so it is not listed.
const MAX_PATH_BYTES: usize = 4096;
/// The longest name that `CatalogPath` takes, in bytes.
const MAX_NAME_BYTES: usize = 255;
/// Beyond this many a folder's entries are not even counted, so that reading it ends.
const MAX_COUNTED: usize = 2_000_000;

/// How many threads look at the entries of a large folder: half of it is waiting where the NAS is another machine, and on
/// this one two cores halve the time.
const LOOKERS: usize = 4;
/// Fewer than this are not worth a thread, which costs as much as looking at a hundred.
const MIN_PART: usize = 4096;

/// One entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) name: Box<[u8]>,
    pub(super) kind: EntryKind,
    pub(super) size_bytes: u64,
    pub(super) modified: Timestamp,
}

/// What a folder holds.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// In natural order, folders first.
    pub(super) rows: Vec<Row>,
    /// How many entries there are; more than `rows` where there are more than were wanted.
    pub(super) total: usize,
}

/// Reads an open folder that lies at `path`: its first `max` entries as the file system gives them, sorted.
pub(super) fn read(root: &Root, path: &CatalogPath, folder: impl AsFd, max: usize) -> Result<Content, CatalogError> {
    let folder = folder.as_fd();
    let (names, uncounted) = names(root, path, folder, max)?;
    look(root, path, folder, &names, uncounted)
}

/// Looks at everything that an open folder's names name; `uncounted` more are only counted.
pub(super) fn look(
    root: &Root,
    path: &CatalogPath,
    folder: BorrowedFd<'_>,
    names: &Names,
    uncounted: usize,
) -> Result<Content, CatalogError> {
    let mut found = Found::default();
    for part in look_at(root, path, folder, names)? {
        found.rows.extend(part.rows);
        found.broken = found.broken.or(part.broken);
    }
    if let Some(error) = found.broken.filter(|_| found.rows.is_empty()) {
        return Err(error);
    }
    let mut content = Content { total: found.rows.len() + uncounted, rows: found.rows };
    content.sort();
    Ok(content)
}

/// Names, one behind the other, each with a NUL behind it as the kernel takes it.
#[derive(Debug, Default)]
pub(super) struct Names {
    bytes: Vec<u8>,
    /// Where each ends, behind its NUL.
    ends: Vec<usize>,
    /// What the file system says that each is: a file, a folder, or nothing.
    types: Vec<FileType>,
}

impl Names {
    pub(super) fn push(&mut self, name: &CStr, file_type: FileType) {
        self.bytes.extend_from_slice(name.to_bytes_with_nul());
        self.ends.push(self.bytes.len());
        self.types.push(file_type);
    }

    /// Returns how many there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns one of them.
    pub(super) fn get(&self, index: usize) -> &CStr {
        let begin = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        CStr::from_bytes_with_nul(&self.bytes[begin..self.ends[index]]).expect("each was kept with its NUL")
    }

    /// Returns what the file system says that one is.
    pub(super) fn file_type(&self, index: usize) -> FileType {
        self.types[index]
    }
}

/// Reads the names that may be shown, up to `max`; returns how many more there are.
pub(super) fn names(root: &Root, path: &CatalogPath, folder: BorrowedFd<'_>, max: usize) -> Result<(Names, usize), CatalogError> {
    let explain = |errno| CatalogError::from_errno(errno, path);
    let room = MAX_PATH_BYTES.saturating_sub(path.as_bytes().len() + 1).min(MAX_NAME_BYTES);
    let (mut names, mut more) = (Names::default(), 0);
    for entry in Dir::read_from(folder).map_err(explain)? {
        let entry = entry.map_err(explain)?;
        let name = entry.file_name().to_bytes();
        let may_show = !matches!(name, b"." | b"..") && name.len() <= room && root.rules().shows_name(name);
        if !may_show || is_special(entry.file_type()) {
            continue;
        }
        if names.len() < max {
            names.push(entry.file_name(), entry.file_type());
            continue;
        }
        more += 1;
        if names.len() + more >= MAX_COUNTED {
            break;
        }
    }
    Ok((names, more))
}

/// What a look at some names found.
#[derive(Default)]
struct Found {
    rows: Vec<Row>,
    /// Why one of them could not be looked at.
    broken: Option<CatalogError>,
}

/// Looks at every name, with several threads where they are many.
fn look_at(root: &Root, path: &CatalogPath, folder: BorrowedFd<'_>, names: &Names) -> Result<Vec<Found>, CatalogError> {
    let count = names.len();
    let part = count.div_ceil(LOOKERS).max(MIN_PART);
    let look = |begin: usize| look_at_some(root, path, folder, names, begin..(begin + part).min(count));
    std::thread::scope(|scope| {
        let others: Vec<_> = (part..count)
            .step_by(part)
            .map(|begin| (begin, std::thread::Builder::new().spawn_scoped(scope, move || look(begin))))
            .collect();
        let first = look(0);
        let others = others.into_iter().map(|(begin, thread)| match thread {
            Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            // The system gives us no more threads.
            Err(_) => look(begin),
        });
        std::iter::once(first).chain(others).collect()
    })
}

fn look_at_some(
    root: &Root,
    path: &CatalogPath,
    folder: BorrowedFd<'_>,
    names: &Names,
    which: Range<usize>,
) -> Result<Found, CatalogError> {
    let mut found = Found { rows: Vec::with_capacity(which.len()), broken: None };
    for name in which.map(|index| names.get(index)) {
        match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT) {
            Ok(stat) => found.rows.extend(row(root, name.to_bytes(), &stat)),
            // It vanished since, or the folder lets us read names but nothing else.
            Err(Errno::NOENT | Errno::ACCESS | Errno::PERM) => {}
            Err(errno) => match CatalogError::from_errno(errno, path) {
                CatalogError::Busy => return Err(CatalogError::Busy),
                // One broken entry does not hide the others.
                error => found.broken = Some(error),
            },
        }
    }
    Ok(found)
}

/// Returns what a list shows of an entry; `None` for what the catalog does not have.
pub(super) fn row(root: &Root, name: &[u8], stat: &Stat) -> Option<Row> {
    if root.rules().excludes(stat) {
        return None;
    }
    let kind = kind_of(stat)?;
    Some(Row { name: name.into(), kind, size_bytes: size_of(stat, kind), modified: modified_of(stat) })
}

impl Content {
    fn sort(&mut self) {
        let order = natural::order(self.rows.len(), |index| (rank(self.rows[index].kind), &self.rows[index].name));
        let mut rows: Vec<Option<Row>> = std::mem::take(&mut self.rows).into_iter().map(Some).collect();
        self.rows = order.into_iter().filter_map(|index| rows[index].take()).collect();
    }
}

/// Folders stand before files.
pub(super) fn rank(kind: EntryKind) -> u8 {
    match kind {
        EntryKind::Folder => 0,
        EntryKind::File => 1,
    }
}

/// Returns what an entry is; `None` for what the catalog does not have.
pub(super) fn kind_of(stat: &Stat) -> Option<EntryKind> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Some(EntryKind::File),
        FileType::Directory => Some(EntryKind::Folder),
        _ => None,
    }
}

/// Returns the size that an entry shows.
pub(super) fn size_of(stat: &Stat, kind: EntryKind) -> u64 {
    match kind {
        EntryKind::File => u64::try_from(stat.st_size).unwrap_or(0),
        EntryKind::Folder => 0,
    }
}

/// Returns when the content of an entry last changed.
pub(super) fn modified_of(stat: &Stat) -> Timestamp {
    let millis = i64::try_from(stat.st_mtime_nsec / 1_000_000).unwrap_or(0);
    Timestamp(stat.st_mtime.saturating_mul(1000).saturating_add(millis))
}

/// Some file systems do not tell the type with the name; those entries are looked at.
fn is_special(file_type: FileType) -> bool {
    !matches!(file_type, FileType::RegularFile | FileType::Directory | FileType::Unknown)
}
