use proptest::prelude::*;

use super::super::EntryKind;
use super::super::folder::Row;
use super::super::tests::path;
use super::*;
use crate::share::Timestamp;

/// Builds a tree of paths; a folder's path ends in a slash and stands before what is in it.
fn tree(paths: &[&str]) -> Tree {
    let mut tree = Tree::new();
    for path in paths {
        let (kind, path) = path.strip_suffix('/').map_or((EntryKind::File, *path), |folder| (EntryKind::Folder, folder));
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = tree.indexes().find(|index| tree.path(*index).as_bytes() == folder.as_bytes()).unwrap_or(ROOT);
        tree.extend(parent, &[row(name, kind)]);
    }
    tree
}

fn row(name: impl AsRef<[u8]>, kind: EntryKind) -> Row {
    Row { name: name.as_ref().into(), kind, size_bytes: 1, modified: Timestamp(0) }
}

fn found(tree: &Tree, text: &str) -> Vec<String> {
    search(tree, &Query::parse(text).unwrap(), &Filter::default(), 100).0.iter().map(|hit| hit.entry.path.to_text()).collect()
}

fn highlights(tree: &Tree, text: &str) -> Vec<(usize, usize)> {
    search(tree, &Query::parse(text).unwrap(), &Filter::default(), 1).0[0].highlights.clone()
}

#[test]
fn the_better_match_stands_first() {
    let tree = tree(&[
        "holiday/",
        "holiday/beach.jpg",
        "my-xholidayx.txt",
        "old holiday.txt",
        "holidays.txt",
        "holiday.mp4",
        "HoLiDaY2",
        "h-o-l-i-d-a-y",
        "other",
    ]);
    assert_eq!(
        found(&tree, "holiday"),
        [
            "holiday",           // the name itself
            "holiday.mp4",       // but for the extension
            "HoLiDaY2",          // it begins so, and is short
            "holidays.txt",      // it begins so
            "old holiday.txt",   // a word begins so
            "my-xholidayx.txt",  // somewhere in it
            "holiday/beach.jpg", // somewhere in the path
            "h-o-l-i-d-a-y",     // its letters, in order
        ]
    );
}

#[test]
fn a_filter_leaves_the_better_ones_that_pass_and_counts_them() {
    use super::super::filter::Category;
    let tree = tree(&["holiday/", "holiday/beach.jpg", "holiday.mp4", "holidays.txt", "h-o-l-i-d-a-y.mp4", "holiday.mkv", "other.mkv"]);
    let films = Filter::of([Category::Video]);
    let found = |filter: Filter, limit| {
        let (hits, total) = search(&tree, &Query::parse("holiday").unwrap(), &filter, limit);
        (hits.iter().map(|hit| hit.entry.path.to_text()).collect::<Vec<_>>().join(" "), total)
    };
    // Also the one that is only nearly called so, where there is room for it.
    assert_eq!(found(films, 9), ("holiday.mp4 holiday.mkv h-o-l-i-d-a-y.mp4".to_owned(), 3));
    assert_eq!(found(films, 1), ("holiday.mp4".to_owned(), 2));
    assert_eq!(found(Filter::of([Category::Folder]), 9), ("holiday".to_owned(), 1));
    assert_eq!(found(Filter { min_bytes: Some(2), ..films }, 9), (String::new(), 0));
}

#[test]
fn each_word_must_stand_in_the_name_or_the_path() {
    let tree = tree(&["films/", "music/", "films/2024/", "films/beach.mp4", "music/beach 2024.mp3", "films/2024/beach.mp4"]);
    assert_eq!(found(&tree, "beach 2024"), ["music/beach 2024.mp3", "films/2024/beach.mp4"]);
    assert_eq!(found(&tree, "  FILMS   beach "), ["films/beach.mp4", "films/2024/beach.mp4"]);
    assert_eq!(found(&tree, "beach nowhere"), Vec::<String>::new());
}

#[test]
fn a_word_with_slashes_is_a_piece_of_a_path() {
    let tree =
        tree(&["a films/", "a films/2024/", "a films/2024/beach.mp4", "a films/x2024/", "a films/x2024/beach.mp4", "films2024beach"]);
    assert_eq!(found(&tree, "films/2024/bea"), ["a films/2024/beach.mp4"]);
    assert_eq!(found(&tree, "2024/beach"), ["a films/2024/beach.mp4", "a films/x2024/beach.mp4"]);
    assert_eq!(found(&tree, "films/"), ["a films/2024", "a films/x2024", "a films/2024/beach.mp4", "a films/x2024/beach.mp4"]);
    assert_eq!(found(&tree, "/films2"), ["films2024beach"]);
    assert_eq!(highlights(&tree, "films/2024/bea"), [(0, 3)]);
    assert_eq!(found(&tree, "x/../y"), Vec::<String>::new());
}

#[test]
fn case_and_accents_do_not_matter() {
    let tree = tree(&["Été à la plage.mp4", "STRASSE.txt", "e\u{301}cole", "日本語.txt"]);
    assert_eq!(found(&tree, "ete A"), ["Été à la plage.mp4"]);
    assert_eq!(found(&tree, "Straße"), ["STRASSE.txt"]);
    assert_eq!(found(&tree, "École"), ["e\u{301}cole"]);
    assert_eq!(found(&tree, "本"), ["日本語.txt"]);
}

#[test]
fn highlights_are_counted_in_characters_of_the_name() {
    let tree_of = |name: &str| tree(&[name]);
    assert_eq!(highlights(&tree_of("Été.mp4"), "te"), [(1, 3)]);
    assert_eq!(highlights(&tree_of("日本語 film"), "film 本"), [(1, 2), (4, 8)]);
    assert_eq!(highlights(&tree_of("abcabc"), "bc abc"), [(0, 3)]);
    assert_eq!(highlights(&tree_of("holiday"), "hld"), [(0, 1), (2, 3), (4, 5)]);
    assert_eq!(highlights(&tree(&["xx/", "xx/yy"]), "xx yy"), [(0, 2)]);
}

#[test]
fn bytes_that_are_no_text_are_found_by_how_they_are_shown() {
    let mut tree = Tree::new();
    tree.extend(ROOT, &[row(b"caf\xE9.txt", EntryKind::File), row(b"cafe", EntryKind::File)]);
    let shown = path(b"caf\xE9.txt").name();
    assert_eq!(found(&tree, &shown), std::slice::from_ref(&shown));
    assert_eq!(highlights(&tree, &shown), [(0, 8)]);
}

#[test]
fn what_cannot_be_searched_for_is_refused_in_a_sentence_and_nothing_finds_nothing() {
    for wrong in ["x".repeat(257), "a\0b".to_owned(), "a ".repeat(17)] {
        assert!(matches!(Query::parse(&wrong), Err(CatalogError::InvalidQuery { .. })), "{wrong:?}");
    }
    let tree = tree(&["a"]);
    for nothing in ["", "   ", "\u{301}"] {
        assert!(found(&tree, nothing).is_empty(), "{nothing:?}");
    }
    assert_eq!(Query::parse(&"a ".repeat(16)).unwrap().words.len(), 16);
    assert_eq!(found(&tree, &"a ".repeat(16)), ["a"]);
}

#[test]
fn an_empty_catalog_has_no_hits() {
    assert!(found(&Tree::new(), "a").is_empty());
}

/// 100 folders of 1000 files, with names as cameras and people give them.
fn large_tree() -> Tree {
    let mut tree = Tree::new();
    let folders: Vec<Row> = (0..100).map(|number| row(format!("Album {number:03}"), EntryKind::Folder)).collect();
    tree.extend(ROOT, &folders);
    for folder in 1..=100 {
        let files: Vec<Row> = (0..1000).map(|number| row(format!("IMG_{folder:03}_{number:04} Ausflug.jpg"), EntryKind::File)).collect();
        tree.extend(folder, &files);
    }
    tree
}

#[test]
fn of_a_hundred_thousand_files_the_right_ones_are_found() {
    let tree = large_tree();
    assert_eq!(tree.files(), 100_000);
    assert_eq!(found(&tree, "img_042_0777")[0], "Album 041/IMG_042_0777 Ausflug.jpg");
    assert_eq!(found(&tree, "album 041 0777"), ["Album 040/IMG_041_0777 Ausflug.jpg", "Album 041/IMG_042_0777 Ausflug.jpg"]);
    assert_eq!(found(&tree, "042_07").len(), 100);
    assert_eq!(found(&tree, "042_07")[99], "Album 041/IMG_042_0799 Ausflug.jpg");
    assert_eq!(found(&tree, "0420777")[0], "Album 041/IMG_042_0777 Ausflug.jpg");
    assert!(found(&tree, "nothing like it").is_empty());
    let (all, total) = search(&tree, &Query::parse("ausflug").unwrap(), &Filter::default(), 7);
    assert_eq!((all.len(), total), (7, 100_000));
    assert_eq!(all.iter().map(|hit| hit.entry.path.name()).collect::<Vec<_>>()[6], "IMG_001_0006 Ausflug.jpg");
}

proptest! {
    #[test]
    fn it_finds_what_a_plain_search_finds(names in proptest::collection::vec("[ab.é]{1,6}", 1..30), word in "[abé]{1,3}") {
        let mut tree = Tree::new();
        let rows: Vec<Row> = names.iter().enumerate().map(|(number, name)| row(format!("{name}{number}"), EntryKind::File)).collect();
        tree.extend(ROOT, &rows);
        let plain = |text: &str| text.replace('é', "e");
        let expected = rows.iter().filter(|row| plain(std::str::from_utf8(&row.name).unwrap()).contains(&plain(&word))).count();
        let (hits, total) = search(&tree, &Query::parse(&word).unwrap(), &Filter::default(), 1000);
        let contains = |hit: &Hit| plain(&hit.entry.path.name()).contains(&plain(&word));
        // Those that contain it, and behind them only those that do not.
        prop_assert_eq!(hits.iter().take_while(|hit| contains(hit)).count(), expected);
        prop_assert_eq!(hits.iter().filter(|hit| contains(hit)).count(), expected);
        let first = hits.iter().map(|hit| hit.entry.path.clone()).collect::<std::collections::HashSet<_>>();
        prop_assert_eq!(first.len(), hits.len(), "nothing is found twice");
        prop_assert_eq!(total, hits.len());
    }

    #[test]
    fn no_query_panics(text in "\\PC{0,40}", limit in 1_usize..20) {
        let tree = tree(&["a/", "a/b c", "é", "\u{EF80}", "x"]);
        if let Ok(query) = Query::parse(&text) {
            prop_assert!(search(&tree, &query, &Filter::default(), limit).0.len() <= limit);
        }
    }
}
