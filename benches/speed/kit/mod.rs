//! What every benchmark needs: the servers, clients, what the kernel says of them, tables and plots.

mod client;
mod http2;
mod plot;
mod process;
mod report;
mod server;
mod slow;
mod stats;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

pub(crate) use client::{Connection, download, exchange, hammer, head_and_length, request};
pub(crate) use http2::Certificate;
pub(crate) use plot::{Line, Plot};
pub(crate) use process::{cpu_seconds, cpu_seconds_alone, memory, tcp_memory_bytes};
pub(crate) use report::{Report, Table, home};
pub(crate) use server::{Nginx, Offer, Portcullis, Setup};
pub(crate) use slow::{Crowd, Pull};
pub(crate) use stats::{in_turns, median, quantile, ratio};

pub(crate) const KIB: u64 = 1024;
pub(crate) const MIB: u64 = 1024 * KIB;
pub(crate) const GIB: u64 = 1024 * MIB;

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Extent {
    /// Shows that the benchmarks work; their figures mean nothing.
    Smoke,
    /// Few rounds: what a change did, roughly.
    Quick,
    /// What stands in the README.
    Full,
}

impl Extent {
    /// Returns the value of the extent that is measured.
    pub(crate) fn of<T>(self, smoke: T, quick: T, full: T) -> T {
        match self {
            Self::Smoke => smoke,
            Self::Quick => quick,
            Self::Full => full,
        }
    }
}

/// Where a benchmark keeps its files while it runs, and what it is to do.
pub(crate) struct Bench<'a> {
    pub(crate) extent: Extent,
    pub(crate) folder: &'a Path,
    pub(crate) report: &'a mut Report,
}

impl Bench<'_> {
    /// Makes a folder of the benchmark's own.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let path = self.folder.join(name);
        fs::create_dir_all(&path).expect("a folder is made");
        path
    }
}

/// Writes a file with real pages behind it, and leaves it in the page cache.
pub(crate) fn write_file(path: &Path, size: u64) {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let chunk: Vec<u8> = (0..MIB / 8)
        .flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .collect();
    let mut file = fs::File::create(path).expect("the file is made");
    let mut left = size;
    while left > 0 {
        let n = left.min(MIB) as usize;
        file.write_all(&chunk[..n]).expect("there is space on the disk");
        left -= n as u64;
    }
    // Written back before anything is measured, so that no flush falls into a round.
    file.sync_all().expect("the disk takes it");
}

/// Makes a file of that length that takes no room on the disk.
pub(crate) fn sparse_file(path: &Path, size: u64) {
    fs::File::create(path).and_then(|file| file.set_len(size)).expect("the file system knows sparse files");
}
