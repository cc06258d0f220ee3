//! What a request is answered with: the same whether it came by HTTP/1.1 or by HTTP/2.
//!
//! Nothing is written here. Whoever read the request writes the [`Reply`], each in its own way.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Extensions, HeaderValue, Method, Response, StatusCode, Uri, header};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tower::ServiceExt;

use super::answer;
use super::arrival::Origin;
use super::head::{BadHead, Head};
use super::nginx::Relay;
use super::{Entered, Found, Pass, Peer, RecipientSide, nginx, send};
use crate::catalog::{CatalogError, OpenFile};
use crate::causes::Causes;
use crate::meter::Request;
use crate::share::{ByteRange, ControllerNumber, ShareId, TransferId};
use crate::token::TransferSecret;

/// How long a page may take to make, and again to send.
pub(super) const PAGE_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest page.
const MAX_PAGE_BYTES: usize = 64 * 1024;
/// What an answer says that may be another in a moment.
pub(super) const WAIT: &str = "Retry-After: 2\r\n";
/// What a client is told that asks for more at once than it gets.
pub(super) const TOO_MANY: &str = "Too many requests of this download run at once.\n";

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

/// What a request is answered with.
pub(super) enum Reply {
    /// Nothing: the request ends without a word.
    Silence,
    /// This, which is all of it: a head as HTTP/1.1 has it, and what follows that.
    Whole(Vec<u8>),
    /// What the router says bit by bit.
    Streamed(Box<Response<Body>>),
    /// Bytes of a transfer, which take their time.
    Bytes(Box<Fetch>),
}

/// Bytes of a transfer that are to be sent.
pub(super) struct Fetch {
    /// The head of the answer, as HTTP/1.1 has it.
    pub(super) head: Vec<u8>,
    pub(super) file: Arc<OpenFile>,
    pub(super) entered: Entered,
    /// `None` where nobody counts: the recipient has everything already.
    pub(super) request: Option<Request>,
    pub(super) range: ByteRange,
    /// Who waits for what nginx says of it, where that passes it on.
    pub(super) relay: Option<Box<Relay>>,
}

/// What answers the requests of a connection.
pub(super) struct Exchange {
    pub(super) side: Arc<RecipientSide>,
    pub(super) threads: Arc<Semaphore>,
    pub(super) origin: Origin,
    /// The file that the last request fetched from, kept open for the next.
    file: Option<(TransferSecret, Arc<OpenFile>)>,
}

impl RecipientSide {
    /// Opens the file of a transfer where it is now; `None` where it is not what was pinned.
    pub(super) async fn open_pinned(&self, pass: &Pass) -> Result<Option<Arc<OpenFile>>, CatalogError> {
        match self.catalog.open(&pass.file.path).await {
            Ok(file) => Ok((file.identity == pass.file.identity).then(|| Arc::new(file))),
            Err(CatalogError::NotFound { .. } | CatalogError::IsFolder { .. } | CatalogError::NotRegular { .. })
                if self.catalog.is_reachable().await =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl Exchange {
    pub(super) fn new(side: Arc<RecipientSide>, threads: Arc<Semaphore>, origin: Origin) -> Self {
        Self { side, threads, origin, file: None }
    }

    /// Decides what a request is answered with.
    pub(super) async fn answer(&mut self, head: &mut Head, body: Vec<u8>, keeps_alive: bool) -> Reply {
        if let Some(uri) = self.side.prefix.taken_off(&head.uri) {
            head.uri = uri;
        }
        match self.answer_anybody(head, body, keeps_alive).await {
            // Closed without a word it would be nginx's failure.
            Reply::Silence if self.origin == Origin::Nginx && self.is_ours(head) => Reply::Whole(nginx::SILENCE.to_vec()),
            reply => reply,
        }
    }

    /// Returns whether a request came through the nginx that is configured to ask us, where one is.
    fn is_ours(&self, head: &Head) -> bool {
        self.origin != Origin::Nginx || self.side.nginx.as_ref().is_some_and(|nginx| nginx.sent(&head.headers))
    }

    async fn answer_anybody(&mut self, head: &Head, body: Vec<u8>, keeps_alive: bool) -> Reply {
        if !self.is_ours(head) {
            return Reply::Silence;
        }
        if let Some(nginx) = &self.side.nginx
            && let Some(answer) = Box::pin(nginx.answer_probe(head)).await
        {
            return Reply::Whole(answer);
        }
        if let Some(slice) = self.side.nginx.as_ref().and_then(|nginx| nginx.slice(head, self.side.clock.now().wall)) {
            return slice;
        }
        if let Some((share, secret)) = secret_path(head.uri.path(), "live") {
            self.side.catch_up(share, &secret).await;
            return Box::pin(self.live(head, share, secret, keeps_alive)).await;
        }
        if let Some((share, secret)) = secret_path(head.uri.path(), "get") {
            self.side.catch_up(share, &secret).await;
            return match self.side.passes.find(&secret) {
                Some(Found::Valid(pass)) if pass.share == share => {
                    if matches!(head.method, Method::GET | Method::HEAD) && self.side.doors.is_open(share) {
                        self.bytes(head, secret, pass, None, keeps_alive).await
                    } else {
                        Reply::Silence
                    }
                }
                Some(Found::Over(of, transfer)) if of == share => {
                    let response = Box::pin(self.ask(head, body, with(NoBytes::Over(share, transfer)))).await;
                    self.page(head, response, keeps_alive).await
                }
                Some(_) | None => Reply::Silence,
            };
        }
        let response = Box::pin(self.ask(head, body, Extensions::new())).await;
        match response.as_ref().and_then(|response| response.extensions().get::<SendBytes>().copied()) {
            Some(SendBytes(secret)) => {
                let location = response.and_then(|response| response.headers().get(header::CONTENT_LOCATION).cloned());
                Box::pin(self.bytes_at_link(head, secret, location, keeps_alive)).await
            }
            None => self.page(head, response, keeps_alive).await,
        }
    }

    /// Answers what is no request, where that is answered. The answer to a HEAD ends with its head, also where the rest of that
    /// head is not understood.
    pub(super) fn refuse(&self, bad: BadHead, is_head: bool) -> Reply {
        match bad.status_line() {
            Some(status) => self.plain(status, "", &if is_head { String::new() } else { format!("{status}\n") }, false),
            None => Reply::Silence,
        }
    }

    /// Answers a GET of a link with the bytes of the transfer that it made, or rejoined.
    async fn bytes_at_link(&mut self, head: &Head, secret: TransferSecret, location: Option<HeaderValue>, keeps_alive: bool) -> Reply {
        match self.side.passes.find(&secret) {
            Some(Found::Valid(pass)) if self.side.doors.is_open(pass.share) => {
                self.bytes(head, secret, pass, location.as_ref(), keeps_alive).await
            }
            Some(Found::Valid(_)) => self.plain("503 Service Unavailable", WAIT, "One moment, please.\n", keeps_alive),
            // It ended while this was being decided.
            Some(Found::Over(share, transfer)) => self.page_of(head, (share, secret), NoBytes::Over(share, transfer), keeps_alive).await,
            None => Reply::Silence,
        }
    }

    /// Answers a GET of a transfer's progress; for whoever has no transfer's secret there is nothing.
    async fn live(&self, head: &Head, share: ShareId, secret: TransferSecret, keeps_alive: bool) -> Reply {
        if head.method != Method::GET {
            return Reply::Silence;
        }
        let live = match self.side.passes.find(&secret) {
            Some(Found::Valid(pass)) if pass.share == share && self.side.doors.is_open(share) => {
                if !pass.policy.allows(self.peer(head).address) {
                    return self.page_of(head, (share, secret), NoBytes::NotAllowed, keeps_alive).await;
                }
                Live(share, pass.transfer)
            }
            Some(Found::Over(of, transfer)) if of == share => Live(share, transfer),
            Some(_) | None => return Reply::Silence,
        };
        match self.ask(head, Vec::new(), with(live)).await {
            Some(mut response) if response.extensions().get::<Streamed>().is_some() => {
                if self.origin == Origin::Nginx {
                    // What it keeps back until it has more, nobody sees live.
                    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
                }
                Reply::Streamed(Box::new(response))
            }
            other => self.page(head, other, keeps_alive).await,
        }
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

    /// Answers with a page of the router.
    async fn page(&self, head: &Head, response: Option<Response<Body>>, keeps_alive: bool) -> Reply {
        let is_head = head.method == Method::HEAD;
        let Some(response) = response else {
            let body = if is_head { "" } else { "One moment, please.\n" };
            return self.plain("503 Service Unavailable", "Retry-After: 5\r\n", body, keeps_alive);
        };
        let (parts, body) = response.into_parts();
        if parts.extensions.get::<Silence>().is_some() || parts.status == StatusCode::METHOD_NOT_ALLOWED {
            return Reply::Silence;
        }
        let Ok(bytes) = axum::body::to_bytes(body, MAX_PAGE_BYTES).await else { return Reply::Silence };
        // An answer to HEAD says how long the page would be.
        let said = parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let length = if is_head { said.unwrap_or(bytes.len()) } else { bytes.len() };
        let mut out = answer::of_page(&parts, length, keeps_alive, self.side.clock.now().wall);
        if !is_head {
            out.extend_from_slice(&bytes);
        }
        Reply::Whole(out)
    }

    fn plain(&self, status: &str, extra: &str, body: &str, keeps_alive: bool) -> Reply {
        Reply::Whole(answer::plain(status, extra, body, keeps_alive, self.side.clock.now().wall))
    }

    /// Prepares the answer with bytes of a transfer. `location` is its own URL, where another was asked for.
    async fn bytes(
        &mut self,
        head: &Head,
        secret: TransferSecret,
        pass: Arc<Pass>,
        location: Option<&HeaderValue>,
        keeps_alive: bool,
    ) -> Reply {
        let (now, url) = (self.side.clock.now(), (pass.share, secret));
        let over = NoBytes::Over(pass.share, pass.transfer);
        if !pass.policy.allows(self.peer(head).address) {
            return self.page_of(head, url, NoBytes::NotAllowed, keeps_alive).await;
        }
        if pass.is_over(now.steady) {
            return self.page_of(head, url, over, keeps_alive).await;
        }
        let nginx = self.side.nginx.clone();
        let alike = nginx.is_some().then(|| nginx::understood_alike(head, &pass.etag));
        let answer = answer::to(alike.as_ref().unwrap_or(head), &pass, location, keeps_alive, now.wall);
        let Some(range) = answer.body else { return Reply::Whole(answer.head) };
        // A range that was asked for is the one that is meant.
        let is_alike = head.headers.contains_key(header::RANGE) == answer.head.starts_with(b"HTTP/1.1 206");
        let entered = match &nginx {
            Some(_) => nginx::enter(&pass).await,
            None => pass.enter(),
        };
        let Some(entered) = entered else {
            return self.plain("503 Service Unavailable", WAIT, TOO_MANY, keeps_alive);
        };
        let file = match self.open(secret, &pass).await {
            Ok(Some(file)) => file,
            Ok(None) => {
                self.side.reports.source_changed(pass.share).await;
                return self.page_of(head, url, over, keeps_alive).await;
            }
            Err(error) => {
                tracing::warn!(share.id = %pass.share, error = %Causes(&error), "Could not open a shared file");
                let why = "The sender's storage does not answer. Try again in a moment.\n";
                return self.plain("503 Service Unavailable", WAIT, why, keeps_alive);
            }
        };
        let handover = match &nginx {
            None => None,
            Some(nginx) => match nginx.prepare(&head.headers, is_alike, &entered).await {
                Ok(handover) => Some(handover),
                Err(why) => return self.plain("503 Service Unavailable", WAIT, why, keeps_alive),
            },
        };
        // Where others may close the share, they know who still sends of it.
        let is_counted = !pass.is_complete() || self.side.controller != ControllerNumber::ALONE;
        let request = Request { share: pass.share, transfer: pass.transfer, id: self.side.next_request_id() };
        let is_proxied = self.peer(head).is_proxied;
        let carrier = handover.as_ref().and_then(|handover| handover.carrier(is_proxied));
        // What goes on without this process is known to the next one, also where nobody counts.
        if is_counted || carrier.is_some() {
            match self.side.reports.open_carried(request, range, carrier).await {
                Some(Ok(())) => {}
                Some(Err(_)) => return self.page_of(head, url, over, keeps_alive).await,
                None => return self.plain("503 Service Unavailable", WAIT, "One moment, please.\n", keeps_alive),
            }
        }
        let fetch = Fetch { head: answer.head, file, entered, request: is_counted.then_some(request), range, relay: None };
        match (nginx, handover) {
            (Some(nginx), Some(handover)) => nginx.hand_over(handover, request, fetch, self, is_proxied),
            _ => Reply::Bytes(Box::new(fetch)),
        }
    }

    /// Opens the transfer's file and proves that it is what was pinned; `None` where it is not.
    async fn open(&mut self, secret: TransferSecret, pass: &Arc<Pass>) -> Result<Option<Arc<OpenFile>>, CatalogError> {
        let pinned = pass.file.identity;
        // nginx opens what the path leads to now.
        let may_keep = self.side.nginx.is_none();
        let kept = self.file.take().filter(|(of, _)| *of == secret && may_keep).map(|(_, file)| file);
        let shared = || pass.open.lock().expect("nobody panics while holding a file").upgrade().filter(|_| may_keep);
        let file = match kept.or_else(shared) {
            Some(file) => {
                if send::identity(&file, pass, &self.threads).await.map_err(|source| CatalogError::Io { source })? != pinned {
                    return Ok(None);
                }
                file
            }
            None => {
                let Some(file) = self.side.open_pinned(pass).await? else { return Ok(None) };
                *pass.open.lock().expect("nobody panics while holding a file") = Arc::downgrade(&file);
                file
            }
        };
        self.file = Some((secret, file.clone()));
        Ok(Some(file))
    }

    /// Answers with the page that says why no bytes are sent: the one of the transfer's own URL, whichever was asked. (A
    /// link that is asked twice could be redeemed twice.)
    async fn page_of(&self, head: &Head, (share, secret): (ShareId, TransferSecret), why: NoBytes, keeps_alive: bool) -> Reply {
        let Ok(uri) = Uri::try_from(format!("/{share}/get/{}", secret.expose())) else { return Reply::Silence };
        let asked = Head { uri, ..head.clone() };
        // It is rare, and would make every request as large as itself.
        let page = async {
            let response = self.ask(&asked, Vec::new(), with(why)).await;
            self.page(&asked, response, keeps_alive).await
        };
        Box::pin(page).await
    }

    fn peer(&self, head: &Head) -> Peer {
        self.origin.peer(&head.headers, &*self.side.is_trusted_proxy)
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
