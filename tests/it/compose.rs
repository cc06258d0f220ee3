//! `compose/compose.yaml` itself, brought up by Compose in an engine of its own, with stand-ins for the images that no registry gives here.
//!
//! `tests/compose/engine` runs these, within a network of their own (`tests/run compose`).

mod clean;
mod seen;
mod stack;
mod whole;
