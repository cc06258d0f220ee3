//! What an operator leans on: numbers, health, settings that are read anew, the service manager.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Answer, Client, SOON, Server, Setup, poll, put};

/// Returns the value of one line of `/metrics`.
#[track_caller]
fn number(server: &Server, name: &str) -> f64 {
    let text = server.api("GET", "/metrics", None).expect_status(200).text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in\n{text}"))
}

fn hang_up(server: &Server) {
    let pid = rustix::process::Pid::from_raw(server.pid().cast_signed()).expect("a process has a number");
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("a signal can be sent");
}

fn ask_with_token(server: &Server, token: &str) -> Answer {
    let authorization = format!("Authorization: Bearer {token}");
    Client::connect(server.owner).request("GET", "/api/v1/session", &[&authorization, "Connection: close"]).expect("an answer")
}

#[test]
fn after_a_download_the_counters_say_exactly_its_bytes() {
    const SIZE: usize = 3_456_789;
    let server = Setup::new().start();
    put(&server, "film.mkv", SIZE);
    let offer = server.share("film.mkv");
    assert_eq!(number(&server, "portcullis_shares{state=\"offered\"}"), 1.0);
    let transfer = server.redeem(&offer);
    // In two parts, one of them twice: each byte counts once.
    for range in ["bytes=0-1999999", "bytes=1000000-1999999", "bytes=2000000-"] {
        server.fetch("GET", &transfer, &[&format!("Range: {range}"), "Connection: close"]).expect("an answer").expect_status(206);
    }
    server.wait_for(&offer.id, "it is delivered", |share| share["state"] == "delivered");
    let delivered: Vec<f64> = ["acknowledged", "handed_over", "confirmed"]
        .map(|evidence| number(&server, &format!("portcullis_delivered_bytes_total{{evidence=\"{evidence}\"}}")))
        .into();
    assert_eq!(delivered.iter().sum::<f64>(), SIZE as f64, "{delivered:?}");
    let again = Client::connect(server.recipient).request("POST", &offer.redeem_path(), &["Connection: close"]);
    again.expect("a genuine link is answered").expect_status(410);
    for (name, expected) in [
        ("portcullis_shares{state=\"delivered\"}", 1.0),
        ("portcullis_shares_made_total", 1.0),
        ("portcullis_links_redeemed_total", 1.0),
        ("portcullis_redeem_refusals_total{reason=\"spent\"}", 1.0),
        ("portcullis_transfers_ended_total{end=\"completed\"}", 1.0),
        ("portcullis_transfers_active", 0.0),
        ("portcullis_open_requests", 0.0),
        ("portcullis_tunnel_open_seconds_count", 1.0),
    ] {
        assert_eq!(number(&server, name), expected, "{name}");
    }
    server.revoke(&offer.id);
    server.outcome(&offer.id);
    assert_eq!(number(&server, "portcullis_shares_closed_total{outcome=\"revoked\"}"), 1.0);
    assert!(number(&server, "portcullis_store_write_seconds_count") >= 5.0);
    assert!(number(&server, "portcullis_state_free_bytes") > 0.0);
    let text = server.api("GET", "/metrics", None).text();
    for private in ["film", &offer.id, "127.0.0.1", &server.token] {
        assert!(!text.contains(private), "{private} stands in the numbers");
    }
}

#[test]
fn health_says_why_the_files_are_away() {
    let server = Setup::new().start();
    let checks = |status| server.api("GET", "/health", None).expect_status(status).json()["checks"].clone();
    assert_eq!(checks(200)["files"]["status"], "ok");
    let gone = server.root.with_extension("gone");
    std::fs::rename(&server.root, &gone).unwrap();
    poll(SOON, "the folder is missed", || server.api("GET", "/health", None).status == 503);
    let files = checks(503)["files"].clone();
    assert_eq!(files["status"], "failing");
    assert!(files["reason"].as_str().is_some_and(|reason| reason.contains("is the NAS mounted?")), "{files}");
    let stranger = Client::connect(server.owner).request("GET", "/health", &["Connection: close"]).expect("an answer");
    assert_eq!(stranger.expect_status(503).json()["checks"], json!({}));
    std::fs::rename(&gone, &server.root).unwrap();
    poll(SOON, "the folder is back", || server.api("GET", "/healthz", None).status == 200);
}

#[test]
fn a_hangup_reads_the_settings_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("portcullis.toml");
    std::fs::write(&path, "max_tunnel_seconds = 100\n").unwrap();
    let server = Setup::new().set("CONFIG_FILE", path.display()).start();
    put(&server, "film.mkv", 1000);
    let expiry = || server.share_with(&json!({ "path": "film.mkv", "policy": { "expires_in_seconds": 3600 } }));
    let seconds = |id: &str| server.show(id)["policy"]["expires_in_seconds"].clone();
    let first = expiry();
    assert_eq!(seconds(&first.id), 100);

    std::fs::write(&path, "max_tunnel_seconds = 200\nshow_hidden = true\n").unwrap();
    hang_up(&server);
    let ceiling = |expected: u64| server.api("GET", "/api/v1/session", None).json()["max_tunnel_seconds"] == expected;
    poll(SOON, "the new ceiling holds", || ceiling(200));
    assert_eq!((seconds(&expiry().id), seconds(&first.id)), (json!(200), json!(100)));
    poll(SOON, "what waits is told", || server.log_text().contains("SHOW_HIDDEN changed, which takes effect at the next start"));

    std::fs::write(&path, "max_tunnel_seconds = 300\nstall_timeout = 5\ngrace_period_seconds = -1\n").unwrap();
    hang_up(&server);
    poll(SOON, "both mistakes are told", || {
        let log = server.log_text();
        let told = |what: &str| log.lines().any(|line| line.contains("The settings stay as they were") && line.contains(what));
        told("did you mean `stall_timeout_seconds`?") && told("GRACE_PERIOD_SECONDS")
    });
    assert!(ceiling(200));
}

#[test]
fn another_owners_token_takes_effect_at_a_hangup() {
    let server = Setup::new().set("OWNER_TOKEN", "").start();
    let path = server.state.join("owner.token");
    let old = std::fs::read_to_string(&path).unwrap().trim().to_owned();
    ask_with_token(&server, &old).expect_status(200);
    let new = "0123456789abcdef0123456789abcdef";
    std::fs::write(&path, format!("{new}\n")).unwrap();
    hang_up(&server);
    poll(SOON, "the new token opens", || ask_with_token(&server, new).status == 200);
    ask_with_token(&server, &old).expect_status(401);
}

/// Waits for a datagram of which a line is as wanted; returns all of it.
#[track_caller]
fn told(manager: &UnixDatagram, what: &str) -> String {
    let (started, mut heard) = (Instant::now(), Vec::new());
    while started.elapsed() < SOON {
        let mut buffer = [0; 4096];
        match manager.recv(&mut buffer) {
            Ok(length) => {
                let text = String::from_utf8(buffer[..length].to_vec()).expect("UTF-8");
                if text.lines().any(|line| line == what) {
                    return text;
                }
                heard.push(text);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("never told {what:?}, but {heard:?}")
}

#[test]
fn the_service_manager_is_told_how_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut server = Setup::new().set("NOTIFY_SOCKET", path.display()).set("WATCHDOG_USEC", 400_000).start();
    assert!(told(&manager, "READY=1").contains("STATUS=0 shares open, 0 running"));
    told(&manager, "WATCHDOG=1");
    put(&server, "film.mkv", 1000);
    server.share("film.mkv");
    told(&manager, "STATUS=1 share open, 0 running");
    told(&manager, "WATCHDOG=1");
    hang_up(&server);
    let reloading = told(&manager, "RELOADING=1");
    assert!(reloading.lines().any(|line| line.strip_prefix("MONOTONIC_USEC=").is_some_and(|n| n.parse::<u64>().is_ok())), "{reloading}");
    told(&manager, "READY=1");
    assert!(server.stop().success());
    told(&manager, "STOPPING=1");
}

#[test]
fn config_shows_who_said_what_and_no_secret() {
    let server = Setup::new().start();
    let path = server.folder().join("settings.toml");
    let secret = "a-secret-that-nobody-may-see-42";
    std::fs::write(&path, format!("# mine\nlog = \"debug\"\nowner_token = \"{secret}\"\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = server.command();
        command.env("OWNER_TOKEN", "").env("DRAIN_SECOND", "5").arg("config").args(arguments).arg("--config").arg(&path);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, out, err) = run(&["--json", "--retention-days=30"]);
    assert_eq!(code, Some(0), "{err}");
    let json: Value = serde_json::from_str(&out).unwrap();
    let setting = |name: &str| json["settings"].as_array().unwrap().iter().find(|setting| setting["name"] == name).unwrap().clone();
    for (name, value, origin) in [
        ("LOG", json!("debug"), format!("{}:2", path.display())),
        ("RETENTION_DAYS", json!("30"), "flag".to_owned()),
        ("DRAIN_SECONDS", json!("1"), "environment".to_owned()),
        ("STALL_TIMEOUT_SECONDS", json!("300"), "default".to_owned()),
        ("OWNER_TOKEN", Value::Null, format!("{}:3", path.display())),
    ] {
        let found = setting(name);
        assert_eq!((&found["value"], found["origin"].as_str().unwrap()), (&value, origin.as_str()), "{found}");
    }
    assert!(json["notes"][0].as_str().unwrap().contains("\"DRAIN_SECOND\", which is no setting; is DRAIN_SECONDS meant?"), "{json}");
    let (code, table, note) = run(&[]);
    assert_eq!((code, table.lines().count()), (Some(0), json["settings"].as_array().unwrap().len()));
    assert!(note.contains("is DRAIN_SECONDS meant?"), "{note}");
    let (code, _, err) = run(&["--retention-days=x"]);
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("RETENTION_DAYS: \"x\" is not allowed"), "{err}");
    for text in [out, table, err] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[test]
fn check_shows_every_setting_and_prerequisite() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 10);
    let run = |locale: &str| {
        let output = server.command().env("LC_ALL", locale).arg("check").arg(&server.root).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, out) = run("C.UTF-8");
    assert_eq!(code, Some(0), "{out}");
    for what in ["DRAIN_SECONDS: 1 (environment)", "OWNER_TOKEN: set (environment)", "the store can be read", "the server runs and is well"]
    {
        assert!(out.lines().any(|line| line.starts_with('✓') && line.contains(what)), "{what}: {out}");
    }
    let (_, plain) = run("C");
    assert!(plain.is_ascii() && plain.lines().all(|line| line.starts_with("ok ") || line.starts_with("note ")), "{plain}");
    let mut wrong = server.command();
    let output = wrong.arg("check").arg(server.root.join("nothing")).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(out.contains("WRONG") && out.contains("portcullis serve FOLDER"), "{out}");
}

/// Returns the setting of a name, as the running server tells it.
fn setting(server: &Server, name: &str) -> Value {
    let settings = server.api("GET", "/api/v1/settings", None).expect_status(200).json();
    settings["settings"].as_array().unwrap().iter().find(|setting| setting["name"] == name).unwrap_or_else(|| panic!("no {name}")).clone()
}

#[test]
fn the_settings_are_those_that_hold_in_the_running_server_and_never_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("portcullis.toml");
    std::fs::write(&path, "stall_timeout_seconds = 100\n").unwrap();
    let server = Setup::new().set("CONFIG_FILE", path.display()).start();
    let stall = setting(&server, "STALL_TIMEOUT_SECONDS");
    assert_eq!(
        stall,
        json!({
            "name": "STALL_TIMEOUT_SECONDS", "flag": "--stall-timeout-seconds", "value": "100", "default": "300", "is_set": true,
            "is_secret": false, "by_file": null, "origin": "file", "origin_text": format!("{}:1", path.display()),
            "help": "How long a download that has begun may stand still before it counts as stalled.", "unit": "seconds", "reloads": true,
        })
    );
    assert_eq!(setting(&server, "BASE_URL")["origin"], "environment");
    let token = setting(&server, "OWNER_TOKEN");
    assert_eq!((&token["value"], &token["is_set"], &token["is_secret"]), (&Value::Null, &json!(true), &json!(true)));
    let all = server.api("GET", "/api/v1/settings", None).text();
    assert!(!all.contains(&server.token), "a secret is told");

    // What a file says that was not read yet does not hold; and what is read and waits does not either.
    std::fs::write(&path, "show_hidden = true\nstall_timeout_seconds = 200\n").unwrap();
    assert_eq!(setting(&server, "STALL_TIMEOUT_SECONDS"), stall);
    hang_up(&server);
    poll(SOON, "the new time holds", || setting(&server, "STALL_TIMEOUT_SECONDS")["value"] == "200");
    assert_eq!(setting(&server, "STALL_TIMEOUT_SECONDS")["origin_text"], format!("{}:2", path.display()));
    assert_eq!(setting(&server, "SHOW_HIDDEN")["value"], "false");
    let notes = server.api("GET", "/api/v1/settings", None).json()["notes"].clone();
    assert_eq!(notes, json!(["SHOW_HIDDEN changed, which takes effect at the next start"]));
}

#[test]
fn a_running_server_finds_no_mistake_in_what_is_its_own() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    let found = server.api("GET", "/api/v1/check", None).expect_status(200).json();
    for one in found["checks"].as_array().unwrap() {
        // How full the disk is, is the machine's own business; and behind nginx it may be looked at still.
        let is_ours = !matches!(one["name"].as_str(), Some("disk" | "log" | "NGINX_ACCESS_LOG" | "MAX_CONNECTIONS"));
        assert!(!is_ours || one["status"] == "ok", "{one}");
        assert_eq!(one["status"] == "ok", one["fix"].is_null(), "{one}");
        assert!(one["text"].as_str().is_some_and(|text| text.ends_with('.')), "{one}");
    }
    let names: Vec<&str> = found["checks"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    for name in ["store", "files", "tunnel", "NAS_MOUNT_PATH", "OWNER_LISTEN", "STATE_DIR", "clock"] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
}
