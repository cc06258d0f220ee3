//! Genuine requests of every kind, twisted at random places: the server answers with sense or not at all, and lives.
//!
//! A twist is a function of its number: `TWIST=1234 cargo test --test it twisted` makes that one again.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::check_no_descriptor_is_lost;
use crate::harness::{BROWSER, Server, Setup, Talk, open_descriptors, put, request, shown, talk_within};

/// How long an answer is waited for: some twists ask for more to come.
const PATIENCE: Duration = Duration::from_millis(20);
/// How many there are where `TWISTS` does not say.
const DEFAULT_TWISTS: u64 = 3_000;

#[test]
fn genuine_requests_twisted_at_random_are_answered_with_sense_or_not_at_all() {
    let number_of = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    // Everybody is an owner: a twisted credential would lead no further than to a refusal.
    let server = Setup::new().set("AUTH", "none").start();
    put(&server, "film.mkv", 100_000);
    let genuine = genuine(&server);
    let descriptors = open_descriptors(server.pid());
    let twists = number_of("TWIST").map_or(0..number_of("TWISTS").unwrap_or(DEFAULT_TWISTS), |one| one..one + 1);
    let mut answered = 0;
    for number in twists.clone() {
        let mut dice = Dice(number);
        let mut one = genuine[dice.below(genuine.len())].clone();
        // Most are twisted where they stay well formed, so that they get far; some anywhere.
        let is_wild = dice.below(4) == 0;
        for _ in 0..=dice.below(2) {
            one.twist(&mut dice);
        }
        let mut raw = one.raw();
        if is_wild {
            (0..=dice.below(3)).for_each(|_| twist(&mut raw, WILD, &mut dice));
        }
        // Whoever half-closes may lose the end of an answer, so only what came whole is judged.
        let Talk { replies, rest, .. } = talk_within(PATIENCE, one.to, &raw, b"");
        for reply in &replies {
            let is_failure = reply.status >= 500 && !matches!(reply.status, 501 | 505);
            assert!(!is_failure, "TWIST={number}: {} to {:?}", reply.head, shown(&raw));
            answered += usize::from(reply.status < 400);
        }
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1."), "TWIST={number}: {:?} to {:?}", shown(&rest), shown(&raw));
    }
    check_no_descriptor_is_lost(&server, descriptors);
    assert!(answered > 0 || twists.count() < 100, "some get far");
    assert_eq!(server.api("GET", "/livez", None).status, 200);
}

/// A request that works.
#[derive(Clone)]
struct Genuine {
    to: SocketAddr,
    method: &'static str,
    path: Vec<u8>,
    headers: Vec<String>,
    body: Option<Vec<u8>>,
}

impl Genuine {
    /// Twists the address, a header's value or the body; it stays one request.
    fn twist(&mut self, dice: &mut Dice) {
        match (dice.below(5), &mut self.body) {
            (0 | 1, Some(body)) => twist(body, GENTLE, dice),
            (2, _) if !self.headers.is_empty() => {
                let header = dice.below(self.headers.len());
                let (name, value) = self.headers[header].split_once(": ").expect("a header");
                let mut value = value.as_bytes().to_vec();
                twist(&mut value, GENTLE, dice);
                self.headers[header] = format!("{name}: {}", String::from_utf8_lossy(&value).replace(char::is_control, ""));
            }
            _ => {
                // The first letter is the slash.
                let mut rest = self.path.split_off(1);
                twist(&mut rest, GENTLE, dice);
                self.path.extend(rest.into_iter().filter(u8::is_ascii_graphic));
            }
        }
    }

    fn raw(&self) -> Vec<u8> {
        let headers: Vec<&str> = self.headers.iter().map(String::as_str).collect();
        let path = String::from_utf8_lossy(&self.path);
        request(self.method, &path, &self.to.to_string(), &headers, self.body.as_deref())
    }
}

/// Requests of every kind.
fn genuine(server: &Server) -> Vec<Genuine> {
    let offer = server.share_with(&json!({ "path": "film.mkv", "policy": { "unlimited_downloads": true } }));
    let transfer = server.redeem(&offer);
    let one = |to, method, path: &str, headers: &[&str], body: Option<Value>| Genuine {
        to,
        method,
        path: path.as_bytes().to_vec(),
        headers: headers.iter().map(|it| (*it).to_owned()).collect(),
        body: body.map(|body| body.to_string().into_bytes()),
    };
    let public = |method, path: &str, headers: &[&str]| one(server.recipient, method, path, headers, None);
    let look = |path: &str| one(server.owner, "GET", path, &[], None);
    let post = |path: &str, body| one(server.owner, "POST", path, &["Content-Type: application/json", "Idempotency-Key: k"], Some(body));
    let share = format!("/api/v1/shares/{}", offer.id);
    let policy = json!({ "max_downloads": 3, "on_stall": "close", "allowed_networks": ["127.0.0.0/8"], "starts_at": "2030-01-31T18:00:00Z", "max_bytes_per_second": 65536 });
    vec![
        public("GET", &offer.link, &[BROWSER]),
        public("HEAD", &offer.link, &[BROWSER]),
        public("GET", &format!("{}?dl=1", offer.link), &[BROWSER]),
        public("POST", &offer.redeem_path(), &["Content-Type: application/x-www-form-urlencoded"]),
        public("GET", &transfer, &["Range: bytes=10-19", "If-Range: \"x\"", "If-Match: *"]),
        public("GET", &transfer, &["Range: bytes=-5", "Connection: keep-alive"]),
        public("HEAD", &transfer, &[]),
        post("/api/v1/shares", json!({ "path": "film.mkv", "policy": policy, "note": "n", "message": "m" })),
        post("/api/v1/shares", json!({ "paths": ["film.mkv", "absent"], "policy": { "unlimited_downloads": true } })),
        post("/generate-link", json!({ "file_path": "film.mkv", "expires_in_seconds": 60 })),
        post(&format!("{share}/extend"), json!({ "expires_in_seconds": 60 })),
        post("/api/v1/tokens", json!({ "name": "n", "scope": "read", "expires_in_seconds": 60 })),
        look("/api/v1/files?path=&sort=newest&limit=5&cursor="),
        look("/api/v1/files?path=&sort=name&limit=1&cursor=6e0100000000000000006669"),
        look("/api/v1/files?query=film"),
        look("/api/v1/files/film.mkv"),
        look("/api/v1/shares?state=living&limit=2&cursor=l.1.0123456789"),
        look("/api/v1/history?since=2026-01-01&until=2026-12-31&query=x&outcome=completed"),
        look("/api/v1/events?type=share.created&cursor=0&limit=9"),
        look("/api/v1/stats?from=2026-01-01&to=2026-12-31"),
        look("/api/v1/audit?limit=3&cursor=5"),
        look(&format!("{share}/qr.svg")),
        look(&format!("{share}/transfers")),
        look("/admin/tunnels/0123456789/stats"),
        look("/?token=0123456789abcdef0123456789abcdef"),
        look("/assets/owner/app.js"),
    ]
}

/// Words that leave a line whole.
const GENTLE: &[&[u8]] = &[
    b"",
    b"0",
    b"-1",
    b"1",
    b"18446744073709551615",
    b"18446744073709551616",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"1e999",
    b"0.5",
    b"%00",
    b"%2e%2e%2f",
    b"%ff",
    b"../",
    b"+",
    b"*",
    b"&",
    b"=",
    b"?",
    b",",
    b"-",
    b".",
    b"%0d%0a",
    b"\"",
    b"{}",
    b"[]",
    b"null",
    b"true",
    b"\\u0000",
    b"\\ud800",
    b"\xe2\x80\xae",
    b"\xff",
    b"9999-12-31T23:59:59Z",
    b"-009999-01-01T00:00:00Z",
    b"9999-12-31",
    b"0000-01-01",
    b"l.",
    b"c.",
    b"%C3%A9",
    b"bytes=",
    b"W/\"x\"",
    b"::/0",
    b"0.0.0.0/0",
];
/// Words that break it.
const WILD: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 3\r\n",
    b"Connection: close\r\n",
    b"Expect: 100-continue\r\n",
    b"Host: x\r\n",
    b"HTTP/1.0",
    b"\x7f",
    b"\x80",
];

fn twist(raw: &mut Vec<u8>, words: &[&[u8]], dice: &mut Dice) {
    let at = dice.below(raw.len() + 1);
    let until = (at + dice.below(12)).min(raw.len());
    let word = words[dice.below(words.len())];
    match dice.below(8) {
        0 if at < raw.len() => raw[at] ^= 1 << dice.below(8),
        1 if at < raw.len() => raw[at] = dice.below(256) as u8,
        2 => drop(raw.drain(at..until)),
        3 => {
            let copy = raw[at..until].repeat(1 + dice.below(40));
            drop(raw.splice(at..at, copy));
        }
        4 => raw.truncate(at),
        // What stands between two signs is a value: another in its place.
        5 | 6 => {
            let is_sign = |byte: &u8| b"/?&=\":,.{}[]".contains(byte);
            let start = raw[..at].iter().rposition(is_sign).map_or(0, |sign| sign + 1);
            let end = raw[at..].iter().position(is_sign).map_or(raw.len(), |sign| at + sign);
            drop(raw.splice(start..end, word.iter().copied()));
        }
        _ => drop(raw.splice(at..at, word.iter().copied())),
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
