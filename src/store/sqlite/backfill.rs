//! What a migration computes of the rows that are there, where SQL alone cannot.

use rusqlite::Connection;

use super::{StoreError, refused};
use crate::store::folded;

/// Fills in what paths are searched by.
pub(super) fn fold_paths(connection: &Connection) -> Result<(), StoreError> {
    let mut read = connection.prepare("SELECT rowid, json_extract(body, '$.file.path') FROM share").map_err(refused)?;
    let mut write = connection.prepare("UPDATE share SET path_folded = ?2 WHERE rowid = ?1").map_err(refused)?;
    let mut rows = read.query([]).map_err(refused)?;
    while let Some(row) = rows.next().map_err(refused)? {
        let (row, path): (i64, String) = (row.get(0).map_err(refused)?, row.get(1).map_err(refused)?);
        write.execute((row, folded(&path))).map_err(refused)?;
    }
    Ok(())
}
