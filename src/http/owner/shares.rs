//! Shares: make, list, look, close, extend, open again.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use fast_qr::QRBuilder;
use fast_qr::convert::Builder;
use fast_qr::convert::svg::SvgBuilder;
use serde::Deserialize;
use serde_json::{Value, json};

use super::OwnerSide;
use super::body::{Object, OptionalJson, StrictJson, quoted};
use super::once::wish;
use super::query::{bad, given, limit, parse_time, share_id};
use super::wire::ShareJson;
use crate::controller::{NewShare, View};
use crate::http::problem::Problem;
use crate::share::{CatalogPath, InvalidNetwork, Network, OnStall, PolicyRequest, ShareId, State as ShareState};
use crate::store::MAX_PAGE;

/// How many shares a page has where it is not said.
const DEFAULT_SHARES: usize = 100;
/// The white border around the code, in modules: what readers of QR codes expect.
const QR_MARGIN: usize = 4;

/// Answers `POST /api/v1/shares`.
pub(super) async fn create(
    State(side): State<Arc<OwnerSide>>,
    headers: HeaderMap,
    StrictJson { object, bytes }: StrictJson,
) -> Result<Response, Problem> {
    let view = create_once(&side, &headers, &[b"create", &bytes], new_share(object)?).await?;
    let status = if view.state == ShareState::Opening { StatusCode::ACCEPTED } else { StatusCode::CREATED };
    let location = format!("/api/v1/shares/{}", view.share.id);
    let location = HeaderValue::try_from(location).expect("an id is made of letters and digits");
    Ok((status, [(header::LOCATION, location)], json_of(&side, &view)).into_response())
}

/// Makes a share, unless a request with the same `Idempotency-Key` and the same `parts` did already.
pub(in crate::http) async fn create_once(
    side: &OwnerSide,
    headers: &HeaderMap,
    parts: &[&[u8]],
    new: NewShare,
) -> Result<Arc<View>, Problem> {
    let controller = side.controller.clone();
    let work = async move { Ok(controller.create(new).await?.share.id) };
    let id = side.once.run(headers, wish(parts), side.clock.now().steady, work).await?;
    view_of(side, id).await
}

/// Reads what an owner wants shared.
fn new_share(mut body: Object) -> Result<NewShare, Problem> {
    let path = CatalogPath::parse(&body.required_text("path")?)?;
    let note = body.text("note")?.filter(|note| !note.is_empty());
    let message = body.text("message")?.filter(|message| !message.is_empty());
    let policy = body.object("policy")?.map(policy).transpose()?.unwrap_or_default();
    body.finish()?;
    Ok(NewShare { path, policy, note, message })
}

fn policy(mut body: Object) -> Result<PolicyRequest, Problem> {
    let starts_at = match body.text("starts_at")? {
        None => None,
        Some(text) => Some(parse_time(&text).ok_or_else(|| body.wrong("starts_at", "must be a time as in 2030-01-31T18:00:00Z"))?),
    };
    let on_stall = match body.text("on_stall")?.as_deref() {
        None => None,
        Some("close") => Some(OnStall::Close),
        Some("reopen") => Some(OnStall::Reopen),
        Some(_) => return Err(body.wrong("on_stall", "must be close or reopen")),
    };
    let networks: Result<Vec<Network>, (String, InvalidNetwork)> =
        body.texts("allowed_networks")?.into_iter().map(|text| text.parse().map_err(|wrong| (text, wrong))).collect();
    let allowed_networks = networks
        .map_err(|(text, wrong)| body.wrong("allowed_networks", &format!("is a list of networks, and {} {wrong}", quoted(&text))))?;
    let request = PolicyRequest {
        max_downloads: body.positive("max_downloads")?,
        unlimited_downloads: body.flag("unlimited_downloads")?,
        expires_in_seconds: body.positive("expires_in_seconds")?,
        starts_at,
        on_stall,
        allowed_networks,
        max_bytes_per_second: body.positive("max_bytes_per_second")?,
    };
    body.finish()?;
    Ok(request)
}

#[derive(Debug, Deserialize)]
pub(super) struct Params {
    state: Option<String>,
    cursor: Option<String>,
    limit: Option<String>,
}

/// Which shares a list holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    All,
    Living,
    Closed,
    In(ShareState),
}

/// Where a page of shares begins: the living stand first, newest first, then the closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cursor {
    /// Behind the living share that was made then.
    Living { created: i64, id: ShareId },
    /// Behind this closed share; `None`: at the first.
    Closed(Option<ShareId>),
}

/// Answers `GET /api/v1/shares`.
pub(super) async fn list(State(side): State<Arc<OwnerSide>>, Query(params): Query<Params>) -> Result<Json<Value>, Problem> {
    let limit = limit(params.limit.as_deref(), DEFAULT_SHARES, MAX_PAGE)?;
    let wanted = wanted(given(&params.state))?;
    let cursor = given(&params.cursor).map(parse_cursor).transpose()?;
    page(&side, wanted, cursor, limit).await
}

/// Answers `GET /api/v1/history`: the closed shares.
pub(super) async fn history(State(side): State<Arc<OwnerSide>>, Query(params): Query<Params>) -> Result<Json<Value>, Problem> {
    let limit = limit(params.limit.as_deref(), DEFAULT_SHARES, MAX_PAGE)?;
    let cursor = given(&params.cursor).map(parse_cursor).transpose()?;
    page(&side, Wanted::Closed, cursor, limit).await
}

async fn page(side: &OwnerSide, wanted: Wanted, cursor: Option<Cursor>, limit: usize) -> Result<Json<Value>, Problem> {
    let mut views = Vec::new();
    let mut next = None;
    let closed_from = match cursor {
        Some(Cursor::Closed(before)) => Some(before),
        _ if wanted == Wanted::Closed => Some(None),
        _ => {
            let behind = |view: &Arc<View>| match cursor {
                Some(Cursor::Living { created, id }) => (view.share.created.wall.0, view.share.id) < (created, id),
                Some(Cursor::Closed(_)) | None => true,
            };
            let fits = |view: &Arc<View>| match wanted {
                Wanted::In(state) => view.state == state,
                Wanted::All | Wanted::Living | Wanted::Closed => true,
            };
            let living = side.controller.living();
            views.extend(living.into_iter().filter(|view| behind(view) && fits(view)).take(limit + 1));
            if views.len() > limit {
                views.truncate(limit);
                next = views.last().map(|view| Cursor::Living { created: view.share.created.wall.0, id: view.share.id });
            }
            (next.is_none() && wanted == Wanted::All).then_some(None)
        }
    };
    if let Some(before) = closed_from.filter(|_| matches!(wanted, Wanted::All | Wanted::Closed)) {
        let room = limit - views.len();
        if room == 0 {
            next = Some(Cursor::Closed(before));
        } else {
            let closed = side.controller.history(before, room).await?;
            if closed.len() == room {
                next = closed.last().map(|view| Cursor::Closed(Some(view.share.id)));
            }
            views.extend(closed);
        }
    }
    let now = side.clock.now();
    let shares: Vec<ShareJson> = views.iter().map(|view| ShareJson::new(view, now)).collect();
    Ok(Json(json!({ "shares": shares, "next_cursor": next.map(cursor_text) })))
}

fn wanted(text: Option<&str>) -> Result<Wanted, Problem> {
    use ShareState::{Closing, Delivered, Offered, Opening, Scheduled, Transferring, Waiting};
    match text {
        None => Ok(Wanted::All),
        Some("living") => Ok(Wanted::Living),
        Some("closed") => Ok(Wanted::Closed),
        Some(text) => [Scheduled, Opening, Offered, Transferring, Waiting, Delivered, Closing]
            .into_iter()
            .find(|state| state.as_str() == text)
            .map(Wanted::In)
            .ok_or_else(|| bad("state must be living, closed, scheduled, opening, offered, transferring, waiting, delivered or closing.")),
    }
}

fn cursor_text(cursor: Cursor) -> String {
    match cursor {
        Cursor::Living { created, id } => format!("l.{created}.{id}"),
        Cursor::Closed(Some(id)) => format!("c.{id}"),
        Cursor::Closed(None) => "c".to_owned(),
    }
}

fn parse_cursor(text: &str) -> Result<Cursor, Problem> {
    let mut parts = text.split('.');
    let cursor = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some("l"), Some(created), Some(id), None) => {
            created.parse().ok().zip(id.parse().ok()).map(|(created, id)| Cursor::Living { created, id })
        }
        (Some("c"), Some(id), None, None) => id.parse().ok().map(|id| Cursor::Closed(Some(id))),
        (Some("c"), None, None, None) => Some(Cursor::Closed(None)),
        _ => None,
    };
    cursor.ok_or_else(|| bad("cursor must be the next_cursor of the page before."))
}

/// Answers `GET /api/v1/shares/{id}`.
pub(super) async fn show(State(side): State<Arc<OwnerSide>>, Path(id): Path<String>) -> Result<Json<ShareJson>, Problem> {
    let view = view_of(&side, share_id(&id)?).await?;
    Ok(json_of(&side, &view))
}

/// Answers `DELETE /api/v1/shares/{id}`; twice is fine.
pub(super) async fn revoke(State(side): State<Arc<OwnerSide>>, Path(id): Path<String>) -> Result<Json<ShareJson>, Problem> {
    let view = side.controller.revoke(share_id(&id)?).await?;
    Ok(json_of(&side, &view))
}

/// Answers `POST /api/v1/shares/{id}/extend`.
pub(super) async fn extend(
    State(side): State<Arc<OwnerSide>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    StrictJson { mut object, bytes }: StrictJson,
) -> Result<Json<ShareJson>, Problem> {
    let id = share_id(&id)?;
    let seconds = object.positive("expires_in_seconds")?.ok_or_else(|| object.wrong("expires_in_seconds", "is missing"))?;
    object.finish()?;
    let controller = side.controller.clone();
    let work = async move { Ok(controller.extend(id, Duration::from_secs(seconds)).await?.share.id) };
    let wish = wish(&[b"extend", id.as_str().as_bytes(), &bytes]);
    side.once.run(&headers, wish, side.clock.now().steady, work).await?;
    let view = view_of(&side, id).await?;
    Ok(json_of(&side, &view))
}

/// Answers `POST /api/v1/shares/{id}/reopen`.
pub(super) async fn reopen(
    State(side): State<Arc<OwnerSide>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    OptionalJson(StrictJson { object, .. }): OptionalJson,
) -> Result<Json<ShareJson>, Problem> {
    let id = share_id(&id)?;
    object.finish()?;
    let controller = side.controller.clone();
    let work = async move { Ok(controller.reopen(id).await?.share.id) };
    let wish = wish(&[b"reopen", id.as_str().as_bytes()]);
    side.once.run(&headers, wish, side.clock.now().steady, work).await?;
    let view = view_of(&side, id).await?;
    Ok(json_of(&side, &view))
}

/// Answers `GET /api/v1/shares/{id}/qr.svg`: the link, for the camera of a phone.
pub(super) async fn qr(State(side): State<Arc<OwnerSide>>, Path(id): Path<String>) -> Result<Response, Problem> {
    let view = view_of(&side, share_id(&id)?).await?;
    let no_link = || Problem::new(StatusCode::CONFLICT, "no_link", "This share is closed and has no link.");
    let url = view.url.clone().ok_or_else(no_link)?;
    let code = QRBuilder::new(url).build().map_err(|_| {
        Problem::new(StatusCode::CONFLICT, "link_too_long", "The link is too long for a QR code; the name of the file is very long.")
    })?;
    let svg = SvgBuilder::default().margin(QR_MARGIN).to_str(&code);
    Ok(([(header::CONTENT_TYPE, "image/svg+xml")], svg).into_response())
}

/// Returns a share as it stands.
pub(in crate::http) async fn view_of(side: &OwnerSide, id: ShareId) -> Result<Arc<View>, Problem> {
    side.controller.show(id).await?.ok_or_else(|| Problem::not_found("unknown_share", format!("There is no share {id}.")))
}

fn json_of(side: &OwnerSide, view: &View) -> Json<ShareJson> {
    Json(ShareJson::new(view, side.clock.now()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_nothing_else_does() {
        let id = ShareId::from_random(42);
        for cursor in [Cursor::Living { created: -5, id }, Cursor::Closed(Some(id)), Cursor::Closed(None)] {
            assert_eq!(parse_cursor(&cursor_text(cursor)).unwrap(), cursor);
        }
        for wrong in ["x", "l", "l.1", "l.x.0000000000", "c.", "c.nope", "c.0000000000.1", "l.1.0000000000.2", "../c"] {
            assert!(parse_cursor(wrong).is_err(), "{wrong}");
        }
    }
}
