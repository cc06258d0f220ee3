//! A real `redis-server`, alone, as a replica or as a Sentinel, on a port and in a folder of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::{Cmd, Connection, FromRedisValue, RedisResult};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{poll, random_hex};

/// How long it may take to start: it reads its file first.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How long a test waits for its answer before it counts as gone.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);
/// What the product asks of a Redis: an answered write has survived the power going.
pub(crate) const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

/// Returns whether this machine has a `redis-server`; where it has none, says that the test is left out.
pub(crate) fn has_redis() -> bool {
    let is_there = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !is_there {
        leave_out("redis-server is not installed");
    }
    is_there
}

/// Says that this test is left out, beside libtest, which keeps to itself what a test says that passes.
pub(crate) fn leave_out(reason: &str) {
    use std::io::Write;
    let thread = std::thread::current();
    let line = format!("\nLEFT OUT {}: {reason}\n", thread.name().unwrap_or("a test"));
    std::io::stderr().write_all(line.as_bytes()).expect("stderr takes a line");
}

/// One process of Redis. Dropped, it ends.
pub(crate) struct Redis {
    pub(crate) address: SocketAddr,
    pub(crate) password: String,
    /// The network namespace that it runs in, where that is not the test's.
    namespace: Option<PathBuf>,
    arguments: Vec<String>,
    process: Option<Child>,
    folder: TempDir,
}

impl Redis {
    /// Starts one with these arguments, and waits until it answers.
    pub(crate) fn start(address: SocketAddr, arguments: &[&str]) -> Self {
        let mut redis = Self::new(address, random_hex(16), None, arguments);
        redis.run();
        redis.wait();
        redis
    }

    /// Makes one that is not started.
    pub(crate) fn new(address: SocketAddr, password: String, namespace: Option<PathBuf>, arguments: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("portcullis-redis-").tempdir().expect("a folder for Redis");
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Self { address, password, namespace, arguments, process: None, folder }
    }

    /// Returns what `REDIS_URL` says of it.
    pub(crate) fn url(&self) -> String {
        format!("redis://:{}@{}", self.password, self.address)
    }

    /// Starts it with what lies in its folder, and does not wait.
    pub(crate) fn run(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let mut command = command_in(self.namespace.as_deref(), "redis-server");
        command.current_dir(self.folder.path());
        let port = self.address.port().to_string();
        command.args(["--port", &port, "--bind", "0.0.0.0", "--protected-mode", "no", "--daemonize", "no", "--save", ""]);
        command.args(["--requirepass", &self.password, "--masterauth", &self.password, "--logfile", "redis.log"]);
        self.process = Some(command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("redis-server starts"));
    }

    /// Starts it as a Sentinel that watches over these, under the name `portcullis`.
    pub(crate) fn run_as_sentinel(&mut self, primary: &Redis, quorum: u32) {
        let (ip, port) = (primary.address.ip(), primary.address.port());
        // A Sentinel writes into its file what it finds out: another start goes on with that.
        let file = self.folder.path().join("sentinel.conf");
        if !file.exists() {
            let lines = [
                format!("port {}", self.address.port()),
                "bind 127.0.0.1".to_owned(),
                "protected-mode no".to_owned(),
                format!("dir {}", self.folder.path().display()),
                "logfile sentinel.log".to_owned(),
                format!("sentinel monitor portcullis {ip} {port} {quorum}"),
                format!("sentinel auth-pass portcullis {}", primary.password),
                "sentinel down-after-milliseconds portcullis 1500".to_owned(),
                "sentinel failover-timeout portcullis 10000".to_owned(),
                String::new(),
            ];
            std::fs::write(&file, lines.join("\n")).expect("a file is written");
        }
        let mut command = command_in(self.namespace.as_deref(), "redis-server");
        command.arg(&file).arg("--sentinel").stdin(Stdio::null()).stdout(Stdio::null());
        self.process = Some(command.spawn().expect("redis-server starts"));
        self.password.clear();
        self.wait();
    }

    /// Waits until it answers.
    pub(crate) fn wait(&self) {
        let started = Instant::now();
        while !self.answers() {
            assert!(started.elapsed() < START_PATIENCE, "redis-server does not answer:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Returns whether it answers.
    pub(crate) fn answers(&self) -> bool {
        self.connect().is_ok_and(|mut connection| redis::cmd("PING").query::<String>(&mut connection).is_ok_and(|answer| answer == "PONG"))
    }

    pub(crate) fn connect(&self) -> RedisResult<Connection> {
        let url = if self.password.is_empty() { format!("redis://{}", self.address) } else { self.url() };
        let connection = redis::Client::open(url)?.get_connection_with_timeout(ANSWER_PATIENCE)?;
        connection.set_read_timeout(Some(ANSWER_PATIENCE))?;
        connection.set_write_timeout(Some(ANSWER_PATIENCE))?;
        Ok(connection)
    }

    /// Asks one thing, on a connection of its own.
    pub(crate) fn ask<T: FromRedisValue>(&self, command: &Cmd) -> T {
        let mut connection = self.connect().unwrap_or_else(|error| panic!("Redis cannot be reached ({error}):\n{}", self.log()));
        command.query(&mut connection).unwrap_or_else(|error| panic!("Redis refuses: {error}"))
    }

    /// Ends it as a power cut would, as far as the kernel is not concerned, and leaves its folder.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Stops it in its tracks, or lets it go on.
    pub(crate) fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("it runs");
        kill_process(Pid::from_child(process), signal).expect("a signal can be sent");
    }

    /// Returns what it wrote down of itself.
    pub(crate) fn log(&self) -> String {
        ["redis.log", "sentinel.log"].map(|name| std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()).concat()
    }

    /// Waits until it knows something.
    #[track_caller]
    pub(crate) fn wait_for(&self, within: Duration, what: &str, is_so: impl Fn(&Self) -> bool) {
        poll(within, what, || is_so(self));
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns a program as a command in a network namespace. It becomes the program: its process id is the program's.
pub(crate) fn command_in(namespace: Option<&Path>, program: &str) -> Command {
    match namespace {
        None => Command::new(program),
        Some(namespace) => {
            let mut command = Command::new("nsenter");
            command.arg(format!("--net={}", namespace.display())).arg("--").arg(program);
            command
        }
    }
}
