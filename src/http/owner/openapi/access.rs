//! Who comes in: sign-in, sessions, tokens.

use serde_json::{Value, json};

use super::ACCESS;
use super::operation::{Operation, delete, get, post};
use super::schema::{object, one_of, spelt, text, text_of, whole};
use crate::store::MAX_PAGE;

pub(super) fn operations() -> Vec<Operation> {
    vec![
        get("/", "Show the owner's page")
            .of(ACCESS)
            .about("The page for people. With `?token=` it signs the browser in: that is what the link does that is printed at the start.")
            .query("token", text(), "A sign-in code, or the owner's token.")
            .answers_with(200, "text/html", text(), "The page.")
            .answers_with(401, "text/html", text(), "The sign-in page; a problem where a token was sent that is wrong.")
            .leads(303, "Signed in, or to the sign-in page.")
            .problem(429, "Too many wrong tries from this address; wait a moment.")
            .problem(503, "The store cannot be written at the moment."),
        get("/sign-in", "Show the sign-in page").of(ACCESS).answers_with(200, "text/html", text(), "The page."),
        post("/sign-in", "Sign a browser in")
            .of(ACCESS)
            .about("What the form of the sign-in page sends. The answer sets a cookie. Wrong tries are limited by address.")
            .takes_form(object([("token", text_of(1, 1024), "The owner's token, or a sign-in code.")]))
            .leads(303, "Signed in; or, for browsers, back to the sign-in page.")
            .problem(401, "It is wrong (`wrong_token`).")
            .problem(422, "The field `token` is missing.")
            .problem(429, "Too many wrong tries from this address; wait a moment.")
            .problem(503, "The store cannot be written at the moment."),
        get("/api/v1/session", "Show who you are and what the server offers").of(ACCESS).answers_json(
            200,
            session(),
            "What a page or a script needs to know.",
        ),
        delete("/api/v1/session", "Sign this browser out").of(ACCESS).answers_empty(204, "Signed out."),
        post("/api/v1/session/link", "Make a link that signs a browser in")
            .of(ACCESS)
            .about("It signs one browser after another in, until the server is restarted or many others were made.")
            .answers_json(200, object([("url", text(), "Keep it secret.")]), "The link."),
        get("/api/v1/sessions", "List the signed-in browsers").of(ACCESS).answers(
            200,
            "Sessions",
            "The browsers, the one that was seen last first.",
        ),
        delete("/api/v1/sessions", "Sign every other browser out").of(ACCESS).answers(200, "SignedOut", "How many that were."),
        delete("/api/v1/sessions/{id}", "Sign a browser out")
            .of(ACCESS)
            .part("id", spelt("^[0-9a-f]{16}$"), "Which.")
            .answers_empty(204, "Signed out.")
            .problem(404, "There is no such browser (`unknown_session`)."),
        post("/api/v1/tokens", "Make an API token")
            .of(ACCESS)
            .about(
                "For a script, with what it may do and no more. The secret is shown this once; with an `Idempotency-Key` a \
                    second request is refused, since it cannot be shown again.",
            )
            .once()
            .takes(
                object([
                    ("name", text_of(1, 100), "What it is for. At most 100 bytes."),
                    ("scope", one_of(&["read", "share", "admin"]), "What it may do."),
                    ("expires_in_seconds?", whole(1), "For how long; until it is revoked where that is not said."),
                ]),
                json!({ "name": "backup script", "scope": "read" }),
            )
            .answers(201, "NewToken", "The token, with its secret.")
            .problem(409, "The `Idempotency-Key` made one already (`already_made`), or there are too many tokens (`too_many`).")
            .problem(422, "A field is wrong, or the `Idempotency-Key` was used for another request."),
        get("/api/v1/tokens", "List the API tokens").of(ACCESS).answers(200, "Tokens", "The tokens, without their secrets."),
        delete("/api/v1/tokens/{id}", "Revoke an API token")
            .of(ACCESS)
            .about("It stops working at once.")
            .part("id", spelt("^[0-9a-z]{1,32}$"), "Which.")
            .answers(200, "Token", "The token, as it was.")
            .problem(404, "There is no such token (`unknown_token`)."),
        get("/api/v1/audit", "Read what owners did")
            .of(ACCESS)
            .about("One line for each action, with who and from where, newest first. A line is on disk before its action happens.")
            .pages(100, MAX_PAGE)
            .answers(200, "Audit", "A page of lines.")
            .problem(422, "The cursor or the limit cannot be taken (`bad_query`)."),
        get("/api/v1/audit/verify", "Verify what owners did")
            .of(ACCESS)
            .about("Each line's hash covers the line before it: one that was changed, removed or moved is found.")
            .answers(200, "AuditVerdict", "Whether the chain is whole."),
    ]
}

fn session() -> Value {
    let defaults = object([("expires_in_seconds", whole(1), ""), ("max_downloads", json!({ "type": ["integer", "null"] }), "")]);
    object([
        ("auth", one_of(&["token", "none"]), "Whether a credential is asked for."),
        ("scope", one_of(&["read", "share", "admin"]), "What you may do."),
        ("who", text(), "Who you are, as the audit log names you."),
        ("version", text(), "The server's version."),
        ("root", text(), "Which folder can be shared."),
        ("tunnel", text(), "How the way in is opened."),
        ("defaults", defaults, "What a share gets where nothing is said."),
        ("max_tunnel_seconds", whole(1), "The longest that a link may live."),
        ("stall_timeout_seconds", whole(1), "After how long without a byte a transfer counts as stalled."),
        ("grace_period_seconds", whole(0), "For how long the same recipient may fetch again after delivery."),
    ])
}
