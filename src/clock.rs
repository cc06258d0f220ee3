//! What time it is: the one home of both clocks.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::share::{Moment, Steady, Timestamp};

/// Tells the time on both clocks.
pub trait Clock: Send + Sync + 'static {
    /// Returns this instant on the steady and on the wall clock.
    fn now(&self) -> Moment;
}

/// The machine's clocks.
///
/// The steady one is CLOCK_BOOTTIME (it goes on while the machine sleeps) moved so that it stood at the wall clock's time
/// when the process began, or at the last instant that the store knows if that is later: it never goes back, not even
/// over a restart after the wall clock was set back.
#[derive(Debug)]
pub struct SystemClock {
    /// What to add to CLOCK_BOOTTIME, in milliseconds.
    offset: i64,
}

impl SystemClock {
    /// Starts the clock; `last` is the latest instant that was ever saved.
    pub fn starting_after(last: Option<Steady>) -> Self {
        let start = wall_now().0.max(last.map_or(i64::MIN, |steady| steady.0));
        Self { offset: start - since_boot() }
    }
}

impl SystemClock {
    /// Starts the clock where those of other controllers stand, whatever this machine's wall clock says: deadlines of one are judged by all.
    pub fn starting_at(now: Steady) -> Self {
        Self { offset: now.0 - since_boot() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        Moment { steady: Steady(since_boot() + self.offset), wall: wall_now() }
    }
}

fn since_boot() -> i64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    time.tv_sec * 1000 + time.tv_nsec / 1_000_000
}

fn wall_now() -> Timestamp {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    Timestamp(time.tv_sec * 1000 + time.tv_nsec / 1_000_000)
}

/// A clock that stands still until it is moved, each of the two by itself.
#[derive(Debug, Default)]
pub struct FakeClock {
    now: Mutex<Moment>,
    looks: AtomicU64,
}

impl FakeClock {
    /// Starts at `now`.
    pub fn at(now: Moment) -> Self {
        Self { now: Mutex::new(now), looks: AtomicU64::new(0) }
    }

    /// Returns how often anybody looked at it.
    pub fn looks(&self) -> u64 {
        self.looks.load(Ordering::Relaxed)
    }

    /// Moves both clocks ahead, as time does.
    pub fn advance(&self, by: Duration) {
        let mut now = self.now.lock().expect("nobody panics while holding the time");
        *now = now.plus(by);
    }

    /// Sets the wall clock alone, as NTP or an owner does.
    pub fn jump_wall_to(&self, wall: Timestamp) {
        self.now.lock().expect("nobody panics while holding the time").wall = wall;
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Moment {
        self.looks.fetch_add(1, Ordering::Relaxed);
        *self.now.lock().expect("nobody panics while holding the time")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steady_clock_starts_no_earlier_than_what_was_saved() {
        let saved = Steady(i64::MAX / 2);
        assert!(SystemClock::starting_after(Some(saved)).now().steady >= saved);
        let now = SystemClock::starting_after(None).now();
        assert!(now.steady.0.abs_diff(now.wall.0) < 60_000);
    }

    #[test]
    fn a_clock_that_joins_others_stands_where_theirs_do() {
        let joined = SystemClock::starting_at(Steady(5_000_000)).now().steady;
        assert!(joined >= Steady(5_000_000) && joined < Steady(5_060_000), "{joined:?}");
    }

    #[test]
    fn a_jump_of_the_wall_leaves_the_steady_clock_alone() {
        let clock = FakeClock::default();
        clock.advance(Duration::from_secs(1));
        clock.jump_wall_to(Timestamp(-5));
        assert_eq!(clock.now(), Moment { steady: Steady(1000), wall: Timestamp(-5) });
    }
}
