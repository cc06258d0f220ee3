//! What happened over days.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::OwnerSide;
use super::query::{bad, day as day_of, given};
use super::wire::day;
use crate::http::problem::Problem;
use crate::share::{CatalogPath, Outcome};
use crate::store::{Day, DayStats, MAX_STATS_DAYS, Stats, Tally};

/// How many days are looked back where it is not said, today among them.
const DEFAULT_DAYS: i64 = 30;

#[derive(Debug, Deserialize)]
pub(super) struct Params {
    from: Option<String>,
    to: Option<String>,
}

/// What happened in a span of days, both ends included.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Stats)]
pub(super) struct StatsJson {
    from: String,
    to: String,
    shares: SharesJson,
    transfers: TransfersJson,
    /// Every day of the span, in order.
    days: Vec<DayJson>,
    /// What was downloaded most.
    top_files: Vec<FileJson>,
    /// Whose recipients downloaded most.
    networks: Vec<NetworkJson>,
}

/// What became of shares.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StatsOfShares)]
struct SharesJson {
    made: u64,
    closed: u64,
    /// How many closed how.
    outcomes: HashMap<String, u64>,
    /// How many of those that closed were completed; `null`: none closed.
    success_percent: Option<u64>,
}

/// What became of transfers.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StatsOfTransfers)]
struct TransfersJson {
    redeemed: u64,
    completed: u64,
    given_back: u64,
    delivered_bytes: u64,
    median_bytes_per_second: Option<u64>,
    p95_bytes_per_second: Option<u64>,
}

/// What happened in a day.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StatsOfDay)]
struct DayJson {
    day: String,
    made: u64,
    completed: u64,
    delivered_bytes: u64,
    /// How many shares closed.
    closed: u64,
    /// How many closed how.
    outcomes: HashMap<String, u64>,
    /// Half of the transfers that completed were slower; `null`: none completed of which the speed is known.
    median_bytes_per_second: Option<u64>,
}

/// How often a file was downloaded.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StatsOfFile)]
struct FileJson {
    path: String,
    name: String,
    downloads: u64,
    delivered_bytes: u64,
}

/// How often recipients of a network downloaded.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StatsOfNetwork)]
struct NetworkJson {
    network: String,
    downloads: u64,
    delivered_bytes: u64,
}

/// Answers `GET /api/v1/stats`.
pub(super) async fn stats(State(side): State<Arc<OwnerSide>>, Query(params): Query<Params>) -> Result<Json<StatsJson>, Problem> {
    let (from, to) = span(&params, Day::of(side.clock.now().wall))?;
    Ok(Json(json_of(from, to, side.store.stats(from, to).await?)))
}

/// Reads which days are asked for, both included.
fn span(params: &Params, today: Day) -> Result<(Day, Day), Problem> {
    let to = given(&params.to).map(|text| day_of("to", text)).transpose()?.unwrap_or(today);
    let from = given(&params.from).map(|text| day_of("from", text)).transpose()?.unwrap_or(Day(to.0 - (DEFAULT_DAYS - 1)));
    if from > to {
        return Err(bad("from must not lie behind to."));
    }
    if to.0 - from.0 >= MAX_STATS_DAYS {
        return Err(bad(format!("from and to may lie at most {MAX_STATS_DAYS} days apart, both included.")));
    }
    Ok((from, to))
}

fn json_of(from: Day, to: Day, stats: Stats) -> StatsJson {
    let closed = closed(&stats.outcomes);
    let completed = stats.outcomes.iter().filter(|(outcome, _)| outcome == Outcome::Completed.as_str()).map(|(_, count)| count).sum();
    let mut known: HashMap<Day, DayStats> = stats.days.into_iter().map(|day| (day.day, day)).collect();
    StatsJson {
        from: day(from),
        to: day(to),
        shares: SharesJson {
            made: stats.made,
            closed,
            outcomes: stats.outcomes.into_iter().collect(),
            success_percent: percent(completed, closed),
        },
        transfers: TransfersJson {
            redeemed: stats.redeemed,
            completed: stats.completed,
            given_back: stats.given_back,
            delivered_bytes: stats.delivered_bytes,
            median_bytes_per_second: stats.median_bytes_per_second,
            p95_bytes_per_second: stats.p95_bytes_per_second,
        },
        days: (from.0..=to.0).map(|number| day_json(Day(number), known.remove(&Day(number)))).collect(),
        top_files: stats.top_files.into_iter().map(file_json).collect(),
        networks: stats.networks.into_iter().map(network_json).collect(),
    }
}

/// Returns how many closed, one way or the other.
fn closed(outcomes: &[(String, u64)]) -> u64 {
    outcomes.iter().map(|(_, count)| count).sum()
}

/// Returns how many of a hundred, to the nearest.
fn percent(part: u64, whole: u64) -> Option<u64> {
    let (part, whole) = (u128::from(part), u128::from(whole));
    (part * 200 + whole).checked_div(whole * 2).map(|percent| u64::try_from(percent).unwrap_or(100))
}

fn day_json(number: Day, stats: Option<DayStats>) -> DayJson {
    let stats = stats.unwrap_or_else(|| DayStats::nothing(number));
    let DayStats { day: number, made, completed, delivered_bytes, outcomes, median_bytes_per_second } = stats;
    DayJson {
        day: day(number),
        made,
        completed,
        delivered_bytes,
        closed: closed(&outcomes),
        outcomes: outcomes.into_iter().collect(),
        median_bytes_per_second,
    }
}

fn file_json(Tally { name: path, downloads, delivered_bytes }: Tally) -> FileJson {
    let name = CatalogPath::parse(&path).map_or_else(|_| path.clone(), |path| path.name());
    FileJson { path, name, downloads, delivered_bytes }
}

fn network_json(Tally { name, downloads, delivered_bytes }: Tally) -> NetworkJson {
    NetworkJson { network: name, downloads, delivered_bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span_of(from: &str, to: &str) -> Result<(String, String), String> {
        let params = Params { from: Some(from.to_owned()), to: Some(to.to_owned()) };
        let today = day_of("today", "2026-11-21").unwrap();
        span(&params, today).map(|(from, to)| (day(from), day(to))).map_err(|problem| problem.code().to_owned())
    }

    #[test]
    fn a_span_is_a_month_unless_it_is_said_and_a_year_at_most() {
        let days = |from: &str, to: &str| Ok((from.to_owned(), to.to_owned()));
        let wrong = || Err("bad_query".to_owned());
        for (from, to, expected) in [
            ("", "", days("2026-10-23", "2026-11-21")),
            ("2026-11-01", "", days("2026-11-01", "2026-11-21")),
            ("", "2026-01-30", days("2026-01-01", "2026-01-30")),
            ("2026-11-01T23:30:00-01:00", "2026-11-02", days("2026-11-02", "2026-11-02")),
            ("2024-01-01", "2025-01-01", days("2024-01-01", "2025-01-01")),
            ("2024-01-01", "2025-01-02", wrong()),
            ("2026-11-22", "2026-11-21", wrong()),
            ("yesterday", "", wrong()),
        ] {
            assert_eq!(span_of(from, to), expected, "{from} {to}");
        }
    }

    #[test]
    fn a_share_of_none_is_no_percentage() {
        assert_eq!((percent(0, 0), percent(7, 10), percent(2, 3), percent(1, 1000)), (None, Some(70), Some(67), Some(0)));
    }
}
