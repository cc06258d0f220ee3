//! nginx with the configuration that `portcullis nginx-config` prints, before a double of portcullis that says what a test wants.

mod asking;
mod files;
mod house;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use portcullis::delivery::Bounds;
use portcullis::delivery::nginx::AccessLog;
use portcullis::delivery::nginx::site::{Site, SiteKey};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::program;
use crate::harness::{PATIENCE, SOON, free_port, poll};

/// What a test says in portcullis's place: it has the target, the stream to answer on, and the rest of the head is kept.
type Says = dyn Fn(&str, &mut TcpStream) + Send + Sync;

/// What stands in portcullis's place.
struct Double {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Double {
    fn new(says: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, asked, says): (_, _, Arc<Says>) = (listener.local_addr().unwrap(), Arc::default(), Arc::new(says));
        let seen: Arc<Mutex<Vec<String>>> = Arc::clone(&asked);
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let (seen, says) = (Arc::clone(&seen), Arc::clone(&says));
                thread::spawn(move || {
                    let mut lines = BufReader::new(stream.try_clone().unwrap());
                    let mut head = Vec::new();
                    while lines.read_until(b'\n', &mut head).is_ok_and(|n| n > 2) {}
                    let head = String::from_utf8_lossy(&head).into_owned();
                    let length: usize = field(&head, "Content-Length").map_or(0, |value| value.parse().unwrap());
                    let mut body = vec![0; length];
                    lines.read_exact(&mut body).unwrap();
                    let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
                    seen.lock().unwrap().push(head + &String::from_utf8_lossy(&body));
                    says(&target, &mut stream);
                });
            }
        });
        Self { address, asked }
    }

    /// Leads to the file that the target names: `/part/NAME` or `/whole/NAME`; any other target is a page that says its name.
    fn of_files() -> Self {
        Self::new(|target, stream| {
            let _ = match target.strip_prefix("/part/").or_else(|| target.strip_prefix("/whole/")) {
                Some(_) => say(stream, "200 OK", &format!("X-Accel-Redirect: /_portcullis{target}\r\n{FILE_FIELDS}"), ""),
                None => say(stream, "200 OK", "X-Robots-Tag: noindex\r\n", target),
            };
        })
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// What portcullis says with a file.
const FILE_FIELDS: &str = "Content-Type: video/x-matroska\r\n\
    Content-Disposition: attachment; filename=\"film.mkv\"\r\n\
    Content-Security-Policy: sandbox; default-src 'none'\r\n\
    Cache-Control: private, no-store, no-transform\r\n\
    X-Content-Type-Options: nosniff\r\n\
    X-Robots-Tag: noindex, nofollow, noarchive\r\n\
    Referrer-Policy: no-referrer\r\n\
    Cross-Origin-Resource-Policy: same-origin\r\n\
    Repr-Digest: sha-256=:AAAA:\r\n\
    Content-Location: ../get/00/film.mkv\r\n\
    X-Portcullis-Request: a-request\r\n";

fn say(stream: &mut TcpStream, status: &str, fields: &str, body: &str) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

/// Returns a field of a head, by its name without regard to case; where it stands twice, both.
fn field(head: &str, name: &str) -> Option<String> {
    let head = head.split("\r\n\r\n").next().unwrap_or_default();
    let named = head.lines().skip(1).filter_map(|line| line.split_once(": ")).filter(|(other, _)| other.eq_ignore_ascii_case(name));
    let values: Vec<&str> = named.map(|(_, value)| value).collect();
    (!values.is_empty()).then(|| values.join(" | "))
}

/// nginx with a configuration of ours.
struct Nginx {
    process: Child,
    folder: TempDir,
    address: SocketAddr,
    access_log: PathBuf,
    double: Double,
}

impl Nginx {
    fn start(double: Double) -> Self {
        Self::with(double, |_| ())
    }

    fn with(double: Double, change: impl FnOnce(&mut Site)) -> Self {
        let folder = folder();
        let mut site = site(folder.path(), double.address);
        change(&mut site);
        let text = site.standalone(&key(), &folder.path().join("run")).unwrap();
        Self::run(double, folder, &site, &text, &mut Command::new(program()))
    }

    /// Starts nginx by a command that may do something else first.
    fn run(double: Double, folder: TempDir, site: &Site, text: &str, command: &mut Command) -> Self {
        let file = folder.path().join("nginx.conf");
        fs::write(&file, format!("{}{text}", user())).unwrap();
        command.args(["-e", "stderr", "-g", "daemon off;", "-c"]).arg(file);
        let process = command.stdin(Stdio::null()).stderr(fs::File::create(folder.path().join("stderr")).unwrap()).spawn().unwrap();
        let (AccessLog::File(access_log) | AccessLog::Syslog(access_log)) = site.access_log.clone();
        let nginx = Self { process, folder, address: site.listen, access_log, double };
        poll(SOON, "nginx listens", || TcpStream::connect(site.listen).is_ok());
        nginx
    }

    fn put(&self, name: impl AsRef<Path>, content: &[u8]) -> PathBuf {
        let path = self.folder.path().join("nas").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends bytes and returns all that comes back until the connection ends.
    fn talk(&self, raw: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        let _ = stream.write_all(raw);
        read_all(&mut stream)
    }

    /// Sends a request over a connection of its own; `fields` end with a line break.
    fn ask(&self, method: &str, target: &str, fields: &str) -> Answer {
        Answer(self.talk(format!("{method} {target} HTTP/1.1\r\nHost: nas.example\r\n{fields}Connection: close\r\n\r\n").as_bytes()))
    }

    fn post(&self, target: &str, body: &str) -> Answer {
        let length = body.len();
        let head = format!("POST {target} HTTP/1.1\r\nHost: nas.example\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        Answer(self.talk((head + body).as_bytes()))
    }

    /// Returns the lines of the log once there are so many: a line comes behind its answer.
    fn log(&self, count: usize) -> Vec<String> {
        let read = || fs::read_to_string(&self.access_log).unwrap().lines().map(str::to_owned).collect::<Vec<_>>();
        poll(SOON, "the lines are written", || read().len() >= count);
        read()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        kill_process(Pid::from_child(&self.process), Signal::TERM).unwrap();
        self.process.wait().unwrap();
    }
}

/// Reads to the end of a connection, however it comes.
fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "after {:?}", String::from_utf8_lossy(&all)),
    }
    all
}

/// An answer, or silence.
struct Answer(Vec<u8>);

impl Answer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }

    #[track_caller]
    fn status(&self) -> u16 {
        let text = self.text();
        text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("it is an answer: {text:?}"))
    }

    fn field(&self, name: &str) -> Option<String> {
        field(&self.text(), name)
    }

    fn body(&self) -> &[u8] {
        let end = self.0.windows(4).position(|four| four == b"\r\n\r\n").expect("it has a head");
        &self.0[end + 4..]
    }
}

/// Returns what lets nginx's workers read what the test's own account can.
fn user() -> &'static str {
    if rustix::process::geteuid().is_root() { "user root;\n" } else { "" }
}

/// Returns a folder with what nginx needs. Others may look into it: nginx may run as somebody else.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["nas", "run"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    folder
}

fn site(folder: &Path, upstream: SocketAddr) -> Site {
    Site {
        listen: SocketAddr::from(([127, 0, 0, 1], free_port())),
        upstream,
        root: folder.join("nas"),
        access_log: AccessLog::File(folder.join("access.log")),
        forwarders: Vec::new(),
        bounds: Bounds { connections: 512, connections_per_address: 256 },
    }
}

fn key() -> SiteKey {
    SiteKey::of("a secret of the test's")
}
