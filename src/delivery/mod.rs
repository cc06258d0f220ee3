//! Who moves the bytes: the recipient listener, its own HTTP/1.1 loop, and `sendfile(2)`.
//!
//! One loop owns a socket for its whole life. It parses the head; a request for a transfer's bytes it answers itself, out
//! of the page cache and past user space; every other request goes to a router that makes small pages. What it may send
//! stands in [`Passes`], which the controller writes: a request that holds no pass gets no byte.
//!
//! * `accept.rs`: the listener and its caps. `arrival.rs`: how connections come in, `proxy.rs` for whom a tunnel carries them.
//!   `sealed.rs`: TLS, with one of `certificates.rs`. `h1.rs`: one connection. `head.rs`: one head, strictly.
//! * `exchange.rs`: what a request is answered with, however it came. `answer.rs`: which bytes a request gets, and the head of the answer. `range.rs`: `Range` and `If-Range`. `prefix.rs`: a path before all of ours.
//! * `nginx.rs`: has nginx send them instead, and looks after what it sends.
//! * `send.rs`: the bytes themselves. `burst.rs`: what leaves of them at a time. `stream.rs`: what arrived. `pace.rs`: how fast they may leave. `socket.rs`: what the kernel offers beyond tokio.

mod accept;
mod answer;
mod arrival;
mod burst;
mod certificates;
mod exchange;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod h1;
mod h2;
mod head;
pub mod nginx;
mod pace;
mod prefix;
mod proxy;
mod range;
mod sealed;
mod send;
mod socket;
mod stream;
mod wire;

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub use accept::listen;
pub use arrival::Arrival;
#[cfg(test)]
pub(crate) use certificates::tests::Authority;
pub use certificates::{BadCertificate, CertificateFacts, Certificates};
pub use exchange::{Live, NoBytes, SendBytes, Silence, Streamed};
pub use prefix::Prefix;

use self::pace::Pace;
use crate::catalog::{Catalog, OpenFile};
use crate::clock::Clock;
use crate::meter::Reports;
use crate::metrics::Metrics;
use crate::share::{ControllerNumber, Policy, RequestId, Share, ShareId, SharedFile, Steady, TransferId};
use crate::token::TransferSecret;
use crate::tunnel::Doors;

/// How many threads may send bytes of one share at once; they wait for its disk. The others wait their turn.
const MAX_SENDING_PER_SHARE: usize = 8;
/// How many requests of one transfer may be answered at once; download managers use up to 16.
const MAX_REQUESTS_PER_PASS: usize = 32;
/// How many requests at once ask the store about a share that is not known here; the others are met as what nobody knows. Whoever has
/// no link can ask, too, and must cost it little.
const MAX_CATCHING_UP: usize = 32;
static CATCHING_UP: Semaphore = Semaphore::const_new(MAX_CATCHING_UP);
/// How long a recipient waits for that.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(2);
/// How many transfers that are over are remembered, so that whoever comes back reads why. Anything older gets no answer.
const MAX_OVER: usize = 4096;

/// What lets requests of one transfer fetch.
#[derive(Debug)]
pub struct Pass {
    /// Of which share.
    pub share: ShareId,
    /// Which transfer.
    pub transfer: TransferId,
    /// What they may fetch: this state of this file and no other.
    pub file: SharedFile,
    /// The strong validator of its bytes, with its quotes.
    pub etag: String,
    /// The rules of its share: who may fetch.
    pub policy: Policy,
    /// Cancelled when no further byte may leave.
    pub cut: CancellationToken,
    /// The header fields that every answer about the file has.
    fields: String,
    /// Until when it may be fetched again, once every byte has arrived; that is not counted.
    grace_end: OnceLock<Steady>,
    digest: RwLock<Option<[u8; 32]>>,
    requests: AtomicUsize,
    /// What limits its speed, over all its requests.
    pace: Option<Arc<Pace>>,
    sending: Arc<Semaphore>,
    /// The file while any request has it open: requests that run at once share a descriptor.
    open: Mutex<Weak<OpenFile>>,
}

impl Pass {
    /// Makes a pass; `sending` bounds the threads that its share's passes use together.
    pub fn new(share: &Share, transfer: TransferId, etag: String, sending: Arc<Semaphore>) -> Self {
        Self {
            fields: answer::fields_of(&share.file, &etag),
            share: share.id,
            transfer,
            file: share.file.clone(),
            etag,
            policy: share.policy.clone(),
            pace: share.policy.max_bytes_per_second.map(|limit| Arc::new(Pace::new(limit))),
            cut: CancellationToken::new(),
            grace_end: OnceLock::new(),
            digest: RwLock::new(None),
            requests: AtomicUsize::new(0),
            sending,
            open: Mutex::new(Weak::new()),
        }
    }

    /// Makes what bounds the threads of one share.
    pub fn sending() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(MAX_SENDING_PER_SHARE))
    }

    /// Says that every byte has arrived, and until when they may be fetched again.
    pub fn set_complete(&self, grace_end: Steady) {
        // It is the same each time.
        let _ = self.grace_end.set(grace_end);
    }

    /// Says what the file's SHA-256 is.
    pub fn set_digest(&self, sha256: [u8; 32]) {
        *self.digest.write().expect("nobody panics while holding a digest") = Some(sha256);
    }

    /// Returns how many requests are being answered.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Acquire)
    }

    fn is_complete(&self) -> bool {
        self.grace_end.get().is_some()
    }

    /// Returns whether every byte has arrived and nobody may fetch again: the share may stay open for others.
    fn is_over(&self, now: Steady) -> bool {
        self.grace_end.get().is_some_and(|end| now >= *end)
    }

    fn digest(&self) -> Option<[u8; 32]> {
        *self.digest.read().expect("nobody panics while holding a digest")
    }

    /// Counts a request in, where there is room.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Entered> {
        let room = |n: usize| (n < MAX_REQUESTS_PER_PASS).then_some(n + 1);
        self.requests.fetch_update(Ordering::AcqRel, Ordering::Acquire, room).ok()?;
        Some(Entered(self.clone(), true))
    }
}

/// A request that a pass counts until this is dropped; or a part of one, which it does not.
#[derive(Debug)]
pub(crate) struct Entered(Arc<Pass>, bool);

impl Drop for Entered {
    fn drop(&mut self) {
        if self.1 {
            self.0.requests.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// Every pass there is, by the secret in the transfer's URL. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Passes {
    table: Arc<RwLock<Table>>,
    is_for_nginx: bool,
}

#[derive(Debug, Default)]
struct Table {
    valid: HashMap<TransferSecret, Arc<Pass>>,
    /// How many requests of each share another process answers, and what is cancelled when they are to end.
    elsewhere: HashMap<ShareId, (usize, CancellationToken)>,
    over: HashMap<TransferSecret, (ShareId, TransferId)>,
    oldest_over: VecDeque<TransferSecret>,
}

/// What stands behind the secret in a URL.
#[derive(Debug, Clone)]
pub enum Found {
    /// A pass.
    Valid(Arc<Pass>),
    /// A transfer that is over.
    Over(ShareId, TransferId),
}

impl Passes {
    /// Makes those of files that nginx sends.
    pub fn for_nginx() -> Self {
        Self { is_for_nginx: true, ..Self::default() }
    }

    /// Returns the validator that a file has, where that is not ours to choose.
    pub fn etag_of(&self, file: &SharedFile) -> Option<String> {
        self.is_for_nginx.then(|| nginx::etag_of(&file.identity))
    }

    /// Lets a transfer fetch.
    pub fn insert(&self, secret: TransferSecret, pass: Arc<Pass>) {
        let mut table = self.table.write().expect("nobody panics while holding the passes");
        table.over.remove(&secret);
        table.valid.insert(secret, pass);
    }

    /// Lets a transfer fetch no more, and cuts what is in flight.
    pub fn remove(&self, secret: TransferSecret) {
        let mut table = self.table.write().expect("nobody panics while holding the passes");
        let Some(pass) = table.valid.remove(&secret) else { return };
        if table.over.insert(secret, (pass.share, pass.transfer)).is_none() {
            table.oldest_over.push_back(secret);
        }
        if table.oldest_over.len() > MAX_OVER
            && let Some(oldest) = table.oldest_over.pop_front()
        {
            table.over.remove(&oldest);
        }
        drop(table);
        pass.cut.cancel();
    }

    /// Returns what a secret stands for.
    pub fn find(&self, secret: &TransferSecret) -> Option<Found> {
        let table = self.table.read().expect("nobody panics while holding the passes");
        if let Some(pass) = table.valid.get(secret) {
            return Some(Found::Valid(pass.clone()));
        }
        table.over.get(secret).map(|(share, transfer)| Found::Over(*share, *transfer))
    }

    /// Says that another process sends bytes of a share, until what comes back is dropped.
    pub(crate) fn send_elsewhere(&self, share: ShareId) -> Elsewhere {
        let mut table = self.table.write().expect("nobody panics while holding the passes");
        let (requests, cut) = table.elsewhere.entry(share).or_default();
        *requests += 1;
        Elsewhere { cut: cut.clone(), passes: self.clone(), share }
    }

    /// Says that what another process sends of a share is to end, also where the share's passes are gone or were not there yet.
    pub(crate) fn cut_elsewhere(&self, share: ShareId) {
        if let Some((_, cut)) = self.table.read().expect("nobody panics while holding the passes").elsewhere.get(&share) {
            cut.cancel();
        }
    }

    /// Returns whether another process may be sending bytes of a share. It can do so when the share's passes are long gone.
    pub(crate) fn are_sent_elsewhere(&self, share: ShareId) -> bool {
        self.table.read().expect("nobody panics while holding the passes").elsewhere.contains_key(&share)
    }

    /// Returns how many requests for bytes run.
    pub fn requests(&self) -> usize {
        self.table.read().expect("nobody panics while holding the passes").valid.values().map(|pass| pass.requests()).sum()
    }
}

/// Another process sends bytes of a share, until this is dropped: its connection is over, or sends nothing more of it.
#[derive(Debug)]
pub(crate) struct Elsewhere {
    passes: Passes,
    share: ShareId,
    /// Cancelled when it is to end.
    pub(crate) cut: CancellationToken,
}

impl Elsewhere {
    /// It is so until this process ends.
    pub(crate) fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let mut table = self.passes.table.write().expect("nobody panics while holding the passes");
        if let Some((requests, _)) = table.elsewhere.get_mut(&self.share) {
            *requests -= 1;
            if *requests == 0 {
                table.elsewhere.remove(&self.share);
            }
        }
    }
}

/// How much the recipient side takes on.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The most connections at once.
    pub connections: usize,
    /// The most connections of one address (of one /64 network where it is IPv6). Trusted proxies have no such bound.
    pub connections_per_address: usize,
}

/// Everything the recipient side answers with.
pub struct RecipientSide {
    /// What may be fetched.
    pub passes: Passes,
    /// Which shares are answered for.
    pub doors: Doors,
    /// Where is told what became of the bytes.
    pub reports: Reports,
    /// Where is counted who is here.
    pub metrics: Metrics,
    /// Where the files are.
    pub catalog: Arc<Catalog>,
    /// Makes the pages: the link's and the redeem's. It answers with [`Silence`] where it has nothing to say.
    pub pages: axum::Router,
    /// Tells the date.
    pub clock: Arc<dyn Clock>,
    /// How much it takes on; it may change.
    pub bounds: watch::Receiver<Bounds>,
    /// Whether an address is a proxy of ours, whose word about the recipient's address is taken.
    pub is_trusted_proxy: Box<dyn Fn(IpAddr) -> bool + Send + Sync>,
    /// The path below which links stand, where they do: proxies leave it in what they ask us, or take it off.
    pub prefix: Prefix,
    /// The nginx that sends the bytes, where one does.
    pub nginx: Option<Arc<nginx::Nginx>>,
    /// The number of this controller, where others share its store.
    pub controller: ControllerNumber,
    /// Asks how a share stands that others decide about, too, where any do.
    pub catch_up: Option<CatchUp>,
}

/// Makes what is known here of a share as new as what the store says, and then comes back.
pub type CatchUp = Box<dyn Fn(ShareId) -> BoxFuture<'static, ()> + Send + Sync>;

/// Who is on the other side of a request, as far as it can be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The recipient's address; where a trusted proxy stands between us, what it says. `None` where it does not say.
    pub address: Option<IpAddr>,
    /// Whether a proxy stands between us: it takes bytes before the recipient does.
    pub is_proxied: bool,
}

impl RecipientSide {
    /// Numbers a request: counted up over the whole process, and told from those of the other controllers.
    fn next_request_id(&self) -> RequestId {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let count = NEXT.fetch_add(1, Ordering::Relaxed);
        if self.controller == ControllerNumber::ALONE {
            return RequestId(count);
        }
        RequestId::among(self.controller, self.clock.now().steady, count)
    }

    /// Hears what another controller has decided about a share, where what is asked for is not known here: whoever redeems a link at
    /// one may be at the next before that is told.
    async fn catch_up(&self, share: ShareId, secret: &TransferSecret) {
        let is_known = || match self.passes.find(secret) {
            Some(Found::Valid(pass)) => self.doors.is_open(pass.share),
            Some(Found::Over(..)) => true,
            None => false,
        };
        let Some(catch_up) = &self.catch_up else { return };
        if !is_known()
            && let Ok(_turn) = CATCHING_UP.try_acquire()
        {
            // What is not known then is met as what nobody knows.
            let _ = timeout(CATCH_UP_WITHIN, catch_up(share)).await;
        }
    }
}

#[cfg(test)]
mod tests;
