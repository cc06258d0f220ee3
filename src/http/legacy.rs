//! The original's endpoints, for the scripts and the page that were written for it.
//!
//! A share stands for what the original called a tunnel. Its shapes are kept to the letter where a script could depend on
//! them: fields of a tunnel are texts, times have no zone and mean UTC, an error has a text in `detail`. Its defects are not.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use serde_json::{Map, Value, json};

use super::auth::Caller;
use super::owner::body::StrictJson;
use super::owner::wire::closed_at;
use super::owner::{OwnerSide, close as close_share, create_once, health, share_id, view_of, wish};
use super::problem::Problem;
use crate::controller::{NewShare, View};
use crate::share::{CatalogPath, Outcome, PolicyRequest, Share, State as ShareState, Timestamp, Transfer};
use crate::store::{MAX_PAGE, ShareQuery};

/// What the original's links lived for where a script did not say, in seconds.
const DEFAULT_EXPIRY_SECONDS: u64 = 3600;
/// How many files the bare list holds; about 10 MB. The new list pages.
const MAX_FILES: usize = 100_000;

/// Answers `POST /generate-link`. Unknown fields are passed over, as the original did.
pub(super) async fn generate_link(
    State(side): State<Arc<OwnerSide>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Result<StrictJson, Problem>,
) -> Result<Json<Value>, Problem> {
    let StrictJson { mut object, bytes } = body.map_err(body_problem)?;
    let path = CatalogPath::parse(&object.required_text("file_path")?)?;
    let seconds = object.positive("expires_in_seconds")?.unwrap_or(DEFAULT_EXPIRY_SECONDS);
    let policy = PolicyRequest { expires_in_seconds: Some(seconds), ..PolicyRequest::default() };
    let new = NewShare { path, policy, note: None, message: None };
    let view = create_once(&side, &caller, &headers, wish(&[b"generate-link", &bytes[..]]), new).await.map_err(create_problem)?;
    let url = view.url.clone().unwrap_or_default();
    Ok(Json(json!({
        "token": token_of(&url).unwrap_or_default(),
        "download_url": url,
        "tunnel_id": view.share.id,
        "file_path": view.share.file.path,
        "expires_in_seconds": view.share.policy.expires_in.as_secs(),
    })))
}

/// The original said 422 for a body that is no JSON too.
fn body_problem(problem: Problem) -> Problem {
    if problem.status() == StatusCode::BAD_REQUEST { problem.with_status(StatusCode::UNPROCESSABLE_ENTITY) } else { problem }
}

/// The original said 400 for what is there and is no file.
fn create_problem(problem: Problem) -> Problem {
    let is_no_file = matches!(problem.code(), "is_folder" | "not_a_file" | "not_a_folder");
    if is_no_file { problem.with_status(StatusCode::BAD_REQUEST) } else { problem }
}

/// Answers `GET /api/files`: every file's path, sorted.
pub(super) async fn files(State(side): State<Arc<OwnerSide>>) -> Json<Vec<CatalogPath>> {
    Json(side.catalog.all_files(MAX_FILES).await)
}

/// Answers `GET` and `HEAD /download/{token}`: leads to the public address, and spends nothing.
pub(super) async fn download(State(side): State<Arc<OwnerSide>>, Path(token): Path<String>) -> Result<Response, Problem> {
    let living = side.controller.living();
    let url = living.iter().filter_map(|view| view.url.as_deref()).find(|url| token_of(url) == Some(&token));
    let url = url.ok_or_else(|| Problem::not_found("unknown_link", "There is no such link, or it has ended."))?;
    Ok(Redirect::temporary(url).into_response())
}

/// Answers `GET /admin/tunnels`. One that is being closed is not active any more.
pub(super) async fn tunnels(State(side): State<Arc<OwnerSide>>, Extension(caller): Extension<Caller>) -> Json<Value> {
    let living = side.controller.living();
    let tunnels: Vec<Value> = living.iter().filter(|view| is_active(view)).map(|view| active_tunnel(&side, &caller, view)).collect();
    Json(json!({ "count": tunnels.len(), "active_tunnels": tunnels }))
}

fn active_tunnel(side: &OwnerSide, caller: &Caller, view: &View) -> Value {
    let mut tunnel = tunnel(side, caller, view);
    tunnel.insert("download_stats".to_owned(), download_stats(side, view));
    tunnel.insert("file_size".to_owned(), view.share.file.size_bytes().into());
    tunnel.insert("is_downloading".to_owned(), (view.state == ShareState::Transferring).into());
    tunnel.into()
}

/// Answers `GET /admin/tunnels/{id}/stats`.
pub(super) async fn stats(
    State(side): State<Arc<OwnerSide>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let view = view_of(&side, share_id(&id)?).await?;
    let (served, size) = (view.share.delivered_bytes(), view.share.file.size_bytes());
    Ok(Json(json!({
        "tunnel_info": tunnel(&side, &caller, &view),
        "download_stats": download_stats(&side, &view),
        "file_size": size,
        "download_progress": { "bytes_served": served, "file_size": size, "percentage": view.share.percent() },
    })))
}

/// Answers `DELETE /admin/tunnels/{id}`; twice is fine.
pub(super) async fn close(
    State(side): State<Arc<OwnerSide>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let view = close_share(&side, &caller, &id).await?;
    let id = view.share.id;
    Ok(Json(json!({ "message": format!("Tunnel {id} terminated successfully"), "tunnel_id": id })))
}

/// Answers `GET /admin/history`: the newest that closed.
pub(super) async fn history(State(side): State<Arc<OwnerSide>>, Extension(caller): Extension<Caller>) -> Result<Json<Value>, Problem> {
    let closed = side.controller.history(ShareQuery { limit: MAX_PAGE, ..ShareQuery::default() }).await?;
    let history: Vec<Value> = closed.iter().map(|view| tunnel(&side, &caller, view).into()).collect();
    Ok(Json(json!({ "count": history.len(), "tunnel_history": history })))
}

/// Answers `GET /admin/monitor/status`.
pub(super) async fn monitor(State(side): State<Arc<OwnerSide>>) -> Json<Value> {
    let checks = health::check(&side).await;
    let living = side.controller.living();
    let limits = side.controller.limits();
    Json(json!({
        "monitor_active": true,
        "active_downloads": living.iter().filter(|view| view.state == ShareState::Transferring).count(),
        "active_tunnels_count": living.iter().filter(|view| is_active(view)).count(),
        "funnel_active": living.iter().any(|view| is_open(view.state)),
        "stall_timeout_seconds": limits.stall_timeout.as_secs(),
        "max_tunnel_seconds": limits.max_tunnel.as_secs(),
        "redis_connected": checks.store.works(),
        "redis_memory_usage": side.settings.store_kind,
        "uptime": side.clock.now().steady.since(side.started.steady).as_secs(),
    }))
}

fn is_active(view: &View) -> bool {
    view.share.outcome().is_none()
}

fn is_open(state: ShareState) -> bool {
    match state {
        ShareState::Offered | ShareState::Transferring | ShareState::Waiting | ShareState::Delivered => true,
        ShareState::Scheduled | ShareState::Opening | ShareState::Closing | ShareState::Closed => false,
    }
}

/// Answers `POST /admin/cleanup`. Every share is closed the moment it is due, so there is never anything left to clean.
pub(super) async fn cleanup(State(side): State<Arc<OwnerSide>>, Extension(caller): Extension<Caller>) -> Result<Json<Value>, Problem> {
    side.audit(&caller, "shares.cleanup", "", "").await?;
    Ok(Json(json!({ "message": "Cleanup completed", "cleaned_tunnels": 0, "cleaned_tokens": 0 })))
}

/// The fields of a tunnel as the original kept them: all of them texts.
fn tunnel(side: &OwnerSide, caller: &Caller, view: &View) -> Map<String, Value> {
    let url = view.url.clone().filter(|_| caller.sees_links());
    let share: &Share = &view.share;
    let mut fields = Map::new();
    let mut put = |name: &str, value: String| fields.insert(name.to_owned(), value.into());
    put("tunnel_id", share.id.to_string());
    put("token_id", share.link.to_string());
    put("file_path", share.file.path.to_text());
    put("public_url", url.unwrap_or_default());
    put("internal_url", String::new());
    put("created_at", naive_time(share.created.wall));
    put("expires_at", naive_time(share.expires.wall));
    put("max_seconds", share.policy.expires_in.as_secs().to_string());
    put("status", if is_active(view) { "active" } else { "destroyed" }.to_owned());
    put("bytes_served", share.delivered_bytes().to_string());
    put("active_connections", open_requests(share).to_string());
    put("last_activity", last_activity(side, share).map(naive_time).unwrap_or_default());
    if let Some(at) = closed_at(share) {
        put("destroyed_at", naive_time(at.wall));
        put("cleanup_time", naive_time(at.wall));
    }
    if let Some(outcome) = share.outcome() {
        put("cleanup_reason", cleanup_reason(outcome).to_owned());
    }
    fields
}

fn download_stats(side: &OwnerSide, view: &View) -> Value {
    let seen = last_activity(side, &view.share).map(naive_time);
    json!({
        "tunnel_id": view.share.id,
        "last_activity": seen,
        "last_seen": seen,
        "bytes_served": view.share.delivered_bytes(),
        "active_connections": open_requests(&view.share),
        "is_active": view.state == ShareState::Transferring,
    })
}

fn open_requests(share: &Share) -> usize {
    share.transfers.iter().map(Transfer::open_requests).sum()
}

/// When a byte last arrived, by today's wall clock.
fn last_activity(side: &OwnerSide, share: &Share) -> Option<Timestamp> {
    let now = side.clock.now();
    let last = share.transfers.iter().map(Transfer::last_sign).max()?;
    let ago = i64::try_from(now.steady.since(last).as_millis()).unwrap_or(i64::MAX);
    Some(Timestamp(now.wall.0.saturating_sub(ago)))
}

fn cleanup_reason(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Completed => "download_complete",
        Outcome::Stalled => "stalled",
        Outcome::Expired | Outcome::TimedOut => "expired",
        Outcome::Revoked => "manual",
        Outcome::SourceChanged | Outcome::Failed => "unknown",
    }
}

/// Writes a time as Python's `datetime.utcnow().isoformat()` does.
fn naive_time(at: Timestamp) -> String {
    let text = jiff::Timestamp::from_millisecond(at.0).unwrap_or(jiff::Timestamp::MAX);
    text.strftime("%Y-%m-%dT%H:%M:%S%.6f").to_string()
}

/// Returns the token in a link: what stands before the name.
fn token_of(url: &str) -> Option<&str> {
    url.rsplit('/').nth(1).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_what_python_writes() {
        assert_eq!(naive_time(Timestamp(1_700_000_000_123)), "2023-11-14T22:13:20.123000");
    }

    #[test]
    fn the_token_stands_before_the_name() {
        assert_eq!(token_of("https://nas.example/abc/eyJ.x.y/film.mp4"), Some("eyJ.x.y"));
        assert_eq!(token_of("film.mp4"), None);
    }
}
