//! A file of 1 KiB, fetched over 16 kept connections as often as it goes.
//!
//! Portcullis does more here than nginx does: each request is checked against its share, counted and, until the whole
//! file has arrived, decided by the controller.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::kit::{Bench, KIB, Nginx, Setup, Table, cpu_seconds, hammer, in_turns, median, ratio, write_file};

const CONNECTIONS: usize = 16;

struct Figure {
    requests_per_second: f64,
    cpu_us: f64,
}

pub(crate) fn run(bench: &mut Bench<'_>) {
    let time = Duration::from_millis(bench.extent.of(200, 1_500, 4_000));
    let root = bench.folder("nas");
    write_file(&root.join("small.bin"), KIB);
    let (nginx, portcullis) = (Nginx::start(&root), Setup::of(&root).start());
    let transfer = portcullis.transfers("small.bin", 1).remove(0);
    let targets = [(nginx.pid(), nginx.address, "/small.bin"), (portcullis.pid(), portcullis.address, &transfer)];
    let rounds = in_turns(bench.extent.of(1, 5, 9), 2, |which| fetch(targets[which], time));

    let mut table = Table::new(["", "requests/s", "× nginx", "server's CPU µs per request", "× nginx"]);
    for (which, name) in ["nginx", "portcullis"].into_iter().enumerate() {
        table.row([
            name.to_owned(),
            format!("{:.0}", median(rounds.iter().map(|round| round[which].requests_per_second))),
            ratio(&rounds, which, 0, |figure| figure.requests_per_second),
            format!("{:.1}", median(rounds.iter().map(|round| round[which].cpu_us))),
            ratio(&rounds, which, 0, |figure| figure.cpu_us),
        ]);
    }
    let title = format!("A file of 1 KiB behind a redeemed link, {CONNECTIONS} kept connections");
    bench.report.tell("small", &title, &table, "Wanted: at least 1.0 × the rate at which nginx serves the file to anybody.");
}

fn fetch((pid, address, path): (u32, SocketAddr, &str), time: Duration) -> Figure {
    let (before, began) = (cpu_seconds(pid), Instant::now());
    let requests = hammer(address, path, CONNECTIONS, time);
    let seconds = began.elapsed().as_secs_f64();
    Figure { requests_per_second: requests as f64 / seconds, cpu_us: (cpu_seconds(pid) - before) * 1e6 / requests.max(1) as f64 }
}
