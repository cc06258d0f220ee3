//! Whether all is well, and what describes the API.

use serde_json::{Value, json};

use super::OPERATING;
use super::operation::{Operation, get, post};
use super::schema::{flag, list_of, object, one_of, or_null, text, whole};

pub(super) fn operations() -> Vec<Operation> {
    vec![
        health("/health"),
        health("/healthz"),
        get("/livez", "Ask whether the process answers")
            .of(OPERATING)
            .about("Looks at nothing else: for what restarts a program that hangs.")
            .answers_json(200, object([("status", one_of(&["alive"]), "")]), "It does."),
        get("/metrics", "Read figures for Prometheus")
            .of(OPERATING)
            .about("Counts and times, each with a line that says what it is. Nothing is told of one share or one file.")
            .answers_with(200, "text/plain", text(), "The figures.")
            .answers_with(200, "application/openmetrics-text", text(), "The figures."),
        get("/api/v1/settings", "Read the settings as they hold")
            .of(OPERATING)
            .about("Every setting, what holds in the running server and who said so. A secret is never told, only whether it is set.")
            .answers(200, "Settings", "The settings."),
        get("/api/v1/check", "Look at what the server leans on")
            .of(OPERATING)
            .about(
                "Folders, store, clock, certificate, the way in: each with what to do about it where it is not as it should be. One look at a time, \
                 and none within five seconds of another: whoever asks then gets the same answer.",
            )
            .answers(200, "CheckAnswer", "What was found."),
        post("/api/v1/self-test", "Try the whole way of a share")
            .of(OPERATING)
            .about(
                "Opens a real share of one byte, fetches it as a recipient would, closes it, and looks that nothing of it answers any more. It lives for a \
                 minute at the most and is in no list. A step that fails is in the answer, and the steps behind it are left out; what was opened is closed all \
                 the same. Takes half a minute at the most.",
            )
            .may_take(json!({ "type": "object", "additionalProperties": false }))
            .answers_json(200, verdict(), "What came of it.")
            .problem(409, "A self-test runs already (`self_test_running`)."),
        get("/openapi.json", "Read this description").of(OPERATING).answers_json(
            200,
            json!({ "type": "object" }),
            "The API as OpenAPI 3.1.",
        ),
        get("/api/docs", "Read this description as a page").of(OPERATING).answers_with(200, "text/html", text(), "The page."),
        get("/assets/{*path}", "Fetch a file of the owner's page")
            .of(OPERATING)
            .part("path", text(), "Which, as `shared/icon.svg`.")
            .header("If-None-Match", text(), "The ETag of what you have.")
            .answers_with(200, "*/*", json!({}), "The file.")
            .answers_empty(304, "You have it.")
            .problem(404, "There is no such file."),
    ]
}

fn health(path: &'static str) -> Operation {
    get(path, "Ask whether it can do its work")
        .of(OPERATING)
        .about("What is checked, and why something is not well, is told with a credential only.")
        .answers(200, "Health", "It can.")
        .answers(503, "Health", "It cannot: the store or the files cannot be had.")
}

/// What a self-test says.
fn verdict() -> Value {
    let step = object([
        ("name", one_of(&["made", "opened", "page", "redeemed", "fetched", "counted", "closed", "refused"]), "Which."),
        ("duration_ms", whole(0), "How long it took."),
        ("ok", flag(), "Whether it was taken."),
        ("problem", or_null(text()), "Why not, and what to do about it, as a sentence."),
    ]);
    object([
        ("passed", flag(), "Whether each step was taken."),
        ("by", one_of(&["public", "local"]), "By the public name, or where this machine does not get there to its own listener."),
        ("evidence", or_null(one_of(&["handed_over", "acknowledged", "confirmed"])), "How sure it is that the byte arrived."),
        ("note", or_null(text()), "What was not tried, and why, as sentences."),
        ("steps", list_of(step, 0, 8), "Those that were taken, in order."),
    ])
}

/// What the health check says.
pub(super) fn health_schema() -> Value {
    let check = || {
        object([
            ("status", one_of(&["ok", "warning", "failing", "not_used"]), "`failing` of the store or the files makes the answer 503."),
            ("reason", text(), "Why, as a sentence."),
        ])
    };
    let checks = object([
        ("store?", check(), "Whether it can be written."),
        ("files?", check(), "Whether the folder is there and answers."),
        ("index?", check(), "How old what the search knows is."),
        ("tunnel?", check(), "Whether the ways in stand."),
        ("disk?", check(), "How much room the state folder has."),
        ("controllers?", check(), "Who shares the store, who of them is not heard, and whether their clocks agree."),
        ("log?", check(), "How far the reading of nginx's log is behind."),
    ]);
    object([
        ("status", one_of(&["healthy", "unhealthy"]), ""),
        (
            "redis",
            one_of(&["connected", "embedded", "disconnected"]),
            "Where state is kept, in the word that the original's scripts look for.",
        ),
        ("version", text(), "The server's version; empty for strangers."),
        ("checks", checks, "What was checked, by name; empty for strangers."),
    ])
}
