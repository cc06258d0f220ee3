//! One instant on two clocks.
//!
//! The wall clock can jump: a NAS boots in 1970 and NTP puts it right, an owner sets the date. The steady clock never
//! goes back and never jumps, but only the wall clock means something to a person. So every instant carries both, stalls
//! and grace are measured on the steady one, and an expiry holds as soon as **either** clock has passed it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch by the wall clock (UTC). It may jump either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Returns this time moved by `by`, at most the last representable one.
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(millis(by)))
    }
}

/// Milliseconds on a clock that only moves forward, also over restarts and while the machine sleeps.
///
/// It is anchored in the wall clock when a state folder is first used; see `clock::SystemClock`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Steady(pub i64);

impl Steady {
    /// Returns this time moved by `by`, at most the last representable one.
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(millis(by)))
    }

    /// Returns how long after `earlier` this is; zero when it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// One instant on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Moment {
    /// The steady clock: what deadlines are measured on.
    pub steady: Steady,
    /// The wall clock: what people read, and the second guard of every expiry.
    pub wall: Timestamp,
}

impl Moment {
    /// Returns this instant moved by `by` on both clocks.
    pub fn plus(self, by: Duration) -> Self {
        Self { steady: self.steady.plus(by), wall: self.wall.plus(by) }
    }

    /// Returns whether this instant lies at or behind `deadline` on either clock.
    pub fn has_reached_either(self, deadline: Self) -> bool {
        self.steady >= deadline.steady || self.wall >= deadline.wall
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
