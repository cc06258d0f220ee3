//! The commands that list: shares, the history, files.

use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use super::Exit;
use super::answers::{Answered, Entry, Files, Page};
use super::client::{Client, ClientError, encoded};
use super::server::ServerArgs;
use super::table::{Column, Table};
use super::terminal::Terminal;
use super::text::{When, parse_when, size, time};
use crate::clock::{Clock, SystemClock};

/// How many shares are listed at most; past it the owner's page, which can search, serves better.
pub(super) const MAX_LISTED: usize = 20_000;
/// The most that one page holds.
const MAX_PAGE: usize = 1000;

/// What `ls` is asked.
#[derive(Debug, Args)]
pub(super) struct LsArgs {
    /// Also list those that are closed
    #[arg(long)]
    all: bool,
    /// Only those whose path holds this text
    #[arg(long, value_name = "TEXT")]
    query: Option<String>,
    /// Print a JSON array of everything that is known
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

/// What `history` is asked.
#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    /// Only those that ended so: completed, expired, timed_out, stalled, revoked, source_changed or failed
    #[arg(long, value_name = "OUTCOME", hide_possible_values = true, value_parser = OUTCOMES)]
    outcome: Option<String>,
    /// Only those whose path holds this text
    #[arg(long, value_name = "TEXT")]
    query: Option<String>,
    /// Only those made since: 2026-11-01, 2026-11-01T18:00:00Z, or 30d (ago)
    #[arg(long, value_name = "TIME", value_parser = parse_when)]
    since: Option<When>,
    /// Only those made before: as --since
    #[arg(long, value_name = "TIME", value_parser = parse_when)]
    until: Option<When>,
    /// At most so many, the latest first
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=MAX_LISTED as u64))]
    limit: u64,
    /// Print a JSON array of everything that is known
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

const OUTCOMES: [&str; 7] = ["completed", "expired", "timed_out", "stalled", "revoked", "source_changed", "failed"];

/// What `files` is asked.
#[derive(Debug, Args)]
pub(super) struct FilesArgs {
    /// What the name holds; words in any order, and letters may be missing
    #[arg(value_name = "QUERY", conflicts_with = "folder")]
    query: Vec<String>,
    /// List this folder; without it and without QUERY, the top one
    #[arg(long, value_name = "FOLDER")]
    folder: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=MAX_LISTED as u64))]
    limit: u64,
    /// Print a JSON array of everything that is known
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

pub(super) async fn ls(client: &Client, args: &LsArgs, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let mut query = Query::new("/api/v1/shares");
    query.set("state", if args.all { None } else { Some("living") });
    query.set("query", args.query.as_deref());
    let (shares, is_more) = shares(client, &query, MAX_LISTED).await?;
    if args.json {
        terminal.print_json(&shares.into())?;
    } else {
        let shares = shares.into_iter().map(Answered::try_from).collect::<Result<Vec<_>, _>>()?;
        let table = share_table(shares.iter());
        show(&table, "No share is open.", terminal)?;
    }
    tell_more(is_more, terminal);
    Ok(Exit::Done)
}

/// Returns the shares that are not closed, the newest first.
pub(super) async fn living(client: &Client) -> anyhow::Result<Vec<Answered>> {
    let mut query = Query::new("/api/v1/shares");
    query.set("state", Some("living"));
    let (shares, _) = shares(client, &query, MAX_LISTED).await?;
    Ok(shares.into_iter().map(Answered::try_from).collect::<Result<Vec<_>, _>>()?)
}

/// Returns a table of shares, as `ls` and `watch` show them.
pub(super) fn share_table<'a>(shares: impl Iterator<Item = &'a Answered>) -> Table {
    let columns =
        [Column::new("ID"), Column::number("SIZE").unless_narrow(2), Column::text("STATE"), Column::text("FILE").unless_narrow(1)];
    let mut table = Table::new(columns);
    for Answered { share, .. } in shares {
        table.row([share.id.clone(), size(share.size_bytes), share.state_text.clone(), share.name.clone()]);
    }
    table
}

pub(super) async fn history(client: &Client, args: &HistoryArgs, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let now = SystemClock::starting_after(None).now().wall;
    let mut query = Query::new("/api/v1/history");
    query.set("outcome", args.outcome.as_deref());
    query.set("query", args.query.as_deref());
    query.set("since", args.since.as_ref().map(|when| when.before(now)).as_deref());
    query.set("until", args.until.as_ref().map(|when| when.before(now)).as_deref());
    let limit = usize::try_from(args.limit).unwrap_or(MAX_LISTED);
    let (shares, is_more) = shares(client, &query, limit).await?;
    if args.json {
        terminal.print_json(&shares.into())?;
    } else {
        let columns = [
            Column::new("CLOSED").unless_narrow(2),
            Column::new("ID").unless_narrow(3),
            Column::new("OUTCOME"),
            Column::number("SIZE").unless_narrow(1),
            Column::text("FILE"),
        ];
        let mut table = Table::new(columns);
        for share in shares {
            let share = Answered::try_from(share)?.share;
            let closed = share.closed_at.as_deref().map(time).unwrap_or_default();
            table.row([closed, share.id, share.outcome.unwrap_or_default().replace('_', " "), size(share.size_bytes), share.path]);
        }
        show(&table, "No share has closed, or none that fits.", terminal)?;
    }
    tell_more(is_more, terminal);
    Ok(Exit::Done)
}

pub(super) async fn files(client: &Client, args: &FilesArgs, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let limit = usize::try_from(args.limit).unwrap_or(MAX_LISTED);
    let mut query = Query::new("/api/v1/files");
    query.set("query", Some(args.query.join(" ")).as_deref().filter(|text| !text.is_empty()));
    query.set("path", args.folder.as_deref());
    let mut entries: Vec<Value> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let page: Files = client.get(&query.page(cursor.as_deref(), limit - entries.len())).await?;
        entries.extend(page.entries);
        cursor = page.next_cursor;
        if cursor.is_none() || entries.len() >= limit {
            break;
        }
    }
    if args.json {
        terminal.print_json(&entries.into())?;
    } else {
        let mut table = Table::new([Column::number("SIZE"), Column::new("MODIFIED").unless_narrow(1), Column::text("PATH")]);
        for entry in entries {
            let entry = Entry::deserialize(&entry)?;
            let is_folder = entry.kind == "folder";
            let (size, slash) = if is_folder { ("folder".to_owned(), "/") } else { (size(entry.size_bytes), "") };
            table.row([size, time(&entry.modified), entry.path + slash]);
        }
        show(&table, "There is no such file.", terminal)?;
    }
    tell_more(cursor.is_some(), terminal);
    Ok(Exit::Done)
}

/// Asks for pages of shares until there are so many. Returns whether there are more.
async fn shares(client: &Client, query: &Query, limit: usize) -> Result<(Vec<Value>, bool), ClientError> {
    let mut shares: Vec<Value> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let page: Page = client.get(&query.page(cursor.as_deref(), limit - shares.len())).await?;
        shares.extend(page.shares);
        cursor = page.next_cursor;
        if cursor.is_none() || shares.len() >= limit {
            return Ok((shares, cursor.is_some()));
        }
    }
}

/// Prints a table, or says that there is nothing in it.
pub(super) fn show(table: &Table, nothing: &str, terminal: &mut Terminal) -> anyhow::Result<()> {
    if table.is_empty() {
        terminal.say(nothing);
        return Ok(());
    }
    let lines = table.lines(terminal.screen().map(|screen| screen.columns));
    terminal.print_lines(&lines)?;
    Ok(())
}

pub(super) fn tell_more(is_more: bool, terminal: &mut Terminal) {
    if is_more {
        terminal.say("There are more.");
    }
}

/// An address with its query, as it grows.
#[derive(Debug)]
pub(super) struct Query {
    path: &'static str,
    parts: Vec<String>,
}

impl Query {
    pub(super) fn new(path: &'static str) -> Self {
        Self { path, parts: Vec::new() }
    }

    pub(super) fn set(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.parts.push(format!("{name}={}", encoded(value)));
        }
    }

    /// Returns the address of the page behind `cursor`, with as much of what is still wanted as one page holds.
    pub(super) fn page(&self, cursor: Option<&str>, wanted: usize) -> String {
        let cursor = cursor.map(|cursor| format!("cursor={}", encoded(cursor)));
        let limit = format!("limit={}", wanted.clamp(1, MAX_PAGE));
        let parts: Vec<String> = self.parts.iter().cloned().chain(cursor).chain([limit]).collect();
        format!("{}?{}", self.path, parts.join("&"))
    }

    /// Returns the address without pages.
    pub(super) fn whole(&self) -> String {
        if self.parts.is_empty() { self.path.to_owned() } else { format!("{}?{}", self.path, self.parts.join("&")) }
    }
}
