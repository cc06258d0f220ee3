//! One living share, with what is known of it besides what is saved.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use super::speed::Speed;
use super::{ControllerError, View};
use crate::delivery::{Pass, Passes};
use crate::share::{Effect, Event, Fact, Looker, Looks, Moment, Phase, Refused, Share, Steady, Timestamp, TokenId, Transfer, TransferId};
use crate::store::shared::{Basis, Held, Hold};
use crate::token::{Keys, TransferSecret};

/// How many decisions of one share that somebody asked for may wait for its save: an owner's click or a recipient's request.
/// What happened (the end of a request) always finds room; it cannot happen more often than it was asked for.
pub(super) const MAX_QUEUED: usize = 8192;

/// Something to decide, and who waits for it.
pub(super) struct Job {
    /// What happened, in order; the answer is the last one's.
    pub(super) events: Vec<Event>,
    pub(super) answer: Answer,
    /// Whether it was refused before, upon what may not have been the newest state of a share that others decide about, too.
    pub(super) is_second_try: bool,
}

/// Who waits for a decision.
pub(super) enum Answer {
    /// Nobody: it happened and cannot be refused. It is tried again until it is saved.
    Nobody,
    /// A request for bytes.
    Go(oneshot::Sender<Result<(), Refused>>),
    /// An owner, or a recipient who redeems.
    View(oneshot::Sender<Result<Arc<View>, ControllerError>>),
}

impl Job {
    pub(super) fn of(event: Event) -> Self {
        Self::new(vec![event], Answer::Nobody)
    }

    pub(super) fn new(events: Vec<Event>, answer: Answer) -> Self {
        Self { events, answer, is_second_try: false }
    }

    /// Returns whether it comes of what only the watcher of a share does.
    pub(super) fn is_watchers(&self) -> bool {
        let is_watchers = |event: &Event| {
            matches!(event, Event::TunnelOpened | Event::TunnelFailed | Event::TunnelLost | Event::TunnelClosed | Event::TakenOver { .. })
        };
        self.events.iter().any(is_watchers)
    }

    /// Returns whether it offers a closed share once more.
    pub(super) fn reopens(&self) -> bool {
        self.events.iter().any(|event| matches!(event, Event::Reopened { .. } | Event::Undone))
    }

    /// Returns whether it closes the share, however that stands.
    pub(super) fn shuts(&self) -> bool {
        self.events.iter().any(|event| matches!(event, Event::Revoked | Event::SourceChanged))
    }
}

impl Answer {
    pub(super) fn give(self, result: Result<(), Refused>, view: &Arc<View>) {
        // Whoever asked may have left; the decision stands.
        match self {
            Self::Nobody => {}
            Self::Go(go) => drop(go.send(result)),
            Self::View(reply) => drop(reply.send(result.map(|()| view.clone()).map_err(ControllerError::Refused))),
        }
    }

    pub(super) fn fail(self, error: ControllerError) {
        match self {
            // Dropping the sender says that nobody decides at the moment.
            Self::Nobody | Self::Go(_) => {}
            Self::View(reply) => drop(reply.send(Err(error))),
        }
    }
}

/// A decision that is being saved.
pub(super) struct Saving {
    pub(super) next: Arc<Share>,
    pub(super) facts: Vec<Fact>,
    pub(super) result: Result<(), Refused>,
    pub(super) job: Job,
    /// On what it was decided, where others decide, too.
    pub(super) basis: Basis,
}

/// One living share.
pub(super) struct Slot {
    /// The share as it stands: everything but progress in it is saved.
    pub(super) share: Arc<Share>,
    /// Whether a save is on its way; decisions wait until it is done.
    pub(super) is_saving: bool,
    /// What is being saved, if a decision is.
    pub(super) saving: Option<Arc<Share>>,
    /// How it is held, where the store is shared with others; `None` until it was saved or read there.
    pub(super) hold: Option<Hold>,
    /// What was decided since the last save and wrote no line, where the store is shared: should somebody else have saved meanwhile, it
    /// is decided again. At most one for each request that ran.
    pub(super) unsaved: Vec<Event>,
    /// What was known here of a share that somebody else has saved meanwhile.
    pub(super) known_here: Option<Arc<Share>>,
    /// How it stands by news that came while something of it was being saved or looked up.
    pub(super) news: Option<Held>,
    /// The share with all of which the arrival was counted.
    pub(super) counted: Arc<Share>,
    /// Whether its local door stands open for recipients of a share that somebody else watches.
    pub(super) has_door: bool,
    /// Whether its way in is shut, and only others may send of it still.
    pub(super) is_shut: bool,
    /// Whether it was ever saved: nobody is to hear of one that was not.
    pub(super) is_known: bool,
    pub(super) queue: VecDeque<Job>,
    /// The share with what arrived since that save began, and what happened by it: what the next decision begins from.
    pub(super) ahead: Option<(Share, Vec<Fact>)>,
    /// Whether there is progress that is not saved.
    pub(super) is_dirty: bool,
    /// Who wants to know when everything is.
    await_save: Vec<oneshot::Sender<()>>,
    pub(super) saved: Steady,
    /// Who looked at the link's page, ahead of what the share says: that follows when it is told or saved.
    pub(super) looks: Looks,
    /// What of that is saved.
    pub(super) looks_saved: Looks,
    /// Whether there is something that was not told.
    pub(super) is_untold: bool,
    pub(super) told: Steady,
    /// When it wants to be woken, as it stands in the timers.
    pub(super) timer: Option<Steady>,
    /// The effect that is under way, and what gives it up.
    pub(super) running: Option<(Effect, CancellationToken)>,
    /// How often the wanted effect has failed in a row, which one that was, and why it did last.
    pub(super) failures: u32,
    /// How many changes of the backend's there had been when it was last asked to open.
    pub(super) changes_seen: u64,
    pub(super) tried: Option<Effect>,
    pub(super) problem: Option<String>,
    /// Since when nothing is being done about its way in.
    pub(super) settled_since: Option<Steady>,
    passes: HashMap<TransferId, (TransferSecret, Arc<Pass>)>,
    /// What was cut and may still tell how far it got.
    cut: Vec<Arc<Pass>>,
    sending: Arc<Semaphore>,
    speeds: HashMap<TransferId, Speed>,
}

impl Slot {
    pub(super) fn new(share: Share, now: Moment) -> Self {
        Self {
            looks: share.looks,
            looks_saved: share.looks,
            counted: Arc::new(share.clone()),
            share: Arc::new(share),
            hold: None,
            unsaved: Vec::new(),
            known_here: None,
            news: None,
            has_door: false,
            is_shut: false,
            is_saving: false,
            saving: None,
            is_known: false,
            queue: VecDeque::new(),
            ahead: None,
            is_dirty: false,
            await_save: Vec::new(),
            saved: now.steady,
            is_untold: true,
            told: now.steady,
            timer: None,
            running: None,
            failures: 0,
            changes_seen: 0,
            tried: None,
            problem: None,
            settled_since: None,
            passes: HashMap::new(),
            cut: Vec::new(),
            sending: Pass::sending(),
            speeds: HashMap::new(),
        }
    }

    /// Makes the passes what the share says: one for each transfer that may fetch, and no other.
    pub(super) fn sync_passes(&mut self, table: &Passes, keys: &Keys, digest: Option<[u8; 32]>) {
        self.cut.retain(|pass| pass.requests() > 0);
        let share = self.saving.as_ref().unwrap_or(&self.share).clone();
        let wanted = self.cut_all_but_those_of(&share, table);
        for transfer in self.share.transfers.iter().filter(|t| wanted.contains(&t.id)) {
            // What was cut since, because it is over and that is being saved, stays cut.
            if self.is_saving && !self.passes.contains_key(&transfer.id) {
                continue;
            }
            let (_, pass) = self.passes.entry(transfer.id).or_insert_with(|| {
                let etag = table.etag_of(&self.share.file).unwrap_or_else(|| etag(&self.share, keys));
                let pass = Arc::new(Pass::new(&self.share, transfer.id, etag, self.sending.clone()));
                let secret = keys.transfer_secret(transfer.id);
                table.insert(secret, pass.clone());
                (secret, pass)
            });
            if let Some(grace_end) = transfer.grace_end(&self.share.policy.limits) {
                pass.set_complete(grace_end);
            }
            if let Some(sha256) = digest {
                pass.set_digest(sha256);
            }
        }
    }

    /// Cuts what `share` does not let fetch; returns which transfers it does.
    pub(super) fn cut_all_but_those_of(&mut self, share: &Share, table: &Passes) -> HashSet<TransferId> {
        let may_fetch = |t: &&Transfer| share.phase == Phase::Open && (t.is_active() || t.is_completed());
        let wanted: HashSet<TransferId> = share.transfers.iter().filter(may_fetch).map(|t| t.id).collect();
        let over: Vec<TransferId> = self.passes.keys().filter(|id| !wanted.contains(id)).copied().collect();
        for id in over {
            if let Some((secret, pass)) = self.passes.remove(&id) {
                table.remove(secret);
                self.cut.push(pass);
            }
            self.speeds.remove(&id);
        }
        wanted
    }

    /// Cuts what is over by time at `now`, while that cannot be decided because an earlier decision is being saved.
    pub(super) fn cut_what_is_over(&mut self, now: Moment, table: &Passes) {
        if self.passes.is_empty() {
            return;
        }
        let stands = self.saving.as_ref().unwrap_or(&self.share);
        let mut then = self.ahead.as_ref().map_or_else(|| Share::clone(stands), |(ahead, _)| ahead.clone());
        let _ = then.on(Event::TimePassed, now);
        self.cut_all_but_those_of(&then, table);
    }

    /// Returns whether there is progress, or may be in a moment, that nobody was told of or that is not saved.
    pub(super) fn is_behind(&self) -> bool {
        self.is_untold || self.is_dirty || self.has_looks_to_tell() || self.share.transfers.iter().any(|t| t.open_requests() > 0)
    }

    /// Counts somebody who looked at the page of `link`.
    pub(super) fn looked(&mut self, link: TokenId, by: Looker) {
        if self.share.link == link && self.share.outcome().is_none() {
            self.looks.add(by);
        }
    }

    pub(super) fn has_looks_to_tell(&self) -> bool {
        self.looks != self.share.looks
    }

    /// Has the share say who looked. What is told may be ahead of what is saved.
    pub(super) fn take_looks(&mut self) {
        if self.has_looks_to_tell() {
            Arc::make_mut(&mut self.share).looks = self.looks;
        }
    }

    /// Returns whether the share is not closed, or will not be by what is being saved or waits for that.
    pub(super) fn may_live(&self) -> bool {
        let is_open = |share: &Arc<Share>| share.outcome().is_none();
        is_open(&self.share) || self.saving.as_ref().is_some_and(is_open) || self.queue.iter().any(Job::reopens)
    }

    /// Returns whether everything that is known of the share is saved.
    pub(super) fn is_saved(&self) -> bool {
        self.is_known && !self.is_dirty && !self.is_saving && self.queue.is_empty() && self.ahead.is_none()
    }

    /// Tells somebody when everything is saved. Each request asks once, when it has ended.
    pub(super) fn await_save(&mut self, done: oneshot::Sender<()>) {
        self.await_save.push(done);
    }

    /// Tells those who wait that everything is saved.
    pub(super) fn tell_saved(&mut self) {
        // Whoever asked may have left.
        for done in self.await_save.drain(..) {
            let _ = done.send(());
        }
    }

    /// Takes in what arrived while a save is on its way: a recipient who moves is not silent because our disk is.
    pub(super) fn hear(&mut self, event: &Event, now: Moment) {
        if matches!(event, Event::Delivered { .. }) {
            let stands = self.saving.as_ref().unwrap_or(&self.share);
            let (ahead, facts) = self.ahead.get_or_insert_with(|| (Share::clone(stands), Vec::new()));
            facts.extend(ahead.on(event.clone(), now).facts);
        }
    }

    /// Returns how many requests for its bytes are answered here.
    pub(super) fn requests_here(&self) -> usize {
        let valid = self.passes.values().map(|(_, pass)| pass.requests());
        valid.chain(self.cut.iter().map(|pass| pass.requests())).sum()
    }

    /// Cuts everything, whatever the share says.
    pub(super) fn cut_all(&mut self, table: &Passes) {
        table.cut_elsewhere(self.share.id);
        for (_, (secret, pass)) in self.passes.drain() {
            table.remove(secret);
            self.cut.push(pass);
        }
    }

    /// Returns what was cut since this was last asked and may still tell how far it got.
    pub(super) fn take_cut(&mut self) -> Vec<Arc<Pass>> {
        std::mem::take(&mut self.cut)
    }

    /// Reads how far the transfers have got.
    pub(super) fn read_speeds(&mut self, now: Moment) {
        for transfer in self.share.transfers.iter().filter(|t| t.is_active() && t.begun) {
            self.speeds.entry(transfer.id).or_default().read(transfer.coverage.covered_bytes(), now.steady);
        }
    }

    pub(super) fn view(&self, now: Moment, link: Option<String>, tunnel: &'static str, sha256: Option<[u8; 32]>) -> View {
        let share = &self.share;
        let speeds: HashMap<TransferId, u64> = self.speeds.iter().map(|(id, speed)| (*id, speed.bytes_per_second(now.steady))).collect();
        let active = share.transfers.iter().filter(|t| t.is_active());
        let soonest = active.filter_map(|t| {
            let left = share.file.size_bytes() - t.coverage.covered_bytes().min(share.file.size_bytes());
            let speed = speeds.get(&t.id).copied().filter(|speed| *speed > 0)?;
            Some(Duration::from_secs(left.div_ceil(speed)))
        });
        View {
            share: share.clone(),
            state: share.state(now),
            url: link,
            tunnel,
            bytes_per_second: speeds.values().sum(),
            eta: soonest.min(),
            sha256,
            tunnel_problem: self.problem.clone(),
            is_watched_here: true,
            until: share.deadline().map(|deadline| Timestamp(now.wall.0.saturating_add(deadline.at.0 - now.steady.0))),
            speeds,
        }
    }
}

/// Makes the strong validator of a share's bytes. It tells one state of the file from another and gives none of it away.
fn etag(share: &Share, keys: &Keys) -> String {
    let id = &share.file.identity;
    let mut digest = Sha256::new_with_prefix(b"portcullis etag\0");
    digest.update(keys.transfer_secret(TransferId::from_bytes([0; 16])).expose());
    for part in [id.device, id.inode, id.size_bytes, id.modified_ns as u64, id.changed_ns as u64] {
        digest.update(part.to_le_bytes());
    }
    let hex: String = digest.finalize()[..12].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}\"")
}
