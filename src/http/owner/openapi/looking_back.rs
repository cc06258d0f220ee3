//! What happens, and what happened.

use serde_json::{Value, json};

use super::operation::{Operation, get};
use super::schema::{self, list, named, object, one_of, or_null, spelt, text, text_of, time, whole};
use super::{ID, LOOKING_BACK};
use crate::store::MAX_PAGE;

const DAY_OR_TIME: &str = "A day in UTC as `2026-11-01`, or a time as `2026-11-01T18:00:00Z`.";

pub(super) fn operations() -> Vec<Operation> {
    vec![
        get("/api/v1/history", "List the closed shares")
            .of(LOOKING_BACK)
            .about(
                "Newest made first. The filters all apply at once. As `csv` or `jsonl` (a line of JSON for each share) it is all of it in \
                 one download, whatever `cursor` and `limit` say, and without links. In a cell that begins as a formula does a `'` \
                 stands before it.",
            )
            .query("outcome", one_of(&schema::OUTCOMES), "Only those that ended so.")
            .query("query", json!({ "type": "string", "maxLength": 255 }), "Only those whose path holds this text. At most 255 bytes.")
            .query("since", text(), &format!("Only those made then or later. {DAY_OR_TIME}"))
            .query("until", text(), &format!("Only those made before; a day is included. {DAY_OR_TIME}"))
            .query("format", one_of(&["json", "csv", "jsonl"]), "In which form; where it is not said, as `Accept` says: `json`, a page.")
            .pages(100, MAX_PAGE)
            .answers(200, "Shares", "A page of shares.")
            .answers_with(200, "text/csv", text(), "All of it.")
            .answers_with(200, "application/x-ndjson", text(), "All of it.")
            .problem(422, "A filter, the format, the cursor or the limit cannot be taken (`bad_query`)."),
        get("/api/v1/stats", "Count what happened")
            .of(LOOKING_BACK)
            .about("Folds of the event log over days in UTC, both included: the last 30 where nothing is said, and at most 367.")
            .query("from", text(), DAY_OR_TIME)
            .query("to", text(), DAY_OR_TIME)
            .answers(200, "Stats", "The figures. Speeds are good to 5 %; a day without anything is there with zeros.")
            .problem(422, "A day cannot be taken, or there are too many (`bad_query`)."),
        get("/api/v1/events", "Read the event log")
            .of(LOOKING_BACK)
            .about(
                "Every line that the log keeps, oldest first unless `order` says otherwise. A cursor is the number of a line: whoever \
                 asks again with the last `seq` that they have gets what happened since, or with the newest first what happened before.",
            )
            .query(
                "type",
                text_of(0, 64),
                "Only lines of this type, as `share.closed`; with a dot at its end (`share.`), all that begin so.",
            )
            .query("share", spelt(ID), "Only lines about this share.")
            .query("since", text(), "Only lines of this time or later, as `2026-11-01T18:00:00Z`.")
            .query("order", one_of(&["oldest", "newest"]), "Which stand first; `oldest` where nothing is said.")
            .pages(100, MAX_PAGE)
            .answers_json(
                200,
                object([("events", list(named("Event")), ""), ("next_cursor", or_null(text()), "`null`: that was all.")]),
                "A page of lines.",
            )
            .problem(404, "There is no such share (`unknown_share`).")
            .problem(422, "A filter, the cursor or the limit cannot be taken (`bad_query`)."),
        get("/api/v1/events/stream", "Listen to what happens")
            .of(LOOKING_BACK)
            .about(STREAM)
            .header("Last-Event-ID", text(), "The last id that you got; a browser's `EventSource` sends it by itself.")
            .answers_with(200, "text/event-stream", text(), "The events, for as long as you listen; at most 15 minutes, then come back.")
            .problem(
                503,
                "Too many listen at once (`too_many_streams`), or the store cannot be read; `Retry-After` says when to come back.",
            ),
    ]
}

const STREAM: &str = "Server-Sent Events, for `EventSource` or `curl -N`.

- `log`: one line of the event log; its id is the line's `seq`. Every line, in order, each once.
- `share`: a share as it stands, behind the lines that it follows from and at most twice a second while bytes move. It has no id.
- `ready`: the stream stands; its id is where the log stands. Without `Last-Event-ID` it begins here.
- `resync`: shares changed of which no `share` tells; ask for them anew.

After a lost connection or a restart send the last id as `Last-Event-ID`: it goes on with the next line, however many there are. A comment comes every 15 seconds. \
A reader that takes nothing for 30 seconds is cut.";

/// A line of the event log.
pub(super) fn event() -> Value {
    let mut event = object([
        ("seq", whole(1), "Its number: 1, 2, 3, … and never again."),
        ("at", time(), "When it happened."),
        ("share", spelt(ID), "Which share it is about."),
        ("type", json!({ "type": "string", "examples": ["share.created"] }), "What happened."),
    ]);
    // What else a line has goes by its type, and types are added.
    event["additionalProperties"] = true.into();
    event
}
