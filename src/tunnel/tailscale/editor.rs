//! Changes what a session serves, beside others who change what they serve.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::localapi::{LocalApi, LocalApiError};
use super::shape::{self, Foreign, Shape};
use super::status::FIRST_VERSION;
use crate::share::ShareId;
use crate::token::random;

/// How often an edit is tried where somebody else is always faster: at twenty edits of theirs a second one of ours fails once
/// in ten times.
const MAX_TRIES: u32 = 20;
/// How often tailscaled may take an edit and serve something else: once somebody else may have been in between, not again and again.
const MAX_UNHEARD: u32 = 3;
/// Between two tries lies so much, and up to this once more: two who are in each other's way fall out of step.
const JITTER: Duration = Duration::from_millis(10);
/// How long another session may stand on our port: one of ours that is just dying is gone within milliseconds.
const DYING: Duration = Duration::from_secs(2);
/// Between two looks at it.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Says why an edit did not stand in the end.
#[derive(Debug, thiserror::Error)]
pub(super) enum EditError {
    /// tailscaled did not do it.
    #[error(transparent)]
    LocalApi(#[from] LocalApiError),
    /// Somebody else serves on our port.
    #[error(
        "port {0} of this node is served by somebody else already (`tailscale serve status --json` shows it): take that away, or set TAILSCALE_PORT to another port"
    )]
    Taken(u16),
    /// The session is over.
    #[error("the session with tailscaled has ended")]
    SessionOver,
    /// It took what it was told, and serves something else.
    #[error("tailscaled took what it was told and serves something else: is it {}.{}.{} or later?", FIRST_VERSION.0, FIRST_VERSION.1, FIRST_VERSION.2)]
    NotTaken,
    /// Others changed the configuration again and again.
    #[error("others change tailscaled's configuration all the time; none of {MAX_TRIES} tries stood")]
    Crowded,
}

/// Whose part of the configuration it is.
pub(super) struct Ours<'a> {
    /// The session that is held.
    pub(super) session: &'a str,
    /// Those that were held before. tailscaled drops what is served in their name, unless its disk is full at that moment.
    pub(super) before: &'a [String],
}

/// Has a session serve these shares and nothing else, and comes back when that was read back.
///
/// # Errors
/// [`EditError`]; after most of them something else may be served.
pub(super) async fn serve(api: &LocalApi, shape: &Shape, ours: Ours<'_>, name: &str, shares: &BTreeSet<ShareId>) -> Result<(), EditError> {
    let (wanted, session) = (shape.of(name, shares), ours.session);
    let (dying_until, mut tries, mut written, mut last) = (Instant::now() + DYING, 0, 0, None);
    while tries < MAX_TRIES {
        let config = api.serve_config().await?;
        let others = shape::without_sessions(&config.json, ours.before);
        let foreign = shape.foreign(&others, session).filter(|_| !shares.is_empty());
        match shape::of_session(&config.json, session) {
            // What names a session that is over is taken, and dropped in silence.
            None if written > 0 => return Err(EditError::SessionOver),
            None if shares.is_empty() && others == config.json => return Ok(()),
            Some(served) if shape::stands(served, &wanted) && others == config.json => {
                return foreign.map_or(Ok(()), |_| Err(EditError::Taken(shape.port)));
            }
            Some(_) if written >= MAX_UNHEARD => return Err(EditError::NotTaken),
            None | Some(_) => {}
        }
        match foreign {
            None => {}
            Some(Foreign::Session) if Instant::now() < dying_until => {
                sleep(LOOK_EVERY).await;
                continue;
            }
            Some(Foreign::Session | Foreign::Kept) => return Err(EditError::Taken(shape.port)),
        }
        tries += 1;
        match api.set_serve_config(&shape::with_session(&others, session, wanted.clone()), &config.etag).await {
            Ok(()) => written += 1,
            // It may have been done all the same, or somebody was faster: both are seen when it is read again.
            Err(error @ (LocalApiError::Conflict | LocalApiError::Failed { .. })) => {
                last = Some(error);
                sleep(jitter()).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    match last {
        Some(error @ LocalApiError::Failed { .. }) => Err(error.into()),
        _ => Err(EditError::Crowded),
    }
}

fn jitter() -> Duration {
    let [byte] = random::bytes::<1>();
    JITTER + JITTER * u32::from(byte) / 255
}
