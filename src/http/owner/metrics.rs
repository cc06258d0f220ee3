//! The numbers of this program, for Prometheus and its kin.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::OwnerSide;
use super::health::{self, CHECK_TIMEOUT};
use crate::metrics::{Exposition, Snapshot};
use crate::share::Transfer;

/// Answers `GET /metrics`.
pub(super) async fn metrics(State(side): State<Arc<OwnerSide>>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let exposition = Exposition::wanted(accept);
    let text = side.controller.metrics().write_down(&snapshot(&side).await, exposition);
    ([(header::CONTENT_TYPE, exposition.content_type())], text).into_response()
}

async fn snapshot(side: &OwnerSide) -> Snapshot {
    let living = side.controller.living();
    let transfers = || living.iter().flat_map(|view| &view.share.transfers);
    // A store that hangs must not keep the numbers of everything else.
    let size = tokio::time::timeout(CHECK_TIMEOUT, side.store.size());
    let (size, checks, free_bytes) = tokio::join!(size, health::check(side), health::free_bytes(side));
    Snapshot {
        shares: living.iter().map(|view| view.state).collect(),
        active_transfers: transfers().filter(|transfer| transfer.is_active()).count() as u64,
        open_requests: transfers().map(Transfer::open_requests).sum::<usize>() as u64,
        checks: checks.named().map(|(name, check)| (name, check.status().as_number())).to_vec(),
        event_streams: side.streams.open() as u64,
        store: size.ok().and_then(Result::ok).map(|size| (size.bytes, size.events, size.shares)),
        indexed_files: side.catalog.index_health().state.files as u64,
        free_bytes,
    }
}

/// Counts each answer of the owner's side.
pub(super) async fn count(State(side): State<Arc<OwnerSide>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    side.controller.metrics().owner_answered(response.status().as_u16());
    response
}
