//! Which bytes a request for a transfer gets, and the head of the answer.

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine;
use http::{Method, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use super::Pass;
use super::head::Head;
use super::range::{self, Wanted};
use crate::catalog::mime_type;
use crate::share::{ByteRange, CatalogPath, SharedFile, Timestamp};

/// What RFC 8187 lets stand as it is in an extended value (`attr-char`).
const NOT_ATTR_CHAR: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// What every answer of the recipient side carries: nobody keeps it, indexes it, frames it or learns where it came from.
const ON_EVERY_ANSWER: &str = "Cache-Control: private, no-store, no-transform\r\n\
    X-Content-Type-Options: nosniff\r\n\
    X-Robots-Tag: noindex, nofollow, noarchive\r\n\
    Referrer-Policy: no-referrer\r\n\
    Cross-Origin-Resource-Policy: same-origin\r\n";

/// Whoever shows such an answer instead of saving it gets no script, no form, no other file and no origin.
const NOTHING_RUNS: &str = "Content-Security-Policy: sandbox; default-src 'none'\r\n";

/// The most fields that any answer has; those of a page are the router's few.
const MAX_FIELDS: usize = 40;

/// An answer to a request for bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Its head, with the empty line.
    pub(super) head: Vec<u8>,
    /// The bytes of the file that follow; `None` where none do.
    pub(super) body: Option<ByteRange>,
}

/// Returns the fields that are the same in every answer about a file.
pub(super) fn fields_of(file: &SharedFile, etag: &str) -> String {
    format!(
        "Content-Type: {}\r\nContent-Disposition: {}\r\nETag: {etag}\r\nAccept-Ranges: bytes\r\n{NOTHING_RUNS}{ON_EVERY_ANSWER}",
        mime_type(file.path.name_bytes()),
        disposition(&file.path),
    )
}

/// Answers a GET or HEAD of a transfer's bytes. `location` is the transfer's own URL, where another one was asked for.
pub(super) fn to(request: &Head, pass: &Pass, location: Option<&http::HeaderValue>, keeps_alive: bool, now: Timestamp) -> Answer {
    let field = |name| request.headers.get(name).map(http::HeaderValue::as_bytes);
    let size_bytes = pass.file.size_bytes();
    if field(header::IF_MATCH).is_some_and(|tags| !matches(tags, &pass.etag)) {
        return without_body("412 Precondition Failed", "", pass, keeps_alive, now);
    }
    // A range has a meaning for GET only (RFC 9110 14.2).
    let ranged = request.method == Method::GET && range::if_range_holds(field(header::IF_RANGE), &pass.etag);
    let (status, range) = match range::wanted(field(header::RANGE).filter(|_| ranged), size_bytes) {
        Wanted::Whole => ("200 OK", ByteRange::new(0, size_bytes)),
        Wanted::Part(range) => ("206 Partial Content", range),
        Wanted::Unsatisfiable => {
            let total = format!("Content-Range: bytes */{size_bytes}\r\n");
            return without_body("416 Range Not Satisfiable", &total, pass, keeps_alive, now);
        }
    };
    let mut head = start(status, range.len(), keeps_alive, now);
    head.push_str(&pass.fields);
    if status.starts_with("206") {
        let _ = write!(head, "Content-Range: bytes {}-{}/{size_bytes}\r\n", range.start, range.end - 1);
    }
    if let Some(sha256) = pass.digest() {
        let _ = write!(head, "Repr-Digest: sha-256=:{}:\r\n", base64::engine::general_purpose::STANDARD.encode(sha256));
    }
    let mut head = head.into_bytes();
    if let Some(location) = location {
        head.extend_from_slice(&[b"Content-Location: ", location.as_bytes(), b"\r\n"].concat());
    }
    head.extend_from_slice(b"\r\n");
    Answer { head, body: (request.method == Method::GET).then_some(range) }
}

/// Returns the head of an answer without content of its own: a status for machines, as `503 Service Unavailable`.
pub(super) fn plain(status: &str, extra: &str, body: &str, keeps_alive: bool, now: Timestamp) -> Vec<u8> {
    let mut head = start(status, body.len() as u64, keeps_alive, now);
    head.push_str(ON_EVERY_ANSWER);
    head.push_str(NOTHING_RUNS);
    head.push_str("Content-Type: text/plain; charset=utf-8\r\n");
    head.push_str(extra);
    head.push_str("\r\n");
    head.push_str(body);
    head.into_bytes()
}

/// Returns the head of a router's answer.
pub(super) fn of_page(parts: &http::response::Parts, length: usize, keeps_alive: bool, now: Timestamp) -> Vec<u8> {
    with_fields(start(&status_of(parts), length as u64, keeps_alive, now), parts)
}

/// Returns the head of a router's answer of unknown length, behind which the connection is closed.
pub(super) fn of_stream(parts: &http::response::Parts, is_chunked: bool, now: Timestamp) -> Vec<u8> {
    let length = if is_chunked { "Transfer-Encoding: chunked\r\n" } else { "" };
    with_fields(begin(&status_of(parts), length, false, now), parts)
}

/// Reads a head that was made here, for HTTP/2, which writes heads in its own way. What stands behind it comes back, too.
pub(super) fn for_h2(answer: &[u8]) -> Option<(http::Response<()>, &[u8])> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut read = httparse::Response::new(&mut fields);
    let Ok(httparse::Status::Complete(length)) = read.parse(answer) else { return None };
    let mut response = http::Response::builder().status(read.code?);
    for field in read.headers.iter() {
        // They are about a connection of HTTP/1.1 (RFC 9113 8.2.2).
        if !["connection", "transfer-encoding"].iter().any(|name| field.name.eq_ignore_ascii_case(name)) {
            response = response.header(field.name, field.value);
        }
    }
    Some((response.body(()).ok()?, &answer[length..]))
}

fn status_of(parts: &http::response::Parts) -> String {
    format!("{} {}", parts.status.as_str(), parts.status.canonical_reason().unwrap_or("Answer"))
}

fn with_fields(head: String, parts: &http::response::Parts) -> Vec<u8> {
    let mut head = head.into_bytes();
    for (name, value) in &parts.headers {
        if [header::CONTENT_LENGTH, header::CONNECTION, header::DATE, header::TRANSFER_ENCODING].contains(name) {
            continue;
        }
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(part);
        }
    }
    head.extend_from_slice(b"\r\n");
    head
}

fn without_body(status: &str, extra: &str, pass: &Pass, keeps_alive: bool, now: Timestamp) -> Answer {
    let extra = format!("ETag: {}\r\nAccept-Ranges: bytes\r\n{extra}", pass.etag);
    Answer { head: plain(status, &extra, "", keeps_alive, now), body: None }
}

fn start(status: &str, length: u64, keeps_alive: bool, now: Timestamp) -> String {
    begin(status, &format!("Content-Length: {length}\r\n"), keeps_alive, now)
}

/// Begins a head; `length` is the field that says where the body ends.
fn begin(status: &str, length: &str, keeps_alive: bool, now: Timestamp) -> String {
    let mut head = String::with_capacity(1024);
    let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(now.0.clamp(0, LAST_HTTP_DATE_MS) as u64));
    let connection = if keeps_alive { "keep-alive" } else { "close" };
    let _ = write!(head, "HTTP/1.1 {status}\r\nDate: {date}\r\n{length}Connection: {connection}\r\n");
    head
}

/// The end of the year 9999: an HTTP date has four digits for the year.
const LAST_HTTP_DATE_MS: i64 = 253_402_300_799_000;

/// Returns whether an `If-Match` lists `etag` (RFC 9110 13.1.1: by strong comparison).
fn matches(tags: &[u8], etag: &str) -> bool {
    tags.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).any(|tag| tag == b"*" || tag == etag.as_bytes())
}

/// Names the file in both spellings of RFC 6266. The plain one is ASCII that no client reads in two ways; the extended
/// one has every letter, without those that a terminal or a file manager would act on.
pub(super) fn disposition(path: &CatalogPath) -> String {
    let shown = path.name_for_display().replace(['/', '\\'], "_").replace('\u{FFFD}', "_");
    let plain: String =
        shown.chars().map(|c| if c.is_ascii_graphic() && !matches!(c, '"' | '%' | '\\') || c == ' ' { c } else { '_' }).collect();
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{}", percent_encode(shown.as_bytes(), NOT_ATTR_CHAR))
}

#[cfg(test)]
mod tests {
    use super::super::head::parse;
    use super::*;
    use crate::share::{FileIdentity, Limits, Moment, Policy, PolicyRequest, Share, ShareId, TokenId, TransferId};

    fn pass(name: &str) -> Pass {
        let identity = FileIdentity { device: 1, inode: 2, size_bytes: 1000, modified_ns: 3, changed_ns: 4 };
        let file = SharedFile { path: CatalogPath::parse(name).unwrap(), identity };
        let limits = Limits { max_tunnel: Duration::MAX, stall_timeout: Duration::MAX, grace_period: Duration::MAX };
        let policy = Policy::new(PolicyRequest::default(), limits, Moment::default()).unwrap();
        let (share, _) = Share::new(ShareId::from_random(1), TokenId(uuid::Uuid::nil()), file, policy, None, Moment::default());
        Pass::new(&share, TransferId::from_bytes([1; 16]), "\"tag\"".to_owned(), Pass::sending())
    }

    fn answer(fields: &str) -> (String, Option<ByteRange>) {
        let text = format!("{fields}Host: x\r\n\r\n");
        let head = parse(text.as_bytes()).unwrap().unwrap();
        let answer = to(&head, &pass("a.txt"), None, true, Timestamp(0));
        (String::from_utf8(answer.head).unwrap(), answer.body)
    }

    #[test]
    fn a_range_is_answered_with_its_part_and_says_which() {
        let (head, body) = answer("GET /s/get/t/a HTTP/1.1\r\nRange: bytes=10-19\r\n");
        assert!(
            head.starts_with("HTTP/1.1 206 Partial Content\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 10\r\n"),
            "{head}"
        );
        assert!(head.contains("\r\nContent-Range: bytes 10-19/1000\r\n"));
        assert_eq!(body, Some(ByteRange::new(10, 20)));
    }

    #[test]
    fn whoever_asked_another_url_learns_the_transfers_own() {
        let head = parse(b"GET /s/token/a.txt HTTP/1.1\r\nHost: x\r\n\r\n").unwrap().unwrap();
        let location = http::HeaderValue::from_static("../get/00/a.txt");
        let answer = to(&head, &pass("a.txt"), Some(&location), true, Timestamp(0));
        assert!(String::from_utf8(answer.head).unwrap().ends_with("\r\nContent-Location: ../get/00/a.txt\r\n\r\n"));
        assert_eq!(answer.body, Some(ByteRange::new(0, 1000)));
    }

    #[test]
    fn a_head_of_the_whole_says_how_long_it_is_and_has_no_body() {
        let (head, body) = answer("HEAD /s/get/t/a HTTP/1.1\r\nRange: bytes=10-19\r\n");
        assert!(head.starts_with("HTTP/1.1 200 OK") && head.contains("Content-Length: 1000\r\n"), "{head}");
        assert_eq!(body, None);
    }

    #[test]
    fn a_range_behind_the_end_is_told_the_length() {
        let (head, body) = answer("GET /s/get/t/a HTTP/1.1\r\nRange: bytes=1000-\r\n");
        assert!(head.starts_with("HTTP/1.1 416 ") && head.contains("Content-Range: bytes */1000\r\n"), "{head}");
        assert_eq!(body, None);
    }

    #[test]
    fn a_stale_if_range_gets_the_whole_and_a_stale_if_match_gets_nothing() {
        let (head, body) = answer("GET /s/get/t/a HTTP/1.1\r\nRange: bytes=10-\r\nIf-Range: \"old\"\r\n");
        assert!(head.starts_with("HTTP/1.1 200 OK"));
        assert_eq!(body, Some(ByteRange::new(0, 1000)));
        let (head, _) = answer("GET /s/get/t/a HTTP/1.1\r\nRange: bytes=10-\r\nIf-Range: \"tag\"\r\n");
        assert!(head.starts_with("HTTP/1.1 206"));
        let (head, body) = answer("GET /s/get/t/a HTTP/1.1\r\nIf-Match: \"old\"\r\n");
        assert!(head.starts_with("HTTP/1.1 412") && body.is_none());
        assert!(answer("GET /s/get/t/a HTTP/1.1\r\nIf-Match: \"x\", \"tag\"\r\n").0.starts_with("HTTP/1.1 200"));
    }

    #[test]
    fn http_2_says_what_http_1_says_but_nothing_of_the_connection() {
        let head = parse(b"GET /s/get/t/a HTTP/1.1\r\nHost: x\r\nRange: bytes=10-19\r\n\r\n").unwrap().unwrap();
        let answer = [&to(&head, &pass("a.txt"), None, true, Timestamp(0)).head[..], b"rest"].concat();
        let (response, rest) = for_h2(&answer).unwrap();
        assert_eq!((response.status().as_u16(), rest), (206, &b"rest"[..]));
        let text = String::from_utf8(answer.clone()).unwrap();
        let lines: Vec<&str> = text.split("\r\n\r\n").next().unwrap().lines().skip(1).collect();
        for line in &lines {
            let (name, value) = line.split_once(": ").unwrap();
            let said = response.headers().get(name).map(|value| value.to_str().unwrap());
            assert_eq!(said, (name != "Connection").then_some(value), "{line}");
        }
        assert_eq!(response.headers().len(), lines.len() - 1);
    }

    #[test]
    fn no_name_breaks_out_of_its_header() {
        for (name, expected) in [
            ("a.txt", "attachment; filename=\"a.txt\"; filename*=UTF-8''a.txt"),
            ("a\"; x=\"b", "attachment; filename=\"a_; x=_b\"; filename*=UTF-8''a%22%3B%20x%3D%22b"),
            ("a\r\nSet-Cookie: b", "attachment; filename=\"a__Set-Cookie: b\"; filename*=UTF-8''a__Set-Cookie%3A%20b"),
            ("caf\u{e9}", "attachment; filename=\"caf_\"; filename*=UTF-8''caf%C3%A9"),
            ("a\u{202E}gpj.exe", "attachment; filename=\"a_gpj.exe\"; filename*=UTF-8''a_gpj.exe"),
            ("..\\..\\x", "attachment; filename=\".._.._x\"; filename*=UTF-8''.._.._x"),
            ("%2e%2e", "attachment; filename=\"_2e_2e\"; filename*=UTF-8''%252e%252e"),
        ] {
            assert_eq!(disposition(&CatalogPath::parse(name).unwrap()), expected);
        }
        let raw = CatalogPath::from_bytes(b"a\xff\x80b").unwrap();
        assert_eq!(disposition(&raw), "attachment; filename=\"a__b\"; filename*=UTF-8''a__b");
    }
}
