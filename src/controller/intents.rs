//! What was asked for and would open a door: until the task has taken it up, a close takes it back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;

use super::ControllerError;
use crate::share::ShareId;

/// The wish to open a door, from when somebody asked until this is dropped. A close that comes in between is their later word:
/// what waited for the NAS, the disk or another door opens nothing behind it.
pub struct Intent {
    number: u64,
    taken_back: CancellationToken,
    intents: Arc<Intents>,
}

/// Every wish that is held: one for each request that runs, or for its whole batch, so that these are as many as may be asked at once.
#[derive(Default)]
pub(super) struct Intents(Mutex<Held>);

#[derive(Default)]
struct Held {
    next: u64,
    /// Which share it is about, where that was closed before; a new one is known to nobody yet.
    by_number: HashMap<u64, (Option<ShareId>, CancellationToken)>,
}

impl Intents {
    /// Holds a wish: to open `share` again, or a new one.
    pub(super) fn hold(self: &Arc<Self>, share: Option<ShareId>) -> Intent {
        let taken_back = CancellationToken::new();
        let mut held = self.0.lock().expect("nobody panics while holding the wishes");
        let number = held.next;
        held.next += 1;
        held.by_number.insert(number, (share, taken_back.clone()));
        Intent { number, taken_back, intents: self.clone() }
    }

    /// Takes back what was asked of one share.
    pub(super) fn take_back(&self, share: ShareId) {
        self.take_back_where(|about| about == Some(share));
    }

    /// Takes back whatever was asked.
    pub(super) fn take_all_back(&self) {
        self.take_back_where(|_| true);
    }

    fn take_back_where(&self, is_meant: impl Fn(Option<ShareId>) -> bool) {
        let held = self.0.lock().expect("nobody panics while holding the wishes");
        held.by_number.values().filter(|(share, _)| is_meant(*share)).for_each(|(_, taken_back)| taken_back.cancel());
    }
}

impl Intent {
    /// Looks whether it still stands.
    ///
    /// # Errors
    /// [`ControllerError::Overtaken`] where a close took it back.
    pub(super) fn stands(&self) -> Result<(), ControllerError> {
        if self.taken_back.is_cancelled() { Err(ControllerError::Overtaken) } else { Ok(()) }
    }

    /// Returns what tells the task that it was taken back. What is told the task behind a command with it comes behind it anyway,
    /// so it need not be held until the task has read that.
    pub(super) fn taken_back(&self) -> CancellationToken {
        self.taken_back.clone()
    }
}

impl Drop for Intent {
    fn drop(&mut self) {
        // A drop must not panic: where somebody did, the wish just stays.
        if let Ok(mut held) = self.intents.0.lock() {
            held.by_number.remove(&self.number);
        }
    }
}
