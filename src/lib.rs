//! Portcullis lifts one file of a NAS into the public internet for one person, and drops the gate behind them.
//!
//! The modules stand lowest first: each uses only what stands above it in this list (`tests/architecture.rs` holds it).

pub mod share;
mod causes;
#[allow(unsafe_code, reason = "the one audited file of calls for which no crate has a safe form")]
mod sys;
pub mod clock;
pub mod descriptors;
pub mod metrics;
pub mod token;
pub mod catalog;
pub mod meter;
pub mod store;
pub mod tunnel;
pub mod delivery;
pub mod controller;
pub mod self_test;
pub mod http;
pub mod telemetry;
pub mod config;
pub mod shutdown;
pub mod doctor;
pub mod app;
pub mod cli;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
