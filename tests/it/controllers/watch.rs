//! Looks into Redis: which controller watches each living share, and whether that one can.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use redis::Connection;

use super::house::{CONTROLLERS, House};
use super::oracle::{Oracle, count};

/// How long a share may be without a watcher that lives.
pub(super) const MAX_GAP: Duration = Duration::from_secs(10);
/// How often is looked.
const EVERY: Duration = Duration::from_millis(200);
/// The most that one look adds to the time: where this machine stops for longer, the controllers did not run either.
const MAX_STEP: Duration = Duration::from_millis(500);
/// A controller that was heard within so long is there: it beats every second.
const HEARD: u64 = 3000;
/// What all keys of the product begin with where nothing else is said.
pub(super) const KEYS: &str = "{portcullis}:";

/// What stands in Redis of who watches.
pub(super) struct Standing {
    /// Each share that is not closed, and the number of its watcher.
    pub(super) watched: Vec<(String, u64)>,
    /// Which controller a number is of, and how long ago it was heard, in milliseconds.
    pub(super) members: HashMap<u64, (usize, u64)>,
}

impl Standing {
    pub(super) fn read(connection: &mut Connection) -> redis::RedisResult<Self> {
        type Read = (Vec<(String, u64)>, HashMap<u64, String>, HashMap<u64, u64>, (u64, u64));
        let key = |name: &str| format!("{KEYS}{name}");
        let mut pipe = redis::pipe();
        pipe.atomic().cmd("ZRANGE").arg(key("watched")).arg(0).arg(-1).arg("WITHSCORES");
        pipe.cmd("HGETALL").arg(key("controllers")).cmd("HGETALL").arg(key("heard")).cmd("TIME");
        let (watched, names, heard, (seconds, micros)): Read = pipe.query(connection)?;
        let now = seconds * 1000 + micros / 1000;
        let member = |(number, name): (u64, String)| {
            let n: usize = name.rsplit_once("nas-")?.1.parse().ok()?;
            Some((number, (n, now.saturating_sub(*heard.get(&number)?))))
        };
        Ok(Self { watched, members: names.into_iter().filter_map(member).collect() })
    }
}

#[derive(Default)]
struct Gaps {
    /// Goes as long as this thread runs.
    now: Duration,
    redis_since: Option<Duration>,
    healthy_since: [Option<Duration>; CONTROLLERS],
    unwatched_since: HashMap<String, Duration>,
    /// Who watched each share when it was last looked at, and under which fence.
    watchers: HashMap<String, (u64, u64)>,
}

impl Gaps {
    fn take(&mut self, house: &House, oracle: &Oracle, standing: &Standing) {
        let heard_of = |n: usize| standing.members.values().any(|(of, silence)| *of == n && *silence <= HEARD);
        for (n, since) in self.healthy_since.iter_mut().enumerate() {
            let is_healthy = house.ailments(n, super::house::Ailments::is_healthy) && heard_of(n);
            *since = is_healthy.then(|| since.unwrap_or(self.now));
        }
        let redis_since = *self.redis_since.get_or_insert(self.now);
        let longest_healthy = self.healthy_since.iter().flatten().min().copied();
        let mut unwatched = HashMap::new();
        for (share, number) in &standing.watched {
            let is_watched = standing.members.get(number).is_some_and(|(n, _)| self.healthy_since[*n].is_some());
            if !is_watched {
                let since = self.unwatched_since.get(share).copied().unwrap_or(self.now);
                unwatched.insert(share.clone(), since);
                // Nobody could have taken it before Redis was there, and somebody who goes on living.
                let counted = longest_healthy.map(|healthy| self.now.saturating_sub(since.max(healthy).max(redis_since)));
                let gap = counted.unwrap_or_default();
                let before = oracle.figures.longest_gap_ms.fetch_max(gap.as_millis() as u64, Ordering::Relaxed);
                if gap > MAX_GAP && before <= MAX_GAP.as_millis() as u64 {
                    oracle.wrong(format!(
                        "{share} was watched by nobody who could for {gap:?}; its watcher is {number}: {:?}",
                        standing.members
                    ));
                }
            }
        }
        self.unwatched_since = unwatched;
    }

    /// Whoever takes a share over raises its fence: only so what its former watcher still does is refused.
    fn look_at_fences(&mut self, oracle: &Oracle, standing: &Standing, connection: &mut Connection) -> redis::RedisResult<()> {
        let is_other = |(share, number): &&(String, u64)| self.watchers.get(share).is_none_or(|(watcher, _)| watcher != number);
        for (share, _) in standing.watched.iter().filter(is_other).collect::<Vec<_>>() {
            let header: String = redis::cmd("GETRANGE").arg(format!("{KEYS}share:{share}")).arg(0).arg(60).query(connection)?;
            let mut numbers = header.split(' ').map(str::parse::<u64>);
            let (Some(Ok(_version)), Some(Ok(watcher)), Some(Ok(fence))) = (numbers.next(), numbers.next(), numbers.next()) else {
                panic!("the header of a share: {header}");
            };
            if let Some((former, before)) = self.watchers.insert(share.clone(), (watcher, fence)) {
                count(&oracle.figures.take_overs);
                let is_fenced = watcher == former || fence > before;
                oracle.check(is_fenced, || format!("{share} went from controller {former} to {watcher}, both under the fence {fence}"));
            }
        }
        Ok(())
    }
}

/// Looks until `is_done`.
pub(super) fn watch(house: &House, oracle: &Oracle, is_done: impl Fn() -> bool) {
    let (mut gaps, mut connection, mut last) = (Gaps::default(), None, Instant::now());
    while !is_done() {
        std::thread::sleep(EVERY);
        gaps.now += last.elapsed().min(MAX_STEP);
        last = Instant::now();
        let standing = if house.is_redis_up() { look(house, &mut connection) } else { None };
        match standing {
            // It may have gone while it was asked.
            Some(standing) if house.is_redis_up() => {
                count(&oracle.figures.looks_at_redis);
                gaps.take(house, oracle, &standing);
                if connection.as_mut().is_some_and(|line| gaps.look_at_fences(oracle, &standing, line).is_err()) {
                    connection = None;
                }
            }
            _ => {
                gaps.redis_since = None;
                connection = None;
            }
        }
    }
}

fn look(house: &House, connection: &mut Option<Connection>) -> Option<Standing> {
    if connection.is_none() {
        *connection = house.redis_connection();
    }
    let standing = Standing::read(connection.as_mut()?).ok();
    if standing.is_none() {
        *connection = None;
    }
    standing
}
