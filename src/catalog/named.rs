//! A folder by its names alone.
//!
//! The kernel tells with each name what it is, so 100 000 names are read in a tenth of the time that looking at each takes, and
//! a page in the order of names needs a look at its own entries only, when it is wanted. The first page needs no sorted folder
//! either. Where the names do not say enough (a file system that keeps the types to itself, folders without end), or a look
//! does not find what they said, the whole folder is looked at instead (`folder.rs`): the answers are the same.

use std::collections::BinaryHeap;
use std::ffi::CStr;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::OnceLock;

use rustix::fs::{AtFlags, FileType, statat};

use super::below_root::Root;
use super::folder::{Names, Row, rank, row};
use super::{EntryKind, MAX_ENTRIES, natural};

/// How many folders and entries of unknown type are looked at for the sake of the names: an excluded folder is known by a look
/// alone. Where there are more, looking at all of it by several threads is faster.
const MAX_LOOKED_AT: usize = 1024;
/// From how many entries on a page is looked at by two threads: one more costs as much as looking at a hundred.
const MIN_TO_SHARE: usize = 400;

/// The names of a folder, what they are, and their order.
#[derive(Debug)]
pub(super) struct Named {
    names: Names,
    /// Those that are shown, in the order in which they were read.
    shown: Vec<Shown>,
    /// How many more there are than were wanted.
    uncounted: usize,
    /// The first ones in natural order, folders first: enough for every first page.
    head: Vec<u32>,
    /// All of them in that order, once a later page was wanted.
    order: OnceLock<Vec<u32>>,
}

/// A name that is shown.
#[derive(Debug, Clone, Copy)]
struct Shown {
    /// Which of the names.
    name: u32,
    kind: EntryKind,
}

impl Named {
    /// Takes the names of an open folder; gives them back where they do not say enough.
    pub(super) fn of(root: &Root, folder: BorrowedFd<'_>, names: Names, uncounted: usize) -> Result<Self, Names> {
        let Some(shown) = shown(root, folder, &names) else { return Err(names) };
        let mut named = Self { names, shown, uncounted, head: Vec::new(), order: OnceLock::new() };
        named.head = named.first(MAX_ENTRIES);
        Ok(named)
    }

    /// Returns how many are shown.
    pub(super) fn len(&self) -> usize {
        self.shown.len()
    }

    /// Returns how many entries the folder has.
    pub(super) fn total(&self) -> usize {
        self.shown.len() + self.uncounted
    }

    /// Returns the rank and the name of the entry at a place in the order.
    pub(super) fn at(&self, place: usize) -> (u8, &[u8]) {
        let shown = self.shown[self.order_to(place + 1)[place] as usize];
        (rank(shown.kind), self.names.get(shown.name as usize).to_bytes())
    }

    /// Looks at the entries in some places of the order; `None` where one of them is not what its name said.
    pub(super) fn look(&self, root: &Root, folder: BorrowedFd<'_>, places: Range<usize>) -> Option<Vec<Row>> {
        let wanted = &self.order_to(places.end)[places];
        let look = |some: &[u32]| some.iter().map(|index| self.look_at(root, folder, *index)).collect::<Option<Vec<Row>>>();
        if wanted.len() < MIN_TO_SHARE {
            return look(wanted);
        }
        let (ours, theirs) = wanted.split_at(wanted.len() / 2);
        std::thread::scope(|scope| {
            let other = std::thread::Builder::new().spawn_scoped(scope, || look(theirs));
            let mut rows = look(ours);
            let rest = match other {
                Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                // The system gives us no more threads.
                Err(_) => look(theirs),
            };
            rows.as_mut()?.append(&mut rest?);
            rows
        })
    }

    fn look_at(&self, root: &Root, folder: BorrowedFd<'_>, index: u32) -> Option<Row> {
        let shown = self.shown[index as usize];
        let row = look_at(root, folder, self.names.get(shown.name as usize))?;
        (row.kind == shown.kind).then_some(row)
    }

    /// Returns the order as far as up to `end`, at least.
    fn order_to(&self, end: usize) -> &[u32] {
        if end <= self.head.len() { &self.head } else { self.order.get_or_init(|| self.sorted()) }
    }

    fn name(&self, index: usize) -> &[u8] {
        self.names.get(self.shown[index].name as usize).to_bytes()
    }

    /// Finds the first `most` in order without sorting the others.
    fn first(&self, most: usize) -> Vec<u32> {
        let mut first: BinaryHeap<(u8, Vec<u8>, &[u8], u32)> = BinaryHeap::with_capacity(most.min(self.shown.len()) + 1);
        let mut key = natural::Keys::default();
        for (index, shown) in self.shown.iter().enumerate() {
            let (rank, name) = (rank(shown.kind), self.name(index));
            let key = key.of(name);
            let is_first = first.len() < most || first.peek().is_some_and(|last| (rank, key, name) < (last.0, &last.1, last.2));
            if is_first {
                first.push((rank, key.to_vec(), name, index as u32));
                if first.len() > most {
                    first.pop();
                }
            }
        }
        first.into_sorted_vec().into_iter().map(|(.., index)| index).collect()
    }

    /// Sorts all of them. Most comparisons see eight bytes of the keys behind what all begin with, which lie beside the number.
    fn sorted(&self) -> Vec<u32> {
        let (mut bytes, mut ends) = (Vec::with_capacity(self.shown.len() * 32), Vec::with_capacity(self.shown.len() + 1));
        let mut keys = natural::Keys::default();
        ends.push(0);
        for index in 0..self.shown.len() {
            bytes.extend_from_slice(keys.of(self.name(index)));
            ends.push(bytes.len());
        }
        let key = |index: u32| &bytes[ends[index as usize]..ends[index as usize + 1]];
        let count = u32::try_from(self.shown.len()).expect("a folder is read up to MAX_LISTED entries");
        let common = (1..count)
            .fold(key_len(key, count), |common, index| key(0).iter().zip(key(index)).take(common).take_while(|(a, b)| a == b).count());
        let sign = |index: u32| {
            let mut sign = [0; 8];
            let rest = &key(index)[common..];
            let length = rest.len().min(sign.len());
            sign[..length].copy_from_slice(&rest[..length]);
            u64::from_be_bytes(sign)
        };
        let mut order: Vec<(u8, u64, u32)> = (0..count).map(|index| (rank(self.shown[index as usize].kind), sign(index), index)).collect();
        order.sort_unstable_by(|a, b| {
            let rest = || key(a.2).cmp(key(b.2)).then_with(|| self.name(a.2 as usize).cmp(self.name(b.2 as usize)));
            (a.0, a.1).cmp(&(b.0, b.1)).then_with(rest)
        });
        order.into_iter().map(|(.., index)| index).collect()
    }
}

/// Returns the length of the first key, if there is one.
fn key_len<'k>(key: impl Fn(u32) -> &'k [u8], count: u32) -> usize {
    if count == 0 { 0 } else { key(0).len() }
}

/// Returns which names are shown, and as what; `None` where that takes looking at too much, or a look fails.
fn shown(root: &Root, folder: BorrowedFd<'_>, names: &Names) -> Option<Vec<Shown>> {
    let mut looked_at = 0;
    let mut shown = Vec::with_capacity(names.len());
    for index in 0..names.len() {
        let name = u32::try_from(index).expect("a folder is read up to MAX_LISTED entries");
        if names.file_type(index) == FileType::RegularFile {
            shown.push(Shown { name, kind: EntryKind::File });
            continue;
        }
        looked_at += 1;
        if looked_at > MAX_LOOKED_AT {
            return None;
        }
        let stat = statat(folder, names.get(index), AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT).ok()?;
        shown.extend(row(root, &[], &stat).map(|row| Shown { name, kind: row.kind }));
    }
    Some(shown)
}

/// Says what an entry is; `None` where it cannot be looked at, or the catalog does not have it.
fn look_at(root: &Root, folder: BorrowedFd<'_>, name: &CStr) -> Option<Row> {
    let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT).ok()?;
    row(root, name.to_bytes(), &stat)
}

#[cfg(test)]
mod tests;
