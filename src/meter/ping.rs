//! What an HTTP/2 recipient confirmed: a PING that was sent behind bytes came back.
//!
//! Frames arrive in the order in which they left, and whoever answers a PING has read all that stood before it (RFC 9113 6.7).
//! So this follows the frames of a connection in both directions. Behind every so many bytes of DATA it has a PING to send, and
//! notes what of each stream had left by then; when the answer comes, so much is confirmed, however many proxies of TCP stand
//! between. The PINGs are its own: they are put between the frames of whoever speaks HTTP/2, who never sees the answers.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::window::Window;

/// How much DATA leaves before it is asked after: what is told lags behind by no more than this and a round trip.
const PING_EVERY_BYTES: u64 = 64 * 1024;
/// How many PINGs may be out: one for each part of what may be unconfirmed, and as many again for the ends of bodies.
const MAX_PINGS: usize = 32;

/// How long a frame's header is (RFC 9113 4.1).
const HEADER_BYTES: usize = 9;
/// How long a PING's content is.
const PING_BYTES: usize = 8;
/// What a client says before its first frame.
const PREFACE_BYTES: usize = 24;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const PING: u8 = 0x6;
const CONTINUATION: u8 = 0x9;
/// On a PING: it is an answer.
const ACK: u8 = 0x1;
/// On HEADERS and CONTINUATION: the last of its fields.
const END_HEADERS: u8 = 0x4;
/// On DATA: some of it is no content.
const PADDED: u8 = 0x8;

/// A PING as it stands between frames.
pub type PingFrame = [u8; HEADER_BYTES + PING_BYTES];

/// Follows the frames of one HTTP/2 connection.
#[derive(Debug)]
pub struct PingMeter {
    outgoing: Frames,
    incoming: Incoming,
    bodies: HashMap<u32, Body>,
    pings: VecDeque<Ping>,
    /// How much DATA has left, of all streams, whole frames only.
    left_bytes: u64,
    /// How much of that stood before the last PING that left, and before the last that was answered.
    pinged_bytes: u64,
    confirmed_bytes: u64,
    /// Whether a body came to its end that no PING follows yet.
    is_due: bool,
    /// How much may be unconfirmed.
    window: Window,
    /// What the next PING carries. Nobody can tell it beforehand, so that nobody answers what they have not read.
    next_payload: fn() -> u64,
}

/// What is known of one answer's body.
#[derive(Debug, Clone, Copy)]
struct Body {
    /// How long it is.
    length: u64,
    /// How much was handed to whoever makes frames of it.
    handed: u64,
    /// How much has left; `None` before its head has.
    left: Option<u64>,
    /// How much is confirmed; `None` before its head is.
    confirmed: Option<u64>,
}

/// A PING that is out.
#[derive(Debug)]
struct Ping {
    payload: u64,
    /// When it was sent, and how much was confirmed by then.
    sent_at: Duration,
    confirmed_bytes: u64,
    left_bytes: u64,
    /// How much of each body had left.
    bodies: Vec<(u32, u64)>,
}

impl PingMeter {
    /// Begins with a connection; each `next_payload` is to be random.
    pub fn new(next_payload: fn() -> u64) -> Self {
        Self {
            outgoing: Frames::default(),
            incoming: Incoming { frames: Frames { preface: PREFACE_BYTES, ..Frames::default() }, held: Vec::new() },
            bodies: HashMap::new(),
            pings: VecDeque::new(),
            left_bytes: 0,
            pinged_bytes: 0,
            confirmed_bytes: 0,
            is_due: false,
            window: Window::new(),
            next_payload,
        }
    }

    /// Follows the body of a stream's answer from here on; nothing of the answer may have left.
    pub fn watch(&mut self, stream: u32, length: u64) {
        self.bodies.insert(stream, Body { length, handed: 0, left: None, confirmed: None });
    }

    /// Follows it no more.
    pub fn forget(&mut self, stream: u32) {
        self.bodies.remove(&stream);
    }

    /// Notes that so much more of a body was handed to whoever makes frames of it.
    pub fn hand(&mut self, stream: u32, bytes: u64) {
        if let Some(body) = self.bodies.get_mut(&stream) {
            body.handed += bytes;
        }
    }

    /// Returns how much of all bodies was handed over and has not left.
    pub fn ahead_bytes(&self) -> u64 {
        self.bodies.values().map(|body| body.handed.saturating_sub(body.left.unwrap_or(0))).sum()
    }

    /// Returns how much of a body is confirmed; `None` while not even the head before it is.
    pub fn confirmed(&self, stream: u32) -> Option<u64> {
        self.bodies.get(&stream)?.confirmed
    }

    /// Returns how much of a body has left.
    #[cfg(test)]
    fn left(&self, stream: u32) -> u64 {
        self.bodies.get(&stream).and_then(|body| body.left).unwrap_or(0)
    }

    /// Returns how much has left over the connection and is not confirmed.
    pub fn unconfirmed_bytes(&self) -> u64 {
        self.left_bytes - self.confirmed_bytes
    }

    /// Returns how much more may leave before something is confirmed, where so much is on its way to leave already.
    pub fn room(&self) -> u64 {
        self.window.bytes().saturating_sub(self.unconfirmed_bytes() + self.ahead_bytes())
    }

    /// Notes bytes that are about to leave, up to where a PING is to stand between them. Returns how many those are.
    pub fn leave(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() && !self.is_ping_due() {
            let (n, ended) = self.outgoing.take(&bytes[at..]);
            at += n;
            if let Some(frame) = ended {
                self.has_left(frame);
            }
        }
        at
    }

    /// Returns the PING that is to leave behind what was noted last, if one is. `now` is any clock that does not go back.
    pub fn ping_if_due(&mut self, now: Duration) -> Option<PingFrame> {
        self.is_ping_due().then(|| self.ping(now))
    }

    /// Returns a PING for whatever has left behind the last, if anything has and a PING may stand here.
    pub fn ping_now(&mut self, now: Duration) -> Option<PingFrame> {
        (self.is_unasked() && self.may_ping()).then(|| self.ping(now))
    }

    /// Returns whether something has left that no PING follows.
    pub fn is_unasked(&self) -> bool {
        self.left_bytes > self.pinged_bytes || self.is_due
    }

    /// Takes bytes that came, and puts those into `others` that are no answers to our PINGs. Returns whether anything was
    /// confirmed by them.
    pub fn come(&mut self, mut bytes: &[u8], others: &mut Vec<u8>, now: Duration) -> bool {
        let mut is_confirmed = false;
        while !bytes.is_empty() {
            let (n, answer) = self.incoming.take(bytes, others);
            bytes = &bytes[n..];
            let Some(payload) = answer else { continue };
            if self.is_answered(payload, now) {
                self.incoming.held.clear();
                is_confirmed = true;
            } else {
                others.append(&mut self.incoming.held);
            }
        }
        is_confirmed
    }

    fn has_left(&mut self, frame: Frame) {
        let body = self.bodies.get_mut(&frame.stream);
        match frame.kind {
            // What is padded has no length that could be known here; whoever speaks for us pads nothing.
            DATA if frame.flags & PADDED == 0 => {
                self.left_bytes += u64::from(frame.length);
                if let Some(body) = body {
                    let left = body.left.unwrap_or(0) + u64::from(frame.length);
                    body.left = Some(left);
                    self.is_due |= frame.length > 0 && left >= body.length;
                }
            }
            HEADERS | CONTINUATION if frame.flags & END_HEADERS != 0 => {
                if let Some(body) = body
                    && body.left.is_none()
                {
                    body.left = Some(0);
                    // How long a PING takes at the least is known before anything lies in its way.
                    self.is_due |= body.length == 0 || self.window.is_new();
                }
            }
            _ => {}
        }
    }

    fn is_ping_due(&self) -> bool {
        (self.is_due || self.left_bytes - self.pinged_bytes >= PING_EVERY_BYTES) && self.may_ping()
    }

    /// Nothing may stand inside a frame, or between the frames of one head (RFC 9113 4.3).
    fn may_ping(&self) -> bool {
        self.outgoing.is_between() && !self.outgoing.is_inside_head && self.pings.len() < MAX_PINGS
    }

    fn ping(&mut self, now: Duration) -> PingFrame {
        let payload = (self.next_payload)();
        let bodies = self.bodies.iter().filter_map(|(stream, body)| Some((*stream, body.left?))).collect();
        self.pings.push_back(Ping { payload, sent_at: now, confirmed_bytes: self.confirmed_bytes, left_bytes: self.left_bytes, bodies });
        (self.pinged_bytes, self.is_due) = (self.left_bytes, false);
        let mut frame = [0; HEADER_BYTES + PING_BYTES];
        (frame[2], frame[3]) = (PING_BYTES as u8, PING);
        frame[HEADER_BYTES..].copy_from_slice(&payload.to_be_bytes());
        frame
    }

    /// Notes an answer; returns whether it is one to a PING of ours. Those that were sent before are answered with it.
    fn is_answered(&mut self, payload: u64, now: Duration) -> bool {
        let Some(at) = self.pings.iter().position(|ping| ping.payload == payload) else { return false };
        let Some(ping) = self.pings.drain(..=at).next_back() else { return false };
        self.confirmed_bytes = ping.left_bytes;
        self.window.answered(now.saturating_sub(ping.sent_at), ping.left_bytes - ping.confirmed_bytes);
        for (stream, left) in ping.bodies {
            if let Some(body) = self.bodies.get_mut(&stream) {
                body.confirmed = Some(left);
            }
        }
        true
    }
}

/// A frame's header, as far as it is of use.
#[derive(Debug, Clone, Copy)]
struct Frame {
    length: u32,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Frame {
    fn parse(header: &[u8; HEADER_BYTES]) -> Self {
        let [a, b, c, kind, flags, id @ ..] = *header;
        Self { length: u32::from_be_bytes([0, a, b, c]), kind, flags, stream: u32::from_be_bytes(id) & 0x7FFF_FFFF }
    }

    fn is_answered_ping(&self) -> bool {
        self.kind == PING && self.flags & ACK != 0 && self.length as usize == PING_BYTES && self.stream == 0
    }
}

/// Finds where frames begin and end in a stream of bytes that comes in any pieces.
#[derive(Debug, Default)]
struct Frames {
    /// What is still to come before the first frame.
    preface: usize,
    header: [u8; HEADER_BYTES],
    /// How much of the header has come.
    have: usize,
    /// The frame whose content is passing, and how much of that is still to come.
    passing: Option<(Frame, u32)>,
    /// Whether the last frame began a head, or went on with one, that is not at its end.
    is_inside_head: bool,
}

impl Frames {
    /// Takes bytes up to the end of a frame at the most. Returns how many, and the frame that ended with them.
    fn take(&mut self, bytes: &[u8]) -> (usize, Option<Frame>) {
        if self.preface > 0 {
            let n = self.preface.min(bytes.len());
            self.preface -= n;
            return (n, None);
        }
        let mut taken = 0;
        if self.passing.is_none() {
            taken = bytes.len().min(HEADER_BYTES - self.have);
            self.header[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            if self.have < HEADER_BYTES {
                return (taken, None);
            }
            let frame = Frame::parse(&self.header);
            (self.have, self.passing) = (0, Some((frame, frame.length)));
        }
        let Some((frame, left)) = &mut self.passing else { return (taken, None) };
        let n = (bytes.len() - taken).min(*left as usize);
        *left -= n as u32;
        let ended = (*left == 0).then_some(*frame);
        if let Some(frame) = ended {
            self.passing = None;
            self.is_inside_head = matches!(frame.kind, HEADERS | CONTINUATION) && frame.flags & END_HEADERS == 0;
        }
        (taken + n, ended)
    }

    /// Returns whether the last frame is at its end.
    fn is_between(&self) -> bool {
        self.have == 0 && self.passing.is_none()
    }
}

/// Finds the answers to PINGs among what comes.
#[derive(Debug)]
struct Incoming {
    frames: Frames,
    /// The beginning of a frame that may be such an answer.
    held: Vec<u8>,
}

impl Incoming {
    /// Takes bytes. What is no answer goes to `others`; an answer that ends here stays held, and what it carries comes back.
    fn take(&mut self, bytes: &[u8], others: &mut Vec<u8>) -> (usize, Option<u64>) {
        let is_preface = self.frames.preface > 0;
        let (n, ended) = self.frames.take(bytes);
        if is_preface {
            others.extend_from_slice(&bytes[..n]);
            return (n, None);
        }
        let is_candidate = ended.or(self.frames.passing.map(|(frame, _)| frame)).is_none_or(|frame| frame.is_answered_ping());
        self.held.extend_from_slice(&bytes[..n]);
        if !is_candidate {
            others.append(&mut self.held);
            return (n, None);
        }
        let payload = ended.and_then(|_| self.held.get(HEADER_BYTES..)?.try_into().ok()).map(u64::from_be_bytes);
        (n, payload)
    }
}

#[cfg(test)]
mod tests;
