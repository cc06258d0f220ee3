//! All that the index knows, in a few long arrays: about 90 bytes an entry, and one buffer of folded names to scan.
//!
//! Entries stand in breadth-first order, each folder's in natural order. So an entry's folder always stands before it, and the
//! list of entries is itself the queue of folders that are still to be read; and one pass from the last entry to the first adds
//! up what is below each folder.

use std::ops::Range;

use super::filter::{Category, Filter};
use super::fold::fold;
use super::folder::Row;
use super::{Below, Entry, EntryKind, natural};
use crate::share::{CatalogPath, Timestamp};

/// The most entries that an index holds: about 90 MB of memory, and more than any folder tree a person shares from.
pub(super) const MAX_INDEXED: usize = 1_000_000;

/// Where the root stands: it is the first entry and has no name.
pub(super) const ROOT: u32 = 0;

/// A snapshot of the catalog.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    /// What each entry is for a person.
    categories: Vec<Category>,
    /// What is known of folders only, in the order in which they stand among the entries.
    folders: Vec<Folder>,
    /// Whether what is below each folder was added up.
    is_added_up: bool,
    /// The raw names, one behind the other.
    names: Vec<u8>,
    /// The folded names, each with a NUL behind it, which no name contains: nothing that is searched for matches across two.
    folded: Vec<u8>,
    files: usize,
    truncated: bool,
}

/// One entry. Its names begin where those of the entry before end.
#[derive(Debug, Clone)]
struct Node {
    parent: u32,
    name_end: u32,
    folded_end: u32,
    /// Which letters the folded name contains; see [`letters`].
    letters: u32,
    /// Above [`LONGEST_FILE`] for a folder: which of the folders it is.
    size_bytes: u64,
    modified: Timestamp,
}

/// What is known of a folder only.
#[derive(Debug, Clone)]
struct Folder {
    /// Its own entries.
    entries: Range<u32>,
    /// All that is below it.
    below: Below,
    /// Whether something below it is not in the tree.
    lacks_some: bool,
}

/// No file is longer: a system counts in 63 bits. What is above are the numbers of folders.
const LONGEST_FILE: u64 = u64::MAX >> 1;

impl Tree {
    /// Returns a tree of nothing but the root.
    pub(super) fn new() -> Self {
        let root = Node { parent: ROOT, name_end: 0, folded_end: 1, letters: 0, size_bytes: LONGEST_FILE + 1, modified: Timestamp(0) };
        Self {
            nodes: vec![root],
            categories: vec![Category::Folder],
            folders: vec![Folder::new()],
            is_added_up: false,
            names: Vec::new(),
            folded: vec![0],
            files: 0,
            truncated: false,
        }
    }

    /// Returns how many entries there are, the root included.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Returns how many files there are.
    pub(super) fn files(&self) -> usize {
        self.files
    }

    /// Returns whether there is more than it may hold.
    pub(super) fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// Says that there is more in a folder than the tree may hold.
    pub(super) fn set_truncated(&mut self, folder: u32) {
        self.truncated = true;
        self.set_lacking(folder);
    }

    /// Says that something in a folder is not in the tree, so that nobody knows how much is below it.
    pub(super) fn set_lacking(&mut self, folder: u32) {
        if let Some(number) = self.nodes[folder as usize].folder_number() {
            self.folders[number].lacks_some = true;
        }
    }

    /// Adds what was read in a folder, as far as there is room.
    pub(super) fn extend(&mut self, parent: u32, rows: &[Row]) {
        let begin = self.nodes.len();
        for row in rows {
            if self.nodes.len() >= MAX_INDEXED {
                self.set_truncated(parent);
                break;
            }
            self.push(parent, row);
        }
        if let Some(number) = self.nodes[parent as usize].folder_number() {
            self.folders[number].entries = offset(begin)..offset(self.nodes.len());
        }
    }

    /// Adds up what is below each folder, once all is there.
    pub(super) fn add_up(&mut self) {
        for index in (1..self.nodes.len()).rev() {
            let node = &self.nodes[index];
            let (below, lacks_some) = match node.folder_number() {
                Some(number) => (self.folders[number].below, self.folders[number].lacks_some),
                None => (Below { files: 1, bytes: node.size_bytes }, false),
            };
            let above = self.nodes[node.parent as usize].folder_number().expect("entries are in folders");
            let above = &mut self.folders[above];
            above.below.files += below.files;
            above.below.bytes = above.below.bytes.saturating_add(below.bytes);
            above.lacks_some |= lacks_some;
        }
        self.is_added_up = true;
    }

    fn push(&mut self, parent: u32, row: &Row) {
        let folded = fold(&row.name);
        self.names.extend_from_slice(&row.name);
        self.folded.extend_from_slice(&folded);
        self.folded.push(0);
        self.files += usize::from(row.kind == EntryKind::File);
        self.nodes.push(Node {
            parent,
            name_end: offset(self.names.len()),
            folded_end: offset(self.folded.len()),
            letters: letters(&folded),
            size_bytes: match row.kind {
                EntryKind::Folder => LONGEST_FILE + 1 + self.folders.len() as u64,
                EntryKind::File => row.size_bytes.min(LONGEST_FILE),
            },
            modified: row.modified,
        });
        self.categories.push(Category::of(row.kind, &row.name));
        if row.kind == EntryKind::Folder {
            self.folders.push(Folder::new());
        }
    }

    /// Returns the folder that an entry is in.
    pub(super) fn parent(&self, index: u32) -> u32 {
        self.nodes[index as usize].parent
    }

    pub(super) fn kind(&self, index: u32) -> EntryKind {
        if self.nodes[index as usize].folder_number().is_some() { EntryKind::Folder } else { EntryKind::File }
    }

    /// Returns when the content of an entry last changed.
    pub(super) fn modified(&self, index: u32) -> Timestamp {
        self.nodes[index as usize].modified
    }

    /// Returns whether a filter lets an entry pass.
    pub(super) fn passes(&self, index: u32, filter: &Filter) -> bool {
        let node = &self.nodes[index as usize];
        filter.passes(node.file_size(), node.modified, || self.categories[index as usize])
    }

    pub(super) fn name(&self, index: u32) -> &[u8] {
        let start = self.before(index).map_or(0, |node| node.name_end);
        &self.names[start as usize..self.nodes[index as usize].name_end as usize]
    }

    pub(super) fn folded_name(&self, index: u32) -> &[u8] {
        let end = self.nodes[index as usize].folded_end as usize - 1;
        &self.folded[self.folded_start(index)..end]
    }

    /// Returns where an entry's folded name begins in [`Tree::folded`].
    pub(super) fn folded_start(&self, index: u32) -> usize {
        self.before(index).map_or(0, |node| node.folded_end as usize)
    }

    /// Returns which entry's folded name contains this place of [`Tree::folded`]. It is searched for from `from` on, one by one: a
    /// scan from end to end passes each entry once, which is less work than a binary search for each match.
    pub(super) fn entry_at(&self, place: usize, from: u32) -> u32 {
        let ahead = self.nodes[from as usize..].iter().take_while(|node| node.folded_end as usize <= place).count();
        from + offset(ahead)
    }

    /// Returns all folded names, each with a NUL behind it.
    pub(super) fn folded(&self) -> &[u8] {
        &self.folded
    }

    pub(super) fn letters(&self, index: u32) -> u32 {
        self.nodes[index as usize].letters
    }

    /// Returns the indexes of all entries but the root.
    pub(super) fn indexes(&self) -> impl Iterator<Item = u32> + use<> {
        ROOT + 1..offset(self.nodes.len())
    }

    pub(super) fn path(&self, index: u32) -> CatalogPath {
        let mut names = Vec::new();
        let mut at = index;
        while at != ROOT {
            names.push(self.name(at));
            at = self.parent(at);
        }
        names.reverse();
        CatalogPath::from_bytes(&names.join(&b'/')).expect("folder::read leaves out names that make no path")
    }

    pub(super) fn entry(&self, index: u32) -> Entry {
        let node = &self.nodes[index as usize];
        let size_bytes = node.file_size().unwrap_or(0);
        Entry { path: self.path(index), kind: self.kind(index), size_bytes, modified: node.modified, below: self.below(index) }
    }

    /// Returns all that is below a folder; `None` where the tree does not know all of it.
    fn below(&self, folder: u32) -> Option<Below> {
        let folder = &self.folders[self.nodes[folder as usize].folder_number()?];
        (self.is_added_up && !folder.lacks_some).then_some(folder.below)
    }

    /// Returns all that is below the folder at `path`; `None` where the tree does not know all of it.
    pub(super) fn below_path(&self, path: &CatalogPath) -> Option<Below> {
        self.below(self.folder_at(path)?)
    }

    /// Tells each folder among entries of the folder at `path` what is below it, as far as the tree knows it.
    pub(super) fn tell_below(&self, path: &CatalogPath, entries: &mut [Entry]) {
        let Some(parent) = self.folder_at(path) else { return };
        for entry in entries.iter_mut().filter(|entry| entry.kind == EntryKind::Folder) {
            entry.below = self.folder_in(parent, entry.path.name_bytes()).and_then(|index| self.below(index));
        }
    }

    fn folder_at(&self, path: &CatalogPath) -> Option<u32> {
        path.components().try_fold(ROOT, |at, name| self.folder_in(at, name))
    }

    /// Finds a folder in a folder: its entries stand in natural order, folders first.
    fn folder_in(&self, parent: u32, name: &[u8]) -> Option<u32> {
        let number = self.nodes[parent as usize].folder_number()?;
        let Range { start, end } = self.folders[number].entries.clone();
        let is_folder = |index| self.kind(index) == EntryKind::Folder;
        let (mut low, mut high) = (start, end);
        while low < high {
            let middle = low + (high - low) / 2;
            if is_folder(middle) && natural::compare(self.name(middle), name).is_lt() {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        (low < end && is_folder(low) && self.name(low) == name).then_some(low)
    }

    /// Returns the paths of all files in the order of their bytes, at most `limit`.
    pub(super) fn files_sorted(&self, limit: usize) -> Vec<CatalogPath> {
        let mut paths: Vec<_> = self.indexes().filter(|index| self.kind(*index) == EntryKind::File).map(|index| self.path(index)).collect();
        paths.sort_unstable();
        paths.truncate(limit);
        paths
    }

    fn before(&self, index: u32) -> Option<&Node> {
        (index as usize).checked_sub(1).map(|before| &self.nodes[before])
    }
}

impl Node {
    /// Returns which of the folders it is; `None` for a file.
    fn folder_number(&self) -> Option<usize> {
        self.size_bytes.checked_sub(LONGEST_FILE + 1).and_then(|number| usize::try_from(number).ok())
    }

    /// Returns how long a file is; `None` for a folder.
    fn file_size(&self) -> Option<u64> {
        Some(self.size_bytes).filter(|size| *size <= LONGEST_FILE)
    }
}

impl Folder {
    fn new() -> Self {
        Self { entries: 0..0, below: Below::default(), lacks_some: false }
    }
}

/// Returns which letters a folded text contains, one bit each; digits share one, and so do all characters that are not ASCII.
/// A text whose bits are not all in a name's cannot be spelt from the name.
pub(super) fn letters(folded: &[u8]) -> u32 {
    folded.iter().fold(0, |bits, byte| {
        bits | match byte {
            b'a'..=b'z' => 1 << (byte - b'a'),
            b'0'..=b'9' => 1 << 26,
            0x80.. => 1 << 27,
            _ => 0,
        }
    })
}

/// A million names of 255 bytes, each at most four times as long when folded, stay below 4 GiB.
fn offset(length: usize) -> u32 {
    u32::try_from(length).expect("MAX_INDEXED names fit 32 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, kind: EntryKind, size_bytes: u64) -> Row {
        Row { name: name.as_bytes().into(), kind, size_bytes, modified: Timestamp(5) }
    }

    #[test]
    fn what_goes_in_comes_out() {
        let mut tree = Tree::new();
        tree.extend(ROOT, &[row("Films", EntryKind::Folder, 0), row("empty", EntryKind::File, 0)]);
        tree.extend(1, &[row("Été.mp4", EntryKind::File, 9)]);
        assert_eq!((tree.len(), tree.files(), tree.is_truncated()), (4, 2, false));
        let entry = tree.entry(3);
        assert_eq!(entry.path, CatalogPath::parse("Films/Été.mp4").unwrap());
        assert_eq!((entry.kind, entry.size_bytes, entry.modified), (EntryKind::File, 9, Timestamp(5)));
        assert_eq!((tree.kind(1), tree.kind(2)), (EntryKind::Folder, EntryKind::File));
        assert_eq!(tree.folded(), b"\0films\0empty\0ete.mp4\0");
        for index in tree.indexes() {
            assert_eq!(tree.entry_at(tree.folded_start(index), ROOT), index);
            assert_eq!(tree.entry_at(tree.folded_start(index) + tree.folded_name(index).len(), index), index);
        }
    }

    /// A folder in a folder, with 3 files of 10, 20 and 30 bytes from the top down.
    fn films() -> Tree {
        let mut tree = Tree::new();
        tree.extend(ROOT, &[row("Films", EntryKind::Folder, 0), row("Music", EntryKind::Folder, 0), row("a.txt", EntryKind::File, 10)]);
        tree.extend(1, &[row("2024", EntryKind::Folder, 0), row("b.mkv", EntryKind::File, 20)]);
        tree.extend(2, &[]);
        tree.extend(4, &[row("c.mkv", EntryKind::File, 30)]);
        tree
    }

    fn below(tree: &Tree, path: &str) -> Option<(u64, u64)> {
        let path = CatalogPath::parse(path).unwrap();
        let index = tree.indexes().find(|index| tree.path(*index) == path).unwrap();
        tree.entry(index).below.map(|Below { files, bytes }| (files, bytes))
    }

    #[test]
    fn a_folder_knows_how_much_is_below_it_once_all_is_read() {
        let mut tree = films();
        assert_eq!(below(&tree, "Films"), None, "something may still come");
        tree.add_up();
        for (path, expected) in [("Films", Some((2, 50))), ("Films/2024", Some((1, 30))), ("Music", Some((0, 0))), ("a.txt", None)] {
            assert_eq!(below(&tree, path), expected, "{path}");
        }
    }

    #[test]
    fn a_folder_of_which_some_is_not_known_says_nothing_nor_does_any_above_it() {
        let mut tree = films();
        tree.set_lacking(4);
        tree.add_up();
        assert_eq!((below(&tree, "Films/2024"), below(&tree, "Films"), below(&tree, "Music")), (None, None, Some((0, 0))));
        assert!(!tree.is_truncated());
    }

    #[test]
    fn folders_of_a_list_are_told_what_is_below_them_by_their_names() {
        let mut tree = films();
        tree.add_up();
        let tell = |folder: &str, name: &str, kind| {
            let folder = CatalogPath::parse(folder).unwrap();
            let path = folder.join(name.as_bytes()).unwrap();
            let mut entries = [Entry { path, kind, size_bytes: 0, modified: Timestamp(0), below: None }];
            tree.tell_below(&folder, &mut entries);
            entries[0].below.map(|below| below.files)
        };
        use EntryKind::{File, Folder};
        assert_eq!((tell("", "Films", Folder), tell("", "Music", Folder), tell("Films", "2024", Folder)), (Some(2), Some(0), Some(1)));
        assert_eq!((tell("", "films", Folder), tell("", "New", Folder), tell("New", "2024", Folder)), (None, None, None));
        // What the index knows as the other of the two, since it became one meanwhile.
        assert_eq!((tell("", "a.txt", Folder), tell("a.txt", "x", Folder), tell("", "Films", File)), (None, None, None));
    }

    #[test]
    fn it_holds_so_many_and_says_that_there_are_more() {
        let mut tree = Tree::new();
        let rows = vec![row("x", EntryKind::File, 1); MAX_INDEXED];
        tree.extend(ROOT, &rows[1..]);
        assert!(!tree.is_truncated());
        let mut whole = tree.clone();
        whole.add_up();
        assert_eq!(whole.below(ROOT), Some(Below { files: MAX_INDEXED as u64 - 1, bytes: MAX_INDEXED as u64 - 1 }));
        tree.extend(ROOT, &rows[..1]);
        assert_eq!((tree.len(), tree.is_truncated()), (MAX_INDEXED, true));
        tree.add_up();
        assert_eq!(tree.below(ROOT), None);
    }
}
