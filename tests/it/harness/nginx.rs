//! A real nginx before the product, where the whole of the tests is to run so: with `TEST_DELIVERY=nginx` in the environment, and with
//! `TEST_DELIVERY=relay` one whose connections the product does not see, as if it were in another network namespace.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::{SOON, poll};

/// As many as the machine that is promised has cores; who asks for `auto` gets dozens for each test on a larger one.
pub(crate) const WORKERS: u32 = 2;
/// How the configuration asks for them.
const AUTO: &str = "worker_processes auto;";

/// Returns whether nginx is to send the bytes, as the environment says.
pub(crate) fn is_behind_nginx() -> bool {
    delivery() != Delivery::Embedded
}

/// Returns whether nginx only passes on what the product sends.
pub(crate) fn is_passed_on() -> bool {
    delivery() == Delivery::Relay
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Delivery {
    Embedded,
    Nginx,
    Relay,
}

fn delivery() -> Delivery {
    static IT: LazyLock<Delivery> = LazyLock::new(|| match std::env::var("TEST_DELIVERY").as_deref() {
        Ok("nginx") => Delivery::Nginx,
        Ok("relay") => Delivery::Relay,
        Err(_) | Ok("" | "embedded") => Delivery::Embedded,
        Ok(other) => panic!("TEST_DELIVERY is nginx, relay or embedded, and not {other}"),
    });
    *IT
}

/// Has nginx tell of connections that nobody sees: what is told of them is right but for the recipient's port.
pub(crate) fn unseen(config: &str) -> String {
    let told = "X-Portcullis-Connection \"$realip_remote_addr $realip_remote_port ";
    assert_eq!(config.matches(told).count(), 1, "{config}");
    config.replace(told, "X-Portcullis-Connection \"$realip_remote_addr 9 ")
}

/// Returns whether a test means nothing where nginx sends the bytes, and tells so beside libtest, which keeps to itself what a test says
/// that passes: `tests/run` counts it as left out.
pub(crate) fn only_embedded(reason: &str) -> bool {
    tell_left_out("", reason)
}

/// As [`only_embedded`], of one that means something where nginx sends the bytes itself.
pub(crate) fn only_where_arrival_is_seen(reason: &str) -> bool {
    is_passed_on() && tell_left_out("", reason)
}

/// As [`only_embedded`], of one case of a test whose others mean the same.
pub(crate) fn case_only_embedded(case: &str, reason: &str) -> bool {
    tell_left_out(&format!(" (of it: {case})"), reason)
}

/// As [`case_only_embedded`], of a range with a number that nginx may read otherwise than we do.
pub(crate) fn long_range_only_embedded(range: &str) -> bool {
    const MOST_DIGITS: usize = 18;
    let is_long = range.split(|c: char| !c.is_ascii_digit()).any(|number| number.len() > MOST_DIGITS);
    is_long && case_only_embedded(range, "nginx reads so long a number otherwise, and the whole file is the answer")
}

fn tell_left_out(case: &str, reason: &str) -> bool {
    if is_behind_nginx() {
        let thread = std::thread::current();
        let line = format!("\nLEFT OUT {}{case}: {reason}\n", thread.name().unwrap_or("a test"));
        std::io::stderr().write_all(line.as_bytes()).expect("stderr is open");
    }
    is_behind_nginx()
}

/// An nginx of the test's own. Dropping it ends it.
pub(crate) struct Nginx {
    process: Child,
    folder: PathBuf,
    address: SocketAddr,
    /// What it was told.
    config: String,
    workers: u32,
}

impl Nginx {
    /// Starts one in `folder` with the configuration that the product printed and so many workers, and waits until it listens.
    pub(crate) fn start(folder: &Path, config: String, address: SocketAddr, workers: u32) -> Self {
        assert!(config.contains(AUTO), "the configuration is a whole one:\n{config}");
        let path = folder.join("nginx.conf");
        let text = if is_passed_on() { unseen(&config) } else { config.clone() };
        std::fs::write(&path, text.replace(AUTO, &format!("worker_processes {workers};"))).expect("the configuration is written");
        // Its workers are of the same account as the product, which a root's would not be by themselves.
        let user = if rustix::process::geteuid().is_root() { "user root; " } else { "" };
        let mut command = Command::new(Self::program());
        command.arg("-p").arg(folder).arg("-c").arg(&path).args(["-e", "stderr", "-g", &format!("{user}daemon off;")]);
        let stderr = std::fs::File::create(folder.join("stderr")).expect("a file of ours");
        let pid = folder.join("nginx.pid");
        let _ = std::fs::remove_file(&pid);
        // A group of its own: so that its workers end with it, however it ends.
        let process = command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn();
        let mut this = Self { process: process.expect("nginx is started"), folder: folder.to_owned(), address, config, workers };
        poll(SOON, "nginx listens", || {
            let ended = this.process.try_wait().expect("a child can be asked");
            assert!(ended.is_none(), "nginx does not start:\n{}", this.said());
            // Whoever listens there may be another yet, as the last of one that was killed. It writes this once it listens itself.
            pid.exists() && TcpStream::connect(address).is_ok()
        });
        this
    }

    fn program() -> &'static str {
        let places = ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx"];
        places.into_iter().find(|path| Path::new(path).exists()).expect("nginx is installed; tests/run does that")
    }

    /// Returns whether it was started with this configuration for this address.
    pub(crate) fn is_of(&self, config: &str, address: SocketAddr) -> bool {
        (self.config.as_str(), self.address) == (config, address)
    }

    /// Sends a signal to its master.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).expect("a signal can be sent");
    }

    /// Ends all of it as a power cut would.
    pub(crate) fn kill(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.process), Signal::KILL);
        let _ = self.process.wait();
    }

    /// Starts it again as it was.
    pub(crate) fn start_again(&mut self) {
        self.start_with(str::to_owned);
    }

    /// Starts it again with what is made of its configuration.
    pub(crate) fn start_with(&mut self, change: impl Fn(&str) -> String) {
        self.kill();
        *self = Self::start(&self.folder.clone(), change(&self.config), self.address, self.workers);
    }

    /// Returns what it had to complain of.
    pub(crate) fn said(&self) -> String {
        ["stderr", "error.log"].map(|name| std::fs::read_to_string(self.folder.join(name)).unwrap_or_default()).concat()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.kill();
    }
}
