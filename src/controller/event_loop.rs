//! The task: inputs in, one at a time; decide, save, then act.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::effects::Opening;
use super::handle::{Command, Handle, Look, Shared};
use super::reconcile::{self, Fix};
use super::slot::{Answer, Job, MAX_QUEUED, Saving, Slot};
use super::together::{Together, next_news};
use super::{Change, ControllerError, Parts, View, effects};
use crate::causes::Causes;
use crate::delivery::Pass;
use crate::delivery::nginx::LeftOver;
use crate::meter::Report;
use crate::metrics::Metrics;
use crate::share::{Coverage, Effect, Event, Evidence, Fact, FileIdentity, Moment, Phase, Refused, Share, ShareId, State, Steady};
use crate::store::audit::AuditEntry;
use crate::store::shared::{Basis, Beat, Cursor, Held, Hold, News};
use crate::store::{Record, Save, StoreError};
use crate::tunnel::{Standing, TunnelError};

/// The longest sleep: what was not told is told, and a jump of the wall clock is noticed, within it.
const TICK: Duration = Duration::from_millis(250);
/// The shortest sleep: what is due and waits for its share's save stays due.
const BREATH: Duration = Duration::from_millis(10);
/// How often a share's progress is told at most.
const TELL_EVERY: Duration = Duration::from_millis(500);
/// How often progress is saved: after a crash so much must be fetched again at most.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// How often it is saved who looked at a link, where nothing else is: anybody who has the link can look without end, and must not
/// wear the disk out by it. A crash forgets so much.
const SAVE_LOOKS_EVERY: Duration = Duration::from_secs(5);
/// How many looks are counted before anything else is heard again.
const LOOKS_AT_ONCE: usize = 256;
/// How often the store and what is really open are compared.
const RECONCILE_EVERY: Duration = Duration::from_secs(15);
/// How soon, where one of a share's ways in looked gone while something else was being done about the share.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long a save that failed waits before it is tried again.
const RETRY_SAVE: Duration = Duration::from_secs(1);
/// How long a way in that never opened is tried for.
const MAX_OPENING: Duration = Duration::from_secs(60);
/// How far the two clocks may drift apart between two ticks before that counts as a jump.
const MAX_DRIFT_MS: u64 = 1000;
/// How long the last saves and effects may take once the program stops.
const LAST_WORK: Duration = Duration::from_secs(5);
/// How long the progress that is not saved then may take beyond that. A disk that is well takes milliseconds.
const LAST_SAVES: Duration = Duration::from_secs(1);

/// The deciding task.
pub struct Controller {
    pub(super) parts: Parts,
    pub(super) shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
    reports: mpsc::Receiver<Report>,
    looks: mpsc::Receiver<Look>,
    digests: broadcast::Receiver<(FileIdentity, [u8; 32])>,
    pub(super) slots: HashMap<ShareId, Slot>,
    timers: BTreeSet<(Steady, ShareId)>,
    pub(super) work: FuturesUnordered<BoxFuture<'static, Done>>,
    /// Whether who moves bytes is heard before who asks, the next time.
    is_reports_turn: bool,
    is_reconciling: bool,
    /// Whether something has changed since the list was asked for that is on its way.
    is_list_stale: bool,
    /// Tells when what stands open may have changed.
    changes: watch::Receiver<u64>,
    /// When the store and what is really open are compared again.
    reconcile_at: Steady,
    /// The wall clock minus the steady one at the last look.
    drift_ms: i64,
    /// When the time was last looked at.
    ticked: Instant,
    /// When everything is cut, once the program stops.
    pub(super) leave_at: Option<Steady>,
    /// What another process was sending when an earlier process of ours ended.
    left_over: Vec<LeftOver>,
    /// Who else shares the store, where anybody does.
    pub(super) together: Option<Together>,
}

/// The lines that a decision wrote into the event log.
pub(super) type Records = Arc<[Record]>;

/// What came of work that was begun.
pub(super) enum Done {
    Saved(ShareId, Saving, Result<(Records, Option<Hold>), StoreError>),
    ProgressSaved(ShareId, Result<Option<Hold>, StoreError>),
    /// A share was looked up before it is decided about, or because somebody asked for that.
    Stands(ShareId, Result<Option<Held>, StoreError>),
    LookedUp(ShareId, Result<Option<Held>, StoreError>, Option<oneshot::Sender<()>>),
    /// It is time to look one up again.
    LookAgain(ShareId),
    All(Result<(Vec<Held>, Cursor), StoreError>),
    AllMissed,
    Beat(Steady, Result<Beat, StoreError>),
    Taken(Result<Vec<Held>, StoreError>),
    RetrySave(ShareId),
    Opened(ShareId, Opening, u64),
    /// A way in that was given up at a stop has opened, or never will.
    OpenedLate(ShareId),
    Closed(ShareId, Result<(), TunnelError>),
    StrayClosed(ShareId, Result<(), TunnelError>),
    Listed(Steady, Result<Standing, TunnelError>),
}

enum Input {
    Done(Done),
    Command(Command),
    Report(Report),
    Look(Look),
    Digest(FileIdentity),
    TunnelChanged,
    News(Result<News, StoreError>),
    Tick,
    Stop,
}

impl Controller {
    /// Loads the living shares and takes them up. Nothing is decided until [`Controller::run`] runs.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read.
    pub async fn load(parts: Parts, reports: mpsc::Receiver<Report>) -> Result<(Self, Handle), StoreError> {
        let now = parts.clock.now();
        let (together, living, held) = match &parts.sharing {
            Some(sharing) => {
                let (together, held) = Together::begin(sharing, now).await?;
                (Some(together), Vec::new(), held)
            }
            None => (None, parts.store.living().await?, Vec::new()),
        };
        let (shared, commands, looks) = Shared::new(&parts);
        let shared = Arc::new(shared);
        let mut controller = Self {
            digests: parts.digests.watch(),
            shared: shared.clone(),
            commands,
            reports,
            looks,
            slots: HashMap::new(),
            timers: BTreeSet::new(),
            work: FuturesUnordered::new(),
            is_reports_turn: false,
            is_reconciling: false,
            is_list_stale: false,
            changes: parts.tunnel.changes(),
            reconcile_at: now.steady,
            drift_ms: now.wall.0.saturating_sub(now.steady.0),
            ticked: Instant::now(),
            leave_at: None,
            left_over: Vec::new(),
            together,
            parts,
        };
        for held in held {
            let left_over = controller.together.as_ref().map(|together| together.left_over(&held.share, &controller.parts));
            controller.left_over.extend(left_over.into_iter().flatten());
            controller.begin_with(&held, now);
        }
        for mut share in living {
            let id = share.id;
            // Nobody is to read that it is open before it is. What comes of the restart is decided, and saved, by `run`.
            let mut restarted = share.clone();
            let is_quiet = restarted.on(Event::Restarted, now).facts.is_empty();
            let is_offered = restarted.outcome().is_none();
            for (transfer, carried) in restarted.transfers.iter().flat_map(|it| it.carried().map(move |carried| (it, carried))) {
                let may_go_on = is_offered && (transfer.is_active() || transfer.is_completed());
                let elsewhere = controller.parts.passes.send_elsewhere(id);
                controller.left_over.push(LeftOver { share: id, carried, may_go_on, elsewhere });
            }
            if is_quiet {
                share = restarted;
            }
            controller.parts.digests.want(&share.file.path, share.file.identity);
            let mut slot = Slot::new(share, now);
            slot.is_known = true;
            controller.slots.insert(id, slot);
            controller.publish(id, Records::default(), now);
        }
        Ok((controller, Handle(shared)))
    }

    /// Returns what another process was sending when an earlier process of ours ended, once: it may still be. None of it counts
    /// as a request that runs before it is reported as opened again.
    pub fn take_left_over(&mut self) -> Vec<LeftOver> {
        std::mem::take(&mut self.left_over)
    }

    /// Decides until `shutdown`; then shuts every way in, lets transfers that run go on for as long as the settings say, and
    /// comes back when all is saved. The shares live on in the store.
    pub async fn run(mut self, shutdown: CancellationToken) {
        if self.together.is_some() {
            self.take_up_together();
        } else {
            let restarted: Vec<ShareId> = self.slots.keys().copied().collect();
            for id in restarted {
                self.decide(id, Job::of(Event::Restarted));
            }
        }
        self.reconcile();
        loop {
            let input = self.next(&shutdown).await;
            self.handle(input);
            let is_replaced = self.together.as_ref().is_some_and(|together| together.is_replaced);
            if is_replaced
                || self.leave_at.is_some() && self.parts.passes.requests() == 0
                || self.leave_at.is_some_and(|at| self.parts.clock.now().steady >= at)
            {
                return self.leave().await;
            }
        }
    }

    async fn next(&mut self, shutdown: &CancellationToken) -> Input {
        let now = self.parts.clock.now();
        let until_timer = self.timers.first().map_or(TICK, |(at, _)| at.since(now.steady));
        let said = next_said(&mut self.commands, &mut self.reports, self.is_reports_turn);
        // Always in this order, so that a simulation can repeat it. Nobody starves: between two ticks there is a breath, work
        // ends, and the others take turns.
        tokio::select! {
            biased;
            () = shutdown.cancelled(), if self.leave_at.is_none() => Input::Stop,
            // Counted from the last tick: however much else comes in, time is not forgotten.
            () = sleep_until(self.ticked + until_timer.clamp(BREATH, TICK)) => Input::Tick,
            Some(done) = self.work.next(), if !self.work.is_empty() => Input::Done(done),
            Ok((identity, _)) = self.digests.recv() => Input::Digest(identity),
            Ok(()) = self.changes.changed() => Input::TunnelChanged,
            Some(news) = next_news(&mut self.together) => Input::News(news),
            said = said => said,
            // Last: whoever looks, however often, keeps nobody waiting. What is not counted in time is dropped.
            Some(look) = self.looks.recv() => Input::Look(look),
        }
    }

    fn handle(&mut self, input: Input) {
        match input {
            Input::Done(done) => self.done(done),
            Input::Command(command) => {
                self.is_reports_turn = true;
                self.command(command);
            }
            Input::Report(report) => {
                self.is_reports_turn = false;
                self.report(report);
            }
            Input::Look(look) => self.looked(look),
            Input::Digest(identity) => {
                let of_file = |slot: &&Slot| slot.share.file.identity == identity;
                let ids: Vec<ShareId> = self.slots.values().filter(of_file).map(|slot| slot.share.id).collect();
                for id in ids {
                    self.follow(id);
                }
            }
            Input::TunnelChanged => self.reconcile(),
            Input::News(news) => self.news(news),
            Input::Tick => self.tick(),
            Input::Stop => self.stop(),
        }
    }

    /// Counts who looked. It is told and saved when it is time to.
    fn looked(&mut self, first: Look) {
        let mut next = Some(first);
        let mut left = LOOKS_AT_ONCE;
        while let Some((id, link, by)) = next {
            if let Some(slot) = self.slots.get_mut(&id) {
                slot.looked(link, by);
            }
            left -= 1;
            next = if left > 0 { self.looks.try_recv().ok() } else { None };
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            // Nothing is begun any more, also for who asked a moment too early to be told so.
            Command::Create { answer, .. } | Command::TakeUp { answer, .. } if self.leave_at.is_some() => {
                answer.fail(ControllerError::Busy)
            }
            Command::Create { taken_back, answer, .. } | Command::TakeUp { taken_back, answer, .. } if taken_back.is_cancelled() => {
                answer.fail(ControllerError::Overtaken)
            }
            // Another controller was asked for the same at the same moment.
            Command::Create { share, answer, .. } if self.slots.contains_key(&share.id) => answer.fail(ControllerError::Busy),
            Command::Create { share, mut facts, line, answer, .. } => {
                let (id, now) = (share.id, self.parts.clock.now());
                let mut next = (*share).clone();
                let mut slot = Slot::new(*share, now);
                slot.is_saving = true;
                self.slots.insert(id, slot);
                // A disk's flush is most of what making a share takes, so one save says both where one can.
                if next.effect() == Some(Effect::OpenTunnel) && self.parts.tunnel.opens_at_once() {
                    facts.extend(next.on(Event::TunnelOpened, now).facts);
                }
                let job = Job::new(Vec::new(), answer);
                self.save(id, Saving { next: Arc::new(next), facts, result: Ok(()), job, basis: Basis::default() }, line);
            }
            // Whoever asked may have lost patience.
            Command::NotClosed(answer) => {
                let _ = answer.send(self.slots.values().filter(|slot| slot.may_live()).map(|slot| slot.share.id).collect());
            }
            Command::Ping(sign) => drop(sign.send(())),
            Command::LookUp(_, done) if self.together.is_none() => drop(done.send(())),
            Command::LookUp(id, done) => self.look_up(id, Some(done)),
            Command::Act { id, event, answer } => self.decide(id, Job::new(vec![event], answer)),
            Command::TakeUp { share, event, answer, .. } => {
                let (id, now) = (share.id, self.parts.clock.now());
                // Two owners may open it again at once; the second is told that it is not closed.
                self.slots.entry(id).or_insert_with(|| Slot::new(*share, now));
                self.decide(id, Job::new(vec![event], answer));
            }
        }
    }

    fn report(&mut self, report: Report) {
        let (share, job) = match report {
            Report::Opened { request, range, carrier, go } => {
                let event = Event::RequestOpened { transfer: request.transfer, request: request.id, range, carrier };
                (request.share, Job::new(vec![event], Answer::Go(go)))
            }
            Report::Arrived { request, range, evidence } => {
                let event = Event::Delivered { transfer: request.transfer, range, evidence };
                match self.slots.get_mut(&request.share) {
                    Some(slot) if slot.is_saving => return slot.hear(&event, self.parts.clock.now()),
                    Some(_) => (request.share, Job::of(event)),
                    None => return,
                }
            }
            Report::Ended { request, arrived, evidence, in_doubt } => {
                let arrived = arrived.map(|range| Event::Delivered { transfer: request.transfer, range, evidence });
                let ended = Event::RequestEnded { transfer: request.transfer, request: request.id, in_doubt };
                (request.share, Job::new(arrived.into_iter().chain([ended]).collect(), Answer::Nobody))
            }
            Report::SourceChanged { share } => (share, Job::of(Event::SourceChanged)),
            Report::Saved { share, done } => {
                match self.slots.get_mut(&share) {
                    Some(slot) if !slot.is_saved() => slot.await_save(done),
                    // Whoever asked may have left.
                    Some(_) | None => drop(done.send(())),
                }
                return;
            }
        };
        self.decide(share, job);
    }

    /// Lets something happen to a share, or puts it behind what is being saved.
    pub(super) fn decide(&mut self, id: ShareId, job: Job) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return job.answer.fail(ControllerError::UnknownShare(id));
        };
        if slot.is_saving {
            for event in &job.events {
                slot.hear(event, self.parts.clock.now());
            }
            // A disk that hangs must not keep the bytes flowing.
            if job.shuts() {
                slot.cut_all(&self.parts.passes);
            }
            let is_nobodys = matches!(job.answer, Answer::Nobody);
            if is_nobodys && job.shuts() && slot.queue.iter().any(Job::shuts) {
                // Every request for a file that changed says so; once is enough.
            } else if is_nobodys || slot.queue.len() < MAX_QUEUED {
                slot.queue.push_back(job);
            } else {
                job.answer.fail(ControllerError::Busy);
            }
            return;
        }
        if job.is_watchers() && self.together.as_ref().is_some_and(|together| !together.watches(slot)) {
            // It comes of what was begun when it was the watcher.
            return job.answer.fail(ControllerError::Busy);
        }
        let now = self.parts.clock.now();
        let (mut next, mut facts) = slot.ahead.take().unwrap_or_else(|| (Share::clone(&slot.share), Vec::new()));
        // Who looked is no part of what is decided; it goes along where that is saved.
        next.looks = slot.share.looks;
        let mut result = Ok(());
        for event in &job.events {
            let decided = next.on(event.clone(), now);
            facts.extend(decided.facts);
            result = decided.answer;
        }
        if self.together.is_some() && !self.parts.tunnel.opens_at_once() && job.events.contains(&Event::TunnelOpened) {
            next.reached_at = Some(self.parts.tunnel.public_url(id).to_string());
        }
        if result.is_err() && self.together.is_some() && !job.is_second_try && !matches!(job.answer, Answer::Nobody) {
            // Somebody else may have decided something that allows it.
            slot.ahead = Some((next, facts)).filter(|(_, facts)| !facts.is_empty());
            slot.queue.push_front(Job { is_second_try: true, ..job });
            return self.look_before_deciding(id);
        }
        // That a request runs is saved before its first byte leaves, too: after a crash it says what may have arrived.
        let opens = matches!(job.answer, Answer::Go(_)) && result.is_ok();
        if !facts.is_empty() || opens {
            if next.link == slot.share.link {
                next.looks = slot.looks;
            } else {
                slot.looks = next.looks;
            }
            let next = Arc::new(next);
            (slot.is_saving, slot.saving) = (true, Some(next.clone()));
            // What is over is over at once, however long the disk takes.
            slot.cut_all_but_those_of(&next, &self.parts.passes);
            let basis = Together::basis(slot, &job);
            return self.save(id, Saving { next, facts, result, job, basis }, None);
        }
        if next != *slot.share {
            count_arrived(&self.parts.metrics, &slot.counted, &next);
            (slot.share, slot.is_dirty, slot.is_untold) = (Arc::new(next), true, true);
            slot.counted = slot.share.clone();
            if self.together.is_some() {
                // What arrived is in its coverage, and time passes by itself.
                let is_kept = |event: &&Event| !matches!(event, Event::Delivered { .. } | Event::TimePassed);
                slot.unsaved.extend(job.events.iter().filter(is_kept).cloned());
            }
        }
        let view = self.follow(id);
        if let Some(view) = view {
            job.answer.give(result, &view);
        }
    }

    /// Saves a decision, and with it the audit line of whoever asked for it, where it has none yet.
    fn save(&mut self, id: ShareId, saving: Saving, line: Option<AuditEntry>) {
        let (metrics, at) = (self.parts.metrics.clone(), self.parts.clock.now());
        let (store, shared) = (self.parts.store.clone(), self.together.as_ref().map(|together| (together.store.clone(), together.me)));
        let work = async move {
            let save = Save { share: saving.next.clone(), facts: saving.facts.clone(), at };
            // It may have waited for the NAS; lines stand in the order of their times.
            let line = line.map(|line| AuditEntry { at: at.wall, ..line });
            let began = Instant::now();
            let result = match (shared, line) {
                (Some((shared, me)), line) => {
                    shared.save_if(me, save, saving.basis, line).await.map(|written| (written.numbers, Some(written.hold)))
                }
                (None, Some(line)) => store.save_with_line(save, line).await.map(|seqs| (seqs, None)),
                (None, None) => store.save(save).await.map(|seqs| (seqs, None)),
            };
            metrics.saved(began.elapsed(), result.is_ok());
            let result = result.map(|(seqs, hold)| {
                let record = |(seq, fact): (u64, &Fact)| Record { seq, at: at.wall, share: id, fact: fact.clone() };
                (seqs.into_iter().zip(&saving.facts).map(record).collect(), hold)
            });
            Done::Saved(id, saving, result)
        };
        self.work.push(work.boxed());
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Saved(id, saving, Ok((records, hold))) => {
                self.saved(id, saving, records, hold);
                self.tell_if_saved(id);
            }
            Done::Saved(id, saving, Err(StoreError::Conflict | StoreError::Overtaken)) if !saving.job.events.is_empty() => {
                self.look_again(id, saving);
            }
            Done::Saved(id, saving, Err(error)) => self.not_saved(id, saving, error),
            Done::ProgressSaved(id, Err(StoreError::Conflict | StoreError::Overtaken)) => self.look_before_deciding(id),
            Done::ProgressSaved(id, result) => {
                if let Some(slot) = self.slots.get_mut(&id) {
                    slot.is_saving = false;
                    slot.is_dirty |= result.is_err();
                    if let Ok(hold) = result {
                        slot.unsaved.clear();
                        slot.hold = hold.or(slot.hold);
                    }
                    self.take_up(id);
                    self.set_timer(id);
                    self.tell_if_saved(id);
                }
            }
            Done::Stands(id, held) => self.stands(id, held),
            Done::LookedUp(id, held, done) => self.looked_up(id, held, done),
            Done::LookAgain(id) => self.look_before_deciding(id),
            Done::All(all) => self.all(all),
            Done::AllMissed => self.look_at_all(),
            Done::Beat(sent, beat) => self.beaten(sent, beat),
            Done::Taken(taken) => self.taken(taken),
            Done::RetrySave(id) => {
                self.take_up(id);
                // What could not be saved did not happen: what was cut for it may be fetched again.
                drop(self.follow(id));
                self.tell_if_saved(id);
            }
            Done::Opened(id, opening, seen) => {
                if let Some(slot) = self.slots.get_mut(&id) {
                    slot.changes_seen = seen;
                }
                self.opened(id, opening);
            }
            Done::OpenedLate(id) => self.close_stray(id, Vec::new()),
            Done::Closed(id, result) => self.closed(id, result),
            Done::StrayClosed(id, Ok(())) => tracing::debug!(share.id = %id, "Shut the way in to {id}"),
            Done::StrayClosed(id, Err(error)) => {
                tracing::warn!(share.id = %id, error = %Causes(&error), "Could not shut the way in to {id}; it is looked at again")
            }
            Done::Listed(asked, result) => self.listed(asked, result),
        }
    }

    pub(super) fn tell_if_saved(&mut self, id: ShareId) {
        if let Some(slot) = self.slots.get_mut(&id).filter(|slot| slot.is_saved()) {
            slot.tell_saved();
        }
    }

    fn saved(&mut self, id: ShareId, saving: Saving, records: Records, hold: Option<Hold>) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        count_arrived(&self.parts.metrics, &slot.counted, &saving.next);
        (slot.counted, slot.hold) = (saving.next.clone(), hold.or(slot.hold));
        slot.unsaved.clear();
        (slot.share, slot.is_saving, slot.saving, slot.is_dirty, slot.is_known) = (saving.next, false, None, false, true);
        (slot.saved, slot.looks_saved) = (self.parts.clock.now().steady, slot.share.looks);
        for fact in &saving.facts {
            self.parts.metrics.happened(fact);
            tracing::info!(share.id = %id, fact = ?for_the_log(fact), "{}", words_of(fact));
        }
        if saving.facts.iter().any(|fact| matches!(fact, Fact::Reopened | Fact::Undone)) {
            // Whoever else would open it has read it as it was before, and may be told of it only when it is closed once more.
            self.shared.intents.take_back(id);
        }
        let opens = saving.facts.contains(&Fact::Created) && slot.share.phase == Phase::Open;
        if opens && self.leave_at.is_none() {
            self.open_at_once(id);
        }
        let view = self.follow_with(id, records);
        if let Some(mut view) = view {
            if opens && self.leave_at.is_some() {
                // It is made, and the next start opens it; nobody is to be told that it is open already.
                Arc::make_mut(&mut view).state = State::Opening;
            }
            saving.job.answer.give(saving.result, &view);
        }
        self.take_up(id);
    }

    /// Opens a way in that is saved as open already. What a crash leaves shut in between, the next start opens.
    fn open_at_once(&mut self, id: ShareId) {
        let began = Instant::now();
        let opened = self.parts.tunnel.open(id).now_or_never();
        debug_assert!(matches!(opened, Some(Ok(()))), "a tunnel that opens at once does");
        self.parts.metrics.tunnel_opened(began.elapsed(), matches!(opened, Some(Ok(()))));
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.has_door = true;
        }
    }

    /// A decision could not be saved: it did not happen. Whoever asked is told; what nobody asked for is tried again. But
    /// what was to be shut is shut all the same, since that is the safe side.
    fn not_saved(&mut self, id: ShareId, saving: Saving, error: StoreError) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let is_new = saving.job.events.is_empty();
        if is_new {
            // It was never saved, so it never was.
            let waited = self.slots.remove(&id).map_or_else(VecDeque::new, |slot| slot.queue);
            if matches!(error, StoreError::Unavailable { .. } | StoreError::Conflict) {
                self.may_have_been_saved(id);
            }
            waited.into_iter().for_each(|job| job.answer.fail(ControllerError::UnknownShare(id)));
            return saving.job.answer.fail(error.into());
        }
        if matches!(error, StoreError::Spent) {
            (slot.is_saving, slot.ahead) = (false, None);
            let answer = saving.job.answer;
            if matches!(answer, Answer::Nobody) {
                tracing::error!(share.id = %id, "The store refused what was decided for share {id}");
            }
            answer.fail(ControllerError::Refused(Refused::Spent));
            self.take_up(id);
            if self.slots.get(&id).is_some_and(|slot| !slot.is_saving && slot.share.is_closed()) {
                // Its close was to be taken back and was not: it does not live.
                self.forget(id);
            }
            return;
        }
        tracing::error!(share.id = %id, error = %Causes(&error), "Could not save share {id}; trying again");
        // It went on from what did not happen; the next readings say it again, and go on from what did.
        (slot.ahead, slot.saving) = (None, None);
        let Saving { next, job, .. } = saving;
        // Whoever waited behind it is told now: the next try comes later, and may fail as well.
        // But what was to shut it stays in line, whoever asked for it.
        let mut waited = VecDeque::new();
        for job in std::mem::take(&mut slot.queue) {
            let is_nobodys = matches!(job.answer, Answer::Nobody);
            if is_nobodys || job.shuts() {
                slot.queue.push_back(Job::new(job.events.clone(), Answer::Nobody));
            }
            if !is_nobodys {
                waited.push_back(job);
            }
        }
        let must_happen = matches!(job.answer, Answer::Nobody) || next.outcome().is_some();
        if must_happen {
            slot.queue.push_front(Job::new(job.events, Answer::Nobody));
        }
        for job in waited {
            job.answer.fail(ControllerError::Busy);
        }
        job.answer.fail(error.into());
        if slot.share.is_closed() {
            // It was to be opened again and was not: it does not live.
            self.may_have_been_saved(id);
            return self.forget(id);
        }
        if next.outcome().is_some() {
            let cut = slot.take_cut();
            self.close_stray(id, cut);
        }
        // The slot stays shut for decisions until the store had time to come back.
        self.work.push(
            async move {
                sleep(RETRY_SAVE).await;
                Done::RetrySave(id)
            }
            .boxed(),
        );
    }

    /// Decides what waited for a save.
    pub(super) fn take_up(&mut self, id: ShareId) {
        if let Some(slot) = self.slots.get_mut(&id) {
            (slot.is_saving, slot.saving) = (false, None);
        }
        self.take_news(id);
        while let Some(slot) = self.slots.get_mut(&id)
            && !slot.is_saving
            && let Some(job) = slot.queue.pop_front()
        {
            self.decide(id, job);
        }
        if self.slots.get(&id).is_some_and(|slot| !slot.is_saving && slot.ahead.is_some()) {
            self.decide(id, Job::of(Event::TimePassed));
        }
    }

    /// Makes everything around a share what the share says: passes, effects, its timer, its view.
    pub(super) fn follow(&mut self, id: ShareId) -> Option<Arc<View>> {
        self.follow_with(id, Records::default())
    }

    /// As [`Self::follow`], for what wrote lines into the event log.
    pub(super) fn follow_with(&mut self, id: ShareId, records: Records) -> Option<Arc<View>> {
        let now = self.parts.clock.now();
        let slot = self.slots.get_mut(&id)?;
        slot.read_speeds(now);
        let digest = self.parts.digests.known(slot.share.file.identity);
        if self.together.as_ref().is_some_and(|together| together.is_blind) {
            slot.cut_all(&self.parts.passes);
        } else {
            slot.sync_passes(&self.parts.passes, &self.parts.keys, digest);
        }
        // One that is being opened again stands here as closed until that is saved: a checksum that comes meanwhile ends nothing.
        // Nor is one forgotten that waits in line to be: somebody has looked at it from outside, and that was saved first.
        // And what others have written since is looked at first.
        let is_closed = slot.share.is_closed() && !slot.is_saving && slot.news.is_none() && !slot.queue.iter().any(Job::reopens);
        self.act(id, now);
        self.follow_door(id);
        self.set_timer(id);
        let view = self.publish(id, records, now);
        if is_closed {
            self.forget(id);
        }
        view
    }

    /// Starts what the share wants done, and gives up what it wants no longer.
    fn act(&mut self, id: ShareId, now: Moment) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        // What is not saved does nothing.
        if !slot.is_known {
            return;
        }
        let watches = self.together.as_ref().is_none_or(|together| together.watches(slot) && !together.is_blind);
        let wanted = slot.share.effect().filter(|_| watches);
        if let Some((running, given_up)) = &slot.running {
            if wanted != Some(*running) {
                given_up.cancel();
            }
            return;
        }
        let Some(effect) = wanted else {
            slot.settled_since.get_or_insert(now.steady);
            return;
        };
        if self.leave_at.is_some() && effect == Effect::OpenTunnel {
            return;
        }
        if slot.tried.replace(effect) != Some(effect) {
            // What went before it says nothing of it: a close does not wait because opens have failed.
            slot.failures = 0;
        }
        let given_up = CancellationToken::new();
        slot.running = Some((effect, given_up.clone()));
        slot.settled_since = None;
        let (tunnel, metrics, failures) = (self.parts.tunnel.clone(), self.parts.metrics.clone(), slot.failures);
        let tries = (failures, slot.changes_seen);
        self.work.push(match effect {
            Effect::OpenTunnel => async move {
                let (opening, seen) = effects::open(tunnel, metrics, id, tries, given_up).await;
                Done::Opened(id, opening, seen)
            }
            .boxed(),
            Effect::CloseTunnel => {
                let cut = slot.take_cut();
                let passes = self.parts.passes.clone();
                passes.cut_elsewhere(id);
                async move { Done::Closed(id, effects::close(tunnel, metrics, id, failures, (Some(passes), cut)).await) }.boxed()
            }
        });
    }

    fn opened(&mut self, id: ShareId, opening: Opening) {
        let now = self.parts.clock.now();
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.running = None;
        if self.leave_at.is_some() {
            // Whatever came of it, or comes: nobody is to find it open behind us.
            if let Opening::GivenUp(Some(late)) = opening {
                self.work.push(late.map(move |()| Done::OpenedLate(id)).boxed());
            }
            return self.close_stray(id, Vec::new());
        }
        let event = match opening {
            // Should it open all the same, the next comparison finds it.
            Opening::GivenUp(_) => None,
            Opening::Answered(Ok(())) => {
                slot.has_door = self.parts.tunnel.opens_at_once();
                (slot.failures, slot.problem) = (0, None);
                Some(Event::TunnelOpened)
            }
            Opening::Answered(Err(error)) => {
                tracing::warn!(share.id = %id, error = %Causes(&error), "Could not open the way in to share {id}");
                slot.failures = slot.failures.saturating_add(1);
                (slot.problem, slot.is_untold) = (Some(error.to_string()), true);
                let never = slot.share.opened.is_none();
                let began = slot.share.policy.starts.map_or(slot.share.created, |at| at).steady;
                let is_hopeless = never && (!error.is_retryable() || now.steady.since(began) > MAX_OPENING);
                is_hopeless.then_some(Event::TunnelFailed)
            }
        };
        match event {
            Some(event) => {
                if event == Event::TunnelFailed {
                    slot.failures = 0;
                }
                self.decide(id, Job::of(event));
            }
            None => drop(self.follow(id)),
        }
    }

    fn closed(&mut self, id: ShareId, result: Result<(), TunnelError>) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        match result {
            Ok(()) => {
                (slot.failures, slot.problem) = (0, None);
                if !self.is_sent_by_nobody_else(id) {
                    return;
                }
                if let Some(slot) = self.slots.get_mut(&id) {
                    (slot.running, slot.has_door) = (None, false);
                }
                self.decide(id, Job::of(Event::TunnelClosed));
            }
            Err(error) => {
                tracing::error!(share.id = %id, error = %Causes(&error), "Could not shut the way in to share {id}; trying again");
                slot.running = None;
                slot.failures = slot.failures.saturating_add(1);
                (slot.problem, slot.is_untold) = (Some(error.to_string()), true);
                self.follow(id);
            }
        }
    }

    fn set_timer(&mut self, id: ShareId) {
        let Some(slot) = self.slots.get(&id) else { return };
        if slot.is_known {
            let watches = self.watches(slot);
            self.arm(id, slot.share.deadline().map(|deadline| deadline.at).filter(|_| watches));
        }
    }

    /// Has a share looked at when the steady clock stands at `at`.
    fn arm(&mut self, id: ShareId, at: Option<Steady>) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        if at != slot.timer {
            if let Some(old) = slot.timer {
                self.timers.remove(&(old, id));
            }
            if let Some(new) = at {
                self.timers.insert((new, id));
            }
            slot.timer = at;
        }
    }

    /// Writes the share's view, and tells of it unless it is progress that was told a moment ago.
    pub(super) fn publish(&mut self, id: ShareId, records: Records, now: Moment) -> Option<Arc<View>> {
        let slot = self.slots.get_mut(&id)?;
        let watches = self.together.as_ref().is_none_or(|together| together.watches(slot));
        let view = Arc::new(View { is_watched_here: watches, ..self.shared.view_of_slot(slot, now) });
        if !slot.is_known {
            return Some(view);
        }
        self.shared.put(view.clone());
        if !records.is_empty() || slot.is_untold && now.steady.since(slot.told) >= TELL_EVERY {
            (slot.is_untold, slot.told) = (false, now.steady);
            self.shared.tell(Change { view: view.clone(), records });
        }
        Some(view)
    }

    pub(super) fn forget(&mut self, id: ShareId) {
        if let Some(mut slot) = self.slots.remove(&id) {
            slot.tell_saved();
            if let Some(at) = slot.timer {
                self.timers.remove(&(at, id));
            }
            self.shared.remove(id);
            for job in slot.queue {
                // Whoever waited in line gets the answer of the closed share.
                let mut closed = (*slot.share).clone();
                let now = self.parts.clock.now();
                let answers = job.events.into_iter().map(|event| closed.on(event, now).answer);
                let result = answers.last().unwrap_or(Ok(()));
                job.answer.give(result, &Arc::new(self.shared.view_of_share(slot.share.clone(), now)));
            }
        }
    }

    fn tick(&mut self) {
        self.look_at_the_time();
        // Counted from here: where a tick takes long, as long again is for everything else.
        self.ticked = Instant::now();
    }

    fn look_at_the_time(&mut self) {
        let now = self.parts.clock.now();
        let drift = now.wall.0.saturating_sub(now.steady.0);
        let jumped = drift.abs_diff(self.drift_ms) > MAX_DRIFT_MS;
        if jumped {
            tracing::warn!("The wall clock jumped by {} ms", drift.saturating_sub(self.drift_ms));
        }
        self.drift_ms = drift;
        let due: Vec<ShareId> = if jumped {
            self.slots.values().filter(|slot| self.watches(slot)).map(|slot| slot.share.id).collect()
        } else {
            self.timers.iter().take_while(|(at, _)| *at <= now.steady).map(|(_, id)| *id).collect()
        };
        for id in due {
            match self.slots.get_mut(&id) {
                // It is decided when the save is done; a disk that hangs must not keep the bytes flowing until then.
                Some(slot) if slot.is_saving => {
                    slot.cut_what_is_over(now, &self.parts.passes);
                    self.arm(id, Some(now.steady.plus(TICK)));
                }
                Some(_) => self.decide(id, Job::of(Event::TimePassed)),
                None => {}
            }
        }
        let is_behind = |slot: &&Slot| slot.is_known && (slot.is_behind() || are_looks_due(slot, now));
        let behind: Vec<ShareId> = self.slots.values().filter(is_behind).map(|slot| slot.share.id).collect();
        for id in behind {
            self.refresh(id, now);
        }
        self.tick_together(now.steady);
        if now.steady >= self.reconcile_at {
            self.reconcile();
        }
    }

    /// Tells and saves the progress of a share, if it is time to.
    fn refresh(&mut self, id: ShareId, now: Moment) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        if slot.is_behind() && now.steady.since(slot.told) >= TELL_EVERY {
            slot.is_untold = true;
            slot.take_looks();
            slot.read_speeds(now);
            self.publish(id, Records::default(), now);
        }
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let is_due = slot.is_dirty && now.steady.since(slot.saved) >= SAVE_EVERY || are_looks_due(slot, now);
        if is_due && !slot.is_saving {
            slot.take_looks();
            (slot.is_dirty, slot.is_saving, slot.saved, slot.looks_saved) = (false, true, now.steady, slot.looks);
            let (store, metrics, share) = (self.parts.store.clone(), self.parts.metrics.clone(), slot.share.clone());
            let basis = slot.hold.map_or_else(Basis::default, |hold| Basis { version: hold.version, fence: None });
            let shared = self.together.as_ref().map(|together| (together.store.clone(), together.me));
            let work = async move {
                let began = Instant::now();
                let save = Save { share, facts: Vec::new(), at: now };
                let result = match shared {
                    Some((shared, me)) => shared.save_if(me, save, basis, None).await.map(|written| Some(written.hold)),
                    None => store.save(save).await.map(|_| None),
                };
                metrics.saved(began.elapsed(), result.is_ok());
                Done::ProgressSaved(id, result)
            };
            self.work.push(work.boxed());
        }
    }

    fn reconcile(&mut self) {
        let now = self.parts.clock.now().steady;
        self.reconcile_at = now.plus(RECONCILE_EVERY);
        if self.leave_at.is_some() {
            return;
        }
        if self.is_reconciling {
            self.is_list_stale = true;
            return;
        }
        self.is_reconciling = true;
        self.list();
    }

    /// Asks which ways in stand open.
    fn list(&mut self) {
        let now = self.parts.clock.now().steady;
        let tunnel = self.parts.tunnel.clone();
        let work = async move {
            let listed = tokio::time::timeout(RECONCILE_EVERY, tunnel.list()).await;
            Done::Listed(now, listed.unwrap_or_else(|_| Err(TunnelError::Unavailable("no answer in time".to_owned()))))
        };
        self.work.push(work.boxed());
    }

    fn listed(&mut self, asked: Steady, result: Result<Standing, TunnelError>) {
        self.is_reconciling = false;
        if std::mem::take(&mut self.is_list_stale) {
            // It was asked for before something changed, and may speak of before or after.
            return self.reconcile();
        }
        let mut standing = match result {
            Ok(standing) => standing,
            Err(error) => return tracing::warn!(error = %Causes(&error), "Could not see which ways in stand open"),
        };
        if self.leave_at.is_some() {
            // None is wanted any more, and one that is shut now is not lost.
            return standing.open.into_iter().for_each(|id| self.close_stray(id, Vec::new()));
        }
        // The doors of what others watch are kept by what it says.
        let of_others = |slot: &&Slot| slot.has_door && !self.watches(slot);
        self.slots.values().filter(of_others).for_each(|slot| _ = standing.open.remove(&slot.share.id));
        let watched = self.slots.iter().filter(|(_, slot)| self.watches(slot));
        let living = watched.map(|(id, slot)| {
            let is_settled = !slot.is_saving && slot.settled_since.is_some_and(|since| since < asked);
            (*id, &slot.share.phase, is_settled)
        });
        let (fixes, now) = (reconcile::fixes(living, &standing), self.parts.clock.now().steady);
        for fix in fixes {
            match fix {
                Fix::LookAgain => self.reconcile_at = self.reconcile_at.min(now.plus(LOOK_AGAIN)),
                Fix::Lost(id) => self.decide(id, Job::of(Event::TunnelLost)),
                Fix::Close(id) => self.close_stray(id, Vec::new()),
                Fix::Revoke(id) => {
                    tracing::warn!(share.id = %id, "The way in to share {id} was taken away by somebody else; closing it");
                    self.decide(id, Job::of(Event::Revoked));
                }
            }
        }
    }

    /// Shuts every way in: nobody new comes. What runs goes on for a while.
    fn stop(&mut self) {
        let now = self.parts.clock.now().steady;
        let drain = self.shared.drain();
        self.leave_at = Some(now.plus(drain));
        self.shared.stop();
        // One that opens is shut when that has ended, one that closes is being shut.
        let may_be_open = |slot: &&Slot| slot.running.is_none() && matches!(slot.share.phase, Phase::Open | Phase::Opening);
        let open: Vec<ShareId> = self.slots.values().filter(may_be_open).map(|slot| slot.share.id).collect();
        if self.parts.passes.requests() > 0 {
            tracing::info!("Stopping: waiting up to {} s for downloads that run", drain.as_secs());
        }
        for (_, given_up) in
            self.slots.values().filter_map(|slot| slot.running.as_ref()).filter(|(effect, _)| *effect == Effect::OpenTunnel)
        {
            given_up.cancel();
        }
        for id in open {
            self.close_stray(id, Vec::new());
        }
        // What an earlier process left behind.
        self.list();
    }

    /// Shuts a way in without a word of the share's: it is not wanted, or cannot be waited for.
    pub(super) fn close_stray(&mut self, id: ShareId, cut: Vec<Arc<Pass>>) {
        let (tunnel, metrics) = (self.parts.tunnel.clone(), self.parts.metrics.clone());
        self.work.push(async move { Done::StrayClosed(id, effects::close(tunnel, metrics, id, 0, (None, cut)).await) }.boxed());
    }

    /// Cuts what still runs, and sees to it that what is known is saved.
    async fn leave(mut self) {
        let mut cut = Vec::new();
        for slot in self.slots.values_mut() {
            slot.cut_all(&self.parts.passes);
            cut.append(&mut slot.take_cut());
        }
        let told = async {
            while cut.iter().any(|pass| pass.requests() > 0) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), told).await;
        while let Ok(report) = self.reports.try_recv() {
            self.report(report);
        }
        let work = async {
            while let Some(done) = self.work.next().await {
                self.done(done);
            }
        };
        let mut is_done = tokio::time::timeout(LAST_WORK, work).await.is_ok();
        // Also where one way in hangs: what the others have got is not lost with it.
        for slot in self.slots.values_mut().filter(|slot| slot.is_known) {
            slot.take_looks();
        }
        // What arrived is worth more than who looked, should there be no time for both.
        let dirty = self.slots.values().filter(|slot| slot.is_dirty);
        let looked_at = self.slots.values().filter(|slot| !slot.is_dirty && slot.is_known && slot.share.looks != slot.looks_saved);
        let shared = self.together.take().map(|together| (together.store, together.me));
        let last_saves = async {
            for slot in dirty.chain(looked_at) {
                let save = Save { share: slot.share.clone(), facts: Vec::new(), at: self.parts.clock.now() };
                let saved = match (&shared, slot.hold) {
                    (Some((store, me)), Some(hold)) => {
                        let basis = Basis { version: hold.version, fence: None };
                        store.save_if(*me, save, basis, None).await.map(drop)
                    }
                    (Some(_), None) => Ok(()),
                    (None, _) => self.parts.store.save(save).await.map(drop),
                };
                if let Err(error) = saved {
                    tracing::warn!(share.id = %slot.share.id, error = %Causes(&error), "Could not save the last progress");
                }
            }
        };
        is_done &= tokio::time::timeout(LAST_SAVES, last_saves).await.is_ok();
        if let Some((store, me)) = shared {
            // What it watches is taken over at once.
            is_done &= matches!(tokio::time::timeout(LAST_SAVES, store.leave(me)).await, Ok(Ok(())));
        }
        if !is_done {
            tracing::warn!("Left before everything was done; the next start takes it up");
        }
    }
}

/// Returns what is said next: by who asks, or by who moves bytes.
async fn next_said(commands: &mut mpsc::Receiver<Command>, reports: &mut mpsc::Receiver<Report>, reports_first: bool) -> Input {
    if reports_first {
        tokio::select! {
            biased;
            Some(report) = reports.recv() => Input::Report(report),
            Some(command) = commands.recv() => Input::Command(command),
            else => std::future::pending().await,
        }
    } else {
        tokio::select! {
            biased;
            Some(command) = commands.recv() => Input::Command(command),
            Some(report) = reports.recv() => Input::Report(report),
            else => std::future::pending().await,
        }
    }
}

/// Returns whether it is time to save who looked at a share's link.
fn are_looks_due(slot: &Slot, now: Moment) -> bool {
    slot.looks != slot.looks_saved && now.steady.since(slot.saved) >= SAVE_LOOKS_EVERY
}

/// Leaves out where a recipient is: that is nobody's business who reads logs.
fn for_the_log(fact: &Fact) -> Fact {
    let mut fact = fact.clone();
    if let Fact::Ended { network, .. } = &mut fact {
        *network = None;
    }
    fact
}

/// Counts the bytes that arrived between two states of a share, each under the evidence that it first came with.
fn count_arrived(metrics: &Metrics, before: &Share, after: &Share) {
    for (index, transfer) in after.transfers.iter().enumerate() {
        let same_place = before.transfers.get(index).filter(|t| t.id == transfer.id);
        let old = same_place.or_else(|| before.transfer(transfer.id)).map(|t| &t.coverage);
        let mut rest = transfer.coverage.covered_bytes().saturating_sub(old.map_or(0, Coverage::covered_bytes));
        for evidence in [Evidence::HandedOver, Evidence::Acknowledged, Evidence::Confirmed] {
            if rest == 0 {
                break;
            }
            let had = old.map_or(0, |coverage| coverage.bytes_with(evidence));
            let count = transfer.coverage.bytes_with(evidence).saturating_sub(had).min(rest);
            metrics.arrived(evidence, count);
            rest -= count;
        }
    }
}

/// Says a fact as a sentence for the log.
fn words_of(fact: &Fact) -> &'static str {
    match fact {
        Fact::Created => "A share was made",
        Fact::Opened => "The way in is open",
        Fact::TunnelLost => "The way in was lost",
        Fact::Probed { .. } => "Somebody looked from outside",
        Fact::Extended { .. } => "The link lives longer",
        Fact::Reopened => "The share is offered again, with a new link",
        Fact::Undone => "The close was taken back: the link works again",
        Fact::Delivered => "Delivered",
        Fact::Closing { .. } => "Closing",
        Fact::Closed { .. } => "Closed: nothing of it can be reached",
        Fact::Redeemed { .. } => "The link was redeemed",
        Fact::Began { .. } => "The first byte leaves",
        Fact::Ended { .. } => "A transfer ended",
    }
}

impl Shared {
    fn view_of_slot(&self, slot: &Slot, now: Moment) -> View {
        let share: &Share = &slot.share;
        let link = (!share.is_closed()).then(|| self.link(share));
        slot.view(now, link, self.tunnel.backend(), self.digests.known(share.file.identity))
    }
}
