//! One connection of a recipient, from its first byte to its last.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use futures_util::StreamExt;
use http::Response;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::answer;
use super::arrival::Welcomed;
use super::exchange::{Exchange, Fetch, PAGE_TIMEOUT, Reply};
use super::head::{self, BadHead, Head, MAX_HEAD_BYTES};
use super::send::{self, End, Metered};
use super::stream::Stream;
use super::{RecipientSide, socket};
use crate::catalog::OpenFile;
use crate::causes::Causes;

/// How long a head may take from its first byte (or from the beginning of the connection).
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may be idle between two requests.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a body of at most a kilobyte may take.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest that an answer may be sent bit by bit, whatever the router says: it ends its streams sooner.
pub(super) const MAX_STREAM: Duration = Duration::from_secs(16 * 60);
/// How long what was written may go without an acknowledgement once the other side has closed its half: it is still
/// alive, or its kernel would have reset the connection.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the other side may still talk after our last answer, and how much: closing at once would reset the
/// connection and could take that answer from it (RFC 9112 9.6).
const LINGER: (Duration, usize) = (Duration::from_secs(2), 64 * 1024);
/// The first and the longest pause between two looks at what was acknowledged.
const LOOKS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(500));

/// Answers a connection until it ends.
pub(super) async fn serve(welcomed: Welcomed, side: Arc<RecipientSide>, threads: Arc<Semaphore>, shutdown: CancellationToken) {
    let Welcomed { stream, origin } = welcomed;
    let exchange = Exchange::new(side, threads, origin);
    Connection { stream: Arc::new(stream), exchange, shutdown, buffer: Vec::new(), unsettled: None }.run().await;
}

struct Connection {
    stream: Arc<Stream>,
    exchange: Exchange,
    /// Cancelled when idle connections are to end.
    shutdown: CancellationToken,
    /// What was read and not yet used: at most a head, a body and what a pipelining client sent behind.
    buffer: Vec<u8>,
    /// A body that was written and whose arrival is still being watched.
    unsettled: Option<Metered>,
}

/// What happens to the connection behind an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Another request may come.
    KeepAlive,
    /// No other: the other side hears that and may finish talking.
    Close,
    /// Nothing is said any more.
    Drop,
}

/// What follows a request that was understood.
enum Then {
    /// It is answered.
    Done(Next),
    /// It is answered with bytes, which take their time: nothing of the request is held meanwhile.
    Bytes(Box<Bytes>),
}

impl From<Next> for Then {
    fn from(next: Next) -> Self {
        Self::Done(next)
    }
}

/// Bytes of a transfer that are to be sent.
struct Bytes {
    head: Vec<u8>,
    file: Arc<OpenFile>,
    metered: Metered,
    keeps_alive: bool,
}

/// What came instead of a head.
enum NoHead {
    /// The other side closed or was silent for too long; nothing is said.
    Quiet,
    /// Something that is no head.
    Bad(BadHead),
}

impl Connection {
    async fn run(mut self) {
        let mut next = Next::KeepAlive;
        let mut is_first = true;
        while next == Next::KeepAlive {
            next = match self.next_head(is_first).await {
                // Five thousand idle connections do not each hold the room that an answer takes while it is made.
                Ok(head) => match Box::pin(self.answer(head)).await {
                    Ok(Then::Done(next)) => next,
                    Ok(Then::Bytes(bytes)) => Box::pin(self.send(*bytes)).await,
                    Err(_) => Next::Drop,
                },
                Err(NoHead::Quiet) => Next::Drop,
                Err(NoHead::Bad(bad)) => self.refuse(bad).await,
            };
            is_first = false;
        }
        let may_talk = next == Next::Close && self.stream.finish();
        // First what was sent: while it is on its way a cut must be noticed.
        self.settle().await;
        if may_talk {
            // Its buffer would else be a part of every connection from the beginning.
            Box::pin(linger(&self.stream)).await;
        }
    }

    /// Reads the next head, and meanwhile watches the last body arrive.
    async fn next_head(&mut self, is_first: bool) -> Result<Head, NoHead> {
        let mut deadline = Instant::now() + if is_first { HEAD_TIMEOUT } else { IDLE_TIMEOUT };
        let mut pause = LOOKS.0;
        loop {
            match head::parse(&self.buffer) {
                Ok(Some(head)) => return Ok(head),
                Ok(None) => {}
                Err(bad) => return Err(NoHead::Bad(bad)),
            }
            self.settle_if_arrived().await;
            let cut = self.unsettled.as_ref().map(|metered| metered.pass().cut.clone());
            tokio::select! {
                biased;
                () = async { if let Some(cut) = &cut { cut.cancelled().await } }, if cut.is_some() => {
                    self.abort().await;
                    return Err(NoHead::Quiet);
                }
                ready = self.stream.readable() => {
                    let was_empty = self.buffer.is_empty();
                    match ready.and_then(|()| self.read(MAX_HEAD_BYTES)) {
                        Ok(0) => return Err(NoHead::Quiet),
                        Ok(_) if was_empty && !is_first => deadline = Instant::now() + HEAD_TIMEOUT,
                        Ok(_) => {}
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(_) => return Err(NoHead::Quiet),
                    }
                }
                () = sleep(pause), if self.unsettled.is_some() => {
                    if let Some(metered) = &self.unsettled {
                        metered.sample(&self.stream);
                    }
                    pause = (pause * 2).min(LOOKS.1);
                }
                // While bytes are on their way it is the share's stall timeout that judges, not ours.
                () = sleep_until(deadline), if self.unsettled.is_none() || !self.buffer.is_empty() => return Err(NoHead::Quiet),
                () = self.shutdown.cancelled(), if self.unsettled.is_none() && self.buffer.is_empty() => return Err(NoHead::Quiet),
            }
        }
    }

    fn read(&mut self, most: usize) -> io::Result<usize> {
        let length = self.buffer.len();
        if length >= most {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.buffer.resize((length + 2048).min(most), 0);
        let result = self.stream.try_read(&mut self.buffer[length..]);
        self.buffer.truncate(length + result.as_ref().copied().unwrap_or(0));
        result
    }

    async fn answer(&mut self, mut head: Head) -> io::Result<Then> {
        self.buffer.drain(..head.length);
        // What was asked may take its time, and nothing is read meanwhile.
        self.buffer.shrink_to_fit();
        let Some(body) = self.read_body(head.body_bytes).await? else { return Ok(Next::Drop.into()) };
        // What stands behind a request before it was answered is a pipeline: it is not answered, and the client is told.
        let keeps_alive = head.keeps_alive && self.buffer.is_empty() && !self.shutdown.is_cancelled();
        match self.exchange.answer(&mut head, body, keeps_alive).await {
            Reply::Silence => Ok(Next::Drop.into()),
            Reply::Whole(out) => self.send_page(&out, keeps_alive).await.map(Then::Done),
            Reply::Streamed(response) => Box::pin(self.write_stream(&head, *response)).await.map(Then::Done),
            Reply::Bytes(fetch) => {
                // Only one body at a time is watched; the one before has arrived, or this request would not be here.
                self.settle().await;
                Ok(Then::Bytes(Box::new(self.prepared(*fetch, keeps_alive))))
            }
        }
    }

    fn prepared(&self, fetch: Fetch, keeps_alive: bool) -> Bytes {
        let Fetch { head, file, entered, request, range, relay } = fetch;
        let body_at = self.stream.written() + head.len() as u64;
        let (reports, evidence) = (self.exchange.side.reports.clone(), self.exchange.origin.evidence_of_kernel());
        Bytes { head, file, metered: Metered { entered, request, reports, evidence, range, body_at, relay }, keeps_alive }
    }

    async fn read_body(&mut self, length: usize) -> io::Result<Option<Vec<u8>>> {
        let deadline = Instant::now() + BODY_TIMEOUT;
        while self.buffer.len() < length {
            tokio::select! {
                ready = self.stream.readable() => {
                    match ready.and_then(|()| self.read(MAX_HEAD_BYTES)) {
                        Ok(0) => return Ok(None),
                        Ok(_) => {}
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) => return Err(error),
                    }
                }
                () = sleep_until(deadline) => return Ok(None),
            }
        }
        Ok(Some(self.buffer.drain(..length).collect()))
    }

    /// Answers with what the router says bit by bit, until it has no more to say or nobody listens.
    async fn write_stream(&mut self, head: &Head, response: Response<Body>) -> io::Result<Next> {
        let (parts, body) = response.into_parts();
        // What is counted of a body that was sent before would be taken for these bytes.
        self.settle().await;
        let is_chunked = head.is_1_1;
        let out = answer::of_stream(&parts, is_chunked, self.exchange.side.clock.now().wall);
        let mut next = self.send_page(&out, false).await?;
        let (mut pieces, ends) = (body.into_data_stream(), Instant::now() + MAX_STREAM);
        while next != Next::Drop {
            let piece = tokio::select! {
                piece = pieces.next() => piece,
                () = self.gone() => return Ok(Next::Drop),
                () = self.shutdown.cancelled() => None,
                () = sleep_until(ends) => None,
            };
            match piece {
                Some(Ok(piece)) if piece.is_empty() => {}
                Some(Ok(piece)) if is_chunked => {
                    let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), &piece, b"\r\n"].concat();
                    next = self.send_page(&chunk, false).await?;
                }
                Some(Ok(piece)) => next = self.send_page(&piece, false).await?,
                Some(Err(_)) | None if is_chunked => return self.send_page(b"0\r\n\r\n", false).await,
                Some(Err(_)) | None => return Ok(Next::Close),
            }
        }
        Ok(next)
    }

    /// Waits until the other side has closed, or talks on and on: nothing that it says is answered.
    async fn gone(&self) {
        let (mut waste, mut left) = ([0; 1024], LINGER.1);
        while left > 0 {
            match self.stream.readable().await.and_then(|()| self.stream.try_read(&mut waste)) {
                Ok(0) => return,
                Ok(n) => left = left.saturating_sub(n),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }

    async fn send_page(&mut self, out: &[u8], keeps_alive: bool) -> io::Result<Next> {
        match timeout(PAGE_TIMEOUT, self.stream.send_all(out, false)).await {
            Ok(sent) => sent.map(|()| if keeps_alive { Next::KeepAlive } else { Next::Close }),
            Err(_) => Ok(Next::Drop),
        }
    }

    async fn refuse(&mut self, bad: BadHead) -> Next {
        match self.exchange.refuse(bad, self.buffer.starts_with(b"HEAD ")) {
            Reply::Whole(out) => self.send_page(&out, false).await.unwrap_or(Next::Drop),
            Reply::Silence | Reply::Streamed(_) | Reply::Bytes(_) => Next::Drop,
        }
    }

    /// Sends bytes, and leaves what is still to arrive of them under watch.
    async fn send(&mut self, bytes: Bytes) -> Next {
        let Bytes { head, file, metered, keeps_alive } = bytes;
        let share = metered.pass().share;
        let (end, metered) = send::body(&self.stream, head, &file, metered, &self.exchange.threads).await;
        self.unsettled = metered;
        match end {
            End::Sent if keeps_alive => Next::KeepAlive,
            End::Sent => Next::Close,
            End::Changed => {
                self.exchange.side.reports.source_changed(share).await;
                Next::Drop
            }
            End::Cut => Next::Drop,
            End::Failed(error) => {
                tracing::debug!(share.id = %share, error = %Causes(&error), "A recipient's connection ended early");
                self.end_unsettled().await;
                socket::abort(&self.stream.tcp);
                Next::Drop
            }
        }
    }

    /// Tells the end of the body that was watched, if all of it has arrived.
    async fn settle_if_arrived(&mut self) {
        if self.unsettled.is_some() && self.stream.is_settled() {
            self.end_unsettled().await;
        }
    }

    async fn end_unsettled(&mut self) {
        if let Some(metered) = self.unsettled.take() {
            metered.end(&self.stream).await;
        }
    }

    /// Waits for the last body to arrive, as long as that goes on, and tells its end.
    async fn settle(&mut self) {
        let Some(metered) = &self.unsettled else { return };
        let cut = metered.pass().cut.clone();
        let (mut pause, mut last) = (LOOKS.0, (self.stream.written(), Instant::now()));
        while !self.stream.is_settled() && last.1.elapsed() < SETTLE_TIMEOUT && !self.stream.is_over() {
            tokio::select! {
                () = cut.cancelled() => return self.abort().await,
                () = sleep(pause) => {}
            }
            pause = (pause * 2).min(LOOKS.1);
            if let Some(metered) = &self.unsettled {
                metered.sample(&self.stream);
            }
            let unacked = self.stream.unacked();
            if unacked != last.0 {
                last = (unacked, Instant::now());
            }
        }
        self.end_unsettled().await;
    }

    /// Tells the end of the last body and resets the connection.
    async fn abort(&mut self) {
        self.end_unsettled().await;
        socket::abort(&self.stream.tcp);
    }
}

/// Lets the other side, who heard that nothing more is answered, finish.
pub(super) async fn linger(stream: &Stream) {
    let deadline = Instant::now() + LINGER.0;
    let mut left = LINGER.1;
    let mut waste = [0; 4096];
    while left > 0 {
        tokio::select! {
            ready = stream.readable() => match ready.and_then(|()| stream.try_read(&mut waste)) {
                Ok(0) => return,
                Ok(n) => left = left.saturating_sub(n),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            },
            () = sleep_until(deadline) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What one connection may hold while it says nothing, and again while its body is sent.
    const MOST: (usize, usize) = (2 * 1024, 4 * 1024);

    fn size_of_serving<A, B, C, D, Serving: Future>(_: impl Fn(A, B, C, D) -> Serving) -> usize {
        size_of::<Serving>()
    }

    fn size_of_answering<'a, Answering: Future + 'a>(_: impl Fn(&'a mut Connection, Head) -> Answering) -> usize {
        size_of::<Answering>()
    }

    #[test]
    fn an_idle_connection_does_not_hold_the_room_of_an_answer() {
        let sizes = (size_of_serving(serve), size_of_answering(Connection::answer));
        assert!(sizes.0 <= MOST.0 && sizes.1 <= MOST.1, "{sizes:?} bytes");
    }
}
