//! Hears of each TCP connection of one port when the kernel lets go of it, with what its counters were at last.
//!
//! A connection that is over cannot be looked at any more, and whether it ended well or was reset is seen only from how much of it had been
//! acknowledged. The kernel tells that to whoever listens (`SKNLGRP_INET_TCP_DESTROY`, linux/sock_diag.h; what `ss -E` shows). It takes no right.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_recv_buffer_size, set_socket_recv_buffer_size_force, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recvfrom, socket_with};

use super::sighting::Cookie;
use super::wire::{self, Answer, LOCAL_PORT_AT};
use super::{ANSWER_BYTES, KERNEL, of_opening};
use crate::sys;

/// `SKNLGRP_INET_TCP_DESTROY` and `SKNLGRP_INET6_TCP_DESTROY` (1 and 3), as bits.
const GROUPS: u32 = 1 << 0 | 1 << 2;
/// How long it is waited for an end at a time, so that whoever listens can stop.
const WAIT: Duration = Duration::from_millis(500);
/// How much may wait to be heard, in bytes: some 500 ends, which are heard in milliseconds. The kernel gives what it allows, and to whom it
/// allows everything (`CAP_NET_ADMIN`) all of it.
const BACKLOG_BYTES: usize = 1024 * 1024;

/// What was told of a connection at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Which it was.
    pub cookie: Cookie,
    /// How many bytes of it had been acknowledged, a FIN among them where that was.
    pub bytes_acked: u64,
}

/// Listens for ends of connections of one port.
#[derive(Debug)]
pub struct Ends {
    socket: OwnedFd,
}

impl Ends {
    /// Begins to listen: what ends from here on, of the connections whose own end has this port, is heard. Of others nothing is, so that a busy
    /// machine makes nobody miss what is waited for.
    ///
    /// # Errors
    /// As [`super::Sockets::open`]; kernels before 4.3 cannot tell of ends.
    pub fn open(port: u16) -> io::Result<Self> {
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(SOCK_DIAG)).map_err(of_opening)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(WAIT))?;
        set_socket_recv_buffer_size_force(&socket, BACKLOG_BYTES).or_else(|_| set_socket_recv_buffer_size(&socket, BACKLOG_BYTES))?;
        sys::receive_only(socket.as_fd(), LOCAL_PORT_AT, port)?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUPS)).map_err(of_opening)?;
        Ok(Self { socket })
    }

    /// Waits for the next end, half a second at the most. `None` where none came, or where so many did that some were not heard.
    ///
    /// # Errors
    /// What the kernel says where it cannot be listened to any more.
    pub fn next(&self) -> io::Result<Option<Ended>> {
        let mut buffer = [0; ANSWER_BYTES];
        let (length, _, sender) = match rustix::io::retry_on_intr(|| recvfrom(&self.socket, &mut buffer, RecvFlags::TRUNC)) {
            Ok(received) => received,
            Err(Errno::AGAIN | Errno::NOBUFS) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if sender.and_then(|sender| SocketAddrNetlink::try_from(sender).ok()).is_none_or(|sender| sender.pid() != KERNEL.pid()) {
            return Ok(None);
        }
        let datagram = buffer.get(..length).ok_or(wire::Unreadable::Short);
        match datagram.and_then(|datagram| wire::read(datagram, 0)).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))? {
            Answer::Socket(told) => {
                let ended =
                    |counters: crate::sys::TcpInfo| Ended { cookie: Cookie::from_number(told.cookie), bytes_acked: counters.bytes_acked };
                Ok(told.counters.map(ended))
            }
            Answer::Outcome(_) | Answer::End(_) | Answer::Other => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::super::Sockets;
    use super::*;

    /// How many ends of others may come before the one that is waited for.
    const OTHERS: usize = 10_000;

    fn end_of(ends: &Ends, cookie: Cookie) -> Ended {
        (0..OTHERS).find_map(|_| ends.next().unwrap().filter(|ended| ended.cookie == cookie)).expect("its end is told")
    }

    /// Returns a connection with so much written by the side that accepted it, and who listens for its end.
    fn connection(bytes: usize) -> (Ends, TcpStream, TcpStream, Cookie) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut server = listener.accept().unwrap().0;
        server.write_all(&vec![1; bytes]).unwrap();
        let seen = Sockets::open().unwrap().look(server.local_addr().unwrap(), server.peer_addr().unwrap()).unwrap().unwrap();
        (Ends::open(server.local_addr().unwrap().port()).unwrap(), server, client, seen.cookie)
    }

    #[test]
    fn whoever_closes_first_all_that_was_acknowledged_is_told() {
        for client_first in [true, false] {
            let (ends, server, mut client, cookie) = connection(5000);
            client.read_exact(&mut [0; 5000]).unwrap();
            if client_first {
                drop(client);
                drop(server);
            } else {
                drop(server);
                drop(client);
            }
            let ended = end_of(&ends, cookie);
            assert!((5000..=5001).contains(&ended.bytes_acked), "{ended:?}");
        }
    }

    #[test]
    fn however_many_others_end_meanwhile_the_end_of_ours_is_told() {
        const CROWD: usize = 3000;
        let (ends, server, client, cookie) = connection(5000);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        for _ in 0..CROWD {
            let other = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            drop((listener.accept().unwrap(), other));
        }
        drop((client, server));
        let told: Vec<_> = (0..10).filter_map(|_| ends.next().unwrap()).map(|ended| ended.cookie).collect();
        // Beside it at the most who listened on its port.
        assert!(told.contains(&cookie) && told.len() <= 2, "{told:?}");
    }

    #[test]
    fn of_a_connection_that_was_reset_only_what_had_been_acknowledged_counts() {
        let (ends, mut server, client, cookie) = connection(5000);
        socket2::SockRef::from(&client).set_recv_buffer_size(4096).unwrap();
        server.set_nonblocking(true).unwrap();
        let mut written = 5000;
        while let Ok(n) = server.write(&[2; 65536]) {
            written += n as u64;
        }
        // What lies unread is thrown away, and a reset sent.
        drop(client);
        drop(server);
        let ended = end_of(&ends, cookie);
        assert!((1..written).contains(&ended.bytes_acked), "{ended:?} of {written}");
    }
}
