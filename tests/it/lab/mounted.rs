//! nginx sends the bytes, to the node that ends recipients' TLS: what comes in through Funnel goes to tailscaled, to nginx, to us.

use std::fs::{self, File};
use std::time::Instant;

use super::VISITOR;
use super::measured::{Fetching, delivered};
use super::shared::{beside, fetched, is_refused};
use crate::harness::{Lab, SOON, Server, Setup, download_folder, poll, put, sha256};

const FILM_BYTES: usize = 60_000_000;
/// More than tailscaled and all kernels on the way hold by far; nothing of it has a place on the disk.
const LONG_FILM_BYTES: u64 = 1_000_000_000;

fn through_a_mount(lab: &Lab) -> Setup {
    beside(lab, "tailscale-mount").behind_nginx().set("GRACE_PERIOD_SECONDS", 0)
}

/// Returns the lines of nginx's log about requests for the file.
fn lines_about_the_film(server: &Server) -> Vec<String> {
    let log = fs::read_to_string(server.nginx_folder().join("access.log")).unwrap_or_default();
    log.lines().filter(|line| !line.contains("\"req\":\"\"")).map(str::to_owned).collect()
}

#[test]
#[ignore = "needs the lab (tests/lab/build) and nginx"]
fn nginx_sends_a_file_through_a_mount_and_what_it_sent_is_called_sent() {
    let mut lab = Lab::start();
    lab.tell(&format!("ingress-src {VISITOR}"));
    let server = through_a_mount(&lab).start();
    let file = put(&server, "film.mkv", FILM_BYTES);
    assert!(is_refused(&lab), "nothing is open yet");
    let offer = server.share("film.mkv");
    assert_eq!(sha256(&fetched(&lab, &offer.url, &[])), sha256(&file));
    assert_eq!(server.outcome(&offer.id), "completed");
    let share = server.show(&offer.id);
    assert_eq!((&share["progress"]["percent"], &share["progress"]["evidence"]), (&100.into(), &"handed_over".into()), "{share}");
    let transfer = &server.transfers(&offer.id)[0];
    assert_eq!(transfer["address"], "203.0.113.7", "{transfer}");
    let lines = lines_about_the_film(&server);
    assert!(lines.iter().any(|line| line.contains(&format!("\"body\":\"{FILM_BYTES}\",")) && line.contains("\"ok\":\"OK\"")), "{lines:?}");
    assert!(is_refused(&lab), "the last share is closed");
}

#[test]
#[ignore = "needs the lab (tests/lab/build) and nginx"]
fn a_revoke_ends_what_nginx_sends_through_a_mount() {
    let lab = Lab::start();
    let server = through_a_mount(&lab).start();
    File::create(server.root.join("film.mkv")).unwrap().set_len(LONG_FILM_BYTES).unwrap();
    let offer = server.share("film.mkv");
    let mut fetching = Fetching::begin(&lab, &offer, &download_folder(&server), &["--limit-rate", "2M"]);
    poll(SOON, "it goes on", || fetching.has() > 2_000_000);
    let begun = Instant::now();
    server.revoke(&offer.id);
    assert_eq!(server.outcome(&offer.id), "revoked");
    println!("closed {:?} after the revoke", begun.elapsed());
    let mut lines = Vec::new();
    poll(SOON, "nginx has ended it", || {
        lines = lines_about_the_film(&server);
        lines.iter().any(|line| line.contains("\"ok\":\"\""))
    });
    println!("nginx says so {:?} after the revoke", begun.elapsed());
    let [line] = &lines[..] else { panic!("one request is cut: {lines:?}") };
    let sent: u64 = line.split_once("\"body\":\"").and_then(|(_, rest)| rest.split_once('"')?.0.parse().ok()).expect("our own format");
    // tailscaled gives out what it holds, and there is no more of it.
    assert!(!fetching.ended().success(), "the rest came after the revoke");
    println!("{sent} bytes had been sent, {} of them came", fetching.has());
    assert!(fetching.has() <= sent && sent < LONG_FILM_BYTES / 2, "{sent} were sent, and {} are there", fetching.has());
    let told = delivered(&server.show(&offer.id));
    assert!(told <= sent, "{told} of {sent}");
    assert!(is_refused(&lab), "nobody comes in");
}
