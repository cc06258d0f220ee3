//! Three controllers and a Redis, each in a network namespace of its own, and what is broken among them right now.
//!
//! Each controller has two links: one to Redis, which can be cut, and one to the test, which holds always. So whoever is cut off from
//! Redis is still reached by owners and recipients.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Answer, Client, DURABLE, Redis, command_in, noise, random_hex};

/// How many controllers share the Redis.
pub(super) const CONTROLLERS: usize = 3;
/// How long a controller may take for an answer before whoever asked goes elsewhere.
pub(super) const PATIENCE: Duration = Duration::from_secs(4);
/// How long a start may take, with everything healthy.
pub(super) const START_PATIENCE: Duration = Duration::from_secs(60);
const OWNER_PORT: u16 = 8000;
const RECIPIENT_PORT: u16 = 8001;
const REDIS_PORT: u16 = 6379;
/// The files that are shared: their names, and how long they are.
pub(super) const FILES: [(&str, usize); 4] =
    [("word.txt", 700), ("note.pdf", 30_000), ("song.ogg", 400_000), ("film.mkv", 4 * 1024 * 1024)];
/// The one that slow readers take.
pub(super) const LONG_FILE: usize = 3;

/// Network namespaces, and the links between them. Dropped, they are gone.
pub(super) struct Networks {
    /// What the names of this test's namespaces begin with: the process, by which those of tests that were killed are known and removed,
    /// and a count.
    prefix: String,
    /// The third part of every address: tests that run beside each other have others.
    place: u8,
}

impl Networks {
    /// Returns whether this machine lets the test make them.
    pub(super) fn can_be_made() -> bool {
        let name = format!("portcullis-{}-try", std::process::id());
        let made = rustix::process::getuid().is_root() && try_ip(&["netns", "add", &name]);
        made && command_in(Some(&path_of(&name)), "true").status().is_ok_and(|status| status.success()) && try_ip(&["netns", "del", &name])
    }

    fn make() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        remove_left_over();
        let networks = Self { prefix: format!("portcullis-{process}-{count}-"), place: (process.wrapping_add(count) % 250) as u8 };
        let redis = networks.name("redis");
        let all: Vec<String> = (0..CONTROLLERS).map(|n| networks.name(&n.to_string())).chain([redis.clone()]).collect();
        for name in &all {
            ip(&["netns", "add", name]);
            ip(&["-n", name, "link", "set", "lo", "up"]);
        }
        for (n, name) in all.iter().enumerate() {
            networks.link_to_test(n, name);
        }
        for (n, name) in all.iter().enumerate().take(CONTROLLERS) {
            let (near, far) = (networks.redis_seen_by(n), networks.address(19, n, 2));
            let device = format!("to{n}");
            ip(&["-n", name, "link", "add", "redis", "type", "veth", "peer", "name", &device, "netns", &redis]);
            ip(&["-n", name, "addr", "add", &format!("{far}/30"), "dev", "redis"]);
            ip(&["-n", &redis, "addr", "add", &format!("{near}/30"), "dev", &device]);
            ip(&["-n", name, "link", "set", "redis", "up"]);
            ip(&["-n", &redis, "link", "set", &device, "up"]);
        }
        networks
    }

    fn link_to_test(&self, n: usize, name: &str) {
        let device = format!("pc{}t{n}", self.place);
        ip(&["link", "add", &device, "type", "veth", "peer", "name", "test", "netns", name]);
        ip(&["addr", "add", &format!("{}/30", self.address(18, n, 1)), "dev", &device]);
        ip(&["-n", name, "addr", "add", &format!("{}/30", self.seen_by_test(n)), "dev", "test"]);
        ip(&["link", "set", &device, "up"]);
        ip(&["-n", name, "link", "set", "test", "up"]);
    }

    fn name(&self, of: &str) -> String {
        format!("{}{of}", self.prefix)
    }

    /// Returns an address of a network of four: those of the range that is set aside for tests of machines.
    fn address(&self, second: u8, n: usize, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, second, self.place, u8::try_from(4 * n).expect("few networks") + last)
    }

    /// Returns where the test finds a controller; the last is Redis.
    fn seen_by_test(&self, n: usize) -> Ipv4Addr {
        self.address(18, n, 2)
    }

    fn redis_seen_by(&self, n: usize) -> Ipv4Addr {
        self.address(19, n, 1)
    }

    /// Cuts a controller off from Redis, or joins it again. What is on its way is lost, and nobody is told.
    fn cut(&self, n: usize, is_cut: bool) {
        ip(&["-n", &self.name("redis"), "link", "set", &format!("to{n}"), if is_cut { "down" } else { "up" }]);
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        remove(&self.prefix);
    }
}

/// Removes the namespaces of tests that were killed, with what runs in them.
fn remove_left_over() {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return };
    for name in entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
        let process =
            name.strip_prefix("portcullis-").and_then(|rest| rest.split('-').next()).and_then(|process| process.parse::<u32>().ok());
        if process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists()) {
            remove(&name);
        }
    }
}

fn remove(prefix: &str) {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return };
    for name in entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).filter(|name| name.starts_with(prefix)) {
        let inside = Command::new("ip").args(["netns", "pids", &name]).output().map(|output| output.stdout).unwrap_or_default();
        let pids = String::from_utf8_lossy(&inside).lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)).collect::<Vec<_>>();
        for pid in pids {
            let _ = kill_process(pid, Signal::KILL);
        }
        try_ip(&["netns", "del", &name]);
    }
}

fn path_of(namespace: &str) -> PathBuf {
    Path::new("/run/netns").join(namespace)
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("ip can be run");
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn try_ip(arguments: &[&str]) -> bool {
    Command::new("ip").args(arguments).output().is_ok_and(|output| output.status.success())
}

/// What ails a controller.
#[derive(Debug, Default)]
pub(super) struct Ailments {
    pub(super) is_paused: bool,
    pub(super) is_cut: bool,
    /// Whether it is to stay dead for now.
    pub(super) is_dead: bool,
    /// Whether it has answered since it was started.
    pub(super) is_up: bool,
}

impl Ailments {
    pub(super) fn is_healthy(&self) -> bool {
        self.is_up && !self.is_dead && !self.is_paused && !self.is_cut
    }
}

struct Running {
    process: Option<Child>,
    ailments: Ailments,
    /// When it may be started again, where it has ended by itself: it refuses to start without Redis.
    again: Instant,
}

/// The house.
pub(super) struct House {
    pub(super) root: PathBuf,
    pub(super) contents: Vec<Vec<u8>>,
    pub(super) token: String,
    controllers: [Mutex<Running>; CONTROLLERS],
    redis: Mutex<Redis>,
    /// Whether Redis runs and is not paused.
    is_redis_up: Mutex<bool>,
    networks: Networks,
    settings: Vec<(String, String)>,
    folder: TempDir,
}

impl House {
    /// Starts Redis and the controllers, and waits until all of them answer.
    pub(super) fn start(settings: &[(&str, &str)]) -> Self {
        let networks = Networks::make();
        let folder = tempfile::Builder::new().prefix("portcullis-it-").tempdir().expect("a folder for the test");
        let root = folder.path().join("nas");
        std::fs::create_dir(&root).expect("the root is made");
        let contents: Vec<Vec<u8>> = FILES.iter().enumerate().map(|(n, (_, size))| noise(*size, n as u64 + 1)).collect();
        for ((name, _), content) in FILES.iter().zip(&contents) {
            std::fs::write(root.join(name), content).expect("the file is written");
        }
        let address = SocketAddr::new(IpAddr::V4(networks.seen_by_test(CONTROLLERS)), REDIS_PORT);
        let mut redis = Redis::new(address, random_hex(16), Some(path_of(&networks.name("redis"))), &DURABLE);
        redis.run();
        redis.wait();
        let mut own = vec![
            ("OWNER_LISTEN".to_owned(), format!("0.0.0.0:{OWNER_PORT}")),
            ("RECIPIENT_LISTEN".to_owned(), format!("0.0.0.0:{RECIPIENT_PORT}")),
            ("BASE_URL".to_owned(), "http://portcullis.test".to_owned()),
            ("MAX_CONNECTIONS_PER_ADDRESS".to_owned(), "1024".to_owned()),
            ("JWT_SECRET".to_owned(), random_hex(32)),
            ("DRAIN_SECONDS".to_owned(), "1".to_owned()),
        ];
        own.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let again = Instant::now();
        let controllers = std::array::from_fn(|_| Mutex::new(Running { process: None, ailments: Ailments::default(), again }));
        let house = Self {
            root,
            contents,
            token: random_hex(32),
            controllers,
            redis: Mutex::new(redis),
            is_redis_up: Mutex::new(true),
            networks,
            settings: own,
            folder,
        };
        house.until_all_are_up();
        house
    }

    pub(super) fn until_all_are_up(&self) {
        let started = Instant::now();
        while !self.tend().iter().all(|is_up| *is_up) {
            assert!(started.elapsed() < START_PATIENCE, "they do not start:\n{}", self.logs(40));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Starts what has ended and is to run, as a service manager does. Returns who answers.
    pub(super) fn tend(&self) -> [bool; CONTROLLERS] {
        std::array::from_fn(|n| {
            let mut running = self.controllers[n].lock().expect("nobody panicked");
            if running.ailments.is_dead || running.ailments.is_paused {
                return false;
            }
            if let Some(process) = &mut running.process
                && let Some(status) = process.try_wait().expect("a child can be asked")
            {
                self.note(n, &format!("--- it ended: {status} ---"));
                running.process = None;
                running.ailments.is_up = false;
                running.again = Instant::now() + Duration::from_secs(1);
            }
            if running.process.is_none() && Instant::now() >= running.again {
                running.process = Some(self.spawn(n));
            }
            if running.process.is_some() && !running.ailments.is_up {
                running.ailments.is_up = self.ask(n, self.owner(n), "GET", "/livez", &[], None).is_some_and(|answer| answer.status == 200);
            }
            running.ailments.is_up
        })
    }

    fn spawn(&self, n: usize) -> Child {
        let namespace = path_of(&self.networks.name(&n.to_string()));
        let mut command = command_in(Some(&namespace), env!("CARGO_BIN_EXE_portcullis"));
        command.env_clear().env("PATH", "/usr/bin:/bin").current_dir(self.folder.path());
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command.env("STATE_DIR", self.folder.path().join(format!("state-{n}"))).env("OWNER_TOKEN", &self.token);
        let redis = self.redis.lock().expect("nobody panicked");
        let url = format!("redis://:{}@{}:{REDIS_PORT}", redis.password, self.networks.redis_seen_by(n));
        command.env("REDIS_URL", url).env("CONTROLLER_NAME", format!("nas-{n}"));
        let log = || File::options().append(true).create(true).open(self.log_path(n)).expect("a log can be opened");
        command.arg("serve").arg(&self.root).stdin(Stdio::null()).stdout(log()).stderr(log());
        command.spawn().expect("the binary starts")
    }

    fn log_path(&self, n: usize) -> PathBuf {
        self.folder.path().join(format!("nas-{n}.log"))
    }

    fn note(&self, n: usize, line: &str) {
        use std::io::Write;
        let mut log = File::options().append(true).create(true).open(self.log_path(n)).expect("a log can be opened");
        writeln!(log, "{line}").expect("a log can be written");
    }

    /// Returns the ends of what the controllers wrote.
    pub(super) fn logs(&self, lines: usize) -> String {
        let log = |n: usize| {
            let text = std::fs::read_to_string(self.log_path(n)).unwrap_or_default();
            let all: Vec<&str> = text.lines().collect();
            format!("--- nas-{n} ---\n{}\n", all[all.len().saturating_sub(lines)..].join("\n"))
        };
        (0..CONTROLLERS).map(log).collect()
    }

    /// Returns whether anything in what they wrote must not be there.
    pub(super) fn said_something_bad(&self) -> Option<String> {
        (0..CONTROLLERS).find_map(|n| {
            let text = std::fs::read_to_string(self.log_path(n)).unwrap_or_default();
            let line = text.lines().find(|line| line.contains("panicked at"))?;
            Some(format!("nas-{n}: {line}"))
        })
    }

    pub(super) fn owner(&self, n: usize) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.networks.seen_by_test(n)), OWNER_PORT)
    }

    pub(super) fn recipient(&self, n: usize) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.networks.seen_by_test(n)), RECIPIENT_PORT)
    }

    /// Asks on a connection of its own; `None` where no whole answer came in time.
    fn ask(&self, _: usize, to: SocketAddr, method: &str, path: &str, headers: &[&str], body: Option<&Value>) -> Option<Answer> {
        let mut client = Client::try_connect(to, None, None).ok()?.giving_up_after(PATIENCE);
        let mut headers = headers.to_vec();
        headers.push("Connection: close");
        let answer = match body {
            Some(body) => {
                headers.push("Content-Type: application/json");
                client.request_with(method, path, &headers, body.to_string().as_bytes())
            }
            None => client.request(method, path, &headers),
        };
        answer.filter(|answer| answer.complete)
    }

    /// Asks a controller's owner side, signed in.
    pub(super) fn api(&self, n: usize, method: &str, path: &str, headers: &[&str], body: Option<&Value>) -> Option<Answer> {
        let authorization = format!("Authorization: Bearer {}", self.token);
        let mut all = vec![authorization.as_str()];
        all.extend(headers);
        self.ask(n, self.owner(n), method, path, &all, body)
    }

    /// Asks a controller's recipient side.
    pub(super) fn visit(&self, n: usize, method: &str, path: &str, headers: &[&str]) -> Option<Answer> {
        self.ask(n, self.recipient(n), method, path, headers, None)
    }

    pub(super) fn ailments<T>(&self, n: usize, look: impl FnOnce(&Ailments) -> T) -> T {
        look(&self.controllers[n].lock().expect("nobody panicked").ailments)
    }

    pub(super) fn is_redis_up(&self) -> bool {
        *self.is_redis_up.lock().expect("nobody panicked")
    }

    pub(super) fn redis_connection(&self) -> Option<redis::Connection> {
        self.redis.lock().expect("nobody panicked").connect().ok()
    }

    // ---- What is broken, and mended ----

    pub(super) fn kill(&self, n: usize) {
        let mut running = self.controllers[n].lock().expect("nobody panicked");
        running.ailments.is_dead = true;
        running.ailments.is_up = false;
        running.ailments.is_paused = false;
        if let Some(mut process) = running.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        self.note(n, "--- kill -9 ---");
    }

    pub(super) fn revive(&self, n: usize) {
        self.controllers[n].lock().expect("nobody panicked").ailments.is_dead = false;
    }

    pub(super) fn pause(&self, n: usize, is_paused: bool) {
        let mut running = self.controllers[n].lock().expect("nobody panicked");
        if let Some(process) = &running.process
            && running.ailments.is_paused != is_paused
        {
            self.note(n, if is_paused { "--- SIGSTOP ---" } else { "--- SIGCONT ---" });
            let _ = kill_process(Pid::from_child(process), if is_paused { Signal::STOP } else { Signal::CONT });
            running.ailments.is_paused = is_paused;
        }
    }

    pub(super) fn cut(&self, n: usize, is_cut: bool) {
        let mut running = self.controllers[n].lock().expect("nobody panicked");
        self.note(n, if is_cut { "--- cut off from Redis ---" } else { "--- joined to Redis ---" });
        self.networks.cut(n, is_cut);
        running.ailments.is_cut = is_cut;
    }

    pub(super) fn kill_redis(&self) {
        *self.is_redis_up.lock().expect("nobody panicked") = false;
        self.redis.lock().expect("nobody panicked").kill();
    }

    pub(super) fn start_redis(&self) {
        let mut redis = self.redis.lock().expect("nobody panicked");
        redis.run();
        redis.wait();
        *self.is_redis_up.lock().expect("nobody panicked") = true;
    }

    pub(super) fn pause_redis(&self, is_paused: bool) {
        if is_paused {
            *self.is_redis_up.lock().expect("nobody panicked") = false;
        }
        self.redis.lock().expect("nobody panicked").signal(if is_paused { Signal::STOP } else { Signal::CONT });
        if !is_paused {
            *self.is_redis_up.lock().expect("nobody panicked") = true;
        }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        for n in 0..CONTROLLERS {
            self.kill(n);
        }
        if std::thread::panicking() && std::env::var_os("CONTROLLERS_KEEP").is_some() {
            let kept = format!("/tmp/controllers-kept-{}", std::process::id());
            let _ = Command::new("cp").arg("-r").arg(self.folder.path()).arg(&kept).status();
            eprintln!("kept: {kept}");
        }
    }
}
