//! Waits for the end of a share, and shows how it goes.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Exit;
use super::answers::{Answered, Share};
use super::client::{Client, ClientError};
use super::terminal::Terminal;
use super::text::safe;

/// How long nothing may be heard before the share is asked for: a stream whose server has gone without a word.
const ASK_AFTER: Duration = Duration::from_secs(30);
/// How often in a row a server that is gone is looked for again: long enough for a restart or an update.
const MAX_ATTEMPTS: u32 = 30;
/// How long between two of those.
const BETWEEN_ATTEMPTS: Duration = Duration::from_secs(1);

/// How long a share that is closing may take until it is closed. How it ended is known by then, and nobody waits for a
/// tunnel that is slow to close.
const CLOSING_PATIENCE: Duration = Duration::from_secs(2);

/// Shows a share as it goes: a bar where a person watches, else a line for each state.
pub(super) struct Display<'t> {
    terminal: &'t mut Terminal,
    bar: Option<ProgressBar>,
    state: String,
}

impl<'t> Display<'t> {
    pub(super) fn new(terminal: &'t mut Terminal) -> Self {
        let bar = terminal.is_watched.then(|| {
            let style = ProgressStyle::with_template("{bar:24} {wide_msg}").expect("the template is well formed");
            ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr()).with_style(style)
        });
        Self { terminal, bar, state: String::new() }
    }

    fn show(&mut self, share: &Share) {
        match &self.bar {
            Some(bar) => {
                bar.set_length(share.size_bytes);
                bar.set_position(share.progress.delivered_bytes);
                bar.set_message(safe(&share.state_text));
            }
            None if share.state != self.state => self.terminal.say(&share.state_text),
            None => {}
        }
        share.state.clone_into(&mut self.state);
    }

    fn end(&mut self, share: &Share) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
            self.terminal.say(&share.state_text);
        }
    }

    /// Takes the bar away and hands the terminal back for a last word.
    pub(super) fn interrupted(self) -> &'t mut Terminal {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        self.terminal
    }
}

/// Waits until the share is delivered or closed, over restarts of the server.
pub(super) async fn until_over(client: &Client, id: &str, display: &mut Display<'_>) -> Result<Exit, ClientError> {
    let mut attempts = 0;
    loop {
        match follow(client, id, display, &mut attempts).await {
            Ok(Some(exit)) => return Ok(exit),
            // The server ends each stream after a while.
            Ok(None) => {}
            Err(error) if error.is_passing() && attempts < MAX_ATTEMPTS => attempts += 1,
            Err(error) => return Err(error),
        }
        tokio::time::sleep(BETWEEN_ATTEMPTS).await;
    }
}

async fn follow(client: &Client, id: &str, display: &mut Display<'_>, attempts: &mut u32) -> Result<Option<Exit>, ClientError> {
    // First listen, then ask: what happens in between is heard.
    let mut events = client.events().await?;
    let mut answered = Some(client.share(id).await?);
    let mut closing: Option<(Exit, Share)> = None;
    loop {
        if let Some(Answered { share, .. }) = answered {
            *attempts = 0;
            display.show(&share);
            closing = ending(&share).map(|exit| (exit, share));
        }
        if let Some((exit, share)) = &closing
            && share.state != "closing"
        {
            display.end(share);
            return Ok(Some(*exit));
        }
        let patience = if closing.is_some() { CLOSING_PATIENCE } else { ASK_AFTER };
        answered = match (tokio::time::timeout(patience, events.next()).await, &closing) {
            (Err(_) | Ok(Ok(None) | Err(_)), Some((exit, share))) => {
                display.end(share);
                return Ok(Some(*exit));
            }
            (Ok(Ok(None)), None) => return Ok(None),
            (Ok(Err(error)), None) => return Err(error),
            (Ok(Ok(Some(event))), _) if event.name == "share" => this_share(&event.data, id)?,
            (Ok(Ok(Some(event))), _) if event.name != "resync" => None,
            (Ok(Ok(Some(_))) | Err(_), _) => Some(client.share(id).await?),
        };
    }
}

/// Reads the share that an event tells of, if it is the one that is waited for.
fn this_share(data: &str, id: &str) -> Result<Option<Answered>, ClientError> {
    let read = || {
        let json: serde_json::Value = serde_json::from_str(data)?;
        if json["id"] == id { Answered::try_from(json).map(Some) } else { Ok(None) }
    };
    read().map_err(|source: serde_json::Error| ClientError::Broken { source: source.into() })
}

/// Returns how the share ended, once that is certain: it is delivered, or closing, or closed.
fn ending(share: &Share) -> Option<Exit> {
    match share.outcome.as_deref() {
        None if share.state == "delivered" => Some(Exit::Done),
        None => None,
        Some("completed") => Some(Exit::Done),
        Some("expired") => Some(Exit::Expired),
        Some("stalled" | "timed_out") => Some(Exit::Stalled),
        Some("revoked") => Some(Exit::Revoked),
        Some("source_changed") => Some(Exit::SourceChanged),
        Some(_) => Some(Exit::Failed),
    }
}
