//! The loop that accepts owners' connections.
//!
//! `axum::serve` never closes a silent or dribbling client; this loop does, and it says who stands at the other end.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tracing::{debug, warn};

use super::patient::Patient;
use crate::causes::Causes;
use crate::descriptors;
use crate::http::auth::Peer;

/// How many connections live at once: five hundred live streams, and a household's tabs and scripts many times over. Each
/// costs at most [`MAX_BUFFER_BYTES`] twice.
const MAX_CONNECTIONS: usize = 1024;
/// How many of them one address may hold, so that one client of the LAN cannot keep all others out: behind a reverse proxy
/// or in a container's network all streams come from one, and its other requests still find a place.
const MAX_CONNECTIONS_PER_ADDRESS: usize = 768;
/// How long the head of a request may take, and how long a connection may be idle before it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of a request's head, or of an answer, waits in memory.
const MAX_BUFFER_BYTES: usize = 64 * 1024;
/// How much of an answer the kernel holds before it is sent. Without a bound it takes megabytes for a reader that is slow,
/// and says that there is room again only when much of that has gone.
const MAX_UNSENT_BYTES: u32 = 128 * 1024;
/// How long a peer may leave what we sent unacknowledged: one that vanished frees its place.
const UNACKNOWLEDGED_TIMEOUT_MS: u32 = 30_000;
/// How long answers that run may go on once the program is asked to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait when the system has no descriptor left for another connection.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Where owners come in.
#[derive(Debug)]
pub enum OwnerListener {
    /// From the LAN.
    Tcp(TcpListener),
    /// From this machine: root and our own user need no credential there.
    Unix(UnixListener),
    /// From the tailnet, by tailscaled: it says who asks. Nobody but root and our own user may connect.
    Tailnet(UnixListener),
}

/// Tells an answer that would go on for ever (a stream) that the program stops.
#[derive(Debug, Clone, Default)]
pub struct Draining(pub CancellationToken);

/// Serves `router` until `shutdown`, then lets what runs come to its end for a moment.
///
/// # Errors
/// Where the listener itself is broken; a connection that fails is only logged.
pub async fn serve(listener: OwnerListener, router: Router, shutdown: CancellationToken) -> io::Result<()> {
    let most = MAX_CONNECTIONS.min(descriptors::for_owners());
    let most_of_one = MAX_CONNECTIONS_PER_ADDRESS.min((most - most / 4).max(1));
    let places = Arc::new(Semaphore::new(most));
    let seats = Arc::new(Mutex::default());
    let connections = TaskTracker::new();
    loop {
        // A place first: beyond the bound, those who connect wait in the kernel's queue.
        let place = tokio::select! {
            () = shutdown.cancelled() => break,
            place = places.clone().acquire_owned() => place.expect("the semaphore is never closed"),
        };
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener) => accepted,
        };
        match accepted {
            Ok(Accepted::Tcp(stream, address)) => match Seat::take(&seats, address.ip(), most_of_one, place) {
                Some(seat) => drop(connections.spawn(converse(stream, Peer::Tcp(address), router.clone(), shutdown.clone(), seat))),
                None => debug!("An address holds too many connections; another of its was closed"),
            },
            Ok(Accepted::Unix(stream, peer)) => drop(connections.spawn(converse(stream, peer, router.clone(), shutdown.clone(), place))),
            Err(error) if is_about_one_connection(&error) => {
                debug!(error = %Causes(&error), "A connection was gone before it was accepted")
            }
            Err(error) if is_exhausted(&error) => {
                warn!(error = %Causes(&error), "No connection can be accepted at the moment");
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(2 * DRAIN_TIMEOUT, connections.wait()).await.is_err() {
        debug!("Some connections of owners were cut at the end");
    }
    Ok(())
}

enum Accepted {
    Tcp(tokio::net::TcpStream, SocketAddr),
    Unix(tokio::net::UnixStream, Peer),
}

/// How many connections each address holds; at most [`MAX_CONNECTIONS`] addresses.
type Seats = Mutex<HashMap<IpAddr, usize>>;

/// A connection's place among all, and among those of its address. Dropping it gives both back.
struct Seat {
    seats: Arc<Seats>,
    address: IpAddr,
    _place: OwnedSemaphorePermit,
}

impl Seat {
    /// Takes a place among those of `address`; `None` where it holds `most` already.
    fn take(seats: &Arc<Seats>, address: IpAddr, most: usize, place: OwnedSemaphorePermit) -> Option<Self> {
        let mut table = seats.lock().expect("nobody panics while holding the seats");
        let held = table.entry(address).or_default();
        if *held >= most {
            return None;
        }
        *held += 1;
        Some(Self { seats: seats.clone(), address, _place: place })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut table = self.seats.lock().expect("nobody panics while holding the seats");
        if let Some(held) = table.get_mut(&self.address) {
            *held -= 1;
            if *held == 0 {
                table.remove(&self.address);
            }
        }
    }
}

async fn accept(listener: &OwnerListener) -> io::Result<Accepted> {
    match listener {
        OwnerListener::Tcp(listener) => {
            let (stream, address) = listener.accept().await?;
            // A connection that cannot be tuned works all the same.
            let _ = stream.set_nodelay(true);
            let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, UNACKNOWLEDGED_TIMEOUT_MS);
            let _ = socket2::SockRef::from(&stream).set_tcp_notsent_lowat(MAX_UNSENT_BYTES);
            Ok(Accepted::Tcp(stream, address))
        }
        OwnerListener::Unix(listener) => {
            let (stream, _) = listener.accept().await?;
            let uid = stream.peer_cred()?.uid();
            Ok(Accepted::Unix(stream, Peer::Local { uid }))
        }
        OwnerListener::Tailnet(listener) => {
            let (stream, _) = listener.accept().await?;
            let uid = stream.peer_cred()?.uid();
            if uid == 0 || uid == rustix::process::geteuid().as_raw() {
                return Ok(Accepted::Unix(stream, Peer::Tailnet));
            }
            Err(io::ErrorKind::PermissionDenied.into())
        }
    }
}

/// Serves one connection to its end; `seat` is its place, held until then.
async fn converse<S, P>(stream: S, peer: Peer, router: Router, shutdown: CancellationToken, seat: P)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let draining = Draining(shutdown.clone());
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(draining.clone());
        let router = router.clone();
        async move { Ok::<_, Infallible>(router.oneshot(request.map(Body::new)).await.unwrap_or_else(|never| match never {})) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_BUFFER_BYTES)
        .serve_connection(TokioIo::new(Patient::new(stream)), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(DRAIN_TIMEOUT, connection).await {
                Ok(ended) => ended,
                Err(_) => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        debug!(error = %Causes(&error), "A connection of an owner ended early");
    }
    drop(seat);
}

fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, NotConnected, PermissionDenied, TimedOut, WouldBlock};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | NotConnected | PermissionDenied | TimedOut | WouldBlock)
}

fn is_exhausted(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}
