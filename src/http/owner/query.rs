//! What stands behind the `?` of an address, and in its path.

use crate::http::problem::Problem;
use crate::share::{ShareId, Timestamp, TransferId};
use crate::store::Day;

/// Reads how many items a page shall have: `default` where it is not said, at most `max`.
pub(super) fn limit(text: Option<&str>, default: usize, max: usize) -> Result<usize, Problem> {
    match text {
        None | Some("") => Ok(default),
        Some(text) => match text.parse::<usize>() {
            Ok(limit) if limit > 0 => Ok(limit.min(max)),
            _ => Err(bad("limit must be a whole number, 1 or more.")),
        },
    }
}

/// Reads a time as RFC 3339 writes it.
pub(super) fn time(name: &str, text: &str) -> Result<Timestamp, Problem> {
    parse_time(text).ok_or_else(|| bad(format!("{name} must be a time as in 2030-01-31T18:00:00Z.")))
}

/// Which end of a day is meant where a day stands for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edge {
    /// Where it begins.
    Start,
    /// Where the next one begins: the day is included.
    End,
}

/// Reads a time as RFC 3339 writes it, or a day in UTC as `2026-11-01`.
pub(super) fn moment(name: &str, text: &str, edge: Edge) -> Result<Timestamp, Problem> {
    let of_day = |day: Day| match edge {
        Edge::Start => start_of(day),
        Edge::End => start_of(Day(day.0.saturating_add(1))),
    };
    let wrong = || bad(format!("{name} must be a day as in 2030-01-31, or a time as in 2030-01-31T18:00:00Z."));
    parse_day(text).map(of_day).or_else(|| parse_time(text)).ok_or_else(wrong)
}

/// Reads a day as `2026-11-01`, or the day in UTC that a time lies in.
pub(super) fn day(name: &str, text: &str) -> Result<Day, Problem> {
    Ok(Day::of(moment(name, text, Edge::Start)?))
}

fn parse_day(text: &str) -> Option<Day> {
    let date: jiff::civil::Date = Some(text).filter(|text| text.len() == "2026-11-01".len())?.parse().ok()?;
    let midnight = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    Some(Day::of(Timestamp(midnight.as_millisecond())))
}

fn start_of(day: Day) -> Timestamp {
    Timestamp(day.0.saturating_mul(24 * 3600 * 1000))
}

/// Reads a time as RFC 3339 writes it; `None` where it is none.
pub(super) fn parse_time(text: &str) -> Option<Timestamp> {
    text.parse::<jiff::Timestamp>().ok().map(|time| Timestamp(time.as_millisecond()))
}

/// Reads the id of a share. A text that is none names no share.
pub(in crate::http) fn share_id(text: &str) -> Result<ShareId, Problem> {
    text.parse().map_err(|_| Problem::not_found("unknown_share", "There is no such share."))
}

/// Reads the id of a transfer. A text that is none names no transfer.
pub(super) fn transfer_id(text: &str) -> Result<TransferId, Problem> {
    text.parse().map_err(|_| Problem::not_found("unknown_transfer", "There is no such transfer."))
}

/// Says that a parameter of the query makes no sense.
pub(super) fn bad(detail: impl Into<String>) -> Problem {
    Problem::unprocessable("bad_query", detail)
}

/// Returns what a parameter says, where it says anything.
pub(super) fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_or_a_time_is_read_and_nothing_else() {
        let hours = |n: i64| Timestamp(n * 3_600_000);
        for (text, edge, at) in [
            ("1970-01-02", Edge::Start, Some(hours(24))),
            ("1970-01-02", Edge::End, Some(hours(48))),
            ("1970-01-02T03:00:00Z", Edge::Start, Some(hours(27))),
            ("1970-01-02T03:00:00+02:00", Edge::End, Some(hours(25))),
            ("1969-12-31", Edge::End, Some(hours(0))),
            ("1970-02-30", Edge::Start, None),
            ("1970-1-2", Edge::Start, None),
            ("1970-01-02T03:00", Edge::Start, None),
            ("yesterday", Edge::Start, None),
            ("19700102", Edge::Start, None),
            ("", Edge::Start, None),
        ] {
            assert_eq!(moment("since", text, edge).ok(), at, "{text}");
        }
        assert_eq!(day("from", "1970-01-02T23:59:59.999Z").unwrap(), Day(1));
        assert!(moment("since", "9999-12-30", Edge::End).is_ok());
    }
}
