//! The owner's side: nothing hidden in a body is carried out with the owner's own credential, no foreign page or name gets in, and
//! every method on every route with every body is answered in step.

use serde_json::json;

use super::tables::{FOREIGN_HOSTS, ROUTES};
use super::{
    Any, CHUNKS, CODINGS, Fate, LENGTHS, LOOKALIKE_LINES, REQUEST_LINES, Refused, TRICK_LINES, Unwelcome, check_no_descriptor_is_lost,
    check_talk,
};
use crate::harness::{BROWSER, Client, Offer, Server, Setup, open_descriptors, path_of, poll, put, shown, talk};

struct Scene {
    server: Server,
    /// A share that every attack would like to close.
    victim: Offer,
    host: String,
    probe: Vec<u8>,
    descriptors: usize,
}

fn scene() -> Scene {
    let server = Setup::new().set("OWNER_HOSTS", "nas.example").start();
    put(&server, "victim.bin", 1000);
    let victim = server.share("victim.bin");
    let host = server.owner.to_string();
    let probe = format!("GET /livez HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").into_bytes();
    assert!(is_probe(&talk(server.owner, &probe, b"").replies[0].text()), "the probe is answered with its own words");
    let descriptors = open_descriptors(server.pid());
    Scene { server, victim, host, probe, descriptors }
}

fn is_probe(body: &str) -> bool {
    body == "{\"status\":\"alive\"}"
}

impl Scene {
    fn close(&self, lines: &str, body: &str) -> String {
        let Self { server, victim, host, .. } = self;
        format!(
            "DELETE /api/v1/shares/{} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {}\r\n{lines}\r\n\r\n{body}",
            victim.id, server.token
        )
    }

    /// What is hidden in bodies: the closing of the victim's share.
    fn hidden(&self) -> String {
        self.close("Content-Length: 0", "")
    }

    fn look(&self, lines: &str, body: &str) -> String {
        format!(
            "GET /api/v1/session HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n{lines}\r\n\r\n{body}",
            self.host, self.server.token
        )
    }

    #[track_caller]
    fn try_it(&self, what: &str, raw: &[u8], fate: Fate) {
        let talk = talk(self.server.owner, raw, &self.probe);
        check_talk(what, raw, &talk, is_probe, fate);
        assert_eq!(self.server.show(&self.victim.id)["outcome"], json!(null), "{what} closed the share: {:?}", shown(raw));
    }

    fn finish(self) {
        check_no_descriptor_is_lost(&self.server, self.descriptors);
        assert_eq!(self.server.fetch("GET", &self.victim.link, &[BROWSER]).expect("it is open").status, 200);
        let talk = talk(self.server.owner, self.hidden().as_bytes(), &self.probe);
        assert!(talk.was_in_step && talk.replies[0].status == 200, "asked plainly it is closed");
        assert_eq!(self.server.outcome(&self.victim.id), "revoked");
    }
}

#[test]
fn a_length_has_one_meaning() {
    let scene = scene();
    for value in LENGTHS {
        scene.try_it("a length", scene.close(&format!("Content-Length:{value}"), "hello").as_bytes(), Refused);
        scene.try_it(
            "a length behind another",
            scene.close(&format!("Content-Length: 5\r\nContent-Length: {value}"), "hello").as_bytes(),
            Refused,
        );
        scene.try_it(
            "a length before another",
            scene.close(&format!("content-length:{value}\r\nCONTENT-LENGTH: 5"), "hello").as_bytes(),
            Refused,
        );
    }
    scene.try_it("two lengths", scene.close("Content-Length: 0\r\nContent-Length: 5", "hello").as_bytes(), Refused);
    scene.try_it("two lengths", scene.close("Content-Length: 5\r\nContent-Length: 0", "hello").as_bytes(), Refused);
    scene.finish();
}

#[test]
fn a_coding_beside_a_length_hides_nothing() {
    let scene = scene();
    let body = format!("0\r\n\r\n{}", scene.hidden());
    for coding in CODINGS {
        let coding = format!("Transfer-Encoding:{coding}");
        for lines in [
            format!("Content-Length: {}\r\n{coding}", body.len()),
            format!("{coding}\r\nContent-Length: {}", body.len()),
            format!("{coding}\r\nTransfer-Encoding: chunked\r\nContent-Length: {}", body.len()),
            format!("Transfer-Encoding: chunked\r\n{coding}\r\nContent-Length: {}", body.len()),
        ] {
            scene.try_it("a coding of a look", scene.look(&lines, &body).as_bytes(), Any);
        }
    }
    scene.finish();
}

#[test]
fn chunks_are_whole_or_the_connection_ends() {
    let scene = scene();
    let lines = format!("Authorization: Bearer {}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked", scene.server.token);
    for chunks in CHUNKS {
        for path in ["/api/v1/shares", "/api/v1/tokens", "/generate-link", "/sign-in", "/api/v1/session/link", "/livez", "/nothing"] {
            let raw = format!("POST {path} HTTP/1.1\r\nHost: {}\r\n{lines}\r\n\r\n{chunks}", scene.host);
            scene.try_it(chunks, raw.as_bytes(), Any);
        }
    }
    scene.finish();
}

#[test]
fn lines_that_only_some_take_for_a_coding_hide_nothing() {
    let scene = scene();
    let body = format!("0\r\n\r\n{}", scene.hidden());
    for line in LOOKALIKE_LINES {
        scene.try_it(line, scene.look(&format!("Content-Length: {}\r\n{line}", body.len()), &body).as_bytes(), Refused);
        scene.try_it(line, scene.look(&format!("{line}\r\nContent-Length: {}", body.len()), &body).as_bytes(), Refused);
    }
    scene.finish();
}

#[test]
fn first_lines_are_read_to_the_letter() {
    let scene = scene();
    for (line, fate) in REQUEST_LINES {
        for path in ["/api/v1/session", "/"] {
            let line = line.replace("PATH", path);
            let raw = format!("{line}\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\r\n", scene.host, scene.server.token);
            // What is well formed and not for us is answered, and the connection goes on.
            scene.try_it(&line, raw.as_bytes(), if *fate == Refused { Unwelcome } else { Any });
        }
    }
    scene.finish();
}

#[test]
fn foreign_names_and_pages_close_nothing() {
    let scene = scene();
    let Scene { server, victim, host, .. } = &scene;
    let cookie = sign_in(server);
    let target = format!("/api/v1/shares/{}", victim.id);
    let port = server.owner.port();
    for foreign in FOREIGN_HOSTS {
        for credential in [format!("Authorization: Bearer {}", server.token), cookie.clone(), format!("X-API-Key: {}", server.token)] {
            for lines in [
                format!("Host: {foreign}\r\n{credential}\r\n"),
                format!("Host: {foreign}\r\nOrigin: http://{foreign}\r\nSec-Fetch-Site: same-origin\r\n{credential}\r\n"),
                format!("Host: {foreign}\r\nHost: {host}\r\n{credential}\r\n"),
                format!("Host: {host}\r\nHost: {foreign}\r\n{credential}\r\n"),
            ] {
                let raw = format!("DELETE {target} HTTP/1.1\r\n{lines}\r\n");
                refuse(&scene, foreign, &raw);
            }
        }
        // Where the name ends early the rest is a path, and nothing is there.
        let absolute = format!("DELETE http://{foreign}{target} HTTP/1.1\r\nHost: {host}\r\n{cookie}\r\n\r\n");
        refuse(&scene, foreign, &absolute);
    }
    let origins = [
        "http://evil.example",
        "https://evil.example",
        "null",
        "",
        "http://",
        "file://",
        "http://127.0.0.1",
        "http://127.0.0.1:1",
        "http://127.0.0.1:80000",
        "about:blank",
        "*",
        "none",
        "data:text/html,x",
        "chrome-extension://abc",
        "moz-extension://abc",
        "HTTP://EVIL.EXAMPLE",
        "javascript:",
        "http://localhost.evil.example",
        "127.0.0.1",
        "//127.0.0.1",
    ];
    let own = format!("http://{host}");
    let origins: Vec<String> = origins
        .iter()
        .map(|it| (*it).to_owned())
        .chain([
            format!("http://{host}.evil.example"),
            format!("http://{host}@evil.example"),
            format!("http://evil.example@{host}"),
            format!("{own}/"),
            format!("{own} http://evil.example"),
            format!("http://evil.example {own}"),
            format!("{own},http://evil.example"),
            format!("{own}\r\nOrigin: http://evil.example"),
            format!("http://evil.example\r\nOrigin: {own}"),
            format!("ftp://{host}"),
            format!("ws://{host}"),
            format!("http://{host}0"),
            format!("http://localhost:{port}"),
            format!("http:{host}"),
            format!("http:/{host}"),
            format!("http://[::1]:{port}"),
        ])
        .collect();
    for origin in &origins {
        let raw = format!("DELETE {target} HTTP/1.1\r\nHost: {host}\r\n{cookie}\r\nOrigin: {origin}\r\n\r\n");
        refuse(&scene, origin, &raw);
    }
    for site in [
        "cross-site",
        "same-site",
        "Cross-Site",
        "",
        "x",
        "same-origin, cross-site",
        "null",
        "same-origin ;",
        "none, cross-site",
        "\"same-origin\"",
    ] {
        for origin in [String::new(), format!("Origin: {own}\r\n")] {
            let raw = format!("DELETE {target} HTTP/1.1\r\nHost: {host}\r\n{cookie}\r\nSec-Fetch-Site: {site}\r\n{origin}\r\n");
            refuse(&scene, site, &raw);
        }
    }
    scene.finish();
}

#[track_caller]
fn refuse(scene: &Scene, what: &str, raw: &str) {
    let talk = talk(scene.server.owner, raw.as_bytes(), b"");
    check_talk(what, raw.as_bytes(), &talk, is_probe, Any);
    for reply in &talk.replies {
        assert!(matches!(reply.status, 400 | 403 | 404 | 405 | 421), "{what}: {} to {:?}", reply.head, shown(raw.as_bytes()));
    }
    assert_eq!(scene.server.show(&scene.victim.id)["outcome"], json!(null), "{what} closed the share");
}

fn sign_in(server: &Server) -> String {
    let mut link = None;
    poll(crate::harness::SOON, "a sign-in link is printed", || {
        let log = server.log_text();
        link =
            log.split_whitespace().find(|word| word.contains("/?token=")).map(|word| word.trim_matches(['"', '\'', ',', '.']).to_owned());
        link.is_some()
    });
    let answer = Client::connect(server.owner).request("GET", path_of(&link.unwrap()), &[BROWSER]).expect("an answer").expect_status(303);
    let cookie = answer.header("set-cookie").expect("a session");
    format!("Cookie: {}", cookie.split(';').next().unwrap())
}

#[test]
fn a_form_of_a_foreign_page_cannot_pass_for_json() {
    let scene = scene();
    let cookie = sign_in(&scene.server);
    for kind in [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain; application/json",
        "text/plain;charset=application/json",
        "application/jsonx",
        "application/json-seq",
        "application/ld+json",
        "text/json",
        "application/json, text/plain",
        "application\\json",
        "json",
        "*/*",
        "application/ json",
    ] {
        let body = "{\"path\":\"victim.bin\"}";
        let raw = format!(
            "POST /api/v1/shares HTTP/1.1\r\nHost: {}\r\n{cookie}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
            scene.host,
            body.len()
        );
        let talk = talk(scene.server.owner, raw.as_bytes(), &scene.probe);
        check_talk(kind, raw.as_bytes(), &talk, is_probe, Any);
        assert_eq!(talk.replies[0].status, 415, "{kind}: {}", talk.replies[0].head);
    }
    assert_eq!(scene.server.api("GET", "/api/v1/shares?state=living", None).json()["shares"].as_array().map(Vec::len), Some(1));
    scene.finish();
}

#[test]
fn lines_that_mean_something_elsewhere_mean_nothing_here() {
    let scene = scene();
    for line in TRICK_LINES {
        scene.try_it(line, scene.look(line, "").as_bytes(), Any);
        // A stranger stays one, whatever is said about who they are.
        let raw = format!("GET /api/v1/shares HTTP/1.1\r\nHost: {}\r\n{line}\r\n\r\n", scene.host);
        let talk = talk(scene.server.owner, raw.as_bytes(), b"");
        check_talk(line, raw.as_bytes(), &talk, is_probe, Any);
        assert!(talk.replies.iter().all(|reply| matches!(reply.status, 400 | 401 | 403)), "{line}: {:?}", talk.replies);
        let back = talk.replies.first().map(|reply| format!("{}{}", reply.head, reply.text())).unwrap_or_default();
        assert!(!back.contains("evil.example") && !back.contains("/etc/passwd") && !back.contains("<script>"), "{line} came back: {back}");
    }
    for line in [
        "Tailscale-Funnel-Request: ?1",
        "tailscale-funnel-request:",
        "TAILSCALE-FUNNEL-REQUEST: ?0",
        "Tailscale-Funnel-Request: x\r\nTailscale-Funnel-Request: y",
    ] {
        for path in ["/api/v1/session", "/livez", "/", "/x"] {
            let raw =
                format!("GET {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n{line}\r\n\r\n", scene.host, scene.server.token);
            let talk = talk(scene.server.owner, raw.as_bytes(), b"");
            assert_eq!(talk.replies[0].status, 403, "{line} {path}");
        }
    }
    scene.finish();
}

#[test]
fn every_method_on_every_route_with_every_body_is_answered_in_step() {
    let scene = scene();
    let hidden = scene.hidden();
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"] {
        for path in ROUTES {
            for credential in [format!("Authorization: Bearer {}\r\n", scene.server.token), String::new()] {
                // By the owner's own word every share is closed, and with them the one that nothing hidden may close.
                if (method, *path, credential.is_empty()) == ("DELETE", "/api/v1/shares", false) {
                    continue;
                }
                for (lines, body) in [
                    (String::new(), String::new()),
                    (format!("Content-Length: {}\r\n", hidden.len()), hidden.clone()),
                    ("Transfer-Encoding: chunked\r\n".to_owned(), format!("{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len())),
                ] {
                    let raw = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n{credential}{lines}\r\n{body}", scene.host);
                    let talk = talk(scene.server.owner, raw.as_bytes(), &scene.probe);
                    if path.ends_with("livez") && method == "GET" {
                        assert!(
                            talk.replies.iter().all(|reply| is_probe(&reply.text())) && talk.replies.len() <= 2 && talk.rest.is_empty(),
                            "{talk:?}"
                        );
                    } else {
                        check_talk(&format!("{method} {path}"), raw.as_bytes(), &talk, is_probe, Any);
                    }
                    assert!(!talk.replies.is_empty(), "{method} {path}: no answer to {:?}", shown(raw.as_bytes()));
                }
            }
        }
    }
    assert_eq!(scene.server.show(&scene.victim.id)["outcome"], json!(null), "a hidden request closed the share");
    scene.finish();
}

#[test]
fn waiting_for_a_hundred_is_waited_for_once() {
    let scene = scene();
    let body = json!({ "path": "absent.bin" }).to_string();
    let start = format!("POST /api/v1/shares HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n", scene.host);
    let credential = format!("Authorization: Bearer {}\r\n", scene.server.token);
    for expect in ["100-continue", "100-Continue", "x", "", "100-continue, 100-continue"] {
        for credential in [&credential[..], ""] {
            let raw = format!("{start}{credential}Expect: {expect}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            scene.try_it(expect, raw.as_bytes(), Any);
        }
    }
    scene.finish();
}

#[test]
fn huge_heads_are_refused_and_ordinary_ones_are_not() {
    let scene = scene();
    let filler = |bytes: usize| format!("X-Filler: {}", "f".repeat(bytes));
    for (bytes, is_fine) in [(1_000, true), (15_000, true), (200_000, false), (1_000_000, false), (10_000_000, false)] {
        let raw = scene.look(&filler(bytes), "");
        let talk = talk(scene.server.owner, raw.as_bytes(), &scene.probe);
        check_talk("a filler", raw.as_bytes(), &talk, is_probe, if is_fine { Any } else { Refused });
        assert!(!is_fine || talk.replies[0].status == 200, "{bytes}: {}", talk.replies[0].head);
    }
    for (fields, is_fine) in [(10, true), (60, true), (200, false), (5_000, false)] {
        let lines: Vec<String> = (0..fields).map(|n| format!("X-{n}: y")).collect();
        let raw = scene.look(&lines.join("\r\n"), "");
        let talk = talk(scene.server.owner, raw.as_bytes(), &scene.probe);
        check_talk("fields", raw.as_bytes(), &talk, is_probe, if is_fine { Any } else { Refused });
        assert!(!is_fine || talk.replies[0].status == 200, "{fields} fields: {}", talk.replies[0].head);
    }
    for target in ["q".repeat(70_000), "q=&".repeat(30_000), "%".repeat(100_000), "a/".repeat(40_000)] {
        let raw = format!("GET /?{target} HTTP/1.1\r\nHost: {}\r\n\r\n", scene.host);
        scene.try_it("a long target", raw.as_bytes(), Refused);
    }
    scene.try_it("no end of line", "G".repeat(1_000_000).as_bytes(), Refused);
    scene.try_it("a name without end", scene.look(&"N".repeat(500_000), "").as_bytes(), Refused);
    scene.finish();
}

#[test]
fn a_pipeline_is_answered_in_order_and_half_a_request_is_none() {
    let scene = scene();
    let one = |n: usize| {
        let id = format!("X-Request-Id: n{n}");
        format!(
            "GET /api/v1/files/absent-{n} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n{id}\r\n\r\n",
            scene.host, scene.server.token
        )
    };
    let mut client = Client::connect(scene.server.owner);
    client.send((0..300).map(one).collect::<String>().as_bytes());
    for n in 0..300 {
        let answer = client.answer("GET").expect("each is answered").expect_status(404);
        assert_eq!(answer.header("x-request-id"), Some(format!("n{n}")));
    }
    drop(client);
    let whole = scene.close("Content-Length: 5\r\nX: y", "hell");
    for end in (0..whole.len()).step_by(5) {
        let mut leaving = Client::connect(scene.server.owner);
        leaving.send(&whole.as_bytes()[..end]);
        if end % 2 == 0 {
            leaving.reset();
        } else {
            leaving.close_for_writing();
            let said = leaving.read_to_close(crate::harness::SOON);
            assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 4") || end > whole.len() - 5, "after {end}: {:?}", shown(&said));
        }
    }
    check_no_descriptor_is_lost(&scene.server, scene.descriptors);
}
