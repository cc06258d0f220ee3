//! All that the index knows, in a few long arrays: about 90 bytes an entry, and one buffer of folded names to scan.
//!
//! Entries stand in breadth-first order, each folder's in natural order. So an entry's folder always stands before it, and the
//! list of entries is itself the queue of folders that are still to be read.

use super::fold::fold;
use super::folder::Row;
use super::{Entry, EntryKind};
use crate::share::{CatalogPath, Timestamp};

/// The most entries that an index holds: about 90 MB of memory, and more than any folder tree a person shares from.
pub(super) const MAX_INDEXED: usize = 1_000_000;

/// Where the root stands: it is the first entry and has no name.
pub(super) const ROOT: u32 = 0;

/// A snapshot of the catalog.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    nodes: Vec<Node>,
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
    /// [`FOLDER`] for a folder.
    size_bytes: u64,
    modified: Timestamp,
}

/// Stands for the size of a folder; no file is that long.
const FOLDER: u64 = u64::MAX;

impl Tree {
    /// Returns a tree of nothing but the root.
    pub(super) fn new() -> Self {
        let root = Node { parent: ROOT, name_end: 0, folded_end: 1, letters: 0, size_bytes: FOLDER, modified: Timestamp(0) };
        Self { nodes: vec![root], names: Vec::new(), folded: vec![0], files: 0, truncated: false }
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

    /// Says that there is more than it may hold.
    pub(super) fn set_truncated(&mut self) {
        self.truncated = true;
    }

    /// Adds what was read in a folder, as far as there is room.
    pub(super) fn extend(&mut self, parent: u32, rows: &[Row]) {
        for row in rows {
            if self.nodes.len() >= MAX_INDEXED {
                self.truncated = true;
                return;
            }
            self.push(parent, row);
        }
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
            size_bytes: if row.kind == EntryKind::Folder { FOLDER } else { row.size_bytes },
            modified: row.modified,
        });
    }

    /// Returns the folder that an entry is in.
    pub(super) fn parent(&self, index: u32) -> u32 {
        self.nodes[index as usize].parent
    }

    pub(super) fn kind(&self, index: u32) -> EntryKind {
        if self.nodes[index as usize].size_bytes == FOLDER { EntryKind::Folder } else { EntryKind::File }
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
        let size_bytes = if node.size_bytes == FOLDER { 0 } else { node.size_bytes };
        Entry { path: self.path(index), kind: self.kind(index), size_bytes, modified: node.modified }
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

    #[test]
    fn it_holds_so_many_and_says_that_there_are_more() {
        let mut tree = Tree::new();
        let rows = vec![row("x", EntryKind::File, 1); MAX_INDEXED];
        tree.extend(ROOT, &rows[1..]);
        assert!(!tree.is_truncated());
        tree.extend(ROOT, &rows[..1]);
        assert_eq!((tree.len(), tree.is_truncated()), (MAX_INDEXED, true));
    }
}
