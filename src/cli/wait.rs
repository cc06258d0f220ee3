//! Waits for the end of shares, and shows how they go.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Exit;
use super::answers::{Answered, Share};
use super::client::{Client, ClientError};
use super::progress::Display;

/// How long nothing may be heard before the shares are asked for: a stream whose server has gone without a word.
const ASK_AFTER: Duration = Duration::from_secs(30);
/// How often in a row a server that is gone is looked for again: long enough for a restart or an update.
pub(super) const MAX_ATTEMPTS: u32 = 30;
/// How long between two of those.
pub(super) const BETWEEN_ATTEMPTS: Duration = Duration::from_secs(1);

/// How long a share that is closing may take until it is closed. How it ended is known by then, and nobody waits for a
/// tunnel that is slow to close.
const CLOSING_PATIENCE: Duration = Duration::from_secs(2);

/// Waits until each share is delivered or closed, over restarts of the server. Returns how the first of them ended that did
/// not end well.
pub(super) async fn until_over(client: &Client, ids: &[String], display: &mut Display<'_>) -> Result<Exit, ClientError> {
    let mut waiting = Waiting { ids, over: BTreeMap::new(), closing: BTreeMap::new() };
    let mut attempts = 0;
    loop {
        match waiting.follow(client, display, &mut attempts).await {
            Ok(true) => {
                let exits = ids.iter().filter_map(|id| waiting.over.get(id.as_str()));
                return Ok(exits.copied().find(|exit| *exit != Exit::Done).unwrap_or(Exit::Done));
            }
            // The server ends each stream after a while.
            Ok(false) => {}
            Err(error) if error.is_passing() && attempts < MAX_ATTEMPTS => attempts += 1,
            Err(error) => return Err(error),
        }
        tokio::time::sleep(BETWEEN_ATTEMPTS).await;
    }
}

/// The shares that are waited for.
struct Waiting<'a> {
    ids: &'a [String],
    over: BTreeMap<&'a str, Exit>,
    /// How those will have ended that are closing.
    closing: BTreeMap<&'a str, (Exit, Share)>,
}

impl<'a> Waiting<'a> {
    /// Follows the server's events. Returns whether all is over; not where the stream ended before.
    async fn follow(&mut self, client: &Client, display: &mut Display<'_>, attempts: &mut u32) -> Result<bool, ClientError> {
        // First listen, then ask: what happens in between is heard.
        let mut events = client.events(None).await?;
        self.ask(client, display).await?;
        *attempts = 0;
        while self.over.len() < self.ids.len() {
            let is_closing = self.over.len() + self.closing.len() == self.ids.len();
            let patience = if is_closing { CLOSING_PATIENCE } else { ASK_AFTER };
            match tokio::time::timeout(patience, events.next()).await {
                Err(_) | Ok(Ok(None) | Err(_)) if is_closing => self.end_closing(display),
                Ok(Ok(None)) => return Ok(false),
                Ok(Err(error)) => return Err(error),
                Ok(Ok(Some(event))) if event.name == "share" => self.hear(&event.data, display)?,
                Ok(Ok(Some(event))) if event.name != "resync" => {}
                Ok(Ok(Some(_))) | Err(_) => self.ask(client, display).await?,
            }
        }
        Ok(true)
    }

    async fn ask(&mut self, client: &Client, display: &mut Display<'_>) -> Result<(), ClientError> {
        for id in self.ids.iter().filter(|id| !self.over.contains_key(id.as_str())).collect::<Vec<_>>() {
            let share = client.share(id).await?.share;
            self.see(id, share, display);
        }
        Ok(())
    }

    /// Reads the share that an event tells of, if it is one that is waited for.
    fn hear(&mut self, data: &str, display: &mut Display<'_>) -> Result<(), ClientError> {
        let read = || {
            let json: serde_json::Value = serde_json::from_str(data)?;
            let id = self.ids.iter().find(|id| json["id"] == id.as_str() && !self.over.contains_key(id.as_str()));
            id.map(|id| Answered::try_from(json).map(|answered| (id.as_str(), answered.share))).transpose()
        };
        let heard = read().map_err(|source: serde_json::Error| ClientError::Broken { source: source.into() })?;
        if let Some((id, share)) = heard {
            self.see(id, share, display);
        }
        Ok(())
    }

    fn see(&mut self, id: &'a str, share: Share, display: &mut Display<'_>) {
        display.show(&share);
        match ending(&share) {
            Some(exit) if share.state == "closing" => drop(self.closing.insert(id, (exit, share))),
            Some(exit) => {
                self.closing.remove(id);
                self.over.insert(id, exit);
                display.end(&share);
            }
            None => drop(self.closing.remove(id)),
        }
    }

    fn end_closing(&mut self, display: &mut Display<'_>) {
        for (id, (exit, share)) in std::mem::take(&mut self.closing) {
            self.over.insert(id, exit);
            display.end(&share);
        }
    }
}

/// Returns how the share ended, once that is certain: it is delivered, or closing, or closed.
pub(super) fn ending(share: &Share) -> Option<Exit> {
    match share.outcome.as_deref() {
        None if share.state == "delivered" => Some(Exit::Done),
        None => None,
        Some(outcome) => Some(Exit::of_outcome(outcome)),
    }
}
