//! Both clocks of a simulated machine: they follow the runtime's paused time, and the wall can be set.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use portcullis::clock::Clock;
use portcullis::share::{Moment, Steady, Timestamp};
use tokio::time::Instant;

#[derive(Debug)]
pub(crate) struct SimClock(Mutex<Times>);

#[derive(Debug)]
struct Times {
    /// When the machine began, by the runtime.
    origin: Instant,
    /// What the steady clock stood at then, were it never moved.
    base: i64,
    /// The wall clock minus the steady one.
    wall_ahead: i64,
}

impl SimClock {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Times { origin: Instant::now(), base: 1_800_000_000_000, wall_ahead: 0 }))
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.0.lock().expect("nobody panics while holding the time")
    }

    /// The machine sleeps: time goes on, and no program notices until it wakes.
    pub(crate) fn sleep(&self, by: Duration) {
        self.times().base += by.as_millis() as i64;
    }

    /// Somebody sets the wall clock.
    pub(crate) fn jump_wall(&self, by_ms: i64) {
        self.times().wall_ahead += by_ms;
    }

    /// A process begins: as `SystemClock::starting_after` has it.
    pub(crate) fn process_begins(&self, last: Option<Steady>) {
        let now = self.now();
        let steady = now.wall.0.max(last.map_or(i64::MIN, |steady| steady.0));
        let mut times = self.times();
        times.base += steady - now.steady.0;
        times.wall_ahead = now.wall.0 - steady;
    }
}

impl Clock for SimClock {
    fn now(&self) -> Moment {
        let times = self.times();
        let steady = times.base + Instant::now().duration_since(times.origin).as_millis() as i64;
        Moment { steady: Steady(steady), wall: Timestamp(steady + times.wall_ahead) }
    }
}
