//! Making shares that survive the power going, beside what the disk itself can flush.
//!
//! The second table adds 3 ms to every flush, for all sides: what the disks of a NAS take. This machine's own may answer
//! from a cache, and then it is the processor that is measured. What the store takes of it stands in rows of its own: the same
//! rows written by the same statements, in a program that does nothing else.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::kit::{Bench, Connection, KIB, Portcullis, Setup, Table, cpu_seconds, in_turns, median, ratio, write_file};
use crate::store_of_shares;

/// What the disk is asked to flush each time: as much as SQLite's log grows by for a small write.
const RECORD_BYTES: usize = 4096;
const CALLERS: usize = 32;
/// The first argument of a process of this program that does nothing but write shares into a store.
pub(crate) const STORE_ALONE: &str = "store-alone";
const WHAT: [&str; 5] =
    ["append 4 KiB and fdatasync", "the store alone, 1 at a time", "the store alone, 32 at once", "1 caller", "32 callers"];
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
    let words = "Wanted: 1 caller at least 0.9 × the disk's flushes, 32 callers at least 15 ×. Each create is one flush. The faster the \
                 disk the more the processor is what limits: the two rows of the store alone are what SQLite takes for the same rows, \
                 and on a disk whose flush takes a quarter of a millisecond 15 × would leave two cores 40 µs for each share.";
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
    let rounds = in_turns(bench.extent.of(1, 3, 5), WHAT.len(), |which| match which {
        0 => flushes(root, time, library.map(|_| SLOW_FLUSH)),
        1 => saves(root, 1, time, library),
        2 => saves(root, CALLERS, time, library),
        3 => creates(root, 1, time, library),
        _ => creates(root, CALLERS, time, library),
    });
    let mut table = Table::new(["", "per second", "× the disk's flushes", "CPU µs each"]);
    for (which, name) in WHAT.into_iter().enumerate() {
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

/// Writes what making a share writes for a while, in a process that has the store and nothing else.
fn saves(root: &Path, at_once: usize, time: Duration, library: Option<&Path>) -> Figure {
    let state = root.with_extension("store");
    let _ = std::fs::remove_dir_all(&state);
    let mut child = Command::new(std::env::current_exe().expect("this program has a path"));
    child.arg(STORE_ALONE).arg(&state).arg(root).args([at_once.to_string(), time.as_millis().to_string()]);
    if let Some(library) = library {
        child.env("LD_PRELOAD", library);
    }
    let output = child.output().expect("it runs");
    let told = String::from_utf8_lossy(&output.stdout);
    let figures: Vec<f64> = told.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [per_second, cpu_us] = figures[..] else { panic!("{told}{}", String::from_utf8_lossy(&output.stderr)) };
    Figure { per_second, cpu_us }
}

/// Is the process that [`saves`] starts.
pub(crate) fn store_alone(arguments: &[String]) {
    let [_, state, root, at_once, millis] = arguments else { panic!("unknown arguments: {arguments:?}") };
    let (at_once, millis) = (at_once.parse().expect("a number"), millis.parse().expect("a number"));
    let began = Instant::now();
    let before = cpu_seconds(std::process::id());
    let made = store_of_shares::save_for(Path::new(state), Path::new(root), "film.bin", at_once, Duration::from_millis(millis));
    let cpu_us = (cpu_seconds(std::process::id()) - before) * 1e6 / made.max(1) as f64;
    println!("{} {cpu_us}", made as f64 / began.elapsed().as_secs_f64());
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
