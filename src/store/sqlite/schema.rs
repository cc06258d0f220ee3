//! The tables, and how an older file gets them.

use rusqlite::Connection;

use super::{StoreError, refused};

/// Marks the file as ours ("Port"), so that no other program's database is taken for one.
const APPLICATION_ID: i64 = 0x506f_7274;

/// What each version adds to the one before it; the first makes version 1. Entries are never changed, only added.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE share (
        id         TEXT PRIMARY KEY NOT NULL,
        created_ms INTEGER NOT NULL,
        closed     INTEGER NOT NULL CHECK (closed IN (0, 1)),
        body       TEXT NOT NULL
    ) STRICT;
    CREATE INDEX share_by_age ON share (created_ms, id);
    CREATE INDEX share_by_state ON share (closed, created_ms, id);

    CREATE TABLE link (
        jti        TEXT PRIMARY KEY NOT NULL,
        share      TEXT NOT NULL,
        uses_max   INTEGER NOT NULL,
        uses_spent INTEGER NOT NULL DEFAULT 0 CHECK (uses_spent BETWEEN 0 AND uses_max),
        dead       INTEGER NOT NULL DEFAULT 0 CHECK (dead IN (0, 1))
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX link_of_share ON link (share);

    CREATE TABLE event (
        seq   INTEGER PRIMARY KEY AUTOINCREMENT,
        at_ms INTEGER NOT NULL,
        share TEXT NOT NULL,
        type  TEXT NOT NULL,
        body  TEXT NOT NULL
    ) STRICT;
    CREATE INDEX event_of_share ON event (share, seq);
    CREATE INDEX event_of_type ON event (type, seq);
    CREATE TRIGGER event_is_never_changed BEFORE UPDATE ON event
        BEGIN SELECT RAISE(ABORT, 'the event log is append-only'); END;
    CREATE TRIGGER event_is_never_removed BEFORE DELETE ON event
        BEGIN SELECT RAISE(ABORT, 'the event log is append-only'); END;
    -- INSERT OR REPLACE removes a row without asking the trigger above.
    CREATE TRIGGER event_is_never_replaced BEFORE INSERT ON event
        WHEN EXISTS (SELECT 1 FROM event WHERE seq = NEW.seq)
        BEGIN SELECT RAISE(ABORT, 'the event log is append-only'); END;

    CREATE TABLE session (
        digest     BLOB PRIMARY KEY NOT NULL CHECK (length(digest) = 32),
        expires_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX session_by_end ON session (expires_ms, digest);

    CREATE TABLE digest (
        kept        INTEGER PRIMARY KEY,
        device      INTEGER NOT NULL,
        inode       INTEGER NOT NULL,
        size_bytes  INTEGER NOT NULL,
        modified_ns INTEGER NOT NULL,
        changed_ns  INTEGER NOT NULL,
        sha256      BLOB NOT NULL CHECK (length(sha256) = 32),
        UNIQUE (device, inode)
    ) STRICT;

    CREATE TABLE meta (
        name  TEXT PRIMARY KEY NOT NULL,
        value INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
"];

/// Brings the file to this version's tables, or says why it cannot be used.
pub(super) fn prepare(connection: &Connection) -> Result<(), StoreError> {
    let number = |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0)).map_err(refused);
    let (application, version) = (number("application_id")?, number("user_version")?);
    let is_empty: bool = connection.query_row("SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema)", [], |row| row.get(0)).map_err(refused)?;
    if !is_empty && application != APPLICATION_ID {
        return Err(unusable("it is the database of another program"));
    }
    let latest = MIGRATIONS.len();
    let done = usize::try_from(version).map_err(|_| unusable("its version number makes no sense"))?;
    if done > latest {
        return Err(unusable(&format!(
            "it was written by a later version of portcullis (its layout is {done}, this version knows {latest}); use that version, or a backup"
        )));
    }
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(done) {
        // All of a step or nothing of it, whenever the power goes.
        let step =
            format!("BEGIN IMMEDIATE; {migration}; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {}; COMMIT;", index + 1);
        connection.execute_batch(&step).map_err(refused)?;
    }
    check(connection)
}

/// Reads through the file once: damage is found at the start, not in the middle of a share.
fn check(connection: &Connection) -> Result<(), StoreError> {
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(refused)?;
    if verdict == "ok" { Ok(()) } else { Err(unusable(&format!("it is damaged ({verdict}); put a backup in its place, or move it away"))) }
}

fn unusable(reason: &str) -> StoreError {
    StoreError::Unusable { reason: reason.to_owned() }
}
