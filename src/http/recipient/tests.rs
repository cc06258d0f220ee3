//! The route of canaries: it answers one request, and is silent like every other path to everything else.

use axum::body::Body;
use http::Request;
use tower::ServiceExt;

use super::*;
use crate::catalog::{Catalog, CatalogOptions, DigestCache, Digests};
use crate::clock::FakeClock;
use crate::controller::{Controller, Parts};
use crate::delivery::Passes;
use crate::share::{FileIdentity, Limits, ShareId, Timestamp};
use crate::store::memory::MemoryStore;
use crate::token::{Key, random};
use crate::tunnel::Doors;
use crate::tunnel::fake::Fake;

struct NoCache;

impl DigestCache for NoCache {
    fn load(&self, _: FileIdentity) -> futures_util::future::BoxFuture<'_, Option<[u8; 32]>> {
        Box::pin(async { None })
    }

    fn keep(&self, _: FileIdentity, _: [u8; 32]) -> futures_util::future::BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

struct Scene {
    router: axum::Router,
    doors: Doors,
    canaries: Canaries,
    store: Arc<MemoryStore>,
    _folder: tempfile::TempDir,
}

async fn scene() -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let catalog = Arc::new(Catalog::new(folder.path(), CatalogOptions::default()).unwrap());
    let (clock, store) = (Arc::new(FakeClock::default()), Arc::<MemoryStore>::default());
    let keys = Keys::new(vec![Key::new(&random::secret()).unwrap()], random::bytes());
    let second = std::time::Duration::from_secs(1);
    let parts = Parts {
        store: store.clone(),
        sharing: None,
        digests: Arc::new(Digests::new(catalog.clone(), Arc::new(NoCache))),
        catalog,
        tunnel: Arc::new(Fake::default()),
        clock: clock.clone(),
        keys: keys.clone(),
        passes: Passes::default(),
        metrics: crate::metrics::Metrics::new("1.2.3", Timestamp(0)),
        limits: Limits { max_tunnel: second, stall_timeout: second, grace_period: second },
        drain: second,
    };
    let (_, controller) = Controller::load(parts, crate::meter::channel().1).await.unwrap();
    let doors = Doors::default();
    let canaries = Canaries::new(doors.clone());
    let pages = RecipientPages { controller, keys: Arc::new(keys), clock, canaries: canaries.clone() };
    let router = router(pages).layer(Extension(Peer { address: None, is_proxied: false }));
    Scene { router, doors, canaries, store, _folder: folder }
}

impl Scene {
    /// Returns an answer's status, its head and whether it is silence.
    async fn ask(&self, method: &str, path: &str) -> (StatusCode, HeaderMap, bool) {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let is_silence = response.extensions().get::<Silence>().is_some();
        (response.status(), response.headers().clone(), is_silence)
    }

    async fn is_silent(&self, method: &str, path: &str) -> bool {
        let (status, headers, is_silence) = self.ask(method, path).await;
        // No difference to what a path gets that means nothing at all.
        let (stranger, nothing, _) = self.ask(method, "/nothing/at/all/here").await;
        is_silence && status == stranger && headers == nothing
    }
}

#[tokio::test]
async fn a_canary_that_is_out_gets_an_answer_with_nothing_in_it() {
    let scene = scene().await;
    let share = ShareId::from_random(1);
    scene.doors.open(share);
    let canary = scene.canaries.send(share).unwrap();
    let (status, headers, is_silence) = scene.ask("GET", &canary.path()).await;
    assert_eq!((status, is_silence), (StatusCode::NO_CONTENT, false));
    assert_eq!(headers["cache-control"], "private, no-store, no-transform");
    assert!(canary.was_answered());
    assert_eq!(crate::store::Store::latest_seq(&*scene.store).await.unwrap(), 0, "nothing is written down for it");
}

#[tokio::test]
async fn whatever_else_is_asked_there_is_met_with_silence() {
    let scene = scene().await;
    let (share, other) = (ShareId::from_random(u64::MAX / 3), ShareId::from_random(2));
    scene.doors.open(share);
    scene.doors.open(other);
    let canary = scene.canaries.send(share).unwrap();
    let (path, nonce) = (canary.path(), canary.path().rsplit('/').next().unwrap().to_owned());
    for method in ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"] {
        assert!(scene.ask(method, &path).await.2, "{method}");
    }
    let first = format!("%{:02x}", nonce.as_bytes()[0]);
    for wrong in [
        format!("/{other}/canary/{nonce}"),
        format!("/{share}/canary/{}", "0".repeat(32)),
        format!("/{share}/canary/{}", &nonce[1..]),
        format!("/{share}/canary/{nonce}0"),
        format!("/{share}/canary/{nonce}/"),
        format!("/{share}/canary/{nonce}/x"),
        format!("/{share}/canary/{nonce}?"),
        format!("/{share}/canary/{nonce}?dl=1"),
        format!("/{share}/canary/{first}{}", &nonce[1..]),
        format!("/{share}/canary/"),
        format!("/{share}/canary"),
        format!("/{share}/%63anary/{nonce}"),
        format!("/{share}/Canary/{nonce}"),
        format!("//{share}/canary/{nonce}"),
        format!("/{share}//canary/{nonce}"),
        format!("/{share}/./canary/{nonce}"),
        format!("/%2e/{share}/canary/{nonce}"),
        format!("/{}/canary/{nonce}", share.to_string().to_uppercase()),
        format!("/x/canary/{nonce}"),
    ] {
        assert!(scene.is_silent("GET", &wrong).await, "{wrong}");
    }
    assert!(!canary.was_answered());
}

#[tokio::test]
async fn a_share_that_exists_looks_like_one_that_does_not() {
    let scene = scene().await;
    let (open, shut, unknown) = (ShareId::from_random(1), ShareId::from_random(2), ShareId::from_random(3));
    scene.doors.open(open);
    let (of_open, of_shut) = (scene.canaries.send(open).unwrap(), scene.canaries.send(shut).unwrap());
    assert!(scene.is_silent("GET", &of_shut.path()).await, "its door is shut");
    for share in [open, shut, unknown] {
        assert!(scene.is_silent("GET", &format!("/{share}/canary/{}", "a".repeat(32))).await);
    }
    let path = of_open.path();
    drop(of_open);
    assert!(scene.is_silent("GET", &path).await, "the look is over");
}
