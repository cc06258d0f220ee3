//! TLS and HTTP/2: one large file to curl, and many who are slow.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::kit::{
    Bench, Certificate, GIB, KIB, MIB, Nginx, Setup, Table, cpu_seconds, in_turns, median, memory, ratio, tcp_memory_bytes, write_file,
};

const RATE: u64 = 1_000_000;
/// How long the clients settle before anything is measured.
const SETTLE: Duration = Duration::from_secs(3);
/// How often the kernel's memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

struct Figure {
    megabytes_per_second: f64,
    cpu_per_gib: f64,
}

struct Cost {
    megabytes_per_second: f64,
    private_bytes: f64,
    kernel_bytes: f64,
}

pub(crate) fn run(bench: &mut Bench<'_>) {
    let certificate = Certificate::new(bench.folder);
    large(bench, &certificate);
    slow(bench, &certificate);
}

fn with_tls(root: &std::path::Path, certificate: &Certificate) -> Setup {
    Setup::of(root).set("TLS_CERT", certificate.cert.display()).set("TLS_KEY", certificate.key.display())
}

fn large(bench: &mut Bench<'_>, certificate: &Certificate) {
    let bytes = bench.extent.of(8 * MIB, 512 * MIB, GIB);
    let root = bench.folder("nas");
    write_file(&root.join("large.bin"), bytes);
    let (nginx, portcullis) = (Nginx::start_with_tls(&root, certificate), with_tls(&root, certificate).start());
    let transfer = portcullis.transfers_over(certificate, "large.bin", 1).remove(0);
    let targets = [(nginx.pid(), nginx.address, "/large.bin"), (portcullis.pid(), portcullis.address, &transfer)];
    let rounds = in_turns(bench.extent.of(1, 5, 9), 2, |which| fetch(targets[which], certificate, bytes));
    let mut table = Table::new(["", "MB/s", "× nginx", "server's CPU s/GiB", "× nginx"]);
    for (which, name) in ["nginx, http2", "portcullis"].into_iter().enumerate() {
        table.row([
            name.to_owned(),
            format!("{:.0}", median(rounds.iter().map(|round| round[which].megabytes_per_second))),
            ratio(&rounds, which, 0, |figure| figure.megabytes_per_second),
            format!("{:.3}", median(rounds.iter().map(|round| round[which].cpu_per_gib))),
            ratio(&rounds, which, 0, |figure| figure.cpu_per_gib),
        ]);
    }
    let words = "Wanted: at least 1.0 × nginx's MB/s. curl is the client and opens every record on the same cores. Portcullis asks curl after every 64 KiB whether \
                 it has them, and lets no more than 1 MiB be unanswered.";
    bench.report.tell("tls", &format!("One file of {} MiB over TLS and HTTP/2, to curl", bytes / MIB), &table, words);
}

fn fetch((pid, address, path): (u32, SocketAddr, &str), certificate: &Certificate, bytes: u64) -> Figure {
    let (before, began) = (cpu_seconds(pid), Instant::now());
    let url = format!("https://localhost:{}{path}", address.port());
    let output = Command::new("curl")
        .args(["-sS", "--http2", "-A", "bench", "-o", "/dev/null", "-w", "%{size_download} %{http_version}", "--cacert"])
        .arg(&certificate.cert)
        .arg(&url)
        .stdin(Stdio::null())
        .output()
        .expect("curl is installed");
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{bytes} 2"), "{}", String::from_utf8_lossy(&output.stderr));
    let seconds = began.elapsed().as_secs_f64();
    Figure { megabytes_per_second: bytes as f64 / 1e6 / seconds, cpu_per_gib: (cpu_seconds(pid) - before) / (bytes as f64 / GIB as f64) }
}

fn slow(bench: &mut Bench<'_>, certificate: &Certificate) {
    let clients = bench.extent.of(8, 100, 200);
    let time = Duration::from_millis(bench.extent.of(500, 5_000, 8_000));
    let root = bench.folder("slow");
    write_file(&root.join("film.bin"), bench.extent.of(16 * MIB, 64 * MIB, 64 * MIB));
    let rounds = in_turns(bench.extent.of(1, 1, 3), 2, |which| {
        // A server of its own for each round: what memory it takes counts from its start.
        if which == 0 {
            let nginx = Nginx::start_with_tls(&root, certificate);
            pull(nginx.pid(), nginx.address, certificate, &vec!["/film.bin".to_owned(); clients], time)
        } else {
            let portcullis = with_tls(&root, certificate).start();
            let paths: Vec<String> = (0..clients).map(|_| portcullis.transfers_over(certificate, "film.bin", 1).remove(0)).collect();
            pull(portcullis.pid(), portcullis.address, certificate, &paths, time)
        }
    });
    let mut table = Table::new(["", "MB/s", "private memory per client", "kernel buffers per client", "both", "× nginx"]);
    for (which, name) in ["nginx, http2", "portcullis"].into_iter().enumerate() {
        let of = |figure: fn(&Cost) -> f64| median(rounds.iter().map(|round| figure(&round[which])));
        let each = |figure: fn(&Cost) -> f64| format!("{:.0} KiB", of(figure) / clients as f64 / KIB as f64);
        table.row([
            name.to_owned(),
            format!("{:.1}", of(|figure| figure.megabytes_per_second)),
            each(|figure| figure.private_bytes),
            each(|figure| figure.kernel_bytes),
            each(|figure| figure.private_bytes + figure.kernel_bytes),
            ratio(&rounds, which, 0, |figure| figure.private_bytes + figure.kernel_bytes),
        ]);
    }
    let words = "Wanted: at most 0.1 × nginx's memory. Private memory is the server's, without file and code; kernel buffers are those of both ends.";
    bench.report.tell("tls-slow", &format!("{clients} clients at 1 MB/s each over TLS and HTTP/2"), &table, words);
}

fn pull(pid: u32, address: SocketAddr, certificate: &Certificate, paths: &[String], time: Duration) -> Cost {
    let (own_before, kernel_before) = (memory(pid).private, tcp_memory_bytes());
    let began = Instant::now();
    let until = began + SETTLE.min(time) + time;
    let mut kernel = Vec::new();
    let got: u64 = std::thread::scope(|scope| {
        let clients: Vec<_> = paths.iter().map(|path| scope.spawn(move || certificate.pull(address, path, Some(RATE), until))).collect();
        std::thread::sleep(SETTLE.min(time));
        while Instant::now() + LOOK_EVERY < until {
            kernel.push((memory(pid).private.saturating_sub(own_before), tcp_memory_bytes().saturating_sub(kernel_before)));
            std::thread::sleep(LOOK_EVERY);
        }
        clients.into_iter().map(|client| client.join().expect("a client")).sum()
    });
    Cost {
        megabytes_per_second: got as f64 / 1e6 / began.elapsed().as_secs_f64(),
        private_bytes: median(kernel.iter().map(|(private, _)| *private as f64)),
        kernel_bytes: median(kernel.iter().map(|(_, kernel)| *kernel as f64)),
    }
}
