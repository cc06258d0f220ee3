//! What went over a connection, and what of it arrived.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll};

use tokio::net::TcpStream;

use super::certificates::Certificates;
use super::sealed::Sealed;
use super::socket;
use crate::meter::{self, AckCounter};

/// A connection's stream: the socket and what went over it. With TLS everything is counted in plaintext.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) tcp: TcpStream,
    counter: AckCounter,
    written: AtomicU64,
    sealed: Option<Box<Mutex<Sealed>>>,
}

impl Stream {
    pub(super) fn new(tcp: TcpStream) -> io::Result<Self> {
        let counter = AckCounter::start(tcp.as_fd())?;
        Ok(Self { tcp, counter, written: AtomicU64::new(0), sealed: None })
    }

    /// Goes on with TLS; `None` for whoever is met with silence.
    pub(super) async fn seal(mut self, certificates: &Certificates) -> io::Result<Option<Self>> {
        let Some(sealed) = Sealed::accept(&self.tcp, certificates).await? else { return Ok(None) };
        self.sealed = Some(Box::new(Mutex::new(sealed)));
        Ok(Some(self))
    }

    pub(super) fn is_sealed(&self) -> bool {
        self.sealed.is_some()
    }

    pub(super) fn is_http_2(&self) -> bool {
        self.sealed().is_some_and(|sealed| sealed.is_http_2())
    }

    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    pub(super) fn wrote(&self, n: usize) {
        self.written.fetch_add(n as u64, Ordering::AcqRel);
    }

    /// Returns how much of what was written the other side has; what cannot be asked has not arrived.
    pub(super) fn acked(&self) -> u64 {
        let of_socket = |written| self.counter.acked(self.tcp.as_fd(), written).unwrap_or(0);
        match self.sealed() {
            Some(mut sealed) => {
                let sent = sealed.sent_bytes();
                sealed.acked(of_socket(sent))
            }
            None => of_socket(self.written()),
        }
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
            match self.send_now(bytes, more) {
                Ok(n) => bytes = &bytes[n..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.tcp.writable().await?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.flushed().await
    }

    /// Writes what fits without waiting. With TLS some of it may still wait for the socket then.
    pub(super) fn send_now(&self, bytes: &[u8], more: bool) -> io::Result<usize> {
        let n = match self.sealed() {
            None => socket::send_now(&self.tcp, bytes, more)?,
            Some(mut sealed) => {
                if !sealed.flush(&self.tcp)? {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                let n = sealed.seal(bytes)?;
                sealed.flush(&self.tcp)?;
                n
            }
        };
        self.wrote(n);
        Ok(n)
    }

    /// Waits until nothing waits for the socket.
    pub(super) async fn flushed(&self) -> io::Result<()> {
        while !self.flush()? {
            self.tcp.writable().await?;
        }
        Ok(())
    }

    /// Sends what waits for the socket. Returns whether all of it went.
    pub(super) fn flush(&self) -> io::Result<bool> {
        match self.sealed() {
            Some(mut sealed) => sealed.flush(&self.tcp),
            None => Ok(true),
        }
    }

    /// Waits until there is something to read, or the other side has ended.
    pub(super) async fn readable(&self) -> io::Result<()> {
        if self.has_unread() { Ok(()) } else { self.tcp.readable().await }
    }

    /// As `readable`, for whoever is polled.
    pub(super) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Asked for in any case: it lets others have a turn when this one has read for long.
        match self.tcp.poll_read_ready(context) {
            Poll::Pending if self.has_unread() => Poll::Ready(Ok(())),
            ready => ready,
        }
    }

    /// Reads what has come without waiting; none of it where the other side has ended.
    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.sealed() {
            Some(mut sealed) => sealed.read(&self.tcp, buffer),
            None => self.tcp.try_read(buffer),
        }
    }

    /// Says that nothing more comes from here. Returns whether the other side can hear it.
    pub(super) fn finish(&self) -> bool {
        if let Some(mut sealed) = self.sealed() {
            sealed.say_goodbye();
            // Where the socket is full the end of the connection says it.
            let _ = sealed.flush(&self.tcp);
        }
        rustix::net::shutdown(&self.tcp, rustix::net::Shutdown::Write).is_ok()
    }

    #[cfg(test)]
    pub(super) fn sealed_for_test(&self) -> MutexGuard<'_, Sealed> {
        self.sealed().expect("it has TLS")
    }

    fn has_unread(&self) -> bool {
        self.sealed().is_some_and(|sealed| sealed.has_unread())
    }

    fn sealed(&self) -> Option<MutexGuard<'_, Sealed>> {
        Some(self.sealed.as_ref()?.lock().expect("nobody panics while sealing"))
    }
}
