//! Through the router, over a real controller, catalog and store; the way in is a fake, and time stands still until moved.

mod allowing;
mod asking;
mod auditing;
mod below_a_path;
mod connecting;
mod entering;
mod finding;
mod looking_back;
mod operating;
mod sharing;
mod speaking_as_the_original;
mod repeating;
mod watching;

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::*;
use crate::catalog::{CatalogOptions, DigestCache};
use crate::clock::FakeClock;
use crate::controller::{Controller, Parts};
use crate::delivery::Passes;
use crate::http::auth::Peer;
use crate::meter::Report;
use crate::share::{FileIdentity, Limits, Steady, Timestamp};
use crate::store::memory::MemoryStore;
use crate::token::{Key, Keys, random};
use crate::tunnel::fake::Fake;
use crate::tunnel::probe::guest::{Guest, Here, Public};

const LIMITS: Limits =
    Limits { max_tunnel: Duration::from_secs(7200), stall_timeout: Duration::from_secs(300), grace_period: Duration::from_secs(60) };
const NEIGHBOUR: Peer = Peer::Tcp(SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 0, 7)), 50_000));

/// Everything that an owner's side needs, and the files `film.mkv` (1000 bytes) and `sub/book.pdf` to share.
struct Scene {
    side: Arc<OwnerSide>,
    router: Router,
    clock: Arc<FakeClock>,
    tunnel: Arc<Fake>,
    token: String,
    folder: tempfile::TempDir,
    _reports: mpsc::Sender<Report>,
    _running: DropGuard,
}

async fn scene() -> Scene {
    scene_with(|_| {}).await
}

async fn scene_with(change: impl FnOnce(&mut OwnerSettings)) -> Scene {
    scene_over(Arc::new(MemoryStore::default()), change).await
}

async fn scene_over(store: Arc<dyn Store>, change: impl FnOnce(&mut OwnerSettings)) -> Scene {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("film.mkv"), vec![7; 1000]).unwrap();
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    std::fs::write(folder.path().join("sub/book.pdf"), b"pages").unwrap();
    let wall = Timestamp(1_800_000_000_000);
    let clock = Arc::new(FakeClock::at(Moment { steady: Steady(wall.0), wall }));
    let catalog = Arc::new(Catalog::new(folder.path(), CatalogOptions::default()).unwrap());
    let digests = Arc::new(Digests::new(catalog.clone(), Arc::new(NoCache)));
    let tunnel = Arc::new(Fake::default());
    let (reports, inbox) = mpsc::channel(64);
    let parts = Parts {
        store: store.clone(),
        sharing: None,
        catalog: catalog.clone(),
        digests: digests.clone(),
        tunnel: tunnel.clone(),
        clock: clock.clone(),
        keys: Keys::new(vec![Key::new(&random::secret()).unwrap()], random::bytes()),
        passes: Passes::default(),
        metrics: crate::metrics::Metrics::new("1.2.3", crate::share::Timestamp(0)),
        limits: LIMITS,
        drain: Duration::ZERO,
    };
    let (controller, handle) = Controller::load(parts, inbox).await.unwrap();
    let (shutdown, tasks) = (CancellationToken::new(), TaskTracker::new());
    tasks.spawn(controller.run(shutdown.clone()));
    tasks.spawn(catalog.clone().run(shutdown.clone()));
    let token = random::secret();
    let here = Here { address: SocketAddr::from(([127, 0, 0, 1], 1)), is_tls: false, is_tunnelled: false };
    let mut settings = OwnerSettings {
        nginx: None,
        operator: Arc::new(Nobody),
        self_test: Arc::new(SelfTest::new(handle.clone(), Guest::new(Public::Nowhere, here), None)),
        auth: Auth::Token,
        owner_token: SecretDigest::of(&token),
        hosts: vec!["files.example".to_owned()],
        tailnet_owners: vec!["alice@example.com".to_owned()],
        address: "http://nas.local:8000".to_owned(),
        prefix: Prefix::default(),
        root: folder.path().to_owned(),
        state_dir: folder.path().to_owned(),
        version: "1.2.3",
        store_kind: "embedded",
        tunnel: "fake",
    };
    change(&mut settings);
    let side = Arc::new(OwnerSide::new(handle, catalog, digests, store, clock.clone(), settings));
    Scene { router: router(side.clone()), side, clock, tunnel, token, folder, _reports: reports, _running: shutdown.drop_guard() }
}

/// Nobody who could tell of settings or of the machine.
#[derive(Debug)]
struct Nobody;

impl operate::Operator for Nobody {
    fn settings(&self) -> operate::SettingsJson {
        operate::SettingsJson { settings: Vec::new(), notes: Vec::new() }
    }

    fn check(&self) -> BoxFuture<'_, Vec<operate::CheckJson>> {
        ready(Vec::new()).boxed()
    }
}

struct NoCache;

impl DigestCache for NoCache {
    fn load(&self, _: FileIdentity) -> BoxFuture<'_, Option<[u8; 32]>> {
        ready(None).boxed()
    }

    fn keep(&self, _: FileIdentity, _: [u8; 32]) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }
}

/// A request in the making.
struct Ask<'a> {
    scene: &'a Scene,
    request: axum::http::request::Builder,
    peer: Peer,
    body: Body,
}

impl Scene {
    /// Puts another owner's side over the same store, as a restart does.
    fn restart(&mut self) {
        let OwnerSide { controller, catalog, digests, store, settings, .. } = &*self.side;
        let (catalog, digests, store) = (catalog.clone(), digests.clone(), store.clone());
        self.side = Arc::new(OwnerSide::new(controller.clone(), catalog, digests, store, self.clock.clone(), settings.clone()));
        self.router = router(self.side.clone());
    }

    /// Asks as a stranger of the LAN does.
    fn ask(&self, method: &str, target: &str) -> Ask<'_> {
        let request = Request::builder().method(method).uri(target).header("host", "192.168.0.2:8000");
        Ask { scene: self, request, peer: NEIGHBOUR, body: Body::empty() }
    }

    /// Asks as the owner's script does.
    fn call(&self, method: &str, target: &str) -> Ask<'_> {
        self.ask(method, target).header("authorization", &format!("Bearer {}", self.token))
    }

    /// Makes a share of `film.mkv`; returns its JSON.
    async fn share(&self) -> Value {
        self.call("POST", "/api/v1/shares").json(r#"{"path":"film.mkv"}"#).await.expect(201).json()
    }

    /// Signs a browser in; returns its cookie.
    async fn sign_in(&self) -> String {
        let answer = self.ask("GET", &self.side.new_sign_in_path()).await.expect(303);
        answer.header("set-cookie").split(';').next().unwrap().to_owned()
    }
}

impl Ask<'_> {
    fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    fn host(mut self, host: &str) -> Self {
        self.request.headers_mut().unwrap().remove("host");
        self.header("host", host)
    }

    fn from(mut self, peer: Peer) -> Self {
        self.peer = peer;
        self
    }

    fn json(self, body: impl Into<Body>) -> Self {
        let mut asked = self.header("content-type", "application/json");
        asked.body = body.into();
        asked
    }

    /// Returns the answer before its body has come.
    async fn begin(self) -> axum::response::Response {
        let mut request = self.request.body(self.body).unwrap();
        request.extensions_mut().insert(self.peer);
        self.scene.router.clone().oneshot(request).await.unwrap()
    }
}

impl<'a> std::future::IntoFuture for Ask<'a> {
    type Output = Answer;
    type IntoFuture = BoxFuture<'a, Answer>;

    fn into_future(self) -> Self::IntoFuture {
        let what = format!("{:?} {:?}", self.request.method_ref(), self.request.uri_ref());
        async move {
            let (head, body) = self.begin().await.into_parts();
            Answer { what, status: head.status, headers: head.headers, body: body.collect().await.unwrap().to_bytes() }
        }
        .boxed()
    }
}

struct Answer {
    what: String,
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    #[track_caller]
    fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}: {}", self.what, String::from_utf8_lossy(&self.body));
        self
    }

    /// Expects a problem of this status, with all that problems have.
    #[track_caller]
    fn expect_problem(self, status: u16, code: &str) -> Self {
        let answer = self.expect(status);
        let problem = answer.json();
        assert_eq!(answer.header("content-type"), "application/problem+json", "{}", answer.what);
        let keys: Vec<&str> = problem.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["code", "detail", "request_id", "status", "title", "type"], "{}", answer.what);
        assert_eq!((&problem["code"], &problem["status"]), (&code.into(), &status.into()), "{}: {problem}", answer.what);
        assert_eq!(problem["request_id"], answer.header("x-request-id"));
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.ends_with('.') && detail.contains(' ') && detail.len() < 400, "{}: {detail}", answer.what);
        answer
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{}: {error}: {:?}", self.what, self.body))
    }

    #[track_caller]
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("{}: no {name}", self.what)).to_str().unwrap()
    }

    #[track_caller]
    fn detail(&self) -> String {
        self.json()["detail"].as_str().unwrap().to_owned()
    }
}

fn keys(object: &Value) -> Vec<&str> {
    object.as_object().unwrap_or_else(|| panic!("no object: {object}")).keys().map(String::as_str).collect()
}
