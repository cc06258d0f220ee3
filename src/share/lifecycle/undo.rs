//! Taking a close back: only its owner's own, only soon, and only while nobody has a byte.

use std::time::Duration;

use super::{Moment, Outcome, Phase, Refused, Share, Timestamp, Transfer};

/// How long a close can be taken back: time enough to see the slip and reach for the button. Whoever was told that the link is
/// dead may rely on it soon.
pub const UNDO_FOR: Duration = Duration::from_secs(60);

impl Share {
    /// Returns whether the close can be taken back at `now`, so that the same link works again.
    ///
    /// # Errors
    /// [`Refused`], with the reason that the owner is told.
    pub fn may_undo(&self, now: Moment) -> Result<(), Refused> {
        if self.file.is_self_test() {
            return Err(Refused::SelfTest);
        }
        match self.phase {
            Phase::Closed { outcome: Outcome::Revoked, .. } => {}
            Phase::Closed { .. } if self.has_sent() => return Err(Refused::UndoAfterBytes),
            Phase::Closed { .. } => return Err(Refused::UndoTooLate),
            Phase::Scheduled | Phase::Opening | Phase::Open | Phase::Closing { .. } => return Err(Refused::NotClosed),
        }
        if self.has_sent() {
            return Err(Refused::UndoAfterBytes);
        }
        self.undo_until(now).map(|_| ()).ok_or(Refused::UndoTooLate)
    }

    /// Returns until when (a wall-clock time) the close can be taken back; `None` where it cannot at `now`. While the door is still
    /// closing this says so already, and [`Share::may_undo`] once it is shut.
    pub fn undo_until(&self, now: Moment) -> Option<Timestamp> {
        let revoked = self.revoked?;
        self.outcome()?;
        let until = revoked.steady.plus(UNDO_FOR).min(self.expires.steady);
        let may = until > now.steady && !self.has_expired(now) && !self.has_sent() && !self.is_spent();
        may.then(|| now.wall.plus(until.since(now.steady)).min(self.expires.wall))
    }

    /// Lets nobody take the close back. A store that is put back from a backup does not know what became of the link since.
    pub fn never_undo(&mut self) {
        self.revoked = None;
    }

    /// Returns whether a byte of it may ever have left under the link that it has.
    fn has_sent(&self) -> bool {
        self.sent_unkept || self.peak_bytes > 0 || self.folded.count() > 0 || self.transfers.iter().any(|t: &Transfer| t.begun)
    }
}
