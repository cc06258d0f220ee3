//! The recipient side, byte by byte: what it answers, what it refuses, and what it does not answer at all.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{
    Answer, BROWSER, Client, Offer, Server, Setup, case_only_embedded, free_port, long_range_only_embedded, only_embedded, path_of, poll,
    put, request, resolve,
};

/// How long a connection that is to be closed may stay open: the head timeout, and time to spare on a busy machine.
const CLOSED_WITHIN: Duration = Duration::from_secs(40);
/// The head limit of the recipient side.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Why connections are counted otherwise there.
const COUNTS_REQUESTS: &str = "nginx bounds what runs at once, and counts no connection that waits";

struct Scene {
    server: Server,
    offer: Offer,
    content: Vec<u8>,
}

fn scene() -> Scene {
    let server = Setup::new().start();
    let content = put(&server, "film.mkv", 1000);
    let offer = server.share_with(&json!({ "path": "film.mkv", "policy": { "max_downloads": 50 } }));
    Scene { server, offer, content }
}

impl Scene {
    fn client(&self) -> Client {
        Client::connect(self.server.recipient)
    }

    /// Sends raw bytes; fails unless they are refused: a 4xx and the end, or the end without a word. Nothing is spent.
    fn check_refused(&self, what: &str, raw: &[u8]) {
        let mut client = self.client();
        client.send(raw);
        let said = client.read_to_close(CLOSED_WITHIN);
        let said = String::from_utf8_lossy(&said);
        // 501 and 505 are the protocol's own words for a coding and a version that are not spoken here.
        let refused = ["HTTP/1.1 4", "HTTP/1.1 501 ", "HTTP/1.1 505 "].iter().any(|start| said.starts_with(start));
        assert!(said.is_empty() || refused, "{what}: {said}");
        assert!(said.matches("HTTP/1.1 ").count() <= 1, "{what}: more than one answer: {said}");
        assert_eq!(self.server.uses(&self.offer.id), 0, "{what}");
    }

    /// Sends a request; fails unless the connection is closed without a byte.
    fn check_silent(&self, what: &str, raw: &[u8]) {
        let mut client = self.client();
        client.send(raw);
        let said = client.read_to_close(CLOSED_WITHIN);
        assert!(said.is_empty(), "{what} was answered: {}", String::from_utf8_lossy(&said));
    }

    fn raw(&self, method: &str, path: &str, headers: &[&str]) -> Vec<u8> {
        request(method, path, &self.server.recipient.to_string(), headers, None)
    }
}

#[test]
fn one_connection_carries_the_page_the_button_and_the_bytes() {
    let scene = scene();
    let mut client = scene.client();
    let page = client.request("GET", &scene.offer.link, &[BROWSER]).expect("the page").expect_status(200);
    let target = resolve(&scene.offer.link, &form_action(&page.text()));
    // A page with `Referrer-Policy: no-referrer` posts its form with `Origin: null`.
    let answer = client.request("POST", &target, &[BROWSER, "Origin: null"]).expect("the button works").expect_status(303);
    let bytes = client.request("GET", &answer.location(), &[BROWSER]).expect("the bytes on the same connection").expect_status(200);
    assert!(bytes.body == scene.content);
    let again = client.request("HEAD", &answer.location(), &[BROWSER]).expect("and more").expect_status(200);
    assert_eq!(again.header("content-length").as_deref(), Some("1000"));
}

/// Returns the address of the page's one form, absolute or relative to the page.
fn form_action(page: &str) -> String {
    let form = page.split("<form").nth(1).expect("the page has a form").split('>').next().unwrap();
    assert!(form.to_lowercase().contains("method=\"post\""), "{form}");
    let action = form.split("action=\"").nth(1).expect("the form has an action").split('"').next().unwrap();
    path_of(action).to_owned()
}

#[test]
fn pipelined_requests_are_answered_in_order_or_refused_aloud() {
    if only_embedded("what of a connection is whose could not be told, so nginx is let answer the first and a 503 refuses the others") {
        return;
    }
    let scene = scene();
    let transfer = scene.server.redeem(&scene.offer);
    let mut client = scene.client();
    let ranges: Vec<String> = (0..10).map(|n| format!("Range: bytes={n}-{}", n + 4)).collect();
    let all: Vec<u8> = ranges.iter().flat_map(|range| scene.raw("GET", &transfer, &[range])).collect();
    client.send(&all);
    for n in 0..10 {
        let part = client.answer("GET").expect("a part, or a word before it that none comes").expect_status(206);
        assert!(part.body == scene.content[n..n + 5], "part {n}");
        if part.header("connection").is_some_and(|c| c.eq_ignore_ascii_case("close")) {
            assert!(client.answer("GET").is_none(), "it said that it closes");
            break;
        }
    }
}

#[test]
fn a_redeem_in_a_pipeline_happens_only_if_it_is_answered() {
    let scene = scene();
    let mut client = scene.client();
    client.send(&[scene.raw("GET", &scene.offer.link, &[BROWSER]), scene.raw("POST", &scene.offer.redeem_path(), &[BROWSER])].concat());
    client.answer("GET").expect("the page").expect_status(200);
    let redeemed = client.answer("POST").is_some_and(|a| a.status == 303);
    assert_eq!(scene.server.uses(&scene.offer.id), u64::from(redeemed));
}

#[test]
fn a_head_may_be_16_kib_and_no_more() {
    let scene = scene();
    let filler = |bytes: usize| format!("X-Filler: {}", "f".repeat(bytes));
    let answer = scene.client().request("GET", &scene.offer.link, &[BROWSER, &filler(MAX_HEAD_BYTES - 1500)]);
    answer.expect("a large head is fine").expect_status(200);
    for bytes in [MAX_HEAD_BYTES, 10 * MAX_HEAD_BYTES, 100 * MAX_HEAD_BYTES] {
        scene.check_refused("a head too large", &scene.raw("GET", &scene.offer.link, &[BROWSER, &filler(bytes)]));
    }
    let many: Vec<String> = (0..2000).map(|n| format!("X-{n}: y")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    scene.check_refused("too many headers", &scene.raw("GET", &scene.offer.link, &many));
    scene.check_refused("a line too long", &scene.raw("GET", &format!("{}?{}", scene.offer.link, "q".repeat(20_000)), &[BROWSER]));
    scene.check_refused("no end of line", &[b'G'; 3 * MAX_HEAD_BYTES]);
    scene.check_refused("a request line and no more than NULs", &[&b"GET / HTTP/1.1\r\n"[..], &[0; 3 * MAX_HEAD_BYTES]].concat());
}

#[test]
fn heads_that_two_parsers_may_read_differently_are_refused() {
    let scene = scene();
    let (link, redeem) = (&scene.offer.link, scene.offer.redeem_path());
    let host = scene.server.recipient.to_string();
    let cases: Vec<(&str, String)> = vec![
        ("a folded line", format!("POST {redeem} HTTP/1.1\r\nHost: {host}\r\nX-A: b\r\n c\r\n\r\n")),
        ("two hosts", format!("POST {redeem} HTTP/1.1\r\nHost: {host}\r\nHost: other.example\r\n\r\n")),
        ("no host", format!("POST {redeem} HTTP/1.1\r\nContent-Length: 0\r\n\r\n")),
        ("a space before the colon", format!("POST {redeem} HTTP/1.1\r\nHost: {host}\r\nContent-Length : 0\r\n\r\n")),
        ("a name with a space", format!("POST {redeem} HTTP/1.1\r\nHost: {host}\r\nX A: b\r\n\r\n")),
        ("a line without a colon", format!("POST {redeem} HTTP/1.1\r\nHost: {host}\r\nnonsense\r\n\r\n")),
        ("a NUL in a value", format!("POST {redeem} HTTP/1.1\r\nHost: {host}\r\nX-A: b\0c\r\n\r\n")),
        ("a lone CR in a value", format!("POST {redeem} HTTP/1.1\r\nHost: {host}\r\nX-A: b\rc\r\n\r\n")),
        ("length and chunks", chunked(&redeem, &host, "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n")),
        ("chunks and length", chunked(&redeem, &host, "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n")),
        ("two lengths", format!("POST {redeem} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\nhello")),
        ("a list of lengths", format!("POST {redeem} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0, 5\r\n\r\nhello")),
        ("a negative length", format!("POST {redeem} HTTP/1.1\r\nHost: {host}\r\nContent-Length: -1\r\n\r\n")),
        ("a length with a sign", format!("POST {redeem} HTTP/1.1\r\nHost: {host}\r\nContent-Length: +0\r\n\r\n")),
        ("a length in hexadecimal", format!("POST {redeem} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0x0\r\n\r\n")),
        ("a length beyond 64 bits", format!("POST {redeem} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 99999999999999999999999\r\n\r\n")),
        ("a strange encoding", chunked(&redeem, &host, "Transfer-Encoding: xchunked\r\n")),
        ("an encoding twice", chunked(&redeem, &host, "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n")),
        ("an encoding with a tab", chunked(&redeem, &host, "Transfer-Encoding:\u{b}chunked\r\n")),
        ("a tunnel", format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n")),
        ("a bad version", format!("GET {link} HTTP/9.9\r\nHost: {host}\r\n\r\n")),
        ("HTTP/2 without asking", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        ("no version", format!("GET {link}\r\n\r\n")),
        ("no request at all", "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}".to_owned() + &"x".repeat(600) + "\r\n\r\n"),
    ];
    for (what, raw) in cases {
        if what == "a line without a colon"
            && case_only_embedded(what, "nginx leaves such a line out and passes on the rest, with its own ends")
        {
            continue;
        }
        scene.check_refused(what, raw.as_bytes());
    }
}

fn chunked(redeem: &str, host: &str, headers: &str) -> String {
    format!("POST {redeem} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n0\r\n\r\n")
}

#[test]
fn a_request_hidden_in_a_body_is_not_answered() {
    let scene = scene();
    let (redeem, host) = (scene.offer.redeem_path(), scene.server.recipient.to_string());
    let hidden = format!("POST {redeem} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n");
    let carriers = [
        format!("GET {} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n\r\n{hidden}", scene.offer.link, hidden.len()),
        format!("HEAD {} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n\r\n{hidden}", scene.offer.link, hidden.len()),
        format!(
            "GET {} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{hidden}\r\n0\r\n\r\n",
            scene.offer.link,
            hidden.len()
        ),
        format!(
            "GET {} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}",
            scene.offer.link,
            hidden.len() + 5
        ),
    ];
    for carrier in carriers {
        let mut client = scene.client();
        client.send(carrier.as_bytes());
        client.close_for_writing();
        let said = String::from_utf8_lossy(&client.read_to_close(CLOSED_WITHIN)).into_owned();
        assert!(said.matches("HTTP/1.1 ").count() <= 1, "two answers: {said}");
        assert!(!said.contains("HTTP/1.1 303"), "{said}");
        assert_eq!(scene.server.uses(&scene.offer.id), 0, "{carrier}");
    }
}

#[test]
fn a_form_with_a_small_body_redeems_once() {
    let scene = scene();
    let mut client = scene.client();
    let headers = [BROWSER, "Content-Type: application/x-www-form-urlencoded"];
    let answer = client.request_with("POST", &scene.offer.redeem_path(), &headers, b"a=b&c=d").expect("an answer").expect_status(303);
    assert_eq!(scene.server.uses(&scene.offer.id), 1);
    // The body was taken, or the connection ends: it is never read as a request.
    if let Some(bytes) = client.request("GET", &answer.location(), &[BROWSER]) {
        assert_eq!(bytes.status, 200, "{}", bytes.head_text());
    }
}

#[test]
fn a_body_without_end_is_not_swallowed() {
    let scene = scene();
    let mut client = scene.client();
    let host = scene.server.recipient;
    client.send(format!("POST {} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000000000\r\n\r\n", scene.offer.redeem_path()).as_bytes());
    let chunk = vec![b'x'; 64 * 1024];
    let started = Instant::now();
    poll(CLOSED_WITHIN, "the server stops reading", || {
        use std::io::Write;
        assert!(started.elapsed() < CLOSED_WITHIN);
        client.stream().write_all(&chunk).is_err()
    });
}

#[test]
fn whoever_drips_a_head_is_cut_off_and_others_are_served_meanwhile() {
    let scene = scene();
    let mut silent = scene.client();
    let mut half = scene.client();
    half.send(b"GET / HTTP/1.1\r\nHost: x\r\n");
    let mut dripping = scene.client();
    dripping.send(b"GET / HTTP/1.1\r\n");
    let started = Instant::now();
    poll(CLOSED_WITHIN, "the dripping head is cut off", || {
        std::thread::sleep(Duration::from_millis(200));
        dripping.send(b"X-Drip: drop\r\n");
        dripping.stream().set_nonblocking(true).unwrap();
        let closed = !matches!(dripping.stream().peek(&mut [0]), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock);
        dripping.stream().set_nonblocking(false).unwrap();
        closed
    });
    assert!(started.elapsed() > Duration::from_secs(1), "an honest slow line is given some time");
    scene.server.fetch("GET", &scene.offer.link, &[BROWSER]).expect("others are served").expect_status(200);
    for client in [&mut silent, &mut half] {
        let said = client.read_to_close(CLOSED_WITHIN);
        assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&said));
    }
}

#[test]
fn single_ranges_are_exact() {
    let scene = scene();
    let transfer = scene.server.redeem(&scene.offer);
    for (range, start, end) in [
        ("bytes=0-0", 0, 1),
        ("bytes=0-", 0, 1000),
        ("bytes=999-", 999, 1000),
        ("bytes=999-999", 999, 1000),
        ("bytes=10-19", 10, 20),
        ("bytes=990-5000", 990, 1000),
        ("bytes=0-18446744073709551614", 0, 1000),
        ("bytes=-1", 999, 1000),
        ("bytes=-1000", 0, 1000),
        ("bytes=-5000", 0, 1000),
    ] {
        if long_range_only_embedded(range) {
            continue;
        }
        let answer = scene.server.fetch("GET", &transfer, &[&format!("Range: {range}")]).expect("an answer").expect_status(206);
        assert_eq!(answer.header("content-range").unwrap(), format!("bytes {start}-{}/1000", end - 1), "{range}");
        assert_eq!(answer.header("content-length").unwrap(), (end - start).to_string(), "{range}");
        assert!(answer.body == scene.content[start..end], "{range}");
    }
}

#[test]
fn ranges_beyond_the_end_are_416_and_nonsense_is_ignored() {
    let scene = scene();
    let transfer = scene.server.redeem(&scene.offer);
    for range in ["bytes=1000-", "bytes=1000-2000", "bytes=18446744073709551615-", "bytes=-0"] {
        if long_range_only_embedded(range) {
            continue;
        }
        let answer = scene.server.fetch("GET", &transfer, &[&format!("Range: {range}")]).expect("an answer").expect_status(416);
        assert_eq!(answer.header("content-range").unwrap(), "bytes */1000", "{range}");
    }
    for range in [
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=abc",
        "bytes=5-2",
        "bytes=--1",
        "bytes=1-2-3",
        "bytes=0x0-5",
        "bytes=+1-5",
        "bytes=1.5-7",
        "items=0-5",
        "BYTES",
        "bytes 0-5",
        "bytes=0-5;x",
        "=0-5",
        "bytes=99999999999999999999999-",
        "bytes=0-99999999999999999999999999",
    ] {
        let answer = scene.server.fetch("GET", &transfer, &[&format!("Range: {range}")]).expect("an answer");
        match answer.status {
            200 => assert!(answer.body == scene.content, "{range}"),
            // A number beyond 64 bits may also be read as what it says.
            206 => assert!(range.ends_with("999") && answer.body == scene.content, "{range}"),
            416 => assert!(range.starts_with("bytes=999"), "{range}"),
            other => panic!("{range}: {other}"),
        }
    }
}

#[test]
fn several_ranges_give_the_whole_or_one_range_that_holds_them() {
    let scene = scene();
    let transfer = scene.server.redeem(&scene.offer);
    let thousand = format!("bytes={}", (0..1000).map(|n| format!("{n}-{n}")).collect::<Vec<_>>().join(","));
    for range in ["bytes=0-9,20-29", "bytes=0-9,5-14", "bytes=0-9, 10-19", "bytes=0-0,-1", "bytes=0-,0-,0-", "bytes=5-9,2000-", &thousand] {
        let answer = scene.server.fetch("GET", &transfer, &[&format!("Range: {range}")]).expect("an answer");
        match answer.status {
            200 => assert!(answer.body == scene.content, "{range}"),
            206 => {
                let told = answer.header("content-range").unwrap();
                let (start, end) = told.strip_prefix("bytes ").unwrap().split('/').next().unwrap().split_once('-').unwrap();
                let (start, end): (usize, usize) = (start.parse().unwrap(), end.parse().unwrap());
                assert!(answer.body == scene.content[start..=end], "{range}");
            }
            other => panic!("{range}: {other}"),
        }
    }
}

#[test]
fn if_range_takes_the_strong_etag_and_nothing_else() {
    let scene = scene();
    let transfer = scene.server.redeem(&scene.offer);
    let etag = scene.server.fetch("HEAD", &transfer, &[]).expect("an answer").expect_status(200).header("etag").expect("an ETag");
    assert!(etag.starts_with('"') && etag.ends_with('"') && etag.len() > 4, "a strong one: {etag}");
    let ask = |if_range: &str| {
        scene.server.fetch("GET", &transfer, &["Range: bytes=10-19", &format!("If-Range: {if_range}")]).expect("an answer").status
    };
    assert_eq!(ask(&etag), 206);
    let stale = "\"0123456789abcdef\"";
    let weak = format!("W/{etag}");
    for other in [stale, &weak, "\"\"", "*", "nonsense", "Thu, 01 Jan 1970 00:00:00 GMT", etag.trim_matches('"')] {
        assert_eq!(ask(other), 200, "If-Range: {other}");
    }
}

#[test]
fn the_etag_of_a_file_is_another_once_it_changed() {
    if only_embedded("nginx's ETag is of the second in which a file was written and of its length; that it changed since is seen by us") {
        return;
    }
    let scene = scene();
    let etag = |offer: &Offer| {
        let transfer = scene.server.redeem(offer);
        scene.server.fetch("HEAD", &transfer, &[]).expect("an answer").expect_status(200).header("etag").expect("an ETag")
    };
    let first = etag(&scene.offer);
    assert_eq!(first, etag(&scene.offer), "two recipients of one file");
    let mut content = scene.content.clone();
    content[500] ^= 1;
    std::fs::write(scene.server.root.join("film.mkv"), content).unwrap();
    assert_ne!(first, etag(&scene.server.share("film.mkv")));
}

#[test]
fn head_says_what_get_would_without_spending_or_counting() {
    let scene = scene();
    let transfer = scene.server.redeem(&scene.offer);
    let head = scene.server.fetch("HEAD", &transfer, &[BROWSER]).expect("an answer").expect_status(200);
    assert_eq!(head.header("content-length").as_deref(), Some("1000"));
    assert_eq!(scene.server.show(&scene.offer.id)["progress"]["delivered_bytes"], 0, "a HEAD delivers nothing");
    let get = scene.server.fetch("GET", &transfer, &[BROWSER]).expect("an answer").expect_status(200);
    for name in ["content-type", "content-disposition", "etag", "accept-ranges", "content-security-policy"] {
        assert_eq!(head.header(name), get.header(name), "{name}");
    }
}

#[test]
fn http_1_0_and_connection_close_end_the_connection() {
    let scene = scene();
    for raw in [
        format!("GET {} HTTP/1.0\r\n\r\n", scene.offer.link),
        format!("GET {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", scene.offer.link),
        format!("GET {} HTTP/1.1\r\nHost: x\r\nConnection: foo, CLOSE\r\n\r\n", scene.offer.link),
    ] {
        let mut client = scene.client();
        client.send(raw.as_bytes());
        let said = client.read_to_close(CLOSED_WITHIN);
        assert!(said.starts_with(b"HTTP/1.1 200") || said.starts_with(b"HTTP/1.0 200"), "{raw}: {}", String::from_utf8_lossy(&said));
    }
}

#[test]
fn what_is_no_link_gets_no_answer() {
    let scene = scene();
    let offer = &scene.offer;
    let (share, token) = offer.redeem_path()[1..].split_once('/').map(|(s, t)| (s.to_owned(), t.to_owned())).unwrap();
    let mut paths: Vec<String> = [
        "/",
        "/robots.txt",
        "/favicon.ico",
        "/.env",
        "/wp-login.php",
        "/admin",
        "/api/v1/shares",
        "/api/files",
        "/generate-link",
        "/health",
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi.json",
        "/assets/owner/app.js",
        "/download/x",
        "/files/0123abcd/x",
        "/nginx-status",
        "//",
        "/../",
        "/%2e%2e/%2e%2e/etc/passwd",
    ]
    .map(str::to_owned)
    .to_vec();
    paths.push(format!("/{share}"));
    paths.push(format!("/{share}/"));
    paths.push(format!("/{share}/get"));
    paths.push(format!("/{share}/get/x/film.mkv"));
    paths.push(format!("/{share}/get/{}/film.mkv", "A".repeat(22)));
    paths.push(format!("/{share}/get/{token}/film.mkv"));
    paths.push(format!("/{share}/live/x"));
    paths.push(format!("{}/x/y", offer.link));
    paths.push(format!("/00000000-0000-4000-8000-000000000000/{token}/film.mkv"));
    for forged in forged_tokens(&token) {
        paths.push(format!("/{share}/{forged}/film.mkv"));
        paths.push(format!("/{share}/{forged}"));
    }
    for path in &paths {
        for method in ["GET", "POST", "HEAD"] {
            scene.check_silent(&format!("{method} {path}"), &scene.raw(method, path, &["User-Agent: curl/8.5.0"]));
        }
    }
    for method in ["OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "BREW"] {
        scene.check_silent(method, &scene.raw(method, &offer.link, &[BROWSER]));
    }
    assert_eq!(scene.server.uses(&offer.id), 0);
}

/// Tokens that look like ours and are not.
fn forged_tokens(token: &str) -> Vec<String> {
    let parts: Vec<&str> = token.split('.').collect();
    let [head, claims, signature] = parts[..] else { panic!("a token has three parts: {token}") };
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    let mut forged = vec![
        format!("{none}.{claims}."),
        format!("{none}.{claims}.{signature}"),
        format!("{head}.{claims}."),
        format!("{head}.{claims}"),
        format!("{head}.{claims}.{signature}."),
        format!("{head}.{claims}.{signature}="),
        format!("{head}=.{claims}.{signature}"),
        format!("{head}.{signature}.{claims}"),
        "a.b.c".to_owned(),
        ".".repeat(400),
        "x".repeat(5000),
    ];
    // The last letter of a 256-bit signature has two bits to spare: another spelling of the same bytes is not the same link.
    let mut spare = token.to_owned();
    let last = spare.pop().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let at = alphabet.find(last).unwrap();
    spare.push(alphabet.as_bytes()[at ^ 1] as char);
    forged.push(spare);
    for at in [0, head.len() + 3, token.len() - 3] {
        let mut other = token.as_bytes().to_vec();
        other[at] = if other[at] == b'A' { b'B' } else { b'A' };
        forged.push(String::from_utf8(other).unwrap());
    }
    forged
}

#[test]
fn no_spelling_of_a_spent_link_redeems_it_again() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    let offer = server.share("film.mkv");
    server.redeem(&offer);
    let redeem = offer.redeem_path();
    let (share, token) = redeem[1..].split_once('/').unwrap();
    let encoded: String = token.bytes().map(|b| format!("%{b:02X}")).collect();
    let dotted = token.replace('.', "%2e");
    for path in [
        redeem.clone(),
        format!("{redeem}?x=1"),
        format!("{redeem}/"),
        format!("{redeem}/film.mkv"),
        format!("/{share}/{encoded}"),
        format!("/{share}/{dotted}"),
        format!("//{share}/{token}"),
        format!("/{share}//{token}"),
        format!("/{share}/./{token}"),
        format!("/x/../{share}/{token}"),
        format!("/{}/{token}", share.to_uppercase()),
        format!("http://{}{redeem}", server.recipient),
        format!("{redeem}#x"),
        format!("{redeem};x=1"),
    ] {
        for (method, agent) in [("POST", BROWSER), ("GET", "User-Agent: curl/8.5.0")] {
            let mut stranger = Client::connect_from(server.recipient, Ipv4Addr::new(127, 5, 5, 5));
            if let Some(answer) = stranger.request(method, &path, &[agent]) {
                assert!((400..500).contains(&answer.status), "{method} {path}: {}", answer.head_text());
            }
        }
    }
    assert_eq!(server.uses(&offer.id), 1);
}

#[test]
fn a_token_opens_its_own_share_and_no_other() {
    let server = Setup::new().start();
    put(&server, "a.bin", 1000);
    put(&server, "b.bin", 1000);
    let (a, b) = (server.share("a.bin"), server.share("b.bin"));
    let (share_a, _) = a.redeem_path()[1..].split_once('/').map(|(s, t)| (s.to_owned(), t.to_owned())).unwrap();
    let (share_b, token_b) = b.redeem_path()[1..].split_once('/').map(|(s, t)| (s.to_owned(), t.to_owned())).unwrap();
    let transfer = server.redeem(&b);
    assert!(server.fetch("POST", &format!("/{share_a}/{token_b}"), &[BROWSER]).is_none());
    assert!(server.fetch("GET", &transfer.replacen(&share_b, &share_a, 1), &[BROWSER]).is_none());
    assert_eq!((server.uses(&a.id), server.uses(&b.id)), (0, 1));
}

fn check_security_headers(answer: &Answer) {
    let header = |name: &str| answer.header(name).unwrap_or_else(|| panic!("no {name}:\n{}", answer.head_text())).to_lowercase();
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert!(header("cache-control").contains("no-store"), "{}", answer.head_text());
    assert!(header("x-robots-tag").contains("noindex"), "{}", answer.head_text());
    assert_eq!(header("referrer-policy"), "no-referrer");
    let policy = header("content-security-policy");
    assert!(policy.contains("default-src 'none'") || policy.contains("sandbox"), "{policy}");
    assert!(answer.header("set-cookie").is_none() && answer.header("access-control-allow-origin").is_none());
    assert!(answer.header("server").is_none_or(|s| !s.contains(char::is_numeric)), "no version for strangers");
}

#[test]
fn pages_and_bytes_carry_the_headers_that_keep_them_harmless() {
    let scene = scene();
    let page = scene.server.fetch("GET", &scene.offer.link, &[BROWSER]).expect("an answer").expect_status(200);
    check_security_headers(&page);
    assert!(page.header("content-security-policy").unwrap().contains("frame-ancestors 'none'"));
    let transfer = scene.server.redeem(&scene.offer);
    for range in ["X: y", "Range: bytes=5-9", "Range: bytes=5000-"] {
        check_security_headers(&scene.server.fetch("GET", &transfer, &[range]).expect("an answer"));
    }
    let bytes = scene.server.fetch("GET", &transfer, &[BROWSER]).expect("an answer").expect_status(200);
    assert_eq!(bytes.header("accept-ranges").as_deref(), Some("bytes"));
    assert!(bytes.header("content-security-policy").unwrap().contains("sandbox"));
    let disposition = bytes.header("content-disposition").unwrap();
    assert!(disposition.starts_with("attachment") && disposition.contains("film.mkv"), "{disposition}");
    assert!(bytes.header("date").is_some_and(|d| d.ends_with("GMT")));
    scene.server.revoke(&scene.offer.id);
    let gone = scene.server.fetch("GET", &scene.offer.link, &[BROWSER]).expect("an answer").expect_status(410);
    check_security_headers(&gone);
    assert!(gone.header("content-type").is_some_and(|t| t.starts_with("text/html")));
}

#[test]
fn the_bytes_known_digest_is_told_and_true() {
    let scene = scene();
    let transfer = scene.server.redeem(&scene.offer);
    let sha256 = crate::harness::sha256(&scene.content);
    scene.server.wait_for(&scene.offer.id, "the checksum is computed", |share| share["sha256"].is_string());
    assert_eq!(scene.server.show(&scene.offer.id)["sha256"], sha256);
    let page = scene.server.fetch("GET", &scene.offer.link, &[BROWSER]).expect("an answer").expect_status(200).text();
    assert!(page.contains(&sha256), "the page shows the checksum");
    let digest =
        scene.server.fetch("GET", &transfer, &["Range: bytes=0-9"]).expect("an answer").header("repr-digest").expect("Repr-Digest");
    let encoded = digest.strip_prefix("sha-256=:").and_then(|d| d.strip_suffix(':')).unwrap_or_else(|| panic!("{digest}"));
    assert_eq!(crate::harness::hex(&from_base64(encoded)), sha256);
}

fn from_base64(text: &str) -> Vec<u8> {
    let value = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let letters: Vec<u8> = text.bytes().filter(|c| *c != b'=').map(value).collect();
    letters
        .chunks(4)
        .flat_map(|four| {
            let bits = four.iter().fold(0u32, |bits, v| bits << 6 | u32::from(*v)) << (6 * (4 - four.len()));
            bits.to_be_bytes()[1..four.len()].to_vec()
        })
        .collect()
}

#[test]
fn neither_host_nor_forwarding_headers_change_where_a_redirect_leads_or_who_came() {
    let scene = scene();
    let headers = [
        BROWSER,
        "Host: evil.example",
        "X-Forwarded-Host: evil.example",
        "X-Forwarded-Proto: gopher",
        "X-Forwarded-For: 203.0.113.7",
        "Forwarded: for=203.0.113.7;host=evil.example",
        "X-Real-IP: 203.0.113.7",
    ];
    let answer = scene.client().request("POST", &scene.offer.redeem_path(), &headers).expect("an answer").expect_status(303);
    assert!(!answer.head_text().contains("evil.example"), "{}", answer.head_text());
    let transfers = scene.server.transfers(&scene.offer.id);
    assert!(!transfers[0]["address"].to_string().contains("203.0.113.7"), "an untrusted header was believed: {}", transfers[0]);
    let page = scene.client().request("GET", &scene.offer.link, &headers).expect("an answer").expect_status(200);
    assert!(!page.text().contains("evil.example") && !page.head_text().contains("evil.example"));
}

#[test]
fn a_trusted_proxy_is_believed() {
    let server = Setup::new().set("TRUSTED_PROXIES", "127.0.0.0/8").start();
    put(&server, "film.mkv", 1000);
    let offer = server.share("film.mkv");
    let answer = Client::connect(server.recipient).request("POST", &offer.redeem_path(), &[BROWSER, "X-Forwarded-For: 203.0.113.7"]);
    answer.expect("an answer").expect_status(303);
    assert_eq!(server.transfers(&offer.id)[0]["address"], "203.0.113.7");
}

#[test]
fn what_a_proxy_took_is_called_sent_and_what_a_recipient_took_delivered() {
    for (proxies, evidence) in [("127.0.0.0/8", "handed_over"), ("192.0.2.0/24", "acknowledged")] {
        let server = Setup::new().set("TRUSTED_PROXIES", proxies).start();
        put(&server, "film.mkv", 200_000);
        let offer = server.share("film.mkv");
        let transfer = server.redeem(&offer);
        Client::connect(server.recipient)
            .request("GET", &transfer, &["X-Forwarded-For: 203.0.113.7"])
            .expect("an answer")
            .expect_status(200);
        server.wait_for(&offer.id, "it is delivered", |share| share["state"] == "delivered");
        assert_eq!(server.transfers(&offer.id)[0]["evidence"], evidence, "behind {proxies}");
    }
}

#[test]
fn the_sides_do_not_know_each_others_paths() {
    let scene = scene();
    let transfer = scene.server.redeem(&scene.offer);
    for (method, path) in [("GET", &scene.offer.link), ("POST", &scene.offer.redeem_path()), ("GET", &transfer)] {
        let answer = scene.server.api(method, path, None);
        assert!(matches!(answer.status, 404 | 405), "the owner side answers {method} {path}: {}", answer.head_text());
    }
    let authorization = format!("Authorization: Bearer {}", scene.server.token);
    for path in ["/api/v1/shares", "/", "/health", "/admin/tunnels", "/api/files"] {
        scene.check_silent(path, &scene.raw("GET", path, &[&authorization]));
    }
    assert_eq!(scene.server.uses(&scene.offer.id), 1);
}

#[test]
fn one_address_may_hold_so_many_connections_and_others_are_not_shut_out() {
    if only_embedded(COUNTS_REQUESTS) {
        return;
    }
    const CAP: usize = 8;
    let server = Setup::new().set("MAX_CONNECTIONS_PER_ADDRESS", CAP).start();
    put(&server, "film.mkv", 1000);
    let offer = server.share("film.mkv");
    let mut held: Vec<Client> = (0..CAP).map(|_| Client::connect(server.recipient)).collect();
    for client in &mut held {
        client.request("GET", &offer.link, &[BROWSER]).expect("within the cap").expect_status(200);
    }
    let refused = Client::connect(server.recipient).request("GET", &offer.link, &[BROWSER]);
    assert!(refused.is_none_or(|a| matches!(a.status, 429 | 503)), "one more than the cap");
    let mut other = Client::connect_from(server.recipient, Ipv4Addr::new(127, 7, 7, 7));
    other.request("GET", &offer.link, &[BROWSER]).expect("another address is served").expect_status(200);
    drop(held.pop());
    poll(CLOSED_WITHIN, "a place is free again", || {
        Client::connect(server.recipient).request("GET", &offer.link, &[BROWSER]).is_some_and(|a| a.status == 200)
    });
}

#[test]
fn all_connections_together_have_a_cap() {
    if only_embedded(COUNTS_REQUESTS) {
        return;
    }
    const CAP: usize = 16;
    let server = Setup::new().set("MAX_CONNECTIONS", CAP).set("MAX_CONNECTIONS_PER_ADDRESS", CAP).start();
    put(&server, "film.mkv", 1000);
    let offer = server.share("film.mkv");
    let address = |n: usize| Ipv4Addr::new(127, 8, 8, u8::try_from(n).unwrap() + 1);
    let mut held: Vec<Client> = (0..CAP).map(|n| Client::connect_from(server.recipient, address(n))).collect();
    for client in &mut held {
        client.request("GET", &offer.link, &[BROWSER]).expect("within the cap").expect_status(200);
    }
    // Over the cap a newcomer is refused, waits, or takes the place of somebody idle; it never adds to the load.
    let mut newcomer = Client::connect_from(server.recipient, address(CAP));
    newcomer.stream().set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    newcomer.ask("GET", &offer.link, &[BROWSER]);
    let answered = !newcomer.read_some(10).is_empty();
    let alive = held.iter_mut().map(|c| c.request("GET", &offer.link, &[BROWSER])).filter(Option::is_some).count();
    assert!(alive + usize::from(answered) <= CAP, "{alive} of {CAP} live on and a newcomer was answered: {answered}");
    drop(held);
    poll(CLOSED_WITHIN, "places are free again", || server.fetch("GET", &offer.link, &[BROWSER]).is_some_and(|a| a.status == 200));
    // The owner is never shut out by recipients.
    server.api("GET", "/api/v1/shares", None).expect_status(200);
}

#[test]
fn every_request_of_a_transfer_has_its_place_but_not_endlessly_many() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 64 * 1024 * 1024);
    let offer = server.share("film.mkv");
    let transfer = server.redeem(&offer);
    let mut statuses = Vec::new();
    let mut held = Vec::new();
    for _ in 0..40 {
        let mut client = Client::connect_with_small_buffer(server.recipient, 8 * 1024);
        client.ask("GET", &transfer, &[]);
        statuses.push(client.answer_head().map_or(0, |a| a.status));
        held.push(client);
    }
    let served = statuses.iter().filter(|s| **s == 200).count();
    assert!((16..40).contains(&served), "download managers have their 16, nobody has 40: {statuses:?}");
    assert!(statuses.iter().all(|s| matches!(s, 0 | 200 | 429 | 503)), "{statuses:?}");
    assert_eq!(server.uses(&offer.id), 1);
}

#[test]
fn links_below_a_path_work_whether_a_proxy_takes_it_off_or_leaves_it() {
    let server = Setup::new().set("BASE_URL", "https://nas.example/far/outside/").start();
    let content = put(&server, "film.mkv", 100_000);
    let ask = |method: &str, path: &str| server.fetch(method, path, &[BROWSER, "Connection: close"]);
    for left in ["", "/far/outside"] {
        let offer = server.share("film.mkv");
        let link = format!("{left}{}", offer.link.strip_prefix("/far/outside").expect("links have the path"));
        let page = ask("GET", &link).expect("a genuine link is answered").expect_status(200).text();
        let action = page.split("action=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("there is a button");
        // As a browser does, which sees the path whatever the proxy makes of it.
        let transfer = ask("POST", &resolve(&link, action)).unwrap().expect_status(303).location();
        assert!(transfer.starts_with(&format!("{left}/{}/get/", offer.id)), "{transfer}");
        assert_eq!(ask("GET", &transfer).unwrap().expect_status(200).body, content);
        let live = transfer.replace("/get/", "/live/");
        let live = live.rsplit_once('/').expect("a transfer's address ends with a name").0;
        assert_eq!(ask("GET", live).unwrap().status, 200);

        let bare = link.strip_prefix(left).unwrap();
        for wrong in [format!("/far{bare}"), format!("/far/outsider{bare}"), format!("/far/outside/far/outside{bare}"), format!("/x{bare}")]
        {
            assert!(ask("GET", &wrong).is_none_or(|answer| answer.status == 404 && answer.body.is_empty()), "{wrong}");
        }
        for page in ["/far/outside", "/far/outside/", "/far"] {
            assert!(ask("GET", page).is_none(), "{page} is no link");
        }
    }
}

#[test]
fn a_base_url_with_a_path_is_kept_in_links() {
    let port = free_port();
    let server = Setup::new().set("BASE_URL", format!("https://nas.example:{port}/outside/")).start();
    put(&server, "film.mkv", 1000);
    let answer = server.api("POST", "/api/v1/shares", Some(&json!({ "path": "film.mkv" }))).json();
    let url = answer["url"].as_str().unwrap();
    assert!(url.starts_with(&format!("https://nas.example:{port}/outside/")), "{url}");
    assert!(!url["https://".len()..].contains("//"), "{url}");
}
