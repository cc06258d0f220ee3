//! The original controller's endpoints, kept for its scripts.

use serde_json::{Value, json};

use super::operation::{Operation, delete, get, post};
use super::schema::{flag, list, named, object, one_of, or_null, spelt, text, whole, whole_to};
use super::{ID, ORIGINAL};

pub(super) fn operations() -> Vec<Operation> {
    vec![
        post("/generate-link", "Share a file")
            .of(ORIGINAL)
            .about("Other fields are passed over.")
            .once()
            .takes(link_wish(), json!({ "file_path": "films/holiday.mp4", "expires_in_seconds": 3600 }))
            .answers_json(200, link(), "The link.")
            .problem(400, "It is there, and is no file.")
            .problem(404, "There is no such file.")
            .problem(409, "It is refused as things stand.")
            .problem(422, "The body cannot be taken."),
        get("/api/files", "List every file").of(ORIGINAL).answers_json(200, list(text()), "Their paths, sorted; at most 100 000."),
        get("/download/{token}", "Go to a link")
            .of(ORIGINAL)
            .about("Leads to the public address, and spends nothing.")
            .part("token", text(), "The token of the link.")
            .leads(307, "To the public address.")
            .problem(404, "There is no such link, or it has ended."),
        get("/admin/tunnels", "List the living shares").of(ORIGINAL).answers_json(
            200,
            object([("count", whole(0), ""), ("active_tunnels", list(active_tunnel()), "")]),
            "The shares.",
        ),
        get("/admin/tunnels/{id}/stats", "Show a share")
            .of(ORIGINAL)
            .part("id", spelt(ID), "Which.")
            .answers_json(200, stats(), "The share.")
            .problem(404, "There is no such share."),
        delete("/admin/tunnels/{id}", "Close a share")
            .of(ORIGINAL)
            .part("id", spelt(ID), "Which.")
            .answers_json(200, object([("message", text(), ""), ("tunnel_id", text(), "")]), "It is closed, or closing.")
            .problem(404, "There is no such share.")
            .problem(409, "It is refused as things stand."),
        get("/admin/history", "List the closed shares").of(ORIGINAL).answers_json(
            200,
            object([("count", whole(0), ""), ("tunnel_history", list(named("OriginalTunnel")), "")]),
            "The newest 1000.",
        ),
        get("/admin/monitor/status", "Show the state of the server").of(ORIGINAL).answers_json(200, monitor(), "The state."),
        post("/admin/cleanup", "Clean up")
            .of(ORIGINAL)
            .about("Shares are closed the moment they are due, so there is never anything left to clean.")
            .answers_json(
                200,
                object([("message", text(), ""), ("cleaned_tunnels", whole(0), ""), ("cleaned_tokens", whole(0), "")]),
                "What was cleaned.",
            ),
    ]
}

fn link_wish() -> Value {
    let mut wish = object([
        ("file_path", text(), "Which file."),
        ("expires_in_seconds?", whole(1), "How long the link lives; 3600 where it is not said."),
    ]);
    wish["additionalProperties"] = true.into();
    wish
}

fn link() -> Value {
    object([
        ("download_url", text(), "The link."),
        ("tunnel_id", text(), "The share."),
        ("token", text(), "The link's token."),
        ("file_path", text(), ""),
        ("expires_in_seconds", whole(1), ""),
    ])
}

/// The fields of a tunnel as the original kept them: all of them texts.
const TUNNEL: [&str; 12] = [
    "tunnel_id",
    "token_id",
    "file_path",
    "public_url",
    "internal_url",
    "created_at",
    "expires_at",
    "max_seconds",
    "status",
    "bytes_served",
    "active_connections",
    "last_activity",
];

/// A share as the original told of it.
pub(super) fn tunnel() -> Value {
    let closed = ["destroyed_at", "cleanup_time", "cleanup_reason"];
    let fields = TUNNEL.iter().chain(&closed).map(|name| ((*name).to_owned(), text())).collect::<serde_json::Map<_, _>>();
    json!({ "type": "object", "properties": fields, "required": TUNNEL })
}

fn active_tunnel() -> Value {
    json!({ "allOf": [named("OriginalTunnel"), {
        "type": "object",
        "properties": { "download_stats": download_stats(), "file_size": whole(0), "is_downloading": flag() },
        "required": ["download_stats", "file_size", "is_downloading"],
    }] })
}

fn download_stats() -> Value {
    object([
        ("tunnel_id", text(), ""),
        ("last_activity", or_null(text()), ""),
        ("last_seen", or_null(text()), ""),
        ("bytes_served", whole(0), ""),
        ("active_connections", whole(0), ""),
        ("is_active", flag(), ""),
    ])
}

fn stats() -> Value {
    let progress = object([("bytes_served", whole(0), ""), ("file_size", whole(0), ""), ("percentage", whole_to(0, 100), "")]);
    object([
        ("tunnel_info", named("OriginalTunnel"), ""),
        ("download_stats", download_stats(), ""),
        ("file_size", whole(0), ""),
        ("download_progress", progress, ""),
    ])
}

fn monitor() -> Value {
    object([
        ("monitor_active", flag(), ""),
        ("active_downloads", whole(0), ""),
        ("active_tunnels_count", whole(0), ""),
        ("funnel_active", flag(), ""),
        ("stall_timeout_seconds", whole(1), ""),
        ("max_tunnel_seconds", whole(1), ""),
        ("redis_connected", flag(), ""),
        ("redis_memory_usage", one_of(&["embedded", "redis"]), ""),
        ("uptime", whole(0), "In seconds."),
    ])
}
