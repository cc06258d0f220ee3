//! Everything that is random in a simulation, from one seed.
//!
//! The product draws ids from the kernel, and the standard library the keys of its hash maps (and so tokio the order in
//! which `select!` looks). Both call `getrandom`, which is defined here in place of the C library's: on a thread that has
//! a seed it gives what follows from that, on every other thread what the kernel gives.

#![allow(unsafe_code, reason = "it stands in for a function of the C library")]

use std::cell::Cell;
use std::ffi::{c_uint, c_void};

thread_local! {
    static ENTROPY: Cell<Option<Chance>> = const { Cell::new(None) };
}

/// Makes what this thread calls random follow from `seed`. A map's keys are drawn once a thread: take a new one.
pub(crate) fn seed_this_thread(seed: u64) {
    ENTROPY.set(Some(Chance::new(seed)));
}

/// Stands in for the C library's.
///
/// # Safety
/// `buffer` has room for `length` bytes, as `getrandom(2)` asks.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, flags: c_uint) -> isize {
    let Some(mut chance) = ENTROPY.get() else {
        // SAFETY: the caller's promise is the kernel's condition.
        return unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) as isize };
    };
    // SAFETY: the caller gave room for so many bytes; zeros are bytes.
    let bytes = unsafe {
        buffer.cast::<u8>().write_bytes(0, length);
        std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length)
    };
    bytes.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&chance.next().to_le_bytes()[..chunk.len()]));
    ENTROPY.set(Some(chance));
    length as isize
}

/// A stream of numbers that follows from its seed (splitmix64).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_F491_4F6C_DD1D) ^ 0x9E37_79B9_7F4A_7C15)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `bound`, which is not zero.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Returns a number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// Says yes in so many of a thousand cases.
    pub(crate) fn permille(&mut self, yes: u64) -> bool {
        self.below(1000) < yes
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        (!from.is_empty()).then(|| &from[self.below(from.len() as u64) as usize])
    }
}
