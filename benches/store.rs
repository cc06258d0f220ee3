//! How fast the store answers when it has lived for long: a log of a million lines, a year of shares.
//!
//! `cargo bench --bench store [-- --smoke | --redis]` prints a table; there is no pass and no fail (`cost.rs` counts what it costs
//! without a clock). Creating is measured beside an empty store, in rounds that alternate who goes first, and what counts
//! is the median of the rounds' own ratios: a busy neighbour disturbs both sides of a round alike.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

#[path = "store/redis.rs"]
mod redis_rows;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use portcullis::share::{
    CatalogPath, Event, Evidence, Fact, FileIdentity, Limits, Moment, Outcome, Policy, PolicyRequest, Recipient, Share, ShareId,
    SharedFile, TransferEnd, TransferId,
};
use portcullis::store::sqlite::{SqliteStore, backup, verify_audit_of};
use portcullis::store::{Day, EventQuery, Save, ShareQuery, Store};

/// How many days the store has lived.
const DAYS: u64 = 365;
const DAY: Duration = Duration::from_secs(24 * 3600);
/// How many lines each share leaves: made, opened, redeemed, ended, closing, closed.
const LINES: u64 = 6;
/// How many saves are sent at once while the store is filled.
const AT_ONCE: u64 = 250;
/// How many pages of an owner's history are leafed through.
const PAGE: usize = 20;

/// How much is measured.
struct Plan {
    lines: u64,
    rounds: u64,
    creates: u64,
}

const FULL: Plan = Plan { lines: 1_000_000, rounds: 15, creates: 200 };
/// Shows that the benchmark works; its figures mean nothing.
const SMOKE: Plan = Plan { lines: 6_000, rounds: 3, creates: 20 };

#[tokio::main]
async fn main() {
    let plan = if std::env::args().any(|argument| argument == "--smoke") { SMOKE } else { FULL };
    let folder = tempfile::Builder::new().prefix("store-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    if std::env::args().any(|argument| argument == "--redis") {
        redis_rows::measure(folder.path(), plan.rounds, plan.creates * 5).await;
        return;
    }
    let shares = plan.lines / LINES;
    let start = Instant::now();
    let full = fill(&folder.path().join("full"), shares).await;
    let size = full.size().await.expect("it says its size");
    println!(
        "{} lines of {} shares in {:.0} MB, written in {:.0} s\n",
        size.events,
        size.shares,
        size.bytes as f64 / 1e6,
        start.elapsed().as_secs_f64()
    );
    read(&full, shares).await;
    let empty = SqliteStore::open(&folder.path().join("empty")).expect("a store");
    write(&plan, &full, &empty, shares).await;

    let start = Instant::now();
    let saved = backup(&folder.path().join("full"), &folder.path().join("saved"), &[]).expect("a backup");
    println!("{:<44} {:>8.0} ms   {:.0} MB", "a backup beside it", millis(start), saved.bytes as f64 / 1e6);
    let start = Instant::now();
    let verdict = verify_audit_of(&folder.path().join("full")).expect("an audit log");
    println!("{:<44} {:>8.0} ms", format!("looking through {} audit lines", verdict.lines), millis(start));
    redis_rows::measure(folder.path(), plan.rounds, plan.creates * 5).await;
}

/// Makes a store and lets so many shares live in it, evenly over the days.
async fn fill(folder: &Path, shares: u64) -> SqliteStore {
    let store = SqliteStore::open(folder).expect("a store");
    for first in (0..shares).step_by(AT_ONCE as usize) {
        let saves = (first..shares.min(first + AT_ONCE)).flat_map(|n| life(n, day_of(n, shares)));
        for saved in join_all(saves.map(|save| store.save(save))).await {
            saved.expect("it is saved");
        }
        store.append_audit(entry(first)).await.expect("it is noted");
    }
    store
}

fn entry(n: u64) -> portcullis::store::audit::AuditEntry {
    let text = |text: &str| text.to_owned();
    portcullis::store::audit::AuditEntry {
        at: at(n).wall,
        who: text("owner token"),
        from: text("192.0.2.7"),
        action: text("share.create"),
        target: n.to_string(),
        detail: String::new(),
    }
}

async fn read(store: &SqliteStore, shares: u64) {
    let page = ShareQuery { closed: Some(true), limit: PAGE, ..Default::default() };
    let far = shares.saturating_sub(500 * PAGE as u64).max(1);
    let before = Some(ShareId::from_random(far));
    let middle = at(DAYS / 2).wall;
    println!("{:<44} {:>8} {:>8}", "median and slowest of 21, ms", "median", "slowest");
    for (what, query) in [
        ("history, page 1", page.clone()),
        ("history, page 500", ShareQuery { before, ..page.clone() }),
        ("history, page 500, by outcome", ShareQuery { before, outcome: Some(Outcome::Revoked), ..page.clone() }),
        ("history, until half a year ago", ShareQuery { until: Some(middle), ..page.clone() }),
        ("history, a word of a path that many have", ShareQuery { path_contains: Some("HOLIDAY".to_owned()), ..page.clone() }),
        ("history, a word of a path that nobody has", ShareQuery { path_contains: Some("nowhere".to_owned()), ..page.clone() }),
    ] {
        measure(what, || async { store.shares(query.clone()).await.expect("a page").len() }).await;
    }
    let lines = EventQuery { limit: 100, ..Default::default() };
    for (what, query) in [
        ("events, first page", lines.clone()),
        ("events since half a year ago", EventQuery { since: Some(middle), ..lines.clone() }),
        (
            "events of a kind since half a year ago",
            EventQuery { since: Some(middle), kind: Some("share.closed".to_owned()), ..lines.clone() },
        ),
        ("events of transfers", EventQuery { kind: Some("transfer.".to_owned()), ..lines.clone() }),
        ("events of a share", EventQuery { share: before, ..lines.clone() }),
    ] {
        measure(what, || async { store.events(query.clone()).await.expect("a page").len() }).await;
    }
    let last = Day(DAYS as i64 - 1);
    for days in [30, 365] {
        let what = format!("statistics of {days} days");
        measure(&what, || async { store.stats(Day(last.0 - days + 1), last).await.expect("statistics").days.len() }).await;
    }
    measure("its size", || async { store.size().await.expect("a size").shares }).await;
    println!();
}

async fn measure<T, F: Future<Output = T>>(what: &str, ask: impl Fn() -> F) {
    let mut times = Vec::new();
    for _ in 0..21 {
        let start = Instant::now();
        std::hint::black_box(ask().await);
        times.push(millis(start));
    }
    times.sort_by(f64::total_cmp);
    println!("{what:<44} {:>8.2} {:>8.2}", times[times.len() / 2], times[times.len() - 1]);
}

/// Creates shares in both, one after the other as an owner does: each waits for the disk.
async fn write(plan: &Plan, full: &SqliteStore, empty: &SqliteStore, shares: u64) {
    let (mut ratios, mut rates) = (Vec::new(), (Vec::new(), Vec::new()));
    for round in 0..plan.rounds {
        let first = shares + round * plan.creates;
        let (mut in_full, mut in_empty) = (0.0, 0.0);
        for step in 0..2 {
            if (round + step) % 2 == 0 {
                in_full = creates_per_second(full, first, plan.creates).await;
            } else {
                in_empty = creates_per_second(empty, first, plan.creates).await;
            }
        }
        ratios.push(in_full / in_empty);
        rates.0.push(in_full);
        rates.1.push(in_empty);
    }
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    println!("shares made per second: {:.0} in it, {:.0} in an empty store, ratio {:.2}", median(rates.0), median(rates.1), median(ratios));
}

async fn creates_per_second(store: &SqliteStore, first: u64, creates: u64) -> f64 {
    let start = Instant::now();
    for n in first..first + creates {
        let (share, facts) = share(n, at(DAYS));
        store.save(Save { share: Arc::new(share), facts, at: at(DAYS) }).await.expect("it is saved");
    }
    creates as f64 / start.elapsed().as_secs_f64()
}

fn millis(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1000.0
}

fn day_of(n: u64, shares: u64) -> u64 {
    n * DAYS / shares
}

fn at(day: u64) -> Moment {
    Moment::default().plus(DAY * u32::try_from(day).unwrap_or(u32::MAX))
}

fn share(n: u64, at: Moment) -> (Share, Vec<Fact>) {
    let limits =
        Limits { max_tunnel: Duration::from_secs(3600), stall_timeout: Duration::from_secs(300), grace_period: Duration::from_secs(60) };
    let policy = Policy::new(PolicyRequest::default(), limits, at).expect("a policy");
    // Four hundred files of which most are shared again and again.
    let path = format!("Pictures/{}/Holiday {} by the sea.mp4", 2000 + n % 20, n % 400);
    let identity = FileIdentity { device: 1, inode: n, size_bytes: 5_000_000, modified_ns: 1, changed_ns: 1 };
    let file = SharedFile { path: CatalogPath::parse(&path).expect("a path"), identity };
    let link = format!("{n:032x}").parse().expect("32 hexadecimal digits are a link's id");
    Share::new(ShareId::from_random(n), link, file, policy, Some("for Ana".to_owned()), at)
}

/// Returns what is saved while a share is made, downloaded and closed.
fn life(n: u64, day: u64) -> Vec<Save> {
    let at = at(day).plus(Duration::from_secs(n % 80_000));
    let (mut share, created) = share(n, at);
    let transfer = TransferId::from_bytes(u128::from(n).to_le_bytes());
    let mut saves = vec![Save { share: Arc::new(share.clone()), facts: created, at }];
    let recipient = Recipient { address: Some(format!("203.0.{}.7", n % 150)), agent: "Mozilla/5.0".to_owned() };
    let mut facts = share.on(Event::TunnelOpened, at).facts;
    facts.extend(share.on(Event::Redeemed { link: share.link, transfer, recipient }, at).facts);
    facts.push(Fact::Ended {
        transfer,
        end: TransferEnd::Completed,
        delivered_bytes: 5_000_000,
        evidence: Some(Evidence::Acknowledged),
        given_back: false,
        duration_ms: Some(1000 + n * 7919 % 60_000),
        network: Some(format!("203.0.{}.0/24", n % 150)),
    });
    saves.push(Save { share: Arc::new(share.clone()), facts, at });
    let mut facts = share.on(Event::Revoked, at).facts;
    facts.retain(|fact| !matches!(fact, Fact::Ended { .. }));
    facts.extend(share.on(Event::TunnelClosed, at).facts);
    saves.push(Save { share: Arc::new(share), facts, at });
    saves
}
