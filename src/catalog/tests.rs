//! The catalog as others use it; and a folder to try things in, which the tests of each file share.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::*;

/// A folder to try things in, with the catalog's root in it and a place beside it that must never be seen.
pub(super) struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("root")).unwrap();
        std::fs::create_dir(folder.path().join("outside")).unwrap();
        std::fs::write(folder.path().join("outside/secret"), "secret").unwrap();
        Self { folder }
    }

    pub(super) fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    pub(super) fn outside(&self) -> PathBuf {
        self.folder.path().join("outside")
    }

    /// Returns where a path of the catalog lies.
    pub(super) fn at(&self, path: impl AsRef<[u8]>) -> PathBuf {
        self.root().join(OsStr::from_bytes(path.as_ref()))
    }

    /// Writes a file, with the folders on the way.
    pub(super) fn file(&self, path: impl AsRef<[u8]>, content: &str) -> &Self {
        let at = self.at(path);
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        std::fs::write(at, content).unwrap();
        self
    }

    pub(super) fn folder(&self, path: impl AsRef<[u8]>) -> &Self {
        std::fs::create_dir_all(self.at(path)).unwrap();
        self
    }

    pub(super) fn catalog(&self) -> Arc<Catalog> {
        Arc::new(Catalog::new(&self.root(), CatalogOptions::default()).unwrap())
    }
}

/// Returns a path of the catalog.
pub(super) fn path(bytes: impl AsRef<[u8]>) -> CatalogPath {
    CatalogPath::from_bytes(bytes.as_ref()).unwrap()
}

/// Names that something, somewhere, took for something else.
pub(super) fn hostile_names() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = [
        &b"new\nline"[..],
        b"carriage\rreturn\r\n",
        b"tab\tbell\x07escape\x1b[2J",
        b"\"quotes\" 'n' `ticks`",
        b"-rf",
        b"--help",
        b" leading and trailing ",
        b"a\\b",
        b"C:",
        b"%2e%2e%2f",
        b"%00",
        b"*?[]{}!$&;|<>~#",
        b"\xFF\xFEnot utf-8\x80",
        b"\xC0\xAE\xC0\xAE",
        b"half a character \xE2\x82",
        "\u{202E}gpj.exe".as_bytes(),
        "\u{200B}zero\u{FEFF}width".as_bytes(),
        "ａ／ｂ".as_bytes(),
        "․․".as_bytes(),
        "\u{EF80}private\u{EFFF}".as_bytes(),
        "e\u{301} and é".as_bytes(),
        "🏰".as_bytes(),
        b"x..",
        b"con",
        b"\x01",
    ]
    .into_iter()
    .map(<[u8]>::to_vec)
    .collect();
    names.push(vec![b'n'; 255]);
    names.push("ß".repeat(127).into_bytes());
    names.push(vec![0xFF; 255]);
    names
}

#[tokio::test]
async fn every_hostile_name_is_listed_found_opened_and_read_back_from_its_text() {
    let place = Place::new();
    for name in hostile_names() {
        place.file(&name, "x").file([b"folder/", &name[..]].concat(), "y");
    }
    let catalog = place.catalog();
    let listing = catalog.list(&CatalogPath::root(), ListQuery { limit: MAX_ENTRIES, ..Default::default() }).await.unwrap();
    assert_eq!(listing.total, hostile_names().len() + 1);
    for name in hostile_names() {
        let shown = listing.entries.iter().find(|entry| entry.path.as_bytes() == name).unwrap();
        let asked = CatalogPath::parse(&shown.path.to_text()).unwrap();
        assert_eq!(catalog.entry(&asked).await.unwrap(), *shown);
        assert_eq!(catalog.open(&asked).await.unwrap().identity.size_bytes, 1);
        assert!(catalog.open(&path("folder").join(&name).unwrap()).await.is_ok());
    }
}

#[tokio::test]
async fn the_index_finds_every_hostile_name_by_its_text() {
    let place = Place::new();
    for name in hostile_names() {
        place.file(&name, "x");
    }
    let catalog = place.catalog();
    let shutdown = CancellationToken::new();
    let run = Arc::clone(&catalog).run(shutdown.clone());
    let ask = async {
        assert_eq!(catalog.all_files(1000).await.len(), hostile_names().len());
        for name in hostile_names().iter().filter(|name| name.len() < 100) {
            let text = path(name).name();
            let answer = catalog.search(&text, Filter::default(), 10).await.unwrap();
            let found = answer.hits.iter().find(|hit| hit.entry.path.as_bytes() == name);
            let found = found.unwrap_or_else(|| panic!("{text:?} is not found"));
            let characters = text.chars().count();
            assert!(found.highlights.iter().all(|(start, end)| start < end && *end <= characters), "{text:?}: {:?}", found.highlights);
        }
        shutdown.cancel();
    };
    tokio::join!(run, ask);
}

#[tokio::test]
async fn an_entry_is_a_file_or_a_folder_and_the_root_is_one() {
    let place = Place::new();
    place.file("a/film.mp4", "12345");
    let catalog = place.catalog();
    let file = catalog.entry(&path("a/film.mp4")).await.unwrap();
    assert_eq!((file.kind, file.size_bytes), (EntryKind::File, 5));
    assert!(file.modified.0 > 1_600_000_000_000);
    let folder = catalog.entry(&path("a")).await.unwrap();
    assert_eq!((folder.kind, folder.size_bytes), (EntryKind::Folder, 0));
    assert_eq!(catalog.entry(&CatalogPath::root()).await.unwrap().kind, EntryKind::Folder);
    assert!(matches!(catalog.entry(&path("b")).await, Err(CatalogError::NotFound { .. })));
    assert!(matches!(catalog.entry(&path(".b")).await, Err(CatalogError::NotFound { .. })));
}

#[tokio::test]
async fn files_that_something_holds_back_are_opened_by_other_threads_from_then_on() {
    let place = Place::new();
    let catalog = place.file("film.mkv", "film").catalog();
    let path = CatalogPath::parse("film.mkv").unwrap();
    catalog.note_how_long(MAX_AT_ONCE);
    assert!(catalog.opens_at_once.load(Ordering::Relaxed), "that is no longer than it may take");
    catalog.note_how_long(MAX_AT_ONCE * 2);
    assert!(!catalog.opens_at_once.load(Ordering::Relaxed));
    assert_eq!(catalog.open(&path).await.unwrap().identity.size_bytes, 4);
    catalog.note_how_long(Duration::ZERO);
    assert!(!catalog.opens_at_once.load(Ordering::Relaxed), "it may happen again");
}

#[tokio::test]
async fn an_open_file_says_when_it_changes() {
    let place = Place::new();
    place.file("a", "12345");
    let open = place.catalog().open(&path("a")).await.unwrap();
    assert_eq!(open.identity_now().unwrap(), open.identity);
    std::fs::write(place.at("a"), "1234567").unwrap();
    let now = open.identity_now().unwrap();
    assert_eq!((now.inode, now.size_bytes), (open.identity.inode, 7));
    assert_ne!(now, open.identity);
}

#[tokio::test]
async fn a_root_that_was_moved_away_is_not_reachable() {
    let place = Place::new();
    let catalog = place.catalog();
    assert!(catalog.is_reachable().await);
    std::fs::rename(place.root(), place.at("../elsewhere")).unwrap();
    std::fs::create_dir(place.root()).unwrap();
    assert!(!catalog.is_reachable().await);
}

#[test]
fn a_root_that_is_no_folder_is_refused_with_its_name() {
    let place = Place::new();
    for wrong in ["missing", "file"] {
        place.file("file", "");
        let error = Catalog::new(&place.at(wrong), CatalogOptions::default()).unwrap_err();
        let CatalogError::Io { source } = error else { panic!("{error:?}") };
        assert!(source.to_string().contains(wrong), "{source}");
    }
}

#[test]
fn the_state_folder_itself_cannot_be_the_root() {
    let place = Place::new();
    let options = CatalogOptions { excluded: vec![place.root()], ..Default::default() };
    assert!(matches!(Catalog::new(&place.root(), options), Err(CatalogError::Io { .. })));
}
