//! A little HTTP server behind a mount, which remembers how it was asked.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::harness::SOON;

/// The longest head that it reads.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Answers every request with the same bytes, as long as the test runs.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Origin {
    pub(crate) fn serve(content: Vec<u8>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("it has one");
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let noted = heads.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                if let Some(head) = read_head(&mut stream) {
                    noted.lock().expect("nobody panics with it").push(head);
                    answer(&mut stream, &content);
                }
            }
        });
        Self { address, heads }
    }

    /// Returns how it was asked last.
    #[track_caller]
    pub(crate) fn last_head(&self) -> String {
        self.heads.lock().expect("nobody panics with it").last().expect("it was asked").clone()
    }
}

fn read_head(stream: &mut TcpStream) -> Option<String> {
    stream.set_read_timeout(Some(SOON)).ok()?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == MAX_HEAD_BYTES || stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

/// A visitor who leaves early is no mistake here.
fn answer(stream: &mut TcpStream, content: &[u8]) {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", content.len());
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(content));
}
