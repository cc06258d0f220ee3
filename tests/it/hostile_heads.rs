//! Heads that no honest client sends, over raw sockets, to both listeners: what two readers could read in two ways is read by
//! nobody, nothing hidden in a body is carried out, and each connection ends or stays in step.
//!
//! `tables.rs` holds the spellings; `recipient.rs` and `owner.rs` put them before each side, `slow.rs` sends slowly, `twisted.rs` at random.

mod owner;
mod recipient;
mod slow;
mod tables;
mod twisted;

use crate::harness::{Server, Talk, open_descriptors, poll, shown};

/// How a spelling may be met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// By a refusal of the protocol's (4xx, 501, 505) or by silence, and the end of the connection.
    Refused,
    /// By a refusal; the connection ends or is in step.
    Unwelcome,
    /// By an answer of any kind but a failure of ours; the connection ends or is in step.
    Any,
}
use Fate::{Any, Refused, Unwelcome};
use tables::{CHUNKS, CODINGS, LENGTHS, LOOKALIKE_LINES, REQUEST_LINES, TRICK_LINES};

/// Asserts what every talk must hold to: at most the answer to `raw` and the probe's own, whole, none of them a failure.
#[track_caller]
fn check_talk(what: &str, raw: &[u8], talk: &Talk, is_probe: impl Fn(&str) -> bool, fate: Fate) {
    let (said, all) = (|| shown(raw), talk.replies.iter().map(|reply| reply.head.lines().next().unwrap_or_default()).collect::<Vec<_>>());
    assert!(talk.rest.is_empty(), "{what}: half an answer {:?} to {:?}", shown(&talk.rest), said());
    let probes = talk.replies.iter().filter(|reply| is_probe(&reply.text())).count();
    assert!(talk.replies.len() - probes <= 1 && probes <= 1, "{what}: {} answers {all:?} to {:?}", talk.replies.len(), said());
    assert!(probes == 0 || talk.replies.last().is_some_and(|last| is_probe(&last.text())), "{what}: out of step: {all:?} to {:?}", said());
    for reply in &talk.replies {
        let is_failure = reply.status >= 500 && !matches!(reply.status, 501 | 505);
        assert!(!is_failure && reply.status != 101, "{what}: {:?} to {:?}", reply.head, said());
    }
    assert!(fate != Refused || probes == 0, "{what}: the connection went on behind {:?}", said());
    if matches!(fate, Refused | Unwelcome) {
        let refused = talk.replies.iter().take(talk.replies.len() - probes).all(|reply| reply.status >= 400);
        assert!(refused, "{what}: answered {all:?} to {:?}", said());
    }
}

/// Waits until a server has no more descriptors open than at first, but for a few that its own work holds for a moment.
fn check_no_descriptor_is_lost(server: &Server, before: usize) {
    const SPARE: usize = 4;
    poll(crate::harness::SOON, "descriptors are given back", || open_descriptors(server.pid()) <= before + SPARE);
}
