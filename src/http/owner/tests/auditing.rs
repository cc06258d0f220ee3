//! The audit log: a line for each action of an owner, before it is done.

use serde_json::json;

use super::*;
use crate::store::sqlite::SqliteStore;

/// Returns the lines of the audit log, newest first.
async fn lines(scene: &Scene) -> Vec<Value> {
    let page = scene.call("GET", "/api/v1/audit?limit=1000").await.expect(200).json();
    page["lines"].as_array().unwrap().clone()
}

#[tokio::test]
async fn whatever_changes_something_leaves_its_line() {
    let mut walked = 0;
    for route in routes().into_iter().filter(|route| route.method != Method::GET) {
        walked += 1;
        let scene = scene().await;
        let share = scene.share().await;
        let id = share["id"].as_str().unwrap().to_owned();
        let token = scene.call("POST", "/api/v1/tokens").json(r#"{"name":"x","scope":"read"}"#).await.expect(201).json();
        let session = scene.sign_in().await;
        let listed = scene.call("GET", "/api/v1/sessions").await.expect(200).json();
        if route.path.ends_with("/reopen") {
            scene.call("DELETE", &format!("/api/v1/shares/{id}")).await.expect(200);
            while scene.call("GET", &format!("/api/v1/shares/{id}")).await.json()["state"] != "closed" {
                tokio::task::yield_now().await;
            }
        }
        let (hole, transfer) = match route.path {
            "/api/v1/tokens/{id}" => (token["id"].as_str().unwrap().to_owned(), String::new()),
            "/api/v1/sessions/{id}" => (listed["sessions"][0]["id"].as_str().unwrap().to_owned(), String::new()),
            _ => (id.clone(), "0".repeat(32)),
        };
        let target = route.path.replace("{id}", &hole).replace("{transfer}", &transfer);
        let before = lines(&scene).await.len();
        let mut ask = match route.path {
            "/api/v1/session" => scene.ask(route.method.as_str(), &target).header("cookie", &session),
            _ => scene.call(route.method.as_str(), &target),
        };
        ask = match route.path {
            "/api/v1/shares" => ask.json(r#"{"path":"film.mkv"}"#),
            "/api/v1/shares/{id}/extend" => ask.json(r#"{"expires_in_seconds":60}"#),
            "/generate-link" => ask.json(r#"{"file_path":"film.mkv"}"#),
            "/api/v1/tokens" => ask.json(r#"{"name":"y","scope":"read"}"#),
            "/sign-in" => {
                ask = scene.ask("POST", &target).header("content-type", "application/x-www-form-urlencoded");
                ask.body = format!("token={}", scene.token).into();
                ask
            }
            _ => ask,
        };
        let what = format!("{} {}", route.method, route.path);
        let answer = ask.await;
        // No transfer has the number that is asked for: also what is refused leaves a line.
        let refused = route.path.ends_with("{transfer}");
        assert_eq!(answer.status.is_success() || answer.status.is_redirection(), !refused, "{what}: {}", answer.status);
        let all = lines(&scene).await;
        let added: Vec<&Value> = all[..all.len() - before].iter().collect();
        assert!(!added.is_empty(), "{what} leaves no line");
        let action = route.rule.action.unwrap_or_else(|| panic!("{what} has no name in the audit log"));
        for line in added {
            assert_eq!(line["action"], action, "{what}: {line}");
            assert_eq!(line["from"], "192.168.0.7", "{what}: {line}");
            assert!(line["who"].as_str().is_some_and(|who| who == "owner token" || who.starts_with("browser ")), "{what}: {line}");
            if route.path.starts_with("/api/v1/shares/{id}") && !route.path.ends_with("{transfer}") {
                assert_eq!(line["target"], id, "{what}");
            }
        }
    }
    assert!(walked >= 15, "the table has its routes");
}

#[tokio::test]
async fn what_was_refused_stands_there_too_with_why() {
    let scene = scene().await;
    let reader = scene.call("POST", "/api/v1/tokens").json(r#"{"name":"x","scope":"read"}"#).await.expect(201).json();
    let bearer = format!("Bearer {}", reader["token"].as_str().unwrap());
    scene.ask("POST", "/api/v1/shares").header("authorization", &bearer).json("{}").await.expect_problem(403, "scope_too_small");
    scene.call("POST", "/api/v1/shares").json(r#"{"path":"absent"}"#).await.expect(404);
    scene.call("DELETE", "/api/v1/shares/0000000000").await.expect(404);
    scene.ask("GET", "/?token=wrong").await.expect(401);
    scene.ask("GET", "/api/v1/shares").header("x-api-key", "wrong").await.expect(401);
    scene.ask("DELETE", "/api/v1/shares/0000000000").await.expect(401);
    let lines = lines(&scene).await;
    let refused: Vec<(&str, &str, &str)> = lines
        .iter()
        .rev()
        .filter(|line| line["detail"].as_str().unwrap().starts_with("refused"))
        .map(|line| (line["action"].as_str().unwrap(), line["target"].as_str().unwrap(), line["detail"].as_str().unwrap()))
        .collect();
    assert_eq!(
        refused,
        [
            ("share.create", "", "refused: scope_too_small"),
            ("share.create", "", "refused: unknown_file"),
            ("share.close", "0000000000", "refused: unknown_share"),
            ("session.refused", "", "refused: wrong_token"),
            ("session.refused", "", "refused: wrong_token"),
        ],
        "who shows nothing at all leaves no line: they could write as many as they like"
    );
    assert!(lines.iter().any(|line| line["who"] == format!("token {} (x)", reader["id"].as_str().unwrap())));
    assert!(!serde_json::to_string(&lines).unwrap().contains("pct_"));
}

#[tokio::test]
async fn whoever_is_refused_over_and_over_does_not_fill_the_log() {
    let scene = scene().await;
    let reader = scene.call("POST", "/api/v1/tokens").json(r#"{"name":"x","scope":"read"}"#).await.expect(201).json();
    let bearer = format!("Bearer {}", reader["token"].as_str().unwrap());
    let refused = async || scene.ask("POST", "/admin/cleanup").header("authorization", &bearer).await.expect(403);
    for _ in 0..300 {
        refused().await;
    }
    assert!(lines(&scene).await.len() < 250, "{}", lines(&scene).await.len());
    // What is done is written all the same, and the next refusal that is says how many were not.
    scene.call("POST", "/admin/cleanup").await.expect(200);
    assert_eq!(lines(&scene).await[0]["detail"], "");
    scene.clock.advance(Duration::from_secs(61));
    refused().await;
    assert_eq!(lines(&scene).await[0]["detail"], "refused: scope_too_small; 100 refusals before it were not written down");
}

#[tokio::test]
async fn the_log_is_read_page_by_page_and_looked_through() {
    let scene = scene().await;
    for _ in 0..5 {
        scene.share().await;
    }
    let (mut cursor, mut seqs) = (String::new(), Vec::new());
    loop {
        let page = scene.call("GET", &format!("/api/v1/audit?limit=2&cursor={cursor}")).await.expect(200).json();
        assert_eq!(keys(&page), ["lines", "next_cursor"]);
        for line in page["lines"].as_array().unwrap() {
            assert_eq!(keys(line), ["action", "at", "detail", "from", "hash", "seq", "target", "who"]);
            assert_eq!(
                (&line["action"], &line["detail"], &line["at"]),
                (&json!("share.create"), &json!("film.mkv"), &json!("2027-01-15T08:00:00Z"))
            );
            seqs.push(line["seq"].as_u64().unwrap());
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(seqs, [5, 4, 3, 2, 1]);
    let verdict = scene.call("GET", "/api/v1/audit/verify").await.expect(200).json();
    assert_eq!(keys(&verdict), ["broken", "first_seq", "head", "is_intact", "lines"]);
    assert_eq!((&verdict["is_intact"], &verdict["lines"], &verdict["head"]["seq"]), (&json!(true), &json!(5), &json!(5)));
    for target in ["/api/v1/audit?cursor=x", "/api/v1/audit?limit=0"] {
        scene.call("GET", target).await.expect_problem(422, "bad_query");
    }
}

#[tokio::test]
async fn what_cannot_be_written_down_is_not_done() {
    let state = tempfile::tempdir().unwrap();
    let scene = scene_over(Arc::new(SqliteStore::open(state.path()).unwrap()), |_| {}).await;
    let share = scene.share().await;
    let token = scene.call("POST", "/api/v1/tokens").json(r#"{"name":"x","scope":"read"}"#).await.expect(201).json();
    let cookie = scene.sign_in().await;
    let browsers = scene.call("GET", "/api/v1/sessions").await.expect(200).json();
    let (id, extend) = (share["id"].as_str().unwrap(), r#"{"expires_in_seconds":7200}"#);
    let before = scene.call("GET", "/api/v1/shares").await.expect(200).json();

    let file = rusqlite::Connection::open(state.path().join("portcullis.db")).unwrap();
    file.execute_batch("CREATE TRIGGER no_room BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no room'); END").unwrap();
    for (method, target, body) in [
        ("POST", "/api/v1/shares".to_owned(), Some(r#"{"path":"film.mkv"}"#)),
        ("POST", format!("/api/v1/shares/{id}/extend"), Some(extend)),
        ("POST", "/generate-link".to_owned(), Some(r#"{"file_path":"film.mkv"}"#)),
        ("POST", "/api/v1/tokens".to_owned(), Some(r#"{"name":"y","scope":"admin"}"#)),
        ("DELETE", format!("/api/v1/tokens/{}", token["id"].as_str().unwrap()), None),
        ("DELETE", format!("/api/v1/sessions/{}", browsers["sessions"][0]["id"].as_str().unwrap()), None),
        ("DELETE", "/api/v1/sessions".to_owned(), None),
        ("POST", "/api/v1/session/link".to_owned(), None),
        ("GET", scene.side.new_sign_in_path(), None),
    ] {
        let mut ask = if method == "GET" { scene.ask(method, &target) } else { scene.call(method, &target) };
        if let Some(body) = body {
            ask = ask.json(body);
        }
        ask.await.expect_problem(503, "store_unavailable");
    }
    assert_eq!(scene.call("GET", "/api/v1/shares").await.expect(200).json(), before);
    assert_eq!(scene.call("GET", "/api/v1/tokens").await.expect(200).json()["tokens"].as_array().unwrap().len(), 1);
    assert_eq!(scene.call("GET", "/api/v1/sessions").await.expect(200).json(), browsers);
    scene.ask("GET", "/api/v1/shares").header("cookie", &cookie).await.expect(200);
    // Shutting a door is on the safe side, and waits for nothing.
    scene.call("DELETE", &format!("/api/v1/shares/{id}")).await.expect(200);
    file.execute_batch("DROP TRIGGER no_room").unwrap();
    while scene.call("GET", &format!("/api/v1/shares/{id}")).await.json()["state"] != "closed" {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_browser_is_let_in_while_its_session_cannot_be_prolonged() {
    let state = tempfile::tempdir().unwrap();
    let scene = scene_over(Arc::new(SqliteStore::open(state.path()).unwrap()), |_| {}).await;
    let cookie = scene.sign_in().await;
    let file = rusqlite::Connection::open(state.path().join("portcullis.db")).unwrap();
    file.execute_batch("CREATE TRIGGER no_room BEFORE INSERT ON session BEGIN SELECT RAISE(ABORT, 'no room'); END").unwrap();
    scene.clock.advance(std::time::Duration::from_secs(24 * 3600));
    let answer = scene.ask("GET", "/api/v1/shares").header("cookie", &cookie).await.expect(200);
    assert!(!answer.headers.contains_key("set-cookie"), "it ends when it would have");
}
