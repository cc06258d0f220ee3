//! The NAS, read-only: list, search, and open a file below the root.
//!
//! A path is never trusted twice. [`Catalog::open`] is the only way to bytes: one `openat2` below the root, and what it
//! opened is what is compared, measured and sent.

use std::fs::File;
use std::io;

use crate::share::{CatalogPath, FileIdentity};

/// An open regular file below the root: the descriptor that is compared with what was pinned, and that is sent.
#[derive(Debug)]
pub struct OpenFile {
    /// The descriptor, read-only.
    pub file: File,
    /// What it was when it was opened.
    pub identity: FileIdentity,
    /// Whether asking it about itself and reading what is in memory cannot block: a local file system, not NFS, SMB or FUSE.
    pub is_local: bool,
}

impl OpenFile {
    /// Returns what the open file is at this instant. May block where `is_local` is false.
    ///
    /// # Errors
    /// What `fstat(2)` says.
    pub fn identity_now(&self) -> io::Result<FileIdentity> {
        unimplemented!()
    }
}

/// Says why a path of the catalog gave no file.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// There is nothing of that name (or it is hidden, or behind a symbolic link, which is not followed).
    #[error("there is no file {}", .path.for_display())]
    NotFound {
        /// What was asked for.
        path: CatalogPath,
    },
    /// It is a folder.
    #[error("{} is a folder; share a file in it", .path.for_display())]
    IsFolder {
        /// What was asked for.
        path: CatalogPath,
    },
    /// It is neither a file nor a folder.
    #[error("{} is a device, a pipe or a socket, which cannot be shared", .path.for_display())]
    NotRegular {
        /// What was asked for.
        path: CatalogPath,
    },
    /// It is a file where a folder was asked for.
    #[error("{} is not a folder", .path.for_display())]
    NotFolder {
        /// What was asked for.
        path: CatalogPath,
    },
    /// The process may not read it.
    #[error("portcullis may not read {}; check its permissions on the NAS", .path.for_display())]
    Denied {
        /// What was asked for.
        path: CatalogPath,
    },
    /// The NAS did not answer in time, or too many calls wait for it already.
    #[error("the NAS does not answer at the moment")]
    Busy,
    /// Anything else that the file system said.
    #[error("the NAS could not be read")]
    Io {
        /// What it said.
        #[source]
        source: io::Error,
    },
}

/// What a catalog shows.
#[derive(Debug, Clone, Default)]
pub struct CatalogOptions {
    /// Whether names that begin with a dot, and the folders that NAS systems keep for themselves, are shown and may be shared.
    pub show_hidden: bool,
    /// Folders that are never shown, whatever they are called: where this program keeps its own state.
    pub excluded: Vec<std::path::PathBuf>,
}

/// What an entry of a folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A regular file, which can be shared.
    File,
    /// A folder.
    Folder,
}

/// One thing in the catalog. Symbolic links, devices, pipes and sockets are not in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where.
    pub path: CatalogPath,
    /// What.
    pub kind: EntryKind,
    /// How long, in bytes; 0 for a folder.
    pub size_bytes: u64,
    /// When its content last changed.
    pub modified: crate::share::Timestamp,
}

/// In which order a folder is listed; folders stand first in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// By name, numbers in it by their value, letters whatever their case.
    #[default]
    Name,
    /// Newest first.
    Newest,
    /// Largest first.
    Largest,
}

/// Which page of a folder is wanted.
#[derive(Debug, Clone, Default)]
pub struct ListQuery {
    /// In which order.
    pub sort: Sort,
    /// Where the page before ended: its `next_cursor`.
    pub cursor: Option<String>,
    /// At most so many entries: 1 to [`MAX_ENTRIES`].
    pub limit: usize,
}

/// The most entries one page holds.
pub const MAX_ENTRIES: usize = 1000;

/// A page of a folder.
#[derive(Debug, Clone)]
pub struct Listing {
    /// Its entries.
    pub entries: Vec<Entry>,
    /// How many entries the folder has in all.
    pub total: usize,
    /// What to ask for next; `None` on the last page.
    pub next_cursor: Option<String>,
}

/// What a search found.
#[derive(Debug, Clone)]
pub struct SearchAnswer {
    /// The best first.
    pub hits: Vec<Hit>,
    /// How much the index knows.
    pub index: IndexState,
}

/// One thing that a search found.
#[derive(Debug, Clone)]
pub struct Hit {
    /// What.
    pub entry: Entry,
    /// Which characters of the name's text form matched, as `start..end` counted in characters.
    pub highlights: Vec<(usize, usize)>,
}

/// How much the index knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct IndexState {
    /// Whether it is being built for the first time.
    pub building: bool,
    /// How many files it holds.
    pub files: usize,
    /// Whether there are more than it may hold.
    pub truncated: bool,
}

/// The files an owner may pick, read-only.
#[derive(Debug)]
pub struct Catalog {}

impl Catalog {
    /// Opens the root. Everything is found relative to this descriptor from here on.
    ///
    /// # Errors
    /// [`CatalogError`] where it is no readable folder.
    pub fn new(root: &std::path::Path, options: CatalogOptions) -> Result<Self, CatalogError> {
        let _ = (root, options);
        unimplemented!()
    }

    /// Builds the index and keeps it fresh until `shutdown`.
    pub async fn run(self: std::sync::Arc<Self>, shutdown: tokio_util::sync::CancellationToken) {
        let _ = shutdown;
        unimplemented!()
    }

    /// Opens a regular file.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn open(&self, path: &CatalogPath) -> Result<OpenFile, CatalogError> {
        let _ = path;
        unimplemented!()
    }

    /// Says what a path is.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn entry(&self, path: &CatalogPath) -> Result<Entry, CatalogError> {
        let _ = path;
        unimplemented!()
    }

    /// Lists a page of a folder.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn list(&self, path: &CatalogPath, query: ListQuery) -> Result<Listing, CatalogError> {
        let _ = (path, query);
        unimplemented!()
    }

    /// Finds files and folders by a part of their names or paths, then by letters in order (fuzzy).
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn search(&self, text: &str, limit: usize) -> Result<SearchAnswer, CatalogError> {
        let _ = (text, limit);
        unimplemented!()
    }

    /// Returns every file's path, sorted, as far as the index knows them, at most `limit`.
    pub async fn all_files(&self, limit: usize) -> Vec<CatalogPath> {
        let _ = limit;
        unimplemented!()
    }

    /// Returns whether the root is still there and is the folder it was at the start: false when a NAS was unmounted.
    pub async fn is_reachable(&self) -> bool {
        unimplemented!()
    }
}

/// Returns the media type that a name suggests, as `video/mp4`; `application/octet-stream` where it suggests none.
pub fn mime_type(name: &[u8]) -> String {
    let _ = name;
    unimplemented!()
}

/// Where digests outlive the process; the store is one.
pub trait DigestCache: Send + Sync + 'static {
    /// Returns the SHA-256 of a file's state, where it is known.
    fn load(&self, identity: FileIdentity) -> futures_util::future::BoxFuture<'_, Option<[u8; 32]>>;
    /// Keeps the SHA-256 of a file's state. A failure costs that it is computed again.
    fn keep(&self, identity: FileIdentity, sha256: [u8; 32]) -> futures_util::future::BoxFuture<'_, ()>;
}

/// Computes SHA-256 in the background, one file after the other, at idle priority.
pub struct Digests {}

impl Digests {
    /// Sets up the queue. `run` does the work.
    pub fn new(catalog: std::sync::Arc<Catalog>, cache: std::sync::Arc<dyn DigestCache>) -> Self {
        let _ = (catalog, cache);
        unimplemented!()
    }

    /// Computes what is wanted until `shutdown`.
    pub async fn run(self: std::sync::Arc<Self>, shutdown: tokio_util::sync::CancellationToken) {
        let _ = shutdown;
        unimplemented!()
    }

    /// Asks for a file's digest. Asking twice is fine; past a bound of waiting files it is forgotten.
    pub fn want(&self, path: &CatalogPath, identity: FileIdentity) {
        let _ = (path, identity);
        unimplemented!()
    }

    /// Returns a digest that is known already, from memory only.
    pub fn known(&self, identity: FileIdentity) -> Option<[u8; 32]> {
        let _ = identity;
        unimplemented!()
    }

    /// Tells of each digest as it becomes known.
    pub fn watch(&self) -> tokio::sync::broadcast::Receiver<(FileIdentity, [u8; 32])> {
        unimplemented!()
    }
}
