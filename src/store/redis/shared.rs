//! Several controllers on one Redis: who they are, who watches what, and what the others wrote.
//!
//! The news are a stream whose ids are numbers without gaps, of which the last few thousand are kept: whoever finds a gap behind
//! what it read, or has lost the connection meanwhile, looks at all that lives.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::{Value, cmd, pipe};
use tokio::time::Instant;

use super::save::{self, By};
use super::scripts::Script;
use super::{RedisStore, reply};
use crate::causes::Causes;
use crate::share::{ShareId, Steady, Timestamp};
use crate::store::audit::AuditEntry;
use crate::store::shared::{
    Basis, Beat, Changed, ControllerNumber, Cursor, Held, Introduction, Joined, KEPT_NUMBER, MAX_NAME_BYTES, MAX_NUMBER, News, Peer,
    SharedStore, Written,
};
use crate::store::{Save, Store, StoreError};

/// The longest that news are waited for in one go: less than a connection to a Cluster waits for any answer, and a connection that died
/// without a word is found by then.
pub(super) const MAX_PATIENCE: Duration = Duration::from_secs(1);
/// How many news are read in one go.
const MAX_READ: usize = 512;
/// How many shares are taken over in one step: everybody else waits for it, some milliseconds.
const MAX_TAKEN: usize = 200;

/// A line of the news.
struct Notice {
    place: u64,
    by: u16,
    share: ShareId,
    first: u64,
    count: u64,
}

/// How far the news was read: of which connection, and which number.
struct Place {
    generation: u64,
    number: u64,
}

impl Place {
    fn read(cursor: &Cursor) -> Self {
        let parts = cursor.0.split_once(' ').unwrap_or_default();
        Self { generation: parts.0.parse().unwrap_or(0), number: parts.1.parse().unwrap_or(0) }
    }

    fn cursor(&self) -> Cursor {
        Cursor(format!("{} {}", self.generation, self.number))
    }
}

impl RedisStore {
    fn together<const N: usize>(&self, script: Script, args: [String; N]) -> BoxFuture<'_, Result<Vec<Value>, StoreError>> {
        let done = self.put(script, args.map(String::into_bytes));
        async move {
            let values = done.await?.values;
            match reply::word(&values) {
                "ok" => Ok(values),
                "overtaken" => Err(StoreError::Overtaken),
                "full" => Err(StoreError::Full { what: "controllers", most: usize::from(MAX_NUMBER) }),
                _ => Err(reply::strange()),
            }
        }
        .boxed()
    }

    /// Returns the number of the latest news, by the connection that will read them.
    async fn newest(&self) -> Result<Place, StoreError> {
        let mut pipe = pipe();
        pipe.cmd("HGET").arg(self.keys.of("meta")).arg("news");
        let (generation, values) = self.blocking.ask(&pipe).await?;
        Ok(Place { generation, number: values.first().and_then(reply::number).unwrap_or(0) })
    }

    /// Reads what was written behind a place, as soon as there is anything; `None` where the place is of another connection.
    async fn notices(&self, place: &Place, patience: Duration) -> Result<Option<Vec<Notice>>, StoreError> {
        let mut read = cmd("XREAD");
        read.arg("COUNT").arg(MAX_READ);
        if !patience.is_zero() {
            // Zero would be for ever.
            read.arg("BLOCK").arg(patience.as_millis().max(1) as u64);
        }
        read.arg("STREAMS").arg(self.keys.of("news")).arg(format!("{}-0", place.number));
        let mut pipe = pipe();
        pipe.add_command(read);
        let (generation, mut values) = self.blocking.send(&pipe).await?;
        if generation != place.generation {
            return Ok(None);
        }
        match values.pop() {
            Some(Value::Nil) => Ok(Some(Vec::new())),
            Some(Value::ServerError(error)) => Err(StoreError::unavailable(error.to_string())),
            Some(streams) => {
                let entries = reply::list(streams).pop().map(reply::list).and_then(|mut stream| stream.pop()).map(reply::list);
                let notices = entries.unwrap_or_default().iter().map(notice).collect::<Option<Vec<Notice>>>();
                notices.map(Some).ok_or_else(reply::strange)
            }
            None => Err(reply::strange()),
        }
    }

    async fn incomplete(&self) -> Result<News, StoreError> {
        Ok(News { cursor: self.newest().await?.cursor(), is_incomplete: true, changed: Vec::new() })
    }

    async fn news_behind(&self, me: ControllerNumber, cursor: Cursor, patience: Duration) -> Result<News, StoreError> {
        let deadline = Instant::now() + patience;
        let mut place = Place::read(&cursor);
        loop {
            let (doubtful, are_many) = self.doubts.lock().expect("nobody panics while holding the doubts").tell();
            if are_many {
                return self.incomplete().await;
            }
            let left = if doubtful.is_empty() { deadline.saturating_duration_since(Instant::now()) } else { Duration::ZERO };
            let Some(notices) = self.notices(&place, left.min(MAX_PATIENCE)).await? else { return self.incomplete().await };
            if notices.first().is_some_and(|first| first.place != place.number + 1) {
                return self.incomplete().await;
            }
            if let Some(last) = notices.last() {
                place.number = last.place;
            }
            let is_foreign = |notice: &Notice| {
                notice.by != me.0 || self.doubts.lock().expect("nobody panics while holding the doubts").is_of(notice.share)
            };
            let foreign: Vec<Notice> = notices.into_iter().filter(is_foreign).collect();
            if !foreign.is_empty() || !doubtful.is_empty() || deadline <= Instant::now() {
                return Ok(News { cursor: place.cursor(), is_incomplete: false, changed: self.changed(foreign, doubtful).await? });
            }
        }
    }

    /// Reads the shares that were written, each once, with their lines.
    async fn changed(&self, notices: Vec<Notice>, doubtful: Vec<ShareId>) -> Result<Vec<Changed>, StoreError> {
        let mut seen = HashSet::new();
        let ids: Vec<ShareId> = notices.iter().map(|notice| notice.share).chain(doubtful).filter(|id| seen.insert(*id)).collect();
        let names: Vec<String> = ids.iter().map(|id| self.keys.of(format!("share:{id}"))).collect();
        let numbers: Vec<u64> = notices.iter().flat_map(|notice| notice.first..notice.first + notice.count).collect();
        let (values, records) = (self.values_of(&names).await?, self.records(&numbers).await?);
        let changed = ids.into_iter().zip(values).map(|(share, value)| {
            let records = records.iter().filter(|record| record.share == share).cloned().collect();
            // What cannot be read here, as of a later version, is not to be sent from here; the others are heard of all the same.
            let held = reply::held(&value).unwrap_or_else(|error| {
                tracing::warn!(share.id = %share, error = %Causes(&error), "A share in Redis cannot be read");
                None
            });
            Changed { share, held, records }
        });
        Ok(changed.collect())
    }

    async fn take_over_some(&self, me: ControllerNumber, patience: Duration, limit: usize) -> Result<Vec<Held>, StoreError> {
        let mut taken: Vec<Held> = Vec::new();
        while taken.len() < limit {
            let some = MAX_TAKEN.min(limit - taken.len());
            let args = [me.0.to_string(), patience.as_millis().to_string(), some.to_string(), self.write_id()];
            let values = self.together(Script::TakeOver, args).await?;
            let found = values.len() - 1;
            for value in &values[1..] {
                taken.extend(reply::held(value)?);
            }
            if found < some {
                break;
            }
        }
        Ok(taken)
    }
}

/// Reads a line of the news.
fn notice(entry: &Value) -> Option<Notice> {
    let (place, fields) = reply::entry_of(entry)?;
    let [_, by, _, share, _, numbers] = fields else { return None };
    let (first, count) = reply::text(numbers)?.split_once(' ')?;
    let share = reply::text(share)?.parse().ok()?;
    Some(Notice { place, by: reply::number(by)?, share, first: first.parse().ok()?, count: count.parse().ok()? })
}

impl SharedStore for RedisStore {
    fn join(&self, who: Introduction) -> BoxFuture<'_, Result<Joined, StoreError>> {
        let mut name = who.name;
        while name.len() > MAX_NAME_BYTES {
            name.pop();
        }
        // A name is one line of what is kept.
        name.retain(|letter| !letter.is_control());
        let joined = self.together(Script::Join, [reply::hex(&who.folder), name, MAX_NUMBER.to_string()]);
        async move {
            let values = joined.await?;
            let number = |at: usize| values.get(at).and_then(reply::number::<u16>).map(ControllerNumber);
            let steady = values.get(3).and_then(reply::number).map(Steady);
            Ok(Joined { number: number(1).ok_or_else(reply::strange)?, former: number(2), steady })
        }
        .boxed()
    }

    fn beat(&self, me: ControllerNumber, steady: Steady) -> BoxFuture<'_, Result<Beat, StoreError>> {
        let beaten = self.together(Script::Beat, [me.0.to_string(), steady.0.to_string(), KEPT_NUMBER.as_millis().to_string()]);
        async move {
            let values = beaten.await?;
            let peer = |told: &[Value]| {
                let (number, silence) =
                    (ControllerNumber(reply::number(&told[0])?), Duration::from_millis(reply::number::<u64>(&told[2])?));
                Some(Peer { number, name: reply::text(&told[1])?.to_owned(), silence })
            };
            let wall = values.get(1).and_then(reply::number).map(Timestamp).ok_or_else(reply::strange)?;
            Ok(Beat { peers: values[2..].chunks_exact(3).filter_map(peer).collect(), wall })
        }
        .boxed()
    }

    fn leave(&self, me: ControllerNumber) -> BoxFuture<'_, Result<(), StoreError>> {
        let left = self.together(Script::Leave, [me.0.to_string()]);
        async move { left.await.map(drop) }.boxed()
    }

    fn save_if(
        &self,
        me: ControllerNumber,
        save: Save,
        basis: Basis,
        line: Option<AuditEntry>,
    ) -> BoxFuture<'_, Result<Written, StoreError>> {
        let written = self.save_by(&save, &By::Controller(me, basis), line);
        async move { save::written(&written.await?, save.facts.len()) }.boxed()
    }

    fn take_over(&self, me: ControllerNumber, patience: Duration, limit: usize) -> BoxFuture<'_, Result<Vec<Held>, StoreError>> {
        self.take_over_some(me, patience, limit).boxed()
    }

    fn held(&self, id: ShareId) -> BoxFuture<'_, Result<Option<Held>, StoreError>> {
        self.held_of(id).boxed()
    }

    fn all_held(&self) -> BoxFuture<'_, Result<(Vec<Held>, Cursor), StoreError>> {
        async move {
            // Before the shares are read: what is written meanwhile comes as news, once too often at the worst.
            let cursor = self.newest().await?.cursor();
            Ok((self.living_held().await?, cursor))
        }
        .boxed()
    }

    fn news(&self, me: ControllerNumber, cursor: Cursor, patience: Duration) -> BoxFuture<'_, Result<News, StoreError>> {
        self.news_behind(me, cursor, patience).boxed()
    }

    fn as_store(self: std::sync::Arc<Self>) -> std::sync::Arc<dyn Store> {
        self
    }
}
