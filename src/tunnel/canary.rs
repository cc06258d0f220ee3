//! Canaries: how whoever looks at a share from outside is recognized, and nobody else.
//!
//! Whoever looks sends a canary: a nonce that stands below the share's own path and is good for that one look. The recipient side
//! answers it while the share's door is open, with nothing in it; that it did is noted here as well, since somebody else who answers
//! everything proves nothing. Whatever holds no nonce that is out is a stranger's path: whether the share exists, is open or was ever
//! looked at makes no difference to its answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use subtle::ConstantTimeEq;
use tokio::time::Instant;

use super::Doors;
use crate::share::ShareId;
use crate::token::random;

/// How many may be out at once: a few times as many looks as run at once. Each request that asks for one is compared with all.
const MAX_OUT: usize = 32;
/// How long one may be out: longer than a look that waits for every step as long as it may.
const MAX_AGE: Duration = Duration::from_secs(120);
/// How long a nonce is, as it stands in a path: 128 bits in hexadecimal digits.
const LENGTH: usize = 32;

/// The canaries that are out. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Canaries {
    doors: Doors,
    out: Arc<Mutex<Vec<Out>>>,
}

#[derive(Debug)]
struct Out {
    nonce: [u8; LENGTH],
    share: ShareId,
    since: Instant,
    /// Whether it was answered.
    heard: Arc<AtomicBool>,
}

/// One that is out, until this is dropped.
#[derive(Debug)]
pub struct Canary {
    canaries: Canaries,
    nonce: [u8; LENGTH],
    share: ShareId,
    heard: Arc<AtomicBool>,
}

impl Canaries {
    /// Makes none; those to come are answered while the share's door is open.
    pub fn new(doors: Doors) -> Self {
        Self { doors, out: Arc::default() }
    }

    /// Sends one out for `share`; `None` where as many are out as may be.
    pub fn send(&self, share: ShareId) -> Option<Canary> {
        let (now, heard) = (Instant::now(), Arc::<AtomicBool>::default());
        let nonce = nonce();
        let mut out = self.out.lock().expect("nobody panics while holding the canaries");
        out.retain(|one| now.duration_since(one.since) < MAX_AGE);
        if out.len() >= MAX_OUT {
            return None;
        }
        out.push(Out { nonce, share, since: now, heard: heard.clone() });
        Some(Canary { canaries: self.clone(), nonce, share, heard })
    }

    /// Returns whether a request for `/{share}/canary/{nonce}` is answered, and notes that it was.
    ///
    /// All that are out are compared, none is told from another by how long that takes.
    pub fn answer(&self, share: &str, nonce: &str) -> bool {
        let Ok(share) = share.parse::<ShareId>() else { return false };
        let (now, is_open) = (Instant::now(), self.doors.is_open(share));
        let out = self.out.lock().expect("nobody panics while holding the canaries");
        let mut is_answered = false;
        for one in out.iter() {
            let is_it = one.nonce.as_slice().ct_eq(nonce.as_bytes()) & one.share.as_str().as_bytes().ct_eq(share.as_str().as_bytes());
            if bool::from(is_it) && is_open && now.duration_since(one.since) < MAX_AGE {
                one.heard.store(true, Ordering::Relaxed);
                is_answered = true;
            }
        }
        is_answered
    }
}

impl Canary {
    /// Returns where it is sent: a path that begins with a slash.
    pub fn path(&self) -> String {
        format!("/{}/canary/{}", self.share, str::from_utf8(&self.nonce).expect("it is made of ASCII digits"))
    }

    /// Returns whether we have answered it.
    pub fn was_answered(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        self.canaries.out.lock().expect("nobody panics while holding the canaries").retain(|one| one.nonce != self.nonce);
    }
}

fn nonce() -> [u8; LENGTH] {
    let mut letters = [0; LENGTH];
    for (index, byte) in random::bytes::<{ LENGTH / 2 }>().into_iter().enumerate() {
        let digit = |half: u8| b"0123456789abcdef"[usize::from(half)];
        (letters[2 * index], letters[2 * index + 1]) = (digit(byte >> 4), digit(byte & 15));
    }
    letters
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> ShareId {
        // With letters in it.
        ShareId::from_random(u64::MAX / 3 + n)
    }

    /// Asks for a path as a request does.
    fn asks(canaries: &Canaries, path: &str) -> bool {
        let parts: Vec<&str> = path.split('/').collect();
        assert_eq!((parts.len(), parts[2]), (4, "canary"), "{path}");
        canaries.answer(parts[1], parts[3])
    }

    #[tokio::test(start_paused = true)]
    async fn a_canary_is_answered_while_its_door_is_open_and_it_is_out() {
        let doors = Doors::default();
        let canaries = Canaries::new(doors.clone());
        let canary = canaries.send(id(1)).unwrap();
        assert!(!asks(&canaries, &canary.path()) && !canary.was_answered(), "the door is shut");
        doors.open(id(1));
        assert!(asks(&canaries, &canary.path()) && canary.was_answered());
        assert!(asks(&canaries, &canary.path()), "as often as it is asked for: a proxy may repeat a request");
        doors.shut(id(1));
        assert!(!asks(&canaries, &canary.path()), "and not behind a door that was shut");
        doors.open(id(1));
        let path = canary.path();
        drop(canary);
        assert!(!asks(&canaries, &path), "nor once the look is over");
    }

    #[tokio::test(start_paused = true)]
    async fn no_other_share_nonce_or_spelling_is_answered() {
        let doors = Doors::default();
        let canaries = Canaries::new(doors.clone());
        doors.open(id(1));
        doors.open(id(2));
        let (canary, other) = (canaries.send(id(1)).unwrap(), canaries.send(id(2)).unwrap());
        let (share, nonce) = (id(1).to_string(), canary.path().rsplit('/').next().unwrap().to_owned());
        assert_eq!(nonce.len(), 32);
        assert!(!canaries.answer(id(2).as_str(), &nonce), "the nonce is another share's");
        for wrong in ["", "0", &nonce[..31], &format!("{nonce}0"), "00000000000000000000000000000000"] {
            assert!(!canaries.answer(&share, wrong), "{wrong}");
        }
        assert!(!canaries.answer("", &nonce) && !canaries.answer(&share.to_uppercase(), &nonce));
        assert!(!canary.was_answered() && !other.was_answered());
        assert!(canaries.answer(&share, &nonce) && !other.was_answered());
        assert_ne!(canary.path(), canaries.send(id(1)).unwrap().path(), "each look has its own");
    }

    #[tokio::test(start_paused = true)]
    async fn they_are_bounded_in_number_and_in_time() {
        let doors = Doors::default();
        let canaries = Canaries::new(doors.clone());
        doors.open(id(1));
        let mut out: Vec<Canary> = (0..MAX_OUT).map(|_| canaries.send(id(1)).unwrap()).collect();
        assert!(canaries.send(id(1)).is_none());
        drop(out.pop());
        out.push(canaries.send(id(1)).unwrap());
        tokio::time::advance(MAX_AGE).await;
        assert!(!asks(&canaries, &out[0].path()), "a look that hangs leaves nothing that is good for ever");
        assert!(canaries.send(id(1)).is_some(), "and keeps nobody from looking");
    }
}
