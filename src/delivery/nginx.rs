//! nginx sends the bytes, and everything about them is decided here.
//!
//! Recipients speak to nginx, and nginx asks us about each request. Who may have bytes is answered by the same code as where we send them
//! ourselves; only the answer is another: `X-Accel-Redirect` has nginx open the file and send it. From there on a `Guard` looks after the
//! request until what came of it is saved. Its connection is written down before the first byte leaves, so that a process that comes
//! after this one finds it again.
//!
//! * `front.rs`: what nginx says of a request, and the head that it gets. `stamp.rs`: what the request is called in the log.
//! * `guard.rs`: one request that nginx answers. `relay.rs`: one that we answer through it, `slices.rs`: in slices.
//!   `desk.rs`: all of them. `left_over.rs`: those that an earlier process began. `connections.rs`: how a connection is seen and ended.
//!   `accounts.rs`: the log, line by line; `source.rs`: where its lines come from, and what each says.
//! * `probe.rs`: looks whether nginx is as it should be. `site.rs`: the configuration that makes an nginx ours.

mod accounts;
mod connections;
mod desk;
mod front;
mod guard;
mod left_over;
mod probe;
mod relay;
pub mod site;
mod slices;
mod source;
mod stamp;

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use http::HeaderMap;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

pub use self::accounts::Accounts;
use self::connections::Connections;
use self::desk::{Desk, Place};
pub(super) use self::front::{SILENCE, Via, understood_alike};
use self::guard::Guard;
pub use self::left_over::{LeftOver, end_left_over};
pub use self::probe::{PASSES_ON, Probing, Standing};
pub(super) use self::relay::{MAX_IN_NGINX, Relay, Sent};
use self::site::{SiteDigest, SiteKey};
use self::slices::{MAX_SLICED_BYTES, SLICE_BYTES, Slices};
pub use self::source::{AccessLog, Entry, Source};
use self::stamp::Stamp;
use super::exchange::{Exchange, Fetch, Reply, TOO_MANY};
use super::{Entered, Pass};
use crate::causes::Causes;
use crate::meter::{Cookie, Ends, Request};
use crate::share::{Carrier, FileIdentity};
use crate::token::{LogKey, random};

/// How long a request of a limited transfer waits for the one before it to end: one that broke is noticed sooner.
const WAIT_FOR_OTHER: Duration = Duration::from_secs(1);
/// How often is looked meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How old what was seen of nginx may be for whoever asks how it stands.
const STANDING_FRESH_FOR: Duration = Duration::from_secs(2);
/// The field by which nginx proves that it is ours.
const PROOF: &str = "x-portcullis-nginx";
/// What no connection is called.
const NO_COOKIE: Cookie = Cookie::from_number(u64::MAX);
/// What nginx's processes are called.
const PROGRAM: &str = "nginx";

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
    connections: Connections,
    desk: Arc<Desk>,
    slices: Slices,
    guards: TaskTracker,
    /// Whether the log has been read to its end since the start.
    caught_up: watch::Sender<bool>,
}

impl fmt::Debug for Nginx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nginx").field("site", &self.site()).field("desk", &self.desk).finish_non_exhaustive()
    }
}

/// A request that is about to be handed over, or passed on.
pub(super) struct Handover {
    place: Place,
    /// Which connection it is, where that is seen here.
    carrier: Option<Carrier>,
    is_part_of: Stamp,
    /// Whether nginx, asked in the same words, means the same bytes.
    is_alike: bool,
}

impl Handover {
    /// Returns by what it will be answered, where that goes on without this process.
    pub(super) fn carrier(&self, is_proxied: bool) -> Option<Carrier> {
        self.carrier.map(|carrier| Carrier { is_proxied, ..carrier })
    }
}

impl Nginx {
    /// Makes one. Lines of its log are proven by `key`, its requests by `site_key`; `site` is the configuration that it should have, `port`
    /// where it listens for recipients.
    ///
    /// # Errors
    /// Where the kernel does not tell of other processes' connections, as a sentence.
    pub fn new(key: LogKey, site_key: SiteKey, site: SiteDigest, port: u16) -> io::Result<Self> {
        let (connections, guards, caught_up) = (Connections::open()?, TaskTracker::new(), watch::Sender::new(false));
        let (probe, standing) = (Mutex::new(None), watch::Sender::new(None));
        let look_now = Notify::new();
        let (site, good_sites) = (RwLock::new(site), RwLock::new(vec![site]));
        let (desk, slices) = (Arc::default(), Slices::default());
        Ok(Self { key, site_key, site, good_sites, port, probe, standing, look_now, connections, desk, slices, guards, caught_up })
    }

    /// Listens for the ends of connections, on a thread of its own, for as long as this lives. Where the kernel tells of none, a connection
    /// that ends between two looks counts for what was seen of it.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn hear_ends(self: &Arc<Self>) -> io::Result<()> {
        let (ends, desk) = (Ends::open(self.port)?, Arc::downgrade(&self.desk));
        let listen = move || {
            while let Some(desk) = desk.upgrade() {
                match ends.next() {
                    Ok(Some(ended)) => desk.connection_ended(ended),
                    Ok(None) => {}
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                        tracing::debug!(error = %Causes(&error), "Heard of an end, and not of which")
                    }
                    Err(error) => return tracing::warn!(error = %Causes(&error), "The ends of connections are not told any more"),
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
        self.connections.sockets.try_destroying()
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
    pub(super) async fn prepare(&self, headers: &HeaderMap, is_alike: bool, entered: &Entered) -> Result<Handover, &'static str> {
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
        let seen = || {
            self.connections.sockets.look_steadily(via.local, via.peer).map_err(|error| {
                tracing::warn!(error = %Causes(&error), "Could not look at a connection of nginx's");
                NOT_NOW
            })
        };
        // The byte of a self-test lies in our memory, where nginx cannot find it: we send it, and nginx passes it on.
        let sighting = if pass.file.is_self_test() { None } else { seen()? };
        if pass.pace.is_some() && sighting.is_some() {
            // nginx limits each request by itself: only one of them at a time keeps to what all of them may have.
            let alone = async {
                while pass.requests() > 1 {
                    sleep(LOOK_EVERY).await;
                }
            };
            timeout(WAIT_FOR_OTHER, alone).await.map_err(|_| TOO_MANY)?;
        }
        let name = u64::from_le_bytes(random::bytes());
        let cookie = sighting.as_ref().map_or(NO_COOKIE, |sighting| sighting.cookie);
        let carrier = sighting.map(|sighting| Carrier {
            name,
            local: via.local,
            peer: via.peer,
            cookie: sighting.cookie.number(),
            begins_at: sighting.written(),
            is_proxied: true,
        });
        let place = self.desk.enter(name, cookie).ok_or(NOT_NOW)?;
        let is_part_of = Stamp { share: pass.share, transfer: pass.transfer, name };
        Ok(Handover { place, carrier, is_part_of, is_alike })
    }

    /// Has nginx send the bytes, and looks after that from here on: what comes back is the head for nginx. Where its connection is not seen
    /// here we send them ourselves, for nginx to pass on.
    pub(super) fn hand_over(
        self: Arc<Self>,
        handover: Handover,
        request: Request,
        fetch: Fetch,
        exchange: &Exchange,
        is_proxied: bool,
    ) -> Reply {
        let carrier = handover.carrier(is_proxied);
        let Handover { place, is_part_of, is_alike, .. } = handover;
        let Some(carrier) = carrier else {
            self.slices.asked_elsewhere(fetch.entered.0.transfer, fetch.range.start);
            if is_alike && (SLICE_BYTES..MAX_SLICED_BYTES).contains(&fetch.range.len()) {
                return self.begin_slices(is_part_of, place, request, fetch, exchange.side.clone());
            }
            let (head, relay) = (front::with(fetch.head, &self.named(&is_part_of)), Some(Box::new(Relay::Whole(place))));
            return Reply::Bytes(Box::new(Fetch { head, relay, ..fetch }));
        };
        let Fetch { head, file, entered, request: counted, range, .. } = fetch;
        let pass = &entered.0;
        let redirect = front::redirect(&pass.file.path, head.starts_with(b"HTTP/1.1 206"));
        let mut fields = format!("X-Accel-Redirect: {redirect}\r\n{}", self.named(&is_part_of));
        if let Some(limit) = pass.policy.max_bytes_per_second {
            fields += &format!("X-Accel-Limit-Rate: {limit}\r\n");
        }
        let answer = front::handed_over(&head, &fields);
        let (side, threads) = (exchange.side.clone(), exchange.threads.clone());
        let (guards, is_counted) = (self.guards.clone(), counted.is_some());
        let elsewhere = Some(side.passes.send_elsewhere(pass.share));
        guards.spawn(
            Guard {
                side,
                nginx: self,
                threads,
                place,
                entered,
                request,
                is_counted,
                range,
                carrier,
                file,
                is_taken_over: false,
                elsewhere,
            }
            .run(),
        );
        Reply::Whole(answer)
    }

    /// Returns the field by which a request is called in the log, with the line's end.
    fn named(&self, stamp: &Stamp) -> String {
        format!("X-Portcullis-Request: {}\r\n", stamp.text(&self.key))
    }

    /// Comes back when no request is looked after any more.
    pub(super) async fn ended(&self) {
        self.connections.stopping.cancel();
        self.guards.close();
        self.guards.wait().await;
    }

    /// Comes back when the log has been read to its end.
    async fn caught_up(&self) {
        // Its sender lives as long as this.
        let _ = self.caught_up.subscribe().wait_for(|is| *is).await;
    }
}
