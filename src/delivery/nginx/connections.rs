//! Connections of nginx's: seen and ended from outside.

use std::io;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::PROGRAM;
use crate::meter::{Cookie, Sighting, Sockets, reset_by_owner};
use crate::share::{Carrier, ShareId};

/// How soon it is tried again to end a connection.
const AGAIN: Duration = Duration::from_millis(500);
/// How often it is tried while the program stops.
const MAX_TRIES_AT_STOP: u32 = 10;

/// Where they are seen and ended.
pub(super) struct Connections {
    pub(super) sockets: Sockets,
    /// Whether the program stops.
    pub(super) stopping: CancellationToken,
}

impl Connections {
    /// # Errors
    /// Where the kernel does not tell of other processes' connections, as a sentence.
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self { sockets: Sockets::open()?, stopping: CancellationToken::new() })
    }

    /// Looks at a connection; `None` where it is no more.
    pub(super) fn sight(&self, carrier: &Carrier) -> io::Result<Option<Sighting>> {
        let sighting = self.sockets.look(carrier.local, carrier.peer)?;
        Ok(sighting.filter(|sighting| sighting.cookie == Cookie::from_number(carrier.cookie)))
    }

    /// Ends a connection, however long that takes: while it goes on a door is open. Only a stop does not wait for what cannot be done: whether it
    /// is over comes back. `seen` is told how it looks before.
    pub(super) async fn end(&self, share: ShareId, carrier: &Carrier, mut seen: impl FnMut(&Sighting)) -> bool {
        let (mut is_told, mut tries_at_stop) = (false, 0);
        while tries_at_stop < MAX_TRIES_AT_STOP {
            tries_at_stop += u32::from(self.stopping.is_cancelled());
            let ended = match self.sight(carrier) {
                Ok(None) => return true,
                Ok(Some(sighting)) => {
                    seen(&sighting);
                    self.end_once(carrier, &sighting).await
                }
                Err(error) => Err(error.to_string()),
            };
            match ended {
                Ok(()) => return true,
                Err(why) if !is_told => {
                    tracing::error!(share.id = %share, "Could not end a download that nginx sends: {why}");
                    is_told = true;
                }
                Err(_) => {}
            }
            sleep(AGAIN).await;
        }
        false
    }

    async fn end_once(&self, carrier: &Carrier, sighting: &Sighting) -> Result<(), String> {
        let refused = match self.sockets.destroy(carrier.local, carrier.peer, sighting.cookie) {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        let inode = sighting.inode;
        match spawn_blocking(move || reset_by_owner(inode, PROGRAM)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(format!("{refused}; and {error}")),
            Err(error) => Err(error.to_string()),
        }
    }
}
