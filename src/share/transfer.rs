//! One recipient's exercise of a link: its coverage, its running requests, how it ended.

use core::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::{ByteRange, ControllerNumber, Coverage, Evidence, Limits, Moment, RequestId, Steady, TransferId};

/// How many requests of one transfer may run at once; download managers use up to 16.
pub(super) const MAX_OPEN_REQUESTS: usize = 32;
/// How many doubtful ranges, and how many starting points, a transfer remembers. More than the requests that can run at
/// once; older ones are forgotten, which costs at most that those bytes must be fetched again.
const MAX_REMEMBERED: usize = 2 * MAX_OPEN_REQUESTS;

/// How much of a running request may have arrived and not be known as arrived, as far as it decides whether another
/// request went on behind it or fetched another part: what the kernel buffers, a few times over. The parts that download
/// managers make (aria2: 20 MiB, unless told otherwise) lie further apart.
const MAX_UNSAVED: u64 = 4 * 1024 * 1024;

/// Who redeemed a link, as far as it can be known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// Their address, where nothing hides it.
    pub address: Option<String>,
    /// What their client calls itself (User-Agent), cut to a sensible length.
    pub agent: String,
}

impl Recipient {
    /// Returns their address, where it is known.
    pub fn ip(&self) -> Option<IpAddr> {
        self.address.as_deref()?.parse().ok()
    }
}

/// How a transfer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferEnd {
    /// Every byte arrived.
    Completed,
    /// No byte arrived for the stall timeout.
    Stalled,
    /// It never began: no byte was ever fetched. The use was given back.
    NeverBegan,
    /// The owner stopped it.
    Stopped,
    /// The share closed around it.
    Cut,
}

/// The connection of another process that sends the bytes of a request. It goes on when this process ends, and by this it is
/// found again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carrier {
    /// What the request was called where it was handed over.
    pub name: u64,
    /// The sender's end.
    pub local: SocketAddr,
    /// The recipient's, or a proxy's.
    pub peer: SocketAddr,
    /// Which of all connections that ever have these two ends, as the kernel counts.
    pub cookie: u64,
    /// How many bytes of the connection had been written before the answer.
    pub begins_at: u64,
    /// Whether a proxy takes the bytes, and the recipient gets them from it.
    pub is_proxied: bool,
}

/// A request that another process answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried {
    /// Of which transfer.
    pub transfer: TransferId,
    /// Its number, by which its end is told where nobody goes on with it.
    pub request: RequestId,
    /// The bytes it asks for.
    pub range: ByteRange,
    /// By what.
    pub carrier: Carrier,
}

/// A request for bytes that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct OpenRequest {
    id: RequestId,
    range: ByteRange,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    carrier: Option<Carrier>,
}

/// Bytes that were sent and may or may not have arrived when their request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct InDoubt {
    request: RequestId,
    range: ByteRange,
    /// What the bytes count as once the recipient resumes behind them.
    evidence: Evidence,
}

/// The end of a part that was sent to its last byte, and whose acknowledgement was lost with its connection. Whoever has
/// it never asks for it again, so nothing can vouch for it directly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct SentTail {
    range: ByteRange,
    /// The newest request at that time.
    newest: RequestId,
    /// Whether the recipient came back since, and got all of another part.
    came_back: bool,
}

/// One recipient's exercise of a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Names it; see [`TransferId`].
    pub id: TransferId,
    /// When the link was redeemed.
    pub redeemed: Moment,
    /// Who redeemed it.
    pub recipient: Recipient,
    /// Which bytes have arrived.
    pub coverage: Coverage,
    /// How and when it ended; `None` while it lives.
    pub ended: Option<(TransferEnd, Moment)>,
    /// Whether a byte may have left for the recipient. Saved before the first one does.
    pub begun: bool,
    /// When the first request for its bytes began; rows of older versions do not say.
    #[serde(default)]
    pub begun_at: Option<Moment>,
    /// Whether its use was given back.
    pub given_back: bool,
    /// When a byte last arrived, or a request last began where none has.
    last_sign: Steady,
    requests: Vec<OpenRequest>,
    in_doubt: Vec<InDoubt>,
    sent_tails: Vec<SentTail>,
    /// Where requests started, newest last: a later one that starts behind doubtful bytes vouches for them.
    starts: Vec<OpenRequest>,
}

impl Transfer {
    pub(super) fn new(id: TransferId, recipient: Recipient, now: Moment) -> Self {
        Self {
            id,
            redeemed: now,
            recipient,
            coverage: Coverage::default(),
            ended: None,
            begun: false,
            begun_at: None,
            given_back: false,
            last_sign: now.steady,
            requests: Vec::new(),
            in_doubt: Vec::new(),
            sent_tails: Vec::new(),
            starts: Vec::new(),
        }
    }

    /// Returns whether it neither completed nor failed yet.
    pub fn is_active(&self) -> bool {
        self.ended.is_none()
    }

    /// Returns whether every byte arrived.
    pub fn is_completed(&self) -> bool {
        matches!(self.ended, Some((TransferEnd::Completed, _)))
    }

    /// Returns how long it has been under way at `now`: from the first request for its bytes, or where that is not known,
    /// from its redeem.
    pub fn duration(&self, now: Moment) -> std::time::Duration {
        now.steady.since(self.begun_at.unwrap_or(self.redeemed).steady)
    }

    /// Returns how much of `size_bytes` has arrived: 0 to 100, 100 only for all of it.
    pub fn percent(&self, size_bytes: u64) -> u8 {
        match (u128::from(self.coverage.covered_bytes()) * 100).checked_div(u128::from(size_bytes)) {
            Some(percent) => u8::try_from(percent.min(100)).expect("100 fits"),
            None => {
                if self.is_completed() {
                    100
                } else {
                    0
                }
            }
        }
    }

    /// Returns how many requests for bytes run.
    pub fn open_requests(&self) -> usize {
        self.requests.len()
    }

    /// Returns the numbers of the requests for bytes that run.
    pub(super) fn requests(&self) -> impl Iterator<Item = RequestId> + '_ {
        self.requests.iter().map(|request| request.id)
    }

    /// Takes in what has arrived by what somebody else knows of the same transfer.
    pub(super) fn learn(&mut self, other: &Self) {
        if self.coverage.add_all(&other.coverage) > 0 {
            self.last_sign = self.last_sign.max(other.last_sign);
        }
    }

    /// Returns the requests that another process answers: it may go on with them when this one has ended.
    pub fn carried(&self) -> impl Iterator<Item = Carried> + '_ {
        let carried = |it: &OpenRequest| Some(Carried { transfer: self.id, request: it.id, range: it.range, carrier: it.carrier? });
        self.requests.iter().filter_map(carried)
    }

    /// Returns when a byte last arrived, or a request last began where none has.
    pub fn last_sign(&self) -> Steady {
        self.last_sign
    }

    /// Returns until when it may fetch again, once every byte arrived.
    pub fn grace_end(&self, limits: &Limits) -> Option<Steady> {
        self.ended.filter(|(end, _)| *end == TransferEnd::Completed).map(|(_, at)| at.steady.plus(limits.grace_period))
    }

    /// Returns when silence ends it, and whether that gives the use back; `None` once it has ended.
    pub(super) fn silence_deadline(&self, limits: &Limits) -> Option<(Steady, TransferEnd)> {
        if !self.is_active() {
            return None;
        }
        Some(if self.begun {
            (self.last_sign.plus(limits.stall_timeout), TransferEnd::Stalled)
        } else {
            (self.last_sign.plus(limits.first_request_timeout()), TransferEnd::NeverBegan)
        })
    }

    pub(super) fn request_opened(&mut self, id: RequestId, range: ByteRange, carrier: Option<Carrier>, now: Moment) {
        if !self.begun {
            (self.begun, self.begun_at) = (true, Some(now));
        }
        if self.coverage.covered_bytes() == 0 {
            self.last_sign = now.steady;
        }
        // One that another process went on with while this one was dead is the same request.
        let is_same = |request: &OpenRequest| carrier.is_some_and(|carrier| request.carrier.is_some_and(|old| old.name == carrier.name));
        self.requests.retain(|request| !is_same(request));
        self.requests.push(OpenRequest { id, range, carrier });
        // Whoever asks for it does not have it.
        self.sent_tails.retain(|tail| range.end <= tail.range.start || tail.range.end <= range.start);
        remember(&mut self.starts, OpenRequest { id, range, carrier: None });
        // Whoever resumes behind doubtful bytes says that they have them.
        for doubt in self.in_doubt.clone() {
            self.vouch(doubt, range.start, now);
        }
    }

    pub(super) fn delivered(&mut self, range: ByteRange, evidence: Evidence, now: Moment) -> u64 {
        let added = self.coverage.add(range, evidence);
        if added > 0 {
            self.last_sign = now.steady;
        }
        added
    }

    /// Ends a request. `in_doubt` is what was sent and not known to have arrived.
    pub(super) fn request_ended(&mut self, id: RequestId, in_doubt: Option<ByteRange>, now: Moment) {
        let Some(request) = self.requests.iter().find(|request| request.id == id) else { return };
        // Whoever begins right behind what a request asked for fetches another part, and says nothing about this one.
        let part = request.range;
        self.requests.retain(|request| request.id != id);
        match in_doubt.filter(|range| !range.is_empty()) {
            Some(doubtful) => {
                let range = ByteRange::new(doubtful.start, doubtful.end.min(part.end.saturating_sub(1)));
                self.doubt(InDoubt { request: id, range, evidence: Evidence::Acknowledged }, now);
                if doubtful.end == part.end {
                    let newest = self.starts.iter().map(|start| start.id).max().unwrap_or(id);
                    remember(&mut self.sent_tails, SentTail { range: doubtful, newest, came_back: false });
                }
            }
            None if self.coverage.has(part) => {
                self.sent_tails.iter_mut().filter(|tail| tail.newest < id).for_each(|tail| tail.came_back = true);
            }
            // Not a byte left, nothing else runs and nothing arrived: it has not begun after all.
            None if self.is_active() && self.coverage.covered_bytes() == 0 && self.requests.is_empty() && self.in_doubt.is_empty() => {
                (self.begun, self.begun_at) = (false, None);
                self.last_sign = now.steady;
            }
            None => {}
        }
    }

    /// Counts the ends of parts whose acknowledgements were lost, where they are all that is missing of `size_bytes`, nothing
    /// runs, and the recipient came back and fetched the rest: they were handed over, and grace lets them be fetched again.
    pub(super) fn count_sent_tails(&mut self, size_bytes: u64, now: Moment) {
        if !self.requests.is_empty() || !self.sent_tails.iter().any(|tail| tail.came_back) {
            return;
        }
        let mut coverage = self.coverage.clone();
        for tail in self.sent_tails.iter().filter(|tail| tail.came_back) {
            coverage.add(tail.range, Evidence::HandedOver);
        }
        if coverage.is_whole(size_bytes) {
            (self.coverage, self.last_sign) = (coverage, now.steady);
            self.sent_tails.clear();
        }
    }

    /// Its share is closed: no request runs any more, and none is waited for.
    pub(super) fn nothing_runs(&mut self) {
        self.requests.clear();
    }

    /// The process died and no request runs any more. How far each had got is known only up to what was saved, so
    /// everything behind that is in doubt, and counts as handed over once the recipient resumes behind it.
    pub(super) fn restarted(&mut self, now: Moment) {
        self.last_sign = now.steady;
        let begun: Vec<u64> = self.starts.iter().map(|start| start.range.start).collect();
        // What another process answers may go on; it is taken over, or ended, and what came of it is said then.
        let (carried, requests): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.requests).into_iter().partition(|request| request.carrier.is_some());
        self.requests = carried.into_iter().zip(0..).map(|(request, n)| OpenRequest { id: RequestId(u64::MAX - n), ..request }).collect();
        self.put_in_doubt(requests, &begun, now);
        // Request numbers begin anew with the process; what was seen before it cannot vouch for what comes after.
        self.starts.clear();
        self.sent_tails.iter_mut().for_each(|tail| tail.newest = RequestId(0));
    }

    /// Whoever listened was away: silence is counted from `now` on.
    pub(super) fn heard_anew(&mut self, now: Moment) {
        self.last_sign = self.last_sign.max(now.steady);
    }

    /// A controller is not heard any more, and none of its requests that it answered itself is known to run. What another process
    /// answers for it goes on by itself, and it takes that up again when it comes back; it is lost, too, where that is `for_good`.
    pub(super) fn controller_lost(&mut self, controller: ControllerNumber, for_good: bool, now: Moment) {
        let is_lost = |request: &OpenRequest| request.id.controller() == controller && (for_good || request.carrier.is_none());
        let (lost, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.requests).into_iter().partition(is_lost);
        self.requests = others;
        if !lost.is_empty() {
            // Whoever it sent to comes back to another: silence is counted anew.
            self.heard_anew(now);
            let begun: Vec<u64> = self.starts.iter().map(|start| start.range.start).collect();
            self.put_in_doubt(lost, &begun, now);
        }
    }

    /// Ends requests of which is known only what was saved: what lies behind that, up to where the next part begins, is in doubt.
    fn put_in_doubt(&mut self, requests: Vec<OpenRequest>, begun: &[u64], now: Moment) {
        for request in requests {
            let arrived = self
                .coverage
                .ranges()
                .into_iter()
                .filter(|covered| covered.start <= request.range.start && request.range.start < covered.end)
                .map(|covered| covered.end)
                .max();
            let arrived = arrived.unwrap_or(request.range.start);
            // Far behind what arrived begins no resumed request but another part of the same file, fetched beside this one.
            let parts = begun.iter().copied().filter(|start| *start > arrived.saturating_add(MAX_UNSAVED));
            let next_part = parts.chain([request.range.end]).min().unwrap_or(request.range.end);
            let range = ByteRange::new(arrived, next_part.saturating_sub(1));
            self.doubt(InDoubt { request: request.id, range, evidence: Evidence::HandedOver }, now);
        }
    }

    fn doubt(&mut self, doubt: InDoubt, now: Moment) {
        remember(&mut self.in_doubt, doubt);
        let later: Vec<u64> = self.starts.iter().filter(|start| start.id > doubt.request).map(|start| start.range.start).collect();
        for start in later {
            self.vouch(doubt, start, now);
        }
    }

    fn vouch(&mut self, doubt: InDoubt, start: u64, now: Moment) {
        if doubt.range.start < start && start <= doubt.range.end {
            self.delivered(ByteRange::new(doubt.range.start, start), doubt.evidence, now);
        }
    }
}

fn remember<T>(list: &mut Vec<T>, item: T) {
    if list.len() == MAX_REMEMBERED {
        list.remove(0);
    }
    list.push(item);
}
