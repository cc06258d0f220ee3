//! What the second migration computes of the rows that are there, where SQL alone cannot.

use rusqlite::Connection;

use super::{StoreError, queries, refused, stats};
use crate::share::{Fact, Timestamp};
use crate::store::folded;
use crate::store::stats::{Day, Rollup};

/// Fills in what paths are searched by, the tallies of the days, and where in the log times came.
pub(super) fn run(connection: &Connection) -> Result<(), StoreError> {
    fold_paths(connection).map_err(refused)?;
    fold_events(connection)
}

fn fold_paths(connection: &Connection) -> rusqlite::Result<()> {
    let mut read = connection.prepare("SELECT rowid, json_extract(body, '$.file.path') FROM share")?;
    let mut write = connection.prepare("UPDATE share SET path_folded = ?2 WHERE rowid = ?1")?;
    let mut rows = read.query([])?;
    while let Some(row) = rows.next()? {
        let (row, path): (i64, String) = (row.get(0)?, row.get(1)?);
        write.execute((row, folded(&path)))?;
    }
    Ok(())
}

fn fold_events(connection: &Connection) -> Result<(), StoreError> {
    let mut rollup = Rollup::default();
    let sql = "SELECT event.seq, event.at_ms, event.body, coalesce(json_extract(share.body, '$.file.path'), '')
               FROM event LEFT JOIN share ON share.id = event.share ORDER BY event.seq";
    let mut read = connection.prepare(sql).map_err(refused)?;
    let mut rows = read.query([]).map_err(refused)?;
    while let Some(row) = rows.next().map_err(refused)? {
        let (seq, at) = (row.get(0).map_err(refused)?, Timestamp(row.get(1).map_err(refused)?));
        let (body, path): (String, String) = (row.get(2).map_err(refused)?, row.get(3).map_err(refused)?);
        let fact: Fact = serde_json::from_str(&body)
            .map_err(|error| StoreError::Unusable { reason: format!("a line of its event log cannot be read ({error})") })?;
        rollup.add(Day::of(at), &fact, &path);
        queries::note_time(connection, seq, at).map_err(refused)?;
    }
    stats::put_all(connection, &rollup).map_err(refused)
}
