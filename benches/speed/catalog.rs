//! A folder of 100 000 files: the first page, a search, all of it; beside nginx's list of the same folder.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::kit::{Bench, Connection, Nginx, Portcullis, Setup, Table, in_turns, median, quantile, ratio, request};

/// How long the index may take to know every file.
const INDEX_PATIENCE: Duration = Duration::from_secs(60);
const WHAT: [&str; 8] = [
    "nginx's autoindex",
    "its names alone, read by a program that does nothing else",
    "first page, the folder has just changed",
    "first page",
    "first page of the largest, the folder has just changed",
    "search",
    "all of it by pages, the folder has just changed",
    "every path (GET /api/files)",
];

pub(crate) fn run(bench: &mut Bench<'_>) {
    let files = bench.extent.of(2_000, 100_000, 100_000);
    let root = bench.folder("nas");
    let folder = root.join("big");
    fs::create_dir(&folder).expect("a folder");
    for n in 0..files {
        File::create(folder.join(name(n))).expect("a file");
    }
    let (nginx, portcullis) = (Nginx::start(&root), Setup::of(&root).start());
    wait_for_index(&portcullis, files);
    let mut ours = Connection::open(portcullis.owner);
    let mut theirs = Connection::open(nginx.address);
    let rounds = in_turns(bench.extent.of(1, 5, 9), WHAT.len(), |which| match which {
        0 => {
            let began = Instant::now();
            let (status, _) = theirs.ask(&request(nginx.address, "/big/"), false);
            assert_eq!(status, 200);
            began.elapsed()
        }
        1 => {
            touch(&folder);
            names(&folder, files)
        }
        2 => {
            touch(&folder);
            page(&portcullis, &mut ours, "")
        }
        3 => {
            page(&portcullis, &mut ours, "");
            page(&portcullis, &mut ours, "")
        }
        4 => {
            touch(&folder);
            page(&portcullis, &mut ours, "&sort=largest")
        }
        5 => timed(&portcullis, &mut ours, "/api/v1/files?query=holiday%2031337&limit=50").0,
        6 => {
            touch(&folder);
            all_pages(&portcullis, &mut ours, files)
        }
        _ => {
            let (took, all) = timed(&portcullis, &mut ours, "/api/files");
            assert!(all.as_array().is_some_and(|all| all.len() >= files), "every file is there");
            took
        }
    });
    let mut table = Table::new(["", "ms", "slowest ms", "× nginx's autoindex"]);
    for (which, what) in WHAT.into_iter().enumerate() {
        let millis = || rounds.iter().map(|round| round[which].as_secs_f64() * 1e3);
        table.row([
            what.to_owned(),
            format!("{:.1}", median(millis())),
            format!("{:.1}", quantile(millis(), 1.0)),
            ratio(&rounds, which, 0, Duration::as_secs_f64),
        ]);
    }
    let words = "Wanted: the first page and a search within 20 ms, all of it in at most 0.65 × nginx's time. \
                 What has just changed has to be read anew, and the kernel's part of that is the second row. \
                 All of it are a hundred answers of a thousand entries each; nginx gives one.";
    bench.report.tell("catalog", &format!("A folder of {files} files"), &table, words);
}

fn name(n: usize) -> String {
    format!("Holiday {n} by the sea.jpeg")
}

/// Makes the folder another one than it was.
fn touch(folder: &Path) {
    let path = folder.join("just added");
    File::create(&path).expect("a file");
    fs::remove_file(path).expect("it is there");
}

fn wait_for_index(portcullis: &Portcullis, files: usize) {
    let began = Instant::now();
    while portcullis.ask("GET", "/api/v1/files?query=x&limit=1", "")["index"]["files"].as_u64().is_none_or(|known| known < files as u64) {
        assert!(began.elapsed() < INDEX_PATIENCE, "the index gets to know every file");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn timed(portcullis: &Portcullis, connection: &mut Connection, path: &str) -> (Duration, Value) {
    let request = portcullis.request("GET", path, "");
    let began = Instant::now();
    let (status, body) = connection.ask(&request, true);
    let took = began.elapsed();
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    (took, serde_json::from_slice(&body).expect("JSON"))
}

fn page(portcullis: &Portcullis, connection: &mut Connection, how: &str) -> Duration {
    let (took, page) = timed(portcullis, connection, &format!("/api/v1/files?path=big{how}"));
    assert!(page["next_cursor"].is_string(), "there is more than a page");
    took
}

/// Reads the folder's names and looks at nothing: the least that whoever lists it has to do.
fn names(folder: &Path, files: usize) -> Duration {
    let began = Instant::now();
    let names = fs::read_dir(folder).expect("the folder is there").count();
    assert_eq!(names, files, "every file has a name");
    began.elapsed()
}

/// Leafs through the whole folder. Only the waiting counts, not what this client does with a page.
fn all_pages(portcullis: &Portcullis, connection: &mut Connection, files: usize) -> Duration {
    let (mut took, mut cursor, mut seen) = (Duration::ZERO, String::new(), 0);
    loop {
        let (this, page) = timed(portcullis, connection, &format!("/api/v1/files?path=big&limit=1000&cursor={cursor}"));
        took += this;
        seen += page["entries"].as_array().map_or(0, Vec::len);
        match page["next_cursor"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => break,
        }
    }
    assert_eq!(seen, files, "every file is on one page");
    took
}
