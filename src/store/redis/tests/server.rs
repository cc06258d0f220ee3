//! A `redis-server` for tests: one for the whole test binary, and more where a test does something to it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tempfile::TempDir;

use super::super::{RedisAddress, RedisOptions, RedisStore};

/// What each is started with: an answered write has survived the power going.
const DURABLE: [&str; 6] = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""];
/// What operators are told to let Portcullis's account do.
const MANUAL: &str = include_str!("../../../../docs/operating.md");
/// The keys of that account in the manual, and here, where each test has a prefix of its own.
const KEYS: [&str; 2] = ["~{portcullis}:*", "~{*"];
/// How long one may take to answer.
const READY: Duration = Duration::from_secs(30);

/// One server. It ends with whoever holds it, and with this process, however that ends.
pub(in crate::store) struct Server {
    folder: TempDir,
    process: Child,
}

impl Server {
    /// Starts one with an empty folder.
    pub(in crate::store) fn start(args: &[&str]) -> Self {
        // Memory, where there is some to be had: what is tested is the product and not the disk.
        let folder = if Path::new("/dev/shm").is_dir() { tempfile::tempdir_in("/dev/shm") } else { tempfile::tempdir() };
        let folder = folder.unwrap();
        let process = run(&folder, args);
        let server = Self { folder, process };
        server.wait();
        server
    }

    pub(in crate::store) fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    pub(in crate::store) fn options(&self, prefix: &str) -> RedisOptions {
        let address = RedisAddress::parse(&by_account(&self.socket())).unwrap();
        RedisOptions { address, prefix: prefix.to_owned(), replicas: 0, folder: [1; 16] }
    }

    /// Kills it as the power would, as far as the kernel is not concerned.
    pub(in crate::store) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again with what it has written.
    pub(in crate::store) fn start_again(&mut self, args: &[&str]) {
        let _ = std::fs::remove_file(self.socket());
        self.process = run(&self.folder, args);
        self.wait();
    }

    /// Waits until it answers, and makes the account.
    fn wait(&self) {
        let begin = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        while self.say("PING\r\n") != "+PONG\r\n" {
            assert!(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap() - begin < READY, "redis-server does not answer");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(self.say(&format!("ACL SETUSER {}\r\n", account().trim_start_matches("user "))), "+OK\r\n");
    }

    /// Starts a Sentinel with these words in its settings; it has no socket of a file.
    pub(in crate::store) fn sentinel(port: u16, words: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("sentinel.conf"), words).unwrap();
        let mut command = Command::new("redis-server");
        command.current_dir(folder.path()).args(["sentinel.conf", "--sentinel", "--port", &port.to_string()]);
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { folder, process }
    }

    /// As [`Server::say`], over TCP.
    pub(in crate::store) fn say_tcp(&self, port: u16, command: &str) -> String {
        std::net::TcpStream::connect(("127.0.0.1", port)).map(|socket| ask(socket, command)).unwrap_or_default()
    }

    /// Sends a command as a person types it, and returns the beginning of the answer.
    pub(in crate::store) fn say(&self, command: &str) -> String {
        UnixStream::connect(self.socket()).map(|socket| ask(socket, command)).unwrap_or_default()
    }

    /// Returns its process.
    pub(in crate::store) fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn ask(mut socket: impl Read + Write, command: &str) -> String {
    socket.write_all(command.as_bytes()).unwrap();
    let mut answer = [0; 4096];
    let length = socket.read(&mut answer).unwrap_or(0);
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

/// Returns a port that nobody has, from below those that the kernel gives to whoever asks for any: other tests ask for many, and one
/// that is free now would be gone before the server takes it.
pub(in crate::store) fn free_port() -> u16 {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    loop {
        let nth = std::process::id().wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
        let port = 20_000 + (nth % 12_000) as u16;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn run(folder: &TempDir, args: &[&str]) -> Child {
    let mut command = Command::new("redis-server");
    command.current_dir(folder.path()).args(["--port", "0", "--unixsocket", "redis.sock", "--daemonize", "no"]).args(DURABLE).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("redis-server is installed; apt-get install redis-server")
}

/// Returns the line of the manual that makes an account, for the keys of tests.
fn account() -> String {
    let line = MANUAL.lines().find(|line| line.starts_with("user portcullis on ")).expect("the manual has an account");
    assert!(line.contains(KEYS[0]), "{line}");
    line.replace(KEYS[0], KEYS[1]).replace("PASSWORD", "s3cret")
}

/// Returns the address of a server by which a test is the manual's account.
fn by_account(socket: &Path) -> String {
    format!("redis+unix://{}?user=portcullis&pass=s3cret", socket.display())
}

/// Returns the server that the tests of this process share. Nobody drops it: a shell ends it, and removes its folder, once the pipe to
/// this process is closed.
fn shared() -> &'static Path {
    static SOCKET: OnceLock<PathBuf> = OnceLock::new();
    SOCKET.get_or_init(|| {
        let server = Server::start(&[]);
        let script = "cat >/dev/null; kill -9 \"$1\"; rm -rf -- \"$2\"";
        let mut guard = Command::new("sh");
        guard.args(["-c", script, "sh", &server.id().to_string()]).arg(server.folder.path()).stdin(Stdio::piped());
        std::mem::forget(guard.spawn().unwrap().stdin.take());
        let socket = server.socket();
        std::mem::forget(server);
        socket
    })
}

/// Returns whether this machine has a `redis-server`; where it has none, says that the test is left out.
pub(in crate::store) fn is_there() -> bool {
    static IS_THERE: OnceLock<bool> = OnceLock::new();
    let is_there = *IS_THERE.get_or_init(|| Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_ok());
    if !is_there {
        let thread = std::thread::current();
        let line = format!("\nLEFT OUT {}: redis-server is not installed\n", thread.name().unwrap_or("a test"));
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
    is_there
}

/// Makes a store with nothing in it; `None` where there is no Redis to be had.
pub(in crate::store) async fn store() -> Option<(Arc<RedisStore>, ())> {
    if !is_there() {
        return None;
    }
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let prefix = format!("test-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let address = RedisAddress::parse(&by_account(shared())).unwrap();
    let store = RedisStore::open(&RedisOptions { address, prefix, replicas: 0, folder: [1; 16] }).await.unwrap();
    Some((Arc::new(store), ()))
}

impl RedisStore {
    /// Returns another on the same keys, as another process has it.
    pub(in crate::store) fn twin(&self) -> Self {
        let address = RedisAddress::parse(&by_account(shared())).unwrap();
        let prefix = self.keys.prefix().trim_start_matches('{').trim_end_matches("}:").to_owned();
        Self::connect(&RedisOptions { address, prefix, replicas: 0, folder: [2; 16] }).unwrap()
    }
}
