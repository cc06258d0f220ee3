//! Taking a close back, and closing all doors.

use std::sync::Barrier;

use serde_json::{Value, json};

use crate::harness::{Answer, BROWSER, Client, Offer, Server, Setup, put, sha256};

/// How many people press at once.
const AT_ONCE: usize = 16;

fn undo(server: &Server, id: &str) -> Answer {
    server.api("POST", &format!("/api/v1/shares/{id}/reopen"), Some(&json!({ "undo": true })))
}

#[track_caller]
fn is_refused(server: &Server, id: &str, code: &str) {
    let answer = undo(server, id).expect_status(409).json();
    assert_eq!(answer["code"], code, "{answer}");
}

fn post(server: &Server, offer: &Offer) -> u16 {
    server.fetch("POST", &offer.redeem_path(), &[BROWSER]).expect("a genuine link is answered").status
}

#[test]
fn the_very_same_link_works_again_after_a_close_that_was_taken_back() {
    let server = Setup::new().start();
    let digest = sha256(&put(&server, "film.mkv", 700_000));
    let offer = server.share("film.mkv");
    let made = server.show(&offer.id);
    // Somebody who pressed the button and has no byte spent nothing.
    server.redeem(&offer);
    server.revoke(&offer.id);
    assert_eq!((post(&server, &offer), server.show(&offer.id)["undo_until"].is_string()), (410, true));
    let undone = undo(&server, &offer.id).expect_status(200).json();
    assert_eq!((&undone["url"], &undone["expires_at"], &undone["undo_until"]), (&made["url"], &made["expires_at"], &Value::Null));
    let transfer = server.redeem(&offer);
    let answer = server.fetch("GET", &transfer, &[BROWSER]).expect("an answer").expect_status(200);
    assert_eq!(sha256(&answer.body), digest);
    server.wait_for(&offer.id, "it is delivered", |share| share["state"] == "delivered");
    let log = server.api("GET", &format!("/api/v1/events?share={}&type=share.undone", offer.id), None).expect_status(200).json();
    assert_eq!(log["events"].as_array().map(Vec::len), Some(1));
    // It is used up: no undo gives anybody another use.
    is_refused(&server, &offer.id, "refused");
    server.revoke(&offer.id);
    is_refused(&server, &offer.id, "undo_after_bytes");
}

#[test]
fn no_close_is_taken_back_once_a_byte_has_left_or_the_link_has_ended() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 4_000_000);
    let offer = server.share_with(&json!({ "path": "film.mkv", "policy": { "max_downloads": 3 } }));
    let mut client = Client::connect_with_small_buffer(server.recipient, 16 * 1024);
    client.ask("GET", &server.redeem(&offer), &[]);
    assert_eq!(client.answer_head().expect("an answer").status, 200);
    server.revoke(&offer.id);
    assert_eq!(server.show(&offer.id)["undo_until"], Value::Null);
    server.wait_for(&offer.id, "it is closed", |share| share["state"] == "closed");
    is_refused(&server, &offer.id, "undo_after_bytes");

    let expired = server.share_with(&json!({ "path": "film.mkv", "policy": { "expires_in_seconds": 1 } }));
    server.wait_for(&expired.id, "it is closed", |share| share["state"] == "closed");
    is_refused(&server, &expired.id, "undo_too_late");

    let closed_first = server.share_with(&json!({ "path": "film.mkv", "policy": { "expires_in_seconds": 2 } }));
    server.revoke(&closed_first.id);
    server.wait_for(&closed_first.id, "its link ended", |share| share["undo_until"].is_null());
    is_refused(&server, &closed_first.id, "undo_too_late");
    assert_eq!(post(&server, &closed_first), 410);
}

#[test]
fn of_many_who_take_it_back_at_once_one_does_and_of_many_who_redeem_then_one_wins() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    for _ in 0..20 {
        let offer = server.share("film.mkv");
        server.revoke(&offer.id);
        let barrier = Barrier::new(2 * AT_ONCE);
        let (mut undone, mut redeemed) = (0, 0);
        std::thread::scope(|scope| {
            let undoing: Vec<_> = (0..AT_ONCE)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        undo(&server, &offer.id).status
                    })
                })
                .collect();
            let redeeming: Vec<_> = (0..AT_ONCE)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        post(&server, &offer)
                    })
                })
                .collect();
            undone = undoing.into_iter().map(|task| task.join().expect("an answer")).filter(|status| *status == 200).count();
            redeemed = redeeming.into_iter().map(|task| task.join().expect("an answer")).filter(|status| *status == 303).count();
        });
        assert_eq!(undone, 1, "one takes it back");
        assert!(redeemed <= 1, "{redeemed} redeemed a link for one");
        if redeemed == 0 {
            server.redeem(&offer);
        }
        assert_eq!((server.uses(&offer.id), matches!(post(&server, &offer), 409 | 410)), (1, true));
    }
}

#[test]
fn a_crash_between_a_close_and_its_undo_changes_neither() {
    let mut server = Setup::new().start();
    let digest = sha256(&put(&server, "film.mkv", 1000));
    for is_killed_before in [true, false] {
        let offer = server.share("film.mkv");
        server.revoke(&offer.id);
        if is_killed_before {
            server.kill();
            server.start();
            assert_eq!(server.outcome(&offer.id), "revoked");
        }
        undo(&server, &offer.id).expect_status(200);
        if !is_killed_before {
            server.kill();
            server.start();
        }
        server.wait_for(&offer.id, "it is open again", |share| share["state"] == "offered");
        let transfer = server.redeem(&offer);
        assert_eq!(sha256(&server.fetch("GET", &transfer, &[BROWSER]).expect("an answer").expect_status(200).body), digest);
        assert_eq!(server.uses(&offer.id), 1);
    }
}

#[test]
fn all_doors_are_closed_with_one_request_and_stay_closed_over_a_crash() {
    let mut server = Setup::new().start();
    put(&server, "film.mkv", 4_000_000);
    let offers: Vec<Offer> = (0..50).map(|_| server.share("film.mkv")).collect();
    let mut client = Client::connect_with_small_buffer(server.recipient, 16 * 1024);
    client.ask("GET", &server.redeem(&offers[0]), &[]);
    assert_eq!(client.answer_head().expect("an answer").status, 200);
    assert_eq!(server.api("DELETE", "/api/v1/shares", None).expect_status(200).json(), json!({ "closing": 50 }));
    server.kill();
    server.start();
    assert_eq!(server.api("DELETE", "/api/v1/shares", None).expect_status(200).json(), json!({ "closing": 0 }));
    for offer in &offers {
        assert_eq!(server.outcome(&offer.id), "revoked");
        assert_eq!(post(&server, offer), 410);
    }
}
