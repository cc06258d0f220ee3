//! A bad body is answered with a sentence, makes nothing, and is never the server's own failure.

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Server, Setup, put};

/// The most that a body may hold before it is refused whatever it says.
const HUGE: usize = 10 * 1024 * 1024;

fn post(server: &Server, path: &str, content_type: &str, body: &[u8]) -> Answer {
    let authorization = format!("Authorization: Bearer {}", server.token);
    let content_type = format!("Content-Type: {content_type}");
    let headers = [authorization.as_str(), content_type.as_str(), "Connection: close"];
    let answer = Client::connect(server.owner).request_with("POST", path, &headers, body);
    answer.unwrap_or_else(|| panic!("no answer to {}", String::from_utf8_lossy(&body[..body.len().min(200)])))
}

fn check_refused(answer: &Answer, what: &str) {
    assert!((400..500).contains(&answer.status), "{what}: {}\n{}", answer.head_text(), answer.text());
    let problem = answer.json();
    let detail = problem["detail"].as_str().unwrap_or_else(|| panic!("{what}: no sentence in {problem}"));
    assert!(detail.len() > 10 && detail.contains(' '), "{what}: {detail:?} is no sentence");
    assert!(detail.chars().count() < 500, "{what}: the answer throws it all back");
    for inner in ["panicked", "src/", "serde", "Error {", "stack backtrace"] {
        assert!(!detail.contains(inner), "{what}: {detail:?} tells of the inside");
    }
}

fn check_nothing_made(server: &Server) {
    for state in ["living", "closed"] {
        let list = server.api("GET", &format!("/api/v1/shares?state={state}"), None).expect_status(200).json();
        assert_eq!(list["shares"], json!([]), "nothing was made");
    }
}

/// Texts that are no good body for any endpoint.
fn broken() -> Vec<(String, Vec<u8>)> {
    let deep = |open: &str, close: &str| [open.repeat(100_000), close.repeat(100_000)].concat().into_bytes();
    let mut all: Vec<(String, Vec<u8>)> = vec![
        ("nothing".into(), vec![]),
        ("100 000 arrays".into(), deep("[", "]")),
        ("100 000 open arrays".into(), deep("[", "")),
        ("100 000 objects".into(), deep("{\"path\":", "}")),
        ("no UTF-8".into(), b"{\"path\":\"\xff\xfe\"}".to_vec()),
        ("UTF-16".into(), "{\"path\":\"a\"}".encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("NUL bytes".into(), vec![0; 100]),
        ("ten megabytes".into(), [b"{\"path\":\"".to_vec(), vec![b'a'; HUGE], b"\"}".to_vec()].concat()),
    ];
    for text in [
        " ",
        "null",
        "true",
        "0",
        "1e999",
        "\"film.mkv\"",
        "[]",
        "[{\"path\":\"film.mkv\"}]",
        "{",
        "{}}",
        "{\"path\"}",
        "{\"path\":}",
        "{\"path\":\"film.mkv\"",
        "{\"path\":\"film.mkv\",}",
        "{'path':'film.mkv'}",
        "path=film.mkv",
        "{\"path\":\"\\ud800\"}",
        "{\"path\":\"film.mkv\"} {}",
        "\u{feff}{\"path\":\"film.mkv\"}",
        "{}",
    ] {
        all.push((text.to_owned(), text.as_bytes().to_vec()));
    }
    all
}

/// Expiries and counts that are none.
const NO_NUMBERS: &[&str] = &[
    "0",
    "-1",
    "-5",
    "0.5",
    "1.5",
    "1e400",
    "-1e400",
    "NaN",
    "Infinity",
    "\"3600\"",
    "\"\"",
    "[]",
    "{}",
    "true",
    "[3600]",
    "-0",
    "-0.0",
    "-9223372036854775809",
    "-170141183460469231731687303715884105728",
];

#[test]
fn the_shares_endpoint_refuses_every_bad_body() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    let mut bodies = broken();
    for policy in [
        json!(1),
        json!([]),
        json!("x"),
        json!({ "unknown": 1 }),
        json!({ "max_downloads": 1001 }),
        json!({ "max_downloads": u64::MAX }),
        json!({ "on_stall": "explode" }),
        json!({ "on_stall": 1 }),
        json!({ "starts_at": "yesterday" }),
        json!({ "starts_at": 12 }),
        json!({ "starts_at": "9999-12-31T23:59:59Z" }),
        json!({ "starts_at": "-9999999-01-01T00:00:00Z" }),
        json!({ "limits": {} }),
        json!({ "clamped": [] }),
    ] {
        let body = json!({ "path": "film.mkv", "policy": policy }).to_string();
        bodies.push((body.clone(), body.into_bytes()));
    }
    for field in ["max_downloads", "expires_in_seconds"] {
        for number in NO_NUMBERS {
            let body = format!("{{\"path\":\"film.mkv\",\"policy\":{{\"{field}\":{number}}}}}");
            bodies.push((body.clone(), body.into_bytes()));
        }
    }
    for whole in [
        json!({ "path": 1 }),
        json!({ "path": null }),
        json!({ "path": ["film.mkv"] }),
        json!({ "path": {} }),
        json!({ "path": "film.mkv", "note": 1 }),
        json!({ "path": "film.mkv", "note": "x".repeat(3000) }),
        json!({ "path": "film.mkv", "unknown": true }),
        json!({ "path": "film.mkv", "__proto__": {} }),
        json!({ "Path": "film.mkv" }),
        json!({ "path": "x".repeat(60_000) }),
        json!({ "path": "x/".repeat(3000) }),
    ] {
        bodies.push((whole.to_string().chars().take(80).collect(), whole.to_string().into_bytes()));
    }
    let doubled = "{\"path\":\"film.mkv\",\"path\":\"film.mkv\"}";
    bodies.push((doubled.into(), doubled.into()));
    for (what, body) in &bodies {
        check_refused(&post(&server, "/api/v1/shares", "application/json", body), what);
    }
    check_nothing_made(&server);
    server.share("film.mkv");
}

#[test]
fn the_originals_endpoint_refuses_every_bad_body() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    let mut bodies: Vec<(String, Vec<u8>)> = broken();
    for number in NO_NUMBERS.iter().chain(&["null"]) {
        let body = format!("{{\"file_path\":\"film.mkv\",\"expires_in_seconds\":{number}}}");
        bodies.push((body.clone(), body.into_bytes()));
    }
    for body in [json!({ "file_path": 1 }), json!({ "file_path": null }), json!({ "file_path": "../x" }), json!({ "file_path": "" })] {
        bodies.push((body.to_string(), body.to_string().into_bytes()));
    }
    for (what, body) in &bodies {
        check_refused(&post(&server, "/generate-link", "application/json", body), what);
    }
    check_nothing_made(&server);
}

#[test]
fn a_bad_expiry_is_422_and_says_which_field() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    for number in ["0", "-1", "\"x\"", "1.5", "true"] {
        let body = format!("{{\"path\":\"film.mkv\",\"policy\":{{\"expires_in_seconds\":{number}}}}}");
        let answer = post(&server, "/api/v1/shares", "application/json", body.as_bytes()).expect_status(422);
        assert!(answer.json()["detail"].as_str().unwrap().contains("expires_in_seconds"), "{}", answer.text());
        let body = format!("{{\"file_path\":\"film.mkv\",\"expires_in_seconds\":{number}}}");
        post(&server, "/generate-link", "application/json", body.as_bytes()).expect_status(422);
    }
    post(&server, "/generate-link", "application/json", b"{\"file_path\":\"film.mkv\",\"expires_in_seconds\":null}").expect_status(422);
}

#[test]
fn errors_are_problems_with_a_code_and_a_request_id() {
    let server = Setup::new().start();
    let cases: [(&str, &str, Option<Value>, u16, &str); 3] = [
        ("GET", "/api/v1/shares/00000000-0000-4000-8000-000000000000", None, 404, "unknown_share"),
        ("POST", "/api/v1/shares", Some(json!({ "path": "absent.bin" })), 404, "unknown_file"),
        ("POST", "/api/v1/shares", Some(json!({ "path": "a", "policy": { "max_downloads": 0 } })), 422, ""),
    ];
    for (method, path, body, status, code) in cases {
        let answer = server.api(method, path, body.as_ref()).expect_status(status);
        assert!(answer.header("content-type").is_some_and(|t| t.starts_with("application/problem+json")), "{}", answer.head_text());
        let problem = answer.json();
        assert_eq!(problem["status"], status, "{problem}");
        assert!(problem["code"].as_str().is_some_and(|c| !c.is_empty() && (code.is_empty() || c == code)), "{problem}");
        let id = problem["request_id"].as_str().unwrap_or_else(|| panic!("no request_id in {problem}"));
        assert_eq!(answer.header("x-request-id").as_deref(), Some(id));
    }
}

#[test]
fn a_body_must_say_that_it_is_json() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonx", "x"] {
        let answer = post(&server, "/api/v1/shares", kind, b"{\"path\":\"film.mkv\"}");
        assert_eq!(answer.status, 415, "{kind}: {}", answer.head_text());
    }
    check_nothing_made(&server);
    let answer = post(&server, "/api/v1/shares", "application/json; charset=utf-8", b"{\"path\":\"film.mkv\"}");
    assert!(matches!(answer.status, 201 | 202), "{}", answer.head_text());
}

#[test]
fn a_body_that_never_ends_or_never_comes_holds_nobody_up() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    let mut waiting = Client::connect(server.owner);
    let head = format!(
        "POST /api/v1/shares HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{{",
        server.owner, server.token
    );
    waiting.send(head.as_bytes());
    let mut endless = Client::connect(server.owner);
    endless.send(head.replace("Content-Length: 1000", "Transfer-Encoding: chunked").trim_end_matches('{').as_bytes());
    let chunk = [b"10000\r\n".to_vec(), vec![b' '; 0x10000], b"\r\n".to_vec()].concat();
    (0..4).for_each(|_| endless.send(&chunk));
    let refused = endless.answer("POST").expect("it is refused, not dropped");
    assert_eq!(refused.status, 413, "{}", refused.head_text());
    server.share("film.mkv");
}

#[test]
fn the_same_idempotency_key_makes_one_share() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    let authorization = format!("Authorization: Bearer {}", server.token);
    let ask = |body: &Value| {
        let headers = [authorization.as_str(), "Content-Type: application/json", "Idempotency-Key: 7f1e", "Connection: close"];
        Client::connect(server.owner).request_with("POST", "/api/v1/shares", &headers, body.to_string().as_bytes()).expect("an answer")
    };
    let body = json!({ "path": "film.mkv" });
    let (first, second) = (ask(&body).json(), ask(&body).json());
    assert_eq!(first["id"], second["id"]);
    let other = ask(&json!({ "path": "film.mkv", "note": "another body" }));
    assert_eq!(other.status, 422, "{}", other.text());
    let list = server.api("GET", "/api/v1/shares?state=living", None).expect_status(200).json();
    assert_eq!(list["shares"].as_array().unwrap().len(), 1);
}
