//! What is called delivered, against what the recipient has: through the ingress, a real tailscaled and our recipient side.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::VISITOR;
use super::shared::{beside, curl};
use crate::harness::{Lab, Offer, SOON, Server, download_folder, poll, put, sha256};

const MIB: u64 = 1024 * 1024;
/// What curl has read and answered for, and not yet written out: it was seen to hold up to 61 KiB.
const IN_CURLS_HANDS: u64 = 128 * 1024;
/// How far what is told may be behind what is there, when nothing moves any more.
const BEHIND: u64 = 128 * 1024;

/// A recipient with curl, who may be held up.
pub(super) struct Fetching {
    process: Child,
    path: PathBuf,
}

impl Fetching {
    pub(super) fn begin(lab: &Lab, offer: &Offer, folder: &Path, arguments: &[&str]) -> Self {
        let path = folder.join("fetched");
        let _ = fs::remove_file(&path);
        let mut command = Command::new("curl");
        command.args(["--silent", "--location", "--fail", "--no-buffer", "--cacert", lab.authority()]).args(arguments);
        command.args(["--connect-to", &format!("{}:443:{}", lab.name(), lab.ingress(443)), "--output"]).arg(&path).arg(&offer.url);
        Self { process: command.stdin(Stdio::null()).spawn().expect("curl is installed"), path }
    }

    pub(super) fn has(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |file| file.len())
    }

    /// Waits until it has ended by itself.
    pub(super) fn ended(&mut self) -> ExitStatus {
        self.process.wait().expect("a child can be waited for")
    }

    fn hold(&self) {
        kill_process(Pid::from_child(&self.process), Signal::STOP).expect("it runs");
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(super) fn delivered(share: &Value) -> u64 {
    share["progress"]["delivered_bytes"].as_u64().unwrap_or_else(|| panic!("no progress: {share}"))
}

/// Waits until what is told as delivered stands still, and returns it.
fn settled(server: &Server, offer: &Offer) -> u64 {
    let (mut last, mut since) = (delivered(&server.show(&offer.id)), Instant::now());
    let begun = Instant::now();
    while since.elapsed() < Duration::from_secs(2) {
        assert!(begun.elapsed() < SOON, "it does not settle");
        std::thread::sleep(Duration::from_millis(100));
        let now = delivered(&server.show(&offer.id));
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    last
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn what_is_called_delivered_is_with_the_recipient_however_slow_they_are() {
    let lab = Lab::start();
    let server = beside(&lab, "tailscale").start();
    put(&server, "film.mkv", 60_000_000);
    for rate in ["50k", "500k", "5M"] {
        let offer = server.share("film.mkv");
        let fetching = Fetching::begin(&lab, &offer, &download_folder(&server), &["--limit-rate", rate]);
        let begun = Instant::now();
        let mut seen = 0;
        while begun.elapsed() < Duration::from_secs(4) {
            let told = delivered(&server.show(&offer.id));
            let has = fetching.has();
            assert!(told <= has + IN_CURLS_HANDS, "{rate}: {told} are called delivered, and {has} are there");
            seen = seen.max(told);
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(seen > 0, "{rate}: something is delivered");
        fetching.hold();
        let (told, has) = (settled(&server, &offer), fetching.has());
        println!("{rate}: {told} delivered, {has} in the file: {} KiB", (told as i64 - has as i64) / 1024);
        assert!(told <= has + IN_CURLS_HANDS && told + BEHIND >= has, "{rate}: {told} are called delivered, and {has} are there");
        let share = server.show(&offer.id);
        assert_eq!(share["progress"]["evidence"], "confirmed", "{share}");
        drop(fetching);
        server.wait_for(&offer.id, "it waits for them", |share| share["state"] == "waiting");
        server.revoke(&offer.id);
    }
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn a_recipient_who_left_early_has_not_got_it_where_that_can_be_known_and_may_come_back_where_it_cannot() {
    let mut lab = Lab::start();
    lab.tell(&format!("ingress-src {VISITOR}"));
    for (way, known) in [("tailscale", true), ("tailscale-mount", false)] {
        let server = beside(&lab, way).start();
        let file = put(&server, "film.mkv", 1_000_000);
        let offer = server.share("film.mkv");
        let folder = download_folder(&server);
        let fetching = Fetching::begin(&lab, &offer, &folder, &["--limit-rate", "50k"]);
        poll(SOON, "a fifth is there", || fetching.has() >= 200_000);
        let (path, has) = (fetching.path.display().to_string(), fetching.has());
        drop(fetching);
        assert!(has < 1_000_000, "they left before the end");
        let share =
            server.wait_for(&offer.id, "it is known that they left", |share| share["state"] == if known { "waiting" } else { "delivered" });
        assert_eq!(share["progress"]["evidence"], if known { "confirmed" } else { "handed_over" }, "{share}");
        assert_eq!(delivered(&share) < 1_000_000, known, "{has} bytes are there: {share}");
        let again = curl(&lab, &offer.url, &["--location", "--fail", "--continue-at", "-", "--output", &path]);
        assert!(again.status.success(), "{way}: {}", String::from_utf8_lossy(&again.stderr));
        assert_eq!(sha256(&fs::read(&path).unwrap()), sha256(&file), "{way}");
        assert_eq!(server.uses(&offer.id), 1);
        server.wait_for(&offer.id, "it is delivered", |share| share["state"] == "delivered" && share["progress"]["percent"] == 100);
    }
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn a_revoke_lets_out_no_more_than_a_mebibyte() {
    let lab = Lab::start();
    let server = beside(&lab, "tailscale").start();
    put(&server, "film.mkv", 40_000_000);
    for rate in ["500k", "5M", "50M"] {
        let offer = server.share("film.mkv");
        let fetching = Fetching::begin(&lab, &offer, &download_folder(&server), &["--limit-rate", rate]);
        poll(SOON, "it goes on", || fetching.has() > 2_000_000);
        server.revoke(&offer.id);
        let at_revoke = fetching.has();
        assert_eq!(server.outcome(&offer.id), "revoked");
        let mut last = (fetching.has(), Instant::now());
        while last.1.elapsed() < Duration::from_secs(1) {
            std::thread::sleep(Duration::from_millis(50));
            let now = fetching.has();
            if now != last.0 {
                last = (now, Instant::now());
            }
        }
        let more = last.0 - at_revoke;
        println!("{rate}: {} KiB more after the revoke", more / 1024);
        assert!(more <= MIB, "{rate}: {more} bytes more");
    }
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn who_speaks_http_1_is_served_and_what_they_have_is_called_sent() {
    let lab = Lab::start();
    let server = beside(&lab, "tailscale").start();
    let file = put(&server, "film.mkv", 5_000_000);
    let offer = server.share("film.mkv");
    let fetched = curl(&lab, &offer.url, &["--http1.1", "--location", "--fail"]);
    assert_eq!(sha256(&fetched.stdout), sha256(&file));
    let share = server.wait_for(&offer.id, "all of it is sent", |share| share["state"] == "delivered");
    assert_eq!(share["progress"]["evidence"], "handed_over", "{share}");
}
