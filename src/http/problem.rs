//! Errors as programs and people read them: `application/problem+json` (RFC 9457).
//!
//! A handler returns a [`Problem`]; [`finish`] stands around every route and turns it, and every other answer of 400 or
//! more, into the one shape, with the id of the request in it. The cause goes to the log under the same id, never to the
//! answer.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tracing::{Instrument, debug, error, info_span, warn};

use crate::catalog::CatalogError;
use crate::causes::Causes;
use crate::controller::ControllerError;
use crate::share::{CatalogPath, InvalidPath, PolicyError, Refused};
use crate::store::StoreError;
use crate::token::random;

/// What the answer to a request that the store, the NAS or the controller is too busy for says in `Retry-After`.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// The name of the header that carries the id of a request.
pub const REQUEST_ID: &str = "x-request-id";
/// The longest id that is taken from a request; a UUID has 36 letters.
const MAX_REQUEST_ID_BYTES: usize = 64;

/// Says why a request was not answered as it wished.
#[derive(Debug, Clone)]
pub struct Problem(Arc<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    status: StatusCode,
    code: &'static str,
    detail: String,
    retry_after: Option<Duration>,
    cause: Option<String>,
}

impl Problem {
    /// Makes a problem: its status, its stable code, and one sentence that a person can act on.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self(Arc::new(Inner { status, code, detail: detail.into(), retry_after: None, cause: None }))
    }

    /// A body or a parameter that can be read and makes no sense: 422.
    pub fn unprocessable(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
    }

    /// Something that is not there: 404.
    pub fn not_found(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, detail)
    }

    /// Adds when the same request may succeed.
    #[must_use]
    pub fn retry_after(self, after: Duration) -> Self {
        self.with(|inner| inner.retry_after = Some(after))
    }

    /// Answers with another status; for the original's endpoints, which have their own.
    #[must_use]
    pub fn with_status(self, status: StatusCode) -> Self {
        self.with(|inner| inner.status = status)
    }

    /// Says it in other words, where the caller knows more.
    #[must_use]
    pub fn saying(self, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        self.with(|inner| inner.detail = detail)
    }

    /// Adds what goes to the log and not to the answer.
    #[must_use]
    fn because(self, cause: &dyn Error) -> Self {
        self.with(|inner| inner.cause = Some(Causes(cause).to_string()))
    }

    /// Returns the status of the answer.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// Returns the stable code.
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    fn with(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    fn log(&self, request_id: &str) {
        let Inner { status, code, cause, .. } = &*self.0;
        let cause = cause.as_deref().unwrap_or("not known");
        match status.as_u16() {
            500 => error!(request.id = request_id, problem.code = code, cause, "A request failed"),
            503 => warn!(request.id = request_id, problem.code = code, cause, "A request could not be served"),
            _ => {}
        }
    }

    /// Returns what it says, for where it is a part of an answer.
    pub(super) fn to_json(&self) -> ProblemJson {
        let Inner { status, code, detail, .. } = &*self.0;
        ProblemJson {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.clone(),
            code,
            request_id: None,
        }
    }

    fn into_answer(self, request_id: &str) -> Response {
        let Inner { status, retry_after, .. } = &*self.0;
        let body = ProblemJson { request_id: Some(request_id.to_owned()), ..self.to_json() };
        let body = serde_json::to_string(&body).expect("a problem is plain JSON");
        let mut response = (*status, Body::from(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(after) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_millis().div_ceil(1000) as u64));
        }
        if *status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"portcullis\""));
        }
        response
    }
}

/// A problem as RFC 9457 writes it.
#[derive(Debug, Serialize)]
pub(super) struct ProblemJson {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    /// One sentence that a person can act on.
    detail: String,
    /// What programs tell problems apart by; it stays the same over versions.
    code: &'static str,
    /// The id of the request, under which the log says more. Left out in a part of an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
}

/// The answer carries the problem as an extension; [`finish`] writes it out.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Gives every request an id, and every error the one shape. Stands around everything else.
///
/// The id is the one that the request brings, where that is a sane one: a proxy's log and ours can be laid side by side.
pub async fn finish(request: Request, next: Next) -> Response {
    let id = request.headers().get(REQUEST_ID).and_then(sane_id).unwrap_or_else(random::request_id);
    // What stands in an address may be a secret or the name of a file; what the route is called is neither.
    let route = request.extensions().get::<MatchedPath>().map_or_else(String::new, |path| path.as_str().to_owned());
    let method = request.method().clone();
    let mut response = next.run(request).instrument(info_span!("request", request.id = id)).await;
    if let Some(problem) = response.extensions_mut().remove::<Problem>().or_else(|| problem_of_bare_answer(&response)) {
        problem.log(&id);
        let mut answer = problem.into_answer(&id);
        keep_headers(response.headers(), answer.headers_mut());
        response = answer;
    }
    debug!(request.id = id, http.method = %method, http.route = route, http.status = response.status().as_u16(), "Answered a request");
    let id = HeaderValue::try_from(id).expect("an id is made of visible ASCII letters");
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// Takes an id that a request brings; `None` where it is none that a log should hold.
fn sane_id(value: &HeaderValue) -> Option<String> {
    let is_sane = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    let text = value.to_str().ok()?;
    ((1..=MAX_REQUEST_ID_BYTES).contains(&text.len()) && text.bytes().all(|byte| is_sane(&byte))).then(|| text.to_owned())
}

/// Turns a panic of a handler into an answer; what it said stands in the log.
pub fn of_panic(panic: Box<dyn std::any::Any + Send>) -> Response {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
    let problem = Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal_error",
        "Something went wrong inside Portcullis; its log says what, under this request's id.",
    );
    problem
        .with(|inner| inner.cause = Some(format!("a handler panicked: {}", text.as_deref().unwrap_or("it did not say why"))))
        .into_response()
}

/// What answers for axum's own refusals: no such route, no such method, a bad query.
fn problem_of_bare_answer(response: &Response) -> Option<Problem> {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() || is_told(response.headers()) {
        return None;
    }
    let (code, detail) = match status {
        StatusCode::NOT_FOUND => ("not_found", "There is nothing at this address."),
        StatusCode::METHOD_NOT_ALLOWED => ("method_not_allowed", "This address does not take this method; see the Allow header."),
        StatusCode::BAD_REQUEST => ("bad_request", "The address or its query cannot be read."),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => ("unsupported_media_type", "The body must be of another type."),
        StatusCode::PAYLOAD_TOO_LARGE => ("body_too_large", "The body is too long."),
        _ => ("error", "The request could not be answered."),
    };
    Some(Problem::new(status, code, detail))
}

/// Returns whether a handler of ours wrote the body: a page, or an answer whose status says something and is no error (health).
fn is_told(headers: &HeaderMap) -> bool {
    let begins = |kind: &HeaderValue| [&b"text/html"[..], b"application/json"].iter().any(|ours| kind.as_bytes().starts_with(ours));
    headers.get(header::CONTENT_TYPE).is_some_and(begins)
}

/// Keeps what a layer said in headers (`Allow`, cookies, the security ones), not what described the old body.
fn keep_headers(from: &HeaderMap, to: &mut HeaderMap) {
    for (name, value) in from {
        if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH && name != header::CONTENT_ENCODING {
            to.append(name.clone(), value.clone());
        }
    }
}

/// Makes a sentence of an error's text: a capital and a full stop, unless it begins with the name of a field.
fn sentence(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let first_word = text.split(' ').next().unwrap_or_default();
    if first_word.bytes().all(|byte| byte.is_ascii_alphabetic())
        && let Some(first) = text.get_mut(..1)
    {
        first.make_ascii_uppercase();
    }
    if !text.ends_with('.') {
        text.push('.');
    }
    text
}

impl From<InvalidPath> for Problem {
    fn from(error: InvalidPath) -> Self {
        Self::unprocessable("bad_path", sentence(&error))
    }
}

impl From<PolicyError> for Problem {
    fn from(error: PolicyError) -> Self {
        Self::unprocessable("bad_policy", sentence(&error))
    }
}

impl From<Refused> for Problem {
    fn from(error: Refused) -> Self {
        match error {
            Refused::UnknownTransfer => Self::not_found("unknown_transfer", "There is no such transfer."),
            Refused::UndoTooLate => Self::new(StatusCode::CONFLICT, "undo_too_late", sentence(&error)),
            Refused::UndoAfterBytes => Self::new(StatusCode::CONFLICT, "undo_after_bytes", sentence(&error)),
            other => Self::new(StatusCode::CONFLICT, "refused", sentence(&other)),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Spent => Self::new(StatusCode::CONFLICT, "refused", sentence(&error)),
            StoreError::Full { .. } => Self::new(StatusCode::CONFLICT, "too_many", sentence(&error)),
            StoreError::Conflict | StoreError::Overtaken => ControllerError::Busy.into(),
            StoreError::Unavailable { .. } | StoreError::Unusable { .. } => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "store_unavailable",
                "Portcullis cannot read or write its store at the moment; nothing was changed.",
            )
            .retry_after(RETRY_AFTER)
            .because(&error),
        }
    }
}

impl From<CatalogError> for Problem {
    fn from(error: CatalogError) -> Self {
        let quoted =
            |path: &CatalogPath| if path.is_root() { "The top folder".to_owned() } else { format!("“{}”", path.for_display()) };
        match &error {
            CatalogError::NotFound { path } => Self::not_found("unknown_file", format!("There is no file “{}”.", path.for_display())),
            CatalogError::IsFolder { path } => {
                Self::unprocessable("is_folder", format!("{} is a folder; share a file in it.", quoted(path)))
            }
            CatalogError::NotRegular { path } => {
                Self::unprocessable("not_a_file", format!("{} is a device, a pipe or a socket, which cannot be shared.", quoted(path)))
            }
            CatalogError::NotFolder { path } => Self::unprocessable("not_a_folder", format!("{} is not a folder.", quoted(path))),
            CatalogError::Denied { path } => Self::unprocessable(
                "unreadable_file",
                format!("Portcullis may not read “{}”; check its permissions on the NAS.", path.for_display()),
            ),
            CatalogError::Busy => Self::new(StatusCode::SERVICE_UNAVAILABLE, "nas_unavailable", "The NAS does not answer at the moment.")
                .retry_after(RETRY_AFTER)
                .because(&error),
            CatalogError::InvalidQuery { .. } => Self::unprocessable("bad_query", sentence(&error)),
            CatalogError::Io { .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "nas_unavailable", "The NAS could not be read.").because(&error)
            }
        }
    }
}

impl From<ControllerError> for Problem {
    fn from(error: ControllerError) -> Self {
        let unavailable = |code| Self::new(StatusCode::SERVICE_UNAVAILABLE, code, sentence(&error)).because(&error);
        match error {
            ControllerError::UnknownShare(id) => Self::not_found("unknown_share", format!("There is no share {id}.")),
            ControllerError::NoteTooLong => Self::unprocessable("bad_note", sentence(&error)),
            ControllerError::MessageTooLong => Self::unprocessable("bad_message", sentence(&error)),
            ControllerError::TunnelUnavailable(_) => unavailable("tunnel_unavailable"),
            ControllerError::Overtaken => Self::new(StatusCode::CONFLICT, "closed_meanwhile", sentence(&error)),
            ControllerError::TooMany => unavailable("too_many_shares"),
            ControllerError::Busy => unavailable("busy").retry_after(RETRY_AFTER),
            ControllerError::Catalog(error) => error.into(),
            ControllerError::Policy(error) => error.into(),
            ControllerError::Refused(error) => error.into(),
            ControllerError::Store(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_become_sentences() {
        assert_eq!(sentence(&PolicyError::Expiry), "expires_in_seconds must be 1 or more.");
        assert_eq!(sentence(&Refused::Expired), "This link has expired.");
    }

    #[test]
    fn a_cause_is_told_in_full_and_only_to_the_log() {
        let source = std::io::Error::other("disk I/O error at offset 7");
        let problem = Problem::from(StoreError::Unavailable { source: Box::new(source) });
        assert_eq!(problem.0.cause.as_deref(), Some("the store is not available: disk I/O error at offset 7"));
        assert_eq!(problem.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(!problem.0.detail.contains("offset"));
    }

    #[tokio::test]
    async fn a_panic_becomes_an_answer_that_says_nothing_of_the_inside() {
        use tower::ServiceExt;
        async fn panics() {
            panic!("the secret of the house")
        }
        let router = axum::Router::new()
            .route("/", axum::routing::get(panics))
            .layer(tower_http::catch_panic::CatchPanicLayer::custom(of_panic))
            .layer(axum::middleware::from_fn(finish));
        let answer = router.oneshot(Request::new(Body::empty())).await.expect("routers do not fail");
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body = axum::body::to_bytes(answer.into_body(), 4096).await.expect("a short body");
        let problem: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(problem["code"], "internal_error");
        assert!(!problem.to_string().contains("secret"));
    }

    #[test]
    fn what_the_controller_says_has_a_status_and_a_code() {
        let path = CatalogPath::parse("film").expect("a good path");
        for (error, status, code) in [
            (ControllerError::UnknownShare(crate::share::ShareId::from_random(1)), 404, "unknown_share"),
            (ControllerError::Catalog(CatalogError::NotFound { path: path.clone() }), 404, "unknown_file"),
            (ControllerError::Catalog(CatalogError::IsFolder { path }), 422, "is_folder"),
            (ControllerError::Policy(PolicyError::MaxDownloads), 422, "bad_policy"),
            (ControllerError::Refused(Refused::NotClosed), 409, "refused"),
            (ControllerError::Refused(Refused::UndoTooLate), 409, "undo_too_late"),
            (ControllerError::Refused(Refused::UndoAfterBytes), 409, "undo_after_bytes"),
            (ControllerError::Refused(Refused::UnknownTransfer), 404, "unknown_transfer"),
            (ControllerError::TunnelUnavailable("no".to_owned()), 503, "tunnel_unavailable"),
            (ControllerError::Refused(Refused::SelfTest), 409, "refused"),
            (ControllerError::Overtaken, 409, "closed_meanwhile"),
            (ControllerError::TooMany, 503, "too_many_shares"),
            (ControllerError::Busy, 503, "busy"),
        ] {
            let problem = Problem::from(error);
            assert_eq!((problem.status().as_u16(), problem.code()), (status, code));
        }
    }
}
