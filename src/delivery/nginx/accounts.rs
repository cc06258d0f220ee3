//! nginx's access log, line by line: who waits for a line is told of it, and how far the log was followed is kept with what was counted.
//!
//! A mark is kept when all that the lines before it say is saved. Until then, after a crash, they are read and counted again from the mark
//! before, and say what they said: each line is counted once, whatever happens.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::Nginx;
use super::source::{Entry, MAX_BATCHES, Named, Source, read};
use crate::causes::Causes;
use crate::clock::Clock;
use crate::meter::log_tail::{Batch, Mishaps, follow};
use crate::meter::syslog::Bound;
use crate::metrics::Metrics;
use crate::store::{LogCounts, LogMark, Store, StoreError};

/// How often a mark is kept at most. As much is read again after a crash.
const KEEP_EVERY: Duration = Duration::from_secs(1);
/// How many marks may wait for what their lines say to be saved. One that waits long, since a recipient takes the last bytes slowly, holds
/// back those behind it; past so many two become one.
const MAX_MARKS: usize = 64;
/// How long the last mark may take once the program stops.
const LAST_MARK: Duration = Duration::from_secs(1);

/// Follows the log and accounts for its lines.
pub struct Accounts {
    nginx: Arc<Nginx>,
    store: Arc<dyn Store>,
    metrics: Metrics,
    /// What its mark is kept under.
    log: String,
    counts: LogCounts,
    /// What had gone wrong before this process began.
    earlier: Mishaps,
    batches: mpsc::Receiver<Batch<Entry>>,
    /// The socket that its lines come to, where they do.
    _socket: Option<Bound>,
    /// Marks whose lines say what is not saved yet, oldest first.
    waiting: VecDeque<Waiting>,
    /// The newest mark that can be kept.
    ready: Option<LogMark>,
    kept_at: Option<Instant>,
    /// The mark that is being kept.
    keeping: Option<BoxFuture<'static, Option<Kept>>>,
    trouble: Option<String>,
    /// Whether something was not saved and never will be, since the program stops: its line is read again by the next start.
    is_broken: bool,
}

/// What came of keeping a mark.
type Kept = (Result<(), StoreError>, LogMark);

struct Waiting {
    mark: LogMark,
    unsaved: FuturesUnordered<oneshot::Receiver<()>>,
}

impl Accounts {
    /// Goes on where the log was followed to. What came to a socket is not read again: it is counted from here on, and has no mark.
    ///
    /// # Errors
    /// [`StoreError`] where that cannot be read.
    pub async fn open(
        nginx: Arc<Nginx>,
        store: Arc<dyn Store>,
        metrics: Metrics,
        clock: Arc<dyn Clock>,
        source: Source,
    ) -> Result<Self, StoreError> {
        let (log, counts, batches, _socket) = match source {
            Source::File(path) => {
                let log = path.to_string_lossy().into_owned();
                let mark = store.log_mark(log.clone()).await?;
                let (sender, batches) = mpsc::channel(MAX_BATCHES);
                let key = nginx.key.clone();
                let (counts, from) = mark.map_or((LogCounts::default(), None), |mark| (mark.counts, Some(mark.checkpoint)));
                follow(path, from, clock, move |line: &[u8]| read(line, &key), sender).map_err(StoreError::unavailable)?;
                (log, counts, batches, None)
            }
            Source::Socket(batches, bound) => (String::new(), LogCounts::default(), batches, Some(bound)),
        };
        let (waiting, ready, kept_at, trouble, earlier) = (VecDeque::new(), None, None, None, counts.mishaps);
        let (keeping, is_broken) = (None, false);
        Ok(Self { nginx, store, metrics, log, counts, earlier, batches, _socket, waiting, ready, kept_at, keeping, trouble, is_broken })
    }

    /// Accounts until `served`, when no request is looked after any more.
    pub async fn run(mut self, served: CancellationToken) {
        loop {
            let keep_at = self.ready.is_some().then(|| self.kept_at.map_or_else(Instant::now, |at| at + KEEP_EVERY));
            tokio::select! {
                biased;
                () = served.cancelled() => break,
                () = async { if let Some(at) = keep_at { sleep_until(at).await } }, if keep_at.is_some() && self.keeping.is_none() => self.keep(),
                kept = async { self.keeping.as_mut()?.await }, if self.keeping.is_some() => self.kept(kept),
                Some(saved) = async { self.waiting.front_mut()?.unsaved.next().await }, if !self.waiting.is_empty() => {
                    self.is_broken |= saved.is_err();
                }
                batch = self.batches.recv() => match batch {
                    Some(batch) => self.take(batch).await,
                    // The thread ends only when nobody takes its batches.
                    None => break,
                },
            }
            self.settle();
        }
        while let Ok(batch) = self.batches.try_recv() {
            self.take(batch).await;
        }
        let last = async {
            while let Some(waiting) = self.waiting.front_mut() {
                while let Some(saved) = waiting.unsaved.next().await {
                    self.is_broken |= saved.is_err();
                }
                self.settle();
            }
            self.keep_now().await;
        };
        if timeout(LAST_MARK, last).await.is_err() {
            tracing::debug!("The last lines of nginx's log are read again by the next start");
        }
    }

    async fn take(&mut self, batch: Batch<Entry>) {
        let Batch { lines, checkpoint, mishaps, left, trouble } = batch;
        let mut unsaved = FuturesUnordered::new();
        for line in lines {
            match line {
                Entry::Ours(Named { name, finish }) => {
                    self.counts.lines += 1;
                    self.counts.bytes = self.counts.bytes.saturating_add(finish.body_bytes);
                    unsaved.extend(self.nginx.desk.tell(name, finish));
                }
                Entry::Unnamed => self.counts.lines += 1,
                Entry::Foreign => self.counts.foreign += 1,
            }
        }
        self.counts.mishaps = self.earlier.plus(mishaps);
        if trouble != self.trouble {
            match &trouble {
                Some(why) => tracing::error!("nginx's log cannot be read, so no download that nginx sends can complete: {why}"),
                None => tracing::info!("nginx's log can be read"),
            }
            self.trouble = trouble;
        }
        self.metrics.log_followed(self.counts.into(), left);
        let is_first = self.kept_at.is_none();
        if let Some(checkpoint) = checkpoint {
            self.push(LogMark { checkpoint, counts: self.counts }, unsaved);
        }
        if is_first {
            // Before anything is read: what is rotated later is found by it.
            self.settle();
            self.keep_now().await;
        }
        self.nginx.caught_up.send_if_modified(|is| left == 0 && !std::mem::replace(is, true));
    }

    fn push(&mut self, mark: LogMark, unsaved: FuturesUnordered<oneshot::Receiver<()>>) {
        if self.waiting.len() >= MAX_MARKS
            && let Some(newest) = self.waiting.back_mut()
        {
            newest.mark = mark;
            newest.unsaved.extend(unsaved);
        } else {
            self.waiting.push_back(Waiting { mark, unsaved });
        }
    }

    /// Sees which marks can be kept.
    fn settle(&mut self) {
        if self.is_broken {
            return self.waiting.clear();
        }
        while self.waiting.front().is_some_and(|waiting| waiting.unsaved.is_empty()) {
            self.ready = self.waiting.pop_front().map(|first| first.mark);
        }
    }

    /// Begins to keep the newest mark; lines go on to be told meanwhile.
    fn keep(&mut self) {
        self.kept_at = Some(Instant::now());
        if let Some(mark) = self.ready.take() {
            let (store, log) = (self.store.clone(), self.log.clone());
            let keeping = async move { Some((store.put_log_mark(log, mark.clone()).await, mark)) };
            self.keeping = Some(keeping.boxed());
        }
    }

    fn kept(&mut self, kept: Option<Kept>) {
        self.keeping = None;
        if let Some((Err(error), mark)) = kept {
            tracing::warn!(error = %Causes(&error), "Could not keep how far nginx's log was followed; trying again");
            // A newer one says more.
            self.ready.get_or_insert(mark);
        }
    }

    async fn keep_now(&mut self) {
        // First the one that is being kept, then what is newer.
        for _ in 0..2 {
            if let Some(keeping) = self.keeping.take() {
                let kept = keeping.await;
                self.kept(kept);
            }
            self.keep();
        }
        if let Some(keeping) = self.keeping.take() {
            let kept = keeping.await;
            self.kept(kept);
        }
    }
}
