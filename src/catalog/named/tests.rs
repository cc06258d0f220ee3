use std::ffi::CString;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode, mkfifoat};

use super::super::folder;
use super::super::listing::{Listings, MAX_LISTED};
use super::super::tests::{Place, path};
use super::super::{CatalogOptions, Entry, ListQuery, Sort};
use super::*;
use crate::share::CatalogPath;

/// How many plain files a large folder has here: more than are found without sorting, and than two threads share.
const MANY: usize = MAX_ENTRIES + 400;

/// A folder with something of everything, and more files than one page holds.
fn folder_of_everything() -> (Place, UnixListener) {
    let place = Place::new();
    for number in 0..MANY {
        place.file(format!("d/Photo {number}.jpg"), &"x".repeat(number % 7));
    }
    for name in [&b"A"[..], b"a", b"1", b"01", b"001", "Été".as_bytes(), "e\u{301}te\u{301}".as_bytes(), b"\xFF\n", b"-rf", b"z"] {
        place.file([b"d/", name].concat(), "content");
    }
    place.file("d/.hidden", "h").file("d/Thumbs.db", "h").folder("d/@eaDir").folder("d/Zoo").folder("d/apes").folder("d/state");
    symlink(place.at("d/A"), place.at("d/link")).unwrap();
    symlink(place.at("d/Zoo"), place.at("d/link to a folder")).unwrap();
    symlink("nowhere", place.at("d/dangling")).unwrap();
    mkfifoat(CWD, place.at("d/pipe"), Mode::RUSR).unwrap();
    let listener = UnixListener::bind(place.at("d/socket")).unwrap();
    (place, listener)
}

fn entries_of(rows: &[Row], folder: &CatalogPath) -> Vec<Entry> {
    let entry =
        |row: &Row| Entry { path: folder.join(&row.name).unwrap(), kind: row.kind, size_bytes: row.size_bytes, modified: row.modified };
    rows.iter().map(entry).collect()
}

#[test]
fn the_answers_are_those_of_looking_at_everything() {
    let (place, _socket) = folder_of_everything();
    let excluded = vec![place.at("d/state")];
    for show_hidden in [false, true] {
        let root = Root::open(&place.root(), CatalogOptions { show_hidden, excluded: excluded.clone() }).unwrap();
        let d = path("d");
        let whole = folder::read(&root, &d, root.open_folder(&d).unwrap(), MAX_LISTED).unwrap();
        let expected = entries_of(&whole.rows, &d);
        assert_eq!(expected.len(), MANY + 10 + 2 + if show_hidden { 3 } else { 0 });
        for limit in [1, 7, 399, 400, MAX_ENTRIES] {
            // One of a kind is enough to see where a page of one begins and ends.
            let (listings, mut listed, mut cursor) = (Listings::default(), Vec::new(), None);
            while let Ok(page) = listings.list(&root, &d, &ListQuery { sort: Sort::Name, cursor: cursor.clone(), limit }) {
                assert_eq!(page.total, whole.total);
                listed.extend(page.entries);
                cursor = page.next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!(listed, expected, "by {limit}");
        }
    }
}

#[test]
fn what_is_not_what_its_name_said_is_not_shown_and_all_is_looked_at() {
    let (place, _socket) = folder_of_everything();
    let root = Root::open(&place.root(), CatalogOptions::default()).unwrap();
    let opened = root.open_folder(&path("d")).unwrap();
    let (names, uncounted) = folder::names(&root, &path("d"), opened.as_fd(), MAX_LISTED).unwrap();
    let named = Named::of(&root, opened.as_fd(), names, uncounted).unwrap();
    let place_of = |name: &[u8]| (0..named.len()).find(|place| named.at(*place).1 == name).unwrap();
    let (a, z) = (place_of(b"A"), place_of(b"z"));
    assert!(named.look(&root, opened.as_fd(), a..a + 1).is_some());
    std::fs::remove_file(place.at("d/A")).unwrap();
    assert!(named.look(&root, opened.as_fd(), a..a + 1).is_none(), "it is gone");
    symlink(place.outside().join("secret"), place.at("d/A")).unwrap();
    assert!(named.look(&root, opened.as_fd(), a..a + 1).is_none(), "it is a link");
    std::fs::remove_file(place.at("d/A")).unwrap();
    place.folder("d/A");
    assert!(named.look(&root, opened.as_fd(), a..a + 1).is_none(), "it is a folder");
    assert!(named.look(&root, opened.as_fd(), 0..named.len()).is_none(), "also among many");
    assert!(named.look(&root, opened.as_fd(), z..z + 1).is_some());
}

#[test]
fn an_excluded_folder_is_not_named_and_one_that_appears_later_is_not_shown() {
    let place = Place::new();
    place.folder("state").file("film", "x").folder("other");
    let root =
        Root::open(&place.root(), CatalogOptions { show_hidden: true, excluded: vec![place.at("state"), place.at("later")] }).unwrap();
    let opened = root.open_folder(&CatalogPath::root()).unwrap();
    let (names, uncounted) = folder::names(&root, &CatalogPath::root(), opened.as_fd(), MAX_LISTED).unwrap();
    let named = Named::of(&root, opened.as_fd(), names, uncounted).unwrap();
    assert_eq!((0..named.len()).map(|at| named.at(at).1.to_vec()).collect::<Vec<_>>(), [b"other".to_vec(), b"film".to_vec()]);
    // The name stays and leads to what must not be seen.
    std::fs::rename(place.at("other"), place.at("moved")).unwrap();
    place.folder("later");
    root.rules().look_again();
    std::fs::rename(place.at("later"), place.at("other")).unwrap();
    assert!(named.look(&root, opened.as_fd(), 0..2).is_none());
    let listing = Listings::default().list(&root, &CatalogPath::root(), &ListQuery { limit: 9, ..ListQuery::default() }).unwrap();
    assert_eq!(listing.entries.iter().map(|entry| entry.path.name()).collect::<Vec<_>>(), ["moved", "film"]);
}

#[test]
fn types_that_a_file_system_keeps_to_itself_are_looked_at() {
    let (place, _socket) = folder_of_everything();
    let root = Root::open(&place.root(), CatalogOptions::default()).unwrap();
    let opened = root.open_folder(&path("d")).unwrap();
    let mut names = Names::default();
    for name in [c"A", c"Zoo", c"pipe", c"link", c"socket"] {
        names.push(name, FileType::Unknown);
    }
    let named = Named::of(&root, opened.as_fd(), names, 3).unwrap();
    assert_eq!((named.at(0), named.at(1)), ((0, &b"Zoo"[..]), (1, &b"A"[..])));
    assert_eq!((named.len(), named.total()), (2, 5));
    let mut names = Names::default();
    (0..=MAX_LOOKED_AT).for_each(|_| names.push(c"A", FileType::Unknown));
    assert_eq!(Named::of(&root, opened.as_fd(), names, 0).unwrap_err().len(), MAX_LOOKED_AT + 1, "looked at by several threads instead");
}

proptest! {
    #[test]
    fn the_first_ones_and_all_of_them_are_in_natural_order(
        plain in proptest::collection::vec("(IMG_|img_|a|1|0)?[aAbB012é_]{1,4}", 1..60),
        most in 1_usize..20,
    ) {
        let mut names = Names::default();
        plain.iter().for_each(|name| names.push(&CString::new(name.as_str()).unwrap(), FileType::RegularFile));
        let shown = (0..plain.len() as u32).map(|name| {
            let kind = if name % 5 == 0 { EntryKind::Folder } else { EntryKind::File };
            Shown { name, kind }
        });
        let named = Named { names, shown: shown.collect(), uncounted: 0, head: Vec::new(), order: OnceLock::new() };
        let of = |order: Vec<u32>| order.into_iter().map(|at| (rank(named.shown[at as usize].kind), named.name(at as usize))).collect::<Vec<_>>();
        let mut expected = of((0..plain.len() as u32).collect());
        expected.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| natural::compare(a.1, b.1)));
        let (all, first) = (of(named.sorted()), of(named.first(most)));
        prop_assert_eq!(&all, &expected);
        prop_assert_eq!(&first[..], &expected[..most.min(expected.len())]);
    }
}
