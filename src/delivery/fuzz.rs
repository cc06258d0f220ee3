//! What hostile bytes meet first on the public side: heads, ranges, addresses, and the head that we answer with.

use std::net::IpAddr;

use http::{HeaderMap, HeaderValue};
use percent_encoding::percent_decode_str;

use super::Pass;
use super::answer::{self, disposition};
use super::arrival::forwarded_for;
use super::certificates::CertificateFacts;
use super::exchange::secret_path;
use super::head::{self, Head, MAX_BODY_BYTES, MAX_HEAD_BYTES};
use super::proxy;
use super::range::{self, Wanted};
use crate::share::{
    ByteRange, CatalogPath, FileIdentity, Limits, Moment, Policy, PolicyRequest, Share, ShareId, SharedFile, Timestamp, TokenId, TransferId,
};
use crate::token::TransferSecret;

/// So many places of a long head are tried as the end of what has arrived; of a short one every place.
const SPLITS: usize = 64;

/// A request's head: the same verdict however it arrives, and read as a second, simpler reader reads it.
pub(crate) fn request_head(data: &[u8]) {
    let verdict = head::parse(data);
    let step = (data.len() / SPLITS).max(1);
    for end in (0..data.len()).step_by(step) {
        match (head::parse(&data[..end]), &verdict) {
            (Ok(None), _) | (Err(_), Err(_)) => {}
            (Ok(Some(early)), Ok(Some(whole))) => assert!(is_same(&early, whole), "another head after {end} bytes"),
            (early, whole) => panic!("after {end} bytes {early:?}, after all {whole:?}"),
        }
    }
    let Ok(Some(head)) = verdict else { return };
    assert!(head.length <= data.len().min(MAX_HEAD_BYTES), "it takes more than there is");
    assert!(head.body_bytes == 0 || head.method == http::Method::POST, "only a POST has a body");
    assert!(head.body_bytes <= MAX_BODY_BYTES);
    assert!(!head.headers.contains_key("transfer-encoding") && !head.headers.contains_key("expect"));
    assert!(head.headers.get_all("host").iter().count() <= 1);
    check_against_simple_reader(&data[..head.length], &head);
    let again = head::parse(&rendered(&head)).expect("what we write we read").expect("in full");
    assert!(is_same(&Head { length: again.length, ..head }, &again), "it reads back as another");
}

fn is_same(a: &Head, b: &Head) -> bool {
    let fields = |head: &Head| head.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect::<Vec<_>>();
    (&a.method, &a.uri, a.is_1_1, a.body_bytes, a.keeps_alive, a.length)
        == (&b.method, &b.uri, b.is_1_1, b.body_bytes, b.keeps_alive, b.length)
        && fields(a) == fields(b)
}

fn rendered(head: &Head) -> Vec<u8> {
    let mut raw = format!("{} {} HTTP/1.{}\r\n", head.method, head.uri, u8::from(head.is_1_1)).into_bytes();
    for (name, value) in &head.headers {
        raw.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    raw.extend_from_slice(b"\r\n");
    raw
}

/// Splits at every CRLF, every line at its first colon, and nothing else: where a clever reader and this one see different
/// requests, a proxy before us might too.
fn check_against_simple_reader(raw: &[u8], head: &Head) {
    let text: String = raw.iter().map(|byte| char::from(*byte)).collect();
    let text = text.trim_start_matches("\r\n").strip_suffix("\r\n\r\n").expect("a head ends with an empty line");
    assert!(!text.contains('\0') && text.replace("\r\n", "").find(['\r', '\n']).is_none(), "a control character came through: {text:?}");
    let mut lines = text.split("\r\n");
    let request: Vec<&str> = lines.next().expect("there is a first line").split(' ').collect();
    let version = if head.is_1_1 { "HTTP/1.1" } else { "HTTP/1.0" };
    assert_eq!((request.len(), request[0], request[2]), (3, head.method.as_str(), version), "{text:?}");
    let target = request[1].split('#').next().expect("a first part");
    // Characters beyond ASCII are allowed in a target, and compare as bytes here.
    let seen: String = head.uri.to_string().bytes().map(char::from).collect();
    assert_eq!(seen, target);
    let mut fields: Vec<(String, String)> = lines.map(field).collect();
    let mut read: Vec<(String, String)> = head
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().iter().map(|byte| char::from(*byte)).collect()))
        .collect();
    fields.sort();
    read.sort();
    assert_eq!(fields, read);
}

fn field(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("a line without a colon was taken: {line:?}"));
    assert!(!name.is_empty() && !name.contains([' ', '\t']), "a name with a space was taken: {line:?}");
    (name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned())
}

/// `Range` and `If-Range`: eight bytes are the file's size, then one line each.
pub(crate) fn range(data: &[u8]) {
    let Some((size, rest)) = data.split_first_chunk::<8>() else { return };
    // Most sizes are those of files; the largest that a file can have is 2^63 - 1.
    let size_bytes = u64::from_le_bytes(*size) >> (size[0] % 64).max(1);
    let mut lines = rest.splitn(2, |byte| *byte == b'\n');
    let (spec, if_range) = (lines.next().unwrap_or_default(), lines.next());
    let wanted = range::wanted(Some(spec), size_bytes);
    assert_eq!(wanted, simply_wanted(spec, size_bytes), "{:?} of {size_bytes}", spec.escape_ascii().to_string());
    if let Wanted::Part(part) = wanted {
        assert!(part.start < part.end && part.end <= size_bytes, "{part:?} lies outside of {size_bytes}");
    }
    let etag = "\"0123-4567\"";
    let holds = range::if_range_holds(if_range, etag);
    assert_eq!(holds, if_range.is_none_or(|value| value.trim_ascii() == etag.as_bytes()));
}

/// Reads a range with numbers that nothing overflows; what 64 bits do not hold is as large as they hold.
fn simply_wanted(spec: &[u8], size_bytes: u64) -> Wanted {
    let most = u128::from(u64::MAX);
    let number = |digits: &str| digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<u128>().map_or(most, |n| n.min(most)));
    let Ok(text) = std::str::from_utf8(spec) else { return Wanted::Whole };
    let Some((unit, set)) = text.trim().split_once('=') else { return Wanted::Whole };
    let Some((first, last)) = set.trim().split_once('-') else { return Wanted::Whole };
    let size = u128::from(size_bytes);
    let (Some(start), Some(end)) = (number(first), number(last)) else { return Wanted::Whole };
    let (start, end) = match (first, last) {
        _ if !unit.trim().eq_ignore_ascii_case("bytes") => return Wanted::Whole,
        ("", "") => return Wanted::Whole,
        ("", _) => (size.saturating_sub(end), if end == 0 { 0 } else { size }),
        (_, "") => (start, size),
        _ if end < start => return Wanted::Whole,
        _ => (start, size.min(end + 1)),
    };
    if start >= size || start >= end {
        return Wanted::Unsatisfiable;
    }
    Wanted::Part(ByteRange::new(start as u64, end as u64))
}

/// A request for bytes, answered: one well-formed head whose length is that of the bytes that follow.
pub(crate) fn bytes_answer(data: &[u8]) {
    let (size, fields) = data.split_at_checked(2).unwrap_or((&[0, 0], data));
    let size_bytes = u64::from(u16::from_le_bytes([size[0], size[1]]));
    for method in ["GET", "HEAD"] {
        let raw = [format!("{method} /s/get/t/a HTTP/1.1\r\nHost: x\r\n").as_bytes(), fields, b"\r\n\r\n"].concat();
        let Ok(Some(head)) = head::parse(&raw) else { continue };
        let pass = pass(b"a file.txt", size_bytes);
        let answer = answer::to(&head, &pass, None, true, Timestamp(0));
        let mut storage = [httparse::EMPTY_HEADER; 64];
        let mut parsed = httparse::Response::new(&mut storage);
        assert!(parsed.parse(&answer.head).is_ok_and(|it| it == httparse::Status::Complete(answer.head.len())), "one head and no more");
        let value = |name: &str| {
            let mut values = parsed.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
            let value = values.next().map(|field| String::from_utf8_lossy(field.value).into_owned());
            assert!(values.next().is_none(), "{name} stands there twice");
            value
        };
        let length: u64 = value("content-length").expect("a length").parse().expect("a number");
        let told = value("content-range");
        match (parsed.code.expect("a status"), answer.body) {
            (200, body) => assert!(length == size_bytes && told.is_none() && body.is_none_or(|body| body == ByteRange::new(0, size_bytes))),
            (206, Some(body)) => {
                assert!(method == "GET" && body.end <= size_bytes && body.len() == length && length > 0);
                assert_eq!(told, Some(format!("bytes {}-{}/{size_bytes}", body.start, body.end - 1)));
            }
            (412, None) => assert_eq!((length, told), (0, None)),
            (416, None) => assert_eq!((length, told), (0, Some(format!("bytes */{size_bytes}")))),
            other => panic!("{other:?}"),
        }
    }
}

pub(super) fn pass(name: &[u8], size_bytes: u64) -> Pass {
    let identity = FileIdentity { device: 1, inode: 2, size_bytes, modified_ns: 3, changed_ns: 4 };
    let file = SharedFile { path: CatalogPath::from_bytes(name).expect("a good name"), identity };
    let limits = Limits { max_tunnel: WEEK, stall_timeout: WEEK, grace_period: WEEK };
    let policy = Policy::new(PolicyRequest::default(), limits, Moment::default()).expect("the default is fine");
    let link: TokenId = "0191e4a2b3c44d5e8f60718293a4b5c6".parse().expect("an id");
    let (share, _) = Share::new(ShareId::from_random(1), link, file, policy, None, Moment::default());
    Pass::new(&share, TransferId::from_bytes([1; 16]), "\"tag\"".to_owned(), Pass::sending())
}

const WEEK: std::time::Duration = std::time::Duration::from_secs(7 * 24 * 3600);

/// A file's name in `Content-Disposition`: a second reader finds that name in it and no other.
pub(crate) fn content_disposition(data: &[u8]) {
    let Ok(path) = CatalogPath::from_bytes(data) else { return };
    if path.is_root() {
        return;
    }
    let value = disposition(&path);
    assert!(value.bytes().all(|byte| (0x20..0x7F).contains(&byte)), "not printable ASCII: {value:?}");
    let (plain, extended) = value
        .strip_prefix("attachment; filename=\"")
        .and_then(|rest| rest.split_once('"'))
        .and_then(|(plain, rest)| Some((plain, rest.strip_prefix("; filename*=UTF-8''")?)))
        .unwrap_or_else(|| panic!("it has another form: {value}"));
    assert!(extended.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&+-.^_`|~%".contains(&b)), "not RFC 8187: {value}");
    let decoded: Vec<u8> = percent_decode_str(extended).collect();
    let decoded = String::from_utf8(decoded).expect("it is UTF-8");
    let name = String::from_utf8_lossy(path.name_bytes());
    assert_eq!((plain.chars().count(), decoded.chars().count()), (name.chars().count(), name.chars().count()), "{value}");
    for ((shown, ascii), real) in decoded.chars().zip(plain.chars()).zip(name.chars()) {
        assert!(shown == real || shown == '_', "{shown:?} is not {real:?} in {value}");
        assert!(ascii == real || ascii == '_', "{ascii:?} is not {real:?} in {value}");
        assert!(!matches!(shown, '/' | '\\') && !shown.is_control() && !matches!(ascii, '/' | '\\' | '"' | '%'), "{value}");
        assert!(!real.is_alphanumeric() || shown == real, "the letter {real:?} was lost in {value}");
    }
    assert!(!matches!(decoded.as_str(), "" | "." | ".."), "{value}");
}

/// A request's address: who finds a transfer's secret in it wrote exactly that secret, there.
pub(crate) fn transfer_address(data: &[u8]) {
    let Ok(path) = std::str::from_utf8(data) else { return };
    for what in ["get", "live"] {
        let Some((share, secret)) = secret_path(path, what) else { continue };
        let written = format!("/{share}/{what}/{}", secret.expose());
        let rest = path.strip_prefix(&written).unwrap_or_else(|| panic!("{path:?} was read as {written}"));
        assert!(rest.is_empty() || rest.starts_with('/'), "{path:?} was read as {written}");
        assert_eq!(TransferSecret::parse(secret.expose().as_bytes()), Some(secret));
    }
}

/// `X-Forwarded-For`: what the last of our own proxies saw, and nothing that stands further left.
pub(crate) fn forwarded(data: &[u8]) {
    let is_ours = |ip: IpAddr| matches!(ip, IpAddr::V4(v4) if v4.octets()[0] == 10);
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append("x-forwarded-for", value);
        }
    }
    let address = forwarded_for(&headers, &is_ours);
    assert!(address.is_none_or(|ip| !is_ours(ip)), "one of our proxies was taken for the recipient");
    // Whatever the sender writes first, a proxy of ours that appends whom it saw has the last word.
    headers.append("x-forwarded-for", HeaderValue::from_static("203.0.113.7"));
    assert_eq!(forwarded_for(&headers, &is_ours), Some(IpAddr::from([203, 0, 113, 7])));
    headers.append("x-forwarded-for", HeaderValue::from_static("unknown, 10.1.1.1"));
    assert_eq!(forwarded_for(&headers, &is_ours), None, "a word that is no address hides who it was");
}

/// A tunnel's header: who is named stands there, where the protocol has it, and nothing less or more is a header.
pub(crate) fn proxy_header(data: &[u8]) {
    let Ok(carried) = proxy::parse(data) else { return };
    let (command, family) = (data[12], data[13]);
    assert!(data.starts_with(b"\r\n\r\n\0\r\nQUIT\n") && matches!(command, 0x20 | 0x21), "it is no header: {data:?}");
    assert_eq!(usize::from(data[14]) << 8 | usize::from(data[15]), data.len() - 16, "it is as long as it says");
    match carried {
        None => assert!(command == 0x20 || family == 0, "a recipient is passed over"),
        Some(address) => {
            let written: IpAddr = match family {
                0x11 => <[u8; 4]>::try_from(&data[16..20]).expect("four").into(),
                0x21 => <[u8; 16]>::try_from(&data[16..32]).expect("sixteen").into(),
                other => panic!("no family of TCP: {other:#x}"),
            };
            assert_eq!(address, written.to_canonical());
            let again = proxy::header_for(written, &data[if family == 0x11 { 28 } else { 52 }..]);
            assert_eq!(proxy::parse(&again), Ok(Some(address)), "what we write we read");
        }
    }
    assert!(proxy::parse(&data[..data.len() - 1]).is_err() && proxy::parse(&[data, b"x"].concat()).is_err());
}

/// A certificate: each name that is told stands in it.
pub(crate) fn certificate(data: &[u8]) {
    let text = data.to_ascii_lowercase();
    for name in CertificateFacts::of(data).names {
        assert!(name.is_empty() || memchr::memmem::find(&text, name.as_bytes()).is_some(), "{name:?} stands nowhere");
    }
}
