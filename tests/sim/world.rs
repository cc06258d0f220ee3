//! The simulated world: a machine with a disk and a tunnel that outlive the process, owners, recipients, and trouble.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, ready};
use portcullis::catalog::{Catalog, CatalogOptions, DigestCache, Digests};
use portcullis::clock::Clock;
use portcullis::controller::{Controller, Handle, Parts};
use portcullis::delivery::{Found, Passes};
use portcullis::meter::{self, Reports};
use portcullis::metrics::Metrics;
use portcullis::share::{Event, FileIdentity, Limits, Moment, Phase, Recipient as Who, Share, ShareId, Timestamp, Transfer, TransferId};
use portcullis::store::{EventQuery, MAX_PAGE, Save, StoreError};
use portcullis::token::{Key, Keys, random};
use portcullis::tunnel::{Doors, Standing, TunnelError};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::calls::Call;
use crate::chance::Chance;
use crate::clock::SimClock;
use crate::gate::{Gate, Op, SimTunnel};
use crate::oracle::Oracle;
use crate::recipients::{FILES, Recipient, Running};
use crate::store::{Disk, SimStore};

/// Short, so that a life fits into a simulation, and in the proportions that real ones have.
pub(crate) const LIMITS: Limits =
    Limits { max_tunnel: Duration::from_secs(60), stall_timeout: Duration::from_secs(10), grace_period: Duration::from_secs(5) };
/// In one world of so many no tunnel stands before the process.
const DIRECT_EVERY: u64 = 3;
/// How many lines of what happened are shown where something fails.
const TRACE_LINES: usize = 60;
/// How long bytes may leave after the time of their share was over, while its save hangs: two ticks of the controller and
/// one step of the simulation.
const LATE: Duration = Duration::from_millis(600);
/// How long, once nothing fails any more, until every door is shut and every question answered: the longest pause between
/// two tries and the longest wait for one of them are 30 s each, the doors are compared every 15 s, and the longest share
/// lives for its 60 s, another 60 s of a transfer that overruns them, and the time until that stalls.
const HEALED: Duration = Duration::from_secs(30 + 30 + 15 + 60 + 60 + 15);
/// How often the world is looked at while it heals.
const HEALING_STEP: Duration = Duration::from_millis(500);
/// How long, once nothing fails any more and no byte moves, until no transfer runs: the stall timeout, and while whatever
/// waits in line before that is saved at one a step.
const SILENCED: Duration = Duration::from_secs(10 + 10);

/// How much trouble there is, in thousandths of what is tried.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trouble {
    pub(crate) crash: u64,
    pub(crate) save_fails: u64,
    pub(crate) tunnel_fails: u64,
    pub(crate) unreadable: u64,
    pub(crate) clock_jumps: u64,
}

/// What runs until a crash.
pub(crate) struct Process {
    pub(crate) handle: Handle,
    pub(crate) reports: Reports,
    pub(crate) passes: Passes,
    pub(crate) requests: u64,
    /// How many requests for bytes of each transfer were asked for.
    pub(crate) asked: BTreeMap<TransferId, usize>,
    /// The ways in that were opened for this process, also those that it shut again.
    opened: BTreeSet<ShareId>,
    own: Option<Doors>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

pub(crate) struct World<'a> {
    pub(crate) chance: Chance,
    pub(crate) clock: Arc<SimClock>,
    pub(crate) process: Option<Process>,
    pub(crate) oracle: Oracle,
    pub(crate) recipients: Vec<Recipient>,
    pub(crate) running: Vec<Running>,
    pub(crate) calls: Vec<Call>,
    pub(crate) crashes: u64,
    pub(crate) steps: u64,
    trouble: Trouble,
    root: &'a Path,
    /// Where SQLite writes; `None` where the disk is memory.
    folder: Option<&'a Path>,
    disk: Option<Disk>,
    gate: Gate,
    is_unreadable: Arc<AtomicBool>,
    /// Whether the process itself is the way in; otherwise a tunnel is, and outlives it.
    is_direct: bool,
    /// What stands open outside, whatever the process believes.
    doors: BTreeSet<ShareId>,
    /// Those of them that opened when nobody waited for it any more: only the next comparison can find them.
    ghosts: BTreeSet<ShareId>,
    /// A write that was said to have failed, and may be found on the disk after a crash.
    phantom: Option<Save>,
    /// Since when each running request (by its number) sends what is over by time.
    late: Vec<(u64, Instant)>,
    trace: Vec<String>,
    pub(crate) print: u64,
}

impl<'a> World<'a> {
    /// Makes a world whose files lie in `root`, with SQLite in `folder` if there is one.
    pub(crate) fn new(seed: u64, root: &'a Path, folder: Option<&'a Path>, trouble: Trouble) -> Self {
        Self {
            chance: Chance::new(seed),
            clock: Arc::new(SimClock::new()),
            process: None,
            oracle: Oracle::default(),
            recipients: Vec::new(),
            running: Vec::new(),
            calls: Vec::new(),
            crashes: 0,
            steps: 0,
            trouble,
            root,
            folder,
            disk: Some(folder.map_or_else(Disk::in_memory, Disk::sqlite)),
            gate: Gate::default(),
            is_unreadable: Arc::default(),
            is_direct: seed.is_multiple_of(DIRECT_EVERY),
            doors: BTreeSet::new(),
            ghosts: BTreeSet::new(),
            phantom: None,
            late: Vec::new(),
            trace: Vec::new(),
            print: 0xCBF2_9CE4_8422_2325,
        }
    }

    pub(crate) fn disk(&self) -> &Disk {
        self.disk.as_ref().expect("the disk is there but for a moment of a crash")
    }

    /// Notes what happens: the last lines are shown where something fails, and the print tells two runs apart.
    pub(crate) fn note(&mut self, line: impl FnOnce(&mut String) -> std::fmt::Result) {
        let mut text = format!("{:>5} ", self.steps);
        line(&mut text).expect("a string takes text");
        text.bytes().for_each(|byte| self.print = (self.print ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3));
        if std::env::var_os("SIM_TRACE").is_some() {
            eprintln!("{text}");
        }
        self.trace.push(text);
    }

    /// Lets everything happen that needs neither time nor us.
    pub(crate) async fn quiet(&self) {
        // The runtime moves its paused time only when nothing else is left to do.
        sleep(Duration::from_millis(1)).await;
    }

    // ---- The process -----------------------------------------------------------------------------------------------

    pub(crate) async fn start(&mut self) {
        self.clock.process_begins(self.disk().latest_steady().await);
        loop {
            let (reports, incoming) = meter::channel();
            let (passes, stop, own) = (Passes::default(), CancellationToken::new(), self.is_direct.then(Doors::default));
            let catalog = Arc::new(Catalog::new(self.root, CatalogOptions::default()).expect("the folder is there"));
            let store = SimStore { disk: self.disk().clone(), gate: self.gate.clone(), is_unreadable: self.is_unreadable.clone() };
            let parts = Parts {
                store: Arc::new(store),
                sharing: None,
                digests: Arc::new(Digests::new(catalog.clone(), Arc::new(NoDigests))),
                catalog,
                tunnel: Arc::new(SimTunnel { gate: self.gate.clone(), own: own.clone() }),
                clock: self.clock.clone(),
                keys: Keys::new(vec![Key::new("an-unguessable-text-of-32-letters-or-more").expect("it is long")], [9; 32]),
                passes: passes.clone(),
                metrics: Metrics::new("simulated", Timestamp(0)),
                limits: LIMITS,
                drain: Duration::from_secs(1),
            };
            match Controller::load(parts, incoming).await {
                Ok((controller, handle)) => {
                    let task = tokio::spawn(controller.run(stop.clone()));
                    self.process = Some(Process {
                        handle,
                        reports,
                        passes,
                        requests: 0,
                        asked: BTreeMap::new(),
                        opened: BTreeSet::new(),
                        own,
                        stop,
                        task,
                    });
                    return;
                }
                Err(_) => self.is_unreadable.store(false, Ordering::Relaxed),
            }
        }
    }

    /// The process dies at this very instant. What it had asked for has happened or has not.
    pub(crate) async fn crash(&mut self) {
        self.crashes += 1;
        self.note(|line| write!(line, "CRASH"));
        self.end_process().await;
        let waiting: Vec<Op> = self.gate.waiting().drain(..).collect();
        for op in waiting {
            if self.chance.permille(500) {
                self.happens(op).await;
            }
        }
        // A write that "failed" may have reached the disk.
        if let Some(phantom) = self.phantom.take()
            && self.chance.permille(500)
            && let Ok(seqs) = self.disk().save(phantom.clone()).await
        {
            self.note(|line| write!(line, "  found after all: {:?}", phantom.facts));
            self.oracle.wrote(&phantom, &seqs, &self.recipients, &self.known_doors());
        }
        self.stands_still().await;
    }

    /// Ends the process in good order, while nothing fails.
    pub(crate) async fn stop(&mut self) {
        self.note(|line| write!(line, "STOP"));
        // What the backend does later with what was dropped long ago, no process can know that is about to leave.
        self.gate.waiting().retain(|op| !op.is_abandoned());
        let process = self.process.as_ref().expect("a process runs");
        process.stop.cancel();
        let own = process.own.clone();
        let asked = Instant::now();
        while !self.process.as_ref().is_some_and(|process| process.task.is_finished()) {
            assert!(asked.elapsed() < Duration::from_secs(20), "the process does not stop");
            self.quiet().await;
            self.release_all().await;
            self.hear_answers().await;
            self.notice_cuts().await;
            sleep(Duration::from_millis(20)).await;
        }
        let mut open = self.doors.clone();
        open.extend(own.map(|own| own.all_open()).unwrap_or_default());
        assert!(open.is_empty(), "doors stand open behind a process that stopped in good order: {open:?}");
        self.end_process().await;
        self.gate.waiting().clear();
        self.stands_still().await;
    }

    async fn end_process(&mut self) {
        for call in self.calls.drain(..) {
            call.task.abort();
            let _ = call.task.await;
        }
        if let Some(process) = self.process.take() {
            process.task.abort();
            if let Err(error) = process.task.await
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
        self.running.clear();
        self.late.clear();
        self.oracle.forget_views();
    }

    /// Nothing runs for a while; then the disk is read anew.
    async fn stands_still(&mut self) {
        if let Some(folder) = self.folder {
            self.disk = None;
            self.disk = Some(Disk::sqlite(folder));
        }
        let saved: Vec<Share> = self.oracle.saved.values().cloned().collect();
        for share in saved {
            assert_eq!(self.disk().share(share.id).await.as_ref(), Some(&share), "a share is not on the disk as it was written");
        }
        self.a_second_writer_redeems().await;
        if self.chance.permille(500) {
            self.clock.sleep(Duration::from_millis(self.chance.below(90_000)));
        }
    }

    /// Somebody else with the same disk still believes that a link has a use left, and lets it be redeemed: the ledger knows better.
    async fn a_second_writer_redeems(&mut self) {
        let outdated: Vec<Share> = self.oracle.outdated().cloned().collect();
        let Some(mut share) = self.chance.pick(&outdated).cloned() else { return };
        let (id, link) = (share.id, share.link);
        // A wall clock that was set back may have put the end before the beginning.
        let at = Moment { wall: Timestamp(share.created.wall.0.min(share.expires.wall.0 - 1)), ..share.created };
        let event = Event::Redeemed { link, transfer: random::transfer_id(), recipient: Who::default() };
        // The core has no objection: it knows no more than whoever asks it.
        let decided = share.on(event, at);
        assert_eq!(decided.answer, Ok(()), "{id} was redeemable when it was written");
        let saved = self.disk().save(Save { share: Arc::new(share), facts: decided.facts, at }).await;
        assert!(matches!(saved, Err(StoreError::Spent)), "a second writer redeemed the link of {id}, which is spent or dead: {saved:?}");
        let after = self.disk().share(id).await;
        assert_eq!(after.as_ref(), self.oracle.saved.get(&id), "a redeem of {id} that was refused changed it");
    }

    // ---- What was asked for, happens -------------------------------------------------------------------------------

    /// Lets one thing through that waits: well or badly.
    pub(crate) async fn release_one(&mut self) {
        let Some(op) = self.take_one() else { return };
        let fails = match &op {
            Op::Save(..) => self.chance.permille(self.trouble.save_fails),
            Op::Open(..) | Op::Close(..) | Op::List(_) => self.chance.permille(self.trouble.tunnel_fails),
        };
        if op.is_abandoned() && !matches!(op, Op::Save(..)) && self.chance.permille(500) {
            return self.note(|line| write!(line, "  nobody waits and it never happens: {}", words(&op)));
        }
        if fails { self.fails(op).await } else { self.happens(op).await }
    }

    async fn release_all(&mut self) {
        while let Some(op) = self.take_one() {
            self.happens(op).await;
        }
    }

    /// Takes something that waits; the writes of one share stay in their order.
    fn take_one(&mut self) -> Option<Op> {
        let mut waiting = self.gate.waiting();
        if waiting.is_empty() {
            return None;
        }
        let index = self.chance.below(waiting.len() as u64) as usize;
        let index = match &waiting[index] {
            Op::Save(save, _) => {
                let id = save.share.id;
                waiting.iter().position(|op| matches!(op, Op::Save(other, _) if other.share.id == id)).unwrap_or(index)
            }
            Op::Open(..) | Op::Close(..) | Op::List(_) => index,
        };
        Some(waiting.remove(index))
    }

    async fn happens(&mut self, op: Op) {
        self.note(|line| write!(line, "  done: {}", words(&op)));
        match op {
            Op::Save(save, answer) => {
                let result = self.disk().save(save.clone()).await;
                match &result {
                    Ok(seqs) => {
                        self.phantom = None;
                        self.knows_its_requests(&save.share);
                        self.oracle.wrote(&save, seqs, &self.recipients, &self.known_doors());
                    }
                    Err(error) => self.note(|line| write!(line, "  refused by the store: {error}")),
                }
                let _ = answer.send(result);
            }
            Op::Open(share, answer) => {
                self.opens(share, answer.is_closed());
                if let Some(process) = &mut self.process {
                    process.opened.insert(share);
                }
                let _ = answer.send(Ok(()));
            }
            Op::Close(share, answer) => {
                self.shut(share);
                let _ = answer.send(Ok(()));
            }
            Op::List(answer) => drop(answer.send(Ok(Standing::open(self.doors.iter().copied().collect())))),
        }
    }

    fn opens(&mut self, share: ShareId, is_abandoned: bool) {
        if self.doors.insert(share) && is_abandoned {
            self.ghosts.insert(share);
        }
    }

    fn shut(&mut self, share: ShareId) {
        self.doors.remove(&share);
        self.ghosts.remove(&share);
    }

    /// Returns the doors that the process can know of.
    fn known_doors(&self) -> BTreeSet<ShareId> {
        let own = self.process.as_ref().and_then(|process| process.own.as_ref()).map(Doors::all_open).unwrap_or_default();
        self.doors.difference(&self.ghosts).copied().chain(own).collect()
    }

    async fn fails(&mut self, op: Op) {
        self.note(|line| write!(line, "  FAILED: {}", words(&op)));
        let away = || TunnelError::Unavailable("the tunnel is away".to_owned());
        match op {
            Op::Save(save, answer) => {
                self.phantom = Some(save);
                let _ = answer.send(Err(StoreError::Unavailable { source: "the disk is full".into() }));
            }
            Op::Open(share, answer) => {
                let for_good = self.chance.permille(200);
                if self.chance.permille(300) && !for_good {
                    self.opens(share, answer.is_closed());
                }
                let _ = answer.send(Err(if for_good { TunnelError::NotPossible("not on this node".to_owned()) } else { away() }));
            }
            Op::Close(share, answer) => {
                if self.chance.permille(300) {
                    self.shut(share);
                }
                let _ = answer.send(Err(away()));
            }
            Op::List(answer) => drop(answer.send(Err(away()))),
        }
    }

    // ---- Trouble ---------------------------------------------------------------------------------------------------

    /// Makes trouble now and then; says whether the process died of it.
    pub(crate) async fn trouble(&mut self) -> bool {
        if self.chance.permille(self.trouble.unreadable) {
            let was = self.is_unreadable.fetch_xor(true, Ordering::Relaxed);
            self.note(|line| write!(line, "READS {}", if was { "work" } else { "FAIL" }));
        }
        if self.chance.permille(self.trouble.clock_jumps) {
            let by = self.chance.below(120_000) as i64 - 60_000;
            self.note(|line| write!(line, "WALL CLOCK {by} ms"));
            self.clock.jump_wall(by);
        }
        if self.chance.permille(self.trouble.clock_jumps) {
            let by = Duration::from_millis(self.chance.below(60_000));
            self.note(|line| write!(line, "THE MACHINE SLEEPS {by:?}"));
            self.clock.sleep(by);
        }
        if !self.doors.is_empty() && self.chance.permille(self.trouble.tunnel_fails / 10) {
            let lost = *self.doors.iter().next().expect("there is one");
            self.note(|line| write!(line, "THE WAY IN TO {lost} IS LOST"));
            self.shut(lost);
        }
        if self.chance.permille(self.trouble.crash) {
            self.crash().await;
            return true;
        }
        if self.chance.permille(self.trouble.crash / 10) {
            self.stop().await;
            return true;
        }
        false
    }

    pub(crate) async fn time_passes(&mut self) {
        let by = match self.chance.below(100) {
            0..60 => Duration::from_millis(self.chance.between(1, 50)),
            60..90 => Duration::from_millis(self.chance.between(50, 1500)),
            90..98 => Duration::from_millis(self.chance.between(1500, 12_000)),
            _ => Duration::from_secs(35),
        };
        self.note(|line| write!(line, "  {by:?}"));
        sleep(by).await;
    }

    /// Nothing fails from here on: everything comes to its end.
    pub(crate) async fn heal(&mut self) {
        self.note(|line| write!(line, "HEALING"));
        self.is_unreadable.store(false, Ordering::Relaxed);
        let begun = Instant::now();
        while begun.elapsed() < HEALED {
            self.quiet().await;
            self.release_all().await;
            self.quiet().await;
            self.hear_answers().await;
            self.notice_cuts().await;
            self.holds().await;
            for share in self.oracle.saved.values().filter(|_| begun.elapsed() > SILENCED) {
                assert!(!share.transfers.iter().any(Transfer::is_active), "a transfer of {} runs on in silence", share.id);
            }
            sleep(HEALING_STEP).await;
        }
        self.quiet().await;
        self.release_all().await;
        self.quiet().await;
        self.hear_answers().await;
        assert!(self.calls.is_empty(), "never answered: {:?}", self.calls.iter().map(|call| &call.asked).collect::<Vec<_>>());
        let open = [self.doors.clone(), self.known_doors()];
        assert!(open.iter().all(BTreeSet::is_empty), "doors stand open for ever: {open:?}");
        for share in self.oracle.saved.values() {
            assert!(share.is_closed(), "share {} never closed: {:?}", share.id, share.phase);
        }
        let living = self.process.as_ref().map_or(0, |process| process.handle.living().len());
        assert_eq!(living, 0, "shares are listed that do not live");
        let mut log = Vec::new();
        loop {
            let page = self.disk().events(EventQuery { after: log.len() as u64, limit: MAX_PAGE, ..EventQuery::default() }).await;
            if page.is_empty() {
                break;
            }
            log.extend(page);
        }
        self.oracle.is_log(&log);
    }

    // ---- What holds ------------------------------------------------------------------------------------------------

    /// What a process writes of the requests that run are its own: none of an earlier process runs on.
    fn knows_its_requests(&self, share: &Share) {
        let Some(process) = &self.process else { return };
        for transfer in &share.transfers {
            let (runs, asked) = (transfer.open_requests(), process.asked.get(&transfer.id).copied().unwrap_or(0));
            assert!(runs <= asked, "{runs} requests of transfer {} are said to run, of {asked} since the start", transfer.id);
        }
    }

    /// Looks at everything that must hold after every step.
    pub(crate) async fn holds(&mut self) {
        self.oracle.holds();
        let Some(process) = &mut self.process else { return };
        process.opened.extend(process.own.iter().flat_map(Doors::all_open));
        let now = self.clock.now();
        for recipient in &self.recipients {
            let share = &self.oracle.saved[&recipient.share];
            if let Some(Found::Valid(pass)) = process.passes.find(&recipient.secret) {
                assert_eq!(share.phase, Phase::Open, "bytes of share {} may be fetched", share.id);
                assert!(
                    process.opened.contains(&share.id),
                    "bytes of share {} may be fetched, and nobody opened its way in since the start",
                    share.id
                );
                let transfer = share.transfer(pass.transfer).expect("a pass is for a transfer that is saved");
                assert!(transfer.is_active() || transfer.is_completed(), "bytes of the ended transfer {} may be fetched", transfer.id);
            }
        }
        self.late.retain(|(id, _)| self.running.iter().any(|running| running.request.id.0 == *id));
        for running in self.running.iter().filter(|running| !running.pass.cut.is_cancelled()) {
            let share = &self.oracle.saved[&running.request.share];
            assert!(share.outcome().is_none(), "bytes of share {} leave, which is closed", share.id);
            let transfer = share.transfer(running.request.transfer);
            let runs = |t: &Transfer| t.is_active() || t.is_completed();
            assert!(transfer.is_some_and(runs), "bytes leave for the ended transfer {}", running.request.transfer);
            for op in &*self.gate.waiting() {
                let Op::Save(save, _) = op else { continue };
                let goes_on = save.share.phase == Phase::Open && save.share.transfer(running.request.transfer).is_some_and(runs);
                assert!(save.share.id != share.id || goes_on, "bytes of {} leave until its end is saved", running.request.transfer);
            }
            let is_going_on = |share: &Share| {
                let mut then = share.clone();
                then.on(Event::TimePassed, now).facts.is_empty() || then.outcome().is_none()
            };
            let prolonged = self
                .gate
                .waiting()
                .iter()
                .any(|op| matches!(op, Op::Save(save, _) if save.share.id == share.id && is_going_on(&save.share)));
            let id = running.request.id.0;
            if is_going_on(share) || prolonged {
                self.late.retain(|(late, _)| *late != id);
            } else if let Some((_, since)) = self.late.iter().find(|(late, _)| *late == id) {
                assert!(since.elapsed() <= LATE, "bytes of share {} leave {:?} after its time", share.id, since.elapsed());
            } else {
                self.late.push((id, Instant::now()));
            }
        }
        for view in process.handle.living() {
            self.oracle.shown(&view);
        }
    }
}

impl Drop for World<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let skipped = self.trace.len().saturating_sub(TRACE_LINES);
            eprintln!("what happened last:\n{}", self.trace[skipped..].join("\n"));
        }
    }
}

fn words(op: &Op) -> String {
    match op {
        Op::Save(save, _) => format!("save {} {:?} {:?}", save.share.id, save.share.phase, save.facts),
        Op::Open(share, _) => format!("open {share}"),
        Op::Close(share, _) => format!("close {share}"),
        Op::List(_) => "list".to_owned(),
    }
}

struct NoDigests;

impl DigestCache for NoDigests {
    fn load(&self, _: FileIdentity) -> BoxFuture<'_, Option<[u8; 32]>> {
        ready(None).boxed()
    }

    fn keep(&self, _: FileIdentity, _: [u8; 32]) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }
}

/// Puts the files into a folder; sparse, since no byte of them is read.
pub(crate) fn put_files(root: &Path) {
    for file in FILES {
        let made = std::fs::File::create(root.join(file.name)).expect("the file is made");
        made.set_len(file.blocks * file.block_bytes).expect("it gets its length");
    }
}
