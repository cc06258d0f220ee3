//! One request's head, read strictly: what two parsers could read in two ways is refused.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

/// The longest head. Browsers send under 2 KiB, proxies add a few hundred bytes.
pub(super) const MAX_HEAD_BYTES: usize = 16 * 1024;
/// The most header fields.
const MAX_FIELDS: usize = 64;
/// The longest body: a form's button sends none, or a few bytes.
pub(super) const MAX_BODY_BYTES: usize = 1024;

/// A request's head.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    /// Whether its client understands HTTP/1.1, and so chunks.
    pub(super) is_1_1: bool,
    /// How long its body is.
    pub(super) body_bytes: usize,
    /// Whether the connection goes on behind it.
    pub(super) keeps_alive: bool,
    /// How many bytes of the buffer it takes.
    pub(super) length: usize,
}

/// Why a head is refused; each is answered with its status and the connection closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadHead {
    Malformed,
    TooLarge,
    BodyTooLarge,
    NoSuchVersion,
    ExpectationFailed,
    /// It asks for something that no server of this kind has: not a word is said.
    NotOurs,
}

impl BadHead {
    /// Returns the status that it is answered with, if it is answered.
    pub(super) fn status_line(self) -> Option<&'static str> {
        Some(match self {
            Self::Malformed => "400 Bad Request",
            Self::TooLarge => "431 Request Header Fields Too Large",
            Self::BodyTooLarge => "413 Content Too Large",
            Self::NoSuchVersion => "505 HTTP Version Not Supported",
            Self::ExpectationFailed => "417 Expectation Failed",
            Self::NotOurs => return None,
        })
    }
}

/// Reads a head from the beginning of `buffer`; `None` while it is not there in full.
pub(super) fn parse(buffer: &[u8]) -> Result<Option<Head>, BadHead> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let length = match request.parse(buffer) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if buffer.len() >= MAX_HEAD_BYTES => return Err(BadHead::TooLarge),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(BadHead::TooLarge),
        Err(httparse::Error::Version) => return Err(BadHead::NoSuchVersion),
        Err(_) => return Err(BadHead::Malformed),
    };
    if length > MAX_HEAD_BYTES {
        return Err(BadHead::TooLarge);
    }
    if has_bare_line_feed(&buffer[..length]) {
        return Err(BadHead::Malformed);
    }
    let is_1_1 = request.version == Some(1);
    let method = request.method.and_then(|text| Method::from_bytes(text.as_bytes()).ok()).ok_or(BadHead::Malformed)?;
    let target = request.path.filter(|path| path.starts_with('/')).ok_or(BadHead::NotOurs)?;
    let uri = target.parse::<Uri>().map_err(|_| BadHead::Malformed)?;
    let mut headers = HeaderMap::with_capacity(request.headers.len());
    for field in request.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| BadHead::Malformed)?;
        headers.append(name, HeaderValue::from_bytes(field.value).map_err(|_| BadHead::Malformed)?);
    }
    let hosts = headers.get_all(http::header::HOST).iter().count();
    if hosts > 1 || (is_1_1 && hosts == 0) {
        return Err(BadHead::Malformed);
    }
    if headers.contains_key(http::header::EXPECT) {
        return Err(BadHead::ExpectationFailed);
    }
    let body_bytes = body_bytes(&headers, &method)?;
    Ok(Some(Head { method, uri, is_1_1, keeps_alive: keeps_alive(&headers, is_1_1), headers, body_bytes, length }))
}

/// Reads the head of a request that came by HTTP/2, by the same rules. `has_body` says whether anything may follow it; what it
/// says of its length is read, and may be missing.
pub(super) fn of_h2(parts: http::request::Parts, has_body: bool) -> Result<Head, BadHead> {
    let (method, mut headers) = (parts.method, parts.headers);
    if headers.len() > MAX_FIELDS {
        return Err(BadHead::TooLarge);
    }
    let target = parts.uri.path_and_query().filter(|target| target.as_str().starts_with('/')).ok_or(BadHead::NotOurs)?;
    let uri = target.as_str().parse::<Uri>().map_err(|_| BadHead::Malformed)?;
    if let Some(authority) = parts.uri.authority() {
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| BadHead::Malformed)?;
        if headers.get(http::header::HOST).is_some_and(|said| !said.as_bytes().eq_ignore_ascii_case(host.as_bytes())) {
            return Err(BadHead::Malformed);
        }
        headers.entry(http::header::HOST).or_insert(host);
    }
    if headers.get_all(http::header::HOST).iter().count() != 1 {
        return Err(BadHead::Malformed);
    }
    if headers.contains_key(http::header::EXPECT) {
        return Err(BadHead::ExpectationFailed);
    }
    let body_bytes = body_bytes(&headers, &method)?;
    if has_body && method != Method::POST {
        return Err(BadHead::Malformed);
    }
    Ok(Head { method, uri, is_1_1: true, keeps_alive: true, headers, body_bytes, length: 0 })
}

/// A transfer coding is not read at all, and a length has one spelling: what could be smuggled in is not understood.
fn body_bytes(headers: &HeaderMap, method: &Method) -> Result<usize, BadHead> {
    if headers.contains_key(http::header::TRANSFER_ENCODING) {
        return Err(BadHead::Malformed);
    }
    let mut lengths = headers.get_all(http::header::CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(0) };
    let digits = length.as_bytes();
    if lengths.next().is_some() || digits.is_empty() || digits.len() > 20 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(BadHead::Malformed);
    }
    let length = std::str::from_utf8(digits).ok().and_then(|text| text.parse::<u64>().ok()).unwrap_or(u64::MAX);
    if length > 0 && *method != Method::POST {
        return Err(BadHead::Malformed);
    }
    if length > MAX_BODY_BYTES as u64 { Err(BadHead::BodyTooLarge) } else { Ok(length as usize) }
}

fn keeps_alive(headers: &HeaderMap, is_1_1: bool) -> bool {
    let mut options = headers.get_all(http::header::CONNECTION).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    is_1_1 && !options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
}

fn has_bare_line_feed(head: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', head).any(|at| at == 0 || head[at - 1] != b'\r')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bad(head: &str) -> BadHead {
        parse(head.as_bytes()).expect_err(head)
    }

    #[test]
    fn a_plain_head_is_read() {
        let text = "GET /a/b?c HTTP/1.1\r\nHost: x\r\nRange: bytes=1-\r\n\r\nrest";
        let head = parse(text.as_bytes()).unwrap().unwrap();
        assert_eq!((head.method, head.uri.path(), head.uri.query()), (Method::GET, "/a/b", Some("c")));
        assert_eq!((head.length, head.body_bytes, head.keeps_alive), (text.len() - 4, 0, true));
        assert_eq!(head.headers["range"], "bytes=1-");
        assert!(parse(b"GET /a HTTP/1.1\r\nHos").unwrap().is_none());
    }

    #[test]
    fn the_connection_goes_on_only_where_both_sides_know_it() {
        let keeps = |head: &str| parse(head.as_bytes()).unwrap().unwrap().keeps_alive;
        assert!(keeps("GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n"));
        assert!(!keeps("GET / HTTP/1.1\r\nHost: x\r\nConnection: foo, Close\r\n\r\n"));
        assert!(!keeps("GET / HTTP/1.0\r\n\r\n"));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for head in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
            "\u{16}\u{3}\u{1}TLS / HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            assert_eq!(bad(head), BadHead::Malformed, "{head:?}");
        }
        assert_eq!(bad("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1025\r\n\r\n"), BadHead::BodyTooLarge);
        assert_eq!(bad("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n"), BadHead::BodyTooLarge);
        assert_eq!(bad("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n"), BadHead::ExpectationFailed);
        assert_eq!(bad("GET http://elsewhere/ HTTP/1.1\r\nHost: a\r\n\r\n"), BadHead::NotOurs);
        assert_eq!(bad("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), BadHead::NotOurs);
        assert_eq!(bad("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), BadHead::NoSuchVersion);
    }

    #[test]
    fn a_head_has_a_longest_length_and_a_largest_number_of_fields() {
        let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "y".repeat(MAX_HEAD_BYTES));
        assert_eq!(bad(&long), BadHead::TooLarge);
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(MAX_FIELDS));
        assert_eq!(bad(&many), BadHead::TooLarge);
    }

    fn of_h2(uri: &str, method: &str, fields: &[(&'static str, &'static str)], has_body: bool) -> Result<Head, BadHead> {
        let mut request = http::Request::builder().uri(uri).method(method);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        super::of_h2(request.body(()).unwrap().into_parts().0, has_body)
    }

    #[test]
    fn by_http_2_the_same_is_read_and_the_same_refused() {
        let head = of_h2("https://x/a/b?c", "GET", &[("range", "bytes=1-")], false).unwrap();
        assert_eq!((head.uri.to_string(), head.keeps_alive, head.is_1_1), ("/a/b?c".to_owned(), true, true));
        assert_eq!((head.headers["host"].as_bytes(), head.headers["range"].as_bytes()), (&b"x"[..], &b"bytes=1-"[..]));
        assert!(of_h2("https://x/", "GET", &[("host", "X")], false).is_ok() && of_h2("https://x/", "POST", &[], true).is_ok());
        let bad = |uri: &str, method: &str, fields: &[_], has_body| of_h2(uri, method, fields, has_body).expect_err(uri);
        assert_eq!(bad("https://x/", "GET", &[("host", "y")], false), BadHead::Malformed);
        assert_eq!(bad("/", "GET", &[], false), BadHead::Malformed);
        assert_eq!(bad("/", "GET", &[("host", "x"), ("host", "x")], false), BadHead::Malformed);
        assert_eq!(bad("https://x/", "GET", &[], true), BadHead::Malformed);
        assert_eq!(bad("https://x/", "GET", &[("content-length", "5")], false), BadHead::Malformed);
        assert_eq!(bad("https://x/", "POST", &[("content-length", "1025")], true), BadHead::BodyTooLarge);
        assert_eq!(bad("https://x/", "POST", &[("transfer-encoding", "chunked")], true), BadHead::Malformed);
        assert_eq!(bad("https://x/", "POST", &[("expect", "100-continue")], true), BadHead::ExpectationFailed);
        assert_eq!(bad("x:443", "CONNECT", &[], false), BadHead::NotOurs);
        assert_eq!(bad("*", "OPTIONS", &[("host", "x")], false), BadHead::NotOurs);
        assert_eq!(bad("https://x/", "GET", &[("x", "y"); MAX_FIELDS + 1], false), BadHead::TooLarge);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&bytes);
            let _ = parse(&[&b"GET / HTTP/1.1\r\n"[..], &bytes].concat());
        }
    }
}
