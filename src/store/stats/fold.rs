//! How a log becomes tallies, and tallies an answer.

use std::collections::{BTreeMap, HashMap};

use super::{Day, DayStats, MAX_STATS_DAYS, Stats, TOP, Tally};
use crate::share::{Fact, SELF_TEST_PATH, TransferEnd};

/// How many different files, and how many different networks, are told apart in a day; what comes after them is counted
/// together. More than a household shares in a day.
pub(in crate::store) const MAX_NAMES_A_DAY: usize = 200;
/// The same for a block of days.
const MAX_NAMES_A_BLOCK: usize = 1000;
/// How many days files and networks are counted together besides each by itself, so that a year of them adds up from a
/// dozen blocks and the days at its ends: within 100 ms, however much happened.
const BLOCK_DAYS: i64 = 32;
/// The most that a tally counts: what a backend's signed numbers hold.
const MOST: u64 = i64::MAX as u64;
/// How much faster the next bucket of speeds begins.
const SPEED_STEP: f64 = 1.05;

/// What a tally counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::store) enum Kind {
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

/// How many days a tally is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Span {
    Day,
    Block,
}

/// A row of tallies through time: what is counted, and over how many days at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::store) struct Series {
    pub(in crate::store) kind: Kind,
    span: Span,
}

impl Series {
    /// Every one. Lines, outcomes and speeds are counted by the day alone: an answer tells of each.
    pub(in crate::store) const ALL: [Self; 7] = [
        Self { kind: Kind::Count, span: Span::Day },
        Self { kind: Kind::Outcome, span: Span::Day },
        Self { kind: Kind::Speed, span: Span::Day },
        Self { kind: Kind::File, span: Span::Day },
        Self { kind: Kind::Network, span: Span::Day },
        Self { kind: Kind::File, span: Span::Block },
        Self { kind: Kind::Network, span: Span::Block },
    ];

    /// Returns the word that the store uses.
    pub(in crate::store) fn as_str(self) -> &'static str {
        match (self.kind, self.span) {
            (Kind::Count, _) => "count",
            (Kind::Outcome, _) => "outcome",
            (Kind::Speed, _) => "speed",
            (Kind::File, Span::Day) => "file",
            (Kind::Network, Span::Day) => "network",
            (Kind::File, Span::Block) => "file of 32",
            (Kind::Network, Span::Block) => "network of 32",
        }
    }

    /// Returns how many names it tells apart at once; past it they are counted under the empty name.
    pub(in crate::store) fn most_names(self) -> usize {
        match (self.kind, self.span) {
            (Kind::File | Kind::Network, Span::Day) => MAX_NAMES_A_DAY,
            (Kind::File | Kind::Network, Span::Block) => MAX_NAMES_A_BLOCK,
            (Kind::Count | Kind::Outcome | Kind::Speed, _) => usize::MAX,
        }
    }

    /// Returns where what happened on a day is counted: the day itself, or the first of its block.
    fn place_of(self, day: Day) -> Day {
        match self.span {
            Span::Day => day,
            Span::Block => Day(day.0.div_euclid(BLOCK_DAYS) * BLOCK_DAYS),
        }
    }

    /// Returns every series that counts something of a kind on a day, with the place.
    pub(in crate::store) fn of(kind: Kind, day: Day) -> impl Iterator<Item = (Self, Day)> {
        Self::ALL.into_iter().filter(move |series| series.kind == kind).map(move |series| (series, series.place_of(day)))
    }

    /// Returns the places, first and last, whose tallies of this series are added up for some days: of whole blocks the
    /// blocks, and the days that are left at either end.
    pub(in crate::store) fn wanted(self, from: Day, to: Day) -> Vec<(Day, Day)> {
        let first_block = Day((from.0 + BLOCK_DAYS - 1).div_euclid(BLOCK_DAYS) * BLOCK_DAYS);
        let behind_blocks = Day((to.0 + 1).div_euclid(BLOCK_DAYS) * BLOCK_DAYS);
        let has_blocks = matches!(self.kind, Kind::File | Kind::Network) && first_block < behind_blocks;
        let ranges = match (self.span, has_blocks) {
            (Span::Day, false) => vec![(from, to)],
            (Span::Day, true) => vec![(from, Day(first_block.0 - 1)), (behind_blocks, to)],
            (Span::Block, true) => vec![(first_block, Day(behind_blocks.0 - 1))],
            (Span::Block, false) => Vec::new(),
        };
        ranges.into_iter().filter(|(first, last)| first <= last).collect()
    }

    /// Returns the first place that is kept when what happened before a day is forgotten. A block goes when all of it does.
    pub(in crate::store) fn first_kept(self, before: Day) -> Day {
        match self.span {
            Span::Day => before,
            Span::Block => Day(before.0.saturating_sub(BLOCK_DAYS - 1)),
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
pub(in crate::store) struct Tick {
    pub(in crate::store) kind: Kind,
    pub(in crate::store) name: String,
    pub(in crate::store) count: Count,
}

/// A tally: how many times, and how many bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::store) struct Count {
    pub(in crate::store) times: u64,
    pub(in crate::store) bytes: u64,
}

impl Count {
    fn add(&mut self, more: Self) {
        self.times = self.times.saturating_add(more.times).min(MOST);
        self.bytes = self.bytes.saturating_add(more.bytes).min(MOST);
    }
}

/// Returns what a line of the log about a share of `path` adds to the tallies of its day.
pub(in crate::store) fn ticks_of(fact: &Fact, path: &str) -> Vec<Tick> {
    if path == SELF_TEST_PATH {
        // It is no share of an owner's.
        return Vec::new();
    }
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
        | Fact::Probed { .. }
        | Fact::Extended { .. }
        | Fact::Reopened
        | Fact::Undone
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

/// All tallies, in memory: the fold of a log, line by line.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(in crate::store) struct Rollup(BTreeMap<(Series, Day), BTreeMap<String, Count>>);

impl Rollup {
    /// Adds a line of the log.
    pub(in crate::store) fn add(&mut self, day: Day, fact: &Fact, path: &str) {
        for Tick { kind, name, count } in ticks_of(fact, path) {
            for (series, place) in Series::of(kind, day) {
                let names = self.0.entry((series, place)).or_default();
                let told_apart = || names.keys().filter(|name| !name.is_empty()).count();
                let is_known = names.contains_key(&name) || told_apart() < series.most_names();
                names.entry(if is_known { name.clone() } else { String::new() }).or_default().add(count);
            }
        }
    }

    /// Returns every tally.
    pub(in crate::store) fn tallies(&self) -> impl Iterator<Item = (Series, Day, &str, Count)> {
        self.0.iter().flat_map(|((series, place), names)| names.iter().map(|(name, count)| (*series, *place, name.as_str(), *count)))
    }

    /// Forgets the days before one.
    pub(in crate::store) fn forget(&mut self, before: Day) {
        self.0.retain(|(series, place), _| *place >= series.first_kept(before));
    }

    /// Adds up the days from one to another.
    pub(in crate::store) fn stats(&self, from: Day, to: Day) -> Stats {
        let mut adder = Adder::default();
        let (from, to) = longest(from, to);
        for series in Series::ALL {
            for (first, last) in series.wanted(from, to) {
                let tallies = self.0.range((series, first)..=(series, last));
                for ((_, place), names) in tallies {
                    names.iter().for_each(|(name, count)| adder.add(series.kind, *place, name, *count));
                }
            }
        }
        adder.finish()
    }
}

/// Returns the days that an answer is about: the last [`MAX_STATS_DAYS`] of those that were asked for.
pub(in crate::store) fn longest(from: Day, to: Day) -> (Day, Day) {
    // Far from every day that a clock shows, and near enough to count with.
    let to = to.0.clamp(i64::MIN / 2, i64::MAX / 2);
    (Day(from.0.clamp(to - MAX_STATS_DAYS + 1, i64::MAX / 2)), Day(to))
}

/// Adds tallies up to an answer.
#[derive(Debug, Default)]
pub(in crate::store) struct Adder {
    stats: Stats,
    days: BTreeMap<Day, DayAdder>,
    files: HashMap<String, Count>,
    networks: HashMap<String, Count>,
}

/// Adds up one day.
#[derive(Debug, Default)]
struct DayAdder {
    made: u64,
    completed: u64,
    delivered_bytes: u64,
    outcomes: BTreeMap<String, u64>,
    speeds: BTreeMap<u16, u64>,
}

impl Adder {
    /// Adds a tally of one day.
    pub(in crate::store) fn add(&mut self, kind: Kind, day: Day, name: &str, count: Count) {
        match kind {
            Kind::Count => self.count(day, name, count),
            Kind::Outcome => *self.day(day).outcomes.entry(name.to_owned()).or_default() += count.times,
            Kind::Speed => *self.day(day).speeds.entry(name.parse().unwrap_or(0)).or_default() += count.times,
            Kind::File => add_to(&mut self.files, name, count),
            Kind::Network => add_to(&mut self.networks, name, count),
        }
    }

    fn day(&mut self, day: Day) -> &mut DayAdder {
        self.days.entry(day).or_default()
    }

    fn count(&mut self, day: Day, name: &str, count: Count) {
        let (all, of_day) = (&mut self.stats, self.days.entry(day).or_default());
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
    pub(in crate::store) fn finish(self) -> Stats {
        let (mut outcomes, mut speeds) = (BTreeMap::new(), BTreeMap::new());
        for of_day in self.days.values() {
            of_day.outcomes.iter().for_each(|(outcome, times)| *outcomes.entry(outcome.clone()).or_default() += times);
            of_day.speeds.iter().for_each(|(bucket, times)| *speeds.entry(*bucket).or_default() += times);
        }
        Stats {
            outcomes: most_first(outcomes),
            median_bytes_per_second: speed_at(&speeds, 50),
            p95_bytes_per_second: speed_at(&speeds, 95),
            days: self.days.into_iter().map(|(day, of_day)| of_day.finish(day)).collect(),
            top_files: top(self.files),
            networks: top(self.networks),
            ..self.stats
        }
    }
}

impl DayAdder {
    fn finish(self, day: Day) -> DayStats {
        DayStats {
            day,
            made: self.made,
            completed: self.completed,
            delivered_bytes: self.delivered_bytes,
            median_bytes_per_second: speed_at(&self.speeds, 50),
            outcomes: most_first(self.outcomes),
        }
    }
}

fn most_first(outcomes: BTreeMap<String, u64>) -> Vec<(String, u64)> {
    let mut outcomes: Vec<(String, u64)> = outcomes.into_iter().collect();
    outcomes.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
    outcomes
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
