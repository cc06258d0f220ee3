//! Live changes as Server-Sent Events: a cursor over the event log, which outlives a lost connection and a restart.
//!
//! * `log`: one line of the event log, its id the line's number. Every line, in order, each once.
//! * `share`: the JSON of a share as it stands; behind the lines that it follows from, and as progress is made.
//! * `ready`: the stream stands; its id is where the log stands. Without a `Last-Event-ID` it begins here.
//! * `resync`: shares changed of which no `share` will tell; whoever shows them asks for them anew.
//!
//! What is told live carries its own lines, so the usual case reads nothing. Where its first line is not the next one (the
//! reader comes back, it fell behind, or the saves of two shares were told the other way round) the lines up to it are
//! read from the store, a page at a time and as the reader takes them. The store has them: a line is told when it is on
//! disk, and lines reach the disk in the order of their numbers. So a slow reader costs one piece and not a queue.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use tokio::time::{Instant, sleep_until};

use super::events::record_json;
use super::wire::ShareJson;
use super::{Draining, OwnerSide};
use crate::causes::Causes;
use crate::controller::{Change, View};
use crate::http::auth::Caller;
use crate::http::problem::Problem;
use crate::share::ShareId;
use crate::store::{EventQuery, Record, StoreError};

/// How many streams run at once: each tab of the owner's page and each waiting script has one. Five hundred are promised;
/// a stream costs its connection and a task, 200 KiB where its reader is slow: [`PIECE_BYTES`] or a page of lines, what
/// the connection buffers, and what the kernel holds unsent.
pub(super) const MAX_STREAMS: usize = 600;
/// How many streams read the store at once. After a restart all of them do; pages and scripts keep the other connections.
const MAX_READING: usize = 2;
/// How many lines are read at once: some tens of kilobytes.
const PAGE: usize = 100;
/// When a piece is sent. It is longer by one event at most.
const PIECE_BYTES: usize = 16 * 1024;
/// How many shares are told of after lines that were read, or in one go. Past that asking for the list is cheaper.
const MAX_TOUCHED: usize = 200;
/// How often a stream says that it lives: proxies cut connections that are silent for a minute or less.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long one stream lasts. The browser comes back by itself, and shows its credential again when it does.
const LIFETIME: Duration = Duration::from_secs(15 * 60);
/// How long a browser waits before it comes back, in milliseconds.
const RETRY_MS: u32 = 2000;

/// The bounds that all streams share.
pub(super) struct Streams {
    places: Arc<Semaphore>,
    reading: Semaphore,
}

impl Default for Streams {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(MAX_STREAMS)), reading: Semaphore::new(MAX_READING) }
    }
}

impl Streams {
    /// Returns how many streams are open.
    pub(super) fn open(&self) -> usize {
        MAX_STREAMS - self.places.available_permits()
    }
}

/// Answers `GET /api/v1/events/stream`.
pub(super) async fn stream(
    State(side): State<Arc<OwnerSide>>,
    Extension(caller): Extension<Caller>,
    draining: Option<Extension<Draining>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let place = side.streams.places.clone().try_acquire_owned().map_err(|_| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_streams", "Too many pages watch at once; close some.")
            .retry_after(HEARTBEAT)
    })?;
    let draining = draining.map(|Extension(draining)| draining).unwrap_or_default();
    let live = Live::begin(side, caller, draining, last_seen(&headers), place).await?;
    let body = Body::from_stream(futures_util::stream::unfold(live, |mut live| async move {
        let piece = live.next().await?;
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(piece)), live))
    }));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // nginx would hold events back.
        (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    Ok((headers, body).into_response())
}

/// What a reader that comes back says it saw last.
#[derive(Debug, Clone, Copy)]
enum LastSeen {
    /// Nothing: it has not been here.
    Nothing,
    /// The line of this number.
    Line(u64),
    /// Something that is no number of ours.
    Unreadable,
}

fn last_seen(headers: &HeaderMap) -> LastSeen {
    match headers.get("last-event-id") {
        None => LastSeen::Nothing,
        // A browser that got an empty id sends none; others send it empty.
        Some(value) if value.is_empty() => LastSeen::Nothing,
        Some(value) => value.to_str().ok().and_then(|text| text.parse().ok()).map_or(LastSeen::Unreadable, LastSeen::Line),
    }
}

/// One stream.
struct Live {
    side: Arc<OwnerSide>,
    changes: broadcast::Receiver<Change>,
    /// The number of the last line that was sent, or that the reader is not to get.
    cursor: u64,
    /// Where the log stood when the stream began.
    began_at: u64,
    /// Whether the store may have lines behind the cursor that are not told live.
    is_behind: bool,
    /// Shares that changed and are still to be told of, each once.
    touched: VecDeque<Touched>,
    /// Whether the reader is to ask for the shares anew.
    has_missed: bool,
    has_begun: bool,
    is_ready: bool,
    beats_at: Instant,
    ends_at: Instant,
    draining: Draining,
    /// Who reads: what they may see, and whether they may still be here.
    caller: Caller,
    _place: OwnedSemaphorePermit,
}

struct Touched {
    share: ShareId,
    /// As a live change told it; `None` where a line that was read speaks of it.
    view: Option<Arc<View>>,
}

enum Input {
    Changed(Change),
    FellBehind,
    Beat,
    Over,
}

impl Live {
    async fn begin(
        side: Arc<OwnerSide>,
        caller: Caller,
        draining: Draining,
        last_seen: LastSeen,
        place: OwnedSemaphorePermit,
    ) -> Result<Self, StoreError> {
        // First listen, then look where the log stands: what happens in between is heard.
        let changes = side.controller.watch();
        let latest = side.store.latest_seq().await?;
        let (cursor, has_missed) = match last_seen {
            LastSeen::Nothing => (latest, false),
            LastSeen::Line(seen) if seen <= latest => (seen, false),
            // A number of another log, as of a state folder that is gone.
            LastSeen::Line(_) | LastSeen::Unreadable => (latest, true),
        };
        let now = Instant::now();
        Ok(Self {
            changes,
            cursor,
            began_at: latest,
            is_behind: cursor < latest,
            touched: VecDeque::new(),
            has_missed,
            has_begun: false,
            is_ready: false,
            beats_at: now + HEARTBEAT,
            ends_at: now + LIFETIME,
            draining,
            caller,
            side,
            _place: place,
        })
    }

    /// Returns the next piece; `None` at the end. It is asked for once the reader took the one before.
    async fn next(&mut self) -> Option<String> {
        let mut piece = String::new();
        if !std::mem::replace(&mut self.has_begun, true) {
            piece = format!("retry: {RETRY_MS}\n\n");
        }
        loop {
            if self.is_over() {
                return None;
            }
            if Instant::now() >= self.beats_at {
                if !self.side.gate.still_holds(&self.caller, self.side.clock.now()).await {
                    return None;
                }
                self.beats_at = Instant::now() + HEARTBEAT;
                piece += ":\n\n";
            }
            let has_more = match self.more(&mut piece).await {
                Ok(has_more) => has_more,
                Err(error) => {
                    // It comes back with the last number that it saw, and goes on from there.
                    tracing::warn!(error = %Causes(&error), "A live stream ends early: the event log cannot be read");
                    return None;
                }
            };
            if piece.len() >= PIECE_BYTES || !has_more && !piece.is_empty() {
                return Some(piece);
            }
            if has_more {
                continue;
            }
            match self.input().await {
                Input::Changed(change) => self.changed(change, &mut piece),
                Input::FellBehind => (self.has_missed, self.is_behind) = (true, true),
                Input::Beat => {}
                Input::Over => return None,
            }
        }
    }

    /// Writes the next of what is due. Returns whether more may be: lines first, then the shares that they speak of.
    async fn more(&mut self, piece: &mut String) -> Result<bool, StoreError> {
        if self.is_behind {
            self.read_on(piece).await?;
        } else if self.has_missed {
            self.has_missed = false;
            self.touched.clear();
            *piece += &event("resync", None, "{}");
        } else if let Some(touched) = self.touched.pop_front() {
            self.tell(touched, piece).await?;
        } else if !self.is_ready {
            self.is_ready = true;
            *piece += &event("ready", Some(self.cursor), "{}");
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// Writes a page of lines from the store.
    async fn read_on(&mut self, piece: &mut String) -> Result<(), StoreError> {
        let page = {
            let _turn = self.side.streams.reading.acquire().await.expect("the semaphore is never closed");
            if self.has_missed {
                // The `resync` behind these lines covers what was told until here. Listening anew keeps a long way from
                // ending in another one.
                self.changes = self.side.controller.watch();
            }
            self.side.store.events(EventQuery { after: self.cursor, limit: PAGE, ..EventQuery::default() }).await?
        };
        self.is_behind = page.len() >= PAGE;
        for record in &page {
            if record.seq != self.cursor + 1 {
                // The lines between were forgotten when their time was over.
                self.has_missed = true;
            }
            self.line(record, piece);
            self.touch(record.share, None);
        }
        if !self.is_behind && self.cursor < self.began_at {
            (self.cursor, self.has_missed) = (self.began_at, true);
        }
        Ok(())
    }

    fn changed(&mut self, change: Change, piece: &mut String) {
        let mut change = Some(change);
        // What else is there goes the same way, so that a share that changed often is told of once.
        while let Some(Change { view, records }) = change.take() {
            for record in records.iter() {
                if record.seq == self.cursor + 1 {
                    self.line(record, piece);
                } else if record.seq > self.cursor {
                    self.is_behind = true;
                }
            }
            self.touch(view.share.id, Some(view));
            if self.is_behind || piece.len() >= PIECE_BYTES || self.touched.len() >= MAX_TOUCHED {
                return;
            }
            match self.changes.try_recv() {
                Ok(next) => change = Some(next),
                Err(TryRecvError::Lagged(_)) => (self.has_missed, self.is_behind) = (true, true),
                Err(TryRecvError::Empty | TryRecvError::Closed) => {}
            }
        }
    }

    fn line(&mut self, record: &Record, piece: &mut String) {
        self.cursor = record.seq;
        *piece += &event("log", Some(record.seq), &record_json(record).to_string());
    }

    fn touch(&mut self, share: ShareId, view: Option<Arc<View>>) {
        if self.has_missed {
            return;
        }
        let earlier = self.touched.iter().position(|touched| touched.share == share).and_then(|at| self.touched.remove(at));
        self.touched.push_back(Touched { share, view: view.or(earlier.and_then(|earlier| earlier.view)) });
        self.has_missed = self.touched.len() > MAX_TOUCHED;
    }

    /// Tells of a share as it stands, so that what waited in line does not seem to go back.
    async fn tell(&mut self, touched: Touched, piece: &mut String) -> Result<(), StoreError> {
        let view = match (self.side.controller.living_view(touched.share), touched.view) {
            (Some(view), _) => Some(view),
            (None, Some(view)) if view.share.is_closed() => Some(view),
            // It has closed since, and that is told behind this.
            (None, Some(_)) => None,
            (None, None) => self.side.controller.show(touched.share).await?,
        };
        // A self-test is no share of an owner's; its lines are enough.
        if let Some(view) = view.filter(|view| !view.share.file.is_self_test()) {
            *piece += &event("share", None, &self.share_json(&view));
        }
        Ok(())
    }

    fn share_json(&self, view: &View) -> String {
        serde_json::to_string(&ShareJson::new(view, self.side.clock.now(), &self.caller)).expect("a share is plain JSON")
    }

    async fn input(&mut self) -> Input {
        tokio::select! {
            change = self.changes.recv() => match change {
                Ok(change) => Input::Changed(change),
                Err(RecvError::Lagged(_)) => Input::FellBehind,
                Err(RecvError::Closed) => Input::Over,
            },
            () = sleep_until(self.beats_at.min(self.ends_at)) => Input::Beat,
            () = self.draining.0.cancelled() => Input::Over,
        }
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.ends_at || self.draining.0.is_cancelled()
    }
}

/// Writes one event. `data` is JSON, which has no line breaks.
fn event(name: &str, id: Option<u64>, data: &str) -> String {
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    format!("event: {name}\n{id}data: {data}\n\n")
}
