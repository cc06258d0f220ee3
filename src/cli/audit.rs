//! `portcullis audit`: who did what, and whether that record is whole.

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Exit;
use super::answers::{AuditLine, AuditVerdict};
use super::client::Client;
use super::list::{self, Query};
use super::server::ServerArgs;
use super::table::{Column, Table};
use super::terminal::Terminal;
use super::text::time;
use crate::store::sqlite;

/// The most lines that are listed at once.
const MAX_LINES: u64 = 20_000;

/// What `audit` is asked.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct AuditArgs {
    #[command(subcommand)]
    command: Option<AuditCommand>,
    #[command(flatten)]
    ls: AuditLsArgs,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// List what was done, the latest first
    #[command(after_help = "Example: portcullis audit ls --limit 20")]
    Ls(AuditLsArgs),
    /// Look through the whole chain: whether a line was changed, removed or moved
    #[command(
        after_help = "Example: portcullis audit verify --head 120:5b1f…\nExit code 1 where the record is broken. Note the head that it prints elsewhere: \
                      with it, a log that was\ncut short or written anew is found too."
    )]
    Verify(AuditVerifyArgs),
}

#[derive(Debug, Args)]
struct AuditLsArgs {
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=MAX_LINES))]
    limit: u64,
    /// Print a JSON array of everything that is known
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
struct AuditVerifyArgs {
    /// A head that was noted before: that line must be there as it was
    #[arg(long, value_name = "SEQ:HASH", value_parser = parse_head)]
    head: Option<Head>,
    /// Read the state folder itself and ask no server
    #[arg(long)]
    offline: bool,
    /// Print the verdict as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// A line of the log, noted: its number and its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Head {
    seq: u64,
    hash: String,
}

fn parse_head(text: &str) -> Result<Head, String> {
    let hint = "write it as `portcullis audit verify` prints it: a number, a colon and 64 hexadecimal digits";
    let (seq, hash) = text.split_once(':').ok_or(hint)?;
    let is_hash = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    match seq.parse() {
        Ok(seq @ 1..) if is_hash => Ok(Head { seq, hash: hash.to_ascii_lowercase() }),
        _ => Err(hint.to_owned()),
    }
}

pub(super) async fn run(args: AuditArgs, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    match args.command {
        None => list_lines(&args.ls, terminal).await,
        Some(AuditCommand::Ls(args)) => list_lines(&args, terminal).await,
        Some(AuditCommand::Verify(args)) => verify(&args, terminal).await,
    }
}

async fn list_lines(args: &AuditLsArgs, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let client = args.server.client()?;
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let query = Query::new("/api/v1/audit");
    let mut lines: Vec<Value> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let page: Value = client.get(&query.page(cursor.as_deref(), limit - lines.len())).await?;
        lines.extend(page["lines"].as_array().into_iter().flatten().cloned());
        cursor = page["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() || lines.len() >= limit {
            break;
        }
    }
    if args.json {
        terminal.print_json(&lines.into())?;
    } else {
        let columns = [
            Column::number("LINE").unless_narrow(2),
            Column::new("WHEN").unless_narrow(1),
            Column::text("WHO"),
            Column::text("FROM").unless_narrow(3),
            Column::new("WHAT"),
            Column::text("TO").unless_narrow(5),
            Column::text("DETAIL").unless_narrow(4),
        ];
        let mut table = Table::new(columns);
        for line in lines {
            let AuditLine { seq, at, who, from, action, target, detail, .. } = AuditLine::deserialize(&line)?;
            table.row([seq.to_string(), time(&at), who, from, action, target, detail]);
        }
        list::show(&table, "Nothing was done yet.", terminal)?;
    }
    list::tell_more(cursor.is_some(), terminal);
    Ok(Exit::Done)
}

async fn verify(args: &AuditVerifyArgs, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let (json, verdict) = if args.offline { verdict_of_folder(args).await? } else { verdict_of_server(&args.server.client()?).await? };
    let noted = match &args.head {
        Some(noted) => compare(noted, &verdict, args).await?,
        None => None,
    };
    if args.json {
        let mut json = json;
        json["noted"] = noted.as_ref().map_or(Value::Null, |sentence| json!(sentence));
        terminal.print_json(&json)?;
    } else {
        for line in words(&verdict, args.head.as_ref().filter(|_| noted.is_none())) {
            terminal.print(&line)?;
        }
        if let Some(sentence) = &noted {
            terminal.print(&format!("BROKEN against what you noted: {sentence}"))?;
        }
    }
    Ok(if verdict.broken.is_none() && noted.is_none() { Exit::Done } else { Exit::Error })
}

async fn verdict_of_server(client: &Client) -> anyhow::Result<(Value, AuditVerdict)> {
    let json: Value = client.get("/api/v1/audit/verify").await?;
    let verdict = AuditVerdict::deserialize(&json)?;
    Ok((json, verdict))
}

/// Looks through the log in the state folder itself, beside a server or without one.
async fn verdict_of_folder(args: &AuditVerifyArgs) -> anyhow::Result<(Value, AuditVerdict)> {
    let folder = args.server.state.folder();
    let shown = folder.display().to_string();
    let read = tokio::task::spawn_blocking(move || sqlite::verify_audit_of(&folder)).await?;
    let found = read.with_context(|| format!("reading the store in {shown}"))?;
    let json = json!({
        "is_intact": found.broken.is_none(), "lines": found.lines, "first_seq": found.first_seq,
        "head": found.head.map(|(seq, hash)| json!({ "seq": seq, "hash": hex(&hash) })),
        "broken": found.broken.map(|broken| json!({ "seq": broken.seq, "sentence": broken.sentence })),
    });
    let verdict = AuditVerdict::deserialize(&json)?;
    Ok((json, verdict))
}

/// Compares a line that was noted with the log. Returns what is wrong, as a sentence.
async fn compare(noted: &Head, verdict: &AuditVerdict, args: &AuditVerifyArgs) -> anyhow::Result<Option<String>> {
    let Head { seq, hash } = noted;
    let hash_there = match &verdict.head {
        Some(head) if head.seq == *seq => head.hash.clone(),
        Some(head) if head.seq > *seq => {
            if verdict.first_seq.is_some_and(|first| first > *seq) {
                bail!("line {seq} was forgotten when its time was over; note the head anew");
            }
            if args.offline {
                bail!("the log has grown since line {seq}; leave --offline out, so that the server is asked for that line");
            }
            hash_of(*seq, &args.server.client()?).await?
        }
        Some(head) => return Ok(Some(format!("the log ends at line {}; line {seq} is gone.", head.seq))),
        None => return Ok(Some(format!("the log is empty; line {seq} is gone."))),
    };
    Ok((hash_there != *hash).then(|| format!("line {seq} has another hash: what was done until then was written anew.")))
}

async fn hash_of(seq: u64, client: &Client) -> anyhow::Result<String> {
    let page: Value = client.get(&format!("/api/v1/audit?cursor={}&limit=1", seq.saturating_add(1))).await?;
    let line = AuditLine::deserialize(&page["lines"][0]).ok().filter(|line| line.seq == seq);
    Ok(line.with_context(|| format!("the server does not show line {seq}"))?.hash)
}

fn words(verdict: &AuditVerdict, noted: Option<&Head>) -> Vec<String> {
    let mut lines = Vec::new();
    match (&verdict.broken, verdict.first_seq) {
        (Some(broken), _) => lines.push(format!("BROKEN at line {}: {}", broken.seq, broken.sentence)),
        (None, None) => lines.push("The record is whole: nothing was done yet.".to_owned()),
        (None, Some(1)) => lines.push(format!("The record is whole: {} lines, from the first on.", verdict.lines)),
        (None, Some(first)) => {
            lines.push(format!("The record is whole: {} lines, from line {first} on; those before were forgotten in time.", verdict.lines));
        }
    }
    if let Some(noted) = noted {
        lines.push(format!("Line {} is as you noted it.", noted.seq));
    }
    lines.extend(verdict.head.as_ref().map(|head| format!("Head: {}:{}", head.seq, head.hash)));
    lines
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_a_number_and_a_hash() {
        let hash = "AB".repeat(32);
        assert_eq!(parse_head(&format!("120:{hash}")), Ok(Head { seq: 120, hash: hash.to_lowercase() }));
        for wrong in ["", "120", &format!("0:{hash}"), &format!("-1:{hash}"), "1:abc", &format!("1:{}", "g".repeat(64))] {
            assert!(parse_head(wrong).is_err(), "{wrong}");
        }
    }
}
