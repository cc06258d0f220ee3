//! The task that has shares looked at from outside: open ones until somebody gets in, closed ones to see that nobody does.
//!
//! It follows what is told of shares, beside the deciding task and never in its way: nothing waits for a look. What a look finds is
//! an event like any other, and whether it is still true of the share is decided there.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Change, Handle};
use crate::causes::Causes;
use crate::share::{Fact, Phase, Reach, Share, ShareId, TokenId, Unprobed};
use crate::tunnel::canary::Canaries;
use crate::tunnel::probe::{Counts, Look};

/// After which pauses somebody looks again while nobody gets in; the last goes on. A new node's name is in the public DNS within ten
/// minutes.
const PAUSES: [Duration; 4] = [Duration::from_secs(5), Duration::from_secs(30), Duration::from_secs(120), Duration::from_secs(600)];
/// How many looks are under way at once: each is a handshake through Funnel, whose servers are not ours to load.
const MAX_AT_ONCE: usize = 4;
/// How many wait for their turn. What is beyond is not looked at: at four at once, each a third of a second, these take a minute.
const MAX_WAITING: usize = 1024;
/// How many answers of "not looked at" may be on their way to the store at once. Of those beyond nothing is noted but their number.
const MAX_SAYING: usize = 64;

/// Which look at a share it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Subject {
    share: ShareId,
    /// The share's link: another once it was opened again.
    link: TokenId,
    after_close: bool,
}

/// What is known of a share that is to be looked at.
#[derive(Debug)]
struct Watched {
    subject: Subject,
    /// When it waits for its turn.
    due: Option<Instant>,
    /// How often in a row it was not as it should be.
    failures: usize,
}

/// What came of a look.
struct Found {
    subject: Subject,
    reach: Reach,
    /// Whether that is true of the share as it stands, as far as anybody can say.
    is_so: bool,
}

enum Input {
    Changed(Result<Change, RecvError>),
    Found(Found),
    Due,
    Stop,
}

/// The task.
pub struct Prober {
    controller: Handle,
    changes: broadcast::Receiver<Change>,
    canaries: Canaries,
    /// Who looks; nobody where the operator wants none of it.
    look: Option<Arc<dyn Look>>,
    watched: HashMap<ShareId, Watched>,
    /// Those that wait, by when it is their turn: closed shares, which come first, and open ones.
    closed: BTreeSet<(Instant, ShareId)>,
    open: BTreeSet<(Instant, ShareId)>,
    looking: FuturesUnordered<BoxFuture<'static, Found>>,
    /// What is noted of those that nobody looks at.
    saying: FuturesUnordered<BoxFuture<'static, Found>>,
}

impl Prober {
    /// Makes one that follows shares from here on. Where nobody looks it says so of each share that opens.
    pub fn new(controller: Handle, canaries: Canaries, look: Option<Arc<dyn Look>>) -> Self {
        Self {
            changes: controller.watch(),
            controller,
            canaries,
            look,
            watched: HashMap::new(),
            closed: BTreeSet::new(),
            open: BTreeSet::new(),
            looking: FuturesUnordered::new(),
            saying: FuturesUnordered::new(),
        }
    }

    /// Looks until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        self.take_stock();
        loop {
            self.begin();
            match self.next(&shutdown).await {
                Input::Changed(Ok(change)) => self.follow(&change),
                Input::Changed(Err(RecvError::Lagged(_))) => self.take_stock(),
                Input::Found(found) => self.found(&found),
                Input::Due => {}
                Input::Changed(Err(RecvError::Closed)) | Input::Stop => return shutdown.cancelled().await,
            }
        }
    }

    async fn next(&mut self, shutdown: &CancellationToken) -> Input {
        let has_room = self.looking.len() < MAX_AT_ONCE;
        let due = [self.closed.first(), self.open.first()].into_iter().flatten().map(|(at, _)| *at).min().filter(|_| has_room);
        tokio::select! {
            biased;
            () = shutdown.cancelled() => Input::Stop,
            // What is told comes before what was found: of a share that opened again nothing old is held against it.
            change = self.changes.recv() => Input::Changed(change),
            Some(found) = self.looking.next(), if !self.looking.is_empty() => Input::Found(found),
            Some(found) = self.saying.next(), if !self.saying.is_empty() => Input::Found(found),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Input::Due,
        }
    }

    fn follow(&mut self, change: &Change) {
        let share = &change.view.share;
        for record in change.records.iter() {
            match &record.fact {
                Fact::Opened if change.view.is_watched_here => self.watch(share, false),
                Fact::Closed { .. } if share.opened.is_some() && change.view.is_watched_here => self.watch(share, true),
                Fact::Opened | Fact::Closing { .. } | Fact::TunnelLost | Fact::Reopened | Fact::Undone | Fact::Closed { .. } => {
                    self.forget(share.id);
                }
                Fact::Created
                | Fact::Probed { .. }
                | Fact::Extended { .. }
                | Fact::Delivered
                | Fact::Redeemed { .. }
                | Fact::Began { .. }
                | Fact::Ended { .. } => {}
            }
        }
    }

    /// Looks at everything there is, where it is not known what was missed.
    fn take_stock(&mut self) {
        let mut living = self.controller.all_living();
        living.retain(|view| view.is_watched_here);
        let lives: HashSet<ShareId> = living.iter().map(|view| view.share.id).collect();
        let gone = self.watched.values().map(|watched| watched.subject).filter(|it| !it.after_close && !lives.contains(&it.share));
        for subject in gone.collect::<Vec<Subject>>() {
            self.watch_as(Subject { after_close: true, ..subject });
        }
        for view in &living {
            match view.share.phase {
                Phase::Open => self.watch(&view.share, false),
                // When it opens, or has closed, that is told.
                Phase::Scheduled | Phase::Opening | Phase::Closing { .. } | Phase::Closed { .. } => self.forget(view.share.id),
            }
        }
    }

    fn watch(&mut self, share: &Share, after_close: bool) {
        let subject = Subject { share: share.id, link: share.link, after_close };
        // What was found by taking stock may be told of as well.
        if self.watched.get(&share.id).is_none_or(|watched| watched.subject != subject) {
            self.watch_as(subject);
        }
    }

    /// Has a share looked at as soon as it is its turn.
    fn watch_as(&mut self, subject: Subject) {
        self.forget(subject.share);
        self.watched.insert(subject.share, Watched { subject, due: None, failures: 0 });
        match (&self.look, subject.after_close) {
            (Some(_), _) => self.plan(subject, Duration::ZERO),
            (None, false) => self.say(subject, Unprobed::Off),
            (None, true) => self.forget(subject.share),
        }
    }

    fn forget(&mut self, share: ShareId) {
        if let Some(Watched { subject, due: Some(due), .. }) = self.watched.remove(&share) {
            self.waiting(subject.after_close).remove(&(due, share));
        }
    }

    fn waiting(&mut self, after_close: bool) -> &mut BTreeSet<(Instant, ShareId)> {
        if after_close { &mut self.closed } else { &mut self.open }
    }

    fn plan(&mut self, subject: Subject, pause: Duration) {
        if self.closed.len() + self.open.len() >= MAX_WAITING && !self.make_room(subject) {
            return self.say(subject, Unprobed::Busy);
        }
        let due = Instant::now() + pause;
        if let Some(watched) = self.watched.get_mut(&subject.share) {
            watched.due = Some(due);
            self.waiting(subject.after_close).insert((due, subject.share));
        }
    }

    /// Makes room for a closed share, which is to be looked at before any open one: of those, for the one whose turn is last.
    fn make_room(&mut self, subject: Subject) -> bool {
        if !subject.after_close {
            return false;
        }
        let Some((_, share)) = self.open.pop_last() else { return false };
        if let Some(watched) = self.watched.get_mut(&share) {
            watched.due = None;
            let left_out = watched.subject;
            self.say(left_out, Unprobed::Busy);
        }
        true
    }

    /// Begins the looks whose turn it is.
    fn begin(&mut self) {
        while self.looking.len() < MAX_AT_ONCE {
            let now = Instant::now();
            let is_due = |waiting: &BTreeSet<(Instant, ShareId)>| waiting.first().is_some_and(|(at, _)| *at <= now);
            let next = if is_due(&self.closed) { &mut self.closed } else { &mut self.open };
            let Some((_, share)) = next.first().filter(|(at, _)| *at <= now).copied() else { return };
            next.pop_first();
            let Some(watched) = self.watched.get_mut(&share) else { continue };
            watched.due = None;
            let (subject, controller, canaries) = (watched.subject, self.controller.clone(), self.canaries.clone());
            let Some(look) = self.look.clone() else { return };
            self.looking.push(look_at(subject, controller, canaries, look).boxed());
        }
    }

    /// Notes that nobody looks.
    fn say(&mut self, subject: Subject, why: Unprobed) {
        let reach = Reach::NotProbed(why);
        if self.saying.len() >= MAX_SAYING {
            return self.controller.metrics().probed(reach);
        }
        let controller = self.controller.clone();
        self.saying.push(async move { told(&controller, subject, reach).await }.boxed());
    }

    fn found(&mut self, found: &Found) {
        let Found { subject, reach, is_so } = *found;
        self.controller.metrics().probed(reach);
        let is_alarm = is_so && subject.after_close && reach == Reach::Yes;
        if is_alarm {
            tracing::error!(
                share.id = %subject.share,
                "The door of share {} still answers from the internet, and the share is closed: stop this program, or Funnel",
                subject.share
            );
        }
        if subject.after_close {
            self.controller.note_still_open(subject.share, is_alarm);
        }
        let Some(watched) = self.watched.get_mut(&subject.share).filter(|watched| watched.subject == subject && watched.due.is_none())
        else {
            return;
        };
        let is_wrong = is_alarm || is_so && !subject.after_close && matches!(reach, Reach::No(_));
        if is_wrong {
            let pause = PAUSES[watched.failures.min(PAUSES.len() - 1)];
            watched.failures += 1;
            self.plan(subject, pause);
        } else if subject.after_close {
            self.watched.remove(&subject.share);
        }
    }
}

async fn look_at(subject: Subject, controller: Handle, canaries: Canaries, look: Arc<dyn Look>) -> Found {
    let reach = match canaries.send(subject.share) {
        Some(canary) => {
            let counts = if subject.after_close { Counts::Anybodys } else { Counts::Ours(&canary) };
            look.look(&controller.public_url(subject.share, &canary.path()), counts).await
        }
        None => Reach::NotProbed(Unprobed::Busy),
    };
    told(&controller, subject, reach).await
}

/// Tells what was found.
async fn told(controller: &Handle, subject: Subject, reach: Reach) -> Found {
    let is_so = match controller.probed(subject.share, subject.link, subject.after_close, reach).await {
        Ok(is_so) => is_so,
        Err(error) => {
            tracing::warn!(share.id = %subject.share, error = %Causes(&error), "Could not note how share {} looks from outside", subject.share);
            // What cannot be noted is no less true.
            true
        }
    };
    Found { subject, reach, is_so }
}
