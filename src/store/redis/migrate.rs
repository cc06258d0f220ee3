//! A Redis, filled whole from another store, and read whole for one.

use std::collections::HashMap;

use redis::{Pipeline, Value, cmd, pipe};
use tokio::sync::mpsc;

use super::retention::counts;
use super::save::{card_of, state_of};
use super::scripts::{Args, Script};
use super::writer::Line;
use super::{CHUNK, FORMAT, RedisStore, kept, reply};
use crate::share::{FileIdentity, Share, ShareId, Steady, Timestamp};
use crate::store::audit::AuditEntry;
use crate::store::migrate::{Ends, Feed, Link, Moved, Row};
use crate::store::stats::{Day, Series};
use crate::store::{LogMark, Store, StoreError, kind_of};
use crate::token::random;

/// For how long nobody may have been heard who shares it, in milliseconds: more than a lease, and less than an owner minds to wait.
const SILENCE_MS: u64 = 10_000;
/// What `meta` says under `aside` while it is read for another store, and when it was.
const LEAVING: &str = "leaving";
const LEFT: &str = "left";
/// A key of each kind that anything of ours has.
const TRACES: [&str; 14] = [
    "meta",
    "events",
    "by_age",
    "by_end",
    "watched",
    "audit",
    "marks",
    "controllers",
    "folders",
    "sessions",
    "tokens",
    "plans",
    "digests",
    "transfer_key",
];

impl RedisStore {
    /// Connects to a Redis to move everything into it, or out of it: also to one that no controller may use.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] where what is there is of a later version; [`StoreError::Unavailable`] where it cannot be reached.
    pub async fn open_to_move(options: &super::RedisOptions) -> Result<Self, StoreError> {
        let store = Self::connect(options)?;
        match store.look(options).await?.later_format() {
            Some(reason) => Err(StoreError::Unusable { reason }),
            None => Ok(store),
        }
    }

    /// Says why nobody may use what is set aside.
    pub(super) fn refuse_aside(&self, aside: &str) -> Result<(), StoreError> {
        let pattern = format!("{}*", self.keys.prefix());
        let remove =
            format!("remove its keys (redis-cli --scan --pattern '{pattern}' | xargs redis-cli unlink), or name another REDIS_PREFIX");
        let reason = match aside {
            "" => return Ok(()),
            LEAVING => {
                "its shares are being moved into a state folder, or that was cut short; then run `portcullis migrate --from redis --to \
                        sqlite` again"
                    .to_owned()
            }
            LEFT => format!("its shares were moved into a state folder, and live there; to begin anew here, {remove}"),
            _ => format!("shares are being moved into it, or that was cut short; then begin anew: {remove}, and migrate again"),
        };
        Err(StoreError::Unusable { reason })
    }

    fn refused(&self, values: &[Value]) -> StoreError {
        let word = values.get(1).and_then(reply::text).unwrap_or_default();
        let reason = match reply::word(values) {
            "aside" => return self.refuse_aside(word).err().unwrap_or_else(reply::strange),
            "full" => "there is something in it already; name another REDIS_PREFIX, under which nothing is".to_owned(),
            "heard" => {
                format!("a controller uses it ({word}); stop all of them, and wait {} s where one did not end by itself", SILENCE_MS / 1000)
            }
            _ => return reply::strange(),
        };
        StoreError::Unusable { reason }
    }

    async fn aside(&self, script: Script, args: Vec<String>) -> Result<(), StoreError> {
        let args: Args = args.into_iter().map(String::into_bytes).collect();
        let values = self.write(script, args, Line::Unknown, None).await?.values;
        if reply::word(&values) == "ok" { Ok(()) } else { Err(self.refused(&values)) }
    }

    /// Begins to fill it, where nothing of ours is in it.
    pub(in crate::store) async fn begin_filling(&self) -> Result<(), StoreError> {
        let id = format!("filling {:016x}", u64::from_le_bytes(random::bytes()));
        let mut args = vec![id, FORMAT.to_string()];
        args.extend(TRACES.map(str::to_owned));
        self.aside(Script::Fill, args).await
    }

    /// Lets what was filled count.
    pub(in crate::store) async fn end_filling(&self) -> Result<(), StoreError> {
        self.aside(Script::Aside, vec![String::new()]).await
    }

    /// Sets everything aside to be read, unless a controller sees to it.
    pub(in crate::store) async fn begin_leaving(&self) -> Result<(), StoreError> {
        self.aside(Script::Empty, vec![LEAVING.to_owned(), SILENCE_MS.to_string()]).await
    }

    /// Says that everything has moved, or that all stands here as before.
    pub(in crate::store) async fn end_leaving(&self, has_left: bool) -> Result<(), StoreError> {
        self.aside(Script::Aside, vec![if has_left { LEFT } else { "" }.to_owned()]).await
    }

    /// Writes what comes until nothing more comes.
    pub(in crate::store) async fn fill(&self, rows: &mut mpsc::Receiver<Row>) -> Result<Moved, StoreError> {
        let (mut moved, mut chunk) = (Moved::default(), Vec::with_capacity(CHUNK));
        let mut skews = Skews::default();
        while rows.recv_many(&mut chunk, CHUNK).await > 0 {
            let mut pipe = pipe();
            let mut others = Vec::new();
            for row in chunk.drain(..) {
                moved.count(&row);
                skews.see(&row);
                others.extend(self.add(&mut pipe, row, &skews));
            }
            if !pipe.is_empty() {
                // Sent once: what is sent again would stand there twice. Where it breaks all of it begins anew.
                let (_, values) = self.reads.send(&pipe).await?;
                if let Some(Value::ServerError(error)) = values.iter().find(|value| matches!(value, Value::ServerError(_))) {
                    return Err(StoreError::unavailable(error.to_string()));
                }
            }
            self.put_others(others).await?;
        }
        Ok(moved)
    }

    /// Writes what a write of its own keeps as well, in its order.
    async fn put_others(&self, rows: Vec<Row>) -> Result<(), StoreError> {
        let writes = rows.into_iter().filter_map(|row| match row {
            Row::Session(session) => Some(Store::put_session(self, session)),
            Row::ApiToken(token) => Some(Store::put_api_token(self, token)),
            Row::Digest(identity, sha256) => Some(self.put_digest(identity, sha256)),
            Row::LogMark(log, mark) => Some(self.put_log_mark(log, mark)),
            Row::Plan(plan) => {
                let put = Store::put_plan(self, plan, Steady(i64::MIN));
                Some(Box::pin(async move { put.await.map(drop) }) as futures_util::future::BoxFuture<'_, _>)
            }
            _ => None,
        });
        futures_util::future::try_join_all(writes).await.map(drop)
    }

    /// Adds what keeps a row; returns it where a write of its own does.
    fn add(&self, pipe: &mut Pipeline, row: Row, skews: &Skews) -> Option<Row> {
        let key = |name: &str| self.keys.of(name);
        match row {
            Row::Share(share, links) => self.add_share(pipe, &share, &links),
            Row::Forgetting(id) => drop(pipe.set(key("forgetting"), id.as_str())),
            Row::Event(record) => {
                let (seq, kind) = (format!("{}-0", record.seq), kind_of(&record.fact));
                let body = serde_json::to_string(&record.fact).expect("a fact has a JSON form");
                let parts = [("a", record.at.0.to_string()), ("s", record.share.to_string()), ("f", body)];
                pipe.xadd(key("events"), &seq, &parts);
                pipe.xadd(self.keys.of(format_args!("kind:{kind}")), &seq, &[("", "")]);
                pipe.sadd(key("kinds"), kind);
                pipe.append(self.keys.of(format_args!("lines:{}", record.share)), format!("{},", record.seq));
            }
            Row::Time(at, seq) => drop(pipe.zadd(key("times"), seq, at.0)),
            Row::Audit(line) => {
                let AuditEntry { at, who, from, action, target, detail } = &line.entry;
                let mut add = cmd("XADD");
                add.arg(key("audit")).arg(format!("{}-0", line.seq)).arg("a").arg(at.0).arg("w").arg(who).arg("f").arg(from);
                add.arg("c").arg(action).arg("t").arg(target).arg("d").arg(detail);
                add.arg("p").arg(&line.previous[..]).arg("h").arg(&line.hash[..]);
                pipe.add_command(add);
            }
            Row::Tally(series, place, name, count) => {
                let tally = self.keys.of(format_args!("tally:{}:{}", series.as_str(), place.0));
                pipe.zadd(self.keys.of(format_args!("days:{}", series.as_str())), place.0, place.0);
                pipe.hset(&tally, format!("t{name}"), count.times);
                if count.bytes > 0 {
                    pipe.hset(&tally, format!("b{name}"), count.bytes);
                }
                if !name.is_empty() {
                    pipe.hincr(&tally, "n", 1);
                }
            }
            Row::Ends(ends) => self.add_ends(pipe, &ends, skews),
            other => return Some(other),
        }
        None
    }

    fn add_share(&self, pipe: &mut Pipeline, share: &Share, links: &[Link]) {
        let (key, id) = (|name: &str| self.keys.of(name), share.id.as_str());
        let (closed_ms, state) = state_of(share);
        let names: String = links.iter().map(|link| format!(" {}", link.jti)).collect();
        let body = serde_json::to_string(share).expect("a share has a JSON form");
        // Nobody watches it, so whoever comes takes it over.
        pipe.set(self.keys.of(format_args!("share:{id}")), format!("1 0 1 - 0 {state}{names}\n{body}"));
        for Link { jti, uses_max, uses_spent, is_dead } in links {
            let row = format!("{uses_max} {uses_spent} {} {id}", u8::from(*is_dead));
            pipe.set(self.keys.of(format_args!("link:{jti}")), row);
        }
        let card = card_of(share);
        if !card.is_empty() {
            pipe.zadd(key("by_age"), id, share.created.steady.0);
            pipe.hset(key("cards"), id, format!("{} {card}", share.created.wall.0));
        }
        match closed_ms {
            None => drop(pipe.zadd(key("watched"), id, 0)),
            Some(at) => {
                pipe.zadd(key("by_end"), id, at);
                if !card.is_empty() {
                    pipe.zadd(self.keys.of(format_args!("outcome:{state}")), id, share.created.steady.0);
                }
            }
        }
    }

    fn add_ends(&self, pipe: &mut Pipeline, ends: &Ends, skews: &Skews) {
        let numbers = [
            ("seq", Some(ends.latest_seq.cast_signed()).filter(|seq| *seq > 0)),
            ("latest_steady", ends.latest_steady.map(|steady| steady.0)),
            ("latest_wall", ends.latest_wall.map(|wall| wall.0)),
            ("least_skew", skews.0.map(|(least, _)| least)),
            ("most_skew", skews.0.map(|(_, most)| most)),
        ];
        for (name, number) in numbers {
            if let Some(number) = number {
                pipe.hset(self.keys.of("meta"), name, number);
            }
        }
        for (name, mark) in [("head", ends.head), ("anchor", ends.anchor)] {
            if let Some(mark) = mark {
                pipe.hset(self.keys.of("marks"), name, reply::of_mark(mark));
            }
        }
    }

    /// Reads everything. Nobody writes meanwhile.
    pub(in crate::store) async fn read_all(&self, feed: &mut Feed) -> Result<(), StoreError> {
        for index in ["by_end", "watched"] {
            self.read_shares(index, feed).await?;
        }
        if let Some(id) = reply::text(&self.ask_one(cmd("GET").arg(self.keys.of("forgetting")).take()).await?) {
            feed.send(Row::Forgetting(id.parse().map_err(|_| damaged("a share"))?)).await?;
        }
        let mut last = 0;
        loop {
            let records = self.records_behind(last).await?;
            let Some(newest) = records.last() else { break };
            last = newest.seq;
            for record in records {
                feed.send(Row::Event(record)).await?;
            }
        }
        let times = self.ask_one(cmd("ZRANGE").arg(self.keys.of("times")).arg(0).arg(-1).arg("WITHSCORES").take()).await?;
        for pair in reply::list(times).chunks_exact(2) {
            let (Some(seq), Some(at)) = (reply::number(&pair[0]), reply::number(&pair[1])) else { return Err(reply::strange()) };
            feed.send(Row::Time(Timestamp(at), seq)).await?;
        }
        let mut last = 0;
        loop {
            let lines = self.audit_behind(last, CHUNK).await?;
            let Some(newest) = lines.last() else { break };
            last = newest.seq;
            for line in lines {
                feed.send(Row::Audit(line)).await?;
            }
        }
        // Whatever the clock says: what is over ends by itself.
        for session in self.all_sessions(Steady(i64::MIN)).await? {
            feed.send(Row::Session(session)).await?;
        }
        for token in self.all_api_tokens().await? {
            feed.send(Row::ApiToken(token)).await?;
        }
        self.read_kept(feed).await?;
        self.read_tallies(feed).await?;
        let mut pipe = pipe();
        pipe.cmd("HMGET").arg(self.keys.of("meta")).arg("seq").arg("latest_steady").arg("latest_wall");
        let meta = reply::list(self.ask(&pipe).await?.pop().ok_or_else(reply::strange)?);
        let number = |at: usize| meta.get(at).and_then(reply::number::<i64>);
        let (anchor, head) = self.audit_marks().await?;
        let (latest_steady, latest_wall) = (number(1).map(Steady), number(2).map(Timestamp));
        let latest_seq = number(0).unwrap_or(0).cast_unsigned();
        feed.send(Row::Ends(Ends { latest_seq, latest_steady, latest_wall, head, anchor })).await
    }

    /// Reads what stands in an ordered set, a part at a time.
    async fn part_of(&self, index: &str, from: usize) -> Result<Vec<String>, StoreError> {
        let mut part = cmd("ZRANGE");
        part.arg(self.keys.of(index)).arg(from).arg(from + CHUNK - 1);
        let names = reply::list(self.ask_one(part).await?);
        Ok(names.iter().filter_map(reply::text).map(str::to_owned).collect())
    }

    async fn read_shares(&self, index: &str, feed: &mut Feed) -> Result<(), StoreError> {
        let mut from = 0;
        loop {
            let ids = self.part_of(index, from).await?;
            if ids.is_empty() {
                return Ok(());
            }
            from += ids.len();
            let names: Vec<String> = ids.iter().map(|id| self.keys.of(format_args!("share:{id}"))).collect();
            for value in self.values_of(&names).await? {
                let (links, body) = reply::bytes(&value).and_then(reply::links_and_body).ok_or_else(|| damaged("a share"))?;
                let share = reply::share(body)?;
                let names: Vec<String> = links.iter().map(|jti| self.keys.of(format_args!("link:{jti}"))).collect();
                let rows = self.values_of(&names).await?;
                let links = links.iter().zip(&rows).map(|(jti, row)| link_of(jti, reply::text(row)?));
                let links = links.collect::<Option<Vec<Link>>>().ok_or_else(|| damaged("a link"))?;
                feed.send(Row::Share(share.into(), links)).await?;
            }
        }
    }

    /// Reads plans, marks of logs and digests, in the order in which they came.
    async fn read_kept(&self, feed: &mut Feed) -> Result<(), StoreError> {
        for (values, order) in
            [("plans", "plan_order".to_owned()), (&self.marks, format!("{}_order", self.marks)), ("digests", "digests_order".to_owned())]
        {
            let mut from = 0;
            loop {
                let fields = self.part_of(&order, from).await?;
                if fields.is_empty() {
                    break;
                }
                from += fields.len();
                let kept = reply::list(self.ask_one(cmd("HMGET").arg(self.keys.of(values)).arg(&fields).take()).await?);
                for (field, kept) in fields.into_iter().zip(&kept) {
                    let kept = reply::text(kept).ok_or_else(|| damaged("what is kept"))?;
                    let row = match values {
                        "plans" => kept::plan_of(field, kept).map(Row::Plan),
                        "digests" => digest_row(&field, kept),
                        _ => serde_json::from_str::<LogMark>(kept).ok().map(|mark| Row::LogMark(field, mark)),
                    };
                    feed.send(row.ok_or_else(|| damaged("what is kept"))?).await?;
                }
            }
        }
        Ok(())
    }

    async fn read_tallies(&self, feed: &mut Feed) -> Result<(), StoreError> {
        for series in Series::ALL {
            let mut from = 0;
            loop {
                let days = self.part_of(&format!("days:{}", series.as_str()), from).await?;
                if days.is_empty() {
                    break;
                }
                from += days.len();
                for day in days {
                    let name = self.keys.of(format_args!("tally:{}:{day}", series.as_str()));
                    let tallies = reply::list(self.ask_one(cmd("HGETALL").arg(name).take()).await?);
                    let place = Day(day.parse().map_err(|_| damaged("a number of the statistics"))?);
                    let rows: HashMap<String, _> = counts(&tallies).map(|(name, count)| (name.to_owned(), count)).collect();
                    for (name, count) in rows {
                        feed.send(Row::Tally(series, place, name, count)).await?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// How far the wall clock was from the steady one when shares were made: the least and the most.
#[derive(Default)]
struct Skews(Option<(i64, i64)>);

impl Skews {
    fn see(&mut self, row: &Row) {
        if let Row::Share(share, _) = row
            && !share.file.is_self_test()
        {
            let skew = share.created.wall.0.saturating_sub(share.created.steady.0);
            let (least, most) = self.0.unwrap_or((skew, skew));
            self.0 = Some((least.min(skew), most.max(skew)));
        }
    }
}

fn damaged(what: &str) -> StoreError {
    StoreError::Unusable { reason: format!("{what} in it cannot be read (it is damaged)") }
}

/// Reads `MAX SPENT DEAD SHARE`.
fn link_of(jti: &str, row: &str) -> Option<Link> {
    let mut parts = row.split(' ');
    let mut number = || parts.next()?.parse::<u64>().ok();
    let (uses_max, uses_spent, dead) = (number()?, number()?, number()?);
    let _: ShareId = parts.next()?.parse().ok()?;
    Some(Link { jti: jti.parse().ok()?, uses_max, uses_spent, is_dead: dead == 1 })
}

/// Reads what [`kept::of_digest`] writes.
fn digest_row(file: &str, kept: &str) -> Option<Row> {
    let (device, inode) = file.split_once(':')?;
    let mut parts = kept.split(' ');
    let (size_bytes, modified_ns, changed_ns) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let identity = FileIdentity { device: device.parse().ok()?, inode: inode.parse().ok()?, size_bytes, modified_ns, changed_ns };
    Some(Row::Digest(identity, reply::digest(parts.next()?)?))
}
