//! `kill -9` at random moments while owners make and close shares and recipients race for them. Seen from outside, nothing that was
//! answered is lost, no link is taken twice, and what was shut stays shut.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{BROWSER, Offer, Random, Server, Setup, put, sha256};
use crate::life::ask;

/// How often it is killed unless `KILL_ROUNDS` says otherwise; `tests/run --long` says thousands.
const ROUNDS: u64 = 48;
/// The longest time between a start and the kill: some hundred requests.
const MAX_LIFE_MS: u64 = 400;
/// How many owners make shares at once, and how many recipients race for each.
const OWNERS: usize = 2;
const RECIPIENTS: usize = 3;
/// How often one server is killed before another is made: all shares of its lives are opened again at each start.
const LOT: usize = 24;
const FILE: &str = "prize.bin";
const FILE_BYTES: usize = 200_000;

/// What the outside knows of one share.
#[derive(Debug, Default)]
struct Known {
    /// Where each of those who got it was led.
    winners: Vec<String>,
    /// How many asked for it and got no answer.
    unanswered: u32,
    /// Whether an owner asked to close it, and whether that was answered.
    is_shutting: bool,
    is_shut: bool,
}

#[derive(Default)]
struct Outside {
    shares: Mutex<BTreeMap<String, (Offer, Known)>>,
    is_over: AtomicBool,
}

impl Outside {
    fn note(&self, id: &str, what: impl FnOnce(&mut Known)) {
        what(&mut self.shares.lock().expect("nobody panicked").get_mut(id).expect("it was made").1);
    }

    /// Makes shares, and closes every fourth, until the server goes.
    fn own(&self, server: &Server) {
        let authorization = format!("Authorization: Bearer {}", server.token);
        let body = json!({ "path": FILE });
        for n in 0.. {
            let Some(answer) = ask(server.owner, "POST", "/api/v1/shares", &[&authorization], Some(&body)) else { return };
            let offer = Offer::from_json(&answer.expect_status(201).json());
            let id = offer.id.clone();
            self.shares.lock().expect("nobody panicked").insert(id.clone(), (offer, Known::default()));
            if n % 4 == 3 {
                self.note(&id, |known| known.is_shutting = true);
                let path = format!("/api/v1/shares/{id}");
                let Some(answer) = ask(server.owner, "DELETE", &path, &[&authorization], None) else { return };
                answer.expect_status(200);
                self.note(&id, |known| known.is_shut = true);
            }
        }
    }

    /// Races for the newest share, and fetches what it wins, until the server goes.
    fn receive(&self, server: &Server) {
        while !self.is_over.load(Ordering::SeqCst) {
            let newest = self.shares.lock().expect("nobody panicked").values().next_back().map(|(offer, _)| offer.clone());
            let Some(offer) = newest else {
                std::thread::yield_now();
                continue;
            };
            self.note(&offer.id, |known| known.unanswered += 1);
            let Some(answer) = ask(server.recipient, "POST", &offer.redeem_path(), &[BROWSER], None) else { return };
            self.note(&offer.id, |known| known.unanswered -= 1);
            match answer.status {
                303 => {
                    let transfer = answer.location();
                    self.note(&offer.id, |known| known.winners.push(transfer.clone()));
                    if ask(server.recipient, "GET", &transfer, &[BROWSER], None).is_none() {
                        return;
                    }
                }
                409 | 410 => {}
                status => panic!("{status}: {}", answer.head_text()),
            }
        }
    }
}

#[test]
fn a_kill_at_a_random_moment_under_load_loses_nothing_and_lets_nobody_in_twice() {
    let rounds = std::env::var("KILL_ROUNDS").ok().map_or(ROUNDS, |n| n.parse().expect("KILL_ROUNDS is a number"));
    let seeds: Vec<u64> = match std::env::var("KILL_SEED") {
        Ok(seed) => vec![seed.parse().expect("KILL_SEED is a number")],
        Err(_) => (1..=rounds).collect(),
    };
    let made: usize = seeds.chunks(LOT).map(kill_one_server).sum();
    assert!(made > seeds.len(), "only {made} shares were made in {} rounds", seeds.len());
}

/// Kills a server once for each seed. Returns how many shares it made.
fn kill_one_server(seeds: &[u64]) -> usize {
    let mut server = Setup::new().set("GRACE_PERIOD_SECONDS", 600).start();
    let digest = sha256(&put(&server, FILE, FILE_BYTES));
    let mut made = 0;
    for seed in seeds {
        let mut random = Random::new(*seed);
        let outside = Outside::default();
        std::thread::scope(|scope| {
            (0..OWNERS).for_each(|_| drop(scope.spawn(|| outside.own(&server))));
            (0..RECIPIENTS).for_each(|_| drop(scope.spawn(|| outside.receive(&server))));
            std::thread::sleep(Duration::from_millis(random.below(MAX_LIFE_MS)));
            server.kill_now();
            outside.is_over.store(true, Ordering::SeqCst);
        });
        server.kill();
        server.start();
        let shares = outside.shares.into_inner().expect("nobody panicked");
        made += shares.len();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(&server, &shares, &digest))) {
            eprintln!("again: KILL_SEED={seed} cargo test --test it kill_load::");
            resume_unwind(panic);
        }
    }
    let verdict = server.api("GET", "/api/v1/audit/verify", None).expect_status(200).json();
    assert_eq!(verdict["is_intact"], true, "{verdict}");
    made
}

fn check(server: &Server, shares: &BTreeMap<String, (Offer, Known)>, digest: &str) {
    for (id, (offer, known)) in shares {
        let share = server.wait_for(id, "it settles", |share| !matches!(share["state"].as_str(), Some("opening" | "closing")));
        let uses = share["transfers"].as_u64().expect("a number");
        let text = format!("{known:?} {share:#}");
        assert!(known.winners.len() <= 1 && uses <= 1, "two got it: {text}");
        assert!(uses >= known.winners.len() as u64, "it was taken, and nobody knows: {text}");
        assert!(uses == known.winners.len() as u64 || known.unanswered > 0, "nobody took it: {text}");
        let is_closed = share["state"] == "closed";
        assert!(!known.is_shut || is_closed && share["outcome"] == "revoked", "it was shut: {text}");
        assert!(known.is_shutting || !is_closed, "nobody shut it: {text}");
        let again = ask(server.recipient, "POST", &offer.redeem_path(), &[BROWSER], None).expect("a genuine link is answered").status;
        match uses {
            _ if is_closed => assert_eq!(again, 410, "{text}"),
            0 => assert_eq!(again, 303, "{text}"),
            _ => check_winner(server, known, again, digest, &share),
        }
    }
}

/// Whoever got it can fetch all of it still, and nobody else gets in.
fn check_winner(server: &Server, known: &Known, again: u16, digest: &str, share: &Value) {
    assert!(matches!(again, 409 | 410), "a spent link lives again ({again}): {share:#}");
    if let Some(transfer) = known.winners.first() {
        let answer = ask(server.recipient, "GET", transfer, &[BROWSER], None).expect("all of it").expect_status(200);
        assert_eq!(sha256(&answer.body), digest);
    }
}
