//! What stands behind the `?` of an address, and in its path.

use crate::http::problem::Problem;
use crate::share::{ShareId, Timestamp, TransferId};

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
