//! The one session, and the task that owns it: what is to stand, what stands, and every edit in a row.
//!
//! All shares stand in one session's name. The task begins it, takes it up again when it ends, asks the node what it is
//! ready for, and edits what is served: many wishes that come at once become one edit, which is read back before anybody is told that it
//! stands.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::certificate::{Certificate, Install};
use super::editor::{self, EditError, Ours};
use super::keeper::{Beats, Held, Hold, Over, Said};
use super::localapi::{LocalApi, LocalApiError};
use super::shape::{self, Shape, Way};
use super::status::{Missing, Node};
use crate::causes::Causes;
use crate::share::ShareId;
use crate::tunnel::{Doors, Standing, TunnelError};

/// How many wishes may wait: a thousand shares that open at once, and as many that close.
pub(super) const MAX_ASKS: usize = 2048;
/// How many of them become one edit at most.
const MAX_BATCH: usize = 512;
/// The first and the longest pause before the session is begun anew. The first is short: tailscaled is back within a second when it
/// is restarted, and every link with it.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// How often what is served is compared with what should be, though nobody said that anything has changed.
const CHECK_EVERY: Duration = Duration::from_secs(30);
/// How long the bus may go on talking before the node is asked what has changed: it says several things in a row.
const SETTLING: Duration = Duration::from_millis(20);
/// How long a tailscaled whose session ended is watched: one that is going away may still answer for a moment, one that threw us
/// out goes on.
const GOING_AWAY: Duration = Duration::from_millis(400);
/// How long the bus may take to say that the session is over, once nothing can be served in its name any more.
const DOUBT: Duration = Duration::from_secs(1);
/// What tailscaled calls a node that runs.
const RUNNING: &str = "Running";
/// How many sessions of before are remembered, for what a tailscaled with a full disk could not forget.
const MAX_BEFORE: usize = 32;

/// What the task is asked.
#[derive(Debug)]
pub(super) enum Ask {
    Open(ShareId, oneshot::Sender<Result<(), TunnelError>>),
    Close(ShareId, oneshot::Sender<Result<(), TunnelError>>),
    List(oneshot::Sender<Result<Standing, TunnelError>>),
}

/// What everybody may know of the node. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Known(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    name: RwLock<Option<String>>,
    trouble: RwLock<Option<String>>,
    changes: watch::Sender<u64>,
}

impl Known {
    pub(super) fn new(name: Option<String>) -> Self {
        let trouble = RwLock::new(Some(not_yet().to_string()));
        Self(Arc::new(Shared { name: RwLock::new(name), trouble, changes: watch::Sender::new(0) }))
    }

    /// Returns the node's name, the last that was known.
    pub(super) fn name(&self) -> Option<String> {
        self.0.name.read().expect("nobody panics while holding the name").clone()
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    fn set_name(&self, name: &str) {
        *self.0.name.write().expect("nobody panics while holding the name") = Some(name.to_owned());
    }

    /// Returns why nothing can be opened at the moment.
    pub(super) fn trouble(&self) -> Option<String> {
        self.0.trouble.read().expect("nobody panics while holding a sentence").clone()
    }

    fn changed(&self, trouble: Option<String>) {
        *self.0.trouble.write().expect("nobody panics while holding a sentence") = trouble;
        self.0.changes.send_modify(|n| *n += 1);
    }
}

/// What a session is made of.
pub(super) struct Setup {
    pub(super) api: LocalApi,
    pub(super) shape: Shape,
    pub(super) hold: Hold,
    pub(super) beats: Beats,
    pub(super) doors: Doors,
    pub(super) known: Known,
    /// Takes the node's certificate, where we end TLS.
    pub(super) install: Option<Install>,
    /// Is told the node's name whenever that is another.
    pub(super) on_name: Box<dyn Fn(&str) + Send + Sync>,
}

/// The task.
pub struct Session {
    setup: Setup,
    asks: mpsc::Receiver<Ask>,
    held: Option<Held>,
    /// Which process answered when the session began.
    process: Option<i32>,
    node: Node,
    missing: Vec<Missing>,
    certificate: Certificate,
    /// What is to stand.
    wanted: BTreeSet<ShareId>,
    /// What was said to stand, of what is wanted, in this session and under this name.
    open: BTreeSet<ShareId>,
    /// What somebody else took away.
    removed: HashSet<ShareId>,
    /// For which shares something was served when that was read back last; `None` where an edit may or may not have been done since.
    stood: Option<BTreeSet<ShareId>>,
    /// Why there is no session, or the node is not known.
    trouble: Option<TunnelError>,
    failures: u32,
    begin_at: Instant,
    check_at: Instant,
    /// When the node is asked again, since the bus said something.
    look_at: Option<Instant>,
    /// When it is taken for over, though the bus has not said so.
    doubt_at: Option<Instant>,
    /// How many signs of life there were when the session was let go: it is taken up with the next.
    waits_for_beat: Option<u64>,
    /// The sessions that were held before.
    before: Vec<String>,
}

impl Session {
    pub(super) fn new(setup: Setup, asks: mpsc::Receiver<Ask>) -> Self {
        let now = Instant::now();
        let certificate = Certificate::new(setup.api.clone());
        Self {
            setup,
            asks,
            held: None,
            process: None,
            node: Node::default(),
            missing: Vec::new(),
            certificate,
            wanted: BTreeSet::new(),
            open: BTreeSet::new(),
            removed: HashSet::new(),
            stood: None,
            trouble: None,
            failures: 0,
            begin_at: now,
            check_at: now + CHECK_EVERY,
            look_at: None,
            doubt_at: None,
            waits_for_beat: None,
            before: Vec::new(),
        }
    }

    /// Does what is asked until `shutdown`; the session ends then, and everything that stands in its name.
    pub async fn run(mut self, shutdown: CancellationToken) {
        loop {
            // Also while tailscaled hangs: with this, everything that is held is let go.
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                goes_on = self.step() => if !goes_on { return },
            }
        }
    }

    /// Does the next thing; returns whether there may be another.
    async fn step(&mut self) -> bool {
        tokio::select! {
            biased;
            said = said(&mut self.held) => self.heard(said).await,
            () = sleep_until(self.begin_at), if self.held.is_none() => self.begin_if_alive().await,
            () = sleep_until(self.doubt_at.unwrap_or(self.check_at)), if self.doubt_at.is_some() => self.over(Over::Ended).await,
            () = sleep_until(self.look_at.unwrap_or(self.check_at)), if self.look_at.is_some() => self.look().await,
            () = sleep_until(self.check_at) => self.check().await,
            pair = self.certificate.made() => self.certified(pair),
            ask = self.asks.recv() => match ask {
                Some(ask) => self.asked(ask).await,
                None => return false,
            },
        }
        true
    }

    /// Begins a session, unless the last one was let go since nothing decided here any more and nothing does yet.
    async fn begin_if_alive(&mut self) {
        if self.waits_for_beat.is_some_and(|count| self.setup.beats.count() == count) {
            self.begin_at = Instant::now() + PAUSES.0;
            return;
        }
        self.waits_for_beat = None;
        self.begin().await;
    }

    /// Begins a session, and has it serve what is to stand.
    async fn begin(&mut self) {
        match self.try_to_begin().await {
            Ok(()) => {
                self.failures = 0;
                tracing::info!(node = self.node.name.as_deref(), "Holding a session with tailscaled");
                self.restore().await;
                self.tell();
            }
            Err(error) => {
                let trouble = of_local_api(error);
                // Said once, and again when it is something else.
                if self.trouble.as_ref().map(ToString::to_string) != Some(trouble.to_string()) {
                    tracing::warn!("No session with tailscaled: {trouble}");
                }
                self.trouble = Some(trouble);
                self.tell();
                let pause = PAUSES.0.saturating_mul(1 << self.failures.min(10)).min(PAUSES.1);
                self.failures = self.failures.saturating_add(1);
                self.begin_at = Instant::now() + pause;
            }
        }
    }

    async fn try_to_begin(&mut self) -> Result<(), LocalApiError> {
        self.process = self.setup.api.process().await?;
        let held = Held::begin(&self.setup.api, &self.setup.hold, &self.setup.beats).await?;
        self.read_node().await?;
        (self.held, self.stood, self.trouble, self.doubt_at) = (Some(held), None, None, None);
        self.check_at = Instant::now() + CHECK_EVERY;
        Ok(())
    }

    /// Asks the node what it is, and whether it is ready.
    async fn read_node(&mut self) -> Result<(), LocalApiError> {
        let (status, prefs) = tokio::join!(self.setup.api.status(), self.setup.api.prefs());
        let node = Node::of(&status?);
        self.missing = node.missing(&prefs?, self.setup.shape.port);
        if let Some(name) = &node.name
            && self.setup.known.name().as_ref() != Some(name)
        {
            tracing::info!(node = name, "The node's name is {name}");
            self.setup.known.set_name(name);
            (self.setup.on_name)(name);
            // Every link begins with it: what stood under another name is lost.
            self.open.clear();
            self.stood = None;
        }
        self.node = node;
        if self.missing.is_empty() && self.setup.install.is_some() {
            self.certificate.want(self.node.name.as_deref());
        }
        Ok(())
    }

    /// Puts back what is to stand. What comes of it whoever wants it is told when they ask.
    async fn restore(&mut self) {
        if self.stood.as_ref() != Some(&self.wanted)
            && let Err(error) = self.settle().await
        {
            tracing::warn!("Could not open what was open before: {error}");
        }
    }

    /// Returns whether the node lets anybody in.
    fn readiness(&self) -> Result<(), TunnelError> {
        if let Some(missing) = self.missing.first() {
            let is_retryable = missing.may_pass();
            return Err(TunnelError::NotPossible(missing.clone().for_everybody().to_string()).retryable_if(is_retryable));
        }
        match self.setup.install {
            Some(_) => self.certificate.is_there(self.node.name.as_deref()).map_err(TunnelError::Unavailable),
            None => Ok(()),
        }
    }

    /// Has the session serve what is wanted. While the node is not ready nothing is added, and what is not wanted any more goes
    /// all the same.
    async fn settle(&mut self) -> Result<(), TunnelError> {
        if self.held.is_none() {
            return Err(self.trouble.clone().unwrap_or_else(not_yet));
        }
        let ready = if self.wanted.is_empty() { Ok(()) } else { self.readiness() };
        if ready.is_ok() {
            return self.serve(self.wanted.clone()).await;
        }
        let stood = self.stood.clone().unwrap_or_default();
        let left: BTreeSet<ShareId> = self.wanted.intersection(&stood).copied().collect();
        if self.stood.as_ref() != Some(&left) {
            self.serve(left).await?;
        }
        ready
    }

    /// Has the session serve these shares, and reads that back.
    async fn serve(&mut self, shares: BTreeSet<ShareId>) -> Result<(), TunnelError> {
        let Some(held) = &self.held else { return Err(not_yet()) };
        let Some(name) = self.node.name.clone() else {
            // A node that never had a name has served nothing.
            let has_served = self.stood.as_ref().is_none_or(|stood| !stood.is_empty()) && self.setup.known.name().is_some();
            return if shares.is_empty() && !has_served { Ok(()) } else { Err(not_yet()) };
        };
        self.stood = None;
        let ours = Ours { session: held.session(), before: &self.before };
        match editor::serve(&self.setup.api, &self.setup.shape, ours, &name, &shares).await {
            Ok(()) => {
                self.stood = Some(shares);
                Ok(())
            }
            Err(error) => {
                // Why it is over decides what follows, and the bus says that.
                if matches!(error, EditError::SessionOver) {
                    self.doubt_at.get_or_insert(Instant::now() + DOUBT);
                }
                Err(of_edit(error))
            }
        }
    }

    /// Takes up what was asked, and whatever waits behind it.
    async fn asked(&mut self, first: Ask) {
        let mut batch = vec![first];
        while batch.len() < MAX_BATCH
            && let Ok(ask) = self.asks.try_recv()
        {
            batch.push(ask);
        }
        for ask in &batch {
            match ask {
                // Whose way in was taken away by the operator is closed first.
                Ask::Open(share, _) if self.removed.contains(share) => {}
                Ask::Open(share, _) => drop(self.wanted.insert(*share)),
                Ask::Close(share, _) => {
                    self.setup.doors.shut(*share);
                    self.wanted.remove(share);
                    self.open.remove(share);
                    self.removed.remove(share);
                }
                Ask::List(_) => {}
            }
        }
        let opens = batch.iter().any(|ask| matches!(ask, Ask::Open(..)));
        // What has not changed is looked at all the same before it is called open.
        let may_differ = self.held.is_some() && self.stood.as_ref() != Some(&self.wanted);
        let result = if opens || may_differ { self.settle().await } else { Ok(()) };
        let mut listed = None;
        for ask in batch {
            match ask {
                Ask::Open(share, answer) => self.answer_open(share, &result, answer),
                Ask::Close(share, answer) => drop(answer.send(self.how_closed(share, &result))),
                Ask::List(answer) => {
                    if listed.is_none() {
                        listed = Some(self.list().await);
                    }
                    let standing = listed.as_ref().expect("it was just listed");
                    drop(answer.send(standing.clone()));
                }
            }
        }
    }

    fn answer_open(&mut self, share: ShareId, result: &Result<(), TunnelError>, answer: oneshot::Sender<Result<(), TunnelError>>) {
        if self.removed.contains(&share) {
            let why = "it was taken away from tailscaled by somebody else, as with `tailscale serve reset`";
            return drop(answer.send(Err(TunnelError::NotPossible(why.to_owned()))));
        }
        // A close of the same share may have come in the same batch.
        if !self.wanted.contains(&share) {
            return drop(answer.send(Err(TunnelError::Unavailable("it was closed meanwhile".to_owned()))));
        }
        match result {
            Ok(()) => {
                self.open.insert(share);
                self.setup.doors.open(share);
                // Who gave up waiting may have shut it already.
                if answer.send(Ok(())).is_err() {
                    self.setup.doors.shut(share);
                }
            }
            Err(error) => {
                // What never stood is not put back behind anybody's back; what did is, as soon as that can be.
                if !self.open.contains(&share) {
                    self.wanted.remove(&share);
                }
                let _ = answer.send(Err(error.clone()));
            }
        }
    }

    /// Says what became of closing a way in. Its door is shut whatever the tunnel says. Without a session nothing of ours is served.
    fn how_closed(&self, share: ShareId, result: &Result<(), TunnelError>) -> Result<(), TunnelError> {
        let may_stand = self.held.is_some() && self.stood.as_ref().is_none_or(|stood| stood.contains(&share));
        match result {
            Err(error) if may_stand => Err(error.clone()),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Says what stands, having looked.
    async fn list(&mut self) -> Result<Standing, TunnelError> {
        if self.held.is_some() {
            self.compare().await.map_err(of_local_api)?;
        }
        // What is served for nobody is open all the same, and is to be closed.
        let stray = self.stood.iter().flatten().filter(|share| !self.wanted.contains(share));
        Ok(Standing { open: self.open.iter().chain(stray).copied().collect(), removed: self.removed.clone() })
    }

    /// Compares what is served with what was read back last: whoever changed that was somebody else.
    async fn compare(&mut self) -> Result<(), LocalApiError> {
        let (Some(held), Some(stood), Some(name)) = (&self.held, &self.stood, &self.node.name) else { return Ok(()) };
        let config = self.setup.api.serve_config().await?.json;
        // Where there is nothing at all in its name the session is over, and the bus will say so: then it is judged why.
        if let Some(served) = shape::of_session(&config, held.session())
            && !shape::stands(served, &self.setup.shape.of(name, stood))
        {
            self.taken_away();
            // What they left of ours goes, too.
            self.restore().await;
        }
        Ok(())
    }

    /// Tells everybody who waits that what is open, or what keeps it shut, may be another.
    fn tell(&self) {
        let trouble = match (&self.held, &self.trouble) {
            (None, Some(trouble)) => Some(trouble.to_string()),
            (None, None) => Some(not_yet().to_string()),
            (Some(_), _) => self.readiness().err().map(|error| error.to_string()),
        };
        self.setup.known.changed(trouble);
    }

    /// Somebody else has changed what we serve: an operator of this node wants it shut.
    fn taken_away(&mut self) {
        tracing::warn!("Somebody else has taken our ways in away from tailscaled; taking it for the operator's will");
        self.stood = None;
        self.open.clear();
        for share in std::mem::take(&mut self.wanted) {
            self.setup.doors.shut(share);
            self.removed.insert(share);
        }
        self.tell();
    }

    fn let_go(&mut self) {
        if let Some(held) = self.held.take() {
            self.before.push(held.session().to_owned());
            if self.before.len() > MAX_BEFORE {
                self.before.remove(0);
            }
        }
        (self.stood, self.doubt_at) = (None, None);
        self.open.clear();
        self.begin_at = Instant::now();
    }

    async fn heard(&mut self, said: Said) {
        match said {
            Said::Message(message) => {
                let tells = ["State", "Prefs", "SelfChange", "NetMap", "LoginFinished"];
                if tells.iter().any(|what| !message[*what].is_null()) {
                    self.look_at.get_or_insert(Instant::now() + SETTLING);
                }
            }
            Said::Over(over) => self.over(over).await,
        }
    }

    /// The session has ended, and with it everything that stood in its name.
    async fn over(&mut self, over: Over) {
        tracing::warn!(?over, "The session with tailscaled has ended");
        self.let_go();
        if over == Over::Ended && !self.wanted.is_empty() && self.goes_on().await {
            self.taken_away();
        }
        if matches!(over, Over::LetGo(_)) && self.setup.hold != Hold::Here {
            self.waits_for_beat = Some(self.setup.beats.count());
        }
        self.tell();
        self.begin_if_alive().await;
    }

    /// Returns whether the tailscaled that ended our session lives on: then somebody has overwritten what it served.
    async fn goes_on(&self) -> bool {
        let is_the_same = async |api: &LocalApi| match (api.process().await, self.process) {
            (Ok(Some(now)), Some(then)) => now == then,
            // From another container it cannot be told; one that is restarted does not listen for longer than we look.
            (Ok(_), _) => true,
            (Err(_), _) => false,
        };
        if !is_the_same(&self.setup.api).await {
            return false;
        }
        sleep(GOING_AWAY).await;
        is_the_same(&self.setup.api).await && self.setup.api.serve_config().await.is_ok()
    }

    /// Asks the node what has changed, and follows it.
    async fn look(&mut self) {
        self.look_at = None;
        let before = (self.node.name.clone(), self.missing.clone());
        if let Err(error) = self.read_node().await {
            return tracing::debug!(error = %Causes(&error), "The node does not say what has changed");
        }
        if before == (self.node.name.clone(), self.missing.clone()) {
            return;
        }
        match self.missing.first() {
            Some(missing) => {
                tracing::warn!("The node can no longer be reached from the internet: {}", missing.clone().for_everybody());
                self.open.clear();
                if self.node.state != RUNNING {
                    // It may come back as another, with what that one served.
                    self.stood = None;
                }
            }
            None => {
                tracing::info!(node = self.node.name.as_deref(), "The node can be reached from the internet");
                self.restore().await;
            }
        }
        self.tell();
    }

    /// Compares from time to time, asked or not, and renews what runs out.
    async fn check(&mut self) {
        self.check_at = Instant::now() + CHECK_EVERY;
        if self.held.is_none() {
            return;
        }
        self.look().await;
        if let Err(error) = self.compare().await {
            tracing::debug!(error = %Causes(&error), "Could not compare what is served");
        }
        if self.stood.is_none() {
            self.restore().await;
        }
    }

    fn certified(&mut self, pair: Result<super::localapi::CertPair, LocalApiError>) {
        let Some(install) = &self.setup.install else { return };
        if self.certificate.take(pair, install) {
            self.tell();
        }
    }
}

/// Waits for what a session says; for ever where there is none.
async fn said(held: &mut Option<Held>) -> Said {
    match held {
        Some(held) => held.next().await,
        None => std::future::pending().await,
    }
}

fn not_yet() -> TunnelError {
    TunnelError::Unavailable("tailscaled has not been reached yet".to_owned())
}

fn of_local_api(error: LocalApiError) -> TunnelError {
    TunnelError::NotPossible(error.to_string()).retryable_if(error.is_retryable())
}

fn of_edit(error: EditError) -> TunnelError {
    let is_retryable = match &error {
        EditError::LocalApi(error) => error.is_retryable(),
        EditError::Taken(_) | EditError::NotTaken => false,
        EditError::SessionOver | EditError::Crowded => true,
    };
    TunnelError::NotPossible(error.to_string()).retryable_if(is_retryable)
}

/// Returns the public way to a node's port.
pub(super) fn public_url(way_to: &str, port: u16) -> String {
    if port == 443 { format!("https://{way_to}") } else { format!("https://{way_to}:{port}") }
}

/// Returns the way that a shape leads, in words.
pub(super) fn backend(way: Way) -> &'static str {
    match way {
        Way::Passthrough => "tailscale",
        Way::Mount => "tailscale-mount",
    }
}
