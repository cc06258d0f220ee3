//! API tokens: make, list, revoke.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::OwnerSide;
use super::body::{Object, StrictJson};
use super::once::{Attempt, wish};
use super::openapi::schema;
use super::wire::time;
use crate::http::auth::{Caller, NewToken, new_api_token_id};
use crate::http::problem::Problem;
use crate::store::{ApiToken, ApiTokenId, Scope};

/// The longest name of a token.
const MAX_NAME_BYTES: usize = 100;
/// The longest life of a token that ends; one that shall live longer needs no end.
const MAX_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// An API token as owners see it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Token)]
pub(super) struct TokenJson {
    id: String,
    name: String,
    #[schema(schema_with = schema::scope)]
    scope: Scope,
    #[schema(format = "date-time")]
    created_at: String,
    /// `null`: it holds until it is revoked.
    #[schema(format = "date-time")]
    expires_at: Option<String>,
    /// To the minute or so; `null`: never.
    #[schema(format = "date-time")]
    last_used_at: Option<String>,
}

impl TokenJson {
    fn new(token: &ApiToken) -> Self {
        Self {
            id: token.id.as_str().to_owned(),
            name: token.name.clone(),
            scope: token.scope,
            created_at: time(token.created),
            expires_at: token.expires.map(|at| time(at.wall)),
            last_used_at: token.last_used.map(time),
        }
    }
}

/// A new API token, with the secret that is told only here.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = NewToken)]
pub(super) struct NewTokenJson {
    /// What a script sends as `Authorization: Bearer` or `X-API-Key`.
    token: String,
    #[serde(flatten)]
    about: TokenJson,
}

/// The API tokens, the newest first; those that have ended are among them.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Tokens)]
pub(super) struct TokensJson {
    tokens: Vec<TokenJson>,
}

/// Answers `POST /api/v1/tokens`.
pub(super) async fn create(
    State(side): State<Arc<OwnerSide>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    StrictJson { object, bytes }: StrictJson,
) -> Result<(StatusCode, Json<NewTokenJson>), Problem> {
    let new = new_token(object)?;
    let ids = vec![new.id.as_str().to_owned()];
    let doer = side.clone();
    let work = move |attempt| make(doer, caller, new, attempt);
    let (token, secret) = side.once.run(&headers, wish(&[b"token", &bytes]), ids, side.clock.now(), work).await?;
    Ok((StatusCode::CREATED, Json(NewTokenJson { token: secret, about: TokenJson::new(&token) })))
}

async fn make(side: Arc<OwnerSide>, caller: Caller, mut new: NewToken, attempt: Attempt) -> Result<(ApiToken, String), Problem> {
    new.id = attempt.ids.first().and_then(|id| ApiTokenId::parse(id)).unwrap_or(new.id);
    if attempt.is_repeat && side.gate.api_tokens().await?.iter().any(|token| token.id == new.id) {
        return Err(already_made());
    }
    if attempt.is_done {
        return Err(already_made());
    }
    let detail = format!("{} ({})", new.name, new.scope.as_str());
    side.audit(&caller, "token.create", new.id.as_str(), &detail).await?;
    side.gate.make_api_token(new, side.clock.now()).await
}

fn already_made() -> Problem {
    let detail = "This request made a token already, and its secret is told only once; revoke that token and make another.";
    Problem::new(StatusCode::CONFLICT, "already_made", detail)
}

pub(super) fn new_token(mut body: Object) -> Result<NewToken, Problem> {
    let name = body.required_text("name")?.trim().to_owned();
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        return Err(body.wrong("name", &format!("must have 1 to {MAX_NAME_BYTES} bytes and no control characters")));
    }
    let scope = match body.required_text("scope")?.as_str() {
        "read" => Scope::Read,
        "share" => Scope::Share,
        "admin" => Scope::Admin,
        _ => return Err(body.wrong("scope", "must be read, share or admin")),
    };
    let lifetime = body.positive("expires_in_seconds")?.map(Duration::from_secs);
    if lifetime.is_some_and(|lifetime| lifetime > MAX_LIFETIME) {
        return Err(body.wrong("expires_in_seconds", "may be ten years at most; a token without it holds until it is revoked"));
    }
    body.finish()?;
    Ok(NewToken { id: new_api_token_id(), name, scope, lifetime })
}

/// Answers `GET /api/v1/tokens`. There is a bounded number of them, so there is one page.
pub(super) async fn list(State(side): State<Arc<OwnerSide>>) -> Result<Json<TokensJson>, Problem> {
    let tokens = side.gate.api_tokens().await?;
    Ok(Json(TokensJson { tokens: tokens.iter().map(TokenJson::new).collect() }))
}

/// Answers `DELETE /api/v1/tokens/{id}`.
pub(super) async fn revoke(
    State(side): State<Arc<OwnerSide>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<TokenJson>, Problem> {
    let unknown = || Problem::not_found("unknown_token", "There is no such API token.");
    let id = ApiTokenId::parse(&id).ok_or_else(unknown)?;
    let tokens = side.gate.api_tokens().await?;
    let token = tokens.iter().find(|token| token.id == id).ok_or_else(unknown)?;
    // Before anything is waited for: whoever revokes a token on a disk that hangs means at once. And what the audit log tells is
    // done, also where the one who asked hangs up.
    let (going, name, side_of_task) = (side.gate.hold_api_token_shut(&id), token.name.clone(), side.clone());
    let revoke = async move {
        let _going = going;
        side_of_task.audit(&caller, "token.revoke", id.as_str(), &name).await?;
        side_of_task.gate.revoke_api_token(&id).await?.ok_or_else(unknown)
    };
    let revoked = side.once.to_its_end(revoke).await?;
    Ok(Json(TokenJson::new(&revoked)))
}
