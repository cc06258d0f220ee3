//! Spellings of paths that lead out of the shared folder somewhere: in JSON, in queries, in addresses of the owner's side and in those
//! of recipients. A file outside holds a canary; it, and every failure of ours, must stay out of every answer.

mod spellings;

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use self::spellings::{SLASHES, UPS, WHOLE};
use crate::harness::{BROWSER, Client, Server, Setup, put, random_hex, shown, talk};

struct Scene {
    server: Server,
    canary: String,
}

fn scene() -> Scene {
    let server = Setup::new().start();
    let canary = format!("CANARY-{}", random_hex(16));
    put(&server, "inside.bin", 100);
    put(&server, "folder/inside.bin", 100);
    std::fs::create_dir(server.root.join("folder/sub")).unwrap();
    for outside in ["canary.txt", "state/canary.txt"] {
        std::fs::write(server.folder().join(outside), &canary).unwrap();
    }
    std::fs::write(server.root.join(".hidden"), &canary).unwrap();
    let links = [
        ("link-up", ".."),
        ("link-file", "../canary.txt"),
        ("link-state", "../state"),
        ("link-root", "/"),
        ("link-proc", "/proc/self"),
        ("link-loop", "link-loop"),
        ("link-in", "folder"),
        ("folder/link-up", "../.."),
        ("folder/sub/canary.txt", "../../../canary.txt"),
    ];
    for (name, target) in links {
        symlink(target, server.root.join(name)).unwrap();
    }
    let pipe = rustix::fs::mknodat(rustix::fs::CWD, server.root.join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0);
    pipe.expect("a pipe can be made");
    Scene { server, canary }
}

/// Every spelling there is, each once.
fn all_spellings(scene: &Scene) -> Vec<String> {
    let mut all: BTreeSet<String> = WHOLE.iter().map(|it| (*it).to_owned()).collect();
    for up in UPS {
        for (nth, slash) in SLASHES.iter().enumerate() {
            // Every pair leads to the canary; the other places and depths are taken in turn.
            all.insert(format!("{up}{slash}canary.txt"));
            all.insert(match nth % 5 {
                0 => format!("folder{slash}{up}{slash}{up}{slash}canary.txt"),
                1 => format!("{up}{slash}state{slash}jwt.key"),
                2 => format!("folder{slash}sub{slash}{up}{slash}{up}{slash}{up}{slash}canary.txt"),
                3 => format!("{slash}{up}{slash}canary.txt"),
                _ => format!("{up}{slash}nas{slash}..{slash}canary.txt"),
            });
        }
        all.insert(format!("{up}/").repeat(40) + "etc/passwd");
        all.insert(format!("folder/{up}"));
    }
    let absolute = scene.server.folder().join("canary.txt").to_str().unwrap().to_owned();
    for slash in SLASHES {
        all.insert(absolute.replace('/', slash));
        all.insert(format!("{slash}{slash}{absolute}"));
    }
    all.extend([
        "x".repeat(255),
        "x".repeat(256),
        "x/".repeat(2047) + "y",
        "x/".repeat(2048) + "y",
        "../".repeat(1000) + "etc/passwd",
        "a".repeat(30_000),
        "\u{ff0e}".repeat(2000),
    ]);
    all.into_iter().collect()
}

impl Scene {
    #[track_caller]
    fn check_clean(&self, what: &str, text: &str) {
        let key = std::fs::read_to_string(self.server.state.join("jwt.key")).unwrap();
        for secret in [&self.canary[..], key.trim(), "root:x:0:"] {
            assert!(!text.contains(secret), "{what:?} brought what lies outside: {text}");
        }
    }

    /// Asks as the owner; fails unless it is refused in a sentence with a code.
    #[track_caller]
    fn check_refused(&self, what: &str, status: u64, problem: &Value) {
        let codes =
            ["bad_path", "unknown_file", "is_folder", "not_a_file", "not_a_folder", "bad_field", "not_found", "bad_query", "bad_request"];
        let code = problem["code"].as_str().unwrap_or_default();
        assert!((400..500).contains(&status), "{what:?}: {status} {problem}");
        assert!(codes.contains(&code), "{what:?}: the code {code:?} is none of those for paths: {problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{what:?}: {problem}");
    }
}

#[test]
fn no_spelling_in_json_is_shared() {
    let scene = scene();
    let all = all_spellings(&scene);
    assert!(all.len() > 500, "{} spellings", all.len());
    for hundred in all.chunks(100) {
        // A body has a longest length, so the longest names come alone.
        let (short, long): (Vec<&String>, Vec<&String>) = hundred.iter().partition(|it| it.len() < 500);
        let answer = scene.server.api("POST", "/api/v1/shares", Some(&json!({ "paths": short }))).expect_status(207);
        scene.check_clean("a batch", &answer.text());
        let results = answer.json()["results"].as_array().unwrap().clone();
        assert_eq!(results.len(), short.len());
        for (spelling, result) in short.iter().zip(&results) {
            scene.check_refused(spelling, result["status"].as_u64().unwrap(), &result["problem"]);
        }
        for spelling in long.into_iter().chain(short.into_iter().step_by(7)) {
            for (path, body) in [("/api/v1/shares", json!({ "path": spelling })), ("/generate-link", json!({ "file_path": spelling }))] {
                let answer = scene.server.api("POST", path, Some(&body));
                scene.check_clean(spelling, &answer.text());
                scene.check_refused(spelling, answer.status.into(), &answer.json());
            }
        }
    }
    let list = scene.server.api("GET", "/api/v1/shares?state=living", None).expect_status(200).json();
    assert_eq!(list["shares"], json!([]), "nothing was shared");
}

#[test]
fn no_spelling_in_a_query_lists_or_finds_anything_outside() {
    let scene = scene();
    let inside: BTreeSet<&str> = ["", "folder", "inside.bin", "folder/inside.bin", "folder/sub"].into();
    let mut client = Client::connect(scene.server.owner);
    let bearer = format!("Authorization: Bearer {}", scene.server.token);
    for spelling in all_spellings(&scene).iter().filter(|it| it.len() < 5000) {
        let encoded = utf8_percent_encode(spelling, NON_ALPHANUMERIC).to_string();
        let listing = client.request("GET", &format!("/api/v1/files?path={encoded}"), &[&bearer]).expect("an answer");
        scene.check_clean(spelling, &listing.text());
        if !inside.contains(&spelling[..]) {
            scene.check_refused(spelling, listing.status.into(), &listing.json());
        }
        let found = client.request("GET", &format!("/api/v1/files?query={encoded}"), &[&bearer]).expect("an answer");
        scene.check_clean(spelling, &found.text());
        assert!(found.status < 500, "{spelling:?}: {}", found.head_text());
        for entry in found.json()["entries"].as_array().into_iter().flatten() {
            assert!(inside.contains(entry["path"].as_str().unwrap()), "{spelling:?} found {entry}");
        }
    }
}

#[test]
fn no_spelling_in_an_address_shows_anything_outside() {
    let scene = scene();
    let bearer = format!("Authorization: Bearer {}", scene.server.token);
    let host = scene.server.owner;
    for spelling in all_spellings(&scene).iter().filter(|it| it.len() < 5000) {
        for start in ["/api/v1/files/", "/assets/", "/download/", "/api/v1/shares/", "/"] {
            // As it stands, where it can stand in a first line; else encoded once.
            let is_plain = spelling.bytes().all(|byte| byte.is_ascii_graphic());
            let target = if is_plain { spelling.clone() } else { utf8_percent_encode(spelling, NON_ALPHANUMERIC).to_string() };
            let raw = format!("GET {start}{target} HTTP/1.1\r\nHost: {host}\r\n{bearer}\r\nConnection: close\r\n\r\n");
            let talk = talk(host, raw.as_bytes(), b"");
            assert!(talk.replies.len() == 1 && talk.rest.is_empty(), "{start}{spelling:?}: {talk:?}");
            let reply = &talk.replies[0];
            scene.check_clean(spelling, &reply.text());
            assert!(reply.status < 500, "{start}{spelling:?}: {}", reply.head);
            // What an address cuts off (`?`, `#`) may leave the address of something that is there.
            let left = target.split(['?', '#']).next().unwrap();
            let path: Vec<u8> = percent_encoding::percent_decode_str(left).collect();
            let is_inside = ["inside.bin", "folder", "folder/inside.bin", "folder/sub", ""].iter().any(|it| it.as_bytes() == path);
            assert!(start != "/api/v1/files/" || is_inside || reply.status >= 400, "{start}{spelling:?}: {} {}", reply.head, reply.text());
        }
    }
}

#[test]
fn no_spelling_in_a_recipients_address_brings_another_file() {
    let scene = scene();
    let offer = scene.server.share_with(&json!({ "path": "inside.bin", "policy": { "max_downloads": 3 } }));
    let transfer = scene.server.redeem(&offer);
    let content = std::fs::read(scene.server.root.join("inside.bin")).unwrap();
    let (transfer, share) =
        (transfer.rsplit_once('/').unwrap().0.to_owned(), offer.redeem_path()[1..].split('/').next().unwrap().to_owned());
    let host = scene.server.recipient;
    for spelling in all_spellings(&scene).iter().filter(|it| it.len() < 5000) {
        let target = if spelling.bytes().all(|byte| byte.is_ascii_graphic()) {
            spelling.clone()
        } else {
            utf8_percent_encode(spelling, NON_ALPHANUMERIC).to_string()
        };
        for (start, is_ours) in [
            (format!("{transfer}/"), true),
            (format!("{}/", offer.redeem_path()), false),
            (format!("/{share}/get/"), false),
            (format!("/{share}/"), false),
            ("/".to_owned(), false),
        ] {
            let raw = format!("GET {start}{target} HTTP/1.1\r\nHost: {host}\r\n{BROWSER}\r\nConnection: close\r\n\r\n");
            let talk = talk(host, raw.as_bytes(), b"");
            assert!(talk.replies.len() <= 1 && talk.rest.is_empty(), "{start}{spelling:?}: {talk:?}");
            let Some(reply) = talk.replies.first() else { continue };
            scene.check_clean(spelling, &reply.text());
            // The last part of an address is for people: whatever stands there, it is the shared file or its page.
            let is_fine = match reply.status {
                200 if is_ours => reply.body == content,
                200 => reply.text().contains("inside.bin") && reply.text().contains("<form"),
                status => (400..500).contains(&status),
            };
            assert!(is_fine, "{start}{spelling:?}: {} {}", reply.head, shown(&reply.body));
        }
    }
    assert_eq!(scene.server.uses(&offer.id), 1, "none of them redeemed");
}
