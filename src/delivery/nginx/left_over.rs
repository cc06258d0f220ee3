//! What nginx was sending when an earlier process of ours ended: it is looked after again, or ended.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::Nginx;
use super::connections::Connections;
use super::desk::Place;
use super::guard::Guard;
use crate::causes::Causes;
use crate::delivery::{Elsewhere, Found, Pass, RecipientSide};
use crate::meter::{Cookie, Reports, Request, Sighting};
use crate::share::{ByteRange, Carried, Evidence, ShareId};
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
    /// Whether its share is still offered, and its transfer not over.
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
        Err(error) => {
            tracing::error!(error = %Causes(&error), "Could not end what nginx sends; stop nginx");
            return left_over.into_iter().for_each(|one| one.elsewhere.keep());
        }
    };
    join_all(left_over.into_iter().map(|one| one.end(&connections, &reports))).await;
}

impl LeftOver {
    /// Ends it, and says what of it may have arrived, which nobody has seen. Returns whether that is saved.
    async fn end(self, connections: &Connections, reports: &Reports) -> bool {
        let Self { share, carried, elsewhere, .. } = self;
        let (range, begins_at) = (carried.range, carried.carrier.begins_at);
        let mut sent_to = range.end;
        let saw = |it: &Sighting| sent_to = range.end.min(range.start.saturating_add(it.written().saturating_sub(begins_at)));
        if !connections.end(share, &carried.carrier, saw).await {
            // It goes on behind a program that stops; the next one finds it again.
            elsewhere.keep();
            return false;
        }
        drop(elsewhere);
        let request = Request { share, transfer: carried.transfer, id: carried.request };
        let in_doubt = Some(ByteRange::new(range.start, sent_to)).filter(|range| !range.is_empty());
        reports.ended(request, None, Evidence::HandedOver, in_doubt).await;
        reports.saved(share).await
    }
}

impl Nginx {
    /// Goes on with what nginx was answering when an earlier process of ours ended. When this comes back there is somebody for each line.
    pub fn take_over(self: &Arc<Self>, side: &Arc<RecipientSide>, left_over: Vec<(TransferSecret, LeftOver)>) {
        let threads = Arc::new(Semaphore::new(MAX_LOOKING));
        for (secret, one) in left_over {
            let carrier = one.carried.carrier;
            let mut place = self.desk.enter(carrier.name, Cookie::from_number(carrier.cookie));
            let (nginx, side, threads) = (self.clone(), side.clone(), threads.clone());
            self.guards.spawn(async move {
                match nginx.guard_of(one, &secret, &mut place, &side, threads).await {
                    Ok(guard) => guard.run().await,
                    Err(one) => {
                        let is_saved = one.end(&nginx.connections, &side.reports).await;
                        if let Some(place) = place {
                            place.leave(is_saved);
                        }
                    }
                }
            });
        }
    }

    /// Returns who looks after it from now on; it itself where it may not go on.
    async fn guard_of(
        self: &Arc<Self>,
        one: LeftOver,
        secret: &TransferSecret,
        place: &mut Option<Place>,
        side: &Arc<RecipientSide>,
        threads: Arc<Semaphore>,
    ) -> Result<Guard, LeftOver> {
        let (share, Carried { transfer, range, carrier, .. }) = (one.share, one.carried);
        let request = Request { share, transfer, id: side.next_request_id() };
        let goes_on = async {
            let began = Instant::now();
            // Of one that is over nothing leaves any more: what came of it is asked for as long as the share lives.
            let may_wait = || began.elapsed() < WAY_IN_WAIT || self.connections.sight(&carrier).is_ok_and(|sighting| sighting.is_none());
            let pass = if one.may_go_on && place.is_some() { pass_of(side, secret, may_wait).await? } else { return None };
            let entered = pass.enter()?;
            let file = loop {
                match side.open_pinned(&pass).await {
                    Ok(Some(file)) => break file,
                    Ok(None) => {
                        side.reports.source_changed(share).await;
                        return None;
                    }
                    Err(error) if !may_wait() => {
                        tracing::warn!(share.id = %share, error = %Causes(&error), "Could not open a shared file");
                        return None;
                    }
                    Err(_) => sleep(LOOK_EVERY).await,
                }
            };
            let is_counted = !pass.is_complete();
            tokio::select! {
                opened = side.reports.open_carried(request, range, Some(carrier)) => opened?.ok()?,
                () = pass.cut.cancelled() => return None,
            }
            Some((place.take()?, entered, file, is_counted))
        };
        let goes_on = tokio::select! {
            biased;
            () = one.elsewhere.cut.cancelled() => None,
            () = self.connections.stopping.cancelled() => None,
            goes_on = goes_on => goes_on,
        };
        match goes_on {
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
}

/// Waits for a share's way in to be open again, while that may be; `None` where it is over, or stays shut.
async fn pass_of(side: &RecipientSide, secret: &TransferSecret, may_wait: impl Fn() -> bool) -> Option<Arc<Pass>> {
    loop {
        match side.passes.find(secret) {
            Some(Found::Valid(pass)) => return Some(pass),
            None if may_wait() => sleep(LOOK_EVERY).await,
            Some(Found::Over(..)) | None => return None,
        }
    }
}
