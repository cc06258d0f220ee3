//! One connection of a recipient, from its first byte to its last.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use futures_util::StreamExt;
use http::{Extensions, HeaderValue, Method, Response, StatusCode, Uri, header};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::answer;
use super::arrival::{Origin, Welcomed};
use super::head::{self, BadHead, Head, MAX_HEAD_BYTES};
use super::send::{self, End, Metered};
use super::stream::Stream;
use super::{Found, Pass, Peer, RecipientSide, next_request_id, socket};
use crate::catalog::{CatalogError, OpenFile};
use crate::meter::Request;
use crate::share::{ShareId, TransferId};
use crate::token::TransferSecret;

/// How long a head may take from its first byte (or from the beginning of the connection).
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may be idle between two requests.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a body of at most a kilobyte may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a page may take to make, and again to send.
const PAGE_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest that an answer may be sent bit by bit, whatever the router says: it ends its streams sooner.
const MAX_STREAM: Duration = Duration::from_secs(16 * 60);
/// The longest page.
const MAX_PAGE_BYTES: usize = 64 * 1024;
/// How long what was written may go without an acknowledgement once the other side has closed its half: it is still
/// alive, or its kernel would have reset the connection.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the other side may still talk after our last answer, and how much: closing at once would reset the
/// connection and could take that answer from it (RFC 9112 9.6).
const LINGER: (Duration, usize) = (Duration::from_secs(2), 64 * 1024);
/// What an answer says that may be another in a moment.
const WAIT: &str = "Retry-After: 2\r\n";
/// The first and the longest pause between two looks at what was acknowledged.
const LOOKS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(500));

/// Put into an answer's extensions by the router: nothing is said, the connection is closed.
#[derive(Debug, Clone, Copy)]
pub struct Silence;

/// Put into an answer's extensions by the router: the bytes of this transfer are sent right here, as its own URL would, with
/// the answer's `Content-Location`. For a client that asks the link and does not follow redirects.
#[derive(Debug, Clone, Copy)]
pub struct SendBytes(pub TransferSecret);

/// Put into a request's extensions for the router: it is for the bytes of a transfer, and this is why none are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoBytes {
    /// The transfer is over.
    Over(ShareId, TransferId),
    /// Whoever asks is in no network that the link is for.
    NotAllowed,
}

/// Put into a request's extensions for the router: which transfer's progress is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Live(pub ShareId, pub TransferId);

/// Put into an answer's extensions by the router: its body is sent as it comes, and the connection closed behind it.
#[derive(Debug, Clone, Copy)]
pub struct Streamed;

/// Answers a connection until it ends.
pub(super) async fn serve(welcomed: Welcomed, side: Arc<RecipientSide>, threads: Arc<Semaphore>, shutdown: CancellationToken) {
    let Welcomed { stream, origin } = welcomed;
    let connection =
        Connection { stream: Arc::new(stream), origin, side, threads, shutdown, buffer: Vec::new(), unsettled: None, file: None };
    connection.run().await;
}

struct Connection {
    stream: Arc<Stream>,
    origin: Origin,
    side: Arc<RecipientSide>,
    threads: Arc<Semaphore>,
    /// Cancelled when idle connections are to end.
    shutdown: CancellationToken,
    /// What was read and not yet used: at most a head, a body and what a pipelining client sent behind.
    buffer: Vec<u8>,
    /// A body that was written and whose arrival is still being watched.
    unsettled: Option<Metered>,
    /// The file that the last request fetched from, kept open for the next.
    file: Option<(TransferSecret, Arc<OpenFile>)>,
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
            Box::pin(self.linger()).await;
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

    async fn answer(&mut self, head: Head) -> io::Result<Then> {
        self.buffer.drain(..head.length);
        // What was asked may take its time, and nothing is read meanwhile.
        self.buffer.shrink_to_fit();
        let Some(body) = self.read_body(head.body_bytes).await? else { return Ok(Next::Drop.into()) };
        // What stands behind a request before it was answered is a pipeline: it is not answered, and the client is told.
        let keeps_alive = head.keeps_alive && self.buffer.is_empty() && !self.shutdown.is_cancelled();
        if let Some((share, secret)) = secret_path(head.uri.path(), "live") {
            return Box::pin(self.live(&head, share, secret, keeps_alive)).await.map(Then::Done);
        }
        if let Some((share, secret)) = secret_path(head.uri.path(), "get") {
            match self.side.passes.find(&secret) {
                Some(Found::Valid(pass)) if pass.share == share => {
                    return if matches!(head.method, Method::GET | Method::HEAD) && self.side.doors.is_open(share) {
                        self.bytes(&head, secret, pass, None, keeps_alive).await
                    } else {
                        Ok(Next::Drop.into())
                    };
                }
                Some(Found::Over(of, transfer)) if of == share => {
                    let response = Box::pin(self.ask(&head, body, with(NoBytes::Over(share, transfer)))).await;
                    return self.write_page(&head, response, keeps_alive).await.map(Then::Done);
                }
                Some(_) | None => return Ok(Next::Drop.into()),
            }
        }
        let response = Box::pin(self.ask(&head, body, Extensions::new())).await;
        match response.as_ref().and_then(|response| response.extensions().get::<SendBytes>().copied()) {
            Some(SendBytes(secret)) => {
                let location = response.and_then(|response| response.headers().get(header::CONTENT_LOCATION).cloned());
                Box::pin(self.bytes_at_link(&head, secret, location, keeps_alive)).await
            }
            None => self.write_page(&head, response, keeps_alive).await.map(Then::Done),
        }
    }

    /// Answers a GET of a link with the bytes of the transfer that it made, or rejoined.
    async fn bytes_at_link(
        &mut self,
        head: &Head,
        secret: TransferSecret,
        location: Option<HeaderValue>,
        keeps_alive: bool,
    ) -> io::Result<Then> {
        match self.side.passes.find(&secret) {
            Some(Found::Valid(pass)) if self.side.doors.is_open(pass.share) => {
                self.bytes(head, secret, pass, location.as_ref(), keeps_alive).await
            }
            Some(Found::Valid(_)) => {
                self.plain("503 Service Unavailable", WAIT, "One moment, please.\n", keeps_alive).await.map(Then::Done)
            }
            // It ended while this was being decided.
            Some(Found::Over(share, transfer)) => {
                self.page_of(head, (share, secret), NoBytes::Over(share, transfer), keeps_alive).await.map(Then::Done)
            }
            None => Ok(Next::Drop.into()),
        }
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

    /// Asks the router; `None` where it does not answer in time.
    async fn ask(&self, head: &Head, body: Vec<u8>, extensions: Extensions) -> Option<Response<Body>> {
        let mut request = http::Request::new(Body::from(body));
        (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (head.method.clone(), head.uri.clone(), head.headers.clone());
        *request.extensions_mut() = extensions;
        request.extensions_mut().insert(self.peer(head));
        let response = timeout(PAGE_TIMEOUT, self.side.pages.clone().oneshot(request)).await.ok()?;
        Some(response.unwrap_or_else(|never| match never {}))
    }

    /// Answers a GET of a transfer's progress; for whoever has no transfer's secret there is nothing.
    async fn live(&mut self, head: &Head, share: ShareId, secret: TransferSecret, keeps_alive: bool) -> io::Result<Next> {
        if head.method != Method::GET {
            return Ok(Next::Drop);
        }
        let live = match self.side.passes.find(&secret) {
            Some(Found::Valid(pass)) if pass.share == share && self.side.doors.is_open(share) => {
                if !pass.policy.allows(self.peer(head).address) {
                    return self.page_of(head, (share, secret), NoBytes::NotAllowed, keeps_alive).await;
                }
                Live(share, pass.transfer)
            }
            Some(Found::Over(of, transfer)) if of == share => Live(share, transfer),
            Some(_) | None => return Ok(Next::Drop),
        };
        let response = self.ask(head, Vec::new(), with(live)).await;
        match response {
            Some(response) if response.extensions().get::<Streamed>().is_some() => self.write_stream(head, response).await,
            other => self.write_page(head, other, keeps_alive).await,
        }
    }

    /// Answers with what the router says bit by bit, until it has no more to say or nobody listens.
    async fn write_stream(&mut self, head: &Head, response: Response<Body>) -> io::Result<Next> {
        let (parts, body) = response.into_parts();
        // What is counted of a body that was sent before would be taken for these bytes.
        self.settle().await;
        let is_chunked = head.is_1_1;
        let out = answer::of_stream(&parts, is_chunked, self.side.clock.now().wall);
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

    /// Answers with a page of the router.
    async fn write_page(&mut self, head: &Head, response: Option<Response<Body>>, keeps_alive: bool) -> io::Result<Next> {
        let is_head = head.method == Method::HEAD;
        let Some(response) = response else {
            let body = if is_head { "" } else { "One moment, please.\n" };
            return self.plain("503 Service Unavailable", "Retry-After: 5\r\n", body, keeps_alive).await;
        };
        let (parts, body) = response.into_parts();
        if parts.extensions.get::<Silence>().is_some() || parts.status == StatusCode::METHOD_NOT_ALLOWED {
            return Ok(Next::Drop);
        }
        let bytes = axum::body::to_bytes(body, MAX_PAGE_BYTES).await.map_err(io::Error::other)?;
        // An answer to HEAD says how long the page would be.
        let said = parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let length = if is_head { said.unwrap_or(bytes.len()) } else { bytes.len() };
        let mut out = answer::of_page(&parts, length, keeps_alive, self.side.clock.now().wall);
        if !is_head {
            out.extend_from_slice(&bytes);
        }
        self.send_page(&out, keeps_alive).await
    }

    async fn plain(&mut self, status: &str, extra: &str, body: &str, keeps_alive: bool) -> io::Result<Next> {
        let out = answer::plain(status, extra, body, keeps_alive, self.side.clock.now().wall);
        self.send_page(&out, keeps_alive).await
    }

    async fn send_page(&mut self, out: &[u8], keeps_alive: bool) -> io::Result<Next> {
        match timeout(PAGE_TIMEOUT, self.stream.send_all(out, false)).await {
            Ok(sent) => sent.map(|()| if keeps_alive { Next::KeepAlive } else { Next::Close }),
            Err(_) => Ok(Next::Drop),
        }
    }

    async fn refuse(&mut self, bad: BadHead) -> Next {
        let Some(status) = bad.status_line() else { return Next::Drop };
        // The answer to a HEAD ends with its head, also where the rest of that head is not understood.
        let body = if self.buffer.starts_with(b"HEAD ") { String::new() } else { format!("{status}\n") };
        self.plain(status, "", &body, false).await.unwrap_or(Next::Drop)
    }

    /// Prepares the answer with bytes of a transfer. `location` is its own URL, where another was asked for.
    async fn bytes(
        &mut self,
        head: &Head,
        secret: TransferSecret,
        pass: Arc<Pass>,
        location: Option<&HeaderValue>,
        keeps_alive: bool,
    ) -> io::Result<Then> {
        let (now, peer, url) = (self.side.clock.now(), self.peer(head), (pass.share, secret));
        let over = NoBytes::Over(pass.share, pass.transfer);
        if !pass.policy.allows(peer.address) {
            return self.page_of(head, url, NoBytes::NotAllowed, keeps_alive).await.map(Then::Done);
        }
        if pass.is_over(now.steady) {
            return self.page_of(head, url, over, keeps_alive).await.map(Then::Done);
        }
        let answer = answer::to(head, &pass, location, keeps_alive, now.wall);
        let Some(range) = answer.body else {
            return self.send_page(&answer.head, keeps_alive).await.map(Then::Done);
        };
        let Some(entered) = pass.enter() else {
            return self
                .plain("503 Service Unavailable", WAIT, "Too many requests of this download run at once.\n", keeps_alive)
                .await
                .map(Then::Done);
        };
        let file = match self.open(secret, &pass).await {
            Ok(Some(file)) => file,
            Ok(None) => {
                self.side.reports.source_changed(pass.share).await;
                return self.page_of(head, url, over, keeps_alive).await.map(Then::Done);
            }
            Err(error) => {
                tracing::warn!(share.id = %pass.share, %error, "Could not open a shared file");
                return self
                    .plain("503 Service Unavailable", WAIT, "The sender's storage does not answer. Try again in a moment.\n", keeps_alive)
                    .await
                    .map(Then::Done);
            }
        };
        let request = if pass.is_complete() {
            None
        } else {
            let request = Request { share: pass.share, transfer: pass.transfer, id: next_request_id() };
            match self.side.reports.open(request, range).await {
                Some(Ok(())) => Some(request),
                Some(Err(_)) => return self.page_of(head, url, over, keeps_alive).await.map(Then::Done),
                None => return self.plain("503 Service Unavailable", WAIT, "One moment, please.\n", keeps_alive).await.map(Then::Done),
            }
        };
        // Only one body at a time is watched; the one before has arrived, or this request would not be here.
        self.settle().await;
        let evidence = self.origin.evidence_of_kernel();
        let body_at = self.stream.written() + answer.head.len() as u64;
        let metered = Metered { entered, request, reports: self.side.reports.clone(), evidence, range, body_at };
        Ok(Then::Bytes(Box::new(Bytes { head: answer.head, file, metered, keeps_alive })))
    }

    /// Sends bytes, and leaves what is still to arrive of them under watch.
    async fn send(&mut self, bytes: Bytes) -> Next {
        let Bytes { head, file, metered, keeps_alive } = bytes;
        let share = metered.pass().share;
        let (end, metered) = send::body(&self.stream, head, &file, metered, &self.threads).await;
        self.unsettled = metered;
        match end {
            End::Sent if keeps_alive => Next::KeepAlive,
            End::Sent => Next::Close,
            End::Changed => {
                self.side.reports.source_changed(share).await;
                Next::Drop
            }
            End::Cut => Next::Drop,
            End::Failed(error) => {
                tracing::debug!(share.id = %share, %error, "A recipient's connection ended early");
                self.end_unsettled().await;
                socket::abort(&self.stream.tcp);
                Next::Drop
            }
        }
    }

    /// Opens the transfer's file and proves that it is what was pinned; `None` where it is not.
    async fn open(&mut self, secret: TransferSecret, pass: &Arc<Pass>) -> Result<Option<Arc<OpenFile>>, CatalogError> {
        let pinned = pass.file.identity;
        let kept = self.file.take().filter(|(of, _)| *of == secret).map(|(_, file)| file);
        let shared = || pass.open.lock().expect("nobody panics while holding a file").upgrade();
        let file = match kept.or_else(shared) {
            Some(file) => {
                if send::identity(&file, pass, &self.threads).await.map_err(|source| CatalogError::Io { source })? != pinned {
                    return Ok(None);
                }
                file
            }
            None => match self.side.catalog.open(&pass.file.path).await {
                Ok(file) if file.identity == pinned => {
                    let file = Arc::new(file);
                    *pass.open.lock().expect("nobody panics while holding a file") = Arc::downgrade(&file);
                    file
                }
                Ok(_) => return Ok(None),
                Err(CatalogError::NotFound { .. } | CatalogError::IsFolder { .. } | CatalogError::NotRegular { .. })
                    if self.side.catalog.is_reachable().await =>
                {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            },
        };
        self.file = Some((secret, file.clone()));
        Ok(Some(file))
    }

    /// Answers with the page that says why no bytes are sent: the one of the transfer's own URL, whichever was asked. (A
    /// link that is asked twice could be redeemed twice.)
    async fn page_of(
        &mut self,
        head: &Head,
        (share, secret): (ShareId, TransferSecret),
        why: NoBytes,
        keeps_alive: bool,
    ) -> io::Result<Next> {
        let uri = Uri::try_from(format!("/{share}/get/{}", secret.expose())).map_err(io::Error::other)?;
        let asked = Head { uri, ..head.clone() };
        // It is rare, and would make every request as large as itself.
        let page = async {
            let response = self.ask(&asked, Vec::new(), with(why)).await;
            self.write_page(&asked, response, keeps_alive).await
        };
        Box::pin(page).await
    }

    fn peer(&self, head: &Head) -> Peer {
        self.origin.peer(&head.headers, &*self.side.is_trusted_proxy)
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

    /// Lets the other side, who heard that nothing more is answered, finish.
    async fn linger(&mut self) {
        let deadline = Instant::now() + LINGER.0;
        let mut left = LINGER.1;
        let mut waste = [0; 4096];
        while left > 0 {
            tokio::select! {
                ready = self.stream.readable() => match ready.and_then(|()| self.stream.try_read(&mut waste)) {
                    Ok(0) => return,
                    Ok(n) => left = left.saturating_sub(n),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => return,
                },
                () = sleep_until(deadline) => return,
            }
        }
    }
}

fn with<T: Clone + Send + Sync + 'static>(value: T) -> Extensions {
    let mut extensions = Extensions::new();
    extensions.insert(value);
    extensions
}

/// Reads `/{share}/{what}/{secret}/…`.
pub(super) fn secret_path(path: &str, what: &str) -> Option<(ShareId, TransferSecret)> {
    let mut parts = path.strip_prefix('/')?.split('/');
    let share = parts.next()?.parse().ok()?;
    if parts.next() != Some(what) {
        return None;
    }
    Some((share, TransferSecret::parse(parts.next()?.as_bytes())?))
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
