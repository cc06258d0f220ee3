//! What questions and writes cost, in steps of SQLite's machine: a count that no load of the machine changes. It must
//! depend on what is asked for, and not on how much there is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use rusqlite::StatementStatus;
use rusqlite::trace::{TraceEvent, TraceEventCodes};

use super::super::{queries, stats, writer};
use super::*;
use crate::share::{CatalogPath, Evidence, Outcome, Recipient, TransferEnd, TransferId};
use crate::store::Day;
use crate::store::contract::new_share;

/// How many days the stores of these tests have lived.
const DAYS: u64 = 60;
const DAY_SECONDS: u64 = 24 * 3600;

#[test]
fn what_is_asked_costs_the_same_in_a_small_and_in_a_large_store() {
    let (small, large) = (Filled::with(600), Filled::with(6000));
    let middle = seconds(DAYS / 2 * DAY_SECONDS).wall;
    let page = ShareQuery { closed: Some(true), limit: 20, ..Default::default() };
    for (what, query) in [
        ("the newest", page.clone()),
        ("all", ShareQuery { closed: None, ..page.clone() }),
        ("the living", ShareQuery { closed: Some(false), ..page.clone() }),
        ("an outcome", ShareQuery { outcome: Some(Outcome::Revoked), ..page.clone() }),
        ("an outcome of which there is none", ShareQuery { outcome: Some(Outcome::Failed), ..page.clone() }),
        ("since long ago", ShareQuery { since: Some(Timestamp(0)), ..page.clone() }),
        ("until the middle", ShareQuery { until: Some(middle), ..page.clone() }),
        ("a time before everything", ShareQuery { until: Some(Timestamp(0)), ..page.clone() }),
        ("some days in the middle", ShareQuery { since: Some(middle), until: Some(Timestamp(middle.0 + 5 * 86_400_000)), ..page.clone() }),
        ("a part of a path", ShareQuery { path_contains: Some("FILE".to_owned()), ..page.clone() }),
    ] {
        let ask =
            |filled: &Filled, before| filled.steps(|file| queries::page_of_shares(file, &ShareQuery { before, ..query.clone() }).unwrap());
        same(what, ask(&small, None), ask(&large, None));
        same(what, ask(&small, Some(small.middle())), ask(&large, Some(large.middle())));
    }
    for (what, share, kind, since) in [
        ("lines", None, None, None),
        ("lines of a share", Some(id(0)), None, None),
        ("lines of a kind", None, Some("share.closed"), None),
        ("lines of some kinds", None, Some("transfer."), None),
        ("lines of a kind that there is not", None, Some("share.unknown"), None),
        ("lines since the middle", None, None, Some(middle)),
        ("lines of a kind since the middle", None, Some("share.created"), Some(middle)),
        ("lines of some kinds since the middle", None, Some("share."), Some(middle)),
        ("lines since a time to come", None, None, Some(seconds(9999 * DAY_SECONDS).wall)),
    ] {
        let ask = |filled: &Filled, part: u64| {
            let after = filled.lines() * part / 2;
            let query = EventQuery { after, share, kind: kind.map(str::to_owned), since, limit: 50, ..EventQuery::default() };
            filled.steps(|file| queries::page_of_events(file, &query).unwrap())
        };
        same(what, ask(&small, 0), ask(&large, 0));
        same(what, ask(&small, 1), ask(&large, 1));
        let ask = |filled: &Filled, part: Option<u64>| {
            let before = part.map(|part| filled.lines() * part / 2);
            let query =
                EventQuery { before, newest_first: true, share, kind: kind.map(str::to_owned), since, limit: 50, ..EventQuery::default() };
            filled.steps(|file| queries::page_of_events(file, &query).unwrap())
        };
        same(what, ask(&small, None), ask(&large, None));
        same(what, ask(&small, Some(1)), ask(&large, Some(1)));
    }
    let last = Day(DAYS as i64);
    let ask = |filled: &Filled| filled.steps(|file| stats::stats(file, Day(last.0 - 29), last).unwrap());
    same("statistics of 30 days", ask(&small), ask(&large));
    let ask = |filled: &Filled| filled.steps(|file| size(file, Path::new("/nowhere")).unwrap());
    same("its size", ask(&small), ask(&large));
    small.reads_along_indexes();
}

#[test]
fn a_share_costs_the_same_in_a_small_and_in_a_large_store() {
    let (small, large) = (Filled::with(600), Filled::with(6000));
    let cost = |filled: &Filled| filled.steps(|file| live(file, 1_000_000, DAYS));
    same("a share's life", cost(&small), cost(&large));
    small.reads_along_indexes();
}

fn same(what: &str, small: i64, large: i64) {
    assert!(large <= small + small / 4 + 100, "{what}: {small} steps in a small store, {large} in a large one");
}

/// A database with shares that lived, evenly over the days.
struct Filled {
    file: Connection,
    shares: u64,
    seen: Arc<Mutex<Seen>>,
}

/// What SQLite told of the statements that ran. Its counters belong to a statement that is kept, and run on over its runs.
#[derive(Default)]
struct Seen {
    /// What the counter of each stood at as its last run began.
    before: BTreeMap<String, i64>,
    /// How many steps the runs of each took.
    steps: BTreeMap<String, i64>,
}

impl Seen {
    fn note(&mut self, event: &TraceEvent<'_>) {
        match event {
            // A trigger within a statement is told of as a comment; its steps are the statement's.
            TraceEvent::Stmt(_, text) if text.starts_with("--") => {}
            TraceEvent::Stmt(statement, _) => {
                self.before.insert(statement.sql().into_owned(), statement.get_status(StatementStatus::VmStep).into());
            }
            TraceEvent::Profile(statement, _) => {
                let sql = statement.sql().into_owned();
                let before = self.before.get(&sql).copied().unwrap_or_default();
                *self.steps.entry(sql).or_default() += i64::from(statement.get_status(StatementStatus::VmStep)) - before;
            }
            _ => {}
        }
    }
}

impl Filled {
    fn with(shares: u64) -> Self {
        let mut file = Connection::open_in_memory().unwrap();
        file.set_prepared_statement_cache_capacity(100);
        schema::prepare(&file).unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let notes = seen.clone();
        let events = TraceEventCodes::SQLITE_TRACE_STMT | TraceEventCodes::SQLITE_TRACE_PROFILE;
        file.trace_v2(events, Some(move |event: TraceEvent<'_>| notes.lock().unwrap().note(&event))).unwrap();
        file.execute_batch("BEGIN").unwrap();
        (0..shares).for_each(|n| live(&file, n, n * DAYS / shares));
        file.execute_batch("COMMIT").unwrap();
        Self { file, shares, seen }
    }

    fn middle(&self) -> ShareId {
        id(self.shares / 2)
    }

    fn lines(&self) -> u64 {
        latest_seq(&self.file).unwrap()
    }

    /// Counts the steps that some work takes.
    fn steps<T>(&self, work: impl FnOnce(&Connection) -> T) -> i64 {
        let count = || self.seen.lock().unwrap().steps.values().sum::<i64>();
        let before = count();
        work(&self.file);
        count() - before
    }

    /// No statement that was used reads a log or the shares from end to end, or sorts them.
    fn reads_along_indexes(&self) {
        let statements: Vec<String> = self.seen.lock().unwrap().steps.keys().cloned().collect();
        let asking = ["SELECT", "WITH", "INSERT", "UPDATE", "DELETE", "REPLACE"];
        let statements: Vec<&String> =
            statements.iter().filter(|sql| asking.iter().any(|word| sql.trim_start().starts_with(word))).collect();
        assert!(statements.len() > 10);
        for sql in statements {
            let mut plan = self.file.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            // As little as is bound: a plan is made of the statement alone.
            let none = vec![Value::Null; plan.parameter_count()];
            let plan = plan.query_map(rusqlite::params_from_iter(none), |row| row.get::<_, String>(3)).unwrap();
            for step in plan.map(Result::unwrap) {
                let is_scan = ["share", "event", "link", "tally"].iter().any(|table| step == format!("SCAN {table}"));
                let sorts_shares = step.contains("TEMP B-TREE") && sql.contains("FROM share");
                assert!(!is_scan && !sorts_shares, "{step}: {sql}");
            }
        }
    }
}

/// Lets share `n` be made on a day, downloaded by somebody and closed, in three saves.
fn live(file: &Connection, n: u64, day: u64) {
    let at = seconds(day * DAY_SECONDS + n % DAY_SECONDS);
    let (mut share, created) = new_share(n, 1, at);
    share.file.path = CatalogPath::parse(&format!("Folder/file {}.mkv", n % 5)).unwrap();
    let transfer = TransferId::from_bytes([n as u8; 16]);
    let ended = Fact::Ended {
        transfer,
        end: TransferEnd::Completed,
        delivered_bytes: 1000,
        evidence: Some(Evidence::Acknowledged),
        given_back: false,
        duration_ms: Some(100 + n % 3 * 100),
        network: Some(format!("203.0.{}.0/24", n % 5)),
    };
    let save = |share: &Share, facts| writer::save(file, &Save { share: Arc::new(share.clone()), facts, at }).map_err(drop).unwrap();
    save(&share, created);
    let opened = share.on(Event::TunnelOpened, at).facts;
    let redeem = Event::Redeemed { link: share.link, transfer, recipient: Recipient::default() };
    let redeemed = share.on(redeem, at).facts;
    save(&share, [opened, redeemed, vec![ended]].concat());
    let closing = share.on(Event::Revoked, at).facts;
    let closed = share.on(Event::TunnelClosed, at).facts;
    save(&share, [closing, closed].concat());
}
