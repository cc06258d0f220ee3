//! The tallies in the file: kept in the transaction that appends to the event log, so that they are the fold of it.

use rusqlite::{Connection, params};

use super::{StoreError, refused};
use crate::share::Fact;
use crate::store::stats::{Adder, Count, Day, Rollup, Series, Stats, Tick, longest, ticks_of};

/// Adds a line of the log, about a share of `path`, to the tallies of its day.
pub(super) fn count(connection: &Connection, day: Day, fact: &Fact, path: &str) -> rusqlite::Result<()> {
    for Tick { kind, name, count } in ticks_of(fact, path) {
        for (series, place) in Series::of(kind, day) {
            if add(connection, series, place, &name, count)? {
                continue;
            }
            if !is_full(connection, series, place)? {
                insert(connection, series, place, &name, count)?;
            } else if !add(connection, series, place, "", count)? {
                insert(connection, series, place, "", count)?;
            }
        }
    }
    Ok(())
}

fn add(connection: &Connection, series: Series, place: Day, name: &str, count: Count) -> rusqlite::Result<bool> {
    // A sum past the largest number becomes a real one, of which min() makes the largest number.
    let sql =
        "UPDATE tally SET times = times + ?4, bytes = min(9223372036854775807, bytes + ?5) WHERE kind = ?1 AND day = ?2 AND name = ?3";
    let values = params![series.as_str(), place.0, name, count.times.cast_signed(), count.bytes.cast_signed()];
    Ok(connection.prepare_cached(sql)?.execute(values)? > 0)
}

pub(super) fn insert(connection: &Connection, series: Series, place: Day, name: &str, count: Count) -> rusqlite::Result<()> {
    let sql = "INSERT INTO tally (kind, day, name, times, bytes) VALUES (?1, ?2, ?3, ?4, ?5)";
    let values = params![series.as_str(), place.0, name, count.times.cast_signed(), count.bytes.cast_signed()];
    connection.prepare_cached(sql)?.execute(values)?;
    Ok(())
}

/// Returns whether a name that the day does not know is counted with others. Asked once for each name of a day.
fn is_full(connection: &Connection, series: Series, place: Day) -> rusqlite::Result<bool> {
    let Ok(most) = i64::try_from(series.most_names()) else { return Ok(false) };
    let sql = "SELECT count(*) FROM tally WHERE kind = ?1 AND day = ?2 AND name <> ''";
    let told_apart: i64 = connection.prepare_cached(sql)?.query_row(params![series.as_str(), place.0], |row| row.get(0))?;
    Ok(told_apart >= most)
}

/// Writes the tallies of a log that had none.
pub(super) fn put_all(connection: &Connection, rollup: &Rollup) -> rusqlite::Result<()> {
    rollup.tallies().try_for_each(|(series, place, name, count)| insert(connection, series, place, name, count))
}

/// Forgets tallies of the days before one, at most so many. Returns how many.
pub(super) fn forget(connection: &Connection, before: Day, most: usize) -> rusqlite::Result<usize> {
    let sql = "DELETE FROM tally WHERE (kind, day, name) IN
               (SELECT kind, day, name FROM tally WHERE kind = ?1 AND day < ?2 ORDER BY day LIMIT ?3)";
    let mut statement = connection.prepare_cached(sql)?;
    let mut gone = 0;
    for series in Series::ALL {
        gone += statement.execute(params![series.as_str(), series.first_kept(before).0, (most - gone) as i64])?;
    }
    Ok(gone)
}

/// Adds up the days from one to another.
pub(super) fn stats(connection: &Connection, from: Day, to: Day) -> Result<Stats, StoreError> {
    let (from, to) = longest(from, to);
    let mut adder = Adder::default();
    // One instant for all of them.
    let snapshot = connection.unchecked_transaction().map_err(refused)?;
    let sql = "SELECT day, name, times, bytes FROM tally WHERE kind = ?1 AND day BETWEEN ?2 AND ?3";
    let mut statement = snapshot.prepare_cached(sql).map_err(refused)?;
    for (series, (first, last)) in
        Series::ALL.into_iter().flat_map(|series| series.wanted(from, to).into_iter().map(move |part| (series, part)))
    {
        let mut rows = statement.query(params![series.as_str(), first.0, last.0]).map_err(refused)?;
        while let Some(row) = rows.next().map_err(refused)? {
            let number = |column| row.get::<_, i64>(column).map_err(refused);
            let name = row.get_ref(1).map_err(refused)?.as_str().map_err(|error| refused(rusqlite::Error::from(error)))?;
            let count = Count { times: number(2)?.cast_unsigned(), bytes: number(3)?.cast_unsigned() };
            adder.add(series.kind, Day(number(0)?), name, count);
        }
    }
    Ok(adder.finish())
}
