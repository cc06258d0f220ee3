//! Recipients over TLS, by HTTP/1.1 and by HTTP/2: whole files, and "delivered" that is never ahead of what they have.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{
    Authority, CuttingProxy, DATA, END_STREAM, HEADERS, INITIAL_WINDOW, Offer, RST_STREAM, SOON, Server, download_folder, frame, poll, put,
    sha256, sha256_of_file, shown_certificate, tool,
};

const MIB: usize = 1024 * 1024;
/// The protocols, as curl is told, and the evidence that each gives.
const PROTOCOLS: [(&str, &str); 2] = [("--http1.1", "acknowledged"), ("--http2", "confirmed")];
/// What curl has read and answered for, and not yet written out: it was seen to hold up to 61 KiB.
const CURL_HOLDS_BYTES: u64 = 128 * 1024;
/// How far behind what is told may be.
const MOST_BEHIND_BYTES: u64 = 128 * 1024;
/// What may leave behind a revoke.
const MOST_LEAKED_BYTES: u64 = 1024 * 1024;

fn delivered(share: &Value) -> u64 {
    share["progress"]["delivered_bytes"].as_u64().unwrap_or_else(|| panic!("no count: {share:#}"))
}

/// Fetches with curl; returns how it ended.
fn curl(authority: &Authority, folder: &Path, arguments: &[&str]) -> Option<i32> {
    let trust = authority.trust();
    let all: Vec<&str> = ["-sS", "--cacert", &trust].into_iter().chain(arguments.iter().copied()).collect();
    let output = tool(folder, "curl", &all);
    output.status.code()
}

/// Starts curl, and lets it run.
fn start_curl(authority: &Authority, folder: &Path, arguments: &[&str]) -> Child {
    let mut command = Command::new("curl");
    command.args(["-sS", "--cacert", &authority.trust()]).args(arguments).current_dir(folder);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("curl runs; tests/run installs it")
}

fn length_of(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |file| file.len())
}

fn evidence(server: &Server, offer: &Offer) -> Value {
    server.transfers(&offer.id)[0]["evidence"].clone()
}

#[test]
fn a_whole_file_arrives_by_each_protocol_and_each_gives_its_evidence() {
    let authority = Authority::new();
    let server = authority.setup().start();
    for (size, name) in [(0, "empty"), (100, "small"), (5 * MIB + 1, "film.mkv")] {
        let content = put(&server, name, size);
        for (protocol, expected) in PROTOCOLS {
            let (offer, folder) = (server.share(name), download_folder(&server));
            assert_eq!(curl(&authority, &folder, &[protocol, "-o", "got", &offer.url]), Some(0), "{protocol} {name}");
            assert_eq!(sha256_of_file(&folder.join("got")), sha256(&content));
            server.wait_for(&offer.id, "all of it is confirmed", |share| share["state"] == "delivered");
            if size > 0 {
                assert_eq!(evidence(&server, &offer), expected);
            }
        }
    }
    let old = ["--tls-max", "1.2", "--http2", "-o", "got"];
    let (offer, folder) = (server.share("film.mkv"), download_folder(&server));
    assert_eq!(curl(&authority, &folder, &[&old[..], &[&offer.url]].concat()), Some(0));
    server.wait_for(&offer.id, "all of it is confirmed", |share| share["state"] == "delivered");
}

#[test]
fn a_download_goes_on_after_a_cut_and_is_one_use() {
    let authority = Authority::new();
    let server = authority.setup().start();
    let content = put(&server, "film.mkv", 8 * MIB);
    for (protocol, _) in PROTOCOLS {
        let (offer, folder) = (server.share("film.mkv"), download_folder(&server));
        let proxy = CuttingProxy::before(server.recipient);
        let url = format!("https://localhost:{}{}", proxy.address.port(), offer.link);
        proxy.cut_after(3 * MIB as u64);
        assert_ne!(curl(&authority, &folder, &[protocol, "-o", "got", &url]), Some(0), "{protocol} is cut");
        let before = length_of(&folder.join("got"));
        assert!(before > 0 && before < content.len() as u64);
        proxy.cut_after(u64::MAX);
        server.wait_for(&offer.id, "the cut is seen", |share| share["state"] == "waiting");
        assert_eq!(curl(&authority, &folder, &[protocol, "-C", "-", "-o", "got", &url]), Some(0), "{protocol} goes on");
        assert_eq!(sha256_of_file(&folder.join("got")), sha256(&content));
        let share = server.wait_for(&offer.id, "all of it arrived", |share| share["state"] == "delivered");
        assert_eq!(share["transfers"], 1, "{share:#}");
    }
}

#[test]
fn four_parts_on_one_connection_are_one_file() {
    let authority = Authority::new();
    let server = authority.setup().start();
    let content = put(&server, "film.mkv", 8 * MIB);
    let (offer, folder) = (server.share("film.mkv"), download_folder(&server));
    let transfer = authority.redeem(&server, &offer);
    let url = format!("https://localhost:{}{transfer}", server.recipient.port());
    let part = content.len() / 4;
    let mut arguments = vec!["-Z".to_owned(), "--http2".to_owned()];
    for n in 0..4 {
        arguments.extend(["-r".to_owned(), format!("{}-{}", n * part, (n + 1) * part - 1), "-o".to_owned(), n.to_string(), url.clone()]);
        if n < 3 {
            // What stands before it is of the part before.
            arguments.extend(["--next".to_owned(), "--cacert".to_owned(), authority.trust(), "--http2".to_owned()]);
        }
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    assert_eq!(curl(&authority, &folder, &arguments), Some(0));
    let got: Vec<u8> = (0..4).flat_map(|n| std::fs::read(folder.join(n.to_string())).unwrap()).collect();
    assert_eq!(sha256(&got), sha256(&content));
    server.wait_for(&offer.id, "all parts are confirmed", |share| share["state"] == "delivered");
}

#[test]
fn what_is_told_of_a_slow_curl_is_never_ahead_of_its_file_and_little_behind() {
    let authority = Authority::new();
    let server = authority.setup().start();
    put(&server, "film.mkv", 64 * MIB);
    for (protocol, _) in PROTOCOLS {
        for rate in ["50k", "500k", "5M"] {
            let (offer, folder) = (server.share("film.mkv"), download_folder(&server));
            let mut child = start_curl(&authority, &folder, &[protocol, "--limit-rate", rate, "-o", "got", &offer.url]);
            let (got, started, mut most) = (folder.join("got"), Instant::now(), 0);
            while started.elapsed() < Duration::from_secs(5) {
                let told = delivered(&server.show(&offer.id));
                // Asked for later, so it can only be more than there was.
                let has = length_of(&got);
                assert!(told <= has + CURL_HOLDS_BYTES + on_the_way(protocol), "{protocol} at {rate}: {told} told, {has} there");
                most = told.max(most);
                std::thread::sleep(Duration::from_millis(50));
            }
            assert!(most > 0, "{protocol} at {rate}: nothing is told");
            // Stopped, it takes nothing more, and what it had is told but for a little.
            let pid = rustix::process::Pid::from_child(&child);
            rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
            if protocol == "--http2" {
                let has = length_of(&got);
                server.wait_for(&offer.id, "what it has is told", |share| delivered(share) + MOST_BEHIND_BYTES >= has);
            }
            child.kill().unwrap();
            child.wait().unwrap();
            let share = server.wait_for(&offer.id, "its end is seen", |share| share["state"] == "waiting");
            assert!(delivered(&share) <= length_of(&got) + CURL_HOLDS_BYTES + on_the_way(protocol), "{protocol} at {rate}: {share:#}");
        }
    }
}

/// Over HTTP/1.1 it is curl's kernel that answers, which takes more than curl has read.
fn on_the_way(protocol: &str) -> u64 {
    if protocol == "--http1.1" { 6 * MIB as u64 } else { 0 }
}

#[test]
fn a_download_that_is_cancelled_waits_and_goes_on() {
    let authority = Authority::new();
    let server = authority.setup().start();
    put(&server, "film.mkv", 16 * MIB);
    let offer = server.share("film.mkv");
    let transfer = authority.redeem(&server, &offer);
    let mut browser = authority.http_2(server.recipient, &[(INITIAL_WINDOW, 4 * MIB as u32)]);
    browser.open_window(4 * MIB as u32);
    browser.get(1, &transfer, &[]);
    browser.until(|frame| frame.kind == DATA).expect("it begins");
    browser.send(&frame(RST_STREAM, 0, 1, &8u32.to_be_bytes()));
    server.wait_for(&offer.id, "the cancel is seen", |share| share["state"] == "waiting");
    // The connection goes on.
    browser.get(3, &transfer, &[("range", "bytes=0-9")]);
    let part = browser.until(|frame| frame.kind == DATA && frame.stream == 3).expect("it goes on");
    assert_eq!(part.content.len(), 10);
}

#[test]
fn what_nobody_confirms_is_not_told_and_no_more_than_a_mebibyte_of_it_leaves() {
    let authority = Authority::new();
    let server = authority.setup().start();
    put(&server, "film.mkv", 16 * MIB);
    let offer = server.share("film.mkv");
    let transfer = authority.redeem(&server, &offer);
    let mut mute = authority.http_2(server.recipient, &[(INITIAL_WINDOW, 64 * MIB as u32)]);
    mute.open_window(64 * MIB as u32);
    mute.get(1, &transfer, &[]);
    mute.connection.sock.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    let (mut bytes, mut pings) = (0, 0);
    while let Some(next) = mute.next() {
        bytes += if next.kind == DATA { next.content.len() as u64 } else { 0 };
        pings += u64::from(next.kind == crate::harness::PING);
    }
    assert!(bytes <= MOST_LEAKED_BYTES && bytes > 64 * 1024, "{bytes} bytes left");
    assert!(pings >= 2, "it was asked {pings} times");
    let share = server.show(&offer.id);
    assert_eq!((delivered(&share), &share["state"]), (0, &json!("transferring")), "{share:#}");
    let before = server.cpu_ticks();
    std::thread::sleep(Duration::from_secs(2));
    let ticks = server.cpu_ticks() - before;
    assert!(ticks < 60, "who waits for an answer does nothing meanwhile, and took {ticks} hundredths of a second");
}

#[test]
fn what_came_last_before_a_window_closed_is_asked_after_too() {
    const WINDOW: usize = 400_000;
    let authority = Authority::new();
    let server = authority.setup().start();
    put(&server, "film.mkv", MIB);
    let offer = server.share("film.mkv");
    let transfer = authority.redeem(&server, &offer);
    let mut full = authority.http_2(server.recipient, &[(INITIAL_WINDOW, WINDOW as u32)]);
    full.open_window(MIB as u32);
    full.get(1, &transfer, &[]);
    let mut bytes = 0;
    while bytes < WINDOW {
        let next = full.next().expect("it runs");
        bytes += if next.kind == DATA { next.content.len() } else { 0 };
        full.answer(&next);
    }
    full.connection.sock.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    poll(SOON, "all that it has is told", || {
        if let Some(next) = full.next() {
            full.answer(&next);
        }
        delivered(&server.show(&offer.id)) == WINDOW as u64
    });
}

#[test]
fn a_revoke_leaks_no_more_than_a_mebibyte() {
    let authority = Authority::new();
    let server = authority.setup().start();
    put(&server, "film.mkv", 64 * MIB);
    let offer = server.share("film.mkv");
    let transfer = authority.redeem(&server, &offer);
    let mut browser = authority.http_2(server.recipient, &[(INITIAL_WINDOW, 128 * MIB as u32)]);
    browser.open_window(128 * MIB as u32);
    browser.get(1, &transfer, &[]);
    let mut bytes = 0;
    while bytes < 32 * MIB as u64 {
        let next = browser.next().expect("it runs");
        bytes += if next.kind == DATA { next.content.len() as u64 } else { 0 };
        browser.answer(&next);
    }
    server.revoke(&offer.id);
    let mut more = 0;
    let end = loop {
        let Some(next) = browser.next() else { break None };
        match next.kind {
            DATA => more += next.content.len() as u64,
            RST_STREAM => break Some(next),
            _ => {}
        }
    };
    assert!(end.is_some_and(|frame| frame.stream == 1), "the stream is ended");
    assert!(more <= MOST_LEAKED_BYTES, "{more} bytes left behind the revoke");
    assert_eq!(server.outcome(&offer.id), "revoked");
}

#[test]
fn a_file_that_changes_while_it_is_sent_is_never_whole_at_the_other_side() {
    let authority = Authority::new();
    let server = authority.setup().start();
    for (protocol, _) in PROTOCOLS {
        let content = put(&server, "film.mkv", 16 * MIB);
        let (offer, folder) = (server.share("film.mkv"), download_folder(&server));
        let mut child = start_curl(&authority, &folder, &[protocol, "--limit-rate", "2M", "-o", "got", &offer.url]);
        poll(SOON, "it gets going", || length_of(&folder.join("got")) > MIB as u64);
        let mut file = File::options().write(true).open(server.root.join("film.mkv")).unwrap();
        file.write_all(b"something else").unwrap();
        drop(file);
        assert!(!child.wait().unwrap().success(), "{protocol}");
        assert!(length_of(&folder.join("got")) < content.len() as u64);
        assert_eq!(server.outcome(&offer.id), "source_changed");
    }
}

#[test]
fn a_renewed_certificate_is_shown_to_who_comes_next_and_a_bad_one_is_not() {
    let authority = Authority::new();
    let server = authority.setup().start();
    put(&server, "film.mkv", 8 * MIB);
    let (offer, folder) = (server.share("film.mkv"), download_folder(&server));
    let now = || shown_certificate(&mut authority.connect(server.recipient, &["h2"]));
    let first = now();
    let mut child = start_curl(&authority, &folder, &["--http2", "--limit-rate", "1M", "-o", "got", &offer.url]);
    poll(SOON, "it gets going", || length_of(&folder.join("got")) > 0);
    authority.renew();
    poll(SOON, "the next one is shown", || now() != first);
    let second = now();
    std::fs::write(authority.path("key.pem"), "no key").unwrap();
    poll(SOON, "the log tells", || server.log_text().contains("The certificate stays as it was: TLS_KEY: "));
    assert_eq!(now(), second);
    authority.renew();
    poll(SOON, "a good one is taken again", || now() != second);
    assert!(child.wait().unwrap().success(), "the download that ran is not disturbed");
    server.wait_for(&offer.id, "all of it arrived", |share| share["state"] == "delivered");
}

#[test]
fn a_key_of_another_certificate_is_told_at_the_start_and_by_check() {
    let (authority, other) = (Authority::new(), Authority::new());
    let mut server = authority.setup().set("TLS_KEY", other.path("key.pem").to_str().unwrap()).build(|_, _| {});
    assert!(server.try_start().is_some_and(|status| !status.success()));
    let sentence = "the private key is another certificate's";
    assert!(server.log_text().contains(sentence), "{}", server.log_text());
    let check = server.command().arg("check").arg(&server.root).output().unwrap();
    assert!(!check.status.success() && String::from_utf8_lossy(&check.stdout).contains(sentence), "{check:?}");
}

#[test]
fn what_is_no_handshake_and_who_proves_a_name_are_met_with_silence() {
    let authority = Authority::new();
    let server = authority.setup().start();
    let mut plain = TcpStream::connect(server.recipient).unwrap();
    plain.set_read_timeout(Some(SOON)).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert_eq!(answer, b"");
    let address = server.recipient.to_string();
    let hello = |protocol: &str| {
        let arguments = ["s_client", "-connect", &address, "-servername", "localhost", "-alpn", protocol, "-CAfile", &authority.trust()];
        tool(server.folder(), "openssl", &arguments)
    };
    let proof = hello("acme-tls/1");
    let told = String::from_utf8_lossy(&proof.stdout).into_owned();
    assert!(!proof.status.success() && told.contains("SSL handshake has read 0 bytes"), "not even an alert: {told}");
    let told = String::from_utf8_lossy(&hello("h2").stdout).into_owned();
    assert!(told.contains("ALPN protocol: h2") && told.contains("Verify return code: 0 (ok)"), "{told}");
}

#[test]
fn a_session_is_resumed() {
    let authority = Authority::new();
    let server = authority.setup().start();
    let address = server.recipient.to_string();
    let arguments = ["s_client", "-tls1_2", "-reconnect", "-connect", &address, "-CAfile", &authority.trust()];
    let told = tool(server.folder(), "openssl", &arguments);
    assert!(String::from_utf8_lossy(&told.stdout).contains("Reused, TLSv1.2"), "{told:?}");
}

#[test]
fn a_forged_link_gets_nothing_and_a_favicon_ends_no_download() {
    let authority = Authority::new();
    let server = authority.setup().start();
    put(&server, "film.mkv", 8 * MIB);
    let mut stranger = authority.http_2(server.recipient, &[]);
    stranger.get(1, "/0000000000/forged", &[]);
    while let Some(next) = stranger.next() {
        assert!(next.kind != HEADERS && next.kind != DATA, "{next:?}");
    }
    let offer = server.share("film.mkv");
    let transfer = authority.redeem(&server, &offer);
    let mut browser = authority.http_2(server.recipient, &[(INITIAL_WINDOW, 16 * MIB as u32)]);
    browser.open_window(16 * MIB as u32);
    browser.get(1, &transfer, &[]);
    browser.until(|frame| frame.kind == DATA).expect("it begins");
    browser.get(3, "/favicon.ico", &[]);
    browser.until(|frame| frame.kind == RST_STREAM && frame.stream == 3).expect("nothing is said");
    browser.until(|frame| frame.kind == DATA && frame.flags & END_STREAM != 0).expect("the download goes on to its end");
    server.wait_for(&offer.id, "all of it is confirmed", |share| share["state"] == "delivered");
}

#[test]
fn the_page_the_button_and_the_progress_work_over_http_2() {
    let authority = Authority::new();
    let server = authority.setup().start();
    put(&server, "film.mkv", MIB);
    let offer = server.share("film.mkv");
    let trust = authority.trust();
    let page = tool(server.folder(), "curl", &["-sS", "--cacert", &trust, "-A", "Mozilla/5.0", "-w", " %{http_version}", &offer.url]);
    let page = String::from_utf8(page.stdout).unwrap();
    assert!(page.contains("film.mkv") && page.contains("<form") && page.ends_with(" 2"), "{page}");
    let transfer = authority.redeem(&server, &offer);
    let url = |path: &str| format!("https://localhost:{}{path}", server.recipient.port());
    let head = tool(server.folder(), "curl", &["-sSI", "--cacert", &trust, &url(&transfer)]);
    let head = String::from_utf8(head.stdout).unwrap().to_lowercase();
    assert!(head.starts_with("http/2 200") && head.contains("content-length: 1048576") && !head.contains("connection:"), "{head}");
    let live = transfer.replacen("/get/", "/live/", 1);
    let live = live.rsplit_once('/').map_or(live.as_str(), |(live, _)| live).to_owned();
    let mut watcher = authority.http_2(server.recipient, &[]);
    watcher.get(1, &live, &[]);
    let event = watcher.until(|frame| frame.kind == DATA).expect("it is told");
    assert!(event.content.starts_with(b"event: progress\ndata: {"), "{event:?}");
    // Whoever has nothing more to hear is told that, too.
    assert_eq!(curl(&authority, server.folder(), &["-o", "got", &url(&transfer)]), Some(0));
    watcher.until(|frame| frame.kind == DATA && frame.flags & END_STREAM != 0).expect("it ends with the transfer");
}

#[test]
fn a_speed_limit_holds() {
    let authority = Authority::new();
    let server = authority.setup().start();
    put(&server, "film.mkv", 3 * MIB);
    for (protocol, _) in PROTOCOLS {
        let offer = server.share_with(&json!({ "path": "film.mkv", "policy": { "max_bytes_per_second": MIB } }));
        let (folder, started) = (download_folder(&server), Instant::now());
        assert_eq!(curl(&authority, &folder, &[protocol, "-o", "got", &offer.url]), Some(0));
        // A fifth of a second may be saved up; slower it may always be.
        assert!(started.elapsed() >= Duration::from_millis(2500), "{protocol} took {:?}", started.elapsed());
    }
}

#[test]
fn a_stop_lets_a_download_go_on_for_a_while() {
    let authority = Authority::new();
    let mut server = authority.setup().set("DRAIN_SECONDS", 20).start();
    let content = put(&server, "film.mkv", 8 * MIB);
    let (offer, folder) = (server.share("film.mkv"), download_folder(&server));
    let mut child = start_curl(&authority, &folder, &["--http2", "--limit-rate", "2M", "-o", "got", &offer.url]);
    poll(SOON, "it gets going", || length_of(&folder.join("got")) > 0);
    assert!(server.stop().success());
    assert!(child.wait().unwrap().success());
    assert_eq!(sha256_of_file(&folder.join("got")), sha256(&content));
}
