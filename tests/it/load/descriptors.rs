//! Descriptors run out.

use std::time::{Duration, Instant};

use super::descriptors;
use crate::harness::{Client, Setup, poll, put, sha256};

/// How many descriptors the server gets. It needs some dozens for itself.
const FEW: u32 = 256;
/// How many recipients want to come in: more than there are descriptors.
const MANY: usize = 600;
/// How long an owner may wait for an answer while all that happens. Nothing in it should wait for anything; if it waited for a
/// recipient to leave, that would be after 10 s.
const MAX_OWNER_WAIT: Duration = Duration::from_secs(5);
const FILE_BYTES: usize = 8 << 20;

#[test]
fn recipients_who_take_every_descriptor_do_not_keep_the_owner_out() {
    assert!(descriptors() > MANY + 200, "this test needs {} descriptors (ulimit -Hn)", MANY + 200);
    let server = Setup::new().descriptors(FEW).start();
    let content = put(&server, "film.mkv", FILE_BYTES);
    let (running, revoked) = (server.share("film.mkv"), server.share("film.mkv"));
    let mut download = Client::connect_with_small_buffer(server.recipient, 16 * 1024);
    download.ask("GET", &server.redeem(&running), &["Connection: close"]);
    assert_eq!(download.answer_head().expect("an answer").status, 200);
    let mut got = download.read_some(1000);
    let mut cut = Client::connect_with_small_buffer(server.recipient, 16 * 1024);
    cut.ask("GET", &server.redeem(&revoked), &["Connection: close"]);
    assert_eq!(cut.answer_head().expect("an answer").status, 200);

    let crowd: Vec<Client> = (0..MANY).filter_map(|_| Client::try_connect(server.recipient, None, None).ok()).collect();
    assert!(crowd.len() > FEW as usize, "more came than there are descriptors: {}", crowd.len());
    // The owner sees, makes and closes shares, and what they do is saved.
    let waits: Vec<Duration> = (0..20)
        .map(|_| {
            let began = Instant::now();
            let offer = server.share("film.mkv");
            server.revoke(&offer.id);
            assert_eq!(server.outcome(&offer.id), "revoked");
            began.elapsed()
        })
        .collect();
    let longest = waits.into_iter().max().expect("some");
    println!("{} connections on {FEW} descriptors: the owner waited {longest:?} at the most", crowd.len());
    assert!(longest < MAX_OWNER_WAIT, "{longest:?}");
    server.api("GET", "/health", None).expect_status(200);
    // A download that is closed is cut, one that runs goes on to its end.
    server.revoke(&revoked.id);
    let rest = cut.read_to_close(Duration::from_secs(10));
    assert!(rest.len() < FILE_BYTES, "the revoked download was cut");
    got.extend(download.read_to_close(Duration::from_secs(30)));
    assert_eq!(sha256(&got), sha256(&content));

    drop(crowd);
    // The crowd is gone: everybody is served again.
    let offer = server.share("film.mkv");
    poll(Duration::from_secs(20), "recipients are let in again", || {
        Client::connect(server.recipient).request("GET", &offer.link, &["Connection: close"]).is_some_and(|page| page.status == 200)
    });
    let transfer = server.redeem(&offer);
    let answer = server.fetch("GET", &transfer, &["Connection: close"]).expect("an answer").expect_status(200);
    assert_eq!(sha256(&answer.body), sha256(&content));
}

#[test]
fn recipients_beyond_the_bound_are_refused_and_those_within_it_go_on() {
    const BOUND: usize = 32;
    let server = Setup::new().set("MAX_CONNECTIONS", BOUND).start();
    let content = put(&server, "film.mkv", FILE_BYTES);
    let offer = server.share("film.mkv");
    let mut download = Client::connect_with_small_buffer(server.recipient, 16 * 1024);
    download.ask("GET", &server.redeem(&offer), &["Connection: close"]);
    assert_eq!(download.answer_head().expect("an answer").status, 200);
    let mut got = download.read_some(1000);

    let mut crowd: Vec<Client> = (0..4 * BOUND).map(|_| Client::connect(server.recipient)).collect();
    // Those within the bound are waited for; the others were closed without a word.
    let served = crowd.iter_mut().filter_map(|client| client.request("GET", &offer.link, &["Connection: keep-alive"])).count();
    assert!((BOUND - 4..BOUND).contains(&served), "{served} of {BOUND} places were given, and one was taken");
    got.extend(download.read_to_close(Duration::from_secs(30)));
    assert_eq!(sha256(&got), sha256(&content));
    drop(crowd);
    poll(Duration::from_secs(10), "recipients are let in again", || {
        Client::connect(server.recipient).request("GET", &offer.link, &["Connection: close"]).is_some()
    });
}
