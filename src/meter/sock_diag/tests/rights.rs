//! Who may see what, and end what.

use rustix::thread as own;

use super::*;

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
fn whoever_may_not_end_a_connection_is_told_so_before_it_matters() {
    assert_eq!(sockets().try_destroying().is_ok(), may_end_connections());
    let refused = without_rights(|| sockets().try_destroying()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "{refused}");
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
