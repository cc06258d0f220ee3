//! Fifty clients at once, each of whom downloads 64 MiB.

use std::net::SocketAddr;
use std::time::Instant;

use crate::kit::{Bench, GIB, MIB, Nginx, Setup, Table, cpu_seconds, download, in_turns, median, ratio, write_file};

struct Figure {
    megabytes_per_second: f64,
    cpu_per_gib: f64,
}

pub(crate) fn run(bench: &mut Bench<'_>) {
    let clients = bench.extent.of(4, 50, 50);
    let bytes = bench.extent.of(MIB, 64 * MIB, 64 * MIB);
    let root = bench.folder("nas");
    write_file(&root.join("film.bin"), bytes);
    let (nginx, portcullis) = (Nginx::start(&root), Setup::of(&root).start());
    let of_nginx = vec!["/film.bin".to_owned(); clients];
    // A share each, as fifty recipients of fifty links have.
    let ours: Vec<String> = (0..clients).map(|_| portcullis.transfers("film.bin", 1).remove(0)).collect();
    let targets = [(nginx.pid(), nginx.address, &of_nginx), (portcullis.pid(), portcullis.address, &ours)];
    let rounds = in_turns(bench.extent.of(1, 3, 7), 2, |which| fetch(targets[which], bytes));

    let mut table = Table::new(["", "MB/s", "× nginx", "server's CPU s/GiB", "× nginx"]);
    for (which, name) in ["nginx", "portcullis"].into_iter().enumerate() {
        table.row([
            name.to_owned(),
            format!("{:.0}", median(rounds.iter().map(|round| round[which].megabytes_per_second))),
            ratio(&rounds, which, 0, |figure| figure.megabytes_per_second),
            format!("{:.3}", median(rounds.iter().map(|round| round[which].cpu_per_gib))),
            ratio(&rounds, which, 0, |figure| figure.cpu_per_gib),
        ]);
    }
    let title = format!("{clients} clients at once, {} MiB each", bytes / MIB);
    bench.report.tell("many", &title, &table, "Wanted: at least 1.0 × nginx's MB/s.");
}

fn fetch((pid, address, paths): (u32, SocketAddr, &Vec<String>), bytes: u64) -> Figure {
    let (before, began) = (cpu_seconds(pid), Instant::now());
    std::thread::scope(|scope| {
        for path in paths {
            scope.spawn(move || assert_eq!(download(address, path), bytes, "all of it came"));
        }
    });
    let (seconds, all) = (began.elapsed().as_secs_f64(), bytes * paths.len() as u64);
    Figure { megabytes_per_second: all as f64 / 1e6 / seconds, cpu_per_gib: (cpu_seconds(pid) - before) / (all as f64 / GIB as f64) }
}
