//! How recipients' connections arrive: as they are, over TLS, or through a tunnel that says for whom it carries them.

use std::net::IpAddr;
use std::time::Duration;

use http::HeaderMap;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::accept::Place;
use super::certificates::Certificates;
use super::nginx::Via;
use super::stream::Stream;
use super::{Peer, proxy};
use crate::causes::Causes;
use crate::share::Evidence;

/// How long a tunnel may take to say for whom it is. It stands beside us and sends that with the first segment.
const CARRIED_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a handshake may take: two or three times to the other side and back, over a bad line.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How recipients' connections arrive on a listener.
#[derive(Debug, Clone)]
pub enum Arrival {
    /// In plain HTTP: who stands before us ends TLS, or nobody does.
    Plain,
    /// With TLS, which ends here.
    Tls(Certificates),
    /// In plain HTTP from an nginx that sends the bytes: it says with each request for whom it is. Only a loopback address or a trusted
    /// proxy may be it.
    Nginx,
    /// In plain HTTP from a tunnel that proxies: each request says for whom it is. Only a loopback address or a trusted proxy may be
    /// the tunnel.
    Proxied,
    /// Through a tunnel: it says first for whom it is (PROXY protocol v2), then comes TLS, which ends here. Only a loopback
    /// address or a trusted proxy may be the tunnel.
    Tunnelled(Certificates),
}

impl Arrival {
    /// Returns whether only a tunnel may connect.
    pub(super) fn is_tunnelled(&self) -> bool {
        matches!(self, Self::Tunnelled(_) | Self::Proxied | Self::Nginx)
    }

    /// Takes a connection to where its first request begins. `None` for whoever is met with silence.
    pub(super) async fn welcome(&self, tcp: TcpStream, from: IpAddr, is_proxy: bool, place: &mut Place) -> Option<Welcomed> {
        let stream = Stream::new(tcp).ok()?;
        let plain = if is_proxy { Origin::Proxy } else { Origin::Recipient(from) };
        match self {
            Self::Plain => Some(Welcomed { stream, origin: plain }),
            Self::Proxied => Some(Welcomed { stream, origin: Origin::Proxy }),
            Self::Nginx => Some(Welcomed { stream, origin: Origin::Nginx }),
            Self::Tls(certificates) => Some(Welcomed { stream: seal(stream, certificates).await?, origin: plain }),
            Self::Tunnelled(certificates) => {
                let carried = timeout(CARRIED_TIMEOUT, proxy::read(&stream.tcp)).await.ok()?.ok()?;
                if let Some(recipient) = carried
                    && !place.move_to(recipient)
                {
                    return None;
                }
                Some(Welcomed { stream: seal(stream, certificates).await?, origin: Origin::Tunnel(carried) })
            }
        }
    }
}

async fn seal(stream: Stream, certificates: &Certificates) -> Option<Stream> {
    match timeout(HANDSHAKE_TIMEOUT, stream.seal(certificates)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(error = %Causes(&error), "A handshake failed");
            None
        }
        Err(_) => None,
    }
}

/// A connection whose requests are answered.
pub(super) struct Welcomed {
    pub(super) stream: Stream,
    pub(super) origin: Origin,
}

/// Who stands at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// A recipient, or somebody whom we take for one.
    Recipient(IpAddr),
    /// A proxy of ours that speaks HTTP: each request says for whom it is.
    Proxy,
    /// An nginx that sends the bytes: each request says over which connection it came.
    Nginx,
    /// A tunnel, which carries the recipient's bytes as they are and said whose they are.
    Tunnel(Option<IpAddr>),
}

impl Origin {
    /// Returns who asks, where a request has these fields.
    pub(super) fn peer(self, headers: &HeaderMap, is_ours: &dyn Fn(IpAddr) -> bool) -> Peer {
        match self {
            Self::Recipient(address) => Peer { address: Some(address), is_proxied: false },
            Self::Proxy => Peer { address: forwarded_for(headers, is_ours), is_proxied: true },
            Self::Nginx => match Via::read(headers).map(|via| via.peer.ip()) {
                Some(ip) if !is_ours(ip) => Peer { address: Some(ip), is_proxied: false },
                Some(_) => Peer { address: forwarded_for(headers, is_ours), is_proxied: true },
                None => Peer { address: None, is_proxied: true },
            },
            // What the recipient writes into a field is nobody's word but theirs.
            Self::Tunnel(address) => Peer { address, is_proxied: true },
        }
    }

    /// Returns how sure it is that the recipient has what our kernel was told is acknowledged.
    pub(super) fn evidence_of_kernel(self) -> Evidence {
        match self {
            Self::Recipient(_) => Evidence::Acknowledged,
            Self::Proxy | Self::Nginx | Self::Tunnel(_) => Evidence::HandedOver,
        }
    }

    /// Returns how sure it is that the recipient has what stands before a PING that was answered.
    pub(super) fn evidence_of_ping(self) -> Evidence {
        match self {
            Self::Recipient(_) | Self::Tunnel(_) => Evidence::Confirmed,
            // It ends HTTP/2 itself.
            Self::Proxy | Self::Nginx => Evidence::HandedOver,
        }
    }
}

/// Returns for whom our proxies asked. Each adds whom it saw at the end; the last one that is not ours is the recipient.
pub(super) fn forwarded_for(headers: &HeaderMap, is_ours: &dyn Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let seen = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(','));
    let seen: Vec<Option<IpAddr>> = seen.map(|text| text.trim().parse().ok()).collect();
    seen.into_iter().rev().find(|ip| ip.is_none_or(|ip| !is_ours(ip))).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_alone_says_whom_it_carries_and_a_header_says_so_of_a_proxys_requests() {
        let (real, claimed) = ("203.0.113.7".parse().unwrap(), "198.51.100.1".parse().unwrap());
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", http::HeaderValue::from_static("198.51.100.1"));
        let peer = |origin: Origin| origin.peer(&headers, &|_| false);
        assert_eq!(peer(Origin::Recipient(real)), Peer { address: Some(real), is_proxied: false });
        assert_eq!(peer(Origin::Tunnel(Some(real))), Peer { address: Some(real), is_proxied: true });
        assert_eq!(peer(Origin::Tunnel(None)), Peer { address: None, is_proxied: true });
        assert_eq!(peer(Origin::Proxy), Peer { address: Some(claimed), is_proxied: true });
    }

    #[test]
    fn only_what_ends_at_the_recipient_is_proof() {
        let address = "203.0.113.7".parse().unwrap();
        let of = |origin: Origin| (origin.evidence_of_kernel(), origin.evidence_of_ping());
        assert_eq!(of(Origin::Recipient(address)), (Evidence::Acknowledged, Evidence::Confirmed));
        assert_eq!(of(Origin::Tunnel(Some(address))), (Evidence::HandedOver, Evidence::Confirmed));
        assert_eq!(of(Origin::Proxy), (Evidence::HandedOver, Evidence::HandedOver));
    }
}
