use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode, mkfifoat};

use super::super::folder;
use super::super::listing::{Listings, MAX_LISTED};
use super::super::tests::{Place, path};
use super::super::{CatalogOptions, Entry, ListQuery};
use super::*;
use crate::share::CatalogPath;

/// How many plain files a large folder has here: more than one page holds.
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
    let entry = |row: &Row| Entry {
        path: folder.join(&row.name).unwrap(),
        kind: row.kind,
        size_bytes: row.size_bytes,
        modified: row.modified,
        below: None,
    };
    rows.iter().map(entry).collect()
}

#[test]
fn the_answers_are_those_of_looking_at_everything() {
    let (place, _socket) = folder_of_everything();
    let excluded = vec![place.at("d/state")];
    for show_hidden in [false, true] {
        let root = Root::open(&place.root(), CatalogOptions { show_hidden, excluded: excluded.clone(), ..Default::default() }).unwrap();
        let d = path("d");
        let whole = folder::read(&root, &d, root.open_folder(&d).unwrap(), MAX_LISTED).unwrap();
        let expected = entries_of(&whole.rows, &d);
        assert_eq!(expected.len(), MANY + 10 + 2 + if show_hidden { 3 } else { 0 });
        for limit in [1, 7, 400, MAX_ENTRIES] {
            let (listings, mut listed, mut cursor) = (Listings::default(), Vec::new(), None);
            while let Ok(page) = listings.list(&root, &d, &ListQuery { cursor: cursor.clone(), limit, ..ListQuery::default() }) {
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
    let named = named(&root, &path("d"), &opened);
    let first = |most| named.look(&root, opened.as_fd(), most).map(|rows| rows.into_iter().map(|row| row.name).collect::<Vec<_>>());
    let names = first(MAX_ENTRIES).unwrap();
    let at = names.iter().position(|name| **name == *b"A").unwrap();
    std::fs::remove_file(place.at("d/A")).unwrap();
    assert_eq!((first(at), first(at + 1)), (Some(names[..at].to_vec()), None), "it is gone");
    symlink(place.outside().join("secret"), place.at("d/A")).unwrap();
    assert_eq!(first(MAX_ENTRIES), None, "it is a link");
    std::fs::remove_file(place.at("d/A")).unwrap();
    place.folder("d/A");
    assert_eq!(first(MAX_ENTRIES), None, "it is a folder");
    std::fs::remove_dir(place.at("d/A")).unwrap();
    place.file("d/A", "another");
    assert_eq!(first(MAX_ENTRIES), Some(names), "it is a file");
}

#[test]
fn an_excluded_folder_is_not_named_and_one_that_appears_later_is_not_shown() {
    let place = Place::new();
    place.folder("state").file("film", "x").folder("other");
    let options = CatalogOptions { show_hidden: true, excluded: vec![place.at("state"), place.at("later")], ..Default::default() };
    let root = Root::open(&place.root(), options).unwrap();
    let opened = root.open_folder(&CatalogPath::root()).unwrap();
    let named = named(&root, &CatalogPath::root(), &opened);
    let names = |rows: Vec<Row>| rows.into_iter().map(|row| row.name).collect::<Vec<_>>();
    assert_eq!(named.look(&root, opened.as_fd(), 9).map(names), Some(vec![(*b"other").into(), (*b"film").into()]));
    // The name stays and leads to what must not be seen.
    std::fs::rename(place.at("other"), place.at("moved")).unwrap();
    place.folder("later");
    root.rules().look_again();
    std::fs::rename(place.at("later"), place.at("other")).unwrap();
    assert!(named.look(&root, opened.as_fd(), 9).is_none());
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
    let rows = named.look(&root, opened.as_fd(), 9).unwrap();
    assert_eq!(
        rows.iter().map(|row| (&*row.name, row.kind)).collect::<Vec<_>>(),
        [(&b"Zoo"[..], EntryKind::Folder), (b"A", EntryKind::File)]
    );
    assert_eq!((named.len(), named.total()), (2, 5));
    let mut names = Names::default();
    (0..=MAX_LOOKED_AT).for_each(|_| names.push(c"A", FileType::Unknown));
    assert_eq!(Named::of(&root, opened.as_fd(), names, 0).unwrap_err().len(), MAX_LOOKED_AT + 1, "looked at by several threads instead");
}

proptest! {
    #[test]
    fn the_first_ones_are_the_first_of_all(
        plain in proptest::collection::vec("(IMG_|img_|a|1|0)?[aAbB012é_]{1,4}", 0..60),
        most in 1_usize..20,
    ) {
        let place = Place::new();
        let root = Root::open(&place.root(), CatalogOptions::default()).unwrap();
        let opened = root.open_folder(&CatalogPath::root()).unwrap();
        let mut names = Names::default();
        plain.iter().for_each(|name| names.push(&CString::new(name.as_str()).unwrap(), FileType::RegularFile));
        let (first, shown) = first_of(&root, opened.as_fd(), &names, most).unwrap();
        let first: Vec<_> = first.into_iter().map(|(.., index)| plain[index].as_str()).collect();
        let mut expected: Vec<_> = plain.iter().map(String::as_str).collect();
        expected.sort_by(|a, b| natural::compare(a.as_bytes(), b.as_bytes()));
        prop_assert_eq!(&first[..], &expected[..most.min(expected.len())]);
        prop_assert_eq!(shown, plain.len());
    }
}

fn named(root: &Root, path: &CatalogPath, opened: &OwnedFd) -> Named {
    let (names, uncounted) = folder::names(root, path, opened.as_fd(), MAX_LISTED).unwrap();
    Named::of(root, opened.as_fd(), names, uncounted).unwrap()
}
