//! How fast the bytes of one transfer may leave, over all its connections together.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

/// What may leave at once after a pause: makes up for timers that wake late, and is 4 % of what 5 seconds allow.
const BURST: Duration = Duration::from_millis(200);
/// What one request pays for at a time: short enough that 32 of them share a slow link evenly.
const TURN: Duration = Duration::from_millis(50);
/// The least and the most of that, in bytes: a segment or three, and what one `sendfile` takes.
const TURN_BYTES: (u64, u64) = (4 * 1024, 1024 * 1024);

/// The one account that every request of a transfer pays into.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_second: u64,
    /// Until when everything that may have left is paid for.
    paid_until: Mutex<Option<Instant>>,
}

impl Pace {
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), paid_until: Mutex::new(None) }
    }

    /// Pays for `bytes`. Returns how long they have to wait before they may leave; whoever pays first leaves first.
    fn pay(&self, bytes: u64, now: Instant) -> Duration {
        let mut paid_until = self.paid_until.lock().expect("nobody panics while paying");
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let from = paid_until.unwrap_or(earliest).max(earliest);
        *paid_until = Some(from + self.time_of(bytes));
        from.saturating_duration_since(now)
    }

    fn time_of(&self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn turn_bytes(&self) -> u64 {
        let (least, most) = TURN_BYTES;
        let millis = u64::try_from(TURN.as_millis()).expect("a turn is short");
        (self.bytes_per_second.saturating_mul(millis) / 1000).clamp(least, most)
    }
}

/// What one request has paid for and not yet sent.
#[derive(Debug)]
pub(super) struct Purse {
    /// `None` where nothing limits it.
    pace: Option<Arc<Pace>>,
    paid: u64,
}

impl Purse {
    pub(super) fn new(pace: Option<Arc<Pace>>) -> Self {
        Self { pace, paid: 0 }
    }

    /// Returns whether nothing limits it.
    pub(super) fn is_free(&self) -> bool {
        self.pace.is_none()
    }

    /// Returns how many of the `wanted` bytes may leave at once: 1 or more, where any are wanted.
    ///
    /// # Errors
    /// How long to wait before asking again. It is paid for then, so that the answer is a number.
    pub(super) fn open(&mut self, wanted: u64, now: Instant) -> Result<u64, Duration> {
        let Some(pace) = &self.pace else { return Ok(wanted) };
        if self.paid == 0 && wanted > 0 {
            let bytes = wanted.min(pace.turn_bytes());
            let wait = pace.pay(bytes, now);
            self.paid = bytes;
            if !wait.is_zero() {
                return Err(wait);
            }
        }
        Ok(self.paid.min(wanted))
    }

    /// Takes out what was sent.
    pub(super) fn sent(&mut self, bytes: u64) {
        self.paid = self.paid.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets requests send for so long, each as fast as its purse opens, waking `late` after each wait. Returns what each sent.
    fn run(pace: &Arc<Pace>, requests: usize, lasting: Duration, late: Duration) -> Vec<u64> {
        let start = Instant::now();
        let mut purses: Vec<(Instant, Purse, u64)> = (0..requests).map(|_| (start, Purse::new(Some(pace.clone())), 0)).collect();
        loop {
            // Whoever wakes first goes on; nothing here waits in real time.
            let (now, purse, sent) = purses.iter_mut().min_by_key(|(at, ..)| *at).unwrap();
            if now.duration_since(start) >= lasting {
                return purses.into_iter().map(|(.., sent)| sent).collect();
            }
            match purse.open(u64::MAX, *now) {
                Ok(bytes) => {
                    *sent += bytes;
                    purse.sent(bytes);
                }
                Err(wait) => *now += wait + late,
            }
        }
    }

    fn share_of(all: u64, bytes_per_second: u64, seconds: u64) -> f64 {
        all as f64 / (bytes_per_second * seconds) as f64
    }

    #[test]
    fn a_limit_is_honest_within_a_tenth_over_five_seconds_whatever_it_is_and_however_late_timers_wake() {
        for bytes_per_second in [16 * 1024, 100_000, 2_000_000, 125_000_000, 5_000_000_000] {
            for late in [Duration::ZERO, Duration::from_millis(1), Duration::from_millis(30)] {
                let pace = Arc::new(Pace::new(bytes_per_second));
                let share = share_of(run(&pace, 1, Duration::from_secs(5), late)[0], bytes_per_second, 5);
                assert!((0.9..=1.1).contains(&share), "{bytes_per_second} B/s, {late:?} late: {share}");
            }
        }
    }

    #[test]
    fn many_connections_together_go_no_faster_than_one_and_each_gets_its_part() {
        let pace = Arc::new(Pace::new(400_000));
        let sent = run(&pace, 32, Duration::from_secs(5), Duration::from_millis(1));
        let all = share_of(sent.iter().sum(), 400_000, 5);
        assert!((0.9..=1.1).contains(&all), "{all}");
        // The first to come has the burst; from then on they take turns.
        let (least, mean) = (sent.iter().min().unwrap(), sent.iter().sum::<u64>() / 32);
        assert!(least * 10 >= mean * 9, "{sent:?}");
    }

    #[test]
    fn a_pause_is_not_saved_up() {
        let pace = Pace::new(1_000_000);
        let start = Instant::now();
        assert_eq!(pace.pay(1_000_000, start), Duration::ZERO);
        let later = start + Duration::from_secs(3600);
        assert_eq!(pace.pay(1_000_000, later), Duration::ZERO);
        assert_eq!(pace.pay(1, later), Duration::from_secs(1) - BURST);
    }

    #[test]
    fn what_was_paid_for_is_sent_whenever_the_recipient_takes_it() {
        let pace = Arc::new(Pace::new(100_000));
        let mut slow = Purse::new(Some(pace.clone()));
        let now = Instant::now();
        let paid = slow.open(u64::MAX, now).unwrap();
        slow.sent(1);
        // A slow one pays nothing more before all of it has left, and so takes nothing from the others.
        assert_eq!(slow.open(u64::MAX, now + Duration::from_secs(60)), Ok(paid - 1));
        // A little is a little: a thousand small requests do not each pay for a whole turn.
        let mut small = Purse::new(Some(pace));
        assert_eq!(small.open(10, now), Ok(10));
        assert_eq!(small.paid, 10);
        assert_eq!(Purse::new(None).open(u64::MAX, now), Ok(u64::MAX));
    }
}
