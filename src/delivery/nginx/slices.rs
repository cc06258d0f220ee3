//! A long download that nginx passes on while we send it, a slice at a time: it asks for the next when it has handed on the one before.
//!
//! So nginx and the kernels hold little more than a slice of it, however slow the recipient is, and what it asks for tells how far the
//! recipient has got. A slice that is not answered ends the download.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use http::header;
use tokio::sync::Notify;
use tokio::time::{Instant, interval, sleep_until};

use super::super::answer;
use super::super::exchange::{Fetch, Reply, WAIT};
use super::super::head::Head;
use super::super::range::{self, Wanted};
use super::super::send::SAMPLE_EVERY;
use super::desk::Place;
use super::relay::{BROKEN_LINE_WAIT, MAX_IN_SEND_BUFFER, Relay, Sent, tell};
use super::stamp::Stamp;
use super::{Nginx, front};
use crate::catalog::OpenFile;
use crate::delivery::{Entered, Pass, RecipientSide};
use crate::meter::Request;
use crate::share::{ByteRange, Evidence, Timestamp, TransferId};

/// Where nginx asks for a slice.
const PATH: &str = "/_portcullis/slice/";
/// How long a slice is, as `recipient.conf` says it.
pub(super) const SLICE_BYTES: u64 = 1024 * 1024;
/// The longest range that is sent in slices: nginx keeps 16 KiB for each until the last, which makes 32 MiB. Longer ones are passed on in one
/// piece, of which nginx's receive buffer, some megabytes, is a small part.
pub(super) const MAX_SLICED_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// How long nginx may take to ask for the first slice. It does so at once, or never: where the recipient has left.
const FIRST_SLICE_WAIT: Duration = Duration::from_secs(10);
/// How long for the next, or to say that it is done: the recipient takes a slice meanwhile, and `send_timeout` ends who takes nothing.
const SLICE_WAIT: Duration = Duration::from_secs(1200);
/// How long nginx may ask for nothing once its recipient goes on elsewhere, right behind what this download may have brought. Where it was
/// killed with a whole slice in it, nothing breaks off here, and nobody will say that it is over.
const RESUMED_WAIT: Duration = Duration::from_secs(10);
/// How much of what lies before the slice that it asks for may not have reached the recipient: what nginx and its kernel hold.
const MAX_UNDER_WAY: u64 = 64 * 1024 + MAX_IN_SEND_BUFFER;

/// The downloads that are passed on in slices, by the names of their requests.
#[derive(Debug, Default)]
pub(super) struct Slices(Mutex<HashMap<u64, Arc<Slicing>>>);

/// One of them.
#[derive(Debug)]
pub(in crate::delivery) struct Slicing {
    /// The head of the whole answer.
    head: Vec<u8>,
    file: Arc<OpenFile>,
    pass: Arc<Pass>,
    pub(super) range: ByteRange,
    /// Where the slice begins that was asked for last, and when; before the first it is when nginx was told to ask.
    asked: Mutex<(Option<u64>, Instant)>,
    /// Told when a slice broke off.
    broke: Notify,
    /// Told when the recipient goes on elsewhere.
    resumed: Notify,
}

impl Slicing {
    /// Says how the sending of a slice ended.
    pub(super) fn ended(&self, is_whole: bool) {
        if !is_whole {
            self.broke.notify_one();
        }
    }

    fn ask(&self, start: u64) {
        let mut asked = self.asked.lock().expect("nobody panics while holding a number");
        *asked = (Some(asked.0.map_or(start, |before| before.max(start))), Instant::now());
    }

    fn asked(&self) -> (Option<u64>, Instant) {
        *self.asked.lock().expect("nobody panics while holding a number")
    }

    /// Returns what of it the recipient has at least.
    fn arrived(&self) -> ByteRange {
        let to = self.asked().0.unwrap_or(0).saturating_sub(MAX_UNDER_WAY);
        ByteRange::new(self.range.start, to.clamp(self.range.start, self.range.end))
    }

    /// Returns how far it may have been sent.
    fn sent_to(&self) -> u64 {
        let to = self.asked().0.map_or(0, |asked| asked.saturating_add(SLICE_BYTES));
        to.clamp(self.range.start, self.range.end)
    }

    /// Returns whether whoever asks for bytes from here on goes on where this may have ended. Right behind all of it begins another part.
    fn may_end_at(&self, start: u64) -> bool {
        self.arrived().end < start && start <= self.sent_to() && start < self.range.end
    }

    /// Returns whether nginx has asked for nothing for longer than somebody slow takes.
    fn is_given_up(&self) -> bool {
        let (asked, at) = self.asked();
        at.elapsed() > if asked.is_some() { SLICE_WAIT } else { FIRST_SLICE_WAIT }
    }
}

impl Slices {
    /// Notes that a recipient asks for bytes from here on.
    pub(super) fn asked_elsewhere(&self, transfer: TransferId, start: u64) {
        let table = self.table();
        let resumed = table.values().filter(|slicing| slicing.pass.transfer == transfer && slicing.may_end_at(start));
        resumed.for_each(|slicing| slicing.resumed.notify_one());
    }

    fn table(&self) -> MutexGuard<'_, HashMap<u64, Arc<Slicing>>> {
        self.0.lock().expect("nobody panics while holding the slices")
    }
}

impl Nginx {
    /// Has nginx ask for the bytes in slices, and looks after that from here on. Returns the head for nginx.
    pub(super) fn begin_slices(
        self: Arc<Self>,
        stamp: Stamp,
        place: Place,
        request: Request,
        fetch: Fetch,
        side: Arc<RecipientSide>,
    ) -> Reply {
        let Fetch { head, file, entered, request: counted, range, .. } = fetch;
        let answer = front::handed_over(b"", &format!("X-Accel-Redirect: {PATH}{}\r\n", stamp.text(&self.key)));
        let head = front::with(head, &self.named(&stamp));
        let (pass, asked) = (entered.0.clone(), Mutex::new((None, Instant::now())));
        let slicing = Arc::new(Slicing { head, file, pass, range, asked, broke: Notify::new(), resumed: Notify::new() });
        self.slices.table().insert(stamp.name, slicing.clone());
        let guards = self.guards.clone();
        guards.spawn(async move {
            let passing = Passing { side, place, entered, request, is_counted: counted.is_some(), slicing };
            passing.run().await;
            self.slices.table().remove(&stamp.name);
        });
        Reply::Whole(answer)
    }

    /// Answers nginx, which asks for a slice; `None` for whoever asks for anything else.
    pub(in crate::delivery) fn slice(&self, head: &Head, now: Timestamp) -> Option<Reply> {
        let text = head.uri.path().strip_prefix(PATH)?;
        let slicing = Stamp::read(text, &self.key).and_then(|stamp| self.slices.table().get(&stamp.name).cloned());
        // What nginx is told of the first slice, the recipient is told of all.
        let none = || Reply::Whole(answer::plain("503 Service Unavailable", WAIT, "One moment, please.\n", false, now));
        // Of one that is cut, not a byte is sent.
        let Some(slicing) = slicing else { return Some(none()) };
        let size_bytes = slicing.pass.file.size_bytes();
        let asked = head.headers.get(header::RANGE).map(http::HeaderValue::as_bytes);
        let Wanted::Part(range) = range::wanted(asked, size_bytes) else { return Some(none()) };
        slicing.ask(range.start);
        let head = front::of_slice(&slicing.head, range, size_bytes, head.keeps_alive);
        let (file, entered) = (slicing.file.clone(), Entered(slicing.pass.clone(), false));
        Some(Reply::Bytes(Box::new(Fetch { head, file, entered, request: None, range, relay: Some(Box::new(Relay::Slice(slicing))) })))
    }
}

/// Looks after a download in slices.
struct Passing {
    side: Arc<RecipientSide>,
    place: Place,
    entered: Entered,
    request: Request,
    /// Not where the recipient has everything already.
    is_counted: bool,
    slicing: Arc<Slicing>,
}

impl Passing {
    /// Looks after it until it is over and what came of it is saved.
    async fn run(self) {
        let Self { side, mut place, entered, request, is_counted, slicing } = self;
        let (cut, mut looks, mut ends_at) = (entered.0.cut.clone(), interval(SAMPLE_EVERY), None);
        // When it was heard that the recipient goes on elsewhere.
        let mut resumed: Option<Instant> = None;
        let told = loop {
            tokio::select! {
                biased;
                () = cut.cancelled() => break None,
                told = &mut place.line => break told.ok(),
                () = async { if let Some(at) = ends_at { sleep_until(at).await } }, if ends_at.is_some() => break None,
                () = slicing.broke.notified() => ends_at = Some(Instant::now() + BROKEN_LINE_WAIT),
                () = slicing.resumed.notified() => resumed = Some(Instant::now()),
                _ = looks.tick() => {}
            }
            if slicing.is_given_up() {
                break None;
            }
            if let Some(at) = resumed {
                if slicing.asked().1 > at {
                    // It lives, and the other is another part.
                    resumed = None;
                } else if at.elapsed() > RESUMED_WAIT {
                    break None;
                }
            }
            let arrived = slicing.arrived();
            if is_counted && !arrived.is_empty() {
                side.reports.arrived(request, arrived, Evidence::HandedOver);
            }
        };
        let sent = Sent { arrived_to: slicing.arrived().end, sent_to: slicing.sent_to(), is_cut: false };
        tell((is_counted.then_some(request), slicing.range), sent, (told, place), &side.reports, entered).await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::delivery::fuzz::pass;

    const MIB: u64 = 1024 * 1024;

    fn slicing(range: ByteRange) -> Arc<Slicing> {
        let pass = Arc::new(pass(b"film.mkv", 10 * MIB));
        let file = OpenFile { file: tempfile::tempfile().unwrap(), identity: pass.file.identity, is_local: true };
        let asked = Mutex::new((None, Instant::now()));
        Arc::new(Slicing { head: Vec::new(), file: Arc::new(file), pass, range, asked, broke: Notify::new(), resumed: Notify::new() })
    }

    #[test]
    fn whoever_asks_from_where_a_download_may_have_ended_goes_on_there_and_nobody_else() {
        let slicing = slicing(ByteRange::new(0, 10 * MIB));
        assert!(!slicing.may_end_at(0) && slicing.arrived().is_empty(), "it begins");
        slicing.ask(2 * MIB);
        let arrived = slicing.arrived().end;
        assert!(arrived > MIB && arrived < 2 * MIB);
        let ends = [arrived + 1, 2 * MIB, 3 * MIB].map(|start| slicing.may_end_at(start));
        let does_not = [0, arrived, 3 * MIB + 1, 9 * MIB].map(|start| slicing.may_end_at(start));
        assert_eq!((ends, does_not), ([true; 3], [false; 4]));
        slicing.ask(9 * MIB);
        assert_eq!([10 * MIB - 1, 10 * MIB].map(|start| slicing.may_end_at(start)), [true, false], "behind all of it begins another part");
    }

    #[test]
    fn only_who_has_the_same_transfer_is_heard_of_elsewhere() {
        let (slices, slicing) = (Slices::default(), slicing(ByteRange::new(0, 10 * MIB)));
        slicing.ask(2 * MIB);
        slices.table().insert(1, slicing.clone());
        let is_told = || slicing.resumed.notified().now_or_never().is_some();
        slices.asked_elsewhere(TransferId::from_bytes([9; 16]), 2 * MIB);
        slices.asked_elsewhere(slicing.pass.transfer, 9 * MIB);
        assert!(!is_told());
        slices.asked_elsewhere(slicing.pass.transfer, 2 * MIB);
        assert!(is_told());
    }
}
