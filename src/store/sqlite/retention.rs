//! Forgetting what is over for long enough: closed shares with their links and lines, old audit lines, old tallies.

use rusqlite::{Connection, OptionalExtension, params};

use super::writer::{Undone, add_to_meta};
use super::{audit, stats};
use crate::share::Timestamp;
use crate::store::stats::Day;
use crate::store::{Forgotten, audit as log};

/// The most rows that one call removes: some tens of milliseconds, for which the saves of others wait.
pub(super) const MAX_ROWS: usize = 2000;

/// Forgets what was over before `before`, up to the bound.
pub(super) fn forget(connection: &Connection, before: Timestamp) -> Result<Forgotten, Undone> {
    let mut forgotten = Forgotten::default();
    let mut left = MAX_ROWS;
    while left > 0
        && let Some(share) = share_to_forget(connection, before, &mut forgotten, &mut left)?
    {
        let lines = forget_lines(connection, &share, left)?;
        forgotten.events += lines as u64;
        left = left.saturating_sub(lines);
        if left > 0 {
            connection.prepare_cached("DELETE FROM forgetting WHERE share = ?1")?.execute([&share])?;
        }
    }
    if left > 0 {
        forgotten.audit_lines = forget_audit(connection, before, left)?;
        left = left.saturating_sub(forgotten.audit_lines as usize);
    }
    if left > 0 {
        left = left.saturating_sub(stats::forget(connection, Day::of(before), left)?);
    }
    if left > 0 {
        left = left.saturating_sub(forget_times(connection, before, left)?);
    }
    forgotten.is_more = left == 0;
    Ok(forgotten)
}

/// Returns the share whose lines go next. Its row and its links are gone then: from there on nobody finds half of it.
fn share_to_forget(
    connection: &Connection,
    before: Timestamp,
    forgotten: &mut Forgotten,
    left: &mut usize,
) -> rusqlite::Result<Option<String>> {
    let begun = "SELECT share FROM forgetting LIMIT 1";
    if let Some(share) = connection.prepare_cached(begun)?.query_row([], |row| row.get(0)).optional()? {
        return Ok(Some(share));
    }
    let oldest = "SELECT id FROM share INDEXED BY share_by_end WHERE closed_ms < ?1 ORDER BY closed_ms LIMIT 1";
    let Some(share): Option<String> = connection.prepare_cached(oldest)?.query_row([before.0], |row| row.get(0)).optional()? else {
        return Ok(None);
    };
    connection.prepare_cached("INSERT INTO forgetting (share) VALUES (?1)")?.execute([&share])?;
    connection.prepare_cached("DELETE FROM share WHERE id = ?1")?.execute([&share])?;
    let links = connection.prepare_cached("DELETE FROM link WHERE share = ?1")?.execute([&share])?;
    add_to_meta(connection, "shares", -1)?;
    forgotten.shares += 1;
    *left = left.saturating_sub(1 + links);
    Ok(Some(share))
}

fn forget_lines(connection: &Connection, share: &str, most: usize) -> rusqlite::Result<usize> {
    let sql = "DELETE FROM event WHERE seq IN (SELECT seq FROM event INDEXED BY event_of_share WHERE share = ?1 ORDER BY seq LIMIT ?2)";
    let lines = connection.prepare_cached(sql)?.execute(params![share, most as i64])?;
    add_to_meta(connection, "forgotten_events", lines as i64)?;
    Ok(lines)
}

/// Forgets the beginning of the audit log, notes where the rest begins, and writes a line that says so.
fn forget_audit(connection: &Connection, before: Timestamp, most: usize) -> Result<u64, Undone> {
    let sql = "SELECT seq, at_ms < ?1, action = ?2 FROM audit ORDER BY seq LIMIT ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![before.0, log::FORGOTTEN, most as i64])?;
    let (mut last, mut lines, mut is_worth_a_line) = (None, 0, false);
    while let Some(row) = rows.next()? {
        let (seq, is_old, tells_of_others): (i64, bool, bool) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if !is_old {
            break;
        }
        (last, lines) = (Some(seq), lines + 1);
        // Or each forgetting would leave a line for the next to forget, for ever.
        is_worth_a_line |= !tells_of_others;
    }
    let Some(last) = last.filter(|_| is_worth_a_line) else { return Ok(0) };
    let anchor = audit::mark_at(connection, last)?;
    audit::put_mark(connection, "anchor", anchor)?;
    connection.prepare_cached("DELETE FROM audit WHERE seq <= ?1")?.execute([last])?;
    // The wall clock, as SQLite reads it: whoever asks names only how old is too old.
    let now = "SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER)";
    let now = Timestamp(connection.prepare_cached(now)?.query_row([], |row| row.get(0))?);
    audit::append(connection, log::forgotten_up_to(anchor, now))?;
    Ok(lines)
}

/// Forgets where in the log times came, but for the newest note: the next one must lie behind every line.
fn forget_times(connection: &Connection, before: Timestamp, most: usize) -> rusqlite::Result<usize> {
    let sql = "DELETE FROM event_time WHERE at_ms IN
               (SELECT at_ms FROM event_time WHERE at_ms < ?1 AND at_ms < (SELECT max(at_ms) FROM event_time) ORDER BY at_ms LIMIT ?2)";
    connection.prepare_cached(sql)?.execute(params![before.0, most as i64])
}
