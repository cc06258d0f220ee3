//! The commands that only ask a running server.

use anyhow::anyhow;
use clap::Args;

use super::answers::Answered;
use super::client::{Client, ClientError};
use super::terminal::Terminal;
use super::text::{safe, size};
use super::{Exit, StateArgs};
use crate::share::ShareId;

/// How many shares are listed at most; past it the owner's page, which can search, serves better.
const MAX_LISTED: usize = 20_000;

/// What `ls` is asked.
#[derive(Debug, Args)]
pub(super) struct LsArgs {
    /// Also list those that are closed
    #[arg(long)]
    all: bool,
    /// Print a JSON array of everything that is known
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) server: StateArgs,
}

/// What `close` is asked.
#[derive(Debug, Args)]
pub(super) struct CloseArgs {
    /// The shares' ids, as `portcullis ls` shows them
    #[arg(required = true, value_name = "ID")]
    pub(super) ids: Vec<String>,
    #[command(flatten)]
    pub(super) server: StateArgs,
}

pub(super) async fn ls(client: &Client, args: &LsArgs, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let mut shares: Vec<serde_json::Value> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let page = client.shares(args.all, cursor.as_deref()).await?;
        shares.extend(page.shares);
        cursor = page.next_cursor;
        if cursor.is_none() || shares.len() >= MAX_LISTED {
            break;
        }
    }
    if args.json {
        terminal.print_json(&shares.into())?;
    } else {
        let shares = shares.into_iter().map(Answered::try_from).collect::<Result<Vec<_>, _>>()?;
        for line in table(&shares) {
            terminal.print(&line)?;
        }
        if shares.is_empty() {
            terminal.say("No share is open.");
        }
    }
    if cursor.is_some() {
        terminal.say("There are more.");
    }
    Ok(Exit::Done)
}

fn table(shares: &[Answered]) -> Vec<String> {
    let rows: Vec<[String; 4]> = shares
        .iter()
        .map(|Answered { share, .. }| [share.id.clone(), size(share.size_bytes), safe(&share.state_text), safe(&share.name)])
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (id, size, state) = (width(0), width(1), width(2));
    rows.iter().map(|row| format!("{:id$}  {:>size$}  {:state$}  {}", row[0], row[1], row[2], row[3])).collect()
}

/// Closes what can be closed: one wrong id keeps no other share open.
pub(super) async fn close(client: &Client, ids: &[String], terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let mut exit = Exit::Done;
    for id in ids {
        match close_one(client, id).await {
            Ok(closed) => terminal.print(&format!("{id}  {}", closed.share.state_text))?,
            Err(error) if matches!(error.downcast_ref(), None | Some(ClientError::Refused { .. })) => {
                terminal.say_error(&error.context(id.clone()));
                exit = Exit::Error;
            }
            // Without a server, the next one would fare no better.
            Err(error) => return Err(error),
        }
    }
    Ok(exit)
}

async fn close_one(client: &Client, id: &str) -> anyhow::Result<Answered> {
    let hint = || format!("a share's id has {} letters and digits; `portcullis ls` shows them", ShareId::LENGTH);
    Ok(client.revoke(id.parse().map_err(|_| anyhow!(hint()))?).await?)
}

pub(super) async fn sign_in(client: &Client, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    terminal.print(&client.sign_in_link().await?.url)?;
    Ok(Exit::Done)
}

pub(super) async fn healthcheck(client: &Client, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    client.health().await?;
    terminal.print("healthy")?;
    Ok(Exit::Done)
}
