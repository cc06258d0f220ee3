//! The public side: nothing of this redeems, and every doubtful head is the connection's last.

use serde_json::json;

use super::{
    Any, CHUNKS, CODINGS, Fate, LENGTHS, LOOKALIKE_LINES, REQUEST_LINES, Refused, TRICK_LINES, check_no_descriptor_is_lost, check_talk,
};
use crate::harness::{BROWSER, Client, Offer, Server, Setup, open_descriptors, put, request, talk};

struct Scene {
    server: Server,
    /// A share for one download, which every attack would like to redeem.
    victim: Offer,
    host: String,
    probe: Vec<u8>,
    descriptors: usize,
}

fn scene() -> Scene {
    let server = Setup::new().start();
    put(&server, "victim.bin", 1000);
    put(&server, "seen-by-the-probe.bin", 1000);
    let (victim, other) = (server.share("victim.bin"), server.share("seen-by-the-probe.bin"));
    let host = server.recipient.to_string();
    let probe = request("GET", &other.link, &host, &[BROWSER, "Connection: close"], None);
    assert!(is_probe(&talk(server.recipient, &probe, b"").replies[0].text()), "the probe is answered with its own page");
    let descriptors = open_descriptors(server.pid());
    Scene { server, victim, host, probe, descriptors }
}

fn is_probe(body: &str) -> bool {
    body.contains("seen-by-the-probe.bin")
}

impl Scene {
    /// What is hidden in bodies: the button of the victim's link.
    fn hidden(&self) -> String {
        format!("POST {} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n", self.victim.redeem_path(), self.host)
    }

    fn post(&self, lines: &str, body: &str) -> String {
        format!("POST {} HTTP/1.1\r\nHost: {}\r\n{lines}\r\n\r\n{body}", self.victim.redeem_path(), self.host)
    }

    fn page(&self, lines: &str, body: &str) -> String {
        format!("GET {} HTTP/1.1\r\nHost: {}\r\n{BROWSER}\r\n{lines}\r\n\r\n{body}", self.victim.link, self.host)
    }

    #[track_caller]
    fn try_it(&self, what: &str, raw: &[u8], fate: Fate) {
        let talk = talk(self.server.recipient, raw, &self.probe);
        check_talk(what, raw, &talk, is_probe, fate);
        assert_eq!(self.server.uses(&self.victim.id), 0, "{what} redeemed: {:?}", crate::harness::shown(raw));
    }

    /// The link still works, once; and nothing of what was tried is kept open.
    fn finish(self) {
        check_no_descriptor_is_lost(&self.server, self.descriptors);
        self.server.redeem(&self.victim);
        assert_eq!(self.server.uses(&self.victim.id), 1);
    }
}

#[test]
fn a_length_has_one_spelling() {
    let scene = scene();
    for value in LENGTHS {
        scene.try_it("a length", scene.post(&format!("Content-Length:{value}"), "hello").as_bytes(), Refused);
        scene.try_it(
            "a length behind a good one",
            scene.post(&format!("Content-Length: 5\r\nContent-Length: {value}"), "hello").as_bytes(),
            Refused,
        );
        scene.try_it(
            "a length before a good one",
            scene.post(&format!("content-length:{value}\r\nCONTENT-LENGTH: 5"), "hello").as_bytes(),
            Refused,
        );
        scene.try_it("of a page", scene.page(&format!("Content-Length: {value}x"), &scene.hidden()).as_bytes(), Refused);
    }
    for twice in ["5\r\nContent-Length: 5", "0\r\nContent-Length: 5", "5\r\nContent-Length: 0", "0\r\nContent-Length: 0"] {
        scene.try_it("two lengths", scene.post(&format!("Content-Length: {twice}"), "hello").as_bytes(), Refused);
    }
    scene.finish();
}

#[test]
fn no_transfer_coding_is_read() {
    let scene = scene();
    let body = format!("0\r\n\r\n{}", scene.hidden());
    for coding in CODINGS {
        let coding = format!("Transfer-Encoding:{coding}");
        for lines in [
            coding.clone(),
            format!("Content-Length: {}\r\n{coding}", body.len()),
            format!("{coding}\r\nContent-Length: {}", body.len()),
            format!("Content-Length: 5\r\n{coding}"),
            format!("{coding}\r\ntransfer-encoding: identity\r\nContent-Length: 5"),
        ] {
            scene.try_it("a coding of a button", scene.post(&lines, &body).as_bytes(), Refused);
            scene.try_it("a coding of a page", scene.page(&lines, &body).as_bytes(), Refused);
        }
    }
    for chunks in CHUNKS {
        scene.try_it("chunks", scene.post("Transfer-Encoding: chunked", &format!("{chunks}{}", scene.hidden())).as_bytes(), Refused);
    }
    scene.finish();
}

#[test]
fn lines_that_only_some_take_for_a_coding_are_refused() {
    let scene = scene();
    let body = format!("0\r\n\r\n{}", scene.hidden());
    for line in LOOKALIKE_LINES {
        for lines in [format!("Content-Length: {}\r\n{line}", body.len()), format!("{line}\r\nContent-Length: {}", body.len())] {
            scene.try_it("a line", scene.post(&lines, &body).as_bytes(), Refused);
            scene.try_it("a line of a page", scene.page(&lines, &body).as_bytes(), Refused);
        }
    }
    scene.finish();
}

#[test]
fn first_lines_are_read_to_the_letter() {
    let scene = scene();
    for (line, fate) in REQUEST_LINES {
        for path in [&scene.victim.link, &scene.victim.redeem_path()] {
            let line = line.replace("PATH", path);
            // A page of a link is no harm: what is asked of a doubtful line is that it is refused whatever its method.
            for line in [line.clone(), line.replacen("GET", "POST", 1)] {
                if *fate == Any && line.starts_with("POST") {
                    continue;
                }
                let raw = format!("{line}\r\nHost: {}\r\n{BROWSER}\r\n\r\n", scene.host);
                scene.try_it(&line, raw.as_bytes(), *fate);
            }
        }
    }
    scene.finish();
}

#[test]
fn line_ends_are_crlf_and_nothing_else() {
    let scene = scene();
    let good = String::from_utf8(request("POST", &scene.victim.redeem_path(), &scene.host, &[BROWSER], None)).unwrap();
    let ends = good.matches("\r\n").count();
    for odd in ["\n", "\r", "\r\r\n", "\n\r\n", "\r\n ", "\r\n\t", "\u{b}\r\n", "\0\r\n", "\n\n", "\n\r"] {
        // The odd end in place of each one but the last, and of all.
        let at_each = (0..ends - 1).map(|nth| {
            let (at, _) = good.match_indices("\r\n").nth(nth).unwrap();
            format!("{}{odd}{}", &good[..at], &good[at + 2..])
        });
        for raw in at_each.chain([good.replace("\r\n", odd)]) {
            scene.try_it(&format!("{odd:?} for an end of line"), format!("{raw}\r\n\r\n").as_bytes(), Refused);
        }
    }
    scene.finish();
}

#[test]
fn hosts_are_one_and_there() {
    let scene = scene();
    let path = scene.victim.redeem_path();
    for lines in [
        "",
        "Host: a\r\nHost: b\r\n",
        "Host: a\r\nhost: a\r\n",
        "Host: a\r\nX: y\r\nHOST: b\r\n",
        "Host : a\r\n",
        " Host: a\r\n",
        "Host\t: a\r\n",
        "X: y\r\n Host: a\r\n",
        "Host\0: a\r\n",
        "Host: a\0\r\n",
        "Host: a\rb\r\n",
        "H\u{f6}st: a\r\n",
        "Host; a\r\n",
        "Host\r\n",
        ": a\r\n",
    ] {
        scene.try_it(lines, format!("POST {path} HTTP/1.1\r\n{lines}Content-Length: 0\r\n\r\n").as_bytes(), Refused);
    }
    // Which name it is does not matter here: a tunnel's proxy may call us by any. It changes nothing that is answered.
    for host in
        ["evil.example", "", "127.0.0.1:1", "[::1]", "a b", "a,b", "../..", "<script>", "localhost@evil", "\u{e9}", "a:b:c", "-", "_", "."]
    {
        let raw = format!("GET {} HTTP/1.1\r\nHost: {host}\r\n{BROWSER}\r\n\r\n", scene.victim.link);
        let talk = talk(scene.server.recipient, raw.as_bytes(), b"");
        check_talk(host, raw.as_bytes(), &talk, is_probe, Any);
        let page = talk.replies.first().map(|reply| format!("{}{}", reply.head, reply.text())).unwrap_or_default();
        assert!(host.len() < 4 || !page.contains(host), "{host} came back: {page}");
    }
    scene.finish();
}

#[test]
fn lines_that_mean_something_elsewhere_mean_nothing_here() {
    let scene = scene();
    for line in TRICK_LINES {
        scene.try_it(line, scene.page(line, "").as_bytes(), Any);
        let raw = format!("HEAD {} HTTP/1.1\r\nHost: {}\r\n{BROWSER}\r\n{line}\r\n\r\n", scene.victim.link, scene.host);
        scene.try_it(line, raw.as_bytes(), Any);
    }
    scene.finish();
}

#[test]
fn no_waiting_for_a_hundred_and_no_other_protocol() {
    let scene = scene();
    for value in ["100-continue", "100-Continue", "200-ok", "", "100-continue, 100-continue", "100-continue;q=1", "x"] {
        scene.try_it("an expectation", scene.post(&format!("Expect: {value}\r\nContent-Length: 5"), "hello").as_bytes(), Refused);
        scene.try_it("an expectation of a page", scene.page(&format!("Expect: {value}"), "").as_bytes(), Refused);
    }
    for (what, raw) in [
        ("HTTP/2 at once", &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..]),
        ("a TLS greeting", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and the rest of it, which is long enough for a head\r\n\r\n"),
        ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
        ("SMTP", b"EHLO evil.example\r\n\r\n"),
        ("a PROXY line", b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("PROXY in binary", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01\0\x01\0\x02GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("RTSP", b"OPTIONS rtsp://x/ RTSP/1.0\r\nCSeq: 1\r\n\r\n"),
        ("redis", b"*1\r\n$4\r\nPING\r\n\r\n"),
        ("SOCKS", b"\x05\x01\x00"),
        ("NULs", &[0; 4096]),
        ("an answer", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("all bytes", &std::array::from_fn::<u8, 256, _>(|at| at as u8)),
    ] {
        scene.try_it(what, raw, Refused);
    }
    scene.finish();
}

#[test]
fn every_method_on_every_path_with_every_body_is_met_in_step() {
    let scene = scene();
    let open = scene.server.share_with(&json!({ "path": "victim.bin", "policy": { "max_downloads": 1000 } }));
    let transfer = scene.server.redeem(&open);
    let live = transfer.replacen("/get/", "/live/", 1);
    let hidden = scene.hidden();
    let bodies = [
        String::new(),
        "Content-Length: 0\r\n".to_owned(),
        format!("Content-Length: {}\r\n", hidden.len()),
        "Transfer-Encoding: chunked\r\n".to_owned(),
        format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", hidden.len() + 5),
        "Content-Length: 1025\r\n".to_owned(),
    ];
    let paths =
        [open.link.clone(), open.redeem_path(), format!("{}/", open.redeem_path()), transfer, live, "/".to_owned(), "/x/y/z".to_owned()];
    for method in ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "QUERY", "get", "POST"] {
        for path in &paths {
            for (at, lines) in bodies.iter().enumerate() {
                // Whoever sends no body sends none: what stood behind would be a request of its own.
                let body = match at {
                    0 | 1 => "",
                    3 => &format!("{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len()),
                    4 => &format!("0\r\n\r\n{hidden}"),
                    _ => &hidden,
                };
                // A stream ends when its reader leaves, which is not what is asked here.
                if path.contains("/live/") && method == "GET" && at < 2 {
                    continue;
                }
                let raw = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n{BROWSER}\r\n{lines}\r\n{body}", scene.host);
                scene.try_it(&format!("{method} {path}"), raw.as_bytes(), Any);
            }
        }
    }
    scene.finish();
}

#[test]
fn a_refusal_of_a_head_request_is_a_head_alone() {
    let scene = scene();
    for lines in ["Content-Length: 5", "Transfer-Encoding: chunked", "Expect: 100-continue", "X: y\r\n folded", "Host: second"] {
        let raw = format!("HEAD {} HTTP/1.1\r\nHost: {}\r\n{lines}\r\n\r\n", scene.victim.link, scene.host);
        let mut client = Client::connect(scene.server.recipient);
        client.send(raw.as_bytes());
        let said = client.read_to_close(crate::harness::SOON);
        assert!(said.starts_with(b"HTTP/1.1 4") && said.ends_with(b"\r\n\r\n"), "{lines}: {:?}", crate::harness::shown(&said));
    }
    scene.finish();
}

#[test]
fn resets_and_half_closed_connections_leave_nothing_behind() {
    let scene = scene();
    let whole = request("POST", &scene.victim.redeem_path(), &scene.host, &["Content-Length: 5"], None);
    let whole = String::from_utf8(whole).unwrap().replacen("Content-Length: 0\r\n", "", 1) + "hell";
    for end in (0..whole.len()).step_by(7).chain([whole.len()]) {
        let mut closing = Client::connect(scene.server.recipient);
        closing.send(&whole.as_bytes()[..end]);
        closing.close_for_writing();
        assert_eq!(closing.read_to_close(crate::harness::SOON), b"", "half a request is no request, after {end} bytes");
        let mut leaving = Client::connect(scene.server.recipient);
        leaving.send(&whole.as_bytes()[..end]);
        leaving.reset();
    }
    assert_eq!(scene.server.uses(&scene.victim.id), 0);
    scene.finish();
}

#[test]
fn a_pipeline_is_cut_behind_its_first_answer() {
    let scene = scene();
    let page = String::from_utf8(request("GET", &scene.victim.link, &scene.host, &[BROWSER], None)).unwrap();
    for raw in [
        format!("{page}{}", scene.hidden()),
        page.repeat(200) + &scene.hidden(),
        format!("{page}\r\n\r\n{}", scene.hidden()),
        format!("{page}garbage\0"),
    ] {
        let talk = talk(scene.server.recipient, raw.as_bytes(), b"");
        assert_eq!(talk.replies.len(), 1, "{:?}", talk.replies);
        assert!(talk.replies[0].head.to_lowercase().contains("connection: close"), "it says that no more are answered");
        assert_eq!(scene.server.uses(&scene.victim.id), 0);
    }
    scene.finish();
}
