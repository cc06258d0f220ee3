//! What the kernel says of a process and of its sockets.

use std::fs;

/// The unit of CPU times in `/proc`: what the kernel shows to programs is 100 whatever it counts in itself (`man 5 proc`).
const TICKS_PER_SECOND: f64 = 100.0;
/// The unit of the memory of all TCP sockets in `/proc/net/sockstat`.
const PAGE_BYTES: u64 = 4096;

/// How much memory a process and its children hold.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    /// What no other process shares, in bytes.
    pub(crate) private: u64,
    /// All of it, in bytes.
    pub(crate) resident: u64,
}

/// Returns the CPU seconds that a process, all its threads and its children have used.
pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    family(pid).map(cpu_seconds_alone).sum()
}

/// Returns the CPU seconds that a process and all its threads have used, without its children.
pub(crate) fn cpu_seconds_alone(pid: impl std::fmt::Display) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold anything; the fields behind it are counted from the third.
    let fields: Vec<&str> = stat.rsplit_once(')').map(|(_, fields)| fields.split_whitespace().collect()).unwrap_or_default();
    let ticks = |at: usize| fields.get(at).and_then(|ticks| ticks.parse::<u64>().ok()).unwrap_or(0);
    (ticks(11) + ticks(12)) as f64 / TICKS_PER_SECOND
}

/// Returns how much memory a process and its children hold.
pub(crate) fn memory(pid: u32) -> Memory {
    let mut sum = Memory::default();
    for maps in family(pid).filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()) {
        for line in maps.lines() {
            let mut words = line.split_whitespace();
            let (Some(name), Some(Ok(kib))) = (words.next(), words.next().map(str::parse::<u64>)) else { continue };
            match name {
                // Pages of the program's own code count for nobody: all clients run the same, and the kernel drops them at will.
                "Anonymous:" => sum.private += kib * 1024,
                "Rss:" => sum.resident += kib * 1024,
                _ => {}
            }
        }
    }
    sum
}

/// Returns how much memory the kernel holds for all TCP sockets of this machine, both ends of loopback.
pub(crate) fn tcp_memory_bytes() -> u64 {
    let stat = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let tcp = stat.lines().find(|line| line.starts_with("TCP:")).unwrap_or_default();
    let pages = tcp.split_whitespace().skip_while(|word| *word != "mem").nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * PAGE_BYTES
}

fn family(pid: u32) -> impl Iterator<Item = u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children: Vec<u32> = children.split_whitespace().filter_map(|child| child.parse().ok()).collect();
    std::iter::once(pid).chain(children)
}
