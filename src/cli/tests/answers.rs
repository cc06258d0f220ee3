//! What the server answers besides shares.

use serde_json::{Value, json};

pub(super) const HASH: &str = "ab54d286474ab54d286474ab54d286474ab54d286474ab54d286474ab54d2864";

/// Returns the answer to a request, where there is one.
pub(super) fn answer(line: &str) -> Option<(u16, Value)> {
    let json = match line {
        "GET /api/v1/shares/abcdefghjk/transfers" => json!({ "transfers": [
            { "id": "0f", "state": "completed", "agent": "curl/8.5\u{1b}[2J", "address": "203.0.113.7", "delivered_bytes": 1_949_000_000_u64, "percent": 100,
              "bytes_per_second": 0, "redeemed_at": "2026-01-01T00:00:01Z", "ended_at": "2026-01-01T00:03:00Z", "given_back": false },
            { "id": "10", "state": "cut", "agent": "", "address": null, "delivered_bytes": 0, "percent": 0,
              "bytes_per_second": 0, "redeemed_at": "2026-01-01T00:00:01Z", "ended_at": "2026-01-01T00:03:00Z", "given_back": true },
        ] }),
        "GET /api/v1/files?query=holi%20day&limit=200" => json!({ "path": "", "entries": [
            { "path": "film", "name": "film", "kind": "folder", "size_bytes": 0, "modified": "2026-01-01T00:00:00Z" },
            { "path": "film/holi\u{1b}day.mp4", "name": "x", "kind": "file", "size_bytes": 5000, "modified": "2026-01-02T03:04:05Z" },
        ], "next_cursor": null, "total": 2 }),
        "GET /api/v1/files?path=film&limit=2" => json!({ "entries": [
            { "path": "film/a", "name": "a", "kind": "file", "size_bytes": 1, "modified": "2026-01-01T00:00:00Z" },
        ], "next_cursor": "c" }),
        "GET /api/v1/files?path=film&cursor=c&limit=1" => json!({ "entries": [
            { "path": "film/b", "name": "b", "kind": "file", "size_bytes": 1, "modified": "2026-01-01T00:00:00Z" },
        ], "next_cursor": "d" }),
        "POST /api/v1/tokens" => {
            json!({ "id": "4k2m9xq7ab", "name": "backup", "scope": "read", "token": "pct_5e", "created_at": "2026-01-01T00:00:00Z",
                                         "expires_at": "2026-04-01T00:00:00Z", "last_used_at": null })
        }
        "GET /api/v1/tokens" => json!({ "tokens": [
            { "id": "4k2m9xq7ab", "name": "back\u{1b}up", "scope": "read", "created_at": "2026-01-01T00:00:00Z", "expires_at": null, "last_used_at": null },
        ] }),
        "DELETE /api/v1/tokens/4k2m9xq7ab" => json!({ "id": "4k2m9xq7ab" }),
        "GET /api/v1/sessions" => json!({ "sessions": [
            { "id": "3f9a0c41d2b85e77", "created_at": "2026-01-01T00:00:00Z", "last_seen_at": "2026-01-02T00:00:00Z",
              "expires_at": "2026-02-01T00:00:00Z", "address": null, "agent": "Firefox", "is_current": true },
        ] }),
        "DELETE /api/v1/sessions/3f9a0c41d2b85e77" => Value::Null,
        "DELETE /api/v1/sessions" => json!({ "signed_out": 3 }),
        "GET /api/v1/audit?limit=50" | "GET /api/v1/audit?cursor=3&limit=1" => json!({ "lines": [
            { "seq": 2, "at": "2026-01-01T00:00:00Z", "who": "owner token", "from": "192.168.1.2", "action": "share.create", "target": "abcdefghjk",
              "detail": "film/holi\u{1b}day.mp4", "hash": HASH },
        ], "next_cursor": null }),
        "GET /api/v1/audit/verify" => {
            json!({ "is_intact": true, "lines": 5, "first_seq": 1, "head": { "seq": 5, "hash": HASH }, "broken": null })
        }
        "POST /api/v1/shares/abcdefghjk/extend" | "POST /api/v1/shares/abcdefghjk/reopen" => super::share("offered", "Ready.", None),
        "GET /api/v1/history?limit=50" => json!({ "shares": [closed()], "next_cursor": null }),
        line if line.starts_with("GET /api/v1/history?outcome=") && line.ends_with("&limit=2") => {
            json!({ "shares": [closed(), closed()], "next_cursor": "c" })
        }
        "GET /api/v1/stats?from=2026%2D11%2D01&to=2026%2D11%2D02" => json!({
            "from": "2026-11-01", "to": "2026-11-02",
            "shares": { "made": 2, "closed": 1, "outcomes": { "completed": 1 }, "success_percent": 100 },
            "transfers": { "redeemed": 1, "completed": 1, "given_back": 0, "delivered_bytes": 5000, "median_bytes_per_second": 5000, "p95_bytes_per_second": null },
            "days": [{ "day": "2026-11-01", "made": 2, "completed": 1, "delivered_bytes": 5000 }, { "day": "2026-11-02", "made": 0, "completed": 0, "delivered_bytes": 0 }],
            "top_files": [], "networks": [],
        }),
        _ => return None,
    };
    Some((if json.is_null() { 204 } else { 200 }, json))
}

fn closed() -> Value {
    let mut share = super::share("closed", "Stopped.", Some("stalled"));
    share["closed_at"] = json!("2026-01-01T00:10:00Z");
    share
}
