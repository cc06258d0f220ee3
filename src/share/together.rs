//! A share that several controllers see to: what one of them knows of it and another does not, and what becomes of one that is gone.

use super::lifecycle::{Decided, Share};
use super::transfer::Transfer;
use super::{ControllerNumber, Moment};

impl Share {
    /// Takes in which bytes have arrived of what `other` knows: the same share, which somebody else decided about meanwhile. Nothing
    /// that has arrived is lost by it, and nothing counts twice.
    pub fn learn(&mut self, other: &Self, now: Moment) -> Decided {
        let mut facts = Vec::new();
        if !self.is_closed() && self.link == other.link {
            for theirs in &other.transfers {
                if let Some(ours) = self.transfers.iter_mut().find(|transfer| transfer.id == theirs.id) {
                    ours.learn(theirs);
                    self.complete_if_whole_and_not_empty(theirs.id, now, &mut facts);
                }
            }
        }
        Decided { facts, answer: Ok(()) }
    }

    /// Returns which controllers, `me` not among them, answer requests for its bytes, or did when they were last heard.
    pub fn may_be_sent_by(&self, me: ControllerNumber) -> Vec<ControllerNumber> {
        let requests = self.transfers.iter().flat_map(Transfer::requests);
        let mut others: Vec<ControllerNumber> = requests.map(|id| id.controller()).chain(self.unheard.iter().copied()).collect();
        others.sort_unstable();
        others.dedup();
        others.retain(|controller| *controller != me && *controller != ControllerNumber::ALONE);
        others
    }

    /// Returns whether a controller fell silent while it answered requests for its bytes, and has not come back or ended since.
    pub fn is_unheard(&self, controller: ControllerNumber) -> bool {
        self.unheard.contains(&controller)
    }

    /// A controller is not heard any more: how far its requests have got is known only up to what was saved, and it may still send.
    pub(super) fn controller_silent(&mut self, controller: ControllerNumber, now: Moment) {
        let is_theirs = |transfer: &Transfer| transfer.requests().any(|id| id.controller() == controller);
        if !self.transfers.iter().any(is_theirs) {
            return;
        }
        if !self.unheard.contains(&controller) {
            self.unheard.push(controller);
        }
        for transfer in &mut self.transfers {
            transfer.controller_lost(controller, false, now);
        }
    }

    /// A controller has ended, or sends nothing of the share any more.
    pub(super) fn controller_ended(&mut self, controller: ControllerNumber, for_good: bool, now: Moment) {
        for transfer in &mut self.transfers {
            transfer.controller_lost(controller, for_good, now);
        }
        self.unheard.retain(|unheard| *unheard != controller);
    }
}

#[cfg(test)]
mod tests;
