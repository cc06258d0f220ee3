//! `portcullis stats`: what happened over days, with small plots on a screen.

use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use super::Exit;
use super::answers::{Day, Stats};
use super::client::Client;
use super::list::Query;
use super::plot;
use super::server::ServerArgs;
use super::table::{Column, Table};
use super::terminal::Terminal;
use super::text::{When, fitted, parse_when, size, width, wrapped};
use crate::clock::{Clock, SystemClock};

/// How wide a plot is at most, bars and columns: wider says no more.
const MAX_PLOT_COLUMNS: usize = 60;
/// How high the plot of days is, in rows of eight steps each.
const PLOT_ROWS: usize = 4;

/// What `stats` is asked.
#[derive(Debug, Args)]
pub(super) struct StatsArgs {
    /// The first day: 2026-11-01, or 30d (ago); without it the last 30 days
    #[arg(long, value_name = "DAY", value_parser = parse_when)]
    from: Option<When>,
    /// The last day; without it today
    #[arg(long, value_name = "DAY", value_parser = parse_when)]
    to: Option<When>,
    /// Print everything that is known as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

pub(super) async fn run(client: &Client, args: &StatsArgs, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let now = SystemClock::starting_after(None).now().wall;
    let mut query = Query::new("/api/v1/stats");
    query.set("from", args.from.as_ref().map(|when| when.before(now)).as_deref());
    query.set("to", args.to.as_ref().map(|when| when.before(now)).as_deref());
    let json: Value = client.get(&query.whole()).await?;
    if args.json {
        terminal.print_json(&json)?;
    } else {
        let stats = Stats::deserialize(&json)?;
        terminal.print_lines(&lines(&stats, terminal.screen().map(|screen| screen.columns)))?;
    }
    Ok(Exit::Done)
}

/// Returns what is printed: with plots where a screen is so many columns wide, else numbers alone.
fn lines(stats: &Stats, columns: Option<usize>) -> Vec<String> {
    let mut lines: Vec<String> = summary(stats).iter().flat_map(|sentence| wrapped(sentence, columns)).collect();
    let mut section = |title: &str, part: Vec<String>| {
        if !part.is_empty() {
            lines.extend([String::new(), title.to_owned()].into_iter().chain(part));
        }
    };
    section("Delivered per day", days(&stats.days, columns));
    let outcomes: Vec<_> = stats.shares.outcomes.iter().map(|(name, count)| (name.replace('_', " "), *count, count.to_string())).collect();
    section("How shares ended", bars(outcomes, columns));
    let speeds = [("median", stats.transfers.median_bytes_per_second), ("95 % below", stats.transfers.p95_bytes_per_second)];
    let speeds = speeds.into_iter().filter_map(|(name, speed)| speed.map(|speed| (name.to_owned(), speed, format!("{}/s", size(speed)))));
    section("Speed of a download", bars(speeds.collect(), columns));
    let files = stats.top_files.iter().map(|file| (file.path.clone(), file.downloads, file.delivered_bytes));
    section("Files", tallies(files, columns));
    let networks = stats.networks.iter().map(|network| (network.network.clone(), network.downloads, network.delivered_bytes));
    section("Networks", tallies(networks, columns));
    lines
}

fn summary(stats: &Stats) -> [String; 3] {
    let (shares, transfers) = (&stats.shares, &stats.transfers);
    let success = shares.success_percent.map(|percent| format!(", {percent} % of them delivered")).unwrap_or_default();
    let given_back = if transfers.given_back > 0 { format!(", {} given back", transfers.given_back) } else { String::new() };
    [
        format!("{} to {} (UTC)", stats.from, stats.to),
        format!("Shares: {} made, {} closed{success}.", shares.made, shares.closed),
        format!(
            "Downloads: {} begun, {} completed{given_back}; {} delivered.",
            transfers.redeemed,
            transfers.completed,
            size(transfers.delivered_bytes)
        ),
    ]
}

fn days(days: &[Day], columns: Option<usize>) -> Vec<String> {
    let busy = days.iter().filter(|day| day.completed > 0 || day.delivered_bytes > 0);
    let Some(columns) = columns else {
        let mut table = Table::new([Column::new("DAY"), Column::number("COMPLETED"), Column::number("DELIVERED")]);
        busy.for_each(|day| table.row([day.day.clone(), day.completed.to_string(), size(day.delivered_bytes)]));
        return if table.is_empty() { Vec::new() } else { table.lines(None) };
    };
    if busy.count() == 0 {
        return Vec::new();
    }
    let bytes: Vec<u64> = days.iter().map(|day| day.delivered_bytes).collect();
    let room = columns.clamp(1, MAX_PLOT_COLUMNS);
    let plot = plot::columns(&bytes, room, PLOT_ROWS);
    let most = plot.most;
    let per = if plot.per_column == 1 { "a day".to_owned() } else { format!("{} days", plot.per_column) };
    let mut lines = plot.rows;
    if let (Some(first), Some(last)) = (days.first(), days.last()) {
        let gap = plot.width.saturating_sub(first.day.len() + last.day.len());
        let axis = if gap > 0 { format!("{}{}{}", first.day, " ".repeat(gap), last.day) } else { format!("{} to {}", first.day, last.day) };
        lines.extend(wrapped(&axis, Some(columns)));
    }
    lines.extend(wrapped(&format!("(the highest: {} in {per})", size(most)), Some(columns)));
    lines
}

/// Returns a line for each value, with a bar on a screen.
fn bars(values: Vec<(String, u64, String)>, columns: Option<usize>) -> Vec<String> {
    if values.is_empty() {
        return Vec::new();
    }
    let most = values.iter().map(|(_, value, _)| *value).max().unwrap_or(0);
    let names = values.iter().map(|(name, ..)| width(name)).max().unwrap_or(0);
    let texts = values.iter().map(|(.., text)| width(text)).max().unwrap_or(0);
    let room = columns.map_or(0, |columns| columns.saturating_sub(names + texts + 4).min(MAX_PLOT_COLUMNS));
    let line = |(name, value, text): (String, u64, String)| {
        let numbers = format!("{name}{}  {}{text}", " ".repeat(names - width(&name)), " ".repeat(texts - width(&text)));
        let line = format!("{numbers}  {}", plot::bar(value, most, room));
        fitted(line.trim_end(), columns.unwrap_or(usize::MAX))
    };
    values.into_iter().map(line).collect()
}

fn tallies(values: impl Iterator<Item = (String, u64, u64)>, columns: Option<usize>) -> Vec<String> {
    let mut table = Table::new([Column::number("DOWNLOADS").unless_narrow(1), Column::number("DELIVERED"), Column::text("")]);
    for (name, downloads, bytes) in values {
        // What the store does not name one by one.
        let name = if name.is_empty() { "(all others)".to_owned() } else { name };
        table.row([downloads.to_string(), size(bytes), name]);
    }
    if table.is_empty() { Vec::new() } else { table.lines(columns) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats() -> Stats {
        let days: Vec<Value> = (1..=30)
            .map(|day| serde_json::json!({ "day": format!("2026-11-{day:02}"), "made": 1, "completed": day % 3, "delivered_bytes": (day % 3) * 600_000 }))
            .collect();
        serde_json::from_value(serde_json::json!({
            "from": "2026-11-01", "to": "2026-11-30",
            "shares": { "made": 30, "closed": 29, "outcomes": { "completed": 20, "timed_out": 9 }, "success_percent": 68 },
            "transfers": { "redeemed": 31, "completed": 30, "given_back": 1, "delivered_bytes": 18_000_000,
                           "median_bytes_per_second": 1_000_000, "p95_bytes_per_second": 4_000_000 },
            "days": days,
            "top_files": [{ "path": "film/holi\u{1b}day.mp4", "name": "x", "downloads": 4, "delivered_bytes": 4_000_000 }],
            "networks": [{ "network": "203.0.113.0/24", "downloads": 4, "delivered_bytes": 4_000_000 },
                         { "network": "", "downloads": 1, "delivered_bytes": 1_000_000 }],
        }))
        .unwrap()
    }

    #[test]
    fn a_pipe_gets_numbers_and_a_screen_gets_bars_that_fit() {
        let piped = lines(&stats(), None).join("\n");
        assert!(!piped.contains(['█', '▄']), "{piped}");
        for text in
            ["Shares: 30 made, 29 closed, 68 % of them delivered.", "Downloads: 31 begun, 30 completed, 1 given back; 18 MB delivered."]
        {
            assert!(piped.contains(text), "{piped}");
        }
        assert!(piped.contains("2026-11-02          2     1.2 MB") && !piped.contains("2026-11-03"), "{piped}");
        assert!(piped.contains("timed out   9") && piped.contains("median      1.0 MB/s"), "{piped}");
        assert!(piped.contains("203.0.113.0/24") && piped.contains("(all others)") && !piped.contains('\u{1b}'), "{piped}");
        for columns in [20, 40, 80, 200] {
            let shown = lines(&stats(), Some(columns));
            assert!(shown.iter().all(|line| width(line) <= columns), "{columns}: {shown:#?}");
            assert!(shown.join("\n").contains('█'), "{shown:#?}");
        }
    }

    #[test]
    fn nothing_makes_no_plot() {
        let mut stats = stats();
        stats.days.iter_mut().for_each(|day| (day.completed, day.delivered_bytes) = (0, 0));
        (stats.top_files, stats.networks) = (Vec::new(), Vec::new());
        stats.shares.outcomes.clear();
        (stats.transfers.median_bytes_per_second, stats.transfers.p95_bytes_per_second) = (None, None);
        assert_eq!(lines(&stats, Some(80)).len(), 3);
    }
}
