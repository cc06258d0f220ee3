//! A download that nginx passes on while we send it: where its connections are not seen here, as in another network namespace.
//!
//! Then nobody here can tell what arrived over such a connection, nor end it. What nginx gets from us it passes on as it comes, so we
//! count what we send, and end that; and nginx's line says whether it has handed all of it to its kernel. Never is more known than that.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::desk::{Finish, Place, Told};
use super::slices::Slicing;
use crate::delivery::Entered;
use crate::meter::{Reports, Request};
use crate::share::{ByteRange, Evidence};

/// How long the line is waited for once nginx has all of it: the recipient takes what nginx and the kernels hold, which is a few
/// megabytes, and `send_timeout` ends who takes nothing.
const LINE_WAIT: Duration = Duration::from_secs(600);
/// How long where it broke off: nginx writes it at once, and a killed one never.
pub(super) const BROKEN_LINE_WAIT: Duration = Duration::from_secs(2);
/// How much of what nginx calls sent may lie in the kernel's send buffer: the 256 KiB that are asked for, which the kernel doubles, and a
/// packet.
pub(super) const MAX_IN_SEND_BUFFER: u64 = (512 + 64) * 1024;

/// How much of what nginx's kernel acknowledged to us may not have left for the recipient, where it is passed on in one piece: a receive buffer
/// as large as kernels let it grow by themselves (`tcp_rmem`, 6 MiB), nginx's own buffers, and the send buffer. More would let somebody slow
/// look stalled.
pub(in crate::delivery) const MAX_IN_NGINX: u64 = 7 * 1024 * 1024;

/// Who hears how the sending of something ended that nginx passes on.
#[derive(Debug)]
pub(in crate::delivery) enum Relay {
    /// All that was asked for: its line is waited for.
    Whole(Place),
    /// A slice of it.
    Slice(Arc<Slicing>),
}

/// How our own sending went.
#[derive(Debug, Clone, Copy)]
pub(in crate::delivery) struct Sent {
    /// How far it is known to have arrived.
    pub(in crate::delivery) arrived_to: u64,
    /// How far it was written.
    pub(in crate::delivery) sent_to: u64,
    /// Whether nginx may not go on with it: it was cut.
    pub(in crate::delivery) is_cut: bool,
}

impl Relay {
    /// Returns whether nginx will ask for more behind this range.
    pub(in crate::delivery) fn is_followed(&self, range: ByteRange) -> bool {
        matches!(self, Self::Slice(slicing) if range.end < slicing.range.end)
    }

    /// Waits until nginx says what it did with it, and tells that.
    pub(in crate::delivery) async fn end(
        self,
        (request, range): (Option<Request>, ByteRange),
        sent: Sent,
        reports: Reports,
        entered: Entered,
    ) {
        let mut place = match self {
            Self::Whole(place) => place,
            Self::Slice(slicing) => return slicing.ended(sent.arrived_to == range.end),
        };
        let wait = if sent.arrived_to == range.end { LINE_WAIT } else { BROKEN_LINE_WAIT };
        let cut = entered.0.cut.clone();
        let told = tokio::select! {
            biased;
            // What nginx has of it goes on, and nobody waits for it.
            () = async { if !sent.is_cut { cut.cancelled().await } } => None,
            told = timeout(wait, &mut place.line) => told.ok().and_then(Result::ok),
        };
        // What nginx's kernel has, nginx may never have read.
        let sent = Sent { arrived_to: range.start, ..sent };
        tell((request, range), sent, (told, place), &reports, entered).await;
    }
}

/// Tells what came of a request, and comes back when it is saved, or never will be.
pub(super) async fn tell(
    (request, range): (Option<Request>, ByteRange),
    sent: Sent,
    (told, place): (Option<Told>, Place),
    reports: &Reports,
    entered: Entered,
) {
    let is_saved = match request {
        None => true,
        Some(request) => {
            let (arrived, in_doubt) = outcome(range, sent, told.as_ref().map(|told| told.finish));
            reports.ended(request, arrived, Evidence::HandedOver, in_doubt).await;
            // A share that is closing waits for its requests, and with its closing this is saved.
            drop(entered);
            reports.saved(request.share).await
        }
    };
    if let Some(told) = told {
        told.tell_saved(is_saved);
    }
    place.leave(is_saved);
}

/// Returns what of a range the recipient has, as far as anybody knows, and what they may have.
fn outcome(range: ByteRange, sent: Sent, finish: Option<Finish>) -> (Option<ByteRange>, Option<ByteRange>) {
    // Whoever closes at the last byte is said to have left early, though nginx's kernel has all.
    let has_all = |finish: &Finish| finish.body_bytes == range.len() && (finish.is_whole || !range.is_empty());
    let finish = finish.filter(|finish| matches!(finish.status, 200 | 206));
    let is_all = finish.as_ref().is_some_and(has_all);
    let to = match finish {
        _ if is_all => range.end,
        Some(finish) => range.start + finish.body_bytes.min(range.len()).saturating_sub(MAX_IN_SEND_BUFFER),
        None => sent.arrived_to,
    };
    let arrived = Some(ByteRange::new(range.start, to)).filter(|arrived| is_all || !arrived.is_empty());
    (arrived, Some(ByteRange::new(to, sent.sent_to.max(to))).filter(|doubt| !doubt.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn finish(body_bytes: u64, is_whole: bool) -> Option<Finish> {
        Some(Finish { status: 206, body_bytes, sent_bytes: body_bytes + 300, is_whole, file: None })
    }

    #[test]
    fn only_a_line_that_says_all_completes_and_what_lies_in_a_buffer_is_in_doubt() {
        let range = ByteRange::new(MIB, 11 * MIB);
        let sent = Sent { arrived_to: MIB, sent_to: 11 * MIB, is_cut: false };
        let of = |sent, finish| outcome(range, sent, finish);
        let part = |start, end| Some(ByteRange::new(start, end));
        assert_eq!(of(sent, finish(10 * MIB, true)), (Some(range), None));
        assert_eq!(of(sent, finish(10 * MIB, false)), (Some(range), None), "they closed at the last byte");
        assert_eq!(of(sent, None), (None, Some(range)), "nobody knows");
        let known = 5 * MIB - MAX_IN_SEND_BUFFER;
        assert_eq!(of(sent, finish(4 * MIB, false)), (part(MIB, known), part(known, 11 * MIB)));
        assert_eq!(of(sent, finish(MAX_IN_SEND_BUFFER, false)).0, None);
        // What nobody told nginx to say counts for no more than it says.
        assert_eq!(of(sent, finish(9 * MIB, true)).0.map(|arrived| arrived.end), Some(10 * MIB - MAX_IN_SEND_BUFFER));
        assert_eq!(of(sent, finish(u64::MAX / 2, false)).0.map(|arrived| arrived.end), Some(11 * MIB - MAX_IN_SEND_BUFFER));
        let broken = Sent { arrived_to: 3 * MIB, sent_to: 4 * MIB, is_cut: true };
        assert_eq!(of(broken, None), (part(MIB, 3 * MIB), part(3 * MIB, 4 * MIB)));
    }

    #[test]
    fn an_empty_file_is_passed_on_whole() {
        let range = ByteRange::new(0, 0);
        let sent = Sent { arrived_to: 0, sent_to: 0, is_cut: false };
        assert_eq!(outcome(range, sent, finish(0, true)), (Some(range), None));
        assert_eq!(outcome(range, sent, None), (None, None));
        assert_eq!(outcome(range, sent, finish(0, false)), (None, None), "not a byte of its head may have left");
        let refused = Finish { status: 502, ..finish(0, true).unwrap() };
        assert_eq!(outcome(range, sent, Some(refused)), (None, None));
    }
}
