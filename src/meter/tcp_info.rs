//! What the other side's kernel acknowledged: TCP_INFO `bytes_acked` of our own socket.
//!
//! The counter is of the connection and counts every byte of the stream: heads, pages and bodies. So whoever writes
//! remembers where in the stream a body began. Source: `struct tcp_info` in Linux's `include/uapi/linux/tcp.h`;
//! `tcpi_bytes_acked` is there since 4.1.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The part of `struct tcp_info` up to what we read. New fields are only ever added at its end.
#[repr(C)]
#[derive(Default)]
struct TcpInfo {
    states_and_options: [u8; 8],
    timers_and_windows: [u32; 24],
    pacing_rate: u64,
    max_pacing_rate: u64,
    bytes_acked: u64,
}

/// The state of a connection that is over, as `tcpi_state` has it (`include/net/tcp_states.h`).
const TCP_CLOSE: u8 = 7;

/// Counts what was acknowledged of a stream that we write.
#[derive(Debug, Clone, Copy)]
pub struct AckCounter {
    /// What the kernel had counted before our first byte (the handshake counts one).
    baseline: u64,
}

impl AckCounter {
    /// Starts to count; nothing may have been written to `socket` yet.
    ///
    /// # Errors
    /// What `getsockopt(2)` says, as where `socket` is no TCP socket.
    pub fn start(socket: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self { baseline: info(socket)?.bytes_acked })
    }

    /// Returns how many of the `written` bytes of the stream were acknowledged. Works on a connection that was reset, too,
    /// as long as its descriptor is open.
    ///
    /// # Errors
    /// What `getsockopt(2)` says.
    pub fn acked(&self, socket: BorrowedFd<'_>, written: u64) -> io::Result<u64> {
        // A FIN counts one more, hence the bound.
        Ok(info(socket)?.bytes_acked.saturating_sub(self.baseline).min(written))
    }
}

/// Returns whether a connection is over for its kernel (reset, timed out, or closed by both sides): nothing more of it will
/// be acknowledged. Unlike the socket's error, which only the first who asks is told, this can be asked again and again.
///
/// # Errors
/// What `getsockopt(2)` says.
pub fn is_over(socket: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(info(socket)?.states_and_options[0] == TCP_CLOSE)
}

fn info(socket: BorrowedFd<'_>) -> io::Result<TcpInfo> {
    let mut info = TcpInfo::default();
    let mut length = size_of::<TcpInfo>() as libc::socklen_t;
    // SAFETY: `info` is plain integers and `length` is its size; the kernel writes at most so much.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, std::ptr::from_mut(&mut info).cast(), &raw mut length)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    if (length as usize) < size_of::<TcpInfo>() {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "this kernel does not count acknowledged bytes (Linux 4.1 does)"));
    }
    Ok(info)
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
