//! Heads and bodies a byte a second, to both sides: cut within their bounds, however steadily they come, and others are served.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::check_no_descriptor_is_lost;
use crate::harness::{BROWSER, Setup, open_descriptors, put};

/// How fast they drip.
const DRIP: Duration = Duration::from_secs(1);
/// A head and a body may take ten seconds each on either side; the rest is for a busy machine.
const CUT_WITHIN: Duration = Duration::from_secs(30);
/// So many drip at once on each side.
const EACH: usize = 20;

#[test]
fn a_byte_a_second_is_cut_on_both_sides_while_others_are_served() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    let offer = server.share("film.mkv");
    let descriptors = open_descriptors(server.pid());
    let long = "X-Slow: ".to_owned() + &"y".repeat(1000);
    let button = format!("POST {} HTTP/1.1\r\nHost: x\r\n", offer.redeem_path());
    let create = format!(
        "POST /api/v1/shares HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n",
        server.owner, server.token
    );
    // What is sent at once, and what drips behind it.
    let slow = [
        (server.recipient, String::new(), format!("{button}{long}")),
        (server.recipient, button.clone(), long.clone()),
        (server.recipient, format!("{button}Content-Length: 900\r\n\r\n"), "z".repeat(900)),
        (server.recipient, String::new(), "\r\n".repeat(500)),
        (server.owner, String::new(), format!("{create}{long}")),
        (server.owner, create.clone(), long.clone()),
        (server.owner, format!("{create}Content-Length: 900\r\n\r\n"), "z".repeat(900)),
        (server.owner, format!("{create}Transfer-Encoding: chunked\r\n\r\n"), "1\r\nz\r\n".repeat(300)),
    ];
    let started = Instant::now();
    std::thread::scope(|scope| {
        for (to, at_once, drops) in slow.iter().flat_map(|it| std::iter::repeat_n(it, EACH)) {
            scope.spawn(move || drip(*to, at_once.as_bytes(), drops.as_bytes()));
        }
        while started.elapsed() < Duration::from_secs(8) {
            assert_eq!(server.fetch("GET", &offer.link, &[BROWSER]).expect("others are served").status, 200);
            assert_eq!(server.api("GET", "/livez", None).status, 200);
            std::thread::sleep(Duration::from_millis(200));
        }
    });
    assert_eq!(server.uses(&offer.id), 0);
    check_no_descriptor_is_lost(&server, descriptors);
    server.redeem(&offer);
}

/// Sends byte by byte until the server has enough of it.
fn drip(to: SocketAddr, at_once: &[u8], drops: &[u8]) {
    let mut stream = TcpStream::connect(to).expect("connects");
    stream.write_all(at_once).expect("the beginning is taken");
    stream.set_read_timeout(Some(DRIP)).expect("a time-out can be set");
    let (started, mut chunk) = (Instant::now(), [0; 4096]);
    for byte in drops {
        let _ = stream.write_all(&[*byte]);
        match stream.read(&mut chunk) {
            Ok(0) => return,
            Ok(n) => {
                let said = String::from_utf8_lossy(&chunk[..n]);
                assert!(said.starts_with("HTTP/1.1 4"), "a half request was answered: {said}");
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
        assert!(started.elapsed() < CUT_WITHIN, "still open after {CUT_WITHIN:?}");
    }
    panic!("all of it was taken in, byte by byte");
}
