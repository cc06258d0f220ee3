//! What lies between HTTP/2 and the socket: whole records of TLS are made of its frames, and PINGs are put between them.
//!
//! It knows what has left and what is confirmed, so it is also who says how much of the bodies may be handed on: little beyond
//! what the socket takes, and no more than a bound beyond what the recipient confirmed.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::socket;
use super::stream::Stream;
use crate::meter::PingMeter;
use crate::token::random;

/// How much is sealed and sent at a time, in one call: as much of the bodies as may wait, with the heads of its frames and a PING.
const BATCH_BYTES: usize = 65 * 1024;
/// How much of the bodies may wait in HTTP/2's own queues, at the least (for who does not keep up) and at the most.
const AHEAD_BYTES: (u64, u64) = (16 * 1024, 64 * 1024);
/// How much is read at a time: requests are small.
const READ_BYTES: usize = 4096;

/// A connection as HTTP/2 sees it. Cheap to clone: all clones are one.
#[derive(Clone)]
pub(super) struct Wire(Arc<Shared>);

struct Shared {
    stream: Arc<Stream>,
    began: Instant,
    state: Mutex<State>,
    /// Told when something was confirmed or has left: more may be handed on.
    changed: Notify,
}

struct State {
    meter: PingMeter,
    /// Frames that left HTTP/2 and are not sealed.
    plain: Vec<u8>,
    /// What came and HTTP/2 has not taken, from `taken` on.
    come: Vec<u8>,
    taken: usize,
    /// Whether the socket takes no more.
    is_full: bool,
    /// How much of the bodies may wait at the moment.
    most_ahead: u64,
    /// Whether frames left HTTP/2 since whoever waits for room was told.
    has_left: bool,
}

impl Wire {
    pub(super) fn new(stream: Arc<Stream>) -> Self {
        let state = State {
            meter: PingMeter::new(|| u64::from_ne_bytes(random::bytes())),
            plain: Vec::new(),
            come: Vec::new(),
            taken: 0,
            is_full: false,
            most_ahead: AHEAD_BYTES.0,
            has_left: false,
        };
        Self(Arc::new(Shared { stream, began: Instant::now(), state: Mutex::new(state), changed: Notify::new() }))
    }

    pub(super) fn stream(&self) -> &Arc<Stream> {
        &self.0.stream
    }

    /// Does something with what is known of the bodies.
    pub(super) fn meter<T>(&self, work: impl FnOnce(&mut PingMeter) -> T) -> T {
        work(&mut self.0.lock().meter)
    }

    /// Waits until more of a body may be handed on. Returns how much.
    pub(super) async fn room(&self) -> u64 {
        self.until(|state| Some(state.room()).filter(|room| *room > 0)).await
    }

    /// Takes what room there is for more of a body, and at most so much; it counts as handed on.
    pub(super) fn take_room(&self, stream: u32, most: u64) -> u64 {
        let mut state = self.0.lock();
        let taken = state.room().min(most);
        state.meter.hand(stream, taken);
        taken
    }

    /// Waits until so much of a body is confirmed.
    pub(super) async fn confirmed(&self, stream: u32, bytes: u64) {
        self.until(|state| state.meter.confirmed(stream).filter(|confirmed| *confirmed >= bytes)).await;
    }

    async fn until<T>(&self, done: impl Fn(&State) -> Option<T>) -> T {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(result) = done(&self.0.lock()) {
                return result;
            }
            changed.await;
        }
    }

    /// Returns whether something has left that is not asked after.
    pub(super) fn is_unasked(&self) -> bool {
        self.0.lock().meter.is_unasked()
    }

    /// Asks after what has left, as soon as a frame is at its end.
    pub(super) fn ask(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        if let Some(ping) = state.meter.ping_now(self.0.now()) {
            state.plain.extend_from_slice(&ping);
            self.0.push(&mut state)?;
        }
        Ok(())
    }

    /// Waits until nothing waits for the socket.
    pub(super) fn poll_flushed(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_flushed(context)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while moving frames")
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Seals and sends. Returns whether nothing waits any more.
    fn push(&self, state: &mut State) -> io::Result<bool> {
        while !state.plain.is_empty() {
            match self.stream.send_now(&state.plain, false) {
                Ok(n) => drop(state.plain.drain(..n)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        // A quiet connection holds nothing.
        state.plain = Vec::new();
        self.stream.flush()
    }

    fn poll_flushed(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        while !self.push(&mut state)? {
            state.set_full(true);
            ready!(self.stream.tcp.poll_write_ready(context))?;
        }
        if state.set_full(false) {
            self.changed.notify_waiters();
        }
        Poll::Ready(Ok(()))
    }

    /// Waits until the kernel wants more, which is earlier than when it would take more.
    fn poll_wanted(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.tcp.poll_write_ready(context))?;
            match self.stream.tcp.try_io(Interest::WRITABLE, || socket::is_wanted(&self.stream.tcp)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return Poll::Ready(other),
            }
        }
    }
}

impl State {
    fn room(&self) -> u64 {
        let ahead = self.meter.ahead_bytes();
        let waits = if self.is_full { 0 } else { self.most_ahead.saturating_sub(ahead) };
        self.meter.room().min(waits)
    }

    /// Notes whether the socket is full. Returns whether more may be handed on than before: to tell of nothing new would have the
    /// connection go round for ever, for whoever is told asks it again.
    fn set_full(&mut self, is_full: bool) -> bool {
        let was_full = std::mem::replace(&mut self.is_full, is_full);
        if is_full {
            self.most_ahead = AHEAD_BYTES.0;
            return false;
        }
        let is_more = std::mem::take(&mut self.has_left) || was_full;
        if is_more {
            self.most_ahead = (self.most_ahead * 2).min(AHEAD_BYTES.1);
        }
        is_more
    }

    /// Takes frames, and puts PINGs between them.
    fn take(&mut self, mut bytes: &[u8], now: Duration) {
        while !bytes.is_empty() {
            let n = self.meter.leave(bytes);
            self.has_left = true;
            if self.plain.capacity() == 0 && self.most_ahead == AHEAD_BYTES.1 {
                self.plain.reserve(BATCH_BYTES);
            }
            self.plain.extend_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            if let Some(ping) = self.meter.ping_if_due(now) {
                self.plain.extend_from_slice(&ping);
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let shared = &self.0;
        if shared.lock().plain.len() >= BATCH_BYTES {
            ready!(shared.poll_flushed(context))?;
        }
        let mut state = shared.lock();
        if state.plain.is_empty()
            && let Poll::Pending = shared.poll_wanted(context)?
        {
            state.set_full(true);
            return Poll::Pending;
        }
        let n = bytes.len().min(BATCH_BYTES - state.plain.len());
        state.take(&bytes[..n], shared.now());
        Poll::Ready(Ok(n))
    }

    /// Does nothing: HTTP/2 asks for it behind every frame. Whoever polls it sends what has gathered when there is no more.
    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.0.poll_flushed(context))?;
        self.0.stream.finish();
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let shared = &self.0;
        let mut state = shared.lock();
        loop {
            let waiting = &state.come[state.taken..];
            if !waiting.is_empty() {
                let n = waiting.len().min(into.remaining());
                into.put_slice(&waiting[..n]);
                state.taken += n;
                return Poll::Ready(Ok(()));
            }
            (state.come, state.taken) = (Vec::new(), 0);
            ready!(shared.stream.poll_readable(context))?;
            let mut bytes = [0; READ_BYTES];
            match shared.stream.try_read(&mut bytes) {
                Ok(0) => return Poll::Ready(Ok(())),
                Ok(n) => {
                    let State { meter, come, .. } = &mut *state;
                    if meter.come(&bytes[..n], come, shared.now()) {
                        shared.changed.notify_waiters();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}
