//! nginx sends the bytes, and everything about them is decided here.
//!
//! Recipients speak to nginx, and nginx asks us about each request. Who may have bytes is answered by the same code as where we send them
//! ourselves; only the answer is another: `X-Accel-Redirect` has nginx open the file and send it. From there on a `Guard` looks after the
//! request until what came of it is saved. Its connection is written down before the first byte leaves, so that a process that comes
//! after this one finds it again.
//!
//! * `front.rs`: what nginx says of a request, and the head that it gets. `stamp.rs`: what the request is called in the log.
//! * `guard.rs`: one request that nginx answers. `desk.rs`: all of them. `accounts.rs`: the log, line by line.
//! * `probe.rs`: looks whether nginx is as it should be. `site.rs`: the configuration that makes an nginx ours.

mod accounts;
mod desk;
mod front;
mod guard;
mod probe;
pub mod site;
mod stamp;

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use http::HeaderMap;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::accounts::{Accounts, Entry};
use self::desk::{Desk, Place};
pub(super) use self::front::{SILENCE, Via, understood_alike};
use self::guard::Guard;
pub use self::probe::{Probing, Standing};
use self::site::{SiteDigest, SiteKey};
use self::stamp::Stamp;
use super::exchange::{Fetch, TOO_MANY};
use super::{Entered, Found, Pass, RecipientSide, next_request_id};
use crate::meter::{Cookie, Ends, Request, Sighting, Sockets, reset_by_owner};
use crate::share::{Carried, Carrier, FileIdentity, ShareId};
use crate::token::{LogKey, TransferSecret, random};

/// How long a request of a limited transfer waits for the one before it to end: one that broke is noticed sooner.
const WAIT_FOR_OTHER: Duration = Duration::from_secs(1);
/// How often is looked meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How old what was seen of nginx may be for whoever asks how it stands.
const STANDING_FRESH_FOR: Duration = Duration::from_secs(2);
/// How soon it is tried again to end a connection.
const AGAIN: Duration = Duration::from_millis(500);
/// The field by which nginx proves that it is ours.
const PROOF: &str = "x-portcullis-nginx";
/// How often it is tried while the program stops.
const MAX_TRIES_AT_STOP: u32 = 10;
/// How long the way in to a share may take to open again for what nginx went on with: so long nobody can cut it.
const TAKE_OVER_WAIT: Duration = Duration::from_secs(15);
/// What nginx's processes are called.
const PROGRAM: &str = "nginx";
/// How many threads may look at files of requests that are taken over.
const MAX_LOOKING: usize = 16;

/// Returns the validator that nginx gives a file (`ngx_http_set_etag`).
pub(super) fn etag_of(identity: &FileIdentity) -> String {
    format!("\"{:x}-{:x}\"", identity.modified_ns.div_euclid(1_000_000_000), identity.size_bytes)
}

/// Counts a request in, where there is room, or will be in a moment: one that nginx has answered is counted until its line was read.
pub(super) async fn enter(pass: &Arc<Pass>) -> Option<Entered> {
    let entered = async {
        loop {
            match pass.enter() {
                Some(entered) => return entered,
                None => sleep(LOOK_EVERY).await,
            }
        }
    };
    timeout(WAIT_FOR_OTHER, entered).await.ok()
}

/// An nginx that sends the bytes.
pub struct Nginx {
    key: LogKey,
    site_key: SiteKey,
    site: RwLock<SiteDigest>,
    /// That one, and those that it should have had before in this process.
    good_sites: RwLock<Vec<SiteDigest>>,
    /// Where it listens for recipients.
    port: u16,
    /// The look whether all is as it should be that is under way, and what was found last.
    probe: probe::Current,
    standing: watch::Sender<Option<Standing>>,
    look_now: Notify,
    sockets: Sockets,
    desk: Arc<Desk>,
    guards: TaskTracker,
    /// Whether the log has been read to its end since the start.
    caught_up: watch::Sender<bool>,
    /// Whether the program stops.
    stopping: CancellationToken,
}

impl fmt::Debug for Nginx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nginx").field("site", &self.site()).field("desk", &self.desk).finish_non_exhaustive()
    }
}

/// A request that is about to be taken over.
struct Taken {
    share: ShareId,
    secret: TransferSecret,
    carried: Carried,
    /// `None` where there are too many.
    place: Option<Place>,
}

/// A request that is about to be handed over.
pub(super) struct Handover {
    place: Place,
    carrier: Carrier,
    is_part_of: Stamp,
}

impl Handover {
    /// Returns by what it will be answered.
    pub(super) fn carrier(&self, is_proxied: bool) -> Carrier {
        Carrier { is_proxied, ..self.carrier }
    }
}

impl Nginx {
    /// Makes one. Lines of its log are proven by `key`, its requests by `site_key`; `site` is the configuration that it should have, `port`
    /// where it listens for recipients.
    ///
    /// # Errors
    /// Where the kernel does not tell of other processes' connections, as a sentence.
    pub fn new(key: LogKey, site_key: SiteKey, site: SiteDigest, port: u16) -> io::Result<Self> {
        let (sockets, guards, caught_up) = (Sockets::open()?, TaskTracker::new(), watch::Sender::new(false));
        let (probe, standing) = (Mutex::new(None), watch::Sender::new(None));
        let look_now = Notify::new();
        let (site, good_sites, stopping) = (RwLock::new(site), RwLock::new(vec![site]), CancellationToken::new());
        let desk = Arc::default();
        Ok(Self { key, site_key, site, good_sites, port, probe, standing, look_now, sockets, desk, guards, caught_up, stopping })
    }

    /// Listens for the ends of connections, on a thread of its own, for as long as this lives. Where the kernel tells of none, a connection
    /// that ends between two looks counts for what was seen of it.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn hear_ends(self: &Arc<Self>) -> io::Result<()> {
        let (ends, desk) = (Ends::open()?, Arc::downgrade(&self.desk));
        let listen = move || {
            while let Some(desk) = desk.upgrade() {
                match ends.next() {
                    Ok(Some(ended)) => desk.connection_ended(ended),
                    Ok(None) => {}
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                        tracing::debug!(%error, "Heard of an end, and not of which")
                    }
                    Err(error) => return tracing::warn!(%error, "The ends of connections are not told any more"),
                }
            }
        };
        std::thread::Builder::new().name("socket-ends".to_owned()).spawn(listen).map(drop)
    }

    /// Says whether connections of other processes can be ended through the kernel.
    ///
    /// # Errors
    /// Why not.
    pub fn may_end_connections(&self) -> io::Result<()> {
        self.sockets.try_destroying()
    }

    /// Returns whether a request came through an nginx that has a configuration of ours.
    pub(super) fn sent(&self, headers: &HeaderMap) -> bool {
        self.configuration(headers).is_some()
    }

    /// Returns whether a request came through an nginx that has the configuration of now.
    fn runs_with_ours(&self, headers: &HeaderMap) -> bool {
        self.configuration(headers) == Some(self.site())
    }

    fn site(&self) -> SiteDigest {
        *self.site.read().expect("nobody panics while holding a digest")
    }

    /// Says that it should have another configuration from now on, which differs in bounds and in who is believed. Returns whether it is
    /// another. With one that it should have had before in this process it is served all the same: the folder and the log are the same.
    pub fn set_site(&self, site: SiteDigest) -> bool {
        let before = std::mem::replace(&mut *self.site.write().expect("nobody panics while holding a digest"), site);
        let mut good = self.good_sites.write().expect("nobody panics while holding digests");
        if !good.contains(&site) {
            good.push(site);
        }
        self.look_now.notify_one();
        before != site
    }

    /// Returns whether a request came through an nginx that sends what we mean: one with a configuration of another start may have another
    /// folder under the same names.
    fn sends_ours(&self, headers: &HeaderMap) -> bool {
        let good = self.good_sites.read().expect("nobody panics while holding digests");
        self.configuration(headers).is_some_and(|site| good.contains(&site))
    }

    fn configuration(&self, headers: &HeaderMap) -> Option<SiteDigest> {
        let mut proofs = headers.get_all(PROOF).iter();
        let (proof, another) = (proofs.next(), proofs.next());
        proof.filter(|_| another.is_none()).and_then(|proof| site::verify(proof.as_bytes(), &self.site_key))
    }

    /// Tells how nginx stands; nothing until it was looked at. What was seen a while ago is looked at again, and that is waited for so long.
    pub async fn standing(&self, most: Duration) -> Option<Standing> {
        let mut standing = self.standing.subscribe();
        let is_fresh = |seen: &Option<Standing>| seen.as_ref().is_some_and(|seen| seen.at.elapsed() < STANDING_FRESH_FOR);
        self.look_now.notify_one();
        let _ = timeout(most, standing.wait_for(is_fresh)).await;
        standing.borrow().clone()
    }

    /// Gets ready to hand a request over.
    ///
    /// # Errors
    /// Why it cannot be answered now, for the recipient.
    pub(super) async fn prepare(&self, headers: &HeaderMap, entered: &Entered) -> Result<Handover, &'static str> {
        const NOT_NOW: &str = "One moment, please.\n";
        let (pass, via) = (&entered.0, Via::read(headers).ok_or(NOT_NOW)?);
        if !self.sends_ours(headers) || via.local.port() != self.port {
            tracing::warn!(
                "nginx runs with an old configuration, so it is handed no file: print it by `portcullis nginx-config` and reload nginx"
            );
            return Err(NOT_NOW);
        }
        if via.is_pipelined {
            // What of the connection is the answer's could not be told.
            return Err("Please ask one thing after the other.\n");
        }
        if pass.pace.is_some() {
            // nginx limits each request by itself: only one of them at a time keeps to what all of them may have.
            let alone = async {
                while pass.requests() > 1 {
                    sleep(LOOK_EVERY).await;
                }
            };
            timeout(WAIT_FOR_OTHER, alone).await.map_err(|_| TOO_MANY)?;
        }
        let sighting = match self.sockets.look_steadily(via.local, via.peer) {
            Ok(Some(sighting)) => sighting,
            Ok(None) => {
                tracing::warn!(
                    "A connection that nginx told of is not seen here. If it is always so, nginx does not share this program's network \
                     namespace, and no file can be sent"
                );
                return Err(NOT_NOW);
            }
            Err(error) => {
                tracing::warn!(%error, "Could not look at a connection of nginx's");
                return Err(NOT_NOW);
            }
        };
        let name = u64::from_le_bytes(random::bytes());
        let carrier = Carrier {
            name,
            local: via.local,
            peer: via.peer,
            cookie: sighting.cookie.number(),
            begins_at: sighting.written(),
            is_proxied: true,
        };
        let place = self.desk.enter(name, sighting.cookie).ok_or(NOT_NOW)?;
        let is_part_of = Stamp { share: pass.share, transfer: pass.transfer, name };
        Ok(Handover { place, carrier, is_part_of })
    }

    /// Hands a request over, and looks after it from here on. Returns the head for nginx.
    pub(super) fn hand_over(
        self: Arc<Self>,
        handover: Handover,
        fetch: Fetch,
        is_proxied: bool,
        side: Arc<RecipientSide>,
        threads: Arc<Semaphore>,
    ) -> Vec<u8> {
        let carrier = handover.carrier(is_proxied);
        let Handover { place, is_part_of, .. } = handover;
        let Fetch { head, file, entered, request, range } = fetch;
        let pass = &entered.0;
        let redirect = front::redirect(&pass.file.path, head.starts_with(b"HTTP/1.1 206"));
        let mut fields = format!("X-Accel-Redirect: {redirect}\r\nX-Portcullis-Request: {}\r\n", is_part_of.text(&self.key));
        if let Some(limit) = pass.policy.max_bytes_per_second {
            fields += &format!("X-Accel-Limit-Rate: {limit}\r\n");
        }
        let answer = front::handed_over(&head, &fields);
        let guards = self.guards.clone();
        guards.spawn(Guard { side, nginx: self, threads, place, entered, request, range, carrier, file, is_taken_over: false }.run());
        answer
    }

    /// Goes on with what nginx was answering when an earlier process of ours ended. When this comes back there is somebody for each line.
    pub fn take_over(self: &Arc<Self>, side: &Arc<RecipientSide>, carried: Vec<(ShareId, TransferSecret, Carried)>) {
        let threads = Arc::new(Semaphore::new(MAX_LOOKING));
        for (share, secret, carried) in carried {
            let place = self.desk.enter(carried.carrier.name, Cookie::from_number(carried.carrier.cookie));
            let over = Taken { share, secret, carried, place };
            self.guards.spawn(self.clone().take_over_one(side.clone(), threads.clone(), over));
        }
    }

    /// Goes on with a request that nginx was answering when an earlier process of ours ended; it is ended where it may not go on.
    async fn take_over_one(self: Arc<Self>, side: Arc<RecipientSide>, threads: Arc<Semaphore>, taken: Taken) {
        let Taken { share, secret, carried: Carried { transfer, range, carrier }, place } = taken;
        let goes_on = async {
            let pass = self.pass_of(&side, &secret).await?;
            let (place, entered) = (place?, pass.enter()?);
            let opened = tokio::select! {
                opened = side.open_pinned(&pass) => opened,
                () = pass.cut.cancelled() => return None,
            };
            let file = match opened {
                Ok(Some(file)) => file,
                Ok(None) => {
                    side.reports.source_changed(share).await;
                    return None;
                }
                Err(error) => {
                    tracing::warn!(share.id = %share, %error, "Could not open a shared file");
                    return None;
                }
            };
            let request = Request { share, transfer, id: next_request_id() };
            let is_counted = !pass.is_complete();
            if is_counted {
                side.reports.open_carried(request, range, Some(carrier)).await?.ok()?;
            }
            let request = is_counted.then_some(request);
            let (side, nginx) = (side.clone(), self.clone());
            Some(Guard { side, nginx, threads, place, entered, request, range, carrier, file, is_taken_over: true })
        };
        match goes_on.await {
            Some(guard) => guard.run().await,
            None => self.end(share, &carrier, |_| {}).await,
        }
    }

    /// Waits a while for a share's way in to be open again; `None` where it is over, or stays shut.
    async fn pass_of(&self, side: &RecipientSide, secret: &TransferSecret) -> Option<Arc<Pass>> {
        let found = async {
            loop {
                match side.passes.find(secret) {
                    Some(Found::Valid(pass)) => return Some(pass),
                    Some(Found::Over(..)) => return None,
                    None => sleep(AGAIN).await,
                }
            }
        };
        tokio::select! {
            found = timeout(TAKE_OVER_WAIT, found) => found.ok().flatten(),
            () = self.stopping.cancelled() => None,
        }
    }

    /// Ends a connection, however long that takes: while it goes on a door is open. Only a stop does not wait for what cannot be done. `seen`
    /// is told how it looks before.
    async fn end(&self, share: ShareId, carrier: &Carrier, mut seen: impl FnMut(&Sighting)) {
        let (mut is_told, mut tries_at_stop) = (false, 0);
        while tries_at_stop < MAX_TRIES_AT_STOP {
            tries_at_stop += u32::from(self.stopping.is_cancelled());
            let ended = match self.sight(carrier) {
                Ok(None) => return,
                Ok(Some(sighting)) => {
                    seen(&sighting);
                    self.end_once(carrier, &sighting).await
                }
                Err(error) => Err(error.to_string()),
            };
            match ended {
                Ok(()) => return,
                Err(why) if !is_told => {
                    tracing::error!(share.id = %share, "Could not end a download that nginx sends: {why}");
                    is_told = true;
                }
                Err(_) => {}
            }
            sleep(AGAIN).await;
        }
    }

    async fn end_once(&self, carrier: &Carrier, sighting: &Sighting) -> Result<(), String> {
        let refused = match self.sockets.destroy(carrier.local, carrier.peer, sighting.cookie) {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        let inode = sighting.inode;
        match tokio::task::spawn_blocking(move || reset_by_owner(inode, PROGRAM)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(format!("{refused}; and {error}")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Looks at a connection; `None` where it is no more.
    fn sight(&self, carrier: &Carrier) -> io::Result<Option<Sighting>> {
        let sighting = self.sockets.look(carrier.local, carrier.peer)?;
        Ok(sighting.filter(|sighting| sighting.cookie == Cookie::from_number(carrier.cookie)))
    }

    /// Comes back when no request is looked after any more.
    pub(super) async fn ended(&self) {
        self.stopping.cancel();
        self.guards.close();
        self.guards.wait().await;
    }

    /// Comes back when the log has been read to its end.
    async fn caught_up(&self) {
        // Its sender lives as long as this.
        let _ = self.caught_up.subscribe().wait_for(|is| *is).await;
    }
}
