//! Changes what a session serves, beside others who change what they serve.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::sleep;

use super::localapi::{LocalApi, LocalApiError};
use super::shape::{self, Foreign, Shape};
use crate::share::ShareId;
use crate::token::random;

/// How often an edit is tried where somebody else is always faster: at twenty edits of theirs a second one of ours fails once
/// in ten times.
const MAX_TRIES: u32 = 20;
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
    /// Others changed the configuration again and again.
    #[error("others change tailscaled's configuration all the time; none of {MAX_TRIES} tries stood")]
    Crowded,
}

/// Has `session` serve these shares and nothing else, and comes back when that was read back.
///
/// # Errors
/// [`EditError`]; after most of them something else may be served.
pub(super) async fn serve(api: &LocalApi, shape: &Shape, session: &str, name: &str, shares: &BTreeSet<ShareId>) -> Result<(), EditError> {
    let wanted = shape.of(name, shares);
    let (mut tries, mut waited, mut has_written, mut last) = (0, Duration::ZERO, false, None);
    while tries < MAX_TRIES {
        let config = api.serve_config().await?;
        match shape::of_session(&config.json, session) {
            // What names a session that is over is taken, and dropped in silence.
            None if has_written => return Err(EditError::SessionOver),
            None if shares.is_empty() => return Ok(()),
            Some(served) if shape::stands(served, &wanted) => {
                let is_alone = shares.is_empty() || shape.foreign(&config.json, session).is_none();
                return if is_alone { Ok(()) } else { Err(EditError::Taken(shape.port)) };
            }
            None | Some(_) => {}
        }
        if !shares.is_empty() {
            match shape.foreign(&config.json, session) {
                None => {}
                Some(Foreign::Session) if waited < DYING => {
                    waited += LOOK_EVERY;
                    sleep(LOOK_EVERY).await;
                    continue;
                }
                Some(Foreign::Session | Foreign::Kept) => return Err(EditError::Taken(shape.port)),
            }
        }
        tries += 1;
        match api.set_serve_config(&shape::with_session(&config.json, session, wanted.clone()), &config.etag).await {
            Ok(()) => has_written = true,
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
