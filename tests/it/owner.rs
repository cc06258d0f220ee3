//! The owner side: who may enter, from where, and what they find.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Answer, BROWSER, Client, SOON, Server, Setup, path_of, poll, put};

/// What needs a credential: method and path.
const GUARDED: &[(&str, &str)] = &[
    ("GET", "/api/v1/files"),
    ("GET", "/api/v1/files/film.mkv"),
    ("GET", "/api/v1/recent"),
    ("GET", "/api/v1/shares"),
    ("POST", "/api/v1/shares"),
    ("DELETE", "/api/v1/shares"),
    ("GET", "/api/v1/shares/00000000-0000-4000-8000-000000000000"),
    ("DELETE", "/api/v1/shares/00000000-0000-4000-8000-000000000000"),
    ("POST", "/api/v1/shares/00000000-0000-4000-8000-000000000000/extend"),
    ("POST", "/api/v1/shares/00000000-0000-4000-8000-000000000000/reopen"),
    ("GET", "/api/v1/shares/00000000-0000-4000-8000-000000000000/transfers"),
    ("GET", "/api/v1/shares/00000000-0000-4000-8000-000000000000/qr.svg"),
    ("GET", "/api/v1/events"),
    ("GET", "/api/v1/events/stream"),
    ("GET", "/api/v1/history"),
    ("POST", "/api/v1/session/link"),
    ("POST", "/generate-link"),
    ("GET", "/api/files"),
    ("GET", "/download/x"),
    ("GET", "/admin/tunnels"),
    ("GET", "/admin/tunnels/x/stats"),
    ("DELETE", "/admin/tunnels/x"),
    ("GET", "/admin/history"),
    ("GET", "/admin/monitor/status"),
    ("POST", "/admin/cleanup"),
    ("GET", "/no/such/path"),
];

fn ask(server: &Server, method: &str, path: &str, headers: &[&str]) -> Answer {
    let headers: Vec<&str> = headers.iter().copied().chain(["Connection: close"]).collect();
    Client::connect(server.owner).request(method, path, &headers).unwrap_or_else(|| panic!("{method} {path}: no answer"))
}

fn bearer(server: &Server) -> String {
    format!("Authorization: Bearer {}", server.token)
}

/// Returns the sign-in link that the start printed.
fn sign_in_link(server: &Server) -> String {
    let mut link = None;
    poll(SOON, "a sign-in link is printed", || {
        let log = server.log_text();
        link =
            log.split_whitespace().find(|word| word.contains("/?token=")).map(|word| word.trim_matches(['"', '\'', ',', '.']).to_owned());
        link.is_some()
    });
    link.expect("just found")
}

/// Signs in with the link; returns the `Cookie:` header.
fn sign_in(server: &Server) -> String {
    let answer = ask(server, "GET", path_of(&sign_in_link(server)), &[BROWSER]).expect_status(303);
    assert_eq!(answer.location(), "/", "the code does not stay in the address");
    let cookie = answer.header("set-cookie").expect("a session");
    for attribute in ["httponly", "samesite=strict", "path=/"] {
        assert!(cookie.to_lowercase().contains(attribute), "{cookie}");
    }
    format!("Cookie: {}", cookie.split(';').next().unwrap())
}

#[test]
fn the_printed_link_signs_a_browser_in_and_signing_out_ends_it() {
    let server = Setup::new().start();
    let stranger = ask(&server, "GET", "/", &[BROWSER]).expect_status(401);
    assert!(stranger.text().contains("<form"), "a stranger sees the sign-in page: {}", stranger.text());
    let cookie = sign_in(&server);
    let home = ask(&server, "GET", "/", &[BROWSER, &cookie]).expect_status(200);
    assert!(home.header("content-type").is_some_and(|t| t.starts_with("text/html")));
    let session = ask(&server, "GET", "/api/v1/session", &[&cookie]).expect_status(200).json();
    assert_eq!(session["auth"], "token");
    assert_eq!(session["root"].as_str().map(std::path::PathBuf::from), Some(std::fs::canonicalize(&server.root).unwrap()), "{session}");
    let out = ask(&server, "DELETE", "/api/v1/session", &[&cookie]);
    assert!(matches!(out.status, 200 | 204), "{}", out.head_text());
    ask(&server, "GET", "/api/v1/shares", &[&cookie]).expect_status(401);
    ask(&server, "GET", "/", &[BROWSER, &cookie]).expect_status(401);
}

#[test]
fn a_session_outlives_a_restart_and_a_sign_in_code_does_not() {
    let mut server = Setup::new().start();
    let link = sign_in_link(&server);
    let cookie = sign_in(&server);
    server.kill();
    server.start();
    ask(&server, "GET", "/api/v1/shares", &[&cookie]).expect_status(200);
    let old = ask(&server, "GET", path_of(&link), &[BROWSER]);
    assert!(old.header("set-cookie").is_none(), "a code of an earlier start still works: {}", old.head_text());
}

#[test]
fn a_fresh_sign_in_link_can_be_asked_for() {
    let server = Setup::new().start();
    let answer = server.api("POST", "/api/v1/session/link", None);
    assert!(matches!(answer.status, 200 | 201), "{}", answer.head_text());
    let url = answer.json()["url"].as_str().expect("a url").to_owned();
    let signed_in = ask(&server, "GET", path_of(&url), &[BROWSER]).expect_status(303);
    assert!(signed_in.header("set-cookie").is_some());
}

#[test]
fn the_sign_in_form_takes_the_token_and_says_when_it_is_wrong() {
    let server = Setup::new().start();
    let headers = [BROWSER, "Content-Type: application/x-www-form-urlencoded", "Connection: close"];
    let post = |body: String| Client::connect(server.owner).request_with("POST", "/sign-in", &headers, body.as_bytes()).expect("an answer");
    let right = post(format!("token={}", server.token)).expect_status(303);
    assert!(right.header("set-cookie").is_some(), "{}", right.head_text());
    let wrong = post("token=wrong".to_owned());
    assert!(wrong.header("set-cookie").is_none(), "{}", wrong.head_text());
    assert!(matches!(wrong.status, 303 | 401 | 403), "{}", wrong.head_text());
}

#[test]
fn nothing_is_there_for_whoever_has_no_or_a_wrong_credential() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    // The guessing limit has a test of its own; few enough wrong guesses are made here to stay below it, or are told so.
    for (method, path) in GUARDED {
        let nothing = ask(&server, method, path, &[]);
        assert_eq!(nothing.status, 401, "{method} {path}: {}", nothing.head_text());
        assert!(!nothing.text().contains("film"), "{method} {path}: {}", nothing.text());
    }
    for wrong in ["Authorization: Bearer wrong", "X-API-Key: wrong", "Cookie: portcullis_session=wrong", "Authorization: Basic d3Jvbmc6"] {
        let answer = ask(&server, "GET", "/api/v1/shares", &[wrong]);
        assert!(matches!(answer.status, 401 | 429), "{wrong}: {}", answer.head_text());
    }
    let key = format!("X-API-Key: {}", server.token);
    for right in [bearer(&server), key] {
        ask(&server, "GET", "/api/v1/shares", &[&right]).expect_status(200);
    }
    assert_eq!(server.api("GET", "/api/v1/shares?state=living", None).json()["shares"], json!([]));
}

#[test]
fn health_is_told_to_strangers_and_nothing_else_with_it() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    for path in ["/livez", "/healthz", "/health"] {
        let answer = ask(&server, "GET", path, &[]).expect_status(200);
        let text = answer.text();
        assert!(!text.contains(server.root.to_str().unwrap()) && !text.contains("film"), "{path}: {text}");
    }
    let health = ask(&server, "GET", "/health", &[&bearer(&server)]).expect_status(200).json();
    assert_eq!(health["status"], "healthy");
    assert!(health["redis"] == "embedded" || health["redis"] == "connected", "{health}");
    assert!(health["version"].is_string() && health["checks"].is_object(), "{health}");
}

#[test]
fn an_open_door_is_open_and_says_so() {
    let server = Setup::new().set("AUTH", "none").start();
    ask(&server, "GET", "/api/v1/shares", &[]).expect_status(200);
    assert_eq!(ask(&server, "GET", "/api/v1/session", &[]).expect_status(200).json()["auth"], "none");
    let foreign = ask(&server, "GET", "/api/v1/shares", &["Host: evil.example"]);
    assert_eq!(foreign.status, 421, "an open door is still not open to a page that rebinds its name");
}

#[test]
fn a_foreign_host_is_misdirected() {
    let server = Setup::new().set("OWNER_HOSTS", "nas.example").start();
    let bearer = bearer(&server);
    let port = server.owner.port();
    for host in [
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "nas.example.evil",
        "",
        "nas.example@evil",
    ] {
        let answer = ask(&server, "GET", "/api/v1/shares", &[&format!("Host: {host}"), &bearer]);
        assert!(matches!(answer.status, 400 | 421), "Host: {host}: {}", answer.head_text());
    }
    for host in [
        "localhost".to_owned(),
        format!("localhost:{port}"),
        format!("127.0.0.1:{port}"),
        "192.168.1.5".into(),
        "[::1]:8000".into(),
        "NAS.example:1".into(),
    ] {
        let answer = ask(&server, "GET", "/api/v1/shares", &[&format!("Host: {host}"), &bearer]);
        assert_eq!(answer.status, 200, "Host: {host}: {}", answer.head_text());
    }
}

#[test]
fn a_foreign_page_cannot_write_with_the_owners_cookie() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    let cookie = sign_in(&server);
    let body = json!({ "path": "film.mkv" }).to_string();
    let own = format!("Origin: http://{}", server.owner);
    let write = |headers: &[&str]| {
        let headers: Vec<&str> =
            [&cookie[..], "Content-Type: application/json", "Connection: close"].iter().chain(headers).copied().collect();
        Client::connect(server.owner).request_with("POST", "/api/v1/shares", &headers, body.as_bytes()).expect("an answer").status
    };
    for foreign in [
        &["Origin: http://evil.example"][..],
        &["Origin: null"],
        &["Origin: http://127.0.0.1:1"],
        &["Sec-Fetch-Site: cross-site"],
        &["Sec-Fetch-Site: same-site"],
        &[&own, "Sec-Fetch-Site: cross-site"],
    ] {
        assert_eq!(write(foreign), 403, "{foreign:?}");
    }
    assert_eq!(server.api("GET", "/api/v1/shares?state=living", None).json()["shares"], json!([]));
    for same in [&[&own[..], "Sec-Fetch-Site: same-origin"][..], &[&own], &["Sec-Fetch-Site: none"]] {
        assert!(matches!(write(same), 201 | 202), "{same:?}");
    }
}

#[test]
fn whatever_came_through_a_funnel_is_refused() {
    let server = Setup::new().start();
    let bearer = bearer(&server);
    for path in ["/", "/api/v1/shares", "/livez", "/health", "/assets/owner/app.js", "/sign-in", "/no/such/path"] {
        let answer = ask(&server, "GET", path, &[&bearer, "Tailscale-Funnel-Request: ?1"]);
        assert_eq!(answer.status, 403, "{path}: {}", answer.head_text());
    }
}

#[test]
fn guessing_is_slowed_down_and_does_not_lock_the_owner_out() {
    let server = Setup::new().start();
    let cookie = sign_in(&server);
    let mut last = None;
    for n in 0..500 {
        let answer = ask(&server, "GET", "/api/v1/shares", &[&format!("Authorization: Bearer guess-{n}")]);
        assert!(matches!(answer.status, 401 | 429), "{}", answer.head_text());
        let slowed = answer.status == 429;
        last = Some(answer);
        if slowed {
            break;
        }
    }
    let slowed = last.unwrap().expect_status(429);
    assert!(slowed.header("retry-after").is_some_and(|s| s.parse::<u32>().is_ok_and(|s| s > 0)), "{}", slowed.head_text());
    ask(&server, "GET", "/api/v1/shares", &[&cookie]).expect_status(200);
}

/// Events as they come from the stream.
struct Stream {
    client: Client,
    text: String,
}

impl Stream {
    fn open(server: &Server, extra: &[&str]) -> Self {
        let bearer = bearer(server);
        let headers: Vec<&str> = [&bearer[..], "Accept: text/event-stream"].iter().chain(extra).copied().collect();
        let mut client = Client::connect(server.owner);
        client.ask("GET", "/api/v1/events/stream", &headers);
        let head = client.answer_head().expect("an answer").expect_status(200);
        assert!(head.header("content-type").is_some_and(|t| t.starts_with("text/event-stream")), "{}", head.head_text());
        client.stream().set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        Self { client, text: String::new() }
    }

    /// Waits for an event that is wanted; returns its id and data.
    fn wait(&mut self, what: &str, wanted: impl Fn(&str, &Value) -> bool) -> (Option<String>, Value) {
        let started = Instant::now();
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    let lines = block.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
                    lines.map(|value| value.strip_prefix(' ').unwrap_or(value).to_owned()).reduce(|a, b| a + "\n" + &b)
                };
                let (event, id) = (field("event").unwrap_or_default(), field("id"));
                let data = field("data").and_then(|d| serde_json::from_str(&d).ok()).unwrap_or(Value::Null);
                self.text = rest.to_owned();
                if wanted(&event, &data) {
                    return (id, data);
                }
            }
            assert!(started.elapsed() < SOON, "waited {SOON:?} for: {what}; the rest is {:?}", self.text);
            // The chunks' own sizes are lines of hexadecimal digits, which no field begins with.
            let bytes = self.client.read_some(64 * 1024);
            let text = String::from_utf8_lossy(&bytes).replace("\r\n", "\u{0}");
            self.text += &unchunked(&text);
        }
    }
}

/// Drops the sizes of chunks: what stands between two line ends and is a hexadecimal number.
fn unchunked(text: &str) -> String {
    text.split('\0').filter(|part| part.is_empty() || u32::from_str_radix(part, 16).is_err()).collect()
}

#[test]
fn the_stream_tells_of_a_shares_whole_life_and_replays_what_was_missed() {
    let server = Setup::new().set("GRACE_PERIOD_SECONDS", 1).start();
    put(&server, "film.mkv", 1000);
    let mut stream = Stream::open(&server, &[]);
    let offer = server.share("film.mkv");
    let mine = |event: &str, data: &Value| event == "share" && data["id"] == offer.id.as_str();
    let (first, _) = stream.wait("its first line is told", |event, data| event == "log" && data["share"] == offer.id.as_str());
    let (_, data) = stream.wait("the share appears", mine);
    assert!(data["state_text"].is_string() && data["url"].is_string(), "{data}");
    drop(stream);

    let transfer = server.redeem(&offer);
    server.fetch("GET", &transfer, &[]).expect("an answer").expect_status(200);
    server.wait_for(&offer.id, "it closes", |share| share["state"] == "closed");

    let first = first.expect("a line of the log has its number");
    let mut again = Stream::open(&server, &[&format!("Last-Event-ID: {first}")]);
    let (_, data) =
        again.wait("what was missed is told or a fresh look is asked for", |event, data| event == "resync" || mine(event, data));
    if !data.is_null() && data["id"].is_string() {
        assert_eq!(data["state"], "closed", "{data}");
    }
    let other = server.share("film.mkv");
    again.wait("and it goes on", |event, data| event == "share" && data["id"] == other.id.as_str());
}

#[test]
fn the_event_log_tells_the_story_in_order() {
    let server = Setup::new().set("GRACE_PERIOD_SECONDS", 0).start();
    put(&server, "film.mkv", 1000);
    let offer = server.share("film.mkv");
    let transfer = server.redeem(&offer);
    server.fetch("GET", &transfer, &[]).expect("an answer").expect_status(200);
    assert_eq!(server.outcome(&offer.id), "completed");
    let answer = server.api("GET", &format!("/api/v1/events?share={}", offer.id), None).expect_status(200).json();
    let events = answer["events"].as_array().unwrap_or_else(|| panic!("no events: {answer}"));
    let kinds: Vec<&str> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
    let story = [
        "share.created",
        "share.opened",
        "transfer.redeemed",
        "transfer.began",
        "transfer.ended",
        "share.delivered",
        "share.closing",
        "share.closed",
    ];
    assert_eq!(kinds, story);
    let numbers: Vec<u64> = events.iter().map(|e| e["seq"].as_u64().unwrap()).collect();
    assert!(numbers.windows(2).all(|w| w[0] < w[1]), "{numbers:?}");
    let history = server.api("GET", "/api/v1/history", None).expect_status(200).text();
    assert!(history.contains(&offer.id), "{history}");
}

#[test]
fn no_secret_reaches_the_log() {
    let server = Setup::new().set("LOG", "trace").set("GRACE_PERIOD_SECONDS", 1).start();
    put(&server, "film.mkv", 1000);
    let offer = server.share("film.mkv");
    let cookie = sign_in(&server);
    server.fetch("GET", &offer.link, &[BROWSER]).expect("an answer");
    let transfer = server.redeem(&offer);
    server.fetch("GET", &transfer, &[]).expect("an answer").expect_status(200);
    ask(&server, "GET", "/api/v1/shares", &[&cookie]).expect_status(200);
    assert_eq!(server.outcome(&offer.id), "completed");
    let log = server.log_text();
    let token = offer.redeem_path().rsplit_once('/').unwrap().1.to_owned();
    let secret = transfer.split('/').nth(3).unwrap().to_owned();
    let cookie = cookie.rsplit_once('=').unwrap().1.to_owned();
    for (what, text) in [("the owner's token", &server.token), ("a link", &token), ("a transfer's secret", &secret), ("a cookie", &cookie)]
    {
        assert!(text.len() >= 16, "{what} is too short to look for: {text}");
        assert!(!log.contains(text.as_str()), "{what} stands in the log");
    }
    let arguments = std::fs::read(format!("/proc/{}/cmdline", server.pid())).unwrap();
    assert!(!String::from_utf8_lossy(&arguments).contains(&server.token));
}

/// A search knows of new files after a while; a start looks at once.
fn index_anew(server: &mut Server) {
    server.kill();
    server.start();
}

fn keys(object: &Value) -> BTreeSet<&str> {
    object.as_object().unwrap_or_else(|| panic!("no object: {object}")).keys().map(String::as_str).collect()
}

#[test]
fn the_originals_endpoints_answer_in_its_shapes() {
    let mut server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    put(&server, "sub/book.pdf", 1000);
    index_anew(&mut server);
    let files = server.api("GET", "/api/files", None).expect_status(200).json();
    poll(SOON, "the catalog knows its files", || server.api("GET", "/api/files", None).json() == json!(["film.mkv", "sub/book.pdf"]));
    assert!(files.is_array());

    let body = json!({ "file_path": "film.mkv", "expires_in_seconds": 600 });
    let made = server.api("POST", "/generate-link", Some(&body)).expect_status(200).json();
    assert_eq!(keys(&made), BTreeSet::from(["download_url", "tunnel_id", "token", "file_path", "expires_in_seconds"]));
    assert_eq!((&made["file_path"], &made["expires_in_seconds"]), (&json!("film.mkv"), &json!(600)));
    let default = server.api("POST", "/generate-link", Some(&json!({ "file_path": "film.mkv" }))).expect_status(200).json();
    assert_eq!(default["expires_in_seconds"], 3600);

    for (file, status) in [("absent.bin", 404), ("sub", 400)] {
        let refused = server.api("POST", "/generate-link", Some(&json!({ "file_path": file }))).expect_status(status);
        assert!(refused.json()["detail"].is_string());
    }

    let (token, id) = (made["token"].as_str().unwrap(), made["tunnel_id"].as_str().unwrap());
    for method in ["GET", "HEAD"] {
        let answer = server.api(method, &format!("/download/{token}"), None);
        assert!(matches!(answer.status, 302 | 307), "{}", answer.head_text());
        assert_eq!(answer.header("location").as_deref(), made["download_url"].as_str());
    }
    assert_eq!(server.api("GET", "/download/nonsense", None).status, 404);

    let tunnels = server.api("GET", "/admin/tunnels", None).expect_status(200).json();
    assert_eq!((keys(&tunnels), &tunnels["count"]), (BTreeSet::from(["active_tunnels", "count"]), &json!(2)));
    let tunnel = tunnels["active_tunnels"].as_array().unwrap().iter().find(|t| t["tunnel_id"] == id).expect("it is listed");
    for key in ["tunnel_id", "file_path", "status", "created_at", "expires_at", "bytes_served", "file_size", "public_url", "is_downloading"]
    {
        assert!(!tunnel[key].is_null(), "{key} is missing: {tunnel}");
    }
    assert_eq!((&tunnel["is_downloading"], &tunnel["file_size"]), (&json!(false), &json!(1000)));

    let stats = server.api("GET", &format!("/admin/tunnels/{id}/stats"), None).expect_status(200).json();
    for key in ["tunnel_info", "download_stats", "file_size", "download_progress"] {
        assert!(stats.get(key).is_some(), "{key} is missing: {stats}");
    }
    assert_eq!(keys(&stats["download_progress"]), BTreeSet::from(["bytes_served", "file_size", "percentage"]));

    let status = server.api("GET", "/admin/monitor/status", None).expect_status(200).json();
    for key in [
        "monitor_active",
        "active_downloads",
        "active_tunnels_count",
        "funnel_active",
        "stall_timeout_seconds",
        "max_tunnel_seconds",
        "redis_connected",
        "redis_memory_usage",
        "uptime",
    ] {
        assert!(status.get(key).is_some(), "{key} is missing: {status}");
    }
    assert_eq!((&status["active_tunnels_count"], &status["stall_timeout_seconds"]), (&json!(2), &json!(300)));

    let deleted = server.api("DELETE", &format!("/admin/tunnels/{id}"), None).expect_status(200).json();
    assert_eq!((keys(&deleted), &deleted["tunnel_id"]), (BTreeSet::from(["message", "tunnel_id"]), &json!(id)));
    assert_eq!(server.api("DELETE", "/admin/tunnels/00000000", None).status, 404);
    assert_eq!(server.api("GET", "/admin/tunnels/00000000/stats", None).status, 404);

    poll(SOON, "history knows it", || server.api("GET", "/admin/history", None).json()["count"] == 1);
    let history = server.api("GET", "/admin/history", None).json();
    assert_eq!(history["tunnel_history"][0]["tunnel_id"], id);
    let cleanup = server.api("POST", "/admin/cleanup", None).expect_status(200).json();
    assert_eq!(keys(&cleanup), BTreeSet::from(["message", "cleaned_tunnels", "cleaned_tokens"]));
}

#[test]
fn a_link_of_the_originals_kind_downloads_with_curl() {
    let server = Setup::new().start();
    let content = put(&server, "film.mkv", 100_000);
    let made = server.api("POST", "/generate-link", Some(&json!({ "file_path": "film.mkv" }))).expect_status(200).json();
    let folder = crate::harness::download_folder(&server);
    let output = crate::harness::tool(&folder, "curl", &["-sS", "-q", "-L", "-o", "out", made["download_url"].as_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(crate::harness::sha256_of_file(&folder.join("out")), crate::harness::sha256(&content));
    assert_eq!(server.uses(made["tunnel_id"].as_str().unwrap()), 1);
}

#[test]
fn an_expiry_beyond_the_ceiling_is_shortened_and_says_so() {
    let server = Setup::new().set("MAX_TUNNEL_SECONDS", 100).start();
    put(&server, "film.mkv", 1000);
    let body = json!({ "path": "film.mkv", "policy": { "expires_in_seconds": 99_999_999_999u64 } });
    let share = server.api("POST", "/api/v1/shares", Some(&body)).json();
    assert_eq!((&share["policy"]["expires_in_seconds"], &share["clamped"]), (&json!(100), &json!(["expires_in_seconds"])), "{share}");
    let made = server.api("POST", "/generate-link", Some(&json!({ "file_path": "film.mkv", "expires_in_seconds": 5000 }))).json();
    assert_eq!(made["expires_in_seconds"], 100);
}

#[test]
fn folders_are_listed_in_pages_and_searched() {
    let mut server = Setup::new().start();
    for n in 0..25 {
        put(&server, &format!("series/episode {n}.mkv"), 10);
    }
    put(&server, "readme.txt", 10);
    index_anew(&mut server);
    let root = server.api("GET", "/api/v1/files?path=", None).expect_status(200).json();
    let names: Vec<&str> = root["entries"].as_array().unwrap().iter().map(|e| e["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["series", "readme.txt"], "folders first");
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = server.api("GET", &format!("/api/v1/files?path=series&limit=10{cursor}"), None).expect_status(200).json();
        assert_eq!(page["total"], 25);
        seen.extend(page["entries"].as_array().unwrap().iter().map(|e| e["name"].as_str().unwrap().to_owned()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={}", percent_encoding::utf8_percent_encode(next, percent_encoding::NON_ALPHANUMERIC));
    }
    let expected: Vec<String> = (0..25).map(|n| format!("episode {n}.mkv")).collect();
    assert_eq!(seen, expected, "numbers sort by their value, and no page repeats or drops a file");
    poll(SOON, "the search finds a file", || {
        let found = server.api("GET", "/api/v1/files?query=episode%2017", None).expect_status(200).json();
        found["entries"][0]["path"] == "series/episode 17.mkv"
    });
}

#[test]
fn a_transfer_can_be_stopped_by_itself() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 64 * 1024 * 1024);
    let offer = server.share_with(&json!({ "path": "film.mkv", "policy": { "max_downloads": 2 } }));
    let (one, _) = (server.redeem(&offer), server.redeem(&offer));
    let mut client = Client::connect_with_small_buffer(server.recipient, 16 * 1024);
    client.ask("GET", &one, &[]);
    assert_eq!(client.answer_head().expect("an answer").status, 200);
    let mut running = None;
    poll(SOON, "the owner sees it move", || {
        running = server.transfers(&offer.id).into_iter().find(|t| t["delivered_bytes"].as_u64() > Some(0));
        running.is_some()
    });
    let id = running.unwrap()["id"].as_str().unwrap().to_owned();
    let stopped = server.api("DELETE", &format!("/api/v1/shares/{}/transfers/{id}", offer.id), None);
    assert!(matches!(stopped.status, 200 | 202 | 204), "{}", stopped.head_text());
    client.read_to_close(Duration::from_secs(10));
    assert_eq!(server.fetch("GET", &one, &[]).expect("an answer").status, 410);
    assert_ne!(server.show(&offer.id)["state"], "closed", "the other recipient keeps theirs");
}

#[test]
fn a_qr_code_is_a_picture_without_script() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    let offer = server.share("film.mkv");
    let answer = server.api("GET", &format!("/api/v1/shares/{}/qr.svg", offer.id), None).expect_status(200);
    assert!(answer.header("content-type").is_some_and(|t| t.starts_with("image/svg+xml")), "{}", answer.head_text());
    let svg = answer.text();
    assert!(svg.contains("<svg") && !svg.contains("<script"), "{svg}");
}
