//! Ways in through a Tailscale node and its Funnel.
//!
//! * `localapi.rs`: asks tailscaled, over its socket.
//! * `status.rs`: what a node is ready for, and what is missing.

pub mod localapi;
pub mod status;
