use proptest::prelude::*;

use super::fold::MAX_NAMES_A_DAY;
use super::*;
use crate::share::{Fact, Outcome, TransferEnd, TransferId};

fn completed(bytes: u64, duration_ms: u64) -> Fact {
    Fact::Ended {
        transfer: TransferId::from_bytes([1; 16]),
        end: TransferEnd::Completed,
        delivered_bytes: bytes,
        evidence: None,
        given_back: false,
        duration_ms: Some(duration_ms),
        network: Some("203.0.113.0/24".to_owned()),
    }
}

fn stats_of(facts: &[Fact]) -> Stats {
    let mut rollup = Rollup::default();
    facts.iter().for_each(|fact| rollup.add(Day(3), fact, "film.mkv"));
    rollup.stats(Day(3), Day(3))
}

#[test]
fn names_past_the_bound_of_a_day_are_counted_together() {
    let mut rollup = Rollup::default();
    for n in 0..MAX_NAMES_A_DAY + 50 {
        rollup.add(Day(1), &completed(1, 1), &format!("file {n}"));
    }
    // One that is told apart already goes on being counted under its name.
    rollup.add(Day(1), &completed(1, 1), "file 7");
    let files: Vec<_> = rollup.tallies().filter(|(series, ..)| series.as_str() == "file").collect();
    assert_eq!(files.len(), MAX_NAMES_A_DAY + 1);
    assert_eq!((files[0].2, files[0].3), ("", Count { times: 50, bytes: 50 }));
    let stats = rollup.stats(Day(0), Day(9));
    assert_eq!(stats.top_files.len(), TOP);
    assert_eq!(stats.top_files[0], Tally { name: "file 7".to_owned(), downloads: 2, delivered_bytes: 2 });
    assert_eq!(stats.completed, MAX_NAMES_A_DAY as u64 + 51);
}

#[test]
fn no_more_days_are_added_up_than_may_be_asked_for() {
    let mut rollup = Rollup::default();
    for day in [0, 1, MAX_STATS_DAYS] {
        rollup.add(Day(day), &Fact::Created, "film.mkv");
    }
    assert_eq!(rollup.stats(Day(0), Day(MAX_STATS_DAYS)).made, 2);
    assert_eq!(rollup.stats(Day(i64::MIN), Day(i64::MAX)).made, 0);
    assert_eq!(rollup.stats(Day(1), Day(0)), Stats::default());
}

#[test]
fn days_add_up_the_same_whether_in_blocks_or_one_by_one() {
    let mut rollup = Rollup::default();
    let days = -70..140;
    for day in days.clone() {
        rollup.add(Day(day), &completed(1 + day.unsigned_abs(), 1), &format!("file {}", day.rem_euclid(7)));
    }
    for (from, to) in [(-70, 139), (-64, -33), (-65, 0), (0, 31), (0, 30), (1, 31), (1, 32), (0, 63), (0, 64), (-1, 64), (31, 32), (40, 50)]
    {
        let stats = rollup.stats(Day(from), Day(to));
        let bytes: u64 = (from..=to).map(|day| 1 + day.unsigned_abs()).sum();
        let downloads = (to - from + 1) as u64;
        assert_eq!((stats.delivered_bytes, stats.completed), (bytes, downloads), "{from} to {to}");
        let files =
            (stats.top_files.iter().map(|file| file.delivered_bytes).sum(), stats.top_files.iter().map(|file| file.downloads).sum());
        assert_eq!(files, (bytes, downloads), "{from} to {to}");
        assert_eq!((stats.networks[0].delivered_bytes, stats.networks[0].downloads), (bytes, downloads), "{from} to {to}");
    }
}

#[test]
fn outcomes_and_speeds_are_told_day_by_day_whatever_blocks_lie_between() {
    let mut rollup = Rollup::default();
    let days = -70..140;
    for day in days.clone() {
        rollup.add(Day(day), &Fact::Closed { outcome: Outcome::Completed }, "film.mkv");
        rollup.add(Day(day), &completed(1000 + day.unsigned_abs(), 1000), "film.mkv");
    }
    for (from, to) in [(-70, 139), (-64, -33), (0, 31), (0, 63), (1, 64), (40, 50)] {
        let stats = rollup.stats(Day(from), Day(to));
        let told: Vec<i64> = stats.days.iter().map(|day| day.day.0).collect();
        assert_eq!(told, (from..=to).collect::<Vec<_>>());
        let is_told = |day: &DayStats| day.outcomes == [("completed".to_owned(), 1)] && day.median_bytes_per_second.is_some();
        assert!(stats.days.iter().all(is_told), "{from} to {to}: {stats:?}");
        assert_eq!(stats.outcomes, [("completed".to_owned(), (to - from + 1) as u64)], "{from} to {to}");
    }
}

#[test]
fn a_day_says_how_fast_its_own_transfers_were() {
    let mut rollup = Rollup::default();
    rollup.add(Day(1), &Fact::Created, "film.mkv");
    for speed in [1000, 2000, 4000] {
        rollup.add(Day(2), &completed(speed, 1000), "film.mkv");
    }
    rollup.add(Day(3), &completed(1_000_000, 1000), "film.mkv");
    let median = |day: &DayStats| day.median_bytes_per_second;
    let stats = rollup.stats(Day(1), Day(3));
    let [None, Some(second), Some(third)] = stats.days.iter().map(median).collect::<Vec<_>>()[..] else { panic!("{stats:?}") };
    assert!((1900..2100).contains(&second) && (950_000..1_050_000).contains(&third), "{second} {third}");
}

#[test]
fn an_empty_file_has_no_speed_and_an_instant_one_has_some() {
    assert_eq!(stats_of(&[completed(0, 10)]).median_bytes_per_second, None);
    assert!(stats_of(&[completed(10, 0)]).median_bytes_per_second.is_some());
    let unending = stats_of(&[completed(u64::MAX, 0), completed(u64::MAX, 0)]);
    assert_eq!(unending.delivered_bytes, i64::MAX as u64);
    assert!(unending.median_bytes_per_second.is_some());
}

proptest! {
    #[test]
    fn speeds_are_good_to_five_percent(speeds in proptest::collection::vec(100u64..100_000_000_000, 1..60)) {
        let stats = stats_of(&speeds.iter().map(|speed| completed(*speed, 1000)).collect::<Vec<_>>());
        let mut sorted = speeds;
        sorted.sort_unstable();
        for (told, percent) in [(stats.median_bytes_per_second, 50), (stats.p95_bytes_per_second, 95)] {
            let exact = sorted[(sorted.len() * percent).div_ceil(100) - 1] as f64;
            let error = (told.unwrap() as f64 - exact).abs() / exact;
            prop_assert!(error < 0.05, "{told:?} is told, {exact} is true");
        }
    }
}
