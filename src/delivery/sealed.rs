//! TLS on a connection, and which of its bytes arrived.
//!
//! The kernel counts what was acknowledged of the ciphertext. Each record leaves a mark, where it ends in both streams, so that
//! count becomes one of plaintext: rounded down to whole records, it is never ahead.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::server::{Accepted, Acceptor, ServerConfig, ServerConnection};
use tokio::net::TcpStream;

use super::certificates::{Certificates, HTTP_2};
use super::socket;

/// How much plaintext one record takes, at the most: what TLS allows.
const RECORD_BYTES: usize = 16 * 1024;
/// How many marks are held: what 16 MB under way has.
const MAX_MARKS: usize = 1024;
/// How much ciphertext may wait for the socket before nothing more is sealed: as much as a slow recipient's kernel asks for.
const MAX_WAITING_BYTES: usize = 64 * 1024;
/// Who proves to an authority that a name is theirs says so in the handshake (RFC 8737). That is not done here.
const PROVES_A_NAME: &[u8] = b"acme-tls/1";

/// A TLS session, whose handshake is over.
#[derive(Debug)]
pub(super) struct Sealed {
    session: ServerConnection,
    /// Ciphertext that the socket has not taken, from `sent` on.
    out: Vec<u8>,
    sent: usize,
    /// How much ciphertext there has been in all.
    sealed_bytes: u64,
    /// How much plaintext there has been in all.
    plain_bytes: u64,
    /// Where records end, in ciphertext and in plaintext, that were not acknowledged when it was last asked.
    marks: VecDeque<(u64, u64)>,
    /// How much plaintext was acknowledged when it was last asked.
    acked_bytes: u64,
    /// How much plaintext was received and is still to be read.
    unread: usize,
}

impl Sealed {
    /// Does the handshake. `None` where there is none to do: without a certificate, for what is no TLS and for whoever proves a
    /// name. Nothing is said to them.
    pub(super) async fn accept(tcp: &TcpStream, certificates: &Certificates) -> io::Result<Option<Self>> {
        let Some(accepted) = hello(tcp).await? else { return Ok(None) };
        let proves_a_name = accepted.client_hello().alpn().into_iter().flatten().any(|protocol| protocol == PROVES_A_NAME);
        if proves_a_name {
            return Ok(None);
        }
        match certificates.config() {
            Some(config) => Self::shake_hands(tcp, accepted, config).await.map(Some),
            None => Ok(None),
        }
    }

    async fn shake_hands(tcp: &TcpStream, accepted: Accepted, config: Arc<ServerConfig>) -> io::Result<Self> {
        let session = accepted.into_connection(config).map_err(|(error, mut alert)| {
            let _ = alert.write(&mut Socket(tcp));
            io::Error::other(error)
        })?;
        let mut sealed =
            Self { session, out: Vec::new(), sent: 0, sealed_bytes: 0, plain_bytes: 0, marks: VecDeque::new(), acked_bytes: 0, unread: 0 };
        while sealed.session.is_handshaking() || sealed.session.wants_write() {
            sealed.take_ciphertext();
            while !sealed.flush(tcp)? {
                tcp.writable().await?;
            }
            if sealed.session.is_handshaking() {
                tcp.readable().await?;
                if sealed.receive(tcp)? == Some(0) {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
        Ok(sealed)
    }

    /// Returns whether the other side speaks HTTP/2.
    pub(super) fn is_http_2(&self) -> bool {
        self.session.alpn_protocol() == Some(HTTP_2)
    }

    /// Seals plaintext, as much as there is room for; `flush` sends it.
    pub(super) fn seal(&mut self, plain: &[u8]) -> io::Result<usize> {
        let mut taken = 0;
        while taken < plain.len() && self.waiting() < MAX_WAITING_BYTES {
            let end = plain.len().min(taken + RECORD_BYTES);
            let n = self.session.writer().write(&plain[taken..end])?;
            taken += n;
            self.plain_bytes += n as u64;
            self.take_ciphertext();
            self.mark();
        }
        Ok(taken)
    }

    /// Notes how much plaintext stands in the ciphertext so far. Where nobody asks what has arrived, and where a window is very
    /// long, every other mark goes: what is told between two is the lower.
    fn mark(&mut self) {
        if self.marks.len() >= MAX_MARKS {
            let mut keeps = false;
            self.marks.retain(|_| {
                keeps = !keeps;
                keeps
            });
        }
        self.marks.push_back((self.sealed_bytes, self.plain_bytes));
    }

    /// Says that nothing more comes.
    pub(super) fn say_goodbye(&mut self) {
        self.session.send_close_notify();
        self.take_ciphertext();
    }

    /// Sends what waits. Returns whether all of it went.
    pub(super) fn flush(&mut self, tcp: &TcpStream) -> io::Result<bool> {
        while self.sent < self.out.len() {
            match socket::send_now(tcp, &self.out[self.sent..], false) {
                Ok(n) => self.sent += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // Nothing waits, so nothing is held: ten thousand quiet connections would hold half a gigabyte.
        (self.out, self.sent) = (Vec::new(), 0);
        Ok(true)
    }

    /// Reads plaintext; none of it where the other side has ended.
    pub(super) fn read(&mut self, tcp: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        while self.unread == 0 {
            match self.receive(tcp)? {
                // An end without a goodbye is one, too: what came before it is whole in itself.
                Some(0) => return Ok(0),
                Some(_) => {}
                None => return Err(io::ErrorKind::WouldBlock.into()),
            }
        }
        let n = self.session.reader().read(buffer)?;
        self.unread -= n;
        Ok(n)
    }

    /// Returns whether something that was received is still to be read.
    pub(super) fn has_unread(&self) -> bool {
        self.unread > 0
    }

    /// Returns how much ciphertext the socket took.
    pub(super) fn sent_bytes(&self) -> u64 {
        self.sealed_bytes - self.waiting() as u64
    }

    /// Returns how much plaintext has arrived, where so much of the ciphertext has.
    pub(super) fn acked(&mut self, of_ciphertext: u64) -> u64 {
        while let Some((sealed, plain)) = self.marks.front().copied()
            && sealed <= of_ciphertext
        {
            self.acked_bytes = plain;
            self.marks.pop_front();
        }
        self.acked_bytes
    }

    fn waiting(&self) -> usize {
        self.out.len() - self.sent
    }

    fn take_ciphertext(&mut self) {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.out) {
                Ok(n) => self.sealed_bytes += n as u64,
                Err(_) => return,
            }
        }
    }

    /// Takes in what the socket has; `None` where that is nothing.
    fn receive(&mut self, tcp: &TcpStream) -> io::Result<Option<usize>> {
        let n = match self.session.read_tls(&mut Socket(tcp)) {
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        let state = self.session.process_new_packets();
        // An alert, or the answer to a new key: at most as much as there is room for.
        if self.waiting() < MAX_WAITING_BYTES {
            self.take_ciphertext();
            self.flush(tcp)?;
        }
        let state = state.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        self.unread = state.plaintext_bytes_to_read();
        Ok(Some(if state.peer_has_closed() && self.unread == 0 { 0 } else { n }))
    }
}

/// Waits for the beginning of a handshake; `None` for what is none.
async fn hello(tcp: &TcpStream) -> io::Result<Option<Accepted>> {
    let mut acceptor = Acceptor::default();
    loop {
        tcp.readable().await?;
        match acceptor.read_tls(&mut Socket(tcp)) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => return Ok(Some(accepted)),
            Ok(None) => {}
            Err(_) => return Ok(None),
        }
    }
}

/// A socket as it is, for whoever reads and writes without waiting.
struct Socket<'a>(&'a TcpStream);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        socket::send_now(self.0, bytes, false)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
