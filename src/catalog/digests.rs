//! SHA-256 of files, computed in the background.
//!
//! One file at a time, read by one thread at idle priority, so that nobody's download is slower for it. The shortest comes first, and
//! a long one is put aside where a shorter one comes: the image of a disk can say that it has as many bytes as a year can read. A
//! digest belongs to a state of a file (its [`FileIdentity`]) and not to a path: what changed before, while or after it was read gets none.

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
use crate::causes::Causes;
use crate::share::{CatalogPath, FileIdentity};

/// The most files that wait: more than an owner shares in a day.
pub(super) const MAX_WAITING: usize = 1000;
/// The most digests that are kept in memory, about 80 bytes each. The cache has them all.
const MAX_KNOWN: usize = 10_000;
/// How many digests a slow reader of [`Digests::watch`] may be behind.
const WATCH_CAPACITY: usize = 256;
/// How much is read at once. Between two reads the thread looks whether it shall stop: a few milliseconds on any disk.
const CHUNK_BYTES: usize = 256 * 1024;

/// How much of a file is read before it is looked whether a shorter one waits: a second or two from a disk. Tests have small files.
const TURN_BYTES: u64 = if cfg!(test) { 512 * 1024 } else { 256 * 1024 * 1024 };
/// How many files that were put aside stay open. What is put aside beyond that begins anew, the longest of them.
const MAX_ASIDE: usize = 8;

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

/// A file that was read so far.
struct Begun {
    open: OpenFile,
    hash: Sha256,
    length: u64,
}

impl Begun {
    fn new(open: OpenFile) -> Self {
        Self { open, hash: Sha256::new(), length: 0 }
    }
}

/// What became of a file in its turn.
enum Turn {
    /// All of it was read; or it is in another state than when it was opened, or cannot be read, or the thread shall stop.
    Over(Option<Sha>),
    /// There is more of it.
    More(Begun),
}

/// A file for the thread to read on, and where it goes from there.
struct Work {
    begun: Begun,
    done: oneshot::Sender<Turn>,
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
                warn!(error = %Causes(&error), "No checksums are computed: no thread could be started");
                return shutdown.cancelled().await;
            }
        };
        let work = async {
            let mut aside = Vec::new();
            loop {
                let (path, identity) = self.next().await;
                let known = match self.find_out(&path, identity, &mut aside, &reader).await {
                    Turn::Over(known) => known,
                    Turn::More(begun) => {
                        put_aside(&mut aside, begun);
                        // Before those of its size: what is begun is ended first.
                        self.state().waiting.push_front((path, identity));
                        continue;
                    }
                };
                if let Some(sha256) = known {
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
            let next = self.state().next();
            match next {
                Some(next) => return next,
                None => self.wanted.notified().await,
            }
        }
    }

    /// Gives a state of a file its turn; no digest where the file is in another state or cannot be read.
    async fn find_out(&self, path: &CatalogPath, identity: FileIdentity, aside: &mut Vec<Begun>, reader: &Reader) -> Turn {
        let begun = match aside.iter().position(|begun| begun.open.identity == identity) {
            Some(at) => aside.swap_remove(at),
            None => match self.begin(path, identity).await {
                Ok(begun) => begun,
                Err(known) => return Turn::Over(known),
            },
        };
        let turn = reader.read_on(begun).await;
        if let Turn::Over(Some(sha256)) = turn {
            self.cache.keep(identity, sha256).await;
        }
        turn
    }

    /// Opens a file to be read, unless its digest is kept already or it cannot have one.
    async fn begin(&self, path: &CatalogPath, identity: FileIdentity) -> Result<Begun, Option<Sha>> {
        if let Some(kept) = self.cache.load(identity).await {
            return Err(Some(kept));
        }
        match self.catalog.open(path).await {
            Ok(open) if open.identity == identity => Ok(Begun::new(open)),
            Ok(_) => Err(None),
            Err(error) => {
                debug!(error = %Causes(&error), "A checksum is left out");
                Err(None)
            }
        }
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

impl State {
    /// Takes the shortest of those that wait, and of equal ones the first that came.
    fn next(&mut self) -> Option<(CatalogPath, FileIdentity)> {
        let (at, _) = self.waiting.iter().enumerate().min_by_key(|(at, (_, identity))| (identity.size_bytes, *at))?;
        self.waiting.remove(at)
    }
}

fn put_aside(aside: &mut Vec<Begun>, begun: Begun) {
    aside.push(begun);
    if aside.len() > MAX_ASIDE {
        aside.sort_by_key(|begun| begun.open.identity.size_bytes);
        aside.pop();
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
            while let Some(Work { begun, done }) = queue.blocking_recv() {
                // Nobody may wait for it any longer.
                let _ = done.send(read_on(begun, &stopped));
            }
        })?;
        Ok(Self { work, stop })
    }

    async fn read_on(&self, begun: Begun) -> Turn {
        let (done, answer) = oneshot::channel();
        if self.work.send(Work { begun, done }).await.is_err() {
            return Turn::Over(None);
        }
        answer.await.unwrap_or(Turn::Over(None))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Reads a file for one turn, or to its end.
fn read_on(mut begun: Begun, stop: &AtomicBool) -> Turn {
    let Begun { open, hash, length } = &mut begun;
    // Only a hint.
    let _ = fadvise(&open.file, 0, None, Advice::Sequential);
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut file = &open.file;
    let end = length.saturating_add(TURN_BYTES);
    let is_as_it_was = |open: &OpenFile| open.identity_now().is_ok_and(|now| now == open.identity);
    while !stop.load(Ordering::Relaxed) && *length < end {
        match file.read(&mut chunk) {
            Ok(0) => {
                let is_whole = *length == open.identity.size_bytes && is_as_it_was(open);
                return Turn::Over(is_whole.then(|| hash.finalize_reset().into()));
            }
            Ok(count) => {
                hash.update(&chunk[..count]);
                *length += count as u64;
                if *length > open.identity.size_bytes {
                    // It grows, perhaps without end.
                    return Turn::Over(None);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                debug!(error = %Causes(&error), "A file could not be read for its checksum");
                return Turn::Over(None);
            }
        }
    }
    // Of a file that has changed the rest is read in vain.
    let goes_on = !stop.load(Ordering::Relaxed) && is_as_it_was(open);
    if goes_on { Turn::More(begun) } else { Turn::Over(None) }
}

#[cfg(test)]
mod tests;
