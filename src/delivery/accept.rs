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

use super::arrival::Arrival;
use super::{Bounds, RecipientSide, h1, h2};

use crate::causes::Causes;

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
/// How often it is seen, once the program stops, whether any download of nginx's runs still.
const LOOK_EVERY: Duration = Duration::from_millis(20);

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
    pub async fn run(self: Arc<Self>, listener: TcpListener, arrival: Arrival, shutdown: CancellationToken) {
        let (connections, threads) = (TaskTracker::new(), Arc::new(Semaphore::new(MAX_SENDING)));
        let crowd = Arc::new(Crowd::default());
        let closing = CancellationToken::new();
        let over = self.over(matches!(arrival, Arrival::Nginx), &shutdown);
        tokio::pin!(over);
        loop {
            let accepted = tokio::select! {
                () = &mut over => break,
                accepted = listener.accept() => accepted,
            };
            let (tcp, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::debug!(error = %Causes(&error), "Could not accept a connection");
                    if !is_of_one_connection(&error) {
                        tokio::time::sleep(REST).await;
                    }
                    continue;
                }
            };
            let ip = address.ip().to_canonical();
            let is_proxy = (self.is_trusted_proxy)(ip);
            if arrival.is_tunnelled() && !may_be_tunnel(ip, is_proxy) {
                tracing::debug!("Closed a connection that did not come through the tunnel");
                continue;
            }
            let bounds = *self.bounds.borrow();
            // One too many is closed without a word: an answer would cost what the bound saves.
            let place = crowd.enter(ip, is_proxy || arrival.is_tunnelled(), bounds);
            let Some(place) = place else { continue };
            let (side, closing, threads) = (self.clone(), closing.clone(), threads.clone());
            let connection = Accepted { tcp, ip, is_proxy, place };
            connections.spawn(connection.answer(arrival.clone(), side, threads, closing));
        }
        closing.cancel();
        drop(listener);
        connections.close();
        connections.wait().await;
        if let Some(nginx) = &self.nginx {
            nginx.ended().await;
        }
    }
}

impl RecipientSide {
    /// Comes back when nobody is to be accepted any more: at the shutdown. An nginx that passes on a download comes for each slice of it, so it is
    /// accepted for as long as any runs; the controller cuts them when their time is up.
    async fn over(&self, is_nginx: bool, shutdown: &CancellationToken) {
        shutdown.cancelled().await;
        while is_nginx && self.passes.requests() > 0 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// A connection that was accepted.
struct Accepted {
    tcp: TcpStream,
    ip: IpAddr,
    is_proxy: bool,
    place: Place,
}

impl Accepted {
    async fn answer(mut self, arrival: Arrival, side: Arc<RecipientSide>, threads: Arc<Semaphore>, shutdown: CancellationToken) {
        let _counted = side.metrics.connected();
        if set_up(&self.tcp).is_err() {
            return;
        }
        // Most of what it takes to come in is over before the first request.
        let welcome = Box::pin(arrival.welcome(self.tcp, self.ip, self.is_proxy, &mut self.place));
        let welcomed = tokio::select! {
            welcomed = welcome => welcomed,
            () = shutdown.cancelled() => None,
        };
        match welcomed {
            Some(welcomed) if welcomed.stream.is_http_2() => Box::pin(h2::serve(welcomed, side, threads, shutdown)).await,
            Some(welcomed) => h1::serve(welcomed, side, threads, shutdown).await,
            None => {}
        }
    }
}

/// A tunnel stands on this machine, or is one of the proxies that are trusted.
fn may_be_tunnel(ip: IpAddr, is_proxy: bool) -> bool {
    is_proxy || ip.is_loopback()
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
pub(super) struct Place {
    crowd: Arc<Crowd>,
    network: IpAddr,
    bounds: Bounds,
}

impl Crowd {
    /// Lets one more in. Of proxies and tunnels, which come for many, there is no bound but that of all.
    fn enter(self: &Arc<Self>, ip: IpAddr, is_for_many: bool, bounds: Bounds) -> Option<Place> {
        let network = network(ip);
        let mut counts = self.0.lock().expect("nobody panics while counting");
        let most_of_one = if is_for_many { usize::MAX } else { bounds.connections_per_address };
        if counts.all >= bounds.connections || !counts.add(network, most_of_one) {
            return None;
        }
        counts.all += 1;
        Some(Place { crowd: self.clone(), network, bounds })
    }
}

impl Place {
    /// Counts it as a recipient's from here on. Returns whether they have room for it.
    pub(super) fn move_to(&mut self, recipient: IpAddr) -> bool {
        let network = network(recipient);
        let mut counts = self.crowd.0.lock().expect("nobody panics while counting");
        let has_room = counts.add(network, self.bounds.connections_per_address);
        if has_room {
            counts.take(self.network);
            self.network = network;
        }
        has_room
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.crowd.0.lock().expect("nobody panics while counting");
        counts.all -= 1;
        counts.take(self.network);
    }
}

impl Counts {
    fn add(&mut self, network: IpAddr, most: usize) -> bool {
        let here = self.by_network.get(&network).copied().unwrap_or(0);
        let has_room = here < most;
        if has_room {
            self.by_network.insert(network, here + 1);
        }
        has_room
    }

    fn take(&mut self, network: IpAddr) {
        match self.by_network.get_mut(&network) {
            Some(here) if *here > 1 => *here -= 1,
            Some(_) | None => drop(self.by_network.remove(&network)),
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

    const BOUNDS: Bounds = Bounds { connections: 3, connections_per_address: 2 };

    #[test]
    fn a_crowd_has_a_most_and_one_address_has_fewer() {
        let crowd = Arc::new(Crowd::default());
        let (a, b) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let first = crowd.enter(a, false, BOUNDS).unwrap();
        let _second = crowd.enter(a, false, BOUNDS).unwrap();
        assert!(crowd.enter(a, false, BOUNDS).is_none());
        let _third = crowd.enter(b, false, BOUNDS).unwrap();
        assert!(crowd.enter(b, false, BOUNDS).is_none());
        drop(first);
        assert!(crowd.enter(a, false, BOUNDS).is_some());
        drop((_second, _third));
        assert!(crowd.0.lock().unwrap().by_network.is_empty());
    }

    #[test]
    fn what_comes_through_a_tunnel_counts_as_its_recipients() {
        let crowd = Arc::new(Crowd::default());
        let (tunnel, recipient) = ("127.0.0.1".parse().unwrap(), "203.0.113.7".parse().unwrap());
        let mut places: Vec<Place> = (0..3).map(|_| crowd.enter(tunnel, true, BOUNDS).unwrap()).collect();
        assert!(crowd.enter(tunnel, true, BOUNDS).is_none(), "all together have a bound, whoever brings them");
        assert!(places[0].move_to(recipient) && places[1].move_to(recipient));
        assert!(!places[2].move_to(recipient));
        drop(places.pop());
        drop(places.pop());
        assert!(crowd.enter(tunnel, true, BOUNDS).unwrap().move_to(recipient));
        drop(places);
        assert!(crowd.0.lock().unwrap().by_network.is_empty());
    }

    #[test]
    fn a_tunnel_is_near_or_trusted() {
        let ip = |text: &str| text.parse().unwrap();
        assert!(may_be_tunnel(ip("127.0.0.1"), false) && may_be_tunnel(ip("::1"), false) && may_be_tunnel(ip("192.0.2.1"), true));
        for stranger in ["192.0.2.1", "10.0.0.1", "2001:db8::1", "0.0.0.0"] {
            assert!(!may_be_tunnel(ip(stranger), false), "{stranger}");
        }
    }

    #[test]
    fn one_ipv6_household_is_one_address() {
        assert_eq!(network("2001:db8::1".parse().unwrap()), network("2001:db8::ffff:1".parse().unwrap()));
        assert_ne!(network("2001:db8::1".parse().unwrap()), network("2001:db8:0:1::1".parse().unwrap()));
    }
}
