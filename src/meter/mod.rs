//! Who counts the bytes.
//!
//! Whoever moves bytes tells what became of them through one bounded channel of [`Report`]s; the controller reads it.
//! The interface is the channel: a meter needs no trait.
//!
//! * `tcp_info.rs`: what the recipient's kernel acknowledged on our own socket.
//! * `access_log.rs`: what nginx says of a request that has ended, `log_tail.rs`: in a log that is followed, `syslog.rs`: to a socket.
//! * `sock_diag.rs`: what the kernel knows of a socket that nginx owns, and ending such a connection.
//! * `ping.rs`: what the recipient's own HTTP/2 stack confirmed; `window.rs`: how much may wait for that.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub mod access_log;
pub mod log_tail;
mod ping;
mod sock_diag;
pub mod syslog;
mod tcp_info;
mod window;

use tokio::sync::{mpsc, oneshot};

pub use ping::{PingFrame, PingMeter};
pub use sock_diag::{Cookie, Ended, Ends, NoOwner, Sighting, SocketState, Sockets, may_reset_by_owner, reset_by_owner};
pub use tcp_info::{AckCounter, is_over};
pub use window::MAX_UNCONFIRMED_BYTES;

use crate::share::{ByteRange, Carrier, Evidence, Refused, RequestId, ShareId, TransferId};

/// How many reports may wait for the controller. Each transfer sends two a second and each request two more; a thousand
/// of them fit in, and what finds no room is told again half a second later.
const MAX_WAITING: usize = 4096;

/// Which request for bytes a report is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Of which share.
    pub share: ShareId,
    /// Of which transfer.
    pub transfer: TransferId,
    /// Its number, unique within the process and counted up.
    pub id: RequestId,
}

/// What a meter tells.
#[derive(Debug)]
pub enum Report {
    /// A request is about to be answered. Not a byte leaves before `go` says yes: that the transfer began is saved first.
    Opened {
        /// Which.
        request: Request,
        /// The bytes it asks for.
        range: ByteRange,
        /// What answers it, where that is another process.
        carrier: Option<Carrier>,
        /// Where the answer goes; dropped when it cannot be decided at the moment.
        go: oneshot::Sender<Result<(), Refused>>,
    },
    /// Bytes of a request that runs arrived. It may be lost when too much waits: a later one tells more.
    Arrived {
        /// Of which request.
        request: Request,
        /// Which.
        range: ByteRange,
        /// How sure that is.
        evidence: Evidence,
    },
    /// A request ended.
    Ended {
        /// Which.
        request: Request,
        /// What of it arrived, if anything did.
        arrived: Option<ByteRange>,
        /// How sure that is.
        evidence: Evidence,
        /// What was sent and is not known to have arrived.
        in_doubt: Option<ByteRange>,
    },
    /// The file is not what was pinned.
    SourceChanged {
        /// Of which share.
        share: ShareId,
    },
    /// Somebody wants to know when all that was reported of a share until now is saved.
    Saved {
        /// Which share.
        share: ShareId,
        /// Where that is told; dropped when the controller ends before.
        done: oneshot::Sender<()>,
    },
}

/// Where reports go in. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reports(mpsc::Sender<Report>);

/// Makes the channel.
pub fn channel() -> (Reports, mpsc::Receiver<Report>) {
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    (Reports(sender), receiver)
}

impl Reports {
    /// Asks whether a request may be answered. `None` where nobody decides at the moment.
    pub async fn open(&self, request: Request, range: ByteRange) -> Option<Result<(), Refused>> {
        self.open_carried(request, range, None).await
    }

    /// As [`Reports::open`], for a request that another process answers: by what is saved with it.
    pub async fn open_carried(&self, request: Request, range: ByteRange, carrier: Option<Carrier>) -> Option<Result<(), Refused>> {
        let (go, answer) = oneshot::channel();
        self.0.send(Report::Opened { request, range, carrier, go }).await.ok()?;
        answer.await.ok()
    }

    /// Waits until all that was reported of a share until now is saved. Returns whether it is.
    pub async fn saved(&self, share: ShareId) -> bool {
        let (done, saved) = oneshot::channel();
        self.0.send(Report::Saved { share, done }).await.is_ok() && saved.await.is_ok()
    }

    /// Tells what has arrived so far.
    pub fn arrived(&self, request: Request, range: ByteRange, evidence: Evidence) {
        let _ = self.0.try_send(Report::Arrived { request, range, evidence });
    }

    /// Tells for the last time what has arrived, and that the request ended. Not lost while the controller lives.
    pub async fn ended(&self, request: Request, arrived: Option<ByteRange>, evidence: Evidence, in_doubt: Option<ByteRange>) {
        let _ = self.0.send(Report::Ended { request, arrived, evidence, in_doubt }).await;
    }

    /// Tells that a share's file is not what was pinned.
    pub async fn source_changed(&self, share: ShareId) {
        let _ = self.0.send(Report::SourceChanged { share }).await;
    }
}
