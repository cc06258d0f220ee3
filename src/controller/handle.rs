//! What the others may ask of the controller.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::intents::{Intent, Intents};
use super::slot::Answer;
use super::{Change, ControllerError, MAX_LIVING, MAX_MESSAGE_BYTES, MAX_NOTE_BYTES, NewShare, Parts, Sharers, View};
use crate::catalog::{Catalog, CatalogError, Digests};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::share::{
    CatalogPath, Event, Fact, Limits, Looker, Moment, Outcome, Policy, PolicyRequest, Reach, Recipient, Refused, Share, ShareId,
    SharedFile, State, TokenId, Transfer, TransferId,
};
use crate::store::audit::AuditEntry;
use crate::store::{ShareQuery, Store, StoreError};
use crate::token::{Keys, TransferSecret, random};
use crate::tunnel::{PublicUrl, Tunnel};

/// How many commands may wait. An owner's script that makes a thousand shares at once gets in; a flood is told to wait.
const MAX_WAITING: usize = 2048;
/// How many looks at links wait to be counted. Past that they are not: a flood of them must cost the public side nothing.
const MAX_LOOKS_WAITING: usize = 1024;
/// How many shares are closed at once where all are: as many as the store writes with one flush.
const CLOSE_AT_ONCE: usize = 256;
/// How many changes a reader may fall behind.
const MAX_BEHIND: usize = 1024;
/// How long making a share waits for its way in before it answers `opening`.
const WAIT_FOR_OPEN: Duration = Duration::from_secs(10);
/// How long taking a close back waits for the door to be shut, which is in milliseconds where the backend is well.
const WAIT_FOR_SHUT: Duration = Duration::from_secs(10);
/// How often something is asked of a share that was closed and is opened again at the same moment, by its owner's hand.
const MAX_ASKED: usize = 3;
/// How long a client that comes back waits for its own broken connection to be noticed: a reset is in milliseconds.
const WAIT_FOR_BREAK: Duration = Duration::from_secs(1);
/// How often is looked, where something is waited for that comes in milliseconds.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// The longest name of a client that is kept.
const MAX_AGENT_BYTES: usize = 256;
/// What a name may not hold where it stands in a link; the rest is percent-encoded.
const NOT_IN_LINK: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Speaks to the controller. Cheap to clone.
#[derive(Clone)]
pub struct Handle(pub(super) Arc<Shared>);

/// What is asked of the task.
pub(super) enum Command {
    Create {
        share: Box<Share>,
        facts: Vec<Fact>,
        /// Who makes it, for the audit log; saved together with the share.
        line: Option<AuditEntry>,
        /// Says that it is wanted no more.
        taken_back: CancellationToken,
        answer: Answer,
    },
    Act {
        id: ShareId,
        event: Event,
        answer: Answer,
    },
    TakeUp {
        share: Box<Share>,
        event: Event,
        /// Says that it is wanted no more.
        taken_back: CancellationToken,
        answer: Answer,
    },
    /// Asks which shares are not closed, those too that are being made or opened again and that nobody has heard of yet.
    NotClosed(oneshot::Sender<Vec<ShareId>>),
    /// Asks that a share be looked up in the store, where others write it, too.
    LookUp(ShareId, oneshot::Sender<()>),
    /// Asks for a sign of life.
    Ping(oneshot::Sender<()>),
}

/// Somebody looked at the page of a link of a share.
pub(super) type Look = (ShareId, TokenId, Looker);

/// What the task and its handles share.
pub(super) struct Shared {
    commands: mpsc::Sender<Command>,
    looks: mpsc::Sender<Look>,
    changes: broadcast::Sender<Change>,
    living: RwLock<HashMap<ShareId, Arc<View>>>,
    /// The closed shares whose door answered when somebody last looked from outside.
    still_open: RwLock<HashSet<ShareId>>,
    /// Who shares the store, where anybody does and was heard.
    pub(super) sharers: RwLock<Option<Sharers>>,
    /// What was asked for and would open a door.
    pub(super) intents: Arc<Intents>,
    /// Says that the program stops: nothing is begun any more.
    stopping: CancellationToken,
    store: Arc<dyn Store>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) digests: Arc<Digests>,
    pub(super) tunnel: Arc<dyn Tunnel>,
    clock: Arc<dyn Clock>,
    keys: Keys,
    limits: RwLock<Limits>,
    /// How long transfers may go on once the program stops.
    drain: RwLock<Duration>,
    metrics: Metrics,
}

impl Shared {
    pub(super) fn new(parts: &Parts) -> (Self, mpsc::Receiver<Command>, mpsc::Receiver<Look>) {
        let (commands, receiver) = mpsc::channel(MAX_WAITING);
        let (looks, looked) = mpsc::channel(MAX_LOOKS_WAITING);
        let shared = Self {
            commands,
            looks,
            changes: broadcast::channel(MAX_BEHIND).0,
            living: RwLock::new(HashMap::new()),
            still_open: RwLock::default(),
            sharers: RwLock::default(),
            intents: Arc::default(),
            stopping: CancellationToken::new(),
            store: parts.store.clone(),
            catalog: parts.catalog.clone(),
            digests: parts.digests.clone(),
            tunnel: parts.tunnel.clone(),
            clock: parts.clock.clone(),
            keys: parts.keys.clone(),
            limits: RwLock::new(parts.limits),
            drain: RwLock::new(parts.drain),
            metrics: parts.metrics.clone(),
        };
        (shared, receiver, looked)
    }

    pub(super) fn put(&self, view: Arc<View>) {
        self.living.write().expect("nobody panics while holding the views").insert(view.share.id, view);
    }

    pub(super) fn remove(&self, id: ShareId) {
        self.living.write().expect("nobody panics while holding the views").remove(&id);
    }

    pub(super) fn tell(&self, change: Change) {
        // Nobody may be listening.
        let _ = self.changes.send(change);
    }

    pub(super) fn stop(&self) {
        self.stopping.cancel();
    }

    /// Returns a share's link. It is made anew each time: the store holds nothing that anybody could use.
    pub(super) fn link(&self, share: &Share) -> String {
        let token = self.keys.mint(share.id, share.link, share.created.wall, share.minted_expiry);
        let base = share.reached_at.as_deref().map_or_else(|| self.tunnel.public_url(share.id), PublicUrl::new);
        base.at(&format!("/{}/{token}/{}", share.id, name_in_link(share)))
    }

    /// Returns the view of a share that is not among the living.
    pub(super) fn view_of_share(&self, share: Arc<Share>, now: Moment) -> View {
        View {
            state: share.state(now),
            url: None,
            tunnel: self.tunnel.backend(),
            bytes_per_second: 0,
            eta: None,
            sha256: self.digests.known(share.file.identity),
            tunnel_problem: None,
            until: None,
            is_watched_here: true,
            speeds: HashMap::new(),
            share,
        }
    }

    async fn ask(&self, command: impl FnOnce(Answer) -> Command) -> Result<Arc<View>, ControllerError> {
        let (reply, answer) = oneshot::channel();
        self.commands.try_send(command(Answer::View(reply))).map_err(|_| ControllerError::Busy)?;
        answer.await.map_err(|_| ControllerError::Busy)?
    }

    pub(super) fn drain(&self) -> Duration {
        *self.drain.read().expect("nobody panics while holding the limits")
    }

    async fn pin(&self, path: &CatalogPath) -> Result<SharedFile, ControllerError> {
        if path.is_self_test() {
            // It is no owner's file.
            return Err(CatalogError::NotFound { path: path.clone() }.into());
        }
        let identity = self.catalog.open(path).await?.identity;
        self.digests.want(path, identity);
        Ok(SharedFile { path: path.clone(), identity })
    }
}

impl Handle {
    /// Makes a share. Answers when its way in is open, or after a short wait with the state `opening`.
    ///
    /// # Errors
    /// [`ControllerError`]; nothing is made then, or it is closed again as `failed`.
    pub async fn create(&self, new: NewShare) -> Result<Arc<View>, ControllerError> {
        self.create_as(random::share_id(), new).await
    }

    /// Makes a share under an id that was chosen before, which no share has.
    ///
    /// # Errors
    /// As [`Handle::create`].
    pub async fn create_as(&self, id: ShareId, new: NewShare) -> Result<Arc<View>, ControllerError> {
        self.make(id, new, None, &self.intend(None)).await
    }

    /// As [`Handle::create_as`], with the audit line of who makes it: where that cannot be written, nothing is made.
    ///
    /// # Errors
    /// As [`Handle::create`]; no line is written then.
    pub async fn create_noted(&self, id: ShareId, new: NewShare, line: AuditEntry, intent: &Intent) -> Result<Arc<View>, ControllerError> {
        self.make(id, new, Some(line), intent).await
    }

    /// Holds the wish to make shares, or to open `share` again, from now on. Whoever asks for it takes this before they wait for anything.
    pub fn intend(&self, share: Option<ShareId>) -> Intent {
        self.0.intents.hold(share)
    }

    pub(super) async fn make(
        &self,
        id: ShareId,
        new: NewShare,
        line: Option<AuditEntry>,
        intent: &Intent,
    ) -> Result<Arc<View>, ControllerError> {
        let shared = &self.0;
        // The rest of a batch does not go to the NAS for nothing.
        intent.stands()?;
        self.may_begin()?;
        self.check(&new)?;
        let policy = Policy::new(new.policy, self.limits(), shared.clock.now())?;
        let file = shared.pin(&new.path).await?;
        let (mut share, facts) = Share::new(id, random::token_id(), file, policy, new.note, shared.clock.now());
        share.message = new.message;
        let changes = self.watch();
        let view =
            shared.ask(|answer| Command::Create { share: Box::new(share), facts, line, taken_back: intent.taken_back(), answer }).await?;
        self.when_open(view, changes).await
    }

    /// Makes the share of a self-test under an id that was chosen before: the program's own byte, for one download, by these limits,
    /// with the audit line of who wants it. Does not wait for its way in; [`Handle::created`] does.
    ///
    /// # Errors
    /// As [`Handle::create_noted`].
    pub async fn create_self_test(&self, id: ShareId, limits: Limits, line: AuditEntry) -> Result<Arc<View>, ControllerError> {
        let shared = &self.0;
        let intent = self.intend(None);
        self.may_begin()?;
        let now = shared.clock.now();
        let wish = PolicyRequest { expires_in_seconds: Some(limits.max_tunnel.as_secs()), ..PolicyRequest::default() };
        let policy = Policy::new(wish, limits, now)?;
        let path = CatalogPath::self_test();
        let file = SharedFile { identity: shared.catalog.open(&path).await?.identity, path };
        let (share, facts) = Share::new(id, random::token_id(), file, policy, None, now);
        let (share, taken_back) = (Box::new(share), intent.taken_back());
        shared.ask(|answer| Command::Create { share, facts, line: Some(line), taken_back, answer }).await
    }

    /// Returns the self-tests that are not closed and are watched here.
    pub fn living_self_tests(&self) -> Vec<ShareId> {
        let living = self.0.living.read().expect("nobody panics while holding the views");
        living.values().filter(|view| view.is_watched_here && view.share.file.is_self_test()).map(|view| view.share.id).collect()
    }

    /// Returns the share that an earlier attempt made under an id, as [`Handle::create`] answers; `None` where there is none.
    ///
    /// # Errors
    /// [`ControllerError`] where the store cannot be read, or the share's way in could not be opened.
    pub async fn created(&self, id: ShareId) -> Result<Option<Arc<View>>, ControllerError> {
        let changes = self.watch();
        let Some(view) = self.show(id).await? else { return Ok(None) };
        self.when_open(view, changes).await.map(Some)
    }

    /// Says whether the rules and the words of a share can be had, before anything is made.
    ///
    /// # Errors
    /// [`ControllerError`] where they cannot.
    pub fn check(&self, new: &NewShare) -> Result<(), ControllerError> {
        if new.note.as_ref().is_some_and(|note| note.len() > MAX_NOTE_BYTES) {
            return Err(ControllerError::NoteTooLong);
        }
        if new.message.as_ref().is_some_and(|message| message.len() > MAX_MESSAGE_BYTES) {
            return Err(ControllerError::MessageTooLong);
        }
        Policy::new(new.policy.clone(), self.limits(), self.0.clock.now())?;
        Ok(())
    }

    /// Closes a share, and takes back what was asked before and would open it again. Doing it twice is fine.
    ///
    /// # Errors
    /// [`ControllerError`] where there is no such share or the store is not available.
    pub async fn revoke(&self, id: ShareId) -> Result<Arc<View>, ControllerError> {
        self.0.intents.take_back(id);
        self.act(id, Event::Revoked).await
    }

    /// Closes every share that lives, a self-test too, several at once, and takes back what was asked before and would open any. Returns
    /// how many it closed; doing it twice is fine.
    ///
    /// # Errors
    /// The first [`ControllerError`] of any of them; each is tried all the same, and what could not be saved is shut.
    pub async fn revoke_all(&self) -> Result<usize, ControllerError> {
        self.0.intents.take_all_back();
        // Asked behind that: what the task had taken up before is on the list, and it takes up nothing more.
        let (reply, answer) = oneshot::channel();
        self.0.commands.try_send(Command::NotClosed(reply)).map_err(|_| ControllerError::Busy)?;
        let open = answer.await.map_err(|_| ControllerError::Busy)?;
        let closed = stream::iter(open).map(|id| self.act(id, Event::Revoked)).buffer_unordered(CLOSE_AT_ONCE).collect::<Vec<_>>().await;
        // What could not be made in the end never was.
        let was_made = |closed: &Result<_, _>| !matches!(closed, Err(ControllerError::UnknownShare(_)));
        closed.into_iter().filter(was_made).collect::<Result<Vec<_>, _>>().map(|closed| closed.len())
    }

    /// Stops one transfer. Doing it twice is fine.
    ///
    /// # Errors
    /// As [`Handle::revoke`].
    pub async fn stop_transfer(&self, id: ShareId, transfer: TransferId) -> Result<Arc<View>, ControllerError> {
        let view = self.show(id).await?.ok_or(ControllerError::UnknownShare(id))?;
        if view.share.transfer(transfer).is_none() {
            return Err(ControllerError::Refused(Refused::UnknownTransfer));
        }
        self.act(id, Event::TransferStopped { transfer }).await
    }

    /// Lets a share's link live for so long from now.
    ///
    /// # Errors
    /// [`ControllerError`]; nothing is changed then.
    pub async fn extend(&self, id: ShareId, expires_in: Duration) -> Result<Arc<View>, ControllerError> {
        match self.act(id, Event::Extended { expires_in }).await {
            Ok(view) if view.share.is_closed() => {
                Err(ControllerError::Refused(Refused::Closed(view.share.outcome().unwrap_or(Outcome::Expired))))
            }
            result => result,
        }
    }

    /// Offers a closed share once more, with a new link.
    ///
    /// # Errors
    /// [`ControllerError`]; nothing is changed then.
    pub async fn reopen(&self, id: ShareId) -> Result<Arc<View>, ControllerError> {
        self.reopen_as(id, random::token_id(), &self.intend(Some(id))).await
    }

    /// Offers a closed share once more, with a new link whose id was chosen before.
    ///
    /// # Errors
    /// As [`Handle::reopen`].
    pub async fn reopen_as(&self, id: ShareId, link: TokenId, intent: &Intent) -> Result<Arc<View>, ControllerError> {
        let shared = &self.0;
        self.may_begin()?;
        if shared.living.read().expect("nobody panics while holding the views").contains_key(&id) {
            return Err(ControllerError::Refused(Refused::NotClosed));
        }
        let share = shared.store.share(id).await?.ok_or(ControllerError::UnknownShare(id))?;
        let file = shared.pin(&share.file.path).await?;
        let (share, event, taken_back) = (Box::new(share), Event::Reopened { link, file }, intent.taken_back());
        let changes = self.watch();
        let view = shared.ask(|answer| Command::TakeUp { share, event, taken_back, answer }).await?;
        self.when_open(view, changes).await
    }

    /// Takes back that a share was closed: the same link works again. Waits a while for its door to be shut before.
    ///
    /// # Errors
    /// [`ControllerError`], mostly `Refused`; nothing is changed then.
    pub async fn undo(&self, id: ShareId) -> Result<Arc<View>, ControllerError> {
        self.undo_as(id, &self.intend(Some(id))).await
    }

    /// As [`Handle::undo`], by a wish that was held before.
    ///
    /// # Errors
    /// As [`Handle::undo`].
    pub async fn undo_as(&self, id: ShareId, intent: &Intent) -> Result<Arc<View>, ControllerError> {
        let shared = &self.0;
        self.may_begin()?;
        let deadline = Instant::now() + WAIT_FOR_SHUT;
        while let Some(view) = self.living_view(id) {
            intent.stands()?;
            if view.share.outcome().is_none() || Instant::now() >= deadline {
                return Err(ControllerError::Refused(Refused::NotClosed));
            }
            sleep(LOOK_EVERY).await;
        }
        let share = shared.store.share(id).await?.ok_or(ControllerError::UnknownShare(id))?;
        let (share, event, taken_back) = (Box::new(share), Event::Undone, intent.taken_back());
        let view = shared.ask(|answer| Command::TakeUp { share, event, taken_back, answer }).await?;
        // What is told from here on is of the share that is open again: it has the link that it had when it was closed.
        let changes = self.watch();
        self.when_open(self.living_view(id).unwrap_or(view), changes).await
    }

    /// Returns one share, closed or not.
    ///
    /// # Errors
    /// [`StoreError`] where it is not among the living and the store cannot be read.
    pub async fn show(&self, id: ShareId) -> Result<Option<Arc<View>>, StoreError> {
        if let Some(view) = self.0.living.read().expect("nobody panics while holding the views").get(&id) {
            return Ok(Some(view.clone()));
        }
        let Some(share) = self.0.store.share(id).await? else { return Ok(None) };
        if !share.is_closed() {
            // Another controller has made it, or opened it again, and the news of that is on its way.
            self.catch_up(id).await;
            if let Some(view) = self.living_view(id) {
                return Ok(Some(view));
            }
        }
        let mut view = self.0.view_of_share(Arc::new(share), self.0.clock.now());
        if view.sha256.is_none() {
            view.sha256 = self.0.store.digest(view.share.file.identity).await?;
        }
        Ok(Some(Arc::new(view)))
    }

    /// Returns a share that is not closed, without asking the store.
    pub fn living_view(&self, id: ShareId) -> Option<Arc<View>> {
        self.0.living.read().expect("nobody panics while holding the views").get(&id).cloned()
    }

    /// Returns every share of an owner's that is not closed, newest first: a self-test is none.
    pub fn living(&self) -> Vec<Arc<View>> {
        let mut views = self.all_living();
        views.retain(|view| !view.share.file.is_self_test());
        views.sort_unstable_by_key(|view| std::cmp::Reverse((view.share.created.wall, view.share.id)));
        views
    }

    /// Returns everything that is not closed, in any order.
    pub(super) fn all_living(&self) -> Vec<Arc<View>> {
        self.0.living.read().expect("nobody panics while holding the views").values().cloned().collect()
    }

    /// Returns a page of closed shares, newest made first: those of them that `query` wants.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read.
    pub async fn history(&self, query: ShareQuery) -> Result<Vec<Arc<View>>, StoreError> {
        let shares = self.0.store.shares(ShareQuery { closed: Some(true), ..query }).await?;
        let now = self.0.clock.now();
        Ok(shares.into_iter().map(|share| Arc::new(self.0.view_of_share(Arc::new(share), now))).collect())
    }

    /// Tells of every change from here on; progress at most twice a second per share. A reader that falls behind loses
    /// the oldest and is told so.
    pub fn watch(&self) -> broadcast::Receiver<Change> {
        self.0.changes.subscribe()
    }

    /// Returns what a genuine link leads to, and whether somebody at `address` may redeem it. `None` where its share is
    /// unknown.
    ///
    /// # Errors
    /// [`StoreError`] where the share is not among the living and the store cannot be read.
    pub async fn offer(
        &self,
        share: ShareId,
        link: TokenId,
        address: Option<IpAddr>,
    ) -> Result<Option<(Arc<View>, Result<(), Refused>)>, StoreError> {
        let view = self.show(share).await?;
        let now = self.0.clock.now();
        Ok(view.map(|view| {
            let may = view.share.may_redeem(link, address, now);
            (view, may)
        }))
    }

    /// Notes that somebody looked at the page of `link`. Waits for nothing, and changes nothing but a count of a share that is not
    /// closed; where too many look at once, not even that.
    pub fn looked(&self, view: &View, link: TokenId, by: Looker) {
        if view.share.link == link && view.share.outcome().is_none() {
            // Full: it is not counted.
            let _ = self.0.looks.try_send((view.share.id, link, by));
        }
    }

    /// Exercises a link: one of its uses is spent when this answers, and the transfer's URL works.
    ///
    /// # Errors
    /// [`ControllerError`], mostly `Refused`; nothing is spent then.
    pub async fn redeem(&self, share: ShareId, link: TokenId, mut recipient: Recipient) -> Result<TransferSecret, ControllerError> {
        self.may_begin()?;
        recipient.agent = cut_to(&recipient.agent, MAX_AGENT_BYTES);
        let transfer = random::transfer_id();
        let event = Event::Redeemed { link, transfer, recipient };
        match self.act(share, event).await {
            Ok(_) => Ok(self.0.keys.transfer_secret(transfer)),
            Err(ControllerError::Refused(why)) => {
                self.0.metrics.redeem_refused(&why);
                Err(ControllerError::Refused(why))
            }
            Err(error) => {
                self.0.metrics.redeem_failed();
                Err(error)
            }
        }
    }

    /// Returns the transfer that a recipient who comes back to the link is in the middle of: same address, same client, and
    /// either the client `resumes` behind bytes that it has, or the transfer broke off. Spends nothing.
    ///
    /// Where no use is left and the transfer seems to run still, it waits a moment: a client that tries again at once is
    /// here before its broken connection was noticed.
    pub async fn rejoin(&self, share: ShareId, link: TokenId, recipient: &Recipient, resumes: bool) -> Option<TransferSecret> {
        recipient.address.as_ref().filter(|_| !recipient.agent.is_empty())?;
        let agent = cut_to(&recipient.agent, MAX_AGENT_BYTES);
        let deadline = Instant::now() + WAIT_FOR_BREAK;
        loop {
            let view = self.0.living.read().expect("nobody panics while holding the views").get(&share)?.clone();
            let (share, now) = (&view.share, self.0.clock.now());
            let same = |t: &&Transfer| t.begun && t.recipient.address == recipient.address && t.recipient.agent == agent;
            let theirs = || share.transfers.iter().rev().filter(same).filter(|t| share.may_fetch(t.id, now).is_ok());
            let broke_off = |t: &Transfer| t.is_active() && t.open_requests() == 0;
            if share.link != link {
                return None;
            }
            if let Some(found) = theirs().filter(|t| resumes || broke_off(t)).min_by_key(|t| !t.is_active()) {
                return Some(self.0.keys.transfer_secret(found.id));
            }
            if !share.is_spent() || !theirs().any(Transfer::is_active) || Instant::now() >= deadline {
                return None;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Notes what somebody found who looked at a share from outside, while it was open or, `after_close`, closed. Returns whether
    /// that is true of the share as it stands: it may have been closed meanwhile, or opened again.
    ///
    /// # Errors
    /// [`ControllerError`] where that cannot be known or noted.
    pub async fn probed(&self, id: ShareId, link: TokenId, after_close: bool, reach: Reach) -> Result<bool, ControllerError> {
        let event = Event::Probed { link, after_close, reach };
        let asked = if after_close {
            // It lives no more: it is taken up for this one line.
            match self.0.store.share(id).await? {
                Some(share) if share.is_closed() && share.link == link => {
                    // It opens nothing, so no close takes it back.
                    let (share, taken_back) = (Box::new(share), CancellationToken::new());
                    self.0.ask(|answer| Command::TakeUp { share, event, taken_back, answer }).await
                }
                Some(_) | None => return Ok(false),
            }
        } else {
            self.0.ask(|answer| Command::Act { id, event, answer }).await
        };
        let share = match asked {
            Ok(view) => view.share.clone(),
            Err(ControllerError::UnknownShare(_)) => return Ok(false),
            Err(error) => return Err(error),
        };
        Ok(share.link == link && share.is_closed() == after_close && share.reach == Some(reach))
    }

    /// Returns where the outside finds `path`, which begins with a slash, by a share's way in.
    pub(super) fn public_url(&self, share: ShareId, path: &str) -> String {
        self.0.tunnel.public_url(share).at(path)
    }

    /// Notes whether the door of a closed share still answers.
    pub(crate) fn note_still_open(&self, share: ShareId, is_open: bool) {
        let mut still_open = self.0.still_open.write().expect("nobody panics while holding the alarms");
        // As many as anybody waits for; each was an error in the log.
        if is_open && still_open.len() < MAX_LIVING {
            if still_open.insert(share) {
                self.0.metrics.door_still_answers();
            }
        } else {
            still_open.remove(&share);
        }
    }

    /// Returns how many shares are closed and still answer from the internet, as far as anybody has looked.
    pub fn still_open(&self) -> usize {
        self.0.still_open.read().expect("nobody panics while holding the alarms").len()
    }

    /// Returns who shares the store, as was last heard; `None` where nobody does.
    pub fn sharers(&self) -> Option<Sharers> {
        self.0.sharers.read().expect("nobody panics while holding the sharers").clone()
    }

    /// Returns the bounds that shares get that are made from here on.
    pub fn limits(&self) -> Limits {
        *self.0.limits.read().expect("nobody panics while holding the limits")
    }

    /// Takes other bounds for shares that are made from here on, and for how long transfers may go on at the end.
    pub fn set_limits(&self, limits: Limits, drain: Duration) {
        *self.0.limits.write().expect("nobody panics while holding the limits") = limits;
        *self.0.drain.write().expect("nobody panics while holding the limits") = drain;
    }

    /// Returns whether the deciding task takes up a question within `patience`: whether it lives.
    pub async fn answers_within(&self, patience: Duration) -> bool {
        let asked = async {
            let (sign, answer) = oneshot::channel();
            self.0.commands.send(Command::Ping(sign)).await.is_ok() && answer.await.is_ok()
        };
        tokio::time::timeout(patience, asked).await.unwrap_or(false)
    }

    /// Returns where is counted what happens.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Waits until every way in that was open before a restart is open again, or its backend said why not; at most so long.
    pub async fn when_taken_up(&self, patience: Duration) {
        let is_under_way = |view: &Arc<View>| view.state == State::Opening && view.tunnel_problem.is_none();
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline && self.0.living.read().expect("nobody panics while holding the views").values().any(is_under_way) {
            sleep(LOOK_EVERY).await;
        }
    }

    fn may_begin(&self) -> Result<(), ControllerError> {
        if self.0.stopping.is_cancelled() {
            return Err(ControllerError::Busy);
        }
        if self.0.living.read().expect("nobody panics while holding the views").len() >= MAX_LIVING {
            return Err(ControllerError::TooMany);
        }
        Ok(())
    }

    async fn act(&self, id: ShareId, event: Event) -> Result<Arc<View>, ControllerError> {
        for _ in 0..MAX_ASKED {
            match self.0.ask(|answer| Command::Act { id, event: event.clone(), answer }).await {
                // It is closed, or never was.
                Err(ControllerError::UnknownShare(_)) => {
                    let view = self.show(id).await?.ok_or(ControllerError::UnknownShare(id))?;
                    let asks = matches!(event, Event::Redeemed { .. } | Event::Extended { .. });
                    match view.share.outcome() {
                        Some(outcome) if asks => return Err(ControllerError::Refused(Refused::Closed(outcome))),
                        Some(_) => return Ok(view),
                        // It was opened again in between, and nothing has happened to it yet; or another controller has it.
                        None => self.catch_up(id).await,
                    }
                }
                result => return result,
            }
        }
        Err(ControllerError::Busy)
    }

    /// Makes what this controller knows of a share at least as new as what the store said when it was asked, where others write it,
    /// too. Waits no longer than the store's own patience.
    pub async fn catch_up(&self, id: ShareId) {
        let (done, looked_up) = oneshot::channel();
        if self.0.commands.try_send(Command::LookUp(id, done)).is_ok() {
            // Whoever decides may have left.
            let _ = looked_up.await;
        }
    }

    /// Waits a while for a share's way in.
    async fn when_open(&self, mut view: Arc<View>, mut changes: broadcast::Receiver<Change>) -> Result<Arc<View>, ControllerError> {
        let (id, deadline) = (view.share.id, Instant::now() + WAIT_FOR_OPEN);
        while view.state == State::Opening && !self.0.stopping.is_cancelled() {
            let changed = tokio::select! {
                changed = timeout_at(deadline, changes.recv()) => changed,
                // Nothing is opened any more; the next start does.
                () = self.0.stopping.cancelled() => continue,
            };
            match changed {
                // What is told of it with another link was so before it was opened again.
                Ok(Ok(change)) if change.view.share.id == id && change.view.share.link == view.share.link => view = change.view,
                Ok(Ok(_)) => {}
                Ok(Err(broadcast::error::RecvError::Lagged(_))) => {
                    view = self.show(id).await?.ok_or(ControllerError::UnknownShare(id))?;
                }
                Ok(Err(broadcast::error::RecvError::Closed)) => break,
                Err(_) => {
                    view = self.show(id).await?.ok_or(ControllerError::UnknownShare(id))?;
                    break;
                }
            }
        }
        match view.share.outcome() {
            Some(Outcome::Failed) => {
                let why = view.tunnel_problem.clone().unwrap_or_else(|| "it does not say why".to_owned());
                Err(ControllerError::TunnelUnavailable(why))
            }
            Some(_) | None => Ok(view),
        }
    }
}

/// Returns a share's file name as it stands at the end of its links: for people and for clients that name files by it.
pub fn name_in_link(share: &Share) -> String {
    let name = share.file.path.name_for_display().replace(['\u{FFFD}', '/', '\\'], "_");
    utf8_percent_encode(&name, NOT_IN_LINK).to_string()
}

/// Cuts a text to so many bytes, at the end of a letter.
fn cut_to(text: &str, most: usize) -> String {
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text[..end.unwrap_or(0)].to_owned()
}
