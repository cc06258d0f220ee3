//! A small HTTP/1.1 client that shows what really went over the wire: raw heads, cut bodies, connections closed unanswered.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;
use socket2::{Domain, Socket, Type};

/// No answer takes this long unless something hangs; then the test fails instead of waiting for ever.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// The longest head that is read before the test calls it endless.
const MAX_HEAD_BYTES: usize = 256 * 1024;

/// What came back for one request.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The head as it came, up to and with the empty line.
    pub(crate) head: Vec<u8>,
    /// Names in lower case, values as they came.
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    /// Whether the body came to its announced end.
    pub(crate) complete: bool,
    /// The path that was asked for.
    asked: String,
}

impl Answer {
    /// Returns a header that must stand there at most once.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let mut values = self.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| String::from_utf8_lossy(v).into_owned());
        let first = values.next();
        assert!(values.next().is_none(), "the header {name} stands there twice:\n{}", self.head_text());
        first
    }

    pub(crate) fn head_text(&self) -> String {
        String::from_utf8_lossy(&self.head).into_owned()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("no JSON ({e}): {} {}", self.head_text(), self.text()))
    }

    /// Returns the answer if its status is `status`; fails with all of it otherwise.
    #[track_caller]
    pub(crate) fn expect_status(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}\n{}", self.head_text(), self.text());
        self
    }

    /// Returns the path that a redirect points to, as a browser resolves it.
    #[track_caller]
    pub(crate) fn location(&self) -> String {
        resolve(&self.asked, &self.header("location").unwrap_or_else(|| panic!("no Location:\n{}\n{}", self.head_text(), self.text())))
    }
}

/// Returns the path and query of a URL; of a path, itself.
pub(crate) fn path_of(url: &str) -> &str {
    match url.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => url,
    }
}

/// Resolves an address against the path of the page or the answer that it stands in.
pub(crate) fn resolve(base: &str, address: &str) -> String {
    let address = path_of(address);
    if address.starts_with('/') {
        return address.to_owned();
    }
    let base = base.split(['?', '#']).next().unwrap_or_default();
    if address.is_empty() {
        return base.to_owned();
    }
    let mut parts: Vec<&str> = base.split('/').skip(1).collect();
    parts.pop();
    let mut last = "";
    for part in address.split('/') {
        last = part;
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let slash = if matches!(last, "." | "..") { "/" } else { "" };
    format!("/{}{slash}", parts.join("/"))
}

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    host: String,
    /// The path of the newest request.
    asked: String,
    /// Whether silence counts as a connection that was closed, and no mistake.
    gives_up: bool,
}

impl Client {
    pub(crate) fn connect(to: SocketAddr) -> Self {
        Self::try_connect(to, None, None).expect("connects")
    }

    /// Connects from a loopback address of its own, as another person would.
    pub(crate) fn connect_from(to: SocketAddr, from: Ipv4Addr) -> Self {
        Self::try_connect(to, Some(from), None).expect("connects")
    }

    /// Connects with a receive buffer so small that what the kernel takes ahead of the reader is small too.
    pub(crate) fn connect_with_small_buffer(to: SocketAddr, bytes: usize) -> Self {
        Self::try_connect(to, None, Some(bytes)).expect("connects")
    }

    pub(crate) fn try_connect(to: SocketAddr, from: Option<Ipv4Addr>, receive_buffer: Option<usize>) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        if let Some(from) = from {
            socket.bind(&SocketAddr::new(IpAddr::V4(from), 0).into())?;
        }
        socket.connect(&to.into())?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, buffer: Vec::new(), host: to.to_string(), asked: String::new(), gives_up: false })
    }

    /// Takes silence of so long as the end of the connection: for servers that are stopped in their tracks.
    pub(crate) fn giving_up_after(mut self, patience: Duration) -> Self {
        self.stream.set_read_timeout(Some(patience)).expect("a timeout can be set");
        self.gives_up = true;
        self
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends bytes as they are. A peer that closed already is no mistake here: the answer tells.
    pub(crate) fn send(&mut self, raw: &[u8]) {
        let _ = self.stream.write_all(raw);
    }

    /// Sends a request without a body and with the headers given, each a `Name: value`.
    pub(crate) fn ask(&mut self, method: &str, path: &str, headers: &[&str]) {
        path.clone_into(&mut self.asked);
        self.send(request(method, path, &self.host, headers, None).as_slice());
    }

    /// Sends a request and reads its answer.
    pub(crate) fn request(&mut self, method: &str, path: &str, headers: &[&str]) -> Option<Answer> {
        self.ask(method, path, headers);
        self.answer(method)
    }

    /// Sends a request with a body and reads its answer.
    pub(crate) fn request_with(&mut self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Option<Answer> {
        self.ask_with(method, path, headers, body);
        self.answer(method)
    }

    /// Sends a request with a body.
    pub(crate) fn ask_with(&mut self, method: &str, path: &str, headers: &[&str], body: &[u8]) {
        path.clone_into(&mut self.asked);
        let raw = request(method, path, &self.host, headers, Some(body));
        self.send(&raw);
    }

    /// Reads one answer. `None`: the peer closed without a byte of it.
    pub(crate) fn answer(&mut self, method: &str) -> Option<Answer> {
        let mut answer = self.answer_head()?;
        if method == "HEAD" || answer.status == 204 || answer.status == 304 || answer.status < 200 {
            return Some(answer);
        }
        if answer.header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
            answer.complete = self.read_chunked(&mut answer.body);
        } else if let Some(length) = answer.header("content-length") {
            let length = length.parse().expect("a number in Content-Length");
            answer.complete = self.read_exactly(length, &mut answer.body);
        } else {
            while self.fill() {
                answer.body.append(&mut self.buffer);
            }
        }
        Some(answer)
    }

    /// Reads only the head of an answer; its body stays to be read with [`Client::read_some`].
    pub(crate) fn answer_head(&mut self) -> Option<Answer> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.buffer.len() < MAX_HEAD_BYTES, "an endless head");
            if !self.fill() {
                assert!(self.gives_up || self.buffer.is_empty(), "closed within a head: {}", String::from_utf8_lossy(&self.buffer));
                return None;
            }
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        let mut storage = [httparse::EMPTY_HEADER; 128];
        let mut parsed = httparse::Response::new(&mut storage);
        parsed.parse(&head).unwrap_or_else(|e| panic!("no HTTP head ({e}): {}", String::from_utf8_lossy(&head)));
        let headers = parsed.headers.iter().map(|h| (h.name.to_ascii_lowercase(), h.value.to_vec())).collect();
        let status = parsed.code.expect("a status in a whole head");
        Some(Answer { status, headers, body: Vec::new(), complete: true, asked: self.asked.clone(), head })
    }

    /// Returns how many bytes have come that nobody has read.
    pub(crate) fn unread(&self) -> usize {
        let in_kernel = rustix::io::ioctl_fionread(&self.stream).expect("a socket can be asked");
        self.buffer.len() + usize::try_from(in_kernel).expect("a small number")
    }

    /// Reads at most `limit` bytes of what comes; nothing at the end of the connection.
    pub(crate) fn read_some(&mut self, limit: usize) -> Vec<u8> {
        if self.buffer.is_empty() {
            let mut chunk = vec![0; limit];
            let n = self.stream.read(&mut chunk).unwrap_or(0);
            chunk.truncate(n);
            return chunk;
        }
        let n = limit.min(self.buffer.len());
        self.buffer.drain(..n).collect()
    }

    /// Reads until the peer closes; returns what came. Fails where it does not close within `within`.
    pub(crate) fn read_to_close(&mut self, within: Duration) -> Vec<u8> {
        self.stream.set_read_timeout(Some(within)).expect("a timeout can be set");
        let mut all = std::mem::take(&mut self.buffer);
        let mut chunk = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return all,
                Ok(n) => all.extend_from_slice(&chunk[..n]),
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    let (shown, length) = (String::from_utf8_lossy(&all[..all.len().min(2000)]), all.len());
                    panic!("the connection is still open after {within:?}; it gave {length} bytes: {shown:?}");
                }
                Err(_) => return all,
            }
        }
    }

    /// Reads until so many bytes have come, or the peer closes.
    pub(crate) fn read_to_close_or(&mut self, most: usize, within: Duration) -> Vec<u8> {
        self.stream.set_read_timeout(Some(within)).expect("a timeout can be set");
        let mut all = Vec::new();
        while all.len() < most {
            let mut some = self.read_some(64 * 1024);
            if some.is_empty() {
                break;
            }
            all.append(&mut some);
        }
        all
    }

    pub(crate) fn close_for_writing(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Leaves with a reset, as a machine that loses its network for good looks to the other side in the end.
    pub(crate) fn reset(self) {
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    fn fill(&mut self) -> bool {
        let mut chunk = [0; 64 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(n) => {
                self.buffer.extend_from_slice(&chunk[..n]);
                n > 0
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                assert!(self.gives_up, "no answer within {PATIENCE:?}; so far: {:?}", String::from_utf8_lossy(&self.buffer));
                false
            }
            // A read with a timeout is not taken up again behind a signal, as that of a child that was stopped.
            Err(e) if e.kind() == io::ErrorKind::Interrupted => self.fill(),
            Err(_) => false,
        }
    }

    fn read_exactly(&mut self, length: usize, body: &mut Vec<u8>) -> bool {
        while body.len() < length {
            if self.buffer.is_empty() && !self.fill() {
                return false;
            }
            let n = self.buffer.len().min(length - body.len());
            body.extend(self.buffer.drain(..n));
        }
        true
    }

    fn read_line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|w| w == b"\r\n") {
                let line = self.buffer.drain(..at + 2).take(at).collect();
                return String::from_utf8(line).ok();
            }
            if !self.fill() {
                return None;
            }
        }
    }

    fn read_chunked(&mut self, body: &mut Vec<u8>) -> bool {
        loop {
            let Some(line) = self.read_line() else { return false };
            let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16).expect("a chunk's size");
            let end = body.len() + size;
            if !self.read_exactly(end, body) || self.read_line().is_none() {
                return false;
            }
            if size == 0 {
                return true;
            }
        }
    }
}

/// Spells a request. A `Host:` among the headers replaces the usual one.
pub(crate) fn request(method: &str, path: &str, host: &str, headers: &[&str], body: Option<&[u8]>) -> Vec<u8> {
    let mut raw = format!("{method} {path} HTTP/1.1\r\n");
    if !headers.iter().any(|h| h.to_ascii_lowercase().starts_with("host:")) {
        raw += &format!("Host: {host}\r\n");
    }
    for header in headers {
        raw += &format!("{header}\r\n");
    }
    if body.is_some() || method == "POST" {
        raw += &format!("Content-Length: {}\r\n", body.unwrap_or_default().len());
    }
    raw += "\r\n";
    let mut raw = raw.into_bytes();
    raw.extend_from_slice(body.unwrap_or_default());
    raw
}
