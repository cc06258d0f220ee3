//! Spellings of a genuine link's token, and tokens that were signed with the very key and say something else. None redeems; the
//! genuine one does so once.

mod twists;

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use self::twists::{twisted_claims, twisted_headers};
use crate::harness::{BROWSER, Offer, Server, Setup, poll, put, shown, talk};

const SECRET: &str = "q8Zp3LfX0bWvT7yRm2NcKd5HsJ9gUeA1";
const OTHER_SECRET: &str = "Zx81mVbQ4tYpR0sLwEjK7nHdC3fGuA9i";

struct Scene {
    server: Server,
    offer: Offer,
    share: String,
    token: String,
}

fn scene() -> Scene {
    let server = Setup::new().set("JWT_SECRET", SECRET).start();
    put(&server, "film.mkv", 1000);
    let offer = server.share("film.mkv");
    let (share, token) = offer.redeem_path()[1..].split_once('/').map(|(share, token)| (share.to_owned(), token.to_owned())).unwrap();
    Scene { server, offer, share, token }
}

impl Scene {
    fn parts(&self) -> [&str; 3] {
        let parts: Vec<&str> = self.token.split('.').collect();
        parts.try_into().expect("a token has three parts")
    }

    fn header(&self) -> String {
        String::from_utf8(URL_SAFE_NO_PAD.decode(self.parts()[0]).unwrap()).unwrap()
    }

    fn claims(&self) -> String {
        String::from_utf8(URL_SAFE_NO_PAD.decode(self.parts()[1]).unwrap()).unwrap()
    }

    /// Tries each token by the button, by a client that is led to its transfer and by one that is given the bytes.
    fn try_all(&self, tokens: impl IntoIterator<Item = String>) -> usize {
        let tokens: BTreeSet<String> = tokens.into_iter().filter(|token| *token != self.token).collect();
        let host = self.server.recipient;
        for token in &tokens {
            for start in ["POST", "GET"] {
                let raw = format!(
                    "{start} /{}/{token} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: curl/8.5.0\r\nConnection: close\r\n\r\n",
                    self.share
                );
                let talk = talk(host, raw.as_bytes(), b"");
                for reply in &talk.replies {
                    assert!((400..500).contains(&reply.status), "{start} {:?}: {} {}", shown(token.as_bytes()), reply.head, reply.text());
                }
            }
        }
        assert_eq!(self.server.uses(&self.offer.id), 0, "one of them redeemed");
        tokens.len()
    }

    /// The genuine link works, once.
    fn finish(self) {
        self.server.redeem(&self.offer);
        let again = self.server.fetch("POST", &self.offer.redeem_path(), &[BROWSER]).expect("a genuine link is answered");
        assert!(matches!(again.status, 409 | 410), "{}", again.text());
        assert_eq!(self.server.uses(&self.offer.id), 1);
    }
}

fn signed_by(secret: &str, message: &str) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap().chain_update(message).finalize();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac.into_bytes()))
}

fn signed(header: &str, claims: &str) -> String {
    signed_by(SECRET, &format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims)))
}

#[test]
fn no_other_letters_for_the_same_token_redeem() {
    let scene = scene();
    let Scene { token, .. } = &scene;
    let [header, claims, signature] = scene.parts();
    let mac = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let mut all: Vec<String> = Vec::new();
    // Each bit of the signature.
    for bit in 0..mac.len() * 8 {
        let mut other = mac.clone();
        other[bit / 8] ^= 1 << (bit % 8);
        all.push(format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode(other)));
    }
    // At each place: the neighbouring letter (spare bits), another case, its percent-encoding, something between, an end.
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for (at, letter) in token.char_indices() {
        let (before, behind) = (&token[..at], &token[at + 1..]);
        if let Some(value) = ALPHABET.iter().position(|it| char::from(*it) == letter) {
            all.push(format!("{before}{}{behind}", char::from(ALPHABET[value ^ 1])));
            all.push(format!("{before}{}{behind}", char::from(ALPHABET[value ^ 2])));
            all.push(format!("{before}{}{behind}", char::from(ALPHABET[value ^ 32])));
        }
        all.push(format!("{before}%{:02X}{behind}", u32::from(letter)));
        all.push(format!("{before}%25{:02x}{behind}", u32::from(letter)));
        all.push(before.to_owned());
        all.push(format!("{before}{behind}"));
        if at % 16 == 0 {
            all.extend(
                [
                    "=",
                    "%3d",
                    "+",
                    "%2b",
                    "%20",
                    "%0a",
                    "%0d%0a",
                    "%00",
                    "%09",
                    ".",
                    "-",
                    "_",
                    "/",
                    "//",
                    "%2f",
                    ";",
                    ";x=",
                    ":",
                    "~",
                    "*",
                    "!",
                    "@",
                    "%c0%80",
                    "%e2%80%8b",
                    "%ef%bb%bf",
                    "%ad",
                ]
                .map(|it| format!("{before}{it}{letter}{behind}")),
            );
        }
    }
    // Other alphabets and paddings of the very bytes.
    let [header_bytes, claims_bytes] = [header, claims].map(|part| URL_SAFE_NO_PAD.decode(part).unwrap());
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    for encode in [
        |bytes: &[u8]| URL_SAFE.encode(bytes),
        |bytes: &[u8]| STANDARD.encode(bytes),
        |bytes: &[u8]| STANDARD.encode(bytes).replace('/', "%2F").replace('+', "%2B"),
    ] {
        all.push(format!("{}.{claims}.{signature}", encode(&header_bytes)));
        all.push(format!("{header}.{}.{signature}", encode(&claims_bytes)));
        all.push(format!("{header}.{claims}.{}", encode(&mac)));
        all.push(format!("{}.{}.{}", encode(&header_bytes), encode(&claims_bytes), encode(&mac)));
    }
    all.extend([
        format!("{header}.{claims}.{}", hex(&mac)),
        format!("{}.{claims}.{signature}", hex(&header_bytes)),
        String::from_utf8(header_bytes.clone()).unwrap().replace(['{', '"', ' '], "") + &format!(".{claims}.{signature}"),
        URL_SAFE_NO_PAD.encode(token),
        format!("{token}{token}"),
        format!("{token}.{token}"),
        format!("{token}/../{token}x"),
        format!("{token},{token}"),
        format!("{token}%2C{token}"),
        format!("Bearer%20{token}"),
        format!("{token}.{signature}"),
        format!(".{token}"),
        format!("{header}..{claims}.{signature}"),
        format!("{claims}.{header}.{signature}"),
        format!("{header}.{signature}.{claims}"),
        format!("{signature}.{claims}.{header}"),
        format!("{header}.{claims}.{signature}.{signature}.{signature}"),
        token.to_uppercase(),
        token.to_lowercase(),
        token.chars().rev().collect(),
        "A".repeat(600),
        "A".repeat(15_000),
        token.repeat(40),
        "A".repeat(64 * 1024),
        ".".repeat(512),
        "..".to_owned(),
        ".".to_owned(),
    ]);
    let tried = scene.try_all(all);
    assert!(tried > 500, "{tried} spellings");
    scene.finish();
}

#[test]
fn nothing_else_that_the_key_signed_redeems() {
    let scene = scene();
    let other = scene.server.share("film.mkv");
    let (other_share, other_token) =
        other.redeem_path()[1..].split_once('/').map(|(share, token)| (share.to_owned(), token.to_owned())).unwrap();
    let other_claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(other_token.split('.').nth(1).unwrap()).unwrap()).unwrap();
    let (header, claims) = (scene.header(), scene.claims());
    assert_eq!(signed(&header, &claims), scene.token, "the test signs as the server does");
    let mut all = vec![other_token];
    let claims_twisted = twisted_claims(&claims, &other_share, other_claims["jti"].as_str().unwrap());
    all.extend(claims_twisted.iter().filter(|it| **it != claims).map(|it| signed(&header, it)));
    for twisted in twisted_headers(&header).iter().filter(|it| **it != header) {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(twisted), scene.parts()[1]);
        // Signed with the key, with another, with nothing, with a public text, and with the genuine signature.
        all.extend([
            signed_by(SECRET, &message),
            signed_by(OTHER_SECRET, &message),
            signed_by("", &message),
            signed_by("portcullis", &message),
        ]);
        all.extend([format!("{message}."), message.clone(), format!("{message}.{}", scene.parts()[2])]);
    }
    let plain = format!("{}.{}", scene.parts()[0], scene.parts()[1]);
    for secret in [
        OTHER_SECRET,
        "",
        "secret",
        "portcullis",
        &SECRET[1..],
        &SECRET.to_lowercase(),
        &URL_SAFE_NO_PAD.encode(SECRET),
        &format!("{SECRET}\0"),
        &format!("{SECRET}\n"),
    ] {
        // HMAC fills a short key up with zeros, so a key and the key with a zero behind it are one. Nobody sets such a key.
        if secret.trim_end_matches('\0') != SECRET {
            all.push(signed_by(secret, &plain));
        }
    }
    let tried = scene.try_all(all);
    assert!(tried > 500, "{tried} tokens");
    scene.finish();
}

#[test]
fn the_share_and_not_the_link_says_when_it_ends() {
    let scene = scene();
    let short = scene.server.share_with(&json!({ "path": "film.mkv", "policy": { "expires_in_seconds": 1 } }));
    let (share, token) = short.redeem_path()[1..].split_once('/').map(|(share, token)| (share.to_owned(), token.to_owned())).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap();
    poll(crate::harness::SOON, "the short share ends", || scene.server.show(&short.id)["state"] == "closed");
    assert_eq!(scene.server.outcome(&short.id), "expired");
    // Expired by a moment: the link itself, and one that promises itself a thousand years more with the very key.
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap();
    let eternal = signed(&scene.header(), &text.replacen(&claims["exp"].to_string(), "33340000000", 1));
    for token in [token, eternal] {
        let answer = scene.server.fetch("POST", &format!("/{share}/{token}"), &[BROWSER]).expect("a genuine link is answered");
        assert_eq!(answer.status, 410, "{}", answer.text());
        let answer = scene.server.fetch("GET", &format!("/{share}/{token}/film.mkv"), &["User-Agent: curl/8.5.0"]).expect("an answer");
        assert_eq!(answer.status, 410, "{}", answer.text());
    }
    assert_eq!(scene.server.uses(&short.id), 0);
    scene.finish();
}

#[test]
fn a_forged_token_learns_nothing_on_the_owners_side_either() {
    let scene = scene();
    let bearer = format!("Authorization: Bearer {}", scene.server.token);
    let host = scene.server.owner;
    let forged: Vec<String> =
        twisted_headers(&scene.header()).iter().map(|it| signed(it, &scene.claims())).filter(|it| *it != scene.token).collect();
    for token in &forged {
        let raw = format!("GET /download/{token} HTTP/1.1\r\nHost: {host}\r\n{bearer}\r\nConnection: close\r\n\r\n");
        let talk = talk(host, raw.as_bytes(), b"");
        assert_eq!(talk.replies.iter().map(|it| it.status).collect::<Vec<_>>(), [404], "{token}");
    }
    // A link's token is no credential of an owner, genuine or not. After some tries no more are looked at.
    for token in forged.iter().take(12).chain([&scene.token]) {
        let raw = format!("GET /api/v1/session HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n");
        let status = talk(host, raw.as_bytes(), b"").replies.first().map(|it| it.status);
        assert!(matches!(status, Some(401 | 429)), "{token}: {status:?}");
    }
    // The owner is an owner again once the tries are over, which `owner.rs` shows; here it is the link that must still work.
    assert_eq!(scene.server.fetch("POST", &scene.offer.redeem_path(), &[BROWSER]).expect("an answer").status, 303);
}
