//! Of everybody who redeems a single-use link at the same instant, exactly one gets it.

use std::net::{Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Barrier, Mutex};

use crate::harness::{Answer, BROWSER, Client, Offer, Server, Setup, put, sha256};

/// How many people try each link.
const CLIENTS: usize = 64;
/// How many links are tried unless `RACE_ROUNDS` says otherwise; `tests/run --long` says ten thousand.
const ROUNDS: usize = 1000;
/// Links are made in lots, so that the server holds as many open shares as a busy one would, and no more.
const LOT: usize = 250;

fn rounds() -> usize {
    std::env::var("RACE_ROUNDS").ok().map_or(ROUNDS, |n| n.parse().expect("RACE_ROUNDS is a number"))
}

/// What one person got in one round.
struct Try {
    status: u16,
    body: Option<Vec<u8>>,
}

#[test]
fn of_64_browsers_that_redeem_a_link_at_once_exactly_one_gets_it() {
    race(rounds(), |recipient, from, offer| {
        let client = Client::connect_from(recipient, from);
        (client, request_of_a_browser(&offer.redeem_path()))
    });
}

#[test]
fn of_64_command_lines_and_browsers_at_once_exactly_one_gets_it() {
    race(rounds() / 10, |recipient, from, offer| {
        let client = Client::connect_from(recipient, from);
        if from.octets()[3] % 2 == 0 {
            (client, request_of_a_browser(&offer.redeem_path()))
        } else {
            (client, ("GET", offer.link.clone(), "User-Agent: curl/8.5.0"))
        }
    });
}

type Request = (&'static str, String, &'static str);

fn request_of_a_browser(path: &str) -> Request {
    ("POST", path.to_owned(), BROWSER)
}

fn race(rounds: usize, prepare: impl Fn(SocketAddr, Ipv4Addr, &Offer) -> (Client, Request) + Sync) {
    let server = Setup::new().set("MAX_CONNECTIONS", 4096).start();
    let digest = sha256(&put(&server, "prize.bin", 10_000));
    for lot in (0..rounds).step_by(LOT) {
        let offers: Vec<Offer> = (lot..rounds.min(lot + LOT)).map(|_| server.share("prize.bin")).collect();
        let results = run(server.recipient, &offers, &prepare);
        for (offer, tries) in offers.iter().zip(results) {
            judge(&server, offer, &tries, &digest);
        }
    }
}

fn run(
    recipient: SocketAddr,
    offers: &[Offer],
    prepare: &(impl Fn(SocketAddr, Ipv4Addr, &Offer) -> (Client, Request) + Sync),
) -> Vec<Vec<Try>> {
    let barrier = Arc::new(Barrier::new(CLIENTS));
    let results: Vec<Mutex<Vec<Try>>> = offers.iter().map(|_| Mutex::default()).collect();
    std::thread::scope(|scope| {
        for n in 0..CLIENTS {
            let (barrier, results) = (barrier.clone(), &results);
            scope.spawn(move || {
                // Everybody comes from an address of their own: nobody can be taken for somebody who resumes.
                let from = Ipv4Addr::new(127, 0, 1, u8::try_from(n).expect("few clients") + 1);
                for (offer, result) in offers.iter().zip(results) {
                    let (client, request) = prepare(recipient, from, offer);
                    barrier.wait();
                    // Whoever gives up must not leave the others waiting at the barrier: the judge tells.
                    let tried = catch_unwind(AssertUnwindSafe(|| attempt(client, request)));
                    result.lock().expect("no other client panicked").push(tried.unwrap_or(Try { status: 0, body: None }));
                }
            });
        }
    });
    results.into_iter().map(|tries| tries.into_inner().expect("no client panicked")).collect()
}

fn attempt(mut client: Client, (method, path, agent): Request) -> Try {
    let answer = client.request(method, &path, &[agent]).expect("a genuine link is answered");
    // A browser is led to the bytes; curl has them in the answer.
    let body = match answer.status {
        200 if method == "GET" => Some(answer.body),
        302 | 303 | 307 => Some(fetch(&mut client, &answer)),
        _ => None,
    };
    Try { status: answer.status, body }
}

fn fetch(client: &mut Client, redirect: &Answer) -> Vec<u8> {
    client.request("GET", &redirect.location(), &[BROWSER]).expect("the winner is answered").expect_status(200).body
}

fn judge(server: &Server, offer: &Offer, tries: &[Try], digest: &str) {
    let statuses: Vec<u16> = tries.iter().map(|t| t.status).collect();
    assert_eq!(tries.len(), CLIENTS);
    let winners: Vec<&Try> = tries.iter().filter(|t| t.body.is_some()).collect();
    assert_eq!(winners.len(), 1, "one and only one wins: {statuses:?}");
    assert_eq!(winners[0].body.as_deref().map(sha256).as_deref(), Some(digest), "the winner has the whole file");
    assert!(tries.iter().all(|t| t.body.is_some() || matches!(t.status, 409 | 410)), "the others are told why: {statuses:?}");
    assert_eq!(server.uses(&offer.id), 1);
}
