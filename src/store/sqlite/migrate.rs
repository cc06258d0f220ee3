//! The file, read whole for another store, and written whole from one.
//!
//! What is written waits in a folder of its own, as a restore does (`placing.rs`): it is there when it is whole, or not at all.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row as Columns, params};
use tokio::sync::mpsc;

use super::access::{api_tokens, put_api_token, put_session, sessions};
use super::backup::{BackupError, at, exists};
use super::connections::{lock, open_to_write, private_file, private_folder, sync_folder_of};
use super::placing::{place, remove_side_files};
use super::queries::record_of;
use super::restore::{Coming, give_to_owner_of};
use super::writer::{Undone, add_to_meta, put_digest, put_share};
use super::{FILE_NAME, LOCK_NAME, StoreError, audit, latest_seq, log_marks, plans, refused, schema, stats};
use crate::share::{FileIdentity, Share, Steady, Timestamp};
use crate::store::kind_of;
use crate::store::migrate::{Ends, Feed, Link, MoveError, Moved, Row};
use crate::store::stats::{Count, Day, Series};

/// How many rows are written in one transaction: some tens of milliseconds.
const CHUNK: usize = 1024;
/// How many stores that were moved away are kept in one folder; whoever moves so often removes some.
const MAX_ASIDE: u32 = 1000;

fn unreadable(what: &str, error: impl std::fmt::Display) -> StoreError {
    StoreError::Unusable { reason: format!("{what} in it cannot be read ({error})") }
}

fn locked(folder: &Path) -> Result<File, BackupError> {
    match lock(&folder.join(LOCK_NAME)) {
        Err(StoreError::Unusable { .. }) => Err(BackupError::Running { folder: folder.to_owned() }),
        other => Ok(other?),
    }
}

/// The store of a folder, to be moved away from it.
pub(in crate::store) struct Leaving {
    connection: Connection,
    folder: PathBuf,
    lock: File,
}

impl Leaving {
    /// Opens the store of a folder in which no server runs. Blocks.
    pub(in crate::store) fn open(folder: &Path) -> Result<Self, BackupError> {
        let is_there = exists(&folder.join(FILE_NAME))? || exists(&folder.join(super::placing::DECIDED))?;
        if !is_there {
            return Err(BackupError::NoStore { folder: folder.to_owned() });
        }
        let lock = locked(folder)?;
        place(folder)?;
        Ok(Self { connection: open_to_write(&folder.join(FILE_NAME))?, folder: folder.to_owned(), lock })
    }

    /// Reads everything, as it is at one instant. Blocks.
    pub(in crate::store) fn read(&self, feed: &mut Feed) -> Result<(), StoreError> {
        let file = self.connection.unchecked_transaction().map_err(refused)?;
        each(&file, "SELECT id, body FROM share ORDER BY created_ms, id", |row| {
            let (id, body): (String, String) = (row.get(0).map_err(refused)?, row.get(1).map_err(refused)?);
            let share: Share = serde_json::from_str(&body).map_err(|error| unreadable("a share", error))?;
            feed.send_blocking(Row::Share(share.into(), links_of(&file, &id)?))
        })?;
        each(&file, "SELECT share FROM forgetting", |row| {
            let id: String = row.get(0).map_err(refused)?;
            feed.send_blocking(Row::Forgetting(id.parse().map_err(|error| unreadable("a share", error))?))
        })?;
        let events = "SELECT seq, at_ms, share, body FROM event ORDER BY seq";
        each(&file, events, |row| feed.send_blocking(Row::Event(record_of(row)?)))?;
        each(&file, "SELECT at_ms, seq FROM event_time ORDER BY seq", |row| {
            let (at, seq): (i64, i64) = (row.get(0).map_err(refused)?, row.get(1).map_err(refused)?);
            feed.send_blocking(Row::Time(Timestamp(at), seq.cast_unsigned()))
        })?;
        each(&file, &audit::in_order(), |row| feed.send_blocking(Row::Audit(audit::line_of(row).map_err(refused)?)))?;
        // Whatever the clock says: what is over ends by itself.
        sessions(&file, Steady(i64::MIN))?.into_iter().try_for_each(|session| feed.send_blocking(Row::Session(session)))?;
        api_tokens(&file)?.into_iter().try_for_each(|token| feed.send_blocking(Row::ApiToken(token)))?;
        each(&file, plans::IN_ORDER, |row| feed.send_blocking(Row::Plan(plans::plan_of(row).map_err(refused)?)))?;
        each(&file, log_marks::IN_ORDER, |row| {
            let mark = log_marks::mark_of(row).map_err(refused)?;
            feed.send_blocking(Row::LogMark(row.get(1).map_err(refused)?, mark))
        })?;
        each(&file, "SELECT kind, day, name, times, bytes FROM tally", |row| feed.send_blocking(tally_of(row)?))?;
        let digests = "SELECT device, inode, size_bytes, modified_ns, changed_ns, sha256 FROM digest ORDER BY kept";
        each(&file, digests, |row| feed.send_blocking(digest_of(row).map_err(refused)?))?;
        feed.send_blocking(Row::Ends(ends_of(&file).map_err(refused)?))
    }

    /// Gives the store another name, under which nobody serves it. Blocks.
    pub(in crate::store) fn set_aside(self) -> Result<SetAside, BackupError> {
        let Self { connection, folder, lock } = self;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(refused)?;
        connection.close().map_err(|(_, error)| refused(error))?;
        let place = folder.join(FILE_NAME);
        for n in 1..=MAX_ASIDE {
            let aside = folder.join(format!("{FILE_NAME}.moved-{n}"));
            if !exists(&aside)? {
                remove_side_files(&place)?;
                fs::rename(&place, &aside).map_err(at(&aside))?;
                sync_folder_of(&aside).map_err(at(&aside))?;
                return Ok(SetAside { place, aside, _lock: lock });
            }
        }
        Err(BackupError::Exists { path: folder.join(format!("{FILE_NAME}.moved-{MAX_ASIDE}")) })
    }
}

/// A store that was set aside. The folder stays locked as long as it lives.
pub(in crate::store) struct SetAside {
    place: PathBuf,
    aside: PathBuf,
    _lock: File,
}

impl SetAside {
    /// Leaves it there, and says where.
    pub(in crate::store) fn keep(self) -> PathBuf {
        self.aside
    }

    /// Puts it back into its place. Blocks.
    pub(in crate::store) fn take_back(self) -> Result<(), BackupError> {
        fs::rename(&self.aside, &self.place).map_err(at(&self.place))?;
        sync_folder_of(&self.place).map_err(at(&self.place))
    }
}

/// Calls something for each row of a question.
fn each(file: &Connection, sql: &str, mut take: impl FnMut(&Columns<'_>) -> Result<(), StoreError>) -> Result<(), StoreError> {
    let mut statement = file.prepare(sql).map_err(refused)?;
    let mut rows = statement.query([]).map_err(refused)?;
    while let Some(row) = rows.next().map_err(refused)? {
        take(row)?;
    }
    Ok(())
}

fn links_of(file: &Connection, share: &str) -> Result<Vec<Link>, StoreError> {
    let sql = "SELECT jti, uses_max, uses_spent, dead FROM link WHERE share = ?1 ORDER BY jti";
    let mut statement = file.prepare_cached(sql).map_err(refused)?;
    let mut rows = statement.query([share]).map_err(refused)?;
    let mut links = Vec::new();
    while let Some(row) = rows.next().map_err(refused)? {
        let jti: String = row.get(0).map_err(refused)?;
        let jti = jti.parse().map_err(|error| unreadable("a link", error))?;
        let number = |column| row.get::<_, i64>(column).map(i64::cast_unsigned).map_err(refused);
        links.push(Link { jti, uses_max: number(1)?, uses_spent: number(2)?, is_dead: row.get(3).map_err(refused)? });
    }
    Ok(links)
}

fn tally_of(row: &Columns<'_>) -> Result<Row, StoreError> {
    let read =
        || -> rusqlite::Result<(String, i64, String, i64, i64)> { Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)) };
    let (series, day, name, times, bytes) = read().map_err(refused)?;
    let series =
        Series::ALL.into_iter().find(|one| one.as_str() == series).ok_or_else(|| unreadable("a number of the statistics", series))?;
    Ok(Row::Tally(series, Day(day), name, Count { times: times.cast_unsigned(), bytes: bytes.cast_unsigned() }))
}

fn digest_of(row: &Columns<'_>) -> rusqlite::Result<Row> {
    let number = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
    let (device, inode, size_bytes) = (number(0)?, number(1)?, number(2)?);
    Ok(Row::Digest(FileIdentity { device, inode, size_bytes, modified_ns: row.get(3)?, changed_ns: row.get(4)? }, row.get(5)?))
}

fn ends_of(file: &Connection) -> rusqlite::Result<Ends> {
    let meta = |name: &str| -> rusqlite::Result<Option<i64>> {
        file.query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0)).optional()
    };
    Ok(Ends {
        latest_seq: latest_seq(file)?,
        latest_steady: meta("latest_steady")?.map(Steady),
        latest_wall: meta("latest_wall")?.map(Timestamp),
        head: audit::mark(file, "head")?,
        anchor: audit::mark(file, "anchor")?,
    })
}

/// A store that is made of what comes from elsewhere. Unless it is decided on it is gone again.
pub(in crate::store) struct Filling {
    connection: Connection,
    coming: Coming,
    folder: PathBuf,
    _lock: File,
}

impl Filling {
    /// Begins one for a folder in which no server runs and no store is. Blocks.
    pub(in crate::store) fn begin(folder: &Path) -> Result<Self, BackupError> {
        private_folder(folder).map_err(at(folder))?;
        let lock = locked(folder)?;
        place(folder)?;
        if exists(&folder.join(FILE_NAME))? {
            let reason = format!("there is a store in {} already; name another folder by --state-dir, or move it away", folder.display());
            return Err(StoreError::Unusable { reason }.into());
        }
        let coming = Coming::empty(folder)?;
        let database = coming.database();
        private_file(&database).map_err(at(&database))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&database, flags).map_err(refused)?;
        // What is cut off begins anew, so it needs no journal and no flush until it is whole.
        connection.execute_batch("PRAGMA trusted_schema = OFF; PRAGMA synchronous = OFF").map_err(refused)?;
        connection.query_row("PRAGMA journal_mode = MEMORY", [], |_| Ok(())).map_err(refused)?;
        schema::prepare(&connection)?;
        Ok(Self { connection, coming, folder: folder.to_owned(), _lock: lock })
    }

    /// Writes what comes until nothing more comes. Blocks.
    pub(in crate::store) fn fill(self, mut rows: mpsc::Receiver<Row>) -> Result<(Self, Moved), MoveError> {
        let (mut moved, mut chunk) = (Moved::default(), Vec::with_capacity(CHUNK));
        while rows.blocking_recv_many(&mut chunk, CHUNK) > 0 {
            let step = self.connection.unchecked_transaction().map_err(refused)?;
            for row in chunk.drain(..) {
                moved.count(&row);
                put(&step, row, &moved).map_err(|undone| match undone {
                    Undone::Refused(error) => error,
                    Undone::Sqlite(error) => refused(error),
                })?;
            }
            step.commit().map_err(refused)?;
        }
        Ok((self, moved))
    }

    /// Makes it the folder's store, with another key of transfers where one is given. Blocks.
    pub(in crate::store) fn decide(self, transfer_key: Option<String>) -> Result<(), BackupError> {
        let Self { connection, coming, folder, _lock } = self;
        connection.close().map_err(|(_, error)| refused(error))?;
        let database = coming.database();
        File::open(&database).and_then(|file| file.sync_all()).map_err(at(&database))?;
        let key = transfer_key.map(|key| ("transfer.key".to_owned(), key.into_bytes()));
        coming.add_keys(key.iter())?;
        coming.decide(&folder)?;
        let placed = place(&folder).map_err(|error| BackupError::Decided { source: Box::new(error) })?;
        let aside: Vec<&Path> = placed.kept_keys.iter().map(PathBuf::as_path).collect();
        // It is done; whose the key is that nobody needs any more decides about nothing.
        let _ = give_to_owner_of(&folder, &aside);
        Ok(())
    }
}

fn put(file: &Connection, row: Row, moved: &Moved) -> Result<(), Undone> {
    match row {
        Row::Share(share, links) => {
            put_share(file, &share)?;
            let sql = "INSERT INTO link (jti, share, uses_max, uses_spent, dead) VALUES (?1, ?2, ?3, ?4, ?5)";
            for Link { jti, uses_max, uses_spent, is_dead } in links {
                let values = params![jti.to_string(), share.id.as_str(), uses_max.cast_signed(), uses_spent.cast_signed(), is_dead];
                file.prepare_cached(sql)?.execute(values)?;
            }
        }
        Row::Forgetting(share) => {
            file.prepare_cached("INSERT INTO forgetting (share) VALUES (?1)")?.execute([share.as_str()])?;
        }
        Row::Event(record) => {
            let body = serde_json::to_string(&record.fact).expect("a fact has a JSON form");
            let sql = "INSERT INTO event (seq, at_ms, share, type, body) VALUES (?1, ?2, ?3, ?4, ?5)";
            let values = params![record.seq.cast_signed(), record.at.0, record.share.as_str(), kind_of(&record.fact), body];
            file.prepare_cached(sql)?.execute(values)?;
        }
        Row::Time(at, seq) => {
            file.prepare_cached("INSERT INTO event_time (at_ms, seq) VALUES (?1, ?2)")?.execute(params![at.0, seq.cast_signed()])?;
        }
        Row::Audit(line) => audit::insert(file, &line)?,
        Row::Session(session) => put_session(file, &session)?,
        Row::ApiToken(token) => put_api_token(file, &token)?,
        Row::Plan(plan) => drop(plans::put(file, plan, Steady(i64::MIN))?),
        Row::Digest(identity, sha256) => put_digest(file, &identity, &sha256)?,
        Row::Tally(series, place, name, count) => stats::insert(file, series, place, &name, count)?,
        Row::LogMark(log, mark) => log_marks::put(file, &log, &mark)?,
        Row::Ends(ends) => put_ends(file, &ends, moved.events)?,
    }
    Ok(())
}

fn put_ends(file: &Connection, ends: &Ends, events: u64) -> rusqlite::Result<()> {
    file.execute("DELETE FROM sqlite_sequence WHERE name = 'event'", [])?;
    file.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('event', ?1)", [ends.latest_seq.cast_signed()])?;
    add_to_meta(file, "forgotten_events", ends.latest_seq.saturating_sub(events).cast_signed())?;
    let (steady, wall) = (ends.latest_steady.map(|steady| steady.0), ends.latest_wall.map(|wall| wall.0));
    for (name, value) in [("latest_steady", steady), ("latest_wall", wall)] {
        if let Some(value) = value {
            file.execute("INSERT INTO meta (name, value) VALUES (?1, ?2)", params![name, value])?;
        }
    }
    for (name, mark) in [("head", ends.head), ("anchor", ends.anchor)] {
        if let Some(mark) = mark {
            audit::put_mark(file, name, mark)?;
        }
    }
    Ok(())
}
