//! A transfer's own progress as Server-Sent Events, for whoever holds its URL: `progress` whenever something changed, at
//! most twice a second, until it is over, with what a page says of it in the reader's language. The pages work without it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::mine::{self, Told};
use super::pages::Reader;
use super::{RecipientPages, page, silence, with_headers};
use crate::controller::View;
use crate::delivery::{Live, Streamed};
use crate::http::words;
use crate::share::{ShareId, Transfer, TransferEnd, TransferId};

/// How many of these streams run at once over all shares; each holds a connection, and looks twice a second.
const MAX_STREAMS: usize = 256;
/// How many of one transfer: a recipient has a browser and perhaps a phone beside it.
const MAX_STREAMS_OF_TRANSFER: usize = 4;
/// How often a stream looks, and so how often it tells at most.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often a quiet stream says that it lives: proxies cut connections that are silent for a minute or less.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long one stream lasts; whoever still wants it asks again.
const LIFETIME: Duration = Duration::from_secs(15 * 60);

/// Counts the streams that run.
#[derive(Clone)]
pub(super) struct Streams {
    all: Arc<Semaphore>,
    of_transfer: Arc<Mutex<HashMap<TransferId, usize>>>,
}

impl Streams {
    pub(super) fn new() -> Self {
        Self { all: Arc::new(Semaphore::new(MAX_STREAMS)), of_transfer: Arc::default() }
    }

    /// Returns a place for one more, where there is one.
    fn enter(&self, transfer: TransferId) -> Option<Place> {
        let permit = self.all.clone().try_acquire_owned().ok()?;
        let mut of_transfer = self.of_transfer.lock().expect("nobody panics while counting");
        let here = of_transfer.entry(transfer).or_default();
        if *here >= MAX_STREAMS_OF_TRANSFER {
            return None;
        }
        *here += 1;
        drop(of_transfer);
        Some(Place { streams: self.clone(), transfer, _permit: permit })
    }
}

/// A stream's place, until it is dropped.
struct Place {
    streams: Streams,
    transfer: TransferId,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut of_transfer = self.streams.of_transfer.lock().expect("nobody panics while counting");
        match of_transfer.get_mut(&self.transfer) {
            Some(here) if *here > 1 => *here -= 1,
            Some(_) | None => drop(of_transfer.remove(&self.transfer)),
        }
    }
}

/// Answers `GET /{share}/live/{transfer}`. The connection's loop knows the transfer by its secret; without that there is
/// nothing here.
pub(super) async fn live(
    State(pages): State<RecipientPages>,
    Extension(streams): Extension<Streams>,
    live: Option<Extension<Live>>,
    headers: HeaderMap,
) -> Response {
    let reader = Reader::of(&headers);
    let Some(Extension(Live(share, transfer))) = live else { return silence().await };
    match pages.controller.show(share).await {
        Ok(Some(view)) if view.share.transfer(transfer).is_some() => {}
        Ok(_) => return page(reader.gone()),
        Err(_) => return page(reader.a_moment()),
    }
    let Some(place) = streams.enter(transfer) else {
        let wait = [(header::RETRY_AFTER, HeaderValue::from_static("15"))];
        return with_headers((StatusCode::SERVICE_UNAVAILABLE, wait, "Too many watch this download at once.\n").into_response());
    };
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let now = Instant::now();
    let follow = Follow { pages, reader, share, transfer, looks, said: None, said_at: now, ends: now + LIFETIME, _place: place };
    let body = Body::from_stream(futures_util::stream::unfold(Some(follow), |follow| async move {
        let (text, follow) = follow?.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(text)), follow))
    }));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        // nginx would hold events back.
        (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    let mut response = with_headers((headers, body).into_response());
    response.extensions_mut().insert(Streamed);
    response
}

/// One stream.
struct Follow {
    pages: RecipientPages,
    reader: Reader,
    share: ShareId,
    transfer: TransferId,
    looks: Interval,
    /// What was said last, and when anything was.
    said: Option<String>,
    said_at: Instant,
    ends: Instant,
    _place: Place,
}

impl Follow {
    /// Waits for what is to be said next. The stream itself does not come back where that was the last.
    async fn next(mut self) -> Option<(String, Option<Self>)> {
        loop {
            let now = self.looks.tick().await;
            if now >= self.ends {
                return None;
            }
            let view = self.pages.controller.show(self.share).await.ok()??;
            // A share that was opened again, or has counted it among the others, knows nothing of it.
            let transfer = view.share.transfer(self.transfer)?;
            let event = progress(self.reader, &view, transfer);
            let is_over = transfer.ended.is_some();
            if self.said.as_ref() != Some(&event) {
                (self.said, self.said_at) = (Some(event.clone()), now);
                return Some((event, (!is_over).then_some(self)));
            }
            if is_over {
                return None;
            }
            if now.duration_since(self.said_at) >= HEARTBEAT {
                self.said_at = now;
                return Some((":\n\n".to_owned(), Some(self)));
            }
        }
    }
}

fn progress(reader: Reader, view: &View, transfer: &Transfer) -> String {
    let size_bytes = view.share.file.size_bytes();
    let Told { title, text } = mine::told(reader, view, transfer);
    // For the owner it spent nothing; whoever waits for it is to know that the door closed, and that waiting is no use.
    let never_began = matches!(transfer.ended, Some((TransferEnd::NeverBegan, _)));
    let state = if never_began && view.share.outcome().is_some() { "cut" } else { words::transfer_state(transfer) };
    let data = json!({
        "state": state,
        "title": title,
        "text": text,
        "delivered_bytes": transfer.coverage.covered_bytes(),
        "size_bytes": size_bytes,
        "percent": transfer.percent(size_bytes),
        "evidence": transfer.coverage.weakest_evidence(),
        "bytes_per_second": mine::speed(view, transfer),
        "eta_seconds": mine::eta_seconds(view, transfer),
    });
    format!("event: progress\ndata: {data}\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transfer(n: u128) -> TransferId {
        TransferId::from_bytes(n.to_be_bytes())
    }

    #[test]
    fn a_transfer_has_few_streams_and_all_together_have_a_bound() {
        let streams = Streams::new();
        let mut places: Vec<Place> = (0..4).map(|_| streams.enter(transfer(0)).unwrap()).collect();
        assert!(streams.enter(transfer(0)).is_none());
        places.pop();
        places.push(streams.enter(transfer(0)).unwrap());
        places.extend((4..MAX_STREAMS).map(|n| streams.enter(transfer(n as u128)).unwrap()));
        assert!(streams.enter(transfer(9999)).is_none());
        // Whoever was refused left nothing behind.
        assert_eq!(streams.of_transfer.lock().unwrap().values().sum::<usize>(), MAX_STREAMS);
        drop(places);
        assert!(streams.of_transfer.lock().unwrap().is_empty());
        assert_eq!(streams.all.available_permits(), MAX_STREAMS);
    }
}
