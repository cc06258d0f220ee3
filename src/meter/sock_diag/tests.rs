//! On this machine's kernel; `wire/tests.rs` has what no kernel is needed for.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use rustix::thread as own;

use super::*;

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

/// Runs on a thread of its own, which has no user, no group and no capability that it could get back.
fn without_rights<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    let drop_rights = || {
        if rustix::process::geteuid().is_root() {
            // What the kernel does not know as a capability it refuses to remove.
            for number in 0..64 {
                let _ = own::remove_capability_from_bounding_set(own::CapabilitySet::from_bits_retain(1 << number));
            }
            let nobody = 65_534;
            own::set_thread_groups(&[]).unwrap();
            let gid = rustix::process::Gid::from_raw(nobody);
            own::set_thread_res_gid(gid, gid, gid).unwrap();
            let uid = rustix::process::Uid::from_raw(nobody);
            own::set_thread_res_uid(uid, uid, uid).unwrap();
        }
        own::set_no_new_privs(true).unwrap();
        let left = own::capabilities(None).unwrap();
        assert!(left.effective.is_empty() && left.permitted.is_empty(), "{left:?}");
        run()
    };
    thread::scope(|scope| scope.spawn(drop_rights).join().unwrap())
}

fn may_end_connections() -> bool {
    own::capabilities(None).unwrap().effective.contains(own::CapabilitySet::NET_ADMIN)
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
fn each_state_has_its_own_way_with_the_fin() {
    let info = [0u8; 120].into_iter().chain(1001u64.to_ne_bytes()).collect::<Vec<_>>();
    let counters = crate::sys::TcpInfo::parse(&info);
    let address = "127.0.0.1:1".parse().unwrap();
    let sight = |number: u8, queue: u32, counters| {
        let told = Told { local: address, peer: address, state: number, queue, inode: 0, cookie: 0, counters };
        Sighting::new(&told, SocketState::parse(number).unwrap())
    };
    let told = |number: u8, queue: u32| {
        let seen = sight(number, queue, counters).unwrap();
        (seen.bytes_acked, seen.unacked, seen.is_drained())
    };
    // Established, CLOSE-WAIT: no FIN was written.
    assert_eq!([1, 8].map(|state| (told(state, 0), told(state, 1))), [((1001, 0, true), (1001, 1, false)); 2]);
    // FIN-WAIT-1, LAST-ACK, CLOSING: the last byte of the queue is the FIN.
    let queued = [4, 9, 11].map(|state| (told(state, 1), told(state, 2)));
    assert_eq!(queued, [((1001, 0, true), (1001, 1, false)); 3]);
    // FIN-WAIT-2, TIME-WAIT: it was acknowledged.
    assert_eq!([5, 6].map(|state| told(state, 0)), [(1000, 0, true); 2]);
    // What has no counters though it should is an error and no zero.
    let without: Vec<u8> = (1..=12).filter(|state| sight(*state, 0, None).is_ok()).collect();
    assert_eq!(without, [3, 5, 6, 12]);
    assert_eq!(sight(1, 0, None).unwrap_err().kind(), ErrorKind::Unsupported);
    assert!((13..=u8::MAX).chain([0]).all(|number| SocketState::parse(number).is_none()));
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
fn who_listens_is_seen_and_who_does_not_is_not() {
    let sockets = sockets();
    let one = TcpListener::bind("127.0.0.1:0").unwrap();
    let all = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    let seen = |host: &str, port: u16| sockets.shares_namespace_with(SocketAddr::new(host.parse().unwrap(), port)).unwrap();
    assert!(seen("127.0.0.1", port(&one)) && seen("::ffff:127.0.0.1", port(&one)));
    assert!(!seen("0.0.0.0", port(&one)) && !seen("::1", port(&one)) && !seen("127.0.0.2", port(&one)));
    assert!(seen("0.0.0.0", port(&all)) && seen("127.0.0.1", port(&all)) && seen("127.0.0.2", port(&all)));
    let both = TcpListener::bind("[::]:0").unwrap();
    assert!(seen("::", port(&both)) && seen("::1", port(&both)));
    // A connection from this port listens to nobody.
    let connection = Connection::new();
    assert!(!seen("127.0.0.1", connection.peer.port()));
    let (port, address) = (port(&one), one.local_addr().unwrap());
    drop(one);
    assert!(!seen("127.0.0.1", port), "{address}");
}

#[test]
fn nobody_with_no_right_at_all_sees_as_much_and_ends_nothing() {
    let connection = Connection::new();
    let written = connection.fill();
    let (here, cookie) = (sockets(), connection.look(&sockets()).unwrap().cookie);
    let there = connection.wait(&here, |seen| seen.written() == written);
    let (seen, refused) = without_rights(|| {
        let sockets = sockets();
        assert!(sockets.shares_namespace_with(TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()).is_ok());
        (connection.look(&sockets), sockets.destroy(connection.local, connection.peer, cookie))
    });
    assert_eq!(seen, Some(there));
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "{refused}");
    assert!(refused.to_string().contains("CAP_NET_ADMIN"));
    // It goes on.
    connection.read(written);
    connection.wait(&here, Sighting::is_drained);
    // Whether there is such a connection is told before who asks.
    drop(connection.ours);
    drop(connection.theirs);
    let gone = SocketAddr::new(connection.peer.ip(), 1);
    assert!(!without_rights(|| sockets().destroy(connection.local, gone, cookie)).unwrap());
}

#[test]
fn who_may_ends_a_connection_and_no_other() {
    if !may_end_connections() {
        eprintln!("skipped: this account has no CAP_NET_ADMIN");
        return;
    }
    let (sockets, listener) = (sockets(), TcpListener::bind("127.0.0.1:0").unwrap());
    let (mut ended, other) = (Connection::to(&listener, "127.0.0.1"), Connection::to(&listener, "127.0.0.1"));
    ended.fill();
    ended.ours.set_nonblocking(false).unwrap();
    let (cookie, others) = (ended.look(&sockets).unwrap().cookie, other.look(&sockets).unwrap());
    // Neither another's cookie ends it nor its own under another's addresses.
    assert!(!sockets.destroy(ended.local, ended.peer, others.cookie).unwrap());
    assert!(!sockets.destroy(other.local, other.peer, cookie).unwrap());
    assert!(ended.look(&sockets).is_some() && other.look(&sockets).is_some());
    assert!(sockets.destroy(ended.local, ended.peer, cookie).unwrap());
    assert_eq!(ended.look(&sockets), None);
    assert_eq!(ended.ours.write(&[7]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
    let told = io::copy(&mut ended.theirs, &mut io::sink()).unwrap_err();
    assert_eq!(told.kind(), ErrorKind::ConnectionReset);
    assert!(!sockets.destroy(ended.local, ended.peer, cookie).unwrap());
    // Who listens there goes on, and so does the other.
    assert_eq!(other.look(&sockets), Some(others));
    drop(Connection::to(&listener, "127.0.0.1"));
}

#[test]
fn what_is_drained_and_closed_cannot_be_ended_and_that_is_no_error() {
    let (sockets, connection) = (sockets(), Connection::new());
    let Connection { ours, theirs, local, peer } = connection;
    let cookie = sockets.look(local, peer).unwrap().unwrap().cookie;
    drop(ours);
    drop(theirs);
    while sockets.look(local, peer).unwrap().unwrap().state != SocketState::TimeWait {
        thread::yield_now();
    }
    match sockets.destroy(local, peer, cookie) {
        // Newer kernels forget it, older ones leave it.
        Ok(_) => {}
        Err(error) => assert!(error.kind() == ErrorKind::PermissionDenied && !may_end_connections(), "{error}"),
    }
}

#[test]
fn another_network_namespace_sees_nothing_of_ours() {
    let (connection, listener) = (Connection::new(), TcpListener::bind("127.0.0.1:0").unwrap());
    let address = listener.local_addr().unwrap();
    assert!(connection.look(&sockets()).is_some() && sockets().shares_namespace_with(address).unwrap());
    let elsewhere = || {
        #[expect(deprecated, reason = "what shares descriptors is not what is left here")]
        own::unshare(own::UnshareFlags::NEWNET).ok()?;
        let sockets = sockets();
        Some((connection.look(&sockets), sockets.shares_namespace_with(address).unwrap()))
    };
    match thread::scope(|scope| scope.spawn(elsewhere).join().unwrap()) {
        Some(seen) => assert_eq!(seen, (None, false)),
        None => eprintln!("skipped: this account may not make a network namespace"),
    }
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
fn what_another_process_sends_us_is_no_answer() {
    let (sockets, connection) = (sockets(), Connection::new());
    let expected = connection.look(&sockets).unwrap();
    let (ours, next) = {
        let line = sockets.line.lock().unwrap();
        (SocketAddrNetlink::try_from(rustix::net::getsockname(&line.socket).unwrap()).unwrap(), line.sequence + 1)
    };
    // That there is no such socket.
    let forged: Vec<u8> =
        [20, 0x0000_0002, next, 0, (-2i32).cast_unsigned()].into_iter().flat_map(|number: u32| number.to_ne_bytes()).collect();
    assert_eq!(wire::read(&forged, next), Ok(Answer::Outcome(2)));
    let stranger = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(SOCK_DIAG)).unwrap();
    match sendto(&stranger, &forged, SendFlags::empty(), &ours) {
        Ok(_) => assert_eq!(connection.look(&sockets), Some(expected)),
        Err(Errno::PERM) if !may_end_connections() => eprintln!("skipped: without rights nobody can even try"),
        Err(error) => panic!("{error}"),
    }
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
