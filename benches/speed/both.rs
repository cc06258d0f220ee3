//! nginx sends what portcullis decides, beside nginx alone and portcullis alone; and what following a hundred such downloads costs.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use portcullis::meter::Sockets;

use crate::kit::{
    Bench, Crowd, GIB, MIB, Nginx, Pull, Setup, Table, cpu_seconds, cpu_seconds_alone, download, in_turns, median, ratio, write_file,
};

const NAMES: [&str; 5] = ["nginx alone", "portcullis alone", "nginx for portcullis", "nginx slices portcullis's", "nginx slices nginx's"];
const RATE: u64 = 500_000;
/// How many downloads are followed at once.
const FOLLOWED: usize = 100;

struct Figure {
    megabytes_per_second: f64,
    cpu_per_gib: f64,
}

pub(crate) fn run(bench: &mut Bench<'_>) {
    large(bench);
    followed(bench);
}

/// One large file, each time by a redeem of its own, whose bytes are counted.
fn large(bench: &mut Bench<'_>) {
    let bytes = bench.extent.of(8 * MIB, 512 * MIB, 2 * GIB);
    let rounds = bench.extent.of(1, 5, 9);
    let root = bench.folder("nas");
    write_file(&root.join("large.bin"), bytes);
    let nginx = Nginx::start(&root);
    let alone = Setup::of(&root).start();
    let both = Setup::of(&root).in_state(&bench.folder("both")).start_behind_nginx();
    let passing = Setup::of(&root).in_state(&bench.folder("passing")).start_behind_unseen_nginx();
    let slicing = Nginx::start_slicing(&bench.folder("slicing"), nginx.address);
    // Each is redeemed when its turn comes: a transfer that does not begin for a while is over.
    let path = |which: usize| match which {
        1 => alone.transfers("large.bin", 1).remove(0),
        2 => both.transfers("large.bin", 1).remove(0),
        3 => passing.transfers("large.bin", 1).remove(0),
        _ => "/large.bin".to_owned(),
    };
    let servers = [
        (vec![nginx.pid()], nginx.address),
        (vec![alone.pid()], alone.address),
        (both.pids(), both.address),
        (passing.pids(), passing.address),
        (vec![nginx.pid(), slicing.pid()], slicing.address),
    ];
    let figures = in_turns(rounds, NAMES.len(), |which| fetch(&servers[which].0, servers[which].1, &path(which), bytes));
    let mut table = Table::new(["", "MB/s", "× nginx", "servers' CPU s/GiB", "× nginx"]);
    for (which, name) in NAMES.into_iter().enumerate() {
        table.row([
            name.to_owned(),
            format!("{:.0}", median(figures.iter().map(|round| round[which].megabytes_per_second))),
            ratio(&figures, which, 0, |figure| figure.megabytes_per_second),
            format!("{:.3}", median(figures.iter().map(|round| round[which].cpu_per_gib))),
            ratio(&figures, which, 0, |figure| figure.cpu_per_gib),
        ]);
    }
    let words = "Wanted: nginx for portcullis at least 0.95 × nginx alone. Each download is redeemed and counted; nginx for portcullis has a send buffer \
                 of 256 KiB, so that what it has sent is near to what has arrived. The last two pass on, as behind the border of a network namespace: slices of a MiB from portcullis, and \
                 the same from another nginx.";
    bench.report.tell("both", &format!("DELIVERY=nginx: one file of {} MiB, one client that copies it", bytes / MIB), &table, words);
}

fn fetch(pids: &[u32], address: SocketAddr, path: &str, bytes: u64) -> Figure {
    let cpu = || pids.iter().map(|pid| cpu_seconds(*pid)).sum::<f64>();
    let (before, began) = (cpu(), Instant::now());
    assert_eq!(download(address, path), bytes, "all of it came");
    let seconds = began.elapsed().as_secs_f64();
    Figure { megabytes_per_second: bytes as f64 / 1e6 / seconds, cpu_per_gib: (cpu() - before) / (bytes as f64 / GIB as f64) }
}

/// Returns what looking at so many connections twice a second takes of a core, in percent.
fn cost_of_looks(nginx: SocketAddr, connections: usize, times: usize) -> f64 {
    let sockets = Sockets::open().expect("the kernel tells of sockets");
    let clients: Vec<TcpStream> = (0..connections).map(|_| TcpStream::connect(nginx).expect("nginx listens")).collect();
    let peers: Vec<SocketAddr> = clients.iter().map(|client| client.local_addr().expect("it is connected")).collect();
    let (pid, began) = (std::process::id(), Instant::now());
    let before = cpu_seconds_alone(pid);
    for peer in (0..times).flat_map(|_| &peers) {
        std::hint::black_box(sockets.look(nginx, *peer).expect("the kernel answers"));
    }
    // Nothing here waits, so where the clock of CPU time is too coarse the other one says as much.
    let spent = (cpu_seconds_alone(pid) - before).max(began.elapsed().as_secs_f64().min(0.1));
    100.0 * spent / times as f64 * 2.0
}

/// Many downloads that take their time: what portcullis uses of a core while nginx sends them, and while nobody comes.
fn followed(bench: &mut Bench<'_>) {
    let clients = bench.extent.of(8, FOLLOWED, FOLLOWED);
    let time = Duration::from_millis(bench.extent.of(500, 6_000, 12_000));
    let root = bench.folder("followed");
    write_file(&root.join("film.bin"), 32 * MIB);
    let both = Setup::of(&root).start_behind_nginx();
    let paths = both.transfers("film.bin", clients);
    let of_core = |work: &mut dyn FnMut()| {
        let (before, began) = (cpu_seconds_alone(both.pid()), Instant::now());
        work();
        100.0 * (cpu_seconds_alone(both.pid()) - before) / began.elapsed().as_secs_f64()
    };
    let idle = of_core(&mut || std::thread::sleep(time));
    let mut crowd = Crowd::connect(both.address, &paths);
    crowd.pull(Pull::PerSecond(RATE), time / 4, || {});
    let busy = of_core(&mut || {
        crowd.pull(Pull::PerSecond(RATE), time, || {});
    });
    assert_eq!(crowd.unfinished(), clients, "all of them go on");
    let looks = cost_of_looks(both.address, clients, bench.extent.of(10, 500, 2000));
    let mut table = Table::new(["", "of a core"]);
    table.row([format!("{clients} looks at the kernel's counters, twice a second"), format!("{looks:.2} %")]);
    table.row(["nobody downloads".to_owned(), format!("{idle:.2} %")]);
    table.row([format!("{clients} downloads at {} kB/s, nginx sends", RATE / 1000), format!("{busy:.2} %")]);
    let words = "Wanted: at most 1 % for looking at all of them twice a second, which is the first line. The last is all that portcullis does meanwhile: it looks, \
                 tells the pages, and saves how far each has got once a second.";
    bench.report.tell("followed", &format!("DELIVERY=nginx: following {clients} downloads"), &table, words);
}
