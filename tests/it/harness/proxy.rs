//! A TCP proxy that cuts: after so many bytes towards the client, every connection ends with a reset, once.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

/// How often a silent direction looks whether it has been cut.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Small, so that little more than what the client was given is acknowledged to the server.
const RECEIVE_BUFFER_BYTES: usize = 32 * 1024;

#[derive(Default)]
struct Plan {
    /// How many more bytes may go to clients before the cut; `u64::MAX`: no cut is planned.
    left: AtomicU64,
    /// Counts the cuts; connections older than the newest one end.
    cuts: AtomicU64,
    over: AtomicBool,
}

/// A proxy in front of the recipient side.
pub(crate) struct CuttingProxy {
    pub(crate) address: SocketAddr,
    plan: Arc<Plan>,
}

impl CuttingProxy {
    /// Listens, and forwards to `server`, which need not run yet.
    pub(crate) fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, super::free_port())).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let plan = Arc::new(Plan { left: AtomicU64::new(u64::MAX), ..Plan::default() });
        let shared = plan.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.over.load(Ordering::SeqCst) {
                    return;
                }
                let plan = shared.clone();
                std::thread::spawn(move || serve(client, server, &plan));
            }
        });
        Self { address, plan }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Cuts every connection once `bytes` more have gone to clients.
    pub(crate) fn cut_after(&self, bytes: u64) {
        self.plan.left.store(bytes, Ordering::SeqCst);
    }

    /// Returns how often it has cut.
    pub(crate) fn cuts(&self) -> u64 {
        self.plan.cuts.load(Ordering::SeqCst)
    }
}

impl Drop for CuttingProxy {
    fn drop(&mut self) {
        self.plan.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

impl Plan {
    /// Takes leave to send up to `wanted` bytes. Fewer than wanted means: send these, then everything is cut.
    fn take(&self, wanted: u64) -> u64 {
        let mut left = self.left.load(Ordering::SeqCst);
        loop {
            if left == u64::MAX {
                return wanted;
            }
            let granted = wanted.min(left);
            let rest = if granted == left { u64::MAX } else { left - granted };
            match self.left.compare_exchange(left, rest, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => {
                    if rest == u64::MAX {
                        self.cuts.fetch_add(1, Ordering::SeqCst);
                    }
                    return granted;
                }
                Err(other) => left = other,
            }
        }
    }
}

fn serve(client: TcpStream, server: SocketAddr, plan: &Arc<Plan>) {
    let born = plan.cuts.load(Ordering::SeqCst);
    let upstream = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    upstream.set_recv_buffer_size(RECEIVE_BUFFER_BYTES).expect("a buffer size");
    if upstream.connect(&server.into()).is_err() {
        return;
    }
    let upstream = TcpStream::from(upstream);
    for stream in [&client, &upstream] {
        SockRef::from(stream).set_linger(Some(Duration::ZERO)).expect("linger");
        stream.set_nodelay(true).expect("nodelay");
        stream.set_read_timeout(Some(LOOK_EVERY)).expect("a timeout");
    }
    let (client, upstream) = (Arc::new(client), Arc::new(upstream));
    let ended = Arc::new(AtomicBool::new(false));
    let upward = {
        let (client, upstream, plan, ended) = (client.clone(), upstream.clone(), plan.clone(), ended.clone());
        std::thread::spawn(move || pump(&client, &upstream, &plan, born, &ended, false))
    };
    pump(&upstream, &client, plan, born, &ended, true);
    let _ = upward.join();
    // An orderly end stays one: the lingering reset is for cuts only.
    if plan.cuts.load(Ordering::SeqCst) == born {
        for stream in [&client, &upstream] {
            let _ = SockRef::from(&**stream).set_linger(None);
        }
    }
}

/// Carries bytes one way until the end, or the cut. The end of one direction ends the connection: HTTP clients do not half-close.
fn pump(mut from: &TcpStream, mut to: &TcpStream, plan: &Plan, born: u64, ended: &AtomicBool, metered: bool) {
    let mut chunk = [0; 16 * 1024];
    while !ended.load(Ordering::SeqCst) && plan.cuts.load(Ordering::SeqCst) == born {
        let n = match from.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(_) => break,
        };
        // What the client is given, the server must have heard of: a delayed acknowledgement would be lost in the reset, and
        // on loopback it is worth 64 KiB.
        let _ = SockRef::from(from).set_tcp_quickack(true);
        let granted = if metered { plan.take(n as u64) as usize } else { n };
        if to.write_all(&chunk[..granted]).is_err() || granted < n {
            break;
        }
    }
    ended.store(true, Ordering::SeqCst);
}
