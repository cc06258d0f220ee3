//! Making shares that survive the power going, beside what the disk itself can flush.
//!
//! The second table adds 3 ms to every flush, for both sides: what the disks of a NAS take. This machine's own may answer
//! from a cache, and then it is the processor that is measured.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::kit::{Bench, Connection, KIB, Portcullis, Setup, Table, cpu_seconds, in_turns, median, ratio, write_file};

/// What the disk is asked to flush each time: as much as SQLite's log grows by for a small write.
const RECORD_BYTES: usize = 4096;
const CALLERS: usize = 32;
/// How long a slow disk takes to flush, beyond what this one takes.
const SLOW_FLUSH: Duration = Duration::from_millis(3);
/// Waits before every flush. Loaded into the server, for which it is the disk that waits.
const SLOW_DISK: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
static int slowly(const char *name, int fd) {
    struct timespec wait = { 0, NANOSECONDS };
    nanosleep(&wait, 0);
    return ((int (*)(int))dlsym(RTLD_NEXT, name))(fd);
}
int fsync(int fd) { return slowly("fsync", fd); }
int fdatasync(int fd) { return slowly("fdatasync", fd); }
"#;

struct Figure {
    per_second: f64,
    cpu_us: f64,
}

pub(crate) fn run(bench: &mut Bench<'_>) {
    let root = bench.folder("nas");
    write_file(&root.join("film.bin"), KIB);
    let words = "Wanted: 1 caller at least 0.9 × the disk's flushes, 32 callers at least 15 ×.";
    let table = compare(bench, &root, None);
    bench.report.tell("create", "Shares made one after the other, each on disk before it is answered", &table, words);
    let Some(library) = slow_disk(bench.folder) else {
        println!("no C compiler (cc): the slow disk is left out\n");
        return;
    };
    let table = compare(bench, &root, Some(&library));
    bench.report.tell("create-slow-disk", "The same on a disk that takes 3 ms longer to flush", &table, words);
}

fn compare(bench: &Bench<'_>, root: &Path, library: Option<&Path>) -> Table {
    let time = Duration::from_millis(bench.extent.of(200, 1_500, 2_500));
    let rounds = in_turns(bench.extent.of(1, 3, 5), 3, |which| match which {
        0 => flushes(root, time, library.map(|_| SLOW_FLUSH)),
        1 => creates(root, 1, time, library),
        _ => creates(root, CALLERS, time, library),
    });
    let mut table = Table::new(["", "per second", "× the disk's flushes", "server's CPU µs each"]);
    for (which, name) in ["append 4 KiB and fdatasync", "1 caller", "32 callers"].into_iter().enumerate() {
        table.row([
            name.to_owned(),
            format!("{:.0}", median(rounds.iter().map(|round| round[which].per_second))),
            ratio(&rounds, which, 0, |figure| figure.per_second),
            match which {
                0 => "-".to_owned(),
                _ => format!("{:.0}", median(rounds.iter().map(|round| round[which].cpu_us))),
            },
        ]);
    }
    table
}

/// Compiles what makes the disk slow, where there is a compiler.
fn slow_disk(folder: &Path) -> Option<PathBuf> {
    let (source, library) = (folder.join("slow-disk.c"), folder.join("slow-disk.so"));
    std::fs::write(&source, SLOW_DISK.replace("NANOSECONDS", &SLOW_FLUSH.as_nanos().to_string())).expect("a file");
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl").status();
    compiled.is_ok_and(|status| status.success()).then_some(library)
}

/// Appends and flushes for a while.
fn flushes(root: &Path, time: Duration, wait: Option<Duration>) -> Figure {
    let path = root.with_extension("flushes");
    let mut file = File::create(&path).expect("a file");
    let (began, mut count) = (Instant::now(), 0_u32);
    while began.elapsed() < time {
        file.write_all(&[7; RECORD_BYTES]).expect("there is space");
        if let Some(wait) = wait {
            std::thread::sleep(wait);
        }
        file.sync_data().expect("the disk takes it");
        count += 1;
    }
    let per_second = f64::from(count) / began.elapsed().as_secs_f64();
    std::fs::remove_file(path).expect("it is there");
    Figure { per_second, cpu_us: 0.0 }
}

/// Makes shares for a while, in a store of its own: so many may live at once.
fn creates(root: &Path, callers: usize, time: Duration, library: Option<&Path>) -> Figure {
    let mut setup = Setup::of(root);
    let _ = std::fs::remove_dir_all(setup.state());
    if let Some(library) = library {
        setup = setup.set("LD_PRELOAD", library.display());
    }
    let portcullis = setup.start();
    let (before, count) = (cpu_seconds(portcullis.pid()), AtomicU64::new(0));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..callers {
            scope.spawn(|| count.fetch_add(create_for(&portcullis, began, time), Ordering::Relaxed));
        }
    });
    let (seconds, made) = (began.elapsed().as_secs_f64(), count.into_inner());
    Figure { per_second: made as f64 / seconds, cpu_us: (cpu_seconds(portcullis.pid()) - before) * 1e6 / made.max(1) as f64 }
}

fn create_for(portcullis: &Portcullis, began: Instant, time: Duration) -> u64 {
    let request = portcullis.request("POST", "/api/v1/shares", r#"{"path":"film.bin"}"#);
    let mut connection = Connection::open(portcullis.owner);
    let mut made = 0;
    while began.elapsed() < time {
        let (status, body) = connection.ask(&request, true);
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&body));
        made += 1;
    }
    made
}
