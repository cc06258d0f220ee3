//! `portcullis share`: one file, one link.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use serde_json::{Value, json};

use super::answers::{Answered, Share};
use super::client::{Client, ClientError};
use super::interrupt::Interrupts;
use super::terminal::Terminal;
use super::text::{parse_span, size, span};
use super::wait::{Display, until_over};
use super::{Exit, place, qr, tell_mistakes};
use crate::config::{self, Config, Settings};
use crate::share::{CatalogPath, MAX_DOWNLOADS, ShareId};
use crate::{app, telemetry};

/// What `share` is asked.
#[derive(Debug, Args)]
pub(super) struct ShareArgs {
    /// The file: a path on this machine, or as the owner's page lists it
    file: PathBuf,
    /// How long the link works, as 90s, 10m, 1h30m or 2d
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    expires: Option<Duration>,
    /// How many people may download it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=u64::from(MAX_DOWNLOADS)))]
    downloads: Option<u64>,
    /// A note for your own eyes
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Draw the link as a QR code
    #[arg(long)]
    qr: bool,
    /// Wait until it is delivered or closed, and show how it goes; Ctrl-C closes it
    #[arg(long)]
    wait: bool,
    /// Print everything that is known of the share as JSON, not the link
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: Settings,
}

pub(super) async fn run(args: &ShareArgs, mut interrupts: Interrupts, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let client = Client::of_state_dir(&config::state_dir(&args.settings));
    let session = tokio::select! {
        session = client.session() => session,
        () = interrupts.next() => return Ok(Exit::Interrupted),
    };
    match session {
        Ok(session) => {
            let path = place::in_catalog(&args.file, Path::new(&session.root)).await?;
            offer(&client, &path, args, args.wait, &mut interrupts, terminal).await
        }
        Err(ClientError::NoServer { .. }) => serve_it(args, &mut interrupts, terminal).await,
        Err(error) => Err(error.into()),
    }
}

/// Makes the share and prints its link; then waits for its end where that is wanted.
async fn offer(
    client: &Client,
    path: &CatalogPath,
    args: &ShareArgs,
    wait: bool,
    interrupts: &mut Interrupts,
    terminal: &mut Terminal,
) -> anyhow::Result<Exit> {
    let wish = wish(path, args);
    let mut making = std::pin::pin!(client.create(&wish));
    let (made, is_wanted) = tokio::select! {
        made = &mut making => (made, true),
        // It may be made already: without its id nobody could close it.
        () = interrupts.next() => tokio::select! {
            made = making => (made, false),
            () = interrupts.next() => return Ok(Exit::Interrupted),
        },
    };
    let Answered { json, share } = made?;
    let id: ShareId = share.id.parse().context("the server named the share in a way that is not ours")?;
    if !is_wanted {
        return close(client, id, interrupts, terminal).await;
    }
    print(&json, &share, args, terminal)?;
    if !wait {
        return Ok(Exit::Done);
    }
    let mut display = Display::new(terminal);
    tokio::select! {
        exit = until_over(client, &share.id, &mut display) => return Ok(exit?),
        () = interrupts.next() => {}
    }
    close(client, id, interrupts, display.interrupted()).await
}

/// Closes the share of a command that was interrupted.
async fn close(client: &Client, id: ShareId, interrupts: &mut Interrupts, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    tokio::select! {
        closed = client.revoke(id) => {
            closed.context("the share is still open: it could not be closed")?;
            terminal.say("Closed the share: its link no longer works.");
        }
        // Whoever is in a hurry asks twice.
        () = interrupts.next() => terminal.say("The share may still be open."),
    }
    Ok(Exit::Interrupted)
}

/// Serves the file from this process, as long as the share lives.
async fn serve_it(args: &ShareArgs, interrupts: &mut Interrupts, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let file = tokio::fs::canonicalize(&args.file).await.with_context(|| format!("there is no file {}", args.file.display()))?;
    if !tokio::fs::metadata(&file).await.is_ok_and(|found| found.is_file()) {
        bail!("{} is not a file", args.file.display());
    }
    let mut config = match Config::load(&args.settings) {
        Ok(config) => config,
        Err(mistakes) => return Ok(tell_mistakes(&mistakes, terminal)),
    };
    config.root = root_for(&file, &config.root).await;
    config.owner_tcp = false;
    // Once it is delivered this command ends; a door that a later start would open again was promised to nobody.
    config.limits.grace_period = Duration::ZERO;
    if !config::is_set(&args.settings, "LOG") {
        // The bar and the sentences below tell what happens; lines about it would tear them.
        "warn".clone_into(&mut config.log);
    }
    let path = place::in_catalog(&file, &config.root).await?;
    if let Err(error) = telemetry::install(&config.log, config.log_format, config.colours) {
        terminal.say(&format!("There will be no log: {error}."));
    }
    let running = match app::start(config).await {
        Ok(running) => running,
        Err(error) => {
            terminal.say_error(&error.context("no portcullis is running, and this one cannot start"));
            return Ok(Exit::NoServer);
        }
    };
    terminal.say("No portcullis is running, so this command serves the link itself: it works only while this runs.");
    let client = Client::of_socket(running.socket.clone());
    let ended = tokio::select! {
        ended = offer(&client, &path, args, true, interrupts, terminal) => ended,
        _ = running.stopped() => Err(anyhow!("the link works no longer: this server broke down")),
    };
    running.stop().await;
    ended
}

/// Returns the configured root where the file lies below it, else the file's own folder.
async fn root_for(file: &Path, configured: &Path) -> PathBuf {
    match tokio::fs::canonicalize(configured).await {
        Ok(root) if file.starts_with(&root) => root,
        _ => file.parent().unwrap_or(Path::new("/")).to_owned(),
    }
}

fn wish(path: &CatalogPath, args: &ShareArgs) -> Value {
    let mut policy = serde_json::Map::new();
    if let Some(expires) = args.expires {
        policy.insert("expires_in_seconds".to_owned(), expires.as_secs().into());
    }
    if let Some(downloads) = args.downloads {
        policy.insert("max_downloads".to_owned(), downloads.into());
    }
    let mut wish = json!({ "path": path, "policy": policy });
    if let Some(note) = &args.note {
        wish["note"] = note.as_str().into();
    }
    wish
}

fn print(json: &Value, share: &Share, args: &ShareArgs, terminal: &mut Terminal) -> anyhow::Result<()> {
    let url = share.url.as_deref().context("the share has no link: it closed at once")?;
    if args.json {
        terminal.print_json(json)?;
    } else {
        terminal.print(url)?;
    }
    if args.qr {
        match qr::draw(url) {
            Some(lines) => terminal.draw(&lines),
            None => terminal.say("The link is too long for a QR code."),
        }
    }
    let downloads =
        if share.policy.max_downloads == 1 { "one download".to_owned() } else { format!("{} downloads", share.policy.max_downloads) };
    let shortened = if share.clamped.iter().any(|what| what == "expires_in_seconds") { " (the longest this server allows)" } else { "" };
    let expires = span(share.policy.expires_in_seconds);
    terminal.say(&format!("{} ({}), for {downloads} within {expires}{shortened}.", share.name, size(share.size_bytes)));
    Ok(())
}
