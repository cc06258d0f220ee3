//! Bad bodies and bad addresses: one sentence, nothing made, and never our own failure.

use super::*;

/// What is refused for a share, with the status and what the sentence speaks of.
fn bad_bodies() -> Vec<(String, u16, &'static str)> {
    let policy = |policy: &str| format!(r#"{{"path":"film.mkv","policy":{policy}}}"#);
    let mut bodies: Vec<(String, u16, &str)> = vec![
        (String::new(), 400, "JSON"),
        ("{".to_owned(), 400, "JSON"),
        ("{}".to_owned(), 422, "path"),
        ("null".to_owned(), 422, "object"),
        ("[]".to_owned(), 422, "object"),
        (r#"{"path":1}"#.to_owned(), 422, "path"),
        (r#"{"path":null}"#.to_owned(), 422, "path"),
        (r#"{"path":"film.mkv","note":1}"#.to_owned(), 422, "note"),
        (r#"{"path":"film.mkv","unknown":1}"#.to_owned(), 422, "unknown"),
        (r#"{"path":"film.mkv","path":"film.mkv"}"#.to_owned(), 422, "twice"),
        (r#"{"path":"../film.mkv"}"#.to_owned(), 422, "parts"),
        (r#"{"path":"/etc/passwd"}"#.to_owned(), 422, "relative"),
        (r#"{"path":"a\u0000b"}"#.to_owned(), 422, "NUL"),
        (r#"{"path":"sub"}"#.to_owned(), 422, "folder"),
        (r#"{"path":""}"#.to_owned(), 422, "folder"),
        (r#"{"path":"absent"}"#.to_owned(), 404, "absent"),
        (format!(r#"{{"path":"film.mkv","note":"{}"}}"#, "x".repeat(2001)), 422, "note"),
        (format!(r#"{{"path":"{}"}}"#, "x".repeat(70_000)), 413, "64 KiB"),
        ("x".repeat(10 * 1024 * 1024), 413, "64 KiB"),
        (format!("{}{}", "[".repeat(30_000), "]".repeat(30_000)), 422, "deep"),
        (format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)), 413, "64 KiB"),
        (policy("1"), 422, "policy"),
        (policy("[]"), 422, "policy"),
        (policy(r#"{"expires":5}"#), 422, "expires"),
        (policy(r#"{"on_stall":"explode"}"#), 422, "on_stall"),
        (policy(r#"{"on_stall":1}"#), 422, "on_stall"),
        (policy(r#"{"starts_at":"yesterday"}"#), 422, "starts_at"),
        (policy(r#"{"starts_at":12}"#), 422, "starts_at"),
        (policy(r#"{"starts_at":"9999-12-31T23:59:59Z"}"#), 422, "starts_at"),
        (policy(r#"{"max_downloads":1001}"#), 422, "max_downloads"),
        (policy(r#"{"max_downloads":18446744073709551615}"#), 422, "max_downloads"),
    ];
    for number in ["0", "-1", "1.5", "3600.0", "1e3", "18446744073709551616", "\"60\"", "\"NaN\"", "null", "true", "[]", "{}"] {
        for field in ["expires_in_seconds", "max_downloads"] {
            bodies.push((policy(&format!(r#"{{"{field}":{number}}}"#)), 422, field));
        }
    }
    for number in ["NaN", "Infinity", "-Infinity", "01", "+1", "0x10"] {
        bodies.push((policy(&format!(r#"{{"expires_in_seconds":{number}}}"#)), 400, "JSON"));
    }
    bodies.push((policy(r#"{"expires_in_seconds":1e999}"#), 422, "range"));
    bodies
}

#[tokio::test]
async fn a_bad_body_gets_a_sentence_and_makes_nothing() {
    let scene = scene().await;
    for (body, status, word) in bad_bodies() {
        let shown: String = body.chars().take(100).collect();
        let answer = scene.call("POST", "/api/v1/shares").json(body).await;
        assert_eq!(answer.status.as_u16(), status, "{shown}: {:?}", answer.body);
        let code = answer.json()["code"].as_str().unwrap().to_owned();
        let answer = answer.expect_problem(status, &code);
        assert!(answer.detail().contains(word), "{shown}: {}", answer.detail());
    }
    assert_eq!(scene.call("GET", "/api/v1/shares").await.expect(200).json()["shares"], serde_json::json!([]));
}

#[tokio::test]
async fn a_body_must_say_that_it_is_json() {
    let scene = scene().await;
    for kind in [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("application/jsonx")] {
        let mut ask = scene.call("POST", "/api/v1/shares");
        if let Some(kind) = kind {
            ask = ask.header("content-type", kind);
        }
        ask.body = r#"{"path":"film.mkv"}"#.into();
        ask.await.expect_problem(415, "unsupported_media_type");
    }
    let mut ask = scene.call("POST", "/api/v1/shares").header("content-type", "Application/JSON; charset=utf-8");
    ask.body = r#"{"path":"film.mkv"}"#.into();
    ask.await.expect(201);
}

#[tokio::test]
async fn a_bad_address_gets_a_problem() {
    let scene = scene().await;
    for (method, target, status, code) in [
        ("GET", "/no/such/path", 404, "not_found"),
        ("PUT", "/api/v1/shares", 405, "method_not_allowed"),
        ("GET", "/api/v1/shares/0000000000", 404, "unknown_share"),
        ("GET", "/api/v1/shares/..%2f..", 404, "unknown_share"),
        ("DELETE", "/api/v1/shares/0000000000", 404, "unknown_share"),
        ("GET", "/api/v1/shares/0000000000/transfers", 404, "unknown_share"),
        ("GET", "/api/v1/shares/0000000000/qr.svg", 404, "unknown_share"),
        ("DELETE", "/api/v1/shares/0000000000/transfers/x", 404, "unknown_transfer"),
        ("POST", "/api/v1/shares/0000000000/reopen", 404, "unknown_share"),
        ("GET", "/api/v1/shares?state=nonsense", 422, "bad_query"),
        ("GET", "/api/v1/shares?cursor=nonsense", 422, "bad_query"),
        ("GET", "/api/v1/shares?limit=0", 422, "bad_query"),
        ("GET", "/api/v1/shares?limit=x", 422, "bad_query"),
        ("GET", "/api/v1/shares?limit=1&limit=2", 400, "bad_request"),
        ("GET", "/api/v1/events?since=yesterday", 422, "bad_query"),
        ("GET", "/api/v1/events?cursor=-1", 422, "bad_query"),
        ("GET", "/api/v1/events?share=x", 404, "unknown_share"),
        ("GET", "/api/v1/files?sort=taste", 422, "bad_query"),
        ("GET", "/api/v1/files?kind=film", 422, "bad_query"),
        ("GET", "/api/v1/files?kind=image,", 422, "bad_query"),
        ("GET", "/api/v1/files?min_bytes=-1", 422, "bad_query"),
        ("GET", "/api/v1/files?max_bytes=1.5", 422, "bad_query"),
        ("GET", "/api/v1/files?min_bytes=2&max_bytes=1", 422, "bad_query"),
        ("GET", "/api/v1/files?changed_since=yesterday", 422, "bad_query"),
        ("GET", "/api/v1/files?everywhere=1", 422, "bad_query"),
        ("GET", "/api/v1/files?query=film&kind=film", 422, "bad_query"),
        ("GET", "/api/v1/recent?limit=0", 422, "bad_query"),
        ("GET", "/api/v1/files?path=..", 422, "bad_path"),
        ("GET", "/api/v1/files?path=film.mkv", 422, "not_a_folder"),
        ("GET", "/api/v1/files?path=absent", 404, "unknown_file"),
        ("GET", "/api/v1/files/absent", 404, "unknown_file"),
        ("GET", "/api/v1/files/sub/%2e%2e/film.mkv", 422, "bad_path"),
    ] {
        let answer = scene.call(method, target).await.expect_problem(status, code);
        assert_eq!(status == 405, answer.headers.contains_key("allow"), "{target}");
    }
    scene.call("GET", "/api/v1/shares?unknown=1&limit=99999999").await.expect(200);
}

#[tokio::test]
async fn what_the_head_of_an_error_says_its_body_leaves_out() {
    let scene = scene().await;
    let answer = scene.call("HEAD", "/api/v1/shares/0000000000").await.expect(404);
    assert_eq!(answer.header("content-type"), "application/problem+json");
}
