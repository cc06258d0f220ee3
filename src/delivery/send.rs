//! The bytes of a file, onto a socket, and what became of them.
//!
//! A long body leaves by `sendfile(2)` on a blocking thread, as long as the recipient keeps up; while the socket is full
//! nothing but a timer waits. The last piece is held back until every byte before it was acknowledged and the file is
//! proven to be what was pinned: `sendfile` sends pages of the file itself, so what is still in flight could change, and
//! a file that changed must never look whole at the other side. A short body is copied, and proven, before it leaves.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::io::{ReadWriteFlags, preadv2};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep};

use super::pace::Purse;
use super::{Entered, Pass, socket};
use crate::catalog::OpenFile;
use crate::meter::{self, AckCounter, Reports, Request};
use crate::share::{ByteRange, Evidence, FileIdentity};

/// Up to this length a body is copied: cheaper than setting up a thread, and a whole answer fits into the send buffer.
pub(super) const MAX_COPIED: u64 = 64 * 1024;
/// How much of a long body is held back until the rest arrived. Small, since it is copied; it may not be zero.
const HELD_BACK: u64 = 16 * 1024;
/// The most that one `sendfile` is asked for, so that a cut is noticed within milliseconds.
const MAX_CHUNK: u64 = 2 * 1024 * 1024;
/// How long a blocking thread waits for a full socket before it is given back, where the recipient is fast: they empty some
/// of the buffer well within it. For a slow one the thread would only wait, and does not.
const THREAD_PATIENCE: Duration = Duration::from_millis(4);
/// How long a blocking thread sends before it lets others have a turn. While the disk is what is slow no socket is ever
/// full, and whoever came first would keep the thread to the end of the file.
const TURN: Duration = Duration::from_millis(100);
/// How much the kernel holds unsent for a recipient who does not keep up. What is under way to them is bounded by their own
/// window; the rest of a full buffer would be memory that nobody needs: 200 of them held 200 MB. It is woken for more at
/// half of it, which is 60 ms at 1 MB/s.
const MAX_UNSENT_BYTES: u32 = 128 * 1024;
/// Who takes so much without once letting a thread wait for too long keeps up: they get all of the socket's buffer, since
/// filling it seldom costs least.
const KEEPS_UP_BYTES: usize = 512 * 1024;
/// How often what arrived is told while a request runs: 2 Hz, as the pages show it.
const SAMPLE_EVERY: Duration = Duration::from_millis(500);
/// How long a recipient who has everything already may take no byte. Others are judged by the share's stall timeout.
const MAX_SILENCE: Duration = Duration::from_secs(600);
/// The first and the longest pause between two looks at what was acknowledged.
const SETTLE_PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(25));

/// A connection's stream: the socket and what went over it.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) tcp: TcpStream,
    counter: AckCounter,
    written: AtomicU64,
}

impl Stream {
    pub(super) fn new(tcp: TcpStream) -> io::Result<Self> {
        let counter = AckCounter::start(tcp.as_fd())?;
        Ok(Self { tcp, counter, written: AtomicU64::new(0) })
    }

    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    fn wrote(&self, n: usize) {
        self.written.fetch_add(n as u64, Ordering::AcqRel);
    }

    /// Returns how much of what was written the other side has; what cannot be asked has not arrived.
    fn acked(&self) -> u64 {
        self.counter.acked(self.tcp.as_fd(), self.written()).unwrap_or(0)
    }

    /// Returns how much of what was written has not been acknowledged.
    pub(super) fn unacked(&self) -> u64 {
        self.written().saturating_sub(self.acked())
    }

    pub(super) fn is_settled(&self) -> bool {
        self.unacked() == 0
    }

    /// Returns whether nothing more can be acknowledged; what cannot be asked is over.
    pub(super) fn is_over(&self) -> bool {
        meter::is_over(self.tcp.as_fd()).unwrap_or(true)
    }

    pub(super) async fn send_all(&self, mut bytes: &[u8], more: bool) -> io::Result<()> {
        while !bytes.is_empty() {
            match socket::send_now(&self.tcp, bytes, more) {
                Ok(n) => {
                    self.wrote(n);
                    bytes = &bytes[n..];
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.tcp.writable().await?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

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
        let arrived = self.arrived(stream);
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
        self.end_at(has_arrived.then_some(arrived), arrived.end, sent_to).await;
    }

    async fn end_at(self, arrived: Option<ByteRange>, arrived_to: u64, sent_to: u64) {
        if let Some(request) = self.request {
            let in_doubt = Some(ByteRange::new(arrived_to, sent_to)).filter(|range| !range.is_empty());
            self.reports.ended(request, arrived, self.evidence, in_doubt).await;
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
    } else {
        sent_by_kernel(stream, &head, file, &metered, threads).await
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
            let arrived_to = arrived.end;
            metered.end_at(Some(arrived).filter(|range| !range.is_empty()), arrived_to, sent_to).await;
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
    head: &[u8],
    file: &Arc<OpenFile>,
    metered: &Metered,
    threads: &Arc<Semaphore>,
) -> Result<(), End> {
    let mut watch = Watch::new(stream, metered);
    let mut purse = Purse::new(metered.pass().pace.clone());
    watch.over(stream.send_all(head, purse.is_free())).await?;
    let tail = ByteRange::new(metered.range.end - HELD_BACK, metered.range.end);
    let plan = Plan { stream: stream.clone(), file: file.clone(), start: metered.range.start, end: tail.start, body_at: metered.body_at };
    let mut hold = Hold::little(&stream.tcp);
    loop {
        let permit = watch.over(permit(metered.pass(), threads)).await?;
        let (plan, cut) = (plan.clone(), metered.pass().cut.clone());
        let work = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let burst = plan.burst(&mut purse, &mut hold, || cut.is_cancelled());
            (burst, purse, hold)
        });
        let burst;
        (burst, purse, hold) = watch.over(async { work.await.map_err(io::Error::other) }).await?;
        match burst.map_err(End::Failed)? {
            Burst::Done => break,
            Burst::Early(wait) => watch.over(rest(wait)).await?,
            Burst::Full => watch.over(socket::writable(&stream.tcp)).await?,
            Burst::Turn => {}
            Burst::Short => return Err(End::Changed),
            Burst::Cut => return Err(End::Cut),
        }
    }
    watch.over(settled(stream)).await?;
    let bytes = watch.over(proven_copy(file, tail, metered.pass(), threads)).await?.ok_or(End::Changed)?;
    paced(stream, &bytes, &mut purse, &mut watch).await
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
async fn proven_copy(file: &Arc<OpenFile>, range: ByteRange, pass: &Pass, threads: &Arc<Semaphore>) -> io::Result<Option<Vec<u8>>> {
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
    if bytes.is_empty() {
        return Some(bytes);
    }
    let mut buffers = [io::IoSliceMut::new(&mut bytes)];
    let n = preadv2(file, &mut buffers, range.start, ReadWriteFlags::NOWAIT).ok()?;
    (n == bytes.len()).then_some(bytes)
}

/// What a blocking thread sends.
#[derive(Clone)]
struct Plan {
    stream: Arc<Stream>,
    file: Arc<OpenFile>,
    start: u64,
    end: u64,
    body_at: u64,
}

/// Why a blocking thread stopped.
enum Burst {
    /// Everything was written.
    Done,
    /// The socket is full.
    Full,
    /// It is the turn of whoever waits.
    Turn,
    /// The transfer's speed is limited, and more may leave after so long.
    Early(Duration),
    /// The file ended too early.
    Short,
    /// The pass was cut.
    Cut,
}

/// How a body is held ready for its recipient: by how fast they took what came before.
struct Hold {
    /// Whether the kernel may hold little of it unsent.
    is_little: bool,
    /// How long a thread may wait for them. Nothing, before they have shown that it is worth it: two hundred who come at once
    /// would keep two hundred threads.
    patience: Duration,
    /// When the socket was last full, and how much was sent since. What fills it first says nothing of the recipient.
    full_at: Option<Instant>,
    sent: u64,
}

impl Hold {
    fn little(tcp: &TcpStream) -> Self {
        socket::hold_unsent(tcp, MAX_UNSENT_BYTES);
        Self { is_little: true, patience: Duration::ZERO, full_at: None, sent: 0 }
    }

    /// Notes that bytes were taken.
    fn sent(&mut self, bytes: u64) {
        self.sent += bytes;
    }

    /// Notes that the socket takes no more, and that it did not within the patience.
    fn full(&mut self, tcp: &TcpStream) {
        let (before, sent) = (self.full_at.replace(Instant::now()), std::mem::take(&mut self.sent));
        // As fast as this, the socket takes more before the patience is over.
        let is_fast = before.is_some_and(|before| {
            u128::from(sent) * THREAD_PATIENCE.as_micros() >= u128::from(MAX_UNSENT_BYTES / 2) * before.elapsed().as_micros()
        });
        self.patience = if is_fast { THREAD_PATIENCE } else { Duration::ZERO };
        // Who is fast and was kept from reading for a moment, by a busy machine or a lost segment, stays fast.
        self.set_little(tcp, !is_fast);
    }

    fn set_little(&mut self, tcp: &TcpStream, is_little: bool) {
        if is_little != self.is_little {
            self.is_little = is_little;
            socket::hold_unsent(tcp, if is_little { MAX_UNSENT_BYTES } else { u32::MAX });
        }
    }
}

impl Plan {
    fn burst(&self, purse: &mut Purse, hold: &mut Hold, is_cut: impl Fn() -> bool) -> io::Result<Burst> {
        let (began, mut sent) = (Instant::now(), 0);
        loop {
            let at = self.start + (self.stream.written() - self.body_at);
            if at >= self.end {
                return Ok(Burst::Done);
            }
            if is_cut() {
                return Ok(Burst::Cut);
            }
            if began.elapsed() >= TURN {
                return Ok(Burst::Turn);
            }
            let mut offset = at;
            let length = match purse.open((self.end - at).min(MAX_CHUNK), Instant::now()) {
                Ok(n) => n as usize,
                Err(wait) => return Ok(Burst::Early(wait)),
            };
            match rustix::fs::sendfile(&self.stream.tcp, &self.file.file, Some(&mut offset), length) {
                Ok(0) => return Ok(Burst::Short),
                Ok(n) => {
                    self.stream.wrote(n);
                    purse.sent(n as u64);
                    hold.sent(n as u64);
                    sent += n;
                    if sent >= KEEPS_UP_BYTES {
                        hold.set_little(&self.stream.tcp, false);
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    if !socket::is_writable_within(self.stream.tcp.as_fd(), hold.patience) {
                        hold.full(&self.stream.tcp);
                        return Ok(Burst::Full);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::catalog::{Catalog, CatalogOptions};
    use crate::share::CatalogPath;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_recipient_who_takes_nothing_holds_little_in_the_kernel() {
        const SIZE: u64 = 1 << 30;
        /// What lies unsent, what one segment more is, and what the other side's small buffer takes.
        const MOST: u64 = 2 * MAX_UNSENT_BYTES as u64 + 64 * 1024;
        let folder = tempfile::tempdir().unwrap();
        File::create(folder.path().join("film.mkv")).unwrap().set_len(SIZE).unwrap();
        let catalog = Catalog::new(folder.path(), CatalogOptions::default()).unwrap();
        let file = Arc::new(catalog.open(&CatalogPath::parse("film.mkv").unwrap()).await.unwrap());
        let listener = super::super::accept::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let reader = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        socket2::SockRef::from(&reader).set_recv_buffer_size(8192).unwrap();
        let stream = Arc::new(Stream::new(listener.accept().await.unwrap().0).unwrap());
        let plan = Plan { stream: stream.clone(), file, start: 0, end: SIZE, body_at: 0 };
        let mut hold = Hold::little(&stream.tcp);
        let burst = tokio::task::spawn_blocking(move || {
            let burst = plan.burst(&mut Purse::new(None), &mut hold, || false).unwrap();
            (burst, hold.patience)
        });
        let (burst, patience) = burst.await.unwrap();
        assert!(matches!(burst, Burst::Full));
        assert_eq!(patience, Duration::ZERO, "no thread waits for them");
        assert!(stream.unacked() < MOST, "{} bytes are held", stream.unacked());
        drop(reader);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_recipient_who_keeps_up_leaves_others_their_turn() {
        const SIZE: u64 = 1 << 38;
        let folder = tempfile::tempdir().unwrap();
        File::create(folder.path().join("film.mkv")).unwrap().set_len(SIZE).unwrap();
        let catalog = Catalog::new(folder.path(), CatalogOptions::default()).unwrap();
        let file = Arc::new(catalog.open(&CatalogPath::parse("film.mkv").unwrap()).await.unwrap());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut reader = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let stream = Arc::new(Stream::new(listener.accept().await.unwrap().0).unwrap());
        let reading = std::thread::spawn(move || {
            let mut bytes = vec![0; 1 << 20];
            while reader.read(&mut bytes).is_ok_and(|n| n > 0) {}
        });
        let plan = Plan { stream: stream.clone(), file, start: 0, end: SIZE, body_at: 0 };
        let longest = tokio::task::spawn_blocking(move || {
            let longest = Instant::now() + Duration::from_secs(10);
            let bursts = (0..5).map(|_| {
                let began = Instant::now();
                plan.burst(&mut Purse::new(None), &mut Hold::little(&plan.stream.tcp), || Instant::now() >= longest).unwrap();
                began.elapsed()
            });
            bursts.max().unwrap()
        });
        let longest = longest.await.unwrap();
        socket::abort(&stream.tcp);
        reading.join().unwrap();
        assert!(longest < Duration::from_secs(2), "one burst took {longest:?}");
    }
}
