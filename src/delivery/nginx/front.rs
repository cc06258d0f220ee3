//! What nginx says of a request, and the head by which it is told to answer it.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use super::super::head::Head;
use crate::share::{ByteRange, CatalogPath};

/// The field in which nginx says over which connection a request came.
const CONNECTION: &str = "x-portcullis-connection";
/// The longest number in a `Range` that nginx reads as we do; of longer ones it says that there is no such range.
const MAX_DIGITS: usize = 18;
/// All but what RFC 3986 has nothing against, and `/`: nginx decodes the path once.
const NOT_IN_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Tells nginx to say nothing.
pub(in crate::delivery) const SILENCE: &[u8] =
    b"HTTP/1.1 200 OK\r\nX-Accel-Redirect: /_portcullis/silence\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// The connection by which a recipient reached nginx.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::delivery) struct Via {
    pub(in crate::delivery) peer: SocketAddr,
    pub(in crate::delivery) local: SocketAddr,
    /// Whether the request came before the one ahead of it was answered.
    pub(in crate::delivery) is_pipelined: bool,
}

impl Via {
    /// Reads what nginx says of a request; `None` where it does not say it as we have it configured.
    pub(in crate::delivery) fn read(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(CONNECTION).iter();
        let text = values.next()?.to_str().ok()?;
        if values.next().is_some() {
            return None;
        }
        let mut parts = text.split(' ');
        let mut address = || {
            let ip: IpAddr = parts.next()?.parse().ok()?;
            Some(SocketAddr::new(ip.to_canonical(), parts.next()?.parse().ok()?))
        };
        let (peer, local) = (address()?, address()?);
        let is_pipelined = match (parts.next()?.parse::<u64>(), parts.next()?.parse::<u64>(), parts.next()?) {
            (Ok(_), Ok(_), ".") => false,
            (Ok(_), Ok(_), "p") => true,
            _ => return None,
        };
        parts.next().is_none().then_some(Self { peer, local, is_pipelined })
    }
}

/// Takes the `Range` out of a request where nginx might read it in another way than we do: it is answered with the whole then, which RFC
/// 9110 14.2 allows. What is decided here and what is sent there must be the same bytes.
pub(in crate::delivery) fn understood_alike(head: &Head, etag: &str) -> Head {
    let one = |name| {
        let mut values = head.headers.get_all(name).iter();
        (values.next().map(http::HeaderValue::as_bytes), values.next().is_some())
    };
    let (range, if_range) = (one(header::RANGE), one(header::IF_RANGE));
    let is_plain = range.0.is_none_or(is_plain_range) && !range.1;
    let is_ours = if_range.0.is_none_or(|said| said == etag.as_bytes()) && !if_range.1;
    let mut head = head.clone();
    if !is_plain || !is_ours {
        head.headers.remove(header::RANGE);
    }
    head
}

/// Returns whether it is `bytes=FIRST-LAST`, `bytes=FIRST-` or `bytes=-LENGTH` and nothing more.
fn is_plain_range(range: &[u8]) -> bool {
    let Some((first, last)) =
        range.strip_prefix(b"bytes=").and_then(|set| set.iter().position(|byte| *byte == b'-').map(|at| (&set[..at], &set[at + 1..])))
    else {
        return false;
    };
    let is_number = |text: &[u8]| text.len() <= MAX_DIGITS && text.iter().all(u8::is_ascii_digit);
    is_number(first) && is_number(last) && !(first.is_empty() && last.is_empty())
}

/// Turns the head of an answer with bytes into one that has nginx send them: it makes the status, the length, the range and the validator
/// itself. `fields` are lines with their ends.
pub(in crate::delivery) fn handed_over(answer: &[u8], fields: &str) -> Vec<u8> {
    const ITS_OWN: [&str; 4] = ["content-length", "content-range", "etag", "connection"];
    let mut out = b"HTTP/1.1 200 OK\r\n".to_vec();
    fields_but(answer, &ITS_OWN, &mut out);
    out.extend_from_slice(format!("{fields}Content-Length: 0\r\nConnection: close\r\n\r\n").as_bytes());
    out
}

/// Adds fields, lines with their ends, to the head of an answer.
pub(in crate::delivery) fn with(mut head: Vec<u8>, fields: &str) -> Vec<u8> {
    // The empty line at its end.
    head.truncate(head.len() - 2);
    head.extend_from_slice(fields.as_bytes());
    head.extend_from_slice(b"\r\n");
    head
}

/// Turns the head of an answer into that of a slice of it.
pub(in crate::delivery) fn of_slice(answer: &[u8], range: ByteRange, size_bytes: u64, keeps_alive: bool) -> Vec<u8> {
    let connection = if keeps_alive { "keep-alive" } else { "close" };
    let own = format!(
        "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {}-{}/{size_bytes}\r\nConnection: {connection}\r\n",
        range.len(),
        range.start,
        range.end - 1
    );
    let mut out = own.into_bytes();
    fields_but(answer, &["content-length", "content-range", "connection"], &mut out);
    out.extend_from_slice(b"\r\n");
    out
}

/// Copies the lines of a head that have a name other than these.
fn fields_but(head: &[u8], names: &[&str], out: &mut Vec<u8>) {
    for line in head.split(|byte| *byte == b'\n').skip(1).filter(|line| line.contains(&b':')) {
        let name = &line[..line.iter().position(|byte| *byte == b':').unwrap_or(0)];
        if !names.iter().any(|own| own.as_bytes().eq_ignore_ascii_case(name)) {
            out.extend_from_slice(line);
            out.push(b'\n');
        }
    }
}

/// Returns the path below which nginx finds a file, or a part of it where the request asks for one.
pub(in crate::delivery) fn redirect(path: &CatalogPath, is_part: bool) -> String {
    format!("/_portcullis/{}/{}", if is_part { "part" } else { "whole" }, percent_encode(path.as_bytes(), NOT_IN_PATH))
}

#[cfg(test)]
mod tests {
    use super::super::super::head::parse;
    use super::*;

    #[test]
    fn a_connection_is_read_as_nginx_writes_it_and_in_no_other_way() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONNECTION, text.parse().unwrap());
            Via::read(&headers)
        };
        let via = Via { peer: "192.0.2.1:5".parse().unwrap(), local: "192.0.2.2:80".parse().unwrap(), is_pipelined: false };
        assert_eq!(read("192.0.2.1 5 192.0.2.2 80 17 3 ."), Some(via));
        assert_eq!(read("::ffff:192.0.2.1 5 ::ffff:192.0.2.2 80 17 3 p"), Some(Via { is_pipelined: true, ..via }));
        assert_eq!(read("2001:db8::1 5 2001:db8::2 80 1 1 .").unwrap().peer, "[2001:db8::1]:5".parse().unwrap());
        for other in ["", "unix: 0 192.0.2.2 80 1 1 .", "192.0.2.1 5 192.0.2.2 80 1 1", "192.0.2.1 5 192.0.2.2 80 1 1 . .", "192.0.2.1 5"] {
            assert_eq!(read(other), None, "{other}");
        }
        let mut twice = HeaderMap::new();
        twice.append(CONNECTION, "192.0.2.1 5 192.0.2.2 80 17 3 .".parse().unwrap());
        twice.append(CONNECTION, "192.0.2.1 5 192.0.2.2 80 17 3 .".parse().unwrap());
        assert_eq!(Via::read(&twice), None);
    }

    #[test]
    fn a_range_that_two_might_read_in_two_ways_is_answered_with_the_whole() {
        let keeps = |fields: &str| {
            let text = format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
            understood_alike(&parse(text.as_bytes()).unwrap().unwrap(), "\"1-2\"").headers.contains_key(header::RANGE)
        };
        for fields in [
            "Range: bytes=0-\r\n",
            "Range: bytes=10-19\r\n",
            "Range: bytes=-5\r\n",
            "Range: bytes=5-3\r\n",
            "Range: bytes=0-9\r\nIf-Range: \"1-2\"\r\n",
        ] {
            assert!(keeps(fields), "{fields}");
        }
        for fields in [
            "Range: bytes=0-1,5-6\r\n",
            "Range: bytes =0-1\r\n",
            "Range: Bytes=0-1\r\n",
            "Range: bytes= 0-1\r\n",
            "Range: bytes=-\r\n",
            "Range: bytes=0-1\r\nRange: bytes=2-3\r\n",
            "Range: bytes=0-9999999999999999999\r\n",
            "Range: bytes=0-9\r\nIf-Range: \"1-3\"\r\n",
            "Range: bytes=0-9\r\nIf-Range: W/\"1-2\"\r\n",
            "Range: bytes=0-9\r\nIf-Range: Thu, 01 Jan 1970 00:00:00 GMT\r\n",
            "Range: bytes=0-9\r\nIf-Range: \"1-2\"\r\nIf-Range: \"1-3\"\r\n",
        ] {
            assert!(!keeps(fields), "{fields}");
        }
    }

    #[test]
    fn what_nginx_says_itself_is_left_out_and_the_rest_stays() {
        let answer =
            b"HTTP/1.1 206 Partial Content\r\nDate: now\r\nContent-Length: 5\r\nConnection: close\r\nContent-Type: a/b\r\nETag: \"x\"\r\n\
            Accept-Ranges: bytes\r\nContent-Range: bytes 0-4/9\r\n\r\n";
        let head = String::from_utf8(handed_over(answer, "X-Accel-Redirect: /a\r\n")).unwrap();
        assert_eq!(
            head,
            "HTTP/1.1 200 OK\r\nDate: now\r\nContent-Type: a/b\r\nAccept-Ranges: bytes\r\nX-Accel-Redirect: /a\r\nContent-Length: 0\r\n\
             Connection: close\r\n\r\n"
        );
    }

    #[test]
    fn a_slice_has_the_fields_of_the_whole_and_its_own_place_in_it() {
        let answer = b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 9\r\nConnection: close\r\nETag: \"x\"\r\n\r\n";
        let head = String::from_utf8(of_slice(answer, ByteRange::new(4, 8), 9, true)).unwrap();
        assert_eq!(
            head,
            "HTTP/1.1 206 Partial Content\r\nContent-Length: 4\r\nContent-Range: bytes 4-7/9\r\nConnection: keep-alive\r\nDate: now\r\n\
             ETag: \"x\"\r\n\r\n"
        );
    }

    #[test]
    fn no_byte_of_a_name_means_anything_in_a_path() {
        let path = CatalogPath::from_bytes(b"a b/%2e#?\"\\;\n\xff~x.tar").unwrap();
        assert_eq!(redirect(&path, true), "/_portcullis/part/a%20b/%252e%23%3F%22%5C%3B%0A%FF~x.tar");
        assert_eq!(redirect(&CatalogPath::parse("a").unwrap(), false), "/_portcullis/whole/a");
    }
}
