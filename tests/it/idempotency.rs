//! A request that is sent again because its answer was lost does nothing twice, whatever became of the first.

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Server, Setup, put, random_below, random_hex};

/// How often the server is killed while it makes a share.
const KILLS: usize = 12;
/// Within how many milliseconds of the request it is killed: making a share takes one to ten.
const KILL_WITHIN_MS: u64 = 12;

/// Sends a request with a key; `None` where the server was gone before it answered.
fn send(server: &Server, path: &str, key: &str, body: &Value) -> Option<Answer> {
    let (authorization, key) = (format!("Authorization: Bearer {}", server.token), format!("Idempotency-Key: {key}"));
    let headers = [authorization.as_str(), "Content-Type: application/json", &key, "Connection: close"];
    let mut client = Client::try_connect(server.owner, None, None).ok()?;
    client.request_with("POST", path, &headers, body.to_string().as_bytes()).filter(|answer| answer.complete)
}

fn ids(server: &Server) -> BTreeSet<String> {
    let list = server.api("GET", "/api/v1/shares?limit=1000", None).expect_status(200).json();
    list["shares"].as_array().unwrap().iter().map(|share| share["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn thirty_two_connections_at_once_make_one_share_and_another_body_is_refused() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    let (body, start) = (json!({ "path": "film.mkv" }), Barrier::new(32));
    let made: Vec<String> = std::thread::scope(|scope| {
        let asking = || {
            start.wait();
            let answer = send(&server, "/api/v1/shares", "k", &body).expect("an answer").expect_status(201);
            answer.json()["id"].as_str().unwrap().to_owned()
        };
        let threads: Vec<_> = (0..32).map(|_| scope.spawn(asking)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(made.iter().collect::<BTreeSet<_>>().len(), 1, "{made:?}");
    assert_eq!(ids(&server), BTreeSet::from([made[0].clone()]));
    let other = send(&server, "/api/v1/shares", "k", &json!({ "path": "film.mkv", "note": "x" })).unwrap().expect_status(422);
    assert_eq!(other.json()["code"], "idempotency_key_reused");
}

#[test]
fn killed_at_any_moment_it_makes_the_share_once() {
    let mut server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    let body = json!({ "path": "film.mkv" });
    let (mut known, mut unanswered) = (BTreeSet::new(), 0);
    for round in 0..KILLS {
        let key = random_hex(16);
        let early = killed_while_asking(&mut server, &key, &body);
        server.start();
        unanswered += usize::from(early.is_none());
        let again = send(&server, "/api/v1/shares", &key, &body).expect("an answer");
        assert!(matches!(again.status, 201 | 202), "{}", again.text());
        let id = again.json()["id"].as_str().unwrap().to_owned();
        if let Some(early) = early {
            assert_eq!(early.json()["id"], id, "round {round}");
        }
        assert!(known.insert(id), "round {round}: a key of its own makes a share of its own");
        assert_eq!(ids(&server), known, "round {round}: one share for each key, and no other");
    }
    eprintln!("killed before the answer in {unanswered} of {KILLS} rounds");
}

/// Asks, and kills the server within milliseconds. Returns the answer, where it came whole.
fn killed_while_asking(server: &mut Server, key: &str, body: &Value) -> Option<Answer> {
    let headers = [format!("Authorization: Bearer {}", server.token), format!("Idempotency-Key: {key}")];
    let (mut client, body, start) = (Client::connect(server.owner), body.to_string(), Barrier::new(2));
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let headers = [headers[0].as_str(), &headers[1], "Content-Type: application/json", "Connection: close"];
            start.wait();
            client.request_with("POST", "/api/v1/shares", &headers, body.as_bytes()).filter(|answer| answer.complete)
        });
        start.wait();
        std::thread::sleep(Duration::from_micros(random_below(KILL_WITHIN_MS * 1000)));
        server.kill();
        asking.join().unwrap()
    })
}

#[test]
fn the_answer_is_the_same_after_a_restart_for_everything_that_makes_something() {
    let mut server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    put(&server, "song.ogg", 10);
    let offer = server.share("film.mkv");
    let extend = format!("/api/v1/shares/{}/extend", offer.id);
    let asked = [
        ("/api/v1/shares", "one", json!({ "path": "film.mkv", "note": "for Ann" })),
        ("/api/v1/shares", "many", json!({ "paths": ["film.mkv", "absent", "song.ogg"] })),
        ("/generate-link", "old", json!({ "file_path": "film.mkv" })),
        (&extend, "more", json!({ "expires_in_seconds": 600 })),
    ];
    let shape = |answer: &Answer| {
        let json = answer.json();
        let ids: Vec<Value> = match json["results"].as_array() {
            Some(results) => results.iter().map(|result| json!([result["status"], result["share"]["id"]])).collect(),
            None => vec![json["id"].clone(), json["tunnel_id"].clone(), json["expires_at"].clone(), json["download_url"].clone()],
        };
        (answer.status, ids)
    };
    let send_all =
        |server: &Server| asked.iter().map(|(path, key, body)| shape(&send(server, path, key, body).unwrap())).collect::<Vec<_>>();
    let before = send_all(&server);
    assert_eq!(before.iter().map(|(status, _)| *status).collect::<Vec<_>>(), [201, 207, 200, 200]);
    let token = json!({ "name": "a script", "scope": "read" });
    send(&server, "/api/v1/tokens", "secret", &token).unwrap().expect_status(201);
    let shares = ids(&server);
    server.kill();
    server.start();
    assert_eq!(send_all(&server), before);
    assert_eq!(ids(&server), shares);
    let told = send(&server, "/api/v1/tokens", "secret", &token).unwrap().expect_status(409);
    assert_eq!(told.json()["code"], "already_made");
}
