//! The NAS, read-only: list, search, and open a file below the root.
//!
//! A path is never trusted twice. [`Catalog::open`] is the only way to bytes: below the root, through no symbolic link, and what
//! it opened is what is compared, measured and sent. Symbolic links, devices, pipes and sockets do not exist here, and neither do
//! hidden names (unless the owner asks for them) and the folders of the program itself. Names are bytes throughout.
//!
//! A NAS can hang for ever. Nothing here waits for it on a runtime thread, and no answer takes longer than [`PATIENCE`].
//!
//! * `below_root.rs`: from a path to a descriptor. `hidden.rs`: what is not shown. `file_system.rs`: what is local.
//! * `folder.rs`: reads one folder, `named.rs` its names alone. `listing.rs`: pages of it. `natural.rs`, `fold.rs`: how names sort and compare.
//! * `index.rs`: walks in the background into a `tree.rs`, which `search.rs` and `fuzzy.rs` search; `newest.rs`: what is new in it.
//! * `filter.rs`: only some categories, sizes and times. `changing.rs`: what is still being written.
//! * `digests.rs`: SHA-256 in the background. `own_byte.rs`: what a self-test shares. `gate.rs`, `priority.rs`: how little of the machine all this may take.

mod below_root;
mod changing;
mod digests;
mod error;
mod file_system;
mod filter;
mod fold;
mod folder;
mod fuzzy;
mod gate;
mod hidden;
mod index;
mod listing;
mod mime;
mod named;
mod natural;
mod newest;
mod own_byte;
mod priority;
mod search;
mod tree;

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::causes::Causes;
use crate::share::{CatalogPath, FileIdentity, Timestamp};

pub use digests::Digests;
pub use error::CatalogError;
pub use filter::{CATEGORIES, Categories, Category, Filter};
pub use mime::mime_type;
pub use own_byte::OWN_BYTE;

/// How long a question may wait for the NAS before it is answered with [`CatalogError::Busy`]: longer than a disk takes to
/// spin up, shorter than a person waits.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How many calls may be with the NAS at once: enough for its disks to be busy, few beside the runtime's 512 blocking threads.
const MAX_CALLS: usize = 32;
/// How long opening a file may take that needs no waiting: ten thousand times as long as it does, so that a busy machine is not
/// taken for a file that is held back.
const MAX_AT_ONCE: Duration = Duration::from_millis(200);
/// How many searches may run at once; they read memory and so are as many as a small machine has cores.
const MAX_SEARCHES: usize = 4;
/// How long a list of all files waits for what has just been added.
const FRESHNESS_PATIENCE: Duration = Duration::from_secs(1);

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
        if self.identity == own_byte::IDENTITY {
            // It is sealed.
            return Ok(self.identity);
        }
        // An open file stays where it is.
        Ok(FileIdentity { device: self.identity.device, ..below_root::identity_of(&rustix::fs::fstat(&self.file)?) })
    }
}

/// What a catalog shows.
#[derive(Debug, Clone, Default)]
pub struct CatalogOptions {
    /// Whether names that begin with a dot, and the folders that NAS systems keep for themselves, are shown and may be shared.
    pub show_hidden: bool,
    /// Folders that are never shown, whatever they are called: where this program keeps its own state.
    pub excluded: Vec<std::path::PathBuf>,
    /// Whether other machines have the same folder mounted, and share its files with this one: each numbers its devices by itself, so
    /// that the root's own is called 0 on all of them.
    pub is_mounted_elsewhere: bool,
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
    pub modified: Timestamp,
    /// All that is below a folder, as far as the index knows it; `None` for a file.
    pub below: Option<Below>,
}

/// All that is below a folder, however deep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Below {
    /// How many files.
    pub files: u64,
    /// How long they are together, in bytes.
    pub bytes: u64,
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
    /// Only those that it lets pass.
    pub filter: Filter,
}

/// The most entries one page holds.
pub const MAX_ENTRIES: usize = 1000;

/// A page of a folder.
#[derive(Debug, Clone)]
pub struct Listing {
    /// Its entries.
    pub entries: Vec<Entry>,
    /// How many entries the folder has in all that pass the filter.
    pub total: usize,
    /// What to ask for next; `None` on the last page.
    pub next_cursor: Option<String>,
}

/// What a search found.
#[derive(Debug, Clone)]
pub struct SearchAnswer {
    /// The best first.
    pub hits: Vec<Hit>,
    /// How many there are in all; those whose names are only nearly so are looked for where the others leave room.
    pub total: usize,
    /// How much the index knows.
    pub index: IndexState,
}

/// What is newest.
#[derive(Debug, Clone)]
pub struct NewestAnswer {
    /// The newest first.
    pub entries: Vec<Entry>,
    /// How many pass the filter in all.
    pub total: usize,
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

/// How well the index keeps up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IndexHealth {
    /// How much it knows.
    pub state: IndexState,
    /// How long ago the last whole walk ended; `None` before the first.
    pub age: Option<Duration>,
    /// Whether the last walk failed.
    pub is_failing: bool,
}

/// The files an owner may pick, read-only.
#[derive(Debug)]
pub struct Catalog {
    root: Arc<below_root::Root>,
    listings: Arc<listing::Listings>,
    index: index::Index,
    calls: gate::Gate,
    searches: gate::Gate,
    /// Whether files are opened on the caller's own thread where that waits for nothing.
    opens_at_once: AtomicBool,
    /// The byte of a self-test; `None` where the kernel gives none.
    own_byte: Option<File>,
}

impl Catalog {
    /// Opens the root. Everything is found relative to this descriptor from here on.
    ///
    /// # Errors
    /// [`CatalogError::Io`] where it is no readable folder, or is itself excluded; the source names the folder.
    pub fn new(root: &Path, options: CatalogOptions) -> Result<Self, CatalogError> {
        Ok(Self {
            root: Arc::new(below_root::Root::open(root, options)?),
            listings: Arc::default(),
            index: index::Index::new(),
            calls: gate::Gate::new(MAX_CALLS, PATIENCE),
            searches: gate::Gate::new(MAX_SEARCHES, PATIENCE),
            opens_at_once: AtomicBool::new(true),
            own_byte: own_byte::make()
                .inspect_err(|error| tracing::warn!(error = %Causes(&error), "There is no byte for a self-test"))
                .ok(),
        })
    }

    /// Builds the index and keeps it fresh until `shutdown`.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        self.index.keep_fresh(Arc::clone(&self.root), shutdown).await;
    }

    /// Opens a regular file; by the path of a self-test, the program's own byte.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn open(&self, path: &CatalogPath) -> Result<OpenFile, CatalogError> {
        if path.is_self_test() {
            let own = self.own_byte.as_ref().ok_or_else(|| CatalogError::NotFound { path: path.clone() })?;
            return own_byte::open(own).map_err(|source| CatalogError::Io { source });
        }
        if self.opens_at_once.load(Ordering::Relaxed) {
            let began = Instant::now();
            let open = self.root.open_file_at_once(path);
            self.note_how_long(began.elapsed());
            if let Some(open) = open {
                return Ok(open);
            }
        }
        let path = path.clone();
        self.call(move |root| root.open_file(&path)).await
    }

    /// Opens files as where something holds that back.
    #[cfg(test)]
    pub(crate) fn open_by_threads(&self) {
        self.opens_at_once.store(false, Ordering::Relaxed);
    }

    /// Something may hold an open back that the kernel itself would not, as a virus scanner does. Where that was seen once, it
    /// is always waited for on a thread of its own.
    fn note_how_long(&self, took: Duration) {
        if took > MAX_AT_ONCE && self.opens_at_once.swap(false, Ordering::Relaxed) {
            tracing::info!(?took, "Something holds back the opening of files; from here on they are opened by other threads");
        }
    }

    /// Says what a path is.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn entry(&self, path: &CatalogPath) -> Result<Entry, CatalogError> {
        let (path, (tree, _)) = (path.clone(), self.index.snapshot());
        self.call(move |root| entry_at(root, &tree, &path)).await
    }

    /// Looks at one path after the other until it has found `limit` that are files; passes over the others, whatever is wrong with
    /// them. All together may take no longer than [`PATIENCE`].
    ///
    /// # Errors
    /// [`CatalogError::Busy`] where the NAS does not answer.
    pub async fn files_at(&self, paths: Vec<CatalogPath>, limit: usize) -> Result<Vec<Entry>, CatalogError> {
        let (tree, _) = self.index.snapshot();
        self.call(move |root| {
            let mut files = Vec::with_capacity(limit.min(paths.len()));
            for path in paths {
                if files.len() >= limit {
                    break;
                }
                match entry_at(root, &tree, &path) {
                    Ok(entry) => files.extend(Some(entry).filter(|entry| entry.kind == EntryKind::File)),
                    Err(CatalogError::Busy) => return Err(CatalogError::Busy),
                    Err(_) => {}
                }
            }
            Ok(files)
        })
        .await
    }

    /// Lists a page of a folder.
    ///
    /// # Errors
    /// [`CatalogError`]; [`CatalogError::InvalidQuery`] where the cursor is of no page in this order.
    pub async fn list(&self, path: &CatalogPath, query: ListQuery) -> Result<Listing, CatalogError> {
        let (path, listings, (tree, _)) = (path.clone(), Arc::clone(&self.listings), self.index.snapshot());
        self.call(move |root| {
            let mut listing = listings.list(root, &path, &query)?;
            tree.tell_below(&path, &mut listing.entries);
            Ok(listing)
        })
        .await
    }

    /// Finds files and folders by a part of their names or paths, then by letters in order (fuzzy), as far as the filter lets them
    /// pass. At most [`MAX_ENTRIES`].
    ///
    /// # Errors
    /// [`CatalogError::InvalidQuery`] where the text is too long, [`CatalogError::Busy`] where too many search.
    pub async fn search(&self, text: &str, filter: Filter, limit: usize) -> Result<SearchAnswer, CatalogError> {
        let query = search::Query::parse(text)?;
        self.index.want_fresh();
        let (tree, index) = self.index.snapshot();
        let limit = limit.clamp(1, MAX_ENTRIES);
        let (hits, total) = self.searches.run(move || search::search(&tree, &query, &filter, limit)).await?;
        Ok(SearchAnswer { hits, total, index })
    }

    /// Finds what changed last, of all that the index knows and the filter lets pass. At most [`MAX_ENTRIES`].
    ///
    /// # Errors
    /// [`CatalogError::Busy`] where too many search.
    pub async fn newest(&self, filter: Filter, limit: usize) -> Result<NewestAnswer, CatalogError> {
        self.index.want_fresh();
        let (tree, index) = self.index.snapshot();
        let limit = limit.clamp(1, MAX_ENTRIES);
        let (entries, total) = self.searches.run(move || newest::newest(&tree, &filter, limit)).await?;
        Ok(NewestAnswer { entries, total, index })
    }

    /// Returns how well the index keeps up.
    pub fn index_health(&self) -> IndexHealth {
        self.index.health()
    }

    /// Returns every file's path, sorted, as far as the index knows them, at most `limit`.
    ///
    /// Waits a moment for the index to learn of what has just been added. Empty where too many search at once.
    pub async fn all_files(&self, limit: usize) -> Vec<CatalogPath> {
        self.index.freshen(FRESHNESS_PATIENCE).await;
        let (tree, _) = self.index.snapshot();
        self.searches.run(move || tree.files_sorted(limit)).await.unwrap_or_default()
    }

    /// Returns whether the root is still there and is the folder it was at the start: false when a NAS was unmounted.
    pub async fn is_reachable(&self) -> bool {
        self.call(|root| Ok(root.is_reachable())).await.unwrap_or(false)
    }

    async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&below_root::Root) -> Result<T, CatalogError> + Send + 'static,
    ) -> Result<T, CatalogError> {
        let root = Arc::clone(&self.root);
        self.calls.run(move || call(&root)).await?
    }
}

/// Says what a path is. Blocks.
fn entry_at(root: &below_root::Root, tree: &tree::Tree, path: &CatalogPath) -> Result<Entry, CatalogError> {
    let stat = root.stat(path)?;
    let kind = folder::kind_of(&stat).ok_or_else(|| CatalogError::NotRegular { path: path.clone() })?;
    let below = if kind == EntryKind::Folder { tree.below_path(path) } else { None };
    Ok(Entry { path: path.clone(), kind, size_bytes: folder::size_of(&stat, kind), modified: folder::modified_of(&stat), below })
}

/// Where digests outlive the process; the store is one.
pub trait DigestCache: Send + Sync + 'static {
    /// Returns the SHA-256 of a file's state, where it is known.
    fn load(&self, identity: FileIdentity) -> BoxFuture<'_, Option<[u8; 32]>>;
    /// Keeps the SHA-256 of a file's state. A failure costs that it is computed again.
    fn keep(&self, identity: FileIdentity, sha256: [u8; 32]) -> BoxFuture<'_, ()>;
}

#[cfg(test)]
mod tests;
