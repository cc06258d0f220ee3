//! What went over a connection, and what of it arrived.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::TcpStream;

use super::socket;
use crate::meter::{self, AckCounter};

/// A connection's stream: the socket and what went over it.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) tcp: TcpStream,
    counter: AckCounter,
    written: AtomicU64,
}

impl Stream {
    pub(super) fn new(tcp: TcpStream) -> io::Result<Self> {
        let counter = AckCounter::start(tcp.as_fd())?;
        Ok(Self { tcp, counter, written: AtomicU64::new(0) })
    }

    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    pub(super) fn wrote(&self, n: usize) {
        self.written.fetch_add(n as u64, Ordering::AcqRel);
    }

    /// Returns how much of what was written the other side has; what cannot be asked has not arrived.
    pub(super) fn acked(&self) -> u64 {
        self.counter.acked(self.tcp.as_fd(), self.written()).unwrap_or(0)
    }

    /// Returns how much of what was written has not been acknowledged.
    pub(super) fn unacked(&self) -> u64 {
        self.written().saturating_sub(self.acked())
    }

    pub(super) fn is_settled(&self) -> bool {
        self.unacked() == 0
    }

    /// Returns whether nothing more can be acknowledged; what cannot be asked is over.
    pub(super) fn is_over(&self) -> bool {
        meter::is_over(self.tcp.as_fd()).unwrap_or(true)
    }

    pub(super) async fn send_all(&self, mut bytes: &[u8], more: bool) -> io::Result<()> {
        while !bytes.is_empty() {
            match socket::send_now(&self.tcp, bytes, more) {
                Ok(n) => {
                    self.wrote(n);
                    bytes = &bytes[n..];
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.tcp.writable().await?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
