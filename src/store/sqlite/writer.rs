//! The one thread that writes.
//!
//! A commit waits for the disk, several milliseconds on a NAS. So the thread takes everything that waits, writes it in one
//! transaction and answers when that is on disk: a hundred saves cost as much as one. Each save has a savepoint of its
//! own, so that one refused does not undo the others.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::{mpsc, oneshot};

use super::{StoreError, refused};
use crate::share::{Fact, FileIdentity, Share, Steady};
use crate::store::{MAX_DIGESTS, MAX_SESSIONS, Save, Session, kind_of};

/// The most writes in one transaction: bounds how long the first of them waits for the last.
const MAX_BATCH: usize = 256;

/// Something to write.
pub(super) enum Write {
    Save(Save),
    PutSession(Session),
    EndSession {
        digest: [u8; 32],
        now: Steady,
    },
    PutDigest {
        identity: FileIdentity,
        sha256: [u8; 32],
    },
    #[cfg(test)]
    Sql(&'static str),
}

/// A write, and who waits for it.
pub(super) struct Job {
    pub(super) write: Write,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// The numbers that the facts of a save got; empty for every other write.
pub(super) type Answer = Result<Vec<u64>, StoreError>;

/// Why one write of a batch was not done.
enum Undone {
    /// The store's own rules refuse it.
    Refused(StoreError),
    /// SQLite could not.
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Undone {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Writes until nobody can send any more and everything sent is written.
pub(super) fn run(connection: Connection, mut jobs: mpsc::Receiver<Job>) {
    let mut batch = Vec::with_capacity(MAX_BATCH);
    while jobs.blocking_recv_many(&mut batch, MAX_BATCH) > 0 {
        let (writes, waiting): (Vec<Write>, Vec<_>) = batch.drain(..).map(|job| (job.write, job.answer)).unzip();
        for (answer, waiting) in write_all(&connection, &writes).into_iter().zip(waiting) {
            // Whoever stopped waiting has the write all the same.
            let _ = waiting.send(answer);
        }
    }
}

/// Writes a batch in one transaction. What it answers is on disk, or is nowhere.
fn write_all(connection: &Connection, writes: &[Write]) -> Vec<Answer> {
    transact(connection, writes).unwrap_or_else(|error| {
        if !connection.is_autocommit() {
            // Where even this fails the next BEGIN does too, and says so to those who wait for it.
            let _ = connection.execute_batch("ROLLBACK");
        }
        let error = Arc::new(error);
        writes.iter().map(|_| Err(refused(Arc::clone(&error)))).collect()
    })
}

fn transact(connection: &Connection, writes: &[Write]) -> rusqlite::Result<Vec<Answer>> {
    let run = |sql: &str| connection.prepare_cached(sql)?.execute([]);
    let mut answers = Vec::with_capacity(writes.len());
    let mut latest: Option<Steady> = None;
    run("BEGIN IMMEDIATE")?;
    for write in writes {
        run("SAVEPOINT one")?;
        let answer = match apply(connection, write) {
            Ok(numbers) => {
                if let Write::Save(save) = write {
                    latest = latest.max(Some(save.at.steady));
                }
                Ok(numbers)
            }
            // Some errors (a full disk, for one) make SQLite roll everything back by itself.
            Err(Undone::Sqlite(error)) if connection.is_autocommit() => return Err(error),
            Err(undone) => {
                run("ROLLBACK TO one")?;
                Err(match undone {
                    Undone::Refused(error) => error,
                    Undone::Sqlite(error) => refused(error),
                })
            }
        };
        run("RELEASE one")?;
        answers.push(answer);
    }
    if let Some(latest) = latest {
        let sql = "INSERT INTO meta (name, value) VALUES ('latest_steady', ?1)
                   ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)";
        connection.prepare_cached(sql)?.execute([latest.0])?;
    }
    run("COMMIT")?;
    Ok(answers)
}

fn apply(connection: &Connection, write: &Write) -> Result<Vec<u64>, Undone> {
    match write {
        Write::Save(save) => return apply_save(connection, save),
        Write::PutSession(session) => put_session(connection, session)?,
        Write::EndSession { digest, now } => {
            connection.prepare_cached("DELETE FROM session WHERE digest = ?1 OR expires_ms <= ?2")?.execute(params![digest, now.0])?;
        }
        Write::PutDigest { identity, sha256 } => put_digest(connection, identity, sha256)?,
        #[cfg(test)]
        Write::Sql(sql) => connection.execute_batch(sql)?,
    }
    Ok(Vec::new())
}

fn apply_save(connection: &Connection, save: &Save) -> Result<Vec<u64>, Undone> {
    let share = &save.share;
    if save.facts.contains(&Fact::Created) && exists(connection, "SELECT 1 FROM share WHERE id = ?1", share.id.as_str())? {
        return Err(Undone::Refused(StoreError::unavailable("a share of this id exists already")));
    }
    for fact in &save.facts {
        enter(connection, share, fact)?;
    }
    let body = serde_json::to_string(&**share).expect("a share has a JSON form");
    let sql = "INSERT INTO share (id, created_ms, closed, body) VALUES (?1, ?2, ?3, ?4)
               ON CONFLICT (id) DO UPDATE SET closed = excluded.closed, body = excluded.body";
    connection.prepare_cached(sql)?.execute(params![share.id.as_str(), share.created.steady.0, share.is_closed(), body])?;
    let mut append = connection.prepare_cached("INSERT INTO event (at_ms, share, type, body) VALUES (?1, ?2, ?3, ?4)")?;
    let mut numbers = Vec::with_capacity(save.facts.len());
    for fact in &save.facts {
        let body = serde_json::to_string(fact).expect("a fact has a JSON form");
        let number = append.insert(params![save.at.wall.0, share.id.as_str(), kind_of(fact), body])?;
        numbers.push(number.cast_unsigned());
    }
    Ok(numbers)
}

/// Keeps the ledger by one fact.
fn enter(connection: &Connection, share: &Share, fact: &Fact) -> Result<(), Undone> {
    let jti = share.link.to_string();
    match fact {
        Fact::Created | Fact::Reopened => {
            if exists(connection, "SELECT 1 FROM link WHERE jti = ?1", &jti)? {
                return Err(Undone::Refused(StoreError::unavailable("this link was entered before")));
            }
            let mut enter = connection.prepare_cached("INSERT INTO link (jti, share, uses_max) VALUES (?1, ?2, ?3)")?;
            enter.execute(params![jti, share.id.as_str(), share.policy.uses_max()])?;
        }
        Fact::Redeemed { .. } => {
            // The compare-and-set that makes a link single-use.
            let sql = "UPDATE link SET uses_spent = uses_spent + 1 WHERE jti = ?1 AND uses_spent < uses_max AND dead = 0";
            if connection.prepare_cached(sql)?.execute([&jti])? == 0 {
                return Err(Undone::Refused(StoreError::Spent));
            }
        }
        Fact::Ended { given_back: true, .. } => {
            let sql = "UPDATE link SET uses_spent = uses_spent - 1 WHERE jti = ?1 AND uses_spent > 0";
            connection.prepare_cached(sql)?.execute([&jti])?;
        }
        Fact::Closing { .. } => {
            connection.prepare_cached("UPDATE link SET dead = 1 WHERE share = ?1")?.execute([share.id.as_str()])?;
        }
        Fact::Ended { given_back: false, .. }
        | Fact::Opened
        | Fact::TunnelLost
        | Fact::Extended { .. }
        | Fact::Delivered
        | Fact::Closed { .. }
        | Fact::Began { .. } => {}
    }
    Ok(())
}

fn put_session(connection: &Connection, session: &Session) -> rusqlite::Result<()> {
    let sql = "INSERT INTO session (digest, expires_ms) VALUES (?1, ?2)
               ON CONFLICT (digest) DO UPDATE SET expires_ms = max(expires_ms, excluded.expires_ms)";
    connection.prepare_cached(sql)?.execute(params![session.digest, session.expires.0])?;
    // Those that end first go first.
    let sql = "DELETE FROM session WHERE digest IN
               (SELECT digest FROM session ORDER BY expires_ms DESC, digest DESC LIMIT -1 OFFSET ?1)";
    connection.prepare_cached(sql)?.execute([MAX_SESSIONS as i64])?;
    Ok(())
}

fn put_digest(connection: &Connection, identity: &FileIdentity, sha256: &[u8; 32]) -> rusqlite::Result<()> {
    // A number that SQLite gives is larger than every other, so the smallest were kept first.
    let sql = "INSERT OR REPLACE INTO digest (device, inode, size_bytes, modified_ns, changed_ns, sha256)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let [device, inode, size_bytes] = [identity.device, identity.inode, identity.size_bytes].map(u64::cast_signed);
    let values = params![device, inode, size_bytes, identity.modified_ns, identity.changed_ns, sha256];
    connection.prepare_cached(sql)?.execute(values)?;
    let sql = "DELETE FROM digest WHERE kept <= (SELECT max(kept) FROM digest) - ?1";
    connection.prepare_cached(sql)?.execute([MAX_DIGESTS as i64])?;
    Ok(())
}

fn exists(connection: &Connection, sql: &str, key: &str) -> rusqlite::Result<bool> {
    Ok(connection.prepare_cached(sql)?.query_row([key], |_| Ok(())).optional()?.is_some())
}
