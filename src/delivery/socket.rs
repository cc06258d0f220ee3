//! What the kernel offers for a socket beyond what tokio does.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Resets a connection at once: whatever the kernel still holds of it is thrown away, also where a thread is inside a
/// call on the descriptor. `connect(2)` to AF_UNSPEC "dissolves the association"; with a zero linger time that is a RST.
pub(super) fn abort(stream: &TcpStream) {
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
    let _ = rustix::net::connect_unspec(stream);
}

/// Returns whether the socket takes bytes within `timeout`.
pub(super) fn is_writable_within(socket: BorrowedFd<'_>, timeout: Duration) -> bool {
    let timeout = rustix::event::Timespec { tv_sec: 0, tv_nsec: i64::from(timeout.subsec_nanos()) };
    let mut fds = [PollFd::new(&socket, PollFlags::OUT)];
    poll(&mut fds, Some(&timeout)).is_ok_and(|ready| ready > 0)
}

/// Waits until the socket takes bytes, or has an error to tell. `sendfile` runs past tokio, so its idea of readiness is
/// put right by asking the kernel.
pub(super) async fn writable(stream: &TcpStream) -> io::Result<()> {
    stream.async_io(Interest::WRITABLE, || is_wanted(stream)).await
}

/// Returns whether the kernel wants more; `WouldBlock` where it does not. It would take more than it wants.
pub(super) fn is_wanted(stream: &TcpStream) -> io::Result<()> {
    if is_writable_within(stream.as_fd(), Duration::ZERO) { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
}

/// Lets the kernel hold no more than so much that it has not sent yet, beyond what is under way; `u32::MAX`: as much as the
/// buffer takes. A kernel that cannot holds more, which costs memory and nothing else.
pub(super) fn hold_unsent(stream: &TcpStream, most: u32) {
    let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(most);
}

/// Writes what fits, with `MSG_MORE` where more follows at once, so that a head shares a segment with its body.
pub(super) fn send_now(stream: &TcpStream, bytes: &[u8], more: bool) -> io::Result<usize> {
    let flags = if more { rustix::net::SendFlags::MORE } else { rustix::net::SendFlags::empty() } | rustix::net::SendFlags::NOSIGNAL;
    stream.try_io(Interest::WRITABLE, || rustix::net::send(stream, bytes, flags).map_err(io::Error::from))
}
