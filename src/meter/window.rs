//! How much may be unconfirmed: as much as a recipient takes while a PING goes to them and back, twice.
//!
//! More would only lie in buffers, where it is memory, leaks at a revoke and makes every answer late. What is learnt is what
//! BBR learns (how fast they take bytes at best, and how long a PING takes at least), from answers alone.

use std::time::Duration;

/// What is allowed anybody, and at first: two parts that are asked after. It doubles with each round trip that it fills.
const LEAST_BYTES: u64 = 128 * 1024;
/// What is allowed nobody more than.
pub const MAX_UNCONFIRMED_BYTES: u64 = 1024 * 1024;
/// How long a PING takes at the least for this: on a near line it is the other side's scheduler that answers late.
const SHORTEST: Duration = Duration::from_millis(20);
/// How fast is forgotten how fast they were: an eighth with each answer.
const FORGOTTEN: u64 = 8;

/// How much may be unconfirmed over one connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// How long a PING took at the least.
    shortest: Duration,
    /// How fast they took bytes lately, at best.
    bytes_per_second: u64,
}

impl Window {
    pub(super) fn new() -> Self {
        Self { shortest: Duration::MAX, bytes_per_second: 0 }
    }

    /// Returns whether nothing was answered yet.
    pub(super) fn is_new(&self) -> bool {
        self.shortest == Duration::MAX
    }

    /// Notes that a PING was answered after so long, while so much was confirmed.
    pub(super) fn answered(&mut self, took: Duration, bytes: u64) {
        self.shortest = self.shortest.min(took);
        let nanos = took.as_nanos().max(1);
        let rate = u64::try_from(u128::from(bytes) * 1_000_000_000 / nanos).unwrap_or(u64::MAX);
        self.bytes_per_second = rate.max(self.bytes_per_second - self.bytes_per_second / FORGOTTEN);
    }

    pub(super) fn bytes(&self) -> u64 {
        if self.is_new() {
            return LEAST_BYTES;
        }
        let twice = u128::from(self.bytes_per_second) * self.shortest.max(SHORTEST).as_nanos() * 2 / 1_000_000_000;
        u64::try_from(twice).unwrap_or(u64::MAX).clamp(LEAST_BYTES, MAX_UNCONFIRMED_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    /// A line with a delay and a rate, behind which nothing else waits; returns how much is allowed after so many answers.
    fn after(rounds: usize, delay: Duration, bytes_per_second: u64) -> u64 {
        let mut window = Window::new();
        // The first goes out behind a head.
        window.answered(delay, 0);
        for _ in 0..rounds {
            let bytes = window.bytes();
            let taking = Duration::from_secs_f64(bytes as f64 / bytes_per_second as f64);
            window.answered(delay.max(taking), bytes);
        }
        window.bytes()
    }

    #[test]
    fn who_is_slow_has_little_on_the_way_however_near_they_are() {
        for rate in [50_000, 500_000, 1_000_000] {
            assert_eq!(after(20, Duration::from_millis(1), rate), LEAST_BYTES, "{rate} B/s");
        }
        assert!(after(20, Duration::from_millis(1), 5_000_000) <= 256 * 1024);
    }

    #[test]
    fn who_is_fast_or_far_is_not_held_up() {
        assert_eq!(after(10, Duration::from_millis(1), 200_000_000), MIB);
        // 10 MB/s over a tenth of a second are 1 MB: the most there is.
        assert_eq!(after(4, Duration::from_millis(100), 10_000_000), MIB, "within four round trips");
        // 2 MB/s over 100 ms are 200 kB, and as much again may wait.
        let far = after(30, Duration::from_millis(100), 2_000_000);
        assert!((200_000..=500_000).contains(&far), "{far}");
    }

    #[test]
    fn nobody_has_more_than_the_most_or_less_than_the_least() {
        let mut window = Window::new();
        assert_eq!(window.bytes(), LEAST_BYTES);
        window.answered(Duration::ZERO, u64::MAX);
        assert_eq!(window.bytes(), MAX_UNCONFIRMED_BYTES);
        window.answered(Duration::MAX, 0);
        assert!(window.bytes() >= LEAST_BYTES);
    }
}
