//! Talks that no honest client holds: any bytes there, and all that comes back, framed strictly and to the last byte.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long an answer to a request that is whole may take before the request counts as one that waits for more.
const ANSWER_PATIENCE: Duration = Duration::from_millis(400);
/// How long a connection may stay open once nothing more comes: longer than any of the server's own limits.
const END_PATIENCE: Duration = Duration::from_secs(45);

/// One final answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn field(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().find(|line| line.split(':').next().is_some_and(|it| it.eq_ignore_ascii_case(name)))?;
        line.split_once(':').map(|(_, value)| value.trim())
    }
}

/// All that came back over one connection.
#[derive(Debug)]
pub(crate) struct Talk {
    pub(crate) replies: Vec<Reply>,
    /// What stood behind the last whole answer.
    pub(crate) rest: Vec<u8>,
    /// Whether the answer to the first request had come before the second was sent.
    pub(crate) was_in_step: bool,
}

/// Sends `raw`; then, if the connection is still open, `probe`; and reads until the server closes.
///
/// # Panics
/// Where it does not close in the end.
pub(crate) fn talk(to: SocketAddr, raw: &[u8], probe: &[u8]) -> Talk {
    talk_within(ANSWER_PATIENCE, to, raw, probe)
}

/// As [`talk`], with another patience for the first answer.
pub(crate) fn talk_within(patience: Duration, to: SocketAddr, raw: &[u8], probe: &[u8]) -> Talk {
    let mut stream = TcpStream::connect(to).expect("connects");
    stream.set_nodelay(true).expect("a socket of ours");
    stream.set_write_timeout(Some(END_PATIENCE)).expect("a socket of ours");
    let is_head = raw.starts_with(b"HEAD ");
    let (mut said, mut is_open) = (Vec::new(), stream.write_all(raw).is_ok());
    let asked = Instant::now();
    while is_open && frame(&said, is_head).0.is_empty() && asked.elapsed() < patience {
        is_open = read(&mut stream, &mut said, patience);
    }
    let was_in_step = !frame(&said, is_head).0.is_empty();
    // Those that wait for the rest of something get the probe for it.
    let _ = stream.write_all(probe);
    let _ = stream.shutdown(Shutdown::Write);
    // What came with an end that a reset announces may still lie in the buffer.
    let ends = Instant::now() + END_PATIENCE;
    while read(&mut stream, &mut said, END_PATIENCE) {
        assert!(Instant::now() < ends, "still open: {:?} got {:?}", shown(raw), shown(&said));
    }
    let (replies, rest) = frame(&said, is_head);
    Talk { replies, rest, was_in_step }
}

/// Reads once; `false` at the end. A time-out is no end.
fn read(stream: &mut TcpStream, into: &mut Vec<u8>, within: Duration) -> bool {
    stream.set_read_timeout(Some(within)).expect("a time-out can be set");
    let mut chunk = [0; 16 * 1024];
    match stream.read(&mut chunk) {
        Ok(n) => {
            into.extend_from_slice(&chunk[..n]);
            n > 0
        }
        Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

/// Takes bytes apart into final answers, by `Content-Length` and chunks alone; interim ones (1xx) are passed over.
fn frame(mut bytes: &[u8], is_head: bool) -> (Vec<Reply>, Vec<u8>) {
    let mut replies: Vec<Reply> = Vec::new();
    while let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let Some(status) = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok()) else { break };
        let mut reply = Reply { status, head, body: Vec::new() };
        let behind = &bytes[end + 4..];
        if (100..200).contains(&status) {
            bytes = behind;
            continue;
        }
        let has_no_body = (is_head && replies.is_empty()) || matches!(status, 204 | 304);
        let length = match (reply.field("transfer-encoding"), reply.field("content-length")) {
            _ if has_no_body => Some(0),
            (Some(_), _) => dechunk(behind, &mut reply.body),
            (None, Some(length)) => length.parse().ok().filter(|length| *length <= behind.len()),
            (None, None) => Some(behind.len()),
        };
        let Some(length) = length else { break };
        if reply.body.is_empty() {
            reply.body = behind[..length].to_vec();
        }
        replies.push(reply);
        bytes = &behind[length..];
    }
    (replies, bytes.to_vec())
}

/// Reads chunks; returns how many bytes they take, or `None` while they are not there in full.
fn dechunk(bytes: &[u8], into: &mut Vec<u8>) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = bytes[at..].windows(2).position(|part| part == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[at..at + line]).ok()?, 16).ok()?;
        let start = at + line + 2;
        at = start + size + 2;
        into.extend_from_slice(bytes.get(start..at)?.strip_suffix(b"\r\n")?);
        if size == 0 {
            return Some(at);
        }
    }
}

/// Returns bytes for a message, cut to what fits on a screen.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let mut text = bytes[..bytes.len().min(1500)].escape_ascii().to_string();
    if bytes.len() > 1500 {
        text += &format!("… ({} bytes)", bytes.len());
    }
    text
}

/// Returns how many descriptors a process has open.
pub(crate) fn open_descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").count()
}
