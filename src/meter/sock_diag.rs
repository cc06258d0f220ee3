//! What the kernel knows of a TCP socket that another process owns: nginx's, while it sends a file of ours.
//!
//! `NETLINK_SOCK_DIAG` is asked for exactly one connection, by both its addresses. That takes no right of any kind, but the asker
//! must be in the network namespace of the socket. The counter is of the connection, heads and earlier answers included, so
//! whoever meters one answer takes [`Sockets::look_steadily`]'s `written()` before its first byte as where it begins.
//!
//! What a connection's end looks like, as measured: nginx closes first, and what its kernel still holds is seen in FIN-WAIT-1 with
//! its counters. Once the recipient's kernel has acknowledged all of it and the FIN, FIN-WAIT-2 and then TIME-WAIT follow, without
//! counters. A connection that was reset is gone at once, with whatever was not acknowledged: that there is no such socket says
//! nothing of what arrived, the last sighting does.
//!
//! `sighting.rs` says what was seen; `ends.rs` hears what ends; `owner.rs` ends a connection by the process that has it; `wire.rs` has the bytes of questions and answers.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recvfrom, sendto, socket_with};

pub use ends::{Ended, Ends};
pub use owner::{NoOwner, may_reset_by_owner, reset_by_owner};
pub use sighting::{Cookie, Sighting, SocketState};

use wire::{ANY_COOKIE, Answer, Pair, Told, Wish};

mod ends;
mod owner;
mod sighting;
pub(in crate::meter) mod wire;

/// How long an answer is waited for. The kernel has put it in the queue before the call that asks returns, so only one that never
/// answers lets anybody wait.
const ANSWER_WAIT: Duration = Duration::from_secs(1);
/// The longest answer. Linux 6.18 tells 408 bytes of a connection, and some dozens more of one with kernel TLS.
const ANSWER_BYTES: usize = 4096;
/// How many answers to earlier questions may lie before ours: each question leaves one at the most, and only where it was given up.
const MOST_OTHERS: usize = 16;
/// The kernel's own address.
const KERNEL: SocketAddrNetlink = SocketAddrNetlink::new(0, 0);

/// The sockets of this process's network namespace. A look takes some 4 µs of a core (measured on Linux 6.18), and waits for nobody.
#[derive(Debug)]
pub struct Sockets {
    line: Mutex<Line>,
}

/// One question at a time: its answer is told by its number.
#[derive(Debug)]
struct Line {
    socket: OwnedFd,
    sequence: u32,
}

impl Sockets {
    /// Opens the way to the kernel, and sees whether it can tell of TCP sockets.
    ///
    /// # Errors
    /// `Unsupported` where it cannot, `PermissionDenied` where this process may not ask; each says so in a sentence.
    pub fn open() -> io::Result<Self> {
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(SOCK_DIAG)).map_err(of_opening)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_WAIT))?;
        let sockets = Self { line: Mutex::new(Line { socket, sequence: 0 }) };
        let nobody = Pair::of_listener(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0));
        match sockets.ask(Wish::Nothing, &nobody, ANY_COOKIE)? {
            Answer::End(0) => Ok(sockets),
            Answer::End(error) | Answer::Outcome(error) => Err(of_opening(Errno::from_raw_os_error(error))),
            Answer::Socket(_) | Answer::Other => Err(unexpected()),
        }
    }

    /// Looks at the connection with these two addresses: `local` is its owner's. `None` where there is none in this namespace.
    ///
    /// # Errors
    /// What the kernel says; `TimedOut` where it says nothing; `InvalidInput` where the addresses are of two families.
    pub fn look(&self, local: SocketAddr, peer: SocketAddr) -> io::Result<Option<Sighting>> {
        let seen = self.look_once(local, peer)?;
        match seen {
            // The kernel reads its counters one after the other. Once the FIN was seen, another look has it in the queue for sure.
            Some(seen) if seen.state.has_its_fin_queued() => self.look_steadily(local, peer),
            seen => Ok(seen),
        }
    }

    /// Looks until two looks in a row saw as much acknowledged, so that nothing was between the counters of the second: its `written()`
    /// is where the stream was at that instant. Where bytes are acknowledged all the time it is the least that was seen.
    ///
    /// # Errors
    /// As [`Sockets::look`].
    pub fn look_steadily(&self, local: SocketAddr, peer: SocketAddr) -> io::Result<Option<Sighting>> {
        sighting::steady(|| self.look_once(local, peer))
    }

    /// Ends a connection that was seen: its owner's next call fails (ECONNABORTED), what was not sent is thrown away, and the other side
    /// is told by a reset. Returns whether there was one. It takes the right `CAP_NET_ADMIN` over this namespace.
    ///
    /// # Errors
    /// `PermissionDenied` without that right, `Unsupported` where the kernel was built without it (`CONFIG_INET_DIAG_DESTROY`); else as
    /// [`Sockets::look`].
    pub fn destroy(&self, local: SocketAddr, peer: SocketAddr, cookie: Cookie) -> io::Result<bool> {
        let pair = pair(local, peer)?;
        // By its cookie: without one the kernel ends who listens there when the connection itself is gone.
        let error = match self.ask(Wish::Destroy, &pair, cookie.number())? {
            Answer::Outcome(0) => return Ok(true),
            Answer::Outcome(error) => Errno::from_raw_os_error(error),
            Answer::Socket(_) | Answer::End(_) | Answer::Other => return Err(unexpected()),
        };
        match error {
            Errno::NOENT => Ok(false),
            // So older kernels refuse for what is in TIME-WAIT, where nothing is left to end.
            Errno::OPNOTSUPP if self.look(local, peer)?.is_none_or(|seen| seen.state.has_its_fin_acknowledged()) => Ok(false),
            Errno::OPNOTSUPP => Err(io::Error::new(
                ErrorKind::Unsupported,
                "this kernel cannot end the connection of another process (it is built without CONFIG_INET_DIAG_DESTROY)",
            )),
            Errno::PERM | Errno::ACCESS => Err(io::Error::new(
                ErrorKind::PermissionDenied,
                "ending the connection of another process takes the capability CAP_NET_ADMIN",
            )),
            error => Err(error.into()),
        }
    }

    /// Tries on a connection of its own, over loopback, whether this process may end connections at all.
    ///
    /// # Errors
    /// As [`Sockets::destroy`], and what making that connection says.
    pub fn try_destroying(&self) -> io::Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let own = TcpStream::connect(listener.local_addr()?)?;
        let (local, peer) = (own.local_addr()?, own.peer_addr()?);
        let seen = self.look(local, peer)?.ok_or_else(unexpected)?;
        if self.destroy(local, peer, seen.cookie)? { Ok(()) } else { Err(unexpected()) }
    }

    /// Returns whether somebody listens on this address in the namespace of this process; an address of all networks (`0.0.0.0`, `::`)
    /// asks for who listens on all. It cannot be known whether that is nginx: to be sure connect to it, and look for its side of that
    /// connection.
    ///
    /// # Errors
    /// As [`Sockets::look`].
    pub fn shares_namespace_with(&self, listener: SocketAddr) -> io::Result<bool> {
        let told = self.told(&Pair::of_listener(listener))?;
        Ok(told.is_some_and(|told| SocketState::parse(told.state) == Some(SocketState::Listen) && told.local.port() == listener.port()))
    }

    fn look_once(&self, local: SocketAddr, peer: SocketAddr) -> io::Result<Option<Sighting>> {
        let pair = pair(local, peer)?;
        let Some(told) = self.told(&pair)? else { return Ok(None) };
        match SocketState::parse(told.state) {
            // Where there is no such connection the kernel tells of who listens there.
            Some(SocketState::Listen) => Ok(None),
            Some(state) if is_same(told.local, pair.local) && is_same(told.peer, pair.peer) => Sighting::read(&told, state).map(Some),
            Some(_) => Err(unexpected()),
            None => Err(io::Error::new(ErrorKind::InvalidData, format!("the kernel told of a socket in the unknown state {}", told.state))),
        }
    }

    fn told(&self, pair: &Pair) -> io::Result<Option<Told>> {
        match self.ask(Wish::Look, pair, ANY_COOKIE)? {
            Answer::Socket(told) => Ok(Some(told)),
            Answer::Outcome(error) if Errno::from_raw_os_error(error) == Errno::NOENT => Ok(None),
            Answer::Outcome(0) | Answer::End(_) | Answer::Other => Err(unexpected()),
            Answer::Outcome(error) => Err(io::Error::from_raw_os_error(error)),
        }
    }

    fn ask(&self, wish: Wish, pair: &Pair, cookie: u64) -> io::Result<Answer> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner).ask(wish, pair, cookie)
    }
}

impl Line {
    fn ask(&mut self, wish: Wish, pair: &Pair, cookie: u64) -> io::Result<Answer> {
        self.sequence = self.sequence.wrapping_add(1);
        let request = wire::request(wish, self.sequence, pair, cookie);
        rustix::io::retry_on_intr(|| sendto(&self.socket, &request, SendFlags::empty(), &KERNEL))?;
        self.receive()
    }

    fn receive(&mut self) -> io::Result<Answer> {
        for _ in 0..=MOST_OTHERS {
            let mut buffer = [0; ANSWER_BYTES];
            let received = rustix::io::retry_on_intr(|| recvfrom(&self.socket, &mut buffer, RecvFlags::TRUNC));
            let (length, _, sender) = received.map_err(of_waiting)?;
            // Whoever has the right to may write to us, too.
            if sender.and_then(|sender| SocketAddrNetlink::try_from(sender).ok()).is_none_or(|sender| sender.pid() != KERNEL.pid()) {
                continue;
            }
            let datagram = buffer.get(..length).ok_or(wire::Unreadable::Short);
            let answer = datagram.and_then(|datagram| wire::read(datagram, self.sequence));
            match answer.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))? {
                Answer::Other => {}
                answer => return Ok(answer),
            }
        }
        Err(unexpected())
    }
}

fn pair(local: SocketAddr, peer: SocketAddr) -> io::Result<Pair> {
    Pair::new(local, peer).ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, format!("{local} and {peer} are of two families")))
}

/// Compares what the kernel knows of an address: it does not say which network a link-local one is of.
fn is_same(told: SocketAddr, asked: SocketAddr) -> bool {
    (told.ip(), told.port()) == (asked.ip(), asked.port())
}

/// Says why the kernel cannot be asked at all.
fn of_opening(error: Errno) -> io::Error {
    match error {
        Errno::PROTONOSUPPORT | Errno::NOENT | Errno::OPNOTSUPP => io::Error::new(
            ErrorKind::Unsupported,
            "the kernel has no sock_diag for TCP (CONFIG_INET_DIAG and CONFIG_INET_TCP_DIAG, the modules inet_diag and tcp_diag)",
        ),
        Errno::AFNOSUPPORT => io::Error::new(
            ErrorKind::Unsupported,
            "netlink sockets cannot be had here (systemd's RestrictAddressFamilies= must name AF_NETLINK)",
        ),
        Errno::PERM | Errno::ACCESS => {
            io::Error::new(ErrorKind::PermissionDenied, "this process may not ask the kernel about sockets (a sandbox refuses netlink)")
        }
        error => error.into(),
    }
}

fn of_waiting(error: Errno) -> io::Error {
    match error {
        Errno::AGAIN => io::Error::new(ErrorKind::TimedOut, "the kernel has not answered what was asked about a socket"),
        error => error.into(),
    }
}

fn unexpected() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "the kernel answered something else than what was asked about a socket")
}

#[cfg(test)]
mod tests;
