//! The bytes of a file, onto a socket, and what became of them.
//!
//! A long body leaves by `sendfile(2)` on a blocking thread, as long as the recipient keeps up; while the socket is full
//! nothing but a timer waits. To who is slower the bytes are copied out of the page cache, a few at a time and without a
//! thread: its stack and the hand-over would cost more than the copy. The last piece is held back until every byte before
//! it was acknowledged and the file is proven to be what was pinned: `sendfile` sends pages of the file itself, so what is
//! still in flight could change, and a file that changed must never look whole at the other side. A short body is copied,
//! and proven, before it leaves.

mod sealed;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep};

use super::burst::{Burst, Hold, Plan, read_cached};
use super::nginx::{MAX_IN_NGINX, Relay, Sent};
use super::pace::Purse;
use super::stream::Stream;
use super::{Entered, Pass, socket};
use crate::catalog::OpenFile;
use crate::meter::{Reports, Request};
use crate::share::{ByteRange, Evidence, FileIdentity};

/// Up to this length a body is copied: cheaper than setting up a thread, and a whole answer fits into the send buffer.
pub(super) const MAX_COPIED: u64 = 64 * 1024;
/// How much of a long body is held back until the rest arrived. Small, since it is copied; it may not be zero.
const HELD_BACK: u64 = 16 * 1024;
/// How often what arrived is told while a request runs: 2 Hz, as the pages show it.
pub(super) const SAMPLE_EVERY: Duration = Duration::from_millis(500);
/// How long a recipient who has everything already may take no byte. Others are judged by the share's stall timeout.
pub(super) const MAX_SILENCE: Duration = Duration::from_secs(600);
/// The first and the longest pause between two looks at what was acknowledged.
const SETTLE_PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(25));

/// How the sending of a body ended.
#[derive(Debug)]
pub(super) enum End {
    /// All of it was written.
    Sent,
    /// The pass was cut; the connection is reset.
    Cut,
    /// The file is not what was pinned; the connection is reset.
    Changed,
    /// The other side or the disk failed; the connection is of no use any more.
    Failed(io::Error),
}

/// A body on its way, and who is told of it.
#[derive(Debug)]
pub(super) struct Metered {
    pub(super) entered: Entered,
    /// `None` where nobody counts: the recipient has everything already.
    pub(super) request: Option<Request>,
    pub(super) reports: Reports,
    pub(super) evidence: Evidence,
    pub(super) range: ByteRange,
    /// Where in the stream its first byte stands.
    pub(super) body_at: u64,
    /// Who waits for what nginx says of it, where that passes it on.
    pub(super) relay: Option<Box<Relay>>,
}

impl Metered {
    pub(super) fn pass(&self) -> &Pass {
        &self.entered.0
    }

    fn sent(&self, stream: &Stream) -> u64 {
        stream.written().saturating_sub(self.body_at).min(self.range.len())
    }

    fn arrived(&self, stream: &Stream) -> ByteRange {
        let acked = stream.acked().saturating_sub(self.body_at).min(self.range.len());
        ByteRange::new(self.range.start, self.range.start + acked)
    }

    /// Tells how far it has got.
    pub(super) fn sample(&self, stream: &Stream) {
        let mut arrived = self.arrived(stream);
        if self.relay.is_some() {
            arrived.end = arrived.end.saturating_sub(MAX_IN_NGINX).max(arrived.start);
        }
        if let Some(request) = self.request
            && !arrived.is_empty()
        {
            self.reports.arrived(request, arrived, self.evidence);
        }
    }

    /// Tells how far it got, for the last time. The connection may have failed, but must not have been reset by us.
    pub(super) async fn end(self, stream: &Stream) {
        let arrived = self.arrived(stream);
        let sent_to = self.range.start + self.sent(stream);
        // An empty file arrived when its head did.
        let has_arrived = !arrived.is_empty() || (self.range.is_empty() && stream.acked() >= self.body_at);
        self.end_at(has_arrived.then_some(arrived), Sent { arrived_to: arrived.end, sent_to, is_cut: false }).await;
    }

    async fn end_at(mut self, arrived: Option<ByteRange>, sent: Sent) {
        let Sent { arrived_to, sent_to, .. } = sent;
        if let Some(relay) = self.relay.take() {
            let Self { request, range, reports, entered, .. } = self;
            return Box::pin(relay.end((request, range), sent, reports, entered)).await;
        }
        if let Some(request) = self.request {
            let in_doubt = Some(ByteRange::new(arrived_to, sent_to)).filter(|range| !range.is_empty());
            // Said once, and not a part of every future that may come to it.
            Box::pin(self.reports.ended(request, arrived, self.evidence, in_doubt)).await;
        }
    }
}

/// Sends `head` and the bytes of `file` that `metered` wants. On `Cut` and `Changed` the connection is reset; what had
/// arrived until then is told here, and `None` comes back. Otherwise whoever called tells the end.
pub(super) async fn body(
    stream: &Arc<Stream>,
    head: Vec<u8>,
    file: &Arc<OpenFile>,
    metered: Metered,
    threads: &Arc<Semaphore>,
) -> (End, Option<Metered>) {
    let pinned = metered.pass().file.identity;
    let end = if metered.range.len() <= MAX_COPIED {
        copied(stream, head, file, &metered, threads).await
    } else if stream.is_sealed() {
        // Most connections are not, and need not have the room.
        Box::pin(sealed::send(stream, head, file, &metered, threads)).await
    } else {
        sent_by_kernel(stream, head, file, &metered, threads).await
    };
    let end = match end {
        Ok(()) => End::Sent,
        Err(end) => end,
    };
    match end {
        End::Sent | End::Failed(_) => (end, Some(metered)),
        End::Cut | End::Changed => {
            tracing::debug!(transfer.id = %metered.pass().transfer, file.inode = pinned.inode, "Cut a request for bytes short");
            // The kernel forgets its counters with the connection.
            let (arrived, sent_to) = (metered.arrived(stream), metered.range.start + metered.sent(stream));
            socket::abort(&stream.tcp);
            let sent = Sent { arrived_to: arrived.end, sent_to, is_cut: true };
            metered.end_at(Some(arrived).filter(|range| !range.is_empty()), sent).await;
            (end, None)
        }
    }
}

async fn copied(
    stream: &Arc<Stream>,
    mut head: Vec<u8>,
    file: &Arc<OpenFile>,
    metered: &Metered,
    threads: &Arc<Semaphore>,
) -> Result<(), End> {
    let mut watch = Watch::new(stream, metered);
    let mut purse = Purse::new(metered.pass().pace.clone());
    let bytes = watch.over(proven_copy(file, metered.range, metered.pass(), threads)).await?.ok_or(End::Changed)?;
    if !purse.is_free() {
        watch.over(stream.send_all(&head, false)).await?;
        return paced(stream, &bytes, &mut purse, &mut watch).await;
    }
    head.extend_from_slice(&bytes);
    watch.over(stream.send_all(&head, false)).await
}

/// Sends bytes as fast as the purse opens.
async fn paced(stream: &Stream, mut bytes: &[u8], purse: &mut Purse, watch: &mut Watch<'_>) -> Result<(), End> {
    while !bytes.is_empty() {
        match purse.open(bytes.len() as u64, Instant::now()) {
            Ok(n) => {
                let (piece, rest) = bytes.split_at(usize::try_from(n).unwrap_or(usize::MAX).min(bytes.len()));
                watch.over(stream.send_all(piece, false)).await?;
                purse.sent(n);
                bytes = rest;
            }
            Err(wait) => watch.over(rest(wait)).await?,
        }
    }
    Ok(())
}

async fn rest(wait: Duration) -> io::Result<()> {
    sleep(wait).await;
    Ok(())
}

async fn sent_by_kernel(
    stream: &Arc<Stream>,
    head: Vec<u8>,
    file: &Arc<OpenFile>,
    metered: &Metered,
    threads: &Arc<Semaphore>,
) -> Result<(), End> {
    let mut watch = Watch::new(stream, metered);
    let mut purse = Purse::new(metered.pass().pace.clone());
    watch.over(stream.send_all(&head, purse.is_free())).await?;
    drop(head);
    let tail = ByteRange::new(metered.range.end - HELD_BACK, metered.range.end);
    let plan = Plan { stream: stream.clone(), file: file.clone(), start: metered.range.start, end: tail.start, body_at: metered.body_at };
    let mut hold = Hold::little(&stream.tcp);
    loop {
        let burst = match plan.send_copied(&mut purse, &mut hold).map_err(End::Failed)? {
            Some(burst) => burst,
            None => {
                let permit = watch.over(permit(metered.pass(), threads)).await?;
                let (plan, cut) = (plan.clone(), metered.pass().cut.clone());
                let work = tokio::task::spawn_blocking(move || {
                    let _permit = permit;
                    let burst = plan.burst(&mut purse, &mut hold, || cut.is_cancelled());
                    (burst, purse, hold)
                });
                let burst;
                (burst, purse, hold) = watch.over(async { work.await.map_err(io::Error::other) }).await?;
                burst.map_err(End::Failed)?
            }
        };
        match burst {
            Burst::Done => break,
            Burst::Early(wait) => watch.over(rest(wait)).await?,
            Burst::Full => watch.over(socket::writable(&stream.tcp)).await?,
            Burst::Turn => {}
            Burst::Short => return Err(End::Changed),
            Burst::Cut => return Err(End::Cut),
        }
    }
    // Of a slice that another follows that one will not come if the file changes meanwhile.
    if !metered.relay.as_ref().is_some_and(|relay| relay.is_followed(metered.range)) {
        watch.over(settled(stream)).await?;
    }
    let bytes = watch.over(proven_copy(file, tail, metered.pass(), threads)).await?.ok_or(End::Changed)?;
    Box::pin(paced(stream, &bytes, &mut purse, &mut watch)).await
}

/// Looks after a body while it is being sent: tells what arrived, and notices when the pass is cut.
struct Watch<'a> {
    stream: &'a Stream,
    metered: &'a Metered,
    samples: Interval,
    /// How much was acknowledged when that last grew, and when that was.
    last: (u64, Instant),
}

impl<'a> Watch<'a> {
    fn new(stream: &'a Stream, metered: &'a Metered) -> Self {
        let mut samples = interval(SAMPLE_EVERY);
        samples.set_missed_tick_behavior(MissedTickBehavior::Delay);
        samples.reset();
        Self { stream, metered, samples, last: (stream.acked(), Instant::now()) }
    }

    /// Does `work` under the watch.
    async fn over<T>(&mut self, work: impl Future<Output = io::Result<T>>) -> Result<T, End> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                () = self.metered.pass().cut.cancelled() => return Err(End::Cut),
                _ = self.samples.tick() => {}
                result = &mut work => return result.map_err(End::Failed),
            }
            self.metered.sample(self.stream);
            let acked = self.stream.acked();
            if acked != self.last.0 {
                self.last = (acked, Instant::now());
            } else if self.metered.request.is_none() && self.last.1.elapsed() > MAX_SILENCE {
                return Err(End::Failed(io::ErrorKind::TimedOut.into()));
            }
        }
    }
}

/// Waits until everything that was written was acknowledged.
async fn settled(stream: &Stream) -> io::Result<()> {
    let (mut pause, longest) = SETTLE_PAUSES;
    while !stream.is_settled() {
        if stream.is_over() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
    Ok(())
}

async fn permit(pass: &Pass, threads: &Arc<Semaphore>) -> io::Result<(OwnedSemaphorePermit, OwnedSemaphorePermit)> {
    let of_share = pass.sending.clone().acquire_owned().await.map_err(io::Error::other)?;
    let of_all = threads.clone().acquire_owned().await.map_err(io::Error::other)?;
    Ok((of_share, of_all))
}

/// Returns what an open file is at this instant.
pub(super) async fn identity(file: &Arc<OpenFile>, pass: &Pass, threads: &Arc<Semaphore>) -> io::Result<FileIdentity> {
    if file.is_local {
        return file.identity_now();
    }
    let (permit, file) = (permit(pass, threads).await?, file.clone());
    let ask = move || {
        let _permit = permit;
        file.identity_now()
    };
    tokio::task::spawn_blocking(ask).await.map_err(io::Error::other)?
}

/// Reads a range; `None` where the file is not what was pinned, before or behind the reading.
pub(super) async fn proven_copy(
    file: &Arc<OpenFile>,
    range: ByteRange,
    pass: &Pass,
    threads: &Arc<Semaphore>,
) -> io::Result<Option<Vec<u8>>> {
    let pinned = pass.file.identity;
    if file.is_local
        && let Some(bytes) = read_from_memory(&file.file, range)
    {
        return Ok((file.identity_now()? == pinned).then_some(bytes));
    }
    let permit = permit(pass, threads).await?;
    let file = file.clone();
    let read = move || {
        let _permit = permit;
        let mut bytes = vec![0; range.len() as usize];
        match file.file.read_exact_at(&mut bytes, range.start) {
            Ok(()) => Ok((file.identity_now()? == pinned).then_some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    };
    tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
}

/// Reads a range if all of it lies in the page cache.
fn read_from_memory(file: &File, range: ByteRange) -> Option<Vec<u8>> {
    let mut bytes = vec![0; range.len() as usize];
    (bytes.is_empty() || read_cached(file, &mut bytes, range.start) == Some(range.len() as usize)).then_some(bytes)
}
