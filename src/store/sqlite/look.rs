//! Looks at a store without opening it for work: nothing is written, made or brought up to date.

use std::path::Path;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rusqlite::{Connection, OpenFlags};

use super::super::StoreError;
use super::{FILE_NAME, refused, schema};

/// What may stand in the URI of a file as it is.
const NOT_IN_URI: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What a store is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Whether the next start brings its tables up to date.
    pub is_older: bool,
}

/// Looks at the store in `folder`; `None` where there is none yet. Blocks for as long as it takes to read the file once.
///
/// # Errors
/// [`StoreError`] as [`super::SqliteStore::open`] would say it.
pub fn look_at(folder: &Path) -> Result<Option<Look>, StoreError> {
    let path = folder.join(FILE_NAME);
    if !path.try_exists().map_err(StoreError::unavailable)? {
        return Ok(None);
    }
    let waits = std::fs::metadata(path.with_extension("db-wal")).is_ok_and(|log| log.len() > 0);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let connection = match path.to_str() {
        // Nobody writes and nothing waits to be written: then SQLite needs no side files, and makes none.
        Some(path) if !waits => Connection::open_with_flags(format!("file:{}?immutable=1", utf8_percent_encode(path, NOT_IN_URI)), flags),
        _ => Connection::open_with_flags(&path, flags.difference(OpenFlags::SQLITE_OPEN_URI)),
    };
    let connection = connection.map_err(refused)?;
    let is_older = schema::look(&connection)?;
    Ok(Some(Look { is_older }))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::store::sqlite::SqliteStore;

    #[test]
    fn looking_changes_nothing() {
        let folder = tempfile::Builder::new().prefix("a %3f?#").tempdir().unwrap();
        let names = || {
            let mut names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(look_at(folder.path()).unwrap(), None);
        assert!(names().is_empty());
        drop(SqliteStore::open(folder.path()).unwrap());
        let before = names();
        assert_eq!(look_at(folder.path()).unwrap(), Some(Look { is_older: false }));
        assert_eq!(names(), before);
        let open = SqliteStore::open(folder.path()).unwrap();
        assert_eq!(look_at(folder.path()).unwrap(), Some(Look { is_older: false }), "beside a server");
        drop(open);
    }

    #[test]
    fn what_cannot_be_used_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        fs::write(&path, "this is no database at all, and longer than a header of one hundred bytes would have to be, by far").unwrap();
        assert!(look_at(folder.path()).is_err());
        fs::remove_file(&path).unwrap();
        drop(SqliteStore::open(folder.path()).unwrap());
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("PRAGMA user_version = 1;").unwrap();
        drop(connection);
        assert_eq!(look_at(folder.path()).unwrap(), Some(Look { is_older: true }));
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("PRAGMA user_version = 999;").unwrap();
        drop(connection);
        assert!(look_at(folder.path()).unwrap_err().to_string().contains("later version"));
    }
}
