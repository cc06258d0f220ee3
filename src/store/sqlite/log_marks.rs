//! How far logs were followed, in the file. A mark is one row: its place and its counts cannot be of two instants.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::writer::Undone;
use super::{StoreError, refused};
use crate::store::{LogMark, MAX_LOGS};

/// The question for every mark and its log, in the order in which they were marked.
pub(super) const IN_ORDER: &str = "SELECT body, log FROM log_mark ORDER BY number";

/// Keeps the mark of a log in place of the one before it.
pub(super) fn put(connection: &Connection, log: &str, mark: &LogMark) -> Result<(), Undone> {
    let body = serde_json::to_string(mark).expect("a mark has a JSON form");
    // Replaced and not updated, since a new row gets a larger number than every other: the smallest were marked longest ago.
    connection.prepare_cached("INSERT OR REPLACE INTO log_mark (log, body) VALUES (?1, ?2)")?.execute(params![log, body])?;
    let sql = "DELETE FROM log_mark WHERE number IN (SELECT number FROM log_mark ORDER BY number DESC LIMIT -1 OFFSET ?1)";
    connection.prepare_cached(sql)?.execute([MAX_LOGS as i64])?;
    Ok(())
}

/// Returns the mark of a log.
pub(super) fn of(connection: &Connection, log: &str) -> Result<Option<LogMark>, StoreError> {
    let mut mark = connection.prepare_cached("SELECT body FROM log_mark WHERE log = ?1").map_err(refused)?;
    mark.query_row([log], mark_of).optional().map_err(refused)
}

pub(super) fn mark_of(row: &Row<'_>) -> rusqlite::Result<LogMark> {
    let body: String = row.get(0)?;
    serde_json::from_str(&body).map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error)))
}
