use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::ClientConnection;

use super::super::certificates::tests::Authority;
use super::super::stream::Stream;
use super::*;

/// A connection with TLS, and the other side's session and socket.
async fn connected() -> (Stream, ClientConnection, std::net::TcpStream) {
    let (authority, certificates) = (Authority::new(), Certificates::none());
    let pair = authority.pair_for(&["files.example.org"]);
    certificates.set(&pair.chain, &pair.key).unwrap();
    let listener = super::super::accept::listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let socket = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let ours = listener.accept().await.unwrap().0;
    let theirs = tokio::task::spawn_blocking(move || {
        let mut session = ClientConnection::new(authority.client("http/1.1"), "files.example.org".try_into().unwrap()).unwrap();
        let mut socket = socket;
        while session.is_handshaking() {
            session.complete_io(&mut socket).unwrap();
        }
        (session, socket)
    });
    let stream = Stream::new(ours).unwrap().seal(&certificates).await.unwrap().expect("a handshake");
    let (session, socket) = theirs.await.unwrap();
    (stream, session, socket)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_is_never_ahead_of_what_the_other_kernel_has_and_all_of_it_in_the_end() {
    const BYTES: u64 = 3_000_000;
    let (stream, mut session, socket) = connected().await;
    socket2::SockRef::from(&socket).set_recv_buffer_size(32 * 1024).unwrap();
    // How much plaintext the other side can have: what it has read, and what stands in its socket.
    let read = Arc::new(AtomicU64::new(0));
    let counted = read.clone();
    let reading = std::thread::spawn(move || {
        let (mut socket, mut bytes, mut sum) = (socket, vec![0; 100_000], 0_u64);
        while counted.load(Ordering::SeqCst) < BYTES {
            session.read_tls(&mut socket).unwrap();
            session.process_new_packets().unwrap();
            while let Ok(n @ 1..) = session.reader().read(&mut bytes) {
                sum += bytes[..n].iter().map(|byte| u64::from(*byte)).sum::<u64>();
                counted.fetch_add(n as u64, Ordering::SeqCst);
            }
        }
        sum
    });
    let (mut sent, mut expected, mut most_seen) = (0, 0, 0);
    while sent < BYTES {
        let piece: Vec<u8> = (0..(BYTES - sent).min(10_007)).map(|n| (n % 251) as u8).collect();
        expected += piece.iter().map(|byte| u64::from(*byte)).sum::<u64>();
        stream.send_all(&piece, false).await.unwrap();
        sent += piece.len() as u64;
        let acked = stream.acked();
        assert!(acked <= stream.written() && acked >= most_seen, "{acked} of {}", stream.written());
        most_seen = acked;
    }
    while !stream.is_settled() {
        tokio::task::yield_now().await;
    }
    assert_eq!((stream.acked(), reading.join().unwrap()), (BYTES, expected));
    assert_eq!(read.load(Ordering::SeqCst), BYTES);
}

#[tokio::test(flavor = "multi_thread")]
async fn part_of_a_record_is_none_of_it() {
    let (stream, _session, _socket) = connected().await;
    let mut sealed = stream.sealed_for_test();
    let before = sealed.sealed_bytes;
    assert_eq!(sealed.seal(&[7; RECORD_BYTES]).unwrap(), RECORD_BYTES);
    let first = sealed.sealed_bytes;
    assert_eq!(sealed.seal(&[7; 100]).unwrap(), 100);
    let second = sealed.sealed_bytes;
    assert!(first > before + RECORD_BYTES as u64 && second > first + 100);
    for (ciphertext, expected) in
        [(before, 0), (first - 1, 0), (first, RECORD_BYTES), (second - 1, RECORD_BYTES), (second, RECORD_BYTES + 100)]
    {
        assert_eq!(sealed.acked(ciphertext), expected as u64, "{ciphertext}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_full_socket_has_a_bound() {
    let (stream, _session, socket) = connected().await;
    socket2::SockRef::from(&socket).set_recv_buffer_size(4096).unwrap();
    socket::hold_unsent(&stream.tcp, 64 * 1024);
    let bytes = vec![7; 1 << 20];
    while stream.send_now(&bytes, false).is_ok() {}
    let sealed = stream.sealed_for_test();
    assert!(sealed.waiting() > 0 && sealed.waiting() <= MAX_WAITING_BYTES + 2 * RECORD_BYTES, "{} bytes wait", sealed.waiting());
    assert!(socket::is_wanted(&stream.tcp).is_err(), "{:?}", stream.tcp.as_fd());
}
