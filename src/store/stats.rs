//! What happened over days: folds of the event log, kept day by day as it grows.
//!
//! Each line of the log adds a few [`Tick`]s to the tallies of its day ([`ticks_of`]); an answer adds up the tallies of its
//! days ([`Adder`]). Both are pure, so that every backend counts the same.

mod fold;

use serde::{Deserialize, Serialize};

pub(super) use self::fold::{Adder, Count, Rollup, Series, Tick, longest, ticks_of};

/// A day by the wall clock in UTC: how many days it lies after 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Day(pub i64);

impl Day {
    /// Returns the day that a wall-clock time lies in.
    pub fn of(at: crate::share::Timestamp) -> Self {
        Self(at.0.div_euclid(24 * 3600 * 1000))
    }
}

/// The most days that are asked for at once: a leap year and a day.
pub const MAX_STATS_DAYS: i64 = 367;
/// How many files, and how many networks, an answer names.
pub const TOP: usize = 10;

/// What happened in a span of days.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// How many shares were made.
    pub made: u64,
    /// How many closed, by outcome as the event log names it, most first.
    pub outcomes: Vec<(String, u64)>,
    /// How many links were redeemed.
    pub redeemed: u64,
    /// How many transfers completed.
    pub completed: u64,
    /// How many uses were given back.
    pub given_back: u64,
    /// How many bytes arrived, over all transfers that ended.
    pub delivered_bytes: u64,
    /// The speed that half of the completed transfers stayed below, in bytes per second; good to 5 %.
    pub median_bytes_per_second: Option<u64>,
    /// The speed that 95 of 100 completed transfers stayed below, in bytes per second; good to 5 %.
    pub p95_bytes_per_second: Option<u64>,
    /// The days on which something happened, in order.
    pub days: Vec<DayStats>,
    /// The files that were downloaded most, at most [`TOP`].
    pub top_files: Vec<Tally>,
    /// The networks of recipients that downloaded most, at most [`TOP`].
    pub networks: Vec<Tally>,
}

/// What happened in a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayStats {
    /// Which day.
    pub day: Day,
    /// How many shares were made.
    pub made: u64,
    /// How many transfers completed.
    pub completed: u64,
    /// How many bytes arrived, over the transfers that ended on it.
    pub delivered_bytes: u64,
    /// How many shares closed on it, by outcome as the event log names it, most first.
    pub outcomes: Vec<(String, u64)>,
    /// The speed that half of the transfers stayed below which completed on it, in bytes per second; good to 5 %. `None`: none
    /// completed whose speed is known.
    pub median_bytes_per_second: Option<u64>,
}

impl DayStats {
    /// Returns what there is to say of a day on which nothing happened.
    pub fn nothing(day: Day) -> Self {
        Self { day, made: 0, completed: 0, delivered_bytes: 0, outcomes: Vec::new(), median_bytes_per_second: None }
    }
}

/// How often something was downloaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// What: the text form of a path, or a network as `203.0.113.0/24`.
    pub name: String,
    /// How many transfers of it completed.
    pub downloads: u64,
    /// How many bytes arrived.
    pub delivered_bytes: u64,
}

#[cfg(test)]
mod tests;
