//! The pure part runs under Miri, too, which knows none of these calls; what asks a kernel runs under AddressSanitizer and
//! Valgrind, which watch what it writes (`tests/sanitize`).

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::*;

fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().unwrap().0, client)
}

/// Returns a `struct tcp_info` with a number of its own in each byte, as long as some kernel tells it.
fn answer(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| n as u8).collect()
}

#[test]
fn an_answer_of_any_length_is_read_within_its_bounds() {
    for short in 0..TCP_INFO_BYTES {
        assert_eq!(TcpInfo::parse(&answer(short)), None, "{short} bytes");
    }
    // Linux 6.18 tells 280 bytes.
    for long in TCP_INFO_BYTES..300 {
        let expected = TcpInfo { state: 0, bytes_acked: u64::from_ne_bytes([120, 121, 122, 123, 124, 125, 126, 127]) };
        assert_eq!(TcpInfo::parse(&answer(long)), Some(expected), "{long} bytes");
    }
}

#[test]
fn an_answer_is_read_wherever_it_lies() {
    // No alignment is asked of it: eight neighbouring addresses have every one that there is.
    let memory = answer(TCP_INFO_BYTES + 8);
    for shift in 0..8u8 {
        let read = TcpInfo::parse(&memory[usize::from(shift)..]).unwrap();
        assert_eq!((read.state, read.bytes_acked.to_ne_bytes()[0]), (shift, 120 + shift));
    }
}

#[test]
fn only_a_closed_connection_is_over() {
    for state in 0..=u8::MAX {
        assert_eq!(TcpInfo { state, bytes_acked: 0 }.is_over(), state == 7);
    }
}

#[test]
#[cfg_attr(miri, ignore = "it asks a kernel")]
fn the_fields_are_where_the_kernel_writes_them() {
    let (mut ours, mut theirs) = connection();
    let before = tcp_info(ours.as_fd()).unwrap();
    assert!(!before.is_over());
    // More than a byte's worth, so that a shifted or swapped number shows.
    ours.write_all(&[7; 70_000]).unwrap();
    theirs.read_exact(&mut [0; 70_000]).unwrap();
    let acked = || tcp_info(ours.as_fd()).unwrap().bytes_acked - before.bytes_acked;
    while acked() < 70_000 {
        std::thread::yield_now();
    }
    assert_eq!(acked(), 70_000);
    // The other direction is not ours.
    theirs.write_all(&[7; 5000]).unwrap();
    assert_eq!(acked(), 70_000);
}

#[test]
#[cfg_attr(miri, ignore = "it asks a kernel")]
fn a_connection_that_was_reset_can_still_be_asked() {
    let (mut ours, theirs) = connection();
    socket2::SockRef::from(&theirs).set_linger(Some(Duration::ZERO)).unwrap();
    drop(theirs);
    assert!(ours.read(&mut [0; 1]).is_err());
    assert!(tcp_info(ours.as_fd()).unwrap().is_over());
}

#[test]
#[cfg_attr(miri, ignore = "it asks a kernel")]
fn what_is_no_tcp_socket_is_an_error_and_no_number() {
    let file = tempfile::tempfile().unwrap();
    let (left, right) = UnixStream::pair().unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    drop(right);
    for (what, socket) in [("a file", file.as_fd()), ("a Unix socket without its peer", left.as_fd()), ("a UDP socket", udp.as_fd())] {
        let error = tcp_info(socket).expect_err(what);
        assert!(error.raw_os_error().is_some(), "{what}: {error}");
    }
    // A socket that listens has no counters to speak of, and must not be read beyond what there is.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(tcp_info(listener.as_fd()).unwrap().bytes_acked, 0);
}

#[test]
#[cfg_attr(miri, ignore = "it asks a kernel")]
fn only_the_calling_thread_becomes_idle() {
    let before = (io_priority(), scheduling());
    let lowered = std::thread::spawn(|| {
        read_behind_everybody().unwrap();
        compute_when_idle().unwrap();
        (io_priority(), scheduling())
    });
    assert_eq!(lowered.join().unwrap(), (IO_CLASS_IDLE << IO_CLASS_SHIFT, libc::SCHED_IDLE.to_string()));
    assert_eq!((io_priority(), scheduling()), before);
}

#[test]
#[cfg_attr(miri, ignore = "it asks a kernel")]
fn what_is_started_ends_with_whoever_started_it() {
    let start = || {
        let mut command = Command::new("sleep");
        command.arg("1000");
        ends_with_its_parent(&mut command);
        command.spawn().unwrap()
    };
    let mut child = std::thread::spawn(start).join().unwrap();
    let status = child.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGKILL));
}

/// Returns how the calling thread is scheduled: the 39th field behind its name in `/proc/thread-self/stat`.
fn scheduling() -> String {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    stat.rsplit_once(')').unwrap().1.split_whitespace().nth(38).unwrap().to_owned()
}

#[test]
fn a_refusal_of_the_kernel_is_an_error() {
    assert!(outcome(-1).is_err());
    assert!(outcome(0).is_ok());
}
