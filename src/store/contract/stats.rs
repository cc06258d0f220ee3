//! Statistics: what the log says, day by day.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::{all_events, decide, file, link, new_share, transfer};
use crate::share::{
    ByteRange, CatalogPath, Event, Evidence, Fact, Moment, Outcome, Recipient, RequestId, Share, ShareId, SharedFile, Steady, Timestamp,
    TransferEnd,
};
use crate::store::stats::Rollup;
use crate::store::{Day, DayStats, Save, Stats, Store, Tally};

const DAY_MS: i64 = 24 * 3600 * 1000;

pub(in crate::store) async fn stats_say_what_happened_on_which_days(store: Arc<dyn Store>) {
    assert_eq!(store.stats(Day(0), Day(99)).await.unwrap(), Stats::default());
    let (film, song) = (named(1, "film.mkv", 3), named(2, "song.flac", 1));
    put(&*store, &film, vec![Fact::Created], day(10)).await;
    put(&*store, &song, vec![Fact::Created], day(11)).await;
    // 4000 bytes in 2 s, 1000 bytes of a transfer that stalled, 3000 bytes in 1 s.
    let redeemed = Fact::Redeemed { transfer: transfer(1) };
    put(&*store, &film, vec![redeemed.clone(), ended(TransferEnd::Completed, 4000, Some(2000), "203.0.113.0/24")], day(11)).await;
    put(&*store, &film, vec![redeemed.clone(), ended(TransferEnd::Stalled, 1000, Some(9000), "198.51.100.0/24")], day(12)).await;
    put(&*store, &song, vec![redeemed, ended(TransferEnd::Completed, 3000, Some(1000), "203.0.113.0/24")], day(12)).await;
    put(&*store, &film, vec![Fact::Closed { outcome: Outcome::Stalled }], day(12)).await;
    put(&*store, &song, vec![Fact::Closed { outcome: Outcome::Completed }], day(13)).await;

    let all = store.stats(Day(10), Day(13)).await.unwrap();
    assert_eq!((all.made, all.redeemed, all.completed, all.given_back, all.delivered_bytes), (2, 3, 2, 1, 8000));
    assert_eq!(all.outcomes, [("completed".to_owned(), 1), ("stalled".to_owned(), 1)]);
    let near = |told: Option<u64>, exact: f64| (told.unwrap() as f64 - exact).abs() / exact < 0.05;
    assert!(near(all.median_bytes_per_second, 2000.0) && near(all.p95_bytes_per_second, 3000.0), "{all:?}");
    // Speeds and outcomes are told of below.
    let of_day = |day, made, completed, delivered_bytes| DayStats { made, completed, delivered_bytes, ..DayStats::nothing(Day(day)) };
    let counted = |day: &DayStats| of_day(day.day.0, day.made, day.completed, day.delivered_bytes);
    let days: Vec<DayStats> = all.days.iter().map(counted).collect();
    assert_eq!(days, [of_day(10, 1, 0, 0), of_day(11, 1, 1, 4000), of_day(12, 0, 1, 4000), of_day(13, 0, 0, 0)]);
    let tally = |name: &str, downloads, delivered_bytes| Tally { name: name.to_owned(), downloads, delivered_bytes };
    assert_eq!(all.top_files, [tally("film.mkv", 1, 5000), tally("song.flac", 1, 3000)]);
    assert_eq!(all.networks, [tally("203.0.113.0/24", 2, 7000), tally("198.51.100.0/24", 0, 1000)]);

    let one_day = store.stats(Day(11), Day(11)).await.unwrap();
    assert_eq!((one_day.made, one_day.completed, one_day.outcomes, one_day.delivered_bytes), (1, 1, vec![], 4000));
    assert_eq!(store.stats(Day(14), Day(99)).await.unwrap(), Stats::default());
}

pub(in crate::store) async fn stats_say_of_each_day_how_shares_closed_and_how_fast_transfers_were(store: Arc<dyn Store>) {
    let share = named(1, "film.mkv", 9);
    put(&*store, &share, vec![Fact::Created], day(1)).await;
    // More than two blocks of days, the first and the last of them cut.
    let (first, last) = (10, 99);
    let speed_on = |day: i64| 1000 + day.unsigned_abs() * 100;
    for n in first..=last {
        let outcome = if n % 3 == 0 { Outcome::Expired } else { Outcome::Completed };
        put(&*store, &share, vec![Fact::Closed { outcome }, Fact::Closed { outcome: Outcome::Completed }], day(n)).await;
        // The median is the middle one of three; one that stalled has no part in it.
        let transfers = [(TransferEnd::Completed, 1), (TransferEnd::Completed, speed_on(n)), (TransferEnd::Completed, 10_000_000)];
        let transfers = transfers.into_iter().chain([(TransferEnd::Stalled, 7)]);
        let facts = transfers.map(|(end, bytes)| ended(end, bytes, Some(1000), "203.0.113.0/24")).collect();
        put(&*store, &share, facts, day(n)).await;
    }

    let stats = store.stats(Day(first), Day(last)).await.unwrap();
    let told: Vec<i64> = stats.days.iter().map(|day| day.day.0).collect();
    assert_eq!(told, (first..=last).collect::<Vec<_>>());
    for of_day in &stats.days {
        let n = of_day.day.0;
        let outcomes: &[(&str, u64)] = if n % 3 == 0 { &[("completed", 1), ("expired", 1)] } else { &[("completed", 2)] };
        let said: Vec<(&str, u64)> = of_day.outcomes.iter().map(|(outcome, times)| (outcome.as_str(), *times)).collect();
        assert_eq!(said, outcomes, "day {n}");
        let (median, exact) = (of_day.median_bytes_per_second.unwrap() as f64, speed_on(n) as f64);
        assert!((median - exact).abs() / exact < 0.05, "day {n}: {median} is told, {exact} is true");
    }
    // The days add up to what is told of them all.
    assert_eq!(stats.outcomes, [("completed".to_owned(), 150), ("expired".to_owned(), 30)]);
    let (median, exact) = (stats.median_bytes_per_second.unwrap() as f64, speed_on(54) as f64);
    assert!((median - exact).abs() / exact < 0.05, "{median} is told, {exact} is true");
}

pub(in crate::store) async fn a_day_begins_at_midnight_utc_also_before_1970(store: Arc<dyn Store>) {
    let share = named(1, "film.mkv", 9);
    put(&*store, &share, vec![Fact::Created], day(5)).await;
    for wall in [-1, 0, DAY_MS - 1, DAY_MS] {
        put(&*store, &share, vec![Fact::Redeemed { transfer: transfer(1) }], Moment { steady: Steady(0), wall: Timestamp(wall) }).await;
    }
    for (day, redeemed) in [(-1, 1), (0, 2), (1, 1)] {
        assert_eq!(store.stats(Day(day), Day(day)).await.unwrap().redeemed, redeemed);
    }
}

pub(in crate::store) async fn a_refused_save_is_not_counted(store: Arc<dyn Store>) {
    let share = named(1, "film.mkv", 1);
    put(&*store, &share, vec![Fact::Created], day(1)).await;
    let redeem = |n| Save { share: Arc::new(share.clone()), facts: vec![Fact::Redeemed { transfer: transfer(n) }], at: day(1) };
    store.save(redeem(1)).await.unwrap();
    for n in 2..9 {
        store.save(redeem(n)).await.unwrap_err();
    }
    assert_eq!(store.stats(Day(1), Day(1)).await.unwrap().redeemed, 1);
}

pub(in crate::store) async fn stats_are_the_fold_of_the_whole_log(store: Arc<dyn Store>) {
    let mut random = Random(0x5eed);
    let mut paths: HashMap<ShareId, String> = HashMap::new();
    for n in 0..60 {
        let share = live(&*store, &mut random, n).await;
        paths.insert(share.id, share.file.path.to_text());
    }
    let mut rollup = Rollup::default();
    let log = all_events(&*store).await;
    assert!((300..1000).contains(&log.len()), "a page holds the whole log: {}", log.len());
    log.iter().for_each(|record| rollup.add(Day::of(record.at), &record.fact, &paths[&record.share]));
    for (from, to) in [(0, 40), (0, 31), (0, 0), (3, 3), (5, 12), (39, 90), (-40, 200)] {
        assert_eq!(store.stats(Day(from), Day(to)).await.unwrap(), rollup.stats(Day(from), Day(to)), "days {from} to {to}");
    }
    let all = rollup.stats(Day(0), Day(90));
    assert!(all.made == 60 && all.completed > 5 && all.given_back > 5 && all.outcomes.len() > 1, "something of everything: {all:?}");
}

/// Lets a share live through something, by the core's own rules.
async fn live(store: &dyn Store, random: &mut Random, n: u64) -> Share {
    let path = format!("folder {}/file \u{e9}{}.bin", random.below(3), random.below(7));
    let mut share = named(n, &path, 1 + random.below(3));
    let mut now = day(random.below(30) as i64).plus(Duration::from_millis(random.below(DAY_MS as u64)));
    share.created = now;
    share.expires = now.plus(Duration::from_secs(3600));
    put(store, &share, vec![Fact::Created], now).await;
    let mut transfers = 0;
    for step in 0..10 + random.below(20) {
        // Now and then longer than a stall.
        now = now.plus(Duration::from_secs(if random.below(10) == 0 { 400 } else { random.below(30) }));
        let id = transfer(transfers);
        let recipient = Recipient { address: Some(format!("203.0.{}.9", random.below(3))), agent: String::new() };
        let event = match random.below(if step == 0 { 1 } else { 40 }) {
            0..=3 => Event::TunnelOpened,
            4..=14 => {
                transfers += 1;
                Event::Redeemed { link: share.link, transfer: transfer(transfers), recipient }
            }
            15..=24 => Event::RequestOpened { transfer: id, request: RequestId(step), range: ByteRange::new(0, 100), carrier: None },
            25..=34 => Event::Delivered { transfer: id, range: ByteRange::new(0, 60 + random.below(61)), evidence: Evidence::Acknowledged },
            35..=38 => Event::TimePassed,
            _ => Event::Revoked,
        };
        let decided = share.on(event, now);
        put(store, &share, decided.facts, now).await;
    }
    for event in [Event::TunnelOpened, Event::Revoked, Event::TunnelClosed] {
        let save = decide(&mut share, event, now);
        store.save(save).await.unwrap();
    }
    share
}

async fn put(store: &dyn Store, share: &Share, facts: Vec<Fact>, at: Moment) {
    store.save(Save { share: Arc::new(share.clone()), facts, at }).await.unwrap();
}

/// A share of another file for so many downloads, not saved.
fn named(n: u64, path: &str, max_downloads: u64) -> Share {
    let (mut share, _) = new_share(n, max_downloads, day(1));
    share.file = SharedFile { path: CatalogPath::parse(path).unwrap(), ..file() };
    share.link = link(u128::from(n) + 1000);
    share
}

fn day(n: i64) -> Moment {
    Moment { steady: Steady(n * DAY_MS), wall: Timestamp(n * DAY_MS + 1000) }
}

fn ended(end: TransferEnd, delivered_bytes: u64, duration_ms: Option<u64>, network: &str) -> Fact {
    Fact::Ended {
        transfer: transfer(1),
        end,
        delivered_bytes,
        evidence: Some(Evidence::Acknowledged),
        given_back: end == TransferEnd::Stalled,
        duration_ms,
        network: Some(network.to_owned()),
    }
}

/// Numbers that look random and are the same each time (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}
