//! The signed-in browsers: list, sign out.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::OwnerSide;
use super::wire::time;
use crate::http::auth::{Caller, Credential, SecretDigest};
use crate::http::problem::Problem;
use crate::share::{Moment, Timestamp};
use crate::store::Session;

/// A signed-in browser.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Session)]
pub(super) struct SessionJson {
    id: String,
    #[schema(format = "date-time")]
    created_at: String,
    /// To the hour or so.
    #[schema(format = "date-time")]
    last_seen_at: String,
    #[schema(format = "date-time")]
    expires_at: String,
    /// From where it signed in; `null`: over the local socket.
    address: Option<String>,
    /// What the browser calls itself.
    agent: String,
    /// Whether it is the one that asks.
    is_current: bool,
}

impl SessionJson {
    fn new(session: &Session, caller: &Caller, now: Moment) -> Self {
        let digest = SecretDigest::from_bytes(session.digest);
        // It ends by the steady clock; what people read is the wall's.
        let left = i64::try_from(session.expires.since(now.steady).as_millis()).unwrap_or(i64::MAX);
        Self {
            id: digest.id(),
            created_at: time(session.created),
            last_seen_at: time(session.seen),
            expires_at: time(Timestamp(now.wall.0.saturating_add(left))),
            address: session.address.clone(),
            agent: session.agent.clone(),
            is_current: is_of(caller, digest),
        }
    }
}

fn is_of(caller: &Caller, session: SecretDigest) -> bool {
    caller.credential == Credential::Browser(session)
}

/// The signed-in browsers, the one that was seen last first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Sessions)]
pub(super) struct SessionsJson {
    sessions: Vec<SessionJson>,
}

/// How many browsers were signed out.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SignedOut)]
pub(super) struct SignedOutJson {
    signed_out: usize,
}

/// Answers `GET /api/v1/sessions`. There is a bounded number of them, so there is one page.
pub(super) async fn list(State(side): State<Arc<OwnerSide>>, Extension(caller): Extension<Caller>) -> Result<Json<SessionsJson>, Problem> {
    let now = side.clock.now();
    let sessions = side.gate.sessions(now.steady).await?;
    Ok(Json(SessionsJson { sessions: sessions.iter().map(|session| SessionJson::new(session, &caller, now)).collect() }))
}

/// Answers `DELETE /api/v1/sessions/{id}`: signs that browser out.
pub(super) async fn revoke(
    State(side): State<Arc<OwnerSide>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let now = side.clock.now().steady;
    let digests = side.gate.sessions(now).await?.into_iter().map(|session| SecretDigest::from_bytes(session.digest));
    let named: Vec<SecretDigest> = digests.filter(|digest| digest.id() == id).collect();
    if named.is_empty() {
        return Err(Problem::not_found("unknown_session", "There is no such session."));
    }
    side.audit(&caller, "session.revoke", &id, "").await?;
    for digest in named {
        side.gate.sign_out(digest, now).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Answers `DELETE /api/v1/sessions`: signs every other browser out.
pub(super) async fn revoke_others(
    State(side): State<Arc<OwnerSide>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<SignedOutJson>, Problem> {
    let now = side.clock.now().steady;
    let digests = side.gate.sessions(now).await?.into_iter().map(|session| SecretDigest::from_bytes(session.digest));
    let others: Vec<SecretDigest> = digests.filter(|digest| !is_of(&caller, *digest)).collect();
    side.audit(&caller, "session.revoke", "", &format!("all others: {}", others.len())).await?;
    for digest in &others {
        side.gate.sign_out(*digest, now).await?;
    }
    Ok(Json(SignedOutJson { signed_out: others.len() }))
}
