//! The lab of `tests/lab/`: a real tailscaled on loopback, started and told what to do by a test.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::{LocalApi, poll, tool};

/// How long the lab may take for anything it is told: its own patience with tailscaled, and with a first handshake.
const LAB_PATIENCE: Duration = Duration::from_secs(150);
/// How long it may take to end.
const END_PATIENCE: Duration = Duration::from_secs(30);

/// A lab that runs. Dropped, it ends, and tailscaled with it.
pub(crate) struct Lab {
    process: Child,
    orders: Option<ChildStdin>,
    answers: Receiver<String>,
    said: Value,
    folder: TempDir,
}

impl Lab {
    pub(crate) fn start() -> Self {
        Self::start_with(&[], Stdio::piped())
    }

    /// Starts it with more arguments, and with `owner` as its standard input: it ends when that is closed.
    pub(crate) fn start_with(arguments: &[&str], owner: Stdio) -> Self {
        Self::launch(Command::new(Self::program()), arguments, owner)
    }

    /// Starts it in the network namespace of a process.
    pub(crate) fn start_in_network_of(pid: u32) -> Self {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{pid}/ns/net")).arg("--").arg(Self::program());
        Self::launch(command, &[], Stdio::piped())
    }

    fn program() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("target/lab/bin/lab")
    }

    fn launch(mut command: Command, arguments: &[&str], owner: Stdio) -> Self {
        let binaries = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/lab/bin");
        let folder = tempfile::Builder::new().prefix("portcullis-lab-").tempdir().expect("a folder for the lab");
        command.arg("-binaries").arg(binaries.join("current")).arg("-folder").arg(folder.path().join("lab")).args(arguments);
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").stdin(owner).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap_or_else(|e| panic!("the lab cannot be run ({e}); tests/lab/build makes it"));
        let stdout = process.stdout.take().expect("piped");
        let (send, answers) = channel();
        std::thread::spawn(move || BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        let orders = process.stdin.take();
        let mut lab = Self { process, orders, answers, said: Value::Null, folder };
        lab.said = lab.answer();
        lab
    }

    /// Tells it to do something; returns what it says. Fails where it cannot.
    #[track_caller]
    pub(crate) fn tell(&mut self, command: &str) -> Value {
        self.try_tell(command).unwrap_or_else(|e| panic!("{command}: {e}"))
    }

    /// Tells it to do something; returns what it says, or why it cannot.
    pub(crate) fn try_tell(&mut self, command: &str) -> Result<Value, String> {
        let orders = self.orders.as_mut().expect("it is ours");
        writeln!(orders, "{command}").expect("the lab listens");
        let answer = self.answer();
        if let Some(error) = answer["error"].as_str() {
            return Err(error.to_owned());
        }
        if answer.get("socket").is_some() {
            self.said = answer.clone();
        }
        Ok(answer)
    }

    #[track_caller]
    fn answer(&self) -> Value {
        let line = self.answers.recv_timeout(LAB_PATIENCE).expect("the lab answers (what it says is above)");
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("no JSON ({e}): {line}"))
    }

    /// Runs `tailscale`, as the operator of the node does.
    pub(crate) fn tailscale(&self, arguments: &[&str]) -> Output {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/lab/bin/current/tailscale");
        let mut command = Command::new(program);
        command.arg(format!("--socket={}", self.socket().display())).args(arguments).stdin(Stdio::null());
        command.output().expect("tests/lab/build makes it")
    }

    /// Where everything of the lab lies while it lives.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().join("lab")
    }

    pub(crate) fn local_api(&self) -> LocalApi {
        LocalApi::new(self.socket())
    }

    /// Returns the path of tailscaled's socket.
    pub(crate) fn socket(&self) -> &Path {
        Path::new(self.text("socket"))
    }

    /// Returns where the control server is.
    pub(crate) fn control_url(&self) -> &str {
        self.text("control_url")
    }

    /// Returns the node's public name.
    pub(crate) fn name(&self) -> &str {
        self.text("dns_name")
    }

    /// Returns the file of the authority of the node's certificate.
    pub(crate) fn authority(&self) -> &str {
        self.text("ca_file")
    }

    /// Returns the authority of the node's certificate, as a file.
    pub(crate) fn ca_file(&self) -> &str {
        self.text("ca_file")
    }

    /// Returns where visitors come in for one of Funnel's ports.
    pub(crate) fn ingress(&self, port: u16) -> SocketAddr {
        self.said["ingress"][port.to_string()].as_str().and_then(|at| at.parse().ok()).expect("Funnel has this port")
    }

    /// Returns the process of `lab` or of `tailscaled`, if it runs.
    pub(crate) fn pid(&self, of: &str) -> Option<u32> {
        self.said["pids"][of].as_u64().map(|pid| u32::try_from(pid).expect("a process id"))
    }

    /// Visits the node as somebody in the internet does, with curl. The URL is `https://` the node's name and `path`.
    pub(crate) fn visit(&self, path: &str, arguments: &[&str]) -> Output {
        self.visit_as(self.name(), path, arguments)
    }

    /// As [`Lab::visit`], by another name.
    pub(crate) fn visit_as(&self, name: &str, path: &str, arguments: &[&str]) -> Output {
        self.visit_at(name, 443, path, arguments)
    }

    /// As [`Lab::visit`], at another of Funnel's ports.
    pub(crate) fn visit_at(&self, name: &str, port: u16, path: &str, arguments: &[&str]) -> Output {
        let way_in = format!("{name}:{port}:{}", self.ingress(port));
        let url = format!("https://{name}:{port}{path}");
        let mut all = vec!["--silent", "--show-error", "--cacert", self.text("ca_file"), "--connect-to", &way_in];
        all.extend(arguments);
        all.push(&url);
        tool(self.folder.path(), "curl", &all)
    }

    /// Waits until it has ended by itself, with tailscaled and all that it wrote.
    pub(crate) fn wait_ended(&mut self) {
        let processes: Vec<u32> = ["lab", "tailscaled"].into_iter().filter_map(|of| self.pid(of)).collect();
        assert_eq!(processes.len(), 2, "both ran: {}", self.said);
        poll(END_PATIENCE, "the lab ends", || matches!(self.process.try_wait(), Ok(Some(_))));
        poll(END_PATIENCE, "its processes end", || !processes.iter().any(|pid| is_of(*pid, &self.folder())));
    }

    fn text(&self, of: &str) -> &str {
        self.said[of].as_str().unwrap_or_else(|| panic!("the lab says no {of}: {}", self.said))
    }
}

/// Returns whether a process runs that was started with this folder among its arguments: a process id alone may be another's by then.
pub(crate) fn is_of(pid: u32, folder: &Path) -> bool {
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&arguments).contains(&*folder.to_string_lossy())
}

impl Drop for Lab {
    fn drop(&mut self) {
        drop(self.orders.take());
        let began = Instant::now();
        while matches!(self.process.try_wait(), Ok(None)) {
            if began.elapsed() > END_PATIENCE {
                let _ = self.process.kill();
                let _ = self.process.wait();
                assert!(std::thread::panicking(), "the lab still ran {END_PATIENCE:?} after its owner had gone");
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
