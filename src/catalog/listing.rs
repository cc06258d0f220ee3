//! Pages of a folder.
//!
//! A folder is read and sorted once and kept for a moment, so that the next page of 100 000 entries costs a binary search. For a
//! first page in the order of names its names are enough (`named.rs`). A cursor names the entry where the page before ended by
//! what it was sorted by, not by its number: entries that come and go between two pages make none other appear twice or get lost.

use std::cmp::{Ordering, Reverse};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::below_root::{Root, identity_of};
use super::filter::{Category, Filter};
use super::folder::{self, Content, Names, Row, rank};
use super::named::Named;
use super::{CatalogError, Entry, EntryKind, ListQuery, Listing, MAX_ENTRIES, Sort, natural};
use crate::share::{CatalogPath, FileIdentity};

/// The most entries that are listed of one folder; each costs about 100 bytes while it is kept. Beyond it a person searches.
pub(super) const MAX_LISTED: usize = 200_000;
/// The most folders that are kept: a few owners, each with a few open.
const MAX_KEPT_FOLDERS: usize = 32;
/// The most entries that are kept over all folders: about 40 MB; of names alone half as much.
const MAX_KEPT_ENTRIES: usize = 400_000;
/// How long a folder is kept at least. Its own times tell of names that come and go, but not of files that grow.
const MIN_AGE: Duration = Duration::from_secs(5);
/// A folder that takes long to read is kept so many times as long as that took, ...
const AGE_PER_READING: u32 = 10;
/// ... but no longer than this.
const MAX_AGE: Duration = Duration::from_secs(120);

/// The folders that were listed last.
#[derive(Debug, Default)]
pub(super) struct Listings {
    /// The latest last.
    kept: Mutex<Vec<Kept>>,
}

#[derive(Debug)]
struct Kept {
    path: CatalogPath,
    /// What the folder was before it was read.
    stamp: FileIdentity,
    until: Instant,
    folder: Folder,
}

/// A folder as it was read.
#[derive(Debug, Clone)]
enum Folder {
    /// Every entry was looked at.
    Whole(Arc<Whole>),
    /// Its names are known: enough for a first page in the order of names.
    Named(Arc<Named>),
}

/// A folder with all that was looked at, and its orders.
#[derive(Debug)]
struct Whole {
    /// In order of names.
    content: Content,
    newest: OnceLock<Vec<u32>>,
    largest: OnceLock<Vec<u32>>,
}

impl Listings {
    /// Lists a page. Blocks.
    pub(super) fn list(&self, root: &Root, path: &CatalogPath, query: &ListQuery) -> Result<Listing, CatalogError> {
        let after = query.cursor.as_deref().map(|text| Cursor::parse(text, query.sort)).transpose()?;
        let (after, limit) = (after.as_ref(), query.limit.clamp(1, MAX_ENTRIES));
        let opened = root.open_folder(path)?;
        let names_do = query.sort == Sort::Name && after.is_none() && query.filter.is_open();
        if let Folder::Named(named) = self.folder(root, path, &opened, names_do)?
            && let Some(rows) = named.look(root, opened.as_fd(), limit)
        {
            return Ok(listing(path, query.sort, rows.iter(), rows.len() < named.len(), named.total()));
        }
        // Another page; or something is not what it was when the names were read, or cannot be looked at.
        let whole = self.whole(root, path, &opened)?;
        let count = whole.content.rows.len();
        let start = after.map_or(0, |cursor| whole.first_behind(cursor, query.sort));
        if query.filter.is_open() {
            let end = (start + limit).min(count);
            let rows = (start..end).map(|place| whole.row(query.sort, place));
            return Ok(listing(path, query.sort, rows, end < count, whole.content.total));
        }
        let passes = |row: &&Row| passes(row, &query.filter);
        let total = whole.content.rows.iter().filter(passes).count();
        let rest = (start..count).map(|place| whole.row(query.sort, place)).filter(passes);
        let mut rows: Vec<&Row> = rest.take(limit + 1).collect();
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        Ok(listing(path, query.sort, rows.into_iter(), has_more, total))
    }

    /// Returns a folder, read anew unless it is as it was; `names_do` says that its names are enough.
    fn folder(&self, root: &Root, path: &CatalogPath, opened: &OwnedFd, names_do: bool) -> Result<Folder, CatalogError> {
        let stat = rustix::fs::fstat(opened).map_err(|errno| CatalogError::from_errno(errno, path))?;
        let stamp = identity_of(&stat);
        let now = Instant::now();
        let named = match self.find(path, stamp, now) {
            Some((Folder::Named(named), until)) if !names_do => Some((named, until)),
            Some((folder, _)) => return Ok(folder),
            None => None,
        };
        let look = |names: &Names, uncounted| folder::look(root, path, opened.as_fd(), names, uncounted).map(Whole::new).map(Arc::new);
        // What was read of the names then is as old as it is.
        let until_of_names = named.as_ref().map(|(_, until)| *until);
        let folder = match named {
            Some((named, _)) => Folder::Whole(look(named.names().0, named.names().1)?),
            None => match folder::names(root, path, opened.as_fd(), MAX_LISTED)? {
                (names, uncounted) if names_do => match Named::of(root, opened.as_fd(), names, uncounted) {
                    Ok(named) => Folder::Named(Arc::new(named)),
                    Err(names) => Folder::Whole(look(&names, uncounted)?),
                },
                (names, uncounted) => Folder::Whole(look(&names, uncounted)?),
            },
        };
        let age = (now.elapsed() * AGE_PER_READING).clamp(MIN_AGE, MAX_AGE);
        let until = until_of_names.unwrap_or(now + age);
        self.keep(Kept { path: path.clone(), stamp, until, folder: folder.clone() });
        Ok(folder)
    }

    /// Returns a folder with all that is in it looked at.
    fn whole(&self, root: &Root, path: &CatalogPath, opened: &OwnedFd) -> Result<Arc<Whole>, CatalogError> {
        match self.folder(root, path, opened, false)? {
            Folder::Whole(whole) => Ok(whole),
            Folder::Named(_) => unreachable!("names were not asked for"),
        }
    }

    fn find(&self, path: &CatalogPath, stamp: FileIdentity, now: Instant) -> Option<(Folder, Instant)> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|one| one.until > now);
        let index = kept.iter().position(|one| one.path == *path && one.stamp == stamp)?;
        let found = kept.remove(index);
        let of_it = (found.folder.clone(), found.until);
        kept.push(found);
        Some(of_it)
    }

    fn keep(&self, new: Kept) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|one| one.path != new.path);
        kept.push(new);
        let entries = |kept: &[Kept]| kept.iter().map(|one| one.folder.len()).sum::<usize>();
        while kept.len() > MAX_KEPT_FOLDERS || entries(&kept) > MAX_KEPT_ENTRIES {
            kept.remove(0);
        }
    }
}

fn listing<'r>(path: &CatalogPath, sort: Sort, rows: impl Iterator<Item = &'r Row> + Clone, has_more: bool, total: usize) -> Listing {
    let next_cursor = has_more.then(|| rows.clone().last().map(|row| Cursor::of(row, sort).to_text())).flatten();
    Listing { entries: rows.map(|row| entry_of(path, row)).collect(), total, next_cursor }
}

impl Folder {
    fn len(&self) -> usize {
        match self {
            Self::Whole(whole) => whole.content.rows.len(),
            Self::Named(named) => named.len(),
        }
    }
}

impl Whole {
    fn new(content: Content) -> Self {
        Self { content, newest: OnceLock::new(), largest: OnceLock::new() }
    }

    /// Returns the index of the first entry that stands behind the cursor.
    fn first_behind(&self, cursor: &Cursor, sort: Sort) -> usize {
        let (mut low, mut high) = (0, self.content.rows.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match cursor.compare(self.row(sort, middle)) {
                Ordering::Less => high = middle,
                Ordering::Equal | Ordering::Greater => low = middle + 1,
            }
        }
        low
    }

    fn row(&self, sort: Sort, index: usize) -> &Row {
        let rows = &self.content.rows;
        match sort {
            Sort::Name => &rows[index],
            Sort::Newest => &rows[self.newest.get_or_init(|| order(rows, sort))[index] as usize],
            Sort::Largest => &rows[self.largest.get_or_init(|| order(rows, sort))[index] as usize],
        }
    }
}

/// Returns the numbers of the rows in another order. The sort is stable, so equals stay in the order of their names.
fn order(rows: &[Row], sort: Sort) -> Vec<u32> {
    let count = u32::try_from(rows.len()).expect("a folder is read up to MAX_LISTED entries");
    let mut order: Vec<u32> = (0..count).collect();
    order.sort_by_key(|index| {
        let row = &rows[*index as usize];
        (rank(row.kind), Reverse(weight(row, sort)))
    });
    order
}

/// Returns what an order goes by, before the name.
fn weight(row: &Row, sort: Sort) -> i64 {
    match sort {
        Sort::Name => 0,
        Sort::Newest => row.modified.0,
        Sort::Largest => i64::try_from(row.size_bytes).unwrap_or(i64::MAX),
    }
}

fn passes(row: &Row, filter: &Filter) -> bool {
    let file_size = Some(row.size_bytes).filter(|_| row.kind == EntryKind::File);
    filter.passes(file_size, row.modified, || Category::of(row.kind, &row.name))
}

fn entry_of(folder: &CatalogPath, row: &Row) -> Entry {
    let path = folder.join(&row.name).expect("folder::read leaves out names that make no path");
    Entry { path, kind: row.kind, size_bytes: row.size_bytes, modified: row.modified, below: None }
}

/// Where a page ended: all that its last entry was sorted by.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cursor {
    sort: Sort,
    rank: u8,
    weight: i64,
    name: Vec<u8>,
}

/// A cursor's bytes before the name: its sort, its rank and its weight.
const CURSOR_HEAD: usize = 10;
/// The longest cursor in bytes: a name is no longer than 255.
const MAX_CURSOR: usize = CURSOR_HEAD + 255;

impl Cursor {
    fn of(row: &Row, sort: Sort) -> Self {
        Self { sort, rank: rank(row.kind), weight: weight(row, sort), name: row.name.to_vec() }
    }

    /// Compares where the cursor stands with a row.
    fn compare(&self, row: &Row) -> Ordering {
        let place = (self.rank, Reverse(self.weight)).cmp(&(rank(row.kind), Reverse(weight(row, self.sort))));
        place.then_with(|| natural::compare(&self.name, &row.name))
    }

    /// Writes the cursor in hexadecimal digits, which need no escape anywhere.
    fn to_text(&self) -> String {
        let mut bytes = vec![letter(self.sort), self.rank];
        bytes.extend_from_slice(&self.weight.to_be_bytes());
        bytes.extend_from_slice(&self.name);
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Reads a cursor back.
    ///
    /// # Errors
    /// [`CatalogError::InvalidQuery`] where it is no cursor, or one of another sort.
    fn parse(text: &str, sort: Sort) -> Result<Self, CatalogError> {
        let invalid =
            || CatalogError::InvalidQuery { reason: "this cursor does not continue a list in this order; start again without it" };
        let bytes = from_hex(text).ok_or_else(invalid)?;
        let (head, name) = bytes.split_at_checked(CURSOR_HEAD).ok_or_else(invalid)?;
        let weight = i64::from_be_bytes(head[2..].try_into().expect("the head is two bytes and eight"));
        if head[0] != letter(sort) {
            return Err(invalid());
        }
        Ok(Self { sort, rank: head[1], weight, name: name.to_vec() })
    }
}

fn letter(sort: Sort) -> u8 {
    match sort {
        Sort::Name => b'n',
        Sort::Newest => b't',
        Sort::Largest => b's',
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || digits.len() > 2 * MAX_CURSOR {
        return None;
    }
    let value = |digit: u8| char::from(digit).to_digit(16);
    digits.chunks_exact(2).map(|pair| Some((value(pair[0])? * 16 + value(pair[1])?) as u8)).collect()
}

#[cfg(test)]
mod tests;
