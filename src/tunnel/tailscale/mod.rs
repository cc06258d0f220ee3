//! Ways in through a Tailscale node and its Funnel.
//!
//! * `localapi.rs`: asks tailscaled, over its socket. `status.rs`: what a node is ready for, and what is missing.
//! * `shape.rs`: what of a serve config is ours (pure). `editor.rs`: changes it beside others who change theirs.
//! * `session.rs`: the task that holds the one session and decides what it serves. `keeper.rs`: the process that holds it for us, and
//!   lets go when we hang. `certificate.rs`: the node's certificate, where we end TLS.
//! * `funnel.rs`: the tunnel made of these.
//! * `cli.rs`: by the program `tailscale`, where the socket cannot be shared. `docker.rs`: the Docker API.
//! * `node.rs`: a node for each share, in a container of its own.

pub mod certificate;
pub mod cli;
#[cfg(feature = "docker")]
pub mod docker;
mod editor;
pub mod funnel;
pub mod keeper;
pub mod localapi;
#[cfg(feature = "docker")]
pub mod node;
pub mod session;
pub mod shape;
pub mod status;
