//! Who may come in, from where, and how.

use super::allowing::decided;
use super::*;

/// Puts something into the holes of a route's path.
fn target_of(path: &str) -> String {
    path.replace("{*path}", "owner/index.html").replace("{id}", "0000000000").replace("{token}", "x").replace("{transfer}", &"0".repeat(32))
}

fn is_public(method: &Method, path: &str) -> bool {
    decided().contains(&(method.as_str(), path, "public"))
}

#[tokio::test]
async fn no_route_is_open_to_whoever_has_no_or_a_wrong_credential() {
    let scene = scene().await;
    let wrong = [
        ("authorization", format!("Bearer {}x", scene.token)),
        ("authorization", format!("Basic {}", scene.token)),
        ("x-api-key", "wrong".to_owned()),
        ("cookie", format!("portcullis_session={}", "0".repeat(64))),
        ("cookie", format!("portcullis_session={}", scene.token)),
        ("cookie", "portcullis_session=".to_owned()),
    ];
    let mut guarded = 0;
    for (method, path) in route_list() {
        if is_public(&method, path) {
            continue;
        }
        guarded += 1;
        let target = target_of(path);
        scene.ask(method.as_str(), &target).await.expect_problem(401, "not_signed_in");
        for (name, value) in &wrong {
            // So that the limit on guesses, which has a test of its own, stays out of this.
            scene.clock.advance(Duration::from_secs(60));
            let answer = scene.ask(method.as_str(), &target).header(name, value).await.expect(401);
            assert!(!answer.header("www-authenticate").is_empty());
        }
    }
    assert!(guarded > 20, "the table has its routes");
    scene.ask("GET", "/no/such/path").await.expect_problem(401, "not_signed_in");
}

#[tokio::test]
async fn no_route_refuses_a_right_credential() {
    let scene = scene().await;
    let cookie = scene.sign_in().await;
    let bearer = format!("Bearer {}", scene.token);
    for (method, path) in route_list() {
        let target = target_of(path);
        for (name, value) in [("authorization", &bearer), ("x-api-key", &scene.token), ("cookie", &cookie)] {
            if (method == Method::DELETE && path.starts_with("/api/v1/session")) || path.ends_with("/stream") {
                continue;
            }
            let answer = scene.ask(method.as_str(), &target).header(name, value).await;
            assert!(!matches!(answer.status.as_u16(), 401 | 403 | 421 | 429), "{method} {target}: {}", answer.status);
            assert!(answer.status.as_u16() != 500, "{method} {target}");
        }
    }
}

#[tokio::test]
async fn a_script_with_a_revoked_token_shuts_out_no_other_behind_the_same_proxy() {
    let scene = scene().await;
    let made = scene.call("POST", "/api/v1/tokens").json(r#"{"name":"x","scope":"read"}"#).await.expect(201).json();
    let token = made["token"].as_str().unwrap();
    let revoked = format!("pct_{}", "0".repeat(64));
    for _ in 0..10 {
        scene.ask("GET", "/api/v1/shares").header("x-api-key", &revoked).await.expect(401);
    }
    scene.ask("GET", "/api/v1/shares").header("x-api-key", &revoked).await.expect_problem(429, "too_many_tries");
    scene.ask("GET", "/api/v1/shares").header("x-api-key", token).await.expect(200);
}

#[tokio::test]
async fn without_a_token_asked_for_everybody_in_the_lan_is_an_owner() {
    let scene = scene_with(|settings| settings.auth = Auth::None).await;
    scene.ask("GET", "/api/v1/shares").await.expect(200);
    assert_eq!(scene.ask("GET", "/api/v1/session").await.expect(200).json()["auth"], "none");
    scene.ask("GET", "/").await.expect(200);
    scene.ask("GET", "/api/v1/shares").host("evil.example").await.expect_problem(421, "misdirected");
    scene.ask("POST", "/admin/cleanup").header("origin", "http://evil.example").await.expect_problem(403, "foreign_origin");
}

#[tokio::test]
async fn the_local_socket_knows_us_and_root_and_nobody_else() {
    let scene = scene().await;
    let ours = rustix::process::geteuid().as_raw();
    for (uid, status) in [(ours, 200), (0, 200), (ours + 1, 401)] {
        let answer = scene.ask("GET", "/api/v1/shares").host("whatever").from(Peer::Local { uid }).await;
        assert_eq!(answer.status.as_u16(), status, "uid {uid}");
    }
    let link = scene.ask("POST", "/api/v1/session/link").from(Peer::Local { uid: ours }).await.expect(200).json();
    let url = link["url"].as_str().unwrap();
    let path = url.strip_prefix("http://nas.local:8000").expect("the address of the settings");
    scene.ask("GET", path).await.expect(303);
}

#[tokio::test]
async fn a_link_signs_a_browser_in_and_signing_out_ends_it() {
    let scene = scene().await;
    let stranger = scene.ask("GET", "/").await.expect(401);
    assert!(stranger.header("content-type").starts_with("text/html"));
    assert!(String::from_utf8_lossy(&stranger.body).contains("<form"));

    let entered = scene.ask("GET", &scene.side.new_sign_in_path()).await.expect(303);
    assert_eq!(entered.header("location"), "/", "the code does not stay in the address");
    let cookie = entered.header("set-cookie");
    assert!(cookie.ends_with("; HttpOnly; SameSite=Strict; Path=/; Max-Age=2592000"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap();

    scene.ask("GET", "/").header("cookie", cookie).await.expect(200);
    scene.ask("GET", "/api/v1/shares").header("cookie", cookie).await.expect(200);
    let out = scene.ask("DELETE", "/api/v1/session").header("cookie", cookie).await.expect(204);
    assert!(out.header("set-cookie").contains("Max-Age=0"));
    scene.ask("GET", "/api/v1/shares").header("cookie", cookie).await.expect(401);
}

#[tokio::test]
async fn the_first_sign_in_code_outlives_all_others() {
    let scene = scene().await;
    let first = scene.side.new_sign_in_path();
    let second = scene.side.new_sign_in_path();
    for _ in 0..100 {
        scene.side.new_sign_in_path();
    }
    scene.ask("GET", &second).await.expect(401);
    scene.ask("GET", &first).await.expect(303);
    scene.ask("GET", &first).await.expect(303);
}

#[tokio::test]
async fn the_form_takes_the_token_and_says_when_it_is_wrong() {
    let scene = scene().await;
    let post = |body: String| {
        let mut ask = scene.ask("POST", "/sign-in").header("content-type", "application/x-www-form-urlencoded").header("origin", "null");
        ask.body = body.into();
        ask
    };
    let right = post(format!("token=+{}%0A", scene.token)).await.expect(303);
    assert!(right.header("set-cookie").starts_with("portcullis_session="));
    let wrong = post("token=wrong".to_owned()).header("accept", "text/html").await.expect(303);
    assert_eq!(wrong.header("location"), "/sign-in?wrong");
    assert!(wrong.headers.get("set-cookie").is_none());
    post("token=wrong".to_owned()).await.expect_problem(401, "wrong_token");
    for body in ["", "x=1", "token", "token=a&token=b", "%ff=%ff"] {
        let answer = post(body.to_owned()).await;
        assert!(matches!(answer.status.as_u16(), 401 | 422), "{body}: {}", answer.status);
    }
    post("x".repeat(70_000)).await.expect_problem(413, "body_too_large");
}

#[tokio::test]
async fn a_session_lives_while_it_is_used_and_ends_when_it_is_not() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let scene = scene().await;
    let cookie = scene.sign_in().await;
    let mut renewed = 0;
    for _ in 0..20 {
        scene.clock.advance(10 * DAY);
        let answer = scene.ask("GET", "/api/v1/session").header("cookie", &cookie).await.expect(200);
        renewed += usize::from(answer.headers.get("set-cookie").is_some_and(|set| set.to_str().unwrap().starts_with(&cookie)));
    }
    assert_eq!(renewed, 20, "the browser keeps its cookie as long as we do");
    let again = scene.ask("GET", "/api/v1/session").header("cookie", &cookie).await.expect(200);
    assert!(again.headers.get("set-cookie").is_none(), "not on every request");
    scene.clock.advance(31 * DAY);
    scene.ask("GET", "/api/v1/session").header("cookie", &cookie).await.expect(401);
}

#[tokio::test]
async fn guessing_is_slowed_down_and_locks_no_signed_in_browser_out() {
    let scene = scene().await;
    let cookie = scene.sign_in().await;
    let guess = |n: u32| scene.ask("GET", "/api/v1/shares").header("authorization", &format!("Bearer guess-{n}"));
    for n in 0..10 {
        guess(n).await.expect_problem(401, "wrong_token");
    }
    let slowed = guess(10).await.expect_problem(429, "too_many_tries");
    assert_eq!(slowed.header("retry-after"), "6");
    scene.call("GET", "/api/v1/shares").await.expect(429);
    scene.ask("GET", &scene.side.new_sign_in_path()).await.expect(429);
    scene.ask("GET", "/?token=x").header("accept", "text/html").await.expect(303);
    scene.ask("GET", "/api/v1/shares").header("cookie", &cookie).header("authorization", "Bearer wrong").await.expect(200);
    let elsewhere = Peer::Tcp("192.168.0.8:1".parse().unwrap());
    scene.call("GET", "/api/v1/shares").from(elsewhere).await.expect(200);
    scene.clock.advance(Duration::from_secs(6));
    scene.call("GET", "/api/v1/shares").await.expect(200);
}

#[tokio::test]
async fn health_is_no_way_to_guess_without_limit() {
    let scene = scene().await;
    for _ in 0..20 {
        scene.ask("GET", "/health").header("x-api-key", "guess").await.expect(200);
    }
    let health = scene.call("GET", "/health").await.expect(200).json();
    assert_eq!(health["version"], "", "a right guess behind the limit shows nothing");
}

#[tokio::test]
async fn a_foreign_host_is_misdirected() {
    let scene = scene().await;
    for (host, status) in [
        ("192.168.0.2:8000", 200),
        ("[fd00::2]:8000", 200),
        ("localhost", 200),
        ("FILES.example:8000", 200),
        ("evil.example", 421),
        ("192.168.0.2.evil.example", 421),
        ("", 421),
    ] {
        let answer = scene.call("GET", "/api/v1/shares").host(host).await.expect(status);
        assert_eq!(status == 421, answer.json()["code"] == "misdirected");
    }
    let twice = scene.call("GET", "/api/v1/shares").header("host", "evil.example").await;
    twice.expect_problem(421, "misdirected");
    scene.call("GET", "http://evil.example/api/v1/shares").await.expect_problem(421, "misdirected");
    scene.ask("GET", "/health").host("evil.example").await.expect_problem(421, "misdirected");
}

#[tokio::test]
async fn a_foreign_page_changes_nothing() {
    let scene = scene().await;
    let cookie = scene.sign_in().await;
    let own = ("origin", "http://192.168.0.2:8000");
    for (headers, status) in [
        (vec![], 200),
        (vec![own], 200),
        (vec![own, ("sec-fetch-site", "same-origin")], 200),
        (vec![("sec-fetch-site", "none")], 200),
        (vec![("origin", "http://evil.example")], 403),
        (vec![("origin", "null")], 403),
        (vec![("origin", "http://192.168.0.2:8001")], 403),
        (vec![("origin", "ftp://192.168.0.2:8000")], 403),
        (vec![own, ("origin", "http://evil.example")], 403),
        (vec![("sec-fetch-site", "cross-site")], 403),
        (vec![own, ("sec-fetch-site", "same-site")], 403),
    ] {
        let ask = scene.ask("POST", "/admin/cleanup").header("cookie", &cookie);
        let answer = headers.iter().fold(ask, |ask, (name, value)| ask.header(name, value)).await;
        assert_eq!(answer.status.as_u16(), status, "{headers:?}");
    }
    scene.ask("GET", "/api/v1/shares").header("cookie", &cookie).header("sec-fetch-site", "cross-site").await.expect(200);
}

#[tokio::test]
async fn a_proxy_before_the_local_socket_lends_nobody_its_rights() {
    let scene = scene().await;
    for (name, value) in [("x-forwarded-for", "100.64.0.7"), ("forwarded", "for=100.64.0.7"), ("tailscale-user-login", "alice@example.com")]
    {
        let ask = scene.ask("GET", "/api/v1/shares").from(Peer::Local { uid: 0 }).header(name, value);
        ask.await.expect_problem(403, "proxied");
    }
}

#[tokio::test]
async fn a_login_of_the_tailnet_is_an_owner_where_tailscaled_vouches_for_it_and_nowhere_else() {
    let scene = scene().await;
    let ask = |login: &str| scene.ask("GET", "/api/v1/shares").from(Peer::Tailnet).host("localhost").header("tailscale-user-login", login);
    ask("Alice@Example.com").await.expect(200);
    for stranger in ["bob@example.com", "", "alice@example.com.evil.example", "alice@example.com,bob@example.com"] {
        ask(stranger).await.expect_problem(403, "not_an_owner");
    }
    ask("alice@example.com").header("tailscale-user-login", "bob@example.com").await.expect_problem(403, "not_an_owner");
    scene.ask("GET", "/").from(Peer::Tailnet).await.expect_problem(403, "not_an_owner");
    ask("alice@example.com").header("tailscale-funnel-request", "?1").await.expect_problem(403, "not_public");
    // In the LAN anybody can write such a field.
    scene.ask("GET", "/api/v1/shares").header("tailscale-user-login", "alice@example.com").await.expect(401);
    // What changes something must come from the page that the tailnet knows by this name.
    let change = |origin: &str| {
        let ask =
            scene.ask("POST", "/admin/cleanup").from(Peer::Tailnet).host("localhost").header("tailscale-user-login", "alice@example.com");
        ask.header("x-forwarded-host", "nas.tail1.ts.net").header("origin", origin)
    };
    change("https://nas.tail1.ts.net").await.expect(200);
    for foreign in ["https://evil.example", "http://localhost", "null"] {
        change(foreign).await.expect_problem(403, "foreign_origin");
    }
}

#[tokio::test]
async fn what_came_through_the_public_tunnel_is_refused_whatever_it_asks_for() {
    let scene = scene().await;
    for (method, path) in route_list() {
        let ask = scene.call(method.as_str(), &target_of(path)).header("tailscale-funnel-request", "?1");
        ask.await.expect_problem(403, "not_public");
    }
}

#[tokio::test]
async fn every_answer_tells_browsers_what_it_is_not() {
    let scene = scene().await;
    for (target, credential) in
        [("/", true), ("/", false), ("/api/v1/shares", true), ("/api/v1/shares", false), ("/nothing", true), ("/health", false)]
    {
        let answer = if credential { scene.call("GET", target) } else { scene.ask("GET", target) }.await;
        let page = answer.header("content-type").starts_with("text/html");
        assert_eq!(answer.header("content-security-policy"), if page { PAGE_POLICY } else { DATA_POLICY });
        assert_eq!(answer.header("cache-control"), "no-store", "{target}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("x-frame-options"), "DENY");
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
        assert_eq!(answer.header("x-request-id").len(), 32);
    }
}

#[tokio::test]
async fn the_files_of_the_page_are_kept_and_asked_for_again() {
    let scene = scene().await;
    let script = scene.ask("GET", "/assets/owner/app.js").await.expect(200);
    assert_eq!(script.header("content-type"), "text/javascript; charset=utf-8");
    assert_eq!(script.header("cache-control"), "no-cache");
    let known = scene.ask("GET", "/assets/owner/app.js").header("if-none-match", script.header("etag")).await.expect(304);
    assert!(known.body.is_empty());
    assert_eq!(scene.ask("GET", "/assets/shared/tokens.css").await.expect(200).header("content-type"), "text/css; charset=utf-8");
    for path in
        ["/assets/owner/../../Cargo.toml", "/assets/owner/%2e%2e/%2e%2e/Cargo.toml", "/assets/recipient/x", "/assets/owner/", "/assets/x"]
    {
        scene.ask("GET", path).await.expect_problem(404, "not_found");
    }
}
