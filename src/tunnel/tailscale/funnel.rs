//! Ways in by a Tailscale node that somebody else runs: one session, a door for all shares or a mount for each.

use std::path::PathBuf;

use futures_util::future::{BoxFuture, FutureExt};
use tokio::sync::{mpsc, oneshot, watch};

use super::certificate::Install;
use super::keeper::{Beats, Hold};
use super::localapi::LocalApi;
use super::session::{Ask, Known, MAX_ASKS, Session, Setup, backend, public_url};
use super::shape::{Shape, Way};
use crate::share::ShareId;
use crate::tunnel::{Doors, PublicUrl, Standing, Tunnel, TunnelError};

/// What a link begins with before the node has ever told its name: a name that leads nowhere (RFC 2606).
pub(super) const NO_NAME_YET: &str = "the-node-has-told-no-name-yet.invalid";

/// How ways in by a node are opened.
pub struct Options {
    /// tailscaled's socket.
    pub socket: PathBuf,
    /// How visitors are led, by which port, and where to.
    pub shape: Shape,
    /// Who holds the session.
    pub hold: Hold,
    /// Takes the node's certificate, where the recipient side ends TLS.
    pub install: Option<Install>,
    /// The node's name when it was last known.
    pub last_name: Option<String>,
    /// Is told the node's name whenever that is another.
    pub on_name: Box<dyn Fn(&str) + Send + Sync>,
}

/// Opens and closes ways in by a node.
#[derive(Debug)]
pub struct Funnel {
    asks: mpsc::Sender<Ask>,
    doors: Doors,
    known: Known,
    port: u16,
    way: Way,
    beats: Beats,
}

impl Funnel {
    /// Makes one, and the task that holds its session. Nothing is asked of tailscaled before that runs.
    pub fn new(options: Options, doors: Doors) -> (Self, Session) {
        let (asks, asked) = mpsc::channel(MAX_ASKS);
        let (known, beats) = (Known::new(options.last_name), Beats::default());
        let funnel = Self {
            asks,
            doors: doors.clone(),
            known: known.clone(),
            port: options.shape.port,
            way: options.shape.way,
            beats: beats.clone(),
        };
        let setup = Setup {
            api: LocalApi::new(options.socket),
            shape: options.shape,
            hold: options.hold,
            beats,
            doors,
            known,
            install: options.install,
            on_name: options.on_name,
        };
        (funnel, Session::new(setup, asked))
    }

    /// Returns how whoever holds the session is told that this process lives.
    pub fn beats(&self) -> Beats {
        self.beats.clone()
    }

    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<Result<T, TunnelError>>) -> Ask) -> Result<T, TunnelError> {
        let (answer, answered) = oneshot::channel();
        let gone = || TunnelError::Unavailable("the program is stopping".to_owned());
        self.asks.send(ask(answer)).await.map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }
}

impl Tunnel for Funnel {
    fn backend(&self) -> &'static str {
        backend(self.way)
    }

    fn public_url(&self, _: ShareId) -> PublicUrl {
        self.address()
    }

    fn address(&self) -> PublicUrl {
        PublicUrl::new(&public_url(self.known.name().as_deref().unwrap_or(NO_NAME_YET), self.port))
    }

    fn open(&self, share: ShareId) -> BoxFuture<'_, Result<(), TunnelError>> {
        self.ask(move |answer| Ask::Open(share, answer)).boxed()
    }

    fn close(&self, share: ShareId) -> BoxFuture<'_, Result<(), TunnelError>> {
        // Whatever the tunnel says, and however long that takes: from here on nothing of it is answered.
        self.doors.shut(share);
        self.ask(move |answer| Ask::Close(share, answer)).boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<Standing, TunnelError>> {
        self.ask(Ask::List).boxed()
    }

    fn trouble(&self) -> Option<String> {
        self.known.trouble()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.known.changes()
    }
}
