//! Files of ours, shared by the real program and fetched as somebody in the internet fetches them: through the ingress, a real tailscaled
//! and our recipient side.

use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{TLS_CUT, VISITOR, foreground};
use crate::harness::{Lab, Offer, SOON, Setup, download_folder, poll, put, sha256};

/// Both ways by a node, and how sure each is that what it sent arrived at a client that speaks HTTP/1.1.
pub(super) const WAYS: [&str; 2] = ["tailscale", "tailscale-mount"];
/// Below this much nobody can say how much of it is with the recipient: what lies in tailscaled's buffers and the kernels'.
const FILE_BYTES: usize = 30_000_000;

/// A server of ours beside the lab's node.
pub(super) fn beside(lab: &Lab, tunnel: &str) -> Setup {
    Setup::new().set("TUNNEL", tunnel).set("TAILSCALE_SOCKET", lab.socket().display()).set("BASE_URL", "")
}

/// A server that has no way to the node but its program.
fn beside_by_program(lab: &Lab) -> Setup {
    let program = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/lab/bin/current/tailscale");
    beside(lab, "tailscale-cli").set("TAILSCALE_PROGRAM", program.display())
}

/// Fetches a URL as somebody in the internet.
pub(super) fn curl(lab: &Lab, url: &str, arguments: &[&str]) -> Output {
    let path = url.strip_prefix(&format!("https://{}", lab.name())).unwrap_or_else(|| panic!("{url} is not the node's"));
    lab.visit(path, arguments)
}

pub(super) fn fetched(lab: &Lab, url: &str, arguments: &[&str]) -> Vec<u8> {
    let output = curl(lab, url, &[&["--location", "--fail"], arguments].concat());
    assert!(output.status.success(), "{url}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

pub(super) fn is_refused(lab: &Lab) -> bool {
    lab.visit("/", &[]).status.code() == Some(TLS_CUT)
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn a_file_is_fetched_from_the_internet_and_nobody_comes_in_once_it_is_closed() {
    let mut lab = Lab::start();
    lab.tell(&format!("ingress-src {VISITOR}"));
    for way in WAYS {
        let server = beside(&lab, way).set("GRACE_PERIOD_SECONDS", "0").start();
        let file = put(&server, "film.mkv", FILE_BYTES);
        assert!(is_refused(&lab), "nothing is open yet");
        let offer = server.share("film.mkv");
        assert!(offer.url.starts_with(&format!("https://{}/", lab.name())), "{}", offer.url);
        assert_eq!(server.show(&offer.id)["tunnel"]["backend"], way);
        assert_eq!(sha256(&fetched(&lab, &offer.url, &[])), sha256(&file), "{way}");
        assert_eq!(server.outcome(&offer.id), "completed");
        let share = server.show(&offer.id);
        assert_eq!(share["progress"]["percent"], 100, "{share}");
        assert_eq!(share["progress"]["evidence"], if way == "tailscale" { "confirmed" } else { "handed_over" }, "{share}");
        let transfer = &server.transfers(&offer.id)[0];
        assert_eq!(transfer["address"], "203.0.113.7", "{transfer}");
        assert!(is_refused(&lab), "{way}: the last share is closed");
    }
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn a_download_that_was_cut_is_resumed_through_the_tunnel() {
    let mut lab = Lab::start();
    lab.tell(&format!("ingress-src {VISITOR}"));
    for way in WAYS {
        let server = beside(&lab, way).start();
        let file = put(&server, "film.mkv", FILE_BYTES);
        let offer = server.share("film.mkv");
        let folder = download_folder(&server);
        let path = folder.join("film.mkv").display().to_string();
        let cut = curl(&lab, &offer.url, &["--location", "--fail", "--max-time", "2", "--limit-rate", "4M", "--output", &path]);
        assert!(!cut.status.success(), "it takes longer than that");
        let half = std::fs::metadata(&path).unwrap().len();
        assert!(half > 0 && half < FILE_BYTES as u64, "{half}");
        let whole = curl(&lab, &offer.url, &["--location", "--fail", "--continue-at", "-", "--output", &path]);
        assert!(whole.status.success(), "{}", String::from_utf8_lossy(&whole.stderr));
        assert_eq!(sha256(&std::fs::read(&path).unwrap()), sha256(&file), "{way}");
        assert_eq!(server.uses(&offer.id), 1);
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn nothing_of_the_owners_is_reached_through_the_tunnel_whatever_is_asked() {
    let lab = Lab::start();
    for way in WAYS {
        let server = beside(&lab, way).start();
        put(&server, "film.mkv", 1000);
        let offer = server.share("film.mkv");
        let share = &offer.id;
        let authorization = format!("Authorization: Bearer {}", server.token);
        let host = format!("Host: {}", server.owner);
        for path in ["/", "/api/v1/shares", "/health", "/metrics", "/admin/tunnels", "/openapi.json", "/sign-in", "/livez"] {
            for spelling in [
                path.to_owned(),
                format!("/{share}/..{path}"),
                format!("/{share}/%2e%2e{path}"),
                format!("/{share}//{path}"),
                format!("/{share}{path}"),
                format!("//{}{path}", server.owner),
                path.replace('/', "%2f"),
            ] {
                for header in [
                    &authorization[..],
                    &host,
                    "X-Forwarded-Host: localhost",
                    "X-Forwarded-For: 127.0.0.1",
                    "Tailscale-User-Login: owner@example.com",
                ] {
                    let answer = curl(
                        &lab,
                        &format!("https://{}{spelling}", lab.name()),
                        &["--path-as-is", "--header", header, "--write-out", "\n%{http_code}"],
                    );
                    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
                    let code = text.lines().last().unwrap_or_default();
                    assert!(
                        matches!(code, "000" | "404" | "410" | "502" | "400" | "301" | "308" | "307"),
                        "{way} {spelling} {header}: {text}"
                    );
                    assert!(!text.contains("share") || code == "410", "{way} {spelling}: {text}");
                }
            }
        }
        assert_eq!(server.uses(share), 0);
    }
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn killed_it_lets_nobody_in_and_started_again_the_same_links_work() {
    let lab = Lab::start();
    for way in WAYS {
        let mut server = beside(&lab, way).start();
        put(&server, "film.mkv", 3_000_000);
        let (lives, expires) =
            (server.share("film.mkv"), server.share_with(&json!({ "path": "film.mkv", "policy": { "expires_in_seconds": 2 } })));
        server.kill();
        let begun = Instant::now();
        poll(SOON, "nobody is let in", || is_refused(&lab));
        println!("{way}: refused {:?} after kill -9, a visit included", begun.elapsed());
        assert!(foreground(&lab.local_api()).is_null());
        std::thread::sleep(Duration::from_secs(2));
        server.start();
        let again = server.wait_for(&lives.id, "it is offered again", |share| share["state"] == "offered");
        assert_eq!(again["url"], lives.url);
        assert_eq!(fetched(&lab, &lives.url, &[]).len(), 3_000_000);
        assert_eq!(server.outcome(&expires.id), "expired");
    }
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn by_the_program_alone_a_file_is_shared_too_and_the_next_start_closes_what_nobody_wants() {
    let lab = Lab::start();
    let mut server = beside_by_program(&lab).start();
    let file = put(&server, "film.mkv", 3_000_000);
    let (lives, expires) =
        (server.share("film.mkv"), server.share_with(&json!({ "path": "film.mkv", "policy": { "expires_in_seconds": 2 } })));
    let mounts =
        || lab.local_api().serve_config().0["Web"][format!("{}:443", lab.name())]["Handlers"].as_object().map_or(0, serde_json::Map::len);
    assert_eq!(mounts(), 2);
    server.kill();
    assert_eq!(mounts(), 2, "this one is not shut when the program dies, as its description says");
    assert_ne!(curl(&lab, &lives.url, &["--fail"]).status.code(), Some(0), "and nobody answers behind it");
    std::thread::sleep(Duration::from_secs(2));
    server.start();
    assert_eq!(server.outcome(&expires.id), "expired");
    poll(SOON, "what nobody wants is closed", || mounts() == 1);
    server.wait_for(&lives.id, "it is offered again", |share| share["state"] == "offered");
    assert_eq!(sha256(&fetched(&lab, &lives.url, &[])), sha256(&file));
    assert!(server.stop().success());
    assert_eq!(mounts(), 0, "stopped in good order it leaves nothing");
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn stopped_in_its_tracks_it_lets_nobody_in_and_set_going_again_it_does() {
    let lab = Lab::start();
    for way in WAYS {
        let server = beside(&lab, way).start();
        put(&server, "film.mkv", 3_000_000);
        let offer = server.share("film.mkv");
        let pid = rustix::process::Pid::from_raw(server.pid().cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
        let begun = Instant::now();
        poll(SOON, "nobody is let in", || foreground(&lab.local_api()).is_null());
        println!("{way}: let go {:?} after SIGSTOP", begun.elapsed());
        assert!(is_refused(&lab));
        rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
        server.wait_for(&offer.id, "it is offered again", |share| share["state"] == "offered");
        poll(SOON, "the link works again", || !is_refused(&lab));
        assert_eq!(fetched(&lab, &offer.url, &[]).len(), 3_000_000);
    }
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn stopped_in_good_order_it_shuts_every_door_and_leaves_nothing() {
    let lab = Lab::start();
    for way in WAYS {
        let mut server = beside(&lab, way).start();
        put(&server, "film.mkv", 1000);
        let offer = server.share("film.mkv");
        assert!(server.stop().success());
        assert!(is_refused(&lab) && foreground(&lab.local_api()).is_null(), "{way}");
        server.start();
        server.wait_for(&offer.id, "it is offered again", |share| share["state"] == "offered");
        assert_eq!(fetched(&lab, &offer.url, &[]).len(), 1000);
    }
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn after_a_restart_of_tailscaled_the_same_links_work_and_what_an_operator_resets_stays_shut() {
    let mut lab = Lab::start();
    for way in WAYS {
        let server = beside(&lab, way).start();
        put(&server, "film.mkv", 1000);
        let offer = server.share("film.mkv");
        lab.tell("restart-tailscaled");
        let begun = Instant::now();
        poll(SOON, "the link works again", || curl(&lab, &offer.url, &["--location", "--fail", "--head"]).status.success());
        println!("{way}: the link worked {:?} after tailscaled was back", begun.elapsed());
        server.wait_for(&offer.id, "it is offered again", |share| share["state"] == "offered");

        assert!(lab.tailscale(&["serve", "reset"]).status.success());
        assert_eq!(server.outcome(&offer.id), "revoked");
        assert!(is_refused(&lab));
        assert_eq!(fetched(&lab, &server.share("film.mkv").url, &[]).len(), 1000, "the owner may share again");
    }
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn what_the_node_lacks_is_said_and_nothing_half_made_is_left() {
    let mut lab = Lab::start();
    let server = beside(&lab, "tailscale").start();
    put(&server, "film.mkv", 1000);
    let share = || server.api("POST", "/api/v1/shares", Some(&json!({ "path": "film.mkv" })));
    for (command, what) in [
        ("remove-cap funnel", "nodeAttrs"),
        ("remove-cap funnel-ports", "allows Funnel on no port"),
        ("remove-cap https", "HTTPS Certificates"),
    ] {
        lab.tell(command);
        let mut last = Value::Null;
        poll(SOON, what, || {
            let answer = share();
            if answer.status != 503 {
                server.revoke(Offer::from_json(&answer.json()).id.as_str());
                return false;
            }
            last = answer.json();
            last["detail"].as_str().is_some_and(|detail| detail.contains(what))
        });
        assert_eq!(last["code"], "tunnel_unavailable", "{last}");
        lab.tell("restore-caps");
        poll(SOON, "it can be shared again", || {
            let answer = share();
            let is_open = answer.status == 201;
            if answer.status != 503 {
                server.revoke(&Offer::from_json(&answer.json()).id);
            }
            is_open
        });
    }
    poll(SOON, "nothing is left", || is_refused(&lab));
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn an_operator_who_leads_funnel_to_the_owners_side_by_mistake_has_opened_nothing() {
    let lab = Lab::start();
    let server = beside(&lab, "tailscale").set("TAILNET_OWNERS", "alice@example.com").start();
    let targets = [
        format!("http://{}", server.owner),
        format!("unix:{}", server.state.join("owner.sock").display()),
        format!("unix:{}", server.state.join("tailnet.sock").display()),
    ];
    for target in targets {
        let led = lab.tailscale(&["funnel", "--bg", "--yes", "--https=8443", &target]);
        assert!(led.status.success(), "{}", String::from_utf8_lossy(&led.stderr));
        for path in ["/", "/health", "/api/v1/shares", "/sign-in"] {
            let authorization = format!("Authorization: Bearer {}", server.token);
            for header in [&authorization[..], "Tailscale-User-Login: alice@example.com", "Tailscale-Funnel-Request: ?0"] {
                let answer = lab.visit_at(lab.name(), 8443, path, &["--header", header, "--write-out", "\n%{http_code}"]);
                let text = String::from_utf8_lossy(&answer.stdout).into_owned();
                assert!(text.ends_with("\n403") && text.contains("not_public"), "{target} {path} {header}: {text}");
            }
        }
    }
}
