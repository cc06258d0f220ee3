//! The product behind a real nginx that is reloaded, stopped, killed and told to open its log anew while it sends, and a product that is
//! killed while its nginx sends on.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Client, Offer, SOON, Server, Setup, poll, put, sha256};

const MIB: usize = 1024 * 1024;
/// More than the kernels on the way hold by far.
pub(super) const FILM_BYTES: usize = 24 * MIB;
/// How much a recipient has taken when something happens.
const PART_BYTES: usize = 2 * MIB;
/// What the kernels may have acknowledged beyond what the reader took: its own small receive buffer, and slack for it.
const MOST_AHEAD_BYTES: u64 = 128 * 1024;
/// How many lines of nginx's log were counted.
pub(super) const OURS: &str = "portcullis_nginx_log_lines_total{kind=\"ours\"}";
/// How many of them were not ours.
pub(super) const FOREIGN: &str = "portcullis_nginx_log_lines_total{kind=\"foreign\"}";
/// How long somebody looks who expects to see nothing: several looks of the product's.
pub(super) const A_WHILE: Duration = Duration::from_millis(1500);

/// A download that has begun.
pub(super) struct Scene {
    pub(super) server: Server,
    pub(super) content: Vec<u8>,
    pub(super) offer: Offer,
    pub(super) transfer: String,
    pub(super) client: Client,
    pub(super) got: Vec<u8>,
}

impl Scene {
    /// Begins a download of the film, of which a part is taken.
    fn new() -> Self {
        Self::of(Setup::new().behind_nginx().set("GRACE_PERIOD_SECONDS", 30).start())
    }

    pub(super) fn of(server: Server) -> Self {
        let mut scene = Self::begin(server, FILM_BYTES);
        scene.take(PART_BYTES);
        scene
    }

    /// Begins a download of a film of this length.
    pub(super) fn begin(server: Server, size: usize) -> Self {
        let content = put(&server, "film.mkv", size);
        let offer = server.share("film.mkv");
        let transfer = server.redeem(&offer);
        let mut client = Client::connect_with_small_buffer(server.recipient, 16 * 1024);
        client.ask("GET", &transfer, &["Connection: close"]);
        client.answer_head().expect("an answer").expect_status(200);
        Self { server, content, offer, transfer, client, got: Vec::new() }
    }

    /// Takes so many bytes in all, or a few more.
    pub(super) fn take(&mut self, bytes: usize) {
        while self.got.len() < bytes {
            let some = self.client.read_some(64 * 1024);
            assert!(!some.is_empty(), "it goes on");
            self.got.extend(some);
        }
    }

    /// Takes what comes yet.
    pub(super) fn take_the_rest(&mut self) {
        self.got.extend(self.client.read_to_close(SOON));
    }

    /// Asks for what is missing over another connection.
    pub(super) fn resume(&mut self) {
        let range = format!("Range: bytes={}-", self.got.len());
        let mut client = Client::connect(self.server.recipient);
        self.got.extend(client.request("GET", &self.transfer, &[&range]).expect("an answer").expect_status(206).body);
    }

    pub(super) fn assert_delivered_once(&self) {
        assert_eq!((self.got.len(), sha256(&self.got)), (self.content.len(), sha256(&self.content)));
        let share = self.server.wait_for(&self.offer.id, "all of it is delivered", |share| share["state"] == "delivered");
        assert_eq!((delivered(&share), self.server.uses(&self.offer.id)), (self.content.len() as u64, 1), "{share:#}");
    }
}

/// Asks for a film of this length, and reads nothing of it.
fn unread(server: &Server, size: usize) -> (Vec<u8>, Offer, Client) {
    let content = put(server, "film.mkv", size);
    let offer = server.share("film.mkv");
    let transfer = server.redeem(&offer);
    let mut client = Client::connect_with_small_buffer(server.recipient, 2048);
    client.ask("GET", &transfer, &["Connection: close"]);
    (content, offer, client)
}

pub(super) fn delivered(share: &Value) -> u64 {
    share["progress"]["delivered_bytes"].as_u64().unwrap_or_else(|| panic!("no progress: {share}"))
}

/// Returns the value of one line of `/metrics`.
pub(super) fn number(server: &Server, line: &str) -> u64 {
    let text = server.api("GET", "/metrics", None).expect_status(200).text();
    let found = text.lines().find_map(|it| it.strip_prefix(line)?.trim().parse().ok());
    found.unwrap_or_else(|| panic!("no {line} in {text}"))
}

pub(super) fn assert_no_mishap(server: &Server) {
    for mishap in ["oversized_line", "truncation", "lost_file"] {
        assert_eq!(number(server, &format!("portcullis_nginx_log_mishaps_total{{kind=\"{mishap}\"}}")), 0, "{mishap}");
    }
}

pub(super) fn lines_in(server: &Server, name: &str) -> u64 {
    fs::read_to_string(server.nginx_folder().join(name)).unwrap_or_default().lines().count() as u64
}

#[test]
fn a_reload_lets_a_download_end_and_serves_the_next() {
    let mut scene = Scene::new();
    scene.server.nginx().signal(Signal::HUP);
    for _ in 0..3 {
        let offer = scene.server.share("film.mkv");
        let transfer = scene.server.redeem(&offer);
        let answer = scene.server.fetch("GET", &transfer, &[]).expect("an answer").expect_status(200);
        assert!(answer.body == scene.content);
        scene.server.wait_for(&offer.id, "the next is delivered", |share| share["state"] == "delivered");
    }
    scene.take_the_rest();
    scene.assert_delivered_once();
}

#[test]
fn an_orderly_end_of_nginx_lets_a_download_end_and_nobody_in() {
    let mut scene = Scene::new();
    scene.server.nginx().signal(Signal::QUIT);
    let recipient = scene.server.recipient;
    poll(SOON, "nobody is let in", || TcpStream::connect(recipient).is_err());
    scene.take_the_rest();
    scene.assert_delivered_once();
    // What it has nobody can fetch again until there is an nginx again.
    scene.server.nginx().start_again();
    let again = scene.server.fetch("GET", &scene.transfer, &["Range: bytes=0-9"]).expect("an answer").expect_status(206);
    assert_eq!(again.body, scene.content[..10]);
}

#[test]
fn a_kill_of_nginx_leaves_what_was_acknowledged_and_the_download_resumes() {
    let mut scene = Scene::new();
    let id = scene.offer.id.clone();
    scene.server.wait_for(&id, "what was taken is counted", |share| delivered(share) + MOST_AHEAD_BYTES >= PART_BYTES as u64);
    scene.server.nginx().kill();
    let taken = scene.got.len() as u64;
    // What lay in the kernels of both may come yet, and was acknowledged.
    scene.take_the_rest();
    let arrived = scene.got.len() as u64;
    assert!((taken..FILM_BYTES as u64).contains(&arrived), "{arrived}");
    let share = scene.server.wait_for(&id, "it waits", |share| share["state"] == "waiting");
    let told = delivered(&share);
    assert!(told <= arrived && told + MOST_AHEAD_BYTES >= taken, "{told} of {taken} to {arrived}: {share:#}");
    let log = fs::read_to_string(scene.server.nginx_folder().join("access.log")).unwrap();
    // The redeem has one, and the product's own look at whether nginx stands, which comes when it likes.
    assert!(log.lines().all(|line| line.contains("\"body\":\"0\"")), "what was killed has no line: {log}");
    scene.server.nginx().start_again();
    scene.resume();
    scene.assert_delivered_once();
}

#[test]
fn a_rotation_of_the_log_loses_no_line_of_what_runs() {
    let mut scene = Scene::new();
    let folder = scene.server.nginx_folder();
    for n in 1..=3 {
        fs::rename(folder.join("access.log"), folder.join(format!("access.log.{n}"))).unwrap();
        // Between the rename and the signal nginx writes to the file that has the other name.
        scene.server.fetch("GET", &scene.offer.link, &[]).expect("an answer");
        scene.server.nginx().signal(Signal::USR1);
        poll(SOON, "the log is opened anew", || folder.join("access.log").exists());
        scene.server.fetch("GET", &scene.offer.link, &[]).expect("an answer");
    }
    scene.take_the_rest();
    scene.assert_delivered_once();
    let names = ["access.log", "access.log.1", "access.log.2", "access.log.3"];
    let lines = || names.map(|name| lines_in(&scene.server, name)).iter().sum::<u64>();
    // The redeem, six looks at the page, and the download; the product itself asks nginx now and then whether it stands.
    poll(SOON, "the lines are written", || lines() >= 8);
    poll(SOON, "the lines are counted", || number(&scene.server, OURS) == lines());
    assert_eq!(number(&scene.server, FOREIGN), 0);
    assert_no_mishap(&scene.server);
}

#[test]
fn a_download_goes_on_while_the_product_is_dead_and_is_known_to_be_whole_afterwards() {
    let mut scene = Scene::new();
    scene.server.kill();
    scene.take_the_rest();
    assert_eq!(sha256(&scene.got), sha256(&scene.content), "nginx goes on without us");
    assert!(Client::connect(scene.server.recipient).request("GET", &scene.offer.link, &[]).is_none(), "but lets nobody in");
    scene.server.start();
    scene.assert_delivered_once();
}

#[test]
fn a_download_that_outlives_the_product_is_watched_again_and_can_be_cut() {
    let mut scene = Scene::new();
    let id = scene.offer.id.clone();
    scene.server.kill();
    scene.server.start();
    let before = delivered(&scene.server.show(&id));
    while scene.got.len() < 3 * PART_BYTES {
        scene.got.extend(scene.client.read_some(64 * 1024));
    }
    scene.server.wait_for(&id, "its progress is seen again", |share| {
        delivered(share) > before && delivered(share) + MOST_AHEAD_BYTES >= 3 * PART_BYTES as u64
    });
    scene.server.revoke(&id);
    scene.take_the_rest();
    assert!(scene.got.len() < FILM_BYTES, "all of it came after the revoke");
    assert_eq!(scene.server.outcome(&id), "revoked");
    assert!(delivered(&scene.server.show(&id)) <= scene.got.len() as u64);
}

#[test]
fn counts_of_the_log_go_on_over_kills_of_the_product() {
    const KILLS: u64 = 3;
    const REQUESTS: u64 = 20;
    let mut server = Setup::new().behind_nginx().start();
    put(&server, "film.mkv", 1000);
    let offer = server.share("film.mkv");
    for _ in 0..KILLS {
        for _ in 0..REQUESTS {
            server.fetch("GET", &offer.link, &[]).expect("an answer").expect_status(200);
        }
        server.kill();
        // What nobody answers has a line, too.
        assert!(server.fetch("GET", &offer.link, &[]).is_none());
        server.start();
    }
    let lines = || lines_in(&server, "access.log");
    assert!(lines() >= KILLS * (REQUESTS + 1), "{}", lines());
    poll(SOON, "each line is counted", || number(&server, OURS) == lines());
    let started = Instant::now();
    while started.elapsed() < A_WHILE {
        let counted = number(&server, OURS);
        assert!(counted <= lines(), "{counted} of {}: each once", lines());
    }
}

#[test]
fn what_nginx_calls_sent_and_nobody_has_read_is_not_delivered() {
    // All of it fits into nginx's send buffer, and little of it into the recipient's.
    const SIZE: usize = 30_000;
    let server = Setup::new().behind_nginx().start();
    let (content, offer, mut client) = unread(&server, SIZE);
    let log = || fs::read_to_string(server.nginx_folder().join("access.log")).unwrap_or_default();
    poll(SOON, "nginx says that it sent all", || log().contains(&format!("\"body\":\"{SIZE}\"")));
    assert!(log().lines().last().unwrap().contains("\"ok\":\"OK\""), "{}", log());
    let started = Instant::now();
    while started.elapsed() < A_WHILE {
        let share = server.show(&offer.id);
        assert!(delivered(&share) < SIZE as u64 / 2 && share["state"] != "delivered", "{share:#}");
        std::thread::sleep(Duration::from_millis(50));
    }
    client.answer_head().expect("an answer").expect_status(200);
    assert!(client.read_to_close(SOON) == content);
    server.wait_for(&offer.id, "now it is", |share| share["state"] == "delivered");
}

#[test]
fn two_mebibytes_that_nginx_calls_sent_and_nobody_has_read_are_not_delivered_and_then_count_as_they_are_read() {
    const SIZE: usize = 2 * MIB;
    const HALF: usize = SIZE / 2;
    let mut server = Setup::new().behind_nginx().start();
    // Without our bound the kernel's own holds, which takes in all of it (`tcp_wmem`, 4 MiB).
    server.nginx().start_with(|config| {
        assert!(config.contains(" sndbuf=256k "), "{config}");
        config.replace(" sndbuf=256k ", " ")
    });
    let content = put(&server, "film.mkv", SIZE);
    let offer = server.share("film.mkv");
    let transfer = server.redeem(&offer);
    let mut client = Client::connect_with_small_buffer(server.recipient, 16 * 1024);
    client.ask("GET", &transfer, &[&format!("Range: bytes=0-{}", SIZE - 1), "Connection: close"]);
    let log = || fs::read_to_string(server.nginx_folder().join("access.log")).unwrap_or_default();
    let is_whole = |line: &str| line.contains(&format!("\"st\":\"206\",\"body\":\"{SIZE}\"")) && line.contains("\"ok\":\"OK\"");
    poll(SOON, "nginx says that it sent all", || log().lines().any(is_whole));
    poll(SOON, "its line is counted", || number(&server, OURS) == log().lines().count() as u64);
    let started = Instant::now();
    while started.elapsed() < A_WHILE {
        let share = server.show(&offer.id);
        assert!(delivered(&share) <= MOST_AHEAD_BYTES && share["state"] != "delivered", "{share:#}");
        std::thread::sleep(Duration::from_millis(50));
    }
    // What they read counts as they read it, though nginx has nothing more to do with it.
    client.answer_head().expect("an answer").expect_status(206);
    let mut got = Vec::new();
    while got.len() < HALF {
        let some = client.read_some(64 * 1024);
        assert!(!some.is_empty(), "it goes on");
        got.extend(some);
        let told = delivered(&server.show(&offer.id));
        assert!(told <= got.len() as u64 + MOST_AHEAD_BYTES, "{told} are called delivered, and {} were read", got.len());
    }
    let share = server.wait_for(&offer.id, "half is seen", |share| delivered(share) + MOST_AHEAD_BYTES >= HALF as u64);
    assert!(delivered(&share) < SIZE as u64 && share["state"] != "delivered", "{share:#}");
    got.extend(client.read_to_close(SOON));
    assert!(got == content);
    server.wait_for(&offer.id, "now it is", |share| share["state"] == "delivered");
}

#[test]
fn a_line_whose_bytes_are_under_way_when_the_product_is_killed_is_read_again_by_the_next() {
    // All of it fits into nginx's send buffer, and little of it into the recipient's.
    const SIZE: usize = 30_000;
    let mut server = Setup::new().behind_nginx().start();
    let (content, offer, mut client) = unread(&server, SIZE);
    poll(SOON, "nginx says that it sent all", || {
        let log = fs::read_to_string(server.nginx_folder().join("access.log")).unwrap_or_default();
        log.contains(&format!("\"body\":\"{SIZE}\"")) && number(&server, OURS) == log.lines().count() as u64
    });
    // So long it would take to keep that it was read, of which nobody may be sure yet.
    std::thread::sleep(A_WHILE);
    server.kill();
    server.start();
    assert!(delivered(&server.show(&offer.id)) < SIZE as u64 / 2);
    client.answer_head().expect("an answer").expect_status(200);
    assert!(client.read_to_close(SOON) == content);
    server.wait_for(&offer.id, "it is delivered", |share| share["state"] == "delivered");
}

#[test]
fn whoever_pauses_for_more_than_a_minute_over_the_last_bytes_gets_them_and_that_is_seen() {
    // All of it fits into nginx's send buffer, and little of it into the recipient's.
    const SIZE: usize = 30_000;
    const PAUSE: Duration = Duration::from_secs(65);
    let server = Setup::new().behind_nginx().start();
    let (content, offer, mut client) = unread(&server, SIZE);
    // As long as a stall is far, so are they.
    std::thread::sleep(PAUSE);
    client.answer_head().expect("an answer").expect_status(200);
    assert!(client.read_to_close(SOON) == content);
    server.wait_for(&offer.id, "it is delivered", |share| share["state"] == "delivered");
}

#[test]
fn a_limit_of_speed_is_kept_where_nginx_sends() {
    const RATE: usize = 100_000;
    // What nginx sends in the first second, and in the part of one that its clock may be ahead by, is no more than twice the rate.
    const SECONDS: usize = 3;
    let server = Setup::new().behind_nginx().start();
    let content = put(&server, "film.mkv", RATE * (SECONDS + 2));
    let offer = server.share_with(&json!({ "path": "film.mkv", "policy": { "max_bytes_per_second": RATE } }));
    let transfer = server.redeem(&offer);
    let started = Instant::now();
    let answer = server.fetch("GET", &transfer, &[]).expect("an answer").expect_status(200);
    assert!(answer.body == content);
    assert!(started.elapsed() >= Duration::from_secs(SECONDS as u64 - 1), "{:?}", started.elapsed());
    server.wait_for(&offer.id, "it is delivered", |share| share["state"] == "delivered");
}

#[test]
fn an_nginx_that_sends_another_file_is_found_out_and_nothing_of_it_completes_anything() {
    for (what, bytes) in [("longer", 16 * MIB), ("as long", 4 * MIB), ("shorter", 3 * MIB)] {
        let mut server = Setup::new().behind_nginx().start();
        put(&server, "film.mkv", 4 * MIB);
        // What a name that is exchanged behind our look does now and then, a wrong folder does always.
        let (root, other) = (server.root.display().to_string(), server.folder().join("other").display().to_string());
        fs::create_dir(&other).unwrap();
        fs::write(Path::new(&other).join("film.mkv"), vec![7; bytes]).unwrap();
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        fs::File::options().write(true).open(Path::new(&other).join("film.mkv")).unwrap().set_modified(long_ago).unwrap();
        server.nginx().start_with(|config| config.replace(&root, &other));
        let offer = server.share("film.mkv");
        let transfer = server.redeem(&offer);
        let mut client = Client::connect_with_small_buffer(server.recipient, 16 * 1024);
        client.ask("GET", &transfer, &["Connection: close"]);
        client.answer_head().expect("an answer").expect_status(200);
        let mut got = 0;
        // All but what a buffer holds; and then the product has time to look.
        while got < bytes.min(4 * MIB) - 200_000 || bytes > 4 * MIB && got < 5 * MIB {
            let some = client.read_some(64 * 1024);
            assert!(some.iter().all(|byte| *byte == 7) && !some.is_empty(), "{what}");
            got += some.len();
        }
        let started = Instant::now();
        while started.elapsed() < A_WHILE {
            assert_ne!(server.show(&offer.id)["state"], "delivered", "{what}");
        }
        client.read_to_close(SOON);
        assert_eq!(server.outcome(&offer.id), "source_changed", "{what}");
        assert!(delivered(&server.show(&offer.id)) < 4 * MIB as u64, "{what}");
    }
}
