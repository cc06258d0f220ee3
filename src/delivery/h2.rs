//! One connection of a recipient who speaks HTTP/2, from its first byte to its last.
//!
//! The frames are the `h2` crate's; each request is a future of the connection's one task. `body.rs`: bytes of a transfer.

mod body;

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{Method, Request, Response};
use tokio::sync::Semaphore;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use self::body::Body;
use super::arrival::{Origin, Welcomed};
use super::exchange::{Exchange, PAGE_TIMEOUT, Reply};
use super::head::{self, BadHead, MAX_BODY_BYTES, MAX_HEAD_BYTES};
use super::wire::Wire;
use super::{RecipientSide, answer, h1, socket};
use super::{burst::MAX_UNSENT_BYTES, h1::BODY_TIMEOUT};

/// How many requests of one connection may run at once: as many as a transfer takes, and as many again beside them.
const MAX_STREAMS: u32 = 64;
/// How much of what is sent may wait in one stream's own queue.
const MAX_SEND_BUFFER_BYTES: usize = 128 * 1024;
/// How much of a request's body may be on its way: more than any takes.
const WINDOW_BYTES: u32 = 16 * 1024;
/// How many requests may have been taken back before they were looked at, and how many of ours are remembered for so long
/// (a frame may still be under way to them). Whoever goes on is told to go (CVE-2023-44487).
const MAX_RESETS: usize = 32;
const RESET_MEMORY: Duration = Duration::from_secs(2);
/// How many errors of one connection are answered with the end of a stream, before it is the connection's.
const MAX_STREAM_ERRORS: usize = 64;
/// How many requests may be under way here at once, those that were taken back among them: h2 counts only those that were not.
const MAX_REQUESTS: usize = 2 * MAX_STREAMS as usize;
/// How often somebody is met with silence before the connection ends, while none of their downloads runs: a browser asks for an icon,
/// and who tries links asks again and again.
const MAX_SILENCES: u32 = 8;
/// After how long it is asked after whatever has left.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// How long the last frames may take to leave.
const GOODBYE: Duration = Duration::from_secs(2);

/// Answers a connection until it ends.
pub(super) async fn serve(welcomed: Welcomed, side: Arc<RecipientSide>, threads: Arc<Semaphore>, shutdown: CancellationToken) {
    let Welcomed { stream, origin } = welcomed;
    socket::hold_unsent(&stream.tcp, MAX_UNSENT_BYTES);
    let wire = Wire::new(Arc::new(stream));
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD_BYTES as u32)
        .max_send_buffer_size(MAX_SEND_BUFFER_BYTES)
        .initial_window_size(WINDOW_BYTES)
        .max_concurrent_reset_streams(MAX_RESETS)
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(Some(MAX_STREAM_ERRORS))
        .reset_stream_duration(RESET_MEMORY);
    let Ok(Ok(frames)) = timeout(h1::HEAD_TIMEOUT, builder.handshake(wire.clone())).await else { return };
    let site = Site { wire, side, threads, origin, shutdown };
    Box::pin(
        Connection { frames, site, requests: FuturesUnordered::new(), bodies: 0, silences: 0, is_dropped: false, ends_at: None }.run(),
    )
    .await;
}

/// What every request of a connection is answered with.
#[derive(Clone)]
struct Site {
    wire: Wire,
    side: Arc<RecipientSide>,
    threads: Arc<Semaphore>,
    origin: Origin,
    /// Cancelled when idle connections are to end.
    shutdown: CancellationToken,
}

struct Connection {
    frames: h2::server::Connection<Wire, Bytes>,
    site: Site,
    requests: FuturesUnordered<BoxFuture<'static, Ended>>,
    /// How many of them send bytes of a transfer.
    bodies: usize,
    /// How often silence was all that was said.
    silences: u32,
    /// Whether nothing more is said and nothing more heard, as where silence is all that is said.
    is_dropped: bool,
    /// Until when the last frames may leave, once nothing more is to come.
    ends_at: Option<Instant>,
}

/// How a request ended.
enum Ended {
    /// It is answered, or whoever asked is gone.
    Done,
    /// Its bytes were sent, or will not be.
    Sent,
    /// Nothing was said.
    Silence,
    /// Its head is answered, and bytes follow, which take their time: nothing of the request is held meanwhile.
    Bytes(Box<Body>),
}

/// What happens on a connection.
enum Input {
    Request(Box<(Request<RecvStream>, SendResponse<Bytes>)>),
    Ended(Ended),
    /// It is time to ask after what has left.
    Ask,
    Idle,
    Shutdown,
    /// The other side is gone, or has nothing more to hear.
    Over,
}

impl Connection {
    async fn run(mut self) {
        let mut idle_until = Instant::now() + h1::HEAD_TIMEOUT;
        let mut is_told = false;
        let mut asks = interval(ASK_EVERY);
        asks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let wire = self.site.wire.clone();
            let is_idle = self.requests.is_empty();
            let until = self.ends_at.unwrap_or(idle_until);
            let input = tokio::select! {
                biased;
                input = accept(&mut self.frames, &wire) => input,
                Some(ended) = self.requests.next(), if !is_idle => Input::Ended(ended),
                () = time_to_ask(&wire, &mut asks), if !is_idle => Input::Ask,
                () = sleep_until(until), if is_idle || self.ends_at.is_some() => Input::Idle,
                () = self.site.shutdown.cancelled(), if !is_told => Input::Shutdown,
            };
            match input {
                Input::Request(_) if self.requests.len() >= MAX_REQUESTS => {
                    self.is_dropped = true;
                    break;
                }
                Input::Request(request) => self.requests.push(self.site.clone().answer(*request).boxed()),
                Input::Ended(Ended::Bytes(body)) => {
                    self.bodies += 1;
                    self.requests.push(body.send().map(|()| Ended::Sent).boxed());
                }
                Input::Ended(ended) => {
                    idle_until = Instant::now() + h1::IDLE_TIMEOUT;
                    self.bodies -= usize::from(matches!(ended, Ended::Sent));
                    self.silences += u32::from(matches!(ended, Ended::Silence));
                    if self.silences >= MAX_SILENCES && self.bodies == 0 {
                        self.is_dropped = true;
                        break;
                    }
                    // As where there is one request at a time: whoever is met with silence has nothing more to ask. But a
                    // download beside it goes on, for browsers ask for more than they are told of.
                    if self.requests.is_empty() && (is_told || matches!(ended, Ended::Silence)) {
                        self.end();
                    }
                }
                Input::Ask if self.site.wire.ask().is_err() => break,
                Input::Ask => {}
                Input::Idle if self.ends_at.is_some() => break,
                Input::Idle => self.end(),
                Input::Shutdown => {
                    is_told = true;
                    self.frames.graceful_shutdown();
                    if is_idle {
                        self.end();
                    }
                }
                Input::Over => break,
            }
        }
        self.close().await;
    }

    /// Says that nothing more comes.
    fn end(&mut self) {
        if self.ends_at.is_none() {
            self.ends_at = Some(Instant::now() + GOODBYE);
            self.frames.abrupt_shutdown(Reason::NO_ERROR);
        }
    }

    async fn close(self) {
        let Self { frames, site, mut requests, is_dropped, .. } = self;
        // Whoever still waits for the other side learns that it is gone, and tells what has arrived.
        drop(frames);
        while let Some(ended) = requests.next().await {
            if let Ended::Bytes(body) = ended {
                body.send().await;
            }
        }
        if !is_dropped && site.wire.stream().finish() {
            Box::pin(h1::linger(site.wire.stream())).await;
        }
    }
}

impl Site {
    async fn answer(self, (request, mut out): (Request<RecvStream>, SendResponse<Bytes>)) -> Ended {
        let reply = Box::pin(self.decide(request)).await;
        let sent = match reply {
            Reply::Silence => {
                out.send_reset(Reason::CANCEL);
                return Ended::Silence;
            }
            Reply::Whole(page) => timeout(PAGE_TIMEOUT, Self::page(&mut out, &page)).await.ok().flatten(),
            Reply::Streamed(response) => self.streamed(&mut out, *response).await,
            Reply::Bytes(fetch) => {
                let body = Body::begin(&self, &mut out, *fetch).await;
                return body.map_or(Ended::Done, |body| Ended::Bytes(Box::new(body)));
            }
        };
        if sent.is_none() {
            out.send_reset(Reason::CANCEL);
        }
        Ended::Done
    }

    async fn decide(&self, request: Request<RecvStream>) -> Reply {
        let mut exchange = Exchange::new(self.side.clone(), self.threads.clone(), self.origin);
        let (parts, body) = request.into_parts();
        let is_head = parts.method == Method::HEAD;
        let mut head = match head::of_h2(parts, !body.is_end_stream()) {
            Ok(head) => head,
            Err(bad) => return exchange.refuse(bad, is_head),
        };
        match timeout(BODY_TIMEOUT, read(body)).await {
            Ok(Some(Ok(body))) => exchange.answer(&mut head, body, true).await,
            Ok(Some(Err(bad))) => exchange.refuse(bad, is_head),
            Ok(None) | Err(_) => Reply::Silence,
        }
    }

    /// Sends a whole answer; `None` where whoever asked is gone.
    async fn page(out: &mut SendResponse<Bytes>, page: &[u8]) -> Option<()> {
        let (head, body) = answer::for_h2(page)?;
        let mut stream = out.send_response(head, body.is_empty()).ok()?;
        if body.is_empty() { Some(()) } else { write(&mut stream, Bytes::copy_from_slice(body), true).await }
    }

    /// Sends what the router says bit by bit, until it has no more to say or nobody listens.
    async fn streamed(&self, out: &mut SendResponse<Bytes>, response: Response<axum::body::Body>) -> Option<()> {
        let (parts, body) = response.into_parts();
        let head = answer::of_stream(&parts, false, self.side.clock.now().wall);
        let mut stream = out.send_response(answer::for_h2(&head)?.0, false).ok()?;
        let (mut pieces, ends) = (body.into_data_stream(), Instant::now() + h1::MAX_STREAM);
        loop {
            let piece = tokio::select! {
                piece = pieces.next() => piece,
                _ = std::future::poll_fn(|context| stream.poll_reset(context)) => return None,
                () = self.shutdown.cancelled() => None,
                () = sleep_until(ends) => None,
            };
            match piece {
                Some(Ok(piece)) => timeout(PAGE_TIMEOUT, write(&mut stream, piece, false)).await.ok()??,
                Some(Err(_)) | None => return stream.send_data(Bytes::new(), true).ok(),
            }
        }
    }
}

/// Waits for a request; what has gathered is sent whenever there is no more of it.
async fn accept(frames: &mut h2::server::Connection<Wire, Bytes>, wire: &Wire) -> Input {
    std::future::poll_fn(|context| match frames.poll_accept(context) {
        Poll::Ready(Some(Ok(request))) => Poll::Ready(Input::Request(Box::new(request))),
        Poll::Ready(Some(Err(_)) | None) => Poll::Ready(Input::Over),
        Poll::Pending => match wire.poll_flushed(context) {
            Poll::Ready(Err(_)) => Poll::Ready(Input::Over),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        },
    })
    .await
}

/// Waits until something that has left is to be asked after.
async fn time_to_ask(wire: &Wire, asks: &mut Interval) {
    loop {
        asks.tick().await;
        // Whether there is anything is known only then: what others of the connection do meanwhile does not begin this anew.
        if wire.is_unasked() {
            return;
        }
    }
}

/// Reads a request's body, which is short; `None` where whoever asked is gone.
async fn read(mut body: RecvStream) -> Option<Result<Vec<u8>, BadHead>> {
    let mut all = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.ok()?;
        body.flow_control().release_capacity(piece.len()).ok()?;
        all.extend_from_slice(&piece);
        if all.len() > MAX_BODY_BYTES {
            return Some(Err(BadHead::BodyTooLarge));
        }
    }
    Some(Ok(all))
}

/// Sends bytes as fast as the other side takes them; `None` where it is gone.
async fn write(stream: &mut SendStream<Bytes>, mut bytes: Bytes, is_all: bool) -> Option<()> {
    while !bytes.is_empty() {
        let n = capacity(stream, bytes.len()).await?;
        let piece = bytes.split_to(n);
        stream.send_data(piece, is_all && bytes.is_empty()).ok()?;
    }
    Some(())
}

/// Waits until some of so many bytes may be sent on a stream. Returns how many; `None` where the other side is gone.
async fn capacity(stream: &mut SendStream<Bytes>, wanted: usize) -> Option<usize> {
    stream.reserve_capacity(wanted);
    while stream.capacity() == 0 {
        std::future::poll_fn(|context| stream.poll_capacity(context)).await?.ok()?;
    }
    Some(stream.capacity().min(wanted))
}
