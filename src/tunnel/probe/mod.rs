//! A look at a share from outside: as a stranger would come, under its public name.
//!
//! What tailscaled serves says nothing of what lies before it: the name in the public DNS, Funnel's own servers, the certificate. So
//! the name is asked of public resolvers over HTTPS, by their addresses: the system's resolver may be MagicDNS, which leads the
//! node's own tailnet past Funnel. Then the public address is visited as any client visits it, and asked for a [`Canary`]. Each step
//! has its own patience, and its own [`Obstacle`].
//!
//! * `resolve.rs`: the name in the public DNS. `visit.rs`: one connection, TLS and one question.
//! * `guest.rs`: goes the whole way of a recipient, from the page to the bytes, for a self-test.

pub mod guest;
mod resolve;
mod visit;

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use http::Uri;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::time::timeout;

pub use self::resolve::Resolver;
use self::visit::{Question, Tls};
use super::canary::Canary;
use crate::causes::Causes;
use crate::share::{Obstacle, Reach, Unprobed};

/// How long a connection may take: a relay on the other side of the world takes a third of a second, a lost packet a second more.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What an HTTPS URL without a port means.
const HTTPS: u16 = 443;

/// Whose answer counts.
#[derive(Debug, Clone, Copy)]
pub enum Counts<'a> {
    /// Ours alone: an open share is reached where a visitor gets to this program.
    Ours(&'a Canary),
    /// Anybody's: nobody may answer for a closed share, whoever they are.
    Anybodys,
}

/// Looks from outside.
pub trait Look: Send + Sync + 'static {
    /// Asks for a canary at its URL.
    fn look<'a>(&'a self, url: &'a str, counts: Counts<'a>) -> BoxFuture<'a, Reach>;
}

/// How the public address is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// Any of these is asked.
    PublicDns(Vec<Resolver>),
    /// It is this one: a tailnet may have an ingress of its own.
    Address(SocketAddr),
}

/// Those that are asked unless others are named: of two houses, so that no one of them decides what is so.
const RESOLVERS: [&str; 2] = ["https://1.1.1.1/dns-query", "https://8.8.8.8/resolve"];

impl Default for By {
    fn default() -> Self {
        Self::PublicDns(RESOLVERS.iter().map(|resolver| resolver.parse().expect("each is an address and a path")).collect())
    }
}

/// Looks from outside, from this machine.
#[derive(Debug)]
pub struct Probe {
    by: By,
    /// Made at the first look: this machine's roots are read from its disk.
    tls: OnceCell<Tls>,
}

impl Probe {
    /// Makes one; nothing is asked and nothing is read yet.
    pub fn new(by: By) -> Self {
        Self { by, tls: OnceCell::new() }
    }

    async fn find(&self, url: &str, counts: Counts<'_>) -> Result<(), Miss> {
        let uri = Uri::from_str(url).map_err(|_| Obstacle::NameUnknown)?;
        let (Some(host), Some(authority)) = (uri.host(), uri.authority()) else { return Err(Obstacle::NameUnknown.into()) };
        let port = uri.port_u16().unwrap_or(HTTPS);
        let tls = self.tls.get_or_init(Tls::of_this_machine).await;
        let addresses = match &self.by {
            By::Address(address) => vec![*address],
            By::PublicDns(resolvers) => {
                let known = resolve::addresses(tls, resolvers, host).await.ok_or(Unprobed::NoWayOut)?;
                known.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()
            }
        };
        if addresses.is_empty() {
            return Err(Obstacle::NameUnknown.into());
        }
        let stream = connect(&addresses).await.ok_or(Obstacle::NoConnection)?;
        let question = Question { name: host, authority: authority.as_str(), path: uri.path(), accept: "*/*" };
        let (status, _) = tls.ask(stream, &question).await?;
        let is_heard = match counts {
            // Whoever answers everything has not let it through to us.
            Counts::Ours(canary) => canary.was_answered(),
            Counts::Anybodys => true,
        };
        if status == http::StatusCode::NO_CONTENT && is_heard { Ok(()) } else { Err(Obstacle::OtherAnswer.into()) }
    }
}

impl Look for Probe {
    fn look<'a>(&'a self, url: &'a str, counts: Counts<'a>) -> BoxFuture<'a, Reach> {
        async move {
            match self.find(url, counts).await {
                Ok(()) => Reach::Yes,
                Err(Miss::Obstacle(obstacle)) => Reach::No(obstacle),
                Err(Miss::Unprobed(why)) => Reach::NotProbed(why),
            }
        }
        .boxed()
    }
}

/// Why the canary was not answered.
#[derive(Debug)]
enum Miss {
    Obstacle(Obstacle),
    Unprobed(Unprobed),
}

impl From<Obstacle> for Miss {
    fn from(obstacle: Obstacle) -> Self {
        Self::Obstacle(obstacle)
    }
}

impl From<Unprobed> for Miss {
    fn from(why: Unprobed) -> Self {
        Self::Unprobed(why)
    }
}

/// Connects to the first address that takes a connection.
async fn connect(addresses: &[SocketAddr]) -> Option<TcpStream> {
    connect_within(addresses, CONNECT_TIMEOUT).await
}

async fn connect_within(addresses: &[SocketAddr], patience: Duration) -> Option<TcpStream> {
    for address in addresses {
        match timeout(patience, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(error)) => tracing::debug!(%address, error = %Causes(&error), "No connection to {address}"),
            Err(_) => tracing::debug!(%address, "No connection to {address} in time"),
        }
    }
    None
}

#[cfg(test)]
mod tests;
