//! What is asked about shares and events. Every page is read along an index, so that what it costs depends on what is on it.

use redis::{Value, cmd, pipe};

use super::scripts::{Args, Script};
use super::{CHUNK, RedisStore, reply};
use crate::causes::Causes;
use crate::share::{Share, ShareId, Timestamp};
use crate::store::shared::Held;
use crate::store::{EventQuery, Record, ShareQuery, StoreError, folded, kind_of, page_limit};

/// How many shares one call of the script looks at, a few milliseconds: everybody else waits for it.
const STEPS: usize = 2000;

impl RedisStore {
    pub(super) async fn held_of(&self, id: ShareId) -> Result<Option<Held>, StoreError> {
        reply::held(&self.ask_one(cmd("GET").arg(self.keys.of(format!("share:{id}"))).take()).await?)
    }

    /// Returns every share that is not closed, oldest first.
    pub(super) async fn living_held(&self) -> Result<Vec<Held>, StoreError> {
        let ids = reply::list(self.ask_one(cmd("ZRANGE").arg(self.keys.of("watched")).arg(0).arg(-1).take()).await?);
        let names: Vec<String> = ids.iter().filter_map(reply::text).map(|id| self.keys.of(format!("share:{id}"))).collect();
        let held = self.values_of(&names).await?;
        // One may have closed since its id was read.
        let readable = |value: &Value| match reply::held(value) {
            Ok(held) => held,
            Err(error) => {
                // Nothing of it is sent from here, and the others go on.
                tracing::warn!(error = %Causes(&error), "A share in Redis cannot be read");
                None
            }
        };
        let mut living: Vec<Held> = held.iter().filter_map(readable).collect();
        living.retain(|held| !held.share.is_closed());
        living.sort_by_key(|held| (held.share.created.steady, held.share.id));
        Ok(living)
    }

    pub(super) async fn page_of_shares(&self, query: ShareQuery) -> Result<Vec<Share>, StoreError> {
        let ShareQuery { closed, outcome, path_contains, since, until, before, limit } = query;
        if outcome.is_some() && closed == Some(false) {
            return Ok(Vec::new());
        }
        let time = |at: Option<Timestamp>| at.map(|at| at.0.to_string()).unwrap_or_default();
        let (mut page, mut rank, limit) = (Vec::new(), 0_u64, page_limit(limit));
        loop {
            let args = [
                (limit - page.len()).to_string(),
                STEPS.to_string(),
                rank.to_string(),
                outcome.map(|outcome| outcome.as_str().to_owned()).unwrap_or_default(),
                closed.filter(|_| outcome.is_none()).map(|closed| u8::from(closed).to_string()).unwrap_or_default(),
                path_contains.as_deref().map(folded).unwrap_or_default(),
                time(since),
                time(until),
                before.map(|id| id.to_string()).unwrap_or_default(),
            ];
            let args: Args = args.map(String::into_bytes).into();
            let found = self.ask_script(Script::Page, &args).await?;
            let (next, bodies) = found.split_first().ok_or_else(reply::strange)?;
            for body in bodies {
                page.push(reply::share(reply::bytes(body).ok_or_else(reply::strange)?)?);
            }
            rank = reply::number(next).ok_or_else(reply::strange)?;
            if rank == 0 || page.len() >= limit {
                return Ok(page);
            }
        }
    }

    pub(super) async fn page_of_events(&self, query: EventQuery) -> Result<Vec<Record>, StoreError> {
        let limit = page_limit(query.limit);
        let after = query.after.max(self.last_before(query.since).await?);
        // Lines from the one to the other, both included; none where the one lies behind the other.
        let (Some(mut from), Some(mut to)) = (after.checked_add(1), query.before.unwrap_or(u64::MAX).checked_sub(1)) else {
            return Ok(Vec::new());
        };
        let lines = self.where_to_look(&query).await?;
        let mut page = Vec::new();
        while from <= to && page.len() < limit {
            let (found, is_end) = self.some_lines(&lines, from, to, query.newest_first, limit.min(CHUNK)).await?;
            let Some(last) = found.last().map(|record| record.seq) else {
                break;
            };
            page.extend(found.into_iter().filter(|record| is_wanted(record, &query)).take(limit - page.len()));
            if is_end {
                break;
            }
            if query.newest_first { to = last.saturating_sub(1) } else { from = last.saturating_add(1) }
        }
        Ok(page)
    }

    /// Returns in which index the lines stand that are wanted.
    async fn where_to_look(&self, query: &EventQuery) -> Result<Lines, StoreError> {
        if let Some(share) = query.share {
            let all = self.ask_one(cmd("GET").arg(self.keys.of(format!("lines:{share}"))).take()).await?;
            let numbers = reply::text(&all).unwrap_or_default().split_terminator(',').filter_map(|seq| seq.parse().ok());
            return Ok(Lines::Numbered(numbers.collect()));
        }
        Ok(match &query.kind {
            None => Lines::All,
            Some(prefix) if prefix.ends_with('.') => {
                let kinds = reply::list(self.ask_one(cmd("SMEMBERS").arg(self.keys.of("kinds")).take()).await?);
                let begin_so = kinds.iter().filter_map(reply::text).filter(|kind| kind.starts_with(prefix.as_str()));
                Lines::OfKinds(begin_so.map(str::to_owned).collect())
            }
            Some(kind) => Lines::OfKinds(vec![kind.clone()]),
        })
    }

    /// Returns the next lines, at most so many, and whether there are no more.
    async fn some_lines(
        &self,
        lines: &Lines,
        from: u64,
        to: u64,
        newest_first: bool,
        most: usize,
    ) -> Result<(Vec<Record>, bool), StoreError> {
        let mut numbers: Vec<u64> = match lines {
            Lines::All => {
                let found = self.ask_one(range(&self.keys.of("events"), from, to, newest_first, most)).await?;
                let found = reply::list(found);
                let is_end = found.len() < most;
                return Ok((found.iter().map(record).collect::<Result<_, _>>()?, is_end));
            }
            Lines::Numbered(numbers) => numbers.iter().copied().filter(|seq| (from..=to).contains(seq)).collect(),
            Lines::OfKinds(kinds) => {
                let mut pipe = pipe();
                kinds.iter().for_each(|kind| {
                    pipe.add_command(range(&self.keys.of(format!("kind:{kind}")), from, to, newest_first, most));
                });
                let found = if kinds.is_empty() { Vec::new() } else { self.ask(&pipe).await? };
                found.into_iter().flat_map(reply::list).filter_map(|entry| Some(reply::entry_of(&entry)?.0)).collect()
            }
        };
        numbers.sort_unstable();
        if newest_first {
            numbers.reverse();
        }
        let is_end = numbers.len() < most;
        numbers.truncate(most);
        Ok((self.records(&numbers).await?, is_end))
    }

    /// Returns lines behind a number, in order, as many as are read in one go.
    pub(super) async fn records_behind(&self, seq: u64) -> Result<Vec<Record>, StoreError> {
        let found = self.ask_one(range(&self.keys.of("events"), seq + 1, u64::MAX, false, CHUNK)).await?;
        reply::list(found).iter().map(record).collect()
    }

    /// Reads lines by their numbers, those that are still kept.
    pub(super) async fn records(&self, numbers: &[u64]) -> Result<Vec<Record>, StoreError> {
        let mut records = Vec::with_capacity(numbers.len());
        for numbers in numbers.chunks(CHUNK) {
            let mut pipe = pipe();
            for seq in numbers {
                pipe.add_command(range(&self.keys.of("events"), *seq, *seq, false, 1));
            }
            for found in self.ask(&pipe).await? {
                if let Some(entry) = reply::list(found).first() {
                    match record(entry) {
                        Ok(record) => records.push(record),
                        Err(error) => tracing::warn!(error = %Causes(&error), "A line of the event log in Redis cannot be read"),
                    }
                }
            }
        }
        Ok(records)
    }

    /// Returns a number up to which every line was written before `since`, by the wall clock.
    async fn last_before(&self, since: Option<Timestamp>) -> Result<u64, StoreError> {
        let Some(since) = since else { return Ok(0) };
        let mut note = cmd("ZREVRANGEBYSCORE");
        note.arg(self.keys.of("times")).arg(since.0).arg("-inf").arg("LIMIT").arg(0).arg(1);
        let first: Option<u64> = reply::list(self.ask_one(note).await?).first().and_then(reply::number);
        Ok(first.map_or(0, |first| first - 1))
    }
}

/// Where lines are looked for.
enum Lines {
    All,
    OfKinds(Vec<String>),
    Numbered(Vec<u64>),
}

/// Writes down a part of a stream whose ids are the numbers.
fn range(key: &str, from: u64, to: u64, newest_first: bool, most: usize) -> redis::Cmd {
    let (from, to) = (format!("{from}-0"), format!("{to}-0"));
    let mut range = cmd(if newest_first { "XREVRANGE" } else { "XRANGE" });
    let (first, last) = if newest_first { (to, from) } else { (from, to) };
    range.arg(key).arg(first).arg(last).arg("COUNT").arg(most).take()
}

/// Returns whether a line is wanted, as far as the index does not say it.
fn is_wanted(record: &Record, query: &EventQuery) -> bool {
    query.since.is_none_or(|since| record.at >= since)
        && query.kind.as_ref().is_none_or(|wanted| {
            let kind = kind_of(&record.fact);
            if wanted.ends_with('.') { kind.starts_with(wanted) } else { kind == *wanted }
        })
}

/// Reads a line of the event log.
fn record(entry: &Value) -> Result<Record, StoreError> {
    let read = || {
        let (seq, fields) = reply::entry_of(entry)?;
        let [_, at, _, share, _, fact] = fields else { return None };
        let share = reply::text(share)?.parse().ok()?;
        Some(Record { seq, at: Timestamp(reply::number(at)?), share, fact: serde_json::from_slice(reply::bytes(fact)?).ok()? })
    };
    read().ok_or_else(|| StoreError::Unusable { reason: "a line of its event log cannot be read".to_owned() })
}
