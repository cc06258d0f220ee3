//! On this machine's kernel; `wire/tests.rs` has what no kernel is needed for.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use super::*;

mod rights;

/// A connection: `ours` was accepted, as nginx's are.
struct Connection {
    ours: TcpStream,
    theirs: TcpStream,
    local: SocketAddr,
    peer: SocketAddr,
}

impl Connection {
    fn new() -> Self {
        Self::to(&TcpListener::bind("127.0.0.1:0").unwrap(), "127.0.0.1")
    }

    fn to(listener: &TcpListener, host: &str) -> Self {
        let theirs = TcpStream::connect((host, listener.local_addr().unwrap().port())).unwrap();
        // Fixed: else it grows while much is read, until it takes all that is to wait.
        socket2::SockRef::from(&theirs).set_recv_buffer_size(64 * 1024).unwrap();
        let (ours, peer) = listener.accept().unwrap();
        Self { local: ours.local_addr().unwrap(), peer, ours, theirs }
    }

    fn look(&self, sockets: &Sockets) -> Option<Sighting> {
        sockets.look(self.local, self.peer).unwrap()
    }

    /// Returns the connection's sighting once it is as wanted.
    fn wait(&self, sockets: &Sockets, wanted: impl Fn(&Sighting) -> bool) -> Sighting {
        loop {
            let seen = self.look(sockets).expect("the connection is there");
            if wanted(&seen) {
                return seen;
            }
            thread::yield_now();
        }
    }

    fn wait_until_gone(&self, sockets: &Sockets) {
        while self.look(sockets).is_some() {
            thread::yield_now();
        }
    }

    /// Writes up to 2 MiB, as much as the kernels take of a reader who reads nothing.
    fn fill(&self) -> u64 {
        self.ours.set_nonblocking(true).unwrap();
        let mut written = 0;
        while written < 2 << 20 {
            match (&self.ours).write(&[7; 65_536]) {
                Ok(n) => written += n as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        written
    }

    fn read(&self, bytes: u64) {
        assert_eq!(io::copy(&mut (&self.theirs).take(bytes), &mut io::sink()).unwrap(), bytes);
    }
}

fn sockets() -> Sockets {
    Sockets::open().unwrap()
}

#[test]
fn what_nobody_read_waits_and_what_was_read_was_acknowledged_to_the_byte() {
    let (sockets, connection) = (sockets(), Connection::new());
    let fresh = connection.look(&sockets).unwrap();
    assert_eq!((fresh.state, fresh.bytes_acked, fresh.unacked, fresh.is_drained()), (SocketState::Established, 0, 0, true));
    let written = connection.fill();
    assert!(written > 200_000, "the kernel took only {written}");
    let stuck = connection.wait(&sockets, |seen| seen.written() == written);
    assert!(stuck.unacked > 100_000 && !stuck.is_drained(), "{stuck:?}");
    connection.read(written);
    let drained = connection.wait(&sockets, Sighting::is_drained);
    assert_eq!((drained.bytes_acked, drained.unacked, drained.written()), (written, 0, written));
    assert_eq!((drained.cookie, drained.inode), (stuck.cookie, fresh.inode));
}

#[test]
fn an_answer_of_a_connection_that_is_kept_begins_where_the_one_before_ended() {
    let (sockets, mut connection) = (sockets(), Connection::new());
    let mut expected = 0;
    for answer in [1264, 10_487_271, 1, 70_000] {
        let begins = sockets.look_steadily(connection.local, connection.peer).unwrap().unwrap().written();
        assert_eq!(begins, expected);
        let bytes = vec![7; answer as usize];
        thread::scope(|scope| {
            scope.spawn(|| connection.read(answer));
            (&connection.ours).write_all(&bytes).unwrap();
        });
        let drained = connection.wait(&sockets, Sighting::is_drained);
        assert_eq!(drained.bytes_acked - begins, answer);
        expected += answer;
        // What comes in is not counted.
        connection.theirs.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        connection.ours.read_exact(&mut [0; 18]).unwrap();
    }
    // Nor is it another where the answer before is still on its way.
    let written = connection.fill();
    connection.wait(&sockets, |seen| seen.unacked > 0);
    assert_eq!(sockets.look_steadily(connection.local, connection.peer).unwrap().unwrap().written(), expected + written);
}

#[test]
fn a_connection_that_its_owner_closed_is_drained_when_its_bytes_arrived() {
    let (sockets, connection) = (sockets(), Connection::new());
    let Connection { local, peer, .. } = connection;
    let look = || sockets.look(local, peer).unwrap().expect("it stays for a minute");
    let wait = |wanted: &dyn Fn(&Sighting) -> bool| std::iter::repeat_with(look).find(|seen| wanted(seen)).unwrap();
    let written = connection.fill();
    let cookie = look().cookie;
    let Connection { ours, mut theirs, .. } = connection;
    drop(ours);
    let left = wait(&|seen| seen.written() == written);
    assert_eq!((left.state, left.inode, left.cookie), (SocketState::FinWait1, 0, cookie));
    assert!(!left.is_drained() && left.unacked > 100_000, "{left:?}");
    assert_eq!(io::copy(&mut theirs, &mut io::sink()).unwrap(), written);
    let drained = wait(&|seen| seen.state == SocketState::FinWait2);
    assert_eq!((drained.is_drained(), drained.has_counters(), drained.unacked), (true, false, 0));
    drop(theirs);
    let over = wait(&|seen| seen.state == SocketState::TimeWait);
    assert_eq!((over.is_drained(), over.has_counters(), over.cookie), (true, false, cookie));
}

#[test]
fn a_fin_is_no_byte_neither_while_it_waits_nor_when_it_was_acknowledged() {
    let (sockets, connection) = (sockets(), Connection::new());
    let written = connection.fill();
    connection.ours.shutdown(Shutdown::Write).unwrap();
    let waits = connection.wait(&sockets, |seen| seen.written() == written);
    assert_eq!((waits.state, waits.is_drained()), (SocketState::FinWait1, false));
    connection.read(written);
    let done = connection.wait(&sockets, |seen| seen.state == SocketState::FinWait2);
    assert!(done.has_counters() && done.is_drained() && done.inode != 0, "{done:?}");
    assert_eq!((done.bytes_acked, done.unacked), (written, 0));
}

#[test]
fn a_connection_that_the_other_side_ended_first_is_drained_and_then_gone() {
    let (sockets, connection) = (sockets(), Connection::new());
    connection.theirs.shutdown(Shutdown::Write).unwrap();
    connection.wait(&sockets, |seen| seen.state == SocketState::CloseWait && seen.is_drained());
    let written = connection.fill();
    connection.wait(&sockets, |seen| seen.written() == written && !seen.is_drained());
    connection.ours.shutdown(Shutdown::Write).unwrap();
    let waits = connection.wait(&sockets, |seen| seen.written() == written);
    assert_eq!((waits.state, waits.is_drained()), (SocketState::LastAck, false));
    connection.read(written);
    connection.wait_until_gone(&sockets);
}

#[test]
fn a_connection_that_was_reset_is_gone() {
    let (sockets, connection) = (sockets(), Connection::new());
    connection.fill();
    socket2::SockRef::from(&connection.theirs).set_linger(Some(Duration::ZERO)).unwrap();
    let Connection { ours, theirs, local, peer } = connection;
    drop(theirs);
    while sockets.look(local, peer).unwrap().is_some() {
        thread::yield_now();
    }
    drop(ours);
}

#[test]
fn who_listens_is_not_taken_for_a_connection_that_is_gone() {
    let (sockets, listener) = (sockets(), TcpListener::bind("127.0.0.1:0").unwrap());
    let nobody = "127.0.0.1:1".parse().unwrap();
    assert_eq!(sockets.look(listener.local_addr().unwrap(), nobody).unwrap(), None);
    assert_eq!(sockets.look_steadily(listener.local_addr().unwrap(), nobody).unwrap(), None);
}

#[test]
fn a_socket_is_found_in_both_families_however_its_addresses_are_written() {
    let sockets = sockets();
    let both = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None).unwrap();
    both.set_only_v6(false).unwrap();
    both.bind(&"[::]:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    both.listen(8).unwrap();
    let both = TcpListener::from(both);
    let mapped = Connection::to(&both, "127.0.0.1");
    assert_eq!(mapped.peer.ip().to_string(), "::ffff:127.0.0.1");
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let expected = mapped.look(&sockets).expect("as the socket writes its addresses");
    assert_eq!(expected.state, SocketState::Established);
    for (local, peer) in [(plain(mapped.local), plain(mapped.peer)), (plain(mapped.local), mapped.peer), (mapped.local, plain(mapped.peer))]
    {
        assert_eq!(sockets.look(local, peer).unwrap(), Some(expected));
    }
    let v6 = Connection::to(&both, "::1");
    (&v6.ours).write_all(&[7; 5000]).unwrap();
    v6.read(5000);
    assert_eq!(v6.wait(&sockets, Sighting::is_drained).bytes_acked, 5000);
    let error = sockets.look(v6.local, plain(mapped.peer)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    // The other direction is another socket; its owner asked for the connection, and the handshake counts one.
    let theirs = sockets.look(v6.peer, v6.local).unwrap().unwrap();
    assert_eq!(theirs.bytes_acked, 1);
    assert_ne!((theirs.cookie, theirs.inode), (v6.look(&sockets).unwrap().cookie, v6.look(&sockets).unwrap().inode));
}

#[test]
fn threads_that_ask_at_once_are_each_told_of_their_own() {
    let sockets = sockets();
    let ask = |answer: u64| {
        let connection = Connection::new();
        (&connection.ours).write_all(&vec![7; answer as usize]).unwrap();
        connection.read(answer);
        connection.wait(&sockets, Sighting::is_drained);
        for _ in 0..500 {
            assert_eq!(connection.look(&sockets).unwrap().bytes_acked, answer);
        }
    };
    thread::scope(|scope| (1..=4).for_each(|answer| drop(scope.spawn(move || ask(answer * 1000)))));
}

#[test]
fn answers_to_questions_that_were_given_up_are_passed_over() {
    let (sockets, connection) = (sockets(), Connection::new());
    let expected = connection.look(&sockets);
    let give_up = |times: usize| {
        let mut line = sockets.line.lock().unwrap();
        for _ in 0..times {
            line.sequence += 1;
            let request = wire::request(Wish::Nothing, line.sequence, &Pair::new(connection.local, connection.peer).unwrap(), ANY_COOKIE);
            sendto(&line.socket, &request, SendFlags::empty(), &KERNEL).unwrap();
        }
    };
    give_up(1);
    assert_eq!(connection.look(&sockets), expected);
    give_up(MOST_OTHERS);
    assert_eq!(connection.look(&sockets), expected);
    // More than there can be is an error, and not for ever.
    give_up(MOST_OTHERS + 1);
    assert_eq!(sockets.look(connection.local, connection.peer).unwrap_err().kind(), ErrorKind::InvalidData);
    assert_eq!(connection.look(&sockets), expected);
}

#[test]
fn a_kernel_that_says_nothing_is_not_waited_for() {
    let sockets = sockets();
    let mut line = sockets.line.lock().unwrap();
    assert_eq!(rustix::net::sockopt::socket_timeout(&line.socket, Timeout::Recv).unwrap(), Some(ANSWER_WAIT));
    set_socket_timeout(&line.socket, Timeout::Recv, Some(Duration::from_millis(1))).unwrap();
    let error = line.receive().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
}

#[test]
fn why_the_kernel_cannot_be_asked_is_said_in_a_sentence() {
    let said = |error: Errno| (of_opening(error).kind(), of_opening(error).to_string());
    for (error, kind, word) in [
        (Errno::PROTONOSUPPORT, ErrorKind::Unsupported, "sock_diag"),
        (Errno::NOENT, ErrorKind::Unsupported, "tcp_diag"),
        (Errno::AFNOSUPPORT, ErrorKind::Unsupported, "AF_NETLINK"),
        (Errno::PERM, ErrorKind::PermissionDenied, "sandbox"),
        (Errno::ACCESS, ErrorKind::PermissionDenied, "sandbox"),
    ] {
        let (is, text) = said(error);
        assert!(is == kind && text.contains(word), "{error}: {is:?} {text}");
    }
    assert_eq!(of_opening(Errno::MFILE).raw_os_error(), Some(Errno::MFILE.raw_os_error()));
}
