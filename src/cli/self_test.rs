//! `portcullis self-test`: the running server tries the whole way, and each step is printed.

use clap::Args;
use serde::Deserialize;
use serde_json::json;

use super::Exit;
use super::client::Client;
use super::server::ServerArgs;
use super::table::{Column, Table};
use super::terminal::Terminal;

/// What `self-test` is asked.
#[derive(Debug, Args)]
pub(super) struct SelfTestArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

#[derive(Debug, Deserialize)]
struct Verdict {
    passed: bool,
    by: String,
    evidence: Option<String>,
    note: Option<String>,
    steps: Vec<Step>,
}

#[derive(Debug, Deserialize)]
struct Step {
    name: String,
    duration_ms: u64,
    ok: bool,
    problem: Option<String>,
}

pub(super) async fn run(client: &Client, args: &SelfTestArgs, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let answer = client.post("/api/v1/self-test", &json!({})).await?;
    let verdict = Verdict::deserialize(&answer)?;
    if args.json {
        terminal.print_json(&answer)?;
    } else {
        let columns = terminal.screen().map(|screen| screen.columns);
        terminal.print_lines(&table(&verdict).lines(columns))?;
        // What is wrong stands whole, however narrow the table is.
        for problem in verdict.steps.iter().filter_map(|step| step.problem.as_deref()).chain(verdict.note.as_deref()) {
            terminal.say(problem);
        }
        terminal.say(summary(&verdict).as_str());
    }
    Ok(if verdict.passed { Exit::Done } else { Exit::Error })
}

fn table(verdict: &Verdict) -> Table {
    let mut table = Table::new([Column::new("STEP"), Column::number("MS"), Column::new("RESULT")]);
    for step in &verdict.steps {
        table.row([step.name.clone(), step.duration_ms.to_string(), if step.ok { "ok" } else { "FAILED" }.to_owned()]);
    }
    table
}

fn summary(verdict: &Verdict) -> String {
    let by = if verdict.by == "public" { "by the address that links have" } else { "at the server's own port" };
    match (&verdict.evidence, verdict.passed) {
        (Some(evidence), true) => format!("The whole way works, {by}; the byte counts as {}.", evidence.replace('_', " ")),
        (None, true) => format!("The whole way works, {by}."),
        (_, false) => "The self-test failed.".to_owned(),
    }
}
