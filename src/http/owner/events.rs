//! The event log, page by page.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::OwnerSide;
use super::query::{bad, given, limit, share_id, time as time_of};
use super::wire::time;
use crate::http::problem::Problem;
use crate::share::{Fact, Timestamp};
use crate::store::{EventQuery, MAX_PAGE, Record};

/// How many lines a page has where it is not said.
const DEFAULT_EVENTS: usize = 100;
/// The longest type that is asked for; ours have about 20 letters.
const MAX_KIND_BYTES: usize = 64;

#[derive(Debug, Deserialize)]
pub(super) struct Params {
    #[serde(rename = "type")]
    kind: Option<String>,
    share: Option<String>,
    since: Option<String>,
    order: Option<String>,
    cursor: Option<String>,
    limit: Option<String>,
}

/// Answers `GET /api/v1/events`, oldest first unless `order` is `newest`. A cursor is the number of a line: whoever asks again
/// with the last one they have gets what happened since, or with the newest first what happened before.
pub(super) async fn list(State(side): State<Arc<OwnerSide>>, Query(params): Query<Params>) -> Result<Json<Value>, Problem> {
    let cursor: Option<u64> = match given(&params.cursor) {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| bad("cursor must be the next_cursor of the page before."))?),
    };
    let newest_first = match given(&params.order) {
        None | Some("oldest") => false,
        Some("newest") => true,
        Some(_) => return Err(bad("order must be oldest or newest.")),
    };
    let (after, before) = if newest_first { (0, cursor) } else { (cursor.unwrap_or(0), None) };
    if given(&params.kind).is_some_and(|kind| kind.len() > MAX_KIND_BYTES) {
        return Err(bad(format!("type is too long: at most {MAX_KIND_BYTES} bytes.")));
    }
    let limit = limit(params.limit.as_deref(), DEFAULT_EVENTS, MAX_PAGE)?;
    let query = EventQuery {
        after,
        before,
        newest_first,
        share: given(&params.share).map(share_id).transpose()?,
        kind: given(&params.kind).map(str::to_owned),
        since: given(&params.since).map(|text| time_of("since", text)).transpose()?,
        limit,
    };
    let records = side.store.events(query).await?;
    let next_cursor = records.last().filter(|_| records.len() == limit).map(|record| record.seq.to_string());
    let events: Vec<Value> = records.iter().map(record_json).collect();
    Ok(Json(json!({ "events": events, "next_cursor": next_cursor })))
}

/// Writes a line of the log with its times as people read them; the store keeps them as milliseconds.
pub(super) fn record_json(record: &Record) -> Value {
    let mut json = serde_json::to_value(record).expect("a line of the log is plain JSON");
    json["at"] = json!(time(record.at));
    if let Fact::Extended { expires_at: Timestamp(at) } = record.fact {
        json["expires_at"] = json!(time(Timestamp(at)));
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::share::ShareId;

    #[test]
    fn a_line_has_its_times_in_words() {
        let fact = Fact::Extended { expires_at: Timestamp(60_000) };
        let record = Record { seq: 3, at: Timestamp(0), share: ShareId::from_random(0), fact };
        assert_eq!(
            record_json(&record),
            json!({ "seq": 3, "at": "1970-01-01T00:00:00Z", "share": "0000000000", "type": "share.extended",
                    "expires_at": "1970-01-01T00:01:00Z" })
        );
    }
}
