//! The tables, and how an older file gets them.

use rusqlite::Connection;

use super::{ADVICE, StoreError, backfill, refused};

/// Marks the file as ours ("Port"), so that no other program's database is taken for one.
pub(super) const APPLICATION_ID: i64 = 0x506f_7274;

/// What each version adds to the one before it; the first makes version 1. Entries are never changed, only added.
pub(super) const MIGRATIONS: &[&str] = &[
    "
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
",
    "
    -- What shares are looked for by, so that no page reads the bodies of shares that are not on it.
    ALTER TABLE share ADD COLUMN made_ms INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE share ADD COLUMN closed_ms INTEGER;
    ALTER TABLE share ADD COLUMN outcome TEXT;
    ALTER TABLE share ADD COLUMN path_folded TEXT NOT NULL DEFAULT '';
    UPDATE share SET made_ms = json_extract(body, '$.created.wall');
    UPDATE share SET closed_ms = json_extract(body, '$.phase.at.wall'), outcome = json_extract(body, '$.phase.outcome') WHERE closed = 1;
    -- Wide enough to answer every filter without the table.
    DROP INDEX share_by_age;
    CREATE INDEX share_by_age ON share (created_ms, id, closed, outcome, made_ms, path_folded);
    CREATE INDEX share_by_outcome ON share (outcome, created_ms, id, made_ms, path_folded) WHERE outcome IS NOT NULL;
    CREATE INDEX share_by_end ON share (closed_ms) WHERE closed_ms IS NOT NULL;
    -- How far the wall clock was from the steady one when each was made: pages are in the order of the one, filtered by the other.
    CREATE INDEX share_by_skew ON share (made_ms - created_ms);

    INSERT INTO meta (name, value) SELECT 'shares', count(*) FROM share;

    -- Lines of a share that is being forgotten may be removed, and no other.
    CREATE TABLE forgetting (share TEXT PRIMARY KEY NOT NULL) STRICT, WITHOUT ROWID;
    DROP TRIGGER event_is_never_removed;
    CREATE TRIGGER event_is_never_removed BEFORE DELETE ON event
        WHEN NOT EXISTS (SELECT 1 FROM forgetting WHERE share = OLD.share)
        BEGIN SELECT RAISE(ABORT, 'the event log is append-only'); END;
    -- Where in the log the wall clock first stood at a time, every few minutes.
    CREATE TABLE event_time (
        at_ms INTEGER PRIMARY KEY,
        seq   INTEGER NOT NULL
    ) STRICT;

    ALTER TABLE session ADD COLUMN created_ms INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE session ADD COLUMN seen_ms INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE session ADD COLUMN address TEXT;
    ALTER TABLE session ADD COLUMN agent TEXT NOT NULL DEFAULT '';

    CREATE TABLE api_token (
        id                TEXT PRIMARY KEY NOT NULL,
        name              TEXT NOT NULL,
        scope             TEXT NOT NULL CHECK (scope IN ('read', 'share', 'admin')),
        digest            BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
        created_ms        INTEGER NOT NULL,
        expires_steady_ms INTEGER,
        expires_wall_ms   INTEGER,
        last_used_ms      INTEGER
    ) STRICT;

    CREATE TABLE audit (
        seq      INTEGER PRIMARY KEY,
        at_ms    INTEGER NOT NULL,
        who      TEXT NOT NULL,
        source   TEXT NOT NULL,
        action   TEXT NOT NULL,
        target   TEXT NOT NULL,
        detail   TEXT NOT NULL,
        previous BLOB NOT NULL CHECK (length(previous) = 32),
        hash     BLOB NOT NULL CHECK (length(hash) = 32)
    ) STRICT;
    -- The newest line, and the last one that was forgotten.
    CREATE TABLE audit_mark (
        name TEXT PRIMARY KEY NOT NULL CHECK (name IN ('head', 'anchor')),
        seq  INTEGER NOT NULL,
        hash BLOB NOT NULL CHECK (length(hash) = 32)
    ) STRICT, WITHOUT ROWID;
    CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit
        BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
    CREATE TRIGGER audit_is_never_removed BEFORE DELETE ON audit
        WHEN OLD.seq > coalesce((SELECT seq FROM audit_mark WHERE name = 'anchor'), 0)
        BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
    CREATE TRIGGER audit_is_never_replaced BEFORE INSERT ON audit
        WHEN EXISTS (SELECT 1 FROM audit WHERE seq = NEW.seq)
        BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;

    CREATE TABLE plan (
        number   INTEGER PRIMARY KEY,
        key      TEXT NOT NULL UNIQUE,
        wish     BLOB NOT NULL CHECK (length(wish) = 32),
        ids      TEXT NOT NULL,
        is_done  INTEGER NOT NULL CHECK (is_done IN (0, 1)),
        since_ms INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX plan_by_age ON plan (since_ms);

    -- Folds of the event log, a day at a time.
    CREATE TABLE tally (
        kind  TEXT NOT NULL,
        day   INTEGER NOT NULL,
        name  TEXT NOT NULL,
        times INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        PRIMARY KEY (kind, day, name)
    ) STRICT, WITHOUT ROWID;
",
    "
    -- How far logs were followed, with what was counted up to there.
    CREATE TABLE log_mark (
        number INTEGER PRIMARY KEY,
        log    TEXT NOT NULL UNIQUE,
        body   TEXT NOT NULL
    ) STRICT;
",
    "
    -- Outcomes and speeds are counted by the day alone.
    DELETE FROM tally WHERE kind IN ('outcome of 32', 'speed of 32');
",
];

/// Brings the file to this version's tables, or says why it cannot be used.
pub(super) fn prepare(connection: &Connection) -> Result<(), StoreError> {
    let is_empty: bool = connection.query_row("SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema)", [], |row| row.get(0)).map_err(refused)?;
    let done = if is_empty { 0 } else { version_of(connection)? };
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(done) {
        // All of a step or nothing of it, whenever the power goes.
        let step = connection.unchecked_transaction().map_err(refused)?;
        step.execute_batch(migration).map_err(refused)?;
        if index == 1 {
            backfill::run(&step)?;
        }
        step.execute_batch(&format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {};", index + 1)).map_err(refused)?;
        step.commit().map_err(refused)?;
    }
    check(connection)
}

/// Says why a file that is only read cannot be used, unless it has this version's tables.
pub(super) fn expect_current(connection: &Connection) -> Result<(), StoreError> {
    if version_of(connection)? == MIGRATIONS.len() {
        return Ok(());
    }
    Err(unusable("it was written by an earlier version of portcullis; start this one once with its folder"))
}

/// Says why a file cannot be trusted that has another table, index or trigger than this version makes.
pub(super) fn expect_ours(connection: &Connection) -> Result<(), StoreError> {
    let fresh = Connection::open_in_memory().map_err(refused)?;
    MIGRATIONS.iter().try_for_each(|migration| fresh.execute_batch(migration)).map_err(refused)?;
    let objects = |connection: &Connection| -> rusqlite::Result<Vec<(String, Option<String>)>> {
        let mut objects = connection.prepare("SELECT name, sql FROM sqlite_schema ORDER BY name")?;
        objects.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    };
    let (ours, theirs) = (objects(&fresh).map_err(refused)?, objects(connection).map_err(refused)?);
    match ours.iter().chain(&theirs).find(|object| !ours.contains(object) || !theirs.contains(object)) {
        None => Ok(()),
        Some((name, _)) => Err(unusable(&format!("its layout was changed by somebody else (at {name:?})"))),
    }
}

/// Says why a file that is only read cannot be used; returns whether the next start brings its tables up to date.
pub(super) fn look(connection: &Connection) -> Result<bool, StoreError> {
    let done = version_of(connection)?;
    check(connection)?;
    Ok(done < MIGRATIONS.len())
}

/// Returns the version of the tables in a file of ours.
pub(super) fn version_of(connection: &Connection) -> Result<usize, StoreError> {
    let number = |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0)).map_err(refused);
    let (application, version) = (number("application_id")?, number("user_version")?);
    if application != APPLICATION_ID {
        return Err(unusable("it is the database of another program"));
    }
    let done = usize::try_from(version).map_err(|_| unusable("its version number makes no sense"))?;
    let latest = MIGRATIONS.len();
    if done > latest {
        return Err(unusable(&format!(
            "it was written by a later version of portcullis (its layout is {done}, this version knows {latest}); use that version, or a backup"
        )));
    }
    Ok(done)
}

/// Reads through the file once: damage is found at the start, not in the middle of a share.
fn check(connection: &Connection) -> Result<(), StoreError> {
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(refused)?;
    if verdict == "ok" { Ok(()) } else { Err(unusable(&format!("it is damaged ({verdict}){ADVICE}"))) }
}

fn unusable(reason: &str) -> StoreError {
    StoreError::Unusable { reason: reason.to_owned() }
}
