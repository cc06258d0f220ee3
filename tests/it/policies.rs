//! What an owner may ask of a link, as the recipient meets it.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::harness::{
    Answer, BROWSER, Client, Server, Setup, download_folder, only_where_arrival_is_seen, put, sha256, sha256_of_file, tool,
};

const CURL: &str = "User-Agent: curl/8.5.0";

/// Asks the recipient side from an address of one's own.
fn from(server: &Server, address: [u8; 4], method: &str, path: &str, headers: &[&str]) -> Answer {
    let mut client = Client::connect_from(server.recipient, Ipv4Addr::from(address));
    client.request(method, path, headers).expect("a genuine link is answered")
}

#[test]
fn curl_has_the_bytes_at_the_link_without_being_told_to_follow() {
    let server = Setup::new().set("GRACE_PERIOD_SECONDS", 1).start();
    let content = put(&server, "holiday film.mkv", 3_000_000);
    let offer = server.share("holiday film.mkv");
    let folder = download_folder(&server);
    let curl = tool(&folder, "curl", &["-sS", "-q", "--fail", "-OJ", &offer.url]);
    assert!(curl.status.success(), "{}", String::from_utf8_lossy(&curl.stderr));
    assert_eq!(sha256_of_file(&folder.join("holiday film.mkv")), sha256(&content));
    assert_eq!(server.outcome(&offer.id), "completed");
    assert_eq!(server.uses(&offer.id), 1);
    let again = tool(&folder, "curl", &["-sS", "-q", "--fail", "-o", "again", &offer.url]);
    assert!(!again.status.success() && !folder.join("again").exists(), "it was for one download");
}

#[test]
fn the_answer_at_the_link_is_the_transfers_own_and_the_others_are_led_to_it() {
    let server = Setup::new().start();
    let content = put(&server, "film.mkv", 100_000);
    let offer = server.share("film.mkv");
    let mut client = Client::connect(server.recipient);
    let first = client.request("GET", &offer.link, &[CURL, "Range: bytes=0-99"]).expect("an answer").expect_status(206);
    assert_eq!(first.header("content-range").as_deref(), Some("bytes 0-99/100000"));
    assert!(first.header("content-disposition").unwrap().contains("film.mkv"), "{}", first.head_text());
    assert_eq!(first.body, content[..100]);
    // The same connection goes on; the transfer's own URL is named relative to the link's.
    let location = first.header("content-location").expect("it is named");
    let transfer = crate::harness::resolve(&offer.link, &location);
    let rest = client.request("GET", &transfer, &[CURL, "Range: bytes=100-"]).expect("an answer").expect_status(206);
    assert_eq!(rest.body, content[100..]);
    assert!(rest.header("content-location").is_none());
    assert_eq!(server.uses(&offer.id), 1);
    for (agent, path) in [("User-Agent: Wget/1.21.3", ""), ("User-Agent: aria2/1.36.0", ""), (BROWSER, "?dl=1")] {
        let offer = server.share("film.mkv");
        let led = client.request("GET", &format!("{}{path}", offer.link), &[agent]).expect("an answer");
        assert_eq!(led.expect_status(302).body.len(), 0, "{agent}");
    }
}

#[test]
fn without_a_limit_everybody_gets_it_until_it_ends() {
    let server = Setup::new().set("GRACE_PERIOD_SECONDS", 1).start();
    let content = put(&server, "film.mkv", 50_000);
    let offer = server.share_with(&json!({ "path": "film.mkv", "policy": { "unlimited_downloads": true } }));
    for n in 1..=40_u8 {
        let answer = from(&server, [127, 0, 2, n], "GET", &offer.link, &[CURL]).expect_status(200);
        assert_eq!(sha256(&answer.body), sha256(&content));
    }
    let share = server.wait_for(&offer.id, "all of them are counted", |share| share["state_text"] == "40 delivered. Ready for more.");
    assert_eq!((&share["state"], &share["policy"]["max_downloads"], &share["transfers"]), (&json!("offered"), &Value::Null, &json!(40)));
    assert!(share["policy_text"].as_str().unwrap().starts_with("For any number of downloads, open until "), "{share}");
    let page = from(&server, [127, 0, 2, 99], "GET", &offer.link, &[BROWSER]).expect_status(200).text();
    assert!(page.contains("This link works as often as you like, until it ends."), "{page}");
    let extended = server.api("POST", &format!("/api/v1/shares/{}/extend", offer.id), Some(&json!({ "expires_in_seconds": 1 })));
    extended.expect_status(200);
    assert_eq!(server.outcome(&offer.id), "completed");
    let log = server.log_text();
    assert!(log.contains("A transfer ended") && !log.contains("127.0.2."), "the log tells where recipients are: {log}");
}

#[test]
fn a_link_for_some_networks_works_from_them_alone() {
    let server = Setup::new().start();
    let content = put(&server, "film.mkv", 100_000);
    let policy = json!({ "allowed_networks": ["127.0.5.0/24", "2001:db8::1"] });
    let offer = server.share_with(&json!({ "path": "film.mkv", "policy": policy }));
    assert_eq!(server.show(&offer.id)["policy"]["allowed_networks"], json!(["127.0.5.0/24", "2001:db8::1/128"]));
    for (method, path, agent) in
        [("GET", &offer.link, BROWSER), ("GET", &offer.link, CURL), ("POST", &offer.redeem_path(), BROWSER), ("HEAD", &offer.link, BROWSER)]
    {
        let refused = from(&server, [127, 0, 6, 1], method, path, &[agent]).expect_status(403);
        assert!(refused.header("location").is_none() && !refused.text().contains("film.mkv"), "{}", refused.text());
        assert!(method == "HEAD" || refused.text().contains("This link is for another network."), "{}", refused.text());
    }
    assert_eq!(server.uses(&offer.id), 0, "who may not have it spends nothing");
    let transfer = from(&server, [127, 0, 5, 7], "POST", &offer.redeem_path(), &[BROWSER]).expect_status(303).location();
    // The transfer's own URL is of no use elsewhere either.
    let carried_off = from(&server, [127, 0, 6, 1], "GET", &transfer, &[BROWSER]).expect_status(403);
    assert!(carried_off.text().contains("This link is for another network."));
    let answer = from(&server, [127, 0, 5, 8], "GET", &transfer, &[BROWSER]).expect_status(200);
    assert_eq!(sha256(&answer.body), sha256(&content));
}

#[test]
fn behind_a_proxy_of_ours_it_is_the_real_address_that_counts() {
    let server = Setup::new().set("TRUSTED_PROXIES", "127.0.0.1").start();
    put(&server, "film.mkv", 1000);
    let offer = server.share_with(&json!({ "path": "film.mkv", "policy": { "allowed_networks": ["203.0.113.0/24"] } }));
    let mut proxy = Client::connect(server.recipient);
    for headers in [&["X-Forwarded-For: 198.51.100.1"][..], &["X-Forwarded-For: 203.0.113.1, 198.51.100.1"], &[]] {
        let refused = proxy.request("GET", &offer.link, &[&[CURL], headers].concat()).expect("an answer");
        assert_eq!(refused.status, 403, "{headers:?}");
    }
    // Who is no proxy of ours is not believed.
    let liar = from(&server, [127, 0, 6, 1], "GET", &offer.link, &[CURL, "X-Forwarded-For: 203.0.113.1"]);
    assert_eq!(liar.status, 403);
    proxy.request("GET", &offer.link, &[CURL, "X-Forwarded-For: 203.0.113.1"]).expect("an answer").expect_status(200);
}

#[test]
fn the_recipient_reads_what_the_sender_has_to_say() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    let message = "Hello Ann,\n<b>our film</b> from https://example.org & co. ❤";
    let body = json!({ "path": "film.mkv", "message": message, "note": "for me alone", "policy": { "max_bytes_per_second": 2_000_000 } });
    let offer = server.share_with(&body);
    let share = server.show(&offer.id);
    assert_eq!((share["message"].as_str(), share["note"].as_str()), (Some(message), Some("for me alone")));
    let page = server.fetch("GET", &offer.link, &[BROWSER]).expect("an answer").expect_status(200).text();
    let shown = "Hello Ann,\n&lt;b&gt;our film&lt;/b&gt; from https://example.org &amp; co. ❤";
    assert!(page.contains(&format!("</p>{shown}</blockquote>")), "{page}");
    assert!(!page.contains("for me alone") && !page.contains("<a "), "{page}");
    assert!(page.contains("The sender lets it go at 2.0 MB/s at most."), "{page}");
}

#[test]
fn rules_that_make_no_sense_are_refused_with_a_sentence_and_nothing_is_made() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    let many: Vec<String> = (0..17).map(|n| format!("10.0.{n}.0/24")).collect();
    for (policy, code, sentence) in [
        (json!({ "max_downloads": 2, "unlimited_downloads": true }), "bad_policy", "exclude each other"),
        (json!({ "unlimited_downloads": "yes" }), "bad_field", "policy.unlimited_downloads must be true or false."),
        (json!({ "allowed_networks": many }), "bad_policy", "at most 16 networks"),
        (json!({ "allowed_networks": "10.0.0.0/8" }), "bad_field", "policy.allowed_networks must be a list of texts."),
        (json!({ "allowed_networks": [10] }), "bad_field", "policy.allowed_networks must be a list of texts."),
        (json!({ "allowed_networks": ["10.0.0.0/33"] }), "bad_field", "\"10.0.0.0/33\" is no address and no network"),
        (json!({ "max_bytes_per_second": 16383 }), "bad_policy", "max_bytes_per_second must be 16384 or more."),
        (json!({ "max_bytes_per_second": 0 }), "bad_field", "policy.max_bytes_per_second"),
        (json!({ "max_bytes_per_second": 1e9 }), "bad_field", "policy.max_bytes_per_second"),
    ] {
        let answer = server.api("POST", "/api/v1/shares", Some(&json!({ "path": "film.mkv", "policy": policy }))).expect_status(422);
        let problem = answer.json();
        assert_eq!(problem["code"], code, "{policy}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(sentence), "{policy}: {problem}");
    }
    let message = "m".repeat(1001);
    let answer = server.api("POST", "/api/v1/shares", Some(&json!({ "path": "film.mkv", "message": message }))).expect_status(422);
    assert_eq!(answer.json()["code"], "bad_message");
    assert_eq!(server.api("GET", "/api/v1/shares", None).json()["shares"], json!([]));
    // What stands at the bound is fine.
    let policy = json!({ "max_bytes_per_second": 16384, "allowed_networks": many[..16], "unlimited_downloads": false });
    server.share_with(&json!({ "path": "film.mkv", "policy": policy, "message": "m".repeat(1000) }));
}

/// Returns where a transfer's progress is told: beside its bytes.
fn live_path(transfer: &str) -> String {
    let (to_secret, _) = transfer.rsplit_once('/').expect("a name ends it");
    to_secret.replacen("/get/", "/live/", 1)
}

fn events(text: &str) -> Vec<Value> {
    let data = text.split("\n\n").filter_map(|event| event.strip_prefix("event: progress\ndata: "));
    data.map(|data| serde_json::from_str(data).expect("JSON")).collect()
}

#[test]
fn a_recipient_may_watch_their_own_transfer_from_its_beginning_to_its_end() {
    if only_where_arrival_is_seen("of what is shorter than a slice nothing is known before it is over") {
        return;
    }
    let server = Setup::new().start();
    put(&server, "film.mkv", 300_000);
    let offer = server.share_with(&json!({ "path": "film.mkv", "policy": { "max_bytes_per_second": 150_000 } }));
    let transfer = server.redeem(&offer);
    let path = live_path(&transfer);
    let watched = std::thread::scope(|scope| {
        let mut watching = Client::connect(server.recipient);
        watching.ask("GET", &path, &[BROWSER]);
        let first = String::from_utf8(watching.read_some(2000)).expect("text");
        assert!(first.contains("\r\nTransfer-Encoding: chunked\r\n") && first.contains("text/event-stream"), "{first}");
        let fetching = scope.spawn(|| server.fetch("GET", &transfer, &[BROWSER]).expect("an answer").expect_status(200));
        let watched = server.fetch("GET", &path, &[BROWSER]).expect("an answer").expect_status(200);
        assert_eq!(fetching.join().expect("fetched").body.len(), 300_000);
        watched
    });
    let seen = events(&watched.text());
    let bytes: Vec<u64> = seen.iter().map(|event| event["delivered_bytes"].as_u64().unwrap()).collect();
    assert!(bytes.is_sorted() && seen.len() >= 3, "{seen:#?}");
    assert!(seen.iter().any(|event| event["state"] == "transferring" && event["eta_seconds"].is_u64()), "{seen:#?}");
    let whole = json!({
        "state": "completed", "title": "Delivered, all of it.", "text": "300 kB of 300 kB", "delivered_bytes": 300_000,
        "size_bytes": 300_000, "percent": 100, "evidence": "acknowledged", "bytes_per_second": 0, "eta_seconds": null,
    });
    assert_eq!(seen.last(), Some(&whole));
    // Whoever comes later reads the end; a client of 1.0 without chunks.
    let mut old = Client::connect(server.recipient);
    old.send(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes());
    let answer = String::from_utf8(old.read_to_close(std::time::Duration::from_secs(20))).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("Connection: close") && !head.contains("chunked"), "{head}");
    assert_eq!(events(body), [whole]);
}

#[test]
fn who_may_watch_and_how_many_at_once_is_bounded() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 300_000);
    let policy = json!({ "allowed_networks": ["127.0.0.0/24"] });
    let offer = server.share_with(&json!({ "path": "film.mkv", "policy": policy }));
    let transfer = server.redeem(&offer);
    let path = live_path(&transfer);
    let (share, secret) = (&offer.id, path.rsplit('/').next().unwrap());
    let other = server.share("film.mkv").id;
    for unknown in
        [format!("/{share}/live/{}", "0".repeat(32)), format!("/{other}/live/{secret}"), format!("/{share}/live/"), format!("{path}0")]
    {
        assert!(server.fetch("GET", &unknown, &[BROWSER]).is_none(), "{unknown} is met with silence");
    }
    assert!(server.fetch("POST", &path, &[BROWSER]).is_none());
    assert_eq!(from(&server, [127, 0, 6, 1], "GET", &path, &[BROWSER]).status, 403);
    let mut watching: Vec<Client> = (0..4).map(|_| Client::connect(server.recipient)).collect();
    for client in &mut watching {
        client.ask("GET", &path, &[BROWSER, "Connection: close"]);
        client.answer_head().expect("an answer").expect_status(200);
    }
    let one_more = server.fetch("GET", &path, &[BROWSER]).expect("an answer").expect_status(503);
    assert!(one_more.header("retry-after").is_some());
    // Whoever leaves makes room.
    watching.pop().expect("four").reset();
    let mut late = Client::connect(server.recipient);
    crate::harness::poll(crate::harness::SOON, "there is room again", || {
        late = Client::connect(server.recipient);
        late.ask("GET", &path, &[BROWSER, "Connection: close"]);
        late.answer_head().expect("an answer").status == 200
    });
    // When the owner closes the link everybody reads it, and the streams end.
    server.revoke(&offer.id);
    for mut client in watching.into_iter().chain([late]) {
        let rest = String::from_utf8(client.read_to_close(crate::harness::SOON)).expect("text");
        assert!(
            rest.contains(r#""state":"cut""#) && rest.contains("The sender closed this link.") && rest.ends_with("0\r\n\r\n"),
            "{rest}"
        );
    }
}
