//! What is remembered of transfers that are not kept one by one.

use serde::{Deserialize, Serialize};

use super::{Evidence, Moment, Transfer};

/// The transfers of a share without a limit of downloads that were over and made room for others, as counters: such a
/// share must not grow with its success. The event log keeps each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folded {
    /// How many completed.
    pub completed: u64,
    /// How many ended otherwise and kept their use.
    pub others: u64,
    /// When the last of those that completed did.
    pub last_completed: Option<Moment>,
    /// Whether any of those that completed rests on evidence no better than that a proxy took it.
    pub is_only_sent: bool,
}

impl Folded {
    /// Counts a transfer that is over.
    pub(super) fn add(&mut self, transfer: &Transfer) {
        if !transfer.is_completed() {
            self.others += 1;
            return;
        }
        self.completed += 1;
        self.is_only_sent |= transfer.coverage.weakest_evidence() == Some(Evidence::HandedOver);
        let at = transfer.ended.map(|(_, at)| at);
        self.last_completed = [self.last_completed, at].into_iter().flatten().max_by_key(|at| at.steady);
    }

    /// Returns how many were folded.
    pub fn count(&self) -> u64 {
        self.completed + self.others
    }
}
