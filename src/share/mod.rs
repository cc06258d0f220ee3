//! The life of a share, as values.
//!
//! A [`Share`] is one file that an owner offers for a limited time. Nothing in this folder does I/O, reads a clock,
//! draws a random number or awaits: an [`Event`] and a [`Moment`] go in, [`Fact`]s for the event log come out, and the
//! wanted [`Effect`] and the next [`Deadline`] are functions of the state. So a recovery after a crash is the same code
//! as a first run, and every short history can be walked in a test (`lifecycle/tests.rs`).
//!
//! ```text
//! scheduled ─▶ opening ─▶ offered ─▶ transferring ⇄ waiting ─▶ delivered (grace) ─▶ closing ─▶ closed(outcome)
//! ```
//!
//! * `lifecycle.rs`: the events, the rules, the deadlines; `lifecycle/undo.rs`: when a close can be taken back.
//! * `transfer.rs`: one recipient's exercise of the link.
//! * `folded.rs`: what is remembered of transfers that are not kept one by one. `looks.rs`: who looked and took nothing.
//! * `together.rs`: a share that several controllers see to.
//! * `coverage.rs`: which bytes have arrived, and how sure we are.
//! * `file.rs`: what is shared: a path proven to lie below the root, pinned to one inode.
//! * `reach.rs`: whether it is reached from outside. `moment.rs`: one instant on two clocks. `network.rs`: where recipients are.

mod coverage;
mod file;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod folded;
mod ids;
mod lifecycle;
mod looks;
mod moment;
mod network;
mod policy;
mod reach;
mod together;
mod transfer;

pub use coverage::{ByteRange, Coverage, Evidence, MAX_RANGES};
pub use file::{CatalogPath, FileIdentity, InvalidPath, SELF_TEST_PATH, SharedFile, for_display};
pub use folded::Folded;
pub use ids::{ControllerNumber, InvalidId, RequestId, ShareId, TokenId, TransferId};
pub use lifecycle::{
    Deadline, Decided, Effect, Event, Fact, MAX_GIVEN_BACK, MAX_KEPT, Outcome, Phase, Reason, Refused, Share, State, UNDO_FOR,
};
pub use looks::{Looker, Looks};
pub use moment::{Moment, Steady, Timestamp};
pub use network::{InvalidNetwork, Network};
pub use policy::{
    Clamped, Limits, MAX_DOWNLOADS, MAX_NETWORKS, MAX_START_DELAY, MIN_BYTES_PER_SECOND, OnStall, Policy, PolicyError, PolicyRequest,
    UNLIMITED_USES,
};
pub use reach::{Obstacle, Reach, Unprobed};
pub use transfer::{Carried, Carrier, Recipient, Transfer, TransferEnd};
