//! What is asked of the file about shares and events. Every page is read along an index, so that what it costs depends on
//! what is on it and not on how much there is; `cost_tests.rs` counts that.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};

use super::refused;
use crate::share::{SELF_TEST_PATH, Share, Timestamp};
use crate::store::{EventQuery, Record, ShareQuery, StoreError, folded, page_limit};

/// How far apart the notes lie of where in the event log a time first came: a search by time begins at most so many
/// milliseconds, and in a burst at most so many lines, too early.
const TIME_STEP_MS: i64 = 10 * 60 * 1000;
const TIME_STEP_LINES: i64 = 128;

/// A statement that grows.
struct Sql {
    text: String,
    values: Vec<Value>,
}

impl Sql {
    fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), values: Vec::new() }
    }

    fn add(&mut self, text: &str, values: impl IntoIterator<Item = Value>) {
        self.text += text;
        self.values.extend(values);
    }
}

pub(super) fn page_of_shares(connection: &Connection, query: &ShareQuery) -> Result<Vec<Share>, StoreError> {
    match shares_sql(connection, query).map_err(refused)? {
        Some(sql) => shares_by(connection, &sql.text, sql.values),
        None => Ok(Vec::new()),
    }
}

/// Writes down a page of shares; `None` where it is empty for sure.
fn shares_sql(connection: &Connection, query: &ShareQuery) -> rusqlite::Result<Option<Sql>> {
    // Only one index has the paths beside the states.
    let index = match (query.outcome, query.closed, &query.path_contains) {
        (Some(_), ..) => "share_by_outcome",
        (None, Some(_), None) => "share_by_state",
        (None, None, _) | (None, Some(_), Some(_)) => "share_by_age",
    };
    let mut sql = Sql::new(format!("SELECT body FROM share INDEXED BY {index} WHERE TRUE"));
    if let Some(outcome) = query.outcome {
        sql.add(" AND outcome = ?", [Value::from(outcome.as_str().to_owned())]);
    }
    match (query.outcome, query.closed) {
        (Some(_), Some(false)) => return Ok(None),
        (None, Some(closed)) => sql.add(" AND closed = ?", [Value::from(closed)]),
        (Some(_), None | Some(true)) | (None, None) => {}
    }
    // The order is that of the steady clock. What is asked of the wall clock bounds it as well, by how far the two ever
    // were apart: so a page far back is not searched for from the newest share on.
    if let Some(since) = query.since {
        let Some(furthest) = skew(connection, "DESC")? else { return Ok(None) };
        sql.add(" AND made_ms >= ? AND created_ms >= ?", [since.0, since.0.saturating_sub(furthest)].map(Value::from));
    }
    // One end of the range, and not two of which the index is read from the later one on.
    let mut end: Option<(i64, String)> = None;
    if let Some(until) = query.until {
        let Some(least) = skew(connection, "ASC")? else { return Ok(None) };
        sql.add(" AND made_ms < ?", [Value::from(until.0)]);
        end = Some((until.0.saturating_sub(least), String::new()));
    }
    if let Some(before) = query.before {
        let mut statement = connection.prepare_cached("SELECT created_ms FROM share WHERE id = ?")?;
        // Nothing was made before a share that there is not.
        let Some(created) = statement.query_row([before.as_str()], |row| row.get(0)).optional()? else { return Ok(None) };
        let place = (created, before.to_string());
        end = Some(end.map_or(place.clone(), |end| end.min(place)));
    }
    if let Some((created, id)) = end {
        sql.add(" AND (created_ms, id) < (?, ?)", [Value::from(created), Value::from(id)]);
    }
    if let Some(text) = &query.path_contains {
        sql.add(" AND instr(path_folded, ?) > 0", [Value::from(folded(text))]);
    }
    // A real file's path may differ from it in case alone; the body is looked into for those that are left.
    sql.add(
        " AND (path_folded <> ? OR json_extract(body, '$.file.path') <> ?)",
        [folded(SELF_TEST_PATH), SELF_TEST_PATH.to_owned()].map(Value::from),
    );
    sql.add(" ORDER BY created_ms DESC, id DESC LIMIT ?", [Value::from(page_limit(query.limit) as i64)]);
    Ok(Some(sql))
}

/// Returns how far the wall clock was ahead of the steady one when a share was made: the most (`DESC`) or the least (`ASC`).
fn skew(connection: &Connection, order: &str) -> rusqlite::Result<Option<i64>> {
    let sql = format!("SELECT made_ms - created_ms FROM share ORDER BY made_ms - created_ms {order} LIMIT 1");
    connection.prepare_cached(&sql)?.query_row([], |row| row.get(0)).optional()
}

pub(super) fn shares_by(connection: &Connection, sql: &str, values: Vec<Value>) -> Result<Vec<Share>, StoreError> {
    let mut statement = connection.prepare_cached(sql).map_err(refused)?;
    let mut rows = statement.query(params_from_iter(values)).map_err(refused)?;
    let mut shares = Vec::new();
    while let Some(row) = rows.next().map_err(refused)? {
        shares.push(share_of(row.get_ref(0).map_err(refused)?.as_str().map_err(|error| refused(rusqlite::Error::from(error)))?)?);
    }
    Ok(shares)
}

pub(super) fn page_of_events(connection: &Connection, query: &EventQuery) -> Result<Vec<Record>, StoreError> {
    let sql = events_sql(connection, query).map_err(refused)?;
    let mut statement = connection.prepare_cached(&sql.text).map_err(refused)?;
    let mut rows = statement.query(params_from_iter(sql.values)).map_err(refused)?;
    let mut records = Vec::new();
    while let Some(row) = rows.next().map_err(refused)? {
        records.push(record_of(row)?);
    }
    Ok(records)
}

/// Writes down a page of the event log.
fn events_sql(connection: &Connection, query: &EventQuery) -> rusqlite::Result<Sql> {
    let after = i64::try_from(query.after).unwrap_or(i64::MAX);
    let after = after.max(query.since.map_or(Ok(0), |since| last_before(connection, since))?);
    let kinds = match (&query.kind, query.share) {
        (None, _) | (Some(_), Some(_)) => vec![None],
        (Some(kind), None) if kind.ends_with('.') => kinds_of(connection, kind)?.into_iter().map(Some).collect(),
        (Some(kind), None) => vec![Some(kind.clone())],
    };
    let limit = Value::from(page_limit(query.limit) as i64);
    let mut arms: Vec<Sql> = kinds.into_iter().map(|kind| arm(query, kind, after, &limit)).collect();
    if arms.len() == 1 {
        return Ok(arms.remove(0));
    }
    if arms.is_empty() {
        return Ok(Sql::new("SELECT seq, at_ms, share, body FROM event WHERE FALSE"));
    }
    // Each kind lies in order in its index, and of each no more than a page is read.
    let texts: Vec<String> = arms.iter().map(|arm| format!("SELECT * FROM ({})", arm.text)).collect();
    let mut all = Sql::new(texts.join(" UNION ALL "));
    all.values = arms.into_iter().flat_map(|arm| arm.values).collect();
    all.add(order(query), [limit]);
    Ok(all)
}

/// Writes down a page of one kind, or of all where none is given.
fn arm(query: &EventQuery, kind: Option<String>, after: i64, limit: &Value) -> Sql {
    let index = match (&kind, query.share) {
        (_, Some(_)) => "INDEXED BY event_of_share",
        (Some(_), None) => "INDEXED BY event_of_type",
        (None, None) => "NOT INDEXED",
    };
    let mut sql = Sql::new(format!("SELECT seq, at_ms, share, body FROM event {index} WHERE seq > ?"));
    sql.values.push(Value::from(after));
    if let Some(kind) = kind {
        sql.add(" AND type = ?", [Value::from(kind)]);
    }
    if let Some(share) = query.share {
        sql.add(" AND share = ?", [Value::from(share.to_string())]);
        add_kind(&mut sql, query.kind.as_deref());
    }
    if let Some(since) = query.since {
        sql.add(" AND at_ms >= ?", [Value::from(since.0)]);
    }
    if let Some(before) = query.before {
        sql.add(" AND seq < ?", [Value::from(i64::try_from(before).unwrap_or(i64::MAX))]);
    }
    sql.add(order(query), [limit.clone()]);
    sql
}

fn order(query: &EventQuery) -> &'static str {
    if query.newest_first { " ORDER BY seq DESC LIMIT ?" } else { " ORDER BY seq LIMIT ?" }
}

fn add_kind(sql: &mut Sql, kind: Option<&str>) {
    let Some(kind) = kind else { return };
    match kind.strip_suffix('.') {
        // Everything from "share." up to "share/": the slash is the character behind the dot.
        Some(prefix) => sql.add(" AND type >= ? AND type < ?", [Value::from(kind.to_owned()), Value::from(format!("{prefix}/"))]),
        None => sql.add(" AND type = ?", [Value::from(kind.to_owned())]),
    }
}

/// Returns the kinds that there are of those that begin so: one look into the index for each.
fn kinds_of(connection: &Connection, prefix: &str) -> rusqlite::Result<Vec<String>> {
    let end = format!("{}/", prefix.trim_end_matches('.'));
    let mut next = connection.prepare_cached("SELECT type FROM event WHERE type > ? AND type < ? ORDER BY type LIMIT 1")?;
    let mut kinds: Vec<String> = Vec::new();
    loop {
        let last = kinds.last().map_or(prefix, String::as_str);
        match next.query_row([last, &end], |row| row.get(0)).optional()? {
            Some(kind) => kinds.push(kind),
            None => return Ok(kinds),
        }
    }
}

/// Returns a number up to which every line was written before `since`, by the wall clock.
fn last_before(connection: &Connection, since: Timestamp) -> rusqlite::Result<i64> {
    let sql = "SELECT seq FROM event_time WHERE at_ms <= ? ORDER BY at_ms DESC LIMIT 1";
    let first: Option<i64> = connection.prepare_cached(sql)?.query_row([since.0], |row| row.get(0)).optional()?;
    Ok(first.map_or(0, |first| first - 1))
}

/// Notes that line `seq` was written at a time, where no line before it was written then or later and the last note lies
/// some way back.
pub(super) fn note_time(connection: &Connection, seq: i64, at: Timestamp) -> rusqlite::Result<()> {
    let sql = "INSERT INTO meta (name, value) VALUES ('latest_wall', ?1)
               ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE excluded.value > value";
    if connection.prepare_cached(sql)?.execute([at.0])? == 0 {
        return Ok(());
    }
    let mut last = connection.prepare_cached("SELECT at_ms, seq FROM event_time ORDER BY at_ms DESC LIMIT 1")?;
    let last: Option<(i64, i64)> = last.query_row([], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let is_near = |(at_ms, line): (i64, i64)| at.0 < at_ms.saturating_add(TIME_STEP_MS) && seq < line + TIME_STEP_LINES;
    if !last.is_some_and(is_near) {
        connection.prepare_cached("INSERT INTO event_time (at_ms, seq) VALUES (?, ?)")?.execute([at.0, seq])?;
    }
    Ok(())
}

fn share_of(body: &str) -> Result<Share, StoreError> {
    serde_json::from_str(body).map_err(|error| StoreError::Unusable { reason: format!("a share in it cannot be read ({error})") })
}

pub(super) fn record_of(row: &Row<'_>) -> Result<Record, StoreError> {
    let unreadable =
        |error: &dyn std::fmt::Display| StoreError::Unusable { reason: format!("a line of its event log cannot be read ({error})") };
    let (share, body): (String, String) = (row.get(2).map_err(refused)?, row.get(3).map_err(refused)?);
    Ok(Record {
        seq: row.get::<_, i64>(0).map_err(refused)?.cast_unsigned(),
        at: Timestamp(row.get(1).map_err(refused)?),
        share: share.parse().map_err(|error| unreadable(&error))?,
        fact: serde_json::from_str(&body).map_err(|error| unreadable(&error))?,
    })
}
