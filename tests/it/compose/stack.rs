//! What a test brings up: a folder with a `.env` and secrets as README.md has them made, and Compose on the very `compose.yaml`.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{noise, poll, random_hex, tool};

/// How long anything of several containers may take: their healthchecks look every ten seconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(90);
/// This machine as another one sees it (`tests/compose/engine`).
pub(super) const MACHINE: &str = "198.51.100.1";
/// The account of all containers.
const ACCOUNT: u32 = 10001;
/// What the shared file is called.
pub(super) const FILE: &str = "film.mkv";

/// Returns the folder of what is tested.
pub(super) fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("compose")
}

/// Returns the process of another machine, at the end of a cable.
pub(super) fn visitor() -> u32 {
    std::env::var("VISITOR").expect("tests/compose/engine runs these").parse().unwrap()
}

/// Runs Docker's own client.
#[track_caller]
pub(super) fn docker(arguments: &[&str]) -> String {
    let run = Command::new("docker").args(arguments).output().expect("Docker's client is installed");
    assert!(run.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8(run.stdout).expect("text").trim().to_owned()
}

/// Returns what there is of containers, volumes and networks that are not Docker's own.
fn left() -> String {
    let networks = docker(&["network", "ls", "--format", "{{.Name}}", "--filter", "type=custom"]);
    [docker(&["ps", "--all", "--format", "{{.Names}}"]), docker(&["volume", "ls", "-q"]), networks].concat()
}

/// Returns what both streams of a program said.
pub(super) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// A folder from which the stack is brought up. Dropped, all of it is taken down.
pub(super) struct Stack {
    folder: TempDir,
    pub(super) content: Vec<u8>,
    /// Each secret, as its file has it.
    pub(super) secrets: Vec<(&'static str, String)>,
}

impl Stack {
    /// Makes the folder, with these lines in `.env` beside the folder of files.
    pub(super) fn new(lines: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let secrets = vec![
            ("jwt_secret", random_hex(32)),
            ("owner_token", random_hex(32)),
            ("tailscale_auth_key", format!("tskey-{}", random_hex(16))),
        ];
        let stack = Self { folder, content: noise(3_000_000, 9), secrets };
        for made in ["secrets", "nas"] {
            std::fs::create_dir(stack.path(made)).unwrap();
        }
        for (name, secret) in &stack.secrets {
            let file = stack.path("secrets").join(name);
            std::fs::write(&file, format!("{secret}\n")).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o444)).unwrap();
        }
        std::fs::set_permissions(stack.path("secrets"), std::fs::Permissions::from_mode(0o700)).unwrap();
        std::fs::write(stack.path("nas").join(FILE), &stack.content).unwrap();
        stack.set(lines);
        stack
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn secret(&self, name: &str) -> &str {
        &self.secrets.iter().find(|(known, _)| *known == name).unwrap().1
    }

    /// Writes `.env` anew. What is named twice counts as it was named last.
    pub(super) fn set(&self, lines: &[(&str, &str)]) {
        let nas = self.path("nas").display().to_string();
        let own = [("NAS_MOUNT_PATH", nas.as_str()), ("TUNNEL", "direct"), ("REDIS_URL", ""), ("TAILSCALE_PROBE", "off")];
        let profiles = ("COMPOSE_PROFILES", "${DELIVERY},${TUNNEL}${REDIS_URL:+,redis}");
        let text: String = own.iter().chain(lines).chain([&profiles]).map(|(name, value)| format!("{name}={value}\n")).collect();
        std::fs::write(self.path(".env"), text).unwrap();
    }

    /// Runs Compose here.
    pub(super) fn try_compose(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(std::env::var("COMPOSE").expect("tests/compose/engine runs these"));
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", self.folder.path());
        command.env("DOCKER_HOST", std::env::var("DOCKER_HOST").expect("tests/compose/engine runs these"));
        command.args(["--ansi", "never", "--progress", "plain", "--project-directory"]).arg(self.folder.path());
        command.arg("--env-file").arg(self.path(".env")).arg("--file").arg(shipped().join("compose.yaml"));
        command.args(arguments).output().expect("tests/compose/build makes it")
    }

    /// Runs Compose here; it does what it is told.
    #[track_caller]
    pub(super) fn compose(&self, arguments: &[&str]) -> String {
        let output = self.try_compose(arguments);
        assert!(output.status.success(), "compose {arguments:?}: {}\n{}", said(&output), self.logs());
        String::from_utf8(output.stdout).unwrap()
    }

    /// Brings it up as README.md says, until all of it is healthy.
    #[track_caller]
    pub(super) fn up(&self) {
        self.compose(&["up", "--detach", "--wait", "--wait-timeout", &PATIENCE.as_secs().to_string()]);
    }

    /// Returns what all containers have said.
    pub(super) fn logs(&self) -> String {
        said(&self.try_compose(&["logs", "--no-color"]))
    }

    /// Takes it down, with its volumes; nothing is left.
    #[track_caller]
    pub(super) fn down(&self) {
        self.compose(&["--profile", "*", "down", "--volumes"]);
        assert_eq!(left(), "");
    }

    /// As [`Stack::down`], where it did not come up: the engine goes on for a moment with what Compose does not wait for any more.
    #[track_caller]
    pub(super) fn down_again(&self) {
        poll(PATIENCE, "nothing is left", || {
            self.compose(&["--profile", "*", "down", "--volumes"]);
            left().is_empty()
        });
    }

    /// Returns a service's container as `docker inspect` shows it.
    #[track_caller]
    pub(super) fn inspect(&self, service: &str) -> Value {
        let id = self.compose(&["ps", "--all", "--quiet", service]);
        let all: Value = serde_json::from_str(&docker(&["inspect", id.trim()])).unwrap();
        all[0].clone()
    }

    /// Returns a service's first process, as this machine numbers it.
    #[track_caller]
    pub(super) fn pid(&self, service: &str) -> u32 {
        let pid = self.inspect(service)["State"]["Pid"].as_u64().unwrap();
        u32::try_from(pid).ok().filter(|pid| *pid > 1).unwrap_or_else(|| panic!("{service} does not run: {}", self.logs()))
    }

    /// Returns a folder of the machine that is a volume of the stack.
    pub(super) fn volume(&self, name: &str) -> PathBuf {
        docker(&["volume", "inspect", "--format", "{{.Mountpoint}}", &format!("portcullis_{name}")]).into()
    }

    /// Gives what lies in a volume to the account that everything runs as.
    pub(super) fn own(&self, path: &Path) {
        let account = Some(ACCOUNT);
        std::os::unix::fs::chown(path, account, account).unwrap();
        if path.is_dir() {
            std::fs::read_dir(path).unwrap().for_each(|entry| self.own(&entry.unwrap().path()));
        }
    }

    /// Asks the owner's side, on the port that is published.
    #[track_caller]
    pub(super) fn owner(&self, method: &str, path: &str, body: &Value) -> Value {
        let token = format!("Authorization: Bearer {}", self.secret("owner_token"));
        let url = format!("http://127.0.0.1:8000/api/v1{path}");
        let (body, is_json) = (body.to_string(), "Content-Type: application/json");
        let mut arguments = vec!["-sS", "--fail-with-body", "--max-time", "30", "-X", method, "-H", &token, &url];
        if method == "POST" {
            arguments.extend(["-H", is_json, "-d", &body]);
        }
        let output = tool(self.folder.path(), "curl", &arguments);
        assert!(output.status.success(), "{method} {path}: {}\n{}", said(&output), self.logs());
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    /// Shares the file; returns the share's id and its link.
    #[track_caller]
    pub(super) fn share(&self) -> (String, String) {
        self.share_of(FILE)
    }

    /// As [`Stack::share`], of another file.
    #[track_caller]
    pub(super) fn share_of(&self, file: &str) -> (String, String) {
        let made = self.owner("POST", "/shares", &json!({ "path": file }));
        (made["id"].as_str().unwrap().to_owned(), made["url"].as_str().unwrap().to_owned())
    }

    /// Fetches a link as a recipient does who stands where that process does.
    pub(super) fn fetch(&self, url: &str, from: u32, more: &[&str]) -> Output {
        let net = format!("--net=/proc/{from}/ns/net");
        tool(self.folder.path(), "nsenter", &[&[&net, "--", "curl", "-sSfL", "--max-time", "60"], more, &[url]].concat())
    }

    /// Waits until a share is as it should be; returns it.
    #[track_caller]
    pub(super) fn wait_for(&self, id: &str, what: &str, so: impl Fn(&Value) -> bool) -> Value {
        let mut share = Value::Null;
        poll(PATIENCE, what, || {
            share = self.owner("GET", &format!("/shares/{id}"), &Value::Null);
            so(&share)
        });
        share
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        self.try_compose(&["--profile", "*", "down", "--volumes", "--timeout", "1"]);
    }
}
