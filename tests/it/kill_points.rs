//! `kill -9` at each single call by which the server changes its state folder: before it, after it, and in the middle of a
//! write. What was answered until then holds when the server is back, and what was not is there wholly or not at all.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::harness::{Call, Faults, SOON, Server, Setup, poll, put};
use crate::life::{END, FILLER, FILM, FILM_BYTES, Life, Walk};

/// How many kills there are besides those at each kind of call unless `KILL_POINTS` says otherwise; `tests/run --long` says all.
const KILLS: usize = 24;

fn kills() -> usize {
    std::env::var("KILL_POINTS").ok().map_or(KILLS, |n| n.parse().expect("KILL_POINTS is a number"))
}

/// How much of the write-ahead log there is before a walk that passes the checkpoint: SQLite writes it back at 1000 pages,
/// and the walk adds more than is missing.
const LOG_PAGES: u64 = 850;
/// A page of the write-ahead log with its head.
const LOG_PAGE_BYTES: u64 = 4096 + 24;

#[test]
fn a_kill_at_any_call_of_a_first_life_loses_nothing() {
    kill_everywhere(&Beginning(None));
}

#[test]
fn a_kill_at_any_call_around_a_checkpoint_loses_nothing() {
    let (mut server, _) = Beginning(None).server();
    server.start();
    let body = json!({ "path": FILM, "note": FILLER, "message": "m".repeat(1000) });
    let log = server.state.join("portcullis.db-wal");
    while std::fs::metadata(&log).is_ok_and(|log| log.len() < LOG_PAGES * LOG_PAGE_BYTES) {
        server.share_with(&body);
    }
    server.kill();
    kill_everywhere(&Beginning(Some(server.state.clone())));
}

fn kill_everywhere(beginning: &Beginning) {
    if let Ok(plan) = std::env::var("KILL_AT") {
        assert!(beginning.walk(&plan), "it was not killed by {plan}");
        return;
    }
    let plans = plans(&beginning.calls());
    let mut died = 0;
    for plan in &plans {
        match catch_unwind(AssertUnwindSafe(|| beginning.walk(plan))) {
            Ok(has_died) => died += usize::from(has_died),
            Err(panic) => {
                eprintln!("again: KILL_AT='{plan}' cargo test --test it {}", std::thread::current().name().unwrap_or_default());
                resume_unwind(panic);
            }
        }
    }
    // How many calls there are differs a little from walk to walk (saves that come together are one write): the last may not come.
    assert!(died * 10 >= plans.len() * 8, "of {} kills only {died} came", plans.len());
}

/// Chooses where to kill, and how: at the first call of each kind on each file (a write torn), and evenly at the others.
fn plans(calls: &[Call]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let step = (calls.len() / kills()).max(1);
    let of = |(index, call): (usize, &Call)| {
        let number = index + 1;
        let is_new = seen.insert((call.op, call.path.clone()));
        match (is_new, call.op, number / step % 3) {
            (true, 'w', _) => Some(format!("tear {number}")),
            (true, _, _) => Some(format!("kill-after {number}")),
            (false, _, way) if number % step == 0 => Some(format!("{} {number}", ["kill-before", "tear", "kill-after"][way])),
            (false, _, _) => None,
        }
    };
    calls.iter().enumerate().filter_map(of).collect()
}

/// How a walk begins: with an empty folder, or with a copy of one.
struct Beginning(Option<PathBuf>);

impl Beginning {
    fn server(&self) -> (Server, Vec<u8>) {
        let server = Setup::new().build(|_, state| {
            if let Some(from) = &self.0 {
                copy_folder(from, state);
            }
        });
        let film = put(&server, FILM, FILM_BYTES);
        (server, film)
    }

    /// Returns the calls that a whole life makes.
    fn calls(&self) -> Vec<Call> {
        let (mut server, _) = self.server();
        let faults = Faults::before(&mut server, "");
        server.start();
        let mut life = Life::default();
        Walk { server: &server, life: &mut life, now: &|| 0 }.all().expect("nothing kills it");
        server.stop();
        faults.calls()
    }

    /// Walks through a life on a disk that dies by `plan`; starts again on a whole one and checks. Returns whether it died.
    fn walk(&self, plan: &str) -> bool {
        let (mut server, film) = self.server();
        Faults::before(&mut server, plan);
        let mut life = Life::default();
        let mut status = server.try_start();
        if status.is_none() {
            let walked = Walk { server: &server, life: &mut life, now: &|| 0 }.all();
            if walked.is_some() {
                server.ask_to_stop();
            }
            poll(SOON, "it ends", || {
                status = server.ended();
                status.is_some()
            });
        }
        let has_died = status.is_some_and(|status| status.signal() == Some(9));
        Faults::remove(&mut server);
        server.start();
        life.check(&server, &film, END);
        has_died
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("the folder is made");
    for entry in std::fs::read_dir(from).expect("the folder can be listed") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            std::fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("the file is copied");
        }
    }
}
