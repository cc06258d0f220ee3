//! Where everything that the controller waits for waits: each write and each effect, until the simulation lets it through.
//!
//! Whatever stands here was asked for and has not happened. What happens first, what fails, what never comes back and
//! what a crash cuts short is the simulation's choice; so a crash between two of its steps is a crash at an `await`.

use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::future::{BoxFuture, FutureExt, ready};
use portcullis::share::ShareId;
use portcullis::store::{Save, StoreError};
use portcullis::tunnel::{Doors, PublicUrl, Standing, Tunnel, TunnelError};
use tokio::sync::oneshot::{Sender, channel};

/// Something that was asked for, and who waits for it.
#[derive(Debug)]
pub(crate) enum Op {
    Save(Save, Sender<Result<Vec<u64>, StoreError>>),
    Open(ShareId, Sender<Result<(), TunnelError>>),
    Close(ShareId, Sender<Result<(), TunnelError>>),
    List(Sender<Result<Standing, TunnelError>>),
}

impl Op {
    /// Returns whether nobody waits for it any more. It may happen all the same.
    pub(crate) fn is_abandoned(&self) -> bool {
        match self {
            Self::Save(_, answer) => answer.is_closed(),
            Self::Open(_, answer) | Self::Close(_, answer) => answer.is_closed(),
            Self::List(answer) => answer.is_closed(),
        }
    }
}

/// What waits, the oldest first. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate(Arc<Mutex<Vec<Op>>>);

impl Gate {
    pub(crate) fn waiting(&self) -> MutexGuard<'_, Vec<Op>> {
        self.0.lock().expect("nobody panics while holding the gate")
    }

    pub(crate) fn push(&self, op: Op) {
        self.waiting().push(op);
    }
}

/// A tunnel whose every call waits at the gate. Who stands behind it is the simulation.
#[derive(Debug)]
pub(crate) struct SimTunnel {
    pub(crate) gate: Gate,
    /// The doors of a tunnel that asks nobody, as the embedded default is: they open at once and fall shut with the process.
    pub(crate) own: Option<Doors>,
}

fn gone() -> TunnelError {
    TunnelError::Unavailable("the backend is gone".to_owned())
}

impl Tunnel for SimTunnel {
    fn backend(&self) -> &'static str {
        "simulated"
    }

    fn public_url(&self, _: ShareId) -> PublicUrl {
        PublicUrl::new("https://gate.example")
    }

    fn address(&self) -> PublicUrl {
        PublicUrl::new("https://gate.example")
    }

    fn opens_at_once(&self) -> bool {
        self.own.is_some()
    }

    fn open(&self, share: ShareId) -> BoxFuture<'_, Result<(), TunnelError>> {
        if let Some(doors) = &self.own {
            doors.open(share);
            return ready(Ok(())).boxed();
        }
        let (answer, answered) = channel();
        async move {
            self.gate.push(Op::Open(share, answer));
            answered.await.unwrap_or_else(|_| Err(gone()))
        }
        .boxed()
    }

    fn close(&self, share: ShareId) -> BoxFuture<'_, Result<(), TunnelError>> {
        if let Some(doors) = &self.own {
            doors.shut(share);
            return ready(Ok(())).boxed();
        }
        let (answer, answered) = channel();
        async move {
            self.gate.push(Op::Close(share, answer));
            answered.await.unwrap_or_else(|_| Err(gone()))
        }
        .boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<Standing, TunnelError>> {
        if let Some(doors) = &self.own {
            return ready(Ok(Standing::open(doors.all_open()))).boxed();
        }
        let (answer, answered) = channel();
        async move {
            self.gate.push(Op::List(answer));
            answered.await.unwrap_or_else(|_| Err(gone()))
        }
        .boxed()
    }
}
