//! One line of nginx's access log, as our own `log_format` writes it.
//!
//! The format is ours, so it is read as it is written: field behind field, and what differs in one byte is foreign and counts
//! nothing. It is JSON for whoever else reads it. No field has anything in it that a client wrote; `escape=json` keeps what
//! stands in one from looking like the next.

use std::net::{IpAddr, SocketAddr};

use crate::share::Timestamp;

/// The fields of a line, as nginx is told to write them. A line of another version is foreign. The peer is the socket's own,
/// whoever a proxy says that it comes for: by that the kernel knows the connection.
pub const FORMAT: &str = concat!(
    r#"{"v":1,"t":"$msec","req":"$upstream_http_x_portcullis_request","st":"$status","body":"$body_bytes_sent","sent":"$bytes_sent","#,
    r#""ok":"$request_completion","etag":"$sent_http_etag","peer":"$realip_remote_addr $realip_remote_port","#,
    r#""local":"$server_addr $server_port","conn":"$connection $connection_requests"}"#
);

/// What nginx says of a request that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'l> {
    /// When it ended.
    pub at: Timestamp,
    /// What we called the request when we let nginx answer it; empty where we did not.
    pub request: &'l str,
    /// The status of the answer; nginx has some that are no HTTP, as 000 and 009.
    pub status: u16,
    /// How much of the body was handed to the kernel, which is not how much has arrived.
    pub body_bytes: u64,
    /// How much in all.
    pub sent_bytes: u64,
    /// Whether that was the whole answer.
    pub is_whole: bool,
    /// The file that was sent, as nginx tells them apart: when it was written, in seconds since 1970, and how long it is.
    pub file: Option<(u64, u64)>,
    /// Both ends of the connection.
    pub peer: SocketAddr,
    /// The nginx end.
    pub local: SocketAddr,
    /// Which connection of nginx's it was, and the how many-th request of it: no two lines of one nginx have both.
    pub connection: (u64, u64),
}

/// Says that a line is not as we have nginx write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not a line of ours, from its byte {0} on")]
pub struct Foreign(usize);

/// Reads a line, without its end.
///
/// # Errors
/// [`Foreign`].
pub fn parse(line: &[u8]) -> Result<Line<'_>, Foreign> {
    let mut rest = Fields { line, at: 0 };
    let at = rest.field(r#"{"v":1,"t":""#, time)?;
    let request = rest.field(r#"","req":""#, text)?;
    let status = rest.field(r#"","st":""#, |status| if status.len() == 3 { number(status)?.try_into().ok() } else { None })?;
    let body_bytes = rest.field(r#"","body":""#, number)?;
    let sent_bytes = rest.field(r#"","sent":""#, number)?;
    let is_whole = rest.field(r#"","ok":""#, |ok| match ok {
        b"OK" => Some(true),
        b"" => Some(false),
        _ => None,
    })?;
    let file = rest.etag(r#"","etag":""#)?;
    let peer = rest.field(r#"","peer":""#, address)?;
    let local = rest.field(r#"","local":""#, address)?;
    let connection = rest.field(r#"","conn":""#, |both| pair(both, b' ', number))?;
    rest.end(r#""}"#)?;
    Ok(Line { at, request, status, body_bytes, sent_bytes, is_whole, file, peer, local, connection })
}

struct Fields<'l> {
    line: &'l [u8],
    at: usize,
}

impl<'l> Fields<'l> {
    /// Reads what stands between `before` and the next quote.
    fn field<T>(&mut self, before: &str, read: impl FnOnce(&'l [u8]) -> Option<T>) -> Result<T, Foreign> {
        self.literal(before)?;
        let rest = &self.line[self.at..];
        let end = memchr::memchr(b'"', rest).ok_or(Foreign(self.at))?;
        let value = read(&rest[..end]).ok_or(Foreign(self.at))?;
        self.at += end;
        Ok(value)
    }

    /// Reads an ETag of nginx's own, or nothing. Its quotes are escaped.
    fn etag(&mut self, before: &str) -> Result<Option<(u64, u64)>, Foreign> {
        self.literal(before)?;
        if self.literal(r#"\""#).is_err() {
            return Ok(None);
        }
        let rest = &self.line[self.at..];
        let end = memchr::memchr(b'\\', rest).ok_or(Foreign(self.at))?;
        let both = pair(&rest[..end], b'-', hexadecimal).ok_or(Foreign(self.at))?;
        self.at += end;
        self.literal(r#"\""#)?;
        Ok(Some(both))
    }

    fn literal(&mut self, literal: &str) -> Result<(), Foreign> {
        if !self.line[self.at..].starts_with(literal.as_bytes()) {
            return Err(Foreign(self.at));
        }
        self.at += literal.len();
        Ok(())
    }

    fn end(mut self, literal: &str) -> Result<(), Foreign> {
        self.literal(literal)?;
        if self.at == self.line.len() { Ok(()) } else { Err(Foreign(self.at)) }
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\\'))
}

fn number(bytes: &[u8]) -> Option<u64> {
    in_base(bytes, 10)
}

fn hexadecimal(bytes: &[u8]) -> Option<u64> {
    in_base(bytes, 16)
}

fn in_base(bytes: &[u8], base: u32) -> Option<u64> {
    let mut value = None;
    for byte in bytes {
        let digit = char::from(*byte).to_digit(base)?;
        value = Some(value.unwrap_or(0_u64).checked_mul(base.into())?.checked_add(digit.into())?);
    }
    value
}

fn pair<T>(bytes: &[u8], between: u8, read: fn(&[u8]) -> Option<T>) -> Option<(T, T)> {
    let at = memchr::memchr(between, bytes)?;
    Some((read(&bytes[..at])?, read(&bytes[at + 1..])?))
}

/// Reads seconds with three decimals.
fn time(bytes: &[u8]) -> Option<Timestamp> {
    let (seconds, millis) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    let millis = millis.strip_prefix(b".")?;
    let all = number(seconds)?.checked_mul(1000)?.checked_add(number(millis)?)?;
    i64::try_from(all).ok().map(Timestamp)
}

/// Reads an address and a port with a space between. Of an address of version 4 that came over a socket of version 6 it is the
/// former.
fn address(bytes: &[u8]) -> Option<SocketAddr> {
    let (address, port) = std::str::from_utf8(bytes).ok()?.split_once(' ')?;
    Some(SocketAddr::new(address.parse::<IpAddr>().ok()?.to_canonical(), number(port.as_bytes())?.try_into().ok()?))
}

#[cfg(test)]
mod tests;
