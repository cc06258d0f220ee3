use std::os::unix::fs::symlink;
use std::time::SystemTime;

use super::super::CatalogOptions;
use super::super::tests::{Place, path};
use super::*;

fn root(place: &Place) -> Root {
    Root::open(&place.root(), CatalogOptions::default()).unwrap()
}

fn query(sort: Sort, limit: usize, cursor: Option<String>) -> ListQuery {
    ListQuery { sort, cursor, limit, ..ListQuery::default() }
}

/// Lists all pages; `between` runs after each.
fn all_pages(root: &Root, sort: Sort, limit: usize, mut between: impl FnMut(usize)) -> Vec<String> {
    let (mut names, mut cursor, mut page) = (Vec::new(), None, 0);
    loop {
        // A page is read anew each time, as if what was kept had grown old.
        let listing = Listings::default().list(root, &CatalogPath::root(), &query(sort, limit, cursor)).unwrap();
        assert!(listing.entries.len() <= limit);
        names.extend(listing.entries.iter().map(|entry| entry.path.name()));
        between(page);
        page += 1;
        match listing.next_cursor {
            Some(next) => cursor = Some(next),
            None => return names,
        }
    }
}

fn set_age(place: &Place, name: &str, seconds: u64) {
    let file = std::fs::File::options().write(true).open(place.at(name)).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 - seconds)).unwrap();
}

#[test]
fn a_folder_is_listed_in_three_orders_folders_first() {
    let place = Place::new();
    place.folder("z folder").folder("A folder").file("b10", "1").file("b9", "333").file("C", "22");
    for (name, seconds) in [("b10", 3), ("b9", 1), ("C", 2)] {
        set_age(&place, name, seconds);
    }
    let root = root(&place);
    let names = |sort| all_pages(&root, sort, 100, |_| {});
    assert_eq!(names(Sort::Name), ["A folder", "z folder", "b9", "b10", "C"]);
    assert_eq!(names(Sort::Largest), ["A folder", "z folder", "b9", "C", "b10"]);
    assert_eq!(names(Sort::Newest)[2..], ["b9", "C", "b10"]);
}

#[test]
fn what_is_not_in_the_catalog_is_not_listed_or_counted() {
    let place = Place::new();
    place.file("film", "x").file(".hidden", "x").file("Thumbs.db", "x").folder("@eaDir").folder("state");
    symlink(place.at("film"), place.at("link")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, place.at("pipe"), rustix::fs::Mode::RUSR).unwrap();
    let list = |options| {
        let root = Root::open(&place.root(), options).unwrap();
        let listing = Listings::default().list(&root, &CatalogPath::root(), &query(Sort::Name, 100, None)).unwrap();
        assert_eq!(listing.total, listing.entries.len());
        listing.entries.iter().map(|entry| entry.path.name()).collect::<Vec<_>>()
    };
    let excluded = vec![place.at("state")];
    assert_eq!(list(CatalogOptions { show_hidden: false, excluded: excluded.clone(), ..Default::default() }), ["film"]);
    assert_eq!(list(CatalogOptions { show_hidden: true, excluded, ..Default::default() }), ["@eaDir", ".hidden", "film", "Thumbs.db"]);
    assert_eq!(list(CatalogOptions::default()), ["state", "film"]);
}

#[test]
fn pages_put_together_are_the_folder_in_every_order() {
    let place = Place::new();
    for number in 0..57 {
        place.file(format!("f{number}"), &"x".repeat(number % 5));
        set_age(&place, &format!("f{number}"), number as u64 % 7);
    }
    place.folder("d1").folder("d2").file(b"\xFF\n", "");
    let root = root(&place);
    for sort in [Sort::Name, Sort::Newest, Sort::Largest] {
        let whole = all_pages(&root, sort, 1000, |_| {});
        assert_eq!(whole.len(), 60);
        for limit in [1, 2, 7, 59, 60] {
            assert_eq!(all_pages(&root, sort, limit, |_| {}), whole, "{sort:?} by {limit}");
        }
    }
}

#[test]
fn entries_that_come_and_go_between_pages_leave_the_others_alone() {
    let place = Place::new();
    for number in 0..30 {
        place.file(format!("f{number}"), "x");
    }
    let names = all_pages(&root(&place), Sort::Name, 10, |page| {
        if page == 0 {
            // The entry that the cursor names, one that was shown, one that was not; one before, one behind.
            for gone in ["f9", "f3", "f15"] {
                std::fs::remove_file(place.at(gone)).unwrap();
            }
            place.file("a new one", "x").file("f20b", "x");
        }
    });
    let mut expected: Vec<String> = (0..30).filter(|number| *number != 15).map(|number| format!("f{number}")).collect();
    expected.insert(20, "f20b".to_owned());
    assert_eq!(names, expected);
}

#[test]
fn a_file_that_grows_between_pages_of_the_largest_is_not_lost() {
    let place = Place::new();
    for number in 0..9 {
        place.file(format!("f{number}"), &"x".repeat(100 - number));
    }
    let names = all_pages(&root(&place), Sort::Largest, 3, |page| {
        if page == 0 {
            place.file("f8", &"x".repeat(98));
        }
    });
    assert_eq!(names, ["f0", "f1", "f2", "f8", "f3", "f4", "f5", "f6", "f7"]);
}

#[test]
fn a_cursor_that_no_page_gave_is_refused_in_a_sentence() {
    let place = Place::new();
    place.file("a", "").file("b", "");
    let root = root(&place);
    let listings = Listings::default();
    let given = listings.list(&root, &CatalogPath::root(), &query(Sort::Name, 1, None)).unwrap().next_cursor.unwrap();
    for wrong in ["", "zz", "6e", "é", &given[1..], &"00".repeat(300), &given.replacen("6e", "74", 1)] {
        let answer = listings.list(&root, &CatalogPath::root(), &query(Sort::Name, 1, Some(wrong.to_owned())));
        assert!(matches!(answer, Err(CatalogError::InvalidQuery { .. })), "{wrong:?}");
    }
    let other_order = listings.list(&root, &CatalogPath::root(), &query(Sort::Newest, 1, Some(given)));
    assert!(matches!(other_order, Err(CatalogError::InvalidQuery { .. })));
}

#[test]
fn a_kept_folder_is_used_until_it_changes_and_a_change_is_seen_at_once() {
    let place = Place::new();
    place.file("a", "");
    let (root, listings) = (root(&place), Listings::default());
    let list = || listings.list(&root, &CatalogPath::root(), &query(Sort::Name, 100, None)).unwrap().total;
    assert_eq!(list(), 1);
    let kept = || match &listings.kept.lock().unwrap()[0].folder {
        Folder::Named(named) => Arc::as_ptr(named),
        Folder::Whole(_) => panic!("in the order of names its names are enough"),
    };
    let before = kept();
    assert_eq!((list(), kept()), (1, before));
    place.file("b", "");
    // The file system's clock may tick too slowly to tell this from the first listing.
    std::fs::File::open(place.root()).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(list(), 2);
    assert_ne!(kept(), before);
}

#[test]
fn so_many_folders_are_kept_and_no_more() {
    let place = Place::new();
    let root_of = root(&place);
    let listings = Listings::default();
    for number in 0..MAX_KEPT_FOLDERS + 5 {
        place.folder(format!("d{number}"));
        listings.list(&root_of, &path(format!("d{number}")), &query(Sort::Name, 1, None)).unwrap();
        // Looked at again and again, so it stays.
        listings.list(&root_of, &path("d0"), &query(Sort::Name, 1, None)).unwrap();
    }
    let kept = listings.kept.lock().unwrap();
    assert_eq!(kept.len(), MAX_KEPT_FOLDERS);
    assert!(kept.iter().any(|one| one.path == path("d0")));
    assert!(!kept.iter().any(|one| one.path == path("d1")));
}

#[test]
fn so_many_entries_are_kept_over_all_folders() {
    let listings = Listings::default();
    for number in 0..5 {
        let row = Row { name: (*b"x").into(), kind: super::super::EntryKind::File, size_bytes: 0, modified: crate::share::Timestamp(0) };
        let content = Content { rows: vec![row; MAX_KEPT_ENTRIES / 3], total: 0 };
        let stamp = FileIdentity { device: 0, inode: 0, size_bytes: 0, modified_ns: 0, changed_ns: 0 };
        let until = Instant::now() + MAX_AGE;
        listings.keep(Kept { path: path(format!("d{number}")), stamp, until, folder: Folder::Whole(Arc::new(Whole::new(content))) });
    }
    let kept: Vec<_> = listings.kept.lock().unwrap().iter().map(|one| one.path.clone()).collect();
    assert_eq!(kept, [path("d2"), path("d3"), path("d4")]);
}

#[test]
fn more_entries_than_are_listed_are_counted_truthfully() {
    let place = Place::new();
    for number in 0..25 {
        place.file(format!("f{number}"), "");
    }
    place.file(".hidden", "");
    let root = root(&place);
    let opened = root.open_folder(&CatalogPath::root()).unwrap();
    let content = folder::read(&root, &CatalogPath::root(), &opened, 10).unwrap();
    assert_eq!((content.rows.len(), content.total), (10, 25));
}

#[test]
fn names_that_would_make_a_path_too_long_are_left_out() {
    let place = Place::new();
    let (deep, name) = ("d".repeat(250), "x".repeat(200));
    let mut at = rustix::fs::open(place.root(), rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    let mut long = Vec::new();
    for _ in 0..16 {
        rustix::fs::mkdirat(&at, deep.as_str(), rustix::fs::Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, deep.as_str(), rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
        long.push(deep.clone());
    }
    for name in [name.as_str(), "short"] {
        let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
        rustix::fs::openat(&at, name, flags, rustix::fs::Mode::RUSR).unwrap();
    }
    let folder = path(long.join("/"));
    for way in [super::super::below_root::Way::OpenAt2, super::super::below_root::Way::Walk] {
        let root = Root::open_by(&place.root(), CatalogOptions::default(), Some(way)).unwrap();
        let listing = Listings::default().list(&root, &folder, &query(Sort::Name, 10, None)).unwrap();
        assert_eq!(listing.entries.iter().map(|entry| entry.path.name()).collect::<Vec<_>>(), ["short"]);
        assert!(root.open_file(&listing.entries[0].path).is_ok());
    }
}

#[test]
fn limits_are_cut_to_what_a_page_holds() {
    let place = Place::new();
    for number in 0..MAX_ENTRIES + 1 {
        place.file(format!("f{number}"), "");
    }
    let root = root(&place);
    let count = |limit| Listings::default().list(&root, &CatalogPath::root(), &query(Sort::Name, limit, None)).unwrap().entries.len();
    assert_eq!((count(0), count(usize::MAX)), (1, MAX_ENTRIES));
}
