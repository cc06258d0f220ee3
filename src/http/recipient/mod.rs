//! The recipient side's pages: the link and its redeem. The bytes themselves are `delivery`'s.
//!
//! A link's GET and HEAD spend nothing, whoever asks: chat previews, mail scanners and prefetchers all fetch links. A
//! browser gets a page with a button whose POST redeems. Command-line clients that are known to be that get the bytes at
//! the link itself: curl, which follows no redirect unless it is told to, in the very answer, the others by redirect; so
//! does `?dl=1`. Whoever redeemed by a browser is known by a cookie when they come back (`mine.rs`). Everything that is not a genuine link, or a canary that is out, is met with silence.

mod live;
mod mine;
pub mod pages;
mod who;

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use serde_json::json;
use tower_http::compression::CompressionLayer;

use self::pages::{Page, Reader};
use crate::causes::Causes;
use crate::clock::Clock;
use crate::controller::{ControllerError, Handle, View};
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
        // Nothing that a stranger chooses stands in a page beside what is secret in it, so how well it is compressed tells nothing.
        .layer(CompressionLayer::new().gzip(true))
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
    let reader = Reader::of(&headers);
    let (view, may) = match pages.controller.offer(verified.share, verified.link, peer.address).await {
        Ok(Some(offer)) => offer,
        Ok(None) => return page(reader.gone()),
        Err(error) => {
            tracing::warn!(error = %Causes(&error), "Could not look a link up");
            return page(reader.a_moment());
        }
    };
    if !wants_bytes && let Some(about_theirs) = pages.page_of_mine(reader, &view, may, &headers, up(&uri)) {
        return page(about_theirs);
    }
    if !wants_bytes && let Some(by) = who::looker(&method, &headers) {
        pages.controller.looked(&view, verified.link, by);
    }
    match may {
        Err(refused) => page(page_of(reader, &refused, &view.share)),
        Ok(()) if wants_bytes => pages.redeem(way, &uri, verified, recipient, reader).await,
        Ok(()) => {
            let token = uri.path().split('/').nth(2).unwrap_or_default();
            page(reader.ready(&offer(&view, pages.clock.now(), format!("{}{token}", up(&uri)))))
        }
    }
}

/// POST of a link: the button.
async fn redeem(State(pages): State<RecipientPages>, Extension(peer): Extension<Peer>, uri: Uri, headers: HeaderMap) -> Response {
    let Some(verified) = pages.verify(&uri) else { return silence().await };
    let way = if who::wants_json(&headers) { Way::Told } else { Way::Redirect(StatusCode::SEE_OTHER) };
    // Whoever presses the button again goes on with what is theirs.
    if mine::has_cookie(&headers)
        && let Ok(Some((view, may))) = pages.controller.offer(verified.share, verified.link, peer.address).await
        && !matches!(may, Err(Refused::Replaced | Refused::NotAllowed))
        && let Some(secret) = pages.goes_on(&view, &headers)
    {
        return pages.to_transfer(way, &uri, verified, secret).await;
    }
    pages.redeem(way, &uri, verified, recipient(&peer, &headers), Reader::of(&headers)).await
}

/// A transfer's URL when it gets no bytes. Otherwise `delivery` answers it and it does not come here.
async fn no_bytes(State(pages): State<RecipientPages>, why: Option<Extension<NoBytes>>, headers: HeaderMap) -> Response {
    let reader = Reader::of(&headers);
    let (share, transfer) = match why {
        Some(Extension(NoBytes::Over(share, transfer))) => (share, transfer),
        Some(Extension(NoBytes::NotAllowed)) => return page(reader.not_for_this_network()),
        None => return silence().await,
    };
    let view = match pages.controller.show(share).await {
        Ok(Some(view)) => view,
        Ok(None) => return page(reader.gone()),
        Err(_) => return page(reader.a_moment()),
    };
    // Of those that are over some are remembered only as a number.
    let Some(transfer) = view.share.transfer(transfer) else {
        return page(view.share.outcome().map_or(reader.gone(), |outcome| reader.ended(outcome)));
    };
    let end = transfer.ended.map(|(end, _)| end);
    if let Some(outcome) = view.share.outcome().filter(|_| end != Some(TransferEnd::Completed)) {
        return page(reader.ended(outcome));
    }
    page(match end {
        // A program that comes back for bytes must not take the page for them.
        Some(TransferEnd::Completed) => Page { status: 410, ..reader.delivered(&mine::delivered(&view, transfer, None)) },
        Some(TransferEnd::Stalled) => reader.ended(Outcome::Stalled),
        Some(TransferEnd::Stopped | TransferEnd::Cut) => reader.ended(Outcome::Revoked),
        Some(TransferEnd::NeverBegan) | None => reader.a_moment(),
    })
}

/// How whoever exercised a link gets to the bytes.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// By a redirect with this status.
    Redirect(StatusCode),
    /// In the answer itself.
    Here,
    /// The answer tells a script where they are.
    Told,
}

impl RecipientPages {
    /// Reads the link that stands in a path; `None` for everything that was not minted here.
    fn verify(&self, uri: &Uri) -> Option<Verified> {
        let mut parts = uri.path().split('/').skip(1);
        let (share, token) = (parts.next()?, parts.next()?);
        self.keys.verify(token).ok().filter(|verified| verified.share.as_str() == share)
    }

    async fn redeem(&self, way: Way, uri: &Uri, verified: Verified, recipient: Recipient, reader: Reader) -> Response {
        match self.controller.redeem(verified.share, verified.link, recipient).await {
            Ok(secret) => self.to_transfer(way, uri, verified, secret).await,
            Err(ControllerError::Refused(refused)) => match self.controller.show(verified.share).await {
                Ok(Some(view)) => page(page_of(reader, &refused, &view.share)),
                Ok(None) | Err(_) => page(reader.a_moment()),
            },
            Err(ControllerError::UnknownShare(_)) => page(reader.gone()),
            Err(error) => {
                tracing::warn!(share.id = %verified.share, error = %Causes(&error), "Could not redeem a link");
                page(reader.a_moment())
            }
        }
    }

    /// Leads to the transfer; its own URL is told relative to the link's: it holds below whatever prefix a proxy puts before us.
    async fn to_transfer(&self, way: Way, uri: &Uri, verified: Verified, secret: TransferSecret) -> Response {
        let (url, is_https) = match self.controller.show(verified.share).await {
            Ok(Some(view)) => {
                (mine::bytes_url(up(uri), &view.share, secret), view.url.as_ref().is_some_and(|url| url.starts_with("https:")))
            }
            Ok(None) | Err(_) => (format!("{}get/{}/", up(uri), secret.expose()), false),
        };
        let location = HeaderValue::try_from(&url).expect("it is hexadecimal and percent-encoded");
        let cookie = [(header::SET_COOKIE, mine::cookie(secret, is_https))];
        match way {
            Way::Redirect(status) => with_headers((status, cookie, [(header::LOCATION, location)]).into_response()),
            Way::Told => {
                let live = format!("{}live/{}", up(uri), secret.expose());
                with_headers((cookie, Json(json!({ "transfer": url, "live": live }))).into_response())
            }
            Way::Here => {
                let mut response = [(header::CONTENT_LOCATION, location)].into_response();
                response.extensions_mut().insert(SendBytes(secret));
                response
            }
        }
    }
}

/// Returns what leads from a link's URL to its folder, where its transfers are.
fn up(uri: &Uri) -> &'static str {
    if uri.path().split('/').count() > 3 { "../" } else { "" }
}

fn offer(view: &View, now: Moment, form_action: String) -> pages::Offer {
    let share = &view.share;
    let ends_in = share.expires.steady.since(now.steady);
    pages::Offer {
        file: mine::file(view),
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

fn page_of(reader: Reader, refused: &Refused, share: &Share) -> Page {
    match refused {
        Refused::NotStarted => reader.not_yet(share.policy.starts.map(|at| at.wall)),
        Refused::NotOpen | Refused::TooManyRequests | Refused::Crowded => reader.a_moment(),
        Refused::Expired => reader.ended(Outcome::Expired),
        Refused::Running { max_downloads } => reader.running(*max_downloads),
        Refused::Spent => reader.used(),
        Refused::NotAllowed => reader.not_for_this_network(),
        Refused::Closed(outcome) => reader.ended(*outcome),
        Refused::Replaced
        | Refused::UnknownTransfer
        | Refused::TransferOver(_)
        | Refused::NotClosed
        | Refused::UndoTooLate
        | Refused::UndoAfterBytes
        | Refused::SelfTest => reader.gone(),
    }
}

fn page(page: Page) -> Response {
    let status = StatusCode::from_u16(page.status).unwrap_or(StatusCode::OK);
    let language = [(header::CONTENT_LANGUAGE, page.language.code()), (header::VARY, "Accept-Language, Cookie")];
    let mut response = (status, language, axum::response::Html(page.html)).into_response();
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, page.policy);
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
