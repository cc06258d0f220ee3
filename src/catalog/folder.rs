//! Reads one folder: what is in it that may be shown, in natural order, folders first.

use std::os::fd::AsFd;

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
    let explain = |errno| CatalogError::from_errno(errno, path);
    let room = MAX_PATH_BYTES.saturating_sub(path.as_bytes().len() + 1).min(MAX_NAME_BYTES);
    let mut content = Content::default();
    let mut broken = None;
    for entry in Dir::read_from(&folder).map_err(explain)? {
        let entry = entry.map_err(explain)?;
        let name = entry.file_name().to_bytes();
        let may_show = !matches!(name, b"." | b"..") && name.len() <= room && root.rules().shows_name(name);
        if !may_show || is_special(entry.file_type()) {
            continue;
        }
        if content.rows.len() >= max {
            content.total += 1;
            if content.total >= MAX_COUNTED {
                break;
            }
            continue;
        }
        match statat(&folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT) {
            Ok(stat) => content.push(name, &stat, root),
            // It vanished since, or the folder lets us read names but nothing else.
            Err(Errno::NOENT | Errno::ACCESS | Errno::PERM) => {}
            Err(errno) => match explain(errno) {
                CatalogError::Busy => return Err(CatalogError::Busy),
                // One broken entry does not hide the others.
                error => broken = Some(error),
            },
        }
    }
    if let Some(error) = broken.filter(|_| content.rows.is_empty()) {
        return Err(error);
    }
    content.sort();
    Ok(content)
}

impl Content {
    fn push(&mut self, name: &[u8], stat: &Stat, root: &Root) {
        if root.rules().excludes(stat) {
            return;
        }
        let Some(kind) = kind_of(stat) else { return };
        self.rows.push(Row { name: name.into(), kind, size_bytes: size_of(stat, kind), modified: modified_of(stat) });
        self.total += 1;
    }

    fn sort(&mut self) {
        let mut keyed: Vec<_> = std::mem::take(&mut self.rows).into_iter().map(|row| (natural::key(&row.name), row)).collect();
        keyed.sort_unstable_by(|(key_a, a), (key_b, b)| (rank(a.kind), key_a, &a.name).cmp(&(rank(b.kind), key_b, &b.name)));
        self.rows = keyed.into_iter().map(|(_, row)| row).collect();
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
