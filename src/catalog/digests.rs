//! SHA-256 of files, computed in the background.
//!
//! One file at a time, read by one thread at idle priority, so that nobody's download is slower for it. A digest belongs to a
//! state of a file (its [`FileIdentity`]) and not to a path: what changed before, while or after it was read gets none.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{Advice, fadvise};
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{Catalog, DigestCache, OpenFile, priority};
use crate::share::{CatalogPath, FileIdentity};

/// The most files that wait: more than an owner shares in a day.
pub(super) const MAX_WAITING: usize = 1000;
/// The most digests that are kept in memory, about 80 bytes each. The cache has them all.
const MAX_KNOWN: usize = 10_000;
/// How many digests a slow reader of [`Digests::watch`] may be behind.
const WATCH_CAPACITY: usize = 256;
/// How much is read at once. Between two reads the thread looks whether it shall stop: a few milliseconds on any disk.
const CHUNK_BYTES: usize = 256 * 1024;

/// A digest.
type Sha = [u8; 32];

/// Computes SHA-256 in the background, one file after the other, at idle priority.
pub struct Digests {
    catalog: Arc<Catalog>,
    cache: Arc<dyn DigestCache>,
    state: Mutex<State>,
    wanted: Notify,
    told: broadcast::Sender<(FileIdentity, Sha)>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(CatalogPath, FileIdentity)>,
    /// What waits or is being computed.
    pending: HashSet<FileIdentity>,
    known: HashMap<FileIdentity, Sha>,
    /// The known ones, oldest first.
    order: VecDeque<FileIdentity>,
}

/// A file for the thread to read, and where the digest goes.
struct Work {
    file: OpenFile,
    done: oneshot::Sender<Option<Sha>>,
}

impl Digests {
    /// Sets up the queue. `run` does the work.
    pub fn new(catalog: Arc<Catalog>, cache: Arc<dyn DigestCache>) -> Self {
        Self { catalog, cache, state: Mutex::default(), wanted: Notify::new(), told: broadcast::Sender::new(WATCH_CAPACITY) }
    }

    /// Computes what is wanted until `shutdown`.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let reader = match Reader::start() {
            Ok(reader) => reader,
            Err(error) => {
                warn!(%error, "No checksums are computed: no thread could be started");
                return shutdown.cancelled().await;
            }
        };
        let work = async {
            loop {
                let (path, identity) = self.next().await;
                if let Some(sha256) = self.find_out(&path, identity, &reader).await {
                    self.remember(identity, sha256);
                }
                self.state().pending.remove(&identity);
            }
        };
        tokio::select! {
            () = work => {}
            () = shutdown.cancelled() => {}
        }
    }

    /// Asks for a file's digest. Asking twice is fine; past a bound of waiting files it is forgotten.
    pub fn want(&self, path: &CatalogPath, identity: FileIdentity) {
        let mut state = self.state();
        let is_new = !state.known.contains_key(&identity) && !state.pending.contains(&identity);
        if is_new && state.waiting.len() < MAX_WAITING {
            state.pending.insert(identity);
            state.waiting.push_back((path.clone(), identity));
            self.wanted.notify_one();
        }
    }

    /// Returns a digest that is known already, from memory only.
    pub fn known(&self, identity: FileIdentity) -> Option<Sha> {
        self.state().known.get(&identity).copied()
    }

    /// Tells of each digest as it becomes known.
    pub fn watch(&self) -> broadcast::Receiver<(FileIdentity, Sha)> {
        self.told.subscribe()
    }

    async fn next(&self) -> (CatalogPath, FileIdentity) {
        loop {
            let next = self.state().waiting.pop_front();
            match next {
                Some(next) => return next,
                None => self.wanted.notified().await,
            }
        }
    }

    /// Returns the digest of a state of a file; `None` where the file is in another state or cannot be read.
    async fn find_out(&self, path: &CatalogPath, identity: FileIdentity, reader: &Reader) -> Option<Sha> {
        if let Some(kept) = self.cache.load(identity).await {
            return Some(kept);
        }
        let file = match self.catalog.open(path).await {
            Ok(file) if file.identity == identity => file,
            Ok(_) => return None,
            Err(error) => {
                debug!(error = &error as &dyn std::error::Error, "A checksum is left out");
                return None;
            }
        };
        let sha256 = reader.digest(file).await?;
        self.cache.keep(identity, sha256).await;
        Some(sha256)
    }

    fn remember(&self, identity: FileIdentity, sha256: Sha) {
        let mut state = self.state();
        if state.known.insert(identity, sha256).is_none() {
            state.order.push_back(identity);
        }
        if state.order.len() > MAX_KNOWN
            && let Some(oldest) = state.order.pop_front()
        {
            state.known.remove(&oldest);
        }
        drop(state);
        // Nobody may be watching.
        let _ = self.told.send((identity, sha256));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread that reads. It ends when this is dropped: at once between two chunks, or when the NAS answers again.
struct Reader {
    work: mpsc::Sender<Work>,
    stop: Arc<AtomicBool>,
}

impl Reader {
    fn start() -> std::io::Result<Self> {
        let (work, mut queue) = mpsc::channel::<Work>(1);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        std::thread::Builder::new().name("catalog-digests".to_owned()).spawn(move || {
            priority::idle_this_thread();
            while let Some(Work { file, done }) = queue.blocking_recv() {
                // Nobody may wait for it any longer.
                let _ = done.send(digest(&file, &stopped));
            }
        })?;
        Ok(Self { work, stop })
    }

    async fn digest(&self, file: OpenFile) -> Option<Sha> {
        let (done, answer) = oneshot::channel();
        self.work.send(Work { file, done }).await.ok()?;
        answer.await.ok().flatten()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Reads a file to its end; `None` where it is in another state than when it was opened, cannot be read, or `stop` was set.
fn digest(open: &OpenFile, stop: &AtomicBool) -> Option<Sha> {
    // Only a hint.
    let _ = fadvise(&open.file, 0, None, Advice::Sequential);
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut file = &open.file;
    let mut length: u64 = 0;
    while !stop.load(Ordering::Relaxed) {
        match file.read(&mut chunk) {
            Ok(0) => {
                let is_whole = length == open.identity.size_bytes && open.identity_now().is_ok_and(|now| now == open.identity);
                return is_whole.then(|| hash.finalize().into());
            }
            Ok(count) => {
                hash.update(&chunk[..count]);
                length += count as u64;
                if length > open.identity.size_bytes {
                    // It grows, perhaps without end.
                    return None;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                debug!(%error, "A file could not be read for its checksum");
                return None;
            }
        }
    }
    None
}

#[cfg(test)]
mod tests;
