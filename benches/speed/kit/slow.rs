//! Many clients in one thread, each of which takes so many bytes a second and no more.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::client::{head_and_length, request};

/// How often every client has its turn.
const TURN: Duration = Duration::from_millis(50);
const BUFFER_BYTES: usize = 256 * 1024;

/// How a client takes what comes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pull {
    /// So many bytes a second.
    PerSecond(u64),
    /// All there is.
    All,
}

/// Clients that download at once.
pub(crate) struct Crowd {
    clients: Vec<Client>,
    buffer: Vec<u8>,
}

struct Client {
    stream: TcpStream,
    /// What came of the head, until it is whole.
    head: Vec<u8>,
    has_head: bool,
    length: u64,
    got: u64,
    is_over: bool,
}

impl Crowd {
    /// Connects one client for each path, and asks.
    pub(crate) fn connect(to: SocketAddr, paths: &[String]) -> Self {
        let clients = paths.iter().map(|path| Client::connect(to, path)).collect();
        Self { clients, buffer: vec![0; BUFFER_BYTES] }
    }

    /// Lets every client take its part for a while, or until all have everything. `look` is called in each turn. Returns how
    /// many bytes came, and how long it took.
    pub(crate) fn pull(&mut self, pull: Pull, most: Duration, mut look: impl FnMut()) -> (u64, Duration) {
        let (began, before) = (Instant::now(), self.got());
        let mut owed = vec![0_u64; self.clients.len()];
        let mut paid = Duration::ZERO;
        while began.elapsed() < most && self.clients.iter().any(|client| !client.is_over) {
            let now = began.elapsed();
            let mut came = 0;
            for (client, owed) in self.clients.iter_mut().zip(&mut owed) {
                let wanted = match pull {
                    Pull::PerSecond(rate) => {
                        *owed += (rate as f64 * (now - paid).as_secs_f64()) as u64;
                        *owed
                    }
                    Pull::All => u64::MAX,
                };
                let n = client.take(wanted, &mut self.buffer);
                came += n;
                *owed = owed.saturating_sub(n);
            }
            paid = now;
            look();
            match pull {
                Pull::PerSecond(_) => std::thread::sleep(TURN.saturating_sub(began.elapsed() - now)),
                Pull::All if came == 0 => std::thread::sleep(Duration::from_micros(200)),
                Pull::All => {}
            }
        }
        (self.got() - before, began.elapsed())
    }

    /// Returns how many bytes of bodies all have.
    pub(crate) fn got(&self) -> u64 {
        self.clients.iter().map(|client| client.got).sum()
    }

    /// Returns how many have not all that was announced.
    pub(crate) fn unfinished(&self) -> usize {
        self.clients.iter().filter(|client| !client.has_head || client.got < client.length).count()
    }
}

impl Client {
    fn connect(to: SocketAddr, path: &str) -> Self {
        let mut stream = TcpStream::connect(to).expect("it listens");
        stream.write_all(request(to, path).as_bytes()).expect("it reads");
        stream.set_nonblocking(true).expect("a socket");
        Self { stream, head: Vec::new(), has_head: false, length: 0, got: 0, is_over: false }
    }

    /// Reads up to `wanted` bytes of the body; one buffer's worth at the most, so that the others have their turn.
    fn take(&mut self, wanted: u64, buffer: &mut [u8]) -> u64 {
        if self.is_over || wanted == 0 {
            return 0;
        }
        let most = wanted.min(buffer.len() as u64) as usize;
        let n = match self.stream.read(&mut buffer[..most]) {
            Ok(0) => {
                self.is_over = true;
                return 0;
            }
            Ok(n) => n,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return 0,
            Err(error) => panic!("a download broke: {error}"),
        };
        let body = if self.has_head { n as u64 } else { self.take_head(&buffer[..n]) };
        self.got += body;
        self.is_over = self.has_head && self.got >= self.length;
        body
    }

    fn take_head(&mut self, bytes: &[u8]) -> u64 {
        self.head.extend_from_slice(bytes);
        let Some((status, end, length)) = head_and_length(&self.head) else { return 0 };
        assert_eq!(status, 200, "not the file: {}", String::from_utf8_lossy(&self.head[..end]));
        (self.has_head, self.length) = (true, length.expect("a file has a length"));
        let body = (self.head.len() - end) as u64;
        self.head = Vec::new();
        body
    }
}
