//! Keeps a snapshot of all names in the background.
//!
//! One thread at idle priority walks the catalog breadth-first and hands over what it found; the task that waits for it swaps it
//! in at once. While the first walk goes on, parts are handed over as they grow. A walk that fails half-way (a NAS that went
//! away) changes nothing. It walks again after a pause, and sooner while people search.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::below_root::Root;
use super::tree::{MAX_INDEXED, ROOT, Tree};
use super::{CatalogError, EntryKind, IndexHealth, IndexState, folder, priority};
use crate::causes::Causes;
use crate::share::CatalogPath;

/// How long a walk rests the next one at least, while nobody searches: a disk may want to sleep.
const REST: Duration = Duration::from_secs(60);
/// How long it rests while people search.
const SHORT_REST: Duration = Duration::from_millis(500);
/// Each walk rests the next so many times as long as it took, so that walking takes a twentieth of the time at most.
const REST_PER_WALK: u32 = 20;
/// However long a walk takes, the next comes after this.
const LONGEST_REST: Duration = Duration::from_secs(3600);
/// The first part of the first walk is handed over at this many entries, the next when there are a quarter more: so the copies
/// of parts cost about five times the whole.
const FIRST_PART: usize = 500;
/// A walker that is this far ahead of the task that takes its parts waits.
const PARTS_WAITING: usize = 1;

/// The snapshot, and what keeps it fresh.
#[derive(Debug)]
pub(super) struct Index {
    snapshot: RwLock<Snapshot>,
    /// How far the walks are.
    walks: watch::Sender<Walks>,
    wanted: Notify,
}

#[derive(Debug, Clone)]
struct Snapshot {
    tree: Arc<Tree>,
    building: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Walks {
    /// Whether somebody walks at all.
    running: bool,
    started: u64,
    /// The number of the walk that ended last, whole or not.
    ended: u64,
    /// How long it took.
    took: Duration,
    /// Until when it rests the next one at least.
    rests_until: Option<Instant>,
    /// When the last walk ended that was whole.
    whole_at: Option<Instant>,
    /// Whether the last walk failed.
    fails: bool,
}

/// What the walking thread hands over.
enum Walked {
    Part(Tree),
    Whole(Tree),
    Failed(CatalogError),
}

impl Index {
    pub(super) fn new() -> Self {
        Self {
            snapshot: RwLock::new(Snapshot { tree: Arc::new(Tree::new()), building: true }),
            walks: watch::Sender::new(Walks::default()),
            wanted: Notify::new(),
        }
    }

    /// Returns what is known, and how much that is.
    pub(super) fn snapshot(&self) -> (Arc<Tree>, IndexState) {
        let snapshot = self.snapshot.read().unwrap_or_else(PoisonError::into_inner).clone();
        let state = IndexState { building: snapshot.building, files: snapshot.tree.files(), truncated: snapshot.tree.is_truncated() };
        (snapshot.tree, state)
    }

    /// Returns how well it keeps up.
    pub(super) fn health(&self) -> IndexHealth {
        let Walks { whole_at, fails, .. } = *self.walks.borrow();
        IndexHealth { state: self.snapshot().1, age: whole_at.map(|at| at.elapsed()), is_failing: fails }
    }

    /// Asks for a walk before its time.
    pub(super) fn want_fresh(&self) {
        self.wanted.notify_one();
    }

    /// Waits until a walk that began after this call has ended, where that can be expected within `patience`.
    pub(super) async fn freshen(&self, patience: Duration) {
        let Walks { running, started, took, rests_until, .. } = *self.walks.borrow();
        self.want_fresh();
        let now = Instant::now();
        let expected = rests_until.map_or(now, |until| until.max(now)) + took;
        if running && expected <= now + patience {
            let mut walks = self.walks.subscribe();
            // Too late is no error: what is known is still true of a moment ago.
            let _ = tokio::time::timeout(patience, walks.wait_for(|walks| walks.ended > started || !walks.running)).await;
        }
    }

    /// Walks again and again until `shutdown`.
    pub(super) async fn keep_fresh(&self, root: Arc<Root>, shutdown: CancellationToken) {
        self.walks.send_modify(|walks| walks.running = true);
        let mut fails = false;
        while !shutdown.is_cancelled() {
            let began = Instant::now();
            self.walks.send_modify(|walks| walks.started += 1);
            let walked = tokio::select! {
                walked = self.walk(&root) => walked,
                () = shutdown.cancelled() => break,
            };
            fails = tell(walked, fails);
            let took = began.elapsed();
            self.walks.send_modify(|walks| {
                walks.ended = walks.started;
                walks.took = took;
                walks.rests_until = Some(Instant::now() + short_rest(took));
                walks.fails = fails;
                if !fails {
                    walks.whole_at = Some(Instant::now());
                }
            });
            self.rest(took, &shutdown).await;
        }
        self.walks.send_modify(|walks| walks.running = false);
    }

    async fn rest(&self, walk_took: Duration, shutdown: &CancellationToken) {
        let short = short_rest(walk_took);
        let long = short.max(REST);
        let rested = async {
            tokio::time::sleep(short).await;
            let _ = tokio::time::timeout(long.saturating_sub(short), self.wanted.notified()).await;
        };
        tokio::select! {
            () = rested => {}
            () = shutdown.cancelled() => {}
        }
    }

    /// Walks once, on a thread of its own that ends soon after this future is dropped.
    async fn walk(&self, root: &Arc<Root>) -> Result<(), CatalogError> {
        let (hand_over, mut walked) = mpsc::channel(PARTS_WAITING);
        let stop = StopOnDrop::default();
        let walker = Walker { root: Arc::clone(root), hand_over, stop: Arc::clone(&stop.0), parts: self.snapshot().1.building };
        let thread = std::thread::Builder::new().name("catalog-index".to_owned());
        thread.spawn(move || walker.run()).map_err(|source| CatalogError::Io { source })?;
        while let Some(next) = walked.recv().await {
            match next {
                Walked::Part(tree) => self.swap_in(tree, true),
                Walked::Whole(tree) => {
                    self.swap_in(tree, false);
                    return Ok(());
                }
                Walked::Failed(error) => return Err(error),
            }
        }
        Err(CatalogError::Io { source: std::io::Error::other("the walk broke off") })
    }

    fn swap_in(&self, tree: Tree, building: bool) {
        let new = Snapshot { tree: Arc::new(tree), building };
        let old = std::mem::replace(&mut *self.snapshot.write().unwrap_or_else(PoisonError::into_inner), new);
        // The lock is free again while a million names are let go.
        drop(old);
    }
}

/// Returns how long the next walk rests at least after one that took so long.
fn short_rest(walk_took: Duration) -> Duration {
    walk_took.saturating_mul(REST_PER_WALK).clamp(SHORT_REST, LONGEST_REST)
}

/// Logs how a walk ended, a failure only when it is the first in a row. Returns whether it failed.
fn tell(walked: Result<(), CatalogError>, failed_before: bool) -> bool {
    match walked {
        Ok(()) => debug!("Indexed the catalog"),
        Err(ref error) if failed_before => debug!(error = %Causes(&error), "The index could still not be refreshed"),
        Err(ref error) => warn!(error = %Causes(&error), "The index could not be refreshed and stays as it was"),
    }
    walked.is_err()
}

/// Tells the walker to stop when nobody waits for it any longer.
#[derive(Default)]
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Walker {
    root: Arc<Root>,
    hand_over: mpsc::Sender<Walked>,
    stop: Arc<AtomicBool>,
    /// Whether parts are wanted.
    parts: bool,
}

impl Walker {
    fn run(self) {
        priority::lower_this_thread();
        let last = match self.walk() {
            Ok(Some(tree)) => Walked::Whole(tree),
            Ok(None) => return,
            Err(error) => Walked::Failed(error),
        };
        // Nobody listens any longer: shutting down.
        let _ = self.hand_over.blocking_send(last);
    }

    /// Returns the whole tree; `None` where it was told to stop.
    fn walk(&self) -> Result<Option<Tree>, CatalogError> {
        let mut tree = Tree::new();
        let mut next_part = FIRST_PART;
        let mut next = ROOT;
        while (next as usize) < tree.len() {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            if tree.kind(next) == EntryKind::Folder {
                self.read(&mut tree, next)?;
            }
            if self.parts && tree.len() >= next_part {
                next_part = tree.len() + tree.len() / 4;
                let _ = self.hand_over.blocking_send(Walked::Part(tree.clone()));
            }
            next += 1;
        }
        tree.add_up();
        // An empty mount point under a NAS that was unmounted reads well; it is not the catalog.
        if self.root.is_reachable() { Ok(Some(tree)) } else { Err(CatalogError::Busy) }
    }

    /// Reads one folder into the tree. One that vanished or may not be read is empty.
    fn read(&self, tree: &mut Tree, index: u32) -> Result<(), CatalogError> {
        let room = MAX_INDEXED - tree.len();
        if room == 0 {
            tree.set_truncated(index);
            return Ok(());
        }
        let path = tree.path(index);
        match self.read_folder(&path, room) {
            Ok(content) => {
                if content.total > content.rows.len() {
                    tree.set_truncated(index);
                }
                tree.extend(index, &content.rows);
                Ok(())
            }
            Err(CatalogError::Busy | CatalogError::Io { .. }) if !self.root.is_reachable() => Err(CatalogError::Busy),
            Err(error) if path.is_root() => Err(error),
            Err(error) => {
                debug!(error = %Causes(&error), "Left a folder out of the index");
                tree.set_lacking(index);
                Ok(())
            }
        }
    }

    fn read_folder(&self, path: &CatalogPath, room: usize) -> Result<folder::Content, CatalogError> {
        let opened = self.root.open_folder(path)?;
        folder::read(&self.root, path, &opened, room)
    }
}

#[cfg(test)]
mod tests;
