//! `portcullis share`: files in, links out.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde_json::{Map, Value, json};

use super::answers::{Answered, Batch, Problem, Share};
use super::client::{Client, ClientError, parse, parse_share};
use super::interrupt::Interrupts;
use super::progress::Display;
use super::server::RemoteArgs;
use super::terminal::Terminal;
use super::text::{Downloads, When, parse_downloads, parse_span, parse_speed, parse_when, size, span};
use super::wait::until_over;
use super::{Exit, alone, copy, place, qr};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Settings};
use crate::share::CatalogPath;

/// How many files go into one request, as many as the API takes.
const MAX_BATCH: usize = 100;

/// What `share` is asked.
#[derive(Debug, Args)]
pub(super) struct ShareArgs {
    /// Paths on this machine, or as `portcullis files` lists them
    #[arg(required = true, value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// How long the link works, as 90s, 10m, 1h30m or 2d
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    expires: Option<Duration>,
    /// How many may download it: a number or unlimited
    #[arg(long, value_name = "N", value_parser = parse_downloads)]
    downloads: Option<Downloads>,
    /// When it begins to work: 2026-11-01T18:00:00Z or 2h
    #[arg(long, value_name = "TIME", value_parser = parse_when)]
    start: Option<When>,
    /// Who may download it, as 203.0.113.0/24,2001:db8::1
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    networks: Vec<String>,
    /// How fast each download may go, as 2MB (each second)
    #[arg(long, value_name = "SPEED", value_parser = parse_speed)]
    max_speed: Option<u64>,
    /// A few words that the recipient sees
    #[arg(long, value_name = "TEXT")]
    message: Option<String>,
    /// A note for your own eyes
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// What a stall does to the link: close or reopen
    #[arg(long, value_name = "WHAT", value_parser = ["close", "reopen"], hide_possible_values = true)]
    on_stall: Option<String>,
    /// Wait for its end, with a progress bar
    #[arg(long)]
    pub(super) wait: bool,
    /// Print each share as a line of JSON, not its link
    #[arg(long)]
    json: bool,
    /// Copy the link to the clipboard
    #[arg(long)]
    copy: bool,
    /// Draw the link as a QR code
    #[arg(long)]
    qr: bool,
    #[command(flatten)]
    pub(super) remote: RemoteArgs,
    #[command(flatten)]
    pub(super) settings: Settings,
}

/// Who serves what is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Served {
    /// A server that goes on when this command ends.
    Elsewhere,
    /// This process: the links end with it.
    Here,
}

pub(super) async fn run(args: &ShareArgs, mut interrupts: Interrupts, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let client = match args.remote.client()? {
        Some(client) => client,
        None => Client::of_state_dir(&config::state_dir(&args.settings)),
    };
    let session = tokio::select! {
        session = client.session() => session,
        () = interrupts.next() => return Ok(Exit::Interrupted),
    };
    match session {
        Ok(session) => {
            let paths = in_catalog(&args.files, Path::new(&session.root), client.is_remote()).await?;
            offer(&client, &paths, args, Served::Elsewhere, &mut interrupts, terminal).await
        }
        Err(ClientError::NoServer { .. }) => alone::serve(args, &mut interrupts, terminal).await,
        Err(error) => Err(error.into()),
    }
}

async fn in_catalog(files: &[PathBuf], root: &Path, is_remote: bool) -> anyhow::Result<Vec<CatalogPath>> {
    let mut paths = Vec::new();
    for file in files {
        paths.push(if is_remote { place::as_listed(file, root)? } else { place::in_catalog(file, root).await? });
    }
    Ok(paths)
}

/// Makes the shares and prints their links; then waits for their end where that is wanted.
pub(super) async fn offer(
    client: &Client,
    paths: &[CatalogPath],
    args: &ShareArgs,
    served: Served,
    interrupts: &mut Interrupts,
    terminal: &mut Terminal,
) -> anyhow::Result<Exit> {
    let mut making = std::pin::pin!(make(client, paths, args));
    let (made, is_wanted) = tokio::select! {
        made = &mut making => (made, true),
        // They may be made already: without their ids nobody could close them.
        () = interrupts.next() => tokio::select! {
            made = making => (made, false),
            () = interrupts.next() => return Ok(Exit::Interrupted),
        },
    };
    let Made { shares, failed, error } = made;
    let ids: Vec<String> = shares.iter().map(|answered| answered.share.id.clone()).collect();
    if !is_wanted {
        return close(client, &ids, interrupts, terminal).await;
    }
    print(&shares, args, terminal).await?;
    for (path, problem) in &failed {
        let named = if problem.detail.contains(path) { String::new() } else { format!("{path}: ") };
        terminal.say(&format!("portcullis: {named}{}", problem.detail));
    }
    if let Some(error) = error {
        return Err(error.into());
    }
    let exit = if failed.is_empty() { Exit::Done } else { Exit::Error };
    if ids.is_empty() || !(args.wait || served == Served::Here) {
        return Ok(exit);
    }
    let waited = wait(client, &ids, served, interrupts, terminal).await?;
    Ok(if waited == Exit::Done { exit } else { waited })
}

/// What came of the wish: the shares that were made, and what could not be.
struct Made {
    shares: Vec<Answered>,
    failed: Vec<(String, Problem)>,
    /// What ended it before all were asked for.
    error: Option<ClientError>,
}

async fn make(client: &Client, paths: &[CatalogPath], args: &ShareArgs) -> Made {
    let mut made = Made { shares: Vec::new(), failed: Vec::new(), error: None };
    let wish = wish(args);
    let result = match paths {
        [path] => make_one(client, path, wish, &mut made).await,
        _ => make_many(client, paths, &wish, &mut made).await,
    };
    made.error = result.err();
    made
}

async fn make_one(client: &Client, path: &CatalogPath, mut wish: Map<String, Value>, made: &mut Made) -> Result<(), ClientError> {
    wish.insert("path".to_owned(), json!(path));
    made.shares.push(parse_share(client.post("/api/v1/shares", &wish.into()).await?)?);
    Ok(())
}

async fn make_many(client: &Client, paths: &[CatalogPath], wish: &Map<String, Value>, made: &mut Made) -> Result<(), ClientError> {
    for some in paths.chunks(MAX_BATCH) {
        let mut wish = wish.clone();
        wish.insert("paths".to_owned(), json!(some));
        let batch: Batch = parse(client.post("/api/v1/shares", &wish.into()).await?)?;
        for result in batch.results {
            match result.share {
                Some(share) => made.shares.push(parse_share(share)?),
                None => made.failed.push((result.path, result.problem.unwrap_or_default())),
            }
        }
    }
    Ok(())
}

/// Returns what is asked for each file, without the file: what was not said is left to the server.
fn wish(args: &ShareArgs) -> Map<String, Value> {
    let mut policy = Map::new();
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            policy.insert(name.to_owned(), value);
        }
    };
    set("expires_in_seconds", args.expires.map(|span| span.as_secs().into()));
    match args.downloads {
        Some(Downloads::AtMost(downloads)) => set("max_downloads", Some(downloads.into())),
        Some(Downloads::Unlimited) => set("unlimited_downloads", Some(true.into())),
        None => {}
    }
    set("starts_at", args.start.as_ref().map(|when| when.ahead(SystemClock::starting_after(None).now().wall).into()));
    set("on_stall", args.on_stall.as_deref().map(Value::from));
    set("allowed_networks", (!args.networks.is_empty()).then(|| json!(args.networks)));
    set("max_bytes_per_second", args.max_speed.map(Value::from));
    let mut wish = Map::from_iter([("policy".to_owned(), policy.into())]);
    for (name, text) in [("note", &args.note), ("message", &args.message)] {
        if let Some(text) = text {
            wish.insert(name.to_owned(), text.as_str().into());
        }
    }
    wish
}

async fn print(shares: &[Answered], args: &ShareArgs, terminal: &mut Terminal) -> anyhow::Result<()> {
    let mut links = Vec::new();
    for Answered { json, share } in shares {
        let url = share.url.as_deref().context("the share has no link: it closed at once")?;
        if args.json {
            terminal.print_json(json)?;
        } else {
            terminal.print(url)?;
        }
        if args.qr {
            match qr::draw(url, terminal.is_watched && console::colors_enabled_stderr()) {
                Some(lines) => terminal.draw(&lines),
                None => terminal.say("The link is too long for a QR code."),
            }
        }
        terminal.say(&told(share));
        links.push(url);
    }
    if args.copy && !links.is_empty() {
        copy::copy(&links.join("\n"), terminal).await;
    }
    Ok(())
}

/// Says what was made, in a sentence or two.
fn told(share: &Share) -> String {
    let shortened = if share.clamped.iter().any(|what| what == "expires_in_seconds") { " (the longest this server allows)" } else { "" };
    let file = format!("{} ({})", share.name, size(share.size_bytes));
    if let Some(policy) = &share.policy_text {
        let shortened = if shortened.is_empty() { "" } else { " It lasts the longest this server allows, less than you asked for." };
        return format!("{file}. {policy}{shortened}");
    }
    let downloads = match share.policy.max_downloads {
        Some(1) => "one download".to_owned(),
        Some(downloads) => format!("{downloads} downloads"),
        None => "any number of downloads".to_owned(),
    };
    format!("{file}, for {downloads} within {}{shortened}.", span(share.policy.expires_in_seconds))
}

/// Waits for the end of all. Ctrl-C asks whether to close them.
async fn wait(
    client: &Client,
    ids: &[String],
    served: Served,
    interrupts: &mut Interrupts,
    terminal: &mut Terminal,
) -> anyhow::Result<Exit> {
    loop {
        let mut display = Display::new(&mut *terminal, ids.len() > 1);
        let over = tokio::select! {
            over = until_over(client, ids, &mut display) => Some(over),
            () = interrupts.next() => None,
        };
        let terminal = display.gone();
        if let Some(over) = over {
            return Ok(over?);
        }
        if wants_to_close(ids, served, interrupts, terminal).await {
            return close(client, ids, interrupts, terminal).await;
        }
        if served == Served::Elsewhere {
            let which = if let [id] = ids { format!(" {id}") } else { String::new() };
            terminal.say(&format!("Still open. Watch with `portcullis watch{which}`, close with `portcullis close {}`.", ids.join(" ")));
            return Ok(Exit::Interrupted);
        }
    }
}

/// Asks whether to close. Whoever interrupts twice, or cannot be asked, wants to.
async fn wants_to_close(ids: &[String], served: Served, interrupts: &mut Interrupts, terminal: &mut Terminal) -> bool {
    let what = if ids.len() == 1 { "the share" } else { "all of these shares" };
    let otherwise = if served == Served::Here { "goes on" } else { "leaves it open" };
    let Some(answer) = terminal.ask(&format!("Close {what}? Enter closes, n {otherwise}. [Y/n] ")) else { return true };
    tokio::select! {
        answer = answer => !matches!(answer, Ok(Some(answer)) if matches!(&*answer.to_lowercase(), "n" | "no")),
        () = interrupts.next() => {
            terminal.say("");
            true
        }
    }
}

/// Closes the shares of a command that was interrupted.
async fn close(client: &Client, ids: &[String], interrupts: &mut Interrupts, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let closing = async {
        for id in ids {
            client.revoke(id).await.with_context(|| format!("the share {id} is still open: it could not be closed"))?;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        closed = closing => {
            closed?;
            terminal.say(match ids {
                [] => "Nothing was shared.",
                [_] => "Closed the share: its link no longer works.",
                _ => "Closed the shares: their links no longer work.",
            });
        }
        // Whoever is in a hurry asks twice.
        () = interrupts.next() => terminal.say("What was shared may still be open; `portcullis ls` tells."),
    }
    Ok(Exit::Interrupted)
}
