//! The owner API as a script meets it: tokens and scopes, sessions, the audit log, batches, history, request ids.

use std::fs::File;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::harness::{Answer, BROWSER, Client, SOON, Server, Setup, path_of, poll, put, put_bytes, tool};

/// Asks with an API token, as a script does.
fn ask(server: &Server, token: &str, method: &str, path: &str, body: Option<&Value>) -> Answer {
    let headers = [format!("X-API-Key: {token}"), "Content-Type: application/json".to_owned(), "Connection: close".to_owned()];
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    let mut client = Client::connect(server.owner);
    let answer = match body {
        Some(body) => client.request_with(method, path, &headers, body.to_string().as_bytes()),
        None => client.request(method, path, &headers),
    };
    answer.unwrap_or_else(|| panic!("{method} {path}: no answer"))
}

fn make_token(server: &Server, scope: &str) -> Value {
    let body = json!({ "name": format!("{scope} script"), "scope": scope });
    server.api("POST", "/api/v1/tokens", Some(&body)).expect_status(201).json()
}

fn audit(server: &Server) -> Vec<Value> {
    let page = server.api("GET", "/api/v1/audit?limit=1000", None).expect_status(200).json();
    page["lines"].as_array().unwrap().clone()
}

#[test]
fn curl_uses_a_token_until_it_is_revoked_and_it_outlives_a_restart() {
    let mut server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    let made = make_token(&server, "share");
    let secret = made["token"].as_str().unwrap().to_owned();
    server.kill();
    server.start();
    let curl = |server: &Server, header: &str| {
        let url = format!("http://{}/api/v1/shares", server.owner);
        let json = ["-H", "Content-Type: application/json", "-d", r#"{"path":"film.mkv"}"#];
        let arguments = [&["-sS", "-q", "-w", "\n%{http_code}", "-H", header], &json[..], &[url.as_str()]].concat();
        let output = tool(server.folder(), "curl", &arguments);
        let text = String::from_utf8(output.stdout).unwrap();
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.to_owned(), serde_json::from_str::<Value>(body).unwrap())
    };
    for header in [format!("Authorization: Bearer {secret}"), format!("X-API-Key: {secret}")] {
        let (status, share) = curl(&server, &header);
        assert_eq!(status, "201", "{share}");
        assert!(share["url"].is_string(), "{share}");
    }
    let listed = server.api("GET", "/api/v1/tokens", None).expect_status(200).json();
    assert!(listed["tokens"][0]["last_used_at"].is_string() && listed["tokens"][0]["token"].is_null(), "{listed}");
    server.api("DELETE", &format!("/api/v1/tokens/{}", made["id"].as_str().unwrap()), None).expect_status(200);
    let (status, problem) = curl(&server, &format!("X-API-Key: {secret}"));
    assert_eq!((status.as_str(), &problem["code"]), ("401", &json!("wrong_token")));
    server.kill();
    server.start();
    assert_eq!(curl(&server, &format!("X-API-Key: {secret}")).0, "401", "it stays revoked");
    for place in
        [server.log_text(), std::fs::read(server.state.join("portcullis.db")).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap()]
    {
        assert!(!place.contains(&secret[4..]), "the secret is kept nowhere");
    }
}

#[test]
fn a_scope_bounds_what_a_token_does_and_sees() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    let offer = server.share("film.mkv");
    let scopes = ["read", "share", "admin"].map(|scope| make_token(&server, scope)["token"].as_str().unwrap().to_owned());
    let body = json!({ "path": "film.mkv" });
    let show = format!("/api/v1/shares/{}", offer.id);
    for (method, path, body, statuses) in [
        ("GET", "/api/v1/shares", None, [200, 200, 200]),
        ("GET", &show, None, [200, 200, 200]),
        ("GET", "/admin/tunnels", None, [200, 200, 200]),
        ("GET", &format!("{show}/qr.svg"), None, [403, 200, 200]),
        ("POST", "/api/v1/shares", Some(&body), [403, 201, 201]),
        ("POST", "/admin/cleanup", None, [403, 200, 200]),
        ("GET", "/api/v1/tokens", None, [403, 403, 200]),
        ("GET", "/api/v1/audit", None, [403, 403, 200]),
        ("POST", "/api/v1/session/link", None, [403, 403, 200]),
    ] {
        for (token, status) in scopes.iter().zip(statuses) {
            let answer = ask(&server, token, method, path, body).expect_status(status);
            if status == 403 {
                assert_eq!(answer.json()["code"], "scope_too_small", "{method} {path}");
            }
        }
    }
    let secret = offer.link.split('/').nth(2).unwrap();
    for path in [&show, "/api/v1/shares", "/admin/tunnels", &format!("/admin/tunnels/{}/stats", offer.id), "/api/v1/events"] {
        assert!(!ask(&server, &scopes[0], "GET", path, None).expect_status(200).text().contains(secret), "{path}");
        let sees = path.contains("tunnels") || path.contains("shares");
        assert_eq!(ask(&server, &scopes[1], "GET", path, None).expect_status(200).text().contains(secret), sees, "{path}");
    }
}

#[test]
fn a_browser_is_listed_and_can_be_signed_out_from_elsewhere() {
    let server = Setup::new().start();
    let link = server.api("POST", "/api/v1/session/link", None).expect_status(200).json();
    let browser = |method: &str, path: &str, cookie: &str| {
        let headers = [BROWSER, "Connection: close", cookie];
        Client::connect(server.owner).request(method, path, &headers).expect("an answer")
    };
    let entered = browser("GET", path_of(link["url"].as_str().unwrap()), "X-None: 1").expect_status(303);
    let cookie = format!("Cookie: {}", entered.header("set-cookie").unwrap().split(';').next().unwrap());
    browser("GET", "/api/v1/shares", &cookie).expect_status(200);
    let listed = server.api("GET", "/api/v1/sessions", None).expect_status(200).json();
    let session = &listed["sessions"][0];
    assert_eq!((&session["address"], &session["is_current"]), (&json!("127.0.0.1"), &json!(false)), "{listed}");
    assert!(session["agent"].as_str().is_some_and(|agent| agent.contains("Chrome/142")), "{listed}");
    server.api("DELETE", &format!("/api/v1/sessions/{}", session["id"].as_str().unwrap()), None).expect_status(204);
    browser("GET", "/api/v1/shares", &cookie).expect_status(401);
    let actions: Vec<Value> = audit(&server).iter().map(|line| line["action"].clone()).collect();
    assert_eq!(actions, [json!("session.revoke"), json!("session.sign_in"), json!("session.link")]);
}

#[test]
fn what_an_owner_does_stands_in_the_audit_log_and_outlives_a_crash() {
    let mut server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    let made = make_token(&server, "share");
    let token = made["token"].as_str().unwrap();
    let share = ask(&server, token, "POST", "/api/v1/shares", Some(&json!({ "path": "film.mkv" }))).expect_status(201).json();
    ask(&server, token, "DELETE", "/api/v1/tokens/x", None).expect_status(403);
    server.kill();
    server.start();
    let who = format!("token {} (share script)", made["id"].as_str().unwrap());
    let lines = audit(&server);
    let short: Vec<[&str; 4]> =
        lines.iter().map(|line| ["who", "action", "target", "detail"].map(|field| line[field].as_str().unwrap())).collect();
    assert_eq!(
        short,
        [
            [&who, "token.revoke", "x", "refused: scope_too_small"],
            [&who, "share.create", share["id"].as_str().unwrap(), "film.mkv"],
            ["owner token", "token.create", made["id"].as_str().unwrap(), "share script (share)"],
        ]
    );
    assert!(lines.iter().all(|line| line["from"] == "127.0.0.1"));
    let verdict = server.api("GET", "/api/v1/audit/verify", None).expect_status(200).json();
    assert_eq!((&verdict["is_intact"], &verdict["lines"], &verdict["head"]["hash"]), (&json!(true), &json!(3), &lines[0]["hash"]));
}

#[test]
fn a_batch_answers_for_each_file_whatever_it_is_called() {
    let server = Setup::new().start();
    for name in ["film.mkv", "it's \"quoted\" & <b>.txt", "neu/größe ∞.bin"] {
        put(&server, name, 100);
    }
    put_bytes(&server, b"not utf-8 \xff.bin", 10);
    let listed = server.api("GET", "/api/v1/files", None).expect_status(200).json();
    let odd = listed["entries"].as_array().unwrap().iter().find(|entry| entry["name"].as_str().unwrap().starts_with("not utf-8"));
    let odd = odd.unwrap_or_else(|| panic!("{listed}"))["path"].as_str().unwrap();
    let paths = ["film.mkv", "it's \"quoted\" & <b>.txt", "neu/größe ∞.bin", odd, "neu", "gone", "../etc/passwd"];
    let answer = server.api("POST", "/api/v1/shares", Some(&json!({ "paths": paths }))).expect_status(207).json();
    let results = answer["results"].as_array().unwrap();
    let statuses: Vec<u64> = results.iter().map(|result| result["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [201, 201, 201, 201, 422, 404, 422], "{answer:#}");
    for (result, path) in results.iter().zip(paths) {
        assert_eq!(result["path"], path);
        match result["share"]["url"].as_str() {
            Some(url) => drop(server.fetch("GET", path_of(url), &[BROWSER]).expect("a link works").expect_status(200)),
            None => assert!(result["problem"]["detail"].as_str().is_some_and(|detail| detail.ends_with('.')), "{result}"),
        }
    }
}

#[test]
fn a_file_is_found_by_what_it_is_and_once_it_was_shared_without_looking() {
    let server = Setup::new().start();
    put(&server, "films/holiday.mkv", 2000);
    put(&server, "films/2024/dunes.mkv", 30);
    put(&server, "films/cover.jpg", 500);
    put(&server, "download.mkv.part", 10);
    for name in ["films/holiday.mkv", "films/cover.jpg", "films/2024/dunes.mkv"] {
        let an_hour_ago = SystemTime::now() - Duration::from_secs(3600);
        File::open(server.root.join(name)).unwrap().set_modified(an_hour_ago).unwrap();
    }
    let ask = |target: &str| server.api("GET", target, None).expect_status(200).json();
    let paths = |entries: &Value| -> Vec<String> {
        entries.as_array().unwrap().iter().map(|entry| entry["path"].as_str().unwrap().to_owned()).collect()
    };
    poll(SOON, "the index knows every file and how old it is", || {
        let all = ask("/api/v1/files?everywhere=true&kind=video,image,other");
        let changing = all["entries"].as_array().unwrap().iter().filter(|entry| entry["changing"] == true).count();
        all["index"]["building"] == false && (all["total"].as_u64(), changing) == (Some(4), 1)
    });
    let films = ask("/api/v1/files?query=d&kind=video&min_bytes=100");
    assert_eq!((paths(&films["entries"]), &films["total"]), (vec!["films/holiday.mkv".to_owned()], &json!(1)));
    let here = ask("/api/v1/files?path=films&kind=image,video");
    assert_eq!((paths(&here["entries"]), &here["total"]), (vec!["films/cover.jpg".to_owned(), "films/holiday.mkv".to_owned()], &json!(2)));
    let today = ask("/api/v1/files?everywhere=true&changed_since=2020-01-01&kind=other");
    assert_eq!((paths(&today["entries"]), &today["entries"][0]["changing"]), (vec!["download.mkv.part".to_owned()], &json!(true)));
    assert_eq!(here["entries"][0]["changing"], false);
    let folder = &ask("/api/v1/files")["entries"][0];
    assert_eq!((&folder["path"], &folder["files"], &folder["total_bytes"]), (&json!("films"), &json!(3), &json!(2530)));
    assert_eq!(server.api("GET", "/api/v1/files?kind=films", None).expect_status(422).json()["code"], "bad_query");

    server.revoke(&server.share("films/cover.jpg").id);
    let (id, _) = (server.share("films/holiday.mkv").id, server.share("films/holiday.mkv"));
    server.revoke(&id);
    std::fs::remove_file(server.root.join("films/cover.jpg")).unwrap();
    let recent = ask("/api/v1/recent?limit=3");
    assert_eq!((paths(&recent["shared"]), &recent["shared"][0]["shares"]), (vec!["films/holiday.mkv".to_owned()], &json!(2)));
    assert_eq!((paths(&recent["newest"]).len(), &paths(&recent["newest"])[0][..]), (3, "download.mkv.part"));
}

#[test]
fn the_past_is_found_by_how_it_ended_by_name_and_by_time() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    put(&server, "music/Song.ogg", 10);
    let revoked = server.share("film.mkv");
    server.revoke(&revoked.id);
    server.outcome(&revoked.id);
    let expired = server.share_with(&json!({ "path": "music/Song.ogg", "policy": { "expires_in_seconds": 1 } }));
    assert_eq!(server.outcome(&expired.id), "expired");
    let living = server.share("music/Song.ogg");
    let found = |path: &str| {
        let page = server.api("GET", path, None).expect_status(200).json();
        page["shares"].as_array().unwrap().iter().map(|share| share["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let year = server.show(&revoked.id)["created_at"].as_str().unwrap()[..4].parse::<u32>().unwrap();
    for (path, expected) in [
        ("/api/v1/history".to_owned(), vec![&expired.id, &revoked.id]),
        ("/api/v1/history?outcome=expired".to_owned(), vec![&expired.id]),
        ("/api/v1/history?query=SONG".to_owned(), vec![&expired.id]),
        ("/api/v1/history?query=music/&outcome=revoked".to_owned(), vec![]),
        (format!("/api/v1/history?since={year}-01-01"), vec![&expired.id, &revoked.id]),
        (format!("/api/v1/history?until={}-12-31", year - 1), vec![]),
        (format!("/api/v1/history?since={}-01-01T00:00:00Z", year + 1), vec![]),
        ("/api/v1/shares?query=song".to_owned(), vec![&living.id, &expired.id]),
        ("/api/v1/shares?query=film&state=living".to_owned(), vec![]),
    ] {
        assert_eq!(found(&path).iter().collect::<Vec<_>>(), expected, "{path}");
    }
    let first = server.api("GET", "/api/v1/history?limit=1", None).expect_status(200).json();
    assert_eq!(found(&format!("/api/v1/history?limit=1&cursor={}", first["next_cursor"].as_str().unwrap())), [revoked.id.as_str()]);
    for path in ["/api/v1/history?outcome=nice", "/api/v1/history?since=yesterday", "/api/v1/stats?from=2026-02-30"] {
        assert_eq!(server.api("GET", path, None).expect_status(422).json()["code"], "bad_query", "{path}");
    }
    let stats = server.api("GET", "/api/v1/stats", None).expect_status(200).json();
    assert_eq!((&stats["shares"]["made"], &stats["shares"]["outcomes"]), (&json!(3), &json!({ "expired": 1, "revoked": 1 })), "{stats:#}");
    assert_eq!((stats["days"].as_array().unwrap().len(), &stats["shares"]["success_percent"]), (30, &json!(0)));
}

#[test]
fn a_request_is_found_in_the_log_by_its_id() {
    let server = Setup::new().set("LOG_FORMAT", "json").set("LOG", "debug").start();
    let ask = |id: &str| {
        let headers = [format!("Authorization: Bearer {}", server.token), format!("X-Request-Id: {id}")];
        let headers = [headers[0].as_str(), &headers[1], "Connection: close"];
        Client::connect(server.owner).request("POST", "/admin/cleanup", &headers).expect("an answer").header("x-request-id").unwrap()
    };
    assert_eq!(ask("from-a.proxy_7"), "from-a.proxy_7");
    for strange in ["", "a b", "a;b", &"x".repeat(65)] {
        let given = ask(strange);
        assert!(given != strange && given.len() == 32, "{strange:?}: {given}");
    }
    poll(SOON, "the log speaks of the request", || {
        let log = server.log_text();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let of_it: Vec<Value> = lines.filter(|line| line.to_string().contains("from-a.proxy_7")).collect();
        of_it.iter().any(|line| line["audit.action"] == "shares.cleanup") && of_it.iter().any(|line| line["http.status"] == 200)
    });
}
