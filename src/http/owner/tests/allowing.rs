//! Who may do what: scopes, API tokens, signed-in browsers.

use std::collections::BTreeSet;

use serde_json::json;

use super::*;

/// What was decided about every route: who may come in. A route that is not here, or is decided otherwise in the table of
/// routes, fails the test below.
pub(super) fn decided() -> Vec<(&'static str, &'static str, &'static str)> {
    let paths = |scope: &'static str, paths: &[(&'static str, &'static str)]| {
        paths.iter().map(move |(method, path)| (*method, *path, scope)).collect::<Vec<_>>()
    };
    [
        paths(
            "public",
            &[
                ("GET", "/"),
                ("GET", "/sign-in"),
                ("POST", "/sign-in"),
                ("GET", "/assets/{*path}"),
                ("GET", "/health"),
                ("GET", "/healthz"),
                ("GET", "/livez"),
                ("GET", "/openapi.json"),
                ("GET", "/api/docs"),
            ],
        ),
        paths(
            "read",
            &[
                ("GET", "/api/v1/files"),
                ("GET", "/api/v1/files/{*path}"),
                ("GET", "/api/v1/recent"),
                ("GET", "/api/v1/shares"),
                ("GET", "/api/v1/shares/{id}"),
                ("GET", "/api/v1/shares/{id}/transfers"),
                ("GET", "/api/v1/history"),
                ("GET", "/api/v1/stats"),
                ("GET", "/api/v1/events"),
                ("GET", "/api/v1/events/stream"),
                ("GET", "/api/v1/session"),
                ("DELETE", "/api/v1/session"),
                ("GET", "/api/files"),
                ("GET", "/admin/tunnels"),
                ("GET", "/admin/tunnels/{id}/stats"),
                ("GET", "/admin/history"),
                ("GET", "/admin/monitor/status"),
                ("GET", "/metrics"),
            ],
        ),
        paths(
            "share",
            &[
                ("POST", "/api/v1/shares"),
                ("DELETE", "/api/v1/shares"),
                ("POST", "/api/v1/self-test"),
                ("DELETE", "/api/v1/shares/{id}"),
                ("POST", "/api/v1/shares/{id}/extend"),
                ("POST", "/api/v1/shares/{id}/reopen"),
                ("GET", "/api/v1/shares/{id}/qr.svg"),
                ("DELETE", "/api/v1/shares/{id}/transfers/{transfer}"),
                ("POST", "/generate-link"),
                ("GET", "/download/{token}"),
                ("DELETE", "/admin/tunnels/{id}"),
                ("POST", "/admin/cleanup"),
            ],
        ),
        paths(
            "admin",
            &[
                ("POST", "/api/v1/session/link"),
                ("GET", "/api/v1/sessions"),
                ("DELETE", "/api/v1/sessions"),
                ("DELETE", "/api/v1/sessions/{id}"),
                ("POST", "/api/v1/tokens"),
                ("GET", "/api/v1/tokens"),
                ("DELETE", "/api/v1/tokens/{id}"),
                ("GET", "/api/v1/audit"),
                ("GET", "/api/v1/settings"),
                ("GET", "/api/v1/check"),
                ("GET", "/api/v1/audit/verify"),
            ],
        ),
    ]
    .concat()
}

/// Makes an API token; returns its JSON.
async fn token(scene: &Scene, scope: &str) -> Value {
    let body = json!({ "name": format!("a {scope} script"), "scope": scope }).to_string();
    scene.call("POST", "/api/v1/tokens").json(body).await.expect(201).json()
}

fn with<'a>(scene: &'a Scene, method: &str, target: &str, token: &Value) -> Ask<'a> {
    scene.ask(method, target).header("authorization", &format!("Bearer {}", token["token"].as_str().unwrap()))
}

#[tokio::test]
async fn every_route_lets_in_whom_it_was_decided_for_and_nobody_else() {
    let scene = scene().await;
    let decided = decided();
    let table: BTreeSet<_> = routes().iter().map(|route| (route.method.to_string(), route.path)).collect();
    let known: BTreeSet<_> = decided.iter().map(|(method, path, _)| ((*method).to_owned(), *path)).collect();
    assert_eq!(table, known, "each route has a decision, and each decision a route");

    let mut holders = vec![("none", None)];
    for scope in ["read", "share", "admin"] {
        holders.push((scope, Some(token(&scene, scope).await)));
    }
    let rank = |scope: &str| ["public", "read", "share", "admin"].iter().position(|known| *known == scope);
    for (method, path, needed) in decided {
        let target =
            path.replace("{*path}", "x").replace("{id}", "0000000000").replace("{token}", "x").replace("{transfer}", &"0".repeat(32));
        for (scope, token) in &holders {
            let ask = match token {
                Some(token) => with(&scene, method, &target, token),
                None => scene.ask(method, &target),
            };
            let response = ask.begin().await;
            let got = match (response.status().as_u16(), *scope) {
                // The page and the form answer so themselves.
                (401, "none") if needed == "public" => "let in",
                (401, _) => "stranger",
                (403, _) => "too small",
                _ => "let in",
            };
            let expected = match *scope {
                "none" if needed == "public" => "let in",
                "none" => "stranger",
                scope if rank(scope) >= rank(needed) => "let in",
                _ => "too small",
            };
            // Nothing here may cost guesses, or make the next step a guess too many.
            scene.clock.advance(Duration::from_secs(60));
            assert_eq!(got, expected, "{method} {path} with {scope}: {}", response.status());
        }
    }
}

#[tokio::test]
async fn a_token_is_told_once_named_used_and_revoked_at_once() {
    let scene = scene().await;
    let body = r#"{"name":" backup script ","scope":"share","expires_in_seconds":3600}"#;
    let made = scene.call("POST", "/api/v1/tokens").json(body).await.expect(201).json();
    let secret = made["token"].as_str().unwrap();
    assert!(secret.len() == 68 && secret.starts_with("pct_"), "{secret}");
    assert_eq!(keys(&made), ["created_at", "expires_at", "id", "last_used_at", "name", "scope", "token"]);
    assert_eq!(
        (&made["name"], &made["scope"], &made["created_at"], &made["expires_at"], &made["last_used_at"]),
        (&json!("backup script"), &json!("share"), &json!("2027-01-15T08:00:00Z"), &json!("2027-01-15T09:00:00Z"), &Value::Null)
    );
    for (name, value) in [("authorization", format!("Bearer {secret}")), ("x-api-key", secret.to_owned())] {
        let session = scene.ask("GET", "/api/v1/session").header(name, &value).await.expect(200).json();
        let who = format!("token {} (backup script)", made["id"].as_str().unwrap());
        assert_eq!((&session["scope"], &session["who"]), (&json!("share"), &json!(who)));
    }
    let listed = scene.call("GET", "/api/v1/tokens").await.expect(200);
    assert!(!String::from_utf8_lossy(&listed.body).contains(secret), "the secret is told once");
    let listed = listed.json();
    assert_eq!(keys(&listed["tokens"][0]), ["created_at", "expires_at", "id", "last_used_at", "name", "scope"]);
    assert_eq!(listed["tokens"][0]["last_used_at"], "2027-01-15T08:00:00Z");
    scene.clock.advance(Duration::from_secs(30));
    with(&scene, "GET", "/api/v1/shares", &made).await.expect(200);
    let soon = scene.call("GET", "/api/v1/tokens").await.expect(200).json();
    assert_eq!(soon["tokens"][0]["last_used_at"], "2027-01-15T08:00:00Z", "once a minute is enough");
    scene.clock.advance(Duration::from_secs(30));
    with(&scene, "GET", "/api/v1/shares", &made).await.expect(200);
    let later = scene.call("GET", "/api/v1/tokens").await.expect(200).json();
    assert_eq!(later["tokens"][0]["last_used_at"], "2027-01-15T08:01:00Z");

    let target = format!("/api/v1/tokens/{}", made["id"].as_str().unwrap());
    let revoked = scene.call("DELETE", &target).await.expect(200).json();
    assert_eq!(revoked, later["tokens"][0]);
    with(&scene, "GET", "/api/v1/shares", &made).await.expect_problem(401, "wrong_token");
    scene.call("DELETE", &target).await.expect_problem(404, "unknown_token");
    scene.call("DELETE", "/api/v1/tokens/..%2f").await.expect_problem(404, "unknown_token");
}

#[tokio::test]
async fn a_token_ends_on_either_clock() {
    for jump in [false, true] {
        let scene = scene().await;
        let made =
            scene.call("POST", "/api/v1/tokens").json(r#"{"name":"x","scope":"read","expires_in_seconds":60}"#).await.expect(201).json();
        scene.clock.advance(Duration::from_secs(59));
        with(&scene, "GET", "/api/v1/shares", &made).await.expect(200);
        if jump {
            scene.clock.jump_wall_to(Timestamp(1_800_000_060_000));
        } else {
            scene.clock.advance(Duration::from_secs(1));
        }
        with(&scene, "GET", "/api/v1/shares", &made).await.expect_problem(401, "wrong_token");
    }
}

#[tokio::test]
async fn a_bad_wish_for_a_token_makes_none() {
    let scene = scene().await;
    for (body, word) in [
        (r#"{"scope":"read"}"#.to_owned(), "name"),
        (r#"{"name":"x"}"#.to_owned(), "scope"),
        (r#"{"name":" ","scope":"read"}"#.to_owned(), "name"),
        (r#"{"name":"a\nb","scope":"read"}"#.to_owned(), "name"),
        (format!(r#"{{"name":"{}","scope":"read"}}"#, "x".repeat(101)), "name"),
        (r#"{"name":"x","scope":"root"}"#.to_owned(), "scope"),
        (r#"{"name":"x","scope":"read","expires_in_seconds":0}"#.to_owned(), "expires_in_seconds"),
        (r#"{"name":"x","scope":"read","expires_in_seconds":18446744073709551615}"#.to_owned(), "ten years"),
    ] {
        let answer = scene.call("POST", "/api/v1/tokens").json(body.clone()).await.expect_problem(422, "bad_field");
        assert!(answer.detail().contains(word), "{body}: {}", answer.detail());
    }
    scene.call("POST", "/api/v1/tokens").json(r#"{"name":"x","scope":"read","x":1}"#).await.expect_problem(422, "unknown_field");
    assert_eq!(scene.call("GET", "/api/v1/tokens").await.expect(200).json(), json!({ "tokens": [] }));
}

#[tokio::test]
async fn who_may_only_look_sees_no_link_anywhere() {
    let scene = scene().await;
    let reader = token(&scene, "read").await;
    let share = scene.share().await;
    let (id, url) = (share["id"].as_str().unwrap(), share["url"].as_str().unwrap());
    let secret = url.rsplit('/').nth(1).unwrap();
    for target in [
        format!("/api/v1/shares/{id}"),
        "/api/v1/shares".to_owned(),
        "/api/v1/history".to_owned(),
        "/api/v1/events".to_owned(),
        format!("/api/v1/shares/{id}/transfers"),
        "/admin/tunnels".to_owned(),
        format!("/admin/tunnels/{id}/stats"),
        "/admin/history".to_owned(),
    ] {
        let seen = with(&scene, "GET", &target, &reader).await.expect(200);
        assert!(!String::from_utf8_lossy(&seen.body).contains(secret), "{target}");
    }
    let seen = with(&scene, "GET", &format!("/api/v1/shares/{id}"), &reader).await.expect(200).json();
    assert_eq!((&seen["url"], &seen["curl"], &seen["state"]), (&Value::Null, &Value::Null, &json!("offered")));
    let legacy = with(&scene, "GET", "/admin/tunnels", &reader).await.expect(200).json();
    assert_eq!(legacy["active_tunnels"][0]["public_url"], "");
    for target in [format!("/api/v1/shares/{id}/qr.svg"), format!("/download/{secret}")] {
        with(&scene, "GET", &target, &reader).await.expect_problem(403, "scope_too_small");
    }
    let sharer = token(&scene, "share").await;
    assert_eq!(with(&scene, "GET", &format!("/api/v1/shares/{id}"), &sharer).await.expect(200).json(), share);

    let mut stream = with(&scene, "GET", "/api/v1/events/stream", &reader).header("last-event-id", "0").begin().await.into_body();
    let mut text = String::new();
    while !text.contains("event: ready") {
        text += std::str::from_utf8(&stream.frame().await.unwrap().unwrap().into_data().unwrap()).unwrap();
    }
    assert!(text.contains("event: share") && text.contains(id) && !text.contains(secret), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_the_credential_that_opened_it() {
    let scene = scene().await;
    let reader = token(&scene, "read").await;
    let cookie = scene.sign_in().await;
    let by_token = with(&scene, "GET", "/api/v1/events/stream", &reader).begin().await;
    let by_browser = scene.ask("GET", "/api/v1/events/stream").header("cookie", &cookie).begin().await;
    let kept = scene.call("GET", "/api/v1/events/stream").begin().await;
    scene.call("DELETE", &format!("/api/v1/tokens/{}", reader["id"].as_str().unwrap())).await.expect(200);
    scene.call("DELETE", "/api/v1/sessions").await.expect(200);
    let begun = tokio::time::Instant::now();
    for stream in [by_token, by_browser] {
        let mut body = stream.into_body();
        while body.frame().await.is_some() {}
    }
    assert!(begun.elapsed() <= Duration::from_secs(16), "{:?}", begun.elapsed());
    let mut body = kept.into_body();
    while begun.elapsed() < Duration::from_secs(60) {
        body.frame().await.expect("the owner's own goes on").unwrap();
    }
}

#[tokio::test]
async fn browsers_are_listed_and_signed_out() {
    let scene = scene().await;
    let sign_in = |agent: &'static str| {
        let ask = scene.ask("GET", &scene.side.new_sign_in_path()).header("user-agent", agent);
        async move { ask.await.expect(303).header("set-cookie").split(';').next().unwrap().to_owned() }
    };
    let phone = sign_in("A phone").await;
    scene.clock.advance(Duration::from_secs(60));
    let (desk, third) = (sign_in("A desk").await, sign_in("A third").await);
    let listed = scene.ask("GET", "/api/v1/sessions").header("cookie", &desk).await.expect(200).json();
    let sessions = listed["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 3);
    let of = |agent: &str| sessions.iter().find(|session| session["agent"] == agent).unwrap();
    assert_eq!(keys(of("A phone")), ["address", "agent", "created_at", "expires_at", "id", "is_current", "last_seen_at"]);
    assert_eq!((&of("A phone")["is_current"], &of("A desk")["is_current"]), (&json!(false), &json!(true)));
    assert_eq!(
        (&of("A phone")["address"], &of("A phone")["created_at"], &of("A phone")["expires_at"]),
        (&json!("192.168.0.7"), &json!("2027-01-15T08:00:00Z"), &json!("2027-02-14T08:00:00Z"))
    );
    assert!(of("A desk")["id"].as_str().is_some_and(|id| id.len() == 16));

    scene.ask("GET", "/api/v1/shares").header("cookie", &phone).await.expect(200);
    let target = format!("/api/v1/sessions/{}", of("A phone")["id"].as_str().unwrap());
    scene.ask("DELETE", &target).header("cookie", &desk).await.expect(204);
    scene.ask("GET", "/api/v1/shares").header("cookie", &phone).await.expect(401);
    scene.ask("DELETE", &target).header("cookie", &desk).await.expect_problem(404, "unknown_session");
    let others = scene.ask("DELETE", "/api/v1/sessions").header("cookie", &desk).await.expect(200).json();
    assert_eq!(others, json!({ "signed_out": 1 }));
    scene.ask("GET", "/api/v1/shares").header("cookie", &third).await.expect(401);
    scene.ask("GET", "/api/v1/shares").header("cookie", &desk).await.expect(200);
}

#[tokio::test]
async fn a_visit_is_seen_to_the_hour() {
    let scene = scene().await;
    let cookie = scene.sign_in().await;
    let seen = async || {
        let listed = scene.call("GET", "/api/v1/sessions").await.expect(200).json();
        listed["sessions"][0]["last_seen_at"].as_str().unwrap().to_owned()
    };
    scene.clock.advance(Duration::from_secs(1800));
    scene.ask("GET", "/api/v1/shares").header("cookie", &cookie).await.expect(200);
    assert_eq!(seen().await, "2027-01-15T08:00:00Z");
    scene.clock.advance(Duration::from_secs(1800));
    scene.ask("GET", "/api/v1/shares").header("cookie", &cookie).await.expect(200);
    assert_eq!(seen().await, "2027-01-15T09:00:00Z");
}

#[tokio::test]
async fn wrong_tries_count_together_however_they_are_made() {
    let scene = scene().await;
    let forged = format!("pct_{}", "0".repeat(64));
    for n in 0..10 {
        let ask = match n % 4 {
            0 => scene.ask("GET", "/api/v1/shares").header("authorization", &format!("Bearer {forged}")),
            1 => scene.ask("GET", "/api/v1/shares").header("x-api-key", &forged),
            2 => scene.ask("GET", "/?token=wrong"),
            _ => {
                let mut ask = scene.ask("POST", "/sign-in").header("content-type", "application/x-www-form-urlencoded");
                ask.body = "token=wrong".into();
                ask
            }
        };
        ask.await.expect(401);
    }
    scene.ask("GET", "/api/v1/shares").header("x-api-key", &forged).await.expect_problem(429, "too_many_tries");
    // The owner's token may be a word that can be guessed; an API token cannot, and goes on working.
    let made = token_elsewhere(&scene).await;
    with(&scene, "GET", "/api/v1/shares", &made).await.expect(200);
    scene.call("GET", "/api/v1/shares").await.expect_problem(429, "too_many_tries");
    scene.clock.advance(Duration::from_secs(6));
    scene.call("GET", "/api/v1/shares").await.expect(200);
}

async fn token_elsewhere(scene: &Scene) -> Value {
    let elsewhere = Peer::Tcp("192.168.0.8:1".parse().unwrap());
    scene.call("POST", "/api/v1/tokens").json(r#"{"name":"x","scope":"read"}"#).from(elsewhere).await.expect(201).json()
}
