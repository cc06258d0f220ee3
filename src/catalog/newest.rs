//! What changed last, of all that the index knows.

use std::cmp::Reverse;

use super::Entry;
use super::filter::Filter;
use super::tree::Tree;
use crate::share::Timestamp;

/// Returns the newest `limit` entries that pass the filter, newest first, and how many pass in all. Of two that changed in the same
/// millisecond the one that stands higher up is first.
pub(super) fn newest(tree: &Tree, filter: &Filter, limit: usize) -> (Vec<Entry>, usize) {
    let (mut total, limit) = (0, limit.max(1));
    // Twice as many as are wanted, of which the older half goes now and then: little memory, and a few steps for each entry.
    let mut newest: Vec<(Reverse<Timestamp>, u32)> = Vec::with_capacity(2 * limit);
    for index in tree.indexes().filter(|index| tree.passes(*index, filter)) {
        total += 1;
        newest.push((Reverse(tree.modified(index)), index));
        if newest.len() == 2 * limit {
            newest.select_nth_unstable(limit - 1);
            newest.truncate(limit);
        }
    }
    newest.sort_unstable();
    newest.truncate(limit);
    (newest.into_iter().map(|(_, index)| tree.entry(index)).collect(), total)
}

#[cfg(test)]
mod tests {
    use super::super::EntryKind;
    use super::super::filter::Category;
    use super::super::folder::Row;
    use super::super::tree::ROOT;
    use super::*;

    #[test]
    fn the_newest_stand_first_and_all_that_pass_are_counted() {
        let row = |name: &str, kind, at| Row { name: name.as_bytes().into(), kind, size_bytes: 1, modified: Timestamp(at) };
        let mut tree = Tree::new();
        tree.extend(ROOT, &[row("films", EntryKind::Folder, 9), row("a.mkv", EntryKind::File, 3), row("b.txt", EntryKind::File, 7)]);
        tree.extend(1, &[row("c.mkv", EntryKind::File, 3), row("d.mkv", EntryKind::File, 8)]);
        let found = |filter: &Filter, limit| {
            let (entries, total) = newest(&tree, filter, limit);
            (entries.iter().map(|entry| entry.path.to_text()).collect::<Vec<_>>().join(" "), total)
        };
        assert_eq!(found(&Filter::default(), 9), ("films films/d.mkv b.txt a.mkv films/c.mkv".to_owned(), 5));
        assert_eq!(found(&Filter::of_files(), 2), ("films/d.mkv b.txt".to_owned(), 4));
        assert_eq!(found(&Filter::of_files(), 1), ("films/d.mkv".to_owned(), 4));
        assert_eq!(found(&Filter::of([Category::Video]), 2), ("films/d.mkv a.mkv".to_owned(), 3));
        assert_eq!(found(&Filter { changed_since: Some(Timestamp(10)), ..Filter::default() }, 2), (String::new(), 0));
    }
}
