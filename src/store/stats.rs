//! What happened over days: folds of the event log, kept day by day as it grows.
//!
//! Each line of the log adds a few [`Tick`]s to the tallies of its day ([`ticks_of`]); an answer adds up the tallies of its
//! days ([`Adder`]). Both are pure, so that every backend counts the same.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::share::{Fact, TransferEnd};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayStats {
    /// Which day.
    pub day: Day,
    /// How many shares were made.
    pub made: u64,
    /// How many transfers completed.
    pub completed: u64,
    /// How many bytes arrived, over the transfers that ended on it.
    pub delivered_bytes: u64,
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

/// How many different files, and how many different networks, are told apart in a day; what comes after them is counted
/// together. More than a household shares in a day, and a year of such days still adds up within 100 ms.
pub(super) const MAX_NAMES_A_DAY: usize = 200;
/// The most that a tally counts: what a backend's signed numbers hold.
const MOST: u64 = i64::MAX as u64;
/// How much faster the next bucket of speeds begins.
const SPEED_STEP: f64 = 1.05;

/// What a tally counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    /// Lines of a type, by [`MADE`] and so on.
    Count,
    /// Shares that closed, by outcome.
    Outcome,
    /// Completed transfers, by the bucket of their speed.
    Speed,
    /// Completed transfers and their bytes, by path.
    File,
    /// Completed transfers and their bytes, by network.
    Network,
}

impl Kind {
    pub(super) const ALL: [Self; 5] = [Self::Count, Self::Outcome, Self::Speed, Self::File, Self::Network];

    /// Returns the word that the store uses.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Outcome => "outcome",
            Self::Speed => "speed",
            Self::File => "file",
            Self::Network => "network",
        }
    }

    /// Returns how many names it tells apart in a day; past it they are counted under the empty name.
    pub(super) fn most_names(self) -> usize {
        match self {
            Self::File | Self::Network => MAX_NAMES_A_DAY,
            Self::Count | Self::Outcome | Self::Speed => usize::MAX,
        }
    }
}

const MADE: &str = "made";
const REDEEMED: &str = "redeemed";
const COMPLETED: &str = "completed";
const GIVEN_BACK: &str = "given_back";
const DELIVERED: &str = "delivered";

/// What one line of the log adds to one tally of its day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tick {
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) count: Count,
}

/// A tally: how many times, and how many bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) times: u64,
    pub(super) bytes: u64,
}

impl Count {
    fn add(&mut self, more: Self) {
        self.times = self.times.saturating_add(more.times).min(MOST);
        self.bytes = self.bytes.saturating_add(more.bytes).min(MOST);
    }
}

/// Returns what a line of the log about a share of `path` adds to the tallies of its day.
pub(super) fn ticks_of(fact: &Fact, path: &str) -> Vec<Tick> {
    let tick = |kind, name: &str, times, bytes: u64| Tick { kind, name: name.to_owned(), count: Count { times, bytes: bytes.min(MOST) } };
    match fact {
        Fact::Created => vec![tick(Kind::Count, MADE, 1, 0)],
        Fact::Redeemed { .. } => vec![tick(Kind::Count, REDEEMED, 1, 0)],
        Fact::Closed { outcome } => vec![tick(Kind::Outcome, outcome.as_str(), 1, 0)],
        Fact::Ended { end, delivered_bytes, given_back, duration_ms, network, .. } => {
            let (bytes, completed) = (*delivered_bytes, u64::from(*end == TransferEnd::Completed));
            let speed = duration_ms.filter(|_| completed == 1).and_then(|duration| bucket_of(bytes, duration));
            let mut ticks = vec![
                tick(Kind::Count, DELIVERED, 0, bytes),
                tick(Kind::Count, COMPLETED, completed, 0),
                tick(Kind::Count, GIVEN_BACK, u64::from(*given_back), 0),
                tick(Kind::File, path, completed, bytes),
            ];
            ticks.extend(network.as_deref().map(|network| tick(Kind::Network, network, completed, bytes)));
            ticks.extend(speed.map(|bucket| tick(Kind::Speed, &bucket.to_string(), 1, 0)));
            ticks.retain(|tick| tick.count != Count::default());
            ticks
        }
        Fact::Opened
        | Fact::TunnelLost
        | Fact::Extended { .. }
        | Fact::Reopened
        | Fact::Delivered
        | Fact::Closing { .. }
        | Fact::Began { .. } => Vec::new(),
    }
}

/// Returns which bucket a transfer's speed lies in; `None` for an empty file, which has no speed.
fn bucket_of(bytes: u64, duration_ms: u64) -> Option<u16> {
    let speed = u128::from(bytes) * 1000 / u128::from(duration_ms.max(1));
    // The largest, 2^64 * 1000, lies in bucket 1050.
    (speed > 0).then(|| ((speed as f64).ln() / SPEED_STEP.ln()).floor() as u16)
}

/// Returns the middle of a bucket, in bytes per second: at most 2.5 % from every speed in it.
fn speed_of(bucket: u16) -> u64 {
    SPEED_STEP.powf(f64::from(bucket) + 0.5).round() as u64
}

/// The tallies of all days, in memory: the fold of a log, line by line.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Rollup(BTreeMap<(Kind, Day), BTreeMap<String, Count>>);

impl Rollup {
    /// Adds a line of the log.
    pub(super) fn add(&mut self, day: Day, fact: &Fact, path: &str) {
        for Tick { kind, name, count } in ticks_of(fact, path) {
            let names = self.0.entry((kind, day)).or_default();
            let told_apart = || names.keys().filter(|name| !name.is_empty()).count();
            let is_known = names.contains_key(&name) || told_apart() < kind.most_names();
            names.entry(if is_known { name } else { String::new() }).or_default().add(count);
        }
    }

    /// Returns every tally.
    pub(super) fn tallies(&self) -> impl Iterator<Item = (Kind, Day, &str, Count)> {
        self.0.iter().flat_map(|((kind, day), names)| names.iter().map(|(name, count)| (*kind, *day, name.as_str(), *count)))
    }

    /// Forgets the days before one.
    pub(super) fn forget(&mut self, before: Day) {
        self.0.retain(|(_, day), _| *day >= before);
    }

    /// Adds up the days from one to another.
    pub(super) fn stats(&self, from: Day, to: Day) -> Stats {
        let mut adder = Adder::default();
        let span = span(from, to);
        self.tallies().filter(|(_, day, ..)| span.contains(day)).for_each(|(kind, day, name, count)| adder.add(kind, day, name, count));
        adder.finish()
    }
}

/// Returns the days that an answer is about: the last [`MAX_STATS_DAYS`] of those that were asked for.
pub(super) fn span(from: Day, to: Day) -> std::ops::RangeInclusive<Day> {
    Day(from.0.max(to.0.saturating_sub(MAX_STATS_DAYS - 1)))..=to
}

/// Adds tallies up to an answer.
#[derive(Debug, Default)]
pub(super) struct Adder {
    stats: Stats,
    days: BTreeMap<Day, DayStats>,
    outcomes: BTreeMap<String, u64>,
    speeds: BTreeMap<u16, u64>,
    files: HashMap<String, Count>,
    networks: HashMap<String, Count>,
}

impl Adder {
    /// Adds a tally of one day.
    pub(super) fn add(&mut self, kind: Kind, day: Day, name: &str, count: Count) {
        match kind {
            Kind::Count => self.count(day, name, count),
            Kind::Outcome => *self.outcomes.entry(name.to_owned()).or_default() += count.times,
            Kind::Speed => *self.speeds.entry(name.parse().unwrap_or(0)).or_default() += count.times,
            Kind::File => add_to(&mut self.files, name, count),
            Kind::Network => add_to(&mut self.networks, name, count),
        }
    }

    fn count(&mut self, day: Day, name: &str, count: Count) {
        let (all, of_day) = (&mut self.stats, self.days.entry(day).or_insert(DayStats { day, made: 0, completed: 0, delivered_bytes: 0 }));
        match name {
            MADE => (all.made, of_day.made) = (all.made + count.times, of_day.made + count.times),
            REDEEMED => all.redeemed += count.times,
            COMPLETED => (all.completed, of_day.completed) = (all.completed + count.times, of_day.completed + count.times),
            GIVEN_BACK => all.given_back += count.times,
            DELIVERED => {
                all.delivered_bytes = all.delivered_bytes.saturating_add(count.bytes);
                of_day.delivered_bytes = of_day.delivered_bytes.saturating_add(count.bytes);
            }
            _ => {}
        }
    }

    /// Returns the answer.
    pub(super) fn finish(self) -> Stats {
        let mut outcomes: Vec<(String, u64)> = self.outcomes.into_iter().collect();
        outcomes.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
        Stats {
            outcomes,
            median_bytes_per_second: speed_at(&self.speeds, 50),
            p95_bytes_per_second: speed_at(&self.speeds, 95),
            days: self.days.into_values().collect(),
            top_files: top(self.files),
            networks: top(self.networks),
            ..self.stats
        }
    }
}

fn add_to(tallies: &mut HashMap<String, Count>, name: &str, count: Count) {
    match tallies.get_mut(name) {
        Some(tally) => tally.add(count),
        // Those that were counted together have no name to be told by.
        None if name.is_empty() => {}
        None => {
            tallies.insert(name.to_owned(), count);
        }
    }
}

fn top(tallies: HashMap<String, Count>) -> Vec<Tally> {
    let rank = |tally: &Tally| (std::cmp::Reverse((tally.downloads, tally.delivered_bytes)), tally.name.clone());
    let tally = |(name, count): (String, Count)| Tally { name, downloads: count.times, delivered_bytes: count.bytes };
    let mut all: Vec<Tally> = tallies.into_iter().map(tally).collect();
    if all.len() > TOP {
        all.select_nth_unstable_by_key(TOP, rank);
        all.truncate(TOP);
    }
    all.sort_by_cached_key(rank);
    all
}

/// Returns the speed that so many of 100 transfers stayed below, or had.
fn speed_at(speeds: &BTreeMap<u16, u64>, percent: u64) -> Option<u64> {
    let all: u64 = speeds.values().sum();
    let wanted = (u128::from(all) * u128::from(percent)).div_ceil(100);
    let mut seen = 0;
    let bucket = speeds.iter().find(|(_, times)| {
        seen += u128::from(**times);
        seen >= wanted
    });
    bucket.map(|(bucket, _)| speed_of(*bucket))
}

#[cfg(test)]
mod tests;
