//! How fast bytes arrive.

use std::collections::VecDeque;
use std::time::Duration;

use crate::share::Steady;

/// Over what time a speed is measured: long enough to be calm, short enough to follow a change.
const WINDOW: Duration = Duration::from_secs(5);
/// How many readings the window holds; at 2 Hz and a request ending now and then it has a dozen.
const MAX_READINGS: usize = 64;

/// The readings of the last seconds: a total that only grows, and when it was read.
#[derive(Debug, Default)]
pub(super) struct Speed(VecDeque<(Steady, u64)>);

impl Speed {
    pub(super) fn read(&mut self, total: u64, now: Steady) {
        if self.0.len() == MAX_READINGS {
            self.0.pop_front();
        }
        self.0.push_back((now, total));
        // One reading from before the window stays: it tells where the window began.
        while self.0.get(1).is_some_and(|(at, _)| now.since(*at) >= WINDOW) {
            self.0.pop_front();
        }
    }

    /// Returns the bytes per second over the window that ends at `now`; 0 where nothing was read in it.
    pub(super) fn bytes_per_second(&self, now: Steady) -> u64 {
        let (Some((first, from)), Some((last, to))) = (self.0.front(), self.0.back()) else { return 0 };
        if now.since(*last) >= WINDOW {
            return 0;
        }
        let millis = now.since(*first).as_millis().max(1);
        let bytes = u128::from(to.saturating_sub(*from));
        u64::try_from(bytes * 1000 / millis).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_stream_has_its_speed_and_silence_has_none() {
        let mut speed = Speed::default();
        assert_eq!(speed.bytes_per_second(Steady(0)), 0);
        for tick in 0..=20 {
            speed.read(tick * 500, Steady(tick as i64 * 500));
        }
        assert_eq!(speed.bytes_per_second(Steady(10_000)), 1000);
        assert!(speed.bytes_per_second(Steady(12_000)) < 1000);
        assert_eq!(speed.bytes_per_second(Steady(15_000)), 0);
        assert!(speed.0.len() < 15);
    }

    #[test]
    fn a_change_is_followed_within_the_window() {
        let mut speed = Speed::default();
        for tick in 0..20 {
            speed.read(0, Steady(tick * 500));
        }
        for tick in 20..=32_u64 {
            speed.read((tick - 20) * 1_000_000, Steady(tick as i64 * 500));
        }
        assert_eq!(speed.bytes_per_second(Steady(16_000)), 2_000_000);
    }
}
