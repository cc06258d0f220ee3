//! What the real program finds when it looks at its shares from the internet: through the ingress, under the node's public name, and
//! what it says of that.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use super::shared::{WAYS, beside, fetched, is_refused};
use crate::harness::{Lab, SOON, Server, Setup, poll, put};

/// A server of ours beside the lab's node, which looks at its shares through the lab's ingress as somebody who trusts its authority.
fn watched(lab: &Lab, tunnel: &str) -> Setup {
    beside(lab, tunnel).set("TAILSCALE_PROBE", lab.ingress(443)).set("SSL_CERT_FILE", lab.ca_file())
}

/// Returns the words of a share's way in once somebody has looked, and found `reachable`.
#[track_caller]
fn looked(server: &Server, id: &str, reachable: &str) -> Value {
    server.wait_for(id, reachable, |share| share["tunnel"]["reachable"] == reachable)["tunnel"].clone()
}

/// Returns what was written down of looks at a share: what was found, and whether it was closed.
fn findings(server: &Server, id: &str) -> Vec<(String, bool)> {
    let events = server.api("GET", &format!("/api/v1/events?share={id}&type=share.probed"), None).expect_status(200).json();
    let events = events["events"].as_array().unwrap_or_else(|| panic!("no list of events: {events}"));
    events.iter().map(|event| (event["reach"].as_str().unwrap().to_owned(), event["after_close"].as_bool().unwrap())).collect()
}

fn counted(server: &Server, sample: &str) -> u64 {
    let text = server.api("GET", "/metrics", None).expect_status(200).text();
    let line = text.lines().find_map(|line| line.strip_prefix(sample)).unwrap_or_else(|| panic!("{sample} is not there:\n{text}"));
    line.trim().parse().unwrap()
}

fn check_of_the_way_in(server: &Server) -> Value {
    server.api("GET", "/health", None).expect_status(200).json()["checks"]["tunnel"].clone()
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn a_self_test_goes_through_funnel_or_says_that_nobody_looked_from_outside() {
    let lab = Lab::start();
    for way in WAYS {
        for (setup, by) in [(watched(&lab, way), "public"), (beside(&lab, way).set("SSL_CERT_FILE", lab.ca_file()), "local")] {
            let server = setup.start();
            let verdict = server.api("POST", "/api/v1/self-test", None).expect_status(200).json();
            assert_eq!((&verdict["passed"], &verdict["by"]), (&true.into(), &by.into()), "{way}: {verdict:#}");
            assert_eq!(verdict["evidence"], "handed_over", "a tunnel's kernel took it");
            let note = verdict["note"].as_str().unwrap_or_default();
            assert_eq!(note.contains("Nobody could look at"), by == "local", "{way}: {note}");
        }
    }
}

const ALARMS: &str = "portcullis_closed_doors_answering_total";

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn an_open_share_is_reached_from_the_internet_and_a_closed_one_is_not() {
    let lab = Lab::start();
    for way in WAYS {
        let server = watched(&lab, way).start();
        put(&server, "film.mkv", 1000);
        let (offer, other) = (server.share("film.mkv"), server.share("film.mkv"));
        for share in [&offer, &other] {
            assert_eq!(looked(&server, &share.id, "yes")["reach_problem"], Value::Null, "{way}");
        }
        assert_eq!(server.uses(&offer.id), 0, "a look spends nothing");
        assert_eq!(server.transfers(&offer.id), Vec::<Value>::new());
        assert_eq!(check_of_the_way_in(&server)["status"], "ok");
        // The other one is still open: the node's port is, too.
        server.revoke(&offer.id);
        assert_eq!(looked(&server, &offer.id, "no")["reach_problem"], Value::Null, "{way}: that is as it should be");
        assert_eq!(fetched(&lab, &other.url, &[]).len(), 1000);
        server.revoke(&other.id);
        looked(&server, &other.id, "no");
        assert!(is_refused(&lab));
        for share in [&offer, &other] {
            assert_eq!(findings(&server, &share.id), [("yes".to_owned(), false), ("no".to_owned(), true)], "{way}");
        }
        assert_eq!((counted(&server, ALARMS), check_of_the_way_in(&server)["status"].as_str()), (0, Some("ok")));
        assert_eq!(counted(&server, "portcullis_probes_total{result=\"yes\"}"), 2);
        assert_eq!(counted(&server, "portcullis_probes_total{result=\"no\"}"), 2);
    }
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn a_share_that_nobody_reaches_says_why() {
    let lab = Lab::start();
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let known_by_none = Pair::new("127.0.0.1");
    let resolver = Impostor::start(&known_by_none.chain, &known_by_none.key, "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{\"Status\":3}");
    let roots = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(roots.path(), &known_by_none.authority).unwrap();
    let roots = roots.path().display().to_string();
    for way in WAYS {
        for (settings, reachable, problem) in [
            // Another of Funnel's ports: the node serves nobody there, and lets nobody in.
            (vec![("TAILSCALE_PROBE", lab.ingress(8443).to_string())], "no", "Funnel lets nobody in"),
            (vec![("SSL_CERT_FILE", String::new())], "no", "no certificate of that name that this machine trusts"),
            (vec![("TAILSCALE_PROBE", nobody.to_string())], "no", "nobody takes a connection at its public address"),
            (
                vec![
                    ("TAILSCALE_PROBE", "auto".to_owned()),
                    ("TAILSCALE_RESOLVERS", format!("https://{}/dns-query", resolver.address)),
                    ("SSL_CERT_FILE", roots.clone()),
                ],
                "no",
                "its name is not in the public DNS yet",
            ),
            (
                vec![("TAILSCALE_PROBE", "auto".to_owned()), ("TAILSCALE_RESOLVERS", format!("https://{nobody}/dns-query"))],
                "not_probed",
                "this machine reaches no public resolver",
            ),
            (vec![("TAILSCALE_PROBE", "off".to_owned())], "not_probed", "TAILSCALE_PROBE is off"),
        ] {
            let setup = settings.iter().fold(watched(&lab, way), |setup, (name, value)| setup.set(name, value));
            let server = setup.start();
            put(&server, "film.mkv", 1000);
            let offer = server.share("film.mkv");
            let told = looked(&server, &offer.id, reachable);
            assert!(told["reach_problem"].as_str().is_some_and(|text| text.contains(problem)), "{way} {settings:?}: {told}");
            let is_warned = check_of_the_way_in(&server)["status"] == "warning";
            assert_eq!(is_warned, reachable == "no", "who cannot look knows of no fault");
            let shown = server.command().args(["show", &offer.id]).output().unwrap();
            let shown = String::from_utf8_lossy(&shown.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(shown.contains(problem), "{shown}");
            assert_eq!(fetched(&lab, &offer.url, &[]).len(), 1000, "it is open all the same");
        }
    }
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn where_the_tailnet_takes_funnel_away_nothing_is_called_reached_any_more() {
    let mut lab = Lab::start();
    for way in WAYS {
        let server = watched(&lab, way).start();
        put(&server, "film.mkv", 1000);
        let offer = server.share("film.mkv");
        looked(&server, &offer.id, "yes");
        lab.tell("remove-cap funnel");
        server.wait_for(&offer.id, "it is not called reached", |share| share["tunnel"]["reachable"] != "yes");
        assert_eq!(server.show(&offer.id)["tunnel"]["state"], "opening");
        lab.tell("restore-caps");
        looked(&server, &offer.id, "yes");
    }
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn a_door_that_still_answers_under_the_public_name_raises_the_alarm() {
    let lab = Lab::start();
    let pair = lab.local_api().get(&format!("/localapi/v0/cert/{}?type=pair&min_validity=24h", lab.name())).text();
    let (key, chain) = pair.split_at(pair.find("-----BEGIN CERTIFICATE-----").expect("the key comes first"));
    for way in WAYS {
        // Somebody between Funnel and us who holds the node's own certificate, and welcomes everybody.
        let between = Impostor::start(chain, key, "HTTP/1.1 204 No Content\r\n\r\n");
        between.lead_to(lab.ingress(443));
        let server = watched(&lab, way).set("TAILSCALE_PROBE", between.address).start();
        put(&server, "film.mkv", 1000);
        let offer = server.share("film.mkv");
        looked(&server, &offer.id, "yes");
        between.welcome();
        let welcomed = server.share("film.mkv");
        let told = looked(&server, &welcomed.id, "no");
        assert!(
            told["reach_problem"].as_str().unwrap().contains("somebody else answers there"),
            "who welcomes everybody is not us: {told}"
        );

        server.revoke(&offer.id);
        let told = looked(&server, &offer.id, "yes");
        assert_eq!(told["reach_problem"], "Closed, and its door still answers from the internet.", "{way}");
        poll(SOON, "the alarm is counted", || counted(&server, ALARMS) == 1);
        assert_eq!(check_of_the_way_in(&server)["status"], "failing");
        let log = server.log_text();
        let is_alarm = |line: &str| line.contains("ERROR") && line.contains(&offer.id) && line.contains("still answers from the internet");
        assert!(log.lines().any(is_alarm), "{log}");

        between.lead_to(lab.ingress(443));
        looked(&server, &offer.id, "no");
        poll(SOON, "the alarm is over", || check_of_the_way_in(&server)["status"] != "failing");
        let found = [("yes", false), ("yes", true), ("no", true)].map(|(reach, after_close)| (reach.to_owned(), after_close));
        assert_eq!((findings(&server, &offer.id), counted(&server, ALARMS)), (found.to_vec(), 1));
    }
}

/// A certificate by an authority of its own, in PEM.
struct Pair {
    authority: String,
    chain: String,
    key: String,
}

impl Pair {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        Self { authority: authority.pem(), chain: leaf.pem(), key: key.serialize_pem() }
    }
}

/// A server that gives everybody the same answer over TLS, or leads them on to another as they come.
struct Impostor {
    address: SocketAddr,
    leads_on: Arc<AtomicBool>,
    to: Arc<std::sync::Mutex<Option<SocketAddr>>>,
}

impl Impostor {
    fn start(chain: &str, key: &str, answer: &'static str) -> Self {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let versions = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let config = versions.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let config = Arc::new(config.with_single_cert(chain, key).unwrap());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let impostor = Self { address: listener.local_addr().unwrap(), leads_on: Arc::default(), to: Arc::default() };
        let (leads_on, to) = (impostor.leads_on.clone(), impostor.to.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let to = to.lock().unwrap().filter(|_| leads_on.load(Ordering::Relaxed));
                let config = config.clone();
                std::thread::spawn(move || match to {
                    Some(to) => lead(stream, to),
                    None => welcome(stream, config, answer),
                });
            }
        });
        impostor
    }

    fn lead_to(&self, address: SocketAddr) {
        *self.to.lock().unwrap() = Some(address);
        self.leads_on.store(true, Ordering::Relaxed);
    }

    fn welcome(&self) {
        self.leads_on.store(false, Ordering::Relaxed);
    }
}

fn lead(visitor: TcpStream, to: SocketAddr) {
    let Ok(onward) = TcpStream::connect(to) else { return };
    let copy = |from: &TcpStream, to: &TcpStream| {
        let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(std::net::Shutdown::Write);
        })
    };
    let ways = [copy(&visitor, &onward), copy(&onward, &visitor)];
    ways.into_iter().for_each(|way| drop(way.join()));
}

fn welcome(stream: TcpStream, config: Arc<ServerConfig>, answer: &str) {
    stream.set_read_timeout(Some(SOON)).unwrap();
    let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
    // Whoever does not trust it goes away here.
    if stream.read(&mut [0; 4096]).is_ok_and(|n| n > 0) {
        let _ = stream.write_all(answer.as_bytes());
        stream.conn.send_close_notify();
        let _ = stream.flush();
    }
}
