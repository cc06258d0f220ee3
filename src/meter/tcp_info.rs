//! What the other side's kernel acknowledged: TCP_INFO `bytes_acked` of our own socket.
//!
//! The counter is of the connection and counts every byte of the stream: heads, pages and bodies. So whoever writes
//! remembers where in the stream a body began. How the kernel is asked stands in `sys.rs`.

use std::io;
use std::os::fd::BorrowedFd;

use crate::sys::tcp_info;

/// Counts what was acknowledged of a stream that we write.
#[derive(Debug, Clone, Copy)]
pub struct AckCounter {
    /// What the kernel had counted before our first byte (the handshake counts one for who asked for the connection).
    baseline: u64,
}

impl AckCounter {
    /// Starts to count; nothing may have been written to `socket` yet.
    ///
    /// # Errors
    /// What `getsockopt(2)` says, as where `socket` is no TCP socket.
    pub fn start(socket: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self { baseline: tcp_info(socket)?.bytes_acked })
    }

    /// Returns how many of the `written` bytes of the stream were acknowledged. Works on a connection that was reset, too,
    /// as long as its descriptor is open.
    ///
    /// # Errors
    /// What `getsockopt(2)` says.
    pub fn acked(&self, socket: BorrowedFd<'_>, written: u64) -> io::Result<u64> {
        // A FIN counts one more, hence the bound.
        Ok(tcp_info(socket)?.bytes_acked.saturating_sub(self.baseline).min(written))
    }
}

/// Returns whether a connection is over for its kernel (reset, timed out, or closed by both sides): nothing more of it will
/// be acknowledged. Unlike the socket's error, which only the first who asks is told, this can be asked again and again.
///
/// # Errors
/// What `getsockopt(2)` says.
pub fn is_over(socket: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(tcp_info(socket)?.is_over())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().unwrap().0, client)
    }

    #[test]
    fn what_was_read_was_acknowledged_and_nothing_more_is_counted() {
        let (mut ours, mut theirs) = connection();
        let counter = AckCounter::start(ours.as_fd()).unwrap();
        assert_eq!(counter.acked(ours.as_fd(), 0).unwrap(), 0);
        ours.write_all(&[7; 5000]).unwrap();
        theirs.read_exact(&mut [0; 5000]).unwrap();
        drop(theirs);
        drop(ours.shutdown(std::net::Shutdown::Write));
        while counter.acked(ours.as_fd(), 5000).unwrap() < 5000 {
            std::thread::yield_now();
        }
        assert_eq!(counter.acked(ours.as_fd(), 5000).unwrap(), 5000);
    }

    #[test]
    fn a_connection_that_was_reset_is_over_also_after_its_error_was_read() {
        let (mut ours, theirs) = connection();
        assert!(!is_over(ours.as_fd()).unwrap());
        socket2::SockRef::from(&theirs).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(theirs);
        assert!(ours.read(&mut [0; 1]).is_err());
        assert!(ours.take_error().unwrap().is_none());
        assert!(is_over(ours.as_fd()).unwrap());
    }

    #[test]
    fn what_a_closed_window_holds_back_is_not_counted() {
        let (ours, theirs) = connection();
        socket2::SockRef::from(&theirs).set_recv_buffer_size(4096).unwrap();
        ours.set_nonblocking(true).unwrap();
        let counter = AckCounter::start(ours.as_fd()).unwrap();
        let mut written = 0;
        while let Ok(n) = (&ours).write(&[1; 65536]) {
            written += n as u64;
        }
        assert!(written > 200_000, "the send buffer took only {written}");
        assert!(counter.acked(ours.as_fd(), written).unwrap() < written);
    }
}
