//! Three controllers on one Redis, each in a network namespace of its own, while owners and recipients use whichever they meet and
//! controllers and Redis are killed, paused and cut off from each other.
//!
//! The oracle stands outside: it knows what was answered, and looks into Redis for who watches. `CONTROLLERS_SECONDS` says for how long,
//! `CONTROLLERS_SEED` which faults; with `CONTROLLERS_VERBOSE` each is told, with `CONTROLLERS_KEEP` what a failed run wrote is kept.

mod blind;
mod chaos;
mod house;
mod judge;
mod load;
mod oracle;
mod watch;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use self::house::{CONTROLLERS, House, Networks};
use self::load::Load;
use self::oracle::{Oracle, count};
use crate::harness::{Random, has_redis, leave_out, random_below};
use crate::live::Listener;

/// How long it rages unless `CONTROLLERS_SECONDS` says otherwise.
const SECONDS: u64 = 60;
/// From so long on what takes minutes is tried too.
const LONG_SECONDS: u64 = 500;
/// For how long one is cut off in the short form.
const CUT_FOR: Duration = Duration::from_secs(20);
/// How many use the house at once. Each race has 64 more.
const OWNERS: u64 = 6;
const RACES: u64 = 4;
const READERS: u64 = 16;
/// How long an owner waits between two deeds at the most: some three shares a second are made by all.
const PAUSE_MS: u64 = 1000;
/// And in the long form, which answers for a thousand shares.
const LONG_PAUSE_MS: u64 = 300;
/// How long a listener may need for what it missed.
const CATCH_UP: Duration = Duration::from_secs(60);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Returns whether the suite can run here; where it cannot, says so.
fn is_possible() -> bool {
    if !has_redis() {
        return false;
    }
    static IS_POSSIBLE: OnceLock<bool> = OnceLock::new();
    let is_possible = *IS_POSSIBLE.get_or_init(Networks::can_be_made);
    if !is_possible {
        leave_out("it needs root and network namespaces (ip, nsenter)");
    }
    is_possible
}

#[test]
fn three_controllers_on_one_redis_hold_every_promise_whatever_dies_pauses_or_is_cut_off() {
    if !is_possible() {
        return;
    }
    let seconds = number("CONTROLLERS_SECONDS").unwrap_or(SECONDS);
    let seed = number("CONTROLLERS_SEED").unwrap_or_else(|| random_below(1_000_000));
    eprintln!("again: CONTROLLERS_SEED={seed} CONTROLLERS_SECONDS={seconds} cargo test --test it controllers::");
    let pause = if seconds < LONG_SECONDS { PAUSE_MS } else { LONG_PAUSE_MS };
    let house = House::start(&[("STALL_TIMEOUT_SECONDS", "15"), ("GRACE_PERIOD_SECONDS", "10"), ("LOG", "info")]);
    let oracle = Oracle::default();
    let load = Load { house: &house, oracle: &oracle, tasks: Mutex::new(VecDeque::new()), to_race: Mutex::new(VecDeque::new()) };
    let (is_judged, goal) = (AtomicBool::new(false), AtomicU64::new(u64::MAX));
    std::thread::scope(|scope| {
        // Whoever panics must not leave the others going on for ever.
        let _end = End { oracle: &oracle, is_judged: &is_judged, goal: &goal };
        let watcher = scope.spawn(|| watch::watch(&house, &oracle, || is_judged.load(Ordering::SeqCst)));
        let listeners: Vec<_> = (0..CONTROLLERS)
            .map(|n| (n, &house, &oracle, &goal))
            .map(|(n, house, oracle, goal)| scope.spawn(move || listen(n, house, oracle, goal)))
            .collect();
        std::thread::scope(|scope| {
            let load = &load;
            let random = |n: u64| Random::new(seed.wrapping_mul(1000) + n);
            (0..OWNERS).for_each(|n| drop(scope.spawn(move || load.own(random(n + 1), pause))));
            (0..RACES).for_each(|n| drop(scope.spawn(move || load.race(random(n + 101)))));
            (0..READERS).for_each(|n| drop(scope.spawn(move || load.read(random(n + 201)))));
            scope.spawn(move || load.look(random(301)));
            scope.spawn(move || load.shut(random(401)));
            chaos::rage(&house, &oracle, Random::new(seed), Instant::now() + Duration::from_secs(seconds));
            oracle.is_over.store(true, Ordering::SeqCst);
            house.until_all_are_up();
        });
        if oracle.mistakes().is_empty() {
            judge::judge(&load);
            goal.store(judge::whole_log(&house).len() as u64, Ordering::SeqCst);
        } else {
            goal.store(0, Ordering::SeqCst);
        }
        is_judged.store(true, Ordering::SeqCst);
        listeners.into_iter().for_each(|listener| listener.join().expect("a listener does not panic"));
        watcher.join().expect("the watcher does not panic");
    });
    eprintln!("{}", oracle.figures.table(seed, seconds));
    let mistakes = oracle.mistakes();
    assert!(mistakes.is_empty(), "{}\n{}\nagain: CONTROLLERS_SEED={seed}", house.logs(60), mistakes.join("\n"));
    let figures = &oracle.figures;
    let least =
        [(&figures.shares, seconds / 2), (&figures.redeems, seconds / 4), (&figures.downloads, seconds / 8), (&figures.doors_tried, 10)];
    assert!(least.iter().all(|(figure, least)| figure.load(Ordering::SeqCst) >= *least), "too little was tried");
}

/// Ends a run, also where a thread of it panics.
struct End<'a> {
    oracle: &'a Oracle,
    is_judged: &'a AtomicBool,
    goal: &'a AtomicU64,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.oracle.is_over.store(true, Ordering::SeqCst);
            self.goal.store(0, Ordering::SeqCst);
            self.is_judged.store(true, Ordering::SeqCst);
        }
    }
}

#[test]
fn a_share_that_one_goes_on_sending_who_is_cut_off_is_called_closed_only_when_that_has_stopped() {
    if number("CONTROLLERS_SECONDS").unwrap_or(SECONDS) < LONG_SECONDS {
        return leave_out("it takes six minutes, as long as a controller goes on blindly (tests/run --long controllers)");
    }
    if is_possible() {
        blind::close_what_one_sends_that_is_cut_off(&House::start(&[("STALL_TIMEOUT_SECONDS", "60")]), Duration::MAX);
    }
}

#[test]
fn a_share_that_one_sends_who_is_cut_off_is_not_called_closed_until_that_one_hears_of_it() {
    if is_possible() {
        blind::close_what_one_sends_that_is_cut_off(&House::start(&[("STALL_TIMEOUT_SECONDS", "60")]), CUT_FOR);
    }
}

/// Listens to one controller until the line `goal`: every line of the log comes once and in order, whoever wrote it.
fn listen(n: usize, house: &House, oracle: &Oracle, goal: &AtomicU64) {
    let mut listener = Listener::at(house.owner(n), house.token.clone());
    let (mut last, mut lines) = (None::<u64>, 0);
    let mut late: Option<Instant> = None;
    loop {
        let goal = goal.load(Ordering::SeqCst);
        if goal == 0 || last.is_some_and(|last| last >= goal) {
            break;
        }
        if goal != u64::MAX && late.get_or_insert_with(Instant::now).elapsed() > CATCH_UP {
            oracle.wrong(format!("nas-{n} tells of line {last:?} and not of line {goal}"));
            break;
        }
        match listener.next() {
            Some(event) if event.name == "ready" && last.is_none() => last = event.id,
            Some(event) if event.name == "log" => {
                let is_next = event.id.is_some() && (last.is_none() || event.id == last.map(|last| last + 1));
                oracle.check(is_next, || format!("nas-{n} told of line {:?} behind {last:?}", event.id));
                last = event.id;
                lines += 1;
            }
            Some(_) => {}
            None if listener.connect() => count(&oracle.figures.reconnects),
            None => std::thread::sleep(Duration::from_millis(100)),
        }
    }
    oracle.figures.lines_told.fetch_add(lines, Ordering::Relaxed);
}
