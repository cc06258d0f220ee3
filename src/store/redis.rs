//! The store that several controllers share: a Redis or Valkey, alone, behind Sentinels or as a Cluster.
//!
//! Each write is one Lua script that checks and writes all of it in one step; no lock with a time limit decides anything. One task
//! writes (`writer.rs`), a second connection reads, a third waits for news. With `appendonly yes` and `appendfsync always` an answered
//! write has survived the power going.
//!
//! | Key, behind `{PREFIX}:` | What it holds |
//! | --- | --- |
//! | `share:ID` | version, watcher, fence, last write, its first line, state, links; then the share |
//! | `link:JTI` | the ledger: uses at most, uses spent, dead, share |
//! | `events`, `kind:TYPE`, `lines:ID`, `kinds`, `times` | the event log, a stream whose ids are the numbers; where lines of a type, a share, a time stand |
//! | `by_age`, `cards`, `watched`, `outcome:NAME`, `by_end`, `forgetting` | what shares are found by |
//! | `audit`, `marks` | the audit log, where it begins and ends |
//! | `tally:SERIES:DAY`, `days:SERIES` | statistics |
//! | `controllers`, `heard`, `folders`, `news` | who shares it, and what they wrote |
//! | `sessions`, `tokens`, `plans`, `digests`, `log_marks:FOLDER` and what orders them | what else is kept |
//! | `transfer_key` | the key that all of them derive transfers' secrets from, wrapped once for each secret that signs links |
//! | `meta` | single numbers, the version of this layout among them; `aside` where none of it counts, since it is moved |
//!
//! * `address.rs`: what `REDIS_URL` says. `link.rs`: a connection that comes back. `scripts.rs`, `lua/`: the scripts. `reply.rs`: answers.
//! * `durability.rs`: whether it can forget what it acknowledged. `transfer_key.rs`: the key that all who share it have.
//! * `save.rs`, `queries.rs`, `access.rs`, `audit.rs`, `kept.rs`, `retention.rs`, `shared.rs`: one topic each. `migrate.rs`: all of it, in and out.

mod access;
mod address;
mod audit;
mod durability;
mod kept;
mod link;
mod migrate;
mod queries;
mod reply;
mod retention;
mod save;
mod scripts;
mod shared;
mod transfer_key;
mod writer;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::{Cmd, Pipeline, Value, cmd, pipe};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

pub use self::address::RedisAddress;
pub use self::durability::{RedisLook, Risk, look_at};
use self::link::{COMMAND_TIMEOUT, Link};
use self::save::By;
use self::scripts::{Args, Keys, Script, Scripts};
use self::writer::{Done, Doubts, Job, Line, QUEUE, Writer};
use super::audit::{AuditEntry, AuditLine, AuditVerdict};
use super::{
    ApiToken, ApiTokenId, Day, EventQuery, Forgotten, LogMark, MAX_DIGESTS, MAX_LOGS, Plan, Record, Save, Session, ShareQuery, Size, Stats,
    Store, StoreError,
};
use crate::share::{FileIdentity, Share, ShareId, Steady, Timestamp};
use crate::token::random;

/// The version of the layout of keys that this program writes.
const FORMAT: u64 = 1;
/// How many bodies are read in one go: about a hundred kilobytes.
const CHUNK: usize = 128;
/// The longest prefix of keys, in bytes.
const MAX_PREFIX: usize = 64;

/// Which Redis, and how it is used.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// Where it is.
    pub address: RedisAddress,
    /// What all keys begin with.
    pub prefix: String,
    /// How many replicas must have a write before it is answered.
    pub replicas: u64,
    /// Names the state folder of whoever opens it: how far it followed logs is its own.
    pub folder: [u8; 16],
}

impl RedisOptions {
    /// Returns whether a text can be a prefix: of letters, digits, `-`, `_`, `.` and `:`, at most 64 bytes.
    pub fn is_prefix(text: &str) -> bool {
        (1..=MAX_PREFIX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
    }
}

/// Keeps everything in a Redis.
pub struct RedisStore {
    jobs: mpsc::Sender<Job>,
    reads: Link,
    blocking: Link,
    scripts: Arc<Scripts>,
    keys: Keys,
    doubts: Arc<Mutex<Doubts>>,
    /// Where marks of this controller's logs are kept.
    marks: String,
    /// What this process's writes are named by, and how many there were.
    seed: u64,
    writes: AtomicU64,
}

impl RedisStore {
    /// Connects to a Redis, and begins in it where nothing of ours is there. Must be called within a runtime.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] where what is there is of a later version; [`StoreError::Unavailable`] where it cannot be reached.
    pub async fn open(options: &RedisOptions) -> Result<Self, StoreError> {
        let store = Self::connect(options)?;
        let mut pipe = pipe();
        pipe.hset_nx(store.keys.of("meta"), "format", FORMAT).hget(store.keys.of("meta"), "format");
        pipe.hget(store.keys.of("meta"), "aside");
        let answers = store.ask(&pipe).await?;
        let format: u64 = answers.get(1).and_then(reply::number).ok_or_else(reply::strange)?;
        if format > FORMAT {
            let reason = format!(
                "it was written by a later version of portcullis (its layout is {format}, this version knows {FORMAT}); use that version"
            );
            return Err(StoreError::Unusable { reason });
        }
        store.refuse_aside(answers.get(2).and_then(reply::text).unwrap_or_default())?;
        Ok(store)
    }

    fn connect(options: &RedisOptions) -> Result<Self, StoreError> {
        let server = Arc::new(tokio::sync::Mutex::new(options.address.server().map_err(StoreError::unavailable)?));
        let keys = Keys::new(&options.prefix);
        let scripts = Arc::new(Scripts::new(keys.clone()));
        let connects_within = options.address.connects_within();
        let link = |patience| Link::new(server.clone(), scripts.clone(), connects_within, patience);
        let (jobs, queue) = mpsc::channel(QUEUE);
        let doubts = Arc::default();
        let writer = Writer {
            link: link(COMMAND_TIMEOUT),
            scripts: scripts.clone(),
            keys: keys.clone(),
            replicas: options.replicas,
            doubts: Arc::clone(&doubts),
            head: Default::default(),
        };
        // It ends when the store is dropped and what was sent is written.
        TaskTracker::new().spawn(writer.run(queue));
        let (reads, blocking) = (link(COMMAND_TIMEOUT), link(shared::MAX_PATIENCE + COMMAND_TIMEOUT));
        let (seed, marks) = (u64::from_le_bytes(random::bytes()), format!("log_marks:{}", reply::hex(&options.folder)));
        Ok(Self { jobs, reads, blocking, scripts, keys, doubts, marks, seed, writes: AtomicU64::new(0) })
    }

    /// Returns a name for a write that no other has.
    fn write_id(&self) -> String {
        format!("{:016x}{:x}", self.seed, self.writes.fetch_add(1, Ordering::Relaxed))
    }

    /// Queues a write at once, so that writes happen in the order of the calls; only where the queue is full the order is
    /// that in which the futures are first polled. What was queued is written even if nobody waits for the answer.
    fn write(&self, script: Script, args: Args, line: Line, share: Option<ShareId>) -> BoxFuture<'_, Result<Done, StoreError>> {
        let (answer, waiting) = oneshot::channel();
        let queued = self.jobs.try_send(Job { script, args, line, share, since: Instant::now(), answer });
        let answered = async move {
            match queued {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(job)) => self.jobs.send(job).await.map_err(StoreError::unavailable)?,
                Err(closed) => return Err(StoreError::unavailable(closed)),
            }
            waiting.await.map_err(StoreError::unavailable)?
        };
        async move {
            match timeout(writer::PATIENCE, answered).await {
                Ok(answer) => answer,
                Err(late) => {
                    if let Some(share) = share {
                        self.doubts.lock().expect("nobody panics while holding the doubts").add(share);
                    }
                    Err(StoreError::unavailable(late))
                }
            }
        }
        .boxed()
    }

    /// Queues a write that has no line and is of no share.
    fn put<const N: usize>(&self, script: Script, args: [Vec<u8>; N]) -> BoxFuture<'_, Result<Done, StoreError>> {
        self.write(script, args.into(), Line::Unknown, None)
    }

    fn save_by(&self, save: &Save, by: &By, line: Option<AuditEntry>) -> BoxFuture<'_, Result<Done, StoreError>> {
        let line = line.map_or(Line::None, Line::Entry);
        self.write(Script::Save, save::args(save, by, self.write_id()), line, Some(save.share.id))
    }

    /// Asks several things in one go; an error of one is one of all.
    async fn ask(&self, pipe: &Pipeline) -> Result<Vec<Value>, StoreError> {
        let (_, values) = self.reads.ask(pipe).await?;
        match values.iter().find(|value| matches!(value, Value::ServerError(_))) {
            Some(Value::ServerError(error)) => Err(StoreError::unavailable(error.to_string())),
            _ => Ok(values),
        }
    }

    /// Asks one thing.
    async fn ask_one(&self, cmd: Cmd) -> Result<Value, StoreError> {
        let mut pipe = pipe();
        pipe.add_command(cmd);
        self.ask(&pipe).await?.pop().ok_or_else(reply::strange)
    }

    /// Asks a script that writes nothing.
    async fn ask_script(&self, script: Script, args: &Args) -> Result<Vec<Value>, StoreError> {
        let mut pipe = pipe();
        pipe.add_command(self.scripts.call(script, args));
        let (_, mut values) = self.reads.ask(&pipe).await?;
        match values.pop() {
            Some(Value::ServerError(error)) if error.kind() == Some(redis::ServerErrorKind::NoScript) => {
                Ok(reply::list(self.ask_one(self.scripts.whole(script, args)).await?))
            }
            Some(Value::ServerError(error)) => Err(StoreError::unavailable(error.to_string())),
            Some(value) => Ok(reply::list(value)),
            None => Err(reply::strange()),
        }
    }

    /// Reads the values of some keys, those that there are not among them.
    async fn values_of(&self, names: &[String]) -> Result<Vec<Value>, StoreError> {
        let mut values = Vec::with_capacity(names.len());
        for names in names.chunks(CHUNK) {
            values.extend(reply::list(self.ask_one(cmd("MGET").arg(names).take()).await?));
        }
        Ok(values)
    }

    async fn size(&self) -> Result<Size, StoreError> {
        let mut pipe = pipe();
        pipe.cmd("XLEN").arg(self.keys.of("events")).zcard(self.keys.of("by_end")).zcard(self.keys.of("watched"));
        let numbers: Vec<u64> = self.ask(&pipe).await?.iter().filter_map(reply::number).collect();
        match numbers.as_slice() {
            [events, closed, living] => Ok(Size { bytes: 0, events: *events, shares: closed + living }),
            _ => Err(reply::strange()),
        }
    }

    async fn meta(&self, name: &str) -> Result<Value, StoreError> {
        self.ask_one(cmd("HGET").arg(self.keys.of("meta")).arg(name).take()).await
    }
}

impl Store for RedisStore {
    fn save(&self, save: Save) -> BoxFuture<'_, Result<Vec<u64>, StoreError>> {
        let written = self.save_by(&save, &By::Anybody, None);
        async move { Ok(save::written(&written.await?, save.facts.len())?.numbers) }.boxed()
    }

    fn share(&self, id: ShareId) -> BoxFuture<'_, Result<Option<Share>, StoreError>> {
        async move { Ok(self.held_of(id).await?.map(|held| Arc::unwrap_or_clone(held.share))) }.boxed()
    }

    fn living(&self) -> BoxFuture<'_, Result<Vec<Share>, StoreError>> {
        async move { Ok(self.living_held().await?.into_iter().map(|held| Arc::unwrap_or_clone(held.share)).collect()) }.boxed()
    }

    fn shares(&self, query: ShareQuery) -> BoxFuture<'_, Result<Vec<Share>, StoreError>> {
        self.page_of_shares(query).boxed()
    }

    fn events(&self, query: EventQuery) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        self.page_of_events(query).boxed()
    }

    fn latest_seq(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        async move { Ok(reply::number(&self.meta("seq").await?).unwrap_or(0)) }.boxed()
    }

    fn latest_steady(&self) -> BoxFuture<'_, Result<Option<Steady>, StoreError>> {
        async move { Ok(reply::number(&self.meta("latest_steady").await?).map(Steady)) }.boxed()
    }

    fn put_session(&self, session: Session) -> BoxFuture<'_, Result<(), StoreError>> {
        self.put_session(&session)
    }

    fn session(&self, digest: [u8; 32], now: Steady) -> BoxFuture<'_, Result<Option<Session>, StoreError>> {
        self.session_of(digest, now).boxed()
    }

    fn end_session(&self, digest: [u8; 32], now: Steady) -> BoxFuture<'_, Result<(), StoreError>> {
        let ended = self.put(Script::EndSession, [reply::hex(&digest).into_bytes(), now.0.to_string().into_bytes()]);
        async move { ended.await.map(drop) }.boxed()
    }

    fn sessions(&self, now: Steady) -> BoxFuture<'_, Result<Vec<Session>, StoreError>> {
        self.all_sessions(now).boxed()
    }

    fn put_api_token(&self, token: ApiToken) -> BoxFuture<'_, Result<(), StoreError>> {
        self.put_api_token(&token)
    }

    fn api_tokens(&self) -> BoxFuture<'_, Result<Vec<ApiToken>, StoreError>> {
        self.all_api_tokens().boxed()
    }

    fn remove_api_token(&self, id: ApiTokenId) -> BoxFuture<'_, Result<Option<ApiToken>, StoreError>> {
        self.remove_api_token(id)
    }

    fn api_token_used(&self, id: ApiTokenId, at: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        let used = self.put(Script::ApiTokenUsed, [id.as_str().as_bytes().to_vec(), at.0.to_string().into_bytes()]);
        async move { used.await.map(drop) }.boxed()
    }

    fn append_audit(&self, entry: AuditEntry) -> BoxFuture<'_, Result<AuditLine, StoreError>> {
        let written = self.write(Script::Append, Args::new(), Line::Entry(entry), None);
        async move { written.await?.line.ok_or_else(reply::strange) }.boxed()
    }

    fn save_with_line(&self, save: Save, line: AuditEntry) -> BoxFuture<'_, Result<Vec<u64>, StoreError>> {
        let written = self.save_by(&save, &By::Anybody, Some(line));
        async move { Ok(save::written(&written.await?, save.facts.len())?.numbers) }.boxed()
    }

    fn audit_lines(&self, before: Option<u64>, limit: usize) -> BoxFuture<'_, Result<Vec<AuditLine>, StoreError>> {
        self.page_of_audit(before, limit).boxed()
    }

    fn verify_audit(&self) -> BoxFuture<'_, Result<AuditVerdict, StoreError>> {
        self.verify().boxed()
    }

    fn put_plan(&self, plan: Plan, forget_before: Steady) -> BoxFuture<'_, Result<Plan, StoreError>> {
        self.put_plan(&plan, forget_before)
    }

    fn plan_is_done(&self, key: String) -> BoxFuture<'_, Result<(), StoreError>> {
        let ended = self.put(Script::EndPlan, [key.into_bytes(), b"1".to_vec()]);
        async move { ended.await.map(drop) }.boxed()
    }

    fn drop_plan(&self, key: String) -> BoxFuture<'_, Result<(), StoreError>> {
        let ended = self.put(Script::EndPlan, [key.into_bytes(), b"0".to_vec()]);
        async move { ended.await.map(drop) }.boxed()
    }

    fn stats(&self, from: Day, to: Day) -> BoxFuture<'_, Result<Stats, StoreError>> {
        self.stats_of(from, to).boxed()
    }

    fn forget(&self, before: Timestamp) -> BoxFuture<'_, Result<Forgotten, StoreError>> {
        self.forget_before(before).boxed()
    }

    fn try_write(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        let tried = self.put(Script::TryWrite, []);
        async move { tried.await.map(drop) }.boxed()
    }

    fn size(&self) -> BoxFuture<'_, Result<Size, StoreError>> {
        self.size().boxed()
    }

    fn put_digest(&self, identity: FileIdentity, sha256: [u8; 32]) -> BoxFuture<'_, Result<(), StoreError>> {
        let (file, value) = kept::of_digest(&identity, &sha256);
        self.keep("digests", file, value, MAX_DIGESTS)
    }

    fn digest(&self, identity: FileIdentity) -> BoxFuture<'_, Result<Option<[u8; 32]>, StoreError>> {
        self.digest_of(identity).boxed()
    }

    fn put_log_mark(&self, log: String, mark: LogMark) -> BoxFuture<'_, Result<(), StoreError>> {
        self.keep(&self.marks, log, serde_json::to_string(&mark).expect("a mark has a JSON form"), MAX_LOGS)
    }

    fn log_mark(&self, log: String) -> BoxFuture<'_, Result<Option<LogMark>, StoreError>> {
        self.log_mark_of(log).boxed()
    }
}

#[cfg(test)]
mod tests;
