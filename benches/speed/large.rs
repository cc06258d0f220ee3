//! One file of 2 GiB to one client that copies it out into a buffer of 256 KiB.

use std::net::SocketAddr;
use std::time::Instant;

use crate::kit::{Bench, GIB, MIB, Nginx, Setup, Table, cpu_seconds, download, in_turns, median, ratio, write_file};

struct Figure {
    megabytes_per_second: f64,
    cpu_per_gib: f64,
}

pub(crate) fn run(bench: &mut Bench<'_>) {
    let bytes = bench.extent.of(8 * MIB, 512 * MIB, 2 * GIB);
    let root = bench.folder("nas");
    write_file(&root.join("large.bin"), bytes);
    let (nginx, portcullis) = (Nginx::start(&root), Setup::of(&root).start());
    let transfer = portcullis.transfers("large.bin", 1).remove(0);
    let targets = [(nginx.pid(), nginx.address, "/large.bin"), (portcullis.pid(), portcullis.address, &transfer)];
    let rounds = in_turns(bench.extent.of(1, 5, 9), 2, |which| fetch(targets[which], bytes));

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
    let words = "Wanted: at least 1.0 × nginx's MB/s at no more than 1.05 × its CPU per GiB.";
    bench.report.tell("large", &format!("One file of {} MiB, one client that copies it", bytes / MIB), &table, words);
}

fn fetch((pid, address, path): (u32, SocketAddr, &str), bytes: u64) -> Figure {
    let (before, began) = (cpu_seconds(pid), Instant::now());
    assert_eq!(download(address, path), bytes, "all of it came");
    let seconds = began.elapsed().as_secs_f64();
    Figure { megabytes_per_second: bytes as f64 / 1e6 / seconds, cpu_per_gib: (cpu_seconds(pid) - before) / (bytes as f64 / GIB as f64) }
}
