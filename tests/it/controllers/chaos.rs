//! What breaks, when, and for how long: drawn from a seed.

use std::time::{Duration, Instant};

use super::house::{CONTROLLERS, House};
use super::oracle::{Oracle, count};
use crate::harness::Random;

/// How long a fault lasts at the most.
const MAX_FAULT_MS: u64 = 20_000;
/// Redis is away for less: while it is, nothing else can be tried.
const MAX_REDIS_FAULT_MS: u64 = 8000;
const MIN_FAULT_MS: u64 = 1000;
/// How long nothing new breaks at the most.
const MAX_CALM_MS: u64 = 5000;
const TICK: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Kill(usize),
    Pause(usize),
    Cut(usize),
    KillRedis,
    PauseRedis,
}

impl Fault {
    fn draw(random: &mut Random) -> Self {
        let n = random.below(CONTROLLERS as u64) as usize;
        match random.below(100) {
            0..28 => Self::Kill(n),
            28..56 => Self::Pause(n),
            56..84 => Self::Cut(n),
            84..93 => Self::KillRedis,
            _ => Self::PauseRedis,
        }
    }

    fn is_of_redis(self) -> bool {
        matches!(self, Self::KillRedis | Self::PauseRedis)
    }

    /// Returns whether both can be at once: a dead one is not paused, and Redis has one fault at a time.
    fn goes_with(self, other: Self) -> bool {
        match (self, other) {
            (Self::Kill(a) | Self::Pause(a), Self::Kill(b) | Self::Pause(b)) | (Self::Cut(a), Self::Cut(b)) => a != b,
            _ => !(self.is_of_redis() && other.is_of_redis()),
        }
    }

    fn begin(self, house: &House, oracle: &Oracle) {
        let figures = &oracle.figures;
        match self {
            Self::Kill(n) => house.kill(n),
            Self::Pause(n) => house.pause(n, true),
            Self::Cut(n) => house.cut(n, true),
            Self::KillRedis => house.kill_redis(),
            Self::PauseRedis => house.pause_redis(true),
        }
        count(match self {
            Self::Kill(_) => &figures.kills,
            Self::Pause(_) => &figures.pauses,
            Self::Cut(_) => &figures.cuts,
            Self::KillRedis => &figures.redis_kills,
            Self::PauseRedis => &figures.redis_pauses,
        });
    }

    fn end(self, house: &House) {
        match self {
            Self::Kill(n) => house.revive(n),
            Self::Pause(n) => house.pause(n, false),
            Self::Cut(n) => house.cut(n, false),
            Self::KillRedis => house.start_redis(),
            Self::PauseRedis => house.pause_redis(false),
        }
    }
}

/// Breaks things until `until`, and mends everything in the end.
pub(super) fn rage(house: &House, oracle: &Oracle, mut random: Random, until: Instant) {
    let begun = Instant::now();
    let mut raging: Vec<(Instant, Fault)> = Vec::new();
    let mut next = Instant::now() + Duration::from_millis(random.below(MAX_CALM_MS));
    let is_told = std::env::var_os("CONTROLLERS_VERBOSE").is_some();
    while Instant::now() < until && !oracle.is_over() {
        let now = Instant::now();
        raging.retain(|(end, fault)| {
            if *end <= now {
                fault.end(house);
                if is_told {
                    eprintln!("{:>7.1} s: mended {fault:?}", begun.elapsed().as_secs_f32());
                }
            }
            *end > now
        });
        if now >= next {
            // What is drawn is the same for a seed, whatever the machine made of the last fault.
            let fault = Fault::draw(&mut random);
            let longest = if fault.is_of_redis() { MAX_REDIS_FAULT_MS } else { MAX_FAULT_MS };
            let lasts = MIN_FAULT_MS + random.below(longest - MIN_FAULT_MS);
            next = now + Duration::from_millis(random.below(MAX_CALM_MS));
            if raging.iter().all(|(_, other)| fault.goes_with(*other)) {
                if is_told {
                    eprintln!("{:>7.1} s: {fault:?} for {lasts} ms", begun.elapsed().as_secs_f32());
                }
                fault.begin(house, oracle);
                raging.push((now + Duration::from_millis(lasts), fault));
            }
        }
        house.tend();
        std::thread::sleep(TICK);
    }
    raging.into_iter().for_each(|(_, fault)| fault.end(house));
}
