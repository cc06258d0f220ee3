//! The product as others meet it: each test starts the real binary on free ports and speaks HTTP to it.
//!
//! One module per promise; `harness/` holds the server, a client that hides nothing and a proxy that cuts.
//! What needs another clock (jumps, months) is not here but in the unit tests, which can turn it.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests measure and wait in real time and choose their own size by the environment"
)]

mod abuse;
mod api;
mod bodies;
mod cli;
mod compose;
mod controllers;
mod crash;
mod disk;
#[cfg(feature = "docker")]
mod docker;
mod ends;
mod failover;
mod harness;
mod hostile_heads;
mod hostile_paths;
mod hostile_tokens;
mod hung_nas;
mod idempotency;
mod kill_load;
mod kill_points;
mod lab;
mod life;
mod live;
mod load;
mod mine;
mod names;
mod nginx;
mod operate;
mod owner;
mod policies;
mod power_cut;
mod previews;
mod protocol;
mod race;
mod resume;
mod self_test;
mod slow_reader;
mod special_files;
mod swaps;
mod tls;
mod undo;
mod upgrade;
