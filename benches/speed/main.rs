//! How fast it is, beside nginx on the same machine, in the same minutes; and how each cost grows.
//!
//! `cargo bench --bench speed [-- --quick | --smoke] [name…]` prints a table for each benchmark; there is no pass and no
//! fail. A full run writes the tables and the plots into `benches/README.md`. Whatever is compared is measured in rounds
//! that alternate who goes first, and what counts is the median of the rounds' own ratios: a busy neighbour disturbs both
//! sides of a round alike. Servers and clients share this machine's cores, over loopback, out of the page cache.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

mod both;
mod catalog;
mod create;
mod follow;
mod growth_files;
mod growth_shares;
mod growth_transfers;
mod kit;
mod large;
mod lead;
mod many;
mod shares;
mod slow;
mod small;
mod store_of_shares;
mod tls;
mod tunnel;

use std::process::Command;

use kit::{Bench, Extent, Nginx, Report};

/// Measures something and tells it.
type Run = fn(&mut Bench<'_>);

/// Every benchmark, in the order of the README.
const BENCHES: &[(&str, Run)] = &[
    ("large", large::run),
    ("many", many::run),
    ("slow", slow::run),
    ("small", small::run),
    ("lead", lead::run),
    ("both", both::run),
    ("follow", follow::run),
    ("tls", tls::run),
    ("tunnel", tunnel::run),
    ("create", create::run),
    ("catalog", catalog::run),
    ("shares", shares::run),
    ("growth-shares", growth_shares::run),
    ("growth-files", growth_files::run),
    ("growth-transfers", growth_transfers::run),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if arguments.first().is_some_and(|first| first == create::STORE_ALONE) {
        return create::store_alone(&arguments);
    }
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let extent = match (has("--smoke"), has("--quick")) {
        (true, _) => Extent::Smoke,
        (_, true) => Extent::Quick,
        _ => Extent::Full,
    };
    let wanted: Vec<&str> = arguments.iter().map(String::as_str).filter(|argument| !argument.starts_with("--")).collect();
    if let Some(unknown) = wanted.iter().find(|name| BENCHES.iter().all(|(known, _)| known != *name)) {
        let names: Vec<&str> = BENCHES.iter().map(|(name, _)| *name).collect();
        eprintln!("there is no benchmark {unknown}; there are {}", names.join(", "));
        std::process::exit(2);
    }
    if Nginx::program().is_none() {
        println!("nginx is not installed (apt-get install nginx-light): there is nothing to compare with");
        return;
    }
    raise_descriptor_limit();
    let folder = tempfile::Builder::new().prefix("speed-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let mut report = Report::new((extent == Extent::Full).then(|| kit::home().to_owned()));
    report.section("machine", &machine());
    for (name, run) in BENCHES.iter().filter(|(name, _)| wanted.is_empty() || wanted.contains(name)) {
        let folder = folder.path().join(name);
        std::fs::create_dir(&folder).expect("a folder");
        run(&mut Bench { extent, folder: &folder, report: &mut report });
        // What it leaves may be gigabytes; the next one needs the page cache.
        let _ = std::fs::remove_dir_all(&folder);
    }
}

/// Says what was measured, and where.
fn machine() -> String {
    let version = Nginx::program().and_then(|program| Command::new(program).arg("-v").output().ok());
    let version = version.map(|output| String::from_utf8_lossy(&output.stderr).trim().replace("nginx version: ", "")).unwrap_or_default();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let build = if cfg!(debug_assertions) { "test profile: figures mean nothing" } else { "release" };
    format!(
        "{cores} cores, Linux {}, {version}, portcullis {} ({build}). Load when it began: {}.",
        kernel.trim(),
        env!("CARGO_PKG_VERSION"),
        load.split(' ').next().unwrap_or_default()
    )
}

/// Takes as many descriptors as there may be: a thousand clients are here.
fn raise_descriptor_limit() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised);
}
