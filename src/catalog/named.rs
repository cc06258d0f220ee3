//! The first page of a folder, by its names alone.
//!
//! The kernel tells with each name what it is, so 100 000 names are read in a tenth of the time that looking at each takes. A
//! first page in the order of names needs no more: the others need not be sorted, and only its own entries are looked at. Where
//! the names do not say enough (a file system that keeps the types to itself, folders without end), or a look does not find
//! what they said, the whole folder is looked at instead (`folder.rs`), as it is for every later page: the answers are the same.

use std::collections::BinaryHeap;
use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FileType, statat};

use super::below_root::Root;
use super::folder::{Names, Row, rank, row};
use super::{EntryKind, MAX_ENTRIES, natural};

/// How many folders and entries of unknown type are looked at for the sake of the names: an excluded folder is known by a look
/// alone. Where there are more, looking at all of it by several threads is faster.
const MAX_LOOKED_AT: usize = 1024;

/// The names of a folder, and the first of them.
#[derive(Debug)]
pub(super) struct Named {
    names: Names,
    /// How many more there are than were wanted.
    uncounted: usize,
    /// How many of the names are shown.
    shown: usize,
    /// The first ones that are, in natural order, folders first: enough for every first page.
    first: Vec<First>,
}

/// Where an entry stands: its rank, its name's key, its name; and which of the names it is.
type First = (u8, Vec<u8>, Box<[u8]>, usize);

impl Named {
    /// Takes the names of an open folder; gives them back where they do not say enough.
    pub(super) fn of(root: &Root, folder: BorrowedFd<'_>, names: Names, uncounted: usize) -> Result<Self, Names> {
        match first_of(root, folder, &names, MAX_ENTRIES) {
            Some((first, shown)) => Ok(Self { names, uncounted, shown, first }),
            None => Err(names),
        }
    }

    /// Returns all names, and how many more there are than were wanted.
    pub(super) fn names(&self) -> (&Names, usize) {
        (&self.names, self.uncounted)
    }

    /// Returns how many are shown.
    pub(super) fn len(&self) -> usize {
        self.shown
    }

    /// Returns how many entries the folder has.
    pub(super) fn total(&self) -> usize {
        self.shown + self.uncounted
    }

    /// Looks at the first entries, `most` of them; `None` where one is not what its name said.
    pub(super) fn look(&self, root: &Root, folder: BorrowedFd<'_>, most: usize) -> Option<Vec<Row>> {
        let some = &self.first[..most.min(self.first.len())];
        let look = |(its, _, _, index): &First| look_at(root, folder, self.names.get(*index)).filter(|row| rank(row.kind) == *its);
        some.iter().map(look).collect()
    }
}

/// Returns the first `most` names that are shown, in order, and how many are shown in all; `None` where that takes looking at too
/// much, or a look fails.
fn first_of(root: &Root, folder: BorrowedFd<'_>, names: &Names, most: usize) -> Option<(Vec<First>, usize)> {
    let (mut looked_at, mut shown) = (0, 0);
    let mut first: BinaryHeap<First> = BinaryHeap::with_capacity(most + 1);
    let mut keys = natural::Keys::default();
    for index in 0..names.len() {
        let name = names.get(index);
        let kind = if names.file_type(index) == FileType::RegularFile {
            EntryKind::File
        } else {
            looked_at += 1;
            if looked_at > MAX_LOOKED_AT {
                return None;
            }
            let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT).ok()?;
            match row(root, &[], &stat) {
                Some(row) => row.kind,
                None => continue,
            }
        };
        shown += 1;
        let (rank, key, name) = (rank(kind), keys.of(name.to_bytes()), name.to_bytes());
        if first.len() < most || first.peek().is_some_and(|last| (rank, key, name) < (last.0, &last.1, &last.2)) {
            first.push((rank, key.to_vec(), name.into(), index));
            if first.len() > most {
                first.pop();
            }
        }
    }
    Some((first.into_sorted_vec(), shown))
}

/// Says what an entry is; `None` where it cannot be looked at, or the catalog does not have it.
fn look_at(root: &Root, folder: BorrowedFd<'_>, name: &CStr) -> Option<Row> {
    let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT).ok()?;
    row(root, name.to_bytes(), &stat)
}

#[cfg(test)]
mod tests;
