//! Live changes as Server-Sent Events, which outlive a lost connection.
//!
//! * `ready`: the stream stands; its id is where the event log stands.
//! * `share`: the JSON of a share that changed, its id the newest line that this wrote into the log, where it wrote one.
//! * `resync`: something was missed and will not be sent; whoever shows shares asks for them anew.
//!
//! A browser that comes back says in `Last-Event-ID` how far it got. What the log has since is looked up, and each share it
//! speaks of is sent once, as it stands.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, broadcast};
use tokio::time::Sleep;

use super::wire::ShareJson;
use super::{Draining, OwnerSide};
use crate::controller::{Change, View};
use crate::http::problem::Problem;
use crate::share::ShareId;
use crate::store::{EventQuery, StoreError};

/// How many streams run at once: each tab of the owner's page has one, and holds a connection.
pub(super) const MAX_STREAMS: usize = 64;
/// How many missed lines of the log are looked up; past that it is cheaper to ask for the shares anew.
const MAX_REPLAY: usize = 500;
/// How often a quiet stream says that it lives: proxies cut connections that are silent for a minute or less.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long one stream lasts. The browser comes back by itself, and shows its credential again when it does.
const LIFETIME: Duration = Duration::from_secs(15 * 60);
/// How long a browser waits before it comes back, in milliseconds.
const RETRY_MS: u32 = 2000;

/// Answers `GET /api/v1/events/stream`.
pub(super) async fn stream(
    State(side): State<Arc<OwnerSide>>,
    draining: Option<Extension<Draining>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let permit = side.streams.clone().try_acquire_owned().map_err(|_| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_streams", "Too many pages watch at once; close some.")
            .retry_after(HEARTBEAT)
    })?;
    // First listen, then look back: what happens in between is heard.
    let changes = side.controller.watch();
    let last_seen = headers.get("last-event-id").map(|value| value.to_str().ok().and_then(|text| text.parse::<u64>().ok()));
    let mut live = Live {
        changes,
        pending: VecDeque::new(),
        sent: 0,
        backlog: 0,
        life: Box::pin(tokio::time::sleep(LIFETIME)),
        draining: draining.map(|Extension(draining)| draining).unwrap_or_default(),
        side,
        _permit: permit,
    };
    live.begin(last_seen).await?;
    let body = Body::from_stream(futures_util::stream::unfold(live, |mut live| async move {
        let chunk = live.next().await?;
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(chunk)), live))
    }));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // nginx would hold events back.
        (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    Ok((headers, body).into_response())
}

struct Live {
    side: Arc<OwnerSide>,
    changes: broadcast::Receiver<Change>,
    pending: VecDeque<String>,
    /// The highest line of the log that was told of.
    sent: u64,
    /// How many changes were heard while we looked back: they may be older than what was sent.
    backlog: usize,
    life: Pin<Box<Sleep>>,
    draining: Draining,
    _permit: OwnedSemaphorePermit,
}

enum Input {
    Changed(Change),
    Missed,
    Quiet,
    Over,
}

impl Live {
    /// Puts down what a browser gets first. `last_seen` is what it says it saw last; `Some(None)` where that cannot be read.
    async fn begin(&mut self, last_seen: Option<Option<u64>>) -> Result<(), StoreError> {
        let latest = self.side.store.latest_seq().await?;
        self.pending.push_back(format!("retry: {RETRY_MS}\n\n"));
        match last_seen {
            None => self.pending.push_back(event("ready", Some(latest), "{}")),
            Some(Some(seen)) if seen <= latest && latest - seen <= MAX_REPLAY as u64 => {
                self.replay(seen).await?;
                self.pending.push_back(event("ready", Some(latest.max(self.sent)), "{}"));
            }
            // So much that it is cheaper to ask anew, or a number of another log.
            Some(_) => self.pending.push_back(event("resync", Some(latest), "{}")),
        }
        self.sent = self.sent.max(latest);
        self.backlog = self.changes.len();
        Ok(())
    }

    async fn replay(&mut self, seen: u64) -> Result<(), StoreError> {
        let query = EventQuery { after: seen, limit: MAX_REPLAY, ..EventQuery::default() };
        let mut shares: Vec<(ShareId, u64)> = Vec::new();
        for record in self.side.store.events(query).await? {
            shares.retain(|(share, _)| *share != record.share);
            shares.push((record.share, record.seq));
        }
        for (share, seq) in shares {
            if let Some(view) = self.side.controller.show(share).await? {
                self.tell(&view, Some(seq));
            }
        }
        Ok(())
    }

    /// Returns the next piece; `None` at the end.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(piece) = self.pending.pop_front() {
                return Some(piece);
            }
            match self.input().await {
                Input::Changed(change) => self.changed(change).await,
                Input::Missed => self.pending.push_back(event("resync", None, "{}")),
                Input::Quiet => return Some(":\n\n".to_owned()),
                Input::Over => return None,
            }
        }
    }

    async fn input(&mut self) -> Input {
        tokio::select! {
            change = self.changes.recv() => match change {
                Ok(change) => Input::Changed(change),
                Err(RecvError::Lagged(_)) => Input::Missed,
                Err(RecvError::Closed) => Input::Over,
            },
            () = tokio::time::sleep(HEARTBEAT) => Input::Quiet,
            () = &mut self.life => Input::Over,
            () = self.draining.0.cancelled() => Input::Over,
        }
    }

    async fn changed(&mut self, change: Change) {
        let is_old = change.seq.is_some_and(|seq| seq <= self.sent);
        if self.backlog == 0 {
            if !is_old {
                self.tell(&change.view, change.seq);
            }
            return;
        }
        // Heard while we looked back: what is sent is the share as it stands, so nothing seems to go back.
        self.backlog -= 1;
        if !is_old {
            let fresh = self.side.controller.show(change.view.share.id).await.ok().flatten();
            self.tell(fresh.as_ref().unwrap_or(&change.view), change.seq);
        }
    }

    fn tell(&mut self, view: &View, seq: Option<u64>) {
        self.sent = self.sent.max(seq.unwrap_or(0));
        let json = serde_json::to_string(&ShareJson::new(view, self.side.clock.now())).expect("a share is plain JSON");
        self.pending.push_back(event("share", seq, &json));
    }
}

/// Writes one event. `data` is JSON, which has no line breaks.
fn event(name: &str, id: Option<u64>, data: &str) -> String {
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    format!("event: {name}\n{id}data: {data}\n\n")
}
