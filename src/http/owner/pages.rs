//! Shares page by page: those that live, and the history.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::OwnerSide;
use super::export::{self, Format};
use super::query::{Edge, bad, given, limit, moment};
use super::wire::ShareJson;
use crate::controller::View;
use crate::http::auth::Caller;
use crate::http::problem::Problem;
use crate::share::{CatalogPath, Outcome, ShareId, State as ShareState};
use crate::store::{MAX_PAGE, ShareQuery};

/// How many shares a page has where it is not said.
const DEFAULT_SHARES: usize = 100;
/// The longest text that is searched for in paths: no name is longer.
const MAX_QUERY_BYTES: usize = 255;

#[derive(Debug, Deserialize)]
pub(super) struct ListParams {
    state: Option<String>,
    query: Option<String>,
    cursor: Option<String>,
    limit: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct HistoryParams {
    outcome: Option<String>,
    query: Option<String>,
    since: Option<String>,
    until: Option<String>,
    cursor: Option<String>,
    limit: Option<String>,
    format: Option<String>,
}

/// A page of shares, newest made first; those that live stand before those that are closed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Shares)]
pub(super) struct SharesJson {
    shares: Vec<ShareJson>,
    /// What to ask for the next page with; `null`: there is none.
    next_cursor: Option<String>,
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
pub(super) async fn list(
    State(side): State<Arc<OwnerSide>>,
    Extension(caller): Extension<Caller>,
    Query(params): Query<ListParams>,
) -> Result<Json<SharesJson>, Problem> {
    let wanted = wanted(given(&params.state))?;
    let filter = ShareQuery {
        path_contains: search(&params.query)?,
        limit: limit(params.limit.as_deref(), DEFAULT_SHARES, MAX_PAGE)?,
        ..ShareQuery::default()
    };
    let cursor = given(&params.cursor).map(parse_cursor).transpose()?;
    page(&side, &caller, wanted, cursor, filter).await
}

/// Answers `GET /api/v1/history`: the closed shares, a page or all of them as a file.
pub(super) async fn history(
    State(side): State<Arc<OwnerSide>>,
    Extension(caller): Extension<Caller>,
    Query(params): Query<HistoryParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let format = Format::wanted(given(&params.format), &headers)?;
    let filter = ShareQuery {
        outcome: given(&params.outcome).map(outcome).transpose()?,
        path_contains: search(&params.query)?,
        since: given(&params.since).map(|text| moment("since", text, Edge::Start)).transpose()?,
        until: given(&params.until).map(|text| moment("until", text, Edge::End)).transpose()?,
        limit: limit(params.limit.as_deref(), DEFAULT_SHARES, MAX_PAGE)?,
        ..ShareQuery::default()
    };
    let cursor = given(&params.cursor).map(parse_cursor).transpose()?;
    match format {
        Format::Page => Ok(page(&side, &caller, Wanted::Closed, cursor, filter).await?.into_response()),
        Format::Csv | Format::JsonLines => export::download(side, caller, format, filter).await,
    }
}

async fn page(
    side: &OwnerSide,
    caller: &Caller,
    wanted: Wanted,
    cursor: Option<Cursor>,
    filter: ShareQuery,
) -> Result<Json<SharesJson>, Problem> {
    let (mut views, mut next, limit) = (Vec::new(), None, filter.limit);
    let closed_from = match cursor {
        Some(Cursor::Closed(before)) => Some(before),
        _ if wanted == Wanted::Closed => Some(None),
        _ => {
            (views, next) = living(side, wanted, cursor, &filter);
            (next.is_none() && wanted == Wanted::All).then_some(None)
        }
    };
    if let Some(before) = closed_from.filter(|_| matches!(wanted, Wanted::All | Wanted::Closed)) {
        let room = limit - views.len();
        if room == 0 {
            next = Some(Cursor::Closed(before));
        } else {
            let closed = side.controller.history(ShareQuery { before, limit: room, ..filter }).await?;
            if closed.len() == room {
                next = closed.last().map(|view| Cursor::Closed(Some(view.share.id)));
            }
            views.extend(closed);
        }
    }
    let now = side.clock.now();
    let shares = views.iter().map(|view| ShareJson::new(view, now, caller)).collect();
    Ok(Json(SharesJson { shares, next_cursor: next.map(cursor_text) }))
}

/// Returns a page of the living, and where the next one begins.
fn living(side: &OwnerSide, wanted: Wanted, cursor: Option<Cursor>, filter: &ShareQuery) -> (Vec<Arc<View>>, Option<Cursor>) {
    let text = filter.path_contains.as_deref().map(str::to_lowercase);
    let fits = |view: &Arc<View>| {
        let is_behind = match cursor {
            Some(Cursor::Living { created, id }) => (view.share.created.wall.0, view.share.id) < (created, id),
            Some(Cursor::Closed(_)) | None => true,
        };
        let is_wanted = match wanted {
            Wanted::In(state) => view.state == state,
            Wanted::All | Wanted::Living | Wanted::Closed => true,
        };
        is_behind && is_wanted && text.as_deref().is_none_or(|text| holds(&view.share.file.path, text))
    };
    let mut views: Vec<_> = side.controller.living().into_iter().filter(fits).take(filter.limit + 1).collect();
    let is_more = views.len() > filter.limit;
    views.truncate(filter.limit);
    let last = views.last().filter(|_| is_more);
    let next = last.map(|view| Cursor::Living { created: view.share.created.wall.0, id: view.share.id });
    (views, next)
}

/// Returns whether a path holds a text in small letters, as the store looks for it.
fn holds(path: &CatalogPath, text: &str) -> bool {
    path.to_text().to_lowercase().contains(text)
}

fn search(query: &Option<String>) -> Result<Option<String>, Problem> {
    let text = given(query).map(str::trim).filter(|text| !text.is_empty());
    if text.is_some_and(|text| text.len() > MAX_QUERY_BYTES) {
        return Err(bad(format!("query is too long: at most {MAX_QUERY_BYTES} bytes.")));
    }
    Ok(text.map(str::to_owned))
}

fn outcome(text: &str) -> Result<Outcome, Problem> {
    use Outcome::{Completed, Expired, Failed, Revoked, SourceChanged, Stalled, TimedOut};
    [Completed, Expired, TimedOut, Stalled, Revoked, SourceChanged, Failed]
        .into_iter()
        .find(|outcome| outcome.as_str() == text)
        .ok_or_else(|| bad("outcome must be completed, expired, timed_out, stalled, revoked, source_changed or failed."))
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
