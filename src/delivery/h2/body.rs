//! Bytes of a transfer over HTTP/2, and what the recipient confirmed of them.
//!
//! Each piece is proven to be of the file that was pinned before it is handed on; what is sealed cannot change any more. The
//! stream is ended when all of it is confirmed, and not before: a client that has what it came for may be gone before it
//! answers anything.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::super::arrival::Origin;
use super::super::burst::with_piece;
use super::super::exchange::Fetch;
use super::super::pace::Purse;
use super::super::send::{MAX_SILENCE, SAMPLE_EVERY, proven_copy};
use super::super::wire::Wire;
use super::super::{Entered, Pass, answer};
use super::{Site, capacity};
use crate::catalog::OpenFile;
use crate::causes::Causes;
use crate::meter::{Reports, Request};
use crate::share::ByteRange;

/// A body on its way, and who is told of it.
pub(super) struct Body {
    wire: Wire,
    stream: SendStream<Bytes>,
    id: u32,
    file: Arc<OpenFile>,
    entered: Entered,
    /// `None` where nobody counts: the recipient has everything already.
    request: Option<Request>,
    reports: Reports,
    threads: Arc<Semaphore>,
    origin: Origin,
    range: ByteRange,
    /// How much of it was handed on.
    handed: u64,
    /// When the recipient last confirmed anything, and how much there was by then.
    last: (u64, Instant),
    samples: Interval,
}

/// Why a body ended before all of it was confirmed.
#[derive(Debug)]
enum Early {
    /// The pass was cut.
    Cut,
    /// The file is not what was pinned.
    Changed,
    /// The recipient is gone, or wants no more.
    Gone,
    /// The disk failed.
    Failed(io::Error),
}

impl Body {
    /// Begins an answer with bytes; `None` where whoever asked is gone.
    pub(super) async fn begin(site: &Site, out: &mut SendResponse<Bytes>, fetch: Fetch) -> Option<Self> {
        // nginx speaks no HTTP/2 to us.
        let Fetch { head, file, entered, request, range, .. } = fetch;
        let id = out.stream_id().as_u32();
        // Followed before its first frame can leave.
        site.wire.meter(|meter| meter.watch(id, range.len()));
        let head = answer::for_h2(&head).map(|(head, _)| head);
        let Some(stream) = head.and_then(|head| out.send_response(head, false).ok()) else {
            site.wire.meter(|meter| meter.forget(id));
            if let Some(request) = request {
                site.side.reports.ended(request, None, site.origin.evidence_of_ping(), None).await;
            }
            return None;
        };
        let mut samples = interval(SAMPLE_EVERY);
        samples.set_missed_tick_behavior(MissedTickBehavior::Delay);
        samples.reset();
        Some(Self {
            wire: site.wire.clone(),
            stream,
            id,
            file,
            entered,
            request,
            reports: site.side.reports.clone(),
            threads: site.threads.clone(),
            origin: site.origin,
            range,
            handed: 0,
            last: (0, Instant::now()),
            samples,
        })
    }

    /// Sends it, and tells how it went.
    pub(super) async fn send(mut self) {
        let ended = self.all().await;
        let reason = match &ended {
            Ok(()) => None,
            Err(Early::Cut | Early::Gone) => Some(Reason::CANCEL),
            Err(Early::Changed | Early::Failed(_)) => Some(Reason::INTERNAL_ERROR),
        };
        if let Some(reason) = reason {
            self.stream.send_reset(reason);
        }
        let share = self.pass().share;
        let is_changed = matches!(ended, Err(Early::Changed));
        match ended {
            Err(Early::Failed(error)) => tracing::warn!(share.id = %share, error = %Causes(&error), "Could not read a shared file"),
            Err(early) => tracing::debug!(share.id = %share, ?early, "A request for bytes ended early"),
            Ok(()) => {}
        }
        let reports = self.reports.clone();
        self.tell_the_end().await;
        if is_changed {
            reports.source_changed(share).await;
        }
    }

    fn pass(&self) -> &Pass {
        &self.entered.0
    }

    async fn all(&mut self) -> Result<(), Early> {
        let mut purse = Purse::new(self.pass().pace.clone());
        while self.handed < self.range.len() {
            let left = self.range.len() - self.handed;
            let wire = self.wire.clone();
            let room = self.over(async move { wire.room().await }).await?.min(left);
            let length = match purse.open(room, Instant::now()) {
                Ok(length) => length,
                Err(wait) => {
                    self.over(sleep(wait)).await?;
                    continue;
                }
            };
            let length = self.capacity(length).await?;
            let at = self.range.start + self.handed;
            let bytes = self.read(ByteRange::new(at, at + length)).await?;
            // Others of the connection may have taken the room while this one waited for a window or for the disk.
            let sent = self.wire.take_room(self.id, bytes.len() as u64);
            if sent == 0 {
                continue;
            }
            let bytes = bytes.slice(..usize::try_from(sent).unwrap_or(usize::MAX).min(bytes.len()));
            self.stream.send_data(bytes, false).map_err(|_| Early::Gone)?;
            purse.sent(sent);
            self.handed += sent;
        }
        let (wire, id, all) = (self.wire.clone(), self.id, self.range.len());
        self.over(async move { wire.confirmed(id, all).await }).await?;
        self.stream.send_data(Bytes::new(), true).map_err(|_| Early::Gone)
    }

    /// Waits until the recipient's windows are open. Returns for how much.
    async fn capacity(&mut self, wanted: u64) -> Result<u64, Early> {
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        let cut = self.pass().cut.clone();
        loop {
            tokio::select! {
                biased;
                () = cut.cancelled() => return Err(Early::Cut),
                _ = self.samples.tick() => {}
                room = capacity(&mut self.stream, wanted) => return room.map(|n| n as u64).ok_or(Early::Gone),
            }
            self.look()?;
        }
    }

    /// Does `work`, and meanwhile tells what is confirmed and notices when the recipient is gone or the pass is cut.
    async fn over<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Early> {
        let cut: CancellationToken = self.pass().cut.clone();
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                () = cut.cancelled() => return Err(Early::Cut),
                _ = std::future::poll_fn(|context| self.stream.poll_reset(context)) => return Err(Early::Gone),
                _ = self.samples.tick() => {}
                done = &mut work => return Ok(done),
            }
            self.look()?;
        }
    }

    /// Tells how far it has got.
    fn look(&mut self) -> Result<(), Early> {
        let confirmed = self.confirmed().unwrap_or(0);
        if let Some(request) = self.request
            && confirmed > 0
        {
            self.reports.arrived(request, self.part(confirmed), self.origin.evidence_of_ping());
        }
        if confirmed != self.last.0 {
            self.last = (confirmed, Instant::now());
        }
        // Who counts judges by the share's own stall timeout.
        let is_silent = self.request.is_none() && self.last.1.elapsed() > MAX_SILENCE;
        if is_silent { Err(Early::Gone) } else { Ok(()) }
    }

    fn confirmed(&self) -> Option<u64> {
        self.wire.meter(|meter| meter.confirmed(self.id))
    }

    fn part(&self, bytes: u64) -> ByteRange {
        ByteRange::new(self.range.start, self.range.start + bytes)
    }

    /// Tells how far it got, for the last time.
    async fn tell_the_end(self) {
        let arrived = self.confirmed();
        self.wire.meter(|meter| meter.forget(self.id));
        let Some(request) = self.request else { return };
        // Their kernel may have more, and they may never read it: only what they answered for is told.
        let evidence = self.origin.evidence_of_ping();
        let has_arrived = arrived.filter(|bytes| *bytes > 0 || self.range.is_empty());
        let in_doubt = ByteRange::new(self.part(arrived.unwrap_or(0)).end, self.part(self.handed).end);
        let in_doubt = Some(in_doubt).filter(|range| !range.is_empty());
        self.reports.ended(request, has_arrived.map(|bytes| self.part(bytes)), evidence, in_doubt).await;
    }

    /// Reads some of a range, and proves that the file is what was pinned.
    async fn read(&mut self, range: ByteRange) -> Result<Bytes, Early> {
        let pinned = self.pass().file.identity;
        if self.file.is_local
            && let Some(bytes) = with_piece(&self.file.file, range, Bytes::copy_from_slice)
        {
            let is_it = self.file.identity_now().map_err(Early::Failed)? == pinned;
            return if is_it { Ok(bytes) } else { Err(Early::Changed) };
        }
        let (file, entered, threads) = (self.file.clone(), self.entered.0.clone(), self.threads.clone());
        let copy = async move { proven_copy(&file, range, &entered, &threads).await };
        let copied = self.over(copy).await?.map_err(Early::Failed)?;
        copied.map(Bytes::from).ok_or(Early::Changed)
    }
}
