//! A product that does not see nginx's connections, as in another network namespace: it sends the files through nginx.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::product::{Scene, delivered};
use crate::harness::{Client, SOON, Setup, poll, sha256, unseen};

const MIB: usize = 1024 * 1024;
/// Of many slices.
const FILM_BYTES: usize = 48 * MIB;
/// How far behind the recipient the product may be: a slice, and what nginx and its kernel may hold.
const MOST_BEHIND_BYTES: u64 = 2 * MIB as u64;
/// How much may reach the recipient after a cut.
const MOST_AFTER_CUT_BYTES: usize = 3 * MIB;
/// How long somebody looks who expects to see nothing: several looks of the product's.
const A_WHILE: Duration = Duration::from_millis(1500);

/// Begins a download of a file of this length.
fn begin(size: usize) -> Scene {
    begin_with(Setup::new(), size)
}

fn begin_with(setup: Setup, size: usize) -> Scene {
    let mut server = setup.behind_nginx().start();
    server.nginx().start_with(unseen);
    Scene::begin(server, size)
}

fn assert_delivered(scene: &Scene) {
    scene.assert_delivered_once();
    assert_eq!(scene.server.transfers(&scene.offer.id)[0]["evidence"], "handed_over");
}

#[test]
fn a_download_is_followed_and_what_is_known_of_it_is_that_it_was_sent() {
    let mut scene = begin(FILM_BYTES);
    for mebibytes in [4, 12, 20] {
        scene.take(mebibytes * MIB);
        let share =
            scene.server.wait_for(&scene.offer.id, "it is seen", |share| delivered(share) + MOST_BEHIND_BYTES >= (mebibytes * MIB) as u64);
        assert!(delivered(&share) <= scene.got.len() as u64, "{share:#}");
    }
    scene.take_the_rest();
    assert_delivered(&scene);
}

#[test]
fn what_nginx_holds_of_a_small_file_is_not_sent_before_its_line_says_so() {
    // nginx and the kernels take all of it at once.
    const SIZE: usize = 600 * 1024;
    let mut scene = begin(SIZE);
    let started = Instant::now();
    while started.elapsed() < A_WHILE {
        let share = scene.server.show(&scene.offer.id);
        assert!(delivered(&share) < SIZE as u64 && share["state"] != "delivered", "{share:#}");
        std::thread::sleep(Duration::from_millis(50));
    }
    scene.take_the_rest();
    assert_delivered(&scene);
}

#[test]
fn a_revoke_ends_it_and_no_more_than_nginx_had_comes_after() {
    let mut scene = begin(FILM_BYTES);
    scene.take(4 * MIB);
    scene.server.revoke(&scene.offer.id);
    let before = scene.got.len();
    scene.take_the_rest();
    assert!(scene.got.len() - before < MOST_AFTER_CUT_BYTES, "{} bytes came after the revoke", scene.got.len() - before);
    assert_eq!(scene.server.outcome(&scene.offer.id), "revoked");
}

#[test]
fn neither_the_end_of_nginx_nor_of_the_product_loses_or_invents_a_byte() {
    for is_nginx in [true, false] {
        let mut scene = begin(FILM_BYTES);
        scene.take(4 * MIB);
        if is_nginx {
            scene.server.nginx().kill();
        } else {
            scene.server.kill();
        }
        scene.take_the_rest();
        assert!(scene.got.len() < FILM_BYTES, "it ended");
        if is_nginx {
            scene.server.nginx().start_again();
        } else {
            scene.server.start();
        }
        let waits = |share: &Value| share["state"] == "waiting";
        scene.server.wait_for(&scene.offer.id, "it waits for the recipient", waits);
        scene.resume();
        assert_delivered(&scene);
    }
}

#[test]
fn an_orderly_stop_lets_a_download_end() {
    let mut scene = begin_with(Setup::new().set("DRAIN_SECONDS", 60), FILM_BYTES);
    scene.take(4 * MIB);
    scene.server.ask_to_stop();
    scene.take_the_rest();
    poll(SOON, "the program ends", || scene.server.ended().is_some());
    scene.server.start();
    assert_delivered(&scene);
}

#[test]
fn several_ranges_are_answered_with_the_whole_and_counted_with_its_line() {
    let mut scene = begin(3 * MIB);
    scene.take_the_rest();
    let mut client = Client::connect(scene.server.recipient);
    let answer = client.request("GET", &scene.transfer, &["Range: bytes=0-0,5-6"]).expect("an answer").expect_status(200);
    assert_eq!(sha256(&answer.body), sha256(&scene.content));
    assert_delivered(&scene);
}

#[test]
fn a_recipient_who_leaves_is_credited_no_more_than_they_may_have() {
    let mut scene = begin(3 * MIB);
    scene.take(MIB);
    drop(std::mem::replace(&mut scene.client, Client::connect(scene.server.recipient)));
    scene.server.wait_for(&scene.offer.id, "it waits for the recipient", |share| share["state"] == "waiting");
    scene.resume();
    assert_delivered(&scene);
}

#[test]
fn health_says_that_files_pass_through_portcullis() {
    let mut server = Setup::new().behind_nginx().start();
    server.nginx().start_with(unseen);
    let mut said = String::new();
    poll(SOON, "it is seen", || {
        let health = server.api("GET", "/health", None).json();
        said = health["checks"]["log"].to_string();
        said.contains("not seen here")
    });
    assert!(said.contains("warning"), "{said}");
}
