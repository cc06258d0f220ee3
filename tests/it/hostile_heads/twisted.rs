//! Genuine requests of every kind, twisted at random places: the server answers with sense or not at all, and lives.
//!
//! A twist is a function of its number: `TWIST=1234 cargo test --test it twisted` makes that one again.

use std::time::Duration;

use serde_json::json;

use super::check_no_descriptor_is_lost;
use crate::harness::{BROWSER, Server, Setup, Talk, open_descriptors, put, request, shown, talk_within};

/// How long an answer is waited for: some twists ask for more to come.
const PATIENCE: Duration = Duration::from_millis(20);
/// How many there are where `TWISTS` does not say.
const DEFAULT_TWISTS: u64 = 3_000;

#[test]
fn genuine_requests_twisted_at_random_are_answered_with_sense_or_not_at_all() {
    let number_of = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let server = Setup::new().start();
    put(&server, "film.mkv", 100_000);
    let genuine = genuine(&server);
    let descriptors = open_descriptors(server.pid());
    let twists = number_of("TWIST").map_or(0..number_of("TWISTS").unwrap_or(DEFAULT_TWISTS), |one| one..one + 1);
    for number in twists {
        let mut dice = Dice(number);
        let (to, raw) = &genuine[dice.below(genuine.len())];
        let mut raw = raw.clone();
        for _ in 0..=dice.below(5) {
            twist(&mut raw, &mut dice);
        }
        // Whoever half-closes may lose the end of an answer, so only what came whole is judged.
        let Talk { replies, rest, .. } = talk_within(PATIENCE, *to, &raw, b"");
        for reply in &replies {
            let is_failure = reply.status >= 500 && !matches!(reply.status, 501 | 505);
            assert!(!is_failure, "TWIST={number}: {} to {:?}", reply.head, shown(&raw));
        }
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1."), "TWIST={number}: {:?} to {:?}", shown(&rest), shown(&raw));
    }
    check_no_descriptor_is_lost(&server, descriptors);
    assert_eq!(server.api("GET", "/livez", None).status, 200);
}

/// Requests of every kind that work.
fn genuine(server: &Server) -> Vec<(std::net::SocketAddr, Vec<u8>)> {
    let offer = server.share_with(&json!({ "path": "film.mkv", "policy": { "unlimited_downloads": true } }));
    let transfer = server.redeem(&offer);
    let (owner, recipient) = (server.owner, server.recipient);
    let bearer = format!("Authorization: Bearer {}", server.token);
    let body = json!({ "path": "film.mkv", "policy": { "max_downloads": 3, "on_stall": "close", "allowed_networks": ["127.0.0.0/8"] }, "note": "n" }).to_string();
    let extend = json!({ "expires_in_seconds": 60 }).to_string();
    let public = |method: &str, path: &str, headers: &[&str]| (recipient, request(method, path, &recipient.to_string(), headers, None));
    let private = |method: &str, path: &str, body: Option<&str>| {
        let headers: &[&str] = if body.is_some() { &[&bearer, "Content-Type: application/json", "Idempotency-Key: k"] } else { &[&bearer] };
        (owner, request(method, path, &owner.to_string(), headers, body.map(str::as_bytes)))
    };
    let share = format!("/api/v1/shares/{}", offer.id);
    vec![
        public("GET", &offer.link, &[BROWSER]),
        public("HEAD", &offer.link, &[BROWSER]),
        public("GET", &format!("{}?dl=1", offer.link), &[BROWSER]),
        public("POST", &offer.redeem_path(), &["Content-Type: application/x-www-form-urlencoded"]),
        public("GET", &transfer, &["Range: bytes=10-19", "If-Range: \"x\"", "If-Match: *"]),
        public("GET", &transfer, &["Range: bytes=-5", "Connection: keep-alive"]),
        public("HEAD", &transfer, &[]),
        private("POST", "/api/v1/shares", Some(&body)),
        private("POST", "/generate-link", Some(&json!({ "file_path": "film.mkv", "expires_in_seconds": 60 }).to_string())),
        private("POST", &format!("{share}/extend"), Some(&extend)),
        private("POST", "/api/v1/tokens", Some(&json!({ "name": "n", "scope": "read" }).to_string())),
        private("GET", "/api/v1/files?path=&sort=newest&limit=5&cursor=", None),
        private("GET", "/api/v1/files?query=film", None),
        private("GET", "/api/v1/files/film.mkv", None),
        private("GET", "/api/v1/shares?state=living&limit=2", None),
        private("GET", "/api/v1/history?since=2026-01-01&until=2026-12-31&query=x", None),
        private("GET", "/api/v1/events?type=share.created&cursor=0", None),
        private("GET", "/api/v1/stats?from=2026-01-01&to=2026-12-31", None),
        private("GET", "/api/v1/audit?limit=3", None),
        private("GET", &format!("{share}/qr.svg"), None),
        private("GET", "/?token=0123456789abcdef0123456789abcdef", None),
        private("GET", "/metrics", None),
    ]
}

fn twist(raw: &mut Vec<u8>, dice: &mut Dice) {
    const WORDS: &[&[u8]] = &[
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b" ",
        b"\t",
        b":",
        b"%00",
        b"%2e%2e/",
        b"%ff",
        b"../",
        b"-1",
        b"99999999999999999999",
        b"0",
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Length: 3\r\n",
        b"Connection: close\r\n",
        b"Expect: 100-continue\r\n",
        b"Range: bytes=",
        b"\"",
        b"{",
        b"}",
        b"[",
        b"null",
        b"\\u0000",
        b"1e999",
        b"\xff",
        b"\xe2\x80\xae",
        b"&",
        b"?",
        b"=",
        b",",
        b"9999-12-31T23:59:59Z",
        b"HTTP/1.0",
        b"+",
        b"*",
    ];
    let at = dice.below(raw.len() + 1);
    let until = (at + dice.below(12)).min(raw.len());
    match dice.below(8) {
        0 if at < raw.len() => raw[at] ^= 1 << dice.below(8),
        1 if at < raw.len() => raw[at] = dice.below(256) as u8,
        2 => drop(raw.drain(at..until)),
        3 => {
            let copy = raw[at..until].repeat(1 + dice.below(40));
            drop(raw.splice(at..at, copy));
        }
        4 => raw.truncate(at.max(20)),
        5 => drop(raw.splice(at..until, WORDS[dice.below(WORDS.len())].iter().copied())),
        _ => drop(raw.splice(at..at, WORDS[dice.below(WORDS.len())].iter().copied())),
    }
}

/// Randomness that repeats: splitmix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}
