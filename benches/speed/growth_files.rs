//! What larger files cost: sparse ones, so that 100 GB need no disk.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use crate::kit::{Bench, GIB, Line, MIB, Nginx, Plot, Portcullis, Setup, Table, head_and_length, median, memory, request, sparse_file};

const MEGABYTE: u64 = 1_000_000;
const BUFFER_BYTES: usize = 256 * 1024;
/// How much of the end is asked for.
const TAIL: u64 = 1000;

struct Figure {
    size: u64,
    create_ms: f64,
    first_byte_ms: f64,
    tail_ms: f64,
    rate: f64,
    rate_of_nginx: f64,
    private: f64,
}

pub(crate) fn run(bench: &mut Bench<'_>) {
    let sizes: &[(u64, &str)] = bench.extent.of(
        &[(MEGABYTE, "1 MB"), (100 * MEGABYTE, "100 MB")],
        &[(MEGABYTE, "1 MB"), (100 * MEGABYTE, "100 MB"), (10_000 * MEGABYTE, "10 GB"), (100_000 * MEGABYTE, "100 GB")],
        &[
            (MEGABYTE, "1 MB"),
            (10 * MEGABYTE, "10 MB"),
            (100 * MEGABYTE, "100 MB"),
            (1_000 * MEGABYTE, "1 GB"),
            (10_000 * MEGABYTE, "10 GB"),
            (100_000 * MEGABYTE, "100 GB"),
        ],
    );
    let most = bench.extent.of(8 * MIB, GIB, 3 * GIB);
    let times = bench.extent.of(1, 3, 7);
    let root = bench.folder("nas");
    let figures: Vec<Figure> = sizes.iter().map(|(size, _)| measure(&root, *size, most, times)).collect();

    let mut table =
        Table::new(["size", "make a share, ms", "first byte, ms", "its last kilobyte, ms", "MB/s", "nginx's MB/s", "private memory, MB"]);
    for (one, (_, words)) in figures.iter().zip(sizes) {
        table.row([
            (*words).to_owned(),
            format!("{:.2}", one.create_ms),
            format!("{:.2}", one.first_byte_ms),
            format!("{:.2}", one.tail_ms),
            format!("{:.0}", one.rate),
            format!("{:.0}", one.rate_of_nginx),
            format!("{:.1}", one.private),
        ]);
    }
    let marks: Vec<(f64, String)> = sizes.iter().map(|(size, words)| (*size as f64, (*words).to_owned())).collect();
    let line = |name: &str, of: fn(&Figure) -> f64| Line {
        name: name.to_owned(),
        points: figures.iter().map(|one| (one.size as f64, of(one))).collect(),
    };
    let plot = |title: &str, up: &str, is_log, lines| Plot {
        title: title.to_owned(),
        across: "size of the file".to_owned(),
        up: up.to_owned(),
        is_log,
        marks: marks.clone(),
        lines,
    };
    let waiting = vec![
        line("make a share", |one| one.create_ms),
        line("first byte", |one| one.first_byte_ms),
        line("last kilobyte", |one| one.tail_ms),
    ];
    let plots = [
        plot("Waiting, by the size of the file", "milliseconds", true, waiting),
        plot(
            "Speed, by the size of the file",
            "MB/s",
            false,
            vec![line("portcullis", |one| one.rate), line("nginx", |one| one.rate_of_nginx)],
        ),
    ];
    let words = format!(
        "No more than {} MiB of each are read for the speed. Nothing but the sending depends on the length: a share pins what the \
         file system says of the file, a range is an offset, and no part of the file is ever in the program's memory. Meanwhile the \
         checksum of what was just shared is computed with what the machine has left, which is felt beside larger files. A small file is over before its connection has reached its speed, and before its last 16 KiB everything must have been acknowledged.",
        most / MIB
    );
    bench.report.tell_with("growth-files", "Larger files", &table, &words, &plots);
}

fn measure(root: &std::path::Path, size: u64, most: u64, times: usize) -> Figure {
    let path = root.join("film.bin");
    sparse_file(&path, size);
    let setup = Setup::of(root);
    let _ = std::fs::remove_dir_all(setup.state());
    let (portcullis, nginx) = (setup.start(), Nginx::start(root));
    let mut rounds = Vec::new();
    for _ in 0..times {
        let began = Instant::now();
        let offer = portcullis.share("film.bin", 1);
        let create = began.elapsed().as_secs_f64() * 1e3;
        let transfer = portcullis.redeem(&offer);
        let tail = tail(&portcullis, &transfer, size);
        let (first_byte, rate) = pull(portcullis.address, &transfer, most);
        let (_, of_nginx) = pull(nginx.address, "/film.bin", most);
        rounds.push([create, first_byte, tail, rate, of_nginx]);
        portcullis.ask("DELETE", &format!("/api/v1/shares/{}", offer.id), "");
    }
    let of = |index: usize| median(rounds.iter().map(|round| round[index]));
    let private = memory(portcullis.pid()).private as f64 / 1e6;
    Figure { size, create_ms: of(0), first_byte_ms: of(1), tail_ms: of(2), rate: of(3), rate_of_nginx: of(4), private }
}

/// Fetches the end of the file over a connection of its own; returns how long that took.
fn tail(portcullis: &Portcullis, transfer: &str, size: u64) -> f64 {
    let (host, from) = (portcullis.address, size - TAIL);
    let head = format!("GET {transfer} HTTP/1.1\r\nHost: {host}\r\nRange: bytes={from}-\r\nConnection: close\r\n\r\n");
    let began = Instant::now();
    let mut stream = TcpStream::connect(host).expect("it listens");
    stream.write_all(head.as_bytes()).expect("it reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it answers");
    assert!(answer.starts_with(b"HTTP/1.1 206"), "a part of the file");
    began.elapsed().as_secs_f64() * 1e3
}

/// Reads at most so much; returns after how many milliseconds the first bytes came, and the MB/s from then on.
fn pull(from: std::net::SocketAddr, path: &str, most: u64) -> (f64, f64) {
    let began = Instant::now();
    let mut stream = TcpStream::connect(from).expect("it listens");
    stream.write_all(request(from, path).as_bytes()).expect("it reads");
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut got = stream.read(&mut buffer).expect("it answers") as u64;
    let first = began.elapsed();
    let (status, head, length) = head_and_length(&buffer).expect("a whole head");
    assert_eq!(status, 200);
    let length = head as u64 + length.expect("a file has a length");
    while got < length.min(most) {
        let n = stream.read(&mut buffer).expect("it sends");
        assert!(n > 0, "closed early");
        got += n as u64;
    }
    (first.as_secs_f64() * 1e3, got as f64 / 1e6 / began.elapsed().as_secs_f64())
}
