//! What is asked of the file.

use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};

use super::refused;
use crate::share::{Share, Timestamp};
use crate::store::{EventQuery, Record, ShareQuery, StoreError, page_limit};

pub(super) fn page_of_shares(connection: &Connection, query: &ShareQuery) -> Result<Vec<Share>, StoreError> {
    let mut sql = "SELECT body FROM share WHERE TRUE".to_owned();
    let mut values: Vec<Value> = Vec::new();
    if let Some(closed) = query.closed {
        sql += " AND closed = ?";
        values.push(Value::from(closed));
    }
    if let Some(before) = query.before {
        // Nothing was made before a share that there is not: the comparison with NULL holds for no row.
        sql += " AND (created_ms, id) < (SELECT created_ms, id FROM share WHERE id = ?)";
        values.push(Value::from(before.to_string()));
    }
    sql += " ORDER BY created_ms DESC, id DESC LIMIT ?";
    values.push(Value::from(page_limit(query.limit) as i64));
    shares_by(connection, &sql, values)
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
    let mut sql = "SELECT seq, at_ms, share, body FROM event WHERE seq > ?".to_owned();
    let mut values = vec![Value::from(i64::try_from(query.after).unwrap_or(i64::MAX))];
    if let Some(share) = query.share {
        sql += " AND share = ?";
        values.push(Value::from(share.to_string()));
    }
    match &query.kind {
        None => {}
        Some(kind) => match kind.strip_suffix('.') {
            // Everything from "share." up to "share/": the slash is the character behind the dot.
            Some(prefix) => {
                sql += " AND type >= ? AND type < ?";
                values.extend([Value::from(kind.clone()), Value::from(format!("{prefix}/"))]);
            }
            None => {
                sql += " AND type = ?";
                values.push(Value::from(kind.clone()));
            }
        },
    }
    if let Some(since) = query.since {
        sql += " AND at_ms >= ?";
        values.push(Value::from(since.0));
    }
    sql += " ORDER BY seq LIMIT ?";
    values.push(Value::from(page_limit(query.limit) as i64));
    let mut statement = connection.prepare_cached(&sql).map_err(refused)?;
    let mut rows = statement.query(params_from_iter(values)).map_err(refused)?;
    let mut records = Vec::new();
    while let Some(row) = rows.next().map_err(refused)? {
        records.push(record_of(row)?);
    }
    Ok(records)
}

fn share_of(body: &str) -> Result<Share, StoreError> {
    serde_json::from_str(body).map_err(|error| StoreError::Unusable { reason: format!("a share in it cannot be read ({error})") })
}

fn record_of(row: &Row<'_>) -> Result<Record, StoreError> {
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
