//! What a controller does besides where it shares the store with others.
//!
//! Every controller knows every living share and decides about any of them; each save says on what it was decided, and one that comes
//! too late is decided again upon what stands (`Controller::look_again`, `Controller::adopt`). What has arrived here and is not saved
//! is never lost by that: it is taken along. Only the watcher of a share opens and closes its way in and wakes at its deadlines. Who
//! watches is silent for [`LEASE`] loses what it watches to another; what it answered then counts as in doubt, and its share is closed
//! only when it is known to send nothing any more.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::event_loop::{Controller, Done, Records};
use super::slot::{Answer, Job, Saving, Slot};
use super::{Change, ControllerError, Parts, Sharers, Sharing};
use crate::causes::Causes;
use crate::delivery::nginx::LeftOver;
use crate::share::{ControllerNumber, Event, Moment, Outcome, Phase, Share, ShareId, Steady, Timestamp};
use crate::store::StoreError;
use crate::store::shared::{Basis, Beat, Cursor, Held, Hold, KEPT_NUMBER, LEASE, MAX_BLIND, News, Peer, SharedStore};

/// How often it says that it lives: often enough that two lost beats move nothing.
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// How long is waited for news at once; then it is asked again, so that a connection that died is noticed.
const NEWS_WITHIN: Duration = Duration::from_secs(5);
/// How long is waited after news could not be had.
const RETRY_NEWS: Duration = Duration::from_millis(500);
/// How many shares are taken over at once: a second's work, so that several controllers divide what one has left.
const TAKE_AT_ONCE: usize = 256;
/// How far the store's clock may move against ours between two beats before that counts as a jump.
const MAX_JUMP_MS: u64 = 2000;
/// How many saves without an answer are looked up one by one; past it all that lives is looked at.
const MAX_UNANSWERED: usize = 256;
/// How long after [`MAX_BLIND`] a controller that is not heard counts as one that sends nothing: by then it has cut everything, also
/// where it was slow to.
const CERTAINLY_CUT: Duration = Duration::from_secs(15);

/// Who shares the store, as far as this controller knows.
pub(super) struct Together {
    pub(super) store: Arc<dyn SharedStore>,
    pub(super) me: ControllerNumber,
    /// Who was in this place before.
    former: Option<ControllerNumber>,
    cursor: Cursor,
    /// News that are waited for.
    pub(super) reading: Option<BoxFuture<'static, Result<News, StoreError>>>,
    peers: Vec<Peer>,
    /// When the last beat was sent that was answered.
    heard: Steady,
    /// Since when every beat was answered.
    heard_since: Steady,
    is_beating: bool,
    next_beat: Steady,
    is_taking: bool,
    /// When it was last tried to take something over.
    tried_to_take: Steady,
    /// When news were last had, or nothing that is new.
    news_at: Steady,
    is_looking_at_all: bool,
    /// Whether it did not answer when news were last asked for.
    is_away: bool,
    /// What the store's wall clock said at the last beat.
    store_wall: Option<(Steady, Timestamp)>,
    /// Since when a controller is not known any more that a share tells of.
    missing: HashMap<ControllerNumber, Steady>,
    /// Whether nothing was heard of the store for so long that nobody could have told what is to be shut.
    pub(super) is_blind: bool,
    /// Whether somebody else has taken this controller's place.
    pub(super) is_replaced: bool,
    /// The shares whose way in is shut, and that somebody else may send of still.
    shut: HashSet<ShareId>,
    /// What was to be saved and may have been, without an answer, of shares that nobody here knows.
    unanswered: HashSet<ShareId>,
}

impl Together {
    /// Returns it with every share that lives.
    pub(super) async fn begin(sharing: &Sharing, now: Moment) -> Result<(Self, Vec<Held>), StoreError> {
        let (living, cursor) = sharing.store.all_held().await?;
        let together = Self {
            store: sharing.store.clone(),
            me: sharing.joined.number,
            former: sharing.joined.former,
            cursor,
            reading: None,
            peers: Vec::new(),
            heard: now.steady,
            heard_since: now.steady,
            is_beating: false,
            next_beat: now.steady,
            is_taking: false,
            tried_to_take: now.steady,
            news_at: now.steady,
            is_looking_at_all: false,
            is_away: false,
            store_wall: None,
            missing: HashMap::new(),
            is_blind: false,
            is_replaced: false,
            shut: HashSet::new(),
            unanswered: HashSet::new(),
        };
        Ok((together, living))
    }

    /// Returns whether a share is this controller's to watch.
    pub(super) fn watches(&self, slot: &Slot) -> bool {
        slot.hold.is_some_and(|hold| hold.watcher == self.me)
    }

    /// Returns what a save of this share is to be decided upon.
    pub(super) fn basis(slot: &Slot, job: &Job) -> Basis {
        let hold = |hold: Hold| Basis { version: hold.version, fence: job.is_watchers().then_some(hold.fence) };
        slot.hold.map_or_else(Basis::default, hold)
    }

    /// Returns how long ago a controller was last heard; `None` where it has ended.
    fn silence(&self, controller: ControllerNumber) -> Option<Duration> {
        self.peers.iter().find(|peer| peer.number == controller).map(|peer| peer.silence)
    }

    /// Returns what an earlier process in this place had nginx send.
    pub(super) fn left_over(&self, share: &Share, parts: &Parts) -> Vec<LeftOver> {
        let is_offered = share.outcome().is_none();
        let carried = share.transfers.iter().flat_map(|it| it.carried().map(move |carried| (it, carried)));
        let ours = carried.filter(|(_, carried)| Some(carried.request.controller()) == self.former);
        ours.map(|(transfer, carried)| {
            let may_go_on = is_offered && (transfer.is_active() || transfer.is_completed());
            LeftOver { share: share.id, carried, may_go_on, elsewhere: parts.passes.send_elsewhere(share.id) }
        })
        .collect()
    }
}

/// Waits for news, where there are others; `None` where there are not.
pub(super) async fn next_news(together: &mut Option<Together>) -> Option<Result<News, StoreError>> {
    let together = together.as_mut()?;
    let news = together.reading.as_mut()?.await;
    together.reading = None;
    Some(news)
}

impl Controller {
    /// Returns whether a share is this controller's to watch: each is where nobody else shares the store.
    pub(super) fn watches(&self, slot: &Slot) -> bool {
        self.together.as_ref().is_none_or(|together| together.watches(slot))
    }

    /// Takes up what lives, at the start.
    pub(super) fn take_up_together(&mut self) {
        let ids: Vec<ShareId> = self.slots.keys().copied().collect();
        for id in ids {
            drop(self.follow(id));
        }
        self.read_news(Duration::ZERO);
        self.beat();
    }

    fn read_news(&mut self, pause: Duration) {
        if let Some(together) = &mut self.together {
            let (store, me, cursor) = (together.store.clone(), together.me, together.cursor.clone());
            together.reading = Some(
                async move {
                    sleep(pause).await;
                    store.news(me, cursor, NEWS_WITHIN).await
                }
                .boxed(),
            );
        }
    }

    /// Takes in what others have written.
    pub(super) fn news(&mut self, news: Result<News, StoreError>) {
        let Some(together) = &mut self.together else { return };
        let news = match news {
            Ok(news) => news,
            Err(error) => {
                if !std::mem::replace(&mut together.is_away, true) {
                    tracing::warn!(error = %Causes(&error), "The shared store does not answer: downloads that run go on, and nothing new begins until it is back");
                }
                return self.read_news(RETRY_NEWS);
            }
        };
        together.cursor = news.cursor;
        if std::mem::take(&mut together.is_away) {
            tracing::info!("The shared store answers again");
        }
        together.news_at = self.parts.clock.now().steady;
        if news.is_incomplete {
            self.look_at_all();
        }
        for changed in news.changed {
            let records: Records = changed.records.into();
            match changed.held {
                Some(held) => self.told(held, records),
                None => self.forgotten(changed.share),
            }
        }
        self.read_news(Duration::ZERO);
    }

    /// Takes in a share that somebody else has written, and tells of it.
    fn told(&mut self, held: Held, records: Records) {
        let id = held.share.id;
        if held.share.outcome() == Some(Outcome::Revoked) {
            // Whoever closed it elsewhere takes back what was asked here before, too.
            self.shared.intents.take_back(id);
        }
        if let Some(slot) = self.slots.get_mut(&id).filter(|slot| slot.is_saving) {
            if slot.hold.is_some_and(|hold| hold.version < held.hold.version) && held.share.outcome().is_some() {
                // It is over, however long a save takes.
                slot.cut_all_but_those_of(&held.share, &self.parts.passes);
            }
            // What is being saved was decided upon this, or will be refused and decided again; what is being looked up may be older.
            slot.news = Some(held);
            let now = self.parts.clock.now();
            drop(self.publish(id, records, now));
        } else if self.adopt(&held) {
            drop(self.follow_with(id, records));
            self.take_up(id);
        } else if held.share.is_closed() {
            self.tell_of_closed(&held.share, records);
        } else {
            drop(self.follow_with(id, records));
        }
    }

    /// Tells the lines of a share that is closed and that nobody here knows any more.
    fn tell_of_closed(&mut self, share: &Arc<Share>, records: Records) {
        if !records.is_empty() {
            let view = Arc::new(self.shared.view_of_share(share.clone(), self.parts.clock.now()));
            self.shared.tell(Change { view, records });
        }
    }

    /// Takes up a share at the start, before anything is decided.
    pub(super) fn begin_with(&mut self, held: &Held, now: Moment) {
        self.adopt(held);
        self.follow_door(held.share.id);
        drop(self.publish(held.share.id, Records::default(), now));
    }

    /// How a share stands could not be known: whoever waits for a decision is told, and what nobody asked for is tried again.
    fn not_looked(&mut self, id: ShareId, error: &StoreError) {
        tracing::warn!(share.id = %id, error = %Causes(&error), "Could not look up share {id}; trying again");
        let Some(slot) = self.slots.get_mut(&id) else { return };
        for job in std::mem::take(&mut slot.queue) {
            let is_nobodys = matches!(job.answer, Answer::Nobody);
            if is_nobodys || job.shuts() {
                slot.queue.push_back(Job::new(job.events.clone(), Answer::Nobody));
            }
            if !is_nobodys {
                job.answer.fail(ControllerError::Busy);
            }
        }
        if !slot.is_known || slot.share.is_closed() {
            // It was to be opened again and was not: it does not live here.
            self.may_have_been_saved(id);
            return self.forget(id);
        }
        self.work.push(
            async move {
                sleep(RETRY_NEWS).await;
                Done::LookAgain(id)
            }
            .boxed(),
        );
    }

    /// A share was forgotten, which only a closed one is: whoever has it open has missed that.
    fn forgotten(&mut self, id: ShareId) {
        if let Some(slot) = self.slots.get_mut(&id).filter(|slot| !slot.is_saving) {
            // Whoever would open it again is told that there is nothing to open.
            for job in std::mem::take(&mut slot.queue) {
                job.answer.fail(ControllerError::UnknownShare(id));
            }
            slot.cut_all(&self.parts.passes);
            let cut = slot.take_cut();
            self.close_stray(id, cut);
            self.forget(id);
        }
    }

    /// Asks for every share that lives: some news were missed.
    pub(super) fn look_at_all(&mut self) {
        if let Some(together) = &mut self.together
            && !std::mem::replace(&mut together.is_looking_at_all, true)
        {
            let store = together.store.clone();
            self.work.push(async move { Done::All(store.all_held().await) }.boxed());
        }
    }

    /// Takes in every share that lives.
    pub(super) fn all(&mut self, all: Result<(Vec<Held>, Cursor), StoreError>) {
        if let Some(together) = &mut self.together {
            together.is_looking_at_all = false;
        }
        let Ok((living, _)) = all else {
            // Later than it ends in a loop that does nothing else.
            self.work.push(
                async move {
                    sleep(RETRY_NEWS).await;
                    Done::AllMissed
                }
                .boxed(),
            );
            return;
        };
        let ids: HashSet<ShareId> = living.iter().map(|held| held.share.id).collect();
        for held in living {
            let id = held.share.id;
            let is_older = |slot: &Slot| slot.hold.is_some_and(|hold| hold.version > held.hold.version) && !slot.is_saving;
            if self.slots.get(&id).is_some_and(is_older) {
                // It was written since the list was, or the store has gone back to what it was.
                self.look_before_deciding(id);
            } else {
                self.told(held, Records::default());
            }
        }
        let missing = |slot: &&Slot| slot.hold.is_some() && !slot.is_saving && !ids.contains(&slot.share.id);
        let missing: Vec<ShareId> = self.slots.values().filter(missing).map(|slot| slot.share.id).collect();
        for id in missing {
            self.look_up(id, None);
        }
    }

    /// Asks how one share stands in the store.
    pub(super) fn look_up(&mut self, id: ShareId, done: Option<oneshot::Sender<()>>) {
        let Some(together) = &self.together else { return };
        let store = together.store.clone();
        self.work.push(async move { Done::LookedUp(id, store.held(id).await, done) }.boxed());
    }

    /// Takes in how a share stands in the store, and tells whoever asked for that.
    pub(super) fn looked_up(&mut self, id: ShareId, held: Result<Option<Held>, StoreError>, done: Option<oneshot::Sender<()>>) {
        if held.is_ok()
            && let Some(together) = &mut self.together
        {
            together.unanswered.remove(&id);
        }
        match held {
            Ok(Some(held)) if self.slots.contains_key(&id) || !held.share.is_closed() => self.told(held, Records::default()),
            Ok(None) => self.forgotten(id),
            Ok(Some(_)) | Err(_) => {}
        }
        if let Some(done) = done {
            // Whoever asked may have left.
            let _ = done.send(());
        }
    }

    /// Has what was refused decided again: others have written the share since it was read.
    pub(super) fn look_again(&mut self, id: ShareId, saving: Saving) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        // Nothing of what has arrived is lost meanwhile.
        slot.known_here = Some(slot.ahead.take().map_or(saving.next, |(ahead, _)| Arc::new(ahead)));
        slot.saving = None;
        slot.queue.push_front(saving.job);
        self.look_before_deciding(id);
    }

    /// Looks a share up; nothing is decided about it until then.
    pub(super) fn look_before_deciding(&mut self, id: ShareId) {
        let (Some(slot), Some(together)) = (self.slots.get_mut(&id), &self.together) else { return };
        slot.is_saving = true;
        let store = together.store.clone();
        self.work.push(async move { Done::Stands(id, store.held(id).await) }.boxed());
    }

    /// Goes on with a share that was looked up.
    pub(super) fn stands(&mut self, id: ShareId, held: Result<Option<Held>, StoreError>) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        match held {
            Ok(Some(held)) => {
                slot.is_saving = false;
                if slot.hold != Some(held.hold) {
                    // Also where it is older: a store that failed over may have lost what was never acknowledged.
                    slot.hold = slot.hold.map(|hold| Hold { version: 0, ..hold });
                }
                // Nothing that waited need ask again.
                slot.queue.iter_mut().for_each(|job| job.is_second_try = true);
                self.adopt(&held);
                self.take_up(id);
                drop(self.follow(id));
                self.tell_if_saved(id);
            }
            Ok(None) => {
                slot.is_saving = false;
                self.forgotten(id);
            }
            Err(error) => self.not_looked(id, &error),
        }
    }

    /// Makes a share here what it is in the store, with all that is known here and is not saved yet. Returns whether it was not so.
    fn adopt(&mut self, held: &Held) -> bool {
        let (id, now) = (held.share.id, self.parts.clock.now());
        let Some(together) = &self.together else { return false };
        let me = together.me;
        let is_new = !self.slots.contains_key(&id);
        if is_new {
            if held.share.is_closed() {
                return false;
            }
            let mut slot = Slot::new(Share::clone(&held.share), now);
            slot.is_known = true;
            self.parts.digests.want(&held.share.file.path, held.share.file.identity);
            self.slots.insert(id, slot);
        }
        let Some(slot) = self.slots.get_mut(&id) else { return false };
        if slot.hold.is_some_and(|hold| hold.version >= held.hold.version) {
            return false;
        }
        let watched_before = slot.hold.map(|hold| hold.watcher);
        let mut next = Share::clone(&held.share);
        let mut facts = Vec::new();
        let ahead = slot.ahead.take().map(|(ahead, _)| Arc::new(ahead));
        for known in [Some(slot.share.clone()), slot.known_here.take(), ahead].into_iter().flatten() {
            facts.extend(next.learn(&known, now).facts);
        }
        for event in &slot.unsaved {
            facts.extend(next.on(event.clone(), now).facts);
        }
        let mut counted = Share::clone(&held.share);
        let _ = counted.learn(&slot.counted, now);
        let mut looks = held.share.looks;
        if held.share.link == slot.share.link {
            looks.add_since(slot.looks_saved, slot.looks);
        }
        (slot.looks, slot.looks_saved) = (looks, held.share.looks);
        (slot.hold, slot.counted, slot.is_untold) = (Some(held.hold), Arc::new(counted), true);
        slot.is_known |= !held.share.is_closed();
        slot.share = held.share.clone();
        slot.is_dirty = false;
        if !facts.is_empty() {
            slot.ahead = Some((next, facts));
        } else if next == *held.share {
            slot.unsaved.clear();
        } else {
            (slot.share, slot.is_dirty) = (Arc::new(next), true);
        }
        if held.hold.watcher != me {
            if std::mem::take(&mut slot.is_shut) {
                (slot.running, slot.problem) = (None, None);
            }
            if let Some(together) = &mut self.together {
                together.shut.remove(&id);
            }
        } else if watched_before != Some(me) && !held.share.is_closed() {
            let with_its_way_in = !self.parts.tunnel.opens_at_once();
            slot.queue.push_front(Job::of(Event::TakenOver { with_its_way_in }));
        }
        true
    }

    /// Takes in news that came while something of the share was being saved or looked up.
    pub(super) fn take_news(&mut self, id: ShareId) {
        if let Some(held) = self.slots.get_mut(&id).and_then(|slot| slot.news.take()) {
            self.adopt(&held);
            drop(self.follow(id));
        }
    }

    /// Keeps the local door of a share that somebody else watches as its state says.
    pub(super) fn follow_door(&mut self, id: ShareId) {
        let (Some(slot), Some(together)) = (self.slots.get_mut(&id), &self.together) else { return };
        let is_ours = together.watches(slot);
        let tunnel = &self.parts.tunnel;
        if !tunnel.opens_at_once() || is_ours && slot.share.phase != Phase::Open {
            return;
        }
        let wants_door = slot.share.phase == Phase::Open && !together.is_blind && self.leave_at.is_none();
        if wants_door != slot.has_door {
            // It asks nobody, and answers at once.
            let call = if wants_door { tunnel.open(id) } else { tunnel.close(id) };
            let answer = call.now_or_never();
            debug_assert!(matches!(answer, Some(Ok(()))), "a tunnel that opens at once does");
            slot.has_door = wants_door;
        }
    }

    /// Says that it lives.
    fn beat(&mut self) {
        let now = self.parts.clock.now().steady;
        let Some(together) = &mut self.together else { return };
        if !together.is_beating {
            (together.is_beating, together.next_beat) = (true, now.plus(BEAT_EVERY));
            let (store, me) = (together.store.clone(), together.me);
            self.work.push(async move { Done::Beat(now, store.beat(me, now).await) }.boxed());
        }
    }

    pub(super) fn beaten(&mut self, sent: Steady, beat: Result<Beat, StoreError>) {
        let Some(together) = &mut self.together else { return };
        together.is_beating = false;
        match beat {
            Ok(Beat { peers, wall }) => {
                let ahead_ms = self.parts.clock.now().wall.0.saturating_sub(wall.0);
                let sharers = Sharers { me: together.me, peers: peers.clone(), ahead_ms };
                *self.shared.sharers.write().expect("nobody panics while holding the sharers") = Some(sharers);
                let jumped = together.store_wall.replace((sent, wall)).is_some_and(|(then, before)| {
                    let (by_us, by_it) = (sent.since(then).as_millis() as i64, wall.0.saturating_sub(before.0));
                    by_us.abs_diff(by_it) > MAX_JUMP_MS
                });
                if jumped || sent.since(together.heard) >= LEASE {
                    // Everybody else was not heard for as long as this one did not listen; or the store's clock jumped, as where another
                    // machine has taken its place, and says nothing of how long anybody was silent.
                    together.heard_since = sent;
                }
                (together.heard, together.peers) = (sent, peers);
                let is_deaf = sent.since(together.news_at) > MAX_BLIND;
                if !is_deaf && std::mem::take(&mut together.is_blind) {
                    self.look_at_all();
                    self.follow_all();
                }
                self.see_to_the_gone(sent);
            }
            Err(StoreError::Overtaken) => {
                tracing::error!("Another controller runs from this state folder, or from a copy of it; stopping");
                together.is_replaced = true;
            }
            Err(error) => tracing::debug!(error = %Causes(&error), "The store was not told that this controller lives"),
        }
    }

    fn follow_all(&mut self) {
        let ids: Vec<ShareId> = self.slots.keys().copied().collect();
        for id in ids {
            drop(self.follow(id));
        }
    }

    /// Takes over what nobody watches any more, and what the gone have left in the shares that are watched here.
    fn see_to_the_gone(&mut self, now: Steady) {
        let Some(together) = &mut self.together else { return };
        if together.unanswered.len() > MAX_UNANSWERED {
            together.unanswered.clear();
            self.look_at_all();
        } else {
            for id in together.unanswered.clone() {
                self.look_up(id, None);
            }
        }
        let Some(together) = &mut self.together else { return };
        // After a time when nobody could say that it lives, everybody has time to.
        let patience = if now.since(together.heard_since) >= LEASE { LEASE } else { KEPT_NUMBER };
        let me = together.me;
        let is_gone = |watcher| watcher != me && together.silence(watcher).is_none_or(|silence| silence >= patience);
        let has_orphans = self.slots.values().any(|slot| slot.hold.is_some_and(|hold| is_gone(hold.watcher)));
        // Also of what nobody here knows.
        let is_time = now.since(together.tried_to_take) >= LEASE;
        if (has_orphans || is_time) && !together.is_taking && self.leave_at.is_none() {
            (together.is_taking, together.tried_to_take) = (true, now);
            let store = together.store.clone();
            self.work.push(async move { Done::Taken(store.take_over(me, patience, TAKE_AT_ONCE).await) }.boxed());
        }
        let mut told = Vec::new();
        for slot in self.slots.values().filter(|slot| !slot.is_saving) {
            let id = slot.share.id;
            if slot.share.is_unheard(me) && slot.requests_here() == 0 && !self.parts.passes.are_sent_elsewhere(id) {
                told.push((id, Event::ControllerEnded { controller: me, for_good: false }));
            }
            if !together.watches(slot) {
                continue;
            }
            for controller in slot.share.may_be_sent_by(me) {
                match together.silence(controller) {
                    Some(silence) if silence < patience => {}
                    Some(silence) if silence < MAX_BLIND + CERTAINLY_CUT => {
                        if !slot.share.is_unheard(controller) {
                            told.push((id, Event::ControllerSilent { controller }));
                        }
                    }
                    Some(_) => told.push((id, Event::ControllerEnded { controller, for_good: true })),
                    None => {
                        let since = *together.missing.entry(controller).or_insert(now);
                        let for_good = now.since(since) > MAX_BLIND + CERTAINLY_CUT;
                        told.push((id, Event::ControllerEnded { controller, for_good }));
                    }
                }
            }
        }
        for (id, event) in told {
            self.decide(id, Job::of(event));
        }
    }

    pub(super) fn taken(&mut self, taken: Result<Vec<Held>, StoreError>) {
        let Some(together) = &mut self.together else { return };
        together.is_taking = false;
        let taken = match taken {
            Ok(taken) => taken,
            Err(error) => return tracing::warn!(error = %Causes(&error), "Could not take over the shares of a controller that is gone"),
        };
        if !taken.is_empty() {
            tracing::info!("Took over {} shares of a controller that is gone", taken.len());
        }
        // If there are more, the next beat takes them.
        for held in taken {
            self.told(held, Records::default());
        }
    }

    /// Does what time asks of whoever shares the store.
    pub(super) fn tick_together(&mut self, now: Steady) {
        let Some(together) = &mut self.together else { return };
        if now >= together.next_beat {
            self.beat();
        }
        let Some(together) = &mut self.together else { return };
        if !together.is_blind && now.since(together.heard.min(together.news_at)) > MAX_BLIND {
            together.is_blind = true;
            tracing::error!(
                "The store has not answered for {} s: cutting every download, since nobody could close one",
                MAX_BLIND.as_secs()
            );
            self.go_blind();
        }
        let Some(together) = &mut self.together else { return };
        for id in together.shut.clone() {
            self.close_if_nobody_sends(id);
        }
    }

    /// Shuts everything that is open here.
    fn go_blind(&mut self) {
        let ids: Vec<ShareId> = self.slots.keys().copied().collect();
        for id in ids {
            let Some(slot) = self.slots.get_mut(&id) else { continue };
            slot.cut_all(&self.parts.passes);
            slot.has_door = false;
            let cut = slot.take_cut();
            self.close_stray(id, cut);
        }
    }

    /// A share's way in is shut here: it is closed once nobody else sends of it. Returns whether that is so.
    pub(super) fn is_sent_by_nobody_else(&mut self, id: ShareId) -> bool {
        let (Some(slot), Some(together)) = (self.slots.get_mut(&id), &mut self.together) else { return true };
        let others = slot.share.may_be_sent_by(together.me);
        if others.is_empty() {
            return true;
        }
        let names = others.iter().map(|other| {
            let known = together.peers.iter().find(|peer| peer.number == *other);
            known.map_or_else(|| format!("controller {other}"), |peer| peer.name.clone())
        });
        let names: Vec<String> = names.collect();
        slot.problem = Some(format!("waiting until {} has stopped sending it", names.join(" and ")));
        (slot.is_shut, slot.is_untold) = (true, true);
        together.shut.insert(id);
        false
    }

    fn close_if_nobody_sends(&mut self, id: ShareId) {
        let (Some(slot), Some(together)) = (self.slots.get_mut(&id), &mut self.together) else { return };
        if !slot.is_shut || slot.share.may_be_sent_by(together.me).is_empty() {
            together.shut.remove(&id);
            if std::mem::take(&mut slot.is_shut) {
                (slot.running, slot.problem) = (None, None);
                self.decide(id, Job::of(Event::TunnelClosed));
            }
        }
    }

    /// Notes that a share may have been saved, though no answer came: it is looked up once the store answers.
    pub(super) fn may_have_been_saved(&mut self, id: ShareId) {
        if let Some(together) = &mut self.together {
            together.unanswered.insert(id);
        }
    }
}
