//! Many at once: whatever comes, what was promised is kept, and what it costs has a bound.
//!
//! The sizes are those that are promised; `LOAD_FACTOR` makes them larger (`tests/run --long`). Rates and times are printed
//! and not judged, but where a bound was demanded, and then a generous one: a busy machine must not fail a test.

mod connections;
mod descriptors;
mod shares;
mod transfers;

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::harness::Server;

/// How many times the usual load is made.
fn factor() -> usize {
    std::env::var("LOAD_FACTOR").ok().map_or(1, |n| n.parse().expect("LOAD_FACTOR is a number"))
}

/// Lets this process have as many sockets as the system allows; returns how many.
fn descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).expect("up to the hard limit is allowed");
    limit.maximum.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// How much memory the server has for itself, in KiB: what no other process shares, and all.
fn memory_kib(server: &Server) -> (u64, u64) {
    let maps = fs::read_to_string(format!("/proc/{}/smaps_rollup", server.pid())).expect("a process of ours");
    let of = |name: &str| -> u64 {
        let line = maps.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {maps}"));
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number of KiB")
    };
    (of("Private_Clean:") + of("Private_Dirty:"), of("Rss:"))
}

/// Returns the value that all but a hundredth of them stay below.
fn p99(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() - 1) * 99 / 100]
}
