//! Two hundred clients that take 1 MB/s each: what they cost in memory, in the server and in the kernel.

use std::net::SocketAddr;
use std::time::Duration;

use crate::kit::{
    Bench, Crowd, KIB, MIB, Nginx, Pull, Setup, Table, cpu_seconds, in_turns, median, memory, ratio, tcp_memory_bytes, write_file,
};

const RATE: u64 = 1_000_000;
/// How long the clients settle before anything is measured: what was buffered at first has gone by then.
const SETTLE: Duration = Duration::from_secs(3);

struct Figure {
    megabytes_per_second: f64,
    private_bytes: f64,
    kernel_bytes: f64,
    cpu_seconds: f64,
}

pub(crate) fn run(bench: &mut Bench<'_>) {
    let clients = bench.extent.of(8, 200, 200);
    let time = Duration::from_millis(bench.extent.of(500, 5_000, 8_000));
    let root = bench.folder("nas");
    write_file(&root.join("film.bin"), bench.extent.of(16 * MIB, 64 * MIB, 64 * MIB));
    let rounds = in_turns(bench.extent.of(1, 1, 3), 2, |which| {
        // A server of its own for each round: what memory it takes counts from its start.
        if which == 0 {
            let nginx = Nginx::start(&root);
            pull(nginx.pid(), nginx.address, &vec!["/film.bin".to_owned(); clients], time)
        } else {
            let portcullis = Setup::of(&root).start();
            let paths: Vec<String> = (0..clients).map(|_| portcullis.transfers("film.bin", 1).remove(0)).collect();
            pull(portcullis.pid(), portcullis.address, &paths, time)
        }
    });
    let mut table =
        Table::new(["", "MB/s", "× nginx", "private memory per client", "kernel buffers per client", "× nginx", "server's CPU s"]);
    for (which, name) in ["nginx", "portcullis"].into_iter().enumerate() {
        let of = |figure: fn(&Figure) -> f64| median(rounds.iter().map(|round| figure(&round[which])));
        table.row([
            name.to_owned(),
            format!("{:.1}", of(|figure| figure.megabytes_per_second)),
            ratio(&rounds, which, 0, |figure| figure.megabytes_per_second),
            format!("{:.1} KiB", of(|figure| figure.private_bytes) / clients as f64 / KIB as f64),
            format!("{:.0} KiB", of(|figure| figure.kernel_bytes) / clients as f64 / KIB as f64),
            ratio(&rounds, which, 0, |figure| figure.kernel_bytes),
            format!("{:.2}", of(|figure| figure.cpu_seconds)),
        ]);
    }
    let words = "Wanted: at most 8 KiB of private memory each, kernel buffers of at most 0.1 × nginx's at 0.95 × its speed or more. \
                 Private memory is what is neither file nor code; kernel buffers are those of both ends.";
    bench.report.tell("slow", &format!("{clients} clients at 1 MB/s each"), &table, words);
}

fn pull(pid: u32, address: SocketAddr, paths: &[String], time: Duration) -> Figure {
    let (own_before, kernel_before) = (memory(pid).private, tcp_memory_bytes());
    let mut crowd = Crowd::connect(address, paths);
    let settle = SETTLE.min(time);
    crowd.pull(Pull::PerSecond(RATE), settle, || {});
    let before = cpu_seconds(pid);
    let mut kernel = Vec::new();
    let (bytes, took) = crowd.pull(Pull::PerSecond(RATE), time, || kernel.push(tcp_memory_bytes().saturating_sub(kernel_before) as f64));
    Figure {
        megabytes_per_second: bytes as f64 / 1e6 / took.as_secs_f64(),
        private_bytes: memory(pid).private.saturating_sub(own_before) as f64,
        kernel_bytes: median(kernel),
        cpu_seconds: cpu_seconds(pid) - before,
    }
}
