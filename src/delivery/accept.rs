//! The recipient listener: who gets a connection, and how many.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{RecipientSide, h1};

/// How much of a connection the kernel buffers: the counter of what was written runs ahead of what arrived by no more,
/// and a revoke leaks no more. The kernel doubles it for its own book-keeping; what is left carries 40 MB/s over 25 ms.
const SEND_BUFFER_BYTES: usize = 512 * 1024;
/// How many threads may send at once over all shares. They hold no memory but their stacks and wait for the disk.
const MAX_SENDING: usize = 256;
/// How many connections wait to be accepted.
const BACKLOG: i32 = 1024;
/// After what silence the kernel asks whether the other side is still there, and how often.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(15), 4);
/// How long accepting rests when no descriptor is left.
const REST: Duration = Duration::from_millis(100);

/// Opens the recipient listener. What it sets on its socket every connection inherits.
///
/// # Errors
/// What the system says, as where the port is taken.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

impl RecipientSide {
    /// Answers until `shutdown`; then accepts nobody, lets what runs go on and closes what is idle. Comes back when every
    /// connection has ended.
    pub async fn run(self: Arc<Self>, listener: TcpListener, shutdown: CancellationToken) {
        let (connections, threads) = (TaskTracker::new(), Arc::new(Semaphore::new(MAX_SENDING)));
        let crowd = Arc::new(Crowd::default());
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let (tcp, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::debug!(%error, "Could not accept a connection");
                    if !is_of_one_connection(&error) {
                        tokio::time::sleep(REST).await;
                    }
                    continue;
                }
            };
            let ip = address.ip().to_canonical();
            let is_proxy = (self.is_trusted_proxy)(ip);
            let bounds = *self.bounds.borrow();
            let per_address = if is_proxy { usize::MAX } else { bounds.connections_per_address };
            // One too many is closed without a word: an answer would cost what the bound saves.
            let Some(place) = crowd.enter(ip, bounds.connections, per_address) else { continue };
            let (side, shutdown, threads) = (self.clone(), shutdown.clone(), threads.clone());
            connections.spawn(async move {
                let _place = (place, side.metrics.connected());
                if set_up(&tcp).is_ok() {
                    h1::serve(tcp, ip, is_proxy, side, threads, shutdown).await;
                }
            });
        }
        drop(listener);
        connections.close();
        connections.wait().await;
    }
}

fn set_up(tcp: &TcpStream) -> io::Result<()> {
    let (idle, every, times) = KEEPALIVE;
    let keepalive = socket2::TcpKeepalive::new().with_time(idle).with_interval(every).with_retries(times);
    SockRef::from(tcp).set_tcp_keepalive(&keepalive)
}

/// Returns whether an error of `accept(2)` is about the connection that was to be accepted, and the next may do.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Counts who is here.
#[derive(Debug, Default)]
struct Crowd(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_network: HashMap<IpAddr, usize>,
}

/// A place in the crowd, until it is dropped.
struct Place(Arc<Crowd>, IpAddr);

impl Crowd {
    fn enter(self: &Arc<Self>, ip: IpAddr, most: usize, most_of_one: usize) -> Option<Place> {
        let network = network(ip);
        let mut counts = self.0.lock().expect("nobody panics while counting");
        let here = counts.by_network.get(&network).copied().unwrap_or(0);
        if counts.all >= most || here >= most_of_one {
            return None;
        }
        counts.all += 1;
        counts.by_network.insert(network, here + 1);
        Some(Place(self.clone(), network))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.0.0.lock().expect("nobody panics while counting");
        counts.all -= 1;
        let here = counts.by_network.get(&self.1).copied().unwrap_or(1);
        if here > 1 {
            counts.by_network.insert(self.1, here - 1);
        } else {
            counts.by_network.remove(&self.1);
        }
    }
}

/// A household gets a whole /64 of IPv6 addresses.
fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_has_a_most_and_one_address_has_fewer() {
        let crowd = Arc::new(Crowd::default());
        let (a, b) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let first = crowd.enter(a, 3, 2).unwrap();
        let _second = crowd.enter(a, 3, 2).unwrap();
        assert!(crowd.enter(a, 3, 2).is_none());
        let _third = crowd.enter(b, 3, 2).unwrap();
        assert!(crowd.enter(b, 3, 2).is_none());
        drop(first);
        assert!(crowd.enter(a, 3, 2).is_some());
        drop((_second, _third));
        assert!(crowd.0.lock().unwrap().by_network.is_empty());
    }

    #[test]
    fn one_ipv6_household_is_one_address() {
        assert_eq!(network("2001:db8::1".parse().unwrap()), network("2001:db8::ffff:1".parse().unwrap()));
        assert_ne!(network("2001:db8::1".parse().unwrap()), network("2001:db8:0:1::1".parse().unwrap()));
    }
}
