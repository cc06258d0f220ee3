//! What more transfers at once cost.

use std::net::SocketAddr;
use std::time::Duration;

use crate::kit::{Bench, Crowd, GIB, KIB, Line, MIB, Nginx, Plot, Pull, Setup, Table, cpu_seconds, median, memory, sparse_file};

/// After how long all of them together count as hung.
const PATIENCE: Duration = Duration::from_secs(120);

struct Figure {
    rate: f64,
    cpu_per_gib: f64,
    private_each: f64,
}

pub(crate) fn run(bench: &mut Bench<'_>) {
    let counts: &[usize] = bench.extent.of(&[1, 10], &[1, 10, 100, 1000], &[1, 10, 100, 1000]);
    let all = bench.extent.of(16 * MIB, GIB, 2 * GIB);
    let times = bench.extent.of(1, 1, 3);
    let root = bench.folder("nas");
    let figures: Vec<[Figure; 2]> = counts.iter().map(|count| measure(&root, *count, all, times)).collect();

    let mut table =
        Table::new(["transfers at once", "MB/s", "nginx's MB/s", "server's CPU s/GiB", "nginx's", "private memory each, KiB", "nginx's"]);
    for ([nginx, ours], count) in figures.iter().zip(counts) {
        table.row([
            count.to_string(),
            format!("{:.0}", ours.rate),
            format!("{:.0}", nginx.rate),
            format!("{:.3}", ours.cpu_per_gib),
            format!("{:.3}", nginx.cpu_per_gib),
            format!("{:.1}", ours.private_each),
            format!("{:.1}", nginx.private_each),
        ]);
    }
    let line = |name: &str, which: usize, of: fn(&Figure) -> f64| Line {
        name: name.to_owned(),
        points: counts.iter().zip(&figures).map(|(count, figure)| (*count as f64, of(&figure[which]))).collect(),
    };
    let plot = |title: &str, up: &str, of: fn(&Figure) -> f64| Plot {
        title: title.to_owned(),
        across: "transfers at once".to_owned(),
        up: up.to_owned(),
        is_log: false,
        marks: counts.iter().map(|count| (*count as f64, count.to_string())).collect(),
        lines: vec![line("portcullis", 1, of), line("nginx", 0, of)],
    };
    let plots = [
        plot("Speed of all together, by transfers at once", "MB/s", |one| one.rate),
        plot("The server's work, by transfers at once", "CPU seconds per GiB", |one| one.cpu_per_gib),
    ];
    let words = format!(
        "All together fetch {} MiB as fast as one thread of clients takes it, so each gets the less the more they are. Who gets little \
         does not count as keeping up: at most 128 KiB of theirs lie unsent in the kernel, and they are served 64 KiB at a time, where \
         nginx fills megabytes and rests. That work is the price of a count that runs ahead by 64 KiB and not by four megabytes, and of a \
         revoke that cuts at once. Each transfer's beginning and end are on disk, too: about a millisecond of work, whatever it carries.",
        all / MIB
    );
    bench.report.tell_with("growth-transfers", "More transfers at once", &table, &words, &plots);
}

fn measure(root: &std::path::Path, count: usize, all: u64, times: usize) -> [Figure; 2] {
    sparse_file(&root.join("film.bin"), all / count as u64);
    let (mut of_nginx, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..times {
        let nginx = Nginx::start(root);
        of_nginx.push(fetch(nginx.pid(), nginx.address, &vec!["/film.bin".to_owned(); count]));
        drop(nginx);
        let setup = Setup::of(root);
        let _ = std::fs::remove_dir_all(setup.state());
        let portcullis = setup.start();
        let paths: Vec<String> = (0..count).map(|_| portcullis.transfers("film.bin", 1).remove(0)).collect();
        ours.push(fetch(portcullis.pid(), portcullis.address, &paths));
    }
    [of_nginx, ours].map(|figures| {
        let of = |figure: fn(&Figure) -> f64| median(figures.iter().map(figure));
        Figure { rate: of(|one| one.rate), cpu_per_gib: of(|one| one.cpu_per_gib), private_each: of(|one| one.private_each) }
    })
}

fn fetch(pid: u32, address: SocketAddr, paths: &[String]) -> Figure {
    let (before, private_before) = (cpu_seconds(pid), memory(pid).private);
    let mut crowd = Crowd::connect(address, paths);
    let (mut most, mut turns) = (0, 0_u32);
    let (bytes, took) = crowd.pull(Pull::All, PATIENCE, || {
        // Asking the kernel costs it a walk over the pages, so not in every turn.
        if turns.is_multiple_of(64) {
            most = most.max(memory(pid).private);
        }
        turns += 1;
    });
    assert_eq!(crowd.unfinished(), 0, "all of them came to their end");
    Figure {
        rate: bytes as f64 / 1e6 / took.as_secs_f64(),
        cpu_per_gib: (cpu_seconds(pid) - before) / (bytes as f64 / GIB as f64),
        private_each: most.saturating_sub(private_before) as f64 / paths.len() as f64 / KIB as f64,
    }
}
