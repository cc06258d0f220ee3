//! The recipient side's pages: the link and its redeem. The bytes themselves are `delivery`'s.
//!
//! A link's GET and HEAD spend nothing, whoever asks: chat previews, mail scanners and prefetchers all fetch links. A
//! browser gets a page with a button whose POST redeems. Command-line clients that are known to be that get the bytes at
//! the link itself: curl, which follows no redirect unless it is told to, in the very answer, the others by redirect; so
//! does `?dl=1`. Everything that is not a genuine link, or a canary that is out, is met with silence.

mod live;
pub mod pages;
mod who;

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};

use self::pages::Page;
use crate::clock::Clock;
use crate::controller::{ControllerError, Handle, View, name_in_link};
use crate::delivery::{NoBytes, Peer, SendBytes, Silence};
use crate::share::{Moment, Outcome, Recipient, Refused, Share, TransferEnd};
use crate::token::{Keys, TransferSecret, Verified};
use crate::tunnel::canary::Canaries;

/// What the pages are made from.
#[derive(Clone)]
pub struct RecipientPages {
    /// Who decides.
    pub controller: Handle,
    /// What verifies links.
    pub keys: Arc<Keys>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Which looks from outside are answered.
    pub canaries: Canaries,
}

/// Makes the recipient side's routes, all of them.
pub fn router(pages: RecipientPages) -> axum::Router {
    axum::Router::new()
        .route("/{share}/{token}", get(link).post(redeem))
        .route("/{share}/{token}/", get(link))
        .route("/{share}/{token}/{name}", get(link))
        .route("/{share}/get/{transfer}", get(no_bytes))
        .route("/{share}/get/{transfer}/{name}", get(no_bytes))
        .route("/{share}/canary/{nonce}", get(canary))
        .route("/{share}/live/{transfer}", get(live::live).layer(Extension(live::Streams::new())))
        .fallback(silence)
        .method_not_allowed_fallback(silence)
        .with_state(pages)
}

async fn silence() -> Response {
    let mut response = StatusCode::NOT_FOUND.into_response();
    response.extensions_mut().insert(Silence);
    response
}

/// GET of a canary, in its one spelling. It spends nothing, and whoever holds none meets what every stranger meets.
async fn canary(State(pages): State<RecipientPages>, method: Method, uri: Uri) -> Response {
    let mut parts = uri.path().split('/');
    let is_answered = match (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(""), Some(share), Some("canary"), Some(nonce), None) if method == Method::GET && uri.query().is_none() => {
            pages.canaries.answer(share, nonce)
        }
        _ => false,
    };
    if is_answered { with_headers(StatusCode::NO_CONTENT.into_response()) } else { silence().await }
}

/// GET and HEAD of a link.
async fn link(
    State(pages): State<RecipientPages>,
    Extension(peer): Extension<Peer>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let Some(verified) = pages.verify(&uri) else { return silence().await };
    let wants_bytes = method == Method::GET && who::wants_bytes_at_the_link(&headers, uri.query());
    let way = if who::follows_no_redirect(&headers) { Way::Here } else { Way::Redirect(StatusCode::FOUND) };
    let recipient = recipient(&peer, &headers);
    if wants_bytes && let Some(secret) = pages.controller.rejoin(verified.share, verified.link, &recipient, who::resumes(&headers)).await {
        return pages.to_transfer(way, &uri, verified, secret).await;
    }
    let (view, may) = match pages.controller.offer(verified.share, verified.link, peer.address).await {
        Ok(Some(offer)) => offer,
        Ok(None) => return page(pages::gone()),
        Err(error) => {
            tracing::warn!(%error, "Could not look a link up");
            return page(pages::a_moment());
        }
    };
    if !wants_bytes && let Some(by) = who::looker(&method, &headers) {
        pages.controller.looked(&view, verified.link, by);
    }
    match may {
        Err(refused) => page(page_of(&refused, &view.share)),
        Ok(()) if wants_bytes => pages.redeem(way, &uri, verified, recipient).await,
        Ok(()) => {
            let token = uri.path().split('/').nth(2).unwrap_or_default();
            page(pages::ready(&offer(&view, pages.clock.now(), form_action(&uri, token))))
        }
    }
}

/// POST of a link: the button.
async fn redeem(State(pages): State<RecipientPages>, Extension(peer): Extension<Peer>, uri: Uri, headers: HeaderMap) -> Response {
    let Some(verified) = pages.verify(&uri) else { return silence().await };
    pages.redeem(Way::Redirect(StatusCode::SEE_OTHER), &uri, verified, recipient(&peer, &headers)).await
}

/// A transfer's URL when it gets no bytes. Otherwise `delivery` answers it and it does not come here.
async fn no_bytes(State(pages): State<RecipientPages>, why: Option<Extension<NoBytes>>) -> Response {
    let (share, transfer) = match why {
        Some(Extension(NoBytes::Over(share, transfer))) => (share, transfer),
        Some(Extension(NoBytes::NotAllowed)) => return page(pages::not_for_this_network()),
        None => return silence().await,
    };
    let view = match pages.controller.show(share).await {
        Ok(Some(view)) => view,
        Ok(None) => return page(pages::gone()),
        Err(_) => return page(pages::a_moment()),
    };
    if let Some(outcome) = view.share.outcome() {
        return page(page_of_outcome(outcome));
    }
    // Of those that are over some are remembered only as a number.
    let Some(transfer) = view.share.transfer(transfer) else { return page(pages::gone()) };
    page(match transfer.ended.map(|(end, _)| end) {
        Some(TransferEnd::Completed) => pages::used(),
        Some(TransferEnd::Stalled) => pages::stalled(),
        Some(TransferEnd::Stopped | TransferEnd::Cut) => pages::revoked(),
        Some(TransferEnd::NeverBegan) | None => pages::a_moment(),
    })
}

/// How whoever exercised a link gets to the bytes.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// By a redirect with this status.
    Redirect(StatusCode),
    /// In the answer itself.
    Here,
}

impl RecipientPages {
    /// Reads the link that stands in a path; `None` for everything that was not minted here.
    fn verify(&self, uri: &Uri) -> Option<Verified> {
        let mut parts = uri.path().split('/').skip(1);
        let (share, token) = (parts.next()?, parts.next()?);
        self.keys.verify(token).ok().filter(|verified| verified.share.as_str() == share)
    }

    async fn redeem(&self, way: Way, uri: &Uri, verified: Verified, recipient: Recipient) -> Response {
        match self.controller.redeem(verified.share, verified.link, recipient).await {
            Ok(secret) => self.to_transfer(way, uri, verified, secret).await,
            Err(ControllerError::Refused(refused)) => match self.controller.show(verified.share).await {
                Ok(Some(view)) => page(page_of(&refused, &view.share)),
                Ok(None) | Err(_) => page(pages::a_moment()),
            },
            Err(ControllerError::UnknownShare(_)) => page(pages::gone()),
            Err(error) => {
                tracing::warn!(share.id = %verified.share, %error, "Could not redeem a link");
                page(pages::a_moment())
            }
        }
    }

    /// Leads to the transfer; its own URL is told relative to the link's: it holds below whatever prefix a proxy puts before us.
    async fn to_transfer(&self, way: Way, uri: &Uri, verified: Verified, secret: TransferSecret) -> Response {
        let name = match self.controller.show(verified.share).await {
            Ok(Some(view)) => name_in_link(&view.share),
            Ok(None) | Err(_) => String::new(),
        };
        let up = if uri.path().split('/').count() > 3 { "../" } else { "" };
        let location = HeaderValue::try_from(format!("{up}get/{}/{name}", secret.expose())).expect("it is hexadecimal and percent-encoded");
        match way {
            Way::Redirect(status) => with_headers((status, [(header::LOCATION, location)]).into_response()),
            Way::Here => {
                let mut response = [(header::CONTENT_LOCATION, location)].into_response();
                response.extensions_mut().insert(SendBytes(secret));
                response
            }
        }
    }
}

/// Returns where a link's form leads, relative to the page's own URL.
fn form_action(uri: &Uri, token: &str) -> String {
    if uri.path().split('/').count() > 3 { format!("../{token}") } else { token.to_owned() }
}

fn offer(view: &View, now: Moment, form_action: String) -> pages::Offer {
    let share = &view.share;
    let ends_in = share.expires.steady.since(now.steady);
    pages::Offer {
        name: share.file.path.name_for_display(),
        size_bytes: share.file.size_bytes(),
        sha256: view.sha256,
        ends: now.wall.plus(ends_in),
        ends_in,
        // A tab or a bell means nothing here; a new line does.
        message: share.message.as_ref().map(|text| text.chars().filter(|c| *c == '\n' || !c.is_control()).collect()),
        downloads: share.policy.max_downloads,
        max_bytes_per_second: share.policy.max_bytes_per_second,
        form_action,
    }
}

fn recipient(peer: &Peer, headers: &HeaderMap) -> Recipient {
    let agent = headers.get(header::USER_AGENT).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    Recipient { address: peer.address.map(|address| address.to_string()), agent: agent.unwrap_or_default() }
}

fn page_of(refused: &Refused, share: &Share) -> Page {
    match refused {
        Refused::NotStarted => pages::not_yet(share.policy.starts.map(|at| at.wall)),
        Refused::NotOpen | Refused::TooManyRequests | Refused::Crowded => pages::a_moment(),
        Refused::Expired => pages::expired(),
        Refused::Running { max_downloads } => pages::running(*max_downloads),
        Refused::Spent => pages::used(),
        Refused::NotAllowed => pages::not_for_this_network(),
        Refused::Closed(outcome) => page_of_outcome(*outcome),
        Refused::Replaced
        | Refused::UnknownTransfer
        | Refused::TransferOver(_)
        | Refused::NotClosed
        | Refused::UndoTooLate
        | Refused::UndoAfterBytes => pages::gone(),
    }
}

fn page_of_outcome(outcome: Outcome) -> Page {
    match outcome {
        Outcome::Completed => pages::used(),
        Outcome::Expired | Outcome::TimedOut => pages::expired(),
        Outcome::Stalled => pages::stalled(),
        Outcome::Revoked => pages::revoked(),
        Outcome::SourceChanged => pages::source_changed(),
        Outcome::Failed => pages::gone(),
    }
}

fn page(page: Page) -> Response {
    let status = StatusCode::from_u16(page.status).unwrap_or(StatusCode::OK);
    let mut response = (status, axum::response::Html(page.html)).into_response();
    let policy = HeaderValue::from_static(pages::content_security_policy());
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    }
    with_headers(response)
}

/// Adds what every answer of the recipient side carries.
fn with_headers(mut response: Response) -> Response {
    for (name, value) in [
        ("cache-control", "private, no-store, no-transform"),
        ("x-content-type-options", "nosniff"),
        ("x-robots-tag", "noindex, nofollow, noarchive"),
        ("referrer-policy", "no-referrer"),
        ("x-frame-options", "DENY"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests;
