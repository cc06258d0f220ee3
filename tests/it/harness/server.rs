//! The real binary on free ports, with a folder and a state of its own.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::http::{Answer, Client, path_of};
use super::nginx::WORKERS;
use super::{Nginx, is_behind_nginx, poll, random_hex};

/// How long a start may take: the machine may be busy with other tests.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How long anything else that is awaited may take.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Returns a port that nothing listens on. It lies below the range that outgoing connections draw from, so that none
/// of them takes it before the server does.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u32 = 12_000;
    const COUNT: u32 = 18_000;
    loop {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = (FIRST + (std::process::id().wrapping_mul(131) + step) % COUNT) as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// How a server is to be started.
pub(crate) struct Setup {
    pub(crate) owner: SocketAddr,
    pub(crate) recipient: SocketAddr,
    settings: Vec<(String, String)>,
    descriptors: Option<u32>,
    is_behind_nginx: bool,
    workers: u32,
}

impl Setup {
    pub(crate) fn new() -> Self {
        let [owner, recipient] = [free_port(), free_port()].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let settings = [
            ("OWNER_LISTEN", owner.to_string()),
            ("RECIPIENT_LISTEN", recipient.to_string()),
            ("BASE_URL", format!("http://{recipient}")),
            // All clients of a test come from few addresses; the cap has a test of its own.
            ("MAX_CONNECTIONS_PER_ADDRESS", "1024".to_owned()),
            ("DRAIN_SECONDS", "1".to_owned()),
            // No test asks anybody in the internet.
            ("TAILSCALE_PROBE", "off".to_owned()),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value)).to_vec();
        Self { owner, recipient, settings, descriptors: None, is_behind_nginx: is_behind_nginx(), workers: WORKERS }
    }

    /// Puts nginx before the product, also where it sends the bytes itself in the other tests.
    pub(crate) fn behind_nginx(mut self) -> Self {
        self.is_behind_nginx = true;
        self
    }

    /// Lets that nginx have so many workers.
    pub(crate) fn workers(mut self, workers: u32) -> Self {
        self.workers = workers;
        self
    }

    /// Sets a setting, in place of what it was.
    pub(crate) fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.settings.retain(|(n, _)| n != name);
        self.settings.push((name.to_owned(), value.to_string()));
        self
    }

    /// Lets the server have no more than so many open files and sockets.
    pub(crate) fn descriptors(mut self, most: u32) -> Self {
        self.descriptors = Some(most);
        self
    }

    pub(crate) fn start(self) -> Server {
        self.start_after(|_, _| {})
    }

    /// Starts it after `prepare` has put something into its root and its state folder.
    pub(crate) fn start_after(self, prepare: impl FnOnce(&Path, &Path)) -> Server {
        let mut server = self.build(prepare);
        server.start();
        server
    }

    /// Makes everything that it needs, and does not start it.
    pub(crate) fn build(self, prepare: impl FnOnce(&Path, &Path)) -> Server {
        let dir = tempfile::Builder::new().prefix("portcullis-it-").tempdir().expect("a folder for the test");
        let (root, state) = (dir.path().join("nas"), dir.path().join("state"));
        std::fs::create_dir(&root).expect("the root is made");
        prepare(&root, &state);
        let token = random_hex(32);
        let mut settings = self.settings;
        let front = self.is_behind_nginx.then(|| {
            let folder = dir.path().join("nginx");
            std::fs::create_dir(&folder).expect("the folder is made");
            let upstream = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
            let log = folder.join("access.log").display().to_string();
            let ours = [("DELIVERY", "nginx".to_owned()), ("NGINX_UPSTREAM", upstream.to_string()), ("NGINX_ACCESS_LOG", log)];
            settings.extend(ours.map(|(name, value)| (name.to_owned(), value)));
            Front { folder, workers: self.workers, nginx: None }
        });
        Server {
            owner: self.owner,
            recipient: self.recipient,
            settings,
            descriptors: self.descriptors,
            token,
            root,
            state,
            process: None,
            front,
            log: Arc::default(),
            keeper: dir,
        }
    }
}

struct Process {
    child: Child,
    readers: Vec<JoinHandle<()>>,
}

/// What stands before the product: it outlives the product's kills and restarts.
struct Front {
    folder: PathBuf,
    workers: u32,
    nginx: Option<Nginx>,
}

/// A running server. Dropping it ends it, and fails the test if the server panicked.
pub(crate) struct Server {
    pub(crate) owner: SocketAddr,
    pub(crate) recipient: SocketAddr,
    pub(crate) token: String,
    pub(crate) root: PathBuf,
    pub(crate) state: PathBuf,
    settings: Vec<(String, String)>,
    descriptors: Option<u32>,
    process: Option<Process>,
    front: Option<Front>,
    log: Arc<Mutex<Vec<u8>>>,
    keeper: TempDir,
}

/// A share as the API told of it when it was made.
#[derive(Debug, Clone)]
pub(crate) struct Offer {
    pub(crate) id: String,
    pub(crate) url: String,
    /// `/share/token/name`.
    pub(crate) link: String,
}

impl Offer {
    pub(crate) fn from_json(share: &Value) -> Self {
        let id = share["id"].as_str().unwrap_or_else(|| panic!("a share without an id: {share}")).to_owned();
        let url = share["url"].as_str().unwrap_or_else(|| panic!("a share without a url: {share}")).to_owned();
        Self { id, link: path_of(&url).to_owned(), url }
    }

    /// Returns `/share/token`, where the link is redeemed.
    pub(crate) fn redeem_path(&self) -> String {
        self.link.rsplit_once('/').expect("a link has three parts").0.to_owned()
    }
}

impl Server {
    /// Starts the binary with this folder, state and settings, and waits until it answers.
    pub(crate) fn start(&mut self) {
        if let Some(status) = self.try_start() {
            panic!("the server ended with {status} instead of starting:\n{}", self.log_text());
        }
    }

    /// As [`Server::start`]; returns how it ended where it did so instead.
    pub(crate) fn try_start(&mut self) -> Option<ExitStatus> {
        assert!(self.process.is_none(), "the server runs already");
        let mut child = self.command().arg("serve").arg(&self.root).stdin(Stdio::null()).spawn().expect("the binary starts");
        let readers = vec![
            collect(child.stdout.take().expect("stdout is piped"), self.log.clone()),
            collect(child.stderr.take().expect("stderr is piped"), self.log.clone()),
        ];
        self.process = Some(Process { child, readers });
        let started = Instant::now();
        loop {
            let alive = Client::try_connect(self.owner, None, None).ok().and_then(|mut c| c.request("GET", "/livez", &[]));
            if alive.is_some_and(|a| a.status == 200) {
                self.put_nginx_before();
                return None;
            }
            if let Some(status) = self.ended() {
                return Some(status);
            }
            assert!(started.elapsed() < START_PATIENCE, "the server does not start:\n{}", self.log_text());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts nginx as the product has it, unless one runs that was told the same.
    fn put_nginx_before(&mut self) {
        let Some((folder, workers)) = self.front.as_ref().map(|front| (front.folder.clone(), front.workers)) else { return };
        let output = self.command().arg("nginx-config").arg(&self.root).arg("--standalone").arg("--run-dir").arg(&folder).output();
        let output = output.expect("the binary runs");
        assert!(output.status.success(), "no configuration for nginx: {}", String::from_utf8_lossy(&output.stderr));
        let config = String::from_utf8(output.stdout).expect("a configuration is text");
        let front = self.front.as_mut().expect("looked at above");
        if !front.nginx.as_ref().is_some_and(|nginx| nginx.is_of(&config, self.recipient)) {
            front.nginx = None;
            front.nginx = Some(Nginx::start(&folder, config, self.recipient, workers));
        }
    }

    /// Returns the nginx before it.
    pub(crate) fn nginx(&mut self) -> &mut Nginx {
        self.front.as_mut().and_then(|front| front.nginx.as_mut()).expect("it stands behind nginx, which was started")
    }

    /// Takes nginx away from before it: from the next start on it listens for recipients itself, on another port. What comes back is the nginx,
    /// which goes on.
    pub(crate) fn without_nginx(&mut self, port: u16) -> Option<Nginx> {
        self.recipient = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        self.set("DELIVERY", "embedded");
        self.set("RECIPIENT_LISTEN", self.recipient);
        self.set("BASE_URL", format!("http://{}", self.recipient));
        self.front.take().and_then(|front| front.nginx)
    }

    /// Returns the folder of the nginx before it, where its log is.
    pub(crate) fn nginx_folder(&self) -> PathBuf {
        self.front.as_ref().expect("it stands behind nginx").folder.clone()
    }

    /// Returns the binary as a command with this server's settings and nothing else from the environment.
    pub(crate) fn command(&self) -> Command {
        let program = env!("CARGO_BIN_EXE_portcullis");
        let mut command = match self.descriptors {
            None => Command::new(program),
            Some(most) => {
                // The shell lowers its own limit and becomes the program: the process stays the same.
                let mut command = Command::new("/bin/sh");
                command.args(["-c", &format!("ulimit -n {most} && exec \"$0\" \"$@\""), program]);
                command
            }
        };
        command.env_clear().current_dir(self.keeper.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env("PATH", "/usr/bin:/bin").env("STATE_DIR", &self.state);
        // An open door takes no token, and a server that is told both refuses to start.
        if !self.settings.iter().any(|(name, value)| name == "AUTH" && value == "none") {
            command.env("OWNER_TOKEN", &self.token);
        }
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Sets a setting for the next start, in place of what it was.
    pub(crate) fn set(&mut self, name: &str, value: impl ToString) {
        self.unset(name);
        self.settings.push((name.to_owned(), value.to_string()));
    }

    /// Leaves a setting out at the next start.
    pub(crate) fn unset(&mut self, name: &str) {
        self.settings.retain(|(n, _)| n != name);
    }

    /// Returns how it ended, if it has; then it can be started again.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.process.as_mut()?.child.try_wait().expect("a child can be asked")?;
        self.kill();
        Some(status)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().expect("the server runs").child.id()
    }

    /// How much CPU time the server has used, in hundredths of a second (`man 5 proc`).
    pub(crate) fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("a process of ours");
        let fields: Vec<&str> = stat.rsplit_once(')').expect("a name in parentheses").1.split_whitespace().collect();
        fields[11].parse::<u64>().expect("user time") + fields[12].parse::<u64>().expect("system time")
    }

    /// Ends it as a power cut would: `kill -9`.
    pub(crate) fn kill(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let _ = process.child.kill();
        let _ = process.child.wait();
        process.readers.drain(..).for_each(|reader| drop(reader.join()));
    }

    /// Sends the `kill -9` and does not wait for its end, so that others may hold the server meanwhile.
    pub(crate) fn kill_now(&self) {
        let pid = rustix::process::Pid::from_child(&self.process.as_ref().expect("the server runs").child);
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("a signal can be sent");
    }

    /// Asks it to stop, as `systemctl stop` does, and waits for its end.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.ask_to_stop();
        let mut process = self.process.take().expect("the server runs");
        let mut status = None;
        poll(SOON, "the server ends after SIGTERM", || {
            status = process.child.try_wait().expect("a child can be asked");
            status.is_some()
        });
        process.readers.drain(..).for_each(|reader| drop(reader.join()));
        status.expect("it has ended")
    }

    /// Asks it to stop, and waits for nothing.
    pub(crate) fn ask_to_stop(&self) {
        let pid = rustix::process::Pid::from_child(&self.process.as_ref().expect("the server runs").child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a signal can be sent");
    }

    /// Returns everything it wrote to stdout and stderr, in all its lives.
    pub(crate) fn log_bytes(&self) -> Vec<u8> {
        self.log.lock().expect("no reader panicked").clone()
    }

    pub(crate) fn log_text(&self) -> String {
        String::from_utf8_lossy(&self.log_bytes()).into_owned()
    }

    pub(crate) fn folder(&self) -> &Path {
        self.keeper.path()
    }

    /// Asks the owner side, signed in.
    pub(crate) fn api(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let authorization = format!("Authorization: Bearer {}", self.token);
        let mut client = Client::connect(self.owner);
        let answer = match body {
            Some(body) => {
                let headers = [&authorization[..], "Content-Type: application/json", "Connection: close"];
                client.request_with(method, path, &headers, body.to_string().as_bytes())
            }
            None => client.request(method, path, &[&authorization, "Connection: close"]),
        };
        answer.unwrap_or_else(|| panic!("{method} {path}: closed without an answer\n{}", self.log_text()))
    }

    /// Shares a file for one download.
    pub(crate) fn share(&self, path: &str) -> Offer {
        self.share_with(&json!({ "path": path }))
    }

    /// Shares as the body says, and waits until the link works.
    pub(crate) fn share_with(&self, body: &Value) -> Offer {
        let answer = self.api("POST", "/api/v1/shares", Some(body));
        assert!(matches!(answer.status, 201 | 202), "{}\n{}", answer.head_text(), answer.text());
        let share = answer.json();
        let offer = Offer::from_json(&share);
        if answer.status == 202 {
            self.wait_for(&offer.id, "it opens", |share| share["state"] != "opening");
        }
        offer
    }

    pub(crate) fn show(&self, id: &str) -> Value {
        self.api("GET", &format!("/api/v1/shares/{id}"), None).expect_status(200).json()
    }

    /// Returns how often the link was redeemed, as the owner sees it.
    pub(crate) fn uses(&self, id: &str) -> u64 {
        let share = self.show(id);
        share["transfers"].as_u64().unwrap_or_else(|| panic!("`transfers` is no number: {share}"))
    }

    /// Returns the share's transfers, oldest or newest first as the API has it.
    pub(crate) fn transfers(&self, id: &str) -> Vec<Value> {
        let answer = self.api("GET", &format!("/api/v1/shares/{id}/transfers"), None).expect_status(200).json();
        answer["transfers"].as_array().unwrap_or_else(|| panic!("no list of transfers: {answer}")).clone()
    }

    /// Waits until the share is as wanted, and returns it.
    #[track_caller]
    pub(crate) fn wait_for(&self, id: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let share = self.show(id);
            if wanted(&share) {
                return share;
            }
            assert!(started.elapsed() < SOON, "waited {SOON:?} for: {what}; the share is {share:#}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the share is closed, and returns its outcome.
    #[track_caller]
    pub(crate) fn outcome(&self, id: &str) -> String {
        let share = self.wait_for(id, "it closes", |share| share["state"] == "closed");
        share["outcome"].as_str().unwrap_or_else(|| panic!("closed without an outcome: {share}")).to_owned()
    }

    pub(crate) fn revoke(&self, id: &str) {
        let answer = self.api("DELETE", &format!("/api/v1/shares/{id}"), None);
        assert!(matches!(answer.status, 200 | 202 | 204), "{}\n{}", answer.head_text(), answer.text());
    }

    /// Redeems a link as a browser's button does; returns the transfer's path.
    pub(crate) fn redeem(&self, offer: &Offer) -> String {
        let answer = Client::connect(self.recipient).request("POST", &offer.redeem_path(), &["Connection: close"]);
        answer.expect("a genuine link is answered").expect_status(303).location()
    }

    /// Fetches something of the recipient side over a connection of its own.
    pub(crate) fn fetch(&self, method: &str, path: &str, headers: &[&str]) -> Option<Answer> {
        Client::connect(self.recipient).request(method, path, headers)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if !std::thread::panicking() {
            let log = self.log_text();
            assert!(!log.contains("panicked at"), "the server panicked:\n{log}");
        } else {
            eprintln!("--- the server's log ---\n{}", tail(&self.log_text(), 60));
            if let Some(nginx) = self.front.as_ref().and_then(|front| front.nginx.as_ref()) {
                eprintln!("--- what nginx had to complain of ---\n{}", tail(&nginx.said(), 20));
            }
        }
    }
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn collect(mut from: impl Read + Send + 'static, into: Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(n @ 1..) = from.read(&mut chunk) {
            into.lock().expect("no reader panicked").extend_from_slice(&chunk[..n]);
        }
    })
}
