//! `portcullis show`: everything about one share, as sentences.

use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Exit;
use super::answers::{Answered, Share, Transfer};
use super::change::share_id;
use super::client::Client;
use super::server::ServerArgs;
use super::terminal::Terminal;
use super::text::{safe, size, time, wrapped};
use crate::http::words::{self, Language};

/// What `show` is asked.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// The share's id, as `portcullis ls` shows it
    id: String,
    /// Print {"share": …, "transfers": […]} as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

pub(super) async fn run(client: &Client, args: &ShowArgs, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let id = share_id(&args.id)?;
    let Answered { json, share } = client.share(id.as_str()).await?;
    let transfers: Value = client.get(&format!("/api/v1/shares/{id}/transfers")).await?;
    if args.json {
        terminal.print_json(&json!({ "share": json, "transfers": transfers["transfers"] }))?;
        return Ok(Exit::Done);
    }
    let transfers = Vec::<Transfer>::deserialize(&transfers["transfers"])?;
    let columns = terminal.screen().map(|screen| screen.columns);
    for (is_copied, line) in lines(&share, &transfers) {
        // What people copy stays in one piece: the terminal wraps it without a break in it.
        if is_copied { terminal.print(&line)? } else { terminal.print_lines(&indented(&line, columns))? }
    }
    Ok(Exit::Done)
}

/// Returns the lines, and of each whether it holds something to be copied.
fn lines(share: &Share, transfers: &[Transfer]) -> Vec<(bool, String)> {
    let sentence = |text: String| (false, text);
    let mut lines = vec![sentence(format!("{} ({})", share.name, size(share.size_bytes))), sentence(share.state_text.clone())];
    lines.extend(reach(share).map(sentence));
    lines.extend(share.policy_text.clone().map(sentence));
    lines.push(sentence(format!("Made {}, expires {}.", time(&share.created_at), time(&share.expires_at))));
    lines.extend(share.closed_at.as_deref().map(|at| sentence(format!("Closed {}.", time(at)))));
    lines.push((true, format!("File: {}", share.path)));
    lines.extend(share.sha256.as_ref().map(|sha256| (true, format!("SHA-256: {sha256}"))));
    lines.extend(share.note.as_ref().map(|note| sentence(format!("Your note: {note}"))));
    lines.extend(share.message.as_ref().map(|message| sentence(format!("To the recipient: {message}"))));
    lines.extend(share.url.as_ref().map(|url| (true, format!("Link: {url}"))));
    lines.extend(share.curl.as_ref().map(|curl| (true, format!("By shell: {curl}"))));
    if transfers.is_empty() {
        lines.push(sentence("Nobody has taken it.".to_owned()));
    }
    lines.extend(transfers.iter().map(|transfer| sentence(transfer_line(transfer, share.size_bytes))));
    lines
}

/// Says what whoever looked from the internet found.
fn reach(share: &Share) -> Option<String> {
    let is_closed = share.closed_at.is_some();
    match (share.tunnel.reachable.as_deref()?, &share.tunnel.reach_problem) {
        (_, Some(problem)) => Some(problem.clone()),
        ("yes", None) => Some(reach_text(false)),
        ("no", None) if is_closed => Some(reach_text(true)),
        _ => None,
    }
}

fn reach_text(is_closed: bool) -> String {
    words::reach_text(words::words(Language::English), is_closed).to_owned()
}

fn transfer_line(transfer: &Transfer, size_bytes: u64) -> String {
    let from = transfer.address.as_deref().unwrap_or("an unknown address");
    let delivered = format!("{} of {} ({} %)", size(transfer.delivered_bytes), size(size_bytes), transfer.percent);
    let how = match transfer.state.as_str() {
        "redeemed" => "opened the link and has not begun".to_owned(),
        "transferring" => format!("is downloading: {delivered}, {}/s", size(transfer.bytes_per_second)),
        "waiting" => format!("paused at {delivered}"),
        "completed" => format!("has all of it ({})", size(transfer.delivered_bytes)),
        "stalled" => format!("stalled at {delivered}"),
        "never_began" => "opened the link and never began".to_owned(),
        "stopped" => format!("was stopped at {delivered}"),
        "cut" => format!("was cut off at {delivered}"),
        other => format!("{other}: {delivered}"),
    };
    let agent = if transfer.agent.is_empty() { String::new() } else { format!(" with {}", transfer.agent) };
    let ended = transfer.ended_at.as_deref().map(|at| format!(", ended {}", time(at))).unwrap_or_default();
    let given_back = if transfer.given_back { " The use was given back." } else { "" };
    format!("{from}{agent} {how}; began {}{ended}.{given_back}", time(&transfer.redeemed_at))
}

fn indented(line: &str, columns: Option<usize>) -> Vec<String> {
    let lines = wrapped(&safe(line), columns.map(|columns| columns.saturating_sub(2)));
    lines.into_iter().enumerate().map(|(at, line)| if at == 0 { line } else { format!("  {line}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(closed_at: Option<&str>, tunnel: Value) -> Option<String> {
        let share = json!({
            "id": "4mq8x2k9tz", "state": "offered", "state_text": "", "path": "", "name": "", "size_bytes": 1, "tunnel": tunnel,
            "policy": { "max_downloads": 1, "expires_in_seconds": 1 }, "progress": { "delivered_bytes": 0 },
            "created_at": "", "expires_at": "", "closed_at": closed_at,
        });
        reach(&Share::deserialize(&share).unwrap())
    }

    #[test]
    fn what_was_found_from_the_internet_is_said_and_nothing_where_nobody_looks() {
        let found = |reachable: &str, problem: Option<&str>| json!({ "backend": "x", "reachable": reachable, "reach_problem": problem });
        assert_eq!(said(None, json!({ "backend": "direct", "reachable": null, "reach_problem": null })), None);
        assert_eq!(said(None, json!({ "backend": "direct" })), None, "an older server says nothing of it");
        assert_eq!(said(None, found("yes", None)).as_deref(), Some("Reached from the internet."));
        assert_eq!(said(None, found("no", Some("Why not."))).as_deref(), Some("Why not."));
        let shut = "Looked at from the internet once it was closed: nobody gets in.";
        assert_eq!(said(Some("2026-01-01T00:00:00Z"), found("no", None)).as_deref(), Some(shut));
        assert_eq!(said(Some("2026-01-01T00:00:00Z"), found("yes", Some("Still."))).as_deref(), Some("Still."));
    }
}
