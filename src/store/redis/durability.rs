//! Whether a Redis can forget what it has acknowledged.

use std::fmt;

use redis::{Value, pipe};

use super::{FORMAT, RedisOptions, RedisStore, reply};
use crate::share::Timestamp;
use crate::store::StoreError;

/// What a Redis is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisLook {
    /// Its version, as it says.
    pub version: String,
    /// How it could forget what it has acknowledged.
    pub risks: Vec<Risk>,
    /// How many replicas are connected.
    pub replicas: u64,
    /// What its clock shows.
    pub clock: Timestamp,
    /// The version of the layout that is in it under our prefix; `None` where nothing of ours is.
    pub format: Option<u64>,
}

impl RedisLook {
    /// Says that what is in it is of a later version, where it is.
    pub fn later_format(&self) -> Option<String> {
        let format = self.format.filter(|format| *format > FORMAT)?;
        Some(format!(
            "what is there was written by a later version of portcullis (its layout is {format}, this version knows {FORMAT}); use that version"
        ))
    }
}

/// One way in which a Redis can forget what it has acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Risk {
    /// It keeps no log on disk.
    NoLog,
    /// It does not flush the log before it answers: `everysec` or `no`.
    LateFlush(String),
    /// It drops keys when its memory is full, by this policy.
    Evicts(String),
    /// It does not say how it is set.
    Unknown,
    /// Another machine may take its place that has not all of it, since no write waits for replicas.
    NoReplicas,
}

impl fmt::Display for Risk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLog => f.write_str("it keeps no log on disk (set appendonly yes)"),
            Self::LateFlush(now) => write!(f, "it answers before its disk has it (appendfsync is {now}; set appendfsync always)"),
            Self::Evicts(policy) => {
                write!(f, "it drops keys when its memory is full (maxmemory-policy is {policy}; set maxmemory-policy noeviction)")
            }
            Self::Unknown => f.write_str("it does not say how it is set (allow this account CONFIG GET)"),
            Self::NoReplicas => {
                f.write_str("another machine may take its place without the latest writes (set REDIS_REPLICAS to 1 or more)")
            }
        }
    }
}

/// Looks at a Redis without writing anything.
///
/// # Errors
/// [`StoreError::Unavailable`] where it cannot be reached.
pub async fn look_at(options: &RedisOptions) -> Result<RedisLook, StoreError> {
    RedisStore::connect(options)?.look(options).await
}

impl RedisStore {
    /// Looks at the Redis that this is.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] where it cannot be reached.
    pub async fn look(&self, options: &RedisOptions) -> Result<RedisLook, StoreError> {
        let mut pipe = pipe();
        pipe.cmd("HGET").arg(self.keys.of("meta")).arg("format");
        let format = self.ask(&pipe).await?.first().and_then(reply::number);
        let info = self.one_of(redis::cmd("INFO").arg("server").take()).await?;
        let replication = self.one_of(redis::cmd("INFO").arg("replication").take()).await?;
        let time = reply::list(self.one_of(redis::cmd("TIME")).await?);
        let number = |at: usize| time.get(at).and_then(reply::number::<i64>).ok_or_else(reply::strange);
        let clock = Timestamp(number(0)? * 1000 + number(1)? / 1000);
        let mut risks = self.risks().await?;
        if options.address.fails_over() && options.replicas == 0 {
            risks.push(Risk::NoReplicas);
        }
        let version = line_of(&info, "valkey_version").or_else(|| line_of(&info, "redis_version")).unwrap_or_else(|| "?".to_owned());
        let replicas = line_of(&replication, "connected_slaves").and_then(|count| count.parse().ok()).unwrap_or(0);
        Ok(RedisLook { version, risks, replicas, clock, format })
    }

    async fn risks(&self) -> Result<Vec<Risk>, StoreError> {
        let setting = async |name: &str| -> Result<Option<String>, StoreError> {
            let mut get = redis::cmd("CONFIG");
            get.arg("GET").arg(name);
            // Services that rent Redis out, and careful lists of rights, refuse it.
            Ok(match self.one_of(get).await? {
                Value::Map(pairs) => pairs.first().and_then(|(_, value)| reply::text(value)).map(str::to_owned),
                Value::Array(pair) => pair.get(1).and_then(reply::text).map(str::to_owned),
                _ => None,
            })
        };
        let names = ["appendonly", "appendfsync", "maxmemory", "maxmemory-policy"];
        let (log, flush) = (setting(names[0]).await?, setting(names[1]).await?);
        let (memory, policy) = (setting(names[2]).await?, setting(names[3]).await?);
        let (Some(log), Some(flush), Some(memory), Some(policy)) = (log, flush, memory, policy) else { return Ok(vec![Risk::Unknown]) };
        let mut risks = Vec::new();
        if log != "yes" {
            risks.push(Risk::NoLog);
        } else if flush != "always" {
            risks.push(Risk::LateFlush(flush));
        }
        if memory != "0" && policy != "noeviction" {
            risks.push(Risk::Evicts(policy));
        }
        Ok(risks)
    }

    /// Asks one thing of the node that has our keys; its refusal is an answer.
    async fn one_of(&self, cmd: redis::Cmd) -> Result<Value, StoreError> {
        self.reads.ask_node(cmd, self.keys.slot()).await.map_err(StoreError::from)
    }
}

/// Returns the value of a line `NAME:VALUE` in what INFO says.
fn line_of(info: &Value, name: &str) -> Option<String> {
    let lines = match info {
        Value::VerbatimString { text, .. } => text.as_str(),
        info => reply::text(info)?,
    };
    let value = lines.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(value.trim().to_owned())
}
