//! Each step of a look, and what is said where it is not taken: with servers of our own on loopback.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::share::ShareId;
use crate::tunnel::Doors;
use crate::tunnel::canary::Canaries;

const NODE: &str = "nas.tail-test.ts.net";

/// An authority, and what it vouches for.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn acceptor(&self, name: &str) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        let versions = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let config = versions.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        TlsAcceptor::from(Arc::new(config.with_single_cert(vec![leaf.der().clone()], key).unwrap()))
    }

    fn tls(&self) -> Tls {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        Tls::trusting(roots)
    }
}

/// What a server does with a connection.
#[derive(Clone)]
enum Does {
    /// Ends TLS and answers each request by what this returns of its head; nothing, where that is empty.
    Answer(TlsAcceptor, Arc<dyn Fn(&str) -> String + Send + Sync>),
    /// Takes the connection and ends it.
    Cut,
    /// Says this, and is no TLS.
    Say(&'static [u8]),
}

/// A server that runs until it is dropped.
struct Server {
    address: SocketAddr,
    _task: JoinSet<()>,
}

impl Server {
    async fn start(does: Does) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, mut task) = (listener.local_addr().unwrap(), JoinSet::new());
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, does.clone()));
            }
        });
        Self { address, _task: task }
    }
}

async fn serve(mut stream: TcpStream, does: Does) {
    match does {
        Does::Answer(acceptor, answer) => {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut head = vec![0; 4096];
            let n = stream.read(&mut head).await.unwrap_or(0);
            let answer = answer(&String::from_utf8_lossy(&head[..n]));
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
        Does::Cut => {
            let _ = stream.read(&mut [0; 4096]).await;
        }
        Does::Say(words) => {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(words).await;
        }
    }
}

/// An open share, whose canaries are answered.
struct Scene {
    authority: Authority,
    doors: Doors,
    canaries: Canaries,
    share: ShareId,
}

impl Scene {
    fn new() -> Self {
        let (doors, share) = (Doors::default(), ShareId::from_random(1));
        doors.open(share);
        Self { authority: Authority::new(), canaries: Canaries::new(doors.clone()), doors, share }
    }

    /// Answers as the recipient side does.
    fn answers(&self) -> Does {
        let canaries = self.canaries.clone();
        let answer = move |head: &str| {
            let path = head.split(' ').nth(1).unwrap_or_default();
            let parts: Vec<&str> = path.split('/').collect();
            let is_answered = head.starts_with("GET ") && parts.len() == 4 && parts[2] == "canary" && canaries.answer(parts[1], parts[3]);
            if is_answered { "HTTP/1.1 204 No Content\r\n\r\n".to_owned() } else { String::new() }
        };
        Does::Answer(self.authority.acceptor(NODE), Arc::new(answer))
    }

    fn says(&self, answer: &'static str) -> Does {
        Does::Answer(self.authority.acceptor(NODE), Arc::new(move |_| answer.to_owned()))
    }

    async fn look_by(&self, by: By, port: u16) -> Reach {
        let probe = Probe { by, tls: OnceCell::new_with(Some(self.authority.tls())) };
        let canary = self.canaries.send(self.share).unwrap();
        let authority = if port == 443 { NODE.to_owned() } else { format!("{NODE}:{port}") };
        probe.look(&format!("https://{authority}{}", canary.path()), Counts::Ours(&canary)).await
    }

    async fn look_at(&self, address: SocketAddr) -> Reach {
        self.look_by(By::Address(address), 443).await
    }

    async fn met(&self, does: Does) -> Reach {
        self.look_at(Server::start(does).await.address).await
    }
}

/// Returns an address at which nobody listens: it was one of ours a moment ago.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn an_open_share_is_reached_and_one_whose_door_was_shut_is_not() {
    let scene = Scene::new();
    let server = Server::start(scene.answers()).await;
    assert_eq!(scene.look_at(server.address).await, Reach::Yes);
    scene.doors.shut(scene.share);
    assert_eq!(scene.look_at(server.address).await, Reach::No(Obstacle::NoAnswer));
}

#[tokio::test]
async fn each_step_that_is_not_taken_has_its_own_reason() {
    let scene = Scene::new();
    assert_eq!(scene.look_at(nobody().await).await, Reach::No(Obstacle::NoConnection));
    assert_eq!(scene.met(Does::Cut).await, Reach::No(Obstacle::HandshakeCut));
    assert_eq!(scene.met(Does::Say(b"HTTP/1.1 400 Bad Request\r\n\r\n")).await, Reach::No(Obstacle::OtherAnswer));
    // What an alert of TLS looks like: fatal, unrecognized_name.
    assert_eq!(scene.met(Does::Say(b"\x15\x03\x03\x00\x02\x02\x70")).await, Reach::No(Obstacle::HandshakeCut));
    let other_name = Does::Answer(scene.authority.acceptor("other.tail-test.ts.net"), Arc::new(|_| String::new()));
    assert_eq!(scene.met(other_name).await, Reach::No(Obstacle::ForeignCertificate));
    let unknown = Does::Answer(Authority::new().acceptor(NODE), Arc::new(|_| String::new()));
    assert_eq!(scene.met(unknown).await, Reach::No(Obstacle::ForeignCertificate));
    assert_eq!(scene.met(scene.says("")).await, Reach::No(Obstacle::NoAnswer));
    assert_eq!(scene.met(scene.says("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")).await, Reach::No(Obstacle::OtherAnswer));
    assert_eq!(scene.met(scene.says("SSH-2.0-OpenSSH_9.2\r\n")).await, Reach::No(Obstacle::OtherAnswer));
    // A portal that welcomes everybody is not us.
    assert_eq!(scene.met(scene.says("HTTP/1.1 204 No Content\r\n\r\n")).await, Reach::No(Obstacle::OtherAnswer));
}

#[tokio::test]
async fn nobody_may_answer_for_a_closed_share_whoever_they_are() {
    let scene = Scene::new();
    let portal = Server::start(scene.says("HTTP/1.1 204 No Content\r\n\r\n")).await;
    let probe = Probe { by: By::Address(portal.address), tls: OnceCell::new_with(Some(scene.authority.tls())) };
    let canary = scene.canaries.send(scene.share).unwrap();
    let url = format!("https://{NODE}{}", canary.path());
    assert_eq!(probe.look(&url, Counts::Anybodys).await, Reach::Yes);
    assert_eq!(probe.look(&url, Counts::Ours(&canary)).await, Reach::No(Obstacle::OtherAnswer));
}

/// Answers questions about names as a public resolver does, and holds them to what a resolver needs.
fn resolver(scene: &Scene, answer: &'static str) -> Does {
    let answer = move |head: &str| {
        assert!(head.starts_with("GET /dns-query?name=nas%2Etail%2Dtest%2Ets%2Enet&type=A"), "{head}");
        assert!(head.to_ascii_lowercase().contains("\r\naccept: application/dns-json\r\n"), "{head}");
        let body = if head.contains("&type=A ") { answer } else { r#"{"Status":0}"# };
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    Does::Answer(scene.authority.acceptor("127.0.0.1"), Arc::new(answer))
}

async fn resolvers(addresses: &[SocketAddr]) -> By {
    By::PublicDns(addresses.iter().map(|address| format!("https://{address}/dns-query").parse().unwrap()).collect())
}

const HERE: &str = r#"{"Status":0,"Answer":[{"name":"nas.tail-test.ts.net.","type":1,"TTL":60,"data":"127.0.0.1"}]}"#;
const NOWHERE: &str = r#"{"Status":3}"#;

#[tokio::test]
async fn the_name_is_asked_of_public_resolvers_and_the_address_that_they_know_is_visited() {
    let scene = Scene::new();
    let (door, knows) = (Server::start(scene.answers()).await, Server::start(resolver(&scene, HERE)).await);
    let (knows_not, gone) = (Server::start(resolver(&scene, NOWHERE)).await, nobody().await);
    for known_by in [vec![knows.address], vec![knows_not.address, knows.address], vec![gone, knows.address]] {
        assert_eq!(scene.look_by(resolvers(&known_by).await, door.address.port()).await, Reach::Yes, "{known_by:?}");
    }
    for unknown_by in [vec![knows_not.address], vec![knows_not.address, gone]] {
        let reach = scene.look_by(resolvers(&unknown_by).await, door.address.port()).await;
        assert_eq!(reach, Reach::No(Obstacle::NameUnknown), "{unknown_by:?}");
    }
}

#[tokio::test]
async fn where_no_resolver_can_be_asked_nobody_looked() {
    let scene = Scene::new();
    let unprobed = Reach::NotProbed(Unprobed::NoWayOut);
    assert_eq!(scene.look_by(resolvers(&[nobody().await, nobody().await]).await, 443).await, unprobed);
    let portal =
        Server::start(Does::Answer(scene.authority.acceptor("127.0.0.1"), Arc::new(|_| "HTTP/1.1 302 Found\r\n\r\n".to_owned()))).await;
    let other = Server::start(Does::Answer(Authority::new().acceptor("127.0.0.1"), Arc::new(|_| String::new()))).await;
    let servfail = Server::start(resolver(&scene, r#"{"Status":2}"#)).await;
    for by in [portal.address, other.address] {
        assert_eq!(scene.look_by(resolvers(&[by]).await, 443).await, unprobed, "whoever is in the way is no resolver");
    }
    // It says of one kind of address that it does not know, and of the other that there is none: that it is not there is known by one.
    assert_eq!(scene.look_by(resolvers(&[servfail.address]).await, 443).await, Reach::No(Obstacle::NameUnknown));
}

#[test]
fn the_resolvers_that_are_asked_unless_others_are_named_are_of_two_houses() {
    let By::PublicDns(resolvers) = By::default() else { panic!("it asks") };
    assert_eq!(resolvers.len(), 2);
    assert_ne!(resolvers[0], resolvers[1]);
}
