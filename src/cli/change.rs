//! The commands that change shares: close, extend, reopen.

use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use serde_json::json;

use super::Exit;
use super::answers::Answered;
use super::client::{Client, ClientError, parse_share};
use super::list::living;
use super::server::ServerArgs;
use super::terminal::Terminal;
use super::text::{parse_span, time};
use crate::share::ShareId;

/// How long a share that is closing may take until it is closed, and how often it is looked.
const CLOSING_PATIENCE: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What `close` is asked.
#[derive(Debug, Args)]
pub(super) struct CloseArgs {
    /// The shares' ids, as `portcullis ls` shows them
    #[arg(required_unless_present = "all", value_name = "ID")]
    ids: Vec<String>,
    /// Close every share that is open
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

/// What `extend` is asked.
#[derive(Debug, Args)]
pub(super) struct ExtendArgs {
    /// The share's id, as `portcullis ls` shows it
    id: String,
    /// How long the link works from now on, as 90s, 10m, 1h30m or 2d
    #[arg(value_name = "SPAN", value_parser = parse_span)]
    span: Duration,
    /// Print everything that is known of the share as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

/// What `reopen` is asked.
#[derive(Debug, Args)]
pub(super) struct ReopenArgs {
    /// The share's id, as `portcullis history` shows it
    id: String,
    /// Take back that you closed it, so that the same link works again: within a minute, and only if nobody had begun to download it
    #[arg(long)]
    undo: bool,
    /// Print everything that is known of the share as JSON, not its link
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

/// Closes what can be closed: one wrong id keeps no other share open.
pub(super) async fn close(client: &Client, args: &CloseArgs, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let ids = if args.all { living(client).await?.into_iter().map(|answered| answered.share.id).collect() } else { args.ids.clone() };
    let (mut exit, mut told) = (Exit::Done, Ok(()));
    for id in &ids {
        match close_one(client, id).await {
            // Whoever reads no further (`| head -1`) wants the rest closed all the same.
            Ok(closed) => told = told.and(terminal.print(&format!("{id}  {}", closed.share.state_text))),
            Err(error) if matches!(error.downcast_ref(), None | Some(ClientError::Refused { .. })) => {
                terminal.say_error(&error.context(id.clone()));
                exit = Exit::Error;
            }
            // Without a server, the next one would fare no better.
            Err(error) => return Err(error),
        }
    }
    if ids.is_empty() {
        terminal.say("No share is open.");
    }
    told?;
    Ok(exit)
}

/// Closes a share and waits a moment until its way in is closed too, so that the next command finds it closed. The link
/// works no longer before that, and a tunnel that is slow to close is not waited for.
async fn close_one(client: &Client, id: &str) -> anyhow::Result<Answered> {
    let id = share_id(id)?;
    let mut closed = client.revoke(id.as_str()).await?;
    for _ in 0..CLOSING_PATIENCE.as_millis() / LOOK_EVERY.as_millis() {
        if closed.share.state != "closing" {
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
        closed = client.share(id.as_str()).await?;
    }
    Ok(closed)
}

pub(super) async fn extend(client: &Client, args: &ExtendArgs, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let body = json!({ "expires_in_seconds": args.span.as_secs() });
    let Answered { json, share } = parse_share(client.post(&path(&args.id, "extend")?, &body).await?)?;
    if args.json {
        terminal.print_json(&json)?;
    } else {
        terminal.print(&format!("{}  open until {}", share.id, time(&share.expires_at)))?;
    }
    if share.clamped.iter().any(|what| what == "expires_in_seconds") {
        terminal.say("That is the longest this server allows, less than you asked for.");
    }
    Ok(Exit::Done)
}

pub(super) async fn reopen(client: &Client, args: &ReopenArgs, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let body = if args.undo { json!({ "undo": true }) } else { json!({}) };
    let Answered { json, share } = parse_share(client.post(&path(&args.id, "reopen")?, &body).await?)?;
    match &share.url {
        _ if args.json => terminal.print_json(&json)?,
        Some(url) => terminal.print(url)?,
        None => {}
    }
    terminal.say(&format!("{} is open again, until {}.", share.name, time(&share.expires_at)));
    Ok(Exit::Done)
}

fn path(id: &str, what: &str) -> anyhow::Result<String> {
    Ok(format!("/api/v1/shares/{}/{what}", share_id(id)?))
}

/// Reads a share's id as it was typed.
pub(super) fn share_id(id: &str) -> anyhow::Result<ShareId> {
    id.parse().map_err(|_| anyhow!("a share's id has {} letters and digits; `portcullis ls` shows them", ShareId::LENGTH))
}
