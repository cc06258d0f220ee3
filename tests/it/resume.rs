//! A download that is cut goes on where it stopped, with the tools that people have, and is still one use.
//!
//! A proxy stands between the tool and the server and cuts everything with a reset at 1, 50 and 99 % of the file.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use crate::harness::{
    BROWSER, Client, CuttingProxy, Offer, SOON, Server, Setup, download_folder, only_where_arrival_is_seen, poll, put, sha256,
    sha256_of_file, tool,
};

/// Large enough that aria2c opens four connections with `-k1M`, and no whole number of anything.
const SIZE: usize = 9 * 1024 * 1024 + 4321;
const CUTS_PERCENT: [u64; 3] = [1, 50, 99];
/// The shares close this long after delivery: enough for a tool to come back for what the proxy swallowed.
const GRACE_SECONDS: u64 = 4;
/// What the downloads are called.
const OUT: &str = "out.bin";

struct Scene {
    server: Server,
    proxy: CuttingProxy,
    digest: String,
}

impl Scene {
    fn new() -> Self {
        let setup = Setup::new().set("GRACE_PERIOD_SECONDS", GRACE_SECONDS);
        let proxy = CuttingProxy::before(setup.recipient);
        let server = setup.set("BASE_URL", proxy.url()).start();
        let digest = sha256(&put(&server, "film.mkv", SIZE));
        Self { server, proxy, digest }
    }

    /// Runs `tool` once into the cut and once more, and holds the result against the promises.
    fn cut_and_resume(
        &self,
        what: &str,
        percent: u64,
        url: Url,
        first: impl Fn(&Path, &str) -> Output,
        again: impl Fn(&Path, &str) -> Output,
    ) {
        let offer = self.server.share("film.mkv");
        let url = match url {
            Url::Link => offer.url.clone(),
            Url::Transfer => format!("{}{}", self.proxy.url(), self.server.redeem(&offer)),
        };
        let folder = download_folder(&self.server);
        let cuts_before = self.proxy.cuts();
        self.proxy.cut_after(SIZE as u64 * percent / 100);
        let output = first(&folder, &url);
        assert_eq!(self.proxy.cuts(), cuts_before + 1, "{what}: it was cut");
        let whole = folder.join(OUT).exists() && sha256_of_file(&folder.join(OUT)) == self.digest;
        assert!(whole || !output.status.success(), "{what} at {percent} %: a cut download must not look like a whole one");
        // A tool that opens several connections may have gone on by itself with another of them.
        let output = if output.status.success() { output } else { again(&folder, &url) };
        assert!(output.status.success(), "{what} at {percent} %: {}\n{}", text(&output.stdout), text(&output.stderr));
        self.arrived(what, percent, &offer, &folder.join(OUT));
    }

    fn arrived(&self, what: &str, percent: u64, offer: &Offer, file: &Path) {
        assert_eq!(sha256_of_file(file), self.digest, "{what} at {percent} %: the file is another");
        assert_eq!(self.server.outcome(&offer.id), "completed", "{what} at {percent} %");
        assert_eq!(self.server.uses(&offer.id), 1, "{what} at {percent} %");
        let share = self.server.show(&offer.id);
        assert_eq!(share["progress"]["percent"], 100, "{what} at {percent} %: {share:#}");
    }
}

#[derive(Clone, Copy)]
enum Url {
    Link,
    Transfer,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn curl(folder: &Path, arguments: &[&str], url: &str) -> Output {
    tool(folder, "curl", &[&["-sS", "-q", "--fail", "--max-time", "60"], arguments, &[url]].concat())
}

fn wget(folder: &Path, arguments: &[&str], url: &str) -> Output {
    tool(folder, "wget", &[&["--no-config", "--no-verbose", "--tries=1", "-O", OUT], arguments, &[url]].concat())
}

fn aria2c(folder: &Path, arguments: &[&str], url: &str) -> Output {
    let usual = [
        "--no-conf",
        "--show-console-readout=false",
        "--summary-interval=0",
        "-x4",
        "-s4",
        "-k1M",
        "--auto-file-renaming=false",
        "-o",
        OUT,
    ];
    tool(folder, "aria2c", &[&usual[..], arguments, &[url]].concat())
}

fn curl_at(url: Url) {
    let scene = Scene::new();
    for percent in CUTS_PERCENT {
        let first = |folder: &Path, url: &str| curl(folder, &["-o", OUT], url);
        let again = |folder: &Path, url: &str| curl(folder, &["-o", OUT, "-C", "-"], url);
        scene.cut_and_resume("curl -C -", percent, url, first, again);
    }
}

fn wget_at(url: Url) {
    let scene = Scene::new();
    for percent in CUTS_PERCENT {
        let again = |folder: &Path, url: &str| wget(folder, &["-c"], url);
        scene.cut_and_resume("wget -c", percent, url, |folder, url| wget(folder, &[], url), again);
    }
}

fn aria2c_at(url: Url) {
    let scene = Scene::new();
    for percent in CUTS_PERCENT {
        let first = |folder: &Path, url: &str| aria2c(folder, &["--max-tries=1"], url);
        scene.cut_and_resume("aria2c -x4", percent, url, first, |folder, url| aria2c(folder, &["-c"], url));
    }
}

#[test]
fn curl_resumes_at_the_link() {
    curl_at(Url::Link);
}

#[test]
fn curl_resumes_at_the_transfer() {
    curl_at(Url::Transfer);
}

#[test]
fn wget_resumes_at_the_link() {
    wget_at(Url::Link);
}

#[test]
fn wget_resumes_at_the_transfer() {
    wget_at(Url::Transfer);
}

#[test]
fn aria2c_with_four_connections_resumes_at_the_link() {
    aria2c_at(Url::Link);
}

#[test]
fn aria2c_with_four_connections_resumes_at_the_transfer() {
    aria2c_at(Url::Transfer);
}

#[test]
fn tools_that_try_again_by_themselves_need_no_help() {
    if only_where_arrival_is_seen("whoever loses what nginx gave to its kernel has had the link, and comes back to the transfer") {
        return;
    }
    let scene = Scene::new();
    let tries: [(&str, &[&str]); 3] = [
        ("curl", &["-sS", "-q", "--fail", "--retry", "5", "--retry-all-errors", "--retry-delay", "1", "-o", OUT]),
        ("wget", &["--no-config", "--no-verbose", "--tries=5", "--waitretry=0", "--retry-connrefused", "-O", OUT]),
        (
            "aria2c",
            &["--no-conf", "--show-console-readout=false", "--summary-interval=0", "-x4", "-s4", "-k1M", "--max-tries=10", "-o", OUT],
        ),
    ];
    for (program, arguments) in tries {
        for percent in CUTS_PERCENT {
            let offer = scene.server.share("film.mkv");
            let folder = download_folder(&scene.server);
            scene.proxy.cut_after(SIZE as u64 * percent / 100);
            let output = tool(&folder, program, &[arguments, &[&offer.url]].concat());
            assert!(output.status.success(), "{program} at {percent} %: {}\n{}", text(&output.stdout), text(&output.stderr));
            scene.arrived(program, percent, &offer, &folder.join(OUT));
        }
    }
}

#[test]
fn a_link_that_somebody_else_took_gives_a_stranger_nothing_even_with_a_range_and_the_same_client() {
    const CURL: &str = "User-Agent: curl/8.5.0";
    let server = Setup::new().start();
    put(&server, "film.mkv", SIZE);
    let offer = server.share("film.mkv");
    let mut owner = Client::connect(server.recipient);
    let first = owner.request("GET", &offer.link, &[CURL, "Range: bytes=0-99"]).expect("an answer").expect_status(206);
    let transfer = first.header("content-location").expect("curl is told where the bytes are");
    server.wait_for(&offer.id, "the first bytes are counted", |share| share["progress"]["delivered_bytes"] == 100);
    let from_the_middle: &[&str] = &[CURL, "Range: bytes=100-"];
    for headers in [from_the_middle, &[CURL], &[BROWSER], &[BROWSER, "Range: bytes=100-"]] {
        let mut stranger = Client::connect_from(server.recipient, std::net::Ipv4Addr::new(127, 9, 9, 9));
        let answer = stranger.request("GET", &offer.link, headers).expect("a genuine link is answered");
        assert_eq!(answer.status, 409, "{headers:?}: {}", answer.head_text());
        assert!(answer.header("location").is_none() && answer.body.len() < 15_000, "{headers:?}: {}", answer.head_text());
    }
    let mut again = Client::connect(server.recipient);
    let answer = again.request("GET", &offer.link, from_the_middle).expect("an answer");
    assert_eq!(answer.status, 206, "whoever took it goes on: {}", answer.head_text());
    assert_eq!(answer.header("content-location").as_ref(), Some(&transfer));
    assert_eq!(answer.header("content-range").unwrap(), format!("bytes 100-{}/{SIZE}", SIZE - 1));
    assert_eq!(server.uses(&offer.id), 1);
}

#[test]
fn parallel_ranges_that_cover_the_file_complete_it_in_any_order() {
    let server = Setup::new().set("GRACE_PERIOD_SECONDS", 1).start();
    let content = put(&server, "film.mkv", SIZE);
    let offer = server.share("film.mkv");
    let transfer = server.redeem(&offer);
    let parts: Vec<(usize, usize)> = (0..8).rev().map(|n| (n * SIZE / 8, (n + 1) * SIZE / 8)).collect();
    std::thread::scope(|scope| {
        for (start, end) in &parts {
            let (server, transfer, content) = (&server, &transfer, &content);
            scope.spawn(move || {
                let range = format!("Range: bytes={start}-{}", end - 1);
                let answer = server.fetch("GET", transfer, &[&range]).expect("an answer").expect_status(206);
                assert_eq!(answer.header("content-range").unwrap(), format!("bytes {start}-{}/{SIZE}", end - 1));
                assert!(answer.body == content[*start..*end], "the bytes of {start}..{end}");
            });
        }
    });
    assert_eq!(server.outcome(&offer.id), "completed");
    assert_eq!(server.uses(&offer.id), 1);
}

#[test]
fn a_download_that_never_got_a_byte_can_be_taken_again() {
    let server = Setup::new().set("STALL_TIMEOUT_SECONDS", 1).start();
    let digest = sha256(&put(&server, "film.mkv", 100_000));
    let offer = server.share("film.mkv");
    let lost = server.redeem(&offer);
    poll(SOON, "the use is given back", || server.show(&offer.id)["state"] == "offered");
    let transfer = server.redeem(&offer);
    assert_ne!(lost, transfer);
    let answer = server.fetch("GET", &transfer, &[BROWSER]).expect("an answer").expect_status(200);
    assert_eq!(sha256(&answer.body), digest);
}

#[test]
fn an_empty_file_is_delivered_by_its_empty_answer() {
    let server = Setup::new().set("GRACE_PERIOD_SECONDS", 1).start();
    put(&server, "empty.txt", 0);
    let offer = server.share("empty.txt");
    let transfer = server.redeem(&offer);
    let answer = server.fetch("GET", &transfer, &[BROWSER]).expect("an answer").expect_status(200);
    assert_eq!(answer.header("content-length").as_deref(), Some("0"));
    assert_eq!(server.outcome(&offer.id), "completed");
    assert_eq!(server.uses(&offer.id), 1);
}

#[test]
fn a_connection_that_was_reset_is_over_at_once_not_only_after_a_minute() {
    if only_where_arrival_is_seen("what nginx gave to its kernel counts as sent") {
        return;
    }
    let server = Setup::new().start();
    put(&server, "film.mkv", 30_000);
    let offer = server.share("film.mkv");
    let agent = "User-Agent: Wget/1.21.3";
    let come_back = || server.fetch("GET", &offer.link, &[agent, "Connection: close"]).expect("a genuine link is answered");
    let transfer = come_back().expect_status(302).location();
    // All of it fits into the server's send buffer, and little of it into the recipient's.
    let mut client = Client::connect_with_small_buffer(server.recipient, 2048);
    client.ask("GET", &transfer, &[agent]);
    client.answer_head().expect("an answer").expect_status(200);
    // A reset while the server still writes is told by that write; this is about one that comes later.
    let port = client.stream().local_addr().unwrap().port();
    poll(SOON, "the server has written all of it", || unacknowledged_to(port) > 20_000);
    client.reset();
    poll(Duration::from_secs(10), "whoever comes back to the link is led to their transfer", || come_back().status == 302);
}

/// Returns how many bytes the kernel holds for whoever is at `port`: `tx_queue` in `/proc/net/tcp` (proc(5)).
fn unacknowledged_to(port: u16) -> u64 {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux has it");
    let remote = format!(":{port:04X}");
    let rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>()).filter(|row| row[2].ends_with(&remote));
    // What others had with a client of this port may be there yet, with nothing under way.
    rows.filter_map(|row| u64::from_str_radix(row[4].split(':').next()?, 16).ok()).max().unwrap_or(0)
}
