//! A state folder with many living shares in it, as a server that was killed leaves it; and how fast a store takes them.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use portcullis::clock::{Clock, SystemClock};
use portcullis::share::{CatalogPath, Event, FileIdentity, Limits, Policy, PolicyRequest, Share, ShareId, SharedFile};
use portcullis::store::audit::AuditEntry;
use portcullis::store::sqlite::SqliteStore;
use portcullis::store::{Save, Store};
use portcullis::token::random;

/// How many saves are sent at once.
const AT_ONCE: usize = 250;

/// Makes a store in `state` with so many open shares of `file` below `root`, all of which end at the same instant. Returns
/// when that is, in seconds of the wall clock.
pub(crate) fn fill(state: &Path, root: &Path, file: &str, count: usize, expires_in: Duration) -> f64 {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let store = SqliteStore::open(state).expect("a store");
        let now = SystemClock::starting_after(None).now();
        let limits = Limits {
            max_tunnel: Duration::from_secs(24 * 3600),
            stall_timeout: Duration::from_secs(300),
            grace_period: Duration::from_secs(3600),
        };
        let request = PolicyRequest { expires_in_seconds: Some(expires_in.as_secs()), ..PolicyRequest::default() };
        let policy = Policy::new(request, limits, now).expect("a policy");
        let file = SharedFile { path: CatalogPath::parse(file).expect("a path"), identity: identity(&root.join(file)) };
        let made: Vec<ShareId> = (0..count).map(|_| random::share_id()).collect();
        for some in made.chunks(AT_ONCE) {
            let saves = some.iter().map(|id| {
                let (mut share, mut facts) = Share::new(*id, random::token_id(), file.clone(), policy.clone(), None, now);
                facts.extend(share.on(Event::TunnelOpened, now).facts);
                store.save(Save { share: Arc::new(share), facts, at: now })
            });
            for saved in join_all(saves).await {
                saved.expect("it is saved");
            }
        }
        (now.wall.0 as f64) / 1e3 + expires_in.as_secs_f64()
    })
}

/// Saves shares of `file` below `root` as making them does, so many at once, into a store in `state`, for a while. Returns how many.
pub(crate) fn save_for(state: &Path, root: &Path, file: &str, at_once: usize, time: Duration) -> u64 {
    let store = SqliteStore::open(state).expect("a store");
    let now = SystemClock::starting_after(None).now();
    let limits = Limits { max_tunnel: time, stall_timeout: time, grace_period: time };
    let policy = Policy::new(PolicyRequest::default(), limits, now).expect("a policy");
    let file = SharedFile { path: CatalogPath::parse(file).expect("a path"), identity: identity(&root.join(file)) };
    let began = std::time::Instant::now();
    let caller = async || {
        let mut made = 0;
        while began.elapsed() < time {
            let id = random::share_id();
            let (mut share, mut facts) = Share::new(id, random::token_id(), file.clone(), policy.clone(), None, now);
            facts.extend(share.on(Event::TunnelOpened, now).facts);
            let [who, from, action] = ["owner token", "192.0.2.1", "share.create"].map(str::to_owned);
            let line = AuditEntry { at: now.wall, who, from, action, target: id.to_string(), detail: file.path.to_text() };
            store.save_with_line(Save { share: Arc::new(share), facts, at: now }, line).await.expect("it is saved");
            made += 1;
        }
        made
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async { join_all((0..at_once).map(|_| caller())).await }).into_iter().sum()
}

fn identity(path: &Path) -> FileIdentity {
    let of = std::fs::metadata(path).expect("the file is there");
    let nanos = |seconds: i64, nanos: i64| seconds * 1_000_000_000 + nanos;
    FileIdentity {
        device: of.dev(),
        inode: of.ino(),
        size_bytes: of.size(),
        modified_ns: nanos(of.mtime(), of.mtime_nsec()),
        changed_ns: nanos(of.ctime(), of.ctime_nsec()),
    }
}
