//! The audit log in the file.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::writer::Undone;
use super::{StoreError, refused};
use crate::share::Timestamp;
use crate::store::audit::{AuditEntry, AuditLine, AuditMark, AuditVerdict, Verifier};
use crate::store::page_limit;

const LINE: &str = "SELECT seq, at_ms, who, source, action, target, detail, previous, hash FROM audit";

/// Appends a line behind the newest, and makes it the newest.
pub(super) fn append(connection: &Connection, entry: AuditEntry) -> Result<AuditLine, Undone> {
    let last = last_mark(connection)?;
    let line = AuditLine::following(last.seq + 1, last.hash, entry);
    insert(connection, &line)?;
    put_mark(connection, "head", line.mark())?;
    Ok(line)
}

/// Writes a line that is chained already.
pub(super) fn insert(connection: &Connection, line: &AuditLine) -> rusqlite::Result<()> {
    let sql = "INSERT INTO audit (seq, at_ms, who, source, action, target, detail, previous, hash)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    let AuditEntry { at, who, from, action, target, detail } = &line.entry;
    let values = params![line.seq.cast_signed(), at.0, who, from, action, target, detail, line.previous, line.hash];
    connection.prepare_cached(sql)?.execute(values)?;
    Ok(())
}

/// Returns the question for every line, in order.
pub(super) fn in_order() -> String {
    format!("{LINE} ORDER BY seq")
}

/// Returns the place that the next line follows: the later of the newest line and the note of it. They differ only where
/// somebody else wrote, which must show and must not keep the owner out.
fn last_mark(connection: &Connection) -> rusqlite::Result<AuditMark> {
    let noted = mark(connection, "head")?.unwrap_or_default();
    let mut newest = connection.prepare_cached("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")?;
    let newest = newest.query_row([], mark_of).optional()?.unwrap_or_default();
    Ok(if newest.seq > noted.seq { newest } else { noted })
}

pub(super) fn page(connection: &Connection, before: Option<u64>, limit: usize) -> Result<Vec<AuditLine>, StoreError> {
    let before = before.map_or(i64::MAX, |before| i64::try_from(before).unwrap_or(i64::MAX));
    let sql = format!("{LINE} WHERE seq < ? ORDER BY seq DESC LIMIT ?");
    let mut statement = connection.prepare_cached(&sql).map_err(refused)?;
    let values = [Value::from(before), Value::from(page_limit(limit) as i64)];
    let rows = statement.query_map(params_from_iter(values), line_of).map_err(refused)?;
    rows.collect::<Result<_, _>>().map_err(refused)
}

/// Looks through the whole chain, as it stood at one instant.
pub(super) fn verify(connection: &Connection) -> Result<AuditVerdict, StoreError> {
    let snapshot = connection.unchecked_transaction().map_err(refused)?;
    let mut verifier = Verifier::behind(mark(&snapshot, "anchor").map_err(refused)?);
    let head = mark(&snapshot, "head").map_err(refused)?;
    let mut statement = snapshot.prepare(&in_order()).map_err(refused)?;
    let mut rows = statement.query([]).map_err(refused)?;
    while let Some(row) = rows.next().map_err(refused)? {
        verifier.see(&line_of(row).map_err(refused)?);
    }
    Ok(verifier.finish(head))
}

pub(super) fn mark(connection: &Connection, name: &str) -> rusqlite::Result<Option<AuditMark>> {
    let mut statement = connection.prepare_cached("SELECT seq, hash FROM audit_mark WHERE name = ?1")?;
    statement.query_row([name], mark_of).optional()
}

/// Returns the place of a line that there is.
pub(super) fn mark_at(connection: &Connection, seq: i64) -> rusqlite::Result<AuditMark> {
    connection.prepare_cached("SELECT seq, hash FROM audit WHERE seq = ?1")?.query_row([seq], mark_of)
}

fn mark_of(row: &Row<'_>) -> rusqlite::Result<AuditMark> {
    Ok(AuditMark { seq: row.get::<_, i64>(0)?.cast_unsigned(), hash: row.get(1)? })
}

pub(super) fn put_mark(connection: &Connection, name: &str, mark: AuditMark) -> rusqlite::Result<()> {
    let sql = "INSERT INTO audit_mark (name, seq, hash) VALUES (?1, ?2, ?3)
               ON CONFLICT (name) DO UPDATE SET seq = excluded.seq, hash = excluded.hash";
    connection.prepare_cached(sql)?.execute(params![name, mark.seq.cast_signed(), mark.hash])?;
    Ok(())
}

pub(super) fn line_of(row: &Row<'_>) -> rusqlite::Result<AuditLine> {
    let entry = AuditEntry {
        at: Timestamp(row.get(1)?),
        who: row.get(2)?,
        from: row.get(3)?,
        action: row.get(4)?,
        target: row.get(5)?,
        detail: row.get(6)?,
    };
    Ok(AuditLine { seq: row.get::<_, i64>(0)?.cast_unsigned(), entry, previous: row.get(7)?, hash: row.get(8)? })
}
