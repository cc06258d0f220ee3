//! The whole recipient side over a real socket, with a pass that the test wrote.

use std::io::{self, Read, Write};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::catalog::CatalogOptions;
use crate::clock::FakeClock;
use crate::meter::{self, Report};
use crate::share::{CatalogPath, ControllerNumber, Evidence, Limits, Moment, PolicyRequest, TokenId};

const CONTENT: &[u8] = b"what was picked";
const SECRET: &str = "00112233445566778899aabbccddeeff";

#[tokio::test(flavor = "multi_thread")]
async fn bytes_take_an_open_door_and_the_transfers_own_share() {
    let scene = Scene::new().await;
    let share = scene.share;
    assert_eq!(scene.get(share).await, "", "the door has not opened yet");
    scene.doors.open(share);
    let answer = scene.get(share).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("what was picked"), "{answer}");
    let other = ShareId::from_random(2);
    scene.doors.open(other);
    assert_eq!(scene.get(other).await, "", "it is a transfer of another share");
    scene.doors.shut(share);
    assert_eq!(scene.get(share).await, "", "the door is shut again, though the pass is still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_the_same_is_said_and_without_it_nothing() {
    let (authority, certificates) = (Authority::new(), Certificates::none());
    let scene = Scene::arriving(Arrival::Tls(certificates.clone())).await;
    scene.doors.open(scene.share);
    assert_eq!(scene.get_sealed(&authority, b"").await.err(), Some(io::ErrorKind::UnexpectedEof), "there is no certificate yet");
    let pair = authority.pair_for(&["files.example.org"]);
    certificates.set(&pair.chain, &pair.key).unwrap();
    let answer = scene.get_sealed(&authority, b"").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("what was picked"), "{answer}");
    assert_eq!(scene.get(scene.share).await, "", "a request in plain HTTP is met with silence");
}

#[tokio::test(flavor = "multi_thread")]
async fn through_a_tunnel_the_recipient_is_whom_it_names_and_nobody_else() {
    let (authority, certificates) = (Authority::new(), Certificates::none());
    let pair = authority.pair_for(&["files.example.org"]);
    certificates.set(&pair.chain, &pair.key).unwrap();
    let scene = Scene::arriving(Arrival::Tunnelled(certificates)).await;
    scene.doors.open(scene.share);
    let carried = proxy::header_for("203.0.113.7".parse().unwrap(), b"");
    let answer = scene.get_sealed(&authority, &carried).await.unwrap();
    assert!(answer.ends_with("what was picked"), "{answer}");
    assert_eq!(scene.ended().await, (Some(CONTENT.len() as u64), Evidence::HandedOver), "the tunnel has it");
    assert_eq!(scene.get_by_http_2(&authority, &carried, true).await, CONTENT);
    assert_eq!(scene.ended().await, (Some(CONTENT.len() as u64), Evidence::Confirmed), "the recipient has it");
    assert_eq!(scene.get_by_http_2(&authority, &carried, false).await, CONTENT);
    assert_eq!(scene.ended().await, (None, Evidence::Confirmed), "nobody said that they have it");
    assert!(scene.get_sealed(&authority, b"").await.is_err(), "it does not say for whom it is");
}

struct Scene {
    share: ShareId,
    doors: Doors,
    address: std::net::SocketAddr,
    shutdown: CancellationToken,
    ended: tokio::sync::Mutex<mpsc::UnboundedReceiver<(Option<u64>, Evidence)>>,
    _folder: tempfile::TempDir,
}

impl Scene {
    async fn new() -> Self {
        Self::arriving(Arrival::Plain).await
    }

    #[expect(clippy::disallowed_methods, reason = "a test ends with its runtime")]
    async fn arriving(arrival: Arrival) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("film.mkv"), CONTENT).unwrap();
        let catalog = Arc::new(Catalog::new(folder.path(), CatalogOptions::default()).unwrap());
        let path = CatalogPath::parse("film.mkv").unwrap();
        let identity = catalog.open(&path).await.unwrap().identity;
        let limits = Limits { max_tunnel: Duration::MAX, stall_timeout: Duration::MAX, grace_period: Duration::MAX };
        let policy = Policy::new(PolicyRequest::default(), limits, Moment::default()).unwrap();
        let link = TokenId(uuid::Uuid::nil());
        let (share, _) = Share::new(ShareId::from_random(1), link, SharedFile { path, identity }, policy, None, Moment::default());
        let (passes, doors) = (Passes::default(), Doors::default());
        let pass = Pass::new(&share, TransferId::from_bytes([1; 16]), "\"tag\"".to_owned(), Pass::sending());
        passes.insert(TransferSecret::parse(SECRET.as_bytes()).unwrap(), Arc::new(pass));
        let (reports, mut told) = meter::channel();
        let (tell, ended) = mpsc::unbounded_channel();
        tokio::task::spawn(async move {
            while let Some(report) = told.recv().await {
                match report {
                    Report::Opened { go, .. } => go.send(Ok(())).unwrap(),
                    Report::Saved { done, .. } => done.send(()).unwrap(),
                    Report::Ended { arrived, evidence, .. } => tell.send((arrived.map(|range| range.len()), evidence)).unwrap(),
                    Report::Arrived { .. } | Report::SourceChanged { .. } => {}
                }
            }
        });
        let side = RecipientSide {
            passes,
            doors: doors.clone(),
            reports,
            metrics: Metrics::new("test", Moment::default().wall),
            catalog,
            pages: axum::Router::new(),
            clock: Arc::new(FakeClock::default()),
            bounds: watch::channel(Bounds { connections: 8, connections_per_address: 8 }).1,
            is_trusted_proxy: Box::new(|_| false),
            prefix: Prefix::default(),
            nginx: None,
            controller: ControllerNumber::ALONE,
            catch_up: None,
        };
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
        tokio::task::spawn(Arc::new(side).run(listener, arrival, shutdown.clone()));
        Self { share: share.id, doors, address, shutdown, ended: tokio::sync::Mutex::new(ended), _folder: folder }
    }

    /// Returns all that comes of a GET of the transfer below `share`; nothing where it is met with silence.
    async fn get(&self, share: ShareId) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET /{share}/get/{SECRET}/film.mkv HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// As `get`, over TLS, behind what a tunnel says first.
    async fn get_sealed(&self, authority: &Authority, before: &[u8]) -> Result<String, io::ErrorKind> {
        let config = authority.client("http/1.1");
        let request = format!("GET /{}/get/{SECRET}/film.mkv HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", self.share);
        let (address, before) = (self.address, before.to_vec());
        let talk = move || {
            let mut stream = sealed(address, config, &before);
            stream.write_all(request.as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok::<_, io::Error>(answer)
        };
        tokio::task::spawn_blocking(talk).await.unwrap().map_err(|error| error.kind())
    }

    /// As `get_sealed`, by HTTP/2; returns the bytes. Whoever confirms nothing leaves when they have them.
    async fn get_by_http_2(&self, authority: &Authority, before: &[u8], confirms: bool) -> Vec<u8> {
        let (config, address, before) = (authority.client("h2"), self.address, before.to_vec());
        let path = format!("/{}/get/{SECRET}/film.mkv", self.share);
        let talk = move || {
            let mut stream = sealed(address, config, &before);
            let mut head = Vec::new();
            for (name, value) in [(":method", "GET"), (":scheme", "https"), (":authority", "x"), (":path", path.as_str())] {
                head.extend([&[0, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat());
            }
            let ask = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(4, 0, 0, b"")[..], &frame(1, 5, 1, &head)].concat();
            stream.write_all(&ask).unwrap();
            let mut body = Vec::new();
            while confirms || body.len() < CONTENT.len() {
                let mut header = [0; 9];
                stream.read_exact(&mut header).unwrap();
                let mut content = vec![0; usize::from(header[1]) << 8 | usize::from(header[2])];
                stream.read_exact(&mut content).unwrap();
                match (header[3], header[4]) {
                    (0, flags) => {
                        body.extend(content);
                        if flags & 1 != 0 {
                            break;
                        }
                    }
                    (6, 0) => stream.write_all(&frame(6, 1, 0, &content)).unwrap(),
                    _ => {}
                }
            }
            body
        };
        tokio::task::spawn_blocking(talk).await.unwrap()
    }

    /// Waits for the end of a request: how much arrived, and how sure that is.
    async fn ended(&self) -> (Option<u64>, Evidence) {
        self.ended.lock().await.recv().await.unwrap()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn sealed(
    address: std::net::SocketAddr,
    config: Arc<rustls::ClientConfig>,
    before: &[u8],
) -> rustls::StreamOwned<rustls::ClientConnection, std::net::TcpStream> {
    let mut socket = std::net::TcpStream::connect(address).unwrap();
    socket.write_all(before).unwrap();
    let session = rustls::ClientConnection::new(config, "files.example.org".try_into().unwrap()).unwrap();
    rustls::StreamOwned::new(session, socket)
}

fn frame(kind: u8, flags: u8, stream: u8, content: &[u8]) -> Vec<u8> {
    [&[0, 0, content.len() as u8, kind, flags, 0, 0, 0, stream], content].concat()
}
