//! What requests with an `Idempotency-Key` set out to do, in the file.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::writer::Undone;
use crate::share::Steady;
use crate::store::{MAX_PLANS, Plan};

/// The question for every plan, in the order in which they came.
pub(super) const IN_ORDER: &str = "SELECT key, wish, ids, is_done, since_ms FROM plan ORDER BY number";

/// Keeps a plan, or returns the one that has its key.
pub(super) fn put(connection: &Connection, plan: Plan, forget_before: Steady) -> Result<Plan, Undone> {
    connection.prepare_cached("DELETE FROM plan WHERE since_ms < ?1")?.execute([forget_before.0])?;
    let mut known = connection.prepare_cached("SELECT key, wish, ids, is_done, since_ms FROM plan WHERE key = ?1")?;
    if let Some(known) = known.query_row([&plan.key], plan_of).optional()? {
        return Ok(known);
    }
    let ids = serde_json::to_string(&plan.ids).expect("a list of texts has a JSON form");
    let sql = "INSERT INTO plan (key, wish, ids, is_done, since_ms) VALUES (?1, ?2, ?3, ?4, ?5)";
    connection.prepare_cached(sql)?.execute(params![plan.key, plan.wish, ids, plan.is_done, plan.since.0])?;
    // A number that SQLite gives is larger than every other, so the smallest came first.
    connection.prepare_cached("DELETE FROM plan WHERE number <= (SELECT max(number) FROM plan) - ?1")?.execute([MAX_PLANS as i64])?;
    Ok(plan)
}

/// Notes that all of a plan was done.
pub(super) fn is_done(connection: &Connection, key: &str) -> Result<(), Undone> {
    connection.prepare_cached("UPDATE plan SET is_done = 1 WHERE key = ?1")?.execute([key])?;
    Ok(())
}

/// Forgets a plan unless it was done.
pub(super) fn drop_undone(connection: &Connection, key: &str) -> Result<(), Undone> {
    connection.prepare_cached("DELETE FROM plan WHERE key = ?1 AND is_done = 0")?.execute([key])?;
    Ok(())
}

pub(super) fn plan_of(row: &Row<'_>) -> rusqlite::Result<Plan> {
    let ids: String = row.get(2)?;
    let ids = serde_json::from_str(&ids)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(2, rusqlite::types::Type::Text, Box::new(error)))?;
    Ok(Plan { key: row.get(0)?, wish: row.get(1)?, ids, is_done: row.get(3)?, since: Steady(row.get(4)?) })
}
