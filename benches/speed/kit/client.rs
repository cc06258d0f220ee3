//! Clients that wait: one request, a kept connection, a download that copies what comes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Into how much a client copies at a time.
const BUFFER_BYTES: usize = 256 * 1024;

/// Sends one request and reads until the end of the connection.
pub(crate) fn exchange(to: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(to).expect("it listens");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it answers");
    String::from_utf8_lossy(&answer).into_owned()
}

/// A connection that is kept for one request after the other.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).expect("it listens");
        stream.set_nodelay(true).expect("a socket");
        Self { stream, buffer: vec![0; BUFFER_BYTES] }
    }

    /// Sends a request and reads its answer; returns the status, and the body where `keeps` says so.
    pub(crate) fn ask(&mut self, request: &str, keeps: bool) -> (u16, Vec<u8>) {
        self.stream.write_all(request.as_bytes()).expect("it reads");
        let mut filled = 0;
        let (status, head, length) = loop {
            let n = self.stream.read(&mut self.buffer[filled..]).expect("it answers");
            assert!(n > 0, "closed without a whole answer: {}", String::from_utf8_lossy(&self.buffer[..filled]));
            filled += n;
            if let Some(found) = head_and_length(&self.buffer[..filled]) {
                break found;
            }
        };
        let mut body = if keeps { self.buffer[head..filled].to_vec() } else { Vec::new() };
        let Some(length) = length else {
            self.read_chunked(head, filled, keeps, &mut body);
            return (status, body);
        };
        let mut got = (filled - head) as u64;
        while got < length {
            let n = self.stream.read(&mut self.buffer).expect("it sends");
            assert!(n > 0, "closed after {got} of {length} bytes");
            if keeps {
                body.extend_from_slice(&self.buffer[..n]);
            }
            got += n as u64;
        }
        (status, body)
    }

    /// Reads a chunked body to its end; the chunks' own lines stay in what is kept.
    fn read_chunked(&mut self, head: usize, filled: usize, keeps: bool, body: &mut Vec<u8>) {
        let mut last = self.buffer[head..filled].to_vec();
        while !last.ends_with(b"0\r\n\r\n") {
            let n = self.stream.read(&mut self.buffer).expect("it sends");
            assert!(n > 0, "closed within a chunked body");
            if keeps {
                body.extend_from_slice(&self.buffer[..n]);
            }
            last.extend_from_slice(&self.buffer[..n]);
            last.drain(..last.len().saturating_sub(5));
        }
    }
}

/// Fetches a file and copies it out of the kernel; returns the length of its body.
pub(crate) fn download(from: SocketAddr, path: &str) -> u64 {
    let mut stream = TcpStream::connect(from).expect("it listens");
    stream.write_all(request(from, path).as_bytes()).expect("it reads");
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut filled = 0;
    let (status, head, length) = loop {
        let n = stream.read(&mut buffer[filled..]).expect("it answers");
        assert!(n > 0, "closed early: {}", String::from_utf8_lossy(&buffer[..filled]));
        filled += n;
        if let Some(found) = head_and_length(&buffer[..filled]) {
            break found;
        }
    };
    assert_eq!(status, 200, "not the file: {}", String::from_utf8_lossy(&buffer[..head]));
    let length = length.expect("a file has a length");
    let mut got = (filled - head) as u64;
    while got < length {
        let n = stream.read(&mut buffer).expect("it sends");
        assert!(n > 0, "closed after {got} of {length} bytes");
        got += n as u64;
    }
    got
}

/// Spells a plain GET.
pub(crate) fn request(host: SocketAddr, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench\r\n\r\n")
}

/// Returns the status, where the head ends and how long the body is (`None`: chunked), once the head is whole.
pub(crate) fn head_and_length(bytes: &[u8]) -> Option<(u16, usize, Option<u64>)> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..end]);
    let status = head.get(9..12).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("no status: {head}"));
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok()).flatten()
    });
    Some((status, end, length))
}

/// Fetches a small file over kept connections for a while; returns how often.
pub(crate) fn hammer(at: SocketAddr, path: &str, connections: usize, time: Duration) -> u64 {
    let (count, over) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| {
                let (request, mut connection) = (request(at, path), Connection::open(at));
                while !over.load(Ordering::Relaxed) {
                    let (status, _) = connection.ask(&request, false);
                    assert_eq!(status, 200);
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(time);
        over.store(true, Ordering::Relaxed);
    });
    count.into_inner()
}
