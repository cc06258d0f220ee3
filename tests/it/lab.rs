//! The lab tells the truth: what `tests/lab/` brings up is a real tailscaled that answers, opens and shuts as Tailscale's
//! source says, reached through an ingress as from the internet; and it ends with whoever started it.
//!
//! `tests/lab/build` makes what these need, and `tests/run lab` runs them where it can.

mod asked;
mod cli;
mod ends;
mod funnel;
mod measured;
mod mounted;
pub(crate) mod origin;
mod probed;
mod shared;

pub(crate) use funnel::contract;

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Client, Lab, LocalApi, SOON, noise, poll, sha256};
use origin::Origin;

/// Curl's status where the handshake was cut.
const TLS_CUT: i32 = 35;
/// The address that the ingress tells as the visitor's, where a test wants to see it again.
const VISITOR: &str = "203.0.113.7:40123";
const FUNNEL_PORTS: &str = "https://tailscale.com/cap/funnel-ports?ports=443,8443,10000";

/// A config that leads visitors of `name` to an HTTP server.
fn mount(name: &str, at: &str, to: SocketAddr) -> Value {
    let public = format!("{name}:443");
    json!({
        "TCP": { "443": { "HTTPS": true } },
        "Web": { &public: { "Handlers": { at: { "Proxy": format!("http://{to}") } } } },
        "AllowFunnel": { &public: true },
    })
}

fn has_capability(status: &Value, capability: &str) -> bool {
    status["Self"]["CapMap"].as_object().is_some_and(|all| all.contains_key(capability))
}

fn foreground(api: &LocalApi) -> Value {
    api.serve_config().0["Foreground"].clone()
}

/// Visits until nobody is let in, and returns how long that took.
fn time_until_refused(lab: &Lab) -> Duration {
    let began = Instant::now();
    poll(SOON, "the ingress refuses", || lab.visit("/files/", &[]).status.code() == Some(TLS_CUT));
    began.elapsed()
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn the_node_is_running_with_all_that_funnel_needs() {
    let lab = Lab::start();
    let status = lab.local_api().status();
    assert_eq!(status["BackendState"], "Running");
    assert!(status["Version"].as_str().unwrap().starts_with("1.102.3"), "{}", status["Version"]);
    assert_eq!(status["Self"]["DNSName"], format!("{}.", lab.name()));
    assert_eq!(status["Self"]["Online"], true);
    assert_eq!(status["CertDomains"], json!([lab.name()]));
    for capability in ["https", "funnel", FUNNEL_PORTS] {
        assert!(has_capability(&status, capability), "{capability} is missing: {}", status["Self"]["CapMap"]);
    }
    let pair = lab.local_api().get(&format!("/localapi/v0/cert/{}?type=pair&min_validity=24h", lab.name()));
    assert_eq!(pair.status, 200, "{}", pair.text());
    assert!(pair.text().contains("BEGIN EC PRIVATE KEY") && pair.text().matches("BEGIN CERTIFICATE").count() == 2, "leaf and authority");
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn a_mount_is_reached_from_the_internet_and_tells_who_comes() {
    let mut lab = Lab::start();
    let file = noise(3_000_000, 1);
    let origin = Origin::serve(file.clone());
    assert_eq!(lab.visit("/files/", &[]).status.code(), Some(TLS_CUT), "nothing is open yet");

    let session = lab.local_api().watch();
    session.serve(&mount(lab.name(), "/files", origin.address));
    lab.tell(&format!("ingress-src {VISITOR}"));
    let fetched = lab.visit("/files/a", &["--fail"]);
    assert!(fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stderr));
    assert_eq!(sha256(&fetched.stdout), sha256(&file));

    let head = origin.last_head();
    assert!(head.starts_with("GET /a HTTP/1.1\r\n"), "the mount is stripped: {head}");
    for line in [format!("Host: {}", lab.name()), "X-Forwarded-For: 203.0.113.7".to_owned(), "Tailscale-Funnel-Request: ?1".to_owned()] {
        assert!(head.lines().any(|it| it == line), "{line} is missing:\n{head}");
    }
    let elsewhere = lab.visit("/elsewhere", &["--write-out", "%{http_code}"]);
    assert!(elsewhere.stdout.ends_with(b"404"), "what is not mounted is not there: {:?}", String::from_utf8_lossy(&elsewhere.stdout));

    let counts = lab.tell("counts");
    assert_eq!((&counts["accepted"], &counts["refused"], &counts["brought"]), (&json!(3), &json!(1), &json!(2)));
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn what_is_not_for_funnel_is_refused_at_the_ingress() {
    let mut lab = Lab::start();
    let origin = Origin::serve(b"within the tailnet".to_vec());
    let session = lab.local_api().watch();
    let mut config = mount(lab.name(), "/files", origin.address);
    config.as_object_mut().unwrap().remove("AllowFunnel");
    session.serve(&config);
    assert_eq!(lab.visit("/files/", &[]).status.code(), Some(TLS_CUT));
    assert_eq!(lab.visit_as("nobody.tail-lab.ts.net", "/files/", &[]).status.code(), Some(TLS_CUT));
    let mut visitor = Client::connect(lab.ingress(443));
    visitor.send(b"GET /files/ HTTP/1.1\r\n\r\n");
    assert_eq!(visitor.read_to_close(SOON), b"", "who speaks no TLS is told nothing");
    let counts = lab.tell("counts");
    assert_eq!((&counts["refused"], &counts["unknown"], &counts["unnamed"]), (&json!(1), &json!(1), &json!(1)));
    assert_eq!((&counts["accepted"], &counts["brought"]), (&json!(3), &json!(0)));
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn the_door_is_shut_when_its_holder_lets_go() {
    let lab = Lab::start();
    let origin = Origin::serve(b"open".to_vec());
    let session = lab.local_api().watch();
    session.serve(&mount(lab.name(), "/files", origin.address));
    assert_eq!(lab.visit("/files/", &[]).stdout, b"open");

    drop(session);
    println!("refused {:?} after the holder let go, one visit included", time_until_refused(&lab));
    assert!(foreground(&lab.local_api()).is_null(), "tailscaled has forgotten it");
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn passthrough_brings_the_raw_hello_and_the_visitors_address() {
    let mut lab = Lab::start();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let session = lab.local_api().watch();
    session.serve(&json!({
        "TCP": { "443": { "TCPForward": listener.local_addr().unwrap().to_string(), "ProxyProtocol": 2 } },
        "AllowFunnel": { format!("{}:443", lab.name()): true },
    }));
    lab.tell(&format!("ingress-src {VISITOR}"));
    let reader = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut start = [0; 28 + 5];
        stream.read_exact(&mut start).unwrap();
        let mut hello = vec![0; usize::from(u16::from_be_bytes([start[31], start[32]]))];
        stream.read_exact(&mut hello).unwrap();
        (start, hello)
    });
    assert_eq!(lab.visit("/", &[]).status.code(), Some(TLS_CUT), "nobody ends TLS here");

    let (start, hello) = reader.join().unwrap();
    assert_eq!(start[..12], *b"\r\n\r\n\0\r\nQUIT\n", "PROXY protocol 2 begins so");
    assert_eq!(start[12..16], [0x21, 0x11, 0, 12], "a connection that was forwarded, TCP over IPv4");
    assert_eq!(start[16..20], [203, 0, 113, 7]);
    assert_eq!(u16::from_be_bytes([start[24], start[25]]), 40123);
    assert_eq!(start[28..30], [22, 3], "and behind it TLS, a handshake");
    assert_eq!(hello[0], 1, "a ClientHello");
    assert!(hello.windows(lab.name().len()).any(|bytes| bytes == lab.name().as_bytes()), "it names whom it wants");
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn a_change_of_what_was_changed_meanwhile_is_refused() {
    let lab = Lab::start();
    let api = lab.local_api();
    let (nothing, first) = api.serve_config();
    assert!(nothing.is_null(), "{nothing}");
    let config = json!({ "TCP": { "8443": { "TCPForward": "127.0.0.1:9" } } });
    assert_eq!(api.set_serve_config(&config, &first).status, 200);
    let late = api.set_serve_config(&json!({}), &first);
    assert_eq!((late.status, late.text().trim()), (412, "etag mismatch"));
    let (standing, second) = api.serve_config();
    assert_eq!(standing, config, "what stood stands");
    assert_eq!(api.set_serve_config(&json!({}), &second).status, 200);
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn a_tailscaled_that_was_killed_comes_back_with_every_door_shut() {
    let mut lab = Lab::start();
    let origin = Origin::serve(b"open".to_vec());
    let session = lab.local_api().watch();
    session.serve(&mount(lab.name(), "/files", origin.address));
    assert_eq!(lab.visit("/files/", &[]).stdout, b"open");
    let first = lab.pid("tailscaled");

    lab.tell("kill-tailscaled");
    assert_eq!(lab.pid("tailscaled"), None);
    lab.tell("start-tailscaled");
    assert_ne!(lab.pid("tailscaled"), first);
    assert!(lab.try_tell("start-tailscaled").is_err(), "there is one tailscaled");
    assert_eq!(lab.local_api().status()["BackendState"], "Running");
    assert!(foreground(&lab.local_api()).is_null(), "the session is gone, and its config with it");
    assert_eq!(lab.visit("/files/", &[]).status.code(), Some(TLS_CUT));

    let again = lab.local_api().watch();
    again.serve(&mount(lab.name(), "/files", origin.address));
    assert_eq!(lab.visit("/files/", &[]).stdout, b"open", "it opens as before");
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn a_node_that_is_renamed_is_reached_by_its_other_name_only() {
    let mut lab = Lab::start();
    let origin = Origin::serve(b"open".to_vec());
    let before = lab.name().to_owned();
    lab.tell("rename other");
    assert_ne!(lab.name(), before);
    assert_eq!(lab.local_api().status()["CertDomains"], json!([lab.name()]));

    let session = lab.local_api().watch();
    session.serve(&mount(lab.name(), "/files", origin.address));
    assert_eq!(lab.visit("/files/", &[]).stdout, b"open");
    assert_eq!(lab.visit_as(&before, "/files/", &[]).status.code(), Some(TLS_CUT));
    assert!(lab.try_tell("rename not_a_hostname").is_err());
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn an_admin_takes_capabilities_and_the_key_and_gives_them_back() {
    let mut lab = Lab::start();
    let api = lab.local_api();
    for (short, capability) in [("funnel", "funnel"), ("https", "https"), ("funnel-ports", FUNNEL_PORTS)] {
        lab.tell(&format!("remove-cap {short}"));
        assert!(!has_capability(&api.status(), capability), "{short} is gone");
    }
    lab.tell("restore-caps");
    let status = api.status();
    assert!(["funnel", "https", FUNNEL_PORTS].iter().all(|capability| has_capability(&status, capability)));

    lab.tell("expire-key");
    assert_eq!(api.status()["BackendState"], "NeedsLogin");
    lab.tell("renew-key");
    assert_eq!(api.status()["BackendState"], "Running");
    let process = lab.pid("tailscaled");
    lab.tell("restart-tailscaled");
    assert_ne!(lab.pid("tailscaled"), process);
    assert_eq!(api.status()["BackendState"], "Running", "and it comes back by itself");
}
