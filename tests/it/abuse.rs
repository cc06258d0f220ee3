//! Those who abuse HTTP/2 and TLS: the memory of the process stays bounded, and others are served meanwhile.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::harness::{
    ACK, Authority, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Http2, INITIAL_WINDOW, PING, RST_STREAM, SETTINGS, SOON,
    Server, WINDOW_UPDATE, download_folder, fields, frame, get, put, resident_bytes, sha256, sha256_of_file, tool,
};

const MIB: usize = 1024 * 1024;
/// How much the process may grow whatever they do: 500 handshakes that do not go on take 14 MiB, and nothing else here takes 3.
const MOST_GROWTH_BYTES: u64 = 32 * 1024 * 1024;
/// How many connections abuse at once.
const ABUSERS: usize = 8;
/// How much each sends before it has shown what it can: far more than the bound, were it kept.
const FLOOD_BYTES: usize = 24 * MIB;

/// The server, who downloads from it meanwhile, and how large it was before.
struct Scene {
    authority: Arc<Authority>,
    server: Server,
    content: String,
    before: u64,
}

impl Scene {
    fn new() -> Self {
        let authority = Arc::new(Authority::new());
        let server = authority.setup().start();
        let content = sha256(&put(&server, "film.mkv", 4 * MIB));
        let scene = Self { authority, server, content, before: 0 };
        // What is made once is no growth.
        scene.serve_another();
        let before = resident_bytes(scene.server.pid()).1;
        Self { before, ..scene }
    }

    /// Another recipient comes, and gets all of it.
    fn serve_another(&self) {
        let (offer, folder) = (self.server.share("film.mkv"), download_folder(&self.server));
        let got = tool(&folder, "curl", &["-sS", "--http2", "--cacert", &self.authority.trust(), "-o", "got", &offer.url]);
        assert!(got.status.success(), "another recipient is not served: {got:?}\n{}", self.server.log_text());
        assert_eq!(sha256_of_file(&folder.join("got")), self.content);
        self.server.wait_for(&offer.id, "all of it is confirmed", |share| share["state"] == "delivered");
    }

    fn assert_small(&self) {
        let (now, most) = resident_bytes(self.server.pid());
        let grown = most.saturating_sub(self.before);
        println!("It grew by {} KiB.", grown / 1024);
        assert!(grown <= MOST_GROWTH_BYTES, "it grew by {grown} bytes, and is {now} now");
    }

    /// Lets several abuse at once, serves another meanwhile, and looks at the memory.
    fn under(&self, abuse: impl Fn(&mut Http2, &dyn Fn() -> bool) + Clone + Send + 'static) {
        let (enough, begun) = (Arc::new(AtomicBool::new(false)), Arc::new(std::sync::Barrier::new(ABUSERS + 1)));
        let abusers: Vec<JoinHandle<()>> = (0..ABUSERS)
            .map(|_| {
                let (authority, to, abuse) = (self.authority.clone(), self.server.recipient, abuse.clone());
                let (enough, begun) = (enough.clone(), begun.clone());
                std::thread::spawn(move || {
                    let mut abuser = authority.http_2(to, &[(INITIAL_WINDOW, 64 * MIB as u32)]);
                    abuser.connection.sock.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
                    begun.wait();
                    abuse(&mut abuser, &|| enough.load(Ordering::Relaxed));
                })
            })
            .collect();
        begun.wait();
        self.serve_another();
        enough.store(true, Ordering::Relaxed);
        abusers.into_iter().for_each(|abuser| abuser.join().expect("an abuser's own test code holds"));
        self.serve_another();
        self.assert_small();
    }

    /// Lets several send the same frames again and again, without reading, until they are cut off or have sent enough.
    fn under_flood(&self, frames: Vec<u8>) {
        let frames = frames.repeat((16 * 1024 / frames.len()).max(1));
        self.under(move |abuser, is_enough| {
            let mut sent = 0;
            while abuser.send(&frames) && (sent < FLOOD_BYTES || !is_enough()) {
                sent += frames.len();
            }
        });
    }

    /// Makes a transfer, as a browser does; returns its path.
    fn transfer(&self) -> String {
        self.authority.redeem(&self.server, &self.server.share("film.mkv"))
    }
}

#[test]
fn streams_that_are_opened_and_reset_at_once() {
    let scene = Scene::new();
    scene.under(|abuser, _| {
        // Each asks for a page and takes that back, as many as there are ids for in this time.
        let head = get("/0000000000/x", &[]);
        let mut batch = Vec::new();
        // What the kernels hold between us is more than a few thousand: it ends when what was sent meets a closed connection.
        for n in 0..2_000_000u32 {
            batch.extend(frame(HEADERS, END_STREAM | END_HEADERS, 2 * n + 1, &head));
            batch.extend(frame(RST_STREAM, 0, 2 * n + 1, &8u32.to_be_bytes()));
            if batch.len() > 16 * 1024 {
                if !abuser.send(&batch) {
                    return;
                }
                batch.clear();
            }
        }
        panic!("nobody ends a connection that opens and resets two million streams");
    });
}

#[test]
fn a_head_that_goes_on_for_ever() {
    let scene = Scene::new();
    scene.under(|abuser, _| {
        abuser.send(&frame(HEADERS, END_STREAM, 1, &get("/0000000000/x", &[])));
        let more = frame(CONTINUATION, 0, 1, &fields(&[("x", &"y".repeat(8000))]));
        let sent = (0..4096).take_while(|_| abuser.send(&more)).count();
        assert!(sent < 4096, "32 MiB of one head were taken");
    });
    // Also where it stays within the bound of one frame after the other and never ends.
    scene.under(|abuser, _| {
        abuser.send(&frame(HEADERS, END_STREAM, 1, &get("/0000000000/x", &[])));
        let more = frame(CONTINUATION, 0, 1, b"");
        let sent = (0..200_000).take_while(|_| abuser.send(&more)).count();
        assert!(sent < 200_000, "200 000 empty frames of one head were taken");
    });
}

#[test]
fn a_head_that_is_small_on_the_way_and_huge_when_it_is_read() {
    let scene = Scene::new();
    scene.under(|abuser, _| {
        // One field of 4000 bytes goes into the table, and is named by one byte each time after (RFC 7541 6.1).
        let mut block = vec![0x40, 1, b'x', 127];
        block.extend([0xA1, 0x1E]);
        block.extend([b'y'; 4000]);
        let mut head = get("/0000000000/x", &[]);
        head.extend(block);
        head.extend(vec![0xBE; 12_000]);
        for n in 0..64u32 {
            if !abuser.send(&frame(HEADERS, END_STREAM | END_HEADERS, 2 * n + 1, &head)) {
                return;
            }
        }
        while let Some(next) = abuser.next() {
            assert!(next.kind != DATA, "it is answered: {next:?}");
        }
    });
}

#[test]
fn pings_without_end() {
    Scene::new().under_flood(frame(PING, 0, 0, b"12345678"));
}

#[test]
fn answers_to_pings_that_nobody_sent() {
    Scene::new().under_flood(frame(PING, ACK, 0, b"12345678"));
}

#[test]
fn settings_without_end() {
    Scene::new().under_flood(frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]));
}

#[test]
fn empty_data_on_a_stream_without_end() {
    let scene = Scene::new();
    scene.under(|abuser, is_enough| {
        let post = fields(&[(":method", "POST"), (":scheme", "https"), (":authority", "localhost"), (":path", "/0000000000/x")]);
        abuser.send(&frame(HEADERS, END_HEADERS, 1, &post));
        let more = frame(DATA, 0, 1, b"").repeat(1000);
        let mut sent = 0;
        while abuser.send(&more) && (sent < FLOOD_BYTES || !is_enough()) {
            sent += more.len();
        }
    });
}

#[test]
fn windows_that_are_shut_tiny_or_too_large() {
    let scene = Scene::new();
    let transfer = scene.transfer();
    let path = transfer.clone();
    // Shut: they ask, and take nothing of it.
    scene.under(move |abuser, is_enough| {
        abuser.send(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]));
        for n in 0..64 {
            abuser.get(2 * n + 1, &path, &[]);
        }
        while !is_enough() {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    // Tiny: a byte at a time.
    let path = transfer.clone();
    scene.under(move |abuser, is_enough| {
        abuser.send(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 1]));
        for n in 0..32 {
            abuser.get(2 * n + 1, &path, &[]);
        }
        let ones: Vec<u8> = (0..32u32).flat_map(|n| frame(WINDOW_UPDATE, 0, 2 * n + 1, &1u32.to_be_bytes())).collect();
        for _ in 0..2000 {
            if !abuser.send(&ones) || is_enough() {
                return;
            }
        }
    });
    // Too large: more than a window can be ends the connection, or the stream.
    let mut greedy = scene.authority.http_2(scene.server.recipient, &[]);
    greedy.open_window(0x7FFF_FFFF);
    greedy.open_window(0x7FFF_FFFF);
    assert!(greedy.until(|frame| frame.kind == GOAWAY).is_some(), "it is told to go");
    scene.serve_another();
}

#[test]
fn ten_thousand_streams() {
    let scene = Scene::new();
    scene.under(|abuser, _| {
        let head = get("/0000000000/x", &[]);
        for n in 0..10_000u32 {
            if !abuser.send(&frame(HEADERS, END_STREAM | END_HEADERS, 2 * n + 1, &head)) {
                return;
            }
        }
    });
}

#[test]
fn readers_who_do_not_read() {
    let scene = Scene::new();
    let transfer = scene.transfer();
    // They have what fits into the windows and the kernels, and never say so.
    scene.under(move |abuser, is_enough| {
        abuser.open_window(64 * MIB as u32);
        for n in 0..32 {
            abuser.get(2 * n + 1, &transfer, &[]);
        }
        while !is_enough() {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
}

#[test]
fn handshakes_that_do_not_go_on() {
    let scene = Scene::new();
    let mut waiting: Vec<TcpStream> = (0..500).map(|_| TcpStream::connect(scene.server.recipient).expect("connects")).collect();
    // The beginning of a record that says it is as long as any, and of a handshake that is longer.
    for (n, stream) in waiting.iter_mut().enumerate() {
        let start: &[u8] = if n % 2 == 0 { &[22, 3, 1, 0x40, 0] } else { &[22, 3, 1, 0x40, 0, 1, 0, 0xFF, 0xFF, 3, 3] };
        stream.write_all(start).unwrap();
        stream.write_all(&vec![7; 8000]).unwrap();
    }
    scene.serve_another();
    scene.assert_small();
    let mut answer = [0; 16];
    for stream in &mut waiting {
        stream.set_read_timeout(Some(SOON)).unwrap();
        let read = stream.read(&mut answer);
        assert!(matches!(read, Ok(0)) || read.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset), "they are closed");
    }
}

#[test]
fn keys_that_are_changed_without_end() {
    let scene = Scene::new();
    scene.under(|abuser, is_enough| {
        for _ in 0..20_000 {
            if abuser.connection.conn.refresh_traffic_keys().is_err() || !abuser.send(&frame(PING, 0, 0, b"12345678")) || is_enough() {
                return;
            }
        }
    });
}
