//! The life of a share: events in, facts out; the wanted effect and the next deadline follow from the state.

use core::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use self::undo::UNDO_FOR;
use super::network::network_of;
use super::transfer::MAX_OPEN_REQUESTS;
use super::{
    ByteRange, Carrier, Clamped, ControllerNumber, Evidence, Folded, Looks, Moment, OnStall, Policy, Reach, Recipient, RequestId, ShareId,
    SharedFile, Steady, Timestamp, TokenId, Transfer, TransferEnd, TransferId,
};

mod undo;

/// How long after the last byte a transfer still counts as moving, for the word that people read.
const MOVING_FOR: std::time::Duration = std::time::Duration::from_secs(5);

/// How many transfers whose use was given back a share remembers: somebody who redeems and leaves, over and over, must
/// not grow it. The event log keeps them all.
pub const MAX_GIVEN_BACK: usize = 64;

/// How many transfers whose use is spent a share without a limit of downloads keeps one by one, and so how many of them
/// may run at once: as many as there are threads that send. A share is saved whole, some 400 bytes for each.
pub const MAX_KEPT: usize = 256;
/// How many downloads of such a share may begin within how long. Each is saved three times with all that are kept, half a
/// megabyte, and leaves three lines in the event log for good: whoever has the link must not wear the disk out or fill it.
/// Fewer than [`MAX_KEPT_OVER`], so that they are still kept and can be counted.
const MAX_BEGINNING: usize = 60;
const BEGINNING_FOR: std::time::Duration = std::time::Duration::from_secs(3);
/// How many of those are over for good and kept for the owner to look at. The others become counters ([`Folded`]).
const MAX_KEPT_OVER: usize = 64;

/// What happens to a share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Time went by: whatever is due happens.
    TimePassed,
    /// The way in is open.
    TunnelOpened,
    /// The way in cannot be opened, for good.
    TunnelFailed,
    /// The way in was open and is gone; it is wanted again.
    TunnelLost,
    /// The way in is shut and nothing of the share can be reached.
    TunnelClosed,
    /// Somebody looked from outside.
    Probed {
        /// The link of the share when they set out: who looked at the share before it was opened again says nothing of it now.
        link: TokenId,
        /// Whether they looked at the closed share, where nothing may answer, or at the open one.
        after_close: bool,
        /// What they found.
        reach: Reach,
    },
    /// Somebody exercised the link.
    Redeemed {
        /// The link they hold; the share may have another since.
        link: TokenId,
        /// The new transfer's id.
        transfer: TransferId,
        /// Who they are.
        recipient: Recipient,
    },
    /// A request for bytes is about to be answered.
    RequestOpened {
        /// Whose transfer.
        transfer: TransferId,
        /// Which request.
        request: RequestId,
        /// The bytes it asks for.
        range: ByteRange,
        /// What answers it, where that is another process.
        carrier: Option<Carrier>,
    },
    /// Bytes arrived.
    Delivered {
        /// Whose transfer.
        transfer: TransferId,
        /// Which bytes. For an empty file the empty range says that the request was answered in full.
        range: ByteRange,
        /// How sure that is.
        evidence: Evidence,
    },
    /// A request for bytes ended, well or not.
    RequestEnded {
        /// Whose transfer.
        transfer: TransferId,
        /// Which request.
        request: RequestId,
        /// What was sent and is not known to have arrived.
        in_doubt: Option<ByteRange>,
    },
    /// The owner stopped one transfer.
    TransferStopped {
        /// Which.
        transfer: TransferId,
    },
    /// The file is not what was pinned any more.
    SourceChanged,
    /// The owner closed the share.
    Revoked,
    /// The owner gave it more time: it may be redeemed for so long from now, at most `max_tunnel`.
    Extended {
        /// How long from now.
        expires_in: std::time::Duration,
    },
    /// The owner offers a closed share once more, with a new link.
    Reopened {
        /// The new link.
        link: TokenId,
        /// The file as it is now.
        file: SharedFile,
    },
    /// The owner takes back that they closed it: the same link works again, until its same end. Only within [`UNDO_FOR`], and
    /// only where no byte ever left.
    Undone,
    /// The process began anew: no request runs and no tunnel is known to be open.
    Restarted,
    /// Another controller sees to it from here on, because whoever did is gone: nobody could have told of time that passed.
    TakenOver {
        /// Whether the way in led to the former one, and has to be opened anew.
        with_its_way_in: bool,
    },
    /// A controller that shares the store is not heard any more. It may be sending still.
    ControllerSilent {
        /// Which.
        controller: ControllerNumber,
    },
    /// A controller that shares the store has ended, or sends nothing of the share any more.
    ControllerEnded {
        /// Which.
        controller: ControllerNumber,
        /// Whether it does not come back for what another process sends for it, either.
        for_good: bool,
    },
}

/// What a share wants done. Doing it twice is fine; it is wanted until an event says that it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Open the way in.
    OpenTunnel,
    /// Cut every byte in flight and shut the way in.
    CloseTunnel,
}

/// What the event log keeps of a share's life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Fact {
    /// An owner made the share.
    #[serde(rename = "share.created")]
    Created,
    /// Its way in opened.
    #[serde(rename = "share.opened")]
    Opened,
    /// Its way in was lost and is being opened again.
    #[serde(rename = "share.tunnel_lost")]
    TunnelLost,
    /// Somebody looked from outside, and found something else than the last time.
    #[serde(rename = "share.probed")]
    Probed {
        /// What they found, as `reach` and, but for `yes`, `why`.
        #[serde(flatten)]
        reach: Reach,
        /// Whether the share was closed by then: with `yes` the one alarm there is.
        after_close: bool,
    },
    /// The owner gave it more time.
    #[serde(rename = "share.extended")]
    Extended {
        /// When the link ends now.
        expires_at: Timestamp,
    },
    /// The owner offered it once more.
    #[serde(rename = "share.reopened")]
    Reopened,
    /// The owner took back that they closed it.
    #[serde(rename = "share.undone")]
    Undone,
    /// Every use is spent and every byte of each arrived.
    #[serde(rename = "share.delivered")]
    Delivered,
    /// It is being closed.
    #[serde(rename = "share.closing")]
    Closing {
        /// Why.
        outcome: Outcome,
    },
    /// It is closed: nothing of it can be reached.
    #[serde(rename = "share.closed")]
    Closed {
        /// Why.
        outcome: Outcome,
    },
    /// A link was redeemed.
    #[serde(rename = "transfer.redeemed")]
    Redeemed {
        /// The transfer that began by it.
        transfer: TransferId,
    },
    /// A transfer's first byte is about to leave.
    #[serde(rename = "transfer.began")]
    Began {
        /// Which.
        transfer: TransferId,
    },
    /// A transfer ended.
    #[serde(rename = "transfer.ended")]
    Ended {
        /// Which.
        transfer: TransferId,
        /// How.
        end: TransferEnd,
        /// How much had arrived.
        delivered_bytes: u64,
        /// What the weakest of it rests on.
        evidence: Option<Evidence>,
        /// Whether the link may be redeemed again for it.
        given_back: bool,
        /// How long it took from the first request for its bytes (from its redeem where there was none), in milliseconds;
        /// lines of older versions do not say.
        #[serde(default)]
        duration_ms: Option<u64>,
        /// The network that it went to, as `203.0.113.0/24`, where that is known.
        #[serde(default)]
        network: Option<String>,
    },
}

/// How a share ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was delivered.
    Completed,
    /// Nobody took it in time.
    Expired,
    /// A transfer still ran when it had overrun the expiry by `max_tunnel`.
    TimedOut,
    /// The recipient stopped coming.
    Stalled,
    /// The owner closed it.
    Revoked,
    /// The file changed.
    SourceChanged,
    /// The way in could not be opened.
    Failed,
}

impl Outcome {
    /// Returns the word that JSON and the store use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Expired => "expired",
            Self::TimedOut => "timed_out",
            Self::Stalled => "stalled",
            Self::Revoked => "revoked",
            Self::SourceChanged => "source_changed",
            Self::Failed => "failed",
        }
    }
}

/// Where a share stands, as it is saved. What people see is the finer [`State`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Phase {
    /// Its start time has not come.
    Scheduled,
    /// Its way in is wanted and not yet open.
    Opening,
    /// Its way in is open.
    Open,
    /// Its way in is no longer wanted and may still be open.
    Closing {
        /// Why.
        outcome: Outcome,
    },
    /// Nothing of it can be reached.
    Closed {
        /// Why.
        outcome: Outcome,
        /// Since when.
        at: Moment,
    },
}

/// Where a share stands, in the word that people read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Its start time has not come.
    Scheduled,
    /// The tunnel is being opened.
    Opening,
    /// It is open and nobody has it.
    Offered,
    /// Bytes move.
    Transferring,
    /// A transfer exists and its bytes stopped.
    Waiting,
    /// Every use is spent and complete; the same transfers may fetch again.
    Delivered,
    /// It is being closed.
    Closing,
    /// It is closed.
    Closed,
}

impl State {
    /// Returns the word that JSON and the store use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Opening => "opening",
            Self::Offered => "offered",
            Self::Transferring => "transferring",
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::Closing => "closing",
            Self::Closed => "closed",
        }
    }
}

/// When a share wants to be woken, and what for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// When, on the steady clock.
    pub at: Steady,
    /// What will be due.
    pub reason: Reason,
}

/// What a deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Its start time comes.
    Start,
    /// Its link ends.
    Expiry,
    /// A moving transfer may overrun the expiry no further.
    MaxTunnel,
    /// A transfer has been silent for too long.
    Stall,
    /// A link was redeemed and nothing fetched.
    FirstRequest,
    /// Nobody may fetch again from here on.
    Grace,
}

/// Says why an event cannot happen to a share as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Its start time has not come.
    #[error("this share has not started yet")]
    NotStarted,
    /// Its way in is not open (yet, or again).
    #[error("this share is not open at the moment")]
    NotOpen,
    /// Its link ended.
    #[error("this link has expired")]
    Expired,
    /// Every use is taken, and a transfer still runs.
    #[error("this link is for {} and it is running right now", downloads(*.max_downloads))]
    Running {
        /// How many uses it had.
        max_downloads: u32,
    },
    /// Every use is spent.
    #[error("this link has been used")]
    Spent,
    /// As many as may run at once do, or as many as may begin in a moment did.
    #[error("too many downloads of this link run, or begin, at once: at most {MAX_KEPT}")]
    Crowded,
    /// The recipient is in no network that the link is for.
    #[error("this link is for another network")]
    NotAllowed,
    /// The share closed, or is closing.
    #[error("this share is closed")]
    Closed(Outcome),
    /// The link was replaced when the share was opened again.
    #[error("this link was replaced by another")]
    Replaced,
    /// There is no such transfer.
    #[error("there is no such transfer")]
    UnknownTransfer,
    /// The transfer is over.
    #[error("this transfer is over")]
    TransferOver(TransferEnd),
    /// Too many of its requests run at once.
    #[error("too many requests of this transfer run at once: at most {MAX_OPEN_REQUESTS}")]
    TooManyRequests,
    /// Only a closed share can be opened again.
    #[error("only a closed share can be opened again; this one is not closed")]
    NotClosed,
    /// Its close can be taken back no more.
    #[error(
        "only a close of your own can be taken back, within {} seconds and before the link ends; open it again with a new link",
        UNDO_FOR.as_secs()
    )]
    UndoTooLate,
    /// Somebody may have a byte of it.
    #[error("somebody had begun to download it, so that closing it cannot be taken back; open it again with a new link")]
    UndoAfterBytes,
    /// It is the program's own, and is to be over soon.
    #[error("this is a self-test, which ends by itself; it can be neither prolonged nor opened again")]
    SelfTest,
}

fn downloads(n: u32) -> String {
    if n == 1 { "one download".to_owned() } else { format!("{n} downloads") }
}

/// One file that an owner offers for a limited time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Names it.
    pub id: ShareId,
    /// What is shared.
    pub file: SharedFile,
    /// Its rules.
    pub policy: Policy,
    /// The link that works, if any does.
    pub link: TokenId,
    /// What the owner noted.
    pub note: Option<String>,
    /// What the owner tells the recipient.
    #[serde(default)]
    pub message: Option<String>,
    /// When it was made.
    pub created: Moment,
    /// When its link ends.
    pub expires: Moment,
    /// When its link would have ended, had the owner not extended it: what stands in the token.
    pub minted_expiry: Timestamp,
    /// When its way in first opened.
    pub opened: Option<Moment>,
    /// Where its way in leads, as what its links begin with; `None` where that is the same for every controller that shares the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached_at: Option<String>,
    /// Where it stands.
    pub phase: Phase,
    /// Every exercise of its link, oldest first; of those whose use was given back, the newest [`MAX_GIVEN_BACK`]; without
    /// a limit of downloads, [`MAX_KEPT`] at the most.
    pub transfers: Vec<Transfer>,
    /// Those that were over and are not kept.
    #[serde(default)]
    pub folded: Folded,
    /// What was found when somebody last looked from outside, at the share as it stands: open, or closed.
    #[serde(default)]
    pub reach: Option<Reach>,
    /// Who looked at the page of the link that it has.
    #[serde(default)]
    pub looks: Looks,
    /// When its owner closed it; `None` unless they did and it is still closed.
    #[serde(default)]
    revoked: Option<Moment>,
    /// Whether a byte may have left in a transfer whose use was given back and that is not kept.
    #[serde(default)]
    sent_unkept: bool,
    /// Controllers that fell silent while they answered requests for its bytes; a handful at the most, as many as there are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) unheard: Vec<ControllerNumber>,
    /// The most that ever arrived at one recipient, in bytes.
    peak_bytes: u64,
}

/// What came of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Decided {
    /// What the event log keeps, oldest first.
    pub facts: Vec<Fact>,
    /// Whether the event could happen.
    pub answer: Result<(), Refused>,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Start,
    End(TransferId, TransferEnd),
    Close(Outcome),
}

impl Share {
    /// Makes a share of `file`. It wants its way in opened at once, or at the policy's start.
    pub fn new(id: ShareId, link: TokenId, file: SharedFile, policy: Policy, note: Option<String>, now: Moment) -> (Self, Vec<Fact>) {
        let (phase, expires) = beginning(&policy, now);
        let share = Self {
            id,
            file,
            policy,
            link,
            note,
            message: None,
            created: now,
            expires,
            minted_expiry: expires.wall,
            opened: None,
            reached_at: None,
            phase,
            transfers: Vec::new(),
            folded: Folded::default(),
            reach: None,
            looks: Looks::default(),
            revoked: None,
            sent_unkept: false,
            unheard: Vec::new(),
            peak_bytes: 0,
        };
        (share, vec![Fact::Created])
    }

    /// Lets everything happen that is due at `now`, then `event`, then what is due because of it.
    ///
    /// A refused event changes nothing by itself; what was due has happened all the same, and its facts must be kept.
    pub fn on(&mut self, event: Event, now: Moment) -> Decided {
        let mut facts = Vec::new();
        // After a restart nobody could have come back yet: silence is counted anew before it is judged.
        if !matches!(event, Event::Restarted | Event::TakenOver { .. }) {
            self.settle(now, &mut facts);
        }
        let answer = self.apply(event, now, &mut facts);
        self.settle(now, &mut facts);
        Decided { facts, answer }
    }

    /// Returns what the share wants done.
    pub fn effect(&self) -> Option<Effect> {
        match self.phase {
            Phase::Opening => Some(Effect::OpenTunnel),
            Phase::Closing { .. } => Some(Effect::CloseTunnel),
            Phase::Scheduled | Phase::Open | Phase::Closed { .. } => None,
        }
    }

    /// Returns when it wants [`Event::TimePassed`] next, and what for. `None` only while it closes (the effect's end is
    /// what it waits for) and once it is closed.
    pub fn deadline(&self) -> Option<Deadline> {
        self.timed_steps(self.expires.steady).into_iter().map(|(at, reason, _)| Deadline { at, reason }).min_by_key(|d| d.at)
    }

    /// Returns the word for where it stands at `now`.
    pub fn state(&self, now: Moment) -> State {
        match self.phase {
            Phase::Scheduled => State::Scheduled,
            Phase::Opening => State::Opening,
            Phase::Closing { .. } => State::Closing,
            Phase::Closed { .. } => State::Closed,
            Phase::Open => {
                let moving = |t: &Transfer| t.open_requests() > 0 && now.steady.since(t.last_sign()) < MOVING_FOR;
                let mut active = self.transfers.iter().filter(|t| t.is_active()).peekable();
                if active.peek().is_some() {
                    if active.any(moving) { State::Transferring } else { State::Waiting }
                } else if self.is_takeable(now) {
                    State::Offered
                } else {
                    State::Delivered
                }
            }
        }
    }

    /// Returns how it ended, or is ending.
    pub fn outcome(&self) -> Option<Outcome> {
        match self.phase {
            Phase::Closing { outcome } | Phase::Closed { outcome, .. } => Some(outcome),
            Phase::Scheduled | Phase::Opening | Phase::Open => None,
        }
    }

    /// Returns whether nothing will happen to it any more unless its owner opens it again.
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed { .. })
    }

    /// Returns whether its link has ended, by either clock.
    pub fn has_expired(&self, now: Moment) -> bool {
        now.has_reached_either(self.expires)
    }

    /// Returns how often its link was redeemed, without the uses that were given back.
    pub fn uses_spent(&self) -> u64 {
        self.transfers.iter().filter(|t| !t.given_back).count() as u64 + self.folded.count()
    }

    /// Returns how many more times its link can be redeemed, time permitting; `None`: as often as anybody likes.
    pub fn uses_left(&self) -> Option<u32> {
        let spent = u32::try_from(self.uses_spent()).unwrap_or(u32::MAX);
        Some(self.policy.max_downloads?.saturating_sub(spent))
    }

    /// Returns whether no use of its link is left.
    pub fn is_spent(&self) -> bool {
        self.uses_left() == Some(0)
    }

    /// Returns how many of its transfers completed.
    pub fn completed(&self) -> u64 {
        self.transfers.iter().filter(|t| t.is_completed()).count() as u64 + self.folded.completed
    }

    /// Returns one of its transfers.
    pub fn transfer(&self, id: TransferId) -> Option<&Transfer> {
        self.transfers.iter().find(|t| t.id == id)
    }

    /// Returns the transfer that has got furthest; the later of two that have got equally far.
    pub fn furthest_transfer(&self) -> Option<&Transfer> {
        self.transfers.iter().max_by_key(|t| t.coverage.covered_bytes())
    }

    /// Returns how much of the file has arrived at the recipient who has most of it: 0 to 100, 100 only for all of it.
    pub fn percent(&self) -> u8 {
        let size = self.file.size_bytes();
        if size == 0 {
            return if self.completed() > 0 { 100 } else { 0 };
        }
        (u128::from(self.peak_bytes) * 100 / u128::from(size)).min(100) as u8
    }

    /// Returns the most that has arrived at one recipient, in bytes. It never falls while a link lives.
    pub fn delivered_bytes(&self) -> u64 {
        self.peak_bytes
    }

    /// Returns whether a request for bytes of `transfer` may be answered at `now`.
    ///
    /// # Errors
    /// [`Refused`], with the reason that the recipient is told.
    pub fn may_fetch(&self, transfer: TransferId, now: Moment) -> Result<(), Refused> {
        match self.phase {
            Phase::Scheduled => return Err(Refused::NotStarted),
            Phase::Opening => return Err(Refused::NotOpen),
            Phase::Closing { outcome } | Phase::Closed { outcome, .. } => return Err(Refused::Closed(outcome)),
            Phase::Open => {}
        }
        let transfer = self.transfer(transfer).ok_or(Refused::UnknownTransfer)?;
        match transfer.ended {
            None => {}
            Some(_) if transfer.grace_end(&self.policy.limits).is_some_and(|end| now.steady < end) => {}
            Some((end, _)) => return Err(Refused::TransferOver(end)),
        }
        if transfer.open_requests() >= MAX_OPEN_REQUESTS {
            return Err(Refused::TooManyRequests);
        }
        Ok(())
    }

    /// Returns whether `link` may be redeemed at `now` by somebody at `address`.
    ///
    /// # Errors
    /// [`Refused`], with the reason that the recipient is told.
    pub fn may_redeem(&self, link: TokenId, address: Option<IpAddr>, now: Moment) -> Result<(), Refused> {
        if link != self.link {
            return Err(Refused::Replaced);
        }
        if let Some(outcome) = self.outcome() {
            return Err(Refused::Closed(outcome));
        }
        // Whoever may not have it is told nothing of when and how often it works.
        if !self.policy.allows(address) {
            return Err(Refused::NotAllowed);
        }
        if self.phase == Phase::Scheduled {
            return Err(Refused::NotStarted);
        }
        let running = self.transfers.iter().filter(|t| t.is_active()).count();
        match self.policy.max_downloads {
            Some(max_downloads) if self.is_spent() => {
                return Err(if running > 0 { Refused::Running { max_downloads } } else { Refused::Spent });
            }
            None if running >= MAX_KEPT || self.is_rushed(now) => return Err(Refused::Crowded),
            Some(_) | None => {}
        }
        if self.has_expired(now) {
            return Err(Refused::Expired);
        }
        if self.phase == Phase::Opening { Err(Refused::NotOpen) } else { Ok(()) }
    }

    fn is_rushed(&self, now: Moment) -> bool {
        let beginning = |t: &&Transfer| now.steady.since(t.redeemed.steady) < BEGINNING_FOR;
        self.transfers.iter().filter(beginning).count() >= MAX_BEGINNING
    }

    fn apply(&mut self, event: Event, now: Moment, facts: &mut Vec<Fact>) -> Result<(), Refused> {
        let is_for_closed = matches!(event, Event::Reopened { .. } | Event::Undone | Event::Probed { .. });
        if let (Phase::Closed { outcome, .. }, false) = (&self.phase, is_for_closed) {
            // What is over stays as it was, whoever comes late; only who asks for something is told.
            let asks = matches!(event, Event::Redeemed { .. } | Event::RequestOpened { .. } | Event::Extended { .. });
            return if asks { Err(Refused::Closed(*outcome)) } else { Ok(()) };
        }
        match event {
            Event::TimePassed => {}
            Event::TunnelOpened => {
                if self.phase == Phase::Opening {
                    self.phase = Phase::Open;
                    self.opened.get_or_insert(now);
                    facts.push(Fact::Opened);
                }
            }
            Event::TunnelFailed => {
                if self.phase == Phase::Opening {
                    self.close(Outcome::Failed, now, facts);
                }
            }
            Event::TunnelLost => {
                if self.phase == Phase::Open {
                    (self.phase, self.reach) = (Phase::Opening, None);
                    facts.push(Fact::TunnelLost);
                }
            }
            Event::Probed { link, after_close, reach } => {
                let is_of_now = match self.phase {
                    Phase::Open => !after_close,
                    Phase::Closed { .. } => after_close,
                    Phase::Scheduled | Phase::Opening | Phase::Closing { .. } => false,
                };
                if is_of_now && link == self.link && self.reach != Some(reach) {
                    self.reach = Some(reach);
                    facts.push(Fact::Probed { reach, after_close });
                }
            }
            Event::TunnelClosed => {
                if let Phase::Closing { outcome } = self.phase {
                    self.phase = Phase::Closed { outcome, at: now };
                    facts.push(Fact::Closed { outcome });
                    // What ran was cut, and whoever comes late with its end is not heard any more.
                    self.transfers.iter_mut().for_each(Transfer::nothing_runs);
                    self.unheard.clear();
                }
            }
            Event::Redeemed { link, transfer, recipient } => {
                if link == self.link && self.transfer(transfer).is_some() {
                    // It was saved, and the answer to that was lost.
                    return Ok(());
                }
                self.may_redeem(link, recipient.ip(), now)?;
                self.make_room(now);
                self.transfers.push(Transfer::new(transfer, recipient, now));
                facts.push(Fact::Redeemed { transfer });
            }
            Event::RequestOpened { transfer: id, request, range, carrier } => {
                self.may_fetch(id, now)?;
                let transfer = self.transfer_mut(id)?;
                if !transfer.begun {
                    facts.push(Fact::Began { transfer: id });
                }
                transfer.request_opened(request, range, carrier, now);
                self.complete_if_whole_and_not_empty(id, now, facts);
            }
            Event::Delivered { transfer: id, range, evidence } => {
                let size_bytes = self.file.size_bytes();
                let range = ByteRange::new(range.start.min(size_bytes), range.end.min(size_bytes));
                self.transfer_mut(id)?.delivered(range, evidence, now);
                self.complete_if_whole(id, now, facts);
            }
            Event::RequestEnded { transfer: id, request, in_doubt } => {
                let size_bytes = self.file.size_bytes();
                let transfer = self.transfer_mut(id)?;
                transfer.request_ended(request, in_doubt, now);
                transfer.count_sent_tails(size_bytes, now);
                self.complete_if_whole_and_not_empty(id, now, facts);
            }
            Event::TransferStopped { transfer: id } => {
                if self.transfer(id).ok_or(Refused::UnknownTransfer)?.is_active() {
                    self.end_transfer(id, TransferEnd::Stopped, now, facts);
                }
            }
            Event::SourceChanged => {
                // Who has everything has it: a file that changes afterwards only ends the grace.
                let outcome = if self.all_arrived() { Outcome::Completed } else { Outcome::SourceChanged };
                self.close_unless_closing(outcome, now, facts);
            }
            Event::Revoked => {
                let is_theirs = self.outcome().is_none();
                self.close_unless_closing(Outcome::Revoked, now, facts);
                if is_theirs {
                    self.revoked = Some(now);
                }
            }
            Event::Extended { expires_in } => {
                if self.file.is_self_test() {
                    return Err(Refused::SelfTest);
                }
                if let Phase::Closing { outcome } | Phase::Closed { outcome, .. } = self.phase {
                    return Err(Refused::Closed(outcome));
                }
                let from = self.policy.starts.filter(|_| self.phase == Phase::Scheduled).unwrap_or(now);
                self.policy.clamped = Clamped::of(expires_in, &self.policy.limits);
                self.expires = from.plus(expires_in.min(self.policy.limits.max_tunnel));
                facts.push(Fact::Extended { expires_at: self.expires.wall });
            }
            Event::Reopened { link, file } => {
                if !self.is_closed() {
                    return Err(Refused::NotClosed);
                }
                self.policy.starts = None;
                (self.phase, self.expires) = beginning(&self.policy, now);
                (self.minted_expiry, self.link, self.file, self.opened) = (self.expires.wall, link, file, None);
                self.reach = None;
                self.transfers.clear();
                (self.folded, self.looks) = (Folded::default(), Looks::default());
                (self.revoked, self.sent_unkept, self.peak_bytes) = (None, false, 0);
                facts.push(Fact::Reopened);
            }
            Event::Undone => {
                self.may_undo(now)?;
                // Where its start has come, that is due at once.
                self.phase = if self.policy.starts.is_some() { Phase::Scheduled } else { Phase::Opening };
                (self.revoked, self.reach) = (None, None);
                facts.push(Fact::Undone);
            }
            Event::Restarted => {
                for transfer in &mut self.transfers {
                    transfer.restarted(now);
                }
                if self.phase == Phase::Open {
                    (self.phase, self.reach) = (Phase::Opening, None);
                }
            }
            Event::TakenOver { with_its_way_in } => {
                // Of a time when the store was not shared no request runs any more.
                self.controller_ended(ControllerNumber::ALONE, false, now);
                self.transfers.iter_mut().filter(|transfer| transfer.is_active()).for_each(|transfer| transfer.heard_anew(now));
                if with_its_way_in && self.phase == Phase::Open {
                    (self.phase, self.reach) = (Phase::Opening, None);
                    facts.push(Fact::TunnelLost);
                }
            }
            Event::ControllerSilent { controller } => self.controller_silent(controller, now),
            Event::ControllerEnded { controller, for_good } => self.controller_ended(controller, for_good, now),
        }
        Ok(())
    }

    /// Lets everything happen that is due. Each step ends a transfer or moves the phase forward, so it ends.
    fn settle(&mut self, now: Moment, facts: &mut Vec<Fact>) {
        while let Some(step) = self.due(now) {
            match step {
                Step::Start => self.phase = Phase::Opening,
                Step::End(id, end) => self.end_transfer(id, end, now, facts),
                Step::Close(outcome) => self.close(outcome, now, facts),
            }
        }
    }

    fn due(&self, now: Moment) -> Option<Step> {
        let expiry = if self.has_expired(now) { self.expires.steady.min(now.steady) } else { self.expires.steady };
        self.timed_steps(expiry).into_iter().filter(|(at, ..)| *at <= now.steady).min_by_key(|(at, ..)| *at).map(|(_, _, step)| step)
    }

    /// Returns everything that time alone will bring, when, and why; `expiry` is when the link ends.
    fn timed_steps(&self, expiry: Steady) -> Vec<(Steady, Reason, Step)> {
        match self.phase {
            Phase::Scheduled => {
                let start = self.policy.starts.map_or(self.created.steady, |at| at.steady);
                return vec![(start, Reason::Start, Step::Start)];
            }
            Phase::Closing { .. } | Phase::Closed { .. } => return Vec::new(),
            Phase::Opening | Phase::Open => {}
        }
        let mut steps: Vec<_> = self
            .transfers
            .iter()
            .filter_map(|t| {
                let (at, end) = t.silence_deadline(&self.policy.limits)?;
                let reason = if end == TransferEnd::Stalled { Reason::Stall } else { Reason::FirstRequest };
                Some((at, reason, Step::End(t.id, end)))
            })
            .collect();
        if !steps.is_empty() {
            // The expiry cuts nobody off in the middle, but this does: a tunnel's life stays bounded.
            let last = self.expires.steady.plus(self.policy.limits.max_tunnel);
            steps.push((last, Reason::MaxTunnel, Step::Close(Outcome::TimedOut)));
            return steps;
        }
        let grace_end = self.transfers.iter().filter_map(|t| t.grace_end(&self.policy.limits)).max();
        let unhappy = self.transfers.iter().filter(|t| !t.given_back && !t.is_completed()).filter_map(|t| t.ended).next_back();
        steps.push(match (self.is_spent(), unhappy, grace_end) {
            (true, Some((end, at)), grace_end) => {
                (grace_end.map_or(at.steady, |grace_end| grace_end.max(at.steady)), Reason::Stall, Step::Close(outcome_of(end)))
            }
            (true, None, Some(grace_end)) => (grace_end, Reason::Grace, Step::Close(Outcome::Completed)),
            (_, _, Some(grace_end)) => {
                let reason = if grace_end > expiry { Reason::Grace } else { Reason::Expiry };
                (grace_end.max(expiry), reason, Step::Close(Outcome::Completed))
            }
            (_, _, None) if self.folded.completed > 0 => (expiry, Reason::Expiry, Step::Close(Outcome::Completed)),
            (_, _, None) => (expiry, Reason::Expiry, Step::Close(Outcome::Expired)),
        });
        steps
    }

    /// Returns whether every use is spent, and every byte of each arrived.
    fn all_arrived(&self) -> bool {
        self.is_spent() && self.transfers.iter().all(|t| t.given_back || t.is_completed())
    }

    fn is_takeable(&self, now: Moment) -> bool {
        !self.is_spent() && !self.has_expired(now)
    }

    fn transfer_mut(&mut self, id: TransferId) -> Result<&mut Transfer, Refused> {
        self.transfers.iter_mut().find(|t| t.id == id).ok_or(Refused::UnknownTransfer)
    }

    pub(super) fn complete_if_whole_and_not_empty(&mut self, id: TransferId, now: Moment, facts: &mut Vec<Fact>) {
        if self.file.size_bytes() > 0 {
            self.complete_if_whole(id, now, facts);
        }
    }

    fn complete_if_whole(&mut self, id: TransferId, now: Moment, facts: &mut Vec<Fact>) {
        let size_bytes = self.file.size_bytes();
        let Some(transfer) = self.transfer(id) else { return };
        let whole = transfer.is_active() && transfer.begun && transfer.coverage.is_whole(size_bytes);
        self.peak_bytes = self.peak_bytes.max(transfer.coverage.covered_bytes());
        if whole {
            self.end_transfer(id, TransferEnd::Completed, now, facts);
        }
    }

    fn end_transfer(&mut self, id: TransferId, end: TransferEnd, now: Moment, facts: &mut Vec<Fact>) {
        let on_stall = self.policy.on_stall;
        let Ok(transfer) = self.transfer_mut(id) else { return };
        transfer.ended = Some((end, now));
        transfer.given_back = match end {
            TransferEnd::NeverBegan => true,
            TransferEnd::Stalled => on_stall == OnStall::Reopen,
            TransferEnd::Completed | TransferEnd::Stopped | TransferEnd::Cut => false,
        };
        facts.push(Fact::Ended {
            transfer: id,
            end,
            delivered_bytes: transfer.coverage.covered_bytes(),
            evidence: transfer.coverage.weakest_evidence(),
            given_back: transfer.given_back,
            duration_ms: u64::try_from(transfer.duration(now).as_millis()).ok(),
            network: transfer.recipient.address.as_deref().and_then(network_of),
        });
        if end == TransferEnd::Completed && self.all_arrived() {
            facts.push(Fact::Delivered);
        }
        let given_back = self.transfers.iter().filter(|t| t.given_back);
        if given_back.clone().count() > MAX_GIVEN_BACK
            && let Some((oldest, begun)) = given_back.map(|t| (t.id, t.begun)).next()
        {
            self.sent_unkept |= begun;
            self.transfers.retain(|t| t.id != oldest);
        }
    }

    /// Folds what is over, so that a share without a limit of downloads has room for one more: first whoever has been over
    /// for longest. Where many come at once that may be somebody who could have fetched again.
    fn make_room(&mut self, now: Moment) {
        if self.policy.max_downloads.is_some() {
            return;
        }
        let limits = self.policy.limits;
        // Until when anything could still be fetched; `None` while it runs, and where no use was spent.
        let over_at = |t: &Transfer| t.ended.filter(|_| !t.given_back).map(|(_, at)| t.grace_end(&limits).unwrap_or(at.steady));
        loop {
            let kept = self.transfers.iter().filter(|t| !t.given_back).count();
            let over = self.transfers.iter().filter(|t| over_at(t).is_some_and(|at| at <= now.steady)).count();
            if kept < MAX_KEPT && over <= MAX_KEPT_OVER {
                return;
            }
            let longest = self.transfers.iter().enumerate().filter_map(|(index, t)| Some((over_at(t)?, index))).min();
            let Some((_, index)) = longest else { return };
            self.folded.add(&self.transfers.remove(index));
        }
    }

    fn close_unless_closing(&mut self, outcome: Outcome, now: Moment, facts: &mut Vec<Fact>) {
        if self.outcome().is_none() {
            self.close(outcome, now, facts);
        }
    }

    fn close(&mut self, outcome: Outcome, now: Moment, facts: &mut Vec<Fact>) {
        (self.phase, self.reach) = (Phase::Closing { outcome }, None);
        // One of which no byte has left spent nothing, also here: the owner may take the close back.
        let end_of = |t: &Transfer| if t.begun { TransferEnd::Cut } else { TransferEnd::NeverBegan };
        let active: Vec<_> = self.transfers.iter().filter(|t| t.is_active()).map(|t| (t.id, end_of(t))).collect();
        for (id, end) in active {
            self.end_transfer(id, end, now, facts);
        }
        facts.push(Fact::Closing { outcome });
    }
}

fn beginning(policy: &Policy, now: Moment) -> (Phase, Moment) {
    match policy.starts {
        Some(start) => (Phase::Scheduled, start.plus(policy.expires_in)),
        None => (Phase::Opening, now.plus(policy.expires_in)),
    }
}

fn outcome_of(end: TransferEnd) -> Outcome {
    match end {
        TransferEnd::Completed => Outcome::Completed,
        TransferEnd::Stopped => Outcome::Revoked,
        TransferEnd::Stalled | TransferEnd::NeverBegan | TransferEnd::Cut => Outcome::Stalled,
    }
}

#[cfg(test)]
mod tests;
