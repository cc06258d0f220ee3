//! The one thread that writes.
//!
//! A commit waits for the disk, several milliseconds on a NAS. So the thread takes everything that waits, writes it in one
//! transaction and answers when that is on disk: a hundred saves cost as much as one. Each save has a savepoint of its
//! own, so that one refused does not undo the others. Of many callers about half would always be on their way while the
//! others' commit is flushed; so after a large batch the thread waits a moment for those whom it has just answered.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::queries::note_time;
use super::{StoreError, refused, stats};
use crate::share::{Fact, FileIdentity, Phase, Share};
use crate::store::{Day, MAX_DIGESTS, Save, folded, kind_in};

/// The most writes in one transaction: bounds how long the first of them waits for the last.
const MAX_BATCH: usize = 256;

/// The smallest batch behind which is waited for more: whoever is alone, or among few, never waits.
const MIN_TO_GATHER: usize = 4;
/// The longest wait for more: beside a disk that is slower than twice this, it gains nothing that anybody would notice.
const MAX_GATHERING: Duration = Duration::from_millis(5);
/// How often is looked whether they have come.
const LOOK_EVERY: Duration = Duration::from_micros(100);

/// A write that knows who waits for it.
pub(super) trait Job: Send {
    /// Writes, inside the transaction of the batch.
    fn apply(&mut self, connection: &Connection) -> Result<(), Undone>;
    /// Answers, once the batch is on disk or is nowhere.
    fn answer(self: Box<Self>, outcome: Result<(), StoreError>);
}

/// Makes a job of a function that writes, and of whoever waits for what it returns.
pub(super) fn job<T, W>(write: W, answer: oneshot::Sender<Result<T, StoreError>>) -> Box<dyn Job>
where
    T: Send + 'static,
    W: FnOnce(&Connection) -> Result<T, Undone> + Send + 'static,
{
    Box::new(Task { write: Some(write), made: None, answer })
}

struct Task<T, W> {
    write: Option<W>,
    made: Option<T>,
    answer: oneshot::Sender<Result<T, StoreError>>,
}

impl<T: Send, W: FnOnce(&Connection) -> Result<T, Undone> + Send> Job for Task<T, W> {
    fn apply(&mut self, connection: &Connection) -> Result<(), Undone> {
        let write = self.write.take().expect("a job is applied once");
        self.made = Some(write(connection)?);
        Ok(())
    }

    fn answer(self: Box<Self>, outcome: Result<(), StoreError>) {
        let Self { made, answer, .. } = *self;
        // Whoever stopped waiting has the write all the same.
        let _ = answer.send(outcome.map(|()| made.expect("what was applied made something")));
    }
}

/// Why one write of a batch was not done.
pub(super) enum Undone {
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
pub(super) fn run(connection: Connection, mut jobs: mpsc::Receiver<Box<dyn Job>>) {
    let mut batch = Vec::with_capacity(MAX_BATCH);
    while jobs.blocking_recv_many(&mut batch, MAX_BATCH) > 0 {
        let began = Instant::now();
        let outcomes = write_all(&connection, &mut batch);
        let (took, answered) = (began.elapsed(), batch.len());
        for (job, outcome) in batch.drain(..).zip(outcomes) {
            job.answer(outcome);
        }
        // Who waits loses less than sharing the next commit wins.
        gather(&jobs, answered, (took / 2).min(MAX_GATHERING));
    }
}

/// Waits until as many writes wait as there are callers, as far as one can tell: those who were answered come back. Not behind
/// a small batch, and for so long at the most.
fn gather(jobs: &mpsc::Receiver<Box<dyn Job>>, answered: usize, patience: Duration) {
    let (wanted, began) = ((answered + jobs.len()).min(MAX_BATCH), Instant::now());
    while answered >= MIN_TO_GATHER && jobs.len() < wanted && !jobs.is_closed() && began.elapsed() < patience {
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Writes a batch in one transaction. What it answers is on disk, or is nowhere.
fn write_all(connection: &Connection, batch: &mut [Box<dyn Job>]) -> Vec<Result<(), StoreError>> {
    transact(connection, batch).unwrap_or_else(|error| {
        if !connection.is_autocommit() {
            // Where even this fails the next BEGIN does too, and says so to those who wait for it.
            let _ = connection.execute_batch("ROLLBACK");
        }
        let error = Arc::new(error);
        batch.iter().map(|_| Err(refused(Arc::clone(&error)))).collect()
    })
}

fn transact(connection: &Connection, batch: &mut [Box<dyn Job>]) -> rusqlite::Result<Vec<Result<(), StoreError>>> {
    let run = |sql: &str| connection.prepare_cached(sql)?.execute([]);
    let mut outcomes = Vec::with_capacity(batch.len());
    run("BEGIN IMMEDIATE")?;
    for job in batch {
        run("SAVEPOINT one")?;
        let outcome = match job.apply(connection) {
            Ok(()) => Ok(()),
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
        outcomes.push(outcome);
    }
    run("COMMIT")?;
    Ok(outcomes)
}

/// Writes a share with what happened to it, and returns the numbers that its facts got.
pub(super) fn save(connection: &Connection, save: &Save) -> Result<Vec<u64>, Undone> {
    let share = &save.share;
    if save.facts.contains(&Fact::Created) && exists(connection, "SELECT 1 FROM share WHERE id = ?1", share.id.as_str())? {
        return Err(Undone::Refused(StoreError::unavailable("a share of this id exists already")));
    }
    for fact in &save.facts {
        enter(connection, share, fact)?;
    }
    put_share(connection, share)?;
    let sql = "INSERT INTO meta (name, value) VALUES ('latest_steady', ?1)
               ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)";
    connection.prepare_cached(sql)?.execute([save.at.steady.0])?;
    append(connection, save)
}

/// Appends what happened to the event log, and keeps what is folded of it.
fn append(connection: &Connection, save: &Save) -> Result<Vec<u64>, Undone> {
    let path = save.share.file.path.to_text();
    let mut append = connection.prepare_cached("INSERT INTO event (at_ms, share, type, body) VALUES (?1, ?2, ?3, ?4)")?;
    let mut numbers = Vec::with_capacity(save.facts.len());
    for fact in &save.facts {
        let body = serde_json::to_string(fact).expect("a fact has a JSON form");
        let seq = append.insert(params![save.at.wall.0, save.share.id.as_str(), kind_in(&body), body])?;
        if numbers.is_empty() {
            note_time(connection, seq, save.at.wall)?;
        }
        stats::count(connection, Day::of(save.at.wall), fact, &path)?;
        numbers.push(seq.cast_unsigned());
    }
    Ok(numbers)
}

pub(super) fn put_share(connection: &Connection, share: &Share) -> rusqlite::Result<()> {
    let body = serde_json::to_string(share).expect("a share has a JSON form");
    let id = share.id.as_str();
    let (closed_ms, outcome) = match share.phase {
        Phase::Closed { outcome, at } => (Some(at.wall.0), Some(outcome.as_str())),
        Phase::Scheduled | Phase::Opening | Phase::Open | Phase::Closing { .. } => (None, None),
    };
    // Progress, twice a second, changes nothing that an index is made of.
    let sql = "UPDATE share SET body = ?2 WHERE id = ?1 AND closed_ms IS ?3 AND outcome IS ?4";
    if connection.prepare_cached(sql)?.execute(params![id, body, closed_ms, outcome])? > 0 {
        return Ok(());
    }
    let sql = "UPDATE share SET closed = ?2, closed_ms = ?3, outcome = ?4, body = ?5 WHERE id = ?1";
    if connection.prepare_cached(sql)?.execute(params![id, share.is_closed(), closed_ms, outcome, body])? > 0 {
        return Ok(());
    }
    let sql = "INSERT INTO share (id, created_ms, made_ms, path_folded, closed, closed_ms, outcome, body)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let (created, path) = (share.created, folded(&share.file.path.to_text()));
    let values = params![id, created.steady.0, created.wall.0, path, share.is_closed(), closed_ms, outcome, body];
    connection.prepare_cached(sql)?.execute(values)?;
    // One that is opened again while it is being forgotten is not forgotten after all.
    connection.prepare_cached("DELETE FROM forgetting WHERE share = ?1")?.execute([id])?;
    add_to_meta(connection, "shares", 1)
}

/// Adds to a number that is kept by name.
pub(super) fn add_to_meta(connection: &Connection, name: &str, more: i64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value";
    connection.prepare_cached(sql)?.execute(params![name, more])?;
    Ok(())
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
        Fact::Undone => {
            // What was put back from a backup has no use left (`restore.rs`), so no link comes back that may have been used since.
            let sql = "UPDATE link SET dead = 0 WHERE jti = ?1 AND dead = 1 AND uses_spent < uses_max";
            if connection.prepare_cached(sql)?.execute([&jti])? == 0 {
                return Err(Undone::Refused(StoreError::Spent));
            }
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
        | Fact::Probed { .. }
        | Fact::Extended { .. }
        | Fact::Delivered
        | Fact::Closed { .. }
        | Fact::Began { .. } => {}
    }
    Ok(())
}

/// Writes something that means nothing.
pub(super) fn try_write(connection: &Connection) -> rusqlite::Result<()> {
    let sql = "INSERT INTO meta (name, value) VALUES ('tried', 1) ON CONFLICT (name) DO UPDATE SET value = (value + 1) % 1000000";
    connection.prepare_cached(sql)?.execute([])?;
    Ok(())
}

pub(super) fn put_digest(connection: &Connection, identity: &FileIdentity, sha256: &[u8; 32]) -> rusqlite::Result<()> {
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// Longer than any test waits: what does not end by itself is seen to hang.
    const FOR_EVER: Duration = Duration::from_secs(3600);

    fn jobs(count: usize) -> impl Iterator<Item = Box<dyn Job>> {
        (0..count).map(|_| job(|_| Ok(()), oneshot::channel().0))
    }

    #[test]
    fn behind_a_large_batch_those_who_were_answered_are_waited_for() {
        let (sender, queue) = mpsc::channel(MAX_BATCH);
        let is_over = AtomicBool::new(false);
        jobs(8).for_each(|job| sender.try_send(job).map_err(|_| "full").unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // However many have come before it looks: as many as were answered come yet.
                while !is_over.load(Ordering::Relaxed) {
                    jobs(1).for_each(|job| drop(sender.try_send(job)));
                }
            });
            gather(&queue, 8, FOR_EVER);
            is_over.store(true, Ordering::Relaxed);
        });
        assert!(queue.len() >= 16, "{}", queue.len());
        // More than one batch takes is not waited for.
        jobs(MAX_BATCH - queue.len()).for_each(|job| sender.try_send(job).map_err(|_| "full").unwrap());
        gather(&queue, MAX_BATCH, FOR_EVER);
    }

    #[test]
    fn whoever_is_among_few_waits_for_nobody_and_nor_does_the_end() {
        let (sender, queue) = mpsc::channel(MAX_BATCH);
        gather(&queue, MIN_TO_GATHER - 1, FOR_EVER);
        drop(sender);
        gather(&queue, MAX_BATCH, FOR_EVER);
    }
}
