//! The one task of a process that writes.
//!
//! Redis flushes its disk once for all that it finds waiting. So the task takes every write that waits, sends them as one pipeline
//! and answers when that is done: a hundred saves cost as much as one. Each is one script, which checks and writes all of it. While
//! Redis works on one pipeline the answers of the one before it are given, and what comes of that is sent behind it: two are under way.
//!
//! * **Order** is kept for each share, and for all that is of no share: nothing about it is sent while something about it is under way.
//! * **The audit log** is a chain of hashes, which only we can compute. Each line of a batch is computed upon the one before it, on the
//!   assumption that all are written; a script whose line does not follow the newest one writes nothing, and is sent again upon what is.
//! * **A connection that breaks** leaves it open whether a write was done. It is sent again as long as there is time: each has an id of
//!   its own, or nothing to lose, so that it is done once. What cannot be found out by then is *in doubt*, and told as news of the share
//!   (`shared.rs`): whoever was answered that it failed looks again.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::link::{COMMAND_TIMEOUT, Link, Trouble};
use super::reply;
use super::scripts::{Args, Keys, Script, Scripts};
use crate::share::ShareId;
use crate::store::StoreError;
use crate::store::audit::{AuditEntry, AuditLine, AuditMark};

/// How many writes may wait. Past it the callers wait, and with them whoever asked them.
pub(super) const QUEUE: usize = 1024;
/// The most writes in one pipeline: bounds how long the first of them waits for the last.
const MAX_BATCH: usize = 256;
/// How many pipelines are under way at once, so that Redis has one to work on while we answer for the other.
const UNDER_WAY: usize = 2;
/// How often a line of the audit log is computed anew because others wrote one meanwhile. Each time somebody's was written.
const MAX_CHAINED: u32 = 100;
/// For how long, and how often, a broken connection is tried again for the same writes: a Redis that is started again in no time is
/// noticed by nobody, and one that is away is told of before anybody wonders.
const RESEND_WITHIN: Duration = Duration::from_millis(500);
const RESEND_PAUSE: Duration = Duration::from_millis(50);
/// The smallest batch behind which is waited for more, and for how long at the most: those who were answered come back, and would else
/// wait for the flush of a part of them. Half the time that the batch took loses less than sharing the next flush wins.
const MIN_TO_GATHER: usize = 4;
const MAX_GATHERING: Duration = Duration::from_millis(5);
/// How long whoever writes waits for the answer: a write that has not been sent by then is not sent any more.
pub(super) const PATIENCE: Duration = COMMAND_TIMEOUT.saturating_add(Duration::from_millis(500));
/// How many shares may be in doubt; past it all that lives is looked at.
const MAX_DOUBTS: usize = 1024;

/// A write, and who waits for it.
pub(super) struct Job {
    pub(super) script: Script,
    pub(super) args: Args,
    /// The line of the audit log that goes with it, where the script takes one.
    pub(super) line: Line,
    /// Which share it writes.
    pub(super) share: Option<ShareId>,
    /// When it was asked for.
    pub(super) since: Instant,
    pub(super) answer: oneshot::Sender<Result<Done, StoreError>>,
}

/// Whether a script takes a line of the audit log.
pub(super) enum Line {
    /// It knows of none.
    Unknown,
    /// It could, and there is none.
    None,
    /// This one.
    Entry(AuditEntry),
}

/// What a script answered.
pub(super) struct Done {
    /// Its answer; the first of it says what came of it.
    pub(super) values: Vec<Value>,
    /// The line that was written with it.
    pub(super) line: Option<AuditLine>,
}

/// What was sent and never answered.
#[derive(Default)]
pub(super) struct Doubts {
    shares: HashMap<ShareId, bool>,
    are_many: bool,
}

impl Doubts {
    pub(super) fn add(&mut self, share: ShareId) {
        self.are_many |= self.shares.len() >= MAX_DOUBTS;
        if !self.are_many {
            self.shares.insert(share, false);
        }
    }

    /// Returns what has not been told, and whether too many shares are in doubt to name them.
    pub(super) fn tell(&mut self) -> (Vec<ShareId>, bool) {
        let untold = self.shares.iter_mut().filter_map(|(share, is_told)| (!std::mem::replace(is_told, true)).then_some(*share));
        (untold.collect(), std::mem::take(&mut self.are_many))
    }

    /// Returns whether a write of ours about a share may be one that was never answered. It may have been done long after: Redis
    /// reads what lies in the buffer of a connection that is gone.
    pub(super) fn is_of(&self, share: ShareId) -> bool {
        self.shares.contains_key(&share)
    }

    /// Answers a write of a share as usual: what its state is, is known from here on.
    fn settle(&mut self, share: ShareId) {
        self.shares.remove(&share);
    }
}

/// Writes what comes.
pub(super) struct Writer {
    pub(super) link: Link,
    pub(super) scripts: Arc<Scripts>,
    pub(super) keys: Keys,
    /// How many replicas must have a write before it is answered.
    pub(super) replicas: u64,
    pub(super) doubts: Arc<Mutex<Doubts>>,
    /// The newest line of the audit log, as far as is known.
    pub(super) head: Mutex<AuditMark>,
}

/// A job on its way.
struct Sending {
    job: Job,
    chained: u32,
    line: Option<AuditLine>,
}

/// What came of a job in one round.
enum Came {
    Answer(Vec<Value>),
    /// Its line does not follow the newest one.
    NotNext,
    Failed(StoreError),
}

/// What a write may not overtake: whatever is about the same share, or about none.
type Subject = Option<ShareId>;

/// What came of a batch.
struct Round {
    subjects: HashSet<Subject>,
    writes: usize,
    took: Duration,
    /// What has to be sent again upon another head, in order.
    again: Vec<Sending>,
}

impl Writer {
    /// Writes until nobody can send any more and everything sent is written.
    pub(super) async fn run(self, mut queue: mpsc::Receiver<Job>) {
        let at_once = if self.replicas == 0 { UNDER_WAY } else { 1 };
        let mut waiting: VecDeque<Sending> = VecDeque::new();
        let mut under_way = FuturesUnordered::new();
        let mut busy: HashSet<Subject> = HashSet::new();
        // What is under way is chained upon lines that were not written: nothing is chained upon it in turn.
        let mut is_astray = false;
        let sending = |job| Sending { job, chained: 0, line: None };
        loop {
            while waiting.len() < MAX_BATCH
                && let Ok(job) = queue.try_recv()
            {
                waiting.push_back(sending(job));
            }
            if under_way.is_empty() {
                is_astray = false;
                if waiting.is_empty() {
                    let Some(job) = queue.recv().await else { return };
                    waiting.push_back(sending(job));
                    continue;
                }
            }
            if under_way.len() < at_once && !is_astray {
                // Both have as many, so that neither is long done before the other.
                let most = if at_once == 1 { MAX_BATCH } else { (waiting.len() + busy.len()).div_ceil(2).clamp(MIN_TO_GATHER, MAX_BATCH) };
                let batch = next_batch(&mut waiting, &busy, most);
                if !batch.is_empty() {
                    let subjects: HashSet<Subject> = batch.iter().map(|sending| sending.job.share).collect();
                    busy.extend(&subjects);
                    under_way.push(self.round(batch, subjects));
                    continue;
                }
            }
            let round = tokio::select! {
                Some(round) = under_way.next() => round,
                Some(job) = queue.recv(), if under_way.len() < at_once && waiting.len() < MAX_BATCH => {
                    waiting.push_back(sending(job));
                    continue;
                }
                else => return,
            };
            busy.retain(|subject| !round.subjects.contains(subject));
            is_astray |= !round.again.is_empty();
            round.again.into_iter().rev().for_each(|again| waiting.push_front(again));
            let until = Instant::now() + (round.took / 2).min(MAX_GATHERING);
            while round.writes >= MIN_TO_GATHER
                && queue.len() + waiting.len() < round.writes
                && !queue.is_closed()
                && Instant::now() < until
            {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Sends a batch and answers.
    async fn round(&self, batch: Vec<Sending>, subjects: HashSet<Subject>) -> Round {
        let (writes, began) = (batch.len(), Instant::now());
        let again = self.write(batch).await;
        Round { subjects, writes, took: began.elapsed(), again }
    }

    async fn write(&self, batch: Vec<Sending>) -> Vec<Sending> {
        let (mut batch, late): (Vec<Sending>, _) = batch.into_iter().partition(|sending| sending.job.since.elapsed() < COMMAND_TIMEOUT);
        for sending in late {
            let _ = sending.job.answer.send(Err(StoreError::unavailable("Redis was busy with others for too long")));
        }
        if batch.is_empty() {
            return batch;
        }
        // Where all are written it ends so. Where not, the answers say better.
        self.chain(&mut batch);
        let outcomes = self.send(&batch).await;
        let mut again = Vec::new();
        for (mut sending, came) in batch.into_iter().zip(outcomes) {
            if let (Some(share), false) = (sending.job.share, matches!(came, Came::NotNext)) {
                let mut doubts = self.doubts.lock().expect("nobody panics while holding the doubts");
                if matches!(came, Came::Failed(_)) { doubts.add(share) } else { doubts.settle(share) }
            }
            let outcome = match came {
                Came::Answer(values) => Ok(Done { values, line: sending.line.take() }),
                Came::NotNext if sending.chained < MAX_CHAINED => {
                    sending.chained += 1;
                    again.push(sending);
                    continue;
                }
                Came::NotNext => Err(StoreError::unavailable("others write the audit log faster")),
                Came::Failed(error) => Err(error),
            };
            // Whoever stopped waiting has the write all the same.
            let _ = sending.job.answer.send(outcome);
        }
        again
    }

    /// Computes the lines of a batch, each upon the one before it.
    fn chain(&self, batch: &mut [Sending]) {
        let mut head = self.head();
        for sending in batch {
            if let Line::Entry(entry) = &sending.job.line {
                let line = AuditLine::following(head.seq + 1, head.hash, entry.clone());
                *head = line.mark();
                sending.line = Some(line);
            }
        }
    }

    fn head(&self) -> MutexGuard<'_, AuditMark> {
        self.head.lock().expect("nobody panics while holding the head")
    }

    /// Sends a batch until it is answered or the time is over.
    async fn send(&self, batch: &[Sending]) -> Vec<Came> {
        let began = Instant::now();
        let mut pipe = redis::Pipeline::with_capacity(batch.len());
        for sending in batch {
            pipe.add_command(self.scripts.call(sending.job.script, sending.line_args().iter().chain(&sending.job.args)));
        }
        let answered = loop {
            let sent = self.link.send(&pipe).await;
            match sent {
                Err(Trouble::Broken(_)) if began.elapsed() < RESEND_WITHIN => tokio::time::sleep(RESEND_PAUSE).await,
                sent => break sent,
            }
        };
        let values = match answered {
            Ok((_, values)) => values,
            Err(trouble) => return batch.iter().map(|_| Came::Failed(trouble.clone().into())).collect(),
        };
        let mut outcomes = Vec::with_capacity(batch.len());
        for (value, sending) in values.into_iter().zip(batch) {
            outcomes.push(self.came(value, sending).await);
        }
        if let Err(trouble) = self.replicated(&outcomes).await {
            return batch.iter().map(|_| Came::Failed(trouble.clone().into())).collect();
        }
        outcomes
    }

    /// Makes sure that the replicas have what was written.
    async fn replicated(&self, outcomes: &[Came]) -> Result<(), Trouble> {
        if self.replicas == 0 || !outcomes.iter().any(|came| matches!(came, Came::Answer(_))) {
            return Ok(());
        }
        let have = self.link.replicas(self.replicas, self.keys.slot()).await?;
        if have >= self.replicas {
            return Ok(());
        }
        Err(Trouble::Refused(format!("{have} of the {} replicas that REDIS_REPLICAS wants have it", self.replicas).into()))
    }

    async fn came(&self, value: Value, sending: &Sending) -> Came {
        let values = match value {
            Value::Array(values) => values,
            Value::ServerError(error) if error.kind() == Some(redis::ServerErrorKind::NoScript) => {
                // Whatever waits behind it in the batch was refused likewise, so the order stays.
                let mut pipe = redis::pipe();
                pipe.add_command(self.scripts.whole(sending.job.script, sending.line_args().iter().chain(&sending.job.args)));
                match self.link.send(&pipe).await {
                    Ok((_, mut values)) => match values.pop() {
                        Some(Value::Array(values)) => values,
                        Some(Value::ServerError(error)) => return Came::Failed(StoreError::unavailable(error.to_string())),
                        _ => return Came::Failed(reply::strange()),
                    },
                    Err(trouble) => return Came::Failed(trouble.into()),
                }
            }
            Value::ServerError(error) => return Came::Failed(StoreError::unavailable(error.to_string())),
            _ => return Came::Failed(reply::strange()),
        };
        if reply::word(&values) != "head" {
            return Came::Answer(values);
        }
        match values.get(1).and_then(reply::mark) {
            Some(head) => {
                *self.head() = head;
                Came::NotNext
            }
            None => Came::Failed(StoreError::Unusable { reason: "its note of the audit log's end cannot be read".to_owned() }),
        }
    }
}

impl Sending {
    /// Returns what stands before the arguments of the job: the line of the audit log, where the script takes one.
    fn line_args(&self) -> Args {
        match (&self.job.line, &self.line) {
            (Line::Unknown, _) => Vec::new(),
            (Line::Entry(_), Some(line)) => reply::line_args(line),
            (Line::None | Line::Entry(_), _) => vec![Vec::new()],
        }
    }
}

/// Takes what is sent next, at most so many: nothing behind a write that must not be overtaken, neither by what is under way nor,
/// where it has a line and may have to be sent again, by the batch itself.
fn next_batch(waiting: &mut VecDeque<Sending>, busy: &HashSet<Subject>, most: usize) -> Vec<Sending> {
    let mut batch = Vec::new();
    let mut with_line: HashSet<ShareId> = HashSet::new();
    while batch.len() < most
        && let Some(next) = waiting.front()
        && !busy.contains(&next.job.share)
        && !next.job.share.is_some_and(|share| with_line.contains(&share))
        && let Some(next) = waiting.pop_front()
    {
        if let (Some(share), Line::Entry(_)) = (next.job.share, &next.job.line) {
            with_line.insert(share);
        }
        batch.push(next);
    }
    batch
}
