//! Who may come in: tokens for scripts, signed-in browsers.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Exit;
use super::answers::{ApiToken, Browser, SignInLink};
use super::client::{Client, encoded};
use super::list;
use super::server::ServerArgs;
use super::table::{Column, Table};
use super::terminal::Terminal;
use super::text::{parse_span, time};

/// What `token` is asked.
#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Make a token and print it: this once, only its digest is kept
    #[command(after_help = "Example: portcullis token create \"backup script\" --scope read --expires 90d")]
    Create(TokenCreateArgs),
    /// List the tokens: what they may do, when they were last used
    #[command(after_help = "Example: portcullis token ls")]
    Ls(TokenLsArgs),
    /// Take tokens back: they open nothing from then on
    #[command(after_help = "Example: portcullis token revoke 4k2m9xq7ab")]
    Revoke(TokenRevokeArgs),
}

#[derive(Debug, Args)]
pub(super) struct TokenCreateArgs {
    /// What you call it
    name: String,
    /// What it may do: read, share (make and close shares), or admin
    #[arg(long, value_name = "SCOPE", default_value = "share", value_parser = ["read", "share", "admin"], hide_possible_values = true)]
    scope: String,
    /// How long it is good, as 12h or 90d; without it until it is revoked
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    expires: Option<Duration>,
    /// Print everything that is known of it as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
pub(super) struct TokenLsArgs {
    /// Print a JSON array
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
pub(super) struct TokenRevokeArgs {
    /// The tokens' ids, as `portcullis token ls` shows them
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    server: ServerArgs,
}

/// What `sessions` is asked.
#[derive(Debug, Subcommand)]
pub(super) enum SessionsCommand {
    /// List the browsers that are signed in
    #[command(after_help = "Example: portcullis sessions ls")]
    Ls(SessionsLsArgs),
    /// Sign browsers out
    #[command(after_help = "Example: portcullis sessions revoke 3f9a0c41d2b85e77")]
    Revoke(SessionsRevokeArgs),
}

#[derive(Debug, Args)]
pub(super) struct SessionsLsArgs {
    /// Print a JSON array
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
pub(super) struct SessionsRevokeArgs {
    /// The browsers' ids, as `portcullis sessions ls` shows them
    #[arg(required_unless_present = "all", value_name = "ID")]
    ids: Vec<String>,
    /// Sign every browser out
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn token(command: TokenCommand, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    match command {
        TokenCommand::Create(args) => create_token(&args.server.client()?, &args, terminal).await,
        TokenCommand::Ls(args) => list_tokens(&args.server.client()?, args.json, terminal).await,
        TokenCommand::Revoke(args) => {
            let revoke = Ending { path: "/api/v1/tokens", done: "revoked" };
            revoke.each(&args.server.client()?, &args.ids, terminal).await
        }
    }
}

async fn create_token(client: &Client, args: &TokenCreateArgs, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let mut wish = json!({ "name": args.name, "scope": args.scope });
    if let Some(expires) = args.expires {
        wish["expires_in_seconds"] = expires.as_secs().into();
    }
    let json = client.post("/api/v1/tokens", &wish).await?;
    let token = ApiToken::deserialize(&json)?;
    if args.json {
        terminal.print_json(&json)?;
    } else if let Some(secret) = &token.token {
        terminal.print(secret)?;
    }
    let until = token.expires_at.as_deref().map_or("until it is revoked".to_owned(), |at| format!("until {}", time(at)));
    terminal.say(&format!(
        "Token {} ({}), scope {}, {until}. It is shown this once; give it as PORTCULLIS_TOKEN or `Authorization: Bearer`.",
        token.id, token.name, token.scope
    ));
    Ok(Exit::Done)
}

async fn list_tokens(client: &Client, is_json: bool, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let answer: Value = client.get("/api/v1/tokens").await?;
    if is_json {
        terminal.print_json(&answer["tokens"])?;
        return Ok(Exit::Done);
    }
    let columns = [
        Column::new("ID"),
        Column::new("SCOPE"),
        Column::new("MADE").unless_narrow(3),
        Column::new("EXPIRES").unless_narrow(2),
        Column::new("LAST USED").unless_narrow(1),
        Column::text("NAME"),
    ];
    let mut table = Table::new(columns);
    for token in Vec::<ApiToken>::deserialize(&answer["tokens"])? {
        let expires = token.expires_at.as_deref().map_or("never".to_owned(), time);
        let used = token.last_used_at.as_deref().map_or("never".to_owned(), time);
        table.row([token.id, token.scope, time(&token.created_at), expires, used, token.name]);
    }
    list::show(&table, "There is no token.", terminal)?;
    Ok(Exit::Done)
}

pub(super) async fn sessions(command: SessionsCommand, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    match command {
        SessionsCommand::Ls(args) => list_sessions(&args.server.client()?, args.json, terminal).await,
        SessionsCommand::Revoke(args) if args.all => {
            let answer = args.server.client()?.delete("/api/v1/sessions").await?;
            terminal.print(&format!("Signed out: {}", answer["signed_out"].as_u64().unwrap_or(0)))?;
            Ok(Exit::Done)
        }
        SessionsCommand::Revoke(args) => {
            let sign_out = Ending { path: "/api/v1/sessions", done: "signed out" };
            sign_out.each(&args.server.client()?, &args.ids, terminal).await
        }
    }
}

async fn list_sessions(client: &Client, is_json: bool, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let answer: Value = client.get("/api/v1/sessions").await?;
    if is_json {
        terminal.print_json(&answer["sessions"])?;
        return Ok(Exit::Done);
    }
    let columns = [
        Column::new("ID"),
        Column::new("LAST SEEN").unless_narrow(1),
        Column::new("ENDS").unless_narrow(3),
        Column::new("FROM").unless_narrow(2),
        Column::text("BROWSER"),
    ];
    let mut table = Table::new(columns);
    for browser in Vec::<Browser>::deserialize(&answer["sessions"])? {
        let this = if browser.is_current { " (this one)" } else { "" };
        let from = browser.address.unwrap_or_else(|| "this machine".to_owned());
        table.row([browser.id, time(&browser.last_seen_at), time(&browser.expires_at), from, browser.agent + this]);
    }
    list::show(&table, "No browser is signed in.", terminal)?;
    Ok(Exit::Done)
}

/// Ends what is named by ids, each by itself: one wrong id keeps no other from being ended.
struct Ending {
    path: &'static str,
    done: &'static str,
}

impl Ending {
    async fn each(&self, client: &Client, ids: &[String], terminal: &mut Terminal) -> anyhow::Result<Exit> {
        let mut exit = Exit::Done;
        for id in ids {
            match client.delete(&format!("{}/{}", self.path, encoded(id))).await {
                Ok(_) => terminal.print(&format!("{id}  {}", self.done))?,
                Err(error) if error.is_refusal() => {
                    terminal.say_error(&anyhow::Error::from(error).context(id.clone()));
                    exit = Exit::Error;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(exit)
    }
}

pub(super) async fn sign_in(client: &Client, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let link: SignInLink = client.sign_in_link().await?;
    terminal.print(&link.url)?;
    Ok(Exit::Done)
}

pub(super) async fn healthcheck(client: &Client, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    client.health().await?;
    terminal.print("healthy")?;
    Ok(Exit::Done)
}
