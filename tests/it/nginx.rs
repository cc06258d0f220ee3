//! What a real nginx writes into its log of ours, and that each of its lines is counted once, whatever is done to the log meanwhile.

mod site;

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;

use portcullis::clock::SystemClock;
use portcullis::meter::access_log::{self, FORMAT, Line};
use portcullis::meter::log_tail::{Checkpoint, Mishaps, follow};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::harness::{PATIENCE, SOON, free_port, poll};

mod counted;
mod left_over;
mod product;
mod relay;
mod syslog;
mod told;

const MIB: usize = 1024 * 1024;

/// An nginx that asks an origin of the test's what to answer, sends a file when that says so, and writes our log.
struct Nginx {
    process: Child,
    folder: TempDir,
    address: SocketAddr,
}

impl Nginx {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("data")).unwrap();
        fs::write(folder.path().join("data/film.mkv"), vec![7; MIB]).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let (base, user) = (folder.path().display(), if rustix::process::geteuid().is_root() { "user root;" } else { "" });
        let temp: String =
            ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|kind| format!("{kind}_temp_path {base}/{kind}; ")).concat();
        let config = format!(
            "{user} worker_processes 2; pid {base}/pid; error_log {base}/error.log; events {{ worker_connections 1024; }}\n\
             http {{ {temp} keepalive_requests 1000000; log_format share escape=json '{FORMAT}'; access_log {base}/access.log share;\n\
             server {{ listen {address} sndbuf=64k; location /none {{ return 204; }}\n\
             location / {{ proxy_pass http://127.0.0.1:{}; }}\n\
             location /_files/ {{ internal; alias {base}/data/; }} }} }}",
            origin()
        );
        fs::write(folder.path().join("nginx.conf"), config).unwrap();
        let mut command = Command::new(program());
        command.arg("-p").arg(folder.path()).arg("-c").arg(folder.path().join("nginx.conf")).args(["-g", "daemon off;"]);
        let process = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        poll(SOON, "nginx listens", || TcpStream::connect(address).is_ok());
        Self { process, folder, address }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns the lines that are there once there are so many.
    fn lines(&self, count: usize) -> Vec<String> {
        let read = || fs::read_to_string(self.path("access.log")).unwrap_or_default();
        poll(SOON, "the lines are written", || read().lines().count() >= count);
        read().lines().map(str::to_owned).collect()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.signal(Signal::TERM);
        self.process.wait().unwrap();
    }
}

/// Returns where nginx is.
fn program() -> &'static str {
    let program = ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx"].into_iter().find(|path| Path::new(path).exists());
    program.expect("nginx is installed")
}

/// Starts what decides: a request for the film is answered with the film, and anything else with nothing. Returns its port.
fn origin() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut head = Vec::new();
            let mut lines = BufReader::new(stream.try_clone().unwrap());
            while lines.read_until(b'\n', &mut head).is_ok_and(|n| n > 2) {}
            let answer = if head.starts_with(b"GET /film") || head.starts_with(b"HEAD /film") {
                "HTTP/1.1 200 OK\r\nX-Accel-Redirect: /_files/film.mkv\r\nX-Portcullis-Request: a-request.of_ours~1\r\n"
            } else {
                "HTTP/1.1 404 Not Found\r\n"
            };
            let _ = write!(stream, "{answer}Content-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    port
}

#[test]
fn each_kind_of_answer_is_a_line_that_says_what_was_sent() {
    let nginx = Nginx::start();
    let film = fs::metadata(nginx.path("data/film.mkv")).unwrap();
    let ask = |method: &str, rest: &[u8]| {
        let mut stream = nginx.connect();
        stream.write_all(&[method.as_bytes(), b" /", rest, b"\r\nHost: x\r\nConnection: close\r\n\r\n"].concat()).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    };
    ask("GET", b"film HTTP/1.1");
    ask("GET", b"film HTTP/1.1\r\nRange: bytes=10-29");
    ask("HEAD", b"film HTTP/1.1");
    ask("GET", b"film HTTP/1.1\r\nRange: bytes=9999999-");
    ask("GET", b"film?\"},{\\x22\xfc HTTP/1.1\r\nUser-Agent: \"}\\\xff");
    ask("GET", b"other HTTP/1.1");
    // Whoever leaves has had what nginx does not know.
    let mut leaving = nginx.connect();
    leaving.write_all(b"GET /film HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    leaving.read_exact(&mut [0; 1000]).unwrap();
    drop(leaving);
    let lines = nginx.lines(7);
    let lines: Vec<Line<'_>> =
        lines.iter().map(|line| access_log::parse(line.as_bytes()).unwrap_or_else(|error| panic!("{error}: {line}"))).collect();
    let said: Vec<_> = lines.iter().map(|line| (line.status, line.request.is_empty(), line.is_whole, line.file.is_some())).collect();
    assert_eq!(
        said,
        [
            (200, false, true, true),
            (206, false, true, true),
            (200, false, true, true),
            (416, false, true, false),
            (200, false, true, true),
            (404, true, true, false),
            (200, false, false, true)
        ]
    );
    let bodies: Vec<_> = lines.iter().map(|line| line.body_bytes).collect();
    assert_eq!((&bodies[..3], bodies[4]), (&[MIB as u64, 20, 0][..], MIB as u64));
    assert!((1000 - 300..MIB as u64).contains(&bodies[6]), "{bodies:?}");
    for line in lines.iter().filter(|line| line.file.is_some()) {
        assert_eq!((line.request, line.file), ("a-request.of_ours~1", Some((film.mtime() as u64, MIB as u64))));
        assert_eq!((line.local, line.peer.ip()), (nginx.address, nginx.address.ip()));
    }
}

#[test]
fn each_line_of_a_hundred_thousand_is_counted_once_over_rotations_and_restarts() {
    const CLIENTS: usize = 8;
    const REQUESTS: usize = 12_500;
    const AT_ONCE: usize = 50;
    let nginx = Nginx::start();
    let busy: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut stream = nginx.connect();
            thread::spawn(move || {
                let asked = b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n".repeat(AT_ONCE);
                let mut answers = BufReader::new(stream.try_clone().unwrap());
                for _ in 0..REQUESTS / AT_ONCE {
                    stream.write_all(&asked).unwrap();
                    let (mut line, mut seen) = (Vec::new(), 0);
                    while seen < AT_ONCE {
                        line.clear();
                        assert!(answers.read_until(b'\n', &mut line).unwrap() > 0, "nginx goes on");
                        seen += usize::from(line.starts_with(b"HTTP/1.1 204"));
                    }
                }
            })
        })
        .collect();
    let path = nginx.path("access.log");
    let (mut counted, mut saved): (Vec<(u64, u64)>, Option<Checkpoint>) = (Vec::new(), None);
    let all = CLIENTS * REQUESTS;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (mut rotations, mut restarts) = (0, 0);
    while counted.len() < all {
        let (sender, mut batches) = mpsc::channel(1);
        let parse = |line: &[u8]| access_log::parse(line).map(|line| (line.status, line.connection));
        follow(path.clone(), saved.clone(), Arc::new(SystemClock::starting_after(None)), parse, sender).unwrap();
        loop {
            let batch = runtime.block_on(async { tokio::time::timeout(PATIENCE, batches.recv()).await });
            let batch = batch.unwrap_or_else(|_| panic!("only {} of {all} came", counted.len())).expect("it goes on");
            assert_eq!((batch.mishaps, batch.trouble), (Mishaps::default(), None));
            // Whoever dies has saved both or neither.
            if restarts < 3 && counted.len() > (restarts + 1) * all / 5 {
                restarts += 1;
                break;
            }
            counted
                .extend(batch.lines.into_iter().map(Result::unwrap).filter(|(status, _)| *status == 204).map(|(_, connection)| connection));
            saved = batch.checkpoint;
            if rotations < 4 && counted.len() > rotations * all / 5 {
                rotations += 1;
                // nginx opens it anew when its workers come to it, however busy they are.
                poll(SOON, "the log is there again", || path.exists());
                fs::rename(&path, nginx.path(&format!("access.log.{rotations}"))).unwrap();
                nginx.signal(Signal::USR1);
            }
            if counted.len() >= all {
                break;
            }
        }
    }
    busy.into_iter().for_each(|client| client.join().unwrap());
    assert_eq!((rotations, restarts, counted.len()), (4, 3, all));
    assert_eq!(counted.iter().collect::<HashSet<_>>().len(), all, "each once");
}
