//! Ten thousand living shares: the start, the memory, the list, and the second in which all of them end.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use portcullis::clock::{Clock, SystemClock};

use crate::kit::{Bench, Connection, KIB, Offer, Portcullis, Setup, Table, exchange, memory, quantile, write_file};
use crate::store_of_shares::fill;

/// How long after the store was begun all of them end: long enough to fill it, to start and to measure.
const LIFE: Duration = Duration::from_secs(60);
/// How many recipients try links when they end.
const RECIPIENTS: usize = 4;
/// After how long closing counts as not done.
const CLOSING_PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn run(bench: &mut Bench<'_>) {
    let count = bench.extent.of(200, 10_000, 10_000);
    let life = bench.extent.of(Duration::from_secs(10), LIFE, LIFE);
    let root = bench.folder("nas");
    write_file(&root.join("film.bin"), KIB);
    let setup = Setup::of(&root);
    // The first one warms the disk's cache and has no part in the figures.
    let starts: Vec<f64> = (0..bench.extent.of(1, 2, 3))
        .map(|_| {
            let _ = std::fs::remove_dir_all(setup.state());
            fill(setup.state(), &root, "film.bin", count, LIFE * 60);
            setup.start().started_in.as_secs_f64() * 1e3
        })
        .collect();
    let _ = std::fs::remove_dir_all(setup.state());
    let ends = fill(setup.state(), &root, "film.bin", count, life);
    let portcullis = setup.start();
    let lists = lists(&portcullis, bench.extent.of(20, 200, 300));
    let resident = memory(portcullis.pid()).resident;
    let offers = offers(&portcullis, bench.extent.of(100, 2_000, 2_000));
    let end = all_end(&portcullis, &offers, ends, count);

    let mut table = Table::new(["", "measured", "wanted"]);
    table.row(["memory (RSS)".to_owned(), format!("{:.0} MB", resident as f64 / 1e6), "< 100 MB".to_owned()]);
    table.row(["first page of the list, p99".to_owned(), format!("{:.1} ms", quantile(lists, 0.99)), "< 100 ms".to_owned()]);
    table.row(["start until it answers".to_owned(), format!("{:.0} ms", quantile(starts, 0.5)), "≤ 2000 ms".to_owned()]);
    table.row(["all ended in one second: closed after".to_owned(), format!("{:.2} s", end.closed_after), "≤ 5 s".to_owned()]);
    let late = format!("{} of {} tries", end.late, end.tries);
    table.row(["first bytes for whoever asked after the end".to_owned(), late, "0".to_owned()]);
    let words = "The list is asked for 300 times over one connection. When the end comes, recipients try link after link.";
    bench.report.tell("shares", &format!("{count} living shares"), &table, words);
}

fn now() -> f64 {
    SystemClock::starting_after(None).now().wall.0 as f64 / 1e3
}

fn lists(portcullis: &Portcullis, times: usize) -> Vec<f64> {
    let mut connection = Connection::open(portcullis.owner);
    let request = portcullis.request("GET", "/api/v1/shares?limit=100", "");
    let once = |_| {
        let began = Instant::now();
        assert_eq!(connection.ask(&request, false).0, 200);
        began.elapsed().as_secs_f64() * 1e3
    };
    (0..times).map(once).collect()
}

/// Returns the links of so many shares.
fn offers(portcullis: &Portcullis, count: usize) -> Vec<Offer> {
    let (mut offers, mut cursor) = (Vec::new(), String::new());
    while offers.len() < count {
        let page = portcullis.ask("GET", &format!("/api/v1/shares?limit=200&cursor={cursor}"), "");
        offers.extend(page["shares"].as_array().expect("a list").iter().map(Offer::of));
        match page["next_cursor"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => break,
        }
    }
    offers
}

struct End {
    closed_after: f64,
    tries: u64,
    late: u64,
}

/// Lets recipients try links from the end on, and looks when all shares are closed.
fn all_end(portcullis: &Portcullis, offers: &[Offer], ends: f64, count: usize) -> End {
    let living = || portcullis.ask("GET", "/admin/monitor/status", "")["active_tunnels_count"].as_u64().expect("a count");
    let before = living();
    assert!(before >= count as u64 && now() < ends, "{before} of {count} live when the end comes");
    std::thread::sleep(Duration::from_secs_f64((ends - now()).max(0.0)));
    let (next, late, tries, over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..RECIPIENTS {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let offer = &offers[next.fetch_add(1, Ordering::Relaxed) as usize % offers.len()];
                    tries.fetch_add(1, Ordering::Relaxed);
                    late.fetch_add(u64::from(gets_bytes(portcullis, offer)), Ordering::Relaxed);
                }
            });
        }
        while living() > 0 {
            assert!(began.elapsed() < CLOSING_PATIENCE, "all shares are closed in the end");
            std::thread::sleep(Duration::from_millis(20));
        }
        over.store(true, Ordering::Relaxed);
    });
    End { closed_after: began.elapsed().as_secs_f64(), tries: tries.into_inner(), late: late.into_inner() }
}

/// Tries a link as curl does: whoever may have the file gets it at once.
fn gets_bytes(portcullis: &Portcullis, offer: &Offer) -> bool {
    let (path, host) = (&offer.redeem, portcullis.address);
    let head = format!("GET {path}/film.bin HTTP/1.1\r\nHost: {host}\r\nUser-Agent: curl/8.5.0\r\nConnection: close\r\n\r\n");
    let answer = exchange(host, &head);
    answer.starts_with("HTTP/1.1 2") || answer.starts_with("HTTP/1.1 3")
}
