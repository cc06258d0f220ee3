//! The whole recipient side over a real socket, with a pass that the test wrote.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::catalog::CatalogOptions;
use crate::clock::FakeClock;
use crate::meter::{self, Report};
use crate::share::{CatalogPath, Limits, Moment, PolicyRequest, TokenId};

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

struct Scene {
    share: ShareId,
    doors: Doors,
    address: std::net::SocketAddr,
    shutdown: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Scene {
    #[expect(clippy::disallowed_methods, reason = "a test ends with its runtime")]
    async fn new() -> Self {
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
        tokio::task::spawn(async move {
            while let Some(report) = told.recv().await {
                if let Report::Opened { go, .. } = report {
                    go.send(Ok(())).unwrap();
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
        };
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
        tokio::task::spawn(Arc::new(side).run(listener, shutdown.clone()));
        Self { share: share.id, doors, address, shutdown, _folder: folder }
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
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}
