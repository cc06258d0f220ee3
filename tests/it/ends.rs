//! A share ends when it should, and from that instant nobody gets a first byte.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{BROWSER, Client, Offer, SOON, Server, Setup, download_folder, only_where_arrival_is_seen, poll, put, sha256, tool};

const MIB: usize = 1024 * 1024;

/// Nobody gets anything of the share but a page that says why.
fn assert_shut(server: &Server, offer: &Offer, transfers: &[String]) {
    let mut tries = vec![("POST", offer.redeem_path()), ("GET", offer.link.clone()), ("GET", format!("{}?dl=1", offer.link))];
    tries.extend(transfers.iter().map(|path| ("GET", path.clone())));
    for (method, path) in tries {
        for agent in [BROWSER, "User-Agent: curl/8.5.0"] {
            let mut client = Client::connect_from(server.recipient, Ipv4Addr::new(127, 3, 3, 3));
            let answer = client.request(method, &path, &[agent]).unwrap_or_else(|| panic!("{method} {path}: no answer"));
            assert_eq!(answer.status, 410, "{method} {path} {agent}:\n{}", answer.head_text());
            assert!(answer.header("location").is_none() && answer.header("content-disposition").is_none());
            assert!(answer.header("content-type").is_some_and(|t| t.starts_with("text/html")), "{}", answer.head_text());
        }
    }
}

#[test]
fn an_expired_link_gives_no_first_byte() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    let offer = server.share_with(&json!({ "path": "film.mkv", "policy": { "expires_in_seconds": 1 } }));
    assert_eq!(server.outcome(&offer.id), "expired");
    assert_shut(&server, &offer, &[]);
    assert_eq!(server.uses(&offer.id), 0);
}

#[test]
fn a_link_is_refused_in_the_very_second_it_expires() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    let asked = Instant::now();
    let offer = server.share_with(&json!({ "path": "film.mkv", "policy": { "expires_in_seconds": 2, "max_downloads": 1000 } }));
    poll(SOON, "the link is refused", || {
        let before = asked.elapsed();
        let answer = server.fetch("POST", &offer.redeem_path(), &["Connection: close"]).expect("a genuine link is answered");
        // The clock began to run before the request to share was answered; the answer's own time is no reason to be late.
        assert!(answer.status == 410 || before < Duration::from_secs(3), "redeemed {before:?} after it was made for 2 s");
        answer.status == 410
    });
}

#[test]
fn a_revoked_link_gives_no_first_byte() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    let (fresh, taken) = (server.share("film.mkv"), server.share("film.mkv"));
    let transfer = server.redeem(&taken);
    for offer in [&fresh, &taken] {
        server.revoke(&offer.id);
        // No wait: the answer to the DELETE is the promise.
        let answer = server.fetch("POST", &offer.redeem_path(), &[BROWSER]).expect("a genuine link is answered");
        assert_eq!(answer.status, 410, "{}", answer.head_text());
        server.revoke(&offer.id);
        assert_eq!(server.outcome(&offer.id), "revoked");
    }
    assert_shut(&server, &fresh, &[]);
    assert_shut(&server, &taken, &[transfer]);
}

#[test]
fn a_spent_link_gives_no_first_byte_and_the_transfer_ends_with_its_grace() {
    let server = Setup::new().set("GRACE_PERIOD_SECONDS", 2).start();
    let content = put(&server, "film.mkv", 10_000);
    let offer = server.share("film.mkv");
    let transfer = server.redeem(&offer);
    server.fetch("GET", &transfer, &[BROWSER]).expect("an answer").expect_status(200);
    server.wait_for(&offer.id, "it is delivered", |share| share["state"] == "delivered");
    let again = server.fetch("GET", &transfer, &[BROWSER]).expect("an answer").expect_status(200);
    assert_eq!(sha256(&again.body), sha256(&content), "during grace the same transfer may fetch again");
    let mut stranger = Client::connect_from(server.recipient, Ipv4Addr::new(127, 3, 3, 3));
    let answer = stranger.request("POST", &offer.redeem_path(), &[BROWSER]).expect("a genuine link is answered");
    assert_eq!(answer.status, 410, "during grace nobody new may redeem");
    assert_eq!(server.outcome(&offer.id), "completed");
    assert_shut(&server, &offer, &[transfer]);
}

#[test]
fn a_transfer_ends_with_its_own_grace_also_where_the_link_works_on() {
    let server = Setup::new().set("GRACE_PERIOD_SECONDS", 1).start();
    put(&server, "film.mkv", 1000);
    let offer = server.share_with(&json!({ "path": "film.mkv", "policy": { "max_downloads": 2 } }));
    let transfer = server.redeem(&offer);
    server.fetch("GET", &transfer, &[]).expect("an answer").expect_status(200);
    poll(SOON, "the transfer is over", || server.fetch("GET", &transfer, &[]).expect("an answer").status == 410);
    assert_eq!(server.show(&offer.id)["state"], "offered");
    server.redeem(&offer);
}

#[test]
fn a_link_for_three_downloads_gives_three() {
    let server = Setup::new().set("GRACE_PERIOD_SECONDS", 1).start();
    put(&server, "film.mkv", 1000);
    let offer = server.share_with(&json!({ "path": "film.mkv", "policy": { "max_downloads": 3 } }));
    for _ in 0..3 {
        let transfer = server.redeem(&offer);
        server.fetch("GET", &transfer, &[]).expect("an answer").expect_status(200);
    }
    let answer = server.fetch("POST", &offer.redeem_path(), &[BROWSER]).expect("a genuine link is answered");
    assert!(matches!(answer.status, 409 | 410), "{}", answer.head_text());
    assert_eq!(server.outcome(&offer.id), "completed");
    assert_eq!(server.uses(&offer.id), 3);
}

#[test]
fn a_revoke_cuts_the_bytes_in_flight() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 64 * MIB);
    let offer = server.share("film.mkv");
    let transfer = server.redeem(&offer);
    let mut client = Client::connect_with_small_buffer(server.recipient, 16 * 1024);
    client.ask("GET", &transfer, &[]);
    assert_eq!(client.answer_head().expect("an answer").status, 200);
    let mut got = 0;
    while got < MIB {
        got += client.read_some(64 * 1024).len();
    }
    let revoked = Instant::now();
    server.revoke(&offer.id);
    let rest = client.read_to_close(Duration::from_secs(10)).len();
    assert!(revoked.elapsed() < Duration::from_secs(4), "the bytes went on for {:?}", revoked.elapsed());
    assert!(got + rest < 16 * MIB, "{rest} bytes came after the revoke");
    assert_eq!(server.outcome(&offer.id), "revoked");
    let share = server.show(&offer.id);
    assert!(share["progress"]["percent"].as_u64().unwrap() < 100, "{share:#}");
}

#[test]
fn a_revoke_cuts_the_last_bytes_of_a_connection_that_closes() {
    const SIZE: usize = 60_000;
    if only_where_arrival_is_seen("nginx has all of it, and its connections are not seen") {
        return;
    }
    let server = Setup::new().start();
    put(&server, "film.mkv", SIZE);
    let offer = server.share("film.mkv");
    let transfer = server.redeem(&offer);
    // All of it fits into the server's send buffer, and little of it into the recipient's.
    let mut client = Client::connect_with_small_buffer(server.recipient, 2048);
    client.ask("GET", &transfer, &["Connection: close"]);
    client.answer_head().expect("an answer").expect_status(200);
    server.revoke(&offer.id);
    assert_eq!(server.outcome(&offer.id), "revoked");
    let rest = client.read_to_close(Duration::from_secs(10)).len();
    assert!(rest < SIZE, "all of it came after the revoke");
}

#[test]
fn a_revoke_cuts_a_reader_who_does_not_read() {
    if only_where_arrival_is_seen("of whoever reads nothing nobody knows what they have") {
        return;
    }
    let server = Setup::new().start();
    put(&server, "film.mkv", 64 * MIB);
    let offer = server.share("film.mkv");
    let transfer = server.redeem(&offer);
    let mut client = Client::connect_with_small_buffer(server.recipient, 16 * 1024);
    client.ask("GET", &transfer, &[]);
    assert_eq!(client.answer_head().expect("an answer").status, 200);
    server.wait_for(&offer.id, "the reader's buffer is full", |share| share["progress"]["delivered_bytes"].as_u64() > Some(0));
    server.revoke(&offer.id);
    assert_eq!(server.outcome(&offer.id), "revoked", "closing does not wait for a reader who never comes");
    client.read_to_close(Duration::from_secs(10));
}

#[test]
fn a_stall_closes_the_share() {
    let server = Setup::new().set("STALL_TIMEOUT_SECONDS", 2).start();
    put(&server, "film.mkv", 64 * MIB);
    let offer = server.share("film.mkv");
    let transfer = server.redeem(&offer);
    let mut client = Client::connect_with_small_buffer(server.recipient, 16 * 1024);
    client.ask("GET", &transfer, &[]);
    assert_eq!(client.answer_head().expect("an answer").status, 200);
    let started = Instant::now();
    client.read_some(1000);
    assert_eq!(server.outcome(&offer.id), "stalled");
    assert!(started.elapsed() > Duration::from_millis(1500), "it waited for the reader");
    client.read_to_close(Duration::from_secs(10));
    assert_shut(&server, &offer, &[transfer]);
}

#[test]
fn a_stall_with_on_stall_reopen_gives_the_link_back() {
    let server = Setup::new().set("STALL_TIMEOUT_SECONDS", 2).start();
    let content = put(&server, "film.mkv", 8 * MIB);
    let offer = server.share_with(&json!({ "path": "film.mkv", "policy": { "on_stall": "reopen" } }));
    let transfer = server.redeem(&offer);
    let mut client = Client::connect_with_small_buffer(server.recipient, 16 * 1024);
    client.ask("GET", &transfer, &[]);
    assert_eq!(client.answer_head().expect("an answer").status, 200);
    server.wait_for(&offer.id, "the link is back", |share| share["state"] == "offered");
    let second = server.redeem(&offer);
    let answer = server.fetch("GET", &second, &[]).expect("an answer").expect_status(200);
    assert_eq!(sha256(&answer.body), sha256(&content));
    let old = server.fetch("GET", &transfer, &[]).expect("an answer");
    assert_eq!(old.status, 410, "the transfer that stalled is over: {}", old.head_text());
}

/// What happens to the file while it is being sent.
type Change = fn(&Path);

const CHANGES: &[(&str, Change)] = &[
    ("truncated", |path| file(path).set_len(5 * MIB as u64).unwrap()),
    ("grown", |path| {
        let mut file = file(path);
        file.seek(SeekFrom::End(0)).unwrap();
        file.write_all(b"more").unwrap();
    }),
    ("replaced by rename", |path| {
        let other = path.with_extension("new");
        fs::write(&other, vec![7; 64 * MIB]).unwrap();
        fs::rename(&other, path).unwrap();
    }),
    ("rewritten in place", |path| {
        let mut file = file(path);
        file.seek(SeekFrom::Start(40 * MIB as u64)).unwrap();
        file.write_all(&vec![7; MIB]).unwrap();
    }),
];

fn file(path: &Path) -> fs::File {
    fs::OpenOptions::new().write(true).open(path).unwrap()
}

#[test]
fn a_file_that_changes_while_it_is_sent_ends_the_transfer_and_nobody_gets_a_mixed_file() {
    for (what, change) in CHANGES {
        let server = Setup::new().start();
        put(&server, "film.mkv", 64 * MIB);
        let offer = server.share("film.mkv");
        let transfer = server.redeem(&offer);
        let mut client = Client::connect_with_small_buffer(server.recipient, 64 * 1024);
        client.ask("GET", &transfer, &[]);
        let head = client.answer_head().expect("an answer");
        let mut got = 0;
        while got < 2 * MIB {
            got += client.read_some(64 * 1024).len();
        }
        change(&server.root.join("film.mkv"));
        // Read on without haste, or a fast loopback would have it all before anybody can look at the file again.
        loop {
            let n = client.read_some(256 * 1024).len();
            got += n;
            if n == 0 {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let announced: usize = head.header("content-length").unwrap().parse().unwrap();
        assert!(got < announced, "{what}: the client must see an incomplete download, not {got} of {announced}");
        assert_eq!(server.outcome(&offer.id), "source_changed", "{what}");
        assert_shut(&server, &offer, &[transfer]);
    }
}

#[test]
fn curl_reports_a_failure_when_the_file_changes_under_it() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 64 * MIB);
    let offer = server.share("film.mkv");
    let folder = download_folder(&server);
    let output = std::thread::scope(|scope| {
        let curl = scope.spawn(|| tool(&folder, "curl", &["-sS", "-q", "-L", "--limit-rate", "4M", "-o", "out", &offer.url]));
        server.wait_for(&offer.id, "the bytes move", |share| share["progress"]["delivered_bytes"].as_u64() > Some(1000));
        (CHANGES[3].1)(&server.root.join("film.mkv"));
        curl.join().expect("curl ran")
    });
    assert!(!output.status.success(), "curl must not call this a success");
    assert_eq!(server.outcome(&offer.id), "source_changed");
}

#[test]
fn a_file_that_changed_before_anybody_came_is_not_sent() {
    for (what, change) in CHANGES {
        let server = Setup::new().start();
        put(&server, "film.mkv", 64 * MIB);
        let offer = server.share("film.mkv");
        change(&server.root.join("film.mkv"));
        let answer = server.fetch("POST", &offer.redeem_path(), &[BROWSER]).expect("a genuine link is answered");
        if answer.status == 303 {
            let answer = server.fetch("GET", &answer.location(), &[BROWSER]).expect("an answer");
            assert!(answer.status >= 400, "{what}: {}", answer.head_text());
        }
        assert_eq!(server.outcome(&offer.id), "source_changed", "{what}");
    }
}

#[test]
fn a_file_that_is_gone_is_not_sent() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    let offer = server.share("film.mkv");
    fs::remove_file(server.root.join("film.mkv")).unwrap();
    let mut path = offer.redeem_path();
    let mut method = "POST";
    let answer = loop {
        let answer = server.fetch(method, &path, &[BROWSER]).expect("a genuine link is answered");
        if answer.status != 303 {
            break answer;
        }
        (method, path) = ("GET", answer.location());
    };
    assert!((400..=503).contains(&answer.status) && answer.status != 500, "{}", answer.head_text());
}

#[test]
fn an_extended_link_outlives_its_first_expiry_and_a_reopened_share_has_another_link() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    let offer = server.share_with(&json!({ "path": "film.mkv", "policy": { "expires_in_seconds": 2 } }));
    let extend = format!("/api/v1/shares/{}/extend", offer.id);
    server.api("POST", &extend, Some(&json!({ "expires_in_seconds": 600 }))).expect_status(200);
    std::thread::sleep(Duration::from_millis(2500));
    let page = server.fetch("GET", &offer.link, &[BROWSER]).expect("an answer");
    assert_eq!(page.status, 200, "the owner gave it more time: {}", page.head_text());

    server.revoke(&offer.id);
    assert_eq!(server.outcome(&offer.id), "revoked");
    let answer = server.api("POST", &format!("/api/v1/shares/{}/reopen", offer.id), None);
    assert!(matches!(answer.status, 200..=202), "{}\n{}", answer.head_text(), answer.text());
    let again = Offer::from_json(&server.wait_for(&offer.id, "it is open again", |share| share["state"] == "offered"));
    assert_ne!(again.link, offer.link);
    let old = server.fetch("POST", &offer.redeem_path(), &[BROWSER]).expect("a genuine link is answered");
    assert_eq!(old.status, 410, "the old link stays dead: {}", old.head_text());
    let transfer = server.redeem(&again);
    server.fetch("GET", &transfer, &[]).expect("an answer").expect_status(200);
}
