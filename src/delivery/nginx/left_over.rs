//! What nginx was sending when an earlier process of ours ended: it is looked after again, or ended.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Nginx;
use super::connections::Connections;
use super::desk::Place;
use super::guard::Guard;
use crate::delivery::{Elsewhere, Found, Pass, RecipientSide, next_request_id};
use crate::meter::{Cookie, Reports, Request};
use crate::share::{Carried, Evidence, ShareId};
use crate::token::TransferSecret;

/// How long the way in to a share may take to open again for what nginx went on with: so long nobody can cut it.
const WAY_IN_WAIT: Duration = Duration::from_secs(15);
/// How often is looked meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How many threads may look at files of requests that are taken over.
const MAX_LOOKING: usize = 16;

/// A request that nginx was answering when an earlier process of ours ended.
pub struct LeftOver {
    /// Of which share.
    pub share: ShareId,
    /// What was saved of it.
    pub carried: Carried,
    /// Whether its share is still offered.
    pub may_go_on: bool,
    /// Nothing is closed before its connection is over.
    pub(crate) elsewhere: Elsewhere,
}

/// Ends what nginx was sending, where it is to send nothing any more, and comes back when all of it is over, or the program stops.
pub async fn end_left_over(left_over: Vec<LeftOver>, reports: Reports, stop: CancellationToken) {
    if left_over.is_empty() {
        return;
    }
    tracing::warn!("nginx was sending files when portcullis last ran, and is not to any more (DELIVERY): that is ended");
    let connections = match Connections::open() {
        Ok(connections) => Connections { stopping: stop, ..connections },
        Err(error) => return tracing::error!(%error, "Could not end what nginx sends; stop nginx"),
    };
    join_all(left_over.into_iter().map(|one| one.end(&connections, &reports))).await;
}

impl LeftOver {
    /// Ends it, and says that nobody knows what of it arrived.
    async fn end(self, connections: &Connections, reports: &Reports) {
        let Self { share, carried, elsewhere, .. } = self;
        connections.end(share, &carried.carrier, |_| {}).await;
        drop(elsewhere);
        let request = Request { share, transfer: carried.transfer, id: carried.request };
        reports.ended(request, None, Evidence::HandedOver, Some(carried.range)).await;
    }
}

impl Nginx {
    /// Goes on with what nginx was answering when an earlier process of ours ended. When this comes back there is somebody for each line.
    pub fn take_over(self: &Arc<Self>, side: &Arc<RecipientSide>, left_over: Vec<(TransferSecret, LeftOver)>) {
        let threads = Arc::new(Semaphore::new(MAX_LOOKING));
        for (secret, one) in left_over {
            let carrier = one.carried.carrier;
            let place = self.desk.enter(carrier.name, Cookie::from_number(carrier.cookie));
            let (nginx, side, threads) = (self.clone(), side.clone(), threads.clone());
            self.guards.spawn(async move {
                match nginx.guard_of(one, &secret, place, &side, threads).await {
                    Ok(guard) => guard.run().await,
                    Err(one) => one.end(&nginx.connections, &side.reports).await,
                }
            });
        }
    }

    /// Returns who looks after it from now on; it itself where it may not go on.
    async fn guard_of(
        self: &Arc<Self>,
        one: LeftOver,
        secret: &TransferSecret,
        place: Option<Place>,
        side: &Arc<RecipientSide>,
        threads: Arc<Semaphore>,
    ) -> Result<Guard, LeftOver> {
        let (share, Carried { transfer, range, carrier, .. }) = (one.share, one.carried);
        let request = Request { share, transfer, id: next_request_id() };
        let goes_on = async {
            let pass = if one.may_go_on { self.pass_of(side, secret).await? } else { return None };
            let (place, entered) = (place?, pass.enter()?);
            let opened = tokio::select! {
                opened = side.open_pinned(&pass) => opened,
                () = pass.cut.cancelled() => return None,
            };
            let file = match opened {
                Ok(Some(file)) => file,
                Ok(None) => {
                    side.reports.source_changed(share).await;
                    return None;
                }
                Err(error) => {
                    tracing::warn!(share.id = %share, %error, "Could not open a shared file");
                    return None;
                }
            };
            let is_counted = !pass.is_complete();
            side.reports.open_carried(request, range, Some(carrier)).await?.ok()?;
            Some((place, entered, file, is_counted))
        };
        match goes_on.await {
            Some((place, entered, file, is_counted)) => {
                let (side, nginx, elsewhere) = (side.clone(), self.clone(), Some(one.elsewhere));
                Ok(Guard {
                    side,
                    nginx,
                    threads,
                    place,
                    entered,
                    request,
                    is_counted,
                    range,
                    carrier,
                    file,
                    is_taken_over: true,
                    elsewhere,
                })
            }
            None => Err(one),
        }
    }

    /// Waits a while for a share's way in to be open again; `None` where it is over, or stays shut.
    async fn pass_of(&self, side: &RecipientSide, secret: &TransferSecret) -> Option<Arc<Pass>> {
        let found = async {
            loop {
                match side.passes.find(secret) {
                    Some(Found::Valid(pass)) => return Some(pass),
                    Some(Found::Over(..)) => return None,
                    None => sleep(LOOK_EVERY).await,
                }
            }
        };
        tokio::select! {
            found = timeout(WAY_IN_WAIT, found) => found.ok().flatten(),
            () = self.connections.stopping.cancelled() => None,
        }
    }
}
