//! Signing in and out, and the page itself.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, FromRequest, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Form, Json};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{NoSlash, OwnerSide, body};
use crate::http::assets;
use crate::http::auth::{Caller, Credential, NewBrowser, Peer, SIGN_IN, from_of};
use crate::http::problem::Problem;
use crate::http::words::Language;
use crate::share::{Policy, PolicyRequest};

/// The longest secret that is looked at; the owner's own token may be a long sentence.
const MAX_SECRET_BYTES: usize = 1024;
/// How much of what a browser calls itself goes into the audit log, which is kept for long.
const MAX_AGENT_CHARS: usize = 256;

#[derive(Debug, Deserialize)]
pub(super) struct Entering {
    token: Option<String>,
}

/// Answers `GET /`: the page, or the sign-in page. With `?token=…` it signs the browser in and leads away from the secret.
pub(super) async fn index(
    State(side): State<Arc<OwnerSide>>,
    caller: Option<Extension<Caller>>,
    peer: Option<Extension<Peer>>,
    no_slash: Option<Extension<NoSlash>>,
    uri: Uri,
    Query(Entering { token }): Query<Entering>,
    headers: HeaderMap,
) -> Response {
    if no_slash.is_some() {
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        return Redirect::temporary(&side.path(&format!("/{query}"))).into_response();
    }
    match (token, caller) {
        (None, Some(_)) => assets::page("index.html", StatusCode::OK, Language::of(&headers)),
        (None, None) => assets::page("sign-in.html", StatusCode::UNAUTHORIZED, Language::of(&headers)),
        // An old link in the hands of who is signed in already: no guess.
        (Some(_), Some(_)) => Redirect::to(&side.path("/")).into_response(),
        (Some(token), None) => enter(&side, &token, peer, &headers).await,
    }
}

/// Answers `GET /sign-in`.
pub(super) async fn sign_in_page(headers: HeaderMap) -> Response {
    assets::page("sign-in.html", StatusCode::OK, Language::of(&headers))
}

/// Answers `POST /sign-in`, the form of the sign-in page.
pub(super) async fn sign_in(
    State(side): State<Arc<OwnerSide>>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Problem> {
    let mut form = Request::new(Body::from(body::read(request).await?));
    *form.method_mut() = Method::POST;
    *form.headers_mut() = headers.clone();
    let Ok(Form(Entering { token: Some(token) })) = Form::<Entering>::from_request(form, &()).await else {
        return Err(Problem::unprocessable("bad_field", "The form must have the field token."));
    };
    Ok(enter(&side, token.trim(), peer, &headers).await)
}

async fn enter(side: &OwnerSide, secret: &str, peer: Option<Extension<Peer>>, headers: &HeaderMap) -> Response {
    let peer = peer.map(|Extension(peer)| peer);
    let secret = if secret.len() <= MAX_SECRET_BYTES { secret } else { "" };
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_browser = text(header::ACCEPT).contains("text/html");
    match sign_in_browser(side, secret, peer, text(header::USER_AGENT)).await {
        Ok(Some(cookie)) => ([(header::SET_COOKIE, cookie)], Redirect::to(&side.path("/"))).into_response(),
        Ok(None) if is_browser => Redirect::to(&side.path(&format!("{SIGN_IN}?wrong"))).into_response(),
        Ok(None) => {
            Problem::new(StatusCode::UNAUTHORIZED, "wrong_token", "This is neither the owner's token nor a sign-in code.").into_response()
        }
        Err(problem) if is_browser && problem.status() == StatusCode::TOO_MANY_REQUESTS => {
            Redirect::to(&side.path(&format!("{SIGN_IN}?slow"))).into_response()
        }
        Err(problem) => problem.into_response(),
    }
}

/// Returns the cookie of a browser that brought a right secret, once the audit log knows of it; `None` where it is wrong.
async fn sign_in_browser(side: &OwnerSide, secret: &str, peer: Option<Peer>, agent: &str) -> Result<Option<HeaderValue>, Problem> {
    let now = side.clock.now();
    if !side.gate.knows(secret, peer, now.steady)? {
        side.audit_refused("stranger", &from_of(peer), "session.refused", "", "wrong_token").await;
        return Ok(None);
    }
    let browser = NewBrowser::new(peer);
    let shown: String = agent.chars().take(MAX_AGENT_CHARS).collect();
    side.audit(&browser.caller, "session.sign_in", &browser.id(), &shown).await?;
    Ok(Some(side.gate.sign_in(browser, agent, now).await?))
}

/// Answers `GET /api/v1/session`: what the page needs to know.
pub(super) async fn show(State(side): State<Arc<OwnerSide>>, Extension(caller): Extension<Caller>) -> Json<Value> {
    let (settings, limits) = (&side.settings, side.controller.limits());
    // What an empty wish becomes is what is offered first.
    let defaults = Policy::new(PolicyRequest::default(), limits, side.clock.now()).expect("an empty wish is a good one");
    Json(json!({
        "auth": settings.auth.as_str(),
        "scope": caller.scope,
        "who": caller.who,
        "version": settings.version,
        "root": settings.root.to_string_lossy(),
        "tunnel": settings.tunnel,
        "defaults": { "expires_in_seconds": defaults.expires_in.as_secs(), "max_downloads": defaults.max_downloads },
        "max_tunnel_seconds": limits.max_tunnel.as_secs(),
        "stall_timeout_seconds": limits.stall_timeout.as_secs(),
        "grace_period_seconds": limits.grace_period.as_secs(),
    }))
}

/// Answers `DELETE /api/v1/session`: signs this browser out.
pub(super) async fn sign_out(State(side): State<Arc<OwnerSide>>, Extension(caller): Extension<Caller>) -> Result<Response, Problem> {
    side.audit(&caller, "session.sign_out", "", "").await?;
    if let Credential::Browser(session) = caller.credential {
        side.gate.sign_out(session, side.clock.now().steady).await?;
    }
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, side.gate.removal_cookie())]).into_response())
}

/// Answers `POST /api/v1/session/link`: a link that signs another browser in.
pub(super) async fn link(
    State(side): State<Arc<OwnerSide>>,
    Extension(caller): Extension<Caller>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    side.audit(&caller, "session.link", "", "").await?;
    // Who came by a name of ours can come by it again; a page says whether that was over TLS. The local socket has no such name.
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let side_at = |origin: &str| format!("{origin}{}", side.settings.prefix.as_str());
    let base = match (peer, text(header::ORIGIN), text(header::HOST)) {
        (Some(Extension(Peer::Local { .. } | Peer::Tailnet)), ..) | (_, _, None) => side.settings.address.trim_end_matches('/').to_owned(),
        (_, Some(origin), _) => side_at(origin),
        (_, None, Some(host)) => side_at(&format!("http://{host}")),
    };
    Ok(Json(json!({ "url": format!("{base}{}", side.new_sign_in_path()) })))
}
