//! The two servers: portcullis as it is built, and nginx as Debian ships it where that matters.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::{Connection, exchange};
use super::http2::Certificate;

const START_PATIENCE: Duration = Duration::from_secs(60);
/// How long a checksum may take: it is computed with what others leave of the machine.
const CHECKSUM_PATIENCE: Duration = Duration::from_secs(300);
/// How often is looked whether a server has started: the start itself is measured.
const LOOK_EVERY: Duration = Duration::from_millis(2);
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// What owners sign in with. Nobody but this machine reaches the server.
const OWNER_TOKEN: &str = "a-token-for-benchmarks-on-loopback";

/// A process that is stopped with the value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        // nginx's master takes its workers with it only if it is asked.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let begin = Instant::now();
        while begin.elapsed() < STOP_PATIENCE && matches!(self.0.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns what has nginx's workers run as this account: root's would be another's.
fn user() -> &'static str {
    if rustix::process::geteuid().is_root() { "user root;" } else { "" }
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("it is bound")
}

fn wait_until_open(address: SocketAddr, process: &mut Child, log: &Path) {
    let begin = Instant::now();
    while TcpStream::connect(address).is_err() {
        let ended = process.try_wait().expect("a child can be asked");
        if ended.is_some() || begin.elapsed() > START_PATIENCE {
            panic!("nothing listens on {address}; ended: {ended:?}\n{}", fs::read_to_string(log).unwrap_or_default());
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Where portcullis finds its files, and what else it is told.
pub(crate) struct Setup {
    root: PathBuf,
    state: PathBuf,
    settings: Vec<(&'static str, String)>,
}

impl Setup {
    /// Serves `root`, and keeps its state in a folder beside it.
    pub(crate) fn of(root: &Path) -> Self {
        Self { root: root.to_owned(), state: root.with_extension("state"), settings: Vec::new() }
    }

    /// Sets a setting.
    pub(crate) fn set(mut self, name: &'static str, value: impl ToString) -> Self {
        self.settings.push((name, value.to_string()));
        self
    }

    /// Returns where the state is.
    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    /// Keeps its state in this folder.
    pub(crate) fn in_state(mut self, state: &Path) -> Self {
        self.state = state.join("state");
        self
    }

    /// Starts it behind an nginx that sends the bytes, with the configuration that it prints, but with two workers.
    pub(crate) fn start_behind_nginx(self) -> Portcullis {
        self.start_behind(str::to_owned)
    }

    /// As [`Setup::start_behind_nginx`], but nginx tells of connections that nobody sees, as if it were in another network namespace: it passes
    /// on what portcullis sends.
    pub(crate) fn start_behind_unseen_nginx(self) -> Portcullis {
        const TOLD: &str = "X-Portcullis-Connection \"$realip_remote_addr $realip_remote_port ";
        self.start_behind(|config| config.replace(TOLD, "X-Portcullis-Connection \"$realip_remote_addr 9 "))
    }

    fn start_behind(self, change: impl Fn(&str) -> String) -> Portcullis {
        let (recipient, upstream, run) = (free_address(), free_address(), self.state.with_extension("front"));
        fs::create_dir_all(&run).expect("a folder for nginx");
        let this = self
            .set("DELIVERY", "nginx")
            .set("NGINX_UPSTREAM", upstream)
            .set("NGINX_ACCESS_LOG", run.join("access.log").display())
            .set("RECIPIENT_LISTEN", recipient)
            .set("BASE_URL", format!("http://{recipient}"));
        let mut portcullis = this.start();
        let mut print = this.command("nginx-config");
        let printed = print.arg("--standalone").arg("--run-dir").arg(&run).output().expect("portcullis runs");
        assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
        let config = change(&String::from_utf8_lossy(&printed.stdout)).replace("worker_processes auto;", "worker_processes 2;");
        portcullis.nginx = Some(Nginx::run(&run, &config, recipient));
        portcullis.address = recipient;
        portcullis
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.arg(name).arg(&self.root).env_clear().env("STATE_DIR", &self.state).env("MAX_CONNECTIONS_PER_ADDRESS", "4096");
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts it; it answers when this returns.
    pub(crate) fn start(&self) -> Portcullis {
        let (owner, recipient) = (free_address(), free_address());
        let log = self.state.with_extension("log");
        let output = || fs::File::options().create(true).append(true).open(&log).expect("a log");
        let began = Instant::now();
        let mut process = self
            .command("serve")
            .env("OWNER_TOKEN", OWNER_TOKEN)
            .env("OWNER_LISTEN", owner.to_string())
            .env("RECIPIENT_LISTEN", recipient.to_string())
            .env("BASE_URL", format!("http://{recipient}"))
            .env("DRAIN_SECONDS", "1")
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(output())
            .stderr(output())
            .spawn()
            .expect("portcullis starts");
        wait_until_open(owner, &mut process, &log);
        // It listens before it is ready; whoever connects waits until it answers.
        let alive = exchange(owner, &format!("GET /livez HTTP/1.1\r\nHost: {owner}\r\nConnection: close\r\n\r\n"));
        assert!(alive.starts_with("HTTP/1.1 200"), "it answers: {alive}");
        Portcullis { nginx: None, process: Running(process), owner, address: recipient, started_in: began.elapsed() }
    }
}

/// Portcullis while it runs.
pub(crate) struct Portcullis {
    /// What sends its bytes, where that is another; it ends first.
    nginx: Option<Nginx>,
    process: Running,
    pub(crate) owner: SocketAddr,
    /// Where recipients come in.
    pub(crate) address: SocketAddr,
    /// How long it took until it answered.
    pub(crate) started_in: Duration,
}

/// A share as its owner sees it.
#[derive(Debug, Clone)]
pub(crate) struct Offer {
    pub(crate) id: String,
    /// Where it is redeemed: `/share/token`.
    pub(crate) redeem: String,
}

impl Portcullis {
    pub(crate) fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// Returns the processes that work for it.
    pub(crate) fn pids(&self) -> Vec<u32> {
        [Some(self.pid()), self.nginx.as_ref().map(Nginx::pid)].into_iter().flatten().collect()
    }

    /// Spells a request of an owner's.
    pub(crate) fn request(&self, method: &str, path: &str, body: &str) -> String {
        format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {OWNER_TOKEN}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.owner,
            body.len()
        )
    }

    /// Asks the owner side, over a connection of its own.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> Value {
        let (status, bytes) = Connection::open(self.owner).ask(&self.request(method, path, body), true);
        assert!(status < 300, "{method} {path}: {status} {}", String::from_utf8_lossy(&bytes));
        serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("no JSON ({error}): {}", String::from_utf8_lossy(&bytes)))
    }

    /// Shares a file for so many downloads.
    pub(crate) fn share(&self, file: &str, downloads: usize) -> Offer {
        Offer::of(&self.ask("POST", "/api/v1/shares", &format!(r#"{{"path":"{file}","policy":{{"max_downloads":{downloads}}}}}"#)))
    }

    /// Waits until the checksum of a shared file is known: computing it is work, and no part of sending.
    pub(crate) fn wait_for_checksum(&self, offer: &Offer) {
        let begin = Instant::now();
        while self.ask("GET", &format!("/api/v1/shares/{}", offer.id), "")["sha256"].is_null() {
            assert!(begin.elapsed() < CHECKSUM_PATIENCE, "the checksum is computed");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Redeems a link, and returns the path of the transfer.
    pub(crate) fn redeem(&self, offer: &Offer) -> String {
        self.redeem_by(offer, |head| exchange(self.address, head))
    }

    fn redeem_by(&self, offer: &Offer, ask: impl Fn(&str) -> String) -> String {
        let head = format!("POST {} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", offer.redeem, self.address);
        let answer = ask(&head);
        let location = answer.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("location").then(|| value.trim().to_owned())
        });
        let location = location.unwrap_or_else(|| panic!("not redeemed: {answer}"));
        // A redirect may name the host, the path, or the path from where it stands.
        let path = location.strip_prefix(&format!("http://{}", self.address)).unwrap_or(&location);
        let below = offer.redeem.rsplit_once('/').map_or("", |(folder, _)| folder);
        if path.starts_with('/') { path.to_owned() } else { format!("{below}/{}", path.trim_start_matches("./")) }
    }

    /// Shares a file, redeems its link so often and returns the transfers' paths.
    pub(crate) fn transfers(&self, file: &str, count: usize) -> Vec<String> {
        let offer = self.share(file, count);
        self.wait_for_checksum(&offer);
        (0..count).map(|_| self.redeem(&offer)).collect()
    }

    /// As `transfers`, where the recipient side shows a certificate.
    pub(crate) fn transfers_over(&self, certificate: &Certificate, file: &str, count: usize) -> Vec<String> {
        let offer = self.share(file, count);
        self.wait_for_checksum(&offer);
        (0..count).map(|_| self.redeem_by(&offer, |head| certificate.exchange(self.address, head))).collect()
    }
}

impl Offer {
    /// Reads what the API tells of a share.
    pub(crate) fn of(share: &Value) -> Self {
        let url = share["url"].as_str().unwrap_or_else(|| panic!("no link: {share}"));
        let path = url.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..])).expect("a link has a path");
        let (redeem, _) = path.rsplit_once('/').expect("a link has three parts");
        Self { id: share["id"].as_str().expect("a share has an id").to_owned(), redeem: redeem.to_owned() }
    }
}

/// nginx while it runs: sendfile, `tcp_nopush`, an access log into a file, two workers.
pub(crate) struct Nginx {
    process: Running,
    pub(crate) address: SocketAddr,
    /// Where it writes its access log.
    pub(crate) log: PathBuf,
}

impl Nginx {
    /// Returns the program, where it is installed.
    pub(crate) fn program() -> Option<&'static str> {
        ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx"].into_iter().find(|path| Path::new(path).exists())
    }

    /// Serves `root`, with folders listed.
    pub(crate) fn start(root: &Path) -> Self {
        Self::start_as(root, "", "")
    }

    /// As `start`, over TLS and HTTP/2.
    pub(crate) fn start_with_tls(root: &Path, certificate: &Certificate) -> Self {
        let (cert, key) = (certificate.cert.display(), certificate.key.display());
        Self::start_as(root, "ssl http2", &format!("ssl_certificate {cert}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;"))
    }

    /// Passes on what another nginx serves, a slice at a time: so that could be counted by the other's log.
    pub(crate) fn start_slicing(root: &Path, of: SocketAddr) -> Self {
        let slices = format!(
            "location / {{ slice 1m; proxy_pass http://{of}; proxy_http_version 1.1; proxy_set_header Connection \"\"; \
             proxy_set_header Range $slice_range; proxy_buffer_size 16k; proxy_buffers 8 16k; proxy_max_temp_file_size 0; }}"
        );
        Self::start_as(root, "sndbuf=256k", &slices)
    }

    fn start_as(root: &Path, listen: &str, more: &str) -> Self {
        let address = free_address();
        let base = root.with_extension("nginx");
        fs::create_dir_all(&base).expect("a folder for nginx");
        let user = user();
        let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|kind| format!("{kind}_temp_path {}/{kind};\n", base.display()))
            .collect();
        let config = format!(
            "{user}\nworker_processes 2;\npid {base}/pid;\nerror_log {base}/error.log;\nevents {{ worker_connections 4096; }}\nhttp {{\n{temp}\
             sendfile on;\ntcp_nopush on;\nkeepalive_requests 1000000000;\ndefault_type application/octet-stream;\n\
             access_log {base}/access.log;\nserver {{ listen {address} {listen}; root {root}; autoindex on; {more} }}\n}}\n",
            base = base.display(),
            root = root.display()
        );
        Self::run(&base, &config, address)
    }

    /// Runs it with this configuration.
    fn run(base: &Path, config: &str, address: SocketAddr) -> Self {
        let path = base.join("nginx.conf");
        fs::write(&path, config).expect("the configuration is written");
        let log = base.join("stderr");
        let mut process = Command::new(Self::program().expect("nginx is installed"))
            .arg("-p")
            .arg(base)
            .arg("-c")
            .arg(&path)
            .args(["-e", "stderr", "-g", &format!("{}daemon off;", if config.contains("user root;") { "" } else { user() })])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).expect("a log"))
            .spawn()
            .expect("nginx starts");
        wait_until_open(address, &mut process, &log);
        Self { process: Running(process), address, log: base.join("access.log") }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.0.id()
    }
}
