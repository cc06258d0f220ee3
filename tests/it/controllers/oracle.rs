//! What the outside knows of the shares, and what it has found wrong.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::house::CONTROLLERS;
use crate::harness::{Offer, Random};

/// Owners look back at so many shares.
const NEWEST: usize = 300;
/// How many mistakes are told; the run ends with the first.
const MAX_TOLD: usize = 12;

/// One link of a share, as it was answered.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) redeem_path: String,
    /// Where each of those who got it was led.
    pub(super) transfers: Vec<String>,
    /// How many asked for it and were not told what came of that.
    pub(super) unanswered: u64,
}

/// What is known of one share.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The newest last.
    pub(super) links: Vec<Link>,
    /// Grows whenever it may have been opened again.
    pub(super) generation: u64,
    /// When it was read that it is closed, of this generation.
    pub(super) closed: Option<Instant>,
    /// When it was last opened, by the wall clock, in milliseconds.
    pub(super) opened_ms: i64,
    /// Whether its end was answered to its owner, who has not opened it since.
    pub(super) is_shut: bool,
    /// Whether somebody asked to open it and was not told what came of that.
    pub(super) is_unsure: bool,
    /// Whether it was ever opened again or taken back.
    pub(super) was_reopened: bool,
}

/// A share that was answered for.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) id: String,
    pub(super) note: String,
    pub(super) file: usize,
    /// How many may take it; `None` for everybody.
    pub(super) uses: Option<u64>,
    /// Held by whoever does something as its owner, or looks whether it is shut.
    pub(super) owner: Mutex<()>,
    known: Mutex<Known>,
    /// How many fetch it right now, from each controller.
    readers: [AtomicU64; CONTROLLERS],
}

/// Says for as long as it lives that somebody fetches a share.
pub(super) struct Reading<'a>(&'a AtomicU64);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Share {
    pub(super) fn new(offer: &Offer, note: String, file: usize, uses: Option<u64>) -> Self {
        let known = Known { links: vec![Link::of(offer)], opened_ms: now_ms(), ..Known::default() };
        Self { id: offer.id.clone(), note, file, uses, owner: Mutex::default(), known: Mutex::new(known), readers: Default::default() }
    }

    pub(super) fn read_at(&self, n: usize) -> Reading<'_> {
        self.readers[n].fetch_add(1, Ordering::SeqCst);
        Reading(&self.readers[n])
    }

    /// Returns whether somebody fetches it right now from one of these controllers.
    pub(super) fn is_read_at(&self, is_one: impl Fn(usize) -> bool) -> bool {
        (0..CONTROLLERS).any(|n| is_one(n) && self.readers[n].load(Ordering::SeqCst) > 0)
    }

    /// Notes that a redeem was not answered.
    pub(super) fn unanswered(&self, redeem_path: &str) {
        self.known().links.iter_mut().filter(|link| link.redeem_path == redeem_path).for_each(|link| link.unanswered += 1);
    }

    /// Returns whether nobody has asked for what its newest link leads to.
    pub(super) fn is_untaken(&self) -> bool {
        self.known().links.last().is_some_and(|link| link.transfers.is_empty() && link.unanswered == 0)
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("nobody panicked")
    }

    /// Returns when it was read that it is closed, where it was not opened since this generation.
    pub(super) fn closed_in(&self, generation: u64) -> Option<Instant> {
        let known = self.known();
        known.closed.filter(|_| known.generation == generation)
    }

    /// Notes what a controller says of it. Of one that is behind, what it says of an earlier close counts for nothing.
    pub(super) fn heard(&self, json: &Value) {
        let mut known = self.known();
        let closed_ms = json["closed_at"].as_str().map(|at| at.parse::<jiff::Timestamp>().expect("a time").as_millisecond());
        let is_new = closed_ms.is_some_and(|at| at > known.opened_ms);
        if json["state"] == "closed" && is_new && !known.is_unsure && known.closed.is_none() {
            known.closed = Some(Instant::now());
        }
    }
}

impl Link {
    pub(super) fn of(offer: &Offer) -> Self {
        Self { redeem_path: offer.redeem_path(), transfers: Vec::new(), unanswered: 0 }
    }
}

pub(super) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// What is counted.
#[derive(Default)]
pub(super) struct Figures {
    pub(super) shares: AtomicU64,
    pub(super) created_unanswered: AtomicU64,
    pub(super) races: AtomicU64,
    pub(super) redeems: AtomicU64,
    pub(super) redeems_unanswered: AtomicU64,
    pub(super) downloads: AtomicU64,
    pub(super) ranges: AtomicU64,
    pub(super) downloads_left: AtomicU64,
    pub(super) revokes: AtomicU64,
    pub(super) revokes_of_cut_off: AtomicU64,
    pub(super) extends: AtomicU64,
    pub(super) reopens: AtomicU64,
    pub(super) undos: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) doors_tried: AtomicU64,
    pub(super) downloads_cut: AtomicU64,
    pub(super) late_bytes: AtomicU64,
    pub(super) kills: AtomicU64,
    pub(super) pauses: AtomicU64,
    pub(super) cuts: AtomicU64,
    pub(super) redis_kills: AtomicU64,
    pub(super) redis_pauses: AtomicU64,
    pub(super) looks_at_redis: AtomicU64,
    pub(super) longest_gap_ms: AtomicU64,
    pub(super) take_overs: AtomicU64,
    pub(super) lines_told: AtomicU64,
    pub(super) reconnects: AtomicU64,
}

pub(super) fn count(figure: &AtomicU64) {
    figure.fetch_add(1, Ordering::Relaxed);
}

impl Figures {
    /// Writes them down as a table.
    pub(super) fn table(&self, seed: u64, seconds: u64) -> String {
        let rows: [(&str, &AtomicU64); 26] = [
            ("shares answered for", &self.shares),
            ("shares asked for and not answered", &self.created_unanswered),
            ("64-way races", &self.races),
            ("redeems answered", &self.redeems),
            ("redeems not answered", &self.redeems_unanswered),
            ("downloads whole and right", &self.downloads),
            ("ranges fetched", &self.ranges),
            ("downloads left or lost", &self.downloads_left),
            ("downloads cut by an owner", &self.downloads_cut),
            ("revokes", &self.revokes),
            ("of what one sends that is cut off", &self.revokes_of_cut_off),
            ("extends", &self.extends),
            ("reopened", &self.reopens),
            ("closes taken back", &self.undos),
            ("owners refused for now", &self.refused),
            ("doors of closed shares tried", &self.doors_tried),
            ("most bytes read after \"closed\"", &self.late_bytes),
            ("controllers: kill -9", &self.kills),
            ("controllers: paused", &self.pauses),
            ("controllers: cut off", &self.cuts),
            ("Redis: kill -9", &self.redis_kills),
            ("Redis: paused", &self.redis_pauses),
            ("looks at who watches", &self.looks_at_redis),
            ("longest unwatched gap, ms", &self.longest_gap_ms),
            ("changes of a watcher", &self.take_overs),
            ("lines told live", &self.lines_told),
        ];
        let mut text = format!("\n{:<40} {seed:>9}\n{:<40} {seconds:>9}\n", "CONTROLLERS_SEED", "CONTROLLERS_SECONDS");
        for (name, figure) in rows {
            text += &format!("{name:<40} {:>9}\n", figure.load(Ordering::Relaxed));
        }
        text
    }
}

/// The outside.
#[derive(Default)]
pub(super) struct Oracle {
    shares: Mutex<Vec<Arc<Share>>>,
    /// Notes of shares that were asked for and not answered: at most one of each is there.
    pub(super) unsure_notes: Mutex<Vec<String>>,
    mistakes: Mutex<Vec<String>>,
    /// The load is to end.
    pub(super) is_over: AtomicBool,
    pub(super) figures: Figures,
}

impl Oracle {
    pub(super) fn add(&self, share: Share) -> Arc<Share> {
        let share = Arc::new(share);
        self.shares.lock().expect("nobody panicked").push(share.clone());
        count(&self.figures.shares);
        share
    }

    pub(super) fn all(&self) -> Vec<Arc<Share>> {
        self.shares.lock().expect("nobody panicked").clone()
    }

    /// Returns one of the newest shares of a sort.
    pub(super) fn any(&self, random: &mut Random, is_wanted: impl Fn(&Share) -> bool) -> Option<Arc<Share>> {
        let shares = self.all();
        let newest = shares.iter().rev().take(NEWEST).filter(|share| is_wanted(share)).collect::<Vec<_>>();
        (!newest.is_empty()).then(|| newest[random.below(newest.len() as u64) as usize].clone())
    }

    /// Notes that a promise was broken; the run ends.
    pub(super) fn wrong(&self, what: String) {
        let mut mistakes = self.mistakes.lock().expect("nobody panicked");
        if mistakes.len() < MAX_TOLD {
            eprintln!("BROKEN: {what}");
            mistakes.push(what);
        }
        self.is_over.store(true, Ordering::SeqCst);
    }

    pub(super) fn check(&self, is_so: bool, what: impl FnOnce() -> String) {
        if !is_so {
            self.wrong(what());
        }
    }

    pub(super) fn mistakes(&self) -> Vec<String> {
        self.mistakes.lock().expect("nobody panicked").clone()
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// Sleeps, and wakes where the load is to end.
    pub(super) fn sleep(&self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until && !self.is_over() {
            std::thread::sleep(Duration::from_millis(20).min(until.saturating_duration_since(Instant::now())));
        }
    }
}
