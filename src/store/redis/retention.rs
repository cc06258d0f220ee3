//! Forgetting what is over for long enough, and statistics.

use std::collections::HashMap;

use redis::{Value, cmd, pipe};

use super::scripts::{Args, Script};
use super::writer::Line;
use super::{CHUNK, RedisStore, reply};
use crate::share::Timestamp;
use crate::store::audit::{AuditMark, FORGOTTEN, forgotten_up_to};
use crate::store::stats::{Adder, Count, Day, Series, longest};
use crate::store::{Forgotten, Stats, StoreError};

/// The most rows that one call removes: some tens of milliseconds, for which everybody else's writes wait.
const MAX_ROWS: u64 = 2000;

impl RedisStore {
    pub(super) async fn forget_before(&self, before: Timestamp) -> Result<Forgotten, StoreError> {
        let mut args = vec![before.0.to_string(), MAX_ROWS.to_string(), Series::ALL.len().to_string()];
        let day = Day::of(before);
        args.extend(Series::ALL.into_iter().flat_map(|series| [series.as_str().to_owned(), series.first_kept(day).0.to_string()]));
        let args: Args = args.into_iter().map(String::into_bytes).collect();
        let done = self.write(Script::Forget, args, Line::Unknown, None).await?;
        let numbers: Vec<u64> = done.values.iter().skip(1).filter_map(reply::number).collect();
        let [shares, events, left] = numbers.as_slice() else { return Err(reply::strange()) };
        let audit_lines = if *left > 0 { self.forget_audit(before, *left).await? } else { 0 };
        Ok(Forgotten { events: *events, shares: *shares, audit_lines, is_more: *left <= audit_lines })
    }

    /// Forgets the beginning of the audit log, notes where the rest begins, and writes a line that says so.
    async fn forget_audit(&self, before: Timestamp, most: u64) -> Result<u64, StoreError> {
        let (anchor, _) = self.audit_marks().await?;
        let (mut last, mut lines, mut is_worth_a_line) = (None, 0, false);
        'all: while lines < most {
            let behind = last.map_or(0, |mark: AuditMark| mark.seq);
            let part = self.audit_behind(behind, CHUNK.min((most - lines) as usize)).await?;
            if part.is_empty() {
                break;
            }
            for line in part {
                if line.entry.at >= before {
                    break 'all;
                }
                (last, lines) = (Some(line.mark()), lines + 1);
                // Or each forgetting would leave a line for the next to forget, for ever.
                is_worth_a_line |= line.entry.action != FORGOTTEN;
            }
        }
        let Some(last) = last.filter(|_| is_worth_a_line) else { return Ok(0) };
        // The wall clock, as Redis reads it: whoever asks names only how old is too old.
        let now = self.ask_one(cmd("TIME")).await?;
        let now = reply::list(now).first().and_then(reply::number::<i64>).ok_or_else(reply::strange)? * 1000;
        let args = [anchor.map(reply::of_mark).unwrap_or_default(), reply::of_mark(last), format!("{}-0", last.seq + 1)];
        let args: Args = args.map(String::into_bytes).into();
        let line = Line::Entry(forgotten_up_to(last, Timestamp(now)));
        let done = self.write(Script::ForgetAudit, args, line, None).await?;
        // Another controller forgets at the same time, and has told of it.
        Ok(if reply::word(&done.values) == "ok" { lines } else { 0 })
    }

    /// Adds up the days from one to another. What is counted meanwhile may be among it or not.
    pub(super) async fn stats_of(&self, from: Day, to: Day) -> Result<Stats, StoreError> {
        let (from, to) = longest(from, to);
        let mut adder = Adder::default();
        for series in Series::ALL {
            for (first, last) in series.wanted(from, to) {
                let mut days = cmd("ZRANGEBYSCORE");
                days.arg(self.keys.of(format!("days:{}", series.as_str()))).arg(first.0).arg(last.0);
                let days = reply::list(self.ask_one(days).await?);
                for days in days.chunks(CHUNK) {
                    let mut pipe = pipe();
                    let names: Vec<&str> = days.iter().filter_map(reply::text).collect();
                    names.iter().for_each(|day| {
                        pipe.hgetall(self.keys.of(format!("tally:{}:{day}", series.as_str())));
                    });
                    for (day, tallies) in names.iter().zip(self.ask(&pipe).await?) {
                        let day = Day(day.parse().map_err(|_| reply::strange())?);
                        counts(&reply::list(tallies)).for_each(|(name, count)| adder.add(series.kind, day, name, count));
                    }
                }
            }
        }
        Ok(adder.finish())
    }
}

/// Reads the tallies of a day: `tNAME` how often, `bNAME` how many bytes; `n` is how many names there are.
pub(super) fn counts(tallies: &[Value]) -> impl Iterator<Item = (&str, Count)> {
    let read = |pair: &'_ [Value]| Some((reply::text(&pair[0])?.to_owned(), reply::number::<i64>(&pair[1])?.cast_unsigned()));
    let numbers: HashMap<String, u64> = tallies.chunks_exact(2).filter_map(read).collect();
    let names = tallies.chunks_exact(2).filter_map(|pair| reply::text(&pair[0])?.strip_prefix('t'));
    names.map(move |name| {
        let of = |kind: char| numbers.get(&format!("{kind}{name}")).copied().unwrap_or(0);
        (name, Count { times: of('t'), bytes: of('b') })
    })
}
