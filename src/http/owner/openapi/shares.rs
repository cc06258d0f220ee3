//! Shares, their transfers, and the files that can be shared.

use serde_json::{Value, json};

use super::super::files::{DEFAULT_RECENT, MAX_RECENT};
use super::super::shares::MAX_BATCH;
use super::operation::{Operation, delete, get, post};
use super::schema::{self, flag, list_of, named, object, one_of, spelt, text, text_of, time, whole, whole_to};
use super::{FILES, ID, SHARES};
use crate::catalog::{CATEGORIES, MAX_ENTRIES};
use crate::controller::{MAX_MESSAGE_BYTES, MAX_NOTE_BYTES};
use crate::share::{MAX_DOWNLOADS, MAX_NETWORKS, MIN_BYTES_PER_SECOND, UNDO_FOR};
use crate::store::MAX_PAGE;

/// The longest path that a system takes, in bytes; six times that when every letter is escaped.
const MAX_PATH_LETTERS: usize = 4096;
/// How an id of a transfer is spelt.
const TRANSFER: &str = "^[0-9a-f]{32}$";

pub(super) fn operations() -> Vec<Operation> {
    vec![
        get("/api/v1/files", "List a folder, or search")
            .of(FILES)
            .about(
                "A page of a folder, folders first. With `query` it is what is called so anywhere below the top, best first, in \
                 one page: parts of names, and names that are nearly so. With `everywhere` and no `query` it is all that there is, what \
                 changed last first, in one page. The filters all apply at once, to each of the three; `total` counts what passes.",
            )
            .query("path", text(), "Which folder; empty for the top one.")
            .query("query", json!({ "type": "string", "maxLength": 255 }), "What to search for. At most 255 bytes.")
            .query("everywhere", one_of(&["true", "false"]), "Whether what changed last is wanted from everywhere instead of a folder.")
            .query("sort", one_of(&["name", "newest", "largest"]), "In which order a folder is listed: `name` where it is not said.")
            .query("kind", kinds(), "Only these, by what a name says; several with commas between.")
            .query("min_bytes", whole(0), "Only files of so many bytes or more. A folder has no size and passes no filter by size.")
            .query("max_bytes", whole(0), "Only files of so many bytes or less.")
            .query("changed_since", text(), "Only what changed then or later: a day in UTC as `2026-11-01`, or a time as `2026-11-01T18:00:00Z`.")
            .pages(200, MAX_ENTRIES)
            .answers(200, "Files", "The entries.")
            .problem(404, "There is no such folder (`unknown_file`).")
            .problem(422, "A filter, `everywhere`, the path, the sort or the limit cannot be taken, or it is a file."),
        get("/api/v1/files/{*path}", "Show a file or a folder")
            .of(FILES)
            .about("What it is, and for a file its checksum once it is known. Asking has it computed.")
            .part("path", text_of(1, MAX_PATH_LETTERS), "Which. Slashes may stand as they are.")
            .answers_json(200, file(), "What it is.")
            .problem(404, "There is no such file (`unknown_file`).")
            .problem(422, "The path cannot be taken, or the file may not be read."),
        get("/api/v1/recent", "List what is likely wanted")
            .of(FILES)
            .about("Files that were shared before and are still there, and the newest files: what a page shows before anything is searched for.")
            .query("limit", whole(1), &format!("How many of each; {DEFAULT_RECENT} where it is not said, and more than {MAX_RECENT} is cut to that."))
            .answers(200, "Recent", "The files.")
            .problem(422, "The limit cannot be taken (`bad_query`)."),
        post("/api/v1/shares", "Share a file, or several")
            .of(SHARES)
            .about(
                "Makes a share for `path`, or with `paths` one for each of several files; one of the two must be there. The answer \
                 comes when the way in is open, which may take some seconds; `202` says that it is still being opened.",
            )
            .once()
            .takes(wish(), json!({ "path": "films/holiday.mp4", "policy": { "max_downloads": 1, "expires_in_seconds": 3600 } }))
            .answers(201, "Share", "The share: its link works.")
            .answers(202, "Share", "The share: its way in is still being opened, and its state says when it is.")
            .answers(207, "Batch", "What came of each of the `paths`, in their order.")
            .problem(404, "There is no such file (`unknown_file`).")
            .problem(409, "All doors were closed while this waited, so it was not made (`closed_meanwhile`).")
            .problem(
                422,
                "A field is wrong (`bad_field`, `unknown_field`, `bad_policy`, `bad_path`), it is a folder, or the \
                           `Idempotency-Key` was used for another request (`idempotency_key_reused`).",
            ),
        get("/api/v1/shares", "List the shares")
            .of(SHARES)
            .about("Newest first; those that live stand before those that are closed.")
            .query("state", one_of(&list_states()), "Only those in this state; `living` is every state but closed.")
            .query("query", json!({ "type": "string", "maxLength": 255 }), "Only those whose path holds this text. At most 255 bytes.")
            .pages(100, MAX_PAGE)
            .answers(200, "Shares", "A page of shares.")
            .problem(422, "The state, the cursor or the limit cannot be taken (`bad_query`)."),
        delete("/api/v1/shares", "Close all doors")
            .of(SHARES)
            .about(
                "Closes every share that lives. The answer comes when each of them is saved as closing; what is being sent is cut within a \
                 second. What was asked for before and would open one still opens nothing any more. Doing it twice is fine.",
            )
            .answers_json(200, object([("closing", whole(0), "How many this closed.")]), "All are closing or closed."),
        get("/api/v1/shares/{id}", "Show a share")
            .of(SHARES)
            .part("id", spelt(ID), "Which.")
            .answers(200, "Share", "The share.")
            .problem(404, "There is no such share (`unknown_share`)."),
        delete("/api/v1/shares/{id}", "Close a share")
            .of(SHARES)
            .about("Its link stops working at once and what is being sent is cut within a second. Doing it twice is fine.")
            .part("id", spelt(ID), "Which.")
            .answers(200, "Share", "The share, closing or closed.")
            .problem(404, "There is no such share (`unknown_share`).")
            .problem(409, "It is refused as things stand."),
        post("/api/v1/shares/{id}/extend", "Let a link live longer")
            .of(SHARES)
            .part("id", spelt(ID), "Which.")
            .once()
            .takes(
                object([("expires_in_seconds", whole(1), "For how long, counted from now; cut to what the operator allows.")]),
                json!({ "expires_in_seconds": 3600 }),
            )
            .answers(200, "Share", "The share.")
            .problem(404, "There is no such share (`unknown_share`).")
            .problem(409, "It is closed (`refused`).")
            .problem(422, "A field is wrong, or the `Idempotency-Key` was used for another request."),
        post("/api/v1/shares/{id}/reopen", "Offer a closed share once more")
            .of(SHARES)
            .about(format!(
                "The same file by the same rules, under a new link. The old link stays dead. With `undo` as if it had not been closed: the \
                 same link works again until its same end, with the same uses left. That is possible for {} seconds after its owner closed \
                 it, and only if nobody had begun to download it.",
                UNDO_FOR.as_secs()
            ))
            .part("id", spelt(ID), "Which.")
            .once()
            .may_take(object([("undo?", schema::or_null(flag()), "Whether to take the close back instead of making a new link.")]))
            .answers(200, "Share", "The share, with its link.")
            .problem(404, "There is no such share (`unknown_share`), or its file is gone.")
            .problem(
                409,
                "It is not closed (`refused`), or its close cannot be taken back: too late, or not closed by its owner \
                 (`undo_too_late`), or a download had begun (`undo_after_bytes`). Or it was closed \
                 once more, or opened by somebody else, while this waited (`closed_meanwhile`).",
            )
            .problem(422, "A field is wrong, the file cannot be shared any more, or the `Idempotency-Key` was used for another request."),
        get("/api/v1/shares/{id}/qr.svg", "Show the link as a QR code")
            .of(SHARES)
            .part("id", spelt(ID), "Which.")
            .answers_with(200, "image/svg+xml", text(), "The link, for the camera of a phone.")
            .problem(404, "There is no such share (`unknown_share`).")
            .problem(409, "It is closed and has no link (`no_link`), or the link is too long (`link_too_long`)."),
        get("/api/v1/shares/{id}/transfers", "List who took it")
            .of(SHARES)
            .about("Each exercise of the link, in one page: a share has a bounded number of them.")
            .part("id", spelt(ID), "Which share.")
            .answers_json(200, transfers(), "The transfers, oldest first.")
            .problem(404, "There is no such share (`unknown_share`)."),
        delete("/api/v1/shares/{id}/transfers/{transfer}", "Stop a transfer")
            .of(SHARES)
            .about("Cuts it; the link's other uses are left. Doing it twice is fine.")
            .part("id", spelt(ID), "Which share.")
            .part("transfer", spelt(TRANSFER), "Which transfer.")
            .answers_json(200, transfers(), "The transfers as they stand then.")
            .problem(404, "There is no such share or transfer (`unknown_share`, `unknown_transfer`).")
            .problem(409, "It is refused as things stand."),
    ]
}

/// One kind of entries or several.
fn kinds() -> Value {
    let names: Vec<&str> = CATEGORIES.iter().map(|(_, name)| *name).collect();
    let name = format!("({})", names.join("|"));
    spelt(&format!("^{name}(,{name})*$"))
}

fn list_states() -> Vec<Value> {
    [json!("living")].into_iter().chain(schema::STATES.map(|state| json!(state.as_str()))).collect()
}

fn wish() -> Value {
    let networks = list_of(text(), 0, MAX_NETWORKS);
    let policy = object([
        ("max_downloads?", whole_to(1, u64::from(MAX_DOWNLOADS)), "How many downloads; 1 where it is not said."),
        ("unlimited_downloads?", schema::or_null(flag()), "As many as want it, until expiry. Excludes `max_downloads`."),
        ("expires_in_seconds?", whole(1), "How long the link lives, from now or from `starts_at`; cut to what the operator allows."),
        ("starts_at?", schema::or_null(time()), "From when on the link works."),
        (
            "on_stall?",
            schema::or_null(one_of(&["close", "reopen"])),
            "What a transfer that stalls does: it closes the share (so \
          where it is not said), or gives its use back.",
        ),
        ("allowed_networks?", schema::or_null(networks), "From which addresses or networks the link may be used, as `203.0.113.0/24`."),
        ("max_bytes_per_second?", whole(MIN_BYTES_PER_SECOND), "How fast each transfer may be."),
    ]);
    object([
        ("path?", schema::or_null(text()), "Which file, as the list of files names it. Excludes `paths`."),
        (
            "paths?",
            schema::or_null(list_of(text(), 0, MAX_BATCH)),
            "Which files: each becomes a share of its own. An empty list counts as left out.",
        ),
        ("policy?", schema::or_null(policy), "By which rules. All have a default."),
        ("note?", schema::or_null(json!({ "type": "string", "maxLength": MAX_NOTE_BYTES })), "For the owner's eyes. At most 2000 bytes."),
        (
            "message?",
            schema::or_null(json!({ "type": "string", "maxLength": MAX_MESSAGE_BYTES })),
            "Shown to the recipient on the link's page. At most 1000 bytes.",
        ),
    ])
}

fn transfers() -> Value {
    object([("transfers", schema::list(named("Transfer")), "")])
}

fn file() -> Value {
    json!({
        "description": "As in a list; for a file also `sha256_state` and `sha256`.",
        "allOf": [named("Entry"), { "type": "object", "properties": {
            "sha256_state": { "type": "string", "enum": ["known", "computing"], "description": "Whether the checksum is known." },
            "sha256": { "type": ["string", "null"], "description": "In hexadecimal digits; `null` while it is computed." },
        } }],
    })
}
