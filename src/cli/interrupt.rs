//! The signals that ask a command to stop.

use std::io;
use std::pin::Pin;

use futures_util::{Stream, StreamExt, stream};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Hears Ctrl-C, and what a service manager or a closed terminal sends, from the moment that it is made.
pub(super) struct Interrupts(Pin<Box<dyn Stream<Item = ()> + Send>>);

impl Interrupts {
    pub(super) fn listen() -> io::Result<Self> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let signals = kinds.map(|kind| signal(kind).map(each)).into_iter().collect::<io::Result<Vec<_>>>()?;
        Ok(Self::when(stream::select_all(signals)))
    }

    /// Is interrupted whenever `cause` yields.
    pub(super) fn when(cause: impl Stream<Item = ()> + Send + 'static) -> Self {
        Self(Box::pin(cause))
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) {
        if self.0.next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

fn each(signal: Signal) -> Pin<Box<dyn Stream<Item = ()> + Send>> {
    Box::pin(stream::unfold(signal, |mut signal| async move { signal.recv().await.map(|()| ((), signal)) }))
}
