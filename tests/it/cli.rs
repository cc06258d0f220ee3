//! The command line: what scripts and people at a terminal rely on.

mod keeping;
mod redis;
mod shell;
mod week;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Client, Offer, PATIENCE, SOON, Server, Setup, path_of, poll, put, put_bytes, sha256};

/// The exit codes that are documented.
mod exit {
    pub(super) const DONE: i32 = 0;
    pub(super) const ERROR: i32 = 1;
    pub(super) const USAGE: i32 = 2;
    pub(super) const EXPIRED: i32 = 3;
    pub(super) const STALLED: i32 = 4;
    pub(super) const REVOKED: i32 = 5;
    pub(super) const SOURCE_CHANGED: i32 = 6;
    pub(super) const INTERRUPTED: i32 = 130;
}

fn run(server: &Server, arguments: &[&str]) -> Output {
    finish(server.command().args(arguments).stdin(Stdio::null()).spawn().expect("the binary starts"))
}

fn finish(mut child: Child) -> Output {
    let started = Instant::now();
    while child.try_wait().expect("a child can be asked").is_none() {
        if started.elapsed() > PATIENCE {
            let _ = child.kill();
            let output = child.wait_with_output().expect("it ended");
            panic!("still running after {PATIENCE:?}: {}", said(&output));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().expect("it ended")
}

fn said(output: &Output) -> String {
    format!("stdout:\n{}\nstderr:\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[track_caller]
fn check_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", said(output));
    assert!(!said(output).contains("panicked"), "{}", said(output));
}

/// Returns the one line of stdout.
#[track_caller]
fn line(output: &Output) -> String {
    let text = String::from_utf8(output.stdout.clone()).expect("UTF-8 on stdout");
    assert_eq!(text.lines().count(), 1, "{}", said(output));
    text.trim_end().to_owned()
}

/// A `share --wait` that runs, with its link.
struct Waiting {
    child: Child,
    link: String,
}

impl Waiting {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut url = String::new();
        stdout.read_line(&mut url).expect("stdout can be read");
        if url.is_empty() {
            panic!("no link: {}", said(&finish(child)));
        }
        Self { child, link: url.trim_end().to_owned() }
    }

    fn offer(&self) -> Offer {
        let link = path_of(&self.link).to_owned();
        let id = link[1..].split('/').next().expect("a share's id").to_owned();
        Offer { id, url: self.link.clone(), link }
    }

    fn finish(self) -> Output {
        finish(self.child)
    }
}

fn wait_share(server: &Server, arguments: &[&str]) -> Waiting {
    Waiting::start(server.command().arg("share").arg(server.root.join("film.mkv")).arg("--wait").args(arguments))
}

#[test]
fn share_prints_the_link_alone_and_it_works() {
    let server = Setup::new().start();
    let content = put(&server, "film.mkv", 1000);
    let path = server.root.join("film.mkv");
    for file in [path.to_str().unwrap(), "film.mkv"] {
        let output = run(&server, &["share", file]);
        check_code(&output, exit::DONE);
        let url = line(&output);
        let redeemed = server.fetch("POST", path_of(&url).rsplit_once('/').unwrap().0, &[]).expect("an answer").expect_status(303);
        let bytes = server.fetch("GET", &redeemed.location(), &[]).expect("an answer").expect_status(200);
        assert_eq!(sha256(&bytes.body), sha256(&content));
    }
}

#[test]
fn share_takes_an_expiry_a_count_and_a_note() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    for (text, seconds) in [("90", 90), ("90s", 90), ("10m", 600), ("1h", 3600), ("1h30m", 3600), ("2d", 3600)] {
        let output = run(&server, &["share", "film.mkv", "--expires", text, "--downloads", "3", "--note", "for Ada", "--json"]);
        check_code(&output, exit::DONE);
        let share: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", said(&output)));
        assert_eq!(share["policy"]["expires_in_seconds"], seconds, "{text}: clamped to the hour where it is longer");
        assert_eq!((&share["policy"]["max_downloads"], &share["note"]), (&json!(3), &json!("for Ada")));
    }
    for bad in ["0", "-1", "soon", "1x", ""] {
        let output = run(&server, &["share", "film.mkv", &format!("--expires={bad}")]);
        assert!(matches!(output.status.code(), Some(exit::ERROR | exit::USAGE)), "--expires={bad}: {}", said(&output));
        assert!(output.stdout.is_empty(), "{}", said(&output));
    }
}

#[test]
fn a_qr_code_goes_to_stderr_and_the_link_stays_alone() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    let output = run(&server, &["share", "film.mkv", "--qr"]);
    check_code(&output, exit::DONE);
    assert!(line(&output).starts_with("http://"));
    assert!(String::from_utf8_lossy(&output.stderr).contains(['▀', '▄', '█']), "{}", said(&output));
}

#[test]
fn what_cannot_be_shared_is_said_in_a_sentence() {
    let server = Setup::new().start();
    std::fs::create_dir(server.root.join("folder")).unwrap();
    for file in ["absent.bin", "folder", "../state/owner.sock", "/etc/passwd"] {
        let output = run(&server, &["share", file]);
        check_code(&output, exit::ERROR);
        let sentence = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.stdout.is_empty() && sentence.trim().contains(' '), "{file}: {}", said(&output));
    }
    for arguments in [&["share"][..], &["nonsense"], &["share", "a", "--nonsense"], &["close"], &["share", "a", "--downloads", "many"]] {
        check_code(&run(&server, arguments), exit::USAGE);
    }
}

#[test]
fn waiting_ends_well_when_the_file_is_delivered() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 200_000);
    let waiting = wait_share(&server, &[]);
    let transfer = server.redeem(&waiting.offer());
    server.fetch("GET", &transfer, &[]).expect("an answer").expect_status(200);
    check_code(&waiting.finish(), exit::DONE);
}

#[test]
fn waiting_tells_how_it_ended_by_its_exit_code() {
    let server = Setup::new().set("STALL_TIMEOUT_SECONDS", 2).start();
    put(&server, "film.mkv", 64 * 1024 * 1024);
    check_code(&wait_share(&server, &["--expires", "1s"]).finish(), exit::EXPIRED);

    let waiting = wait_share(&server, &[]);
    server.revoke(&waiting.offer().id);
    check_code(&waiting.finish(), exit::REVOKED);

    let waiting = wait_share(&server, &[]);
    let transfer = server.redeem(&waiting.offer());
    let mut idle = Client::connect_with_small_buffer(server.recipient, 16 * 1024);
    idle.ask("GET", &transfer, &[]);
    assert_eq!(idle.answer_head().expect("an answer").status, 200);
    check_code(&waiting.finish(), exit::STALLED);

    let waiting = wait_share(&server, &[]);
    std::fs::write(server.root.join("film.mkv"), "other").unwrap();
    let answer = server.fetch("POST", &waiting.offer().redeem_path(), &[]).expect("an answer");
    if answer.status == 303 {
        server.fetch("GET", &answer.location(), &[]);
    }
    check_code(&waiting.finish(), exit::SOURCE_CHANGED);
}

#[test]
fn an_interrupt_while_waiting_closes_the_share() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    let waiting = wait_share(&server, &[]);
    let offer = waiting.offer();
    let pid = rustix::process::Pid::from_child(&waiting.child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a signal can be sent");
    check_code(&waiting.finish(), exit::INTERRUPTED);
    assert_eq!(server.outcome(&offer.id), "revoked");
}

#[test]
fn ls_lists_and_close_closes() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    let (one, two) = (server.share("film.mkv"), server.share("film.mkv"));
    let listed = |arguments: &[&str]| {
        let output = run(&server, arguments);
        check_code(&output, exit::DONE);
        let text = String::from_utf8(output.stdout).unwrap();
        (text.contains(&one.id), text.contains(&two.id))
    };
    assert_eq!(listed(&["ls", "--json"]), (true, true));
    check_code(&run(&server, &["close", &one.id]), exit::DONE);
    assert_eq!(server.outcome(&one.id), "revoked");
    assert_eq!(listed(&["ls", "--json"]), (false, true));
    assert_eq!(listed(&["ls", "--all", "--json"]), (true, true));
    let text = run(&server, &["ls"]);
    check_code(&text, exit::DONE);
    assert!(String::from_utf8_lossy(&text.stdout).contains("film.mkv"), "{}", said(&text));
    let unknown = run(&server, &["close", "00000000-0000-4000-8000-000000000000"]);
    check_code(&unknown, exit::ERROR);
}

#[test]
fn names_reach_the_terminal_without_control_characters() {
    let server = Setup::new().start();
    for name in [&b"red\x1b[31m\x1b]0;title\x07.bin"[..], "fdp\u{202e}exe.bin".as_bytes(), b"line\nbreak.bin", b"\xff\x9b31m.bin"] {
        put_bytes(&server, name, 100);
    }
    let files = server.api("GET", "/api/v1/files?path=", None).expect_status(200).json();
    for entry in files["entries"].as_array().unwrap() {
        server.share_with(&json!({ "path": entry["path"] }));
    }
    let output = run(&server, &["ls"]);
    check_code(&output, exit::DONE);
    let text = String::from_utf8(output.stdout).expect("UTF-8 on a terminal");
    let odd = |c: char| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c);
    assert!(!text.contains(odd), "{text:?}");
    assert!(!text.lines().any(|line| line.starts_with("break.bin")), "{text}");
}

fn alone(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    let port = crate::harness::free_port();
    command.env_clear().current_dir(folder).env("PATH", "/usr/bin:/bin").env("STATE_DIR", folder.join("state"));
    command.env("RECIPIENT_LISTEN", format!("127.0.0.1:{port}")).env("BASE_URL", format!("http://127.0.0.1:{port}"));
    command.env("OWNER_LISTEN", format!("127.0.0.1:{}", crate::harness::free_port())).env("DRAIN_SECONDS", "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn share_without_a_server_brings_its_own_and_leaves_with_the_download() {
    let dir = tempfile::tempdir().unwrap();
    let content = crate::harness::noise(300_000, 7);
    std::fs::write(dir.path().join("report.pdf"), &content).unwrap();
    let waiting = Waiting::start(alone(dir.path()).args(["share", "report.pdf"]));
    let folder = dir.path().join("downloads");
    std::fs::create_dir(&folder).unwrap();
    let curl = crate::harness::tool(&folder, "curl", &["-sS", "-q", "-L", "-o", "out", &waiting.link]);
    assert!(curl.status.success(), "{}", said(&curl));
    assert_eq!(crate::harness::sha256_of_file(&folder.join("out")), sha256(&content));
    let output = waiting.finish();
    check_code(&output, exit::DONE);
    assert!(
        String::from_utf8_lossy(&output.stderr).trim().contains(' '),
        "it says that the link lives only while it runs: {}",
        said(&output)
    );
}

#[test]
fn commands_that_need_a_server_say_so() {
    let dir = tempfile::tempdir().unwrap();
    for arguments in [&["ls"][..], &["close", "00000000-0000-4000-8000-000000000000"], &["healthcheck"], &["sign-in"]] {
        let output = finish(alone(dir.path()).args(arguments).spawn().unwrap());
        assert!(!matches!(output.status.code(), Some(exit::DONE) | None), "{arguments:?}: {}", said(&output));
        assert!(String::from_utf8_lossy(&output.stderr).trim().contains(' '), "{arguments:?}: {}", said(&output));
    }
}

#[test]
fn a_running_server_is_healthy_and_lets_its_owner_in() {
    let server = Setup::new().start();
    check_code(&run(&server, &["healthcheck"]), exit::DONE);
    let output = run(&server, &["sign-in"]);
    check_code(&output, exit::DONE);
    let url = line(&output);
    let answer = Client::connect(server.owner).request("GET", path_of(&url), &["Connection: close"]).expect("an answer").expect_status(303);
    assert!(answer.header("set-cookie").is_some());
}

#[test]
fn check_names_every_mistake_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = alone(dir.path());
    command.env("NAS_MOUNT_PATH", dir.path()).env("MAX_TUNNEL_SECONDS", "0").env("JWT_SECRET", "short").env("BASE_URL", "nonsense");
    command.env("STALL_TIMEOUT_SECONDS", "many").env("REDIS_URL", "http://localhost");
    let output = finish(command.arg("check").spawn().unwrap());
    check_code(&output, exit::ERROR);
    let text = said(&output);
    for name in ["MAX_TUNNEL_SECONDS", "JWT_SECRET", "BASE_URL", "STALL_TIMEOUT_SECONDS", "REDIS_URL"] {
        assert!(text.contains(name), "{name} is not named: {text}");
    }
    let right = finish(alone(dir.path()).env("NAS_MOUNT_PATH", dir.path()).arg("check").spawn().unwrap());
    check_code(&right, exit::DONE);
}

#[test]
fn a_bad_setting_stops_the_start_and_no_secret_is_printed() {
    let dir = tempfile::tempdir().unwrap();
    let secret = "dev-secret-change-me-dev-secret-change-me";
    for (name, value) in [("JWT_SECRET", secret), ("MAX_TUNNEL_SECONDS", "-1"), ("TUNNEL", "carrier-pigeon"), ("OWNER_LISTEN", "here")] {
        let output = finish(alone(dir.path()).env(name, value).arg("serve").arg(dir.path()).spawn().unwrap());
        assert!(!matches!(output.status.code(), Some(exit::DONE) | None), "{name}: {}", said(&output));
        assert!(said(&output).contains(name), "{name}: {}", said(&output));
        assert!(!said(&output).contains(secret), "{}", said(&output));
    }
    let output = finish(alone(dir.path()).arg("serve").arg(dir.path().join("absent")).spawn().unwrap());
    assert!(!matches!(output.status.code(), Some(exit::DONE) | None), "{}", said(&output));
}

#[test]
fn secrets_are_read_from_files() {
    let dir = tempfile::tempdir().unwrap();
    let token = crate::harness::random_hex(32);
    std::fs::write(dir.path().join("token"), format!("{token}\n")).unwrap();
    std::fs::create_dir(dir.path().join("nas")).unwrap();
    let port = crate::harness::free_port();
    let mut command = alone(dir.path());
    command.env("OWNER_TOKEN_FILE", dir.path().join("token")).env("OWNER_LISTEN", format!("127.0.0.1:{port}"));
    let mut child = command.arg("serve").arg(dir.path().join("nas")).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut status = 0;
    poll(SOON, "it answers", || {
        let address = ([127, 0, 0, 1], port).into();
        let authorization = format!("Authorization: Bearer {token}");
        let answer = Client::try_connect(address, None, None).ok().and_then(|mut c| c.request("GET", "/api/v1/shares", &[&authorization]));
        status = answer.map_or(0, |a| a.status);
        status != 0
    });
    let _ = child.kill();
    let _ = child.wait();
    assert_eq!(status, 200);
}

#[test]
fn help_and_version_are_there() {
    let dir = tempfile::tempdir().unwrap();
    for arguments in [&["--help"][..], &["--version"], &["share", "--help"], &["serve", "--help"]] {
        let mut child = alone(dir.path()).args(arguments).spawn().unwrap();
        let mut text = String::new();
        child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        check_code(&finish(child), exit::DONE);
        assert!(!text.trim().is_empty(), "{arguments:?}");
    }
}
