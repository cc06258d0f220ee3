//! `kill -9` at any moment loses nothing that was promised.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::harness::{BROWSER, Client, SOON, Server, Setup, only_embedded, poll, put, random_below, sha256};

const MIB: usize = 1024 * 1024;
/// How often the server is killed under one download.
const KILLS: usize = 12;

#[test]
fn a_transfer_goes_on_after_a_crash_at_the_same_address_and_the_link_stays_spent() {
    if only_embedded("nginx sends on while the program is dead, and it is looked after again; nginx::product has that") {
        return;
    }
    let mut server = Setup::new().set("GRACE_PERIOD_SECONDS", 1).start();
    let content = put(&server, "film.mkv", 8 * MIB);
    let offer = server.share("film.mkv");
    let transfer = server.redeem(&offer);

    let mut client = Client::connect_with_small_buffer(server.recipient, 16 * 1024);
    client.ask("GET", &transfer, &[]);
    assert_eq!(client.answer_head().expect("an answer").status, 200);
    let mut got = Vec::new();
    while got.len() < 3 * MIB {
        got.extend(client.read_some(64 * 1024));
    }
    server.kill();
    got.extend(client.read_to_close(Duration::from_secs(10)));
    assert!(got.len() < content.len(), "the kill came in the middle");

    server.start();
    let share = server.show(&offer.id);
    assert!(matches!(share["state"].as_str(), Some("waiting" | "transferring" | "opening")), "{share:#}");
    let answer = server.fetch("POST", &offer.redeem_path(), &[BROWSER]).expect("a genuine link is answered");
    assert!(matches!(answer.status, 409 | 410), "the link is still spent:\n{}", answer.head_text());

    let range = format!("Range: bytes={}-", got.len());
    let rest = server.fetch("GET", &transfer, &[&range]).expect("an answer").expect_status(206);
    got.extend(rest.body);
    assert_eq!(sha256(&got), sha256(&content));
    assert_eq!(server.outcome(&offer.id), "completed");
    assert_eq!(server.uses(&offer.id), 1);
}

#[test]
fn a_closed_share_stays_closed_whatever_moment_the_crash_takes() {
    let mut server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    let untouched = server.share("film.mkv");
    for _ in 0..5 {
        let offer = server.share("film.mkv");
        let transfer = server.redeem(&offer);
        server.revoke(&offer.id);
        server.kill();
        server.start();
        assert_eq!(server.outcome(&offer.id), "revoked");
        for (method, path) in [("POST", &offer.redeem_path()), ("GET", &offer.link)] {
            let answer = server.fetch(method, path, &[BROWSER]).expect("a genuine link is answered");
            assert_eq!(answer.status, 410, "{method} {path}: {}", answer.head_text());
        }
        // Whose secret a transfer's was need not be remembered for ever; that it gives nothing must be.
        let answer = server.fetch("GET", &transfer, &[BROWSER]);
        assert!(answer.is_none_or(|a| a.status == 410), "{transfer}");
    }
    let living = server.api("GET", "/api/v1/shares?state=living", None).expect_status(200).json();
    let ids: Vec<&str> = living["shares"].as_array().unwrap().iter().map(|s| s["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [&untouched.id], "the share that nobody closed is there, and no other");
    let transfer = server.redeem(&untouched);
    server.fetch("GET", &transfer, &[]).expect("an answer").expect_status(200);
}

#[test]
fn every_share_that_was_answered_for_is_there_after_a_crash() {
    let mut server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    for _ in 0..5 {
        let offers: Vec<_> = (0..5).map(|_| server.share_with(&json!({ "path": "film.mkv", "note": "keep" }))).collect();
        server.kill();
        server.start();
        for offer in &offers {
            assert_eq!(server.show(&offer.id)["note"], "keep");
            let page = server.fetch("GET", &offer.link, &[BROWSER]).expect("a genuine link is answered");
            assert_eq!(page.status, 200, "{}", page.head_text());
        }
    }
}

#[test]
fn a_download_that_is_killed_a_dozen_times_at_random_moments_arrives_whole_as_one_use() {
    let mut server = Setup::new().set("GRACE_PERIOD_SECONDS", 30).start();
    let content = put(&server, "film.mkv", 24 * MIB);
    let offer = server.share("film.mkv");
    let transfer = server.redeem(&offer);
    let recipient = server.recipient;
    let done = AtomicBool::new(false);
    let got = std::thread::scope(|scope| {
        let download = scope.spawn(|| {
            let mut got = Vec::new();
            poll(SOON * 6, "the download ends", || {
                fetch_on(recipient, &transfer, &mut got, content.len());
                got.len() >= content.len()
            });
            done.store(true, Ordering::SeqCst);
            got
        });
        for _ in 0..KILLS {
            std::thread::sleep(Duration::from_millis(random_below(250)));
            if done.load(Ordering::SeqCst) {
                break;
            }
            server.kill();
            server.start();
        }
        download.join().expect("the download goes on")
    });
    assert_eq!(sha256(&got), sha256(&content));
    server.wait_for(&offer.id, "it is delivered", |share| share["state"] == "delivered");
    assert_eq!(server.uses(&offer.id), 1);
    assert_eq!(server.show(&offer.id)["progress"]["percent"], 100);
}

/// Fetches from where `got` ends, slowly enough that kills fall into it, until the connection ends.
fn fetch_on(recipient: std::net::SocketAddr, transfer: &str, got: &mut Vec<u8>, size: usize) {
    let Ok(mut client) = Client::try_connect(recipient, None, Some(16 * 1024)) else { return };
    client.ask("GET", transfer, &[&format!("Range: bytes={}-", got.len())]);
    let Some(head) = client.answer_head() else { return };
    // For a moment after a start the door may still be opening.
    if matches!(head.status, 403 | 409 | 503) {
        return;
    }
    assert_eq!(head.status, 206, "{}", head.head_text());
    assert_eq!(head.header("content-range").unwrap(), format!("bytes {}-{}/{size}", got.len(), size - 1));
    loop {
        let bytes = client.read_some(128 * 1024);
        if bytes.is_empty() {
            return;
        }
        got.extend(bytes);
        if got.len() >= size {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_state_folder_serves_one_server_at_a_time() {
    let server = Setup::new().start();
    let mut second = server.command();
    second.env("OWNER_LISTEN", "127.0.0.1:0").env("RECIPIENT_LISTEN", "127.0.0.1:0");
    let output = run_to_end(second.arg("serve").arg(&server.root));
    assert!(!output.status.success(), "two servers must not share a state");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.trim().is_empty() && !said.contains("panicked"), "it says why: {said}");
    check_alive(&server);
}

fn run_to_end(command: &mut std::process::Command) -> std::process::Output {
    let mut child = command.spawn().expect("the binary starts");
    poll(SOON, "the second server gives up", || child.try_wait().expect("a child can be asked").is_some());
    child.wait_with_output().expect("it has ended")
}

fn check_alive(server: &Server) {
    put(server, "still.bin", 10);
    let offer = server.share("still.bin");
    let transfer = server.redeem(&offer);
    server.fetch("GET", &transfer, &[]).expect("an answer").expect_status(200);
}

#[test]
fn an_orderly_stop_ends_with_success_and_keeps_what_was_offered() {
    let mut server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    let offer = server.share("film.mkv");
    let status = server.stop();
    assert!(status.success(), "{status}\n{}", server.log_text());
    server.start();
    let transfer = server.redeem(&offer);
    server.fetch("GET", &transfer, &[]).expect("an answer").expect_status(200);
}
